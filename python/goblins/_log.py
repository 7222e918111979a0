"""The event log: what a vat did, why, how it ended, and what its actors were at that time."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import islice
from os import PathLike
from typing import Any, NamedTuple, overload

from goblins import _goblins
from goblins._goblins import Ref, Vat

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 256
# How many rows a notebook shows.
_ROWS = 50
# How many events of a tree are shown where nobody asked for all, and how far the last of them is moved in.
_BRANCHES = 1_000
_DEPTH = 40


class Cause(NamedTuple):
    """What an event was caused by: an event of a vat, found by its logical time (LOG-02)."""

    vat: int
    """The vat's number: see ``Vat.id``."""
    time: int
    """The logical time of the event in that vat."""


class Event:
    """One thing that a vat did. Two are equal if they are the same event of the same vat (LOG-01, LOG-02)."""

    __slots__ = ("_log", "_raw")

    def __init__(self, log: EventLog, raw: _goblins._Event) -> None:
        self._log = log
        self._raw = raw

    @property
    def sequence(self) -> int:
        """Its number among all events that the log ever had, from 0."""
        return self._raw.sequence

    @property
    def kind(self) -> str:
        """``"deliver"``: a message was handled. ``"react"``: a promise had settled. ``"run"``: a call, or a
        block of calls, from outside. ``"send"``: a message was handed to another vat."""
        return self._raw.kind

    @property
    def vat(self) -> str:
        """The name of the vat."""
        return self._log.vat.name

    @property
    def churn(self) -> int:
        """The number of the churn, from 1 (LOG-04)."""
        return self._raw.churn

    @property
    def turn(self) -> int:
        """The number of the turn, from 1; of a ``"send"``, that of the turn that sent."""
        return self._raw.turn

    @property
    def time(self) -> int:
        """The vat's logical time: no two events of a vat have the same, and an effect has a later one than
        its cause, in whichever vat that was (VAT-20)."""
        return self._raw.time

    @property
    def cause(self) -> Cause | None:
        """Where the cause is found; None for what came from outside all vats (LOG-06)."""
        cause = self._raw.cause
        return None if cause is None else Cause(*cause)

    @property
    def target(self) -> str | None:
        """The actor that got the message: its name and number, and its vat if that is another one."""
        title = self._raw.title
        if title is not None and self.kind == "send":
            title += f" of vat {self._raw.actor_vat}"
        return title

    @property
    def ref(self) -> Ref | None:
        """The actor that got the message. The log keeps it alive, as long as it has the event."""
        return self._raw.actor

    @property
    def method(self) -> str | None:
        """The method it was asked for; None for an actor that was called itself."""
        return self._raw.method

    @property
    def outcome(self) -> str:
        """``"kept"``, or ``"undone"`` for a turn that failed."""
        return self._raw.outcome

    @property
    def error(self) -> BaseException | None:
        """The error that left the turn (LOG-08)."""
        return self._raw.error

    @property
    def wall_time(self) -> datetime:
        """When it began, in UTC."""
        return _EPOCH + timedelta(microseconds=self._raw.wall // 1000)

    @property
    def duration(self) -> float | None:
        """How many seconds it took. None for a ``"send"``, and for a turn of which that is not known yet.

        In a long churn the clock is not read for each turn: up to 16 short ones have equal parts of the time
        that they took together.
        """
        duration = self._raw.duration
        return None if duration is None else duration / 1e9

    @property
    def previous(self) -> Event | None:
        """The event that caused this one, in whichever vat (LOG-06). None if it came from outside, or if the
        event is not known any more (LOG-16)."""
        cause = self.cause
        log = None if cause is None else self._log._of(cause.vat)
        return None if cause is None or log is None else log._find(cause.time)

    @property
    def next(self) -> list[Event]:
        """The events that this one caused, in all vats, in order (LOG-12)."""
        found = [event for log in _logs(self._log) for event in log._effects(*self._key)]
        return sorted(found, key=_order)

    def trace(self) -> list[Event]:
        """This event, the one that caused it, and so on back to the root, across vats (LOG-15)."""
        events: list[Event] = []
        event: Event | None = self
        while event is not None:
            events.append(event)
            event = event.previous
        return events

    def tree(self) -> EventTree:
        """All that came of the root of this event, across vats (LOG-16)."""
        return _grow(self.trace()[-1], _effects(_logs(self._log)))

    def peek(self, target: Any, /, *args: Any, before: bool = False, **kwargs: Any) -> Any:
        """Calls an actor as it was right after this event, and undoes all that this does (LOG-05, LOG-22).

        Nothing changes, nothing is sent, settled or stored. For a ``"send"``, actors are as they were at the
        end of the turn that sent.

        Args:
            target: a Ref of this vat, or ``ref.method``.
            before: look at the moment just before the event.

        Returns:
            What the actor answers.

        Raises:
            BaseException: what the actor raises.
            EventLogError: later events have been dropped, or the log was switched off since.
            NoSuchActorError: the actor was spawned later.
            FarCallError: the actor lives in another vat.
            NoTurnError: the actor answers with a promise of what it would send now.
            DeadlockError: this is a turn.
        """
        return self._log._raw.peek(self.sequence, before, target, args, kwargs)

    @property
    def _key(self) -> tuple[int, int]:
        return (self._log.vat.id, self.time)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Event) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _what(self) -> str:
        target = self.target
        if target is None:
            return {"run": "a call from outside", "react": "a handler"}.get(self.kind, self.kind)
        if self.method is None:
            return target
        title, of, vat = target.partition(" of vat ")
        return f"{title}.{self.method}{of}{vat}"

    @property
    def _how(self) -> str:
        return f"undone: {_brief(self.error)}" if self.outcome == "undone" else "kept"

    def __str__(self) -> str:
        how = "" if self.outcome == "kept" else f" ({self._how})"
        return f"{self.vat} {self.time}: {self.kind} {self._what}{how}"

    def __repr__(self) -> str:
        return (
            f"<Event {self.sequence} of vat {self.vat}: {self.kind} {self._what}, {self._how}, "
            f"turn {self.turn}, time {self.time}>"
        )


class EventLog(Sequence[Event]):
    """The last events of a vat, the newest last: ``vat.log`` (LOG-09, LOG-12).

    It can be looked at from any thread, also while the vat is busy. What the events tell of (actors, errors,
    and what the actors were before) lives as long as the log has them.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: _goblins._Log) -> None:
        self._raw = raw

    @property
    def vat(self) -> Vat:
        """The vat."""
        return self._raw.vat

    @property
    def capacity(self) -> int:
        """How many events it can hold, at least 1. Can be set: shrinking drops the oldest (LOG-10)."""
        return self._raw.capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        if not isinstance(capacity, int):
            raise TypeError(f"the capacity of a log is a number of events, not {capacity!r}")
        if not 1 <= capacity <= sys.maxsize:
            raise ValueError(f"the capacity of a log is a number of events, at least 1, not {capacity}")
        self._raw.capacity = capacity

    @property
    def enabled(self) -> bool:
        """Whether events are recorded. Can be set at any time; the events so far stay (LOG-11)."""
        return self._raw.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._raw.enabled = bool(enabled)

    def clear(self) -> None:
        """Forgets all events (LOG-10)."""
        self._raw.clear()

    def tail(self, n: int = 10) -> list[Event]:
        """The last ``n`` events."""
        if n < 0:
            raise ValueError(f"tail takes a number of events, not {n}")
        start, stop = self._raw.span()
        return self._events(max(start, stop - n), stop)

    def errors(self) -> list[tuple[Event, BaseException]]:
        """The turns that failed, each with its error (LOG-08)."""
        return [(event, event.error) for event in self if event.error is not None]

    def export(self, path: str | PathLike[str]) -> None:
        """Writes the events to a file, with those of other vats that they caused or that caused them.

        Args:
            path: ``.json`` is for Perfetto or chrome://tracing, ``.dot`` for Graphviz.

        Raises:
            ValueError: the name ends in something else.
        """
        from goblins._export import export

        export(self._with_relatives(), path)

    def __len__(self) -> int:
        start, stop = self._raw.span()
        return stop - start

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        """One event, counted from the oldest, or from the newest if negative; or a list of several."""
        start, stop = self._raw.span()
        numbers = range(start, stop)
        if isinstance(index, slice):
            wanted = numbers[index]
            if not wanted:
                return []
            found = {event.sequence: event for event in self._events(min(wanted), max(wanted) + 1)}
            return [found[number] for number in wanted if number in found]
        try:
            number = numbers[index]
        except IndexError:
            raise IndexError(f"the log has {len(numbers)} events, and none with index {index}") from None
        found_one = self._events(number, number + 1)
        # Pushed out in this very moment: what has the index now is another one.
        return found_one[0] if found_one else self[index]

    def __iter__(self) -> Iterator[Event]:
        start, stop = self._raw.span()
        for number in range(start, stop, _AT_ONCE):
            yield from self._events(number, min(stop, number + _AT_ONCE))

    def __eq__(self, other: object) -> bool:
        return self.vat is other.vat if isinstance(other, EventLog) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.vat)

    def __repr__(self) -> str:
        off = "" if self.enabled else ", switched off"
        return f"<EventLog of vat {self.vat.name}: {len(self)} events, room for {self.capacity}{off}>"

    def _repr_html_(self) -> str:
        events = self.tail(_ROWS)
        head = f"{escape(repr(self))}" + (f", the last {len(events)}" if len(events) < len(self) else "")
        return f"<p>{head}</p>{_table((event, 0) for event in events)}"

    def _events(self, start: int, stop: int) -> list[Event]:
        return [Event(self, raw) for raw in self._raw.events(start, stop)]

    def _find(self, time: int) -> Event | None:
        raw = self._raw.find(time)
        return None if raw is None else Event(self, raw)

    def _effects(self, vat: int, time: int) -> list[Event]:
        return [Event(self, raw) for raw in self._raw.effects(vat, time)]

    def _of(self, vat: int) -> EventLog | None:
        """The log of another vat, or this one."""
        if vat == self.vat.id:
            return self
        found = _goblins._vat(vat)
        return None if found is None else found.log

    def _with_relatives(self) -> list[Event]:
        """The events, with what caused them and what came of them in other vats, causes first."""
        logs = _logs(self)
        known = {event._key: event for log in logs for event in log}
        effects = _effects(logs, known.values())
        wanted: dict[tuple[int, int], Event] = {}
        todo = list(self)
        while todo:
            event = todo.pop()
            if event._key in wanted:
                continue
            wanted[event._key] = event
            todo += effects.get(event._key, ())
            cause = event.cause
            if cause in known:
                todo.append(known[cause])
        return sorted(wanted.values(), key=lambda event: (event.time, event._log.vat.id))


class EventTree:
    """An event, and what came of it (LOG-16): prints as a tree, and iterates over its events."""

    __slots__ = ("branches", "event")

    def __init__(self, event: Event, branches: list[EventTree]) -> None:
        self.event = event
        self.branches = branches

    def walk(self) -> Iterator[tuple[Event, int]]:
        """Each event with its depth, a cause before its effects."""
        todo = [(self, 0)]
        while todo:
            tree, depth = todo.pop()
            yield tree.event, depth
            todo += [(branch, depth + 1) for branch in reversed(tree.branches)]

    def __iter__(self) -> Iterator[Event]:
        return (event for event, _ in self.walk())

    def __len__(self) -> int:
        return sum(1 for _ in self.walk())

    def __str__(self) -> str:
        return "\n".join(f"{_indent('  ', depth)}{event}" for event, depth in self.walk())

    def __repr__(self) -> str:
        lines = [f"{_indent('  ', depth)}{event}" for event, depth in islice(self.walk(), _BRANCHES)]
        return "\n".join([*lines, *self._left()])

    def _repr_html_(self) -> str:
        left = "".join(f"<p>{escape(line)}</p>" for line in self._left())
        return _table(islice(self.walk(), _BRANCHES)) + left

    def _left(self) -> list[str]:
        left = sum(1 for _ in islice(self.walk(), _BRANCHES, None))
        return [f"... and {left:,} more events: print(tree) shows all"] if left else []


def _indent(step: str, depth: int) -> str:
    """The space before an event. What is deeper down than a line is wide is numbered."""
    return step * depth if depth <= _DEPTH else f"{step * _DEPTH}[{depth}] "


_Effects = dict[tuple[int, int], list[Event]]


def _logs(mine: EventLog) -> list[EventLog]:
    logs = [vat.log for vat in _goblins.vats()]
    return logs if mine in logs else [*logs, mine]


def _order(event: Event) -> tuple[int, int, int]:
    return (event._raw.began, event._log.vat.id, event.sequence)


def _effects(logs: Iterable[EventLog], events: Iterable[Event] | None = None) -> _Effects:
    effects: _Effects = {}
    if events is None:
        events = (event for log in logs for event in log)
    for event in sorted(events, key=_order):
        cause = event._raw.cause
        if cause is not None:
            effects.setdefault(cause, []).append(event)
    return effects


def _grow(root: Event, effects: _Effects) -> EventTree:
    tree = EventTree(root, [])
    todo = [tree]
    while todo:
        above = todo.pop()
        above.branches += [EventTree(event, []) for event in effects.get(above.event._key, ())]
        todo += above.branches
    return tree


def _brief(error: BaseException | None) -> str:
    try:
        text = str(error)
    except Exception:
        text = "(its text can't be had)"
    text = text.splitlines()[0][:120] if text else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _table(rows: Iterable[tuple[Event, int]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in ("vat", "time", "turn", "event", "outcome", "ms"))
    body = ""
    for event, depth in rows:
        duration = event.duration
        cells = (
            escape(event.vat),
            event.time,
            event.turn,
            _indent("&nbsp;" * 4, depth) + escape(f"{event.kind} {event._what}"),
            escape(event._how),
            "" if duration is None else f"{duration * 1000:.3f}",
        )
        body += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
