"""What users test their configuration with: the service in memory, on time that jumps, between scripted servers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from waypost.testing.peer import Peer, Wrong
from waypost.testing.service import LETTER, REFUSES, Service, Stage, UnlikeError

CONFIG = """\
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@example.net"
[[listener]]
address = "0.0.0.0:25"
[relay]
networks = ["10.0.0.0/8"]
[[route]]
domains = ["example.com"]
to = "smtp://192.0.2.10:25"
[[route]]
domains = ["example.net"]
to = "capture:"
[[route]]
domains = ["*"]
to = "mx:"
"""
HOOK = """\
from waypost.hooks import Change, Pass
async def data(event):
    return Change(add=(("X-Class", "invoice"),)) if "invoice" in event.message.field("subject") else Pass()
"""
ZONE = "far.example. 300 MX 10 mx.far.example.\nmx.far.example. 300 A 192.0.2.20"


def test_a_stranger_may_send_to_us_and_not_through_us(waypost: Stage) -> None:
    store = Peer()

    async def scene(service: Service) -> None:
        client = await service.client("203.0.113.9")
        assert (await client.letter("bob@example.com")).startswith("250 2.0.0")
        assert (await client.letter("bob@far.example")).startswith("550 5.7.1 relaying denied")
        await service.quiet()
        assert store.accepted[0][0] == ("bob@example.com",)
        assert store.accepted[0][1].endswith(LETTER)

    waypost.run(CONFIG, scene, hosts={"192.0.2.10:25": store})


def test_names_come_from_the_zone_of_the_test(waypost: Stage) -> None:
    far = Peer()

    async def scene(service: Service) -> None:
        client = await service.client("10.0.0.1")
        assert (await client.letter("bob@far.example", "x@nowhere.example")).startswith("250")
        await service.quiet()
        assert [recipients for recipients, _ in far.accepted] == [("bob@far.example",)]
        assert service.dns.count("far.example", "MX") == 1

    waypost.run(CONFIG, scene, hosts={"192.0.2.20:25": far}, zone=ZONE)


def test_hours_of_retries_pass_at_once_and_end_in_a_report(waypost: Stage) -> None:
    async def scene(service: Service) -> None:
        client = await service.client("10.0.0.1")
        await client.letter("bob@example.com", author="ann@example.net")
        await service.quiet()
        assert [entry.state.value for entry in await service.queue()] == ["waiting"]
        await service.clock.sleep(timedelta(hours=3))  # a host that refuses rests besides
        assert await service.queue() == []
        assert any(b"Action: failed" in report for report in await service.inbox())

    waypost.run(f'{CONFIG}[retry]\nexpire = "30m"\n', scene, hosts={"192.0.2.10:25": REFUSES})


def test_a_host_that_hangs_up_is_asked_again(waypost: Stage) -> None:
    store = Peer(plan={"EHLO": [Wrong.FIN]})

    async def scene(service: Service) -> None:
        await (await service.client("10.0.0.1")).letter("bob@example.com")
        await service.quiet()
        assert store.verbs[1][0] == "HELO"
        assert len(store.accepted) == 1

    waypost.run(CONFIG, scene, hosts={"192.0.2.10:25": store})


def test_a_file_of_the_users_is_run_with_its_hooks(tmp_path: Path) -> None:
    (tmp_path / "policy.py").write_text(HOOK)
    (tmp_path / "waypost.toml").write_text(f'{CONFIG}[[hook]]\nmodule = "policy.py"\n')

    async def scene(service: Service) -> None:
        client = await service.client("10.0.0.1")
        assert (await client.letter("ann@example.net", octets=b"Subject: invoice 7\r\n\r\nx\r\n")).startswith("250")
        await service.quiet()
        assert b"X-Class: invoice\r\n" in (await service.inbox())[0]
        assert (await service.explain("ann@example.net")).journeys[0].is_taken

    Stage(tmp_path).run("waypost.toml", scene)
    assert not (tmp_path / "spool").exists()


def test_a_configuration_that_is_wrong_says_so(tmp_path: Path) -> None:
    async def scene(service: Service) -> None:
        raise NotImplementedError

    with pytest.raises(UnlikeError, match="is missing"):
        Stage(tmp_path).run("[service]\n", scene)


def test_a_client_that_is_not_welcome_is_told_so(waypost: Stage) -> None:
    async def scene(service: Service) -> None:
        with pytest.raises(UnlikeError, match="554"):
            await service.client("203.0.113.9")

    waypost.run(f'{CONFIG}[access]\nreject = ["203.0.113.0/24"]\n', scene)
