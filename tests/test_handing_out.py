"""What leaves an actor is never a way to change it: it is a copy, or it is refused (G1)."""

import asyncio
import collections
import functools
import itertools
import operator
import types
from dataclasses import dataclass, field
from typing import Any

import pytest
from goblins import (
    Actor,
    NotPortableError,
    PersistenceEnv,
    on,
    promise_and_resolver,
    send,
    spawn,
    tell,
)
from support import Boom, caller

PATIENCE = 30


@dataclass
class Report:
    lines: Any = field(default_factory=list)


@dataclass
class Unknown:
    """Not named by any environment."""

    lines: Any


class Shop(Actor):
    items: list = [[1], [2]]
    table: dict = {"a": [1], "b": [2]}
    raw: bytearray = bytearray(b"abc")

    def give(self, how):
        return how(self)

    def hear(self, promise, how, which="fulfilled"):
        handlers = {which: (lambda: how(self)) if which == "finally_" else (lambda _: how(self))}
        return on(promise, **handlers)

    async def later(self, promise, how):
        await promise
        return how(self)

    def settle(self, resolver, how):
        resolver.fulfil(how(self))

    def fail(self, make):
        raise make(self)

    def fail_within(self, how):
        return how(self)

    async def fail_later(self, promise, make):
        await promise
        raise make(self)

    def break_(self, resolver, make):
        resolver.break_(make(self))

    def state(self):
        return repr((self.items, self.table, self.raw))


ENV = PersistenceEnv("out", Shop, records=[Report])


@pytest.fixture
def shop(vat):
    return vat.spawn(Shop)


def spoil(value):
    """Changes all lists, dicts and arrays in a value."""
    todo, seen = [value], []
    while todo:
        value = todo.pop()
        if any(value is other for other in seen):
            continue
        seen.append(value)
        if isinstance(value, list):
            todo.extend(value)
            value.append("spoilt")
        elif isinstance(value, dict):
            todo.extend(value.values())
            value["spoilt"] = 1
        elif isinstance(value, bytearray):
            value.append(0)
        elif isinstance(value, tuple):
            todo.extend(value)
        elif isinstance(value, BaseException):
            todo.extend([value.args, vars(value), value.__cause__, value.__context__])
            todo.extend(getattr(value, name, None) for name in ("obj", "value", "code", "exceptions", "slot"))
        elif isinstance(value, Report):
            todo.append(value.lines)


WAYS_OUT = {
    "answer": lambda shop, how: shop.give(how),
    "promise": lambda shop, how: send(shop.give, how).result(PATIENCE),
    "async": lambda shop, how: settled(lambda promise: shop.later(promise, how)),
    "on": lambda shop, how: settled(lambda promise: shop.hear(promise, how)),
    "on, broken": lambda shop, how: broken(lambda promise: shop.hear(promise, how, "catch")),
    "resolver": lambda shop, how: fulfilled(shop, how),
    "run": lambda shop, how: run_inside(shop, how),
}


def settled(listen):
    promise, resolver = promise_and_resolver()
    answer = listen(promise)
    resolver.fulfil(None)
    return answer.result(PATIENCE)


def broken(listen):
    promise, resolver = promise_and_resolver()
    answer = listen(promise)
    resolver.break_(Boom())
    return answer.result(PATIENCE)


def fulfilled(shop, how):
    promise, resolver = promise_and_resolver()
    shop.settle(resolver, how)
    return promise.result(PATIENCE)


def run_inside(shop, how):
    leaked = []
    shop.give(lambda self: leaked.append(self))
    return VATS[-1].run(lambda: how(leaked[0]))


VATS = []


@pytest.fixture(autouse=True)
def the_vat(vat):
    VATS.append(vat)
    yield
    VATS.pop()


COPIED = {
    "list": lambda self: self.items,
    "part": lambda self: self.items[0],
    "dict": lambda self: self.table,
    "array": lambda self: self.raw,
    "in a tuple": lambda self: (1, (self.items, self.raw)),
    "in a list": lambda self: [[self.table]],
    "in a dict": lambda self: {"k": self.items},
    "in a record": lambda self: Report(self.items),
    "in a record in a tuple": lambda self: (Report([self.items]),),
    "what was in it": lambda self: self.items[:],
    "values": lambda self: list(self.table.values()),
    "pairs": lambda self: tuple(self.table.items()),
    "an error": lambda self: ValueError(self.items),
}


@pytest.mark.parametrize("how", COPIED.values(), ids=COPIED)
@pytest.mark.parametrize("out", WAYS_OUT.values(), ids=WAYS_OUT)
def test_containers_are_copied_on_each_way_out(shop, out, how):
    before = shop.state()
    got = out(shop, how)
    spoil(got)
    assert shop.state() == before


OPAQUE = {
    "view of values": lambda self: self.table.values(),
    "view of keys": lambda self: self.table.keys(),
    "view of items": lambda self: self.table.items(),
    "iterator": lambda self: iter(self.items),
    "iterator of a dict": lambda self: iter(self.table.items()),
    "reversed": lambda self: reversed(self.items),
    "deque": lambda self: collections.deque(self.items),
    "ordered": lambda self: collections.OrderedDict(self.table),
    "default": lambda self: collections.defaultdict(list, self.table),
    "chain": lambda self: collections.ChainMap(self.table),
    "proxy": lambda self: types.MappingProxyType(self.table),
    "generator": lambda self: (item for item in self.items),
    "map": lambda self: map(list.copy, self.items),
    "zip": lambda self: zip(self.items, self.items, strict=True),
    "chained": lambda self: itertools.chain.from_iterable(self.items),
    "memory": lambda self: memoryview(self.raw),
    "method": lambda self: self.items.append,
    "partial": lambda self: functools.partial(operator.iadd, self.items),
    "closure": lambda self: (lambda items: lambda: items)(self.items),
    "default value": lambda self: lambda items=self.items: items,
    "object": lambda self: Unknown(self.items),
    "namespace": lambda self: types.SimpleNamespace(items=[self.items]),
    "in a tuple": lambda self: (1, self.table.values()),
    "in a list in a dict": lambda self: {"k": [iter(self.items)]},
    "in a record": lambda self: Report(self.table.values()),
    "in a deque": lambda self: collections.deque([self.table.values()]),
}


@pytest.mark.parametrize("how", OPAQUE.values(), ids=OPAQUE)
def test_what_leads_to_a_container_and_cant_be_copied_is_refused(shop, how):
    with pytest.raises(NotPortableError, match="hand out a copy"):
        shop.give(how)


@pytest.mark.parametrize("out", WAYS_OUT.values(), ids=WAYS_OUT)
def test_so_it_is_on_each_way_out(shop, out):
    with pytest.raises(NotPortableError, match="dict_values leads to a container in a field"):
        out(shop, lambda self: (1, self.table.values()))


HARMLESS = {
    "a deque of other things": lambda self: (self.items, collections.deque([1]))[1],
    "an iterator over a copy": lambda self: iter(self.items[0][:]),
    "what was counted": lambda self: (x for x in [len(self.items)]),
    "a function": lambda self: (len(self.items), spoil)[1],
    "a class": lambda self: (len(self.items), Shop)[1],
    "an actor": lambda self: (len(self.items), self.ref)[1],
    "a method of the actor": lambda self: (len(self.items), self.give)[1],
    "a module": lambda self: (len(self.items), types)[1],
    "an exception that was caught": lambda self: caught(self.items),
    "a loop": lambda self: (len(self.items), asyncio.Semaphore(1))[1],
}


def caught(items):
    try:
        raise Boom
    except Boom as error:
        return error


@pytest.mark.parametrize("how", HARMLESS.values(), ids=HARMLESS)
def test_what_does_not_lead_there_is_given_as_it_is(shop, how):
    given = []
    got = shop.give(lambda self: given.append(how(self)) or given[0])
    assert got == given[0] or got is given[0]


def test_within_a_turn_an_actor_may_go_through_what_another_one_has(vat, shop):
    call = vat.spawn(caller)
    assert shop.give(lambda self: call(list, self.table.values())) == [[1], [2]]
    assert shop.give(lambda self: call(sum, (len(item) for item in self.items))) == 2


def test_messages_and_new_actors_are_not_given_such_things(vat, other_vat, shop):
    far = other_vat.spawn(caller)
    for give in (send, tell, lambda target, *args: spawn(Shop, *args)):
        with pytest.raises(NotPortableError, match="hand out a copy"):
            shop.give(lambda self, give=give: give(far, len, iter(self.items)))
    promise, resolver = promise_and_resolver()
    with pytest.raises(NotPortableError, match="hand out a copy"):
        shop.give(lambda self: resolver.update(iter(self.items)))


class Slotted(Exception):
    __slots__ = ("slot",)

    def __init__(self, slot):
        self.slot = slot


def with_attribute(error, **attributes):
    vars(error).update(attributes)
    return error


def with_cause(error, cause):
    error.__cause__ = cause
    return error


ERRORS = {
    "arguments": lambda self: Boom(self.items, (self.table,)),
    "attributes": lambda self: with_attribute(Boom(), items=self.items),
    "slots": lambda self: Slotted(self.items),
    "stop": lambda self: KeyError(self.items),
    "exit": lambda self: ExceptionGroup("several", [Boom(self.items), Boom(self.table)]),
    "cause": lambda self: with_cause(Boom(), Boom(self.items)),
    "attribute error": lambda self: AttributeError("no", obj=self.items),
    "import": lambda self: ImportError(self.raw),
}


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("way", ["call", "promise", "within", "later", "break", "handler"])
def test_containers_in_errors_are_copies(vat, shop, make, way):
    before = shop.state()
    got = []

    def fails(self):
        raise make(self)

    if way == "within":

        def within():
            try:
                shop.fail(make)
            except Exception as error:
                got.append(error)

        vat.run(within)
    else:
        promise, resolver = promise_and_resolver()
        with pytest.raises(Exception) as error:  # noqa: PT011
            if way == "call":
                shop.fail(make)
            elif way == "promise":
                send(shop.fail, make).result(PATIENCE)
            elif way == "break":
                shop.break_(resolver, make)
                promise.result(PATIENCE)
            else:
                answer = shop.hear(promise, fails) if way == "handler" else shop.fail_later(promise, make)
                resolver.fulfil(None)
                answer.result(PATIENCE)
        got.append(error.value)
    assert not isinstance(got[0], NotPortableError)
    spoil(got[0])
    assert shop.state() == before


def test_an_error_of_python_itself_holds_no_container_of_a_field(shop):
    before = shop.state()
    with pytest.raises(AttributeError) as caught:
        shop.give(lambda self: self.items.missing)
    spoil(caught.value)
    assert shop.state() == before


def test_what_an_error_leads_to_and_cant_be_copied_is_named_only(shop):
    with pytest.raises(Boom) as caught:
        shop.fail(lambda self: Boom(self.table.values()))
    assert caught.value.args == ("<a value of type dict_values>",)


def test_an_error_that_holds_nothing_of_a_field_is_left_alone(shop):
    mine = [1]
    error = Boom(mine)
    with pytest.raises(Boom) as caught:
        shop.fail(lambda self: (self.items, error)[1])
    assert caught.value is error
    assert caught.value.args[0] is mine
