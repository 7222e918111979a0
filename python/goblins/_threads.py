"""Threads for calls that block, outside of all vats."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import threading
import time
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

    There is no lock: handlers of signals and finalizers run between any two steps of this code, on the same
    thread, and may call it.
    """

    def __init__(self) -> None:
        # What waits for a thread: the call, and whether a free thread was taken for it.
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], bool]] = queue.SimpleQueue()
        # One for each thread that has nothing to do, and one for each that may still be started.
        self._free: collections.deque[None] = collections.deque()
        self._unstarted: collections.deque[None] = collections.deque([None] * LIMIT)
        # After the close: one for each thread that has become free.
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._closed = False

    def run(self, call: Callable[[], object]) -> None:
        """Calls a function that does not raise."""
        if self._closed:
            raise GoblinsError("the process ends: nothing more is called")
        if _take(self._free):
            self._calls.put((call, True))
            return
        if _take(self._unstarted):
            try:
                return self._start(call)
            except RuntimeError:
                if len(self._unstarted) == LIMIT:
                    raise
        self._calls.put((call, False))
        # The last thread may have ended before it could see that.
        if _take(self._unstarted):
            with contextlib.suppress(RuntimeError):
                self._start(int)

    def _start(self, call: Callable[[], object]) -> None:
        try:
            threading.Thread(target=self._work, args=(call,), name="goblins-blocking", daemon=True).start()
        except RuntimeError:
            self._unstarted.append(None)
            raise

    def _work(self, call: Callable[[], object] | None) -> None:
        while call is not None:
            call()
            del call
            call = self._next()

    def _next(self) -> Callable[[], object] | None:
        """The call that a thread makes next; none if there is nothing to do for long."""
        try:
            call, taken = self._calls.get_nowait()
        except queue.Empty:
            self._free.append(None)
        else:
            if taken:
                # The thread that was taken for it is free again.
                self._free.append(None)
            return call
        if self._closed:
            self._ended.put(None)
        while True:
            try:
                call, taken = self._calls.get(timeout=IDLE)
            except queue.Empty:
                if _take(self._free):
                    self._unstarted.append(None)
                    if self._calls.empty() or not _take(self._unstarted):
                        return None
                    self._free.append(None)
                # It was taken for a call that is about to come, or there is one.
                continue
            if taken or _take(self._free):
                return call
            # This one was taken for another call, which is about to come.
            self._calls.put((call, taken))

    def close(self) -> None:
        """Begins no more calls, and waits for those that run, but not for long."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()
        end = time.monotonic() + PATIENCE
        with contextlib.suppress(queue.Empty):
            while LIMIT - len(self._unstarted) > len(self._free):
                self._ended.get(timeout=max(end - time.monotonic(), 0.0))


def _take(some: collections.deque[None]) -> bool:
    try:
        some.pop()
    except IndexError:
        return False
    return True


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
