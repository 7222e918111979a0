"""All hashes of a Map or Set are made anew, where they depend on what has changed since."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from goblins import _keys, _pages
from goblins._errors import MigrationError
from goblins._goblins import _page, _page_become, _page_damaged, _page_spawn
from goblins._keys import SINCE_MARKS, same
from goblins._pages import entry_page, hash_page
from goblins._tree import Trail, Tree

if TYPE_CHECKING:
    from goblins._table import Table

# The bytes of a hash, and of a hash with the number of its entry.
HASH, PAIR = 8, 14


def rehash(table: Table) -> list[bytes]:
    """Makes all hashes anew, and gives their marks."""
    _, following, _, entries = table._state()
    pairs: list[bytes] = []
    known: set[bytes] = set()
    for trail, state in _leaves(table):
        _, _, numbers, keys, _ = state
        before = len(known)
        for number, key in zip(numbers, keys, strict=True):
            hashed, marks = _keys.hash_key(key)
            known.update(marks)
            pairs.append(hashed + number.to_bytes(PAIR - HASH, "big"))
        if before or known:
            # What a field got that was not stored must stay: its default may be another one next time.
            _page_become(trail.leaf, *state[1:])
    pairs.sort()
    _check_twins(table, pairs)
    leaves = [
        (int.from_bytes(part[:HASH], "big"), _page_spawn(hash_page, part)) for part in _hash_parts(pairs)
    ]
    hashes = Tree.over(leaves or [(0, _page_spawn(hash_page, b""))])
    kept = sorted(known - {SINCE_MARKS})
    _page_become(table._root, len(pairs), following, *hashes[:2], *entries[:2], kept)
    return kept


def _check_twins(table: Table, pairs: list[bytes]) -> None:
    """Raises MigrationError if two keys have become one."""
    held: list[Any] = []
    for at, pair in enumerate(pairs):
        if at and pairs[at - 1][:HASH] != pair[:HASH]:
            held = []
        if not held and (at + 1 == len(pairs) or pairs[at + 1][:HASH] != pair[:HASH]):
            continue
        key = _key_of(table, int.from_bytes(pair[HASH:], "big"))
        for other in held:
            if same(other, key):
                raise MigrationError(
                    f"two keys of a {type(table).__name__} are equal, and were not when they were stored: "
                    f"{other!r} and {key!r}; put its items into a new one, with one of the two"
                )
        held.append(key)


def _key_of(table: Table, number: int) -> Any:
    trail = table._state()[3].find(number)
    _, _, numbers, keys, _ = _page(trail.leaf, entry_page)
    return keys[bisect_left(numbers, number)]


def _leaves(table: Table) -> Iterator[tuple[Trail, tuple[Any, ...]]]:
    """All pages of entries that have some."""
    _, following, _, tree = table._state()
    last = -1
    for trail in tree.onward(0):
        state = _page(trail.leaf, entry_page)
        if state[2]:
            if not last < state[2][0] <= state[2][-1] < following:
                raise _page_damaged(trail.leaf, "its numbers are those of other pages")
            last = state[2][-1]
            yield trail, state


def _hash_parts(pairs: list[bytes]) -> Iterator[bytes]:
    """What the pages of hashes hold, of all pairs in order. Those of one hash are in one page."""
    part: list[bytes] = []
    for pair in pairs:
        if len(part) * 4 >= _pages.MOST_ENTRIES * 3 and part[-1][:HASH] != pair[:HASH]:
            yield b"".join(part)
            part = []
        part.append(pair)
    if part:
        yield b"".join(part)
