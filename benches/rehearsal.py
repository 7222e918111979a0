"""Rehearses an upgrade of many actors, three of which fail, and shows that exactly those are named.

python benches/rehearsal.py [number of actors]
"""

import hashlib
import resource
import sys
import tempfile
import time
from pathlib import Path

from goblins import Actor, PersistenceEnv, RocksStore, actor, methods, rehearse, spawn, spawn_persistent_vat

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
BAD = {COUNT // 7, COUNT // 2, COUNT - 1}


class Account(Actor, label="account"):
    owner: str
    balance: int = 0


@actor
def shelf(bcom, items=()):
    return methods(add=lambda new: bcom(shelf(bcom, (*items, new))))


def upgrade(version, fields):
    assert fields["balance"] >= 0
    return fields


class Strict(Actor, label="account", version=1, upgrade=upgrade):
    owner: str
    balance: int = 0

    def total(self):
        return self.balance


def checksum(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def slot_of(ref):
    return int(repr(ref).split("#")[1].split()[0])


def fill(folder):
    slots = set()
    with RocksStore(folder, sync=False) as store:
        env = PersistenceEnv("bank", Account, shelf)
        vat, root = spawn_persistent_vat(env, lambda: spawn(shelf), store)
        for first in range(0, COUNT, 2000):
            numbers = range(first, min(first + 2000, COUNT))
            with vat:
                made = [spawn(Account, f"owner {n}", -1 if n in BAD else n) for n in numbers]
                root.add(spawn(shelf, tuple(made)))
            slots.update(slot_of(made[n - first]) for n in BAD if n in numbers)
    return slots


def check(label, ref):
    if label == "bank.account":
        assert ref.total() >= 0


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


with tempfile.TemporaryDirectory() as place:
    folder = Path(place) / "bank.db"
    slots = fill(folder)
    before, used = checksum(folder), memory()
    begin = time.perf_counter()
    report = rehearse(PersistenceEnv("bank", Strict, shelf), folder, check=check, progress=True)
    seconds = time.perf_counter() - begin
    print(report)
    assert {problem.slot for problem in report.problems} == slots
    assert report.fine == COUNT + COUNT // 2000 + 1 - 3
    assert checksum(folder) == before
    print(f"{COUNT:,} actors in {seconds:.1f} s; the three bad ones are named; no byte has changed")
    print(f"memory: at most {used} MB while the store was filled, {memory()} MB in the end")
