"""One damaged byte in any file of a store: the right value comes out, or an error. Never a wrong value.

The suite takes samples. All bytes: ``GOBLINS_ALL_BYTES=1 pytest tests/test_flipped_bytes.py``.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from goblins import RocksStore, StoreCorruptError, spawn, spawn_persistent_vat
from support import CHILDREN, collect

ALL = os.environ.get("GOBLINS_ALL_BYTES") == "1"
# Of the files that RocksDB reads when it opens a store, and of those that it only writes.
SAMPLES, SAMPLES_OF_UNREAD = 60, 4
UNREAD = ("LOG", "OPTIONS", "IDENTITY", "OWNER", "LOCK")
# Some seconds for each flip would be a hang.
PATIENCE = 4 * 3600 if ALL else 240

sys.path.insert(0, str(CHILDREN))
from flipped_store import ENV, EXPECTED, cell, make, read  # noqa: E402


def positions(file: Path) -> str:
    size = file.stat().st_size
    samples = SAMPLES_OF_UNREAD if file.name.startswith(UNREAD) else SAMPLES
    step = 1 if ALL else max(1, size // samples)
    # Not always the same bytes of what is alike.
    return f"{0 if ALL else size % step}:{size}:{step}"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine") / "store"
    make(folder)
    return folder


def flip(pristine: Path, work: Path, bits: int, files: list[Path]) -> list[str]:
    arguments = [part for file in files for part in (file.name, positions(file))]
    command = [sys.executable, CHILDREN / "flip_bytes.py", pristine, work, str(bits), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"after {lines[-1:]}: {done.stderr[-2000:]}"
    return lines


def test_the_store_is_read_right_when_nothing_is_damaged(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "copy")
    assert read(tmp_path / "copy") == EXPECTED


def test_it_has_files_of_each_kind(pristine):
    names = {file.name.rstrip("0123456789").strip("-") or file.suffix for file in pristine.iterdir()}
    assert {"CURRENT", "MANIFEST", "SYNCED", "OWNER"} <= names
    assert any(file.suffix == ".sst" for file in pristine.iterdir())
    assert any(file.suffix == ".log" and file.stat().st_size > 0 for file in pristine.iterdir())


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("bits", [0x01, 0x80, 0xFF] if ALL else [0x01, 0x80])
def test_a_flipped_byte_gives_the_right_value_or_an_error(pristine, tmp_path, bits):
    """LIM-10"""
    files = sorted(file for file in pristine.iterdir() if file.stat().st_size)
    lines = flip(pristine, tmp_path, bits, files)
    wrong = [line for line in lines if line.split(" ", 3)[2] not in ("right", "refused")]
    assert wrong == []
    kinds = Counter((line.split()[0].split("-")[0], " ".join(line.split()[2:])) for line in lines)
    print(*(f"{file}: {what}: {count}" for (file, what), count in sorted(kinds.items())), sep="\n")
    # Where the records are, damage is found.
    refused = [line for line in lines if line.split()[2] == "refused"]
    assert any(line.split()[0].endswith(".log") for line in refused)
    assert any(line.split()[0].endswith(".sst") for line in refused)
    assert all(line.split()[3] in ("StoreCorruptError", "StoreError") for line in refused), set(refused)


def test_a_list_of_files_that_was_cut_off_is_refused(tmp_path):
    """RocksDB takes it for one that a loss of power has torn, and would go on without some of its files."""
    with RocksStore(tmp_path / "store") as store:
        vat, box = spawn_persistent_vat(ENV, lambda: spawn(cell, 1), store)
        vat.run(lambda: box.put(spawn(cell, 0)))
        box.put(2)
        collect()
        # That makes a table of what stands in the log.
        assert store.collect().removed == 1
        box.put(3)
        shutil.copytree(tmp_path / "store", tmp_path / "cut off")
    manifest = max((tmp_path / "cut off").glob("MANIFEST-*"))
    os.truncate(manifest, manifest.stat().st_size - 1)
    with pytest.raises(StoreCorruptError, match=manifest.name):
        RocksStore(tmp_path / "cut off")
