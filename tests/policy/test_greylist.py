"""Greylisting: who is put off, who may pass, and how long that is remembered."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from waypost.policy.greylist import NETWORKS, TRIPLETS, Greylist, Known, PutOff, Terms
from waypost.queue.memory import MemoryStorage
from waypost.smtp.path import NullPath, ReversePath, parse_mailbox

ANN, BOB = parse_mailbox("ann@far.example"), parse_mailbox("bob@ours.example")
TERMS = Terms(timedelta(minutes=5), timedelta(hours=1), timedelta(days=30), networks_after=2)
DAY = 86400.0


async def greylist(terms: Terms = TERMS) -> tuple[Greylist, MemoryStorage]:
    storage = MemoryStorage()
    await storage.open(owner="test")
    return Greylist(terms, storage), storage


async def test_a_stranger_is_put_off_until_the_delay_is_over() -> None:
    found, _ = await greylist()
    assert await found.judge("192.0.2.1", ANN, BOB, 1000.0) == PutOff(1300.0)
    assert await found.judge("192.0.2.1", ANN, BOB, 1100.0) == PutOff(1300.0)
    assert await found.judge("192.0.2.1", ANN, BOB, 1300.0) == Known("it has come back")
    assert await found.judge("192.0.2.1", ANN, BOB, 1300.0 + 29 * DAY) == Known("it has come back before")


async def test_who_comes_back_too_late_is_new_again() -> None:
    found, _ = await greylist()
    await found.judge("192.0.2.1", ANN, BOB, 0.0)
    assert await found.judge("192.0.2.1", ANN, BOB, 3601.0) == PutOff(3901.0)


async def test_what_is_known_is_known_while_it_comes_again_within_its_time() -> None:
    found, _ = await greylist()
    for at in (0.0, 300.0, 20 * DAY, 45 * DAY):
        await found.judge("192.0.2.1", ANN, BOB, at)
    assert await found.look("192.0.2.1", ANN, BOB, 74 * DAY) == Known("it has come back before")
    assert isinstance(await found.look("192.0.2.1", ANN, BOB, 76 * DAY), PutOff)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.99", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8::2:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
async def test_a_network_counts_as_one_client(one: str, other: str, same: bool) -> None:  # noqa: FBT001
    found, _ = await greylist()
    await found.judge(one, ANN, BOB, 0.0)
    assert isinstance(await found.judge(other, ANN, BOB, 400.0), Known) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("list-123-bob=ours.example@far.example", "list-124-bob=ours.example@far.example", True),
        ("Ann@far.example", "ann@FAR.example", True),
        ("ann+x@far.example", "ann+y@far.example", True),
        ("ann@far.example", "eve@far.example", False),
    ],
)
async def test_what_differs_from_message_to_message_makes_no_stranger(one: str, other: str, same: bool) -> None:  # noqa: FBT001
    found, _ = await greylist()
    await found.judge("192.0.2.1", parse_mailbox(one), BOB, 0.0)
    assert isinstance(await found.judge("192.0.2.1", parse_mailbox(other), BOB, 400.0), Known) is same


async def test_a_network_that_has_come_back_often_enough_is_known_as_a_whole() -> None:
    found, _ = await greylist()
    paths: list[ReversePath] = [ANN, NullPath()]
    for path in paths:
        await found.judge("192.0.2.1", path, BOB, 0.0)
        await found.judge("192.0.2.1", path, BOB, 400.0)
    assert await found.judge("192.0.2.7", parse_mailbox("new@far.example"), BOB, 401.0) == Known(
        "192.0.2.0/24 has come back 2 times"
    )
    never, _ = await greylist(replace(TERMS, networks_after=0))
    for path in paths:
        await never.judge("192.0.2.1", path, BOB, 0.0)
        await never.judge("192.0.2.1", path, BOB, 400.0)
    assert isinstance(await never.judge("192.0.2.7", parse_mailbox("new@far.example"), BOB, 401.0), PutOff)


async def test_who_only_asks_leaves_nothing_behind() -> None:
    found, storage = await greylist()
    assert await found.look("192.0.2.1", ANN, BOB, 0.0) == PutOff(300.0)
    assert await storage.all_kept(TRIPLETS, now=0.0) == []
    assert await storage.all_kept(NETWORKS, now=0.0) == []
