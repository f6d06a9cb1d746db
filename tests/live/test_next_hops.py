"""Servers that people use take messages over: into their mailboxes unchanged, or back comes a report that says why."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.dovecot import dovecot
from tests.live.exim import exim
from tests.live.mail import MESSAGES, route, send
from tests.live.postfix import mailboxes, postfix
from tests.live.process import until
from tests.live.service import waypost
from tests.live.sink import sink

pytestmark = pytest.mark.live


@dataclass(frozen=True, slots=True)
class NextHop:
    """A server that runs: what a route to it says, and where its user bob finds his mail."""

    target: str
    mailbox: Path


@contextlib.asynccontextmanager
async def by_postfix(directory: Path) -> AsyncIterator[NextHop]:
    """SMTP into Postfix."""
    async with postfix(directory, mailboxes(directory, "example.test", "bob")) as peer:
        yield NextHop(f"smtp://127.0.0.1:{peer.port}", peer.mailbox("bob"))


@contextlib.asynccontextmanager
async def by_exim(directory: Path) -> AsyncIterator[NextHop]:
    """SMTP into Exim."""
    async with exim(directory, "example.test", "bob") as peer:
        yield NextHop(f"smtp://127.0.0.1:{peer.port}", peer.mailbox("bob"))


@contextlib.asynccontextmanager
async def by_dovecot(directory: Path) -> AsyncIterator[NextHop]:
    """LMTP over TCP into Dovecot."""
    async with dovecot(directory, "bob") as peer:
        yield NextHop(f"lmtp://127.0.0.1:{peer.port}", peer.mailbox("bob"))


@contextlib.asynccontextmanager
async def by_dovecots_socket(directory: Path) -> AsyncIterator[NextHop]:
    """LMTP over a Unix socket into Dovecot."""
    async with dovecot(directory, "bob") as peer:
        yield NextHop(f"lmtp://{peer.socket}", peer.mailbox("bob"))


Peer = Callable[[Path], contextlib.AbstractAsyncContextManager[NextHop]]
every_peer = pytest.mark.parametrize("peer", [by_postfix, by_exim, by_dovecot, by_dovecots_socket])


@every_peer
async def test_a_message_is_in_the_mailbox_octet_for_octet(peer: Peer, place: Path, peer_place: Path) -> None:
    async with peer(peer_place) as next_hop, waypost(place, route("example.test", next_hop.target)) as service:
        for name, octets in MESSAGES.items():
            await asyncio.to_thread(send, service, octets)

            stored = await the_one_message(next_hop.mailbox)
            assert stored.endswith(octets), name
            assert stored[: -len(octets)].count(b"by waypost.test") == 1, name


@every_peer
async def test_an_unknown_user_at_the_next_hop_comes_back_as_a_report(
    peer: Peer, place: Path, peer_place: Path
) -> None:
    async with sink() as home, peer(peer_place) as next_hop:
        routes = route("example.test", next_hop.target) + route("origin.test", f"smtp://127.0.0.1:{home.port}")
        async with waypost(place, routes) as service:
            await asyncio.to_thread(send, service, MESSAGES["plain"], "nobody@example.test", "bob@example.test")

            report = (await home.messages(1))[0]
            assert (report.reverse_path, report.forward_paths) == ("", ("alice@origin.test",))
            parsed = email.message_from_bytes(report.octets, policy=email.policy.default)
            assert parsed.get_content_type() == "multipart/report"
            fields = report.octets.decode()
            assert "Final-Recipient: rfc822; nobody@example.test" in fields
            assert "Action: failed" in fields
            assert "smtp; 550" in fields
            assert "bob@example.test" not in fields.partition("message/delivery-status")[2].partition("--")[0]
            assert (await the_one_message(next_hop.mailbox)).endswith(MESSAGES["plain"])


async def the_one_message(mailbox: Path) -> bytes:
    """Take the one message out of a Maildir, with its lines as SMTP has them."""

    async def there() -> bool:
        return bool(files_in(mailbox))

    await until(there, f"a message in {mailbox}")
    (file,) = files_in(mailbox)
    return taken_out(file).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def files_in(mailbox: Path) -> list[Path]:
    """The messages in a Maildir; none, where it is still to be made."""
    return list(mailbox.iterdir()) if mailbox.exists() else []


def taken_out(file: Path) -> bytes:
    """Read a message, and remove it from its Maildir."""
    octets = file.read_bytes()
    file.unlink()
    return octets
