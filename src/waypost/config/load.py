"""Reading a configuration file: its text → one frozen `Config`, or all complaints about it."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, replace
from datetime import timedelta
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
    Certificate,
    ClientRate,
    Cluster,
    Copy,
    Destination,
    Dkim,
    Dns,
    DnsList,
    Domain,
    Fetch,
    Greylist,
    HeloMemory,
    History,
    Hook,
    Limits,
    Listener,
    Log,
    Map,
    Notices,
    OAuth,
    Pickup,
    Relay,
    Retry,
    Rewriting,
    Route,
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
from waypost.net.certificates import CertificateFiles
from waypost.queue.place import is_database, where_of
from waypost.queue.schedule import SAME, RetryPolicy, Same
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
        usual = RetryPolicy(retry.schedule, retry.expire, retry.delay_notice, retry.jitter)
        urgent = (retry.urgent_schedule, retry.urgent_expire, retry.urgent_delay_notice)
        non_urgent = (retry.non_urgent_schedule, retry.non_urgent_expire, retry.non_urgent_delay_notice)
        return replace(usual, urgent=_varied(usual, *urgent), non_urgent=_varied(usual, *non_urgent))


def _varied(
    usual: RetryPolicy, schedule: tuple[timedelta, ...], expire: timedelta, delay_notice: timedelta
) -> RetryPolicy | Same:
    """The policy for a priority: what it does not say is as usual."""
    if not (schedule or expire or delay_notice):
        return SAME
    return replace(
        usual,
        schedule=schedule or usual.schedule,
        expire=expire or usual.expire,
        delay_notice=delay_notice or usual.delay_notice,
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
    service, admin, relay = reader.table("service", Service), reader.table("admin", Admin), reader.table("relay", Relay)
    retry, limits = reader.table("retry", Retry), reader.table("limits", Limits)
    timeouts, dns = reader.table("timeouts", Timeouts), reader.table("dns", Dns)
    history, log, auth = reader.table("history", History), reader.table("log", Log), reader.table("auth", Auth)
    certificates, tls = reader.array("certificate", Certificate), reader.table("tls", Tls)
    tls_reporting, notices, dkim = (
        reader.table("tls_reporting", TlsReporting),
        reader.table("notices", Notices),
        reader.table("dkim", Dkim),
    )
    listeners, routes = reader.array("listener", Listener), reader.array("route", Route)
    access, senders, copies = (
        reader.table("access", Access),
        reader.table("senders", Senders),
        reader.array("copy", Copy),
    )
    pickup, destinations = reader.table("pickup", Pickup), reader.array("destination", Destination)
    domains, maps = reader.array("domain", Domain), reader.array("map", Map)
    screening, greylist, rates, lists = (
        reader.table("screening", Screening),
        reader.table("greylist", Greylist),
        reader.array("rate", ClientRate),
        reader.array("dns_list", DnsList),
    )

    rules = [build_rule(route, reader, where=where, base=base, environment=os.environ) for route in routes]
    fallbacks = [rule for route in routes for rule in build_fallbacks(route, reader, where=where)]
    check_fallbacks(routes, reader)
    addresses = build_addresses(
        reader.table("rewriting", Rewriting),
        routes,
        [rule.name for rule in rules],
        maps,
        reader,
        base=base,
        environment=os.environ,
        places=Places(Path(where).name, reader.lines),
    )
    files = certificate_files(certificates, base, reader)
    check_spool(service, base, reader)
    check_pickup(pickup, base, reader)
    hooks, cluster, helo_memory, tracing = (
        reader.array("hook", Hook),
        reader.table("cluster", Cluster),
        reader.table("helo_memory", HeloMemory),
        reader.table("tracing", Tracing),
    )
    check_hooks(hooks, base, reader)
    check_listeners(listeners, reader)
    check_demands(listeners, auth, reader)
    check_mode(service, routes, rules, reader)
    check_listeners_tls(listeners, certificates, base, reader)
    check_admin(admin, listeners, certificates, base, reader)
    check_users(auth, base, reader)
    check_reporting(tls_reporting, tracing, reader)
    check_dkim(dkim, base, reader)
    oauth = reader.array("oauth", OAuth)
    providers, stores = (
        build_providers(reader.array("fetch", Fetch), oauth, reader, base=base, environment=os.environ),
        build_stores(cluster, reader, base=base, environment=os.environ),
    )
    check_on_call(routes, auth, reader)
    spool = _directory(service[0], base) if service else base
    authorisations = build_authorisations(oauth, auth, routes, reader, base=base, spool=spool)
    check_routes(routes, reader)
    check_destinations(destinations, routes, reader)
    check_loops(routes, listeners, service, reader)
    check_maps(maps, base, reader)
    check_domains(domains, maps, routes, reader)
    check_quarantine(senders, routes, reader)
    check_notices(notices, routes, reader)
    check_strangers(screening, greylist, rates, lists, reader)
    if not reader.complaints and oauth:  # else there may be no table
        table = RouteTable(rules, postmaster=service[0].postmaster)
        check_alarms(authorisations, oauth, table, service[0].postmaster, reader)
    if reader.complaints:
        return Complaints(where, tuple(sorted(reader.complaints)))
    return Config(
        where=where,
        base=base,
        text=text,
        service=service[0],
        spool=spool,
        listeners=tuple(complete_listener(found.section, base, files) for found in listeners),
        pickup=pickup[0],
        admin=admin[0].model_copy(update={"users": str(base / admin[0].users)}) if admin[0].users else admin[0],
        relay=relay[0],
        access=access[0],
        senders=senders[0],
        copies=placed(copies, where, reader),
        hooks=placed(hooks, where, reader),
        screening=screening[0],
        greylist=greylist[0],
        rates=placed(rates, where, reader),
        lists=placed(lists, where, reader),
        auth=auth[0],
        users=(base / auth[0].users).absolute(),
        oauth=authorisations,
        rules=(*rules, *fallbacks),
        addresses=addresses,
        fetches=providers,
        overrides=tuple(
            build_override(found, place=f"{Path(where).name}:{reader.lines[found.path]}") for found in destinations
        ),
        domains=placed(domains, where, reader),
        maps=placed(maps, where, reader),
        retry=retry[0],
        limits=limits[0],
        timeouts=timeouts[0],
        dns=dns[0],
        history=history[0],
        log=log[0],
        helo_memory=helo_memory[0],
        tracing=tracing[0],
        cluster=cluster[0],
        stores=stores,
        tls=tls[0],
        dkim=dkim[0],
        tls_reporting=tls_reporting[0],
        notices=notices[0],
        certificates=files,
        places=Places(Path(where).name, reader.lines),
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
