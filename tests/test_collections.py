"""Map, List and Set: what they have of dict, list and set, and what they have of actors (G1, G5, G6, G8)."""

import collections.abc
import gc
import itertools
import weakref

import pytest
from goblins import (
    Actor,
    AsyncioVat,
    DuplicateLabelError,
    FarCallError,
    List,
    Map,
    MemoryStore,
    NoSuchActorError,
    NotPortableError,
    NoTurnError,
    PersistenceEnv,
    Ref,
    Set,
    Vat,
    _pages,
    actor,
    field,
    methods,
    send,
    spawn,
    spawn_persistent_vat,
)
from support import Boom, RocksPlace, caller, collect, counter, echo, failing_turn

KINDS = [Map, List, Set]


class Box(Actor):
    """Holds anything."""

    map: Map = field(default_factory=Map)
    list: List = field(default_factory=List)
    set: Set = field(default_factory=Set)
    value: object = None

    def parts(self):
        return self.map, self.list, self.set

    def put(self, value):
        self.value = value

    def get(self):
        return self.value

    def do(self, change):
        return change(self)


@actor
def keeper(bcom, things, more=()):
    return methods(things=lambda: things, more=lambda: more)


ENV = PersistenceEnv("test", Box, keeper, counter)


def make(vat, kind, *args):
    return vat.run(kind, *args)


@pytest.fixture
def box(place):
    """The vat of a stored box, and the box."""
    vat, box = place.spawn(lambda: spawn(Box), env=ENV)
    yield vat, box
    vat.close()


def again(place, vat):
    return place.restart(vat, env=ENV)


class TestMap:
    def test_it_does_what_a_dict_does(self, vat):
        it = make(vat, Map, {"a": 1})
        assert isinstance(it, collections.abc.MutableMapping)
        it["b"] = 2
        it["a"] = 3
        assert it["a"] == 3
        assert it["b"] == 2
        assert len(it) == 2
        assert "a" in it
        assert "c" not in it
        assert it.get("c") is None
        assert it.get("c", 5) == 5
        assert it.get("a", 5) == 3
        assert it.setdefault("a", 9) == 3
        assert it.setdefault("d", 9) == 9
        assert list(it) == ["a", "b", "d"]
        assert list(reversed(it)) == ["d", "b", "a"]
        assert it.pop("b") == 2
        assert it.pop("b", 7) == 7
        assert it.popitem() == ("d", 9)
        it.update([("x", 1)], y=2)
        it.update({"z": 3})
        assert dict(it) == {"a": 3, "x": 1, "y": 2, "z": 3}
        del it["x"]
        assert it == {"a": 3, "y": 2, "z": 3}
        assert it != {"a": 3}
        assert it != 5
        it.clear()
        assert not it
        assert list(it) == []
        assert it == {}

    def test_what_is_missing_is_the_error_that_a_dict_raises(self, vat):
        it = make(vat, Map)
        for use in (lambda: it["no"], lambda: it.pop("no"), lambda: it.__delitem__("no"), it.popitem):
            with pytest.raises(KeyError):
                use()
        for use in (lambda: it[[]], lambda: it.get({}), lambda: [] in it, lambda: it.__setitem__([], 1)):
            with pytest.raises(TypeError, match="unhashable"):
                use()
        with pytest.raises(TypeError):
            hash(it)

    def test_keys_are_equal_as_in_a_dict(self, vat):
        it, plain = make(vat, Map), {}
        nan = float("nan")
        keys = [1, 1.0, True, 0, -0.0, False, 2**70, 2.0**70, "1", b"1", (1, 2), (1.0, 2), 2.5, nan, nan]
        keys += [frozenset({1, 2}), frozenset({1.0, 2}), None, float("inf"), -1, -2, 1 + 0j, float("nan")]
        for number, key in enumerate(keys):
            it[key] = plain[key] = number
        assert repr(list(it.items())) == repr(list(plain.items()))
        assert it[nan] == plain[nan]
        assert float("nan") not in it

    def test_a_ref_is_a_key_by_identity(self, box, place):
        vat, box = box
        one = box.do(lambda self: self.map.setdefault(spawn(counter), "one") and next(iter(self.map)))
        assert box.do(lambda self: (one in self.map, self.map[one])) == (True, "one")
        vat, box = again(place, vat)
        assert box.do(lambda self: [self.map[key] for key in self.map]) == ["one"]
        assert box.do(lambda self: next(iter(self.map))()) == 0

    def test_views_are_live(self, vat):
        it = make(vat, Map, {"a": 1, "b": 2})
        keys, items, values = it.keys(), it.items(), it.values()
        it["c"] = 3
        assert list(keys) == ["a", "b", "c"]
        assert list(values) == [1, 2, 3]
        assert list(items) == [("a", 1), ("b", 2), ("c", 3)]
        assert next(reversed(items)) == ("c", 3)
        assert next(reversed(keys)) == "c"
        assert next(reversed(values)) == 3
        assert "c" in keys
        assert ("c", 3) in items
        assert 3 in values
        assert 4 not in values
        assert len(keys) == len(items) == len(values) == 3
        assert keys & {"a", "z"} == {"a"}

    def test_unions_are_new_maps(self, vat):
        it = make(vat, Map, {"a": 1})
        both, turned, copy = it | {"b": 2}, {"a": 0, "b": 2} | it, it.copy()
        assert both == {"a": 1, "b": 2}
        assert turned == {"a": 1, "b": 2}
        assert type(both) is type(turned) is type(copy) is Map
        copy["x"] = 1
        assert it == {"a": 1}
        same = it
        it |= {"z": 5}
        assert same is it
        assert it == {"a": 1, "z": 5}
        assert make(vat, Map.fromkeys, "ab", 0) == {"a": 0, "b": 0}
        assert it == it.copy()
        assert it == make(vat, Map, it)

    def test_a_change_during_an_iteration_is_noticed(self, vat):
        it = make(vat, Map, dict.fromkeys(range(200), 0))

        def add():
            for key in it:
                it[f"new {key}"] = 1

        def delete():
            for _ in it.items():
                del it[199]

        def swap():
            for _ in it.values():
                del it[100]
                it["other"] = 1

        for change in (add, delete, swap):
            with pytest.raises(RuntimeError, match="changed size during iteration"), vat:
                change()
            with pytest.raises(RuntimeError, match="changed size during iteration"):
                change()

    def test_values_may_change_during_an_iteration(self, vat):
        it = make(vat, Map, dict.fromkeys(range(200), 0))
        with vat:
            for key, value in it.items():
                assert value == (1 if key else 0)
                it[key] = 5
                if key < 199:
                    it[key + 1] = 1
            for key in it:
                it[key] = "long" * 500
        assert len(it) == 200
        assert set(it.values()) == {"long" * 500}

    def test_an_error_in_the_middle_of_an_update_leaves_nothing(self, vat):
        it = make(vat, Map)
        with pytest.raises(TypeError):
            it.update([("a", 1), ([], 2)])
        assert it == {}


class TestList:
    def test_it_does_what_a_list_does(self, vat):
        it = make(vat, List, "abc")
        assert isinstance(it, collections.abc.MutableSequence)
        it.append("d")
        it.insert(0, "first")
        it.insert(-1, "before the last")
        it.insert(99, "last")
        assert list(it) == ["first", "a", "b", "c", "before the last", "d", "last"]
        assert it[0] == "first"
        assert it[-1] == "last"
        assert it[1:3] == ["a", "b"]
        assert it[::-3] == it[:][::-3]
        it[0] = 0
        del it[-1], it[4]
        assert it == [0, "a", "b", "c", "d"]
        assert it != [0]
        assert it != (0, "a", "b", "c", "d")
        assert it.pop() == "d"
        assert it.pop(0) == 0
        it.extend(iter("ab"))
        it += "z"
        assert it.index("b") == 1
        assert it.index("b", 2) == 4
        assert it.count("a") == 2
        assert "z" in it
        it.remove("a")
        assert it == ["b", "c", "a", "b", "z"]
        it.reverse()
        assert it == ["z", "b", "a", "c", "b"]
        it.sort()
        it.sort(key=ord, reverse=True)
        assert it == ["z", "c", "b", "b", "a"]
        assert list(reversed(it)) == ["a", "b", "b", "c", "z"]
        it[1:3] = [1, 2, 3]
        it[::2] = "xyz"
        assert it == ["x", 1, "y", 3, "z", "a"][: len(it)]
        assert [*it, 1] == [*it, 1]
        assert [1, *it] == [1, *it]
        del it[::2]
        it.clear()
        assert it == []
        assert not it

    def test_what_is_not_there_is_the_error_that_a_list_raises(self, vat):
        it = make(vat, List, "ab")
        uses = (lambda: it[2], lambda: it[-3], lambda: it.pop(2), lambda: it.__delitem__(2))
        for use in (*uses, lambda: it.__setitem__(2, 0), make(vat, List).pop):
            with pytest.raises(IndexError):
                use()
        for use in (
            lambda: it.index("z"),
            lambda: it.remove("z"),
            lambda: it.__setitem__(slice(0, 2, 2), "xyz"),
        ):
            with pytest.raises(ValueError, match="not in|assign sequence"):
                use()
        with pytest.raises(TypeError, match="integers or slices"):
            it["x"]
        with pytest.raises(TypeError):
            hash(it)

    def test_what_is_appended_during_an_iteration_is_seen(self, vat):
        it = make(vat, List, range(100))
        with vat:
            seen = [it.append(item) or item for item in it if len(it) < 300]
        assert seen == [item % 100 for item in range(200)]

    def test_a_page_that_is_divided_during_an_iteration_is_read_to_its_end(self, vat):
        it = make(vat, List, range(100))
        with vat:
            for index, item in enumerate(it):
                assert item == index
                it[index] = "long" * 300
        assert list(it) == ["long" * 300] * 100


class TestSet:
    def test_it_does_what_a_set_does(self, vat):
        it = make(vat, Set, "hello")
        assert isinstance(it, collections.abc.MutableSet)
        assert list(it) == ["h", "e", "l", "o"]
        assert list(reversed(it)) == ["o", "l", "e", "h"]
        it.add("x")
        it.add("h")
        it.discard("nothing")
        it.remove("x")
        with pytest.raises(KeyError):
            it.remove("x")
        assert it == set("helo")
        assert len(it) == 4
        assert "h" in it
        assert it != {"h"}
        assert it != 4
        assert it & set("hex") == set("he")
        assert it | {"z"} == set("heloz")
        assert it - {"h"} == set("elo")
        assert set("hex") - it == {"x"}
        assert it ^ set("hex") == set("lox")
        assert {"z"} | it == set("heloz")
        assert it.union("ab", "c") == set("heloabc")
        assert it.intersection("he", "e") == {"e"}
        assert it.difference("he", "l") == {"o"}
        assert it.symmetric_difference("hex") == set("lox")
        assert it <= set("hello!")
        assert it < set("hello!")
        assert it >= set("he")
        assert not it > set("helo")
        assert it.issubset("hello!")
        assert it.issuperset("he")
        assert it.isdisjoint("xyz")
        assert type(it | {"z"}) is type(it.copy()) is Set
        it.intersection_update("helo", "hel")
        it.difference_update("h")
        it.symmetric_difference_update("ex")
        it.update("a", "b")
        assert it == set("lxab")
        assert it.pop() == "b"
        it |= {"q"}
        it -= {"a"}
        assert it == set("lxq")
        it.clear()
        with pytest.raises(KeyError):
            it.pop()

    def test_a_change_during_an_iteration_is_noticed(self, vat):
        it = make(vat, Set, range(10))
        with pytest.raises(RuntimeError, match="Set changed size during iteration"), vat:
            for member in it:
                it.add(member + 100)


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
        assert repr(make(vat, Map, {1: "a"})) == "<Map of 1: {1: 'a'}>"
        assert repr(make(vat, Map, {i: i for i in range(9)})) == (
            "<Map of 9: {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, ...}>"
        )
        assert repr(make(vat, List, range(9))) == "<List of 9: [0, 1, 2, 3, 4, ...]>"
        assert repr(make(vat, Set, "a")) == "<Set of 1: {'a'}>"
        it = make(vat, Map)
        it["me"] = it
        assert repr(it) == "<Map of 1: {'me': <Map ...>}>"

    def test_what_comes_in_and_what_goes_out_is_a_copy(self, vat):
        inner = [1, {"a": [2]}]
        table, items = make(vat, Map), make(vat, List)
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
        table, items, members = make(vat, Map, {"a": 1}), make(vat, List, "a"), make(vat, Set, "a")
        uses = [lambda: table["a"], lambda: table.update(b=1), lambda: list(table), lambda: len(items)]
        uses += [lambda: items.append(1), lambda: members.add(1), lambda: members | {1}, lambda: table == {}]
        for use in uses:
            with pytest.raises(FarCallError, match="vat home, and this is a turn of vat abroad"):
                other_vat.run(use)
        assert "can't be read here" in other_vat.run(repr, table)
        assert table == {"a": 1}
        assert items == ["a"]

    def test_they_can_be_sent_to_another_vat_and_back(self, vat, other_vat):
        table = make(vat, Map, {"a": 1})
        assert send(other_vat.spawn(echo), table).result(5) is table
        assert send(vat.spawn(caller), lambda: table["a"]).result(5) == 1

    def test_one_of_another_vat_is_not_stored(self, box, vat):
        stored, box = box
        with pytest.raises(NotPortableError, match="vat home"):
            box.put(make(vat, Map))
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
        assert make(vat, Map, {thing: thing})[thing] is thing
        assert make(vat, List, [thing])[0] is thing
        assert thing in make(vat, Set, [thing])

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

    def test_they_work_on_an_asyncio_vat(self):
        import asyncio

        async def main():
            vat = AsyncioVat()
            table = vat.run(Map, {"a": 1})
            table["b"] = 2
            await asyncio.to_thread(table.__setitem__, "c", 3)
            assert await asyncio.to_thread(list, table.items()) == [("a", 1), ("b", 2), ("c", 3)]
            vat.close()

        asyncio.run(main())


class TestWhatIsWritten:
    @pytest.fixture
    def records(self):
        """A function that tells how many actors' records a call writes."""
        store = MemoryStore()
        vat, box = spawn_persistent_vat(ENV, lambda: spawn(Box), store)
        yield box, lambda change: pages_changed(vat, change)
        vat.close()
        store.close()

    def test_a_new_value_for_a_key_changes_one_page(self, records):
        box, changed = records
        table = box.parts()[0]
        table.update((number, number) for number in range(5000))
        for key in (0, 2500, 4999):
            assert changed(lambda key=key: table.__setitem__(key, "new")) == 1
        assert changed(lambda: table.__setitem__(0, "new")) == 0
        assert changed(lambda: table.get("no")) == 0

    def test_a_new_key_and_a_deletion_change_three_pages(self, records):
        box, changed = records
        table = box.parts()[0]
        table.update((number, number) for number in range(5000))
        counts = [changed(lambda key=key: table.__setitem__(key, 1)) for key in map(str, range(30))]
        assert counts.count(3) >= 25
        assert max(counts) <= 8
        assert changed(lambda: table.__delitem__(2500)) == 3

    def test_a_list_changes_few_pages(self, records):
        box, changed = records
        items = box.parts()[1]
        items.extend(range(20_000))
        assert changed(lambda: items.__setitem__(10_000, "new")) == 1
        counts = [changed(lambda: items.append(1)) for _ in range(30)]
        assert counts.count(2) >= 25
        assert max(counts) <= 5
        assert changed(items.pop) == 2
        assert changed(lambda: items.insert(10_000, "x")) <= 6

    def test_pages_that_become_empty_go(self, vat):
        collect()
        before = refs_alive()
        table, items, members = make(vat, Map), make(vat, List), make(vat, Set)
        few = refs_alive() - before
        with vat:
            table.update((number, number) for number in range(10_000))
            items.extend(range(10_000))
            members.update(range(10_000))
        assert refs_alive() - before > 300
        with vat:
            for number in range(10_000):
                del table[number]
                members.remove(number)
                items.pop()
        collect()
        assert refs_alive() - before == few
        with vat:
            for number in range(3000):
                table[number] = items.append(number)
                if number >= 100:
                    del table[number - 100], items[0]
        assert refs_alive() - before < 40
        assert list(table) == list(items) == list(range(2900, 3000))

    def test_pages_stay_small_whatever_their_values_are(self, records):
        box, _ = records
        table = box.parts()[0]
        table.update((number, "") for number in range(500))
        for number in range(500):
            table[number] = "x" * 1000
        assert box.do(lambda self: heaviest(self.map)) <= 2 * _pages.MOST_BYTES
        assert list(table) == list(range(500))

    def test_what_was_not_touched_is_not_in_memory(self, tmp_path):
        place = RocksPlace(tmp_path)
        vat, box = place.spawn(lambda: spawn(Box), env=ENV)
        box.parts()[0].update((f"key {number}", number) for number in range(50_000))
        del box
        vat, box = again(place, vat)
        collect()
        before = refs_alive()
        table = box.parts()[0]
        assert table["key 777"] == 777
        assert len(table) == 50_000
        assert refs_alive() - before < 400
        vat.close()
        place.store.close()


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


def make_in(box, kind):
    return box.do(lambda _self: kind())


def refs_alive():
    return sum(type(thing) is Ref for thing in gc.get_objects())


def all_pages(collection):
    """The states of all pages of a collection, by page."""
    found, todo = {}, [collection._root]
    while todo:
        page = todo.pop()
        state = _pages_state(page)
        found[page] = state
        for part in state[1:]:
            parts = part if isinstance(part, list) else [part]
            todo.extend(one for one in parts if type(one) is Ref and one not in found)
    return found


def _pages_state(page):
    from goblins import _goblins

    return _goblins._page(page)


def heaviest(table):
    return max(
        sum(_pages.weight(key) + _pages.weight(value) for key, value in state[3].items())
        for state in all_pages(table).values()
        if len(state) == 4 and isinstance(state[3], dict)
    )


def pages_changed(vat, change):
    """How many pages a change writes: those that are others than before, and the new ones."""
    seen = {}
    collections = [it for it in gc.get_objects() if type(it) in KINDS and it._root is not None]
    roots = [it for it in collections if near(vat, it)]
    with vat:
        for it in roots:
            seen.update(all_pages(it))
    change()
    with vat:
        now = dict(itertools.chain.from_iterable(all_pages(it).items() for it in roots))
    return sum(page not in seen or seen[page] is not state for page, state in now.items())


def near(vat, it):
    try:
        return vat.run(it._is_near)
    except FarCallError:
        return False


def test_a_vat_that_is_closed_says_so():
    from goblins import VatClosedError

    vat = Vat("gone")
    table = make(vat, Map, {"a": 1})
    vat.close()
    with pytest.raises(VatClosedError):
        table["a"]
    assert "VatClosedError" in repr(table)
