"""The order of Lists among each other and lists."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from goblins._goblins import _Collection
from goblins._pages import near


class Ordered(_Collection):
    """The first items that are not equal decide, or else the lengths."""

    __slots__ = ()

    def __lt__(self, other: Any, /) -> Any:
        return self._compare(other, operator.lt)

    def __le__(self, other: Any, /) -> Any:
        return self._compare(other, operator.le)

    def __gt__(self, other: Any, /) -> Any:
        return self._compare(other, operator.gt)

    def __ge__(self, other: Any, /) -> Any:
        return self._compare(other, operator.ge)

    @near
    def _compare(self, other: Any, order: Callable[[Any, Any], bool]) -> Any:
        if not isinstance(other, Ordered | list):
            return NotImplemented
        left: Any = self
        right: Any = other
        for a, b in zip(left, right, strict=False):
            if a is not b and a != b:
                return bool(order(a, b))
        return bool(order(len(left), len(right)))
