"""Holds a store until it is killed, or just ends; each time one tick is made and told."""

import signal
import sys

from goblins import PersistenceEnv, RocksStore, actor, methods, spawn, spawn_persistent_vat


@actor
def counter(bcom, value=0):
    return lambda: bcom(counter(bcom, value + 1), value)


@actor
def cell(bcom, value=None):
    return methods(get=lambda: value, put=lambda new: bcom(cell(bcom, new)))


store = RocksStore(sys.argv[1])
vat, ticks = spawn_persistent_vat(PersistenceEnv("test", counter, cell), lambda: spawn(counter), store)
print(ticks(), flush=True)
if sys.argv[2:] != ["end"]:
    signal.pause()
