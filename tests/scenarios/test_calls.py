"""Mail that waits until it is called for (ETRN, ATRN), and calling for our own, through the whole service."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path

import pytest

from tests.deliver.peer import Peer
from tests.receive.house import SOON
from tests.scenarios.whole import LETTER, Client, Whole, accepted_by, bodies, to_host, whole
from tests.virtual import virtual
from waypost.admin.answers import ActBody
from waypost.auth.users import hashed, save_users
from waypost.deliver.calls import ANSWER
from waypost.deliver.dispatch import ANSWERING
from waypost.net.stream import Fault, Stream
from waypost.net.tls import IN_CLEAR, TlsFacts
from waypost.queue.storage import Selection

ONE = "192.0.2.1"
PROVIDER = "127.0.0.9"
HUB = """\
[auth]
users = "users"
[[listener]]
address = "127.0.0.1:0"
role = "submission"
[[route]]
domains = ["spoke.example", "branch.example"]
to = "atrn:spoke"
"""


def users_in(base: Path) -> None:
    save_users(base / "users", {name: hashed(name, "sesame") for name in ("spoke", "other")})


async def caller(service: Whole, name: str = "spoke") -> Client:
    """A session of this account at the submission listener."""
    service.door = service.doors[1]
    client = await service.client()
    secret = b64encode(f"\0{name}\0sesame".encode()).decode()
    assert (await client.say(f"AUTH PLAIN {secret}")).startswith("235")
    service.door = service.doors[0]
    return client


@virtual
async def test_a_customer_s_mail_waits_for_his_call_and_goes_over_his_own_connection(tmp_path: Path) -> None:
    users_in(tmp_path)
    async with whole(HUB, base=tmp_path) as service:
        await service.take("bob@spoke.example", "carol@branch.example")
        await service.take("bob@spoke.example")
        await asyncio.sleep(3 * 3600)
        waiting = await service.queue()
        assert [one.attempts for one in waiting] == [1, 1, 1]
        assert "it is kept here and waits for spoke to call for it" in waiting[0].last_outcome
        client, spoke = await caller(service), Peer()
        assert (await client.say("ATRN")).startswith("250 2.0.0 OK, the connection is turned round")
        await spoke(client.stream)
        assert sorted(accepted_by(spoke)) == ["bob@spoke.example", "bob@spoke.example", "carol@branch.example"]
        assert spoke.verbs[0][0] == "EHLO"
        assert len(spoke.connections) == 1
        assert await service.queue() == []
        assert await (await caller(service)).say("ATRN") == "453 4.0.0 you have no mail"


@virtual
async def test_only_the_domains_asked_for_are_sent_and_only_to_the_account_whose_they_are(tmp_path: Path) -> None:
    users_in(tmp_path)
    async with whole(HUB, base=tmp_path) as service:
        await service.take("bob@spoke.example")
        await service.take("carol@branch.example")
        other = await caller(service, "other")
        assert (await other.say("ATRN spoke.example")).startswith("450 4.7.1")
        client, spoke = await caller(service), Peer()
        assert (await client.say("ATRN nowhere.example")).startswith("453")
        assert (await client.say("ATRN branch.example")).startswith("250")
        await spoke(client.stream)
        assert accepted_by(spoke) == ["carol@branch.example"]
        assert [one.forward_path for one in await service.queue()] == ["bob@spoke.example"]


@virtual
async def test_while_a_call_is_answered_nobody_else_takes_the_mail_that_is_due_for_it(tmp_path: Path) -> None:
    """A slow caller: the dispatcher looks at what is due several times before he has taken his first message."""
    users_in(tmp_path)
    async with whole(HUB, base=tmp_path) as service:
        for name in ("bob", "carol", "dave"):
            await service.take(f"{name}@spoke.example")
        client, spoke = await caller(service), Peer(pauses={"dot": 100})
        assert (await client.say("ATRN")).startswith("250")
        await spoke(client.stream)
        assert sorted(accepted_by(spoke)) == ["bob@spoke.example", "carol@spoke.example", "dave@spoke.example"]


@virtual
async def test_what_falls_due_during_a_call_for_another_domain_is_not_sent_in_it(tmp_path: Path) -> None:
    users_in(tmp_path)
    async with whole(HUB, base=tmp_path) as service:
        await service.take("bob@spoke.example")
        await service.take("carol@branch.example")
        client, spoke = await caller(service), Peer(pauses={"dot": 10})
        assert (await client.say("ATRN branch.example")).startswith("250")
        sending = asyncio.ensure_future(spoke(client.stream))
        await asyncio.sleep(5)
        await service.storage.retry(Selection(), now=service.clock.now())
        await sending
        assert accepted_by(spoke) == ["carol@branch.example"]
        assert [one.forward_path for one in await service.queue()] == ["bob@spoke.example"]


@virtual
async def test_two_calls_at_once_send_nothing_twice(tmp_path: Path) -> None:
    users_in(tmp_path)
    async with whole(HUB, base=tmp_path) as service:
        await service.take("bob@spoke.example")
        first, second = await caller(service), await caller(service)
        assert (await first.say("ATRN")).startswith("250")
        assert (await second.say("ATRN")).startswith("451 4.3.2")
        spoke = Peer()
        await spoke(first.stream)
        assert accepted_by(spoke) == ["bob@spoke.example"]


@virtual
async def test_a_caller_who_hangs_up_gets_his_mail_at_the_next_call(tmp_path: Path) -> None:
    users_in(tmp_path)
    async with whole(HUB, base=tmp_path) as service:
        await service.take("bob@spoke.example")
        client = await caller(service)
        assert (await client.say("ATRN")).startswith("250")
        client.stream.abort()
        await asyncio.sleep(1)
        client, spoke = await caller(service), Peer()
        assert (await client.say("ATRN")).startswith("250")
        await spoke(client.stream)
        assert bodies(spoke) == [LETTER]


@virtual
async def test_what_nobody_calls_for_is_reported_as_late_and_comes_back_in_the_end(tmp_path: Path) -> None:
    users_in(tmp_path)
    short = '[retry]\nexpire = "3h"\ndelay_notice = "1h"\n'
    async with whole(HUB, base=tmp_path, schedule=short) as service:
        name = await service.take("bob@spoke.example")
        await asyncio.sleep(4000)
        (delay,) = await service.inbox()
        assert b"Action: delayed" in delay
        assert b"waits for spoke to call for it" in delay
        await asyncio.sleep(8000)
        assert b"Action: failed" in (await service.inbox())[-1]
        assert await service.queue() == []
        assert await service.attempts(name) == 3


ON_DEMAND = to_host("spoke.example", ONE, 'deliver = "on-demand"')


@virtual
async def test_mail_on_demand_waits_for_etrn_and_is_then_sent_to_its_host() -> None:
    spoke = Peer()
    async with whole(ON_DEMAND, {ONE: spoke}) as service:
        await service.take("bob@spoke.example")
        await asyncio.sleep(3600)
        assert spoke.connections == []
        client = await service.client()
        assert (await client.say("ETRN spoke.example")).startswith("253 2.0.0 1 ")
        await asyncio.sleep(1)
        assert accepted_by(spoke) == ["bob@spoke.example"]
        await service.take("carol@spoke.example")
        await asyncio.sleep(1)
        assert accepted_by(spoke) == ["bob@spoke.example", "carol@spoke.example"]  # it has just called
        await asyncio.sleep(3600)
        await service.take("dave@spoke.example")
        await asyncio.sleep(3600)
        assert len(accepted_by(spoke)) == 2


@virtual
async def test_an_operator_releases_mail_on_demand_by_naming_its_next_hop_as_he_opens_a_window() -> None:
    spoke = Peer()
    async with whole(ON_DEMAND, {ONE: spoke}) as service:
        await service.take("bob@spoke.example")
        await asyncio.sleep(3600)
        desk = service.running.operations
        await desk.act("retry", ActBody(domain="spoke.example"))
        await asyncio.sleep(60)
        assert spoke.connections == []
        await desk.act("retry", ActBody(next_hop=f"smtp://{ONE}:25"))
        await asyncio.sleep(60)
        assert accepted_by(spoke) == ["bob@spoke.example"]


@virtual
async def test_a_call_bars_others_as_long_as_it_lasts_and_half_a_minute_after_its_process_has_died(
    tmp_path: Path,
) -> None:
    """A process that was killed amid a call barred the account's next one for five minutes."""
    users_in(tmp_path)
    async with whole(HUB, base=tmp_path) as service:
        await service.take("bob@spoke.example")
        client, spoke = await caller(service), Peer(pauses={"dot": 200})
        assert (await client.say("ATRN")).startswith("250")
        sending = asyncio.ensure_future(spoke(client.stream))
        for _ in range(3):
            await asyncio.sleep(60)
            assert (await (await caller(service)).say("ATRN")).startswith("451 4.3.2")
        await sending
        await asyncio.sleep(1)
        # What a process leaves that is killed: its word that it answers a call, and nobody who renews it.
        now = service.clock.now()
        await service.storage.keep(ANSWERING, "atrn:spoke", b"", until=now + ANSWER.total_seconds())
        await service.take("carol@spoke.example")
        assert (await (await caller(service)).say("ATRN")).startswith("451 4.3.2")
        await asyncio.sleep(30)
        client, spoke = await caller(service), Peer()
        assert (await client.say("ATRN")).startswith("250")
        await spoke(client.stream)
        assert accepted_by(spoke) == ["carol@spoke.example"]


# ---- TLS over a connection that is turned round
@pytest.mark.parametrize("is_under_tls", [True, False])
@virtual
async def test_within_a_caller_s_tls_starttls_is_not_asked_for(
    tmp_path: Path,
    is_under_tls: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    """RFC 3207 §4.2: a second TLS within the first is nobody's wish; in clear, what the caller offers is taken."""
    users_in(tmp_path)
    async with whole(HUB, base=tmp_path) as service:
        await service.take("bob@spoke.example")
        client, spoke = await caller(service), Peer(extensions=("STARTTLS",))
        theirs = client.stream._other
        if is_under_tls:
            theirs.tls = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384")
        assert (await client.say("ATRN")).startswith("250")
        await spoke(client.stream)
        assert accepted_by(spoke) == ["bob@spoke.example"]
        assert ("STARTTLS" in spoke.verbs[0]) is not is_under_tls


# ---- calling others
class KeepsMail:
    """A provider, scripted: takes a login, and a command; by ATRN it sends one message over our connection."""

    def __init__(self, to: str = "bob@home.example", answer: bytes = b"250 OK") -> None:
        self.to = to
        self.answer = answer
        self.heard: list[bytes] = []
        self.replies: list[bytes] = []

    async def __call__(self, stream: Stream) -> None:
        assert stream.tls is IN_CLEAR
        stream.write(b"220 provider\r\n")
        while True:
            line = await self._line(stream)
            self.heard.append(line)
            match line.split(b" ")[0]:
                case b"EHLO":
                    stream.write(b"250-provider\r\n250-AUTH PLAIN\r\n250 ATRN\r\n")
                case b"AUTH":
                    stream.write(b"235 welcome\r\n")
                case b"ATRN":
                    stream.write(self.answer + b"\r\n")
                    if self.answer.startswith(b"250"):
                        await self._send(stream)
                        return
                case b"ETRN":
                    stream.write(self.answer + b"\r\n")
                case _:
                    stream.write(b"221 bye\r\n")
                    await stream.close()
                    return

    async def _send(self, stream: Stream) -> None:
        self.replies.append(await self._line(stream))
        for octets in (b"EHLO provider", b"MAIL FROM:<>", b"RCPT TO:<%b>" % self.to.encode(), b"DATA", LETTER + b"."):
            stream.write(octets + b"\r\n")
            reply = await self._line(stream)
            while reply[3:4] == b"-":
                reply = await self._line(stream)
            self.replies.append(reply)
            if reply[0] not in b"23":
                break
        stream.write(b"QUIT\r\n")
        await self._line(stream)
        await stream.close()

    _rest = b""

    async def _line(self, stream: Stream) -> bytes:
        while b"\r\n" not in self._rest:
            octets = await stream.read(SOON)
            if isinstance(octets, Fault):
                return b"(gone)"
            self._rest += octets
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line


def fetch(*more: str) -> str:
    return "\n".join(["[[fetch]]", 'name = "provider"', f'server = "smtp://{PROVIDER}:25"', *more, ""])


def by_atrn(base: Path) -> str:
    (base / "password").write_text("sesame")
    return fetch('username = "us"', 'password_file = "password"', 'domains = ["home.example"]')


@virtual
async def test_our_mail_is_fetched_over_the_connection_that_we_make(tmp_path: Path) -> None:
    provider = KeepsMail()
    async with whole(by_atrn(tmp_path), {PROVIDER: provider}, base=tmp_path) as service:
        await asyncio.sleep(10)
        assert provider.heard[:3] == [b"EHLO mx.example.net", b"AUTH PLAIN AHVzAHNlc2FtZQ==", b"ATRN home.example"]
        assert provider.replies[0].startswith(b"220 mx.example.net")
        (octets,) = await service.inbox()
        assert octets.endswith(LETTER)
        assert b"from provider ([127.0.0.9])" in octets
        await asyncio.sleep(3600)
        assert provider.heard.count(b"ATRN home.example") == 5


@virtual
async def test_a_provider_brings_mail_for_our_own_domains_alone(tmp_path: Path) -> None:
    """Its address is in relay.networks, and the connection is ours: neither makes us its relay."""
    provider = KeepsMail(to="eve@elsewhere.example")
    routes = by_atrn(tmp_path) + to_host("*", ONE)
    async with whole(routes, {PROVIDER: provider, ONE: Peer()}, base=tmp_path) as service:
        await asyncio.sleep(10)
        assert provider.replies[-1].startswith(b"550 5.7.1 relaying denied")
        assert await service.queue() == []


@pytest.mark.parametrize(
    ("answer", "event"),
    [
        ("453 you have no mail", ""),
        ("451 not now", "not fetched; it is tried again"),
        ("550 not you", "not fetched; it is tried again"),
    ],
)
@virtual
async def test_no_mail_is_no_failure_and_a_refusal_is_tried_again(
    answer: str, event: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    provider = KeepsMail(answer=answer.encode())
    async with whole(by_atrn(tmp_path), {PROVIDER: provider}, base=tmp_path) as service:
        await asyncio.sleep(10)
        assert provider.heard[-1] == b"QUIT"
        provider.answer = b"250 here it is"
        await asyncio.sleep(900)
        assert len(await service.inbox()) == 1
        service.running.log.close()  # a thread writes it
    told = [line for line in capfd.readouterr().err.splitlines() if f'"event":"{event}"' in line]
    assert len(told) == (1 if event else 0)
    assert all(answer in line for line in told)


@virtual
async def test_a_provider_is_asked_by_etrn_to_connect_to_us() -> None:
    provider = KeepsMail(answer=b"253 2 pending messages")
    settings = fetch('command = "etrn"', 'domains = ["home.example", "ours.example"]', 'every = "1h"')
    async with whole(settings, {PROVIDER: provider}):
        await asyncio.sleep(10)
        assert provider.heard[1:] == [b"ETRN home.example", b"ETRN ours.example", b"QUIT"]
