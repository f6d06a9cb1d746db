"""Unbound as a validating resolver: it believes the keys of the zones it is told to, and says so by the AD bit."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path

from tests.live.knot import Knot, asks
from tests.live.process import daemon, free_port, run, until

CONFIG = """\
server:
    directory: "{directory}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    interface: 127.0.0.1@{port}
    access-control: 127.0.0.0/8 allow
    do-daemonize: no
    do-not-query-localhost: no
    module-config: "validator iterator"
    local-zone: "test." nodefault
    val-log-level: 2
    cache-max-negative-ttl: 1
    prefetch: no
{anchors}
remote-control:
    control-enable: no
{stubs}"""


@dataclass(frozen=True, slots=True)
class Unbound:
    """A running resolver."""

    port: int

    @property
    def settings(self) -> str:
        """The lines by which the service asks this resolver; it stands on loopback, so its AD bit is believed."""
        return asks(self.port)


@contextlib.asynccontextmanager
async def unbound(
    directory: Path, knot: Knot, zones: Collection[str], *, anchors: Collection[str]
) -> AsyncIterator[Unbound]:
    """A resolver that asks `knot` for `zones`; `anchors`: DS records it believes. A wrong one makes its zone bogus."""
    port = free_port()
    stubs = "".join(f'stub-zone:\n    name: "{zone}."\n    stub-addr: 127.0.0.1@{knot.port}\n' for zone in zones)
    trusted = "\n".join(f'    trust-anchor: "{anchor}"' for anchor in anchors)
    config = directory / "unbound.conf"
    config.write_text(CONFIG.format(directory=directory, port=port, anchors=trusted, stubs=stubs))
    log = directory / "unbound.log"

    async def answers() -> bool:
        asked = [await run("kdig", "@127.0.0.1", "-p", str(port), "+time=2", "+retry=0", zone, "SOA") for zone in zones]
        return all("status: NOERROR" in each.output or "status: SERVFAIL" in each.output for each in asked)

    async with daemon("/usr/sbin/unbound", "-d", "-p", "-c", config, log=log):
        await until(answers, "Unbound answers", log=log)
        yield Unbound(port)
