"""Asynchronous messages and what comes back: `send`, `tell`, `on`, promises and resolvers.

A message is handled in a later turn, and messages keep their order. A promise is settled once. What
waits for it is told, in a turn of its own, in the order in which it came; what is sent to it goes on to
the actor that it will stand for.
"""

import asyncio
import threading
from itertools import pairwise

import pytest
from goblins import (
    BrokenPromiseError,
    FarCallError,
    GoblinsError,
    Promise,
    methods,
    on,
    promise_and_resolver,
    send,
    spawn,
    tell,
)
from support import Boom, caller, cell, counter, echo, failing, run_child


@pytest.fixture
def pair(vat):
    """A promise and its resolver."""
    return vat.run(promise_and_resolver)


def value_of(promise):
    """The time limit only keeps a hang from lasting."""
    return promise.result(timeout=30)


class TestSending:
    def test_send_gives_a_promise_of_the_answer(self, vat):
        """ASY-01"""
        promise = send(vat.spawn(echo), "hello")
        assert type(promise) is Promise
        assert value_of(promise) == "hello"

    def test_tell_gives_nothing(self, vat):
        """ASY-02"""
        ticks = vat.spawn(counter)
        assert tell(ticks) is None
        assert vat.run(tell, ticks) is None
        assert ticks() == 2

    def test_a_message_is_handled_after_the_turn_that_sends_it(self, vat):
        """ASY-01"""
        box = vat.spawn(cell, "before")
        with vat:
            promise = send(box.put, "after")
            tell(box.put, "later")
            assert box.get() == "before"
            box.put("now")
        assert box.get() == "later"
        assert value_of(promise) is None

    def test_an_actor_may_send_to_itself(self, vat):
        """The answer to a message can't be waited for in the turn that handles it, but it comes."""

        def walker(bcom, me, seen):
            def walk(n):
                seen.append(n)
                if n:
                    return send(me[0], n - 1)
                return "there"

            return walk

        me, seen = [], []
        me.append(vat.spawn(walker, me, seen))
        assert value_of(send(me[0], 3)) == "there"
        assert seen == [3, 2, 1, 0]

    def test_messages_of_one_turn_are_handled_in_the_order_sent(self, vat):
        """ASY-04"""
        seen = []
        log = vat.spawn(lambda bcom: seen.append)
        with vat:
            for n in range(100):
                tell(log, n) if n % 2 else send(log, n)
        assert seen == list(range(100))

    def test_messages_of_one_churn_reach_another_vat_in_the_order_sent(self, vat, other_vat):
        """ASY-04"""
        seen = []
        log, run = other_vat.spawn(lambda bcom: seen.append), vat.spawn(caller)
        with vat:
            for n in range(50):
                tell(log, n)
            tell(run, lambda: [tell(log, n) for n in range(50, 100)])
        other_vat.drain(timeout=30)
        assert seen == list(range(100))

    def test_messages_of_one_thread_outside_are_handled_in_the_order_sent(self, vat):
        seen = []
        log = vat.spawn(lambda bcom: seen.append)
        for n in range(1000):
            tell(log, n)
        vat.drain(timeout=30)
        assert seen == list(range(1000))

    def test_an_error_breaks_the_promise_with_that_error(self, vat):
        """TRN-03"""
        error = Boom("sent")
        promise = send(vat.spawn(failing), error)
        with pytest.raises(Boom, match="sent") as caught:
            value_of(promise)
        assert caught.value is error

    @pytest.mark.parametrize("target", [None, 42, "text", print, [], counter], ids=repr)
    def test_sending_to_what_gets_no_messages_is_an_error_at_once(self, vat, target):
        """ASY-03"""
        for how in (send, tell):
            with pytest.raises(TypeError):
                how(target, 1)
            with pytest.raises(TypeError):
                vat.run(how, target, 1)

    def test_values_are_passed_as_they_are(self, vat):
        marker = object()
        assert value_of(send(vat.spawn(echo), marker)) is marker

    def test_two_vats_may_send_to_each_other(self, vat, other_vat):
        def player(bcom, other, log):
            def hit(n):
                log.append(n)
                return send(other[0], n - 1) if n else "over"

            return hit

        log, left, right = [], [], []
        left.append(vat.spawn(player, right, log))
        right.append(other_vat.spawn(player, left, log))
        assert value_of(send(left[0], 50)) == "over"
        assert log == list(range(50, -1, -1))


class TestResult:
    def test_the_value_can_be_asked_for_again(self, vat):
        promise = send(vat.spawn(echo), 1)
        assert [value_of(promise), value_of(promise), promise.result()] == [1, 1, 1]

    def test_so_can_the_error(self, vat):
        promise = send(vat.spawn(failing), Boom("again"))
        for _ in range(3):
            with pytest.raises(Boom, match="again"):
                value_of(promise)

    @pytest.mark.parametrize("timeout", [0, 0.0, 0.01, -1])
    def test_when_time_is_up_it_is_a_timeout_error_and_the_promise_lives_on(self, pair, timeout):
        promise, resolver = pair
        with pytest.raises(TimeoutError):
            promise.result(timeout=timeout)
        with pytest.raises(TimeoutError):
            promise.result(timeout)
        resolver.fulfil("at last")
        assert value_of(promise) == "at last"

    def test_an_answer_that_is_there_needs_no_time(self, pair):
        promise, resolver = pair
        resolver.fulfil(1)
        assert promise.result(timeout=0) == 1

    @pytest.mark.parametrize(
        ("timeout", "error"),
        [("soon", TypeError), (float("nan"), ValueError)],
        ids=["text", "nan"],
    )
    def test_a_timeout_that_is_no_time_is_an_error(self, pair, timeout, error):
        promise, _ = pair
        with pytest.raises(error):
            promise.result(timeout=timeout)

    def test_very_long_timeouts_are_fine(self, pair):
        promise, resolver = pair
        threading.Thread(target=resolver.fulfil, args=("soon",)).start()
        assert promise.result(timeout=1e12) == "soon"
        assert promise.result(timeout=float("inf")) == "soon"

    def test_it_waits_for_another_thread(self, pair):
        promise, resolver = pair
        answers, started = [], threading.Event()

        def wait():
            started.set()
            answers.append(value_of(promise))

        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        resolver.fulfil("for all")
        for thread in threads:
            thread.join()
        assert answers == ["for all"] * 4

    def test_waiting_inside_a_turn_is_an_error(self, vat, pair):
        """The turn that would settle it could never run."""
        promise, resolver = pair
        with pytest.raises(GoblinsError, match="on"):
            vat.run(promise.result)
        with pytest.raises(GoblinsError):
            vat.run(promise.result, 1)
        resolver.fulfil(1)
        with pytest.raises(GoblinsError):
            vat.run(promise.result)
        assert value_of(promise) == 1

    def test_the_actor_that_an_answer_is_comes_out_as_its_ref(self, vat):
        ref = vat.spawn(counter)
        assert value_of(send(vat.spawn(echo), ref)) is ref


class TestAwait:
    async def test_a_promise_can_be_awaited(self, vat):
        assert await send(vat.spawn(echo), "hello") == "hello"

    async def test_awaiting_a_broken_promise_raises_its_error(self, vat):
        with pytest.raises(Boom, match="awaited"):
            await send(vat.spawn(failing), Boom("awaited"))

    async def test_it_can_be_awaited_again(self, vat):
        promise = send(vat.spawn(echo), 1)
        assert [await promise, await promise] == [1, 1]

    async def test_many_can_be_awaited_at_once(self, vat):
        echoes = vat.spawn(echo)
        assert await asyncio.gather(*(send(echoes, n) for n in range(50))) == list(range(50))

    async def test_many_tasks_can_await_one(self, pair):
        promise, resolver = pair

        async def wait():
            return await promise

        tasks = [asyncio.ensure_future(wait()) for _ in range(5)]
        await asyncio.sleep(0)
        resolver.fulfil("all")
        assert await asyncio.gather(*tasks) == ["all"] * 5

    async def test_it_works_with_wait_for_and_stays_good_after_a_timeout(self, pair):
        promise, resolver = pair
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(promise, timeout=0.01)
        resolver.fulfil("later")
        assert await asyncio.wait_for(promise, timeout=30) == "later"

    async def test_cancelling_the_task_leaves_the_promise_alone(self, pair):
        promise, resolver = pair

        async def wait():
            return await promise

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        resolver.fulfil("unharmed")
        assert await promise == "unharmed"

    async def test_it_may_be_settled_by_another_thread(self, pair):
        promise, resolver = pair
        thread = threading.Thread(target=resolver.fulfil, args=("from afar",))
        asyncio.get_running_loop().call_soon(thread.start)
        assert await promise == "from afar"
        thread.join()

    def test_each_of_several_loops_can_await_the_same_promise(self, pair):
        promise, resolver = pair
        answers, waiting = [], threading.Barrier(4)

        async def wait():
            task = asyncio.ensure_future(asyncio.wait_for(promise, 30))
            await asyncio.sleep(0)
            waiting.wait()
            answers.append(await task)

        threads = [threading.Thread(target=lambda: asyncio.run(wait())) for _ in range(3)]
        for thread in threads:
            thread.start()
        waiting.wait()
        resolver.fulfil("everywhere")
        for thread in threads:
            thread.join()
        assert answers == ["everywhere"] * 3

    def test_one_loop_after_another_can_await_it(self, pair):
        promise, resolver = pair

        async def wait():
            return await promise

        resolver.fulfil(1)
        assert [asyncio.run(wait()), asyncio.run(wait())] == [1, 1]

    def test_a_loop_that_is_gone_when_the_promise_settles_does_no_harm(self, pair, caplog):
        promise, resolver = pair

        async def give_up():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(promise, timeout=0.01)

        asyncio.run(give_up())

        abandoned = []

        async def abandon():
            abandoned.append(asyncio.ensure_future(asyncio.wait_for(promise, 30)))
            await asyncio.sleep(0)

        asyncio.run(abandon())
        resolver.fulfil("too late for them")
        assert value_of(promise) == "too late for them"
        assert caplog.records == []


class TestResolvers:
    """ASY-08 to ASY-17"""

    def test_a_resolver_fulfils_its_promise(self, pair):
        promise, resolver = pair
        assert resolver.fulfil([1, 2]) is None
        assert value_of(promise) == [1, 2]

    def test_a_resolver_breaks_its_promise(self, pair):
        promise, resolver = pair
        assert resolver.break_(Boom("broken")) is None
        with pytest.raises(Boom, match="broken"):
            value_of(promise)

    @pytest.mark.parametrize("problem", ["no luck", 42, None, ("a", 1)], ids=repr)
    def test_a_problem_may_be_any_value(self, pair, problem):
        """ASY-17"""
        promise, resolver = pair
        resolver.break_(problem)
        with pytest.raises(BrokenPromiseError) as caught:
            value_of(promise)
        assert caught.value.problem == problem

    def test_breaking_with_a_class_of_error_raises_that_error(self, pair):
        promise, resolver = pair
        resolver.break_(Boom)
        with pytest.raises(Boom):
            value_of(promise)

    def test_the_first_settlement_wins_and_later_ones_do_nothing(self, pair):
        """ASY-10"""
        promise, resolver = pair
        resolver.fulfil("first")
        resolver.fulfil("second")
        resolver.break_(Boom("third"))
        assert value_of(promise) == "first"

    def test_the_first_settlement_wins_within_a_turn(self, vat, pair):
        promise, resolver = pair
        with vat:
            resolver.break_(Boom("first"))
            resolver.fulfil("second")
        with pytest.raises(Boom, match="first"):
            value_of(promise)

    def test_a_resolver_works_from_every_vat_and_from_outside(self, vat, other_vat):
        """ASY-09"""
        for settle in (other_vat.run, vat.run, lambda fn, *args: fn(*args)):
            promise, resolver = vat.run(promise_and_resolver)
            settle(resolver.fulfil, "anywhere")
            assert value_of(promise) == "anywhere"

    def test_a_pair_can_be_made_outside(self):
        promise, resolver = promise_and_resolver()
        resolver.fulfil(3)
        assert value_of(promise) == 3

    def test_a_pair_can_go_through_messages(self, vat, other_vat):
        promise, resolver = vat.run(promise_and_resolver)
        run = other_vat.spawn(caller)
        tell(run, lambda: resolver.fulfil("by a message"))
        assert value_of(promise) == "by a message"

    def test_only_its_own_resolver_settles_a_promise(self, vat):
        """ASY-11"""
        one, _ = vat.run(promise_and_resolver)
        two, resolver = vat.run(promise_and_resolver)
        resolver.fulfil(2)
        assert value_of(two) == 2
        with pytest.raises(TimeoutError):
            one.result(timeout=0)


class TestChains:
    def test_a_promise_fulfilled_with_a_promise_waits_for_it(self, vat):
        """ASY-15"""
        one, resolve_one = vat.run(promise_and_resolver)
        two, resolve_two = vat.run(promise_and_resolver)
        resolve_one.fulfil(two)
        with pytest.raises(TimeoutError):
            one.result(timeout=0)
        resolve_two.fulfil("the end")
        assert value_of(one) == "the end"

    def test_breakage_travels_along_the_chain(self, vat):
        """ASY-15"""
        pairs = [vat.run(promise_and_resolver) for _ in range(5)]
        for (_, resolver), (following, _) in pairwise(pairs):
            resolver.fulfil(following)
        pairs[-1][1].break_(Boom("at the end"))
        with pytest.raises(Boom, match="at the end"):
            value_of(pairs[0][0])

    def test_a_chained_promise_is_settled_by_its_chain_only(self, vat):
        one, resolve_one = vat.run(promise_and_resolver)
        two, resolve_two = vat.run(promise_and_resolver)
        resolve_one.fulfil(two)
        resolve_one.fulfil("too late")
        resolve_one.break_(Boom("too late"))
        resolve_two.fulfil("in time")
        assert value_of(one) == "in time"

    def test_an_answer_that_is_a_promise_is_waited_for(self, vat, pair):
        promise, resolver = pair
        answer = send(vat.spawn(echo), promise)
        resolver.fulfil("inner")
        assert value_of(answer) == "inner"

    def test_a_synchronous_call_gives_the_promise_itself(self, vat, pair):
        promise, _ = pair
        assert vat.spawn(echo)(promise) is promise
        assert vat.run(lambda: promise) is promise

    def test_a_promise_fulfilled_with_itself_breaks(self, pair):
        """ASY-16, LIM-23"""
        promise, resolver = pair
        resolver.fulfil(promise)
        with pytest.raises(BrokenPromiseError, match=r"itself|waits for it"):
            value_of(promise)

    @pytest.mark.parametrize("length", [2, 3, 10])
    def test_promises_that_wait_for_each_other_break(self, vat, length):
        """ASY-16, LIM-23"""
        pairs = [vat.run(promise_and_resolver) for _ in range(length)]
        with vat:
            for (_, resolver), (following, _) in zip(pairs, [*pairs[1:], pairs[0]], strict=True):
                resolver.fulfil(following)
        for promise, _ in pairs:
            with pytest.raises(BrokenPromiseError):
                value_of(promise)

    def test_a_cycle_that_listeners_make_breaks(self, vat, pair):
        promise, resolver = pair
        with vat:
            derived = on(promise, lambda value: derived)
        resolver.fulfil(1)
        with pytest.raises(BrokenPromiseError):
            value_of(derived)

    @pytest.mark.parametrize("shape", ["forwards", "backwards", "derived", "dropped", "answers"])
    def test_chains_of_any_length_are_fine(self, shape):
        """In a child, since a chain that is too long for the stack would end the process."""
        child = run_child("long_chain.py", shape, 100_000)
        assert child.returncode == 0, child.stderr[-2000:]
        assert child.stdout.split() == ["done"]


class TestListeners:
    """ASY-19 to ASY-30"""

    def test_the_handler_gets_the_value_in_a_later_turn(self, vat, pair):
        """ASY-19"""
        promise, resolver = pair
        seen = []
        with vat:
            on(promise, seen.append)
            resolver.fulfil("value")
            assert seen == []
        assert seen == ["value"]

    def test_listening_to_a_settled_promise_works_too(self, vat, pair):
        promise, resolver = pair
        resolver.fulfil("value")
        seen = []
        with vat:
            on(promise, seen.append)
            assert seen == []
        assert seen == ["value"]

    def test_catch_gets_the_error_and_the_other_handler_is_not_called(self, vat, pair):
        """ASY-20"""
        promise, resolver = pair
        seen, error = [], Boom("caught")
        vat.run(lambda: on(promise, lambda value: seen.append("wrong"), catch=seen.append))
        vat.run(resolver.break_, error)
        assert seen == [error]

    def test_catch_is_not_called_for_a_value(self, vat, pair):
        """ASY-20"""
        promise, resolver = pair
        seen = []
        vat.run(lambda: on(promise, seen.append, catch=lambda error: seen.append("wrong")))
        vat.run(resolver.fulfil, 1)
        assert seen == [1]

    @pytest.mark.parametrize("settle", ["fulfil", "break_"])
    def test_finally_is_called_in_both_cases_without_an_argument(self, vat, pair, settle):
        """ASY-21"""
        promise, resolver = pair
        seen = []
        vat.run(lambda: on(promise, catch=lambda error: None, finally_=lambda: seen.append("finally")))
        vat.run(getattr(resolver, settle), Boom())
        assert seen == ["finally"]

    def test_finally_runs_after_the_handler_has_settled(self, vat, pair):
        """ASY-21: also when the handler answers with a promise that is still to come."""
        promise, resolver = pair
        inner, resolve_inner = vat.run(promise_and_resolver)
        seen = []

        def handler(value):
            seen.append("handler")
            return inner

        derived = vat.run(lambda: on(promise, handler, finally_=lambda: seen.append("finally")))
        vat.run(resolver.fulfil, 1)
        assert seen == ["handler"]
        vat.run(resolve_inner.fulfil, "result")
        assert seen == ["handler", "finally"]
        assert value_of(derived) == "result"

    def test_finally_runs_when_the_handler_fails(self, vat, pair):
        promise, resolver = pair
        seen = []

        def handler(value):
            raise Boom("in the handler")

        derived = vat.run(lambda: on(promise, handler, finally_=lambda: seen.append("finally")))
        vat.run(resolver.fulfil, 1)
        assert seen == ["finally"]
        with pytest.raises(Boom, match="in the handler"):
            value_of(derived)

    def test_finally_passes_value_and_error_on(self, vat):
        good, bad = vat.run(promise_and_resolver), vat.run(promise_and_resolver)
        with vat:
            after_good = on(good[0], finally_=lambda: "ignored")
            after_bad = on(bad[0], finally_=lambda: "ignored")
            good[1].fulfil(1)
            bad[1].break_(Boom("kept"))
        assert value_of(after_good) == 1
        with pytest.raises(Boom, match="kept"):
            value_of(after_bad)

    def test_an_error_in_finally_breaks_what_on_gave(self, vat, pair):
        promise, resolver = pair

        def finally_():
            raise Boom("in finally")

        derived = vat.run(lambda: on(promise, finally_=finally_))
        vat.run(resolver.fulfil, 1)
        with pytest.raises(Boom, match="in finally"):
            value_of(derived)

    def test_on_gives_a_promise_of_the_handlers_result(self, vat, pair):
        """ASY-22"""
        promise, resolver = pair
        derived = vat.run(lambda: on(promise, lambda n: n + 1))
        resolver.fulfil(1)
        assert value_of(derived) == 2
        assert value_of(promise) == 1

    def test_a_result_of_catch_is_a_good_value(self, vat, pair):
        promise, resolver = pair
        derived = vat.run(lambda: on(promise, catch=lambda error: "mended"))
        resolver.break_(Boom())
        assert value_of(derived) == "mended"

    def test_without_a_matching_handler_value_and_error_pass_through(self, vat):
        """ASY-22"""
        good, bad = vat.run(promise_and_resolver), vat.run(promise_and_resolver)
        with vat:
            passed = on(good[0], catch=lambda error: "wrong")
            broken = on(bad[0], lambda value: "wrong")
            plain = on(good[0])
        good[1].fulfil("value")
        bad[1].break_(Boom("error"))
        assert [value_of(passed), value_of(plain)] == ["value", "value"]
        with pytest.raises(Boom, match="error"):
            value_of(broken)

    def test_a_handler_that_answers_with_a_promise_chains(self, vat, pair):
        """ASY-22"""
        promise, resolver = pair
        echoes = vat.spawn(echo)
        derived = vat.run(lambda: on(promise, lambda value: send(echoes, value * 2)))
        resolver.fulfil(21)
        assert value_of(derived) == 42

    def test_an_error_in_a_handler_breaks_what_on_gave_and_undoes_the_handlers_turn(self, vat, pair):
        """ASY-26"""
        promise, resolver = pair
        box = vat.spawn(cell, "before")

        def handler(value):
            box.put("after")
            raise Boom("in the handler")

        derived = vat.run(lambda: on(promise, handler))
        resolver.fulfil(1)
        with pytest.raises(Boom, match="in the handler"):
            value_of(derived)
        assert box.get() == "before"

    @pytest.mark.parametrize("value", [1, "text", None, [1, 2]], ids=repr)
    def test_on_takes_values_that_are_no_promise(self, vat, value):
        """ASY-23"""
        seen = []
        with vat:
            derived = on(value, seen.append, finally_=lambda: seen.append("finally"))
            assert seen == []
        assert seen == [value, "finally"]
        assert value_of(derived) is None

    def test_on_a_ref_or_a_promise_for_it_gives_the_ref(self, vat, pair):
        """ASY-24"""
        promise, resolver = pair
        ref = vat.spawn(counter)
        seen = []
        with vat:
            on(ref, seen.append)
            on(promise, seen.append)
            resolver.fulfil(ref)
        assert seen == [ref, ref]

    def test_an_actor_and_its_message_can_be_handlers(self, vat, pair):
        """ASY-25"""
        promise, resolver = pair
        box, echoes = vat.spawn(cell), vat.spawn(echo)
        with vat:
            on(promise, box.put)
            derived = on(promise, echoes)
        resolver.fulfil("value")
        assert value_of(derived) == "value"
        assert box.get() == "value"

    @pytest.mark.parametrize("name", ["fulfilled", "catch", "finally_"])
    def test_a_handler_that_cannot_be_called_is_an_error_at_once(self, vat, pair, name):
        """ASY-25"""
        promise, _ = pair
        with pytest.raises(TypeError):
            vat.run(lambda: on(promise, **{name: 42}))

    def test_listeners_are_told_oldest_first(self, vat, pair):
        """ASY-27, LIM-26"""
        promise, resolver = pair
        seen = []
        with vat:
            for n in range(20):
                on(promise, lambda value, n=n: seen.append(n))
        vat.run(resolver.fulfil, None)
        assert seen == list(range(20))

    def test_listeners_of_a_chained_promise_are_told_oldest_first(self, vat):
        """ASY-27"""
        outer, resolve_outer = vat.run(promise_and_resolver)
        inner, resolve_inner = vat.run(promise_and_resolver)
        seen = []
        with vat:
            for n in range(3):
                on(outer, lambda value, n=n: seen.append(n))
        vat.run(resolve_outer.fulfil, inner)
        with vat:
            for n in range(3, 6):
                on(outer, lambda value, n=n: seen.append(n))
        vat.run(resolve_inner.fulfil, None)
        assert seen == list(range(6))

    def test_waiting_messages_go_on_before_listeners_are_told(self, vat, pair):
        """ASY-28"""
        promise, resolver = pair
        seen = []
        log = vat.spawn(lambda bcom: seen.append)
        with vat:
            on(promise, lambda ref: seen.append("listener"))
            tell(promise, "first message")
            tell(promise, "second message")
        vat.run(resolver.fulfil, log)
        assert seen == ["first message", "second message", "listener"]

    def test_one_failing_listener_does_not_keep_the_others_from_hearing(self, vat, pair):
        promise, resolver = pair
        seen = []

        def fail(value):
            raise Boom

        with vat:
            broken = on(promise, fail)
            on(promise, seen.append)
        vat.run(resolver.fulfil, 1)
        assert seen == [1]
        with pytest.raises(Boom):
            value_of(broken)

    def test_on_works_for_a_promise_of_another_vat(self, vat, other_vat):
        """ASY-30"""
        far = other_vat.spawn(echo)
        derived = vat.run(lambda: on(send(far, 20), lambda n: n + 1))
        assert value_of(derived) == 21

    def test_the_handler_runs_in_the_vat_that_listens(self, vat, other_vat):
        """ASY-19"""
        box, promise = vat.spawn(cell), send(other_vat.spawn(echo), "far")
        derived = vat.run(lambda: on(promise, lambda value: box.put(value)))
        assert value_of(derived) is None
        assert box.get() == "far"


class TestPipelining:
    """ASY-31 to ASY-36"""

    def test_a_message_to_a_promise_goes_to_what_it_becomes(self, vat, pair):
        """ASY-31"""
        promise, resolver = pair
        answer = send(promise, "hello")
        method_answer = vat.run(lambda: send(promise, "turn"))
        resolver.fulfil(vat.spawn(echo))
        assert value_of(answer) == "hello"
        assert value_of(method_answer) == "turn"

    def test_a_method_of_a_promise_can_be_sent(self, vat, pair):
        """ASY-31"""
        promise, resolver = pair
        put, get = send(promise.put, 7), send(promise.get)
        resolver.fulfil(vat.spawn(cell))
        assert value_of(put) is None
        assert value_of(get) == 7

    def test_methods_named_like_those_of_a_promise_can_be_sent_to_a_ref(self, vat):
        ref = vat.spawn(lambda bcom: methods(result=lambda: "mine"))
        assert value_of(send(ref.result)) == "mine"

    def test_a_chain_of_messages_needs_no_answer_in_between(self, vat):
        def factory(bcom):
            def make(depth):
                return spawn(factory) if depth else spawn(echo)

            return make

        made = send(vat.spawn(factory), 1)
        for depth in (1, 1, 0):
            made = send(made, depth)
        assert value_of(send(made, "deep")) == "deep"

    def test_pipelining_works_between_vats(self, vat, other_vat):
        far = other_vat.spawn(lambda bcom: lambda n: spawn(counter, n))
        answer = vat.run(lambda: send(send(far, 5)))
        assert value_of(answer) == 5

    def test_messages_that_wait_keep_their_order(self, vat, pair):
        """ASY-28"""
        promise, resolver = pair
        seen = []
        for n in range(50):
            tell(promise, n)
        vat.run(resolver.fulfil, vat.spawn(lambda bcom: seen.append))
        vat.drain(timeout=30)
        assert seen == list(range(50))

    def test_breakage_reaches_everything_that_waits(self, vat, pair):
        """ASY-32"""
        promise, resolver = pair
        error = Boom("broken before")
        one = send(promise, 1)
        two = send(one, 2)
        three = send(two.method, 3)
        resolver.break_(error)
        for dependant in (one, two, three):
            with pytest.raises(Boom) as caught:
                value_of(dependant)
            assert caught.value is error

    def test_a_message_to_a_broken_promise_breaks_its_own(self, vat, pair):
        """ASY-33"""
        promise, resolver = pair
        resolver.break_(Boom("broken already"))
        with pytest.raises(Boom, match="broken already"):
            value_of(send(promise, 1))

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_message_to_a_promise_for_a_plain_value_breaks_with_an_error_that_says_so(
        self, vat, pair, when
    ):
        """ASY-34, ASY-35, LIM-24"""
        promise, resolver = pair
        if when == "before":
            resolver.fulfil(42)
        one = send(promise, 1)
        two = send(one.method)
        if when == "after":
            resolver.fulfil(42)
        for dependant in (one, two):
            with pytest.raises(BrokenPromiseError, match="42"):
                value_of(dependant)
        assert value_of(promise) == 42

    def test_telling_a_broken_promise_never_raises(self, vat, pair):
        """ASY-36, LIM-25: the other waiters get what they wait for."""
        promise, resolver = pair
        tell(promise, 1)
        other = send(promise, 2)
        with vat:
            tell(promise, 3)
            resolver.break_(Boom("told"))
            tell(promise, 4)
        tell(promise, 5)
        with pytest.raises(Boom, match="told"):
            value_of(other)


class TestCallingAPromise:
    """SYN-04 to SYN-06: within a turn, a promise can be called like what it stands for."""

    def test_one_that_stands_for_a_near_actor_calls_it(self, vat, pair):
        """SYN-04"""
        promise, resolver = pair
        resolver.fulfil(vat.spawn(counter, 3))
        assert vat.run(lambda: [promise(), promise()]) == [3, 4]

    def test_so_do_its_methods(self, vat, pair):
        """SYN-04"""
        promise, resolver = pair
        resolver.fulfil(vat.spawn(cell, 3))

        def body():
            promise.put(promise.get() + 1)
            return promise.get()

        assert vat.run(body) == 4

    def test_one_that_holds_a_value_gives_it_whatever_the_arguments(self, vat, pair):
        """SYN-05"""
        promise, resolver = pair
        resolver.fulfil("value")
        assert vat.run(lambda: [promise(), promise(1, two=3)]) == ["value", "value"]

    def test_one_that_is_still_to_come_is_an_error(self, vat, pair):
        """SYN-06"""
        promise, resolver = pair
        with pytest.raises(GoblinsError):
            vat.run(promise)
        resolver.fulfil("fine now")
        assert vat.run(promise) == "fine now"

    def test_a_broken_one_raises_its_error(self, vat, pair):
        """SYN-06, where ours differs."""
        promise, resolver = pair
        resolver.break_(Boom("broken"))
        with pytest.raises(Boom, match="broken"):
            vat.run(promise)

    def test_one_that_stands_for_a_far_actor_is_a_far_call(self, vat, other_vat, pair):
        """SYN-06"""
        promise, resolver = pair
        resolver.fulfil(other_vat.spawn(counter))
        with pytest.raises(FarCallError, match="send"):
            vat.run(promise)

    def test_a_turn_sees_its_own_settlement(self, vat, pair):
        promise, resolver = pair

        def body():
            resolver.fulfil("mine")
            return promise()

        assert vat.run(body) == "mine"

    def test_a_chained_promise_gives_the_end_of_its_chain(self, vat):
        one, resolve_one = vat.run(promise_and_resolver)
        two, resolve_two = vat.run(promise_and_resolver)
        resolve_one.fulfil(two)
        resolve_two.fulfil("end")
        assert vat.run(one) == "end"


def test_a_promise_shows_how_far_it_has_come_but_not_its_value(vat):
    promise, resolver = vat.run(promise_and_resolver)
    before = repr(promise)
    resolver.fulfil("hunter2")
    assert "hunter2" not in repr(promise)
    assert repr(promise) != before


def test_promises_are_equal_only_to_themselves_and_can_be_keys(vat):
    one, two = vat.run(promise_and_resolver)[0], vat.run(promise_and_resolver)[0]
    assert one == [one][0]
    assert one != two
    assert {one: 1, two: 2}[one] == 1


def test_a_promise_has_no_attribute_named_like_pythons_internals(vat):
    promise, _ = vat.run(promise_and_resolver)
    for name in ("__iter__", "__len__", "__fspath__", "__array__", "__enter__"):
        assert not hasattr(promise, name)
