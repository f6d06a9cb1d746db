"""Spans for OpenTelemetry: one for each message received, one below it for each attempt, sent by OTLP over HTTP.

They are made once a thing has ended, with the times it had, so that nothing on the message's way waits for them; a
thread of the SDK sends them in batches, and loses them where nobody takes them. Imported only where `[tracing]` asks
for it (extra opentelemetry). Not here: how a message carries its trace context (mail/trace_context.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from waypost import __version__
from waypost.mail.attempt import Attempt
from waypost.mail.envelope import Envelope, MessageId
from waypost.mail.explain import as_details
from waypost.mail.outcome import Delivered
from waypost.mail.trace_context import NoContext, TraceContext, trace_context
from waypost.net.clock import Clock, Instant
from waypost.net.stream import Endpoint
from waypost.queue.storage import Settled

#: Messages that have been named and not been taken yet; what is more has been refused meanwhile.
UNDER_WAY: Final = 10_000
#: What spans that wait at the end have to be sent in.
LAST_WORDS: Final = timedelta(seconds=3)
_NANO: Final = 1_000_000_000


class _Chosen(IdGenerator):
    """Ids at random, but for a span whose ids were given out before it was made."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.next_trace = self.next_span = 0

    def generate_trace_id(self) -> int:
        chosen, self.next_trace = self.next_trace, 0
        return chosen or self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        chosen, self.next_span = self.next_span, 0
        return chosen or self._random.generate_span_id()


class Tracing:
    """Makes spans. Methods return at once."""

    is_on: Final = True

    def __init__(self, exporter: SpanExporter, hostname: str, clock: Clock, *, share: float = 1.0) -> None:
        """`share`: of the traces that begin here; a trace that began elsewhere is kept where it was there."""
        self._clock = clock
        self._ids = _Chosen()
        self._root = TraceIdRatioBased(share)
        resource = Resource.create({"service.name": "waypost", "service.version": __version__, "host.name": hostname})
        self._provider = TracerProvider(
            sampler=ParentBased(self._root), resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("waypost", __version__)
        self._under_way: OrderedDict[str, tuple[TraceContext | NoContext, Instant]] = OrderedDict()

    def begin(self, parent: str) -> str:
        """The trace context of a message that is about to be stored: its span below `parent`, or in a trace anew."""
        above = trace_context(parent)
        span = self._ids.generate_span_id()
        if isinstance(above, TraceContext):
            context = TraceContext(above.trace, span, above.is_sampled)
        else:
            number = self._ids.generate_trace_id()
            is_sampled = self._root.should_sample(None, number, "receive").decision is Decision.RECORD_AND_SAMPLE
            context = TraceContext(number, span, is_sampled)
        self._under_way[str(context)] = above, self._clock.now()
        if len(self._under_way) > UNDER_WAY:
            self._under_way.popitem(last=False)
        return str(context)

    def received(self, client: Endpoint, id: MessageId, envelope: Envelope, size: int) -> None:  # noqa: A002 - the field's own name
        """A message is durable."""
        own = trace_context(envelope.traceparent)
        above, began = self._under_way.pop(envelope.traceparent, (NoContext(), self._clock.now()))
        if isinstance(own, NoContext) or not own.is_sampled:
            return
        self._ids.next_span = own.span
        if isinstance(above, NoContext):
            self._ids.next_trace = own.trace
        span = self._tracer.start_span(
            "receive",
            context=_below(above),
            kind=SpanKind.SERVER,
            start_time=_nanoseconds(began),
            attributes={
                "waypost.id": id,
                "waypost.recipients": len(envelope.recipients),
                "waypost.size": size,
                "waypost.protocol": envelope.origin.protocol,
                "client.address": client.host,
            },
        )
        span.end(_nanoseconds(self._clock.now()))

    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None:
        """An attempt has ended. Its span is an error where not all recipients have the message."""
        context = trace_context(attempt.message.traceparent)
        if isinstance(context, NoContext) or not context.is_sampled:
            return
        span = self._tracer.start_span(
            "attempt",
            context=_below(context),
            kind=SpanKind.CLIENT,
            start_time=_nanoseconds(attempt.started_at),
            attributes={"waypost.id": attempt.message.id, "waypost.next_hop": attempt.next_hop},
        )
        missed = ""
        for one in settled:
            told = as_details(one.outcome)
            known = {f"waypost.{key}": str(told[key]) for key in ("outcome", "status", "where", "host") if key in told}
            span.add_event(str(told["text"]), known, _nanoseconds(attempt.ended_at))
            if not isinstance(one.outcome, Delivered):
                missed = missed or str(told["text"])
        span.set_status(Status(StatusCode.ERROR, missed) if missed else Status(StatusCode.OK))
        span.end(_nanoseconds(attempt.ended_at))

    async def close(self) -> None:
        """Send what waits, for a few seconds."""
        await asyncio.to_thread(self._provider.force_flush, int(LAST_WORDS.total_seconds() * 1000))
        await asyncio.to_thread(self._provider.shutdown)


def exporter(endpoint: str) -> SpanExporter:
    """Sends by OTLP over HTTP to a collector at that address; its other settings are OpenTelemetry's own variables."""
    logging.getLogger("opentelemetry").addHandler(logging.StreamHandler())  # what cannot be sent is said, once a minute
    return OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=LAST_WORDS.total_seconds())


def _below(context: TraceContext | NoContext) -> Context:
    if isinstance(context, NoContext):
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if context.is_sampled else TraceFlags.DEFAULT)
    return otel.set_span_in_context(
        NonRecordingSpan(SpanContext(context.trace, context.span, is_remote=True, trace_flags=flags)), Context()
    )


def _nanoseconds(at: Instant) -> int:
    return int(at * _NANO)
