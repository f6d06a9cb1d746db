"""Each cell of what goes wrong under TLS, played on real sockets: a faulty host, and a healthy one behind it."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from tests.deliver.peer import CHOOSER, ROUTE, FixedHosts, lease
from tests.matrix.grid import Code
from tests.matrix.tls import HANDSHAKES, POLICIES, SESSIONS, SOON, Cut, Flaw, TlsServer, after_cut, authority
from waypost.deliver.connection import Ends, TimeOuts
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.memory import HostMemory
from waypost.deliver.opener import Opener, TlsContexts
from waypost.deliver.pool import Pool
from waypost.deliver.smtp import SmtpDelivery
from waypost.mail.attempt import Transcript
from waypost.mail.outcome import Delivered, Host, InDoubt, LocalTrouble, Outcome
from waypost.net.clock import SystemClock
from waypost.net.dialer import AsyncioDialer
from waypost.net.stream import Endpoint
from waypost.route.route import Hosts, Route, SmtpServers, TlsPolicy
from waypost.smtp.login import Credentials

QUICK = TimeOuts(
    **{name: timedelta(seconds=SOON) for name in ("handshake", "hello", "auth", "mail", "rcpt", "data", "dot")}
)


@cache
def contexts() -> TlsContexts:
    """One that trusts our authority and no other, and one that trusts anybody."""
    trusting = ssl.create_default_context()
    authority().configure_trust(trusting)
    return TlsContexts(TlsContexts.system().unverified, trusting)


async def attempt(route: Route, *endpoints: Endpoint) -> tuple[Outcome, Transcript]:
    """One attempt at hosts that are all called mx.example."""
    clock = SystemClock()
    pool = Pool(clock)
    opener = Opener(Ends(AsyncioDialer(), clock, "us.example", QUICK), HostMemory(clock), contexts())
    hosts = Hosts(tuple(Host("mx.example", endpoint) for endpoint in endpoints))
    sent, transcript = lease(), Transcript(clock.monotonic())
    fates = Fates(sent.recipients)
    assert isinstance(route.transport, SmtpServers)
    smtp = SmtpDelivery(FixedHosts(hosts), CHOOSER, opener, pool, clock)
    await smtp.deliver(sent, route, route.transport, fates, transcript)
    await pool.close()
    ((_, outcome),) = fates.closed(deferred(LocalTrouble("no host was asked")))
    return outcome, transcript


async def play(faulty: TlsServer, route: Route) -> tuple[Outcome, Transcript, TlsServer]:
    healthy = TlsServer()
    async with faulty.listening() as first, healthy.listening() as second:
        outcome, transcript = await attempt(route, first, second)
    return outcome, transcript, healthy


def judge(code: Code, policy: TlsPolicy, faulty: TlsServer, healthy: TlsServer, outcome: Outcome) -> None:
    """Who took the message, under TLS or not, and that nobody took it twice."""
    expected: type[Outcome] = Delivered
    taken: tuple[list[bool], list[bool]]
    match code:
        case Code.GOES_ON | Code.EHLO:
            taken = [True], []
        case Code.CLEAR:
            assert policy is TlsPolicy.OPPORTUNISTIC
            taken = [False], []
        case Code.NEXT:
            taken = [], [True]
        case Code.IN_DOUBT:
            expected, taken = InDoubt, ([], [])
        case _:
            raise AssertionError(f"{code} is not in these tables")
    assert isinstance(outcome, expected), outcome
    assert (faulty.under_tls, healthy.under_tls) == taken
    assert len(faulty.verbs) == (2 if code in {Code.CLEAR, Code.EHLO} else 1)
    assert not any("HELO" in verbs for verbs in (*faulty.verbs, *healthy.verbs))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("flaw", Flaw)
async def test_a_handshake_that_fails_comes_to_what_the_table_says(flaw: Flaw, policy: TlsPolicy) -> None:
    faulty = TlsServer(flaw)
    outcome, transcript, healthy = await play(faulty, replace(ROUTE, tls=policy))
    code = HANDSHAKES[flaw][POLICIES.index(policy)]
    judge(code, policy, faulty, healthy, outcome)
    assert ("* TLS handshake: " in str(transcript)) == (code is not Code.GOES_ON), str(transcript)


@pytest.mark.parametrize("policy", [TlsPolicy.OPPORTUNISTIC, TlsPolicy.VERIFY])
@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("word", SESSIONS)
async def test_a_session_under_tls_that_is_cut_comes_to_what_the_table_says(
    word: str, cut: Cut, policy: TlsPolicy
) -> None:
    faulty = TlsServer(cut=(word, cut))
    route = replace(ROUTE, tls=policy)
    if word == "AUTH":
        route = replace(route, credentials=Credentials("us", "secret"))
    outcome, transcript, healthy = await play(faulty, route)
    judge(after_cut(word, cut, policy), policy, faulty, healthy, outcome)
    assert f"* {word}: " in str(transcript), str(transcript)


def test_every_flaw_has_its_row() -> None:
    assert set(HANDSHAKES) == set(Flaw)
