"""Vats of several stores may have one name; messages tell them apart."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from goblins import (
    Actor,
    AsyncioVat,
    DeadlockError,
    FarCallError,
    InboxFullError,
    MemoryStore,
    PersistenceEnv,
    RocksStore,
    Vat,
    VatClosedError,
    send,
    spawn,
    spawn_persistent_vat,
)


class Account(Actor):
    balance: int = 0

    def deposit(self, amount: int) -> int:
        if amount < 0:
            raise ValueError("less than nothing")
        self.balance += amount
        return self.balance

    def pay_far(self, payee: "Account") -> int:
        return payee.deposit(1)

    def send_far(self, payee: "Account"):
        return send(payee.deposit, 1)


ENV = PersistenceEnv("docs", Account)


def open_in(store, **options):
    return spawn_persistent_vat(ENV, lambda: spawn(Account), store, **options)


@pytest.fixture
def two(tmp_path):
    gc.collect()
    with RocksStore(tmp_path / "a") as here, RocksStore(tmp_path / "b") as there:
        yield (
            open_in(here),
            open_in(there),
            f"main (in the store {tmp_path / 'a'})",
            f"main (in the store {tmp_path / 'b'})",
        )


def test_a_far_call_names_both_stores(two):
    (_, ada), (_, bob), here, there = two
    with pytest.raises(FarCallError) as error:
        ada.pay_far(bob)
    assert f"Account#0 of vat {there} is in another vat than the one whose turn this is ({here})" in str(
        error.value
    )
    assert f"turn 2 of vat {here}" in error.value.__notes__[0]


def test_a_block_in_a_turn_of_another_vat_names_both_stores(two):
    (shop, _), (bank, _), here, there = two
    with pytest.raises(FarCallError, match="with vat:") as error, shop, bank:
        pass
    assert f"of vat {there} can't be used in a turn of vat {here}" in str(error.value)


def test_a_wait_in_a_turn_of_another_vat_names_both_stores(two):
    (shop, _), (bank, _), here, there = two
    with pytest.raises(DeadlockError) as error, shop:
        bank.save()
    assert f"save() of vat {there} would block vat {here}" in str(error.value)


def test_a_message_to_a_closed_vat_names_its_store(two):
    (_, ada), (bank, bob), _, there = two
    bank.close()
    with pytest.raises(VatClosedError) as error:
        ada.send_far(bob).result(timeout=30)
    assert f"vat {there} is closed" in str(error.value)


def test_what_an_actor_raised_says_in_which_store(two):
    (_, ada), (_, bob), here, there = two
    for ref, place in ((ada, here), (bob, there)):
        with pytest.raises(ValueError, match="less than nothing") as error:
            ref.deposit(-1)
        assert error.value.__notes__ == [f"in Account#0.deposit, turn 2 of vat {place}"]


def test_refs_and_vats_show_their_store(two):
    (shop, ada), (bank, bob), here, there = two
    assert (repr(shop), repr(bank)) == (f"<Vat {here}>", f"<Vat {there}>")
    assert (repr(ada), repr(bob)) == (f"<Ref Account#0 of vat {here}>", f"<Ref Account#0 of vat {there}>")
    assert (shop.name, bank.name) == ("main", "main")


def test_a_full_inbox_names_its_store(tmp_path):
    gc.collect()
    with RocksStore(tmp_path / "a") as here, RocksStore(tmp_path / "b") as there:
        _, ada = open_in(here)
        bank, bob = open_in(there, vat_constructor=lambda **options: Vat(inbox_limit=1, **options))
        with bank:

            def fill():
                with pytest.raises(InboxFullError) as error:
                    ada.send_far(bob)
                    ada.send_far(bob)
                return str(error.value)

            with ThreadPoolExecutor(1) as pool:
                text = pool.submit(fill).result(timeout=30)
        assert f"the inbox of vat main (in the store {tmp_path / 'b'}) is full" in text


def test_a_ring_of_waits_names_the_stores(tmp_path):
    gc.collect()

    async def wait() -> str:
        here = asyncio.get_running_loop()
        with RocksStore(tmp_path / "a") as first, RocksStore(tmp_path / "b") as second:
            vat, ada = open_in(first, vat_constructor=lambda **options: AsyncioVat(here, **options))
            _, _other = open_in(second)
            promise = send(ada.deposit, 1)
            with pytest.raises(DeadlockError) as error:
                promise.result()
            await promise
            return str(error.value)

    assert f"waits for vat main (in the store {tmp_path / 'a'})" in asyncio.run(wait())


def test_stores_in_memory_are_told_apart_by_the_numbers_of_their_vats():
    gc.collect()
    with MemoryStore() as here, MemoryStore() as there:
        shop, ada = open_in(here)
        bank, bob = open_in(there)
        with pytest.raises(FarCallError) as error:
            ada.pay_far(bob)
        for vat in (shop, bank):
            assert f"main (number {vat.id} of the process, in the store memory)" in str(error.value)


def test_a_view_is_told_from_its_store():
    gc.collect()
    with MemoryStore() as store:
        vat, ada = open_in(store)
        ada.deposit(5)
        part = store.vat("main")
        before, _ = spawn_persistent_vat(ENV, lambda: None, part.at(part.generations()[-1].number))
        assert repr(vat) == "<Vat main (in the store memory)>"
        assert repr(before) == "<Vat main (in a view of the store memory)>"


def test_a_name_that_is_alone_stands_alone(tmp_path):
    gc.collect()
    with MemoryStore() as here, MemoryStore() as there:
        shop, ada = open_in(here.vat("shop"))
        bank, bob = open_in(there.vat("bank"))
        other, _ = open_in(there)
        assert (repr(shop), repr(other)) == ("<Vat shop>", "<Vat main>")
        with pytest.raises(FarCallError, match=r"Account#0 of vat bank is in another .* \(shop\)"):
            ada.pay_far(bob)
        again, _ = open_in(here)
        assert "in the store" in repr(other)
        again.close()
        assert repr(other) == "<Vat main>"
        bank.close()
        assert repr(bank) == "<Vat bank (closed)>"
        open_in(there.vat("bank"))
        assert repr(bank) == "<Vat bank (closed)>"
