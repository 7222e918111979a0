"""Keys of Map and Set: a hash that is the same in each process, and for all keys that are equal in a dict.

A hash is made of what is stored of a key. Where that is not all, a *mark* says what else it depends on: which
fields of a class are compared, the values of an enum's members, the rules of a time zone. A table keeps the
marks of its hashes. With a mark that it does not have, its hashes are made anew; see ``goblins._table``.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import importlib
import numbers
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from goblins._goblins import Ref, _key_bytes

Marks = set[bytes]

# The keys whose hashes were others while tables had no marks.
SINCE_MARKS = b"since"
_NO_MARKS: frozenset[bytes] = frozenset()
_NUMBERS = frozenset({int, float, bool, complex})
_AS_THEY_ARE = frozenset({type(None), datetime.date, datetime.timedelta, Ref})


def hash_key(key: Any) -> tuple[bytes, set[bytes] | frozenset[bytes]]:
    """A hash of 8 bytes, and its marks.

    Raises:
        TypeError: the key is not hashable, or what it is equal to can't be told from what is stored.
    """
    kind = type(key)
    marks: Any = _NO_MARKS
    if kind is str:
        data = key.encode("utf-8", "surrogatepass")
    elif kind is int:
        # Python's hashes of numbers don't depend on the process, and are the same for equal numbers.
        data = b"%d" % hash(key)
    elif kind is bytes:
        data = key
    else:
        whole = hash(key)
        marks = set()
        plain = _plain(key, marks)
        data = plain if type(plain) is bytes else _key_bytes(plain)
        if data is None:
            # It can't be stored, so no other process will see it.
            data = b"%d" % whole
    return hashlib.blake2b(data, digest_size=8).digest(), marks


def same(held: Any, key: Any) -> bool:
    """Whether two keys are one in a dict."""
    return held is key or (hash(held) == hash(key) and bool(held == key))


def _of_each(make: Callable[[type], Any]) -> Callable[[type], Any]:
    """Makes something of each class once, as long as the class lives."""
    known: WeakKeyDictionary[type, Any] = WeakKeyDictionary()

    def found(kind: type) -> Any:
        one = known.get(kind)
        if one is None:
            one = known[kind] = make(kind)
        return one

    return found


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def _plain(key: Any, marks: Marks) -> Any:
    """One of the keys that are equal to this one, the same for all of them."""
    kind = type(key)
    if kind is str:
        return key.encode("utf-8", "surrogatepass")
    if kind in _NUMBERS:
        return _number(key)
    if kind is tuple or kind is list:
        return tuple([_plain(item, marks) for item in key])
    if kind in _AS_THEY_ARE:
        return key
    if kind is datetime.datetime:
        return _moment(key, marks)
    if isinstance(key, enum.Enum):
        return _member(key, marks)
    if isinstance(key, tuple) and hasattr(key, "_fields"):
        marks.add(_mark_of_tuple(kind))
    elif dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__"):
        names, mark = _compared(kind)
        marks.add(mark)
        return (b"fields", *[(name.encode(), _plain(getattr(key, name), marks)) for name in names])
    return _standard(key, marks)


def _standard(key: Any, marks: Marks) -> Any:
    """That of a key which is compared as its class of the standard library says."""
    if isinstance(key, numbers.Number):
        return _number(key)
    if isinstance(key, str):
        return str.__str__(key).encode("utf-8", "surrogatepass")
    if isinstance(key, bytes | bytearray):
        return bytes(key)
    if isinstance(key, tuple):
        return tuple([_plain(item, marks) for item in key])
    if isinstance(key, frozenset | set):
        return frozenset([_plain(item, marks) for item in key])
    if isinstance(key, dict):
        return frozenset([(_plain(one, marks), _plain(item, marks)) for one, item in key.items()])
    if isinstance(key, datetime.datetime):
        return _moment(key, marks)
    if isinstance(key, datetime.date):
        return datetime.date(key.year, key.month, key.day)
    if isinstance(key, datetime.time):
        return _time_of_day(key, marks)
    if isinstance(key, datetime.timedelta):
        return datetime.timedelta(key.days, key.seconds, key.microseconds)
    if isinstance(key, range):
        marks.add(SINCE_MARKS)
        return (b"range", key[0], key[-1], key.step if key[0] != key[-1] else 0) if key else (b"range",)
    return key


def _number(key: Any) -> bytes:
    # What is not equal to itself is found by its identity.
    return b"%d" % hash(key) if key == key else b"nan"


def _moment(key: datetime.datetime, marks: Marks) -> Any:
    """A datetime is compared by its distance from UTC, as the first of two times that a clock shows."""
    zone = key.tzinfo
    if type(zone) is datetime.timezone and type(key) is datetime.datetime:
        try:
            moment = key.astimezone(datetime.UTC)
            return moment.replace(fold=0) if moment.fold else moment
        except OverflowError:
            pass  # just before the year 1, or after 9999
    bare = datetime.datetime(key.year, key.month, key.day, key.hour, key.minute, key.second, key.microsecond)
    distance = key.replace(fold=0).utcoffset()
    if type(zone) is not datetime.timezone:
        marks.add(SINCE_MARKS)
    zoneinfo: Any = sys.modules.get("zoneinfo")  # without it there is no such zone
    if zoneinfo is not None and isinstance(zone, zoneinfo.ZoneInfo):
        marks.add(_mark_of_zone(zone))
    if distance is None:
        return bare
    try:
        return (bare - distance).replace(tzinfo=datetime.UTC)
    except OverflowError:
        # Just before the year 1, or after 9999.
        return b"moment", bare - datetime.datetime.min - distance


def _time_of_day(key: datetime.time, marks: Marks) -> Any:
    marks.add(SINCE_MARKS)
    clock = datetime.timedelta(0, key.second, key.microsecond, 0, key.minute, key.hour)
    distance = key.replace(fold=0).utcoffset()
    return b"time", clock - (distance or datetime.timedelta())


def _member(key: enum.Enum, marks: Marks) -> Any:
    """Members of enums are stored by name, and may be equal to something of another class."""
    kind = type(key)
    if kind.__eq__ is object.__eq__ or _is_generated(kind):
        if not isinstance(key, enum.Flag):
            return b"member", key.name.encode()
        marks.add(SINCE_MARKS)
        return (b"flag", *sorted(str(one.name).encode() for one in key))
    base = next((base for base in kind.__mro__ if not issubclass(base, enum.Enum)), object)
    if kind.__eq__ is not base.__eq__ or kind.__hash__ is not base.__hash__:
        raise _own_equality(kind)
    plain = _standard(key, marks)
    if plain is key:
        raise _own_equality(kind)
    marks.add(_mark_of_enum(kind))
    return plain


def _own_equality(kind: type) -> TypeError:
    return TypeError(
        f"{kind.__qualname__} can't be a key of a Map or a member of a Set, since it has its own __eq__: "
        "use a tuple of what it compares"
    )


def _by_identity(kind: type) -> TypeError:
    return TypeError(
        f"{kind.__qualname__} can't be a key of a Map or a member of a Set, since its instances are told "
        "apart by identity, which is not stored: let them be compared by their fields (eq=True), or use a "
        "tuple of what tells them apart"
    )


def _compare_fields(kind: type) -> tuple[tuple[str, ...], bytes]:
    """The fields of a dataclass, or of a class of attrs, that its equality depends on, and their mark."""
    owner: Any = _owner(kind)
    hashes: Any = kind.__hash__
    if owner is object or hashes is object.__hash__:
        raise _by_identity(kind)
    if not _is_generated(kind):
        raise _own_equality(kind)
    if "__attrs_attrs__" in vars(owner):
        compared = [one for one in owner.__attrs_attrs__ if one.eq]
        for one in compared:
            if one.eq_key is not None:
                raise TypeError(
                    f"{kind.__qualname__} can't be a key of a Map or a member of a Set, since code compares "
                    f"its field {one.name}: use a tuple of what is compared"
                )
        names = tuple(one.name for one in compared)
    else:
        names = tuple(one.name for one in dataclasses.fields(owner) if one.compare)
    return names, _mark(kind, names)


def _owner(kind: type) -> type:
    """The class that the equality of a class comes from."""
    return next(parent for parent in kind.__mro__ if "__eq__" in vars(parent))


@_of_each
def _is_generated(kind: type) -> bool:
    """Whether the equality of a class was made by dataclasses or attrs."""
    owner: Any = _owner(kind)
    code = getattr(vars(owner)["__eq__"], "__code__", None)
    if code is None:
        return False
    if "__attrs_attrs__" in vars(owner):
        return bool(code.co_filename.startswith("<attrs generated"))
    if "__dataclass_fields__" not in vars(owner):
        return False
    # One that does the same in another file is as good.
    names = [one.name for one in dataclasses.fields(owner) if one.compare]
    made: Any = dataclasses.make_dataclass("_", names).__eq__
    return bool((code.co_code, code.co_names) == (made.__code__.co_code, made.__code__.co_names))


def _mark(kind: type, parts: Iterable[str]) -> bytes:
    return _digest("\0".join((kind.__module__, kind.__qualname__, *parts)).encode("utf-8", "surrogatepass"))


_compared = _of_each(_compare_fields)


@_of_each
def _mark_of_tuple(kind: Any) -> bytes:
    if kind.__eq__ is not tuple.__eq__ or kind.__hash__ is not tuple.__hash__:
        raise _own_equality(kind)
    return _mark(kind, kind._fields)


@_of_each
def _mark_of_enum(kind: Any) -> bytes:
    members = [(name, _key_bytes(_standard(one, set()))) for name, one in kind.__members__.items()]
    return _mark(kind, [f"{name}={value.hex() if value else ''}" for name, value in members])


_zones: dict[str, bytes] = {}


def _mark_of_zone(zone: Any) -> bytes:
    """Other rules of a time zone make other times equal."""
    name = str(zone.key)
    mark = _zones.get(name)
    if mark is None:
        mark = _zones[name] = _digest(name.encode() + b"\0" + _rules(name))
    return mark


def _rules(name: str) -> bytes:
    """What the file says that zoneinfo has read."""
    zoneinfo: Any = importlib.import_module("zoneinfo")
    resources: Any = importlib.import_module("importlib.resources")
    for folder in zoneinfo.TZPATH:
        try:
            return Path(folder, name).read_bytes()
        except OSError:
            continue
    package, _, file = name.rpartition("/")
    package = ".".join(["tzdata.zoneinfo", *package.split("/")] if package else ["tzdata.zoneinfo"])
    try:
        rules: bytes = resources.files(package).joinpath(file).read_bytes()
    except (OSError, ModuleNotFoundError, ValueError):
        return b""
    return rules
