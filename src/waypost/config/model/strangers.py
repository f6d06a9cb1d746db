"""What is asked of clients that may not relay: how much they may send, what lists say of them, patience."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from waypost.config.model.values import AnyNetworks, Count, Duration, Kind, Section, judged
from waypost.route.domain import host_name


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


Score = Annotated[int, Field(ge=0, le=100_000), Kind("whole number")]


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
    networks: AnyNetworks = Field(
        default=(), description="Clients it is about; empty: all.", examples=[("198.51.100.0/24",)]
    )
    exempt: AnyNetworks = Field(
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
    exempt: AnyNetworks = Field(
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

    zone: Annotated[str, PlainValidator(judged(host_name, "domain")), Kind("domain")] = Field(
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
