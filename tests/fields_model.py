"""What the model of fields is made of: values, the ways to change them, and classes made anew."""

import bisect
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import heapq
import operator
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from goblins import Actor, PersistenceEnv, lru, spawn, spawn_persistent_vat
from hypothesis import strategies as st

FIELDS = ("number", "text", "items", "table", "marks", "raw", "thing", "plain")


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Key:
    number: int
    note: Any = field(default=None, compare=False)


@dataclass(eq=False)
class Item:
    """Known by its number, whatever else is in it."""

    number: int
    note: Any = None

    def __hash__(self):
        return hash(self.number)

    def __eq__(self, other):
        return isinstance(other, Item) and self.number == other.number


@dataclass(slots=True)
class Bag:
    one: Any = None
    two: Any = None


class Pair(NamedTuple):
    one: Any
    two: Any = None


RECORDS = [Colour, Right, Key, Item, Bag, Pair]


class Steps:
    """What actors and models have in common."""

    def run(self, step):
        name, pick, value = step
        CHANGES[name](self, pick, copy.deepcopy(value))

    def state(self):
        return fields(self)


class Model(Steps):
    """Fields without anything that helps."""

    def __init__(self):
        self.number, self.text, self.items, self.table = 0, None, [], {}
        self.marks, self.raw, self.thing, self.plain = set(), bytearray(), None, 0

    def copy(self):
        """As it is after a turn: nothing stands in two places."""
        made = Model()
        for name in FIELDS:
            setattr(made, name, separate(getattr(self, name)))
        return made


def fields(box):
    return tuple(getattr(box, name) for name in FIELDS)


def open_vat(store):
    """Opens a vat with classes that nobody has used before."""

    class Holder(Steps, Actor):
        number: int = 0
        text: str | None = None
        items: list = []
        table: dict = {}
        marks: set = set()
        raw: bytearray = bytearray()
        thing: Any = None
        plain: int = 0

        def run(self, step):
            Steps.run(self, step)

        def state(self):
            return fields(self)

    env = PersistenceEnv("model", Holder, records=RECORDS)
    roots = lambda: tuple(spawn(Holder) for _ in range(3))  # noqa: E731
    vat, *actors = spawn_persistent_vat(env, roots, store, sleep=lru(max_actors=1))
    return vat, actors


def separate(value):
    """A deep copy that copies what stands in two places twice."""
    if isinstance(value, list | set | frozenset):
        return type(value)([separate(item) for item in value])
    if isinstance(value, bytearray):
        return bytearray(value)
    if isinstance(value, dict):
        return {separate(key): separate(item) for key, item in value.items()}
    if isinstance(value, Pair):
        return Pair(*map(separate, value))
    if isinstance(value, tuple):
        return tuple(map(separate, value))
    if dataclasses.is_dataclass(value):
        parts = {one.name: separate(getattr(value, one.name)) for one in dataclasses.fields(value)}
        return type(value)(**parts)
    return value


def form(value):
    """Everything that can be seen of a value, with its type, so that forms are compared with `==`."""
    name = type(value).__name__
    if isinstance(value, dict):
        return (name, [(form(key), form(item)) for key, item in value.items()])
    if isinstance(value, set | frozenset):
        return (name, sorted(map(form, value), key=repr))
    if isinstance(value, list | tuple):
        return (name, list(map(form, value)))
    if dataclasses.is_dataclass(value):
        return (name, [form(getattr(value, one.name)) for one in dataclasses.fields(value)])
    return (name, repr(value))


def parts(value):
    """What stands in a value, in an order that does not depend on hashes."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, set | frozenset):
        return sorted(value, key=lambda member: repr(form(member)))
    if isinstance(value, list | tuple):
        return list(value)
    if dataclasses.is_dataclass(value):
        return [getattr(value, one.name) for one in dataclasses.fields(value)]
    return []


def found(box, kind, pick, *, instead):
    """One of the values of a kind in a box, each once; or that of a field if there is none."""
    seen, todo = [], [getattr(box, name) for name in reversed(FIELDS)]
    while todo:
        here = todo.pop()
        if isinstance(here, kind) and not any(here is other for other in seen):
            seen.append(here)
        todo.extend(reversed(parts(here)))
    return seen[pick % len(seen)] if seen else instead


def within(value, other):
    todo = [value]
    while todo:
        here = todo.pop()
        if here is other:
            return True
        todo.extend(parts(here))
    return False


def in_list(change):
    return lambda box, pick, value: change(found(box, list, pick, instead=[]), pick, value)


def in_dict(change):
    return lambda box, pick, value: change(found(box, dict, pick, instead={}), pick, value)


def in_set(change):
    return lambda box, pick, value: change(found(box, set, pick, instead=set()), pick, as_key(value))


def in_raw(change):
    return lambda box, pick, value: change(found(box, bytearray, pick, instead=bytearray()), pick, value)


def as_key(value):
    """A value that can be a member: others stand in a record, which has a hash of its own."""
    try:
        hash(value)
    except TypeError:
        return Item(len(repr(value)) % 3, value)
    return value


def set_field(box, pick, value):
    setattr(box, FIELDS[pick % len(FIELDS)], value)


def update_vars(box, pick, value):
    vars(box).update({FIELDS[pick % len(FIELDS)]: value})


def replace_in_vars(box, pick, value):
    name = FIELDS[pick % len(FIELDS)]
    del vars(box)[name]
    vars(box)[name] = value


def share(box, pick, _value):
    """Puts one of the containers into another place."""
    one = found(box, list | dict | set | bytearray | Item | Bag, pick, instead=[])
    other = found(box, list, pick // 3, instead=[])
    if not within(one, other):
        other.append(one)


def swap(box, pick, _value):
    one, other = FIELDS[pick % len(FIELDS)], FIELDS[pick // 2 % len(FIELDS)]
    first, second = getattr(box, one), getattr(box, other)
    setattr(box, one, second)
    setattr(box, other, first)


def again(box, pick, _value):
    """An equal container in place of another one."""
    name = FIELDS[pick % len(FIELDS)]
    setattr(box, name, copy.copy(getattr(box, name)))


def replace_member(members, _pick, _value):
    for member in parts(members)[:1]:
        members.discard(member)
        members.add(copy.copy(member) if isinstance(member, Key | Item) else member)


def into_record(box, pick, value):
    record = found(box, Item | Bag, pick, instead=Bag())
    setattr(record, "note" if isinstance(record, Item) else "one", value)


def drop_member(members, pick, _value):
    members.difference_update(parts(members)[pick % 3 :][:1])


def to_the_end(table, *_):
    for key in list(table)[:1]:
        table[key] = table.pop(key)


def in_order(items, *_):
    items.sort(key=lambda item: repr(form(item)))


def push(items, pick, _value):
    items[:] = [len(repr(form(item))) for item in items]
    heapq.heapify(items)
    heapq.heappush(items, pick)
    bisect.insort(items, pick * 3)


def grow_with_a_view(raw, pick, _value):
    with memoryview(raw) as view:
        if view:
            view[pick % len(view)] = pick


CHANGES = {
    "set": set_field,
    "vars": update_vars,
    "del": replace_in_vars,
    "add": lambda box, pick, value: setattr(box, "number", len(repr(box.number)) + pick),
    "share": share,
    "swap": swap,
    "again": again,
    "read": lambda box, pick, value: form(fields(box)),
    "record": into_record,
    "append": in_list(lambda items, pick, value: items.append(value)),
    "insert": in_list(lambda items, pick, value: items.insert(pick % 3, value)),
    "extend": in_list(lambda items, pick, value: items.extend([value, value])),
    "iadd": in_list(lambda items, pick, value: operator.iadd(items, (value,))),
    "imul": in_list(lambda items, pick, value: operator.imul(items, 2) if len(items) < 5 else items.clear()),
    "slice": in_list(lambda items, pick, value: items.__setitem__(slice(pick % 3, pick % 5), [value])),
    "del slice": in_list(lambda items, pick, value: items.__delitem__(slice(pick % 3, None, 2))),
    "item": in_list(lambda items, pick, value: items and items.__setitem__(pick % len(items), value)),
    "pop": in_list(lambda items, pick, value: items and items.pop(pick % len(items))),
    "reverse": in_list(lambda items, pick, value: items.reverse()),
    "sort": in_list(in_order),
    "heap": in_list(push),
    "clear": in_list(lambda items, pick, value: items.clear()),
    "key": in_dict(lambda table, pick, value: table.__setitem__(pick % 4, value)),
    "any key": in_dict(lambda table, pick, value: table.__setitem__(as_key(value), pick)),
    "update": in_dict(lambda table, pick, value: table.update({"k": value, "l": pick})),
    "ior": in_dict(lambda table, pick, value: operator.ior(table, {"k": value})),
    "setdefault": in_dict(lambda table, pick, value: table.setdefault(pick % 4, value)),
    "popitem": in_dict(lambda table, pick, value: table and table.popitem()),
    "to the end": in_dict(
        lambda table, *_: [table.__setitem__(key, table.pop(key)) for key in list(table)[:1]]
    ),
    "clear table": in_dict(lambda table, pick, value: table.clear()),
    "add member": in_set(lambda members, pick, value: members.add(value)),
    "ior members": in_set(lambda members, pick, value: operator.ior(members, {value, pick})),
    "xor members": in_set(lambda members, pick, value: operator.ixor(members, {value})),
    "drop member": in_set(drop_member),
    "replace member": in_set(replace_member),
    "clear members": in_set(lambda members, pick, value: members.clear()),
    "extend raw": in_raw(lambda raw, pick, value: raw.extend(bytes([pick]))),
    "slice raw": in_raw(lambda raw, pick, value: raw.__setitem__(slice(0, 1), b"xy")),
    "view raw": in_raw(grow_with_a_view),
    "clear raw": in_raw(lambda raw, pick, value: raw.clear()),
}

leaves = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        1.0,
        -0.0,
        float("inf"),
        2**70,
        "",
        "text",
        b"bytes",
        datetime.date(2026, 3, 1),
        datetime.datetime(2026, 3, 1, 9, tzinfo=ZoneInfo("Europe/Paris")),
        datetime.datetime(2026, 10, 25, 2, 30, fold=1),
        datetime.time(9, 30),
        datetime.timedelta(days=1, microseconds=1),
        decimal.Decimal("1.50"),
        fractions.Fraction(1, 3),
        1j,
        uuid.UUID(int=5),
        range(3),
        Colour.GREEN,
        Right.READ | Right.WRITE,
    ]
)


def containers(inner):
    members = inner.map(as_key)
    return st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(members, inner, max_size=2),
        st.lists(inner, max_size=2).map(tuple),
        st.lists(members, max_size=3).map(set),
        st.lists(members, max_size=2).map(frozenset),
        st.binary(max_size=2).map(bytearray),
        st.builds(Key, st.integers(0, 2), inner),
        st.builds(Item, st.integers(0, 2), inner),
        st.builds(Bag, inner, inner),
        st.builds(Pair, inner, inner),
    )


values = st.recursive(leaves, containers, max_leaves=5)
steps = st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(0, 30), values)
programs = st.tuples(
    st.lists(st.tuples(st.integers(0, 2), steps), max_size=5), st.sampled_from([False, False, True])
)
