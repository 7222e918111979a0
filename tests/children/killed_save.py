"""A shop that is saved by hand until it is killed. It prints what it has done, and what it has saved.

Each round changes both roots and an actor behind them, and some rounds end with a save. What is found at the
start of the next run must be what was saved last, or the save that was on its way.
"""

import os
import sys

from goblins import Actor, PersistenceEnv, RocksStore, actor, methods, spawn, spawn_persistent_vat


@actor
def counter(bcom, value=0):
    def tick():
        return bcom(counter(bcom, value + 1), value + 1)

    def read():
        return value

    return methods(tick=tick, read=read)


class Shelf(Actor):
    items: list = []
    rounds: int = 0

    def add(self):
        self.rounds += 1
        self.items.append(spawn(counter, self.rounds))

    def read(self):
        return self.rounds, [item.read() for item in self.items]


def main(path, sync):
    os.write(1, b"started\n")
    env = PersistenceEnv("shop", counter, Shelf)
    store = RocksStore(path, sync=sync == "sync")
    vat, ticks, shelf = spawn_persistent_vat(
        env, lambda: (spawn(counter), spawn(Shelf)), store, persist_on="manual"
    )
    done = ticks.read()
    rounds, items = shelf.read()
    os.write(1, b"found %d %d %d\n" % (done, rounds, len(items)))
    assert items == list(range(1, rounds + 1))
    while True:
        shelf.add()
        done = ticks.tick()
        os.write(1, b"done %d\n" % done)
        if done % 3 == 0:
            os.write(1, b"saving %d\n" % done)
            vat.save()
            os.write(1, b"saved %d\n" % done)


main(*sys.argv[1:])
