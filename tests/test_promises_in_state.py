"""Promises in the state of actors.

One that has settled is stored as it settled. One that has not is stored as such, and once it settles, the
actors that hold it are stored again. What had not settled when the process ended comes back broken, with an
error that says so.
"""

import logging
import weakref
from decimal import Decimal

import pytest
from goblins import (
    Actor,
    BrokenPromiseError,
    Map,
    NotPortableError,
    PersistenceEnv,
    Promise,
    StoreLockedError,
    Vat,
    VatClosedError,
    actor,
    methods,
    promise_and_resolver,
    send,
    spawn,
)
from support import ENV, cell, collect, counter, failing_turn

PATIENCE = 30


class NoFunds(Exception):
    """An error of the program's own."""


class Order(Actor):
    item: str
    paid: object = None
    notes: list = []

    def expect(self, promise):
        self.paid = promise

    def note(self, value):
        self.notes.append(value)

    def state(self):
        return self.paid, list(self.notes)


@actor
def box(bcom, **things):
    return methods(all=lambda: things, put=lambda **new: bcom(box(bcom, **{**things, **new})))


ENVIRONMENT = PersistenceEnv("promises", Order, box, extends=ENV)


def opened(place, roots):
    return place.spawn(roots, env=ENVIRONMENT)


def restarted(place, vat):
    return place.restart(vat, env=ENVIRONMENT)


def settled(value=None, error=None):
    promise, resolver = promise_and_resolver()
    if error is None:
        resolver.fulfil(value)
    else:
        resolver.break_(error)
    return promise


def the(promise):
    return promise.result(timeout=PATIENCE)


def error_of(promise):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        the(promise)
    return caught.value


class TestSettledOnes:
    @pytest.mark.parametrize("value", [None, 7, "text", [1, {"a": (2,)}], Decimal("1.50"), {1, 2}])
    def test_a_value_comes_back(self, place, value):
        """POR-32"""
        vat, root = opened(place, lambda: spawn(cell))
        root.put(settled(value))
        vat, root = restarted(place, vat)
        promise = root.get()
        assert isinstance(promise, Promise)
        assert the(promise) == value

    def test_an_actor_comes_back(self, place):
        """POR-32"""
        vat, root, other = opened(place, lambda: (spawn(cell), spawn(counter)))
        root.put([settled(other), other])
        vat, root, other = restarted(place, vat)
        promise, same = root.get()
        assert the(promise) is other is same

    def test_the_answer_of_a_message_can_be_kept(self, place):
        vat, root, other = opened(place, lambda: (spawn(cell), spawn(counter, 4)))
        answer = send(other)
        the(answer)
        root.put(answer)
        vat, root, other = restarted(place, vat)
        assert the(root.get()) == 4

    def test_one_that_stands_in_several_places_of_an_actor_is_one(self, place):
        """G6"""
        promise, other = settled(1), settled(1)
        vat, root = opened(place, lambda: spawn(cell))
        root.put(([promise], {promise: "key"}, {promise, other}, other))
        vat, root = restarted(place, vat)
        (one,), table, group, other = root.get()
        assert table[one] == "key"
        assert group == {one, other}
        assert one is not other

    def test_a_promise_for_a_value_that_leads_back_to_it_comes_back_as_a_ring(self, place):
        promise, resolver = promise_and_resolver()
        resolver.fulfil([promise, "end"])
        vat, root = opened(place, lambda: spawn(cell))
        root.put(promise)
        vat, root = restarted(place, vat)
        promise = root.get()
        assert the(promise)[0] is promise

    def test_an_actor_that_only_a_promise_leads_to_is_stored(self, place):
        """LIM-08: what is reachable through a promise is reachable."""
        vat, root = opened(place, lambda: spawn(cell))
        root.put(vat.run(lambda: settled(spawn(counter, 9))))
        vat, root = restarted(place, vat)
        assert the(root.get())() == 9

    def test_a_value_that_can_not_be_stored_is_an_error_with_the_path(self, place):
        """G8"""
        vat, root = opened(place, lambda: spawn(cell, 1))
        with pytest.raises(NotPortableError) as caught:
            root.put({"later": settled([1, object()])})
        assert caught.value.path == "args.value.later.<value>[1]"
        assert root.get() == 1

    def test_they_can_be_awaited_called_and_sent_to_as_ever(self, place):
        vat, root, other = opened(place, lambda: (spawn(cell), spawn(cell, 5)))
        root.put(settled(other))
        vat, root, other = restarted(place, vat)
        promise = root.get()
        assert vat.run(lambda: promise.get()) == 5
        assert the(send(promise.get)) == 5
        other.put(6)
        assert the(send(promise.get)) == 6


class TestBrokenOnes:
    def broken(self, place, error):
        vat, root = opened(place, lambda: spawn(cell))
        root.put(settled(error=error))
        vat, root = restarted(place, vat)
        return error_of(root.get())

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("no such", 3),
            KeyError("key"),
            ZeroDivisionError(),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
            FileNotFoundError(2, "not there", "a.txt"),
        ],
        ids=repr,
    )
    def test_an_error_of_python_comes_back_as_itself(self, place, error):
        back = self.broken(place, error)
        assert type(back) is type(error)
        assert back.args == error.args
        assert str(back) == str(error)

    def test_an_error_of_goblins_comes_back_as_itself(self, place):
        back = self.broken(place, StoreLockedError("it is in use"))
        assert isinstance(back, StoreLockedError)
        assert str(back) == "it is in use"

    def test_an_error_of_the_program_keeps_its_name_and_its_text(self, place):
        """POR-31: in the original the problem is lost."""
        error = NoFunds("3 only")
        error.add_note("seen by the bank")
        back = self.broken(place, error)
        assert isinstance(back, BrokenPromiseError)
        assert back.kind.endswith(".NoFunds")
        assert back.text == "3 only"
        assert "NoFunds: 3 only" in str(back)
        assert "seen by the bank" in back.__notes__

    def test_arguments_that_can_not_be_stored_leave_the_name_and_the_text(self, place):
        back = self.broken(place, ValueError("bad", object()))
        assert isinstance(back, BrokenPromiseError)
        assert back.kind == "ValueError"
        assert "bad" in back.text

    def test_a_problem_that_is_no_exception_comes_back(self, place):
        """ASY-17"""
        assert self.broken(place, {"out of": "stock"}).problem == {"out of": "stock"}

    def test_the_second_storing_changes_nothing(self, place):
        vat, root = opened(place, lambda: spawn(cell))
        root.put([settled(error=NoFunds("3 only")), settled(error=ValueError(1))])
        for n in range(3):
            vat, root = restarted(place, vat)
            root.put([*root.get()[:2], n])
        first, second = map(error_of, root.get()[:2])
        assert (first.kind.rpartition(".")[2], first.text) == ("NoFunds", "3 only")
        assert second.args == (1,)

    def test_one_that_was_stored_is_not_reported_again_at_each_start(self, place, caplog):
        """G10: it is in the state, where it can be seen."""
        vat, root = opened(place, lambda: spawn(cell))
        root.put(settled(error=NoFunds("once")))
        vat, root = restarted(place, vat)
        caplog.clear()
        root.get()
        root.put(None)
        collect()
        assert [r for r in caplog.records if r.name == "goblins"] == []


class TestOpenOnes:
    def test_one_that_settles_later_is_stored_again_by_that(self, place):
        """POR-31: in the original such a promise is lost."""
        vat, root = opened(place, lambda: spawn(cell))
        promise, resolver = promise_and_resolver()
        root.put(promise)
        resolver.fulfil("at last")
        vat.drain(timeout=PATIENCE)
        vat, root = restarted(place, vat)
        assert the(root.get()) == "at last"

    def test_in_a_field_of_a_class_too(self, place):
        vat, root = opened(place, lambda: spawn(Order, "tea"))
        promise, resolver = promise_and_resolver()
        root.expect(promise)
        root.note([promise])
        resolver.fulfil(12)
        vat.drain(timeout=PATIENCE)
        vat, root = restarted(place, vat)
        paid, ((noted,),) = root.state()
        assert the(paid) == the(noted) == 12
        assert paid is noted

    def test_all_who_hold_it_are_stored_again(self, place):
        vat, *roots = opened(place, lambda: [spawn(cell) for _ in range(4)])
        promise, resolver = promise_and_resolver()
        for root in roots[:3]:
            root.put([promise])
        resolver.fulfil(roots[3])
        vat.drain(timeout=PATIENCE)
        vat, *roots = restarted(place, vat)
        for root in roots[:3]:
            assert the(root.get()[0]) is roots[3]

    def test_one_that_breaks_later(self, place):
        vat, root = opened(place, lambda: spawn(cell))
        promise, resolver = promise_and_resolver()
        root.put(promise)
        resolver.break_(ValueError("late"))
        vat.drain(timeout=PATIENCE)
        vat, root = restarted(place, vat)
        assert error_of(root.get()).args == ("late",)

    def test_one_that_settles_in_the_turn_that_stores_it(self, place):
        vat, root = opened(place, lambda: spawn(cell))

        def both():
            promise, resolver = promise_and_resolver()
            root.put(promise)
            resolver.fulfil(1)

        vat.run(both)
        vat, root = restarted(place, vat)
        assert the(root.get()) == 1

    def test_the_answer_of_a_message_to_another_vat(self, place, other_vat):
        """An answer that is still to come is kept like any other promise."""
        vat, root = opened(place, lambda: spawn(cell))
        far = other_vat.spawn(counter, 3)
        vat.run(lambda: root.put(send(far)))
        the(root.get())
        vat.drain(timeout=PATIENCE)
        vat, root = restarted(place, vat)
        assert the(root.get()) == 3

    def test_one_that_had_not_settled_at_the_end_comes_back_broken_and_says_so(self, place):
        """POR-31, LIM-03"""
        vat, root = opened(place, lambda: spawn(cell))
        promise, resolver = promise_and_resolver()
        root.put(("kept", promise))
        vat, root = restarted(place, vat)
        kept, back = root.get()
        assert kept == "kept"
        error = error_of(back)
        assert isinstance(error, BrokenPromiseError)
        assert "had not settled when the vat that held it ended" in str(error)
        resolver.fulfil("too late")
        assert error_of(root.get()[1]) is error

    def test_one_whose_resolver_is_gone_is_stored_as_abandoned(self, place):
        vat, root = opened(place, lambda: spawn(cell))
        promise, resolver = promise_and_resolver()
        root.put(promise)
        del resolver
        collect()
        vat.drain(timeout=PATIENCE)
        vat, root = restarted(place, vat)
        assert "abandoned" in str(error_of(root.get()))

    def test_an_actor_that_nobody_holds_is_stored_again_all_the_same(self, place):
        """It stays in memory for as long as it has to."""
        vat, root = opened(place, lambda: spawn(cell))
        promise, resolver = promise_and_resolver()
        vat.run(lambda: root.put(spawn(cell, promise)))
        vat.close()
        vat, root = restarted(place, vat)
        promise, resolver = promise_and_resolver()
        inner = root.get()
        inner.put(promise)
        del inner
        root.put(("moved", root.get()))
        collect()
        resolver.fulfil("heard")
        vat.drain(timeout=PATIENCE)
        vat, root = restarted(place, vat)
        assert the(root.get()[1].get()) == "heard"

    def test_a_ring_of_a_promise_its_holder_and_its_resolver_is_collected(self, place):
        """A promise knows who holds it, to store that again: the garbage collector sees that."""
        vat, root = opened(place, lambda: spawn(cell))
        promise, resolver = promise_and_resolver()
        holder = vat.run(spawn, cell, promise)
        root.put(holder)
        root.put(None)
        ring = [resolver, promise, holder]
        ring.append(ring)
        gone = weakref.ref(holder)
        del promise, resolver, holder, ring
        collect()
        vat.drain(timeout=PATIENCE)
        collect()
        assert gone() is None

    def test_settling_with_what_can_not_be_stored_is_reported(self, place, caplog):
        """G8, G10"""
        caplog.set_level(logging.ERROR, logger="goblins")
        vat, root = opened(place, lambda: spawn(cell))
        promise, resolver = promise_and_resolver()
        root.put(promise)
        resolver.fulfil(object())
        vat.drain(timeout=PATIENCE)
        (record,) = caplog.records
        assert "can't be stored" in record.getMessage()
        assert record.exc_info[1].path == "args.value.<value>"
        vat, root = restarted(place, vat)
        assert "had not settled" in str(error_of(root.get()))

    def test_what_a_failed_turn_put_there_is_not_waited_for(self, place):
        vat, root = opened(place, lambda: spawn(cell, 1))
        promise, resolver = promise_and_resolver()
        with failing_turn(vat, ZeroDivisionError):
            root.put(promise)
            1 / 0  # noqa: B018
        resolver.fulfil(object())
        vat.drain(timeout=PATIENCE)
        assert root.get() == 1

    def test_it_is_stored_once_more_not_once_for_each_churn(self, place):
        """G5"""
        vat, root = opened(place, lambda: spawn(cell))
        promise, resolver = promise_and_resolver()
        for n in range(10):
            root.put((n, promise))
        vat.log.enabled = True
        resolver.fulfil(1)
        vat.drain(timeout=PATIENCE)
        assert [event.kind for event in vat.log] == ["react"]

    def test_that_it_is_stored_is_no_question_for_its_outcome(self, place, caplog):
        """G10: a broken promise that nobody asked for is still reported when it goes."""
        caplog.set_level(logging.ERROR, logger="goblins")
        vat, root = opened(place, lambda: spawn(cell))
        promise, resolver = promise_and_resolver()
        root.put(promise)
        resolver.break_(NoFunds("unheard"))
        del promise, resolver
        vat.drain(timeout=PATIENCE)
        root.put(None)
        collect()
        assert [r for r in caplog.records if "nobody asked" in r.getMessage()]

    def test_messages_of_a_closed_vat_break_it_for_those_who_wait(self, place):
        """A vat that ends before the promise settles has nothing more to store."""
        vat, root = opened(place, lambda: spawn(cell))
        far = Vat("ends")
        slow = far.spawn(counter)
        far.close()
        vat.run(lambda: root.put(send(slow)))
        assert isinstance(error_of(root.get()), VatClosedError)
        vat.drain(timeout=PATIENCE)
        vat, root = restarted(place, vat)
        assert isinstance(error_of(root.get()), VatClosedError)


class TestKeys:
    def test_promises_are_keys_and_members_by_identity(self, place):
        vat, root = opened(place, lambda: spawn(box))
        promises = [settled(n) for n in range(3)]
        root.put(table={p: n for n, p in enumerate(promises)}, group=set(promises), order=promises)
        vat, root = restarted(place, vat)
        things = root.all()
        assert [things["table"][p] for p in things["order"]] == [0, 1, 2]
        assert things["group"] == set(things["order"])
        assert [the(p) for p in things["order"]] == [0, 1, 2]

    def test_a_promise_is_no_key_of_a_map(self, vat):
        def fill():
            Map()[settled(1)] = 2

        with pytest.raises(TypeError, match="promise"):
            vat.run(fill)
