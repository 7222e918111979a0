"""List: a list that is kept in pages."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from copy import deepcopy
from itertools import islice
from typing import Any, NamedTuple, Self, SupportsIndex, TypeVar, cast, final, overload

from goblins import _pages
from goblins._errors import GoblinsError
from goblins._goblins import Ref, _page, _page_become, _page_damaged, _page_spawn
from goblins._map import SHOWN
from goblins._ordered import Ordered
from goblins._pages import believable, item_page, list_root, near, own, weight, whole
from goblins._tree import Trail, Tree

T = TypeVar("T")


class _Cursor(NamedTuple):
    """A page of items: where it begins, and the states that it was read from."""

    page: Ref
    state: tuple[Any, ...]
    root: tuple[Any, ...]
    start: int


@final
class List(Ordered, MutableSequence[T]):
    """A list for large state of actors: what ``Map`` is for lists.

    Reading, setting, inserting and deleting at any index, and appending, read and write a few small pages.
    ``reverse``, ``sort`` and assignments to slices write more. A slice is a plain list.

    Args:
        items: what is in it from the beginning.

    Raises:
        NoTurnError: this is no turn. In a class of actors write ``field(default_factory=List)``.
    """

    __slots__ = ()
    _kind = 3

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        root = _page_spawn(list_root, 0, _page_spawn(item_page, 0, []), 0)
        return cast(Self, _pages.adopt(cls._kind, root))

    @overload
    def __init__(self, /) -> None: ...
    @overload
    def __init__(self, items: Iterable[T], /) -> None: ...
    def __init__(self, items: Iterable[T] = (), /) -> None:
        self.extend(items)

    def __init_subclass__(cls, **_options: Any) -> None:
        raise TypeError("a List can't be derived from: what is stored would come back as a List")

    def _state(self) -> tuple[int, Tree]:
        _, count, top, levels = _page(self._root, list_root)
        return believable(self._root, count), Tree(top, levels, relative=True)

    def _replace(self, count: int, tree: Tree) -> None:
        if _page(self._root, list_root)[1:] != (count, tree.top, tree.levels):
            _page_become(self._root, count, tree.top, tree.levels)

    @near
    def __len__(self) -> int:
        return believable(self._root, _page(self._root, list_root)[1])

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> T: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[T]: ...
    @near
    def __getitem__(self, index: Any, /) -> Any:
        count, tree = self._state()
        if isinstance(index, slice):
            return self._slice(index)
        trail, _, items = _items(tree, _position(index, count, "index"))
        return own(items[trail.number])

    def _slice(self, wanted: slice) -> list[T]:
        positions = range(*wanted.indices(len(self)))
        if not positions:
            return []
        low, high = min(positions[0], positions[-1]), max(positions[0], positions[-1])
        items = list(islice(self._walk(low), high - low + 1))
        return items[:: positions.step] if positions.step > 0 else items[::-1][:: -positions.step]

    @overload
    def __setitem__(self, index: SupportsIndex, value: T, /) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[T], /) -> None: ...
    def __setitem__(self, index: Any, value: Any, /) -> None:
        if isinstance(index, slice):
            self._set_slice(index, list(value))
        else:
            self._set(index, value)

    @whole
    def _set(self, index: SupportsIndex, value: T) -> None:
        self._assign(index, value)

    def _assign(self, index: SupportsIndex, value: T) -> None:
        count, tree = self._state()
        trail, heavy, items = _items(tree, _position(index, count, "assignment index"))
        value, old = own(value), items[trail.number]
        if value is old:
            return
        items = items[:]
        items[trail.number] = value
        self._write(count, tree, trail, heavy + weight(value) - weight(old), items)

    @whole
    def _set_slice(self, index: slice, values: list[T]) -> None:
        positions = range(*index.indices(len(self)))
        if index.step is None or index.step == 1:
            start = positions.start
            for _ in positions:
                self._remove(start)
            if start == len(self):
                self._extend(values)
                return
            for offset, value in enumerate(values):
                self._insert(start + offset, value)
            return
        if len(values) != len(positions):
            raise ValueError(
                f"attempt to assign sequence of size {len(values)} to extended slice of size {len(positions)}"
            )
        for position, value in zip(positions, values, strict=True):
            self._assign(position, value)

    @whole
    def __delitem__(self, index: SupportsIndex | slice, /) -> None:
        count = len(self)
        if not isinstance(index, slice):
            self._remove(_position(index, count, "assignment index"))
            return
        positions = range(*index.indices(count))
        if len(positions) == count:
            self.clear()
            return
        for position in sorted(positions, reverse=True):
            self._remove(position)

    def _remove(self, position: int) -> Any:
        """Takes an item out, and gives it."""
        count, tree = self._state()
        trail, heavy, items = _items(tree, position)
        items = items[:]
        value = items.pop(trail.number)
        _page_become(trail.leaf, heavy - weight(value), items)
        tree.shift(trail, -1)
        self._replace(count - 1, tree if items else tree.remove(trail))
        return value

    @whole
    def insert(self, index: SupportsIndex, value: T, /) -> None:
        """Puts an item before that at an index."""
        count = len(self)
        at = operator.index(index)
        self._insert(max(at + count, 0) if at < 0 else min(at, count), value)

    def _insert(self, at: int, value: T) -> None:
        count, tree = self._state()
        trail, heavy, items = _items(tree, at, at == count)
        value = own(value)
        items = [*items[: trail.number], value, *items[trail.number :]]
        tree.shift(trail, 1)
        self._write(count + 1, tree, trail, heavy + weight(value), items)

    def _write(self, count: int, tree: Tree, trail: Trail, heavy: int, items: list[Any]) -> None:
        """Writes a page of items, or two if one is too heavy."""
        if len(items) < 2 or (len(items) <= _pages.MOST_ENTRIES and heavy <= _pages.MOST_BYTES):
            _page_become(trail.leaf, heavy, items)
        else:
            weights = [weight(item) for item in items]
            # What grows at its end leaves full pages behind.
            is_last = trail.number == len(items) - 1 and tree.after(trail) is None
            at = len(items) - 1 if is_last else _pages.half(weights)
            _page_become(trail.leaf, sum(weights[:at]), items[:at])
            tree = tree.add(trail, at, _page_spawn(item_page, sum(weights[at:]), items[at:]))
        self._replace(count, tree)

    @whole
    def append(self, value: T, /) -> None:
        """Puts an item at the end."""
        self._insert(_page(self._root, list_root)[1], value)

    def extend(self, items: Iterable[T], /) -> None:
        """Puts many items at the end."""
        self._extend(list(items))

    @whole
    def _extend(self, items: list[Any]) -> None:
        count, tree = self._state()
        waiting = iter([own(item) for item in items])
        item = next(waiting, _NOTHING)
        while item is not _NOTHING:
            trail, heavy, held = _items(tree, count, True)
            held, fresh = held[:], False
            if held and not _has_room(heavy, held, item):
                heavy, held, fresh = 0, [], True
            before = len(held)
            while item is not _NOTHING and (not held or _has_room(heavy, held, item)):
                held.append(item)
                heavy += weight(item)
                item = next(waiting, _NOTHING)
            if fresh:
                tree = tree.add(trail, trail.number, _page_spawn(item_page, heavy, held))
            else:
                _page_become(trail.leaf, heavy, held)
            count += len(held) - before
        self._replace(count, tree)

    def __iadd__(self, items: Iterable[T], /) -> List[T]:
        self.extend(items)
        return self

    @whole
    def __imul__(self, times: SupportsIndex, /) -> Self:
        times = _times(times)
        if times <= 0:
            self.clear()
        else:
            self._extend(list(self) * (times - 1))
        return self

    @near
    def __mul__(self, times: SupportsIndex, /) -> List[T]:
        return List(list(self) * _times(times))

    __rmul__ = __mul__

    @whole
    def pop(self, index: SupportsIndex = -1, /) -> T:
        """Takes the item at an index out, and returns it.

        Raises:
            IndexError: there is none.
        """
        count = len(self)
        if not count:
            raise IndexError("pop from empty List")
        return cast(T, own(self._remove(_position(index, count, "pop index"))))

    @near
    def remove(self, value: T, /) -> None:
        """Takes out the first item that is equal to this one.

        Raises:
            ValueError: there is none.
        """
        self._take(self.index(value))

    @whole
    def _take(self, position: int) -> None:
        self._remove(position)

    @near
    def clear(self) -> None:
        """Takes all out."""
        if len(self):
            self._replace(0, Tree(_page_spawn(item_page, 0, []), 0, relative=True))

    @near
    def reverse(self) -> None:
        """Puts the items into the opposite order. Writes all of them."""
        self._refill(list(reversed(self)))

    @near
    def sort(self, *, key: Callable[[T], Any] | None = None, reverse: bool = False) -> None:
        """Sorts the items, as ``list.sort`` does. Writes all of them."""
        self._refill(sorted(cast(Any, self), key=key, reverse=reverse))

    @whole
    def _refill(self, items: list[T]) -> None:
        self.clear()
        self._extend(items)

    @near
    def copy(self) -> List[T]:
        """A new List with the same items, in the same vat."""
        return List(self)

    def __copy__(self) -> List[T]:
        return self.copy()

    @near
    def __deepcopy__(self, memo: dict[int, Any], /) -> List[T]:
        made: List[T] = List()
        memo[id(self)] = made
        made.extend([deepcopy(item, memo) for item in self])
        return made

    @near
    def __add__(self, other: Iterable[T], /) -> List[T]:
        if not isinstance(other, List | list):
            return NotImplemented
        made = List(self)
        made.extend(other)
        return made

    @near
    def __radd__(self, other: list[T], /) -> List[T]:
        if not isinstance(other, list):
            return NotImplemented
        made = List(other)
        made.extend(self)
        return made

    @near
    def __eq__(self, other: object, /) -> bool:
        if self is other:
            return True
        if not isinstance(other, List | list):
            return NotImplemented
        if len(self) != len(other):
            return False
        return all(a is b or a == b for a, b in zip(self, other, strict=True))

    @near
    def __contains__(self, value: object, /) -> bool:
        return any(one is value or one == value for one in self)

    @near
    def index(self, value: Any, start: int = 0, stop: int | None = None, /) -> int:
        """The first index, from ``start`` up to ``stop``, of an item that is equal to this one.

        Raises:
            ValueError: there is none.
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        for offset, one in enumerate(islice(self._walk(start), max(stop - start, 0))):
            if one is value or one == value:
                return start + offset
        raise ValueError(f"{value!r} is not in the List")

    @near
    def count(self, value: Any, /) -> int:
        """How many items are equal to this one."""
        return sum(one is value or one == value for one in self)

    @near
    def _page_at(self, position: int, known: _Cursor | None = None) -> _Cursor | None:
        """The page that has a position: the known one, if it has it still. None if there is no such item."""
        root = _page(self._root, list_root)
        if known is not None and known.root is root:
            known = known._replace(state=_page(known.page, item_page))
            if 0 <= position - known.start < len(known.state[2]):
                return known
        if not 0 <= position < root[1]:
            return None
        believable(self._root, root[1])
        trail, *_ = _items(Tree(root[2], root[3], relative=True), position)
        return _Cursor(trail.leaf, _page(trail.leaf, item_page), root, position - trail.number)

    def _walk(self, position: int, step: int = 1) -> Iterator[Any]:
        """The items from a position on, as they are when it comes to them."""
        cursor = None
        while cursor := self._page_at(position, cursor):
            yield own(cursor.state[2][position - cursor.start])
            position += step

    def __iter__(self) -> Iterator[T]:
        return self._walk(0)

    def __reversed__(self) -> Iterator[T]:
        return self._walk(len(self) - 1, -1)

    @reprlib.recursive_repr("<List ...>")
    def __repr__(self) -> str:
        try:
            count, shown = self._beginning()
        except GoblinsError as error:
            return f"<List that can't be read here: {type(error).__name__}>"
        inside = ", ".join(map(repr, shown))
        return f"<List of {count}: [{inside}{', ...' if count > len(shown) else ''}]>"

    @near
    def _beginning(self) -> tuple[int, list[T]]:
        return len(self), list(islice(self, SHOWN))


_NOTHING: Any = object()


def _items(tree: Tree, position: int, may_end: bool = False) -> tuple[Trail, int, list[Any]]:
    """The way to the page of a position, its weight and its items. It may be just behind the last one."""
    trail = tree.find(position)
    _, heavy, items = _page(trail.leaf, item_page)
    if trail.number >= len(items) + may_end:
        raise _page_damaged(trail.leaf, "it has fewer items than what leads to it counts")
    return trail, heavy, items


def _times(times: SupportsIndex) -> int:
    try:
        return operator.index(times)
    except TypeError:
        raise TypeError(f"a List is repeated an integer of times, not {type(times).__name__}") from None


def _has_room(heavy: int, items: list[Any], item: Any) -> bool:
    return len(items) < _pages.MOST_ENTRIES and heavy + weight(item) <= _pages.MOST_BYTES


def _position(index: Any, count: int, what: str) -> int:
    try:
        at = operator.index(index)
    except TypeError:
        raise TypeError(f"List indices are integers or slices, not {type(index).__name__}") from None
    if at < 0:
        at += count
    if not 0 <= at < count:
        raise IndexError(f"List {what} out of range")
    return at
