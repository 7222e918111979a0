"""A store with records of all kinds and values of all types, for tests that damage it."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import raw_store as raw
from goblins import (
    Actor,
    PersistenceEnv,
    RocksStore,
    actor,
    on,
    persistable_id,
    promise_and_resolver,
    spawn,
    spawn_named,
    spawn_persistent_vat,
)


class Colour(enum.Enum):
    RED = 1


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclass(frozen=True)
class Point:
    x: int
    y: tuple[int, ...] = ()


@actor
def leaf(bcom: Any, value: Any = None, *rest: Any, **named: Any) -> Any:
    def get() -> Any:
        return value, rest, named

    return get


class Top(Actor):
    values: Any
    links: Any
    far: Any = None
    kept: Any = None
    count: int = 0

    def look(self) -> Any:
        for link in self.links:
            link()
        return repr((self.values, self.kept)), self.count

    def change(self) -> int:
        self.count += 1
        self.links = [*self.links[:3], spawn(leaf, self.count, 1, 2, three=3)]
        return self.count

    def keep(self, far: Any, kept: Any) -> None:
        self.far, self.kept = far, kept


VALUES = [
    *(None, True, -(2**70), 2**64, 1.5, "text", b"bytes", (1, "two"), {"a": [1], (1, 2): {3}}, {1, 2}),
    *(
        frozenset("ab"),
        bytearray(b"abc"),
        datetime(2026, 3, 1, 9, tzinfo=UTC),
        date(2026, 1, 1),
        time(12, 30),
    ),
    *(datetime(2026, 3, 1, 9, tzinfo=ZoneInfo("Europe/Paris")), timedelta(days=1, microseconds=3)),
    *(Decimal("1.50"), Decimal("NaN"), Fraction(1, 3), 1 + 2j, uuid.UUID(int=5), range(3)),
    *(Colour.RED, Flags.A | Flags.B, Point(1, (2, 3))),
]

ENV = PersistenceEnv("hostile", leaf, Top, records=(Colour, Flags, Point))


def make() -> Any:
    return spawn(Top, list(VALUES), [spawn(leaf, 1), spawn_named("named", leaf, 2, 3, key="word")])


def write(path: Path) -> None:
    """A small store that is in RocksDB's log as a whole."""
    with RocksStore(path, keep_generations=3, auto_collect=False) as store:
        vat, top = spawn_persistent_vat(ENV, make, store)
        other, far = spawn_persistent_vat(ENV, make, store.vat("other"))
        far.change()
        for _ in range(5):
            top.change()
        with vat:
            done, resolver = promise_and_resolver()
            resolver.fulfil([1, {2}])
            broken, resolver = promise_and_resolver()
            resolver.break_(ValueError("broken", 3))
            open_, _ = promise_and_resolver()
            on(broken, catch=lambda error: None)
            top.keep(far, [done, broken, open_, persistable_id(far)])
    # What a collection leaves behind, which would take the rest out of the log, and a vat of another store.
    found = {
        raw.key(0, raw.COLLECTION, 0): raw.varint(9) + raw.varint(7),
        raw.key(1, raw.EXPORTED, 1): b"a vat",
    }
    raw.write(path, raw.read(path) | found)
