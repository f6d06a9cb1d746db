"""What a large message and idle clients cost in memory.

    python -m bench.memory               100 MB in and out; 5,000 idle sessions, in clear and under TLS (two minutes)
    python -m bench.memory --sessions N  another number of sessions; writes nothing

Writes bench/results/memory.json and docs/performance.md. Needs Debian's `postfix` for smtp-source and smtp-sink.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import resource
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trustme

from bench import results
from bench.load import Load, push, sink
from bench.processes import forget_peak, memory_of_tree, peak_of
from tests.certificates import trusting, write_certificate
from tests.live.process import free_port, open_directory
from tests.live.service import Service, prepare, running

SESSIONS: Final = 5000
LARGE: Final = Load("100 MB", sessions=1, octets=100_000_000, messages=1)
SETTINGS: Final = """
[limits]
connections = {most}
connections_per_client = {most}
connections_per_network = {most}
message_size = "200M"
[[certificate]]
certificate = "{certificate}"
key = "{key}"
[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:{port}"
"""
#: Sessions that are opened at once; a handshake each must not run into the listener's backlog.
AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """MiB of the service, before and after; what lies between them is the thing's own."""

    what: str
    before: float
    after: float


async def large_message(service: Service, port: int) -> Measured:
    """100 MB in and out: the most the service ever held."""
    async with sink(port) as far_end:
        await push(service.port, Load("one", sessions=1), far_end, 20)
        forget_peak(service.pid)  # the start's: hashing a password takes 64 MiB for a moment
        before = peak_of(service.pid)
        await push(service.port, LARGE, far_end, 1)
    return Measured("a message of 100 MB, in and out", before, peak_of(service.pid))


async def idle_sessions(service: Service, count: int, context: ssl.SSLContext | None) -> Measured:
    """So many clients that have said EHLO and say no more."""
    before, room = memory_of_tree(service.pid), asyncio.Semaphore(AT_ONCE)
    writers = await asyncio.gather(*(_idle(service.port, context, room) for _ in range(count)))
    after = memory_of_tree(service.pid)
    for writer in writers:
        writer.transport.abort()
    how = "under TLS" if context else "in clear"
    return Measured(f"{count:,} idle sessions {how}", before, after)


async def _idle(port: int, context: ssl.SSLContext | None, room: asyncio.Semaphore) -> asyncio.StreamWriter:
    async with room:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await _reply(reader)
        writer.write(b"EHLO idle.test\r\n")
        await _reply(reader)
        if context:
            writer.write(b"STARTTLS\r\n")
            await _reply(reader)
            await writer.start_tls(context, server_hostname="relay.test")
            writer.write(b"EHLO idle.test\r\n")
            await _reply(reader)
        return writer


async def _reply(reader: asyncio.StreamReader) -> None:
    while (line := await reader.readline())[3:4] == b"-":
        pass
    if line[:1] != b"2":
        raise SystemExit(f"the service said {line!r}")


async def measure(sessions: int) -> list[Measured]:
    """Each on a fresh service."""
    found, authority = [], trustme.CA(key_type=trustme.KeyType.ECDSA)
    for what in ("large", "clear", "tls"):
        port = free_port()
        with open_directory() as directory:
            files = write_certificate(authority, directory, "relay.test")
            most = max(sessions + 100, 1000)
            settings = SETTINGS.format(most=most, certificate=files.certificate, key=files.key, port=port)
            async with running(prepare(directory, settings)) as service:
                if what == "large":
                    found.append(await large_message(service, port))
                else:
                    found.append(await idle_sessions(service, sessions, trusting(authority) if what == "tls" else None))
        print(found[-1], flush=True)
    return found


def summary(found: Sequence[Measured], facts: dict[str, str]) -> str:
    """The paragraph and table that go into the documentation."""
    return "\n".join(
        [
            f"Waypost {facts['waypost']} on Python {facts['python']}.",
            "",
            "| what | before, MiB | after, MiB | its own, MiB |",
            "|---|--:|--:|--:|",
            *(f"| {one.what} | {one.before:.0f} | {one.after:.0f} | {one.after - one.before:.0f} |" for one in found),
        ]
    )


async def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sessions", type=int, help=f"idle sessions (default {SESSIONS}); writes nothing")
    asked = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the service inherits it
    facts = await results.facts()
    found = await measure(asked.sessions or SESSIONS)
    text = summary(found, facts)
    print(f"\n{text}")
    if not asked.sessions:
        results.write_down("memory", {"facts": facts, "found": [dataclasses.asdict(one) for one in found]}, text)


if __name__ == "__main__":
    asyncio.run(main())
