"""Notices: what is gathered, when it is told, to whom, and by which way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from tests.virtual import VirtualClock, virtual
from waypost.mail.envelope import NextHop
from waypost.queue.ids import MessageIds
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import QueueEntry, Selection, StorageError, StoreFault, StoreFaultKind
from waypost.report.common_notices import Class
from waypost.report.notices import TOLD, BounceKind, Notices, Terms, bounce_kind
from waypost.route.route import Capture, NoRoute, Route
from waypost.smtp.path import ForwardPath, Mailbox, parse_mailbox

ANN, BOB = parse_mailbox("ann@home.example"), parse_mailbox("bob@home.example")
OWN, OTHER = NextHop("own"), NextHop("other")


class Ways:
    def route(self, forward_path: ForwardPath) -> Route | NoRoute:
        return Route(OWN, Capture(), "rule 1")

    def named(self, name: str) -> Route | NoRoute:
        return Route(OTHER, Capture(), "rule 2") if name == "other" else NoRoute(f"no {name}")


@dataclass
class Log:
    sent: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def alarm_sent(self, what: str, recipient: str, id: str) -> None:  # noqa: A002
        self.sent.append(recipient)

    def notice_failed(self, recipient: str, why: str) -> None:
        self.failed.append(why)


async def notices(recipients: Mapping[Class, tuple[Mailbox, ...]], fallback: str = "") -> tuple[Notices, MemoryStorage]:
    storage, clock = MemoryStorage(), VirtualClock()
    await storage.open(owner="test")
    terms = Terms("mx.example.net", ANN, recipients, timedelta(hours=1), fallback)
    ids = MessageIds(clock, random.Random(1))  # noqa: S311 - no secret
    return Notices(terms, storage, Ways(), clock, ids, Log()), storage


async def queued(storage: MemoryStorage) -> list[tuple[QueueEntry, str]]:
    found = []
    for entry in await storage.entries(Selection(), after=("", -1), limit=99, now=0.0):  # type: ignore[arg-type]
        _, octets = await storage.message(entry.id)
        found.append((entry, b"".join([chunk async for chunk in octets]).decode()))
    return found


@virtual
async def test_each_is_told_of_his_classes_in_one_message() -> None:
    found, storage = await notices({Class.BOUNCES: (ANN, BOB), Class.AUTH: (ANN,)})
    found.note(Class.BOUNCES, "it came\r\nback")
    found.note(Class.AUTH, "wrong password")
    found.note(Class.DELAYS, "nobody is told of this")
    assert await found.tell()
    (ann, to_ann), (bob, to_bob) = await queued(storage)
    assert (ann.forward_path, ann.reverse_path, ann.next_hop) == ("ann@home.example", "", OWN)
    unfolded = to_ann.replace("\r\n ", " ")
    assert "Subject: Notice of mx.example.net: 1 messages that came back, 1 failed logins\r\n" in unfolded
    assert "Auto-Submitted: auto-generated\r\n" in to_ann
    assert "Z it came back\r\n" in to_ann
    assert "wrong password" in to_ann
    assert bob.forward_path == "bob@home.example"
    assert "wrong password" not in to_bob


@virtual
async def test_a_flood_makes_one_message_that_counts_it() -> None:
    found, storage = await notices({Class.PROTOCOL: (ANN,)})
    for number in range(1000):
        found.note(Class.PROTOCOL, f"error {number}")
    await found.tell()
    ((_, text),) = await queued(storage)
    assert text.count("error ") == TOLD
    assert f"… and {1000 - TOLD} more; the log has them" in text


@virtual
async def test_it_goes_by_another_route_while_its_own_is_in_trouble() -> None:
    found, storage = await notices({Class.DELAYS: (ANN,)}, fallback="other")
    found.in_trouble = lambda hop: hop == OWN
    found.note(Class.DELAYS, "own rests")
    await found.tell()
    ((entry, _),) = await queued(storage)
    assert entry.next_hop == OTHER


@virtual
async def test_without_another_route_it_waits_for_its_own() -> None:
    found, storage = await notices({Class.DELAYS: (ANN,)}, fallback="gone")
    found.in_trouble = lambda _: True
    found.note(Class.DELAYS, "own rests")
    await found.tell()
    ((entry, _),) = await queued(storage)
    assert entry.next_hop == OWN


@virtual
async def test_what_cannot_be_filed_is_told_later() -> None:
    found, storage = await notices({Class.RESOURCES: (ANN,)})
    await storage.close()
    found.note(Class.RESOURCES, "the disk is full")
    assert not await found.tell()
    found.note(Class.RESOURCES, "and still")
    await storage.open(owner="test")
    assert await found.tell()
    ((_, text),) = await queued(storage)
    assert "2 trouble with resources" in text
    assert text.index("the disk is full") < text.index("and still")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("5.1.1", BounceKind.USER),
        ("5.1.2", BounceKind.HOST),
        ("5.4.4", BounceKind.HOST),
        ("5.2.2", BounceKind.MAILBOX),
        ("5.2.3", BounceKind.SIZE),
        ("5.3.4", BounceKind.SIZE),
        ("5.4.7", BounceKind.EXPIRED),
        ("5.4.6", BounceKind.LOOP),
        ("5.7.1", BounceKind.POLICY),
        ("5.5.2", BounceKind.PROTOCOL),
        ("5.6.0", BounceKind.PROTOCOL),
        ("5.0.0", BounceKind.OTHER),
        ("", BounceKind.OTHER),
    ],
)
def test_bounces_are_told_apart_by_their_status(status: str, kind: BounceKind) -> None:
    assert bounce_kind(status) is kind


async def fellow(of: Notices, storage: MemoryStorage) -> Notices:
    """Another process of the same queue."""
    ids = MessageIds(VirtualClock(), random.Random(2))  # noqa: S311 - no secret
    return Notices(of.terms, storage, Ways(), VirtualClock(), ids, Log())


@virtual
async def test_processes_of_one_queue_make_one_notice_in_its_time_and_none_loses_what_it_saw() -> None:
    one, storage = await notices({Class.AUTH: (ANN,)})
    other = await fellow(one, storage)
    one.note(Class.AUTH, "seen by one")
    assert await one.tell()
    for number in range(9):
        other.note(Class.AUTH, f"seen by the other {number}")
    assert not await other.tell()
    assert len(await queued(storage)) == 1
    await VirtualClock().sleep(timedelta(hours=1))
    one.note(Class.AUTH, "seen by one again")
    assert await one.tell()
    _, (_, text) = await queued(storage)
    assert "10 failed logins" in text
    assert "seen by one again" in text
    assert "seen by the other 4" in text
    assert "… and 4 more; the log has them" in text
    await VirtualClock().sleep(timedelta(hours=1))
    assert await other.tell()  # and nothing is told twice
    assert len(await queued(storage)) == 2


@virtual
async def test_what_a_process_that_is_gone_had_gathered_is_told_by_the_next() -> None:
    gone, storage = await notices({Class.AUTH: (ANN,)})
    gone.note(Class.AUTH, "first")
    await gone.tell()
    gone.note(Class.AUTH, "at the end")
    assert not await gone.tell()
    next_one = await fellow(gone, storage)
    running = asyncio.create_task(next_one.run())
    await VirtualClock().sleep(timedelta(hours=2))
    running.cancel()
    _, (_, text) = await queued(storage)
    assert "at the end" in text


@virtual
async def test_a_notice_that_cannot_be_handed_over_is_not_lost() -> None:
    found, storage = await notices({Class.AUTH: (ANN,)})
    found.note(Class.AUTH, "first")
    await found.tell()

    async def fail(*_: object, **__: object) -> None:
        raise StorageError(StoreFault(StoreFaultKind.FAILED, "no"))

    found.note(Class.AUTH, "second")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "keep", fail)
        assert not await found.tell()
    await VirtualClock().sleep(timedelta(hours=1))
    assert await found.tell()
    assert "second" in (await queued(storage))[1][1]
