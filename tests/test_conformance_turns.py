"""What the original does in turns, as far as no other test shows it: see docs/conformance.md."""

import os

import goblins
import pytest
from goblins import (
    ManualVat,
    MemoryStore,
    PersistenceEnv,
    actor,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import Boom, caller, cell, counter, failing, must_not_run


@pytest.fixture
def vats():
    """Two vats that are run by hand: nothing is handed over behind the back of the test."""
    vats = ManualVat("home"), ManualVat("abroad")
    yield vats
    for vat in vats:
        vat.close()


def test_near_messages_are_handled_in_rounds_and_far_ones_leave_at_the_end(vats):
    """TRN-11"""
    home, abroad = vats
    seen = []

    def noter(bcom, where):
        return lambda text: seen.append(f"{where} {text}")

    near, far = home.spawn(noter, "near"), abroad.spawn(noter, "far")

    def tree(bcom, me):
        def grow(name, depth):
            tell(near, name)
            tell(far, name)
            if depth:
                tell(me[0], f"{name}1", depth - 1)
                tell(me[0], f"{name}2", depth - 1)

        return grow

    me = []
    me.append(home.spawn(tree, me))
    me[0]("x", 2)
    names = ["x", "x1", "x2", "x11", "x12", "x21", "x22"]
    assert seen == [f"near {name}" for name in names]
    assert abroad.backlog == len(names)
    abroad.drain()
    assert seen[len(names) :] == [f"far {name}" for name in names]


def test_far_messages_wait_for_the_end_of_the_churn_and_a_later_failure_recalls_none(vats):
    """TRN-15"""
    home, abroad = vats
    box = abroad.spawn(cell, "before")
    backlogs = []

    def watcher(bcom):
        def watch():
            backlogs.append(abroad.backlog)
            tell(box.put, "never sent")
            raise Boom

        return watch

    watch = home.spawn(watcher)
    with home:
        tell(box.put, "after")
        failed = send(watch)
    assert backlogs == [0]
    assert abroad.backlog == 1
    abroad.drain()
    assert box.get() == "after"
    with pytest.raises(Boom):
        failed.result(timeout=0)


def test_the_waiting_promise_hears_of_a_failed_turn_and_nobody_else_does(vats):
    """TRN-03"""
    home, abroad = vats
    box = abroad.spawn(cell, "before")
    promise, resolver = home.run(promise_and_resolver)

    def body(bcom):
        def behavior():
            tell(box.put, "after")
            resolver.fulfil("settled")
            raise Boom

        return behavior

    answer = send(home.spawn(body))
    home.drain()
    assert abroad.backlog == 0
    with pytest.raises(Boom):
        answer.result(timeout=0)
    with pytest.raises(TimeoutError):
        promise.result(timeout=0)


def test_a_traceback_has_the_frames_of_the_behaviors_and_none_of_ours(vat):
    """TRN-06, TRN-07"""
    run = vat.spawn(caller)
    fail = vat.spawn(failing)
    inside = os.path.dirname(goblins.__file__)
    for use in (lambda: run(fail, Boom("here")), lambda: send(run, fail, Boom("here")).result(timeout=30)):
        with pytest.raises(Boom, match="here") as caught:
            use()
        frames = [(str(entry.path), entry.name) for entry in caught.traceback]
        assert frames[-2:] == [
            (os.path.join(os.path.dirname(__file__), "support.py"), "call"),
            (os.path.join(os.path.dirname(__file__), "support.py"), "fail"),
        ]
        assert not [path for path, _ in frames if path.startswith(inside)]


@pytest.mark.parametrize("how", [send, tell])
def test_a_resolver_is_no_actor_and_gets_no_messages(vat, how):
    """TRN-16: so no message can have its own resolver for its recipient."""
    promise, resolver = vat.run(promise_and_resolver)
    for target in (resolver, resolver.fulfil):
        with pytest.raises(TypeError):
            vat.run(how, target, "value")
    resolver.fulfil("value")
    assert promise.result(timeout=30) == "value"


def test_a_tuple_is_one_value(vat):
    """TRN-18"""

    def pair(bcom, n=0):
        def behavior():
            return bcom(pair(bcom, n + 1), (n, n + 1))

        return behavior

    pairs = vat.spawn(pair)
    assert pairs() == (0, 1)
    assert send(pairs).result(timeout=30) == (1, 2)


def test_an_error_in_the_deepest_call_undoes_the_whole_turn(vat):
    """TRN-02"""
    boxes = [vat.spawn(cell, "before") for _ in range(3)]

    def nested(bcom, depth):
        def behavior():
            boxes[depth].put("after")
            if depth:
                return spawn(nested, depth - 1)()
            raise Boom

        return behavior

    with pytest.raises(Boom):
        vat.spawn(nested, 2)()
    assert [box.get() for box in boxes] == ["before"] * 3


def test_constructors_that_run_when_a_store_is_opened_send_in_order_and_fail_alone():
    """POR-28, LIM-28"""
    seen = []

    @actor
    def noter(bcom):
        def note(n):
            if n == 1:
                raise Boom
            seen.append(n)

        return note

    @actor
    def sender(bcom, to):
        for n in range(4):
            tell(to, n)
        return lambda: "ready"

    env = PersistenceEnv("test", noter, sender)
    with MemoryStore() as store:
        vat, _ = spawn_persistent_vat(env, lambda: spawn(sender, spawn(noter)), store)
        assert seen == [0, 2, 3]
        vat.close()
        vat, sends = spawn_persistent_vat(env, must_not_run, store)
        assert sends() == "ready"
        assert seen == [0, 2, 3] * 2


def test_a_change_by_a_message_to_oneself_is_a_turn_of_its_own(vat):
    """TRN-12"""
    ticks = vat.spawn(counter)

    def body(bcom):
        def behavior():
            answers = send(ticks), send(ticks)
            ticks()
            return answers

        return behavior

    one, two = vat.spawn(body)()
    assert [one.result(timeout=30), two.result(timeout=30)] == [1, 2]
