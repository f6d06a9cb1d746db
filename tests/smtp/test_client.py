"""What no dialogue can show of a client's session: its contract with its caller, its limits."""

from __future__ import annotations

import itertools

import pytest

from waypost.smtp.client import KEPT, ClientSession
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.event import (
    ClientEvent,
    DataAnswered,
    DotAnswered,
    HandshakeDue,
    MailAnswered,
    Opened,
    OpeningRefused,
    PeerClosing,
    RcptAnswered,
    TransactionEnded,
    Violation,
)
from waypost.smtp.extension import Extensions, MailParameters, RcptParameters
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.path import NullPath, parse_mailbox
from waypost.smtp.reply import Reply
from waypost.smtp.stage import (
    Opening,
    Stage,
    Tls,
)
from waypost.smtp.transaction import GROUP_COMMANDS, GROUP_OCTETS, Transaction

CODES = {2: 250, 3: 354, 4: 450, 5: 550}
HELLO = b"220 mx.example\r\n"
PIPELINING = b"250-mx.example\r\n250 PIPELINING\r\n"


def transaction(recipients: int = 1) -> Transaction:
    paths = [parse_mailbox(f"user{number}@mx.example") for number in range(recipients)]
    return Transaction(NullPath(), MailParameters(), [(path, RcptParameters()) for path in paths])


def opened(offer: bytes = PIPELINING) -> ClientSession:
    session = ClientSession("us.example")
    assert session.receive(HELLO) == []
    assert session.octets_to_send() == b"EHLO us.example\r\n"
    (event,) = session.receive(offer)
    assert isinstance(event, Opened)
    return session


def stage_of(session: ClientSession) -> str:
    return session.awaiting.value


def at_body(session: ClientSession) -> None:
    session.begin(transaction())
    session.octets_to_send()
    session.receive(b"250 OK\r\n250 OK\r\n354 go\r\n")
    assert session.awaiting is Stage.BODY


# ---- a group and its replies


def test_every_mixture_of_replies_to_a_group_ends_in_a_known_place() -> None:
    """MAIL, two RCPT and DATA, each answered 2yz, 3yz, 4yz, 5yz or 421: 625 dialogues, none may hang or raise."""
    for codes in itertools.product([250, 354, 450, 550, 421], repeat=4):
        session = opened()
        session.begin(transaction(recipients=2))
        session.octets_to_send()
        events = session.receive("".join(f"{code} x\r\n" for code in codes).encode())
        kinds = [type(event) for event in events]
        accepted = [event.index for event in events if isinstance(event, RcptAnswered) and event.reply.is_positive]
        body_due = any(isinstance(event, DataAnswered) and event.body_due for event in events)
        assert body_due is (session.awaiting is Stage.BODY)
        ended = Violation in kinds or PeerClosing in kinds
        assert body_due is (codes[0] == 250 and codes[3] == 354 and bool(accepted) and not ended)
        if 421 in codes and Violation not in kinds:
            assert kinds[-1] is PeerClosing
        if stage_of(session) not in {"body", "closed"}:
            assert stage_of(session) == "RSET"
            assert session.octets_to_send() in {b"RSET\r\n", b".\r\n"}
            assert session.receive(b"250 OK\r\n") == [TransactionEnded(reusable=True)]
            assert stage_of(session) == "ready"


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "final dot"])
@pytest.mark.parametrize(
    ("code", "usual"),
    [(200, 250), (299, 250), (300, 354), (399, 354), (400, 450), (499, 450), (500, 550), (599, 550)],
)
def test_any_code_at_any_stage_is_understood_by_its_first_digit(stage: str, code: int, usual: int) -> None:
    if (stage, usual) != ("DATA", 354):
        assert follows(stage, code) == follows(stage, usual)


@pytest.mark.parametrize("code", [300, 353, 355, 399])
def test_a_body_is_begun_by_354_and_no_other_code(code: int) -> None:
    """RFC 5321 §4.3.2 names one; whoever says another is out of step, and would take the body for commands."""
    assert follows("DATA", 354)[:2] == ([DataAnswered], Stage.BODY)
    assert follows("DATA", code)[0] == [Violation]


def follows(stage: str, code: int) -> tuple[list[type[ClientEvent]], Stage, bytes]:
    """What follows from a reply: events, what is awaited then, and what is said."""
    session = ClientSession("us.example")
    for reply in (b"220 x\r\n", b"250 x\r\n", b"250 x\r\n", b"250 x\r\n", b"354 x\r\n"):
        if session.awaiting.value == stage:
            break
        for event in session.receive(reply):
            if isinstance(event, Opened):
                session.begin(transaction())
            elif isinstance(event, DataAnswered):
                session.end_body()
        session.octets_to_send()
    assert session.awaiting.value == stage
    events = session.receive(f"{code} what\r\n".encode())
    return [type(event) for event in events], session.awaiting, session.octets_to_send()


# ---- the contract with the caller


def test_each_act_has_its_stage() -> None:
    session = ClientSession("us.example")
    with pytest.raises(LocalProtocolError, match="only at ready, and the session is at greeting"):
        session.begin(transaction())
    with pytest.raises(LocalProtocolError):
        session.send_body(b"x")
    with pytest.raises(LocalProtocolError):
        session.end_body()
    with pytest.raises(LocalProtocolError):
        session.reset()
    with pytest.raises(LocalProtocolError):
        session.tls_started()


def test_what_is_awaited_is_told_stage_by_stage() -> None:
    session = opened(b"250 mx.example\r\n")
    stages = [session.awaiting]
    session.begin(transaction())
    for reply in (b"250 OK\r\n", b"250 OK\r\n", b"354 go\r\n"):
        stages.append(session.awaiting)
        session.octets_to_send()
        session.receive(reply)
    stages.append(session.awaiting)
    session.end_body()
    stages.append(session.awaiting)
    session.receive(b"250 queued\r\n")
    stages.append(session.awaiting)
    session.quit()
    stages.append(session.awaiting)
    session.receive(b"221 bye\r\n")
    stages.append(session.awaiting)
    assert [stage.value for stage in stages] == [
        "ready", "MAIL", "RCPT", "DATA", "body", "final dot", "ready", "QUIT", "closed",
    ]  # fmt: skip


def test_in_doubt_is_from_the_dot_on_only() -> None:
    session = opened()
    at_body(session)
    session.send_body(b"x" * 10_000)
    assert stage_of(session) == "body"
    assert session.end_body() == b"\r\n.\r\n"
    assert stage_of(session) == "final dot"
    assert session.receive(b"250 queued\r\n") == [
        DotAnswered(Reply(250, ("queued",)), (0,)),
        TransactionEnded(reusable=True),
    ]


@pytest.mark.parametrize("code", [451, 552, 421])
def test_an_early_refusal_of_a_body_is_told(code: int) -> None:
    session = opened()
    at_body(session)
    session.send_body(b"x")
    assert session.receive(f"{code} enough\r\n".encode()) == [PeerClosing(Reply(code, ("enough",)))]
    assert session.awaiting is Stage.CLOSED


def test_an_early_acceptance_of_a_body_is_a_violation() -> None:
    session = opened()
    at_body(session)
    assert session.receive(b"250 thanks\r\n") == [Violation(Stage.BODY, "a reply that nobody asked for", "250 thanks")]


def test_half_a_reply_from_before_the_dot_delivers_nothing() -> None:
    session = opened()
    at_body(session)
    assert session.receive(b"25") == []
    session.end_body()
    (event,) = session.receive(b"0 queued\r\n")
    assert isinstance(event, Violation)
    assert event.stage is Stage.DOT


def test_half_a_reply_from_before_a_transaction_answers_none_of_it() -> None:
    session = opened()
    assert session.receive(b"42") == []
    session.begin(transaction())
    session.octets_to_send()
    assert session.receive(b"1 idle\r\n") == [PeerClosing(Reply(421, ("idle",)))]


@pytest.mark.parametrize("code", [421, 521])
def test_a_farewell_to_an_idle_session_is_told(code: int) -> None:
    session = opened()
    assert session.receive(f"{code} idle\r\n".encode()) == [PeerClosing(Reply(code, ("idle",)))]
    session.quit()
    assert session.octets_to_send() == b""


def test_words_to_an_idle_session_are_a_violation() -> None:
    session = opened()
    (event,) = session.receive(b"250 hello?\r\n")
    assert isinstance(event, Violation)
    assert session.receive(b"250 hello?\r\n") == []


@pytest.mark.parametrize(("reply", "reusable"), [(b"250 OK\r\n", True), (b"500 what?\r\n", False)])
def test_rset_shows_whether_an_idle_session_lives(reply: bytes, *, reusable: bool) -> None:
    session = opened()
    session.reset()
    assert session.octets_to_send() == b"RSET\r\n"
    assert session.awaiting is Stage.RSET
    assert session.receive(reply) == [TransactionEnded(reusable)]


def test_rset_answered_421_is_a_farewell() -> None:
    session = opened()
    session.reset()
    session.octets_to_send()
    assert session.receive(b"421 bye\r\n") == [PeerClosing(Reply(421, ("bye",)))]


def test_quit_in_the_middle_of_a_transaction_forgets_it() -> None:
    session = opened()
    session.begin(transaction())
    session.quit()
    session.quit()
    assert session.octets_to_send().endswith(b"DATA\r\nQUIT\r\n")
    assert session.receive(b"250 OK\r\n") == []


def test_octets_in_clear_while_the_handshake_is_due_are_a_violation() -> None:
    session = ClientSession("us.example", tls=Tls.REQUIRED)
    session.receive(HELLO)
    session.octets_to_send()
    session.receive(b"250-mx.example\r\n250 STARTTLS\r\n")
    session.octets_to_send()
    assert session.receive(b"220 go\r\n") == [HandshakeDue()]
    assert session.extensions == Extensions({"STARTTLS": ()})
    (event,) = session.receive(b"2")
    assert isinstance(event, Violation)
    assert event.stage is Stage.HANDSHAKE


def test_what_was_offered_in_clear_is_forgotten_under_tls() -> None:
    session = ClientSession("us.example", tls=Tls.REQUIRED)
    session.receive(HELLO)
    session.octets_to_send()
    session.receive(b"250-mx.example\r\n250-STARTTLS\r\n250 PIPELINING\r\n")
    session.octets_to_send()
    session.receive(b"220 go\r\n")
    session.tls_started()
    assert session.extensions == Extensions()
    assert session.octets_to_send() == b"EHLO us.example\r\n"
    assert session.receive(b"250 mx.example\r\n") == [Opened(Extensions())]


def test_lmtp_says_lhlo_again_under_tls() -> None:
    session = ClientSession("us.example", opening=Opening.LHLO, tls=Tls.IF_OFFERED)
    session.receive(HELLO)
    session.octets_to_send()
    session.receive(b"250-mx.example\r\n250 STARTTLS\r\n")
    session.octets_to_send()
    session.receive(b"220 go\r\n")
    session.tls_started()
    assert session.octets_to_send() == b"LHLO us.example\r\n"
    assert session.receive(b"250 mx.example\r\n") == [Opened(Extensions())]


def test_a_refusal_says_why_in_a_sentence() -> None:
    session = ClientSession("us.example", tls=Tls.REQUIRED)
    session.receive(HELLO)
    session.octets_to_send()
    (event,) = session.receive(b"250 mx.example\r\n")
    assert event == OpeningRefused(
        Stage.EHLO, Reply(250, ("mx.example",)), "the route requires TLS, and STARTTLS is not offered"
    )
    assert session.octets_to_send() == b"QUIT\r\n"


def test_credentials_show_in_no_repr() -> None:
    assert "sesame" not in repr(Credentials("user", "sesame"))


# ---- groups


def test_many_recipients_go_in_groups_that_cannot_clog_the_connection() -> None:
    session = opened()
    session.begin(transaction(recipients=250))
    groups: list[int] = []
    events: list[ClientEvent] = []
    while octets := session.octets_to_send():
        assert len(octets) <= GROUP_OCTETS + 512
        groups.append(octets.count(b"\r\n"))
        replies = [b"354 go\r\n" if line == b"DATA" else b"250 OK\r\n" for line in octets.split(b"\r\n")[:-1]]
        events += session.receive(b"".join(replies))
    assert groups == [GROUP_COMMANDS, GROUP_COMMANDS, 252 - 2 * GROUP_COMMANDS]
    assert [event.index for event in events if isinstance(event, RcptAnswered)] == list(range(250))
    assert session.awaiting is Stage.BODY


def test_long_addresses_make_smaller_groups() -> None:
    session = opened()
    path = parse_mailbox(f"{'l' * 64}@{'.'.join(['d' * 60] * 3)}")
    session.begin(Transaction(NullPath(), MailParameters(), [(path, RcptParameters())] * 100))
    assert GROUP_OCTETS <= len(session.octets_to_send()) <= GROUP_OCTETS + 512


def test_a_group_of_refused_recipients_does_not_end_the_transaction_while_others_wait() -> None:
    session = opened()
    session.begin(transaction(recipients=GROUP_COMMANDS))
    session.octets_to_send()
    session.receive(b"250 OK\r\n" + b"550 no\r\n" * (GROUP_COMMANDS - 1))
    assert session.octets_to_send() == b"RCPT TO:<user99@mx.example>\r\nDATA\r\n"


def test_after_a_refused_mail_no_further_group_is_said() -> None:
    session = opened()
    session.begin(transaction(recipients=GROUP_COMMANDS * 2))
    session.octets_to_send()
    events = session.receive(b"550 no\r\n" + b"503 no\r\n" * (GROUP_COMMANDS - 1))
    assert [type(event) for event in events] == [MailAnswered]
    assert session.octets_to_send() == b"RSET\r\n"


# ---- words


def test_a_wide_address_is_not_said_to_a_peer_without_smtputf8() -> None:
    session = opened()
    wide = Transaction(NullPath(), MailParameters(), [(parse_mailbox("jürgen@mx.example"), RcptParameters())])
    assert wide.has_wide_addresses
    with pytest.raises(LocalProtocolError, match="SMTPUTF8"):
        session.begin(wide)
    assert session.awaiting is Stage.READY


def test_what_was_said_and_heard_is_kept_for_a_transcript_and_given_once() -> None:
    session = opened()
    at_body(session)
    session.end_body()
    session.receive(b"250 queued\r\n")
    assert session.said() == [
        "EHLO us.example", "MAIL FROM:<>", "RCPT TO:<user0@mx.example>", "DATA", ".",
    ]  # fmt: skip
    assert [reply.code for reply in session.heard()] == [220, 250, 250, 250, 354, 250]
    assert (session.said(), session.heard()) == ([], [])


def test_what_nobody_fetches_does_not_grow_without_end() -> None:
    session = opened()
    for _ in range(KEPT):
        session.reset()
        session.octets_to_send()
        session.receive(b"250 OK\r\n")
    assert len(session.said()) == len(session.heard()) == KEPT


# ---- whose mail it is: Postfix's XCLIENT
NO_CREDENTIALS = NoCredentials()
THEM = (("NAME", "[UNAVAILABLE]"), ("ADDR", "192.0.2.9"), ("HELO", "them+us.example"), ("LOGIN", "ann"))


def told_whose(
    offered: str, tls: Tls = Tls.NEVER, credentials: Credentials | NoCredentials = NO_CREDENTIALS
) -> ClientSession:
    """A session for the mail of `THEM`, up to the reply to its first EHLO."""
    session = ClientSession("us.example", client=THEM, tls=tls, credentials=credentials)
    session.receive(b"220 hi\r\n")
    session.octets_to_send()
    session.receive(f"250-mx.example\r\n{offered}".encode())
    return session


def test_a_host_that_takes_xclient_hears_what_it_offers_to_hear_and_is_greeted_anew() -> None:
    session = told_whose("250-PIPELINING\r\n250 XCLIENT ADDR HELO COLOUR\r\n")
    assert session.octets_to_send() == b"XCLIENT ADDR=192.0.2.9 HELO=them+2Bus.example\r\n"
    assert session.receive(b"220 mx.example again\r\n") == []
    assert session.octets_to_send() == b"EHLO us.example\r\n"
    (opened,) = session.receive(b"250-mx.example\r\n250-XCLIENT ADDR HELO\r\n250 SIZE\r\n")
    assert isinstance(opened, Opened)
    assert "SIZE" in opened.extensions
    assert "PIPELINING" not in opened.extensions, "what was offered before is forgotten"


@pytest.mark.parametrize("offered", ["250 SIZE\r\n", "250 XCLIENT COLOUR\r\n", "250 XCLIENT\r\n"])
def test_a_host_that_offers_nothing_of_it_hears_nothing(offered: str) -> None:
    session = told_whose(offered)
    assert session.awaiting is Stage.READY
    assert session.octets_to_send() == b""


def test_xclient_comes_behind_tls_and_before_the_login() -> None:
    session = told_whose("250-STARTTLS\r\n250 XCLIENT ADDR\r\n", tls=Tls.REQUIRED, credentials=Credentials("u", "p"))
    assert session.octets_to_send() == b"STARTTLS\r\n"
    session.receive(b"220 go\r\n")
    session.tls_started()
    session.octets_to_send()
    session.receive(b"250-mx.example\r\n250-AUTH PLAIN\r\n250 XCLIENT ADDR\r\n")
    assert session.octets_to_send() == b"XCLIENT ADDR=192.0.2.9\r\n"
    session.receive(b"220 again\r\n")
    session.octets_to_send()
    session.receive(b"250-mx.example\r\n250 AUTH PLAIN\r\n")
    assert session.octets_to_send().startswith(b"AUTH PLAIN ")


@pytest.mark.parametrize("reply", ["550 5.7.0 not from you", "421 later", "250 fine", "354 go on"])
def test_a_host_that_answers_xclient_otherwise_gets_no_mail_of_somebody_elses(reply: str) -> None:
    session = told_whose("250 XCLIENT ADDR\r\n")
    session.octets_to_send()
    events = session.receive(f"{reply}\r\n".encode())
    assert not any(isinstance(event, Opened) for event in events)
    assert session.awaiting is not Stage.READY


def test_an_lmtp_server_that_took_xclient_is_greeted_anew_as_lmtp() -> None:
    """EHLO was said, which LMTP does not know (RFC 2033 §4.1)."""
    session = ClientSession("us.example", client=THEM, opening=Opening.LHLO)
    session.receive(HELLO)
    session.octets_to_send()
    session.receive(b"250-mx.example\r\n250 XCLIENT ADDR\r\n")
    session.octets_to_send()
    assert session.receive(b"220 again\r\n") == []
    assert session.octets_to_send() == b"LHLO us.example\r\n"
    assert session.receive(b"250 mx.example\r\n") == [Opened(Extensions())]


def test_a_helo_forgets_what_an_ehlo_before_it_was_offered() -> None:
    """EHLO, XCLIENT, EHLO refused, HELO: parameters went to a server that had taken its offer of them back."""
    session = told_whose("250-SIZE\r\n250 XCLIENT ADDR\r\n")
    session.octets_to_send()
    session.receive(b"220 again\r\n")
    session.octets_to_send()
    session.receive(b"502 what?\r\n")
    assert session.octets_to_send() == b"HELO us.example\r\n"
    assert session.receive(b"250 mx.example\r\n") == [Opened(Extensions())]


@pytest.mark.parametrize("code", [200, 250, 299])
def test_a_banner_is_220_or_the_peer_is_out_of_step(code: int) -> None:
    """A 250 was taken for one: it answers a command, and none was said (RFC 5321 §4.3.2)."""
    session = ClientSession("us.example")
    (event,) = session.receive(f"{code} OK\r\n".encode())
    assert event == Violation(Stage.GREETING, f"{code} is no answer to greeting", f"{code} OK")
    assert session.octets_to_send() == b""
