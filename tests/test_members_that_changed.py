"""Sets and dicts come back with all that is in them, whatever was changed of their members and keys."""

import enum
from dataclasses import dataclass, field
from typing import Any

import pytest
from goblins import (
    Actor,
    MemoryStore,
    MigrationError,
    NotPortableError,
    PersistenceEnv,
    spawn,
    spawn_persistent_vat,
)


@dataclass(unsafe_hash=True)
class Made:
    """Its hash is what dataclasses make."""

    number: int
    note: Any = field(default=None, compare=False)


@dataclass
class Written:
    number: int
    note: Any = None

    def __hash__(self):
        return self.number

    def __eq__(self, other):
        return self.number == other.number


@dataclass(eq=False)
class Constant(Written):
    def __hash__(self):
        return 1


class Holder(Actor):
    held: Any = None

    def put(self, held):
        self.held = held

    def change(self, what, number):
        for record in records_in(self.held):
            setattr(record, what, number)

    def get(self):
        return self.held


def records_in(held):
    for member in held:
        if isinstance(member, tuple | frozenset):
            yield from records_in(member)
        else:
            yield member


ENV = PersistenceEnv("changed", Holder, records=[Made, Written, Constant])
HOLDERS = {
    "a set": lambda kind: {kind(1), kind(2)},
    "a frozenset": lambda kind: frozenset({kind(1), kind(2)}),
    "a dict": lambda kind: {kind(1): "one", kind(2): "two"},
    "a dict of tuples": lambda kind: {(kind(1),): "one", (kind(2),): "two"},
    "a set of frozensets": lambda kind: {frozenset({kind(1)}), frozenset({kind(2)})},
}
all_holders = pytest.mark.parametrize("holder", HOLDERS)
all_kinds = pytest.mark.parametrize("kind", [Made, Written, Constant])


def opened(store, env=ENV, cls=Holder):
    return spawn_persistent_vat(env, lambda: spawn(cls), store)


@all_kinds
@all_holders
def test_a_change_that_makes_two_of_them_equal_is_refused_and_undone(holder, kind):
    store = MemoryStore()
    vat, actor = opened(store)
    actor.put(HOLDERS[holder](kind))
    with pytest.raises(NotPortableError, match="take it out first, change it, and put it back"):
        actor.change("number", 5)
    assert actor.get() == HOLDERS[holder](kind)
    vat.close()
    assert opened(store)[1].get() == HOLDERS[holder](kind)


@all_holders
def test_a_change_of_the_hash_is_refused_since_the_member_would_be_found_after_a_restart_only(holder):
    store = MemoryStore()
    _, actor = opened(store)
    one = HOLDERS[holder](Written)
    actor.put(type(one)(list(one.items())[:1]) if isinstance(one, dict) else type(one)(list(one)[:1]))
    with pytest.raises(NotPortableError, match="not found there any more"):
        actor.change("number", 7)


@all_kinds
@all_holders
def test_other_changes_are_stored(holder, kind):
    store = MemoryStore()
    vat, actor = opened(store)
    actor.put(HOLDERS[holder](kind))
    actor.change("note", "new")
    vat.close()
    found = opened(store)[1].get()
    assert found == HOLDERS[holder](kind)
    assert [record.note for record in records_in(found)] == ["new", "new"]


def point(compared):
    @dataclass(frozen=True)
    class Point:
        x: int
        y: int = field(compare=compared)

    return Point


def colour(green):
    return enum.Enum("Colour", {"RED": 1, "GREEN": green})


@pytest.mark.parametrize("make", [set, frozenset, dict.fromkeys, lambda two: [{(one,) for one in two}]])
@pytest.mark.parametrize(
    ("before", "after", "members"),
    [
        (lambda: point(True), lambda: point(False), lambda kind: [kind(1, 1), kind(1, 2)]),
        (lambda: colour(2), lambda: colour(1), list),
    ],
    ids=["a field that is compared no more", "a member that became an alias"],
)
def test_new_code_by_which_two_of_them_are_equal_is_an_error_and_loses_none(make, before, after, members):
    store = MemoryStore()
    kind = before()
    vat, actor = opened(store, PersistenceEnv("changed", Holder, records=[kind]))
    actor.put(make(members(kind)))
    vat.close()
    vat, actor = opened(store, PersistenceEnv("changed", Holder, records=[after()]))
    with pytest.raises(MigrationError, match="are equal by the code of today"):
        actor.get()
    vat.close()
    held = opened(store, PersistenceEnv("changed", Holder, records=[before()]))[1].get()
    assert len(held[0] if isinstance(held, list) else held) == 2
