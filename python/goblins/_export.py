"""Events as files for other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from goblins._log import Event


def export(events: list[Event], path: str | PathLike[str]) -> None:
    """Writes events in the format that the name of the file asks for: see ``EventLog.export``."""
    path = Path(path)
    writers = {".json": chrome_trace, ".dot": graphviz}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"a log is exported to a file that ends in .json or .dot, not to {str(path)!r}")
    path.write_text(writer(events), encoding="utf-8")


def chrome_trace(events: list[Event]) -> str:
    """Chrome's trace event format: a row per vat, a bar per turn, an arrow for each message between vats."""
    process = os.getpid()
    turns = {(event._log.vat.id, event.turn): event for event in events if event.kind != "send"}
    by_key = {event._key: event for event in events}
    rows: list[dict[str, Any]] = [_named("process_name", process, 0, "goblins")]
    for vat in sorted({event._log.vat.id: event.vat for event in events}.items()):
        rows.append(_named("thread_name", process, _row(vat[0]), f"vat {vat[1]}"))
    for event in events:
        if event.kind == "send":
            continue
        place = {"pid": process, "tid": _row(event._log.vat.id)}
        start, length = _micros(event)
        args: dict[str, Any] = {
            "sequence": event.sequence,
            "time": event.time,
            "turn": event.turn,
            "churn": event.churn,
            "outcome": event._how,
        }
        bar = {"name": event._what, "cat": event.kind, "ph": "X", "ts": start, "dur": length, "args": args}
        if event.outcome == "undone":
            bar["cname"] = "terrible"
        rows.append(bar | place)
        cause = event.cause
        if cause is None or cause.vat == event._log.vat.id:
            continue
        sender = by_key.get(cause)
        if sender is not None:
            sender = turns.get((cause.vat, sender.turn))
        if sender is None:
            continue
        flow = {"name": "message", "cat": "message", "id": len(rows)}
        sent, took = _micros(sender)
        there = {"pid": process, "tid": _row(cause.vat)}
        rows.append(flow | there | {"ph": "s", "ts": sent + took * 0.999})
        rows.append(flow | place | {"ph": "f", "bp": "e", "ts": start})
    return json.dumps({"traceEvents": rows, "displayTimeUnit": "ns"}, indent=0)


def _row(vat: int) -> int:
    # Viewers take thread 0 for the idle processor.
    return vat + 1


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _micros(event: Event) -> tuple[float, float]:
    return event._raw.began / 1000, (event._raw.duration or 1) / 1000


def graphviz(events: list[Event]) -> str:
    """Graphviz's language: a box per vat, an arrow from each cause to its effects."""
    lines = ["digraph events {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
    by_vat: dict[int, list[Event]] = {}
    for event in events:
        by_vat.setdefault(event._log.vat.id, []).append(event)
    for vat, those in sorted(by_vat.items()):
        lines += [f"  subgraph cluster_{vat} {{", f"    label={_quoted('vat ' + those[0].vat)};"]
        for event in those:
            text = f"{event.time}: {event.kind} {event._what}"
            style = ""
            if event.outcome == "undone":
                text += "\n" + event._how
                style = ", color=red"
            lines.append(f"    {_node(event._key)} [label={_quoted(text)}{style}];")
        lines.append("  }")
    lines += _arrows(events)
    lines.append("}")
    return "\n".join(lines) + "\n"


def _arrows(events: Iterable[Event]) -> list[str]:
    known = {event._key for event in events}
    caused = [(event.cause, event._key) for event in events]
    return [f"  {_node(cause)} -> {_node(key)};" for cause, key in caused if cause in known and cause]


def _node(key: tuple[int, int]) -> str:
    return f"e{key[0]}_{key[1]}"


def _quoted(text: str) -> str:
    text = "".join(character for character in text if character.isprintable() or character == "\n")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
