"""Flips single bytes of a store's files, each time in a fresh copy, and tells what opening and reading it
gives.

Arguments: the store's folder, a folder to work in, the bits to flip in each byte, and, for each file, its
name followed by the positions as ``start:stop:step``. Prints a line for each flip: file, position, what came
of it.
"""

import shutil
import sys
from pathlib import Path

import goblins
from flipped_store import EXPECTED, read


def outcome(folder: Path) -> str:
    try:
        found = read(folder)
    except goblins.GoblinsError as error:
        return f"refused {type(error).__name__}"
    except BaseException as error:
        return f"BAD {type(error).__name__}: {error}"
    return "right" if found == EXPECTED else f"WRONG {found}"


def main() -> None:
    pristine, work, bits = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    for name, positions in zip(sys.argv[4::2], sys.argv[5::2], strict=True):
        original = (pristine / name).read_bytes()
        for position in range(*(int(part) for part in positions.split(":"))):
            folder = work / "copy"
            shutil.copytree(pristine, folder)
            damaged = bytearray(original)
            damaged[position] ^= bits
            (folder / name).write_bytes(damaged)
            print(name, position, flush=True, end=" ")
            print(outcome(folder), flush=True)
            shutil.rmtree(folder)


main()
