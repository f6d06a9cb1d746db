"""From settings to the parts below that they describe: the resolver, the finder of hosts, the spool.

The running service and a command that works without it build them alike. What stands above configuration (receiving,
delivering …) is built in app.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, assert_never

from waypost.auth.account import Account, own_address
from waypost.auth.attempts import Attempts, Limits
from waypost.auth.authenticator import Authenticator, NoPasswords, NoTokens, Passwords, Tokens, UserFile
from waypost.auth.directory import Directory, LdapPasswords, PamPasswords
from waypost.auth.jwt import IssuedTokens, Issuer
from waypost.auth.keeper import Keeper
from waypost.auth.oauth import TokenServer
from waypost.auth.scram import NAME, PLUS
from waypost.config.domains import Ground, build_expander, build_maps
from waypost.config.load import Config
from waypost.config.model import Dns, Listener
from waypost.config.strangers import Log, build_gate
from waypost.config.tls import MINIMUM
from waypost.hooks.calls import HookLog, Hooks, Module
from waypost.hooks.load import Source, loaded
from waypost.hooks.runtime import OwnThread, Runtime
from waypost.mail.tls_report import Reporter
from waypost.maps.lookup import Map
from waypost.net.certificates import Keyring
from waypost.net.clock import Clock, SystemClock
from waypost.net.dialer import Dialer
from waypost.net.https import AiohttpHttps, Https
from waypost.net.machine import hosts_file, own_addresses, system_servers
from waypost.net.resolver import Resolver
from waypost.net.stream import Endpoint
from waypost.net.stub_resolver import ResolverSettings
from waypost.net.tls import client_context
from waypost.policy.access import Access, Copies, Copy, Entry, SenderBlock, Senders
from waypost.policy.admission import RelayPolicy
from waypost.policy.dns_lists import Names
from waypost.policy.expansion import Expander
from waypost.policy.gate import NO_GATE, OpenGate, WatchedGate
from waypost.policy.rewriting import Rewritings
from waypost.queue.common_shelf import ShardStorage
from waypost.queue.octets import CHUNK
from waypost.queue.shards import shelf_of
from waypost.queue.shelf import Shelf
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Storage
from waypost.route.hosts import HostFinder
from waypost.route.sts_keeper import DirectoryShelf, StsKeeper
from waypost.smtp.path import parse_mailbox

if TYPE_CHECKING:
    from waypost.net.s3 import S3


def resolver_settings(config: Config) -> ResolverSettings:
    """Whom to ask for names: the servers of `[dns]`, else those of the system."""
    dns = config.dns
    servers = dns.servers or system_servers()
    return ResolverSettings(
        servers=servers,
        trusted=frozenset(server for server in servers if _is_trusted(dns, server)),
        timeout=dns.timeout,
        attempts=dns.attempts,
        hosts=hosts_file() if dns.hosts_file else {},
        cache_size=dns.cache,
    )


def _is_trusted(dns: Dns, server: Endpoint) -> bool:
    """Whether its AD bit is believed: what comes over a network, anybody on the way could have written."""
    match dns.trust_ad:
        case "loopback":
            return ip_address(server.host).is_loopback
        case "all":
            return True
        case "none":
            return False
        case _:
            assert_never(dns.trust_ad)


def host_finder(config: Config, resolver: Resolver, dice: random.Random) -> HostFinder:
    """Who knows that this service is itself: by its name, and by each of its addresses with a port it listens on."""
    listening = {listener.address for listener in config.listeners}
    return HostFinder(
        resolver,
        own_names={config.service.hostname.lower()},
        own_addresses=own_addresses() | {address.host for address in listening},
        own_ports={address.port for address in listening},
        dice=dice,
        allow_loopback_mx=config.dns.allow_loopback_mx,
    )


def login_at(listener: Listener, config: Config) -> Literal["none", "offered", "required"]:
    """What a listener makes of logins; one for submission demands them where there are accounts."""
    if listener.auth:
        return listener.auth
    return "required" if listener.role == "submission" and mechanisms(config) else "none"


def mechanisms(config: Config) -> tuple[str, ...]:
    """What AUTH may be said with; empty where there are no accounts."""
    auth = config.auth
    judged: set[str] = {"OAUTHBEARER", "XOAUTH2"} if auth.issuer else set()
    if auth.users:
        judged |= {NAME, PLUS}
    if auth.users or auth.pam_service or auth.ldap_url:
        judged |= {"PLAIN", "LOGIN", "EXTERNAL"}
    return tuple(name for name in auth.mechanisms if name in judged)


def authenticator(config: Config, clock: Clock, before: Attempts) -> Authenticator:
    """Who judges logins by the accounts there are; what was counted `before` counts on."""
    auth = config.auth
    attempts = before.for_another(Limits(auth.network_failures, auth.account_failures, auth.failure_window))
    tokens: Tokens = NoTokens()
    if auth.issuer:
        keys = auth.issuer_keys if "://" in auth.issuer_keys else str(config.base / auth.issuer_keys)
        issuer = Issuer(auth.issuer, auth.issuer_audience, keys, auth.issuer_claim)
        tokens = IssuedTokens(issuer, partial(_account, config), clock)
    return Authenticator(clock, attempts, _passwords(config), tokens)


def _passwords(config: Config) -> Passwords:
    auth, account = config.auth, partial(_account, config)
    if auth.pam_service:
        return PamPasswords(auth.pam_service, account)
    if auth.ldap_url:
        return LdapPasswords(
            Directory(auth.ldap_url, auth.ldap_dn, str(config.base / auth.ldap_ca) if auth.ldap_ca else ""), account
        )
    return UserFile(config.users, config.account_domain) if auth.users else NoPasswords()


def _account(config: Config, name: str) -> Account:
    """The account of somebody whom another knows: his own address is all that he may send as."""
    return Account(name, (own_address(name, config.account_domain),))


def relay_policy(config: Config) -> RelayPolicy:
    """Who may relay, as `[relay]` says."""
    return RelayPolicy(config.relay.networks, config.relay.never)


def access(config: Config) -> Access:
    """Who may connect, as `[access]` says."""
    lists = (("accept", config.access.accept), ("reject", config.access.reject))
    return Access(
        tuple(
            Entry(network, key == "accept", config.places.of("access", key, index))
            for key, networks in lists
            for index, network in enumerate(networks)
        )
    )


def senders(config: Config) -> Senders:
    """Which reverse-paths are blocked, as `[senders]` says."""
    blocks = (
        SenderBlock(wanted, config.places.of("senders", "block", index))
        for index, wanted in enumerate(config.senders.block)
    )
    return Senders(tuple(blocks), config.senders.quarantine)


def gate(config: Config, names: Names, clock: Clock, shelf: Shelf, log: Log) -> WatchedGate | OpenGate:
    """What strangers must pass; none, where nothing is asked of them."""
    strangers = config.strangers
    return build_gate(strangers, config.places, names, clock, shelf, log) if strangers.are_watched else NO_GATE


def copies(config: Config) -> Copies:
    """Who gets copies, as `[[copy]]` says."""
    return Copies(tuple(Copy(each.section.of, each.section.to, each.place) for each in config.copies))


def expander(config: Config, clock: Clock, known: Mapping[str, Map]) -> Expander:
    """What follows aliases, as `[[domain]]` says. `known`: see `maps`."""
    return build_expander(config.domains, known, config.service.postmaster, config.addresses.first(known, clock))


def rewritings(config: Config, known: Mapping[str, Map]) -> Rewritings:
    """Which addresses become which on the way out, as `[rewriting]` and the routes say. `known`: see `maps`."""
    return config.addresses.rewritings(known)


def maps(config: Config, clock: Clock, dialer: Dialer) -> Mapping[str, Map]:
    """What `[[map]]` describes, by name: one for each, however many ask it, so that an answer is remembered for all."""
    return build_maps(config.maps, Ground(config.base, config.service.hostname, clock, dialer))


def hooks(config: Config, clock: Clock, log: HookLog, runtime: Callable[[str], Runtime] = OwnThread) -> Hooks:
    """The modules of `[[hook]]`, loaded: their code runs now. Raises: HookError."""
    modules = []
    for each in config.hooks:
        source = Source(each.section.module, config.base)
        name = each.section.name or source.name
        found = loaded(source, each.section.settings)
        modules.append(Module(name, each.place, each.section.budget, found, runtime(name)))
    return Hooks(tuple(modules), clock, log)


def keyring(config: Config) -> Keyring:
    """The certificates of the listeners, not yet read."""
    client_cas = [listener.client_ca for listener in config.listeners]
    return Keyring(config.certificates, minimum=MINIMUM[config.tls.minimum], client_cas=client_cas)


def keeper(config: Config, clock: Clock) -> Keeper:
    """Who keeps the access tokens of smart hosts. Raises: TokenStoreError, where there is no key to keep them under."""
    return Keeper(config.oauth.by_name, config.oauth.store(make_key=True), TokenServer(clock), clock)


def https(resolver: Resolver) -> AiohttpHttps:
    """The client for policies and reports, which believes the authorities that this machine trusts."""
    return AiohttpHttps(resolver, client_context())


def sts_keeper(config: Config, resolver: Resolver, client: Https, clock: Clock) -> StsKeeper:
    """The MTA-STS policies, kept in the spool."""
    return StsKeeper(resolver, client, DirectoryShelf(config.spool / "mta-sts"), clock)


def tls_reporter(config: Config) -> Reporter:
    """As whom TLS reports are sent."""
    service, asked = config.service, config.tls_reporting
    contact = parse_mailbox(asked.contact) if asked.contact else service.postmaster
    return Reporter(service.hostname, asked.organization or str(service.postmaster.domain), contact)


def visited_spool(config: Config) -> Storage:
    """The storage, not yet opened, for who asks and changes what waits beside the service."""
    return shared_queue(config, visits=True) if config.database else spool(config)


def spool(config: Config) -> Storage:
    """The storage in the spool directory, or in a database, not yet opened. Raises: OSError: `state` cannot be had."""
    if config.database:
        config.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        return shared_queue(config)
    storage = ShardStorage if shelf_of(config.spool).exists() else SqliteStorage
    return storage(
        config.spool,
        allow_ephemeral=config.service.allow_ephemeral,
        reserve=config.limits.free_space // 2,
        salvages=config.service.on_damage == "salvage",
    )


def stores(config: Config) -> list[S3]:
    """The object store of large messages, where there is one."""
    from waypost.net.s3 import S3  # noqa: PLC0415 - not where there is a directory

    return [S3(store.bucket, store.keys, SystemClock()) for store in config.stores]


def shared_queue(config: Config, *, visits: bool = False) -> Storage:
    """The storage in a database, not yet opened."""
    from waypost.queue.postgres.storage import PostgresStorage  # noqa: PLC0415 - likewise

    chosen = config.cluster
    return PostgresStorage(
        config.database,
        SystemClock(),
        connections=chosen.connections,
        time_to_live=chosen.time_to_live,
        patience=chosen.patience,
        visits=visits,
        stores=stores(config),
        inline=min((store.inline for store in config.stores), default=CHUNK),
    )
