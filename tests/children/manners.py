"""Ends in the way it is told, with a vat in some awkward state. Prints `done` before it ends."""

import atexit
import contextlib
import signal
import sys
import threading
from pathlib import Path

from goblins import (
    Actor,
    Migrations,
    PersistenceEnv,
    RocksStore,
    Vat,
    actor,
    field,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)


@actor
def counter(bcom, value=0):
    return lambda: bcom(counter(bcom, value + 1), value)


ENV = PersistenceEnv("test", counter)

case, folder = sys.argv[1], Path(sys.argv[2])
vat = Vat()
ticks = vat.spawn(counter)


def say(text):
    print(text, flush=True)


def again(bcom, me):
    def behavior(fn=None):
        tell(me[0])

    return behavior


match case:
    case "signals":
        numbers = signal.valid_signals()
        before = {number: signal.getsignal(number) for number in numbers}
        ticks()
        send(ticks).result(timeout=30)
        with RocksStore(folder / "s") as store:
            spawn_persistent_vat(ENV, lambda: spawn(counter), store)[1]()
        vat.close()
        assert before == {number: signal.getsignal(number) for number in numbers}
        with open("/proc/self/status") as status:
            (caught,) = (int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
        # Python itself catches only this one.
        assert caught & (1 << (signal.SIGTERM - 1)) == 0
        say("done")
    case "endless messages":
        me = []
        me.append(vat.spawn(again, me))
        tell(me[0])
        say("done")
    case "endless turn":
        entered = threading.Event()

        def spin():
            entered.set()
            while True:
                pass

        tell(vat.spawn(lambda bcom: spin))
        entered.wait()
        say("done")
    case "waiting thread":
        promise, resolver = promise_and_resolver()
        started = threading.Event()

        def wait():
            started.set()
            promise.result()

        threading.Thread(target=wait, daemon=True).start()
        started.wait()
        say("done")
    case "unheard promise":

        def fail(bcom):
            return lambda: 1 / 0

        kept = send(vat.spawn(fail))
        vat.drain(timeout=30)
        say("done")
    case "open store":
        store = RocksStore(folder / "s")
        kept = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        kept[1]()
        say("done")
    case "open store with messages":
        store = RocksStore(folder / "s")
        home, stored = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        answers = [send(stored) for _ in range(1000)]
        say("done")
    case "sys.exit in a block":
        say("done")
        with vat:
            ticks()
            sys.exit(0)
    case "sys.exit in a message":

        def leave(bcom):
            return lambda: sys.exit(3)

        tell(vat.spawn(leave))
        vat.drain(timeout=30)
        assert ticks() == 0
        say("done")
    case "atexit":

        def at_exit():
            assert ticks() == 0
            assert send(ticks).result(timeout=30) == 1
            vat.close()
            say("done")

        atexit.register(at_exit)
    case "finalizers":

        class Last:
            """Uses the vat when it goes, however late that is."""

            def __del__(self):
                with contextlib.suppress(BaseException):
                    ticks()

        keep = Last()
        cycle = [keep]
        cycle.append(cycle)
        promise, resolver = promise_and_resolver()
        vat.spawn(lambda bcom: lambda: keep)
        say("done")
    case "endless upgrade" | "endless default":
        entered = threading.Event()

        def spin(**_fields):
            entered.set()
            while True:
                pass

        class Box(Actor):
            def look(self):
                pass

        with RocksStore(folder / "s") as store:
            spawn_persistent_vat(PersistenceEnv("test", Box), lambda: spawn(Box), store)
        if case == "endless upgrade":
            migrations = Migrations()
            migrations.to(1)(spin)

            class Box(Actor, version=1, upgrade=migrations):
                def look(self):
                    pass
        else:

            class Box(Actor):
                new: object = field(default_factory=spin)

                def look(self):
                    pass

        home, box = spawn_persistent_vat(
            PersistenceEnv("test", Box), lambda: spawn(Box), RocksStore(folder / "s")
        )
        tell(box.look)
        entered.wait()
        say("done")
    case "block left open":
        vat.__enter__()
        assert ticks() == 0
        say("done")
    case "block left open in a block":
        vat.__enter__()
        vat.__enter__()
        assert ticks() == 0
        say("done")
    case "block left open of a store":
        home, stored = spawn_persistent_vat(ENV, lambda: spawn(counter), RocksStore(folder / "s"))
        home.__enter__()
        assert stored() == 0
        say("done")
    case "exit stack left open":
        stack = contextlib.ExitStack()
        stack.enter_context(vat)
        assert ticks() == 0
        say("done")
    case "generator left in a block":

        def wait():
            with vat:
                assert ticks() == 0
                yield

        waiting = wait()
        next(waiting)
        say("done")
    case "thread ends in a block":

        def enter():
            vat.__enter__()
            assert ticks() == 0

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        # It was undone, and the vat is free.
        assert ticks() == 0
        say("done")
    case "thread stays in a block":
        entered = threading.Event()

        def stay():
            with vat:
                ticks()
                entered.set()
                while True:
                    pass

        threading.Thread(target=stay, daemon=True).start()
        entered.wait()
        say("done")
    case "block opened at the very end":

        class Late:
            def __del__(self):
                with contextlib.suppress(BaseException):
                    vat.__enter__()
                    ticks()

        sys.late = Late()
        say("done")
    case "block opened at exit":
        atexit.register(vat.__enter__)
        say("done")
    case "uncaught error":
        with vat:
            ticks()
            raise RuntimeError("uncaught")
    case _:
        raise SystemExit(f"no such case: {case}")
