"""Mail that comes otherwise than by SMTP: judged by a session as any other, and stored once for each key."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.receive.house import FULL, Failing, Slow
from tests.receive.inside import Forgetful, Inside, inside
from tests.virtual import settled, virtual
from waypost.auth.account import Account
from waypost.mail.errand import Letter
from waypost.net.stream import Endpoint
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import StorageError
from waypost.receive.intake import CLAIMED, TRUSTED, HandedIn, Intake, InUse, Key
from waypost.receive.server import Receiver
from waypost.smtp.path import parse_mailbox

CLIENT = Endpoint("192.0.2.7", 4711)
KEY = Key("test", "k1", "digest")
BODY = b"Subject: hello\r\n\r\n.dot\r\n"


def letter(*recipients: str, sender: str = "ann@example.org", octets: bytes = BODY, at_once: bool = False) -> Letter:
    found = tuple(map(parse_mailbox, recipients or ("bob@elsewhere.example",)))
    return Letter(parse_mailbox(sender), found, octets, at_once=at_once)


@virtual
async def test_each_recipient_has_the_reply_that_rcpt_would_have_had() -> None:
    place = await inside()
    done = await place.intake.hand_in(letter("a@ours.example", "b@closed.example"), CLIENT, TRUSTED, hello="us.example")
    assert done.is_taken
    assert [str(reply)[:9] for reply in done.replies] == ["250 2.0.0", "550 5.1.1"]
    (entry,) = await place.queued()
    assert (entry.id, entry.forward_path) == (done.id, "a@ours.example")
    octets = await place.octets(entry)
    assert octets.endswith(b"\r\n\r\n.dot\r\n")
    assert b"with HTTP id " in octets
    assert b"\r\nDate: " in octets


@virtual
async def test_an_account_may_use_its_own_reverse_paths_alone() -> None:
    place = await inside()
    done = await place.intake.hand_in(letter(), CLIENT, Account("eve", ("eve@example.org",)), hello="us.example")
    assert not done.is_taken
    assert str(done.replies[0]) == "553 5.7.1 <ann@example.org> is no reverse-path of eve"


@virtual
async def test_where_one_is_refused_for_now_nobody_gets_a_letter_that_is_to_go_at_once() -> None:
    place = await inside()
    asked = letter("a@ours.example", "b@bug.example", at_once=True)
    done = await place.intake.hand_in(asked, CLIENT, TRUSTED, hello="us.example")
    assert [reply.code for reply in done.replies] == [451, 451]
    assert await place.queued() == []


@virtual
async def test_a_full_spool_is_told_as_it_is() -> None:
    place = await inside(Failing(FULL))
    done = await place.intake.hand_in(letter(), CLIENT, TRUSTED, hello="us.example")
    assert str(done.replies[0]).startswith("452 4.3.1")


@virtual
async def test_a_message_that_is_too_large_is_refused_for_everybody() -> None:
    place = await inside()
    done = await place.intake.hand_in(letter(octets=BODY + b"x\r\n" * 50_000), CLIENT, TRUSTED, hello="us.example")
    assert [reply.code for reply in done.replies] == [552]


@virtual
async def test_the_same_key_stores_the_message_once() -> None:
    place = await inside()
    first = await place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    again = await place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(first, HandedIn)
    assert isinstance(again, HandedIn)
    assert (again.id, again.replies, again.repeated) == (first.id, first.replies, True)
    assert len(await place.queued()) == 1


@virtual
async def test_a_process_killed_after_the_commit_stores_nothing_twice() -> None:
    storage = Forgetful()
    place = await inside(storage)
    with pytest.raises(StorageError):
        await place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    storage.dies = False
    again = await place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(again, HandedIn)
    assert again.repeated
    assert again.is_taken
    assert len(await place.queued()) == 1


@virtual
async def test_another_message_under_the_same_key_is_refused() -> None:
    place = await inside()
    await place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    other = await place.intake.hand_in_once(Key("test", "k1", "other"), letter(), CLIENT, TRUSTED, hello="us.example")
    assert other == InUse("another message was handed in under the same key")


@virtual
async def test_two_at_once_under_one_key_store_one() -> None:
    place = await inside(Slow())
    first = asyncio.ensure_future(place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example"))
    await settled()
    second = await place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(second, InUse)
    done = await first
    assert isinstance(done, HandedIn)
    assert done.is_taken


@virtual
async def test_a_refused_message_may_be_handed_in_again_under_its_key() -> None:
    place = await inside()
    refused = await place.intake.hand_in_once(KEY, letter("b@closed.example"), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(refused, HandedIn)
    assert not refused.is_taken
    taken = await place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(taken, HandedIn)
    assert taken.is_taken
    assert not taken.repeated


async def another(place: Inside, name: str) -> Intake:
    """Another worker: it has a queue of its own, and the shelf with the others together."""
    own = MemoryStorage()
    await own.open(owner=name)
    for shared in ("keep", "keep_new", "kept", "drop"):
        setattr(own, shared, getattr(place.storage, shared))
    house = replace(place.house, storage=own)
    return replace(place.intake, serve=Receiver((), house).serve, storage=own, name=name, _under_way=set())


@virtual
async def test_two_processes_at_once_under_one_key_store_one() -> None:
    place = await inside(Slow())
    fellow = await another(place, "worker 1")
    first = asyncio.ensure_future(place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example"))
    await settled()
    second = await fellow.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(second, InUse)
    assert second.elsewhere
    done = await first
    third = await fellow.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(done, HandedIn)
    assert isinstance(third, HandedIn)
    assert (third.id, third.repeated, third.replies) == (done.id, True, done.replies)


@virtual
async def test_what_one_process_was_killed_over_it_alone_finds_and_the_others_know_then() -> None:
    storage = Forgetful()
    place = await inside(storage)
    with pytest.raises(StorageError):
        await place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    storage.dies = False
    fellow = await another(place, "worker 1")
    assert isinstance(await fellow.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example"), InUse)
    back = replace(place.intake, _under_way=set())
    again = await back.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(again, HandedIn)
    assert again.repeated
    assert len(await place.queued()) == 1
    known = await fellow.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(known, HandedIn)
    assert known.repeated


@virtual
async def test_what_a_process_was_killed_over_that_never_comes_back_another_takes_after_a_while() -> None:
    storage = Forgetful()
    place = await inside(storage)
    with pytest.raises(StorageError):
        await place.intake.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    storage.dies = False
    fellow = await another(place, "worker 1")
    await place.house.clock.sleep(CLAIMED)
    taken = await fellow.hand_in_once(KEY, letter(), CLIENT, TRUSTED, hello="us.example")
    assert isinstance(taken, HandedIn)
    assert taken.is_taken
    assert not taken.repeated


@virtual
async def test_whom_a_message_would_be_taken_for_is_asked_without_handing_it_in() -> None:
    place = await inside()
    to = ("a@ours.example", "b@closed.example")
    replies = await place.intake.asked(letter(*to), CLIENT, TRUSTED, hello="us.example")
    assert [reply.code for reply in replies] == [250, 550]
    assert await place.queued() == []
    eve = Account("eve", ("eve@example.org",))
    assert [reply.code for reply in await place.intake.asked(letter(*to), CLIENT, eve, hello="x.example")] == [553, 553]
