"""Throughput on PostgreSQL, with 1, 2 and 3 nodes on this one machine, beside the embedded spool and Postfix.

All keep the same promise on the same disk: 250 after the commit, `fsync` on. The nodes, the database, the clients and
the far end share the processors, so growth with nodes shows only as far as there are processors for them.

    python -m bench.cluster            five rounds of 3,000 messages
    python -m bench.cluster --quick    one round of 600

Writes bench/results/cluster.json. Needs root and the peers of tests/live/setup.sh.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.contestants import Setting, postfix_relay, waypost_relay
from bench.load import sink
from bench.processes import cpu_of_machine
from tests.live.process import free_port, must_run, open_directory
from tests.live.service import Service
from tests.postgres import server

NODES: Final = (1, 2, 3)
#: Over all nodes, as they share a load.
SESSIONS: Final = 18
OCTETS: Final = 4096
RESULTS: Final = Path(__file__).parent / "results" / "cluster.json"
_CONFIG: Final = """\
[service]
hostname = "waypost.test"
spool = "{dsn}"
state = "state"
postmaster = "postmaster@origin.test"
[[listener]]
address = "127.0.0.1:{port}"
[admin]
address = "127.0.0.1:{admin}"
[relay]
networks = ["127.0.0.0/8"]
[limits]
connections_per_client = 500
[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:{sink}"
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: messages a second up to the last arrival, and the whole machine's CPU in ms a message."""

    name: str
    messages: int
    rate: float
    machine_cpu: float


async def measure(name: str, ports: Sequence[int], messages: int, far_end_port: int) -> Measured:
    """Push through all ports at once, an equal share each."""
    share = messages // len(ports)
    async with sink(far_end_port) as far_end:
        began, used = time.perf_counter(), cpu_of_machine()
        await asyncio.gather(far_end.has(share * len(ports)), *(_push(port, share, len(ports)) for port in ports))
        took = time.perf_counter() - began
    sent = share * len(ports)
    return Measured(name, sent, sent / took, (cpu_of_machine() - used) * 1000 / sent)


async def _push(port: int, messages: int, ports: int) -> None:
    sessions = ("-s", str(SESSIONS // ports), "-l", str(OCTETS), "-m", str(messages))
    await must_run("smtp-source", *sessions, "-f", "a@origin.test", "-t", "b@example.test", f"127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def cluster(nodes: int, far_end_port: int) -> AsyncIterator[list[int]]:
    """So many nodes on a database of their own; their ports."""
    with server(settings=("shared_buffers=256MB", "max_wal_size=4GB")) as database, open_directory() as place:
        async with contextlib.AsyncExitStack() as stack:
            ports = []
            for number in range(nodes):
                node = _node(place / str(number), database.dsn(), far_end_port)
                await node.start()
                stack.push_async_callback(node.stop)
                ports.append(node.port)
            yield ports


def _node(directory: Path, dsn: str, far_end_port: int) -> Service:
    directory.mkdir()
    port, admin = free_port(), free_port()
    config = directory / "waypost.toml"
    config.write_text(_CONFIG.format(dsn=dsn, port=port, admin=admin, sink=far_end_port))
    return Service(directory, config, port, admin)


async def once(messages: int) -> list[Measured]:
    """One round: everybody in turn, each on a fresh instance."""
    found = []
    for name, contestant in (("sqlite", waypost_relay), ("postfix", postfix_relay)):
        far_end_port = free_port()
        async with contestant(Setting(far_end_port)) as relay:
            found.append(await measure(name, [relay.port], messages, far_end_port))
    for nodes in NODES:
        far_end_port = free_port()
        async with cluster(nodes, far_end_port) as ports:
            found.append(await measure(f"postgresql, {nodes} nodes", ports, messages, far_end_port))
    return found


async def main() -> None:
    """Measure, print and write down."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    rounds = [await once(600 if quick else 3000) for _ in range(1 if quick else 5)]
    for runs in zip(*rounds, strict=True):
        rate = statistics.median(run.rate for run in runs)
        cpu = statistics.median(run.machine_cpu for run in runs)
        print(f"{runs[0].name:22} {rate:8.0f} messages/s {cpu:8.2f} ms of the machine's CPU a message")
    RESULTS.write_text(json.dumps([asdict(run) for runs in rounds for run in runs], indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
