"""Map: a dict that is kept in pages."""

from __future__ import annotations

import reprlib
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from copy import deepcopy
from itertools import islice
from typing import Any, TypeVar, cast, final, overload

from goblins._errors import GoblinsError
from goblins._pages import near, own, whole
from goblins._table import Table, pair

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_MISSING: Any = object()
# How many entries a repr shows.
SHOWN = 5


@final
class Map(Table, MutableMapping[K, V]):
    """A dict for large state of actors: it is kept in small pages, of which a change writes one or a few.

    It belongs to the vat in whose turn it is made: keep it in a field or an argument of an actor there. It
    can be used in turns of its vat, and outside of turns, where each use is a turn of its own. What a failed
    turn did to it is undone. Keys and values are what can be stored; lists, dicts, sets and bytearrays are
    copied when they come in and when they go out. Who has the same Map sees the same entries.

    Keys are equal as in a dict, and the order is that of insertion. ``keys()``, ``items()`` and ``values()``
    are live; ``len`` takes the same time for any length. Pages are read when they are first used.

    Args:
        entries: a mapping, or pairs of key and value.
        named: more entries.

    Raises:
        NoTurnError: this is no turn. In a class of actors write ``field(default_factory=Map)``.
    """

    __slots__ = ()
    _kind = 1

    def __init__(self, entries: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **named: V) -> None:
        self.update(entries, **named)

    def __init_subclass__(cls, **_options: Any) -> None:
        raise TypeError("a Map can't be derived from: what is stored would come back as a Map")

    @classmethod
    def fromkeys(cls, keys: Iterable[K], value: Any = None, /) -> Map[K, Any]:
        """A Map with these keys, each with this value."""
        return Map((key, value) for key in keys)

    @near
    def __getitem__(self, key: K, /) -> V:
        found = self._find(key)
        if found is None:
            raise KeyError(key)
        return cast(V, own(found.value))

    @whole
    def __setitem__(self, key: K, value: V, /) -> None:
        self._put(key, own(value))

    @whole
    def __delitem__(self, key: K, /) -> None:
        self._drop(key)

    @near
    def __contains__(self, key: object, /) -> bool:
        return self._find(key) is not None

    @overload
    def get(self, key: K, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | D, /) -> V | D: ...
    @near
    def get(self, key: K, default: Any = None, /) -> Any:
        """The value of a key, or the default if it is not there."""
        found = self._find(key)
        return default if found is None else own(found.value)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, default: V | D, /) -> V | D: ...
    @whole
    def pop(self, key: K, default: Any = _MISSING, /) -> Any:
        """Takes a key out and returns its value, or the default if it is not there.

        Raises:
            KeyError: it is not there, and no default was given.
        """
        if default is not _MISSING and self._find(key) is None:
            return default
        return own(self._drop(key))

    @whole
    def popitem(self) -> tuple[K, V]:
        """Takes out the key that came last, and returns it with its value.

        Raises:
            KeyError: the Map is empty.
        """
        key, _ = self._end(last=True)
        return own(key), own(self._drop(key))

    @whole
    def setdefault(self, key: K, default: Any = None, /) -> Any:
        """The value of a key; if it is not there, the default is put there."""
        found = self._find(key)
        if found is None:
            self._put(key, own(default))
            return own(default)
        return own(found.value)

    def update(self, entries: Any = (), /, **named: Any) -> None:
        """Sets many entries: those of a mapping or of pairs, and those that have a name."""
        if isinstance(entries, Mapping):
            pairs = list(entries.items())
        elif hasattr(entries, "keys"):
            pairs = [(key, entries[key]) for key in entries.keys()]  # noqa: SIM118
        else:
            pairs = [(key, value) for key, value in entries]
        self._put_all([*pairs, *named.items()])

    @whole
    def _put_all(self, pairs: list[tuple[Any, Any]]) -> None:
        for key, value in pairs:
            self._put(key, own(value))

    def keys(self) -> KeysView[K]:
        """The keys, in order: a live view."""
        return _Keys(self)

    def items(self) -> ItemsView[K, V]:
        """The keys with their values, in order: a live view."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """The values, in order: a live view."""
        return _Values(self)

    @near
    def copy(self) -> Map[K, V]:
        """A new Map with the same entries, in the same vat."""
        return Map(self)

    def __copy__(self) -> Map[K, V]:
        return self.copy()

    @near
    def __deepcopy__(self, memo: dict[int, Any], /) -> Map[K, V]:
        made: Map[K, V] = Map()
        memo[id(self)] = made
        made.update([(key, deepcopy(value, memo)) for key, value in self.items()])
        return made

    @near
    def __eq__(self, other: object, /) -> bool:
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(self) != len(other):
            return False
        return all(
            key in other and ((held := other[key]) is value or held == value)
            for key, value in self._walk(pair)
        )

    @near
    def __or__(self, other: Mapping[K, V], /) -> Map[K, V]:
        if not isinstance(other, Mapping):
            return NotImplemented
        made = Map(self)
        made.update(other)
        return made

    @near
    def __ror__(self, other: Mapping[K, V], /) -> Map[K, V]:
        if not isinstance(other, Mapping):
            return NotImplemented
        made = Map(other)
        made.update(self)
        return made

    def __ior__(self, other: Mapping[K, V] | Iterable[tuple[K, V]], /) -> Map[K, V]:
        self.update(other)
        return self

    @reprlib.recursive_repr("<Map ...>")
    def __repr__(self) -> str:
        try:
            count, shown = self._beginning()
        except GoblinsError as error:
            return f"<Map that can't be read here: {type(error).__name__}>"
        inside = ", ".join(f"{key!r}: {value!r}" for key, value in shown)
        return f"<Map of {count}: {{{inside}{', ...' if count > len(shown) else ''}}}>"

    @near
    def _beginning(self) -> tuple[int, list[tuple[K, V]]]:
        return len(self), list(islice(self._walk(pair), SHOWN))


class _Keys(KeysView[K]):
    __slots__ = ()
    _mapping: Map[K, Any]

    @property
    def mapping(self) -> Mapping[K, Any]:
        return self._mapping

    def __reversed__(self) -> Iterator[K]:
        return reversed(self._mapping)

    def __repr__(self) -> str:
        return f"<keys of {self._mapping!r}>"


class _Items(ItemsView[K, V]):
    __slots__ = ()
    _mapping: Map[K, V]

    @property
    def mapping(self) -> Mapping[K, V]:
        return self._mapping

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._walk(pair)

    def __reversed__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._walk(pair, back=True)

    def __repr__(self) -> str:
        return f"<items of {self._mapping!r}>"


class _Values(ValuesView[V]):
    __slots__ = ()
    _mapping: Map[Any, V]

    @property
    def mapping(self) -> Mapping[Any, V]:
        return self._mapping

    def __contains__(self, value: object) -> bool:
        return any(one is value or one == value for one in self)

    def __iter__(self) -> Iterator[V]:
        return self._mapping._walk(_value)

    def __reversed__(self) -> Iterator[V]:
        return self._mapping._walk(_value, back=True)

    def __repr__(self) -> str:
        return f"<values of {self._mapping!r}>"


def _value(_key: Any, value: Any) -> Any:
    return own(value)
