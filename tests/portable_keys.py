"""Keys of all kinds that can be stored, many of them equal to others."""

import dataclasses
import datetime
import decimal
import enum
import fractions
import uuid
from typing import NamedTuple
from zoneinfo import ZoneInfo

BERLIN, VIENNA = ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Vienna")
UTC = datetime.UTC


def zone(hours):
    return datetime.timezone(datetime.timedelta(hours=hours))


class Plain(enum.Enum):
    A = 1
    B = 2


class Small(enum.IntEnum):
    ONE = 1
    TWO = 2


class Text(enum.StrEnum):
    A = "a"


class Old(str, enum.Enum):  # noqa: UP042 - it has another str()
    A = "a"


class Day(datetime.date, enum.Enum):
    FIRST = 2024, 1, 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    LOW = 1
    HIGH = 2


class Pair(NamedTuple):
    left: object
    right: object = 2


@dataclasses.dataclass(frozen=True)
class Place:
    street: object
    number: int = 1
    seen: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True)
class House(Place):
    pass


class Shed(Place):
    pass


RECORDS = [Plain, Small, Text, Old, Day, Rights, Bits, Pair, Place, House, Shed]
MOMENT = datetime.datetime(2024, 7, 1, 12, 30)
TWICE = datetime.datetime(2024, 10, 27, 2, 30)
SKIPPED = datetime.datetime(2024, 3, 31, 2, 30)
NOON = datetime.time(12)
KEYS = [
    *(0, -0.0, False, 0j, decimal.Decimal("-0.00"), fractions.Fraction(0)),
    *(1, True, 1.0, 1 + 0j, decimal.Decimal("1.0"), fractions.Fraction(1), Small.ONE, Bits.LOW),
    *(2, Small.TWO, Bits.HIGH, Bits.LOW | Bits.HIGH, 3, -1, -2, 2.5, decimal.Decimal("2.5")),
    *(2**61 - 1, 2**61, 2**70, 2.0**70, float("inf"), decimal.Decimal("Infinity"), 1e300, 2 + 1j),
    *(0.1, decimal.Decimal("0.1"), fractions.Fraction(1, 10), fractions.Fraction(1, 3), 1 / 3),
    *("a", Text.A, Old.A, b"a", "", b"", "größe", None, Plain.A, Plain.B, Rights.READ, Rights(0)),
    *(Rights.READ | Rights.WRITE, Rights.WRITE, Day.FIRST, datetime.date(2024, 1, 1)),
    *((), (1, 2), (1.0, 2), Pair(1), Pair(True, 2.0), ((1,), "a"), ((1.0,), Text.A), (None,), (0,)),
    *(frozenset(), frozenset({1, 2}), frozenset({1.0, 2}), frozenset({(1,)}), frozenset({(1.0,)})),
    *(frozenset({"a"}), frozenset({-1}), frozenset({-2})),
    *(range(0), range(5, 2), range(3), range(0, 3, 1), range(0, 4, 2), range(0, 3, 2), range(7, 8)),
    range(7, 9, 5),
    *(Place("a"), Place("a", 1), Place("a", True, 7), Place("a", 2), House("a"), Shed("a")),
    *(Place(Text.A), Place(1.0)),
    *((Place(1), Plain.A), (Place(True), Plain.A), Place(Place("a")), uuid.UUID(int=1), uuid.UUID(int=2)),
    *(datetime.timedelta(1), datetime.timedelta(0, 86_400), datetime.timedelta(-1), datetime.timedelta(0)),
    *(MOMENT, MOMENT.replace(fold=1), MOMENT.replace(tzinfo=UTC), MOMENT.replace(tzinfo=zone(0), fold=1)),
    *(MOMENT.replace(tzinfo=BERLIN), MOMENT.replace(tzinfo=BERLIN, fold=1), MOMENT.replace(tzinfo=VIENNA)),
    *(MOMENT.replace(hour=10, tzinfo=UTC), MOMENT.replace(hour=14, tzinfo=zone(4))),
    datetime.date(2024, 7, 1),
    *(
        when.replace(tzinfo=where, fold=fold)
        for when in (TWICE, SKIPPED)
        for where in (BERLIN, VIENNA, None)
        for fold in (0, 1)
    ),
    *(TWICE.replace(hour=hour, tzinfo=UTC) for hour in (0, 1)),
    *(NOON, NOON.replace(fold=1), NOON.replace(tzinfo=UTC), NOON.replace(hour=14, tzinfo=zone(2))),
    *(NOON.replace(tzinfo=BERLIN), NOON.replace(hour=2, tzinfo=zone(14)), datetime.time(0, tzinfo=zone(2))),
    *(datetime.datetime.max.replace(tzinfo=zone(-14)), datetime.datetime.min.replace(tzinfo=zone(14))),
    *(datetime.datetime.max.replace(tzinfo=UTC), datetime.datetime.min.replace(tzinfo=BERLIN)),
    datetime.datetime.max,
]  # fmt: skip
