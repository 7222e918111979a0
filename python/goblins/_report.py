"""Reports: what became of the actors of a vat, label by label."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
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
        place = f" ({self.field})" if self.field and self.field not in self.reason else ""
        number = "" if self.slot is None else f"#{self.slot}"
        return f"{self.label}{number}{several}{place}: {self.reason}"

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
        lines += [f"problem: {problem}" for problem in self.problems]
        return "\n".join(lines)


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
