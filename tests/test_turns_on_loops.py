"""An event loop runs the turns of messages that it sends, if they are known to be short."""

import asyncio
import contextvars
import threading
import time
from contextlib import asynccontextmanager

import pytest
from goblins import (
    AsyncioVat,
    NoLoopError,
    NoTurnError,
    RocksStore,
    Vat,
    from_awaitable,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import ENV, Boom, caller, counter

VARIABLE = contextvars.ContextVar("VARIABLE", default="nothing")


def where(bcom):
    """Answers on which thread its turn is, and keeps the words of its messages."""

    def turn(heard=None, word=None):
        if heard is not None:
            heard.append(word)
        return threading.get_ident()

    return turn


async def known(ref, *args, tries=1000):
    """Sends until a turn is on this thread: its code is known to be quick then."""
    for _ in range(tries):
        if await send(ref, *args) == threading.get_ident():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the loop does not run it")


@asynccontextmanager
async def a_quick_actor(**options):
    async with Vat("home", **options) as vat:
        ref = vat.spawn(where)
        await known(ref)
        yield ref


async def until(condition):
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it does not come")


class TestWhoRunsThem:
    async def test_the_loop_once_it_is_known_that_they_are_quick(self):
        async with a_quick_actor():
            pass

    async def test_actors_with_the_same_code_are_known_together(self):
        async with a_quick_actor() as ref, Vat() as vat:
            here = threading.get_ident()
            assert here in [await send(vat.spawn(where)) for _ in range(100)]
            assert here in await asyncio.gather(*(send(ref) for _ in range(100)))

    async def test_a_worker_runs_what_is_not_known(self):
        def new(bcom):
            return lambda: threading.get_ident()

        async with Vat() as vat:
            assert await send(vat.spawn(new)) != threading.get_ident()

    async def test_a_worker_runs_what_takes_long(self):
        def slow(bcom):
            def turn():
                time.sleep(0.002)
                return threading.get_ident()

            return turn

        async with Vat() as vat:
            ref = vat.spawn(slow)
            assert threading.get_ident() not in [await send(ref) for _ in range(20)]

    async def test_what_turns_out_to_take_long_goes_back_to_the_workers(self):
        def varying(bcom):
            def turn(seconds):
                if seconds:
                    time.sleep(seconds)
                return threading.get_ident()

            return turn

        async with Vat() as vat:
            ref = vat.spawn(varying)
            await known(ref, 0)
            here = threading.get_ident()
            await send(ref, 0.005)
            await send(ref, 0.005)
            assert here not in [await send(ref, 0.005) for _ in range(3)]

    async def test_code_that_waits_for_the_loop_does_not_keep_it_from_going_on(self):
        loop = asyncio.get_running_loop()

        def waiting(bcom):
            return lambda: asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "slept"), loop).result(30)

        async with Vat() as vat:
            ref = vat.spawn(waiting)
            assert [await send(ref) for _ in range(3)] == ["slept"] * 3

    async def test_workers_alone_where_that_was_asked_for(self):
        async with Vat(workers=True) as vat, a_quick_actor() as quick:
            assert vat.workers
            assert not Vat().workers
            ref = vat.spawn(where)
            here = threading.get_ident()
            assert here not in [await send(ref) for _ in range(20)]
            assert here in [await send(quick) for _ in range(100)]

    async def test_a_vat_that_another_thread_is_in_is_waited_for_without_holding_up_the_loop(self):
        async with a_quick_actor() as ref, Vat() as vat:
            busy, call = vat.spawn(where), vat.spawn(caller)
            entered, leave = threading.Event(), threading.Event()

            def hold():
                entered.set()
                assert leave.wait(30)

            holder = threading.Thread(target=call, args=(hold,))
            holder.start()
            assert entered.wait(30)
            later = asyncio.ensure_future(answer(send(busy)))
            for _ in range(5):
                await send(ref)
                await asyncio.sleep(0)
            assert not later.done()
            leave.set()
            await later
            holder.join()


async def answer(promise):
    return await promise


class TestWhen:
    async def test_not_before_the_code_that_sends_waits_or_ends_its_step(self):
        async with a_quick_actor() as ref:
            for _ in range(100):
                heard = []
                promise = send(ref, heard, "turn")
                heard.append("sent")
                here = await promise == threading.get_ident()
                assert heard[0] == "sent" or not here
                if here:
                    return
            raise AssertionError("the loop does not run it")

    async def test_a_message_that_nobody_waits_for_is_handled_too(self):
        async with a_quick_actor() as ref:
            heard = []
            tell(ref, heard, "told")
            await until(lambda: heard)

    async def test_messages_keep_their_order_whoever_waits_for_which(self):
        async with a_quick_actor() as ref:
            heard = []
            for number in range(0, 300, 3):
                tell(ref, heard, number)
                promise = send(ref, heard, number + 1)
                tell(ref, heard, number + 2)
                if number % 2:
                    await promise
            await send(ref)
            assert heard == list(range(300))

    async def test_others_get_on_while_a_task_awaits_again_and_again(self):
        async with a_quick_actor() as ref:
            rounds = 0

            async def other():
                nonlocal rounds
                while rounds < 10:
                    await asyncio.sleep(0)
                    rounds += 1

            task = asyncio.ensure_future(other())
            sent = 0
            while not task.done():
                await send(ref)
                sent += 1
            assert rounds == 10
            assert sent < 10_000

    async def test_a_crowd_of_messages_leaves_the_loop_responsive(self):
        async with a_quick_actor() as ref:
            for _ in range(100):
                rounds = 0

                async def count():
                    nonlocal rounds
                    while True:
                        await asyncio.sleep(0)
                        rounds += 1

                task = asyncio.ensure_future(count())
                promises = [send(ref) for _ in range(1000)]
                threads = {await promise for promise in promises}
                task.cancel()
                if threads == {threading.get_ident()}:
                    assert rounds > 1
                    return
            raise AssertionError("the loop does not run it")


class TestWhatTheirTurnsSee:
    async def test_neither_the_loop_nor_the_task(self):
        def looking(bcom):
            def turn():
                found = []
                for look in (asyncio.get_running_loop, asyncio.current_task):
                    try:
                        found.append(look())
                    except RuntimeError:
                        found.append(None)
                return threading.get_ident(), found

            return turn

        async with Vat() as vat:
            ref = vat.spawn(looking)
            here, task = threading.get_ident(), asyncio.current_task()
            threads = set()
            for _ in range(1000):
                thread, found = await send(ref)
                assert found == [None, None]
                assert asyncio.current_task() is task
                threads.add(thread)
                if here in threads:
                    break
            assert here in threads

    async def test_they_may_run_a_loop_of_their_own_and_leave_all_as_it_was(self):
        def running(bcom):
            async def look():
                return asyncio.get_running_loop()

            def turn():
                loop = asyncio.new_event_loop()
                try:
                    return threading.get_ident(), loop.run_until_complete(look()) is loop
                finally:
                    loop.close()

            return turn

        async with Vat() as vat:
            ref = vat.spawn(running)
            here, loop, task = threading.get_ident(), asyncio.get_running_loop(), asyncio.current_task()
            for _ in range(1000):
                thread, own = await send(ref)
                assert own
                assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
                if thread == here:
                    return
            raise AssertionError("the loop does not run it")

    async def test_a_vat_of_the_loop_sees_that_and_no_task(self):
        def looking(bcom):
            return lambda: (asyncio.get_running_loop(), asyncio.current_task())

        async with AsyncioVat() as vat:
            ref, task = vat.spawn(looking), asyncio.current_task()
            for _ in range(5):
                assert await send(ref) == (asyncio.get_running_loop(), None)
                assert asyncio.current_task() is task

    @pytest.mark.parametrize("kind", [Vat, AsyncioVat])
    async def test_not_the_variables_of_the_one_who_sends_and_they_leave_none_there(self, kind):
        def setting(bcom):
            def turn(value):
                before = VARIABLE.get()
                VARIABLE.set(value)
                return threading.get_ident(), before

            return turn

        async with kind() as vat:
            ref = vat.spawn(setting)
            VARIABLE.set("the sender's")
            here = False
            for _ in range(1000):
                thread, before = await send(ref, "the turn's")
                assert before in ("nothing", "the turn's")
                assert VARIABLE.get() == "the sender's"
                here = here or thread == threading.get_ident()
                if here:
                    break
            assert here

    async def test_what_asyncio_runs_needs_its_loop_there_as_on_a_worker(self):
        def starting(bcom):
            async def sleep():
                pass

            def turn():
                with pytest.raises(NoLoopError):
                    from_awaitable(sleep())
                return threading.get_ident()

            return turn

        async with Vat() as vat:
            await known(vat.spawn(starting))

    async def test_an_error_is_raised_where_it_is_awaited(self):
        def failing(bcom):
            def turn():
                raise Boom(threading.get_ident())

            return turn

        async with Vat() as vat:
            ref = vat.spawn(failing)
            threads = set()
            for _ in range(1000):
                with pytest.raises(Boom) as caught:
                    await send(ref)
                threads.update(caught.value.args)
                if threading.get_ident() in threads:
                    break
            assert threading.get_ident() in threads


class TestLoopsThatStop:
    @pytest.mark.parametrize("end", ["closed", "stopped"])
    def test_workers_take_over_what_a_loop_leaves(self, end):
        vat = Vat()
        ref = vat.spawn(where)
        heard = []

        class Told(list):
            def append(self, word):
                heard.append((word, threading.get_ident()))
                done.set()

        done = threading.Event()

        async def main():
            await known(ref)
            # The loop ends before its next round.
            asyncio.get_running_loop().stop()
            tell(ref, Told(), "left")
            await asyncio.sleep(30)

        loop = asyncio.new_event_loop()
        task = loop.create_task(main())
        loop.run_forever()
        if end == "closed":
            loop.close()
        assert done.wait(30)
        assert [word for word, _ in heard] == ["left"]
        vat.close()
        if end == "stopped":
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
            loop.close()
        else:
            task._log_destroy_pending = False

    def test_a_thread_that_comes_to_wait_for_one_promise_does_not_keep_other_messages_waiting(self):
        vats = [Vat() for _ in range(5)]

        async def main():
            refs = [vat.spawn(where) for vat in vats]
            await known(refs[0])
            promises = [send(ref) for ref in refs for _ in range(100)]
            # It blocks the loop, and all are settled nevertheless.
            for promise in reversed(promises):
                promise.result(30)

        asyncio.run(main())
        for vat in vats:
            vat.close()

    async def test_in_a_block_that_a_task_has_left_open_the_messages_of_other_tasks_are_handled(self):
        async with a_quick_actor() as ref, Vat("taken") as taken:
            go_on = asyncio.Event()

            async def hold():
                with taken:
                    await go_on.wait()

            task = asyncio.ensure_future(hold())
            await asyncio.sleep(0)
            assert threading.get_ident() not in await asyncio.gather(*(send(ref) for _ in range(50)))
            go_on.set()
            with pytest.raises(NoTurnError, match="it is undone"):
                await task


def test_loops_of_several_threads_send_to_one_vat():
    vat = Vat()
    ticks = vat.spawn(counter)
    seen = []

    async def main():
        for _ in range(20):
            seen.append(await send(ticks))
            seen.extend(await asyncio.gather(*(send(ticks) for _ in range(20))))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(4 * 20 * 21))
    vat.close()


async def test_what_is_awaited_is_stored(tmp_path):
    async with RocksStore(tmp_path / "s") as store:
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        assert [await send(ticks) for _ in range(20)] == list(range(20))
        assert await asyncio.gather(*(send(ticks) for _ in range(200))) == list(range(20, 220))
    async with RocksStore(tmp_path / "s") as store:
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        assert await send(ticks) == 220


async def test_what_a_round_of_the_loop_has_changed_is_stored_at_once(tmp_path):
    async with RocksStore(tmp_path / "s", keep_generations=1) as store:
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        for _ in range(100):
            before = store.vat("main").generations()[-1].number
            await asyncio.gather(*(send(ticks) for _ in range(20)))
            if store.vat("main").generations()[-1].number == before + 1:
                return
        raise AssertionError("each message is a batch")
