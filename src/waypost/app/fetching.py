"""Building what calls for our own mail, by ETRN or ATRN."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from waypost.app.base import Base
from waypost.app.settings import time_outs_of
from waypost.app.watch import Watch
from waypost.config import Config
from waypost.deliver.connection import Ends
from waypost.deliver.fetch import Fetcher
from waypost.deliver.memory import HostMemory
from waypost.deliver.opener import Opener, TlsContexts
from waypost.net.dialer import Dialer
from waypost.net.stream import Endpoint, Stream
from waypost.receive.server import Receiver
from waypost.receive.settings import Door, Relaying
from waypost.report.log import Log
from waypost.route.level import TlsChooser
from waypost.route.provider import Provider
from waypost.smtp.reply import Reply
from waypost.smtp.settings import ServerSettings


def call_providers(watch: Watch, base: Base, dialer: Dialer, receiver: Receiver) -> None:
    """Those that keep our mail are called."""
    for name, fetcher in _fetchers(base, dialer, receiver):
        watch.keep(name, fetcher.run)


def _fetchers(base: Base, dialer: Dialer, receiver: Receiver) -> Iterator[tuple[str, Fetcher]]:
    """Who calls for our own mail, by ETRN or ATRN: one for each `[[fetch]]`."""
    config, clock = base.config, base.clock
    ends = Ends(dialer, clock, config.service.hostname, time_outs_of(config))
    opener = Opener(ends, HostMemory(clock), TlsContexts.system(), base.keeper)
    chooser = TlsChooser(base.resolver, base.policies, clock)
    banner = Reply(220, (f"{config.service.hostname} ESMTP",))
    for provider in config.fetches:
        door = _fetch_door(config, provider)
        served = partial(_serve_provider, receiver, door, banner)
        yield (
            f"fetcher of {provider.name}",
            Fetcher(provider, base.finder, chooser, opener, served, base.storage, clock, _FetchLog(base.log)),
        )


async def _serve_provider(receiver: Receiver, door: Door, banner: Reply, stream: Stream) -> None:
    await receiver.serve(door, banner, stream, tls=stream.tls)


def _fetch_door(config: Config, provider: Provider) -> Door:
    """What a provider may do that sends us our mail over a connection of ours: bring it, for domains of ours alone."""
    smtp = ServerSettings(
        hostname=config.service.hostname,
        size_limit=config.limits.message_size,
        max_recipients=config.limits.recipients,
        max_errors=config.limits.errors,
    )
    server = provider.servers.servers[0]
    return Door(Endpoint(server.host, server.port), smtp, name=f"fetch {provider.name}", relaying=Relaying.NEVER)


class _FetchLog:
    """Tells of calls we make."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def fetched(self, name: str, text: str) -> None:
        self._log.logger.info("fetched", fetch=name, text=text)

    def fetch_failed(self, name: str, why: str) -> None:
        self._log.logger.warning("not fetched; it is tried again", fetch=name, why=why)
