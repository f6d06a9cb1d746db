"""Reading a configuration file: its text → one frozen `Config`, or all complaints about it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from waypost.config.authorisations import Authorisations, build_authorisations, check_alarms
from waypost.config.bodies import Store, build_stores
from waypost.config.check import (
    check_admin,
    check_destinations,
    check_hooks,
    check_listeners,
    check_loops,
    check_on_call,
    check_pickup,
    check_reporting,
    check_routes,
    check_spool,
    check_users,
)
from waypost.config.complaint import Complaint, Complaints
from waypost.config.directions import check_demands, check_mode
from waypost.config.dkim import check_dkim
from waypost.config.domains import check_domains, check_maps, check_quarantine
from waypost.config.fetches import build_providers
from waypost.config.lines import Places
from waypost.config.model import (
    Access,
    Admin,
    Auth,
    ClientRate,
    Cluster,
    Copy,
    Dkim,
    Dns,
    DnsList,
    Domain,
    Greylist,
    HeloMemory,
    History,
    Hook,
    Limits,
    Listener,
    Log,
    Map,
    Notices,
    Pickup,
    Relay,
    Retry,
    Rewriting,
    Screening,
    Senders,
    Service,
    Timeouts,
    Tls,
    TlsReporting,
    Tracing,
)
from waypost.config.notices import check_notices
from waypost.config.rewriting import Addresses, build_addresses
from waypost.config.rules import build_fallbacks, build_override, build_rule, check_fallbacks
from waypost.config.sections import Placed, Reader, placed
from waypost.config.strangers import Strangers, check_strangers
from waypost.config.tls import certificate_files, check_listeners_tls, complete_listener
from waypost.config.written import Written
from waypost.net.certificates import CertificateFiles
from waypost.queue.place import is_database, where_of
from waypost.queue.schedule import RetryPolicy, Variation
from waypost.route.provider import Provider
from waypost.route.table import Override, RouteTable, Rule

_SYNTAX: Final = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL
)
#: How `tomllib` begins to say that a key, or a table, is there twice.
_TWICE: Final = ("Cannot overwrite", "Cannot declare", "Cannot mutate")


@dataclass(frozen=True, slots=True)
class Config:
    """All that was asked for, checked. `where` is the file's name, and `base` its directory, where paths begin."""

    where: str
    base: Path
    #: As it was written.
    text: str
    service: Service
    #: The directory of what is kept on this machine: the queue, too, unless `database` is the address of another place.
    spool: Path
    listeners: tuple[Listener, ...]
    admin: Admin
    pickup: Pickup
    relay: Relay
    access: Access
    senders: Senders
    copies: tuple[Placed[Copy], ...]
    hooks: tuple[Placed[Hook], ...]
    screening: Screening
    greylist: Greylist
    rates: tuple[Placed[ClientRate], ...]
    lists: tuple[Placed[DnsList], ...]
    auth: Auth
    #: Of meaning where `auth.users` names it.
    users: Path
    oauth: Authorisations
    fetches: tuple[Provider, ...]
    rules: tuple[Rule, ...]
    overrides: tuple[Override, ...]
    addresses: Addresses
    domains: tuple[Placed[Domain], ...]
    maps: tuple[Placed[Map], ...]
    retry: Retry
    limits: Limits
    timeouts: Timeouts
    dns: Dns
    history: History
    log: Log
    helo_memory: HeloMemory
    tracing: Tracing
    cluster: Cluster
    #: Of large messages' octets; at most one.
    stores: tuple[Store, ...]
    tls: Tls
    dkim: Dkim
    tls_reporting: TlsReporting
    notices: Notices
    certificates: tuple[CertificateFiles, ...]
    places: Places

    def route_table(self) -> RouteTable:
        """The routes, ready to be looked up."""
        return RouteTable(self.rules, postmaster=self.service.postmaster, overrides=self.overrides)

    @property
    def rewriting(self) -> Rewriting:
        """`[rewriting]` as it is written; `addresses` is what it comes to."""
        return self.addresses.section

    @property
    def database(self) -> str:
        """The address of the queue's database; empty where it is in the directory `spool`."""
        return self.service.spool if is_database(self.service.spool) else ""

    @property
    def queue_at(self) -> str:
        """Where the queue is, for a person."""
        return where_of(self.database) if self.database else str(self.spool)

    @property
    def account_domain(self) -> str:
        """Where an account whose name is no address has its own."""
        return (self.auth.domain or str(self.service.postmaster.domain)).lower()

    @property
    def pickup_directory(self) -> Path:
        """Of meaning where `pickup.directory` names it."""
        return (self.base / self.pickup.directory).absolute()

    @property
    def strangers(self) -> Strangers:
        """What those must pass who may not relay through us."""
        return Strangers(self.screening, self.greylist, self.rates, self.lists)

    def retry_policy(self) -> RetryPolicy:
        """`[retry]`, as the schedule wants it."""
        retry = self.retry
        return RetryPolicy(
            retry.schedule,
            retry.expire,
            retry.delay_notice,
            retry.jitter,
            urgent=Variation(retry.urgent_schedule, retry.urgent_expire, retry.urgent_delay_notice),
            non_urgent=Variation(retry.non_urgent_schedule, retry.non_urgent_expire, retry.non_urgent_delay_notice),
        )


def load(path: Path) -> Config | Complaints:
    """The configuration in the file `path`."""
    try:
        text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")  # some editors put a mark there
    except OSError as error:
        problem = f"The configuration cannot be read: {error.strerror}"
        forbidden = isinstance(error, PermissionError)
        remedy = f"Let user {os.geteuid()} read it" if forbidden else "Name the file with --config"
        return Complaints(str(path), (Complaint(0, "", problem, remedy),))
    except UnicodeDecodeError as error:
        problem = f"The configuration is not UTF-8 text, from its octet {error.start} on"
        return Complaints(str(path), (Complaint(0, "", problem, "Save it as UTF-8, which TOML has to be"),))
    return parse(text, where=str(path), base=path.absolute().parent)


def parse(text: str, *, where: str, base: Path) -> Config | Complaints:
    """The configuration `text` spells. `where` names it in complaints; relative paths begin at `base`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Complaints(where, (_syntax_complaint(str(error), text),))
    reader = Reader.of(document, text)
    for path in _holding_nul(document):
        reader.complain(path, "holds a NUL, which neither a name nor a file's path can have", "Take it out")
    if reader.complaints:
        return Complaints(where, tuple(sorted(reader.complaints)))
    written = Written.of(reader)
    built = _build(written, reader, where=where, base=base)
    _check(written, built.rules, base, reader)
    if not reader.complaints and written.oauth:  # else there may be no table
        service = written.service[0]
        table = RouteTable(built.rules, postmaster=service.postmaster)
        check_alarms(built.authorisations, written.oauth, table, service.postmaster, reader)
    if reader.complaints:
        return Complaints(where, tuple(sorted(reader.complaints)))
    return _whole(written, built, reader, text=text, where=where, base=base)


def _holding_nul(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a text with a NUL stands; none of those who take it further expects one."""
    match value:
        case str() if "\0" in value:
            yield path
        case dict():
            for key, each in value.items():
                yield from _holding_nul(each, (*path, key))
        case list():
            for number, each in enumerate(value):
                yield from _holding_nul(each, (*path, number))
        case _:
            return


@dataclass(frozen=True, slots=True)
class _Built:
    """What sections come to; of use where nothing was complained of."""

    rules: Sequence[Rule]
    fallbacks: Sequence[Rule]
    addresses: Addresses
    certificates: tuple[CertificateFiles, ...]
    fetches: tuple[Provider, ...]
    stores: tuple[Store, ...]
    spool: Path
    authorisations: Authorisations
    places: Places


def _build(written: Written, reader: Reader, *, where: str, base: Path) -> _Built:
    routes = written.route
    rules = [build_rule(route, reader, where=where, base=base, environment=os.environ) for route in routes]
    spool = _directory(written.service[0], base) if written.service else base
    places = Places(Path(where).name, reader.lines)
    return _Built(
        rules,
        fallbacks=[rule for route in routes for rule in build_fallbacks(route, reader, where=where)],
        addresses=build_addresses(
            written.rewriting,
            routes,
            [rule.name for rule in rules],
            written.map,
            reader,
            base=base,
            environment=os.environ,
            places=places,
        ),
        certificates=certificate_files(written.certificate, base, reader),
        fetches=build_providers(written.fetch, written.oauth, reader, base=base, environment=os.environ),
        stores=build_stores(written.cluster, reader, base=base, environment=os.environ),
        spool=spool,
        authorisations=build_authorisations(written.oauth, written.auth, routes, reader, base=base, spool=spool),
        places=places,
    )


def _check(written: Written, rules: Sequence[Rule], base: Path, reader: Reader) -> None:
    """How sections go together; complaints go to `reader`."""
    check_fallbacks(written.route, reader)
    check_spool(written.service, base, reader)
    check_pickup(written.pickup, base, reader)
    check_hooks(written.hook, base, reader)
    check_listeners(written.listener, reader)
    check_demands(written.listener, written.auth, reader)
    check_mode(written.service, written.route, rules, reader)
    check_listeners_tls(written.listener, written.certificate, base, reader)
    check_admin(written.admin, written.listener, written.certificate, base, reader)
    check_users(written.auth, base, reader)
    check_reporting(written.tls_reporting, written.tracing, reader)
    check_dkim(written.dkim, base, reader)
    check_on_call(written.route, written.auth, reader)
    check_routes(written.route, reader)
    check_destinations(written.destination, written.route, reader)
    check_loops(written.route, written.listener, written.service, reader)
    check_maps(written.map, base, reader)
    check_domains(written.domain, written.map, written.route, reader)
    check_quarantine(written.senders, written.route, reader)
    check_notices(written.notices, written.route, reader)
    check_strangers(written.screening, written.greylist, written.rate, written.dns_list, reader)


def _whole(written: Written, built: _Built, reader: Reader, *, text: str, where: str, base: Path) -> Config:
    """All of it, where nothing was complained of: each table is there."""
    (admin,), (auth,) = written.admin, written.auth
    return Config(
        where=where,
        base=base,
        text=text,
        service=written.service[0],
        spool=built.spool,
        listeners=tuple(complete_listener(found.section, base, built.certificates) for found in written.listener),
        pickup=written.pickup[0],
        admin=admin.model_copy(update={"users": str(base / admin.users)}) if admin.users else admin,
        relay=written.relay[0],
        access=written.access[0],
        senders=written.senders[0],
        copies=placed(written.copy, where, reader),
        hooks=placed(written.hook, where, reader),
        screening=written.screening[0],
        greylist=written.greylist[0],
        rates=placed(written.rate, where, reader),
        lists=placed(written.dns_list, where, reader),
        auth=auth,
        users=(base / auth.users).absolute(),
        oauth=built.authorisations,
        rules=(*built.rules, *built.fallbacks),
        addresses=built.addresses,
        fetches=built.fetches,
        overrides=tuple(build_override(found, place=built.places.of(*found.path)) for found in written.destination),
        domains=placed(written.domain, where, reader),
        maps=placed(written.map, where, reader),
        retry=written.retry[0],
        limits=written.limits[0],
        timeouts=written.timeouts[0],
        dns=written.dns[0],
        history=written.history[0],
        log=written.log[0],
        helo_memory=written.helo_memory[0],
        tracing=written.tracing[0],
        cluster=written.cluster[0],
        stores=built.stores,
        tls=written.tls[0],
        dkim=written.dkim[0],
        tls_reporting=written.tls_reporting[0],
        notices=written.notices[0],
        certificates=built.certificates,
        places=built.places,
    )


def _directory(service: Service, base: Path) -> Path:
    """Where this machine keeps what it keeps."""
    return (base / (service.state if is_database(service.spool) else service.spool)).resolve()


def _syntax_complaint(message: str, text: str) -> Complaint:
    """What `tomllib` says, with its line and column taken out of the sentence."""
    found = _SYNTAX.fullmatch(message)
    if found is None:
        return Complaint(0, "", f"The file is not TOML: {message}", "See https://toml.io")
    if found["line"] is None:
        return Complaint(
            text.count("\n") + 1, "", f"{found['what']}, at the end of the file", "Something is not closed"
        )
    line, what = int(found["line"]), f"{found['what']}, at column {found['column']}"
    if what.startswith(_TWICE):
        return Complaint(line, "", f"This is there already, above: {what}", "Leave one of the two")
    return Complaint(line, "", what, "Mend the TOML there")
