"""What mail is pushed with, and where it ends: smtp-source, smtp-sink, and stunnel where it comes under TLS.

A load is a cell of the grid: how many sessions at once, how large a message, and so on. TLS is stunnel's: it says
STARTTLS for smtp-source, which has none, and what it costs is the same whoever the relay is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.live.process import CouldNotRunError, answers, daemon, free_port, open_directory, until

#: Seconds for any one push.
PATIENCE: Final = 300.0


@dataclass(frozen=True, slots=True)
class Load:
    """A cell. `many`: all messages of a session over one connection, and not one each."""

    name: str
    sessions: int = 20
    octets: int = 4096
    messages: int = 5000
    many: bool = False
    recipients: int = 1
    tls: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """For smtp-source, but for how many messages."""
        numbers = ("-s", self.sessions, "-l", self.octets, "-r", self.recipients)
        return (*map(str, numbers), *(("-d",) if self.many else ()))


class Sink:
    """smtp-sink as the far end; it counts on its standard output: `sess=7 quit=6 mesg=5` and a CR."""

    def __init__(self, process: asyncio.subprocess.Process, words: asyncio.StreamReader) -> None:
        self._process = process
        self._words = words
        #: Messages taken since its start, as last looked at.
        self.taken = 0

    async def has(self, messages: int) -> None:
        """Return once it has taken so many messages since its start."""
        heard = b""
        while self.taken < messages:
            chunk = await self._words.read(65536)
            if not chunk:
                raise CouldNotRunError(f"smtp-sink ended with {await self._process.wait()}")
            # Nobody needs each count: to look a hundred times a second leaves the processors to those measured.
            heard = (heard + chunk)[-200:]
            self.taken = max(self.taken, _count(heard))
            await asyncio.sleep(0.01)


def _count(heard: bytes) -> int:
    counts = re.findall(rb"mesg=(\d+)\s", heard)
    return int(counts[-1]) if counts else 0


@contextlib.asynccontextmanager
async def sink(port: int, host: str = "127.0.0.1") -> AsyncIterator[Sink]:
    """A far end on a port of our choice."""
    process = await asyncio.create_subprocess_exec(
        *("smtp-sink", "-u", "nobody", "-c", f"{host}:{port}", "1000"), stdout=asyncio.subprocess.PIPE
    )
    if process.stdout is None:
        raise CouldNotRunError("smtp-sink was started without a pipe to count on")
    try:
        await until(lambda: answers(port), "smtp-sink greets")
        yield Sink(process, process.stdout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def push(port: int, load: Load, far_end: Sink, messages: int, *, to: str = "b@example.test") -> float:
    """Send so many messages through; seconds from the first to the moment the far end has the last."""
    command = ("smtp-source", *load.arguments, "-m", str(messages), "-f", "a@origin.test", "-t", to)
    expected, began = far_end.taken + messages, time.perf_counter()
    source = await asyncio.create_subprocess_exec(*command, f"127.0.0.1:{port}")
    try:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            # Both at once: a sink whose counting nobody reads comes to a stop when the pipe is full.
            group.create_task(far_end.has(expected))
            if await source.wait() != 0:
                raise CouldNotRunError(f"smtp-source ended with {source.returncode}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            source.kill()
    return time.perf_counter() - began


STUNNEL: Final = """\
foreground = yes
pid =
debug = warning
[starttls]
client = yes
protocol = smtp
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{relay}
"""


@contextlib.asynccontextmanager
async def under_tls(relay: int) -> AsyncIterator[int]:
    """The port from which mail goes on to a relay's port under TLS, by STARTTLS."""
    port = free_port()
    with open_directory() as directory:
        config, log = directory / "stunnel.conf", directory / "stunnel.log"
        config.write_text(STUNNEL.format(port=port, relay=relay))
        async with daemon(_stunnel(), config, log=log):
            await until(lambda: answers(port), "stunnel passes the relay's greeting on", log=log)
            yield port


def _stunnel() -> Path:
    path = Path("/usr/bin/stunnel4")
    if not path.exists():
        raise CouldNotRunError(f"{path} is missing; tests/live/setup.sh installs it")
    return path
