"""Knot as the DNS: a real authoritative server whose zones a test writes down."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.live.process import daemon, free_port, must_run, run, until

CONFIG = """\
server:
    rundir: "{directory}/run"
    listen: 127.0.0.1@{port}
    tcp-workers: 1
    udp-workers: 1
    background-workers: 1
database:
    storage: "{directory}/db"
log:
  - target: "{directory}/knot.log"
    any: info
template:
  - id: default
    storage: "{directory}/zones"
    file: "%s.zone"
    zonefile-load: whole
    journal-content: none
policy:
  - id: quick
    algorithm: ecdsap256sha256
    single-type-signing: on
    propagation-delay: 0
zone:
"""

ZONE = """\
$TTL 60
@ SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 60
@ NS ns.{zone}.
ns A 127.0.0.1
"""


@dataclass(frozen=True, slots=True)
class Knot:
    """A running name server."""

    directory: Path
    port: int

    @property
    def settings(self) -> str:
        """The lines by which the service asks this server and nobody else."""
        return asks(self.port)

    async def anchor(self, zone: str) -> str:
        """The DS record of a signed zone, for whoever is to trust its key."""
        ran = await must_run("/usr/sbin/keymgr", "-c", self.directory / "knot.conf", zone, "ds")
        return next(line for line in ran.output.splitlines() if " 2 " in line)  # of its digests, SHA-256


def asks(port: int) -> str:
    """The lines by which the service asks the name server on `port` and nobody else."""
    return f'\n[dns]\nservers = ["127.0.0.1:{port}"]\ntimeout = "2s"\nattempts = 1\nhosts_file = false\n'


@contextlib.asynccontextmanager
async def knot(directory: Path, zones: Mapping[str, str], *, signed: Collection[str] = ()) -> AsyncIterator[Knot]:
    """A server for `zones`: name → records; with "-" for records the zone is there and broken (SERVFAIL).

    Those in `signed` are signed by keys that the server makes itself.
    """
    port = free_port()
    for name in ("run", "db", "zones"):
        (directory / name).mkdir()
    for zone, records in zones.items():
        if records != "-":
            (directory / "zones" / f"{zone}.zone").write_text(ZONE.format(zone=zone) + records)
    config = directory / "knot.conf"
    signing = "    dnssec-signing: on\n    dnssec-policy: quick\n"
    listed = "".join(f"  - domain: {zone}\n{signing if zone in signed else ''}" for zone in zones)
    config.write_text(CONFIG.format(directory=directory, port=port) + listed)
    log = directory / "knot.log"

    async def loaded() -> bool:
        there = [zone for zone, records in zones.items() if records != "-"]
        answers = [
            await run("kdig", "@127.0.0.1", "-p", str(port), "+short", "+time=1", "+retry=0", zone, "SOA")
            for zone in there
        ]
        return all(answer.code == 0 and "hostmaster" in answer.output for answer in answers)

    async with daemon("/usr/sbin/knotd", "-c", config, log=directory / "said"):
        await until(loaded, "Knot answers for its zones", log=log)
        yield Knot(directory, port)
