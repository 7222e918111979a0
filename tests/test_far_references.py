"""A reference to an actor of another vat is stored with the state that holds it.

After a restart it is a promise for that very actor: fulfilled as soon as the other vat is open, whichever
comes first. The vats of one store find each other by themselves.
"""

import logging

import pytest
from goblins import (
    Map,
    MemoryStore,
    NoSuchActorError,
    NotPortableError,
    PersistenceEnv,
    PersistenceRegistry,
    Promise,
    Ref,
    Set,
    Vat,
    VatClosedError,
    actor,
    methods,
    on,
    persistable_id,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import ENV, cell, collect, counter, failing_turn, must_not_run

PATIENCE = 30


@actor
def bag(bcom, one, many=(), table=None, group=frozenset()):
    """Holds references in all kinds of places."""
    return methods(all=lambda: (one, many, table, group), one=lambda: one)


@actor
def greeter(bcom, target=None, heard=()):
    """Greets its target when it is made from its record."""

    def note(answer):
        return bcom(greeter(bcom, target, (*heard, answer)))

    if isinstance(target, Promise):
        on(send(target), lambda answer: answer)
    return methods(target=lambda: target, note=note, heard=lambda: heard)


BAGS = PersistenceEnv("far", bag, greeter, extends=ENV)


def opened(place, part, roots):
    vat, *roots = place.spawn(roots, part=part, env=BAGS)
    place.vats = [*getattr(place, "vats", ()), vat]
    return vat, *roots


def open_a(place, roots=must_not_run):
    return opened(place, "a", roots)


def open_b(place, roots=must_not_run):
    return opened(place, "b", roots)


def pair(place):
    """Two vats of one store; a cell of the first holds a counter of the second."""
    a, keeper = open_a(place, lambda: spawn(cell))
    b, target = open_b(place, lambda: spawn(counter))
    keeper.put(target)
    return a, keeper, b, target


def the(promise):
    return promise.result(timeout=PATIENCE)


def leave(place):
    """Ends all vats of the place, as the end of a process would, and opens the store again."""
    for vat in place.vats:
        vat.close()
    place.vats = []
    place.reopen()


class TestWhatComesBack:
    @pytest.mark.parametrize("order", ["ab", "ba"])
    def test_the_very_actor_in_either_order_of_opening(self, place, order):
        """REG-05, REG-08, POR-33"""
        pair(place)
        leave(place)
        roots = {}
        for part in order:
            _, roots[part] = {"a": open_a, "b": open_b}[part](place)
            if part == "a":
                found = roots["a"].get()
                assert isinstance(found, Promise)
        target = roots["b"]
        assert the(found) is target
        assert send(found).result(timeout=PATIENCE) == 0
        assert target() == 1

    def test_one_promise_for_all_who_hold_the_same_actor(self, place):
        """POR-33"""
        a, one, other = open_a(place, lambda: (spawn(cell), spawn(cell)))
        b, target, second = open_b(place, lambda: (spawn(counter), spawn(counter)))
        one.put([target, target, second])
        other.put(target)
        leave(place)
        a, one, other = open_a(place)
        first, again, different = one.get()
        assert first is again is other.get()
        assert first is not different
        b, target, second = open_b(place)
        assert (the(first), the(different)) == (target, second)

    def test_several_in_one_graph_and_in_every_kind_of_place(self, place):
        """REG-12, G6"""
        b, *targets = open_b(place, lambda: [spawn(counter, n) for n in range(5)])
        one, two, three, four, five = targets
        a, root = open_a(
            place,
            lambda: spawn(bag, one, (two, [three]), {four: "key", "value": one}, frozenset({five, one})),
        )
        leave(place)
        b, *targets = open_b(place)
        a, root = open_a(place)
        first, (second, (third,)), table, group = root.all()
        (key,) = [key for key in table if isinstance(key, Promise)]
        assert [the(p) for p in (first, second, third, key)] == targets[:4]
        assert table[key] == "key"
        assert table["value"] is first
        assert first in group
        assert {the(p) for p in group} == {targets[4], targets[0]}

    def test_as_a_key_of_a_map_and_a_member_of_a_set(self, place):
        """The hash of such a key is that of the far actor, in each process."""
        b, *targets = open_b(place, lambda: [spawn(counter, n) for n in range(40)])
        a, root = open_a(place, lambda: spawn(cell))
        a.run(lambda: root.put([Map({ref: n for n, ref in enumerate(targets)}), Set(targets)]))
        leave(place)
        a, root = open_a(place)

        def look():
            table, group = root.get()
            return [(key, table[key], key in group) for key in table]

        found = a.run(look)
        b, *targets = open_b(place)
        assert len(found) == 40
        assert all(the(key) is targets[n] and member for key, n, member in found)

    def test_messages_sent_before_the_other_vat_is_there_arrive_when_it_is(self, place):
        pair(place)
        leave(place)
        a, keeper = open_a(place)
        answers = [send(keeper.get()) for _ in range(3)]
        assert not any("fulfilled" in repr(answer) for answer in answers)
        b, target = open_b(place)
        assert [the(answer) for answer in answers] == [0, 1, 2]

    def test_an_actor_that_nobody_holds_any_more_still_gets_its_message_through(self, place):
        """A message sent to a promise does not depend on who keeps that."""
        pair(place)
        leave(place)
        a, keeper = open_a(place)
        answer = send(keeper.get())
        del keeper
        a.run(lambda: None)
        collect()
        b, target = open_b(place)
        assert the(answer) == 0

    def test_a_constructor_that_sends_to_a_far_actor_when_it_is_restored(self, place):
        """PV-19"""
        b, target = open_b(place, lambda: spawn(counter))
        a, root = open_a(place, lambda: spawn(greeter, target))
        leave(place)
        a, root = open_a(place)
        root.heard()
        b, target = open_b(place)
        the(root.target())
        a.drain(timeout=PATIENCE)
        b.drain(timeout=PATIENCE)
        assert target() == 1

    def test_it_is_the_same_actor_after_many_restarts(self, place):
        a, keeper, b, target = pair(place)
        for n in range(4):
            leave(place)
            a, keeper = open_a(place)
            keeper.put((n, keeper.get() if n == 0 else keeper.get()[1]))
            b, target = open_b(place)
        assert the(keeper.get()[1]) is target

    def test_references_each_to_the_other(self, place):
        a, left = open_a(place, lambda: spawn(cell))
        b, right = open_b(place, lambda: spawn(cell))
        left.put(right)
        right.put(left)
        leave(place)
        a, left = open_a(place)
        b, right = open_b(place)
        assert the(left.get()) is right
        assert the(right.get()) is left


class TestNothingIsLost:
    def test_stored_again_before_it_settles_it_is_still_that_actor(self, place):
        """POR-33: "doesn't lose information when restoring far refs"."""
        pair(place)
        leave(place)
        a, keeper = open_a(place)
        promise = keeper.get()
        keeper.put(("moved", promise))
        leave(place)
        a, keeper = open_a(place)
        b, target = open_b(place)
        assert the(keeper.get()[1]) is target

    def test_stored_again_after_it_settled_it_is_still_that_actor(self, place):
        pair(place)
        leave(place)
        a, keeper = open_a(place)
        b, target = open_b(place)
        promise = keeper.get()
        found = the(promise)
        keeper.put([promise, found])
        leave(place)
        b, target = open_b(place)
        a, keeper = open_a(place)
        promise, found = keeper.get()
        assert promise is found
        assert the(promise) is target

    def test_a_promise_that_waits_for_it_keeps_it_too(self, place):
        pair(place)
        leave(place)
        a, keeper = open_a(place)

        def chain():
            promise, resolver = promise_and_resolver()
            resolver.fulfil(keeper.get())
            return promise

        chained = a.run(chain)
        keeper.put(chained)
        leave(place)
        a, keeper = open_a(place)
        b, target = open_b(place)
        assert the(keeper.get()) is target

    def test_the_promise_of_an_answer_that_was_a_far_actor_is_one_for_it(self, place):
        """A promise fulfilled with a far Ref comes back, and leads to the same actor."""
        b, giver, target = open_b(place, lambda: (spawn(cell), spawn(counter)))
        giver.put(target)
        a, keeper = open_a(place, lambda: spawn(cell))
        answer = send(giver.get)
        the(answer)
        keeper.put(answer)
        a.drain(timeout=PATIENCE)
        leave(place)
        a, keeper = open_a(place)
        b, giver, target = open_b(place)
        assert the(keeper.get()) is target

    def test_an_actor_that_only_far_ones_refer_to_is_stored_by_its_vat(self, place):
        """REG-09, LIM-31: the target is no root, was spawned later, and its own vat forgets it."""
        a, keeper = open_a(place, lambda: spawn(cell))
        b, root = open_b(place, lambda: spawn(cell))
        keeper.put(b.spawn(counter, 7))
        b.drain(timeout=PATIENCE)
        collect()
        leave(place)
        a, keeper = open_a(place)
        b, root = open_b(place)
        assert send(keeper.get()).result(timeout=PATIENCE) == 7

    def test_what_such_an_actor_refers_to_is_stored_as_well(self, place):
        a, keeper = open_a(place, lambda: spawn(cell))
        b, root = open_b(place, lambda: spawn(cell))
        keeper.put(b.run(lambda: spawn(cell, spawn(counter, 3))))
        b.drain(timeout=PATIENCE)
        leave(place)
        a, keeper = open_a(place)
        b, root = open_b(place)
        assert send(the(send(the(keeper.get()).get))).result(timeout=PATIENCE) == 3

    def test_changes_of_such_an_actor_are_stored(self, place):
        a, keeper = open_a(place, lambda: spawn(cell))
        b, root = open_b(place, lambda: spawn(cell))
        target = b.spawn(counter)
        keeper.put(target)
        b.drain(timeout=PATIENCE)
        for _ in range(3):
            target()
        leave(place)
        a, keeper = open_a(place)
        b, root = open_b(place)
        assert send(keeper.get()).result(timeout=PATIENCE) == 3


class TestVatsThatCloseAndOpen:
    def test_a_vat_opened_again_is_found_in_place_of_the_closed_one(self, place):
        """REG-11, LIM-31"""
        a, one, other = open_a(place, lambda: (spawn(cell), spawn(cell)))
        b, target = open_b(place, lambda: spawn(counter))
        one.put(target)
        other.put(target)
        a.close()
        b.close()
        a, one, other = open_a(place)
        waiting = one.get()
        b, target = open_b(place)
        assert the(waiting) is target
        b.close()
        b, target = open_b(place)
        late = other.get()
        assert the(late) is target
        assert late is not waiting

    def test_a_reference_to_a_vat_that_is_closed_waits_for_its_next_opening(self, place):
        a, keeper, b, target = pair(place)
        a.close()
        b.close()
        a, keeper = open_a(place)
        promise = keeper.get()
        with pytest.raises(TimeoutError):
            promise.result(timeout=0)
        b, target = open_b(place)
        assert the(promise) is target

    def test_what_a_closed_vat_has_asked_for_is_broken(self, place):
        pair(place)
        leave(place)
        a, keeper = open_a(place)
        promise = keeper.get()
        a.close()
        with pytest.raises(VatClosedError, match="a"):
            the(promise)

    def test_far_references_in_messages_need_nothing(self, place):
        """REG-13"""
        a, keeper = open_a(place, lambda: spawn(cell))
        b, target = open_b(place, lambda: spawn(cell))
        home = Vat("no store")
        seen = home.spawn(cell)
        tell(target.put, 5)
        the(send(seen.put, target))
        assert seen.get() is target
        home.close()


class TestWhatCanNotBeStored:
    def test_an_actor_of_a_vat_without_store_is_an_error_of_the_turn_with_the_path(self, place, vat):
        """REG-14, G8: not broken silently, but refused."""
        a, keeper = open_a(place, lambda: spawn(cell, "before"))
        stranger = vat.spawn(counter)
        with pytest.raises(NotPortableError, match="has no store") as caught:
            keeper.put({"who": [1, stranger]})
        assert caught.value.path == "args.value.who[1]"
        assert "counter" in str(caught.value)
        assert "home" in str(caught.value)
        assert keeper.get() == "before"
        with failing_turn(a, NotPortableError):
            keeper.put(stranger)
        assert keeper.get() == "before"

    def test_a_far_actor_as_a_root_is_an_error(self, place):
        b, target = open_b(place, lambda: spawn(counter))
        with pytest.raises(NotPortableError, match="root"):
            open_a(place, lambda: target)

    def test_a_far_actor_that_its_vat_can_not_store_is_reported_and_leads_nowhere(self, place, caplog):
        """REG-09, LIM-31, G10: an unknown object breaks the promise, with an error that names it."""
        caplog.set_level(logging.ERROR, logger="goblins")
        a, keeper = open_a(place, lambda: spawn(cell))
        b, root = open_b(place, lambda: spawn(cell))
        odd = b.spawn(lambda bcom: lambda: "odd")
        keeper.put(odd)
        b.drain(timeout=PATIENCE)
        (record,) = [record for record in caplog.records if "vat a refers to it" in record.getMessage()]
        assert isinstance(record.exc_info[1], NotPortableError)
        leave(place)
        a, keeper = open_a(place)
        b, root = open_b(place)
        with pytest.raises(NoSuchActorError, match="no actor 1 in the store of vat b"):
            the(keeper.get())

    def test_the_slot_of_an_actor_that_was_not_stored_is_never_given_to_another(self, place):
        """SLP-03, LIM-31: a reference can break, but it never leads to somebody else."""
        a, keeper = open_a(place, lambda: spawn(cell))
        b, root = open_b(place, lambda: spawn(cell))
        odd = b.spawn(lambda bcom: lambda: "odd")
        keeper.put(odd)
        b.drain(timeout=PATIENCE)
        leave(place)
        a, keeper = open_a(place)
        b, root = open_b(place)
        others = b.run(lambda: [spawn(counter, n) for n in range(300)])
        root.put(others)
        b.drain(timeout=PATIENCE)
        with pytest.raises(NoSuchActorError):
            the(keeper.get())

    def test_a_failed_turn_tells_nobody_to_store_anything(self, place):
        a, keeper = open_a(place, lambda: spawn(cell))
        b, root = open_b(place, lambda: spawn(cell))
        target = b.spawn(counter)
        with failing_turn(a, ZeroDivisionError):
            keeper.put(target)
            1 / 0  # noqa: B018
        b.drain(timeout=PATIENCE)
        assert keeper.get() is None

    def test_a_collection_of_another_vat_is_an_error(self, place):
        a, keeper = open_a(place, lambda: spawn(cell))
        b, root = open_b(place, lambda: spawn(cell))
        strange = b.run(lambda: Map({1: 2}))
        with pytest.raises(NotPortableError, match="another vat"):
            keeper.put(strange)


def test_a_reference_to_a_far_actor_costs_one_message_not_one_for_each_churn(place):
    """G5: its vat is told once to store it."""
    a, keeper = open_a(place, lambda: spawn(cell))
    b, root = open_b(place, lambda: spawn(cell))
    target = b.spawn(counter)
    b.log.enabled = True
    for n in range(5):
        keeper.put((n, target))
    b.drain(timeout=PATIENCE)
    assert len(b.log) == 1


def test_a_vat_keeps_its_permanent_id(tmp_path):
    """PV-12, LIM-14: the id is stored with the vat, so that references to it stay valid."""
    with MemoryStore() as store, MemoryStore() as other:
        seen = set()
        for _ in range(3):
            registry = PersistenceRegistry()
            vat, root = spawn_persistent_vat(
                ENV, lambda: spawn(counter), store, persistence_registry=registry
            )
            seen.add(persistable_id(root))
            assert isinstance(root, Ref)
            vat.close()
        vat, root = spawn_persistent_vat(ENV, lambda: spawn(counter), other)
        assert len(seen) == 1
        assert persistable_id(root) not in seen
