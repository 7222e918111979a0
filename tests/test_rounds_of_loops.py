"""What settles is told to an event loop in one call for all, and in none on the thread of the loop itself."""

import asyncio
import gc
import threading

import pytest
from goblins import (
    AsyncioVat,
    RocksStore,
    Vat,
    from_awaitable,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import ENV, Boom, counter, echo, failing

uvloop = pytest.importorskip("uvloop")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine in a loop of each kind."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(coroutine)

    return run


class Counting(asyncio.SelectorEventLoop):
    """Counts the calls from other threads, and keeps what each of them left in its thread."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.local = threading.local()
        self.left = []

    def call_soon_threadsafe(self, *args, **kwargs):
        self.calls += 1
        self.left.append(getattr(self.local, "number", None))
        self.local.number = self.calls
        return super().call_soon_threadsafe(*args, **kwargs)


def counting(coroutine):
    with asyncio.Runner(loop_factory=Counting) as runner:
        return runner.run(coroutine)


async def rounds(number=5):
    for _ in range(number):
        await asyncio.sleep(0)


def on_a_thread(call):
    """Calls it on another thread while this one, and its loop, wait."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_one_call_of_the_loop_wakes_all_whose_promises_have_settled_meanwhile():
    async def main():
        pairs = [promise_and_resolver() for _ in range(100)]
        waiting = asyncio.gather(*(promise for promise, _ in pairs))
        await rounds()
        loop = asyncio.get_running_loop()
        before = loop.calls
        on_a_thread(lambda: [resolver.fulfil(n) for n, (_, resolver) in enumerate(pairs)])
        assert loop.calls == before + 1
        assert await waiting == list(range(100))
        again, resolver = promise_and_resolver()
        waiting = asyncio.ensure_future(again_of(again))
        await rounds()
        on_a_thread(lambda: resolver.fulfil("later"))
        assert await waiting == "later"
        assert loop.calls == before + 2

    counting(main())


async def again_of(promise):
    return await promise


def test_what_settles_on_the_thread_of_the_loop_needs_no_call_from_another_thread():
    async def main():
        loop = asyncio.get_running_loop()
        vat = AsyncioVat()
        ticks = vat.spawn(counter)
        assert [await send(ticks) for _ in range(5)] == [0, 1, 2, 3, 4]
        assert await asyncio.gather(*(send(ticks) for _ in range(5))) == [5, 6, 7, 8, 9]
        promise, resolver = promise_and_resolver()
        waiting = asyncio.ensure_future(again_of(promise))
        await rounds()
        resolver.fulfil("here")
        assert await waiting == "here"
        tell(ticks)
        await vat.drain_async()
        assert ticks() == 11
        assert loop.calls == 0
        vat.close()

    counting(main())


def test_what_one_sync_has_made_durable_is_one_call(tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        async with RocksStore(tmp_path / "s") as store:
            _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store, vat_constructor=AsyncioVat)
            assert await asyncio.gather(*(send(ticks) for _ in range(100))) == list(range(100))
            assert 0 < loop.calls < 50

    counting(main())


def test_the_thread_that_releases_what_is_durable_is_the_same_all_the_time(tmp_path):
    """Also for Python: its thread has one state for its life."""

    async def main():
        loop = asyncio.get_running_loop()
        async with RocksStore(tmp_path / "s") as store:
            _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store, vat_constructor=AsyncioVat)
            for n in range(20):
                assert await send(ticks) == n
            # Few of them, if any, were durable before anybody had to wait.
            assert loop.calls > 1
            assert loop.left == [None, *range(1, loop.calls)]

    counting(main())


def test_errors_come_with_the_traceback_of_where_they_were_raised(run, vat):
    async def main():
        broken = send(vat.spawn(failing), Boom("there"))
        for _ in range(3):
            with pytest.raises(Boom, match="there") as caught:
                await broken
            assert len(caught.traceback) < 5

    run(main())


def test_a_promise_that_was_broken_with_stop_iteration_is_an_error(run):
    async def main():
        promise, resolver = promise_and_resolver()
        resolver.break_(StopIteration(3))
        with pytest.raises(RuntimeError, match=r"StopIteration\(3\)"):
            await promise

    run(main())


def test_a_value_may_be_a_tuple_or_an_exception(run):
    async def main():
        for value in ((1, 2), (), None, Boom("value")):
            promise, resolver = promise_and_resolver()
            resolver.fulfil(value)
            assert await promise is value

    run(main())


def test_a_loop_that_is_closed_before_its_round_harms_nobody(run):
    promise, resolver = promise_and_resolver()

    async def main():
        task = asyncio.ensure_future(again_of(promise))
        await rounds()
        on_a_thread(lambda: resolver.fulfil(1))
        return task

    task = run(main())
    del task
    gc.collect()
    assert promise.result(30) == 1
    assert run(again_of(promise)) == 1


def test_tasks_of_several_loops_wait_for_one_promise(run, vat):
    promise, resolver = promise_and_resolver()
    waiting = threading.Barrier(4)
    seen = []

    async def main():
        task = asyncio.ensure_future(again_of(promise))
        await rounds()
        waiting.wait()
        seen.append(await task)

    threads = [threading.Thread(target=lambda: run(main())) for _ in range(3)]
    for thread in threads:
        thread.start()
    waiting.wait()
    resolver.fulfil("all")
    for thread in threads:
        thread.join()
    assert seen == ["all"] * 3


def test_a_vat_of_uvloop_runs_there(run):
    async def main():
        here = threading.get_ident()
        async with AsyncioVat() as vat:
            where = vat.spawn(lambda bcom: threading.get_ident)
            assert await send(where) == here
            assert await asyncio.to_thread(where) == here
            later = vat.run(lambda: from_awaitable(asyncio.sleep(0, "slept")))
            assert await later == "slept"

    run(main())


def test_a_waiter_that_is_closed_or_driven_by_hand_is_forgotten(vat):
    async def main():
        promise, resolver = promise_and_resolver()
        waiter = promise.__await__()
        future = next(waiter)
        waiter.close()
        assert not future.done()
        with pytest.raises(StopIteration):
            next(waiter)
        waiter = promise.__await__()
        future = next(waiter)
        with pytest.raises(RuntimeError):
            next(waiter)
        waiter = promise.__await__()
        next(waiter).cancel()
        with pytest.raises(asyncio.CancelledError):
            next(waiter)
        resolver.fulfil(1)
        assert await promise == 1
        assert await send(vat.spawn(echo), 2) == 2

    asyncio.run(main())


def test_a_vat_made_in_one_loop_is_awaited_in_the_next(run):
    vat = Vat()
    ticks = vat.spawn(counter)
    assert [run(again_of(send(ticks))) for _ in range(3)] == [0, 1, 2]
    vat.close()
