"""What every storage keeps: the invariants of waypost/queue/storage.py, one by one."""

# ruff: noqa: S311 - octets that are alike each time
from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.contract.conftest import Restartable
from tests.contract.letters import (
    BUSY,
    HOP,
    HOST,
    NO_SUCH_USER,
    NOW,
    OK,
    accept,
    claim_one,
    envelope,
    name,
    path,
    read,
    settlement,
    to,
    wait,
)
from waypost.mail.attempt import Attempt, Transcript
from waypost.mail.envelope import InMemory, MessageId, NextHop, PossiblyAt
from waypost.mail.outcome import InDoubt
from waypost.net.stream import Fault, FaultKind
from waypost.queue import ids
from waypost.queue.storage import (
    EDGE,
    Counts,
    Gone,
    Hold,
    Never,
    Notice,
    QueueEntry,
    ReadyHop,
    RecipientState,
    Search,
    Selection,
    Settlement,
    Storage,
    StorageError,
    Stored,
    StoreFault,
    StoreFaultKind,
    Tallied,
    Wait,
)
from waypost.smtp.extension import Notify

ALL = Selection()
FIRST = (MessageId(""), -1)
BERT, CARL, DORA = to("bert@example.org"), to("carl@example.com", "mx:example.com"), to("dora@example.org")


# ---- receiving
async def test_an_accepted_message_is_leased_to_who_brought_it(storage: Storage) -> None:
    stored = await accept(storage, 1, BERT, CARL, DORA, claim_for=60)

    assert [(lease.next_hop, [one.number for one in lease.recipients]) for lease in stored.leases] == [
        ("mx:example.org", [0, 2]),
        ("mx:example.com", [1]),
    ]
    assert await storage.ready(NOW + 1, limit=10) == []
    assert await storage.counts() == Counts(messages=1, recipients=3, held=0, reports_due=0)


async def test_a_message_that_is_held_from_the_first_is_leased_to_nobody_until_it_is_released(storage: Storage) -> None:
    held = replace(envelope(BERT, DORA), held="quarantine: listed")
    stored = await storage.accept(held, InMemory(b"x\r\n"), id=name(1), now=NOW, claim_until=NOW + 60)

    assert isinstance(stored, Stored)
    assert stored.leases == ()
    assert await storage.claim(HOP, now=NOW + 1, until=NOW + 99, messages=9) == []
    entries = await storage.entries(ALL, after=FIRST, limit=9, now=NOW)
    assert [(entry.state, entry.reason, entry.attempts) for entry in entries] == [
        (RecipientState.HELD, "quarantine: listed", 0)
    ] * 2
    assert await storage.counts() == Counts(messages=1, recipients=2, held=2, reports_due=0)
    assert [event.kind for event in await storage.history(name(1))] == ["received", "operator"]
    assert await storage.unhold(ALL, now=NOW + 5) == 2
    assert len((await claim_one(storage, now=NOW + 5)).recipients) == 2


async def test_a_message_nobody_claimed_is_due_at_once_and_comes_back_as_it_was(storage: Storage) -> None:
    await accept(storage, 1, BERT, to("postmaster", notify=Notify.SUCCESS | Notify.DELAY), octets=b"body\r\n")

    lease = await claim_one(storage)

    assert lease.message.id == name(1)
    sent = envelope(BERT)
    assert (lease.message.reverse_path, lease.message.parameters, lease.message.origin) == (
        sent.reverse_path,
        sent.parameters,
        sent.origin,
    )
    assert (lease.message.received_at, lease.message.size) == (NOW, 6)
    assert [one.forward_path for one in lease.recipients] == [path("bert@example.org"), path("postmaster")]
    assert lease.recipients[1].parameters.notify == Notify.SUCCESS | Notify.DELAY
    assert await read(lease.octets) == b"body\r\n"


async def test_the_higher_priority_is_claimed_first_and_within_one_what_was_due_first(storage: Storage) -> None:
    for number, priority in enumerate([0, -4, 3, 0, 9, -4, 3], start=1):
        await accept(storage, number, now=NOW + number, priority=priority)

    first = await storage.claim(HOP, now=NOW + 10, until=NOW + 70, messages=4)
    rest = await storage.claim(HOP, now=NOW + 10, until=NOW + 70, messages=10)

    assert [lease.message.id for lease in first] == [name(5), name(3), name(7), name(1)]
    assert [lease.message.id for lease in rest] == [name(4), name(2), name(6)]
    assert first[0].message.parameters.priority == 9


async def test_a_message_is_not_due_before_its_release(storage: Storage) -> None:
    stored = await accept(storage, 1, claim_for=60, released_at=NOW + 3600)

    assert stored.leases == ()
    assert await storage.ready(NOW + 3599, limit=10) == []
    assert await storage.next_due(NOW) == NOW + 3600
    (lease,) = await storage.claim(HOP, now=NOW + 3600, until=NOW + 3700, messages=10)
    assert lease.message.began_at == NOW + 3600


async def test_a_null_reverse_path_comes_back_null(storage: Storage) -> None:
    await accept(storage, 1, sender="")
    assert str((await claim_one(storage)).message.reverse_path) == ""


async def test_an_empty_message_is_a_message(storage: Storage) -> None:
    await accept(storage, 1, octets=b"")
    assert await read((await claim_one(storage)).octets) == b""


@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 1_000_000])
async def test_a_draft_becomes_a_message_whole(storage: Storage, size: int) -> None:
    octets = random.Random(size).randbytes(size)
    draft = await storage.draft()
    for start in range(0, size, 70_000):
        await draft.write(octets[start : start + 70_000])

    stored = await accept(storage, 1, octets=draft, claim_for=60)
    await draft.discard()  # after `accept`: nothing

    (lease,) = stored.leases
    assert lease.octets.size == size
    assert await read(lease.octets) == octets
    message, again = await storage.message(name(1))
    assert message.size == size
    assert await read(again) == octets


async def test_a_large_message_in_memory_is_stored_whole(storage: Storage) -> None:
    octets = random.Random(3).randbytes(700_000)
    await accept(storage, 1, octets=octets)
    assert await read((await claim_one(storage)).octets) == octets


async def test_a_discarded_draft_leaves_nothing(storage: Storage) -> None:
    draft = await storage.draft()
    await draft.write(bytes(600_000))
    await draft.discard()
    await draft.discard()
    assert await storage.counts() == Counts(0, 0, 0, 0)


async def test_an_id_is_taken_once(storage: Storage) -> None:
    await accept(storage, 1)
    again = await storage.accept(envelope(), InMemory(b"x"), id=name(1), now=NOW, claim_until=NOW)
    assert isinstance(again, StoreFault)
    assert again.kind is StoreFaultKind.FAILED
    assert (await storage.counts()).messages == 1


# ---- what is due
async def test_hops_are_ready_by_how_long_they_wait(storage: Storage) -> None:
    await accept(storage, 1, CARL, now=NOW - 5)
    await accept(storage, 2, BERT, now=NOW - 9)
    await accept(storage, 3, to("eva@example.edu", "mx:example.edu"), now=NOW + 1)

    assert await storage.ready(NOW, limit=10) == [ReadyHop(HOP, NOW - 9), ReadyHop(NextHop("mx:example.com"), NOW - 5)]
    assert [hop.next_hop for hop in await storage.ready(NOW, limit=1)] == [HOP]
    assert await storage.next_due(NOW) == NOW + 1
    assert await storage.next_due(NOW + 1) == Never()


async def test_a_claim_takes_the_oldest_due_first_and_no_more_than_asked(storage: Storage) -> None:
    for number, due in ((1, NOW - 1), (2, NOW - 3), (3, NOW - 2)):
        await accept(storage, number, BERT, DORA, now=due)

    first = await storage.claim(HOP, now=NOW, until=NOW + 60, messages=2)
    second = await storage.claim(HOP, now=NOW, until=NOW + 60, messages=2)
    third = await storage.claim(HOP, now=NOW, until=NOW + 60, messages=2)

    assert [lease.message.id for lease in first] == [name(2), name(3)]
    assert [len(lease.recipients) for lease in first] == [2, 2]
    assert [lease.message.id for lease in second] == [name(1)]
    assert third == []


async def test_nothing_is_claimed_where_nothing_is_asked(storage: Storage) -> None:
    await accept(storage, 1)
    assert await storage.claim(HOP, now=NOW, until=NOW + 60, messages=0) == []


async def test_a_claim_holds_until_its_end(storage: Storage) -> None:
    await accept(storage, 1)
    await claim_one(storage, lasting=60)

    assert await storage.claim(HOP, now=NOW + 59, until=NOW + 99, messages=1) == []
    assert await storage.next_due(NOW) == NOW + 60
    assert await storage.ready(NOW + 60, limit=9) == [ReadyHop(HOP, NOW + 60)]
    assert len(await storage.claim(HOP, now=NOW + 60, until=NOW + 99, messages=1)) == 1


# ---- leases
async def test_a_late_settlement_changes_nothing(storage: Storage) -> None:
    await accept(storage, 1)
    late = await claim_one(storage, lasting=60)
    newer = await claim_one(storage, now=NOW + 61, lasting=60)

    assert not await storage.settle(settlement(late))
    assert (await storage.counts()).recipients == 1
    assert [event.kind for event in await storage.history(name(1))] == ["received"]
    assert await storage.settle(settlement(newer))


async def test_a_late_settlement_of_some_recipients_changes_none(storage: Storage) -> None:
    await accept(storage, 1, BERT, DORA)
    lease = await claim_one(storage)
    assert await storage.settle(settlement(lease, only=[0]))

    both = settlement(lease, outcome=BUSY, then=wait(NOW + 60))
    assert not await storage.settle(both)
    (entry,) = await storage.entries(ALL, after=FIRST, limit=9, now=NOW)
    assert (entry.number, entry.attempts, entry.state) == (1, 0, RecipientState.IN_DELIVERY)


async def test_a_lease_is_settled_once(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    assert await storage.settle(settlement(lease))
    assert not await storage.settle(settlement(lease))


async def test_an_ended_lease_nobody_took_over_is_still_settled(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    assert await storage.settle(settlement(lease, at=NOW + 600))


async def test_a_renewed_lease_lasts_longer(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    (longer,) = await storage.renew([lease], until=NOW + 500)

    assert longer.until == NOW + 500
    assert await storage.ready(NOW + 100, limit=9) == []
    assert await storage.settle(settlement(lease))
    assert await storage.renew([longer], until=NOW + 900) == []


async def test_a_renewal_keeps_what_is_left_of_a_lease(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, BERT, DORA, claim_for=60)).leases
    await storage.settle(settlement(lease, only=[0]))
    (rest,) = await storage.renew([lease], until=NOW + 500)
    assert [one.number for one in rest.recipients] == [1]


async def test_a_released_lease_is_due_as_before(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    await storage.release([lease])

    assert await storage.ready(NOW, limit=9) == [ReadyHop(HOP, NOW)]
    assert not await storage.settle(settlement(lease))
    again = await claim_one(storage)
    await storage.release([lease])  # late: the newer claim stands
    assert await storage.settle(settlement(again))


async def test_a_new_epoch_ends_the_leases_of_the_old(restartable: Restartable) -> None:
    (lease,) = (await accept(restartable.now, 1, claim_for=600)).leases
    storage = await restartable.restart()

    assert not await storage.settle(settlement(lease))
    assert await storage.renew([lease], until=NOW + 900) == []
    newer = await claim_one(storage, now=NOW + 1)
    assert newer.epoch > lease.epoch
    assert await storage.settle(settlement(newer))


# ---- settling
async def test_a_delivered_message_is_gone_and_its_history_tells_its_life(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    assert await storage.settle(settlement(lease, at=NOW + 2))

    assert await storage.counts() == Counts(0, 0, 0, 0)
    with pytest.raises(KeyError):
        await storage.message(name(1))
    received, attempt, done = await storage.history(name(1))
    assert (received.kind, attempt.kind, done.kind) == ("received", "attempt", "done")
    assert (received.at, attempt.at, done.at) == (NOW, NOW + 2, NOW + 2)
    assert "client.example.net [192.0.2.7] by ESMTP" in received.text
    assert received.details["recipients"] == [{"forward_path": "bert@example.org", "next_hop": HOP}]
    assert attempt.text == "delivered to mx.example.org[192.0.2.1:25]: 250 2.0.0 taken"
    assert attempt.details["transcript"] == [[0.25, "C", "EHLO us.example"]]
    assert json.loads(json.dumps(attempt.details)) == attempt.details


async def test_a_message_stays_until_its_last_recipient_has_gone(storage: Storage) -> None:
    org, com = (await accept(storage, 1, BERT, CARL, claim_for=60)).leases
    await storage.settle(settlement(org, at=NOW + 1))
    assert await read((await storage.message(name(1)))[1])
    assert (await storage.counts()).messages == 1

    await storage.settle(settlement(com, at=NOW + 2))
    assert (await storage.counts()).messages == 0
    assert [event.kind for event in await storage.history(name(1))] == ["received", "attempt", "attempt", "done"]


async def test_a_deferred_recipient_waits_and_remembers(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    doubt = InDoubt(HOST, Fault(FaultKind.TIMED_OUT))
    then = Wait(NOW + 900, PossiblyAt("192.0.2.1:25"))
    await storage.settle(settlement(lease, outcome=doubt, then=then, notice=Notice.DELAYED))

    assert await storage.ready(NOW + 899, limit=9) == []
    (entry,) = await storage.entries(ALL, after=FIRST, limit=9, now=NOW + 2)
    assert (entry.state, entry.attempts, entry.due_at) == (RecipientState.WAITING, 1, NOW + 900)
    assert entry.last_outcome.startswith("in doubt: ")
    again = await claim_one(storage, now=NOW + 900)
    (recipient,) = again.recipients
    assert (recipient.attempts, recipient.delay_reported, recipient.doubt) == (1, True, PossiblyAt("192.0.2.1:25"))


async def test_a_settlement_can_hold(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    await storage.settle(settlement(lease, outcome=BUSY, then=Hold("looks like a loop")))

    (entry,) = await storage.entries(ALL, after=FIRST, limit=9, now=NOW + 9999)
    assert (entry.state, entry.reason) == (RecipientState.HELD, "looks like a loop")
    assert await storage.ready(NOW + 9999, limit=9) == []
    assert await storage.next_due(NOW) == Never()
    assert (await storage.counts()).held == 1


async def test_octets_a_peer_sent_that_are_no_text_do_not_spoil_the_history(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    settled = settlement(lease)
    transcript = Transcript(0.0)
    transcript.add(0.5, "S", b"250 \xff\xfe ok".decode("utf-8", "surrogateescape"))
    attempt = Attempt(lease.message, HOP, NOW, NOW + 1, settled.attempt.outcomes, transcript)
    assert await storage.settle(Settlement(lease, attempt, settled.recipients))
    assert len(await storage.history(name(1))) == 3


# ---- reports
@pytest.mark.parametrize("notice", [each for each in Notice if each is not Notice.NONE])
async def test_every_kind_of_report_is_kept(storage: Storage, notice: Notice) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    await storage.settle(settlement(lease, notice=notice))
    assert [report.notice for report in await storage.reports(limit=10)] == [notice]


async def test_reports_are_grouped_by_message_and_kind_and_keep_the_octets(storage: Storage) -> None:
    org, com = (await accept(storage, 1, BERT, DORA, CARL, claim_for=60)).leases
    await storage.settle(settlement(org, outcome=NO_SUCH_USER, notice=Notice.FAILED))
    await storage.settle(settlement(com, notice=Notice.RELAYED))

    failed, relayed = await storage.reports(limit=10)
    assert (failed.notice, relayed.notice) == (Notice.FAILED, Notice.RELAYED)
    assert [one.recipient.forward_path for one in failed.recipients] == [
        path("bert@example.org"),
        path("dora@example.org"),
    ]
    bert = failed.recipients[0]
    assert (bert.status, bert.diagnostic) == ("5.1.1", "smtp; 550 5.1.1 no such user")
    assert (bert.remote_mta, bert.last_attempt, bert.retry_until) == ("dns; mx.example.org", NOW + 1, NOW + 1 + 86400)
    assert bert.recipient.attempts == 1
    assert await read(failed.octets)
    assert await storage.counts() == Counts(messages=1, recipients=0, held=0, reports_due=2)
    assert len(await storage.reports(limit=1)) == 1


async def test_a_filed_report_is_queued_and_struck_off_together(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    await storage.settle(settlement(lease, outcome=NO_SUCH_USER, notice=Notice.FAILED))
    (report,) = await storage.reports(limit=9)

    dsn = envelope(to("Anna@example.net", "mx:example.net"), sender="")
    await storage.file_report(report, dsn, InMemory(b"dsn"), id=name(2), now=NOW + 3)
    await storage.file_report(report, dsn, InMemory(b"dsn"), id=name(3), now=NOW + 4)  # struck off: nothing

    assert await storage.reports(limit=9) == []
    assert await storage.counts() == Counts(messages=1, recipients=1, held=0, reports_due=0)
    assert (await claim_one(storage, hop="mx:example.net", now=NOW + 3)).message.id == name(2)
    events = await storage.history(name(1))
    assert [event.kind for event in events] == ["received", "attempt", "report", "done"]
    assert name(2) in events[2].text
    assert await storage.history(name(3)) == []


async def test_a_dropped_report_says_why(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    await storage.settle(settlement(lease, outcome=NO_SUCH_USER, notice=Notice.FAILED))
    (report,) = await storage.reports(limit=9)
    await storage.drop_report(report, why="a notification is not answered", now=NOW + 3)

    assert await storage.counts() == Counts(0, 0, 0, 0)
    assert (await storage.history(name(1)))[2].text == "report (failed) not sent: a notification is not answered"


async def test_a_report_grows_until_it_is_filed(storage: Storage) -> None:
    org, com = (await accept(storage, 1, BERT, CARL, claim_for=60)).leases
    await storage.settle(settlement(org, outcome=NO_SUCH_USER, notice=Notice.FAILED))
    (early,) = await storage.reports(limit=9)
    await storage.settle(settlement(com, outcome=NO_SUCH_USER, notice=Notice.FAILED))
    await storage.drop_report(early, why="filed early", now=NOW + 3)

    (rest,) = await storage.reports(limit=9)
    assert [one.recipient.number for one in rest.recipients] == [1]


async def test_a_report_of_delay_leaves_the_recipient_waiting(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    await storage.settle(settlement(lease, outcome=BUSY, then=wait(NOW + 60), notice=Notice.DELAYED))
    (report,) = await storage.reports(limit=9)
    await storage.file_report(report, envelope(BERT, sender=""), InMemory(b"dsn"), id=name(2), now=NOW + 3)
    assert await storage.counts() == Counts(messages=2, recipients=2, held=0, reports_due=0)


# ---- the inbox
async def test_a_captured_copy_keeps_the_octets_until_it_is_discarded(storage: Storage) -> None:
    for number in (1, 2, 3):
        (lease,) = (await accept(storage, number, BERT, DORA, octets=b"mail %d" % number, claim_for=60)).leases
        await storage.settle(settlement(lease, then=Gone(captured=True), at=NOW + number))

    newest, middle, oldest = await storage.captured(before=0, limit=9)
    assert (newest.id, newest.captured_at, newest.size) == (name(3), NOW + 3, 6)
    assert newest.recipients == ("bert@example.org", "dora@example.org")
    assert newest.reverse_path == "Anna@example.net"
    assert await storage.captured(before=newest.number, limit=1) == [middle]
    assert await read(await storage.captured_octets(oldest.number)) == b"mail 1"
    assert await storage.counts() == Counts(0, 0, 0, 0)

    assert await storage.discard_captured(keep=1) == 2
    assert [one.number for one in await storage.captured(before=0, limit=9)] == [newest.number]
    with pytest.raises(KeyError):
        await storage.captured_octets(oldest.number)
    with pytest.raises(KeyError):
        await storage.message(name(1))
    assert await storage.discard_captured(keep=5) == 0
    assert await storage.discard_captured(keep=0) == 1


# ---- asking and operating
async def three_waiting(storage: Storage) -> None:
    await accept(storage, 1, BERT, CARL, now=NOW)
    await accept(storage, 2, BERT, now=NOW, sender="Frida@Example.net")
    await accept(storage, 3, to("Bert@example.org", "mx:smart"), now=NOW + 500)


async def listed(storage: Storage, selection: Selection) -> Sequence[tuple[str, int]]:
    return [(one.id, one.number) for one in await storage.entries(selection, after=FIRST, limit=99, now=NOW)]


async def test_entries_come_by_pages_in_the_order_of_their_keys(storage: Storage) -> None:
    await three_waiting(storage)
    seen = []
    after = FIRST
    while page := await storage.entries(ALL, after=after, limit=1, now=NOW):
        seen += [(entry.id, entry.number) for entry in page]
        after = (page[-1].id, page[-1].number)
    assert seen == [(name(1), 0), (name(1), 1), (name(2), 0), (name(3), 0)]


async def test_a_selection_narrows_by_each_field(storage: Storage) -> None:
    await three_waiting(storage)
    assert await listed(storage, Selection(ids=(name(1), name(3)))) == [(name(1), 0), (name(1), 1), (name(3), 0)]
    assert await listed(storage, Selection(address="BERT@example.org")) == [(name(1), 0), (name(2), 0), (name(3), 0)]
    assert await listed(storage, Selection(address="anna@example.net")) == [(name(1), 0), (name(1), 1), (name(3), 0)]
    assert await listed(storage, Selection(domain="EXAMPLE.com")) == [(name(1), 1)]
    assert await listed(storage, Selection(next_hop="mx:smart")) == [(name(3), 0)]
    assert await listed(storage, Selection(address="bert@example.org", next_hop=HOP)) == [(name(1), 0), (name(2), 0)]
    assert await listed(storage, Selection(ids=(MessageId("no such id"),))) == []
    assert await listed(storage, Selection(address="bert@example")) == []


async def test_an_entry_tells_where_a_recipient_stands(storage: Storage) -> None:
    await three_waiting(storage)
    await storage.claim(NextHop("mx:example.com"), now=NOW, until=NOW + 60, messages=1)
    states = [one.state for one in await storage.entries(ALL, after=FIRST, limit=9, now=NOW)]
    assert states == [RecipientState.DUE, RecipientState.IN_DELIVERY, RecipientState.DUE, RecipientState.WAITING]


async def test_a_retry_makes_the_waiting_due(storage: Storage) -> None:
    await three_waiting(storage)
    assert await storage.retry(ALL, now=NOW + 1) == 1
    assert ReadyHop(NextHop("mx:smart"), NOW + 1) in await storage.ready(NOW + 1, limit=9)
    assert await storage.retry(ALL, now=NOW + 1) == 0


async def test_the_history_has_who_made_mail_due_and_nothing_of_what_was_due_already(storage: Storage) -> None:
    await three_waiting(storage)
    waiting = [one.id for one in await storage.entries(ALL, after=FIRST, limit=9, now=NOW) if one.due_at > NOW]
    assert await storage.retry(ALL, now=NOW + 1, by="eve", reason="it is mended") == 1
    (late,) = waiting
    *_, last = await storage.history(late)
    assert (last.kind, last.text, last.at) == ("operator", "made due by eve: it is mended", NOW + 1)
    assert len(last.details["recipients"]) == 1  # type: ignore[arg-type]  # as `operated` writes it
    for other in {one.id for one in await storage.entries(ALL, after=FIRST, limit=9, now=NOW)} - {late}:
        assert [event.kind for event in await storage.history(other)] == ["received"]


async def test_an_operator_deletes_what_nobody_delivers(storage: Storage) -> None:
    await three_waiting(storage)
    await storage.claim(HOP, now=NOW, until=NOW + 60, messages=1)

    assert await storage.delete(ALL, now=NOW + 1, by="root") == 3
    assert await listed(storage, ALL) == [(name(1), 0)]
    events = await storage.history(name(2))
    assert [event.kind for event in events] == ["received", "operator", "done"]
    assert events[1].text == "deleted by root"
    assert events[1].details == {"recipients": ["bert@example.org"]}
    assert await storage.counts() == Counts(messages=1, recipients=1, held=0, reports_due=0)


async def test_deleting_under_an_ended_lease_makes_its_settlement_late(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    assert await storage.delete(ALL, now=NOW + 60, by="root") == 1
    assert not await storage.settle(settlement(lease))


async def test_what_is_held_is_not_tried_until_released(storage: Storage) -> None:
    await three_waiting(storage)
    assert await storage.hold(Selection(next_hop=HOP), reason="under repair", now=NOW) == 2
    assert await storage.hold(Selection(next_hop=HOP), reason="again", now=NOW) == 0
    assert (await storage.counts()).held == 2
    assert await storage.claim(HOP, now=NOW + 1, until=NOW + 60, messages=9) == []
    assert await storage.retry(Selection(next_hop=HOP), now=NOW) == 0

    assert await storage.unhold(Selection(ids=(name(2),)), now=NOW + 2) == 1
    assert await storage.ready(NOW + 2, limit=1) == [ReadyHop(NextHop("mx:example.com"), NOW)]
    assert (await claim_one(storage, now=NOW + 2)).message.id == name(2)
    assert [event.text for event in await storage.history(name(2))][1:] == ["held: under repair", "released"]
    assert await storage.delete(Selection(ids=(name(1),)), now=NOW + 2, by="root") == 2
    assert (await storage.counts()).held == 0


async def test_nobody_is_held_in_delivery(storage: Storage) -> None:
    await accept(storage, 1, claim_for=60)
    assert await storage.hold(ALL, reason="x", now=NOW + 1) == 0


async def test_a_changed_route_moves_its_recipients(storage: Storage) -> None:
    await three_waiting(storage)
    assert await storage.hops() == [
        ("mx:example.com", "example.com"),
        ("mx:example.org", "example.org"),
        ("mx:smart", "example.org"),
    ]
    lease = await claim_one(storage, hop="mx:example.com")
    assert await storage.rehop(HOP, "example.org", NextHop("mx:smart")) == 2
    assert await storage.rehop(NextHop("mx:example.com"), "example.com", NextHop("mx:smart")) == 1
    assert await storage.rehop(NextHop("mx:smart"), "elsewhere.org", HOP) == 0
    assert await storage.hops() == [("mx:smart", "example.com"), ("mx:smart", "example.org")]

    await storage.settle(settlement(lease, outcome=BUSY, then=wait(NOW + 5)))
    assert len(await storage.claim(NextHop("mx:smart"), now=NOW + 5, until=NOW + 60, messages=9)) == 2


# ---- history
async def test_messages_are_found_by_address_alive_or_done(storage: Storage) -> None:
    await three_waiting(storage)
    (lease,) = (await accept(storage, 4, claim_for=60)).leases
    await storage.settle(settlement(lease))

    assert await storage.find("bert@EXAMPLE.org", limit=9) == [name(4), name(3), name(2), name(1)]
    assert await storage.find("anna@example.net", limit=2) == [name(4), name(3)]
    assert await storage.find("carl@example.com", limit=2) == [name(1)]
    assert await storage.find("nobody@example.com", limit=2) == []


async def test_history_is_forgotten_when_it_is_old(storage: Storage) -> None:
    await accept(storage, 1)
    for number in (2, 3):
        (lease,) = (await accept(storage, number, claim_for=60)).leases
        await storage.settle(settlement(lease, at=NOW + number))
    (lease,) = (await accept(storage, 4, claim_for=60)).leases
    await storage.settle(settlement(lease, then=Gone(captured=True), at=NOW + 2.5))

    assert await storage.forget(before=NOW + 2, limit=9) == 0
    assert await storage.forget(before=NOW + 3, limit=1) == 3
    assert await storage.history(name(2)) == []
    assert await storage.forget(before=NOW + 3, limit=9) == 3
    assert await storage.history(name(4)) == []
    assert len(await storage.captured(before=0, limit=9)) == 1
    assert await storage.find("bert@example.org", limit=9) == [name(3), name(1)]
    assert await storage.discard_captured(keep=0) == 1
    with pytest.raises(KeyError):
        await storage.message(name(4))
    assert await storage.forget(before=NOW + 99, limit=9) == 3
    assert len(await storage.history(name(1))) == 1


async def test_what_is_unknown_has_no_history(storage: Storage) -> None:
    assert await storage.history(name(9)) == []
    assert await storage.history(MessageId("gibberish")) == []
    with pytest.raises(KeyError):
        await storage.message(MessageId("gibberish"))
    with pytest.raises(KeyError):
        await storage.captured_octets(7)


# ---- life
async def test_a_restart_finds_exactly_what_was_left(restartable: Restartable) -> None:
    storage = restartable.now
    leases = [(await accept(storage, number, BERT, CARL, claim_for=600)).leases for number in range(1, 5)]
    await storage.settle(settlement(leases[0][0]))
    await storage.settle(settlement(leases[0][1]))
    await storage.settle(settlement(leases[1][0], outcome=BUSY, then=wait(NOW + 700)))
    await storage.settle(settlement(leases[2][0], outcome=NO_SUCH_USER, notice=Notice.FAILED))
    before = await storage.counts()

    storage = await restartable.restart()

    assert await storage.counts() == before == Counts(messages=3, recipients=5, held=0, reports_due=1)
    rows = await storage.entries(ALL, after=FIRST, limit=99, now=NOW + 1)
    assert [(row.id, row.number, row.state, row.attempts) for row in rows] == [
        (name(2), 0, RecipientState.WAITING, 1),
        (name(2), 1, RecipientState.DUE, 0),
        (name(3), 1, RecipientState.DUE, 0),
        (name(4), 0, RecipientState.DUE, 0),
        (name(4), 1, RecipientState.DUE, 0),
    ]
    assert [event.kind for event in await storage.history(name(1))] == ["received", "attempt", "attempt", "done"]


async def test_a_closed_storage_refuses(storage: Storage) -> None:
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    await storage.close()
    await storage.close()

    refused = await storage.accept(envelope(), InMemory(b""), id=name(2), now=NOW, claim_until=NOW)
    assert isinstance(refused, StoreFault)
    assert refused.kind is StoreFaultKind.CLOSED
    for operation in (storage.settle(settlement(lease)), storage.counts(), storage.draft()):
        with pytest.raises(StorageError) as caught:
            await operation
        assert caught.value.fault.kind is StoreFaultKind.CLOSED
    assert OK.where


# ---- operators: the bin, bounces, other ways
async def test_what_is_deleted_lies_in_the_bin_and_can_be_brought_back(storage: Storage) -> None:
    await accept(storage, 1, BERT, CARL, octets=b"body\r\n")

    assert await storage.delete(Selection(domain="example.com"), now=NOW, by="eve", reason="sent twice") == 1
    (binned,) = await storage.binned(ALL, after=FIRST, limit=10)
    assert (binned.id, binned.forward_path, binned.why, binned.at) == (
        name(1),
        "carl@example.com",
        "deleted by eve: sent twice",
        NOW,
    )
    assert (await storage.counts()).recipients == 1

    assert await storage.restore(ALL, now=NOW + 1, by="eve") == 1
    assert await storage.binned(ALL, after=FIRST, limit=10) == []
    assert await storage.counts() == Counts(messages=1, recipients=2, held=0, reports_due=0)
    assert [entry.number for entry in await storage.entries(ALL, after=FIRST, limit=9, now=NOW + 1)] == [0, 1]
    assert [event.text for event in await storage.history(name(1))][1:] == [
        "deleted by eve: sent twice",
        "brought back by eve",
    ]


async def test_a_message_that_was_done_comes_back_whole_from_the_bin(restartable: Restartable) -> None:
    storage = restartable.now
    await accept(storage, 1, BERT, to("dora@example.org", "mx:elsewhere"), octets=b"body\r\n")
    assert await storage.delete(Selection(address="dora@example.org"), now=NOW, by="eve") == 1
    lease = await claim_one(storage)
    assert await storage.settle(settlement(lease))
    assert (await storage.counts()).messages == 0
    assert (await storage.history(name(1)))[-1].kind == "done"

    storage = await restartable.restart()
    assert await storage.restore(Selection(ids=(name(1),)), now=NOW + 1, by="eve") == 1

    assert await storage.counts() == Counts(messages=1, recipients=1, held=0, reports_due=0)
    assert [event.kind for event in await storage.history(name(1))] == ["received", "operator", "attempt", "operator"]
    (lease,) = await storage.claim(NextHop("mx:elsewhere"), now=NOW + 1, until=NOW + 61, messages=9)
    assert await read(lease.octets) == b"body\r\n"
    assert await storage.find("dora@example.org", limit=9) == [name(1)]


async def test_the_bin_lets_go_of_what_is_old_and_of_its_octets(storage: Storage) -> None:
    await accept(storage, 1, BERT)
    await accept(storage, 2, CARL)
    await storage.delete(Selection(domain="example.org"), now=NOW, by="eve")
    await storage.delete(Selection(domain="example.com"), now=NOW + 9, by="eve")
    await storage.message(name(1))

    assert await storage.empty_bin(before=NOW + 5, limit=10) == 1

    with pytest.raises(KeyError):
        await storage.message(name(1))
    await storage.message(name(2))
    assert [one.id for one in await storage.binned(ALL, after=FIRST, limit=9)] == [name(2)]
    assert await storage.restore(Selection(ids=(name(1),)), now=NOW + 9, by="eve") == 0


async def test_a_bounce_reports_its_reason_and_leaves_the_recipient_in_the_bin(storage: Storage) -> None:
    await accept(storage, 1, BERT, to("carl@example.com", "mx:example.com", notify=Notify.NEVER))

    assert await storage.bounce(ALL, reason="this host is gone", now=NOW, by="eve") == 2

    (report,) = await storage.reports(limit=9)
    assert report.notice is Notice.FAILED
    (told,) = report.recipients  # NOTIFY=NEVER forbids to tell of the other
    assert told.recipient.number == 0
    assert told.status == "5.3.0"
    assert told.explanation == "This host is gone."
    assert len(await storage.binned(ALL, after=FIRST, limit=9)) == 2
    assert [event.text for event in await storage.history(name(1))][1:] == ["bounced by eve: this host is gone"]


async def test_a_rerouted_recipient_is_due_there_and_stays_on_its_way(storage: Storage) -> None:
    await accept(storage, 1, BERT, CARL)
    new = NextHop("smtp://other:25")

    assert await storage.reroute(Selection(domain="example.org"), new, now=NOW, by="eve", reason="fire") == 1

    assert await storage.hops() == [("mx:example.com", "example.com")]
    assert await storage.rehop(new, "example.org", NextHop("mx:example.org")) == 0
    (lease,) = await storage.claim(new, now=NOW, until=NOW + 60, messages=9)
    assert [one.number for one in lease.recipients] == [0]
    assert (await storage.history(name(1)))[-1].text == "rerouted to smtp://other:25 by eve: fire"


async def test_an_operator_takes_nothing_from_who_is_delivering_it(storage: Storage) -> None:
    await accept(storage, 1, BERT, claim_for=60)

    assert await storage.bounce(ALL, reason="no", now=NOW, by="eve") == 0
    assert await storage.reroute(ALL, NextHop("capture:"), now=NOW, by="eve") == 0
    assert await storage.delete(ALL, now=NOW, by="eve") == 0
    assert await storage.binned(ALL, after=FIRST, limit=9) == []


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Selection(state="held"), [1]),
        (Selection(state="in delivery"), [2]),
        (Selection(state="due"), [3]),
        (Selection(state="waiting"), [4]),
        (Selection(state="sleeping"), []),
        (Selection(text="MOVING house"), [1]),
        (Selection(text="BUSY"), [4]),
        (Selection(received_before=NOW), []),
        (Selection(received_before=NOW + 1), [1, 2, 3, 4]),
    ],
)
async def test_a_selection_narrows_by_state_words_and_age(
    storage: Storage, selection: Selection, numbers: list[int]
) -> None:
    await accept(storage, 1, to("a@example.org", "hop:1"))
    await storage.hold(ALL, reason="Moving house", now=NOW, by="eve")
    await accept(storage, 2, to("b@example.org", "hop:2"), claim_for=60)
    await accept(storage, 3, to("c@example.org", "hop:3"))
    await accept(storage, 4, to("d@example.org", "hop:4"))
    (lease,) = await storage.claim(NextHop("hop:4"), now=NOW, until=NOW + 9, messages=1)
    assert await storage.settle(settlement(lease, outcome=BUSY, then=wait(NOW + 100)))

    found = await storage.entries(selection, after=FIRST, limit=9, now=NOW + 1)

    assert [entry.id for entry in found] == [name(number) for number in numbers]
    assert await storage.tally(selection, after=EDGE, stretch=9, now=NOW + 1) == Tallied(len(numbers), EDGE)
    looked = await storage.look(selection, after=EDGE, limit=9, stretch=9, now=NOW + 1)
    assert (looked.entries, looked.next) == (tuple(found), EDGE)


@pytest.mark.parametrize("stretch", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "selection",
    [
        ALL,
        Selection(domain="example.com"),
        Selection(next_hop="hop:2"),
        Selection(state="held"),
        Selection(state="held", domain="example.com"),
        Selection(text="100%_sure"),
        Selection(text="GRÖSSER"),
        Selection(text="nothing says so"),
        Selection(address="c@example.com"),
        Selection(address="anna@example.net"),
        Selection(address="nobody@example.net"),
        Selection(received_before=NOW + 4),
    ],
)
async def test_the_queue_looked_through_a_stretch_at_a_time_is_the_queue_as_it_is_listed(
    storage: Storage, selection: Selection, stretch: int
) -> None:
    for number in range(1, 7):
        both = to("b@example.org", "hop:1"), to("c@example.com", f"hop:{number % 3}")
        await accept(storage, number, *both, now=NOW + number)
    await storage.hold(Selection(ids=(name(2), name(5))), reason="100%_Sure", now=NOW + 9, by="eve")
    await storage.hold(Selection(ids=(name(3),)), reason="größer", now=NOW + 9, by="eve")
    listed = await storage.entries(selection, after=EDGE, limit=99, now=NOW + 9)

    after, found, tallied = EDGE, list[QueueEntry](), 0
    while True:
        looked = await storage.look(selection, after=after, limit=2, stretch=stretch, now=NOW + 9)
        assert len(looked.entries) <= min(2, stretch) or selection.address or selection.state
        found += looked.entries
        after = looked.next
        if after == EDGE:
            break
    while True:
        part = await storage.tally(selection, after=after, stretch=stretch, now=NOW + 9)
        tallied, after = tallied + part.recipients, part.next
        if after == EDGE:
            break

    assert found == list(listed)
    assert tallied == len(listed)


async def test_the_backlog_is_counted_by_next_hop_and_domain(storage: Storage) -> None:
    await accept(storage, 1, BERT, CARL)
    await accept(storage, 2, BERT)

    counted = {(next_hop, domain): count for next_hop, domain, count in await storage.backlog()}

    assert sum(counted.values()) == 3
    assert sorted(counted) == sorted(await storage.hops())


async def test_the_traffic_is_that_of_messages_that_are_done_the_newest_first(storage: Storage) -> None:
    for number in (1, 2, 3):
        await accept(storage, number, BERT, now=NOW + number)
    for number in (1, 2):
        lease = next(each for each in await storage.claim(HOP, now=NOW + 9, until=NOW + 99, messages=1))
        await storage.settle(settlement(lease, at=NOW + 10 * number))

    found = await storage.traffic(since=NOW + 5, limit=9)

    assert [(one.forward_path, one.next_hop) for one in found] == [(str(BERT.forward_path), HOP)] * 2
    assert found[0].reverse_path == "Anna@example.net"
    assert len(await storage.traffic(since=NOW + 15, limit=9)) == 1
    assert len(await storage.traffic(since=NOW + 5, limit=1)) == 1
    assert await storage.traffic(since=NOW + 25, limit=9) == []


# ---- searching
@pytest.mark.parametrize(
    ("search", "numbers"),
    [
        (Search(), [3, 2, 1]),
        (Search(domain="EXAMPLE.org"), [2, 1]),
        (Search(domain="ple.org"), []),
        (Search(domain="example.net"), []),  # the reverse-path's
        (Search(address="Carl@example.com"), [3]),
        (Search(address="anna@example.net", outcome="delivered"), [1]),
        (Search(outcome="deferred"), [2]),
        (Search(outcome="rejected"), []),
        (Search(text="451 4.3.0 BUSY"), [2]),
        (Search(text="busy", outcome="delivered"), []),
        (Search(next_hop="mx:example.org"), [2, 1]),
        (Search(message_id="Two@Shop.example"), [2]),
        (Search(message_id="wo@shop.example"), []),
        (Search(since=NOW + 2), [3, 2]),
        (Search(until=NOW + 2), [1]),
        (Search(since=NOW + 2, until=NOW + 3), [2]),
    ],
)
async def test_messages_in_the_queue_and_done_are_found_newest_first(
    storage: Storage, search: Search, numbers: list[int]
) -> None:
    for number, recipient in ((1, BERT), (2, BERT), (3, CARL)):
        sent = replace(envelope(recipient), message_id=f"{('one', 'two', 'three')[number - 1]}@shop.example")
        at = NOW + number
        await storage.accept(sent, InMemory(b"x"), id=at_time(at), now=at, claim_until=at)
        if recipient is BERT:
            lease = await claim_one(storage, now=at)
            outcome, then = (OK, Gone()) if number == 1 else (BUSY, wait(NOW + 999))
            assert await storage.settle(settlement(lease, outcome=outcome, then=then))

    found = await storage.search(search, before="", limit=9)

    assert list(found.ids) == [at_time(NOW + number) for number in numbers]
    assert found.next == ""


def at_time(at: float) -> MessageId:
    return ids.from_number(int(at * 1000) << 21)


async def test_a_search_goes_on_where_its_page_ended(storage: Storage) -> None:
    for number in range(1, 6):
        await accept(storage, number, BERT)

    first = await storage.search(Search(domain="example.org"), before="", limit=2)
    second = await storage.search(Search(domain="example.org"), before=first.next, limit=2)
    third = await storage.search(Search(address="bert@example.org"), before=second.next, limit=2)

    assert [first.ids, second.ids, third.ids] == [(name(5), name(4)), (name(3), name(2)), (name(1),)]
    assert third.next == ""
