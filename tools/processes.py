"""Children of the build scripts, and how they end with them.

A compiler that outlives the build that started it keeps the cores busy for minutes and leaves what nobody
sweeps. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def run_child(command: list[str], **options: Any) -> tuple[int, str]:
    """Runs a command in a process group of its own; its return code and what it wrote to a pipe."""
    with subprocess.Popen(command, text=True, process_group=0, **options) as child:
        try:
            written, _ = child.communicate()
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
    return child.returncode, written


def descendants(of: int) -> list[int]:
    """The processes that a process has started, and those that they have. Known on Linux only."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # The name of the program may hold anything, and ends with the last bracket.
            parent = int(file.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    found = list(children.get(of, []))
    for process in found:
        found.extend(children.get(process, []))
    return found


def end_descendants() -> None:
    """Ends all that this process has started."""
    for process in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGTERM)


@contextlib.contextmanager
def ending_with_signals() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP raise `SystemExit`, and end all that was started."""

    def end(number: int, _frame: object) -> None:
        end_descendants()
        sys.exit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        # What was started with `nohup` goes on.
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Sends SIGTERM to this process soon after its parent has ended: pip tells nobody when it is killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
