"""Writes to the store in the folder named by the first argument, and ends as a killed process does."""

import os
import sys

from goblins import Actor, PersistenceEnv, RocksStore, actor, methods, spawn_persistent_vat


class Account(Actor, label="account"):
    owner: str
    balance: int = 0
    nickname: str = ""


@actor
def cell(bcom, value=None):
    return methods(get=lambda: value, put=lambda new: bcom(cell(bcom, new)))


store = RocksStore(sys.argv[1])
_, root = spawn_persistent_vat(PersistenceEnv("test", cell, Account), lambda: None, store)
root.put(root.get() * 2)
os._exit(0)
