"""Mail that comes by another way than SMTP (HTTP, files), handed in at a door of ours that has no socket.

It goes through a session like any other client's, over a connection in memory: what judges mail at RCPT, MAIL and the
final dot judges this too, with the same replies, and nothing of it is written twice. Not here: how it came (http.py,
pickup.py), and what a session decides (session.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Protocol, TypeAlias

import msgspec

from waypost.auth.account import ANYONE, Account
from waypost.mail.envelope import MessageId
from waypost.mail.errand import Errand, Letter, unwatched
from waypost.net.clock import Clock
from waypost.net.memory import connected_pair
from waypost.net.stream import Endpoint, Stream
from waypost.queue.shelf import Absent
from waypost.queue.storage import Storage
from waypost.receive.login import Guest
from waypost.receive.settings import Door
from waypost.smtp.client import ClientSession
from waypost.smtp.reply import Reply

#: For one reply of a session in this process: what a commit on a disk in distress may take.
WITHIN: Final = timedelta(minutes=5)
#: How long it is remembered which message came of a key.
REMEMBERED: Final = timedelta(days=2)
#: How long what one process has begun is left to it: longer than a message takes to be handed in, or a restart.
CLAIMED: Final = timedelta(minutes=15)
#: A client without an account, whom his address or his files let send: as anybody, to anywhere.
#: Where a door is that has no address.
NOWHERE: Final = Endpoint("", 0)
TRUSTED: Final = Account("", (ANYONE,))

Serve: TypeAlias = Callable[[Door, Reply, Stream, Guest], Coroutine[object, object, None]]
"""One connection, to its end (Receiver.serve)."""


class Ids(Protocol):
    """Who names messages."""

    def make(self) -> MessageId:
        """A new name."""
        ...


@dataclass(frozen=True, slots=True)
class HandedIn:
    """What became of a letter. `replies`: one a recipient, in order; 2yz: the message is durable for him.

    Where it was `repeated`, they are those of the first time, and none where that was cut off after the commit.
    """

    id: MessageId
    replies: tuple[Reply, ...]
    repeated: bool = False

    @property
    def is_taken(self) -> bool:
        """Whether the message is ours now, for at least one recipient."""
        return self.repeated or any(reply.is_positive for reply in self.replies)


@dataclass(frozen=True, slots=True)
class InUse:
    """The key belongs to another message, or to this one in a request that is still under way.

    `elsewhere`: in another process, or in one that was cut off: whoever asks again later finds out.
    """

    why: str
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """What makes a message one and the same however often it is handed in. `space`: whose key it is.

    `content`: a digest of the message; under one key there may be one.
    """

    space: str
    text: str
    content: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the shelf holds of a key. Without replies, the message may have been stored: it was, if `is_stored`.

    `by`: the process that began to hand it in, and has its part of the queue; `at`: when.
    """

    id: str
    content: str
    replies: tuple[tuple[int, tuple[str, ...]], ...] = ()
    by: str = ""
    at: float = 0.0
    is_stored: bool = False


@dataclass(slots=True)
class Intake:
    """One such door."""

    serve: Serve
    door: Door
    storage: Storage
    clock: Clock
    ids: Ids
    #: This process among those of its queue, by a name that it has again after a restart.
    name: str = ""
    _under_way: set[Key] = field(default_factory=set)

    async def hand_in(
        self, letter: Letter, client: Endpoint, account: Account, *, hello: str, traceparent: str = ""
    ) -> HandedIn:
        """Hand in one letter of `account`, whose client is at `client` and says `hello` to us."""
        return await self._hand_in(letter, client, Guest(account, self.ids.make(), traceparent), hello)

    async def hand_in_once(
        self, key: Key, letter: Letter, client: Endpoint, account: Account, *, hello: str, traceparent: str = ""
    ) -> HandedIn | InUse:
        """The same, once for each key, whatever was cut off in between. Raises: StorageError.

        The message's name is written down before it is handed in. Whoever comes again under that key finds by it
        whether it was stored.
        """
        if key in self._under_way:
            return InUse("a request under the same key is under way")
        self._under_way.add(key)
        try:
            return await self._once(key, letter, client, Guest(account, traceparent=traceparent), hello)
        finally:
            self._under_way.discard(key)

    async def _once(self, key: Key, letter: Letter, client: Endpoint, guest: Guest, hello: str) -> HandedIn | InUse:
        kept = await self._first(key)
        if kept.content != key.content:
            return InUse("another message was handed in under the same key")
        if not (kept.replies or kept.is_stored) and await self.storage.history(MessageId(kept.id)):
            kept = replace(kept, is_stored=True)  # others cannot look into our part of the queue
            await self._keep(key, kept)
        if kept.replies or kept.is_stored:
            return HandedIn(MessageId(kept.id), _replies(kept), repeated=True)
        if kept.by != self.name and not await self._takes_over(key, kept):
            return InUse("another process of this service has begun to take it; ask again", elsewhere=True)
        done = await self._hand_in(letter, client, replace(guest, id=MessageId(kept.id)), hello)
        if done.is_taken:
            said = tuple((reply.code, reply.lines) for reply in done.replies)
            await self._keep(key, _Kept(kept.id, key.content, said, self.name))
        else:
            await self.storage.drop(key.space, key.text)
        return done

    async def _takes_over(self, key: Key, kept: _Kept) -> bool:
        """Whether what another process began, and has not ended in all this time, is ours now; of two, one gets it.

        Its part of the queue may not be ours to look into: should it come back with the message, that is there twice.
        """
        now = self.clock.now()
        if now < kept.at + CLAIMED.total_seconds() or not await self.storage.drop(key.space, key.text):
            return False
        ours = replace(kept, by=self.name, at=now)
        until = now + REMEMBERED.total_seconds()
        return await self.storage.keep_new(key.space, key.text, msgspec.json.encode(ours), until=until, now=now)

    async def asked(self, letter: Letter, client: Endpoint, account: Account, *, hello: str) -> tuple[Reply, ...]:
        """What each recipient would be answered now; nothing is handed in."""
        errand = Errand(letter, ClientSession(hello), WITHIN, unwatched, asks_only=True)
        await self._speak(errand, client, Guest(account, self.ids.make()))
        otherwise = Reply(250, ("2.1.5 OK",)) if errand.was_wanted else errand.rest
        return tuple(errand.replies.get(index, otherwise) for index in range(len(letter.recipients)))

    async def forget(self, key: Key) -> None:
        """Let go of a key that nobody will come with again. Raises: StorageError."""
        await self.storage.drop(key.space, key.text)

    async def _first(self, key: Key) -> _Kept:
        """What is kept under the key; a new name, where nothing was."""
        now = self.clock.now()
        new = _Kept(self.ids.make(), key.content, by=self.name, at=now)
        until = now + REMEMBERED.total_seconds()
        if await self.storage.keep_new(key.space, key.text, msgspec.json.encode(new), until=until, now=now):
            return new
        found = await self.storage.kept(key.space, key.text, now=now)
        return new if isinstance(found, Absent) else msgspec.json.decode(found, type=_Kept)

    async def _keep(self, key: Key, kept: _Kept) -> None:
        until = self.clock.now() + REMEMBERED.total_seconds()
        await self.storage.keep(key.space, key.text, msgspec.json.encode(kept), until=until)

    async def _hand_in(self, letter: Letter, client: Endpoint, guest: Guest, hello: str) -> HandedIn:
        errand = Errand(letter, ClientSession(hello), WITHIN, unwatched)
        await self._speak(errand, client, guest)
        return HandedIn(guest.id, _all_replies(errand))

    async def _speak(self, errand: Errand, client: Endpoint, guest: Guest) -> None:
        near, far = connected_pair(client=client, server=self.door.endpoint)
        banner = Reply(220, (self.door.smtp.hostname,))
        session = asyncio.ensure_future(self.serve(self.door, banner, far, guest))
        try:
            await errand.speak(near)
        finally:
            await session


def _all_replies(errand: Errand) -> tuple[Reply, ...]:
    """One a recipient; where the dialogue broke off, for now, whatever RCPT was answered."""
    return tuple(errand.replies.get(index, errand.rest) for index in range(len(errand.letter.recipients)))


def _replies(kept: _Kept) -> tuple[Reply, ...]:
    return tuple(Reply(code, lines) for code, lines in kept.replies)
