"""What Map, List and Set are made of: pages, which are hidden actors, and the values that stand in them."""

from __future__ import annotations

import datetime
import functools
import hashlib
import numbers
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from goblins._actor import actor
from goblins._class import Actor
from goblins._errors import NoSuchMethodError, PersistenceError
from goblins._goblins import (
    Constructor,
    Ref,
    _Collection,
    _copied,
    _key_bytes,
    _register_collections,
    _weight,
)
from goblins._records import compared

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=_Collection)

# A page is divided when it has more entries, or about more bytes.
MOST_ENTRIES = 64
MOST_BYTES = 4096

# Values that can be shared with anybody.
_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})
_SHORT = frozenset({int, float, bool, type(None)})


def _refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise NoSuchMethodError("a page of a collection takes no messages: use the Map, List or Set itself")


def _page_of(whole: str, label: str) -> Callable[[Callable[..., Any]], Constructor]:
    """A constructor of pages, with a name for messages."""

    def made(function: Callable[..., Any]) -> Constructor:
        function.__name__ = f"a page of {whole}"
        return actor(label=label)(function)

    return made


@_page_of("a collection", "goblins.node")
def tree_node(bcom: Any, starts: list[int], children: list[Any]) -> Any:
    """Leads to other pages: child number i has what stands from ``starts[i]`` on."""
    return _refuse


@_page_of("a Map or Set", "goblins.table")
def table_root(
    bcom: Any, count: int, following: int, hashes: Any, hash_levels: int, entries: Any, entry_levels: int
) -> Any:
    """The first page of a Map or a Set: two trees, how many levels of nodes they have, the next number."""
    return _refuse


@_page_of("a Map or Set", "goblins.hashes")
def hash_page(bcom: Any, pairs: bytes) -> Any:
    """Pairs of the hash of a key and the number of its entry, in any order: 8 and 6 bytes each."""
    return _refuse


@_page_of("a Map or Set", "goblins.entries")
def entry_page(bcom: Any, weight: int, numbers: list[int], entries: dict[Any, Any]) -> Any:
    """Entries in order, each with its number."""
    return _refuse


@_page_of("a List", "goblins.list")
def list_root(bcom: Any, count: int, items: Any, levels: int) -> Any:
    """The first page of a List."""
    return _refuse


@_page_of("a List", "goblins.items")
def item_page(bcom: Any, weight: int, items: list[Any]) -> Any:
    """Items in order."""
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


def own(value: Any) -> Any:
    """A value as it comes in or goes out: nothing in it is shared that can be changed in place."""
    return value if type(value) in _ATOMS else _copied(value)


def weight(value: Any) -> int:
    """About how many bytes a value takes."""
    kind = type(value)
    if kind is str:
        return len(value) + 4
    return 8 if kind in _SHORT else _weight(value)


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
        TypeError: the key is not hashable.
    """
    kind = type(key)
    if kind is str:
        data = key.encode("utf-8", "surrogatepass")
    elif kind is int:
        # Python's hashes of numbers don't depend on the process, and are the same for equal numbers.
        data = b"%d" % hash(key)
    elif kind is bytes:
        data = key
    else:
        hash(key)
        plain = _plain(key)
        data = plain if type(plain) is bytes else _key_bytes(plain)
        if data is None:
            # It can't be stored, so no other process will see it.
            data = b"%d" % hash(key)
    return hashlib.blake2b(data, digest_size=8).digest()


def _plain(key: Any) -> Any:
    """One of the keys that are equal to this one, the same for all of them."""
    if isinstance(key, numbers.Number):
        return b"%d" % hash(key) if key == key else b"nan"
    if isinstance(key, str):
        return str.__str__(key).encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return bytes(key)
    if isinstance(key, tuple):
        return tuple([_plain(item) for item in key])
    if isinstance(key, frozenset):
        return frozenset([_plain(item) for item in key])
    if isinstance(key, datetime.datetime) and key.utcoffset() is not None:
        return key.astimezone(datetime.UTC)
    parts = compared(key)
    return key if parts is None else _plain(parts)
