"""One client's session: reads, lets the engine say what it means, judges, stores, replies.

A coroutine a connection (`_converse`) does what takes a wait: storing, spilling, closing. While it listens, what can be
answered at once is answered as it comes (`_hear`): most commands cost no switch of tasks.

An error of ours is a 4yz to one command, and the session goes on (RFC 5321 §4.1.1.4).

Not here: what a line means (waypost.smtp.server), who may send what (transactions.py), the message and the 250 that
promises it (incoming.py), or what is known of the client (client.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import Final, NamedTuple, TypeAlias, assert_never

from waypost.auth.account import Account
from waypost.auth.authenticator import CannotTell, NotKnown
from waypost.auth.exchange import Challenge
from waypost.net.certificates import NoCertificate
from waypost.net.stream import Endpoint, Fault, FaultKind, Flushed, Speaks, Stream
from waypost.net.tls import IN_CLEAR, TlsFacts, TlsState
from waypost.policy.admission import RelayPolicy
from waypost.policy.hooked import Unturned
from waypost.receive.client import ConnectedClient
from waypost.receive.house import House
from waypost.receive.judge import (
    BEGIN_TLS,
    LOCAL_ERROR,
    NO_SUCH_ACCOUNT,
    NO_TLS_NOW,
    NOT_SERVED,
    TURNED_ROUND,
)
from waypost.receive.login import STRANGER, Guest
from waypost.receive.settings import Door
from waypost.receive.transactions import Transactions
from waypost.receive.turns import NO_CALL, NODE_NOT_ALLOWED, Call
from waypost.smtp.command import Atrn, Auth, Etrn, Hello, Mail, Rcpt, Xclient
from waypost.smtp.event import (
    AuthResponse,
    Closing,
    DataChunk,
    DataEnd,
    DataStart,
    NeedOctets,
    Refused,
    StartTls,
    TlsGranted,
    TransactionReset,
    Turned,
)
from waypost.smtp.reply import Reply
from waypost.smtp.server import ServerSession


class _Parting(NamedTuple):
    """Why a session is ended from our side: as the client hears it, behind our name, and as the log does."""

    words: str
    reason: str


_SHUTTING_DOWN: Final = _Parting("is shutting down; try again later", "shutting down")
_TOO_OLD: Final = _Parting("has served this session for long enough; try again later", "the session was too old")
#: What is left to say to a client that is being cut off: long enough for one segment, whoever it is.
_LAST_WORDS: Final = timedelta(seconds=5)
#: What a log raises: it costs no mail, and there is nobody else to tell.
_UNHEARD: Final = suppress(Exception)
_NO_TIME: Final = timedelta()
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
        self._door = door
        self._house = house
        self._client = ConnectedClient(stream, door, house, guest, tls)
        self._transactions = Transactions(self._client)
        self._smtp = ServerSession(door.smtp, secured=door.implicit_tls or isinstance(tls, TlsFacts))
        self._smtp.permit_auth(self._client.login.permitted(tls))
        if door.xclient and RelayPolicy(door.xclient).trusts(stream.peer.host):
            self._smtp.permit_xclient()
        self._call: Call = NO_CALL
        self._since = 0.0  # when we last said something: what the client is timed from
        self._leaving = False
        self._parting = _SHUTTING_DOWN
        self._last_call: tuple[asyncio.TimerHandle, ...] = ()  # at most one
        self._due: _Due = NeedOctets()
        self._listening = False
        self._task: tuple[asyncio.Task[object], ...] = ()  # the one that runs it, once it does

    async def run(self, greeting: Reply) -> None:
        """Greet (220, or 421/554 to turn the client away), then serve until the end."""
        task = asyncio.current_task()
        self._task = (task,) if task else ()
        reason = "an error of ours"
        try:
            with _UNHEARD:
                self._house.log.connected(self._client.peer, self._door.name)
            reason = await self._serve(greeting)
        except asyncio.CancelledError:
            reason = "cut off"
            await self._cut_off(Reply.of(421, "4.3.2", f"{self._door.smtp.hostname} {self._parting.words}"))
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours ends one session, never the listener
            self._client.trouble("session", error)
            await self._cut_off(Reply.of(421, "4.3.0", "local error in processing; try again later"))
        finally:
            for last_call in self._last_call:
                last_call.cancel()
            await self._transactions.close()
            with _UNHEARD:
                self._house.log.ended(self._client.peer, reason, self._transactions.messages)

    async def _serve(self, greeting: Reply) -> str:
        """The reason of the end."""
        if self._door.implicit_tls and not isinstance(self._client.tls, TlsFacts):
            if not greeting.is_positive:  # no handshake for whom there is no room: that is most of what he costs
                self._stream.abort()
                return f"turned away: {greeting}"
            failed = await self._shake_hands()
            if failed:
                return failed
            self._smtp.permit_auth(self._client.begin_anew())
        self._hear_early_talker()
        if self._client.hooked.connects and greeting.is_positive:
            verdict = await self._client.hooked.connect(self._client.as_client())
            greeting = greeting if isinstance(verdict, Unturned) else self._client.refuse("connection", verdict)
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
            self._house.log.handshake(self._client.peer, self._door.name, shaken)
        if isinstance(shaken, Fault):
            return f"TLS handshake: {shaken}"
        self._client.tls = shaken
        self._since = self._house.clock.monotonic()
        return ""

    async def _start_tls(self) -> str:
        """What 220 to STARTTLS promised; all that the client said in clear is forgotten (RFC 3207 §4.2)."""
        self._say()
        failed = await self._shake_hands()
        if not failed:
            self._smtp.tls_started()
            self._smtp.permit_auth(self._client.begin_anew())
        return failed

    def adopt(self, house: House) -> None:
        """Go on by these rules. What this session has counted must be counted in the same places there."""
        self._house = house
        self._client.adopt(house)

    def leave(self) -> None:
        """End soon: at once where nothing is under way, else after this transaction (RFC 5321 §3.8)."""
        self._leaving = True
        if self._listening and not self._transactions.is_open:
            for task in self._task:
                task.cancel()

    def retire(self) -> None:
        """Leave, because the session is old; a transaction that takes longer than any body may is cut off."""
        self._parting = _TOO_OLD
        self.leave()
        limit = self._house.settings.body_total.total_seconds()
        loop = asyncio.get_running_loop()
        self._last_call = tuple(loop.call_later(limit, task.cancel) for task in self._task)

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
                    await self._reply_to("ETRN", self._start_queue(due))
                case Mail():
                    await self._reply_to("MAIL", self._transactions.consider_mail(due))
                case Atrn():
                    await self._reply_to("ATRN", self._turn_round(due))
                case Turned():
                    return await self._hand_over_connection()
                case Xclient():
                    await self._reply_to("XCLIENT", self._named_by(due))
                case Rcpt():
                    await self._reply_to("RCPT", self._transactions.consider_rcpt(due))
                case TlsGranted():
                    failed = await self._start_tls()
                    if failed:
                        return failed
                case DataChunk():
                    await self._transactions.spill()
                case DataEnd():
                    await self._reply_to("final dot", self._transactions.end(due), due.replies)
                    self._leaving = self._leaving or self._transactions.told_to_leave
                case TransactionReset():
                    await self._transactions.forget()
                case Closing(reason):
                    self._say()
                    await self._stream.flush(self._house.settings.reply)
                    self._transactions.was_heard()
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
                case Mail() if self._client.hooked.mails or self._house.gate.watches:
                    return event
                case Rcpt(path) if (
                    self._client.hooked.recipients or self._house.gate.watches or self._house.admission.asks(path)
                ):
                    return event
                case Mail() | Rcpt() | DataStart() | Hello():
                    self._smtp.reply(self._answer(event))
                case StartTls():
                    self._smtp.reply(NO_TLS_NOW if isinstance(self._door.context(), NoCertificate) else BEGIN_TLS)
                case Refused(line, reply):
                    self._client.refuse(line, reply)
                case DataChunk(octets):
                    if self._transactions.gather(octets):
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
        self._transactions.was_heard()
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
        return limits.body_block if self._transactions.reads_body else limits.command

    async def _exchange(self) -> str:
        """Say what is due, then listen until something is due that takes a wait. The reason, where it ended instead."""
        within = self._say()
        unsaid = await self._stream.flush(self._house.settings.reply)
        if isinstance(unsaid, Fault):
            return await self._lost(unsaid)
        if self._leaving and not self._transactions.is_open:
            return await self._say_goodbye()
        if within <= _NO_TIME:
            return await self._give_up()
        self._listening = True
        try:
            heard = await self._stream.listen(self._hear, within)
        except asyncio.CancelledError:
            if not self._leaving or any(task.uncancel() for task in self._task):
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
        if not self._transactions.reads_body:
            return limits.command - taken
        earned = timedelta(seconds=self._transactions.body_size / limits.body_rate)
        return min(limits.body_block, limits.body_block + earned - taken, limits.body_total - taken)

    async def _give_up(self) -> str:
        what = "body" if self._transactions.reads_body else "command"
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
        await self._stream.close(Speaks.YES if self._transactions.reads_body else Speaks.PERHAPS)

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
                    return self._transactions.rcpt(event)
                case Mail():
                    return self._transactions.mail(event)
                case DataStart():
                    return self._transactions.data()
                case Hello():
                    self._client.hello = event
                    return self._smtp.hello_reply(self._house.clock.now())
                case _:
                    assert_never(event)
        except Exception as error:  # noqa: BLE001 - a bug of ours is a 4yz to one command, and no more
            self._client.trouble(type(event).__name__, error)
            return LOCAL_ERROR

    async def _authenticate(self, event: Auth | AuthResponse) -> None:
        try:
            answer = await self._client.login.answer(event)
        except Exception as error:  # noqa: BLE001 - as in `_answer`
            self._client.trouble("AUTH", error)
            answer = LOCAL_ERROR
        if isinstance(answer, Challenge):
            self._smtp.challenge(answer.octets)
        else:
            self._smtp.reply(answer)

    async def _reply_to(self, what: str, answer: Awaitable[Reply], replies: int = 1) -> None:
        """Say it. A bug of ours is a 4yz to one command, and no more: whatever it was, the client keeps its mail."""
        try:
            reply = await answer
        except Exception as error:  # noqa: BLE001 - see above
            self._client.trouble(what, error)
            reply = LOCAL_ERROR
        for _ in range(replies):
            self._smtp.reply(reply)

    async def _start_queue(self, etrn: Etrn) -> Reply:
        return await self._house.turns.start(etrn.name) if self._client.trusted() else NODE_NOT_ALLOWED

    async def _turn_round(self, atrn: Atrn) -> Reply:
        """Whether there is mail for this account to be had over its own connection (RFC 2645 §5.2)."""
        called = await self._house.turns.call(self._client.account, atrn.domains)
        if isinstance(called, Reply):
            return self._client.refuse("ATRN", called)
        self._call = called
        return TURNED_ROUND

    async def _hand_over_connection(self) -> str:
        """From here on we are the client; the reason of the end."""
        self._say()
        unsaid = await self._stream.flush(self._house.settings.reply)
        if isinstance(unsaid, Fault):
            return await self._lost(unsaid)
        return await self._call.over(self._stream)

    async def _named_by(self, xclient: Xclient) -> Reply:
        """Take the session for that of whom a trusted client names."""
        house, peer = self._house, self._client.peer
        account: Account | NotKnown | CannotTell = NotKnown("")
        if xclient.login:
            account = await house.logins.vouched(xclient.login)
            if isinstance(account, CannotTell):
                self._client.trouble("XCLIENT", OSError(account.why))
                return LOCAL_ERROR
            if isinstance(account, NotKnown):
                return self._client.refuse("XCLIENT", NO_SUCH_ACCOUNT)
        if xclient.address:
            self._client.stand_for(Endpoint(xclient.address, xclient.port))
            if not house.access.of(xclient.address).accepts:
                return self._client.refuse("XCLIENT", NOT_SERVED)
        self._smtp.permit_auth(self._client.begin_anew())
        if isinstance(account, Account):
            self._client.login.client = account
            house.log.logged_in(self._client.peer, account.name, f"XCLIENT from {peer.host}")
        return Reply(220, (f"{self._door.smtp.hostname} ESMTP",))
