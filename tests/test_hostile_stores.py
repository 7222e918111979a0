"""A store is data from elsewhere: whatever its records say, it is read right or refused, and quickly.

Records are changed and sealed again with valid checksums, so that nothing but their contents is wrong. The
suite tries some mutants; more: ``GOBLINS_MUTANTS=3000 pytest tests/test_hostile_stores.py``.
"""

import os
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction

import hostile
import pytest
import raw_store as raw
from goblins import (
    GoblinsError,
    MigrationError,
    NotPortableError,
    PersistenceEnv,
    PersistenceError,
    RocksStore,
    StoreCorruptError,
    actor,
    copy_store,
    rehearse,
    spawn,
    spawn_persistent_vat,
)
from goblins._goblins import _decode, _encode
from support import CHILDREN, child_environment, must_not_run

MUTANTS = int(os.environ.get("GOBLINS_MUTANTS", "60"))
# Each child takes as many, one after the other.
SHARE = 30


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "store"
    hostile.write(path)
    return path


@pytest.fixture
def damaged(pristine, tmp_path):
    """Makes a store with other records."""
    made = iter(range(1000))

    def make(changes):
        path = tmp_path / f"damaged {next(made)}"
        shutil.copytree(pristine, path)
        raw.change(path, changes)
        return path

    return make


def try_all(path):
    """The first error of each way into a store, or None."""
    ways = {
        "rehearse": lambda store: rehearse(hostile.ENV, store),
        "open": lambda store: spawn_persistent_vat(hostile.ENV, must_not_run, store)[1].look(),
        "collect": lambda store: store.collect(),
        "change": lambda store: spawn_persistent_vat(hostile.ENV, must_not_run, store, name="again")[
            1
        ].change(),
    }
    errors = {}
    for name, way in ways.items():
        folder = path.with_name(f"{path.name} {name}")
        shutil.copytree(path, folder)
        errors[name] = None
        try:
            with RocksStore(folder, keep_generations=2) as store:
                way(store)
        except GoblinsError as error:
            errors[name] = error
    return errors


def refuses(path, *ways, match):
    errors = try_all(path)
    for way in ways or errors:
        assert isinstance(errors[way], StoreCorruptError), (way, errors[way])
        assert match in str(errors[way]), way
    return errors


@pytest.mark.timeout(60 + 30 * MUTANTS)
def test_no_mutant_ends_with_anything_but_values_or_errors_of_goblins(pristine):
    def run(first):
        numbers = map(str, (first, min(SHARE, MUTANTS - first)))
        command = [sys.executable, CHILDREN / "read_mutants.py", pristine, *numbers]
        return subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, range(0, MUTANTS, SHARE)))
    lines = [line for one in done for line in one.stdout.splitlines()]
    wrong = [line for line in lines if not line.endswith(": right")]
    ended = [
        (one.returncode, one.stdout.splitlines()[-1:], one.stderr[-2000:]) for one in done if one.returncode
    ]
    assert (wrong, ended) == ([], [])
    assert len(lines) == MUTANTS


@contextmanager
def limited():
    """Less memory for a while."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class TestTheCounterOfSlots:
    @pytest.mark.parametrize(
        "content",
        [
            None,
            raw.varint(0),
            raw.varint(1),
            raw.varint(2**63),
            raw.varint(2**64 - 1),
            b"",
            b"\x07\x00",
            b"\x80",
        ],
        ids=["missing", "0", "too low", "2^63", "2^64-1", "empty", "with more after it", "cut off"],
    )
    def test_is_above_all_slots_or_the_vat_is_not_opened(self, damaged, content):
        refuses(damaged({raw.key(1, raw.NEXT_SLOT, 0): content}), match="part 1, next slot 0")

    def test_is_right_in_other_parts(self, damaged):
        path = damaged({raw.key(2, raw.NEXT_SLOT, 0): None})
        errors = refuses(path, "collect", match="part 2, next slot 0")
        assert errors["open"] is None

    def test_may_be_large_and_nothing_takes_longer(self, damaged):
        path = damaged({raw.key(1, raw.NEXT_SLOT, 0): raw.varint(2**40)})
        with limited(), RocksStore(path) as store:
            assert rehearse(hostile.ENV, store).ok
            assert store.collect().kept > 5
            vat, top = spawn_persistent_vat(hostile.ENV, must_not_run, store)
            assert vat.upgrade_all().problems == []
            count = top.change()
            assert top.change() == count + 1
            assert store.collect().removed > 0

    def test_is_above_the_roots(self, damaged):
        vat = raw.key(1, raw.VAT, 0)
        content = raw.read(damaged({}))[vat]
        assert content.endswith(b"\x01\x02"), "one root, in slot 2"
        path = damaged({vat: content[:-1] + raw.varint(1000)})
        refuses(path, "open", "rehearse", "change", match="part 1, vat 0")

    def test_is_above_all_that_records_refer_to(self, damaged):
        top = raw.key(1, raw.ACTOR, 2)
        content = raw.read(damaged({}))[top]
        # Format, shape, flags and the number of slots.
        assert content[0] == 1
        path = damaged({top: content[:4] + raw.varint(5000) + content[5:]})
        refuses(path, "open", "collect", match="part 1, slot")


@pytest.mark.parametrize("far_apart", [2**20, 2**40, 2**52])
def test_slots_may_be_far_apart(damaged, far_apart):
    path = damaged({})
    records = raw.read(path)
    # Nobody refers to it.
    stray = {raw.key(1, raw.ACTOR, far_apart): records[raw.key(1, raw.ACTOR, 0)]}
    counter = {raw.key(1, raw.NEXT_SLOT, 0): raw.varint(far_apart + 1)}
    raw.write(path, records | stray | counter)
    with limited(), RocksStore(path) as store:
        assert rehearse(hostile.ENV, store).ok
        vat, _ = spawn_persistent_vat(hostile.ENV, must_not_run, store)
        assert vat.upgrade_all().upgraded == {}
        assert store.collect().removed >= 1
        assert store.collect().removed == 0


class TestALostRecord:
    def test_of_a_vat_is_told(self, damaged):
        refuses(damaged({raw.key(1, raw.VAT, 0): None}), match="part 1, vat 0")

    @pytest.mark.parametrize("number", [1, 2])
    def test_of_a_part_s_name_is_told(self, damaged, number):
        refuses(damaged({raw.key(0, raw.PART_NAME, number): None}), match=f"part 0, part name {number}")

    def test_of_all_parts_names_is_told(self, damaged):
        path = damaged({raw.key(0, raw.PART_NAME, 1): None, raw.key(0, raw.PART_NAME, 2): None})
        refuses(path, match="part 0, part name 1")

    def test_of_the_format_is_told(self, damaged):
        refuses(damaged({raw.key(0, raw.FORMAT, 0): None}), match="part 0, format 0")

    def test_of_a_vat_with_all_that_belongs_to_it_is_told(self, damaged):
        records = raw.read(damaged({}))
        path = damaged({place: None for place in records if place.startswith(b"\x00\x00\x00\x01")})
        refuses(path, match="part 1, vat 0")

    def test_of_a_root_is_told(self, damaged):
        path = damaged({raw.key(1, raw.ACTOR, 2): None})
        errors = refuses(path, "open", "collect", "change", match="part 1, slot 2")
        assert errors["rehearse"] is None
        with RocksStore(path) as store:
            report = rehearse(hostile.ENV, store)
        assert not report.ok
        assert "part 1, slot 2" in str(report)

    def test_of_an_actor_is_told_and_nothing_is_collected(self, damaged):
        refuses(damaged({raw.key(1, raw.ACTOR, 0): None}), "open", "collect", match="part 1, slot 0")

    def test_of_a_shape_is_told(self, damaged):
        refuses(damaged({raw.key(1, raw.SHAPE, 0): None}), "open", "rehearse", match="part 1, shape 1")

    def test_of_the_generations_is_told(self, damaged):
        path = damaged({raw.key(1, raw.GENERATIONS, 0): None})
        refuses(path, "change", match="part 1, generations 0")
        with RocksStore(path) as store, pytest.raises(StoreCorruptError, match="part 1, generations 0"):
            store.vat("main").generations()

    def test_of_an_old_state_is_told(self, damaged):
        past = [place for place in raw.read(damaged({})) if place.startswith(raw.key(1, raw.PAST, 0)[:5])]
        with RocksStore(damaged({past[1]: None})) as store:
            with pytest.raises(StoreCorruptError, match="part 1, past"):
                store.vat("main").generations()

    def test_of_a_whole_new_store_is_none(self, tmp_path):
        RocksStore(tmp_path / "s").close()
        raw.change(tmp_path / "s", {raw.key(0, raw.FORMAT, 0): None})
        with RocksStore(tmp_path / "s") as store:
            assert store.vats() == []


@pytest.mark.parametrize("number", [0, 2**32, 2**64 - 1])
def test_a_name_of_no_part_is_told(damaged, number):
    refuses(damaged({raw.key(0, raw.PART_NAME, number): b"name"}), match=f"part 0, part name {number}")


def test_two_parts_with_one_name_are_told(damaged):
    refuses(damaged({raw.key(0, raw.PART_NAME, 2): b"main"}), match="part 0, part name 2")


class TestGenerations:
    LEDGERS = {
        "the oldest is newer than the newest": (5, 0, 1, 6, 0, 0),
        "the oldest is none": (5, 0, 1, 0, 0, 0),
        "as many as there are numbers": (2**64 - 1, 0, 1, 1, 0, 0),
        "many": (2**47, 0, 1, 1, 0, 0),
        "a moment after the end of time": (7, 2**63, 1, 4, 0, 0),
        "neither broken nor whole": (7, 0, 1, 4, 2, 0),
        "more pieces than there is": (7, 0, 1, 4, 0, 2**60),
        "a piece of none": (7, 0, 1, 4, 0, 1, 9, 1),
        "too many pieces": (7, 0, 1, 4, 0, 1, 6, 2**40),
        "more after it": (7, 0, 1, 4, 0, 0, 0),
    }

    @pytest.mark.parametrize("numbers", LEDGERS.values(), ids=LEDGERS)
    def test_that_can_t_be_are_told(self, damaged, numbers):
        path = damaged({raw.key(1, raw.GENERATIONS, 0): b"".join(map(raw.varint, numbers))})
        refuses(path, "change", match="part 1, generations 0")
        with RocksStore(path) as store:
            for way in (lambda: store.vat("main").generations(), lambda: store.vat("main").at(5)):
                with pytest.raises(StoreCorruptError, match="part 1, generations 0"):
                    way()

    def test_of_which_there_are_said_to_be_too_many_are_removed_in_no_time(self, damaged):
        numbers = (2**46, 0, 1, 1, 0, 0)
        path = damaged({raw.key(1, raw.GENERATIONS, 0): b"".join(map(raw.varint, numbers))})
        with limited(), RocksStore(path, keep_generations=2) as store:
            _, top = spawn_persistent_vat(hostile.ENV, must_not_run, store)
            count = top.change()
            assert top.change() == count + 1
            assert len(store.vat("main").generations()) == 3

    def test_of_an_old_state_at_no_time_are_told(self, damaged):
        past = [place for place in raw.read(damaged({})) if place.startswith(raw.key(1, raw.PAST, 0)[:5])]
        path = damaged({past[-1]: raw.varint(2**63) + b"\x00\x00"})
        with RocksStore(path) as store, pytest.raises(StoreCorruptError, match="part 1, past"):
            store.vat("main").generations()


def cbor_record(fields: bytes, shape: int = 1) -> bytes:
    """An actor without references, with the fields that stand there as CBOR."""
    return b"\x01" + raw.varint(shape) + b"\x00\x00" + fields


class TestAValue:
    WRONG = {
        "a set that holds a list": b"\xd9\x01\x02\x81\x80",
        "a frozenset that holds a dict": b"\xd9\x6d\xc5\x81\xa0",
        "a dict with a list as key": b"\xa1\x80\xf6",
        "a tuple in a set that holds a set": b"\xd9\x01\x02\x81\xd9\x6d\xc4\x81\xd9\x01\x02\x80",
        "a dict with a key twice": b"\xa2\x01\x01\x01\x01",
        "a promise that is none": b"\xd9\x6d\xd9\x00",
        "a reference to nothing": b"\xd9\x6d\xc7\x05",
        "an unknown tag": b"\xd9\xff\xff\x00",
        "a zone that is a path": b"\xd9\x6d\xc8\x83\x732026-01-01T00:00:00\x69../../etc\xf4",
    }

    @pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
    def test_that_was_never_written_is_told(self, damaged, value):
        path = damaged({raw.key(1, raw.ACTOR, 0): cbor_record(b"\x83" + value + b"\xd9\x6d\xc4\x80\xa0")})
        refuses(path, "open", match="part 1, slot 0")
        with RocksStore(path) as store:
            (problem,) = rehearse(hostile.ENV, store).problems
        assert isinstance(problem.error, StoreCorruptError)

    ERRORS = {
        "a number": b"\x05",
        "a text": b"\x61a",
        "a tuple that is too short": b"\xd9\x6d\xc4\x81\x61a",
        "a tuple of numbers": b"\xd9\x6d\xc4\x85\x01\x02\x03\x04\x05",
        "notes that are none": b"\xd9\x6d\xc4\x85\x6aValueError\x60\xf6\xd9\x6d\xc4\x81\x01\xf6",
        "a list": b"\x85\x6aValueError\x60\xf6\xd9\x6d\xc4\x80\xf6",
    }

    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    def test_that_is_no_error_is_not_what_a_promise_broke_with(self, damaged, error):
        fields = b"\x83\xd9\x6d\xd9\x00\xd9\x6d\xc4\x80\xa0" + b"\x81\x82\x02" + error
        path = damaged({raw.key(1, raw.ACTOR, 0): cbor_record(fields)})
        refuses(path, "open", match="part 1, slot 0")

    def test_of_the_right_form_is_read(self, damaged):
        """So the tests above are about the errors, and not about the form of the records."""
        error = b"\xd9\x6d\xc4\x85\x6aValueError\x61a\xf6\xd9\x6d\xc4\x80\xf6"
        fields = b"\x83\xd9\x6d\xd9\x00\xd9\x6d\xc4\x80\xa0" + b"\x81\x82\x02" + error
        assert try_all(damaged({raw.key(1, raw.ACTOR, 0): cbor_record(fields)}))["open"] is None


def bignum(size: int) -> bytes:
    return b"\xc2\x5a" + size.to_bytes(4, "big") + b"\xff" * size


class TestNumbersThatTakeLong:
    LONG = {
        "Decimal": b"\xc4\x82\x00" + bignum(3_000_000),
        "negative Decimal": b"\xc4\x82\x00" + bignum(3_000_000).replace(b"\xc2", b"\xc3", 1),
        "Fraction": b"\xd8\x1e\x82" + bignum(1_000_000) + bignum(999_999),
        "numerator": b"\xd8\x1e\x82" + bignum(1_000_000) + b"\x01",
    }

    @pytest.mark.parametrize("value", LONG.values(), ids=LONG)
    def test_are_not_read(self, value):
        with pytest.raises(PersistenceError, match="longer than any"):
            _decode(value)

    def test_are_not_written(self):
        for number in (Decimal("1" * 100_001), Decimal("-" + "1" * 100_001)):
            with pytest.raises(NotPortableError, match="100000 digits"):
                _encode(number)
        for fraction in (Fraction(1 << 400_064), Fraction(1, 1 << 400_064)):
            with pytest.raises(NotPortableError, match="50000 bytes"):
                _encode(fraction)

    def test_are_read_if_they_are_written(self):
        long = Decimal("9" * 100_000)
        # Both parts have 50,000 bytes.
        for number in (long, long.copy_negate(), Fraction((1 << 400_000) - 1, 1 << 399_999)):
            assert _decode(_encode(number)) == number

    def test_leave_whole_numbers_as_long_as_they_are(self):
        number = 1 << 24_000_000
        assert _decode(_encode(number)) == number


class TestAnUpgradeThatGivesWhatDoesNotFit:
    CASES = {
        "a list for *rest": {"rest": [1, 2]},
        "a number for *rest": {"rest": 5},
        "a list for **named": {"named": []},
        "keys that are no text for **named": {"named": {1: 2}},
        "a name with a lone surrogate": {"\ud800": 1},
    }

    @pytest.mark.parametrize("given", CASES.values(), ids=CASES)
    def test_is_told_with_the_actor_and_the_field(self, tmp_path, given):
        @actor(label="upgraded")
        def old(bcom, *rest, **named):
            return lambda: (rest, named)

        @actor(label="upgraded", version=1, upgrade=lambda version, fields: {**fields, **given})
        def new(bcom, *rest, **named):
            return lambda: (rest, named)

        with RocksStore(tmp_path / "s") as store:
            vat, _ = spawn_persistent_vat(PersistenceEnv("x", old), lambda: spawn(old, 1), store)
            vat.close()
            vat, root = spawn_persistent_vat(PersistenceEnv("x", new), must_not_run, store)
            with pytest.raises(MigrationError) as caught:
                root()
            assert "slot 0 of vat" in str(caught.value)
            assert ascii(next(iter(given))).strip("'") in ascii(str(caught.value)).replace("\\\\", "\\")


def test_a_damaged_version_of_the_roots_is_told(damaged):
    vat = raw.key(1, raw.VAT, 0)
    content = raw.read(damaged({}))[vat]
    path = damaged({vat: content[:16] + b"\x01\x9f" + content[18:]})
    refuses(path, "open", match="part 1, vat 0")


def test_a_copy_of_a_damaged_store_is_as_damaged(damaged, tmp_path):
    """Records whose checksums are right are copied, whatever they say."""
    path = damaged({raw.key(1, raw.NEXT_SLOT, 0): None})
    with RocksStore(path) as store, RocksStore(tmp_path / "copy") as copy:
        copy_store(store, copy)
        with pytest.raises(StoreCorruptError):
            spawn_persistent_vat(hostile.ENV, must_not_run, copy)
