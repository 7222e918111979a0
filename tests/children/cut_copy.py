"""Copies a store into another one, and is killed meanwhile, or soon after."""

import sys

from goblins import RocksStore, copy_store

source, target = sys.argv[1:]
with RocksStore(source) as store, RocksStore(target) as copy:
    print("copying", flush=True)
    copy_store(store, copy)
    sys.stdin.read()
