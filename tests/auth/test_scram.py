"""SCRAM-SHA-256: the vectors of RFC 7677, the bindings, and who is let in."""

from __future__ import annotations

import secrets
from base64 import b64decode

import pytest
from scramp import ScramClient

from waypost.auth.exchange import Challenge, Failed, Flaw, Proven, Step
from waypost.auth.scram import ITERATIONS, ActingAs, Keys, Scram, nobody
from waypost.smtp.command import NoResponse

KEYS = Keys.of("sesame")
BINDING = ("tls-server-end-point", b"the certificate's hash")


def lookup(username: str) -> Keys:
    return KEYS if username == "alice" else nobody(username, b"secret")


def converse(server: Scram, client: ScramClient) -> Step:
    """The step that ends it; the server's proof is checked by the client."""
    step = server.begin(client.get_client_first().encode())
    if not isinstance(step, Challenge):
        return step
    client.set_server_first(step.octets.decode())
    step = server.take(client.get_client_final().encode())
    if not isinstance(step, Challenge):
        return step
    client.set_server_final(step.octets.decode())
    return server.take(b"")


def client(
    password: str = "sesame",  # noqa: S107 - made up
    name: str = "alice",
    binding: tuple[str, bytes] | None = None,
) -> ScramClient:
    return ScramClient(["SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"], name, password, channel_binding=binding)


def test_the_dialogue_of_rfc_7677(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7677 §3: user "user", password "pencil"."""
    salt = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    from scramp import ScramMechanism  # noqa: PLC0415 - for this vector's salt alone

    _, stored_key, server_key, iterations = ScramMechanism("SCRAM-SHA-256").make_auth_info("pencil", 4096, salt)
    monkeypatch.setattr("scramp.core.token_hex", lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    server = Scram(lambda _: Keys(iterations, salt, stored_key, server_key))
    assert server.begin(NoResponse()) == Challenge(b"")
    assert server.take(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO") == Challenge(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    final = server.take(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert final == Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert server.take(b"") == Proven("user")


def test_the_right_password_proves_who_it_is() -> None:
    assert converse(Scram(lookup), client()) == Proven("alice")


def test_a_wrong_password_and_an_unknown_user_fail_alike() -> None:
    wrong, unknown = converse(Scram(lookup), client("open")), converse(Scram(lookup), client(name="mallory"))
    assert isinstance(wrong, Failed)
    assert isinstance(unknown, Failed)
    assert (wrong.flaw, wrong.why) == (unknown.flaw, unknown.why) == (Flaw.WRONG, wrong.why)


def test_an_unknown_user_has_the_same_salt_each_time() -> None:
    secret = secrets.token_bytes()
    assert nobody("mallory", secret) == nobody("mallory", secret) != nobody("eve", secret)
    assert nobody("mallory", secret).iterations == ITERATIONS


def test_a_binding_that_both_ends_see_alike_is_taken() -> None:
    assert converse(Scram(lookup, dict([BINDING]), plus=True), client(binding=BINDING)) == Proven("alice")


def test_another_binding_means_a_man_in_the_middle() -> None:
    theirs = (BINDING[0], b"another certificate's hash")
    step = converse(Scram(lookup, dict([BINDING]), plus=True), client(binding=theirs))
    assert isinstance(step, Failed)
    assert step.flaw is Flaw.WRONG
    assert "binding" in step.why


def test_the_client_chooses_among_the_bindings_there_are() -> None:
    both = {"tls-unique": b"finished", BINDING[0]: BINDING[1]}
    assert converse(Scram(lookup, both, plus=True), client(binding=BINDING)) == Proven("alice")
    assert converse(Scram(lookup, both, plus=True), client(binding=("tls-unique", b"finished"))) == Proven("alice")


def test_a_client_from_whom_the_offer_of_a_binding_was_hidden_is_refused() -> None:
    """RFC 5802 §6: "y" says that it could, and believes that we cannot."""
    step = Scram(lookup, dict([BINDING])).begin(b"y,,n=alice,r=abcdefgh")
    assert isinstance(step, Failed)
    assert "does support" in step.why.replace("-", " ")


def test_without_bindings_a_client_that_could_is_welcome() -> None:
    assert isinstance(Scram(lookup).begin(b"y,,n=alice,r=abcdefgh"), Challenge)


def test_keys_are_read_back_as_they_were_written() -> None:
    assert Keys.parse(str(KEYS)) == KEYS
    assert "sesame" not in str(KEYS)
    assert repr(KEYS) == "Keys(…)"


@pytest.mark.parametrize(
    "text", ["", "SCRAM-SHA-256$x:y$z", "SCRAM-SHA-256$1:YQ==$YQ==", "SCRAM-SHA-256$1:YQ==$?:YQ=="]
)
def test_what_are_no_keys_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no SCRAM keys"):
        Keys.parse(text)


# ---- acting as another (RFC 5802 §7)
def acting(identity: str, said: str = "") -> Step:
    """What comes of a client that asks for the rights of `identity`, but tells the server of `said`."""
    ours, server = client(), Scram(lookup)
    ours.gs2_header = ActingAs(ours.gs2_header, identity)
    first = ours.get_client_first()
    step = server.begin((first.replace(f"a={identity}", f"a={said}") if said else first).encode())
    assert isinstance(step, Challenge)
    ours.set_server_first(step.octets.decode())
    step = server.take(ours.get_client_final().encode())
    return server.take(b"") if isinstance(step, Challenge) else step


@pytest.mark.parametrize("identity", ["bob@example.net", "a=b,c"])
def test_a_client_tells_whose_rights_it_asks_for(identity: str) -> None:
    assert acting(identity) == Proven("alice", identity)


def test_nobody_on_the_way_puts_another_identity_in() -> None:
    step = acting("bob@example.net", "eve@example.net")
    assert isinstance(step, Failed)
    assert step.flaw is Flaw.WRONG


@pytest.mark.parametrize("first", [b"n,b=x,n=alice,r=abc", b"n,a=,n=alice,r=abc", b"n,a=x=2,n=alice,r=abc", b"n,a=x"])
def test_an_identity_that_is_none_is_malformed(first: bytes) -> None:
    step = Scram(lookup).begin(first)
    assert isinstance(step, Failed)
    assert step.flaw is Flaw.MALFORMED
