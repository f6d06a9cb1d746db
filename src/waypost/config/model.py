"""The settings there are: one class a section, each key with its meaning, unit, bounds and default.

The manual (docs/reference/config.md) is printed from these classes, and complaints quote them: a text is written once.
What a single value must look like is judged here; how values go together is judged in check.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Final, Literal, TypeAlias, TypeVar, get_args
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from waypost.config.units import format_size, parse_duration, parse_size
from waypost.mail.window import Hours, parse_hours, parse_zone
from waypost.net.stream import Endpoint
from waypost.policy.access import parse_sender
from waypost.route.domain import Pattern, host_name, literal
from waypost.route.onward import PRESETS, Quota
from waypost.route.route import Limits as RouteLimits
from waypost.route.target import Target, is_address, parse_target
from waypost.smtp.path import DomainName, Mailbox

Network: TypeAlias = IPv4Network | IPv6Network
T = TypeVar("T")
_WILDCARD_NETWORKS: Final = frozenset({ip_network("0.0.0.0/0"), ip_network("::/0")})
_SHORTEST: Final = timedelta(milliseconds=1)
_LONGEST: Final = timedelta(days=366)
#: SASL mechanisms of ours, the strongest first.
Mechanism = Literal["EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"]
#: Without -PLUS: clients that know another channel binding than ours would choose it, and fail.
_OFFERED: Final[tuple[Mechanism, ...]] = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2")
_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a manual calls a value's type."""

    name: str


def _judged(read: Callable[[str], T], kind: str) -> Callable[[object], T]:
    """A validator of text: `read` raises ValueError with "problem; remedy", or the problem alone."""

    def validate(value: object) -> T:
        if not isinstance(value, str):
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            raise PydanticCustomError("waypost", "{problem}", {"problem": f"{shown} is no {kind}", "remedy": ""})
        try:
            return read(value)
        except ValueError as error:
            problem, _, remedy = str(error).partition("; ")
            raise PydanticCustomError("waypost", "{problem}", {"problem": problem, "remedy": remedy}) from error

    return validate


# ---- values
def _hostname(text: str) -> str:
    if text.startswith("["):
        return str(literal(text))
    if is_address(text):
        raise ValueError(f'{text!r} is an address; write it in brackets, "{literal(f"[{text}]")}", or better a name')
    name = host_name(text)
    if "." not in name:
        raise ValueError(
            f"{text!r} is no full name; peers judge us by it (RFC 5321 §2.3.5): write it whole, such as "
            '"mx.example.net", or an address such as "[192.0.2.1]"'
        )
    return name


def _rate(text: str) -> float:
    """Seconds from one message to the next, of "30/1m"."""
    count, slash, period = text.partition("/")
    if not slash or not (count.isascii() and count.isdigit() and int(count)):
        raise ValueError(f'{text!r} is no rate; write messages and time, such as "30/1m"')
    return _duration(period).total_seconds() / int(count)


def _source(text: str) -> str:
    try:
        return str(ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError(f'{text!r} is no address; write one of this machine\'s, such as "192.0.2.25"') from None


def _sender(text: str) -> str | Pattern:
    found = parse_sender(text)
    if isinstance(found, str) and found != "<>":
        return str(_mailbox(found)).lower()
    return found


_QUOTA: Final = re.compile(r"(?P<amount>[1-9]\d{0,8})(?: (?P<counts>messages|recipients))?/(?P<period>.+)")


def _quota(text: str) -> tuple[Quota, ...]:
    """What `500 recipients/1d`, `30/1m` or the name of a provider stands for."""
    if text in PRESETS:
        return PRESETS[text]
    found = _QUOTA.fullmatch(text)
    if found is None:
        raise ValueError(
            f'{text!r} is no quota; write one such as "2000/1d", "500 recipients/1d", or a provider: '
            f"{', '.join(PRESETS)}"
        )
    counts: Literal["messages", "recipients"] = "recipients" if found["counts"] == "recipients" else "messages"
    return (Quota(int(found["amount"]), max(_duration(found["period"]), timedelta(seconds=1)), counts),)


def _mailbox(text: str) -> Mailbox:
    local_part, at, domain = text.rpartition("@")
    if not at or _LOCAL_PART.fullmatch(local_part) is None:
        raise ValueError(f'{text!r} is no mailbox; write one such as "postmaster@example.net"')
    return Mailbox(local_part, literal(domain) if domain.startswith("[") else DomainName(host_name(domain)))


def _catch_all(text: str) -> str:
    return str(_mailbox(text)) if text else ""


def _workers(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 64):
        return value
    problem = {"problem": f"{value!r} is no number of workers", "remedy": 'write 1 to 64, or "auto"'}
    raise PydanticCustomError("waypost", "{problem}", problem)


def _endpoint(text: str, default_port: str = "") -> Endpoint:
    host, port = text, ""
    if text.startswith("[") or text.count(":") == 1:
        host, _, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    port = port or default_port
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f'{text!r} has no port from 0 to 65535; write address and port, such as "127.0.0.1:2525"')
    if ":" in host and not host.startswith("["):
        raise ValueError(f'{text!r} needs brackets; write "[{host}]:{port}"')
    try:
        return Endpoint(str(ip_address(host.removeprefix("[").removesuffix("]"))), int(port))
    except ValueError:
        raise ValueError(f"{host!r} is no numeric address; write one such as {_numeric(host)}") from None


def _numeric(host: str) -> str:
    return '"127.0.0.1" or "[::1]"' if host == "localhost" else '"192.0.2.1", or "0.0.0.0" for every address'


def _server(text: str) -> Endpoint:
    bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
    return _endpoint(f"[{text}]" if bare_ipv6 else text, default_port="53")


def _network(text: str) -> Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'{text!r} is no network; write one such as "192.0.2.0/24" or "2001:db8::/32"') from None
    if network in _WILDCARD_NETWORKS:
        raise ValueError(
            f"{text!r} is the whole internet, which would make this service an open relay; list your own networks"
        )
    if "/" in text and str(network.network_address) != str(ip_address(text.partition("/")[0])):
        raise ValueError(f'{text!r} has bits set beyond its prefix; write "{network}", or the one address without a /')
    return network


def _any_network(text: str) -> Network:
    return ip_network(text) if text in {"0.0.0.0/0", "::/0"} else _network(text)


def _target(value: object) -> Target:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
        raise PydanticCustomError("waypost", "{problem}", {"problem": f"{value!r} is no place", "remedy": ""})
    words: Sequence[str] = texts
    return _judged(lambda _: parse_target(words), "place")("")


def _duration(text: str) -> timedelta:
    duration = parse_duration(text)
    if not _SHORTEST <= duration <= _LONGEST:
        raise ValueError(f'{text!r} is out of bounds; write from "1ms" to "366d"')
    return duration


def _no_duration(text: str) -> timedelta:
    return _duration(text) if text != "0s" else timedelta()


def _size_from(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        octets = parse_size(text)
        if octets < least:
            raise ValueError(f'{text!r} is too little; write "{format_size(least)}" or more')
        return octets

    return read


def _own_size(text: str) -> int:
    return _size_from(64 * 1024)(text) if text != "0" else 0


def _own_duration(text: str) -> timedelta:
    return _duration(text) if text != "0s" else timedelta()


def _scores(value: object) -> dict[IPv4Network, int]:
    if not isinstance(value, dict):
        raise PydanticCustomError("waypost", "{problem}", {"problem": f"{value!r} is no table", "remedy": ""})
    try:
        scores = {IPv4Network(str(answer)): score for answer, score in value.items()}
    except ValueError as error:
        problem = f"{error}: answers are addresses or networks in 127.0.0.0/8"
        raise PydanticCustomError("waypost", "{problem}", {"problem": problem, "remedy": ""}) from error
    if not all(type(score) is int and -1000 <= score <= 1000 for score in scores.values()):
        problem = "a score is a whole number from -1000 to 1000"
        raise PydanticCustomError("waypost", "{problem}", {"problem": problem, "remedy": ""})
    return scores


def _or_empty(read: Callable[[str], T]) -> Callable[[str], T | str]:
    """The same, where nothing may be written: empty text stays what it is."""
    return lambda text: read(text) if text else ""


_SIZE: Final = Kind("size in octets")
Rate = Annotated[float | str, PlainValidator(_judged(_or_empty(_rate), "rate in quotes")), Kind("messages/time")]
Source = Annotated[str, PlainValidator(_judged(_source, "address")), Kind("address")]
Duration = Annotated[timedelta, PlainValidator(_judged(_duration, "duration in quotes")), Kind("duration")]
#: A duration that may be left to another setting.
OwnDuration = Annotated[timedelta, PlainValidator(_judged(_own_duration, "duration in quotes")), Kind("duration")]
Count = Annotated[int, Field(ge=1, le=1_000_000), Kind("whole number")]
#: A number that may be left to another setting.
OwnCount = Annotated[int, Field(ge=0, le=1_000_000), Kind("whole number")]
Score = Annotated[int, Field(ge=0, le=100_000), Kind("whole number")]
Text = Annotated[str, Field(min_length=1), Kind("text")]
Words = Annotated[str, Kind("text, may be empty")]
Listening = Annotated[Endpoint, PlainValidator(_judged(_endpoint, "address with a port")), Kind("address:port")]


class Section(BaseModel):
    """A table of the file. An unknown key is an error: a misspelt setting must not go unnoticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


# ---- sections
class Service(Section):
    """Who this service is, and where it keeps its mail."""

    hostname: Annotated[str, PlainValidator(_judged(_hostname, "host name")), Kind("host name")] = Field(
        description="Our full name: in the banner, in EHLO, in Received lines and in the Message-ID of reports.",
        examples=["mx.example.net"],
    )
    spool: Text = Field(
        description="The directory of the queue (made where it is missing); relative to the configuration file. Or the "
        "PostgreSQL database of a queue that several nodes share, as `postgresql://user@host:5432,host2:5432/name`; of "
        "the hosts named the one that takes writes is used, and what stands behind a `?` is set for the session "
        "(`synchronous_commit=remote_apply`) or about TLS (`sslmode=verify-full`).",
        examples=["/var/spool/waypost"],
    )
    state: Text = Field(
        default="/var/lib/waypost",
        description="With a spool in a database: the directory for what belongs to this node alone (marks of final "
        "dots, MTA-STS policies, counts for TLS reports, tokens). Each node has its own.",
    )
    postmaster: Annotated[Mailbox, PlainValidator(_judged(_mailbox, "mailbox")), Kind("mailbox")] = Field(
        description="Where mail to the bare `<Postmaster>` goes (RFC 5321 §4.5.1); reports name it as their author.",
        examples=["postmaster@example.net"],
    )
    mode: Literal["both", "inbound", "outbound", "flush"] = Field(
        default="both",
        description="`both`: mail comes in and goes out. `inbound`: mail for our own domains alone is taken, and "
        "nothing is sent elsewhere. `outbound`: our own clients' mail alone is taken. `flush`: nothing is taken (421 "
        "4.3.2), and what is queued is delivered, so that this machine can be put away. A route whose direction is off "
        "is an error.",
    )
    allow_ephemeral: bool = Field(
        default=False,
        description="Whether the spool may lie on tmpfs or overlay, where a reboot loses accepted mail.",
    )
    on_damage: Literal["salvage", "stop"] = Field(
        default="salvage",
        description="Where the spool is damaged: `salvage` sets the files aside, goes on with what can be read of them "
        "and says so; `stop` changes nothing and does not start, for who would rather restore a backup.",
    )
    stop_within: Duration = Field(
        default=timedelta(seconds=40),
        description="How long sessions and deliveries under way may take to end when the service is stopped: a quarter "
        "of it the sessions, the rest the deliveries. What is cut off then is sent again at the next start.",
    )
    user: Words = Field(
        default="",
        description="Started as root, the service binds its listeners and goes on as this user, who must be able to "
        "read the configuration and its keys, and own the spool. Empty: as whoever started it.",
        examples=["waypost"],
    )
    workers: Annotated[
        int | Literal["auto"], PlainValidator(_workers), Kind('whole number from 1 to 64, or `"auto"`')
    ] = Field(
        default=1,
        description="Processes that share the listeners and the work, each with a part of the spool; `auto`: one for "
        "each processor. What it means for limits and for the spool: docs/howto/workers.md.",
    )


class Listener(Section):
    """An address to accept mail on. At least one; each is its own `[[listener]]`."""

    address: Listening = Field(
        description="Numeric address and port; IPv6 in brackets; port 0 lets the system choose.",
        examples=["0.0.0.0:25"],
    )
    role: Literal["mx", "submission", "lmtp", "http"] = Field(
        default="mx",
        description="`mx`: mail for our domains from anyone, for others from `relay.networks`. `submission`: who has "
        "authenticated may send, to anywhere, under the reverse-paths of the account (RFC 6409); without accounts "
        "(`[auth]`) `relay.networks` alone. `lmtp`: as `mx`, spoken over LMTP (RFC 2033). `http`: messages by "
        '`POST /v1/messages`, from accounts and from `relay.networks`; over TLS with `tls = "implicit"`.',
    )
    name: Text = Field(default="listener", description="What logs and metrics call it.")
    tls: Literal["none", "opportunistic", "required", "implicit", ""] = Field(
        default="",
        description="`none`: never. `opportunistic`: STARTTLS is offered. `required`: and no mail is taken before it. "
        "`implicit`: TLS from the first octet, as on port 465. Empty: `opportunistic` (for `http` "
        "`implicit`) where there is a `[[certificate]]`, else `none`.",
    )
    client_ca: Words = Field(
        default="",
        description="File of CAs (PEM): clients are asked for a certificate of theirs, which is logged and goes into "
        "the trace; they may log in by it where `auth.mechanisms` has `EXTERNAL`. One that has none is let in; one "
        "that shows another's is not. Empty: nobody is asked.",
    )
    proxies: tuple[Annotated[Network, PlainValidator(_judged(_network, "network")), Kind("network")], ...] = Field(
        default=(),
        description="Networks (or single addresses) of load balancers in front of this listener: their connections "
        "begin with a PROXY header (version 1 or 2), and the client is whom it names. Nobody else's is believed.",
        examples=[("192.0.2.7", "10.1.0.0/24")],
    )

    xclient: tuple[Annotated[Network, PlainValidator(_judged(_network, "network")), Kind("network")], ...] = Field(
        default=(),
        description="Networks (or single addresses) of filters and proxies that hand sessions on, and may say by "
        "Postfix's XCLIENT whose: the client is then judged, logged and traced as if it had connected itself. Their "
        "word is taken for its login, too. XCLIENT is offered to nobody else.",
        examples=[("127.0.0.1",)],
    )
    auth: Literal["", "none", "offered", "required"] = Field(
        default="",
        description="Whether AUTH is offered, or demanded before MAIL (530 5.7.0). Empty: `required` for `submission` "
        "where there are accounts, else `none`. What encryption it demands stands in `tls`.",
    )
    exempt: tuple[Annotated[Network, PlainValidator(_judged(_network, "network")), Kind("network")], ...] = Field(
        default=(),
        description="Networks whose clients need neither log in nor encrypt here, whatever `auth` and `tls` demand.",
        examples=[("192.0.2.9",)],
    )
    relay: Literal["", "always", "never"] = Field(
        default="",
        description="`always`: whoever reaches this address may send through us to anywhere, so it must be a private "
        "one. `never`: nobody may here, whatever `[relay]` or an account says. Empty: as `[relay]` says.",
    )
    message_size: Annotated[int, PlainValidator(_judged(_own_size, "size in quotes")), _SIZE] = Field(
        default=0, description='Largest message taken here; `"0"`: as `limits.message_size`.', examples=["10M"]
    )
    recipients: OwnCount = Field(default=0, description="Recipients a transaction here; 0: as `limits.recipients`.")
    connections: OwnCount = Field(
        default=0,
        description="Clients at once here, so that one listener never takes the room of the others: they count for "
        "`limits.connections` all the same. 0: no limit of its own. For `http` this is all connections, and `503` the "
        "answer to a request on one too many.",
    )
    connections_per_client: OwnCount = Field(
        default=0,
        description="Connections at once here from one client address, besides `limits.connections_per_client`; 0: no "
        "limit of its own. Not for `http`.",
    )
    messages: OwnCount = Field(
        default=0, description="Messages a session here; 0: as `limits.messages`. Not for `http`."
    )
    session: OwnDuration = Field(
        default=timedelta(),
        description='How long a session may last here; `"0s"`: as `limits.session`. Not for `http`.',
    )
    errors: OwnCount = Field(
        default=0,
        description="Commands refused before a session is closed here; 0: as `limits.errors`. Not for `http`.",
    )


class Certificate(Section):
    """A certificate for the listeners' TLS; each is its own `[[certificate]]`, the first for clients that name no host.

    Files that change are read again within seconds, and at SIGHUP; one that is broken then changes nothing.
    """

    certificate: Text = Field(
        description="File with the certificate in PEM, and its chain behind it; relative to the configuration file.",
        examples=["/etc/letsencrypt/live/mx.example.net/fullchain.pem"],
    )
    key: Text = Field(
        description="File with its private key in PEM, without a passphrase.",
        examples=["/etc/letsencrypt/live/mx.example.net/privkey.pem"],
    )
    names: tuple[Text, ...] = Field(
        default=(),
        description="Host names it is shown for (SNI), `*.example.net` for all of one label more; empty: those in it.",
        examples=[("mx.example.net",)],
    )


class Tls(Section):
    """TLS, of the listeners and of deliveries."""

    minimum: Literal["1.2", "1.3"] = Field(
        default="1.2",
        description="The least version. 1.0 and 1.1 are gone for good (RFC 8996); with `1.3` some mail servers of "
        "today will fall back to clear text.",
    )


class Admin(Section):
    """The API, the dashboard, `/metrics`, `/healthz` and `/readyz`."""

    address: Listening = Field(
        default=Endpoint("127.0.0.1", 8025),
        description="Numeric address and port. Any but a loopback address needs `users` and `tls`.",
    )
    users: str = Field(
        default="",
        description="The file of administrators (`waypost admin add`), relative to this file. Without it, whoever "
        "may open a socket on this machine may read and delete mail.",
    )
    tls: bool = Field(
        default=False, description="Serve HTTPS, with the certificates of [[certificate]], as listeners use them."
    )
    names: tuple[Text, ...] = Field(
        default=(),
        description="Names by which browsers ask for the dashboard, besides `service.hostname` and the address: any "
        "other Host is refused (DNS rebinding).",
    )


class Pickup(Section):
    """A directory for messages as files: `waypost-sendmail` writes there, and whatever program can rename a file."""

    directory: Words = Field(
        default="",
        description="Files `NAME.eml` in it are taken and removed; those that never can be lie in `bad/`, with the "
        "reason beside each. Made where it is missing, for every user to write and none but the service to list; "
        "relative to the configuration file. Who may write there may send as anybody, to anywhere. Empty: none.",
        examples=["/var/spool/waypost-pickup"],
    )
    poll: Duration = Field(default=timedelta(seconds=1), description="How often it is looked at.")


class Relay(Section):
    """Who may send through us to domains that are not ours."""

    networks: tuple[Annotated[Network, PlainValidator(_judged(_network, "network")), Kind("network")], ...] = Field(
        default=(),
        description="Networks (or single addresses) of clients that may. Empty: nobody.",
        examples=[("127.0.0.0/8", "::1/128")],
    )
    never: tuple[Annotated[Network, PlainValidator(_judged(_any_network, "network")), Kind("network")], ...] = Field(
        default=(),
        description="Clients that may not, though `networks` has them or they log in.",
        examples=[("192.0.2.66",)],
    )


class Access(Section):
    """Who may connect. The longest prefix wins, whatever the order; of two alike, the one that rejects."""

    accept: tuple[Annotated[Network, PlainValidator(_judged(_any_network, "network")), Kind("network")], ...] = Field(
        default=(),
        description="Networks (or single addresses) that may: exceptions from `reject`.",
        examples=[("203.0.113.7",)],
    )
    reject: tuple[Annotated[Network, PlainValidator(_judged(_any_network, "network")), Kind("network")], ...] = Field(
        default=(),
        description='Networks that get 554 5.7.1 in place of the banner. `"0.0.0.0/0"` and `"::/0"` are everybody.',
        examples=[("203.0.113.0/24",)],
    )


class Senders(Section):
    """Reverse-paths that are not wanted."""

    block: tuple[Annotated[str | Pattern, PlainValidator(_judged(parse_sender, "sender")), Kind("sender")], ...] = (
        Field(
            default=(),
            description='An address, a domain with its sub-domains, `"=example.org"` without them, or `"<>"`, which '
            "reports on your own mail have: refuse it only where nobody writes from here. MAIL is answered 550 5.7.1.",
            examples=[("spam.example", "ann@example.org")],
        )
    )
    quarantine: Words = Field(
        default="",
        description='`"hold"`: blocked mail is taken and held in quarantine, where `waypost quarantine` shows, '
        "releases and deletes it. Or the name of a route without domains: it goes there instead of to its recipients, "
        "and nothing is reported to anyone.",
        examples=["quarantine"],
    )


class Copy(Section):
    """A copy of mail from or to some domains, for a journal. Nobody sees it, and no report is made on it."""

    of: tuple[Annotated[Pattern, PlainValidator(_judged(Pattern.parse, "domain")), Kind("domain")], ...] = Field(
        min_length=1, description='Domains, as in a route; `"*"`: all mail.', examples=[("example.com",)]
    )
    to: Annotated[Mailbox, PlainValidator(_judged(_mailbox, "mailbox")), Kind("mailbox")] = Field(
        description="Who gets it. Not reports, nor mail that is in quarantine.", examples=["journal@example.com"]
    )


Networks = tuple[Annotated[Network, PlainValidator(_judged(_any_network, "network")), Kind("network")], ...]


class ClientRate(Section):
    """How much clients may send in a time, by token bucket; each rate counts for itself.

    Who exceeds one hears when to come back: 421 4.7.1 in place of the banner, or 450 4.7.1 to MAIL or RCPT.
    """

    of: Literal["connections", "messages", "recipients"] = Field(
        description="What is counted: connections, MAIL commands or recipients.", examples=["messages"]
    )
    by: Literal["client", "network", "account", "all"] = Field(
        default="client",
        description="Who shares a bucket: one address (IPv6: one /64), one network (IPv4 /24, IPv6 /48), one account, "
        "or everybody.",
    )
    limit: Count = Field(description="How many: at once, and in each `per`.", examples=[100])
    per: Duration = Field(default=timedelta(hours=1), description="The time in which an empty bucket fills again.")
    networks: Networks = Field(
        default=(), description="Clients it is about; empty: all.", examples=[("198.51.100.0/24",)]
    )
    exempt: Networks = Field(
        default=(), description="Clients it is not about.", examples=[("127.0.0.0/8", "192.0.2.0/24")]
    )
    kept_in: Literal["memory", "spool"] = Field(
        default="memory",
        description="`memory`: from nothing when it starts; processes of one queue tell one another each second what "
        "was taken: who sends to N of them at once may have N bursts, which are made up for. `spool`: counted in whole "
        "periods of `per`, outlasts a restart and is shared by all processes; a write to the disk for each that is "
        "counted. Not for connections.",
    )


class Screening(Section):
    """What follows from what `[[dns_list]]` say of a stranger: the strictest whose score is reached."""

    tag: Score = Field(default=0, description="From this score on a field `X-Waypost-Lists` tells it. 0: never.")
    greylist: Score = Field(default=0, description="From this score on its mail is greylisted. 0: never.")
    quarantine: Score = Field(
        default=0,
        description="From this score on its mail is taken and held, where `waypost quarantine` shows, releases and "
        "deletes it. 0: never.",
    )
    refuse: Score = Field(
        default=0, description="From this score on its recipients are answered 550 5.7.1, but the postmaster. 0: never."
    )
    exempt: Networks = Field(
        default=(),
        description="Clients that neither lists nor greylisting concern. So are those who may relay through us.",
        examples=[("198.51.100.0/24",)],
    )
    timeout: Duration = Field(
        default=timedelta(seconds=3), description="How long all lists together may take; no answer is no listing."
    )
    keep: Duration = Field(
        default=timedelta(days=30), description="How long mail stays in quarantine; then it is deleted, unreported."
    )


class DnsList(Section):
    """A list in DNS that strangers are looked up in (RFC 5782). One that fails its test entries is ignored."""

    zone: Annotated[str, PlainValidator(_judged(host_name, "domain")), Kind("domain")] = Field(
        description="Where it is.", examples=["bl.example.org"]
    )
    of: Literal["client", "domain"] = Field(
        default="client",
        description="What is looked up: the client's address, or the domain of the reverse-path and the name in EHLO.",
    )
    score: Annotated[int, Field(ge=-1000, le=1000), Kind("whole number")] = Field(
        default=1, description="What a listing counts; below 0 for a list that speaks for those in it."
    )
    answers: Annotated[dict[IPv4Network, int], PlainValidator(_scores), Kind("table")] = Field(
        default={},
        description="The scores of single answers, by address or network; others are no listing then. Empty: any "
        "answer in 127.0.0.0/8 counts `score`, but 127.255.255.0/24, which is how lists tell of errors.",
        examples=[{"127.0.0.2": 5, "127.0.0.4/30": 3}],
    )


class Greylist(Section):
    """Who is new is asked to come again (451 4.7.1).

    What counts is the client's network, the reverse-path and the recipient together; the spool remembers them.
    """

    mode: Literal["off", "suspects", "all"] = Field(
        default="off",
        description="`suspects`: those whose score reaches `screening.greylist`. `all`: all strangers, but those with "
        "a score below 0.",
    )
    delay: Duration = Field(default=timedelta(minutes=5), description="How long until it may pass.")
    window: Duration = Field(
        default=timedelta(days=1), description="How long it may take to come again; later it is new once more."
    )
    keep: Duration = Field(default=timedelta(days=35), description="How long it stays known after it came.")
    networks_after: Annotated[int, Field(ge=0, le=1_000_000), Kind("whole number")] = Field(
        default=5,
        description="After so many that came again, all mail of the client's network (IPv4 /24, IPv6 /64) passes. 0: "
        "never.",
    )


class Auth(Section):
    """The accounts of those who submit mail. AUTH is offered to them under TLS, and in clear on loopback alone."""

    users: Words = Field(
        default="",
        description="The users' file, made by `waypost user add`, of mode 0600; relative to the configuration file. "
        "It is read again when it changes. Empty: there are no accounts.",
        examples=["users"],
    )
    domain: Words = Field(
        default="",
        description="Where an account whose name is no address has its own: the reverse-path it may use, unless its "
        "`may_send_as` says more. Empty: the postmaster's domain.",
    )
    mechanisms: tuple[Mechanism, ...] = Field(
        default=_OFFERED,
        min_length=1,
        description="What is offered, of that which the accounts can be judged by. `SCRAM-SHA-256-PLUS` is offered "
        "only where it is listed: it binds the login to the TLS connection by `tls-server-end-point`, which not every "
        "client knows. So is `EXTERNAL`, the login by a certificate on listeners with `client_ca`: it is that of the "
        "account it is pinned to, or whose name is an e-mail address in it.",
    )
    from_field: Literal["any", "sender", "refuse"] = Field(
        default="any",
        description="What becomes of a submitted message whose From (or Sender, where there is one) is not an address "
        "the account may send as. `any`: it is taken. `sender`: a Sender field with the reverse-path is put in front "
        "(RFC 6409 §8.1). `refuse`: 554, as is a message without From.",
    )
    pam_service: Words = Field(
        default="", description="In place of `users`: the service of PAM that knows passwords (extra `pam`)."
    )
    ldap_url: Words = Field(
        default="",
        description="In place of `users`: the directory that knows passwords, `ldaps://` or `ldap://` with StartTLS "
        "(extra `ldap`).",
    )
    ldap_dn: Words = Field(
        default="", description="The name a user binds by, `%u` for what he gave: `uid=%u,ou=people,dc=example,dc=net`."
    )
    ldap_ca: Words = Field(
        default="",
        description="A file of authorities (PEM), relative to the configuration file, that the directory's certificate "
        "is verified by; empty: those that this machine trusts.",
    )
    issuer: Words = Field(
        default="",
        description="Who issues tokens for OAUTHBEARER and XOAUTH2, as their `iss` names it (extra `oauth`).",
    )
    issuer_keys: Words = Field(
        default="", description="Its public keys (JWKS): a file, relative to the configuration file, or an https URL."
    )
    issuer_audience: Words = Field(default="", description="Us, as the tokens' `aud` names us.")
    issuer_claim: Text = Field(default="email", description="The claim of a token that names the account.")
    network_failures: Count = Field(
        default=20, description="Failed logins from one client address (IPv6: one /64) after which none is tried."
    )
    account_failures: Count = Field(
        default=50,
        description="Failed logins to one account after which none is tried, but from where it logged in before.",
    )
    failure_window: Duration = Field(
        default=timedelta(minutes=15), description="How long without a failure until they are forgotten."
    )
    token_key_file: Words = Field(
        default="",
        description="The key that encrypts OAuth tokens in the spool, made by `waypost oauth login`, of mode 0600; "
        "keep it apart from the spool's backup. Relative to the configuration file.",
        examples=["oauth.key"],
    )
    token_key_env: Words = Field(default="", description="Environment variable with that key, in its place.")


class OAuth(Section):
    """An OAuth 2.0 authorisation for a smart host that takes access tokens: Microsoft 365, Gmail and others."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$"), Kind("word")] = Field(
        description="What `route.oauth` and `waypost oauth` call it: lower-case letters, digits and hyphens.",
        examples=["microsoft"],
    )
    provider: Literal["google", "microsoft", "other"] = Field(
        default="other", description="Whose addresses and scope stand in for those left empty below."
    )
    tenant: Words = Field(default="common", description="For Microsoft: the directory, by name or id.")
    grant: Literal["user", "client"] = Field(
        default="user",
        description="`user`: somebody logs in with `waypost oauth login`, and the token is renewed from then on. "
        "`client`: the program is its own user (client credentials), and nobody logs in.",
    )
    client_id: Text = Field(description="The program's id, as the provider registered it.", examples=["0a1b2c3d"])
    client_secret_file: Words = Field(
        default="", description="File with its secret, read at start; relative to the configuration file."
    )
    client_secret_env: Words = Field(default="", description="Environment variable with its secret, read at start.")
    token_url: Words = Field(default="", description="Where tokens are granted; https, or http on loopback.")
    device_url: Words = Field(default="", description="Where a login on another device begins (RFC 8628).")
    authorize_url: Words = Field(default="", description="Where a login in a browser begins (RFC 8252).")
    scope: Words = Field(default="", description="What is asked for.")
    notify: Words = Field(
        default="",
        description="Who gets a message when the authorisation has ended; its route must not need this authorisation. "
        "Empty: the postmaster.",
    )


def _values(value: object) -> Sequence[str]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word.strip() for word in words):
        raise PydanticCustomError(
            "waypost", "{problem}", {"problem": f"{value!r} is neither text nor a list of it", "remedy": ""}
        )
    return tuple(words)


def _entries(value: object) -> dict[str, Sequence[str]]:
    if not isinstance(value, dict):
        raise PydanticCustomError("waypost", "{problem}", {"problem": f"{value!r} is no table", "remedy": ""})
    return {str(key): _values(listed) for key, listed in value.items()}


class Map(Section):
    """A list that is looked up: what an address stands for, or who exists. Exactly one of its sources is written."""

    name: Text = Field(description="What `[[domain]]` calls it by.", examples=["aliases"])
    entries: Annotated[dict[str, Sequence[str]], PlainValidator(_entries), Kind("table")] = Field(
        default={},
        description='Source: the entries themselves, `{ "info@example.com" = ["alice", "bob@example.org"] }`.',
        examples=[{"info": "alice"}],
    )
    file: Words = Field(
        default="",
        description="Source: a text file of `key value, value …` lines, as Postfix's hash: and texthash: have it, or "
        "`key: value`. Read again when it has changed.",
    )
    regexp: Words = Field(
        default="",
        description="Source: a text file of `/regular expression/ replacement` lines; the first that is found in the "
        "address wins, `$1` is its first group.",
    )
    sqlite: Words = Field(default="", description="Source: an SQLite database; `query` reads it.")
    http: Words = Field(
        default="",
        description="Source: a URL with `{key}` in it. 200 with a JSON list of addresses (or text): listed; 404: not.",
    )
    call_ahead: Words = Field(
        default="",
        description="Source: the mail store itself, asked by RCPT over `lmtp:///run/lmtp.sock`, `lmtp://192.0.2.1:24` "
        "or `smtp://192.0.2.1:25`; for `users`.",
        examples=["lmtp:///run/dovecot/lmtp"],
    )
    accept_when_down: bool = Field(
        default=False,
        description="For `call_ahead`: whether all are taken for users while the store gives no answer; else 451.",
    )
    postgres: Words = Field(
        default="",
        description="Source: PostgreSQL, `postgresql://user@host/database` (extra `postgres`); `query` reads it.",
        examples=["postgresql://waypost@db.example.net/mail?sslmode=verify-full"],
    )
    mysql: Words = Field(
        default="",
        description="Source: MySQL or MariaDB, `mysql://user@host/database` (extra `mysql`); `query` reads it.",
        examples=["mysql://waypost@db.example.net/mail?ssl-mode=verify_identity"],
    )
    ldap: Words = Field(
        default="",
        description="Source: a directory, `ldaps://host` or `ldap://host` with StartTLS (extra `ldap`), searched by "
        "`base`, `filter` and `attributes`.",
        examples=["ldaps://ldap.example.net"],
    )
    base: Words = Field(default="", description="For `ldap`: where the search begins.", examples=["dc=example,dc=net"])
    filter: Words = Field(
        default="",
        description="For `ldap`: what is searched for, with `{key}` the address, `{user}` and `{domain}` its halves.",
        examples=["(mail={key})"],
    )
    attributes: tuple[Text, ...] = Field(
        default=("mail",), min_length=1, description="For `ldap`: whose values are the map's."
    )
    bind_dn: Words = Field(default="", description="For `ldap`: as whom to ask; empty: as nobody.")
    password_file: Words = Field(
        default="",
        description="For `postgres`, `mysql` and `ldap`: file with the password, read at start; relative to the "
        "configuration file.",
    )
    query: Words = Field(
        default="",
        description="For `sqlite`, `postgres` and `mysql`: one SELECT; its first column is the values. `:key` stands "
        "for the address, `:user` and `:domain` for its halves.",
        examples=["SELECT target FROM aliases WHERE address = :key"],
    )
    token_file: Words = Field(default="", description="For `http`: a file with a bearer token.")
    ca: Words = Field(
        default="",
        description="For `postgres`, `mysql`, `ldap` and `https`: a file of authorities (PEM), relative to the "
        "configuration file. The server's certificate has to be signed by one of them, and for its name. Empty: as the "
        "URL says, by those that this machine trusts.",
        examples=["our-ca.pem"],
    )
    timeout: Duration = Field(
        default=timedelta(seconds=5),
        description="How long one answer may take; then the recipient is answered 451, and the client tries again.",
    )
    cache: Duration = Field(
        default=timedelta(minutes=5), description="How long what was found holds (but in a file, or here)."
    )
    negative_cache: Duration = Field(
        default=timedelta(minutes=1), description="How long it holds that an address was not there."
    )


MAP_SOURCES: Final = ("entries", "file", "regexp", "sqlite", "postgres", "mysql", "ldap", "http", "call_ahead")


class Domain(Section):
    """Domains that are ours, whatever their route: who exists there, and whom an address stands for.

    In this order: `rewrite`, `aliases`, `users`, `@domain` in `aliases`, `catch_all`, `unknown`.
    """

    names: tuple[Annotated[Pattern, PlainValidator(_judged(Pattern.parse, "domain")), Kind("domain")], ...] = Field(
        min_length=1,
        description='As `domains` of a route, without `"*"`. Mail for them is taken from anyone.',
        examples=[("example.com",)],
    )
    rewrite: Words = Field(
        default="", description="Recipients are moved to this domain, in the envelope too; then its own rules apply."
    )
    aliases: tuple[Text, ...] = Field(
        default=(),
        description="Names of maps: an address → whom it stands for; `251 bob@example.org` forwards and tells the "
        "client so, `551 bob@example.org` tells it to send there itself (RFC 5321 §3.4). Looked up are "
        "`user+tag@domain`, "
        "`user@domain`, "
        "`user+tag`, `user`.",
        examples=[("aliases",)],
    )
    users: tuple[Text, ...] = Field(
        default=(), description="Names of maps that list who exists; the values in them are not read."
    )
    catch_all: Annotated[str, PlainValidator(_judged(_catch_all, "mailbox")), Kind("mailbox, may be empty")] = Field(
        default="", description="Who gets the mail of recipients that are not listed."
    )
    subaddress: Words = Field(
        default="",
        description='Characters that begin a subaddress: with `"+"`, `user+tag` is looked up as `user` too (RFC 5233).',
        examples=["+"],
    )
    keep_tag: bool = Field(default=True, description="Whether `+tag` stays in the envelope where `user` is delivered.")
    unknown: Words = Field(
        default="",
        description='What becomes of who is not listed: `"accept"`, `"refuse"` with 550 5.1.1, or `"route:NAME"` for a '
        "split domain: a route without domains looks after them. Empty: `refuse` where there are users, else `accept`.",
    )


_AddressClass = Literal["envelope-sender", "header-sender", "envelope-recipient", "header-recipient"]


class Rewriting(Section):
    """Addresses that become others on their way through, in the words of Postfix.

    In this order: canonical, masquerade, `generic` of the route, `rewrite_sender` of the route. The queue keeps what
    came, and reports go to the reverse-path that the message came with.
    """

    canonical: tuple[Text, ...] = Field(
        default=(),
        description="Names of maps: an address → what stands in its place, for senders and recipients. Looked up are "
        "`user@domain` and `@domain`; a value `@other.example` keeps the user.",
        examples=[("canonical",)],
    )
    sender_canonical: tuple[Text, ...] = Field(default=(), description="The same, for senders alone, and before it.")
    recipient_canonical: tuple[Text, ...] = Field(
        default=(), description="The same, for recipients alone, and before it."
    )
    canonical_classes: tuple[_AddressClass, ...] = Field(
        default=("envelope-sender", "header-sender", "envelope-recipient", "header-recipient"),
        min_length=1,
        description="Where that is done. Envelope recipients change at RCPT, before their route is looked up.",
    )
    masquerade: tuple[Text, ...] = Field(
        default=(),
        description="Domains whose hosts are hidden: with `example.net`, `ann@pc7.example.net` is `ann@example.net`. "
        "`!lab.example.net` leaves that one as it is.",
        examples=[("example.net",)],
    )
    masquerade_exceptions: tuple[Text, ...] = Field(
        default=(), description="Local-parts that keep their host.", examples=[("root",)]
    )
    masquerade_classes: tuple[Literal["envelope-sender", "header-sender", "header-recipient"], ...] = Field(
        default=("envelope-sender", "header-sender", "header-recipient"),
        min_length=1,
        description="Where that is done.",
    )
    srs_domain: Words = Field(
        default="",
        description='For `rewrite_sender = "srs"`: the domain of wrapped addresses. Mail for it has to come to us '
        "(MX), and leads back to whom it wraps, for three weeks.",
        examples=["srs.example.net"],
    )
    srs_secret_file: Words = Field(
        default="",
        description="File with the secret that signs them, read at start; relative to the configuration file.",
    )
    srs_secret_env: Words = Field(default="", description="Environment variable with that secret, read at start.")


class Going(Section):
    """How mail is passed on: what a route says, and a `[[destination]]` says otherwise."""

    concurrency: Count = Field(default=RouteLimits().concurrency, description="Connections to one next hop at once.")
    recipients: Count = Field(
        default=RouteLimits().recipients,
        description="Recipients a transaction; every server takes 100 (RFC 5321 §4.5.3.1.8).",
    )
    messages: Count = Field(default=RouteLimits().messages, description="Transactions a connection.")
    rate: Rate = Field(
        default="",
        description="Messages a time to one next hop, evenly spread, from each process of the service: "
        '`"30/1m"` begins one every two seconds. Empty: as fast as it takes them.',
        examples=["30/1m"],
    )
    size: Annotated[int, PlainValidator(_judged(_size_from(1024), "size in quotes")), _SIZE] = Field(
        default=0,
        description="Largest message that goes this way; a larger one is refused at RCPT where the client declares its "
        "size, else reported. `0`: as large as `limits.message_size` has it.",
    )
    helo_fallback: Literal["unless-tls", "never", "always"] = Field(
        default="unless-tls",
        description="Whether a server that breaks on EHLO (hangs up, stalls, answers nonsense) is greeted with HELO, "
        "on a new connection. `unless-tls`: not one that has offered STARTTLS within `helo_memory.ttl`, for somebody "
        "may be stripping it; its mail waits. `never`, `always`: whatever it has offered. What needs TLS, AUTH or "
        "SMTPUTF8 never goes by HELO.",
    )
    helo: Annotated[str, PlainValidator(_judged(_hostname, "host name")), Kind("host name")] = Field(
        default="", description="The name to give in EHLO; empty: `service.hostname`.", examples=["out1.example.net"]
    )
    source: tuple[Source, ...] = Field(
        default=(),
        description="Addresses of this machine to come from, the first of the same family as the host's; none: the "
        "system's choice.",
        examples=[("192.0.2.25", "2001:db8::25")],
    )
    schedule: tuple[Duration, ...] = Field(default=(), description="In place of `retry.schedule`.")
    expire: OwnDuration = Field(default=timedelta(), description="In place of `retry.expire`.")
    delay_notice: OwnDuration = Field(default=timedelta(), description="In place of `retry.delay_notice`.")
    urgent_schedule: tuple[Duration, ...] = Field(
        default=(),
        description="In place of `retry.urgent_schedule`, for mail of a priority above 0. What neither says of such "
        "mail is as the three above.",
    )
    urgent_expire: OwnDuration = Field(default=timedelta(), description="In place of `retry.urgent_expire`.")
    urgent_delay_notice: OwnDuration = Field(
        default=timedelta(), description="In place of `retry.urgent_delay_notice`."
    )
    non_urgent_schedule: tuple[Duration, ...] = Field(
        default=(), description="In place of `retry.non_urgent_schedule`, for mail of a priority below 0."
    )
    non_urgent_expire: OwnDuration = Field(default=timedelta(), description="In place of `retry.non_urgent_expire`.")
    non_urgent_delay_notice: OwnDuration = Field(
        default=timedelta(), description="In place of `retry.non_urgent_delay_notice`."
    )


class Destination(Going):
    """Other limits and manners for some of the domains that a route by `mx:` serves. The most specific wins.

    What is not written here is as the route has it.
    """

    domains: tuple[Annotated[Pattern, PlainValidator(_judged(Pattern.parse, "domain")), Kind("domain")], ...] = Field(
        min_length=1, description="Recipients' domains, as in a route.", examples=[("example.com",)]
    )
    tls: Literal["none", "opportunistic", "required", "verify", "dane", "mta-sts", "auto"] = Field(
        default="auto", description="As in a route."
    )


class Route(Going):
    """Where mail goes next. The most specific domain wins; the order in the file plays no part."""

    domains: tuple[Annotated[Pattern, PlainValidator(_judged(Pattern.parse, "domain")), Kind("domain")], ...] = Field(
        default=(),
        description='`"example.com"` with its sub-domains, `"=example.com"` alone, `"[192.0.2.1]"` an address literal, '
        '`"*"` everything else. None: the route has a `name`, and `unknown` of a `[[domain]]` leads to it.',
        examples=[("example.com",)],
    )
    to: Annotated[Target, PlainValidator(_target), Kind("place, or list of servers")] = Field(
        description='`"smtp://host:25"`, `"smtps://host:465"` (TLS from the first octet) or a list of them, tried in '
        'order; `"mx:"` the domain\'s mail exchangers; '
        '`"mx:example.net"` another domain\'s; `"lmtp://host:24"` or `"lmtp:///run/lmtp.sock"`; '
        '`"maildir:/path/%d/%u"` with domain and local-part; `"https://app.example.net/mail"` a webhook; '
        '`"pipe:/usr/local/bin/program --for %r"` a program, whose arguments may hold `%r` the recipient, `%u` its '
        "local-part, `%d` its domain, `%s` the reverse-path and `%i` our id of the message; "
        '`"atrn:ACCOUNT"` nowhere, until that account logs in and says ATRN (RFC 2645): then over its own connection; '
        '`"capture:"` the inbox of the dashboard; `"discard:"`; '
        '`"reject:550 5.1.1 no such user"`.',
        examples=["smtp://inner.example.com:25"],
    )
    name: Words = Field(default="", description="What logs call it; empty: its first domain.")
    weights: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        default=(),
        description="One for each server of `to`: each is tried first as often as its weight says, the others "
        "come after it. Empty: always in order.",
        examples=[(3, 1)],
    )
    senders: tuple[Annotated[str | Pattern, PlainValidator(_judged(_sender, "sender")), Kind("sender")], ...] = Field(
        default=(),
        description="Only mail from these reverse-paths goes this way: addresses, domains with their sub-domains, "
        '`"=example.org"` without them, `"<>"` for reports. Of routes for the same domain, one for an account goes '
        "before one for an address, that before one for a domain, and that before one for everybody.",
        examples=[("ann@example.net", "example.org")],
    )
    accounts: tuple[Text, ...] = Field(
        default=(), description="Only mail of these accounts (who has logged in) goes this way.", examples=[("shop",)]
    )
    addresses: tuple[Annotated[Mailbox, PlainValidator(_judged(_mailbox, "mailbox")), Kind("mailbox")], ...] = Field(
        default=(),
        description="Recipients that go this way whatever the routes of their domains say.",
        examples=[("ann@example.com",)],
    )
    quota: tuple[
        Annotated[tuple[Quota, ...], PlainValidator(_judged(_quota, "quota")), Kind("quota or provider")], ...
    ] = Field(
        default=(),
        description='What may be sent this way in a time, sliding: `"2000/1d"` (messages), `"500 recipients/1d"` or '
        f"what a provider publishes: {', '.join(f'`{name}`' for name in PRESETS)}. It is counted by username, over all "
        "routes that log in with the same (without one, by route), and kept in the spool. Once it is spent, mail goes "
        "to the fallback, or waits until there is room.",
        examples=[("google-workspace", "100/1h")],
    )
    fallback: tuple[Text, ...] = Field(
        default=(),
        description="Who takes what this route cannot: the name of a route without domains, or smtp:// servers.",
        examples=[("second",)],
    )
    fallback_attempts: Count = Field(
        default=3, description="So many attempts in vain, and the fallback is asked before the next hop is."
    )
    fallback_after: OwnDuration = Field(
        default=timedelta(),
        description="The same, once a message has waited so long; empty: by `fallback_attempts` alone.",
    )
    generic: tuple[Text, ...] = Field(
        default=(),
        description="Names of maps: an address → what the next hop sees in its place, in envelope sender and header.",
        examples=[("generic",)],
    )
    rewrite_sender: Words = Field(
        default="",
        description="For a smart host that refuses senders it does not know. A mailbox: From, Sender and reverse-path "
        'become it, and Reply-To has who it was. `"srs"`: the reverse-path alone becomes an address of `srs_domain`, '
        "which leads back.",
        examples=["relay@example.net"],
    )
    allowed_senders: tuple[
        Annotated[Pattern, PlainValidator(_judged(Pattern.parse, "domain")), Kind("domain")], ...
    ] = Field(
        default=(),
        description="Domains whose senders `rewrite_sender` leaves as they are.",
        examples=[("example.net",)],
    )
    accept_from: Literal["anyone", "relay", ""] = Field(
        default="",
        description="Whose mail this route takes: `anyone`'s (the domains are ours) or that of `relay.networks` alone. "
        'Empty: `relay` for `"*"`, for `mx:` and where we log in; else `anyone`.',
    )
    tls: Literal["", "none", "opportunistic", "required", "verify", "dane", "mta-sts", "auto"] = Field(
        default="",
        description="`none`: never. `opportunistic`: where STARTTLS is offered, any certificate. `required`: never in "
        "clear, any certificate. `verify`: never in clear, and the certificate must be the host's. `dane`: only by the "
        "domain's signed TLSA records (RFC 7672). `mta-sts`: only hosts that the domain's MTA-STS policy names, with "
        "their certificates (RFC 8461). `auto`: DANE where the domain has it, else MTA-STS where it has that, else "
        "`opportunistic`. Empty: `auto` for `mx:`, else `opportunistic`.",
    )
    username: Words = Field(
        default="", description="For AUTH, by the strongest mechanism on offer; empty: no authentication."
    )
    password_file: Words = Field(
        default="", description="File with the password, read at start; relative to the configuration file."
    )
    password_env: Words = Field(default="", description="Environment variable with the password, read at start.")
    oauth: Words = Field(
        default="", description="The `[[oauth]]` whose access token stands in the password's place, by its name."
    )
    act_as: Words = Field(
        default="",
        description="The account whose rights are asked for at the login, where that is another (by PLAIN, SCRAM or "
        "EXTERNAL).",
    )
    client_certificate: Words = Field(
        default="",
        description="File with a certificate of ours in PEM, and its chain: shown under TLS to a server that asks for "
        "one. Read again when it changes. Relative to the configuration file.",
        examples=["/etc/waypost/client.pem"],
    )
    client_key: Words = Field(
        default="", description="File with its private key, without a passphrase; empty: the same file."
    )
    external: bool = Field(
        default=False, description="Log in by that certificate (AUTH EXTERNAL), in place of a username and a password."
    )
    xclient: bool = Field(
        default=False,
        description="Tell the server whose mail it is (address, HELO name, account) by Postfix's XCLIENT, as far as it "
        "offers that to us: for a filter of yours that judges clients. Each client's mail has connections of its own.",
    )
    deliver: Literal["at-once", "on-demand"] = Field(
        default="at-once",
        description="`on-demand`: mail waits until its host says ETRN (RFC 1985): for hosts that are not always "
        "connected. What is not asked for within `retry.expire` comes back.",
    )
    tnef: bool = Field(
        default=False,
        description="Whether winmail.dat (TNEF) is taken apart into its attachments and HTML (extra `tnef`).",
    )
    uuencode: bool = Field(default=False, description="Whether uuencoded files in a text become attachments.")
    binhex: bool = Field(default=False, description="Whether BinHex files in a text, or attached, become attachments.")
    charset: Words = Field(
        default="",
        description="The character set texts are written in, where it has all their characters. Empty: as they came.",
        examples=["iso-8859-1"],
    )
    wrap: Annotated[int, Field(ge=0, le=998), Kind("whole number")] = Field(
        default=0, description="Characters after which lines of plain text are wrapped; 0: as they came."
    )
    auto_replies: Literal["send", "suppress"] = Field(
        default="send",
        description="`suppress`: out-of-office and other automatic replies (RFC 3834) go no further; log and history "
        "tell of each. Reports are no such replies.",
    )
    hours: tuple[Annotated[Hours, PlainValidator(_judged(parse_hours, "hours")), Kind("hours")], ...] = Field(
        default=(),
        description='When it delivers: `"mon-fri 08:00-18:00"`, `"sat,sun 22:00-06:00"`. Until it opens mail waits '
        "untried, and is given up no sooner for it. Empty: always, or, with `open_after` or `open_at`, only then.",
    )
    time_zone: Annotated[ZoneInfo, PlainValidator(_judged(parse_zone, "time zone")), Kind("time zone")] = Field(
        default=ZoneInfo("UTC"), description="The time zone of `hours`.", examples=["Europe/Berlin"]
    )
    open_after: Annotated[timedelta, PlainValidator(_judged(_no_duration, "duration in quotes")), Kind("duration")] = (
        Field(default=timedelta(), description='It opens too when mail has waited for so long. `"0s"`: never.')
    )
    open_at: Annotated[int, Field(ge=0, le=1000), Kind("whole number")] = Field(
        default=0, description="It opens too when so many messages wait, and stays open until nothing is due. 0: never."
    )
    format: Literal["json", "raw"] = Field(
        default="json",
        description="What a webhook is sent: `json` an object with envelope, header fields and the message in base64; "
        "`raw` the message itself as `message/rfc822`, its envelope in the header field `Waypost-Envelope`.",
    )
    ca: Words = Field(
        default="",
        description="For a webhook: a file of authorities (PEM), relative to the configuration file, that its "
        "certificate is verified by in place of those that this machine trusts.",
        examples=["our-ca.pem"],
    )
    secret_file: Words = Field(
        default="",
        description="File with the secret that signs a webhook's requests (HMAC-SHA-256), read at start; relative to "
        "the configuration file.",
    )
    secret_env: Words = Field(default="", description="Environment variable with that secret, read at start.")
    timeout: Duration = Field(
        default=timedelta(minutes=1), description="How long a webhook or a program may take for one message."
    )
    run_as: Words = Field(
        default="",
        description="The user a program runs as, by name or number, with its group and no other; only where the "
        "service is root, and must be written there. Empty: as the service itself.",
    )
    memory: Annotated[int, PlainValidator(_judged(_size_from(16 * 1024**2), "size in quotes")), _SIZE] = Field(
        default=512 * 1024**2, description="Memory a program may have (its address space)."
    )


def _plain_table(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise PydanticCustomError("waypost", "{problem}", {"problem": f"{value!r} is no table", "remedy": ""})
    return value


class Hook(Section):
    """A Python module that has a say in what becomes of mail; docs/howto/hooks.md tells what it may define.

    Hooks are asked in the order of the file, and about what the service would take itself.
    """

    module: Text = Field(
        description="A file, relative to the configuration file, or the dotted name of an installed module.",
        examples=["policy.py"],
    )
    name: Words = Field(default="", description="What log, replies and metrics call it; empty: the module's name.")
    budget: Duration = Field(
        default=timedelta(seconds=5),
        description="How long one call may take. One that takes longer, or raises, defers its message, and no other.",
    )
    settings: Annotated[Mapping[str, object], PlainValidator(_plain_table), Kind("table")] = Field(
        default={}, description="What its `configure(settings)` is called with.", examples=[{"limit": 100}]
    )


class Fetch(Section):
    """A provider that keeps our mail until we call for it; each is its own `[[fetch]]`.

    By ATRN (RFC 2645) the mail comes over the connection we make, so that nobody has to reach us; by ETRN (RFC 1985)
    the provider connects to our listener. Mail for domains that are not ours is refused.
    """

    name: Text = Field(description="What logs call it.", examples=["provider"])
    server: Text = Field(
        description="`smtp://host:366` (RFC 2645 gives ATRN port 366) or `smtps://host:465`.",
        examples=["smtp://odmr.provider.example:366"],
    )
    command: Literal["atrn", "etrn"] = Field(default="atrn", description="How it is asked.")
    domains: tuple[Text, ...] = Field(
        default=(),
        description="Domains whose mail is asked for. Empty, by ATRN: all that the account has.",
        examples=[("example.com",)],
    )
    every: Duration = Field(default=timedelta(minutes=15), description="How often; the first time at the start.")
    tls: Literal["", "none", "opportunistic", "required", "verify"] = Field(
        default="", description="As of a route. Empty: `verify`, on loopback `opportunistic`."
    )
    username: Words = Field(default="", description="For AUTH; ATRN needs it.")
    password_file: Words = Field(
        default="", description="File with the password, read at start; relative to the configuration file."
    )
    password_env: Words = Field(default="", description="Environment variable with the password, read at start.")
    oauth: Words = Field(default="", description="The `[[oauth]]` whose access token stands in the password's place.")


class Retry(Section):
    """When to try again, and when to give up (RFC 5321 §4.5.4.1)."""

    schedule: tuple[Duration, ...] = Field(
        default=tuple(parse_duration(text) for text in ("1m", "5m", "15m", "30m", "1h", "2h", "4h")),
        min_length=1,
        description="The pauses after the first attempt, the second and so on; the last one repeats.",
    )
    expire: Duration = Field(
        default=timedelta(days=5), description="From receipt to giving up; then the author gets a report."
    )
    delay_notice: Duration = Field(
        default=timedelta(hours=4), description="From receipt to a report of delay. Longer than `expire`: never."
    )
    jitter: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Each pause grows by up to this share, so that what failed together does not come back together.",
    )
    urgent_schedule: tuple[Duration, ...] = Field(
        default=(),
        description="The pauses for mail of a priority above 0 (MT-PRIORITY, RFC 6710 §5.3). Empty: as `schedule`.",
        examples=[("30s", "1m", "2m", "5m")],
    )
    urgent_expire: OwnDuration = Field(
        default=timedelta(), description="`expire` for mail of a priority above 0. `0s`: as `expire`."
    )
    urgent_delay_notice: OwnDuration = Field(
        default=timedelta(), description="`delay_notice` for mail of a priority above 0. `0s`: as `delay_notice`."
    )
    non_urgent_schedule: tuple[Duration, ...] = Field(
        default=(), description="The pauses for mail of a priority below 0. Empty: as `schedule`."
    )
    non_urgent_expire: OwnDuration = Field(
        default=timedelta(), description="`expire` for mail of a priority below 0. `0s`: as `expire`."
    )
    non_urgent_delay_notice: OwnDuration = Field(
        default=timedelta(), description="`delay_notice` for mail of a priority below 0. `0s`: as `delay_notice`."
    )


class Limits(Section):
    """What is taken from one message, session or client, and from all of them together."""

    message_size: Annotated[int, PlainValidator(_judged(_size_from(64 * 1024), "size in quotes")), _SIZE] = Field(
        default=50 * 1024**2, description="Largest message taken; offered as SIZE (RFC 1870)."
    )
    recipients: Annotated[Count, Field(ge=100)] = Field(
        default=1000, description="Recipients a transaction; not below 100 (RFC 5321 §4.5.3.1.8)."
    )
    recipient_domains: Annotated[int, Field(ge=0, le=1_000_000), Kind("whole number")] = Field(
        default=0,
        description="Domains a transaction may have recipients in, offered as RCPTDOMAINMAX (RFC 9422); 0: any number.",
    )
    connections: Count = Field(default=1000, description="Clients at once; one more is answered 421.")
    connections_per_client: Count = Field(default=50, description="Connections at once from one client address.")
    connections_per_network: Count = Field(
        default=500, description="Connections at once from one network of clients: an IPv4 /24, an IPv6 /48."
    )
    messages: Count = Field(
        default=1000, description="Messages a session; one more is answered 421, and the client connects again."
    )
    session: Duration = Field(
        default=timedelta(hours=6),
        description="How long one client's session may last; then it is answered 421, once its transaction has ended.",
    )
    resent: Duration = Field(
        default=timedelta(hours=1),
        description="How long a message is recognised that a client sends again because its connection broke before "
        "our 250: it is kept once. Only a message with a Message-ID, of up to 256 KiB.",
    )
    errors: Count = Field(default=20, description="Commands refused before a session is closed with 421.")
    hops: Count = Field(
        default=100, description="Received lines after which a message is taken for looping (RFC 5321 §6.3)."
    )
    memory: Annotated[int, PlainValidator(_judged(_size_from(1024**2), "size in quotes")), _SIZE] = Field(
        default=64 * 1024**2,
        description="Message octets held in memory at once, all sessions together; what comes beyond goes to the spool "
        "as it arrives.",
    )
    free_space: Annotated[int, PlainValidator(_judged(_size_from(1024**2), "size in quotes")), _SIZE] = Field(
        default=64 * 1024**2,
        description="What has to be free where the spool lies: below it new mail is refused with 452 4.3.1, while "
        "delivery goes on; half of it is for delivery alone.",
    )
    future_release: Duration = Field(
        default=timedelta(days=7),
        description="How long a client of a `submission` listener may have a message held before it is sent "
        "(FUTURERELEASE, RFC 4865).",
    )
    deliveries: Count = Field(default=500, description="Connections to next hops at once, all of them together.")


class Timeouts(Section):
    """How long each step may take; the defaults are those of RFC 5321 §4.5.3.2 where it names one."""

    connect: Duration = Field(default=timedelta(seconds=30), description="As a client: the connection.")
    tls: Duration = Field(default=timedelta(seconds=60), description="As a client: a TLS handshake.")
    greeting: Duration = Field(default=timedelta(minutes=5), description="As a client: the 220 greeting.")
    ehlo: Duration = Field(default=timedelta(minutes=5), description="As a client: the reply to EHLO, HELO or LHLO.")
    starttls: Duration = Field(default=timedelta(minutes=2), description="As a client: the reply to STARTTLS.")
    auth: Duration = Field(default=timedelta(minutes=2), description="As a client: each reply to AUTH.")
    mail: Duration = Field(default=timedelta(minutes=5), description="As a client: the reply to MAIL.")
    rcpt: Duration = Field(default=timedelta(minutes=5), description="As a client: the reply to RCPT.")
    data: Duration = Field(default=timedelta(minutes=2), description="As a client: the 354 to DATA.")
    block: Duration = Field(default=timedelta(minutes=3), description="As a client: sending one block of a message.")
    dot: Duration = Field(default=timedelta(minutes=10), description="As a client: the reply to the final dot.")
    rset: Duration = Field(default=timedelta(seconds=20), description="As a client: the reply to RSET.")
    quit: Duration = Field(default=timedelta(seconds=5), description="As a client: the reply to QUIT.")
    command: Duration = Field(default=timedelta(minutes=5), description="As a server: the client's next command.")
    body_block: Duration = Field(default=timedelta(minutes=3), description="As a server: the next block of a message.")
    body_total: Duration = Field(default=timedelta(hours=1), description="As a server: one whole message.")


class Dns(Section):
    """How names are looked up. They are always absolute: there is no search list."""

    servers: tuple[
        Annotated[Endpoint, PlainValidator(_judged(_server, "address of a DNS server")), Kind("address[:port]")], ...
    ] = Field(
        default=(),
        description="DNS servers by numeric address, asked in order. Empty: those of `/etc/resolv.conf`.",
        examples=[("127.0.0.1", "192.0.2.53:53")],
    )
    trust_ad: Literal["loopback", "all", "none"] = Field(
        default="loopback",
        description="Whose word is taken that DNSSEC vouches for an answer (the AD bit), which DANE rests on: that of "
        "servers on this machine's loopback, of `all` of `servers`, or nobody's. `all` is for validating resolvers "
        "reached over a network where nobody else can write.",
    )
    timeout: Duration = Field(default=timedelta(seconds=3), description="How long one server may take for one answer.")
    attempts: Count = Field(default=2, description="Rounds through the list of servers.")
    hosts_file: bool = Field(default=True, description="Whether addresses in `/etc/hosts` go before DNS.")
    allow_loopback_mx: bool = Field(
        default=False, description="Whether an MX may point to this machine's loopback: for tests and laptops."
    )
    cache: Count = Field(default=10_000, description="Answers remembered while their time to live lasts.")


class History(Section):
    """What is remembered of messages that are done."""

    keep: Duration = Field(
        default=timedelta(days=30), description="How long `trace` can tell what became of a message."
    )
    bin: Duration = Field(
        default=timedelta(days=7),
        description="How long `waypost queue restore` can bring back what an operator deleted or bounced; never longer "
        "than `keep`.",
    )
    captured: Count = Field(default=1000, description="Messages kept of those `capture:` took; the oldest go first.")


class Log(Section):
    """The log, on standard error or in systemd's journal."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is said.")
    format: Literal["auto", "json", "pretty", "journal"] = Field(
        default="auto",
        description="`auto`: pretty on a terminal, else JSON, a line an event. `journal`: to systemd's journal by its "
        "own protocol, with each field as one of the entry, such as `WAYPOST_ID`.",
    )


class Tracing(Section):
    """Spans for OpenTelemetry (extra opentelemetry): one for each message received, one below it for each attempt.

    A message belongs to the trace that its client names, in `traceparent` of an HTTP request or of the message's header
    (W3C trace context), else to one of its own; that is kept with it in the queue, logged as `trace`, and told to
    webhooks. Without this section, what a client names is kept and told all the same, and no span is made.
    """

    endpoint: str = Field(
        default="",
        description="Where a collector takes OTLP over HTTP; empty: no spans. Headers, certificates and the like are "
        "set by OpenTelemetry's own variables, such as `OTEL_EXPORTER_OTLP_HEADERS`.",
        examples=["http://127.0.0.1:4318"],
    )
    share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0,
        description="Of the traces that begin here, so many are kept: 0.1 is every tenth. One that began elsewhere is "
        "kept where it was there.",
    )


class HeloMemory(Section):
    """The hosts that failed on EHLO and took HELO: the next message begins with HELO there."""

    ttl: Duration = Field(
        default=timedelta(hours=1),
        description="How long that is remembered; then EHLO is tried anew, for a mended host may offer TLS.",
    )


class Cluster(Section):
    """What nodes that share a queue in PostgreSQL do about one another; of no meaning with a spool in a directory."""

    time_to_live: Duration = Field(
        default=timedelta(seconds=7),
        description="A node that the database has not heard for so long is dead, and the others take its mail over; "
        "it sends nothing any more itself. They look every fifth of it. The same on all nodes.",
    )
    connections: int = Field(
        default=8, ge=4, le=200, description="Connections of this node to the database, beside one to listen."
    )
    patience: Duration = Field(
        default=timedelta(seconds=20),
        description="For how long a client waits for its 250 while the database does not answer (a fail-over), before "
        "it gets a 451.",
    )
    bodies: Words = Field(
        default="",
        description="An object store that speaks S3, for the octets of large messages: `s3://BUCKET/PREFIX`, with "
        "`?endpoint=URL` where it is not Amazon's, and `region`. Empty: they are in the database. The same on all "
        "nodes, and not before all of them know it: what is there, an older release holds as unreadable.",
        examples=["s3://mail/queue?endpoint=https://s3.example.net&region=eu-1"],
    )
    bodies_above: Annotated[int, PlainValidator(_judged(_size_from(1024), "size in quotes")), _SIZE] = Field(
        default=64 * 1024,
        description="Messages larger than this have their octets in the store; smaller ones cost less in the database. "
        "No more than 256 KiB counts.",
    )
    bodies_key: Words = Field(
        default="",
        description="The access key. Empty: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, and "
        "AWS_SESSION_TOKEN, if there is one.",
    )
    bodies_secret_file: Words = Field(default="", description="A file with that key's secret, on one line.")
    bodies_secret_env: Words = Field(default="", description="Environment variable with it, in its place.")


_NameOrNothing = Annotated[str, PlainValidator(_judged(_or_empty(host_name), "name")), Kind("name, may be empty")]


class Dkim(Section):
    """What we write ourselves is signed by DKIM: reports to authors, TLS reports, notices (extra `dkim`).

    What others send through us is not signed: that is for whoever writes it. The public half of the key goes into DNS,
    at SELECTOR._domainkey.DOMAIN: docs/howto/signing.md.
    """

    domain: _NameOrNothing = Field(
        default="",
        description="Who signs: the domain of `hostname` and `postmaster`, for these are who our messages are from.",
        examples=["example.net"],
    )
    selector: _NameOrNothing = Field(
        default="", description="Under which name the public key stands in DNS.", examples=["waypost1"]
    )
    key: Words = Field(
        default="",
        description="File with the private RSA key in PEM, without a passphrase; relative to the configuration file.",
        examples=["/etc/waypost/dkim.pem"],
    )
    tls_report_selector: _NameOrNothing = Field(
        default="",
        description="Where the same key stands with `s=tlsrpt`, for TLS reports: some believe them by no other "
        "(RFC 8460 §3). Empty: `selector`.",
        examples=["tlsrpt1"],
    )


class TlsReporting(Section):
    """Daily reports on TLS to the domains that ask for them (RFC 8460). By mail, they want a signature: `[dkim]`."""

    enabled: bool = Field(default=False, description="Whether reports are made and sent.")
    organization: Words = Field(
        default="", description="What reports call who runs this service; empty: the domain of `postmaster`."
    )
    contact: Words = Field(
        default="",
        description="The mailbox to write to about a report, and its author; empty: `postmaster`.",
        examples=["tls-reports@example.net"],
    )


Mailboxes = tuple[Annotated[Mailbox, PlainValidator(_judged(_mailbox, "mailbox")), Kind("mailbox")], ...]
BounceKind = Literal["user", "mailbox", "host", "expired", "loop", "size", "policy", "protocol", "other"]


class Notices(Section):
    """Who is told of what happens, in one message now and then. Reports to authors are another matter, and go on."""

    to: Mailboxes = Field(
        default=(),
        description="Who is told of all classes. Nobody anywhere: no notices.",
        examples=[("admin@example.net",)],
    )
    bounces: Mailboxes = Field(default=(), description="Who is told, besides, of messages that came back.")
    bounce_kinds: tuple[BounceKind, ...] = Field(
        default=get_args(BounceKind),
        description="Which: no such `user`, a `mailbox` in trouble, no such `host`, `expired` in the queue, a `loop`, "
        "too large a `size`, refused by `policy`, errors of `protocol`, any `other`.",
    )
    delays: Mailboxes = Field(default=(), description="Of delays, and of next hops that cannot be reached.")
    policy: Mailboxes = Field(default=(), description="Of what is refused by policy, or put in quarantine.")
    resources: Mailboxes = Field(default=(), description="Of the spool, the disk, lists in DNS, and bugs of ours.")
    protocol: Mailboxes = Field(default=(), description="Of clients and servers that do not keep to SMTP.")
    auth: Mailboxes = Field(default=(), description="Of failed logins, and of next hops that refuse ours.")
    every: Duration = Field(
        default=timedelta(hours=1), description="At most one notice to each in this time; what happens is gathered."
    )
    route: Words = Field(
        default="",
        description="Name of a route by which notices go while their recipient's own is in trouble.",
        examples=["backup"],
    )


#: The file: its tables, and its arrays of tables, in the order of the manual.
TABLES: Final[dict[str, type[Section]]] = {
    "service": Service,
    "tls": Tls,
    "admin": Admin,
    "pickup": Pickup,
    "relay": Relay,
    "access": Access,
    "senders": Senders,
    "screening": Screening,
    "greylist": Greylist,
    "auth": Auth,
    "rewriting": Rewriting,
    "retry": Retry,
    "limits": Limits,
    "timeouts": Timeouts,
    "dns": Dns,
    "history": History,
    "log": Log,
    "helo_memory": HeloMemory,
    "tracing": Tracing,
    "cluster": Cluster,
    "dkim": Dkim,
    "tls_reporting": TlsReporting,
    "notices": Notices,
}
ARRAYS: Final[dict[str, type[Section]]] = {
    "listener": Listener,
    "certificate": Certificate,
    "oauth": OAuth,
    "route": Route,
    "destination": Destination,
    "domain": Domain,
    "map": Map,
    "copy": Copy,
    "hook": Hook,
    "fetch": Fetch,
    "rate": ClientRate,
    "dns_list": DnsList,
}
