"""Ctrl-C reaches the program, whatever the main thread runs just then, and neither loses nor halves anything.

Each test runs a child, which sends the signal to itself.
"""

import os
import random

import pytest
from support import run_child

# The moments of a scenario that are tried: some, which are others each time; or all.
MOMENTS = "all" if "GOBLINS_STRESS_SECONDS" in os.environ else "{first}/{step}"


@pytest.mark.parametrize("how", ["block", "stored", "call", "handler"])
def test_a_message_in_which_ctrl_c_comes_up_is_handled_later(tmp_path, how):
    child = run_child("interrupted_messages.py", how, tmp_path)
    assert (child.returncode, child.stdout) == (0, "done\n"), child.stderr


@pytest.mark.parametrize(
    "how", ["manual step", "manual drain", "loop", "result", "loop that awaits", "loop in its round"]
)
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


@pytest.mark.parametrize(
    ("scenario", "step"),
    [
        ("Block", 60),
        ("BlockInMemory", 60),
        ("BlockOfAManualVat", 60),
        ("Call", 60),
        ("Sent", 60),
        ("SentInMemory", 60),
        ("SentToOneThatSleeps", 60),
        ("Looking", 40),
        ("Failing", 30),
        ("FailingInMemory", 30),
        ("Opening", 4),
        ("Founding", 20),
        ("Listening", 40),
        ("Updating", 40),
        ("HoldingPromises", 60),
        ("Keeping", 2),
    ],
)
def test_ctrl_c_at_any_moment_reaches_the_program_and_neither_loses_nor_halves_anything(scenario, step):
    moments = MOMENTS.format(first=random.randrange(step), step=step)
    child = run_child("interrupted_everywhere.py", scenario, moments, timeout=600)
    # The last moment that it names is the one that failed.
    assert child.returncode == 0, f"of {moments}: {child.stdout[-200:]}{child.stderr[-4000:]}"
    assert child.stdout.endswith("done\n")


@pytest.mark.parametrize(("kind", "step"), [("Map", 90), ("Set", 400), ("List", 300)])
def test_an_operation_of_a_collection_that_ctrl_c_cuts_off_is_undone_though_the_turn_goes_on(kind, step):
    moments = MOMENTS.format(first=random.randrange(step), step=step)
    child = run_child("interrupted_collections.py", kind, moments, timeout=600)
    assert child.returncode == 0, f"of {moments}: {child.stdout[-200:]}{child.stderr[-4000:]}"
    assert child.stdout.endswith("done\n")


@pytest.mark.parametrize("handler", ["function", "method", "partial", "object"])
def test_a_ctrl_c_is_known_for_one_whoever_handles_the_signal(handler):
    child = run_child("interrupted_by_a_handler.py", handler)
    assert (child.returncode, child.stdout) == (0, "done\n"), child.stderr
