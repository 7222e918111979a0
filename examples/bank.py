"""A bank whose accounts are a class of actors, and go on where they stopped.

    python examples/bank.py [bank.db]

Run it twice, or kill it and run it again: what a call has returned is in the store.
"""

import asyncio
import sys

from goblins import Actor, PersistenceEnv, RocksStore, send, spawn, spawn_persistent_vat


class Account(Actor):
    """Keeps somebody's money, and remembers what came and went."""

    owner: str
    balance: int = 0
    history: list[int] = []

    def deposit(self, amount: int) -> int:
        self.balance += amount
        self.history.append(amount)
        return self.balance

    def pay(self, amount: int, payee: "Account") -> int:
        payee.deposit(amount)
        if amount > self.balance:
            # The payee's deposit is undone as well.
            raise ValueError(f"{self.owner} has {self.balance} only")
        return self.deposit(-amount)

    def worth(self) -> int:
        return self.balance

    def statement(self) -> str:
        return f"{self.owner} has {self.balance} after {len(self.history)} entries"


class Bank(Actor):
    """Opens accounts, and finds them by their owner's name."""

    accounts: dict[str, Account] = {}

    def account(self, owner: str) -> Account:
        if owner not in self.accounts:
            self.accounts[owner] = spawn(Account, owner)
        return self.accounts[owner]

    async def total(self) -> int:
        """Asks one account after the other; the bank does other things meanwhile."""
        return sum([await send(account.worth) for account in list(self.accounts.values())])


ENV = PersistenceEnv("bank", Account, Bank)


async def main(path: str = "bank.db") -> None:
    async with RocksStore(path) as store:
        # The bank is spawned in the first run only; later it is found in the store, with all accounts.
        vat, bank = spawn_persistent_vat(ENV, lambda: spawn(Bank), store)
        ada = await send(bank.account, "Ada")
        bob = await send(bank.account, "Bob")
        print(await send(ada.statement))

        await send(ada.deposit, 100)

        def month() -> None:  # several calls as one turn
            ada.pay(10, bob)
            bob.pay(3, ada)

        await vat.run_async(month)
        try:
            await send(ada.pay, 1_000_000, bob)
        except ValueError as error:
            print(f"refused ({error}), and nothing of it has happened")
        print(await send(ada.statement))
        print(f"all together: {await send(bank.total)}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
