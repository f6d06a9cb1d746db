"""The mail transactions of one session: what MAIL and RCPT are answered, and by which rules (RFC 5321 §3.3).

What can be told at once is told at once; hooks, the gate and maps are asked in coroutines, and only where there are
some. Not here: the rules themselves (waypost.policy), the body and the 250 to it (incoming.py), or who speaks when
(session.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from waypost.auth.account import Account
from waypost.mail.window import Hourly
from waypost.policy.access import RELAY_CLIENTS_ONLY, refusal_of
from waypost.policy.admission import Admitted, Taken
from waypost.policy.admission import Turned as TurnedAway
from waypost.policy.gate import UNOPPOSED, Action, Unopposed, is_postmaster, not_wanted
from waypost.policy.hooked import Unturned
from waypost.receive.client import ConnectedClient
from waypost.receive.incoming import Incoming, Kept, Transaction, is_blocked, queued
from waypost.receive.judge import (
    HELD_TOO_LONG,
    LATE_ALREADY,
    LOCAL_ERROR,
    LOGIN_FIRST,
    LOWERED,
    NOT_STORED,
    OK_MAIL,
    SEND_BODY,
    SPOOL_FULL,
    TOO_LARGE_FOR_ROUTE,
    TOO_LATE_FOR_ROUTE,
    TOO_MANY_MESSAGES,
    TOO_MANY_RECIPIENTS,
    not_yours,
    release_of,
)
from waypost.receive.login import Anonymous, Client
from waypost.receive.resent import Unheard
from waypost.route.route import Route
from waypost.smtp.command import Mail, Rcpt
from waypost.smtp.event import DataEnd
from waypost.smtp.extension import ByMode, MailParameters, by_of
from waypost.smtp.path import ForwardPath, NullPath, PathError, ReversePath, parse_mailbox
from waypost.smtp.reply import Reply

#: Recipients of one message after all its aliases were followed: each costs a row in the queue.
MAX_RECIPIENTS: Final = 10_000


class _Nothing:
    """There is none."""


_NOTHING: Final = _Nothing()
_NO_TRANSACTION: Final = Transaction(NullPath(), MailParameters(), [])


class Transactions:
    """One session's, one after another."""

    def __init__(self, client: ConnectedClient) -> None:
        self._client = client
        self._transaction = _NO_TRANSACTION
        self._incoming: Incoming | _Nothing = _NOTHING
        self._unheard: Unheard | _Nothing = _NOTHING  # a message whose 250 the client may not have read
        self.reads_body = False  # whether the client's octets are a message's
        self.messages = 0  # stored
        self.told_to_leave = False  # while a message was stored

    @property
    def is_open(self) -> bool:
        """Whether MAIL was taken, and its transaction has not ended."""
        return self._transaction is not _NO_TRANSACTION

    @property
    def body_size(self) -> int:
        """Octets of the body so far."""
        return self._incoming.size if isinstance(self._incoming, Incoming) else 0

    # ---- MAIL
    def mail(self, mail: Mail) -> Reply:
        """Begin a transaction, if this client may."""
        refusal = self._refusal_of(mail.reverse_path)
        if isinstance(refusal, Reply):
            return refusal if refusal.code == 421 else self._refuse_mail(mail, refusal)
        parameters = believed(mail.parameters, self._client.login.client)
        now = self._client.house.clock.now()
        released_at = release_of(parameters, now)
        if released_at > now + self._client.door.smtp.future_release.total_seconds():
            return self._refuse_mail(mail, HELD_TOO_LONG)
        if _is_late(parameters, released_at - now):
            return self._refuse_mail(mail, LATE_ALREADY)
        if parameters.prdr:  # a matter of this session alone
            parameters = replace(parameters, prdr=False)
        lowered = parameters.priority > 0 and not self._client.trusted()
        if lowered:
            parameters = replace(parameters, priority=0)
        self._transaction = Transaction(mail.reverse_path, parameters, [], released_at=released_at)
        return LOWERED if lowered else OK_MAIL

    async def consider_mail(self, mail: Mail) -> Reply:
        """As `mail`, where hooks or the gate have a say in what we would take ourselves: nothing has begun before."""
        reply = self.mail(mail)
        if not reply.is_positive:
            return reply
        begun, self._transaction = self._transaction, _NO_TRANSACTION
        verdict = await self._opinion_of(mail)
        if isinstance(verdict, Reply) and not verdict.is_positive:
            return self._refuse_mail(mail, verdict)
        self._transaction = begun
        return verdict if isinstance(verdict, Reply) else reply

    async def _opinion_of(self, mail: Mail) -> Reply | Unturned | Unopposed:
        """What the gate says of MAIL, then what hooks do: what may begin at all counts for the rates."""
        client = self._client
        if client.house.gate.watches and isinstance(opinion := await client.house.gate.sends(client.visitor()), Reply):
            return opinion
        if not client.hooked.mails:
            return UNOPPOSED
        return await client.hooked.mail(client.as_client(), mail.reverse_path, mail.parameters.size)

    def _refusal_of(self, path: ReversePath) -> Reply | _Nothing:
        """Why this client may send nothing now, or not under this reverse-path."""
        client = self._client
        who, door, house = client.login.client, client.door, client.house
        if self.messages >= (door.messages or house.settings.messages):
            return TOO_MANY_MESSAGES
        if door.demands_login and isinstance(who, Anonymous):
            return LOGIN_FIRST
        if not isinstance(who, Anonymous) and not who.may_use(path):
            return not_yours(who.name, path)
        if door.relay_clients_only and not client.trusted():
            return RELAY_CLIENTS_ONLY
        if is_blocked(path, house.senders) and not house.senders.quarantine:
            return refusal_of(path)
        if house.space.gone:
            return NOT_STORED
        return SPOOL_FULL if house.space.is_low else _NOTHING

    def _refuse_mail(self, mail: Mail, reply: Reply) -> Reply:
        return self._client.refuse(f"MAIL FROM:<{mail.reverse_path}>", reply)

    # ---- RCPT
    def rcpt(self, rcpt: Rcpt) -> Reply:
        """Take a recipient of whom all is known here."""
        client = self._client
        return self._admitted(
            rcpt.forward_path,
            client.house.admission.at_once(
                rcpt.forward_path,
                rcpt.parameters,
                trusted=client.trusted(),
                reverse_path=self._transaction.reverse_path,
                account=client.account,
            ),
        )

    async def consider_rcpt(self, rcpt: Rcpt) -> Reply:
        """As `rcpt`, for a recipient of whom maps, hooks or the gate have to be asked, each with its time-out."""
        if self._client.house.gate.watches:
            return await self._screened(rcpt)
        return self._admitted(rcpt.forward_path, await self._judged(rcpt))

    async def _judged(self, rcpt: Rcpt) -> Admitted:
        client, author = self._client, self._transaction.reverse_path
        path, parameters, admission = rcpt.forward_path, rcpt.parameters, client.house.admission
        if not client.hooked.recipients:
            return await admission.admit(
                path, parameters, trusted=client.trusted(), reverse_path=author, account=client.account
            )
        return await client.hooked.recipient(
            admission, client.as_client(), author, path, parameters, trusted=client.trusted()
        )

    async def _screened(self, rcpt: Rcpt) -> Reply:
        """What a recipient is answered where there is a gate: a listed client learns of no recipient who exists."""
        path, gate, transaction = rcpt.forward_path, self._client.house.gate, self._transaction
        visitor, line = self._client.visitor(), f"RCPT TO:<{path}>"
        if not transaction.is_screened:
            transaction.screened, transaction.is_screened = await gate.screen(visitor, transaction.reverse_path), True
        if transaction.screened.action is Action.REFUSE and not is_postmaster(path):
            return self._client.refuse(line, not_wanted(transaction.screened, visitor.host))
        admitted = await self._judged(rcpt)
        if isinstance(admitted, Taken):
            opinion = await gate.names(visitor, transaction.reverse_path, path, transaction.screened)
            if isinstance(opinion, Reply):
                return self._client.refuse(line, opinion)
        return self._admitted(path, admitted)

    def _admitted(self, path: ForwardPath, admitted: Admitted) -> Reply:
        client, transaction = self._client, self._transaction
        match admitted:
            case Taken(destined, _, left_out, reply):
                for one in destined:
                    if 0 < one.route.limits.size < transaction.parameters.size:
                        return client.refuse(f"RCPT TO:<{path}>", TOO_LARGE_FOR_ROUTE)
                    if transaction.parameters.by and self._opens_too_late(one.route):
                        return client.refuse(f"RCPT TO:<{path}>", TOO_LATE_FOR_ROUTE)
                if len(transaction.recipients) > MAX_RECIPIENTS:
                    return client.refuse(f"RCPT TO:<{path}>", TOO_MANY_RECIPIENTS)
                transaction.take(admitted)
                client.undecided(path, "; ".join(left_out))
                return reply
            case TurnedAway(reply, _, trouble):
                client.undecided(path, trouble)
                return client.refuse(f"RCPT TO:<{path}>", reply)
            case _:
                assert_never(admitted)

    def _opens_too_late(self, route: Route) -> bool:
        """Whether its hours begin only when the author wants the message back (RFC 2852 §4): he is told at once."""
        by, window = by_of(self._transaction.parameters.by), route.window
        if by.mode is not ByMode.RETURN or not isinstance(window, Hourly) or window.waited or window.messages:
            return False
        now = self._client.house.clock.now()
        return window.opens(max(now, self._transaction.released_at)) >= now + by.seconds

    # ---- the message
    def data(self) -> Reply:
        """Begin to read a message."""
        self._incoming, self.reads_body = Incoming(self._client, self._transaction), True
        return SEND_BODY

    def gather(self, octets: bytes) -> bool:
        """Keep a piece of the body. True: `spill` is due."""
        return isinstance(self._incoming, Incoming) and self._incoming.gather(octets)

    async def spill(self) -> None:
        """Write what there is of the body to the spool."""
        if isinstance(self._incoming, Incoming):
            await self._incoming.spill()

    async def end(self, end: DataEnd) -> Reply:
        """The final dot: the transaction is over, whatever is answered."""
        incoming = self._incoming
        if not isinstance(incoming, Incoming):
            return LOCAL_ERROR
        try:
            kept = await incoming.end(end.fault)
            if not isinstance(kept, Kept):
                return kept
            self.messages += 1
            self.was_heard()  # of two messages in one segment only the last is remembered
            self._unheard = Unheard(kept.sent, kept.stored.id, self._client.house.in_flight)
            await incoming.hand_over(kept)
            return queued(kept.stored.id)
        finally:
            self.told_to_leave = self.told_to_leave or incoming.told_to_leave
            await self.forget()

    def was_heard(self) -> None:
        """A client that goes on has read our last 250."""
        if isinstance(self._unheard, Unheard):
            self._unheard.heard()
            self._unheard = _NOTHING

    async def forget(self) -> None:
        """Let go of the transaction, and of the body where one was begun."""
        self._transaction = _NO_TRANSACTION
        incoming, self._incoming, self.reads_body = self._incoming, _NOTHING, False
        if isinstance(incoming, Incoming):
            await incoming.discard()

    async def close(self) -> None:
        """The session is over: its client may not have heard of what was stored last."""
        await self.forget()
        if isinstance(self._unheard, Unheard):
            self._unheard.lost(self._client.house.resent)


def believed(parameters: MailParameters, client: Client) -> MailParameters:
    """The parameters, without an AUTH= that this client may not assert: as if it had said `<>` (RFC 4954 §5)."""
    submitter = parameters.submitter
    if submitter in ("", "<>"):
        return parameters
    try:
        if isinstance(client, Account) and client.may_use(parse_mailbox(submitter)):
            return parameters
    except PathError:
        pass  # no mailbox at all, and so nobody's
    return replace(parameters, submitter="<>")


def _is_late(parameters: MailParameters, held: float) -> bool:
    """Whether what is to come back after BY has to be held for longer than that (RFC 2852 §4)."""
    if not parameters.by:
        return False
    by = by_of(parameters.by)
    return by.mode is ByMode.RETURN and held >= by.seconds
