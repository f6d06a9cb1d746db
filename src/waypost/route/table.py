"""The route table: forward-path → Route, by longest suffix of whole labels. Pure; the order of the rules plays no part.

`=example.com` (the domain alone) is asked before `example.com` (with its sub-domains), the longer suffix before the
shorter, `*` last; of routes for one suffix, one for an account goes before one for a reverse-path, and that before one
for everybody (whose.py). Next hops' keys are readable and the same after every restart, as the queue keeps them:
`smtp://inner.example.com:25`, `mx:example.org`, `capture:`. Where rules lead to one place by different means (another
TLS policy, other credentials), each key ends in `#` and its rule's name, so that no connection serves the wrong rule.

Not here: reading the configuration (config/), finding addresses (hosts.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, cast

from waypost.mail.content import AS_IT_CAME, Content
from waypost.mail.envelope import NextHop
from waypost.mail.window import ALWAYS, Window
from waypost.route.domain import Match, Pattern, literal, to_ascii
from waypost.route.onward import STAY, Onward
from waypost.route.route import (
    AS_EVER,
    AS_OURSELVES,
    EXPANDED,
    Limits,
    Manner,
    NoRoute,
    OnCall,
    Retries,
    Route,
    Server,
    SmtpMx,
    SmtpServers,
    TlsPolicy,
)
from waypost.route.target import RecipientMx, Target, target_text
from waypost.route.whose import ANYBODYS, NOT_THIS, Whose
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.path import (
    AddressLiteral,
    Domain,
    DomainName,
    ForwardPath,
    Mailbox,
    NullPath,
    Postmaster,
    ReversePath,
)

#: Domains whose route is remembered: a busy relay's day fits; at some 500 octets each that is 10 MB at most.
_REMEMBERED: Final = 20_000


_NOBODY: Final = NullPath()

#: Stands for the pattern of a route that has none, and is reached by its name alone.
_BY_NAME: Final = Pattern(Match.EXACT, "")


@dataclass(frozen=True, slots=True)
class Means:
    """How a next hop is to be used; two routes that differ here never share a connection."""

    tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC
    credentials: Credentials | NoCredentials = field(default_factory=NoCredentials)
    limits: Limits = field(default_factory=Limits)
    manner: Manner = AS_OURSELVES
    retries: Retries = AS_EVER
    onward: Onward = STAY
    on_demand: bool = False
    window: Window = ALWAYS
    content: Content = AS_IT_CAME


@dataclass(frozen=True, slots=True)
class Override:
    """One `[[destination]]`: other means for some of the domains that a route by `mx:` serves.

    `limits`, `retries`, `manner`, `means`: the fields that differ, by name.
    """

    patterns: tuple[Pattern, ...]
    place: str
    limits: Mapping[str, object] = field(default_factory=dict)
    retries: Mapping[str, object] = field(default_factory=dict)
    manner: Mapping[str, object] = field(default_factory=dict)
    means: Mapping[str, object] = field(default_factory=dict)

    def of(self, means: Means) -> Means:
        """`means`, but for what is said here."""
        changed: dict[str, Any] = {
            "limits": replace(means.limits, **cast("dict[str, Any]", self.limits)),
            "retries": replace(means.retries, **cast("dict[str, Any]", self.retries)),
            "manner": means.manner._replace(**cast("dict[str, Any]", self.manner)),
            **self.means,
        }
        return replace(means, **changed)


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[route]]`. `name` is unique in the table; `place` is where a person finds it ("waypost.toml:12").

    `relay_only`: its domains are not ours. What `*` alone matches never is: anything else would be an open relay.
    """

    name: str
    patterns: tuple[Pattern, ...]
    target: Target
    means: Means = field(default_factory=Means)
    relay_only: bool = False
    place: str = "?"
    whose: Whose = ANYBODYS
    #: Recipients that take it whatever their domain: mailboxes in lower case.
    addresses: tuple[str, ...] = ()


class RouteTable:
    """Looked up for each RCPT (no I/O), and again for each lease by its next hop's key."""

    def __init__(self, rules: Sequence[Rule], *, postmaster: Mailbox, overrides: Sequence[Override] = ()) -> None:
        """Bare `Postmaster` (RFC 5321 §4.5.1) goes where `postmaster` goes, and is open to anyone.

        Raises: ValueError, where two rules share a pattern or a name: the caller's to find out before.
        """
        self.rules: Final = tuple(rules)
        self._overrides = {pattern: override for override in overrides for pattern in override.patterns}
        self._choices = [rule for rule in rules if rule.whose or rule.addresses]
        for_all = [rule for rule in rules if not rule.whose]
        self._by_pattern = {pattern: rule for rule in for_all for pattern in rule.patterns}
        if len(self._by_pattern) < sum(len(rule.patterns) for rule in for_all):
            raise ValueError("two rules of a route table have the same pattern")
        if len({rule.name for rule in rules}) < len(rules):
            raise ValueError("two rules of a route table have the same name")
        self._exact = self._patterns(Match.EXACT)
        self._suffix = self._patterns(Match.SUFFIX)
        self._everything = tuple(self._patterns(Match.EVERYTHING).values())
        means: dict[str, set[tuple[Means, Target]]] = {}
        for rule in rules:
            means.setdefault(target_text(rule.target), set()).add((rule.means, rule.target))
        self._keys = {rule.name: self._key(rule, means[target_text(rule.target)]) for rule in rules}
        self._by_key = {
            self._keys[rule.name]: self._route(pattern, rule, DomainName(""))
            for pattern, rule in self._by_pattern.items()
            if not isinstance(rule.target, RecipientMx)
        }
        self._by_name = {rule.name: rule for rule in rules}
        by_name = [rule for rule in rules if not rule.patterns or rule.whose or rule.addresses]
        self._unpatterned = frozenset(
            self._keys[rule.name] for rule in by_name if not isinstance(rule.target, RecipientMx)
        )
        self._by_key |= {
            self._keys[rule.name]: self._route(_BY_NAME, rule, DomainName(""))
            for rule in by_name
            if self._keys[rule.name] not in self._by_key and not isinstance(rule.target, RecipientMx)
        }
        self._by_domain = lru_cache(maxsize=_REMEMBERED)(self._find)
        self._postmaster = self._open(self._find(postmaster.domain))

    def route(
        self, forward_path: ForwardPath, reverse_path: ReversePath = _NOBODY, account: str = ""
    ) -> Route | NoRoute:
        """Where this recipient goes, if the message is from `reverse_path` and `account` ("": nobody logged in)."""
        if isinstance(forward_path, Postmaster):
            return self._postmaster
        if self._choices:
            return self._chosen(forward_path, reverse_path, account)
        return self._by_domain(forward_path.domain)

    def _chosen(self, mailbox: Mailbox, path: ReversePath, account: str) -> Route | NoRoute:
        """A route for this very recipient; else, of those for the most specific pattern, the one that fits best."""
        address = str(mailbox).lower()
        named = [rule for rule in self._choices if address in rule.addresses]
        if best := _best(named, path, account):
            return self._route(_BY_NAME, best[0], _in_ascii(mailbox.domain))
        by_domain = self._by_domain(mailbox.domain)
        name = str(_in_ascii(mailbox.domain))
        for pattern in patterns_of(name):
            fits = [rule for rule in self._choices if rule.whose and pattern in rule.patterns]
            if best := _best(fits, path, account):
                return self._route(pattern, best[0], _in_ascii(mailbox.domain))
            if pattern in self._by_pattern:
                break
        return by_domain

    def named(self, name: str) -> Route | NoRoute:
        """The route of that name, for who is sent there whatever its domains are. It has one next hop (not `mx:`)."""
        rule = self._by_name.get(name)
        if rule is None or isinstance(rule.target, RecipientMx):
            return NoRoute(f"there is no route named {name} with a next hop of its own")
        return self._route(rule.patterns[0] if rule.patterns else _BY_NAME, rule, DomainName(""))

    def is_by_name(self, next_hop: NextHop) -> bool:
        """Whether a key is that of a route that mail is sent to by name, by its sender or recipient, not its domain."""
        return (
            next_hop in self._unpatterned
            or next_hop == EXPANDED.next_hop
            or isinstance(self._chosen_mx(next_hop), Rule)
        )

    def _chosen_mx(self, next_hop: NextHop) -> Rule | NoRoute:
        """The rule in a key such as `mx:example.org#bulk`: by the recipient's domain, chosen by its sender."""
        rule = self._by_name.get(next_hop.partition("#")[2]) if next_hop.startswith("mx:") else None
        if rule is None or not isinstance(rule.target, RecipientMx):
            return NoRoute(f"no route leads to {next_hop} any more: the route table has changed since it was queued")
        return rule

    def by_next_hop(self, next_hop: NextHop) -> Route | NoRoute:
        """The route a key was made by (`mx:example.org` and the like name their domain in the key)."""
        if next_hop in self._by_key:
            return self._by_key[next_hop]
        if next_hop == EXPANDED.next_hop:
            return EXPANDED
        if next_hop.startswith("mx:") and "#" in next_hop:
            return self._by_chosen_mx(next_hop)
        if next_hop.startswith("mx:"):
            found = self._by_domain(domain_of_key(next_hop))
            if isinstance(found, Route) and found.next_hop == next_hop:
                return found
        return NoRoute(f"no route leads to {next_hop} any more: the route table has changed since it was queued")

    def _by_chosen_mx(self, next_hop: NextHop) -> Route | NoRoute:
        rule = self._chosen_mx(next_hop)
        if isinstance(rule, NoRoute):
            return rule
        return self._route(_BY_NAME, rule, domain_of_key(NextHop(next_hop.partition("#")[0])))

    def route_domain(self, domain: str) -> Route | NoRoute:
        """Where recipients at `domain` go, written as the queue writes it: "" is the bare postmaster's."""
        return self._by_domain(_domain(domain)) if domain else self._postmaster

    def _patterns(self, kind: Match) -> dict[str, tuple[Pattern, Rule]]:
        return {pattern.name: (pattern, rule) for pattern, rule in self._by_pattern.items() if pattern.match is kind}

    def _find(self, domain: Domain) -> Route | NoRoute:
        if isinstance(domain, AddressLiteral):
            name = str(domain)
        else:
            try:
                name = to_ascii(domain)
            except ValueError as error:
                return NoRoute(str(error))
            if not name:
                return NoRoute("an address without a domain leads nowhere")
            domain = DomainName(name)
        for pattern, rule in self._matching(name):
            return self._route(pattern, rule, domain)
        return NoRoute(f'no route matches {name}, and there is none for everything else (domains = ["*"])')

    def _matching(self, name: str) -> Iterable[tuple[Pattern, Rule]]:
        """What matches `name`, the most specific first."""
        if name in self._exact:
            yield self._exact[name]
        rest = "" if name.startswith("[") else name
        while rest:
            if rest in self._suffix:
                yield self._suffix[rest]
            rest = rest.partition(".")[2]
        yield from self._everything

    def _route(self, pattern: Pattern, rule: Rule, domain: Domain) -> Route:
        target, means = rule.target, rule.means
        key = self._keys[rule.name]
        if isinstance(target, RecipientMx):
            chosen = f"#{rule.name}" if rule.whose or rule.addresses else ""
            key = NextHop(target_text(SmtpMx(str(domain), target.port)) + chosen)
            if self._overrides:
                means = self._overridden(str(domain), means)
            if isinstance(domain, AddressLiteral):  # RFC 5321 §5.1: an address has no MX, it is the host
                target = SmtpServers((Server(str(domain.address), target.port),))
            else:
                target = SmtpMx(domain, target.port)
        return Route(
            next_hop=key,
            transport=target,
            rule=f'"{rule.name if pattern is _BY_NAME else pattern}"{_of(rule)} at {rule.place}',
            tls=means.tls,
            credentials=means.credentials,
            limits=means.limits,
            manner=means.manner,
            retries=means.retries,
            onward=means.onward,
            window=means.window,
            content=means.content,
            relay_only=rule.relay_only or pattern.match is Match.EVERYTHING,
            name=rule.name,
            on_demand=rule.means.on_demand,
        )

    def kept_for(self, account: str) -> NextHop | NoRoute:
        """The key of the mail that is kept for a call of this account."""
        for rule in self.rules:
            if rule.target == OnCall(account.lower()):
                return self._keys[rule.name]
        return NoRoute(f"no mail is kept for a call of {account}")

    def _overridden(self, name: str, means: Means) -> Means:
        """The means for one domain of a route by `mx:`."""
        for pattern in patterns_of(name):
            if pattern in self._overrides:
                return self._overrides[pattern].of(means)
        return means

    def _key(self, rule: Rule, means: set[tuple[Means, Target]]) -> NextHop:
        """The key of a rule with one next hop; it carries the rule's name where the `means` to get there differ."""
        text = target_text(rule.target)
        if isinstance(rule.target, SmtpMx):
            # The very domain that is named here may have its own route by "mx:", which makes the same key.
            rivals = [other for _, other in self._matching(rule.target.domain)][:1]
            means = means | {(other.means, rule.target) for other in rivals if isinstance(other.target, RecipientMx)}
        return NextHop(text if len(means) == 1 else f"{text}#{rule.name}")

    @staticmethod
    def _open(found: Route | NoRoute) -> Route | NoRoute:
        return replace(found, relay_only=False) if isinstance(found, Route) else found


def patterns_of(name: str) -> Iterable[Pattern]:
    """All patterns that match `name`, the most specific first."""
    yield Pattern(Match.EXACT, name)
    rest = "" if name.startswith("[") else name
    while rest:
        yield Pattern(Match.SUFFIX, rest)
        rest = rest.partition(".")[2]
    yield Pattern(Match.EVERYTHING, "")


def _best(rules: Sequence[Rule], path: ReversePath, account: str) -> Sequence[Rule]:
    """The rule that fits the sender best, if any does; of two alike, the earlier."""
    fits = [(rule.whose.fit(path, account), rule) for rule in rules]
    best = max((fit for fit, _ in fits), default=NOT_THIS)
    return [rule for fit, rule in fits if fit == best][:1] if best > NOT_THIS else ()


def _of(rule: Rule) -> str:
    return f" for {rule.whose}" if rule.whose else ""


def _in_ascii(domain: Domain) -> Domain:
    """The domain as the table has it; one that is no name stays, and leads nowhere."""
    if isinstance(domain, AddressLiteral):
        return domain
    try:
        return DomainName(to_ascii(domain))
    except ValueError:
        return domain


def domain_of_key(next_hop: NextHop) -> Domain:
    """The domain in `mx:example.org`, `mx:example.org:2525` or `mx:[192.0.2.1]`, if it is such a key at all."""
    text = next_hop.removeprefix("mx:")
    return _domain(text[: text.find("]") + 1] if text.startswith("[") else text.partition(":")[0])


def _domain(text: str) -> Domain:
    """A domain from its text; what is no address literal, though it begins like one, leads nowhere."""
    if not text.startswith("["):
        return DomainName(text)
    try:
        return literal(text)
    except ValueError:
        return DomainName("")


def describe(table: RouteTable) -> Sequence[str]:
    """The table, a line a rule, as `check` prints it."""
    lines = []
    for rule in table.rules:
        patterns = ", ".join(str(pattern) for pattern in rule.patterns)
        tls = f"TLS {rule.means.tls.value}; " if isinstance(rule.target, SmtpServers | SmtpMx | RecipientMx) else ""
        what = f"{patterns or ', '.join(rule.addresses) or rule.name}{_of(rule)}"
        lines.append(f"{what} → {target_text(rule.target)} ({tls}{_whose(rule)}; {rule.place})")
    return lines


def _whose(rule: Rule) -> str:
    if rule.relay_only:
        return "from relay.networks only"
    catches_all = any(pattern.match is Match.EVERYTHING for pattern in rule.patterns)
    return 'from anyone, but "*" from relay.networks only' if catches_all else "from anyone"
