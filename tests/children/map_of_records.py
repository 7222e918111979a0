"""Opens a store, and looks up in a Map, or fills it: its keys are records.

    map_of_records.py FOLDER fill|look [more]

`more`: the class of the keys has one more field, which has a default.
"""

import dataclasses
import enum
import sys
from typing import NamedTuple

import goblins
from goblins import Actor, PersistenceEnv, RocksStore, spawn, spawn_persistent_vat

FOLDER, VERB, MORE = sys.argv[1], sys.argv[2], sys.argv[3:] == ["more"]
COUNT = 300


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


if MORE:

    @dataclasses.dataclass(frozen=True)
    class Place:
        street: str
        number: int = 0
        color: Color = Color.RED
        floor: int = 0

else:

    @dataclasses.dataclass(frozen=True)
    class Place:
        street: str
        number: int = 0
        color: Color = Color.RED


class Book(Actor):
    entries: goblins.Map = goblins.field(default_factory=goblins.Map)
    seen: goblins.Set = goblins.field(default_factory=goblins.Set)

    def fill(self, keys):
        for index, key in enumerate(keys):
            self.entries[key] = index
            self.seen.add(key)

    def look(self, keys):
        return [self.entries.get(key) if key in self.seen else None for key in keys]


def keys():
    places = [Place(f"street {number}", number, list(Color)[number % 2]) for number in range(COUNT)]
    return [*places, *Color, Access.READ | Access.WRITE, Point(1, 2), (Color.BLUE, Place("nested"))]


env = PersistenceEnv("test", Book, records=[Color, Access, Point, Place])
with RocksStore(FOLDER) as store:
    _, book = spawn_persistent_vat(env, lambda: spawn(Book), store)
    if VERB == "fill":
        book.fill(keys())
    found = book.look(keys())
    assert found == list(range(len(keys()))), found
