"""Reports: what became of the actors of a vat, label by label."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any


@dataclass(frozen=True)
class Problem:
    """What is wrong with one actor, or with several in the same way, or with the roots as a whole.

    Attributes:
        label: the label that the actor is stored under, or "the roots".
        slot: its number in its vat; that of one of them, if there are several; None for the roots.
        reason: what is wrong, in words.
        field: the field or the path that it is about, if that is known.
        count: how many actors it is about.
        error: the exception, if one was raised.
    """

    label: str
    slot: int | None
    reason: str
    field: str = ""
    count: int = 1
    error: BaseException | None = None

    def __str__(self) -> str:
        several = f" and {self.count - 1} more" if self.count > 1 else ""
        number = "" if self.slot is None else f"#{self.slot}"
        return f"{self.label}{number}{several}{self._place}: {self.reason}"

    @property
    def _place(self) -> str:
        return f" ({self.field})" if self.field and self.field not in self.reason else ""

    @classmethod
    def of(cls, label: str, slot: int, error: BaseException, before: str = "") -> Problem:
        """That an error stands for."""
        reason = describe(error)
        path = getattr(error, "path", "")
        return cls(label, slot, f"{before}: {reason}" if before else reason, path, 1, error)


def describe(error: BaseException) -> str:
    """An error in one line. An assertion without words is named by its line."""
    text = str(error).partition("\n")[0]
    if not text and isinstance(error, AssertionError):
        frames = traceback.extract_tb(error.__traceback__)
        if frames:
            return f"AssertionError: {frames[-1].line} (line {frames[-1].lineno})"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


@dataclass(kw_only=True)
class Report:
    """What became of the actors of a vat. ``str(report)`` is a table, ``report.ok`` says whether all went
    well.

    Attributes:
        problems: what is wrong.
        seconds: how long it took.
    """

    problems: list[Problem] = field(default_factory=list[Problem])
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def _summary(self) -> str:
        raise NotImplementedError

    def _table(self) -> list[str]:
        return []

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._summary()}>"

    def __str__(self) -> str:
        lines = [self._summary(), *self._table()]
        return "\n".join([*lines, *_told(self.problems)])


# How many slots are named of the actors that fail in one way, and how many ways are told of for one label.
_SLOTS = 3
_WAYS = 10


def _told(problems: Iterable[Problem]) -> Iterator[str]:
    """Problems in lines, those that are alike in one."""
    groups: dict[str, dict[tuple[str, str], list[Problem]]] = {}
    for problem in problems:
        # A reason may name the actor; that makes no other reason of it.
        reason = problem.reason
        if problem.slot is not None:
            reason = re.sub(rf"(?<!\w){problem.slot}(?!\w)", "", reason)
        groups.setdefault(problem.label, {}).setdefault((reason, problem.field), []).append(problem)
    for label, ways in groups.items():
        for alike in islice(ways.values(), _WAYS):
            named = alike[:_SLOTS]
            slots = ", ".join(f"#{one.slot}" for one in named if one.slot is not None)
            more = sum(one.count for one in alike) - len(named)
            several = f" and {more:,} more" if more else ""
            yield f"problem: {label}{slots}{several}{alike[0]._place}: {alike[0].reason}"
        if len(ways) > _WAYS:
            left = sum(one.count for alike in islice(ways.values(), _WAYS, None) for one in alike)
            yield f"problem: {label}: {left:,} more, for other reasons: see .problems"


def count(number: int, one: str, many: str = "") -> str:
    """A number of things."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """Lines in which the columns stand below each other; the first one is of words, the others of numbers."""
    cells = [[str(cell) if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in [head, *rows]]
    if len(cells) == 1:
        return []
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
