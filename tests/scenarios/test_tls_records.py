"""Clients under TLS: what is offered, and that it is read as in clear however its records come."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from tests.certificates import trusting, write_certificate
from tests.receive.house import HOSTNAME
from tests.receive.test_tls import SEND, Client, scene, send
from tests.scenarios.page import scenario
from waypost.net.certificates import Keyring, NoCertificate


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@scenario(11)
async def test_starttls_whose_certificate_cannot_be_used_is_refused_in_step_and_mail_goes_on(
    tmp_path: Path, authority: trustme.CA
) -> None:
    """STARTTLS was offered without a certificate, and clients that took the offer failed."""
    keyring = Keyring([write_certificate(authority, tmp_path, HOSTNAME, file="x")])
    loaded: list[bool] = []

    def context() -> ssl.SSLContext | NoCertificate:
        return keyring.context() if loaded else NoCertificate()

    async with scene(context) as it:
        client = await it.greeted()
        assert (await client.say("EHLO us.example", "STARTTLS")).startswith("454 4.7.0")
        await send(client)
        keyring.refresh()
        loaded.append(True)
        client = await it.greeted()
        assert (await client.say("EHLO us.example", "STARTTLS")).startswith("220")
        await client.shake(trusting(authority))
        await send(client)


class Records:
    """A client's TLS by hand: what its records are, and how they are cut, is the test's to say."""

    def __init__(self, client: Client, authority: trustme.CA) -> None:
        self._client = client
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trusting(authority).wrap_bio(self._incoming, self._outgoing, server_hostname=HOSTNAME)

    async def shake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send(self._outgoing.read())
                self._incoming.write(await self._client.reader.read(10_000))
            else:
                self._send(self._outgoing.read())
                return

    async def say(self, *records: bytes, cut: int = 0) -> None:
        """One record for each of `records`, in one segment, or in segments of `cut` octets."""
        for record in records:
            self._tls.write(record)
        octets = self._outgoing.read()
        for start in range(0, len(octets), cut or len(octets)):
            self._send(octets[start : start + (cut or len(octets))])
            await asyncio.sleep(0)

    async def hear(self, count: int) -> list[str]:
        """So many replies, the last line of each."""
        heard = b""
        while True:
            lines = [line for line in heard.decode().splitlines(keepends=True) if line.endswith("\n")]
            replies = [line.rstrip() for line in lines if line[3] == " "]
            if len(replies) >= count:
                return replies
            try:
                heard += self._tls.read(10_000)
            except ssl.SSLWantReadError:
                self._incoming.write(await self._client.reader.read(10_000))

    def _send(self, octets: bytes) -> None:
        self._client.writer.write(octets)


@scenario(12)
@pytest.mark.parametrize("cut", [0, 1, 7])
async def test_a_session_under_tls_reads_the_same_in_any_segmentation_and_two_records_in_one_read_as_two(
    tmp_path: Path, authority: trustme.CA, cut: int
) -> None:
    """Two encrypted records in one read: the second was overlooked."""
    keyring = Keyring([write_certificate(authority, tmp_path, HOSTNAME)])
    keyring.refresh()
    async with scene(keyring.context, implicit=True) as it:
        client = await it.connect()
        records = Records(client, authority)
        await records.shake()
        await records.hear(1)
        hello, *commands = (f"{line}\r\n".encode() for line in SEND)
        await records.say(hello, cut=cut)
        await records.hear(1)
        await records.say(*commands, cut=cut)
        assert [reply[:3] for reply in await records.hear(3)] == ["250", "250", "354"]
        await records.say(b"Subject: x\r\n\r\nhe", b"llo\r\n.\r", b"\nQUIT\r\n", cut=cut)
        assert [reply[:3] for reply in await records.hear(2)] == ["250", "221"]
        assert len(it.told.taken) == 1
