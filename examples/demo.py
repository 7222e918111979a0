"""A counter and a small bank that survive `kill -9`.

    python examples/demo.py

A child process works with them and reports each answer it got, line by line. Its parent kills it with
SIGKILL in mid-work, starts it again, and checks the books: all that was reported is there, at most the
one step in flight is there besides, and no money came or went.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from goblins import (
    Bcom,
    Methods,
    PersistenceEnv,
    Ref,
    RocksStore,
    actor,
    methods,
    spawn,
    spawn_persistent_vat,
)

OWNERS = ("Ada", "Grace", "Edsger", "Barbara")
MONEY_EACH = 1000
KILLS = 5


@actor
def counter(bcom: Bcom, value: int = 0) -> Methods:
    """Counts."""

    def tick() -> int:
        return bcom(counter(bcom, value + 1), value + 1)

    return methods(tick=tick, value=lambda: value)


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


@actor
def bank(bcom: Bcom, accounts: dict[str, Ref], transfers: int = 0) -> Methods:
    """Moves money between accounts."""

    def transfer(payer: str, payee: str, amount: int) -> int:
        accounts[payee].deposit(amount)
        # If this raises, the whole turn is undone, and so is the deposit.
        accounts[payer].withdraw(amount)
        return bcom(bank(bcom, accounts, transfers + 1), transfers + 1)

    def balances() -> dict[str, int]:
        return {owner: each.balance() for owner, each in accounts.items()}

    return methods(transfer=transfer, transfers=lambda: transfers, balances=balances)


ENV = PersistenceEnv("demo", counter, account, bank)


def open_bank(store: RocksStore) -> tuple[Ref, Ref]:
    """The counter and the bank: new ones the first time, later those in the store."""

    def roots() -> tuple[Ref, Ref]:
        accounts = {owner: spawn(account, owner, MONEY_EACH) for owner in OWNERS}
        return spawn(counter), spawn(bank, accounts)

    _, ticks, money = spawn_persistent_vat(ENV, roots, store)
    return ticks, money


def books(ticks: Ref, money: Ref) -> dict[str, Any]:
    """All that the actors know."""
    return {"ticks": ticks.value(), "transfers": money.transfers(), "balances": money.balances()}


def say(what: str, value: Any) -> None:
    print(what, json.dumps(value), flush=True)


def work(path: str) -> None:
    """The child: says what it found, then works for ever and reports each answer after it got it."""
    with RocksStore(path) as store:
        ticks, money = open_bank(store)
        say("found", books(ticks, money))
        while True:
            say("tick", ticks.tick())
            payer, payee = random.sample(OWNERS, 2)
            amount = random.randint(1, MONEY_EACH)
            try:
                money.transfer(payer, payee, amount)
            except ValueError:
                say("refused", None)
            else:
                say("transfer", [payer, payee, amount])


class Lost(Exception):
    """The books are not what they must be."""


class Ledger:
    """What the parent knows from the answers that were reported."""

    def __init__(self) -> None:
        self.ticks = 0
        self.transfers = 0
        self.balances = dict.fromkeys(OWNERS, MONEY_EACH)

    def note(self, what: str, value: Any) -> None:
        """Enters a line of the child."""
        if what == "found":
            self.check(value)
        elif what == "tick":
            self.ticks = value
        elif what == "transfer":
            payer, payee, amount = value
            self.balances[payer] -= amount
            self.balances[payee] += amount
            self.transfers += 1

    def check(self, found: dict[str, Any]) -> None:
        """Compares the books with the answers, says what is there, and goes on from it."""
        ticks, transfers = found["ticks"] - self.ticks, found["transfers"] - self.transfers
        money = sum(found["balances"].values())
        if ticks < 0 or transfers < 0:
            raise Lost(f"acknowledged work is gone: {vars(self)}, found: {found}")
        if ticks + transfers > 1:
            raise Lost(f"more than one step that was not acknowledged: {vars(self)}, found: {found}")
        if transfers == 0 and found["balances"] != self.balances:
            raise Lost(f"the balances are wrong: {vars(self)}, found: {found}")
        if money != MONEY_EACH * len(OWNERS):
            raise Lost(f"money came or went: {found}")
        flight = ", and the step that was in flight" if ticks + transfers else ""
        print(f"    finds {found['ticks']} ticks, {found['transfers']} transfers, {money} coins:", end=" ")
        print(f"all that was acknowledged{flight}")
        self.ticks, self.transfers, self.balances = found["ticks"], found["transfers"], found["balances"]


def run_and_kill(path: str, ledger: Ledger) -> None:
    """Starts the child, and kills it after a random number of answers."""
    answers: Counter[str] = Counter()

    def read(line: str) -> None:
        what, _, value = line.partition(" ")
        ledger.note(what, json.loads(value))
        answers[what] += 1

    command = [sys.executable, __file__, "work", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        try:
            for line in islice(child.stdout, random.randint(1, 1000)):
                read(line)
        finally:
            child.kill()
        # What still stands in the pipe was reported before the kill. The last line may be cut off.
        for line in child.stdout:
            if line.endswith("\n"):
                read(line)
    if child.returncode != -signal.SIGKILL:
        raise Lost(f"the child ended by itself ({child.returncode}) after {dict(answers)}")
    print(f"    reports {answers['tick']} ticks and {answers['transfer']} transfers", end=" ")
    print(f"({answers['refused']} more were refused and undone), and is killed")


def demo(path: str) -> None:
    """The parent."""
    print(f"A counter and a bank live in {path}")
    ledger = Ledger()
    for kill in range(1, KILLS + 1):
        print(f"  child {kill}")
        run_and_kill(path, ledger)
    print("  at last, this process")
    with RocksStore(path) as store:
        ledger.check(books(*open_bank(store)))
    print("   ", ", ".join(f"{owner} has {balance}" for owner, balance in ledger.balances.items()))
    print(f"Killed {KILLS} times, nothing acknowledged was lost, and no coin came or went.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(sys.argv[2])
    else:
        with tempfile.TemporaryDirectory(prefix="goblins-demo-") as folder:
            try:
                demo(str(Path(folder) / "bank.db"))
            except Lost as lost:
                sys.exit(f"LOST: {lost}")
