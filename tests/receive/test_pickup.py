"""The pickup directory: files become messages once, whatever is cut off; bad ones lie aside with their reason."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.receive.house import FULL, Table
from tests.receive.inside import Forgetful, Inside, inside
from tests.virtual import run_virtual
from waypost.net.stream import Endpoint
from waypost.queue.memory import MemoryStorage
from waypost.receive import pickup
from waypost.receive.pickup import Bad, Pickup, understood
from waypost.receive.settings import Door
from waypost.smtp.settings import ServerSettings

DOOR = Door(Endpoint("", 0), ServerSettings("mx.example.net", size_limit=10_000), submission=True, protocol="local")
FILE = b"X-Sender: <ann@example.org>\nX-Receiver: <bob@elsewhere.example>\nSubject: hi\n\nhello\n"


class Log:
    """Remembers."""

    def __init__(self) -> None:
        self.aside: list[str] = []
        self.off: list[str] = []

    def put_aside(self, file: str, why: str) -> None:
        self.aside.append(why)

    def put_off(self, file: str, why: str) -> None:
        self.off.append(why)


class Box:
    """A directory with its pickup."""

    def __init__(self, directory: Path, place: Inside) -> None:
        self.directory, self.place, self.log = directory, place, Log()
        self.pickup = Pickup(directory, place.intake, place.house.clock, self.log, timedelta(seconds=1))
        self.pickup._prepare()

    def put(self, octets: bytes = FILE, name: str = "one.eml") -> Path:
        path = self.directory / name
        path.write_bytes(octets)
        return path

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir() if path.is_file())

    @property
    def bad(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "bad").iterdir())


async def box(directory: Path, storage: MemoryStorage | None = None, table: Table | None = None) -> Box:
    return Box(directory, await inside(storage, DOOR, table))


def test_a_file_becomes_a_message_and_is_removed(tmp_path: Path) -> None:
    async def scene() -> None:
        here = await box(tmp_path)
        here.put()
        await here.pickup.look()
        (entry,) = await here.place.queued()
        assert (entry.reverse_path, entry.forward_path) == ("ann@example.org", "bob@elsewhere.example")
        octets = await here.place.octets(entry)
        assert octets.endswith(b"Subject: hi\r\n\r\nhello\r\n")
        assert b"X-Sender" not in octets
        assert b"with local id" in octets
        assert here.files == []

    run_virtual(scene())


def test_without_an_envelope_the_header_says_who_and_bcc_is_taken_out(tmp_path: Path) -> None:
    async def scene() -> None:
        here = await box(tmp_path)
        here.put(b"From: Ann <ann@example.org>\nTo: b@ours.example\nBcc: c@ours.example,\n d@ours.example\n\nhello\n")
        await here.pickup.look()
        entries = await here.place.queued()
        assert {entry.forward_path for entry in entries} == {"b@ours.example", "c@ours.example", "d@ours.example"}
        assert b"c@ours.example" not in await here.place.octets(entries[0])

    run_virtual(scene())


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"X-Sender: <ann@example.org>\nX-Receiver: <nonsense>\n\nhello\n", "X-Receiver is '<nonsense>'"),
        (b"X-Sender: <a@b.example>\nX-Sender: <c@d.example>\n\nhello\n", "X-Sender is there twice"),
        (b"Subject: to nobody\n\nhello\n", '"From" is'),
        (b"From: a@b.example\n\nhello\n", "no recipient"),
        (b"X-Notify: sometimes\n" + FILE, "X-Notify has 'sometimes'"),
        (FILE + b"x" * 20_000, "limits.message_size is 10000"),
    ],
)
def test_a_file_that_can_never_be_taken_lies_aside_with_its_reason(tmp_path: Path, octets: bytes, reason: str) -> None:
    async def scene() -> None:
        here = await box(tmp_path)
        here.put(octets)
        await here.pickup.look()
        assert here.files == []
        assert here.bad == ["one.eml", "one.eml.txt"]
        assert reason in (tmp_path / "bad" / "one.eml.txt").read_text()
        assert (tmp_path / "bad" / "one.eml").read_bytes() == octets
        assert await here.place.queued() == []

    run_virtual(scene())


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    async def scene() -> None:
        here = await box(tmp_path / "box")
        secret = tmp_path / "secret"
        secret.write_bytes(FILE)
        (here.directory / "soft.eml").symlink_to(secret)
        os.link(secret, here.directory / "hard.eml")
        await here.pickup.look()
        assert await here.place.queued() == []
        assert here.bad == ["hard.eml", "hard.eml.txt", "soft.eml", "soft.eml.txt"]
        assert secret.exists()

    run_virtual(scene())


def test_a_file_whose_name_is_not_ready_is_let_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        here = await box(tmp_path)
        here.put(name=".begun.eml")
        here.put(name="begun.tmp")
        await here.pickup.look()
        assert len(here.files) == 2

    run_virtual(scene())


def test_a_recipient_refused_for_good_is_reported_to_the_author(tmp_path: Path) -> None:
    async def scene() -> None:
        here = await box(tmp_path)
        here.put(FILE.replace(b"\nSubject", b"\nX-Receiver: <x@closed.example>\nSubject"))
        await here.pickup.look()
        entries = await here.place.queued()
        assert [entry.reverse_path for entry in entries] == ["ann@example.org", ""]
        report = await here.place.octets(entries[1])
        assert b"Final-Recipient: rfc822;x@closed.example" in report.replace(b"; ", b";")
        assert b"550 5.1.1 no such user here" in report
        assert here.files == []

    run_virtual(scene())


def test_where_the_author_cannot_be_told_the_file_is_kept_for_the_administrator(tmp_path: Path) -> None:
    async def scene() -> None:
        here = await box(tmp_path)
        here.put(b"X-Sender: <>\nX-Receiver: <x@closed.example>\n\nhello\n")
        await here.pickup.look()
        assert "550 5.1.1" in (tmp_path / "bad" / "one.eml.txt").read_text()

    run_virtual(scene())


class Brimming(MemoryStorage):
    """A storage that is full, until it is not."""

    full = True

    async def accept(self, *args: object, **named: object) -> object:  # type: ignore[override]
        if self.full:
            return FULL
        return await super().accept(*args, **named)  # type: ignore[arg-type]


def test_what_cannot_be_taken_now_stays_and_is_taken_later(tmp_path: Path) -> None:
    async def scene() -> None:
        storage = Brimming()
        here = await box(tmp_path, storage)
        here.put()
        await here.pickup.look()
        assert here.files == ["one.eml"]
        assert "452 4.3.1" in here.log.off[0]
        storage.full = False
        await here.pickup.look()
        assert here.files == ["one.eml"]  # not at once: a minute later
        await here.place.house.clock.sleep(timedelta(minutes=2))
        await here.pickup.look()
        assert here.files == []
        assert len(await here.place.queued()) == 1

    run_virtual(scene())


def test_a_process_killed_between_commit_and_removal_takes_nothing_twice(tmp_path: Path) -> None:
    async def scene() -> None:
        storage = Forgetful()
        here = await box(tmp_path, storage)
        here.put()
        await here.pickup.look()
        assert here.files == ["one.eml"]
        storage.dies = False
        after = Box(tmp_path, here.place)
        await after.pickup.look()
        assert after.files == []
        assert len(await here.place.queued()) == 1

    run_virtual(scene())


REFUSED = FILE.replace(b"X-Receiver:", b"X-Receiver: <eve@closed.example>\nX-Receiver:", 1)


def test_a_process_killed_after_the_commit_still_tells_the_author_whom_it_was_not_taken_for(tmp_path: Path) -> None:
    async def scene() -> None:
        storage = Forgetful()
        here = await box(tmp_path, storage)
        here.put(REFUSED)
        await here.pickup.look()
        assert [entry.forward_path for entry in await here.place.queued()] == ["bob@elsewhere.example"]
        storage.dies = False
        after = Box(tmp_path, here.place)
        await after.pickup.look()
        assert after.files == []
        told = [entry for entry in await here.place.queued() if not entry.reverse_path]
        assert [entry.forward_path for entry in told] == ["ann@example.org"]
        assert b"eve@closed.example" in await here.place.octets(told[0])

    run_virtual(scene())


def test_a_process_killed_before_the_file_is_removed_tells_its_author_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        here = await box(tmp_path)
        here.put(REFUSED)
        with monkeypatch.context() as patch:
            patch.setattr(pickup, "_remove", lambda _: (_ for _ in ()).throw(OSError("killed")))
            await here.pickup.look()
        assert here.files == ["one.eml"]
        after = Box(tmp_path, here.place)
        await after.pickup.look()
        assert after.files == []
        assert len(await here.place.queued()) == 2

    run_virtual(scene())


def test_another_file_of_the_same_name_is_another_message(tmp_path: Path) -> None:
    async def scene() -> None:
        here = await box(tmp_path)
        for _ in range(2):
            here.put()
            await here.pickup.look()
        assert len(await here.place.queued()) == 2

    run_virtual(scene())


@given(st.binary() | st.text(alphabet="X-Sender: <a@b.c>\n").map(str.encode))
def test_any_file_is_a_message_or_bad(octets: bytes) -> None:
    try:
        found = understood(octets)
    except Bad:
        return
    assert found.recipients
