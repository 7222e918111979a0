"""One promise of several (LIB-12)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from goblins._goblins import Promise, Ref, Resolver, _in_turn, on, promise_and_resolver

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
    joined = _several(promises)
    promise, resolver = promise_and_resolver()
    if not joined:
        resolver.fulfil([])
    join = _All(resolver, len(joined))
    for index, one in enumerate(joined):
        _listen(one, join.receiver(index), resolver.break_)
    return promise


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
    promise, resolver = promise_and_resolver()
    for one in joined:
        _listen(one, resolver.fulfil, resolver.break_)
    return promise


def _several(promises: tuple[Any, ...]) -> list[Any]:
    if len(promises) == 1 and isinstance(promises[0], Iterable):
        (only,) = promises
        if not isinstance(only, Promise | Ref | str | bytes):
            return list(only)
    return list(promises)


class _All:
    """Collects the values for a promise of all."""

    def __init__(self, resolver: Resolver, count: int) -> None:
        self._resolver = resolver
        self._values: list[Any] = [None] * count
        self._left = count
        # Outside of turns the values may come from several threads at once.
        self._lock = threading.Lock()

    def receiver(self, index: int) -> Callable[[Any], None]:
        def receive(value: Any) -> None:
            with self._lock:
                self._values[index] = value
                self._left -= 1
                done = self._left == 0
            if done:
                self._resolver.fulfil(self._values)

        return receive


def _listen(promise: Any, fulfilled: Callable[[Any], Any], broken: Callable[[Any], Any]) -> None:
    if _in_turn():
        on(promise, fulfilled, catch=broken)
    elif isinstance(promise, Promise):
        promise._subscribe(lambda value, error: fulfilled(value) if error is None else broken(error))
    else:
        fulfilled(promise)
