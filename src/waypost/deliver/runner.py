"""One attempt, from a lease to its end: whatever happens in it, every recipient comes out with an outcome.

Not here: which lease and when (dispatch.py), and writing down what it came to (settler.py).
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, assert_never

from waypost.deliver import local
from waypost.deliver.dots import LeaseEndedError
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.journal import Journal, tell
from waypost.deliver.made_over import Ready, Suppressed, prepare
from waypost.deliver.maildir import MaildirDelivery
from waypost.deliver.outgoing import outgoing
from waypost.deliver.pipe import PipeDelivery
from waypost.deliver.relays import Relays
from waypost.deliver.smtp import AuthorisationEnded, Elsewhere, Exhausted, Reach, Reached, SmtpDelivery
from waypost.deliver.webhook import WebhookDelivery
from waypost.hooks.calls import NO_HOOKS, Hooks
from waypost.hooks.values import Defer, Delivery, Point, Refuse
from waypost.mail.attempt import Attempt, Transcript
from waypost.mail.content import AS_IT_CAME
from waypost.mail.envelope import MessageId, NextHop, QueuedRecipient
from waypost.mail.outcome import Cause, Deferred, LocalTrouble, Outcome, PolicyRefused, Rejected
from waypost.mail.window import ALWAYS, Window
from waypost.net.clock import Clock
from waypost.policy.retries import policy_on
from waypost.policy.rewriting import RewritingError, Rewritings
from waypost.queue.schedule import RetryPolicy, is_too_late, settle_recipient
from waypost.queue.storage import Hold, Lease, Settled, StorageError, Wait
from waypost.route.onward import STAY
from waypost.route.route import (
    AS_EVER,
    Capture,
    Discard,
    Expansion,
    LmtpServers,
    Maildir,
    NoRoute,
    OnCall,
    Pipe,
    Reject,
    Route,
    SmtpMx,
    SmtpServers,
    Webhook,
)
from waypost.smtp.reply import EnhancedStatus

#: Bugs caught in attempts for one message, after which it is set aside with its reason.
CRASHES: Final = 3
#: Messages whose crashes are counted at once; far more than a bug leaves standing.
_COUNTED: Final = 1000
_TOO_LATE: Final = "the time that its author gave for its delivery is over"
_NOBODY_ASKED: Final = deferred(LocalTrouble("no host was asked"))


_REACHED: Final = Reached()
#: "Message too big for system" (RFC 3463 §3.4).
TOO_LARGE: Final = EnhancedStatus(5, 3, 4)


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt that has ended, and what it tells of the destination."""

    attempt: Attempt
    settled: tuple[Settled, ...]
    reach: Reach | Elsewhere


@dataclass(frozen=True, slots=True)
class Untried:
    """An attempt that was cut off before anything came of it: as if it had not been begun.

    `reach`: what it tells of the destination all the same.
    """

    reach: Reach = _REACHED


@dataclass(frozen=True, slots=True)
class Carriers:
    """Who delivers by each kind of transport that is more than a line of code."""

    smtp: SmtpDelivery
    maildir: MaildirDelivery
    webhook: WebhookDelivery
    pipe: PipeDelivery


class Callers(Protocol):
    """Who knows which hosts have asked for their mail (waypost.deliver.calls.Callers)."""

    async def has_called(self, next_hop: NextHop) -> bool:
        """Whether the host at that next hop has asked for its mail lately. Raises: StorageError."""
        ...


class NobodyCalls:
    """No host ever asks."""

    async def has_called(self, next_hop: NextHop) -> bool:  # noqa: ARG002 - whoever it is
        return False


NOBODY_CALLS: Final = NobodyCalls()


def waits_for(what: str) -> Deferred:
    """The outcome of mail that is not sent before it is asked for."""
    return deferred(PolicyRefused(f"it is kept here and waits for {what}", EnhancedStatus(4, 2, 1)))


class Runner:
    """Runs attempts."""

    def __init__(
        self,
        carriers: Carriers,
        relays: Relays,
        rewritings: Rewritings,
        *,
        policy: RetryPolicy,
        clock: Clock,
        dice: random.Random,
        journal: Journal,
        hooks: Hooks = NO_HOOKS,
        callers: Callers = NOBODY_CALLS,
    ) -> None:
        self._smtp = carriers.smtp
        self._carriers = carriers
        self._relays = relays
        self._rewritings = rewritings
        self._callers = callers
        self._policy = policy
        self._clock = clock
        self._dice = dice
        self._journal = journal
        self._hooks = hooks
        self._asks = hooks.at(Point.BEFORE_DELIVERY)
        self._crashes: OrderedDict[MessageId, int] = OrderedDict()
        self._under_way: dict[asyncio.Task[object] | None, tuple[NextHop, Fates]] = {}

    def adopt(self, carriers: Carriers, relays: Relays, rewritings: Rewritings, policy: RetryPolicy) -> None:
        """Attempts that begin from now on are made by these; those under way end as they began."""
        self._smtp, self._carriers, self._relays = carriers.smtp, carriers, relays
        self._rewritings, self._policy = rewritings, policy

    async def run(
        self, lease: Lease, route: Route | NoRoute, known: Mapping[int, Outcome], *, around: bool = False
    ) -> Tried | Untried:
        """One attempt. `known`: outcomes, by recipient number, that an earlier attempt came to and nobody wrote down.

        `around`: by the route's fallback alone, for its next hop rests.

        Never raises: a bug is caught and told, a cancellation ends the attempt where it stands.
        """
        began, transcript, fates = self._clock.now(), Transcript(self._clock.monotonic()), Fates(lease.recipients)
        if known:
            transcript.add(
                self._clock.monotonic(), "*", "an earlier attempt was not written down; this is what it came to"
            )
            for recipient in lease.recipients:
                if recipient.number in known:
                    fates.record(recipient, known[recipient.number])
        reach: Reach | Elsewhere = _REACHED
        unasked: Outcome = _NOBODY_ASKED
        held = ""
        task = asyncio.current_task()
        self._under_way[task] = lease.next_hop, fates
        try:
            if isinstance(route, Route) and route.onward is not STAY and fates.has_open:
                way = self._relays.go_round if around else self._relays.deliver
                reach = await way(lease, route, fates, transcript, self._deliver)
            else:
                reach = await self._deliver(lease, route, fates, transcript)
        except asyncio.CancelledError:
            if fates.is_blank:
                return Untried()
            unasked = deferred(LocalTrouble("the service was stopped during this attempt"))
        except LeaseEndedError as ended:
            if fates.is_blank:
                return Untried()
            unasked = deferred(LocalTrouble(str(ended)))
        except Exception as error:  # noqa: BLE001 - one message's bug must not be another's; it is told and counted
            unasked, held = self._crashed(lease, error)
        finally:
            del self._under_way[task]
        if isinstance(reach, AuthorisationEnded | Exhausted) and fates.is_blank:
            return Untried(reach)
        return self._ended(lease, began, fates.closed(unasked), transcript, reach, route, held)

    def cut_off(self, *, bodies: bool) -> None:
        """End the attempts under way where they stand; those that are sending a body only with `bodies`."""
        for task, (_, fates) in self._under_way.items():
            if task and (bodies or not fates.body_begun):
                task.cancel()

    def cut_short(self, next_hop: NextHop, *, keep: int) -> None:
        """End the attempts for `next_hop` of which nothing has come yet; the oldest attempts, so many, go on."""
        ours = [(task, fates) for task, (hop, fates) in self._under_way.items() if hop == next_hop]
        for task, fates in ours[keep:]:
            if task and fates.is_blank:
                task.cancel()

    def may_go_round(self, lease: Lease, route: Route | NoRoute) -> bool:
        """Whether a message has another way while its next hop rests."""
        return isinstance(route, Route) and route.onward is not STAY and self._relays.may_go_round(lease, route)

    def not_tried(
        self, lease: Lease, route: Route | NoRoute, cause: Cause, why: str, known: Mapping[int, Outcome]
    ) -> Tried:
        """The end of an attempt that was not worth making: `cause` is what another met just now. `known`: see `run`."""
        now, transcript = self._clock.now(), Transcript(self._clock.monotonic())
        transcript.add(self._clock.monotonic(), "*", why)
        outcomes = tuple((recipient, known.get(recipient.number, deferred(cause))) for recipient in lease.recipients)
        return self._ended(lease, now, outcomes, transcript, Reached(), route, "")

    async def _deliver(self, lease: Lease, route: Route | NoRoute, fates: Fates, transcript: Transcript) -> Reach:
        if not fates.has_open:
            return _REACHED
        if lease.message.parameters.by and is_too_late(lease.message, self._clock.now()):
            local.record_all(fates, deferred(PolicyRefused(_TOO_LATE, EnhancedStatus(4, 4, 7))))
            return Reached()
        if self._asks and await self._is_turned(lease, fates, transcript):
            return Reached()
        if isinstance(route, NoRoute):
            remedy = f"{route.detail}; write a [[route]] for its domain and start again, or use `waypost queue delete`"
            local.record_all(fates, deferred(PolicyRefused(remedy, EnhancedStatus(4, 4, 4))))
            return Reached()
        if route.on_demand and not await self._callers.has_called(route.next_hop):
            local.record_all(fates, waits_for("its host to ask for it (ETRN, RFC 1985)"))
            return Reached()
        if 0 < route.limits.size < lease.octets.size:
            said = f"the message has {lease.octets.size} octets, and its route takes no more than {route.limits.size}"
            local.record_all(fates, Rejected(PolicyRefused(said, TOO_LARGE), TOO_LARGE))
            return Reached()
        if self._rewritings and route.name in self._rewritings:
            try:
                lease = await outgoing(lease, self._rewritings[route.name], self._clock)
            except (RewritingError, StorageError) as error:
                local.record_all(fates, deferred(LocalTrouble(f"its addresses cannot be rewritten: {error}")))
                return Reached()
        if route.content is not AS_IT_CAME:
            prepared = await self._prepared(lease, route, fates, transcript)
            if isinstance(prepared, Reached):
                return prepared
            lease = prepared
        match route.transport:
            case SmtpServers() | SmtpMx() | LmtpServers():
                return await self._smtp.deliver(lease, route, route.transport, fates, transcript)
            case Maildir(template):
                fates.body_begun = True
                await self._carriers.maildir.deliver(lease, template, fates)
            case Webhook():
                most = route.limits.recipients
                return await self._carriers.webhook.deliver(lease, route.transport, most, fates, transcript)
            case Pipe():
                await self._carriers.pipe.deliver(lease, route.transport, fates, transcript)
            case OnCall(account):
                local.record_all(fates, waits_for(f"{account} to call for it (ATRN, RFC 2645)"))
            case Capture():
                local.record_all(fates, local.CAPTURED)
            case Discard():
                local.record_all(fates, local.DISCARDED)
            case Expansion():
                local.record_all(fates, local.EXPANDED)
            case Reject():
                local.record_all(fates, local.refused(route.transport))
            case _:
                assert_never(route.transport)
        return Reached()

    async def _prepared(self, lease: Lease, route: Route, fates: Fates, transcript: Transcript) -> Lease | Reached:
        """The message as its route wishes it; `Reached` where there is nothing left to deliver."""
        try:
            prepared = await prepare(lease, route.content)
        except StorageError as error:
            local.record_all(fates, deferred(LocalTrouble(str(error))))
            return Reached()
        match prepared:
            case Suppressed(why):
                local.record_all(fates, local.suppressed(why, route.content.place))
                tell(self._journal.suppressed, lease.message, lease.next_hop, why)
                return Reached()
            case Ready(ready, notes):
                for note in notes:
                    transcript.add(self._clock.monotonic(), "*", note)
                if notes:
                    tell(self._journal.made_over, lease.message, lease.next_hop, notes)
                return ready
            case _:
                assert_never(prepared)

    async def _is_turned(self, lease: Lease, fates: Fates, transcript: Transcript) -> bool:
        """Let hooks say whether the attempt is not to be made; then that is its outcome for all."""
        waiting = fates.open()
        paths = tuple(each.forward_path for each in waiting)
        attempts = max(each.attempts for each in waiting)
        message = lease.message
        asked = Delivery(message.id, message.reverse_path, paths, lease.next_hop, attempts, message.size)
        decided = await self._hooks.ask(Point.BEFORE_DELIVERY, asked)
        verdict = decided.verdict
        if not isinstance(verdict, Refuse | Defer):
            return False
        transcript.add(self._clock.monotonic(), "*", f"the hook {decided.by} says {verdict.reply}")
        cause = PolicyRefused(f"the hook {decided.by} ({decided.place}) says {verdict.reply}", verdict.reply.status)
        is_refused = isinstance(verdict, Refuse)
        local.record_all(fates, Rejected(cause, cause.status) if is_refused else deferred(cause))
        return True

    def _ended(
        self,
        lease: Lease,
        began: float,
        outcomes: tuple[tuple[QueuedRecipient, Outcome], ...],
        transcript: Transcript,
        reach: Reach | Elsewhere,
        route: Route | NoRoute,
        held: str,
    ) -> Tried:
        now = self._clock.now()
        policy = self._policy
        window: Window = ALWAYS
        if isinstance(route, Route):
            window = route.window
            if route.retries is not AS_EVER:
                policy = policy_on(policy, route.retries)
            if route.on_demand or isinstance(route.transport, OnCall):
                policy = policy.until_called()
        settled = tuple(
            [
                settle_recipient(
                    lease.message,
                    recipient,
                    outcome,
                    policy=policy,
                    now=now,
                    dice=self._dice,
                    captured=outcome is local.CAPTURED,
                    window=window,
                )
                for recipient, outcome in outcomes
            ]
        )
        if held:
            settled = tuple(replace(one, next=Hold(held)) if isinstance(one.next, Wait) else one for one in settled)
        return Tried(Attempt(lease.message, lease.next_hop, began, now, outcomes, transcript), settled, reach)

    def _crashed(self, lease: Lease, error: Exception) -> tuple[Outcome, str]:
        """The outcome of those the bug left open, and why the message is held, if it is."""
        name = lease.message.id
        count = self._crashes.pop(name, 0) + 1
        if count < CRASHES:
            self._crashes[name] = count
            if len(self._crashes) > _COUNTED:
                self._crashes.popitem(last=False)
        said = f"a bug in this service, {type(error).__name__}: {error}"
        tell(self._journal.crashed, lease.message, lease.next_hop, error)
        held = f"{CRASHES} attempts ended in {said}" if count >= CRASHES else ""
        return deferred(LocalTrouble(said)), held
