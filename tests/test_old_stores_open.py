"""Old stores open, and newer ones are refused with an error that says so.

A store says in which format it was written. For each format that was released, a store that was written
then stands in `fixtures`; `fixtures/make_store.py` made it.
"""

import struct
import tarfile
from pathlib import Path

import pytest
import raw_store as raw
from goblins import RocksStore, StoreCorruptError, StoreError, rehearse, spawn, spawn_persistent_vat
from support import ENV, counter, must_not_run

FIXTURES = Path(__file__).parent / "fixtures"
STORES = sorted(FIXTURES.glob("format-*.tar.gz"))


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def set_format(folder, version):
    """Writes another format version into a store that was made and closed just now.

    Its first record stands in RocksDB's log: key, length and value, where the value is the version and a
    checksum over key and version. The block of the log has a checksum of its own.
    """
    key = struct.pack(">IBQ", 0, 1, 0)
    (log,) = folder.rglob("*.log")
    data = bytearray(log.read_bytes())
    at = data.index(key) + len(key)
    assert data[at] == 5, "the record is not as it was"
    data[at + 1 : at + 6] = struct.pack("<BI", version, crc32c(key + bytes([version])))
    length = struct.unpack_from("<H", data, 4)[0]
    crc = crc32c(data[6 : 7 + length])
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    struct.pack_into("<I", data, 0, masked)
    log.write_bytes(data)


def test_a_newer_format_is_refused_and_the_store_is_left_as_it_was(tmp_path):
    path = tmp_path / "s"
    with RocksStore(path) as store:
        assert list(store.vats()) == []
    set_format(path, 99)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"format 99") as caught:
            RocksStore(path)
        assert str(path) in str(caught.value)
        assert "upgrade" in str(caught.value)
    assert list(path.rglob("*")), "the store is gone"


def files(folder):
    """All that stands in a folder: names, contents, and when they were written."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("owner", [True, False], ids=["signed", "without OWNER"])
def test_no_file_of_a_store_of_a_newer_format_is_changed(tmp_path, owner):
    path = tmp_path / "s"
    with RocksStore(path) as store:
        spawn_persistent_vat(ENV, lambda: spawn(counter), store)
    raw.change(path, {raw.key(0, raw.FORMAT, 0): bytes([99])})
    if not owner:
        (path / "OWNER").unlink()
    before = files(path)
    for attempt in (RocksStore, lambda path: RocksStore(path, sync=False), lambda path: rehearse(ENV, path)):
        for _ in range(2):
            with pytest.raises(StoreError, match="format 99"):
                attempt(path)
            assert files(path) == before


def test_a_damaged_format_is_refused_and_nothing_is_changed(tmp_path):
    for number, content in enumerate([b"", b"\x80", b"\x01\x00", b"\x00", b"\xff" * 10]):
        path = tmp_path / str(number)
        RocksStore(path).close()
        raw.change(path, {raw.key(0, raw.FORMAT, 0): content})
        before = files(path)
        with pytest.raises(StoreCorruptError, match="part 0, format 0"):
            RocksStore(path)
        assert files(path) == before


def test_the_same_store_with_its_own_format_opens(tmp_path):
    """So the test above is not about a store that can't be read at all."""
    path = tmp_path / "s"
    RocksStore(path).close()
    set_format(path, 1)
    with RocksStore(path) as store:
        _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        assert ticks() == 0


def test_there_is_a_store_of_each_format():
    assert [path.name for path in STORES] == ["format-1.tar.gz"]


@pytest.mark.parametrize("packed", STORES, ids=lambda path: path.name)
def test_a_store_of_an_old_format_opens_and_has_all_that_was_in_it(tmp_path, packed):
    from fixtures import make_store

    with tarfile.open(packed) as tar:
        tar.extractall(tmp_path, filter="data")
    with RocksStore(tmp_path / "store") as store:
        make_store.check(store)
    with RocksStore(tmp_path / "store") as store:
        make_store.check(store)


def test_a_store_of_the_first_format_is_used_and_opened_again(tmp_path):
    from fixtures import make_store

    with tarfile.open(STORES[0]) as tar:
        tar.extractall(tmp_path, filter="data")
    for round_ in range(3):
        with RocksStore(tmp_path / "store", keep_generations=2) as store:
            make_store.check(store)
            first = must_not_run if round_ else lambda: spawn(counter)
            _, ticks = spawn_persistent_vat(ENV, first, store.vat("added since"))
            assert ticks() == round_
            assert store.collect().removed == 0
