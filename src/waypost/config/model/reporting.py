"""What is told and kept of mail: signatures, reports, notices, the log, spans and history."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, get_args

from pydantic import Field, PlainValidator

from waypost.config.model.values import Count, Duration, Kind, Mailboxes, Section, Words, judged, or_empty
from waypost.route.domain import host_name

_NameOrNothing = Annotated[str, PlainValidator(judged(or_empty(host_name), "name")), Kind("name, may be empty")]


class Dkim(Section):
    """What we write ourselves is signed by DKIM: reports to authors, TLS reports, notices (extra `dkim`).

    What others send through us is not signed: that is for whoever writes it. The public half of the key goes into DNS,
    at SELECTOR._domainkey.DOMAIN: docs/howto/signing.md.
    """

    domain: _NameOrNothing = Field(
        default="",
        description="Who signs: the domain of `hostname` and `postmaster`, for these are who our messages are from.",
        examples=["example.net"],
    )
    selector: _NameOrNothing = Field(
        default="", description="Under which name the public key stands in DNS.", examples=["waypost1"]
    )
    key: Words = Field(
        default="",
        description="File with the private RSA key in PEM, without a passphrase; relative to the configuration file.",
        examples=["/etc/waypost/dkim.pem"],
    )
    tls_report_selector: _NameOrNothing = Field(
        default="",
        description="Where the same key stands with `s=tlsrpt`, for TLS reports: some believe them by no other "
        "(RFC 8460 §3). Empty: `selector`.",
        examples=["tlsrpt1"],
    )


class TlsReporting(Section):
    """Daily reports on TLS to the domains that ask for them (RFC 8460). By mail, they want a signature: `[dkim]`."""

    enabled: bool = Field(default=False, description="Whether reports are made and sent.")
    organization: Words = Field(
        default="", description="What reports call who runs this service; empty: the domain of `postmaster`."
    )
    contact: Words = Field(
        default="",
        description="The mailbox to write to about a report, and its author; empty: `postmaster`.",
        examples=["tls-reports@example.net"],
    )


class Log(Section):
    """The log, on standard error or in systemd's journal."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is said.")
    format: Literal["auto", "json", "pretty", "journal"] = Field(
        default="auto",
        description="`auto`: pretty on a terminal, else JSON, a line an event. `journal`: to systemd's journal by its "
        "own protocol, with each field as one of the entry, such as `WAYPOST_ID`.",
    )


class Tracing(Section):
    """Spans for OpenTelemetry (extra opentelemetry): one for each message received, one below it for each attempt.

    A message belongs to the trace that its client names, in `traceparent` of an HTTP request or of the message's header
    (W3C trace context), else to one of its own; that is kept with it in the queue, logged as `trace`, and told to
    webhooks. Without this section, what a client names is kept and told all the same, and no span is made.
    """

    endpoint: str = Field(
        default="",
        description="Where a collector takes OTLP over HTTP; empty: no spans. Headers, certificates and the like are "
        "set by OpenTelemetry's own variables, such as `OTEL_EXPORTER_OTLP_HEADERS`.",
        examples=["http://127.0.0.1:4318"],
    )
    share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0,
        description="Of the traces that begin here, so many are kept: 0.1 is every tenth. One that began elsewhere is "
        "kept where it was there.",
    )


class History(Section):
    """What is remembered of messages that are done."""

    keep: Duration = Field(
        default=timedelta(days=30), description="How long `trace` can tell what became of a message."
    )
    bin: Duration = Field(
        default=timedelta(days=7),
        description="How long `waypost queue restore` can bring back what an operator deleted or bounced; never longer "
        "than `keep`.",
    )
    captured: Count = Field(default=1000, description="Messages kept of those `capture:` took; the oldest go first.")


BounceKind = Literal["user", "mailbox", "host", "expired", "loop", "size", "policy", "protocol", "other"]


class Notices(Section):
    """Who is told of what happens, in one message now and then. Reports to authors are another matter, and go on."""

    to: Mailboxes = Field(
        default=(),
        description="Who is told of all classes. Nobody anywhere: no notices.",
        examples=[("admin@example.net",)],
    )
    bounces: Mailboxes = Field(default=(), description="Who is told, besides, of messages that came back.")
    bounce_kinds: tuple[BounceKind, ...] = Field(
        default=get_args(BounceKind),
        description="Which: no such `user`, a `mailbox` in trouble, no such `host`, `expired` in the queue, a `loop`, "
        "too large a `size`, refused by `policy`, errors of `protocol`, any `other`.",
    )
    delays: Mailboxes = Field(default=(), description="Of delays, and of next hops that cannot be reached.")
    policy: Mailboxes = Field(default=(), description="Of what is refused by policy, or put in quarantine.")
    resources: Mailboxes = Field(default=(), description="Of the spool, the disk, lists in DNS, and bugs of ours.")
    protocol: Mailboxes = Field(default=(), description="Of clients and servers that do not keep to SMTP.")
    auth: Mailboxes = Field(default=(), description="Of failed logins, and of next hops that refuse ours.")
    every: Duration = Field(
        default=timedelta(hours=1), description="At most one notice to each in this time; what happens is gathered."
    )
    route: Words = Field(
        default="",
        description="Name of a route by which notices go while their recipient's own is in trouble.",
        examples=["backup"],
    )
