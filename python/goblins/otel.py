"""Events of a log as OpenTelemetry spans, made after the fact. Needs the extra ``otel``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goblins._log import Event, EventLog

try:
    from opentelemetry import trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as error:
    raise ImportError(
        "goblins.otel needs OpenTelemetry: install it with: pip install 'goblins[otel]'"
    ) from error

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["export"]


def export(log: EventLog, tracer_provider: TracerProvider | None = None) -> int:
    """Makes a span of each event, with those of other vats that it caused or that caused it.

    The parent of a span is that of the cause; the span of a turn that failed has the status ERROR, and its
    exception. Events exported twice become two spans.

    Args:
        log: ``vat.log``.
        tracer_provider: where the spans go; without it the global one.

    Returns:
        How many spans were made.
    """
    tracer = trace.get_tracer("goblins", tracer_provider=tracer_provider)
    spans: dict[tuple[int, int], Span] = {}
    for event in log._with_relatives():
        parent = spans.get(event.cause) if event.cause is not None else None
        # An empty context for a root: what this thread happens to be in is no cause.
        context = trace.set_span_in_context(parent or trace.INVALID_SPAN)
        start, stop = event._raw.wall, event._raw.wall + (event._raw.duration or 0)
        span = tracer.start_span(
            event._what, context, kind=_kind(event), attributes=_attributes(event), start_time=start
        )
        if event.error is not None:
            span.record_exception(event.error, timestamp=stop)
            span.set_status(Status(StatusCode.ERROR, event._how))
        span.end(end_time=stop)
        spans[event._key] = span
    return len(spans)


def _kind(event: Event) -> SpanKind:
    if event.kind == "send":
        return SpanKind.PRODUCER
    far = event.cause is not None and event.cause.vat != event._log.vat.id
    return SpanKind.CONSUMER if far else SpanKind.INTERNAL


def _attributes(event: Event) -> dict[str, str | int]:
    facts: dict[str, str | int | None] = {
        "goblins.vat": event.vat,
        "goblins.kind": event.kind,
        "goblins.churn": event.churn,
        "goblins.turn": event.turn,
        "goblins.time": event.time,
        "goblins.actor": event.target,
        "goblins.method": event.method,
        "goblins.outcome": event.outcome,
    }
    return {name: value for name, value in facts.items() if value is not None}
