"""Threads that call at once and wait for the disk: how much more comes of 64 than of one.

    python benches/callers.py          # about a minute
    python benches/callers.py --quick  # for a moment

One sync serves all who wait. The figures take turns, and are medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from goblins import PersistenceEnv, RocksStore, actor, spawn, spawn_persistent_vat

CALLERS = 64


@actor
def counter(bcom: Any, value: int = 0) -> Any:
    def tick() -> Any:
        return bcom(counter(bcom, value + 1), value)

    return tick


def calls_of(callers: list[Any], seconds: float) -> float:
    """How many calls a second come of threads, each of which calls one of these."""
    counts = [0] * len(callers)
    begin, stop = threading.Event(), threading.Event()

    def loop(index: int, call: Any) -> None:
        begin.wait()
        count = 0
        while not stop.is_set():
            call()
            count += 1
        counts[index] = count

    threads = [threading.Thread(target=loop, args=each) for each in enumerate(callers)]
    for thread in threads:
        thread.start()
    start = time.perf_counter()
    begin.set()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="for a moment")
    parser.add_argument("--only", help="only the figure with this in its name")
    given = parser.parse_args()
    rounds, seconds = (1, 0.05) if given.quick else (7, 1.0)
    env = PersistenceEnv("callers", counter)
    with tempfile.TemporaryDirectory() as folder, RocksStore(Path(folder, "store")) as store:
        vats = [
            spawn_persistent_vat(
                env, lambda: tuple(spawn(counter) for _ in range(CALLERS)), store.vat(f"{n}")
            )
            for n in range(CALLERS)
        ]
        cases = {
            "one caller": [vats[0][1]],
            f"{CALLERS} callers of one actor": [vats[0][1]] * CALLERS,
            f"{CALLERS} callers of one vat": vats[0][1:],
            f"{CALLERS} callers of {CALLERS} vats": [roots[0] for _, *roots in vats],
        }
        if given.only:
            cases = {name: calls for name, calls in cases.items() if given.only in name}
        rates: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, callers in cases.items():
                rates[name].append(calls_of(callers, seconds))
    one = statistics.median(next(iter(rates.values())))
    print("| `sync=True` | calls/s | one caller = 1 |\n|---|---:|---:|")
    for name, taken in rates.items():
        rate = statistics.median(taken)
        print(f"| {name} | {rate:,.0f} | {rate / one:.1f} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
