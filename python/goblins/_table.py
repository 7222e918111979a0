"""What Map and Set have in common: entries by key, in the order in which they came.

Each entry has a number, given once. One tree leads from the hash of a key to its number, the other from the
number to the page with the entry. So a change of a value writes one page; a new key writes its page, the page
of its hash, and the root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

from goblins import _pages
from goblins._goblins import Ref, _Collection, _page, _page_become, _page_spawn
from goblins._pages import entry_page, hash_page, near, own, table_root, weight
from goblins._tree import Trail, Tree

# What an entry takes beside its key and value: its number.
_BESIDE = 6


class _Root(NamedTuple):
    """The state of the first page."""

    bcom: Any
    count: int
    following: int
    hashes: Ref
    hash_levels: int
    entries: Ref
    entry_levels: int

    def entry_tree(self) -> Tree:
        return Tree(self.entries, self.entry_levels)

    def hash_tree(self) -> Tree:
        return Tree(self.hashes, self.hash_levels)


class Cursor(NamedTuple):
    """Where an iteration stands: the page, its state, and what the whole looked like at the beginning."""

    page: Ref
    state: tuple[Any, ...]
    shape: tuple[int, int]


def _empty() -> tuple[Any, ...]:
    return _page_spawn(hash_page, {}), 0, _page_spawn(entry_page, 0, [], {}), 0


class Table(_Collection):
    """The parent of Map and Set."""

    __slots__ = ()
    _kind: ClassVar[int]
    _what: ClassVar[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        root = _page_spawn(table_root, 0, 0, *_empty())
        return _pages.adopt(cls._kind, root)

    def _state(self) -> _Root:
        return _Root(*_page(self._root))

    @near
    def __len__(self) -> int:
        count: int = _page(self._root)[1]
        return count

    def _find(self, key: Any, hashed: int | None = None) -> tuple[Trail, tuple[Any, ...]] | None:
        """The way to the page that has a key, and that page's state."""
        root = self._state()
        hashed = _pages.stable_hash(key) if hashed is None else hashed
        found = _page(root.hash_tree().find(hashed).leaf)[1].get(hashed)
        if found is None:
            return None
        for number in (found,) if type(found) is int else found:
            trail = root.entry_tree().find(number)
            state = _page(trail.leaf)
            if key in state[3]:
                return trail, state
        return None

    def _put(self, key: Any, value: Any) -> None:
        """Sets the value of a key. The value is the table's own already."""
        hashed = _pages.stable_hash(key)
        found = self._find(key, hashed)
        if found is None:
            self._append(key, value, hashed)
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
        root = self._state()
        tree = root.entry_tree()
        self._replace(root, entry_tree=tree.add(trail, numbers[at], right))

    def _append(self, key: Any, value: Any, hashed: int) -> None:
        root = self._state()
        number = root.following
        hash_tree = self._add_hash(root.hash_tree(), hashed, number)
        entry_tree = root.entry_tree()
        trail = entry_tree.find(number)
        _, heavy, numbers, entries = _page(trail.leaf)
        more = weight(key) + weight(value) + _BESIDE
        if entries and (len(entries) >= _pages.MOST_ENTRIES or heavy + more > _pages.MOST_BYTES):
            page = _page_spawn(entry_page, more, [number], {key: value})
            entry_tree = entry_tree.add(trail, number, page)
        else:
            entries = entries.copy()
            entries[key] = value
            _page_become(trail.leaf, heavy + more, [*numbers, number], entries)
        root = root._replace(count=root.count + 1, following=number + 1)
        self._replace(root, hash_tree, entry_tree)

    def _replace(self, root: _Root, hash_tree: Tree | None = None, entry_tree: Tree | None = None) -> None:
        """Writes the first page, if it has changed."""
        if hash_tree is not None:
            root = root._replace(hashes=hash_tree.top, hash_levels=hash_tree.levels)
        if entry_tree is not None:
            root = root._replace(entries=entry_tree.top, entry_levels=entry_tree.levels)
        if root != _page(self._root):
            _page_become(self._root, *root[1:])

    def _add_hash(self, tree: Tree, hashed: int, number: int) -> Tree:
        trail = tree.find(hashed)
        numbers = _page(trail.leaf)[1].copy()
        others = numbers.get(hashed)
        if others is None:
            numbers[hashed] = number
        else:
            numbers[hashed] = (others, number) if type(others) is int else (*others, number)
        if len(numbers) <= _pages.MOST_ENTRIES:
            _page_become(trail.leaf, numbers)
            return tree
        ordered = sorted(numbers)
        at = len(ordered) // 2
        _page_become(trail.leaf, {one: numbers[one] for one in ordered[:at]})
        right = _page_spawn(hash_page, {one: numbers[one] for one in ordered[at:]})
        return tree.add(trail, ordered[at], right)

    def _drop(self, key: Any) -> Any:
        """Takes a key out, and gives its value.

        Raises:
            KeyError: it is not there.
        """
        hashed = _pages.stable_hash(key)
        found = self._find(key, hashed)
        if found is None:
            raise KeyError(key)
        trail, (_, heavy, numbers, entries) = found
        root = self._state()
        entry_tree = root.entry_tree()
        index, held = next(one for one in enumerate(entries) if one[1] is key or one[1] == key)
        number = numbers[index]
        entries = entries.copy()
        value = entries.pop(key)
        heavy -= weight(held) + weight(value) + _BESIDE
        _page_become(trail.leaf, heavy, [*numbers[:index], *numbers[index + 1 :]], entries)
        if not entries:
            entry_tree = entry_tree.remove(trail)
        hash_tree = self._drop_hash(root.hash_tree(), hashed, number)
        self._replace(root._replace(count=root.count - 1), hash_tree, entry_tree)
        return value

    def _drop_hash(self, tree: Tree, hashed: int, number: int) -> Tree:
        trail = tree.find(hashed)
        numbers = _page(trail.leaf)[1].copy()
        found = numbers.pop(hashed)
        if type(found) is tuple:
            others = tuple(one for one in found if one != number)
            numbers[hashed] = others if len(others) > 1 else others[0]
        _page_become(trail.leaf, numbers)
        return tree if numbers else tree.remove(trail)

    @near
    def clear(self) -> None:
        """Takes all out."""
        root = self._state()
        if root.count:
            # The numbers go on: so an iteration that is under way notices.
            _page_become(self._root, 0, root.following, *_empty())

    def _end(self, last: bool) -> tuple[Any, Any]:
        """The first or the last key with its value.

        Raises:
            KeyError: there is none.
        """
        root = self._state()
        if not root.count:
            raise KeyError(f"the {type(self).__name__} is empty")
        trail = root.entry_tree().find(root.following if last else 0)
        entries = _page(trail.leaf)[3]
        key = next(reversed(entries) if last else iter(entries))
        return key, entries[key]

    @near
    def _page_at(self, number: int, back: bool) -> Cursor | None:
        """The first page that has an entry from a number on, or the last one that has one up to it."""
        root = self._state()
        tree = root.entry_tree()
        trail: Trail | None = tree.find(number)
        while trail is not None:
            state = _page(trail.leaf)
            numbers = state[2]
            if numbers and (numbers[0] <= number if back else numbers[-1] >= number):
                return Cursor(trail.leaf, state, (root.count, root.following))
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
        while cursor := self._page_at(number, back):
            if cursor.shape != shape:
                raise RuntimeError(f"{type(self).__name__} changed size during iteration")
            _, _, numbers, entries = cursor.state
            steps: Iterable[Any] = zip(numbers, entries.items(), strict=True)
            for one, (key, value) in reversed(list(steps)) if back else steps:
                if one > number if back else one < number:
                    continue
                if not self._is_fresh(cursor):
                    break
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


def _key(key: Any, _value: Any) -> Any:
    return key


def pair(key: Any, value: Any) -> tuple[Any, Any]:
    """An item as it goes out."""
    return key, own(value)
