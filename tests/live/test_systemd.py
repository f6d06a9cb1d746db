"""What an init system sees: readiness, reloads, signs of life, its sockets, and the rights that are given up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.live.mail import to_port
from tests.live.process import free_port, run, until
from tests.live.service import Service, prepare, running
from tests.live.sink import sink
from tests.live.source import Source, identity
from tests.live.test_killed import arrived
from tests.live.test_workers import with_workers, workers

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
NOBODY = pwd.getpwnam("nobody")


class Systemd:
    """The end of NOTIFY_SOCKET where systemd listens."""

    def __init__(self, heard: socket.socket) -> None:
        self._heard = heard
        self.said: list[dict[str, str]] = []

    def hears(self) -> list[dict[str, str]]:
        """All it was told."""
        with contextlib.suppress(BlockingIOError):
            while told := self._heard.recv(8192):
                self.said.append(dict(line.split("=", 1) for line in told.decode().split("\n")))
        return self.said

    async def until(self, key: str, *, times: int = 1) -> dict[str, str]:
        """The message that says `key` for the so-manieth time."""

        def of_key() -> list[dict[str, str]]:
            return [one for one in self.hears() if key in one]

        async def told() -> bool:
            return len(of_key()) >= times

        await until(told, f"{key} to be told {times} times")
        return of_key()[times - 1]


@pytest.fixture
async def systemd(place: Path) -> AsyncIterator[Systemd]:
    """Somebody to be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(place / "notify"))
        heard.setblocking(False)
        told, loop = Systemd(heard), asyncio.get_running_loop()
        loop.add_reader(heard, told.hears)
        yield told
        loop.remove_reader(heard)


@pytest.mark.parametrize("count", [1, 2])
async def test_systemd_is_told_of_readiness_life_reload_and_the_end(place: Path, systemd: Systemd, count: int) -> None:
    service = with_workers(prepare(place, to_port(free_port())), count)
    service.environment = {"NOTIFY_SOCKET": str(place / "notify"), "WATCHDOG_USEC": "3000000"}
    good = service.config.read_text()
    async with running(service):
        assert "take" in (await systemd.until("READY"))["STATUS"]
        await systemd.until("WATCHDOG", times=3)

        os.kill(service.pid, signal.SIGHUP)
        reloading = await systemd.until("RELOADING")
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert "goes on by configuration" in (await systemd.until("READY", times=2))["STATUS"]

        service.config.write_text(good + "\n[limits]\nrecipients = 1\n")
        os.kill(service.pid, signal.SIGHUP)
        await systemd.until("RELOADING", times=2)
        refused = await systemd.until("READY", times=3)
        assert "the configuration was not reloaded" in refused["STATUS"]
        assert "limits.recipients" in refused["STATUS"]
        service.config.write_text(good)
    assert any("STOPPING" in one for one in systemd.hears())
    assert not (place / "spool/handover").exists()


async def test_the_first_client_of_a_socket_that_systemd_holds_starts_the_service_and_is_served(place: Path) -> None:
    async with sink(keep=identity) as far_end:
        service = prepare(place, to_port(far_end.port))
        command = ("systemd-socket-activate", "-l", f"127.0.0.1:{service.port}", sys.executable, "-m", "waypost")
        with service.log.open("ab") as words:
            process = await asyncio.create_subprocess_exec(
                *command, "serve", "--config", str(service.config), stdout=words, stderr=words
            )
        try:
            ledger = await Source(service.port, count=20).run()
            assert ledger.refused == {}
            await far_end.until(lambda: set(ledger.promised) <= arrived(far_end.taken), "every promised message")
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_systemd_has_no_complaint_about_the_units_and_finds_them_hardened(place: Path) -> None:
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/usr/local/bin/waypost", "/bin/true")
        (place / unit.name).write_text(re.sub("(User|Group)=waypost", r"\1=daemon", text))
    units = [str(place / unit.name) for unit in UNITS.iterdir()]
    verified = await run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units)  # of systemd 252
    assert (verified.code, verified.output, verified.errors) == (0, "", "")
    judged = await run("systemd-analyze", "security", "--offline=yes", "--threshold=25", unit_of(units))
    assert judged.code == 0, judged.output + judged.errors


def unit_of(units: list[str]) -> str:
    """The service among them."""
    return next(one for one in units if one.endswith(".service"))


# ---- rights
def readable_by_all() -> tuple[str, dict[str, str]]:
    """A Python that a user without rights can run us by: ours may lie in root's home."""
    ours = [Path(sys.executable).resolve(), Path(__file__), Path(shutil.__file__)]
    if all(_is_open(one) for one in ours):
        return sys.executable, {}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    system = Path("/usr/bin", f"python{version}")
    source = UNITS.parents[1] / "src"
    packages = next(Path(one) for one in sys.path if one.endswith("site-packages"))
    if not (system.exists() and _is_open(packages) and _is_open(source)):
        pytest.skip("no Python here that a user without rights could run")
    return str(system), {"PYTHONPATH": f"{source}:{packages}"}


def _is_open(path: Path) -> bool:
    """Whether everybody may get there."""
    return all(one.stat().st_mode & stat.S_IXOTH for one in [*path.parents, path] if one.is_dir())


def privileged_port() -> int:
    """One that only root may bind, and that nobody has."""
    for port in range(1023, 512, -1):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port below 1024 is free")


def rights(pid: int) -> dict[str, set[str]]:
    """What the kernel says of a process' users, groups and capabilities."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {key: set(found[key].split()) for key in ("Uid", "Gid", "CapPrm", "CapEff")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
@pytest.mark.parametrize("count", [1, 2])
async def test_root_binds_a_low_port_and_then_is_nobody_in_every_process(place: Path, count: int) -> None:
    async with sink(keep=identity) as far_end:
        service = low(with_workers(prepare(place, to_port(far_end.port)), count))
        async with running(service):
            everyone = [service.pid, *(workers(service.pid).values() if count > 1 else ())]
            for pid in everyone:
                assert rights(pid) == {
                    "Uid": {str(NOBODY.pw_uid)},
                    "Gid": {str(NOBODY.pw_gid)},
                    "CapPrm": {"0" * 16},
                    "CapEff": {"0" * 16},
                }
            ledger = await Source(service.port, count=20).run()
            assert ledger.refused == {}
            await far_end.until(lambda: set(ledger.promised) <= arrived(far_end.taken), "every promised message")
        assert {path.stat().st_uid for path in (place / "spool").rglob("*")} == {NOBODY.pw_uid}


def low(service: Service) -> Service:
    """The same service, on a port that only root may bind, of a user who has no rights."""
    text = service.config.read_text()
    port = privileged_port()
    text = text.replace(f"127.0.0.1:{service.port}", f"127.0.0.1:{port}")
    service.config.write_text(text.replace("[service]", '[service]\nuser = "nobody"', 1))
    service.port = port
    service.directory.chmod(0o755)
    service.python, service.environment = readable_by_all()
    return service
