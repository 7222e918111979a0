"""What the scripts that build RocksDB and the wheel leave behind when they are ended: nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descendants are known on Linux only")

# A compiler that has started another, as `g++` does; what they wrote ends when the last of them has.
COMPILER = """
import subprocess
child = subprocess.Popen(["sleep", "600"])
print("begun", flush=True)
child.wait()
"""
BUILD = f"""
import signal, subprocess, sys
from processes import ending_with_signals, end_with_parent
# Tests may run under nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
end_with_parent()
with ending_with_signals():
    subprocess.Popen([sys.executable, "-c", {COMPILER!r}], process_group=0).wait()
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOOLS)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_ended_ends_all_that_it_started(number):
    with subprocess.Popen(
        [sys.executable, "-c", BUILD], env=environment(), stdout=subprocess.PIPE, text=True
    ) as build:
        assert build.stdout.readline() == "begun\n"
        build.send_signal(number)
        assert build.stdout.read() == ""
    assert build.returncode == 128 + number


def test_a_build_ends_with_the_program_that_asked_for_it():
    """pip, when it is killed, tells its build backend nothing."""
    pip = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUILD!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", pip], env=environment(), stdout=subprocess.PIPE, text=True
    ) as asking:
        assert asking.stdout.readline() == "begun\n"
        asking.kill()
        assert asking.stdout.read() == ""
