"""What the event log costs: turns in a vat with the log on, beside the same turns in one with the log off.

    python benches/log_cost.py               # about a minute
    python benches/log_cost.py outside       # those with such a word in their name
    python benches/log_cost.py --quick       # a moment

Both vats take turns in one process, a millisecond or two each, so that what disturbs one disturbs the other.
Shown are the median of the ratios of neighbouring slices, their quartiles, and in the last column what a
second vat without a log comes to beside the first: how much of the figure is chance. Time is that of the
thread, not of the clock on the wall.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from paired_loops import (
    Loop,
    account,
    counter_of,
    reader,
    repeated,
    sending_and_listening,
    telling,
    vat_and,
)

#: How many rounds a slice has.
ROUNDS = 2000


def calling(_vat: Any, target: Any, *args: Any) -> Loop:
    return repeated((lambda: target(*args)) if args else target)


def turns(
    loop_of: Callable[..., Loop], constructor: Any, method: str | None = None, *args: Any
) -> Callable[[ExitStack, bool], Loop]:
    def make(stack: ExitStack, log: bool) -> Loop:
        vat, ref = stack.enter_context(vat_and(constructor, log=log))
        return loop_of(vat, getattr(ref, method) if method else ref, *args)

    return make


def send_and_on(stack: ExitStack, log: bool) -> Loop:
    return sending_and_listening(*stack.enter_context(vat_and(reader, log=log)))


def send_and_result(stack: ExitStack, log: bool) -> Loop:
    from goblins import send

    _, ref = stack.enter_context(vat_and(reader, log=log))
    return repeated(lambda: send(ref).result())


CASES: dict[str, Callable[[ExitStack, bool], Loop]] = {
    "tell, a function that reads": turns(telling, reader),
    "tell, a function that changes": turns(telling, counter_of()),
    "tell, a class that reads": turns(telling, account(), "get"),
    "tell, a class that changes": turns(telling, account(), "add", 1),
    "call from outside, a function that reads": turns(calling, reader),
    "call from outside, a function that changes": turns(calling, counter_of()),
    "call from outside, a class that reads": turns(calling, account(), "get"),
    "call from outside, a class that changes": turns(calling, account(), "add", 1),
    "send and on": send_and_on,
    "send and result": send_and_result,
}


def timed(loop: Loop) -> float:
    """Nanoseconds for one round."""
    start = time.thread_time_ns()
    loop(ROUNDS)
    return (time.thread_time_ns() - start) / ROUNDS


def measure(case: Callable[[ExitStack, bool], Loop], slices: int) -> tuple[float, list[float], float]:
    """Nanoseconds per round without the log, the ratios of the one with it to that, and the one of chance."""
    plain, logged, chance = [], [], []
    with ExitStack() as stack:
        off, on, off_too = (case(stack, log) for log in (False, True, False))
        for number in range(slices + slices // 10):
            # Forwards and backwards, so that no vat always follows the same one.
            loops = (off, on, off_too) if number % 2 else (off_too, on, off)
            first, middle, last = (timed(loop) for loop in loops)
            if number < slices // 10:
                continue
            plain.append(first)
            logged.append(middle / ((first + last) / 2))
            chance.append(last / first if number % 2 else first / last)
    return statistics.median(plain), statistics.quantiles(logged, n=4), statistics.median(chance)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="a few slices of each, to see that all works")
    options = parser.parse_args()
    gc.collect()
    gc.freeze()
    print(f"{'':44} {'ns':>5} {'ratio':>7} {'quartiles':>18} {'chance':>7}")
    for name, case in CASES.items():
        if options.words and not any(word in name for word in options.words):
            continue
        plain, (low, middle, high), chance = measure(case, 20 if options.quick else options.slices)
        print(f"{name:44} {plain:5.0f} {middle:7.3f}   ({low:.3f} to {high:.3f}) {chance:7.3f}", flush=True)


if __name__ == "__main__":
    main()
