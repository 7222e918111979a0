#!/usr/bin/env python3
"""Compares two things by slices in turn: a few milliseconds of the one, a few of the other, and so on.

    python benches/paired.py                        # goblins beside plain Python, queues, files and SQLite
    python benches/paired.py near tell              # those with such a word in their name
    python benches/paired.py --against OTHER/python # this package beside that of another folder

A machine may change its speed by two every few seconds. Neighbouring slices see the same speed, so the ratio
of two neighbours is right though neither time is. Shown are the median of these ratios, and their quartiles.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import json
import os
import queue
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: A loop: does so many rounds.
Loop = Callable[[int], object]
#: How long a slice takes, in seconds.
SLICE = 0.005


def rounds_for(loop: Loop, seconds: float) -> int:
    """So many rounds take about that long."""
    rounds = 1
    while True:
        begin = time.perf_counter()
        loop(rounds)
        took = time.perf_counter() - begin
        if took > seconds / 4:
            return max(1, int(rounds * seconds / took))
        rounds *= 2


def timed(loop: Loop, rounds: int) -> float:
    """Seconds for one round."""
    begin = time.perf_counter()
    loop(rounds)
    return (time.perf_counter() - begin) / rounds


def ratios(one: Callable[[], float], other: Callable[[], float], slices: int) -> list[float]:
    """The ratios of neighbouring slices; who comes first changes."""
    found = []
    for number in range(slices):
        if number % 2:
            a = one()
            found.append(a / other())
        else:
            b = other()
            found.append(one() / b)
    return found


def shown(name: str, found: list[float]) -> str:
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{name:48} {middle:7.3f}   ({low:.3f} to {high:.3f})"


# What is measured. Each gives a loop, and takes away what it needed at the end.


@contextmanager
def vat_and(*constructors: Any, **options: Any) -> Iterator[Any]:
    from goblins import Vat

    vat = Vat(**options)
    try:
        yield (vat, *(vat.spawn(constructor) for constructor in constructors))
    finally:
        vat.close()


def counter_of() -> Any:
    from goblins import actor

    @actor
    def counter(bcom: Any, value: int = 0) -> Any:
        return lambda: bcom(counter(bcom, value + 1), value)

    return counter


def reader(bcom: Any) -> Any:
    return lambda: 1


def account() -> Any:
    from goblins import Actor

    class Account(Actor):
        balance: int = 0

        def get(self) -> int:
            return self.balance

        def add(self, amount: int) -> int:
            self.balance += amount
            return self.balance

    return Account


def repeated(call: Callable[[], object]) -> Loop:
    def loop(rounds: int) -> None:
        for _ in range(rounds):
            call()

    return loop


def within(vat: Any, loop: Loop) -> Loop:
    return lambda rounds: vat.run(loop, rounds)


@contextmanager
def near_function_that_reads() -> Iterator[Loop]:
    with vat_and(reader) as (vat, ref):
        yield within(vat, repeated(ref))


@contextmanager
def near_function_that_changes() -> Iterator[Loop]:
    with vat_and(counter_of()) as (vat, ref):
        yield within(vat, repeated(ref))


@contextmanager
def near_class_that_reads() -> Iterator[Loop]:
    with vat_and(account()) as (vat, ref):
        yield within(vat, repeated(ref.get))


@contextmanager
def near_class_that_changes() -> Iterator[Loop]:
    with vat_and(account()) as (vat, ref):
        add = ref.add
        yield within(vat, repeated(lambda: add(1)))


@contextmanager
def outside_call_that_reads() -> Iterator[Loop]:
    with vat_and(reader) as (_, ref):
        yield repeated(ref)


@contextmanager
def outside_call_that_changes() -> Iterator[Loop]:
    with vat_and(account()) as (_, ref):
        add = ref.add
        yield repeated(lambda: add(1))


def telling(vat: Any, target: Any, *args: Any) -> Loop:
    from goblins import tell

    def some(number: int) -> None:
        for _ in range(number):
            tell(target, *args)

    def loop(rounds: int) -> None:
        while rounds > 0:
            vat.run(some, min(rounds, 1000))
            rounds -= 1000

    return loop


@contextmanager
def tell_to_a_function() -> Iterator[Loop]:
    with vat_and(counter_of()) as (vat, ref):
        yield telling(vat, ref)


@contextmanager
def tell_to_a_class() -> Iterator[Loop]:
    with vat_and(account()) as (vat, ref):
        yield telling(vat, ref.add, 1)


@contextmanager
def send_and_on() -> Iterator[Loop]:
    from goblins import on, send

    with vat_and(reader) as (vat, ref):

        def some(number: int) -> None:
            for _ in range(number):
                on(send(ref), lambda value: None)

        def loop(rounds: int) -> None:
            while rounds > 0:
                vat.run(some, min(rounds, 1000))
                rounds -= 1000

        yield loop


@contextmanager
def send_and_result() -> Iterator[Loop]:
    from goblins import send

    with vat_and(reader) as (_, ref):
        yield repeated(lambda: send(ref).result())


@contextmanager
def awaited(asyncio_vat: bool = False, at_once: int = 1) -> Iterator[Loop]:
    from goblins import AsyncioVat, Vat, send

    event_loop = asyncio.new_event_loop()
    vat = AsyncioVat(event_loop) if asyncio_vat else Vat()

    async def make() -> Any:
        return vat.spawn(reader)

    ref = event_loop.run_until_complete(make())

    async def wait() -> Any:
        return await send(ref)

    async def rounds_of(number: int) -> None:
        if at_once == 1:
            for _ in range(number):
                await send(ref)
        else:
            for _ in range(max(1, number // at_once)):
                await asyncio.gather(*(wait() for _ in range(at_once)))

    def loop(rounds: int) -> None:
        event_loop.run_until_complete(rounds_of(rounds))

    try:
        yield loop
    finally:
        vat.close()
        event_loop.close()


@contextmanager
def durable(sync: bool, others: int = 0) -> Iterator[Loop]:
    from goblins import PersistenceEnv, RocksStore, spawn, spawn_persistent_vat

    made = account()
    with tempfile.TemporaryDirectory() as folder, RocksStore(Path(folder) / "s", sync=sync) as store:
        roots = spawn_persistent_vat(
            PersistenceEnv("bench", made), lambda: [spawn(made) for _ in range(1 + others)], store
        )
        add = roots[1].add
        yield repeated(lambda: add(1))


@contextmanager
def durable_churn_of_many(number: int = 1000) -> Iterator[Loop]:
    from goblins import PersistenceEnv, RocksStore, spawn, spawn_persistent_vat

    made = account()
    with tempfile.TemporaryDirectory() as folder, RocksStore(Path(folder) / "s", sync=False) as store:
        vat, *refs = spawn_persistent_vat(
            PersistenceEnv("bench", made), lambda: [spawn(made) for _ in range(number)], store
        )

        def change() -> None:
            for ref in refs:
                ref.add(1)

        yield repeated(lambda: vat.run(change))


# What stands beside them.


@contextmanager
def closure() -> Iterator[Loop]:
    yield repeated(reader(None))


@contextmanager
def closure_with_a_successor() -> Iterator[Loop]:
    def counter(value: int = 0) -> Any:
        return lambda: (counter(value + 1), value)

    def loop(rounds: int) -> None:
        behavior = counter()
        for _ in range(rounds):
            behavior, _ = behavior()

    yield loop


@contextmanager
def thousand_closures() -> Iterator[Loop]:
    with closure_with_a_successor() as loop:
        yield lambda rounds: loop(1000 * rounds)


class Plain:
    def __init__(self) -> None:
        self.balance = 0

    def get(self) -> int:
        return self.balance

    def add(self, amount: int) -> int:
        self.balance += amount
        return self.balance


@contextmanager
def method_that_reads() -> Iterator[Loop]:
    yield repeated(Plain().get)


@contextmanager
def method_that_changes() -> Iterator[Loop]:
    add = Plain().add
    yield repeated(lambda: add(1))


@contextmanager
def method_under_a_lock() -> Iterator[Loop]:
    lock, add = threading.Lock(), Plain().add

    def call() -> None:
        with lock:
            add(1)

    yield repeated(call)


@contextmanager
def asyncio_queue(with_future: bool = False, at_once: int = 1) -> Iterator[Loop]:
    event_loop = asyncio.new_event_loop()

    async def serve(inbox: asyncio.Queue[Any]) -> None:
        while True:
            answer = await inbox.get()
            if answer is not None:
                answer.set_result(1)

    async def ask(inbox: asyncio.Queue[Any]) -> Any:
        answer = event_loop.create_future()
        inbox.put_nowait(answer)
        return await answer

    async def rounds_of(number: int) -> None:
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        if not with_future:
            for _ in range(number):
                inbox.put_nowait(None)
                await inbox.get()
            return
        server = asyncio.ensure_future(serve(inbox))
        if at_once == 1:
            for _ in range(number):
                await ask(inbox)
        else:
            for _ in range(max(1, number // at_once)):
                await asyncio.gather(*(ask(inbox) for _ in range(at_once)))
        server.cancel()

    try:
        yield lambda rounds: event_loop.run_until_complete(rounds_of(rounds))
    finally:
        event_loop.close()


@contextmanager
def thread_with_a_queue() -> Iterator[Loop]:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def serve() -> None:
        while (answers := inbox.get()) is not None:
            answers.put(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        inbox.put(answers)
        answers.get()

    try:
        yield repeated(ask)
    finally:
        inbox.put(None)
        thread.join()


@contextmanager
def append_and_sync() -> Iterator[Loop]:
    with tempfile.TemporaryDirectory() as folder:
        file = os.open(Path(folder) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def write() -> None:
            os.write(file, b"x" * 100)
            os.fdatasync(file)

        yield repeated(write)
        os.close(file)


@contextmanager
def sqlite(synchronous: str) -> Iterator[Loop]:
    with tempfile.TemporaryDirectory() as folder:
        base = sqlite3.connect(Path(folder) / "db", isolation_level=None)
        base.execute("PRAGMA journal_mode=WAL")
        base.execute(f"PRAGMA synchronous={synchronous}")
        base.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
        base.execute("INSERT INTO account VALUES (1, 0)")
        yield repeated(lambda: base.execute("UPDATE account SET balance = balance + 1 WHERE id = 1"))
        base.close()


#: Name, what is measured, what stands beside it.
PAIRS: list[tuple[str, Any, Any]] = [
    ("near read: function / closure", near_function_that_reads, closure),
    ("near read: class / method", near_class_that_reads, method_that_reads),
    ("near change: function / closure", near_function_that_changes, closure_with_a_successor),
    ("near change: class / method", near_class_that_changes, method_that_changes),
    ("tell: function / asyncio.Queue", tell_to_a_function, asyncio_queue),
    ("tell: class / asyncio.Queue", tell_to_a_class, asyncio_queue),
    ("outside read: function / closure", outside_call_that_reads, closure),
    ("outside change: class / method and lock", outside_call_that_changes, method_under_a_lock),
    ("send + on / asyncio.Queue", send_and_on, lambda: asyncio_queue(True)),
    ("send + result / asyncio.Queue", send_and_result, lambda: asyncio_queue(True)),
    ("send + result / thread with queues", send_and_result, thread_with_a_queue),
    ("await: one / asyncio.Queue", awaited, lambda: asyncio_queue(True)),
    ("await: 100 / asyncio.Queue", lambda: awaited(at_once=100), lambda: asyncio_queue(True, 100)),
    ("await: AsyncioVat / asyncio.Queue", lambda: awaited(True), lambda: asyncio_queue(True)),
    ("durable: sync / append and fdatasync", lambda: durable(True), append_and_sync),
    ("durable: sync / SQLite FULL", lambda: durable(True), lambda: sqlite("FULL")),
    ("durable: no sync / SQLite NORMAL", lambda: durable(False), lambda: sqlite("NORMAL")),
    ("durable: beside 10,000 others / beside none", lambda: durable(False, 10_000), lambda: durable(False)),
    ("durable: a churn of 1,000 / 1,000 closures", durable_churn_of_many, thousand_closures),
]


def slice_of(name: str, loop: Loop) -> float:
    # What takes long, such as a sync, gets longer slices.
    return SLICE * 4 if name.startswith("durable") else SLICE


def beside_others(chosen: list[tuple[str, Any, Any]], slices: int) -> None:
    for name, one, other in chosen:
        with one() as first, other() as second:
            seconds = slice_of(name, first)
            a, b = rounds_for(first, seconds), rounds_for(second, seconds)
            gc.collect()
            found = ratios(
                lambda first=first, a=a: timed(first, a), lambda second=second, b=b: timed(second, b), slices
            )
        print(shown(name, found), flush=True)


class Worker:
    """A process with the package of one folder, which times slices when it is told to."""

    def __init__(self, package: str) -> None:
        command = [sys.executable, __file__, "--serve"]
        environment = {**os.environ, "PYTHONPATH": package}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, *question: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Answers a `Worker`."""
    manager: Any = None
    loop: Loop
    for line in sys.stdin:
        verb, *args = json.loads(line)
        if verb == "begin":
            (name,) = args
            manager = next(one for pair, one, _ in PAIRS if pair == name)()
            loop = manager.__enter__()
            answer: Any = rounds_for(loop, slice_of(name, loop))
        elif verb == "time":
            answer = timed(loop, args[0])
        else:
            manager.__exit__(None, None, None)
            gc.collect()
            answer = None
        print(json.dumps(answer), flush=True)


def beside_another_build(chosen: list[tuple[str, Any, Any]], other: str, slices: int) -> None:
    import goblins

    here = str(Path(goblins.__file__).parent.parent)
    for name in dict.fromkeys(name for name, _, _ in chosen):
        workers = Worker(here), Worker(other)
        rounds = min(worker.ask("begin", name) for worker in workers)
        one, other_one = (functools.partial(worker.ask, "time", rounds) for worker in workers)
        found = ratios(one, other_one, slices)
        for worker in workers:
            worker.ask("finish")
            worker.end()
        print(shown(name.split(" / ")[0], found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--against", metavar="FOLDER", help="where another package `goblins` stands")
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="a few slices of each, to see that all works")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve()
    slices = 4 if arguments.quick else arguments.slices
    chosen = [pair for pair in PAIRS if not arguments.words or any(w in pair[0] for w in arguments.words)]
    if arguments.against:
        return beside_another_build(chosen, arguments.against, slices)
    beside_others(chosen, slices)


if __name__ == "__main__":
    main()
