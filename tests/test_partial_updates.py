"""A promise can tell of something before it settles (ASY-29).

`resolver.update(value)` reaches those who listen with `on(promise, partial=...)`: each update once, in order,
in a turn of their own vat, and nothing after the settlement.
"""

import logging
import weakref

import pytest
from goblins import Actor, on, promise_and_resolver, send, spawn
from support import Boom, collect


class Kitchen(Actor):
    """Promises a dish, and says how far it is."""

    def cook(self, steps):
        promise, resolver = promise_and_resolver()
        stove = spawn(Stove, resolver, steps)
        send(stove.go_on)
        return promise

    async def cook_slowly(self, resolver):
        for part in (1, 2):
            resolver.update(part)
            await send(self.ref.rest)
        return "done"

    def rest(self):
        pass


class Stove(Actor):
    resolver: object
    steps: int
    done: int = 0

    def go_on(self):
        self.done += 1
        if self.done > self.steps:
            self.resolver.fulfil("dish")
        else:
            self.resolver.update(self.done / self.steps)
            send(self.ref.go_on)


def listen(promise, heard):
    on(promise, heard.append, catch=heard.append, partial=lambda value: heard.append(("so far", value)))


def listen_only(promise, listener):
    on(promise, partial=listener)


@pytest.fixture
def pair(vat):
    return vat.run(promise_and_resolver)


class TestWhoIsTold:
    def test_a_listener_hears_each_update_in_order_and_then_the_outcome(self, vat, pair):
        (promise, resolver), heard = pair, []
        vat.run(listen, promise, heard)
        with vat:
            resolver.update(1)
            resolver.update(2)
        resolver.update(3)
        vat.drain(timeout=30)
        assert heard == [("so far", 1), ("so far", 2), ("so far", 3)]
        resolver.fulfil("end")
        vat.drain(timeout=30)
        assert heard[3:] == ["end"]

    def test_nothing_is_heard_after_the_settlement(self, vat, pair):
        (promise, resolver), heard = pair, []
        vat.run(listen, promise, heard)
        with vat:
            resolver.break_(error := Boom("over"))
            resolver.update(1)
        resolver.update(2)
        vat.drain(timeout=30)
        assert heard == [error]

    def test_one_who_comes_later_hears_the_newest_update_first(self, vat, pair):
        (promise, resolver), heard = pair, []
        resolver.update(1)
        resolver.update(2)
        vat.run(listen, promise, heard)
        resolver.update(3)
        vat.drain(timeout=30)
        assert heard == [("so far", 2), ("so far", 3)]

    def test_one_who_comes_after_the_settlement_hears_of_no_update(self, vat, pair):
        (promise, resolver), heard = pair, []
        resolver.update(1)
        resolver.fulfil("end")
        vat.run(listen, promise, heard)
        assert heard == ["end"]

    def test_several_listeners_hear_of_it_oldest_first(self, vat, pair):
        (promise, resolver), heard = pair, []
        for name in "abc":
            vat.run(lambda name=name: on(promise, partial=lambda value: heard.append((name, value))) and None)
        resolver.update(1)
        vat.drain(timeout=30)
        assert heard == [("a", 1), ("b", 1), ("c", 1)]
        resolver.fulfil(None)

    def test_an_actor_and_its_message_can_listen(self, vat, pair):
        class Bar(Actor):
            seen: list = []

            def show(self, value):
                self.seen.append(value)

            def get(self):
                return self.seen

        promise, resolver = pair
        bar = vat.spawn(Bar)
        vat.run(lambda: on(promise, partial=bar.show) and None)
        resolver.update(0.5)
        vat.drain(timeout=30)
        assert bar.get() == [0.5]
        resolver.fulfil(None)

    def test_without_partial_updates_go_unheard_and_harm_nobody(self, vat, pair):
        (promise, resolver), heard = pair, []
        vat.run(lambda: on(promise, heard.append) and None)
        resolver.update(1)
        resolver.fulfil("end")
        vat.drain(timeout=30)
        assert heard == ["end"]

    def test_what_on_gives_is_settled_by_the_outcome_alone(self, vat, pair):
        promise, resolver = pair
        derived = vat.run(lambda: on(promise, partial=lambda value: "ignored"))
        resolver.update(1)
        resolver.fulfil("end")
        assert derived.result(timeout=30) == "end"

    def test_partial_must_be_callable(self, vat, pair):
        with pytest.raises(TypeError, match="partial"), vat:
            on(pair[0], partial=3)


class TestTurns:
    def test_an_update_of_a_turn_that_fails_is_not_heard(self, vat, pair):
        (promise, resolver), heard = pair, []
        vat.run(listen, promise, heard)
        with pytest.raises(Boom), vat:
            resolver.update(1)
            raise Boom
        resolver.update(2)
        vat.drain(timeout=30)
        assert heard == [("so far", 2)]

    def test_a_listener_runs_in_a_turn_of_its_own_in_the_vat_that_listens(self, vat, other_vat, pair):
        promise, resolver = pair
        turns = []
        other_vat.run(lambda: on(promise, partial=lambda value: turns.append(spawn(Kitchen))) and None)
        with vat:
            resolver.update(1)
            assert turns == []
        other_vat.drain(timeout=30)
        assert f"of vat {other_vat.name}" in repr(turns[0])

    def test_an_error_in_a_listener_is_logged_and_undoes_its_own_turn(self, vat, pair, caplog):
        caplog.set_level(logging.ERROR, logger="goblins")
        (promise, resolver), heard = pair, []
        box = vat.spawn(Kitchen)

        def listener(value):
            on(send(box.rest), lambda _: heard.append("sent"))
            raise Boom(value)

        vat.run(lambda: on(promise, partial=listener) and None)
        resolver.update(1)
        resolver.update(2)
        vat.drain(timeout=30)
        errors = [record.exc_info[1].args for record in caplog.records if "partial" in record.getMessage()]
        assert errors == [(1,), (2,)]
        assert heard == []

    def test_what_is_handed_over_is_a_copy_of_an_actors_container(self, vat, pair):
        class Keeper(Actor):
            items: list = []

            def tell(self, resolver):
                self.items.append(1)
                resolver.update(self.items)
                self.items.append(2)

        (promise, resolver), heard = pair, []
        vat.run(lambda: on(promise, partial=heard.append) and None)
        vat.spawn(Keeper).tell(resolver)
        assert heard == [[1]]


class TestAnswers:
    def test_the_sender_hears_the_updates_of_the_promise_that_is_the_answer(self, vat):
        heard = []
        kitchen = vat.spawn(Kitchen)
        vat.run(lambda: listen(send(kitchen.cook, 4), heard))
        vat.drain(timeout=30)
        assert heard == [("so far", 0.25), ("so far", 0.5), ("so far", 0.75), ("so far", 1.0), "dish"]

    def test_so_does_a_sender_in_another_vat(self, vat, other_vat):
        heard = []
        kitchen = vat.spawn(Kitchen)
        done, resolver = promise_and_resolver()

        def start():
            answer = send(kitchen.cook, 3)
            listen(answer, heard)
            on(answer, resolver.fulfil)

        other_vat.run(start)
        assert done.result(timeout=30) == "dish"
        # It came to wait while the work went on: of what was before, it hears the newest.
        assert heard[-1] == "dish"
        told = [value for _, value in heard[:-1]]
        assert told == [1 / 3, 2 / 3, 1.0][-len(told) :]
        assert told[-1] == 1.0

    def test_an_async_behavior_can_update_between_its_waits(self, vat, pair):
        (promise, resolver), heard = pair, []
        vat.run(listen, promise, heard)
        kitchen = vat.spawn(Kitchen)
        vat.run(lambda: resolver.fulfil(send(kitchen.cook_slowly, resolver)) and None)
        assert promise.result(timeout=30) == "done"
        vat.drain(timeout=30)
        assert heard[-1] == "done"

    def test_a_chain_passes_updates_on_and_takes_none_itself(self, vat, other_vat, pair):
        (first, resolver), heard = pair, []
        second, second_resolver = other_vat.run(promise_and_resolver)
        vat.run(listen, first, heard)
        second_resolver.update("before")
        resolver.fulfil(second)
        resolver.update("too late: it waits for another")
        second_resolver.update("after")
        second_resolver.fulfil("end")
        assert first.result(timeout=30) == "end"
        for _ in range(2):
            other_vat.drain(timeout=30)
            vat.drain(timeout=30)
        assert heard == [("so far", "before"), ("so far", "after"), "end"]


def test_a_resolver_that_goes_after_an_update_still_abandons_its_promise(vat):
    """The update comes first, then those who listen are told that nothing will come."""
    promise, resolver = vat.run(promise_and_resolver)
    heard = []
    vat.run(listen, promise, heard)

    def body(resolvers):
        resolvers.pop().update(1)

    resolvers = [resolver]
    del resolver
    vat.run(body, resolvers)
    vat.drain(timeout=30)
    assert heard[0] == ("so far", 1)
    assert "abandoned" in str(heard[1])


def test_a_listener_that_leads_back_to_its_promise_is_collected(vat):
    class Listener:
        def __call__(self, value):
            self.last = value

    promise, resolver = vat.run(promise_and_resolver)
    listener = Listener()
    listener.promise, listener.resolver = promise, resolver
    resolver.update(listener)
    vat.run(listen_only, promise, listener)
    gone = weakref.ref(listener)
    del promise, resolver, listener
    collect()
    assert gone() is None
