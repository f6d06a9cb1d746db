from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.deliver.peer import BODY, lease, recipient
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.maildir import MaildirDelivery, maildir_of
from waypost.mail.envelope import Octets
from waypost.mail.explain import describe
from waypost.mail.outcome import Deferred, Delivered, LocalTrouble, Outcome
from waypost.net.clock import SystemClock
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind
from waypost.smtp.path import DomainName, Mailbox, Postmaster


async def deliver(root: Path, *addresses: str, octets: Octets | None = None) -> list[Outcome]:
    """The outcomes of one attempt into Maildirs below `root`."""
    sent = lease([recipient(number, address) for number, address in enumerate(addresses)], octets=octets)
    fates = Fates(sent.recipients)
    await MaildirDelivery("mx.example.net", SystemClock()).deliver(sent, f"{root}/%d/%u", fates)
    return [outcome for _, outcome in fates.closed(deferred(LocalTrouble("untouched")))]


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def directories(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_dir()]


async def test_a_message_is_stored_with_its_trace_and_local_line_ends(tmp_path: Path) -> None:
    (outcome,) = await deliver(tmp_path, "Bob@Example.com")
    assert isinstance(outcome, Delivered)
    assert outcome.final
    (stored,) = files(tmp_path)
    assert stored.parent == tmp_path / "example.com" / "bob" / "new"
    trace = b"Return-Path: <alice@example.org>\nDelivered-To: Bob@example.com\n"
    assert stored.read_bytes() == trace + BODY.replace(b"\r\n", b"\n")


async def test_each_recipient_gets_a_copy_of_its_own(tmp_path: Path) -> None:
    outcomes = await deliver(tmp_path, "a@example.com", "b@example.com", "a@example.com")
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert len(files(tmp_path)) == 3


async def test_directories_and_files_are_private(tmp_path: Path) -> None:
    await deliver(tmp_path, "a@example.com")
    made = directories(tmp_path)
    assert {path.name for path in made} >= {"tmp", "new", "cur", "a", "example.com"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(tmp_path)} == {0o600}


async def test_two_deliveries_at_once_make_one_maildir(tmp_path: Path) -> None:
    outcomes = await asyncio.gather(*(deliver(tmp_path, "a@example.com") for _ in range(8)))
    assert all(isinstance(outcome, Delivered) for (outcome,) in outcomes)
    names = {path.name for path in (tmp_path / "example.com" / "a" / "new").iterdir()}
    assert 1 <= len(names) <= 8


class Chunks:
    size = 3_000_000

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"x" * 9998 + b"\r"
            yield b"\n"


class Torn(Chunks):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"Subject: torn\r\n" * 200_000
        raise StorageError(StoreFault(StoreFaultKind.FAILED, "sector 7"))


async def test_a_line_end_cut_between_chunks_is_still_one(tmp_path: Path) -> None:
    await deliver(tmp_path, "a@example.com", octets=Chunks())
    (stored,) = files(tmp_path)
    assert stored.read_bytes().endswith((b"x" * 9998 + b"\n") * 300)
    assert b"\r" not in stored.read_bytes()


async def test_an_unreadable_spool_leaves_nothing_behind(tmp_path: Path) -> None:
    (outcome,) = await deliver(tmp_path, "a@example.com", octets=Torn())
    assert isinstance(outcome, Deferred)
    assert "sector 7" in describe(outcome)
    assert files(tmp_path) == []


async def test_a_place_that_cannot_be_written_defers_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "example.com").write_text("a file where a directory should be")
    (outcome,) = await deliver(tmp_path, "a@example.com")
    assert isinstance(outcome, Deferred)
    assert isinstance(outcome.cause, LocalTrouble)
    assert str(tmp_path / "example.com") in describe(outcome)


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
async def test_whatever_the_disk_refuses_the_mail_waits_and_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    await deliver(tmp_path, "a@example.com")
    before = files(tmp_path)

    def fail(*_args: object, **_keywords: object) -> int:
        raise OSError(number, os.strerror(number))

    if step == "rename":
        monkeypatch.setattr(Path, "rename", fail)
    else:
        monkeypatch.setattr(os, step, fail)
    (outcome,) = await deliver(tmp_path, "a@example.com")
    assert isinstance(outcome, Deferred)
    assert os.strerror(number) in describe(outcome)
    assert files(tmp_path) == before


@given(local_part=st.text(min_size=1, max_size=64), domain=st.text(min_size=1, max_size=64))
def test_no_address_leads_out_of_the_tree_or_into_anothers_maildir(local_part: str, domain: str) -> None:
    path = maildir_of("/mail/%d/%u/Maildir", Mailbox(local_part, DomainName(domain)), "mx.example.net")
    root, mail, one, two, last = path.parts
    assert (root, mail, last) == ("/", "mail", "Maildir")
    for part in (one, two):
        assert part not in {"", ".", ".."}
        assert not part.startswith(".")
        assert "/" not in part
        assert "\0" not in part


@pytest.mark.parametrize("local_part", ["..", ".", "../../etc", "a/b", "%u", "%d", "\0", ".hidden"])
def test_names_that_play_with_paths_become_plain_ones(local_part: str) -> None:
    path = maildir_of("/mail/%d/%u", Mailbox(local_part, DomainName("example.com")), "mx.example.net")
    assert path.parent == Path("/mail/example.com")
    assert os.path.normpath(path) == str(path)


def test_postmaster_without_a_domain_lives_at_our_own() -> None:
    assert maildir_of("/mail/%d/%u", Postmaster(), "mx.example.net") == Path("/mail/mx.example.net/postmaster")
