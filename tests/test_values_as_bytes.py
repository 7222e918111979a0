"""What values are as bytes: read back they are the same, and a reader of somebody else agrees."""

import datetime
import decimal
import math
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction

import cbor2
import pytest
from goblins import NotPortableError, PersistenceError
from goblins._goblins import _decode, _encode
from hypothesis import example, given
from hypothesis import strategies as st

ZONES = ["Europe/Paris", "America/New_York", "Asia/Kathmandu", "UTC", "Africa/Monrovia"]
EPOCH = datetime.datetime(1970, 1, 1)

distances = st.timedeltas(
    min_value=datetime.timedelta(hours=-23, minutes=-59), max_value=datetime.timedelta(hours=23, minutes=59)
)
minutes = st.integers(-1439, 1439).map(lambda n: datetime.timezone(datetime.timedelta(minutes=n)))
zones = st.one_of(
    st.just(datetime.UTC),
    minutes,
    distances.map(datetime.timezone),
    st.builds(datetime.timezone, distances, st.text(max_size=5)),
    st.sampled_from(ZONES).map(zoneinfo.ZoneInfo),
)
folds = st.integers(0, 1)
datetimes = st.builds(
    lambda naive, zone, fold: naive.replace(tzinfo=zone, fold=fold), st.datetimes(), st.none() | zones, folds
)
times = st.builds(
    lambda naive, zone, fold: naive.replace(tzinfo=zone, fold=fold), st.times(), st.none() | zones, folds
)
decimals = st.one_of(
    st.decimals(),
    st.builds(
        lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
        folds,
        st.lists(st.integers(0, 9), min_size=1, max_size=60).map(tuple),
        st.integers(-500, 500),
    ),
    st.sampled_from(
        ["NaN", "-NaN", "sNaN", "-sNaN7", "NaN123", "Infinity", "-Infinity", "-0", "0E+9", "-0E-9"]
    ).map(Decimal),
)
big = st.integers(-(2**200), 2**200)
numbers = st.one_of(
    decimals,
    st.builds(Fraction, big, big.filter(bool)),
    st.complex_numbers(),
    st.uuids(),
    st.builds(range, big, big, big.filter(bool)),
)
durations = st.timedeltas()
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    big,
    st.floats(),
    st.text(),
    st.binary(),
    datetimes,
    st.dates(),
    times,
    durations,
    numbers,
)


def is_signalling(value):
    return type(value) is Decimal and value.is_snan()


# What raises when it is hashed is no key.
hashables = st.recursive(
    scalars.filter(lambda value: not is_signalling(value)),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    scalars | st.binary().map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
    ),
    max_leaves=15,
)


def told(value):
    """All that can be seen of a value, so that it can be compared: also of what is not equal to itself."""
    match value:
        case dict():
            return "dict", [(told(key), told(item)) for key, item in value.items()]
        case list() | tuple():
            return type(value), [told(item) for item in value]
        case set() | frozenset():
            return type(value), sorted((told(item) for item in value), key=repr)
        case complex():
            return complex, told(value.real), told(value.imag)
        case float() if math.isnan(value):
            return "nan"
        case datetime.datetime() | datetime.time():
            return type(value), repr(value), value.fold, type(value.tzinfo), repr(value.tzinfo)
        case _:
            return type(value), repr(value)


@given(values)
@example(datetime.datetime(1, 1, 1, tzinfo=datetime.timezone.max))
@example(datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=datetime.timezone.min))
@example([datetime.timedelta.min, datetime.timedelta.max, datetime.timedelta.resolution])
@example([datetime.date.min, datetime.date.max, datetime.time.min, datetime.time.max])
@example(Decimal((0, (1,), decimal.MAX_EMAX)))
@example(Decimal((1, (1,), decimal.MIN_ETINY)))
@example(complex(-0.0, float("nan")))
def test_bytes_are_read_as_the_value_that_they_were_made_of(value):
    stored = _encode(value)
    found = _decode(stored)
    assert told(found) == told(value)
    assert _encode(found) == stored


def agrees(ours, theirs):
    """Whether another reader sees the same; what has tags of our own is something else there."""
    match ours:
        case float():
            return type(theirs) is float and told(ours) == told(theirs)
        case list():
            return len(ours) == len(theirs) and all(map(agrees, ours, theirs))
        case dict():
            return list(map(told, ours)) == list(map(told, theirs)) and all(
                agrees(item, theirs[key]) for key, item in ours.items()
            )
        case datetime.datetime():
            return ours == theirs and ours.utcoffset() == theirs.utcoffset()
        case Decimal():
            return type(theirs) is Decimal and ours.as_tuple() == theirs.as_tuple()
        case _:
            return type(ours) is type(theirs) and ours == theirs


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    big,
    st.floats(),
    st.text(),
    st.binary(),
    st.dates(),
    st.builds(
        lambda naive, zone: naive.replace(tzinfo=zone, fold=0),
        st.datetimes(min_value=EPOCH),
        st.just(datetime.UTC) | minutes,
    ),
    st.builds(
        lambda digits, exponent: Decimal((0, digits, exponent)),
        st.lists(st.integers(0, 9), min_size=1, max_size=20).map(tuple),
        st.integers(-50, 50),
    ),
    st.builds(Fraction, big, big.filter(bool)),
    st.complex_numbers(allow_nan=False),
    st.uuids(),
    st.sets(st.integers() | st.text(), max_size=4),
)


@given(
    st.recursive(
        plain,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        ),
        max_leaves=15,
    )
)
def test_another_reader_of_the_standard_sees_the_same_values(value):
    theirs = cbor2.loads(_encode(value))
    assert agrees(value, theirs), (value, theirs)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (datetime.datetime(2013, 3, 21, tzinfo=datetime.UTC), "c074323031332d30332d32315430303a30303a30305a"),
        (datetime.date(1940, 10, 9), "d8643929b3"),
        (datetime.date(1980, 12, 8), "d864190f9a"),
        (datetime.timedelta(seconds=-1, microseconds=5), "d903eaa201202505"),
        (Decimal("273.15"), "c48221196ab3"),
        (Fraction(1, 3), "d81e820103"),
        (uuid.UUID(int=1), "d8255000000000000000000000000000000001"),
        (complex(1, 0), "d9a7f882fb3ff0000000000000fb0000000000000000"),
        (range(3), "d96dcb83000301"),
    ],
    ids=repr,
)  # fmt: skip
def test_bytes_are_what_the_registered_tags_say(value, stored):
    assert _encode(value).hex() == stored


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1.50"), Decimal("15.0").scaleb(-1)),
        (Fraction(2, 4), Fraction("0.5")),
        (datetime.timedelta(days=1), datetime.timedelta(hours=24)),
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
         datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(0)))),
        ({3, 1, 2}, {1, 2, 3}),
        # These collide: a set has them in the order in which they came.
        ({0, 8}, {8, 0}),
        (frozenset([0, 8]), frozenset([8, 0])),
        (float("nan"), -float("nan")),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_equal_in_all_that_can_be_seen_has_equal_bytes(one, other):
    assert _encode(one) == _encode(other)


def test_a_decimal_is_taken_as_it_is_in_whatever_context():
    value = Decimal("1.23456789012345678901234567890E-40")
    with decimal.localcontext(decimal.Context(prec=3, Emin=-5, Emax=5, capitals=0)):
        stored = _encode([value, Decimal("-0E+7")])
        found = _decode(stored)
    assert found == [value, 0]
    assert repr(found[0]) == repr(value)
    assert _encode([value, Decimal("-0E+7")]) == stored


class Somewhere(datetime.tzinfo):
    def utcoffset(self, when):
        return datetime.timedelta(hours=1)

    def dst(self, when):
        return None


class Day(datetime.date):
    pass


class Amount(Decimal):
    pass


class Id(uuid.UUID):
    pass


REFUSED = {
    "a time zone of another kind": (datetime.datetime(2026, 1, 1, tzinfo=Somewhere()), "zoneinfo.ZoneInfo"),
    "a time in one": (datetime.time(1, tzinfo=Somewhere()), "Somewhere"),
    "a subclass of date": (Day(2026, 1, 1), "subclass"),
    "a subclass of Decimal": (Amount(1), "subclass"),
    "a subclass of UUID": (Id(int=1), "subclass"),
    "a name of a zone that is no text": (
        datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(0), "\ud800")),
        "surrogates",
    ),
}


@pytest.mark.parametrize(("value", "why"), REFUSED.values(), ids=REFUSED)
def test_what_would_not_come_back_is_refused_with_the_reason(value, why):
    with pytest.raises(NotPortableError, match=why) as caught:
        _encode([0, {"key": value}])
    assert caught.value.path == "value[1].key"


def test_a_zone_without_a_name_is_refused(tmp_path):
    import importlib.resources

    data = importlib.resources.files("tzdata.zoneinfo").joinpath("UTC").read_bytes()
    (tmp_path / "zone").write_bytes(data)
    with (tmp_path / "zone").open("rb") as file:
        zone = zoneinfo.ZoneInfo.from_file(file)
    with pytest.raises(NotPortableError, match="key"):
        _encode(datetime.datetime(2026, 1, 1, tzinfo=zone))


def ring(make, close):
    value = make()
    close(value, value)
    return value


def test_a_value_that_contains_itself_is_refused_where_it_does():
    inner = []
    value = [0, [inner], inner]
    inner.append(value)
    cases = [
        (value, "value[1][0][0]"),
        (ring(list, list.append), "value[0]"),
        (ring(dict, lambda one, other: one.update(name=(other,))), "value.name[0]"),
        ([1, ring(lambda: {"k": []}, lambda one, other: one["k"].append(other))], "value[1].k[0]"),
    ]
    for value, path in cases:
        with pytest.raises(NotPortableError, match="contains itself") as caught:
            _encode(value)
        assert caught.value.path == path


def test_what_stands_twice_but_not_in_itself_is_no_ring():
    shared = [1]
    value = [shared, shared, {"again": shared}]
    assert _decode(_encode(value)) == value


def nested(value, depth):
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "core", [1, datetime.date(2026, 1, 1), Fraction(1, 3), range(3), Decimal(1)], ids=repr
)
def test_what_stands_in_the_deepest_container_can_be_stored_too(core):
    value = nested(core, 200)
    assert _decode(_encode(value)) == value
    with pytest.raises(NotPortableError, match="200"):
        _encode(nested(core, 201))


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_read_or_refused(data):
    try:
        value = _decode(data)
    except (PersistenceError, TypeError):
        return
    assert told(_decode(_encode(value))) == told(value)


@given(values, st.data())
def test_damaged_bytes_are_read_or_refused(value, data):
    stored = bytearray(_encode(value))
    at = data.draw(st.integers(0, len(stored) - 1))
    stored[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        _decode(bytes(stored))
    except (PersistenceError, TypeError, ValueError):
        pass


def tagged(tag, value):
    return cbor2.dumps(cbor2.CBORTag(tag, value))


MALFORMED = {
    "no date": tagged(0, "2026-02-30T00:00:00Z"),
    "no zone": tagged(0, "2026-02-03T00:00:00"),
    "another form": tagged(0, "2026-02-03 00:00:00Z"),
    "more behind it": tagged(0, "2026-02-03T00:00:00Z!"),
    "too far from UTC": tagged(0, "2026-02-03T00:00:00+24:00"),
    "a day too late": tagged(100, 2932897),
    "a day in eternity": tagged(100, 2**63 - 1),
    "a long time": tagged(1002, {1: 2**60}),
    "a part of a second that is more": tagged(1002, {1: 0, -6: 1_000_000}),
    "a duration of something": tagged(1002, {2: 0}),
    "an exponent out of reach": tagged(4, [10**19, 1]),
    "an exponent that Decimal has not": tagged(4, [2**62, 1]),
    "no decimal": tagged(28_106, "banana"),
    "a fraction of nothing": tagged(30, [1, 0]),
    "a fraction of less": tagged(30, [1, -3]),
    "a short UUID": tagged(37, b"short"),
    "a range that stands": tagged(28_107, [1, 2, 0]),
    "a zone that nobody knows": tagged(28_104, ["2026-01-01T00:00:00", "Mars/Olympus_Mons", False]),
    "a zone that leads away": tagged(28_104, ["2026-01-01T00:00:00", "../../etc/passwd", False]),
    "a zone a day away": tagged(28_105, ["00:00:00", 86_400_000_000, False]),
    "a record that nobody knows": tagged(28_108, ["bank.Money", {}]),
    "a member of nothing": tagged(28_109, ["bank.Color", "RED"]),
}  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_no_value_is_stored_as_is_refused(data):
    with pytest.raises(PersistenceError):
        _decode(data)
