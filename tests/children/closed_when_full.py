"""Writes to a store until its files may grow no more, and closes it: usage: folder sync."""

import resource
import signal
import sys

from goblins import PersistenceEnv, RocksStore, StoreError, cell, spawn, spawn_persistent_vat

path, sync = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with RocksStore(path, sync=sync == "sync") as store:
    vat, text = spawn_persistent_vat(PersistenceEnv({}), lambda: spawn(cell, ""), store)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        for number in range(1000):
            text(str(number) * 5000)
    except StoreError:
        print("told")
print("closed")
