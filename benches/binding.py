"""The loops that binding.rs times.

Each function here is a context manager that makes what it needs and gives a loop: a function that does so
many rounds. Loops to be compared differ only in what is called: the interpreter's own work is the same.
"""

import gc
import queue
import tempfile
import threading
from collections import deque
from contextlib import contextmanager

from goblins import (
    MemoryStore,
    PersistenceEnv,
    RocksStore,
    Vat,
    actor,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)

AT_ONCE = 1000
"""So many messages go into one churn where a bench is about messages."""


def in_portions(run):
    """A loop that does at most AT_ONCE rounds with each call of `run`."""

    def loop(rounds):
        while rounds > 0:
            portion = min(rounds, AT_ONCE)
            run(portion)
            rounds -= portion

    return loop


def calls(function):
    """A loop of calls."""

    def loop(rounds):
        for _ in range(rounds):
            function()

    return loop


# Actors. Each has the same thing in plain Python beside it.


def getter(bcom, value=0):
    def get():
        return value

    return get


def plain_getter(value=0):
    def get():
        return value

    return get


def counter(bcom, value=0):
    def add():
        return bcom(counter(bcom, value + 1), value)

    return add


def plain_counter(value=0):
    def add():
        return plain_counter(value + 1), value

    return add


@actor
def stored_counter(bcom, value=0):
    def add():
        return bcom(stored_counter(bcom, value + 1), value)

    return add


@actor
def holder(bcom, held=()):
    def get():
        return held

    return get


class Handle:
    """What a Ref is, in plain Python: it stays the same while its behavior changes."""

    __slots__ = ("behavior",)

    def __init__(self, behavior):
        self.behavior = behavior

    def __call__(self):
        self.behavior, value = self.behavior()
        return value


# Calls within one turn.


@contextmanager
def near_call():
    vat = Vat()
    loop = calls(vat.spawn(getter))
    yield lambda rounds: vat.run(loop, rounds)


@contextmanager
def plain_call():
    yield calls(plain_getter())


@contextmanager
def near_call_bcom(constructor=counter):
    vat = Vat()
    loop = calls(vat.spawn(constructor))
    yield lambda rounds: vat.run(loop, rounds)


def near_call_bcom_portrait():
    return near_call_bcom(stored_counter)


@contextmanager
def plain_call_successor():
    def loop(rounds):
        behavior = plain_counter()
        for _ in range(rounds):
            behavior, _value = behavior()

    yield loop


@contextmanager
def plain_call_handle():
    yield calls(Handle(plain_counter()))


# Messages: each is a turn of its own.


@contextmanager
def tell_near(constructor, log=False):
    vat = Vat(log=log)
    ref = vat.spawn(constructor)

    def tell_all(count):
        for _ in range(count):
            tell(ref)

    yield in_portions(lambda count: vat.run(tell_all, count))


def tell_no_change():
    return tell_near(getter)


def tell_bcom():
    return tell_near(counter)


def tell_bcom_logged():
    return tell_near(counter, log=True)


@contextmanager
def tell_outside():
    vat = Vat()
    ref = vat.spawn(counter)

    def run(count):
        for _ in range(count):
            tell(ref)
        vat.drain()

    yield in_portions(run)


@contextmanager
def plain_queue():
    waiting = deque()
    handle = Handle(plain_counter())

    def run(count):
        for _ in range(count):
            waiting.append((handle, ()))
        while waiting:
            target, args = waiting.popleft()
            target(*args)

    yield in_portions(run)


@contextmanager
def send_and_listen(constructor):
    vat = Vat()
    ref = vat.spawn(constructor)

    def listener(value):
        return value

    def send_all(count):
        for _ in range(count):
            on(send(ref), listener)

    yield in_portions(lambda count: vat.run(send_all, count))


def send_and_listen_no_change():
    return send_and_listen(getter)


def send_and_listen_bcom():
    return send_and_listen(counter)


# Calls from outside: each is a turn of its own, on the calling thread.


@contextmanager
def outside_call(constructor):
    vat = Vat()
    yield calls(vat.spawn(constructor))


def outside_call_no_change():
    return outside_call(getter)


def outside_call_bcom():
    return outside_call(counter)


@contextmanager
def plain_call_locked():
    lock = threading.Lock()
    handle = Handle(plain_counter())

    def call():
        with lock:
            return handle()

    yield calls(call)


# Churns of one changed actor, of a vat that is stored.


@contextmanager
def churn(store, others):
    env = PersistenceEnv("bench", stored_counter, holder)

    def roots():
        return spawn(stored_counter), spawn(holder, tuple(spawn(stored_counter) for _ in range(others)))

    with store:
        _vat, changed, _others = spawn_persistent_vat(env, roots, store)
        # Else the collector would look at all the new actors while the churns are timed.
        gc.collect()
        yield calls(changed)


def churn_memory_1():
    return churn(MemoryStore(), 1)


def churn_memory_100000():
    return churn(MemoryStore(), 100_000)


@contextmanager
def churn_rocks(others):
    with (
        tempfile.TemporaryDirectory() as folder,
        churn(RocksStore(f"{folder}/store", sync=False), others) as loop,
    ):
        yield loop


def churn_rocks_1():
    return churn_rocks(1)


def churn_rocks_100000():
    return churn_rocks(100_000)


# Messages there and back between two vats, which the workers run.


@contextmanager
def round_trip_one_at_a_time():
    home, away = Vat(), Vat()
    echo = away.spawn(getter)

    def loop(rounds):
        done, resolver = promise_and_resolver()
        left = rounds

        def step(_):
            nonlocal left
            if not left:
                return resolver.fulfil(None)
            left -= 1
            on(send(echo), step)

        home.run(step, None)
        done.result()

    yield loop


@contextmanager
def round_trip_many_at_once():
    home, away = Vat(), Vat()
    echo = away.spawn(getter)

    def run(count):
        done, resolver = promise_and_resolver()
        left = count

        def arrived(_):
            nonlocal left
            left -= 1
            if not left:
                resolver.fulfil(None)

        def start():
            for _ in range(count):
                on(send(echo), arrived)

        home.run(start)
        done.result()

    yield in_portions(run)


@contextmanager
def plain_threads():
    there, back = queue.SimpleQueue(), queue.SimpleQueue()

    def echo():
        while there.get() is not None:
            back.put(0)

    thread = threading.Thread(target=echo)
    thread.start()

    def round_trip():
        there.put(0)
        back.get()

    yield calls(round_trip)
    there.put(None)
    thread.join()
