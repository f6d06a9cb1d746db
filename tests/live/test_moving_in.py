"""Coming from a Postfix or an Exim that runs: its configuration, and the mail it could not deliver."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.admin.translations import way
from tests.live.exim import BINARY, exim
from tests.live.mail import to_port
from tests.live.postfix import postfix
from tests.live.process import free_port, must_run, run, until
from tests.live.service import prepare, running, waypost
from tests.live.sink import Sink, sink
from waypost.config import Config, parse
from waypost.net.clock import SystemClock

pytestmark = pytest.mark.live


async def test_what_waits_in_postfix_is_delivered_by_us(place: Path, peer_place: Path) -> None:
    nowhere = free_port()
    async with postfix(peer_place, {"relayhost": f"[127.0.0.1]:{nowhere}"}) as old:
        for user in ("bob", "carl"):
            body = f"a line for {user}\n" + "x" * 5000
            await must_run(
                "swaks", "--server", f"127.0.0.1:{old.port}", "--from", "ann@far.example", "--silent", "2",
                "--to", f"{user}@example.test", "--body", body,
            )  # fmt: skip

        async def deferred() -> bool:
            return len([path for path in (peer_place / "queue/deferred").rglob("*") if path.is_file()]) == 2

        await until(deferred, "both wait", log=old.log)
        command = (sys.executable, "-m", "waypost", "import", "postfix-queue", "--from", peer_place / "queue")
        (place / "box").mkdir()
        refused = await run(*command, "--into", place / "box")
        assert (refused.code, "stop it first" in refused.errors) == (1, True)
    async with sink() as new:
        settings = f'[pickup]\ndirectory = "box"\n[[route]]\ndomains = ["*"]\nto = "smtp://127.0.0.1:{new.port}"\n'
        async with waypost(place, settings):
            moved = await must_run(*command, "--into", place / "box", "--delete")
            assert "2 messages, for 2 recipients" in moved.output
            await new.messages(2)
        assert sorted(message.forward_paths[0] for message in new.taken) == ["bob@example.test", "carl@example.test"]
        assert all(message.reverse_path == "ann@far.example" for message in new.taken)
        assert all(b"x" * 900 in message.octets for message in new.taken)
        assert not await deferred()
    translated = await run(
        sys.executable, "-m", "waypost", "import", "postfix", "--from", peer_place / "config", "--into", place / "out"
    )
    assert translated.code == 0, translated.output + translated.errors
    assert f'to = "smtp://127.0.0.1:{nowhere}"' in (place / "out/waypost.toml").read_text()


#: What one client says to either of them, with all that DSN lets it ask for.
SAID = (
    "EHLO x.test",
    "MAIL FROM:<ann@far.example> RET=HDRS ENVID=QQ314",
    "RCPT TO:<bob@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+2Balias@example.test",
    "RCPT TO:<carl@example.test> NOTIFY=NEVER",
    "RCPT TO:<dora@example.test>",
    "DATA",
    "Subject: hi\r\nFrom: ann@far.example\r\n\r\nbödy\r\n..dot\r\n.",
)


async def say(port: int) -> None:
    """Hand the message in. Raises: AssertionError, at the first refusal."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for line in ("", *SAID):
        if line:
            writer.write(f"{line}\r\n".encode())
        while (heard := await reader.readline())[3:4] == b"-":
            pass
        assert heard[:1] in (b"2", b"3"), heard
    writer.close()


async def arrived_by_archive(archive: Path, place: Path, by: str) -> None:
    """Put the archive into a new service's queue, twice, and see all of it arrive once, as it was asked for."""
    async with sink() as new:
        service = prepare(place, to_port(new.port))
        first = await service.cli("queue", "import", str(archive))
        assert (first.code, "1 message put in, for 3 recipients." in first.output) == (0, True), first
        again = await service.cli("queue", "import", str(archive))
        assert "1 message of it had been put in before" in again.output
        waiting = await service.queue()
        assert all(SystemClock().now() - float(str(entry["received_at"])) < 300 for entry in waiting)
        async with running(service):
            await new.until(lambda: len(arrived_at(new)) == 3, "all three recipients")
            told = (await service.cli("trace", "bob@example.test")).output
        assert f"imported from {by}" in told
        assert arrived_at(new) == ["bob@example.test", "carl@example.test", "dora@example.test"]
        assert all("bödy\r\n.dot".encode() in message.octets for message in new.taken)
        assert {message.reverse_path for message in new.taken} == {"ann@far.example"}


def arrived_at(new: Sink) -> list[str]:
    return sorted(path for message in new.taken for path in message.forward_paths)


async def test_what_waits_in_postfix_goes_by_an_archive_with_all_that_was_asked(place: Path, peer_place: Path) -> None:
    async with postfix(peer_place, {"relayhost": f"[127.0.0.1]:{free_port()}"}) as old:
        await say(old.port)

        async def waits() -> bool:
            return any(path.is_file() for path in (peer_place / "queue/deferred").rglob("*"))

        await until(waits, "it waits", log=old.log)
    await to_archive("postfix-queue", peer_place / "queue", place)
    await arrived_by_archive(place / "queue.tar", place, "postfix")


async def test_what_waits_in_exim_goes_by_an_archive_with_all_that_was_asked(place: Path, peer_place: Path) -> None:
    options = "tls_advertise_hosts =\nqueue_only = true\ndsn_advertise_hosts = *\n"
    async with exim(peer_place, "example.test", "bob", "carl", "dora", tls=options) as old:
        await say(old.port)

        async def waits() -> bool:
            return len(list((peer_place / "spool/input").rglob("*-H"))) == 1

        await until(waits, "it waits")
    await to_archive("exim-queue", peer_place / "spool", place)
    await arrived_by_archive(place / "queue.tar", place, "exim")


async def to_archive(command: str, spool: Path, place: Path) -> None:
    words = ("import", command, "--from", spool, "--archive", place / "queue.tar")
    said: list[str] = []

    async def is_moved() -> bool:
        ran = await run(sys.executable, "-m", "waypost", *words)
        said[:] = [ran.output + ran.errors]
        return "stop it first" not in ran.errors  # its master takes a moment to end

    await until(is_moved, "the old one to have ended")
    assert "1 message, for 3 recipients" in said[0]


#: Routers of many kinds, none of which asks DNS.
ROUTERS = """\
exim_user = Debian-exim
exim_group = Debian-exim
exim_path = {binary}
primary_hostname = mail.example.com
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
keep_environment =
tls_advertise_hosts =
domainlist local_domains = @ : example.com
begin routers
hubs:
  driver = manualroute
  domains = partial-lsearch;{directory}/hubs
  route_data = ${{lookup{{$domain}}partial-lsearch{{{directory}/hubs}}}}
  transport = remote_smtp
bad:
  driver = redirect
  domains = bad.example
  allow_fail
  data = :fail: no such domain
listed:
  driver = manualroute
  route_list = one.example 10.0.0.1 byname ; *.sub.example "10.0.0.2::26:10.0.0.3" ; \\
               !+local_domains 10.0.0.4
  transport = smart
  no_more
local:
  driver = accept
  domains = +local_domains
  transport = store
begin transports
remote_smtp:
  driver = smtp
smart:
  driver = smtp
  port = 587
store:
  driver = lmtp
  socket = /run/lmtp
"""
HUBS = "hub.example: 10.0.0.9::2525\n*.deep.example: 10.0.0.8\n"
DOMAINS = (
    "hub.example", "a.hub.example", "deep.example", "a.deep.example", "bad.example", "one.example", "a.one.example",
    "sub.example", "a.sub.example", "far.example", "example.com", "mail.example.com", "a.example.com",
)  # fmt: skip


async def test_the_translation_routes_as_exim_does(place: Path, peer_place: Path) -> None:
    (peer_place / "exim.conf").write_text(ROUTERS.format(binary=BINARY, directory=peer_place))
    (peer_place / "hubs").write_text(HUBS)
    (peer_place / "spool").mkdir()
    said = await run(BINARY, "-C", peer_place / "exim.conf", "-bt", *(f"x@{domain}" for domain in DOMAINS))
    answers = re.split(r"^(?=x@)", said.output, flags=re.MULTILINE)[1:]
    theirs = {re.split(r"[@\s]", answer)[1]: way_of_exim(answer) for answer in answers}
    assert list(theirs) == list(DOMAINS), said
    await must_run(
        sys.executable, "-m", "waypost", "import", "exim", "--from", peer_place / "exim.conf", "--into", place / "out"
    )
    text = (place / "out/waypost.toml").read_text()
    parsed = parse(text, where="waypost.toml", base=place / "out")
    assert isinstance(parsed, Config), text
    assert {domain: way(parsed, f"x@{domain}").partition(" ")[0] for domain in DOMAINS} == theirs, text


def way_of_exim(answer: str) -> str:
    """What `exim -bt` says of one address, in our words."""
    if "undeliverable" in answer:
        return "reject:550"
    if "transport = store" in answer:
        return "lmtp:///run/lmtp"
    port = "587" if "transport = smart" in answer else "25"
    hosts = re.findall(r"host \S+ +\[(\S+)\](?:.*port=(\d+))?", answer)
    return ",".join(f"smtp://{host}:{own or port}" for host, own in hosts)
