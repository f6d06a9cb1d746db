"""The Receiver on real sockets, on both loops: limits, drain, and a dialogue end to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.receive.house import HOSTNAME, MESSAGE, Log, Slow, make_house
from waypost.net.clock import SystemClock
from waypost.net.listener import ListenError
from waypost.net.shared import SharedNumbers
from waypost.net.stream import Endpoint
from waypost.queue.memory import MemoryStorage
from waypost.receive.house import House
from waypost.receive.places import SharedCrowd
from waypost.receive.server import Receiver
from waypost.receive.settings import Door, ReceiveSettings, client_key
from waypost.smtp.settings import ServerSettings

Run = Callable[[Coroutine[Any, Any, None]], None]
SOON = timedelta(seconds=5)
NARROW = partial(Door, Endpoint("127.0.0.2", 0), ServerSettings(HOSTNAME))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as it:
            it.run(main)

    return runner


class Client:
    """Speaks a line, hears a reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, endpoint: Endpoint) -> Client:
        return cls(*await asyncio.open_connection(endpoint.host, endpoint.port))

    async def hear(self) -> str:
        line = await self.reader.readline()
        while line[3:4] == b"-":
            line = await self.reader.readline()
        return line.decode().rstrip()

    async def say(self, *lines: str) -> str:
        reply = ""
        for line in lines:
            self.writer.write(line.encode() + b"\r\n")
            reply = await self.hear()
        return reply

    async def data(self) -> str:
        return await self.say("EHLO us.example", "MAIL FROM:<a@us.example>", "RCPT TO:<b@ours.example>", "DATA")


async def house_with(storage: MemoryStorage | None = None, settings: ReceiveSettings | None = None) -> House:
    house = make_house(storage, settings)
    await house.storage.open(owner="test")
    return house


async def open_receiver(house: House, *, doors: int = 1) -> Receiver:
    door = Door(Endpoint("127.0.0.1", 0), ServerSettings(HOSTNAME))
    receiver = Receiver([door] * doors, house)
    await receiver.start()
    return receiver


def ends(house: House) -> list[tuple[str, int]]:
    assert isinstance(house.log, Log)
    return house.log.ends


def test_a_message_comes_in_on_a_real_socket(run: Run) -> None:
    async def main() -> None:
        house = await house_with()
        receiver = await open_receiver(house)
        client = await Client.to(receiver.endpoints[0])
        assert await client.hear() == f"220 {HOSTNAME} ESMTP"
        assert (await client.data()).startswith("354")
        client.writer.write(MESSAGE)
        assert (await client.say(".")).startswith("250 2.0.0 Ok: queued as")
        assert (await client.say("QUIT")).startswith("221")
        assert await client.reader.read() == b""
        assert ends(house) == [("QUIT", 1)]
        assert receiver.sessions == 0
        client.writer.close()
        await receiver.stop(SOON)

    run(main())


def test_a_message_comes_in_over_lmtp_on_a_unix_socket(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        house = await house_with()
        path = str(tmp_path / "lmtp")
        receiver = Receiver([Door(Endpoint(path, 0), ServerSettings(HOSTNAME, lmtp=True))], house)
        await receiver.start()
        client = Client(*await asyncio.open_unix_connection(path))
        assert await client.hear() == f"220 {HOSTNAME} LMTP"
        await client.say("LHLO us.example", "MAIL FROM:<>", "RCPT TO:<a@ours.example>", "RCPT TO:<b@ours.example>")
        assert (await client.say("DATA")).startswith("354")
        client.writer.write(MESSAGE)
        assert (await client.say(".")).startswith("250 2.0.0 Ok")
        assert (await client.hear()).startswith("250 2.0.0 Ok")
        client.writer.close()
        await receiver.stop(SOON)

    run(main())


def test_a_connection_too_many_is_told_421_and_one_that_ends_makes_room(run: Run) -> None:
    async def main() -> None:
        house = await house_with(settings=ReceiveSettings(connections=2))
        receiver = await open_receiver(house)
        clients = [await Client.to(receiver.endpoints[0]) for _ in range(3)]
        greetings = sorted([await client.hear() for client in clients])
        assert [greeting[:3] for greeting in greetings] == ["220", "220", "421"]
        assert greetings[2] == "421 4.7.0 too many connections; try again later"
        for client in clients:
            client.writer.close()
        await _until(lambda: receiver.sessions == 0)
        again = await Client.to(receiver.endpoints[0])
        assert (await again.hear()).startswith("220")
        again.writer.close()
        await receiver.stop(SOON)

    run(main())


def test_one_client_cannot_take_all_connections(run: Run) -> None:
    async def main() -> None:
        house = await house_with(settings=ReceiveSettings(connections_per_client=1))
        receiver = await open_receiver(house)
        first, second = await Client.to(receiver.endpoints[0]), await Client.to(receiver.endpoints[0])
        assert sorted([(await first.hear())[:9], (await second.hear())[:9]]) == ["220 mx.ex", "421 4.7.0"]
        first.writer.close()
        second.writer.close()
        await receiver.stop(SOON)

    run(main())


@pytest.mark.parametrize(
    ("narrow", "reply"),
    [
        (NARROW(connections=1), "421 4.7.0 too many connections to this address; try again later"),
        (NARROW(connections_per_client=1), "421 4.7.0 too many connections from your address; try again later"),
    ],
)
def test_a_door_with_a_limit_of_its_own_leaves_room_at_the_others(run: Run, narrow: Door, reply: str) -> None:
    async def main() -> None:
        house = await house_with()
        receiver = Receiver([narrow, Door(Endpoint("127.0.0.1", 0), ServerSettings(HOSTNAME))], house)
        await receiver.start()
        clients = [await Client.to(receiver.endpoints[number]) for number in (0, 0, 1)]
        greetings = [await client.hear() for client in clients]
        assert sorted(greetings[:2]) == [f"220 {HOSTNAME} ESMTP", reply]
        assert greetings[2].startswith("220")
        for client in clients:
            client.writer.close()
        await _until(lambda: receiver.sessions == 0)
        again = await Client.to(receiver.endpoints[0])
        assert (await again.hear()).startswith("220")
        again.writer.close()
        await receiver.stop(SOON)

    run(main())


def test_a_door_says_how_many_messages_and_how_long_a_session_may_have(run: Run) -> None:
    async def main() -> None:
        house = await house_with()
        door = Door(Endpoint("127.0.0.1", 0), ServerSettings(HOSTNAME))
        short = replace(door, messages=1), replace(door, session=timedelta(milliseconds=20))
        receiver = Receiver(short, house)
        await receiver.start()
        one, brief = [await Client.to(endpoint) for endpoint in receiver.endpoints]
        await one.hear()
        await one.data()
        one.writer.write(MESSAGE)
        assert (await one.say(".")).startswith("250 2.0.0 Ok")
        assert (await one.say("MAIL FROM:<a@us.example>")).startswith("421")
        assert (await brief.hear()).startswith("220")
        assert (await brief.hear()).startswith("421")
        one.writer.close()
        brief.writer.close()
        await receiver.stop(SOON)

    run(main())


def test_stopping_says_421_to_the_idle_and_lets_a_transaction_end(run: Run) -> None:
    async def main() -> None:
        house = await house_with()
        receiver = await open_receiver(house)
        idle, busy = await Client.to(receiver.endpoints[0]), await Client.to(receiver.endpoints[0])
        await idle.hear()
        await busy.hear()
        await busy.data()
        stopping = asyncio.create_task(receiver.stop(SOON))
        assert (await idle.hear()).startswith("421 4.3.2")
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await Client.to(receiver.endpoints[0])
        busy.writer.write(MESSAGE)
        assert (await busy.say(".")).startswith("250 2.0.0 Ok")
        assert (await busy.hear()).startswith("421 4.3.2")
        await stopping
        assert receiver.sessions == 0
        idle.writer.close()
        busy.writer.close()

    run(main())


def test_a_client_that_will_not_end_is_cut_off_and_a_commit_is_not(run: Run) -> None:
    class Shortly(Slow):
        DELAY = 0.2

    async def main() -> None:
        house = await house_with(Shortly())
        receiver = await open_receiver(house)
        stalled, committing = await Client.to(receiver.endpoints[0]), await Client.to(receiver.endpoints[0])
        for client in (stalled, committing):
            await client.hear()
            await client.data()
            client.writer.write(MESSAGE)
        committing.writer.write(b".\r\n")
        await asyncio.sleep(0.05)
        await receiver.stop(timedelta(milliseconds=20))
        assert (await stalled.hear()).startswith("421 4.3.2")
        assert (await committing.hear()).startswith("250 2.0.0 Ok")
        assert receiver.sessions == 0
        stalled.writer.close()
        committing.writer.close()

    run(main())


def test_a_door_that_cannot_open_closes_those_that_could(run: Run) -> None:
    async def main() -> None:
        house = await house_with()
        first = await open_receiver(house)
        taken = first.endpoints[0]
        second = Receiver(
            [Door(Endpoint("127.0.0.1", 0), ServerSettings(HOSTNAME)), Door(taken, ServerSettings(HOSTNAME))], house
        )
        with pytest.raises(ListenError, match=f"cannot listen on {taken}"):
            await second.start()
        opened = second.endpoints[0]
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await Client.to(opened)
        await first.stop(SOON)

    run(main())


def test_a_garbage_client_harms_no_other(run: Run) -> None:
    async def main() -> None:
        house = await house_with()
        receiver = await open_receiver(house)
        good = await Client.to(receiver.endpoints[0])
        await good.hear()
        bad = await Client.to(receiver.endpoints[0])
        bad.writer.write(bytes(range(256)) * 2000)
        assert await bad.reader.read() != b""
        bad.writer.close()
        assert (await good.data()).startswith("354")
        good.writer.write(MESSAGE)
        assert (await good.say(".")).startswith("250 2.0.0 Ok")
        good.writer.close()
        await receiver.stop(SOON)

    run(main())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.005)


def test_an_ipv6_client_is_counted_by_its_64() -> None:
    assert client_key("2001:db8::1") == client_key("2001:db8::2") == "2001:db8::/64"
    assert client_key("2001:db8:0:1::1") != client_key("2001:db8::1")
    assert client_key("192.0.2.1") == "192.0.2.1"
    assert client_key("fe80::1%eth0") == "fe80::/64"
    assert client_key("") == ""


def test_the_system_clock_is_the_loop_s(run: Run) -> None:
    async def main() -> None:
        assert SystemClock().monotonic() == pytest.approx(asyncio.get_running_loop().time(), abs=1)

    run(main())


def test_the_connections_of_all_workers_count(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        SharedNumbers.create(tmp_path / "numbers", 2)
        house = await house_with(settings=ReceiveSettings(connections_per_client=2))
        door = Door(Endpoint("127.0.0.1", 0), ServerSettings(HOSTNAME))
        workers = [
            Receiver([door], house, crowd=partial(SharedCrowd, SharedNumbers.open(tmp_path / "numbers", row)))
            for row in (0, 1)
        ]
        for worker in workers:
            await worker.start()
        first = await Client.to(workers[0].endpoints[0])
        second = await Client.to(workers[1].endpoints[0])
        assert (await first.hear())[:3] == (await second.hear())[:3] == "220"
        third = await Client.to(workers[0].endpoints[0])
        assert (await third.hear()).startswith("421 4.7.0 too many connections from your address")
        await second.say("QUIT")
        assert await second.reader.read() == b""
        second.writer.close()
        await workers[1].stop(SOON)
        fourth = await Client.to(workers[0].endpoints[0])
        assert (await fourth.hear())[:3] == "220"
        for client in (first, second, third, fourth):
            client.writer.close()
        for worker in workers:
            await worker.stop(SOON)

    run(main())
