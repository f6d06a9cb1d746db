"""From one process to the next: the sockets go over, and the other hears of the end."""

import asyncio
import socket
from pathlib import Path

import pytest

from waypost.life.handover import Offer, take_over
from waypost.net.listener import bind
from waypost.net.stream import Endpoint


async def test_the_sockets_go_over_and_connections_made_meanwhile_wait(tmp_path: Path) -> None:
    with bind(Endpoint("127.0.0.1", 0)) as listening:
        offer = Offer.open(tmp_path)
        taking = asyncio.create_task(asyncio.to_thread(take_over, tmp_path))
        asked = asyncio.Event()
        asyncio.get_running_loop().add_reader(offer.fileno(), asked.set)
        await asyncio.wait_for(asked.wait(), 30)
        asyncio.get_running_loop().remove_reader(offer.fileno())
        assert offer.give([listening])
        address = listening.getsockname()
        listening.close()
        with socket.create_connection(address) as client:
            assert not taking.done()
            for taker in offer._taken:  # as the end of the process does
                taker.close()
            (taken,) = await asyncio.wait_for(taking, 30)
            taken.setblocking(True)
            with taken, taken.accept()[0] as accepted:
                assert accepted.getpeername() == client.getsockname()
        offer.close()


def test_nobody_to_replace_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="start without --replace"):
        take_over(tmp_path)


def test_an_offer_that_nobody_took_leaves_nothing_behind(tmp_path: Path) -> None:
    offer = Offer.open(tmp_path)
    assert (tmp_path / "handover").stat().st_mode & 0o777 == 0o600
    assert not offer.give([])
    offer.close()
    assert not (tmp_path / "handover").exists()
