"""Rehearsal: whether a store can be opened with another environment, and what would become of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from goblins._errors import MigrationError
from goblins._goblins import Ref, RocksStore, Store, StorePart, _Rehearsal
from goblins._migrations import Migrations
from goblins._persistence import MAIN_PART, PersistenceEnv, store_and_part
from goblins._progress import Progress, teller
from goblins._report import Problem, Report, count, table


@dataclass(kw_only=True)
class Label:
    """What would become of the actors with one label.

    Attributes:
        fine: how many come up with the new environment, can be stored again, and pass the check.
        failing: how many do not.
        lost: fields that are stored and are not in the new portraits, with the number of actors.
    """

    fine: int = 0
    failing: int = 0
    lost: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(kw_only=True, repr=False)
class Rehearsal(Report):
    """What ``goblins.rehearse`` found.

    Attributes:
        labels: what would become of the actors, by the label that they are stored under.
        unknown: labels that the environment does not have: how many actors, and the slot of one of them.
        problems: each actor that fails, with its slot, the field and the reason: at most 100 of a label in a
            part of 4,096 slots; ``labels`` has the whole number.
        roots: what would become of the roots: "fine", "upgraded", "none" if nothing is stored, or "failing".
        roots_version: the version of the roots that is stored.
    """

    labels: dict[str, Label] = field(default_factory=dict[str, Label])
    unknown: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    roots: str = "none"
    roots_version: Any = None

    @property
    def ok(self) -> bool:
        """Whether the store could be opened, and each actor used. Fields that would be lost are no failure:
        look at ``lost``."""
        return not self.problems and not self.unknown

    @property
    def fine(self) -> int:
        """How many actors are fine."""
        return sum(label.fine for label in self.labels.values())

    @property
    def failing(self) -> int:
        """How many actors fail."""
        return sum(label.failing for label in self.labels.values())

    @property
    def lost(self) -> dict[str, list[str]]:
        """Fields that would be lost, by label."""
        return {name: sorted(label.lost) for name, label in self.labels.items() if label.lost}

    def _summary(self) -> str:
        text = f"{count(self.fine, 'actor')} fine, {self.failing:,} failing"
        if self.unknown:
            text += f", {sum(number for number, _ in self.unknown.values()):,} with unknown labels"
        return f"{text}, roots {self.roots}, {self.seconds:.1f} s"

    def _table(self) -> list[str]:
        rows = [(name, label.fine, label.failing) for name, label in sorted(self.labels.items())]
        lines = table(("label", "fine", "failing"), rows)
        for name, (number, slot) in sorted(self.unknown.items()):
            lines.append(f"unknown label: {name}, {count(number, 'actor')} (slot {slot} for one)")
        for name, label in sorted(self.labels.items()):
            for lost, number in sorted(label.lost.items()):
                lines.append(f"would be lost: field {lost!r} of {name}, in {count(number, 'actor')}")
        return lines


def rehearse(
    env: PersistenceEnv,
    store: Store | StorePart | str | bytes | PathLike[str] | PathLike[bytes],
    *,
    check: Callable[[str, Ref], object] | None = None,
    check_roots: Callable[..., object] | None = None,
    version: Any = 0,
    upgrade: Any = None,
    progress: Progress = None,
) -> Rehearsal:
    """Tries out whether all that stands in a store can be used with an environment, and changes nothing.

    Each stored actor is made with the new environment, from a view of the store as it is now, and its new
    portrait is taken; then all of that is undone. Nothing is written, nothing that an actor sends goes out.
    The store may be in
    use: its vats go on.

    Args:
        env: the environment to come.
        store: a store (its part "main"), ``store.vat(name)``, or the folder of a store that nobody has open:
            that is read only.
        check: called with the label and the Ref of each actor, in a turn that is undone: it may call the
            actor, and raises if something is wrong.
        check_roots: called with the roots, as they are after their upgrade, in a turn that is undone.
        version, upgrade: of the roots, as for ``spawn_persistent_vat``.
        progress: called with the number of slots done and the number of all; True for a bar on the terminal.

    Returns:
        What was found, label by label: see ``Rehearsal``.

    Raises:
        StoreError: the store failed; StoreCorruptError names the record that is damaged.
        StoreLockedError: the folder is in use by another process, or another object of this one.
        DeadlockError: this is a turn.
    """
    if not isinstance(env, PersistenceEnv):
        raise TypeError(f"env is a PersistenceEnv, not {env!r}")
    if upgrade is not None and not callable(upgrade) and not isinstance(upgrade, Migrations):
        raise TypeError(f"upgrade is a Migrations or a function, not {upgrade!r}")
    if isinstance(store, str | bytes | PathLike):
        with RocksStore._open_read_only(store) as folder:
            return _rehearse(env, folder, MAIN_PART, check, check_roots, (version, upgrade), progress)
    opened, part = store_and_part(store)
    return _rehearse(env, opened, part, check, check_roots, (version, upgrade), progress)


def _rehearse(
    env: PersistenceEnv,
    store: Store,
    part: str,
    check: Callable[[str, Ref], object] | None,
    check_roots: Callable[..., object] | None,
    roots: tuple[Any, Any],
    progress: Progress,
) -> Rehearsal:
    tell = teller(progress, f"rehearsing {part}")
    begin = time.perf_counter()
    report = Rehearsal()
    rehearsal = _Rehearsal(env, store, part)
    try:
        _walk(rehearsal, report, check, tell)
        _roots(rehearsal, report, roots, check_roots)
    finally:
        rehearsal.close()
    report.seconds = time.perf_counter() - begin
    return report


def _walk(
    rehearsal: _Rehearsal,
    report: Rehearsal,
    check: Callable[[str, Ref], object] | None,
    tell: Callable[[int, int], object],
) -> None:
    end, window = rehearsal.extent()
    tell(0, end)
    done = last = 0
    # Where no actors are, nothing is looked at.
    while (first := rehearsal.next_stored(last)) is not None:
        last = first + window
        tallies, failures, unknown = rehearsal.walk(first, last, check)
        for name, tally in tallies.items():
            label = report.labels.setdefault(name, Label())
            label.fine += tally["fine"]
            label.failing += tally["failing"]
            for lost, number in tally["lost"].items():
                label.lost[lost] = label.lost.get(lost, 0) + number
        for name, slot, error in failures:
            report.problems.append(Problem.of(name, slot, error))
        for name, (number, slot) in unknown.items():
            known, one = report.unknown.get(name, (0, slot))
            report.unknown[name] = (known + number, one)
        done = min(last, end)
        tell(done, end)
    if done < end:
        tell(end, end)


def _roots(
    rehearsal: _Rehearsal,
    report: Rehearsal,
    roots: tuple[Any, Any],
    check_roots: Callable[..., object] | None,
) -> None:
    try:
        report.roots_version = rehearsal.version()
        if not rehearsal.stored:
            return
        upgraded = rehearsal.roots(*roots, check_roots)
    except Exception as error:
        report.roots = "failing"
        what = "their version" if isinstance(error, MigrationError) else ""
        report.problems.append(Problem("the roots", None, str(error) or repr(error), what, 1, error))
    else:
        report.roots = "upgraded" if upgraded else "fine"
