"""Forks in the midst of a turn. The child does what it is told; the parent goes on, and opens the store anew.

The child prints what each use raised; the parent prints `parent goes on`.
"""

import gc
import multiprocessing
import os
import sys
import threading
from pathlib import Path

from goblins import (
    Actor,
    GoblinsError,
    Map,
    PersistenceEnv,
    RocksStore,
    Vat,
    field,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
    to_thread,
)


class Account(Actor):
    total: int = 0
    items: list = field(default_factory=list)
    map: Map = field(default_factory=Map)

    def add(self, amount):
        self.total += amount
        self.items.append(amount)
        self.map[self.total] = amount
        return self.total

    def forks(self, amount):
        self.add(amount)
        fork()
        self.add(amount)
        return self.total

    async def waits(self, amount):
        self.add(amount)
        fork()
        await to_thread(int)
        return self.total

    def tells(self, amount):
        tell(self.ref.forks, amount)
        tell(self.ref.add, 1000)
        return self.add(amount)

    def made_forking(self, amount):
        spawn(Forking)
        return self.add(amount)

    def get(self):
        return self.total


class Forking(Actor):
    total: int = 0

    def __init__(self):
        fork()


class Leave(BaseException):
    """Takes the child out of all that it is in."""


where, then, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
parent = os.getpid()
env = PersistenceEnv("test", Account, Forking)
store = RocksStore(folder / "s", sync=where != "unsynced")
home, account = spawn_persistent_vat(env, lambda: spawn(Account), store)
other = Vat()
elsewhere = other.spawn(lambda bcom: lambda: None)
account.add(1)
children = []
promise, resolver = promise_and_resolver()
settled = send(account.get)
settled.result(timeout=30)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def use_all():
    uses = {
        "call": lambda: account.add(7),
        "call of another": elsewhere,
        "spawn": lambda: spawn(Account),
        "spawn of a vat": lambda: home.spawn(Account),
        "send": lambda: send(account.add, 7),
        "tell": lambda: tell(account.add, 7),
        "on": lambda: on(promise, print),
        "promise": promise_and_resolver,
        "fulfil": lambda: resolver.fulfil(1),
        "break": lambda: resolver.break_(ValueError()),
        "settled": lambda: settled(),
        "result": lambda: promise.result(timeout=1),
        "await": lambda: promise.__await__(),
        "run": lambda: home.run(int),
        "block": lambda: home.__enter__(),
        "block of another": lambda: other.__enter__(),
        "drain": lambda: home.drain(timeout=1),
        "close": home.close,
        "backlog": lambda: home.backlog,
        "map": Map,
        "to_thread": lambda: to_thread(int),
        "store": store.vats,
        "close the store": store.close,
        "collect": store.collect,
        "new vat": Vat,
        "new store": lambda: RocksStore(folder / "t"),
    }
    for name, use in uses.items():
        try:
            use()
        except GoblinsError as error:
            if "forked" not in str(error):
                say("wrong error of", name, repr(error))
        except BaseException as error:
            say("wrong error of", name, repr(error))
        else:
            say("no error of", name)
    say("used")


def in_child():
    global store, home, account, promise, resolver
    match then:
        case "use":
            use_all()
        case "raise":
            raise Leave
        case "exit":
            sys.exit(0)
        case "_exit":
            os._exit(0)
        case "collect":
            del store, home, account, promise, resolver
            for _ in range(3):
                gc.collect()
            raise Leave
        case "leave":
            pass
        case "multiprocessing":
            pass
        case _:
            raise SystemExit(f"no such end: {then}")


def fork():
    if then == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=use_all)
        process.start()
        process.join()
        return
    child = os.fork()
    if child == 0:
        in_child()
    else:
        children.append(child)


def block():
    with home:
        account.add(10)
        fork()
        account.add(10)


def inner_block():
    with home:
        account.add(10)
        with home:
            fork()
        account.add(10)


def message():
    done = send(account.forks, 10)
    if os.getpid() == parent:
        done.result(timeout=30)


def on_a_thread(do):
    thread = threading.Thread(target=do)
    thread.start()
    thread.join()


def finalizer():
    class Last:
        def __del__(self):
            fork()

    with home:
        account.add(10)
        Last()
        account.add(10)


places = {
    "block": block,
    "unsynced": block,
    "inner block": inner_block,
    "method": lambda: account.forks(10),
    "run": lambda: home.run(account.forks, 10),
    "constructor": lambda: (account.made_forking(10), account.add(10)),
    "message after a call": lambda: (account.tells(10), home.drain(timeout=30)),
    "message on a worker": message,
    "coroutine": lambda: (send(account.waits, 10).result(timeout=30), account.add(10)),
    "block on a thread": lambda: on_a_thread(block),
    "finalizer": finalizer,
}

failed = None
try:
    places[where]()
except GoblinsError as error:
    failed = error
except Leave:
    if os.getpid() == parent:
        raise
    sys.exit(0)
if os.getpid() != parent:
    # It came out of the turn.
    if failed is None or "forked" not in str(failed):
        say("left without the error:", repr(failed))
    try:
        account.add(7)
    except GoblinsError:
        pass
    else:
        say("no error after the turn")
    sys.exit(0)
if failed is not None:
    raise failed

for child in children:
    _, status = os.waitpid(child, 0)
    if status:
        say("the child ended with", status)
total = account.add(100)
store.close()
with RocksStore(folder / "s") as again:
    _, same = spawn_persistent_vat(env, lambda: spawn(Account), again)
    assert same.get() == total, (same.get(), total)
    assert same.add(0) == total
expected = 1 + 20 + 100 + (1010 if where == "message after a call" else 0)
say("parent goes on" if total == expected else f"the total is {total}, not {expected}")
