"""A label may be renamed: what is stored under the old one is made by the constructor of the new one."""

from dataclasses import dataclass

import pytest
from goblins import (
    Actor,
    BehaviorError,
    DuplicateLabelError,
    Migrations,
    PersistenceEnv,
    UnknownLabelError,
    actor,
    methods,
    rehearse,
    spawn,
)
from support import cell, counter


class Konto(Actor):
    owner: str
    balance: int = 0

    def deposit(self, amount):
        self.balance += amount
        return self.balance


class Account(Actor):
    owner: str
    balance: int = 0

    def deposit(self, amount):
        self.balance += amount
        return self.balance


OLD = PersistenceEnv("bank", Konto)
NEW = PersistenceEnv("bank", Account, aliases={"Konto": Account})
# It knows the new label only.
LATER = PersistenceEnv("bank", Account)


def test_what_is_stored_under_the_old_label_is_made_by_the_new_constructor(place):
    vat, account = place.spawn(lambda: spawn(Konto, "Ada", 5), env=OLD)
    vat, account = place.restart(vat, env=NEW)
    assert account.deposit(1) == 6
    assert "Account" in repr(account)


def test_it_is_stored_under_the_new_label_when_it_next_changes(place):
    vat, _ = place.spawn(lambda: spawn(Konto, "Ada", 5), env=OLD)
    vat, _ = place.restart(vat, env=NEW)
    with pytest.raises(UnknownLabelError, match=r"bank\.Konto"):
        place.restart(vat, env=LATER)
    vat, account = place.restart(env=NEW)
    account.deposit(1)
    _, account = place.restart(vat, env=LATER)
    assert account.deposit(1) == 7


def test_upgrade_all_stores_all_under_the_new_label(place):
    vat, *_ = place.spawn(lambda: tuple(spawn(Konto, "Ada", n) for n in range(3)), env=OLD)
    vat, *_ = place.restart(vat, env=NEW)
    assert vat.upgrade_all().upgraded == {"bank.Konto": 3}
    _, *accounts = place.restart(vat, env=LATER)
    assert [account.deposit(0) for account in accounts] == [0, 1, 2]


def test_an_alias_goes_together_with_an_upgrade_and_a_rehydrator(place):
    """LIM-20: an upgrade always counts, whatever else a constructor has."""
    steps, seen = Migrations(), []

    @steps.to(1)
    def double(value):
        return {"value": value * 2}

    @actor(version=1, upgrade=steps)
    def box(bcom, value):
        return methods(get=lambda: value)

    def rehydrate(version, **fields):
        seen.append((version, fields))
        return spawn(box, **fields)

    new = PersistenceEnv({"test.box": (box, rehydrate)}, aliases={"test.cell": box})
    vat, _ = place.spawn(lambda: spawn(cell, 4))
    _, made = place.restart(vat, env=new)
    assert made.get() == 8
    assert seen == [(1, {"value": 8})]


@dataclass(frozen=True)
class Geld:
    cents: int


@dataclass(frozen=True)
class Money:
    cents: int


def test_a_record_may_be_renamed_too(place):
    old = PersistenceEnv("test", cell, records=[Geld])
    new = PersistenceEnv("test", cell, records=[Money], aliases={"Geld": Money})
    vat, _ = place.spawn(lambda: spawn(cell, [Geld(5)]), env=old)
    vat, held = place.restart(vat, env=new)
    assert held.get() == [Money(5)]
    held.put(held.get())
    _, held = place.restart(vat, env=PersistenceEnv("test", cell, records=[Money]))
    assert held.get() == [Money(5)]


def test_names_get_the_namespace_unless_there_is_a_dot_in_them():
    env = PersistenceEnv("bank", Account, aliases={"Konto": Account, "old.Konto": Account})
    assert env.aliases() == {"bank.Konto": "bank.Account", "old.Konto": "bank.Account"}
    env = PersistenceEnv({"Account": Account}, aliases={"Konto": Account})
    assert env.aliases() == {"Konto": "Account"}


class TestRefused:
    """ENV-05: nothing is given twice."""

    def test_an_alias_that_is_a_label(self):
        with pytest.raises(DuplicateLabelError, match=r"bank\.Konto"):
            PersistenceEnv("bank", Account, Konto, aliases={"Konto": Account})

    def test_an_alias_that_is_a_record(self):
        with pytest.raises(DuplicateLabelError, match=r"test\.Money"):
            PersistenceEnv("test", cell, records=[Money], aliases={"Money": cell})

    def test_an_alias_with_two_meanings(self):
        one = PersistenceEnv("a", cell, aliases={"x.old": cell})
        with pytest.raises(DuplicateLabelError, match=r"x\.old.*a\.cell"):
            PersistenceEnv("b", counter, aliases={"x.old": counter}, extends=one)

    def test_a_label_that_is_an_alias_of_an_extended_environment(self):
        one = PersistenceEnv("a", cell, aliases={"a.counter": cell})
        with pytest.raises(DuplicateLabelError, match=r"a\.counter"):
            one | PersistenceEnv("a", counter)
        with pytest.raises(DuplicateLabelError, match=r"a\.counter"):
            PersistenceEnv("a", counter) | one

    def test_an_alias_of_what_is_not_in_the_environment(self):
        with pytest.raises(BehaviorError, match="is not in the environment"):
            PersistenceEnv("bank", Account, aliases={"Konto": Konto})


def test_environments_hand_their_aliases_on():
    extended = PersistenceEnv("shop", cell, extends=NEW)
    both = PersistenceEnv("shop", cell) | NEW
    for env in (extended, both, both | NEW, extended | both):
        assert env.aliases() == {"bank.Konto": "bank.Account"}


def test_an_alias_of_a_constructor_that_was_extended(place):
    env = PersistenceEnv("shop", aliases={"bank.Konto": Account}, extends=LATER)
    vat, _ = place.spawn(lambda: spawn(Konto, "Ada", 5), env=OLD)
    _, account = place.restart(vat, env=env)
    assert account.deposit(1) == 6


def test_a_rehearsal_knows_aliases(place):
    vat, _ = place.spawn(lambda: spawn(Konto, "Ada", 5), env=OLD)
    assert rehearse(NEW, place.store).ok
    report = rehearse(LATER, place.store)
    assert report.unknown == {"bank.Konto": (1, 0)}
    assert not report.ok
