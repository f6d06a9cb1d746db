"""Who may send what: judged at MAIL, RCPT and the final dot, before we answer for anything. Pure.

A recipient is refused at RCPT or never: what we accept we deliver or report, and a report to a forged reverse-path
would be backscatter. Not here: what a command must look like (waypost.smtp), or where mail goes (waypost.route).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias, assert_never

from waypost.mail.envelope import NextHop
from waypost.queue.storage import StoreFault, StoreFaultKind
from waypost.route.route import NoRoute, Reject, Route
from waypost.smtp.command import REFUSAL_WIDTH
from waypost.smtp.path import ForwardPath, ReversePath
from waypost.smtp.reply import Reply
from waypost.smtp.server import BodyFault


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    """Which clients may send through us to domains that are not ours: those in `networks`, and nobody else."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def trusts(self, client_host: str) -> bool:
        """Whether a numeric client address may relay. A client on a Unix socket (empty host) is of this machine."""
        address = _address(client_host or "127.0.0.1")
        return any(address in network for network in self.networks)


@lru_cache(maxsize=1024)
def _address(host: str) -> IPv4Address | IPv6Address:
    # Reading an address costs as much as reading a command does; clients come again.
    return ip_address(host.partition("%")[0])


@dataclass(frozen=True, slots=True)
class Granted:
    """The recipient is taken, and goes this way."""

    next_hop: NextHop


@dataclass(frozen=True, slots=True)
class Denied:
    """The recipient is not taken; `reply` says why."""

    reply: Reply


RcptVerdict: TypeAlias = Granted | Denied

OK_MAIL: Final = Reply.of(250, "2.1.0", "OK")
OK_RCPT: Final = Reply.of(250, "2.1.5", "OK")
SEND_BODY: Final = Reply(354, ("end with a dot on a line of its own",))
RELAY_CLIENTS_ONLY: Final = Reply.of(550, "5.7.1", "this address takes mail from our own clients only")
NO_TLS_NOW: Final = Reply.of(454, "4.7.0", "TLS not available due to temporary reason")
LOGIN_FIRST: Final = Reply.of(530, "5.7.0", "authentication required")
TOO_MANY_MESSAGES: Final = Reply.of(421, "4.7.0", "enough messages in one session; connect again for more")
#: An error of ours: nothing is stored, and the client keeps the message (RFC 5321 §4.2.5).
LOCAL_ERROR: Final = Reply.of(451, "4.3.0", "local error in processing; try again later")
SPOOL_FULL: Final = Reply.of(452, "4.3.1", "no space to store the message; try again later")
NOT_STORED: Final = Reply.of(451, "4.3.0", "the message could not be stored; try again later")
LOOPING: Final = Reply.of(554, "5.4.6", "too many Received lines: the message goes in circles")

_BODY_REPLIES: Final = {
    BodyFault.BARE_NEWLINE: Reply.of(550, "5.6.0", "a CR or LF stands alone; lines end in CRLF (RFC 5321 2.3.8)"),
    BodyFault.TOO_LARGE: Reply.of(552, "5.3.4", "the message is larger than the SIZE offered"),
    BodyFault.LINE_TOO_LONG: Reply.of(550, "5.6.0", "a line of the message is too long"),
    BodyFault.NUL: Reply.of(550, "5.6.0", "the message holds a NUL octet"),
}


def judge_recipient(path: ForwardPath, route: Route | NoRoute, *, trusted: bool) -> RcptVerdict:
    """Whether this client may send to `path`, which the table routes so. `trusted`: it may relay through us."""
    match route:
        case NoRoute():
            if not trusted:
                return Denied(_relaying_denied(path))
            return Denied(Reply.of(550, "5.1.2", f"no route leads to <{path}>"))
        case Route(transport=Reject(reply=reply)):
            return Denied(reply)
        case Route(relay_only=True) if not trusted:
            return Denied(_relaying_denied(path))
        case Route(next_hop=next_hop):
            return Granted(next_hop)
        case _:
            assert_never(route)


def not_yours(account: str, path: ReversePath) -> Reply:
    """The reply to MAIL with a reverse-path that the account may not use."""
    text = f"<{path}> is no reverse-path of {account}".encode("ascii", "backslashreplace").decode()
    return Reply.of(553, "5.7.1", text[:REFUSAL_WIDTH])


def _relaying_denied(path: ForwardPath) -> Reply:
    return Reply.of(
        550, "5.7.1", f"relaying denied: <{path}> is not served here, nor may you send elsewhere through us"
    )


def judge_body(fault: BodyFault) -> Reply:
    """The reply to a body that has a fault (not NONE)."""
    return _BODY_REPLIES[fault]


def judge_fault(fault: StoreFault) -> Reply:
    """The reply to a message that the storage did not take."""
    return SPOOL_FULL if fault.kind is StoreFaultKind.FULL else NOT_STORED
