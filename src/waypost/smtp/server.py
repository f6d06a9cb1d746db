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
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from waypost.smtp.agreement import Agreement
from waypost.smtp.answer import (
    ANALYSIS,
    LINE_REPLIES,
    NO_RESPONSE,
    NOT_OFFERED,
    NOT_SMTP,
    RESPONSE_TOO_LONG,
    SPOKE_TOO_SOON,
    UNKNOWN,
)
from waypost.smtp.body import BodyFault, BodyReader, ChunkReader
from waypost.smtp.command import (
    TLS_HANDSHAKE,
    Auth,
    Chunk,
    Hello,
    Verb,
    is_http,
    parse_chunk,
    parse_response,
    split_command,
    without_secrets,
)
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.event import (
    CHUNKS_START,
    NEED_OCTETS,
    TLS_GRANTED,
    TRANSACTION_RESET,
    TURNED,
    AuthResponse,
    Closing,
    DataChunk,
    DataEnd,
    Event,
    Refused,
    Request,
    TlsGranted,
)
from waypost.smtp.framing import AUTH_LINE, COMMAND_LINE, EXCERPT, INCOMPLETE, BadLine, CommandReader, LineFault
from waypost.smtp.order import COLUMN, ENDS_A_GROUP, INJECTED, TOO_SOON, WITH_TRANSACTION, State
from waypost.smtp.patience import Enough, Judgement, Patience
from waypost.smtp.reply import Reply
from waypost.smtp.request import ANSWERS, REQUESTS
from waypost.smtp.settings import ServerSettings

_RESPONSE_NOT_SHOWN: Final = "AUTH (response not shown)"


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

    _body: BodyReader | ChunkReader  # of State.BODY and CHUNK
    _chunks: ChunkReader  # of the transaction, from its first BDAT on

    def __init__(self, settings: ServerSettings, *, secured: bool = False) -> None:
        """`secured`: the connection is under TLS from its first octet (implicit TLS, RFC 8314 §3)."""
        self._settings = settings
        self._agreed = Agreement(settings, secured=secured)
        self._patience = Patience(settings.max_errors)
        self._reader = CommandReader()
        self._out: list[bytes] = []
        self._coming: deque[Event] = deque()  # events to give out before more is read
        self._waiting: Request | _Nothing = _NOTHING
        self._more_replies = 0  # due to the DataEnd that waits, behind the first
        self._chunk = Chunk(0, last=False)  # the one asked about
        self._skipping: _Skipping | _Nothing = _NOTHING
        self._heard_a_line = False

    # ---- the caller's side

    def greet(self, reply: Reply) -> None:
        """Open with the banner: 220, or 421/554 to turn the client away (then only QUIT is taken)."""
        if self._reader.pending:
            self._end(SPOKE_TOO_SOON, "the client spoke before the banner")
            return
        self._out.append(reply.encode())
        if reply.code == 421:
            self._close("turned away with 421")
        else:
            self._agreed.state = State.CONNECTED if reply.is_positive else State.TURNED_AWAY

    def receive(self, octets: bytes) -> None:
        """Take what was read, in any segmentation."""
        self._reader.feed(octets)

    def next_event(self) -> Event:
        """The next event. Raises: LocalProtocolError, when the last event still waits for its reply."""
        if self._waiting is not _NOTHING:
            raise LocalProtocolError(f"{type(self._waiting).__name__} waits for its reply")
        while not self._coming:
            state = self._agreed.state
            if state is State.HANDSHAKE:
                return self._await_handshake()
            if state is State.TURNED:
                return TURNED
            if state is State.BODY or state is State.CHUNK:
                told = self._read_body()
            elif state is State.NEW or not self._reader.pending:
                return NEED_OCTETS
            else:
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
        self._agreed.offer_auth(mechanisms)
        self._reader.limit = AUTH_LINE if mechanisms else COMMAND_LINE

    def permit_xclient(self) -> None:
        """Offer XCLIENT from the next EHLO on: the administrator trusts whoever this is."""
        self._agreed.offer_xclient()

    def hello_reply(self, now: float = 0.0) -> Reply:
        """The 250 that accepts a Hello, with the extensions on offer at `now`, in seconds since 1970."""
        if isinstance(self._waiting, Hello) and self._waiting.verb == "HELO":
            return self._settings.helo_reply
        return self._agreed.ehlo_reply(now)

    def challenge(self, octets: bytes) -> None:
        """Answer an Auth or AuthResponse with 334: an AuthResponse follows, unless the client gives up.

        Raises: LocalProtocolError, when neither waits.
        """
        if not isinstance(self._waiting, Auth | AuthResponse):
            raise LocalProtocolError("no AUTH waits for a challenge")
        self._waiting = _NOTHING
        self._agreed.state = State.AUTH
        self._out.append(b"334 " + b64encode(octets) + b"\r\n")

    def tls_started(self) -> None:
        """The handshake is done: all that was said before it is forgotten (RFC 3207 §4.2), EHLO is due again.

        Raises: LocalProtocolError, unless TlsGranted was the last event.
        """
        if self._agreed.state is not State.HANDSHAKE:
            raise LocalProtocolError("no handshake is due")
        if self._reader.pending:
            self._close(INJECTED)
            return
        self._agreed.start_tls()
        self._reader.limit = COMMAND_LINE

    def reply(self, reply: Reply) -> None:
        """Answer the event that waits. The code decides the state: a refused MAIL opens no transaction.

        To Auth and AuthResponse 235 says that the client is who it claims to be, 4yz and 5yz that it is not.

        421 ends the session, whatever it answers (RFC 5321 §3.8). Raises: LocalProtocolError, when nothing waits.
        """
        event = self._waiting
        if event is _NOTHING:
            raise LocalProtocolError(f"nothing waits for the reply {reply}")
        if self._reader.pending and type(event) in TOO_SOON and event is not CHUNKS_START:
            # Whatever the answer: what came was sent blindly, and is never to be read as commands.
            self._waiting = _NOTHING
            self._end(SPOKE_TOO_SOON, TOO_SOON[type(event)])
            return
        if event is CHUNKS_START and reply.code != 421:
            self._waiting = _NOTHING
            self._start_chunks(reply)
            return
        self._out.append(reply.encode())
        if reply.code == 421:
            self._waiting = _NOTHING
            self._more_replies = 0
            self._close(f"421 in answer to {type(event).__name__}")
        elif self._more_replies:
            self._more_replies -= 1
        else:
            self._waiting = _NOTHING
            self._settle(event, reply)

    def say_goodbye(self, reply: Reply) -> None:
        """Close from our side, unasked: 421 on time-out or shutdown (RFC 5321 §3.8)."""
        self._waiting = _NOTHING
        if self._agreed.state is not State.CLOSED:
            self._end(reply, str(reply))

    def octets_to_send(self) -> bytes:
        """What is to be written now, once; empty when nothing is."""
        if not self._out:
            return b""
        replies, self._out = self._out, []
        return b"".join(replies)

    # ---- replies

    def _settle(self, event: Request, reply: Reply) -> None:
        """Where the caller's answer to `event` leads."""
        before = self._agreed.state
        if self._agreed.settle(event, reply):  # it brought no message nearer
            if before in WITH_TRANSACTION:  # it was EHLO again
                self._coming.append(TRANSACTION_RESET)
            self._bear(self._patience.after_idle())
        if self._agreed.state is State.BODY:
            self._body = BodyReader(self._settings.size_limit)
        if reply.code >= 400:
            self._bear(self._patience.after_refusal())

    def _refuse(self, line: str, reply: Reply) -> Refused:
        """Refuse by ourselves."""
        self._out.append(reply.encode())
        if self._agreed.heard_auth and reply is UNKNOWN:
            line = _RESPONSE_NOT_SHOWN  # what a client may have meant for a challenge that never came
        self._bear(self._patience.after_error(reply))
        return Refused(without_secrets(line)[:EXCERPT], reply)

    def _bear(self, judgement: Judgement) -> None:
        if isinstance(judgement, Enough):
            self._end(judgement.reply, judgement.reason)

    def _end(self, reply: Reply, reason: str) -> None:
        self._out.append(reply.encode())
        self._close(reason)

    def _close(self, reason: str) -> None:
        self._agreed.state = State.CLOSED
        self._reader.take_rest()
        self._coming.append(Closing(reason))

    # ---- reading: TLS, a body

    def _await_handshake(self) -> TlsGranted | Closing:
        if not self._reader.pending:
            return TLS_GRANTED
        self._close(INJECTED)
        return Closing(INJECTED)

    def _read_body(self) -> Event | _Nothing:
        """Of State.BODY and CHUNK."""
        body = self._body
        if not body.ended:
            if not self._reader.pending:
                return NEED_OCTETS
            piece = body.take(self._reader.take_rest())
            if piece and self._skipping is _NOTHING:
                return DataChunk(piece)
            if not body.ended:
                return NEED_OCTETS
        if body.rest:
            self._reader.feed(body.rest)
        return self._end_chunk() if isinstance(body, ChunkReader) else self._end_of_data(body.size, body.fault)

    def _end_of_data(self, size: int, fault: BodyFault) -> DataEnd:
        agreed = self._agreed
        replies = agreed.recipients if self._settings.lmtp else 1
        if agreed.prdr and agreed.recipients > 1 and fault is BodyFault.NONE:
            self._out.append(ANALYSIS.encode())
            replies = agreed.recipients + 1
        self._patience.renew()
        self._waiting = DataEnd(size, fault, replies)
        self._more_replies = replies - 1
        return self._waiting

    # ---- reading chunks (BDAT, RFC 3030)

    def _bdat(self, line: str, argument: str, cell: State | Reply) -> Event | _Nothing:
        if not self._settings.chunking:
            return self._refuse(line, NOT_OFFERED)
        chunk = parse_chunk(argument)
        if isinstance(chunk, Reply):  # its octets, however many, would be read as commands
            self._end(chunk, "BDAT without a size")
            return Refused(line[:EXCERPT], chunk)
        if isinstance(cell, Reply):
            self._skip_chunk(chunk, _Skipping(line, cell, self._agreed.state))
            return _NOTHING
        if self._agreed.state is State.CHUNKS:
            self._begin_chunk(self._chunks, chunk)
            return _NOTHING
        self._chunk = chunk
        self._waiting = CHUNKS_START
        return CHUNKS_START

    def _start_chunks(self, reply: Reply) -> None:
        """The caller's answer to the first BDAT: its octets follow, wanted or not."""
        if reply.is_intermediate:
            self._chunks = ChunkReader(self._settings.size_limit, binary=self._agreed.binary)
            self._begin_chunk(self._chunks, self._chunk)
        else:
            self._coming.append(TRANSACTION_RESET)
            self._skip_chunk(self._chunk, _Skipping("BDAT", reply, State.READY))

    def _begin_chunk(self, chunks: ChunkReader, chunk: Chunk) -> None:
        chunks.begin(chunk.size, last=chunk.last)
        self._body = chunks
        self._agreed.state = State.CHUNK

    def _skip_chunk(self, chunk: Chunk, skipping: _Skipping) -> None:
        self._skipping = skipping
        self._begin_chunk(ChunkReader(0, binary=True), chunk)

    def _end_chunk(self) -> Event | _Nothing:
        skipping = self._skipping
        if isinstance(skipping, _Skipping):
            self._skipping = _NOTHING
            self._agreed.state = skipping.state
            return self._refuse(skipping.line, skipping.refusal)
        chunks = self._chunks
        lmtp = self._settings.lmtp  # there each recipient is answered, behind the last chunk
        if chunks.is_last or (chunks.fault is not BodyFault.NONE and not lmtp):
            return self._end_of_data(chunks.size, chunks.fault)
        self._agreed.state = State.CHUNKS
        self._out.append(Reply.of(250, "2.0.0", f"{chunks.size} octets so far").encode())
        return _NOTHING

    # ---- reading commands

    def _read_command(self) -> Event | _Nothing:
        if not self._heard_a_line:
            return self._read_first_command()
        line = self._reader.next_line()
        if line is INCOMPLETE:
            return NEED_OCTETS
        if self._agreed.state is State.AUTH:
            return self._read_response(line)
        return self._obey(line) if isinstance(line, str) else self._bad_line(line)

    def _read_first_command(self) -> Event | _Nothing:
        """The first line, where a client shows that it has come to the wrong place."""
        if self._reader.starts_with(TLS_HANDSHAKE):
            self._end(NOT_SMTP, "the client began a TLS handshake in clear")
            return _NOTHING
        line = self._reader.next_line()
        if line is INCOMPLETE:
            return NEED_OCTETS
        self._heard_a_line = True
        if isinstance(line, BadLine):
            return self._bad_line(line)
        if is_http(line):
            self._end(NOT_SMTP, "the client spoke HTTP")
            return Refused(line[:EXCERPT], NOT_SMTP)
        return self._obey(line)

    def _read_response(self, line: str | BadLine) -> Event:
        """A response to a challenge; what is none ends the exchange (RFC 4954 §4)."""
        self._agreed.state = State.READY
        if isinstance(line, BadLine):
            if line.fault is LineFault.FLOOD:
                return self._bad_line(BadLine(line.fault, _RESPONSE_NOT_SHOWN))
            too_long = line.fault is LineFault.OVER_LONG
            return self._refuse(_RESPONSE_NOT_SHOWN, RESPONSE_TOO_LONG if too_long else NO_RESPONSE)
        response = parse_response(line)
        if isinstance(response, Reply):
            return self._refuse(_RESPONSE_NOT_SHOWN, response)
        self._waiting = AuthResponse(response)
        return self._waiting

    def _bad_line(self, line: BadLine) -> Refused:
        reply = LINE_REPLIES[line.fault]
        if line.fault is LineFault.FLOOD:
            self._end(reply, "a line without end")
            return Refused(without_secrets(line.excerpt), reply)
        return self._refuse(line.excerpt, reply)

    def _obey(self, line: str) -> Event | _Nothing:
        verb, argument = split_command(line)
        column = COLUMN[verb]
        if self._reader.pending and column in ENDS_A_GROUP:
            self._end(SPOKE_TOO_SOON, f"the client said more behind {verb.value}")
            return Refused(without_secrets(line)[:EXCERPT], SPOKE_TOO_SOON)
        cell = self._agreed.order[self._agreed.state][column]
        if verb is Verb.BDAT:
            return self._bdat(line, argument, cell)
        if isinstance(cell, Reply):
            return self._refuse(line, cell)
        if verb not in REQUESTS:
            return self._answer(verb, line, argument)
        asked = REQUESTS[verb](argument, self._agreed)
        if isinstance(asked, Reply):
            return self._refuse(line, asked)
        self._waiting = asked
        return asked

    def _answer(self, verb: Verb, line: str, argument: str) -> Event | _Nothing:
        """The commands that nobody but the session need hear of."""
        if verb is Verb.QUIT:
            self._end(self._settings.goodbye, "QUIT")
            return _NOTHING
        reply = ANSWERS[verb](argument)
        if reply.code >= 400:
            return self._refuse(line, reply)
        if verb is Verb.RSET and self._agreed.state is not State.CONNECTED:
            self._agreed.state = State.READY
        self._out.append(reply.encode())
        self._bear(self._patience.after_idle())
        return TRANSACTION_RESET if verb is Verb.RSET else _NOTHING
