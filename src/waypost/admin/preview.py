"""What another configuration would do to mail, before it is put in force: to what waits, and to the traffic there was.

What waits is looked at as a reload would: by next hop and domain, where the table leads now and where it would lead.
Traffic is judged as its clients would be: whether they might connect, send under that reverse-path, and to that
recipient. Aliases, maps and hooks are not asked again: what they came to then is what is looked at.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, assert_never

from waypost.admin.answers import FailureKind, OperationError, Preview, Proposal, Shift
from waypost.config import Complaints, Config, parse
from waypost.config.change import needs_restart, revision
from waypost.config.parts import access, relay_policy, senders
from waypost.mail.envelope import NextHop
from waypost.net.clock import Instant
from waypost.policy.access import SenderBlock
from waypost.policy.admission import Denied, Granted, judge_recipient
from waypost.queue.storage import Passed, Storage
from waypost.route.route import NoRoute, Reject, Route
from waypost.route.table import RouteTable
from waypost.smtp.path import Mailbox, NullPath, PathError, parse_mailbox

#: Recipients of past traffic that are looked at, the newest.
LOOKED_AT: Final = 20_000
#: Lines of an answer.
SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class _Goes:
    """To a next hop, by a rule."""

    next_hop: NextHop
    rule: str


@dataclass(frozen=True, slots=True)
class _Refused:
    """With a reply."""

    why: str


@dataclass(frozen=True, slots=True)
class _Nowhere:
    """No route leads there; a sentence."""

    why: str


_Fate: TypeAlias = _Goes | _Refused | _Nowhere


async def preview(proposal: Proposal, old: Config, storage: Storage, *, now: Instant) -> Preview:
    """What the proposal would do. Raises: OperationError, with every complaint about it; StorageError."""
    new = await asyncio.to_thread(parsed, proposal)
    if isinstance(new, Complaints):
        raise OperationError(FailureKind.REFUSED, str(new), "mend the file; nothing has changed")
    if not 0 <= proposal.hours <= 24 * 366:
        raise OperationError(FailureKind.BAD_REQUEST, f"{proposal.hours} hours of traffic", "ask for 0 to 8784")
    since = now - proposal.hours * 3600
    waiting = await storage.backlog()
    passed = await storage.traffic(since=since, limit=LOOKED_AT + 1) if proposal.hours else ()
    return Preview(
        revision=revision(proposal.text),
        needs_restart=tuple(needs_restart(old, new)),
        queue=_shifts(_of_queue(waiting, old.route_table(), new.route_table())),
        traffic=_shifts(_of_traffic(passed[:LOOKED_AT], _Judge(old), _Judge(new))),
        queue_looked_at=sum(count for _, _, count in waiting),
        traffic_looked_at=min(len(passed), LOOKED_AT),
        since=since,
        cut=len(passed) > LOOKED_AT,
    )


def parsed(proposal: Proposal) -> Config | Complaints:
    """The configuration that is proposed."""
    return parse(proposal.text, where=proposal.where, base=Path(proposal.where).absolute().parent)


#: What changes: domain, the rule that has it now, its next hop now, and what becomes of it; and of how many.
_Change: TypeAlias = tuple[str, str, NextHop, _Fate, int]


def _shifts(changes: Iterable[_Change]) -> tuple[Shift, ...]:
    """The same by what becomes of them, most recipients first."""
    counted: Counter[tuple[str, str, NextHop, _Fate]] = Counter()
    for domain, rule, was, fate, count in changes:
        counted[domain, rule, was, fate] += count
    most = sorted(counted.items(), key=lambda one: (-one[1], one[0][0], one[0][2]))[:SHOWN]
    return tuple(Shift(domain, rule, was, *_words(fate), count) for (domain, rule, was, fate), count in most)


def _words(fate: _Fate) -> tuple[str, str]:
    match fate:
        case _Goes(next_hop):
            return "elsewhere", next_hop
        case _Refused(why):
            return "refused", why
        case _Nowhere(why):
            return "stranded", why
        case _:
            assert_never(fate)


# ---- what waits
def _of_queue(waiting: Sequence[tuple[NextHop, str, int]], old: RouteTable, new: RouteTable) -> Iterable[_Change]:
    """As a reload moves it. A route that is reached by its name keeps what it has, while there is one of that name."""
    for was, domain, count in waiting:
        by_name = old.is_by_name(was)
        fate = _of_key(new, was) if by_name else _of_route(new.route_domain(domain))
        if not (isinstance(fate, _Goes) and fate.next_hop == was):
            yield domain, _rule(old.by_next_hop(was)), was, fate, count


def _of_key(table: RouteTable, next_hop: NextHop) -> _Fate:
    return _of_route(table.by_next_hop(next_hop))


def _of_route(route: Route | NoRoute) -> _Fate:
    match route:
        case NoRoute(detail):
            return _Nowhere(detail)
        case Route(transport=Reject(reply=reply)):
            return _Refused(str(reply))
        case Route(next_hop=next_hop, rule=rule):
            return _Goes(next_hop, rule)
        case _:
            assert_never(route)


def _rule(route: Route | NoRoute) -> str:
    return route.rule if isinstance(route, Route) else ""


# ---- what came
class _Judge:
    """What a configuration makes of a recipient, without maps and hooks."""

    def __init__(self, config: Config) -> None:
        self._table = config.route_table()
        self._relay, self._access, self._senders = relay_policy(config), access(config), senders(config)

    def judge(self, passed: Passed) -> _Fate:
        """Whether it would be taken, and where it would go."""
        entry = self._access.of(passed.client_host)
        if passed.client_host and not entry.accepts:
            return _Refused("554 5.7.1 not from this client")
        reverse_path, recipient = _path(passed.reverse_path), _path(passed.forward_path)
        if isinstance(recipient, NullPath):
            return _Nowhere("the recipient's address cannot be read")
        block = self._senders.of(reverse_path)
        if isinstance(block, SenderBlock) and not self._senders.quarantine:
            return _Refused(f"550 5.7.1 reverse-path blocked ({block.place})")
        route = self._table.route(recipient, reverse_path, passed.account)
        return self._judged(recipient, route, passed)

    def _judged(self, recipient: Mailbox, route: Route | NoRoute, passed: Passed) -> _Fate:
        local = not passed.client_host  # our own reports, and what came on this machine
        trusted = local or (bool(passed.account) or self._relay.trusts(passed.client_host))
        verdict = judge_recipient(recipient, route, trusted=trusted and not self._bars(passed))
        match verdict:
            case Granted(granted):
                return _of_route(granted)
            case Denied(reply):
                return _Refused(str(reply))
            case _:
                assert_never(verdict)

    def _bars(self, passed: Passed) -> bool:
        return bool(passed.client_host) and self._relay.bars(passed.client_host)


def _place(fate: _Fate) -> object:
    """What two fates are compared by: the name of a rule may change without any consequence."""
    return fate.next_hop if isinstance(fate, _Goes) else fate


def _path(text: str) -> Mailbox | NullPath:
    try:
        return parse_mailbox(text)
    except PathError:
        return NullPath()


def _of_traffic(passed: Sequence[Passed], old: _Judge, new: _Judge) -> Iterable[_Change]:
    """What the two judge differently. What the old would refuse now, too, was taken by another one yet."""
    for one in passed:
        before, after = old.judge(one), new.judge(one)
        if _place(before) != _place(after):
            rule = before.rule if isinstance(before, _Goes) else ""
            yield one.forward_path.rpartition("@")[2], rule, one.next_hop, after, 1
