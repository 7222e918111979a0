"""Actors as classes: fields are the state, methods are the messages."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import types
from array import array
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence, MutableSet
from dataclasses import InitVar
from typing import Any, ClassVar, cast, dataclass_transform

from goblins import _texts
from goblins._annotations import annotations_of, special_form, telling_annotations
from goblins._errors import BehaviorError
from goblins._goblins import (
    _ActorBase,
    _ClassInfo,
    _Collection,
    _ContainerField,
    _copied,
    _fields_of,
    _guard_dict,
)

field = dataclasses.field

# Values of these types don't change; reads of a field that is said to hold one are as fast as any attribute.
_PLAIN = (int, float, str, bytes, bool, complex, type(None))
_PLAIN_NAMES = frozenset(kind.__name__ for kind in _PLAIN) | {"None"}
# Those that are made by a program are known by what they can do.
_CONTAINERS = (bytearray, deque, array, MutableSequence, MutableMapping, MutableSet)


@dataclass_transform(field_specifiers=(dataclasses.field,))
class Actor(_ActorBase):
    """The parent of actors that are classes.

    A subclass declares its fields as a dataclass does; they are the actor's state and its portrait. Its
    functions are the messages, but for those whose name begins with an underscore. ``spawn(Account, "Ada")``
    makes an actor, and gives its ``Ref``; ``self.ref`` is the same one inside.

    Each message is a turn or a part of one: if it raises, all fields are as they were, also what was changed
    in place in a list, dict, set or bytearray. A container in a field belongs to the actor: what is handed
    out, and what comes in, is copied.

    ``__post_init__`` runs when the actor is spawned, ``restored`` when it was made again from its record.

    Class keywords:
        label: the stored name, in place of the class's: see ``actor``.
        version: the version of the portrait, any plain value.
        upgrade: what makes the fields of an older version those of today: see ``actor``.

    Raises:
        BehaviorError: a field begins with two underscores, or has the name of something that actors have; or
            what all actors of the class would share, such as a list, is said to be neither a field nor a
            ``ClassVar``.
    """

    __goblins__: ClassVar[_ClassInfo]
    # What is written here without an assignment belongs to the turn, too.
    __dict__: ClassVar[Any] = property(_fields_of)  # type: ignore[misc]

    def __init_subclass__(
        cls, *, label: str | None = None, version: Any = 0, upgrade: Any = None, **others: Any
    ) -> None:
        super().__init_subclass__(**others)
        if label is not None:
            _texts.checked("the label of a class", label)
        _refuse_slots(cls)
        _guard_vars(cls)
        _copy_mutable_defaults(cls)
        _forget_guards(cls)
        has_init = "__init__" in vars(cls)
        with telling_annotations(cls):
            dataclasses.dataclass(eq=False)(cls)
        fields = dataclasses.fields(cast(Any, cls))
        for one in fields:
            if hasattr(_ActorBase, one.name):
                raise BehaviorError(f"{cls.__name__}.{one.name} can't be a field: actors have that already")
        _refuse_shared_state(cls, {one.name for one in fields})
        _set_defaults_first(cls, [one for one in fields if has_init or not one.init])
        guarded = {one.name for one in fields if not _is_plain(one.type)}
        for name in guarded:
            setattr(cls, name, _ContainerField(name))
        restored = getattr(cls, "restored", None)
        cls.__goblins__ = _ClassInfo(
            cls.__name__,
            label,
            version,
            [one.name for one in fields],
            _messages(cls),
            functools.partial(_default, {one.name: one for one in fields}),
            restored,
            guarded,
            upgrade,
            [one.name for one in fields if _has_no_default(one)],
            frozenset(_caches(cls)),
        )


def _refuse_slots(cls: type) -> None:
    """A field is in the dict of its instance."""
    slots = vars(cls).get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        if name in annotations_of(cls):
            raise BehaviorError(f"{cls.__name__}.{name} can't be a field and a slot: leave out __slots__")


def _guard_vars(cls: type) -> None:
    """What is read of an instance by ``vars`` is noticed, also if a parent that is no actor comes first."""
    found = (vars(parent)["__dict__"] for parent in cls.__mro__ if "__dict__" in vars(parent))
    if next(found) is not vars(Actor)["__dict__"]:
        _guard_dict(cls, vars(Actor)["__dict__"])


def _copy_mutable_defaults(cls: type) -> None:
    """A default that can be changed in place is copied for each actor."""
    for name, kind in annotations_of(cls).items():
        default = cls.__dict__.get(name)
        is_container = isinstance(default, _CONTAINERS) and not isinstance(default, _Collection)
        special = special_form(cls, kind)
        if special is InitVar and is_container:
            raise BehaviorError(
                f"{cls.__name__}.{name} is an InitVar, and its default would be shared by all actors: make "
                "it None, or a tuple"
            )
        if special is not None:
            continue
        if is_container:
            factory = functools.partial(copy.deepcopy, default)
            setattr(cls, name, dataclasses.field(default_factory=factory))
        elif isinstance(default, dataclasses.Field):
            if _may_hold_more(default.default):
                default.default_factory = _copies_of(default.default)
                default.default = dataclasses.MISSING
        elif _may_hold_more(default):
            setattr(cls, name, dataclasses.field(default_factory=_copies_of(default)))


def _may_hold_more(default: Any) -> bool:
    """Whether a default may be changed in place, though dataclasses take it."""
    if isinstance(default, tuple | frozenset):
        return not all(map(_is_fixed, default))
    is_record = dataclasses.is_dataclass(default) or hasattr(default, "__attrs_attrs__")
    return is_record and not isinstance(default, type | _ActorBase) and not _is_fixed(default)


def _is_fixed(value: Any) -> bool:
    """Whether nothing in a value can be changed in place."""
    if isinstance(value, tuple | frozenset):
        return all(map(_is_fixed, value))
    params = getattr(type(value), "__dataclass_params__", None)
    if params is not None and params.frozen:
        return all(_is_fixed(getattr(value, one.name, None)) for one in dataclasses.fields(value))
    return isinstance(value, _PLAIN)


def _copies_of(default: Any) -> Callable[[], Any]:
    """Makes the defaults of the actors. Which records an environment names is known later only."""
    try:
        copy.deepcopy(default)
    except (TypeError, copy.Error):
        # It holds what can't be copied, a lock for example.
        return functools.partial(_copied, default)
    return functools.partial(copy.deepcopy, default)


def _forget_guards(cls: type) -> None:
    for name, value in list(cls.__dict__.items()):
        if isinstance(value, _ContainerField):
            delattr(cls, name)


def _is_plain(kind: Any) -> bool:
    if isinstance(kind, str):
        return all(part.strip() in _PLAIN_NAMES for part in kind.split("|"))
    if isinstance(kind, types.UnionType):
        return all(_is_plain(part) for part in kind.__args__)
    return kind is None or kind in _PLAIN


def _refuse_shared_state(cls: type, fields: set[str]) -> None:
    """What can be changed in place is a field, or is meant to be shared."""
    for parent in cls.__mro__:
        if parent in (object, _ActorBase, Actor) or (parent is not cls and issubclass(parent, Actor)):
            continue
        kinds = annotations_of(parent)
        for name, value in vars(parent).items():
            if name in fields or name.startswith("__") or not _is_state(value):
                continue
            if special_form(parent, kinds.get(name)) is not ClassVar:
                kind = type(value).__name__
                raise BehaviorError(
                    f"{parent.__name__}.{name} would be shared by all actors, and never stored: declare it "
                    f"as a field in a class of actors, as in `{name}: {kind} = ...`, or as shared, as in "
                    f"`{name}: ClassVar[{kind}] = ...`"
                )


def _is_state(value: Any) -> bool:
    if isinstance(value, (*_CONTAINERS, _Collection)):
        return True
    if isinstance(value, tuple | frozenset):
        return any(map(_is_state, value))
    cls = type(value)
    params = getattr(cls, "__dataclass_params__", None)
    return params is not None and not params.frozen and not hasattr(cls, "__get__")


def _set_defaults_first(cls: type, fields: list[dataclasses.Field[Any]]) -> None:
    """An actor has the defaults of these fields before its ``__init__`` runs, which may not set them."""
    defaults = {one.name: one for one in fields if not _has_no_default(one)}
    if not defaults:
        return
    made = cast(Any, cls)
    init = made.__init__

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in defaults:
            if name not in vars(self):
                setattr(self, name, _default(defaults, name))
        init(self, *args, **kwargs)

    made.__init__ = __init__


def _messages(cls: type) -> dict[str, Any]:
    """The functions that others can call: those of the nearest class that has the name."""
    found: dict[str, Any] = {}
    for parent in reversed(cls.__mro__):
        if parent in (object, _ActorBase, Actor):
            continue
        for name, value in vars(parent).items():
            if inspect.isfunction(value) and (not name.startswith("_") or name == "__call__"):
                found[name] = value
            else:
                found.pop(name, None)
    found.pop("restored", None)
    return found


def _caches(cls: type) -> Iterator[str]:
    """The attributes that the class computes once and keeps in its instances."""
    for parent in cls.__mro__:
        yield from (
            name for name, held in vars(parent).items() if isinstance(held, functools.cached_property)
        )


def _has_no_default(one: dataclasses.Field[Any]) -> bool:
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING


def _default(fields: dict[str, dataclasses.Field[Any]], name: str) -> Any:
    one = fields[name]
    if one.default is not dataclasses.MISSING:
        return one.default
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    raise LookupError(name)
