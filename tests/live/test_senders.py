"""Clients that people use hand messages in; every octet comes out again, with one line more: our Received."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.live.mail import MESSAGES, to_port
from tests.live.postfix import postfix, relay_to
from tests.live.process import must_run
from tests.live.service import waypost, without_trace
from tests.live.sink import sink

pytestmark = pytest.mark.live

Sender = Callable[[int, Path], Awaitable[object]]


def read(message: Path) -> bytes:
    """The octets a sender is given."""
    return message.read_bytes()


async def by_swaks(port: int, message: Path) -> None:
    """With its repairs of the data turned off it wants a body as it goes over the wire."""
    stuffed = message.with_suffix(".stuffed")
    stuffed.write_bytes(read(message).replace(b"\r\n.", b"\r\n..") + b".\r\n")
    where = ("--server", f"127.0.0.1:{port}", "--from", "alice@origin.test", "--to", "bob@example.test")
    await must_run("swaks", *where, "--no-data-fixup", "--hide-all", "--data", f"@{stuffed}")


async def by_curl(port: int, message: Path) -> None:
    """Carries octets as they are."""
    path = ("--mail-from", "alice@origin.test", "--mail-rcpt", "bob@example.test")
    await must_run(
        "curl", "--silent", "--show-error", f"smtp://127.0.0.1:{port}/origin.test", *path, "--upload-file", message
    )


async def by_msmtp(port: int, message: Path) -> None:
    """Reads lines as Unix has them, and adds headers unless told not to."""
    options = ("--set-date-header=off", "--set-from-header=off", "--set-msgid-header=off", "--remove-bcc-headers=off")
    where = ("--file=/dev/null", "--host=127.0.0.1", f"--port={port}", "--from=alice@origin.test", *options)
    await must_run("msmtp", *where, "--", "bob@example.test", stdin=read(message).replace(b"\r\n", b"\n"))


async def by_smtplib(port: int, message: Path) -> None:
    """Python's own."""

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            client.sendmail("alice@origin.test", "bob@example.test", message.read_bytes())

    await asyncio.to_thread(send)


@pytest.mark.parametrize("sender", [by_swaks, by_curl, by_msmtp, by_smtplib])
async def test_every_octet_arrives_as_it_was_sent(sender: Sender, place: Path) -> None:
    async with sink() as far_end, waypost(place, to_port(far_end.port)) as service:
        for name, octets in MESSAGES.items():
            message = place / f"{name}.eml"
            message.write_bytes(octets)

            await sender(service.port, message)

            taken = (await far_end.messages(1))[0]
            assert without_trace(taken.octets) == octets, name
            assert (taken.reverse_path, taken.forward_paths) == ("alice@origin.test", ("bob@example.test",))
            far_end.taken.clear()


async def test_postfix_hands_over_what_it_was_given(place: Path, peer_place: Path) -> None:
    async with (
        sink() as far_end,
        waypost(place, to_port(far_end.port)) as service,
        postfix(peer_place, relay_to(service.port)) as before,
    ):
        for name, octets in MESSAGES.items():
            message = place / f"{name}.eml"
            message.write_bytes(octets)

            await by_smtplib(before.port, message)

            taken = (await far_end.messages(1))[0]
            assert without_trace(taken.octets).endswith(octets), name
            far_end.taken.clear()


async def test_eight_bit_octets_are_no_reason_to_refuse_or_change_a_message_for_an_old_next_hop(place: Path) -> None:
    async with sink(extensions=()) as far_end, waypost(place, to_port(far_end.port)) as service:
        message = place / "eight.eml"
        message.write_bytes(MESSAGES["eight bits"])

        await by_curl(service.port, message)

        taken = (await far_end.messages(1))[0]
        assert without_trace(taken.octets) == MESSAGES["eight bits"]
