"""DANE proved with real parts: zones signed by Knot, validated by Unbound, and servers that show real certificates.

Whatever goes wrong with what a domain promised, its mail waits: it never goes in clear, nor to whom it was not meant.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.knot import knot
from tests.live.mail import MESSAGES, send
from tests.live.service import Service, waypost
from tests.live.sink import Attack, Sink, StartTls, sink
from tests.live.unbound import unbound
from tests.live.waiting import outcome_of_the_first_attempt
from tests.net.certificates import Made, make, server_context

pytestmark = pytest.mark.live

AUTHORITY = make("Authority of the test", is_authority=True)
SERVER = make("mx.example.test", issuer=AUTHORITY, names=["mx.example.test"])
OTHER = make("other.test", issuer=AUTHORITY, names=["other.test"])
FOREIGN = "foreign.test. DS 12345 13 2 " + "00" * 32


@dataclass(frozen=True, slots=True)
class Scene:
    """A service, and the one exchanger of example.test."""

    service: Service
    exchanger: Sink

    async def delivered(self) -> tuple[bool, str]:
        """Send a message that arrives; whether it came under TLS, and what the trace tells."""
        await asyncio.to_thread(send, self.service, MESSAGES["plain"])
        (taken,) = await self.exchanger.messages(1)
        trace = await self.service.cli("trace", "bob@example.test")
        return taken.under_tls, trace.output

    async def waits(self) -> str:
        """Send a message that stays in the queue; why it does."""
        await asyncio.to_thread(send, self.service, MESSAGES["plain"])
        said = await outcome_of_the_first_attempt(self.service)
        assert self.exchanger.taken == []
        assert "HELO" not in self.exchanger.verbs
        return said


@contextlib.asynccontextmanager
async def scene(
    place: Path,
    peer_place: Path,
    tlsa: str,
    *,
    shows: Made = SERVER,
    attack: Attack = Attack.NONE,
    tls: str = "auto",
    signed: bool = True,
    bogus: bool = False,
    validates: bool = True,
    leaves_out: bool = False,
    records: str = "@ MX 10 mx\n",
) -> AsyncIterator[Scene]:
    """`tlsa`: the exchanger's record, or "" for none. `bogus`: the resolver believes another key than the zone's.

    `leaves_out`: the exchanger does not show its authority. `records`: what leads to the exchanger's name.
    """
    context = server_context(shows, *([] if leaves_out or shows is ALONE else [AUTHORITY]))
    async with sink(host="127.0.0.2", starttls=StartTls(context, attack)) as exchanger:
        record = f"_{exchanger.port}._tcp.mx TLSA {tlsa}\n" if tlsa else ""
        records += f"mx A 127.0.0.2\n{record}"
        routes = f'\n[[route]]\ndomains = ["*"]\nto = ["mx::{exchanger.port}"]\ntls = "{tls}"\n'
        async with knot(peer_place, {"example.test": records}, signed=["example.test"] if signed else []) as dns:
            key = await dns.anchor("example.test") if signed else ""
            anchors = [FOREIGN.replace("foreign", "example") if bogus else key] if signed else [FOREIGN]
            async with unbound(peer_place, dns, ["example.test"], anchors=anchors) as resolver:
                asked = resolver if validates else dns
                settings = routes + asked.settings + "allow_loopback_mx = true\n"
                async with waypost(place, settings, pause="1h") as service:
                    yield Scene(service, exchanger)


ALONE = make("nobody in particular")


def pinned(of: Made, usage: int = 3, selector: int = 1) -> str:
    part = of.spki if selector else of.der
    return f"{usage} {selector} 1 {hashlib.sha256(part).hexdigest()}"


# ---- promises that are kept
async def test_a_pinned_key_lets_mail_pass_whatever_else_its_certificate_says(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, pinned(ALONE), shows=ALONE) as there:
        under_tls, trace = await there.delivered()
        assert under_tls
        assert "DANE, by the signed TLSA records of" in trace, trace
        assert "certificate is the one that TLSA 3 1 1" in trace, trace


async def test_a_pinned_authority_lets_mail_pass(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, pinned(AUTHORITY, 2, 0), tls="dane") as there:
        under_tls, _ = await there.delivered()
        assert under_tls


async def test_the_bare_key_of_an_authority_that_is_not_shown_lets_mail_pass(place: Path, peer_place: Path) -> None:
    bare = f"2 1 0 {AUTHORITY.spki.hex()}"
    async with scene(place, peer_place, bare, tls="dane", leaves_out=True) as there:
        under_tls, trace = await there.delivered()
        assert under_tls
        assert "certificate is the one that TLSA 2 1 0" in trace, trace


async def test_the_records_at_the_end_of_an_exchanger_s_signed_alias_count(place: Path, peer_place: Path) -> None:
    async with scene(
        place, peer_place, pinned(AUTHORITY, 2, 0), tls="dane", records="@ MX 10 old\nold CNAME mx\n"
    ) as there:
        under_tls, trace = await there.delivered()
        assert under_tls
        assert "_tcp.mx.example.test" in trace, trace


async def test_resolve_tells_the_level_and_what_it_rests_on(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, pinned(ALONE), shows=ALONE) as there:
        told = await there.service.cli("resolve", "example.test")
        assert told.code == 0, told.errors
        words = " ".join(told.output.split())
        assert "TLS dane" in words, told.output
        assert f"TLSA {pinned(ALONE)}" in words, told.output
        assert "signed" in words, told.output


# ---- promises that are not
@pytest.mark.parametrize("tls", ["auto", "dane"])
async def test_another_key_than_the_pinned_one_holds_mail_back(place: Path, peer_place: Path, tls: str) -> None:
    async with scene(place, peer_place, pinned(OTHER), tls=tls) as there:
        assert "no TLSA record matches its certificate" in await there.waits()


async def test_a_certificate_for_another_name_by_the_pinned_authority_holds_mail_back(
    place: Path, peer_place: Path
) -> None:
    async with scene(place, peer_place, pinned(AUTHORITY, 2, 0), shows=OTHER) as there:
        assert "it is for other.test" in await there.waits()


async def test_what_fails_validation_holds_mail_back(place: Path, peer_place: Path) -> None:
    """A forged answer looks like this to a resolver that validates."""
    async with scene(place, peer_place, pinned(SERVER), bogus=True) as there:
        assert "SERVFAIL" in await there.waits()


@pytest.mark.parametrize("attack", [attack for attack in Attack if attack is not Attack.NONE])
async def test_no_attack_on_tls_wins_mail_in_clear(place: Path, peer_place: Path, attack: Attack) -> None:
    async with scene(place, peer_place, pinned(SERVER), attack=attack) as there:
        assert await there.waits()


# ---- no promise
async def test_records_that_are_not_signed_promise_nothing(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, pinned(OTHER), signed=False) as there:
        under_tls, trace = await there.delivered()
        assert under_tls
        assert "are not signed" in trace, trace


async def test_records_that_are_not_signed_are_no_dane_where_it_is_demanded(place: Path, peer_place: Path) -> None:
    """Whoever forges answers cannot forge the AD bit of a resolver on this machine."""
    async with scene(place, peer_place, pinned(SERVER), signed=False, tls="dane") as there:
        assert "DANE is demanded" in await there.waits()


async def test_a_resolver_that_does_not_validate_gives_no_dane(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, pinned(SERVER), tls="dane", validates=False) as there:
        assert "DANE is demanded" in await there.waits()


async def test_without_records_a_signed_domain_gets_its_mail_as_ever(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, "") as there:
        under_tls, trace = await there.delivered()
        assert under_tls
        assert "no signed TLSA records" in trace, trace
