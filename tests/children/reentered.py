"""Does what it is told, and the same again in the midst of it, as handlers of signals and finalizers may."""

import builtins
import sys

import goblins
from goblins import Actor, Vat, send, to_thread


class Holder(Actor):
    value: int = 0

    def put(self, value):
        self.value = value

    async def waits(self):
        return await send(self.ref.get)

    def get(self):
        return self.value


vat = Vat(slow_turn=None)
holder = vat.spawn(Holder)
waiting = []


def block():
    with vat:
        holder.put(1)


def coroutine():
    with vat:
        waiting.append(holder.waits())


def thread():
    waiting.append(to_thread(int, 0))


use = {"block": block, "coroutine": coroutine, "thread": thread}[sys.argv[1]]
inside = False


def again():
    global inside
    if not inside:
        inside = True
        use()
        inside = False


real_import = builtins.__import__


def import_again(*args, **kwargs):
    again()
    return real_import(*args, **kwargs)


def trace_again(frame, event, arg):
    if frame.f_code.co_filename.startswith(goblins.__path__[0]):
        if event == "line":
            again()
        return trace_again


if sys.argv[1] == "thread":
    # Before each line of the package, on this thread.
    sys.settrace(trace_again)
    for _ in range(3):
        use()
    sys.settrace(None)
else:
    # Before each import.
    builtins.__import__ = import_again
    use()
    builtins.__import__ = real_import
assert all(promise.result(30) == 0 for promise in waiting)
print("done")
