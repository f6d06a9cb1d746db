"""What becomes of each recipient of one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.deliver.peer import BODY, LMTP, ROUTE, SMTP, Peer, Plan, World, Wrong, endpoint, lease, recipient
from tests.virtual import virtual
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.smtp import Reached
from waypost.mail.envelope import InMemory, PossiblyAt
from waypost.mail.explain import describe
from waypost.mail.outcome import Deferred, Delivered, DnsFailed, InDoubt, LocalTrouble, NoSuchHost, Outcome, Rejected
from waypost.net.stream import FLUSHED, Fault, FaultKind, Flushed
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind
from waypost.route.route import Limits
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.extension import BodyType, MailParameters
from waypost.smtp.reply import EnhancedStatus

LMTP_ROUTE = replace(ROUTE, transport=LMTP)
both_ways = pytest.mark.parametrize("extensions", [(), ("PIPELINING",)], ids=["lockstep", "pipelined"])


def kinds(outcomes: list[Outcome]) -> list[type[Outcome]]:
    return [type(outcome) for outcome in outcomes]


@both_ways
@virtual
async def test_any_mixture_of_replies_to_rcpt_is_matched_in_order(extensions: tuple[str, ...]) -> None:
    peer = Peer(
        recipients={"user1@example.com": "550 5.1.1 nobody", "user3@example.com": "450 4.2.1 later"},
        extensions=extensions,
    )
    world = World(peer)
    outcomes = await world.attempt(lease([recipient(number) for number in range(5)]))
    assert kinds(outcomes) == [Delivered, Rejected, Delivered, Deferred, Delivered]
    assert peer.accepted == [(("user0@example.com", "user2@example.com", "user4@example.com"), BODY)]
    await world.close()


@both_ways
@virtual
async def test_a_recipient_that_is_put_off_goes_to_the_next_host_alone(extensions: tuple[str, ...]) -> None:
    peer = Peer(recipients={"user1@example.com": "450 4.2.1 later"}, extensions=extensions)
    second = Peer(extensions=extensions)
    world = World(peer, second)
    outcomes = await world.attempt(lease([recipient(0), recipient(1)]))
    assert kinds(outcomes) == [Delivered, Delivered]
    assert [names for names, _ in second.accepted] == [("user1@example.com",)]
    await world.close()


@both_ways
@pytest.mark.parametrize("full", ["452 4.5.3 too many", "452 too many", "552 5.5.3 too many", "552 too many"])
@virtual
async def test_too_many_recipients_are_split_and_the_rest_goes_on_at_once(
    full: str, extensions: tuple[str, ...]
) -> None:
    peer = Peer(plan={"RCPT": ["", "", full, full, ""]}, extensions=extensions)
    world = World(peer)
    outcomes = await world.attempt(lease([recipient(number) for number in range(4)]))
    assert kinds(outcomes) == [Delivered] * 4
    assert [len(names) for names, _ in peer.accepted] == [2, 2]
    assert len(peer.connections) == 1
    await world.close()


@virtual
async def test_a_full_mailbox_is_not_taken_for_a_full_transaction() -> None:
    peer = Peer(recipients={"user1@example.com": "452 4.2.2 mailbox full", "user2@example.com": "552 5.2.2 full"})
    world = World(peer)
    outcomes = await world.attempt(lease([recipient(number) for number in range(3)]))
    assert kinds(outcomes) == [Delivered, Deferred, Rejected]
    await world.close()


@virtual
async def test_a_host_that_takes_no_recipient_at_all_ends_the_splitting() -> None:
    peer = Peer(always={"RCPT": "452 4.5.3 too many"})
    world = World(peer)
    outcomes = await world.attempt(lease([recipient(number) for number in range(3)]))
    assert kinds(outcomes) == [Deferred] * 3
    await world.close()


@virtual
async def test_recipients_are_split_where_the_route_says_so() -> None:
    peer = Peer()
    world = World(peer, route=replace(ROUTE, limits=Limits(recipients=2, messages=2)))
    outcomes = await world.attempt(lease([recipient(number) for number in range(5)]))
    assert kinds(outcomes) == [Delivered] * 5
    assert [len(names) for names, _ in peer.accepted] == [2, 2, 1]
    assert [verbs.count("MAIL") for verbs in peer.verbs] == [2, 1]
    await world.close()


@both_ways
@virtual
async def test_replies_already_read_stand_when_the_connection_dies(extensions: tuple[str, ...]) -> None:
    peer, second = Peer(plan={"RCPT": ["550 5.1.1 nobody", "", Wrong.RST]}, extensions=extensions), Peer()
    world = World(peer, second)
    outcomes = await world.attempt(lease([recipient(number) for number in range(3)]))
    assert kinds(outcomes)[1:] == [Delivered, Delivered]
    taken = {name for names, _ in second.accepted for name in names}
    # A reset may overtake the refusal on its way; if the refusal was read it stands, and is asked of nobody else.
    assert isinstance(outcomes[0], Rejected) is ("user0@example.com" not in taken)
    await world.close()


@virtual
async def test_refusals_keep_their_own_reply_when_data_is_refused_for_want_of_recipients() -> None:
    peer = Peer(always={"RCPT": "550 5.1.1 nobody"})
    world = World(peer)
    outcomes = await world.attempt(lease([recipient(0), recipient(1)]))
    assert [str(outcome.status) for outcome in outcomes if isinstance(outcome, Rejected)] == ["5.1.1", "5.1.1"]
    await world.close()


@virtual
async def test_data_answered_354_with_no_recipient_gets_a_lone_dot() -> None:
    peer = Peer(always={"RCPT": "550 5.1.1 nobody", "DATA": "354 go on"})
    world = World(peer)
    outcomes = await world.attempt(lease([recipient(0)]))
    assert kinds(outcomes) == [Rejected]
    assert all(body.strip() == b"" for _, body in peer.accepted)
    await world.close()


# ---- what the message needs
@virtual
async def test_a_message_beyond_the_declared_size_is_rejected_unsent() -> None:
    peer, second = Peer(extensions=("SIZE 10",)), Peer()
    world = World(peer, second)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Rejected)
    assert str(outcome.status) == "5.3.4"
    assert (peer.verbs, second.connections) == ([["EHLO"]], [])
    await world.close()
    assert peer.verbs == [["EHLO", "QUIT"]]


EIGHT_BIT = MailParameters(body=BodyType.EIGHT_BIT_MIME)


SIGNED = (
    b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n\xe4\r\n--s\r\nContent-Type: x/y\r\n\r\n--s--\r\n"
)


@virtual
async def test_8bit_mail_is_converted_for_a_host_without_8bitmime_and_left_as_it_is_for_one_with_it() -> None:
    letter = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + "Grüße\r\n".encode()
    old, new = Peer(extensions=("SIZE 1000",)), Peer()
    for peer in (old, new):
        assert kinds(await World(peer).attempt(lease(octets=InMemory(letter), parameters=EIGHT_BIT))) == [Delivered]
    ((_, converted),) = old.accepted
    assert converted.endswith(b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n")
    assert old.connections[0][1] == f"MAIL FROM:<alice@example.org> SIZE={len(converted)}"
    ((_, untouched),) = new.accepted
    assert untouched == letter
    assert " BODY=8BITMIME" in new.connections[0][1]


@virtual
async def test_8bit_mail_that_is_signed_goes_to_the_next_host_with_8bitmime_and_is_rejected_where_all_lack_it() -> None:
    old, new = Peer(extensions=()), Peer()
    sent = lease(octets=InMemory(SIGNED), parameters=EIGHT_BIT)
    assert kinds(await World(old, new).attempt(sent)) == [Delivered]
    (outcome,) = await World(old, old).attempt(sent)
    assert isinstance(outcome, Rejected)
    assert str(outcome.status) == "5.6.3"


@virtual
async def test_a_lack_is_no_rejection_while_another_host_was_not_reached() -> None:
    sent = lease(octets=InMemory(SIGNED), parameters=EIGHT_BIT)
    for peers in (
        (Peer(always={"banner": "421 later"}), Peer(extensions=())),
        (Peer(extensions=()), Peer(always={"banner": "421 later"})),
    ):
        assert kinds(await World(*peers).attempt(sent)) == [Deferred]


BINARY = MailParameters(body=BodyType.BINARY_MIME)
IMAGE = b"MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n\r\xff"


@virtual
async def test_a_binary_body_is_converted_for_a_host_that_takes_no_chunks() -> None:
    for extensions in (("8BITMIME",), ("BINARYMIME", "8BITMIME"), ("CHUNKING", "8BITMIME"), ()):
        peer = Peer(extensions=extensions)
        assert kinds(await World(peer).attempt(lease(octets=InMemory(IMAGE), parameters=BINARY))) == [Delivered]
        ((_, body),) = peer.accepted
        assert body.endswith(b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAoN/w==\r\n")
        assert "BINARYMIME" not in peer.connections[0][1]


@virtual
async def test_mail_declared_8bit_that_is_not_goes_anywhere() -> None:
    peer = Peer(extensions=())
    assert kinds(await World(peer).attempt(lease(parameters=EIGHT_BIT))) == [Delivered]


@virtual
async def test_internationalised_mail_is_rejected_where_no_host_offers_smtputf8() -> None:
    wide = InMemory("Subject: Grüße\r\n\r\nx\r\n".encode())
    in_a_part = (
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Description: Grüße\r\n\r\nx\r\n--b--\r\n"
    )
    for octets in (wide, InMemory(in_a_part.encode())):
        sent = lease(octets=octets, parameters=MailParameters(smtputf8=True))
        (outcome,) = await World(Peer(extensions=("8BITMIME",))).attempt(sent)
        assert isinstance(outcome, Rejected)
        assert str(outcome.status) == "5.6.7"


@virtual
async def test_internationalised_mail_that_needs_it_not_goes_without_smtputf8() -> None:
    peer = Peer(extensions=("8BITMIME",))
    sent = lease(
        octets=InMemory("Subject: x\r\n\r\nGrüße\r\n".encode()),
        parameters=MailParameters(smtputf8=True, body=BodyType.EIGHT_BIT_MIME),
    )
    assert kinds(await World(peer).attempt(sent)) == [Delivered]
    assert peer.connections[0][1] == "MAIL FROM:<alice@example.org> BODY=8BITMIME"


@virtual
async def test_a_wide_domain_is_told_in_a_labels_and_only_a_wide_local_part_is_refused() -> None:
    peer = Peer(extensions=())
    to = [recipient(0, "bob@bücher.example"), recipient(1, "björn@example.com"), recipient(2, "carol@example.com")]
    outcomes = await World(peer).attempt(lease(to))
    assert kinds(outcomes) == [Delivered, Rejected, Delivered]
    assert peer.connections[0][2:4] == ["RCPT TO:<bob@xn--bcher-kva.example>", "RCPT TO:<carol@example.com>"]


WIDE = "bj\u00f6rn@example.com"


@virtual
async def test_an_address_that_is_not_ascii_needs_smtputf8_though_nobody_said_so() -> None:
    old, new = Peer(extensions=()), Peer()
    assert kinds(await World(old, new).attempt(lease([recipient(0, WIDE)]))) == [Delivered]
    (outcome,) = await World(old, old).attempt(lease([recipient(0, WIDE)]))
    assert isinstance(outcome, Rejected)
    assert str(outcome.status) == "5.6.7"
    assert "MAIL" not in {verb for verbs in old.verbs for verb in verbs}


@virtual
async def test_it_waits_where_ehlo_breaks_and_helo_leaves_open_what_the_host_could_take() -> None:
    peer = Peer(always={"EHLO": Wrong.FIN})
    (outcome,) = await World(peer).attempt(lease([recipient(0, WIDE)]))
    assert isinstance(outcome, Deferred)
    assert str(outcome.status) == "4.6.7"


@virtual
async def test_a_next_hop_without_dsn_is_told_of_in_the_outcome() -> None:
    (with_dsn,) = await World(Peer()).attempt()
    (without,) = await World(Peer(extensions=())).attempt()
    assert isinstance(with_dsn, Delivered)
    assert isinstance(without, Delivered)
    assert (with_dsn.relayed_without_dsn, without.relayed_without_dsn) == (False, True)
    assert not with_dsn.final


# ---- the spool
class Torn:
    """A message whose end cannot be read."""

    size = 300_000

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"Subject: torn\r\n\r\n"
        yield b"x" * 70 + b"\r\n"
        raise StorageError(StoreFault(StoreFaultKind.FAILED, "sector 7 is unreadable"))


@virtual
async def test_an_unreadable_spool_breaks_the_body_off_before_its_dot() -> None:
    peer, second = Peer(), Peer()
    (outcome,) = await World(peer, second).attempt(lease(octets=Torn()))
    assert isinstance(outcome, Deferred)
    assert isinstance(outcome.cause, LocalTrouble)
    assert "sector 7" in describe(outcome)
    assert (peer.accepted, second.connections) == ([], [])


class Chunked:
    """A message in chunks, as a spool gives it."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    @property
    def size(self) -> int:
        return sum(map(len, self._chunks))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


@virtual
async def test_a_body_cut_anywhere_arrives_whole() -> None:
    peer = Peer()
    chunks = [b"Subject: x\r", b"\n\r\n", b".", b"dot\r\n" + b"0123456789\r\n" * 20_000, b"..\r\n", b"end"]
    (outcome,) = await World(peer).attempt(lease(octets=Chunked(chunks)))
    assert isinstance(outcome, Delivered)
    ((_, body),) = peer.accepted
    assert body.replace(b"\r\n..", b"\r\n.") == b"".join(chunks) + b"\r\n"


# ---- in doubt
@pytest.mark.parametrize("size", [10, 100_000])
@virtual
async def test_a_body_that_may_not_leave_us_leaves_nothing_in_doubt(size: int) -> None:
    peer = Peer()
    world, sent, fates = (
        World(peer),
        lease(octets=InMemory(b"x\r\n" * (size // 3) + b"lone\nfeed\r\n")),
        Fates([recipient(0)]),
    )
    with pytest.raises(LocalProtocolError):
        await world.smtp.deliver(sent, ROUTE, SMTP, fates, world.transcript)
    assert kinds([outcome for _, outcome in fates.closed(deferred(LocalTrouble("a bug")))]) == [Deferred]
    assert peer.accepted == []


@virtual
async def test_a_host_that_may_hold_the_message_is_asked_first_next_time() -> None:
    first, second = Peer(), Peer()
    world = World(first, second)
    held = [recipient(0, doubt=PossiblyAt(str(endpoint(1))), attempts=1)]
    assert kinds(await world.attempt(lease(held))) == [Delivered]
    assert (first.connections, len(second.accepted)) == ([], 1)
    await world.close()


@virtual
async def test_recipients_in_doubt_do_not_take_the_refused_ones_with_them() -> None:
    peer, second = Peer(plan={"dot": [Wrong.FIN]}, recipients={"user1@example.com": "550 5.1.1 nobody"}), Peer()
    outcomes = await World(peer, second).attempt(lease([recipient(0), recipient(1)]))
    assert kinds(outcomes) == [InDoubt, Rejected]
    assert second.connections == []


# ---- LMTP
@virtual
async def test_lmtp_answers_each_recipient_for_itself() -> None:
    peer = Peer(plan={"dot": ["", "452 4.2.2 full", "550 5.7.1 no"]}, lmtp=True)
    outcomes = await World(peer, route=LMTP_ROUTE).attempt(lease([recipient(number) for number in range(3)]))
    assert kinds(outcomes) == [Delivered, Deferred, Rejected]
    assert isinstance(outcomes[0], Delivered)
    assert outcomes[0].final
    assert peer.verbs[0][0] == "LHLO"


@pytest.mark.parametrize("wrong", list(Wrong))
@virtual
async def test_lmtp_replies_got_stand_and_the_rest_is_in_doubt(wrong: Wrong) -> None:
    peer, second = Peer(plan={"dot": ["", wrong]}, lmtp=True), Peer(lmtp=True)
    world = World(peer, second, route=LMTP_ROUTE)
    outcomes = await world.attempt(lease([recipient(number) for number in range(3)]))
    assert kinds(outcomes) == [Delivered, InDoubt, InDoubt], str(world.transcript)
    assert second.connections == []


@virtual
async def test_lmtp_knows_no_helo() -> None:
    peer = Peer(always={"LHLO": Wrong.FIN}, lmtp=True)
    assert kinds(await World(peer, route=LMTP_ROUTE).attempt()) == [Deferred]
    assert peer.verbs == [["LHLO"]]


# ---- DNS
@virtual
async def test_dns_that_fails_defers_and_dns_that_denies_rejects() -> None:
    world = World(Peer())
    world.finder.answer = DnsFailed("example.com", "SERVFAIL")
    assert kinds(await world.attempt()) == [Deferred]
    world.finder.answer = NoSuchHost("example.com", "NXDOMAIN", EnhancedStatus(5, 1, 2))
    assert kinds(await world.attempt()) == [Rejected]


# ---- REQUIRETLS (RFC 8689 §4.2.1)
TAGGED = MailParameters(requiretls=True)


@virtual
async def test_a_message_tagged_requiretls_goes_under_verified_tls_to_a_host_that_promises_as_much() -> None:
    peer = Peer(extensions=("STARTTLS", "REQUIRETLS"))
    (outcome,) = await World(peer).attempt(lease(parameters=TAGGED))
    assert isinstance(outcome, Delivered)
    said = peer.connections[0]
    assert said.index("STARTTLS") < said.index("MAIL FROM:<alice@example.org> REQUIRETLS")


@virtual
async def test_a_message_tagged_requiretls_stays_so_though_its_header_does_not_mind() -> None:
    """RFC 8689 §4.1: where both are said, REQUIRETLS counts."""
    sent = lease(parameters=TAGGED)
    sent = replace(sent, message=replace(sent.message, tls_optional=True))
    (outcome,) = await World(Peer(extensions=("STARTTLS",))).attempt(sent)
    assert isinstance(outcome, Rejected)
    assert str(outcome.status) == "5.7.30"


@virtual
async def test_a_message_tagged_requiretls_comes_back_where_no_host_promises_it() -> None:
    promising, other = Peer(extensions=("STARTTLS", "REQUIRETLS")), Peer(extensions=("STARTTLS",))
    (outcome,) = await World(other).attempt(lease(parameters=TAGGED))
    assert isinstance(outcome, Rejected)
    assert str(outcome.status) == "5.7.30"
    (outcome,) = await World(other, promising).attempt(lease(parameters=TAGGED))
    assert isinstance(outcome, Delivered)


@virtual
async def test_a_message_tagged_requiretls_never_goes_in_clear_whatever_the_route_says() -> None:
    peer = Peer(extensions=("REQUIRETLS",))
    world = World(peer)
    (outcome,) = await world.attempt(lease(parameters=TAGGED))
    assert isinstance(outcome, Rejected)
    assert str(outcome.status) == "5.7.10"
    assert "STARTTLS is not offered" in describe(outcome)
    assert not any("MAIL" in said for said in peer.verbs)
    assert isinstance(world.reach, Reached), "what one message asks for says nothing of the next"


@pytest.mark.parametrize(
    ("script", "handshake", "kind"),
    [
        ({"EHLO": ["502 no such thing"]}, FLUSHED, Rejected),
        ({"STARTTLS": ["502 not today, nor ever"]}, FLUSHED, Rejected),
        ({}, Fault(FaultKind.TLS, "CERTIFICATE_VERIFY_FAILED: certificate has expired"), Rejected),
        ({"STARTTLS": ["454 not today"]}, FLUSHED, Deferred),
        ({"EHLO": ["421 later"]}, FLUSHED, Deferred),
        ({"EHLO": [Wrong.FIN, Wrong.FIN]}, FLUSHED, Deferred),
        ({"STARTTLS": [Wrong.RST]}, FLUSHED, Deferred),
        ({}, Fault(FaultKind.RESET), Deferred),
        ({}, Fault(FaultKind.TIMED_OUT), Deferred),
    ],
    ids=str,
)
@virtual
async def test_tagged_mail_comes_back_where_a_host_has_no_tls_and_waits_where_it_was_only_kept_from_it(
    script: Plan, handshake: Flushed | Fault, kind: type[Outcome]
) -> None:
    peer = Peer(script, extensions=("STARTTLS", "REQUIRETLS"))
    (outcome,) = await World(peer, handshake=handshake).attempt(lease(parameters=TAGGED))
    assert isinstance(outcome, kind), describe(outcome)
    assert isinstance(outcome, Deferred | Rejected)
    assert (str(outcome.status) == "5.7.10") == (kind is Rejected)


@virtual
async def test_tagged_mail_waits_while_a_host_that_may_have_tls_is_not_reached() -> None:
    """RFC 8689 §4.2.1: returned only once each of the hosts has shown that it cannot."""
    (outcome,) = await World(Peer(extensions=()), Fault(FaultKind.REFUSED)).attempt(lease(parameters=TAGGED))
    assert isinstance(outcome, Deferred)
