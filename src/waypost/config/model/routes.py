"""Where mail goes next, and how: routes, and what a `[[destination]]` says otherwise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from waypost.config.model.values import (
    SIZE,
    Count,
    Domains,
    Duration,
    Kind,
    Mailboxes,
    OwnDuration,
    Section,
    Text,
    Words,
    judged,
    or_empty,
    read_duration,
    read_hostname,
    read_mailbox,
    size_from,
)
from waypost.mail.window import Hours, parse_hours, parse_zone
from waypost.policy.access import parse_sender
from waypost.route.domain import Pattern
from waypost.route.onward import PRESETS, Quota
from waypost.route.route import Limits as RouteLimits
from waypost.route.target import Target, parse_target


def _rate(text: str) -> float:
    """Seconds from one message to the next, of "30/1m"."""
    count, slash, period = text.partition("/")
    if not slash or not (count.isascii() and count.isdigit() and int(count)):
        raise ValueError(f'{text!r} is no rate; write messages and time, such as "30/1m"')
    return read_duration(period).total_seconds() / int(count)


def _source(text: str) -> str:
    try:
        return str(ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError(f'{text!r} is no address; write one of this machine\'s, such as "192.0.2.25"') from None


def _sender(text: str) -> str | Pattern:
    found = parse_sender(text)
    if isinstance(found, str) and found != "<>":
        return str(read_mailbox(found)).lower()
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
    return (Quota(int(found["amount"]), max(read_duration(found["period"]), timedelta(seconds=1)), counts),)


def _target(value: object) -> Target:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
        raise PydanticCustomError("waypost", "{problem}", {"problem": f"{value!r} is no place", "remedy": ""})
    words: Sequence[str] = texts
    return judged(lambda _: parse_target(words), "place")("")


Rate = Annotated[float | str, PlainValidator(judged(or_empty(_rate), "rate in quotes")), Kind("messages/time")]
Source = Annotated[str, PlainValidator(judged(_source, "address")), Kind("address")]


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
    size: Annotated[int, PlainValidator(judged(size_from(1024), "size in quotes")), SIZE] = Field(
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
    helo: Annotated[str, PlainValidator(judged(read_hostname, "host name")), Kind("host name")] = Field(
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

    domains: Domains = Field(
        min_length=1, description="Recipients' domains, as in a route.", examples=[("example.com",)]
    )
    tls: Literal["none", "opportunistic", "required", "verify", "dane", "mta-sts", "auto"] = Field(
        default="auto", description="As in a route."
    )


class Route(Going):
    """Where mail goes next. The most specific domain wins; the order in the file plays no part."""

    domains: Domains = Field(
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
    senders: tuple[Annotated[str | Pattern, PlainValidator(judged(_sender, "sender")), Kind("sender")], ...] = Field(
        default=(),
        description="Only mail from these reverse-paths goes this way: addresses, domains with their sub-domains, "
        '`"=example.org"` without them, `"<>"` for reports. Of routes for the same domain, one for an account goes '
        "before one for an address, that before one for a domain, and that before one for everybody.",
        examples=[("ann@example.net", "example.org")],
    )
    accounts: tuple[Text, ...] = Field(
        default=(), description="Only mail of these accounts (who has logged in) goes this way.", examples=[("shop",)]
    )
    addresses: Mailboxes = Field(
        default=(),
        description="Recipients that go this way whatever the routes of their domains say.",
        examples=[("ann@example.com",)],
    )
    quota: tuple[
        Annotated[tuple[Quota, ...], PlainValidator(judged(_quota, "quota")), Kind("quota or provider")], ...
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
    allowed_senders: Domains = Field(
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
    hours: tuple[Annotated[Hours, PlainValidator(judged(parse_hours, "hours")), Kind("hours")], ...] = Field(
        default=(),
        description='When it delivers: `"mon-fri 08:00-18:00"`, `"sat,sun 22:00-06:00"`. Until it opens mail waits '
        "untried, and is given up no sooner for it. Empty: always, or, with `open_after` or `open_at`, only then.",
    )
    time_zone: Annotated[ZoneInfo, PlainValidator(judged(parse_zone, "time zone")), Kind("time zone")] = Field(
        default=ZoneInfo("UTC"), description="The time zone of `hours`.", examples=["Europe/Berlin"]
    )
    open_after: OwnDuration = Field(
        default=timedelta(), description='It opens too when mail has waited for so long. `"0s"`: never.'
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
    memory: Annotated[int, PlainValidator(judged(size_from(16 * 1024**2), "size in quotes")), SIZE] = Field(
        default=512 * 1024**2, description="Memory a program may have (its address space)."
    )
