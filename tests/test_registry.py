"""A registry joins the vats of several stores, so that references between them come back.

It is made anew at each start of the program, and given to each vat. Nothing else is needed: no order, no
second step.
"""

import weakref

import pytest
from goblins import (
    MemoryStore,
    PersistenceRegistry,
    RocksStore,
    send,
    spawn,
    spawn_persistent_vat,
)
from support import ENV, cell, collect, counter, must_not_run

PATIENCE = 30


@pytest.fixture(params=["memory", "rocks"])
def stores(request, tmp_path):
    """Two stores that can be opened again."""

    class Two:
        def __init__(self):
            self.open()

        def open(self):
            if request.param == "rocks":
                self.a, self.b = (RocksStore(tmp_path / name, sync=True) for name in "ab")
            elif not hasattr(self, "a"):
                self.a, self.b = MemoryStore(), MemoryStore()

        def restart(self, *vats):
            for vat in vats:
                vat.close()
            if request.param == "rocks":
                self.a.close()
                self.b.close()
            self.open()

    two = Two()
    yield two
    two.a.close()
    two.b.close()


def vat_a(stores, registry, roots=must_not_run):
    return spawn_persistent_vat(ENV, roots, stores.a, name="a", persistence_registry=registry)


def vat_b(stores, registry, roots=must_not_run):
    return spawn_persistent_vat(ENV, roots, stores.b, name="b", persistence_registry=registry)


def pair(stores, registry=None):
    a, keeper = vat_a(stores, registry, lambda: spawn(cell))
    b, target = vat_b(stores, registry, lambda: spawn(counter))
    keeper.put(target)
    b.drain(timeout=PATIENCE)
    return a, b


@pytest.mark.parametrize("first", "ab")
def test_vats_of_two_stores_find_each_other_in_any_order(stores, first):
    """REG-01, REG-04, REG-05, REG-08, PV-11"""
    stores.restart(*pair(stores))
    registry = PersistenceRegistry()
    if first == "a":
        a, keeper = vat_a(stores, registry)
        promise = keeper.get()
        b, target = vat_b(stores, registry)
    else:
        b, target = vat_b(stores, registry)
        a, keeper = vat_a(stores, registry)
        promise = keeper.get()
    assert promise.result(timeout=PATIENCE) is target
    assert registry.vats() == ["a", "b"]
    assert len(registry) == 2


def test_an_opening_returns_when_the_vat_is_registered(stores):
    """REG-03"""
    registry = PersistenceRegistry()
    a, _ = vat_a(stores, registry, lambda: spawn(cell))
    assert registry.vats() == ["a"]


def test_without_a_registry_it_stays_a_promise_and_nothing_is_lost(stores):
    """REG-06, REG-07"""
    stores.restart(*pair(stores))
    a, keeper = vat_a(stores, None)
    b, _ = vat_b(stores, None)
    promise = keeper.get()
    with pytest.raises(TimeoutError):
        promise.result(timeout=0)
    keeper.put([promise])
    stores.restart(a, b)
    registry = PersistenceRegistry()
    a, keeper = vat_a(stores, registry)
    b, target = vat_b(stores, registry)
    assert keeper.get()[0].result(timeout=PATIENCE) is target


def test_pending_ones_are_listed_with_who_and_what(stores):
    """REG-06"""
    stores.restart(*pair(stores))
    registry = PersistenceRegistry()
    assert registry.pending() == []
    a, keeper = vat_a(stores, registry)
    promise = keeper.get()
    (pending,) = registry.pending()
    assert (pending.slot, pending.asked_by) == (0, "a")
    assert pending.vat == pending.id
    assert len(bytes.fromhex(pending.id)) == 16
    assert "1 waited for" in repr(registry)
    b, target = vat_b(stores, registry)
    assert promise.result(timeout=PATIENCE) is target
    assert registry.pending() == []
    b.close()
    a.close()
    a, keeper = vat_a(stores, registry)
    keeper.get()
    (pending,) = registry.pending()
    assert pending.vat == "b", "it was there before, so its name is known"


def test_what_a_closed_vat_has_asked_for_is_not_waited_for_any_more(stores):
    stores.restart(*pair(stores))
    registry = PersistenceRegistry()
    a, keeper = vat_a(stores, registry)
    keeper.get()
    assert len(registry.pending()) == 1
    a.close()
    assert registry.pending() == []


def test_registering_again_replaces(stores):
    """REG-11, LIM-31: one vat can be closed and opened again while the registry and the others go on."""
    stores.restart(*pair(stores))
    registry = PersistenceRegistry()
    b, old = vat_b(stores, registry)
    b.close()
    assert len(registry) == 0
    assert bool(registry)
    b, target = vat_b(stores, registry)
    a, keeper = vat_a(stores, registry)
    assert keeper.get().result(timeout=PATIENCE) is target
    assert target is not old
    assert registry.vats() == ["a", "b"]


def test_an_actor_spawned_after_the_registration_is_found(stores):
    """REG-09, LIM-31"""
    registry = PersistenceRegistry()
    a, keeper = vat_a(stores, registry, lambda: spawn(cell))
    b, root = vat_b(stores, registry, lambda: spawn(cell))
    keeper.put(b.spawn(counter, 4))
    b.drain(timeout=PATIENCE)
    a.close()
    late = b.spawn(counter, 5)
    root.put(late)
    a, keeper = vat_a(stores, registry)
    assert send(keeper.get()).result(timeout=PATIENCE) == 4
    keeper.put(late)
    a.close()
    a, keeper = vat_a(stores, registry)
    assert keeper.get().result(timeout=PATIENCE) is late


def test_a_registry_keeps_no_actor_and_no_vat(stores):
    """REG-10, LIM-31"""
    registry = PersistenceRegistry()
    b, root = vat_b(stores, registry, lambda: spawn(cell))
    passing = b.spawn(counter)
    seen = weakref.ref(passing)
    del passing
    collect()
    assert seen() is None
    b.close()
    vat = weakref.ref(b)
    del b, root
    collect()
    assert vat() is None
    assert len(registry) == 0


def test_a_registry_is_shared_by_many_vats(stores):
    names = [store + part for store in "ab" for part in "pqr"]

    def open_all(order, roots):
        registry, vats, opened = PersistenceRegistry(), [], {}
        for name in order:
            part = getattr(stores, name[0]).vat(name[1])
            vat, opened[name] = spawn_persistent_vat(
                ENV, roots, part, name=name, persistence_registry=registry
            )
            vats.append(vat)
        return vats, opened

    vats, roots = open_all(names, lambda: spawn(cell))
    for root in roots.values():
        root.put([other for other in roots.values() if other is not root])
    stores.restart(*vats)
    vats, roots = open_all(reversed(names), must_not_run)
    for name in names:
        found = [promise.result(timeout=PATIENCE) for promise in roots[name].get()]
        assert found == [roots[other] for other in names if other != name]


def test_something_else_as_a_registry_is_an_error(stores):
    with pytest.raises(TypeError, match="PersistenceRegistry"):
        spawn_persistent_vat(ENV, lambda: spawn(cell), stores.a, persistence_registry={})


def test_a_vat_that_could_not_be_opened_is_not_registered(stores):
    registry = PersistenceRegistry()
    with pytest.raises(ZeroDivisionError):
        spawn_persistent_vat(ENV, lambda: 1 / 0, stores.a, persistence_registry=registry)
    assert len(registry) == 0
