"""PLAIN, LOGIN and the bearer mechanisms, step by step; and any octets at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.auth.bearer import OAUTHBEARER, XOAUTH2, Bearer
from waypost.auth.exchange import (
    LONGEST,
    Challenge,
    CheckCertificate,
    CheckPassword,
    CheckToken,
    Exchange,
    External,
    Failed,
    Flaw,
    Login,
    Plain,
    Step,
)
from waypost.auth.scram import Scram, nobody
from waypost.smtp.command import NoResponse


def test_plain_asks_for_its_one_message_and_takes_it_apart() -> None:
    """RFC 4616 §4, the example with an empty authorization identity."""
    assert Plain().begin(NoResponse()) == Challenge(b"")
    assert Plain().begin(b"\0tim\0tanstaaftanstaaf") == CheckPassword("tim", "tanstaaftanstaaf")
    assert Plain().take("\0jürgen\0Straße".encode()) == CheckPassword("jürgen", "Straße")
    assert Plain().take(b"tim\0tim\0secret") == CheckPassword("tim", "secret", "tim")


def test_plain_tells_whose_rights_are_asked_for() -> None:
    """RFC 4616 §4, the example where Kurt asks for Ursel's rights."""
    assert Plain().take(b"Ursel\0Kurt\0xipj3plmq") == CheckPassword("Kurt", "xipj3plmq", "Ursel")


def test_external_says_nothing_or_whose_rights_are_asked_for() -> None:
    """RFC 4422 app. A.4."""
    assert External().begin(NoResponse()) == Challenge(b"")
    assert External().begin(b"") == CheckCertificate("")
    assert External().take(b"fred@example.com") == CheckCertificate("fred@example.com")


@pytest.mark.parametrize("response", [b"\0", b"a\0b", b"\xff", b"x" * (LONGEST + 1)])
def test_what_is_no_identity_is_malformed(response: bytes) -> None:
    step = External().take(response)
    assert isinstance(step, Failed)
    assert step.flaw is Flaw.MALFORMED


@pytest.mark.parametrize(
    "response",
    [b"", b"tim", b"\0tim", b"\0\0secret", b"\0tim\0", b"\0tim\0a\0b", b"\0\xff\0x", b"\0tim\0" + b"x" * (LONGEST + 1)],
)
def test_what_is_no_plain_message_is_malformed(response: bytes) -> None:
    step = Plain().take(response)
    assert isinstance(step, Failed)
    assert step.flaw is Flaw.MALFORMED


def test_login_asks_in_the_words_that_clients_know() -> None:
    login = Login()
    assert login.begin(NoResponse()) == Challenge(b"Username:")
    assert login.take(b"tim") == Challenge(b"Password:")
    assert login.take(b"secret") == CheckPassword("tim", "secret")


def test_login_takes_the_name_as_its_initial_response() -> None:
    login = Login()
    assert login.begin(b"tim") == Challenge(b"Password:")
    assert login.take(b"secret") == CheckPassword("tim", "secret")


RFC_7628_EXAMPLE = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=587\x01"
    b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
)


def test_oauthbearer_reads_the_message_of_rfc_7628() -> None:
    """RFC 7628 §4.1 (there with IMAP's port) and §4.3."""
    assert Bearer(OAUTHBEARER).begin(RFC_7628_EXAMPLE) == CheckToken(
        "user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
    )
    assert Bearer(OAUTHBEARER).begin(b"n,,\x01auth=Bearer x\x01\x01") == CheckToken("", "x")
    assert Bearer(OAUTHBEARER).begin(b"n,a=a=2Cb=3Dc,\x01auth=bearer x\x01\x01") == CheckToken("a,b=c", "x")


def test_xoauth2_reads_googles_message() -> None:
    said = b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01"
    assert Bearer(XOAUTH2).begin(said) == CheckToken(
        "someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    )


def test_a_refused_token_is_told_in_json_before_the_end() -> None:
    """RFC 7628 §3.2.2 and §3.2.3; the client's ^A acknowledges."""
    bearer = Bearer(OAUTHBEARER, "https://issuer.example/.well-known/openid-configuration")
    bearer.begin(RFC_7628_EXAMPLE)
    told = bearer.refused("user@example.com", "expired")
    assert isinstance(told, Challenge)
    assert json.loads(told.octets) == {
        "status": "invalid_token",
        "openid-configuration": "https://issuer.example/.well-known/openid-configuration",
    }
    assert bearer.take(b"\x01") == Failed(Flaw.WRONG, "user@example.com", "expired")


def test_a_refused_token_of_xoauth2_has_the_status_its_clients_look_for() -> None:
    bearer = Bearer(XOAUTH2)
    told = bearer.refused("a@b.example", "expired")
    assert isinstance(told, Challenge)
    assert json.loads(told.octets)["status"] == "401"
    assert bearer.take(b"") == Failed(Flaw.WRONG, "a@b.example", "expired")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"n,,",
        b"n,,\x01\x01",
        b"n,,\x01auth=Basic eDp5\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Bearer x y\x01\x01",
        b"n,,\x01auth=Bearer x\x01",
        b"p=tls-unique,,\x01auth=Bearer x\x01\x01",
        b"\xff",
    ],
)
def test_what_is_no_bearer_message_is_malformed(said: bytes) -> None:
    for mechanism in (OAUTHBEARER, XOAUTH2):
        step = Bearer(mechanism).begin(said)
        assert isinstance(step, Failed)
        assert step.flaw is Flaw.MALFORMED


def exchanges() -> list[Exchange]:
    bindings = {"tls-server-end-point": b"hash"}
    return [
        Plain(),
        Login(),
        Bearer(OAUTHBEARER),
        Bearer(XOAUTH2),
        Scram(lambda name: nobody(name, b"secret")),
        Scram(lambda name: nobody(name, b"secret"), bindings),
        Scram(lambda name: nobody(name, b"secret"), bindings, plus=True),
    ]


sasl_words = st.sampled_from(
    [
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"p=tls-server-end-point,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"y,,n=user,r=abc",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        RFC_7628_EXAMPLE,
        b"user=a\x01auth=Bearer x\x01\x01",
        b"\0a\0b",
        b"n,a=",
        b",",
        b"=",
        b"\x01",
    ]
)


@given(st.lists(st.lists(sasl_words | st.binary(max_size=20), max_size=3).map(b"".join), min_size=1, max_size=4))
def test_any_octets_lead_to_a_step_and_never_to_an_error(responses: list[bytes]) -> None:
    for exchange in exchanges():
        step: Step = exchange.begin(responses[0])
        for response in responses[1:]:
            if not isinstance(step, Challenge):
                break
            step = exchange.take(response)
        assert isinstance(step, Challenge | CheckPassword | CheckToken | Failed)
