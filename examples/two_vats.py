"""Two vats, each with a store of its own; a cell of one refers to a cell of the other.

    python examples/two_vats.py [folder]

The reference is stored as what it is. After a restart it is a promise for that cell, which is fulfilled when
the other vat is open too: whichever comes first. The registry is where they find each other.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from goblins import (
    Actor,
    PersistenceEnv,
    PersistenceRegistry,
    Promise,
    RocksStore,
    send,
    spawn,
    spawn_persistent_vat,
)


class Cell(Actor):
    """Holds a value."""

    value: Any = None

    def get(self) -> Any:
        return self.value

    def put(self, value: Any) -> None:
        self.value = value


ENV = PersistenceEnv("two_vats", Cell)


def open_vat(folder: Path, name: str, registry: PersistenceRegistry) -> tuple[RocksStore, Cell]:
    """The store and the one root of a vat."""
    store = RocksStore(folder / name)
    _vat, root = spawn_persistent_vat(
        ENV, lambda: spawn(Cell), store, name=name, persistence_registry=registry
    )
    return store, root


def first_start(folder: Path) -> None:
    registry = PersistenceRegistry()
    a_store, a = open_vat(folder, "a", registry)
    b_store, b = open_vat(folder, "b", registry)
    b.put("hello from b")
    a.put(b)
    print("a holds", a.get())
    a_store.close()
    b_store.close()


def restart(folder: Path, order: str) -> None:
    registry = PersistenceRegistry()
    opened: dict[str, tuple[RocksStore, Cell]] = {}
    early: Promise[Any] | None = None
    for name in order:
        opened[name] = open_vat(folder, name, registry)
        if name == "a" and "b" not in opened:
            # A message may go on its way before the other vat is there.
            early = send(opened["a"][1].get().get)
            print("b is not open yet:", registry)
    a, b = opened["a"][1], opened["b"][1]
    found = a.get().result(timeout=30)
    says = send(found.get).result(timeout=30)
    print(f"restarted {order[0]} first: the same cell: {found is b}, which says {says!r}")
    if early is not None:
        print("the early message:", early.result(timeout=30))
    for store, _ in opened.values():
        store.close()


def main(folder: Path) -> None:
    first_start(folder)
    restart(folder, "ab")
    restart(folder, "ba")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
