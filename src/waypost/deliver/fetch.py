"""Calling for our own mail at a provider that keeps it: by ETRN (RFC 1985) or ATRN (RFC 2645), every so often.

For a site that is not always connected, or not to be reached from outside. After ETRN the provider connects to us as
any client does; after ATRN the connection we made is turned round, and whoever serves our doors serves it. Of several
processes with one queue, one calls at a time. Not here: answering such calls (calls.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from waypost.deliver.connection import Connection
from waypost.deliver.opener import Needs, Opener, Unopened
from waypost.deliver.smtp import Chooser, Finder
from waypost.deliver.tls_watch import NoListener, TlsWatch
from waypost.mail.attempt import Transcript
from waypost.mail.explain import describe_cause
from waypost.mail.outcome import Host
from waypost.net.clock import Clock
from waypost.net.stream import Fault, Stream
from waypost.net.x509 import Authorities
from waypost.queue.storage import Storage, StorageError
from waypost.route.level import Barred
from waypost.route.provider import Provider
from waypost.route.route import Hosts
from waypost.smtp.event import Asked
from waypost.smtp.reply import Reply

#: The space on the shelf of calls made, each until the next is due.
SPACE = "fetches"
#: "You have no mail" (RFC 2645 §5.2.2): good news, though a 4yz.
NO_MAIL = 453


class FetchLog(Protocol):
    """Told of each call. Returns at once."""

    def fetched(self, name: str, text: str) -> None:
        """The provider was asked, and has answered so."""
        ...

    def fetch_failed(self, name: str, why: str) -> None:
        """It could not be asked, or refuses."""
        ...


class Fetcher:
    """Calls one provider."""

    def __init__(
        self,
        provider: Provider,
        finder: Finder,
        chooser: Chooser,
        opener: Opener,
        serve: Callable[[Stream], Awaitable[None]],
        storage: Storage,
        clock: Clock,
        log: FetchLog,
    ) -> None:
        """`serve` is given the connection that ATRN has turned round, greets, takes the mail and closes it."""
        self._provider = provider
        self._finder = finder
        self._chooser = chooser
        self._opener = opener
        self._serve = serve
        self._storage = storage
        self._clock = clock
        self._log = log

    async def run(self) -> None:
        """Call, again and again; never ends of itself."""
        while True:
            if await self._is_due():
                await self.call()
            await self._clock.sleep(self._provider.every)

    async def call(self) -> None:
        """Call once; how it went is told to the log."""
        why = f"no host of {self._provider.name} could be found"
        match await self._finder.hosts(self._provider.servers):
            case Hosts(hosts):
                for host in hosts:
                    why = await self._call(host)
                    if not why:
                        return
            case none:
                why = describe_cause(none)
        self._log.fetch_failed(self._provider.name, why)

    async def _is_due(self) -> bool:
        """Whether nobody else with this queue has called lately."""
        now, every = self._clock.now(), self._provider.every.total_seconds()
        try:
            return await self._storage.keep_new(SPACE, self._provider.name, b"", until=now + 0.9 * every, now=now)
        except StorageError as error:
            self._log.fetch_failed(self._provider.name, str(error))
            return False

    async def _call(self, host: Host) -> str:
        """Call this host; why it came to nothing, or "" where it came to something."""
        provider, transcript = self._provider, Transcript(self._clock.monotonic())
        chosen = await self._chooser.choose(provider.tls, provider.servers, host)
        if isinstance(chosen, Barred):
            return describe_cause(chosen.cause)
        needs = Needs(chosen.demand, provider.credentials, smtputf8=False, lmtp=False)
        watch = TlsWatch(NoListener(), chosen, Authorities(), self._clock)
        opened = await self._opener.open(host, needs, watch, transcript)
        if isinstance(opened, Unopened):
            return describe_cause(opened.otherwise.cause)
        try:
            return await self._ask(opened)
        except BaseException:
            opened.abort()
            raise

    async def _ask(self, connection: Connection) -> str:
        refused = ""
        for command in self._provider.commands:
            reply = await _answer(connection, command)
            if isinstance(reply, str):
                return reply
            if reply.is_positive or reply.code == NO_MAIL:
                self._log.fetched(self._provider.name, f"{command}: {reply}")
            else:
                refused = f"{command}: {reply}"
            if reply.is_positive and self._provider.by_atrn:
                await self._serve(connection.stream)
                return ""
        await connection.leave()
        return refused


async def _answer(connection: Connection, command: str) -> Reply | str:
    """The reply to a command; or what went wrong, with the connection dropped."""
    connection.session.ask(command)
    heard = await connection.hear()
    if isinstance(heard, Fault):
        connection.abort()
        return f"{command}: {heard}"
    match heard:
        case [Asked(reply)]:
            return reply
        case _:
            connection.abort()
            return f"{command}: out of step: {heard[-1]}"
