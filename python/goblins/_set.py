"""Set: a set that is kept in pages."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Iterable, MutableSet
from collections.abc import Set as AbstractSet
from copy import deepcopy
from itertools import islice
from typing import Any, Self, TypeVar, final, overload

from goblins._errors import GoblinsError
from goblins._map import SHOWN
from goblins._pages import near, own, whole
from goblins._table import Table

T = TypeVar("T")
S = TypeVar("S")


@final
class Set(Table, MutableSet[T]):
    """A set for large state of actors: what ``Map`` is for dicts. It keeps the order of insertion.

    Args:
        members: what is in it from the beginning.

    Raises:
        NoTurnError: this is no turn. In a class of actors write ``field(default_factory=Set)``.
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    _kind = 2

    @overload
    def __init__(self, /) -> None: ...
    @overload
    def __init__(self, members: Iterable[T], /) -> None: ...
    def __init__(self, members: Iterable[T] = (), /) -> None:
        self.update(members)

    def __init_subclass__(cls, **_options: Any) -> None:
        raise TypeError("a Set can't be derived from: what is stored would come back as a Set")

    @classmethod
    def _from_iterable(cls, members: Iterable[S]) -> Set[S]:
        return Set(members)

    @near
    def __contains__(self, member: object, /) -> bool:
        return self._find(member) is not None

    @whole
    def add(self, member: T, /) -> None:
        """Puts a member in, if it is not there."""
        self._put(member, None)

    @whole
    def discard(self, member: T, /) -> None:
        """Takes a member out, if it is there."""
        if self._find(member) is not None:
            self._drop(member)

    @whole
    def remove(self, member: T, /) -> None:
        """Takes a member out.

        Raises:
            KeyError: it is not there.
        """
        self._drop(member)

    @whole
    def pop(self) -> T:
        """Takes out the member that came last, and returns it.

        Raises:
            KeyError: the Set is empty.
        """
        member: T = own(self._end(last=True)[0])
        self._drop(member)
        return member

    def update(self, *others: Iterable[T]) -> None:
        """Puts in all members of others."""
        self._put_all([member for other in others for member in other])

    @whole
    def _put_all(self, members: list[T]) -> None:
        for member in members:
            self._put(member, None)

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Takes out all members of others."""
        self._drop_all([member for other in others for member in other])

    @whole
    def _drop_all(self, members: list[Any]) -> None:
        for member in members:
            if self._find(member) is not None:
                self._drop(member)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Takes out what is not in all others."""
        self._keep_only([_lookup(other) for other in others])

    @near
    def _keep_only(self, others: list[AbstractSet[Any]]) -> None:
        self._drop_all([one for one in self if not all(one in other for other in others)])

    def symmetric_difference_update(self, other: Iterable[T], /) -> None:
        """Takes out what is in the other, and puts in the rest of that."""
        self._flip(list(_lookup(other)))

    @whole
    def _flip(self, members: list[Any]) -> None:
        for member in members:
            if self._find(member) is None:
                self._put(member, None)
            else:
                self._drop(member)

    def union(self, *others: Iterable[T]) -> Set[T]:
        """A new Set with the members of this one and of others."""
        made = self.copy()
        made.update(*others)
        return made

    def difference(self, *others: Iterable[Any]) -> Set[T]:
        """A new Set with those members that no other has."""
        return self._of([_lookup(other) for other in others], False)

    def intersection(self, *others: Iterable[Any]) -> Set[T]:
        """A new Set with those members that all others have."""
        return self._of([_lookup(other) for other in others], True)

    @near
    def _of(self, others: list[AbstractSet[Any]], wanted: bool) -> Set[T]:
        return Set(one for one in self if all((one in other) is wanted for other in others))

    @near
    def symmetric_difference(self, other: Iterable[T], /) -> Set[T]:
        """A new Set with what is in one of the two only."""
        made = self.copy()
        made.symmetric_difference_update(other)
        return made

    def issubset(self, other: Iterable[Any], /) -> bool:
        """Whether the other has all members of this one."""
        return self <= _lookup(other)

    def issuperset(self, other: Iterable[Any], /) -> bool:
        """Whether this one has all members of the other."""
        return all(member in self for member in other)

    @near
    def copy(self) -> Set[T]:
        """A new Set with the same members, in the same vat."""
        return Set(self)

    def __copy__(self) -> Set[T]:
        return self.copy()

    @near
    def __deepcopy__(self, memo: dict[int, Any], /) -> Set[T]:
        made: Set[T] = Set()
        memo[id(self)] = made
        made.update(deepcopy(member, memo) for member in self)
        return made

    @near
    def __and__(self, other: AbstractSet[Any], /) -> Set[T]:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        return Set(member for member in self if member in other)

    def __or__(self, other: AbstractSet[S], /) -> Set[T | S]:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        return Set(itertools.chain(self, other))

    @near
    def __sub__(self, other: AbstractSet[Any], /) -> Set[T]:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        return Set(member for member in self if member not in other)

    def __xor__(self, other: AbstractSet[S], /) -> Set[T | S]:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        made: Set[T | S] = Set(member for member in self if member not in other)
        made.update(member for member in other if member not in self)
        return made

    def __ior__(self, other: AbstractSet[T], /) -> Self:  # type: ignore[override, misc]
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.update(other)
        return self

    def __isub__(self, other: AbstractSet[Any], /) -> Self:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.difference_update(other)
        return self

    def __iand__(self, other: AbstractSet[Any], /) -> Self:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.intersection_update(other)
        return self

    def __ixor__(self, other: AbstractSet[T], /) -> Self:  # type: ignore[override, misc]
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.symmetric_difference_update(other)
        return self

    @reprlib.recursive_repr("<Set ...>")
    def __repr__(self) -> str:
        try:
            count, shown = self._beginning()
        except GoblinsError as error:
            return f"<Set that can't be read here: {type(error).__name__}>"
        inside = ", ".join(map(repr, shown))
        return f"<Set of {count}: {{{inside}{', ...' if count > len(shown) else ''}}}>"

    @near
    def _beginning(self) -> tuple[int, list[T]]:
        return len(self), list(islice(self, SHOWN))


def _lookup(members: Iterable[Any]) -> AbstractSet[Any]:
    return members if isinstance(members, AbstractSet) else set(members)


# Outside of turns each of these is one turn, as a whole.
_OPERATORS = (
    *("__eq__", "__le__", "__lt__", "__ge__", "__gt__", "__or__", "__xor__"),
    *("__rand__", "__ror__", "__rsub__", "__rxor__", "__ior__", "__iand__", "__ixor__", "__isub__"),
)
for _name in _OPERATORS:
    _operator: Any = getattr(Set, _name)
    setattr(Set, _name, near(_operator))
