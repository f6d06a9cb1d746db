"""One client's session: reads, lets the engine say what it means, judges, stores, replies.

A coroutine a connection (`_converse`) does what takes a wait: storing, spilling, closing. While it listens, what can be
answered at once is answered as it comes (`_hear`): most commands cost no switch of tasks.

The promises kept here (RFC 5321 §4.1.1.4, §4.2.5, §6.1): 250 after the final dot means that the message is durable;
once the dot was read, it is stored whatever the client does; before it, nothing is; an error of ours is a 4yz for one
message, and the session goes on. Not here: what a line means (waypost.smtp.server), who may send what (judge.py).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias, assert_never

from waypost.auth.account import Account
from waypost.auth.authenticator import CannotTell, NotKnown
from waypost.auth.exchange import Challenge
from waypost.hooks.values import Client as HookClient
from waypost.mail.envelope import Envelope, InMemory, MessageId, Origin, Recipient
from waypost.mail.header import field as field_of
from waypost.mail.trace import HeaderScan, protocol, received_line
from waypost.net.certificates import NoCertificate
from waypost.net.clock import Clock, Instant
from waypost.net.stream import Endpoint, Fault, FaultKind, Flushed, Speaks, Stream
from waypost.net.tls import IN_CLEAR, TlsFacts, TlsState
from waypost.policy.access import (
    ANY_SENDER,
    HELD_BACK,
    NO_COPIES,
    OPEN_TO_ALL,
    QUARANTINE,
    QUARANTINED,
    RELAY_CLIENTS_ONLY,
    Access,
    Copies,
    SenderBlock,
    Senders,
    refusal_of,
)
from waypost.policy.admission import Admission, Admitted, RelayPolicy, Taken
from waypost.policy.admission import Turned as TurnedAway
from waypost.policy.gate import (
    NO_GATE,
    UNOPPOSED,
    UNSCREENED,
    Action,
    Gate,
    Screened,
    Unopposed,
    Visitor,
    is_postmaster,
    not_wanted,
)
from waypost.policy.hooked import UNHOOKED, Hooked, Unturned
from waypost.queue.shelf import FOR_EVER
from waypost.queue.storage import CLAIM, Draft, Storage, StorageError, Stored, StoreFault
from waypost.receive.authorship import Author, NoAuthor
from waypost.receive.body import Body, InFlight
from waypost.receive.completion import Completion
from waypost.receive.judge import (
    BEGIN_TLS,
    HELD_TOO_LONG,
    LATE_ALREADY,
    LOCAL_ERROR,
    LOGIN_FIRST,
    LOOPING,
    LOWERED,
    NO_MEMORY,
    NO_SUCH_ACCOUNT,
    NO_TLS_NOW,
    NOT_SERVED,
    OK_MAIL,
    SEND_BODY,
    SPOOL_FULL,
    TOO_LARGE_FOR_ROUTE,
    TOO_MANY_MESSAGES,
    TOO_MANY_RECIPIENTS,
    TURNED_ROUND,
    judge_body,
    judge_fault,
    not_yours,
    release_of,
)
from waypost.receive.login import NO_LOGINS, STRANGER, Anonymous, Client, Guest, Login, Logins
from waypost.receive.ports import BOUNDLESS, Onward, ReceiveLog, Space
from waypost.receive.resent import Resent, Sent, Unheard
from waypost.receive.settings import Door, ReceiveSettings, Relaying, client_key
from waypost.receive.turns import NO_CALL, NO_TURNS, NODE_NOT_ALLOWED, Call, Turns
from waypost.smtp.extension import ByMode, MailParameters, by_of
from waypost.smtp.path import ForwardPath, NullPath, PathError, ReversePath, parse_mailbox
from waypost.smtp.reply import Reply
from waypost.smtp.server import (
    Atrn,
    Auth,
    AuthResponse,
    BodyFault,
    Closing,
    DataChunk,
    DataEnd,
    DataStart,
    Etrn,
    Hello,
    Mail,
    NeedOctets,
    Rcpt,
    Refused,
    ServerSession,
    StartTls,
    TlsGranted,
    TransactionReset,
    Turned,
    Xclient,
)


class _Parting(NamedTuple):
    """Why a session is ended from our side: as the client hears it, behind our name, and as the log does."""

    words: str
    reason: str


_SHUTTING_DOWN: Final = _Parting("is shutting down; try again later", "shutting down")
_TOO_OLD: Final = _Parting("has served this session for long enough; try again later", "the session was too old")
#: What is left to say to a client that is being cut off: long enough for one segment, whoever it is.
_LAST_WORDS: Final = timedelta(seconds=5)
#: Recipients of one message after all its aliases were followed: each costs a row in the queue.
MAX_RECIPIENTS: Final = 10_000


class Ids(Protocol):
    """Who names messages."""

    def make(self) -> MessageId:
        """A new name."""
        ...


@dataclass(frozen=True, slots=True)
class House:
    """What all sessions share."""

    storage: Storage
    admission: Admission
    relay: RelayPolicy
    settings: ReceiveSettings
    clock: Clock
    ids: Ids
    log: ReceiveLog
    onward: Onward
    in_flight: InFlight
    resent: Resent
    space: Space = BOUNDLESS
    access: Access = OPEN_TO_ALL
    senders: Senders = ANY_SENDER
    copies: Copies = NO_COPIES
    logins: Logins = NO_LOGINS
    turns: Turns = NO_TURNS
    revision: str = ""  # of the configuration
    hooked: Hooked = UNHOOKED
    gate: Gate = NO_GATE


@dataclass(slots=True)
class _Transaction:
    """What MAIL and RCPT have said so far."""

    reverse_path: ReversePath
    parameters: MailParameters
    recipients: list[Recipient]
    accepted: int = 0  # RCPTs answered 250: fewer than recipients where one stands for several
    expanded: set[ForwardPath] = field(default_factory=set)  # what aliases led to
    released_at: Instant = 0.0  # held until then at the client's wish
    screened: Screened = UNSCREENED
    is_screened: bool = False

    def take(self, taken: Taken) -> None:
        """Add the recipients of one RCPT; whom an alias has led to already has his copy."""
        self.accepted += 1
        for one in taken.destined:
            if taken.steps and one.recipient.forward_path in self.expanded:
                continue
            if taken.steps:
                self.expanded.add(one.recipient.forward_path)
            self.recipients.append(one.recipient)


class _NoBody:
    """No body is being read."""


@dataclass(slots=True)
class _Incoming:
    """A body that is being read. `refusal` (a 4yz) once it cannot be kept any more; it is still read to its end."""

    id: MessageId
    origin: Origin
    body: Body
    trace: int  # octets of ours on top of it
    refusal: Reply | _NoBody
    completion: Completion | _NoBody


#: What a log raises: it costs no mail, and there is nobody else to tell.
_UNHEARD: Final = suppress(Exception)
_NO_TIME: Final = timedelta()
_NO_BODY: Final = _NoBody()
_NO_TRANSACTION: Final = _Transaction(NullPath(), MailParameters(), [])
_Asking: TypeAlias = Hello | Mail | Rcpt | DataStart
_Due: TypeAlias = (
    NeedOctets
    | TlsGranted
    | Turned
    | Auth
    | AuthResponse
    | Etrn
    | Atrn
    | Xclient
    | Mail
    | Rcpt
    | DataChunk
    | DataEnd
    | TransactionReset
    | Closing
)
"""What takes a wait: for the client, for who knows its password or its recipient, for the spool, or for what is written
to leave."""


class Session:
    """One client, from the banner to the end. `run` never raises but CancelledError."""

    def __init__(
        self, stream: Stream, door: Door, house: House, guest: Guest = STRANGER, tls: TlsState = IN_CLEAR
    ) -> None:
        """`tls`: what protects the connection already: a proxy's handshake, or one that we made as a client (ATRN)."""
        self._stream = stream
        self._guest = guest
        self._hooked = house.hooked
        self._door = door
        self._house = house
        self._smtp = ServerSession(door.smtp, secured=door.implicit_tls or isinstance(tls, TlsFacts))
        self._tls: TlsState = tls
        self._begin_anonymous()
        if door.xclient and RelayPolicy(door.xclient).trusts(stream.peer.host):
            self._smtp.permit_xclient()
        self._call: Call = NO_CALL
        self._hello = Hello("HELO", "")
        self._trust: bool | _NoBody = _NO_BODY  # asked once, where it matters
        self._transaction = _NO_TRANSACTION
        self._incoming: _Incoming | _NoBody = _NO_BODY
        self._messages = 0
        self._unheard: Unheard | _NoBody = _NO_BODY  # a message whose 250 the client may not have read
        self._since = 0.0  # when we last said something: what the client is timed from
        self._leaving = False
        self._parting = _SHUTTING_DOWN
        self._last_call: asyncio.TimerHandle | _NoBody = _NO_BODY
        self._due: _Due = NeedOctets()
        self._listening = False
        self._task: asyncio.Task[object] | _NoBody = _NO_BODY

    async def run(self, greeting: Reply) -> None:
        """Greet (220, or 421/554 to turn the client away), then serve until the end."""
        self._task = asyncio.current_task() or _NO_BODY
        reason = "an error of ours"
        try:
            with _UNHEARD:
                self._house.log.connected(self._stream.peer, self._door.name)
            reason = await self._serve(greeting)
        except asyncio.CancelledError:
            reason = "cut off"
            await self._cut_off(Reply.of(421, "4.3.2", f"{self._door.smtp.hostname} {self._parting.words}"))
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours ends one session, never the listener
            self._trouble("session", error)
            await self._cut_off(Reply.of(421, "4.3.0", "local error in processing; try again later"))
        finally:
            if isinstance(self._last_call, asyncio.TimerHandle):
                self._last_call.cancel()
            await self._forget()
            if isinstance(self._unheard, Unheard):
                self._unheard.lost(self._house.resent)
            with _UNHEARD:
                self._house.log.ended(self._stream.peer, reason, self._messages)

    async def _serve(self, greeting: Reply) -> str:
        """The reason of the end."""
        if self._door.implicit_tls and not isinstance(self._tls, TlsFacts):
            if not greeting.is_positive:  # no handshake for whom there is no room: that is most of what he costs
                self._stream.abort()
                return f"turned away: {greeting}"
            failed = await self._shake_hands()
            if failed:
                return failed
            self._begin_anonymous()
        self._hear_early_talker()
        if self._hooked.connects and greeting.is_positive:
            verdict = await self._hooked.connect(self._as_client())
            greeting = greeting if isinstance(verdict, Unturned) else self._refuse("connection", verdict)
        self._smtp.greet(greeting)
        return await self._converse()

    async def _shake_hands(self) -> str:
        """Take the connection into TLS. The reason of the end, where that failed."""
        context = self._door.context()
        if isinstance(context, NoCertificate):
            self._stream.abort()
            return "no certificate could be read for TLS"
        within = self._house.settings.handshake
        shaken = await self._stream.accept_tls(context, within, implicit=self._door.implicit_tls)
        with _UNHEARD:
            self._house.log.handshake(self._stream.peer, self._door.name, shaken)
        if isinstance(shaken, Fault):
            return f"TLS handshake: {shaken}"
        self._tls = shaken
        self._since = self._house.clock.monotonic()
        return ""

    async def _start_tls(self) -> str:
        """What 220 to STARTTLS promised; all that the client said in clear is forgotten (RFC 3207 §4.2)."""
        self._say()
        failed = await self._shake_hands()
        if not failed:
            self._smtp.tls_started()
            self._hello = Hello("HELO", "")
            self._begin_anonymous()
        return failed

    def _begin_anonymous(self) -> None:
        """Nobody has authenticated on this connection as it is now; offer what is safe on it."""
        house, peer = self._house, self._stream.peer
        self._login = Login(self._door.smtp.mechanisms, house.logins, house.log, peer, client_key(peer.host))
        self._login.client = self._guest.client
        tls = self._tls
        self._smtp.permit_auth(self._login.permitted(tls))

    def adopt(self, house: House) -> None:
        """Go on by these rules. What this session has counted must be counted in the same places there."""
        self._house = house
        self._trust = _NO_BODY

    def leave(self) -> None:
        """End soon: at once where nothing is under way, else after this transaction (RFC 5321 §3.8)."""
        self._leaving = True
        between = self._listening and self._transaction is _NO_TRANSACTION
        if between and isinstance(self._task, asyncio.Task):
            self._task.cancel()

    def retire(self) -> None:
        """Leave, because the session is old; a transaction that takes longer than any body may is cut off."""
        self._parting = _TOO_OLD
        self.leave()
        if isinstance(self._task, asyncio.Task):
            limit = self._house.settings.body_total.total_seconds()
            self._last_call = asyncio.get_running_loop().call_later(limit, self._task.cancel)

    # ---- the dialogue
    async def _converse(self) -> str:
        """The reason of the end."""
        self._due = self._advance()
        while True:
            due = self._due
            match due:
                case NeedOctets():
                    ended = await self._exchange()
                    if ended:
                        return ended
                    continue
                case Auth() | AuthResponse():
                    await self._authenticate(due)
                case Etrn():
                    await self._start_queue(due)
                case Mail():
                    await self._ask_mail(due)
                case Atrn():
                    await self._turn_round(due)
                case Turned():
                    return await self._hand_over_connection()
                case Xclient():
                    await self._stand_for(due)
                case Rcpt():
                    await self._look_up(due)
                case TlsGranted():
                    failed = await self._start_tls()
                    if failed:
                        return failed
                case DataChunk():
                    await self._spill()
                case DataEnd():
                    await self._end_of_data(due)
                case TransactionReset():
                    await self._forget()
                case Closing(reason):
                    self._say()
                    await self._stream.flush(self._house.settings.reply)
                    self._was_heard()
                    await self._stream.close(Speaks.NO if due.is_asked else Speaks.YES)
                    return reason
                case _:
                    assert_never(due)
            self._due = self._advance()

    def _advance(self) -> _Due:
        """Do all that can be done at once; the first thing that cannot."""
        while True:
            event = self._smtp.next_event()
            match event:  # what comes most often is asked for first
                case NeedOctets():
                    return event
                case Mail() if self._hooked.mails or self._house.gate.watches:
                    return event
                case Rcpt(path) if (
                    self._hooked.recipients or self._house.gate.watches or self._house.admission.asks(path)
                ):
                    return event
                case Mail() | Rcpt() | DataStart() | Hello():
                    self._smtp.reply(self._answer(event))
                case StartTls():
                    self._smtp.reply(NO_TLS_NOW if isinstance(self._door.context(), NoCertificate) else BEGIN_TLS)
                case Refused(line, reply):
                    self._refuse(line, reply)
                case DataChunk(octets):
                    if self._gather(octets):
                        return event
                case DataEnd() | Closing() | TransactionReset() | Auth() | AuthResponse() | TlsGranted():
                    return event
                case Etrn() | Atrn() | Turned() | Xclient():
                    return event
                case _:
                    assert_never(event)

    def _hear(self, octets: bytes) -> timedelta:
        """Take what came, and answer it. How long the client has for more; no time, where `_converse` is to go on."""
        self._smtp.receive(octets)
        self._was_heard()
        self._due = self._advance()
        return self._say() if isinstance(self._due, NeedOctets) else _NO_TIME

    def _say(self) -> timedelta:
        """Say what is due. How long the client has from now on."""
        octets = self._smtp.octets_to_send()
        if not octets:
            return self._time_left()
        self._stream.write(octets)
        self._since = self._house.clock.monotonic()
        limits = self._house.settings
        return limits.command if self._incoming is _NO_BODY else limits.body_block

    async def _exchange(self) -> str:
        """Say what is due, then listen until something is due that takes a wait. The reason, where it ended instead."""
        within = self._say()
        unsaid = await self._stream.flush(self._house.settings.reply)
        if isinstance(unsaid, Fault):
            return await self._lost(unsaid)
        if self._leaving and self._transaction is _NO_TRANSACTION:
            return await self._say_goodbye()
        if within <= _NO_TIME:
            return await self._give_up()
        self._listening = True
        try:
            heard = await self._stream.listen(self._hear, within)
        except asyncio.CancelledError:
            if not self._leaving or isinstance(self._task, _NoBody) or self._task.uncancel():
                raise
            return await self._say_goodbye()
        finally:
            self._listening = False
        if isinstance(heard, Flushed):
            return ""
        return await (self._give_up() if heard.kind is FaultKind.TIMED_OUT else self._lost(heard))

    def _time_left(self) -> timedelta:
        """How long it may yet take: for the whole of a command, or the next piece of a body that is not too slow."""
        limits = self._house.settings
        taken = timedelta(seconds=self._house.clock.monotonic() - self._since)
        if isinstance(self._incoming, _NoBody):
            return limits.command - taken
        earned = timedelta(seconds=self._incoming.body.size / limits.body_rate)
        return min(limits.body_block, limits.body_block + earned - taken, limits.body_total - taken)

    async def _give_up(self) -> str:
        what = "command" if isinstance(self._incoming, _NoBody) else "body"
        reply = Reply.of(421, "4.4.2", f"{self._door.smtp.hostname} waited too long for the {what}; closing")
        await self._cut_off(reply)
        return f"timed out in the {what}"

    async def _say_goodbye(self) -> str:
        await self._cut_off(
            Reply.of(421, "4.3.2", f"{self._door.smtp.hostname} {self._parting.words}"),
        )
        return self._parting.reason

    async def _cut_off(self, reply: Reply) -> None:
        self._smtp.say_goodbye(reply)
        self._stream.write(self._smtp.octets_to_send())
        await self._stream.flush(_LAST_WORDS)
        await self._stream.close(Speaks.PERHAPS if self._incoming is _NO_BODY else Speaks.YES)

    async def _lost(self, fault: Fault) -> str:
        if fault.kind is FaultKind.CLOSED:
            await self._stream.close()  # a client that only stopped talking still hears the reply it waits for
        else:
            self._stream.abort()
        return str(fault)

    def _hear_early_talker(self) -> None:
        """A client that speaks before the banner shows now; the engine refuses it (RFC 5321 §3.1)."""
        early = self._stream.pending()
        if isinstance(early, bytes):
            self._smtp.receive(early)

    # ---- commands
    def _answer(self, event: _Asking) -> Reply:
        try:
            match event:
                case Rcpt():
                    return self._rcpt(event)
                case Mail():
                    return self._mail(event)
                case DataStart():
                    return self._data()
                case Hello():
                    self._hello = event
                    return self._smtp.hello_reply(self._house.clock.now())
                case _:
                    assert_never(event)
        except Exception as error:  # noqa: BLE001 - a bug of ours is a 4yz to one command, and no more
            self._trouble(type(event).__name__, error)
            return LOCAL_ERROR

    async def _authenticate(self, event: Auth | AuthResponse) -> None:
        try:
            answer = await self._login.answer(event)
        except Exception as error:  # noqa: BLE001 - as in `_answer`
            self._trouble("AUTH", error)
            answer = LOCAL_ERROR
        if isinstance(answer, Challenge):
            self._smtp.challenge(answer.octets)
        else:
            self._smtp.reply(answer)

    async def _start_queue(self, etrn: Etrn) -> None:
        try:
            reply = await self._house.turns.start(etrn.name) if self._trusted() else NODE_NOT_ALLOWED
        except Exception as error:  # noqa: BLE001 - as in `_answer`
            self._trouble("ETRN", error)
            reply = LOCAL_ERROR
        self._smtp.reply(reply)

    async def _turn_round(self, atrn: Atrn) -> None:
        """Whether there is mail for this account to be had over its own connection (RFC 2645 §5.2)."""
        try:
            called = await self._house.turns.call(self._login.client.name, atrn.domains)
        except Exception as error:  # noqa: BLE001 - as in `_answer`
            self._trouble("ATRN", error)
            called = LOCAL_ERROR
        if isinstance(called, Reply):
            self._smtp.reply(self._refuse("ATRN", called))
        else:
            self._call = called
            self._smtp.reply(TURNED_ROUND)

    async def _hand_over_connection(self) -> str:
        """From here on we are the client; the reason of the end."""
        self._say()
        unsaid = await self._stream.flush(self._house.settings.reply)
        if isinstance(unsaid, Fault):
            return await self._lost(unsaid)
        return await self._call.over(self._stream)

    async def _stand_for(self, xclient: Xclient) -> None:
        """Take the session for that of whom a trusted client names."""
        try:
            reply = await self._named_by(xclient)
        except Exception as error:  # noqa: BLE001 - as in `_answer`
            self._trouble("XCLIENT", error)
            reply = LOCAL_ERROR
        self._smtp.reply(reply)

    async def _named_by(self, xclient: Xclient) -> Reply:
        house, peer = self._house, self._stream.peer
        account: Account | NotKnown | CannotTell = NotKnown("")
        if xclient.login:
            account = await house.logins.vouched(xclient.login)
            if isinstance(account, CannotTell):
                self._trouble("XCLIENT", OSError(account.why))
                return LOCAL_ERROR
            if isinstance(account, NotKnown):
                return self._refuse("XCLIENT", NO_SUCH_ACCOUNT)
        if xclient.address:
            self._stream.stand_for(Endpoint(xclient.address, xclient.port), b"")
            if not house.access.of(xclient.address).accepts:
                return self._refuse("XCLIENT", NOT_SERVED)
        self._trust, self._hello = _NO_BODY, Hello("HELO", "")
        self._begin_anonymous()
        if isinstance(account, Account):
            self._login.client = account
            house.log.logged_in(self._stream.peer, account.name, f"XCLIENT from {peer.host}")
        return Reply(220, (f"{self._door.smtp.hostname} ESMTP",))

    def _mail(self, mail: Mail) -> Reply:
        refusal = self._refusal_of(mail.reverse_path)
        if isinstance(refusal, Reply):
            return refusal if refusal.code == 421 else self._refuse(f"MAIL FROM:<{mail.reverse_path}>", refusal)
        parameters = believed(mail.parameters, self._login.client)
        now = self._house.clock.now()
        released_at = release_of(parameters, now)
        if released_at > now + self._door.smtp.future_release.total_seconds():
            return self._refuse(f"MAIL FROM:<{mail.reverse_path}>", HELD_TOO_LONG)
        if (
            parameters.by
            and by_of(parameters.by).mode is ByMode.RETURN
            and released_at >= now + by_of(parameters.by).seconds
        ):
            return self._refuse(f"MAIL FROM:<{mail.reverse_path}>", LATE_ALREADY)
        if parameters.prdr:  # a matter of this session alone
            parameters = replace(parameters, prdr=False)
        lowered = parameters.priority > 0 and not self._trusted()
        if lowered:
            parameters = replace(parameters, priority=0)
        self._transaction = _Transaction(mail.reverse_path, parameters, [], released_at=released_at)
        return LOWERED if lowered else OK_MAIL

    def _refusal_of(self, path: ReversePath) -> Reply | _NoBody:
        """Why this client may send nothing now, or not under this reverse-path."""
        client, door = self._login.client, self._door
        if self._messages >= (door.messages or self._house.settings.messages):
            return TOO_MANY_MESSAGES
        if door.demands_login and isinstance(client, Anonymous):
            return LOGIN_FIRST
        if not isinstance(client, Anonymous) and not client.may_use(path):
            return not_yours(client.name, path)
        if door.relay_clients_only and not self._trusted():
            return RELAY_CLIENTS_ONLY
        if self._is_blocked(path) and not self._house.senders.quarantine:
            return refusal_of(path)
        return SPOOL_FULL if self._house.space.is_low else _NO_BODY

    def _is_blocked(self, path: ReversePath) -> bool:
        senders = self._house.senders
        return bool(senders.blocks) and isinstance(senders.of(path), SenderBlock)

    def _rcpt(self, rcpt: Rcpt) -> Reply:
        return self._admitted(
            rcpt.forward_path,
            self._house.admission.at_once(
                rcpt.forward_path,
                rcpt.parameters,
                trusted=self._trusted(),
                reverse_path=self._transaction.reverse_path,
                account=self._login.client.name,
            ),
        )

    async def _look_up(self, rcpt: Rcpt) -> None:
        """Answer a recipient of a domain of ours: who it stands for is asked of maps, each with its time-out."""
        try:
            self._smtp.reply(await (self._screened(rcpt) if self._house.gate.watches else self._asked(rcpt)))
        except Exception as error:  # noqa: BLE001 - as in `_answer`
            self._trouble("Rcpt", error)
            self._smtp.reply(LOCAL_ERROR)

    async def _judged(self, rcpt: Rcpt) -> Admitted:
        path, parameters, admission = rcpt.forward_path, rcpt.parameters, self._house.admission
        author = self._transaction.reverse_path
        if not self._hooked.recipients:
            return await admission.admit(
                path, parameters, trusted=self._trusted(), reverse_path=author, account=self._login.client.name
            )
        return await self._hooked.recipient(
            admission, self._as_client(), author, path, parameters, trusted=self._trusted()
        )

    async def _ask_mail(self, mail: Mail) -> None:
        """Answer MAIL where hooks or the gate have a say: in what we would take ourselves."""
        reply = self._answer(mail)
        try:
            if reply.is_positive:
                verdict = await self._opinion_of(mail)
                if isinstance(verdict, Reply) and not verdict.is_positive:
                    self._transaction = _NO_TRANSACTION
                    self._refuse(f"MAIL FROM:<{mail.reverse_path}>", verdict)
                reply = verdict if isinstance(verdict, Reply) else reply
        except Exception as error:  # noqa: BLE001 - as in `_answer`
            self._trouble("MAIL", error)
            self._transaction = _NO_TRANSACTION
            reply = LOCAL_ERROR
        self._smtp.reply(reply)

    async def _opinion_of(self, mail: Mail) -> Reply | Unturned | Unopposed:
        """What the gate says of MAIL, then what hooks do: what may begin at all counts for the rates."""
        if self._house.gate.watches and isinstance(opinion := await self._house.gate.sends(self._visitor()), Reply):
            return opinion
        if not self._hooked.mails:
            return UNOPPOSED
        return await self._hooked.mail(self._as_client(), mail.reverse_path, mail.parameters.size)

    def _as_client(self) -> HookClient:
        """The client, as hooks know him."""
        tls = str(self._tls) if isinstance(self._tls, TlsFacts) else ""
        name, account = self._hello.client_name, self._login.client.name
        return HookClient(self._stream.peer.host, name, account, tls, self._door.name)

    async def _asked(self, rcpt: Rcpt) -> Reply:
        return self._admitted(rcpt.forward_path, await self._judged(rcpt))

    # ---- the gate
    async def _screened(self, rcpt: Rcpt) -> Reply:
        """What a recipient is answered where there is a gate: a listed client learns of no recipient who exists."""
        path, gate, transaction = rcpt.forward_path, self._house.gate, self._transaction
        visitor, line = self._visitor(), f"RCPT TO:<{path}>"
        if not transaction.is_screened:
            transaction.screened, transaction.is_screened = await gate.screen(visitor, transaction.reverse_path), True
        if transaction.screened.action is Action.REFUSE and not is_postmaster(path):
            return self._refuse(line, not_wanted(transaction.screened, visitor.host))
        admitted = await self._judged(rcpt)
        if isinstance(admitted, Taken):
            opinion = await gate.names(visitor, transaction.reverse_path, path, transaction.screened)
            if isinstance(opinion, Reply):
                return self._refuse(line, opinion)
        return self._admitted(path, admitted)

    def _visitor(self) -> Visitor:
        return Visitor(
            self._stream.peer.host, self._hello.client_name, self._login.client.name, trusted=self._trusted()
        )

    def _admitted(self, path: ForwardPath, admitted: Admitted) -> Reply:
        match admitted:
            case Taken(destined, _, left_out, reply):
                size = self._transaction.parameters.size
                for one in destined:
                    if 0 < one.route.limits.size < size:
                        return self._refuse(f"RCPT TO:<{path}>", TOO_LARGE_FOR_ROUTE)
                if len(self._transaction.recipients) > MAX_RECIPIENTS:
                    return self._refuse(f"RCPT TO:<{path}>", TOO_MANY_RECIPIENTS)
                self._transaction.take(admitted)
                self._undecided(path, "; ".join(left_out))
                return reply
            case TurnedAway(reply, _, trouble):
                self._undecided(path, trouble)
                return self._refuse(f"RCPT TO:<{path}>", reply)
            case _:
                assert_never(admitted)

    def _data(self) -> Reply:
        house, hello, transaction, tls = self._house, self._hello, self._transaction, self._tls
        origin = Origin(
            self._door.protocol
            or protocol(
                hello.verb,
                smtputf8=transaction.parameters.smtputf8,
                secured=isinstance(tls, TlsFacts),
                authenticated=bool(self._login.client.name),
            ),
            self._stream.peer.host,
            hello.client_name,
            self._door.address,
            self._login.client.name,
            str(tls) if isinstance(tls, TlsFacts) else "",
            house.revision,
        )
        name = self._guest.id or house.ids.make()
        spill = house.in_flight.limit if self._hooked.data else house.settings.spill
        body = Body(house.storage, house.in_flight, spill=spill)
        hostname = self._door.smtp.hostname
        trace = received_line(
            origin,
            transaction.recipients,
            hostname=hostname,
            id=name,
            at=house.clock.now(),
            priority=transaction.parameters.priority,
        )
        if transaction.screened.action is Action.TAG:
            trace += field_of("X-Waypost-Lists", transaction.screened.words)
        body.add(trace)
        completion = (
            Completion(name, hostname, house.clock.now(), self._author()) if self._door.submission else _NO_BODY
        )
        self._incoming = _Incoming(name, origin, body, len(trace), _NO_BODY, completion)
        return SEND_BODY

    def _author(self) -> Author | NoAuthor:
        """Whose address is to stand in From."""
        client = self._login.client
        if isinstance(client, Anonymous):
            return NoAuthor()
        return Author(client, self._transaction.reverse_path, self._door.from_field)

    def _trusted(self) -> bool:
        """Whether this client may relay: by its account, else by where it comes from or what it connected to."""
        relay, host = self._house.relay, self._stream.peer.host
        relaying = self._door.relaying
        if relaying is not Relaying.AS_LISTED:
            return relaying is Relaying.ALWAYS and not relay.bars(host)
        if not isinstance(self._login.client, Anonymous):
            return not relay.bars(host)
        if isinstance(self._trust, _NoBody):
            self._trust = relay.trusts(host)
        return self._trust

    # ---- the message
    def _gather(self, octets: bytes) -> bool:
        """Keep a piece of the body, or read past it where the message is lost already. True: `_spill` is due."""
        incoming = self._incoming
        if isinstance(incoming, _NoBody):
            return False
        if isinstance(incoming.refusal, Reply):
            incoming.body.size += len(octets)  # the client's pace still counts
            return False
        if isinstance(incoming.completion, Completion):
            octets = incoming.completion.feed(octets)
        return incoming.body.add(octets)

    async def _spill(self) -> None:
        """Write what there is of the body to the spool; where that fails, the rest is read to its end all the same."""
        incoming = self._incoming
        if isinstance(incoming, _NoBody):
            return
        try:
            await incoming.body.spill()
        except StorageError as error:
            incoming.refusal = judge_fault(error.fault)
            self._trouble("spool", error)
        except Exception as error:  # noqa: BLE001 - as in `_answer`
            incoming.refusal = LOCAL_ERROR
            self._trouble("body", error)
        if isinstance(incoming.refusal, Reply):
            incoming.body.release()

    async def _end_of_data(self, end: DataEnd) -> None:
        try:
            reply = await self._stored(end)
        except Exception as error:  # noqa: BLE001 - whatever it was, the client keeps the message
            self._trouble("final dot", error)
            reply = LOCAL_ERROR
        await self._forget()
        for _ in range(end.replies):
            self._smtp.reply(reply)

    async def _stored(self, end: DataEnd) -> Reply:
        incoming = self._incoming
        if isinstance(incoming, _NoBody):
            return LOCAL_ERROR
        if isinstance(incoming.refusal, Reply):
            return self._refuse("final dot", incoming.refusal)
        if end.fault is not BodyFault.NONE:
            return self._refuse("final dot", judge_body(end.fault))
        try:
            if isinstance(incoming.completion, Completion):
                incoming.body.add(incoming.completion.finish())
                if isinstance(incoming.completion.authorship, Reply):
                    return self._refuse("final dot", incoming.completion.authorship)
            octets = await incoming.body.finish()
        except StorageError as error:
            self._trouble("spool", error)
            return self._refuse("final dot", judge_fault(error.fault))
        if incoming.body.hops > self._house.settings.hops:  # ours is one of them
            return self._refuse("final dot", LOOPING)
        return await (self._revised(incoming, octets) if self._hooked.data else self._commit(incoming, octets))

    async def _revised(self, incoming: _Incoming, octets: InMemory | Draft) -> Reply:
        """Show the message to hooks, and store what they make of it. It is whole in memory for that, or waits."""
        if not isinstance(octets, InMemory):
            return self._refuse("final dot", NO_MEMORY)
        transaction, trace = self._transaction, octets.octets[: incoming.trace]
        whole, recipients = octets.octets[incoming.trace :], tuple(transaction.recipients)
        found = await self._hooked.message(
            self._house.admission, self._as_client(), transaction.reverse_path, recipients, whole
        )
        if isinstance(found, Reply):
            return self._refuse("final dot", found)
        transaction.recipients = list(found.recipients)
        return await self._commit(incoming, InMemory(trace + found.octets))

    async def _commit(self, incoming: _Incoming, octets: InMemory | Draft) -> Reply:
        house, transaction = self._house, self._transaction
        envelope = Envelope(
            transaction.reverse_path,
            self._all_recipients(transaction),
            incoming.origin,
            transaction.parameters,
            transaction.released_at,
            held=self._quarantined(transaction),
            message_id=incoming.body.scan.message_id,
        )
        if incoming.body.scan.is_marked:
            envelope = self._marked(envelope, incoming.body.scan)
        sent = Sent(self._stream.peer.host, envelope, octets, incoming.trace)
        for name in house.resent.names(sent):
            return self._known(name)
        now = house.clock.now()
        until = now + CLAIM.total_seconds() if house.onward.wants() and not envelope.held else now
        match await self._uncancelled(envelope, octets, incoming.id, now, until):
            case Stored() as stored:
                self._messages += 1
                self._was_heard()  # of two messages in one segment only the last is remembered
                self._unheard = Unheard(sent, stored.id, house.in_flight)
                if envelope.held:
                    await self._set_aside(stored)
                await self._hand_over(envelope, stored, incoming.body.size)
                return _queued(stored.id)
            case StoreFault() as fault:
                self._trouble("spool", StorageError(fault))
                return self._refuse("final dot", judge_fault(fault))
            case other:
                assert_never(other)

    def _known(self, name: MessageId) -> Reply:
        """It was stored before, and its client did not hear of it: it is told again, and nothing is stored."""
        with _UNHEARD:
            self._house.log.resent(self._stream.peer, name)
        return _queued(name)

    def _was_heard(self) -> None:
        """A client that goes on has read our last 250."""
        if isinstance(self._unheard, Unheard):
            self._unheard.heard()
            self._unheard = _NO_BODY

    def _marked(self, envelope: Envelope, marks: HeaderScan) -> Envelope:
        """With what the header asks for: TLS-Required (RFC 8689 §3), and the priority of a client that we trust."""
        parameters = envelope.parameters
        if not parameters.priority and marks.priority and (marks.priority < 0 or self._trusted()):
            parameters = replace(parameters, priority=marks.priority)
        return replace(envelope, parameters=parameters, tls_optional=marks.tls_optional)

    async def _set_aside(self, stored: Stored) -> None:
        """Remember which messages are in quarantine: in the queue they are held among others."""
        try:
            await self._house.storage.keep(QUARANTINED, stored.id, b"", until=FOR_EVER)
        except StorageError as error:
            self._trouble("quarantine", error)

    def _quarantined(self, transaction: _Transaction) -> str:
        """Why the message is held in quarantine; "" where it is not."""
        if transaction.screened.action is Action.QUARANTINE:
            return f"{QUARANTINE}{transaction.screened.words} ({transaction.screened.place})"
        senders = self._house.senders
        if senders.quarantine == HELD_BACK and self._is_blocked(transaction.reverse_path):
            return f"{QUARANTINE}mail from <{transaction.reverse_path}> is blocked"
        return ""

    def _all_recipients(self, transaction: _Transaction) -> tuple[Recipient, ...]:
        """The recipients and the copies; or, where the reverse-path is blocked, all of them in quarantine."""
        house, recipients = self._house, tuple(transaction.recipients)
        if self._is_blocked(transaction.reverse_path) and house.senders.quarantine != HELD_BACK:
            return house.admission.aside(recipients, house.senders.quarantine)
        if not house.copies.copies:
            return recipients
        copies = house.copies.of(transaction.reverse_path, [each.forward_path for each in recipients])
        return (*recipients, *house.admission.copied([copy.to for copy in copies]))

    async def _uncancelled(
        self, envelope: Envelope, octets: InMemory | Draft, name: MessageId, now: float, until: float
    ) -> Stored | StoreFault:
        """The storage's answer, waited for though we are told to end: the client is to hear what became of it."""
        loop = asyncio.get_running_loop()
        storing = loop.create_task(self._house.storage.accept(envelope, octets, id=name, now=now, claim_until=until))
        while not storing.done():
            # What is cancelled is our waiting for this, never the storing.
            told: asyncio.Future[None] = loop.create_future()
            storing.add_done_callback(partial(_wake, told))
            try:
                await told
            except asyncio.CancelledError:
                self._leaving = True
        if self._leaving and isinstance(self._task, asyncio.Task) and not storing.cancelled():
            while self._task.cancelling():
                self._task.uncancel()
        return storing.result()

    async def _hand_over(self, envelope: Envelope, stored: Stored, size: int) -> None:
        """Tell of a message that is safe. Nothing that goes wrong here changes the 250 it has earned."""
        try:
            self._house.log.accepted(self._stream.peer, stored.id, envelope, size)
            if stored.leases:
                self._house.onward.take(stored.leases)
        except Exception as error:  # noqa: BLE001 - see above
            self._trouble("hand-over", error)
            if stored.leases:
                await self._house.storage.release(stored.leases)

    # ---- ends
    async def _forget(self) -> None:
        """Let go of the transaction, and of the body where one was begun."""
        self._transaction = _NO_TRANSACTION
        incoming, self._incoming = self._incoming, _NO_BODY
        if isinstance(incoming, _Incoming):
            try:
                await incoming.body.discard()
            except Exception as error:  # noqa: BLE001 - a draft left behind is swept at the next start
                self._trouble("draft", error)

    def _trouble(self, what: str, error: Exception) -> None:
        with _UNHEARD:
            self._house.log.trouble(self._stream.peer, what, error)

    def _undecided(self, path: ForwardPath, trouble: str) -> None:
        if trouble:
            with _UNHEARD:
                self._house.log.undecided(self._stream.peer, str(path), trouble)

    def _refuse(self, line: str, reply: Reply) -> Reply:
        with _UNHEARD:
            self._house.log.refused(self._stream.peer, line, reply)
        return reply


def believed(parameters: MailParameters, client: Client) -> MailParameters:
    """The parameters, without an AUTH= that this client may not assert: as if it had said `<>` (RFC 4954 §5)."""
    submitter = parameters.submitter
    if submitter in ("", "<>"):
        return parameters
    try:
        if isinstance(client, Account) and client.may_use(parse_mailbox(submitter)):
            return parameters
    except PathError:
        pass  # no mailbox at all, and so nobody's
    return replace(parameters, submitter="<>")


def _queued(name: MessageId) -> Reply:
    return Reply(250, (f"2.0.0 Ok: queued as {name}",))


def _wake(told: asyncio.Future[None], _: asyncio.Task[Stored | StoreFault]) -> None:
    if not told.done():
        told.set_result(None)
