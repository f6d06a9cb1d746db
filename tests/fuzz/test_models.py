"""Both engines against models a page long: RFC 5321's order of commands, and what a peer may do to a transaction."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from waypost.smtp.client import ClientSession
from waypost.smtp.command import Atrn, Auth, Etrn, Hello, Mail, NoResponse, Rcpt, Xclient
from waypost.smtp.event import (
    AuthResponse,
    ClientEvent,
    Closing,
    DataAnswered,
    DataChunk,
    DataEnd,
    DataStart,
    DotAnswered,
    MailAnswered,
    NeedOctets,
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
from waypost.smtp.extension import MailParameters, RcptParameters
from waypost.smtp.path import NullPath, parse_mailbox
from waypost.smtp.reply import Reply
from waypost.smtp.server import ServerSession
from waypost.smtp.settings import ServerSettings
from waypost.smtp.stage import Opening, Stage, Tls
from waypost.smtp.transaction import Transaction

OK = Reply.of(250, "2.0.0", "OK")
GO = Reply(354, ("go",))
NO = Reply.of(550, "5.7.1", "no")
LATER = Reply.of(451, "4.3.0", "later")
answers = st.sampled_from([OK, OK, OK, NO, LATER])


class Order(RuleBasedStateMachine):
    """A server's session. The model: where the client stands, how often it erred, and how many recipients it has."""

    MAX_ERRORS = 6
    MAX_RECIPIENTS = 3

    def __init__(self) -> None:
        super().__init__()
        limits = ServerSettings(
            "mx.example",
            max_errors=self.MAX_ERRORS,
            max_recipients=self.MAX_RECIPIENTS,
            mechanisms=("PLAIN",),
            starttls=True,
        )
        self.session = ServerSession(limits)
        self.session.permit_auth(("PLAIN",))
        self.authenticated = False
        self.secured = False
        self.session.greet(Reply(220, ("mx.example",)))
        self.session.octets_to_send()
        self.stands = "connected"
        self.errors = 0
        self.recipients = 0
        self.answer = OK
        self.bodies: list[bytes] = []

    # -- the caller of the session
    def say(self, octets: bytes) -> list[int]:
        """The codes that answer `octets`."""
        self.session.receive(octets)
        while True:
            event = self.session.next_event()
            match event:
                case NeedOctets() | Closing() | TlsGranted():
                    said = self.session.octets_to_send()
                    return [int(line[:3]) for line in said.splitlines() if line[3:4] == b" "]
                case Auth(response=NoResponse()):
                    self.session.challenge(b"")
                case Hello() | Etrn() | StartTls() | Auth() | AuthResponse() | Mail() | Rcpt() | DataEnd():
                    self.session.reply(self.answer)
                case DataStart():
                    self.session.reply(GO if self.answer is OK else self.answer)
                    self.bodies.append(b"")
                case DataChunk(piece):
                    self.bodies[-1] += piece
                case TransactionReset() | Refused():
                    pass
                case Atrn() | Xclient() | Turned():
                    raise AssertionError(f"{event}, which is not offered")

    def expect(self, line: bytes, code: int, *, is_error: bool = False) -> None:
        codes = [code]
        self.errors += is_error
        if self.errors >= self.MAX_ERRORS:
            self.stands = "closed"
            codes.append(421)
        assert self.say(line + b"\r\n") == codes

    def command(self, line: bytes, answer: Reply, leads_to: dict[str, str]) -> None:
        """A command that the caller judges: in order in the states that `leads_to` has, else 503."""
        self.answer = answer
        if self.stands not in leads_to:
            self.expect(line, 503, is_error=True)
            return
        self.expect(line, 354 if line == b"DATA" and answer is OK else answer.code)
        if answer is OK:
            self.stands = leads_to[self.stands]

    # -- the client
    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule(verb=st.sampled_from([b"EHLO", b"helo"]), answer=answers)
    def hello(self, verb: bytes, answer: Reply) -> None:
        self.command(verb + b" us.example", answer, dict.fromkeys(("connected", "ready", "mail", "rcpt"), "ready"))

    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule(answer=answers, at_once=st.booleans())
    def auth(self, answer: Reply, at_once: bool) -> None:  # noqa: FBT001 - Hypothesis names it
        if self.stands != "ready" or self.authenticated:
            self.expect(b"AUTH PLAIN", 503, is_error=True)
            return
        self.answer = answer
        if at_once:
            self.expect(b"AUTH PLAIN AGEAYg==", answer.code)
        else:
            self.expect(b"AUTH PLAIN", 334)
            self.expect(b"AGEAYg==", answer.code)
        self.authenticated = answer is OK

    @precondition(lambda self: self.stands == "ready" and not self.authenticated)
    @rule(said=st.sampled_from([b"*", b"?"]))
    def auth_given_up(self, said: bytes) -> None:
        self.expect(b"AUTH PLAIN", 334)
        self.expect(said, 501, is_error=True)

    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule(answer=answers)
    def starttls(self, answer: Reply) -> None:
        self.command(b"STARTTLS", answer, {} if self.secured else {"ready": "handshake"})
        if self.stands == "handshake":
            self.session.tls_started()
            self.session.permit_auth(("PLAIN",))
            self.secured, self.authenticated, self.stands = True, False, "connected"

    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule(answer=answers, path=st.sampled_from([b"<>", b"<a@us.example>"]))
    def mail(self, answer: Reply, path: bytes) -> None:
        self.command(b"MAIL FROM:" + path, answer, {"ready": "mail"})
        if self.stands == "mail":
            self.recipients = 0

    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule(answer=answers, path=st.sampled_from([b"<postmaster>", b"<b@mx.example>"]))
    def rcpt(self, answer: Reply, path: bytes) -> None:
        in_order = self.stands in ("mail", "rcpt")
        if in_order and self.recipients >= self.MAX_RECIPIENTS:
            self.expect(b"RCPT TO:" + path, 452)
            return
        self.command(b"RCPT TO:" + path, answer, {"mail": "rcpt", "rcpt": "rcpt"})
        self.recipients += in_order and answer is OK

    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule(answer=answers)
    def data(self, answer: Reply) -> None:
        if self.stands == "mail":  # no recipients: a pipelining client meets this in good order
            self.expect(b"DATA", 503)
        else:
            self.command(b"DATA", answer, {"rcpt": "body"})

    @precondition(lambda self: self.stands == "body")
    @rule(lines=st.lists(st.sampled_from([b"text", b".", b"..", b"QUIT", b"\xff", b""]), max_size=4), answer=answers)
    def body(self, lines: list[bytes], answer: Reply) -> None:
        self.answer = answer
        text = b"".join(line + b"\r\n" for line in lines)
        stuffed = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
        assert self.say(stuffed + b".\r\n") == [answer.code]
        assert self.bodies[-1] == text
        self.stands = "ready"

    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule()
    def reset(self) -> None:
        self.expect(b"RSET", 250)
        if self.stands != "connected":
            self.stands = "ready"

    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule(asked=st.sampled_from([(b"NOOP", 250), (b"noop x", 250), (b"VRFY bob", 252), (b"HELP", 214)]))
    def ask(self, asked: tuple[bytes, int]) -> None:
        self.expect(*asked)

    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule(
        wrong=st.sampled_from(
            [(b"", 500), (b"FOO", 500), (b"NO\0OP", 500), (b"\xff", 500), (b"RSET now", 501), (b"ETRN x", 502)]
        )
    )
    def err(self, wrong: tuple[bytes, int]) -> None:
        self.expect(*wrong, is_error=True)

    @precondition(lambda self: self.stands not in ("body", "closed"))
    @rule()
    def quit(self) -> None:
        self.expect(b"QUIT", 221)
        self.stands = "closed"

    @precondition(lambda self: self.stands == "closed")
    @rule(octets=st.binary(max_size=20))
    def speak_to_the_wall(self, octets: bytes) -> None:
        assert self.say(octets + b"\r\nNOOP\r\n") == []


TestOrder = Order.TestCase
TestOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

WORDS = [
    b"220 mx.example\r\n",
    b"250 mx.example\r\n",
    b"250-mx.example\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 SMTPUTF8\r\n",
    b"250 ok\r\n",
    b"250 ok\r\n",
    b"250 ok\r\n",
    b"250 ok\n",
    b"354 go on\r\n",
    b"354 go on\r\n",
    b"421 going\r\n",
    b"450 later\r\n",
    b"550 no\r\n",
    b"503 what?\r\n",
    b"250-",
    b"25",
    b"nonsense\r\n",
    b"\r\n",
]

GOOD = {
    Stage.GREETING: b"220 mx.example\r\n",
    Stage.EHLO: b"250-mx.example\r\n250 PIPELINING\r\n",
    Stage.HELO: b"250 mx.example\r\n",
    Stage.LHLO: b"250-mx.example\r\n250 PIPELINING\r\n",
    Stage.STARTTLS: b"220 go\r\n",
    Stage.MAIL: b"250 ok\r\n",
    Stage.RCPT: b"250 ok\r\n",
    Stage.DATA: b"354 go\r\n",
    Stage.DOT: b"250 kept\r\n",
    Stage.RSET: b"250 ok\r\n",
}


class Peer(RuleBasedStateMachine):
    """A client's session with a peer that says anything. The model: what each recipient has been told for good."""

    def __init__(self) -> None:
        super().__init__()
        self.connect()

    def connect(self) -> None:
        self.session = ClientSession("us.example")
        self.count = 0  # recipients of the transaction under way
        self.fates: dict[int, str] = {}
        self.taken: set[int] = set()  # by the reply to RCPT
        self.dot_sent = False
        self.in_transaction = False
        self.over = False

    def tell(self, events: Sequence[ClientEvent]) -> None:
        for event in events:
            assert not self.over, f"{event} after the end"
            self.hear(event)

    def hear(self, event: ClientEvent) -> None:
        match event:
            case MailAnswered(reply) if not reply.is_positive:
                self.fix(range(self.count), "mail")
            case RcptAnswered(index, reply):
                if reply.is_positive:
                    self.taken.add(index)
                else:
                    self.fix([index], "rcpt")
            case DataAnswered(reply, body_due):
                assert body_due == (reply.is_intermediate and bool(self.taken))
                if not body_due:
                    self.fix(sorted(self.taken), "data")
            case DotAnswered(_, indexes):
                assert self.dot_sent
                assert set(indexes) <= self.taken
                self.fix(indexes, "dot")
            case TransactionEnded():
                if self.in_transaction:
                    assert self.fates.keys() == set(range(self.count)), "a recipient was forgotten"
                self.in_transaction = self.dot_sent = False
            case PeerClosing() | Violation():
                self.over = True
            case _:
                pass

    def fix(self, indexes: Sequence[int], by: str) -> None:
        for index in indexes:
            assert index not in self.fates, f"recipient {index}: {self.fates.get(index)}, then {by}"
            self.fates[index] = by

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), together=st.booleans())
    def says(self, words: list[bytes], together: bool) -> None:  # noqa: FBT001 - drawn
        self.session.octets_to_send()
        for piece in [b"".join(words)] if together else words:
            self.tell(self.session.receive(piece))

    @rule(octets=st.binary(min_size=1, max_size=6))
    def says_anything(self, octets: bytes) -> None:
        self.tell(self.session.receive(octets))

    @precondition(lambda self: self.session.awaiting in GOOD)
    @rule()
    def goes_along(self) -> None:
        self.session.octets_to_send()
        self.tell(self.session.receive(GOOD[self.session.awaiting]))

    @precondition(lambda self: self.session.awaiting in GOOD)
    @rule(count=st.integers(2, 6))
    def goes_along_for_a_while(self, count: int) -> None:
        for _ in range(count):
            if self.session.awaiting in GOOD:
                self.goes_along()

    @precondition(lambda self: self.session.awaiting is Stage.CLOSED)
    @rule()
    def is_called_again(self) -> None:
        self.connect()  # what an ended transaction left open is its caller's to settle

    @precondition(lambda self: self.session.awaiting is Stage.GREETING)
    @rule(opening=st.sampled_from(Opening), tls=st.sampled_from(Tls))
    def opens_well(self, opening: Opening, tls: Tls) -> None:
        self.session = ClientSession("us.example", opening=opening, tls=tls)
        for reply in (b"220 x\r\n", b"250-x\r\n250-STARTTLS\r\n250 PIPELINING\r\n"):
            self.session.octets_to_send()
            self.tell(self.session.receive(reply))

    @precondition(lambda self: self.session.awaiting is Stage.READY)
    @rule(count=st.integers(1, 4))
    def begins(self, count: int) -> None:
        self.count, self.fates, self.taken = count, {}, set()
        self.in_transaction = True
        recipients = [(parse_mailbox(f"u{number}@mx.example"), RcptParameters()) for number in range(count)]
        self.session.begin(Transaction(NullPath(), MailParameters(), recipients))

    @precondition(lambda self: self.session.awaiting is Stage.BODY)
    @rule()
    def sends_the_body(self) -> None:
        self.session.octets_to_send()
        self.session.send_body(b"Subject: x\r\n\r\n")
        assert self.session.end_body() == b".\r\n"
        self.dot_sent = True

    @precondition(lambda self: self.session.awaiting is Stage.HANDSHAKE)
    @rule()
    def starts_tls(self) -> None:
        self.session.tls_started()

    @precondition(lambda self: self.session.awaiting is Stage.READY)
    @rule()
    def looks_whether_it_lives(self) -> None:
        self.session.reset()

    @invariant()
    def only_behind_the_dot_is_anything_in_doubt(self) -> None:
        assert self.session.awaiting is not Stage.DOT or self.dot_sent

    @invariant()
    def an_end_is_an_end(self) -> None:
        assert not self.over or self.session.awaiting is Stage.CLOSED

    @invariant()
    def what_is_said_are_whole_lines(self) -> None:
        octets = self.session.octets_to_send()
        assert octets.count(b"\n") == octets.count(b"\r") == octets.count(b"\r\n")
        assert not octets or octets.endswith(b"\r\n")


TestPeer = Peer.TestCase
TestPeer.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
