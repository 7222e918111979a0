"""Work outside of all vats: what asyncio runs, and functions that block.

What a turn starts outside is output, like an answer: it starts when all that the turn did is durable (G2).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from goblins import _threads
from goblins._asyncio import settle_with
from goblins._errors import BrokenPromiseError, NoLoopError, PersistenceError
from goblins._goblins import Promise, Resolver, _check_process, _in_turn, promise_and_resolver

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
T = TypeVar("T")


def from_awaitable(awaitable: Awaitable[T], loop: asyncio.AbstractEventLoop | None = None) -> Promise[T]:
    """Runs what asyncio can await on a loop of asyncio, and gives a promise of its result (AWT-10).

    Called in a turn, it starts when all that the turn did is durable. A turn that fails starts nothing.

    Args:
        awaitable: a coroutine, a future or another awaitable.
        loop: the loop; without one, that which runs on this thread.

    Returns:
        A promise of the result. A cancelled awaitable breaks it with BrokenPromiseError.

    Raises:
        NoLoopError: no loop was given, and none runs on this thread.
    """
    _check_process()
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"from_awaitable needs what can be awaited, not {type(awaitable).__name__}")
    import asyncio

    where = asyncio._get_running_loop() if loop is None else loop
    if where is None:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise NoLoopError(
            "from_awaitable(...) was called where no event loop of asyncio runs: a Vat runs its turns on any "
            "thread. Give it the loop, from_awaitable(awaitable, loop), or use an AsyncioVat, whose turns "
            "run on its loop; for a function that blocks use to_thread(...)"
        )
    promise, resolver = promise_and_resolver()
    _start(_OnLoop(awaitable, where, resolver))
    return promise


def to_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Promise[T]:
    """Calls a function that blocks on a thread outside of all vats, and gives a promise of its result.

    Called in a turn, it starts when all that the turn did is durable. The function must not touch what
    belongs to the actors: pass it plain values. Up to 256 such calls run at a time, and one that still runs
    at the end of the process gets one second to end.

    Returns:
        A promise of what the function returns; its error breaks it.
    """
    _check_process()
    promise, resolver = promise_and_resolver()
    _start(_OnThread(functools.partial(function, *args, **kwargs), resolver))
    return promise


class _Work:
    """What is still to be started, and the right to settle the promise of its result."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def begin(self) -> None:
        raise NotImplementedError

    def released(self, _: Any, error: BaseException | None) -> None:
        """The turn that wants it is durable, or was undone."""
        if error is None:
            try:
                return self.begin()
            except BaseException as failure:
                self._resolver.break_(failure)
        elif isinstance(error, PersistenceError):
            # What the turn did could not be written.
            self._resolver.break_(error)
        self.drop()

    def drop(self) -> None:
        """It will not be started."""


def _start(work: _Work) -> None:
    if not _in_turn():
        work.released(None, None)
        return
    # Settled in this turn, so whoever waits outside of all vats hears of it when the turn is durable.
    done, resolver = promise_and_resolver()
    done._subscribe(work.released)
    resolver.fulfil(None)


class _OnThread(_Work):
    def __init__(self, call: Callable[[], Any], resolver: Resolver) -> None:
        super().__init__(resolver)
        self._call = call

    def begin(self) -> None:
        _threads.run(functools.partial(settle_with, self._resolver, self._call))


class _OnLoop(_Work):
    def __init__(
        self, awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop, resolver: Resolver
    ) -> None:
        super().__init__(resolver)
        self._awaitable: Awaitable[Any] | None = awaitable
        self._loop = loop

    def begin(self) -> None:
        self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        awaitable, self._awaitable = self._awaitable, None
        if awaitable is None:
            return
        import asyncio

        try:
            future = asyncio.ensure_future(awaitable, loop=self._loop)
        except BaseException as error:
            self._resolver.break_(error)
        else:
            future.add_done_callback(functools.partial(_transfer, self._resolver))

    def drop(self) -> None:
        awaitable, self._awaitable = self._awaitable, None
        # A coroutine that was never started would complain.
        if inspect.iscoroutine(awaitable):
            awaitable.close()


def _transfer(resolver: Resolver, future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        resolver.break_(BrokenPromiseError("what the promise stood for was cancelled"))
    elif (error := future.exception()) is not None:
        resolver.break_(error)
    else:
        settle_with(resolver, future.result)
