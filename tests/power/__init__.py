"""A disk that loses its power, or fails: see ``disk.c``."""

from __future__ import annotations

import functools
import os
import random
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parent / "disk.c"
HEAD = struct.Struct("<cQQI")
# What is written within one of these is on disk as a whole, or not at all.
SECTOR = 512


@functools.cache
def library() -> Path | None:
    """The library to load before all others; None if there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    made = Path(tempfile.mkdtemp(prefix="goblins-disk-"), "disk.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl"], check=True)
    return made


def environment(folder: Path, journal: Path | None = None, *, void: bool = False) -> dict[str, str]:
    """Variables with which a process writes a journal of what it does to a folder."""
    made = {"LD_PRELOAD": str(library()), "POWER_FOLDER": str(folder)}
    if journal is not None:
        made["POWER_JOURNAL"] = str(journal)
    if void:
        made["POWER_VOID"] = "1"
    return made


@dataclass
class Record:
    kind: str
    file: int
    offset: int
    text: bytes


def records(journal: Path) -> Iterator[Record]:
    data = journal.read_bytes()
    at = 0
    while at < len(data):
        kind, file, offset, length = HEAD.unpack_from(data, at)
        at += HEAD.size
        yield Record(kind.decode(), file, offset, data[at : at + length])
        at += length


@dataclass
class File:
    """What is on disk for sure, and what was written since."""

    durable: bytearray = field(default_factory=bytearray)
    waiting: list[Record] = field(default_factory=list)


def apply(content: bytearray, record: Record, length: int | None = None) -> None:
    if record.kind == "T":
        del content[record.offset :]
        content.extend(bytes(record.offset - len(content)))
        return
    data = record.text[:length]
    content.extend(bytes(max(record.offset - len(content), 0)))
    content[record.offset : record.offset + len(data)] = data


class Disk:
    """The disk while a journal is read."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.names: dict[str, int] = {}
        self.waiting: list[Record] = []
        self.acknowledged: list[str] = []

    def follow(self, record: Record) -> None:
        match record.kind:
            case "W" | "T":
                self.file(record.file).waiting.append(record)
            case "S":
                file = self.file(record.file)
                for write in file.waiting:
                    apply(file.durable, write)
                file.waiting.clear()
            case "C" | "R" | "U":
                self.waiting.append(record)
            case "D":
                for change in self.waiting:
                    rename(self.names, change)
                self.waiting.clear()
            case "A":
                self.acknowledged.append(record.text.decode())

    def file(self, number: int) -> File:
        return self.files.setdefault(number, File())

    def left(self, chance: random.Random | None) -> dict[str, bytes]:
        """The files that are there when the power comes back.

        That is what was synced; and, by chance, of all else what was written first.
        """
        names = dict(self.names)
        for change in self.waiting[: some(chance, len(self.waiting))]:
            rename(names, change)
        return {name: self.content(self.files.get(number, File()), chance) for name, number in names.items()}

    @staticmethod
    def content(file: File, chance: random.Random | None) -> bytes:
        content = bytearray(file.durable)
        count = some(chance, len(file.waiting))
        for write in file.waiting[:count]:
            apply(content, write)
        if chance is not None and count < len(file.waiting):
            write = file.waiting[count]
            first = -write.offset % SECTOR
            ends = range(first, len(write.text), SECTOR)
            if write.kind == "W" and len(ends):
                apply(content, write, chance.choice(ends))
        return bytes(content)


def some(chance: random.Random | None, count: int) -> int:
    return 0 if chance is None else chance.choice([0, count, chance.randint(0, count)])


def rename(names: dict[str, int], change: Record) -> None:
    if change.kind == "C":
        names[change.text.decode()] = change.file
    elif change.kind == "U":
        names.pop(change.text.decode(), None)
    else:
        old, new = change.text.decode().split("\0")
        if old in names:
            names[new] = names.pop(old)


def write_out(files: dict[str, bytes], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        Path(folder, name).write_bytes(content)


def run(
    script: list[str], variables: dict[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        script,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
