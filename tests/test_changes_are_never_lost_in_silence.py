"""Code that goes on after a wait sees an actor as it was: a change then is an error, never lost (G10)."""

import dataclasses
import logging

import pytest
from goblins import (
    Actor,
    BehaviorError,
    BrokenPromiseError,
    MemoryStore,
    NotPortableError,
    PersistenceEnv,
    lru,
    on,
    promise_and_resolver,
    spawn,
    spawn_persistent_vat,
)
from support import must_not_run

PATIENCE = 30


class Account(Actor):
    balance: int = 0
    history: list[int] = []

    def expect(self, promise):
        return on(promise, self._arrived)

    def expect_in_place(self, promise):
        return on(promise, lambda amount: self.history.append(amount))

    def expect_to_tell(self, promise):
        return on(promise, lambda _: self.balance)

    def _arrived(self, amount):
        self.balance += amount
        return self.balance

    def renew(self):
        self.balance += 1
        return self.become(Account(self.balance, self.history), 0)

    def look(self):
        return self.balance, self.history


class Renewed(Actor, label="Account"):
    balance: int = 0
    history: list[int] = []

    def look(self):
        return self.balance, self.history


def renewed(vat, account):
    account.renew()


def replaced(vat, account):
    account.renew()
    vat.replace_behavior(PersistenceEnv("test", Renewed))


@pytest.mark.parametrize("sleep", [None, lru(max_actors=1)], ids=["awake", "asleep"])
@pytest.mark.parametrize("change", [renewed, replaced])
@pytest.mark.parametrize("wait", ["expect", "expect_in_place"])
def test_a_handler_of_an_actor_that_has_another_behavior_changes_nothing_and_says_so(change, wait, sleep):
    env = PersistenceEnv("test", Account)
    vat, account = spawn_persistent_vat(env, lambda: spawn(Account), MemoryStore(), sleep=sleep)
    promise, resolver = promise_and_resolver()
    answer = getattr(account, wait)(promise)
    looked = account.expect_to_tell(promise)
    change(vat, account)
    resolver.fulfil(5)
    with pytest.raises(BehaviorError, match="another behavior while this code waited"):
        answer.result(timeout=PATIENCE)
    assert looked.result(timeout=PATIENCE) == 1
    assert account.look() == (1, [])
    vat.close()


def test_a_handler_of_an_actor_that_is_as_it_was_changes_it():
    env = PersistenceEnv("test", Account)
    vat, account = spawn_persistent_vat(env, lambda: spawn(Account), MemoryStore())
    promise, resolver = promise_and_resolver()
    answers = account.expect(promise), account.expect_in_place(promise)
    resolver.fulfil(5)
    assert [answer.result(timeout=PATIENCE) for answer in answers] == [5, None]
    assert account.look() == (5, [5])
    vat.close()


class Desk(Actor):
    tickets: dict = {}

    def take(self, promise):
        self.tickets[promise] = "Ada"

    def whose(self, promise):
        return self.tickets.get(promise)


def test_an_actor_with_a_promise_does_not_sleep_since_it_would_wake_with_another_one():
    """SLP-04"""
    env = PersistenceEnv("test", Desk, Account)

    def roots():
        return spawn(Desk), *[spawn(Account) for _ in range(3)]

    vat, desk, *others = spawn_persistent_vat(env, roots, MemoryStore(), sleep=lru(max_actors=1))
    promise, resolver = promise_and_resolver()
    desk.take(promise)
    resolver.fulfil(1)
    vat.drain(PATIENCE)
    for other in others * 3:
        other.look()
    assert desk.whose(promise) == "Ada"
    vat.close()


class Fragile(Actor):
    bad = True
    number: int = 0

    def restored(self):
        self.number += 1
        if type(self).bad:
            raise ZeroDivisionError

    def get(self):
        return self.number


class Caller(Actor):
    callee: object
    tries: int = 0

    def go(self):
        self.tries += 1
        try:
            return self.callee.get()
        except ZeroDivisionError:
            return "caught"

    def count(self):
        return self.tries


def test_who_catches_the_error_of_an_actor_that_could_not_be_restored_goes_on(monkeypatch):
    """G1: a caught error undoes nothing."""
    env, store = PersistenceEnv("test", Fragile, Caller), MemoryStore()
    vat, _ = spawn_persistent_vat(env, lambda: spawn(Caller, spawn(Fragile)), store)
    vat.close()
    vat, caller = spawn_persistent_vat(env, must_not_run, store)
    assert [caller.go(), caller.go(), caller.count()] == ["caught", "caught", 2]
    monkeypatch.setattr(Fragile, "bad", False)
    assert [caller.go(), caller.go(), caller.count()] == [1, 1, 4]
    vat.close()


@dataclasses.dataclass
class Money:
    amount: int


def test_a_replacement_of_some_takes_new_records_and_refuses_others_under_a_known_name():
    vat, account = spawn_persistent_vat(
        PersistenceEnv("test", Account), lambda: spawn(Account), MemoryStore()
    )

    class Till(Actor, label="Account"):
        balance: object = 0
        history: list[int] = []

        def put(self, amount):
            self.balance = Money(amount)

        def look(self):
            return self.balance, self.history

    env = PersistenceEnv("test", Till, records=[Money])
    assert vat.replace_behavior(env, only=Till).replaced == {"test.Account": 1}
    account.put(5)
    assert account.look() == (Money(5), [])
    other = dataclasses.make_dataclass("Money", ["amount"])
    with pytest.raises(BehaviorError, match="test.Money"):
        vat.replace_behavior(PersistenceEnv("test", Till, records=[other]), only=Till)
    assert account.look() == (Money(5), [])
    vat.close()


@pytest.mark.parametrize("only", ["test.Account", "test.Konto", "class"])
def test_a_replacement_of_some_finds_those_that_got_another_name(only):
    class Konto(Actor):
        balance: int = 0

        def look(self):
            return "old"

    vat, account = spawn_persistent_vat(PersistenceEnv("test", Konto), lambda: spawn(Konto), MemoryStore())
    env = PersistenceEnv("test", Account, aliases={"Konto": Account})
    vat.replace_behavior(env, only=Account if only == "class" else only)
    assert account.look() == (0, [])
    vat.close()


class Client(Actor):
    answer: object = None
    number: int = 0

    def hold(self, promise):
        self.answer = promise

    def bump(self):
        self.number += 1
        return self.number

    def get(self):
        return self.answer


class BusyClient(Client, label="Client"):
    answer: object = None
    number: int = 0

    def bump(self):
        self.number += 10
        return self.number


def test_who_holds_a_promise_goes_on_when_somebody_settles_it_with_what_cant_be_stored(caplog):
    """G8: it was not this actor that chose the value. POR-31"""
    caplog.set_level(logging.ERROR, logger="goblins")
    env, store = PersistenceEnv("test", Client), MemoryStore()
    vat, client = spawn_persistent_vat(env, lambda: spawn(Client), store)
    promise, resolver = promise_and_resolver()
    client.hold(promise)
    value = object()
    resolver.fulfil(value)
    vat.drain(PATIENCE)
    assert [client.bump(), client.bump()] == [1, 2]
    assert client.get().result(timeout=PATIENCE) is value
    env = PersistenceEnv("test", BusyClient)
    vat.replace_behavior(env)
    assert client.bump() == 12
    (record,) = caplog.records
    assert "how it did can't be stored" in record.getMessage()
    with pytest.raises(NotPortableError):
        client.hold(object())
    vat.close()
    vat, client = spawn_persistent_vat(env, must_not_run, store)
    assert client.bump() == 22
    with pytest.raises(BrokenPromiseError, match="could not be stored"):
        client.get().result(timeout=PATIENCE)
    vat.close()
