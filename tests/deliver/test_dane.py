"""What a domain promises about its TLS, and what a server then shows: DNS with its AD bit, and TLS, both over sockets.

Each case is a domain that publishes something, and an exchanger that keeps to it or not. Where it does not, the mail is
deferred, no octet of it has gone in clear, and the trouble is told for a report.
"""

from __future__ import annotations

import hashlib
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
import trustme

from tests.deliver.peer import ROUTE, NoPolicies, lease
from tests.deliver.test_tls import Seen, server
from tests.net.certificates import Made, Pem, Shown, make, server_context
from tests.net.dns_server import DnsServer, Misbehaviour
from waypost.deliver.connection import Ends, TimeOuts
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.memory import HostMemory
from waypost.deliver.opener import Opener, TlsContexts
from waypost.deliver.pool import Pool
from waypost.deliver.smtp import SmtpDelivery
from waypost.mail.attempt import Transcript
from waypost.mail.explain import describe
from waypost.mail.outcome import Deferred, Delivered, LocalTrouble, Outcome, Rejected
from waypost.mail.tls_report import ORIGIN
from waypost.mail.tls_result import Basis, TlsResult, TlsTrouble
from waypost.net.clock import Clock, SystemClock
from waypost.net.dialer import AsyncioDialer
from waypost.net.stub_resolver import DnspythonResolver, ResolverSettings
from waypost.route.hosts import HostFinder
from waypost.route.level import NoStsPolicy, StsPolicies, TlsChooser
from waypost.route.mta_sts import KeptPolicy, Mode, StsPolicy
from waypost.route.route import SmtpMx, TlsPolicy
from waypost.smtp.extension import MailParameters

AUTHORITY = make("authority", is_authority=True)
GOOD = make("mx.far.example", issuer=AUTHORITY, names=["mx.far.example"])
STRANGER = make("stranger", names=["stranger.example"])
PUBLIC = trustme.CA()
SIGNED = ("far.example",)


@dataclass
class Told:
    """Results, as a tally would count them."""

    results: list[TlsResult] = field(default_factory=list)

    def count(self, result: TlsResult) -> None:
        self.results.append(result)

    @property
    def troubles(self) -> list[TlsTrouble]:
        return [result.trouble for result in self.results]


@dataclass
class Promise:
    """What far.example publishes, and how it is asked for."""

    tlsa: str = ""
    signed: Sequence[str] = SIGNED
    broken: str = ""  # a name whose look-up fails, as a bogus one does
    policies: StsPolicies = field(default_factory=NoPolicies)
    tls: TlsPolicy = TlsPolicy.AUTO
    alias: str = ""  # a name that far.example is an alias of, and that has its MX records
    is_report: bool = False
    requiretls: bool = False


@dataclass
class Came:
    """What came of it."""

    outcome: Outcome
    told: Told
    transcript: str


def tlsa(of: Made, usage: int = 3, selector: int = 1) -> str:
    part = of.spki if selector else of.der
    return f"{usage} {selector} 1 {hashlib.sha256(part).hexdigest()}"


async def sent(promise: Promise, port: int) -> Came:
    """One attempt for far.example, whose only exchanger listens on `port` of loopback."""
    zone = f"{promise.alias or 'far.example'}. 300 MX 10 mx.far.example.\nmx.far.example. 300 A 127.0.0.1\n"
    if promise.alias:
        zone += f"far.example. 300 CNAME {promise.alias}.\n"
    if promise.tlsa:
        zone += f"_{port}._tcp.mx.far.example. 60 TLSA {promise.tlsa}\n"
    async with DnsServer(zone, signed=tuple(promise.signed)) as dns:
        if promise.broken:
            dns.misbehave[promise.broken.format(port=port)] = Misbehaviour.SERVFAIL
        clock = SystemClock()
        asked = ResolverSettings((dns.endpoint,), trusted=frozenset({dns.endpoint}), attempts=1)
        resolver = DnspythonResolver(asked, clock)
        try:
            return await attempt(promise, port, resolver, clock)
        finally:
            await resolver.close()


async def attempt(promise: Promise, port: int, resolver: DnspythonResolver, clock: Clock) -> Came:
    finder = HostFinder(
        resolver,
        own_names=set(),
        own_addresses=set(),
        own_ports=set(),
        dice=random.Random(1),  # noqa: S311 - there is one host
        allow_loopback_mx=True,
    )
    unverified, trusting = ssl.create_default_context(), ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    PUBLIC.configure_trust(trusting)
    ends = Ends(AsyncioDialer(), clock, "us.example", TimeOuts())
    opener, pool, told = Opener(ends, HostMemory(clock), TlsContexts(unverified, trusting)), Pool(clock), Told()
    smtp = SmtpDelivery(finder, TlsChooser(resolver, promise.policies, clock), opener, pool, clock, told)
    transport, given = SmtpMx("far.example", port), lease(parameters=MailParameters(requiretls=promise.requiretls))
    if promise.is_report:
        given = replace(given, message=replace(given.message, origin=ORIGIN))
    fates, transcript = Fates(given.recipients), Transcript(clock.monotonic())
    route = replace(ROUTE, transport=transport, tls=promise.tls)
    await smtp.deliver(given, route, transport, fates, transcript)
    await pool.close()
    ((_, outcome),) = fates.closed(deferred(LocalTrouble("no host was asked")))
    return Came(outcome, told, str(transcript))


async def came(promise: Promise, shown: Sequence[Shown] = (GOOD, AUTHORITY), kink: str = "") -> tuple[Came, Seen]:
    """What came of it with an exchanger that shows `shown`, and has that kink of `server`."""
    seen, context = Seen([]), server_context(*shown)
    breaks, strips = kink == "breaks_handshake", kink == "strips_starttls"
    async with server(
        "mx.far.example",
        seen,
        breaks_handshake=breaks,
        strips_starttls=strips,
        under_tls=b"HELP" if kink == "no REQUIRETLS" else b"REQUIRETLS",
        context=context,
    ) as endpoint:
        return await sent(promise, endpoint.port), seen


@pytest.mark.parametrize("record", [tlsa(GOOD), tlsa(AUTHORITY, 2, 0)], ids=["its key", "its authority"])
async def test_sni_has_the_name_that_the_records_stand_under(record: str) -> None:
    """RFC 7672 §8.1: a server of many names shows the certificate of the one it is asked for."""
    asked: list[str | None] = []
    seen, context = Seen([]), server_context(GOOD, AUTHORITY)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with server("mx.far.example", seen, context=context) as endpoint:
        got = await sent(Promise(record, tls=TlsPolicy.DANE), endpoint.port)
    assert isinstance(got.outcome, Delivered), describe(got.outcome)
    assert asked == ["mx.far.example"]


# ---- kept
@pytest.mark.parametrize(
    "record",
    [tlsa(GOOD), tlsa(GOOD, 3, 0), tlsa(AUTHORITY, 2, 0), tlsa(AUTHORITY, 2, 1)],
    ids=["its key", "its certificate", "its authority", "its authority's key"],
)
@pytest.mark.parametrize("policy", [TlsPolicy.AUTO, TlsPolicy.DANE])
async def test_what_is_promised_and_shown_lets_mail_pass(record: str, policy: TlsPolicy) -> None:
    got, seen = await came(Promise(record, tls=policy))
    assert isinstance(got.outcome, Delivered), describe(got.outcome)
    assert seen.under_tls == [True]
    (result,) = got.told.results
    assert (result.trouble, result.published.basis) == (TlsTrouble.NONE, Basis.DANE)
    assert result.published.lines == (record,)
    assert f'policy "{policy.value}": DANE, by the signed TLSA records' in got.transcript


async def test_the_bare_key_of_an_authority_that_is_not_shown_lets_mail_pass() -> None:
    """RFC 7671 §5.2.2."""
    got, seen = await came(Promise(f"2 1 0 {AUTHORITY.spki.hex()}", tls=TlsPolicy.DANE), [GOOD])
    assert isinstance(got.outcome, Delivered), describe(got.outcome)
    assert seen.under_tls == [True]


@pytest.mark.parametrize("name", ["mx.far.example", "far.example", "real.far.example"])
async def test_under_an_authority_the_host_the_domain_and_the_name_its_alias_leads_to_count(name: str) -> None:
    """RFC 7672 §3.2.2."""
    promise = Promise(tlsa(AUTHORITY, 2, 0), alias="real.far.example", tls=TlsPolicy.DANE)
    got, seen = await came(promise, [make("x", issuer=AUTHORITY, names=[name]), AUTHORITY])
    assert isinstance(got.outcome, Delivered), describe(got.outcome)
    assert seen.under_tls == [True]


async def test_where_nothing_is_promised_any_certificate_does() -> None:
    got, seen = await came(Promise(), [STRANGER])
    assert isinstance(got.outcome, Delivered)
    assert seen.under_tls == [True]
    assert [result.published.basis for result in got.told.results] == [Basis.NOTHING]


async def test_records_without_the_ad_bit_are_no_promise() -> None:
    got, seen = await came(Promise(tlsa(STRANGER), signed=()))
    assert isinstance(got.outcome, Delivered)
    assert seen.under_tls == [True]


async def test_records_of_no_use_ask_for_tls_by_any_certificate() -> None:
    got, seen = await came(Promise("0 0 1 " + "00" * 32), [STRANGER])
    assert isinstance(got.outcome, Delivered)
    assert seen.under_tls == [True]
    assert got.told.troubles == [TlsTrouble.TLSA]


# ---- not kept
NOT_KEPT = {
    "another key": (Promise(tlsa(STRANGER)), (GOOD, AUTHORITY), TlsTrouble.VALIDATION, "no TLSA record matches"),
    "another authority": (Promise(tlsa(STRANGER, 2, 0)), (GOOD, AUTHORITY), TlsTrouble.VALIDATION, "no TLSA record"),
    "another name": (
        Promise(tlsa(AUTHORITY, 2, 0)),
        (make("x", issuer=AUTHORITY, names=["other.example"]), AUTHORITY),
        TlsTrouble.NAME,
        "it is for other.example",
    ),
    "the authority left out": (Promise(tlsa(AUTHORITY, 2, 0)), (GOOD,), TlsTrouble.VALIDATION, "no TLSA record"),
    "bogus TLSA": (
        Promise(tlsa(GOOD), broken="_{port}._tcp.mx.far.example"),
        (GOOD, AUTHORITY),
        TlsTrouble.DNSSEC,
        "SERVFAIL",
    ),
    "no DANE where it is demanded": (Promise(tls=TlsPolicy.DANE), (GOOD,), TlsTrouble.NO_DANE, "DANE is demanded"),
}


@pytest.mark.parametrize("case", NOT_KEPT)
async def test_what_is_promised_and_not_shown_holds_mail_back(case: str) -> None:
    promise, shown, trouble, words = NOT_KEPT[case]
    got, seen = await came(promise, shown)
    assert isinstance(got.outcome, Deferred)
    assert words in describe(got.outcome)
    assert seen.under_tls == []
    assert got.told.troubles == [trouble]


@pytest.mark.parametrize(
    ("kink", "trouble"),
    [("strips_starttls", TlsTrouble.NO_STARTTLS), ("breaks_handshake", TlsTrouble.VALIDATION)],
)
async def test_an_attack_on_tls_wins_no_mail_in_clear(kink: str, trouble: TlsTrouble) -> None:
    got, seen = await came(Promise(tlsa(GOOD)), kink=kink)
    assert isinstance(got.outcome, Deferred)
    assert seen.under_tls == []
    assert got.told.troubles == [trouble]


async def test_without_a_promise_a_broken_handshake_is_told_once_and_mail_goes_in_clear() -> None:
    got, seen = await came(Promise(), kink="breaks_handshake")
    assert isinstance(got.outcome, Delivered)
    assert seen.under_tls == [False]
    assert got.told.troubles == [TlsTrouble.VALIDATION]


# ---- MTA-STS
@dataclass
class OnePolicy:
    mode: Mode
    pattern: str = "mx.far.example"

    async def policy(self, domain: str) -> KeptPolicy | NoStsPolicy:
        policy = StsPolicy(self.mode, TimeOuts().dot * 100, (self.pattern,))
        return KeptPolicy(domain, "17", policy, SystemClock().now())


def public(*names: str) -> Sequence[Shown]:
    """A certificate by the authority that everybody trusts in these tests."""
    leaf = PUBLIC.issue_cert(*names)
    return [Pem(leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())]


async def test_an_enforced_policy_is_kept_by_a_host_it_names_with_a_certificate_everybody_trusts() -> None:
    got, seen = await came(Promise(policies=OnePolicy(Mode.ENFORCE)), public("mx.far.example"))
    assert isinstance(got.outcome, Delivered), describe(got.outcome)
    assert seen.under_tls == [True]
    assert [(result.trouble, result.published.basis) for result in got.told.results] == [
        (TlsTrouble.NONE, Basis.MTA_STS)
    ]


@pytest.mark.parametrize(
    ("policy", "shown", "trouble"),
    [
        (OnePolicy(Mode.ENFORCE), [GOOD], TlsTrouble.NOT_TRUSTED),
        (OnePolicy(Mode.ENFORCE), public("other.example"), TlsTrouble.NAME),
        (OnePolicy(Mode.ENFORCE, "other.example"), public("mx.far.example"), TlsTrouble.VALIDATION),
    ],
    ids=["self-made", "another name", "a host it does not name"],
)
async def test_an_enforced_policy_that_is_not_kept_holds_mail_back(
    policy: OnePolicy, shown: Sequence[Shown], trouble: TlsTrouble
) -> None:
    got, seen = await came(Promise(policies=policy), shown)
    assert isinstance(got.outcome, Deferred)
    assert seen.under_tls == []
    assert got.told.troubles == [trouble]


async def test_a_policy_in_testing_that_is_not_kept_is_only_told() -> None:
    got, seen = await came(Promise(policies=OnePolicy(Mode.TESTING)), [STRANGER])
    assert isinstance(got.outcome, Delivered)
    assert seen.under_tls == [True]
    assert got.told.troubles == [TlsTrouble.NOT_TRUSTED]


# ---- REQUIRETLS (RFC 8689 §4.2.1)
@pytest.mark.parametrize(
    ("promise", "shown"),
    [
        (Promise(tlsa(GOOD)), [GOOD]),
        (Promise(), public("mx.far.example")),
        (Promise(signed=(), policies=OnePolicy(Mode.ENFORCE)), public("mx.far.example")),
        (Promise(signed=(), policies=OnePolicy(Mode.TESTING)), public("mx.far.example")),
    ],
    ids=["DANE", "signed MX records", "an enforced policy", "a policy in testing"],
)
async def test_mail_tagged_requiretls_goes_to_a_host_that_is_vouched_for_and_proves_itself(
    promise: Promise, shown: Sequence[Shown]
) -> None:
    got, seen = await came(replace(promise, requiretls=True), shown)
    assert isinstance(got.outcome, Delivered), describe(got.outcome)
    assert seen.under_tls == [True]


@pytest.mark.parametrize(
    ("promise", "shown", "kink", "status"),
    [
        (Promise(signed=()), public("mx.far.example"), "", "5.7.10"),
        (Promise(signed=(), policies=OnePolicy(Mode.ENFORCE, "x.example")), public("mx.far.example"), "", "5.7.10"),
        (Promise(), public("mx.far.example"), "strips_starttls", "5.7.10"),
        (Promise(), public("mx.far.example"), "breaks_handshake", "5.7.10"),
        (Promise(), [STRANGER], "", "5.7.10"),
        (Promise(), public("other.example"), "", "5.7.10"),
        (Promise(tlsa(STRANGER)), [GOOD], "", "5.7.10"),
        (Promise(), public("mx.far.example"), "no REQUIRETLS", "5.7.30"),
    ],
    ids=[
        "nobody vouches for its name",
        "its policy names another",
        "no STARTTLS",
        "a broken handshake",
        "a certificate nobody trusts",
        "a certificate of another",
        "another than DANE pins",
        "no REQUIRETLS",
    ],
)
async def test_mail_tagged_requiretls_comes_back_at_once_where_that_cannot_be_had(
    promise: Promise, shown: Sequence[Shown], kink: str, status: str
) -> None:
    got, seen = await came(replace(promise, requiretls=True), shown, kink)
    assert isinstance(got.outcome, Rejected), describe(got.outcome)
    assert str(got.outcome.status) == status
    assert seen.under_tls == []


async def test_mail_tagged_requiretls_waits_while_dns_does_not_say_who_is_vouched_for() -> None:
    got, _ = await came(Promise(broken="far.example", requiretls=True), public("mx.far.example"))
    assert isinstance(got.outcome, Deferred)


# ---- reports
async def test_a_report_on_tls_goes_through_whatever_was_promised_and_is_not_told_of() -> None:
    """RFC 8460 §3: else nobody would ever hear of a promise that cannot be kept."""
    got, seen = await came(Promise(tlsa(STRANGER), is_report=True))
    assert isinstance(got.outcome, Delivered)
    assert seen.under_tls == [True]
    assert got.told.results == []
