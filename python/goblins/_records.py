"""Records: classes whose instances are values, such as dataclasses and enums."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, Generic

from goblins._errors import BehaviorError
from goblins._goblins import _ActorBase, _RecordClass

_WHAT = "dataclasses, classes of attrs, named tuples and enums"
_HEAP_TYPE = 1 << 9
# An attribute that instances of generic classes get from typing; it says nothing of the value.
_OF_TYPING = "__orig_class__"


def describe(name: str, cls: Any) -> _RecordClass:
    """What has to be known of a class to store its instances, and to make them again.

    Args:
        name: the stored name.
        cls: a dataclass, a class of attrs, a named tuple or an enum.

    Raises:
        BehaviorError: it is none, or its instances would not come back as they were.
    """
    if not isinstance(cls, type) or issubclass(cls, _ActorBase):
        raise BehaviorError(f"records= holds {_WHAT}, not {cls!r}")
    if issubclass(cls, enum.Enum):
        return _of_enum(name, cls)
    made: Any = cls  # what it has of the library that made it is not known to type checkers
    if issubclass(cls, tuple) and hasattr(made, "_fields"):
        return _of_tuple(name, made)
    if dataclasses.is_dataclass(cls):
        fields = dataclasses.fields(cls)
        frozen = made.__dataclass_params__.frozen
        default = functools.partial(_dataclass_default, {one.name: one for one in fields})
        return _of_fields(name, cls, [one.name for one in fields], frozen, default)
    if hasattr(made, "__attrs_attrs__"):
        attributes = {one.name: one for one in made.__attrs_attrs__}
        frozen = getattr(getattr(made, "__attrs_props__", None), "is_frozen", False)
        default = functools.partial(_attrs_default, attributes)
        return _of_fields(name, cls, list(attributes), frozen, default)
    raise BehaviorError(f"records= holds {_WHAT}, and {cls.__qualname__} is none")


def _of_enum(name: str, cls: type[enum.Enum]) -> _RecordClass:
    if not cls.__members__:
        raise BehaviorError(f"{cls.__qualname__} in records= has no members")
    kind = "flag" if issubclass(cls, enum.Flag) else "enum"
    return _RecordClass(name, kind, cls, [], [], [], False, _no_default, dict(cls.__members__))


def _of_tuple(name: str, cls: Any) -> _RecordClass:
    defaults: dict[str, Any] = cls._field_defaults
    default = functools.partial(_tuple_default, defaults)
    return _RecordClass(name, "tuple", cls, list(cls._fields), [], [], False, default, {})


def _of_fields(
    name: str, cls: type, fields: list[str], frozen: bool, default: Callable[[Any, str], Any]
) -> _RecordClass:
    for parent in cls.__mro__:
        if parent not in (object, Generic) and not parent.__flags__ & _HEAP_TYPE:
            raise BehaviorError(
                f"{cls.__qualname__} in records= is a {parent.__qualname__} too: that part would be lost"
            )
    if inspect.isabstract(cls):
        raise BehaviorError(
            f"{cls.__qualname__} in records= is abstract: name the classes that have instances"
        )
    slots = set(_slots(cls))
    if lost := sorted(slots - set(fields)):
        raise BehaviorError(
            f"{cls.__qualname__} in records= has the slot {lost[0]!r}, which is no field: it would be lost"
        )
    for field in fields:
        held = inspect.getattr_static(cls, field, None)
        if field not in slots and (hasattr(type(held), "__set__") or hasattr(type(held), "__delete__")):
            raise BehaviorError(
                f"{cls.__qualname__}.{field} in records= is a {type(held).__name__}: no instance holds it"
            )
    caches = [one for one, held in _attributes(cls) if isinstance(held, functools.cached_property)]
    in_slots = [field for field in fields if field in slots]
    return _RecordClass(name, "fields", cls, fields, in_slots, [*caches, _OF_TYPING], not frozen, default, {})


def _attributes(cls: type) -> Iterator[tuple[str, Any]]:
    for parent in cls.__mro__:
        yield from vars(parent).items()


def _slots(cls: type) -> Iterator[str]:
    return (name for name, held in _attributes(cls) if isinstance(held, types.MemberDescriptorType))


def _no_default(_instance: Any, name: str) -> Any:
    raise LookupError(name)


def _tuple_default(defaults: dict[str, Any], _instance: Any, name: str) -> Any:
    return defaults[name]


def _dataclass_default(fields: dict[str, dataclasses.Field[Any]], _instance: Any, name: str) -> Any:
    one = fields[name]
    if one.default is not dataclasses.MISSING:
        return one.default
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    raise LookupError(name)


def _attrs_default(attributes: dict[str, Any], instance: Any, name: str) -> Any:
    attr: Any = importlib.import_module("attr")  # it is there, since it made the class
    default = attributes[name].default
    if default is attr.NOTHING:
        raise LookupError(name)
    if not isinstance(default, attr.Factory):
        return default
    return default.factory(instance) if default.takes_self else default.factory()
