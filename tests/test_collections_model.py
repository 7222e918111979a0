"""Random changes of Map, List and Set against plain ones, with turns that fail and restarts (G1, G6).

Pages are made very small, so that all kinds of growing and shrinking happen. Runs fifty programs;
`GOBLINS_PROGRAMS=10000` runs so many.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from goblins import (
    Actor,
    List,
    Map,
    MemoryStore,
    PersistenceEnv,
    Set,
    _keys,
    _pages,
    _tree,
    field,
    spawn,
    spawn_persistent_vat,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from portable_keys import KEYS, RECORDS
from support import Boom

PROGRAMS = int(os.environ.get("GOBLINS_PROGRAMS", "50"))


class Holder(Actor):
    map: Map = field(default_factory=Map)
    list: List = field(default_factory=List)
    set: Set = field(default_factory=Set)

    def parts(self):
        return self.map, self.list, self.set


ENV = PersistenceEnv("model", Holder, records=RECORDS)
FEW_HASHES = 7

few = st.integers(0, 40) | st.sampled_from([True, 1.0, 2.5, "a", "b", (1, "x"), None, b"y", frozenset({1})])
keys = few | st.sampled_from(KEYS) | st.tuples(st.sampled_from(KEYS), st.integers(0, 1))
values = st.integers(-3, 3) | st.text("v", max_size=60) | st.lists(st.integers(0, 3), max_size=3)
picks = st.integers(-60, 60)


class Plain:
    """The same without anything that helps. A set that keeps its order is a dict."""

    def __init__(self):
        self.map, self.list, self.set = {}, [], {}


def outcome(function):
    try:
        return function()
    except (KeyError, IndexError, ValueError, TypeError) as error:
        return type(error)


class Programs(RuleBasedStateMachine):
    few_hashes = False

    @initialize()
    def begin(self):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(_pages, "MOST_ENTRIES", 4)
        self.patch.setattr(_pages, "MOST_BYTES", 100)
        self.patch.setattr(_tree, "FANOUT", 3)
        if self.few_hashes:
            whole = _keys.hash_key

            def worse(key):
                hashed, marks = whole(key)
                return bytes([0] * 7 + [hashed[0] % FEW_HASHES]), marks

            self.patch.setattr(_keys, "hash_key", worse)
        self.store = MemoryStore()
        self.plain = Plain()
        self.before = None
        self.open()

    def open(self):
        self.vat, self.holder = spawn_persistent_vat(ENV, lambda: spawn(Holder), self.store)
        self.map, self.list, self.set = self.holder.parts()

    def both(self, part, change):
        """Does the same to both, and compares what comes of it."""
        got = outcome(lambda: change(getattr(self, part)))
        expected = outcome(lambda: change(getattr(self.plain, part)))
        assert got == expected, (part, got, expected)

    @contextmanager
    def closed_turn(self) -> Iterator[None]:
        if self.before is not None:
            self.end_the_turn(False)
        yield

    @rule()
    def begin_a_turn(self):
        if self.before is None:
            self.before = copy.deepcopy(self.plain)
            self.vat.__enter__()

    @rule(fails=st.booleans())
    def end_the_turn(self, fails):
        if self.before is None:
            return
        error = Boom() if fails else None
        self.vat.__exit__(type(error) if error else None, error, None)
        if fails:
            self.plain = self.before
        self.before = None

    @rule()
    def restart(self):
        with self.closed_turn():
            self.vat.close()
            self.open()

    @rule(key=keys, value=values)
    def set_a_key(self, key, value):
        self.both("map", lambda it: it.__setitem__(key, value))

    @rule(key=keys)
    def delete_a_key(self, key):
        self.both("map", lambda it: it.__delitem__(key))

    @rule(key=keys, value=values)
    def read_a_key(self, key, value):
        self.both("map", lambda it: it[key])
        self.both("map", lambda it: it.get(key, value))
        self.both("map", lambda it: key in it)

    @rule(key=keys, value=values)
    def pop_or_set_default(self, key, value):
        self.both("map", lambda it: it.pop(key, value))
        self.both("map", lambda it: it.setdefault(key, value))

    @rule()
    def pop_an_item(self):
        self.both("map", lambda it: it.popitem())

    @rule(entries=st.lists(st.tuples(keys, values), max_size=30))
    def update_many(self, entries):
        self.both("map", lambda it: it.update(entries))

    @rule(part=st.sampled_from(["map", "list", "set"]), really=st.integers(0, 5))
    def clear(self, part, really):
        if not really:
            self.both(part, lambda it: it.clear())

    @rule(times=st.integers(-1, 3))
    def repeat(self, times):
        if len(self.plain.list) < 20:
            self.both("list", lambda it: it.__imul__(times) and None)

    @rule(other=st.lists(st.integers(-3, 3), max_size=4))
    def compare(self, other):
        def all_orders(it):
            return it < other, it <= other, it > other, it >= other, it == other

        self.both("list", lambda it: [outcome(lambda: all_orders(it)), list(it * 2), list(2 * it)])

    @rule(value=values)
    def append(self, value):
        self.both("list", lambda it: it.append(value))

    @rule(added=st.lists(values, max_size=30))
    def extend(self, added):
        self.both("list", lambda it: it.extend(added))

    @rule(at=picks, value=values)
    def insert(self, at, value):
        self.both("list", lambda it: it.insert(at, value))

    @rule(at=picks, value=values)
    def set_an_item(self, at, value):
        self.both("list", lambda it: it.__setitem__(at, value))

    @rule(at=picks)
    def take_an_item(self, at):
        self.both("list", lambda it: it[at])
        self.both("list", lambda it: it.pop(at))

    @rule(slice=st.builds(slice, picks | st.none(), picks | st.none(), st.sampled_from([None, 1, -1, 2, -3])))
    def take_a_slice(self, slice):
        self.both("list", lambda it: it[slice])

    @rule(
        slice=st.builds(slice, picks | st.none(), picks | st.none(), st.sampled_from([None, 1, -1, 2, -3])),
        new=st.lists(values, max_size=8),
        delete=st.booleans(),
    )
    def change_a_slice(self, slice, new, delete):
        if delete:
            self.both("list", lambda it: it.__delitem__(slice))
        else:
            self.both("list", lambda it: it.__setitem__(slice, new))

    @rule(value=values)
    def look_for_an_item(self, value):
        self.both("list", lambda it: it.index(value))
        self.both("list", lambda it: it.count(value))
        self.both("list", lambda it: it.remove(value))

    @rule()
    def reverse_and_sort(self):
        self.both("list", lambda it: it.reverse())
        self.both("list", lambda it: it.sort(key=repr))

    @rule(member=keys)
    def add_a_member(self, member):
        self.set.add(member)
        self.plain.set.setdefault(member)

    @rule(member=keys)
    def discard_a_member(self, member):
        assert (member in self.set) == (member in self.plain.set)
        self.set.discard(member)
        self.plain.set.pop(member, None)

    @rule(members=st.lists(keys, max_size=12))
    def combine_sets(self, members):
        if self.before is None:
            with self.vat:
                self.combine(members)
        else:
            self.combine(members)

    def combine(self, members):
        plain, other = set(self.plain.set), set(members)
        assert self.set & other == plain & other
        assert self.set | other == plain | other
        assert self.set - other == plain - other
        assert self.set ^ other == plain ^ other
        assert other - self.set == other - plain
        assert (self.set <= other) == (plain <= other)
        self.set.difference_update(members[:3])
        self.set.update(members[3:])
        for member in members[:3]:
            self.plain.set.pop(member, None)
        for member in members[3:]:
            self.plain.set.setdefault(member)

    @invariant()
    def they_are_the_same(self):
        if not hasattr(self, "map"):
            return
        assert repr(list(self.map.items())) == repr(list(self.plain.map.items()))
        assert list(reversed(self.map)) == list(reversed(self.plain.map))
        assert self.map == self.plain.map
        assert list(self.list) == self.plain.list
        assert list(reversed(self.list)) == self.plain.list[::-1]
        assert repr(list(self.set)) == repr(list(self.plain.set))
        for part in ("map", "list", "set"):
            assert len(getattr(self, part)) == len(getattr(self.plain, part))

    def teardown(self):
        if hasattr(self, "store"):
            if self.before is not None:
                self.end_the_turn(False)
            self.vat.close()
            self.store.close()
            self.patch.undo()


class ProgramsWithFewHashes(Programs):
    """Nearly all keys have the hash of another one."""

    few_hashes = True


CHECKED = settings(max_examples=PROGRAMS, suppress_health_check=list(HealthCheck), stateful_step_count=30)
Programs.TestCase.settings = CHECKED
ProgramsWithFewHashes.TestCase.settings = settings(CHECKED, max_examples=max(PROGRAMS // 4, 1))
TestPrograms = Programs.TestCase
TestProgramsWithFewHashes = ProgramsWithFewHashes.TestCase
