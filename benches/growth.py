#!/usr/bin/env python3
"""What should cost about the same however much there is: a little of it beside a lot, by slices in turn.

    make bench-large                    # all, with stores of up to 5,000,000 actors and 10,000 vats
    python benches/growth.py            # the same
    python benches/growth.py field vat  # those with such a word in their name
    python benches/growth.py --quick    # small, for a moment, to see that all works

Shown are the ratio of the two and what it may be at most. Where the two can take turns, it is the median of
the ratios of neighbouring slices: a machine may change its speed by two every few seconds.
"""

from __future__ import annotations

import argparse
import functools
import gc
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goblins import (
    Actor,
    MemoryStore,
    PersistenceEnv,
    RocksStore,
    Vat,
    all_of,
    field,
    lru,
    promise_and_resolver,
    spawn,
    spawn_persistent_vat,
)
from paired import ratios

#: How long a slice takes, in seconds.
SLICE = 0.01
BUCKET = 1000


class Item(Actor):
    value: int = 0

    def get(self) -> int:
        return self.value

    def add(self, by: int) -> None:
        self.value += by


class Bucket(Actor):
    items: list[Any]

    def one(self, index: int) -> Any:
        return self.items[index]

    def wake(self, indexes: list[int]) -> int:
        return sum(self.items[index].get() for index in indexes)


class Shelf(Actor):
    buckets: list[Any] = field(default_factory=list)

    def fill(self, number: int) -> None:
        for _ in range(number):
            self.buckets.append(spawn(Bucket, [spawn(Item, 1) for _ in range(BUCKET)]))

    def bucket(self, number: int) -> Any:
        return self.buckets[number]

    def size(self) -> int:
        return len(self.buckets)


class Holder(Actor):
    """Containers in fields, which are read only."""

    items: list[Any]
    table: dict[Any, Any]

    def length(self) -> int:
        return len(self.items)

    def find(self, key: int) -> Any:
        return self.table[key]


class Link(Actor):
    """An actor of a chain."""

    following: Any = None
    value: int = 1

    def follow(self, other: Any) -> None:
        self.following = other

    def next(self) -> Any:
        return self.following


class Chain(Actor):
    first: Any = None

    def make(self, order: list[int]) -> None:
        links = [spawn(Link) for _ in order]
        for one, other in itertools.pairwise(order):
            links[one].follow(links[other])
        self.first = links[order[0]]

    def walk(self) -> int:
        found, link = 0, self.first
        while link is not None:
            found, link = found + 1, link.next()
        return found


ENV = PersistenceEnv("growth", Item, Bucket, Shelf, Holder, Link, Chain)


class Figures:
    """What was found."""

    def __init__(self) -> None:
        self.ratios: dict[str, float] = {}

    def add(self, what: str, ratio: float, most: float | None, detail: str = "") -> None:
        self.ratios[what] = ratio
        aim = "-" if most is None else f"{most:g}"
        print(f"{what:68} {ratio:8.2f}   (at most {aim})   {detail}", flush=True)


def timed(loop: Callable[[int], Any], rounds: int) -> float:
    """Seconds of the processor for one round: others may use the machine as well."""
    begin = time.thread_time()
    loop(rounds)
    return (time.thread_time() - begin) / rounds


def rounds_for(loop: Callable[[int], Any]) -> int:
    """So many rounds take about a slice."""
    rounds = 1
    while (took := timed(loop, rounds) * rounds) < SLICE / 4:
        rounds *= 2
    return max(1, int(rounds * SLICE / took))


def in_turn(little: Callable[[int], Any], lot: Callable[[int], Any], slices: int) -> tuple[float, float]:
    """The ratio of two loops, and the time of one round of the second, in microseconds."""
    rounds = rounds_for(little), rounds_for(lot)
    times = []

    def one() -> float:
        times.append(timed(lot, rounds[1]))
        return times[-1]

    found = ratios(one, lambda: timed(little, rounds[0]), slices)
    return statistics.median(found), statistics.median(times) * 1e6


# In a process of its own, so that nothing is in memory from before.


def grow(path: str, buckets: int) -> dict[str, float]:
    store = RocksStore(path, sync=False)
    vat, shelf = spawn_persistent_vat(ENV, lambda: spawn(Shelf), store, sleep=lru(max_actors=5000))
    vat.slow_turn = None
    start = time.perf_counter()
    for _ in range(buckets - shelf.size()):
        shelf.fill(1)
    seconds = time.perf_counter() - start
    store.close()
    return {"seconds": seconds}


def read_so_far() -> int:
    counts = Path("/proc/self/io").read_text(encoding="ascii")
    return int(counts.split("rchar: ")[1].split()[0])


def wake(path: str, number: int) -> dict[str, float]:
    """Wakes actors that stand anywhere."""
    store = RocksStore(path, sync=False)
    _, shelf = spawn_persistent_vat(ENV, lambda: spawn(Shelf), store)
    chance = random.Random(7)
    # A few of each bucket: what is read for one must not be there from another one.
    each = 8
    some = [shelf.bucket(chance.randrange(shelf.size())) for _ in range(number // each)]
    chosen = [[chance.randrange(1, BUCKET) for _ in range(each)] for _ in some]
    for bucket in some:
        bucket.one(0)
    before, start = read_so_far(), time.thread_time()
    for bucket, indexes in zip(some, chosen, strict=True):
        bucket.wake(indexes)
    seconds, read = time.thread_time() - start, read_so_far() - before
    store.close()
    woken = sum(len(set(indexes)) for indexes in chosen)
    return {"us": seconds / woken * 1e6, "kb": read / woken / 1024}


def collect(path: str, _number: int) -> dict[str, float]:
    with RocksStore(path, sync=False) as store:
        start = time.perf_counter()
        report = store.collect()
        return {"seconds": time.perf_counter() - start, "kept": report.kept}


def walk(path: str, number: int) -> dict[str, float]:
    store = RocksStore(path, sync=False)
    vat, chain = spawn_persistent_vat(ENV, lambda: spawn(Chain), store)
    vat.slow_turn = None
    start = time.perf_counter()
    assert chain.walk() == number
    seconds = time.perf_counter() - start
    store.close()
    return {"seconds": seconds}


PHASES: dict[str, Callable[[str, int], dict[str, float]]] = {
    "grow": grow,
    "wake": wake,
    "collect": collect,
    "walk": walk,
}


def in_process(phase: str, path: Path, number: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--phase", phase, str(path), str(number)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


# What is measured.


def waking_an_actor(figures: Figures, quick: bool, folder: Path) -> None:
    sizes = (20, 40) if quick else (1000, 3000, 5000)
    path = folder / "store"
    found = []
    for size in sizes:
        made = in_process("grow", path, size)["seconds"]
        # Of a few runs the best: the system may write out what was made.
        runs = [in_process("wake", path, 160 if quick else 1600) for _ in range(1 if quick else 3)]
        found.append({key: min(run[key] for run in runs) for key in runs[0]})
        shown = f"{found[-1]['kb']:.1f} KB, {found[-1]['us']:.1f} us each; grown in {made:.0f} s"
        figures.add(
            f"an actor woken from {size * BUCKET:,}: KB read", found[-1]["kb"] / found[0]["kb"], 3, shown
        )
        figures.add("the same: time", found[-1]["us"] / found[0]["us"], 3)
    done = in_process("collect", path, 0)
    assert done["kept"] == sizes[-1] * (BUCKET + 1) + 1, done
    each = done["seconds"] / done["kept"] * 1e6
    figures.add(
        "collecting it, beside waking an actor", each / found[-1]["us"], 1, f"{done['seconds']:.1f} s"
    )


def opening_a_vat(figures: Figures, quick: bool, folder: Path) -> None:
    few, many, more = (80, 400, 40) if quick else (800, 8000, 400)
    stores = [RocksStore(folder / name, sync=False) for name in ("few", "many")]
    vats: list[list[Vat]] = [[], []]

    def open_one(which: int) -> float:
        store, kept = stores[which], vats[which]
        start = time.thread_time()
        kept.append(spawn_persistent_vat(ENV, lambda: spawn(Item), store.vat(f"v{len(kept)}"))[0])
        return time.thread_time() - start

    for which, count in enumerate((few, many)):
        for _ in range(count):
            open_one(which)
    times = [(open_one(0), open_one(1)) for _ in range(more)]
    ratio = statistics.median(second / first for first, second in times)
    last = statistics.median(second for _, second in times)
    figures.add(f"a vat made beside {many:,} others, beside {few}", ratio, 1.3, f"{last * 1e6:.0f} us")
    for which, count in enumerate((500, 5000) if quick else (1000, 10_000)):
        while len(vats[which]) < count:
            open_one(which)
    each = []
    for store in stores:
        start = time.thread_time()
        report = store.collect()
        each.append((time.thread_time() - start) / report.kept)
    shown = f"{each[1] * 1e6:.0f} us each"
    figures.add(
        f"collecting {len(vats[1]):,} vats, for each, beside {len(vats[0]):,}", each[1] / each[0], 1.5, shown
    )
    for store in stores:
        store.close()


@contextmanager
def holders(size: int) -> Iterator[tuple[Vat, Any, Any]]:
    with MemoryStore() as store:
        vat, small, large = spawn_persistent_vat(
            ENV,
            lambda: [
                spawn(Holder, list(range(count)), dict.fromkeys(range(count), 1)) for count in (10, size)
            ],
            store,
        )
        yield vat, small, large


def repeated(call: Callable[[], object]) -> Callable[[int], None]:
    def loop(rounds: int) -> None:
        for _ in range(rounds):
            call()

    return loop


def reading_a_field(figures: Figures, quick: bool, _folder: Path) -> None:
    size = 2000 if quick else 100_000
    with holders(size) as (_, small, large):
        reads: list[tuple[str, Callable[[Any], Any]]] = [
            ("look-up in a dict", lambda holder: holder.find(5)),
            ("length of a list", lambda holder: holder.length()),
        ]
        for what, read in reads:
            one, other = (repeated(functools.partial(read, holder)) for holder in (small, large))
            ratio, each = in_turn(one, other, 4 if quick else 100)
            # A list is compared at the end of the turn: eight bytes an entry.
            most = 1.2 if "dict" in what else None
            figures.add(f"{what} of {size:,}, a turn each, beside 10", ratio, most, f"{each:.1f} us")


def calling_what_was_settled(figures: Figures, quick: bool, _folder: Path) -> None:
    few, many = (100, 1000) if quick else (1000, 64_000)
    vat = Vat()
    vat.slow_turn = None
    target = vat.spawn(lambda _bcom: lambda: 1)

    def settle(count: int) -> None:
        for _ in range(count):
            promise, resolver = promise_and_resolver()
            resolver.fulfil(target)
            promise()

    def loop(count: int) -> Callable[[int], None]:
        return lambda rounds: [vat.run(settle, count) for _ in range(rounds)]  # type: ignore[return-value]

    ratio, each = in_turn(loop(few), loop(many), 4 if quick else 10)
    figures.add(
        f"{many:,} promises settled and called in a turn, each, beside {few:,}",
        ratio * few / many,
        1.5,
        f"{each / many:.1f} us each",
    )
    vat.close()


def joining_promises(figures: Figures, quick: bool, _folder: Path) -> None:
    few, many = (100, 1000) if quick else (1000, 300_000)
    vat = Vat()
    vat.slow_turn = None

    def join(count: int) -> None:
        pairs = [promise_and_resolver() for _ in range(count)]
        all_of([promise for promise, _ in pairs])
        for _, resolver in pairs:
            resolver.fulfil(1)

    def loop(count: int) -> Callable[[int], None]:
        return lambda rounds: [vat.run(join, count) for _ in range(rounds)]  # type: ignore[return-value]

    ratio, each = in_turn(loop(few), loop(many), 2 if quick else 4)
    figures.add(
        f"`all_of` {many:,} promises, each, beside {few:,}",
        ratio * few / many,
        None,
        f"{each / many:.1f} us each",
    )
    vat.close()


def resident() -> int:
    """The memory of this process, without garbage."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def spawned(vat: Vat, count: int) -> tuple[float, list[Any]]:
    """Many actors, and the bytes that each takes: its Ref, its instance and what these hold, after a change.

    The list of them is not counted. They are spawned in several turns: what a turn needs to be undone is let
    go at its end, but the process keeps the memory.
    """
    refs: list[Any] = [None] * count
    before = resident()
    for begin in range(0, count, 1000):
        some = range(begin, min(begin + 1000, count))
        refs[begin : begin + 1000] = vat.run(lambda some=some: [spawn(Item) for _ in some])
    for ref in refs:
        ref.add(1)
    return (resident() - before) / count, refs


def changing_one_of_many(figures: Figures, quick: bool, folder: Path) -> None:
    count = 2000 if quick else 100_000
    for name in ("memory", "store"):
        store: Any = MemoryStore() if name == "memory" else RocksStore(folder / "many", sync=False)
        if name == "memory":
            vat = Vat()
            each_bytes, refs = spawned(vat, count)
        else:
            vat, *refs = spawn_persistent_vat(ENV, lambda: [spawn(Item) for _ in range(count)], store)
            each_bytes = 0.0
        ones = itertools.cycle(random.Random(5).sample(refs, count))

        def change(some: Iterator[Any]) -> None:
            for ref in some:
                ref.add(1)

        def same(rounds: int, one: Any = refs[0]) -> None:
            change(itertools.repeat(one, rounds))

        def anywhere(rounds: int, ones: Iterator[Any] = ones) -> None:
            change(itertools.islice(ones, rounds))

        ratio, each = in_turn(same, anywhere, 4 if quick else 100)
        most = {"memory": 2.0, "store": 1.4}[name]
        shown = f"{each:.2f} us" + (
            f", {each_bytes:.0f} bytes an actor with what it holds" if each_bytes else ""
        )
        figures.add(f"a random one of {count:,} changed, beside the same one ({name})", ratio, most, shown)
        vat.close()
        store.close()


def changing_random_ones(figures: Figures, quick: bool, folder: Path) -> None:
    """Churns of 1,000 random actors beside churns of 1,000 neighbours."""
    count, batch = (5000, 100) if quick else (100_000, 1000)
    store = RocksStore(folder / "batches", sync=False)
    vat, *refs = spawn_persistent_vat(ENV, lambda: [spawn(Item) for _ in range(count)], store)
    chance = random.Random(3)

    def change(chosen: list[Any]) -> None:
        for ref in chosen:
            ref.add(1)

    def neighbours(rounds: int) -> None:
        for _ in range(rounds):
            vat.run(change, refs[:batch])

    def anywhere(rounds: int) -> None:
        for _ in range(rounds):
            vat.run(change, chance.sample(refs, batch))

    ratio, each = in_turn(neighbours, anywhere, 4 if quick else 40)
    figures.add(
        f"{batch:,} random actors changed in a churn, beside the same ones",
        ratio,
        None,
        f"{batch / each:.3f} M/s",
    )
    store.close()


def loading_a_chain(figures: Figures, quick: bool, folder: Path) -> None:
    """Beside a chain of actors that were made in its order: those are read ahead as neighbours."""
    count = 2000 if quick else 100_000
    seconds = {}
    for name in ("in order", "backwards", "anywhere"):
        order = list(range(count))
        if name == "backwards":
            order.reverse()
        elif name == "anywhere":
            random.Random(1).shuffle(order)
        path = folder / name
        with RocksStore(path, sync=False) as store:
            vat, chain = spawn_persistent_vat(ENV, lambda: spawn(Chain), store)
            vat.slow_turn = None
            chain.make(order)
        done = in_process("walk", path, count)
        seconds[name] = done["seconds"]
        ratio = seconds[name] / seconds["in order"]
        figures.add(
            f"a chain of {count:,} loaded, {name}", ratio, None, f"{count / done['seconds'] / 1e3:.0f} k/s"
        )


MEASURED = {
    "wake": waking_an_actor,
    "vat": opening_a_vat,
    "field": reading_a_field,
    "settled": calling_what_was_settled,
    "all_of": joining_promises,
    "random": changing_one_of_many,
    "batch": changing_random_ones,
    "chain": loading_a_chain,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help=" ".join(MEASURED))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--phase", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        phase, path, number = given.phase
        print(json.dumps(PHASES[phase](path, int(number))))
        return
    figures = Figures()
    for name, measure in MEASURED.items():
        if not given.words or name in given.words:
            with tempfile.TemporaryDirectory() as folder:
                measure(figures, given.quick, Path(folder))


if __name__ == "__main__":
    main()
