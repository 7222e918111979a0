"""Signals, forks and the garbage collector at random moments, checked against a model.

    python tests/stress/interrupts_and_forks.py SECONDS [SEED]

Main thread and workers change an actor whose containers have keys with hashes written in Python.
Meanwhile Ctrl-C comes at random moments, processes are forked in the midst of turns, and the
collector runs. Whatever is interrupted: each change is there once and whole or not at all, what was
acknowledged is there, what was sent is handled once, and the store says so too when it is opened
again. Run it with PYTHONMALLOC=debug. A failure names the seed of its round,
how to run that again, what was done in it, and what the library has logged. The seed decides what is
done, but not when the signals come: the same round may have to be run often.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from goblins import (
    Actor,
    GoblinsError,
    ManualVat,
    Map,
    MemoryStore,
    PersistenceEnv,
    RocksStore,
    Vat,
    field,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)

warnings.simplefilter("ignore", DeprecationWarning)

# What the library logged last. A filter takes it, which needs no lock that a signal might leave locked.
logged: deque[str] = deque(maxlen=30)


def hear(record):
    error = record.exc_info and record.exc_info[1]
    # Turns that fail on purpose would fill it.
    if not isinstance(error, Boom):
        logged.append(f"{record.getMessage()}: {error!r}")
    return False


logger = logging.getLogger("goblins")
logger.addFilter(hear)
for level in logging.WARNING, logging.ERROR:
    logger.isEnabledFor(level)

PARENT = os.getpid()
CHANGES_A_ROUND = 60
KEYS = 12


@dataclass(frozen=True)
class Key:
    number: int

    def __hash__(self) -> int:
        # Many are alike, so that they are compared, too.
        return hash(self.number % 3)


class Boom(Exception):
    """A turn fails on purpose."""


class Leave(BaseException):
    """A forked child wants to be gone."""


@dataclass(frozen=True)
class Change:
    id: int
    kind: str
    number: int
    fails: bool
    forks: str


class Box(Actor):
    total: int = 0
    members: set = field(default_factory=set)
    entries: dict = field(default_factory=dict)
    items: list = field(default_factory=list)
    map: Map = field(default_factory=Map)
    done: list = field(default_factory=list)

    def change(self, change):
        key = Key(change.number)
        match change.kind:
            case "add":
                self.members.add(key)
                self.entries[key] = change.id
                self.map[change.number] = change.id
                self.items.append(change.id)
            case "remove":
                self.members.discard(key)
                self.entries.pop(key, None)
                self.map.pop(change.number, None)
            case "renew":
                self.members = {Key(number) for number in range(change.number)}
                self.entries = {Key(number): change.id for number in range(change.number)}
                self.items = self.items[-change.number :]
        self.total += change.number
        if change.forks:
            fork(change.forks)
        self.done.append(change.id)
        if change.fails:
            raise Boom
        return change.id

    async def change_late(self, change):
        await send(self.ref.total_now)
        return self.change(change)

    def total_now(self):
        return self.total

    def look(self):
        state = {
            "total": self.total,
            "members": {key.number for key in self.members},
            "entries": {key.number: value for key, value in self.entries.items()},
            "items": list(self.items),
            "map": dict(self.map),
        }
        return state, list(self.done)

    def forget(self):
        self.done.clear()


ENV = PersistenceEnv("stress", Box, records=[Key])


def apply(state, change):
    """What a change makes of a state."""
    match change.kind:
        case "add":
            state["members"].add(change.number)
            state["entries"][change.number] = change.id
            state["map"][change.number] = change.id
            state["items"].append(change.id)
        case "remove":
            state["members"].discard(change.number)
            state["entries"].pop(change.number, None)
            state["map"].pop(change.number, None)
        case "renew":
            state["members"] = set(range(change.number))
            state["entries"] = dict.fromkeys(range(change.number), change.id)
            state["items"] = state["items"][-change.number :]
    state["total"] += change.number


# Forks.

children: list[int] = []


def fork(how):
    child = os.fork()
    if child:
        children.append(child)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    match how:
        case "exit":
            os._exit(0)
        case "leave":
            raise Leave
        case "collect":
            gc.collect()
        case "use":
            with contextlib.suppress(GoblinsError):
                current.box.look()
                os._exit(4)


def end_child(error):
    """A child came out of a turn: it must have got the error of forks."""
    fine = isinstance(error, Leave) or (isinstance(error, GoblinsError) and "forked" in str(error))
    if not fine:
        os.write(2, f"a forked child got {error!r}\n".encode())
    os._exit(0 if fine else 5)


def reap():
    while children:
        _, status = os.waitpid(children.pop(), 0)
        assert status == 0, f"a forked child ended with {os.waitstatus_to_exitcode(status)}"


# Signals.

armed = 0


def on_sigint(_number, frame):
    global armed
    # A second signal may come while the first is looked at.
    while frame is not None and frame.f_code is on_sigint.__code__:
        frame = frame.f_back
    # What starts and ends an attempt can't be interrupted itself. Nor can logging, which takes its lock at a
    # fork in a function that does not give it free if it is interrupted.
    if frame is None or frame.f_code is attempt.__code__ or frame.f_globals.get("__name__") == "logging":
        return
    if armed > 0:
        armed -= 1
        raise KeyboardInterrupt


def disturb(stop, seed):
    """Sends Ctrl-C and runs the collector, at random moments."""
    chance = random.Random(seed)
    while not stop.is_set():
        time.sleep(chance.expovariate(2000))
        if chance.random() < 0.1:
            gc.collect(chance.randrange(3))
        elif armed > 0:
            os.kill(PARENT, signal.SIGINT)


def attempt(do, strikes):
    """Whether `do` came to its end; it is interrupted at most so many times, or not at all."""
    global armed
    finished = False
    try:
        armed = strikes
        try:
            do()
            finished = True
        except Boom:
            finished = True
        armed = 0
    except KeyboardInterrupt:
        pass
    except (GoblinsError, Leave) as error:
        armed = 0
        if os.getpid() != PARENT:
            end_child(error)
        raise
    armed = 0
    if os.getpid() != PARENT:
        end_child(None)
    return finished


# Rounds.


class Round:
    def __init__(self, seed, folder):
        self.chance = random.Random(seed)
        self.folder = folder
        self.kind = self.chance.choice(["none", "memory", "rocks", "rocks"])
        self.manual = self.chance.random() < 0.3
        self.store = {"none": lambda: None, "memory": MemoryStore, "rocks": self.rocks}[self.kind]()
        self.open()
        self.state, _ = self.box.look()
        self.ids = 0
        self.story = []

    def __str__(self):
        vat = "a ManualVat" if self.manual else "a Vat"
        lines = [f"{vat}, store {self.kind}; what was done, and whether it came to its end:"]
        return "\n".join([*lines, *map(str, self.story)])

    def rocks(self):
        return RocksStore(self.folder / "store", sync=False)

    def open(self):
        vat_constructor = ManualVat if self.manual else Vat
        if self.store is None:
            self.vat = vat_constructor()
            self.box = self.vat.spawn(Box)
        else:
            self.vat, self.box = spawn_persistent_vat(
                ENV, lambda: spawn(Box), self.store, vat_constructor=vat_constructor
            )

    def reopen(self):
        if self.store is None:
            return
        self.vat.close()
        if self.kind == "rocks":
            self.store.close()
            self.store = self.rocks()
        self.open()

    def new_change(self):
        self.ids += 1
        chance = self.chance
        forks = chance.choice(["exit", "leave", "collect", "use", "go on"]) if chance.random() < 0.04 else ""
        return Change(
            self.ids,
            chance.choice(["add", "add", "remove", "renew"]),
            chance.randrange(KEYS),
            chance.random() < 0.3,
            forks,
        )

    def run(self):
        changes, must, may = {}, set(), set()
        promises = []
        self.story.clear()

        def new():
            change = self.new_change()
            changes[change.id] = change
            return change

        for _ in range(CHANGES_A_ROUND):
            strikes = self.chance.choice([0, 1, 1, 1, 2, 5])
            way = self.chance.choice(["call", "block", "tell", "send", "late", "drain"])
            finished = True
            count = self.ids
            match way:
                case "call":
                    change = new()
                    finished = attempt(lambda change=change: self.box.change(change), strikes)
                    if not change.fails:
                        (must if finished else may).add(change.id)
                case "block":
                    first, second = new(), new()

                    def block(first=first, second=second):
                        with self.vat:
                            tell(self.box.change, second)
                            self.box.change(first)

                    finished = attempt(block, strikes)
                    if not first.fails:
                        (must if finished else may).add(first.id)
                        if not second.fails:
                            # It was sent by the turn of the first: both or none.
                            may.add(second.id)
                            self.pairs.append((first.id, second.id))
                case "tell" | "send" | "late":
                    change = new()
                    target = self.box.change_late if way == "late" else self.box.change
                    # A thread of its own sends it, which is not interrupted.
                    sent = []

                    def post(change=change, target=target, sent=sent, way=way):
                        if way == "tell":
                            tell(target, change)
                        else:
                            sent.append(send(target, change))

                    thread = threading.Thread(target=post)
                    thread.start()
                    thread.join()
                    promises += sent
                    # Code that has waited can't be run again when it was interrupted.
                    if not change.fails:
                        (may if way == "late" else must).add(change.id)
                case "drain":
                    finished = attempt(self.vat.drain, strikes)
            given = [changes[id] for id in range(count + 1, self.ids + 1)]
            self.story.append((way, *given, f"{strikes} strikes", finished))
        self.settle(promises)
        reap()
        self.check(changes, must, may)

    pairs: list[tuple[int, int]]

    def settle(self, promises):
        for _ in range(3):
            attempt(lambda: self.vat.drain(timeout=60), 0)
        for promise in promises:
            with contextlib.suppress(Boom, KeyboardInterrupt):
                promise.result(timeout=60)

    def check(self, changes, must, may):
        state, done = self.box.look()
        for id in done:
            apply(self.state, changes[id])
        assert state == self.state, f"the state is {state}, and should be {self.state}"
        assert len(done) == len(set(done)), f"some were done twice: {done}"
        assert must <= set(done), f"these were lost: {sorted(must - set(done))}"
        assert set(done) <= must | may, f"these were not undone: {sorted(set(done) - must - may)}"
        for first, second in self.pairs:
            lost = second if first in done else first
            assert (first in done) == (second in done), (
                f"{first} sent {second}, and of these {lost} was not done: {changes[lost]}; done were {done}"
            )
        self.reopen()
        if self.store is not None:
            assert self.box.look() == (state, done), "the store says something else"
        self.box.forget()


current: Round


def tell_failure(rounds, seed):
    """All that there is to know, before the traceback."""
    what = [
        f"round {rounds + 1} fails. To run it again, and again:",
        f"PYTHONMALLOC={os.environ.get('PYTHONMALLOC', '')} {sys.executable} {sys.argv[0]} 0 {seed}",
        f"CPython {platform.python_version()} on {platform.platform()}, {os.cpu_count()} processors",
        str(globals().get("current")),
        "logged:",
        *logged,
    ]
    print("\n".join(what), file=sys.stderr, flush=True)


def main():
    global current
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    signal.signal(signal.SIGINT, on_sigint)
    end = time.monotonic() + seconds
    rounds = 0
    while rounds == 0 or time.monotonic() < end:
        print(f"seed {seed}", flush=True)
        stop = threading.Event()
        with tempfile.TemporaryDirectory() as folder:
            disturber = threading.Thread(target=disturb, args=(stop, seed), daemon=True)
            disturber.start()
            try:
                current = Round(seed, Path(folder))
                for _ in range(3):
                    current.pairs = []
                    current.run()
                current.vat.close()
                if current.store is not None:
                    current.store.close()
            except BaseException:
                tell_failure(rounds, seed)
                raise
            finally:
                stop.set()
                disturber.join()
        rounds += 1
        seed += 1
    print(f"{rounds} rounds are fine", flush=True)


if __name__ == "__main__":
    main()
