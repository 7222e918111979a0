"""What of sections 8 and 11 of docs/conformance.md no other test shows."""

import logging

import pytest
from goblins import (
    Actor,
    AsyncioVat,
    ManualVat,
    NotPortableError,
    PersistenceEnv,
    UnknownLabelError,
    Vat,
    actor,
    methods,
    send,
    spawn,
    tell,
)
from support import Boom, cell, collect, counter, echo, failing, must_not_run

ENV = PersistenceEnv("test", counter, cell)


class TestDecorator:
    def test_unknown_options_are_an_error_and_the_docstring_is_kept(self):
        """POR-21"""
        with pytest.raises(TypeError, match="frozen"):
            actor(frozen=True)

        @actor
        def greeter(bcom):
            """Says hello."""
            return lambda: "hello"

        assert greeter.__doc__ == "Says hello."
        assert greeter.__name__ == "greeter"
        assert greeter.__wrapped__.__doc__ == "Says hello."

    def test_a_portrait_without_a_version_has_version_0(self, place):
        """POR-02"""
        seen = []

        def upgrade(version, fields):
            seen.append((version, fields))
            return fields

        @actor(label="thing")
        def old(bcom, value):
            return lambda: value

        @actor(label="thing", version=1, upgrade=upgrade)
        def new(bcom, value):
            return lambda: value

        vat, _ = place.spawn(lambda: spawn(old, 5), env=PersistenceEnv("test", old))
        _, ref = place.restart(vat, env=PersistenceEnv("test", new))
        assert ref() == 5
        assert seen == [(0, {"value": 5})]

    def test_defining_a_constructor_again_gives_another_one_for_the_same_label(self, place):
        """POR-19, where ours differs: the label connects them, and an opening the actors."""

        def define(word):
            @actor(label="greeter")
            def greeter(bcom, name):
                return lambda: f"{word}, {name}"

            return greeter

        first, second = define("hello"), define("good day")
        vat, ref = place.spawn(lambda: spawn(first, "Ada"), env=PersistenceEnv("test", first))
        assert ref() == "hello, Ada"
        _, ref = place.restart(vat, env=PersistenceEnv("test", second))
        assert ref() == "good day, Ada"


class TestReferences:
    def test_an_actor_that_holds_itself_is_stored(self, place):
        """POR-20, LIM-17"""

        class Knowing(Actor):
            me: object = None
            count: int = 0

            def __post_init__(self):
                self.me = self.ref

            def tick(self):
                self.count += 1
                return self.me

        env = PersistenceEnv("test", Knowing)
        vat, ref = place.spawn(lambda: spawn(Knowing), env=env)
        assert ref.tick() is ref
        _, ref = place.restart(vat, env=env)
        assert ref.tick().tick() is ref

    def test_what_no_root_leads_to_any_more_is_not_made_again(self, place):
        """POR-29"""
        made = []

        @actor
        def noted(bcom, name):
            made.append(name)
            return lambda: name

        env = PersistenceEnv("test", noted, cell)
        vat, box = place.spawn(lambda: spawn(cell, [spawn(noted, "a"), spawn(noted, "b")]), env=env)
        box.put(box.get()[:1])
        made.clear()
        _, box = place.restart(vat, env=env)
        assert [ref() for ref in box.get()] == ["a"]
        assert made == ["a"]
        # Its label must be known still: its record stands there.
        with pytest.raises(UnknownLabelError):
            place.restart(_, env=ENV)

    def test_one_store_can_be_opened_again_and_again_in_one_process(self, place):
        """POR-37"""
        vat, ticks = place.spawn(lambda: spawn(counter))
        for number in range(5):
            assert ticks() == number
            vat.close()
            vat, ticks = place.spawn(must_not_run)


class TestTheVat:
    @pytest.mark.parametrize("kind", [Vat, ManualVat], ids=repr)
    def test_what_makes_the_vat_is_given_name_and_log(self, place, kind):
        """PV-06, PV-07"""
        seen = []

        def make(**options):
            seen.append({name: value for name, value in options.items() if not name.startswith("_")})
            return kind(**options, inbox_limit=7)

        vat, ticks = place.spawn(
            lambda: spawn(counter), vat_constructor=make, name="till", log=True, log_capacity=3
        )
        assert seen == [{"name": "till", "log": True, "log_capacity": 3}]
        assert (type(vat), vat.name, vat.inbox_limit) == (kind, "till", 7)
        for _ in range(5):
            ticks()
        assert len(vat.log) == 3

    async def test_one_on_an_event_loop_too(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter), vat_constructor=AsyncioVat)
        assert await send(ticks) == 0
        await vat.close_async()

    def test_without_a_log_there_is_none(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter))
        ticks()
        assert len(vat.log) == 0

    def test_an_actor_may_send_to_another_vat_while_it_is_made_again(self, place, vat):
        """PV-19: its message leaves with the churn that made it, and an error of it is no error of that."""
        far = vat.spawn(cell, [])
        fails = vat.spawn(failing)

        @actor
        def greeting(bcom, name):
            tell(far.put, name)
            tell(fails, Boom("on purpose"))
            return methods(name=lambda: name)

        env = PersistenceEnv("test", greeting)
        home, _ = place.spawn(lambda: spawn(greeting, "Ada"), env=env)
        vat.drain()
        far.put(None)
        _, ref = place.restart(home, env=env)
        assert far.get() is None
        assert ref.name() == "Ada"
        vat.drain()
        assert far.get() == "Ada"

    @pytest.mark.parametrize("mode", ["churn", "manual"])
    def test_an_upgrade_of_the_roots_that_makes_what_cannot_be_stored_changes_nothing(self, place, mode):
        """LIM-05, PV-21: the error is raised, and tells the way."""
        vat, box = place.spawn(lambda: spawn(cell, "old"), env=ENV, persist_on=mode)

        def upgrade(version, box):
            box.put("new")
            return spawn(cell, "another"), spawn(cell, [spawn(echo)])

        with pytest.raises(NotPortableError) as caught:
            place.restart(vat, env=ENV, version=1, upgrade=upgrade, persist_on=mode)
        assert caught.value.trail.startswith("root 1 -> test.cell#")
        _, box = place.restart(env=ENV)
        assert box.get() == "old"

    def test_an_opening_makes_no_actor_and_takes_no_portrait(self, place):
        """PV-04"""
        taken = []

        def portrait(value):
            taken.append(value)
            return {"value": value}

        @actor(portrait=portrait)
        def thing(bcom, value):
            return lambda: value

        env = PersistenceEnv("test", thing)
        vat, _ = place.spawn(lambda: spawn(thing, 1), env=env)
        taken.clear()
        _, ref = place.restart(vat, env=env)
        assert ref() == 1
        assert taken == []

    def test_what_waits_is_not_stored(self, place, caplog):
        """PV-23: neither messages nor listeners nor promises."""
        vat, ticks = place.spawn(lambda: spawn(counter), vat_constructor=ManualVat)
        answer = send(ticks)
        with caplog.at_level(logging.CRITICAL, logger="goblins"):
            vat, ticks = place.restart(vat)
        with pytest.raises(RuntimeError):
            answer.result(timeout=30)
        collect()
        assert (ticks(), vat.backlog) == (0, 0)
