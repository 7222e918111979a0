"""Forks by the C library, in the midst of a turn: no Python code is told of that."""

import ctypes
import os
import sys
from pathlib import Path

from goblins import Actor, GoblinsError, PersistenceEnv, RocksStore, spawn, spawn_persistent_vat


class Counter(Actor):
    count: int = 0

    def add(self, amount):
        self.count += amount
        return self.count


store = RocksStore(Path(sys.argv[1]) / "s")
vat, counter = spawn_persistent_vat(PersistenceEnv("test", Counter), lambda: spawn(Counter), store)
try:
    with vat:
        counter.add(1)
        # PyDLL keeps the interpreter, as a library in C that forks would.
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            counter.add(1)
except GoblinsError as error:
    os.write(1, b"refused\n" if "forked" in str(error) else str(error).encode())
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert counter.add(1) == 2
store.close()
print("parent goes on")
