"""What a route is: the kinds of next hop, and what each needs. Values only; table.py has the table, hosts.py hosts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from waypost.mail.content import AS_IT_CAME, Content
from waypost.mail.envelope import NextHop
from waypost.mail.outcome import DnsFailed, Host, NoSuchHost
from waypost.mail.window import ALWAYS, Window
from waypost.route.onward import STAY, Onward
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.reply import Reply


class TlsPolicy(Enum):
    """The TLS an SMTP route asks for. From `REQUIRED` to `MTA_STS` a host that does not have it is passed by."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # where it is offered, any certificate; a failed handshake goes in clear once
    REQUIRED = "required"  # never in clear, any certificate
    VERIFY = "verify"  # the certificate must be the host's, by an authority this machine trusts
    DANE = "dane"  # it must be the one that the domain's signed TLSA records name (RFC 7672)
    MTA_STS = "mta-sts"  # as VERIFY, and the domain's MTA-STS policy must name the host (RFC 8461)
    AUTO = "auto"  # DANE where the domain has it, else MTA-STS where it has that, else as OPPORTUNISTIC

    __hash__ = object.__hash__  # as good, and no call of a Python function for every look-up of a connection


@dataclass(frozen=True, slots=True)
class Server:
    """A host to connect to, by name or by literal address; `implicit_tls`: with TLS from the first octet (RFC 8314)."""

    host: str
    port: int
    implicit_tls: bool = False


@dataclass(frozen=True, slots=True)
class SmtpServers:
    """`smtp://a:25`, `smtps://b:465`: these, in order; or with `weights` in turn, each as often as its own says."""

    servers: tuple[Server, ...]
    weights: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SmtpMx:
    """`mx:` the mail exchangers of the recipient's domain, or of `domain` (`mx:example.net`)."""

    domain: str
    port: int = 25


@dataclass(frozen=True, slots=True)
class LmtpServers:
    """`lmtp://host:port` or `lmtp:///run/dovecot/lmtp` (a Unix socket: Server.host is the path, port 0)."""

    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class Maildir:
    """`maildir:/path/%d/%u`: `%d` the domain, `%u` the local-part, made safe for a path."""

    template: str


class HookFormat(Enum):
    """What a webhook is sent."""

    RAW = "raw"  # the message itself, as message/rfc822, its envelope in a header
    JSON = "json"  # an object with envelope, header fields and the message in base64


@dataclass(frozen=True, slots=True)
class Webhook:
    """`https://app.example.net/mail`: POST. `secret`: what requests are signed by; empty: they are not.

    `ca`: the file of the authorities that are believed; empty: those that this machine trusts.
    """

    url: str
    format: HookFormat = HookFormat.JSON
    secret: str = field(default="", repr=False)
    timeout: timedelta = timedelta(minutes=1)
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Pipe:
    """`pipe:/usr/bin/program --for %r`: the message goes to a program's standard input, once for each recipient.

    `user`: as whom it runs (name or number); empty: as ourselves. `memory` in octets of its address space.
    """

    arguments: tuple[str, ...]
    user: str = ""
    timeout: timedelta = timedelta(minutes=1)
    memory: int = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Capture:
    """`capture:` the inbox the service keeps, to look at."""


@dataclass(frozen=True, slots=True)
class OnCall:
    """`atrn:ACCOUNT` kept until that account calls and has the connection turned round (ATRN, RFC 2645)."""

    account: str


@dataclass(frozen=True, slots=True)
class Discard:
    """`discard:` accepted, logged, thrown away."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """An alias that stands for several, which are recipients of their own: to say so is all (RFC 3461 §5.2.7)."""


@dataclass(frozen=True, slots=True)
class Reject:
    """`reject:550 5.1.1 text`: refused at RCPT; for what is queued already, a failure."""

    reply: Reply


Transport: TypeAlias = (
    SmtpServers | SmtpMx | LmtpServers | Maildir | Webhook | Pipe | OnCall | Capture | Discard | Expansion | Reject
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Per-destination limits of a route."""

    concurrency: int = 20  # connections to one next hop at once
    recipients: int = 100  # RCPTs a transaction (RFC 5321 §4.5.3.1.8: a server must take 100)
    messages: int = 100  # transactions a connection
    size: int = 0  # octets of a message; 0: as large as they are taken
    pace: float = 0.0  # seconds from one message to the next; 0: none


class HeloFallback(Enum):
    """Whether a host that breaks on EHLO is greeted with HELO, which offers no extension, STARTTLS among them."""

    UNLESS_TLS = "unless-tls"  # not one that has offered STARTTLS lately: somebody may be stripping it
    NEVER = "never"
    ALWAYS = "always"

    __hash__ = object.__hash__  # as of TlsPolicy


class Manner(NamedTuple):
    """As whom and how we come to a next hop.

    `helo`: the name we give, "" the service's; `sources`: addresses to come from; `fallback`: whether HELO follows a
    broken EHLO; `certificate` and `key`: the files of the one we show under TLS, "" for none.
    `xclient`: whether it hears whose mail we bring, where it takes XCLIENT.
    """

    helo: str = ""
    sources: tuple[str, ...] = ()
    fallback: HeloFallback = HeloFallback.UNLESS_TLS
    certificate: str = ""
    key: str = ""
    xclient: bool = False

    def source(self, host: str) -> str:
        """The address to come from to a numeric address, of the same family; "": the system's choice."""
        return next((source for source in self.sources if (":" in source) == (":" in host)), "")


@dataclass(frozen=True, slots=True)
class Retries:
    """When to try again, where a route has times of its own; what is empty or zero is as the service has it."""

    schedule: tuple[timedelta, ...] = ()
    expire: timedelta = timedelta()
    delay_notice: timedelta = timedelta()
    #: For mail of a priority above 0, and below.
    urgent_schedule: tuple[timedelta, ...] = ()
    urgent_expire: timedelta = timedelta()
    urgent_delay_notice: timedelta = timedelta()
    non_urgent_schedule: tuple[timedelta, ...] = ()
    non_urgent_expire: timedelta = timedelta()
    non_urgent_delay_notice: timedelta = timedelta()


AS_OURSELVES: Final = Manner()
AS_EVER: Final = Retries()


@dataclass(frozen=True, slots=True)
class Route:
    """Where a recipient goes next. `next_hop` is its destination's key; `rule` names the config line that decided."""

    next_hop: NextHop
    transport: Transport
    rule: str
    tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC
    credentials: Credentials | NoCredentials = field(default_factory=NoCredentials)
    limits: Limits = field(default_factory=Limits)
    manner: Manner = AS_OURSELVES
    retries: Retries = AS_EVER
    onward: Onward = STAY
    #: When it may deliver.
    window: Window = ALWAYS
    #: What it makes of messages.
    content: Content = AS_IT_CAME
    #: Whether only those who may relay through us are let in to it, since the domain is not ours: `*` alone matched, or
    #: the route says so (`accept_from = "relay"`).
    relay_only: bool = False
    #: What its section is called.
    name: str = ""
    #: Whether its mail waits until its host asks for it (ETRN), or an operator does.
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No line of the table matches; `detail` says what was looked for."""

    detail: str


@dataclass(frozen=True, slots=True)
class Hosts:
    """At least one address to try, in order."""

    hosts: tuple[Host, ...]


HostsAnswer: TypeAlias = Hosts | NoSuchHost | DnsFailed


#: Where an alias goes whose author wants to hear of its expansion; no [[route]] has such a key.
EXPANDED: Final = Route(NextHop("expanded:"), Expansion(), "an alias that stands for several recipients")

__all__ = [
    "AS_EVER",
    "AS_OURSELVES",
    "EXPANDED",
    "Capture",
    "Discard",
    "Expansion",
    "HookFormat",
    "Hosts",
    "HostsAnswer",
    "Limits",
    "LmtpServers",
    "Maildir",
    "Manner",
    "NoRoute",
    "OnCall",
    "Pipe",
    "Reject",
    "Retries",
    "Route",
    "Server",
    "SmtpMx",
    "SmtpServers",
    "TlsPolicy",
    "Transport",
    "Webhook",
]
