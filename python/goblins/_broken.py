"""Errors of broken promises, as they are stored and as they come back.

An error is no plain value: its class may be gone, and what it holds can't be stored. What is kept is the name
of its class, its text and its notes. An error that Python itself has, or goblins, is made again, if its
arguments are plain.
"""

from __future__ import annotations

import builtins
from typing import Any, cast

from goblins import _errors
from goblins._errors import BrokenPromiseError, GoblinsError, NotPortableError
from goblins._goblins import _decode, _encode

# The name of the class, its text, its arguments if it is made of them again, its notes, and the problem of a
# BrokenPromiseError.
Kept = tuple[str, str, tuple[Any, ...] | None, tuple[str, ...], Any]


def describe(error: BaseException) -> Kept:
    """What is stored of an error: plain values only."""
    kind = type(error)
    problem = None
    if isinstance(error, BrokenPromiseError):
        if error.kind:
            return (error.kind, error.text, None, _notes(error), None)
        problem = error.problem if _is_plain(error.problem) else None
    args = None
    if _class(_name(kind)) is kind:
        args = _arguments(error)
    return (_name(kind), _text(error), args, _notes(error), problem)


def revive(kept: Kept) -> BaseException:
    """The error that stands for a stored one.

    Raises:
        ValueError: nothing of the kind was ever stored.
    """
    if not _is_kept(kept):
        raise ValueError("the error of a promise is not in its form")
    name, text, args, notes, problem = kept
    error = None
    kind = _class(name)
    if args is not None and kind is not None:
        try:
            error = kind(*args)
        except Exception:
            # The class has changed since: what is left of it is its text.
            error = None
    if error is None:
        error = BrokenPromiseError(f"{name}: {text}" if text else name)
        error.kind, error.text = name, text
    if isinstance(error, BrokenPromiseError):
        error.problem = problem
    for note in notes:
        error.add_note(note)
    return error


def copy_if_it_changes(error: BaseException) -> BaseException | None:
    """Another error that is stored in the same way, if this one has containers in it."""
    _, _, args, _, problem = kept = describe(error)
    if not _may_change((args, problem)):
        return None
    copy = revive(cast("Kept", _decode(_encode(kept))))
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    return copy


def _may_change(value: object) -> bool:
    if isinstance(value, tuple | frozenset):
        return any(map(_may_change, value))
    return isinstance(value, list | dict | set | bytearray)


def _is_kept(kept: object) -> bool:
    match kept:
        case (str(), str(), None | tuple(), tuple() as notes, _):
            return type(kept) is tuple and all(type(note) is str for note in notes)
        case _:
            return False


def _name(kind: type) -> str:
    """The name of a class, as a traceback shows it; the errors of goblins stand under ``goblins``."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    if kind.__module__ == _errors.__name__:
        return f"goblins.{kind.__qualname__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _class(name: str) -> type[BaseException] | None:
    """The class of this name, if it is one that is always there."""
    if name.startswith("goblins."):
        found = getattr(_errors, name.removeprefix("goblins."), None)
        return found if isinstance(found, type) and issubclass(found, GoblinsError) else None
    found = getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _arguments(error: BaseException) -> tuple[Any, ...] | None:
    """The arguments that make the error again, if all are plain values."""
    args: tuple[Any, ...] = error.args
    if isinstance(error, OSError) and type(error).__module__ == "builtins":
        # Its arguments leave out the file's name.
        args = cast("tuple[Any, ...]", error.__reduce__()[1])
    return args if _is_plain(args) else None


def _is_plain(value: Any) -> bool:
    try:
        _encode(value)
    except NotPortableError:
        return False
    return True


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        return "(its text could not be made)"
    return text.encode("utf-8", "replace").decode()


def _notes(error: BaseException) -> tuple[str, ...]:
    notes = getattr(error, "__notes__", ())
    if not isinstance(notes, list):
        return ()
    return tuple(note.encode("utf-8", "replace").decode() for note in notes if isinstance(note, str))
