"""A bank that works until it is killed. It prints what each step has found, when the step is done."""

import os
import sys

from goblins import PersistenceEnv, RocksStore, actor, methods, spawn, spawn_persistent_vat


@actor
def counter(bcom, value=0):
    def tick():
        return bcom(counter(bcom, value + 1), value)

    return tick


@actor
def account(bcom, owner, balance=0, history=()):
    def deposit(amount):
        return bcom(account(bcom, owner, balance + amount, (*history, amount)[-5:]), balance)

    return methods(deposit=deposit)


def main(path, sync):
    os.write(1, b"started\n")
    env = PersistenceEnv("bank", counter, account)
    store = RocksStore(path, sync=sync == "sync")
    vat, ada, ticks = spawn_persistent_vat(env, lambda: (spawn(account, "Ada"), spawn(counter)), store)
    while True:
        with vat:
            found = ticks(), ada.deposit(1)
        os.write(1, b"%d %d\n" % found)


main(*sys.argv[1:])
