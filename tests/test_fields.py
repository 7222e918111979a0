"""Fields of classes of actors: what counts is the value that is there, however it came there (G1)."""

import functools
import gc
import logging
import operator
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from goblins import (
    Actor,
    BehaviorError,
    NotPortableError,
    PersistenceEnv,
    lru,
    on,
    promise_and_resolver,
    send,
    spawn,
)
from goblins import field as actor_field
from support import Boom


@dataclass(frozen=True)
class Entry:
    key: int
    count: int = field(default=0, compare=False)


@dataclass
class Item:
    """Known by its number."""

    number: int
    tags: list = field(default_factory=list)

    def __hash__(self):
        return hash(self.number)

    def __eq__(self, other):
        return isinstance(other, Item) and self.number == other.number


@dataclass(frozen=True)
class Shelf:
    name: str
    items: list = field(default_factory=list, compare=False)


@dataclass(eq=False)
class Settings:
    """One that dataclasses take for a default."""

    limits: list = field(default_factory=list)
    size: int = 0


class Point(NamedTuple):
    x: int
    tags: list = []


@dataclass
class Holder:
    point: Point = Point(1, [])  # noqa: RUF009
    settings: Settings = Settings()  # noqa: RUF009
    pair: tuple = ([], 1)


class Box(Actor):
    """Holds anything, and does anything to it."""

    value: Any = None
    other: Any = None

    def do(self, how, *, fail=False):
        answer = how(self)
        if fail:
            raise Boom
        return answer

    def hear(self, promise, how, *others, **named):
        return on(promise, lambda value: how(self), *others, **named)

    async def later(self, promise, how):
        await promise
        return how(self)


class Tally(Box):
    """Its fields are said to be numbers, so that nothing looks when they are read."""

    value: int = 0
    other: int = 0


class Plain(Actor):
    """Its fields are said to be plain."""

    buf: bytes = b""
    number: int = 0
    text: str | None = None

    def do(self, how, *, fail=False):
        answer = how(self)
        if fail:
            raise Boom
        return answer


RECORDS = [Entry, Item, Shelf, Settings, Point, Holder]
ENV = PersistenceEnv("fields", Box, Plain, records=RECORDS)
TALLIES = PersistenceEnv("fields", Tally)


def state(box):
    return box.do(lambda self: (self.value, self.other))


def fields_of(plain):
    return plain.do(lambda self: (self.buf, self.number, self.text))


@pytest.fixture(params=["once", "each time", "in place"])
def renewed(request, place):
    """Gives the actor of a class as it is after a restart, or as it is."""

    def renew(vat, actor):
        if request.param == "in place":
            return vat, actor
        times = 1 if request.param == "once" else 2
        for _ in range(times):
            vat, actor = place.restart(vat, env=ENV)
        return vat, actor

    return renew


class TestMembers:
    def test_a_member_replaced_by_an_equal_one_is_stored_and_undone(self, place):
        vat, box = place.spawn(lambda: spawn(Box, {Entry(1, 1), Entry(2, 1)}), env=ENV)

        def replace(self):
            self.value.discard(Entry(1))
            self.value.add(Entry(1, 5))

        with pytest.raises(Boom):
            box.do(replace, fail=True)
        assert sorted(entry.count for entry in state(box)[0]) == [1, 1]
        box.do(replace)
        assert sorted(entry.count for entry in state(box)[0]) == [1, 5]
        vat, box = place.restart(vat, env=ENV)
        assert sorted(entry.count for entry in state(box)[0]) == [1, 5]

    @pytest.mark.parametrize(
        "replace",
        [
            lambda self: setattr(self, "value", {1.0, 2}),
            lambda self: (self.value.remove(1), self.value.add(True)),
            lambda self: (self.value.clear(), self.value.update([1.0, 2])),
            lambda self: self.value.symmetric_difference_update({1}) or self.value.add(1.0),
        ],
    )
    def test_equal_numbers_of_other_types_are_others(self, place, replace):
        vat, box = place.spawn(lambda: spawn(Box, {1, 2}), env=ENV)
        box.do(replace)
        kinds = {type(member) for member in state(box)[0]}
        assert kinds != {int}
        _, box = place.restart(vat, env=ENV)
        assert {type(member) for member in state(box)[0]} == kinds

    def test_a_key_replaced_by_an_equal_one_is_stored_and_undone(self, place):
        vat, box = place.spawn(lambda: spawn(Box, {Entry(1, 1): "a", Entry(2, 1): "b"}), env=ENV)

        def replace(self):
            self.value[Entry(1, 5)] = self.value.pop(Entry(1))

        with pytest.raises(Boom):
            box.do(replace, fail=True)
        assert [key.count for key in state(box)[0]] == [1, 1]
        box.do(replace)
        assert [(key.count, value) for key, value in state(box)[0].items()] == [(1, "b"), (5, "a")]
        _, box = place.restart(vat, env=ENV)
        assert [(key.count, value) for key, value in state(box)[0].items()] == [(1, "b"), (5, "a")]

    HOLDERS = {
        "set": lambda item: {item},
        "frozenset": lambda item: frozenset([item]),
        "key": lambda item: {item: 1},
        "key in a tuple": lambda item: {(1, item): 1},
        "member in a tuple": lambda item: {(item,)},
        "frozenset in a set": lambda item: {frozenset([item])},
        "frozenset in a key in a list": lambda item: [{frozenset([item]): 1}],
    }

    @staticmethod
    def found(value):
        """The record somewhere in a value."""
        todo = [value]
        while todo:
            value = todo.pop()
            if isinstance(value, Item | Shelf):
                return value
            if isinstance(value, list | tuple | dict | set | frozenset):
                todo.extend(value)
        raise AssertionError("it is not there")

    @pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
    @pytest.mark.parametrize(
        ("item", "tags"),
        [(lambda: Item(1, ["new"]), "tags"), (lambda: Shelf("s", ["new"]), "items")],
        ids=["mutable", "frozen"],
    )
    def test_what_changes_in_members_and_keys_is_undone_stored_and_copied(self, place, hold, item, tags):
        mine = item()
        vat, box = place.spawn(lambda: spawn(Box, hold(mine)), env=ENV)
        getattr(mine, tags).append("from outside")
        inner = lambda value: getattr(TestMembers.found(value), tags)  # noqa: E731
        assert inner(state(box)[0]) == ["new"]
        inner(state(box)[0]).append("from outside")
        assert inner(state(box)[0]) == ["new"]
        with pytest.raises(Boom):
            box.do(lambda self: inner(self.value).append("undone"), fail=True)
        assert inner(state(box)[0]) == ["new"]
        box.do(lambda self: inner(self.value).append("kept"))
        assert inner(state(box)[0]) == ["new", "kept"]
        came = item()
        box.do(lambda self: setattr(self, "other", []))
        box.do(lambda self: self.other.append(hold(came)))
        getattr(came, tags).append("from outside")
        vat, box = place.restart(vat, env=ENV)
        value, other = state(box)
        assert (inner(value), inner(other)) == (["new", "kept"], ["new"])
        box.do(lambda self: inner(self.value).append("again"))
        _, box = place.restart(vat, env=ENV)
        assert inner(state(box)[0]) == ["new", "kept", "again"]

    def test_a_member_that_came_in_is_copied(self, vat):
        box = vat.spawn(Box, set())
        mine = Item(1)
        box.do(lambda self: self.value.add(mine))
        mine.tags.append("from outside")
        assert [item.tags for item in state(box)[0]] == [[]]
        key = Item(2)
        box.do(lambda self: setattr(self, "other", {key: 1}))
        box.do(lambda self: self.other.update({key: 2}))
        key.tags.append("from outside")
        assert [item.tags for item in state(box)[1]] == [[]]

    def test_neither_hash_nor_equality_of_members_runs_for_an_undo(self, vat):
        ran = []

        class Loud:
            def __hash__(self):
                ran.append("hash")
                return 1

            def __eq__(self, other):
                ran.append("eq")
                return self is other

        box = vat.spawn(Box, {Loud(), Loud(), Loud()})
        before = state(box)[0]
        ran.clear()
        with pytest.raises(Boom):
            box.do(lambda self: self.value.clear(), fail=True)
        assert ran == []
        assert state(box)[0] == before


class TestWhatIsSaidToBePlain:
    CHANGES = {
        "grown": lambda self: self.buf.extend(b"x"),
        "added to": lambda self: setattr(self, "buf", operator.iadd(self.buf, b"x")),
        "set": lambda self: self.buf.__setitem__(0, 0),
    }

    @pytest.mark.parametrize("how", CHANGES.values(), ids=CHANGES)
    def test_a_bytearray_in_a_field_of_bytes_is_stored_and_undone(self, place, renewed, how):
        vat, plain = place.spawn(lambda: spawn(Plain, bytearray(b"ab")), env=ENV)
        vat, plain = renewed(vat, plain)
        with pytest.raises(Boom):
            plain.do(how, fail=True)
        assert fields_of(plain)[0] == b"ab"
        plain.do(how)
        after = fields_of(plain)[0]
        assert after != b"ab"
        vat, plain = renewed(vat, plain)
        assert fields_of(plain)[0] == after

    @pytest.mark.parametrize(
        "value",
        [[1], {"a": 1}, {1}, ([1],), Settings([1]), Shelf("s", [1])],
        ids=lambda value: str(type(value)),
    )
    def test_so_is_any_container_anywhere(self, place, value):
        class Fresh(Actor):
            """Of a class that no test before has used."""

            number: int = 0

            def put(self, value):
                self.number = value

            def get(self):
                return self.number

            def change(self, fail=False):
                todo = [self.number]
                while todo:
                    value = todo.pop()
                    if isinstance(value, list):
                        value.append(2)
                    elif isinstance(value, dict):
                        value["b"] = 2
                    elif isinstance(value, set):
                        value.add(2)
                    elif isinstance(value, tuple):
                        todo.extend(value)
                    else:
                        todo.extend([value.limits] if isinstance(value, Settings) else [value.items])
                if fail:
                    raise Boom

        env = PersistenceEnv("fields", Fresh, records=RECORDS)
        vat, fresh = place.spawn(lambda: spawn(Fresh), env=env)
        fresh.put(value)
        vat.close()

        # As in a new process: the class knows nothing of what its instances held.
        class Again(Fresh, label="Fresh"):
            number: int = 0

        env = PersistenceEnv("fields", Again, records=RECORDS)
        vat, fresh = place.restart(vat, env=env)
        before = repr(fresh.get())
        with pytest.raises(Boom):
            fresh.change(fail=True)
        assert repr(fresh.get()) == before
        fresh.change()
        after = repr(fresh.get())
        assert after != before
        _, fresh = place.restart(vat, env=env)
        assert repr(fresh.get()) == after

    def test_what_an_actor_becomes_is_looked_at_too(self, place):
        mine = [1]

        class Caterpillar(Actor):
            def turn(self):
                return self.become(Butterfly(mine, mine))

        class Butterfly(Actor):
            wings: int = 0
            legs: int = 0

            def get(self):
                return self.wings, self.legs

            def add(self, fail=False):
                self.wings.append(2)
                if fail:
                    raise Boom

        env = PersistenceEnv("fields", Caterpillar, Butterfly)
        vat, animal = place.spawn(lambda: spawn(Caterpillar), env=env)
        animal.turn()
        mine.append("from outside")
        assert animal.get() == ([1], [1])
        with pytest.raises(Boom):
            animal.add(fail=True)
        animal.add()
        assert animal.get() == ([1, 2], [1])
        _, animal = place.restart(vat, env=env)
        assert animal.get() == ([1, 2], [1])


class TestPastAssignment:
    WRITES = {
        "vars": lambda self: vars(self).update(value=5),
        "dict": lambda self: self.__dict__.__setitem__("value", 5),
        "or": lambda self: operator.ior(self.__dict__, {"value": 5}),
        "del": lambda self: (vars(self).pop("value"), vars(self).setdefault("value", 5)),
        "descriptor": lambda self: type(self).__dict__["value"].__set__(self, 5),
    }

    @pytest.mark.parametrize("how", WRITES.values(), ids=WRITES)
    def test_what_is_written_into_the_dict_is_undone_and_stored(self, place, how):
        vat, box = place.spawn(lambda: spawn(Box, 1), env=ENV)
        with pytest.raises(Boom):
            box.do(how, fail=True)
        assert state(box) == (1, None)
        box.do(how)
        assert state(box) == (5, None)
        vat, box = place.restart(vat, env=ENV)
        assert state(box) == (5, None)
        vat, box = place.restart(vat, env=ENV)
        with pytest.raises(Boom):
            box.do(how, fail=True)

    def test_what_is_read_there_is_noticed(self, place):
        vat, box = place.spawn(lambda: spawn(Box, [1]), env=ENV)
        add = lambda self: vars(self)["value"].append(2)  # noqa: E731
        with pytest.raises(Boom):
            box.do(add, fail=True)
        box.do(add)
        got = box.do(lambda self: vars(self)["value"])
        got.append("from outside")
        assert state(box)[0] == [1, 2]
        _, box = place.restart(vat, env=ENV)
        assert state(box)[0] == [1, 2]

    def test_the_dict_is_the_actors_no_more_after_the_turn(self, vat):
        box = vat.spawn(Box, 1)
        leaked = []
        box.do(lambda self: leaked.append(vars(self)))
        leaked[0]["value"] = "from outside"
        assert state(box)[0] == 1
        with pytest.raises(Boom):
            box.do(lambda self: leaked.append(vars(self)), fail=True)
        leaked[1]["value"] = "from outside"
        assert state(box)[0] == 1

    def test_also_if_a_parent_that_is_no_actor_comes_first(self, place):
        class Mixin:
            def write(self, value, fail=False):
                vars(self).update(value=value)
                if fail:
                    raise Boom

        class Mixed(Mixin, Actor):
            value: int = 0

            def get(self):
                return self.value

        class More(Mixed, Mixin):
            pass

        env = PersistenceEnv("fields", Mixed, More)
        vat, *mixed = place.spawn(lambda: (spawn(Mixed), spawn(More)), env=env)
        for one in mixed:
            with pytest.raises(Boom):
                one.write(1, fail=True)
            assert one.get() == 0
            one.write(2)
        _, *mixed = place.restart(vat, env=env)
        assert [one.get() for one in mixed] == [2, 2]
        assert "write" in vars(Mixin)

    PAST = {
        "set": lambda self: object.__setattr__(self, "value", 5),
        "deleted": lambda self: object.__delattr__(self, "value"),
        "another attribute": lambda self: object.__setattr__(self, "more", 5),
        "a container": lambda self: object.__setattr__(self, "value", [5]),
        "the parent's": lambda self: super(Actor.__mro__[1], self).__setattr__("value", 5),
        "set and changed": lambda self: (object.__setattr__(self, "value", 5), setattr(self, "value", 6)),
        "changed and set": lambda self: (setattr(self, "value", 6), object.__setattr__(self, "value", 5)),
        "set and deleted": lambda self: (
            object.__setattr__(self, "value", 5),
            object.__delattr__(self, "value"),
        ),
        "by its dict and set": lambda self: (
            vars(self).update(value=6),
            object.__setattr__(self, "value", 5),
            1 / (sys.version_info < (3, 13)),
        ),
    }

    @pytest.mark.parametrize("how", PAST.values(), ids=PAST)
    def test_past_the_class_nothing_can_be_set(self, place, how):
        """CPython itself refuses it up to 3.12."""
        vat, box = place.spawn(lambda: spawn(Tally, 1), env=TALLIES)
        for _ in range(2):
            with pytest.raises((TypeError, ZeroDivisionError)):
                box.do(how)
            assert state(box) == (1, 0)
            (promise, resolver), later = promise_and_resolver(), []
            later.append(box.hear(promise, how))
            later.append(send(box.later, promise, how))
            resolver.fulfil(None)
            for answer in later:
                with pytest.raises((TypeError, ZeroDivisionError)):
                    answer.result(30)
            assert state(box) == (1, 0)
        box.do(lambda self: setattr(self, "other", 2))
        _, box = place.restart(vat, env=TALLIES)
        assert state(box) == (1, 2)
        with pytest.raises((TypeError, ZeroDivisionError)):
            box.do(how)
        assert state(box) == (1, 2)

    def test_a_field_that_may_hold_a_container_notices_what_sets_it(self, place):
        """CPython itself refuses it up to 3.12."""
        vat, box = place.spawn(lambda: spawn(Box, [1]), env=ENV)
        if sys.version_info < (3, 13):
            with pytest.raises(TypeError):
                box.do(self.PAST["set"])
            return
        with pytest.raises(Boom):
            box.do(self.PAST["set"], fail=True)
        assert state(box) == ([1], None)
        box.do(self.PAST["set"])
        _, box = place.restart(vat, env=ENV)
        assert state(box) == (5, None)

    def test_one_who_catches_the_error_has_what_was_there_before(self, vat):
        box = vat.spawn(Tally, 1)

        def attempt(self):
            self.value = 2
            with pytest.raises(TypeError):
                self.ref.do(self_past)
            return self.value

        self_past = self.PAST["set"]
        assert box.do(attempt) == 2
        assert state(box) == (2, 0)

    def test_nor_the_dict_be_replaced(self, vat):
        box = vat.spawn(Tally, 1)
        with pytest.raises((BehaviorError, AttributeError)):
            box.do(lambda self: setattr(self, "__dict__", {"value": 5}))
        with pytest.raises((TypeError, AttributeError)):
            box.do(lambda self: object.__setattr__(self, "__dict__", {"value": 5}))
        assert state(box) == (1, 0)

    @pytest.mark.parametrize("where", ["outside", "in a turn of another", "in a block"])
    def test_nor_anything_from_where_the_fields_are_not_used(self, vat, other_vat, monkeypatch, where):
        said, leaked = [], []
        monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(unraisable.exc_value))
        box = vat.spawn(Tally, 1)
        box.do(leaked.append)

        def attempt():
            if where == "outside":
                self.PAST["set"](leaked[0])
            elif where == "in a block":
                with vat:
                    self.PAST["set"](leaked[0])
            else:
                other_vat.run(self.PAST["set"], leaked[0])

        if sys.version_info >= (3, 13):
            attempt()
            assert state(box) == (1, 0)
            assert [type(error) for error in said] == [BehaviorError]
        else:
            with pytest.raises(TypeError):
                attempt()
        box.do(lambda self: setattr(self, "other", 2))
        assert state(box) == (1, 2)

    def test_one_that_is_no_actor_yet_is_an_object_like_any_other(self, vat):
        class Made(Actor):
            value: int = 0

            def __init__(self):
                vars(self)["value"] = 3

            def get(self):
                return self.value

        assert vat.spawn(Made).get() == 3

    def test_a_cached_property_is_no_state(self, place):
        made = []

        class Shop(Actor):
            prices: dict = {}
            name: str = ""

            @functools.cached_property
            def total(self):
                made.append("total")
                return sum(self.prices.values())

            @functools.cached_property
            def names(self):
                return sorted(self.prices)

            def look(self):
                return self.total, self.names

            def rename(self, name):
                self.name = name

            def add(self, name, price, fail=False):
                self.prices[name] = price
                if fail:
                    raise Boom

            def recount(self):
                before = self.total
                self.prices["salt"] = 1
                del self.total
                return before, self.total

        env = PersistenceEnv("fields", Shop)
        vat, shop = place.spawn(lambda: spawn(Shop), env=env, sleep=lru(max_actors=1))
        assert shop.look() == (0, [])
        shop.add("tea", 3)
        assert shop.look() == (3, ["tea"])
        with pytest.raises(Boom):
            shop.add("milk", 2, fail=True)
        assert shop.look() == (3, ["tea"])
        shop.look()[1].append("from outside")
        assert shop.look() == (3, ["tea"])
        shop.rename("corner shop")
        shop.add("milk", 2)
        assert shop.look() == (5, ["milk", "tea"])
        vat, shop = place.restart(vat, env=env)
        assert shop.look() == (5, ["milk", "tea"])
        made.clear()
        assert (shop.look()[0], shop.look()[0]) == (5, 5)
        assert made == []
        assert shop.recount() == (5, 6)


class TestUndo:
    def test_an_array_that_somebody_looks_at_is_replaced_and_the_others_are_restored(self, place):
        def roots():
            raw = bytearray(b"abc")
            return spawn(Box, [1, raw, ({"raw": bytearray(b"x")},)], {"raw": bytearray(b"yz"), "list": [1]})

        vat, box = place.spawn(roots, env=ENV)
        before = repr(state(box))
        views = []

        def change(self):
            raws = [self.value[1], self.value[2][0]["raw"], self.other["raw"]]
            for raw in raws:
                raw.extend(b"more")
                views.append(memoryview(raw))
            self.value.append("undone")
            self.other["list"].append("undone")
            self.other.clear()

        with pytest.raises(Boom):
            box.do(change, fail=True)
        assert repr(state(box)) == before
        box.do(lambda self: self.value[1].extend(b"kept"))
        assert views[0] == b"abcmore"
        assert state(box)[0][1] == b"abckept"
        _, box = place.restart(vat, env=ENV)
        assert state(box)[0][1] == b"abckept"

    def test_a_field_that_is_such_an_array(self, vat):
        plain = vat.spawn(Plain, bytearray(b"abc"))
        plain.do(lambda self: None)
        views = []

        def change(self):
            self.buf += b"more"
            views.append(memoryview(self.buf))

        with pytest.raises(Boom):
            plain.do(change, fail=True)
        assert fields_of(plain)[0] == b"abc"
        plain.do(lambda self: self.buf.append(0))
        assert fields_of(plain)[0] == b"abc\0"

    def test_finalizers_of_what_goes_see_all_as_it_was(self, vat):
        seen = []

        class Gone:
            def __init__(self, value):
                self.value = value

            def __del__(self):
                seen.append(list(self.value))

        box = vat.spawn(Box, [1, 2], [3])

        def change(self):
            self.other.append(Gone(self.value))
            self.value.clear()

        with pytest.raises(Boom):
            box.do(change, fail=True)
        gc.collect()
        assert seen == [[1, 2]]

    def test_a_field_whose_name_is_another_object_in_the_dict(self, place):
        """As when `__init__` takes the names from a file."""

        class ByName(Actor):
            count: int
            items: list

            def __init__(self):
                vars(self)["".join(["it", "ems"])] = []
                vars(self)["".join(["co", "unt"])] = 0

            def add(self, item, *, fail=False):
                self.items.append(item)
                self.count += 1
                if fail:
                    raise Boom

            def get(self):
                return self.items, self.count

        env = PersistenceEnv("by name", ByName)
        vat, one = place.spawn(lambda: spawn(ByName), env=env)
        for added in ([1], [1, 1]):
            with pytest.raises(Boom):
                one.add(2, fail=True)
            one.add(1)
            assert one.get() == (added, len(added))
        _, one = place.restart(vat, env=env)
        assert one.get() == ([1, 1], 2)

    def test_turn_after_turn_that_fails_or_not(self, vat):
        """A changed instance keeps its fields in another way than one that was only read."""
        plain = vat.spawn(Plain)

        def set_to(number):
            def change(self):
                self.text, self.number, self.buf = str(number), number, bytes([number])

            return change

        before = fields_of(plain)
        for number in range(1, 9):
            with pytest.raises(Boom):
                plain.do(set_to(100 + number), fail=True)
            assert fields_of(plain) == before
            if number % 3:
                plain.do(set_to(number))
                before = (bytes([number]), number, str(number))
            assert fields_of(plain) == before


class TestOnePlace:
    MAKES = {
        "a list of one twice": lambda one: [one, one],
        "in tuples": lambda one: ((one,), [(1, (one,))]),
        "in a dict": lambda one: {"a": one, "b": {"c": one}},
        "in a record": lambda one: Settings(one, [one]),
        "in a set": lambda one: [Item(1, one), {Item(2, one)}, {Item(3, one): one}],
        "in frozen ones": lambda one: [Shelf("s", one), frozenset([Shelf("t", one)])],
        "one tuple twice": lambda one: [(one,)] * 3,
    }

    @staticmethod
    def lists(value):
        """Each list that the value `one` became, once for each place."""
        found, todo = [], [value]
        while todo:
            value = todo.pop()
            if isinstance(value, list) and value[:1] == ["one"]:
                found.append(value)
            elif isinstance(value, dict):
                todo.extend(value)
                todo.extend(value.values())
            elif isinstance(value, list | tuple | set | frozenset):
                todo.extend(value)
            elif hasattr(value, "__dict__"):
                todo.extend(vars(value).values())
        return found

    @pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
    def test_what_stands_in_several_is_as_many_from_the_end_of_the_turn_on(self, place, make):
        vat, box = place.spawn(lambda: spawn(Box, make(["one"])), env=ENV)

        def change(self):
            found = TestOnePlace.lists(self.value)
            assert len({id(each) for each in found}) == len(found)
            found[0].append("changed")
            return len(found)

        count = box.do(change)
        sizes = [len(each) for each in self.lists(state(box)[0])]
        assert sorted(sizes) == [1] * (count - 1) + [2]
        _, box = place.restart(vat, env=ENV)
        assert sorted(len(each) for each in self.lists(state(box)[0])) == sorted(sizes)

    MOVES = {
        "into its own list": lambda self: self.value.append(self.value[0]),
        "into the other field": lambda self: setattr(self, "other", self.value),
        "a part into the other": lambda self: setattr(self, "other", [self.value[0], (self.value[0],)]),
        "by a slice": lambda self: self.value.__setitem__(slice(1, 1), self.value[:]),
        "by multiplying": lambda self: operator.imul(self.value, 3),
        "into a new dict": lambda self: self.value.append({"k": self.value[0]}),
        "by vars": lambda self: vars(self).update(other=self.value),
    }

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_also_when_it_is_put_there_later(self, place, move):
        vat, box = place.spawn(lambda: spawn(Box, [["one"], 2], 3), env=ENV)
        box.do(move)

        def change(self):
            self.value[0].append("changed")

        box.do(change)
        now = repr(state(box))
        assert now.count("changed") == 1
        _, box = place.restart(vat, env=ENV)
        assert repr(state(box)) == now

    def test_what_only_moves_stays_the_same_object(self, vat):
        box = vat.spawn(Box, [[1], [2]])
        seen = []
        box.do(lambda self: seen.extend(self.value))
        box.do(lambda self: (self.value.reverse(), setattr(self, "other", self.value.pop())))
        assert box.do(lambda self: self.value[0] is seen[1] and self.other is seen[0])

    def test_too_many_places_are_refused(self, vat):
        def build(self):
            value = [1]
            for _ in range(60):
                value = [value, value]
            self.value = value

        box = vat.spawn(Box)
        with pytest.raises(NotPortableError, match="so many places"):
            box.do(build)
        assert state(box) == (None, None)

    def test_a_tuple_of_tuples_that_is_small_may_look_large(self, vat):
        def build(self):
            value = (1,)
            for _ in range(60):
                value = (value, value)
            self.value = value

        box = vat.spawn(Box)
        box.do(build)
        assert box.do(lambda self: len(self.value)) == 2


@dataclass(eq=False)
class AsksForItsHash:
    friend: Any

    def __hash__(self):
        return hash(self.friend.number())


@dataclass(eq=False)
class AsksForEquality:
    friend: Any

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return self.friend.number() == other.friend.number()


class Numbered(Actor):
    known: Any = None
    name: int = 0

    def number(self):
        return self.name

    def put(self, make, friend):
        self.known = make(friend)

    def rename(self, name):
        self.name = name
        return self.known


class TestHashes:
    HOLDERS = {
        "set": lambda record: {record},
        "frozenset": lambda record: [frozenset([record])],
        "key": lambda record: {record: 1},
        "tuple": lambda record: {(1, record)},
    }

    @pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
    @pytest.mark.parametrize("kind", [AsksForItsHash, AsksForEquality])
    def test_one_that_needs_an_actor_is_refused_when_it_is_stored(self, place, kind, hold):
        env = PersistenceEnv("fields", Numbered, records=[kind])
        vat, one, two = place.spawn(lambda: (spawn(Numbered), spawn(Numbered)), env=env)
        with pytest.raises(NotPortableError, match="__hash__ or __eq__") as caught:
            one.put(lambda friend: hold(kind(friend)), two)
        assert caught.value.path.startswith("known")
        assert one.rename(1) is None
        _, one, two = place.restart(vat, env=env)
        assert (one.number(), two.number()) == (1, 0)

    def test_one_that_depends_on_its_own_fields_is_stored(self, place):
        vat, box = place.spawn(lambda: spawn(Box, {Item(1), Item(2)}), env=ENV)
        box.do(lambda self: self.value.add(Item(3)))
        _, box = place.restart(vat, env=ENV)
        assert state(box)[0] == {Item(1), Item(2), Item(3)}


class TestDefaults:
    def test_those_that_can_be_changed_are_each_actors_own(self, place):
        class Machine(Actor):
            settings: Settings = Settings([1])
            shelf: Shelf = actor_field(default=Shelf("s", [1]))
            pair: tuple = ([1], 2)
            point: Point = Point(1, [1])

            def __post_init__(self):
                self.settings.limits.append("post_init")
                self.shelf.items.append("post_init")
                self.pair[0].append("post_init")
                self.point.tags.append("post_init")

            def get(self):
                return [self.settings.limits, self.shelf.items, self.pair[0], self.point.tags]

        env = PersistenceEnv("fields", Machine, records=RECORDS)
        vat, one, two = place.spawn(lambda: (spawn(Machine), spawn(Machine)), env=env)
        assert one.get() == two.get() == [[1, "post_init"]] * 4
        _, one, two = place.restart(vat, env=env)
        assert one.get() == two.get() == [[1, "post_init"]] * 4

    def test_also_those_of_records_that_no_environment_names(self, vat):
        @dataclass
        class Unnamed:
            count: int = 0
            inner: Any = None

        @dataclass(eq=False)
        class ByIdentity:
            count: int = 0

        @dataclass(frozen=True)
        class Frozen:
            inner: Any

        lock = threading.Lock()
        one, two, three = ByIdentity(), Frozen((Unnamed(),)), (1, Unnamed(inner=[]))
        same = Frozen((1, Frozen(None)))

        class Machine(Actor):
            first: ByIdentity = one
            second: Frozen = actor_field(default=two)
            third: tuple = three
            fixed: Frozen = same
            locked: tuple = (lock, 1)

            def __post_init__(self):
                self.first.count += 1
                self.second.inner[0].count += 1
                self.third[1].inner.append(1)

            def get(self):
                return self.first.count, self.second.inner[0].count, len(self.third[1].inner)

            def has_what_cant_change(self):
                return self.fixed is same and self.locked[0] is lock

        for _ in range(2):
            machine = vat.spawn(Machine)
            assert machine.get() == (1, 1, 1)
            assert machine.has_what_cant_change()
        assert (one.count, two.inner[0].count, three[1].inner) == (0, 0, [])

    def test_also_where_an_old_record_lacks_them(self, place):
        class Old(Actor, label="machine"):
            pass

        class New(Actor, label="machine"):
            settings: Settings = Settings([1])
            holder: Any = None

            def restored(self):
                self.settings.limits.append("restored")

            def get(self):
                return self.settings.limits

        vat, *_ = place.spawn(lambda: (spawn(Old), spawn(Old)), env=PersistenceEnv("fields", Old))
        _, one, two = place.restart(vat, env=PersistenceEnv("fields", New, records=RECORDS))
        assert (one.get(), two.get()) == ([1, "restored"],) * 2

    def test_also_in_records_that_lack_them(self, place):
        @dataclass
        class Old:
            number: int = 0

        @dataclass
        class New:
            number: int = 0
            settings: Settings = Settings([1])  # noqa: RUF009
            pair: tuple = ([1],)

        old = PersistenceEnv("fields", Box, records={"record": Old})
        new = PersistenceEnv("fields", Box, records={"record": New, "settings": Settings})
        vat, box = place.spawn(lambda: spawn(Box, [Old(), Old()]), env=old)
        vat, box = place.restart(vat, env=new)

        def change(self):
            self.value[0].settings.limits.append(2)
            self.value[0].pair[0].append(2)

        box.do(change)
        assert [one.settings.limits for one in state(box)[0]] == [[1, 2], [1]]
        assert [one.pair for one in state(box)[0]] == [([1, 2],), ([1],)]
        assert New().settings.limits == [1]


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


class TestDepth:
    @pytest.mark.parametrize("levels", [300, 1001, 5000])
    def test_what_is_nested_too_deeply_is_refused_with_its_path(self, place, levels):
        _, box = place.spawn(lambda: spawn(Box), env=ENV)
        with pytest.raises(NotPortableError, match="levels deep"):
            box.do(lambda self: setattr(self, "value", nested(levels)))
        with pytest.raises(NotPortableError, match="levels deep"):
            box.do(lambda self: setattr(self, "value", ({"k": nested(levels)},)))
        assert state(box) == (None, None)

    def test_also_without_a_store(self, vat):
        box = vat.spawn(Box, [])
        box.do(lambda self: setattr(self, "other", nested(900)))
        for put in (
            lambda self: setattr(self, "value", nested(1001)),
            lambda self: self.value.append(nested(5000)),
        ):
            with pytest.raises(NotPortableError, match="levels deep"):
                box.do(put)
        assert state(box)[0] == []


class TestEqualValues:
    SAME = {
        "list": lambda self: setattr(self, "value", list(self.value)),
        "slice": lambda self: self.value.__setitem__(slice(None), list(self.value)),
        "inner": lambda self: self.value.__setitem__(0, list(self.value[0])),
        "inner dict": lambda self: self.value[1].update(k=dict(self.value[1]["k"])),
        "set": lambda self: setattr(self, "other", set(self.other)),
        "taken back": lambda self: (self.value.append(1), self.value.pop()),
        "vars": lambda self: vars(self).update(value=list(self.value)),
    }

    @pytest.mark.parametrize("how", SAME.values(), ids=SAME)
    def test_they_write_nothing(self, rocks, how):
        vat, box = rocks.spawn(lambda: spawn(Box, [[1], {"k": {"l": 1}}, 1.5], {1, 2}), env=ENV)
        box.do(how)
        before = written(rocks)
        for _ in range(20):
            box.do(how)
        assert written(rocks) == before
        assert state(box) == ([[1], {"k": {"l": 1}}, 1.5], {1, 2})

    def test_equal_plain_values_write_nothing(self, rocks):
        _, plain = rocks.spawn(lambda: spawn(Plain, b"abc", 10**9, "text"), env=ENV)

        def same(self):
            self.number = int(str(self.number))
            self.text = "".join(self.text)
            self.buf = bytes(list(self.buf))

        plain.do(same)
        before = written(rocks)
        for _ in range(20):
            plain.do(same)
        assert written(rocks) == before

    OTHERS = {
        "kind": lambda self: setattr(self, "value", [True, 0.0, {"a": 1, "b": 2}]),
        "sign": lambda self: setattr(self, "value", [1, -0.0, {"a": 1, "b": 2}]),
        "order": lambda self: setattr(self, "value", [1, 0.0, {"b": 2, "a": 1}]),
        "inside": lambda self: self.value.__setitem__(2, {"b": 2, "a": 1}),
        "by way of the old one": lambda self: (
            setattr(self, "value", list(self.value)),
            self.value[2].update(a=self.value[2].pop("a")),
        ),
    }

    @pytest.mark.parametrize("how", OTHERS.values(), ids=OTHERS)
    def test_what_can_be_told_apart_is_stored(self, place, how):
        vat, box = place.spawn(lambda: spawn(Box, [1, 0.0, {"a": 1, "b": 2}]), env=ENV)
        box.do(how)
        now = repr(state(box))
        assert now != repr(([1, 0.0, {"a": 1, "b": 2}], None))
        _, box = place.restart(vat, env=ENV)
        assert repr(state(box)) == now


def written(place):
    return sum(path.stat().st_size for path in place.folder.rglob("*.log"))


class TestLargeFields:
    def test_one_word_is_said_for_each_class_and_field(self, vat, caplog):
        class Large(Actor):
            table: dict = {}
            items: list = []

            def fill(self, count):
                self.table = dict.fromkeys(range(count))
                self.items = [list(range(100)) for _ in range(count // 100)]

            def read(self):
                return len(self.table)

            def read_items(self):
                return len(self.items)

        one, two = vat.spawn(Large), vat.spawn(Large)
        one.fill(5000)
        one.read()
        assert caplog.records == []
        two.fill(6000)
        for actor in (two, two, one):
            actor.read()
        (record,) = caplog.records
        assert record.name == "goblins"
        assert record.levelno == logging.WARNING
        assert "the field table of Large holds 6000 entries" in record.getMessage()
        assert "Map, List or Set" in record.getMessage()
        two.read_items()
        assert "the field items of Large" in caplog.records[-1].getMessage()
        assert len(caplog.records) == 2
