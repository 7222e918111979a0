"""What Map, List and Set are made of: pages, which are hidden actors, and the values that stand in them."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from goblins._actor import actor
from goblins._class import Actor
from goblins._errors import NoSuchMethodError, PersistenceError, StoreCorruptError
from goblins._goblins import (
    Constructor,
    Ref,
    _Collection,
    _copied,
    _page_back,
    _page_damaged,
    _page_done,
    _page_most,
    _register_collections,
    _weight,
)
from goblins._keys import hash_key
from goblins._migrations import Migrations

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=_Collection)

# A page is divided when it has more entries, or about more bytes.
MOST_ENTRIES = 64
MOST_BYTES = 4096

# No page has more entries than that, whatever was the most when it was written.
_SURELY = 1024

# Values that can be shared with anybody.
_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})
_SHORT = frozenset({int, float, bool, type(None)})


def _refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise NoSuchMethodError("a page of a collection takes no messages: use the Map, List or Set itself")


def _page_of(
    whole: str, label: str, steps: Migrations | None = None
) -> Callable[[Callable[..., Any]], Constructor]:
    """A constructor of pages, with a name for messages.

    It sees to it that a page which comes from a store has what such a page has, and raises ValueError or
    TypeError if not: that is told as damage of its record.
    """

    def made(function: Callable[..., Any]) -> Constructor:
        function.__name__ = f"a page of {whole}"
        if steps is None:
            return actor(label=label)(function)
        return actor(label=label, version=1, upgrade=steps)(function)

    return made


# A number of an entry has 6 bytes, one of a hash 8.
_MOST = 2**64 - 1
# A tree with more levels has more leaves than there are numbers.
_MOST_LEVELS = 64


def _require(held: bool, what: str) -> None:
    if not held:
        raise ValueError(what)


def _whole(number: Any, most: int = _MOST) -> bool:
    return type(number) is int and 0 <= number <= most


def _ascending(numbers: Any) -> bool:
    """Whether this is a list of whole numbers in their order."""
    if type(numbers) is not list or set(map(type, numbers)) - {int}:
        return False
    return not numbers or (numbers == sorted(numbers) and numbers[0] >= 0 and numbers[-1] <= _MOST)


@_page_of("a collection", "goblins.node")
def tree_node(bcom: Any, starts: list[int], children: list[Any]) -> Any:
    """Leads to other pages: child number i has what stands from ``starts[i]`` on."""
    _require(_ascending(starts), "its numbers are not in order")
    pages = type(children) is list and not set(map(type, children)) - {Ref}
    _require(pages and len(children) == len(starts) > 0, "it does not lead to pages")
    _require(len(set(map(id, children))) == len(children), "it leads to a page twice")
    return _refuse


_tables = Migrations()
_entries = Migrations()


@_tables.to(1)
def _with_marks(**fields: Any) -> dict[str, Any]:
    return {**fields, "marks": None}


@_entries.to(1)
def _as_lists(weight: Any, numbers: Any, entries: Any) -> dict[str, Any]:
    # Equal keys that were taken for two have left more numbers than entries.
    keys, values = list(entries), list(entries.values())
    return {"weight": weight, "numbers": numbers[: len(keys)], "keys": keys, "values": values}


@_page_of("a Map or Set", "goblins.table", _tables)
def table_root(
    bcom: Any,
    count: int,
    following: int,
    hashes: Any,
    hash_levels: int,
    entries: Any,
    entry_levels: int,
    marks: list[bytes] | None,
) -> Any:
    """The first page of a Map or a Set: two trees, how many levels of nodes they have, the next number.

    The marks are those of its hashes. None: it was made when there were none.
    """
    _require(_whole(count) and _whole(following, 2**48), "its counts are no such numbers")
    _require(count <= following, "it has more entries than numbers were given out")
    _require(
        _whole(hash_levels, _MOST_LEVELS) and _whole(entry_levels, _MOST_LEVELS), "it has no such levels"
    )
    _require(type(hashes) is Ref and type(entries) is Ref, "it does not lead to pages")
    _require(
        marks is None or (type(marks) is list and not set(map(type, marks)) - {bytes}), "its marks are none"
    )
    return _refuse


@_page_of("a Map or Set", "goblins.hashes")
def hash_page(bcom: Any, pairs: bytes) -> Any:
    """Pairs of the hash of a key and the number of its entry, in any order: 8 and 6 bytes each."""
    _require(type(pairs) is bytes and len(pairs) % 14 == 0, "its pairs are cut off")
    return _refuse


@_page_of("a Map or Set", "goblins.entries", _entries)
def entry_page(bcom: Any, weight: int, numbers: list[int], keys: list[Any], values: list[Any]) -> Any:
    """Entries in order, each with its number."""
    _require(type(weight) is int, "its weight is no number")
    _require(_ascending(numbers) and len(set(numbers)) == len(numbers), "its numbers are not in order")
    _require(type(keys) is list and type(values) is list, "its entries are no lists")
    _require(len(keys) == len(values) == len(numbers), "it has not as many keys as values")
    return _refuse


@_page_of("a List", "goblins.list")
def list_root(bcom: Any, count: int, items: Any, levels: int) -> Any:
    """The first page of a List."""
    _require(_whole(count), "its count is no such number")
    _require(_whole(levels, _MOST_LEVELS), "it has no such levels")
    _require(type(items) is Ref, "it does not lead to pages")
    return _refuse


@_page_of("a List", "goblins.items")
def item_page(bcom: Any, weight: int, items: list[Any]) -> Any:
    """Items in order."""
    _require(type(weight) is int, "its weight is no number")
    _require(type(items) is list, "its items are no list")
    return _refuse


# Every environment has their labels. They stand in stores: they never change.
PAGES = {
    str(page.label): page for page in (tree_node, table_root, hash_page, entry_page, list_root, item_page)
}


# The collections in memory, by the address of their root, which lives as long as they do.
_known: weakref.WeakValueDictionary[int, _Collection] = weakref.WeakValueDictionary()
_kinds: dict[int, type[_Collection]] = {}


def adopt(kind: int, root: Ref) -> _Collection:
    """The collection with this root: always the same object, as long as somebody has it."""
    found = _known.get(id(root))
    if found is None:
        try:
            made = _Collection.__new__(_kinds[kind], root, kind)
        except KeyError:
            raise PersistenceError(f"collection {kind} is of a later version of goblins") from None
        found = _known.setdefault(id(root), made)
    if type(found) is not _kinds.get(kind):
        raise StoreCorruptError(
            f"{root!r} is the first page of a {type(found).__name__} and of something else"
        )
    return found


def register(kinds: dict[int, type[_Collection]], others: dict[str, type[Actor]]) -> None:
    """Tells which numbers the collections have in stores: they never change.

    Every environment knows the pages, and the other actors of the library.
    """
    _kinds.update(kinds)
    _register_collections(adopt, {**PAGES, **others})


def near(method: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """Makes a method run in a turn of the collection's vat: in the open one, or in one of its own."""

    @functools.wraps(method)
    def called(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._is_near():
            return method(self, *args, **kwargs)
        answer: T = self._run(method, self, *args, **kwargs)
        return answer

    return called


def whole(method: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """As ``near``, for a method that changes pages: if it raises, they are as they were.

    Ctrl-C may come in its midst, and whoever called it may catch that.
    """

    @functools.wraps(method)
    def called(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answer: T
        mark = self._begin()
        if mark is None:
            answer = self._run(method, self, *args, **kwargs)
            return answer
        # No signal is looked for between an error and the call that follows it.
        try:
            answer = method(self, *args, **kwargs)
        except BaseException:
            _page_back(mark)
            raise
        _page_done()
        return answer

    return called


def own(value: Any) -> Any:
    """A value as it comes in or goes out: nothing in it is shared that can be changed in place."""
    return value if type(value) in _ATOMS else _copied(value)


def weight(value: Any) -> int:
    """About how many bytes a value takes."""
    kind = type(value)
    if kind is str:
        return len(value) + 4
    return 8 if kind in _SHORT else _weight(value)


def believable(root: Ref, count: int) -> int:
    """How many entries or items a collection says that it has.

    Raises:
        StoreCorruptError: all pages of its vat could not hold them.
    """
    if count > _SURELY and count > _SURELY * _page_most(root):
        raise _page_damaged(root, f"it counts {count} entries, and there are not so many pages")
    return count


def half(weights: list[int]) -> int:
    """Where to divide a page, so that both parts weigh about the same; neither is empty."""
    left, rest = 0, sum(weights)
    for index, one in enumerate(weights[:-1]):
        left += one
        if left * 2 >= rest:
            return index + 1
    return len(weights) - 1


def stable_hash(key: Any) -> bytes:
    """A hash of 8 bytes that is the same in each process, and for all keys that are equal.

    Raises:
        TypeError: the key is not hashable, or can't be a key.
    """
    return hash_key(key)[0]
