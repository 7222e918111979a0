"""Ctrl-C reaches the program, whatever the main thread runs just then, and neither loses nor halves anything.

Each test runs a child, which sends the signal to itself.
"""

import pytest
from support import run_child


@pytest.mark.parametrize("how", ["block", "stored", "call", "handler"])
def test_a_message_in_which_ctrl_c_comes_up_is_handled_later(tmp_path, how):
    child = run_child("interrupted_messages.py", how, tmp_path)
    assert (child.returncode, child.stdout) == (0, "done\n"), child.stderr


@pytest.mark.parametrize("how", ["manual step", "manual drain", "loop", "result"])
def test_whoever_runs_the_messages_of_a_vat_gets_the_ctrl_c_that_comes_up_in_one(tmp_path, how):
    child = run_child("interrupted_messages.py", how, tmp_path)
    assert (child.returncode, child.stdout) == (0, "done\n"), child.stderr


def test_code_that_has_waited_and_is_interrupted_breaks_its_answer(tmp_path):
    child = run_child("interrupted_messages.py", "manual coroutine", tmp_path)
    assert (child.returncode, child.stdout) == (0, "done\n"), child.stderr


def test_a_keyboard_interrupt_that_a_message_raises_itself_is_its_answer(tmp_path):
    child = run_child("interrupted_messages.py", "raised", tmp_path)
    assert (child.returncode, child.stdout) == (0, "done\n"), child.stderr


@pytest.mark.parametrize("how", ["undo", "end"])
def test_ctrl_c_while_a_turn_is_undone_loses_nothing_and_reaches_the_program(how):
    child = run_child("interrupted_undo.py", how)
    assert (child.returncode, child.stdout) == (0, "interrupted\n"), child.stderr
