"""A 250 outlives a power cut: the service's own writes are replayed up to hundreds of moments, and the spool opened.

The same judge must find mail lost where syncing is switched off, else it would prove nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.live.mail import route, to_port
from tests.live.process import until
from tests.live.service import Service, prepare
from tests.live.sink import sink
from tests.live.source import IDENTITY, Source, identity, message
from tests.soak.power import WAYPOST, Disk, events, recorded
from waypost.mail.envelope import MessageId
from waypost.queue import ids
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import StorageError

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

SIZE = 3000
ENDING = message(0, SIZE)[-72:]
CUTS = int(150 * max(1.0, float(os.environ.get("SOAK_MINUTES", "1"))))
PROMISE = re.compile(rb"^250 2\.0\.0 Ok: queued as (\w+)\r\n", re.MULTILINE)
SENT = re.compile(rb"Received: [^;]*?\bid (\w+)")


# ---- the record
async def record_of_a_busy_service(place: Path, *options: str, program: tuple[str, ...] = WAYPOST) -> Path:
    """Mail in, mail out to a server and into Maildirs, a kill in the middle; what was asked of the disk."""
    async with sink(keep=identity) as far_end:
        service = prepare(place, to_port(far_end.port) + route("boxes.test", f"maildir:{place}/mail/%u"))
        record = place / "record"
        service.wrapper = recorded(record, *options, program=program)
        (place / "mail").mkdir()
        for count in (150, 100):
            await service.start()
            sources = [
                Source(service.port, count=count, sessions=5, size=SIZE),
                Source(service.port, count=count // 2, sessions=2, size=SIZE, recipient="bob@boxes.test"),
            ]
            await asyncio.gather(*(source.run() for source in sources))
            await service.kill()
            await until(lambda: has_ended(record, service), "strace has written the end", log=service.log)
    return record


async def has_ended(record: Path, service: Service) -> bool:
    words = (await asyncio.to_thread(last_line, record)).split()  # strace pads a process id of less than five digits
    return words == f"{service.pid} +++ killed by SIGKILL +++".split()


def last_line(record: Path) -> str:
    with record.open("rb") as file:
        file.seek(-min(4000, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return file.read().splitlines()[-1].decode()


# ---- the judge
@dataclass(slots=True)
class Findings:
    """What was found wrong, a sentence each, and how much was looked at."""

    cuts: int = 0
    promised: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


async def judged(record: Path, place: Path, cuts: int) -> Findings:
    """Cut the power at `cuts` moments of the record, its end among them, and look at each image."""
    dice = random.Random(1999)  # noqa: S311 - a test that can be run again
    story = list(events(record))
    moments = {*dice.sample(range(len(story) - 1), cuts - 1), len(story) - 1}
    said = deque(sorted((event for event in story if not event.file), key=lambda event: event.begun))
    disk, findings = Disk(str(place)), Findings()
    disk.names[f"{place}/mail"] = disk.safe_names[f"{place}/mail"] = True
    promised: set[str] = set()
    sent: set[str] = set()
    reached = 0  # a line of the record; what had begun when the process was killed comes last, and was begun before
    for number, event in enumerate(story):
        disk.follow(event)
        reached = max(reached, event.ended)
        if number not in moments:
            continue
        while said and said[0].begun <= reached:
            octets = said.popleft().octets
            promised |= names_in(PROMISE, octets)
            sent |= names_in(SENT, octets)
        with image_place() as image:
            disk.image(image, dice)
            spoil_index(image, dice)
            await look(image, promised, sent, findings, f"cut behind line {reached}")
        findings.cuts += 1
    findings.promised = len(promised)
    return findings


def names_in(what: re.Pattern[bytes], octets: bytes) -> set[str]:
    return {found.decode() for found in what.findall(octets)}


@contextmanager
def image_place() -> Iterator[Path]:
    """In memory: thousands of syncs of the judge's own would only cost time."""
    path = Path(tempfile.mkdtemp(prefix="waypost-image-", dir="/dev/shm"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def spoil_index(image: Path, dice: random.Random) -> None:
    """The index of the log is written through memory alone: of it the disk may hold anything."""
    if (image / "spool").is_dir():
        (image / "spool" / "queue.db-shm").write_bytes(dice.randbytes(32768))


async def look(image: Path, promised: set[str], sent: set[str], findings: Findings, when: str) -> None:
    """Open the spool as the service would, and call every promise in."""
    storage = SqliteStorage(image / "spool", allow_ephemeral=True)
    try:
        await storage.open(owner="judge")
    except StorageError as error:
        findings.wrong.append(f"{when}: {error}")
        return
    await storage.close()
    boxes = in_boxes(image)
    delivered = sent.union(*(names_in(SENT, octets) for octets in boxes))
    call_in(read_spool(image / "spool" / "queue.db"), promised, delivered, findings, when)
    findings.wrong += [f"{when}: a box holds half a message" for octets in boxes if not is_whole(octets)]


def in_boxes(image: Path) -> list[bytes]:
    return [file.read_bytes().replace(b"\n", b"\r\n") for file in image.glob("mail/*/new/*")]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a spool holds."""

    verdict: str
    octets: dict[int, bytes]
    queued: set[int]
    done: set[int]


def read_spool(database: Path) -> Kept:
    with closing(sqlite3.connect(database)) as connection:
        return Kept(
            connection.execute("PRAGMA integrity_check").fetchone()[0],
            dict(connection.execute("SELECT id, octets FROM messages")),
            {number for (number,) in connection.execute("SELECT DISTINCT message FROM recipients")},
            {number for (number,) in connection.execute("SELECT message FROM done")},
        )


def call_in(kept: Kept, promised: set[str], delivered: set[str], findings: Findings, when: str) -> None:
    """Each promise is queued and whole, or done and delivered, and not both."""
    if kept.verdict != "ok":
        findings.wrong.append(f"{when}: {kept.verdict}")
    for name in promised:
        number = ids.to_number(MessageId(name))
        if number in kept.queued:
            if number in kept.done or not is_whole(kept.octets.get(number, b"")):
                findings.wrong.append(f"{when}: {name} is queued, but done as well, or not whole")
        elif number not in kept.done:
            findings.lost.append(f"{when}: {name} is neither queued nor done")
        elif name not in delivered:
            findings.lost.append(f"{when}: {name} is done, but is nowhere")


def is_whole(octets: bytes) -> bool:
    """Whether it ends with what the source sent under its identity."""
    return IDENTITY in octets and octets.endswith(ENDING) and message(int(identity(octets)), SIZE) in octets


# ---- the tests
async def test_nothing_promised_is_lost_wherever_the_power_is_cut(place: Path, say: Callable[[str], None]) -> None:
    record = await record_of_a_busy_service(place)
    findings = await judged(record, place, CUTS)
    say(f"{findings.cuts} power cuts, up to {findings.promised} messages promised: {len(findings.lost)} lost")
    assert findings.promised >= 375
    assert findings.wrong == []
    assert findings.lost == []


CARELESS = (
    "import sys; from waypost.queue import database; from waypost.__main__ import main;"
    "database.PRAGMAS = tuple(one.replace('synchronous = FULL', 'synchronous = NORMAL') for one in database.PRAGMAS);"
    "sys.argv[0] = 'waypost'; main()"
)


@pytest.mark.parametrize(
    ("options", "program"),
    [
        (("-e", "inject=fsync,fdatasync:retval=0"), WAYPOST),
        (("-E", "LD_PRELOAD=libeatmydata.so"), WAYPOST),
        ((), ("-c", CARELESS)),
    ],
    ids=["a disk that lies", "syncs switched off", "a promise before the sync"],
)
async def test_the_judge_finds_mail_lost_where_it_is(
    options: tuple[str, ...], program: tuple[str, ...], place: Path, say: Callable[[str], None]
) -> None:
    record = await record_of_a_busy_service(place, *options, program=program)
    findings = await judged(record, place, 20)
    say(
        f"of {findings.promised} promised, {len(findings.lost)} times one was lost, {len(findings.wrong)} images broken"
    )
    assert findings.lost or findings.wrong
