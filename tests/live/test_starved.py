"""The machine runs out: of disk, of descriptors, of memory; and a spool that was damaged. The service goes on."""
# ruff: noqa: ASYNC240, S603 - files of /proc and programs named here are what the test works with

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.mail import HEADER, route, to_port
from tests.live.process import free_port, must_run, until
from tests.live.service import Service, prepare, running, status_of
from tests.live.sink import sink
from tests.live.source import IDENTITY, Source, identity

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


# ---- disk
@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 128 MiB; it need not be durable to be full."""
    path = place / "disk"
    path.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=128m", "waypost-test", str(path)], check=True)
    yield path
    subprocess.run(["/bin/umount", "--lazy", str(path)], check=True)


async def test_on_a_disk_that_runs_low_mail_is_refused_at_mail_and_taken_again_when_there_is_room(
    place: Path, small_disk: Path, say: Callable[[str], None]
) -> None:
    port = free_port()
    service = prepare(place, to_port(port) + '\n[limits]\nfree_space = "64M"\n')
    text = service.config.read_text().replace(str(place / "spool"), str(small_disk / "spool"))
    service.config.write_text(text.replace("postmaster =", "allow_ephemeral = true\npostmaster ="))
    async with running(service):
        stored = await asyncio.to_thread(send_until_refused, service)
        assert "new mail is refused" in (await service.cli("status")).output
        with (small_disk / "junk").open("wb") as junk, contextlib.suppress(OSError):
            while True:
                junk.write(bytes(2**20))
        async with sink(keep=identity, port=port) as far_end:
            await service.cli("queue", "retry", "--all")
            await asyncio.sleep(3)  # what is delivered now cannot always be written down
            (small_disk / "junk").unlink()
            await until(lambda: drained(service), "an empty queue", log=service.log)
            assert sorted(int(message.octets) for message in far_end.taken) == list(range(stored))
            await until(lambda: takes_mail(service), "new mail is taken again", log=service.log)
            assert status_of(f"http://127.0.0.1:{service.admin_port}/readyz") == 200
    say(f"{stored} messages of 1 MiB until the disk was low; all delivered once, begun on a disk without an octet free")


def send_until_refused(service: Service) -> int:
    """How many messages were taken before MAIL was answered 452."""
    body = b"0123456789" * 7 + b"\r\n"
    for number in range(200):
        with smtplib.SMTP("127.0.0.1", service.port, timeout=60) as client:
            client.ehlo()
            code, text = client.mail("alice@origin.test")
            if code == 452:
                assert text.startswith(b"4.3.1")
                return number
            client.rcpt("bob@example.test")
            mark = IDENTITY + b"%d\r\n" % number
            code, text = client.data(mark + HEADER + body * (2**20 // len(body)))
            assert code == 250, text
        asyncio.run(asyncio.sleep(0.05))
    raise AssertionError("200 MiB went onto a disk of 128")


def reply_to_mail(service: Service) -> int:
    with smtplib.SMTP("127.0.0.1", service.port, timeout=60) as client:
        client.ehlo()
        return client.mail("alice@origin.test")[0]


async def takes_mail(service: Service) -> bool:
    return await asyncio.to_thread(reply_to_mail, service) == 250


async def drained(service: Service) -> bool:
    return await service.queue() == []


# ---- descriptors
async def test_without_descriptors_clients_are_let_go_and_mail_waits(place: Path) -> None:
    async with sink(keep=identity) as far_end:
        service = prepare(place, to_port(far_end.port))
        async with running(service):
            await Source(service.port, count=20, sessions=2).run()
            few = len(list(Path(f"/proc/{service.pid}/fd").iterdir())) + 3
            await must_run("prlimit", f"--nofile={few}:", f"--pid={service.pid}")
            crowd = await asyncio.gather(*(connected(service.port) for _ in range(40)), return_exceptions=True)
            assert service.running[-1].returncode is None
            for one in crowd:
                if isinstance(one, asyncio.StreamWriter):
                    one.close()
            source = Source(service.port, count=60, sessions=10)
            sending = asyncio.create_task(source.run())
            await asyncio.sleep(2)
            await must_run("prlimit", "--nofile=4096:", f"--pid={service.pid}")
            ledger = await asyncio.wait_for(sending, 60)
            await service.cli("queue", "retry", "--all")
            await until(lambda: drained(service), "an empty queue", log=service.log)
        counts = [[int(message.octets) for message in far_end.taken].count(number) for number in ledger.promised]
        assert min(counts) >= 1
        assert "bounced" not in service.log.read_text()


async def connected(port: int) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    return writer


# ---- memory
@pytest.mark.parametrize("mebioctets", [1, 24])
async def test_without_memory_a_big_message_costs_a_4yz_and_not_the_service(
    mebioctets: int, place: Path, say: Callable[[str], None]
) -> None:
    async with sink() as far_end:
        service = prepare(place, to_port(far_end.port))
        async with running(service):
            await Source(service.port, count=20, sessions=2).run()
            have = int(re.findall(r"VmSize:\s+(\d+) kB", Path(f"/proc/{service.pid}/status").read_text())[0]) * 1024
            await must_run("prlimit", f"--as={have + mebioctets * 2**20}:", f"--pid={service.pid}")
            codes = await asyncio.gather(*(asyncio.to_thread(send_big, service.port, number) for number in range(6)))
            assert service.running[-1].returncode is None
            await must_run("prlimit", "--as=unlimited:", f"--pid={service.pid}")
            assert await asyncio.to_thread(send_big, service.port, 99) == 250
            await service.cli("queue", "retry", "--all")
            await until(lambda: drained(service), "an empty queue", log=service.log)
        big = [message.octets for message in far_end.taken if len(message.octets) > 2**20]
        assert len(big) >= codes.count(250) + 1
        assert set(codes) <= {250, 421, 451, 452, 0}
        say(f"six messages of 8 MiB with {mebioctets} MiB of memory to be had: {codes}")


def send_big(port: int, number: int) -> int:
    """The reply to a message of 8 MiB; 0 where the connection was lost."""
    line = b"0123456789" * 7 + b"\r\n"
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            client.sendmail("alice@origin.test", ["bob@example.test"], HEADER + line * (2**23 // len(line)))
    except smtplib.SMTPResponseException as refused:
        return refused.smtp_code
    except smtplib.SMTPRecipientsRefused as refused:
        return max(code for code, _ in refused.recipients.values())
    except (OSError, smtplib.SMTPException):
        return 0
    return 250


# ---- damage
async def test_a_damaged_spool_is_set_aside_salvaged_and_told_of(place: Path, say: Callable[[str], None]) -> None:
    port = free_port()
    service = prepare(place, to_port(port))
    async with running(service):
        ledger = await Source(service.port, count=200, sessions=8, size=9000).run()
        await service.kill()
        spoil(place / "spool", random.Random(7))  # noqa: S311 - a test that can be run again
        await service.start()
        status = (await service.cli("status")).output
        assert "Warning: The spool was found damaged" in " ".join(status.split())
        assert "the spool was damaged and is salvaged" in service.log.read_text()
        async with sink(keep=identity, port=port) as far_end:
            await service.cli("queue", "retry", "--all")
            await until(lambda: only_held(service), "all that can be delivered is", log=service.log)
            came = {int(message.octets) for message in far_end.taken}
            assert len(came) == len(far_end.taken)
            held = await service.queue()
            assert all(entry["reason"] for entry in held)
            (report,) = (place / "spool").glob("queue.db.damaged-*.txt")
            lost = len([line for line in report.read_text().splitlines() if "@origin.test" in line])
            assert came <= set(ledger.promised)
            assert len(came) + len(held) + lost >= len(ledger.promised)
            more = await Source(service.port, count=20, sessions=2).run()
            assert len(more.promised) == 20
        for file in (place / "spool").glob("queue.db.damaged-*"):
            file.unlink()
        assert "Warning" not in (await service.cli("status")).output
    say(f"{len(ledger.promised)} messages: {len(came)} came, {len(held)} are held, {lost} named as lost")


def spoil(spool: Path, dice: random.Random) -> None:
    """Wrong octets in the middle of the log, the head of the file, and a page of it."""
    for file, first in ((spool / "queue.db-wal", 100_000), (spool / "queue.db", 0), (spool / "queue.db", 8192)):
        with file.open("r+b") as stream:
            stream.seek(min(first, max(0, file.stat().st_size - 100)))
            stream.write(dice.randbytes(64))


async def only_held(service: Service) -> bool:
    return all(entry["reason"] for entry in await service.queue())


async def test_where_salvage_is_not_wanted_a_damaged_spool_ends_the_start_in_a_sentence(place: Path) -> None:
    service = prepare(place, route("*", "discard:"))
    text = service.config.read_text()
    service.config.write_text(text.replace("postmaster =", 'on_damage = "stop"\npostmaster ='))
    async with running(service):
        await Source(service.port, count=20, sessions=2).run()
        assert await service.stop() == 0
        before = (place / "spool" / "queue.db").read_bytes()
        (place / "spool" / "queue.db").write_bytes(bytes(4096) + before[4096:])
        ran = await service.cli("serve")
        assert ran.code != 0
        assert "restore it from a backup" in " ".join(ran.errors.split())
        (place / "spool" / "queue.db").write_bytes(before)
        await service.start()


# ---- a message that our own code fails on
POISONED = (
    "import sys; from waypost.deliver.maildir import MaildirDelivery as M; real = M.deliver\n"
    "async def deliver(self, lease, template, fates):\n"
    "    if 'poison' in str(lease.recipients[0].forward_path): raise ZeroDivisionError('a bug')\n"
    "    await real(self, lease, template, fates)\n"
    "M.deliver = deliver; sys.argv[0] = 'waypost'\n"
    "from waypost.__main__ import main; main()"
)


async def test_a_message_our_own_code_fails_on_is_held_after_three_tries_and_others_pass(place: Path) -> None:
    service = prepare(place, route("*", f"maildir:{place}/mail/%u"), pause="200ms")
    service.wrapper = ("-c", POISONED)
    async with running(service):
        await Source(service.port, count=1, sessions=1, recipient="poison@example.test").run()
        await Source(service.port, count=20, sessions=2).run()
        await until(lambda: only_held(service), "it is held", log=service.log)
        (entry,) = await service.queue()
        assert "3 attempts ended in a bug in this service, ZeroDivisionError" in str(entry["reason"])
        assert len(list((place / "mail" / "bob" / "new").iterdir())) == 20
        assert "ZeroDivisionError" in (await service.cli("trace", str(entry["id"]))).output
