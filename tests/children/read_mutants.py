"""Changes records of a store, seals them again, and does with each mutant all that can be done with a store.

One line for each mutant: its seed, and "right" or what is wrong. A mutant ends with values, or with an error
of goblins that says what is damaged: never with a bare error, and in bounded time and memory.
"""

import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import raw_store as raw
from goblins import (
    GoblinsError,
    MemoryStore,
    RocksStore,
    copy_store,
    rehearse,
    spawn_persistent_vat,
)
from hostile import ENV, make

MEMORY = 3 << 30
SECONDS = 20


def mutate(records: dict[bytes, bytes], random: random.Random) -> str:
    """Changes one to three records. Gives what was done."""
    return "; ".join(_mutate_one(records, random) for _ in range(random.choice([1, 1, 1, 2, 3])))


NUMBERS = [0, 1, 2, 3, 23, 24, 127, 128, 255, 256, 2**16, 2**31, 2**32 - 1, 2**40, 2**53]
NUMBERS += [2**63 - 1, 2**63, 2**64 - 1]
KINDS = [1, 2, 3, 16, 17, 18, 19, 20, 32, 64, 77]
DAMAGE = [
    "remove",
    "number",
    "number",
    "byte",
    "byte",
    "cut",
    "add",
    "key",
    "copy",
    "splice",
    "head",
    "repeat",
]
# Heads of CBOR, and of containers that are longer than all there is.
HEADS = [b"\x9b" + b"\xff" * 8, b"\xbb" + b"\x7f" * 8, b"\x5b" + b"\xff" * 8, b"\xfb" + b"\xff" * 8]
HEADS += [
    b"\xd9\x6d\xc7",
    b"\xd9\x01\x02\x81",
    b"\xc4\x82",
    b"\xd8\x1e\x82",
    b"\xc2",
    b"\xf9\x7e\x00",
    b"\x9f",
]
HEADS += [b"\xd9\x6d\xd9", b"\xa1\x80", b"\x81" * 300]


def _varints(content: bytes) -> list[tuple[int, int]]:
    """Where a number may stand: begin and end."""
    found = []
    for at in range(len(content)):
        with suppress(IndexError):
            _, end = raw.read_varint(content, at)
            if end - at <= 10:
                found.append((at, end))
    return found


def _mutate_one(records: dict[bytes, bytes], random: random.Random) -> str:
    place = random.choice(sorted(records))
    content = records[place]
    part, kind, number = struct.unpack(">IBQ", place)
    what = random.choice(DAMAGE)
    if what == "remove":
        del records[place]
    elif what == "number" and (numbers := _varints(content)):
        begin, end = random.choice(numbers)
        records[place] = content[:begin] + raw.varint(random.choice(NUMBERS)) + content[end:]
    elif what == "byte" and content:
        at = random.randrange(len(content))
        byte = random.choice([0, 1, 0x80, 0xFF, random.randrange(256)])
        records[place] = content[:at] + bytes([byte]) + content[at + 1 :]
    elif what == "cut" and content:
        records[place] = content[: random.randrange(len(content))]
    elif what == "add":
        records[place] = content + bytes(random.randrange(256) for _ in range(random.randrange(1, 12)))
    elif what == "key":
        del records[place]
        moved = random.choice(
            [
                raw.key(part, kind, random.choice(NUMBERS)),
                raw.key(random.choice([0, 1, 2, 3, 2**32 - 1]), kind, number),
                raw.key(part, random.choice(KINDS), number),
            ]
        )
        records[moved] = content
    elif what == "copy":
        other = random.choice(sorted(records))
        records[other] = content
    elif what == "splice":
        other = records[random.choice(sorted(records))]
        begin, end = sorted(random.randrange(len(other) + 1) for _ in range(2))
        at = random.randrange(len(content) + 1)
        records[place] = content[:at] + other[begin:end] + content[at:]
    elif what == "head" and content:
        head = random.choice(HEADS)
        at = random.randrange(len(content))
        records[place] = content[:at] + head + content[at + random.randrange(2) :]
    elif what == "repeat" and content:
        begin, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
        records[place] = content[:end] + content[begin:end] * random.randrange(1, 200) + content[end:]
    return f"{what} part {part} kind {kind} number {number}"


def use(path: Path) -> None:
    """All that can be done with a store."""
    trying = suppress(GoblinsError)
    with trying:
        report = rehearse(ENV, path, check=lambda label, ref: None, check_roots=lambda *roots: None)
        str(report)
        for problem in report.problems:
            assert isinstance(problem.error, GoblinsError), problem
    with trying, RocksStore(path, keep_generations=2) as store:
        with trying:
            store.vats()
        with trying, MemoryStore() as copy:
            copy_store(store, copy)
        for name in ("main", "other", "new"):
            with trying:
                for generation in store.vat(name).generations():
                    with trying:
                        _, top = spawn_persistent_vat(
                            ENV, make, store.vat(name).at(generation.number), name="old"
                        )
                        top.look()
        with trying:
            store.collect()
        for name in ("main", "other", "new"):
            with trying:
                vat, top, *_ = spawn_persistent_vat(ENV, make, store.vat(name))
                try:
                    for _ in range(2):
                        with trying:
                            top.look()
                        with trying:
                            top.change()
                    with trying:
                        vat.upgrade_all()
                finally:
                    vat.close()
        with trying:
            store.collect()
    with trying, RocksStore(path) as store:
        for name in ("main", "other"):
            with trying:
                spawn_persistent_vat(ENV, make, store.vat(name))[1].look()


def main(pristine: str, first: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    records = raw.read(Path(pristine))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for seed in range(first, first + count):
        changed = dict(records)
        what = mutate(changed, random.Random(seed))
        print(seed, what, end=": ", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "store")
            shutil.copytree(pristine, path)
            raw.write(path, changed)
            # Whoever hangs is ended by the signal.
            signal.alarm(SECONDS)
            try:
                use(path)
            except BaseException as error:
                print(f"{type(error).__module__}.{type(error).__name__}: {str(error)[:300]}", flush=True)
                if "-v" in sys.argv:
                    import traceback

                    traceback.print_exc()
            else:
                print("right", flush=True)
            signal.alarm(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
