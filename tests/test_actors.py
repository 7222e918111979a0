"""Actors: how they are made, how they are known, and how they become something else.

An actor is a behavior that others know only by its `Ref`. Its constructor gets `bcom`, the right to
change that one behavior, and nobody else can change it.
"""

import copy
import functools
import pickle
import weakref

import goblins
import pytest
from goblins import (
    BehaviorError,
    GoblinsError,
    NoTurnError,
    Ref,
    actor,
    methods,
    send,
    spawn,
    spawn_named,
)
from support import Boom, caller, cell, counter, echo


class TestSpawning:
    def test_spawn_gives_a_ref(self, vat):
        assert type(vat.spawn(counter)) is Ref
        assert type(vat.run(spawn, counter)) is Ref

    def test_the_constructor_gets_bcom_and_then_what_spawn_was_given(self, vat):
        """ACT-01"""
        seen = []

        def constructor(bcom, *args, **kwargs):
            seen.append((args, kwargs))
            assert callable(bcom)
            return lambda: None

        vat.spawn(constructor, 1, "two", three=3)
        assert seen == [((1, "two"), {"three": 3})]

    def test_keywords_of_the_constructor_never_clash_with_those_of_spawn(self, vat):
        def constructor(bcom, **kwargs):
            return lambda: kwargs

        words = {"ctor": 1, "constructor": 2, "name": 3, "self": 4, "args": 5, "vat": 6}
        assert vat.spawn(constructor, **words)() == words
        assert vat.run(lambda: spawn(constructor, **words)(), *()) == words
        assert vat.run(lambda: spawn_named("n", constructor, **words)()) == words

    def test_the_constructor_runs_at_once_and_once(self, vat):
        runs = []

        def constructor(bcom):
            runs.append(1)
            return lambda: None

        with vat:
            spawn(constructor)
            assert runs == [1]
        assert runs == [1]

    @pytest.mark.parametrize(
        "make", [lambda: spawn(counter), lambda: spawn_named("n", counter)], ids=["spawn", "spawn_named"]
    )
    def test_spawning_needs_a_turn(self, make):
        """ACT-19"""
        with pytest.raises(NoTurnError, match="turn"):
            make()

    def test_a_ref_that_a_constructor_returns_is_what_spawn_gives(self, vat, other_vat):
        """ACT-03: no new actor is made."""
        near, far = vat.spawn(counter), other_vat.spawn(counter)

        @actor
        def proxy(bcom, target):
            return target

        assert vat.spawn(proxy, near) is near
        assert vat.spawn(proxy, far) is far
        assert vat.spawn(lambda bcom: near) is near

    @pytest.mark.parametrize("made", [None, 42, "text", [print], {"tick": print}], ids=repr)
    def test_a_constructor_that_returns_neither_behavior_nor_ref_is_an_error(self, vat, made):
        """ACT-05"""

        def odd_constructor(bcom):
            return made

        with pytest.raises(BehaviorError, match="odd_constructor") as caught:
            vat.spawn(odd_constructor)
        assert isinstance(caught.value, TypeError)
        assert vat.spawn(counter)() == 0

    def test_an_actor_constructor_that_returns_nothing_is_an_error_that_names_it(self, vat):
        @actor
        def forgot_to_return(bcom):
            def behavior():
                pass

        with pytest.raises(BehaviorError, match=r"forgot_to_return.*None"):
            vat.spawn(forgot_to_return)

    def test_a_constructor_that_returns_a_bcom_token_is_an_error(self, vat):
        with pytest.raises(BehaviorError):
            vat.spawn(lambda bcom: bcom(lambda: 1))

    @pytest.mark.parametrize("constructor", [None, 42, "counter", ()], ids=repr)
    def test_a_constructor_that_cannot_be_called_is_an_error(self, vat, constructor):
        with pytest.raises(BehaviorError):
            vat.spawn(constructor)
        with pytest.raises(TypeError):
            vat.run(spawn, constructor)
        with pytest.raises(BehaviorError):
            vat.run(spawn_named, "n", constructor)

    def test_wrong_arguments_for_the_constructor_are_its_own_type_error(self, vat):
        with pytest.raises(TypeError, match="surplus"):
            vat.spawn(counter, surplus=1)

    def test_an_error_in_a_constructor_reaches_the_one_who_spawns(self, vat):
        def broken(bcom):
            raise Boom("no")

        with pytest.raises(Boom, match="no"):
            vat.spawn(broken)

    def test_a_constructor_may_spawn_call_and_send(self, vat):
        """ACT-06"""
        total = vat.spawn(cell, 0)

        def family(bcom):
            child = spawn(counter, 5)
            child()
            sent = send(total.put, 7)
            return lambda: (child(), sent)

        seen, sent = vat.spawn(family)()
        assert seen == 6
        assert sent.result(timeout=30) is None
        assert total.get() == 7


class TestAnyCallableIsAConstructor:
    def test_a_lambda(self, vat):
        assert vat.spawn(lambda bcom, n: lambda: n, 3)() == 3

    def test_a_class_whose_instances_can_be_called(self, vat):
        class Doubler:
            def __init__(self, bcom, factor):
                self.factor = factor

            def __call__(self, n):
                return n * self.factor

        assert vat.spawn(Doubler, 3)(4) == 12

    def test_an_object_with_a_call_method(self, vat):
        class Maker:
            def __call__(self, bcom, n):
                return lambda: n

        assert vat.spawn(Maker(), 9)() == 9

    def test_a_partial(self, vat):
        assert vat.spawn(functools.partial(lambda bcom, a, b: lambda: (a, b), b=2), 1)() == (1, 2)

    def test_a_bound_method(self, vat):
        class Factory:
            def __init__(self, n):
                self.n = n

            def make(self, bcom):
                return lambda: self.n

        assert vat.spawn(Factory(4).make)() == 4

    def test_a_builtin_as_behavior(self, vat):
        assert vat.spawn(lambda bcom: len)([1, 2]) == 2


class TestActorDecorator:
    def test_it_keeps_name_and_doc(self):
        @actor
        def documented(bcom):
            """What it does."""
            return lambda: None

        assert documented.__name__ == "documented"
        assert documented.__doc__ == "What it does."

    def test_it_takes_options_in_both_forms(self, vat):
        @actor(label="other-label", version=3)
        def plain(bcom, n=1):
            return lambda: n

        assert plain.__name__ == "plain"
        assert vat.spawn(plain, 2)() == 2
        assert vat.spawn(actor(lambda bcom: lambda: 5))() == 5

    def test_it_wants_a_function(self):
        with pytest.raises(TypeError):
            actor(42)


class TestBecoming:
    def test_bcom_changes_the_behavior_and_gives_the_value(self, vat):
        """ACT-08"""
        ticks = vat.spawn(counter)
        assert [ticks(), ticks(), ticks()] == [0, 1, 2]

    def test_without_a_value_the_result_is_none(self, vat):
        """ACT-08"""
        box = vat.spawn(cell, 1)
        assert box.put(2) is None
        assert box.get() == 2

    def test_a_dropped_token_changes_nothing(self, vat):
        """ACT-07"""

        def forgetful(bcom):
            def behavior():
                bcom(lambda: "changed")
                return "same"

            return behavior

        ref = vat.spawn(forgetful)
        assert [ref(), ref()] == ["same", "same"]

    def test_the_last_of_several_tokens_is_not_special_only_the_returned_one_counts(self, vat):
        def chooser(bcom):
            def behavior():
                first = bcom(lambda: "first")
                bcom(lambda: "second")
                return first

            return behavior

        ref = vat.spawn(chooser)
        assert ref() is None
        assert ref() == "first"

    def test_a_token_of_another_actor_is_refused(self, vat):
        """ACT-09"""

        def lender(bcom):
            return lambda: [bcom(lambda: "stolen")]

        def thief(bcom, victim):
            def behavior():
                (token,) = victim()
                return token

            return behavior

        victim = vat.spawn(lender)
        robber = vat.spawn(thief, victim)
        with pytest.raises(BehaviorError, match="bcom"):
            robber()
        (token,) = victim()
        with pytest.raises(BehaviorError, match="bcom"):
            vat.spawn(caller)(lambda: token)
        assert type(victim()) is list

    def test_a_token_in_a_list_is_a_plain_value_that_changes_nobody(self, vat):
        """ACT-09"""

        def lender(bcom):
            return lambda: [bcom(lambda: "changed")]

        ref = vat.spawn(lender)
        assert type(ref()) is list
        assert type(ref()) is list

    def test_a_token_may_be_kept_for_a_later_message(self, vat):
        """It belongs to its actor, not to the message in which it was made."""

        def patient(bcom):
            kept = []

            def behavior():
                if kept:
                    return kept[0]
                kept.append(bcom(lambda: "changed", "changing"))
                return "kept"

            return behavior

        ref = vat.spawn(patient)
        assert [ref(), ref(), ref()] == ["kept", "changing", "changed"]

    @pytest.mark.parametrize("behavior", [None, 42, "text"], ids=repr)
    def test_becoming_what_is_no_behavior_is_an_error(self, vat, behavior):
        """ACT-10"""

        def confused(bcom):
            return lambda: bcom(behavior)

        ref = vat.spawn(confused)
        with pytest.raises(BehaviorError):
            ref()

    def test_becoming_a_ref_is_an_error(self, vat):
        """ACT-10"""
        other = vat.spawn(counter)
        ref = vat.spawn(lambda bcom: lambda: bcom(other))
        with pytest.raises(BehaviorError):
            ref()
        assert other() == 0

    def test_the_ref_stays_the_same_and_all_holders_see_the_change(self, vat):
        """ACT-11"""
        box = vat.spawn(cell, "old")
        holder = vat.spawn(lambda bcom, target: lambda: (target, target.get()), box)
        box.put("new")
        assert holder() == (box, "new")
        assert holder()[0] is box

    def test_a_change_is_seen_by_later_calls_of_the_same_turn(self, vat):
        """ACT-12"""
        box = vat.spawn(cell, 1)
        with vat:
            box.put(2)
            assert box.get() == 2

    def test_an_actor_may_become_what_another_constructor_makes(self, vat):
        @actor
        def open_door(bcom):
            return methods(close=lambda: bcom(closed_door(bcom)), state=lambda: "open")

        @actor
        def closed_door(bcom):
            return methods(open=lambda: bcom(open_door(bcom)), state=lambda: "closed")

        door = vat.spawn(open_door)
        door.close()
        assert door.state() == "closed"
        door.open()
        assert door.state() == "open"

    def test_an_actor_may_call_itself_while_it_runs(self, vat):
        """ACT-21: a synchronous re-entrant call works."""

        def countdown(bcom, me):
            def behavior(n):
                return [n, *me[0](n - 1)] if n else [0]

            return behavior

        me = []
        me.append(vat.spawn(countdown, me))
        assert me[0](3) == [3, 2, 1, 0]

    def test_a_stale_bcom_after_an_inner_one_is_an_error(self, vat):
        """ACT-21: the outer change would silently overwrite the inner one."""

        @actor
        def account(bcom, me, balance=0):
            def add(n):
                return bcom(account(bcom, me, balance + n))

            def add_twice(n):
                me[0].add(n)
                return bcom(account(bcom, me, balance + n))

            return methods(add=add, add_twice=add_twice, balance=lambda: balance)

        me = []
        me.append(vat.spawn(account, me))
        me[0].add(1)
        with pytest.raises(BehaviorError, match=r"stale|bcom"):
            me[0].add_twice(10)
        assert me[0].balance() == 1

    def test_an_inner_bcom_alone_is_kept(self, vat):
        """ACT-21"""

        @actor
        def account(bcom, me, balance=0):
            def add(n):
                return bcom(account(bcom, me, balance + n))

            def add_by_a_call(n):
                me[0].add(n)
                return "done"

            return methods(add=add, add_by_a_call=add_by_a_call, balance=lambda: balance)

        me = []
        me.append(vat.spawn(account, me))
        assert me[0].add_by_a_call(5) == "done"
        assert me[0].balance() == 5


class TestRefs:
    def test_a_ref_is_shown_with_the_name_of_its_constructor(self, vat):
        """ACT-15, ACT-16"""
        assert "counter" in repr(vat.spawn(counter))
        assert "counter" in repr(vat.run(spawn, counter))
        assert "lambda" in repr(vat.spawn(lambda bcom: print))

    def test_spawn_named_gives_the_name(self, vat):
        """ACT-15"""
        ref = vat.run(spawn_named, "the till", counter, 5)
        assert "the till" in repr(ref)
        assert ref() == 5

    def test_a_ref_shows_no_state_and_runs_no_code(self, vat):
        """ACT-16"""

        class Secret:
            def __repr__(self):
                raise AssertionError("shown")

            def __call__(self):
                raise AssertionError("called")

        ref = vat.spawn(lambda bcom: Secret())
        assert "Secret" not in repr(ref)
        box = vat.spawn(cell, "hunter2")
        assert "hunter2" not in repr(box)
        assert "hunter2" not in str(box)

    def test_refs_are_equal_only_to_themselves(self, vat):
        """ACT-18"""
        one, two = vat.spawn(cell, 1), vat.spawn(cell, 1)
        assert one == [one][0]
        assert one != two
        assert one != 1

    def test_refs_can_be_keys_also_after_a_change(self, vat):
        box = vat.spawn(cell, 1)
        table = {box: "mine"}
        box.put(2)
        assert table[box] == "mine"
        assert {box, box} == set(table)

    def test_refs_have_no_order(self, vat):
        with pytest.raises(TypeError):
            _ = vat.spawn(counter) < vat.spawn(counter)

    def test_refs_can_be_referred_to_weakly(self, vat):
        ref = vat.spawn(counter)
        weak = weakref.ref(ref)
        assert weak() is ref

    def test_refs_come_through_calls_as_themselves(self, vat):
        ref = vat.spawn(counter)
        assert vat.spawn(echo)(ref) is ref

    @pytest.mark.parametrize(
        "name", ["__iter__", "__len__", "__array__", "__fspath__", "__enter__", "__wrapped__"]
    )
    def test_a_ref_has_no_attribute_named_like_pythons_internals(self, vat, name):
        """Else every library that asks an object what it can do would be told yes."""
        ref = vat.spawn(counter)
        assert not hasattr(ref, name)
        with pytest.raises(AttributeError):
            getattr(ref, name)

    def test_a_ref_is_not_taken_for_something_else(self, vat):
        ref = vat.spawn(counter)
        for use in (iter, len, list, int, float):
            with pytest.raises(TypeError):
                use(ref)
        assert bool(ref) is True

    def test_attributes_of_a_ref_cannot_be_set(self, vat):
        ref = vat.spawn(counter)
        with pytest.raises(AttributeError):
            ref.value = 3
        with pytest.raises(AttributeError):
            del ref.value

    def test_a_ref_cannot_be_pickled_or_copied_into_a_second_one(self, vat):
        ref = vat.spawn(counter)
        with pytest.raises(TypeError):
            pickle.dumps(ref)
        for make in (copy.copy, copy.deepcopy):
            try:
                made = make(ref)
            except TypeError:
                continue
            assert made is ref

    def test_a_ref_cannot_be_made_by_hand(self):
        with pytest.raises(TypeError):
            Ref()

    def test_asking_for_a_message_runs_nothing(self, vat):
        def fussy(bcom):
            raise_on_call = []

            def behavior():
                raise_on_call.append(1)
                return len(raise_on_call)

            return behavior

        ref = vat.spawn(fussy)
        assert hasattr(ref, "anything")
        _ = ref.anything
        assert ref() == 1


def test_the_errors_are_one_tree():
    parents = {
        "BehaviorError": TypeError,
        "BrokenPromiseError": GoblinsError,
        "DeadlockError": GoblinsError,
        "DuplicateLabelError": ValueError,
        "FarCallError": GoblinsError,
        "MigrationError": GoblinsError,
        "NoSuchMethodError": AttributeError,
        "NoTurnError": GoblinsError,
        "NotPortableError": TypeError,
        "PersistenceError": GoblinsError,
        "StoreCorruptError": goblins.StoreError,
        "StoreError": OSError,
        "StoreFullError": goblins.StoreError,
        "StoreLockedError": goblins.StoreError,
        "UnknownLabelError": LookupError,
        "VatClosedError": GoblinsError,
    }
    for name, parent in parents.items():
        error = getattr(goblins, name)
        assert issubclass(error, GoblinsError), name
        assert issubclass(error, parent), name
