"""How much, how often and how long: limits, retries, time-outs, and what is asked of DNS."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from waypost.config.model.values import (
    SIZE,
    Count,
    Duration,
    Kind,
    OwnDuration,
    Section,
    judged,
    read_endpoint,
    size_from,
)
from waypost.config.units import parse_duration
from waypost.net.stream import Endpoint


class Retry(Section):
    """When to try again, and when to give up (RFC 5321 §4.5.4.1)."""

    schedule: tuple[Duration, ...] = Field(
        default=tuple(parse_duration(text) for text in ("1m", "5m", "15m", "30m", "1h", "2h", "4h")),
        min_length=1,
        description="The pauses after the first attempt, the second and so on; the last one repeats.",
    )
    expire: Duration = Field(
        default=timedelta(days=5), description="From receipt to giving up; then the author gets a report."
    )
    delay_notice: Duration = Field(
        default=timedelta(hours=4), description="From receipt to a report of delay. Longer than `expire`: never."
    )
    jitter: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Each pause grows by up to this share, so that what failed together does not come back together.",
    )
    urgent_schedule: tuple[Duration, ...] = Field(
        default=(),
        description="The pauses for mail of a priority above 0 (MT-PRIORITY, RFC 6710 §5.3). Empty: as `schedule`.",
        examples=[("30s", "1m", "2m", "5m")],
    )
    urgent_expire: OwnDuration = Field(
        default=timedelta(), description="`expire` for mail of a priority above 0. `0s`: as `expire`."
    )
    urgent_delay_notice: OwnDuration = Field(
        default=timedelta(), description="`delay_notice` for mail of a priority above 0. `0s`: as `delay_notice`."
    )
    non_urgent_schedule: tuple[Duration, ...] = Field(
        default=(), description="The pauses for mail of a priority below 0. Empty: as `schedule`."
    )
    non_urgent_expire: OwnDuration = Field(
        default=timedelta(), description="`expire` for mail of a priority below 0. `0s`: as `expire`."
    )
    non_urgent_delay_notice: OwnDuration = Field(
        default=timedelta(), description="`delay_notice` for mail of a priority below 0. `0s`: as `delay_notice`."
    )


class Limits(Section):
    """What is taken from one message, session or client, and from all of them together."""

    message_size: Annotated[int, PlainValidator(judged(size_from(64 * 1024), "size in quotes")), SIZE] = Field(
        default=50 * 1024**2, description="Largest message taken; offered as SIZE (RFC 1870)."
    )
    recipients: Annotated[Count, Field(ge=100)] = Field(
        default=1000, description="Recipients a transaction; not below 100 (RFC 5321 §4.5.3.1.8)."
    )
    recipient_domains: Annotated[int, Field(ge=0, le=1_000_000), Kind("whole number")] = Field(
        default=0,
        description="Domains a transaction may have recipients in, offered as RCPTDOMAINMAX (RFC 9422); 0: any number.",
    )
    connections: Count = Field(default=1000, description="Clients at once; one more is answered 421.")
    connections_per_client: Count = Field(default=50, description="Connections at once from one client address.")
    connections_per_network: Count = Field(
        default=500, description="Connections at once from one network of clients: an IPv4 /24, an IPv6 /48."
    )
    messages: Count = Field(
        default=1000, description="Messages a session; one more is answered 421, and the client connects again."
    )
    session: Duration = Field(
        default=timedelta(hours=6),
        description="How long one client's session may last; then it is answered 421, once its transaction has ended.",
    )
    resent: Duration = Field(
        default=timedelta(hours=1),
        description="How long a message is recognised that a client sends again because its connection broke before "
        "our 250: it is kept once. Only a message with a Message-ID, of up to 256 KiB.",
    )
    errors: Count = Field(default=20, description="Commands refused before a session is closed with 421.")
    hops: Count = Field(
        default=100, description="Received lines after which a message is taken for looping (RFC 5321 §6.3)."
    )
    memory: Annotated[int, PlainValidator(judged(size_from(1024**2), "size in quotes")), SIZE] = Field(
        default=64 * 1024**2,
        description="Message octets held in memory at once, all sessions together; what comes beyond goes to the spool "
        "as it arrives.",
    )
    free_space: Annotated[int, PlainValidator(judged(size_from(1024**2), "size in quotes")), SIZE] = Field(
        default=64 * 1024**2,
        description="What has to be free where the spool lies: below it new mail is refused with 452 4.3.1, while "
        "delivery goes on; half of it is for delivery alone.",
    )
    future_release: Duration = Field(
        default=timedelta(days=7),
        description="How long a client of a `submission` listener may have a message held before it is sent "
        "(FUTURERELEASE, RFC 4865).",
    )
    deliveries: Count = Field(default=500, description="Connections to next hops at once, all of them together.")


class Timeouts(Section):
    """How long each step may take; the defaults are those of RFC 5321 §4.5.3.2 where it names one."""

    connect: Duration = Field(default=timedelta(seconds=30), description="As a client: the connection.")
    tls: Duration = Field(default=timedelta(seconds=60), description="As a client: a TLS handshake.")
    greeting: Duration = Field(default=timedelta(minutes=5), description="As a client: the 220 greeting.")
    ehlo: Duration = Field(default=timedelta(minutes=5), description="As a client: the reply to EHLO, HELO or LHLO.")
    starttls: Duration = Field(default=timedelta(minutes=2), description="As a client: the reply to STARTTLS.")
    auth: Duration = Field(default=timedelta(minutes=2), description="As a client: each reply to AUTH.")
    mail: Duration = Field(default=timedelta(minutes=5), description="As a client: the reply to MAIL.")
    rcpt: Duration = Field(default=timedelta(minutes=5), description="As a client: the reply to RCPT.")
    data: Duration = Field(default=timedelta(minutes=2), description="As a client: the 354 to DATA.")
    block: Duration = Field(default=timedelta(minutes=3), description="As a client: sending one block of a message.")
    dot: Duration = Field(default=timedelta(minutes=10), description="As a client: the reply to the final dot.")
    rset: Duration = Field(default=timedelta(seconds=20), description="As a client: the reply to RSET.")
    quit: Duration = Field(default=timedelta(seconds=5), description="As a client: the reply to QUIT.")
    command: Duration = Field(default=timedelta(minutes=5), description="As a server: the client's next command.")
    body_block: Duration = Field(default=timedelta(minutes=3), description="As a server: the next block of a message.")
    body_total: Duration = Field(default=timedelta(hours=1), description="As a server: one whole message.")


class HeloMemory(Section):
    """The hosts that failed on EHLO and took HELO: the next message begins with HELO there."""

    ttl: Duration = Field(
        default=timedelta(hours=1),
        description="How long that is remembered; then EHLO is tried anew, for a mended host may offer TLS.",
    )


def _server(text: str) -> Endpoint:
    bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
    return read_endpoint(f"[{text}]" if bare_ipv6 else text, default_port="53")


class Dns(Section):
    """How names are looked up. They are always absolute: there is no search list."""

    servers: tuple[
        Annotated[Endpoint, PlainValidator(judged(_server, "address of a DNS server")), Kind("address[:port]")], ...
    ] = Field(
        default=(),
        description="DNS servers by numeric address, asked in order. Empty: those of `/etc/resolv.conf`.",
        examples=[("127.0.0.1", "192.0.2.53:53")],
    )
    trust_ad: Literal["loopback", "all", "none"] = Field(
        default="loopback",
        description="Whose word is taken that DNSSEC vouches for an answer (the AD bit), which DANE rests on: that of "
        "servers on this machine's loopback, of `all` of `servers`, or nobody's. `all` is for validating resolvers "
        "reached over a network where nobody else can write.",
    )
    timeout: Duration = Field(default=timedelta(seconds=3), description="How long one server may take for one answer.")
    attempts: Count = Field(default=2, description="Rounds through the list of servers.")
    hosts_file: bool = Field(default=True, description="Whether addresses in `/etc/hosts` go before DNS.")
    allow_loopback_mx: bool = Field(
        default=False, description="Whether an MX may point to this machine's loopback: for tests and laptops."
    )
    cache: Count = Field(default=10_000, description="Answers remembered while their time to live lasts.")
