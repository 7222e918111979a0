"""How far long work has come: told to a function, or shown on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

Progress = Callable[[int, int], object] | bool | None
_WIDTH = 30


def teller(progress: Progress, what: str) -> Callable[[int, int], object]:
    """What to call with how much is done, and how much there is in all.

    Args:
        progress: a function that gets both numbers; True for a bar on the terminal, if there is one; None or
            False for nothing.
        what: stands before the bar.

    Raises:
        TypeError: it is something else.
    """
    if progress is None or progress is False:
        return lambda done, total: None
    if callable(progress):
        return progress
    if progress is not True:
        raise TypeError(f"progress is a function, True or None, not {progress!r}")
    if not sys.stderr.isatty():
        return lambda done, total: None

    def show(done: int, total: int) -> None:
        line = bar(done, total, what)
        print(f"\r{line}", end="\n" if done >= total else "", file=sys.stderr, flush=True)

    return show


def bar(done: int, total: int, what: str) -> str:
    """A line that shows how much is done."""
    part = min(done / total, 1.0) if total else 1.0
    full = int(part * _WIDTH)
    return f"{what} [{'#' * full}{'.' * (_WIDTH - full)}] {part:4.0%}  {done:,} of {total:,}"
