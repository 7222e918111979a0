"""Manners in event loops: nothing blocks the loop, nothing polls, a cancelled waiter harms nobody (AWT)."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager

import anyio
import pytest
import trio
from goblins import (
    AsyncioVat,
    DeadlockError,
    GoblinsError,
    ManualVat,
    MemoryStore,
    NoTurnError,
    RocksStore,
    Vat,
    VatClosedError,
    VatTimeoutError,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import ENV, Boom, caller, cell, child_environment, collect, counter, run_child, running_child

SECONDS = float(os.environ.get("GOBLINS_SECONDS", "2"))


class Held:
    """A vat that another thread is in."""

    def __init__(self, vat):
        self.vat = vat
        self.entered, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=lambda: vat.run(self.hold))

    def hold(self):
        self.entered.set()
        assert self.leave.wait(60)

    def __enter__(self):
        self.thread.start()
        assert self.entered.wait(60)
        return self

    def __exit__(self, *_):
        self.let_go()

    def let_go(self):
        self.leave.set()
        self.thread.join()


async def some_rounds():
    for _ in range(10):
        await asyncio.sleep(0)


class Heard(logging.Handler):
    """Keeps what the library logs, and tells when there is something."""

    def __init__(self):
        super().__init__()
        self.records = []
        self.event = threading.Event()

    def emit(self, record):
        self.records.append(record)
        self.event.set()


@pytest.fixture
def heard():
    handler = Heard()
    logging.getLogger("goblins").addHandler(handler)
    yield handler
    logging.getLogger("goblins").removeHandler(handler)


def waiting_for(promise):
    """What a promise keeps for those who wait."""
    return [thing for thing in gc.get_referents(promise) if not isinstance(thing, type)]


KINDS = {"Vat": Vat, "ManualVat": ManualVat, "AsyncioVat": AsyncioVat}


@pytest.fixture(params=KINDS)
async def any_vat(request):
    vat = KINDS[request.param](name="home")
    yield vat
    await vat.close_async()


class TestRunAsync:
    async def test_it_is_one_turn(self, any_vat):
        box, ticks = any_vat.spawn(cell), any_vat.spawn(counter)

        def body(value, *, also):
            box.put((value, also))
            return ticks(), ticks()

        assert await any_vat.run_async(body, 1, also=2) == (0, 1)
        assert box.get() == (1, 2)

    async def test_its_error_reaches_the_waiter_and_undoes_the_turn(self, any_vat):
        box = any_vat.spawn(cell, "before")
        error = Boom("no")

        def body():
            box.put("after")
            raise error

        with pytest.raises(Boom) as caught:
            await any_vat.run_async(body)
        assert caught.value is error
        assert box.get() == "before"

    async def test_what_was_sent_before_is_handled_before(self):
        vat = Vat()
        box = vat.spawn(cell)
        tell(box.put, "told")
        assert await vat.run_async(box.get) == "told"
        vat.close()

    async def test_a_promise_that_it_returns_is_waited_for(self, any_vat):
        gate, opener = promise_and_resolver()

        async def wait():
            return await gate

        later = asyncio.ensure_future(any_vat.run_async(wait))
        other = asyncio.ensure_future(any_vat.run_async(lambda: on(gate, str.upper)))
        await some_rounds()
        opener.fulfil("open")
        if isinstance(any_vat, ManualVat):
            while not (later.done() and other.done()):
                await any_vat.drain_async()
                await asyncio.sleep(0)
        assert (await later, await other) == ("open", "OPEN")

    async def test_the_loop_goes_on_while_the_vat_is_busy(self, vat):
        ticks = vat.spawn(counter)
        with Held(vat) as held:
            running = asyncio.ensure_future(vat.run_async(ticks))
            await some_rounds()
            assert not running.done()
            held.let_go()
            assert await running == 0

    async def test_many_wait_for_one_busy_vat_without_a_thread_each(self, vat):
        ticks = vat.spawn(counter)
        with Held(vat) as held:
            before = threading.active_count()
            running = [asyncio.ensure_future(vat.run_async(ticks)) for _ in range(500)]
            await some_rounds()
            assert threading.active_count() == before
            held.let_go()
            assert await asyncio.gather(*running) == list(range(500))

    async def test_it_returns_when_what_it_did_is_durable(self, tmp_path):
        path = tmp_path / "store.db"
        async with RocksStore(path) as store:
            vat, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
            assert [await vat.run_async(ticks) for _ in range(5)] == list(range(5))
            with pytest.raises(Boom):
                await vat.run_async(lambda: (ticks(), raising(Boom())))
        async with RocksStore(path) as store:
            vat, ticks = spawn_persistent_vat(ENV, lambda: None, store)
            assert await vat.run_async(ticks) == 5

    async def test_which_thread_it_runs_on(self):
        here = threading.get_ident()
        vat, looped = Vat(), AsyncioVat()
        assert await vat.run_async(threading.get_ident) != here
        assert await looped.run_async(threading.get_ident) == here
        vat.close()
        looped.close()

    async def test_a_cancelled_waiter_leaves_the_turn_to_go_on(self, vat):
        box = vat.spawn(cell)
        with Held(vat) as held:
            running = asyncio.ensure_future(vat.run_async(box.put, "done"))
            await some_rounds()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            held.let_go()
        assert box.get() == "done"

    async def test_an_error_after_the_waiter_was_cancelled_is_logged(self, vat, heard):
        def fail():
            raise Boom("unheard")

        with Held(vat) as held:
            running = asyncio.ensure_future(vat.run_async(fail))
            await some_rounds()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            held.let_go()
        del running
        collect()
        assert await asyncio.to_thread(heard.event.wait, 60)
        assert [record.exc_info[1].args for record in heard.records] == [("unheard",)]

    async def test_in_a_turn_it_is_an_error(self, any_vat):
        with any_vat:
            for use in (any_vat.run_async, any_vat.drain_async, any_vat.close_async):
                with pytest.raises(DeadlockError, match="home"):
                    use() if use != any_vat.run_async else use(len, "")

    async def test_a_coroutine_that_is_awaited_in_a_turn_closes_nothing(self, vat):
        closing = vat.close_async()
        with vat, pytest.raises(DeadlockError):
            await closing
        assert not vat.closed

    async def test_a_closed_vat_says_so(self, any_vat):
        await any_vat.close_async()
        with pytest.raises(VatClosedError, match="home"):
            await any_vat.run_async(len, "text")
        with pytest.raises(VatClosedError):
            await any_vat.drain_async()
        await any_vat.close_async()

    async def test_a_vat_that_is_closed_while_one_waits_tells_him(self):
        vat = Vat("gone")
        with Held(vat) as held:
            running = asyncio.ensure_future(vat.run_async(len, "text"))
            await some_rounds()
            closing = asyncio.ensure_future(vat.close_async())
            while not vat.closed:
                await asyncio.sleep(0)
            held.let_go()
            await closing
            with pytest.raises(VatClosedError, match="gone"):
                await running


class TestDrainAsync:
    async def test_it_waits_until_all_is_done(self, any_vat):
        ticks = any_vat.spawn(counter)
        for _ in range(500):
            tell(ticks)
        await any_vat.drain_async()
        assert any_vat.backlog == 0
        assert ticks() == 500

    async def test_the_loop_goes_on_meanwhile_and_a_timeout_ends_it(self, vat):
        with Held(vat):
            with pytest.raises(VatTimeoutError, match="home"):
                await vat.drain_async(timeout=0.01)

    async def test_a_vat_on_this_loop_has_a_timeout_too(self):
        vat = AsyncioVat(name="endless")
        ticks = vat.spawn(counter)
        await vat.drain_async(timeout=0)
        for _ in range(2000):
            tell(ticks)
        with pytest.raises(VatTimeoutError, match="endless"):
            await vat.drain_async(timeout=0)
        await vat.drain_async()
        assert ticks() == 2000
        await vat.close_async()

    @pytest.mark.parametrize("loop", ["name", 3, asyncio])
    def test_the_loop_of_a_vat_is_one_of_asyncio(self, loop):
        with pytest.raises(TypeError, match="loop is an event loop of asyncio, not .*name="):
            AsyncioVat(loop)

    async def test_a_timeout_is_a_number_of_seconds(self, any_vat):
        with pytest.raises(ValueError, match="nan"):
            any_vat.drain_async(float("nan"))
        with pytest.raises(TypeError):
            any_vat.drain_async("soon")
        await any_vat.drain_async(-1)

    async def test_a_vat_of_another_loop_is_drained_there(self):
        vat = AsyncioVat()
        ticks = vat.spawn(counter)
        for _ in range(10):
            tell(ticks)
        await asyncio.to_thread(lambda: asyncio.run(vat.drain_async(30)))
        assert ticks() == 10
        await vat.close_async()


class TestLives:
    async def test_a_vat_is_closed_at_the_end_of_its_block(self):
        async with Vat("short") as vat:
            assert isinstance(vat, Vat)
            ticks = vat.spawn(counter)
            assert await send(ticks) == 0
        assert vat.closed
        with pytest.raises(VatClosedError):
            ticks()

    async def test_also_when_the_block_fails(self):
        with pytest.raises(Boom):
            async with Vat() as vat:
                raise Boom
        assert vat.closed

    async def test_a_store_is_closed_with_its_vats(self, tmp_path):
        async with RocksStore(tmp_path / "s") as store:
            vat, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
            assert ticks() == 0
        assert vat.closed
        async with RocksStore(tmp_path / "s") as store, MemoryStore():
            _, ticks = spawn_persistent_vat(ENV, lambda: None, store)
            assert ticks() == 1

    async def test_a_vat_in_a_store_can_be_left_and_opened_again(self):
        async with MemoryStore() as store:
            for n in range(3):
                vat, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
                async with vat:
                    assert await vat.run_async(ticks) == n

    async def test_the_loop_goes_on_while_the_last_turn_ends(self):
        vat = Vat()
        with Held(vat) as held:

            async def block():
                async with vat:
                    pass

            closing = asyncio.ensure_future(block())
            while not vat.closed:
                await asyncio.sleep(0)
            await some_rounds()
            assert not closing.done()
            held.let_go()
            await closing

    async def test_a_waiter_that_is_cancelled_is_so_when_all_is_closed(self, tmp_path):
        store = RocksStore(tmp_path / "s")
        vat, _ = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        with Held(vat) as held:

            async def block():
                async with store:
                    pass

            closing = asyncio.ensure_future(block())
            while not vat.closed:
                await asyncio.sleep(0)
            closing.cancel()
            await some_rounds()
            closing.cancel()
            await some_rounds()
            assert not closing.done()
            held.let_go()
            with pytest.raises(asyncio.CancelledError):
                await closing
        RocksStore(tmp_path / "s").close()

    async def test_it_is_no_turn(self):
        async with Vat(), MemoryStore():
            with pytest.raises(NoTurnError):
                spawn(counter)

    async def test_it_can_not_end_in_a_turn(self, vat):
        other = Vat()
        with vat:
            with pytest.raises(DeadlockError):
                async with other:
                    pass
        assert not other.closed
        other.close()


class TestCancelledWaiters:
    async def test_the_promise_stays_usable(self, vat):
        promise, resolver = promise_and_resolver()

        async def wait():
            return await promise

        first, second = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
        await some_rounds()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0)
        resolver.fulfil("still")
        assert await second == "still"
        assert await promise == "still"
        assert promise.result(30) == "still"

    async def test_they_are_not_kept(self):
        promise, resolver = promise_and_resolver()

        class Token:
            pass

        async def wait(token):
            await promise

        token = Token()
        seen = weakref.ref(token)
        task = asyncio.ensure_future(wait(token))
        del token
        await some_rounds()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        assert waiting_for(promise) == []
        # The loop itself holds the task that has ended until the next round.
        await some_rounds()
        collect()
        assert seen() is None
        resolver.fulfil(None)

    @pytest.mark.parametrize("order", [1, -1], ids=["the oldest first", "the newest first"])
    async def test_of_many_no_more_are_kept_than_wait_still(self, order):
        promise, resolver = promise_and_resolver()

        async def wait():
            return await promise

        tasks = [asyncio.ensure_future(wait()) for _ in range(500)]
        await some_rounds()
        last = tasks.pop(250)
        for task in tasks[::order]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        assert len(waiting_for(promise)) == 1
        resolver.fulfil("still")
        assert await last == "still"

    async def test_an_error_that_only_they_have_asked_for_is_logged(self, caplog):
        caplog.set_level(logging.ERROR, logger="goblins")
        promise, resolver = promise_and_resolver()
        task = asyncio.ensure_future(TestManyAtOnce.one(promise))
        await some_rounds()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            promise.result(0)
        resolver.break_(Boom("unheard"))
        del promise, resolver, task
        # The loop itself holds the task that has ended until the next round.
        await some_rounds()
        collect()
        assert len(caplog.records) == 1

    async def test_the_turn_behind_a_promise_goes_on(self, vat):
        gate, opener = promise_and_resolver()
        box = vat.spawn(cell)

        def waiter(bcom):
            async def wait():
                box.put(await gate)

            return wait

        answer = send(vat.spawn(waiter))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer, 0)
        opener.fulfil("done")
        assert await answer is None
        assert box.get() == "done"

    async def test_a_loop_that_is_closed_while_somebody_waits_harms_nobody(self):
        promise, resolver = promise_and_resolver()

        async def wait():
            return await promise

        def short():
            loop = asyncio.new_event_loop()
            task = loop.create_task(wait())
            loop.call_soon(loop.stop)
            loop.run_forever()
            task._log_destroy_pending = False
            loop.close()
            return task

        task = await asyncio.to_thread(short)
        resolver.fulfil("late")
        assert await promise == "late"
        del task


class TestManyAtOnce:
    async def test_one_promise_may_be_awaited_in_many_loops_and_threads(self):
        promise, resolver = promise_and_resolver()
        ready = threading.Barrier(9)
        answers = []

        async def wait():
            waits = [asyncio.ensure_future(self.one(promise)) for _ in range(20)]
            await asyncio.sleep(0)
            ready.wait(60)
            answers.extend(await asyncio.gather(*waits))

        def in_trio():
            async def wait():
                ready.wait(60)
                answers.append(await promise)

            trio.run(wait)

        threads = [threading.Thread(target=lambda: asyncio.run(wait())) for _ in range(4)]
        threads += [threading.Thread(target=in_trio) for _ in range(2)]
        threads += [
            threading.Thread(target=lambda: (ready.wait(60), answers.append(promise.result(60))))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        await asyncio.to_thread(ready.wait, 60)
        resolver.fulfil(7)
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert answers == [7] * 84

    @staticmethod
    async def one(promise):
        return await promise

    @pytest.mark.timeout(120 + 3 * SECONDS)
    async def test_tasks_on_one_vat_and_threads_on_another_lose_nothing(self, vat, other_vat):
        one, two = vat.spawn(counter), other_vat.spawn(counter)
        end = time.monotonic() + SECONDS
        counts = []

        async def task(number):
            done = 0
            while done < 3 or time.monotonic() < end:
                match (number + done) % 4:
                    case 0:
                        await send(one)
                    case 1:
                        await vat.run_async(one)
                    case 2:
                        with vat:
                            one()
                    case 3:
                        waiting = asyncio.ensure_future(vat.run_async(one))
                        await asyncio.sleep(0)
                        waiting.cancel()
                done += 1
            counts.append(done)

        totals = []

        def thread(number):
            done = 0
            while done < 3 or time.monotonic() < end:
                match (number + done) % 3:
                    case 0:
                        two()
                    case 1:
                        send(two).result(60)
                    case 2:
                        tell(two)
                done += 1
            totals.append(done)

        threads = [threading.Thread(target=thread, args=(n,)) for n in range(8)]
        for each in threads:
            each.start()
        await asyncio.gather(*(task(n) for n in range(64)))
        for each in threads:
            await asyncio.to_thread(each.join)
        await vat.drain_async(60)
        await other_vat.drain_async(60)
        assert len(counts) == 64
        assert len(totals) == 8
        assert one() == sum(counts)
        assert two() == sum(totals)
        print(f"{sum(counts)} turns from 64 tasks, {sum(totals)} from 8 threads in {SECONDS} s")


BACKENDS = ["asyncio", "trio"]


@pytest.mark.parametrize("backend", BACKENDS)
class TestThroughAnyio:
    """Not in the loop that the other tests run in: each has one of its own."""

    def test_promises_can_be_awaited(self, vat, backend):
        ticks, call = vat.spawn(counter), vat.spawn(caller)

        async def main():
            assert [await send(ticks) for _ in range(3)] == [0, 1, 2]
            with pytest.raises(Boom, match="there"):
                await send(call, raising, Boom("there"))
            assert await vat.run_async(ticks) == 3
            await vat.drain_async(30)

        anyio.run(main, backend=backend)

    def test_several_tasks_wait_while_others_go_on(self, vat, backend):
        promise, resolver = promise_and_resolver()
        answers = []

        async def wait(n):
            answers.append((n, await promise))

        async def settle():
            await anyio.sleep(0)
            assert answers == []
            resolver.fulfil("open")

        async def main():
            async with anyio.create_task_group() as group:
                for n in range(20):
                    group.start_soon(wait, n)
                group.start_soon(settle)

        anyio.run(main, backend=backend)
        assert sorted(answers) == [(n, "open") for n in range(20)]

    def test_a_wait_can_be_cancelled(self, vat, backend):
        promise, resolver = promise_and_resolver()

        async def main():
            with anyio.move_on_after(0.001) as scope:
                await promise
            assert scope.cancelled_caught
            assert waiting_for(promise) == []
            resolver.fulfil("later")
            assert await promise == "later"

        anyio.run(main, backend=backend)

    def test_the_life_of_a_store_ends_with_its_block_also_when_that_is_cancelled(self, tmp_path, backend):
        async def main():
            with anyio.CancelScope() as scope:
                async with RocksStore(tmp_path / "s") as store:
                    vat, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
                    assert await send(ticks) == 0
                    scope.cancel()
                    await anyio.sleep(60)
            assert vat.closed
            RocksStore(tmp_path / "s").close()

        anyio.run(main, backend=backend)

    def test_a_promise_that_is_settled_already_can_be_awaited(self, vat, backend):
        promise, resolver = promise_and_resolver()
        resolver.fulfil(1)

        async def main():
            return await promise + await promise

        assert anyio.run(main, backend=backend) == 2

    def test_a_run_that_ends_while_one_waits_harms_nobody(self, vat, backend):
        promise, resolver = promise_and_resolver()

        async def wait():
            await promise

        async def main():
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.sleep(0)
                group.cancel_scope.cancel()

        anyio.run(main, backend=backend)
        resolver.fulfil(None)
        assert promise.result(30) is None


def raising(error):
    raise error


def test_trio_alone_works_too(vat):
    ticks = vat.spawn(counter)

    async def main():
        async with Vat() as other:
            assert await send(ticks) == 0
            return await other.run_async(lambda: 1)

    assert trio.run(main) == 1


def test_a_coroutine_that_no_loop_runs_says_so():
    async def wait():
        promise, _ = promise_and_resolver()
        await promise

    with pytest.raises(RuntimeError, match="loop"):
        wait().send(None)


def test_neither_trio_nor_anyio_is_imported_for_an_await():
    code = """
import asyncio, sys
from goblins import Vat, send

async def main():
    async with Vat() as vat:
        ref = vat.spawn(lambda bcom: lambda: 1)
        assert await send(ref) == 1
        assert await vat.run_async(ref) == 1
        await vat.drain_async()

asyncio.run(main())
print([name for name in ("trio", "anyio", "sniffio") if name in sys.modules])
"""
    child = run_child("run_code.py", code)
    assert (child.returncode, child.stdout) == (0, "[]\n"), child.stderr


def test_who_waits_uses_no_cpu_time():
    child = run_child("idle.py")
    assert child.returncode == 0, child.stderr
    assert float(child.stdout) < 0.2


@contextmanager
def interrupting(child):
    """Ctrl-C, and again should nothing come of it: one that another thread takes does not wake the loop."""
    answered = threading.Event()

    def repeat():
        child.send_signal(signal.SIGINT)
        while not answered.wait(10):
            child.send_signal(signal.SIGINT)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        answered.set()
        thread.join()


@pytest.mark.parametrize("wait", ["promise", "run_async", "drain_async", "close_async", "block"])
def test_ctrl_c_ends_a_loop_that_waits_and_the_process_ends(wait):
    with running_child("interrupted_loop.py", wait, text=True, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline() == "waiting\n"
        with interrupting(child):
            assert child.stdout.readline() == "interrupted\n"
        assert child.wait() == 0
        assert "Error" not in child.stderr.read()


def test_one_ctrl_c_is_enough_where_a_turn_that_never_ends_is_waited_for():
    with running_child("interrupted_loop.py", "busy", text=True, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline() == "waiting\n"
        assert child.stdout.readline() == "closing\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
        assert child.wait() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_gets_a_clear_error():
    code = """
import asyncio, os
from goblins import GoblinsError, Vat

vat = Vat()
vat.spawn(lambda bcom: lambda: 1)
if (pid := os.fork()) == 0:
    for use in (lambda: vat.run_async(len, ""), vat.drain_async, vat.close_async):
        try:
            use()
        except GoblinsError as error:
            assert "fork" in str(error)
        else:
            os._exit(1)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print("done")
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr


def test_the_names_are_errors_of_the_library():
    assert issubclass(DeadlockError, GoblinsError)
