"""A disk that fails once at each of the calls of a scenario, and what comes of it.

    failing_disk.py FOLDER ERRNO KIND STEP      under ``power/disk.c``

KIND: once | on | short. At first the calls are counted; then each one fails in turn (with a STEP of 10, each
tenth): once, or from there on; ``short`` writes the half before. Prints a line for each.
"""

import asyncio
import ctypes
import errno
import shutil
import sys
from pathlib import Path

from goblins import (
    Actor,
    GoblinsError,
    List,
    PersistenceEnv,
    RocksStore,
    StoreError,
    StoreFullError,
    field,
    spawn,
    spawn_persistent_vat,
)

CHANGES = 4
disk = ctypes.CDLL(None)


class Book(Actor):
    lines: List = field(default_factory=List)

    def write(self, text):
        self.lines.append(text)

    def all(self):
        return list(self.lines)


ENV = PersistenceEnv("failing", Book)


def open_book(store):
    return spawn_persistent_vat(ENV, lambda: spawn(Book), store)


def use(store, acknowledged, told):
    """Changes a store; what is raised first is told."""
    vat, book = open_book(store)
    for number in range(CHANGES):
        try:
            book.write(f"{number} {'x' * 1000}")
        except GoblinsError as error:
            told.append(error)
            check_stopped(vat, book, error)
            raise
        acknowledged.append(str(number))


async def use_in_a_loop(folder, acknowledged, told):
    async with await asyncio.to_thread(RocksStore, folder) as store:
        use(store, acknowledged, told)


def scenario(folder, acknowledged, in_a_loop):
    """Gives the error that came of it."""
    told = []
    try:
        if in_a_loop:
            asyncio.run(use_in_a_loop(folder, acknowledged, told))
        else:
            with RocksStore(folder) as store:
                use(store, acknowledged, told)
    except GoblinsError as error:
        if told and told[0] is not error:
            raise AssertionError(f"{told[0]!r} was replaced by {error!r}") from error
        return error
    return None


def check_stopped(vat, book, first):
    """After a failed write the vat can't be used any more, and says why."""
    for use_it in (lambda: book.write("after"), lambda: book.all(), lambda: vat.run(print)):
        try:
            use_it()
        except GoblinsError as error:
            if type(error) is not type(first) or error.errno != first.errno:
                raise AssertionError(f"{error!r} after {first!r}") from error
        else:
            raise AssertionError("a vat goes on after a failed write")


def check_error(error, number):
    assert isinstance(error, StoreError), f"{type(error).__name__}: {error}"
    if number in (errno.ENOSPC, errno.EDQUOT):
        assert type(error) is StoreFullError, f"{type(error).__name__}: {error}"
        assert error.errno == number, error.errno
    else:
        assert error.errno in (None, number), error.errno


def check_left(folder, acknowledged):
    """The store can be opened again, and has what was acknowledged."""
    with RocksStore(folder) as store:
        _, book = open_book(store)
        lines = [line.split(" ")[0] for line in book.all()]
    assert lines[: len(acknowledged)] == acknowledged, (
        f"{acknowledged} was acknowledged, and {lines} is there"
    )
    assert len(lines) <= len(acknowledged) + 1, lines


def main():
    place, number, kind, step = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    disk.power_folder(bytes(place))
    disk.power_fail(0, 0, 0, 0)
    assert scenario(place, [], False) is None
    calls = disk.power_fail(0, 0, 0, 0)
    for at in range(1, calls + 1, step):
        shutil.rmtree(place, ignore_errors=True)
        acknowledged = []
        disk.power_fail(at, number, kind == "short", kind == "on")
        try:
            error = scenario(place, acknowledged, at // step % 2)
            failed = disk.power_failed()
            disk.power_fail(0, 0, 0, 0)
            if error is not None:
                check_error(error, number)
            check_left(place, acknowledged)
        except BaseException as error:
            disk.power_fail(0, 0, 0, 0)
            print(at, "BAD", type(error).__name__, error, flush=True)
        else:
            said = type(error).__name__ if error else "nothing"
            print(at, "right" if failed else "missed", said, len(acknowledged), flush=True)


main()
