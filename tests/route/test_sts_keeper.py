"""RFC 8461 §3.3, §5.1, §10.2: when a policy is fetched, how long it is believed, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from tests.route.written import WrittenResolver
from tests.virtual import VirtualClock, elapsed, settled, virtual
from waypost.mail.tls_result import TlsTrouble
from waypost.net.https import HttpsAnswer, HttpsFailed, HttpsResult, HttpsTrouble
from waypost.net.resolver import DnsTrouble, NoSuchName, TextAnswer, Texts
from waypost.route.level import NoStsPolicy
from waypost.route.mta_sts import KeptPolicy, Mode
from waypost.route.sts_keeper import DirectoryShelf, NoShelf, Shelf, StsKeeper

URL = "https://mta-sts.far.example/.well-known/mta-sts.txt"
WEEK = "604800"


def file(mode: str = "enforce", *, max_age: str = WEEK, status: int = 200, media: str = "text/plain") -> HttpsAnswer:
    text = f"version: STSv1\nmode: {mode}\nmx: mx.far.example\nmax_age: {max_age}\n"
    return HttpsAnswer(status, media, text.encode())


@dataclass
class Web:
    """Answers with what the test sets, after a second."""

    answer: HttpsResult = field(default_factory=file)
    asked: list[str] = field(default_factory=list)

    async def get(self, url: str, *, limit: int, within: timedelta) -> HttpsResult:
        self.asked.append(url)
        await asyncio.sleep(1)
        return self.answer

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, limit: int, within: timedelta
    ) -> HttpsResult:
        raise AssertionError("nothing is posted")


@dataclass
class World:
    """A domain whose record and file the test changes."""

    shelf: Shelf = field(default_factory=NoShelf)
    web: Web = field(default_factory=Web)
    texts: dict[str, TextAnswer] = field(default_factory=dict)
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        self.announce("1")
        self.keeper = StsKeeper(WrittenResolver({}, {}, texts=self.texts), self.web, self.shelf, self.clock)

    def announce(self, id_: str) -> None:
        self.texts["_mta-sts.far.example"] = Texts((f"v=STSv1; id={id_}".encode(),))

    def hide(self, answer: TextAnswer) -> None:
        self.texts["_mta-sts.far.example"] = answer

    async def ask(self) -> KeptPolicy | NoStsPolicy:
        return await self.keeper.policy("far.example")

    async def mode(self) -> Mode:
        found = await self.ask()
        assert isinstance(found, KeptPolicy), found.detail
        return found.policy.mode


@virtual
async def test_a_policy_is_fetched_once_and_then_believed() -> None:
    world = World()
    assert await world.mode() is Mode.ENFORCE
    found, seconds = await elapsed(world.ask())
    assert isinstance(found, KeptPolicy)
    assert found.id == "1"
    assert seconds == 0
    assert world.web.asked == [URL]


@virtual
async def test_all_who_ask_at_once_share_one_fetch() -> None:
    world = World()
    found = await asyncio.gather(*(world.ask() for _ in range(20)))
    assert len(set(found)) == 1
    assert world.web.asked == [URL]


@virtual
async def test_a_domain_without_a_record_is_not_fetched() -> None:
    world = World()
    world.hide(NoSuchName())
    assert await world.ask() == NoStsPolicy("far.example announces none")
    assert world.web.asked == []


@virtual
async def test_another_id_has_the_policy_fetched_anew() -> None:
    world = World()
    await world.ask()
    world.announce("2")
    world.web.answer = file("testing")
    assert await world.mode() is Mode.TESTING
    assert len(world.web.asked) == 2


@pytest.mark.parametrize("hidden", [NoSuchName(), DnsTrouble("SERVFAIL"), Texts((b"v=STSv1; id=",))], ids=str)
@virtual
async def test_whoever_hides_the_record_does_not_undo_a_policy(hidden: TextAnswer) -> None:
    """RFC 8461 §10.2: it holds until its max_age ends."""
    world = World()
    await world.ask()
    world.hide(hidden)
    await asyncio.sleep(604_000)
    assert await world.mode() is Mode.ENFORCE
    await asyncio.sleep(900)
    assert isinstance(await world.ask(), NoStsPolicy)


FAILURES = [
    (HttpsFailed(HttpsTrouble.UNREACHABLE, "no address"), TlsTrouble.STS_FETCH),
    (HttpsFailed(HttpsTrouble.TIMED_OUT, "60 s"), TlsTrouble.STS_FETCH),
    (HttpsFailed(HttpsTrouble.TOO_LARGE, "65536"), TlsTrouble.STS_FETCH),
    (HttpsFailed(HttpsTrouble.CERTIFICATE, "self-signed"), TlsTrouble.STS_CERTIFICATE),
    (file(status=404), TlsTrouble.STS_FETCH),
    (file(status=301), TlsTrouble.STS_FETCH),
    (file(media="text/html"), TlsTrouble.STS_INVALID),
    (HttpsAnswer(200, "text/plain", b"what is this?"), TlsTrouble.STS_INVALID),
]


@pytest.mark.parametrize(("answer", "trouble"), FAILURES, ids=lambda value: str(value)[:50])
@virtual
async def test_a_policy_that_cannot_be_had_is_none_and_says_why(answer: HttpsResult, trouble: TlsTrouble) -> None:
    world = World(web=Web(answer))
    found = await world.ask()
    assert isinstance(found, NoStsPolicy)
    assert found.trouble is trouble


@pytest.mark.parametrize(("answer", "trouble"), FAILURES, ids=lambda value: str(value)[:50])
@virtual
async def test_whoever_blocks_the_file_does_not_undo_a_policy(answer: HttpsResult, trouble: TlsTrouble) -> None:
    world = World()
    await world.ask()
    world.announce("2")
    world.web.answer = answer
    found = await world.ask()
    assert isinstance(found, KeptPolicy)
    assert found.id == "1"


@virtual
async def test_a_fetch_that_failed_is_tried_again_after_five_minutes_or_for_another_id() -> None:
    world = World(web=Web(file(status=500)))
    for _ in range(3):
        await world.ask()
    assert len(world.web.asked) == 1
    world.announce("2")
    await world.ask()
    assert len(world.web.asked) == 2
    await asyncio.sleep(301)
    await world.ask()
    assert len(world.web.asked) == 3


@virtual
async def test_a_policy_is_fetched_ahead_of_its_end_and_nobody_waits_for_it() -> None:
    world = World()
    await world.ask()
    await asyncio.sleep(86_400)
    world.web.answer = file("testing")
    found, seconds = await elapsed(world.mode())
    assert (found, seconds) == (Mode.ENFORCE, 0)
    await asyncio.sleep(2)
    assert await world.mode() is Mode.TESTING


@virtual
async def test_policies_nobody_asks_for_are_fetched_ahead_too_and_given_up_at_their_end() -> None:
    world = World()
    await world.ask()
    keeping = asyncio.create_task(world.keeper.keep())
    await asyncio.sleep(90_100)
    assert len(world.web.asked) == 2
    world.web.answer = file(status=500)
    await asyncio.sleep(700_000)
    assert isinstance(await world.ask(), NoStsPolicy)
    keeping.cancel()


@virtual
async def test_a_policy_of_no_mode_is_no_policy() -> None:
    world = World(web=Web(file("none")))
    found = await world.ask()
    assert found == NoStsPolicy('the policy of far.example has the mode "none"')


@virtual
async def test_a_clock_that_is_set_back_has_the_policy_fetched_again() -> None:
    world = World()
    await world.ask()
    world.clock.step(timedelta(days=-3000))
    assert await world.mode() is Mode.ENFORCE
    await asyncio.sleep(2)
    assert len(world.web.asked) == 2


# ---- across restarts
@virtual
async def test_a_policy_outlives_the_process(tmp_path: Path) -> None:
    shelf = DirectoryShelf(tmp_path / "mta-sts")
    await World(shelf).ask()
    after = World(shelf, web=Web(file(status=500)))
    after.hide(NoSuchName())
    await after.keeper.open()
    assert await after.mode() is Mode.ENFORCE
    assert after.web.asked == []


@virtual
async def test_what_is_damaged_on_disk_is_fetched_again(tmp_path: Path) -> None:
    directory = tmp_path / "mta-sts"
    await World(DirectoryShelf(directory)).ask()
    (directory / "far.example").write_bytes(b'{"domain": "far.example", "id": 7}')
    (directory / "other.example").write_bytes(b"\xff")
    (directory / "a directory").mkdir()
    after = World(DirectoryShelf(directory))
    await after.keeper.open()
    assert await after.mode() is Mode.ENFORCE
    assert after.web.asked == [URL]


@virtual
async def test_a_policy_that_has_ended_leaves_the_disk(tmp_path: Path) -> None:
    directory = tmp_path / "mta-sts"
    world = World(DirectoryShelf(directory), web=Web(file(max_age="100")))
    await world.ask()
    assert (directory / "far.example").exists()
    keeping = asyncio.create_task(world.keeper.keep())
    await asyncio.sleep(3700)
    await settled()
    assert not (directory / "far.example").exists()
    keeping.cancel()


@virtual
async def test_a_disk_that_takes_nothing_loses_no_policy_while_the_process_lives(tmp_path: Path) -> None:
    (tmp_path / "mta-sts").write_text("in the way")
    world = World(DirectoryShelf(tmp_path / "mta-sts"))
    assert await world.mode() is Mode.ENFORCE
    assert await world.mode() is Mode.ENFORCE
    assert len(world.web.asked) == 1


@virtual
async def test_closing_ends_a_fetch_under_way() -> None:
    world = World()
    asking = asyncio.create_task(world.ask())
    await settled()
    await world.keeper.close()
    with pytest.raises(asyncio.CancelledError):
        await asking


@virtual
async def test_a_policy_that_another_process_fetched_holds_here_even_where_its_record_is_hidden() -> None:
    one, two = World(), World()
    one.keeper.tell = two.keeper.heard
    assert await one.mode() is Mode.ENFORCE
    two.hide(NoSuchName())
    assert await two.mode() is Mode.ENFORCE
    assert two.web.asked == []


@virtual
async def test_of_two_fetched_policies_the_later_one_counts_and_none_whose_time_is_over() -> None:
    one, two = World(), World()
    told: list[KeptPolicy] = []
    one.keeper.tell = told.append
    await one.ask()
    await asyncio.sleep(10)
    two.web.answer = file("testing")
    await two.ask()
    two.keeper.heard(told[0])
    assert await two.mode() is Mode.TESTING
    late = World()
    await late.clock.sleep(timedelta(days=8))
    late.keeper.heard(told[0])
    late.hide(NoSuchName())
    assert await late.ask() == NoStsPolicy("far.example announces none")
