"""What Map and Set have in common: entries by key, in the order in which they came.

Each entry has a number, given once. One tree leads from the hash of a key to its number, the other from the
number to the page with the entry. So a change of a value writes one page; a new key writes its page, the page
of its hash, and the root.

A hash may depend on more than what is stored of its key (see ``goblins._keys``). The root keeps the marks of
all hashes there are; when a key with another mark is asked for, all hashes are made anew, and the pages with
keys that have marks are written as they are read today.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple, Self, cast

from goblins import _keys, _pages
from goblins._goblins import (
    Ref,
    _Collection,
    _page,
    _page_back,
    _page_become,
    _page_damaged,
    _page_spawn,
    _page_stands,
)
from goblins._keys import SINCE_MARKS, same
from goblins._pages import believable, entry_page, hash_page, near, own, table_root, weight
from goblins._rehash import HASH, PAIR, rehash
from goblins._tree import Trail, Tree

# What an entry takes beside its key and value: its number.
_BESIDE = 6


class _Found(NamedTuple):
    """The way to the page of an entry, that page's state, and the place of the entry there."""

    trail: Trail
    state: tuple[Any, ...]
    place: int

    @property
    def value(self) -> Any:
        return self.state[4][self.place]


class Cursor(NamedTuple):
    """Where an iteration stands: the page, its state, and what the whole looked like at the beginning."""

    page: Ref
    state: tuple[Any, ...]
    shape: tuple[int, int]


def _empty() -> tuple[Any, ...]:
    """Trees without entries, and no marks."""
    return _page_spawn(hash_page, b""), 0, _page_spawn(entry_page, 0, [], [], []), 0, []


class Table(_Collection):
    """The parent of Map and Set."""

    __slots__ = ()
    _kind: ClassVar[int]

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        root = _page_spawn(table_root, 0, 0, *_empty())
        return cast(Self, _pages.adopt(cls._kind, root))

    def _state(self) -> tuple[int, int, Tree, Tree]:
        """How many entries there are, the next number, the tree of hashes, the tree of entries."""
        _, count, following, hashes, hash_levels, entries, entry_levels, _ = _page(self._root, table_root)
        return count, following, Tree(hashes, hash_levels), Tree(entries, entry_levels)

    def _write(self, count: int, following: int, hashes: Tree, entries: Tree) -> None:
        """Writes the first page, if it has changed."""
        now = _page(self._root, table_root)
        state = count, following, hashes.top, hashes.levels, entries.top, entries.levels
        if state != now[1:7]:
            _page_become(self._root, *state, now[7])

    @near
    def __len__(self) -> int:
        return believable(self._root, _page(self._root, table_root)[1])

    def _hashed(self, key: Any) -> bytes:
        """The hash of a key that is asked for."""
        hashed, marks = _keys.hash_key(key)
        if marks:
            self._know(marks)
        return hashed

    def _know(self, wanted: set[bytes] | frozenset[bytes]) -> None:
        """Sees to it that the table has these marks. That stands, whatever comes of what the key is for."""
        mark = cast(int, self._begin())
        try:
            self._renew(wanted)
        except BaseException:
            _page_back(mark)
            raise
        _page_stands(mark)

    def _renew(self, wanted: set[bytes] | frozenset[bytes]) -> None:
        known: list[bytes] | None = _page(self._root, table_root)[7]
        if known is None or (known and not wanted - {SINCE_MARKS} <= set(known)):
            known = rehash(self)
        missing = wanted - {SINCE_MARKS} - set(known)
        if missing:
            _page_become(self._root, *_page(self._root, table_root)[1:7], sorted({*known, *missing}))

    def _find(self, key: Any) -> _Found | None:
        """The page that has a key."""
        return self._search(key, self._hashed(key))[1]

    def _search(self, key: Any, hashed: bytes) -> tuple[Trail, _Found | None]:
        """The way to the page of the key's hash, and the page that has the key."""
        _, _, hashes, entries = self._state()
        way = hashes.find(int.from_bytes(hashed, "big"))
        pairs = _page(way.leaf, hash_page)[1]
        at = _next_pair(pairs, hashed, 0)
        while at >= 0:
            number = int.from_bytes(pairs[at + HASH : at + PAIR], "big")
            trail = entries.find(number)
            state = _page(trail.leaf, entry_page)
            index = bisect_left(state[2], number)
            if index < len(state[2]) and state[2][index] == number:
                held = state[3][index]
                if held is key or self._same(held, key, trail):
                    return way, _Found(trail, state, index)
            elif _page(self._root, table_root)[7] is not None:
                raise _page_damaged(way.leaf, f"it leads to an entry {number}, which is not there")
            at = _next_pair(pairs, hashed, at + PAIR)
        return way, None

    def _same(self, held: Any, key: Any, trail: Trail) -> bool:
        try:
            return same(held, key)
        except TypeError:
            hash(key)
            try:
                hash(held)
            except TypeError:
                raise _page_damaged(trail.leaf, f"a {type(held).__name__} can't be a key") from None
            raise

    def _put(self, key: Any, value: Any) -> None:
        """Sets the value of a key. The value is the table's own already."""
        hashed = self._hashed(key)
        way, found = self._search(key, hashed)
        if found is None:
            self._append(own(key), value, hashed, way)
            return
        trail, (_, heavy, numbers, keys, values), index = found
        old = values[index]
        if old is value:
            return
        values = values.copy()
        values[index] = value
        heavy += weight(value) - weight(old)
        _page_become(trail.leaf, heavy, numbers, keys, values)
        if heavy > _pages.MOST_BYTES and len(keys) > 1:
            self._divide(trail)

    def _divide(self, trail: Trail) -> None:
        """Divides a page of entries that has become too heavy."""
        _, _, numbers, keys, values = _page(trail.leaf, entry_page)
        weights = [weight(key) + weight(value) + _BESIDE for key, value in zip(keys, values, strict=True)]
        at = _pages.half(weights)
        light = sum(weights[:at])
        _page_become(trail.leaf, light, numbers[:at], keys[:at], values[:at])
        right = _page_spawn(entry_page, sum(weights) - light, numbers[at:], keys[at:], values[at:])
        count, following, hashed, tree = self._state()
        self._write(count, following, hashed, tree.add(trail, numbers[at], right))

    def _append(self, key: Any, value: Any, hashed: bytes, way: Trail) -> None:
        count, number, hashes, tree = self._state()
        hashes = _add_hash(hashes, way, hashed, number)
        trail = tree.find(number)
        _, heavy, numbers, keys, values = _page(trail.leaf, entry_page)
        if numbers and numbers[-1] >= number:
            raise _page_damaged(self._root, "its next number is one that was given out")
        more = weight(key) + weight(value) + _BESIDE
        if keys and (len(keys) >= _pages.MOST_ENTRIES or heavy + more > _pages.MOST_BYTES):
            tree = tree.add(trail, number, _page_spawn(entry_page, more, [number], [key], [value]))
        else:
            _page_become(trail.leaf, heavy + more, [*numbers, number], [*keys, key], [*values, value])
        self._write(count + 1, number + 1, hashes, tree)

    def _drop(self, key: Any) -> Any:
        """Takes a key out, and gives its value.

        Raises:
            KeyError: it is not there.
        """
        hashed = self._hashed(key)
        way, found = self._search(key, hashed)
        if found is None:
            raise KeyError(key)
        trail, (_, heavy, numbers, keys, values), index = found
        count, following, hashes, tree = self._state()
        if not count:
            raise _page_damaged(self._root, "it counts no entries, and has some")
        number, held, value = numbers[index], keys[index], values[index]
        heavy -= weight(held) + weight(value) + _BESIDE
        after = index + 1
        _page_become(
            trail.leaf,
            heavy,
            [*numbers[:index], *numbers[after:]],
            [*keys[:index], *keys[after:]],
            [*values[:index], *values[after:]],
        )
        if len(keys) == 1:
            tree = tree.remove(trail)
        self._write(count - 1, following, _drop_hash(hashes, way, hashed, number), tree)
        return value

    @near
    def clear(self) -> None:
        """Takes all out."""
        _, count, following, *_ = _page(self._root, table_root)
        if count:
            # The numbers go on: so an iteration that is under way notices.
            _page_become(self._root, 0, following, *_empty())

    def _end(self, last: bool) -> tuple[Any, Any]:
        """The first or the last key with its value.

        Raises:
            KeyError: there is none.
        """
        count, following, _, tree = self._state()
        if not count:
            raise KeyError(f"the {type(self).__name__} is empty")
        trail = tree.find(following if last else 0)
        _, _, _, keys, values = _page(trail.leaf, entry_page)
        if not keys:
            raise _page_damaged(trail.leaf, "it has no entries, and is the one at an end")
        at = -1 if last else 0
        return keys[at], values[at]

    @near
    def _page_at(self, number: int, back: bool) -> Cursor | None:
        """The first page that has an entry from a number on, or the last one that has one up to it."""
        count, following, _, tree = self._state()
        for trail in tree.onward(number, back):
            state = _page(trail.leaf, entry_page)
            numbers = state[2]
            if numbers and (numbers[0] <= number if back else numbers[-1] >= number):
                return Cursor(trail.leaf, state, (count, following))
        return None

    @near
    def _is_fresh(self, cursor: Cursor) -> bool:
        """Whether the page of a cursor is as it was.

        Raises:
            RuntimeError: entries came or went.
        """
        if _page(self._root, table_root)[1:3] != cursor.shape:
            raise RuntimeError(f"{type(self).__name__} changed size during iteration")
        return _page(cursor.page) is cursor.state

    def _walk(self, take: Callable[[Any, Any], Any], back: bool = False) -> Iterator[Any]:
        """What ``take`` makes of each key and value, in order; each step sees the values as they are then."""
        shape = self._shape()
        number = shape[1] if back else 0
        met = 0
        while number >= 0 and (cursor := self._page_at(number, back)):
            if cursor.shape != shape:
                raise RuntimeError(f"{type(self).__name__} changed size during iteration")
            _, _, numbers, keys, values = cursor.state
            # It was read a moment ago. Where pages go to sleep at once, none is ever found as it was.
            is_new = True
            steps: Iterable[Any] = zip(numbers, keys, values, strict=True)
            for one, key, value in reversed(list(steps)) if back else steps:
                if one > number if back else one < number:
                    continue
                if not is_new and not self._is_fresh(cursor):
                    break
                is_new = False
                number = one - 1 if back else one + 1
                met += 1
                yield take(key, value)
            else:
                number = numbers[0] - 1 if back else numbers[-1] + 1
        self._end_walk(shape, met)

    @near
    def _end_walk(self, shape: tuple[int, int], met: int) -> None:
        """Sees to it that an iteration has met all there is."""
        _, *now, _, _, _, _, marks = _page(self._root, table_root)
        if tuple(now) != shape:
            raise RuntimeError(f"{type(self).__name__} changed size during iteration")
        # One without marks may count equal keys twice, until its hashes are made anew.
        if met != shape[0] and marks is not None:
            raise _page_damaged(self._root, f"it counts {shape[0]} entries, and leads to {met}")

    @near
    def _shape(self) -> tuple[int, int]:
        shape: tuple[int, int] = _page(self._root, table_root)[1:3]
        return shape

    def __iter__(self) -> Iterator[Any]:
        return self._walk(_key)

    def __reversed__(self) -> Iterator[Any]:
        return self._walk(_key, back=True)


def _next_pair(pairs: bytes, hashed: bytes, at: int) -> int:
    """Where the next pair with this hash begins; -1 if there is none."""
    at = pairs.find(hashed, at)
    while at % PAIR and at >= 0:
        at = pairs.find(hashed, at + 1)
    return at


def _add_hash(tree: Tree, trail: Trail, hashed: bytes, number: int) -> Tree:
    pairs = _page(trail.leaf, hash_page)[1] + hashed + number.to_bytes(PAIR - HASH, "big")
    if len(pairs) > _pages.MOST_ENTRIES * PAIR:
        ordered = sorted(pairs[at : at + PAIR] for at in range(0, len(pairs), PAIR))
        middle = ordered[len(ordered) // 2][:HASH]
        left = b"".join(pair for pair in ordered if pair[:HASH] < middle)
        # With one hash for most of them there may be nothing to divide.
        if left:
            _page_become(trail.leaf, left)
            right = _page_spawn(hash_page, b"".join(ordered)[len(left) :])
            return tree.add(trail, int.from_bytes(middle, "big"), right)
    _page_become(trail.leaf, pairs)
    return tree


def _drop_hash(tree: Tree, trail: Trail, hashed: bytes, number: int) -> Tree:
    pairs = _page(trail.leaf, hash_page)[1]
    at = _next_pair(pairs, hashed + number.to_bytes(PAIR - HASH, "big"), 0)
    _page_become(trail.leaf, pairs[:at] + pairs[at + PAIR :])
    return tree if len(pairs) > PAIR else tree.remove(trail)


def _key(key: Any, _value: Any) -> Any:
    return own(key)


def pair(key: Any, value: Any) -> tuple[Any, Any]:
    """An item as it goes out."""
    return own(key), own(value)
