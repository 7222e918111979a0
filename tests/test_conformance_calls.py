"""What the original does in synchronous calls, as far as no other test shows it: see docs/conformance.md."""

import pytest
from goblins import (
    GoblinsError,
    NoSuchActorError,
    PersistenceEnv,
    actor,
    methods,
    promise_and_resolver,
    send,
    spawn,
    tell,
)
from support import Boom, cell, counter


def test_calls_may_go_through_many_actors_and_are_one_turn(vat):
    """SYN-01"""
    box = vat.spawn(cell, 0)

    def link(bcom, following):
        def behavior(fail):
            box.put(box.get() + 1)
            if following:
                return following(fail)
            if fail:
                raise Boom
            return "end"

        return behavior

    first = None
    for _ in range(50):
        first = vat.spawn(link, first)
    assert first(False) == "end"
    assert box.get() == 50
    with pytest.raises(Boom):
        first(True)
    assert box.get() == 50


@pytest.mark.parametrize("value", [None, 42, "text"])
def test_what_is_no_actor_can_neither_be_called_nor_be_sent_to(vat, value):
    """SYN-02"""
    with pytest.raises(TypeError, match="not callable|must be callable"):
        vat.run(value)
    for use in (send, tell):
        with pytest.raises(TypeError, match="messages go to a Ref"):
            vat.run(use, value)


def test_an_actor_whose_spawn_was_undone_is_gone_for_calls_and_messages(vat):
    """SYN-03"""
    leaked = []

    def body():
        leaked.append(spawn(counter))
        raise Boom

    with pytest.raises(Boom):
        vat.run(body)
    for use in (leaked[0], lambda: vat.run(leaked[0]), lambda: send(leaked[0]).result(timeout=30)):
        with pytest.raises(NoSuchActorError):
            use()


def test_an_actor_that_is_gone_at_once_is_so_in_the_turn_that_caught_the_error_too(vat):
    """SYN-03, ACT-05: what could not be made is nothing, though its constructor knew its own future."""
    known = []

    def bad(bcom):
        known.append(bcom)
        return 42

    def body():
        with pytest.raises(GoblinsError):
            spawn(bad)
        return spawn(counter)()

    assert vat.run(body) == 0
    with pytest.raises(GoblinsError):
        vat.spawn(lambda bcom: lambda: known[0](lambda: "mine now"))()


def test_arguments_and_keywords_go_on_through_a_settled_promise(vat):
    """SYN-04"""
    promise, resolver = vat.run(promise_and_resolver)
    resolver.fulfil(vat.spawn(lambda bcom: lambda *args, **kwargs: (args, kwargs)))
    assert vat.run(lambda: promise(1, two=2)) == ((1,), {"two": 2})
    assert vat.run(lambda: promise(target=1, method=2)) == ((), {"target": 1, "method": 2})


def test_a_method_of_a_promise_for_a_plain_value_is_an_error_that_shows_the_value(vat):
    """SYN-05: the value itself is given for a plain call only."""
    promise, resolver = vat.run(promise_and_resolver)
    resolver.fulfil("a text")
    assert vat.run(promise) == "a text"
    with pytest.raises(GoblinsError, match="a text"):
        vat.run(lambda: promise.upper())


def test_a_turn_sees_the_end_of_a_chain_that_it_has_made_itself(vat):
    """SYN-04 to SYN-06"""
    (one, resolve_one), (two, resolve_two), (three, _) = (vat.run(promise_and_resolver) for _ in range(3))
    ticks = vat.spawn(counter, 7)

    def body():
        resolve_one.fulfil(two)
        resolve_two.fulfil(ticks)
        return one(), two()

    assert vat.run(body) == (7, 8)
    assert vat.run(one) == 9


def test_a_promise_that_a_turn_has_chained_to_one_that_is_open_is_open(vat):
    """SYN-06"""
    (one, resolve_one), (two, resolve_two) = (vat.run(promise_and_resolver) for _ in range(2))

    def body():
        resolve_one.fulfil(two)
        one()

    with pytest.raises(GoblinsError, match="not settled"):
        vat.run(body)
    resolve_two.fulfil(None)


def test_a_ring_of_promises_that_a_turn_has_made_is_open_until_its_end(vat):
    """SYN-06, ASY-16"""
    (one, resolve_one), (two, resolve_two) = (vat.run(promise_and_resolver) for _ in range(2))

    def body():
        resolve_one.fulfil(two)
        resolve_two.fulfil(one)
        with pytest.raises(GoblinsError, match="not settled"):
            one()

    vat.run(body)
    for promise in (one, two):
        with pytest.raises(GoblinsError, match="waits for it in turn"):
            promise.result(timeout=30)


def test_a_settlement_that_comes_too_late_is_not_seen_by_its_turn(vat):
    """SYN-06, ASY-10: the promise waits for another one already."""
    (one, resolve_one), (two, resolve_two) = (vat.run(promise_and_resolver) for _ in range(2))
    resolve_one.fulfil(two)

    def body():
        resolve_one.fulfil("too late")
        one()

    with pytest.raises(GoblinsError, match="not settled"):
        vat.run(body)
    resolve_two.fulfil("first")
    assert vat.run(one) == "first"


def test_a_caught_error_of_a_call_is_an_ordinary_exception(vat):
    """SYN-09"""
    fails = vat.spawn(lambda bcom: methods(fail=lambda: {}["missing"]))

    def careful(bcom):
        def behavior():
            try:
                return fails.fail()
            except KeyError as error:
                return error.args

        return behavior

    assert vat.spawn(careful)() == ("missing",)
    assert send(vat.spawn(careful)).result(timeout=30) == ("missing",)


def test_a_constructor_may_call_and_tell_others_when_it_runs_after_an_opening(place):
    """SYN-10, POR-27: the others are made when they are called."""

    @actor
    def greeter(bcom, name, log):
        greeting = f"hello {name.get()}"
        tell(log.put, greeting)
        return lambda: greeting

    env = PersistenceEnv("test", greeter, cell)

    def roots():
        log = spawn(cell, "nothing")
        return spawn(greeter, spawn(cell, "Ada"), log), log

    vat, greets, log = place.spawn(roots, env=env)
    assert greets() == "hello Ada"
    log.put("nothing")
    vat, greets, log = place.restart(vat, env=env)
    assert log.get() == "nothing"
    assert greets() == "hello Ada"
    assert log.get() == "hello Ada"
    vat.close()
