"""Cells, the smallest actors of the library, and proxies that allow half of what a cell does (LIB-01)."""

from __future__ import annotations

from typing import Any, overload

from goblins._class import Actor
from goblins._errors import AccessDeniedError

# They are constructors, and are called as such: spawn(cell, 5).


class cell(Actor, label="goblins.cell"):
    """Holds one value: ``ref()`` gives it, ``ref(value)`` puts another one in its place (LIB-01).

    ``spawn(goblins.cell, 5)`` makes one. It can be stored by every vat: all environments know it. A list,
    dict or set belongs to the cell: what comes in and what is handed out is copied.

    Args:
        value: what it holds at first.
    """

    value: Any = None

    @overload
    def __call__(self) -> Any: ...
    @overload
    def __call__(self, value: Any, /) -> None: ...
    def __call__(self, *new: Any) -> Any:
        if not new:
            return self.value
        (self.value,) = _one(new)
        return None


class read_only(Actor, label="goblins.read_only"):
    """A proxy that only reads a cell: ``ref()`` gives its value, ``ref(value)`` is an error (LIB-01).

    ``spawn(goblins.read_only, a_cell)`` makes one, of a cell of the same vat, or of what is called like one.

    Raises:
        AccessDeniedError: somebody wants to set the value.
    """

    target: Any

    def __call__(self, *new: Any) -> Any:
        if new:
            raise AccessDeniedError("this reference only reads: its cell can't be set with it")
        return self.target()


class write_only(Actor, label="goblins.write_only"):
    """A proxy that only sets a cell: ``ref(value)`` does, ``ref()`` is an error (LIB-01).

    ``spawn(goblins.write_only, a_cell)`` makes one, of a cell of the same vat, or of what is called like one.

    Raises:
        AccessDeniedError: somebody wants to read the value.
    """

    target: Any

    def __call__(self, *new: Any) -> None:
        if not new:
            raise AccessDeniedError("this reference only sets: its cell can't be read with it")
        self.target(*_one(new))


def _one(values: tuple[Any, ...]) -> tuple[Any]:
    if len(values) != 1:
        raise TypeError(f"a cell takes one value, not {len(values)}")
    return values


CELLS: dict[str, type[Actor]] = {f"goblins.{kind.__name__}": kind for kind in (cell, read_only, write_only)}
