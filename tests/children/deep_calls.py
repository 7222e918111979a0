"""Calls of actors that nest deeper than the stack of the thread allows, and then some that must find room."""

import sys
import threading

from goblins import Actor, Vat, actor, spawn, tell

# The interpreter's own limit never comes to bear.
sys.setrecursionlimit(10**7)
DEPTH = 10**6


class Deep(Actor):
    def go(self, depth):
        return 1 + self.ref.go(depth - 1) if depth else 0


@actor
def deep(bcom):
    return lambda me, depth: 1 + me(me, depth - 1) if depth else 0


@actor
def nested(bcom, depth):
    if depth:
        spawn(nested, depth - 1)
    return lambda: depth


@actor
def runner(bcom):
    return lambda function: function()


vat = Vat("deep", slow_turn=None)
method, function, run = vat.spawn(Deep), vat.spawn(deep), vat.spawn(runner)


# From 3.12 on CPython has a limit of its own for calls in C, which nobody can raise. Where calls take little
# of the stack it comes first.
LIMITS = ["stack of this thread"]
if sys.version_info >= (3, 12):
    LIMITS.append("maximum recursion depth exceeded")


def attempt(call, *args):
    try:
        return call(*args)
    except RecursionError as error:
        return "RecursionError" if any(limit in str(error) for limit in LIMITS) else str(error)


def body():
    print(
        attempt(method.go, DEPTH),
        attempt(function, function, DEPTH),
        attempt(vat.spawn, nested, DEPTH),
        attempt(method.go, int(sys.argv[2])),
    )


where = sys.argv[1]
if where == "main":
    body()
elif where == "worker":
    done = threading.Event()
    tell(run, lambda: (body(), done.set()))
    done.wait()
else:
    if where == "small thread":
        threading.stack_size(1 << 20)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
