"""What the original does with vats, as far as no other test shows it: see docs/conformance.md."""

import threading
import weakref

import pytest
from goblins import FarCallError, GoblinsError, ManualVat, Vat, promise_and_resolver, send, spawn, tell
from support import Boom, caller, cell, collect, counter


@pytest.fixture
def by_hand():
    vat = ManualVat("by hand")
    yield vat
    vat.close()


def test_a_vat_is_made_running_and_tells_its_name_and_state():
    """VAT-01, VAT-07"""
    vat = Vat("new", log=True, log_capacity=16)
    assert (vat.name, vat.closed, vat.backlog) == ("new", False, 0)
    assert vat.spawn(counter)() == 0
    vat.close()
    assert vat.closed
    vat.open()
    assert not vat.closed
    vat.close()


def test_two_vats_of_one_name_are_two_vats():
    """VAT-02, VAT-15: near is who lives in the very same vat."""
    one, two = Vat("twin"), Vat("twin")
    ticks = two.spawn(counter)
    with pytest.raises(FarCallError):
        one.run(ticks)
    assert two.run(ticks) == 0
    one.close()
    two.close()


def test_messages_are_handled_one_churn_after_the_other_in_order_of_arrival(by_hand):
    """VAT-04"""
    seen = []

    def noter(bcom, me):
        def note(n, more=()):
            seen.append(n)
            for name in more:
                tell(me[0], name)

        return note

    me = []
    me.append(by_hand.spawn(noter, me))
    for n in range(3):
        tell(me[0], n, [f"{n}a", f"{n}b"])
    assert by_hand.backlog == 3
    by_hand.drain()
    assert seen == [0, "0a", "0b", 1, "1a", "1b", 2, "2a", "2b"]


def test_a_send_never_waits_for_a_busy_vat(vat):
    """VAT-05"""
    inside, go_on = threading.Event(), threading.Event()
    ticks = vat.spawn(counter)

    def hold():
        inside.set()
        go_on.wait(30)

    holder = threading.Thread(target=vat.run, args=(hold,))
    holder.start()
    assert inside.wait(30)
    answers = [send(ticks) for _ in range(1000)]
    assert vat.backlog == 1000
    go_on.set()
    holder.join()
    assert [answer.result(timeout=30) for answer in answers] == list(range(1000))


def test_run_returns_after_all_near_turns_and_before_the_far_ones(vat, by_hand):
    """VAT-08, VAT-21"""
    near, far = vat.spawn(cell), by_hand.spawn(cell)

    def body():
        tell(near.put, "near")
        tell(far.put, "far")
        return near.get()

    assert vat.run(body) is None
    assert near.get() == "near"
    assert (by_hand.backlog, far.get()) == (1, None)


def test_an_error_of_a_run_leaves_no_actor_behind(vat):
    """VAT-10, VAT-13: no actor stands for the run, and what it spawned is gone."""
    made = []

    def fail():
        made.append(weakref.ref(spawn(counter)))
        raise Boom("in a run")

    before = vat.awake
    for _ in range(3):
        with pytest.raises(Boom, match="in a run"):
            vat.run(fail)
    collect()
    assert [ref() for ref in made] == [None] * 3
    assert vat.awake == before
    vat.run(lambda: None)
    assert vat.awake == before


@pytest.mark.parametrize("use", ["run", "drain", "close", "with"])
def test_what_would_block_a_turn_of_another_vat_is_an_error_there(vat, other_vat, use):
    """VAT-12, VAT-14: it raises; no value stands for the failure."""
    uses = {
        "run": lambda: other_vat.run(lambda: None),
        "drain": other_vat.drain,
        "close": other_vat.close,
        "with": other_vat.__enter__,
    }
    with pytest.raises(GoblinsError):
        vat.run(uses[use])
    assert other_vat.spawn(counter)() == 0


def test_what_a_vat_does_when_it_is_run_inside_its_own_turn(vat):
    """VAT-12: it is a part of that turn."""
    box = vat.spawn(cell, "before")

    def body():
        vat.run(box.put, "after")
        assert box.get() == "after"
        raise Boom

    with pytest.raises(Boom):
        vat.run(body)
    assert box.get() == "before"


def test_a_near_actor_is_one_of_the_vat_that_runs_whoever_spawned_it(vat, other_vat):
    """VAT-15"""
    run = other_vat.spawn(caller)
    made = vat.run(lambda: send(run, spawn, counter)).result(timeout=30)
    assert other_vat.run(made) == 0
    with pytest.raises(FarCallError):
        vat.run(made)


def test_an_error_of_a_far_message_comes_back_as_it_is(vat, other_vat):
    """VAT-10, TRN-06"""
    error = Boom("far")
    run = other_vat.spawn(caller)

    def fail():
        raise error

    answer = vat.run(lambda: send(run, fail))
    with pytest.raises(Boom) as caught:
        answer.result(timeout=30)
    assert caught.value is error


def test_a_promise_may_outlive_its_vat(vat):
    """VAT-16"""
    gone = Vat("gone")
    promise, resolver = gone.run(promise_and_resolver)
    settled = send(gone.spawn(counter, 5))
    assert settled.result(timeout=30) == 5
    gone.close()
    resolver.fulfil(vat.spawn(counter, 7))
    assert settled.result(timeout=30) == 5
    assert send(promise).result(timeout=30) == 7
