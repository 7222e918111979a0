"""Promises made of others: all of several, the first of several, a part of one; and abandoned ones."""

import threading

import pytest
from goblins import (
    BrokenPromiseError,
    VatClosedError,
    all_of,
    on,
    promise_and_resolver,
    race,
    send,
    spawn,
)
from support import Boom, caller, collect, counter, echo, failing


@pytest.fixture(params=["outside", "in a turn"])
def call(request, vat):
    """Calls a function outside of all turns, or in one."""
    return vat.run if request.param == "in a turn" else lambda fn, *args: fn(*args)


@pytest.fixture
def pairs():
    return [promise_and_resolver() for _ in range(5)]


def unpacked(promise):
    first, second = promise
    return first, second


class TestAllOf:
    """LIB-12"""

    def test_the_values_come_in_the_order_given(self, call, pairs):
        joined = call(all_of, *(promise for promise, _ in pairs))
        for n in (3, 1, 4, 0, 2):
            pairs[n][1].fulfil(n)
        assert joined.result(30) == [0, 1, 2, 3, 4]

    def test_one_iterable_is_as_good(self, call, pairs):
        joined = call(all_of, [promise for promise, _ in pairs])
        for n, (_, resolver) in enumerate(pairs):
            resolver.fulfil(n)
        assert joined.result(30) == [0, 1, 2, 3, 4]
        assert call(all_of, (n for n in range(3))).result(30) == [0, 1, 2]

    def test_the_first_error_breaks_it_and_the_others_are_dropped(self, call, pairs, caplog):
        joined = call(all_of, *(promise for promise, _ in pairs))
        pairs[2][1].break_(Boom("first"))
        with pytest.raises(Boom, match="first"):
            joined.result(30)
        for _, resolver in pairs:
            resolver.break_(Boom("later"))
        pairs.clear()
        collect()
        assert caplog.records == []

    def test_of_nothing_is_an_empty_list(self, call):
        assert call(all_of).result(30) == []
        assert call(all_of, []).result(30) == []

    def test_plain_values_and_refs_stand_for_themselves(self, call, vat):
        ref = vat.spawn(counter)
        assert call(all_of, 1, "text", ref).result(30) == [1, "text", ref]
        assert call(all_of, ref).result(30) == [ref]
        assert call(all_of, "text").result(30) == ["text"]

    def test_answers_of_several_vats_are_joined(self, vat, other_vat):
        refs = [vat.spawn(echo), other_vat.spawn(echo)]
        assert all_of(send(ref, n) for n, ref in enumerate(refs * 10)).result(30) == list(range(20))

    def test_values_from_many_threads_at_once_are_all_there(self):
        pairs = [promise_and_resolver() for _ in range(200)]
        joined = all_of(promise for promise, _ in pairs)
        start = threading.Barrier(4)

        def settle(part):
            start.wait()
            for n in range(part, 200, 4):
                pairs[n][1].fulfil(n)

        threads = [threading.Thread(target=settle, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert joined.result(30) == list(range(200))


class TestRace:
    """LIB-12"""

    def test_the_first_to_settle_decides(self, call, pairs):
        first = call(race, *(promise for promise, _ in pairs))
        pairs[3][1].fulfil("third")
        pairs[1][1].fulfil("first")
        assert first.result(30) == "third"

    def test_an_error_may_be_first_and_what_comes_later_is_dropped(self, call, pairs, caplog):
        first = call(race, *(promise for promise, _ in pairs))
        pairs[0][1].break_(Boom("first"))
        with pytest.raises(Boom, match="first"):
            first.result(30)
        pairs[1][1].break_(Boom("later"))
        pairs.clear()
        collect()
        assert caplog.records == []

    def test_a_plain_value_has_settled_already(self, call, pairs):
        assert call(race, pairs[0][0], "at once").result(30) == "at once"

    def test_of_nothing_is_an_error_since_it_could_never_settle(self, call):
        with pytest.raises(ValueError, match="at least one"):
            call(race)


class TestParts:
    """ASY-37"""

    def test_a_part_can_be_asked_for_before_there_is_a_whole(self, call, pairs):
        promise, resolver = pairs[0]
        parts = call(lambda: (promise["name"], promise["marks"][1], promise["marks"][-1]))
        resolver.fulfil({"name": "Ada", "marks": [1, 2, 3]})
        assert [part.result(30) for part in parts] == ["Ada", 2, 3]

    def test_and_afterwards(self, call, pairs):
        promise, resolver = pairs[0]
        resolver.fulfil((10, 20))
        assert call(lambda: promise[1]).result(30) == 20

    def test_messages_go_on_to_a_part_that_is_an_actor(self, call, vat, other_vat):
        friends = vat.spawn(lambda bcom: lambda: {"here": spawn(counter, 7)})
        assert call(lambda: send(send(friends)["here"])).result(30) == 7
        elsewhere = other_vat.spawn(counter, 9)
        known = vat.spawn(lambda bcom: lambda: [elsewhere])
        assert call(lambda: send(send(known)[0])).result(30) == 9

    @pytest.mark.parametrize(
        ("value", "key", "error"),
        [({}, "missing", KeyError), ([1], 1, IndexError), (42, 0, TypeError), ([1], "one", TypeError)],
    )
    def test_a_part_that_is_not_there_breaks_with_the_error_of_the_lookup(
        self, call, pairs, value, key, error
    ):
        promise, resolver = pairs[0]
        part = call(lambda: promise[key])
        resolver.fulfil(value)
        with pytest.raises(error):
            part.result(30)

    def test_an_actor_has_no_parts(self, call, pairs, vat):
        promise, resolver = pairs[0]
        part = call(lambda: promise["name"])
        resolver.fulfil(vat.spawn(counter))
        with pytest.raises(TypeError, match="counter#"):
            part.result(30)

    def test_an_error_of_the_whole_is_one_of_its_parts(self, call, pairs):
        promise, resolver = pairs[0]
        part = call(lambda: promise["a"]["b"])
        resolver.break_(Boom("whole"))
        with pytest.raises(Boom, match="whole"):
            part.result(30)

    @pytest.mark.parametrize(
        "use",
        [
            list,
            iter,
            reversed,
            set,
            enumerate,
            sum,
            lambda promise: 1 in promise,
            lambda promise: [*promise],
            lambda promise: print(*promise),
            lambda promise: [row * 2 for row in promise],
            lambda promise: dict(zip(promise, promise, strict=False)),
            unpacked,
        ],
    )
    def test_a_promise_is_not_iterated_over_its_parts(self, call, pairs, use):
        with pytest.raises(TypeError, match="await"):
            call(use, pairs[0][0])

    def test_a_promise_is_true_whatever_it_will_be(self, pairs):
        assert pairs[0][0]


class TestAbandoned:
    def test_a_promise_whose_resolver_is_gone_is_broken(self, pairs):
        promise, resolver = promise_and_resolver()
        del resolver
        with pytest.raises(BrokenPromiseError, match="abandoned"):
            promise.result(30)

    def test_who_waits_in_a_vat_is_told(self, vat):
        promise, resolver = promise_and_resolver()
        told = vat.run(lambda: on(promise, catch=str))
        del resolver
        assert "abandoned" in told.result(30)

    def test_a_resolver_in_a_cycle_is_found_by_the_collector(self):
        promise, resolver = promise_and_resolver()
        cycle = [resolver]
        cycle.append(cycle)
        del resolver, cycle
        collect()
        with pytest.raises(BrokenPromiseError, match="abandoned"):
            promise.result(30)

    def test_one_that_was_used_in_the_open_turn_is_not_abandoned(self, vat):
        def body():
            promise, resolver = promise_and_resolver()
            resolver.fulfil("used")
            del resolver
            collect()
            return [promise]

        (promise,) = vat.run(body)
        assert promise.result(30) == "used"

    def test_one_whose_only_use_was_undone_is_abandoned(self, vat):
        promise, resolver = promise_and_resolver()

        def body():
            nonlocal resolver
            resolver.fulfil("undone")
            del resolver
            raise Boom

        with pytest.raises(Boom):
            vat.run(body)
        with pytest.raises(BrokenPromiseError, match="abandoned"):
            promise.result(30)

    def test_one_that_an_actor_holds_is_not(self, vat):
        promise, resolver = promise_and_resolver()
        keeper = vat.spawn(lambda bcom, right: lambda value: right.fulfil(value), resolver)
        del resolver
        collect()
        keeper("kept")
        assert promise.result(30) == "kept"

    def test_nobody_hears_of_one_that_nobody_waited_for(self, caplog):
        promise, resolver = promise_and_resolver()
        del resolver
        del promise
        collect()
        assert caplog.records == []

    def test_a_message_whose_vat_closes_is_told_so(self, other_vat):
        call = other_vat.spawn(caller)
        entered, leave = threading.Event(), threading.Event()

        def block():
            entered.set()
            leave.wait(30)

        thread = threading.Thread(target=call, args=(block,))
        thread.start()
        assert entered.wait(30)
        answer = send(call, str)
        closer = threading.Thread(target=other_vat.close)
        closer.start()
        leave.set()
        thread.join()
        closer.join()
        with pytest.raises(VatClosedError):
            answer.result(30)


def test_failing_answers_of_a_race_that_is_won_stay_silent(vat, caplog):
    with vat:
        winner = race(send(vat.spawn(echo), "won"), send(vat.spawn(failing), Boom("lost")))
    assert winner.result(30) == "won"
    vat.drain(30)
    collect()
    assert caplog.records == []
