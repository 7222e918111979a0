"""Random changes of class actors against a plain model: deep copies, taken back when a turn fails (G1, G6).

Runs a few hundred programs; `GOBLINS_PROGRAMS=10000` runs so many.
"""

import copy
import os

from goblins import Actor, MemoryStore, PersistenceEnv, spawn, spawn_persistent_vat
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from support import Boom

ACTORS = 3
PROGRAMS = int(os.environ.get("GOBLINS_PROGRAMS", "200"))


class Holder(Actor):
    number: int = 0
    items: list = []
    table: dict = {}
    marks: set = set()
    raw: bytearray = bytearray()

    def run(self, steps):
        return [step(self) for step in steps]

    def state(self):
        return self.number, self.items, self.table, self.marks, self.raw


class Plain:
    """The same without anything that helps."""

    def __init__(self):
        self.number, self.items, self.table, self.marks, self.raw = 0, [], {}, set(), bytearray()

    def state(self):
        return self.number, self.items, self.table, self.marks, self.raw


ENV = PersistenceEnv("model", Holder)

leaves = st.none() | st.integers(-5, 5) | st.text("ab", max_size=2)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("kl", max_size=1), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=6,
)
keys = st.text("kl", max_size=1)


def containers_in(value, kind):
    """All containers of a kind in a value, in an order that both sides agree on."""
    found, todo = [], [value]
    while todo:
        here = todo.pop()
        if isinstance(here, kind) and not any(here is other for other in found):
            found.append(here)
        if isinstance(here, dict):
            todo.extend(here.values())
        elif isinstance(here, list | tuple):
            todo.extend(here)
    return found


def some_list(box, pick):
    lists = containers_in((box.items, box.table), list)
    return lists[pick % len(lists)]


def some_dict(box, pick):
    dicts = containers_in((box.table, box.items), dict)
    return dicts[pick % len(dicts)]


picks = st.integers(0, 20)
steps = st.one_of(
    st.builds(lambda n: lambda box: setattr(box, "number", n), st.integers(-5, 5)),
    st.builds(lambda v: lambda box: setattr(box, "items", [copy.deepcopy(v)]), values),
    st.builds(lambda v: lambda box: setattr(box, "table", {"k": copy.deepcopy(v)}), values),
    st.builds(lambda p, v: lambda box: some_list(box, p).append(copy.deepcopy(v)), picks, values),
    st.builds(lambda p, v: lambda box: some_list(box, p).insert(0, copy.deepcopy(v)), picks, values),
    st.builds(lambda p: lambda box: some_list(box, p).reverse(), picks),
    st.builds(lambda p: lambda box: some_list(box, p).clear(), picks),
    st.builds(lambda p: lambda box: some_list(box, p)[:1] and some_list(box, p).pop(), picks),
    st.builds(
        lambda p, k, v: lambda box: some_dict(box, p).__setitem__(k, copy.deepcopy(v)), picks, keys, values
    ),
    st.builds(lambda p, k: lambda box: some_dict(box, p).pop(k, None), picks, keys),
    st.builds(lambda p: lambda box: some_dict(box, p).clear(), picks),
    st.builds(lambda n: lambda box: box.marks.add(n), st.integers(0, 5)),
    st.builds(lambda n: lambda box: box.marks.discard(n), st.integers(0, 5)),
    st.builds(lambda b: lambda box: box.raw.extend(b), st.binary(max_size=3)),
    st.builds(lambda: lambda box: box.raw.reverse()),
    st.builds(lambda: lambda box: box.state() and None),
)
turns = st.lists(st.tuples(st.integers(0, ACTORS - 1), st.lists(steps, max_size=4)), max_size=4)


class Programs(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.store = MemoryStore()
        self.plain = [Plain() for _ in range(ACTORS)]
        self.open()

    def open(self):
        self.vat, *self.refs = spawn_persistent_vat(
            ENV, lambda: tuple(spawn(Holder) for _ in range(ACTORS)), self.store
        )

    @rule(turn=turns, fails=st.booleans())
    def run_a_turn(self, turn, fails):
        before = copy.deepcopy(self.plain)
        try:
            with self.vat:
                for number, run in turn:
                    for step in run:
                        step(self.plain[number])
                    self.refs[number].run(run)
                if fails:
                    raise Boom
        except Boom:
            self.plain = before
        self.compare()

    @rule()
    def restart(self):
        self.vat.close()
        self.open()
        self.compare()

    def compare(self):
        for ref, plain in zip(self.refs, self.plain, strict=True):
            got = ref.state()
            assert got == plain.state()
            assert repr(got[:3]) == repr(plain.state()[:3]), "the order of a dict differs"

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()


Programs.TestCase.settings = settings(
    max_examples=PROGRAMS, suppress_health_check=list(HealthCheck), stateful_step_count=20
)
TestPrograms = Programs.TestCase
