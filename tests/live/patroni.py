"""Two PostgreSQL servers under Patroni, with etcd between them: what fails over as it does in production.

Patroni comes from PyPI into a place of its own, etcd from Debian (tests/live/setup.sh); the servers are the wheel's.
All of it runs as `nobody`, on free ports of loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.live.process import free_port, tail, until
from tests.postgres import nobody, own_folder, programs

PATRONI = Path("/var/cache/waypost-live/patroni/bin/patroni")

_SETTINGS = """\
scope: waypost
name: {name}
restapi: {{listen: "127.0.0.1:{rest}", connect_address: "127.0.0.1:{rest}"}}
etcd3: {{host: "127.0.0.1:{etcd}"}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    postgresql: {{use_pg_rewind: false, parameters: {{max_connections: 100, shared_buffers: 64MB}}}}
  initdb: [{{encoding: UTF8}}, {{locale: C.UTF-8}}]
postgresql:
  listen: "127.0.0.1:{port}"
  connect_address: "127.0.0.1:{port}"
  data_dir: "{folder}/data"
  bin_dir: "{bin}"
  pgpass: "{folder}/pgpass"
  authentication:
    superuser: {{username: waypost, password: waypost}}
    replication: {{username: replicator, password: replicator}}
  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
  parameters: {{unix_socket_directories: "{folder}"}}
"""


@dataclass(slots=True)
class Member:
    """One server and the Patroni that minds it."""

    name: str
    folder: Path
    port: int
    rest: int
    running: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                str(PATRONI),
                str(self.folder / "patroni.yml"),
                stdout=log,
                stderr=log,
                cwd="/",
                user=nobody(),
                env={"PATH": f"{programs()}:{os.environ['PATH']}", "HOME": str(self.folder)},
                start_new_session=True,
            )
        self.running.append(process)

    def role(self) -> str:
        """What it is, by its own word."""
        try:
            with urlopen(f"http://127.0.0.1:{self.rest}/patroni", timeout=2) as answer:
                said = json.load(answer)
        except (URLError, OSError, ValueError):
            return "nothing"
        return str(said.get("role", "nothing")) if said.get("state") == "running" else "nothing"

    async def kill(self) -> None:
        """SIGKILL to Patroni and the server, as when the machine goes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running[-1].pid, signal.SIGKILL)
        await self.running[-1].wait()
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


@dataclass(slots=True)
class Cluster:
    """Both of them."""

    members: list[Member]

    @property
    def dsn(self) -> str:
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"postgresql://waypost@{hosts}/postgres?sslmode=disable"

    async def primary(self) -> Member:
        """The one that takes writes, once there is one."""
        return await self._with_role("primary")

    async def replica(self) -> Member:
        """The one that follows it in step, so that nothing is lost when it takes over."""
        return await self._with_role("replica")

    async def _with_role(self, role: str) -> Member:
        found: list[Member] = []

        async def is_there() -> bool:
            roles = [await asyncio.to_thread(member.role) for member in self.members]
            found[:] = [member for member, has in zip(self.members, roles, strict=True) if _is(has, role)]
            return bool(found)

        await until(is_there, f"Patroni has a {role}", log=self.members[0].folder / "log", within=90)
        return found[0]


def _is(has: str, role: str) -> bool:
    return has == role or {has, role} == {"primary", "master"}


@contextlib.asynccontextmanager
async def patroni() -> AsyncIterator[Cluster]:
    """A primary and a synchronous replica, while the block lasts."""
    folder = own_folder()
    etcd_port, peer_port = free_port(), free_port()
    etcd = await _etcd(folder, etcd_port, peer_port)
    members = [_member(folder, name, etcd_port) for name in ("one", "two")]
    cluster = Cluster(members)
    try:
        await members[0].start()
        await cluster.primary()
        await members[1].start()
        await cluster.replica()
        yield cluster
    except BaseException as trouble:
        trouble.add_note("".join(tail(member.folder / "log") for member in members))
        raise
    finally:
        for member in members:
            if member.running:
                await member.kill()
        etcd.kill()
        await etcd.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def _etcd(folder: Path, port: int, peer: int) -> asyncio.subprocess.Process:
    client, between = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    return await asyncio.create_subprocess_exec(
        "etcd",
        *("--name", "only", "--data-dir", str(folder / "etcd")),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", between, "--initial-advertise-peer-urls", between),
        *("--initial-cluster", f"only={between}"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        user=nobody(),
    )


def _member(folder: Path, name: str, etcd: int) -> Member:
    own = folder / name
    own.mkdir()
    os.chown(own, nobody(), -1)
    member = Member(name, own, free_port(), free_port())
    settings = _SETTINGS.format(name=name, rest=member.rest, etcd=etcd, port=member.port, folder=own, bin=programs())
    (own / "patroni.yml").write_text(settings)
    return member
