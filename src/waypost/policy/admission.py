"""Whether a recipient is taken from a client, and whom the message then goes to: the whole of what RCPT decides.

    what the address stands for (expansion.py) → who may send there → its route

A recipient is refused at RCPT or never: what we accept we deliver or report, and a report to a forged reverse-path
would be backscatter.

Live mail and whoever asks why run this same code. Not here: what a command must look like (waypost.smtp).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias, assert_never

from waypost.mail.envelope import Recipient
from waypost.policy.access import Network, client_address
from waypost.policy.expansion import AS_SAID, Expanded, Expander, Goal, Moved, MovedAway, Step, Undecided, Unknown
from waypost.route.route import EXPANDED, NoRoute, Reject, Route
from waypost.smtp.command import REFUSAL_WIDTH
from waypost.smtp.extension import ORCPT_LIMIT, Notify, RcptParameters
from waypost.smtp.path import ForwardPath, Mailbox, NullPath, ReversePath, is_ascii
from waypost.smtp.reply import Reply

#: No reverse-path that a route could be chosen by.
NOBODY: Final = NullPath()


class Router(Protocol):
    """Where recipients go: a route table."""

    def route(
        self, forward_path: ForwardPath, reverse_path: ReversePath = NOBODY, account: str = ""
    ) -> Route | NoRoute:
        """Where this recipient goes, if the message is from there. No I/O."""
        ...

    def named(self, name: str) -> Route | NoRoute:
        """The route of that name."""
        ...


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    """Which clients may send through us to domains that are not ours: those in `networks`, and nobody else.

    `never`: who may not, though a network or an account would let them.
    """

    networks: tuple[Network, ...] = ()
    never: tuple[Network, ...] = ()

    def trusts(self, client_host: str) -> bool:
        """Whether a numeric client address may relay. A client on a Unix socket (empty host) is of this machine."""
        address = client_address(client_host)
        return any(address in network for network in self.networks) and not self.bars(client_host)

    def bars(self, client_host: str) -> bool:
        """Whether a client at this address may never relay, whoever it is."""
        return bool(self.never) and any(client_address(client_host) in network for network in self.never)


#: The percent hack, bang paths, and addresses in quotes (RFC 1123 §5.2.16, RFC 5321 appendix F.2).
_NESTING: Final = "%!@"


@dataclass(frozen=True, slots=True)
class Granted:
    """The recipient is taken, and goes this way."""

    route: Route


@dataclass(frozen=True, slots=True)
class Denied:
    """The recipient is not taken; `reply` says why."""

    reply: Reply


RcptVerdict: TypeAlias = Granted | Denied


def judge_recipient(path: ForwardPath, route: Route | NoRoute, *, trusted: bool) -> RcptVerdict:
    """Whether this client may send to `path`, which the table routes so. `trusted`: it may relay through us."""
    match route:
        case NoRoute():
            if not trusted:
                return Denied(_relaying_denied(path))
            return Denied(Reply.of(550, "5.1.2", f"no route leads to <{path}>"))
        case Route(transport=Reject(reply=reply)):
            return Denied(reply)
        case Route(relay_only=True) if not trusted:
            return Denied(_relaying_denied(path))
        case Route() if not trusted and is_nested(path):
            return Denied(_nested(path))
        case Route():
            return Granted(route)
        case _:
            assert_never(route)


def is_nested(path: ForwardPath) -> bool:
    """Whether a local-part looks like an address or a way of its own: `user%b@a`, `b!user@a`, `"user@b"@a`.

    The next hop might follow it, and relay for whom we would not.
    """
    return isinstance(path, Mailbox) and any(mark in path.local_part for mark in _NESTING)


def _nested(path: ForwardPath) -> Reply:
    return Reply.of(550, "5.7.1", f"<{path}> has another address in it, which is not followed here")


def _relaying_denied(path: ForwardPath) -> Reply:
    return Reply.of(
        550, "5.7.1", f"relaying denied: <{path}> is not served here, nor may you send elsewhere through us"
    )


#: The reply to a recipient that is taken, and of whom there is nothing to tell.
AS_EVER: Final = Reply.of(250, "2.1.5", "OK")


def _reply_of(code: int, status: str, text: str) -> Reply:
    """A reply that quotes an address: it may be long, and not ASCII (RFC 6531 §3.7.4.2)."""
    return Reply.of(code, status, text.encode("ascii", "backslashreplace").decode()[:REFUSAL_WIDTH])


# ---- one RCPT
@dataclass(frozen=True, slots=True)
class Destined:
    """One recipient, and the route it takes."""

    recipient: Recipient
    route: Route


@dataclass(frozen=True, slots=True)
class Taken:
    """The message goes to these, at least one. `left_out`: what an alias names besides that has no way, and why.

    `reply`: 250, or 251 where the client is to be told of another address.
    """

    destined: tuple[Destined, ...]
    steps: tuple[Step, ...] = ()
    left_out: tuple[str, ...] = ()
    reply: Reply = AS_EVER


@dataclass(frozen=True, slots=True)
class Turned:
    """The recipient is refused. `trouble`: what an administrator must know of it; "" where all is as it should be."""

    reply: Reply
    steps: tuple[Step, ...] = ()
    trouble: str = ""


Admitted: TypeAlias = Taken | Turned

_NOT_NOW: Final = "the recipient cannot be looked up at the moment; try again later"


@dataclass(frozen=True, slots=True)
class Admission:
    """Decides on recipients."""

    router: Router
    expander: Expander

    def asks(self, path: ForwardPath) -> bool:
        """Whether maps have to be asked: `admit` is to be awaited, and `at_once` is not enough."""
        return isinstance(path, Mailbox) and (self.expander.knows(path) or self.expander.first is not AS_SAID)

    def at_once(
        self,
        path: ForwardPath,
        parameters: RcptParameters,
        *,
        trusted: bool,
        reverse_path: ReversePath = NOBODY,
        account: str = "",
    ) -> Admitted:
        """What RCPT comes to, where no `[[domain]]` is about it: it stands for itself."""
        match judge_recipient(path, self.router.route(path, reverse_path, account), trusted=trusted):
            case Granted(route):
                return Taken((Destined(Recipient(path, route.next_hop, parameters), route),))
            case Denied(reply):
                return Turned(reply)
            case verdict:
                assert_never(verdict)

    def aside(self, recipients: Sequence[Recipient], route: str) -> tuple[Recipient, ...]:
        """The same recipients, sent by the route of that name and never reported on: a quarantine."""
        match self.router.named(route):
            case Route(next_hop=next_hop):
                quiet = RcptParameters(notify=Notify.NEVER)
                kept = (each for each in recipients if each.next_hop != EXPANDED.next_hop)
                return tuple(Recipient(each.forward_path, next_hop, quiet) for each in kept)
            case NoRoute(detail):  # the configuration was checked for it: 451 is all that is left
                raise LookupError(detail)
            case found:
                assert_never(found)

    def copied(self, mailboxes: Sequence[Mailbox]) -> Iterator[Recipient]:
        """Recipients nobody sees or hears of; where no route leads is no place for a copy."""
        for mailbox in mailboxes:
            route = self.router.route(mailbox)
            if isinstance(route, Route):
                yield Recipient(mailbox, route.next_hop, RcptParameters(notify=Notify.NEVER))

    async def admit(
        self,
        path: ForwardPath,
        parameters: RcptParameters,
        *,
        trusted: bool,
        reverse_path: ReversePath = NOBODY,
        account: str = "",
    ) -> Admitted:
        """What RCPT comes to. Takes as long as the maps it needs to ask, each within its time-out."""
        if self.expander.first is AS_SAID or not isinstance(path, Mailbox):
            return await self._admit(path, parameters, trusted, reverse_path, account)
        match await self.expander.first.of(path):
            case Moved(mailbox) if mailbox == path:
                return await self._admit(path, parameters, trusted, reverse_path, account)
            case Moved(mailbox, step, vouched):
                trusted = trusted or vouched or self._is_ours(path)
                kept = _with_original(parameters, path)
                admitted = await self._admit(mailbox, kept, trusted, reverse_path, account)
                return replace(admitted, steps=(step, *admitted.steps))
            case Unknown(mailbox, steps):
                return Turned(Reply.of(550, "5.1.1", f"there is no <{mailbox}> here"), steps)
            case Undecided(detail, status, steps):
                return Turned(Reply.of(451, str(status), _NOT_NOW), steps, detail)
            case never:
                assert_never(never)

    def _is_ours(self, path: Mailbox) -> bool:
        """Whether a stranger may send to it, whatever it becomes."""
        route = self.router.route(path)
        return self.expander.knows(path) or (isinstance(route, Route) and not route.relay_only)

    async def _admit(
        self,
        path: ForwardPath,
        parameters: RcptParameters,
        trusted: bool,  # noqa: FBT001 - handed on as `admit` got it
        reverse_path: ReversePath,
        account: str,
    ) -> Admitted:
        if not isinstance(path, Mailbox) or not self.expander.knows(path):
            return self.at_once(path, parameters, trusted=trusted, reverse_path=reverse_path, account=account)
        if not trusted and is_nested(path):
            return Turned(_nested(path))
        match await self.expander.expand(path):
            case Expanded(goals, steps, _, told):
                found = [(goal, self._way(goal, reverse_path, account)) for goal in goals]
                return self._all_of(path, parameters, found, steps, told)
            case MovedAway(to, steps):
                return Turned(_reply_of(551, "5.1.6", f"User not local; please try <{to}>"), steps)
            case Unknown(mailbox, steps):
                return Turned(Reply.of(550, "5.1.1", f"there is no <{mailbox}> here"), steps)
            case Undecided(detail, status, steps):
                return Turned(Reply.of(451, str(status), _NOT_NOW), steps, detail)
            case never:
                assert_never(never)

    def _way(self, goal: Goal, reverse_path: ReversePath, account: str) -> Route | NoRoute:
        if goal.route:
            return self.router.named(goal.route)
        return self.router.route(goal.mailbox, reverse_path, account)

    def _all_of(
        self,
        path: Mailbox,
        parameters: RcptParameters,
        goals: Sequence[tuple[Goal, Route | NoRoute]],
        steps: tuple[Step, ...],
        told: str,
    ) -> Admitted:
        """The goals that have a way. That the domain is ours is leave enough; an alias leads where it leads."""
        destined, left_out, reply = [], [], Reply.of(550, "5.1.2", f"no route leads to <{path}>")
        others, of_list = _of_members(parameters) if len(goals) > 1 else (parameters, parameters)
        for goal, found in goals:
            match judge_recipient(goal.mailbox, found, trusted=True):
                case Granted(route):
                    kept = parameters if goal.mailbox == path else _with_original(others, path)
                    destined.append(Destined(Recipient(goal.mailbox, route.next_hop, kept), route))
                case Denied(said):
                    left_out.append(f"<{goal.mailbox}>: {said}")
                    reply = said
                case verdict:
                    assert_never(verdict)
        if not destined:
            return Turned(reply, steps)
        if others is not parameters and all(goal.mailbox != path for goal, _ in goals):
            destined.append(Destined(Recipient(path, EXPANDED.next_hop, of_list), EXPANDED))
        said = _reply_of(251, "2.1.5", f"User not local; will forward to <{told}>") if told else AS_EVER
        return Taken(tuple(destined), steps, tuple(left_out), said)


def _of_members(parameters: RcptParameters) -> tuple[RcptParameters, RcptParameters]:
    """What reports the members of an alias, and the alias itself, are to have (RFC 3461 §5.2.7).

    Success is the alias's to tell, once: who is behind it, and what becomes of each, is not the author's to know.
    """
    if not parameters.notify.wants_success:
        return parameters, parameters
    others = parameters.notify & ~Notify.SUCCESS
    return replace(parameters, notify=others), replace(parameters, notify=Notify.SUCCESS)


def _with_original(parameters: RcptParameters, path: Mailbox) -> RcptParameters:
    """With an ORCPT of ours where the client gave none: what reports are to name (RFC 3461 §5.2.1)."""
    if parameters.original_recipient:
        return parameters
    original = f"{'rfc822' if is_ascii(path) else 'utf-8'};{path}"
    return replace(parameters, original_recipient=original) if len(original) <= ORCPT_LIMIT else parameters
