"""The client's side of a session: the opening (greeting, EHLO or HELO, STARTTLS, AUTH) and transactions.

Octets in through `receive`, which returns the events they complete; octets out through `octets_to_send`. `awaiting`
tells which reply is due, and so which time-out. What a reply leads to is read off tables: one row a stage, one column
a first digit (RFC 5321 §4.3.2 bids a client read no more). Policy chooses a table; it is never a flag in the loop.

    session = ClientSession("us.example.net")
    write octets_to_send(); read; events = receive(...)     until Opened, OpeningRefused, HandshakeDue ...
    session.begin(transaction)                              then the same until DataAnswered or TransactionEnded
    write send_body(...) ...; write end_body(); read ...    until TransactionEnded
    session.begin(...) again, or session.quit()

Replies in step: a reply counts only for a command that was handed out before its first octet came. Any other was asked
for by nobody; taking it for the next command's answer would credit one recipient with another's fate, or a message with
a delivery that never was. It ends the session.

The first digit of a code decides (RFC 5321 §4.2), so that a code nobody has listed means what its class means; but for
the few codes that belong to one moment alone (`can_answer`). Out of their place they tell of a peer out of step.

A body that is to go as it is, binary or large, goes in one chunk (BDAT … LAST, RFC 3030) where the transaction says so;
its end is where else the final dot is.

In doubt: from `end_body()` on, and only then, `awaiting` is DOT. A loss before it is surely no delivery.

Not here: time-outs, TLS itself, reconnecting with HELO after a lost EHLO (the caller opens a new session with
`Opening.HELO_FIRST`), and what becomes of the message.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Protocol, TypeAlias

from waypost.smtp.command import Mail, NoResponse, Rcpt
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.extension import Extensions, MailParameters, RcptParameters, encode_xtext, read_extensions
from waypost.smtp.framing import INCOMPLETE, BadReply, ChunkSender, DotStuffer, ReplyReader
from waypost.smtp.path import ForwardPath, ReversePath, is_ascii
from waypost.smtp.reply import Reply

#: One group of pipelined commands (RFC 2920 §3.1): while it is written nobody reads, so its replies must fit the
#: peer's send window and ours. 16 KiB out and some 100 replies back fit the smallest default socket buffers.
GROUP_COMMANDS: Final = 100
GROUP_OCTETS: Final = 16 * 1024
#: Octets of AUTH with its initial response, without CRLF (RFC 5321 §4.5.3.1.4): a longer one waits to be asked for.
AUTH_COMMAND: Final = 510
#: Lines said and replies heard that are kept for a caller who does not fetch them.
KEPT: Final = 1000


class Stage(Enum):
    """Where a session stands: the reply it waits for, or what it is free to do. Time-outs are chosen by it."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    LHLO = "LHLO"
    STARTTLS = "STARTTLS"
    HANDSHAKE = "TLS handshake"
    XCLIENT = "XCLIENT"
    AUTH = "AUTH"
    READY = "ready"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "body"
    DOT = "final dot"
    RSET = "RSET"
    ASKED = "command"
    QUIT = "QUIT"
    CLOSED = "closed"

    __hash__ = object.__hash__  # as good, and no call of a Python function for every look-up in a table


class Opening(Enum):
    """Which table opens the session. Policy chooses one; it is never a flag in the loop."""

    EHLO_THEN_HELO = "EHLO, HELO where it is refused"
    EHLO_ONLY = "EHLO, never HELO: the route needs an extension"
    HELO_FIRST = "HELO, for a host that failed on EHLO"
    LHLO = "LHLO (LMTP, RFC 2033)"


class Tls(Enum):
    """What the session does about STARTTLS in its opening."""

    NEVER = "never"
    IF_OFFERED = "if offered"
    REQUIRED = "required"
    ALREADY = "already"  # implicit TLS


@dataclass(frozen=True, slots=True)
class Credentials:
    """For AUTH; never shown by repr, so never logged.

    `oauth`: the name of the authorisation that gives an access token in the password's place; "" for a password.
    `external`: by neither, but by the certificate that we show under TLS. `act_as`: whose rights we ask for; "" ours.
    """

    username: str
    password: str
    oauth: str = ""
    external: bool = False
    act_as: str = ""

    def __repr__(self) -> str:
        return "Credentials(…)"


@dataclass(frozen=True, slots=True)
class NoCredentials:
    """The route does not authenticate."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A challenge that a mechanism has no answer to: "*" is said (RFC 4954 §4)."""


class ClientExchange(Protocol):
    """Our side of one SASL mechanism, without I/O. Used for one AUTH."""

    def begin(self) -> bytes | NoResponse:
        """The initial response, or that the server speaks first."""
        ...

    def answer(self, challenge: bytes) -> bytes | GiveUp:
        """The response to a challenge. Never raises: a server may say anything."""
        ...

    @property
    def is_satisfied(self) -> bool:
        """Whether a 235 may be believed: the server has proven itself, where the mechanism has it do so."""
        ...


#: What XCLIENT tells: names of attributes in upper case, with their values, in order.
Attributes: TypeAlias = tuple[tuple[str, str], ...]


class Spoken:
    """A mechanism whose responses are known beforehand. `first`: whether the first of them begins it."""

    is_satisfied = True

    def __init__(self, *responses: str, first: bool) -> None:
        self._responses = deque(response.encode() for response in responses)
        self._first = first

    def begin(self) -> bytes | NoResponse:
        return self._responses.popleft() if self._first else NoResponse()

    def answer(self, challenge: bytes) -> bytes | GiveUp:  # noqa: ARG002 - whatever it says
        return self._responses.popleft() if self._responses else GiveUp()


#: What says no to a mechanism, not to us: unknown, too weak, or good only once the password was said (RFC 4954 §6).
_UNFIT: Final = {504, 534, 432}

#: What credentials can be shown by: mechanisms in order of preference, each made anew for each AUTH.
Mechanisms: TypeAlias = Mapping[str, Callable[[], ClientExchange]]


def by_password(credentials: Credentials) -> Mechanisms:
    """The mechanisms that need nothing but base64: PLAIN (RFC 4616) and LOGIN. For others see waypost.auth.client."""
    username, password, act_as = credentials.username, credentials.password, credentials.act_as
    plain: Mechanisms = {"PLAIN": lambda: Spoken(f"{act_as}\0{username}\0{password}", first=True)}
    return plain if act_as else {**plain, "LOGIN": lambda: Spoken(username, password, first=False)}


# ---- events
@dataclass(frozen=True, slots=True)
class Opened:
    """READY: a transaction may begin."""

    extensions: Extensions


@dataclass(frozen=True, slots=True)
class OpeningRefused:
    """The peer's reply, or a lack (no STARTTLS, no mechanism of ours), ended the opening; QUIT has been queued.

    `why` is a sentence for the log; `reply` is what the peer last said at `stage`.
    """

    stage: Stage
    reply: Reply
    why: str


@dataclass(frozen=True, slots=True)
class HandshakeDue:
    """220 to STARTTLS: do the handshake on the connection, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class MailAnswered:
    """The reply to MAIL."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class RcptAnswered:
    """The reply to the RCPT of recipient `index` (0 is the first)."""

    index: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class DataAnswered:
    """The reply to DATA. After 354 with a recipient accepted the body is due: `send_body`, then `end_body`."""

    reply: Reply
    body_due: bool


@dataclass(frozen=True, slots=True)
class ChunkDue:
    """All recipients are answered, and the body may go by BDAT: `send_body`, then `end_body`."""


@dataclass(frozen=True, slots=True)
class DotAnswered:
    """The reply to the final dot or the last chunk: for all accepted recipients, or under LMTP for one alone."""

    reply: Reply
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """The reply to `ask`; READY again."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """Nothing of the transaction (or `reset`) is outstanding any more; at READY again if the session can be reused."""

    reusable: bool


@dataclass(frozen=True, slots=True)
class PeerClosing:
    """421 or 521-like words outside their turn, or any reply nobody asked for: the session is over."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Violation:
    """What came is no reply, or one that cannot come here: the session is over. `heard`: a short excerpt."""

    stage: Stage
    detail: str
    heard: str


ClientEvent: TypeAlias = (
    Opened
    | OpeningRefused
    | HandshakeDue
    | MailAnswered
    | RcptAnswered
    | DataAnswered
    | ChunkDue
    | DotAnswered
    | Asked
    | TransactionEnded
    | PeerClosing
    | Violation
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One MAIL with its recipients, at least one. Parameters the peer did not offer are left out by the session.

    `chunked`: the body goes by BDAT, which the peer must offer; `parameters.size` is then its exact size.
    """

    reverse_path: ReversePath
    parameters: MailParameters
    recipients: Sequence[tuple[ForwardPath, RcptParameters]]
    chunked: bool = False

    @property
    def has_wide_addresses(self) -> bool:
        """Whether an address is not ASCII."""
        return not (is_ascii(self.reverse_path) and all(is_ascii(path) for path, _ in self.recipients))


# ---- the tables of the opening

#: A cell is the stage that a first digit leads to. READY in it means "as far as this command goes": what the route
#: wants beside (STARTTLS, AUTH) comes before READY is real. QUIT means that the opening is refused.
_Row: TypeAlias = tuple[Stage, Stage, Stage, Stage]
_REFUSED: Final = (Stage.QUIT, Stage.QUIT, Stage.QUIT)

OPENING: Final[dict[Stage, _Row]] = {
    #                 2yz          3yz         4yz         5yz
    Stage.GREETING: (Stage.EHLO, Stage.QUIT, Stage.QUIT, Stage.QUIT),
    Stage.EHLO: (Stage.READY, Stage.QUIT, Stage.QUIT, Stage.HELO),  # RFC 5321 §3.2: an older server; ask again
    Stage.HELO: (Stage.READY, Stage.QUIT, Stage.QUIT, Stage.QUIT),
    Stage.STARTTLS: (Stage.HANDSHAKE, Stage.QUIT, Stage.READY, Stage.READY),  # refused: go on in clear
    Stage.XCLIENT: (Stage.EHLO, Stage.QUIT, Stage.QUIT, Stage.QUIT),  # the session begins anew, as another's
    Stage.AUTH: (Stage.READY, Stage.AUTH, Stage.QUIT, Stage.QUIT),
}
#: On a route that needs an extension, and after STARTTLS: HELO offers no extension.
OPENING_ESMTP: Final = OPENING | {Stage.EHLO: (Stage.READY, *_REFUSED)}
#: For a host that is known to fail on EHLO.
OPENING_HELO: Final = OPENING | {Stage.GREETING: (Stage.HELO, *_REFUSED)}
#: RFC 2033 §4.1: LMTP knows neither EHLO nor HELO.
OPENING_LMTP: Final = OPENING | {Stage.GREETING: (Stage.LHLO, *_REFUSED), Stage.LHLO: (Stage.READY, *_REFUSED)}

_TABLES: Final[Mapping[Opening, Mapping[Stage, _Row]]] = {
    Opening.EHLO_THEN_HELO: OPENING,
    Opening.EHLO_ONLY: OPENING_ESMTP,
    Opening.HELO_FIRST: OPENING_HELO,
    Opening.LHLO: OPENING_LMTP,
}
_NO_CLEAR: Final = {Stage.STARTTLS: (Stage.HANDSHAKE, *_REFUSED)}


def opening_table(opening: Opening, tls: Tls, credentials: Credentials | NoCredentials) -> Mapping[Stage, _Row]:
    """The table for a session. Where TLS or AUTH is needed, a refused EHLO leads to no HELO: HELO offers neither."""
    if opening is Opening.EHLO_THEN_HELO and (tls is Tls.REQUIRED or isinstance(credentials, Credentials)):
        opening = Opening.EHLO_ONLY
    return {**_TABLES[opening], **_NO_CLEAR} if tls is Tls.REQUIRED else _TABLES[opening]


def after(stage: Stage, reply: Reply, table: Mapping[Stage, _Row]) -> Stage:
    """Where `reply` leads. 421 ends every stage alike: the host is going away (RFC 5321 §3.8), no HELO will keep it."""
    return Stage.QUIT if reply.code == 421 else table[stage][reply.code // 100 - 2]


#: What these commands ask for has one code only (RFC 3207 §4, RFC 4954 §4, RFC 5321 §4.3.2), by stage and first digit.
_ONLY: Final = {(Stage.STARTTLS, 2): 220, (Stage.XCLIENT, 2): 220, (Stage.AUTH, 3): 334, (Stage.DATA, 3): 354}


def can_answer(stage: Stage, code: int) -> bool:
    """Whether `code` can be said at `stage`: 220 greets or begins TLS, 221 takes leave; neither answers more."""
    if code in {220, 221}:
        return code == 220 and stage in {Stage.GREETING, Stage.STARTTLS, Stage.XCLIENT}
    return _ONLY.get((stage, code // 100), code) == code


# ---- the table of a transaction


class Verdict(Enum):
    """What a reply says of the command it answers."""

    TAKEN = auto()
    REFUSED = auto()
    ODD = auto()  # not a reply this command can have: the peer is out of step


TRANSACTION: Final = {
    #             2yz            3yz            4yz              5yz
    Stage.MAIL: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
    Stage.RCPT: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
    Stage.DATA: (Verdict.ODD, Verdict.TAKEN, Verdict.REFUSED, Verdict.REFUSED),  # 2yz is no leave to send a body
    Stage.DOT: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
    Stage.RSET: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
    Stage.ASKED: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
}

#: A command of a transaction: the stage of its reply, the index of the recipient it concerns, and its line.
_Command: TypeAlias = tuple[Stage, int, str]
#: The index of what concerns no recipient: MAIL, DATA, RSET, and the final dot for all.
_ALL: Final = -1
#: The index of the reply to a lone dot, which ends a DATA that came too late to be taken back; nothing depends on it.
_LONE_DOT: Final = -2
#: The index of the reply, behind those to each recipient, that tells of the message as a whole (PRDR).
_WHOLE: Final = -3
#: "Judged for each recipient" (draft-hall-prdr-00): their replies follow, and one for the whole.
_ANALYSIS: Final = 353
#: In place of a chunk's size: the body goes by DATA.
_NO_CHUNK: Final = -1


class ClientSession:
    """One session with one host, from its greeting to QUIT, over any number of transactions."""

    def __init__(
        self,
        hello_name: str,
        *,
        opening: Opening = Opening.EHLO_THEN_HELO,
        tls: Tls = Tls.NEVER,
        credentials: Credentials | NoCredentials = NoCredentials(),
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
        self._mechanisms: deque[tuple[str, Callable[[], ClientExchange]]] = deque()  # not tried yet, the next one first
        self._mechanism = ""  # being tried
        self._exchange: ClientExchange = Spoken(first=False)
        self._late_response: bytes | NoResponse = NoResponse()  # an initial response too long for the command
        self._reader = ReplyReader()
        self._early = False  # part of a reply had come before the command was said that it might seem to answer
        self._out: list[str] = []
        self._said: deque[str] = deque(maxlen=KEPT)
        self._heard: deque[Reply] = deque(maxlen=KEPT)
        # of the transaction:
        self._unsaid: list[_Command] = []
        self._due: deque[_Command] = deque()  # whose replies are outstanding, in order
        self._mail_taken = False
        self._accepted: list[int] = []
        self._prdr = False
        self._passed: list[int] = []  # recipients for whom the message will do (PRDR)
        self._stuffer: DotStuffer | ChunkSender = DotStuffer()
        self._chunk_size = _NO_CHUNK

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
        mail = Mail(transaction.reverse_path, transaction.parameters).line(offered)
        rcpts = [Rcpt(forward_path, own).line(offered) for forward_path, own in transaction.recipients]
        if not "".join((mail, *rcpts)).isascii():  # an address: parameters always are (xtext)
            if "SMTPUTF8" not in offered:
                raise LocalProtocolError("an address is not ASCII, and the peer does not offer SMTPUTF8")
            mail = Mail(transaction.reverse_path, replace(transaction.parameters, smtputf8=True)).line(offered)
        self._unsaid = [
            (Stage.MAIL, _ALL, mail),
            *((Stage.RCPT, index, line) for index, line in enumerate(rcpts)),
            *(() if transaction.chunked else ((Stage.DATA, _ALL, "DATA"),)),
        ]
        self._chunk_size = transaction.parameters.size if transaction.chunked else _NO_CHUNK
        self._mail_taken = False
        self._accepted = []
        self._prdr = transaction.parameters.prdr and "PRDR" in offered and not self._lmtp
        self._say_group()

    def send_body(self, octets: bytes) -> bytes:
        """`octets` dot-stuffed, ready to be written; chunks may be cut anywhere. Only at BODY.

        Raises: LocalProtocolError, where a CR or LF stands alone: none may ever leave us (the next hop might see two
        messages); the connection is then to be dropped without the final dot.
        """
        self._require(Stage.BODY)
        return self._stuffer.stuff(octets)

    def end_body(self) -> bytes:
        """The final dot (with a CRLF before it where the body lacks one). From here on a loss is in doubt."""
        self._require(Stage.BODY)
        self._stage = Stage.DOT
        self._early = self._early or self._reader.pending
        said = "." if self._chunk_size == _NO_CHUNK else f"BDAT {self._chunk_size} LAST"
        self._said.append(said)
        self._due.extend([(Stage.DOT, index, said) for index in (self._accepted if self._lmtp else (_ALL,))])
        return self._stuffer.finish()

    def reset(self) -> None:
        """Say RSET, to see whether an idle connection still lives; TransactionEnded tells. Only at READY."""
        self._require(Stage.READY)
        self._say_rset()

    def ask(self, line: str) -> None:
        """Say a command of no transaction (ETRN, ATRN); Asked tells the reply. Only at READY."""
        self._require(Stage.READY)
        self._say(line)
        self._due.append((Stage.ASKED, _ALL, line))

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
        self._unsaid.clear()
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
            self._mechanisms = deque((name, ours[name]) for name in ours if name in offered.auth_mechanisms)
            if self._mechanisms:
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
        self._mechanism, make = self._mechanisms.popleft()
        self._exchange = make()
        first = self._exchange.begin()
        line = (
            f"AUTH {self._mechanism}" if isinstance(first, NoResponse) else f"AUTH {self._mechanism} {_initial(first)}"
        )
        self._late_response = NoResponse()
        if len(line) > AUTH_COMMAND:
            line, self._late_response = f"AUTH {self._mechanism}", first
        self._say(line, shown=f"AUTH {self._mechanism} (credentials not shown)")

    def _authenticated(self, reply: Reply, leads_to: Stage) -> Stage:
        """Where AUTH goes on; answers a challenge, tries the next mechanism after `_UNFIT` (RFC 4954 §4, §6)."""
        if leads_to is Stage.AUTH:
            response = self._response(reply)
            self._say("*" if isinstance(response, GiveUp) else _base64(response), shown="(response not shown)")
            # What is answered to "*" is not waited for: it would seem to refuse our credentials, which were not judged.
            return Stage.QUIT if isinstance(response, GiveUp) else leads_to
        if leads_to is Stage.READY and not self._exchange.is_satisfied:
            return Stage.QUIT
        if reply.code == 432:  # a password that has to be said once, so that the server can keep what it needs of it
            while self._mechanisms and self._mechanisms[0][0] != "PLAIN":
                self._mechanisms.popleft()
        # With -PLUS the two may not agree on what binds the channel: that is no word on the password.
        unfit = reply.code in _UNFIT or (reply.is_permanent and self._mechanism.endswith("-PLUS"))
        if unfit and self._mechanisms:
            self._say_auth()
            return Stage.AUTH
        return leads_to

    def _response(self, challenge: Reply) -> bytes | GiveUp:
        late, self._late_response = self._late_response, NoResponse()
        if not isinstance(late, NoResponse):
            return late
        try:
            return self._exchange.answer(b64decode("".join(challenge.lines).strip(), validate=True))
        except ValueError:
            return GiveUp()

    # ---- the transaction

    def _say_group(self) -> None:
        """Say what may be said before the next replies: one command, or with PIPELINING as many as one group holds."""
        commands = octets = 0
        most = GROUP_COMMANDS if self._pipelines else 1
        for _, _, line in self._unsaid[:most]:
            if octets >= GROUP_OCTETS:
                break
            commands += 1
            octets += len(line)
        group = self._unsaid[:commands]
        del self._unsaid[:commands]
        self._due.extend(group)
        self._say(*[line for _, _, line in group])

    @property
    def _pipelines(self) -> bool:
        return "PIPELINING" in self._extensions and not self._reader.bare_newline

    def _answered(self, reply: Reply, events: list[ClientEvent]) -> None:
        stage, index, said = self._due[0]
        if reply.code == _ANALYSIS and self._prdr and (stage, index) == (Stage.DOT, _ALL) and len(self._accepted) > 1:
            self._passed = []
            self._due.popleft()
            self._due.extend([(Stage.DOT, one, said) for one in (*self._accepted, _WHOLE)])
            return
        verdict = TRANSACTION[stage][reply.code // 100 - 2]
        if index != _LONE_DOT and (verdict is Verdict.ODD or not can_answer(stage, reply.code)):
            self._violation(_no_answer(stage, reply), str(reply), events)
            return
        self._due.popleft()
        self._tell(stage, index, reply, verdict is Verdict.TAKEN, events)
        if reply.code == 421:
            events.append(PeerClosing(reply))
            self._close()
        elif not self._due:
            self._advance(stage, index, verdict, events)

    def _tell(self, stage: Stage, index: int, reply: Reply, taken: bool, events: list[ClientEvent]) -> None:  # noqa: FBT001 - the reply's meaning
        """The event of one reply. After a refused MAIL the rest of its group says nothing new."""
        match stage:
            case Stage.MAIL:
                self._mail_taken = taken
                events.append(MailAnswered(reply))
            case Stage.RCPT if self._mail_taken:
                if taken:
                    self._accepted.append(index)
                events.append(RcptAnswered(index, reply))
            case Stage.DATA if self._mail_taken:
                events.append(DataAnswered(reply, body_due=taken and bool(self._accepted)))
            case Stage.DOT if self._prdr and index >= 0 and taken:
                self._passed.append(index)  # nothing is delivered before the last reply
            case Stage.DOT:
                of_many = {_ALL: self._accepted, _WHOLE: self._passed}
                events.append(DotAnswered(reply, tuple(of_many.get(index, (index,)))))
            case Stage.ASKED:
                events.append(Asked(reply))
            case _:
                pass

    def _advance(self, stage: Stage, index: int, verdict: Verdict, events: list[ClientEvent]) -> None:
        """All that was due has been answered, `stage` last: what comes next."""
        match stage:
            case Stage.DATA if verdict is Verdict.TAKEN and self._accepted:
                self._stage = Stage.BODY
                self._stuffer = DotStuffer()
            case Stage.RCPT if self._accepted and not self._unsaid:
                self._stage = Stage.BODY
                self._stuffer = ChunkSender(self._chunk_size)
                events.append(ChunkDue())
            case Stage.DATA if verdict is Verdict.TAKEN:
                self._say(".")
                self._due.append((Stage.RSET, _LONE_DOT, "."))
            case Stage.DOT:
                self._finish(events, in_step=True)
            case Stage.ASKED:
                pass  # READY still
            case Stage.RSET:
                self._finish(events, in_step=verdict is Verdict.TAKEN or index == _LONE_DOT)
            case _ if self._may_go_on:
                self._say_group()
            case _:
                self._unsaid.clear()
                self._say_rset()

    @property
    def _may_go_on(self) -> bool:
        """Whether the rest of the transaction is worth saying: MAIL was taken, and DATA has somebody to go to."""
        if not self._unsaid or not self._mail_taken:
            return False
        return self._unsaid[0][0] is Stage.RCPT or bool(self._accepted)

    def _say_rset(self) -> None:
        # However the peer understood what was refused, after this no transaction is open.
        self._say("RSET")
        self._due.append((Stage.RSET, _ALL, "RSET"))

    def _finish(self, events: list[ClientEvent], *, in_step: bool) -> None:
        self._stage = Stage.READY
        events.append(TransactionEnded(in_step and not self._reader.bare_newline and not self._reader.pending))
        if self._reader.pending:  # it says more than it was asked for: nothing is to be asked of it any more
            self._close()


def _no_answer(stage: Stage, reply: Reply) -> str:
    return f"{reply.code} is no answer to {stage.value}"


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode()


def _initial(response: bytes) -> str:
    return _base64(response) or "="
