"""One promise of several (LIB-12)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

from goblins._goblins import Promise, Ref, _all_of, _race

T = TypeVar("T")


@overload
def all_of(*promises: Promise[T]) -> Promise[list[T]]: ...
@overload
def all_of(promises: Iterable[Promise[T]], /) -> Promise[list[T]]: ...
@overload
def all_of(*promises: Any) -> Promise[list[Any]]: ...
def all_of(*promises: Any) -> Promise[list[Any]]:
    """The promise of all values, in the order given; the first error breaks it.

    Args:
        promises: promises, or one iterable of them. What is no promise counts as its own value.

    Returns:
        A promise of a list; without promises one of an empty list. Errors after the first are dropped.
    """
    return _all_of(_several(promises))


@overload
def race(*promises: Promise[T]) -> Promise[T]: ...
@overload
def race(promises: Iterable[Promise[T]], /) -> Promise[T]: ...
@overload
def race(*promises: Any) -> Promise[Any]: ...
def race(*promises: Any) -> Promise[Any]:
    """The promise that settles as the first of several does; what the others come to is dropped.

    Args:
        promises: promises, or one iterable of them. What is no promise has settled already.

    Raises:
        ValueError: there is none, so that nothing could ever settle it.
    """
    joined = _several(promises)
    if not joined:
        raise ValueError("race(...) needs at least one promise")
    return _race(joined)


def _several(promises: tuple[Any, ...]) -> list[Any]:
    if len(promises) == 1 and isinstance(promises[0], Iterable):
        (only,) = promises
        if not isinstance(only, Promise | Ref | str | bytes):
            return list(only)
    return list(promises)
