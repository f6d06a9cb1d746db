"""Which of several servers of a route are ailing: they are asked last, and probed until they greet again.

A server that gave no session ails until a probe (a connection and its greeting) succeeds, or mail does all the same,
for when all the others fail it is still tried. Only servers that a route names, where it names several: for mail
exchangers the preference decides. Not here: a destination's rests (destination.py), which hold where none is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from waypost.mail.outcome import Host
from waypost.net.clock import Clock
from waypost.net.dialer import Dialer
from waypost.net.stream import Fault, Stream
from waypost.queue.exchange import NO_OTHERS, Exchange, Telling
from waypost.smtp.framing import Incomplete, ReplyReader
from waypost.smtp.reply import Reply

#: Between two probes of a server, and how long each step of one may take.
PROBE: Final = timedelta(seconds=30)
WITHIN: Final = timedelta(seconds=20)
#: Servers remembered as ailing; those of all routes fit.
REMEMBERED: Final = 1000


#: What a host that ails is told as.
KIND: Final = "ails"


class _Told(NamedTuple):
    """One that ails, and why, as the processes of a queue tell it: each probes it for itself until it is well."""

    host: Host
    why: str


class HostHealth:
    """Knows the ailing. `watch` probes them, in a task of its own."""

    def __init__(self, dialer: Dialer, clock: Clock) -> None:
        self._dialer = dialer
        self._clock = clock
        self._ailing: dict[Host, str] = {}
        self._news = asyncio.Event()
        self._others: Telling = NO_OTHERS

    @property
    def ailing(self) -> Sequence[tuple[Host, str]]:
        """Those that ail, each with the reason."""
        return tuple(self._ailing.items())

    def in_order(self, hosts: Sequence[Host]) -> Sequence[Host]:
        """The hosts as they are to be tried: those that ail last."""
        if not self._ailing:
            return hosts
        return sorted(hosts, key=self._ailing.__contains__)

    def failed(self, host: Host, why: str) -> None:
        """It gave no session."""
        if host not in self._ailing:
            self._others.tell(KIND, _Told(host, why))
        self._ails(_Told(host, why))

    def share(self, exchange: Exchange) -> None:
        """Tell the other processes, and heed them."""
        self._others = exchange
        exchange.listen(KIND, _Told, self._ails)

    def _ails(self, told: _Told) -> None:
        host, why = told
        if len(self._ailing) < REMEMBERED:
            self._ailing[host] = why
            self._news.set()

    def recovered(self, host: Host) -> None:
        """It gave one."""
        self._ailing.pop(host, None)

    async def watch(self) -> None:
        """Probe whoever ails, for ever."""
        while True:
            while not self._ailing:
                self._news.clear()
                await self._news.wait()
            await self._clock.sleep(PROBE)
            ailing = tuple(self._ailing)
            greets = await asyncio.gather(*(self._greets(host) for host in ailing))
            for host, well in zip(ailing, greets, strict=True):
                if well:
                    self.recovered(host)

    async def _greets(self, host: Host) -> bool:
        """Whether it takes a connection and, where that is in clear, greets with 2yz."""
        stream = await self._dialer.dial(host.endpoint, WITHIN)
        if isinstance(stream, Fault):
            return False
        try:
            return host.implicit_tls or await _greeting(stream)
        finally:
            stream.abort()


async def _greeting(stream: Stream) -> bool:
    reader = ReplyReader()
    while isinstance(reply := reader.next_reply(), Incomplete):
        octets = await stream.read(WITHIN)
        if isinstance(octets, Fault):
            return False
        reader.feed(octets)
    if not (isinstance(reply, Reply) and reply.is_positive):
        return False
    stream.write(b"QUIT\r\n")
    await stream.flush(WITHIN)
    return True
