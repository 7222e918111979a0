"""Environments: which labels stand for which constructors, and how several are made one (ENV)."""

import pytest
from goblins import (
    Actor,
    BehaviorError,
    DuplicateLabelError,
    GoblinsError,
    PersistenceEnv,
    UnknownLabelError,
    actor,
    cell_env,
    methods,
    spawn,
)
from support import cell, counter


class Account(Actor):
    owner: str

    def owner_of(self):
        return self.owner


@actor
def greeter(bcom, name):
    return lambda: f"hello, {name}"


class TestForms:
    def test_a_namespace_stands_before_the_names(self):
        """ENV-01, ENV-04"""
        assert PersistenceEnv("bank", counter, Account).labels() == ["bank.counter", "bank.Account"]

    def test_a_map_gives_whole_labels(self, place):
        """ENV-02: what a constructor is called has nothing to do with it."""
        env = PersistenceEnv({"ticks": counter, "a label of any kind": Account})
        vat, *_ = place.spawn(lambda: (spawn(counter), spawn(Account, "Ada")), env=env)
        _, ticks, ada = place.restart(vat, env=env)
        assert (ticks(), ada.owner_of()) == (0, "Ada")

    def test_a_label_that_the_constructor_has_stands_in_for_its_name(self):
        @actor(label="till")
        def one(bcom):
            return lambda: None

        @actor(label="shop.till")
        def other(bcom):
            return lambda: None

        assert PersistenceEnv("bank", one, other).labels() == ["bank.till", "shop.till"]

    @pytest.mark.parametrize("label", [3, None, ("bank", "till"), b"till"], ids=repr)
    def test_labels_are_texts(self, label):
        """ENV-03, where ours differs."""
        with pytest.raises(TypeError):
            PersistenceEnv({label: counter})

    def test_both_forms_at_once_are_an_error(self):
        with pytest.raises(TypeError, match="either"):
            PersistenceEnv({"ticks": counter}, Account)

    def test_an_environment_does_not_change(self):
        """ENV-10: so none can lead back to itself."""
        given = {"ticks": counter}
        env = PersistenceEnv(given)
        given["more"] = cell
        assert env.labels() == ["ticks"]
        with pytest.raises(AttributeError):
            env.extends = (env,)


class TestExtends:
    def test_one_takes_over_the_labels_of_others(self, place):
        """ENV-02"""
        one, two = PersistenceEnv("one", counter), PersistenceEnv("two", cell)
        env = PersistenceEnv("bank", Account, extends=[one, two])
        assert env.labels() == ["bank.Account", "one.counter", "two.cell"]
        vat, *_ = place.spawn(lambda: (spawn(counter), spawn(cell, 5), spawn(Account, "Ada")), env=env)
        _, ticks, box, ada = place.restart(vat, env=one | two | PersistenceEnv("bank", Account))
        assert (ticks(), box.get(), ada.owner_of()) == (0, 5, "Ada")

    def test_a_single_one_needs_no_list(self):
        env = PersistenceEnv("bank", Account, extends=PersistenceEnv("one", counter))
        assert env.labels() == ["bank.Account", "one.counter"]

    def test_the_same_one_twice_is_fine(self):
        one = PersistenceEnv("one", counter)
        both = PersistenceEnv("two", cell, extends=one) | PersistenceEnv("three", Account, extends=[one, one])
        assert sorted(both.labels()) == ["one.counter", "three.Account", "two.cell"]
        assert (one | one).labels() == ["one.counter"]

    def test_a_clash_is_an_error_and_nobody_wins(self):
        """ENV-05, LIM-21"""

        @actor(label="counter")
        def other(bcom):
            return lambda: None

        one, two = PersistenceEnv("bank", counter), PersistenceEnv("bank", other)
        for join in (
            lambda: one | two,
            lambda: PersistenceEnv("bank", other, extends=one),
            lambda: PersistenceEnv({}, extends=[one, two]),
        ):
            with pytest.raises(DuplicateLabelError, match=r"bank\.counter"):
                join()

    def test_one_constructor_under_two_labels_is_an_error(self):
        """ENV-11"""
        for join in (
            lambda: PersistenceEnv({"one": counter, "two": counter}),
            lambda: PersistenceEnv("one", counter) | PersistenceEnv("two", counter),
            lambda: PersistenceEnv("one", counter, extends=PersistenceEnv("two", counter)),
        ):
            with pytest.raises(DuplicateLabelError, match=r"counter has two labels"):
                join()

    def test_rehydrators_come_along(self, place):
        def restore(version, name):
            return spawn(greeter, name.upper())

        env = PersistenceEnv("test", counter) | PersistenceEnv({"greeter": (greeter, restore)})
        vat, _ = place.spawn(lambda: spawn(greeter, "Ada"), env=env)
        _, ref = place.restart(vat, env=PersistenceEnv("more", cell, extends=env))
        assert ref() == "hello, ADA"

    def test_only_environments_can_be_joined(self):
        with pytest.raises(TypeError):
            PersistenceEnv("test", counter) | {"more": cell}


class TestLookUp:
    def test_it_is_by_identity(self, place):
        """ENV-06: a constructor of the same name and code is another one."""

        def make():
            @actor(label="thing")
            def thing(bcom):
                return lambda: "thing"

            return thing

        one, two = make(), make()
        with pytest.raises(TypeError, match="not in the vat's PersistenceEnv"):
            place.spawn(lambda: spawn(two), env=PersistenceEnv("test", one))
        vat, _ = place.spawn(lambda: spawn(one), env=PersistenceEnv("test", one))
        _, ref = place.restart(vat, env=PersistenceEnv("test", two))
        assert ref() == "thing"

    def test_of_a_constructor_that_hands_on_an_actor_the_inner_one_is_looked_up(self, place):
        """ENV-08"""

        @actor
        def wrapper(bcom, value):
            return spawn(cell, value)

        inner = PersistenceEnv("test", cell)
        vat, _ = place.spawn(lambda: spawn(wrapper, 5), env=inner)
        _, box = place.restart(vat, env=inner)
        assert box.get() == 5

    def test_of_one_that_hands_on_a_behavior_too(self, place):
        """ENV-08, where ours differs: the behavior knows whose it is."""

        @actor
        def outer(bcom, value):
            return cell(bcom, value)

        inner = PersistenceEnv("test", cell)
        vat, _ = place.spawn(lambda: spawn(outer, 5), env=inner)
        _, box = place.restart(vat, env=inner)
        box.put(6)
        assert box.get() == 6

    def test_labels_of_the_library_cannot_be_taken(self):
        """ENV-09"""
        for make in (
            lambda: PersistenceEnv("goblins", counter),
            lambda: PersistenceEnv({"goblins.cell": counter}),
            lambda: PersistenceEnv({"goblins.of.mine": counter}, extends=cell_env),
            lambda: PersistenceEnv("test", counter, aliases={"goblins.cell": counter}),
        ):
            with pytest.raises(DuplicateLabelError, match="goblins"):
                make()


class TestUnknownLabels:
    def test_the_error_counts_them_and_their_records_stay(self, place):
        """POR-36, LIM-22"""
        env = PersistenceEnv("bank", Account, cell)
        vat, _ = place.spawn(lambda: spawn(cell, [spawn(Account, name) for name in "abc"]), env=env)
        for _ in range(2):
            with pytest.raises(UnknownLabelError) as caught:
                place.restart(vat, env=PersistenceEnv("bank", cell))
            assert (caught.value.label, caught.value.count) == ("bank.Account", 3)
            assert caught.value.slot >= 0
            assert "bank.Account" in str(caught.value)
        _, box = place.restart(env=env)
        assert [ref.owner_of() for ref in box.get()] == ["a", "b", "c"]


class TestAliases:
    """A constructor that was renamed, or moved to another namespace."""

    OLD = PersistenceEnv("shop", Account, cell)
    NEW = PersistenceEnv("bank", Account, cell, aliases={"shop.Account": Account, "shop.cell": cell})

    def test_what_is_stored_under_a_label_of_old_is_made_by_the_constructor_of_today(self, place):
        vat, *_ = place.spawn(lambda: (spawn(Account, "Ada"), spawn(cell, 5)), env=self.OLD)
        vat, ada, box = place.restart(vat, env=self.NEW)
        assert (ada.owner_of(), box.get()) == ("Ada", 5)

    def test_it_is_stored_under_the_new_one_with_the_churn_that_uses_it_first(self, place):
        vat, *_ = place.spawn(lambda: (spawn(Account, "Ada"), spawn(cell, 5)), env=self.OLD)
        vat, ada, box = place.restart(vat, env=self.NEW)
        ada.owner_of()
        without = PersistenceEnv("bank", Account, cell, aliases={"shop.cell": cell})
        vat, ada, box = place.restart(vat, env=without)
        box.put(6)
        _, ada, box = place.restart(vat, env=PersistenceEnv("bank", Account, cell))
        assert (ada.owner_of(), box.get()) == ("Ada", 6)

    def test_one_that_was_not_used_keeps_its_label(self, place):
        vat, *_ = place.spawn(lambda: (spawn(Account, "Ada"), spawn(cell, 5)), env=self.OLD)
        vat, ada, box = place.restart(vat, env=self.NEW)
        box.get()
        with pytest.raises(UnknownLabelError, match=r"shop\.Account"):
            place.restart(vat, env=PersistenceEnv("bank", Account, cell))

    def test_they_go_with_versions_and_upgrades(self, place):
        class Client(Actor, version=1, upgrade=lambda version, fields: {"name": fields["owner"]}):
            name: str

            def name_of(self):
                return self.name

        env = PersistenceEnv("crm", Client, aliases={"shop.Account": Client})
        vat, _ = place.spawn(lambda: spawn(Account, "Ada"), env=self.OLD)
        vat, client = place.restart(vat, env=env)
        assert client.name_of() == "Ada"
        _, client = place.restart(vat, env=PersistenceEnv("crm", Client))
        assert client.name_of() == "Ada"

    def test_they_are_taken_over_and_joined(self, place):
        vat, _ = place.spawn(lambda: spawn(Account, "Ada"), env=self.OLD)
        for env in (PersistenceEnv({}, extends=self.NEW), self.NEW | PersistenceEnv("more", counter)):
            vat, ada = place.restart(vat, env=env)
            assert repr(ada)

    def test_several_may_lead_to_one_constructor(self, place):
        env = PersistenceEnv("bank", Account, aliases={"shop.Account": Account, "old.Client": Account})
        vat, _ = place.spawn(lambda: spawn(Account, "Ada"), env=PersistenceEnv({"old.Client": Account}))
        _, ada = place.restart(vat, env=env)
        assert ada.owner_of() == "Ada"

    def test_one_for_a_constructor_of_the_library(self, place):
        from goblins import cell as library_cell

        own = PersistenceEnv("test", greeter, cell)
        vat, _ = place.spawn(lambda: spawn(cell, 5), env=own)
        _, box = place.restart(vat, env=PersistenceEnv("test", greeter, aliases={"test.cell": library_cell}))
        assert box() == 5

    def test_a_label_in_use_is_no_alias(self):
        for make in (
            lambda: PersistenceEnv("bank", Account, cell, aliases={"bank.cell": Account}),
            lambda: PersistenceEnv("bank", Account, cell, aliases={"bank.cell": cell}),
            lambda: self.NEW | PersistenceEnv("shop", counter) | PersistenceEnv({"shop.cell": greeter}),
            lambda: PersistenceEnv({}, aliases={"shop.cell": Account}, extends=self.NEW),
        ):
            with pytest.raises(DuplicateLabelError):
                make()

    def test_its_constructor_must_be_there(self):
        with pytest.raises(BehaviorError, match=r"shop\.Account.*not in the environment"):
            PersistenceEnv("bank", cell, aliases={"shop.Account": Account})


def test_what_is_no_constructor_is_refused_when_the_environment_is_made():
    """And not only when something is to be stored."""
    for thing in (methods(), print, Actor, object):
        with pytest.raises((GoblinsError, TypeError)):
            PersistenceEnv("test", thing)
