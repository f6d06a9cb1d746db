"""Whom an address stands for, in the whole service: what RCPT is answered, and who gets the message."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.deliver.peer import Peer
from tests.scenarios.whole import AUTHOR, LETTER, MINUTE, STRANGER, Client, accepted_by, bodies, to_host, whole
from tests.virtual import virtual
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Selection

INNER, OUTER, OLD = "192.0.2.1", "192.0.2.2", "192.0.2.3"
GUIDE = Path(__file__).parents[2] / "docs/howto/aliases.md"
ROUTES = to_host("ours.example", INNER) + to_host("*", OUTER)
TEAM = """\
[[map]]
name = "people"
entries = { team = ["alice", "bob", "carol@far.example"], alice = "alice", bob = "bob" }
[[domain]]
names = ["ours.example"]
aliases = ["people"]
unknown = "refuse"
"""
SPLIT = """\
[[route]]
name = "old"
to = "smtp://192.0.2.3:25"
[[map]]
name = "people"
entries = { alice = "-" }
[[domain]]
names = ["ours.example"]
users = ["people"]
unknown = "route:old"
"""


@virtual
async def test_an_alias_reaches_all_it_stands_for_also_elsewhere_and_a_stranger_may_use_it() -> None:
    inner, outer = Peer(), Peer()
    async with whole(ROUTES + TEAM, {INNER: inner, OUTER: outer}) as service:
        client = await service.client(STRANGER)
        assert (await client.letter("team@ours.example", "alice@ours.example")).startswith("250 ")
        await asyncio.sleep(1)
        assert sorted(accepted_by(inner)) == ["alice@ours.example", "bob@ours.example"]
        assert accepted_by(outer) == ["carol@far.example"]
        assert len(bodies(inner, outer)) == 2
        assert (await rcpt(client, "carol@far.example")).startswith("550 5.7.1 relaying denied")


@virtual
async def test_the_address_the_author_wrote_goes_along_for_reports() -> None:
    outer = Peer(recipients={"carol@far.example": "550 5.1.1 no such user"})
    async with whole(ROUTES + TEAM, {INNER: Peer(), OUTER: outer}) as service:
        await service.take("team@ours.example")
        await asyncio.sleep(1)
        said = "\n".join(outer.connections[0])
        assert "RCPT TO:<carol@far.example> ORCPT=rfc822;team@ours.example" in said
        (report,) = await service.inbox()
        assert b"Original-Recipient: rfc822;team@ours.example" in report.replace(b"rfc822; ", b"rfc822;")


def asks_for(notify: str, *to: str) -> list[str]:
    rcpt = [f"RCPT TO:<{each}> NOTIFY={notify}" for each in to]
    return [f"MAIL FROM:<{AUTHOR}>", *rcpt, "DATA"]


@virtual
async def test_an_author_who_asks_is_told_that_a_list_was_expanded_and_not_who_is_on_it() -> None:
    """RFC 3461 §5.2.7, RFC 3464 §2.3.3: one report, of the alias; failures are told of all the same."""
    inner, outer = Peer(), Peer(recipients={"carol@far.example": "550 5.1.1 no such user"})
    async with whole(ROUTES + TEAM, {INNER: inner, OUTER: outer}) as service:
        client = await service.client()
        await client.say(*asks_for("SUCCESS,FAILURE", "team@ours.example"))
        assert (await client.send(LETTER + b".\r\n")).startswith("250 ")
        await asyncio.sleep(MINUTE)
        expanded, failed = sorted(await service.inbox(), key=lambda each: b"Action: failed" in each)
        assert b"Action: expanded" in expanded
        assert b"Final-Recipient: rfc822; team@ours.example" in expanded
        assert b"alice@ours" not in expanded
        assert b"other server" not in expanded, "nobody else had a say"
        assert b"Action: failed" in failed
        assert b"Final-Recipient: rfc822; carol@far.example" in failed
        said = "\n".join(inner.connections[0] + outer.connections[0])
        assert said.count("NOTIFY=FAILURE") == 3
        assert "SUCCESS" not in said
        assert await service.queue() == []


@virtual
async def test_an_alias_for_one_passes_the_wish_for_reports_on_and_so_does_one_that_keeps_a_copy() -> None:
    aliases = TEAM.replace("team = [", "boss = 'alice', carol = ['carol', 'alice'], team = [")
    inner = Peer()
    async with whole(ROUTES + aliases, {INNER: inner}) as service:
        client = await service.client()
        for one in ("boss@ours.example", "carol@ours.example"):
            mail, *rest = asks_for("SUCCESS", one)
            await client.say(f"{mail} RET=HDRS ENVID=QQ314159", *rest)
            assert (await client.send(LETTER + b".\r\n")).startswith("250 ")
        await asyncio.sleep(2)
        said = [line for connection in inner.connections for line in connection if line.startswith("RCPT")]
        mails = [line for connection in inner.connections for line in connection if line.startswith("MAIL")]
        assert len(mails) == 2
        assert all(" RET=HDRS ENVID=QQ314159" in line for line in mails)
        assert sorted(said) == [
            "RCPT TO:<alice@ours.example> NOTIFY=NEVER ORCPT=rfc822;carol@ours.example",
            "RCPT TO:<alice@ours.example> NOTIFY=SUCCESS ORCPT=rfc822;boss@ours.example",
            "RCPT TO:<carol@ours.example> NOTIFY=SUCCESS",
        ]
        assert await service.inbox() == []


@virtual
async def test_who_does_not_exist_is_refused_at_rcpt_and_nothing_is_reported_to_anyone() -> None:
    async with whole(ROUTES + TEAM, {INNER: Peer()}) as service:
        client = await service.client(STRANGER)
        assert (await rcpt(client, "nobody@ours.example")).startswith("550 5.1.1 there is no <nobody@ours.example>")
        assert await service.inbox() == []


@virtual
async def test_a_broken_map_makes_mail_wait_and_a_mended_one_lets_it_through(tmp_path: Path) -> None:
    aliases = tmp_path / "aliases"
    aliases.write_text("info alice\n", "utf-8")
    text = TEAM.replace("entries", "file = 'aliases'\n#")
    inner = Peer()
    async with whole(ROUTES + text, {INNER: inner}, base=tmp_path) as service:
        client = await service.client(STRANGER)
        write(aliases, "info\n")
        assert (await rcpt(client, "info@ours.example")).startswith("451 4.3.0 ")
        await client.say("RSET")
        write(aliases, "info alice\n")
        await asyncio.sleep(MINUTE / 30)
        write(aliases, "info alice\nalice alice\n")
        await asyncio.sleep(MINUTE / 30)
        assert (await client.letter("info@ours.example")).startswith("250 ")
        await asyncio.sleep(1)
        assert accepted_by(inner) == ["alice@ours.example"]


@virtual
async def test_a_split_domain_sends_whom_it_does_not_know_to_the_other_and_they_stay_there_after_a_restart() -> None:
    inner, storage = Peer(), MemoryStorage()
    down = Peer(always={"MAIL": "450 4.3.2 not now"})
    routes = to_host("ours.example", INNER) + SPLIT
    async with whole(routes, {INNER: inner, OLD: down}, storage=lambda _: storage) as service:
        client = await service.client(STRANGER)
        await client.letter("alice@ours.example", "zoe@ours.example")
        await asyncio.sleep(1)
        assert accepted_by(inner) == ["alice@ours.example"]
    up = Peer()
    async with whole(routes, {INNER: inner, OLD: up}, storage=lambda _: storage) as service:
        await service.storage.retry(Selection(), now=service.clock.now())
        await asyncio.sleep(10 * MINUTE)
        assert accepted_by(up) == ["zoe@ours.example"]
        assert accepted_by(inner) == ["alice@ours.example"]


async def rcpt(client: Client, address: str) -> str:
    """The reply to RCPT, in a transaction that is left open."""
    return await client.say(f"MAIL FROM:<{AUTHOR}>", f"RCPT TO:<{address}>")


def write(file: Path, text: str) -> None:
    """What an administrator does meanwhile."""
    file.write_text(text, "utf-8")


# ---- the guide
def printed(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def told() -> list[tuple[str, list[str]]]:
    """The guide's table: what is sent to, and who gets it."""
    rows = re.findall(r"^\| `(\S+@\S+)` \| (.*?) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    return [(address, re.findall(r"`([^`]+)`", result)) for address, result in rows]


@pytest.mark.parametrize(("address", "result"), told())
@virtual
async def test_the_guide_s_settings_do_as_its_table_says(address: str, result: list[str], tmp_path: Path) -> None:
    (config,) = printed("toml")
    for text in printed("text"):
        (tmp_path / text.split()[1]).write_text(text, "utf-8")
    settings = "[[map]]" + config.partition("[[map]]")[2]
    inner, outer = Peer(), Peer()
    async with whole(
        to_host("example.com", INNER) + to_host("*", OUTER) + settings, {INNER: inner, OUTER: outer}, base=tmp_path
    ) as service:
        client = await service.client(STRANGER)
        reply = await rcpt(client, address)
        if reply.startswith("250 "):
            await client.say("RSET")
            await client.letter(address)
        await asyncio.sleep(1)
        got = accepted_by(inner) + accepted_by(outer)
        assert result == ([reply[:9]] if reply.startswith("5") else sorted(got))


def test_the_guide_s_table_has_rows() -> None:
    assert len(told()) >= 8


@virtual
async def test_a_client_is_told_where_a_recipient_is_forwarded_to_or_has_moved() -> None:
    """RFC 5321 §3.4: 251, and the mail is taken; 551, and the client sends there itself."""
    settings = (
        '[[domain]]\nnames = ["ours.example"]\naliases = ["people"]\n[[map]]\nname = "people"\n'
        'entries = { bob = "251 robert@home.example", carol = "551 carol@far.example" }\n'
    )
    async with whole(settings) as service:
        client = await service.client()
        await client.say(f"MAIL FROM:<{AUTHOR}>")
        said = await client.say("RCPT TO:<bob@ours.example>")
        assert said == "251 2.1.5 User not local; will forward to <robert@home.example>"
        said = await client.say("RCPT TO:<carol@ours.example>")
        assert said == "551 5.1.6 User not local; please try <carol@far.example>"
        await client.say("DATA")
        await client.send(LETTER + b".\r\n")
        assert len(await service.inbox()) == 1
