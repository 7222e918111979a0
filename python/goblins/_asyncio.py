"""Promises and event loops: waiting for the one in the other, in any loop and any thread."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from goblins._errors import DeadlockError, GoblinsError, VatClosedError, VatTimeoutError, note_closing
from goblins._goblins import (
    ManualVat,
    Promise,
    Resolver,
    Store,
    Vat,
    _in_turn,
    promise_and_resolver,
)

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

# asyncio is imported by the first who needs it: that takes longer than importing all else.
T = TypeVar("T")
# How many seconds a turn may take to end once nobody wants to wait for it any more.
CLOSING_PATIENCE = 1.0

L = TypeVar("L", bound=Vat | Store)


def runs_in_trio() -> bool:
    """Whether trio runs the task that is here. It is not imported for that: what runs was imported before."""
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        try:
            return bool(sniffio.current_async_library() == "trio")
        except sniffio.AsyncLibraryNotFoundError:
            pass
    return bool(trio.lowlevel.in_trio_task())


def wait_in_trio(promise: Promise[Any]) -> Generator[Any, None, Any]:
    """Waits in trio, woken by what it has for that."""
    return _wait_in_trio(promise).__await__()


async def _wait_in_trio(promise: Promise[Any]) -> Any:
    import trio

    token = trio.lowlevel.current_trio_token()
    woken = trio.Event()
    outcome: list[tuple[Any, BaseException | None, TracebackType | None]] = []

    def wake(value: Any, error: BaseException | None, traceback: TracebackType | None) -> None:
        outcome.append((value, error, traceback))
        woken.set()

    def settled(value: Any, error: BaseException | None) -> None:
        traceback = None if error is None else error.__traceback__
        # A run that is over has nobody left who waits.
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(wake, value, error, traceback)

    promise._subscribe(settled)
    try:
        await woken.wait()
    except BaseException:
        promise._unsubscribe(settled)
        raise
    value, error, traceback = outcome.pop()
    if error is not None:
        # Others who waited may have raised it meanwhile.
        raise error.with_traceback(traceback)
    return value


def wait_in_turn(promise: Promise[Any]) -> Generator[Promise[Any], Any, Any]:
    """Suspends an ``async def`` behavior until the promise has settled."""
    return (yield promise)


def call_on(
    loop: asyncio.AbstractEventLoop, vat: str, function: Callable[..., T], args: Any, kwargs: Any
) -> T:
    """Calls a function on the thread of a loop, from another one, and waits for what it returns."""
    if loop.is_closed():
        raise _loop_closed(vat)
    if not loop.is_running():
        raise GoblinsError(
            f"the event loop of vat {vat} does not run, so nothing can be called there: {loop!r}"
        )
    from concurrent.futures import Future

    future: Future[T] = Future()
    try:
        # Nothing but the loop refers to the call: it is dropped with the loop.
        loop.call_soon_threadsafe(_Call(vat, future, functools.partial(function, *args, **kwargs)))
    except RuntimeError:
        if loop.is_closed():
            raise _loop_closed(vat) from None
        raise
    return future.result()


def _loop_closed(vat: str) -> VatClosedError:
    return VatClosedError(f"the event loop of vat {vat} is closed, and the vat with it")


class _Call:
    """A call that a loop is to make. A loop that is closed drops what it has not called."""

    def __init__(self, vat: str, future: concurrent.futures.Future[Any], function: Callable[[], Any]) -> None:
        self._vat = vat
        self._future = future
        self._function = function

    def __call__(self) -> None:
        try:
            value = self._function()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(value)

    def __del__(self) -> None:
        if not self._future.done():
            self._future.set_exception(_loop_closed(self._vat))


def trio_task() -> Any:
    """The task that trio runs on this thread."""
    trio: Any = sys.modules["trio"]
    try:
        return trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None
    except AttributeError:
        # It is being imported.
        return None


def call_soon_in_trio(function: Callable[[], object]) -> None:
    """Has trio call something when the task that is here waits."""
    trio: Any = sys.modules["trio"]
    trio.lowlevel.current_trio_token().run_sync_soon(function)


def has_ended(owner: Any) -> bool:
    """Whether a task, or a loop of asyncio, will never go on."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio and isinstance(owner, asyncio.AbstractEventLoop):
        return bool(owner.is_closed())
    if asyncio and isinstance(owner, asyncio.Future):
        return bool(owner.done())
    coroutine = getattr(owner, "coro", None)
    return inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def run_async(
    vat: Vat, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``Vat.run_async``: the turn is one more message of the vat, so nobody waits but the one who asked."""
    call = functools.partial(function, *args, **kwargs)
    if isinstance(vat, ManualVat):
        # Its messages would wait for a step, and ``run`` does not.
        return await _in_thread(lambda: vat.run(call))
    return await vat._run_later(lambda _: call())


async def drain_async(vat: Vat, timeout: float | None) -> None:
    """``Vat.drain_async``."""
    import asyncio

    if vat._loop is None or vat._loop is not asyncio._get_running_loop():
        return await _in_thread(lambda: vat.drain(timeout))
    # The vat needs this very thread: wait until what was there before has been done and is durable.
    limit = asyncio.timeout(None if timeout is None else max(timeout, 0.0))
    try:
        async with limit:
            await vat._run_later(_nothing)
            while vat.backlog:
                await vat._run_later(_nothing)
    except TimeoutError:
        if vat.backlog or not limit.expired():
            raise VatTimeoutError(f"vat {vat.name} has not come to rest in time") from None


def _nothing(_: Any) -> None:
    pass


async def save_async(vat: Vat) -> None:
    """``Vat.save_async``: what is released after a save has been written."""
    if isinstance(vat, ManualVat):
        return await _in_thread(vat.save)
    await vat._run_later(lambda _: vat._save_soon())


async def close_async(vat: Vat) -> None:
    """``Vat.close_async``."""
    _refuse_in_turn(vat)
    await _in_thread(vat.close)


async def enter_life(life: L) -> L:
    """``async with`` of a vat or a store."""
    return life


async def exit_life(life: Vat | Store, error: BaseException | None = None) -> Literal[False]:
    """Closes a vat or a store. A waiter that is cancelled is so when it has been closed, or soon after.

    An error of the block goes on; if closing fails too, it gets a note of that.
    """
    import asyncio

    _refuse_in_turn(life)
    ended = threading.Event()

    def close() -> None:
        try:
            life.close()
        finally:
            ended.set()

    closing = _in_thread(close)
    cancelled: BaseException | None = None
    deadline: float | None = None
    with _shield():
        while True:
            try:
                if deadline is None:
                    await closing
                else:
                    async with asyncio.timeout_at(deadline):
                        await closing
            except asyncio.CancelledError as cancel:
                cancelled = cancel
                if not ended.is_set():
                    # A turn that never ends must not keep whoever wants to leave.
                    deadline = deadline or asyncio.get_running_loop().time() + CLOSING_PATIENCE
                    continue
            except Exception as failure:
                if cancelled is not None and isinstance(failure, TimeoutError):
                    break
                if error is None:
                    raise
                note_closing(error, failure)
            break
    if cancelled is not None:
        raise cancelled
    return False


def _shield() -> contextlib.AbstractContextManager[Any]:
    """Keeps those libraries that cancel a task again and again from doing so."""
    for name, runs in (("trio", runs_in_trio()), ("anyio", True)):
        library = sys.modules.get(name)
        if runs and library is not None:
            scope: contextlib.AbstractContextManager[Any] = library.CancelScope(shield=True)
            return scope
    return contextlib.nullcontext()


def _refuse_in_turn(life: Vat | Store) -> None:
    if _in_turn():
        raise DeadlockError(f"{life!r} can't be closed in a turn: close it outside of all vats")


def _in_thread(function: Callable[[], T]) -> Promise[T]:
    """Calls a function that waits on a thread of its own, which does not keep the process from ending."""
    promise, resolver = promise_and_resolver()
    call = functools.partial(settle_with, resolver, function)
    threading.Thread(target=call, name="goblins-wait", daemon=True).start()
    return promise


def settle_with(resolver: Resolver, function: Callable[[], Any]) -> None:
    """Settles a promise with what a function returns or raises."""
    try:
        resolver.fulfil(function())
    except BaseException as error:
        resolver.break_(error)
