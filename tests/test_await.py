"""`async def` behaviors: each stretch between awaits is a turn; the vat goes on meanwhile (AWT)."""

import asyncio
import threading

import pytest
from goblins import (
    BehaviorError,
    BrokenPromiseError,
    GoblinsError,
    NoTurnError,
    Vat,
    VatClosedError,
    actor,
    all_of,
    from_awaitable,
    methods,
    on,
    promise_and_resolver,
    send,
    spawn,
    tell,
    to_thread,
)
from support import Boom, cell, collect, counter, failing


def echo(bcom):
    return lambda value: value


class TestStretches:
    def test_the_sender_gets_what_the_behavior_returns_in_the_end(self, vat):
        """AWT-01, AWT-03: the original gives a marker instead."""

        def asker(bcom, friend):
            async def ask(value):
                return await send(friend, value) + 1

            return ask

        asker = vat.spawn(asker, vat.spawn(echo))
        assert send(asker, 41).result(30) == 42

    def test_a_synchronous_call_gives_the_promise_of_the_result(self, vat):
        """AWT-04, SYN-07"""

        def asker(bcom, friend):
            async def ask(value):
                return await send(friend, value)

            return ask

        asker = vat.spawn(asker, vat.spawn(echo))
        assert asker("outside").result(30) == "outside"
        promise = vat.run(lambda: on(asker("inside"), str.upper))
        assert promise.result(30) == "INSIDE"

    def test_one_that_never_waits_is_fine(self, vat):
        def ready(bcom):
            async def behavior():
                return "at once"

            return behavior

        assert send(vat.spawn(ready)).result(30) == "at once"

    def test_it_waits_many_times_and_in_loops(self, vat):
        """AWT-09"""

        def adder(bcom, friend):
            async def add(count):
                total = 0
                for n in range(count):
                    total += await send(friend, n)
                return total

            return add

        assert send(vat.spawn(adder, vat.spawn(echo)), 1000).result(30) == 499_500

    def test_helpers_may_be_coroutines_too(self, vat):
        async def twice(friend, value):
            return await send(friend, value) + await send(friend, value)

        def asker(bcom, friend):
            async def ask(value):
                return await twice(friend, value) + await twice(friend, value)

            return ask

        assert send(vat.spawn(asker, vat.spawn(echo)), 1).result(30) == 4

    def test_what_was_done_before_the_wait_stays_when_a_later_stretch_fails(self, vat):
        """AWT-05"""

        def worker(bcom, friend, first, second):
            async def work():
                first.put("kept")
                await send(friend, None)
                second.put("undone")
                raise Boom("late")

            return work

        first, second = vat.spawn(cell), vat.spawn(cell)
        worker = vat.spawn(worker, vat.spawn(echo), first, second)
        with pytest.raises(Boom, match="late"):
            send(worker).result(30)
        assert (first.get(), second.get()) == ("kept", None)

    def test_a_first_stretch_that_fails_undoes_its_turn(self, vat):
        def worker(bcom, box):
            async def work():
                box.put("undone")
                raise Boom("early")

            return work

        box = vat.spawn(cell)
        worker = vat.spawn(worker, box)
        with pytest.raises(Boom, match="early"):
            worker()
        with pytest.raises(Boom, match="early"):
            send(worker).result(30)
        assert box.get() is None

    def test_the_vat_goes_on_while_a_behavior_waits(self, vat):
        """AWT-12"""
        gate, opener = promise_and_resolver()

        def waiter(bcom):
            async def wait():
                return await gate

            return wait

        ticks = vat.spawn(counter)
        answer = send(vat.spawn(waiter))
        assert [ticks(), ticks(), ticks()] == [0, 1, 2]
        opener.fulfil("open")
        assert answer.result(30) == "open"

    def test_several_wait_at_once(self, vat):
        gates = [promise_and_resolver() for _ in range(100)]

        def waiter(bcom):
            async def wait(n):
                return n, await gates[n][0]

            return wait

        ref = vat.spawn(waiter)
        answers = [send(ref, n) for n in range(100)]
        for n in reversed(range(100)):
            gates[n][1].fulfil(n * n)
        assert [answer.result(30) for answer in answers] == [(n, n * n) for n in range(100)]

    def test_promises_of_other_vats_are_waited_for_as_well(self, vat, other_vat):
        def asker(bcom, friend):
            async def ask():
                return await send(friend) + await send(friend)

            return ask

        assert send(vat.spawn(asker, other_vat.spawn(counter, 20))).result(30) == 41

    def test_a_handler_may_be_one(self, vat):
        friend = vat.spawn(echo)

        async def handler(value):
            return await send(friend, value * 2)

        assert vat.run(lambda: on(send(friend, 21), handler)).result(30) == 42

    def test_all_of_several_can_be_waited_for(self, vat):
        def asker(bcom, friend):
            async def ask():
                return await all_of(send(friend, 1), send(friend, 2), 3)

            return ask

        assert send(vat.spawn(asker, vat.spawn(echo))).result(30) == [1, 2, 3]


class TestBecoming:
    @staticmethod
    @actor
    def late(bcom, friend, value=0):
        async def tick():
            await send(friend, None)
            return bcom(TestBecoming.late(bcom, friend, value + 1), value)

        def bump():
            return bcom(TestBecoming.late(bcom, friend, value + 100), value)

        return methods(tick=tick, bump=bump)

    def test_bcom_works_in_the_last_stretch(self, vat):
        """AWT-06: the original refuses it."""
        ref = vat.spawn(self.late, vat.spawn(echo))
        assert [send(ref.tick).result(30) for _ in range(3)] == [0, 1, 2]

    def test_bcom_in_the_first_stretch_of_one_that_never_waits(self, vat):
        def ticker(bcom, value=0):
            async def tick():
                return bcom(ticker(bcom, value + 1), value)

            return tick

        ref = vat.spawn(ticker)
        assert [send(ref).result(30) for _ in range(3)] == [0, 1, 2]

    def test_a_change_made_meanwhile_is_not_overwritten(self, vat):
        """ACT-21: the state that it was computed from is gone."""
        gate, opener = promise_and_resolver()
        ref = vat.spawn(self.late, vat.spawn(lambda bcom: lambda value: gate))
        answer = send(ref.tick)
        vat.drain(30)
        assert ref.bump() == 0
        opener.fulfil(None)
        with pytest.raises(BehaviorError, match="changed"):
            answer.result(30)
        assert ref.bump() == 100


class TestErrors:
    def test_a_broken_promise_raises_its_error_where_it_is_waited_for(self, vat):
        """AWT-07"""

        def asker(bcom, friend):
            async def ask():
                try:
                    await send(friend, Boom("inner"))
                except Boom as error:
                    return f"caught {error}"

            return ask

        assert send(vat.spawn(asker, vat.spawn(failing))).result(30) == "caught inner"

    def test_one_that_is_not_caught_breaks_the_senders_promise(self, vat):
        def asker(bcom, friend):
            async def ask():
                await send(friend, Boom("inner"))

            return ask

        with pytest.raises(Boom, match="inner"):
            send(vat.spawn(asker, vat.spawn(failing))).result(30)

    @pytest.mark.parametrize(
        "awaitable", [lambda: asyncio.sleep(0), lambda: iter_like()], ids=["sleep", "other"]
    )
    def test_what_is_no_promise_is_an_error_that_says_what_to_use(self, vat, awaitable):
        def asker(bcom):
            async def ask():
                await awaitable()

            return ask

        with pytest.raises(TypeError, match="from_awaitable"):
            send(vat.spawn(asker)).result(30)

    def test_what_is_suspended_when_its_vat_closes_is_broken(self):
        vat = Vat()
        gate, opener = promise_and_resolver()

        def waiter(bcom):
            async def wait():
                await gate

            return wait

        answer = send(vat.spawn(waiter))
        vat.drain(30)
        vat.close()
        with pytest.raises(VatClosedError):
            answer.result(30)
        opener.fulfil("too late")

    def test_a_behavior_that_waits_for_ever_is_told_when_nothing_can_settle_the_promise(self, vat):
        def waiter(bcom):
            async def wait():
                promise, _ = promise_and_resolver()
                await promise

            return wait

        answer = send(vat.spawn(waiter))
        vat.drain(timeout=30)
        collect()
        with pytest.raises(BrokenPromiseError, match="abandoned"):
            answer.result(30)

    async def test_await_in_a_block_is_an_error(self, vat):
        promise, resolver = promise_and_resolver()
        resolver.fulfil(1)
        with vat, pytest.raises(NoTurnError, match="on"):
            await promise
        assert await promise == 1

    def test_await_in_a_block_inside_a_behavior_is_an_error(self, vat):
        def asker(bcom, friend):
            async def ask():
                with vat:
                    await send(friend, 1)

            return ask

        with pytest.raises(GoblinsError, match="with vat"):
            send(vat.spawn(asker, vat.spawn(echo))).result(30)


class iter_like:
    def __await__(self):
        yield "something"


class TestWorkOutside:
    async def test_what_asyncio_runs_gives_a_promise(self, vat):
        loop = asyncio.get_running_loop()

        async def work(value):
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is loop
            return value * 2

        def asker(bcom):
            async def ask(value):
                return await from_awaitable(work(value), loop) + 1

            return ask

        assert await send(vat.spawn(asker), 20) == 41
        assert await from_awaitable(work(1)) == 2

    async def test_its_error_breaks_the_promise_and_so_does_a_cancellation(self):
        async def fail():
            raise Boom("outside")

        with pytest.raises(Boom, match="outside"):
            await from_awaitable(fail())
        future = asyncio.get_running_loop().create_future()
        promise = from_awaitable(future)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(BrokenPromiseError, match="cancelled"):
            await promise

    def test_without_a_loop_it_is_an_error(self):
        future = asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            from_awaitable(future)
        future.close()

    def test_a_closed_loop_breaks_the_promise(self):
        loop = asyncio.new_event_loop()
        loop.close()
        with pytest.raises(RuntimeError, match="closed"):
            from_awaitable(asyncio.sleep(0), loop).result(30)

    def test_blocking_work_runs_outside_of_the_vat(self, vat):
        entered, leave = threading.Event(), threading.Event()

        def block(value):
            entered.set()
            assert leave.wait(30)
            return value

        def asker(bcom):
            async def ask():
                return await to_thread(block, value="done")

            return ask

        answer, ticks = send(vat.spawn(asker)), vat.spawn(counter)
        assert entered.wait(30)
        assert ticks() == 0
        leave.set()
        assert answer.result(30) == "done"

    def test_its_error_breaks_the_promise(self):
        with pytest.raises(ZeroDivisionError):
            to_thread(lambda: 1 / 0).result(30)


def test_suspended_behaviors_are_collected(vat):
    import weakref

    class Token:
        pass

    token = Token()
    seen = weakref.ref(token)

    def waiter(bcom):
        async def wait(token):
            promise, resolver = promise_and_resolver()
            # Nothing else refers to the resolver: it is in a cycle with what waits.
            loop = [resolver]
            loop.append((loop, token))
            await promise

        return wait

    with vat:
        tell(spawn(waiter), token)
    vat.drain(30)
    del token
    collect()
    assert seen() is None
