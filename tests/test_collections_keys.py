"""Keys of Map and members of Set: equal as in a dict, in each process and each release of a program (G6)."""

import dataclasses
import decimal
import enum
import itertools
import shutil
import tarfile
import zoneinfo
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import goblins._keys
import pytest
from goblins import (
    Map,
    MigrationError,
    PersistenceEnv,
    RocksStore,
    Set,
    Vat,
    _table,
    spawn,
    spawn_persistent_vat,
)
from portable_keys import KEYS, MOMENT, RECORDS, UTC, Pair, Place
from support import Box, make_in_vat

FIXTURES = Path(__file__).parent / "fixtures"
ENV = PersistenceEnv("keys", Box, records=RECORDS)


def opened(store, env=ENV):
    return spawn_persistent_vat(env, lambda: spawn(Box), store)


@pytest.mark.parametrize("turned", [False, True])
def test_all_kinds_of_keys_are_equal_as_in_a_dict_also_after_a_restart(place, turned):
    keys = KEYS[::-1] if turned else KEYS
    plain = {}
    vat, box = place.spawn(lambda: spawn(Box), env=ENV)
    table, _, members = box.parts()
    with vat:
        for number, key in enumerate(keys):
            table[key] = plain[key] = number
            members.add(key)
            assert len(table) == len(plain) == len(members), key
    for _ in range(2):
        assert repr(list(table.items())) == repr(list(plain.items()))
        assert repr(list(members)) == repr(list(plain))
        with vat:
            assert [table.get(key) for key in keys] == [plain[key] for key in keys]
            assert all(key in members for key in keys)
        vat, box = place.restart(vat, env=ENV)
        table, _, members = box.parts()
    with vat:
        for key in keys:
            assert table.pop(key, None) == plain.pop(key, None)
            assert list(table) == list(plain)
    assert len(table) == 0
    vat.close()


def test_equal_keys_have_one_hash():
    """What is held against a dict above is the comparison too; a hash that differs is found here."""
    for a, b in itertools.combinations(KEYS, 2):
        if hash(a) == hash(b) and a == b:
            assert goblins._keys.hash_key(a)[0] == goblins._keys.hash_key(b)[0], (a, b)


def test_what_is_not_equal_to_itself_is_found_by_its_identity(vat):
    it, plain = make_in_vat(vat, Map), {}
    nan, number = float("nan"), decimal.Decimal("NaN")
    for key in (nan, (nan, 1), number, complex(0, nan), nan, (nan, 1), float("nan"), frozenset({nan})):
        it[key] = plain[key] = len(plain)
    assert repr(list(it.items())) == repr(list(plain.items()))
    assert it[nan] == plain[nan]
    assert it[nan, 1] == plain[nan, 1]
    with pytest.raises(TypeError, match="signaling"):
        it[decimal.Decimal("sNaN")] = 1


@dataclasses.dataclass(eq=False)
class Told:
    name: str


@dataclasses.dataclass(frozen=True)
class Hashed:
    name: str
    __hash__ = object.__hash__


class Loud(enum.Enum):
    A = "a"

    def __eq__(self, other):
        return self.value == other

    def __hash__(self):
        return hash(self.value)


class Turned(NamedTuple("Turned", [("a", int)])):
    def __eq__(self, other):
        return self.a == -other.a

    def __hash__(self):
        return 1


def in_a_string():
    """A class as it is made where code has no file: that says nothing of who wrote its equality."""
    names = {"dataclasses": dataclasses, "__name__": __name__}
    exec(
        "@dataclasses.dataclass(frozen=True)\n"
        "class Name:\n"
        "    text: str\n"
        "    def __eq__(self, other): return self.text.lower() == other.text.lower()\n"
        "    def __hash__(self): return hash(self.text.lower())\n",
        names,
    )
    return names["Name"]("a")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (Told("a"), "identity"),
        (Hashed("a"), "identity"),
        (Loud.A, "its own __eq__"),
        (Turned(1), "its own __eq__"),
        (in_a_string(), "its own __eq__"),
    ],
    ids=lambda value: type(value).__qualname__,
)
def test_a_key_whose_equality_is_not_stored_is_refused(vat, key, why):
    table, members = make_in_vat(vat, Map, {"a": 1}), make_in_vat(vat, Set)
    for held in (key, (1, key), frozenset({key})):
        for use in (lambda held=held: table.__setitem__(held, 1), lambda held=held: members.add(held)):
            with pytest.raises(TypeError, match=why):
                use()
    assert list(table) == ["a"]
    assert len(members) == 0


def test_a_class_without_an_equality_of_its_own_is_compared_by_what_it_inherits(vat):
    @dataclasses.dataclass(eq=False, frozen=True)
    class Named(Place):
        note: str = ""

    table = make_in_vat(vat, Map, {Named("a", note="x"): 1})
    assert table[Named("a", note="y")] == 1
    assert Named("b") not in table
    assert Place("a") not in table


def test_a_key_that_can_be_changed_is_copied(vat):
    @dataclasses.dataclass(unsafe_hash=True)
    class Open:
        name: str

    env = PersistenceEnv("open", records=[Open])
    key = Open("a")
    table = make_in_vat(vat, Map, {key: 1})
    key.name = "b"
    assert list(table) == [Open("a")]
    next(iter(table)).name = "c"
    assert table[Open("a")] == 1
    del env  # as long as it lives its records are values


class Releases:
    """A program that goes on with a store, each time with other classes of keys."""

    def __init__(self):
        self.store = goblins.MemoryStore()
        self.vat = None

    def open(self, *records):
        if self.vat:
            self.vat.close()
        env = PersistenceEnv("keys", Box, records=list(records))
        self.vat, box = opened(self.store, env)
        return box.parts()[0]


@pytest.fixture
def releases():
    it = Releases()
    yield it
    it.vat.close()
    it.store.close()


def place_class(**defaults):
    """A class of keys, as a release of a program has it."""
    fields = [(name, object, dataclasses.field(default=default)) for name, default in defaults.items()]
    return dataclasses.make_dataclass(
        "Place", [("street", str), *fields], frozen=True, namespace={"__module__": __name__}
    )


def test_a_key_is_found_after_a_default_of_its_class_has_changed(releases):
    first, second = place_class(number=1), place_class(number=2)
    table = releases.open(first)
    table.update({first("a"): "a1", first("b", 2): "b2", (first("a"), 1): "nested"})
    table = releases.open(second)
    assert list(table) == [second("a", 1), second("b", 2), (second("a", 1), 1)]
    assert table[second("a", 1)] == "a1"
    assert table[second("b")] == "b2"
    assert table[second("a", 1), 1] == "nested"
    assert second("a") not in table
    table[second("a", 1)] = "new"
    del table[second("b")]
    assert list(table.values()) == ["new", "nested"]


def test_a_key_is_found_after_its_class_got_a_field_and_after_the_default_of_that_changed(releases):
    first, second, third = place_class(), place_class(floor=3), place_class(floor=4)
    table = releases.open(first)
    table.update({first(f"street {number}"): number for number in range(300)})
    table["plain"] = -1
    table = releases.open(second)
    assert table["plain"] == -1
    assert table[second("street 7")] == 7
    assert table[second("street 299", 3)] == 299
    table[second("street 0", 4)] = "other"
    table = releases.open(third)
    with releases.vat:
        assert [table.get(third(f"street {number}", 3)) for number in range(300)] == list(range(300))
    assert table[third("street 0")] == "other"
    assert third("street 1") not in table
    assert len(table) == len(list(table)) == 302


def test_keys_that_have_become_one_are_an_error_and_can_be_taken_out(releases):
    first = place_class(number=1)
    second = dataclasses.make_dataclass(
        "Place",
        [("street", str), ("number", int, dataclasses.field(default=1, compare=False))],
        frozen=True,
        namespace={"__module__": __name__},
    )
    table = releases.open(first)
    table.update({first("a", 1): 1, first("a", 2): 2, "text": 3})
    table = releases.open(second)
    for _ in range(2):
        with pytest.raises(MigrationError, match="two keys of a Map are equal"):
            table[second("a")]
        with pytest.raises(MigrationError, match="two keys of a Map are equal"):
            table[second("b")] = 1
    assert table["text"] == 3
    assert [(key.number, value) for key, value in list(table.items())[:2]] == [(1, 1), (2, 2)]
    merged = releases.vat.run(lambda: Map(dict(table.items())))
    assert merged == {second("a"): 2, "text": 3}


def test_flags_and_numbers_of_enums_may_change(releases):
    one = enum.Flag("Access", ["READ", "WRITE"], module=__name__)
    two = enum.Flag("Access", ["NOTHING", "READ", "WRITE"], module=__name__)
    small = enum.IntEnum("Level", {"LOW": 10, "HIGH": 20}, module=__name__)
    large = enum.IntEnum("Level", {"LOW": 1, "HIGH": 5}, module=__name__)
    table = releases.open(one, small)
    table.update({one.READ: "r", one.READ | one.WRITE: "rw", small.HIGH: "high", (small.LOW,): "low", 7: "7"})
    table = releases.open(two, large)
    assert table[two.READ] == "r"
    assert table[two.WRITE | two.READ] == "rw"
    assert table[large.HIGH] == "high"
    assert table[(1,)] == "low"
    assert table[5] == "high"
    assert 20 not in table
    assert list(table) == [two.READ, two.READ | two.WRITE, 5, (1,), 7]


def test_a_time_zone_may_get_other_rules(releases, tmp_path, monkeypatch):
    there = next(Path(folder) for folder in zoneinfo.TZPATH if Path(folder, "Europe/Berlin").exists())
    shutil.copy(there / "Europe/Berlin", tmp_path / "Somewhere")

    def rules(name):
        shutil.copy(there / name, tmp_path / "Somewhere")
        zoneinfo.reset_tzpath([str(tmp_path), str(there)])
        ZoneInfo.clear_cache(only_keys=["Somewhere"])
        monkeypatch.setattr(goblins._keys, "_zones", {})
        return MOMENT.replace(tzinfo=ZoneInfo("Somewhere"))

    try:
        table = releases.open()
        table[rules("Europe/Berlin")] = 1
        assert table[MOMENT.replace(hour=10, tzinfo=UTC)] == 1
        table = releases.open()
        when = rules("Asia/Tokyo")
        assert list(table) == [when]
        assert table[when] == 1
        assert table[MOMENT.replace(hour=3, tzinfo=UTC)] == 1
        table[when] = 2
        assert list(table.items()) == [(when, 2)]
    finally:
        zoneinfo.reset_tzpath()
        ZoneInfo.clear_cache(only_keys=["Somewhere"])


def test_another_class_of_keys_costs_one_walk_at_most(releases, monkeypatch):
    first, other = place_class(), Pair
    table = releases.open(first, other)
    walks = []
    whole = _table.rehash
    monkeypatch.setattr(_table, "rehash", lambda it: walks.append(1) or whole(it))
    table.update({first(str(number)): number for number in range(200)})
    assert walks == []
    for number in range(5):
        assert other(number) not in table
        table[first(str(number))] = 0
    assert len(walks) == 1


@pytest.fixture
def old_store(tmp_path):
    """What stood in a store when tables had no marks."""
    from fixtures import make_keys

    with tarfile.open(FIXTURES / "pages-0.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    store = RocksStore(tmp_path / "store")
    yield make_keys, lambda: spawn_persistent_vat(make_keys.ENV, lambda: 1 / 0, store)
    store.close()


@pytest.mark.parametrize("number", range(30))
def test_each_kind_of_key_is_found_in_an_old_store(old_store, number):
    made, open_it = old_store
    vat, holder = open_it()
    keys, members, *_ = holder.parts()
    key = made.KEYS[number]
    assert keys[key] == number
    assert key in members
    keys[key] = "new"
    assert len(keys) == len(made.KEYS)
    vat.close()
    vat, holder = open_it()
    keys, members, *_ = holder.parts()
    assert list(keys) == list(members) == made.KEYS
    assert keys[key] == "new"
    del keys[key]
    assert key not in keys
    vat.close()


def test_all_that_is_in_an_old_store_is_there_still(old_store):
    made, open_it = old_store
    vat, holder = open_it()
    keys, members, many, items, _ = holder.parts()
    assert dict(keys) == {key: number for number, key in enumerate(made.KEYS)}
    assert list(members) == made.KEYS
    with vat:
        assert [keys[key] for key in made.KEYS] == list(range(len(made.KEYS)))
        assert all(key in members for key in made.KEYS)
        for number in range(200):
            assert many[number, f"street {number}"] == made.Place(f"street {number}")
    assert list(items) == list(range(500))
    vat.close()


def test_keys_that_an_old_release_took_for_two_are_one_entry(old_store):
    made, open_it = old_store
    first, second = made.twins()
    for _ in range(2):
        vat, holder = open_it()
        twins = holder.parts()[-1]
        assert list(twins.items()) == [("before", 0), (first, 1), ("after", 2)]
        assert twins[first] == twins[second] == 1
        assert len(twins) == 3
        vat.close()
    vat, holder = open_it()
    twins = holder.parts()[-1]
    del twins[second]
    twins["last"] = 3
    assert list(twins) == ["before", "after", "last"]
    assert twins["after"] == 2
    vat.close()


def test_a_vat_without_a_store_takes_keys_that_cant_be_stored():
    key = object()
    table = Vat().run(Map, {key: 1, int: 2, print: 3})
    assert [table[key], table[int], table[print]] == [1, 2, 3]
