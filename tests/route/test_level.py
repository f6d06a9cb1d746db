"""RFC 7672 §2.2 and RFC 8461 §5: which level a host gets, for each thing DNS and a policy may say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from tests.route.written import WrittenResolver
from waypost.mail.outcome import DnsFailed, Host, PolicyRefused
from waypost.mail.tls_result import Basis, TlsTrouble
from waypost.net.clock import SystemClock
from waypost.net.resolver import (
    Addresses,
    Alias,
    DnsTrouble,
    MxRecord,
    MxRecords,
    NoRecords,
    NoSuchName,
    Standing,
    TlsaRecord,
    TlsaRecords,
)
from waypost.net.stream import Endpoint
from waypost.route.level import (
    Barred,
    Choice,
    Chosen,
    NoStsPolicy,
    TlsChooser,
    TlsDemand,
    TlsLevel,
    describe_choice,
    fixed,
    with_requiretls,
)
from waypost.route.mta_sts import KeptPolicy, Mode, StsPolicy
from waypost.route.route import Server, SmtpMx, SmtpServers, TlsPolicy

HOUR = timedelta(hours=1)
SIGNED, PLAIN = Standing(HOUR, authenticated=True), Standing(HOUR)
GOOD = TlsaRecord(3, 1, 1, bytes(32))
USELESS = TlsaRecord(0, 0, 1, bytes(32))
MX = MxRecords((MxRecord(10, "mx.far.example"),), SIGNED)
AT = Addresses(("192.0.2.1",), SIGNED)
TROUBLE = DnsTrouble("TLSA of it: 127.0.0.1:53 answered SERVFAIL")
HOST = Host("mx.far.example", Endpoint("192.0.2.1", 25))
TLSA = "_25._tcp.mx.far.example"
TO = SmtpMx("far.example")
NO_POLICY = NoStsPolicy("far.example announces none")


class HeldClock(SystemClock):
    def now(self) -> float:
        return 1_000_000.0


@dataclass
class Policies:
    """The policy of every domain there is."""

    found: KeptPolicy | NoStsPolicy = NO_POLICY
    asked: list[str] = field(default_factory=list)

    async def policy(self, domain: str) -> KeptPolicy | NoStsPolicy:
        self.asked.append(domain)
        return self.found


def sts(mode: Mode, *patterns: str) -> Policies:
    kept = KeptPolicy("far.example", "17", StsPolicy(mode, HOUR, patterns), 1_000_000.0 - 600)
    return Policies(kept)


def zone(**changes: object) -> WrittenResolver:
    """A domain that has done all of DANE's work; `changes` of it."""
    told: dict[str, object] = {"mx": MX, "addresses": AT, "tlsa": TlsaRecords((GOOD,), SIGNED), "alias": NoRecords()}
    told |= changes
    return WrittenResolver(
        {"far.example": told["mx"]},  # type: ignore[dict-item]  # each test names real answers
        {"mx.far.example": told["addresses"]},  # type: ignore[dict-item]
        tlsa={TLSA: told["tlsa"]} if not isinstance(told["tlsa"], dict) else told["tlsa"],  # type: ignore[dict-item]
        aliases={"mx.far.example": told["alias"]},  # type: ignore[dict-item]
    )


async def chosen(
    resolver: WrittenResolver, policies: Policies | None = None, policy: TlsPolicy = TlsPolicy.AUTO
) -> Choice:
    return await TlsChooser(resolver, policies or Policies(), HeldClock()).choose(policy, TO, HOST)


# ---- DANE
async def test_signed_tlsa_records_are_demanded() -> None:
    choice = await chosen(zone())
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.DANE
    assert choice.demand.tlsa == (GOOD,)
    assert choice.demand.names == ("mx.far.example", "far.example")
    assert choice.published.basis is Basis.DANE
    assert choice.published.lines == (f"3 1 1 {'00' * 32}",)
    assert describe_choice(choice)[0] == (
        'TLS dane, by policy "auto": DANE, by the signed TLSA records of _25._tcp.mx.far.example, TTL 3600 s'
    )


async def test_the_name_that_a_signed_alias_leads_the_domain_to_counts_too() -> None:
    """RFC 7672 §3.2.2: the third of the names that a certificate under DANE-TA(2) may have."""
    choice = await chosen(zone(mx=MxRecords((MxRecord(10, "mx.far.example"),), SIGNED, "real.far.example")))
    assert isinstance(choice, Chosen)
    assert choice.demand.names == ("mx.far.example", "far.example", "real.far.example")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mx": MxRecords((MxRecord(10, "mx.far.example"),), PLAIN)}, "MX records of far.example are not signed"),
        ({"addresses": Addresses(("192.0.2.1",), PLAIN)}, "addresses of mx.far.example are not signed"),
        ({"tlsa": TlsaRecords((GOOD,), PLAIN)}, "no signed TLSA records"),
        ({"tlsa": NoRecords(SIGNED)}, "no signed TLSA records"),
        ({"tlsa": NoSuchName(SIGNED)}, "no signed TLSA records"),
    ],
    ids=["MX unsigned", "addresses unsigned", "TLSA unsigned", "no TLSA", "no such name"],
)
async def test_where_a_link_is_not_signed_dane_does_not_apply(changes: dict[str, object], words: str) -> None:
    choice = await chosen(zone(**changes))
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.OPPORTUNISTIC
    assert words in choice.why.detail
    demanded = await chosen(zone(**changes), policy=TlsPolicy.DANE)
    assert isinstance(demanded, Barred)
    assert isinstance(demanded.cause, PolicyRefused)
    assert words in demanded.cause.detail
    assert demanded.trouble is TlsTrouble.NO_DANE


async def test_a_host_whose_addresses_are_not_signed_is_not_asked_for_tlsa_records() -> None:
    """RFC 7672 §2.2.2: some name servers break on the question."""
    resolver = zone(addresses=Addresses(("192.0.2.1",), PLAIN))
    await chosen(resolver)
    assert TLSA not in resolver.asked


@pytest.mark.parametrize("policy", [TlsPolicy.AUTO, TlsPolicy.DANE])
@pytest.mark.parametrize("changes", [{"mx": TROUBLE}, {"addresses": TROUBLE}, {"tlsa": TROUBLE}], ids=str)
async def test_where_dns_gives_no_answer_the_host_is_not_used(changes: dict[str, object], policy: TlsPolicy) -> None:
    """RFC 7672 §2.1.2: a bogus answer is SERVFAIL to us, and to go on without would be what a forger wants."""
    choice = await chosen(zone(**changes), policy=policy)
    assert isinstance(choice, Barred)
    assert isinstance(choice.cause, DnsFailed)
    assert "SERVFAIL" in choice.cause.detail
    assert choice.trouble is TlsTrouble.DNSSEC


async def test_signed_records_of_no_use_ask_for_tls_without_a_name() -> None:
    """RFC 7672 §2.2.3."""
    choice = await chosen(zone(tlsa=TlsaRecords((USELESS,), SIGNED)))
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.REQUIRED
    assert choice.trouble is TlsTrouble.TLSA
    demanded = await chosen(zone(tlsa=TlsaRecords((USELESS,), SIGNED)), policy=TlsPolicy.DANE)
    assert isinstance(demanded, Barred)
    assert demanded.trouble is TlsTrouble.TLSA


async def test_an_implicit_mx_that_is_signed_counts() -> None:
    host = Host("far.example", HOST.endpoint)
    records = {"_25._tcp.far.example": TlsaRecords((GOOD,), SIGNED)}
    resolver = WrittenResolver({"far.example": NoRecords(SIGNED)}, {"far.example": AT}, tlsa=dict(records))
    choice = await TlsChooser(resolver, Policies(), HeldClock()).choose(TlsPolicy.AUTO, TO, host)
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.DANE
    assert choice.demand.names == ("far.example",)


# ---- aliases (RFC 7672 §2.2.2)
THROUGH = Addresses(("192.0.2.1",), SIGNED, "real.example")
INTO_THE_OPEN = Addresses(("192.0.2.1",), PLAIN, "real.example")
HERE, THERE = TlsaRecords((GOOD,), SIGNED), TlsaRecords((TlsaRecord(3, 1, 1, bytes(31) + b"\1"),), SIGNED)


async def base_of(resolver: WrittenResolver) -> str:
    choice = await chosen(resolver)
    assert isinstance(choice, Chosen)
    return choice.demand.names[0] if choice.demand.level is TlsLevel.DANE else ""


async def test_records_at_the_end_of_a_signed_alias_go_first() -> None:
    assert await base_of(zone(addresses=THROUGH, tlsa={"_25._tcp.real.example": THERE, TLSA: HERE})) == "real.example"


async def test_where_the_end_of_a_signed_alias_has_none_those_at_the_name_itself_count() -> None:
    assert await base_of(zone(addresses=THROUGH, tlsa={TLSA: HERE})) == "mx.far.example"


async def test_a_signed_alias_that_leads_out_of_what_is_signed_keeps_its_own_records() -> None:
    alias = Alias("real.example", SIGNED)
    tlsa = {"_25._tcp.real.example": THERE, TLSA: HERE}
    assert await base_of(zone(addresses=INTO_THE_OPEN, alias=alias, tlsa=tlsa)) == "mx.far.example"


async def test_an_alias_that_is_not_signed_has_none() -> None:
    assert await base_of(zone(addresses=INTO_THE_OPEN, alias=Alias("real.example", PLAIN), tlsa={TLSA: HERE})) == ""


async def test_an_alias_that_cannot_be_judged_bars_the_host() -> None:
    assert isinstance(await chosen(zone(addresses=INTO_THE_OPEN, alias=TROUBLE)), Barred)


# ---- servers that the route names
async def test_a_named_server_has_dane_by_its_own_name_and_port() -> None:
    transport = SmtpServers((Server("smart.example", 587),))
    host = Host("smart.example", Endpoint("192.0.2.7", 587))
    resolver = WrittenResolver({}, {"smart.example": AT}, tlsa={"_587._tcp.smart.example": HERE})
    choice = await TlsChooser(resolver, Policies(), HeldClock()).choose(TlsPolicy.DANE, transport, host)
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.DANE


async def test_an_address_has_neither_dane_nor_mta_sts() -> None:
    transport = SmtpServers((Server("192.0.2.7", 25),))
    policies = sts(Mode.ENFORCE, "192.0.2.7")
    chooser = TlsChooser(WrittenResolver({}, {}), policies, HeldClock())
    choice = await chooser.choose(TlsPolicy.AUTO, transport, Host("192.0.2.7", Endpoint("192.0.2.7", 25)))
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.OPPORTUNISTIC
    assert policies.asked == []


# ---- MTA-STS
NO_DANE = {"tlsa": NoRecords(SIGNED)}


async def test_dane_goes_before_mta_sts() -> None:
    """RFC 8461 §2."""
    policies = sts(Mode.ENFORCE, "other.example")
    choice = await chosen(zone(), policies)
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.DANE
    assert policies.asked == []


@pytest.mark.parametrize("pattern", ["mx.far.example", "*.far.example"])
async def test_a_host_that_an_enforced_policy_names_has_to_show_its_certificate(pattern: str) -> None:
    choice = await chosen(zone(**NO_DANE), sts(Mode.ENFORCE, pattern))
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.VERIFIED
    assert choice.demand.names == ("mx.far.example",)
    assert choice.why.ttl == HOUR - timedelta(seconds=600)
    assert choice.published.lines == ("version: STSv1", "mode: enforce", f"mx: {pattern}", "max_age: 3600")
    assert '"enforce" of far.example with the id 17' in str(choice.why)


@pytest.mark.parametrize("policy", [TlsPolicy.AUTO, TlsPolicy.MTA_STS])
async def test_a_host_that_an_enforced_policy_does_not_name_is_not_used(policy: TlsPolicy) -> None:
    choice = await chosen(zone(**NO_DANE), sts(Mode.ENFORCE, "*.other.example"), policy)
    assert isinstance(choice, Barred)
    assert isinstance(choice.cause, PolicyRefused)
    assert str(choice.cause.status) == "4.7.5"
    assert "which names *.other.example" in choice.cause.detail
    assert choice.trouble is TlsTrouble.VALIDATION


@pytest.mark.parametrize(("pattern", "trouble"), [("*.far.example", TlsTrouble.NONE), ("x.y", TlsTrouble.VALIDATION)])
async def test_a_policy_in_testing_changes_nothing_but_the_report(pattern: str, trouble: TlsTrouble) -> None:
    choice = await chosen(zone(**NO_DANE), sts(Mode.TESTING, pattern))
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.OPPORTUNISTIC
    assert choice.trouble is trouble
    assert choice.published.basis is Basis.MTA_STS


async def test_where_mta_sts_is_demanded_a_policy_in_testing_is_enforced_too() -> None:
    choice = await chosen(zone(), sts(Mode.TESTING, "mx.far.example"), TlsPolicy.MTA_STS)
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.VERIFIED


async def test_without_a_policy_mail_goes_as_it_may_and_where_one_is_demanded_it_does_not() -> None:
    free = await chosen(zone(**NO_DANE))
    assert isinstance(free, Chosen)
    assert free.demand.level is TlsLevel.OPPORTUNISTIC
    assert free.published.basis is Basis.NOTHING
    assert "no MTA-STS: far.example announces none" in free.why.detail
    demanded = await chosen(zone(**NO_DANE), policy=TlsPolicy.MTA_STS)
    assert isinstance(demanded, Barred)


async def test_a_policy_that_could_not_be_fetched_is_reported() -> None:
    lost = Policies(NoStsPolicy("the policy of far.example could not be fetched", TlsTrouble.STS_FETCH))
    choice = await chosen(zone(**NO_DANE), lost)
    assert isinstance(choice, Chosen)
    assert choice.trouble is TlsTrouble.STS_FETCH
    assert choice.published.basis is Basis.MTA_STS


# ---- the plain ones
@pytest.mark.parametrize(
    ("policy", "level"),
    [
        (TlsPolicy.NONE, TlsLevel.NONE),
        (TlsPolicy.OPPORTUNISTIC, TlsLevel.OPPORTUNISTIC),
        (TlsPolicy.REQUIRED, TlsLevel.REQUIRED),
        (TlsPolicy.VERIFY, TlsLevel.VERIFIED),
    ],
)
async def test_a_plain_policy_is_a_level_and_asks_nobody(policy: TlsPolicy, level: TlsLevel) -> None:
    resolver = zone()
    choice = await chosen(resolver, policy=policy)
    assert isinstance(choice, Chosen)
    assert choice.demand.level is level
    assert resolver.asked == []


@pytest.mark.parametrize("policy", [TlsPolicy.REQUIRED, TlsPolicy.VERIFY, TlsPolicy.DANE, TlsPolicy.MTA_STS])
@pytest.mark.parametrize("tlsa", [HERE, TlsaRecords((USELESS,), SIGNED), NoRecords(), TROUBLE], ids=str)
@pytest.mark.parametrize("mode", Mode)
async def test_what_asks_for_tls_never_goes_in_clear(policy: TlsPolicy, tlsa: object, mode: Mode) -> None:
    policies = Policies() if mode is Mode.NONE else sts(mode, "mx.far.example")
    choice = await chosen(zone(tlsa=tlsa), policies, policy)
    assert isinstance(choice, Barred) or choice.demand.level.is_strict


# ---- REQUIRETLS (RFC 8689 §4.2.1)
@pytest.mark.parametrize("policy", [TlsPolicy.NONE, TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED, TlsPolicy.VERIFY])
def test_requiretls_asks_for_a_verified_certificate_whatever_the_route_is_content_with(policy: TlsPolicy) -> None:
    chosen = with_requiretls(fixed(policy, "example.com"))
    assert chosen.demand.level is TlsLevel.VERIFIED
    assert ("REQUIRETLS" in str(chosen.why)) == (policy is not TlsPolicy.VERIFY)


def test_requiretls_leaves_a_demand_by_dane_as_it_is() -> None:
    demand = TlsDemand(TlsLevel.DANE, names=("mx.example.com",))
    chosen = replace(fixed(TlsPolicy.VERIFY, "example.com"), demand=demand)
    assert with_requiretls(chosen) == chosen


UNSIGNED = MxRecords((MxRecord(10, "mx.far.example"),), PLAIN)


async def tagged(
    resolver: WrittenResolver,
    policies: Policies | None = None,
    policy: TlsPolicy = TlsPolicy.AUTO,
    transport: SmtpMx | SmtpServers = TO,
) -> Choice:
    return await TlsChooser(resolver, policies or Policies(), HeldClock()).choose_tagged(policy, transport, HOST)


@pytest.mark.parametrize(
    ("changes", "policies", "level"),
    [
        ({}, Policies(), TlsLevel.DANE),
        ({"tlsa": NoRecords(SIGNED)}, Policies(), TlsLevel.VERIFIED),
        ({"mx": UNSIGNED}, sts(Mode.ENFORCE, "mx.far.example"), TlsLevel.VERIFIED),
        ({"mx": UNSIGNED}, sts(Mode.TESTING, "mx.far.example"), TlsLevel.VERIFIED),
    ],
    ids=["DANE", "signed MX", "an enforced policy", "a policy in testing"],
)
@pytest.mark.parametrize("policy", [TlsPolicy.AUTO, TlsPolicy.NONE, TlsPolicy.VERIFY])
async def test_an_exchanger_vouched_for_by_dnssec_or_mta_sts_may_have_mail_tagged_requiretls(
    changes: dict[str, object], policies: Policies, level: TlsLevel, policy: TlsPolicy
) -> None:
    choice = await tagged(zone(**changes), policies, policy)
    assert isinstance(choice, Chosen)
    assert choice.demand.level is (level if policy is TlsPolicy.AUTO else TlsLevel.VERIFIED)
    assert not choice.testing


@pytest.mark.parametrize("policy", [TlsPolicy.AUTO, TlsPolicy.NONE, TlsPolicy.VERIFY])
@pytest.mark.parametrize(
    "policies", [Policies(), sts(Mode.ENFORCE, "mx.other.example"), sts(Mode.TESTING, "mx.other.example")], ids=str
)
async def test_an_exchanger_that_nobody_vouches_for_is_barred_for_good(policies: Policies, policy: TlsPolicy) -> None:
    choice = await tagged(zone(mx=UNSIGNED), policies, policy)
    assert isinstance(choice, Barred)
    assert choice.for_good
    assert isinstance(choice.cause, PolicyRefused)
    assert str(choice.cause.status) == "5.7.10"


@pytest.mark.parametrize("policy", [TlsPolicy.DANE, TlsPolicy.MTA_STS])
async def test_what_the_route_demands_and_the_domain_lacks_bars_tagged_mail_for_good(policy: TlsPolicy) -> None:
    choice = await tagged(zone(tlsa=NoRecords(SIGNED)), policy=policy)
    assert isinstance(choice, Barred)
    assert choice.for_good


@pytest.mark.parametrize(
    ("changes", "policies"),
    [
        ({"mx": TROUBLE}, Policies()),
        ({"mx": UNSIGNED}, Policies(NoStsPolicy("it could not be fetched", TlsTrouble.STS_FETCH, may_pass=True))),
        ({"addresses": TROUBLE}, Policies()),
    ],
    ids=["MX", "policy", "addresses"],
)
@pytest.mark.parametrize("policy", [TlsPolicy.AUTO, TlsPolicy.VERIFY])
async def test_where_nobody_could_tell_who_vouches_tagged_mail_waits(
    changes: dict[str, object], policies: Policies, policy: TlsPolicy
) -> None:
    choice = await tagged(zone(**changes), policies, policy)
    if "addresses" in changes and policy is TlsPolicy.VERIFY:
        assert isinstance(choice, Chosen)  # it needs no TLSA record, and so asks for nothing that fails
    else:
        assert isinstance(choice, Barred)
        assert not choice.for_good


async def test_a_server_that_the_route_names_is_vouched_for_by_whoever_wrote_the_route() -> None:
    choice = await tagged(
        zone(mx=UNSIGNED), policy=TlsPolicy.NONE, transport=SmtpServers((Server("mx.far.example", 25),))
    )
    assert isinstance(choice, Chosen)
    assert choice.demand.level is TlsLevel.VERIFIED
