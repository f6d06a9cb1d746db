"""What no dialogue can show of a server's session: its contract with its caller, its limits."""

from __future__ import annotations

import pytest

from waypost.smtp.body import BodyFault
from waypost.smtp.command import Auth, Hello, Mail, NoResponse, Rcpt, Verb, Xclient, without_secrets
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.event import (
    AuthResponse,
    Closing,
    DataChunk,
    DataEnd,
    DataStart,
    Event,
    NeedOctets,
    Refused,
    StartTls,
    TlsGranted,
    TransactionReset,
)
from waypost.smtp.framing import EXCERPT
from waypost.smtp.patience import IDLE_COMMANDS
from waypost.smtp.reply import Reply
from waypost.smtp.server import ServerSession
from waypost.smtp.settings import ServerSettings

SETTINGS = ServerSettings("mx.example")
BANNER = Reply(220, ("mx.example ESMTP",))
OK = Reply.of(250, "2.0.0", "OK")
GO = Reply(354, ("go",))


def opened(settings: ServerSettings = SETTINGS) -> ServerSession:
    session = ServerSession(settings)
    session.greet(BANNER)
    assert session.octets_to_send() == b"220 mx.example ESMTP\r\n"
    assert told(session, b"EHLO us.example\r\n") == Hello("EHLO", "us.example")
    session.reply(session.hello_reply())
    session.octets_to_send()
    return session


def told(session: ServerSession, octets: bytes) -> Event:
    session.receive(octets)
    return session.next_event()


def at_body(session: ServerSession, recipients: int = 1) -> None:
    assert isinstance(told(session, b"MAIL FROM:<>\r\n"), Mail)
    session.reply(OK)
    for _ in range(recipients):
        assert isinstance(told(session, b"RCPT TO:<bob@mx.example>\r\n"), Rcpt)
        session.reply(OK)
    assert told(session, b"DATA\r\n") == DataStart()
    session.reply(GO)
    session.octets_to_send()


# ---- each command


@pytest.mark.parametrize("steps", range(5))
def test_quit_is_answered_221_wherever_the_session_stands(steps: int) -> None:
    session = ServerSession(SETTINGS)
    session.greet(BANNER)
    for line in ("EHLO us.example", "MAIL FROM:<>", "RCPT TO:<bob@mx.example>", "RCPT TO:<carol@mx.example>")[:steps]:
        told(session, f"{line}\r\n".encode())
        session.reply(session.hello_reply() if line.startswith("EHLO") else OK)
    session.octets_to_send()
    assert told(session, b"QUIT\r\n") == Closing("QUIT")
    assert session.octets_to_send().startswith(b"221 2.0.0 ")


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.UNKNOWN])
def test_each_verb_is_answered_in_each_state(verb: Verb) -> None:
    line = f"{verb.value}\r\n".encode()
    for prelude in (b"", b"EHLO us.example\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<bob@mx.example>\r\n"):
        session = ServerSession(SETTINGS)
        session.greet(BANNER)
        for command in (b"EHLO us.example\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<bob@mx.example>\r\n"):
            if not prelude:
                break
            told(session, command)
            session.reply(OK)
            if command == prelude:
                break
        session.octets_to_send()
        event = told(session, line)
        waits = isinstance(event, DataStart)
        assert (session.octets_to_send() == b"") is waits, (prelude, event)


# ---- the contract with the caller


def test_an_event_that_waits_must_be_answered_first() -> None:
    session = ServerSession(SETTINGS)
    session.greet(BANNER)
    told(session, b"EHLO us.example\r\n")
    with pytest.raises(LocalProtocolError, match="Hello waits"):
        session.next_event()


def test_nothing_is_answered_that_was_not_asked() -> None:
    session = opened()
    with pytest.raises(LocalProtocolError, match="nothing waits"):
        session.reply(OK)


def test_octets_to_send_are_given_once_and_for_a_group_together() -> None:
    session = opened()
    session.receive(b"NOOP\r\nNOOP\r\n")
    assert session.next_event() == NeedOctets()
    assert session.octets_to_send() == OK.encode() * 2
    assert session.octets_to_send() == b""


def test_need_octets_costs_no_allocation() -> None:
    session = opened()
    assert session.next_event() is session.next_event()


def test_a_closed_session_stays_closed() -> None:
    session = opened()
    assert told(session, b"QUIT\r\nNOOP\r\n") == Closing("QUIT")
    assert told(session, b"NOOP\r\n") == Closing("QUIT")
    session.say_goodbye(Reply.of(421, "4.3.2", "shutting down"))
    assert session.octets_to_send() == b"221 2.0.0 mx.example goodbye\r\n"


def test_goodbye_is_said_whatever_waits() -> None:
    session = opened()
    told(session, b"MAIL FROM:<>\r\n")
    session.say_goodbye(Reply.of(421, "4.3.2", "shutting down"))
    assert session.octets_to_send() == b"421 4.3.2 shutting down\r\n"
    assert isinstance(session.next_event(), Closing)


@pytest.mark.parametrize("line", [b"MAIL FROM:<>\r\n", b"EHLO again.example\r\n"])
def test_421_in_answer_to_anything_closes(line: bytes) -> None:
    session = opened()
    told(session, line)
    session.reply(Reply.of(421, "4.3.2", "overloaded"))
    assert isinstance(session.next_event(), Closing)
    assert session.octets_to_send() == b"421 4.3.2 overloaded\r\n"


def test_421_closes_under_lmtp_though_more_replies_are_due() -> None:
    session = ServerSession(ServerSettings("mx.example", lmtp=True))
    session.greet(BANNER)
    told(session, b"LHLO us.example\r\n")
    session.reply(session.hello_reply())
    at_body(session, recipients=3)
    assert told(session, b".\r\n") == DataEnd(0, BodyFault.NONE, replies=3)
    session.reply(OK)
    with pytest.raises(LocalProtocolError):
        session.next_event()
    session.reply(Reply.of(421, "4.3.0", "gone"))
    assert isinstance(session.next_event(), Closing)


def test_a_client_turned_away_is_asked_to_quit() -> None:
    session = ServerSession(SETTINGS)
    session.greet(Reply.of(554, "5.7.1", "not you"))
    session.octets_to_send()
    refused = told(session, b"EHLO us.example\r\n")
    assert isinstance(refused, Refused)
    assert str(refused.reply) == "503 5.5.1 no service here: say QUIT"
    assert told(session, b"QUIT\r\n") == Closing("QUIT")


def test_a_421_banner_closes() -> None:
    session = ServerSession(SETTINGS)
    session.greet(Reply.of(421, "4.3.2", "busy"))
    assert session.octets_to_send() == b"421 4.3.2 busy\r\n"
    assert isinstance(session.next_event(), Closing)


def test_nothing_is_read_before_the_banner() -> None:
    session = ServerSession(SETTINGS)
    assert told(session, b"EHLO us.example\r\n") == NeedOctets()


def test_a_small_body_is_one_chunk_and_the_very_octets() -> None:
    session = opened()
    at_body(session)
    assert told(session, b"Subject: x\r\n\r\nhi\r\n.\r\n") == DataChunk(b"Subject: x\r\n\r\nhi\r\n")
    assert session.next_event() == DataEnd(18, BodyFault.NONE)


def test_a_body_sent_before_354_ends_the_session_whatever_the_answer() -> None:
    for answer in (GO, Reply.of(451, "4.3.0", "later")):
        session = opened()
        for line in (b"MAIL FROM:<>\r\n", b"RCPT TO:<bob@mx.example>\r\n"):
            told(session, line)
            session.reply(OK)
        session.octets_to_send()
        assert told(session, b"DATA\r\n") == DataStart()
        session.receive(b"RCPT TO:<eve@mx.example>\r\n")
        session.reply(answer)
        assert isinstance(session.next_event(), Closing)
        assert session.octets_to_send().startswith(b"554 5.5.0")


def test_a_refused_data_leaves_the_transaction_open() -> None:
    session = opened()
    told(session, b"MAIL FROM:<>\r\n")
    session.reply(OK)
    told(session, b"RCPT TO:<bob@mx.example>\r\n")
    session.reply(OK)
    told(session, b"DATA\r\n")
    session.reply(Reply.of(451, "4.3.0", "later"))
    assert told(session, b"DATA\r\n") == DataStart()


def test_a_reset_is_told_and_a_refusal_too() -> None:
    session = opened()
    assert told(session, b"RSET\r\n") == TransactionReset()
    refused = told(session, b"X" * 500 + b"\r\n")
    assert isinstance(refused, Refused)
    assert len(refused.line) == EXCERPT


# ---- limits


def test_commands_without_a_message_have_an_end() -> None:
    session = opened()
    for _ in range(IDLE_COMMANDS - 1):
        assert told(session, b"NOOP\r\n") == NeedOctets()
    session.octets_to_send()
    assert isinstance(told(session, b"NOOP\r\n"), Closing)
    assert session.octets_to_send().endswith(b"421 4.7.0 too many commands without a message\r\n")


def test_a_message_gives_new_patience() -> None:
    session = opened()
    for _ in range(3):
        for _ in range(IDLE_COMMANDS - 1):
            told(session, b"NOOP\r\n")
        at_body(session)
        told(session, b".\r\n")
        session.reply(OK)
    assert told(session, b"NOOP\r\n") == NeedOctets()


@pytest.mark.parametrize("client_name", ["us.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "under_score", "x" * 255])
def test_a_client_may_call_itself_what_it_likes(client_name: str) -> None:
    session = ServerSession(SETTINGS)
    session.greet(BANNER)
    assert told(session, f"EHLO {client_name} \r\n".encode()) == Hello("EHLO", client_name)


@pytest.mark.parametrize("client_name", ["", " ", "a b", "jürgen", "x" * 256])
def test_but_not_nothing_nor_two_words_nor_beyond_ascii(client_name: str) -> None:
    session = ServerSession(SETTINGS)
    session.greet(BANNER)
    event = told(session, f"EHLO {client_name}\r\n".encode())
    assert isinstance(event, Refused)
    assert event.reply.code == 501


def test_a_refusal_that_quotes_the_client_stays_short_and_ascii() -> None:
    session = opened()
    event = told(session, f"MAIL FROM:<{'ü' * 900}>\r\n".encode())
    assert isinstance(event, Refused)
    octets = session.octets_to_send()
    assert octets.isascii()
    assert len(octets) <= 512


def test_without_a_size_limit_any_size_may_be_declared() -> None:
    session = opened(ServerSettings("mx.example", size_limit=0))
    assert isinstance(told(session, b"MAIL FROM:<> SIZE=99999999999999999999\r\n"), Mail)


def test_a_refusal_that_names_a_clause_can_be_read() -> None:
    r"""Replies are ASCII: the section sign came out as `\xa7`."""
    session = opened()
    assert isinstance(told(session, b"MAIL FROM:<a@b.example> ENVID=a+ZZ\r\n"), Refused)
    assert session.octets_to_send() == b"501 5.5.4 ENVID: 'a+ZZ' is not xtext (RFC 3461 section 4)\r\n"


# ---- AUTH

WITH_AUTH = ServerSettings("mx.example", mechanisms=("PLAIN", "LOGIN"))
SECRET = b"AHVzZXIAc2VzYW1l"


def authenticating() -> ServerSession:
    session = ServerSession(WITH_AUTH)
    session.permit_auth(WITH_AUTH.mechanisms)
    session.greet(BANNER)
    told(session, b"EHLO us.example\r\n")
    session.reply(session.hello_reply())
    session.octets_to_send()
    return session


def test_a_helo_hides_auth_but_does_not_forbid_it() -> None:
    session = ServerSession(WITH_AUTH)
    session.permit_auth(WITH_AUTH.mechanisms)
    session.greet(BANNER)
    told(session, b"HELO us.example\r\n")
    assert session.hello_reply() == Reply(250, ("mx.example",))


def test_auth_tells_its_mechanism_and_decoded_response() -> None:
    assert told(authenticating(), b"AUTH plain " + SECRET + b"\r\n") == Auth("PLAIN", b"\0user\0sesame")
    assert told(authenticating(), b"AUTH LOGIN\r\n") == Auth("LOGIN", NoResponse())


def test_a_challenge_is_for_auth_alone() -> None:
    session = authenticating()
    with pytest.raises(LocalProtocolError, match="no AUTH waits"):
        session.challenge(b"")
    told(session, b"MAIL FROM:<>\r\n")
    with pytest.raises(LocalProtocolError, match="no AUTH waits"):
        session.challenge(b"")


def test_an_offer_of_auth_can_be_taken_back() -> None:
    session = authenticating()
    session.permit_auth(())
    told(session, b"EHLO us.example\r\n")
    assert not any("AUTH" in line for line in session.hello_reply().lines)
    session.reply(OK)
    assert told(session, b"AUTH PLAIN " + SECRET + b"\r\n") == Refused("AUTH PLAIN (not shown)", TLS_FIRST)


TLS_FIRST = Reply.of(538, "5.7.11", "encryption required for authentication: say STARTTLS first")


@pytest.mark.parametrize(
    "said",
    [
        [b"AUTH PLAIN " + SECRET + b"\r\n"],
        [b"AUTH PLAIN " + SECRET + b"!\r\n"],
        [b"  AUTH PLAIN " + SECRET + b"\r\n"],
        [b"AUTH PLAIN " + SECRET + b"\n"],
        [b"AUTH PLAIN " + SECRET + b" \0\r\n"],
        [b"AUTH CRAM-MD5 " + SECRET + b"\r\n"],
        [b"AUTH " + SECRET + b"\r\n", SECRET + b"\r\n"],
        [b"AUTH PLAIN " + SECRET * 1000 + b"\r\n"],
        [b"AUTH PLAIN " + SECRET * 9000],
        [b"AUTH PLAIN " + SECRET + b"\r\n" + SECRET + b"\r\n"],
        [b"AUTH LOGIN\r\n", SECRET + b"!\r\n"],
        [b"AUTH LOGIN\r\n", SECRET + b"\n"],
        [b"AUTH LOGIN\r\n", SECRET * 1000 + b"\r\n"],
        [b"AUTH LOGIN\r\n", SECRET * 9000],
        [b"AUTH LOGIN\r\n", b"*\r\n", SECRET + b"\r\n"],
    ],
)
def test_no_event_shows_what_auth_carries(said: list[bytes]) -> None:
    session = authenticating()
    events: list[Event] = []
    for octets in said:
        session.receive(octets)
        while not isinstance(event := session.next_event(), NeedOctets | Closing):
            events.append(event)
            if isinstance(event, Auth | AuthResponse):
                session.challenge(b"")
    assert events
    assert "sesame" not in repr(events)
    assert SECRET.decode() not in repr(events)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("AUTH PLAIN " + SECRET.decode(), "AUTH PLAIN (not shown)"),
        ("auth Scram-Sha-256 biws", "auth Scram-Sha-256 (not shown)"),
        (" AUTH  LOGIN", " AUTH  LOGIN (not shown)"),
        ("AUTH", "AUTH (not shown)"),
        ("AUTH " + SECRET.decode(), "AUTH (not shown)"),  # sixteen characters of base64 were taken for a mechanism
        ("AUTH " + SECRET.decode() + "AAAAAAAA==", "AUTH (not shown)"),
        ("AUTH\u00a0PLAIN x", "AUTH (not shown)"),
        ("MAIL FROM:<auth@us.example>", "MAIL FROM:<auth@us.example>"),
        ("AUTHOR", "AUTHOR"),
    ],
)
def test_of_auth_no_more_is_shown_than_a_mechanism_that_there_is(line: str, shown: str) -> None:
    assert without_secrets(line) == shown


# ---- TLS


def test_a_handshake_is_done_only_where_one_is_due() -> None:
    session = opened(ServerSettings("mx.example", starttls=True))
    with pytest.raises(LocalProtocolError, match="no handshake is due"):
        session.tls_started()


def test_octets_that_come_before_the_reply_to_starttls_end_the_session() -> None:
    session = opened(ServerSettings("mx.example", starttls=True))
    assert told(session, b"STARTTLS\r\n") == StartTls()
    session.receive(b"RSET\r\n")
    session.reply(Reply.of(220, "2.0.0", "begin"))
    assert session.next_event() == Closing("octets in clear where the TLS handshake was due")
    assert session.octets_to_send().startswith(b"554 5.5.0 ")


def test_octets_that_come_while_the_handshake_is_done_end_the_session_in_silence() -> None:
    session = opened(ServerSettings("mx.example", starttls=True))
    told(session, b"STARTTLS\r\n")
    session.reply(Reply.of(220, "2.0.0", "begin"))
    assert session.next_event() == TlsGranted()
    session.octets_to_send()
    session.receive(b"EHLO mallory.example\r\n")
    session.tls_started()
    assert session.next_event() == Closing("octets in clear where the TLS handshake was due")
    assert session.octets_to_send() == b""


def test_a_session_under_implicit_tls_offers_requiretls_and_no_starttls() -> None:
    session = ServerSession(ServerSettings("mx.example", starttls=True, tls_required=True), secured=True)
    session.greet(BANNER)
    told(session, b"EHLO us.example\r\n")
    assert session.hello_reply().lines[-1] == "REQUIRETLS"
    assert "STARTTLS" not in session.hello_reply().lines
    session.reply(session.hello_reply())
    assert isinstance(told(session, b"MAIL FROM:<> REQUIRETLS\r\n"), Mail)


# ---- words


@pytest.mark.parametrize("line", ["R\u017fET", "\u017fTARTTLS", "qu\u0131t", "RSET\u00a0"])
def test_a_command_is_known_by_ascii_letters_alone(line: str) -> None:
    """The capital of the long s is S, and of the dotless i I: such words were taken for RSET and QUIT."""
    event = told(opened(), f"{line}\r\n".encode())
    assert isinstance(event, Refused)
    assert event.reply.code == 500


# ---- XCLIENT


@pytest.mark.parametrize(
    "said",
    [
        "ADDR=192.0.2.9 ADDR=192.0.2.10",  # the last one was believed
        "ADDR=192.0.2.9 addr=192.0.2.9",
        "ADDR=192.0.2.9 PORT=65536",
        "ADDR=192.0.2.9 PORT=99999",
        "ADDR=192.0.2.9\u3000LOGIN=ann",
        "ADDR=fe80::1+25eth0",
    ],
)
def test_an_xclient_that_is_not_plain_names_nobody(said: str) -> None:
    session = ServerSession(SETTINGS)
    session.permit_xclient()
    session.greet(BANNER)
    event = told(session, f"XCLIENT {said}\r\n".encode())
    assert isinstance(event, Refused)
    assert event.reply.code == 501


def test_an_xclient_with_the_last_port_is_taken() -> None:
    session = ServerSession(SETTINGS)
    session.permit_xclient()
    session.greet(BANNER)
    assert told(session, b"XCLIENT ADDR=192.0.2.9  PORT=65535\r\n") == Xclient("192.0.2.9", 65535)
