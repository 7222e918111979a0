"""Promises and asyncio: waiting for the one in the other, in any loop and any thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any, ParamSpec, TypeVar

from goblins._errors import BrokenPromiseError, GoblinsError
from goblins._goblins import Promise, Resolver, _in_turn, on, promise_and_resolver

P = ParamSpec("P")
T = TypeVar("T")


def wait_for(promise: Promise[Any]) -> Generator[Any, None, Any]:
    """Waits in the running loop; wake-ups come by ``call_soon_threadsafe``."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def transfer(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if isinstance(error, StopIteration):
            # asyncio can't carry it.
            future.set_exception(RuntimeError(f"the promise was broken with {error!r}"))
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def settled(value: Any, error: BaseException | None) -> None:
        # A loop that was closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(transfer, value, error)

    promise._subscribe(settled)
    return (yield from future)


def wait_in_turn(promise: Promise[Any]) -> Generator[Promise[Any], Any, Any]:
    """Suspends an ``async def`` behavior until the promise has settled."""
    return (yield promise)


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Calls a function on the thread of a loop, from another one, and waits for what it returns."""
    if not loop.is_running():
        raise GoblinsError(
            f"the event loop of the vat does not run, so nothing can be called there: {loop!r}"
        )
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    loop.call_soon_threadsafe(run)
    return future.result()


def from_awaitable(awaitable: Awaitable[T], loop: asyncio.AbstractEventLoop | None = None) -> Promise[T]:
    """Runs what asyncio can await on a loop of asyncio, and gives a promise of its result (AWT-10).

    Called in a turn, it starts when the turn has succeeded, so that a turn that fails starts nothing.

    Args:
        awaitable: a coroutine, a future or another awaitable.
        loop: the loop; without one, that which runs on this thread.

    Returns:
        A promise of the result. A cancelled awaitable breaks it with BrokenPromiseError.

    Raises:
        RuntimeError: no loop was given, and none runs on this thread.
    """
    where = asyncio.get_running_loop() if loop is None else loop
    promise, resolver = promise_and_resolver()
    _start(_OnLoop(awaitable, where, resolver))
    return promise


def to_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Promise[T]:
    """Calls a function that blocks on a thread outside of all vats, and gives a promise of its result.

    Called in a turn, it starts when the turn has succeeded. The function must not touch what belongs to the
    actors: pass it plain values.

    Returns:
        A promise of what the function returns; its error breaks it.
    """
    promise, resolver = promise_and_resolver()
    call = functools.partial(function, *args, **kwargs)
    _start(lambda: _transfer(_executor().submit(call), resolver))
    return promise


@functools.cache
def _executor() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(thread_name_prefix="goblins-blocking")


def _start(begin: Callable[[], Any]) -> None:
    if _in_turn():
        nothing: Any = None
        on(nothing, lambda _: begin())
    else:
        begin()


class _OnLoop:
    """An awaitable that is still to be started."""

    def __init__(
        self, awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop, resolver: Resolver
    ) -> None:
        self._awaitable: Awaitable[Any] | None = awaitable
        self._loop = loop
        self._resolver = resolver

    def __call__(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._run)
        except RuntimeError as error:
            self._resolver.break_(error)

    def _run(self) -> None:
        awaitable, self._awaitable = self._awaitable, None
        if awaitable is not None:
            _transfer(asyncio.ensure_future(awaitable, loop=self._loop), self._resolver)

    def __del__(self) -> None:
        # The turn failed: a coroutine that was never started would complain.
        if inspect.iscoroutine(self._awaitable):
            self._awaitable.close()


def _transfer(future: Any, resolver: Resolver) -> None:
    def done(future: Any) -> None:
        if future.cancelled():
            resolver.break_(BrokenPromiseError("what the promise stood for was cancelled"))
        elif (error := future.exception()) is not None:
            resolver.break_(error)
        else:
            resolver.fulfil(future.result())

    future.add_done_callback(done)
