"""What is to come back by a time comes back then, once, and whichever process of the queue has it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.letters import NOW, envelope, name
from waypost.mail.envelope import InMemory
from waypost.queue import deadlines
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Stored
from waypost.smtp.extension import MailParameters


@pytest.fixture
async def storage() -> MemoryStorage:
    one = MemoryStorage()
    await one.open(owner="us:1")
    return one


async def take(storage: MemoryStorage, number: int, by: str) -> None:
    sent = replace(envelope(), parameters=MailParameters(by=by))
    await storage.accept(sent, InMemory(b"x"), id=name(number), now=NOW, claim_until=NOW)
    await deadlines.note(storage, name(number), sent, NOW)


async def test_only_what_its_author_wants_back_is_remembered(storage: MemoryStorage) -> None:
    await take(storage, 1, "60;R")
    await take(storage, 2, "60;N")
    assert [key for key, _ in await storage.all_kept(deadlines.SPACE, now=NOW)] == [name(1)]


async def test_nothing_goes_before_its_time_and_then_once(storage: MemoryStorage) -> None:
    await take(storage, 1, "60;R")
    returned: set[str] = set()
    assert await deadlines.let_return(storage, NOW + 59, returned) == 0
    assert await deadlines.let_return(storage, NOW + 60, returned) == 1
    assert [hop.next_hop for hop in await storage.ready(NOW + 60, limit=9)] == [deadlines.OVERDUE]
    assert await deadlines.let_return(storage, NOW + 90, returned) == 0


async def test_what_is_just_being_tried_is_looked_at_again(storage: MemoryStorage) -> None:
    sent = replace(envelope(), parameters=MailParameters(by="60;R"))
    stored = await storage.accept(sent, InMemory(b"x"), id=name(1), now=NOW, claim_until=NOW + 3600)
    await deadlines.note(storage, name(1), sent, NOW)
    returned: set[str] = set()
    assert await deadlines.let_return(storage, NOW + 60, returned) == 0
    assert isinstance(stored, Stored)
    await storage.release(stored.leases)
    assert await deadlines.let_return(storage, NOW + 90, returned) == 1


async def test_what_was_returned_is_forgotten_once_nobody_has_to_know_it(storage: MemoryStorage) -> None:
    await take(storage, 1, "60;R")
    returned: set[str] = set()
    await deadlines.let_return(storage, NOW + 60, returned)
    await deadlines.let_return(storage, NOW + 60 + deadlines.KEPT.total_seconds(), returned)
    assert returned == set()
