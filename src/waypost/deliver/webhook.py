"""Delivery to a webhook: one POST for a message and its recipients, and the status of the answer decides.

2yz: delivered. 408, 425, 429 and 5yz: later, as Retry-After asks. Other 4yz: refused for good. A redirection is not
followed, and waits for somebody to correct the route. When the request went out whole and no answer came, the
application may have the message: that is in doubt, and the Idempotency-Key lets it know the message again.

The signature is over what was sent and when: `Waypost-Signature: t=SECONDS,v1=HEX`, HMAC-SHA-256 of `SECONDS.` and the
body. Each request has a connection of its own: one that had been idle may be dead, and a POST lost on it in doubt.

Not here: what the URL and its format may be (route/target.py), and the HTTP that gets mail in (waypost.admin).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from waypost.deliver.fates import Fates, deferred
from waypost.deliver.smtp import Reach, Reached, Unreachable
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import InMemory, Octets, QueuedMessage, QueuedRecipient
from waypost.mail.header import fields, header_of
from waypost.mail.outcome import (
    ConnectionLost,
    Deferred,
    Delivered,
    Host,
    HttpAnswered,
    InDoubt,
    LocalTrouble,
    NotConnected,
    Outcome,
    Rejected,
)
from waypost.net.clock import Clock
from waypost.net.https import Names
from waypost.net.resolver import Resolver
from waypost.net.stream import Endpoint, Fault, FaultKind
from waypost.net.tls import private_context
from waypost.queue.storage import Lease, StorageError
from waypost.route.route import HookFormat, Webhook
from waypost.smtp.reply import EnhancedStatus, Reply

#: Recipients a request at most in the raw format, whose envelope stands in a header: servers take some 8 KB of those.
RAW_RECIPIENTS: Final = 20
#: Octets of an answer that are read, and characters of it that are kept.
ANSWER: Final = 4096
SAID: Final = 300
#: Octets of a header section that is told in JSON; what is longer is in the message all the same.
HEADER: Final = 256 * 1024
#: Seconds that Retry-After is believed at most.
LONGEST_RETRY_AFTER: Final = 24 * 3600
#: Statuses that ask for another try although they are 4yz: time-out, too early, too many.
TRANSIENT: Final = frozenset({408, 425, 429})
#: Octets that are encoded at once: whole triples, so that pieces of base64 can be put together.
_TRIPLES: Final = 48 * 1024

REFUSED: Final = EnhancedStatus(5, 3, 0)
LATER: Final = EnhancedStatus(4, 3, 0)


@dataclass(frozen=True, slots=True)
class _Raw:
    """The body of a request as it is, in pieces, as often as it is asked for."""

    octets: Octets

    @property
    def size(self) -> int:
        return self.octets.size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.octets:
            yield chunk


@dataclass(frozen=True, slots=True)
class _Json:
    """`head`, the octets in base64, `tail`: memory does not grow with the message."""

    head: bytes
    octets: Octets
    tail: bytes

    @property
    def size(self) -> int:
        return len(self.head) + (self.octets.size + 2) // 3 * 4 + len(self.tail)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.head
        rest = b""
        async for chunk in self.octets:
            rest += chunk
            whole = len(rest) // _TRIPLES * _TRIPLES
            if whole:
                yield b64encode(rest[:whole])
                rest = rest[whole:]
        yield b64encode(rest)
        yield self.tail


_Content = _Raw | _Json


class _Leaving:
    """The body on its way. `is_gone`: its last octet is out of our hands; `broken`: what kept it from being read."""

    def __init__(self, content: _Content) -> None:
        self._content = content
        self.is_gone = False
        self.broken = ""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._content:
                yield piece
        except StorageError as error:
            self.broken = str(error)
            raise
        self.is_gone = True


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    said: str
    retry_after: str


class WebhookDelivery:
    """Deliveries over HTTP; names are looked up as all names of the service are.

    Certificates are judged by `context`, or by the authorities that a webhook has of its own.
    """

    def __init__(self, resolver: Resolver, context: ssl.SSLContext, clock: Clock) -> None:
        self._resolver = resolver
        self._context = context
        self._clock = clock

    async def deliver(self, lease: Lease, webhook: Webhook, most: int, fates: Fates, transcript: Transcript) -> Reach:
        """One attempt: a request for each `most` recipients."""
        due = fates.open()
        most = min(most, RAW_RECIPIENTS) if webhook.format is HookFormat.RAW else most
        for start in range(0, len(due), most):
            batch = due[start : start + most]
            fates.body_begun = True
            outcome = await self._post(lease, webhook, batch, transcript)
            fates.body_begun = False
            for recipient in batch:
                fates.record(recipient, outcome)
            if isinstance(outcome, Deferred) and not isinstance(outcome.cause, LocalTrouble):
                for recipient in fates.open():  # the next request would fare no better
                    fates.record(recipient, outcome)
                return Unreachable(outcome.cause)
        return Reached()

    async def _post(
        self, lease: Lease, webhook: Webhook, batch: Sequence[QueuedRecipient], transcript: Transcript
    ) -> Outcome:
        message = lease.message
        try:
            content, headers = await self._request(message, lease.octets, webhook, batch)
        except StorageError as error:
            return deferred(LocalTrouble(f"the body of {message.id} could not be read: {error}"))
        leaving = _Leaving(content)
        self._note(transcript, "C", f"POST {webhook.url}\nIdempotency-Key: {headers['Idempotency-Key']}")
        try:
            answer = await self._exchange(webhook, leaving, headers)
        except (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError, ValueError) as error:
            fault = _fault(error, webhook)
            self._note(transcript, "*", f"{'the request went out whole; ' if leaving.is_gone else ''}{fault}")
            return _lost(webhook, leaving, error, fault, message)
        self._note(transcript, "S", f"{answer.status} {answer.reason}\n{answer.said}".rstrip())
        return self._judge(webhook, answer)

    async def _request(
        self, message: QueuedMessage, octets: Octets, webhook: Webhook, batch: Sequence[QueuedRecipient]
    ) -> tuple[_Content, dict[str, str]]:
        """The body and its header fields. Raises: StorageError."""
        envelope = _envelope(message, batch)
        headers = {"Idempotency-Key": idempotency_key(message, batch), "User-Agent": "Waypost"}
        if message.traceparent:
            headers["traceparent"] = message.traceparent
        content: _Content
        if webhook.format is HookFormat.RAW:
            content = _Raw(octets)
            headers |= {"Content-Type": "message/rfc822", "Waypost-Envelope": _ascii_json(envelope)}
        else:
            head = _ascii_json(envelope | {"headers": await _header(octets)})
            content = _Json(f'{head[:-1]},"message":"'.encode(), octets, b'"}')
            headers |= {"Content-Type": "application/json"}
        headers["Content-Length"] = str(content.size)
        if webhook.secret:
            headers["Waypost-Signature"] = await self._signature(webhook.secret, content)
        return content, headers

    async def _signature(self, secret: str, content: _Content) -> str:
        moment = str(int(self._clock.now()))
        digest = hmac.new(secret.encode(), f"{moment}.".encode(), sha256)
        async for piece in content:
            digest.update(piece)
        return f"t={moment},v1={digest.hexdigest()}"

    async def _exchange(self, webhook: Webhook, leaving: _Leaving, headers: dict[str, str]) -> _Answer:
        context = private_context(Path(webhook.ca)) if webhook.ca else self._context
        connector = aiohttp.TCPConnector(
            resolver=Names(self._resolver), ssl=context, use_dns_cache=False, force_close=True
        )
        seconds = webhook.timeout.total_seconds()
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session,
            session.post(webhook.url, data=leaving, headers=headers, allow_redirects=False) as answer,
        ):
            said = b""
            # The status is the answer; what is said beside it may be lost.
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                said = await answer.content.read(ANSWER)
            text = " ".join(said.decode("utf-8", "backslashreplace").split())[:SAID]
            return _Answer(answer.status, answer.reason or "", text, answer.headers.get("Retry-After", ""))

    def _judge(self, webhook: Webhook, answer: _Answer) -> Outcome:
        where, status = urlsplit(webhook.url).netloc, answer.status
        said = f"{answer.reason} {answer.said}".strip()
        if 200 <= status < 300:
            return Delivered(where, Reply.of(250, "2.0.0", f"HTTP {status} {said}"[:SAID].rstrip()), final=True)
        if 300 <= status < 400:
            return Deferred(
                HttpAnswered(where, status, "redirections are not followed: correct the route's `to`"), LATER
            )
        cause = HttpAnswered(where, status, said)
        if 400 <= status < 500 and status not in TRANSIENT:
            return Rejected(cause, REFUSED)
        return Deferred(cause, LATER, self._not_before(answer.retry_after))

    def _not_before(self, retry_after: str) -> float:
        """When trying again makes sense, by Retry-After (RFC 9110 §10.2.3); 0.0 where it says nothing."""
        now = self._clock.now()
        if retry_after.isascii() and retry_after.isdigit():
            return now + min(int(retry_after[:9]), LONGEST_RETRY_AFTER)
        try:
            moment = parsedate_to_datetime(retry_after)
        except (ValueError, IndexError, TypeError):
            return 0.0
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(moment.timestamp(), 0.0), now + LONGEST_RETRY_AFTER)

    def _note(self, transcript: Transcript, mark: str, text: str) -> None:
        transcript.add(self._clock.monotonic(), mark, text)


def idempotency_key(message: QueuedMessage, batch: Sequence[QueuedRecipient]) -> str:
    """The same for the same message to the same recipients, however often it is sent."""
    numbers = ".".join(str(recipient.number) for recipient in batch)
    return f"{message.id}-{numbers if len(batch) <= 10 else sha256(numbers.encode()).hexdigest()[:32]}"


def _envelope(message: QueuedMessage, batch: Sequence[QueuedRecipient]) -> dict[str, object]:
    origin = message.origin
    return {
        "id": str(message.id),
        "from": str(message.reverse_path),
        "to": [str(recipient.forward_path) for recipient in batch],
        "received_at": message.received_at,
        "client": origin.client_host,
        "hello": origin.client_name,
        "account": origin.account,
        "protocol": origin.protocol,
        "tls": bool(origin.tls),
        "size": message.size,
    }


async def _header(octets: Octets) -> list[tuple[str, str]]:
    """The header fields in their order, names and unfolded bodies; none where the section is too large to be told."""
    begun = octets.octets if isinstance(octets, InMemory) else b""
    if not begun:
        async for chunk in octets:
            begun += chunk
            if b"\r\n\r\n" in begun or len(begun) > HEADER:
                break
    section = header_of(begun)
    if len(section) > HEADER:
        return []
    return [(name.decode("ascii", "replace"), body.decode("utf-8", "replace")) for name, body in fields(section)]


def _ascii_json(value: object) -> str:
    """JSON in ASCII alone: it stands in a header field, too."""
    text = msgspec.json.encode(_printable(value)).decode()
    return "".join(character if character.isascii() else _escaped(character) for character in text)


def _printable(value: object) -> object:
    """Octets that are no UTF-8 (kept as lone surrogates in addresses) as U+FFFD, for JSON has no place for them."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list | tuple) else value


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _host(webhook: Webhook) -> Host:
    parts = urlsplit(webhook.url)
    name = parts.hostname or ""
    return Host(name, Endpoint(name, parts.port or (443 if parts.scheme == "https" else 80)))


def _fault(error: Exception, webhook: Webhook) -> Fault:
    if isinstance(error, TimeoutError):
        return Fault(FaultKind.TIMED_OUT, f"no whole answer within {webhook.timeout.total_seconds():g} s")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
        return Fault(FaultKind.TLS, str(error))
    if isinstance(error, aiohttp.ClientConnectorError):
        return Fault(FaultKind.UNREACHABLE, str(error))
    if isinstance(error, aiohttp.ServerDisconnectedError | asyncio.IncompleteReadError):
        return Fault(FaultKind.CLOSED, "no answer came")
    return Fault(FaultKind.RESET, str(error) or type(error).__name__)


def _lost(webhook: Webhook, leaving: _Leaving, error: Exception, fault: Fault, message: QueuedMessage) -> Outcome:
    """What a request comes to that had no answer."""
    if leaving.broken:
        return deferred(LocalTrouble(f"the body of {message.id} could not be read: {leaving.broken}"))
    host = _host(webhook)
    if leaving.is_gone:
        return InDoubt(host, fault)
    if isinstance(error, aiohttp.ClientConnectorError | ssl.SSLError):
        return deferred(NotConnected(host, fault))
    return deferred(ConnectionLost(host, "POST", fault))
