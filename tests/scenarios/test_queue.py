"""What is accepted is neither lost nor sent again: through crashes, broken spools, and waits without end."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.deliver.peer import Peer, Wrong
from tests.net.dns_server import Misbehaviour
from tests.receive.house import FULL
from tests.scenarios.page import scenario
from tests.scenarios.whole import (
    AUTHOR,
    BY_MX,
    DAY,
    HOUR,
    LETTER,
    MINUTE,
    SCHEDULE,
    SMART_HOST,
    Whole,
    accepted_by,
    bodies,
    to_host,
    whole,
)
from tests.virtual import elapsed, virtual
from waypost.admin.answers import ActBody
from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, Octets, Origin, Recipient
from waypost.net.clock import Instant, SystemClock
from waypost.net.stream import Fault, FaultKind
from waypost.queue.ids import MessageIds
from waypost.queue.memory import MemoryStorage
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Draft, Lease, Settlement, StorageError, Stored, StoreFault
from waypost.smtp.path import parse_mailbox

ONE, TWO = "192.0.2.1", "192.0.2.2"
ONE_DAY = SCHEDULE + 'expire = "1d"\n'
SOON = '[retry]\nschedule = ["50ms"]\njitter = 0.0\n'


def on_disk(directory: Path, *peers: Peer | Fault, schedule: str = SOON) -> AbstractAsyncContextManager[Whole]:
    """The service on a real spool and by the real clock; the smart host is the first of `peers`."""
    hosts = {f"192.0.2.{number}": peer for number, peer in enumerate(peers, 1)}
    return whole(
        SMART_HOST,
        hosts,
        schedule=schedule,
        storage=lambda config: SqliteStorage(config.spool),
        clock=SystemClock,
        base=directory,
    )


async def until_empty(service: Whole) -> None:
    async with asyncio.timeout(20):
        while await service.queue():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


async def until_told(service: Whole, name: MessageId, text: str) -> None:
    """Until the history of a message says so."""
    async with asyncio.timeout(20):
        while not any(text in str(event) for event in await service.history(name)):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


def killed(directory: Path, number: int) -> Path:
    """A copy of the spool as a crash at this moment would leave it, in a directory of its own."""
    copy = directory.with_name(f"{directory.name}-{number}")
    shutil.copytree(directory / "spool", copy / "spool", ignore=shutil.ignore_patterns("*-shm", "lock"))
    return copy


@scenario(27)
async def test_after_a_crash_what_was_delivered_stays_delivered_and_what_was_not_comes_once(tmp_path: Path) -> None:
    """The queue's index was corrupt after a crash; it was built anew, and mail was delivered twice."""
    peer = Peer()
    async with on_disk(tmp_path / "run", peer) as service:
        await service.take("a@far.example")
        await until_empty(service)
        peer.always = {"MAIL": "451 4.3.0 later"}
        await service.take("b@far.example")
        crashes = [killed(tmp_path / "run", number) for number in range(3)]
    for crash in crashes:
        after = Peer()
        for _ in range(2):  # what the first run after the crash did, the second does not do again
            async with on_disk(crash, after) as service:
                await until_empty(service)
        assert accepted_by(after) == ["b@far.example"]


@scenario(27)
async def test_a_crash_between_the_peer_s_answer_and_our_record_of_it_costs_one_copy_and_no_more(
    tmp_path: Path,
) -> None:
    """The queue's index was corrupt after a crash; it was built anew, and mail was delivered twice."""
    hangs = Peer(always={"dot": Wrong.STALL})
    async with on_disk(tmp_path / "run", hangs) as service:
        await service.take("a@far.example")
        while not hangs.connections or "DATA" not in hangs.verbs[-1]:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        crash = killed(tmp_path / "run", 1)
        service.break_lines()
    after = Peer()
    for _ in range(2):
        async with on_disk(crash, after) as service:
            for entry in await service.queue():
                await until_told(service, entry.id, "the service was killed before it had written down")
                assert accepted_by(after) == []  # the host may have it: nothing is sent before somebody could look
                await service.running.operations.act("retry", ActBody(ids=(entry.id,), by="a test"))
            await until_empty(service)
    assert accepted_by(after) == ["a@far.example"]


class FullAtSettling(MemoryStorage):
    """A queue that cannot write down what attempts came to, while `fails`."""

    fails = True

    async def settle(self, settlement: Settlement) -> bool:
        if self.fails:
            raise StorageError(FULL)
        return await super().settle(settlement)


@scenario(28)
@virtual
async def test_what_was_delivered_but_could_not_be_written_down_is_not_sent_again() -> None:
    """A delivered message could not be removed, and was delivered again and again."""
    storage, peer = FullAtSettling(), Peer()
    async with whole(SMART_HOST, {ONE: peer}, storage=lambda _: storage) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(2 * HOUR)
        storage.fails = False
        await asyncio.sleep(2 * HOUR)
        assert bodies(peer) == [LETTER]
        assert await service.queue() == []


@scenario(28)
async def test_nothing_delivered_shows_in_the_queue_after_a_restart(tmp_path: Path) -> None:
    """A delivered message could not be removed, and was delivered again and again."""
    peer = Peer()
    async with on_disk(tmp_path, peer) as service:
        for number in range(20):
            await service.take(f"user{number}@far.example")
        await until_empty(service)
    async with on_disk(tmp_path, peer) as service:
        assert await service.queue() == []
        assert (await service.storage.counts()).messages == 0
    assert len(set(accepted_by(peer))) == len(peer.accepted) == 20


@dataclass(frozen=True)
class Unreadable:
    """Octets that the spool cannot give, or that a bug of ours cannot handle."""

    size: int
    error: Exception

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"Subject: half\r\n"
        raise self.error


class Unwell(MemoryStorage):
    """A queue whose messages with `word` in them cannot be read while it is unwell."""

    def __init__(self, error: Exception, word: bytes = b"") -> None:
        super().__init__()
        self.is_unwell = True
        self.error = error
        self.word = word

    def _seen(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        return tuple(replace(lease, octets=self._octets(lease.octets)) for lease in leases)

    def _octets(self, octets: Octets) -> Octets:
        is_meant = isinstance(octets, InMemory) and self.word in octets.octets
        return Unreadable(octets.size, self.error) if self.is_unwell and is_meant else octets

    async def accept(
        self,
        envelope: Envelope,
        octets: InMemory | Draft,
        *,
        id: MessageId,  # noqa: A002 - the interface's name for it
        now: Instant,
        claim_until: Instant,
    ) -> Stored | StoreFault:
        stored = await super().accept(envelope, octets, id=id, now=now, claim_until=claim_until)
        return replace(stored, leases=self._seen(stored.leases)) if isinstance(stored, Stored) else stored

    async def claim(self, next_hop: NextHop, *, now: Instant, until: Instant, messages: int) -> Sequence[Lease]:
        return self._seen(await super().claim(next_hop, now=now, until=until, messages=messages))


@scenario(29)
@virtual
async def test_a_message_that_cannot_be_read_stays_in_the_queue_with_its_reason_and_nothing_half_is_sent() -> None:
    """A message that could not be opened or converted was removed without a word."""
    storage, peer = Unwell(StorageError(StoreFault(FULL.kind, "bad sector"))), Peer()
    async with whole(SMART_HOST, {ONE: peer}, storage=lambda _: storage) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(HOUR)
        (entry,) = await service.queue()
        assert "bad sector" in entry.last_outcome
        assert (peer.accepted, await service.inbox()) == ([], [])
        storage.is_unwell = False
        await asyncio.sleep(2 * HOUR)
        assert bodies(peer) == [LETTER]


@scenario(30)
@pytest.mark.parametrize(
    "host",
    [
        Fault(FaultKind.REFUSED),
        Peer(always={"banner": Wrong.STALL}),
        Peer(always={"AUTH": "535 5.7.8 no"}, extensions=("STARTTLS", "AUTH PLAIN")),
        Peer(always={"RCPT": "450 4.2.1 later"}),
        Peer(always={"dot": Wrong.FIN}),
    ],
    ids=["refuses", "stalls", "refuses our password", "defers", "leaves us in doubt"],
)
@virtual
async def test_whatever_mail_waits_for_its_author_hears_of_it_when_its_time_is_up(
    host: Peer | Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail that waited for its next hop to call never expired."""
    monkeypatch.setenv("SECRET", "sesame")
    route = to_host("far.example", ONE, 'username = "us"', 'password_env = "SECRET"', 'tls = "required"')
    plain = isinstance(host, Fault) or "AUTH" not in host.always
    async with whole(to_host("far.example", ONE) if plain else route, {ONE: host}, schedule=ONE_DAY) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(DAY + 2 * HOUR)
        assert await service.queue() == []
        reports = await service.inbox()
        assert b"Action: failed" in reports[-1]
        assert b"Status: 5.4.7" in reports[-1]


@scenario(30)
@virtual
async def test_mail_for_a_domain_that_dns_is_silent_on_expires_too() -> None:
    """Mail that waited for its next hop to call never expired."""
    async with whole(BY_MX, schedule=ONE_DAY) as service:
        service.dns.misbehave["*"] = Misbehaviour.SERVFAIL
        await service.take("bob@far.example")
        await asyncio.sleep(DAY + 2 * HOUR)
        assert await service.queue() == []
        assert b"Status: 5.4.7" in (await service.inbox())[-1]


@scenario(31)
async def test_while_the_spool_directory_is_gone_mail_is_refused_for_now_and_the_service_still_stops(
    tmp_path: Path,
) -> None:
    """The spool directory was renamed under the running service: mail was lost, and it could not be stopped."""
    peer = Peer(always={"MAIL": "451 4.3.0 later"})
    async with on_disk(tmp_path, peer, schedule='[retry]\nschedule = ["1d"]\n') as service:
        await service.take("kept@far.example")
        (tmp_path / "spool").rename(tmp_path / "elsewhere")
        client = await service.client()
        reply = await client.letter("late@far.example")
        assert reply.startswith("451 4.3.0"), reply
        (tmp_path / "elsewhere").rename(tmp_path / "spool")
        reply = await client.letter("back@far.example")
        assert reply.startswith("250 2.0.0"), reply
    after = Peer()
    async with on_disk(tmp_path, after) as service:
        assert {entry.forward_path for entry in await service.queue()} == {"kept@far.example", "back@far.example"}


@scenario(31)
async def test_a_spool_directory_that_was_deleted_makes_no_message_vanish_behind_a_250(tmp_path: Path) -> None:
    """The spool directory was renamed under the running service: mail was lost, and it could not be stopped."""
    async with on_disk(tmp_path, Peer(always={"MAIL": "451 4.3.0 later"})) as service:
        await service.take("kept@far.example")
        shutil.rmtree(tmp_path / "spool")
        client = await service.client()
        assert (await client.letter("late@far.example")).startswith("451 4.3.0")


class Narrow(MemoryStorage):
    """A queue on a disk with so much room."""

    free = 2**40

    async def room(self) -> int:
        return self.free


@virtual
async def test_while_room_is_short_no_mail_is_taken_and_what_waits_is_delivered() -> None:
    storage, peer = Narrow(), Peer(always={"MAIL": "451 4.3.0 later"})
    limits = '[limits]\nfree_space = "1G"\n'
    async with whole(SMART_HOST + limits, {ONE: peer}, storage=lambda _: storage) as service:
        await service.take("bob@far.example")
        storage.free = 2**30 - 1
        await asyncio.sleep(HOUR)
        assert (await (await service.client()).say(f"MAIL FROM:<{AUTHOR}>")).startswith("452 4.3.1")
        peer.always = {}
        await asyncio.sleep(HOUR)
        assert accepted_by(peer) == ["bob@far.example"]
        storage.free = 2**30
        await asyncio.sleep(HOUR)
        assert (await (await service.client()).letter("carol@far.example")).startswith("250 2.0.0")


class FullFor(MemoryStorage):
    """A queue with no space left, while `is_full`."""

    is_full = True

    async def accept(
        self,
        envelope: Envelope,
        octets: InMemory | Draft,
        *,
        id: MessageId,  # noqa: A002 - the interface's name for it
        now: Instant,
        claim_until: Instant,
    ) -> Stored | StoreFault:
        if self.is_full:
            return FULL
        return await super().accept(envelope, octets, id=id, now=now, claim_until=claim_until)


@scenario(32)
@virtual
async def test_a_full_disk_refuses_mail_for_now_and_is_over_as_soon_as_there_is_space() -> None:
    """One enormous file ran into the low-disk mark, and the service would not start again."""
    storage = FullFor()
    async with whole(storage=lambda _: storage) as service:
        client = await service.client()
        assert (await client.letter("bob@home.example")).startswith("452 4.3.1")
        storage.is_full = False
        assert (await client.letter("bob@home.example")).startswith("250 2.0.0")


@scenario(32)
@virtual
async def test_a_message_beyond_the_limit_is_refused_at_mail_or_read_past_and_none_of_it_kept() -> None:
    """One enormous file ran into the low-disk mark, and the service would not start again."""
    limits = '[limits]\nmessage_size = "64K"\n'
    async with whole(SMART_HOST + limits) as service:
        client = await service.client()
        assert (await client.say(f"MAIL FROM:<{AUTHOR}> SIZE=70000")).startswith("552 5.3.4")
        await client.say(f"MAIL FROM:<{AUTHOR}> SIZE=10", "RCPT TO:<bob@home.example>", "DATA")
        for _ in range(2000):
            client.stream.write(b"x" * 998 + b"\r\n")
            await asyncio.sleep(0)
        assert (await client.send(b".\r\n")).startswith("552 5.3.4")
        assert await service.inbox() == []
        assert (await client.letter("bob@home.example")).startswith("250 2.0.0")


@scenario(33)
@virtual
async def test_domains_whose_names_come_slowly_hold_up_nobody_else() -> None:
    """Many domains with bad DNS blocked the look-ups of all others, and the start took very long."""
    peer = Peer()
    zone = "far.example. 300 MX 10 mx1.far.example.\nmx1.far.example. 300 A 192.0.2.1"
    async with whole(BY_MX, {ONE: peer}, zone=zone) as service:
        for number in range(100):
            service.dns.misbehave[f"slow{number}.example"] = Misbehaviour.SILENCE
            await service.take(f"bob@slow{number}.example")
        _, seconds = await elapsed(service.take("bob@far.example"))
        await asyncio.sleep(0.1)
        assert seconds < 0.1
        assert bodies(peer) == [LETTER]
        assert len(await service.queue()) == 100


@scenario(33)
async def test_a_start_with_ten_thousand_recipients_in_the_queue_takes_a_moment(tmp_path: Path) -> None:
    """Many domains with bad DNS blocked the look-ups of all others, and the start took very long."""
    storage = SqliteStorage(tmp_path / "spool")
    await storage.open(owner="before")
    clock = SystemClock()
    ids = MessageIds(clock, random.Random(1))  # noqa: S311 - not for secrets
    for _ in range(10):
        recipients = tuple(
            Recipient(parse_mailbox(f"user@d{number}.example"), NextHop("smtp://192.0.2.1:25"))
            for number in range(1000)
        )
        envelope = Envelope(parse_mailbox(AUTHOR), recipients, Origin("SMTP"))
        await storage.accept(envelope, InMemory(LETTER), id=ids.make(), now=clock.now(), claim_until=clock.now())
    await storage.close()
    async with asyncio.timeout(60), on_disk(tmp_path, Fault(FaultKind.REFUSED), schedule="") as service:
        assert (await service.storage.counts()).recipients == 10_000
        client = await service.client()
        assert (await client.letter("bob@home.example")).startswith("250 2.0.0")


DOT = b"\r\n.\r\n"


@scenario(34)
@pytest.mark.parametrize("cut", range(len(DOT) + 1))
@virtual
async def test_the_final_dot_is_seen_wherever_the_packets_cut_it(cut: int) -> None:
    """A firewall dropped a final dot that was split over packets: no reply came, and the mail came again for hours."""
    async with whole() as service:
        client = await service.client()
        await client.say(f"MAIL FROM:<{AUTHOR}>", "RCPT TO:<bob@home.example>", "DATA")
        client.stream.write(LETTER[:-2] + DOT[:cut])
        await asyncio.sleep(1)
        client.stream.write(DOT[cut:])
        assert (await client.hear()).startswith("250 2.0.0")
        await asyncio.sleep(1)
        assert len(await service.inbox()) == 1


@scenario(34)
@pytest.mark.parametrize("cut", range(1, len(DOT)))
@virtual
async def test_a_final_dot_that_never_comes_whole_is_no_message_and_the_client_is_told_in_three_minutes(
    cut: int,
) -> None:
    """A firewall dropped a final dot that was split over packets: no reply came, and the mail came again for hours."""
    async with whole() as service:
        client = await service.client()
        await client.say(f"MAIL FROM:<{AUTHOR}>", "RCPT TO:<bob@home.example>", "DATA")
        client.stream.write(LETTER[:-2] + DOT[:cut])
        reply, seconds = await elapsed(client.hear())
        assert reply.startswith("421 4.4.2")
        assert seconds <= 3 * MINUTE + 1
        assert await service.inbox() == []


@scenario(40)
@virtual
async def test_a_message_that_our_own_code_fails_on_is_set_aside_after_three_tries_and_all_others_pass() -> None:
    """One malformed message stopped the service, and stopped it again at each start."""
    storage, peer = Unwell(ZeroDivisionError("a bug"), b"poison"), Peer()
    async with whole(SMART_HOST, {ONE: peer}, storage=lambda _: storage) as service:
        name = await service.take("bob@far.example", octets=LETTER + b"poison\r\n")
        await asyncio.sleep(HOUR)
        (entry,) = await service.queue()
        assert entry.state.value == "held"
        assert "ZeroDivisionError" in entry.reason
        assert await service.attempts(name) == 3
        await service.take("carol@far.example")
        await asyncio.sleep(1)
        assert accepted_by(peer) == ["carol@far.example"]


ODDITIES = [
    b"no header at all",
    b"Subject: %s%s%n%n %(name)s {0} {x!r}\r\n\r\n%s\r\n",
    b"Content-Type: text/plain; charset=\r\n\r\nx\r\n",
    b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n--\r\n----\r\n',
    b"From: \xff\xfe\x80\r\nTo: =?utf-8?b?////?=\r\n\r\n\xc3\x28\r\n",
    b": \r\n:\r\n\t\r\nSubject\r\n\r\n",
    b"Message-ID: <" + b"x" * 60_000 + b">\r\n\r\n",
    b"".join(b"X-%d: y\r\n" % number for number in range(20_000)) + b"\r\n",
    b"Content-Type: " + b"multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: " * 500 + b"x\r\n",
    b"Date: Thu, 99 Foo 99999 99:99:99 +9999\r\n\r\n\x1b]0;title\x07\r\n",
    b"",
]


@scenario(40)
@pytest.mark.parametrize("octets", ODDITIES, ids=range(len(ODDITIES)))
@virtual
async def test_a_message_however_odd_passes_octet_by_octet_and_its_report_can_be_made(octets: bytes) -> None:
    """One malformed message stopped the service, and stopped it again at each start."""
    peer = Peer(recipients={"gone@far.example": "550 5.1.1 %s%n no such user \x1b[31m"})
    whole_lines = octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await service.take("bob@far.example", "gone@far.example", octets=whole_lines)
        await asyncio.sleep(1)
        assert bodies(peer) == [whole_lines]
        assert len(await service.inbox()) == 1
        assert await service.queue() == []
