"""Map, List and Set as the state of actors: undone, stored, shared, copied, far (G1, G6, G8)."""

import asyncio
import dataclasses
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from goblins import (
    Actor,
    AsyncioVat,
    DuplicateLabelError,
    FarCallError,
    List,
    Map,
    NoSuchActorError,
    NotPortableError,
    NoTurnError,
    PersistenceEnv,
    Set,
    Vat,
    VatClosedError,
    _pages,
    actor,
    field,
    methods,
    send,
    spawn,
)
from support import (
    BOX_ENV,
    KINDS,
    Boom,
    Box,
    caller,
    collect,
    counter,
    echo,
    failing_turn,
    make_in_vat,
)

CHILD = Path(__file__).parent / "children" / "map_of_records.py"


@actor
def keeper(bcom, things, more=()):
    return methods(things=lambda: things, more=lambda: more)


ENV = BOX_ENV | PersistenceEnv("test", keeper, counter)


@pytest.fixture
def box(place):
    """The vat of a stored box, and the box."""
    vat, box = place.spawn(lambda: spawn(Box), env=ENV)
    yield vat, box
    vat.close()


def again(place, vat):
    return place.restart(vat, env=ENV)


class TestAllOfThem:
    @pytest.mark.parametrize("kind", KINDS)
    def test_one_is_made_in_a_turn(self, kind):
        with pytest.raises(NoTurnError, match="new Map, List or Set"):
            kind()

    @pytest.mark.parametrize("kind", KINDS)
    def test_none_can_be_derived_from(self, kind):
        with pytest.raises(TypeError, match="derived"):
            type("Own", (kind,), {})

    def test_the_repr_shows_type_length_and_some_entries(self, vat):
        assert repr(make_in_vat(vat, Map, {1: "a"})) == "<Map of 1: {1: 'a'}>"
        assert repr(make_in_vat(vat, Map, {i: i for i in range(9)})) == (
            "<Map of 9: {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, ...}>"
        )
        assert repr(make_in_vat(vat, List, range(9))) == "<List of 9: [0, 1, 2, 3, 4, ...]>"
        assert repr(make_in_vat(vat, Set, "a")) == "<Set of 1: {'a'}>"
        it = make_in_vat(vat, Map)
        it["me"] = it
        assert repr(it) == "<Map of 1: {'me': <Map ...>}>"

    def test_what_comes_in_and_what_goes_out_is_a_copy(self, vat):
        inner = [1, {"a": [2]}]
        table, items = make_in_vat(vat, Map), make_in_vat(vat, List)
        for use in (lambda: nested(), lambda: vat.run(nested)):

            def nested():
                table["k"] = inner
                items.append(inner)
                inner[1]["a"].append("outside")
                table["k"].append("lost")
                items[0][1]["a"].append("lost")
                next(iter(table.values())).append("lost")
                assert table["k"] == [1, {"a": [2]}] == items[0]
                inner[1]["a"].pop()

            use()

    def test_all_that_one_turn_did_is_undone(self, box):
        vat, box = box
        table, items, members = box.parts()
        before = {number: number for number in range(500)}
        table.update(before)
        items.extend(range(500))
        members.update(range(500))
        with failing_turn(vat):
            table.clear()
            table["x"] = 1
            for index in reversed(range(0, 500, 2)):
                del items[index]
            items[0] = "x"
            items.extend("many" * 100)
            for number in range(400):
                members.discard(number)
            raise Boom
        assert table == before
        assert list(items) == list(range(500))
        assert members == set(range(500))
        with failing_turn(vat):
            made = Map({"a": 1})
            table["made"] = made
            raise Boom
        with pytest.raises(NoSuchActorError):
            made["a"]

    def test_an_error_that_is_caught_undoes_nothing(self, box):
        vat, box = box
        table, *_ = box.parts()
        with vat:
            table["a"] = 1
            with pytest.raises(KeyError):
                table["b"]
        assert table == {"a": 1}

    def test_they_are_stored(self, box, place):
        vat, box = box
        table, items, members = box.parts()
        expected = {f"key {number}": [number] for number in range(1000)}
        table.update(expected)
        items.extend(range(1000))
        members.update(range(1000))
        vat, box = again(place, vat)
        table, items, members = box.parts()
        assert list(table.items()) == list(expected.items())
        assert list(items) == list(members) == list(range(1000))
        del table["key 0"], items[0]
        members.clear()
        vat, box = again(place, vat)
        table, items, members = box.parts()
        assert len(table) == len(items) == 999
        assert not members
        assert "key 0" not in table

    def test_outside_of_turns_each_use_is_a_turn_of_its_own(self, box, place):
        vat, box = box
        box.parts()[0]["a"] = 1
        vat, box = again(place, vat)
        assert box.parts()[0] == {"a": 1}

    def test_in_a_turn_of_another_vat_they_are_far(self, vat, other_vat):
        table, items, members = (
            make_in_vat(vat, Map, {"a": 1}),
            make_in_vat(vat, List, "a"),
            make_in_vat(vat, Set, "a"),
        )
        uses = [lambda: table["a"], lambda: table.update(b=1), lambda: list(table), lambda: len(items)]
        uses += [lambda: items.append(1), lambda: members.add(1), lambda: members | {1}, lambda: table == {}]
        for use in uses:
            with pytest.raises(FarCallError, match="vat home, and this is a turn of vat abroad"):
                other_vat.run(use)
        assert "can't be read here" in other_vat.run(repr, table)
        assert table == {"a": 1}
        assert items == ["a"]

    def test_they_can_be_sent_to_another_vat_and_back(self, vat, other_vat):
        table = make_in_vat(vat, Map, {"a": 1})
        assert send(other_vat.spawn(echo), table).result(5) is table
        assert send(vat.spawn(caller), lambda: table["a"]).result(5) == 1

    def test_one_of_another_vat_is_not_stored(self, box, vat):
        stored, box = box
        with pytest.raises(NotPortableError, match="vat home"):
            box.put(make_in_vat(vat, Map))
        assert box.get() is None

    def test_what_cannot_be_stored_is_an_error_of_its_turn(self, box):
        _, box = box
        table, items, members = box.parts()
        for use in (
            lambda: table.__setitem__("k", object()),
            lambda: table.__setitem__(("k", object()), 1),
            lambda: items.append(object()),
            lambda: members.add(object()),
        ):
            with pytest.raises(NotPortableError, match="object"):
                use()
        assert table == {}
        assert items == []
        assert members == set()

    def test_without_a_store_anything_can_be_in_them(self, vat):
        thing = object()
        assert make_in_vat(vat, Map, {thing: thing})[thing] is thing
        assert make_in_vat(vat, List, [thing])[0] is thing
        assert thing in make_in_vat(vat, Set, [thing])

    def test_a_ref_is_a_key_by_identity(self, box, place):
        vat, box = box
        one = box.do(lambda self: self.map.setdefault(spawn(counter), "one") and next(iter(self.map)))
        assert box.do(lambda self: (one in self.map, self.map[one])) == (True, "one")
        vat, box = again(place, vat)
        assert box.do(lambda self: [self.map[key] for key in self.map]) == ["one"]
        assert box.do(lambda self: next(iter(self.map))()) == 0

    def test_they_can_stand_in_each_other_and_in_plain_containers(self, box, place):
        vat, box = box

        def fill(self):
            self.map["inner"] = Map({"list": List([Set("ab"), {"plain": List("x")}])})
            self.value = [(self.map["inner"], {"again": self.map["inner"]})]

        box.do(fill)
        vat, box = again(place, vat)

        def check(self):
            inner = self.map["inner"]
            assert inner["list"][0] == set("ab")
            assert inner["list"][1]["plain"] == ["x"]
            assert self.value[0][0] is self.value[0][1]["again"] is inner
            inner["list"][0].add("c")
            return True

        assert box.do(check)
        vat, box = again(place, vat)
        assert box.do(lambda self: self.value[0][0]["list"][0] == set("abc"))

    def test_two_actors_can_share_one(self, place):
        def roots():
            table = Map({"a": 1})
            return spawn(keeper, table, more=[table]), spawn(Box, table)

        vat, one, two = place.spawn(roots, env=ENV)
        vat, one, two = place.restart(vat, env=ENV)
        two.parts()[0]["b"] = 2
        assert one.things() is two.parts()[0] is one.more()[0]
        vat, one, two = place.restart(vat, env=ENV)
        assert one.things() == {"a": 1, "b": 2}
        vat.close()

    def test_a_field_that_is_new_is_stored_with_what_comes_into_it(self, place):
        class Old(Actor, label="thing"):
            name: str = "x"

        class New(Actor, label="thing"):
            name: str = "x"
            map: Map = field(default_factory=Map)

            def get(self):
                return self.map

            def fail(self):
                self.map["lost"] = 1
                raise Boom

        vat, thing = place.spawn(lambda: spawn(Old), env=PersistenceEnv("test", Old))
        env = PersistenceEnv("test", New)
        vat, thing = place.restart(vat, env=env)
        with pytest.raises(Boom):
            thing.fail()
        thing.get()["a"] = 1
        vat, thing = place.restart(vat, env=env)
        assert thing.get() == {"a": 1}
        vat.close()

    def test_labels_of_pages_are_taken_and_not_shown(self):
        assert ENV.labels() == ["test.Box", "test.keeper", "test.counter"]
        for made in (
            lambda: PersistenceEnv("goblins", counter),
            lambda: PersistenceEnv({"goblins.table": counter}),
            lambda: PersistenceEnv("x", actor(label="goblins.entries")(lambda bcom: print)),
        ):
            with pytest.raises(DuplicateLabelError, match="goblins itself"):
                made()

    def test_the_hash_of_a_key_never_changes(self):
        """It stands in stores."""
        assert _pages.stable_hash("größe").hex() == "f4f8e155c9329ae9"
        assert _pages.stable_hash(-1).hex() == "2033b1e7a1b281b2"
        assert _pages.stable_hash((1, "a", b"c", None)).hex() == "b62f5fb24266ecda"

    def test_records_are_found_as_keys_by_other_processes_also_with_one_more_field(self, tmp_path):
        """What Python makes of their hashes differs from process to process."""
        for seed, arguments in enumerate((["fill"], ["look"], ["look", "more"])):
            child = [sys.executable, CHILD, tmp_path / "db", *arguments]
            subprocess.run(child, check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)})

    def test_what_has_an_equality_of_its_own_is_no_key(self):
        @dataclasses.dataclass(frozen=True)
        class Name:
            text: str

            def __eq__(self, other):
                return isinstance(other, Name) and self.text.lower() == other.text.lower()

            def __hash__(self):
                return hash(self.text.lower())

        table = Vat().run(Map)
        with pytest.raises(TypeError, match="its own __eq__"):
            table[Name("a")] = 1
        with pytest.raises(TypeError, match="its own __eq__"):
            table[(1, Name("a"))] = 1
        assert len(table) == 0

    def test_they_work_on_an_asyncio_vat(self):
        async def main():
            vat = AsyncioVat()
            table = vat.run(Map, {"a": 1})
            table["b"] = 2
            await asyncio.to_thread(table.__setitem__, "c", 3)
            assert await asyncio.to_thread(list, table.items()) == [("a", 1), ("b", 2), ("c", 3)]
            vat.close()

        asyncio.run(main())


class TestGarbage:
    def test_a_collection_goes_with_its_actor(self, vat):
        class Marker:
            pass

        marker = Marker()
        weak = weakref.ref(marker)
        box = vat.spawn(Box)
        with vat:
            table = Map({"marker": marker})
            table["me"] = table
            table["box"] = box
            box.put(table)
        del marker, table
        collect()
        assert weak() is not None
        del box
        collect()
        assert weak() is None

    def test_there_is_one_object_for_each_while_it_lives(self, box, place):
        vat, box = box
        table = box.parts()[0]
        table["inner"] = make_in(box, Map)
        assert box.parts()[0] is table
        vat, box = again(place, vat)
        inner = box.parts()[0]["inner"]
        assert box.parts()[0]["inner"] is inner


def test_a_vat_that_is_closed_says_so():
    vat = Vat("gone")
    table = make_in_vat(vat, Map, {"a": 1})
    vat.close()
    with pytest.raises(VatClosedError):
        table["a"]
    assert "VatClosedError" in repr(table)


def make_in(box, kind):
    return box.do(lambda _self: kind())
