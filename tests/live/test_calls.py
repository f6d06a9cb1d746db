"""On-demand relay between two services: the spoke calls, and the hub's mail comes back over the connection (ATRN)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import trustme

from tests.certificates import write_certificate
from tests.live.mail import MESSAGES, send
from tests.live.process import free_port, until
from tests.live.service import waypost, without_trace
from tests.live.sink import sink
from waypost.auth.users import hashed, save_users

pytestmark = pytest.mark.live


async def test_a_spoke_fetches_its_mail_over_the_connection_it_makes(place: Path, peer_place: Path) -> None:
    files, port = write_certificate(trustme.CA(), place, "waypost.test", "127.0.0.1", file="server"), free_port()
    save_users(place / "users", {"branch": hashed("branch", "sesame")})
    hub = f"""
[[listener]]
address = "127.0.0.1:{port}"
role = "submission"
tls = "required"
[[certificate]]
certificate = "{files.certificate}"
key = "{files.key}"
[auth]
users = "{place / "users"}"
[[route]]
domains = ["branch.test"]
to = "atrn:branch"
"""
    (peer_place / "password").write_text("sesame")
    async with sink() as far_end, waypost(place, hub) as provider:
        await asyncio.to_thread(send, provider, MESSAGES["dots"], "bob@branch.test")
        spoke = (
            f'\n[[route]]\ndomains = ["branch.test"]\nto = "smtp://127.0.0.1:{far_end.port}"\n'
            f'[[fetch]]\nname = "hub"\nserver = "smtp://127.0.0.1:{port}"\nusername = "branch"\ntls = "required"\n'
            f'password_file = "{peer_place / "password"}"\nevery = "1s"\n'
        )
        async with waypost(peer_place, spoke) as branch:
            (taken,) = await far_end.messages(1)
            assert without_trace(without_trace(taken.octets)) == MESSAGES["dots"]
            assert b"with ESMTPS (TLSv1.3)" in taken.octets
            await asyncio.to_thread(send, provider, MESSAGES["plain"], "carol@branch.test")
            assert len(await far_end.messages(2)) == 2

            async def told() -> bool:
                return '"event":"fetched"' in branch.log.read_text()

            await until(told, "the spoke tells of its calls", log=branch.log)
