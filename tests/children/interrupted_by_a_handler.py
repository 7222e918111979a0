"""Is interrupted by Ctrl-C in a message, with a handler of the signal that is written in Python."""

import functools
import signal
import sys

from goblins import Actor, ManualVat, tell

armed = True


def interrupt(*_args):
    raise KeyboardInterrupt


class Handler:
    def handle(self, number, frame):
        raise KeyboardInterrupt

    def __call__(self, number, frame):
        raise KeyboardInterrupt


class Counter(Actor):
    count: int = 0

    def add(self):
        global armed
        self.count += 1
        if armed:
            armed = False
            signal.raise_signal(signal.SIGINT)

    def get(self):
        return self.count


handlers = {
    "function": interrupt,
    "method": Handler().handle,
    "partial": functools.partial(interrupt, 1),
    "object": Handler(),
}
signal.signal(signal.SIGINT, handlers[sys.argv[1]])
vat = ManualVat()
counter = vat.spawn(Counter)
tell(counter.add)
try:
    vat.drain()
    raise AssertionError("no KeyboardInterrupt")
except KeyboardInterrupt:
    pass
assert (vat.backlog, counter.get()) == (1, 0)
vat.drain()
assert counter.get() == 1
print("done")
