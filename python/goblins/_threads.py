"""Threads for calls that block, outside of all vats."""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable

from goblins._errors import GoblinsError

#: So many calls run at the same time; more of them wait.
LIMIT = 256
#: A thread that has had nothing to do for so many seconds ends.
IDLE = 10.0
#: Calls that run at exit get so many seconds to end.
PATIENCE = 1.0


class Threads:
    """Runs each call at once, on a thread of its own. A thread that has become free is used again.

    Calls may wait for one another, so a small number of threads would be a trap. The threads are daemons: one
    that hangs does not keep the process from ending.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._calls: collections.deque[Callable[[], object]] = collections.deque()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def run(self, call: Callable[[], object]) -> None:
        """Calls a function that does not raise."""
        with self._changed:
            if self._closed:
                raise GoblinsError("the process ends: nothing more is called")
            self._calls.append(call)
            if self._idle >= len(self._calls):
                self._changed.notify()
                return
            if self._threads == LIMIT:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="goblins-blocking", daemon=True).start()
        except RuntimeError:
            with self._changed:
                self._threads -= 1
                if self._threads > 0 or call not in self._calls:
                    # Another one will come to it.
                    return
                self._calls.remove(call)
            raise

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._calls:
                    self._idle += 1
                    if self._closed:
                        self._changed.notify_all()
                    called = self._changed.wait(IDLE)
                    self._idle -= 1
                    if not called and not self._calls:
                        self._threads -= 1
                        return
                call = self._calls.popleft()
            call()
            del call

    def close(self) -> None:
        """Begins no more calls, and waits for those that run, but not for long."""
        with self._changed:
            self._closed = True
            # Dropped outside the lock: that may run any code.
            calls, self._calls = self._calls, collections.deque()
            self._changed.wait_for(lambda: self._threads == self._idle, PATIENCE)
        del calls


_threads = Threads()


def run(call: Callable[[], object]) -> None:
    """Calls a function that does not raise on a thread of its own."""
    _threads.run(call)


def close() -> None:
    """At exit."""
    _threads.close()


def _forget() -> None:
    """The threads stayed in the parent."""
    global _threads
    _threads = Threads()


os.register_at_fork(after_in_child=_forget)
