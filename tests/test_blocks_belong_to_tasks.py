"""A `with vat:` block belongs to the task or the thread that opened it, and is one turn."""

import asyncio
import contextlib
import logging
import threading

import pytest
import trio
from goblins import (
    AsyncioVat,
    DeadlockError,
    MemoryStore,
    NoTurnError,
    on,
    promise_and_resolver,
    send,
    spawn,
    tell,
)
from support import Boom, Box, collect, counter, failing_turn


class Open:
    """A task that waits in its block, until it is told to go on."""

    def __init__(self, vat, body, error=None):
        self.go_on = asyncio.Event()
        self.inside = asyncio.Event()
        self.task = asyncio.ensure_future(self.run(vat, body, error))

    async def run(self, vat, body, error):
        with vat:
            body()
            self.inside.set()
            await self.go_on.wait()
            if error is not None:
                raise error

    async def __aenter__(self):
        await self.inside.wait()
        return self

    async def __aexit__(self, *_):
        await self.end()

    async def end(self):
        self.go_on.set()
        await asyncio.wait([self.task])
        return self.task.exception()


@pytest.fixture
def ticks(vat):
    return vat.spawn(counter)


USES = {
    "call": lambda vat, ticks: ticks(),
    "run": lambda vat, ticks: vat.run(ticks),
    "spawn": lambda vat, ticks: vat.spawn(counter),
    "with": lambda vat, ticks: vat.__enter__(),
    "drain": lambda vat, ticks: vat.drain(),
    "close": lambda vat, ticks: vat.close(),
    "result": lambda vat, ticks: send(ticks).result(),
}


WAITED = "its task has waited in it"


class TestAnotherTask:
    @pytest.mark.parametrize("use", USES)
    async def test_can_not_get_into_the_vat_and_is_told_who_is_in_it(self, vat, ticks, use):
        async with Open(vat, ticks) as opened:
            opened.task.set_name("the one who waits")
            with pytest.raises(DeadlockError, match="with vat:|would block the vat") as caught:
                USES[use](vat, ticks)
            if use != "result":
                assert "the one who waits" in str(caught.value)
        assert ticks() == (use == "result")

    @pytest.mark.parametrize("error", [None, Boom()])
    async def test_changes_nothing_of_what_comes_of_the_block(self, vat, ticks, error):
        box = vat.spawn(Box)

        def body():
            ticks()
            box.put("from the block")

        async with Open(vat, body, error) as opened:
            with pytest.raises(DeadlockError):
                ticks()
            with pytest.raises(NoTurnError, match="belongs to another task"):
                vat.__exit__(None, None, None)
            with pytest.raises(NoTurnError, match="belongs to another task"):
                vat.__exit__(Boom, Boom(), None)
            with pytest.raises(NoTurnError):
                spawn(counter)
            ended = await opened.end()
            assert ended is error if error else isinstance(ended, NoTurnError)
        assert ticks() == 0
        assert box.get() is None

    async def test_of_the_same_moment_with_a_block_of_its_own(self, vat, other_vat, ticks):
        there = other_vat.spawn(counter)
        async with Open(vat, ticks, Boom()):
            for block in vat, other_vat:
                with pytest.raises(DeadlockError, match="with vat:"), block:
                    pass
            # A call is over before the other task goes on.
            assert there() == 0
            assert other_vat.run(there) == 1
        assert ticks() == 0
        with other_vat:
            assert there() == 2

    async def test_sends_and_waits_as_if_there_were_no_block(self, vat, other_vat, ticks):
        there = other_vat.spawn(counter)
        promise, resolver = promise_and_resolver()
        async with Open(vat, ticks, Boom()) as opened:
            sent = send(ticks)
            tell(there)
            assert await send(there) == 1
            resolver.fulfil("seen")
            assert await promise == "seen"
            later = vat.run_async(ticks)
            await opened.end()
            assert await sent == 0
            assert await later == 1

    async def test_that_was_begun_in_the_block_is_another_one_too(self, vat, ticks):
        async def child():
            return ticks()

        with pytest.raises(NoTurnError, match=WAITED), vat:
            ticks()
            task = asyncio.ensure_future(child())
            with pytest.raises(DeadlockError):
                await task
        assert ticks() == 0

    async def test_a_callback_of_the_loop_is_none_of_its_business(self, vat, ticks):
        errors = []

        def callback():
            try:
                ticks()
            except DeadlockError as error:
                errors.append(error)

        with pytest.raises(NoTurnError, match=WAITED), vat:
            ticks()
            asyncio.get_running_loop().call_soon(callback)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert len(errors) == 1
        assert ticks() == 0

    async def test_the_one_who_opened_it_goes_on_in_it(self, vat, ticks):
        with pytest.raises(NoTurnError, match=WAITED), vat:
            assert ticks() == 0
            await asyncio.sleep(0)
            with vat:
                assert ticks() == 1
                await asyncio.sleep(0)
            assert ticks() == 2
            promise, _ = promise_and_resolver()
            with pytest.raises(NoTurnError, match="with vat"):
                await promise
        with failing_turn(vat):
            ticks()
            await asyncio.sleep(0)
            raise Boom
        assert ticks() == 0

    async def test_a_turn_on_the_loop_goes_on_beside_it(self, ticks, vat):
        async with AsyncioVat() as home:
            there = home.spawn(counter)
            async with Open(vat, ticks):
                assert await send(there) == 0
                assert there() == 1
        assert ticks() == 0

    async def test_can_not_close_the_store(self, vat, ticks):
        with MemoryStore() as store:
            async with Open(vat, ticks):
                with pytest.raises(DeadlockError):
                    store.close()


WAITS = {
    "sleep": lambda far: asyncio.sleep(0.001),
    "gather": lambda far: asyncio.gather(send(far), send(far)),
    "wait_for": lambda far: asyncio.wait_for(send(far), 60),
    "a task": lambda far: asyncio.ensure_future(wait_for_all(far)),
    "a handler's": lambda far: asyncio.gather(on(send(far), lambda value: value)),
    "a thread": lambda far: asyncio.to_thread(int),
}


async def wait_for_all(far):
    return await send(far) + await send(far)


class TestAwaitInABlock:
    @pytest.mark.parametrize("wait", WAITS)
    async def test_undoes_it_and_is_an_error_whatever_is_awaited(self, vat, other_vat, ticks, wait):
        far = other_vat.spawn(counter)
        with pytest.raises((NoTurnError, DeadlockError), match="await"), vat:
            ticks()
            await WAITS[wait](far)
        assert ticks() == 0

    @pytest.mark.parametrize("wait", ["gather", "a handler's"])
    async def test_for_what_leaves_at_the_end_of_it_is_an_error_at_once(self, vat, other_vat, ticks, wait):
        far = other_vat.spawn(counter)
        with pytest.raises(NoTurnError, match=WAITED), vat:
            ticks()
            with pytest.raises(DeadlockError, match="at the end of a `with vat:` block"):
                await WAITS[wait](far)
        assert ticks() == 0
        assert far() == 0

    async def test_is_not_what_comes_before_or_after(self, vat, ticks):
        for _ in range(3):
            await asyncio.sleep(0)
            with vat:
                ticks()
            await asyncio.sleep(0)
        assert await asyncio.gather(send(ticks), send(ticks)) == [3, 4]


class TestABlockThatNobodyLeaves:
    async def test_is_undone_when_its_task_has_ended(self, vat, ticks, caplog):
        async def forgets():
            vat.__enter__()
            ticks()

        await asyncio.ensure_future(forgets())
        assert ticks() == 0
        assert "never left" in caplog.text

    async def test_is_undone_with_the_task_that_is_dropped_in_it(self, vat, ticks, caplog):
        caplog.set_level(logging.CRITICAL, "asyncio")

        async def waits():
            with vat:
                ticks()
                await asyncio.get_running_loop().create_future()

        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        with pytest.raises(DeadlockError):
            ticks()
        del task
        collect()
        assert ticks() == 0

    async def test_is_undone_when_its_task_is_cancelled(self, vat, ticks):
        opened = Open(vat, ticks)
        await opened.inside.wait()
        opened.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opened.task
        assert ticks() == 0

    async def test_in_a_generator_of_another_task_is_left_by_none_but_that_one(self, vat, ticks):
        def block():
            with vat:
                yield ticks()

        generators = []

        async def opens():
            generator = block()
            assert next(generator) == 0
            generators.append(generator)
            go_on.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ticks()

        go_on = asyncio.Event()
        task = asyncio.ensure_future(opens())
        await go_on.wait()
        with pytest.raises(NoTurnError, match="belongs to another task"):
            generators.pop().close()
        await task
        assert ticks() == 0

    async def test_in_an_exit_stack_of_another_task_is_left_by_none_but_that_one(self, vat, ticks):
        stack = contextlib.ExitStack()

        async def opens():
            stack.enter_context(vat)
            ticks()
            go_on.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(NoTurnError, match=WAITED):
                vat.__exit__(None, None, None)

        go_on = asyncio.Event()
        task = asyncio.ensure_future(opens())
        await go_on.wait()
        with pytest.raises(NoTurnError, match="belongs to another task"):
            stack.close()
        await task
        assert ticks() == 0


class TestAThread:
    def test_can_not_leave_the_block_of_another(self, vat, other_vat, ticks):
        errors = []

        def leave(block=None):
            with block or contextlib.nullcontext():
                try:
                    vat.__exit__(None, None, None)
                except NoTurnError as error:
                    errors.append(error)

        with failing_turn(vat):
            ticks()
            for block in None, other_vat:
                thread = threading.Thread(target=leave, args=(block,))
                thread.start()
                thread.join()
            raise Boom
        assert len(errors) == 2
        assert ticks() == 0

    def test_that_runs_a_loop_in_its_block_has_that_in_its_turn(self, vat, ticks):
        async def main():
            return ticks()

        with vat:
            assert asyncio.run(main()) == 0
        assert ticks() == 1

    def test_leaves_in_a_later_turn_what_a_generator_left_open_in_an_earlier_one(self, vat, ticks):
        generators = []

        def block():
            with vat:
                yield

        def opens(bcom):
            def open_one():
                generators.append(block())
                next(generators[-1])

            return open_one

        opener = vat.spawn(opens)
        opener()
        with failing_turn(vat):
            ticks()
            generators.pop().close()
            ticks()
            raise Boom
        assert ticks() == 0
        opener()
        generators.pop().close()
        with vat:
            ticks()
        assert ticks() == 2


def test_tasks_of_trio_have_blocks_of_their_own(vat):
    ticks = vat.spawn(counter)

    async def opens(inside, go_on):
        with pytest.raises(NoTurnError, match=WAITED), vat:
            ticks()
            inside.set()
            await go_on.wait()

    async def main():
        inside, go_on = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opens, inside, go_on)
            await inside.wait()
            with pytest.raises(DeadlockError, match="with vat:"):
                ticks()
            with pytest.raises(NoTurnError, match="belongs to another task"):
                vat.__exit__(None, None, None)
            go_on.set()
        with vat:
            ticks()
        await trio.lowlevel.checkpoint()
        return ticks()

    assert trio.run(main) == 1


def test_a_trio_task_that_ended_in_its_block_leaves_it_undone(vat, caplog):
    ticks = vat.spawn(counter)

    async def forgets():
        vat.__enter__()
        ticks()

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forgets)
        return ticks()

    assert trio.run(main) == 0
    assert "never left" in caplog.text
