"""Records: dataclasses, classes of attrs, named tuples and enums that an environment names are values."""

import collections
import dataclasses
import datetime
import enum
import functools
import gc
import weakref
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import pytest
from goblins import (
    Actor,
    BehaviorError,
    DuplicateLabelError,
    MemoryStore,
    MigrationError,
    NotPortableError,
    PersistenceEnv,
    UnknownLabelError,
    spawn,
    spawn_persistent_vat,
)
from hypothesis import given
from hypothesis import strategies as st
from support import Boom, cell, must_not_run

T = TypeVar("T")


@dataclasses.dataclass
class Money:
    amount: Any
    currency: str = "EUR"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(slots=True, kw_only=True)
class Leg:
    start: Any
    end: Any = None


@dataclasses.dataclass
class Named(Money):
    name: str = ""
    parts: list = dataclasses.field(default_factory=list, compare=False)


@attrs.define
class Parcel:
    weight: Any
    _marks: list = attrs.Factory(list)


@attrs.frozen
class Stamp:
    price: Any
    twice: Any = attrs.Factory(lambda self: self.price, takes_self=True)


@attrs.define(slots=False)
class Loose:
    thing: Any = None


class Pair(NamedTuple):
    left: Any
    right: Any = None


Triple = collections.namedtuple("Triple", ["a", "b", "c"])


class Color(enum.Enum):
    RED = 1
    GREEN = "g"
    CRIMSON = RED


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4
    ALL = 7


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


RECORDS = [
    Money, Point, Leg, Named, Parcel, Stamp, Loose, Pair, Triple, Color, Level, Word, Right, Bits,
]  # fmt: skip


class Box(Actor):
    value: Any = None

    def get(self):
        return self.value

    def put(self, value):
        self.value = value

    def change(self, how, fail=False):
        answer = how(self.value)
        if fail:
            raise Boom
        return answer


ENV = PersistenceEnv("test", Box, cell, records=RECORDS)


@pytest.fixture(params=["Box", "cell"])
def stored(request, place):
    """A vat in a store, and a root that holds a value."""
    constructor = {"Box": Box, "cell": cell}[request.param]
    vat, box = place.spawn(lambda: spawn(constructor, "before"), env=ENV)
    return place, vat, box


members = st.one_of(
    st.sampled_from([*Color, *Level, *Word]),
    st.integers(0, 7).map(Right),
    st.integers(0, 3).map(Bits),
)
records = st.recursive(
    st.one_of(members, st.integers(), st.text(), st.dates(), st.decimals(allow_nan=False), st.uuids()),
    lambda inner: st.one_of(
        st.builds(Money, inner, st.text(max_size=3)),
        st.builds(Point, inner, inner),
        st.builds(lambda one, other: Leg(start=one, end=other), inner, inner),
        st.builds(Named, inner, st.text(max_size=3), st.text(max_size=3), st.lists(inner, max_size=2)),
        st.builds(Parcel, inner, st.lists(inner, max_size=2)),
        st.builds(Stamp, inner),
        st.builds(Loose, inner),
        st.builds(Pair, inner, inner),
        st.builds(Triple, inner, inner, inner),
        st.lists(inner, max_size=3),
        st.dictionaries(st.builds(Pair, members, st.integers()), inner, max_size=3),
    ),
    max_leaves=12,
)


class TestComeBack:
    @given(records)
    def test_as_they_were(self, value):
        with MemoryStore() as store:
            vat, box = spawn_persistent_vat(ENV, lambda: spawn(cell), store)
            box.put(value)
            vat.close()
            _, box = spawn_persistent_vat(ENV, must_not_run, store)
            found = box.get()
        assert found == value
        assert repr(found) == repr(value)
        assert type(found) is type(value)

    def test_members_are_the_same_objects(self, stored):
        place, vat, box = stored
        every = [*Color, *Level, *Word, *map(Right, range(8)), *map(Bits, range(4))]
        box.put(every)
        _, box = place.restart(vat, env=ENV)
        assert all(one is other for one, other in zip(box.get(), every, strict=True))

    def test_with_references_in_them(self, stored):
        place, vat, box = stored
        box.put([Money(box), Pair(box, {Point(1, box): box})])
        _, box = place.restart(vat, env=ENV)
        money, pair = box.get()
        assert money.amount is box
        assert pair.left is box
        assert pair.right == {Point(1, box): box}

    def test_without_code_of_their_class(self, place):
        ran = []

        @dataclasses.dataclass(frozen=True)
        class Careful:
            value: int
            doubled: int = dataclasses.field(init=False)

            def __post_init__(self):
                ran.append("post_init")
                object.__setattr__(self, "doubled", 2 * self.value)

            def __getattribute__(self, name):
                ran.append(name)
                return object.__getattribute__(self, name)

        env = PersistenceEnv("test", cell, records=[Careful])
        vat, box = place.spawn(lambda: spawn(cell, Careful(2)), env=env)
        ran.clear()
        _, box = place.restart(vat, env=env)
        found = box.get()
        assert ran == []
        assert (found.value, found.doubled) == (2, 4)

    def test_a_cached_property_is_left_out(self, stored):
        @dataclasses.dataclass
        class Lazy:
            value: int

            @functools.cached_property
            def twice(self):
                return 2 * self.value

        place, vat, box = stored
        env = ENV | PersistenceEnv("more", records=[Lazy])
        _, box = place.restart(vat, env=env)
        lazy = Lazy(1)
        assert lazy.twice == 2
        box.put(lazy)
        _, box = place.restart(_, env=env)
        assert vars(box.get()) == {"value": 1}

    def test_an_instance_of_a_generic_class_comes_back(self, place):
        @dataclasses.dataclass
        class Held(Generic[T]):
            value: T

        env = PersistenceEnv("test", cell, records=[Held])
        vat, box = place.spawn(lambda: spawn(cell, Held[int](3)), env=env)
        _, box = place.restart(vat, env=env)
        assert box.get() == Held(3)


class TestChangedInPlace:
    CHANGES = {
        "a field": (Money(1), lambda money: setattr(money, "amount", 5)),
        "a slot": (Leg(start=1), lambda leg: setattr(leg, "end", 5)),
        "a slot that goes": (Leg(start=1), lambda leg: delattr(leg, "end") or setattr(leg, "end", 7)),
        "of attrs": (Parcel(1), lambda parcel: setattr(parcel, "weight", 5)),
        "of attrs without slots": (Loose(1), lambda loose: setattr(loose, "thing", 5)),
        "a list in one": (Named(1, parts=[1]), lambda named: named.parts.append(2)),
        "a list in a frozen one": (Point([1], {}), lambda point: point.x.append(2)),
        "a list in a named tuple": (Pair([1]), lambda pair: pair.left.append(2)),
        "one in a list": ([Money(1)], lambda value: setattr(value[0], "amount", 5)),
        "one in a dict": ({"a": (Money(1),)}, lambda value: setattr(value["a"][0], "amount", 5)),
        "one in a frozen one": (Point(Money(1)), lambda value: setattr(value.x, "amount", 5)),
        "one in another": (Money(Money(1)), lambda value: setattr(value.amount, "amount", 5)),
        "another one": (Money(1), lambda money: setattr(money, "amount", Money(2))),
    }

    @pytest.mark.parametrize(("value", "how"), CHANGES.values(), ids=CHANGES)
    def test_they_are_undone_or_kept_with_their_turn(self, place, value, how):
        vat, box = place.spawn(lambda: spawn(Box, value), env=ENV)
        before = repr(value)
        with pytest.raises(Boom):
            box.change(how, fail=True)
        assert repr(box.get()) == before
        box.change(how)
        after = repr(box.get())
        assert after != before
        assert repr(value) == before, "it was shared with the one who gave it"
        _, box = place.restart(vat, env=ENV)
        assert repr(box.get()) == after

    def test_what_is_handed_out_is_a_copy(self, vat):
        box = vat.spawn(Box, [Money(1), Pair(Money(2)), Point(Parcel(3))])
        got = box.get()
        got[0].amount = got[1].left.amount = got[2].x.weight = "leak"
        assert box.get() == [Money(1), Pair(Money(2)), Point(Parcel(3))]

    def test_what_comes_in_is_copied(self, vat):
        mine, inner = Money([1]), Money(2)
        box = vat.spawn(Box)
        box.put(mine)
        box.change(lambda value: setattr(value, "currency", inner))
        mine.amount.append("leak")
        mine.currency = inner.amount = "leak"
        assert box.get() == Money([1], Money(2))

    def test_what_cannot_change_is_handed_out_as_it_is(self, vat):
        point, pair = Point(1, 2), Pair("a", Point(1))
        box = vat.spawn(Box, [point, pair])
        got = box.get()
        assert got[0] is point
        assert got[1] is pair

    def test_it_stays_the_same_object_through_an_undo(self, vat):
        box = vat.spawn(Box, [Money(1)])
        kept = []
        box.change(lambda value: kept.append(value[0]))
        with pytest.raises(Boom):
            box.change(lambda value: (setattr(value[0], "amount", 2), value.clear()), fail=True)
        assert box.change(lambda value: value[0] is kept[0])
        kept.clear()

    def test_what_two_fields_of_a_record_were_given_are_two_from_the_end_of_the_turn_on(self, vat):
        box = vat.spawn(Box)

        def share(value):
            value.amount = value.currency = []

        box.put(Money(1))
        box.change(share)
        box.change(lambda value: value.amount.append(1))
        assert box.get() == Money([1], [])

    def test_a_ring_of_records_is_undone_and_never_stored(self, place):
        vat, box = place.spawn(lambda: spawn(Box, Money(1)), env=ENV)
        with pytest.raises(NotPortableError, match="contains itself") as caught:
            box.change(lambda money: setattr(money, "amount", [money]))
        assert caught.value.path == "value.amount[0]"
        assert box.get() == Money(1)


class TestClassesThatChanged:
    def stored_as(self, place, value, *classes, constructor=cell):
        env = PersistenceEnv("test", constructor, records=list(classes))
        return place.spawn(lambda: spawn(constructor, value), env=env)[0]

    def reopened(self, place, vat, *classes, constructor=cell):
        env = PersistenceEnv("test", constructor, records={cls.__name__: cls for cls in classes})
        return place.restart(vat, env=env)

    def test_a_new_field_takes_its_default(self, place):
        old = dataclasses.make_dataclass("Money", ["amount"])
        new = dataclasses.make_dataclass(
            "Money",
            [
                ("currency", str, dataclasses.field(default="EUR", kw_only=True)),
                ("tags", list, dataclasses.field(default_factory=list, kw_only=True)),
                "amount",
            ],
        )
        vat = self.stored_as(place, [old(5)], old)
        _, box = self.reopened(place, vat, new)
        assert box.get() == [new(5)]

    def test_so_do_those_of_attrs_and_of_named_tuples(self, place):
        old_stamp = attrs.make_class("Stamp", ["price"])
        old_pair = collections.namedtuple("Pair", ["left"])
        vat = self.stored_as(place, [old_stamp(5), old_pair(1)], old_stamp, old_pair)
        _, box = self.reopened(place, vat, Stamp, Pair)
        assert box.get() == [Stamp(5, 5), Pair(1, None)]

    def test_a_named_tuple_may_become_a_dataclass(self, place):
        old = collections.namedtuple("Point", ["x", "y"])
        vat = self.stored_as(place, old(1, 2), old)
        _, box = self.reopened(place, vat, Point)
        assert box.get() == Point(1, 2)

    @pytest.mark.parametrize(
        ("old", "new", "text"),
        [
            (
                dataclasses.make_dataclass("R", ["amount", "lost"])(1, 2),
                dataclasses.make_dataclass("R", ["amount"]),
                "lost",
            ),
            (
                dataclasses.make_dataclass("R", ["amount"])(1),
                dataclasses.make_dataclass("R", ["amount", "wanted"]),
                "wanted",
            ),
            (collections.namedtuple("R", ["a", "lost"])(1, 2), collections.namedtuple("R", ["a"]), "lost"),
            (attrs.make_class("R", ["a"])(1), attrs.make_class("R", ["a", "wanted"]), "wanted"),
            (enum.Enum("R", ["RED", "GREEN"]).GREEN, enum.Enum("R", ["RED"]), "GREEN"),
            (enum.Flag("R", ["A", "B"])(3), enum.Flag("R", ["A"]), "B"),
            (enum.Flag("R", ["A", "B"])(3), enum.Enum("R", ["A", "B"]), "flags"),
            (dataclasses.make_dataclass("R", ["amount"])(1), enum.Enum("R", ["RED"]), "enum"),
            (enum.Enum("R", ["RED"]).RED, dataclasses.make_dataclass("R", ["amount"]), "RED"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    @pytest.mark.parametrize(("constructor", "path"), [(cell, "args.value[0].key"), (Box, "value[0].key")])
    def test_what_does_not_fit_is_an_error_that_names_it(self, place, old, new, text, constructor, path):
        vat = self.stored_as(place, [{"key": old}], type(old), constructor=constructor)
        vat, box = self.reopened(place, vat, new, constructor=constructor)
        with pytest.raises(MigrationError, match=text) as caught:
            box.get()
        assert caught.value.path == path
        for part in (path, "test.R", f"test.{constructor.__name__}", "slot 0", "vat main"):
            assert part in str(caught.value)
        self.reopened(place, vat, type(old), constructor=constructor)[1].get()

    def test_a_record_that_is_not_in_the_environment_is_an_error_when_it_is_read(self, place):
        vat = self.stored_as(place, {"in": [Money(1)]}, Money)
        vat, box = self.reopened(place, vat)
        with pytest.raises(UnknownLabelError, match="records=") as caught:
            box.get()
        assert caught.value.label == "test.Money"
        assert caught.value.path == "args.value.in[0]"
        assert caught.value.slot == 0
        assert self.reopened(place, vat, Money)[1].get() == {"in": [Money(1)]}

    def test_the_error_of_a_default_is_the_user_s(self, place):
        def fail():
            raise Boom

        old = dataclasses.make_dataclass("R", ["a"])
        new = dataclasses.make_dataclass("R", ["a", ("b", int, dataclasses.field(default_factory=fail))])
        vat = self.stored_as(place, old(1), old)
        _, box = self.reopened(place, vat, new)
        with pytest.raises(Boom):
            box.get()


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (dataclasses.make_dataclass("Stranger", ["a"])(1), "dataclass"),
            (attrs.make_class("Stranger", ["a"])(1), "attrs"),
            (collections.namedtuple("Stranger", ["a"])(1), "named tuple"),
            (enum.Enum("Stranger", ["A"]).A, "enum"),
            (enum.IntEnum("Stranger", ["A"]).A, "enum"),
            (enum.StrEnum("Stranger", ["A"]).A, "enum"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_an_instance_of_a_class_that_is_not_in_the_environment(self, stored, value, kind):
        _, _, box = stored
        with pytest.raises(NotPortableError, match=f"{kind}.*add it to records=") as caught:
            box.put([value])
        assert "Stranger" in str(caught.value)
        assert caught.value.path.endswith("value[0]")
        assert box.get() == "before"

    def test_an_instance_of_a_class_below_a_record(self, stored):
        class Less(Money):
            pass

        class Other(Pair):
            pass

        _, _, box = stored
        for value in (Less(1), Other(1)):
            with pytest.raises(NotPortableError, match="records="):
                box.put(value)

    def test_an_attribute_that_is_no_field(self, stored):
        class Open(Triple):
            pass

        place, vat, box = stored
        env = ENV | PersistenceEnv("more", records=[Open])
        _, box = place.restart(vat, env=env)
        money, triple = Money(1), Open(1, 2, 3)
        money.note = triple.note = "lost?"
        for value in (money, triple):
            with pytest.raises(NotPortableError, match="note"):
                box.put([value])

    def test_a_field_without_a_value(self, stored):
        _, _, box = stored
        money, leg = Money(1), Leg(start=1)
        del money.amount, leg.start
        for value, name in ((money, "amount"), (leg, "start")):
            with pytest.raises(NotPortableError, match=name):
                box.put([value])

    def test_a_part_that_is_not_portable_is_named(self, stored):
        _, _, box = stored
        cases = [
            (Money([object()]), "value.amount[0]"),
            (Leg(start=object()), "value.start"),
            (Pair(1, {"k": object()}), "value.right.k"),
            (Parcel(1, [object()]), "value._marks[0]"),
        ]
        for value, path in cases:
            with pytest.raises(NotPortableError) as caught:
                box.put(value)
            assert caught.value.path.removeprefix("args.") == path

    def test_flags_that_have_no_name(self, stored):
        _, _, box = stored
        for flags in (Bits(5), Bits(8)):
            with pytest.raises(NotPortableError, match="no name"):
                box.put(flags)


class TestTheEnvironment:
    def test_records_are_named_as_constructors_are(self):
        env = PersistenceEnv("bank", cell, records=[Money, Color])
        assert env.records() == ["bank.Money", "bank.Color"]
        assert env.labels() == ["bank.cell"]
        env = PersistenceEnv("bank", records={"cash": Money, "shop.colour": Color})
        assert env.records() == ["bank.cash", "shop.colour"]
        assert PersistenceEnv({"c": cell}, records={"cash": Money}).records() == ["cash"]
        with pytest.raises(TypeError, match="mapping"):
            PersistenceEnv({"c": cell}, records=[Money])

    def test_environments_are_joined_with_their_records(self):
        one, two = PersistenceEnv("a", records=[Money]), PersistenceEnv("b", records=[Color])
        assert (one | two).records() == ["a.Money", "b.Color"]
        assert PersistenceEnv("c", records=[Pair], extends=[one, two, one | two]).records() == [
            "c.Pair",
            "a.Money",
            "b.Color",
        ]
        assert PersistenceEnv("a", records=[Money], extends=one).records() == ["a.Money"]

    def test_a_name_stands_for_one_class_and_a_class_has_one_name(self):
        other = dataclasses.make_dataclass("Money", ["amount"])
        one = PersistenceEnv("a", records=[Money])
        for make in (
            lambda: PersistenceEnv("a", records=[Money, Money]),
            lambda: PersistenceEnv("a", records=[Money, other]),
            lambda: PersistenceEnv("a", records={"one": Money, "two": Money}),
            lambda: PersistenceEnv("a", cell, records={"cell": Money}),
            lambda: one | PersistenceEnv("b", records=[Money]),
            lambda: one | PersistenceEnv("a", records=[other]),
            lambda: one | PersistenceEnv({"a.Money": cell}),
        ):
            with pytest.raises(DuplicateLabelError):
                make()

    def test_what_would_not_come_back_whole_is_no_record(self):
        @dataclasses.dataclass
        class Wrong(dict):
            a: int = 0

        class Slotted:
            __slots__ = ("hidden",)

        @dataclasses.dataclass(slots=True)
        class Below(Slotted):
            a: int = 0

        class Empty(enum.Enum):
            pass

        class Plain:
            pass

        @dataclasses.dataclass
        class Computed:
            a: int

        Computed.a = property(lambda self: 1)
        for thing, text in [
            (Wrong, "dict"),
            (Below, "hidden"),
            (Empty, "no members"),
            (Plain, "Plain"),
            (Computed, "property"),
            (int, "int"),
            (Box, "Box"),
            (Money(1), "Money"),
            ("Money", "Money"),
        ]:
            with pytest.raises(BehaviorError, match=text):
                PersistenceEnv("a", records=[thing])

    def test_a_class_is_let_go_with_its_environment(self):
        def make():
            passing = dataclasses.make_dataclass("Passing", ["a"])
            env = PersistenceEnv("a", cell, records=[passing])
            with MemoryStore() as store:
                _, box = spawn_persistent_vat(env, lambda: spawn(cell, passing(1)), store)
                box.put(passing(2))
            return weakref.ref(passing)

        seen = make()
        for _ in range(5):
            gc.collect()
        assert seen() is None


def test_values_of_all_kinds_can_be_mixed(stored):
    place, vat, box = stored
    value = {
        Pair(Color.RED, datetime.date(2026, 1, 31)): Money(Decimal("1.50"), [Point(1j, range(3))]),
        datetime.timedelta(1): {Level.LOW, Word.YES, Right.READ | Right.RUN},
    }
    box.put(value)
    _, box = place.restart(vat, env=ENV)
    assert box.get() == value
