"""Changes a store, and notes each change when it is acknowledged; and looks for what was noted.

    durable_changes.py FOLDER      under ``power/disk.c``, which takes the notes

``check`` is for the process that opens the store after the power was cut.
"""

import ctypes
import sys
import threading
from collections import Counter
from pathlib import Path

from goblins import Actor, List, Map, PersistenceEnv, RocksStore, field, send, spawn, spawn_persistent_vat

THREADS, CHANGES, OPENINGS = 3, 6, 3


class Book(Actor):
    """Says the same in three ways; an actor of another vat gets each change as a message too."""

    other: object
    count: int = 0
    lines: List = field(default_factory=List)
    table: Map = field(default_factory=Map)

    def write(self, text):
        self.lines.append(text)
        self.table[self.count] = text
        self.count += 1
        if self.other is not None:
            send(self.other.write, text)
        return self.count

    def all(self):
        lines = list(self.lines)
        assert lines == list(self.table.values()), "a turn is not there as a whole"
        assert len(lines) == self.count
        return lines


ENV = PersistenceEnv("durable", Book)


def open_vats(store):
    copies, copy = spawn_persistent_vat(ENV, lambda: spawn(Book, None), store.vat("copy"))
    books = []
    for number in range(THREADS):
        vat, book = spawn_persistent_vat(ENV, lambda: spawn(Book, copy), store.vat(f"book {number}"))
        books.append((vat, book))
    return copies, copy, books


def change(folder, note):
    """Opens the store some times, and changes all books there at the same time."""
    for opening in range(OPENINGS):
        with RocksStore(folder, sync=True) as store:
            _, copy, books = open_vats(store)

            def write(number, book, opening=opening, copy=copy):
                for turn in range(CHANGES):
                    text = f"{opening} {number} {turn} {'x' * (700 * turn)}"
                    if turn % 3:
                        book.write(text)
                    else:
                        send(book.write, text).result(timeout=60)
                    note(f"book {number}")
                if number == 0:
                    copy.write("direct")
                    note("copy")

            threads = [
                threading.Thread(target=write, args=(number, book)) for number, (_, book) in enumerate(books)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def check(folder, acknowledged):
    """Raises AssertionError unless all that was acknowledged is there, and no turn in part."""
    told = Counter(acknowledged)
    with RocksStore(folder) as store:
        copies, copy, books = open_vats(store)
        for vat, _ in books:
            vat.drain(timeout=60)
        copies.drain(timeout=60)
        copied = Counter(copy.all())
        assert copied.pop("direct", 0) >= told["copy"], "what was acknowledged is lost"
        for number, (_, book) in enumerate(books):
            lines = book.all()
            assert len(lines) >= told[f"book {number}"], "what was acknowledged is lost"
            assert len(lines) <= told[f"book {number}"] + 1, "more is there than was asked for"
            copied -= Counter(lines)
        # A message that was under way may be lost, but not what it came from.
        assert not copied, "a message was handled twice, or its sender does not know of it"


if __name__ == "__main__":
    library = ctypes.CDLL(None)
    change(Path(sys.argv[1]), lambda text: library.power_note(text.encode()))
