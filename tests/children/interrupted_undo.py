"""Fails in a turn, and is interrupted by Ctrl-C in whatever Python code runs while that is undone."""

import os
import signal
import sys

from goblins import Actor, Vat, field

signal.signal(signal.SIGINT, signal.default_int_handler)
armed = False


def interrupt():
    if armed:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):
            pass


class Key:
    """Has a hash and an equality written in Python, as UUIDs and frozen dataclasses have."""

    def __init__(self, number, hashed):
        self.number, self.hashed = number, hashed

    def __hash__(self):
        interrupt()
        return self.hashed

    def __eq__(self, other):
        interrupt()
        return self.number == other.number


class Box(Actor):
    before: list = field(default_factory=list)
    members: set = field(default_factory=set)
    entries: dict = field(default_factory=dict)
    sparse: dict = field(default_factory=dict)
    after: list = field(default_factory=list)
    number: int = 0

    def fill(self):
        self.members.update(keys)
        self.entries.update((key, key.number) for key in keys)
        # Some were removed, and all others have the same hash.
        self.sparse.update((key, key.number) for key in alike)
        for key in alike[:2]:
            del self.sparse[key]

    def fail(self):
        global armed
        self.number += 1
        self.before.append(1)
        self.members.clear()
        self.members.add(Key(-1, -1))
        self.entries.clear()
        self.sparse.clear()
        self.after.append(1)
        if how == "end":
            # A copy is made of what came in.
            self.entries = {Key(number, number): number for number in range(5)}
        armed = True
        if how == "end":
            return
        raise ValueError("undo this")

    def look(self):
        return self.before, self.members, self.entries, self.sparse, self.after, self.number


how = sys.argv[1]
keys = [Key(number, number % 7) for number in range(50)]
alike = [Key(number, 1) for number in range(12)]
box = Vat().spawn(Box)
box.fill()
interrupted = False
try:
    try:
        box.fail()
        raise AssertionError("no error")
    except ValueError:
        pass
    # One that came up in the undo comes up again.
    for _ in range(1000):
        pass
except KeyboardInterrupt:
    interrupted = True
# There may have been several.
try:
    armed = False
    for _ in range(1000):
        pass
except KeyboardInterrupt:
    pass
before, members, entries, sparse, after, number = box.look()
assert (before, after, number) == ([], [], 0), (before, after, number)
assert members == set(keys), len(members)
assert entries == {key: key.number for key in keys}
assert sparse == {key: key.number for key in alike[2:]}, len(sparse)
print("interrupted" if interrupted else "not interrupted", flush=True)
