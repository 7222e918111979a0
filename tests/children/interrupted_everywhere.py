"""Is interrupted by Ctrl-C at moments of a scenario, one after the other.

    python interrupted_everywhere.py SCENARIO MOMENTS

Whatever the moment: the KeyboardInterrupt reaches the program, and no other error does; each message is
handled once and whole; of a turn and what it sent there is all or nothing; and the store says so, too. For
the moments see ``moments.each``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from dataclasses import dataclass
from fractions import Fraction

from goblins import (
    Actor,
    ManualVat,
    Map,
    MemoryStore,
    PersistenceEnv,
    PersistenceRegistry,
    Set,
    Vat,
    field,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from moments import count_moments, each, interrupted_at

# Those of turns that fail on purpose.
logging.disable()


@dataclass(frozen=True)
class Key:
    number: int

    def __hash__(self):
        return hash(self.number % 3)

    def __eq__(self, other):
        return type(other) is Key and self.number == other.number


@dataclass(frozen=True)
class Name:
    number: int


class Boom(Exception):
    pass


class Box(Actor):
    members: set = field(default_factory=set)
    entries: dict = field(default_factory=dict)
    map: Map = field(default_factory=Map)
    keys: Set = field(default_factory=Set)
    held: object = None
    ratio: Fraction = Fraction(1, 2)
    done: list = field(default_factory=list)

    def change(self, number):
        key = Key(number)
        self.members.add(key)
        self.entries[key] = number
        self.map[number] = number
        self.map[Name(number)] = number
        self.keys.add(Name(number))
        self.ratio += number
        self.done.append(number)

    def change_and_fail(self, number):
        self.change(number)
        raise Boom

    def change_and_tell(self, number, other):
        tell(self.ref.change, other)
        self.change(number)

    def hold(self, value):
        self.held = value

    def held_now(self):
        return self.held

    def look(self):
        return (
            sorted(key.number for key in self.members),
            sorted((key.number, value) for key, value in self.entries.items()),
            sorted(
                ((key.number if isinstance(key, Name) else key), value) for key, value in self.map.items()
            ),
            sorted(key.number for key in self.keys),
            self.ratio,
            sorted(self.done),
        )


def expected(numbers):
    numbers = sorted(numbers)
    return (
        numbers,
        [(number, number) for number in numbers],
        sorted([(number, number) for number in numbers] * 2),
        numbers,
        Fraction(1, 2) + sum(numbers),
        numbers,
    )


ENV = PersistenceEnv("everywhere", Box, records=[Key, Name])
BEFORE = [100, 101]


class Scenario:
    """What is done is `do`; `check` gets whether it came to its end."""

    vat_class = Vat
    stored = True
    registry = None

    def __init__(self):
        self.store = MemoryStore() if self.stored else None
        self.open()
        for number in BEFORE:
            self.box.change(number)
        self.prepare()

    def open(self):
        if self.store is None:
            self.vat = self.vat_class()
            self.box = self.vat.spawn(Box)
        else:
            self.vat, self.box = spawn_persistent_vat(
                ENV,
                lambda: spawn(Box),
                self.store,
                vat_constructor=self.vat_class,
                persistence_registry=self.registry,
            )

    def reopen(self):
        self.vat.close()
        self.open()

    def prepare(self):
        pass

    def settle(self):
        self.vat.drain(timeout=30)

    def check(self, finished):
        """Which numbers must be there."""

    def verify(self, finished):
        self.settle()
        seen = self.box.look()
        wanted = [expected([*BEFORE, *numbers]) for numbers in self.check(finished)]
        assert seen in wanted, f"there is {seen}, and should be one of {wanted}"
        if self.store is not None:
            self.reopen()
            again = self.box.look()
            assert again == seen, f"the store has {again}, and there was {seen}"
        self.vat.close()


class Block(Scenario):
    def do(self):
        with self.vat:
            tell(self.box.change, 2)
            self.box.change(1)

    def check(self, finished):
        return [[1, 2]] if finished else [[1, 2], []]


class BlockInMemory(Block):
    stored = False


class BlockOfAManualVat(Block):
    vat_class = ManualVat


class Call(Block):
    def do(self):
        self.box.change_and_tell(1, 2)


class Sent(Scenario):
    vat_class = ManualVat

    def prepare(self):
        for number in 1, 2:
            tell(self.box.change, number)

    def do(self):
        self.vat.drain(timeout=30)

    def check(self, finished):
        return [[1, 2]]


class SentInMemory(Sent):
    stored = False


class SentToOneThatSleeps(Sent):
    """The actor is read from the store for the message."""

    def prepare(self):
        self.reopen()
        super().prepare()


class Looking(Scenario):
    def prepare(self):
        self.reopen()

    def do(self):
        assert self.box.look() == expected(BEFORE)

    def check(self, finished):
        return [[]]


class Failing(Scenario):
    def do(self):
        with contextlib.suppress(Boom):
            self.box.change_and_fail(1)

    def check(self, finished):
        return [[]]


class FailingInMemory(Failing):
    stored = False


class Opening(Scenario):
    def prepare(self):
        self.vat.close()
        self.vat = None

    def do(self):
        self.open()

    def settle(self):
        if self.vat is None:
            self.open()

    def check(self, finished):
        return [[]]


class Founding(Scenario):
    def __init__(self):
        self.store = MemoryStore()
        self.vat = None

    def do(self):
        self.open()

    def settle(self):
        if self.vat is None:
            self.open()
        for number in BEFORE:
            self.box.change(number)

    def check(self, finished):
        return [[]]


class Listening(Scenario):
    def prepare(self):
        self.promise, self.resolver = promise_and_resolver()
        with self.vat:
            on(self.promise, self.box.change)

    def do(self):
        with self.vat:
            self.resolver.fulfil(1)

    def settle(self):
        # The first settlement wins.
        self.resolver.fulfil(1)
        super().settle()

    def check(self, finished):
        return [[1]]


class HoldingPromises(Block):
    """Some fulfilled, one broken, one that settles later with what can't be stored."""

    def prepare(self):
        late, self.resolver = promise_and_resolver()
        fulfilled, resolver = promise_and_resolver()
        resolver.fulfil({Key(1): Fraction(1, 3)})
        broken, breaker = promise_and_resolver()
        breaker.break_(Boom("one"))
        with self.vat:
            self.box.hold([fulfilled, broken, late])

    def do(self):
        with self.vat:
            tell(self.box.change, 2)
            self.resolver.fulfil({Key(5): {Key(6)}})
            self.box.change(1)


class Updating(Scenario):
    """A listener hears of an update."""

    vat_class = ManualVat

    def prepare(self):
        promise, self.resolver = promise_and_resolver()
        with self.vat:
            on(promise, partial=self.box.change)
        self.resolver.update(1)

    def do(self):
        self.vat.drain(timeout=30)

    def check(self, finished):
        return [[1]]


class Keeping(Scenario):
    """A vat stores an actor, since one of another store refers to it."""

    other_class = ManualVat

    def __init__(self):
        self.registry = PersistenceRegistry()
        self.other_store = MemoryStore()
        super().__init__()

    def open(self):
        super().open()
        self.other, self.root = spawn_persistent_vat(
            ENV,
            lambda: spawn(Box),
            self.other_store,
            vat_constructor=self.other_class,
            persistence_registry=self.registry,
        )

    def prepare(self):
        with self.other:
            kept = spawn(Box)
            kept.change(5)
        self.box.hold(kept)

    def do(self):
        self.other.drain(timeout=30)

    def reopen(self):
        self.other.drain(timeout=30)
        self.other.close()
        self.other_class = Vat
        super().reopen()
        assert send(self.box.held_now).result(timeout=30).look() == expected([5])
        self.other.close()

    def check(self, finished):
        return [[]]


SCENARIOS = {
    name: value
    for name, value in globals().items()
    if isinstance(value, type) and issubclass(value, Scenario) and value is not Scenario
}


def main():
    name, wanted = sys.argv[1:]
    make = SCENARIOS[name]
    first = make()
    count = count_moments(first.do)
    first.verify(True)
    for number in each(name, count, wanted):
        scenario = make()
        moment, came_out = interrupted_at(number, scenario.do)
        assert came_out or not moment.came, f"the Ctrl-C was swallowed: {moment.place}"
        try:
            scenario.verify(not came_out)
        except BaseException as error:
            error.add_note(f"interrupted at {moment.place}")
            raise
    print("done")


if __name__ == "__main__":
    main()
