"""The SASL exchanges, both sides: whatever comes, a step or a response follows, and nobody gets in by chance."""

from __future__ import annotations

from fuzz.targets import head
from waypost.auth.bearer import OAUTHBEARER, XOAUTH2, Bearer
from waypost.auth.client import Scram as OurScram
from waypost.auth.exchange import Challenge, CheckPassword, CheckToken, Exchange, Failed, Login, Plain, Step
from waypost.auth.scram import Scram, nobody
from waypost.smtp.login import Credentials, GiveUp

BINDINGS = {"tls-server-end-point": b"hash"}


def one(octets: bytes) -> None:
    """Octet 0: which exchange; the rest, cut at each ^B, is said."""
    (which,), speech = head(octets, 1)
    messages = speech.split(b"\x02")
    if which & 128:
        _as_client(messages)
    else:
        _as_server(_exchange(which), messages)


def _exchange(which: int) -> Exchange:
    match which % 6:
        case 0:
            return Plain()
        case 1:
            return Login()
        case 2:
            return Bearer(OAUTHBEARER)
        case 3:
            return Bearer(XOAUTH2)
        case 4:
            return Scram(lambda name: nobody(name, b"secret"))
        case _:
            return Scram(lambda name: nobody(name, b"secret"), BINDINGS, plus=True)


def _as_server(exchange: Exchange, messages: list[bytes]) -> None:
    step: Step = exchange.begin(messages[0])
    for message in messages[1:]:
        if not isinstance(step, Challenge):
            break
        step = exchange.take(message)
    assert isinstance(step, Challenge | CheckPassword | CheckToken | Failed)
    if isinstance(step, CheckPassword):
        assert step.username
        assert step.password


def _as_client(messages: list[bytes]) -> None:
    ours = OurScram(Credentials("alice", "sesame"))
    ours.begin()
    for message in messages:
        if isinstance(ours.answer(message), GiveUp):
            break
    assert not ours.is_satisfied
