"""Delivery to a program: the message on its standard input, once for each recipient, and its exit status decides.

There is no shell: each word of the route is one argument, whatever is put into it, and what is put at an argument's
beginning may not look like an option. The program runs alone in a session of its own, under the limits of sandbox.py,
with nothing of our environment but PATH and a few variables on the message. At its time-out all of its session is
killed. What it prints is drained, and the end of it kept.

Exit statuses are those of sysexits.h: those that speak of the message or its recipient refuse it; all else (trouble of
the machine, a usage error, a signal, a status that nobody agreed upon) makes the mail wait, for somebody will mend it.

Line ends and trace lines: copy.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from waypost.deliver import sandbox
from waypost.deliver.copy import trace, with_local_line_ends
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.fitting import without_binary
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import Octets, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import (
    Deferred,
    Delivered,
    LocalTrouble,
    Outcome,
    PolicyRefused,
    ProgramEnded,
    Rejected,
)
from waypost.net.clock import Clock
from waypost.queue.storage import Lease, StorageError
from waypost.route.route import Pipe
from waypost.smtp.path import Mailbox
from waypost.smtp.reply import EnhancedStatus, Reply

#: Octets kept of what a program prints: the end, where it says what went wrong.
KEPT: Final = 4096
SAID: Final = 300
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Exit statuses that are the message's, or the recipient's, own fault (sysexits.h), and the status for each.
PERMANENT: Final = {
    65: ("the message is not as it should be", EnhancedStatus(5, 6, 0)),  # EX_DATAERR
    67: ("no such user", EnhancedStatus(5, 1, 1)),  # EX_NOUSER
    68: ("no such host", EnhancedStatus(5, 1, 2)),  # EX_NOHOST
    69: ("not available", EnhancedStatus(5, 3, 0)),  # EX_UNAVAILABLE
    73: ("cannot create its output", EnhancedStatus(5, 2, 0)),  # EX_CANTCREAT
    76: ("a protocol error", EnhancedStatus(5, 5, 0)),  # EX_PROTOCOL
    77: ("not permitted", EnhancedStatus(5, 7, 0)),  # EX_NOPERM
}
LATER: Final = EnhancedStatus(4, 3, 0)
_SUBSTITUTE: Final = re.compile(r"%[rudsi%]")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit status (negative: the signal that killed it), and the end of what it printed."""

    status: int
    said: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """It was killed: its time was up."""

    said: str


class BadArgumentError(ValueError):
    """An address cannot be an argument of the program; a sentence."""


class PipeDelivery:
    """Deliveries to programs. `hostname` stands for the domain of the bare `Postmaster`."""

    def __init__(self, hostname: str, clock: Clock) -> None:
        self._hostname = hostname
        self._clock = clock

    async def deliver(self, lease: Lease, pipe: Pipe, fates: Fates, transcript: Transcript) -> None:
        """A run of the program for each recipient."""
        octets = await without_binary(lease.message, lease.octets)
        for recipient in fates.open():
            if isinstance(octets, Rejected):
                fates.record(recipient, octets)
                continue
            fates.body_begun = True
            fates.record(recipient, await self._deliver_one(lease.message, recipient, octets, pipe, transcript))
            fates.body_begun = False

    async def _deliver_one(
        self, message: QueuedMessage, recipient: QueuedRecipient, octets: Octets, pipe: Pipe, transcript: Transcript
    ) -> Outcome:
        values = _values(message, recipient, self._hostname)
        try:
            arguments = [filled(word, values) for word in pipe.arguments]
            owner = owner_of(pipe.user)
        except BadArgumentError as error:
            return Rejected(PolicyRefused(str(error), EnhancedStatus(5, 1, 3)), EnhancedStatus(5, 1, 3))
        except LookupError as error:
            return deferred(LocalTrouble(str(error)))
        self._note(transcript, "C", " ".join(arguments))
        try:
            ended = await _Run(pipe, arguments, _environment(values), owner).over(message, recipient, octets)
        except OSError as error:
            return deferred(LocalTrouble(f"{arguments[0]} could not be started: {error}"))
        except StorageError as error:
            return deferred(LocalTrouble(f"the body of {message.id} could not be read: {error}"))
        outcome = judge(pipe, ended)
        self._note(transcript, "S", f"{_how(pipe, ended)}\n{ended.said}".rstrip())
        return outcome

    def _note(self, transcript: Transcript, mark: str, text: str) -> None:
        transcript.add(self._clock.monotonic(), mark, text)


def filled(word: str, values: dict[str, str]) -> str:
    """One argument with what stands for something put in. Raises: BadArgumentError."""
    text = _SUBSTITUTE.sub(lambda found: "%" if found[0] == "%%" else values[found[0]], word)
    if text.startswith("-") and not word.startswith("-"):
        raise BadArgumentError(f"{text!r} would look like an option to the program, and is not passed to it")
    return text


def owner_of(user: str) -> tuple[int, int]:
    """User and group id; -1 and -1: nobody else than we are. Raises: LookupError, with a sentence."""
    if not user:
        return -1, -1
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise LookupError(f"there is no user {user} on this machine") from None
    if entry.pw_uid != os.getuid() and os.getuid() != 0:
        raise LookupError(f"a program runs as {user} only where the service itself is root")
    return entry.pw_uid, entry.pw_gid


def judge(pipe: Pipe, ended: Ended | Overdue) -> Outcome:
    """What an end of the program means."""
    program = pipe.arguments[0]
    cause = ProgramEnded(program, _how(pipe, ended), ended.said)
    if isinstance(ended, Overdue):
        return Deferred(cause, LATER)
    if ended.status == 0:
        return Delivered(program, Reply.of(250, "2.0.0", f"taken {ended.said}".rstrip()[:SAID]), final=True)
    if ended.status in PERMANENT:
        return Rejected(cause, PERMANENT[ended.status][1])
    return Deferred(cause, LATER)


def _how(pipe: Pipe, ended: Ended | Overdue) -> str:
    if isinstance(ended, Overdue):
        return f"a signal of ours: its {pipe.timeout.total_seconds():g} seconds were up"
    if ended.status < 0:
        return f"the signal {signal.Signals(-ended.status).name}"
    meaning = PERMANENT.get(ended.status, ("", LATER))[0]
    return f"exit status {ended.status}{f', {meaning}' if meaning else ''}"


def _values(message: QueuedMessage, recipient: QueuedRecipient, hostname: str) -> dict[str, str]:
    path = recipient.forward_path
    local_part, domain = (path.local_part, str(path.domain)) if isinstance(path, Mailbox) else ("postmaster", hostname)
    return {
        "%r": f"{local_part}@{domain}",
        "%u": local_part,
        "%d": domain,
        "%s": str(message.reverse_path),
        "%i": str(message.id),
    }


def _environment(values: dict[str, str]) -> dict[str, str]:
    return {
        "PATH": PATH,
        "LC_ALL": "C.UTF-8",
        "WAYPOST_RECIPIENT": values["%r"],
        "WAYPOST_SENDER": values["%s"],
        "WAYPOST_ID": values["%i"],
    }


class _Run:
    """One run of a program."""

    def __init__(self, pipe: Pipe, arguments: list[str], environment: dict[str, str], owner: tuple[int, int]) -> None:
        self._pipe = pipe
        self._environment = environment
        seconds = max(1, int(pipe.timeout.total_seconds()))
        limits = [str(pipe.memory), str(seconds), *map(str, owner)]
        self._command = [sys.executable, "-I", "-S", str(Path(sandbox.__file__)), *limits, *arguments]
        self._printed = bytearray()

    async def over(self, message: QueuedMessage, recipient: QueuedRecipient, octets: Octets) -> Ended | Overdue:
        """From its start to its end. Raises: OSError, where it cannot be started; StorageError."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
            cwd="/",
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._pipe.timeout.total_seconds()):
                listening = asyncio.ensure_future(self._listen(process))
                try:
                    await _feed(process, message, recipient, octets)
                    await listening
                    return Ended(await process.wait(), self._said())
                finally:
                    listening.cancel()
        except TimeoutError:
            return Overdue(self._said())
        finally:
            await _end(process)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Drain what it prints, keeping the end: a program that fills its pipe would wait for ever."""
        stream = process.stdout
        while stream is not None and (printed := await stream.read(KEPT)):
            self._printed += printed
            del self._printed[:-KEPT]

    def _said(self) -> str:
        return " ".join(self._printed.decode("utf-8", "backslashreplace").split())[-SAID:]


async def _feed(
    process: asyncio.subprocess.Process, message: QueuedMessage, recipient: QueuedRecipient, octets: Octets
) -> None:
    """The message to its standard input. One that reads no further is none the worse for it: its status counts."""
    stdin = process.stdin
    if stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for piece in with_local_line_ends(trace(message, recipient), octets):
            stdin.write(piece)
            await stdin.drain()
    stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Whatever is left of its session is killed, and it is waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
