"""Stores of many actors: how fast they open, are walked and changed, what they take on disk and in memory.

    make bench-large                       # 1,000,000 actors, about three minutes
    python benches/large_store.py --write  # the same, and writes the section of docs/benchmarks.md
    python benches/large_store.py --quick  # a small store, for a moment; fails if something is lost
    python benches/large_store.py --cpu    # by the time of the processor, where others use it as well

Each figure is taken in a process of its own, so that nothing is in memory from the one before. The store's
files are in the cache of the system, as they are on a machine that has just been using them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Set for the processes of a run that was asked for it.
now = time.process_time if os.environ.get("GOBLINS_BENCH_CPU") else time.perf_counter
START = now()

from goblins import (  # noqa: E402 - the time that the import takes is shown
    Actor,
    List,
    PersistenceEnv,
    RocksStore,
    actor,
    field,
    lru,
    spawn,
    spawn_persistent_vat,
)
from page import machine, write_section  # noqa: E402

IMPORTED = now()
BUCKET = 1000


@actor
def counter(bcom: Any, value: int = 0) -> Any:
    def tick(by: int = 1) -> Any:
        return bcom(counter(bcom, value + by), value + by) if by else value

    return tick


class Item(Actor):
    value: int = 0

    def __call__(self, by: int = 1) -> int:
        if by:
            self.value += by
        return self.value


class Bucket(Actor):
    """Refs to a thousand items."""

    items: list[Any]

    def walk(self, by: int = 0) -> int:
        return sum(item(by) for item in self.items)

    def one(self) -> Any:
        return self.items[0]


class Shelf(Actor):
    """All buckets."""

    buckets: list[Any] = field(default_factory=list)

    def fill(self, kind: Any, count: int) -> None:
        self.buckets.append(spawn(Bucket, [spawn(kind, 1) for _ in range(count)]))

    def bucket(self, number: int) -> Any:
        return self.buckets[number]


class Row(Actor):
    """All items in one List."""

    items: List[Any] = field(default_factory=List)

    def fill(self, kind: Any, count: int) -> None:
        self.items.extend(spawn(kind, 1) for _ in range(count))

    def walk(self, start: int, count: int, by: int = 0) -> int:
        return sum(item(by) for item in self.items[start : start + count])


ENV = PersistenceEnv("large", counter, Item, Bucket, Shelf, Row)
KINDS = {"function": counter, "class": Item}


def opened(path: str, make: Callable[[], Any], **options: Any) -> tuple[Any, Any, Any]:
    store = RocksStore(path, sync=False)
    vat, root = spawn_persistent_vat(ENV, make, store, **options)
    # Turns that take long are no news here.
    vat.slow_turn = None
    return store, vat, root


def shelf() -> Any:
    return spawn(Shelf)


def row() -> Any:
    return spawn(Row)


def timed(run: Callable[[], Any]) -> float:
    start = now()
    run()
    return now() - start


def memory() -> dict[str, float]:
    """Resident memory of this process now and at its highest, in MB."""
    with open("/proc/self/status", encoding="ascii") as status:
        lines = dict(line.split(":", 1) for line in status)
    return {name: int(lines[key].split()[0]) / 1024 for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))}


# What runs in a process of its own: a path and a number of actors, and figures back.


def build(path: str, count: int, kind: str, make: Callable[[], Any] = shelf) -> dict[str, float]:
    store, _, root = opened(path, make, sleep=lru(max_actors=10_000))

    def fill() -> None:
        for done in range(0, count, BUCKET):
            root.fill(KINDS[kind], min(BUCKET, count - done))

    seconds = timed(fill)
    store.close()
    return {"rate": count / seconds, **memory()}


def first_call(path: str, _count: int) -> dict[str, float]:
    start = now()
    store, _, root = opened(path, shelf)
    bucket = root.bucket(0)
    seconds = now() - start
    assert bucket.walk() >= 1
    store.close()
    return {"seconds": seconds, "import": IMPORTED - START}


def walk(path: str, count: int, by: int = 0, **options: Any) -> dict[str, float]:
    """Walks through so many actors, a bucket in each churn."""
    start = now()
    store, vat, root = opened(path, shelf, **options)
    total = sum(root.bucket(number).walk(by) for number in range(count // BUCKET))
    seconds = now() - start
    figures = {"total": total, "rate": count / seconds, **memory()}
    awake = vat.awake
    store.close()
    return {**figures, "awake": awake, "plain": plain_rate()}


def plain_rate() -> float:
    """Calls of plain closures, each of which gives the next one: how fast this machine is at the moment."""

    def made(value: int) -> Any:
        def following() -> Any:
            return made(value + 1)

        return following

    closure, calls = made(0), 100_000
    start = now()
    for _ in range(calls):
        closure = closure()
    return calls / (now() - start)


def walk_row(path: str, count: int) -> dict[str, float]:
    start = now()
    store, _, root = opened(path, row)
    total = sum(root.walk(done, BUCKET) for done in range(0, count, BUCKET))
    seconds = now() - start
    store.close()
    return {"total": total, "rate": count / seconds}


def change_all(path: str, count: int) -> dict[str, float]:
    return walk(path, count, by=1, sleep=lru(max_actors=10_000))


def change_one(path: str, _count: int) -> dict[str, float]:
    """Churns that change one actor: of a large store, and of one that has no other. They take turns."""
    kind = KINDS[Path(path).name]
    stores = [opened(path, shelf), opened(path + ".one", lambda: spawn(kind))]
    ticks = [stores[0][2].bucket(0).one(), stores[1][2]]
    times: list[list[float]] = [[], []]

    def loop(tick: Any) -> None:
        for _ in range(5_000):
            tick()

    for _ in range(15):
        for taken, tick in zip(times, ticks, strict=True):
            taken.append(timed(lambda tick=tick: loop(tick)) / 5_000)
    for store, _, _ in stores:
        store.close()
    many, one = map(statistics.median, times)
    return {"rate": 1 / many, "rate_of_one": 1 / one, "ratio": many / one}


def change_thousand(path: str, _count: int) -> dict[str, float]:
    store, _, root = opened(path, shelf)
    bucket = root.bucket(0)
    bucket.walk(1)
    seconds = statistics.median(timed(lambda: bucket.walk(1)) for _ in range(50))
    store.close()
    return {"rate": BUCKET / seconds, "plain": plain_rate()}


PHASES: dict[str, Callable[..., dict[str, float]]] = {
    "build": build,
    "build_row": lambda path, count, kind: build(path, count, kind, row),
    "first_call": first_call,
    "walk": walk,
    "walk_row": walk_row,
    "change_all": change_all,
    "change_one": change_one,
    "change_thousand": change_thousand,
}


def in_process(phase: str, path: Path, count: int, *more: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--phase", phase, str(path), str(count), *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def size(folder: Path) -> int:
    return sum(
        entry.stat().st_size for entry in folder.iterdir() if entry.suffix in (".sst", ".log", ".blob")
    )


class Table:
    def __init__(self) -> None:
        self.lines = ["| | function | class | aim |", "|---|---:|---:|---:|"]

    def add(self, what: str, figures: list[str], aim: str) -> None:
        self.lines.append(f"| {what} | {' | '.join(figures)} | {aim} |")


def run(count: int, walked: int, folder: Path) -> str:
    """Takes all figures; raises if an actor is lost or has another value than it must."""
    table = Table()
    paths = {kind: folder / kind for kind in KINDS}
    built = [in_process("build", paths[kind], count, kind) for kind in KINDS]
    many = f"{count:,}"

    def each(phase: str, number: int) -> list[dict[str, float]]:
        return [in_process(phase, path, number) for path in paths.values()]

    def medians(phase: str, number: int) -> list[dict[str, float]]:
        """Of several processes. Those of the two kinds take turns: the machine is not always as fast."""
        runs = [each(phase, number) for _ in range(1 if count < 100_000 else 9)]
        return [
            {key: statistics.median(run[key] for run in kind) for key in kind[0]}
            for kind in zip(*runs, strict=True)
        ]

    rates = [f"{figures['rate']:,.0f}/s" for figures in built]
    table.add(f"{many} actors made, {BUCKET:,} in a churn", rates, "-")
    for path in paths.values():
        with RocksStore(path) as store:
            getattr(store, "collect", lambda: None)()
    bytes_each = [f"{size(path) / count:.1f}" for path in paths.values()]
    table.add("bytes on disk for each, after compaction", bytes_each, "40")
    opening = [[in_process("first_call", path, count) for _ in range(5)] for path in paths.values()]
    first = [f"{statistics.median(one['seconds'] for one in each) * 1e3:.1f} ms" for each in opening]
    table.add(f"a store of {many} opened, and its first call answered", first, "150 ms")
    importing = [f"{statistics.median(one['import'] for one in each) * 1e3:.0f} ms" for each in opening]
    table.add("before that: `import goblins`", importing, "-")
    walks = medians("walk", walked)
    for figures in walks:
        assert figures["total"] == walked, figures
    table.add(f"{walked:,} actors loaded and walked", [f"{one['rate']:,.0f}/s" for one in walks], "400,000/s")
    compared = "just after that: calls of plain closures that give the next one"
    table.add(compared, [f"{one['plain']:,.0f}/s" for one in walks], "-")
    ones = each("change_one", count)
    table.add(
        f"churns that change one actor of {many}", [f"{one['rate']:,.0f}/s" for one in ones], "80,000/s"
    )
    table.add("the same in a store of one actor", [f"{one['rate_of_one']:,.0f}/s" for one in ones], "-")
    table.add("time with many, with one = 1", [f"{one['ratio']:.2f}" for one in ones], "1.20")
    thousands = medians("change_thousand", count)
    table.add(
        f"actors changed in churns of {BUCKET:,}", [f"{one['rate']:,.0f}/s" for one in thousands], "300,000/s"
    )
    table.add(compared, [f"{one['plain']:,.0f}/s" for one in thousands], "-")
    before = [in_process("walk", path, count)["total"] for path in paths.values()]
    changed = each("change_all", count)
    for path, figures, total in zip(paths.values(), changed, before, strict=True):
        assert figures["total"] == total + count, (figures, total)
        assert figures["awake"] <= 10_000, figures
        assert in_process("walk", path, count)["total"] == total + count
    table.add(
        f"each of {many} changed with `sleep=lru(max_actors=10_000)`",
        [f"{one['rate']:,.0f}/s" for one in changed],
        "-",
    )
    table.add("peak of memory in that", [f"{one['peak']:,.0f} MB" for one in changed], "300 MB")
    rows = []
    for kind in KINDS:
        path = folder / f"row of {kind}"
        in_process("build_row", path, walked, kind)
        figures = in_process("walk_row", path, walked)
        assert figures["total"] == walked, figures
        rows.append(f"{figures['rate']:,.0f}/s")
    table.add(f"{walked:,} actors in one `List` loaded and walked", rows, "-")
    return "\n".join([*table.lines, ""])


def write(table: str, cpu: bool) -> None:
    by_cpu = " Times are those of the processor, on a machine that others used as well." if cpu else ""
    write_section(
        "Large stores",
        f"From a run of `make bench-large` on {machine()}, with\n"
        "`sync=False`. The actors are counters: functions in one store, instances of a class in another.\n"
        "Actors that hold 1,000 refs each lead to them, and one root to those. *Aim* is what we hold\n"
        "ourselves to, on a machine that calls 4.5 million plain closures in a second: where that row shows\n"
        f"fewer, it was slower.{by_cpu}\n\n{table}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small store, for a moment")
    parser.add_argument("--cpu", action="store_true", help="by the time of the processor")
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    parser.add_argument("--count", type=int, help="so many actors")
    parser.add_argument("--folder", type=Path, help="where the stores are made, and left")
    parser.add_argument("--phase", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        phase, path, count, *more = given.phase
        print(json.dumps(PHASES[phase](path, int(count), *more)))
        return
    if given.cpu:
        os.environ["GOBLINS_BENCH_CPU"] = "1"
    count = given.count or (20_000 if given.quick else 1_000_000)
    folder = Path(tempfile.mkdtemp()) if given.folder is None else given.folder
    folder.mkdir(exist_ok=True)
    try:
        table = run(count, min(count, 100_000), folder)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(table)
    if given.write:
        write(table, given.cpu)


if __name__ == "__main__":
    main()
