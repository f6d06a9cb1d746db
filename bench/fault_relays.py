"""Waypost, Postfix and Exim as black boxes with the same job: hand each cell's mail to the next hops of that cell.

Each runs with its defaults but for what is listed here: time-outs of `TIMEOUT` in place of minutes (all three alike),
no DNS, TLS where it is offered. What became of mail is read from each relay's own queue, the way its operator would.
Needs root and tests/live/setup.sh.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from bench.fault_town import Place, Town
from tests.live.exim import BINARY as EXIM
from tests.live.postfix import postfix
from tests.live.process import answers, daemon, free_port, must_run, open_directory, until
from tests.live.service import Service, prepare, running
from waypost import __version__
from waypost.net.stream import Endpoint

TIMEOUT: Final = 3
"""Seconds. RFC 5321 §4.5.3.2 names 2 to 10 minutes, and so do all three by default."""
DUMP_RETRIES: Final = EXIM.parent / "exim_dumpdb"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recipient in a relay's queue whose attempt is over: seconds to the next one, and the relay's reason."""

    pause: float
    reason: str


@dataclass(frozen=True, slots=True)
class Queue:
    """The recipients in a queue: those under way (or not begun), and those that wait."""

    under_way: frozenset[str]
    waiting: dict[str, Waiting]


class Relay(Protocol):
    """A relay that runs, and the port it takes mail on."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def port(self) -> int: ...

    async def queue(self) -> Queue:
        """What is in its queue now."""
        ...


@dataclass(frozen=True, slots=True)
class WaypostRelay:
    """`waypost serve`, asked by `waypost queue list --json`."""

    service: Service
    port: int
    name: str = "Waypost"
    version: str = __version__

    async def queue(self) -> Queue:
        ran = await self.service.cli("queue", "list", "--json", "--limit", "1000")
        under_way, waiting = set(), {}
        for entry in json.loads(ran.output)["entries"]:
            if entry["attempts"]:
                waiting[entry["forward_path"]] = Waiting(entry["due_at"] - _now(), entry["last_outcome"])
            else:
                under_way.add(entry["forward_path"])
        return Queue(frozenset(under_way), waiting)


@contextlib.asynccontextmanager
async def waypost_relay(town: Town) -> AsyncIterator[WaypostRelay]:
    """Waypost on its embedded spool."""
    names = ("connect", "tls", "greeting", "ehlo", "starttls", "mail", "rcpt", "data", "block", "dot", "rset", "quit")
    timeouts = "\n[timeouts]\n" + "".join(f'{name} = "{TIMEOUT}s"\n' for name in names)
    hops = [(place.cell.domain, place.hops) for place in town.places.values()]
    routes = [_waypost_route(*pair) for pair in [*hops, ("origin.test", (town.reports.endpoint,))]]
    with open_directory() as directory:
        # "1m" is the first pause of the default schedule, the only one this lasts long enough to see.
        service = prepare(directory, timeouts + "".join(routes), pause="1m")
        async with running(service):
            yield WaypostRelay(service, service.port)


def _waypost_route(domain: str, hops: Iterable[Endpoint]) -> str:
    to = ", ".join(f'"smtp://{hop.host}:{hop.port}"' for hop in hops)
    return f'\n[[route]]\ndomains = ["{domain}"]\nto = [{to}]\naccept_from = "relay"\n'


@dataclass(frozen=True, slots=True)
class PostfixRelay:
    """An instance of Postfix, asked by `postqueue -j`; when a deferred message is due is its file's time of change."""

    directory: Path
    port: int
    version: str
    name: str = "Postfix"

    async def queue(self) -> Queue:
        listed = await must_run("postqueue", "-c", self.directory / "config", "-j")
        under_way, waiting = set(), {}
        for line in listed.output.splitlines():
            entry = json.loads(line)
            for recipient in entry["recipients"]:
                due = self._due_at(entry["queue_id"]) if entry["queue_name"] == "deferred" else 0.0
                if due:
                    waiting[recipient["address"]] = Waiting(due - _now(), recipient.get("delay_reason", ""))
                else:
                    under_way.add(recipient["address"])
        return Queue(frozenset(under_way), waiting)

    def _due_at(self, queue_id: str) -> float:
        """When a deferred message is due; 0 where it has left the queue meanwhile."""
        for path in (self.directory / "queue/deferred").rglob(queue_id):
            with contextlib.suppress(FileNotFoundError):
                return path.stat().st_mtime
        return 0.0


@contextlib.asynccontextmanager
async def postfix_relay(town: Town) -> AsyncIterator[PostfixRelay]:
    """Postfix, with Debian's opportunistic TLS, and connections kept to the hosts of the scenarios that reuse one."""
    steps = ("connect", "helo", "starttls", "mail", "rcpt", "data_init", "data_xfer", "data_done", "rset", "quit")
    reusing = [place.cell.faulty for place in town.places.values() if place.cell.scenario.second]
    settings = {
        **{f"smtp_{step}_timeout": f"{TIMEOUT}s" for step in steps},
        "transport_maps": "texthash:{directory}/transport",
        "smtp_tls_security_level": "may",
        "smtp_connection_cache_destinations": ", ".join(reusing),
        "smtp_connection_cache_time_limit": "10s",  # by default 2 s, which a busy machine may miss
    }
    version = (await must_run("postconf", "-d", "-h", "mail_version")).output.strip()
    with open_directory() as directory:
        (directory / "transport").write_text(
            "".join(
                f"{domain} smtp:{', '.join(f'[{hop.host}]:{hop.port}' for hop in hops)}\n"
                for domain, hops in _table(town)
            )
        )
        async with postfix(directory, settings) as instance:
            yield PostfixRelay(directory, instance.port, version)


EXIM_CONFIG = """\
exim_user = Debian-exim
exim_group = Debian-exim
exim_path = {binary}
primary_hostname = exim.test
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/exim.pid
timezone = UTC
keep_environment =
tls_advertise_hosts =
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
disable_ipv6 = true
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
acl_smtp_rcpt = ours

begin acl
ours:
  accept hosts = 127.0.0.0/8

begin routers
all:
  driver = manualroute
  route_data = ${{lookup{{$domain}}lsearch{{{directory}/routes}}}}
  transport = out
  self = send
  hosts_randomize = false
  no_more

begin transports
out:
  driver = smtp
  allow_localhost
  hosts_try_dane =
  connect_timeout = {timeout}s
  command_timeout = {timeout}s
  data_timeout = {timeout}s
  final_timeout = {timeout}s

begin retry
* * F,2h,15m; G,16h,1h,1.5; F,4d,6h
"""
"""The retry rule is the one Exim comes with: without any, it would send everything back after one attempt."""


@dataclass(frozen=True, slots=True)
class EximRelay:
    """Exim, asked by its queue (`exim -bp`), its log, and its table of retry times (`exim_dumpdb`)."""

    directory: Path
    port: int
    version: str
    hosts: dict[str, str]  # the domain of each cell, by the addresses of its hosts
    name: str = "Exim"

    async def queue(self) -> Queue:
        listed = await must_run(EXIM, "-C", self.directory / "exim.conf", "-bp")
        recipients = set(re.findall(r"(user\d@\S+)", listed.output))
        reasons, due = self._reasons(), await self._due()
        waiting = {
            recipient: Waiting(due(recipient) - _now(), reasons[recipient]) for recipient in recipients & reasons.keys()
        }
        return Queue(frozenset(recipients - waiting.keys()), waiting)

    def _reasons(self) -> dict[str, str]:
        """Why the attempts that ended in a deferral did, by recipient."""
        log = (self.directory / "mainlog").read_text(errors="replace")
        return {found[1]: found[2] for found in re.finditer(r"^\S+ \S+ \S+ == (user\S+) (.*)$", log, re.MULTILINE)}

    async def _due(self) -> Callable[[str], float]:
        """When a recipient is due: by a time of its own where it has one, else by that of the first of its hosts."""
        times: dict[str, float] = {}
        if (self.directory / "spool/db/retry").exists():
            dumped = await must_run("env", "TZ=UTC", DUMP_RETRIES, self.directory / "spool", "retry")
            for key, due in re.findall(r"^ *(\S:\S+) .*\n\S+ \S+ +\S+ \S+ +(\S+ \S+)", dumped.output, re.MULTILINE):
                at = datetime.strptime(due, "%d-%b-%Y %H:%M:%S").replace(tzinfo=UTC).timestamp()
                named = re.search(r"user\d@c\d+\.test", key)
                whose = named[0] if named else self.hosts.get(key.split(":")[1], "")
                times[whose] = min(at, times.get(whose, at))
        return lambda recipient: times.get(recipient, times.get(recipient.rpartition("@")[2], 0.0))


@contextlib.asynccontextmanager
async def exim_relay(town: Town) -> AsyncIterator[EximRelay]:
    """Exim, a delivery process for each message as it comes, and a run through its queue every half hour."""
    port = free_port()
    hosts = {hop.host: place.cell.domain for place in town.places.values() for hop in place.hops}
    with open_directory() as directory:
        config = directory / "exim.conf"
        config.write_text(EXIM_CONFIG.format(binary=EXIM, directory=directory, port=port, timeout=TIMEOUT))
        (directory / "routes").write_text(
            "".join(
                f'{domain}: "{" : ".join(f"{hop.host}::{hop.port}" for hop in hops)}"\n'
                for domain, hops in _table(town)
            )
        )
        (directory / "spool").mkdir()
        for path in (directory / "spool", directory):
            shutil.chown(path, "Debian-exim", "Debian-exim")
        said = (await must_run(EXIM, "-C", config, "-bV")).output
        log = directory / "said"
        async with daemon(EXIM, "-C", config, "-bdf", "-q30m", log=log):
            await until(lambda: answers(port), "Exim greets", log=log)
            yield EximRelay(directory, port, said.split()[2], hosts)


def _table(town: Town) -> list[tuple[str, tuple[Endpoint, ...]]]:
    """Each domain, and where its mail goes; the author's too."""
    return [*(_way(place) for place in town.places.values()), ("origin.test", (town.reports.endpoint,))]


def _way(place: Place) -> tuple[str, tuple[Endpoint, ...]]:
    return place.cell.domain, place.hops


def _now() -> float:
    """Wall time, as the relays' own files and answers have it."""
    return time.time()  # noqa: TID251 - it is compared with other programs' clocks


def missing() -> list[str]:
    """The programs that are not there."""
    needed = ("/usr/sbin/postfix", str(EXIM), str(DUMP_RETRIES))
    return [program for program in needed if not os.access(program, os.X_OK)]


async def settle(relay: Relay, recipients: frozenset[str], *, within: float) -> dict[str, Waiting]:
    """Wait until none of `recipients` is under way any more, at most `within` seconds; those that wait, as first seen.

    As first seen: right after the attempt, so that what is left until the next one is the relay's whole pause.
    """
    seen: dict[str, Waiting] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while True:
                queue = await relay.queue()
                seen = {**queue.waiting, **seen}
                if not queue.under_way & recipients:
                    break
                await asyncio.sleep(0.5)
    return seen
