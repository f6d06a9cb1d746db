"""Our side of the mechanisms: against the server's side, against servers that lie, and within a session."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from waypost.auth.bearer import OAUTHBEARER, XOAUTH2, Bearer
from waypost.auth.client import MOST_ITERATIONS, Scram, mechanisms
from waypost.auth.exchange import Challenge, CheckToken, Proven, Step
from waypost.auth.scram import NAME, PLUS, Keys
from waypost.auth.scram import Scram as Server
from waypost.net.binding import bindings_of
from waypost.net.certificates import end_point
from waypost.net.stream import Endpoint
from waypost.net.tls import IN_CLEAR, TlsFacts
from waypost.smtp.client import ClientSession
from waypost.smtp.command import NoResponse
from waypost.smtp.event import Opened, OpeningRefused
from waypost.smtp.extension import MailParameters, RcptParameters
from waypost.smtp.login import Credentials, GiveUp, NoCredentials
from waypost.smtp.path import NullPath, Postmaster
from waypost.smtp.stage import Stage
from waypost.smtp.transaction import Transaction

ALICE = Credentials("alice", "sesame")
TOKEN = Credentials("alice@example.com", "canary-token", oauth="provider")
HOST = Endpoint("smtp.example.com", 587)
KEYS = Keys.of("sesame")
BOUND = {"tls-server-end-point": b"hash"}


def converse(ours: Scram, server: Server) -> Step:
    first = ours.begin()
    step = server.begin(first)
    while isinstance(step, Challenge):
        response = ours.answer(step.octets)
        if isinstance(response, GiveUp):
            return step
        step = server.take(response)
    return step


def test_scram_proves_us_to_a_server_and_the_server_to_us() -> None:
    ours = Scram(ALICE)
    assert converse(ours, Server(lambda _: KEYS)) == Proven("alice")
    assert ours.is_satisfied


def test_scram_is_bound_to_the_connection() -> None:
    assert converse(Scram(ALICE, BOUND), Server(lambda _: KEYS, BOUND, plus=True)) == Proven("alice")
    other = Scram(ALICE, {"tls-server-end-point": b"another's"})
    assert not isinstance(converse(other, Server(lambda _: KEYS, BOUND, plus=True)), Proven)


def test_a_server_that_does_not_know_the_password_is_not_believed() -> None:
    ours = Scram(ALICE)
    step = Server(lambda _: KEYS).begin(ours.begin())
    assert isinstance(step, Challenge)
    ours.answer(step.octets)
    assert ours.answer(b"v=" + b64encode(b"x" * 32)) == GiveUp()
    assert not ours.is_satisfied


def test_a_server_cannot_keep_us_busy() -> None:
    ours = Scram(ALICE)
    first = ours.begin()
    assert isinstance(first, bytes)
    nonce = first.rpartition(b"r=")[2]
    assert ours.answer(b"r=" + nonce + b"x,s=c2FsdHNhbHRzYWx0,i=%d" % (MOST_ITERATIONS + 1)) == GiveUp()
    assert ours.answer(b"r=" + nonce + b"x,s=c2FsdHNhbHRzYWx0,i=99999999999") == GiveUp()


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_whatever_a_server_says_we_answer_or_give_up(challenges: list[bytes]) -> None:
    for ours in (Scram(ALICE), Scram(ALICE, BOUND), Scram(Credentials("\u0600x", ""))):
        ours.begin()
        for challenge in challenges:
            assert isinstance(ours.answer(challenge), bytes | GiveUp)
        assert not ours.is_satisfied


@pytest.mark.parametrize("name", [OAUTHBEARER, XOAUTH2])
def test_a_token_reaches_a_server_with_its_user(name: str) -> None:
    ours = mechanisms(TOKEN, {}, HOST)[name]()
    first = ours.begin()
    assert isinstance(first, bytes)
    server = Bearer(name)
    assert server.begin(first) == CheckToken("alice@example.com", "canary-token")
    error = server.refused("alice@example.com", "expired")
    assert isinstance(error, Challenge)
    assert isinstance(ours.answer(error.octets), bytes)


def test_oauthbearer_says_what_rfc_7628_has_it_say() -> None:
    who = Credentials("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==", oauth="x")
    assert mechanisms(who, {}, Endpoint("server.example.com", 587))[OAUTHBEARER]().begin() == (
        b"n,a=user@example.com,\1host=server.example.com\1port=587\1"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1"
    )


def test_the_strongest_mechanism_comes_first_and_a_token_goes_by_no_password_mechanism() -> None:
    assert list(mechanisms(ALICE, BOUND, HOST)) == [PLUS, NAME, "PLAIN", "LOGIN"]
    assert list(mechanisms(ALICE, {}, HOST)) == [NAME, "PLAIN", "LOGIN"]
    assert list(mechanisms(TOKEN, BOUND, HOST)) == [OAUTHBEARER, XOAUTH2]


# ---- within a session


def session(credentials: Credentials, offer: str, bindings: dict[str, bytes] | None = None) -> ClientSession:
    """One that has said AUTH."""
    return session_and_events(credentials, offer, bindings)[0]


def session_events(credentials: Credentials, offer: str) -> list[object]:
    """What comes of an offer."""
    return session_and_events(credentials, offer)[1]


def session_and_events(
    credentials: Credentials, offer: str, bindings: dict[str, bytes] | None = None
) -> tuple[ClientSession, list[object]]:
    found = ClientSession(
        "us.example", credentials=credentials, mechanisms=lambda who: mechanisms(who, bindings or {}, HOST)
    )
    found.receive(b"220 mx.example\r\n")
    found.octets_to_send()
    return found, list(found.receive(f"250-mx.example\r\n250 AUTH {offer}\r\n".encode()))


def told(session: ClientSession, reply: str) -> list[object]:
    session.octets_to_send()
    return list(session.receive(reply.encode() + b"\r\n"))


def challenge(octets: bytes) -> str:
    return f"334 {b64encode(octets).decode()}"


def test_a_session_logs_in_by_scram() -> None:
    ours, server = session(ALICE, "LOGIN PLAIN SCRAM-SHA-256"), Server(lambda _: KEYS)
    said = ours.octets_to_send().decode().split()
    assert said[:2] == ["AUTH", "SCRAM-SHA-256"]
    step = server.begin(b64decode(said[2]))
    for _ in range(2):
        assert isinstance(step, Challenge)
        ours.receive(challenge(step.octets).encode() + b"\r\n")
        step = server.take(b64decode(ours.octets_to_send()))
    assert step == Proven("alice")
    assert isinstance(told(ours, "235 2.7.0 welcome")[0], Opened)


def test_a_yes_before_the_servers_proof_is_not_believed() -> None:
    """RFC 5802 §5: whoever sits in between could say it, to learn what the mail says."""
    refused = told(session(ALICE, "SCRAM-SHA-256"), "235 2.7.0 welcome")[0]
    assert isinstance(refused, OpeningRefused)
    assert "proven" in refused.why


def test_a_binding_that_the_server_does_not_know_is_no_word_on_the_password() -> None:
    ours = session(ALICE, "SCRAM-SHA-256-PLUS SCRAM-SHA-256", BOUND)
    assert ours.octets_to_send().startswith(b"AUTH SCRAM-SHA-256-PLUS ")
    assert told(ours, "535 5.7.8 unsupported channel binding") == []
    assert ours.octets_to_send().startswith(b"AUTH SCRAM-SHA-256 ")
    refused = told(ours, "535 5.7.8 no")[0]
    assert isinstance(refused, OpeningRefused)


@pytest.mark.parametrize("code", ["504 5.5.4 unknown", "534 5.7.9 too weak"])
def test_what_says_no_to_a_mechanism_leads_to_the_next(code: str) -> None:
    ours = session(ALICE, "LOGIN SCRAM-SHA-256 PLAIN")
    assert ours.octets_to_send().startswith(b"AUTH SCRAM-SHA-256 ")
    assert told(ours, code) == []
    assert ours.octets_to_send().startswith(b"AUTH PLAIN ")
    assert told(ours, code) == []
    assert ours.octets_to_send() == b"AUTH LOGIN\r\n"
    (refused,) = told(ours, code)
    assert isinstance(refused, OpeningRefused)
    assert str(refused.reply.code) == code[:3]


def test_a_password_transition_has_the_password_said_once_by_plain() -> None:
    """RFC 4954 §6, 432: the server needs it to keep what the mechanism works with."""
    ours = session(ALICE, "LOGIN SCRAM-SHA-256 PLAIN")
    ours.octets_to_send()
    assert told(ours, "432 4.7.12 a password transition is needed") == []
    assert ours.octets_to_send().startswith(b"AUTH PLAIN ")
    (opened,) = told(ours, "235 2.7.0 welcome")
    assert isinstance(opened, Opened)


@pytest.mark.parametrize("offer", ["SCRAM-SHA-256", "SCRAM-SHA-256 LOGIN"])
def test_where_there_is_no_plain_a_password_transition_is_waited_for(offer: str) -> None:
    ours = session(ALICE, offer)
    ours.octets_to_send()
    (refused,) = told(ours, "432 4.7.12 a password transition is needed")
    assert isinstance(refused, OpeningRefused)
    assert refused.reply.code == 432


@pytest.mark.parametrize("code", ["454 4.7.0 later", "535 5.7.8 wrong", "538 5.7.11 encrypt"])
def test_what_says_no_to_us_or_to_now_is_tried_by_no_other_mechanism(code: str) -> None:
    """A second wrong password would count against the account."""
    ours = session(ALICE, "SCRAM-SHA-256 PLAIN")
    ours.octets_to_send()
    (refused,) = told(ours, code)
    assert isinstance(refused, OpeningRefused)


# ---- by certificate, and as another
@pytest.mark.parametrize(("act_as", "said"), [("", b"="), ("sales", b64encode(b"sales"))])
def test_external_leaves_to_tls_who_we_are(act_as: str, said: bytes) -> None:
    ours = session(Credentials("", "", external=True, act_as=act_as), "PLAIN EXTERNAL")
    assert ours.octets_to_send() == b"AUTH EXTERNAL " + said + b"\r\n"


def test_external_is_never_replaced_by_a_password() -> None:
    (refused,) = session_events(Credentials("", "", external=True), "PLAIN LOGIN")
    assert isinstance(refused, OpeningRefused)
    assert "none of EXTERNAL is offered" in refused.why


SALES = replace(ALICE, act_as="sales@example.net")


def test_another_s_rights_are_asked_for_by_scram_and_by_plain_and_not_by_login() -> None:
    assert converse(Scram(SALES), Server(lambda _: KEYS)) == Proven("alice", "sales@example.net")
    assert converse(Scram(SALES, BOUND), Server(lambda _: KEYS, BOUND, plus=True)) == Proven("alice", SALES.act_as)
    ours = session(SALES, "LOGIN PLAIN")
    assert b64decode(ours.octets_to_send().split()[2]) == b"sales@example.net\0alice\0sesame"
    (refused,) = session_events(SALES, "LOGIN")
    assert isinstance(refused, OpeningRefused)


def test_a_long_initial_response_waits_to_be_asked_for() -> None:
    """RFC 4954 §4: AUTH itself keeps to the length of a command."""
    ours = session(Credentials("a@b.example", "t" * 3000, oauth="x"), "XOAUTH2")
    assert ours.octets_to_send() == b"AUTH XOAUTH2\r\n"
    ours.receive(b"334 \r\n")
    sent = ours.octets_to_send()
    assert b64decode(sent) == b"user=a@b.example\1auth=Bearer " + b"t" * 3000 + b"\1\1"


def test_what_is_no_base64_in_a_challenge_ends_the_exchange() -> None:
    ours = session(ALICE, "SCRAM-SHA-256")
    ours.octets_to_send()
    ours.receive(b"334 ?!\r\n")
    assert ours.octets_to_send() == b"*\r\nQUIT\r\n"


@pytest.mark.parametrize("offer", ["OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256", "PLAIN", "LOGIN"])
def test_no_transcript_has_a_token_or_password(offer: str) -> None:
    credentials = TOKEN if offer in (OAUTHBEARER, XOAUTH2) else ALICE
    ours = session(credentials, offer)
    wire = ours.octets_to_send()
    for _ in range(2):
        ours.receive(b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n")
        wire += ours.octets_to_send()
    shown = "\n".join(ours.said()) + repr(ours.heard()) + repr(credentials)
    for word in wire.split():
        if len(word) > 20 and word != b"(credentials":
            assert word.decode() not in shown
    assert "canary" not in shown
    assert "sesame" not in shown


def test_a_token_is_for_token_mechanisms_alone() -> None:
    refused = session(TOKEN, "PLAIN LOGIN SCRAM-SHA-256")
    assert refused.octets_to_send() == b"QUIT\r\n"


def test_the_submitter_is_named_only_where_we_have_authenticated() -> None:
    """RFC 4954 §5."""
    mail = Transaction(NullPath(), MailParameters(submitter="<>"), [(Postmaster(), RcptParameters())])
    for credentials, expected in ((ALICE, b"MAIL FROM:<> AUTH=<>\r\n"), (NoCredentials(), b"MAIL FROM:<>\r\n")):
        ours = ClientSession("us.example", credentials=credentials)
        ours.receive(b"220 mx.example\r\n")
        ours.octets_to_send()
        ours.receive(b"250-mx.example\r\n250 AUTH PLAIN\r\n")
        if isinstance(credentials, Credentials):
            ours.octets_to_send()
            ours.receive(b"235 ok\r\n")
        ours.begin(mail)
        assert ours.octets_to_send() == expected
        assert ours.awaiting is Stage.MAIL


def test_both_ends_of_a_connection_have_the_same_binding() -> None:
    """RFC 5929 §4.1: the server's from its own certificate, the client's from the one it was shown."""
    leaf = x509.load_pem_x509_certificate(trustme.CA().issue_cert("mx.example").cert_chain_pems[0].bytes())
    server = TlsFacts("TLSv1.3", "x", end_point=end_point(leaf))
    client = TlsFacts("TLSv1.3", "x", certificates=(leaf.public_bytes(Encoding.DER),))
    assert bindings_of(server) == bindings_of(client) == {"tls-server-end-point": leaf.fingerprint(SHA256())}
    assert bindings_of(IN_CLEAR) == bindings_of(TlsFacts("TLSv1.3", "x", certificates=(b"?",))) == {}


def test_a_mechanism_without_a_first_word_waits_for_the_server() -> None:
    assert mechanisms(ALICE, {}, HOST)["LOGIN"]().begin() == NoResponse()
