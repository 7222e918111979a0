"""Steps from the data of older versions to that of today (MIG-01 to MIG-08)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from goblins._errors import MigrationError

F = TypeVar("F", bound=Callable[..., Any])


class Migrations:
    """Steps of an upgrade, each to one version from the one before.

    ::

        migrations = Migrations()

        @migrations.to(2)
        def _(owner, balance):
            return {"owner": owner, "cents": balance * 100}

    Given as ``upgrade=`` of an actor, a step gets the stored fields as keywords and returns a dict of the new
    ones. Given as ``upgrade=`` of ``spawn_persistent_vat``, it gets the roots and returns the new root, or a
    tuple of them. Steps run in the order of their numbers, in a turn of the vat, and may spawn actors and
    call them.
    """

    def __init__(self) -> None:
        self._steps: dict[int, Callable[..., Any]] = {}

    def to(self, version: int) -> Callable[[F], F]:
        """A decorator for the step that makes data of this version of the one before.

        Raises:
            MigrationError: there is one already.
            TypeError: the version is not an int.
        """
        if type(version) is not int:
            raise TypeError(f"a step leads to a version that is an int, not {version!r}")
        if version in self._steps:
            raise MigrationError(f"there are two steps to version {version}")

        def add(step: F) -> F:
            self._steps[version] = step
            return step

        return add

    def __repr__(self) -> str:
        return f"<Migrations to {', '.join(map(str, sorted(self._steps))) or 'nothing'}>"

    def _check(self, whose: str, version: Any) -> None:
        """Raises MigrationError unless the steps are one chain that ends at ``version``."""
        numbers = sorted(self._steps)
        if not numbers:
            raise MigrationError(f"the migrations of {whose} have no step")
        for number, following in pairwise(numbers):
            if following != number + 1:
                raise MigrationError(f"the migrations of {whose} have no step to version {number + 1}")
        if numbers[-1] != version or type(version) is not int:
            raise MigrationError(
                f"the migrations of {whose} end at version {numbers[-1]}, and its version is {version!r}"
            )

    def _begins(self) -> list[int]:
        """The versions from which there is a way to the last one."""
        return [number - 1 for number in self._steps]

    def _run(
        self, stored: Any, step_with: Callable[[Callable[..., Any], Any], Any], data: Any, place: str
    ) -> Any:
        if type(stored) is not int:
            raise MigrationError(
                f"{place} has version {stored!r}, and migrations need versions that are ints"
            )
        last = max(self._steps, default=stored)
        if stored > last:
            raise MigrationError(f"{place} has version {stored}, newer than {last}, the last that is known")
        for number in range(stored + 1, last + 1):
            step = self._steps.get(number)
            if step is None:
                raise MigrationError(
                    f"{place} has version {stored}, and there is no step to version {number}"
                )
            data = step_with(step, data)
        return data


def upgrade_fields(
    upgrade: Any, stored: Any, fields: dict[str, Any], version: Any, place: str
) -> dict[str, Any]:
    """The fields of today, made of stored ones."""

    def check(made: Any, by: Any) -> dict[str, Any]:
        if not isinstance(made, dict) or not all(isinstance(name, str) for name in made):
            raise MigrationError(
                f"the upgrade of {place} by {by!r} gave {made!r}: it must return a dict of the fields"
            )
        return made

    if isinstance(upgrade, Migrations):
        made = upgrade._run(stored, lambda step, data: check(step(**data), step), fields, place)
        return check(made, upgrade)
    return check(upgrade(stored, fields), upgrade)


def upgrade_roots(upgrade: Any, stored: Any, roots: tuple[Any, ...], version: Any) -> Any:
    """The roots of today, made of stored ones."""
    if not isinstance(upgrade, Migrations):
        return upgrade(stored, *roots)

    def step_with(step: Callable[..., Any], data: Any) -> Any:
        return step(*(data if isinstance(data, tuple | list) else (data,)))

    return upgrade._run(stored, step_with, roots, "the store")


class Versioned:
    """A portrait with a version: see ``versioned``."""

    def __init__(self, version: Any, args: tuple[Any, ...]) -> None:
        self.version = version
        self.args = args


def versioned(version: Any, *args: Any) -> Versioned:
    """What a function given as ``portrait=`` returns, to say of which version the portrait is (POR-02).

    Args:
        version: any plain value. If the actor has a version too, they must be equal (POR-13).
        args: the arguments, in the order of the constructor's parameters; or one dict of fields by name.
    """
    return Versioned(version, args)


def read_portrait(given: Any, names: list[str], version: Any, place: str) -> tuple[Any, dict[str, Any]]:
    """Version and fields of what a function given as ``portrait=`` returned."""
    if isinstance(given, Versioned):
        if version not in (0, given.version):
            raise MigrationError(
                f"the portrait of {place} has version {given.version!r}, its constructor has {version!r}"
            )
        version = given.version
        given = given.args[0] if len(given.args) == 1 and isinstance(given.args[0], dict) else given.args
    if isinstance(given, dict) and all(isinstance(name, str) for name in given):
        return version, given
    if isinstance(given, tuple | list):
        if len(given) > len(names):
            raise MigrationError(f"the portrait of {place} has {len(given)} values for the fields {names}")
        return version, dict(zip(names, given, strict=False))
    raise MigrationError(
        f"the portrait= of {place} must return a dict, a tuple or versioned(...), not {given!r}"
    )
