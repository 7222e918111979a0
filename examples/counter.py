"""A counter and an account that go on where they stopped.

    python examples/counter.py [counter.db]

Run it twice, or kill it and run it again: what a call has returned is in the store.
"""

import sys
from collections.abc import Callable

from goblins import (
    Bcom,
    Methods,
    PersistenceEnv,
    RocksStore,
    actor,
    methods,
    send,
    spawn,
    spawn_persistent_vat,
)


@actor
def counter(bcom: Bcom, value: int = 0) -> Callable[[], int]:
    """Answers how often it was called before."""

    def tick() -> int:
        return bcom(counter(bcom, value + 1), value)

    return tick


@actor
def account(bcom: Bcom, owner: str, balance: int = 0) -> Methods:
    """Keeps somebody's money."""

    def deposit(amount: int) -> int:
        return bcom(account(bcom, owner, balance + amount), balance + amount)

    def withdraw(amount: int) -> int:
        if amount > balance:
            raise ValueError(f"{owner} has {balance} only")
        return bcom(account(bcom, owner, balance - amount), balance - amount)

    return methods(balance=lambda: balance, deposit=deposit, withdraw=withdraw)


ENV = PersistenceEnv("bank", counter, account)


def main(path: str = "counter.db") -> None:
    with RocksStore(path) as store:
        # The roots are spawned in the first run only; later they are found in the store.
        vat, ada, runs = spawn_persistent_vat(ENV, lambda: (spawn(account, "Ada"), spawn(counter)), store)
        print(f"runs before this one: {runs()}, Ada has {ada.balance()}")

        ada.deposit(10)  # one turn, durable when it returns
        promise = send(ada.deposit, 5)  # the same later, while we go on
        print(f"two deposits: {promise.result(timeout=10)}")

        with vat:  # several calls as one turn
            ada.withdraw(7)
            ada.deposit(2)
        print(f"7 paid, 2 back: {ada.balance()}")

        try:
            with vat:
                ada.deposit(1_000)
                ada.withdraw(1_000_000)
        except ValueError as error:
            print(f"refused ({error}), and the deposit before it is undone: {ada.balance()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
