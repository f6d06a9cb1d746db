"""Domains that are ours, the maps that tell who exists there, and addresses that become others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from waypost.config.model.values import Domains, Duration, Kind, Section, Text, Words, judged, read_mailbox


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


def _catch_all(text: str) -> str:
    return str(read_mailbox(text)) if text else ""


class Domain(Section):
    """Domains that are ours, whatever their route: who exists there, and whom an address stands for.

    In this order: `rewrite`, `aliases`, `users`, `@domain` in `aliases`, `catch_all`, `unknown`.
    """

    names: Domains = Field(
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
    catch_all: Annotated[str, PlainValidator(judged(_catch_all, "mailbox")), Kind("mailbox, may be empty")] = Field(
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
