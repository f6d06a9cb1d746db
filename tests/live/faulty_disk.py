"""A disk that fails while the service runs: strace makes chosen system calls on the spool's files fail, or last.

The service is not changed, restarted or told: strace attaches to it, the calls fail as the kernel would fail them, and
strace lets go. Also here: what the calls were, and in which order (`calls_in`). Not here: a disk that forgets what was
not synced (tests/soak/power.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.live.process import CouldNotRunError, end
from tests.live.service import Service

FILES = ("queue.db", "queue.db-wal")


@dataclass(frozen=True, slots=True)
class DiskFault:
    """`call` on the spool's files has `effect` (strace's words), at the occurrences `when`: "3", "2..5", "1+"."""

    call: str
    effect: str
    when: str = "1+"

    def __str__(self) -> str:
        return f"{self.call} {self.effect} when {self.when}"


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that has returned. `result` is strace's: "4096", "-1 EIO (Input/output error) (INJECTED)"."""

    thread: int
    name: str
    file: str
    result: str

    @property
    def was_injected(self) -> bool:
        return "(INJECTED)" in self.result or "(DELAYED)" in self.result


@contextlib.asynccontextmanager
async def disk_fault(service: Service, fault: DiskFault) -> AsyncIterator[Path]:
    """The fault, while the block lasts; yields the file that gets the calls."""
    spool, trace = service.directory / "spool", service.directory / "strace"
    seen = sorted({"openat", "close", "pwrite64", "fdatasync", fault.call})
    words = f"-f -y -s 0 -o {trace} -p {service.pid} -e trace={','.join(seen)}".split()
    words += [word for name in FILES for word in ("-P", str(spool / name))]
    words += ["-e", f"inject={fault.call}:{fault.effect}:when={fault.when}"]
    process = await asyncio.create_subprocess_exec("strace", *words, stderr=asyncio.subprocess.PIPE)
    if process.stderr is None:
        raise TypeError("a pipe was asked for")
    attached = await asyncio.wait_for(process.stderr.readline(), 20)
    if b"attached" not in attached:
        await end(process)
        raise CouldNotRunError(f"strace: {attached.decode()}")
    draining = asyncio.ensure_future(process.stderr.read())
    try:
        yield trace
    finally:
        await end(process)
        await draining


_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_FILE = re.compile(r'<([^>]*)>|"([^"]*)"')
_RESULT = re.compile(r"= (\S.*)$")


def calls_in(trace: Path) -> list[Call]:
    """The calls in the order in which they returned."""
    begun: dict[tuple[str, str], str] = {}
    calls = []
    for line in trace.read_text(errors="replace").splitlines():
        if resumed := _RESUMED.match(line):
            thread, name, rest = resumed.groups()
            file = begun.pop((thread, name), "")
        elif begins := _CALL.match(line):
            thread, name, rest = begins.groups()
            file = _file(name, rest)
            if "<unfinished" in rest:
                begun[thread, name] = file
                continue
        else:
            continue
        if result := _RESULT.search(rest):
            calls.append(Call(int(thread), name, file, result[1]))
    return calls


def _file(name: str, rest: str) -> str:
    found = [first or second for first, second in _FILE.findall(rest)]
    return Path(found[-1 if name == "openat" else 0]).name if found else ""
