"""Extensions, with programs people use at the other end: Postfix and Exim take chunks, swaks comes through a proxy."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.live.mail import HEADER, route, send
from tests.live.process import must_run, until
from tests.live.service import waypost
from tests.live.sink import sink
from tests.live.test_howto import as_printed, inbox
from tests.live.test_next_hops import Peer, by_exim, by_postfix, the_one_message

pytestmark = pytest.mark.live

LARGE = HEADER + b".dots\r\n..\r\n" + b"0123456789\r\n" * 120_000


@pytest.mark.parametrize("peer", [by_postfix, by_exim])
async def test_a_large_message_goes_in_one_chunk_and_arrives_octet_for_octet(
    peer: Peer, place: Path, peer_place: Path
) -> None:
    async with peer(peer_place) as next_hop, waypost(place, route("example.test", next_hop.target)) as service:
        await asyncio.to_thread(send, service, LARGE)

        assert (await the_one_message(next_hop.mailbox)).endswith(LARGE)
        command = ("-m", "waypost", "trace", "bob@example.test", "--json", "--config", service.config)
        traced = await must_run(sys.executable, *command)
        assert "BDAT " in traced.output


async def test_a_client_behind_a_proxy_is_known_by_its_own_address(place: Path) -> None:
    instead = {
        "/var/spool/waypost": str(place / "spool"),
        '"192.0.2.10", "192.0.2.11"': '"127.0.0.1"',
    }
    async with as_printed("behind-a-proxy.md", place, instead) as service:
        for version, family in (("1", ("TCP4",)), ("2", ("AF_INET", "--proxy-protocol", "STREAM"))):
            await must_run(
                *(
                    "swaks",
                    "--server",
                    f"127.0.0.1:{service.port}",
                    "--to",
                    "you@example.net",
                    "--from",
                    "a@origin.test",
                ),
                *("--proxy-version", version, "--proxy-family", *family, "--proxy-source", "203.0.113.9"),
                *("--proxy-source-port", "49152", "--proxy-dest", "127.0.0.1", "--proxy-dest-port", str(service.port)),
            )

        async def known() -> bool:
            return service.log.read_text().count('"client":"203.0.113.9:49152"') >= 2

        await until(known, "both messages, from the client behind the proxy", log=service.log)
        assert len(inbox(service)) == 2


async def test_curl_has_the_mail_of_a_spoke_tried_as_the_guide_says(place: Path) -> None:
    async with sink() as spoke:
        instead = {
            "/var/spool/waypost": str(place / "spool"),
            "10.8.0.0/24": "127.0.0.0/8",
            "smtp://10.8.0.7:25": f"smtp://127.0.0.1:{spoke.port}",
        }
        async with as_printed("etrn.md", place, instead) as service:
            asked = await must_run(
                "curl",
                "--silent",
                "--show-error",
                f"smtp://127.0.0.1:{service.port}",
                "--request",
                "ETRN branch.example.net",
            )
            assert "no messages waiting" in asked.output
