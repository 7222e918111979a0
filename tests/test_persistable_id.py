"""Persistable ids: names of actors that stay the same over restarts, and give no access."""

import copy
import pickle

import pytest
from goblins import (
    GoblinsError,
    PersistableId,
    Vat,
    persistable_id,
    promise_and_resolver,
    send,
    spawn,
)
from support import Boom, cell, counter


def test_two_ids_of_one_actor_are_equal_and_those_of_others_are_not(place):
    """OID-01, OID-02"""
    vat, one, other = place.spawn(lambda: (spawn(counter), spawn(counter)))
    assert persistable_id(one) == persistable_id(one)
    assert persistable_id(one) != persistable_id(other)
    assert hash(persistable_id(one)) == hash(persistable_id(one))
    assert persistable_id(one) != "something else"


def test_one_made_before_a_restart_is_equal_to_one_made_after_it(place):
    """OID-02"""
    vat, one, other = place.spawn(lambda: (spawn(counter), spawn(counter)))
    before = persistable_id(one), persistable_id(other)
    vat, one, other = place.restart(vat)
    assert (persistable_id(one), persistable_id(other)) == before


def test_it_can_be_stored_and_is_there_at_once(place):
    """OID-03"""
    vat, keeper, one = place.spawn(lambda: (spawn(cell), spawn(counter)))
    name = persistable_id(one)
    keeper.put([name, {name: "key"}, {name}])
    vat, keeper, one = place.restart(vat)
    back, table, group = keeper.get()
    assert isinstance(back, PersistableId)
    assert back == name == persistable_id(one)
    assert table[persistable_id(one)] == "key"
    assert name in group


def test_that_of_an_actor_of_another_vat_can_be_stored_without_waiting_for_that(place):
    """OID-03"""
    a, keeper = place.spawn(lambda: spawn(cell), part="a")
    b, one = place.spawn(lambda: spawn(counter), part="b")
    keeper.put(persistable_id(one))
    a = place.restart(a, b, part="a")
    back = a[1].get()
    b, one = place.spawn(lambda: None, part="b")
    assert back == persistable_id(one)


def test_equal_slots_of_two_vats_have_different_ids(place):
    a, one = place.spawn(lambda: spawn(counter), part="a")
    b, other = place.spawn(lambda: spawn(counter), part="b")
    assert persistable_id(one) != persistable_id(other)


def test_it_gives_no_access_and_shows_no_parts(place):
    """OID-04"""
    vat, one = place.spawn(lambda: spawn(counter))
    name = persistable_id(one)
    with pytest.raises(TypeError):
        send(name)
    with pytest.raises(TypeError):
        name()
    assert not [attribute for attribute in dir(name) if not attribute.startswith("_")]
    with pytest.raises(TypeError):
        PersistableId()
    with pytest.raises(AttributeError):
        name.slot = 1
    with pytest.raises(TypeError):
        pickle.dumps(name)
    assert copy.deepcopy(name) is name


def test_an_actor_of_a_vat_without_store_has_none(vat):
    """OID-05, OID-06"""
    with pytest.raises(GoblinsError, match="counter#0 of vat home has no persistable id"):
        persistable_id(vat.spawn(counter))


def test_a_promise_and_other_things_have_none(vat):
    """OID-07"""
    promise, _resolver = promise_and_resolver()
    with pytest.raises(TypeError, match="Promise"):
        persistable_id(promise)
    for other in (None, 1, "text", Vat):
        with pytest.raises(TypeError, match="only a Ref"):
            persistable_id(other)


def test_the_id_of_an_actor_that_is_never_stored_is_not_that_of_a_later_one(place):
    vat, root = place.spawn(lambda: spawn(cell))
    passing = vat.run(lambda: persistable_id(spawn(counter)))
    root.put(passing)
    vat, root = place.restart(vat)
    later = vat.run(lambda: [persistable_id(spawn(counter)) for _ in range(300)])
    assert passing not in later


def test_the_ids_of_a_failed_founding_are_not_kept(place):
    ids = []

    def fail():
        ids.extend(persistable_id(spawn(counter)) for _ in range(3))
        raise Boom

    with pytest.raises(Boom):
        place.spawn(fail)
    assert len(set(ids)) == 3
    vat, *made = place.spawn(lambda: [spawn(counter) for _ in range(3)])
    kept = [persistable_id(ref) for ref in made]
    assert not set(kept) & set(ids)
    _, *made = place.restart(vat)
    assert [persistable_id(ref) for ref in made] == kept


def test_an_actor_can_be_named_in_the_turn_that_founds_its_vat(place):
    """A vat has its id before its first turn ends, so that what it makes can name it."""

    def named():
        inner = spawn(counter)
        return spawn(cell, (persistable_id(inner), inner))

    vat, root = place.spawn(named)
    identifier, inner = root.get()
    assert identifier == persistable_id(inner)
    _, root = place.restart(vat)
    assert root.get()[0] == identifier == persistable_id(root.get()[1])
