"""An actor takes little memory, also once it has changed."""

import sys

import pytest
from support import run_child

MEASURED = """
import gc, os
from goblins import Actor, Vat, actor, spawn

class Point(Actor):
    x: int = 0
    y: int = 0
    z: int = 0

    def move(self, by):
        self.x += by

@actor
def point(bcom, x=0):
    return lambda by: bcom(point(bcom, x + by))

def resident():
    gc.collect()
    with open("/proc/self/statm") as counts:
        return int(counts.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

vat = Vat(log=False)
what = {"class": Point, "function": point}["KIND"]
refs = [None] * 20_000

def spawn_some(begin):
    refs[begin:begin + 500] = [spawn(what) for _ in range(500)]

def change_some(begin):
    for ref in refs[begin:begin + 500]:
        ref.move(1) if what is Point else ref(1)

vat.run(spawn_some, 0)
vat.run(change_some, 0)
before = resident()
for act in (spawn_some, change_some):
    for begin in range(500, len(refs), 500):
        vat.run(act, begin)
    print((resident() - before) // (len(refs) - 500))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells it there")
@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("class", 400 if sys.version_info < (3, 13) else 500),
        ("function", 660 if sys.version_info < (3, 12) else 720),
    ],
)
def test_an_actor_takes_no_more_memory_than_that(kind, most):
    child = run_child("run_code.py", MEASURED.replace("KIND", kind))
    assert child.returncode == 0, child.stderr
    fresh, changed = map(int, child.stdout.split())
    assert max(fresh, changed) <= most, (fresh, changed)
