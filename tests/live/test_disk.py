"""The disk fails while mail flows: clients are told to try again, the service goes on, and nothing promised is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from tests.live.faulty_disk import Call, DiskFault, calls_in, disk_fault
from tests.live.mail import to_port
from tests.live.process import until
from tests.live.service import Service, prepare, running
from tests.live.sink import Sink, Taken, sink
from tests.live.source import Source, identity
from waypost.queue.pages import read_log

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

NO_SPACE, NOT_STORED = "452 4.3.1", "451 4.3.0"
FAULTS = {
    NOT_STORED: [
        *(DiskFault("fdatasync", "error=EIO", when) for when in ("1", "4", "1+")),
        *(DiskFault("pwrite64", error, when) for error in ("error=EIO", "error=EROFS") for when in ("1", "7", "1+")),
        DiskFault("pread64", "error=EIO", "2"),
    ],
    NO_SPACE: [DiskFault("pwrite64", "error=ENOSPC", when) for when in ("1", "7", "1+")],
}
SLOW = DiskFault("fdatasync", "delay_enter=700000")
#: How long a fault lasts, and how soon after it new mail has to be taken again.
LASTING, MENDED = 1.2, 10.0


@pytest.mark.parametrize("reply", FAULTS)
async def test_a_disk_that_fails_costs_a_4yz_and_nothing_else(
    reply: str, place: Path, say: Callable[[str], None]
) -> None:
    async with sink(keep=identity) as far_end:
        service = prepare(place, to_port(far_end.port))
        async with running(service):
            source = Source(service.port, sessions=4)
            sending = asyncio.create_task(source.run())
            pid = service.pid
            for fault in FAULTS[reply]:
                refused = await survives(service, fault, source, far_end)
                assert {text[:9] for text in refused} <= {reply}, fault
                assert refused or fault.when != "1+", fault
            source.enough()
            ledger = await sending
            await far_end.until(lambda: set(ledger.promised) <= arrived(far_end.taken), "every promised message")
            await until(lambda: is_empty(service), "an empty queue", log=service.log)
            assert service.pid == pid
            await service.kill()
            assert not read_log(place / "spool" / "queue.db-wal").is_damaged, "failed commits look like damage"
            await service.start()

        assert doubled(far_end.taken) == set()
        assert ledger.lost_connections == 0
        assert arrived(far_end.taken) <= set(ledger.promised) | set(ledger.refused) | ledger.in_doubt
        say(
            f"{len(FAULTS[reply])} faults: {len(ledger.promised)} promised and arrived, {len(ledger.refused)} refused "
            f"with {reply}, of which {len(arrived(far_end.taken) & set(ledger.refused))} arrived all the same"
        )


async def survives(service: Service, fault: DiskFault, source: Source, far_end: Sink) -> Sequence[str]:
    """Let mail flow through the fault and out of it; the refusals that it cost."""
    refused = len(source.ledger.refused)
    async with disk_fault(service, fault) as trace:

        async def was_met() -> bool:
            return any(call.was_injected for call in calls_in(trace))

        await asyncio.sleep(LASTING)
        await until(was_met, f"{fault}: the service makes that call", log=service.log)
    calls = calls_in(trace)
    assert synced_blindly(calls) == [], fault
    before = set(source.ledger.promised)
    await until(lambda: has_grown(source, before), f"new mail is taken after {fault}", within=MENDED, log=service.log)
    await far_end.until(lambda: before <= arrived(far_end.taken), f"every message promised before the end of {fault}")
    return list(source.ledger.refused.values())[refused:]


async def has_grown(source: Source, before: set[int]) -> bool:
    return len(source.ledger.promised) > len(before)


async def is_empty(service: Service) -> bool:
    return await service.queue() == []


def synced_blindly(calls: Iterable[Call]) -> list[Call]:
    """The fdatasyncs of a file that come after a failed one, with nothing written and nothing reopened between.

    After a failed fsync the kernel may have dropped the pages and marked them clean: that a second one succeeds proves
    nothing.
    """
    failed: set[str] = set()
    blind = []
    for call in calls:
        if call.name in {"pwrite64", "close"}:
            failed.discard(call.file)
        if call.name != "fdatasync":
            continue
        if call.file in failed:
            blind.append(call)
        if call.result.startswith("-1"):
            failed.add(call.file)
    return blind


async def test_a_slow_disk_makes_mail_wait_and_refuses_none(place: Path) -> None:
    async with sink(keep=identity) as far_end:
        service = prepare(place, to_port(far_end.port))
        async with running(service):
            source = Source(service.port, sessions=8)
            sending = asyncio.create_task(source.run())
            async with disk_fault(service, SLOW) as trace:
                await asyncio.sleep(4)
                in_time = len(source.ledger.promised)
            source.enough()
            ledger = await sending
            await far_end.until(lambda: set(ledger.promised) <= arrived(far_end.taken), "every promised message")
        syncs = [call for call in calls_in(trace) if call.name == "fdatasync"]
        assert in_time > len(syncs), "messages that wait together share one fsync"
        assert ledger.refused == {}
        assert doubled(far_end.taken) == set()


def arrived(taken: Iterable[Taken]) -> set[int]:
    return {int(message.octets) for message in taken}


def doubled(taken: Sequence[Taken]) -> set[int]:
    numbers = [int(message.octets) for message in taken]
    return {number for number in numbers if numbers.count(number) > 1} if len(set(numbers)) < len(numbers) else set()
