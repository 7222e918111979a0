"""A process that is killed loses nothing that it has acknowledged.

A child works on a store, and prints each step when it has the answer. It is killed with SIGKILL at a
random moment: while it opens the store, makes the first actors, works, or waits for the disk. Each step
tells what it found: every acknowledged step is there, at most one more for each kill, and of no turn a
part only. `GOBLINS_TEST_SEED` repeats a run as far as that is possible.
"""

import os
import random
import signal
import time

import pytest
from support import running_child

KILLS = 100


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sync", ["sync", "no sync"])
def test_every_acknowledged_step_is_there_after_each_kill_and_never_one_too_many(tmp_path, sync):
    seed = int(os.environ.get("GOBLINS_TEST_SEED", random.randrange(2**32)))
    moments = random.Random(seed)
    acknowledged = kills = steps = 0
    for kill in range(KILLS + 1):
        told = f"kill {kill}, GOBLINS_TEST_SEED={seed}"
        with running_child("killed_bank.py", tmp_path / "bank.db", sync) as child:
            assert child.stdout.readline() == b"started\n", told
            lines = []
            if kill == KILLS or moments.random() < 0.8:
                lines = [child.stdout.readline() for _ in range(1 + moments.randrange(40))]
                linger(moments.random() * 0.002)
            else:
                # Most probably before the first step.
                linger(moments.random() * 0.1)
            child.send_signal(signal.SIGKILL)
            # What stands in the pipe was acknowledged before the kill.
            lines += child.stdout.readlines()
        for line in lines:
            ticks, balance = map(int, line.split())
            assert ticks == balance, f"a part of a turn: {line}, {told}"
            assert acknowledged <= ticks <= acknowledged + kills, f"{ticks} for {acknowledged}, {told}"
            acknowledged, kills, steps = ticks + 1, 0, steps + 1
        kills += 1
    assert steps > KILLS


def linger(seconds):
    """Lets a short time go by: the moment of the kill, not the moment of something else, is what counts."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
