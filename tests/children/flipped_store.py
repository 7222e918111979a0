"""A small store whose files are damaged on purpose: how it is made, and what stands in it."""

from pathlib import Path

from goblins import Map, PersistenceEnv, RocksStore, actor, methods, spawn, spawn_persistent_vat

KEEP = 3


@actor
def cell(bcom, value):
    def get():
        return value

    def put(new):
        return bcom(cell(bcom, new))

    return methods(get=get, put=put)


ENV = PersistenceEnv("flip", cell)
EXPECTED = {
    "number": 7,
    "text": ["text", 1.5, b"bytes"],
    "pages": {"a": 1, "b": [2, 3]},
    "other": "last",
    "number before": 5,
}


def roots():
    return (spawn(cell, 0), spawn(cell, ["text", 1.5, b"bytes"]), spawn(cell, Map(a=1)))


def other_roots():
    return spawn(cell, "first")


def make(folder: Path) -> None:
    """Some of it stands in a table, some in the log, and some was written over."""
    with RocksStore(folder, keep_generations=KEEP) as store:
        _, number, *_ = spawn_persistent_vat(ENV, roots, store)
        for value in range(1, 6):
            number.put(value)
    with RocksStore(folder, keep_generations=KEEP) as store:
        _, number, _, pages = spawn_persistent_vat(ENV, roots, store)
        number.put(6)
        _, other = spawn_persistent_vat(ENV, other_roots, store.vat("other"))
        pages.get()["b"] = [2, 3]
        number.put(7)
        other.put("last")


def read(folder: Path) -> dict[str, object]:
    """All that stands in the store, and what the number was three churns before."""
    with RocksStore(folder, keep_generations=KEEP) as store:
        _, number, text, pages = spawn_persistent_vat(ENV, roots, store)
        _, other = spawn_persistent_vat(ENV, other_roots, store.vat("other"))
        part = store.vat("main")
        oldest = part.generations()[0].number
        _, old, *_ = spawn_persistent_vat(ENV, roots, part.at(oldest))
        return {
            "number": number.get(),
            "text": text.get(),
            "pages": dict(pages.get().items()),
            "other": other.get(),
            "number before": old.get(),
        }
