"""Who waits for a promise: rings, chains of any length, and lines that are left again."""

import gc
import weakref

import pytest
from goblins import (
    BrokenPromiseError,
    ManualVat,
    MemoryStore,
    NoTurnError,
    Promise,
    Vat,
    VatClosedError,
    all_of,
    on,
    promise_and_resolver,
    race,
    send,
    spawn,
    spawn_persistent_vat,
)
from support import ENV, Boom, caller, cell, collect, counter, echo, run_child

LONG = 20_000


@pytest.fixture(params=["outside", "in a turn"])
def call(request, vat):
    """Calls a function outside of all turns, or in one."""
    return vat.run if request.param == "in a turn" else lambda fn, *args: fn(*args)


RINGS = {
    "a part": lambda promise: promise["part"],
    "a part of a part": lambda promise: promise["part"][0],
    "all of it": lambda promise: all_of(promise),
    "all of it and others": lambda promise: all_of(never(), promise, 1),
    "the first of it": lambda promise: race(promise),
    "the first of it and its part": lambda promise: race(promise, promise["part"]),
    "the first of two that contain it": lambda promise: race(all_of(promise, never()), promise[0]),
    "an answer": lambda promise: send(promise, 1),
    "an answer of a method": lambda promise: send(promise.method),
    "an answer of an answer": lambda promise: send(send(promise.method).method),
    "a mixture": lambda promise: all_of(race(send(promise["part"].method)))[0],
}

LISTENERS = {
    "a listener": lambda promise: on(promise),
    "a handler": lambda promise: on(promise, lambda value: value),
    "a handler of errors": lambda promise: on(promise, catch=str),
    "a last handler": lambda promise: on(promise, finally_=lambda: None),
    "several handlers": lambda promise: on(on(promise, str, finally_=lambda: None)["part"], str),
}

KEPT = []


def never():
    """A promise that nobody settles."""
    KEPT.append(promise_and_resolver())
    return KEPT[-1][0]


@pytest.fixture(autouse=True)
def keep_until_the_end():
    yield
    KEPT.clear()


class TestRings:
    """A promise that would wait for itself is broken (ASY-16, LIM-23)."""

    @pytest.mark.parametrize("ring", RINGS)
    def test_one_fulfilled_with_what_is_made_of_it_is_broken(self, call, ring):
        def close():
            promise, resolver = promise_and_resolver()
            derived = RINGS[ring](promise)
            resolver.fulfil(derived)
            return [promise, derived]

        for promise in call(close):
            with pytest.raises(BrokenPromiseError, match="in turn"):
                promise.result(30)

    @pytest.mark.parametrize("ring", LISTENERS)
    def test_one_fulfilled_with_what_its_listener_gives_is_broken(self, vat, ring):
        def close():
            promise, resolver = promise_and_resolver()
            resolver.fulfil(LISTENERS[ring](promise))
            return [promise]

        (promise,) = vat.run(close)
        with pytest.raises(BrokenPromiseError, match="in turn"):
            promise.result(30)

    @pytest.mark.parametrize("ring", RINGS)
    def test_a_ring_through_several_promises_is_broken(self, call, ring):
        pairs = [promise_and_resolver() for _ in range(3)]

        def close():
            for (_, resolver), (following, _) in zip(pairs, pairs[1:] + pairs[:1], strict=True):
                resolver.fulfil(RINGS[ring](following))

        call(close)
        for promise, _ in pairs:
            with pytest.raises(BrokenPromiseError, match="in turn"):
                promise.result(30)

    def test_a_race_that_something_else_can_win_is_no_ring(self, call):
        (promise, resolver), (other, others) = promise_and_resolver(), promise_and_resolver()
        call(lambda: resolver.fulfil(race(promise, promise["part"], other)))
        others.fulfil("other")
        assert promise.result(30) == "other"

    def test_a_race_that_nothing_else_can_win_any_more_is_one(self, call):
        (promise, resolver), (other, others) = promise_and_resolver(), promise_and_resolver()
        call(lambda: resolver.fulfil(race(promise, other)))
        call(lambda: others.fulfil(promise["part"]))
        for one in (promise, other):
            with pytest.raises(BrokenPromiseError, match="in turn"):
                one.result(30)

    def test_what_is_made_of_one_promise_twice_is_no_ring(self, call):
        (promise, resolver), (other, others) = promise_and_resolver(), promise_and_resolver()
        call(lambda: others.fulfil(all_of(promise["a"], promise["b"], race(promise, promise["a"]))))
        resolver.fulfil({"a": 1, "b": 2})
        assert other.result(30)[:2] == [1, 2]

    def test_code_that_awaits_its_own_answer_gets_an_error(self, vat):
        async def wait(promise):
            return await promise

        waiter = vat.spawn(lambda bcom: wait)
        promise, resolver = promise_and_resolver()
        answer = send(waiter, promise)
        resolver.fulfil(answer)
        vat.drain(30)
        for one in (promise, answer):
            with pytest.raises(BrokenPromiseError, match="in turn"):
                one.result(30)

    def test_code_that_awaits_a_part_of_its_own_answer_gets_an_error(self, vat):
        async def wait(promise):
            return await promise["part"]

        waiter = vat.spawn(lambda bcom: wait)
        promise, resolver = promise_and_resolver()
        resolver.fulfil(send(waiter, promise))
        with pytest.raises(BrokenPromiseError, match="in turn"):
            promise.result(30)

    def test_code_that_awaits_others_one_after_the_other_is_fine(self, vat):
        async def wait(first, second):
            return [await first, await second]

        waiter = vat.spawn(lambda bcom: wait)
        (first, one), (second, two) = promise_and_resolver(), promise_and_resolver()
        answer = send(waiter, first, second)
        vat.drain(30)
        one.fulfil(1)
        vat.drain(30)
        two.fulfil({"part": 2})
        assert answer.result(30) == [1, {"part": 2}]


def promises():
    collect()
    return sum(type(one) is Promise for one in gc.get_objects())


MADE = {
    "a race": lambda stop, vat: race(stop, send(vat.spawn(echo), 1)).result(30),
    "a race in a turn": lambda stop, vat: vat.run(lambda: race(stop, send(spawn(echo), 1))).result(30),
    "all of some, of which one breaks": lambda stop, vat: str(all_of(stop, broken())),
    "a part that is dropped": lambda stop, vat: str(stop["part"]),
    "a part in a turn that is dropped": lambda stop, vat: vat.run(lambda: str(stop["part"])),
    "a part of a part that is dropped": lambda stop, vat: str(stop["part"]["of it"]),
    "a race that is dropped": lambda stop, vat: str(race(stop, stop["part"], never_kept())),
    "all of some, dropped": lambda stop, vat: str(all_of(stop, stop)),
    "a promise fulfilled with it, dropped": lambda stop, vat: follow(stop),
    "a listener without a handler, dropped": lambda stop, vat: vat.run(lambda: str(on(stop))),
}


def never_kept():
    return KEPT[0][0] if KEPT else never()


def broken():
    promise, resolver = promise_and_resolver()
    resolver.break_(Boom("one"))
    return promise


def follow(stop):
    promise, resolver = promise_and_resolver()
    resolver.fulfil(stop)
    return promise is None


class TestNobodyLeftToSettle:
    """That a promise waits for another does not keep the right to settle that one alive."""

    @pytest.mark.parametrize("listening", LISTENERS)
    def test_who_has_what_is_made_of_an_abandoned_promise_is_told(self, vat, listening):
        def listen():
            promise, resolver = promise_and_resolver()
            on(promise, lambda value: resolver)
            return [LISTENERS[listening](promise)]

        (derived,) = vat.run(listen)
        collect()
        vat.drain(30)
        try:
            value = derived.result(30)
        except BrokenPromiseError as error:
            value = str(error)
        assert value is None or "abandoned" in value


class TestLines:
    """A promise may be pending as long as a program runs: who has what he wanted does not stay with it."""

    @pytest.mark.parametrize("made", MADE)
    def test_what_nobody_needs_any_more_leaves_a_pending_promise(self, vat, made):
        stop = never()
        MADE[made](stop, vat)
        before = promises()
        for _ in range(1000):
            MADE[made](stop, vat)
        assert promises() - before < 250

    def test_what_somebody_still_has_stays(self, vat):
        stop, resolver = promise_and_resolver()
        held = [(stop[n], race(stop, never()), all_of(stop, 1)) for n in range(100)]
        for _ in range(300):
            race(stop, 1)
            stop["dropped"]
        resolver.fulfil(list(range(100)))
        for n, (part, first, both) in enumerate(held):
            assert (part.result(30), len(first.result(30)), both.result(30)[1]) == (n, 100, 1)

    def test_what_is_made_of_something_dropped_stays(self, vat):
        stop, resolver = promise_and_resolver()
        seen = []
        last = [stop["a"]["b"]["c"] for _ in range(100)]
        vat.run(lambda: [on(stop["a"], seen.append) for _ in range(50)] and None)
        answers = [send(stop["d"], n) for n in range(100)]
        for _ in range(300):
            stop["a"]["b"]
        resolver.fulfil({"a": {"b": {"c": 3}}, "d": vat.spawn(echo)})
        assert [part.result(30) for part in last] == [3] * 100
        assert [answer.result(30) for answer in answers] == list(range(100))
        vat.drain(30)
        assert seen == [{"b": {"c": 3}}] * 50

    def test_an_error_is_logged_though_all_parts_have_left(self, caplog):
        stop, resolver = promise_and_resolver()
        for _ in range(33):
            stop["part"]
        resolver.break_(Boom("unheard"))
        del stop, resolver
        collect()
        assert "Boom: unheard" in caplog.text

    def test_an_error_that_races_drop_stays_silent_though_they_have_left(self, caplog):
        stop, resolver = promise_and_resolver()
        for _ in range(1000):
            assert race(stop, 1).result(30) == 1
            race(1, stop).result(30)
        resolver.break_(Boom("dropped"))
        del stop, resolver
        collect()
        assert caplog.records == []


LISTENING = {
    "a handler": lambda promise: on(promise, str),
    "a last handler": lambda promise: on(promise, finally_=lambda: None),
    "no handler": lambda promise: on(promise),
    "a part": lambda promise: promise["part"],
    "a race": lambda promise: race(promise, promise),
    "all": lambda promise: all_of(promise, 1),
    "a message": lambda promise: send(promise.method),
}


class TestWhatAClosedVatWaitsFor:
    """It will not go on: who waits for what comes of it is told at once, and not when the promise settles."""

    @pytest.mark.parametrize("listening", LISTENING)
    def test_is_broken_at_the_close(self, listening):
        vat, promise = Vat(), never()
        derived = vat.run(lambda: [LISTENING[listening](promise)])[0]
        vat.close()
        with pytest.raises(VatClosedError):
            derived.result(30)

    def test_is_broken_whether_listened_to_long_ago_or_often(self):
        vat, promise = Vat(), never()
        derived = [vat.run(lambda: [on(promise, str)])[0] for _ in range(300)]
        settled = [vat.run(lambda: [on(1, str)])[0] for _ in range(300)]
        vat.close()
        for one in derived:
            with pytest.raises(VatClosedError):
                one.result(30)
        assert {one.result(30) for one in settled} == {"1"}

    def test_is_broken_in_a_vat_with_a_store(self):
        vat, box = spawn_persistent_vat(ENV, lambda: spawn(cell), MemoryStore())
        promise = never()
        derived = vat.run(lambda: [on(promise, box.put)])[0]
        vat.close()
        with pytest.raises(VatClosedError):
            derived.result(30)

    def test_is_no_matter_of_other_vats(self, vat):
        closed = Vat()
        promise, resolver = promise_and_resolver()
        here = vat.run(lambda: [on(promise, str)])[0]
        there = closed.run(lambda: [on(promise, str)])[0]
        closed.close()
        resolver.fulfil(1)
        assert here.result(30) == "1"
        with pytest.raises(VatClosedError):
            there.result(30)

    def test_leaves_the_error_of_the_promise_unheard(self, caplog):
        vat = Vat()
        promise, resolver = promise_and_resolver()
        derived = vat.run(lambda promise: [on(promise, str)], promise)[0]
        vat.close()
        with pytest.raises(VatClosedError):
            derived.result(30)
        resolver.break_(Boom("later"))
        del promise, resolver, derived
        collect()
        assert "Boom: later" in caplog.text

    def test_keeps_no_promise_and_no_actor_alive(self, vat):
        class Token:
            pass

        def listen():
            token = Token()
            promise, resolver = promise_and_resolver()
            on(on(promise, lambda value: resolver), lambda value: token)
            return weakref.ref(token)

        gone = vat.run(listen)
        collect()
        assert gone() is None


class TestAManualVatThatNobodyHas:
    """Nobody can step through its messages any more."""

    def test_breaks_them_and_goes(self):
        class Token:
            pass

        vat, token = ManualVat("left"), Token()
        gone = weakref.ref(token)
        ref = vat.spawn(lambda bcom, token: lambda: token, token)
        answer = send(ref)
        del vat, ref, token
        collect()
        with pytest.raises(VatClosedError, match="left.*step"):
            answer.result(30)
        assert gone() is None

    def test_refuses_those_that_come_later(self):
        ref = ManualVat("left").spawn(counter)
        with pytest.raises(VatClosedError, match="left.*step"):
            send(ref).result(30)
        assert ref() == 0

    def test_that_somebody_has_waits(self):
        vat = ManualVat()
        answer = send(vat.spawn(counter))
        collect()
        assert vat.step()
        assert answer.result(30) == 0


def test_a_turn_sees_what_it_has_settled_itself(vat):
    def body():
        pairs = [promise_and_resolver() for _ in range(50)]
        for n, (_, resolver) in enumerate(pairs):
            resolver.fulfil(n)
            resolver.fulfil("later")
            assert pairs[n][0]() == n
        (first, one), (second, two) = promise_and_resolver(), promise_and_resolver()
        two.fulfil(first)
        with pytest.raises(NoTurnError):
            second()
        one.fulfil("end")
        assert second() == "end"
        assert [promise() for promise, _ in pairs] == list(range(50))

    vat.run(body)
    vat.run(body)


SHAPES = [
    "parts",
    "parts_with_values",
    "parts_settled_in_a_turn",
    "parts_in_a_turn",
    "all",
    "races",
    "races_in_a_turn",
    "messages",
    "messages_in_a_turn",
    "awaits",
    "listeners_whose_vat_is_closed",
    "dropped_parts",
    "dropped_messages",
    "dropped_listeners",
    "dropped_by_the_collector",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_chain_is_too_long(shape):
    """In a child, since a chain that is too long for the stack would end the process."""
    child = run_child("long_lines.py", shape, LONG)
    assert child.returncode == 0, child.stderr[-2000:]
    assert child.stdout.split() == ["done"]


def test_dropping_a_chain_that_nobody_can_settle_is_fine():
    """Not even its resolver is there to tell who waits."""
    vat = ManualVat()
    promise = send(vat.spawn(counter))
    for _ in range(LONG):
        promise = promise["part"]
    del promise
    vat.close()
    collect()


def test_a_ring_is_looked_for_from_the_side_where_less_is_to_do(vat):
    """Else these would take minutes."""
    promise, resolver = promise_and_resolver()
    ahead = promise
    for _ in range(LONG):
        following, following_resolver = promise_and_resolver()
        following_resolver.fulfil(all_of(ahead))
        ahead = following
    beside = [promise["part"] for _ in range(LONG)]
    pairs = [promise_and_resolver() for _ in range(LONG // 10)]
    for _, one_resolver in pairs:
        one_resolver.fulfil(ahead)
    resolver.fulfil({"part": 1})
    for one in (ahead, beside[-1], pairs[-1][0]):
        one.result(30)


def test_a_vat_goes_on_after_a_ring():
    with Vat() as vat:
        promise, resolver = promise_and_resolver()
        resolver.fulfil(promise["part"])
    assert vat.spawn(caller)(lambda: 1) == 1
    vat.close()
