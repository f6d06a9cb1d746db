"""The client's side of a session: the opening (greeting, EHLO or HELO, STARTTLS, AUTH) and transactions.

Octets in through `receive`, which returns the events they complete; octets out through `octets_to_send`. `awaiting`
tells which reply is due, and so which time-out. What a reply leads to is read off the tables of stage.py.

    session = ClientSession("us.example.net")
    write octets_to_send(); read; events = receive(...)     until Opened, OpeningRefused, HandshakeDue ...
    session.begin(transaction)                              then the same until DataAnswered or TransactionEnded
    write send_body(...) ...; write end_body(); read ...    until TransactionEnded
    session.begin(...) again, or session.quit()

Replies in step: a reply counts only for a command that was handed out before its first octet came. Any other was asked
for by nobody; taking it for the next command's answer would credit one recipient with another's fate, or a message with
a delivery that never was. It ends the session.

A body that is to go as it is, binary or large, goes in one chunk (BDAT … LAST, RFC 3030) where the transaction says so;
its end is where else the final dot is.

In doubt: from `end_body()` on, and only then, `awaiting` is DOT. A loss before it is surely no delivery.

Not here: time-outs, TLS itself, reconnecting with HELO after a lost EHLO (the caller opens a new session with
`Opening.HELO_FIRST`), and what becomes of the message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from waypost.smtp.body import ChunkSender, DotStuffer
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.event import (
    ChunkDue,
    ClientEvent,
    HandshakeDue,
    Opened,
    OpeningRefused,
    PeerClosing,
    TransactionEnded,
    Violation,
)
from waypost.smtp.extension import Extensions, read_extensions
from waypost.smtp.framing import INCOMPLETE, BadReply, ReplyReader
from waypost.smtp.login import CANCEL, NO_CREDENTIALS, Credentials, Login, Mechanisms, NoCredentials, by_password
from waypost.smtp.reply import Reply
from waypost.smtp.stage import (
    OPENING_ESMTP,
    OPENING_LMTP,
    TRANSACTION,
    Opening,
    Stage,
    Tls,
    Verdict,
    after,
    can_answer,
    opening_table,
)
from waypost.smtp.transaction import ALL, ANALYSIS, GROUP_COMMANDS, LONE_DOT, Command, Progress, Transaction
from waypost.smtp.xtext import encode_xtext

#: Lines said and replies heard that are kept for a caller who does not fetch them.
KEPT: Final = 1000
#: What XCLIENT tells: names of attributes in upper case, with their values, in order.
Attributes: TypeAlias = tuple[tuple[str, str], ...]


class ClientSession:
    """One session with one host, from its greeting to QUIT, over any number of transactions."""

    _login: Login  # of Stage.AUTH
    _body: DotStuffer | ChunkSender  # of Stage.BODY

    def __init__(
        self,
        hello_name: str,
        *,
        opening: Opening = Opening.EHLO_THEN_HELO,
        tls: Tls = Tls.NEVER,
        credentials: Credentials | NoCredentials = NO_CREDENTIALS,
        mechanisms: Callable[[Credentials], Mechanisms] = by_password,
        client: Attributes = (),
    ) -> None:
        """`client`: whose mail it is, for a host that takes XCLIENT: attributes with their values, each not empty."""
        self._hello_name = hello_name
        self._client = client
        self._lmtp = opening is Opening.LHLO
        self._tls = tls
        self._credentials = credentials
        self._table = opening_table(opening, tls, credentials)
        self._stage = Stage.GREETING
        self._extensions = Extensions()
        self._mechanisms_of = mechanisms
        self._reader = ReplyReader()
        self._early = False  # part of a reply had come before the command was said that it might seem to answer
        self._out: list[str] = []
        self._said: deque[str] = deque(maxlen=KEPT)
        self._heard: deque[Reply] = deque(maxlen=KEPT)
        self._due: deque[Command] = deque()  # whose replies are outstanding, in order
        self._progress = Progress()  # of the transaction

    # ---- what a caller may ask

    @property
    def awaiting(self) -> Stage:
        """Whose reply is due (or READY, BODY, CLOSED)."""
        return self._due[0][0] if self._due else self._stage

    @property
    def extensions(self) -> Extensions:
        """What the last EHLO offered."""
        return self._extensions

    def said(self) -> Sequence[str]:
        """The commands queued since this was last asked, for a transcript; what AUTH carries is left out."""
        lines = list(self._said)
        self._said.clear()
        return lines

    def heard(self) -> Sequence[Reply]:
        """The replies received since this was last asked, for a transcript."""
        replies = list(self._heard)
        self._heard.clear()
        return replies

    # ---- what a caller does

    def receive(self, octets: bytes) -> Sequence[ClientEvent]:
        """The events that `octets`, in any segmentation, complete. Never raises: a bad peer is a Violation."""
        events: list[ClientEvent] = []
        self._reader.feed(octets)
        while self._stage is not Stage.CLOSED:
            read = self._reader.next_reply()
            if read is INCOMPLETE:
                break
            if isinstance(read, BadReply):
                self._violation(read.detail, read.heard, events)
            else:
                self._heard.append(read)
                self._take(read, events)
        if self._stage is Stage.HANDSHAKE and self._reader.pending:
            self._violation("octets in clear where the TLS handshake is due", "", events)
        return events

    def tls_started(self) -> None:
        """The handshake is done: forget all the peer said before it (RFC 3207 §4.2), say EHLO again.

        Raises: LocalProtocolError, unless HandshakeDue was the last event.
        """
        self._require(Stage.HANDSHAKE)
        self._tls = Tls.ALREADY
        self._extensions = Extensions()
        self._table = OPENING_LMTP if self._lmtp else OPENING_ESMTP
        self._enter(Stage.LHLO if self._lmtp else Stage.EHLO)

    def begin(self, transaction: Transaction) -> None:
        """Say MAIL; with PIPELINING also every RCPT and DATA at once (RFC 2920). Only at READY.

        More than GROUP_COMMANDS or GROUP_OCTETS go in several groups, each after the replies to the last.

        Raises: LocalProtocolError, where an address is not ASCII and the peer has no SMTPUTF8 (RFC 6531 §3.2 forbids
        it). That the message itself may need SMTPUTF8 or 8BITMIME is the caller's to judge, by `extensions`.
        """
        self._require(Stage.READY)
        offered = self._extensions if isinstance(self._credentials, Credentials) else self._extensions.without("AUTH")
        self._progress.begin(transaction, offered, lmtp=self._lmtp)
        self._say_group()

    def send_body(self, octets: bytes) -> bytes:
        """`octets` dot-stuffed, ready to be written; chunks may be cut anywhere. Only at BODY.

        Raises: LocalProtocolError, where a CR or LF stands alone: none may ever leave us (the next hop might see two
        messages); the connection is then to be dropped without the final dot.
        """
        self._require(Stage.BODY)
        return self._body.stuff(octets)

    def end_body(self) -> bytes:
        """The final dot (with a CRLF before it where the body lacks one). From here on a loss is in doubt."""
        self._require(Stage.BODY)
        self._stage = Stage.DOT
        self._early = self._early or self._reader.pending
        end = self._progress.end(lmtp=self._lmtp)
        self._said.append(end[0][2])
        self._due.extend(end)
        return self._body.finish()

    def reset(self) -> None:
        """Say RSET, to see whether an idle connection still lives; TransactionEnded tells. Only at READY."""
        self._require(Stage.READY)
        self._say_rset()

    def ask(self, line: str) -> None:
        """Say a command of no transaction (ETRN, ATRN); Asked tells the reply. Only at READY."""
        self._require(Stage.READY)
        self._say(line)
        self._due.append((Stage.ASKED, ALL, line))

    def quit(self) -> None:
        """Say QUIT; nobody waits for the answer."""
        if self._stage not in (Stage.QUIT, Stage.CLOSED):
            self._enter(Stage.QUIT)

    def octets_to_send(self) -> bytes:
        """What is to be written now, once; empty when nothing is."""
        if not self._out:
            return b""
        octets = ("\r\n".join(self._out) + "\r\n").encode()
        self._out = []
        return octets

    # ---- saying

    def _require(self, stage: Stage) -> None:
        if self._stage is not stage or self._due:
            raise LocalProtocolError(f"only at {stage.value}, and the session is at {self.awaiting.value}")

    def _say(self, *lines: str, shown: str = "") -> None:
        self._early = self._early or self._reader.pending
        self._out.extend(lines)
        self._said.extend((shown,) if shown else lines)

    def _enter(self, stage: Stage) -> None:
        """Go to `stage`, saying the command it stands for."""
        self._stage = stage
        match stage:
            case Stage.EHLO | Stage.HELO | Stage.LHLO:
                self._say(f"{stage.value} {self._hello_name}")
            case Stage.STARTTLS:
                self._say("STARTTLS")
            case Stage.QUIT:
                self._due.clear()
                self._say("QUIT")
            case _:
                pass  # the others wait, or their words depend on more than the stage

    # ---- hearing

    def _take(self, reply: Reply, events: list[ClientEvent]) -> None:
        if self._stage is Stage.QUIT:
            self._stage = Stage.CLOSED
        elif self._out or self._early:
            self._unasked(reply, events)
        elif self._due:
            self._answered(reply, events)
        elif self._stage in (Stage.READY, Stage.BODY, Stage.HANDSHAKE):
            self._unasked(reply, events)
        else:
            self._opening(reply, events)

    def _unasked(self, reply: Reply, events: list[ClientEvent]) -> None:
        # Words of farewell, or an early refusal of a body: the caller learns them. Anything else is out of step.
        farewell = reply.code in (421, 521) or (self._stage is Stage.BODY and reply.code >= 400)
        if farewell and self._stage is not Stage.HANDSHAKE:
            events.append(PeerClosing(reply))
            self._close()
        else:
            self._violation("a reply that nobody asked for", str(reply), events)

    def _violation(self, detail: str, heard: str, events: list[ClientEvent]) -> None:
        if self._stage is not Stage.QUIT:
            events.append(Violation(self.awaiting, detail, heard))
        self._close()

    def _close(self) -> None:
        self._stage = Stage.CLOSED
        self._due.clear()
        self._out = []

    # ---- the opening

    def _opening(self, reply: Reply, events: list[ClientEvent]) -> None:
        said_at = self._stage
        if not can_answer(said_at, reply.code):
            self._violation(_no_answer(said_at, reply), str(reply), events)
            return
        leads_to = after(said_at, reply, self._table)
        if said_at is Stage.AUTH:
            leads_to = self._authenticated(reply, leads_to)
        match leads_to:
            case Stage.READY:
                if said_at in (Stage.EHLO, Stage.LHLO):
                    self._extensions = read_extensions(reply)
                elif said_at is Stage.HELO:
                    self._extensions = Extensions()  # whatever an EHLO before XCLIENT was offered
                elif said_at is Stage.STARTTLS:
                    self._tls = Tls.NEVER
                self._go_on(said_at, reply, events)
            case Stage.QUIT if said_at is Stage.AUTH and reply.is_positive:
                self._refuse(said_at, reply, "the server says yes without having proven who it is", events)
            case Stage.QUIT:
                self._refuse(said_at, reply, f"refused at {said_at.value}", events)
            case Stage.HANDSHAKE:
                self._stage = Stage.HANDSHAKE
                if not self._reader.pending:  # else said in clear behind the 220: response injection, see `receive`
                    events.append(HandshakeDue())
            case Stage.AUTH:
                pass  # the next response has been queued
            case _:
                self._enter(leads_to)

    def _refuse(self, stage: Stage, reply: Reply, why: str, events: list[ClientEvent]) -> None:
        events.append(OpeningRefused(stage, reply, why))
        self._enter(Stage.QUIT)

    def _go_on(self, stage: Stage, reply: Reply, events: list[ClientEvent]) -> None:
        """From an accepted hello to READY, by way of what the route wants."""
        offered = self._extensions
        if self._tls in (Tls.IF_OFFERED, Tls.REQUIRED) and "STARTTLS" in offered:
            self._enter(Stage.STARTTLS)
        elif self._tls is Tls.REQUIRED:
            self._refuse(stage, reply, "the route requires TLS, and STARTTLS is not offered", events)
        elif self._client and "XCLIENT" in offered:
            told = [
                f"{name}={encode_xtext(value)}" for name, value in self._client if name in offered.offered["XCLIENT"]
            ]
            self._client = ()
            if not told:
                self._go_on(stage, reply, events)
                return
            self._stage = Stage.XCLIENT
            self._say(f"XCLIENT {' '.join(told)}")
        elif isinstance(self._credentials, Credentials) and stage is not Stage.AUTH:
            ours = self._mechanisms_of(self._credentials)
            self._login = Login(ours, offered)
            if self._login.can_go_on:
                self._say_auth()
            else:
                why = f"the route authenticates, and none of {', '.join(ours)} is offered"
                self._refuse(stage, reply, why, events)
        else:
            self._stage = Stage.READY
            events.append(Opened(offered))

    # ---- AUTH (RFC 4954)

    def _say_auth(self) -> None:
        """Try the next mechanism."""
        self._stage = Stage.AUTH
        command = self._login.command()
        self._say(command, shown=f"AUTH {self._login.mechanism} (credentials not shown)")

    def _authenticated(self, reply: Reply, leads_to: Stage) -> Stage:
        """Where AUTH goes on; answers a challenge, or tries the next mechanism (RFC 4954 §4, §6)."""
        login = self._login
        if leads_to is Stage.AUTH:
            response = login.response(reply)
            self._say(response, shown="(response not shown)")
            # What is answered to "*" is not waited for: it would seem to refuse our credentials, which were not judged.
            return Stage.QUIT if response == CANCEL else leads_to
        if leads_to is Stage.READY:
            return leads_to if login.is_satisfied else Stage.QUIT
        if login.goes_on_after(reply):
            self._say_auth()
            return Stage.AUTH
        return leads_to

    # ---- the transaction

    def _say_group(self) -> None:
        """Say what may be said before the next replies: one command, or with PIPELINING as many as one group holds."""
        group = self._progress.next_group(GROUP_COMMANDS if self._pipelines else 1)
        self._due.extend(group)
        self._say(*[line for _, _, line in group])

    @property
    def _pipelines(self) -> bool:
        return "PIPELINING" in self._extensions.offered and not self._reader.bare_newline

    def _answered(self, reply: Reply, events: list[ClientEvent]) -> None:
        command = self._due[0]
        if reply.code == ANALYSIS and (parted := self._progress.parted(command, reply)):
            self._due.popleft()
            self._due.extend(parted)
            return
        stage, index, _ = command
        verdict = TRANSACTION[stage][reply.code // 100 - 2]
        if index != LONE_DOT and (verdict is Verdict.ODD or not can_answer(stage, reply.code)):
            self._violation(_no_answer(stage, reply), str(reply), events)
            return
        self._due.popleft()
        self._progress.tell(stage, index, reply, verdict is Verdict.TAKEN, events)
        if reply.code == 421:
            events.append(PeerClosing(reply))
            self._close()
        elif not self._due:
            self._advance(stage, index, verdict, events)

    def _advance(self, stage: Stage, index: int, verdict: Verdict, events: list[ClientEvent]) -> None:
        """All that was due has been answered, `stage` last: what comes next."""
        progress = self._progress
        match stage:
            case Stage.DATA if verdict is Verdict.TAKEN and progress.accepted:
                self._stage = Stage.BODY
                self._body = DotStuffer()
            case Stage.RCPT if progress.accepted and not progress.unsaid:
                self._stage = Stage.BODY
                self._body = ChunkSender(progress.chunk_size)
                events.append(ChunkDue())
            case Stage.DATA if verdict is Verdict.TAKEN:
                self._say(".")
                self._due.append((Stage.RSET, LONE_DOT, "."))
            case Stage.DOT:
                self._finish(events, in_step=True)
            case Stage.ASKED:
                pass  # READY still
            case Stage.RSET:
                self._finish(events, in_step=verdict is Verdict.TAKEN or index == LONE_DOT)
            case _ if progress.may_go_on:
                self._say_group()
            case _:
                self._say_rset()

    def _say_rset(self) -> None:
        # However the peer understood what was refused, after this no transaction is open.
        self._say("RSET")
        self._due.append((Stage.RSET, ALL, "RSET"))

    def _finish(self, events: list[ClientEvent], *, in_step: bool) -> None:
        self._stage = Stage.READY
        events.append(TransactionEnded(in_step and not self._reader.bare_newline and not self._reader.pending))
        if self._reader.pending:  # it says more than it was asked for: nothing is to be asked of it any more
            self._close()


def _no_answer(stage: Stage, reply: Reply) -> str:
    return f"{reply.code} is no answer to {stage.value}"
