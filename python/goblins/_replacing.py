"""Hot replacement: the actors of a running vat get new code behind the same Refs (HOT-01 to HOT-13)."""

from __future__ import annotations

import gc
import inspect
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from goblins import _goblins
from goblins._class import Actor
from goblins._errors import BehaviorError, MigrationError, PersistenceError, UnknownLabelError
from goblins._goblins import Constructor, Ref, Vat
from goblins._persistence import PersistenceEnv, without_parameters
from goblins._report import Problem, Report, count, table


@dataclass(kw_only=True, repr=False)
class Replacement(Report):
    """What ``vat.replace_behavior()`` did, or would do. Each actor is counted once.

    Actors that are not in memory are not counted, if their label is known: they get the new code when they
    are first used.

    Attributes:
        replaced: how many actors got new code, by label.
        left: how many were left alone, since nothing has changed for them, by label.
        unknown: labels that stored actors have and the new environment does not, with their number. They keep
            their code, and their label.
        missing: labels whose constructor was not found again, so that it stays as it is.
        dry_run: whether all was taken back.
    """

    replaced: dict[str, int] = field(default_factory=dict[str, int])
    left: dict[str, int] = field(default_factory=dict[str, int])
    unknown: dict[str, int] = field(default_factory=dict[str, int])
    missing: list[str] = field(default_factory=list[str])
    dry_run: bool = False

    def _summary(self) -> str:
        done = "would be replaced" if self.dry_run else "replaced"
        text = f"{count(sum(self.replaced.values()), 'actor')} {done}"
        text += f", {sum(self.left.values()):,} left alone"
        if self.unknown:
            text += f", {count(sum(self.unknown.values()), 'actor')} with unknown labels"
        return text + (f", {count(len(self.problems), 'problem')}" if self.problems else "")

    def _table(self) -> list[str]:
        labels = sorted({*self.replaced, *self.left, *self.unknown})
        rows = [
            (label, self.replaced.get(label, 0), self.left.get(label, 0), self.unknown.get(label, 0))
            for label in labels
        ]
        lines = table(("label", "replaced", "left alone", "unknown"), rows)
        return lines + [f"not found again: {label}" for label in self.missing]


def replace_behavior(
    vat: Vat,
    env: PersistenceEnv | None,
    only: Iterable[Any] | Any = None,
    dry_run: bool = False,
    prepare: Callable[[], object] = lambda: None,
    put_back: Callable[[], object] = lambda: None,
) -> Replacement:
    """See ``Vat.replace_behavior``. ``prepare`` runs at the beginning of the same turn, and ``put_back`` in
    that turn if something fails in it.
    """
    if env is not None and not isinstance(env, PersistenceEnv):
        raise TypeError(f"env is a PersistenceEnv, or None, not {env!r}")
    if env is not None and vat._env is None:
        raise PersistenceError(
            f"vat {vat.name} has no store, and so no environment: leave env= away, and the constructors of "
            "its actors are looked up again"
        )
    begin = time.perf_counter()
    run = vat._try_out if dry_run else vat.run

    def attempt() -> Replacement:
        try:
            prepare()
            return _replace(vat, env, only, dry_run)
        except BaseException:
            put_back()
            raise

    report = run(attempt)
    report.seconds = time.perf_counter() - begin
    return report


def _replace(
    vat: Vat,
    env: PersistenceEnv | None,
    only: Iterable[Any] | Any,
    dry_run: bool,
) -> Replacement:
    """What happens in the turn."""
    if gc.get_freeze_count():
        # The collector does not show what was set aside, and there may be actors in it.
        gc.unfreeze()
    others = [one for one in gc.get_objects() if type(one) is Ref]
    present = vat._env
    if present is None:
        present = _env_of_memory(_goblins._constructors(others))
    report = Replacement(dry_run=dry_run)
    if env is None:
        env, report.missing = _found_again(present)
    if only is not None:
        env = _chosen(present, env, only)
    kept = []
    for label, reason, number, slot in _goblins._find_unfit(env):
        if reason is None:
            kept.append(label)
            report.unknown[label] = number
        elif dry_run:
            report.problems.append(Problem(label, slot, reason, count=number))
        else:
            raise MigrationError(
                f"{count(number, 'actor')} of vat {vat.name} with the label {label!r} (slot {slot} for one) "
                f"can't be made by the new code: {reason} (nothing was changed)"
            )
    if kept:
        env = _keeping(present, env, kept)
    report.replaced, report.left, report.unknown, failures = _goblins._replace(
        present, env, others, report.unknown, dry_run
    )
    for label, slot, words, error in failures:
        report.problems.append(Problem.of(label, slot, error, words))
    return report


def _env_of_memory(constructors: Iterable[Any]) -> PersistenceEnv:
    """An environment for a vat without one: each constructor under the name by which it is found again."""
    named = {f"{one.__module__}.{one.__qualname__}": one for one in constructors if _is_findable(one)}
    return _env(named)


def _is_findable(constructor: Any) -> bool:
    module, name = getattr(constructor, "__module__", None), getattr(constructor, "__qualname__", "<locals>")
    return isinstance(module, str) and "<" not in name and not module.startswith("goblins.")


def _env(
    constructors: dict[str, Any],
    rehydrators: dict[str, Any] | None = None,
    records: dict[str, Any] | None = None,
    aliases: dict[str, Any] | None = None,
) -> PersistenceEnv:
    """An environment of its parts. Those of the library belong to every one."""
    made = {
        label: (constructor, rehydrators[label]) if rehydrators and label in rehydrators else constructor
        for label, constructor in constructors.items()
        if not label.startswith("goblins.")
    }
    return PersistenceEnv(made, records=records or {}, aliases=aliases)


def _records_of(env: PersistenceEnv) -> dict[str, Any]:
    return {name: record.record for name, record in env._records.items()}


def _found_again(env: PersistenceEnv) -> tuple[PersistenceEnv, list[str]]:
    """The same labels, with each constructor as its module has it now; and labels for which it has none."""
    constructors: dict[str, Any] = {}
    missing = []
    for label, old in env._constructors.items():
        new = _look_up(old)
        if not _is_constructor(new, old):
            missing.append(label)
            new = old
        constructors[label] = new
    rehydrators = {label: _function_again(old) for label, old in env._rehydrators.items()}
    records = {name: _class_again(old) for name, old in _records_of(env).items()}
    made = {**constructors, **records}
    aliases = {alias: made[name] for alias, name in env._aliases.items() if name in made}
    return _env(constructors, rehydrators, records, aliases), missing


def _look_up(old: Any) -> Any:
    """What stands in the module of a function or a class under its name now; None if nothing does."""
    found = sys.modules.get(getattr(old, "__module__", None) or "")
    for part in getattr(old, "__qualname__", "<locals>").split("."):
        found = getattr(found, part, None)
    return found


def _is_constructor(found: Any, old: Any) -> bool:
    """Whether this may be a constructor in place of another one."""
    if isinstance(found, type):
        return issubclass(found, Actor)
    return isinstance(found, Constructor) or (inspect.isroutine(old) and inspect.isroutine(found))


def _function_again(old: Callable[..., Any]) -> Callable[..., Any]:
    found = _look_up(old)
    return found if callable(found) else old


def _class_again(old: type) -> type:
    found = _look_up(old)
    return found if isinstance(found, type) else old


def _chosen(present: PersistenceEnv, new: PersistenceEnv, only: Iterable[Any] | Any) -> PersistenceEnv:
    """The present environment, with some labels as a new one has them."""
    only = without_parameters(only)
    if isinstance(only, str) or not isinstance(only, Iterable):
        only = [only]
    constructors, rehydrators = dict(present._constructors), dict(present._rehydrators)
    for one in only:
        label = _label_of(one, new, present)
        for alias in [alias for alias, name in new._aliases.items() if name == label]:
            # It has another label from now on.
            constructors.pop(alias, None)
            rehydrators.pop(alias, None)
        constructors[label] = new._constructors[label]
        rehydrators.pop(label, None)
        if label in new._rehydrators:
            rehydrators[label] = new._rehydrators[label]
    records = _records_of(present)
    for name, record in _records_of(new).items():
        if records.setdefault(name, record) is not record:
            raise BehaviorError(
                f"the record {name!r} is another class in the new environment, and actors that only= leaves "
                "alone may hold instances of the one before: replace all"
            )
    known = {**constructors, **records}
    aliases = {
        alias: known[name]
        for alias, name in {**new._aliases, **present._aliases}.items()
        if name in known and alias not in known
    }
    return _env(constructors, rehydrators, records, aliases)


def _label_of(one: Any, new: PersistenceEnv, present: PersistenceEnv) -> str:
    one = without_parameters(one)
    if isinstance(one, str) and (one in new._constructors or one in new._aliases):
        return new._aliases.get(one, one)
    for env in (new, present):
        for label, constructor in env._constructors.items():
            label = new._aliases.get(label, label)
            if constructor is one and label in new._constructors:
                return label
    raise UnknownLabelError(f"only= names {one!r}, which is not in the environment")


def _keeping(present: PersistenceEnv, new: PersistenceEnv, labels: list[str]) -> PersistenceEnv:
    """A new environment, with labels that only the present one has: their actors go on as they are."""
    constructors, rehydrators = dict(new._constructors), dict(new._rehydrators)
    made = {**new._constructors, **_records_of(new)}
    aliases = {alias: made[name] for alias, name in new._aliases.items() if name in made}
    for label in labels:
        name = present._aliases.get(label, label)
        constructor = present._constructors[name]
        if any(known is constructor for known in constructors.values()):
            # It has another label from now on, and is stored under that when it next changes.
            aliases[label] = constructor
            continue
        # If that has other code now, they go on under the label that they are stored under.
        kept = label if name in constructors else name
        constructors[kept] = constructor
        if name in present._rehydrators:
            rehydrators[kept] = present._rehydrators[name]
        if label != kept:
            aliases[label] = constructor
    return _env(constructors, rehydrators, _records_of(new), aliases)
