"""Older states of a store can be looked at (STO-09, STO-14), and stores can be copied (STO-16)."""

import gc
from datetime import UTC, datetime, timedelta

import pytest
from goblins import (
    DeadlockError,
    MemoryStore,
    NotPortableError,
    RocksStore,
    StoreError,
    StoreLockedError,
    VatClosedError,
    copy_store,
    promise_and_resolver,
    rehearse,
    spawn,
    spawn_persistent_vat,
)
from support import ENV, cell, counter, must_not_run


@pytest.fixture(params=["memory", "rocks"])
def store(request, tmp_path):
    """A store that keeps three generations."""
    if request.param == "memory":
        opened = MemoryStore(keep_generations=3)
    else:
        opened = RocksStore(tmp_path / "store", sync=False, keep_generations=3)
    with opened:
        yield opened


def settled_with(value):
    promise, resolver = promise_and_resolver()
    resolver.fulfil(value)
    return promise


def numbers(store, part="main"):
    return [generation.number for generation in store.vat(part).generations()]


def look(store, generation, part="main"):
    """The root of the part as it was."""
    _, root = spawn_persistent_vat(ENV, must_not_run, store.vat(part).at(generation))
    return root


class TestLookingBack:
    def test_each_churn_that_changed_something_is_a_generation(self, store):
        """STO-09"""
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        assert numbers(store) == [1]
        ticks()
        ticks()
        assert numbers(store) == [1, 2, 3]
        first, second, _ = store.vat("main").generations()
        assert (first.records, second.records) == (4, 1)
        age = datetime.now(UTC) - second.time
        assert -timedelta(minutes=1) < age < timedelta(minutes=10)
        assert first.time <= second.time

    def test_an_older_one_is_as_it_was_while_the_vat_goes_on(self, store):
        """STO-14"""
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        for _ in range(3):
            ticks()
        views = {number: look(store, number) for number in numbers(store)}
        for _ in range(5):
            ticks()
        assert {number: view() for number, view in views.items()} == {1: 0, 2: 1, 3: 2, 4: 3}

    def test_only_so_many_are_kept(self, store):
        """LIM-13"""
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        for _ in range(20):
            ticks()
        assert numbers(store) == [18, 19, 20, 21]
        for unknown in (17, 22, 0, -1, 2**64):
            with pytest.raises(StoreError, match=f"no generation {unknown} .*: it keeps 18 to 21"):
                store.vat("main").at(unknown)

    def test_a_number_without_bounds_is_no_generation(self, store):
        spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        with pytest.raises(StoreError, match="it keeps 1 to 1"):
            store.vat("main").at(10**60)

    def test_a_view_has_no_older_states_and_says_where_they_are(self, store):
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        ticks()
        view = store.vat("main").at(2)
        with pytest.raises(StoreError, match="it is a view, which keeps none: ask the store"):
            view.at(1)

    def test_what_a_view_writes_is_never_kept(self, store):
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        ticks()
        view = look(store, 1)
        assert [view(), view()] == [0, 1]
        assert ticks() == 1
        assert numbers(store) == [1, 2, 3]

    def test_what_was_collected_is_there_in_a_view(self, store):
        vat, root = spawn_persistent_vat(ENV, lambda: spawn(cell), store)
        with vat:
            root.put(spawn(cell, "old"))
        root.put("new")
        gc.collect()
        assert store.collect().removed == 1
        assert look(store, 2).get().get() == "old"

    def test_parts_have_generations_of_their_own(self, store):
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store.vat("a"))
        spawn_persistent_vat(ENV, lambda: spawn(counter), store.vat("b"))
        ticks()
        assert (numbers(store, "a"), numbers(store, "b")) == ([1, 2], [1])
        assert numbers(store, "never there") == []
        with pytest.raises(StoreError, match="keeps none"):
            store.vat("never there").at(1)

    def test_a_view_can_be_closed_and_says_what_it_is(self, store):
        spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        part = store.vat("main").at(1)
        assert "main at generation 1" in repr(part)
        assert part.generations() == []
        assert part.store.vats() == ["main"]
        part.store.close()
        with pytest.raises(StoreError, match="is closed"):
            spawn_persistent_vat(ENV, must_not_run, part)

    def test_a_view_ends_with_its_store(self, store):
        """Its vats are closed as those of the store are, whether an actor had been used there or not."""
        _, ticks, _ = spawn_persistent_vat(ENV, lambda: (spawn(counter), spawn(counter)), store)
        part = store.vat("main").at(1)
        _, seen, unseen = spawn_persistent_vat(ENV, must_not_run, part)
        assert seen() == 0
        store.close()
        for root in (ticks, seen, unseen):
            with pytest.raises(VatClosedError):
                root()
        with pytest.raises(StoreError, match="is closed"):
            spawn_persistent_vat(ENV, must_not_run, part)
        part.store.close()

    def test_closing_a_view_leaves_its_store_and_other_views_alone(self, store):
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        first, second = store.vat("main").at(1), store.vat("main").at(1)
        _, seen = spawn_persistent_vat(ENV, must_not_run, first)
        _, other = spawn_persistent_vat(ENV, must_not_run, second)
        first.store.close()
        with pytest.raises(VatClosedError):
            seen()
        assert (ticks(), other()) == (0, 0)

    def test_none_are_kept_by_default_in_a_folder(self, tmp_path):
        with RocksStore(tmp_path / "store") as store:
            _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
            ticks()
            assert numbers(store) == []
            with pytest.raises(StoreError, match="keeps none: open the store with keep_generations="):
                store.vat("main").at(1)

    def test_a_store_in_memory_keeps_a_hundred(self):
        """LIM-13"""
        with MemoryStore() as store:
            _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
            for _ in range(150):
                ticks()
            assert numbers(store) == list(range(51, 152))
            assert look(store, 51)() == 50

    def test_they_outlive_the_process(self, tmp_path):
        with RocksStore(tmp_path / "store", keep_generations=5) as store:
            _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
            ticks()
            ticks()
        with RocksStore(tmp_path / "store", keep_generations=5) as store:
            assert numbers(store) == [1, 2, 3]
            assert look(store, 2)() == 1

    def test_a_number_that_is_none_is_refused(self, tmp_path):
        for number, error in ((-1, ValueError), (2**64, ValueError), ("5", TypeError), (1.5, TypeError)):
            with pytest.raises(error, match="keep_generations is a number"):
                MemoryStore(keep_generations=number)
            with pytest.raises(error, match="keep_generations is a number"):
                RocksStore(tmp_path / "store", keep_generations=number)


class TestCopying:
    @pytest.mark.parametrize("target", ["memory", "rocks"])
    def test_all_is_copied_between_any_two_kinds(self, store, tmp_path, target):
        """STO-16, LIM-11"""
        vat, root = spawn_persistent_vat(ENV, lambda: spawn(cell), store)
        spawn_persistent_vat(ENV, lambda: spawn(counter, 5), store.vat("other"))
        with vat:
            root.put([spawn(cell, "inside"), root])
        into = MemoryStore() if target == "memory" else RocksStore(tmp_path / "copy")
        with into:
            copied = copy_store(store, into)
            assert copied.parts == 2
            assert copied.records >= 10
            assert copied.bytes > 13 * copied.records
            # The source goes on, and the copy does not hear of it.
            root.put("later")
            assert into.vats() == ["main", "other"]
            _, twin = spawn_persistent_vat(ENV, must_not_run, into)
            inside, itself = twin.get()
            assert inside.get() == "inside"
            assert itself is twin
            _, ticks = spawn_persistent_vat(ENV, must_not_run, into.vat("other"))
            assert ticks() == 5

    def test_older_generations_are_copied_too(self, store):
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        ticks()
        with MemoryStore(keep_generations=3) as copy:
            copy_store(store, copy)
            assert numbers(copy) == [1, 2]
            assert look(copy, 1)() == 0

    def test_a_store_that_holds_something_is_not_copied_into(self, store):
        spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        with MemoryStore() as full:
            _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter, 7), full.vat("mine"))
            with pytest.raises(StoreError, match=r"is not empty: it has the part\(s\) mine"):
                copy_store(store, full)
            assert ticks() == 7
        with pytest.raises(StoreError, match="is not empty"):
            copy_store(store, store)

    def test_a_closed_store_is_an_error(self, store):
        closed = MemoryStore()
        closed.close()
        with pytest.raises(StoreError, match="is closed"):
            copy_store(store, closed)
        with MemoryStore() as empty, pytest.raises(StoreError, match="is closed"):
            copy_store(closed, empty)

    def test_a_call_in_a_turn_is_an_error(self, store):
        vat, _ = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        with MemoryStore() as copy, vat, pytest.raises(DeadlockError):
            copy_store(store, copy)

    def test_a_restored_actor_keeps_its_number(self, store):
        """PV-18, LIM-14"""
        vat, root = spawn_persistent_vat(ENV, lambda: spawn(cell), store)
        with vat:
            root.put(spawn(cell))
        with MemoryStore() as copy:
            copy_store(store, copy)
            _, twin = spawn_persistent_vat(ENV, must_not_run, copy)
            assert "cell#1 of" in repr(root.get())
            assert "cell#1 of" in repr(twin.get())


def test_one_part_has_one_live_vat_and_a_view_another(store):
    """STO-17, LIM-12"""
    vat, _ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
    with pytest.raises(StoreLockedError, match="in use by a live vat"):
        spawn_persistent_vat(ENV, must_not_run, store)
    part = store.vat("main").at(1)
    past, _ticks = spawn_persistent_vat(ENV, must_not_run, part)
    with pytest.raises(StoreLockedError):
        spawn_persistent_vat(ENV, must_not_run, part)
    past.close()
    vat.close()


class TestAReferenceToAnActorOfAView:
    """Its number may be that of another actor in the store itself."""

    @pytest.mark.parametrize(
        "wrap", [lambda ref: ref, lambda ref: [{"a": ref}], settled_with], ids=["ref", "deep", "promise"]
    )
    def test_is_not_kept_in_a_store(self, store, wrap):
        vat, box, ticks = spawn_persistent_vat(ENV, lambda: (spawn(cell, 1), spawn(counter)), store)
        ticks()
        _, _, old = spawn_persistent_vat(ENV, must_not_run, store.vat("main").at(1))
        with pytest.raises(NotPortableError, match="lives in a view of a store") as caught:
            box.put(wrap(old))
        assert caught.value.path.startswith("args.value")
        assert box.get() == 1
        assert (old(), ticks()) == (0, 1)

    def test_is_kept_in_no_other_view(self, store):
        vat, ticks, box = spawn_persistent_vat(ENV, lambda: (spawn(counter), spawn(cell)), store)
        _, old, _ = spawn_persistent_vat(ENV, must_not_run, store.vat("main").at(1))
        _, _, other = spawn_persistent_vat(ENV, must_not_run, store.vat("main").at(1))
        with pytest.raises(NotPortableError, match="lives in a view of a store"):
            other.put(old)

    def test_is_kept_in_the_view_itself_and_so_is_one_to_the_store(self, store):
        _, ticks, box = spawn_persistent_vat(ENV, lambda: (spawn(counter), spawn(cell)), store)
        view = store.vat("main").at(1).store
        _, old, seen = spawn_persistent_vat(ENV, must_not_run, view)
        far, elsewhere = spawn_persistent_vat(ENV, lambda: spawn(cell), view.vat("elsewhere"))
        elsewhere.put(old)
        seen.put([ticks, old])
        assert seen.get() == [ticks, old]

    def test_of_a_rehearsal_is_not_kept_either(self, store):
        _, ticks, box = spawn_persistent_vat(ENV, lambda: (spawn(counter), spawn(cell)), store)
        found = []
        rehearse(ENV, store, check=lambda label, ref: found.append(ref))
        assert len(found) == 2
        with pytest.raises(NotPortableError, match="lives in a view of a store"):
            box.put(found[0])
