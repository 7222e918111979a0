"""Finishing upgrades: what is left of older versions is made, and stored as it is today."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from goblins import _goblins
from goblins._errors import PersistenceError
from goblins._goblins import Vat
from goblins._progress import Progress, teller
from goblins._report import Problem, Report, count, table

_logger = logging.getLogger("goblins")


@dataclass(kw_only=True, repr=False)
class Upgrade(Report):
    """What ``vat.upgrade_all()`` did.

    Attributes:
        upgraded: how many actors it made and stored again, by the label that they had before. One that was
            upgraded meanwhile since somebody else used it is not counted.
        problems: those that could not be; they stay as they were.
    """

    upgraded: dict[str, int] = field(default_factory=dict[str, int])

    def _summary(self) -> str:
        text = f"{count(sum(self.upgraded.values()), 'actor')} upgraded"
        return text + (f", {count(len(self.problems), 'problem')}" if self.problems else "")

    def _table(self) -> list[str]:
        return table(("label", "upgraded"), sorted(self.upgraded.items()))


def upgrade_all(vat: Vat, progress: Progress, batch: int) -> Upgrade:
    """See ``Vat.upgrade_all``."""
    if type(batch) is not int or batch < 1:
        raise ValueError(f"batch is a number of actors, at least 1, not {batch!r}")
    tell = teller(progress, f"upgrading vat {vat.name}")
    if vat._env is None:
        raise PersistenceError(f"vat {vat.name} is not persistent; only one that was opened from a store is")
    begin = time.perf_counter()
    report = Upgrade()
    end, window = vat.run(_goblins._to_walk)
    total = sum(len(outdated) for outdated in _windows(vat, end, window))
    done = 0
    tell(done, total)
    for outdated in _windows(vat, end, window):
        for first in range(0, len(outdated), batch):
            some = outdated[first : first + batch]
            _renew(vat, some, report)
            done += len(some)
            tell(done, max(total, done))
    report.seconds = time.perf_counter() - begin
    return report


def _windows(vat: Vat, end: int, window: int) -> Iterator[list[tuple[int, str]]]:
    """Slots of outdated actors with their labels, some at a time."""
    last = 0
    # Where no actors are, nothing is looked at.
    while (first := vat.run(_goblins._next_stored, last) if last < end else None) is not None:
        last = min(first + window, end)
        found = vat.run(_goblins._outdated, first, last)
        if found:
            yield found


def _renew(vat: Vat, some: list[tuple[int, str]], report: Upgrade) -> None:
    """Upgrades actors in one churn; if one of them fails, each in a churn of its own."""
    try:
        renewed = vat.run(_goblins._renew, [slot for slot, _ in some])
    except Exception as error:
        # Of a vat that was closed, or has stopped, this is the error.
        vat.run(lambda: None)
        if len(some) > 1:
            for one in some:
                _renew(vat, [one], report)
            return
        slot, label = some[0]
        problem = Problem.of(label, slot, error)
        report.problems.append(problem)
        _logger.error("vat %s: an actor could not be upgraded: %s", vat.name, problem)
    else:
        for label, number in renewed.items():
            report.upgraded[label] = report.upgraded.get(label, 0) + number
