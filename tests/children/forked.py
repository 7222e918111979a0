"""Forks, and uses in the child what the parent made, in the way it is told."""

import os
import sys
from pathlib import Path

from goblins import (
    GoblinsError,
    PersistenceEnv,
    RocksStore,
    Vat,
    actor,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
)


@actor
def counter(bcom, value=0):
    return lambda: bcom(counter(bcom, value + 1), value)


def block():
    with vat:
        ticks()


use, folder = sys.argv[1], Path(sys.argv[2])
env = PersistenceEnv("test", counter)
store = RocksStore(folder / "s")
home, stored = spawn_persistent_vat(env, lambda: spawn(counter), store)
stored()
vat = Vat()
ticks = vat.spawn(counter)
send(ticks).result(timeout=30)
promise, resolver = promise_and_resolver()

uses = {
    "call": ticks,
    "send": lambda: send(ticks).result(timeout=10),
    "spawn": lambda: vat.spawn(counter),
    "block": block,
    "store": stored,
    "new vat": lambda: Vat().spawn(counter)(),
    "result": lambda: promise.result(timeout=10),
    "nothing": lambda: print("fine\nfine"),
}

child = os.fork()
if child == 0:
    try:
        uses[use]()
    except GoblinsError as error:
        print("GoblinsError", str(error).replace("\n", " "), sep="\n")
    except BaseException as error:
        print(type(error).__name__, str(error).replace("\n", " "), sep="\n")
    else:
        if use != "nothing":
            print("no error", "at all", sep="\n")
    sys.exit(0)

_, status = os.waitpid(child, 0)
assert ticks() == 1
assert stored() == 1
store.close()
vat.close()
print("parent goes on" if status == 0 else f"the child ended with {status}")
