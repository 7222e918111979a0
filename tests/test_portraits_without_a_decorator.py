"""`portraitize`: constructors that are plain functions, portrait and rehydrator made by hand (POR-22)."""

import gc
import weakref

import pytest
from goblins import (
    Actor,
    BehaviorError,
    DuplicateLabelError,
    MigrationError,
    NotPortableError,
    PersistenceEnv,
    actor,
    methods,
    portraitize,
    send,
    spawn,
    versioned,
)
from support import Boom, cell, collect, counter, failing_turn


def till(bcom, owner, balance=0):
    """The way it is written without `@actor`."""

    def deposit(amount):
        return bcom(till(bcom, owner, balance + amount), balance + amount)

    return portraitize(methods(deposit=deposit, show=lambda: (owner, balance)), lambda: (owner, balance))


def gauge(bcom, value=0):
    """A behavior that is a function; its fields by name."""

    def step(more=1):
        return bcom(gauge(bcom, value + more), value)

    return portraitize(step, lambda: {"value": value})


def restore_till(version, owner, balance):
    return spawn(till, owner, balance + 100)


PLAIN = PersistenceEnv({"bank.till": till, "bank.gauge": gauge, "bank.cell": cell, "bank.counter": counter})


class TestInMemory:
    def test_such_an_actor_works_as_any_other(self, vat):
        ada, step = vat.spawn(till, "Ada"), vat.spawn(gauge)
        assert (ada.deposit(5), ada.show()) == (5, ("Ada", 5))
        assert (step(), step(more=3), step()) == (0, 1, 4)
        assert send(ada.deposit, 1).result(timeout=30) == 6
        assert "till" in repr(ada)

    def test_a_failing_turn_undoes_it(self, vat):
        ada = vat.spawn(till, "Ada", 1)
        with failing_turn(vat):
            ada.deposit(5)
            raise Boom
        assert ada.show() == ("Ada", 1)

    def test_its_portrait_is_never_asked_for(self, vat):
        def odd(bcom):
            return portraitize(lambda: "fine", lambda: 1 / 0)

        assert vat.spawn(odd)() == "fine"

    def test_methods_may_extend_it(self, vat):
        def both(bcom):
            return methods(extends=till(bcom, "Ada"), more=lambda: "more")

        ref = vat.spawn(both)
        assert (ref.show(), ref.more()) == (("Ada", 0), "more")

    def test_a_behavior_and_what_it_holds_go_with_their_actor(self, vat):
        class Thing:
            pass

        def keeper(bcom, thing):
            def held():
                return thing, bcom, held

            return portraitize(held, lambda: (thing,))

        thing = Thing()
        away, ref = weakref.ref(thing), vat.spawn(keeper, thing)
        del thing, ref
        gc.collect()
        assert away() is None


class TestStored:
    def test_it_comes_back_by_a_call_of_its_constructor(self, place):
        """POR-14: the default rehydrator."""
        vat, ada, step = place.spawn(lambda: (spawn(till, "Ada"), spawn(gauge, 3)), env=PLAIN)
        ada.deposit(5)
        for round_ in range(3):
            vat, ada, step = place.restart(vat, env=PLAIN)
            assert ada.show() == ("Ada", 5 + round_)
            ada.deposit(1)
            assert step() == 3 + round_

    def test_a_rehydrator_in_the_environment_makes_it(self, place):
        """ENV-02"""
        env = PersistenceEnv({"bank.till": (till, restore_till)})
        vat, ada = place.spawn(lambda: spawn(till, "Ada"), env=env)
        vat, ada = place.restart(vat, env=env)
        assert ada.deposit(5) == 105
        vat, ada = place.restart(vat, env=env)
        assert ada.show() == ("Ada", 205)

    def test_a_rehydrator_may_change_what_it_spawned(self, place):
        def restore(version, owner, balance):
            made = spawn(till, owner, balance)
            made.deposit(10)
            return made

        env = PersistenceEnv({"bank.till": (till, restore)})
        vat, _ = place.spawn(lambda: spawn(till, "Ada"), env=env)
        vat, ada = place.restart(vat, env=env)
        assert ada.show() == ("Ada", 10)
        ada.deposit(1)
        assert ada.show() == ("Ada", 11)
        _, ada = place.restart(vat, env=env)
        assert ada.show() == ("Ada", 21)

    def test_identity_cycles_and_names_are_kept(self, place):
        def roots():
            box = spawn(cell)
            ada = spawn(till, box)
            box.put([ada, ada])
            return box, ada

        vat, *_ = place.spawn(roots, env=PLAIN)
        _, box, ada = place.restart(vat, env=PLAIN)
        assert box.get() == [ada, ada]
        assert ada.show()[0] is box
        assert "till" in repr(ada)

    def test_the_portrait_may_call_near_actors_and_its_changes_are_not_kept(self, place):
        """POR-05: the original can't."""

        def watched(bcom, ticks, seen=None):
            def again():
                return bcom(watched(bcom, ticks, seen))

            return portraitize(methods(again=again, seen=lambda: seen), lambda: (ticks, ticks()))

        env = PersistenceEnv({"watched": watched, "counter": counter})

        def roots():
            ticks = spawn(counter, 5)
            return spawn(watched, ticks), ticks

        vat, ref, ticks = place.spawn(roots, env=env)
        ref.again()
        assert ticks() == 5
        _, ref, ticks = place.restart(vat, env=env)
        assert (ref.seen(), ticks()) == (5, 6)

    def test_a_portrait_may_have_a_version_which_the_rehydrator_gets(self, place):
        """POR-02, POR-04"""
        seen = []

        def thing(bcom, value):
            return portraitize(lambda: value, lambda: versioned("two", value))

        def restore(version, value):
            seen.append(version)
            return spawn(thing, value)

        env = PersistenceEnv({"thing": (thing, restore)})
        vat, _ = place.spawn(lambda: spawn(thing, 4), env=env)
        vat, ref = place.restart(vat, env=env)
        assert ref() == 4
        assert seen == ["two"]
        vat.close()
        with pytest.raises(MigrationError, match="version 'two'"):
            place.restart(env=PersistenceEnv({"thing": thing}))

    def test_what_it_gives_must_be_portable_and_the_error_tells_the_way(self, place):
        vat, ada = place.spawn(lambda: spawn(till, "Ada"), env=PLAIN)
        with pytest.raises(NotPortableError) as caught:
            vat.run(lambda: ada.deposit(Weird()))
        assert caught.value.path == "args.balance"
        assert caught.value.trail == "root 0 -> bank.till#0.balance -> Weird"
        assert ada.show() == ("Ada", 0)

    @pytest.mark.parametrize("given", [None, 42, {1: 2}, (1, 2, 3)], ids=repr)
    def test_a_portrait_that_is_none_is_an_error_of_the_turn(self, place, given):
        def odd(bcom, one=1, two=2):
            return portraitize(lambda: None, lambda: given)

        with pytest.raises(MigrationError, match="portrait"):
            place.spawn(lambda: spawn(odd), env=PersistenceEnv({"odd": odd}))

    def test_without_portraitize_a_plain_function_has_no_portrait(self, place):
        """G8"""

        def bare(bcom):
            return lambda: None

        with pytest.raises(NotPortableError, match="without a portrait"):
            place.spawn(lambda: spawn(bare), env=PersistenceEnv({"bare": bare}))

    def test_a_constructor_that_gives_none_when_it_is_made_again_is_an_error_that_names_it(self, place):
        def fickle(bcom, times=0):
            return portraitize(lambda: "fine", lambda: (times + 1,)) if times == 0 else (lambda: None)

        env = PersistenceEnv({"fickle": fickle})
        vat, _ = place.spawn(lambda: spawn(fickle), env=env)
        _, ref = place.restart(vat, env=env)
        with pytest.raises(BehaviorError, match="fickle"):
            ref()

    def test_state_in_a_variable_is_refused_here_too(self, place):
        """A turn that fails could not undo it."""

        def sneaky(bcom, count=0):
            def step():
                nonlocal count
                count += 1
                return count

            return portraitize(step, lambda: (count,))

        with pytest.raises(NotPortableError, match="nonlocal"):
            place.spawn(lambda: spawn(sneaky), env=PersistenceEnv({"sneaky": sneaky}))

    def test_it_lives_beside_others_and_becomes_them(self, place):
        """ACT-14"""

        class Fixed(Actor):
            value: int

            def show(self):
                return self.value

        @actor
        def closed(bcom, value):
            return methods(
                show=lambda: value,
                open=lambda: bcom(opened(bcom, value + 1)),
                fix=lambda: bcom(Fixed(value)),
            )

        def opened(bcom, value):
            behavior = methods(show=lambda: value, close=lambda: bcom(closed(bcom, value)))
            return portraitize(behavior, lambda: (value,), constructor=opened)

        env = PersistenceEnv({"closed": closed, "opened": opened, "fixed": Fixed})
        vat, ref = place.spawn(lambda: spawn(closed, 1), env=env)
        ref.open()
        vat, ref = place.restart(vat, env=env)
        assert ref.show() == 2
        ref.close()
        vat, ref = place.restart(vat, env=env)
        ref.fix()
        _, ref = place.restart(vat, env=env)
        assert ref.show() == 2

    def test_becoming_one_of_no_known_constructor_is_an_error_that_says_what_to_do(self, place):
        class Fixed(Actor):
            def loosen(self):
                return self.become(portraitize(lambda: None, lambda: ()))

        env = PersistenceEnv({"fixed": Fixed})
        _, ref = place.spawn(lambda: spawn(Fixed), env=env)
        with pytest.raises(NotPortableError, match=r"portraitize\(\.\.\., constructor=\.\.\.\)"):
            ref.loosen()

    def test_an_actor_without_a_place_in_the_environment_is_refused(self, place):
        with pytest.raises(NotPortableError, match="till, which is not in the vat's PersistenceEnv"):
            place.spawn(lambda: spawn(till, "Ada"), env=PersistenceEnv({}))


class Weird:
    def __radd__(self, other):
        return self


class TestRefused:
    @pytest.mark.parametrize("behavior", [None, 42, "text", []], ids=repr)
    def test_what_is_no_behavior(self, behavior):
        with pytest.raises(BehaviorError, match="no behavior"):
            portraitize(behavior, lambda: ())

    def test_what_has_a_portrait_already(self, vat):
        @actor
        def decorated(bcom):
            return lambda: None

        def twice(bcom):
            return portraitize(decorated(bcom), lambda: ())

        def hand_in_hand(bcom):
            return portraitize(till(bcom, "Ada"), lambda: ())

        class Fixed(Actor):
            pass

        for constructor in (twice, hand_in_hand, lambda bcom: portraitize(Fixed(), lambda: ())):
            with pytest.raises(BehaviorError, match="has a portrait already"):
                vat.spawn(constructor)

    def test_a_portrait_that_is_no_function(self):
        with pytest.raises(BehaviorError, match="function without arguments"):
            portraitize(lambda: None, (1, 2))

    def test_a_decorated_constructor_whose_behavior_has_one_by_hand(self, vat):
        @actor
        def both(bcom):
            return portraitize(lambda: None, lambda: ())

        with pytest.raises(BehaviorError, match=r"@actor\(portrait=\.\.\.\)"):
            vat.spawn(both)

    def test_in_an_environment(self):
        with pytest.raises(BehaviorError, match=r"PersistenceEnv\({label: function}\)"):
            PersistenceEnv("bank", till)
        with pytest.raises(BehaviorError, match="must take bcom"):
            PersistenceEnv({"t": lambda: None})
        with pytest.raises(BehaviorError, match="rehydrator"):
            PersistenceEnv({"t": (till, 42)})
        with pytest.raises(BehaviorError, match="pair"):
            PersistenceEnv({"t": (till, restore_till, 42)})
        with pytest.raises(DuplicateLabelError, match="till"):
            PersistenceEnv({"one": till, "two": till})

    def test_environments_are_joined_with_their_rehydrators(self, place):
        one = PersistenceEnv({"bank.till": (till, restore_till)})
        env = one | PersistenceEnv({"bank.gauge": gauge}, extends=one)
        vat, ada, _ = place.spawn(lambda: (spawn(till, "Ada"), spawn(gauge)), env=env)
        _, ada, step = place.restart(vat, env=env)
        collect()
        assert (ada.show(), step()) == (("Ada", 100), 0)
