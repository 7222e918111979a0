"""Signals, forks and the collector at random moments: shortly, or GOBLINS_STRESS_SECONDS long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import child_environment

SECONDS = float(os.environ.get("GOBLINS_STRESS_SECONDS", "2"))
SCRIPT = Path(__file__).parent / "stress" / "interrupts_and_forks.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_signals_forks_and_the_collector_at_random_moments_lose_and_halve_nothing():
    environment = {**child_environment(), "PYTHONMALLOC": "debug"}
    child = subprocess.run(
        [sys.executable, SCRIPT, str(SECONDS)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS * 2 + 120,
        check=False,
    )
    # What it tells of a failure stands behind noise: a Ctrl-C that came up where Python drops it.
    assert child.returncode == 0, child.stdout[-200:] + child.stderr[-20000:]
    assert child.stdout.endswith("rounds are fine\n")
