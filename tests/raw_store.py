"""Reads and writes the records of a store, past all that goblins checks.

A store that was opened once, is small and was closed has all its records in the log of RocksDB: a row of
batches in blocks of 32 KiB. It is read into a dict, and a dict is written as one batch, the records sealed
with valid checksums.
"""

from __future__ import annotations

import struct
from pathlib import Path

FORMAT, PART_NAME, COLLECTION = 1, 2, 3
VAT, NEXT_SLOT, SHAPE, GENERATIONS, EXPORTED, ACTOR, PAST = 16, 17, 18, 19, 20, 32, 64

_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_DELETE, _PUT = 0, 1


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def key(part: int, kind: int, number: int) -> bytes:
    return struct.pack(">IBQ", part, kind, number)


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def seal(place: bytes, content: bytes) -> bytes:
    return content + struct.pack("<I", crc32c(place + content))


def _log(folder: Path) -> Path:
    (log,) = folder.glob("*.log")
    return log


def _batches(data: bytes) -> list[bytes]:
    found, at, whole = [], 0, b""
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if kind == 0:
            break
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (_FULL, _LAST):
            found.append(whole)
            whole = b""
    return found


def read(folder: Path) -> dict[bytes, bytes]:
    """The contents of all records by key, without their checksums."""
    records: dict[bytes, bytes] = {}
    for batch in _batches(_log(folder).read_bytes()):
        at = 12
        while at < len(batch):
            kind = batch[at]
            length, at = read_varint(batch, at + 1)
            place, at = batch[at : at + length], at + length
            if kind == _PUT:
                length, at = read_varint(batch, at)
                records[place], at = batch[at : at + length - 4], at + length
            else:
                assert kind == _DELETE, kind
                records.pop(place, None)
    return records


def write(folder: Path, records: dict[bytes, bytes], damaged: bytes | None = None) -> None:
    """Puts other records in the place of all that stand there. The checksum of one may be wrong."""
    batch = bytearray(struct.pack("<QI", 1, len(records)))
    for place, content in sorted(records.items()):
        value = seal(place if place != damaged else place + b"?", content)
        batch += bytes([_PUT]) + varint(len(place)) + place + varint(len(value)) + value
    out = bytearray()
    rest, first = bytes(batch), True
    while rest or first:
        left = _BLOCK - len(out) % _BLOCK
        if left < 7:
            out += bytes(left)
            continue
        piece, rest = rest[: left - 7], rest[left - 7 :]
        kind = (_FULL if first else _LAST) if not rest else (_FIRST if first else _MIDDLE)
        first = False
        crc = crc32c(bytes([kind]) + piece)
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        out += struct.pack("<IHB", masked, len(piece), kind) + piece
    _log(folder).write_bytes(out)
    # It says how many changes there were.
    (folder / "SYNCED").unlink(missing_ok=True)


def change(folder: Path, changes: dict[bytes, bytes | None]) -> None:
    """Changes some records; None removes one."""
    records = read(folder)
    for place, content in changes.items():
        if content is None:
            del records[place]
        else:
            records[place] = content
    write(folder, records)


def damage(folder: Path, place: bytes) -> None:
    """Makes the checksum of one record wrong."""
    write(folder, read(folder), place)
