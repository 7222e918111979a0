"""Python's collector need not walk through actors that hold plain values, and finds them once they hold more.

Actors made from their records are looked at once. Cycles of Refs can go through one only after it has
changed, and then the collector sees it again.
"""

import gc
import weakref

import pytest
from goblins import Actor, MemoryStore, PersistenceEnv, actor, lru, spawn, spawn_persistent_vat
from support import collect


@actor
def note(bcom, text, number=1):
    def call(*new):
        return bcom(note(bcom, *new), text) if new else text

    return call


class Note(Actor):
    text: object
    number: int = 1

    def __call__(self, *new):
        before = self.text
        if new:
            self.text = new[0]
        return before


@actor
def remembering(bcom, text):
    seen = []

    def call(*new):
        seen.extend(new)
        return text

    return call


class Told(Actor):
    text: str

    def restored(self):
        pass

    def __call__(self):
        return self.text


class Box(Actor):
    things: list

    def take(self):
        return self.things.pop()

    def look(self):
        return self.things[0]


ENV = PersistenceEnv("plain", note, Note, remembering, Told, Box)


def woken(make, env=ENV, **options):
    """An actor in a box, made again from its record and not called yet; and the box and its vat."""
    store = MemoryStore()
    vat, box = spawn_persistent_vat(env, lambda: spawn(Box, [make()]), store)
    box.look()()
    vat.close()
    del box
    collect()
    vat, box = spawn_persistent_vat(env, lambda: None, store, **options)
    return box.look(), box, vat


PLAIN = {
    "function": lambda: spawn(note, "text"),
    "class": lambda: spawn(Note, "text"),
    "tuple": lambda: spawn(note, "text", 2.5),
}


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_the_collector_does_not_walk_through_plain_actors(make):
    plain, box, _ = woken(make)
    assert plain() == "text"
    assert not gc.is_tracked(plain)
    assert gc.is_tracked(box)


HOLDING = {
    "a Ref": lambda: spawn(note, spawn(note, "inner")),
    "a list": lambda: spawn(Note, ["inner"]),
    "a list that no portrait shows": lambda: spawn(remembering, "text"),
    "code that ran when it was restored": lambda: spawn(Told, "text"),
}


@pytest.mark.parametrize("make", HOLDING.values(), ids=HOLDING)
def test_it_walks_through_those_that_hold_more(make):
    more, _, _ = woken(make)
    more()
    assert gc.is_tracked(more)


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_a_cycle_that_goes_through_one_later_is_found(make):
    plain, box, vat = woken(make)
    assert plain() == "text"
    assert box.take() is plain
    plain([plain])
    assert gc.is_tracked(plain)
    weak = weakref.ref(plain)
    del plain
    collect()
    assert weak() is None
    vat.close()


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_an_undone_change_leaves_the_actor_as_it_was(make):
    plain, _, vat = woken(make)
    assert plain() == "text"
    with pytest.raises(ZeroDivisionError), vat:
        plain([plain])
        raise ZeroDivisionError
    collect()
    assert plain("next") == "text"
    assert plain() == "next"


def test_a_constructor_in_a_scope_of_its_own_makes_plain_actors_too():
    step = 3

    @actor
    def local(bcom, value=1):
        def call(by=0):
            return bcom(local(bcom, value + by * step), value) if by else value

        return call

    plain, _, _ = woken(lambda: spawn(local), PersistenceEnv("local", local, Box))
    assert plain() == 1
    assert not gc.is_tracked(plain)
    assert [plain(2), plain(), plain(1), plain()] == [1, 7, 7, 10]


def test_they_fall_asleep_and_wake_and_change_and_go_while_the_collector_runs():
    store = MemoryStore(keep_generations=0)
    kinds = (note, Note)
    vat, box = spawn_persistent_vat(
        ENV,
        lambda: spawn(Box, [spawn(kinds[i % 2], i) for i in range(400)]),
        store,
        sleep=lru(max_actors=20),
    )

    def look(count):
        with vat:
            return [box.take() for _ in range(count)]

    for _ in range(20):
        for ref in look(20):
            number = ref()
            assert ref(number) == number
            gc.collect(0)
        gc.collect()
    assert vat.awake <= 20
    vat.close()
    collect()


def test_a_function_may_live_longer_than_its_behavior():
    got = []

    @actor
    def leaking(bcom, value=1):
        def call(by=0):
            if by:
                got.append(call_of[-1])
                return bcom(leaking(bcom, value + by), value)
            return value

        call_of[:] = [call]
        return call

    call_of = [None]
    plain, _, _ = woken(lambda: spawn(leaking), PersistenceEnv("local", leaking, Box))
    assert plain(2) == 1
    assert plain() == 3
    collect()
    assert [call() for call in got] == [1]
    del call_of[:], got[:]
    collect()
