"""A map that asks the mail store itself: RCPT, over LMTP or SMTP, in a transaction that is never finished.

2yz: the recipient exists; 5yz to RCPT: it does not; all else is trouble, and trouble is no answer. A store that cannot
be reached is left alone for a while, so that clients who try again do not become its next trouble.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from waypost.mail.talk import Talk, TalkError
from waypost.maps.lookup import NOT_LISTED, AskError, Keys, Listed, Lookup, Map, MapTrouble
from waypost.net.clock import Clock
from waypost.net.dialer import Dialer
from waypost.net.stream import Endpoint, Fault

#: How long nobody asks a store that could not be reached.
REST: Final = timedelta(seconds=10)


class StoreTroubleError(AskError):
    """The store gave no answer that is one."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where to ask. `endpoint`: a numeric address, or the path of a Unix socket."""

    endpoint: Endpoint
    lmtp: bool

    def __str__(self) -> str:
        return f"{'LMTP' if self.lmtp else 'SMTP'} at {self.endpoint}"


class CallAhead:
    """Asks `store`, in the name of the host `hello`; each step of the dialogue may take `within`."""

    def __init__(self, store: Store, hello: str, within: timedelta, dialer: Dialer, clock: Clock) -> None:
        self._store = store
        self._hello = hello
        self._within = within
        self._dialer = dialer
        self._clock = clock
        self._rests_until = float("-inf")

    async def __call__(self, key: str) -> Lookup:
        """Whether the store would take mail for `key`. Raises: StoreTroubleError."""
        if key.startswith("@"):
            return NOT_LISTED
        if self._clock.monotonic() < self._rests_until:
            raise StoreTroubleError(f"{self._store} could not be reached a moment ago")
        stream = await self._dialer.dial(self._store.endpoint, self._within)
        if isinstance(stream, Fault):
            self._rests_until = self._clock.monotonic() + REST.total_seconds()
            raise StoreTroubleError(f"{self._store}: {stream}")
        try:
            return await self._ask(Talk(stream, self._within), key)
        except TalkError as error:
            raise StoreTroubleError(f"{self._store}: {error}") from error
        finally:
            stream.abort()

    async def _ask(self, talk: Talk, key: str) -> Lookup:
        greeting = await talk.hear()
        if not greeting.is_positive:
            raise StoreTroubleError(f"{self._store} greeted with {greeting}")
        await self._greet(talk)
        utf8 = "" if key.isascii() else " SMTPUTF8"
        mail = await talk.say(f"MAIL FROM:<>{utf8}")
        if not mail.is_positive:
            raise StoreTroubleError(f"{self._store} answered MAIL with {mail}")
        rcpt = await talk.say(f"RCPT TO:<{key}>")
        await talk.leave()
        if rcpt.is_positive:
            return Listed((key,), f"{self._store}: {rcpt}")
        if rcpt.is_permanent:
            return NOT_LISTED
        raise StoreTroubleError(f"{self._store} answered RCPT with {rcpt}")

    async def _greet(self, talk: Talk) -> None:
        reply = await talk.say(f"{'LHLO' if self._store.lmtp else 'EHLO'} {self._hello}")
        if reply.is_permanent and not self._store.lmtp:
            reply = await talk.say(f"HELO {self._hello}")
        if not reply.is_positive:
            raise StoreTroubleError(f"{self._store} answered our greeting with {reply}")


class Lenient:
    """A map whose trouble lists everybody: for who would rather take a message too many than have one wait."""

    def __init__(self, asked: Map) -> None:
        self.name = asked.name
        self.keys: Keys = asked.keys
        self._asked = asked

    async def look_up(self, key: str) -> Lookup:
        found = await self._asked.look_up(key)
        return Listed((key,), f"accept_when_down; {found.detail}") if isinstance(found, MapTrouble) else found
