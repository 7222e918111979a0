"""What the original does with actors, as far as no other test shows it: see docs/conformance.md."""

import pytest
from goblins import (
    BehaviorError,
    NoTurnError,
    Promise,
    Ref,
    methods,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_named,
    tell,
)
from support import cell, counter, echo


def test_a_constructor_that_returns_a_promise_is_an_error(vat):
    """ACT-03: the original takes any live reference; here it must be the actor itself."""
    made = []

    def promising(bcom):
        made.append(spawn(counter))
        return send(made[0])

    with pytest.raises(BehaviorError):
        vat.spawn(promising)
    with pytest.raises(LookupError):
        made[0]()


def test_becoming_a_promise_is_an_error(vat):
    """ACT-10"""
    promise, resolver = vat.run(promise_and_resolver)
    resolver.fulfil(vat.spawn(counter))
    with pytest.raises(BehaviorError):
        vat.spawn(lambda bcom: lambda: bcom(promise))()


def test_a_ref_that_a_constructor_returns_may_be_of_another_vat(vat, other_vat):
    """ACT-03"""
    far = other_vat.spawn(counter)
    assert vat.spawn(lambda bcom: far) is far


def test_a_name_given_at_spawn_has_no_effect_on_a_ref_that_is_handed_on(vat):
    """ACT-03, ACT-15"""
    with vat:
        ticks = spawn(counter)
        assert spawn_named("other", lambda bcom: ticks) is ticks
    assert "counter" in repr(ticks)


def test_references_and_promises_are_told_apart_by_their_type(vat, other_vat):
    """ACT-17"""
    near, far = vat.spawn(counter), other_vat.spawn(counter)
    promise = send(near)
    assert type(near) is type(far) is Ref
    assert type(promise) is Promise
    assert promise.result(timeout=30) == 0
    assert type(promise) is Promise


def test_what_belongs_to_a_turn_is_refused_outside(vat):
    """ACT-19"""
    promise, _ = promise_and_resolver()
    for use in (
        lambda: spawn(counter),
        lambda: spawn_named("name", counter),
        lambda: on(promise, print),
        promise,
    ):
        with pytest.raises(NoTurnError):
            use()


def test_calls_messages_and_promises_work_outside(vat):
    """ACT-19: the original refuses them; a synchronous call is a turn of its own here."""
    box = vat.spawn(cell)
    assert box.put(1) is None
    assert tell(box.put, 2) is None
    assert send(box.get).result(timeout=30) == 2
    promise, resolver = promise_and_resolver()
    resolver.fulfil(box)
    assert send(promise.get).result(timeout=30) == 2


def test_a_token_of_a_call_that_failed_may_be_returned_later(vat):
    """ACT-07: a token counts when its actor returns it, not when it was made."""

    def keeper(bcom, kept):
        def make():
            kept.append(bcom(lambda: "changed"))
            raise ValueError("not yet")

        def use():
            return kept.pop()

        return methods(make=make, use=use)

    keeps = vat.spawn(keeper, [])
    with pytest.raises(ValueError, match="not yet"):
        keeps.make()
    assert keeps.use() is None
    assert keeps() == "changed"


def test_a_behavior_may_return_the_ref_of_its_own_actor(vat):
    """ACT-11"""

    def me(bcom, known):
        return lambda: known[0]

    known = []
    known.append(vat.spawn(me, known))
    assert known[0]() is known[0]
    assert send(send(known[0])).result(timeout=30) is known[0]


def test_an_actor_that_only_a_message_holds_stays(vat):
    """ACT-20"""
    promise, resolver = vat.run(promise_and_resolver)
    answer = send(promise, vat.spawn(counter, 5))
    resolver.fulfil(vat.spawn(lambda bcom: lambda ticks: ticks()))
    assert answer.result(timeout=30) == 5


def test_two_calls_of_one_actor_in_a_turn_both_count(vat):
    """ACT-12, ACT-21: one after the other is no re-entrant call."""
    ticks = vat.spawn(counter)

    def twice(bcom):
        def behavior():
            return ticks(), ticks()

        return behavior

    assert vat.spawn(twice)() == (0, 1)
    assert ticks() == 2


def test_a_reference_in_an_answer_is_the_reference_itself(vat, other_vat):
    """ACT-18"""
    echoes = other_vat.spawn(echo)
    ticks = vat.spawn(counter)
    assert send(echoes, ticks).result(timeout=30) is ticks
    assert vat.run(lambda: send(echoes, {ticks: 1})).result(timeout=30) == {ticks: 1}
