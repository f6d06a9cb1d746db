"""Hooks beside the service's own judgement: what they say at MAIL, RCPT and the final dot, in the terms of admission.

The service judges first, and asks a hook only about what it would take itself; a hook cannot let in what it refuses.
Live mail and `explain` run this same code. Not here: asking one hook (waypost.hooks.calls).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, assert_never

from waypost.hooks.calls import NO_HOOKS, Decided, Hooks
from waypost.hooks.values import (
    Client,
    Connect,
    Data,
    Defer,
    MailFrom,
    Message,
    Pass,
    Point,
    RcptTo,
    Redirect,
    Refuse,
    Routing,
    Via,
)
from waypost.mail.envelope import Recipient
from waypost.policy.admission import Admission, Admitted, Destined, Taken, Turned
from waypost.policy.expansion import Step
from waypost.route.route import EXPANDED, NoRoute, Route
from waypost.smtp.extension import RcptParameters
from waypost.smtp.path import ForwardPath, Mailbox, ReversePath
from waypost.smtp.reply import Reply


@dataclass(frozen=True, slots=True)
class Unturned:
    """Nothing stands against it."""


UNTURNED: Final = Unturned()


@dataclass(frozen=True, slots=True)
class Revised:
    """The message as hooks leave it. `octets`: without our trace."""

    recipients: tuple[Recipient, ...]
    octets: bytes


Verdict: TypeAlias = Reply | Unturned


class Hooked:
    """The hooks, and an admission that new recipients have to pass. The flags say whom there is to ask."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.connects = hooks.at(Point.CONNECT)
        self.mails = hooks.at(Point.MAIL)
        self.recipients = hooks.at(Point.RCPT) or hooks.at(Point.ROUTE)
        self.data = hooks.at(Point.DATA)

    async def connect(self, client: Client) -> Verdict:
        """What the client hears in place of the banner: 554 and 421 alone may stand there (RFC 5321 §3.1, §4.2.1)."""
        match (await self.hooks.ask(Point.CONNECT, Connect(client))).verdict:
            case Refuse() as refuse:
                return replace(refuse, code=554).reply
            case Defer() as defer:
                return replace(defer, code=421).reply
            case _:
                return UNTURNED

    async def mail(self, client: Client, reverse_path: ReversePath, size: int) -> Verdict:
        """What MAIL is answered instead of 250."""
        verdict = (await self.hooks.ask(Point.MAIL, MailFrom(client, reverse_path, size))).verdict
        return verdict.reply if isinstance(verdict, Refuse | Defer) else UNTURNED

    # ---- RCPT
    async def recipient(
        self,
        admission: Admission,
        client: Client,
        reverse_path: ReversePath,
        path: ForwardPath,
        parameters: RcptParameters,
        *,
        trusted: bool,
    ) -> Admitted:
        """What RCPT comes to, with all who have a say."""
        account = client.account
        admitted = await admission.admit(path, parameters, trusted=trusted, reverse_path=reverse_path, account=account)
        if isinstance(admitted, Turned):
            return admitted
        decided = await self.hooks.ask(Point.RCPT, RcptTo(client, reverse_path, path))
        match decided.verdict:
            case Refuse() | Defer() as turned:
                return Turned(turned.reply, (*admitted.steps, _step(decided, str(turned.reply))))
            case Redirect(to):
                admitted = await _redirected(admission, parameters, to, decided, reverse_path, account)
            case _:
                pass
        if isinstance(admitted, Turned) or not self.hooks.at(Point.ROUTE):
            return admitted
        return await self._routed(admission, client, reverse_path, admitted)

    async def _routed(self, admission: Admission, client: Client, reverse_path: ReversePath, taken: Taken) -> Admitted:
        """The recipients, each by the route that hooks choose."""
        destined, steps = [], [*taken.steps]
        for one in taken.destined:
            path, route = one.recipient.forward_path, one.route
            if route is EXPANDED:  # it goes nowhere
                destined.append(one)
                continue
            asked = Routing(client, reverse_path, path, route.name, route.next_hop)
            decided = await self.hooks.ask(Point.ROUTE, asked)
            match decided.verdict:
                case Refuse() | Defer() as turned:
                    return Turned(turned.reply, (*steps, _step(decided, str(turned.reply))))
                case Via(name):
                    found = admission.router.named(name)
                    if isinstance(found, NoRoute):
                        return self._at_fault(decided, found.detail, steps)
                    destined.append(_by(one, found))
                    steps.append(_step(decided, f"<{path}> goes by the route {name}"))
                case _:
                    destined.append(one)
        return replace(taken, destined=tuple(destined), steps=tuple(steps))

    def _at_fault(self, decided: Decided, why: str, steps: Sequence[Step] = ()) -> Turned:
        """A hook asks for what there is not: the message waits, and the log says why."""
        self.hooks.log.hook_failed(decided.by, why, 0.0)
        reply = Reply.of(451, "4.3.0", f"the hook {decided.by} failed; try again later")
        return Turned(reply, (*steps, _step(decided, why)), f"the hook {decided.by}: {why}")

    # ---- the final dot
    async def message(
        self,
        admission: Admission,
        client: Client,
        reverse_path: ReversePath,
        recipients: tuple[Recipient, ...],
        octets: bytes,
    ) -> Revised | Reply:
        """The message as hooks leave it, or what the final dot is answered instead."""
        paths = tuple(each.forward_path for each in recipients)
        decided = await self.hooks.data(Data(client, reverse_path, paths, Message(octets)))
        match decided.verdict:
            case Refuse() | Defer() as turned:
                return turned.reply
            case Data() as after:
                revised = await self._recipients(admission, decided, after, recipients)
                return revised.reply if isinstance(revised, Turned) else Revised(revised, after.message.octets)
            case Pass() | Redirect() | Via():
                return Revised(recipients, octets)
            case _:
                assert_never(decided.verdict)

    async def _recipients(
        self, admission: Admission, decided: Decided, after: Data, before: tuple[Recipient, ...]
    ) -> tuple[Recipient, ...] | Turned:
        wanted, known = set(after.recipients), {each.forward_path for each in before}
        kept = [each for each in before if each.forward_path in wanted]
        for path in after.recipients:
            if path in known:
                continue
            admitted = await admission.admit(
                path, RcptParameters(), trusted=True, reverse_path=after.reverse_path, account=after.client.account
            )
            if isinstance(admitted, Turned):
                return self._at_fault(decided, f"<{path}> cannot be had: {admitted.reply}")
            kept += [one.recipient for one in admitted.destined]
        if not after.quarantine:
            return tuple(kept)
        try:
            return admission.aside(kept, after.quarantine)
        except LookupError as error:
            return self._at_fault(decided, str(error))


async def _redirected(
    admission: Admission,
    parameters: RcptParameters,
    to: tuple[Mailbox, ...],
    decided: Decided,
    reverse_path: ReversePath,
    account: str,
) -> Admitted:
    """All of these, looked up and routed; the first that is refused refuses the recipient."""
    destined: list[Destined] = []
    steps = [_step(decided, f"→ {', '.join(map(str, to))}")]
    for path in to:
        admitted = await admission.admit(path, parameters, trusted=True, reverse_path=reverse_path, account=account)
        steps += admitted.steps
        if isinstance(admitted, Turned):
            return Turned(admitted.reply, tuple(steps), admitted.trouble)
        destined += admitted.destined
    return Taken(tuple(destined), tuple(steps))


def _by(one: Destined, route: Route) -> Destined:
    return Destined(replace(one.recipient, next_hop=route.next_hop), route)


def _step(decided: Decided, text: str) -> Step:
    return Step("hook", f"{decided.by}: {text}", decided.place)


#: Nobody has a say beside the service.
UNHOOKED: Final = Hooked(NO_HOOKS)
