"""A store has one owner at a time, and the error names it: process, host and command.

The lock goes with the process that holds it, however that ends.
"""

import json
import os
import signal
import socket

import pytest
from goblins import RocksStore, StoreError, StoreLockedError, rehearse, spawn, spawn_persistent_vat
from support import ENV, counter, must_not_run, run_child, running_child


def test_a_second_opening_in_this_process_is_an_error_that_names_it(tmp_path):
    with RocksStore(tmp_path / "s") as store:
        with pytest.raises(StoreLockedError) as caught:
            RocksStore(tmp_path / "s")
        error = caught.value
        assert isinstance(error, StoreError)
        assert error.pid == os.getpid()
        assert error.host == socket.gethostname()
        assert "py" in error.command
        assert str(error.path) == str(tmp_path / "s")
        for part in (str(tmp_path / "s"), str(error.pid), error.host, error.command):
            assert part in str(error)
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        assert ticks() == 0


def test_another_name_for_the_same_folder_is_the_same_store(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "s", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    with RocksStore(tmp_path / "s"):
        for path in ("s", "./s/", tmp_path / "link", tmp_path / "s" / ".." / "s"):
            with pytest.raises(StoreLockedError):
                RocksStore(path)


def test_closing_frees_it(tmp_path):
    for _ in range(3):
        RocksStore(tmp_path / "s").close()


def test_a_failed_attempt_does_not_free_it(tmp_path):
    with RocksStore(tmp_path / "s"):
        for _ in range(3):
            with pytest.raises(StoreLockedError):
                RocksStore(tmp_path / "s")
        child = run_child("try_store.py", tmp_path / "s")
        assert json.loads(child.stdout)["error"] == "StoreLockedError", child


def test_an_opening_in_another_process_is_an_error_that_names_this_one(tmp_path):
    with RocksStore(tmp_path / "s") as store:
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        child = run_child("try_store.py", tmp_path / "s")
        told = json.loads(child.stdout)
        assert told["error"] == "StoreLockedError", child
        assert told["pid"] == os.getpid()
        assert told["host"] == socket.gethostname()
        assert told["command"]
        assert told["path"] == str(tmp_path / "s")
        assert [ticks(), ticks()] == [0, 1]
    child = run_child("try_store.py", tmp_path / "s")
    assert json.loads(child.stdout) == {"error": None}, child


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_holder_that_is_killed_frees_it(tmp_path, end):
    path = tmp_path / "s"
    for round_ in range(3):
        with running_child("hold_store.py", path, text=True) as holder:
            assert holder.stdout.readline() == f"{round_}\n"
            with pytest.raises(StoreLockedError) as caught:
                RocksStore(path)
            assert caught.value.pid == holder.pid
            assert "hold_store.py" in caught.value.command
            holder.send_signal(end)
            holder.wait()
    with RocksStore(path) as store:
        _, ticks = spawn_persistent_vat(ENV, must_not_run, store)
        assert ticks() == 3


def test_a_holder_that_ends_without_closing_frees_it(tmp_path):
    path = tmp_path / "s"
    with running_child("hold_store.py", path, "end", text=True) as holder:
        assert holder.stdout.readline() == "0\n"
        assert holder.wait() == 0
    with RocksStore(path) as store:
        _, ticks = spawn_persistent_vat(ENV, must_not_run, store)
        assert ticks() == 1


def test_a_folder_that_is_rehearsed_is_locked_for_others(tmp_path):
    """RocksDB locks no folder that it only reads."""
    with RocksStore(tmp_path / "s") as store:
        spawn_persistent_vat(ENV, lambda: spawn(counter), store)
    told = []

    def try_it(label, ref):
        with pytest.raises(StoreLockedError):
            RocksStore(tmp_path / "s")
        told.append(json.loads(run_child("try_store.py", tmp_path / "s").stdout)["error"])

    assert rehearse(ENV, tmp_path / "s", check=try_it).ok
    assert told == ["StoreLockedError"]
