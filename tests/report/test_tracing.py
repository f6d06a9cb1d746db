"""Spans: one a message and one an attempt, in their client's trace, sent to a collector as it takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.report.attempts import ATTEMPT, DELIVERED, MESSAGE, REFUSED, fate
from waypost.mail.attempt import Attempt
from waypost.mail.envelope import Envelope, MessageId, NextHop, Origin, Recipient
from waypost.mail.trace_context import TraceContext, trace_context
from waypost.net.clock import SystemClock
from waypost.net.stream import Endpoint
from waypost.queue.storage import Gone
from waypost.report.tracing import Tracing, exporter
from waypost.smtp.path import parse_mailbox

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CLIENT = Endpoint("192.0.2.7", 4711)


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """A collector's side of OTLP over HTTP, and the spans it was sent."""
    spans: list[Span] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            octets = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip  # noqa: PLC0415 - seldom

                octets = gzip.decompress(octets)
            sent = ExportTraceServiceRequest.FromString(octets)
            scopes = [scope for resource in sent.resource_spans for scope in resource.scope_spans]
            spans.extend(span for scope in scopes for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Taker)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    thread.join()
    server.server_close()


def envelope(traceparent: str) -> Envelope:
    recipient = Recipient(parse_mailbox("b@example.com"), NextHop("smtp://inner"))
    return Envelope(parse_mailbox("a@example.net"), (recipient,), Origin("HTTP"), traceparent=traceparent)


def _attempt(traceparent: str) -> Attempt:
    return replace(ATTEMPT, message=replace(MESSAGE, traceparent=traceparent))


@pytest.mark.parametrize("parent", [PARENT, "", "nonsense"])
async def test_a_message_is_a_span_of_its_clients_trace_and_its_attempts_are_below_it(parent: str) -> None:
    with collector() as (where, spans):
        tracing = Tracing(exporter(where), "mx.example.net", SystemClock())
        own = tracing.begin(parent)
        tracing.received(CLIENT, MessageId("1dvq3kbaxm00g"), envelope(own), 100)
        attempt = _attempt(own)
        tracing.attempted(attempt, [fate(DELIVERED, Gone()), fate(REFUSED, Gone())])
        await tracing.close()
    received, attempted = sorted(spans, key=lambda span: span.name, reverse=True)
    context = trace_context(own)
    assert isinstance(context, TraceContext)
    assert (received.name, received.span_id.hex()) == ("receive", f"{context.span:016x}")
    assert {span.trace_id.hex() for span in spans} == {f"{context.trace:032x}"}
    assert attempted.parent_span_id == received.span_id
    assert attempted.end_time_unix_nano - attempted.start_time_unix_nano == pytest.approx(
        (attempt.ended_at - attempt.started_at) * 1e9, abs=1e3
    )
    assert (attempted.status.code, "550 5.1.1" in attempted.status.message) == (2, True)  # an error: one has refused it
    assert [event.name[:9] for event in attempted.events] == ["delivered", "rejected:"]
    above = trace_context(parent)
    assert received.parent_span_id.hex() == (f"{above.span:016x}" if isinstance(above, TraceContext) else "")
    if isinstance(above, TraceContext):
        assert context.trace == above.trace


async def test_what_its_client_does_not_keep_is_not_kept_here_and_is_carried_all_the_same() -> None:
    with collector() as (where, spans):
        tracing = Tracing(exporter(where), "mx.example.net", SystemClock())
        own = tracing.begin(f"{PARENT[:-2]}00")
        tracing.received(CLIENT, MessageId("1dvq3kbaxm00g"), envelope(own), 100)
        tracing.attempted(_attempt(own), [fate(DELIVERED, Gone())])
        await tracing.close()
    assert spans == []
    assert (own[:35], own[-2:]) == (PARENT[:35], "00")


async def test_a_share_of_none_keeps_no_trace_that_begins_here_and_those_of_others() -> None:
    with collector() as (where, spans):
        tracing = Tracing(exporter(where), "mx.example.net", SystemClock(), share=0.0)
        for parent in ("", PARENT):
            tracing.received(CLIENT, MessageId("1dvq3kbaxm00g"), envelope(tracing.begin(parent)), 100)
        await tracing.close()
    assert [span.trace_id.hex() for span in spans] == [PARENT[3:35]]


async def test_where_nobody_takes_spans_nothing_waits_for_them() -> None:
    tracing = Tracing(exporter("http://127.0.0.1:1"), "mx.example.net", SystemClock())
    tracing.received(CLIENT, MessageId("1dvq3kbaxm00g"), envelope(tracing.begin("")), 100)
    await tracing.close()
