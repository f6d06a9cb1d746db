"""The pickup directory: each file `NAME.eml` put there is a message; `waypost-sendmail` and other programs write them.

A program writes its file under another name (`.NAME`, say), fsyncs it, and renames it to `NAME.eml`. At its top may
stand the envelope: `X-Sender: <ann@example.org>` once, and `X-Receiver: <bob@example.net>` for each recipient; these
lines are taken out. Without them the header's From or Sender, To, Cc and Bcc count. Lines may end in LF.

A file is removed after the message is durable, and not before; what was taken and not yet removed when the service was
killed is known again by the name its message was given (intake.py), and not taken twice; nor is its author told twice,
or not at all, whom it was not taken for. A file that can never be
taken goes to `bad/`, with the reason beside it in `NAME.eml.txt`. What only cannot be taken now stays, and is tried
again. Not here: what is taken and what is not (session.py, by way of intake.py).
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol, assert_never

from waypost.mail.dsn import RETURNED_UNASKED, compose
from waypost.mail.envelope import MessageId, NotInDoubt, Origin, QueuedMessage
from waypost.mail.errand import Letter, with_crlf
from waypost.mail.notification import Action, HeaderOnly, Notification, RecipientStatus, ToAuthor, Whole
from waypost.mail.written import WritingError, author_of, recipients_of, without_bcc
from waypost.net.clock import Clock, Instant
from waypost.queue.storage import StorageError
from waypost.receive.intake import NOWHERE, TRUSTED, HandedIn, Intake, InUse, Key
from waypost.smtp.extension import MailParameters, Notify, RcptParameters, Return
from waypost.smtp.path import ForwardPath, Mailbox, NullPath, PathError, ReversePath, parse_mailbox
from waypost.smtp.reply import Reply

SUFFIX: Final = ".eml"
BAD: Final = "bad"
#: Files taken one after the other before the directory is read again.
BATCH: Final = 200
#: Before what could not be taken now is tried again.
AGAIN: Final = timedelta(minutes=1)
#: A file begun and never renamed belongs to a program that died; it is removed after so long.
ABANDONED: Final = timedelta(days=7)

_ENVELOPE: Final = re.compile(rb"x-(sender|receiver|notify|return|envid):[ \t]*([^\r\n]*)\r\n", re.IGNORECASE)
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


class PickupLog(Protocol):
    """Who hears of files. Must not block."""

    def put_aside(self, file: str, why: str) -> None:
        """A file can never be taken; it lies in `bad/` now."""
        ...

    def put_off(self, file: str, why: str) -> None:
        """A file cannot be taken now; it is tried again."""
        ...


class Bad(Exception):  # noqa: N818 - a verdict on a file
    """A file can never be taken; the text says why, and what to mend."""


class Later(Exception):  # noqa: N818 - a verdict on a file
    """A file cannot be taken now."""


@dataclass(frozen=True, slots=True)
class Pickup:
    """One such directory."""

    directory: Path
    intake: Intake
    clock: Clock
    log: PickupLog
    poll: timedelta
    _not_before: dict[str, Instant] = field(default_factory=dict)

    async def run(self) -> None:
        """Look for files until cancelled. Raises: OSError, where the directory cannot be had."""
        await asyncio.to_thread(self._prepare)
        while True:
            if not await self.look():
                await self.clock.sleep(self.poll)

    def _prepare(self) -> None:
        """The directory, into which everybody may put files that only we can list: as a letter box."""
        if not self.directory.is_dir():
            self.directory.mkdir(parents=True)
            self.directory.chmod(0o1733)
        (self.directory / BAD).mkdir(mode=0o700, exist_ok=True)

    async def look(self) -> bool:
        """Take what is there now. True: there may be more at once."""
        now = self.clock.now()
        names = await asyncio.to_thread(self._names, now)
        due = [name for name in names if self._not_before.get(name, now) <= now]
        for gone in self._not_before.keys() - set(names):
            del self._not_before[gone]
        for name in due[:BATCH]:
            await self._take(name)
        return len(due) > BATCH

    def _names(self, now: Instant) -> list[str]:
        """Files that are ready, oldest first; those that nobody will ever finish are removed."""
        found = []
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                    found.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
                elif entry.name.startswith("."):
                    with suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < now - ABANDONED.total_seconds():
                            Path(entry.path).unlink()
        return [name for _, name in sorted(found)]

    async def _take(self, name: str) -> None:
        path = self.directory / name
        try:
            await self._take_in(path)
        except FileNotFoundError:
            return  # another process of ours was quicker, or its author thought better of it
        except Bad as verdict:
            await asyncio.to_thread(self._put_aside, path, str(verdict))
            self.log.put_aside(str(path), str(verdict))
        except (Later, OSError, StorageError) as verdict:
            self._not_before[name] = self.clock.now() + AGAIN.total_seconds()
            self.log.put_off(str(path), str(verdict))

    async def _take_in(self, path: Path) -> None:
        file = await asyncio.to_thread(_read, path, self.intake.door.smtp.size_limit)
        dropped = understood(file.octets)
        key = Key("pickup", f"{path.name}:{file.identity}")
        letter = Letter(
            dropped.reverse_path,
            dropped.recipients,
            dropped.octets,
            dropped.parameters,
            dropped.recipient_parameters,
            at_once=True,
        )
        match await self.intake.hand_in_once(key, letter, NOWHERE, TRUSTED, hello=file.owner):
            case InUse(why):
                raise Later(why)
            case HandedIn() as done:
                await self._after(done, letter, key, file.owner)
                await asyncio.to_thread(_remove, path)
                await self.intake.forget(key)
                await self.intake.forget(_report_key(key))
            case never:
                assert_never(never)

    async def _after(self, done: HandedIn, letter: Letter, key: Key, owner: str) -> None:
        """Tell the author whom it was not taken for."""
        replies = done.replies
        if done.repeated and not replies:  # the process was killed after the commit, and what it answered is not known
            replies = await self.intake.asked(letter, NOWHERE, TRUSTED, hello=owner)
            if any(reply.is_transient for reply in replies):
                raise Later("it was taken, and whom it was not taken for cannot be told now")
        refused = [
            (path, reply) for path, reply in zip(letter.recipients, replies, strict=True) if not reply.is_positive
        ]
        later = [f"<{path}>: {reply}" for path, reply in refused if reply.is_transient]
        if later and not done.is_taken:
            raise Later("; ".join(later))
        if refused and letter.recipient_parameters.notify.wants_failure:
            await self._report(done.id, letter, refused, key)

    async def _report(
        self,
        id: MessageId,  # noqa: A002 - the field's own name
        letter: Letter,
        refused: list[tuple[ForwardPath, Reply]],
        key: Key,
    ) -> None:
        """A report to the author; where he cannot be told, the file is kept for the administrator."""
        why = "; ".join(f"<{path}>: {reply}" for path, reply in refused)
        if not isinstance(letter.reverse_path, Mailbox):
            raise Bad(f"not taken for {why}; and there is no author to tell")
        octets = _report_of(id, letter, letter.reverse_path, refused, self.intake.door.smtp.hostname, self.clock.now())
        note = Letter(
            NullPath(), (letter.reverse_path,), octets, recipient_parameters=RcptParameters(notify=Notify.NEVER)
        )
        told = await self.intake.hand_in_once(_report_key(key), note, NOWHERE, TRUSTED, hello="localhost")
        if isinstance(told, InUse):
            raise Later(told.why)
        if not told.is_taken:
            raise Bad(f"not taken for {why}; and <{letter.reverse_path}> cannot be told: {told.replies[0]}")

    def _put_aside(self, path: Path, why: str) -> None:
        """The reason first: a file in `bad/` always has one."""
        aside = self.directory / BAD / path.name
        aside.with_name(aside.name + ".txt").write_text(f"{why}\n", "utf-8")
        path.replace(aside)


def _report_key(key: Key) -> Key:
    """Under which a file's report is handed in: once, wherever the process is killed."""
    return Key(key.space, f"{key.text} report")


def _report_of(
    id: MessageId,  # noqa: A002 - the field's own name for it
    letter: Letter,
    author: Mailbox,
    refused: list[tuple[ForwardPath, Reply]],
    hostname: str,
    now: Instant,
) -> bytes:
    """The DSN about recipients a session refused."""
    recipients = [
        RecipientStatus(
            forward_path=path,
            original_recipient="",
            status=str(reply.status),
            diagnostic=f"smtp; {reply}",
            remote_mta="",
            explanation=f"It was not taken here: {reply}",
            last_attempt=now,
            retry_until=0.0,
            doubt=NotInDoubt(),
        )
        for path, reply in refused
    ]
    size = len(letter.octets)
    whole = size <= RETURNED_UNASKED and letter.parameters.ret is not Return.HEADERS
    notification = Notification(
        action=Action.FAILED,
        message=QueuedMessage(id, author, letter.parameters, Origin("local"), now, size),
        recipients=recipients,
        original=Whole(letter.octets) if whole else HeaderOnly(letter.octets),
        addressee=ToAuthor(author),
        hostname=hostname,
        id=MessageId(f"{id}r"),
        now=now,
    )
    return compose(notification).octets


# ---- a file
@dataclass(frozen=True, slots=True)
class File:
    """What a file holds. `identity`: apart from every other file of that name, before and after."""

    octets: bytes
    owner: str
    identity: str


def _read(path: Path, most: int) -> File:
    """The file's octets. Raises: Bad, FileNotFoundError, OSError."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Bad(f"it cannot be read ({error.strerror}); let the service's user read it") from error
    with os.fdopen(opened, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise Bad("it is no regular file, or has another name elsewhere; write each message as a file of its own")
        if facts.st_size > most:
            raise Bad(f"it has {facts.st_size} octets; limits.message_size is {most}")
        return File(file.read(), _owner(facts.st_uid), f"{facts.st_ino}:{facts.st_mtime_ns}")


def _owner(uid: int) -> str:
    """A word that tells whose file it was, as the Received line shows it."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return name if _USER.fullmatch(name) and "_" not in name else f"uid-{uid}"


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A message with its envelope."""

    reverse_path: ReversePath
    recipients: tuple[Mailbox, ...]
    octets: bytes
    parameters: MailParameters
    recipient_parameters: RcptParameters


def understood(octets: bytes) -> Dropped:
    """The message in a file. Raises: Bad."""
    try:
        return _understood(octets)
    except WritingError as error:
        raise Bad(str(error)) from error


def _understood(file: bytes) -> Dropped:
    octets = with_crlf(file)
    lines, length = _envelope_lines(octets)
    message = octets[length:]
    senders = [text for name, text in lines if name == "sender"]
    if len(senders) > 1:
        raise Bad("X-Sender is there twice; a message has one")
    recipients = tuple(_mailbox("X-Receiver", text) for name, text in lines if name == "receiver")
    sender = _reverse_path(senders[0]) if senders else author_of(message)
    return Dropped(
        sender,
        tuple(dict.fromkeys(recipients)) or recipients_of(message),
        message if recipients else without_bcc(message),
        _parameters(dict(lines)),
        RcptParameters(notify=_notify(dict(lines).get("notify", ""))),
    )


def _envelope_lines(octets: bytes) -> tuple[list[tuple[str, str]], int]:
    """The envelope's lines at the top, and how long they are."""
    found, length = [], 0
    for line in _lines(octets):
        found.append((line[1].decode("ascii").lower(), line[2].decode("utf-8", "replace").strip()))
        length = line.end()
    return found, length


def _lines(octets: bytes) -> Iterator[re.Match[bytes]]:
    """The envelope's lines, one after the other from the first octet on."""
    line = _ENVELOPE.match(octets)
    while line is not None:
        yield line
        line = _ENVELOPE.match(octets, line.end())


def _reverse_path(text: str) -> ReversePath:
    return _mailbox("X-Sender", text) if text.strip("<>") else NullPath()


def _mailbox(name: str, text: str) -> Mailbox:
    try:
        return parse_mailbox(text.removeprefix("<").removesuffix(">"))
    except PathError as error:
        raise Bad(f"{name} is {text!r}, which is no mailbox: {error}; write <ann@example.org>") from error


def _parameters(lines: dict[str, str]) -> MailParameters:
    wanted = lines.get("return", "").upper()
    if wanted not in {"", "FULL", "HDRS"}:
        raise Bad(f"X-Return is {wanted!r}; write FULL or HDRS")
    return MailParameters(ret=Return(wanted), envelope_id=lines.get("envid", ""))


def _notify(text: str) -> Notify:
    if not text:
        return Notify.UNSPECIFIED
    if text.lower() == "never":
        return Notify.NEVER
    asked = Notify.NEVER
    for word in text.split(","):
        if word.strip().upper() not in {"SUCCESS", "FAILURE", "DELAY"}:
            raise Bad(f"X-Notify has {word.strip()!r}; write never, or of success, failure and delay a list")
        asked |= Notify[word.strip().upper()]
    return asked
