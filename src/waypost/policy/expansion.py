"""From the recipient a client names to those it stands for: domain rewritten, aliases followed, its existence known.

    rewrite the domain → aliases, and what they lead to → users → catch-all → unknown

Each step is kept, with the line that decided it: live mail needs the recipients, and who asks why needs the steps. A
map in trouble makes an answer `Undecided`, never `Unknown`: mail waits for it. Not here: who may send (admission.py),
and where the recipients go (waypost.route).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Final, TypeAlias, assert_never

from waypost.mail.srs import LeadsNowhere, Srs, is_wrapped
from waypost.maps.lookup import NOT_LISTED, Keys, Listed, Lookup, Map, MapTrouble, NotListed
from waypost.net.clock import Instant
from waypost.policy.domains import (
    Accept,
    DomainPolicy,
    Domains,
    NoCatchAll,
    NotOurs,
    PassOn,
    Refuse,
    SameDomain,
)
from waypost.smtp.path import Mailbox, PathError, parse_domain, parse_mailbox
from waypost.smtp.reply import EnhancedStatus

#: Steps from what the client said to a recipient; a chain of aliases that is longer is a mistake.
MAX_STEPS: Final = 20
#: Recipients one address may stand for: what a message may have, too. A larger list wants a list manager.
MAX_RECIPIENTS: Final = 1000

LOCAL_TROUBLE: Final = EnhancedStatus(4, 3, 0)
REMOTE_TROUBLE: Final = EnhancedStatus(4, 4, 3)  # RFC 3463 §3.5: directory server failure
MISCONFIGURED: Final = EnhancedStatus(4, 3, 5)  # RFC 3463 §3.4: system incorrectly configured


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done: a sentence's worth, and the line that said so."""

    what: str  # "alias", "rewrite", "users", "catch-all" …
    text: str
    place: str


@dataclass(frozen=True, slots=True)
class Goal:
    """A recipient that a message is to have. `route`: the name of its route, or "" for the route of its domain."""

    mailbox: Mailbox
    route: str = ""


@dataclass(frozen=True, slots=True)
class Expanded:
    """What the address stands for: at least one goal. `is_ours`: its domain is, so that anyone may send to it."""

    goals: tuple[Goal, ...]
    steps: tuple[Step, ...]
    is_ours: bool
    #: The other address that the client is to be told of, though its mail is taken ("251 bob@example.org"); "": none.
    told: str = ""


@dataclass(frozen=True, slots=True)
class MovedAway:
    """The recipient is elsewhere, and the client is to send there itself ("551 bob@example.org", RFC 5321 §3.4)."""

    to: Mailbox
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """There is no such recipient."""

    mailbox: Mailbox
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Undecided:
    """It cannot be known now; `detail` is for the administrator, `status` (4.y.z) for the client."""

    detail: str
    status: EnhancedStatus
    steps: tuple[Step, ...]


Expansion: TypeAlias = Expanded | MovedAway | Unknown | Undecided


# ---- before anything else is asked
@dataclass(frozen=True, slots=True)
class Moved:
    """The recipient is to be this one. `vouched`: by a signature of ours, so that anyone may send to it."""

    mailbox: Mailbox
    step: Step
    vouched: bool = False


@dataclass(frozen=True, slots=True)
class First:
    """Recipients that are another before anything is asked of them: canonical addresses, and those that SRS wraps."""

    canonical: tuple[Map, ...] = ()
    wrapping: tuple[Srs, ...] = ()
    now: Callable[[], Instant] = lambda: 0.0
    place: str = "default"

    async def of(self, mailbox: Mailbox) -> Moved | Unknown | Undecided:
        """What it becomes, which may be itself."""
        for srs in self.wrapping:
            if mailbox.domain == srs.domain and is_wrapped(mailbox.local_part):
                return self._unwrapped(srs, mailbox)
        spellings = Spellings(whole=(str(mailbox).lower(),), at_domain=(f"@{mailbox.domain}",))
        match await listed(self.canonical, spellings):
            case Listed(values, place):
                return _moved(mailbox, values, place)
            case NotListed():
                return Moved(mailbox, Step("canonical", f"{mailbox} stays", self.place))
            case MapTrouble(detail, remote):
                return Undecided(detail, REMOTE_TROUBLE if remote else LOCAL_TROUBLE, ())
            case found:
                assert_never(found)

    def _unwrapped(self, srs: Srs, mailbox: Mailbox) -> Moved | Unknown:
        match srs.unwrapped(mailbox.local_part, self.now()):
            case Mailbox() as back:
                return Moved(back, Step("SRS", f"{mailbox} leads back to {back}", self.place), vouched=True)
            case LeadsNowhere(why):
                return Unknown(mailbox, (Step("SRS", f"{mailbox} leads back to nobody: {why}", self.place),))
            case found:
                assert_never(found)


def _moved(mailbox: Mailbox, values: tuple[str, ...], place: str) -> Moved | Undecided:
    try:
        other = sole_target(values, mailbox)
    except PathError as error:
        return Undecided(f"{place}: {error}", MISCONFIGURED, ())
    return Moved(other, Step("canonical", f"{mailbox} → {other}", place))


#: Each recipient is who the client says.
AS_SAID: Final = First()


# ---- what becomes of one address, in one step
@dataclass(frozen=True, slots=True)
class _Stays:
    goal: Goal
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class _Becomes:
    mailboxes: tuple[Mailbox, ...]
    step: Step
    told: str = ""


@dataclass(frozen=True, slots=True)
class _HasMoved:
    to: Mailbox
    step: Step


@dataclass(frozen=True, slots=True)
class _IsUnknown:
    step: Step


@dataclass(frozen=True, slots=True)
class _Fails:
    detail: str
    status: EnhancedStatus


_Turn: TypeAlias = _Stays | _Becomes | _HasMoved | _IsUnknown | _Fails


@dataclass(slots=True)
class _Walk:
    """One expansion on its way. `open`: addresses still to be looked at, each with how many steps led to it.

    `leads`: each address that stands for others, and those others.
    """

    open: list[tuple[Mailbox, int]]
    leads: dict[str, list[str]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    goals: dict[str, Goal] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    told: str = ""


class Expander:
    """Follows aliases. Holds no state of its own; what maps remember is theirs."""

    def __init__(self, domains: Domains, *, postmaster: Mailbox, first: First = AS_SAID) -> None:
        """`postmaster`: who gets mail for the postmaster of a domain of ours that names none (RFC 5321 §4.5.1)."""
        self.first: Final = first
        self._domains = domains
        self._postmaster = postmaster

    def knows(self, mailbox: Mailbox) -> bool:
        """Whether its domain is ours; if not, the address stands for itself, and `expand` need not be asked."""
        return bool(self._domains) and isinstance(self._domains.of(mailbox), DomainPolicy)

    async def expand(self, mailbox: Mailbox) -> Expansion:
        """What `mailbox` stands for. Takes as long as the maps it asks; each has its own time-out."""
        walk = _Walk([(mailbox, 0)])
        while walk.open:
            at, depth = walk.open.pop(0)
            match await self._turn(at):
                case _Stays(goal, steps):
                    walk.goals.setdefault(str(goal.mailbox).lower(), goal)
                    walk.steps.extend(steps)
                case _HasMoved(to, step) if not depth:
                    return MovedAway(to, (*walk.steps, step))
                case _HasMoved(to, step):  # behind an alias there is nobody to be told: it is followed
                    walk.steps.append(step)
                    if wrong := _follow(walk, at, depth, (to,)):
                        return Undecided(f"{wrong} ({step.place})", MISCONFIGURED, tuple(walk.steps))
                case _Becomes(mailboxes, step, told):
                    walk.steps.append(step)
                    walk.told = walk.told or told
                    if wrong := _follow(walk, at, depth, mailboxes):
                        return Undecided(f"{wrong} ({step.place})", MISCONFIGURED, tuple(walk.steps))
                case _IsUnknown(step):
                    walk.steps.append(step)
                case _Fails(detail, status):
                    return Undecided(detail, status, tuple(walk.steps))
                case turn:
                    assert_never(turn)
        if circle := _circle(walk):
            return Undecided(circle, MISCONFIGURED, tuple(walk.steps))
        if not walk.goals:
            return Unknown(mailbox, tuple(walk.steps))
        return Expanded(tuple(walk.goals.values()), tuple(walk.steps), self.knows(mailbox), walk.told)

    async def _turn(self, mailbox: Mailbox) -> _Turn:
        policy = self._domains.of(mailbox)
        if isinstance(policy, NotOurs):
            return _Stays(Goal(mailbox))
        if not isinstance(policy.rewrite, SameDomain):
            moved = Mailbox(mailbox.local_part, policy.rewrite)
            return _Becomes((moved,), Step("rewrite", f"{mailbox} → {moved}", policy.place_of("rewrite")))
        found = await listed(policy.aliases, _spellings(policy, mailbox))
        if isinstance(found, Listed):
            return _alias(mailbox, found)
        if isinstance(found, MapTrouble):
            return _trouble(found)
        return await self._user(policy, mailbox)

    async def _user(self, policy: DomainPolicy, mailbox: Mailbox) -> _Turn:
        """A recipient that is no alias: it exists, somebody else gets its mail, or there is none such."""
        found = await listed(policy.users, _spellings(policy, mailbox))
        if isinstance(found, Listed):
            kept = _without_tag(policy, mailbox)
            return _Stays(Goal(kept), (Step("user", f"{kept} is listed", found.place),))
        if isinstance(found, MapTrouble):
            return _trouble(found)
        listed_only = isinstance(policy.unknown, Refuse) or (policy.users and isinstance(policy.unknown, Accept))
        if mailbox.local_part.lower() == "postmaster" and listed_only:
            text = f"{mailbox} → {self._postmaster}"
            if str(self._postmaster).lower() == str(mailbox).lower():
                return _Stays(Goal(mailbox), (Step("postmaster", f"{mailbox} is the postmaster's own", policy.place),))
            return _Becomes((self._postmaster,), Step("postmaster", text, "service.postmaster"))
        return await _unlisted(policy, mailbox)


async def _unlisted(policy: DomainPolicy, mailbox: Mailbox) -> _Turn:
    """A recipient nobody has heard of: `@domain` in an alias map, then `catch_all`, then `unknown`."""
    found = await listed(policy.aliases, Spellings(at_domain=(f"@{mailbox.domain}",)))
    if isinstance(found, Listed):
        return _alias(mailbox, found, "catch-all")
    if isinstance(found, MapTrouble):
        return _trouble(found)
    if not isinstance(policy.catch_all, NoCatchAll) and policy.catch_all != mailbox:
        return _Becomes(
            (policy.catch_all,), Step("catch-all", f"{mailbox} → {policy.catch_all}", policy.place_of("catch_all"))
        )
    match policy.unknown:
        case Accept():
            return _Stays(Goal(_without_tag(policy, mailbox)), (Step("ours", f"{mailbox} is taken", policy.place),))
        case Refuse():
            return _IsUnknown(Step("unknown", f"{mailbox} is not listed", policy.place_of("unknown")))
        case PassOn(route):
            step = Step(
                "split domain",
                f"{mailbox} is not listed here; it goes by the route {route}",
                policy.place_of("unknown"),
            )
            return _Stays(Goal(mailbox, route), (step,))
        case _:
            assert_never(policy.unknown)


# ---- looking up
@dataclass(frozen=True, slots=True)
class Spellings:
    """The keys an address is looked up by: whole, without its tag, as a bare local-part, as its domain."""

    whole: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    at_domain: tuple[str, ...] = ()

    def keys(self, wanted: Keys) -> Iterable[str]:
        match wanted:
            case Keys.ALL:
                return (*self.whole, *self.addresses, *self.bare, *self.at_domain)
            case Keys.ADDRESSES:
                return (*self.whole, *self.addresses, *self.at_domain)
            case Keys.WHOLE:
                return (*self.whole, *self.addresses)
            case _:
                assert_never(wanted)


def _spellings(policy: DomainPolicy, mailbox: Mailbox) -> Spellings:
    local_part = mailbox.local_part.lower()
    short = policy.without_tag(local_part)
    tagless = Mailbox(short, mailbox.domain)
    return Spellings(
        whole=(str(mailbox).lower(),),
        addresses=(str(tagless).lower(),) if short != local_part else (),
        bare=tuple(dict.fromkeys((local_part, short))),
    )


async def listed(maps: Sequence[Map], spellings: Spellings) -> Lookup:
    """The first that is listed, in the order of the maps; trouble ends the search, for it might hide one."""
    for each in maps:
        for key in spellings.keys(each.keys):
            found = await each.look_up(key)
            if not isinstance(found, NotListed):
                return found
    return NOT_LISTED


#: "251 address": taken and sent on, and the client is told where; "551 address": it is told, and sends there itself.
_FORWARDED, _MOVED = "251 ", "551 "


def _alias(mailbox: Mailbox, found: Listed, what: str = "alias") -> _Turn:
    first = found.values[0]
    if len(found.values) == 1 and first.startswith((_FORWARDED, _MOVED)):
        return _elsewhere(mailbox, found, first)
    try:
        targets = tuple(target_of(value, mailbox) for value in found.values)
    except PathError as error:
        return _Fails(f"{found.place}: {error}", MISCONFIGURED)
    text = f"{mailbox} → {', '.join(str(target) for target in targets)}"
    return _Becomes(targets, Step(what, text, found.place))


def _elsewhere(mailbox: Mailbox, found: Listed, value: str) -> _Turn:
    try:
        to = target_of(value[4:].strip(), mailbox)
    except PathError as error:
        return _Fails(f"{found.place}: {error}", MISCONFIGURED)
    if value.startswith(_MOVED):
        return _HasMoved(to, Step("moved", f"{mailbox} is to be reached as {to}", found.place))
    return _Becomes((to,), Step("forward", f"{mailbox} → {to}, and the client is told", found.place), str(to))


def target_of(value: str, mailbox: Mailbox) -> Mailbox:
    """An address in a map; without a domain it is in that of `mailbox`, `@domain` keeps its user. Raises: PathError."""
    if value.startswith(("|", ":", "/")):
        raise PathError(f"{value!r} is no address; programs, files and includes are no recipients here")
    if value.startswith("@"):
        return Mailbox(mailbox.local_part, parse_domain(value[1:]))
    return parse_mailbox(value if "@" in value else f"{value}@{mailbox.domain}")


def sole_target(values: Sequence[str], mailbox: Mailbox) -> Mailbox:
    """The one address that a map has in place of `mailbox`. Raises: PathError, also where there are several."""
    if len(values) != 1:
        raise PathError(f"{len(values)} addresses for {mailbox}, where one is to stand in its place")
    return target_of(values[0], mailbox)


def _without_tag(policy: DomainPolicy, mailbox: Mailbox) -> Mailbox:
    if policy.keep_tag:
        return mailbox
    return replace(mailbox, local_part=policy.without_tag(mailbox.local_part))


def _trouble(trouble: MapTrouble) -> _Fails:
    return _Fails(trouble.detail, REMOTE_TROUBLE if trouble.remote else LOCAL_TROUBLE)


def _follow(walk: _Walk, at: Mailbox, depth: int, mailboxes: Iterable[Mailbox]) -> str:
    """Put what `at` stands for on the walk; what is wrong with it, else ""."""
    here = str(at).lower()
    leads = walk.leads.setdefault(here, [])
    for mailbox in mailboxes:
        key = str(mailbox).lower()
        if key == here:  # "alice: alice, bob@example.org" keeps a copy for alice
            walk.goals.setdefault(key, Goal(mailbox))
            continue
        leads.append(key)
        if key not in walk.seen:  # reached by two ways, it is one recipient
            walk.seen.add(key)
            walk.open.append((mailbox, depth + 1))
    if depth >= MAX_STEPS:
        return f"{here} is behind more than {MAX_STEPS} aliases"
    if len(walk.seen) > MAX_RECIPIENTS:
        return f"it stands for more than {MAX_RECIPIENTS} recipients"
    return ""


def _circle(walk: _Walk) -> str:
    """The aliases that lead to each other in a circle, as a sentence; "" where there are none."""
    try:
        TopologicalSorter(walk.leads).prepare()
    except CycleError as error:
        return f"aliases go in circles: {' → '.join(reversed(error.args[1]))}"
    return ""
