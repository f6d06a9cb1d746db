"""Which TLS a session with one host has to have, and why: the route's policy, worked out by what the domain publishes.

DANE (RFC 7672) and MTA-STS (RFC 8461) are looked up here, host by host; answers come from caches while they hold. Not
here: demanding it (deliver/opener.py), the records' meaning (net/dane.py), a policy's (mta_sts.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Final, NamedTuple, Protocol, TypeAlias, assert_never

from waypost.mail.outcome import Cause, DnsFailed, Host, PolicyRefused
from waypost.mail.tls_result import Basis, Published, TlsTrouble
from waypost.net.clock import Clock
from waypost.net.dane import usable
from waypost.net.resolver import (
    Addresses,
    Alias,
    DnsTrouble,
    MxRecords,
    NoRecords,
    NoSuchName,
    Resolver,
    Standing,
    TlsaRecord,
    TlsaRecords,
)
from waypost.route.mta_sts import KeptPolicy, Mode
from waypost.route.route import SmtpMx, SmtpServers, TlsPolicy
from waypost.route.target import is_address
from waypost.smtp.reply import EnhancedStatus

#: RFC 3463 §3.8: a security feature that is needed failed for cryptographic reasons, or could not be judged.
NOT_SECURE: Final = EnhancedStatus(4, 7, 5)
#: RFC 8689 §4.2.1: no session that is protected as the message's author wants it can be had.
ENCRYPTION_NEEDED: Final = EnhancedStatus(5, 7, 10)


class TlsLevel(Enum):
    """What a session has to have. Each is stronger than the one before."""

    NONE = "none"  # no TLS
    OPPORTUNISTIC = "opportunistic"  # where it is offered, any certificate; a failed handshake goes in clear once
    REQUIRED = "required"  # never in clear, any certificate
    VERIFIED = "verified"  # a certificate for the host's name, by an authority this machine trusts
    DANE = "dane"  # a certificate that the demand's TLSA records name

    __hash__ = object.__hash__  # as good, and no call of a Python function for every look-up of a connection

    @property
    def is_strict(self) -> bool:
        """Whether nothing goes in clear."""
        return self in _STRICT


_VERIFYING: Final = {TlsLevel.VERIFIED, TlsLevel.DANE}
_STRICT: Final = {TlsLevel.REQUIRED, *_VERIFYING}


class TlsDemand(NamedTuple):
    """A level, and what a certificate is held against. Sessions by equal demands may stand for each other.

    `names`: of which one has to be in the certificate, where names count; the first goes into SNI. Empty: the host's.
    """

    level: TlsLevel
    tlsa: tuple[TlsaRecord, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Why:
    """Why a level was chosen. `ttl`: how long that holds; zero: as long as the configuration does."""

    policy: TlsPolicy
    detail: str
    ttl: timedelta = timedelta()

    def __str__(self) -> str:
        held = f", TTL {self.ttl.total_seconds():.0f} s" if self.ttl else ""
        return f'policy "{self.policy.value}": {self.detail}{held}'


@dataclass(frozen=True, slots=True)
class Chosen:
    """A host may be tried, by `demand`. `trouble`: what a report tells of, though mail goes."""

    demand: TlsDemand
    why: Why
    published: Published
    trouble: TlsTrouble = TlsTrouble.NONE
    #: An MTA-STS policy in testing: a certificate that would not do is only reported.
    testing: bool = False


@dataclass(frozen=True, slots=True)
class Barred:
    """A host must not be tried now. `for_good`: waiting would not help this message, which asks for REQUIRETLS."""

    cause: Cause
    why: Why
    published: Published
    trouble: TlsTrouble
    for_good: bool = False


Choice: TypeAlias = Chosen | Barred


@dataclass(frozen=True, slots=True)
class NoStsPolicy:
    """No policy is in force for a domain. `detail`: a sentence. `may_pass`: asked again, there may be one."""

    detail: str
    trouble: TlsTrouble = TlsTrouble.NONE
    may_pass: bool = False


class StsPolicies(Protocol):
    """Where MTA-STS policies come from (sts_keeper.py)."""

    async def policy(self, domain: str) -> KeptPolicy | NoStsPolicy: ...


# ---- what DNS holds of DANE
@dataclass(frozen=True, slots=True)
class _Pinned:
    """Signed TLSA records at `name`, which is `base` with port and protocol in front (RFC 7672 §2.2.2).

    `expanded`: the name that CNAMEs lead the domain itself to, where there are any; else "".
    """

    name: str
    base: str
    records: tuple[TlsaRecord, ...]
    ttl: timedelta
    expanded: str = ""


@dataclass(frozen=True, slots=True)
class _Unpinned:
    """DANE does not apply to this host; `detail` says why."""

    detail: str


@dataclass(frozen=True, slots=True)
class _Unknown:
    """DNS gave no usable answer where one decides: somebody may be hiding the records (RFC 7672 §2.1.2)."""

    domain: str
    detail: str


_Dane: TypeAlias = _Pinned | _Unpinned | _Unknown

_FIXED: Final = {
    TlsPolicy.NONE: TlsLevel.NONE,
    TlsPolicy.OPPORTUNISTIC: TlsLevel.OPPORTUNISTIC,
    TlsPolicy.REQUIRED: TlsLevel.REQUIRED,
    TlsPolicy.VERIFY: TlsLevel.VERIFIED,
}


class TlsChooser:
    """Chooses the level for one host after another."""

    def __init__(self, resolver: Resolver, policies: StsPolicies, clock: Clock) -> None:
        self._resolver = resolver
        self._policies = policies
        self._clock = clock

    async def choose(self, policy: TlsPolicy, transport: SmtpServers | SmtpMx, host: Host) -> Choice:
        """The level for a session with `host`, one of those `transport` leads to."""
        match policy:
            case TlsPolicy.NONE | TlsPolicy.OPPORTUNISTIC | TlsPolicy.REQUIRED | TlsPolicy.VERIFY:
                return fixed(policy, _domain(transport, host))
            case TlsPolicy.DANE:
                return self._by_dane(policy, transport, host, await self._dane(transport, host))
            case TlsPolicy.MTA_STS:
                return await self._by_sts(policy, transport, host)
            case TlsPolicy.AUTO:
                found = await self._dane(transport, host)
                if isinstance(found, _Unpinned):
                    return await self._by_sts(policy, transport, host, without=found.detail)
                return self._by_dane(policy, transport, host, found)
            case _:
                assert_never(policy)

    async def choose_tagged(self, policy: TlsPolicy, transport: SmtpServers | SmtpMx, host: Host) -> Choice:
        """The level for a message tagged REQUIRETLS: verified, and `host` vouched for (RFC 8689 §4.2.1).

        What cannot be had bars the host for good, for the author is to hear of it; what nobody could tell, for now.
        """
        choice = await self.choose(policy, transport, host)
        if isinstance(choice, Barred):
            return _for_good(choice) if choice.trouble in _LASTING else choice
        if choice.demand.level is TlsLevel.DANE or not isinstance(transport, SmtpMx):
            return with_requiretls(choice)
        return await self._vouched_for(choice, transport.domain, host)

    async def _vouched_for(self, choice: Chosen, domain: str, host: Host) -> Choice:
        """Barred where neither DNSSEC nor MTA-STS vouches for an exchanger's name: somebody may have slipped it in."""
        answer = await self._resolver.mx(domain)
        if not isinstance(answer, DnsTrouble) and answer.standing.authenticated:
            return with_requiretls(choice)
        kept = await self._policies.policy(domain)
        if isinstance(kept, KeptPolicy) and kept.policy.allows(host.name):
            return with_requiretls(choice)
        if isinstance(answer, DnsTrouble):
            return Barred(DnsFailed(domain, answer.detail), choice.why, choice.published, TlsTrouble.DNSSEC)
        not_named = f"the MTA-STS policy of {domain} does not name it"
        reason = kept.detail if isinstance(kept, NoStsPolicy) else not_named
        said = f"the message asks for REQUIRETLS, and {host.name} is not vouched for: the MX records of {domain} are "
        barred = _barred(f"{said}not signed, and {reason}", choice.why, choice.published, TlsTrouble.VALIDATION)
        return barred if isinstance(kept, NoStsPolicy) and kept.may_pass else _for_good(barred)

    # ---- DANE
    def _by_dane(self, policy: TlsPolicy, transport: SmtpServers | SmtpMx, host: Host, found: _Dane) -> Choice:
        domain = _domain(transport, host)
        match found:
            case _Pinned(name, base, records, ttl, expanded):
                lines = tuple(str(record) for record in records)
                published = Published(Basis.DANE, domain, lines)
                place = f"TLSA records of {name}"
                good = usable(records)
                if good:
                    names = (base, host.name, domain, *([expanded] if expanded else []))  # RFC 7672 §3.2.2
                    demand = TlsDemand(TlsLevel.DANE, good, tuple(dict.fromkeys(names)))
                    return Chosen(demand, Why(policy, f"DANE, by the signed {place}", ttl), published)
                why = Why(policy, f"the signed {place} are of no use, but say that there is TLS", ttl)
                if policy is TlsPolicy.AUTO:  # RFC 7672 §2.2.3
                    return Chosen(TlsDemand(TlsLevel.REQUIRED), why, published, trouble=TlsTrouble.TLSA)
                return _barred(f"{host}: {why.detail}", why, published, TlsTrouble.TLSA)
            case _Unpinned(detail):
                why = Why(policy, f"no DANE: {detail}")
                return _barred(f"{host}: DANE is demanded, and {detail}", why, _nothing(domain), TlsTrouble.NO_DANE)
            case _Unknown(name, detail):
                why = Why(policy, f"DANE could not be judged: {detail}")
                return Barred(DnsFailed(name, detail), why, Published(Basis.DANE, domain), TlsTrouble.DNSSEC)
            case _:
                assert_never(found)

    async def _dane(self, transport: SmtpServers | SmtpMx, host: Host) -> _Dane:
        """RFC 7672 §2.2: only where all names on the way to the host are signed."""
        if host.name.startswith("/") or is_address(host.name):
            return _Unpinned("an address has no TLSA records")
        expanded = ""
        if isinstance(transport, SmtpMx):
            answer = await self._resolver.mx(transport.domain)
            if isinstance(answer, DnsTrouble):
                return _Unknown(transport.domain, answer.detail)
            if not answer.standing.authenticated:
                return _Unpinned(f"the MX records of {transport.domain} are not signed")
            expanded = answer.canonical if isinstance(answer, MxRecords) else ""
        bases = await self._bases(host.name)
        if not isinstance(bases, tuple):
            return bases
        for base in bases:
            found = await self._tlsa(base, host.endpoint.port)
            if not isinstance(found, _Unpinned):
                return replace(found, expanded=expanded) if isinstance(found, _Pinned) else found
        return _Unpinned(f"there are no signed TLSA records for {host.name}")

    async def _bases(self, name: str) -> tuple[str, ...] | _Unpinned | _Unknown:
        """The names whose TLSA records count for a host, in order (RFC 7672 §2.2.2).

        Where its addresses are not signed it is not asked for TLSA records at all: some servers break on them.
        """
        answer = await self._resolver.addresses(name)
        match answer:
            case Addresses(standing=Standing(authenticated=True), canonical=canonical):
                return (canonical, name) if canonical else (name,)
            case Addresses(canonical=canonical) if canonical:
                alias = await self._resolver.alias(name)
                if isinstance(alias, DnsTrouble):
                    return _Unknown(name, alias.detail)
                if isinstance(alias, Alias) and alias.standing.authenticated:
                    return (name,)
                return _Unpinned(f"{name} is an alias, and not signed")
            case Addresses() | NoRecords() | NoSuchName():
                return _Unpinned(f"the addresses of {name} are not signed")
            case DnsTrouble(detail):
                return _Unknown(name, detail)
            case _:
                assert_never(answer)

    async def _tlsa(self, base: str, port: int) -> _Dane:
        name = f"_{port}._tcp.{base}"
        answer = await self._resolver.tlsa(name)
        match answer:
            case TlsaRecords(records, standing) if standing.authenticated:
                return _Pinned(name, base, records, standing.ttl)
            case TlsaRecords() | NoRecords() | NoSuchName():
                return _Unpinned(f"{name} has no signed TLSA records")
            case DnsTrouble(detail):
                return _Unknown(name, detail)
            case _:
                assert_never(answer)

    # ---- MTA-STS
    async def _by_sts(
        self, policy: TlsPolicy, transport: SmtpServers | SmtpMx, host: Host, *, without: str = ""
    ) -> Choice:
        domain = _domain(transport, host)
        kept = await self._policies.policy(domain) if isinstance(transport, SmtpMx) else _NOT_BY_MX
        if isinstance(kept, NoStsPolicy):
            return _without_sts(policy, domain, host, kept, without)
        said = kept.policy
        published = Published(Basis.MTA_STS, domain, said.lines, said.patterns)
        left = timedelta(seconds=max(0.0, kept.expires_at - self._clock.now()))
        why = Why(policy, f'MTA-STS, by the policy "{said.mode.value}" of {domain} with the id {kept.id}', left)
        is_named = said.allows(host.name)
        if said.mode is Mode.TESTING and policy is TlsPolicy.AUTO:
            trouble = TlsTrouble.NONE if is_named else TlsTrouble.VALIDATION
            return Chosen(TlsDemand(TlsLevel.OPPORTUNISTIC), why, published, trouble, testing=is_named)
        if not is_named:
            said_so = f"{host.name} is no mail exchanger by the MTA-STS policy of {domain}, which names "
            return _barred(said_so + ", ".join(said.patterns), why, published, TlsTrouble.VALIDATION)
        return Chosen(TlsDemand(TlsLevel.VERIFIED, names=(host.name,)), why, published)


_NOT_BY_MX: Final = NoStsPolicy("MTA-STS is for mail exchangers, and the route names its servers")


def fixed(policy: TlsPolicy, domain: str) -> Chosen:
    """The level of a policy that needs no look-up."""
    return Chosen(TlsDemand(_FIXED[policy]), Why(policy, "as the configuration says"), _nothing(domain))


#: What stays as it is until somebody changes it, at the domain or in the route.
_LASTING: Final = {TlsTrouble.NO_DANE, TlsTrouble.TLSA, TlsTrouble.VALIDATION}


def _for_good(barred: Barred) -> Barred:
    """The same, said to stay. A cause of DNS passes, whatever it is about."""
    if not isinstance(barred.cause, PolicyRefused):
        return barred
    return replace(barred, cause=replace(barred.cause, status=ENCRYPTION_NEEDED), for_good=True)


def with_requiretls(chosen: Chosen) -> Chosen:
    """What a message tagged REQUIRETLS has to have, whatever the route is content with (RFC 8689 §4.2.1).

    A certificate that is verified, by an authority or by DANE; a demand that says so already stays as it is.
    """
    if chosen.demand.level in _VERIFYING:
        return chosen
    said = f"{chosen.why.detail}; the message asks for REQUIRETLS, so the certificate is verified"
    return replace(chosen, demand=TlsDemand(TlsLevel.VERIFIED), why=replace(chosen.why, detail=said), testing=False)


def barred_for_good(detail: str) -> Barred:
    """A host that a message tagged REQUIRETLS can never go to; `detail` is a sentence."""
    return _for_good(_barred(detail, Why(TlsPolicy.VERIFY, detail), _nothing(""), TlsTrouble.VALIDATION))


def is_fixed(policy: TlsPolicy) -> bool:
    """Whether a policy is a level by itself."""
    return policy in _FIXED


def _without_sts(policy: TlsPolicy, domain: str, host: Host, none: NoStsPolicy, without: str) -> Choice:
    published = _nothing(domain) if none.trouble is TlsTrouble.NONE else Published(Basis.MTA_STS, domain)
    if policy is TlsPolicy.AUTO:
        why = Why(policy, f"no DANE: {without}; no MTA-STS: {none.detail}")
        return Chosen(TlsDemand(TlsLevel.OPPORTUNISTIC), why, published, none.trouble)
    why = Why(policy, f"no MTA-STS: {none.detail}")
    detail = f"{host}: an MTA-STS policy is demanded, and {none.detail}"
    return _barred(detail, why, published, _word_of(none))


def _word_of(none: NoStsPolicy) -> TlsTrouble:
    if none.trouble is not TlsTrouble.NONE:
        return none.trouble
    return TlsTrouble.STS_FETCH if none.may_pass else TlsTrouble.VALIDATION


def _barred(detail: str, why: Why, published: Published, trouble: TlsTrouble) -> Barred:
    return Barred(PolicyRefused(f"{detail}; not sent in clear", NOT_SECURE), why, published, trouble)


def _nothing(domain: str) -> Published:
    return Published(Basis.NOTHING, domain)


def _domain(transport: SmtpServers | SmtpMx, host: Host) -> str:
    """Whose policy it is: that of the domain whose exchangers are asked, or of the server that is named."""
    return transport.domain if isinstance(transport, SmtpMx) else host.name


def describe_choice(choice: Choice) -> Sequence[str]:
    """The level and its reason in words, as `resolve` prints them."""
    return list(_words(choice))


def _words(choice: Choice) -> Iterator[str]:
    match choice:
        case Chosen(demand, why):
            yield f"TLS {demand.level.value}, by {why}"
            yield from (f"  TLSA {record}" for record in demand.tlsa)
        case Barred(cause, why):
            yield f"not used, by {why}"
            if isinstance(cause, DnsFailed):
                yield f"  no usable answer for {cause.domain}"
        case _:
            assert_never(choice)
