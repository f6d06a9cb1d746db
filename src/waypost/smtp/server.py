"""The server's side of a session: what a client says, what may be said when, and the replies that are ours alone.

Octets in through `receive`, events out through `next_event`, replies in through `reply`, octets out through
`octets_to_send`. The order of commands is one table, `ORDER`. What the session can judge by itself (syntax, order,
limits) it answers itself; whether a mailbox exists or a message was stored is the caller's to say.

    session = ServerSession(settings)
    session.greet(Reply(220, ("mx.example.net ESMTP",)))
    loop: event = session.next_event()
          NeedOctets            write octets_to_send(), then read and receive(...)
          Hello Mail Rcpt …     reply(...)
          TlsGranted            write octets_to_send(), take the connection into TLS, then tls_started()
          Turned                write octets_to_send(); from then on the client is the server (ATRN)
          Closing               write octets_to_send(), then close

Strictness, and why (RFC 2920 §3.1, RFC 5321 §4.1.1.4):

* EHLO, HELO, LHLO, STARTTLS, AUTH, DATA, ATRN and XCLIENT end a group. A client that says more in one breath does not
  wait for our answer: it is a machine made to speak blindly, and behind a refused DATA its body would be read as
  commands, behind a refused AUTH its secrets. It is answered 554 and the session is over. Octets that arrive before
  the reply to STARTTLS or DATA is given count the same.
* Nothing that was said in clear is known under TLS, neither to us nor to the client (RFC 3207 §4.2). Octets between
  STARTTLS and the handshake would be somebody's who wants them read as if TLS had protected them: they end the session.
* Octets that came before the banner end the session too.
* BDAT (RFC 3030) may be followed by anything: its octets are counted. A refused one is read to its end and forgotten;
  one that does not say how many octets follow ends the session.
* VRFY, EXPN, NOOP and QUIT must end a group as well, but nothing can be gained by breaking that: they are tolerated.

Not here: time-outs, the handshake itself, policy, storage.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import cached_property
from typing import Final, TypeAlias, assert_never

from waypost.smtp.command import (
    TLS_HANDSHAKE,
    XCLIENT_ATTRIBUTES,
    Atrn,
    Auth,
    Chunk,
    Etrn,
    Hello,
    Mail,
    Rcpt,
    Verb,
    Xclient,
    is_http,
    parse_atrn,
    parse_auth,
    parse_chunk,
    parse_etrn,
    parse_hello,
    parse_mail,
    parse_rcpt,
    parse_response,
    parse_vrfy,
    parse_xclient,
    split_command,
    without_secrets,
)
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.extension import BodyType, Extensions, extension_lines
from waypost.smtp.framing import (
    AUTH_LINE,
    COMMAND_LINE,
    EXCERPT,
    INCOMPLETE,
    BadLine,
    BodyFault,
    BodyReader,
    ChunkReader,
    CommandReader,
    LineFault,
)
from waypost.smtp.path import Mailbox
from waypost.smtp.reply import Reply

__all__ = [
    "ORDER",
    "Atrn",
    "Auth",
    "AuthResponse",
    "BodyFault",
    "Closing",
    "DataChunk",
    "DataEnd",
    "DataStart",
    "Etrn",
    "Event",
    "Hello",
    "LocalProtocolError",
    "Mail",
    "NeedOctets",
    "Rcpt",
    "Refused",
    "ServerSession",
    "ServerSettings",
    "StartTls",
    "State",
    "TlsGranted",
    "TransactionReset",
    "Turned",
    "Xclient",
]

#: Commands that bring no message nearer (NOOP, RSET, VRFY, EXPN, HELP) before the session is ended: a client that
#: keeps a connection warm says a few, one that says a hundred holds it for nothing. EHLO again is one of them.
IDLE_COMMANDS: Final = 100
#: Refusals of any kind before the session is ended: ten times the recipients of a large list that are all wrong, or
#: too many; a client that goes on after them collects addresses.
REFUSALS: Final = 10_000


# ---- events. Those marked (reply) wait for `session.reply(...)` before `next_event` may be called again.
# Hello, Auth, Mail and Rcpt stand in command.py.
@dataclass(frozen=True, slots=True)
class AuthResponse:
    """(reply, or `challenge`) What the client answered to a challenge, decoded; shown by no repr, so never logged."""

    octets: bytes

    def __repr__(self) -> str:
        return "AuthResponse(…)"


@dataclass(frozen=True, slots=True)
class StartTls:
    """(reply) STARTTLS; 220 leads to TlsGranted, 454 says that TLS cannot be had now (RFC 3207 §4)."""


@dataclass(frozen=True, slots=True)
class TlsGranted:
    """220 to STARTTLS was queued: flush, do the handshake on the connection, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class DataStart:
    """(reply) DATA, or the first BDAT, with at least one accepted recipient; 354 opens the body.

    `chunked`: it was BDAT, whose client never hears the 354, and hears a refusal behind its chunk.
    """

    chunked: bool = False


@dataclass(frozen=True, slots=True)
class DataChunk:
    """Octets of the body, as they are to be kept; under DATA the final CRLF is the last one's end."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class DataEnd:
    """(`replies` of them) The final dot or last chunk came. `size`: octets of the body.

    Under LMTP each accepted recipient is answered, in order; under PRDR too, and then the message as a whole.
    """

    size: int
    fault: BodyFault
    replies: int = 1


@dataclass(frozen=True, slots=True)
class TransactionReset:
    """RSET, or EHLO again: whatever the transaction had gathered is to be forgotten. Already answered."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The session itself refused a command (syntax, order, length); already answered. For the log and counters."""

    line: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Closing:
    """QUIT was answered 221, or too many errors 421: flush, then close. `reason` is for the log."""

    reason: str

    @property
    def is_asked(self) -> bool:
        """Whether the client asked for it, and so has no more to say."""
        return self.reason == Verb.QUIT.value


@dataclass(frozen=True, slots=True)
class Turned:
    """250 to ATRN was queued: flush; the connection is the caller's from then on, and the client is the server."""


@dataclass(frozen=True, slots=True)
class NeedOctets:
    """Nothing more can be told from what came so far: flush, then read."""


Event: TypeAlias = (
    Hello
    | Etrn
    | Atrn
    | Xclient
    | Auth
    | AuthResponse
    | StartTls
    | TlsGranted
    | Turned
    | Mail
    | Rcpt
    | DataStart
    | DataChunk
    | DataEnd
    | TransactionReset
    | Refused
    | Closing
    | NeedOctets
)
#: Those that wait for a reply.
_Asked: TypeAlias = Hello | Etrn | Atrn | Xclient | StartTls | Auth | AuthResponse | Mail | Rcpt | DataStart | DataEnd

_NEED_OCTETS: Final = NeedOctets()
_START_TLS: Final = StartTls()
_TLS_GRANTED: Final = TlsGranted()
_DATA_START: Final = DataStart()
_CHUNKS_START: Final = DataStart(chunked=True)
_TRANSACTION_RESET: Final = TransactionReset()
_TURNED: Final = Turned()


@dataclass(frozen=True)  # no slots: what follows from the settings is kept beside them
class ServerSettings:
    """What a listener offers and allows.

    `size_limit` in octets, 0 for none (RFC 1870 §4). `max_recipients` a transaction: RFC 5321 §4.5.3.1.8 asks for at
    least 100. `max_errors`: refusals by the session itself before it ends with 421; 20 is what others in the field use.
    `mechanisms`: those of AUTH, in upper case; offered only once `permit_auth` says that secrets are safe.
    `starttls`: it is on offer, there being a certificate. `tls_required`: no mail in clear. `future_release`: how long
    a message may be held at its author's wish (RFC 4865); none: not offered. `max_messages` a session (RFC 9422), and
    `max_recipient_domains` a transaction, 0 for any number. `atrn`: some account has mail to be called for (RFC 2645).
    """

    hostname: str
    size_limit: int = 50 * 1024 * 1024
    lmtp: bool = False
    smtputf8: bool = True
    dsn: bool = True
    chunking: bool = True
    priority: bool = True
    future_release: timedelta = timedelta()
    max_messages: int = 1000
    max_recipient_domains: int = 0
    deliver_by: bool = True
    prdr: bool = True
    etrn: bool = False
    atrn: bool = False
    max_recipients: int = 1000
    max_errors: int = 20
    mechanisms: tuple[str, ...] = ()
    starttls: bool = False
    tls_required: bool = False

    # What follows from these: made once a listener, not once a session.

    @cached_property
    def offers(self) -> Extensions:
        """The extensions on offer to EHLO and LHLO in clear."""
        return Extensions({**self._offers, "STARTTLS": ()} if self.starttls else self._offers)

    @cached_property
    def offers_under_tls(self) -> Extensions:
        """The extensions on offer under TLS: no STARTTLS (RFC 3207 §4.2), but REQUIRETLS (RFC 8689 §2)."""
        return Extensions({**self._offers, "REQUIRETLS": ()})

    def with_latest_release(self, offered: Extensions, now: float) -> Extensions:
        """What is on offer, FUTURERELEASE with the latest time it allows from `now` on (RFC 4865 §3)."""
        seconds = int(self.future_release.total_seconds())
        latest = datetime.fromtimestamp(now + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Extensions({**offered.offered, "FUTURERELEASE": (str(seconds), latest)})

    @cached_property
    def _offers(self) -> dict[str, tuple[str, ...]]:
        offered: dict[str, tuple[str, ...]] = {"PIPELINING": (), "SIZE": (str(self.size_limit),), "8BITMIME": ()}
        offered["ENHANCEDSTATUSCODES"] = ()
        if self.chunking:
            offered |= {"CHUNKING": (), "BINARYMIME": ()}
        domains = (f"RCPTDOMAINMAX={self.max_recipient_domains}",) if self.max_recipient_domains else ()
        offered["LIMITS"] = (f"MAILMAX={self.max_messages}", f"RCPTMAX={self.max_recipients}", *domains)
        if self.deliver_by:
            offered["DELIVERBY"] = ()
        if self.prdr and not self.lmtp:  # LMTP answers each recipient as it is
            offered["PRDR"] = ()
        if self.priority:
            offered["MT-PRIORITY"] = ()
        if self.etrn:
            offered["ETRN"] = ()
        if self.future_release:
            offered["FUTURERELEASE"] = (str(int(self.future_release.total_seconds())),)
        if self.smtputf8:
            offered["SMTPUTF8"] = ()
        if self.dsn:
            offered["DSN"] = ()
        return offered

    @cached_property
    def ehlo_reply(self) -> Reply:
        """The 250 to EHLO and LHLO in clear. No enhanced status: RFC 2034 §4 exempts it, and the next two."""
        return Reply(250, (self.hostname, *extension_lines(self.offers)))

    @cached_property
    def ehlo_reply_under_tls(self) -> Reply:
        """The 250 to EHLO and LHLO under TLS."""
        return Reply(250, (self.hostname, *extension_lines(self.offers_under_tls)))

    @cached_property
    def helo_reply(self) -> Reply:
        """The 250 to HELO, which knows of no extension."""
        return Reply(250, (self.hostname,))

    @cached_property
    def goodbye(self) -> Reply:
        """The 221 to QUIT."""
        return Reply.of(221, "2.0.0", f"{self.hostname} goodbye")


# ---- the order of commands


class State(Enum):
    """What has been agreed so far, and so which commands make sense."""

    NEW = auto()  # the banner has not been said: nothing is read
    CONNECTED = auto()  # greeted with 220
    TURNED_AWAY = auto()  # greeted with 4yz or 5yz: only QUIT makes sense (RFC 5321 §3.1)
    READY = auto()  # EHLO, HELO or LHLO accepted
    AUTH = auto()  # a challenge was said: its response is due
    HANDSHAKE = auto()  # 220 said to STARTTLS: what comes next is TLS, or nothing of worth
    TURNED = auto()  # 250 said to ATRN: the client is the server now
    MAIL = auto()  # a transaction is open, without recipients
    RCPT = auto()  # with at least one
    BODY = auto()  # 354 said
    CHUNK = auto()  # within the octets of a BDAT
    CHUNKS = auto()  # between two of them
    CLOSED = auto()

    # A member is equal to itself alone. Enum hashes the name instead, in Python, at each look into `ORDER`.
    __hash__ = object.__hash__


def _due(sentence: str) -> Reply:
    return Reply.of(503, "5.5.1", sentence)


_HELLO_DUE: Final = _due("say EHLO or HELO first")
_MAIL_DUE: Final = _due("say MAIL first")
_RCPT_DUE: Final = _due("no valid recipients: say RCPT first")  # the code is RFC 2033 §4.2's; SMTP may use it too
_IN_TRANSACTION: Final = _due("a transaction is open: say RCPT, DATA or RSET")
_TOO_LATE: Final = _due("a transaction is open: say RSET first")
_QUIT_DUE: Final = _due("no service here: say QUIT")
_CHUNK_DUE: Final = _due("the message comes in chunks: say BDAT or RSET (RFC 3030)")
_CHUNK_LOST: Final = _due("no transaction takes this chunk: say RSET")
_NO_DATA: Final = _due("a message of BODY=BINARYMIME comes in chunks: say BDAT (RFC 3030)")
_UNDER_TLS: Final = Reply.of(503, "5.5.1", "TLS is on already")
_NOT_OFFERED: Final = Reply.of(502, "5.5.1", "not offered here")
_TLS_DUE: Final = Reply.of(530, "5.7.0", "Must issue a STARTTLS command first")

#: The columns of the table: commands that share their cells.
_HELLO, _HELO, _STARTTLS, _AUTH, _MAIL, _RCPT, _DATA, _BDAT, _RSET, _NOOP, _XCLIENT, _ATRN, _OTHER, _QUIT = range(14)
#: Those behind which a client has to wait for the reply.
_ENDS_A_GROUP: Final = (_HELLO, _HELO, _STARTTLS, _AUTH, _DATA, _XCLIENT, _ATRN)
#: Those that are taken where no mail may come in clear (RFC 3207 §4). XCLIENT comes of whom the administrator trusts.
_BEFORE_TLS: Final = (_HELLO, _STARTTLS, _NOOP, _XCLIENT, _QUIT)
_COLUMN: Final[Mapping[Verb, int]] = dict.fromkeys(Verb, _OTHER) | {
    Verb.EHLO: _HELLO,
    Verb.HELO: _HELO,
    Verb.LHLO: _HELLO,
    Verb.AUTH: _AUTH,
    Verb.STARTTLS: _STARTTLS,
    Verb.MAIL: _MAIL,
    Verb.RCPT: _RCPT,
    Verb.DATA: _DATA,
    Verb.BDAT: _BDAT,
    Verb.RSET: _RSET,
    Verb.NOOP: _NOOP,
    Verb.XCLIENT: _XCLIENT,
    Verb.ATRN: _ATRN,
    Verb.QUIT: _QUIT,
}

_CONNECTED, _READY, _CLOSED = State.CONNECTED, State.READY, State.CLOSED
#: One row a state in which commands are read, one column a command; a cell is the state that its acceptance leads to,
#: or the reply to it when it comes out of order (RFC 5321 §4.1.4). A command that is refused leaves the state as it is.
ORDER: Final[Mapping[State, tuple[State | Reply, ...]]] = {
    # EHLO or LHLO, HELO, STARTTLS, AUTH, MAIL, RCPT,
    # DATA, BDAT, RSET, NOOP,
    # XCLIENT, ATRN, others, QUIT
    State.CONNECTED: (
        *(_READY, _READY, _HELLO_DUE, _HELLO_DUE, _HELLO_DUE, _HELLO_DUE),
        *(_HELLO_DUE, _HELLO_DUE, _CONNECTED, _CONNECTED),
        *(_CONNECTED, _HELLO_DUE, _CONNECTED, _CLOSED),
    ),
    State.READY: (
        *(_READY, _READY, State.HANDSHAKE, State.AUTH, State.MAIL, _MAIL_DUE),
        *(_MAIL_DUE, _CHUNK_LOST, _READY, _READY),
        *(_CONNECTED, State.TURNED, _READY, _CLOSED),
    ),
    State.MAIL: (
        *(_READY, _READY, _TOO_LATE, _TOO_LATE, _IN_TRANSACTION, State.RCPT),
        *(_RCPT_DUE, _RCPT_DUE, _READY, State.MAIL),
        *(_TOO_LATE, _TOO_LATE, State.MAIL, _CLOSED),
    ),
    State.RCPT: (
        *(_READY, _READY, _TOO_LATE, _TOO_LATE, _IN_TRANSACTION, State.RCPT),
        *(State.BODY, State.CHUNK, _READY, State.RCPT),
        *(_TOO_LATE, _TOO_LATE, State.RCPT, _CLOSED),
    ),
    State.CHUNKS: (
        *(_READY, _READY, _TOO_LATE, _TOO_LATE, _CHUNK_DUE, _CHUNK_DUE),
        *(_CHUNK_DUE, State.CHUNK, _READY, State.CHUNKS),
        *(_TOO_LATE, _TOO_LATE, State.CHUNKS, _CLOSED),
    ),
    State.TURNED_AWAY: (*[_QUIT_DUE] * 13, _CLOSED),
}
#: The same where no mail may come in clear, as long as TLS has not begun (RFC 3207 §4).
ORDER_BEFORE_TLS: Final = {
    state: tuple(cell if column in _BEFORE_TLS else _TLS_DUE for column, cell in enumerate(row))
    for state, row in ORDER.items()
    if state in (State.CONNECTED, State.READY)
} | {State.TURNED_AWAY: ORDER[State.TURNED_AWAY]}


def _with_starttls(cell: Reply) -> Mapping[State, tuple[State | Reply, ...]]:
    return {
        state: row if state is State.TURNED_AWAY else (*row[:_STARTTLS], cell, *row[_STARTTLS + 1 :])
        for state, row in ORDER.items()
    }


ORDER_WITHOUT_TLS: Final = _with_starttls(_NOT_OFFERED)
ORDER_UNDER_TLS: Final = _with_starttls(_UNDER_TLS)


def order_table(settings: ServerSettings, *, secured: bool) -> Mapping[State, tuple[State | Reply, ...]]:
    """The table for a session, or from its handshake on."""
    if secured:
        return ORDER_UNDER_TLS
    if not settings.starttls:
        return ORDER_WITHOUT_TLS
    return ORDER_BEFORE_TLS if settings.tls_required else ORDER


#: The codes that count as errors of the client. Not the limits (452, 552), nor DATA without recipients, nor a chunk
#: behind one that was refused: a pipelining client meets these in good order.
_ERRORS: Final = frozenset({500, 501, 502, 503, 555})
_NO_ERRORS: Final = frozenset({_RCPT_DUE, _CHUNK_LOST})

_OK: Final = Reply.of(250, "2.0.0", "OK")
_HELP_ANSWER: Final = Reply.of(214, "2.0.0", "RFC 5321: EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP")
_UNKNOWN: Final = Reply.of(500, "5.5.2", "no such command")
_NO_ARGUMENT: Final = Reply.of(501, "5.5.4", "this command takes no argument")
_TOO_MANY_RECIPIENTS: Final = Reply.of(452, "4.5.3", "too many recipients; send the rest in another transaction")
_TOO_MANY_DOMAINS: Final = Reply.of(452, "4.5.3", "too many domains; send to the rest in another transaction")
_ANALYSIS: Final = Reply(353, ("the message is judged for each recipient",))
_TOO_MANY_ERRORS: Final = Reply.of(421, "4.7.0", "too many errors")
_TOO_MANY_REFUSALS: Final = Reply.of(421, "4.7.0", "too many refused commands")
_TOO_IDLE: Final = Reply.of(421, "4.7.0", "too many commands without a message")
_SPOKE_TOO_SOON: Final = Reply.of(554, "5.5.0", "wait for the reply before you say more (RFC 2920)")
#: AUTH, RFC 4954 §4 and §6.
_TLS_FIRST: Final = Reply.of(538, "5.7.11", "encryption required for authentication: say STARTTLS first")
_LOGIN_DUE: Final = Reply.of(530, "5.7.0", "authentication required")
_AUTHENTICATED: Final = _due("authenticated already; say QUIT to be another")
_NO_SUCH_MECHANISM: Final = Reply.of(504, "5.5.4", "no such mechanism here: see the reply to EHLO")
_RESPONSE_TOO_LONG: Final = Reply.of(500, "5.5.6", "authentication exchange line is too long")
_NO_RESPONSE: Final = Reply.of(501, "5.5.2", "that is not base64")
_RESPONSE_NOT_SHOWN: Final = "AUTH (response not shown)"
#: Why a session ends where somebody put octets between STARTTLS and the handshake (CVE-2011-0411 and its kin).
_INJECTED: Final = "octets in clear where the TLS handshake was due"
#: The same, by the event that was still to be answered, of those behind which a client has to wait.
_TOO_SOON: Final[Mapping[type, str]] = {
    StartTls: _INJECTED,
    DataStart: "the client sent its body before 354",
    Atrn: "the client said more behind ATRN",
    Xclient: "the client said more behind XCLIENT",
}
_NOT_SMTP: Final = Reply.of(554, "5.5.0", "this is a mail server")
_LINE_REPLIES: Final[Mapping[LineFault, Reply]] = {
    LineFault.OVER_LONG: Reply.of(500, "5.5.6", "line too long"),
    LineFault.FLOOD: Reply.of(421, "4.7.0", "line without end"),
    LineFault.BARE_NEWLINE: Reply.of(500, "5.5.2", "a command ends in CRLF, and holds no CR or LF else"),
    LineFault.CONTROL: Reply.of(500, "5.5.2", "control characters in a command"),
    LineFault.NOT_UTF8: Reply.of(500, "5.5.2", "a command is ASCII, or UTF-8 with SMTPUTF8"),
}


# ---- the session


class _Nothing(Enum):
    """No event: none waits for its reply, or none came of a command that the session dealt with by itself."""

    NOTHING = auto()


_NOTHING: Final = _Nothing.NOTHING


@dataclass(frozen=True, slots=True)
class _Skipping:
    """A chunk nobody wants is being read past; then `refusal` is said, and the session is in `state` again."""

    line: str
    refusal: Reply
    state: State


class ServerSession:
    """One client's session, from the banner to its end."""

    _body: BodyReader  # of State.BODY
    _chunks: ChunkReader  # of State.CHUNK and CHUNKS

    def __init__(self, settings: ServerSettings, *, secured: bool = False) -> None:
        """`secured`: the connection is under TLS from its first octet (implicit TLS, RFC 8314 §3)."""
        self._settings = settings
        self._secured = secured
        self._order = order_table(settings, secured=secured)
        self._offers = settings.offers_under_tls if secured else settings.offers
        self._state = State.NEW
        self._reader = CommandReader()
        self._out: list[bytes] = []
        self._coming: deque[Event] = deque()  # events to give out before more is read
        self._waiting: _Asked | _Nothing = _NOTHING
        self._more_replies = 0  # due to the DataEnd that waits, behind the first
        self._recipients = 0  # accepted in this transaction
        self._domains: set[str] = set()  # theirs, where they are limited
        self._prdr = False
        self._utf8 = False
        self._binary = False
        self._chunk = Chunk(0, last=False)  # the one asked about
        self._skipping: _Skipping | _Nothing = _NOTHING
        self._errors = 0
        self._refusals = 0
        self._idle = 0
        self._heard_a_line = False
        self._mechanisms: tuple[str, ...] = ()  # on offer now
        self._heard_auth = False
        self._authenticated = False
        self._xclient = False

    # ---- the caller's side

    def greet(self, reply: Reply) -> None:
        """Open with the banner: 220, or 421/554 to turn the client away (then only QUIT is taken)."""
        if self._reader.pending:
            self._end(_SPOKE_TOO_SOON, "the client spoke before the banner")
            return
        self._out.append(reply.encode())
        if reply.code == 421:
            self._close("turned away with 421")
        else:
            self._state = State.CONNECTED if reply.is_positive else State.TURNED_AWAY

    def receive(self, octets: bytes) -> None:
        """Take what was read, in any segmentation."""
        self._reader.feed(octets)

    def next_event(self) -> Event:
        """The next event. Raises: LocalProtocolError, when the last event still waits for its reply."""
        if self._waiting is not _NOTHING:
            raise LocalProtocolError(f"{type(self._waiting).__name__} waits for its reply")
        while not self._coming:
            if self._state is State.BODY:
                return self._read_body()
            if self._state is State.HANDSHAKE:
                return self._await_handshake()
            if self._state is State.TURNED:
                return _TURNED
            if self._state is State.CHUNK:
                read = self._read_chunk()
                if read is _NOTHING:
                    continue
                return read
            if not self._reader.pending or self._state is State.NEW:
                return _NEED_OCTETS
            told = self._read_command()
            if told is not _NOTHING:
                return told
        event = self._coming.popleft()
        if isinstance(event, Closing):
            self._coming.append(event)  # nothing ever comes after it
        return event

    def permit_auth(self, mechanisms: Sequence[str]) -> None:
        """Offer AUTH with these of the settings' mechanisms from the next EHLO on: secrets are safe on this connection.

        None of them takes the offer back, which is how a session begins.
        """
        self._mechanisms = tuple(mechanisms)
        self._offer()
        self._reader.limit = AUTH_LINE if mechanisms else COMMAND_LINE

    def permit_xclient(self) -> None:
        """Offer XCLIENT from the next EHLO on: the administrator trusts whoever this is."""
        self._xclient = True
        self._offer()

    def _offer(self) -> None:
        base = self._settings.offers_under_tls if self._secured else self._settings.offers
        own: dict[str, tuple[str, ...]] = {"AUTH": self._mechanisms} if self._mechanisms else {}
        if self._mechanisms and self._settings.atrn:
            own["ATRN"] = ()
        if self._xclient:
            own["XCLIENT"] = XCLIENT_ATTRIBUTES
        self._offers = Extensions({**base.offered, **own}) if own else base

    def hello_reply(self, now: float = 0.0) -> Reply:
        """The 250 that accepts a Hello, with the extensions on offer at `now`, in seconds since 1970."""
        settings = self._settings
        if isinstance(self._waiting, Hello) and self._waiting.verb == "HELO":
            return settings.helo_reply
        if settings.future_release:
            offered = settings.with_latest_release(self._offers, now)
            return Reply(250, (settings.hostname, *extension_lines(offered)))
        if self._mechanisms or self._xclient:
            return Reply(250, (settings.hostname, *extension_lines(self._offers)))
        return settings.ehlo_reply_under_tls if self._secured else settings.ehlo_reply

    def challenge(self, octets: bytes) -> None:
        """Answer an Auth or AuthResponse with 334: an AuthResponse follows, unless the client gives up.

        Raises: LocalProtocolError, when neither waits.
        """
        if not isinstance(self._waiting, Auth | AuthResponse):
            raise LocalProtocolError("no AUTH waits for a challenge")
        self._waiting = _NOTHING
        self._state = State.AUTH
        self._out.append(b"334 " + b64encode(octets) + b"\r\n")

    def tls_started(self) -> None:
        """The handshake is done: all that was said before it is forgotten (RFC 3207 §4.2), EHLO is due again.

        Raises: LocalProtocolError, unless TlsGranted was the last event.
        """
        if self._state is not State.HANDSHAKE:
            raise LocalProtocolError("no handshake is due")
        if self._reader.pending:
            self._close(_INJECTED)
            return
        self._secured = True
        self._order = ORDER_UNDER_TLS
        self._authenticated = False
        self.permit_auth(())
        self._state = State.CONNECTED

    def reply(self, reply: Reply) -> None:
        """Answer the event that waits. The code decides the state: a refused MAIL opens no transaction.

        To Auth and AuthResponse 235 says that the client is who it claims to be, 4yz and 5yz that it is not.

        421 ends the session, whatever it answers (RFC 5321 §3.8). Raises: LocalProtocolError, when nothing waits.
        """
        event = self._waiting
        if event is _NOTHING:
            raise LocalProtocolError(f"nothing waits for the reply {reply}")
        if type(event) in _TOO_SOON and event is not _CHUNKS_START and self._reader.pending:
            # Whatever the answer: what came was sent blindly, and is never to be read as commands.
            self._waiting = _NOTHING
            self._end(_SPOKE_TOO_SOON, _TOO_SOON[type(event)])
            return
        if event is _CHUNKS_START and reply.code != 421:
            self._waiting = _NOTHING
            self._start_chunks(reply)
            return
        self._out.append(reply.encode())
        if self._more_replies and reply.code != 421:
            self._more_replies -= 1
            return
        self._waiting = _NOTHING
        self._more_replies = 0
        self._settle(event, reply)

    def say_goodbye(self, reply: Reply) -> None:
        """Close from our side, unasked: 421 on time-out or shutdown (RFC 5321 §3.8)."""
        self._waiting = _NOTHING
        if self._state is not State.CLOSED:
            self._end(reply, str(reply))

    def octets_to_send(self) -> bytes:
        """What is to be written now, once; empty when nothing is."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    # ---- replies

    def _settle(self, event: _Asked, reply: Reply) -> None:
        """Where the caller's answer to `event` leads."""
        if reply.code == 421:
            self._close(f"421 in answer to {type(event).__name__}")
            return
        match event:
            case Hello():
                if reply.is_positive:
                    self._hello_accepted()
            case Auth() | AuthResponse():
                self._state = State.READY
                self._authenticated = reply.is_positive
            case Etrn():
                self._count_idle()
            case Atrn():
                if reply.is_positive:
                    self._state = State.TURNED
            case Xclient():
                if reply.is_positive:
                    self._state = State.CONNECTED
                    self._authenticated = False
                    self._count_idle()
            case StartTls():
                if reply.is_positive:
                    self._state = State.HANDSHAKE
            case Mail():
                if reply.is_positive:
                    self._state = State.MAIL
                    self._recipients = 0
                    self._domains = set()
                    self._prdr = event.parameters.prdr
                    self._utf8 = event.parameters.smtputf8
                    self._binary = event.parameters.body is BodyType.BINARY_MIME
            case Rcpt():
                if reply.is_positive:
                    self._state = State.RCPT
                    self._recipients += 1
                    if self._settings.max_recipient_domains:
                        self._domains.add(_domain_of(event))
            case DataStart():
                if reply.is_intermediate:
                    self._state = State.BODY
                    self._body = BodyReader(self._settings.size_limit)
            case DataEnd():
                self._state = State.READY
                self._idle = 0
            case _:
                assert_never(event)
        if reply.code >= 400:
            self._count_refusal()

    def _hello_accepted(self) -> None:
        again = self._state is not State.CONNECTED
        if self._state in (State.MAIL, State.RCPT, State.CHUNKS):
            self._coming.append(_TRANSACTION_RESET)
        self._state = State.READY
        if again:
            self._count_idle()

    def _refuse(self, line: str, reply: Reply) -> Refused:
        """Refuse by ourselves, and end the session when that happened too often."""
        self._out.append(reply.encode())
        self._errors += reply.code in _ERRORS and reply not in _NO_ERRORS
        if self._heard_auth and reply is _UNKNOWN:
            line = _RESPONSE_NOT_SHOWN  # what a client may have meant for a challenge that never came
        if self._errors >= self._settings.max_errors:
            self._end(_TOO_MANY_ERRORS, "too many errors")
        else:
            self._count_refusal()
        return Refused(without_secrets(line)[:EXCERPT], reply)

    def _end(self, reply: Reply, reason: str) -> None:
        self._out.append(reply.encode())
        self._close(reason)

    def _close(self, reason: str) -> None:
        self._state = State.CLOSED
        self._reader.take_rest()
        self._coming.append(Closing(reason))

    # ---- reading

    def _await_handshake(self) -> TlsGranted | Closing:
        if not self._reader.pending:
            return _TLS_GRANTED
        self._close(_INJECTED)
        return Closing(_INJECTED)

    def _read_body(self) -> Event:
        body = self._body
        if not body.ended:
            if not self._reader.pending:
                return _NEED_OCTETS
            piece = body.take(self._reader.take_rest())
            if piece:
                return DataChunk(piece)
            if not body.ended:
                return _NEED_OCTETS
        self._reader.feed(body.rest)
        return self._end_of_data(body.size, body.fault)

    def _end_of_data(self, size: int, fault: BodyFault) -> DataEnd:
        replies = self._recipients if self._settings.lmtp else 1
        if self._prdr and self._recipients > 1 and fault is BodyFault.NONE:
            self._out.append(_ANALYSIS.encode())
            replies = self._recipients + 1
        self._waiting = DataEnd(size, fault, replies)
        self._more_replies = replies - 1
        return self._waiting

    def _start_chunks(self, reply: Reply) -> None:
        """The caller's answer to the first BDAT: its octets follow, wanted or not."""
        if reply.is_intermediate:
            self._chunks = ChunkReader(self._settings.size_limit, binary=self._binary)
            self._begin_chunk(self._chunk)
        else:
            self._coming.append(_TRANSACTION_RESET)
            self._skip_chunk(self._chunk, _Skipping("BDAT", reply, State.READY))

    def _begin_chunk(self, chunk: Chunk) -> None:
        self._chunks.begin(chunk.size, last=chunk.last)
        self._state = State.CHUNK

    def _skip_chunk(self, chunk: Chunk, skipping: _Skipping) -> None:
        self._chunks = ChunkReader(0, binary=True)
        self._skipping = skipping
        self._begin_chunk(chunk)

    def _read_chunk(self) -> Event | _Nothing:
        chunks = self._chunks
        if chunks.missing and not self._reader.pending:
            return _NEED_OCTETS
        piece = chunks.take(self._reader.take_rest())
        self._reader.feed(chunks.rest)
        if piece and self._skipping is _NOTHING:
            return DataChunk(piece)
        return _NEED_OCTETS if chunks.missing else self._end_chunk()

    def _end_chunk(self) -> Event | _Nothing:
        chunks, skipping = self._chunks, self._skipping
        if isinstance(skipping, _Skipping):
            self._skipping = _NOTHING
            self._state = skipping.state
            return self._refuse(skipping.line, skipping.refusal)
        lmtp = self._settings.lmtp  # there each recipient is answered, behind the last chunk
        if chunks.is_last or (chunks.fault is not BodyFault.NONE and not lmtp):
            return self._end_of_data(chunks.size, chunks.fault)
        self._state = State.CHUNKS
        self._out.append(Reply.of(250, "2.0.0", f"{chunks.size} octets so far").encode())
        return _NOTHING

    def _read_command(self) -> Event | _Nothing:
        if not self._heard_a_line:
            return self._read_first_command()
        line = self._reader.next_line()
        if line is INCOMPLETE:
            return _NEED_OCTETS
        if self._state is State.AUTH:
            return self._read_response(line)
        return self._obey(line) if isinstance(line, str) else self._bad_line(line)

    def _read_first_command(self) -> Event | _Nothing:
        """The first line, where a client shows that it has come to the wrong place."""
        if self._reader.starts_with(TLS_HANDSHAKE):
            self._end(_NOT_SMTP, "the client began a TLS handshake in clear")
            return _NOTHING
        line = self._reader.next_line()
        if line is INCOMPLETE:
            return _NEED_OCTETS
        self._heard_a_line = True
        if isinstance(line, BadLine):
            return self._bad_line(line)
        if is_http(line):
            self._end(_NOT_SMTP, "the client spoke HTTP")
            return Refused(line[:EXCERPT], _NOT_SMTP)
        return self._obey(line)

    def _read_response(self, line: str | BadLine) -> Event:
        """A response to a challenge; what is none ends the exchange (RFC 4954 §4)."""
        self._state = State.READY
        if isinstance(line, BadLine):
            if line.fault is LineFault.FLOOD:
                return self._bad_line(BadLine(line.fault, _RESPONSE_NOT_SHOWN))
            too_long = line.fault is LineFault.OVER_LONG
            return self._refuse(_RESPONSE_NOT_SHOWN, _RESPONSE_TOO_LONG if too_long else _NO_RESPONSE)
        response = parse_response(line)
        if isinstance(response, Reply):
            return self._refuse(_RESPONSE_NOT_SHOWN, response)
        self._waiting = AuthResponse(response)
        return self._waiting

    def _bad_line(self, line: BadLine) -> Refused:
        reply = _LINE_REPLIES[line.fault]
        if line.fault is LineFault.FLOOD:
            self._end(reply, "a line without end")
            return Refused(without_secrets(line.excerpt), reply)
        return self._refuse(line.excerpt, reply)

    def _obey(self, line: str) -> Event | _Nothing:
        verb, argument = split_command(line)
        column = _COLUMN[verb]
        if column in _ENDS_A_GROUP and self._reader.pending:
            self._end(_SPOKE_TOO_SOON, f"the client said more behind {verb.value}")
            return Refused(without_secrets(line)[:EXCERPT], _SPOKE_TOO_SOON)
        cell = self._order[self._state][column]
        if column == _BDAT:
            return self._bdat(line, argument, cell)
        if isinstance(cell, Reply):
            return self._refuse(line, cell)
        asked: _Asked | Reply
        match verb:
            case Verb.MAIL:
                asked = self._mail(argument)
            case Verb.RCPT:
                asked = self._rcpt(argument)
            case Verb.DATA:
                asked = self._data(argument)
            case Verb.EHLO | Verb.HELO | Verb.LHLO:
                asked = self._hello(verb, argument)
            case Verb.AUTH:
                asked = self._auth(argument)
            case Verb.STARTTLS:
                asked = _NO_ARGUMENT if argument.strip(" ") else _START_TLS
            case Verb.XCLIENT:
                asked = parse_xclient(argument) if self._xclient else _NOT_OFFERED
            case Verb.ATRN:
                asked = self._atrn(argument)
            case _:
                return self._answer(verb, line, argument)
        if isinstance(asked, Reply):
            return self._refuse(line, asked)
        self._waiting = asked
        return asked

    def _hello(self, verb: Verb, argument: str) -> Hello | Reply:
        if (verb is Verb.LHLO) is not self._settings.lmtp:
            return _UNKNOWN  # RFC 2033 §4.1: LMTP has LHLO and neither of the others
        return parse_hello(verb, argument)

    def _auth(self, argument: str) -> Auth | Reply:
        self._heard_auth = True
        if not self._settings.mechanisms:
            return _NOT_OFFERED
        if self._authenticated:
            return _AUTHENTICATED
        if not self._mechanisms:
            return _TLS_FIRST
        auth = parse_auth(argument)
        is_known = isinstance(auth, Reply) or auth.mechanism in self._mechanisms
        return auth if is_known else _NO_SUCH_MECHANISM

    def _atrn(self, argument: str) -> Atrn | Reply:
        if not self._settings.atrn:
            return _NOT_OFFERED
        return parse_atrn(argument) if self._authenticated else _LOGIN_DUE

    def _mail(self, argument: str) -> Mail | Reply:
        mail = parse_mail(argument, self._offers)
        limit = self._settings.size_limit
        if isinstance(mail, Mail) and 0 < limit < mail.parameters.size:
            return Reply.of(552, "5.3.4", f"{mail.parameters.size} octets are more than the {limit} taken here")
        return mail

    def _data(self, argument: str) -> DataStart | Reply:
        if argument.strip(" "):
            return _NO_ARGUMENT
        return _NO_DATA if self._binary else _DATA_START

    def _bdat(self, line: str, argument: str, cell: State | Reply) -> Event | _Nothing:
        if not self._settings.chunking:
            return self._refuse(line, _NOT_OFFERED)
        chunk = parse_chunk(argument)
        if isinstance(chunk, Reply):  # its octets, however many, would be read as commands
            self._end(chunk, "BDAT without a size")
            return Refused(line[:EXCERPT], chunk)
        if isinstance(cell, Reply):
            self._skip_chunk(chunk, _Skipping(line, cell, self._state))
            return _NOTHING
        if self._state is State.CHUNKS:
            self._begin_chunk(chunk)
            return _NOTHING
        self._chunk = chunk
        self._waiting = _CHUNKS_START
        return _CHUNKS_START

    def _etrn(self, line: str, argument: str) -> Event:
        """RFC 1985 §5.1: at any time but within a transaction."""
        if self._state is not State.READY:
            return self._refuse(line, _HELLO_DUE if self._state is State.CONNECTED else _TOO_LATE)
        asked = parse_etrn(argument)
        if isinstance(asked, Reply):
            return self._refuse(line, asked)
        self._waiting = asked
        return asked

    def _rcpt(self, argument: str) -> Rcpt | Reply:
        if self._recipients >= self._settings.max_recipients:
            return _TOO_MANY_RECIPIENTS
        rcpt, most = parse_rcpt(argument, self._offers, utf8=self._utf8), self._settings.max_recipient_domains
        if most and isinstance(rcpt, Rcpt) and len(self._domains | {_domain_of(rcpt)}) > most:
            return _TOO_MANY_DOMAINS
        return rcpt

    def _answer(self, verb: Verb, line: str, argument: str) -> Event | _Nothing:
        """The commands that nobody but the session need hear of."""
        match verb:
            case Verb.QUIT:
                self._end(self._settings.goodbye, "QUIT")
                return _NOTHING
            case Verb.RSET if argument.strip(" "):
                return self._refuse(line, _NO_ARGUMENT)
            case Verb.RSET:
                self._reset()
                return _TRANSACTION_RESET
            case Verb.NOOP:
                self._idly(_OK)
            case Verb.VRFY:
                reply = parse_vrfy(argument)
                if reply.code >= 400:
                    return self._refuse(line, reply)
                self._idly(reply)
            case Verb.HELP:
                self._idly(_HELP_ANSWER)
            case Verb.ETRN if self._settings.etrn:
                return self._etrn(line, argument)
            case Verb.EXPN | Verb.ETRN:
                return self._refuse(line, _NOT_OFFERED)
            case _:
                return self._refuse(line, _UNKNOWN)
        return _NOTHING

    def _reset(self) -> None:
        if self._state is not State.CONNECTED:
            self._state = State.READY
        self._idly(_OK)

    def _idly(self, reply: Reply) -> None:
        self._out.append(reply.encode())
        self._count_idle()

    def _count_idle(self) -> None:
        self._idle += 1
        if self._idle >= IDLE_COMMANDS:
            self._end(_TOO_IDLE, "too many commands without a message")

    def _count_refusal(self) -> None:
        self._refusals += 1
        if self._refusals == REFUSALS:
            self._end(_TOO_MANY_REFUSALS, "too many refused commands")


def _domain_of(rcpt: Rcpt) -> str:
    path = rcpt.forward_path
    return str(path.domain).lower() if isinstance(path, Mailbox) else ""
