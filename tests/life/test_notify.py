"""What systemd is told."""

import socket
from datetime import timedelta
from pathlib import Path

import pytest

from waypost.life.notify import Notifier


def test_readiness_status_and_signs_of_life_are_told_to_whom_the_unit_names(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier.of({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}, 7)
        notifier.ready("takes mail")
        notifier.reloading()
        notifier.stopping("ends")
        notifier.alive()
        said = [manager.recv(4096).decode().split("\n") for _ in range(4)]

    assert notifier.watchdog == timedelta(seconds=3)
    assert said[0] == ["READY=1", "STATUS=takes mail"]
    assert said[1][0] == "RELOADING=1"
    assert said[1][1].startswith("MONOTONIC_USEC=")
    assert said[2:] == [["STOPPING=1", "STATUS=ends"], ["WATCHDOG=1"]]


@pytest.mark.parametrize(
    "environment", [{}, {"NOTIFY_SOCKET": "/nowhere/notify"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"}]
)
def test_nobody_to_tell_costs_nothing(environment: dict[str, str]) -> None:
    notifier = Notifier.of(environment, 7)
    notifier.ready("takes mail")
    assert notifier.watchdog == timedelta()
