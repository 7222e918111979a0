"""A store is in the folder that its path led to when it was opened, and says so when that is gone."""

import json
import os
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import PIPE

import pytest
from goblins import (
    GoblinsError,
    RocksStore,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    copy_store,
    rehearse,
    spawn,
    spawn_persistent_vat,
)
from support import ENV, cell, counter, must_not_run, run_child, running_child


def ticks_in(store):
    return spawn_persistent_vat(ENV, lambda: spawn(counter), store)[1]


def reopened(path):
    with RocksStore(path) as store:
        return spawn_persistent_vat(ENV, must_not_run, store)[1]()


def write_much(store, name="much", size=5 << 20):
    """More than is left in the log when the store is closed: a new file is made then."""
    spawn_persistent_vat(ENV, lambda: spawn(cell, bytes(size)), store.vat(name))


class TestARelativePath:
    def test_leads_to_the_same_folder_when_the_working_directory_changes(self, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        (tmp_path / "there").mkdir()
        monkeypatch.chdir(tmp_path / "there")
        with RocksStore("bank.db") as store:
            ticks_in(store)()
        before = {file.name: file.read_bytes() for file in (tmp_path / "there" / "bank.db").iterdir()}
        monkeypatch.chdir(tmp_path / "here")
        with RocksStore("bank.db", sync=False) as store:
            ticks = ticks_in(store)
            monkeypatch.chdir(tmp_path / "there")
            assert ticks() == 0
            write_much(store)
            assert ticks() == 1
        assert {file.name: file.read_bytes() for file in (tmp_path / "there" / "bank.db").iterdir()} == before
        assert reopened(tmp_path / "here" / "bank.db") == 2
        assert reopened(tmp_path / "there" / "bank.db") == 1

    def test_is_told_as_an_absolute_one(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with RocksStore("bank.db") as store:
            assert store.path == tmp_path / "bank.db"
            assert str(tmp_path / "bank.db") in repr(store)
            monkeypatch.chdir("/")
            with pytest.raises(StoreLockedError, match=str(tmp_path / "bank.db")):
                RocksStore(tmp_path / "bank.db")

    def test_holds_for_a_copy_too(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with RocksStore("a") as source, RocksStore("b") as target:
            ticks_in(source)()
            monkeypatch.chdir("/")
            copy_store(source, target)
        assert reopened(tmp_path / "b") == 1
        assert not Path("/b").exists()

    def test_of_a_working_directory_that_is_gone_is_an_error(self, tmp_path, monkeypatch):
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with pytest.raises(StoreError, match="absolute path"):
            RocksStore("bank.db")


class TestAPath:
    @pytest.mark.parametrize("kind", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
    def test_may_be_whatever_python_takes_for_one(self, tmp_path, kind):
        path = kind(str(tmp_path / "store"))
        with RocksStore(path) as store:
            ticks_in(store)()
            assert store.path == tmp_path / "store"
        assert rehearse(ENV, path).ok
        assert reopened(tmp_path / "store") == 1

    def test_may_be_an_object_that_stands_for_bytes(self, tmp_path):
        class Named:
            def __fspath__(self):
                return os.fsencode(tmp_path / "store")

        RocksStore(Named()).close()
        assert (tmp_path / "store" / "CURRENT").exists()

    def test_may_hold_any_bytes(self, tmp_path):
        path = os.fsencode(tmp_path) + b"/st\xff\xfere"
        with RocksStore(path) as store:
            ticks_in(store)()
        assert os.listdir(os.fsencode(tmp_path)) == [b"st\xff\xfere"]
        assert reopened(path) == 1

    @pytest.mark.parametrize("wrong", [None, 5, 1.5, ["store"]])
    def test_is_no_other_object(self, wrong):
        with pytest.raises(TypeError):
            RocksStore(wrong)

    def test_with_a_null_byte_is_an_error(self, tmp_path):
        with pytest.raises((GoblinsError, ValueError)):
            RocksStore(str(tmp_path / "a\0b"))

    def test_that_is_a_link_leads_to_the_same_folder_when_the_link_changes(self, tmp_path):
        for name in ("one", "two"):
            with RocksStore(tmp_path / name) as store:
                ticks_in(store)()
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "one", target_is_directory=True)
        before = {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}
        with RocksStore(link, sync=False) as store:
            ticks = ticks_in(store)
            link.unlink()
            link.symlink_to(tmp_path / "two", target_is_directory=True)
            ticks()
            write_much(store)
            ticks()
        assert {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()} == before
        assert reopened(tmp_path / "one") == 3


def gone(path, elsewhere):
    shutil.rmtree(path)


def emptied(path, elsewhere):
    for file in path.iterdir():
        file.unlink()


def without_log(path, elsewhere):
    for file in path.glob("*.log"):
        file.unlink()


def moved(path, elsewhere):
    path.rename(elsewhere)


def replaced(path, elsewhere):
    path.rename(elsewhere)
    shutil.copytree(elsewhere, path)


def parent_moved(path, elsewhere):
    path.parent.rename(elsewhere)


ENDS = [gone, emptied, without_log, moved, replaced, parent_moved]


@pytest.mark.parametrize("end", ENDS)
class TestAFolderThatIsGone:
    def test_stops_the_vats_of_its_store(self, tmp_path, end):
        path = tmp_path / "parent" / "store"
        store = RocksStore(path)
        try:
            ticks = ticks_in(store)
            assert ticks() == 0
            end(path, tmp_path / "elsewhere")
            with pytest.raises(GoblinsError, match="removed, moved or replaced"):
                ticks()
            with pytest.raises(GoblinsError):
                ticks()
        finally:
            # All that it could say was said.
            store.close()

    def test_is_found_out_when_a_store_without_sync_is_closed(self, tmp_path, end):
        path = tmp_path / "parent" / "store"
        store = RocksStore(path, sync=False)
        ticks = ticks_in(store)
        ticks()
        end(path, tmp_path / "elsewhere")
        with pytest.raises(GoblinsError, match="removed, moved or replaced"):
            store.close()


def test_a_store_without_sync_finds_out_while_it_is_written_to(tmp_path):
    path = tmp_path / "store"
    store = RocksStore(path, sync=False)
    try:
        ticks = ticks_in(store)
        shutil.rmtree(path)
        with pytest.raises(GoblinsError, match="removed, moved or replaced"):
            while True:
                ticks()
    finally:
        store.close()


def test_a_store_that_was_moved_opens_where_it_is(tmp_path):
    store = RocksStore(tmp_path / "store")
    ticks = ticks_in(store)
    assert [ticks(), ticks()] == [0, 1]
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(GoblinsError):
        ticks()
    with suppress(GoblinsError):
        store.close()
    # Whether the last call counts is not known: it failed.
    assert reopened(tmp_path / "elsewhere") in (2, 3)


def test_logs_that_come_and_go_are_no_harm(tmp_path):
    with RocksStore(tmp_path / "store") as store:
        ticks = ticks_in(store)
        for name in ("a", "b"):
            # More than is kept in one log.
            write_much(store, name, 33 << 20)
            ticks()
    assert reopened(tmp_path / "store") == 2


class TestAnOwnerFileThatIsRemoved:
    def test_leaves_the_store_locked_for_others(self, tmp_path):
        with RocksStore(tmp_path / "s") as store:
            ticks = ticks_in(store)
            for _ in range(2):
                (tmp_path / "s" / "OWNER").unlink()
                child = run_child("try_store.py", tmp_path / "s")
                told = json.loads(child.stdout)
                assert told["error"] == "StoreLockedError", child
                assert told["pid"] == os.getpid()
                assert told["command"]
            assert ticks() == 0
        assert reopened(tmp_path / "s") == 1

    def test_leaves_it_locked_in_this_process(self, tmp_path):
        with RocksStore(tmp_path / "s") as store:
            (tmp_path / "s" / "OWNER").unlink()
            for attempt in (RocksStore, lambda path: rehearse(ENV, path)):
                with pytest.raises(StoreLockedError, match="this process") as caught:
                    attempt(tmp_path / "s")
                assert caught.value.pid == os.getpid()
            assert ticks_in(store)() == 0

    def test_after_its_owner_has_ended_is_no_harm(self, tmp_path):
        with RocksStore(tmp_path / "s") as store:
            ticks_in(store)()
            (tmp_path / "s" / "OWNER").unlink()
        assert reopened(tmp_path / "s") == 1


def test_those_who_come_too_late_are_told_who_was_first(tmp_path):
    with ExitStack() as stack:
        ones = [
            stack.enter_context(running_child("open_at_once.py", tmp_path / "s", text=True, stdin=PIPE))
            for _ in range(4)
        ]
        assert [one.stdout.readline() for one in ones] == ["ready\n"] * len(ones)
        for one in ones:
            one.stdin.write("now\n")
            one.stdin.flush()
        told = [json.loads(one.stdout.readline()) for one in ones]
        (first,) = (one["pid"] for one in told if one["error"] is None)
        for one in told:
            if one["error"] is not None:
                assert one["pid"] == first, one
                assert one["host"] == os.uname().nodename, one
                assert "open_at_once.py" in one["command"], one
        for one in ones:
            one.stdin.close()


def test_a_store_that_this_process_has_open_is_named(tmp_path):
    with RocksStore(tmp_path / "s") as store:
        with pytest.raises(StoreLockedError, match="this process") as caught:
            RocksStore(tmp_path / "s")
        assert repr(store) in str(caught.value)
        assert "no live vat" in str(caught.value)
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store, name="till")
        (tmp_path / "link").symlink_to(tmp_path / "s")
        with pytest.raises(StoreLockedError, match="this process") as caught:
            RocksStore(tmp_path / "link")
        assert repr(store) in str(caught.value)
        assert "till" in str(caught.value)
        assert ticks() == 0


def test_a_note_of_what_was_synced_that_has_no_end_is_refused_at_once(tmp_path):
    with RocksStore(tmp_path / "store"):
        pass
    os.truncate(tmp_path / "store" / "SYNCED", 8 << 40)
    with pytest.raises(StoreCorruptError, match="SYNCED"):
        RocksStore(tmp_path / "store")
