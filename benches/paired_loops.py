"""What `paired.py` measures: loops with Goblins, and what stands beside them."""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

#: A loop: does so many rounds.
Loop = Callable[[int], object]

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


def in_churns(vat: Any, some: Loop) -> Loop:
    """Turns that do up to 1,000 rounds each, so that what waits stays little."""

    def loop(rounds: int) -> None:
        while rounds > 0:
            vat.run(some, min(rounds, 1000))
            rounds -= 1000

    return loop


def telling(vat: Any, target: Any, *args: Any) -> Loop:
    from goblins import tell

    def some(number: int) -> None:
        for _ in range(number):
            tell(target, *args)

    return in_churns(vat, some)


@contextmanager
def tell_to_a_function() -> Iterator[Loop]:
    with vat_and(counter_of()) as (vat, ref):
        yield telling(vat, ref)


@contextmanager
def tell_to_a_class() -> Iterator[Loop]:
    with vat_and(account()) as (vat, ref):
        yield telling(vat, ref.add, 1)


def sending_and_listening(vat: Any, ref: Any) -> Loop:
    from goblins import on, send

    def some(number: int) -> None:
        for _ in range(number):
            on(send(ref), lambda value: None)

    return in_churns(vat, some)


@contextmanager
def send_and_on() -> Iterator[Loop]:
    with vat_and(reader) as (vat, ref):
        yield sending_and_listening(vat, ref)


@contextmanager
def send_and_result() -> Iterator[Loop]:
    from goblins import send

    with vat_and(reader) as (_, ref):
        yield repeated(lambda: send(ref).result())


def rounds_of(wait: Callable[[], Any], at_once: int) -> Callable[[int], Any]:
    """A coroutine that waits for so many at a time, as often as it is told to."""

    async def rounds(number: int) -> None:
        for _ in range(number):
            if at_once == 1:
                await wait()
            else:
                await asyncio.gather(*(wait() for _ in range(at_once)))

    return rounds


def new_loop(uvloop: bool) -> asyncio.AbstractEventLoop:
    if not uvloop:
        return asyncio.new_event_loop()
    import uvloop as library

    loop: asyncio.AbstractEventLoop = library.new_event_loop()
    return loop


@contextmanager
def awaited(asyncio_vat: bool = False, at_once: int = 1, uvloop: bool = False) -> Iterator[Loop]:
    from goblins import AsyncioVat, Vat, send

    event_loop = new_loop(uvloop)
    vat = AsyncioVat(event_loop) if asyncio_vat else Vat()

    async def make() -> Any:
        return vat.spawn(reader)

    ref = event_loop.run_until_complete(make())

    async def wait() -> Any:
        return await send(ref)

    rounds = rounds_of(wait, at_once)
    try:
        yield lambda number: event_loop.run_until_complete(rounds(number))
    finally:
        vat.close()
        event_loop.close()


@contextmanager
def awaited_with_all_of(at_once: int = 100) -> Iterator[Loop]:
    from goblins import all_of, send

    event_loop = new_loop(False)

    async def rounds(number: int) -> None:
        for _ in range(number):
            await all_of(*[send(ref) for _ in range(at_once)])

    with vat_and(reader) as (_, ref):
        yield lambda number: event_loop.run_until_complete(rounds(number))
    event_loop.close()


@contextmanager
def awaited_in_trio() -> Iterator[Loop]:
    import trio
    from goblins import send

    with vat_and(reader) as (_, ref):

        async def rounds(number: int) -> None:
            for _ in range(number):
                await send(ref)

        yield lambda number: trio.run(rounds, number)


@contextmanager
def durable_awaits(at_once: int) -> Iterator[Loop]:
    from goblins import PersistenceEnv, RocksStore, send, spawn, spawn_persistent_vat

    made = account()
    event_loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as folder, RocksStore(Path(folder) / "s") as store:
        _, ref = spawn_persistent_vat(PersistenceEnv("bench", made), lambda: spawn(made), store)
        add = ref.add

        async def wait() -> Any:
            return await send(add, 1)

        rounds = rounds_of(wait, at_once)
        yield lambda number: event_loop.run_until_complete(rounds(number))
    event_loop.close()


@contextmanager
def durable_threads(number: int = 64) -> Iterator[Loop]:
    """So many threads call, each into a vat of its own, of one store."""
    from goblins import PersistenceEnv, RocksStore, spawn, spawn_persistent_vat

    made = account()
    env = PersistenceEnv("bench", made)
    begin, end = threading.Barrier(number + 1), threading.Barrier(number + 1)
    todo = [0]

    def calls(add: Any) -> None:
        while True:
            begin.wait()
            if not todo[0]:
                return
            for _ in range(todo[0]):
                add(1)
            end.wait()

    with tempfile.TemporaryDirectory() as folder, RocksStore(Path(folder) / "s") as store:
        refs = [spawn_persistent_vat(env, lambda: spawn(made), store.vat(f"v{n}"))[1] for n in range(number)]
        threads = [threading.Thread(target=calls, args=(ref.add,), daemon=True) for ref in refs]
        for thread in threads:
            thread.start()

        def loop(rounds: int) -> None:
            todo[0] = rounds
            begin.wait()
            end.wait()

        yield loop
        todo[0] = 0
        begin.wait()
        for thread in threads:
            thread.join()


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
def many_durable(number: int) -> Iterator[Loop]:
    with durable(True) as loop:
        yield lambda rounds: loop(number * rounds)


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
def asyncio_queue(with_future: bool = False, at_once: int = 1, uvloop: bool = False) -> Iterator[Loop]:
    event_loop = new_loop(uvloop)

    async def serve(inbox: asyncio.Queue[Any]) -> None:
        while True:
            answer = await inbox.get()
            if answer is not None:
                answer.set_result(1)

    async def run(number: int) -> None:
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        if not with_future:
            for _ in range(number):
                inbox.put_nowait(None)
                await inbox.get()
            return

        async def ask() -> Any:
            answer = event_loop.create_future()
            inbox.put_nowait(answer)
            return await answer

        server = asyncio.ensure_future(serve(inbox))
        await rounds_of(ask, at_once)(number)
        server.cancel()

    try:
        yield lambda rounds: event_loop.run_until_complete(run(rounds))
    finally:
        event_loop.close()


@contextmanager
def channel_of_trio() -> Iterator[Loop]:
    """An actor by hand: a task, and a channel for each answer."""
    import trio

    async def serve(inbox: Any) -> None:
        async for answers in inbox:
            answers.send_nowait(1)

    async def run(number: int) -> None:
        sender, inbox = trio.open_memory_channel[Any](100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, inbox)
            for _ in range(number):
                answers, answer = trio.open_memory_channel[int](1)
                sender.send_nowait(answers)
                await answer.receive()
            nursery.cancel_scope.cancel()

    yield lambda rounds: trio.run(run, rounds)


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


@contextmanager
def pykka_actor() -> Iterator[Any]:
    import pykka

    class Counter(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            self.value = 0

        def on_receive(self, message: Any) -> int:
            self.value += 1
            return self.value

    started = Counter.start()
    try:
        yield started
    finally:
        started.stop()


@contextmanager
def pykka_tell() -> Iterator[Loop]:
    with pykka_actor() as counter:

        def loop(rounds: int) -> None:
            while rounds > 0:
                for _ in range(min(rounds, 1000) - 1):
                    counter.tell(1)
                counter.ask(1)
                rounds -= 1000

        yield loop


@contextmanager
def pykka_ask() -> Iterator[Loop]:
    with pykka_actor() as counter:
        yield repeated(lambda: counter.ask(1))


class Pair(NamedTuple):
    name: str
    measured: Any
    beside: Any
    #: The most that the ratio may be.
    aim: float | None = None


PAIRS = [
    Pair("near read: function / closure", near_function_that_reads, closure, 1.6),
    Pair("near read: class / method", near_class_that_reads, method_that_reads, 2.8),
    Pair("near change: function / closure", near_function_that_changes, closure_with_a_successor, 1.5),
    Pair("near change: class / method", near_class_that_changes, method_that_changes, 3.3),
    Pair("tell: function / asyncio.Queue", tell_to_a_function, asyncio_queue, 1.2),
    Pair("tell: class / asyncio.Queue", tell_to_a_class, asyncio_queue, 1.0),
    Pair("outside read: function / closure", outside_call_that_reads, closure),
    Pair("outside change: class / method and lock", outside_call_that_changes, method_under_a_lock),
    Pair("tell: function / Pykka's tell", tell_to_a_function, pykka_tell),
    Pair("send + on / asyncio.Queue", send_and_on, lambda: asyncio_queue(True)),
    Pair("send + result / asyncio.Queue", send_and_result, lambda: asyncio_queue(True), 0.25),
    Pair("send + result / thread with queues", send_and_result, thread_with_a_queue),
    Pair("send + result / Pykka's ask", send_and_result, pykka_ask),
    Pair("await: one / asyncio.Queue", awaited, lambda: asyncio_queue(True), 1.5),
    Pair("await: 100 / asyncio.Queue", lambda: awaited(at_once=100), lambda: asyncio_queue(True, 100), 0.7),
    Pair("await: all_of 100 / asyncio.Queue", awaited_with_all_of, lambda: asyncio_queue(True, 100)),
    Pair("await: AsyncioVat / asyncio.Queue", lambda: awaited(True), lambda: asyncio_queue(True), 1.0),
    Pair(
        "await: AsyncioVat, 100 / asyncio.Queue",
        lambda: awaited(True, at_once=100),
        lambda: asyncio_queue(True, 100),
    ),
    Pair(
        "await: uvloop / asyncio.Queue on it",
        lambda: awaited(uvloop=True),
        lambda: asyncio_queue(True, uvloop=True),
    ),
    Pair("await: trio / its channels", awaited_in_trio, channel_of_trio),
    Pair("durable: sync / append and fdatasync", lambda: durable(True), append_and_sync, 1.2),
    Pair("durable: sync / SQLite FULL", lambda: durable(True), lambda: sqlite("FULL")),
    Pair("durable: an await / one call", lambda: durable_awaits(1), lambda: durable(True)),
    Pair(
        "durable: 100 awaits at once / 100 calls",
        lambda: durable_awaits(100),
        lambda: many_durable(100),
        0.06,
    ),
    Pair("durable: 64 threads, 64 vats / 64 calls", durable_threads, lambda: many_durable(64), 0.35),
    Pair("durable: no sync / SQLite NORMAL", lambda: durable(False), lambda: sqlite("NORMAL")),
    Pair(
        "durable: beside 10,000 others / beside none", lambda: durable(False, 10_000), lambda: durable(False)
    ),
    Pair("durable: a churn of 1,000 / 1,000 closures", durable_churn_of_many, thousand_closures),
]
