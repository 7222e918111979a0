#!/usr/bin/env python3
"""Compares two things by slices in turn: a few milliseconds of the one, a few of the other, and so on.

    python benches/paired.py                        # goblins beside plain Python, queues, files and SQLite
    python benches/paired.py near tell              # those with such a word in their name
    python benches/paired.py --write                # all, and writes the section of docs/benchmarks.md
    python benches/paired.py --against OTHER/python # this package beside that of another folder

A machine may change its speed by two every few seconds. Neighbouring slices see the same speed, so the ratio
of two neighbours is right though neither time is. Shown are the median of these ratios, and their quartiles.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from page import machine, write_section
from paired_loops import PAIRS, Loop, Pair

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


def slice_of(name: str, loop: Loop) -> float:
    # What takes long, such as a sync, gets longer slices.
    return SLICE * 4 if name.startswith("durable") else SLICE


def beside_others(chosen: list[Pair], slices: int) -> dict[str, list[float]]:
    """The ratios of each pair, which are shown as they come."""
    figures = {}
    for name, one, other, aim in chosen:
        with one() as first, other() as second:
            seconds = slice_of(name, first)
            a, b = rounds_for(first, seconds), rounds_for(second, seconds)
            gc.collect()
            found = ratios(
                lambda first=first, a=a: timed(first, a), lambda second=second, b=b: timed(second, b), slices
            )
        figures[name] = found
        print(shown(name, found) + ("" if aim is None else f"   at most {aim}"), flush=True)
    return figures


def write(figures: dict[str, list[float]], slices: int) -> None:
    lines = ["| | time | quartiles | aim |", "|---|---:|---:|---:|"]
    for name, _, _, aim in PAIRS:
        low, middle, high = statistics.quantiles(figures[name], n=4)
        most = "-" if aim is None else f"{aim}"
        lines.append(f"| {name} | {middle:.3g} | {low:.3g} to {high:.3g} | {most} |")
    write_section(
        "Beside other ways to do the same",
        "How long the first takes, if the one behind the slash takes 1: from a run of `make bench-peers` on\n"
        f"{machine()}. Both take turns of a few milliseconds, and the figure is the median of\n"
        f"the ratios of {slices} neighbours: those are right whatever the speed of the machine is. *Aim* is\n"
        "the most that we hold ourselves to.\n\n" + "\n".join(lines),
    )


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
            manager = next(pair.measured for pair in PAIRS if pair.name == name)()
            loop = manager.__enter__()
            answer: Any = rounds_for(loop, slice_of(name, loop))
        elif verb == "time":
            answer = timed(loop, args[0])
        else:
            manager.__exit__(None, None, None)
            gc.collect()
            answer = None
        print(json.dumps(answer), flush=True)


def beside_another_build(chosen: list[Pair], other: str, slices: int) -> None:
    import goblins

    here = str(Path(goblins.__file__).parent.parent)
    for name in dict.fromkeys(pair.name for pair in chosen):
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
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve()
    slices = 4 if arguments.quick else arguments.slices
    chosen = [pair for pair in PAIRS if not arguments.words or any(w in pair.name for w in arguments.words)]
    if arguments.against:
        return beside_another_build(chosen, arguments.against, slices)
    figures = beside_others(chosen, slices)
    if arguments.write:
        if len(figures) < len(PAIRS):
            parser.error("--write takes all pairs")
        write(figures, slices)


if __name__ == "__main__":
    main()
