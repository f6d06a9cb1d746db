"""Who may connect and relay, whose mail is not wanted, and who gets a copy."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainValidator

from waypost.config.model.values import Address, AnyNetworks, Domains, Kind, Networks, Section, Words, judged
from waypost.policy.access import parse_sender
from waypost.route.domain import Pattern


class Relay(Section):
    """Who may send through us to domains that are not ours."""

    networks: Networks = Field(
        default=(),
        description="Networks (or single addresses) of clients that may. Empty: nobody.",
        examples=[("127.0.0.0/8", "::1/128")],
    )
    never: AnyNetworks = Field(
        default=(),
        description="Clients that may not, though `networks` has them or they log in.",
        examples=[("192.0.2.66",)],
    )


class Access(Section):
    """Who may connect. The longest prefix wins, whatever the order; of two alike, the one that rejects."""

    accept: AnyNetworks = Field(
        default=(),
        description="Networks (or single addresses) that may: exceptions from `reject`.",
        examples=[("203.0.113.7",)],
    )
    reject: AnyNetworks = Field(
        default=(),
        description='Networks that get 554 5.7.1 in place of the banner. `"0.0.0.0/0"` and `"::/0"` are everybody.',
        examples=[("203.0.113.0/24",)],
    )


class Senders(Section):
    """Reverse-paths that are not wanted."""

    block: tuple[Annotated[str | Pattern, PlainValidator(judged(parse_sender, "sender")), Kind("sender")], ...] = Field(
        default=(),
        description='An address, a domain with its sub-domains, `"=example.org"` without them, or `"<>"`, which '
        "reports on your own mail have: refuse it only where nobody writes from here. MAIL is answered 550 5.7.1.",
        examples=[("spam.example", "ann@example.org")],
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

    of: Domains = Field(
        min_length=1, description='Domains, as in a route; `"*"`: all mail.', examples=[("example.com",)]
    )
    to: Address = Field(
        description="Who gets it. Not reports, nor mail that is in quarantine.", examples=["journal@example.com"]
    )
