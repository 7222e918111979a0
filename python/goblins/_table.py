"""What Map and Set have in common: entries by key, in the order in which they came.

Each entry has a number, given once. One tree leads from the hash of a key to its number, the other from the
number to the page with the entry. So a change of a value writes one page; a new key writes its page, the page
of its hash, and the root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple, Self, cast

from goblins import _pages
from goblins._goblins import Ref, _Collection, _page, _page_become, _page_spawn
from goblins._pages import entry_page, hash_page, near, own, table_root, weight
from goblins._tree import Trail, Tree

# What an entry takes beside its key and value: its number.
_BESIDE = 6
# The bytes of a hash, and of a hash with a number.
_HASH, _PAIR = 8, 14


class _Found(NamedTuple):
    """The way to the page of an entry, and that page's state."""

    trail: Trail
    state: tuple[Any, ...]


class Cursor(NamedTuple):
    """Where an iteration stands: the page, its state, and what the whole looked like at the beginning."""

    page: Ref
    state: tuple[Any, ...]
    shape: tuple[int, int]


def _empty() -> tuple[Any, ...]:
    return _page_spawn(hash_page, b""), 0, _page_spawn(entry_page, 0, [], {}), 0


class Table(_Collection):
    """The parent of Map and Set."""

    __slots__ = ()
    _kind: ClassVar[int]

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        root = _page_spawn(table_root, 0, 0, *_empty())
        return cast(Self, _pages.adopt(cls._kind, root))

    def _state(self) -> tuple[int, int, Tree, Tree]:
        """How many entries there are, the next number, the tree of hashes, the tree of entries."""
        _, count, following, hashes, hash_levels, entries, entry_levels = _page(self._root)
        return count, following, Tree(hashes, hash_levels), Tree(entries, entry_levels)

    def _write(self, count: int, following: int, hashes: Tree, entries: Tree) -> None:
        """Writes the first page, if it has changed."""
        state = count, following, hashes.top, hashes.levels, entries.top, entries.levels
        if state != _page(self._root)[1:]:
            _page_become(self._root, *state)

    @near
    def __len__(self) -> int:
        count: int = _page(self._root)[1]
        return count

    def _find(self, key: Any) -> _Found | None:
        """The page that has a key."""
        return self._search(key, _pages.stable_hash(key))[1]

    def _search(self, key: Any, hashed: bytes) -> tuple[Trail, _Found | None]:
        """The way to the page of the key's hash, and the page that has the key."""
        _, _, hashes, entries = self._state()
        way = hashes.find(int.from_bytes(hashed, "big"))
        pairs = _page(way.leaf)[1]
        at = _next_pair(pairs, hashed, 0)
        while at >= 0:
            trail = entries.find(int.from_bytes(pairs[at + _HASH : at + _PAIR], "big"))
            state = _page(trail.leaf)
            if key in state[3]:
                return way, _Found(trail, state)
            at = _next_pair(pairs, hashed, at + _PAIR)
        return way, None

    def _put(self, key: Any, value: Any) -> None:
        """Sets the value of a key. The value is the table's own already."""
        hashed = _pages.stable_hash(key)
        way, found = self._search(key, hashed)
        if found is None:
            self._append(key, value, hashed, way)
            return
        trail, (_, heavy, numbers, entries) = found
        old = entries[key]
        if old is value:
            return
        entries = entries.copy()
        entries[key] = value
        heavy += weight(value) - weight(old)
        _page_become(trail.leaf, heavy, numbers, entries)
        if heavy > _pages.MOST_BYTES and len(entries) > 1:
            self._divide(trail)

    def _divide(self, trail: Trail) -> None:
        """Divides a page of entries that has become too heavy."""
        _, _, numbers, entries = _page(trail.leaf)
        weights = [weight(key) + weight(value) + _BESIDE for key, value in entries.items()]
        at = _pages.half(weights)
        pairs = list(entries.items())
        light = sum(weights[:at])
        _page_become(trail.leaf, light, numbers[:at], dict(pairs[:at]))
        right = _page_spawn(entry_page, sum(weights) - light, numbers[at:], dict(pairs[at:]))
        count, following, hashed, tree = self._state()
        self._write(count, following, hashed, tree.add(trail, numbers[at], right))

    def _append(self, key: Any, value: Any, hashed: bytes, way: Trail) -> None:
        count, number, hashes, tree = self._state()
        hashes = _add_hash(hashes, way, hashed, number)
        trail = tree.find(number)
        _, heavy, numbers, entries = _page(trail.leaf)
        more = weight(key) + weight(value) + _BESIDE
        if entries and (len(entries) >= _pages.MOST_ENTRIES or heavy + more > _pages.MOST_BYTES):
            tree = tree.add(trail, number, _page_spawn(entry_page, more, [number], {key: value}))
        else:
            entries = entries.copy()
            entries[key] = value
            _page_become(trail.leaf, heavy + more, [*numbers, number], entries)
        self._write(count + 1, number + 1, hashes, tree)

    def _drop(self, key: Any) -> Any:
        """Takes a key out, and gives its value.

        Raises:
            KeyError: it is not there.
        """
        hashed = _pages.stable_hash(key)
        way, found = self._search(key, hashed)
        if found is None:
            raise KeyError(key)
        trail, (_, heavy, numbers, entries) = found
        count, following, hashes, tree = self._state()
        index, held = next(one for one in enumerate(entries) if one[1] is key or one[1] == key)
        number = numbers[index]
        entries = entries.copy()
        value = entries.pop(key)
        heavy -= weight(held) + weight(value) + _BESIDE
        _page_become(trail.leaf, heavy, [*numbers[:index], *numbers[index + 1 :]], entries)
        if not entries:
            tree = tree.remove(trail)
        self._write(count - 1, following, _drop_hash(hashes, way, hashed, number), tree)
        return value

    @near
    def clear(self) -> None:
        """Takes all out."""
        _, count, following, *_ = _page(self._root)
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
        entries = _page(trail.leaf)[3]
        key = next(reversed(entries) if last else iter(entries))
        return key, entries[key]

    @near
    def _page_at(self, number: int, back: bool) -> Cursor | None:
        """The first page that has an entry from a number on, or the last one that has one up to it."""
        count, following, _, tree = self._state()
        trail: Trail | None = tree.find(number)
        while trail is not None:
            state = _page(trail.leaf)
            numbers = state[2]
            if numbers and (numbers[0] <= number if back else numbers[-1] >= number):
                return Cursor(trail.leaf, state, (count, following))
            trail = tree.before(trail) if back else tree.after(trail)
        return None

    @near
    def _is_fresh(self, cursor: Cursor) -> bool:
        """Whether the page of a cursor is as it was.

        Raises:
            RuntimeError: entries came or went.
        """
        if _page(self._root)[1:3] != cursor.shape:
            raise RuntimeError(f"{type(self).__name__} changed size during iteration")
        return _page(cursor.page) is cursor.state

    def _walk(self, take: Callable[[Any, Any], Any], back: bool = False) -> Iterator[Any]:
        """What ``take`` makes of each key and value, in order; each step sees the values as they are then."""
        shape = self._shape()
        number = shape[1] if back else 0
        while number >= 0 and (cursor := self._page_at(number, back)):
            if cursor.shape != shape:
                raise RuntimeError(f"{type(self).__name__} changed size during iteration")
            _, _, numbers, entries = cursor.state
            # It was read a moment ago. Where pages go to sleep at once, none is ever found as it was.
            is_new = True
            steps: Iterable[Any] = zip(numbers, entries.items(), strict=True)
            for one, (key, value) in reversed(list(steps)) if back else steps:
                if one > number if back else one < number:
                    continue
                if not is_new and not self._is_fresh(cursor):
                    break
                is_new = False
                number = one - 1 if back else one + 1
                yield take(key, value)
            else:
                number = numbers[0] - 1 if back else numbers[-1] + 1
        if self._shape() != shape:
            raise RuntimeError(f"{type(self).__name__} changed size during iteration")

    @near
    def _shape(self) -> tuple[int, int]:
        shape: tuple[int, int] = _page(self._root)[1:3]
        return shape

    def __iter__(self) -> Iterator[Any]:
        return self._walk(_key)

    def __reversed__(self) -> Iterator[Any]:
        return self._walk(_key, back=True)


def _next_pair(pairs: bytes, hashed: bytes, at: int) -> int:
    """Where the next pair with this hash begins; -1 if there is none."""
    at = pairs.find(hashed, at)
    while at % _PAIR and at >= 0:
        at = pairs.find(hashed, at + 1)
    return at


def _add_hash(tree: Tree, trail: Trail, hashed: bytes, number: int) -> Tree:
    pairs = _page(trail.leaf)[1] + hashed + number.to_bytes(_PAIR - _HASH, "big")
    if len(pairs) > _pages.MOST_ENTRIES * _PAIR:
        ordered = sorted(pairs[at : at + _PAIR] for at in range(0, len(pairs), _PAIR))
        middle = ordered[len(ordered) // 2][:_HASH]
        left = b"".join(pair for pair in ordered if pair[:_HASH] < middle)
        # With one hash for most of them there may be nothing to divide.
        if left:
            _page_become(trail.leaf, left)
            right = _page_spawn(hash_page, b"".join(ordered)[len(left) :])
            return tree.add(trail, int.from_bytes(middle, "big"), right)
    _page_become(trail.leaf, pairs)
    return tree


def _drop_hash(tree: Tree, trail: Trail, hashed: bytes, number: int) -> Tree:
    pairs = _page(trail.leaf)[1]
    at = _next_pair(pairs, hashed + number.to_bytes(_PAIR - _HASH, "big"), 0)
    _page_become(trail.leaf, pairs[:at] + pairs[at + _PAIR :])
    return tree if len(pairs) > _PAIR else tree.remove(trail)


def _key(key: Any, _value: Any) -> Any:
    return key


def pair(key: Any, value: Any) -> tuple[Any, Any]:
    """An item as it goes out."""
    return key, own(value)
