"""Random graphs of actors come back with the shape they had.

Actors hold each other in lists, tuples, sets, dicts, as keys and as values, in rings and shared, directly and
through promises. After a restart the actors are first used in a random order. What was one thing is one thing
again, and what were two are two.

GOBLINS_PROGRAMS is the number of graphs; 100 if it is not set.
"""

import contextlib
import os

import pytest
from goblins import (
    MemoryStore,
    PersistenceEnv,
    Promise,
    Ref,
    actor,
    methods,
    promise_and_resolver,
    spawn,
    spawn_persistent_vat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GRAPHS = int(os.environ.get("GOBLINS_PROGRAMS", "100"))
MOST = 8


@actor
def node(bcom, content=None):
    return methods(get=lambda: content, put=lambda new: bcom(node(bcom, new)))


ENV = PersistenceEnv("fuzz", node)

# A description of a value: what it is, and what is in it. References are numbers of actors; a promise has a
# number too, and is described once for a graph.
plain = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.booleans())
references = st.tuples(st.just("actor"), st.integers(0, MOST - 1))
promises = st.tuples(st.just("promise"), st.integers(0, MOST - 1))
keys = st.one_of(
    references,
    promises,
    st.tuples(st.just("plain"), plain),
    st.tuples(st.just("tuple"), st.lists(st.one_of(references, promises), max_size=2)),
)
values = st.recursive(
    st.one_of(references, references, promises, st.tuples(st.just("plain"), plain)),
    lambda inner: st.one_of(
        st.tuples(st.just("list"), st.lists(inner, max_size=3)),
        st.tuples(st.just("tuple"), st.lists(inner, max_size=3)),
        st.tuples(st.just("dict"), st.lists(st.tuples(keys, inner), max_size=3)),
        st.tuples(st.just("set"), st.lists(keys, max_size=3)),
        st.tuples(st.just("frozenset"), st.lists(keys, max_size=3)),
    ),
    max_leaves=6,
)
outcomes = st.one_of(
    st.tuples(st.just("value"), values),
    st.tuples(st.just("broken"), st.text(max_size=4)),
)
graphs = st.fixed_dictionaries(
    {
        "contents": st.lists(values, min_size=2, max_size=MOST),
        "outcomes": st.lists(outcomes, min_size=MOST, max_size=MOST),
        "late": st.sets(st.integers(0, MOST - 1)),
        "order": st.permutations(range(MOST)),
    }
)


def build(what, actors, promises):
    kind, content = what
    if kind == "actor":
        return actors[content % len(actors)]
    if kind == "promise":
        return promises[content]
    if kind == "plain":
        return content
    if kind == "dict":
        return {build(key, actors, promises): build(item, actors, promises) for key, item in content}
    made = [build(item, actors, promises) for item in content]
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](made)


class Shape:
    """A value in which each thing with an identity has a number, given in the order in which it was met.

    Members of sets have no order of their own: they are taken in the order of a mark that stays (the number
    of the actor, what a promise is about), and only the first look at each promise goes into it.
    """

    def __init__(self, marks):
        self.marks = marks
        self.promises = {}

    def of(self, value):
        if isinstance(value, Ref):
            return ("actor", self.marks[value])
        if isinstance(value, Promise):
            return self.promise(value)
        if isinstance(value, dict):
            return ("dict", [(self.of(key), self.of(item)) for key, item in value.items()])
        if isinstance(value, set | frozenset):
            return (type(value).__name__, sorted((self.mark(member) for member in value), key=repr))
        if isinstance(value, list | tuple):
            return (type(value).__name__, [self.of(item) for item in value])
        return (type(value).__name__, value)

    def promise(self, promise):
        if promise in self.promises:
            return ("promise", self.promises[promise])
        number = self.promises[promise] = len(self.promises)
        try:
            outcome = promise.result(timeout=0)
        except ValueError as error:
            return ("promise", number, "broken", error.args)
        return ("promise", number, self.of(outcome))

    def mark(self, member):
        """What can be said of a member of a set without giving numbers."""
        if isinstance(member, Ref):
            return ("actor", self.marks[member])
        if isinstance(member, tuple):
            return ("tuple", [self.mark(item) for item in member])
        if isinstance(member, Promise):
            known = self.promises.get(member)
            return ("promise", known, self.gist(member))
        return (type(member).__name__, member)

    def gist(self, promise):
        try:
            outcome = promise.result(timeout=0)
        except ValueError as error:
            return ("broken", error.args)
        if isinstance(outcome, Ref):
            return ("actor", self.marks[outcome])
        return (type(outcome).__name__, len(outcome) if hasattr(outcome, "__len__") else repr(outcome))


def shapes(actors, order=None):
    """The shape of what each actor holds. Promises are one for each actor that holds them."""
    marks = {ref: number for number, ref in enumerate(actors)}
    found = {}
    for number in order if order is not None else range(len(actors)):
        found[number] = Shape(marks).of(actors[number].get())
    return found


@pytest.mark.timeout(60 + GRAPHS)
@settings(
    max_examples=GRAPHS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(graphs)
def test_a_graph_comes_back_with_its_shape_in_whatever_order_it_is_touched(graph):
    """G6, POR-23, POR-25, POR-26, POR-32"""
    count = len(graph["contents"])
    order = [number for number in graph["order"] if number < count]
    with MemoryStore() as store:
        vat, *actors = spawn_persistent_vat(ENV, lambda: [spawn(node) for _ in range(count)], store)
        pairs = [promise_and_resolver() for _ in range(MOST)]
        promises = [promise for promise, _ in pairs]

        def settle(late):
            for number, (_, resolver) in enumerate(pairs):
                if (number in graph["late"]) is not late:
                    continue
                kind, content = graph["outcomes"][number]
                if kind == "broken":
                    resolver.break_(ValueError(content))
                else:
                    value = build(content, actors, promises)
                    # A promise for a promise that waits for it would break.
                    resolver.fulfil([value] if isinstance(value, Promise) else value)

        settle(late=False)
        for ref, content in zip(actors, graph["contents"], strict=True):
            ref.put(build(content, actors, promises))
        # These settle when they are in the state already.
        settle(late=True)
        vat.drain(timeout=30)
        # Somebody asks for each outcome, so that none is reported.
        for promise in promises:
            with contextlib.suppress(ValueError):
                promise.result(timeout=30)
        before = shapes(actors)
        vat.close()

        vat, *actors = spawn_persistent_vat(ENV, lambda: 1 / 0, store)
        after = shapes(actors, order)
        vat.close()
    assert after == before
