"""Each cell of what DNS says, through the whole service; and of what this machine refuses, through an attempt."""

from __future__ import annotations

import asyncio
import errno

import pytest

from tests.deliver.peer import Peer, World
from tests.matrix.names import MACHINE, NAMES, ONE, TWO, Fate, MachineCell, NameCell
from tests.scenarios.whole import BY_MX, MINUTE, accepted_by, whole
from tests.virtual import virtual
from waypost.deliver.smtp import Reached, Unreachable
from waypost.mail.outcome import Deferred, Delivered
from waypost.net.stream import fault_of


@pytest.mark.parametrize("cell", NAMES, ids=lambda cell: cell.name)
@virtual
async def test_what_dns_says_comes_to_what_the_table_says(cell: NameCell) -> None:
    first, second = Peer(), Peer()
    async with whole(BY_MX, {ONE: first, TWO: second}, zone=cell.zone) as service:
        service.dns.misbehave.update(cell.misbehave)
        name = await service.take("bob@far.example")
        await asyncio.sleep(MINUTE / 2)
        history = " ".join(str(event) for event in await service.history(name))
        taken = ["bob@far.example"]
        assert accepted_by(first) == (taken if cell.fate is Fate.HERE else []), history
        assert accepted_by(second) == (taken if cell.fate is Fate.SECOND else []), history
        assert len(await service.queue()) == (cell.fate is Fate.LATER), history
        reports = await service.inbox()
        assert len(reports) == (cell.fate is Fate.RETURNED), history
        for report in reports:
            assert f"Status: {cell.status}\r\n".encode() in report
        assert cell.status in history
        await service.take("carol@home.example")  # all else goes on
        await asyncio.sleep(1)
        assert len(await service.inbox()) == len(reports) + 1


@pytest.mark.parametrize("cell", MACHINE, ids=lambda cell: cell.number)
@virtual
async def test_what_the_machine_refuses_comes_to_what_the_table_says(cell: MachineCell) -> None:
    fault = fault_of(OSError(getattr(errno, cell.number), cell.name))
    world = World(fault, fault)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Deferred)
    assert isinstance(world.reach, Unreachable if cell.blames_host else Reached)
    assert len(world.dialer.dialled) == 2
    await world.close()
    world = World(fault, Peer())
    assert isinstance((await world.attempt())[0], Delivered)
    await world.close()
