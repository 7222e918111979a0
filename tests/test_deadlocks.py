"""No wait closes a ring: whoever would never be let go is refused at once, and told of the whole ring.

A turn never waits for another vat. Threads that run event loops can wait for each other outside of turns;
there the one who would close the ring gets the error.
"""

import asyncio
import functools
import threading
from contextlib import ExitStack, contextmanager

import pytest
from goblins import (
    AsyncioVat,
    DeadlockError,
    FarCallError,
    Vat,
    promise_and_resolver,
    send,
)
from support import counter, echo

PATIENCE = 30


@contextmanager
def loop_in_thread(name):
    """A vat on an event loop of a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()
    try:
        yield loop, AsyncioVat(loop, name=f"vat of {name}")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        loop.close()


def call_there(loop, function):
    """Calls a function on the thread of a loop, outside of all turns; gives its future."""

    async def call():
        return function()

    return asyncio.run_coroutine_threadsafe(call(), loop)


class TestInsideATurn:
    WAITS = [
        pytest.param(lambda vat, ref: vat.__enter__(), id="with"),
        pytest.param(lambda vat, ref: vat.run(lambda: None), id="run"),
        pytest.param(lambda vat, ref: vat.spawn(counter), id="spawn"),
        pytest.param(lambda vat, ref: ref(), id="call"),
        pytest.param(lambda vat, ref: send(ref).result(), id="result"),
        pytest.param(lambda vat, ref: vat.drain(), id="drain"),
        pytest.param(lambda vat, ref: vat.save(), id="save"),
        pytest.param(lambda vat, ref: vat.close(), id="close"),
    ]

    @pytest.mark.parametrize("wait", WAITS)
    def test_two_threads_that_are_in_a_vat_each_and_want_the_other_are_both_refused(
        self, vat, other_vat, wait, request
    ):
        """Neither thread waits for the other to let go.

        Each error names the vat that would be kept waiting, and the one that is wanted; but a promise
        can't know which vat will settle it.
        """
        vats, refs = (vat, other_vat), (vat.spawn(counter), other_vat.spawn(counter))
        inside = threading.Barrier(2, timeout=PATIENCE)
        errors = [None, None]

        def enter(mine, other):
            with vats[mine]:
                inside.wait()
                try:
                    wait(vats[other], refs[other])
                except (FarCallError, DeadlockError) as error:
                    errors[mine] = str(error)
                # Nobody has left before both were refused.
                inside.wait()

        threads = [threading.Thread(target=enter, args=pair, daemon=True) for pair in ((0, 1), (1, 0))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
        for mine, error in enumerate(errors):
            assert vats[mine].name in error
            if "[result]" not in request.node.name:
                assert vats[1 - mine].name in error

    @pytest.mark.parametrize("timeout", [None, 0.0, 5.0])
    def test_a_block_cannot_wait_for_what_only_its_own_vat_can_settle(self, vat, timeout):
        ref = vat.spawn(counter)
        promise, _resolver = promise_and_resolver()
        with vat:
            for waiting in (send(ref), promise):
                with pytest.raises(DeadlockError, match=vat.name):
                    waiting.result(timeout)


class TestThreadsThatRunLoops:
    async def test_a_loop_cannot_wait_for_a_promise_of_a_vat_that_it_runs_itself(self):
        vat = AsyncioVat(name="mine")
        ref = vat.spawn(echo)
        for timeout in (None, 5.0):
            promise = send(ref, 1)
            with pytest.raises(
                DeadlockError, match=r"MainThread waits for vat mine, whose event loop"
            ) as caught:
                promise.result(timeout)
            assert "await" in str(caught.value)
            assert await promise == 1
            # What is there can be had.
            assert promise.result(timeout) == 1
        vat.close()

    async def test_nor_for_one_that_has_come_to_wait_for_such_a_vat(self):
        vat, helper = AsyncioVat(name="mine"), Vat("helper")
        ref = vat.spawn(echo)
        promise, resolver = promise_and_resolver()
        resolver.fulfil(send(ref, 2))
        with pytest.raises(DeadlockError, match="mine"):
            promise.result()
        assert await promise == 2
        # The actor of a vat of the pool answers with what the loop must do.
        passing = helper.spawn(lambda bcom: lambda: send(ref, 3))
        with pytest.raises(DeadlockError, match="mine"):
            send(passing).result()
        vat.close()
        helper.close()

    @pytest.mark.parametrize("way", ["run", "drain", "result"])
    @pytest.mark.parametrize("size", [2, 3])
    def test_in_a_ring_of_loops_the_last_to_come_is_refused_and_told_of_the_ring(self, way, size):
        """Each waits for the next. None of them can serve another before its own wait is over."""
        names = [f"loop-{number}" for number in range(size)]
        together = threading.Barrier(size, timeout=PATIENCE)

        def wait_for(vat, ref):
            together.wait()
            try:
                match way:
                    case "run":
                        return vat.run(lambda: "done")
                    case "drain":
                        return vat.drain() or "done"
                    case _:
                        return send(ref, "done").result()
            except DeadlockError as error:
                return str(error)

        with ExitStack() as stack:
            loops = [stack.enter_context(loop_in_thread(name)) for name in names]
            refs = [vat.spawn(echo) for _, vat in loops]
            waits = []
            for number, (loop, _) in enumerate(loops):
                after = (number + 1) % size
                waits.append(call_there(loop, functools.partial(wait_for, loops[after][1], refs[after])))
            answers = [wait.result(PATIENCE) for wait in waits]
            assert answers.count("done") == size - 1
            (text,) = (answer for answer in answers if answer != "done")
            for name in names:
                assert f"thread {name} waits for vat" in text or f"thread {name}, which waits for vat" in text
                assert f"vat vat of {name}, whose event loop runs on thread {name}" in text
            # All of them go on.
            assert [vat.run(lambda: 1) for _, vat in loops] == [1] * size

    def test_a_thread_without_a_loop_may_wait_for_any(self):
        with loop_in_thread("one") as (_, vat):
            ref = vat.spawn(echo)
            assert vat.run(lambda: 1) == 1
            assert send(ref, 2).result(PATIENCE) == 2
            assert send(ref, 3).result() == 3
            vat.drain()

    def test_a_loop_may_wait_for_another_that_waits_for_nobody(self):
        with loop_in_thread("one") as (one, _), loop_in_thread("two") as (_, vat_two):
            ref = vat_two.spawn(echo)
            assert call_there(one, lambda: vat_two.run(lambda: "ran")).result(PATIENCE) == "ran"
            assert call_there(one, lambda: send(ref, 2).result()).result(PATIENCE) == 2

    async def test_a_wait_for_a_vat_of_the_pool_is_none_for_a_loop(self, vat):
        AsyncioVat(name="bystander").close()
        assert send(vat.spawn(echo), 4).result() == 4
        promise, resolver = promise_and_resolver()
        threading.Timer(0, resolver.fulfil, [5]).start()
        assert promise.result(PATIENCE) == 5
