"""Another configuration is put in force while the service runs: whole or not at all, and no session ends for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from waypost import app
from waypost.admin.answers import FailureKind, OperationError, Proposal
from waypost.admin.operations import Operations
from waypost.app.base import base_of, changed_by
from waypost.auth.attempts import Blocked
from waypost.config import Config, load
from waypost.config.change import revision
from waypost.deliver.memory import Habit
from waypost.net.stream import Endpoint
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Selection

HEAD = """\
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@home.example"
allow_ephemeral = true
[admin]
address = "127.0.0.1:0"
[relay]
networks = ["127.0.0.0/8"]
"""
LISTENER = '[[listener]]\naddress = "127.0.0.1:0"\n'
SECOND = '[[listener]]\naddress = "127.0.0.2:0"\n'


def to(domain: str, place: str) -> str:
    return f'[[route]]\ndomains = ["{domain}"]\nto = "{place}"\n'


OLD = HEAD + LISTENER + to("home.example", "capture:") + to("far.example", "smtp://127.0.0.1:9")


@dataclass
class Client:
    """A session, line by line."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, where: Endpoint) -> Client:
        client = cls(*await asyncio.open_connection(where.host, where.port))
        assert (await client.hear()).startswith("220")
        return client

    async def hear(self) -> str:
        line = await asyncio.wait_for(self.reader.readline(), 10)
        while line[3:4] == b"-":
            line = await self.reader.readline()
        return line.decode().rstrip()

    async def say(self, *lines: str) -> str:
        reply = ""
        for line in lines:
            self.writer.write(line.encode() + b"\r\n")
            reply = await self.hear()
        return reply

    async def send(self, recipient: str) -> str:
        reply = await self.say("EHLO c.example", "MAIL FROM:<a@home.example>", f"RCPT TO:<{recipient}>")
        return await self.say("DATA", "Subject: x\r\n\r\nx\r\n.") if reply.startswith("250") else reply

    def close(self) -> None:
        self.writer.close()


@dataclass
class Served:
    """A service, and the file it is configured by."""

    file: Path
    running: app.Running

    @property
    def desk(self) -> Operations:
        return self.running.operations

    async def reload(self, text: str) -> str:
        """The revision in force then."""
        self.file.write_text(text)
        return (await self.desk.reload(by="test")).revision


@asynccontextmanager
async def serving(directory: Path, text: str = OLD) -> AsyncIterator[Served]:
    file = directory / "waypost.toml"
    file.write_text(text)
    config = load(file)
    assert isinstance(config, Config), str(config)
    async with app.running(config, parts=app.Parts(storage=lambda _: MemoryStorage())) as running:
        yield Served(file, running)


async def test_a_session_goes_on_and_its_next_recipient_is_routed_by_the_new_file(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        client = await Client.to(service.running.receive_endpoints[0])
        assert (await client.send("you@new.example")).startswith("550 5.1.2")
        before = (await service.desk.revisions()).revisions[0].id

        after = await service.reload(OLD + to("new.example", "capture:"))

        reply = await client.send("you@new.example")
        assert reply.startswith("250 2.0.0 Ok: queued as")
        assert after != before
        (trace,) = (await service.desk.trace(reply.rpartition(" ")[2])).traces
        assert f"configuration {after}" in trace.events[0].text
        client.close()


async def test_what_was_counted_against_guessers_and_is_known_of_hosts_outlasts_a_reload(tmp_path: Path) -> None:
    """Whoever was shut out was let in again by any change to `[auth]`, and each host was as good as never met."""
    file, host, configs = tmp_path / "waypost.toml", Endpoint("192.0.2.1", 25), []
    (tmp_path / "users").touch(mode=0o600)
    for auth, helo in (("network_failures = 2", 'ttl = "24h"'), ("network_failures = 3", 'ttl = "12h"')):
        file.write_text(OLD + f'[auth]\nusers = "users"\n{auth}\n[helo_memory]\n{helo}\n')
        config = load(file)
        assert isinstance(config, Config), str(config)
        configs.append(config)
    parts = app.Parts(storage=lambda _: MemoryStorage())
    base = base_of(configs[0], parts)
    for _ in range(3):
        base.logins.attempts.failed("ann", "198.51.100.0/24")
    base.helo.note(host, Habit.OFFERED_STARTTLS)

    changed = changed_by(base, configs[1], parts)
    assert isinstance(changed.logins.attempts.judge("bob", "198.51.100.0/24"), Blocked)
    assert changed.helo.recall(host) is Habit.OFFERED_STARTTLS


async def test_a_bad_file_changes_nothing_and_every_complaint_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        in_force = (await service.desk.revisions()).revisions
        with pytest.raises(OperationError) as refused:
            await service.reload(OLD.replace("capture:", "catpure:") + "[limits]\nconections = 5\n")

        assert refused.value.kind is FailureKind.REFUSED
        assert "waypost.toml:14: route.to" in refused.value.error
        assert "conections" in refused.value.error
        assert (await service.desk.revisions()).revisions == in_force
        client = await Client.to(service.running.receive_endpoints[0])
        assert (await client.send("you@home.example")).startswith("250")
        client.close()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('spool = "spool"', 'spool = "other"', "service.spool changed, and the queue is in it"),
        ('"127.0.0.1:0"\n[relay]', '"127.0.0.1:8026"\n[relay]', "admin changed"),
        ('hostname = "mx', 'hostname = "mx2', "service.hostname changed"),
    ],
)
async def test_what_cannot_change_is_refused_with_the_reason(tmp_path: Path, old: str, new: str, why: str) -> None:
    async with serving(tmp_path) as service:
        with pytest.raises(OperationError, match=why):
            await service.reload(OLD.replace(old, new))


async def test_listeners_come_and_go_and_open_sessions_stay(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        first = service.running.receive_endpoints[0]
        client = await Client.to(first)

        await service.reload(OLD.replace(LISTENER, SECOND))

        host, _, port = service.desk.facts.listeners[0].address.rpartition(":")
        second = Endpoint(host, int(port))
        other = await Client.to(second)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(first.host, first.port)
        assert (await client.send("you@home.example")).startswith("250")
        assert (await other.send("you@home.example")).startswith("250")
        client.close()
        other.close()


async def test_a_listener_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        taken = service.running.receive_endpoints[0]
        more = SECOND + f'[[listener]]\naddress = "{taken}"\n'
        with pytest.raises(OperationError, match="cannot listen on"):
            await service.reload(OLD.replace(LISTENER, more))
        client = await Client.to(taken)
        assert (await client.send("you@home.example")).startswith("250")
        client.close()


async def test_what_waits_follows_the_new_routes(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        client = await Client.to(service.running.receive_endpoints[0])
        await client.send("you@far.example")
        await service.reload(OLD.replace("smtp://127.0.0.1:9", "capture:"))
        await service.desk.storage.retry(Selection(), now=service.desk.clock.now())
        service.desk.told.changed()
        async with asyncio.timeout(30):
            while not (await service.desk.inbox()).messages:  # noqa: ASYNC110 - the service tells nobody in particular
                await asyncio.sleep(0.01)
        client.close()


async def test_an_earlier_revision_is_kept_as_it_was_written_and_can_be_put_in_force_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        (first,) = (await service.desk.revisions()).revisions
        second = await service.reload(OLD + "# a word\n")
        assert [one.id for one in (await service.desk.revisions()).revisions] == [second, first.id]

        assert await service.reload((await service.desk.revision(first.id)).text) == first.id
        assert [one.id for one in (await service.desk.revisions()).revisions] == [first.id, second]
        with pytest.raises(OperationError, match="no revision 0000"):
            await service.desk.revision("0000")


async def test_a_preview_tells_what_would_go_elsewhere_and_what_would_be_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        client = await Client.to(service.running.receive_endpoints[0])
        await client.send("you@home.example")
        await client.send("you@far.example")
        await client.send("me@far.example")
        async with asyncio.timeout(30):
            while not (await service.desk.inbox()).messages:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        new = OLD.replace("smtp://127.0.0.1:9", "smtp://127.0.0.1:10").replace("capture:", "reject:550 5.1.1 gone")

        preview = await service.desk.preview(Proposal(new, str(service.file)))

        assert [(one.fate, one.detail, one.recipients) for one in preview.queue] == [
            ("elsewhere", "smtp://127.0.0.1:10", 2)
        ]
        assert [(one.fate, one.detail, one.recipients) for one in preview.traffic] == [("refused", "550 5.1.1 gone", 1)]
        assert (preview.queue_looked_at, preview.traffic_looked_at, preview.needs_restart) == (2, 1, ())
        client.close()


async def test_a_storm_of_hangups_comes_to_few_reloads_and_the_last_file_is_in_force(tmp_path: Path) -> None:
    """Each was queued behind the others, so that a script gone wild kept the service reloading for minutes."""
    async with serving(tmp_path) as service:
        told: asyncio.Queue[str] = asyncio.Queue()
        for _ in range(200):
            service.running.reload(told.put_nowait)
            await asyncio.sleep(0)
        last = OLD + to("new.example", "capture:")
        service.file.write_text(last)
        service.running.reload(told.put_nowait)
        said = [await told.get()]
        while said[-1] != f"goes on by configuration {revision(last)}":
            said.append(await told.get())
        await service.desk.reload(by="test")  # after all that were asked for

        assert len(said) + told.qsize() < 20


async def test_a_preview_of_what_nobody_may_send_any_more(tmp_path: Path) -> None:
    async with serving(tmp_path, OLD + to("*", "discard:")) as service:
        client = await Client.to(service.running.receive_endpoints[0])
        await client.send("you@else.example")
        async with asyncio.timeout(30):
            while (await service.desk.storage.counts()).recipients:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        here = str(service.file)
        blocked = OLD + to("*", "discard:") + '[senders]\nblock = ["home.example"]\n'
        unlisted = (OLD + to("*", "discard:")).replace('"127.0.0.0/8"', '"192.0.2.0/24"')
        for text, why in ((blocked, "550 5.7.1 reverse-path blocked"), (unlisted, "550 5.7.1 relaying denied")):
            (shift,) = (await service.desk.preview(Proposal(text, here))).traffic
            assert (shift.fate, shift.recipients) == ("refused", 1)
            assert shift.detail.startswith(why)
        with pytest.raises(OperationError, match="hours of traffic"):
            await service.desk.preview(Proposal(OLD, here, hours=-1))
        with pytest.raises(OperationError, match="TOML"):
            await service.desk.preview(Proposal("=", here))
        client.close()


async def test_a_sender_taken_off_the_list_may_write_from_the_next_command_on(tmp_path: Path) -> None:
    blocked = OLD + '[senders]\nblock = ["spam.example"]\n'
    async with serving(tmp_path, blocked) as service:
        client = await Client.to(service.running.receive_endpoints[0])
        assert (await client.say("EHLO c.example", "MAIL FROM:<a@spam.example>")).startswith("550 5.7.1")
        await service.reload(OLD)
        assert (await client.say("MAIL FROM:<a@spam.example>")).startswith("250")
        client.close()
