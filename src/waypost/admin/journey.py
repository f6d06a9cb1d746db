"""What would become of a message, step by step, and the line that decides each: asked of the code that live mail runs.

Nothing is sent, and nothing is connected to; names are looked up. Not here: how it is printed (explanation_words.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, assert_never

from waypost.admin.answers import FailureKind, HostTls, OperationError, Resolution, ResolvedHost
from waypost.admin.explanation import Fact, Journey, Leg, Question
from waypost.admin.journey_retries import asked_priority, retries
from waypost.admin.words import when
from waypost.auth.account import Account
from waypost.auth.authenticator import UserFile
from waypost.auth.users import UsersError
from waypost.config import Config
from waypost.config.model import Listener
from waypost.config.parts import access, copies, login_at, relay_policy, senders
from waypost.config.units import format_duration, format_size
from waypost.hooks.values import Client, Connect, Defer, MailFrom, Point, Refuse
from waypost.mail.content import AS_IT_CAME
from waypost.mail.envelope import NextHop
from waypost.mail.explain import plain
from waypost.mail.window import Hourly, waits_for
from waypost.net.clock import Instant
from waypost.policy.access import (
    DRAINING,
    HELD_BACK,
    NOT_FROM_YOU,
    RELAY_CLIENTS_ONLY,
    Entry,
    Network,
    SenderBlock,
    refusal_of,
)
from waypost.policy.admission import Admission, Destined, RelayPolicy, Taken, Turned, is_nested
from waypost.policy.hooked import UNHOOKED, Hooked
from waypost.policy.rewriting import RewritingError, Rewritings, Turn
from waypost.route.level import is_fixed
from waypost.route.onward import counted_for
from waypost.route.route import LmtpServers, NoRoute, Pipe, Route, SmtpMx, SmtpServers, TlsPolicy, Webhook
from waypost.route.state import DestinationState, Phase
from waypost.route.table import domain_of_key, patterns_of
from waypost.route.target import RecipientMx, target_text
from waypost.smtp.extension import RcptParameters
from waypost.smtp.login import Credentials
from waypost.smtp.path import ForwardPath, Mailbox, NullPath, PathError, ReversePath, parse_mailbox
from waypost.smtp.path import Postmaster as BarePostmaster

#: Recipients of one question: each may cost look-ups.
MAX_ASKED: Final = 100

_TLS: Final = {
    TlsPolicy.NONE: "never, everything goes in clear",
    TlsPolicy.OPPORTUNISTIC: "where STARTTLS is offered, with any certificate; else in clear",
    TlsPolicy.REQUIRED: "never in clear, any certificate; a host without STARTTLS makes mail wait",
    TlsPolicy.VERIFY: "never in clear, and the certificate must be the host's; else mail waits",
    TlsPolicy.DANE: "never in clear, and by the domain's signed TLSA records; else mail waits",
    TlsPolicy.MTA_STS: "never in clear, and by the domain's MTA-STS policy; else mail waits",
    TlsPolicy.AUTO: "DANE where the domain has it, else MTA-STS where it has that, else where STARTTLS is offered",
}


_RELAYING: Final = {"always": "whoever reaches it may send anywhere", "never": "nobody may send elsewhere from there"}


@dataclass(frozen=True, slots=True)
class _Nobody:
    """Nobody logs in."""


@dataclass(frozen=True, slots=True)
class NotRunning:
    """No service runs, so that nobody knows what its destinations do."""


@dataclass(frozen=True, slots=True)
class Explainer:
    """Puts the question to each decision in turn."""

    config: Config
    admission: Admission
    now: Instant
    hooked: Hooked = UNHOOKED
    rewritings: Rewritings = field(default_factory=dict)

    # ---- before RCPT
    def session(self, question: Question) -> tuple[tuple[Fact, ...], bool]:
        """Who the client is, and whether it may send at all; and whether it may relay through us.

        Raises: OperationError, where the question itself cannot be understood.
        """
        account = self._account(question.account)
        facts = [*self._connection(question.client)]
        trusted, client = self._client(question.client)
        trusted = self._may_relay(question, trusted=trusted or isinstance(account, Account))
        facts += [*self._mode(trusted=trusted), client, self._listener(question), *self._login(account)]
        facts += [self._sender(question, account), *self._author(question, account), *self._message(question)]
        facts += self._priority(question, trusted=trusted)
        return tuple(facts), trusted

    def _may_relay(self, question: Question, *, trusted: bool) -> bool:
        """What its network or account says, unless the listener says otherwise."""
        _, listener = self._door_of(question)
        is_open = trusted or listener.relay == "always"
        return is_open and listener.relay != "never" and not relay_policy(self.config).bars(question.client)

    def _connection(self, host: str) -> Iterator[Fact]:
        """Whether it may connect; nothing is said where nobody is turned away."""
        try:
            found = access(self.config).of(host)
        except ValueError:
            raise OperationError(
                FailureKind.BAD_REQUEST, f"{host!r} is no numeric address", "give one such as 192.0.2.1 to --client"
            ) from None
        if isinstance(found, Entry):
            text = f"{host} is in {found.network}: {'it may connect' if found.accepts else str(NOT_FROM_YOU)}"
            yield Fact("connection", text, found.place, stops=not found.accepts)

    def _client(self, host: str) -> tuple[bool, Fact]:
        relay = self.config.relay.networks
        inside = [index for index, network in enumerate(relay) if RelayPolicy((network,)).trusts(host)]
        if relay_policy(self.config).bars(host):
            place = self.config.places.of("relay", "never")
            return False, Fact("client", f"{host} may never relay: it may send to our own domains", place)
        if inside:
            place = self.config.places.of("relay", "networks", inside[0])
            return True, Fact("client", f"{host} is in {relay[inside[0]]}: it may send anywhere", place)
        text = f"{host} is in no network of [relay]: it may send to our own domains"
        return False, Fact("client", text, self.config.places.of("relay", "networks"))

    def _listener(self, question: Question) -> Fact:
        """The listener such a client would take: for submission where it logs in, else one for everybody."""
        index, listener = self._door_of(question)
        place = self.config.places.of("listener", index)
        demands = login_at(listener, self.config) == "required" and not _is_in(question.client, listener.exempt)
        if demands and not question.account:
            text = f"{_door(listener)} takes mail of accounts only: 530 5.7.0"
            return Fact("listener", text, place, stops=True)
        if listener.relay:
            text = f"{_door(listener)}: {_RELAYING[listener.relay]}"
            return Fact("listener", text, self.config.places.of("listener", index, "relay"))
        return Fact("listener", _door(listener), place)

    def _door_of(self, question: Question) -> tuple[int, Listener]:
        wanted = "submission" if question.account else "mx"
        return min(enumerate(self.config.listeners), key=lambda each: each[1].role != wanted)

    def _mode(self, *, trusted: bool) -> Iterator[Fact]:
        """What `service.mode` shuts out; nothing is said where all may pass."""
        place = self.config.places.of("service", "mode")
        match self.config.service.mode:
            case "flush":
                yield Fact("mode", f"flush: nothing is taken, {DRAINING}", place, stops=True)
            case "outbound":
                text = "outbound: our own clients' mail alone is taken"
                yield Fact("mode", text if trusted else f"{text}: {RELAY_CLIENTS_ONLY}", place, stops=not trusted)
            case "inbound":
                yield Fact("mode", "inbound: no route leads out", place)
            case "both":
                pass
            case _:
                assert_never(self.config.service.mode)

    def _login(self, account: Account | _Nobody) -> Iterator[Fact]:
        if isinstance(account, Account):
            own = ", ".join(account.may_send_as)
            place = self.config.places.of("auth", "users")
            yield Fact("account", f"{account.name} may send anywhere, as {own}", place)

    def _account(self, name: str) -> Account | _Nobody:
        if not name:
            return _Nobody()
        if not self.config.auth.users:
            raise OperationError(
                FailureKind.BAD_REQUEST, "there are no accounts: [auth] names no users' file", "leave --auth out"
            )
        file = UserFile(self.config.users, self.config.account_domain)
        try:
            user = file.users().get(name.lower())
        except UsersError as error:
            raise OperationError(FailureKind.UNAVAILABLE, str(error), "mend the users' file") from error
        if user is None:
            raise OperationError(FailureKind.NOT_FOUND, f"there is no account {name}", "see waypost user list")
        return file.account(user)

    def _sender(self, question: Question, account: Account | _Nobody) -> Fact:
        path = reverse_path(question.reverse_path)
        if isinstance(account, Account) and not account.may_use(path):
            return Fact(
                "sender", f"<{path}> is no reverse-path of {account.name}: 553 5.7.1", "may_send_as", stops=True
            )
        blocking = senders(self.config)
        found = blocking.of(path)
        if isinstance(found, SenderBlock) and blocking.quarantine == HELD_BACK:
            return Fact("sender", f"<{path}> is blocked: it is held in quarantine", found.place)
        if isinstance(found, SenderBlock) and blocking.quarantine:
            return Fact("sender", f"<{path}> is blocked: all goes by the route {blocking.quarantine}", found.place)
        if isinstance(found, SenderBlock):
            return Fact("sender", str(refusal_of(path)), found.place, stops=True)
        return Fact("sender", f"<{path}>{'' if str(path) else ', a notification'}", "the question")

    def _author(self, question: Question, account: Account | _Nobody) -> Iterator[Fact]:
        """Whose the From field has to be; nothing is said where any will do."""
        rule, author = self.config.auth.from_field, question.message.author
        if isinstance(account, _Nobody) or rule == "any":
            return
        is_own = not author or account.may_use(reverse_path(author))
        otherwise = "554 5.7.1" if rule == "refuse" else "a Sender field is added"
        text = f"From has to be the account's own, else {otherwise}"
        text += "" if is_own else f": <{author}> is not"
        yield Fact("author", text, self.config.places.of("auth", "from_field"), stops=not is_own and rule == "refuse")

    def _message(self, question: Question) -> Iterator[Fact]:
        limits, places, message = self.config.limits, self.config.places, question.message
        if not message.size:
            return
        index, listener = self._door_of(question)
        most = listener.message_size or limits.message_size
        own = places.of("listener", index, "message_size")
        place = own if listener.message_size else places.of("limits", "message_size")
        bound = f"of at most {format_size(most)}"
        if message.size > most:
            yield Fact("message", f"{message.size} octets {bound}: 552 5.3.4", place, stops=True)
        else:
            yield Fact("message", f"{message.size} octets {bound}", place)
        if message.hops >= limits.hops:
            text = f"{message.hops} Received lines: it goes in circles, 554 5.4.6"
            yield Fact("message", text, places.of("limits", "hops"), stops=True)
        if not message.is_ascii:
            yield Fact("message", "8-bit text: hosts without 8BITMIME need it converted", "the message")

    def _priority(self, question: Question, *, trusted: bool) -> Iterator[Fact]:
        if not -9 <= question.priority <= 9:
            raise OperationError(
                FailureKind.BAD_REQUEST, f"{question.priority} is no priority", "give one from -9 to 9 (RFC 6710)"
            )
        return asked_priority(question, trusted=trusted, relay=self.config.places.of("relay", "networks"))

    # ---- RCPT
    async def hooks(self, question: Question) -> Sequence[Fact]:
        """What hooks say before RCPT, and which are asked later."""
        client, hooks = _client_of(question), self.hooked.hooks
        path = reverse_path(question.reverse_path)
        asked = (
            (Point.CONNECT, Connect(client)),
            (Point.MAIL, MailFrom(client, path, question.message.size)),
        )
        facts = []
        for point, event in asked:
            async for decided in hooks.heard(point, event):
                said = decided.verdict.reply if isinstance(decided.verdict, Refuse | Defer) else ""
                text = f"{decided.by}: {said}" if said else f"{decided.by} lets it pass"
                facts.append(Fact("hook", text, decided.place, stops=bool(said)))
        return (*facts, *self._later_hooks())

    def _later_hooks(self) -> Iterator[Fact]:
        """Those that would be asked about the message itself, or its delivery, or be told: there is neither yet."""
        for module in self.hooked.hooks.modules:
            later = [point.value for point in (Point.DATA, Point.BEFORE_DELIVERY) if point in module.hooks]
            if later:
                text = f"{module.name} has a say later too: {', '.join(later)}"
                yield Fact("hook", text, module.place)
            if Point.AFTER_OUTCOME in module.hooks:
                yield Fact("hook", f"{module.name} is told what becomes of it", module.place)

    def _passing(self, admitted: Taken | Turned) -> Iterator[Fact]:
        """The hooks that were asked of a recipient, and had nothing to say: up to the one that has turned it away."""
        said = [step.text.partition(":")[0] for step in admitted.steps if step.what == "hook"]
        for point in (Point.RCPT, Point.ROUTE):
            for module in self.hooked.hooks.modules:
                name = f"{module.name}.{point.value}"
                if name in said:
                    if isinstance(admitted, Turned):
                        return
                    break
                if point in module.hooks:
                    yield Fact("hook", f"{name} lets it pass", module.place)

    def _copies(self, question: Question, destined: Sequence[Destined]) -> Iterator[Fact]:
        """Who gets a copy that nobody sees."""
        paths = [one.recipient.forward_path for one in destined]
        for copy in copies(self.config).of(reverse_path(question.reverse_path), paths):
            yield Fact("copy", f"<{copy.to}> gets one, unseen", copy.place)

    async def recipient(self, asked: str, question: Question, *, trusted: bool) -> tuple[Journey, Sequence[Destined]]:
        """What RCPT would be answered, and whom the message would go to; their ways are the caller's to add."""
        try:
            path = forward_path(asked)
        except PathError as error:
            return Journey(asked, f"501 5.1.3 {error}", is_taken=False, facts=(), legs=()), ()
        admitted = await self.hooked.recipient(
            self.admission,
            _client_of(question),
            reverse_path(question.reverse_path),
            path,
            RcptParameters(),
            trusted=trusted,
        )
        facts = tuple(Fact(step.what, step.text, self._place(step.place)) for step in admitted.steps)
        match admitted:
            case Taken(destined, _, left_out):
                facts += (*self._passing(admitted), *self._copies(question, destined))
                facts += tuple(Fact("left out", text, "no way", stops=True) for text in left_out)
                return Journey(asked, str(admitted.reply), is_taken=True, facts=facts, legs=()), destined
            case Turned(reply, steps, trouble):
                facts += tuple(self._passing(admitted)) if any(step.what == "hook" for step in steps) else ()
                facts += (Fact("trouble", trouble, "the map", stops=True),) if trouble else ()
                facts += () if facts else self._refusing_route(path, question)
                return Journey(asked, str(reply), is_taken=False, facts=facts, legs=()), ()
            case _:
                assert_never(admitted)

    def _refusing_route(self, path: ForwardPath, question: Question) -> tuple[Fact, ...]:
        """The route the recipient would have had, or why there is none."""
        if is_nested(path):
            return (Fact("nested", "only who may send anywhere may write such an address", "always", stops=True),)
        match self.admission.router.route(path, reverse_path(question.reverse_path), question.account):
            case NoRoute(detail):
                return (Fact("route", detail, "no [[route]]", stops=True),)
            case Route(relay_only=True) as route:
                text = f"{_pattern(route)} is for clients that may send anywhere"
                return (Fact("route", text, _after_at(route.rule), stops=True),)
            case Route() as route:
                return (Fact("route", f"{_pattern(route)} refuses", _after_at(route.rule), stops=True),)
            case never:
                assert_never(never)

    def _place(self, place: str) -> str:
        """A key of a section as its line."""
        section, dot, key = place.partition(".")
        return self.config.places.of(section, key) if dot and ":" not in place and section == "service" else place

    # ---- the way of one recipient
    def leg(
        self,
        destined: Destined,
        found: Resolution,
        states: Sequence[DestinationState] | NotRunning,
        *,
        used: Sequence[str] = (),
        turns: Sequence[str] = (),
        size: int = 0,
        priority: int = 0,
    ) -> Leg:
        """Route, hosts, TLS, credentials, limits, and what follows a failure.

        `used`: of its quotas, a line each; `turns`: what its addresses become; `size`: of the message, in octets;
        `priority`: what it would have.
        """
        route = destined.route
        facts = [
            Fact("route", f"{target_text(route.transport)}, for {_pattern(route)}", _after_at(route.rule)),
            *_hosts(found),
            *self._means(route, found),
            self._limits(route),
            *self._too_large(route, size),
            *self._rewriting(route, turns),
            *self._onward(route, used),
            *_window(route, self.now),
            *_content(route),
            _state(route.next_hop, states),
            *retries(route, priority, self.config, partial(self._key, route)),
        ]
        is_remote = isinstance(route.transport, SmtpServers | SmtpMx | LmtpServers)
        told = {"route", "size", "rewriting", "window", "content", "retries", "otherwise"}
        if isinstance(route.transport, Webhook | Pipe):
            told |= {"limits", "quota", "fallback", "state"}
        local = [fact for fact in facts if fact.step in told]
        return Leg(str(destined.recipient.forward_path), tuple(facts if is_remote else local))

    def _means(self, route: Route, found: Resolution) -> Iterator[Fact]:
        if isinstance(route.transport, LmtpServers):
            yield Fact("tls", "none: LMTP goes to a mail store of ours", "LMTP")
            return
        levels = () if is_fixed(route.tls) else tuple(_level(tls) for tls in found.tls)
        yield Fact("tls", f"{route.tls.value}: {_TLS[route.tls]}", self._key(route, "tls"), levels)
        if isinstance(route.credentials, Credentials):
            text = f"logs in as {route.credentials.username}"
            yield Fact("credential", text, self._key(route, "username"))
        else:
            yield Fact("credential", "none: does not log in", self._key(route, "username"))

    def _limits(self, route: Route) -> Fact:
        limits, manner = route.limits, route.manner
        text = (
            f"{limits.concurrency} connections at once, {limits.recipients} recipients a transaction, "
            f"{limits.messages} messages a connection"
        )
        text += f", one every {limits.pace:g} s" if limits.pace else ""
        text += f", {format_size(limits.size)} a message" if limits.size else ""
        text += f", as {manner.helo}" if manner.helo else ""
        text += f", from {' or '.join(manner.sources)}" if manner.sources else ""
        keys = ("concurrency", "recipients", "messages", "rate", "size", "helo", "source")
        written = [key for key in keys if self._key(route, key) != "default"]
        return Fact("limits", text, ", ".join(self._key(route, key) for key in written) or "default")

    def _too_large(self, route: Route, size: int) -> Iterator[Fact]:
        """What its route makes of a message that is too large for it."""
        if 0 < route.limits.size < size:
            most = route.limits.size
            text = f"{size} octets, and the route takes {most}: 552 5.3.4 to a declared SIZE, else it is returned"
            yield Fact("size", text, self._key(route, "size"), stops=True)

    def _rewriting(self, route: Route, turns: Sequence[str]) -> Iterator[Fact]:
        """What becomes of addresses on the way out, where anything does."""
        words = self.config.addresses.of(route.name)
        if words:
            places = (self._key(route, "rewrite_sender"), self._key(route, "generic"), self.config.addresses.place)
            yield Fact("rewriting", words, next(place for place in places if place != "default"), tuple(turns))

    async def turns(self, route: Route, question: Question, asked: str) -> Sequence[str]:
        """What the addresses of a message become on this way, as live mail asks: a line each.

        Where no message is given, its From is taken to be the reverse-path, and its To the recipient.
        """
        if route.name not in self.rewritings:
            return ()
        way = self.rewritings[route.name]
        asking: tuple[tuple[str, str, Callable[[Mailbox], Awaitable[Sequence[Turn]]]], ...] = (
            ("MAIL", question.reverse_path, partial(way.sender_turns, now=self.now)),
            ("From", question.message.author or question.reverse_path, way.author_turns),
            ("To", asked, way.recipient_turns),
        )
        return [await _turned(where, text, ask) for where, text, ask in asking if "@" in text]

    def _onward(self, route: Route, used: Sequence[str]) -> Iterator[Fact]:
        """Quotas and fallback, where there are any."""
        onward = route.onward
        if onward.quotas:
            text = f"{' and '.join(map(str, onward.quotas))}, counted for {counted_for(onward, route.name)}"
            yield Fact("quota", text, self._key(route, "quota"), tuple(used))
        if onward.fallback:
            waited = f" or {format_duration(onward.after)}" if onward.after else ""
            text = f"{onward.fallback}, after {onward.attempts} attempts{waited}"
            text += ", and when the quota is spent" if onward.quotas else ""
            yield Fact("fallback", text, self._key(route, "fallback"))

    def _key(self, route: Route, key: str) -> str:
        """The line of a route's setting, or of the `[[destination]]` that says otherwise."""
        places, indices = self.config.places, [n for n, rule in enumerate(self.config.rules) if rule.name == route.name]
        own = [places.of("destination", index, key) for index in self._overriding(route, indices)]
        own += [places.of("route", index, key) for index in indices]
        return next((place for place in own if place != "default"), "default")

    def _overriding(self, route: Route, indices: Sequence[int]) -> Iterable[int]:
        """Which `[[destination]]` has a say in it: the most specific, of a route by `mx:`."""
        if not any(isinstance(self.config.rules[index].target, RecipientMx) for index in indices):
            return ()
        known = {pattern: n for n, one in enumerate(self.config.overrides) for pattern in one.patterns}
        domain = str(domain_of_key(NextHop(route.next_hop.partition("#")[0])))
        return [known[pattern] for pattern in patterns_of(domain) if pattern in known][:1]


async def _turned(where: str, text: str, ask: Callable[[Mailbox], Awaitable[Sequence[Turn]]]) -> str:
    """One address, and what each rule makes of it."""
    mailbox = parse_mailbox(text.removeprefix("<").removesuffix(">"))
    try:
        turns = await ask(mailbox)
    except RewritingError as error:
        return f"{where} <{mailbox}> cannot be looked up, and mail waits: {error}"
    becomes = [f"<{turn.mailbox}> by {turn.rule} ({turn.place})" for turn in turns]
    return f"{where} <{mailbox}> {'stays' if not becomes else '→ ' + ' → '.join(becomes)}"


def _content(route: Route) -> Iterator[Fact]:
    """What the route makes of messages; nothing is said of one that passes them on as they came."""
    content = route.content
    if content is AS_IT_CAME:
        return
    wishes = content.wishes
    made = [name for name in ("tnef", "uuencode", "binhex") if getattr(wishes, name)]
    said = [
        *([f"{', '.join(made)} to MIME"] if made else ()),
        *([f"texts in {wishes.charset}"] if wishes.charset else ()),
        *([f"lines of {wishes.wrap}"] if wishes.wrap else ()),
        *(["automatic replies suppressed"] if content.suppresses_replies else ()),
    ]
    yield Fact("content", "; ".join(said), content.place)


def _window(route: Route, now: Instant) -> Iterator[Fact]:
    """When it delivers; nothing is said of a route that always does."""
    if isinstance(route.window, Hourly):
        is_open = route.window.is_open(now)
        text = f"{route.window.text}: open now" if is_open else waits_for(route.window, now)
        yield Fact("window", text, route.window.place, stops=not is_open)


def _is_in(host: str, networks: tuple[Network, ...]) -> bool:
    return RelayPolicy(networks).trusts(host)


def reverse_path(text: str) -> ReversePath:
    """The reverse-path of a question. Raises: OperationError."""
    if not text.strip("<>"):
        return NullPath()
    try:
        return parse_mailbox(text.removeprefix("<").removesuffix(">"))
    except PathError as error:
        raise OperationError(FailureKind.BAD_REQUEST, str(error), "give one such as user@example.org") from error


def _client_of(question: Question) -> Client:
    """Who would ask, as hooks know him."""
    return Client(question.client, account=question.account, rehearsal=True)


def forward_path(text: str) -> ForwardPath:
    """The recipient of a question. Raises: PathError."""
    bare = text.removeprefix("<").removesuffix(">")
    return BarePostmaster() if bare.lower() == "postmaster" else parse_mailbox(bare)


def _door(listener: Listener) -> str:
    return f"{listener.role} on {listener.address}"


def _level(tls: HostTls) -> str:
    """What a session with one host has to have, and why."""
    return f"{tls.host}: {tls.level or 'not used'}, by {tls.why}"


def _pattern(route: Route) -> str:
    return route.rule.rpartition(" at ")[0]


def _after_at(rule: str) -> str:
    return rule.rpartition(" at ")[2]


def _hosts(found: Resolution) -> Iterator[Fact]:
    if found.dns:
        details = tuple(map(_exchanger, found.exchangers))
        yield Fact("dns", found.dns, "DNS", details)
    if found.trouble:
        yield Fact("hosts", plain(found.trouble), "DNS", stops=True)
    elif found.hosts:
        yield Fact("hosts", "tried in this order", "DNS", found.hosts)


def _exchanger(host: ResolvedHost) -> str:
    line = f"{host.preference:>3} {host.name} {', '.join(host.addresses)}".rstrip()
    return f"{line}: {host.trouble}" if host.trouble else line


def _state(next_hop: NextHop, states: Sequence[DestinationState] | NotRunning) -> Fact:
    """What the next hop is doing now, as the dispatcher tells."""
    if isinstance(states, NotRunning):
        return Fact("state", "the service is not running: not known", "nobody")
    for state in states:
        if state.next_hop == next_hop:
            waits = (plain(state.cause),) if state.cause else ()
            if state.phase is Phase.RESTING:
                return Fact("state", f"rests until {when(state.rests_until)}", "the service", waits, stops=True)
            text = f"{state.phase.value}, {state.running} attempts under way of {state.window} it may have now"
            return Fact("state", text, "the service", waits)
    return Fact("state", "nothing waits for it, and nothing holds it up", "the service")
