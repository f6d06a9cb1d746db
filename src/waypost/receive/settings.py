"""What one client may ask of us, and all of them together: every limit of receiving, with its origin."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from functools import cached_property, lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, TypeAlias

from waypost.net.certificates import NoCertificate
from waypost.net.stream import Endpoint
from waypost.receive.authorship import FromField
from waypost.smtp.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class ReceiveSettings:
    """Limits of all listeners together. Sizes in octets. What one session may say is in ServerSettings."""

    #: From our reply to the whole of the next command: RFC 5321 §4.5.3.2.7.
    command: timedelta = timedelta(minutes=5)
    #: Between two pieces of a body: what §4.5.3.2.5 gives a client for a block, given back to it.
    body_block: timedelta = timedelta(minutes=3)
    #: A whole body, however steadily it drips: a 50 MB message still passes at 14 kB/s.
    body_total: timedelta = timedelta(hours=1)
    #: Octets a second a body must keep up on average after its first `body_block`: a modem of 1990 does four times
    #: as much, and a client that does less holds a connection for nothing.
    body_rate: int = 500
    #: For a TLS handshake: a few round trips, also over a slow link.
    handshake: timedelta = timedelta(minutes=1)
    #: For the client to take our replies: the same five minutes.
    reply: timedelta = timedelta(minutes=5)
    #: Octets of one body kept in memory; beyond, it goes to the spool as it comes. Nine in ten messages are smaller.
    spill: int = 256 * 1024
    #: Octets of all bodies in memory: 256 clients at `spill` each. Beyond, bodies go to the spool sooner.
    in_flight: int = 64 * 1024 * 1024
    #: Clients at once: a descriptor and some 20 kB each, within the usual `ulimit -n` of 1024 with room for the spool.
    connections: int = 1000
    #: At once from one address (IPv6: one /64, which is one customer): what others in the field allow.
    connections_per_client: int = 50
    #: At once from one network (IPv4: one /24; IPv6: one /48, which is one site): half of all, whoever it is.
    connections_per_network: int = 500
    #: From the banner to a farewell: a client that means well needs no more, and no other holds a place for ever.
    session: timedelta = timedelta(hours=6)
    #: Messages a session: long enough to spare reconnecting, short enough that a balancer gets its turn.
    messages: int = 1000
    #: Received lines that make a loop: RFC 5321 §6.3 asks for a limit of at least 100.
    hops: int = 100
    #: Nothing is taken from anyone: what is queued is delivered, and then this service can go.
    draining: bool = False


class Relaying(Enum):
    """What the address that a client connected to says of its relaying."""

    AS_LISTED = auto()  # the client's network or account decides
    ALWAYS = auto()  # whoever reaches the address may relay
    NEVER = auto()  # nobody may, whoever he is


Context: TypeAlias = Callable[[], ssl.SSLContext | NoCertificate]
"""Where the context of a handshake that begins now comes from."""


@dataclass(frozen=True)  # no slots: its address is kept beside it
class Door:
    """One address to listen on.

    `relay_clients_only`: only clients that may relay may send (submission, where nobody has to log in).
    `submission`: what is sent here is new mail: Date and Message-ID are added where they are missing.
    `demands_login`: only who has authenticated may send, under the reverse-paths of his account.
    `exempt`: whose clients neither `demands_login` nor TLS is demanded of.
    `implicit_tls`: TLS from the first octet (RFC 8314 §3); whether STARTTLS is offered stands in `smtp`.
    `proxies`: whose connections begin with a PROXY header, which is believed; nobody else may say one.
    `protocol`: what the trace says after "with", where mail comes by something else than SMTP or LMTP.
    `from_field`: what becomes of a message whose From is not its account's.
    `xclient`: who may say by XCLIENT whose session he hands on.
    `connections`, `connections_per_client`: at once through this door, besides what is allowed through all of them; 0:
    no limit of its own. `messages`, `session`: what one session may have here, in place of what the settings say; 0:
    as they do.
    """

    endpoint: Endpoint
    smtp: ServerSettings
    name: str = "listener"
    relay_clients_only: bool = False
    submission: bool = False
    demands_login: bool = False
    exempt: tuple[IPv4Network | IPv6Network, ...] = ()
    relaying: Relaying = Relaying.AS_LISTED
    implicit_tls: bool = False
    context: Context = NoCertificate
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    protocol: str = ""
    xclient: tuple[IPv4Network | IPv6Network, ...] = ()
    from_field: FromField = FromField.ANY
    connections: int = 0
    connections_per_client: int = 0
    messages: int = 0
    session: timedelta = timedelta()

    @cached_property
    def address(self) -> str:
        """The address as the origin of a message names it."""
        return str(self.endpoint)

    @cached_property
    def at_ease(self) -> Door:
        """The same door, as those see it of whom nothing is demanded."""
        return replace(self, demands_login=False, exempt=(), smtp=replace(self.smtp, tls_required=False))


#: Keys that are remembered: to read an address costs as much as to read a command, and clients come again.
_REMEMBERED: Final = 4096


@lru_cache(_REMEMBERED)
def client_key(host: str) -> str:
    """What connections are counted by: an IPv4 address, an IPv6 /64 (one customer's), or "" for local sockets."""
    return str(ip_network((host.partition("%")[0], 64), strict=False)) if ":" in host else host


@lru_cache(_REMEMBERED)
def network_key(host: str) -> str:
    """The network a client is of: its IPv4 /24 or IPv6 /48, or "" for local sockets."""
    host = host.partition("%")[0]
    return str(ip_network((host, 48 if ":" in host else 24), strict=False)) if host else host
