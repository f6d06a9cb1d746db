"""`waypost serve` as its users run it: a process, a configuration file, a port. Tests see it only from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tests.live.process import CouldNotRunError, Ran, end, free_port, run, tail, until

HEAD = """\
[service]
hostname = "waypost.test"
spool = "{spool}"
postmaster = "postmaster@origin.test"

[[listener]]
address = "127.0.0.1:{port}"
role = "mx"

[admin]
address = "127.0.0.1:{admin_port}"

[relay]
networks = ["127.0.0.0/8"]

[retry]
schedule = ["{pause}"]
expire = "5d"
"""


@dataclass(slots=True)
class Service:
    """One service and its directory; it may be stopped, killed and started again on the same spool and ports."""

    directory: Path
    config: Path
    port: int
    admin_port: int
    wrapper: tuple[str, ...] = ("-m", "waypost")
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)  # beside our own
    running: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """Everything it said, over all its starts."""
        return self.directory / "waypost.log"

    @property
    def pid(self) -> int:
        """The process id of the service that runs now."""
        return self.running[-1].pid

    async def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        command = (self.python, *self.wrapper, "serve", "--config", str(self.config))
        with self.log.open("ab") as words:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=words, stderr=words, env=os.environ | self.environment
            )
        self.running.append(process)
        try:
            await until(self._is_ready, "/readyz says 200", log=self.log)
        except BaseException:
            if process.returncode is None:
                await self.kill()
            raise

    async def _is_ready(self) -> bool:
        if (code := self.running[-1].returncode) is not None:
            raise CouldNotRunError(f"the service ended with {code} before it was ready{tail(self.log)}")
        return await asyncio.to_thread(status_of, f"http://127.0.0.1:{self.admin_port}/readyz") == 200

    async def stop(self) -> int:
        """Ask it to stop as an init system does; its exit code."""
        return await end(self.running[-1], patience=60)

    async def kill(self) -> None:
        """SIGKILL: nothing in it gets to run again."""
        self.running[-1].kill()
        await self.running[-1].wait()

    async def cli(self, *arguments: str) -> Ran:
        """Run one of its commands against it."""
        return await run(sys.executable, "-m", "waypost", *arguments, "--config", self.config)

    async def queue(self) -> list[dict[str, object]]:
        """What `waypost queue list --json` tells."""
        ran = await self.cli("queue", "list", "--json")
        if ran.code != 0:
            raise CouldNotRunError(f"waypost queue list ended with {ran.code}: {ran.output}{ran.errors}")
        listed = json.loads(ran.output)
        entries: list[dict[str, object]] = listed["entries"] if isinstance(listed, dict) else listed
        return entries


def status_of(url: str) -> int:
    """The HTTP status of a GET; 0 where nothing answers."""
    try:
        with urlopen(url, timeout=5) as response:  # noqa: S310 - a URL of our own on loopback
            code: int = response.status
            return code
    except HTTPError as refused:
        return refused.code
    except (URLError, OSError):
        return 0


@contextlib.asynccontextmanager
async def waypost(directory: Path, settings: str, *, pause: str = "1s") -> AsyncIterator[Service]:
    """A running service with the routes (and whatever else) of `settings`; a deferred message waits `pause`.

    In the end it is stopped by SIGTERM, and has to end with exit code 0.
    """
    service = prepare(directory, settings, pause=pause)
    async with running(service):
        yield service


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator[Service]:
    """The service between its start and its honest end; what goes wrong in between shows the end of its log."""
    await service.start()
    try:
        yield service
    except BaseException as trouble:
        await service.kill()
        trouble.add_note(tail(service.log))
        raise
    code = await service.stop()
    if code != 0:
        raise AssertionError(f"after SIGTERM the service ended with {code}, not 0{tail(service.log)}")


def prepare(directory: Path, settings: str, *, pause: str = "1s") -> Service:
    """A service that is configured, but not started."""
    port, admin_port = free_port(), free_port()
    config = directory / "waypost.toml"
    head = HEAD.format(spool=directory / "spool", port=port, admin_port=admin_port, pause=pause)
    config.write_text(head + settings)
    return Service(directory, config, port, admin_port)


RECEIVED = re.compile(rb"Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


def without_trace(octets: bytes) -> bytes:
    """The octets after the one Received line a message has to begin with."""
    trace = RECEIVED.match(octets)
    if trace is None:
        raise AssertionError(f"no Received line at the start of {octets[:200]!r}")
    if b"by waypost.test" not in trace[0]:
        raise AssertionError(f"the first Received line is not the service's: {trace[0]!r}")
    return octets[trace.end() :]
