"""Every scripted dialogue, played on the bare sessions: each segment whole, and byte by byte."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Final, assert_never

import pytest

from tests.dialogue.notation import (
    CLIENT_NAME,
    GREETING,
    Body,
    Close,
    Handshake,
    Line,
    NotationError,
    Octets,
    Reset,
    Script,
    Silent,
    Text,
    load_scripts,
    parse_script,
)
from waypost.smtp.body import BodyFault
from waypost.smtp.client import ClientSession
from waypost.smtp.command import Atrn, Auth, Etrn, Hello, Mail, Rcpt, Xclient
from waypost.smtp.event import (
    Asked,
    AuthResponse,
    ChunkDue,
    ClientEvent,
    Closing,
    DataAnswered,
    DataChunk,
    DataEnd,
    DataStart,
    DotAnswered,
    Event,
    HandshakeDue,
    MailAnswered,
    NeedOctets,
    Opened,
    OpeningRefused,
    PeerClosing,
    RcptAnswered,
    Refused,
    StartTls,
    TlsGranted,
    TransactionEnded,
    TransactionReset,
    Turned,
    Violation,
)
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.reply import Reply
from waypost.smtp.server import ServerSession
from waypost.smtp.stage import Stage

CLIENT_SCRIPTS: Final = load_scripts("client")
SERVER_SCRIPTS: Final = load_scripts("server")
WHOLE: Final = 1 << 30


def pieces(octets: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(octets), size):
        yield octets[start : start + size]


# ---- the client


class ClientPlay:
    """A ClientSession, and a caller that does the plainest thing on each event."""

    def __init__(self, script: Script, piece: int) -> None:
        self.session = ClientSession(
            CLIENT_NAME, opening=script.opening, tls=script.tls, credentials=script.credentials
        )
        self.body = script.body
        self.piece = piece
        self.events: list[str] = []
        self.said = b""
        self.fates: list[str] = []  # of the transactions that have ended
        self.running: dict[int, str] = {}  # of the one that runs; "" while not answered
        self.waiting = list(script.transactions)
        self.lost_at = Stage.CLOSED  # where a Violation was met

    def hear(self, octets: bytes) -> None:
        for piece in pieces(octets, self.piece):
            for event in self.session.receive(piece):
                self.events.append(type(event).__name__)
                self._on(event)
            self._flush()

    def _flush(self) -> None:
        self.said += self.session.octets_to_send()

    def _settle(self, fate: str) -> None:
        self.running = {index: so_far or fate for index, so_far in self.running.items()}

    def _next(self) -> None:
        self.fates += self.running.values()
        self.running = {}
        if self.waiting:
            transaction = self.waiting.pop(0)
            self.running = dict.fromkeys(range(len(transaction.recipients)), "")
            self.session.begin(transaction)
        else:
            self.session.quit()

    def _on(self, event: ClientEvent) -> None:
        match event:
            case Opened():
                self._next()
            case MailAnswered(reply) | DataAnswered(reply, False):
                if not reply.is_positive:
                    self._settle(fate_of(reply))
            case RcptAnswered(index, reply):
                if not reply.is_positive:
                    self.running[index] = fate_of(reply)
            case DataAnswered() | ChunkDue():
                self._flush()
                self.said += b"".join(self.session.send_body(piece) for piece in pieces(self.body, self.piece))
                self.said += self.session.end_body()
            case DotAnswered(reply, indexes):
                for index in indexes:
                    self.running[index] = fate_of(reply)
            case PeerClosing(reply):
                self._settle(fate_of(reply))
            case TransactionEnded(reusable):
                if reusable:
                    self._next()
                else:
                    self.session.quit()
            case Violation(stage):
                self.lost_at = stage
            case OpeningRefused() | HandshakeDue() | Asked():
                pass
            case _:
                assert_never(event)

    def all_fates(self) -> list[str]:
        """What is known of all recipients, if the connection ends here."""
        at_dot = Stage.DOT in (self.session.awaiting, self.lost_at)
        self._settle("in-doubt" if at_dot else "deferred")
        never_begun = sum(len(transaction.recipients) for transaction in self.waiting)
        return [*self.fates, *self.running.values(), *["deferred"] * never_begun]


def fate_of(reply: Reply) -> str:
    if reply.is_positive:
        return "delivered"
    return "rejected" if reply.is_permanent else "deferred"


def stuffed(body: bytes) -> bytes:
    lines = body.splitlines(keepends=True)
    text = b"".join(b"." + line if line.startswith(b".") else line for line in lines)
    return text if text.endswith(b"\r\n") or not text else text + b"\r\n"


def client_octets(line: Line, script: Script) -> bytes:
    return stuffed(script.body) if isinstance(line.said, Body) else line.octets


def plays(scripts: Sequence[Script]) -> list[object]:
    """Each script with segments whole; and octet by octet, unless it is about what comes in one segment."""
    whole = [pytest.param(script, WHOLE, id=f"{script}-whole") for script in scripts]
    return [*whole, *(pytest.param(script, 1, id=f"{script}-by-octets") for script in scripts if not script.only_whole)]


@pytest.mark.parametrize(("script", "piece"), plays(CLIENT_SCRIPTS))
def test_a_client_session_plays_its_part(script: Script, piece: int) -> None:
    play = ClientPlay(script, piece)
    for side, lines in script.segments:
        if side == "S":
            play.hear(b"".join(line.octets for line in lines))
            continue
        if isinstance(lines[0].said, Handshake):
            play.session.tls_started()
            play.said += play.session.octets_to_send()
        expected = b"".join(client_octets(line, script) for line in lines)
        assert play.said == expected, f"{script}:{lines[0].number}"
        play.said = b""
    assert play.said == b"", f"{script}: the script does not tell what is said last"
    assert play.session.awaiting is script.awaiting
    assert play.all_fates() == list(script.fates)
    if script.events:
        assert play.events == script.events


def is_secret(line: Line) -> bool:
    """Whether a client's line is `AUTH PLAIN …`, or a response, which is one word that is no command."""
    words = line.octets.decode().split()
    return words[:2] == ["AUTH", "PLAIN"] or (len(words) == 1 and words[0] not in {"QUIT", "STARTTLS", "DATA", "."})


def secrets_of(script: Script) -> list[str]:
    if isinstance(script.credentials, NoCredentials):
        return []
    return [line.octets.decode().split()[-1] for line in script.lines if line.side == "C" and is_secret(line)]


@pytest.mark.parametrize("script", [script for script in CLIENT_SCRIPTS if secrets_of(script)], ids=str)
def test_credentials_stand_in_no_transcript(script: Script) -> None:
    play = ClientPlay(script, WHOLE)
    for side, lines in script.segments:
        if side == "S":
            play.hear(b"".join(line.octets for line in lines))
        elif isinstance(lines[0].said, Handshake):
            play.session.tls_started()
    shown = "\n".join(play.session.said())
    assert isinstance(script.credentials, Credentials)
    assert not any(secret in shown for secret in [*secrets_of(script), script.credentials.password])
    assert "EHLO" in shown
    assert "AUTH" in shown


# ---- the server


class ServerPlay:
    """A ServerSession, and a caller that answers as the script bids it."""

    def __init__(self, script: Script, piece: int) -> None:
        self.session = ServerSession(script.settings)
        self.session.permit_auth(script.permitted)
        if script.xclient:
            self.session.permit_xclient()
        self.script = script
        self.judgements = [answer.reply for answer in script.answers if answer.what == "AUTH"]
        self.piece = piece
        self.events: list[str] = []
        self.said = b""
        self.closed = False
        self.body = b""
        self.accepted: list[str] = []
        self.stored: list[bytes] = []

    def hear(self, octets: bytes) -> None:
        for piece in pieces(octets, self.piece):
            self.session.receive(piece)
            self.run()

    def run(self) -> None:
        while not self.closed:
            event = self.session.next_event()
            if isinstance(event, NeedOctets):
                break
            if isinstance(event, TlsGranted | Turned):
                if self.events[-1] != type(event).__name__:
                    self.events.append(type(event).__name__)
                self.closed = isinstance(event, Turned)
                break
            if not isinstance(event, DataChunk):
                self.events.append(type(event).__name__)
            self._on(event)
        self.said += self.session.octets_to_send()

    def _on(self, event: Event) -> None:
        match event:
            case Hello():
                self.session.reply(self._answer("HELLO", "", self.session.hello_reply()))
            case Etrn() | Atrn():
                reply = Reply.of(250, "2.0.0", "started")
                self.session.reply(self._answer("ATRN", "", reply) if isinstance(event, Atrn) else reply)
            case Xclient():
                self.session.reply(GREETING)
            case Mail(reverse_path):
                self.accepted = []
                self.session.reply(self._answer("MAIL", str(reverse_path), Reply.of(250, "2.1.0", "OK")))
            case Rcpt(forward_path):
                reply = self._answer("RCPT", str(forward_path), Reply.of(250, "2.1.5", "OK"))
                if reply.is_positive:
                    self.accepted.append(str(forward_path))
                self.session.reply(reply)
            case Auth() | AuthResponse():
                reply = self.judgements.pop(0)
                if reply.is_intermediate:
                    self.session.challenge(b64decode(reply.lines[0]))
                else:
                    self.session.reply(reply)
            case StartTls():
                self.session.reply(self._answer("STARTTLS", "", Reply.of(220, "2.0.0", "begin")))
            case DataStart():
                self.body = b""
                self.session.reply(self._answer("DATA", "", Reply(354, ("go ahead",))))
            case DataChunk(octets):
                self.body += octets
            case DataEnd(size, fault):
                self._store(size, fault, event.replies)
            case Closing():
                self.closed = True
            case Refused() | TransactionReset() | NeedOctets() | TlsGranted() | Turned():
                pass
            case _:
                assert_never(event)

    def _store(self, size: int, fault: BodyFault, replies: int) -> None:
        whole = [""] * (replies - len(self.accepted) if replies > 1 and not self.script.settings.lmtp else 1)
        for recipient in [*self.accepted, *whole][:replies] if replies > 1 or self.script.settings.lmtp else whole:
            if fault is BodyFault.NONE:
                assert size == len(self.body)
                reply = self._answer("DOT", recipient, Reply.of(250, "2.0.0", "queued"))
            elif fault is BodyFault.TOO_LARGE:
                reply = Reply.of(552, "5.3.4", "too large")
            else:
                reply = Reply.of(550, "5.6.0", f"{fault.name}")
            self.session.reply(reply)
        if fault is BodyFault.NONE:
            self.stored.append(self.body)

    def _answer(self, what: str, address: str, default: Reply) -> Reply:
        answers = [answer for answer in self.script.answers if answer.what == what]
        fitting = [answer.reply for answer in answers if answer.address in ("", address)]
        return fitting[0] if fitting else default


def check_replies(lines: Sequence[Line], said: bytes, place: str) -> None:
    """What was said begins, line by line, with what is expected; all but the last line of a reply may be left out."""
    actual = iter(said.decode().split("\r\n")[:-1])
    for line in lines:
        match line.said:
            case Text(expected):
                found = next(actual, "(nothing)")
                while found[3:4] == "-" and not (expected[3:4] == "-" and found.startswith(expected)):
                    found = next(actual, "(nothing)")
                assert found.startswith(expected), f"{place}:{line.number}"
            case Close():
                pass  # checked by the caller
            case other:
                raise NotationError(f"{place}:{line.number}: {other} is nothing a server under test says")
    assert list(actual) == [], f"{place}:{lines[-1].number}: more was said"


@pytest.mark.parametrize(("script", "piece"), plays(SERVER_SCRIPTS))
def test_a_server_session_plays_its_part(script: Script, piece: int) -> None:
    play = ServerPlay(script, piece)
    if script.lines[0].side == "S":
        play.session.greet(GREETING)
        play.run()
    for side, lines in script.segments:
        if side == "C":
            if isinstance(lines[0].said, Handshake):
                play.session.tls_started()
            play.hear(b"".join(line.octets for line in lines))
            if lines[0] is script.lines[0]:  # the client did not wait for the banner
                play.session.greet(GREETING)
                play.run()
            if isinstance(lines[-1].said, Silent):
                play.session.say_goodbye(Reply.of(421, "4.4.2", "time-out"))
                play.run()
            continue
        check_replies(lines, play.said, script.name)
        play.said = b""
        assert play.closed == isinstance(lines[-1].said, Close), f"{script}:{lines[-1].number}"
    assert play.said == b"", f"{script}: the script does not tell what is said last"
    assert len(play.stored) == script.messages
    if script.stored:
        assert play.stored[-1] == script.stored
    if script.events:
        assert play.events == script.events


# ---- the scripts themselves


@pytest.mark.parametrize(
    "text",
    [
        "test: client\nS: 220\n",
        "# reason\nS: 220\n",
        "# reason\ntest: both\nS: 220\n",
        "# reason\ntest: client\nmessages: 1\nS: 220\n",
        "# reason\ntest: client\nfates: lost\nS: 220\n",
        "# reason\ntest: client\nS: 220\nX: what\n",
        "# reason\ntest: client\nS: (silent soon)\n",
    ],
)
def test_a_script_that_is_not_written_as_the_grammar_has_it_is_refused(text: str) -> None:
    with pytest.raises(NotationError):
        parse_script(text, "bad")


def test_marks_are_read() -> None:
    marks = ["(silent 5m)", "(close)", "(reset)", r"(octets 2\x32\0\r)", "(handshake)", "(body)"]
    text = "# r\ntest: client\n" + "".join(f"S: {mark}\n" for mark in marks)
    said = [line.said for line in parse_script(text, "marks").lines]
    assert isinstance(said[0], Silent)
    assert said[0].duration.total_seconds() == 300
    assert said[1:] == [Close(), Reset(), Octets(b"22\0\r"), Handshake(), Body()]


def test_there_are_scripts_for_both_sides() -> None:
    assert len(CLIENT_SCRIPTS) >= 20
    assert len(SERVER_SCRIPTS) >= 20
