"""Each example is started as it stands, with what its names lead to played by the test, and mail is sent through it."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from tests.certificates import write_certificate
from waypost.config import Config, load
from waypost.testing.peer import Peer
from waypost.testing.service import REFUSES, Hosts, Service, Stage

EXAMPLES = Path(__file__).parents[2] / "examples"
OUTSIDE = "203.0.113.9"
OFFICE = "192.168.0.5"
#: Names, and who they are here.
ADDRESSES = {
    "hub1.example.net": "192.0.2.1",
    "hub2.example.net": "192.0.2.2",
    "mail.example.net": "192.0.2.3",
    "smtp.provider.example": "192.0.2.4",
    "smtp.bulk.example": "192.0.2.5",
    "smtp.mail.example": "192.0.2.6",
    "spare.example.net": "192.0.2.7",
    "new.example.com": "192.0.2.8",
    "old.example.com": "192.0.2.9",
    "mx1.example.com": "192.0.2.10",
    "relay.example.net": "192.0.2.11",
    "bulk.example.net": "192.0.2.12",
    "mail.partner.example": "192.0.2.13",
    "store.example.com": "192.0.2.14",
}
ZONE = "\n".join(
    [
        *(f"{name}. 300 A {address}" for name, address in ADDRESSES.items()),
        "example.com. 300 MX 10 mx1.example.com.",
        "example.com. 300 MX 20 backup.example.net.",
    ]
)


def at(name: str, port: int = 25) -> str:
    return f"{ADDRESSES[name]}:{port}"


def got(peer: Peer) -> list[str]:
    """The recipients a peer has taken mail for."""
    return [recipient for recipients, _ in peer.accepted for recipient in recipients]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the certificate that examples name."""
    place = tmp_path_factory.mktemp("certificates")
    write_certificate(trustme.CA(), place, "hub.example.net", file="mx")
    return place


@pytest.fixture
def copied(tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The examples with what they need beside them."""
    for name in ("WEBHOOK_SECRET", "HUB_PASSWORD"):
        monkeypatch.setenv(name, "a secret")
    place = tmp_path / "examples"
    shutil.copytree(EXAMPLES, place, ignore=shutil.ignore_patterns(".run", "__pycache__"))
    shutil.copytree(certificates, place, dirs_exist_ok=True)
    return place


@pytest.fixture
def play(copied: Path) -> Callable[..., None]:
    """Runs an example, in a copy of the directory."""
    stage = Stage(copied)

    def run(example: str, scene: Callable[[Service], Awaitable[None]], hosts: Hosts) -> None:
        stage.run(f"{example}.toml", scene, hosts=hosts, zone=ZONE)

    return run


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.toml")))
def test_each_example_is_in_order_and_listed(example: str, copied: Path) -> None:
    found = load(copied / example)
    assert isinstance(found, Config), str(found)
    assert f"[{example}]({example})" in (EXAMPLES / "README.md").read_text("utf-8")


def test_the_hub_keeps_what_its_branch_calls_for_and_the_branch_s_own_mail_waits_for_the_hub(
    play: Callable[..., None],
) -> None:
    async def at_the_hub(service: Service) -> None:
        client = await service.client(OUTSIDE)
        assert (await client.letter("ann@branch.example.net")).startswith("250")
        assert (await client.letter("bob@far.example")).startswith("550 5.7.1")
        await service.clock.sleep(timedelta(hours=1))
        (waiting,) = await service.queue()
        assert waiting.next_hop == "atrn:branch"

    async def at_the_branch(service: Service) -> None:
        client = await service.client()
        assert (await client.letter("bob@far.example")).startswith("250")
        await service.clock.sleep(timedelta(hours=1))
        (waiting,) = await service.queue()
        assert "hub.example.net" in waiting.last_outcome

    play("atrn-hub", at_the_hub, {})
    play("atrn-spoke", at_the_branch, {})


def test_the_null_client_sends_by_the_second_hub_while_the_first_is_away(play: Callable[..., None]) -> None:
    hub = Peer()

    async def scene(service: Service) -> None:
        assert (await (await service.client()).letter("bob@example.org")).startswith("250")
        await service.quiet()
        assert got(hub) == ["bob@example.org"]
        stranger = await service.client(OUTSIDE)
        assert (await stranger.letter("bob@example.org")).startswith("550 5.7.1")

    play("null-client", scene, {at("hub1.example.net"): REFUSES, at("hub2.example.net"): hub})


def test_the_mx_asks_dovecot_who_exists(play: Callable[..., None]) -> None:
    store = Peer(lmtp=True, recipients={"nobody@example.com": "550 5.1.1 no such user"})

    async def scene(service: Service) -> None:
        client = await service.client(OUTSIDE)
        assert (await client.letter("nobody@example.com")).startswith("550 5.1.1")
        assert (await client.letter("info@example.com", "alice+shop@example.com")).startswith("250")
        assert (await client.letter("bob@elsewhere.example")).startswith("550 5.7.1")
        await service.quiet()
        assert sorted(got(store)) == ["alice+shop@example.com", "alice@example.com", "bob@example.com"]

    play("mx-for-dovecot", scene, {"/run/dovecot/lmtp:0": store})


def test_the_smart_host_keeps_mail_until_somebody_has_logged_in(play: Callable[..., None]) -> None:
    ours = Peer()

    async def scene(service: Service) -> None:
        client = await service.client()
        assert (await client.letter("bob@far.example", "ann@example.net")).startswith("250")
        await service.clock.sleep(timedelta(seconds=10))
        (waiting,) = await service.queue()
        assert waiting.forward_path == "bob@far.example"
        assert "ann@example.net" in got(ours)

    play("smart-host-oauth", scene, {at("mail.example.net"): ours})


def test_each_sender_has_its_relay_and_the_spare_one_takes_what_exceeds_a_quota(play: Callable[..., None]) -> None:
    office, bulk, anns, spare = Peer(), Peer(), Peer(), Peer()

    async def scene(service: Service) -> None:
        client = await service.client(OFFICE)
        everybody = [f"user{number}@far.example" for number in range(400)]
        assert (await client.letter("bob@far.example", author="dan@example.net")).startswith("250")
        assert (await client.letter("bob@far.example", author="ann@example.net")).startswith("250")
        assert (await client.letter(*everybody, author="x@news.example.net")).startswith("250")
        assert (await client.letter(*everybody, author="x@news.example.net")).startswith("250")
        await service.quiet()
        assert (got(office), got(anns)) == (["bob@far.example"], ["bob@far.example"])
        assert len(got(bulk)) <= 500
        assert len(got(bulk)) + len(got(spare)) == 800

    peers = {
        at("smtp.provider.example", 587): office,
        at("smtp.bulk.example", 587): bulk,
        at("smtp.mail.example", 587): anns,
        at("spare.example.net"): spare,
    }
    play("sender-relays", scene, peers)


def test_who_has_moved_is_on_the_new_system_and_the_others_on_the_old(play: Callable[..., None]) -> None:
    new, old = Peer(), Peer()

    async def scene(service: Service) -> None:
        client = await service.client(OUTSIDE)
        assert (await client.letter("ann@example.com", "carl@example.com")).startswith("250")
        await service.quiet()
        assert (got(new), got(old)) == (["ann@example.com"], ["carl@example.com"])

    play("split-domain", scene, {at("new.example.com"): new, at("old.example.com"): old})


def test_the_backup_keeps_mail_until_the_first_mx_is_back_and_never_sends_it_to_itself(
    play: Callable[..., None],
) -> None:
    first = Peer(plan={"banner": ["421 4.3.2 not now"]})

    async def scene(service: Service) -> None:
        client = await service.client(OUTSIDE)
        assert (await client.letter("nobody@example.com")).startswith("550 5.1.1")
        assert (await client.letter("ann@example.com")).startswith("250")
        await service.quiet()
        assert got(first) == []
        await service.clock.sleep(timedelta(minutes=10))
        assert got(first) == ["ann@example.com"]

    play("backup-mx", scene, {at("mx1.example.com"): first})


def test_mail_for_the_spoke_waits_at_the_hub_until_it_asks(play: Callable[..., None]) -> None:
    spoke = Peer(plan={"banner": ["421 4.3.2 the line is down"]})

    async def scene(service: Service) -> None:
        assert (await (await service.client(OUTSIDE)).letter("ann@branch.example.net")).startswith("250")
        await service.quiet()
        assert [entry.state.value for entry in await service.queue()] == ["waiting"]
        stranger = await service.client(OUTSIDE)
        assert (await stranger.say("ETRN branch.example.net")).startswith("459")
        asker = await service.client("10.8.0.7")
        assert (await asker.say("ETRN branch.example.net")).startswith("253")
        await service.quiet()
        assert got(spoke) == ["ann@branch.example.net"]

    play("hub", scene, {"10.8.0.7:25": spoke})


def test_the_spoke_keeps_its_own_mail_and_sends_the_rest_by_the_hub(play: Callable[..., None], tmp_path: Path) -> None:
    hub, config = Peer(), tmp_path / "examples/spoke.toml"
    config.write_text(config.read_text("utf-8").replace("/var/mail", str(tmp_path / "mail")), "utf-8")

    async def scene(service: Service) -> None:
        client = await service.client("192.168.7.3")
        assert (await client.letter("ann@branch.example.net", "bob@far.example")).startswith("250")
        await service.quiet()
        assert got(hub) == ["bob@far.example"]
        assert len(list((tmp_path / "mail/branch.example.net/ann/new").iterdir())) == 1

    play("spoke", scene, {"10.8.0.1:25": hub})


def test_the_mailing_gateway_adds_a_footer_journals_and_chooses_relays(play: Callable[..., None]) -> None:
    journal, relay, bulk = Peer(), Peer(), Peer()

    async def scene(service: Service) -> None:
        client = await service.client("127.0.0.1")
        assert (await client.letter("x@rival.example", author="ann@example.net")).startswith("550 5.7.1 no mail for")
        assert (await client.letter("bob@far.example", author="ann@example.net")).startswith("250")
        assert (await client.letter("list@far.example", author="news@example.net")).startswith("250")
        assert (await client.letter("eve@partner.example", author="ann@example.net")).startswith("250")
        await service.quiet()
        assert (got(relay), got(bulk)) == (["bob@far.example"], ["list@far.example"])
        assert got(journal) == ["journal@example.net"] * 3
        assert b"Example Ltd., 1 Example Street" in relay.accepted[0][1]
        waits = [entry.next_hop for entry in await service.queue()]
        assert waits == ["smtp://mail.partner.example:25"]  # it offers no TLS, and we agreed on that

    peers = {
        at("mail.example.net"): journal,
        at("relay.example.net"): relay,
        at("bulk.example.net"): bulk,
        at("mail.partner.example"): Peer(),
    }
    play("mailing", scene, peers)


def test_one_of_the_workers_is_the_whole_service(play: Callable[..., None]) -> None:
    store = Peer()

    async def scene(service: Service) -> None:
        assert (await (await service.client(OUTSIDE)).letter("ann@example.com")).startswith("250")
        await service.quiet()
        assert got(store) == ["ann@example.com"]

    play("workers", scene, {at("store.example.com"): store})
