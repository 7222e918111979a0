"""What the event log costs: the `tell` bench with the log on, beside the same with the log off.

    python benches/log_cost.py            # about a minute
    python benches/log_cost.py --quick    # a moment

Both kinds of vat take turns in one process, a churn of a thousand messages each, so that what disturbs one
disturbs the other. The figure is the median over all pairs of neighbours. A third kind, with the log off as
well, shows how much of it is chance. Time is that of the thread, not of the clock on the wall.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

from goblins import Actor, Vat, actor, tell

AT_ONCE = 1000


@actor
def counter(bcom: Any, value: int = 0) -> Any:
    def add() -> Any:
        return bcom(counter(bcom, value + 1), value)

    return add


def plain_counter(bcom: Any, value: int = 0) -> Any:
    def add() -> Any:
        return bcom(plain_counter(bcom, value + 1), value)

    return add


def getter(bcom: Any, value: int = 0) -> Any:
    return lambda: value


class Counter(Actor):
    value: int = 0

    def add(self) -> None:
        self.value += 1


def churn(constructor: Any, method: str | None, log: bool) -> Callable[[], None]:
    """Sends a thousand messages in one turn, each of which is a turn of its own."""
    vat = Vat(log=log)
    ref = vat.spawn(constructor)
    target = ref if method is None else getattr(ref, method)

    def body() -> None:
        for _ in range(AT_ONCE):
            tell(target)

    return lambda: vat.run(body)


def calls(constructor: Any, method: str | None, log: bool) -> Callable[[], None]:
    """A thousand calls from outside, each a churn of its own."""
    ref = Vat(log=log).spawn(constructor)
    target = ref if method is None else getattr(ref, method)

    def body() -> None:
        for _ in range(AT_ONCE):
            target()

    return body


CASES = {
    "tell, bcom": (churn, plain_counter, None),
    "tell, bcom and portrait": (churn, counter, None),
    "tell, no change": (churn, getter, None),
    "tell, a field of a class": (churn, Counter, "add"),
    "call from outside, bcom": (calls, plain_counter, None),
}


def timed(run: Callable[[], None]) -> float:
    start = time.thread_time_ns()
    run()
    return (time.thread_time_ns() - start) / AT_ONCE


def measure(make: Any, constructor: Any, method: str | None, rounds: int) -> tuple[float, float, float]:
    """Nanoseconds per turn without the log, and the ratios of the two others to that."""
    off, on, off_too = (make(constructor, method, log) for log in (False, True, False))
    plain, logged, chance = [], [], []
    for number in range(rounds):
        # In turns forwards and backwards, so that no kind always follows the same one.
        kinds = (off, on, off_too) if number % 2 else (off_too, on, off)
        first, middle, last = (timed(kind) for kind in kinds)
        before, after = (first, last) if number % 2 else (last, first)
        if number < rounds // 10:
            continue
        plain.append(before)
        logged.append(middle / ((before + after) / 2))
        chance.append(after / before)
    return statistics.median(plain), statistics.median(logged), statistics.median(chance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="a part of the name of the cases to be measured")
    options = parser.parse_args()
    gc.collect()
    gc.freeze()
    print("| what | ns without the log | with it | chance |")
    print("|---|---|---|---|")
    for name, (make, constructor, method) in CASES.items():
        if options.only and options.only not in name:
            continue
        plain, logged, chance = measure(make, constructor, method, 30 if options.quick else 4000)
        print(f"| {name} | {plain:.0f} | {logged - 1:+.1%} | {chance - 1:+.1%} |", flush=True)


if __name__ == "__main__":
    main()
