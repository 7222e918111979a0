"""What a promise in the state of an actor was fulfilled with is state: who asks for it gets a copy (G1, G8).

Otherwise what is in memory would differ from what is stored, and no turn would undo it.
"""

import asyncio
import copy
import functools
import weakref
from dataclasses import dataclass, field

import pytest
from goblins import (
    Actor,
    BrokenPromiseError,
    PersistenceEnv,
    actor,
    all_of,
    methods,
    on,
    promise_and_resolver,
    race,
    send,
    spawn,
)
from support import Boom, collect, failing_turn

PATIENCE = 30


@dataclass
class Note:
    lines: list = field(default_factory=list)


@dataclass(frozen=True)
class Sealed:
    lines: list = field(default_factory=list)


class Holder(Actor):
    """Keeps anything in fields."""

    kept: object = None
    others: list = []

    def put(self, value):
        self.kept = value

    def add(self, value):
        self.others.append(value)

    def get(self):
        return self.kept

    def do(self, change):
        return change(self)

    async def wait(self):
        value = await self.kept
        spoil(value)
        return repr(value)

    def listen(self, fail=False):
        return on(self.kept, functools.partial(spoilt, fail))


@actor
def cell(bcom, value=None):
    return methods(get=lambda: value, put=lambda new: bcom(cell(bcom, new)))


ENV = PersistenceEnv("kept", Holder, cell, records=[Note, Sealed])

VALUES = {
    "list": [1],
    "dict": {"a": 1},
    "set": {1},
    "bytearray": bytearray(b"a"),
    "record": Note([1]),
    "list in a tuple": (1, [2]),
    "list in a frozen record": Sealed([1]),
    "deep": [{"a": (1, [2, Note([bytearray(b"x")])])}],
}


def spoil(value):
    """Changes all in a value that can be changed."""
    if isinstance(value, list):
        for item in value:
            spoil(item)
        value.append("spoilt")
    elif isinstance(value, dict):
        for item in value.values():
            spoil(item)
        value["spoilt"] = 1
    elif isinstance(value, set):
        value.add("spoilt")
    elif isinstance(value, bytearray):
        value.extend(b"spoilt")
    elif isinstance(value, tuple):
        for item in value:
            spoil(item)
    elif isinstance(value, Note | Sealed):
        spoil(value.lines)


def spoilt(fail, value):
    spoil(value)
    if fail:
        raise Boom
    return repr(value)


def settled(value=None, error=None):
    promise, resolver = promise_and_resolver()
    if error is None:
        resolver.fulfil(value)
    else:
        resolver.break_(error)
    return promise


def the(promise):
    return promise.result(PATIENCE)


async def awaited(promise):
    return await promise


WAYS_OUT = {
    "result": lambda vat, promise: the(promise),
    "await": lambda vat, promise: asyncio.run(awaited(promise)),
    "call": lambda vat, promise: vat.run(promise),
    "all": lambda vat, promise: the(all_of(promise, 1))[0],
    "all in a turn": lambda vat, promise: the(vat.run(all_of, promise, 1))[0],
    "race": lambda vat, promise: the(race(promise)),
    "on": lambda vat, promise: the(vat.run(on, promise, lambda value: (spoil(value), value)[1])),
    "on, let through": lambda vat, promise: the(vat.run(on, promise, catch=print)),
    "finally": lambda vat, promise: the(vat.run(on, promise, finally_=lambda: None)),
    "part of what holds it": lambda vat, promise: the(settled((promise,))[0]),
    "chain": lambda vat, promise: the(settled(promise)),
}


def opened(place, roots=lambda: spawn(Holder)):
    return place.spawn(roots, env=ENV)


def restarted(place, vat):
    return place.restart(vat, env=ENV)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_handed_out_is_a_copy_before_a_restart_and_after(memory, value, when):
    before = repr(value)
    vat, holder = opened(memory)
    holder.put(settled(copy.deepcopy(value)))
    if when == "after":
        vat, holder = restarted(memory, vat)
    for way, out in WAYS_OUT.items():
        got = out(vat, holder.get())
        spoil(got)
        assert repr(the(holder.get())) == before, way
    holder.add(1)
    vat, holder = restarted(memory, vat)
    assert repr(the(holder.get())) == before
    vat.close()


PLACES = {
    "field": lambda promise: promise,
    "list": lambda promise: [promise],
    "dict": lambda promise: {"k": (promise,)},
    "record": lambda promise: Note([promise]),
    "key": lambda promise: {promise: 1},
    "promise": lambda promise: settled([promise]),
}


@pytest.mark.parametrize("keep", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("kind", [Holder, cell])
def test_wherever_the_promise_stands(memory, kind, keep):
    vat, holder = opened(memory, lambda: spawn(kind))
    promise = settled([1])
    holder.put(keep(promise))
    the(promise).append(2)
    assert the(promise) == [1]
    vat.close()


def test_who_fulfilled_it_keeps_no_hold_on_it(place):
    vat, holder = opened(place)
    mine = [1]
    holder.put(settled(mine))
    mine.append(2)
    assert the(holder.get()) == [1]
    holder.add("stored again")
    vat, holder = restarted(place, vat)
    assert the(holder.get()) == [1]
    vat.close()


def test_nor_who_fulfils_one_that_is_kept_already(place):
    vat, holder = opened(place)
    promise, resolver = promise_and_resolver()
    holder.put(promise)
    mine = [1]
    resolver.fulfil(mine)
    mine.append(2)
    the(promise).append(3)
    vat.drain(PATIENCE)
    assert the(promise) == [1]
    vat, holder = restarted(place, vat)
    assert the(holder.get()) == [1]
    vat.close()


def test_nor_who_listened_before_it_settled(place):
    vat, holder = opened(place)
    promise, resolver = promise_and_resolver()
    with vat:
        got = on(promise, functools.partial(spoilt, False))
        holder.put(promise)
        held = on(promise, lambda value: value)
    resolver.fulfil([1])
    assert the(got) == "[1, 'spoilt']"
    assert the(held) == [1]
    vat.drain(PATIENCE)
    vat, holder = restarted(place, vat)
    assert the(holder.get()) == [1]
    vat.close()


@pytest.mark.parametrize("fail", [False, True])
def test_what_a_handler_or_a_coroutine_changes_is_its_own(place, fail):
    vat, holder = opened(place)
    holder.put(settled([1]))
    heard = holder.listen(fail)
    if fail:
        with pytest.raises(Boom):
            the(heard)
    else:
        assert the(heard) == "[1, 'spoilt']"
    assert the(send(holder.wait)) == "[1, 'spoilt']"
    assert the(holder.get()) == [1]
    vat, holder = restarted(place, vat)
    assert the(holder.get()) == [1]
    vat.close()


def test_a_promise_in_two_actors_is_the_state_of_both(memory):
    vat, first, second = opened(memory, lambda: (spawn(Holder), spawn(cell)))
    promise = settled({"a": [1]})
    first.put(promise)
    second.put(promise)
    the(promise)["a"].append(2)
    the(second.get())["b"] = 1
    assert the(first.get()) == the(second.get()) == {"a": [1]}
    vat.close()


def test_one_that_waits_for_another_is_not_changed_by_way_of_that(memory):
    vat, holder = opened(memory)
    first, resolver = promise_and_resolver()
    holder.put(settled(first))
    resolver.fulfil([1])
    the(first).append(2)
    vat.drain(PATIENCE)
    assert the(holder.get()) == [1]
    vat, holder = restarted(memory, vat)
    assert the(holder.get()) == [1]
    vat.close()


def test_all_of_some_gives_a_list_of_its_own_when_it_is_kept(memory):
    vat, holder = opened(memory)
    holder.put(all_of(settled([1]), settled([2])))
    vat.drain(PATIENCE)
    spoil(the(holder.get()))
    assert the(holder.get()) == [[1], [2]]
    vat, holder = restarted(memory, vat)
    assert the(holder.get()) == [[1], [2]]
    vat.close()


def test_the_answer_of_a_message_is_one_too(memory, other_vat):
    """The actor that has answered has nothing of it."""
    shared = [1]
    vat, holder = opened(memory)
    far = other_vat.spawn(lambda bcom: lambda: shared)
    vat.run(lambda: holder.put(send(far)))
    vat.drain(PATIENCE)
    the(holder.get()).append(2)
    shared.append(3)
    assert the(holder.get()) == [1]
    vat.close()


def test_one_container_in_two_places_is_two_as_it_is_after_a_restart(memory):
    vat, holder = opened(memory)
    inner = []
    holder.put(settled([inner, inner]))

    def grown():
        value = the(holder.get())
        value[0].append(1)
        return value

    assert grown() == [[1], []]
    vat, holder = restarted(memory, vat)
    assert grown() == [[1], []]
    vat.close()


ERRORS = {
    "of Python": ValueError("why", [1]),
    "deep": KeyError(({"a": [1]},)),
    "of goblins": BrokenPromiseError("why", [1]),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("kept", ["settled", "pending"])
def test_an_error_that_holds_containers_is_given_as_a_copy(memory, error, kept):
    before = repr(error.args)
    vat, holder = opened(memory)
    mine = type(error)(*copy.deepcopy(error.args))
    promise, resolver = promise_and_resolver()
    if kept == "settled":
        resolver.break_(mine)
        holder.put(promise)
    else:
        holder.put(promise)
        resolver.break_(mine)
        vat.drain(PATIENCE)
    spoil(mine.args)
    for _ in range(2):
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                the(holder.get())
            assert repr(caught.value.args) == before
            spoil(caught.value.args)
        holder.add(1)
        vat, holder = restarted(memory, vat)
    vat.close()


def test_so_is_the_problem_that_a_promise_was_broken_with(memory):
    vat, holder = opened(memory)
    promise, resolver = promise_and_resolver()
    resolver.break_({"code": [1]})
    holder.put(promise)
    for _ in range(2):
        for _ in range(2):
            with pytest.raises(BrokenPromiseError) as caught:
                the(holder.get())
            assert caught.value.problem == {"code": [1]}
            spoil(caught.value.problem)
        vat, holder = restarted(memory, vat)
    vat.close()


def test_an_error_without_containers_stays_the_very_one(memory):
    vat, holder = opened(memory)
    error = Boom("why")
    holder.put(settled(error=error))
    with pytest.raises(Boom) as caught:
        the(holder.get())
    assert caught.value is error
    vat.close()


def test_a_turn_that_fails_has_changed_nothing(memory):
    vat, holder = opened(memory)
    holder.put(settled([1]))
    with failing_turn(vat):
        holder.do(lambda self: self.kept().append(2))
        raise Boom
    assert the(holder.get()) == [1]
    vat.close()


def test_a_value_that_leads_back_to_its_promise_is_collected(memory):
    vat, holder = opened(memory)
    promise, resolver = promise_and_resolver()
    resolver.fulfil([promise])
    holder.put(promise)
    assert the(promise)[0] is promise
    assert the(the(promise)[0])[0] is promise
    holder.put(None)
    gone = weakref.ref(promise)
    del promise, resolver
    collect()
    assert gone() is None
    vat.close()


def test_a_promise_in_no_state_gives_what_it_was_fulfilled_with(vat):
    mine = [1]
    assert the(settled(mine)) is mine


@pytest.mark.parametrize("inside", [False, True])
def test_a_part_of_one_is_a_copy(memory, inside):
    vat, holder = opened(memory)
    holder.put(settled({"a": [1]}))
    part = vat.run(lambda: holder.get()["a"]) if inside else holder.get()["a"]
    the(part).append(2)
    assert the(holder.get()) == {"a": [1]}
    vat.close()
