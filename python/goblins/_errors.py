"""The errors of goblins: one tree, each also a fitting builtin."""

from __future__ import annotations

import errno
import logging
import re
import sys
import traceback
from typing import Any

logger = logging.getLogger("goblins")


class GoblinsError(Exception):
    """Parent of all errors that goblins raises itself."""


class BehaviorError(GoblinsError, TypeError):
    """A constructor gave no behavior, or a ``bcom`` was used wrongly (ACT-05, ACT-09, ACT-10, ACT-21)."""


class NotPortableError(GoblinsError, TypeError):
    """A value can't be stored. ``path`` leads to it; ``label``, ``slot`` and ``vat`` name the actor.

    ``trail`` is the whole way to it, as ``root 0 -> bank.Account#7.history[0] -> function (<lambda>)``. If a
    root is too far away, it does not begin there.
    """

    label: str = ""
    slot: int = -1
    vat: str = ""
    path: str = ""
    what: str = ""
    trail: str = ""


class FarCallError(GoblinsError, RuntimeError):
    """A synchronous call to an actor of another vat, from inside a turn: use ``send``."""


class NoTurnError(GoblinsError, RuntimeError):
    """Something that works only inside a turn was used outside (ACT-19)."""


class NoLoopError(GoblinsError, RuntimeError):
    """Something that asyncio runs was started where no event loop runs."""


class NoSuchActorError(GoblinsError, LookupError):
    """The actor's spawn was undone with its turn (SYN-03), or it is not in the store of its vat (REG-09)."""


class NoSuchMethodError(GoblinsError, AttributeError):
    """An actor has no method of that name; the message lists those that it has (LIB-05)."""


class BrokenPromiseError(GoblinsError, RuntimeError):
    """A promise was broken. ``problem`` is the value it was broken with, where that was no exception.

    It also stands for an error that was stored with its promise and can't be made again: ``kind`` is the name
    of that one's class, and ``text`` what it said.
    """

    problem: Any = None
    kind: str = ""
    text: str = ""


class AccessDeniedError(GoblinsError, PermissionError):
    """A reference does not allow what was asked of it (LIB-01)."""


class DeadlockError(GoblinsError, RuntimeError):
    """A wait that could never end, or a call to an actor that must come back before that actor is there."""


class VatClosedError(GoblinsError, RuntimeError):
    """The vat is closed, or was closed before a message was handled."""


class InboxFullError(GoblinsError, RuntimeError):
    """As many messages wait in a vat as its ``inbox_limit`` allows, and the sender can't wait."""


class VatTimeoutError(GoblinsError, TimeoutError):
    """A vat did not come to rest in time."""


class EventLogError(GoblinsError, LookupError):
    """An event log does not reach back to an event without a gap (LOG-22)."""


class PersistenceError(GoblinsError, RuntimeError):
    """A vat can't go on from its store as it is."""


class UnknownLabelError(PersistenceError, LookupError):
    """A stored label is not in the environment: ``count`` actors have ``label``, ``slot`` is one of them.

    If it is the name of a record, ``path`` leads to that in the actor.
    """

    label: str = ""
    count: int = 0
    slot: int = -1
    path: str = ""


class DuplicateLabelError(PersistenceError, ValueError):
    """A label or a constructor was given twice (ENV-05, ENV-11)."""


class MigrationError(PersistenceError):
    """What is stored has another version than the program, and no upgrade leads there.

    If a record is what does not fit its class any more, ``path`` leads to it in the actor.
    """

    path: str = ""


class StoreError(PersistenceError, OSError):
    """A store failed."""


class StoreLockedError(StoreError):
    """The store has an owner already: process ``pid`` on ``host``, running ``command``."""

    path: str = ""
    pid: int = 0
    host: str = ""
    command: str = ""


class StoreCorruptError(StoreError):
    """What stands in a store is damaged."""


class StoreFullError(StoreError):
    """No room is left for a store. ``errno`` is ``ENOSPC``, or ``EDQUOT`` where a quota is used up."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if self.errno is None:
            self.errno = errno.EDQUOT if "quota exceeded" in str(self).lower() else errno.ENOSPC


def note_closing(error: BaseException, closing: BaseException) -> None:
    """Notes in an error of a block that what was closed at its end could not be closed well."""
    error.add_note(f"and then closing failed: {type(closing).__name__}: {closing}")


_PLACE = re.compile(r"in (?:\S.*, )?turn \d+ of vat ")


def add_place(error: BaseException, text: str) -> None:
    """Notes in an error where it left a turn, unless it has left another one before."""
    # No generator: the error may be that no memory is left, and whenever CPython 3.12 or 3.13 then fails to
    # make one, it loses a reference to its code.
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, str) and _PLACE.match(note):
            return
    error.add_note(text)
    # What asyncio says of itself. It does not know of vats.
    if type(error) is RuntimeError and error.args == ("no running event loop",):
        error.add_note(
            "asyncio runs on the thread of its loop only, and the turns of a Vat run on any thread: give "
            "what is to be awaited to from_awaitable(..., loop), or use an AsyncioVat and from_awaitable(...)"
        )


def add_trail(error: BaseException, way: str, actor: str) -> None:
    """Says in the error of a portrait how its actor is reached (G8)."""
    if not isinstance(error, NotPortableError):
        note = f"while the portrait of {actor} was taken, which is reached by {way or 'nothing'}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        return
    parts = [way] if way else []
    path = error.path.removeprefix("args.")
    if error.label and path:
        parts += [f"{error.label}#{error.slot}.{path}", error.what]
    else:
        parts.append(actor)
    error.trail = " -> ".join(filter(None, parts))
    error.args = (f"{error} ({error.trail})",)


# As many calls of a slow turn are told of, the innermost.
_FRAMES = 50


def log_slow_turn(vat: str, thread: int, seconds: float) -> None:
    """Logs that a turn takes long, with the stack of its thread."""
    frame = sys._current_frames().get(thread)
    stack = (
        "".join(traceback.format_stack(frame, limit=_FRAMES)) if frame else "(its thread is not in Python)\n"
    )
    logger.warning(
        "vat %s: a turn takes longer than %.1f s; all other messages of the vat wait for it. It is here:\n%s",
        vat,
        seconds,
        stack.rstrip(),
    )


def log_large_field(kind: str, field: str, entries: int) -> None:
    """Logs that turns copy much to be able to undo changes of a field."""
    logger.warning(
        "the field %s of %s holds %d entries: the first turn that reads it after a change copies them, so as "
        "to undo changes, and each one that changes it writes them all; a Map, List or Set does that with "
        "what is used only",
        field,
        kind,
        entries,
    )


def as_exception(problem: Any) -> BaseException:
    """The exception that stands for the problem of a broken promise (ASY-17).

    The cancellation of a task is told as any other problem: it would cancel whoever awaits the promise.
    """
    if isinstance(problem, type) and issubclass(problem, BaseException):
        problem = problem()
    if not isinstance(problem, BaseException):
        error = BrokenPromiseError(f"the promise was broken with {problem!r}")
        error.problem = problem
        return error
    if _is_cancellation(problem):
        error = BrokenPromiseError("what the promise stood for was cancelled")
        error.__cause__ = problem
        return error
    return problem


def _is_cancellation(error: BaseException) -> bool:
    """Whether an event loop takes an error for the cancellation of a task. No loop is imported for that."""
    if isinstance(error, Exception):
        return False
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    return (asyncio is not None and isinstance(error, asyncio.CancelledError)) or (
        trio is not None and isinstance(error, trio.Cancelled)
    )
