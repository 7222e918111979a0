"""Map, List and Set: they do what dict, list and set do."""

import collections.abc

import pytest
from goblins import (
    List,
    Map,
    Set,
)
from support import make_in_vat


class TestMap:
    def test_it_does_what_a_dict_does(self, vat):
        it = make_in_vat(vat, Map, {"a": 1})
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
        it = make_in_vat(vat, Map)
        for use in (lambda: it["no"], lambda: it.pop("no"), lambda: it.__delitem__("no"), it.popitem):
            with pytest.raises(KeyError):
                use()
        for use in (lambda: it[[]], lambda: it.get({}), lambda: [] in it, lambda: it.__setitem__([], 1)):
            with pytest.raises(TypeError, match="unhashable"):
                use()
        with pytest.raises(TypeError):
            hash(it)

    def test_keys_are_equal_as_in_a_dict(self, vat):
        it, plain = make_in_vat(vat, Map), {}
        nan = float("nan")
        keys = [1, 1.0, True, 0, -0.0, False, 2**70, 2.0**70, "1", b"1", (1, 2), (1.0, 2), 2.5, nan, nan]
        keys += [frozenset({1, 2}), frozenset({1.0, 2}), None, float("inf"), -1, -2, 1 + 0j, float("nan")]
        for number, key in enumerate(keys):
            it[key] = plain[key] = number
        assert repr(list(it.items())) == repr(list(plain.items()))
        assert it[nan] == plain[nan]
        assert float("nan") not in it

    def test_keys_without_a_value_have_none_and_views_tell_their_map(self, vat):
        it = make_in_vat(vat, Map.fromkeys, "ab")
        assert it == {"a": None, "b": None}
        assert it.keys().mapping is it.items().mapping is it.values().mapping is it

    def test_views_are_live(self, vat):
        it = make_in_vat(vat, Map, {"a": 1, "b": 2})
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
        it = make_in_vat(vat, Map, {"a": 1})
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
        assert make_in_vat(vat, Map.fromkeys, "ab", 0) == {"a": 0, "b": 0}
        assert it == it.copy()
        assert it == make_in_vat(vat, Map, it)

    def test_a_change_during_an_iteration_is_noticed(self, vat):
        it = make_in_vat(vat, Map, dict.fromkeys(range(200), 0))

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
        it = make_in_vat(vat, Map, dict.fromkeys(range(200), 0))
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
        it = make_in_vat(vat, Map)
        with pytest.raises(TypeError):
            it.update([("a", 1), ([], 2)])
        assert it == {}


class TestList:
    def test_it_does_what_a_list_does(self, vat):
        it = make_in_vat(vat, List, "abc")
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
        it = make_in_vat(vat, List, "ab")
        uses = (lambda: it[2], lambda: it[-3], lambda: it.pop(2), lambda: it.__delitem__(2))
        for use in (*uses, lambda: it.__setitem__(2, 0), make_in_vat(vat, List).pop):
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

    def test_it_is_repeated_and_ordered_as_a_list_is(self, vat):
        it = make_in_vat(vat, List, [1, 2])
        same = it
        assert it * 2 == 2 * it == [1, 2, 1, 2]
        assert type(it * 2) is List
        assert it * 0 == it * -1 == []
        it *= 100
        assert it is same
        assert it == [1, 2] * 100
        it *= 1
        assert len(it) == 200
        it *= True
        assert len(it) == 200
        it *= -1
        assert it == []
        for wrong in (2.0, "2", None, [1]):
            with pytest.raises(TypeError):
                it *= wrong
        it += [1, 2]
        assert it < [1, 3]
        assert it <= [1, 2]
        assert it > [1]
        assert it >= [0, 9]
        assert it > [0]
        assert not it < [1, 2]
        with pytest.raises(TypeError, match="not supported"):
            assert it < (1, 2)
        with pytest.raises(TypeError, match="not supported"):
            assert it < ["a"]

    def test_what_is_appended_during_an_iteration_is_seen(self, vat):
        it = make_in_vat(vat, List, range(100))
        with vat:
            seen = [it.append(item) or item for item in it if len(it) < 300]
        assert seen == [item % 100 for item in range(200)]

    def test_a_page_that_is_divided_during_an_iteration_is_read_to_its_end(self, vat):
        it = make_in_vat(vat, List, range(100))
        with vat:
            for index, item in enumerate(it):
                assert item == index
                it[index] = "long" * 300
        assert list(it) == ["long" * 300] * 100


class TestSet:
    def test_it_does_what_a_set_does(self, vat):
        it = make_in_vat(vat, Set, "hello")
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

    def test_its_operators_take_sets_only(self, vat):
        it = make_in_vat(vat, Set, "a")
        with pytest.raises(TypeError):
            it |= ["b"]
        with pytest.raises(TypeError):
            it &= ["b"]
        with pytest.raises(TypeError):
            it -= ["b"]
        with pytest.raises(TypeError):
            it ^= ["b"]
        assert it == {"a"}
        it &= {"a", "b"}
        it ^= {"b"}
        assert it == {"a", "b"}

    def test_a_change_during_an_iteration_is_noticed(self, vat):
        it = make_in_vat(vat, Set, range(10))
        with pytest.raises(RuntimeError, match="Set changed size during iteration"), vat:
            for member in it:
                it.add(member + 100)


@pytest.mark.parametrize("case", ["Map", "Set", "Set -=", "List"])
def test_an_operation_that_fails_in_its_midst_has_changed_nothing(vat, case):
    bad = [[]]  # It can't be a key.

    def in_a_turn():
        match case:
            case "Map":
                it = Map({"a": 1})
                with pytest.raises(TypeError):
                    it.update([("b", 2), ("a", 3), (bad, 4)])
                assert (dict(it), len(it)) == ({"a": 1}, 1)
                it.update(b=2)
                assert dict(it) == {"a": 1, "b": 2}
            case "Set" | "Set -=":
                it = Set(range(10))
                with pytest.raises(TypeError):
                    if case == "Set":
                        it.update([10, 11, bad])
                    else:
                        it.difference_update([1, 2, bad])
                assert (set(it), len(it)) == (set(range(10)), 10)
            case "List":
                it = List(range(300))
                with pytest.raises(ValueError, match="extended slice"):
                    it[::2] = [1]
                with pytest.raises(TypeError):
                    it.sort(key=lambda item: "x" if item == 200 else item)
                assert list(it) == list(range(300))

    vat.run(in_a_turn)
