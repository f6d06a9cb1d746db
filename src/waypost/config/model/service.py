"""The service itself: who it is, its administration, the nodes of a cluster, and the hooks that have a say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from waypost.config.model.values import (
    SIZE,
    Address,
    Duration,
    Kind,
    Listening,
    Section,
    Text,
    Words,
    judged,
    read_hostname,
    size_from,
)
from waypost.net.stream import Endpoint


def _workers(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 64):
        return value
    problem = {"problem": f"{value!r} is no number of workers", "remedy": 'write 1 to 64, or "auto"'}
    raise PydanticCustomError("waypost", "{problem}", problem)


class Service(Section):
    """Who this service is, and where it keeps its mail."""

    hostname: Annotated[str, PlainValidator(judged(read_hostname, "host name")), Kind("host name")] = Field(
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
    postmaster: Address = Field(
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
    bodies_above: Annotated[int, PlainValidator(judged(size_from(1024), "size in quotes")), SIZE] = Field(
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
