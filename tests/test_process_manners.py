"""A guest in the user's process: Ctrl-C works, signals stay the user's, exit is quiet, fork is told.

Each test runs a child, since each is about a whole process.
"""

import os
import signal
import sys

import pytest
from support import run_child, running_child


def wait_until_it_sleeps(child):
    """Until the main thread waits for something. There is no other way to see that from outside."""
    while True:
        with open(f"/proc/{child.pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
        if state == "S":
            return
        assert child.poll() is None, child.stderr.read()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc to see that the child waits")
@pytest.mark.parametrize("wait", ["result", "result_with_timeout", "call", "run", "block", "drain", "close"])
def test_ctrl_c_reaches_a_thread_that_waits(wait):
    with running_child("wait_for_ever.py", wait, text=True) as child:
        assert child.stdout.readline() == "waiting\n"
        wait_until_it_sleeps(child)
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
        assert child.wait() == 0


def test_ctrl_c_reaches_a_behavior_that_runs_on_the_main_thread_and_undoes_its_turn():
    with running_child("wait_for_ever.py", "behavior", text=True) as child:
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
        assert child.wait() == 0


def test_no_signal_handler_is_installed(tmp_path):
    child = run_child("manners.py", "signals", tmp_path)
    assert child.returncode == 0, child.stderr
    assert child.stdout == "done\n"


@pytest.mark.parametrize(
    "case",
    [
        "endless messages",
        "endless turn",
        "endless upgrade",
        "endless default",
        "waiting thread",
        "unheard promise",
        "open store",
        "open store with messages",
        "sys.exit in a block",
        "sys.exit in a message",
        "atexit",
        "finalizers",
    ],
)
@pytest.mark.parametrize("round_", range(3))
def test_exit_neither_hangs_nor_crashes(tmp_path, case, round_):
    child = run_child("manners.py", case, tmp_path)
    assert child.returncode == 0, child.stderr
    assert child.stdout == "done\n"
    for word in ("panic", "Fatal", "Segmentation"):
        assert word not in child.stderr


@pytest.mark.parametrize(
    "case",
    [
        "block left open",
        "block left open in a block",
        "block left open of a store",
        "exit stack left open",
        "generator left in a block",
        "thread ends in a block",
        "thread stays in a block",
        "block opened at the very end",
        "block opened at exit",
    ],
)
def test_a_block_that_is_never_left_is_undone_and_does_not_disturb_the_exit(tmp_path, case):
    child = run_child("manners.py", case, tmp_path)
    assert (child.returncode, child.stdout, child.stderr) == (0, "done\n", "")


def test_a_subinterpreter_is_refused_when_it_imports_the_package():
    child = run_child("subinterpreter.py", options=("-W", "ignore::DeprecationWarning"))
    if child.stdout == "none here\n":
        pytest.skip("this Python has no subinterpreters")
    assert (child.returncode, child.stdout) == (0, "ImportError\ndone\n"), child.stderr


def test_an_uncaught_error_in_a_block_ends_the_process_as_always(tmp_path):
    child = run_child("manners.py", "uncaught error", tmp_path)
    assert child.returncode == 1
    assert "RuntimeError: uncaught" in child.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("use", ["call", "send", "spawn", "block", "store", "new vat", "result"])
def test_a_forked_child_gets_a_clear_error_and_the_parent_goes_on(tmp_path, use):
    child = run_child("forked.py", use, tmp_path, options=("-W", "ignore::DeprecationWarning"))
    assert child.returncode == 0, child.stderr
    kind, message, parent = child.stdout.splitlines()
    assert kind == "GoblinsError", child.stdout
    assert "fork" in message
    assert parent == "parent goes on"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_that_uses_nothing_ends_in_peace(tmp_path):
    child = run_child("forked.py", "nothing", tmp_path, options=("-W", "ignore::DeprecationWarning"))
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines() == ["fine", "fine", "parent goes on"]


def test_importing_the_package_starts_no_thread_and_prints_nothing():
    code = "import goblins, os; print(len(os.listdir('/proc/self/task')))"
    if not os.path.isdir("/proc/self/task"):
        code = "import goblins; print(1)"
    child = run_child("run_code.py", code)
    assert (child.returncode, child.stdout) == (0, "1\n"), child.stderr
    assert child.stderr == ""
    assert sys.modules["goblins"].__doc__


# Without optimisation a call takes some 6 KiB of the stack; a thread has 8 MiB, and a small one 1.
@pytest.mark.parametrize(
    ("where", "room"), [("main", 200), ("worker", 200), ("thread", 200), ("small thread", 10)]
)
def test_calls_that_nest_deeper_than_the_stack_are_errors_and_no_crash(where, room):
    child = run_child("deep_calls.py", where, room)
    expected = f"RecursionError RecursionError RecursionError {room}\n"
    assert (child.returncode, child.stdout) == (0, expected), child.stderr


def test_a_second_import_has_the_errors_of_the_first():
    child = run_child("import_twice.py")
    assert (child.returncode, child.stdout) == (0, "VatClosedError VatClosedError [1] 2\n"), child.stderr


@pytest.mark.parametrize("use", ["block", "coroutine", "thread"])
def test_what_a_signal_handler_uses_may_be_in_use_by_the_code_it_interrupts(use):
    child = run_child("reentered.py", use)
    assert (child.returncode, child.stdout) == (0, "done\n"), child.stderr
