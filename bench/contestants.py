"""Who is measured: Waypost, and other relays as they come, each to hand everything on to one next hop.

What is not default is listed here, and in `relay_to` of tests/live/postfix.py: it removes what hampers a relay on a
benchmark's loopback and not in life (look-ups in DNS, limits for one client). All promise to have a message on the disk
before their 250, but those that say otherwise here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

import trustme

from bench.results import Build
from tests.certificates import write_certificate
from tests.live.exim import BINARY as EXIM
from tests.live.postfix import postfix, relay_to
from tests.live.process import answers, daemon, free_port, must_run, open_directory, until
from tests.live.service import prepare, running

#: Where bench/peers.sh installs those that the tests do not need.
OPENSMTPD: Final = Path("/var/cache/waypost-live/opensmtpd/usr/sbin/smtpd")
HARAKA: Final = Path("/var/cache/waypost-live/haraka/node_modules/.bin/haraka")


@dataclass(frozen=True, slots=True)
class Relay:
    """A system under test that runs: where it takes mail, and the process all its others descend from."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Setting:
    """What a relay is started with: where its mail goes, and how Waypost is run."""

    sink_port: int
    build: Build = field(default_factory=Build)
    wrapper: tuple[str, ...] = ("-m", "waypost")
    workers: int = 1


Contestant: TypeAlias = Callable[[Setting], contextlib.AbstractAsyncContextManager[Relay]]

#: As many connections as the largest cell has sessions, all of them from one address.
WAYPOST: Final = """
[limits]
connections_per_client = 500
[[certificate]]
certificate = "{certificate}"
key = "{key}"
[[route]]
domains = ["*"]
to = ["smtp://127.0.0.1:{port}"]
"""


@contextlib.asynccontextmanager
async def waypost_relay(setting: Setting) -> AsyncIterator[Relay]:
    """Waypost on its embedded spool, everything else as it comes."""
    with open_directory() as directory:
        files = write_certificate(trustme.CA(key_type=trustme.KeyType.ECDSA), directory, "relay.test")
        routes = WAYPOST.format(certificate=files.certificate, key=files.key, port=setting.sink_port)
        service = prepare(directory, routes, pause="1m")
        if setting.workers > 1:
            own = service.config.read_text().replace("[service]", f"[service]\nworkers = {setting.workers}", 1)
            service.config.write_text(own)
        service.python, service.wrapper = setting.build.python, setting.wrapper
        service.environment = setting.build.environment
        async with running(service):
            yield Relay(service.port, service.pid)


@contextlib.asynccontextmanager
async def postfix_relay(setting: Setting) -> AsyncIterator[Relay]:
    """Postfix with Debian's opportunistic TLS for clients."""
    with open_directory() as directory:
        files = write_certificate(trustme.CA(key_type=trustme.KeyType.ECDSA), directory, "relay.test")
        tls = {
            "smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": f"{files.key}, {files.certificate}",
            "smtpd_tls_session_cache_database": "btree:{directory}/data/smtpd_scache",
        }
        settings = {**relay_to(setting.sink_port), **tls}
        async with postfix(directory, settings, processes=220) as instance:
            yield Relay(instance.port, instance.master)


EXIM_CONFIG: Final = """\
exim_user = Debian-exim
exim_group = Debian-exim
exim_path = {binary}
primary_hostname = exim.test
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/exim.pid
keep_environment =
tls_advertise_hosts =
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
disable_ipv6 = true
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = ours
begin acl
ours:
  accept hosts = 127.0.0.0/8
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1::{sink_port}
  transport = out
  self = send
  no_more
begin transports
out:
  driver = smtp
  allow_localhost
  hosts_try_dane =
begin retry
* * F,2h,15m
"""


@contextlib.asynccontextmanager
async def exim_relay(setting: Setting) -> AsyncIterator[Relay]:
    """Exim: a process for each connection, and one for each delivery."""
    port = free_port()
    with open_directory() as directory:
        config, log = directory / "exim.conf", directory / "said"
        config.write_text(EXIM_CONFIG.format(binary=EXIM, directory=directory, port=port, sink_port=setting.sink_port))
        (directory / "spool").mkdir()
        for path in (directory / "spool", directory):
            shutil.chown(path, "Debian-exim", "Debian-exim")
        async with daemon(EXIM, "-C", config, "-bdf", "-q30m", log=log) as process:
            await until(lambda: answers(port), "Exim greets", log=log)
            yield Relay(port, process.pid)


OPENSMTPD_CONFIG: Final = """\
listen on 127.0.0.1 port {port}
action "on" relay host smtp://127.0.0.1:{sink_port}
match from any for any action "on"
"""


@contextlib.asynccontextmanager
async def opensmtpd_relay(setting: Setting) -> AsyncIterator[Relay]:
    """OpenSMTPD as it comes; its queue is where it was compiled to be, /var/spool/smtpd."""
    port = free_port()
    with open_directory() as directory:
        config, log = directory / "smtpd.conf", directory / "said"
        config.write_text(OPENSMTPD_CONFIG.format(port=port, sink_port=setting.sink_port))
        async with daemon(OPENSMTPD, "-d", "-f", config, log=log) as process:
            await until(lambda: answers(port), "OpenSMTPD greets", log=log)
            yield Relay(port, process.pid)


@contextlib.asynccontextmanager
async def haraka_relay(setting: Setting) -> AsyncIterator[Relay]:
    """Haraka: its queue is written to files, without fsync, so that its 250 promises less."""
    port = free_port()
    files: Mapping[str, str] = {
        "smtp.ini": f"listen=127.0.0.1:{port}\nnodes=0\n",
        "me": "haraka.test\n",
        "loglevel": "NOTICE\n",
        "plugins": "all_on\n",
        "outbound.ini": "concurrency_max=100\npool_concurrency_max=20\n",
    }
    plugin = f"""\
exports.hook_rcpt = function (next, connection) {{ connection.relaying = true; next(OK); }};
exports.hook_queue_outbound = function (next) {{ next(); }};
exports.hook_get_mx = function (next) {{
    next(OK, {{ priority: 0, exchange: '127.0.0.1', port: {setting.sink_port} }});
}};
"""
    with open_directory() as directory:
        await must_run(HARAKA, "-i", directory)
        for name, text in files.items():
            (directory / "config" / name).write_text(text)
        (directory / "plugins/all_on.js").write_text(plugin)
        log = directory / "said"
        async with daemon(HARAKA, "-c", directory, log=log) as process:
            await until(lambda: answers(port), "Haraka greets", log=log)
            yield Relay(port, process.pid)


@contextlib.asynccontextmanager
async def no_relay(setting: Setting) -> AsyncIterator[Relay]:
    """Nothing in between: what the load and the sink can do themselves."""
    yield Relay(setting.sink_port, os.getpid())


def _compiled(setting: Setting) -> contextlib.AbstractAsyncContextManager[Relay]:
    return waypost_relay(replace(setting, build=Build(setting.build.python, compiled=True)))


def _workers(setting: Setting) -> contextlib.AbstractAsyncContextManager[Relay]:
    """A process for each processor, each with its part of the spool: docs/howto/workers.md."""
    return waypost_relay(replace(setting, workers=os.cpu_count() or 1))


def _compiled_workers(setting: Setting) -> contextlib.AbstractAsyncContextManager[Relay]:
    return _workers(replace(setting, build=Build(setting.build.python, compiled=True)))


CONTESTANTS: Final[Mapping[str, Contestant]] = {
    "waypost": waypost_relay,
    "compiled": _compiled,
    "workers": _workers,
    "compiled workers": _compiled_workers,
    "postfix": postfix_relay,
    "exim": exim_relay,
    "haraka": haraka_relay,
    "opensmtpd": opensmtpd_relay,
    "wire": no_relay,
}
