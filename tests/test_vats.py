"""Vats: names, running code in them, turns as blocks, coming to rest, closing, and many threads."""

import os
import threading

import pytest
from goblins import (
    GoblinsError,
    ManualVat,
    MemoryStore,
    PersistenceEnv,
    Vat,
    VatClosedError,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_named,
    spawn_persistent_vat,
    tell,
)
from support import Boom, caller, cell, counter, echo, failing, failing_turn


def in_threads(count, body):
    """Runs `body(index)` in several threads that start together; raises what one of them raised."""
    start, errors = threading.Barrier(count), []

    def run(index):
        try:
            start.wait()
            body(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class TestNames:
    def test_a_vat_has_the_name_it_was_given(self):
        """VAT-01, VAT-02"""
        vat = Vat("the bank")
        assert vat.name == "the bank"
        assert "the bank" in repr(vat)
        vat.close()

    def test_a_vat_without_a_name_gets_one_of_its_own(self):
        """VAT-02"""
        one, two = Vat(), Vat()
        assert isinstance(one.name, str)
        assert one.name != two.name
        one.close()
        two.close()

    def test_it_can_be_given_by_keyword(self):
        vat = Vat(name="x", log=False, log_capacity=16)
        assert vat.name == "x"
        vat.close()

    @pytest.mark.parametrize("name", [3, b"bytes", ["x"]], ids=repr)
    def test_a_name_is_a_text(self, name):
        with pytest.raises(TypeError):
            Vat(name)


class TestRunningCode:
    def test_run_gives_the_result_of_the_function(self, vat):
        """VAT-08"""
        assert vat.run(lambda: 42) == 42

    def test_run_passes_arguments_and_keywords(self, vat):
        words = {"fn": 1, "self": 2, "name": 3}
        assert vat.run(lambda *args, **kwargs: (args, kwargs), 1, 2, **words) == ((1, 2), words)

    def test_several_values_come_back_as_a_tuple(self, vat):
        """VAT-09"""
        assert vat.run(lambda: (1, 2)) == (1, 2)

    def test_an_error_is_raised_in_the_caller_and_undoes_the_turn(self, vat):
        """VAT-10"""
        ticks, error = vat.spawn(counter), Boom("no")

        def body():
            ticks()
            raise error

        with pytest.raises(Boom) as caught:
            vat.run(body)
        assert caught.value is error
        assert ticks() == 0

    def test_actors_spawned_in_it_live_in_the_vat(self, vat):
        def body():
            ref = spawn(counter)
            return ref, ref()

        ref, first = vat.run(body)
        assert first == 0
        assert vat.run(ref) == 1

    def test_what_cannot_be_called_is_an_error(self, vat):
        with pytest.raises(TypeError):
            vat.run(42)

    def test_spawn_takes_arguments_and_gives_a_ref(self, vat):
        words = {"ctor": 1, "self": 2}
        ref = vat.spawn(lambda bcom, *args, **kwargs: lambda: (args, kwargs), 1, **words)
        assert ref() == ((1,), words)

    def test_spawn_named_works_in_run(self, vat):
        assert "clerk" in repr(vat.run(spawn_named, "clerk", counter))


class TestTurnsAsBlocks:
    def test_a_block_is_one_turn(self, vat):
        ticks, box = vat.spawn(counter), vat.spawn(cell)
        with vat:
            ticks()
            box.put(ticks())
        assert box.get() == 1

    def test_an_exception_undoes_the_block_and_goes_on_up(self, vat):
        ticks, error = vat.spawn(counter), Boom()
        ticks()
        with failing_turn(vat) as caught:
            ticks()
            ticks()
            raise error
        assert caught.value is error
        assert ticks() == 1

    def test_an_exception_caught_in_the_block_undoes_nothing(self, vat):
        """TRN-04"""
        ticks, fails = vat.spawn(counter), vat.spawn(failing)
        with vat:
            ticks()
            with pytest.raises(Boom):
                fails(Boom())
        assert ticks() == 1

    def test_messages_of_the_block_are_handled_at_its_end(self, vat):
        box = vat.spawn(cell, "before")
        with vat:
            tell(box.put, "after")
            assert box.get() == "before"
        with vat:
            assert box.get() == "after"

    def test_spawning_works_in_it(self, vat):
        with vat:
            ticks = spawn(counter, 4)
        assert ticks() == 4

    @pytest.mark.parametrize("leave", ["return", "break", "continue"])
    def test_leaving_it_early_keeps_what_was_done(self, vat, leave):
        ticks = vat.spawn(counter)

        def body():
            for _ in range(1):
                with vat:
                    ticks()
                    if leave == "return":
                        return
                    if leave == "break":
                        break
                    continue

        body()
        assert ticks() == 1

    def test_one_block_after_another_is_fine_also_after_an_error(self, vat):
        ticks = vat.spawn(counter)
        for n in range(10):
            with vat:
                assert ticks() == n
            with failing_turn(vat):
                ticks()
                raise Boom

    def test_the_vat_can_be_entered_again_after_a_failed_attempt_to_nest(self, vat):
        ticks = vat.spawn(counter)
        with vat:
            try:
                with vat:
                    ticks()
            except GoblinsError:
                ticks()
        assert ticks() == 1

    def test_calls_of_other_threads_wait_for_its_end(self, vat):
        ticks, seen = vat.spawn(counter), []
        started = threading.Event()

        def other():
            started.set()
            seen.append(ticks())

        thread = threading.Thread(target=other)
        with vat:
            thread.start()
            started.wait()
            for _ in range(100):
                ticks()
            assert seen == []
        thread.join()
        assert seen == [100]

    def test_a_block_must_be_left_by_its_own_thread(self, vat):
        ticks = vat.spawn(counter)
        errors = []

        def leave():
            try:
                vat.__exit__(None, None, None)
            except GoblinsError as error:
                errors.append(error)

        with vat:
            ticks()
            thread = threading.Thread(target=leave)
            thread.start()
            thread.join()
        assert len(errors) == 1
        assert ticks() == 1

    def test_leaving_what_was_not_entered_is_an_error(self, vat):
        with pytest.raises(GoblinsError):
            vat.__exit__(None, None, None)
        assert vat.spawn(counter)() == 0

    def test_blocks_of_two_vats_cannot_be_nested(self, vat, other_vat):
        """VAT-12: two threads that nest them in different order would wait for ever."""
        with vat, pytest.raises(GoblinsError):
            other_vat.__enter__()
        with other_vat:
            pass


class TestComingToRest:
    def test_drain_returns_when_all_messages_have_been_handled(self, vat):
        box = vat.spawn(cell)
        for n in range(1000):
            tell(box.put, n)
        assert vat.drain() is None
        with vat:
            assert box.get() == 999

    def test_drain_of_an_idle_vat_returns_at_once(self, vat):
        vat.drain()
        vat.drain(timeout=0)

    def test_drain_waits_for_messages_that_messages_cause(self, vat):
        seen, me = [], []

        def walker(n):
            seen.append(n)
            if n:
                tell(me[0], n - 1)

        me.append(vat.spawn(lambda bcom: walker))
        tell(me[0], 500)
        vat.drain(timeout=30)
        assert seen[-1] == 0

    def test_a_drain_that_takes_too_long_is_a_timeout_error_and_the_vat_goes_on(self, vat):
        entered, leave = threading.Event(), threading.Event()
        run, ticks = vat.spawn(caller), vat.spawn(counter)

        def busy():
            entered.set()
            leave.wait()

        tell(run, busy)
        entered.wait()
        tell(ticks)
        with pytest.raises(TimeoutError):
            vat.drain(timeout=0.01)
        leave.set()
        vat.drain(timeout=30)
        assert ticks() == 1

    def test_drain_inside_a_turn_is_an_error(self, vat):
        """VAT-12: the turn that waits would be what it waits for."""
        with pytest.raises(GoblinsError):
            vat.run(vat.drain)


class TestClosing:
    def test_a_closed_vat_refuses_every_use(self):
        """VAT-11"""
        vat = Vat("gone")
        ticks = vat.spawn(counter)
        vat.close()
        uses = [
            ticks,
            lambda: vat.run(lambda: None),
            lambda: vat.spawn(counter),
            vat.__enter__,
            vat.drain,
            lambda: send(ticks).result(timeout=30),
        ]
        for use in uses:
            with pytest.raises(VatClosedError, match="gone"):
                use()

    def test_closing_twice_is_fine(self):
        vat = Vat()
        assert vat.close() is None
        assert vat.close() is None

    def test_refs_of_a_closed_vat_can_still_be_held_and_shown(self):
        vat = Vat()
        ticks = vat.spawn(counter)
        vat.close()
        assert "counter" in repr(ticks)
        assert vat.name
        assert {ticks: 1}[ticks] == 1

    def test_queued_messages_are_broken_and_the_turn_that_runs_is_finished(self):
        """VAT-16, LIM-32: nobody is left waiting."""
        vat = Vat("closing")
        entered, leave = threading.Event(), threading.Event()
        box, run = vat.spawn(cell), vat.spawn(caller)

        def busy():
            entered.set()
            leave.wait()
            return box.put("finished")

        first = send(run, busy)
        entered.wait()
        queued = [send(box.put, n) for n in range(10)]
        dependant = send(queued[0].anything)
        closer = threading.Thread(target=vat.close)
        closer.start()
        # From the moment that closing has begun, nothing new gets in.
        while True:
            late = send(box.get)
            try:
                late.result(timeout=0)
            except VatClosedError:
                break
            except TimeoutError:
                queued.append(late)
        leave.set()
        closer.join()
        assert first.result(timeout=30) is None
        for promise in (*queued, dependant):
            with pytest.raises(VatClosedError, match="closing"):
                promise.result(timeout=30)

    def test_threads_that_wait_for_a_busy_vat_are_woken_when_it_closes(self):
        """LIM-32"""
        vat = Vat()
        entered, leave, ready = threading.Event(), threading.Event(), threading.Barrier(4)
        run, ticks = vat.spawn(caller), vat.spawn(counter)
        errors = []

        def busy():
            entered.set()
            leave.wait()

        def call():
            ready.wait()
            try:
                while True:
                    ticks()
            except VatClosedError as error:
                errors.append(error)

        tell(run, busy)
        entered.wait()
        callers = [threading.Thread(target=call) for _ in range(3)]
        for thread in callers:
            thread.start()
        ready.wait()
        closer = threading.Thread(target=vat.close)
        closer.start()
        leave.set()
        for thread in (*callers, closer):
            thread.join()
        assert len(errors) == 3

    def test_a_listener_in_a_closed_vat_hears_nothing_and_what_on_gave_is_broken(self, vat):
        closing = Vat("closing")
        promise, resolver = vat.run(promise_and_resolver)
        seen = []
        derived = closing.run(lambda: on(promise, seen.append))
        closing.close()
        resolver.fulfil("too late")
        with pytest.raises(VatClosedError, match="closing"):
            derived.result(timeout=30)
        assert seen == []
        assert promise.result(timeout=30) == "too late"

    def test_other_vats_go_on(self, vat):
        gone = Vat()
        ref = gone.spawn(counter)
        gone.close()
        box = vat.spawn(cell)
        with vat:
            on(send(ref), catch=lambda error: box.put(type(error)))
        vat.drain(timeout=30)
        assert box.get() is VatClosedError

    def test_a_vat_cannot_be_closed_from_inside_its_own_turn(self, vat):
        ticks = vat.spawn(counter)

        def body():
            ticks()
            vat.close()

        with pytest.raises(GoblinsError):
            vat.run(body)
        assert ticks() == 0


class TestFailingTurns:
    def test_no_number_of_failing_turns_stops_the_vat(self, vat, caplog):
        fails, ticks = vat.spawn(failing), vat.spawn(counter)
        for n in range(100):
            tell(fails, Boom(n))
            tell(ticks)
        vat.drain(timeout=30)
        assert ticks() == 100
        assert len(caplog.records) == 100

    @pytest.mark.parametrize("error", [Boom(), RecursionError(), MemoryError(), SystemExit()], ids=repr)
    def test_no_kind_of_error_stops_the_vat(self, vat, error):
        fails, ticks = vat.spawn(failing), vat.spawn(counter)
        with pytest.raises(type(error)):
            send(fails, error).result(timeout=30)
        with pytest.raises(type(error)):
            fails(error)
        assert ticks() == 0


class TestManyThreads:
    def test_eight_threads_that_call_one_counter_lose_nothing(self, vat):
        """VAT-04"""
        ticks, seen = vat.spawn(counter), [[] for _ in range(8)]
        in_threads(8, lambda index: seen[index].extend(ticks() for _ in range(500)))
        assert sorted(n for some in seen for n in some) == list(range(4000))
        assert all(some == sorted(some) for some in seen)

    def test_threads_that_send_and_call_and_run_blocks_lose_nothing(self, vat):
        ticks = vat.spawn(counter)

        def body(index):
            promises = []
            for n in range(200):
                match (index + n) % 4:
                    case 0:
                        ticks()
                    case 1:
                        promises.append(send(ticks))
                    case 2:
                        tell(ticks)
                    case _:
                        with vat:
                            ticks()
            for promise in promises:
                promise.result(timeout=60)

        in_threads(8, body)
        vat.drain(timeout=60)
        assert ticks() == 1600

    def test_blocks_of_threads_never_mix(self, vat):
        """Each block moves an amount; nobody ever sees one that is on its way."""
        left, right = vat.spawn(cell, 1000), vat.spawn(cell, 0)

        def body(index):
            for n in range(100):
                try:
                    with vat:
                        left.put(left.get() - 1)
                        right.put(right.get() + 1)
                        if n % 10 == index % 10:
                            raise Boom
                except Boom:
                    pass
                assert sum(vat.run(lambda: (left.get(), right.get()))) == 1000

        in_threads(4, body)
        assert (left.get(), right.get()) == (1000 - 360, 360)

    def test_vats_that_send_to_each_other_from_many_threads_come_to_rest(self):
        vats = [Vat(f"ring {n}") for n in range(4)]
        ring = []

        def hop(n):
            if n:
                return send(ring[n % 4], n - 1)
            return "around"

        ring.extend(vat.spawn(lambda bcom: hop) for vat in vats)

        def body(index):
            for _ in range(20):
                assert send(ring[index % 4], 40).result(timeout=60) == "around"

        in_threads(8, body)
        for vat in vats:
            vat.close()

    @pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc to count threads")
    def test_thousands_of_vats_need_no_threads_of_their_own(self):
        def threads():
            return len(os.listdir("/proc/self/task"))

        before = threads()
        vats = [Vat() for _ in range(3000)]
        answers = [send(vat.spawn(echo), n) for n, vat in enumerate(vats)]
        assert [answer.result(timeout=60) for answer in answers] == list(range(3000))
        assert threads() <= before + 64
        for vat in vats:
            vat.close()


class TestBadArguments:
    @pytest.mark.parametrize("kind", [Vat, ManualVat])
    @pytest.mark.parametrize(
        ("options", "error", "said"),
        [
            ({"log_capacity": -1}, ValueError, "log_capacity is a number of events, at least 1, not -1"),
            ({"log_capacity": 0}, ValueError, "at least 1, not 0"),
            ({"log_capacity": 2**70}, ValueError, "log_capacity"),
            (
                {"log_capacity": "many"},
                TypeError,
                "log_capacity is a number of events, at least 1, not 'many'",
            ),
            ({"inbox_limit": 0}, ValueError, "inbox_limit is a number of messages, at least 1, or None"),
            ({"inbox_limit": -1}, ValueError, "not -1"),
            ({"inbox_limit": 1.5}, TypeError, "not 1.5"),
            ({"slow_turn": 0}, ValueError, "slow_turn is a number of seconds, more than 0, or None"),
            ({"slow_turn": -1}, ValueError, "not -1"),
            ({"slow_turn": float("nan")}, ValueError, "slow_turn"),
            ({"slow_turn": "long"}, TypeError, "slow_turn"),
            ({"name": "\ud800"}, ValueError, "lone surrogates, not '\\ud800'"),
            ({"name": 5}, TypeError, "the name of a vat is a str, not 5"),
            ({"name": b"x"}, TypeError, "a str, not b'x'"),
        ],
    )
    def test_each_is_an_error_that_says_what_may_be_given(self, kind, options, error, said):
        with pytest.raises(error) as caught:
            kind(**options)
        assert said in str(caught.value)

    @pytest.mark.parametrize("seconds", [0, -1, float("nan")])
    def test_a_limit_of_slow_turns_that_is_none_changes_nothing(self, seconds):
        vat = Vat(slow_turn=5)
        with pytest.raises(ValueError, match="slow_turn"):
            vat.slow_turn = seconds
        assert vat.slow_turn == 5
        vat.slow_turn = float("inf")
        assert vat.slow_turn is None

    def test_a_limit_of_waiting_messages_that_is_none_changes_nothing(self):
        vat = Vat(inbox_limit=5)
        for limit, error in ((0, ValueError), (-1, ValueError), ("5", TypeError)):
            with pytest.raises(error, match=r"inbox_limit .*, not \S+$"):
                vat.inbox_limit = limit
        assert vat.inbox_limit == 5

    @pytest.mark.parametrize("capacity", [0, -1, 2**70, "x", 1.5])
    def test_a_capacity_that_no_log_can_have_changes_nothing(self, capacity):
        vat = Vat()
        with pytest.raises((ValueError, TypeError), match="the capacity of a log"):
            vat.log.capacity = capacity
        assert vat.log.capacity == 256

    @pytest.mark.parametrize(
        "options", [{"name": "\ud800"}, {"name": 5}, {"log_capacity": "x"}, {"log_capacity": 2**70}]
    )
    def test_a_vat_with_a_store_that_is_refused_leaves_the_store_free(self, options):
        store = MemoryStore()
        env = PersistenceEnv("test", counter)
        with pytest.raises((ValueError, TypeError)):
            spawn_persistent_vat(env, lambda: spawn(counter), store, **options)
        vat, ticks = spawn_persistent_vat(env, lambda: spawn(counter), store)
        assert ticks() == 0
        vat.close()
