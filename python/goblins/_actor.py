"""The decorator ``@actor``: functional constructors."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, NamedTuple, overload

from goblins import _goblins, _texts
from goblins._errors import BehaviorError
from goblins._goblins import Constructor

_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.VAR_POSITIONAL: "rest",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_KEYWORD: "keywords",
}


@overload
def actor(fn: Callable[..., Any], /) -> Constructor: ...
@overload
def actor(
    fn: None = None,
    /,
    *,
    label: str | None = None,
    version: Any = 0,
    upgrade: Any = None,
    portrait: Any = None,
    restore: Any = None,
) -> Callable[[Callable[..., Any]], Constructor]: ...
def actor(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    label: str | None = None,
    version: Any = 0,
    upgrade: Any = None,
    portrait: Any = None,
    restore: Any = None,
) -> Any:
    """Makes a function a constructor of actors that know their own portrait (POR-09).

    The function takes ``bcom`` first, then the actor's state, and returns its behavior: a callable, or
    ``methods(...)``. The portrait of the actor is the state, by parameter name.

    Args:
        label: the stored name, in place of the function's: the environment puts its namespace before it,
            unless there is a dot in it.
        version: the version of the portrait, any plain value.
        upgrade: what makes the fields of an older version those of today, when such an actor is first used:
            ``Migrations``, or a function that gets the stored version and the fields in a dict, and returns
            such a dict (POR-15).
        portrait: gives the portrait in place of the arguments: a function that gets these as keywords, and
            returns fields in a dict, or arguments in a tuple, or ``versioned(...)``. It may call near actors;
            what it changes is not kept (POR-12).
        restore: makes the actor of its portrait in place of a call: a function that gets the version, and the
            fields as keywords, and returns the Ref of an actor that it spawned (POR-14).

    Returns:
        A ``Constructor``, to be given to ``spawn`` and ``PersistenceEnv``, and to be called in ``bcom(...)``.

    Raises:
        BehaviorError: the function has no parameter for ``bcom``.
        ValueError: the label has lone surrogates, which can't be stored.
    """
    for name, value in (("portrait", portrait), ("restore", restore)):
        if value is not None and not callable(value):
            raise BehaviorError(f"@actor({name}=...) is a function, not {value!r}")
    if label is not None:
        _texts.checked("the label of a constructor", label)
    options = _Options(label, version, upgrade, portrait, restore)
    if fn is None:
        return lambda function: _constructor(function, options)
    return _constructor(fn, options)


class _Options(NamedTuple):
    label: str | None
    version: Any
    upgrade: Any
    portrait: Any
    restore: Any


def _constructor(function: Callable[..., Any], options: _Options) -> Constructor:
    if not callable(function):
        raise BehaviorError(f"@actor makes a constructor of a function, not of {function!r}")
    name = getattr(function, "__name__", type(function).__name__)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or _KINDS[parameters[0].kind] != "positional":
        raise BehaviorError(f"the constructor {name} must take bcom as its first argument")
    fields = []
    for parameter in parameters[1:]:
        has_default = parameter.default is not inspect.Parameter.empty
        default = parameter.default if has_default else None
        fields.append((parameter.name, _KINDS[parameter.kind], has_default, default))
    made = _goblins._constructor(
        function, name, parameters=fields, hidden=_hidden_state(function, name), **options._asdict()
    )
    for attribute in ("__module__", "__qualname__", "__doc__"):
        value = getattr(function, attribute, None)
        if value is not None:
            made.__dict__[attribute] = value
    return made


def hand_made(function: Callable[..., Any]) -> Constructor:
    """What an environment knows of a constructor without ``@actor``: the names of its parameters."""
    return _constructor(function, _Options(None, 0, None, None, None))


# What Python makes of comprehensions is part of the function that they stand in.
_COMPREHENSIONS = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})


def _hidden_state(function: Callable[..., Any], name: str) -> tuple[str, str] | None:
    """A function in a constructor that rebinds one of the constructor's variables, and that variable.

    That is state which no portrait shows: see ``nonlocal``. Other objects that a behavior changes in place
    can't be found like this.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    if not isinstance(code, CodeType):
        return None
    return next(_rebound(code, frozenset(code.co_cellvars), name), None)


def _rebound(
    code: CodeType, variables: frozenset[str], path: str, within: bool = False
) -> Iterator[tuple[str, str]]:
    """Each function below this code that rebinds one of these variables; one of the same name hides them.

    ``within``: the code is not the constructor's own, but that of a function in it.
    """
    for inner in code.co_consts:
        if not isinstance(inner, CodeType):
            continue
        visible = variables.intersection(inner.co_freevars)
        is_function = inner.co_name not in _COMPREHENSIONS
        inner_path = f"{path}.{inner.co_name}" if is_function else path
        if within or is_function:
            for step in dis.get_instructions(inner):
                if step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in visible:
                    yield inner_path, step.argval
        yield from _rebound(inner, visible, inner_path, within or is_function)
