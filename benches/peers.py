"""Goblins beside other ways to do the same in Python, in one run: prints a table, writes docs/benchmarks.md.

    make bench-peers                 # all, about two minutes
    python benches/peers.py --quick  # each for a moment, nothing is written

Each figure is the median of several rounds, in which all take turns: so a disturbance hits all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka
from goblins import (
    Actor,
    MemoryStore,
    PersistenceEnv,
    RocksStore,
    Vat,
    actor,
    on,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


@actor
def counter(bcom: Any, value: int = 0) -> Any:
    def tick() -> Any:
        return bcom(counter(bcom, value + 1), value)

    return tick


@actor
def constant(bcom: Any, value: int = 0) -> Any:
    return lambda: value


class Counter(Actor):
    value: int = 0

    def tick(self) -> int:
        self.value += 1
        return self.value


class Successor:
    """A plain object that calls a closure, and keeps the closure that this gives."""

    def __init__(self) -> None:
        self.behavior = self.make(0)

    def make(self, value: int) -> Callable[[], Any]:
        return lambda: (self.make(value + 1), value)

    def __call__(self) -> Any:
        self.behavior, value = self.behavior()
        return value


class PykkaCounter(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def on_receive(self, message: Any) -> int:
        self.value += 1
        return self.value


class QueueCounter:
    """An actor as one would write it with asyncio.Queue."""

    def __init__(self) -> None:
        self.value = 0

    async def serve(self, queue: asyncio.Queue[asyncio.Future[int] | None]) -> None:
        while True:
            answer = await queue.get()
            self.value += 1
            if answer is not None:
                answer.set_result(self.value)
            queue.task_done()


Loop = Callable[[int], None]


def call(function: Callable[[], Any]) -> Loop:
    def loop(count: int) -> None:
        for _ in range(count):
            function()

    return loop


def in_a_turn(vat: Vat, function: Callable[[], Any]) -> Loop:
    def loop(count: int) -> None:
        vat.run(call(function), count)

    return loop


def in_turns(vat: Vat, function: Callable[[], Any]) -> Loop:
    """Churns of at most 1,000 messages: so that what waits stays small."""

    def loop(count: int) -> None:
        for _ in range(max(count // 1000, 1)):
            vat.run(call(function), min(count, 1000))

    return loop


def asyncio_queue(ask: bool) -> Loop:
    async def run(count: int) -> None:
        queue: asyncio.Queue[asyncio.Future[int] | None] = asyncio.Queue()
        serving = asyncio.create_task(QueueCounter().serve(queue))
        loop = asyncio.get_running_loop()
        for _ in range(count):
            answer = loop.create_future() if ask else None
            queue.put_nowait(answer)
            if answer is not None:
                await answer
        await queue.join()
        serving.cancel()

    return lambda count: asyncio.run(run(count))


def pykka_tell(ref: Any) -> Loop:
    def loop(count: int) -> None:
        for _ in range(count):
            ref.tell(None)
        ref.ask(None)

    return loop


def pykka_ask(ref: Any) -> Loop:
    def loop(count: int) -> None:
        for _ in range(count):
            ref.ask(None)

    return loop


def round_trips(vat: Vat, far: Any) -> Loop:
    def loop(count: int) -> None:
        for _ in range(max(count // 1000, 1)):
            answers = vat.run(lambda: [send(far) for _ in range(min(count, 1000))])
            answers[-1].result()

    return loop


def benches(folder: str) -> tuple[dict[str, dict[str, Loop]], Callable[[], None]]:
    vat, other = Vat(), Vat()
    same, ticks, count = vat.spawn(constant), vat.spawn(counter), vat.spawn(Counter)
    far = other.spawn(counter)
    handle = Successor()
    env = PersistenceEnv("bench", counter, Counter)
    memory, rocks = MemoryStore(), RocksStore(Path(folder, "unsynced"), sync=False)
    synced = RocksStore(Path(folder, "synced"))
    stored = [
        spawn_persistent_vat(env, lambda: spawn(counter), store)[1] for store in (memory, rocks, synced)
    ]
    pykka_ref = PykkaCounter.start()

    def stop() -> None:
        pykka_ref.stop()
        for store in (memory, rocks, synced):
            store.close()
        vat.close()
        other.close()

    plain = constant.__wrapped__(None)
    tables: dict[str, dict[str, Loop]] = {
        "a near call, nothing changes": {
            "plain closure": call(plain),
            "goblins": in_a_turn(vat, same),
        },
        "a near call that changes the actor": {
            "plain object": call(handle),
            "goblins, function": in_a_turn(vat, ticks),
            "goblins, class": in_a_turn(vat, count.tick),
        },
        "a message that nobody answers": {
            "asyncio.Queue": asyncio_queue(ask=False),
            "Pykka tell": pykka_tell(pykka_ref),
            "goblins tell, nothing changes": in_turns(vat, lambda: tell(same)),
            "goblins tell, function": in_turns(vat, lambda: tell(ticks)),
            "goblins tell, class": in_turns(vat, lambda: tell(count.tick)),
        },
        "a message and its answer": {
            "asyncio.Queue": asyncio_queue(ask=True),
            "Pykka ask": pykka_ask(pykka_ref),
            "goblins send + on, one vat": in_turns(vat, lambda: on(send(ticks), id)),
            "goblins send, two vats": round_trips(vat, far),
            "goblins call from outside": call(ticks),
        },
        "a call from outside that is stored": {
            "goblins, in memory": call(stored[0]),
            "goblins, RocksDB, sync=False": call(stored[1]),
            "goblins, RocksDB, sync=True": call(stored[2]),
        },
    }
    return tables, stop


def measure(loop: Loop, seconds: float) -> float:
    """Seconds for one, with as many as take about `seconds`."""
    count = 1
    while True:
        start = time.perf_counter()
        loop(count)
        taken = time.perf_counter() - start
        if taken >= seconds:
            return taken / count
        count = max(count * 2, int(count * seconds / max(taken, 1e-9)))


def run(rounds: int, seconds: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        tables, stop = benches(folder)
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for title, loops in tables.items():
                for name, loop in loops.items():
                    times.setdefault((title, name), []).append(measure(loop, seconds))
        stop()
    lines = []
    for title, loops in tables.items():
        first = statistics.median(times[title, next(iter(loops))])
        lines += [f"### {title.capitalize()}", "", "| | ns | M/s | time, first = 1 |", "|---|---:|---:|---:|"]
        for name in loops:
            one = statistics.median(times[title, name])
            lines.append(f"| {name} | {one * 1e9:,.0f} | {1 / one / 1e6:.3f} | {one / first:.2f} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="each for a moment; nothing is written")
    quick = parser.parse_args().quick
    table = run(1, 0.002) if quick else run(7, 0.3)
    print(table)
    if not quick:
        where = f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores"
        PAGE.write_text(
            "# Benchmarks\n\n"
            "Goblins beside other ways to do the same, in one run of `make bench-peers`. Medians of seven\n"
            f"rounds, on {platform.system()}, {where}. Only the ratios within a table say something: the\n"
            "figures are of the machine. The benches of the parts are in\n"
            "[`benches/`](../benches/README.md).\n\n" + table
        )


if __name__ == "__main__":
    main()
