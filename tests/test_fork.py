"""A forked child can use nothing it inherited, wherever the fork was, and harms neither parent nor store."""

import os
import signal
import sys

import pytest
from support import run_child, running_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

QUIET = ("-W", "ignore::DeprecationWarning")
PLACES = [
    "block",
    "unsynced",
    "inner block",
    "method",
    "run",
    "constructor",
    "message after a call",
    "message on a worker",
    "coroutine",
    "block on a thread",
    "finalizer",
]


def forked(tmp_path, where, then):
    child = run_child("forked_in_a_turn.py", where, then, tmp_path, options=QUIET)
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()


@pytest.mark.parametrize("where", PLACES)
def test_a_child_forked_in_a_turn_gets_the_error_at_each_use_of_anything(tmp_path, where):
    assert forked(tmp_path, where, "use") == ["used", "parent goes on"]


@pytest.mark.parametrize("where", ["block", "method", "message on a worker", "coroutine"])
def test_a_child_that_leaves_the_turn_it_inherited_writes_nothing(tmp_path, where):
    assert forked(tmp_path, where, "leave") == ["parent goes on"]


@pytest.mark.parametrize("then", ["raise", "exit", "_exit", "collect", "multiprocessing"])
def test_a_child_forked_in_a_turn_may_end_in_any_way(tmp_path, then):
    said = ["used"] if then == "multiprocessing" else []
    assert forked(tmp_path, "block", then) == [*said, "parent goes on"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the way to fork without Python is glibc's")
def test_a_child_forked_past_python_can_write_nothing_either(tmp_path):
    child = run_child("forked_past_python.py", tmp_path, options=QUIET)
    assert (child.returncode, child.stdout) == (0, "refused\nparent goes on\n"), child.stderr


def can_open(path):
    code = f"from goblins import RocksStore; RocksStore({str(path)!r}).close(); print('opened')"
    return run_child("run_code.py", code).stdout == "opened\n"


@pytest.mark.parametrize("how", ["killed", "closed", "closed by the collector"])
def test_a_forked_child_does_not_keep_the_store_locked_when_its_parent_has_left_it(tmp_path, how):
    with running_child("forked_owner.py", how, tmp_path, text=True) as parent:
        assert parent.stdout.readline() == "forked\n"
        assert not can_open(tmp_path / "s"), "while the parent has the store, nobody else may open it"
        if how == "killed":
            parent.kill()
        else:
            parent.send_signal(signal.SIGUSR1)
            assert parent.stdout.readline() == "closed\n"
        try:
            assert can_open(tmp_path / "s")
        finally:
            child = int((tmp_path / "child").read_text())
            os.kill(child, signal.SIGKILL)
