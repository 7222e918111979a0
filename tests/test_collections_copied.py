"""The modules `copy` and `dataclasses` copy Map, List and Set as they copy dict, list and set."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from goblins import FarCallError, List
from support import Box


@dataclasses.dataclass
class Parts:
    map: Any
    list: Any
    set: Any


def fill(box):
    inner = List([[1]])
    box.map.update({"a": [1], "inner": inner})
    box.list.extend([[1], inner])
    box.set.update([1, 2])


@pytest.fixture(params=["inside", "outside", "in a call from outside"])
def box(request, vat):
    box = vat.spawn(Box)
    box.do(fill)
    if request.param != "inside":
        yield box.do if request.param == "in a call from outside" else lambda f: f(Parts(*box.parts()))
        return
    with vat:
        yield lambda f: f(Parts(*box.parts()))


@pytest.mark.parametrize("kind", ["map", "list", "set"])
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_a_copy_is_another_with_the_same_in_it(box, kind, how):
    def look(parts):
        whole = getattr(parts, kind)
        made = how(whole)
        assert type(made) is type(whole)
        assert made is not whole
        assert made == whole
        made.clear()
        assert len(whole) == 2

    box(look)


def test_a_deep_copy_copies_the_collections_in_it(box):
    def look(parts):
        inner = parts.list[1]
        made = copy.deepcopy([parts.list, parts.map, inner])
        assert made[0][1] is made[1]["inner"] is made[2]
        assert made[2] is not inner
        made[2].append(3)
        assert list(inner) == [[1]]
        assert copy.copy(parts.map)["inner"] is inner

    box(look)


def test_one_that_leads_to_itself(box):
    def look(parts):
        parts.map["self"] = parts.map
        made = copy.deepcopy(parts.map)
        assert made["self"] is made
        assert made is not parts.map

    box(look)


def test_dataclasses_copy_them_too(box):
    def look(parts):
        held = Parts(parts.map, parts.list, parts.set)
        made = dataclasses.asdict(held)
        assert made == {"map": held.map, "list": held.list, "set": held.set}
        assert made["map"] is not held.map
        assert dataclasses.astuple(held)[2] is not held.set

    box(look)


def test_in_a_turn_of_another_vat_they_are_refused(vat, other_vat):
    box = vat.spawn(Box)
    for part in box.parts():
        for how in (copy.copy, copy.deepcopy):
            with pytest.raises(FarCallError):
                other_vat.run(how, part)


def test_they_are_not_pickled(vat):
    for part in vat.spawn(Box).parts():
        with pytest.raises(TypeError, match="pickle a dict, list or set of what is in it"):
            pickle.dumps(part)
