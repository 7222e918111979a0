"""What type checkers must understand. It is checked, not run."""

import enum
from dataclasses import dataclass
from typing import NamedTuple, assert_type

from goblins import (
    Actor,
    Bcom,
    List,
    Map,
    MemoryStore,
    Methods,
    PersistenceEnv,
    Portrayed,
    Promise,
    Ref,
    Set,
    Vat,
    actor,
    all_of,
    cell,
    cell_env,
    field,
    from_awaitable,
    methods,
    on,
    portraitize,
    race,
    read_only,
    send,
    spawn,
    spawn_named,
    spawn_persistent_vat,
    tell,
    to_thread,
    write_only,
)


@actor
def counter(bcom: Bcom, value: int = 0) -> Methods:
    def tick() -> int:
        return bcom(counter(bcom, value + 1), value)

    return methods(tick=tick)


class Account(Actor, version=2, label="account"):
    owner: str
    balance: int = 0
    history: list[int] = []
    tags: set[str] = field(default_factory=set)

    def deposit(self, amount: int, *, note: str = "") -> int:
        self.balance += amount
        self.history.append(amount)
        return self.balance

    async def slow(self, amount: int) -> str:
        paid = await send(self.deposit, amount)
        assert_type(paid, int)
        return self.owner

    def later(self) -> Promise[int]:
        return send(self.deposit, 1)

    def me(self) -> "Account":
        return self.ref

    def close(self) -> int:
        return self.become(Closed(self.owner), self.balance)


class Closed(Actor):
    owner: str


class Savings(Account):
    rate: float = 0.5


class Ledger(Actor):
    accounts: Map[str, Account] = field(default_factory=Map)
    entries: List[tuple[str, int]] = field(default_factory=List)
    closed: Set[str] = field(default_factory=Set)

    def deposit(self, owner: str, amount: int) -> int:
        account = self.accounts[owner]
        assert_type(account, Account)
        self.entries.append((owner, amount))
        return account.deposit(amount)

    def look(self) -> None:
        assert_type(self.accounts.get("Ada"), Account | None)
        assert_type(self.accounts.get("Ada", 5), Account | int)
        assert_type(self.accounts.pop("Ada"), Account)
        assert_type(self.accounts.copy(), Map[str, Account])
        assert_type(dict(self.accounts), dict[str, Account])
        assert_type(self.entries[0], tuple[str, int])
        assert_type(self.entries[1:], list[tuple[str, int]])
        assert_type(self.entries.pop(), tuple[str, int])
        assert_type(self.closed & {"Ada"}, Set[str])
        assert_type(self.closed | {5}, Set[str | int])
        assert_type(self.closed.pop(), str)
        assert_type(Map({"a": 1}), Map[str, int])
        assert_type(List([1]), List[int])
        assert_type(Set("ab"), Set[str])
        for owner, account in self.accounts.items():
            assert_type(owner, str)
            assert_type(account, Account)
        self.closed |= {"Bob"}
        self.entries += [("Bob", 1)]
        self.accounts |= {"Bob": spawn(Account, "Bob")}


def in_a_turn() -> None:
    ada = spawn(Account, "Ada", balance=5)
    assert_type(ada, Account)
    assert_type(ada.deposit(10), int)
    assert_type(send(ada.deposit, 5), Promise[int])
    assert_type(send(ada.deposit, amount=5, note="x"), Promise[int])
    assert_type(send(ada.slow, 5), Promise[str])
    assert_type(send(ada.later), Promise[int])
    assert_type(spawn(Savings, "Ada", rate=0.1).deposit(1), int)
    assert_type(spawn_named("till", Account, "Ada"), Account)
    assert_type(spawn(counter), Ref)
    assert_type(spawn(counter, 5), Ref)
    tell(ada.deposit, 5)
    answer = send(ada.deposit, 5)
    assert_type(on(answer, str), Promise[str])
    assert_type(on(answer, lambda n: n + 1, catch=lambda e: None), Promise[int | None])
    assert_type(on(answer, catch=str), Promise[int | str])
    assert_type(on(answer, finally_=lambda: None), Promise[int])
    assert_type(on(5, str), Promise[str])
    assert_type(on("x"), Promise[str])
    assert_type(on(ada, lambda account: account.deposit(1)), Promise[int])
    assert_type(on([1], lambda items: items[0], catch=str), Promise[int])
    assert_type(all_of(answer, answer), Promise[list[int]])
    assert_type(all_of([answer]), Promise[list[int]])
    assert_type(race(answer, answer), Promise[int])


async def in_asyncio(vat: Vat, ada: Account) -> None:
    assert_type(await send(ada.deposit, 5), int)
    assert_type(await send(ada.slow, 5), str)
    assert_type(send(ada.deposit, 5).result(timeout=1), int)
    assert_type(await ada.slow(5), str)
    assert_type(await from_awaitable(ada.slow(5)), str)
    assert_type(await to_thread(len, "text"), int)
    assert_type(vat.run(len, "text"), int)
    assert_type(vat.spawn(Account, "Ada"), Account)
    assert_type(vat.spawn(counter), Ref)
    assert_type(await vat.run_async(len, "text"), int)
    assert_type(await vat.run_async(ada.slow, 5), str)
    assert_type(await vat.run_async(ada.later), int)
    assert_type(await vat.run_async(ada.deposit, 5, note="x"), int)
    await vat.drain_async(timeout=1.5)
    await vat.close_async()
    async with Vat() as short, MemoryStore() as store:
        assert_type(short, Vat)
        assert_type(store, MemoryStore)


@dataclass
class Money:
    amount: int


class Color(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    left: int


env = PersistenceEnv("bank", counter, Account) | PersistenceEnv({"closed": Closed})
records = PersistenceEnv("bank", Account, records=[Money, Color, Pair]) | PersistenceEnv("more", records=())
named = PersistenceEnv({"closed": Closed}, records={"money": Money, "colour": Color}, extends=records)
assert_type(named.records(), list[str])


def two_roots() -> tuple[Account, Ref]:
    return spawn(Account, "Ada"), spawn(counter)


def persistent() -> None:
    with MemoryStore() as store:
        vat, ada, ticks = spawn_persistent_vat(env, two_roots, store)
        assert_type(vat, Vat)
        assert_type(ada, Account)
        assert_type(ticks, Ref)
        _, only = spawn_persistent_vat(env, lambda: spawn(Account, "Bob"), store.vat("other"))
        assert_type(only, Account)
        with vat:
            assert_type(ada.deposit(1), int)


class Box(Actor):
    inner: cell
    reads: read_only

    def swap(self, new: int) -> int:
        old: int = self.inner()
        self.inner(new)
        return old + int(self.reads())


def till(bcom: Bcom, owner: str, balance: int = 0) -> Portrayed:
    def deposit(amount: int) -> int:
        return bcom(till(bcom, owner, balance + amount), balance + amount)

    return portraitize(deposit, lambda: (owner, balance))


def restore_till(version: int, owner: str, balance: int) -> Ref:
    return spawn(till, owner, balance)


by_hand = PersistenceEnv({"till": till, "closed": Closed}, extends=cell_env)
with_rehydrator = PersistenceEnv({"till": (till, restore_till)}, aliases={"old.till": till})


async def saved_by_hand() -> None:
    with MemoryStore() as store:
        vat, box = spawn_persistent_vat(by_hand, lambda: spawn(cell, 5), store, persist_on="manual")
        assert_type(box, cell)
        assert_type(vat.spawn(write_only, box), write_only)
        box(6)
        vat.save()
        await vat.save_async()
