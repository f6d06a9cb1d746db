"""Mail over HTTP: `POST /v1/messages` on a listener with `role = "http"`. A message described in JSON, or as it is.

202 is said when the message is durable, and not before; each recipient has the reply that RCPT would have had. Who may
send is asked of the accounts, as AUTH asks them. With an Idempotency-Key, a request that is sent again after a lost
answer stores nothing twice. Not here: what is taken and what is not (session.py, by way of intake.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self, TypeAlias, assert_never

import msgspec
from aiohttp import web

from waypost.auth.account import Account
from waypost.auth.authenticator import Accepted, Refused
from waypost.auth.exchange import Challenge
from waypost.auth.scram import NO_BINDINGS
from waypost.mail.envelope import MessageId
from waypost.mail.errand import Letter, with_crlf
from waypost.mail.explain import plain
from waypost.mail.trace_context import traceparent
from waypost.mail.written import Description, WritingError, Written, author_of, recipients_of, without_bcc, written
from waypost.net.certificates import NoCertificate
from waypost.net.clock import Clock, Instant
from waypost.net.listener import ListenError, bind
from waypost.net.sockets import Sockets
from waypost.net.stream import Endpoint, is_local
from waypost.net.web import SILENCE, body_of, runner_of
from waypost.policy.admission import RelayPolicy
from waypost.queue.storage import StorageError
from waypost.receive.intake import TRUSTED, HandedIn, Intake, InUse, Key
from waypost.receive.login import Logins
from waypost.receive.ports import ReceiveLog
from waypost.receive.settings import Door, client_key
from waypost.smtp.path import Mailbox, NullPath, PathError, ReversePath, parse_mailbox
from waypost.smtp.reply import Reply

PATH: Final = "/v1/messages"
#: Requests that are read at once, and of these such as are large: a body is in memory while it is judged.
AT_ONCE: Final = 100
LARGE_AT_ONCE: Final = 4
LARGE: Final = 1024 * 1024
#: How long a password that was right is not hashed again: an application sends many messages with one.
BELIEVED: Final = timedelta(minutes=1)
_BELIEVED_AT_ONCE: Final = 1000
#: Octets of an Idempotency-Key.
KEY: Final = 255
#: What JSON and base64 add to a message, and room for its header.
_SWOLLEN: Final = 1.4
_OVERHEAD: Final = 64 * 1024
_REMEDIES: Final = {
    400: "see docs/howto/http-submission.md for what a request looks like",
    401: "send Authorization: Basic with an account's name and password, or Bearer with a token",
    403: "see the reply of each recipient",
    404: f"POST to {PATH}",
    408: "send the body within five minutes",
    409: "use a new Idempotency-Key for each message, and wait for the answer",
    413: "send less; limits.message_size is the most",
    415: "send application/json or message/rfc822",
    422: "see the reply of each recipient",
    429: "send the same request again later",
    503: "send the same request again later, with the same Idempotency-Key",
}

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RecipientAnswer(msgspec.Struct, frozen=True):
    """What became of one recipient."""

    address: str
    accepted: bool
    reply: str


class Answer(msgspec.Struct, frozen=True):
    """The message is ours. `repeated`: it was already, and nothing was stored now."""

    id: str
    recipients: list[RecipientAnswer]
    repeated: bool = False


class Failure(msgspec.Struct, frozen=True):
    """Nothing was stored."""

    error: str
    remedy: str
    recipients: list[RecipientAnswer] = []


class _Problem(Exception):  # noqa: N818 - an answer, on its way out
    def __init__(self, status: int, error: str, recipients: list[RecipientAnswer] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.recipients = status, error, recipients or []


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may send: an account, as AUTH would know it; or, without one, a client of the relay networks."""

    logins: Logins
    relay: RelayPolicy
    log: ReceiveLog
    clock: Clock
    mechanisms: tuple[str, ...]
    _believed: dict[bytes, tuple[Account, Instant]] = field(default_factory=dict)
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    async def account(self, header: str, client: Endpoint, *, secured: bool) -> Account:
        """Whose request this is. Raises: _Problem."""
        if not header:
            if self.relay.trusts(client.host):
                return TRUSTED
            raise _Problem(401, f"{client.host} is in no network of [relay], and the request names no account")
        if not (secured or is_local(client)):
            raise _Problem(403, "a password was sent in clear; use https from other machines, and change it")
        digest, now = hashlib.sha256(self._secret + header.encode()).digest(), self.clock.now()
        account, until = self._believed.get(digest, (TRUSTED, 0.0))
        if until > now:
            return account
        account = await self._judged(header, client)
        if len(self._believed) >= _BELIEVED_AT_ONCE:
            self._believed.clear()
        self._believed[digest] = account, now + BELIEVED.total_seconds()
        return account

    async def _judged(self, header: str, client: Endpoint) -> Account:
        scheme, _, credentials = header.partition(" ")
        mechanism, response = _as_sasl(scheme.lower(), credentials.strip())
        if mechanism not in self.mechanisms:
            raise _Problem(401, f"{scheme} is not offered here: no account could be judged by it")
        dialogue = self.logins.dialogue(mechanism, client_key(client.host), NO_BINDINGS)
        verdict = await dialogue.begin(response)
        while isinstance(verdict, Challenge):
            verdict = await dialogue.take(b"\x01")  # RFC 7628 §3.2.3: the error was read
        match verdict:
            case Accepted(account):
                self.log.logged_in(client, account.name, mechanism)
                return account
            case Refused(reply, username, why):
                self.log.login_refused(client, username, mechanism, why, reply)
                raise _Problem(503 if reply.is_transient and reply.code != 421 else 401, str(reply))
            case _:
                assert_never(verdict)


def _as_sasl(scheme: str, credentials: str) -> tuple[str, bytes]:
    """What AUTH would have said: PLAIN for Basic (RFC 7617), OAUTHBEARER for Bearer (RFC 6750)."""
    if scheme == "bearer":
        return "OAUTHBEARER", f"n,,\x01auth=Bearer {credentials}\x01\x01".encode()
    if scheme != "basic":
        raise _Problem(401, f"the Authorization {scheme!r} is not known here")
    try:
        name, colon, password = b64decode(credentials, validate=True).partition(b":")
    except ValueError:
        name, colon, password = b"", b"", b""
    if not colon:
        raise _Problem(401, "the Authorization is not the base64 of name:password")
    return "PLAIN", b"\0" + name + b"\0" + password


_NO_SOCKETS: Final = Sockets()


class HttpDoor:
    """One such listener. `start` opens it, `stop` lets requests under way end."""

    def __init__(
        self, intake: Intake, guard: Guard, sockets: Sockets = _NO_SOCKETS, *, silence: timedelta = SILENCE
    ) -> None:
        """`sockets`: opened for it by another process, if it was; `silence`: how long a client may say nothing."""
        self._sockets = sockets
        self._intake = intake
        self._guard = guard
        self._door: Door = intake.door
        self._room = asyncio.Semaphore(AT_ONCE)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        limit = int(self._door.smtp.size_limit * _SWOLLEN) + _OVERHEAD
        application = web.Application(client_max_size=limit, middlewares=[_answering])
        application.router.add_post(PATH, self._post)
        application.router.add_get("/healthz", _alive)
        self._runner = runner_of(application, silence=silence)

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens, once started."""
        for host, port, *_ in self._runner.addresses:
            return Endpoint(host, port)
        return self._door.endpoint

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Raises: ListenError."""
        await self._runner.setup()
        where = self._door.endpoint
        try:
            for bound in self._sockets.take(where) or (bind(where),):
                await web.SockSite(self._runner, bound, ssl_context=self._tls()).start()
        except ListenError:
            await self._runner.cleanup()
            raise

    async def stop(self) -> None:
        """Stop listening; requests under way get ten seconds."""
        await self._runner.cleanup()

    def _tls(self) -> ssl.SSLContext | None:
        """The context of all handshakes: each takes the certificate in force then."""
        if not self._door.implicit_tls:
            return None  # aiohttp's own word for none
        context = self._door.context()
        if isinstance(context, NoCertificate):
            raise ListenError(f"{self._door.endpoint} (http): no certificate could be read for TLS")
        return context

    async def _post(self, request: web.Request) -> web.Response:
        self._require_room()
        client = _client(request)
        secured = request.transport is not None and request.transport.get_extra_info("ssl_object") is not None
        account = await self._guard.account(request.headers.get("Authorization", ""), client, secured=secured)
        async with self._room:
            size = request.content_length
            if size is not None and size <= LARGE:
                return await self._take(request, client, account)
            async with self._large:
                return await self._take(request, client, account)

    def _require_room(self) -> None:
        """Raises: _Problem, where there are more connections than the listener may have."""
        server, most = self._runner.server, self._door.connections
        if most and server is not None and len(server.connections) > most:
            raise _Problem(503, f"more than {most} connections at once, which is all that this listener may have")

    async def _take(self, request: web.Request, client: Endpoint, account: Account) -> web.Response:
        body = await body_of(request)
        message = self._message(request, body)
        letter = Letter(message.reverse_path, message.recipients, message.octets)
        hello, traced = _literal(client), traceparent(request.headers.get("traceparent", ""))
        key = request.headers.get("Idempotency-Key", "")
        try:
            if not key:
                done: HandedIn | InUse = await self._intake.hand_in(
                    letter, client, account, hello=hello, traceparent=traced
                )
            else:
                once = Key("http", _key(key, account, client), hashlib.sha256(_content(request, body)).hexdigest())
                done = await self._intake.hand_in_once(once, letter, client, account, hello=hello, traceparent=traced)
        except StorageError as error:
            raise _Problem(503, f"the spool does not answer: {error}") from error
        if isinstance(done, InUse):
            raise _Problem(503 if done.elsewhere else 409, done.why)
        return _answer(done, letter)

    def _message(self, request: web.Request, body: bytes) -> Written:
        try:
            match request.content_type:
                case "application/json":
                    return self._described(body)
                case "message/rfc822":
                    return _raw(request, body)
                case other:
                    raise _Problem(415, f"{other} is not taken here")
        except WritingError as error:
            raise _Problem(400, str(error)) from error

    def _described(self, body: bytes) -> Written:
        try:
            described = msgspec.json.decode(body, type=Description)
        except msgspec.DecodeError as error:
            raise _Problem(400, f"the body is no message in JSON: {error}") from error
        name: MessageId = self._intake.ids.make()
        return written(described, now=self._intake.clock.now(), message_id=f"<{name}@{self._door.smtp.hostname}>")


async def _alive(_request: web.Request) -> web.Response:
    return web.json_response({"alive": True})


@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong, as JSON."""
    try:
        return await handler(request)
    except _Problem as problem:
        return _failed(problem.status, problem.error, problem.recipients)
    except web.HTTPRequestEntityTooLarge:
        return _failed(413, "the request is larger than any message that is taken here", [])
    except web.HTTPMethodNotAllowed as refused:
        return _failed(405, f"{request.method} is not for {request.path}", [], allow=", ".join(refused.allowed_methods))
    except web.HTTPException as refused:
        return _failed(refused.status, f"{request.path}: {refused.reason}", [])


def _failed(status: int, error: str, recipients: list[RecipientAnswer], *, allow: str = "") -> web.Response:
    headers = {"Allow": allow} if allow else {}
    if status in {429, 503}:
        headers["Retry-After"] = "60"
        headers["Connection"] = "close"  # its place is for another meanwhile
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="mail", charset="UTF-8"'
    body = msgspec.json.encode(Failure(plain(error), _REMEDIES.get(status, _REMEDIES[400]), recipients))
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _answer(done: HandedIn, letter: Letter) -> web.Response:
    said = [
        RecipientAnswer(str(path), reply.is_positive, plain(str(reply)))
        for path, reply in zip(letter.recipients, done.replies, strict=not done.repeated)
    ]
    if not done.is_taken:
        status = status_of(done.replies)
        raise _Problem(status, "the message was taken for no recipient", said)
    body = msgspec.json.encode(Answer(done.id, said, done.repeated))
    return web.Response(body=body, status=202, content_type="application/json")


def status_of(replies: tuple[Reply, ...]) -> int:
    """The status of a message that nobody gets: whether to come again, and why not, by the hardest reply."""
    worst = next((reply for reply in replies if reply.is_transient), replies[0])
    status = worst.status
    match worst.code // 100, status.subject, status.detail:
        case 4, 7, _:
            return 429
        case 4, _, _:
            return 503
        case _, 3, 4:
            return 413
        case _, 7, _:
            return 403
        case _:
            return 422


def _raw(request: web.Request, body: bytes) -> Written:
    """A message as it is; its envelope by the query (`from`, `to` …), or else by its header."""
    octets, query = with_crlf(body), request.query
    recipients = tuple(_mailbox("to", text) for text in query.getall("to", [])) or recipients_of(octets)
    sender = _path(query["from"]) if "from" in query else author_of(octets)
    return Written(sender, recipients, without_bcc(octets))


def _path(text: str) -> ReversePath:
    return _mailbox("from", text) if text.strip("<>") else NullPath()


def _mailbox(key: str, text: str) -> Mailbox:
    try:
        return parse_mailbox(text.removeprefix("<").removesuffix(">"))
    except PathError as error:
        raise _Problem(400, f"{key} is {text!r}, which is no mailbox: {error}") from None


def _key(text: str, account: Account, client: Endpoint) -> str:
    """The client's key, apart from those of others."""
    if len(text) > KEY or not text.isascii() or not text.isprintable():
        raise _Problem(400, f"the Idempotency-Key is longer than {KEY} characters, or has others than ASCII's")
    return f"{account.name or client_key(client.host)}:{text}"


def _content(request: web.Request, body: bytes) -> bytes:
    return f"{request.content_type} {request.query_string}\n".encode() + body


def _client(request: web.Request) -> Endpoint:
    """Who asks. Behind a proxy this is the proxy: whom it names is not believed here."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else ("", 0)
    return Endpoint(str(peer[0]), int(peer[1]))


def _literal(client: Endpoint) -> str:
    address = ip_address(client.host.partition("%")[0])
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
