"""A copy of a store that was cut off is not taken for a store: whoever looks is told, until it is filled.

How a copy begins, and what is on disk when it is cut off, is seen by removing what it writes last.
"""

from contextlib import suppress
from subprocess import PIPE

import pytest
import raw_store as raw
from goblins import (
    MemoryStore,
    RocksStore,
    StoreCorruptError,
    StoreError,
    copy_store,
    rehearse,
    spawn,
    spawn_persistent_vat,
)
from support import ENV, cell, counter, must_not_run, running_child


@pytest.fixture
def source():
    with MemoryStore() as store:
        for name in ("main", "bank"):
            spawn_persistent_vat(ENV, lambda: spawn(counter, 7), store.vat(name))
        yield store


@pytest.fixture
def cut_off(tmp_path, source):
    """The folder of a store into which a copy has written all but the end."""
    path = tmp_path / "target"
    with RocksStore(path) as target:
        copy_store(source, target)
    raw.change(path, {place: None for place in raw.read(path) if place[4] in (raw.FORMAT, raw.PART_NAME)})
    return path


WAYS_IN = {
    "a vat in main": lambda store: spawn_persistent_vat(ENV, must_not_run, store),
    "a vat in a part": lambda store: spawn_persistent_vat(ENV, must_not_run, store.vat("bank")),
    "a vat in a new part": lambda store: spawn_persistent_vat(ENV, must_not_run, store.vat("new")),
    "its vats": lambda store: store.vats(),
    "its generations": lambda store: store.vat("main").generations(),
    "an old state": lambda store: store.vat("main").at(1),
    "a collection": lambda store: store.collect(),
    "a rehearsal": lambda store: rehearse(ENV, store),
    "a rehearsal of a part": lambda store: rehearse(ENV, store.vat("bank")),
    "a copy of it": lambda store: copy_store(store, MemoryStore()),
}


@pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)
def test_no_way_leads_into_it(cut_off, way):
    for _ in range(2):
        with RocksStore(cut_off, keep_generations=3) as store:
            with pytest.raises(StoreError, match="a copy into it was cut off; fill it again with copy_store"):
                way(store)
            with pytest.raises(StoreError, match="cut off"):
                way(store)


def test_a_rehearsal_of_its_folder_says_so(cut_off):
    with pytest.raises(StoreError, match="cut off"):
        rehearse(ENV, cut_off)


def test_it_may_be_filled_again(cut_off, source):
    with RocksStore(cut_off) as store:
        copy_store(source, store)
        assert store.vats() == ["bank", "main"]
        assert spawn_persistent_vat(ENV, must_not_run, store.vat("bank"))[1]() == 7
    with RocksStore(cut_off) as store:
        assert spawn_persistent_vat(ENV, must_not_run, store.vat("bank"))[1]() == 8


def test_nothing_of_it_is_left_when_it_is_filled_with_something_else(cut_off):
    with MemoryStore() as other, RocksStore(cut_off) as store:
        spawn_persistent_vat(ENV, lambda: spawn(counter, 1), other.vat("other"))
        copy_store(other, store)
        assert store.vats() == ["other"]
        assert spawn_persistent_vat(ENV, lambda: spawn(counter, 2), store.vat("bank"))[1]() == 2


def test_a_copy_that_fails_leaves_a_store_that_may_be_used(tmp_path, source):
    path = tmp_path / "damaged"
    with RocksStore(path) as damaged:
        copy_store(source, damaged)
    raw.damage(path, raw.key(2, raw.ACTOR, 0))
    with RocksStore(path) as damaged, RocksStore(tmp_path / "target") as target:
        with pytest.raises(StoreCorruptError):
            copy_store(damaged, target)
        assert target.vats() == []
        assert spawn_persistent_vat(ENV, lambda: spawn(counter, 3), target)[1]() == 3


def test_a_copy_that_is_killed_is_whole_or_says_so(tmp_path):
    path = tmp_path / "source"
    with RocksStore(path, sync=False) as store:
        for name in ("main", "bank"):
            spawn_persistent_vat(ENV, lambda: spawn(cell, bytes(3 << 20)), store.vat(name))
    target = tmp_path / "target"
    with running_child("cut_copy.py", path, target, text=True, stdin=PIPE) as child:
        assert child.stdout.readline() == "copying\n"
        child.kill()
        child.wait()
    with RocksStore(path) as store, RocksStore(target) as copy:
        vats: list[str] = []
        with suppress(StoreError):
            vats = copy.vats()
            assert vats in ([], ["bank", "main"])
        if not vats:
            copy_store(store, copy)
        assert copy.vats() == ["bank", "main"]
