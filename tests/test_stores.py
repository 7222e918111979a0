"""What both kinds of stores do (STO). `rust/core/src/conformance.rs` has what vats need of them."""

import re
import threading
from pathlib import Path

import pytest
from goblins import (
    MemoryStore,
    RocksStore,
    StoreError,
    StoreLockedError,
    copy_store,
    spawn,
    spawn_persistent_vat,
)
from support import ENV, cell, counter, must_not_run, run_child

ROOT = Path(__file__).parent.parent


class TestAnEmptyStore:
    def test_it_has_nothing(self, place):
        """STO-02"""
        assert place.store.vats() == []
        assert place.store.vat("main").generations() == []
        assert place.store.collect().parts == ()
        with pytest.raises(StoreError, match="no generation 1 of its part 'main'|no generation 1"):
            place.store.vat("main").at(1)

    def test_a_name_that_was_only_asked_for_leaves_nothing(self, place):
        part = place.store.vat("asked for")
        assert (part.name, part.store) == ("asked for", place.store)
        assert place.store.vats() == []


class TestWhatIsWritten:
    def test_a_churn_keeps_all_that_it_did_not_change(self, place):
        """STO-04, STO-06, STO-07"""
        vat, first, second = place.spawn(lambda: (spawn(cell, "first"), spawn(cell, "second")))
        with vat:
            second.put([spawn(cell, "new")])
        vat, first, second = place.restart(vat)
        assert first.get() == "first"
        assert second.get()[0].get() == "new"

    def test_a_churn_that_changed_nothing_is_no_generation(self, tmp_path):
        """STO-06, LIM-42"""
        with MemoryStore() as store:
            _, root = spawn_persistent_vat(ENV, lambda: spawn(cell, 1), store)
            before = store.vat("main").generations()
            for _ in range(10):
                root.get()
            assert store.vat("main").generations() == before

    def test_what_a_churn_lets_go_of_stays_until_it_is_collected(self, place):
        """STO-08"""
        vat, root = place.spawn(lambda: spawn(cell))
        with vat:
            root.put(spawn(cell))
        root.put(None)
        with MemoryStore() as copy:
            copy_store(place.store, copy)
            assert copy.collect().removed == 1
            assert copy.collect().kept == 1


class TestOwners:
    def test_two_threads_that_open_one_part_get_one_vat(self, place):
        """STO-17, LIM-12"""
        vat, _ = place.spawn(lambda: spawn(counter))
        vat.close()
        barrier = threading.Barrier(4)
        opened, refused = [], []

        def open_it():
            barrier.wait()
            try:
                opened.append(place.spawn(must_not_run))
            except StoreLockedError as error:
                refused.append(error)

        threads = [threading.Thread(target=open_it) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(opened), len(refused)) == (1, 3)
        assert "in use by a live vat" in str(refused[0])

    def test_many_vats_write_to_one_store_at_once(self, place):
        """STO-17, LIM-12"""
        roots = [place.spawn(lambda: spawn(counter), part=str(number)) for number in range(4)]

        def count(ticks):
            for _ in range(100):
                ticks()

        threads = [threading.Thread(target=count, args=(root,)) for _, root in roots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for vat, _ in roots:
            vat.close()
        place.reopen()
        opened = [place.spawn(must_not_run, part=str(number)) for number in range(4)]
        assert [root() for _, root in opened] == [100] * 4


class TestAClosedStore:
    @pytest.mark.parametrize(
        "use",
        [
            lambda store: store.vats(),
            lambda store: store.collect(),
            lambda store: store.vat("main").generations(),
            lambda store: store.vat("main").at(1),
            lambda store: copy_store(store, MemoryStore()),
            lambda store: copy_store(MemoryStore(), store),
            lambda store: spawn_persistent_vat(ENV, lambda: spawn(counter), store),
        ],
    )
    def test_every_use_is_an_error(self, place, use):
        place.spawn(lambda: spawn(counter))
        place.store.close()
        with pytest.raises(StoreError, match="is closed; open it again"):
            use(place.store)

    def test_it_may_be_closed_while_it_is_read(self, tmp_path):
        with RocksStore(tmp_path / "store", keep_generations=5) as store:
            spawn_persistent_vat(ENV, lambda: spawn(counter), store)
            views = [store.vat("main").at(1) for _ in range(5)]
        with RocksStore(tmp_path / "store") as store:
            assert store.vats() == ["main"]
        for view in views:
            with pytest.raises(StoreError, match="is closed"):
                view.store.vats()


def test_the_page_about_the_format_lists_all_kinds_of_records():
    """STO-11: the page can't fall behind."""
    schema = (ROOT / "rust" / "core" / "src" / "schema.rs").read_text(encoding="utf-8")
    enum = schema[schema.index("pub enum Kind {") :]
    kinds = re.findall(r"^    (\w+) = (\d+),$", enum[: enum.index("\n}")], re.MULTILINE)
    page = (ROOT / "docs" / "store-format.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)
    assert len(kinds) >= 8
    assert listed == kinds
    version = re.search(r"FORMAT: u64 = (\d+)", schema)
    assert version is not None
    assert f"version **{version[1]}**" in page


@pytest.mark.parametrize("sync", ["sync", "none"])
def test_a_store_whose_failure_was_told_is_closed_in_silence(tmp_path, sync):
    child = run_child("closed_when_full.py", tmp_path / "store", sync)
    assert child.stdout.split() == ["told", "closed"], child.stderr
    assert child.stderr == ""
