"""STARTTLS command injection (CVE-2011-0411): what stands in clear behind STARTTLS is never a command, in any cut."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.certificates import trusting, write_certificate
from tests.receive.house import HOSTNAME
from tests.receive.test_tls import scene, send
from waypost.net.certificates import Keyring

INJECTED = b"EHLO evil.example\r\nMAIL FROM:<evil@us.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\nx\r\n.\r\n"


@pytest.mark.parametrize("injected", [b"NOOP\r\n", b"RSET", b"\r\n", b"\0", INJECTED])
@pytest.mark.parametrize("same_segment", [True, False])
async def test_octets_in_clear_behind_starttls_end_the_session_and_are_no_commands(
    tmp_path: Path, injected: bytes, *, same_segment: bool
) -> None:
    authority = trustme.CA()
    keyring = Keyring([write_certificate(authority, tmp_path, HOSTNAME)])
    keyring.refresh()
    async with scene(keyring.context) as it:
        victim = await it.greeted()
        await victim.say("EHLO us.example")
        if same_segment:
            victim.writer.write(b"STARTTLS\r\n" + injected)
            heard = await victim.hear()
        else:
            heard = await victim.say("STARTTLS")
            victim.writer.write(injected)
        assert heard[:3] in {"220", "554", "503", "501", "(en"}, heard
        with suppress(OSError):
            async with asyncio.timeout(5):
                await victim.shake(trusting(authority))
                await victim.say("NOOP")
        await it.told.over.wait()
        assert it.told.taken == []
        assert "250" not in (await _rest(victim.reader))
        other = await it.greeted()
        await other.say("EHLO us.example")
        assert (await other.say("STARTTLS")).startswith("220")
        await other.shake(trusting(authority))
        await send(other)


async def _rest(reader: asyncio.StreamReader) -> str:
    with suppress(OSError):
        return (await reader.read()).decode(errors="replace")
    return ""
