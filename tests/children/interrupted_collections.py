"""Is interrupted by Ctrl-C in an operation of a collection, in a turn that catches it and goes on.

    python interrupted_collections.py OPERATION MOMENTS

An operation is "Map add", for one; "Map" stands for all of a Map.

Whatever the moment: the operation was done as a whole or not at all, and the pages fit each other, in the
store, too.
For the moments see ``moments.each``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from goblins import (
    Actor,
    List,
    ManualVat,
    Map,
    MemoryStore,
    PersistenceEnv,
    Set,
    _pages,
    _tree,
    spawn,
    spawn_persistent_vat,
)
from moments import count_moments, each, interrupted_at

# Small pages, so that operations divide and remove some.
_pages.MOST_ENTRIES = 4
_tree.FANOUT = 4


@dataclass(frozen=True)
class Name:
    number: int


class Box(Actor):
    held: object = None

    def do(self, function):
        return function(self)


ENV = PersistenceEnv("collections", Box, records=[Name])
COUNT = 21


def pairs(numbers):
    return [(Name(number), number) for number in numbers]


def reversed_in_place(items):
    items.reverse()


def set_slice(items):
    items[3:9] = [100, 101, 102, 103, 104]


def set_steps(items):
    items[::2] = range(50, 50 + len(items[::2]))


def delete_slice(items):
    del items[2:-2]


def repeat(items):
    items *= 2


def join(members):
    members |= set(range(18, 30))


def keep(members):
    members &= set(range(5, 12))


def flip(members):
    members ^= set(range(15, 25))


def without(members):
    members -= set(range(3, 18))


# What is done, to a collection and to the builtin container that it is to be like.
MAP = {
    "Map set": lambda map: map.__setitem__(Name(5), "x" * 3000),
    "Map add": lambda map: map.__setitem__(Name(COUNT), "new"),
    "Map delete": lambda map: map.__delitem__(Name(7)),
    "Map pop": lambda map: map.pop(Name(0)),
    "Map popitem": lambda map: map.popitem(),
    "Map setdefault": lambda map: map.setdefault(Name(-1), 1),
    "Map update": lambda map: map.update(pairs(range(COUNT - 3, COUNT + 6))),
    "Map clear": lambda map: map.clear(),
}
SET = {
    "Set add": lambda members: members.add(COUNT),
    "Set discard": lambda members: members.discard(3),
    "Set remove": lambda members: members.remove(COUNT - 1),
    "Set update": lambda members: members.update(range(COUNT - 3, COUNT + 6)),
    "Set difference_update": lambda members: members.difference_update(range(4, 17)),
    "Set intersection_update": lambda members: members.intersection_update(range(4, 17)),
    "Set symmetric_difference_update": lambda members: members.symmetric_difference_update(range(15, 25)),
    "Set |=": join,
    "Set &=": keep,
    "Set ^=": flip,
    "Set -=": without,
}
LIST = {
    "List set": lambda items: items.__setitem__(4, "x" * 3000),
    "List append": lambda items: items.append(COUNT),
    "List insert": lambda items: items.insert(5, "new"),
    "List extend": lambda items: items.extend(range(100, 110)),
    "List delete": lambda items: items.__delitem__(6),
    "List pop": lambda items: items.pop(3),
    "List remove": lambda items: items.remove(8),
    "List reverse": reversed_in_place,
    "List sort": lambda items: items.sort(key=lambda item: -item),
    "List set slice": set_slice,
    "List set steps": set_steps,
    "List delete slice": delete_slice,
    "List *=": repeat,
    "List clear": lambda items: items.clear(),
}
OPERATIONS = {**MAP, **SET, **LIST}


def contents(held):
    """What a collection has, found in each way that there is."""
    match held:
        case Map():
            items = list(held.items())
            assert len(held) == len(items)
            assert all(held[key] == value for key, value in items)
            assert list(reversed(held)) == [key for key, _ in reversed(items)]
            return dict(items)
        case Set():
            members = list(held)
            assert len(held) == len(members)
            assert all(member in held for member in members)
            return set(members)
        case List():
            items = list(held)
            assert len(held) == len(items)
            assert [held[index] for index in range(len(items))] == items
            return items


def fresh(name):
    if name in MAP:
        return Map, dict(pairs(range(COUNT)))
    if name in SET:
        return Set, set(range(COUNT))
    return List, list(range(COUNT))


class Place:
    """A vat whose root holds one collection."""

    def __init__(self):
        self.store = MemoryStore()
        self.open()

    def open(self):
        self.vat, self.box = spawn_persistent_vat(
            ENV, lambda: spawn(Box), self.store, vat_constructor=ManualVat
        )

    def reopen(self):
        self.vat.close()
        self.open()


def make(box, name):
    kind, model = fresh(name)
    box.held = kind(model)


def grow(held):
    """Goes on with what is there."""
    match held:
        case Map():
            held.update(pairs(range(200, 212)))
        case Set():
            held.update(range(200, 212))
        case List():
            held.extend(range(200, 212))


def main():
    wanted, moments = sys.argv[1:]
    for name in OPERATIONS:
        if wanted in (name, name.split()[0]):
            try_at(name, moments)
    print("done")


def try_at(name, wanted):
    operation = OPERATIONS[name]
    _, before = fresh(name)
    _, after = fresh(name)
    operation(after)
    place = Place()
    place.box.do(lambda box: make(box, name))
    count = place.box.do(lambda box: count_moments(lambda: operation(box.held)))
    assert place.box.do(lambda box: contents(box.held)) == after
    for number in each(name, count, wanted):
        place.box.do(lambda box: make(box, name))
        moment, came_out = place.box.do(
            lambda box, number=number: interrupted_at(number, lambda: operation(box.held))
        )
        try:
            assert came_out or not moment.came, "the Ctrl-C was swallowed"
            seen = place.box.do(lambda box: contents(box.held))
            assert seen in (before, after) if came_out else seen == after, seen
            place.reopen()
            assert place.box.do(lambda box: contents(box.held)) == seen, "the store says something else"
            place.box.do(lambda box: grow(box.held))
            assert len(place.box.do(lambda box: contents(box.held))) == len(seen) + 12
        except BaseException as error:
            error.add_note(f"interrupted at {moment.place}")
            raise


if __name__ == "__main__":
    main()
