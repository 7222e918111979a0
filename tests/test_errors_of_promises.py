"""The error of a broken promise: the same for all who ask, however often, and never one that cancels them."""

import asyncio

import pytest
import trio
from goblins import BrokenPromiseError, all_of, from_awaitable, on, promise_and_resolver, send, to_thread
from support import Boom, echo, failing


def length(traceback):
    count = 0
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


@pytest.fixture
def broken(vat):
    return send(vat.spawn(failing), Boom("shared"))


class TestTheTraceback:
    """Whoever raises an exception adds to its traceback; one who asks again gets the first one."""

    def test_does_not_grow_with_each_result(self, broken):
        lengths = set()
        for _ in range(100):
            with pytest.raises(Boom) as caught:
                broken.result(30)
            lengths.add(length(caught.value.__traceback__))
        assert len(lengths) == 1

    async def test_does_not_grow_with_each_await(self, broken):
        lengths = set()
        for _ in range(100):
            with pytest.raises(Boom) as caught:
                await broken
            lengths.add(length(caught.value.__traceback__))
        assert len(lengths) == 1

    async def test_is_the_same_for_all_who_await_at_once(self):
        promise, resolver = promise_and_resolver()
        lengths = []

        async def wait(target):
            with pytest.raises(Boom) as caught:
                await target
            lengths.append(length(caught.value.__traceback__))

        waiting = [asyncio.ensure_future(wait(promise)) for _ in range(50)]
        await asyncio.sleep(0)
        resolver.break_(Boom("shared"))
        waiting += [asyncio.ensure_future(wait(promise)) for _ in range(50)]
        await asyncio.gather(*waiting)
        assert len(lengths) == 100
        assert len(set(lengths)) == 1

    def test_does_not_grow_in_trio(self, broken):
        lengths = []

        async def wait():
            for _ in range(50):
                with pytest.raises(Boom) as caught:
                    await broken
                lengths.append(length(caught.value.__traceback__))

        trio.run(wait)
        assert len(set(lengths)) == 1

    def test_does_not_grow_with_each_await_in_a_behavior(self, vat, broken):
        lengths = []

        async def wait():
            try:
                await broken
            except Boom as error:
                lengths.append(length(error.__traceback__))

        waiter = vat.spawn(lambda bcom: wait)
        for _ in range(50):
            send(waiter).result(30)
        assert len(set(lengths)) == 1

    def test_does_not_grow_with_each_handler_that_raises_it_again(self, vat, broken):
        lengths = []

        def again(error):
            lengths.append(length(error.__traceback__))
            raise error

        for _ in range(50):
            with pytest.raises(Boom):
                vat.run(lambda: on(broken, catch=again)).result(30)
        assert len(set(lengths)) == 1

    def test_does_not_grow_with_each_call_of_the_promise_in_a_turn(self, vat, broken):
        with pytest.raises(Boom):
            broken.result(30)
        lengths = set()
        for _ in range(50):
            with pytest.raises(Boom) as caught:
                vat.run(broken)
            lengths.add(length(caught.value.__traceback__))
        assert len(lengths) == 1

    def test_still_leads_to_where_the_error_was_raised(self, broken):
        for _ in range(3):
            with pytest.raises(Boom) as caught:
                broken.result(30)
        last = caught.traceback[-1]
        assert last.name == "fail"


def cancelled():
    raise asyncio.CancelledError("inside")


async def cancelled_later():
    await promise_of_nothing()
    cancelled()


def promise_of_nothing():
    promise, resolver = promise_and_resolver()
    resolver.fulfil(None)
    return promise


def broken_by_hand(error):
    promise, resolver = promise_and_resolver()
    resolver.break_(error)
    return promise


WAYS = {
    "a behavior": lambda vat: send(vat.spawn(lambda bcom: cancelled)),
    "an async behavior": lambda vat: send(vat.spawn(lambda bcom: cancelled_later)),
    "a handler": lambda vat: vat.run(lambda: on(promise_of_nothing(), lambda _: cancelled())),
    "a handler of an error": lambda vat: vat.run(
        lambda: on(broken_by_hand(Boom()), catch=lambda _: cancelled())
    ),
    "a last handler": lambda vat: vat.run(lambda: on(promise_of_nothing(), finally_=cancelled)),
    "a resolver": lambda vat: broken_by_hand(asyncio.CancelledError("inside")),
    "a resolver with a class": lambda vat: broken_by_hand(asyncio.CancelledError),
    "a resolver in a turn": lambda vat: vat.run(lambda: [broken_by_hand(asyncio.CancelledError("inside"))])[
        0
    ],
    "a thread": lambda vat: to_thread(cancelled),
    "one of several": lambda vat: all_of(send(vat.spawn(echo), 1), send(vat.spawn(lambda bcom: cancelled))),
}


class TestCancellation:
    @pytest.mark.parametrize("way", WAYS)
    async def test_inside_does_not_cancel_the_task_that_awaits(self, vat, way):
        promise = WAYS[way](vat)
        with pytest.raises(BrokenPromiseError, match="cancelled") as caught:
            await promise
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        with pytest.raises(BrokenPromiseError, match="cancelled"):
            promise.result(30)

    async def test_of_an_awaitable_is_told_the_same_way(self):
        future = asyncio.get_running_loop().create_future()
        promise = from_awaitable(future)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(BrokenPromiseError, match="cancelled"):
            await promise

    async def test_inside_a_turn_that_is_awaited_does_not_cancel_the_task(self, vat):
        with pytest.raises(BrokenPromiseError, match="cancelled"):
            await vat.run_async(cancelled)

    def test_of_trio_is_told_the_same_way(self, vat):
        async def main():
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as error:
                    problem = error
                    raise
                finally:
                    told.append(broken_by_hand(problem))

        told = []
        trio.run(main)
        with pytest.raises(BrokenPromiseError, match="cancelled"):
            told[0].result(30)

    async def test_of_a_task_that_awaits_a_promise_goes_on_as_it_is(self):
        promise, resolver = promise_and_resolver()

        async def wait():
            await promise

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        resolver.fulfil(None)

    def test_that_leaves_a_call_goes_to_the_caller(self, vat):
        with pytest.raises(asyncio.CancelledError):
            vat.spawn(lambda bcom: cancelled)()
