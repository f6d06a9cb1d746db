"""Programs run by a live test: started, read, stopped, and never left behind.

Not here: what any of them is configured to do (postfix.py, exim.py, dovecot.py, knot.py, service.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 120.0
"""Seconds that any one thing may take before a live test calls it stuck; slow machines are no fault of the service."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A program that has ended."""

    code: int
    output: str
    errors: str


class CouldNotRunError(Exception):
    """A peer did not start or did not do as told; the text carries what it said."""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on at this moment (a peer that cannot take port 0 has to be told one)."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


async def run(*command: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ran:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(stdin), PATIENCE)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise CouldNotRunError(f"{command[0]} was still running after {PATIENCE:.0f} s") from None
    return Ran(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


async def must_run(*command: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ran:
    """Run a program to its end; any other exit code than 0 is an error that shows what it said."""
    ran = await run(*command, stdin=stdin, env=env)
    if ran.code != 0:
        raise CouldNotRunError(f"{' '.join(map(str, command))} ended with {ran.code}:\n{ran.output}{ran.errors}")
    return ran


@contextlib.asynccontextmanager
async def daemon(*command: str | Path, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program in the foreground, its words in `log`; ended by SIGTERM, or SIGKILL where that does not help."""
    with log.open("ab") as words:
        process = await asyncio.create_subprocess_exec(*map(str, command), stdout=words, stderr=words)
    try:
        yield process
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process, *, patience: float = 10.0) -> int:
    """Ask a process to stop, insist after `patience` seconds; its exit code."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), patience)
        except TimeoutError:
            process.kill()
    return await process.wait()


async def until(
    holds: Callable[[], Awaitable[bool]], what: str, *, within: float = PATIENCE, log: Path | None = None
) -> None:
    """Look again and again until something outside our control holds; `what` and the end of `log` tell of a failure."""
    try:
        async with asyncio.timeout(within):
            while not await holds():  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise CouldNotRunError(f"waited {within:.0f} s in vain: {what}{tail(log)}") from None


def tail(log: Path | None, lines: int = 40) -> str:
    """The end of a log, for an error text."""
    if log is None or not log.exists():
        return ""
    return f"\n--- the end of {log.name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


async def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something greets on a TCP port (an SMTP server that accepts, but does not speak yet, is not ready)."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        greeting = await asyncio.wait_for(reader.readline(), 5)
        writer.write(b"QUIT\r\n")
        await asyncio.wait_for(reader.read(), 5)
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()
    return greeting.startswith(b"220")


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """A disk-backed directory that other users may enter: Postfix, Exim and Dovecot give up root's rights."""
    path = Path(tempfile.mkdtemp(prefix="waypost-live-", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
