"""From settings to the parts below that they describe: the resolver, the finder of hosts, the spool.

The running service and a command that works without it build them alike. What stands above configuration (receiving,
delivering …) is built in app.py.
"""

from __future__ import annotations

import random

from waypost.config.load import Config
from waypost.net.machine import own_addresses
from waypost.net.resolver import Resolver, ResolverSettings, hosts_file, system_servers
from waypost.queue.sqlite import SqliteStorage
from waypost.route.hosts import HostFinder


def resolver_settings(config: Config) -> ResolverSettings:
    """Whom to ask for names: the servers of `[dns]`, else those of the system."""
    dns = config.dns
    return ResolverSettings(
        servers=dns.servers or system_servers(),
        timeout=dns.timeout,
        attempts=dns.attempts,
        hosts=hosts_file() if dns.hosts_file else {},
        cache_size=dns.cache,
    )


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


def spool(config: Config) -> SqliteStorage:
    """The storage in the spool directory, not yet opened."""
    return SqliteStorage(
        config.spool,
        allow_ephemeral=config.service.allow_ephemeral,
        reserve=config.limits.free_space // 2,
        salvages=config.service.on_damage == "salvage",
    )
