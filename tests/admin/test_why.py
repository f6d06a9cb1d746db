"""The one thing a recipient waits for: each cause there is, by hand; then as the desk answers it."""

from dataclasses import replace

import pytest

from tests.admin.office import CAPTURED, RELAYED, destination, office
from waypost.admin import words
from waypost.admin.answers import ActBody, FreezeBody, Limiting, OperationError
from waypost.admin.why import Circumstances, Unknown, limiting
from waypost.mail.envelope import MessageId
from waypost.queue.storage import QueueEntry, RecipientState
from waypost.route.state import DestinationState, Phase

NOW = 1_800_000_000.0
ENTRY = QueueEntry(
    id=MessageId("1dvq3kbaxm00g"),
    number=0,
    reverse_path="a@example.net",
    forward_path="b@example.com",
    next_hop=RELAYED,
    state=RecipientState.WAITING,
    attempts=1,
    due_at=NOW + 100,
    received_at=NOW - 100,
    size=100,
    last_outcome="450 later",
)
DUE = replace(ENTRY, state=RecipientState.DUE, due_at=NOW)
FACTS = Circumstances(
    now=NOW, is_running=True, state=Unknown(), no_route="", frozen={}, route="inner", last={}, released_at=0.0
)


def at(phase: Phase, *, waiting: int = 0, rests_until: float = 0.0, running: int = 1, window: int = 5) -> Circumstances:
    state = replace(
        destination(RELAYED, phase, waiting=waiting, cause="it refuses"),
        rests_until=rests_until,
        running=running,
        window=window,
    )
    return replace(FACTS, state=state)


def spent(*, until: float) -> Circumstances:
    """A destination that rests because what may be sent there is."""
    facts = at(Phase.RESTING, rests_until=until)
    assert isinstance(facts.state, DestinationState)
    return replace(facts, state=replace(facts.state, cause="the quota of a, 5 messages in 1 hour", status="4.7.28"))


def paced(phase: Phase, *, waiting: int, until: float = NOW + 2) -> Circumstances:
    """A destination to which one message may go every two seconds."""
    facts = at(phase, waiting=waiting)
    assert isinstance(facts.state, DestinationState)
    return replace(facts, state=replace(facts.state, pace=2.0, paced_until=until))


@pytest.mark.parametrize(
    ("entry", "facts", "cause", "clears_at"),
    [
        (ENTRY, FACTS, Limiting.RETRY, NOW + 100),
        (ENTRY, replace(FACTS, last={"cause": "DNS failed"}), Limiting.DNS, NOW + 100),
        (ENTRY, replace(FACTS, last={"cause": "policy refused", "status": "4.7.5"}), Limiting.TLS, NOW + 100),
        (ENTRY, replace(FACTS, released_at=NOW + 100), Limiting.RELEASE, NOW + 100),
        (ENTRY, at(Phase.RESTING, rests_until=NOW + 500), Limiting.BREAKER, NOW + 500),
        (ENTRY, at(Phase.RESTING, rests_until=NOW + 50), Limiting.RETRY, NOW + 100),
        (ENTRY, replace(FACTS, is_running=False), Limiting.NOT_RUNNING, 0.0),
        (ENTRY, replace(FACTS, no_route="none leads there"), Limiting.ROUTE, 0.0),
        (ENTRY, replace(FACTS, frozen={RELAYED: "frozen by eve"}), Limiting.FROZEN, 0.0),
        (ENTRY, replace(FACTS, frozen={"route inner": "frozen by eve"}), Limiting.FROZEN, 0.0),
        (replace(ENTRY, state=RecipientState.HELD, reason="why not"), at(Phase.HELD), Limiting.HOLD, 0.0),
        (replace(ENTRY, state=RecipientState.IN_DELIVERY), FACTS, Limiting.IN_DELIVERY, 0.0),
        (replace(ENTRY, state=RecipientState.IN_DELIVERY), at(Phase.DELIVERING), Limiting.IN_DELIVERY, 0.0),
        (DUE, at(Phase.DELIVERING, waiting=3, running=5), Limiting.CONCURRENCY, 0.0),
        (DUE, at(Phase.PROBING, waiting=3, running=1, window=1), Limiting.CONCURRENCY, 0.0),
        (DUE, at(Phase.HELD), Limiting.AUTHORISATION, 0.0),
        (DUE, at(Phase.FROZEN), Limiting.FROZEN, 0.0),
        (DUE, at(Phase.RESTING, rests_until=NOW + 9), Limiting.BREAKER, NOW + 9),
        (DUE, at(Phase.WAITING, waiting=1, running=0), Limiting.TURN, 0.0),
        (DUE, FACTS, Limiting.TURN, NOW),
        (ENTRY, replace(FACTS, last={"cause": "policy refused", "status": "4.7.28"}), Limiting.QUOTA, NOW + 100),
        (ENTRY, spent(until=NOW + 500), Limiting.QUOTA, NOW + 500),
        (DUE, spent(until=NOW + 500), Limiting.QUOTA, NOW + 500),
        (DUE, paced(Phase.WAITING, waiting=1), Limiting.RATE, NOW + 2),
        (DUE, paced(Phase.DELIVERING, waiting=4), Limiting.RATE, NOW + 8),
        (DUE, paced(Phase.DELIVERING, waiting=0), Limiting.IN_DELIVERY, 0.0),
        (DUE, paced(Phase.WAITING, waiting=4, until=NOW - 1), Limiting.TURN, 0.0),
    ],
)
def test_each_recipient_waits_for_one_thing(
    entry: QueueEntry, facts: Circumstances, cause: Limiting, clears_at: float
) -> None:
    found = limiting(entry, facts)
    assert (found.limiting, found.clears_at) == (cause, clears_at)
    assert found.text


async def test_why_can_be_asked_of_a_message_its_domain_its_address_and_its_next_hop() -> None:
    async with office() as found:
        waiting = await found.waiting()
        found.delivering.append(destination(RELAYED, Phase.IDLE))
        for asked in (waiting, "example.com", "b@example.com", RELAYED):
            answer = await found.desk.why(asked)
            (one,) = answer.recipients
            assert one.entry.id == waiting
            assert one.limiting is Limiting.RETRY
            assert "4.2.1 later" in one.text
            assert [state.next_hop for state in answer.destinations] == [RELAYED]
        said = [line.plain for line in words.why(await found.desk.why(waiting))]
        assert said[0] == f"{waiting}  <b@example.com>  retry time"
        assert f"    to try it now: waypost queue retry --id {waiting}" in said


@pytest.mark.parametrize("asked", ["nothing.example", "0000000000000", "nobody@example.com", "mx:gone.example"])
async def test_why_of_what_does_not_wait_says_where_to_look(asked: str) -> None:
    async with office() as found:
        with pytest.raises(OperationError, match="nothing waits") as failed:
            await found.desk.why(asked)
        assert f"waypost trace {asked}" in failed.value.remedy


async def test_a_frozen_route_is_why_its_mail_waits_until_it_is_thawed() -> None:
    async with office() as found:
        waiting = await found.waiting()
        froze = await found.desk.freeze(FreezeBody(RELAYED, by="eve", reason="disk full there"))
        assert [str(one) for one in froze.frozen] == ["frozen by eve: disk full there"]
        assert found.frozen == [[RELAYED]]
        (one,) = (await found.desk.why(waiting)).recipients
        assert one.limiting is Limiting.FROZEN
        assert "disk full there" in one.text
        assert [line.plain.partition(", ")[0] for line in words.frozen(froze)] == [
            f"{RELAYED}  frozen by eve: disk full there"
        ]
        assert (await found.desk.thaw(FreezeBody(RELAYED, by="eve"))).frozen == ()
        assert found.frozen == [[RELAYED], []]
        with pytest.raises(OperationError, match="is not frozen"):
            await found.desk.thaw(FreezeBody(RELAYED, by="eve"))


@pytest.mark.parametrize("place", ["", "smtp://nowhere:25", "route nobody", "nobody"])
async def test_only_what_a_route_leads_to_can_be_frozen(place: str) -> None:
    async with office() as found:
        with pytest.raises(OperationError, match="no next hop or route"):
            await found.desk.freeze(FreezeBody(place, by="eve"))


async def test_what_is_bounced_is_in_the_bin_and_comes_back() -> None:
    async with office() as found:
        waiting = await found.waiting()
        counted = await found.desk.act("bounce", ActBody(domain="example.com", reason="gone", dry_run=True))
        assert (counted.recipients, counted.dry_run) == (1, True)
        assert (await found.desk.act("bounce", ActBody(ids=(waiting,), by="eve", reason="gone"))).recipients == 1
        (binned,) = (await found.desk.bin(ActBody().selection)).entries
        assert (binned.id, binned.why) == (waiting, "bounced by eve: gone")
        assert (await found.desk.status()).reports_due == 1
        assert (await found.desk.restore(ActBody(ids=(waiting,), by="eve"))).recipients == 1
        assert (await found.desk.queue(ActBody().selection)).entries[0].id == waiting


@pytest.mark.parametrize("reason", ["", "  ", "two\r\nlines", "x" * 501])
async def test_a_bounce_without_a_sentence_for_the_author_is_refused(reason: str) -> None:
    async with office() as found:
        waiting = await found.waiting()
        with pytest.raises(OperationError, match="needs a reason"):
            await found.desk.act("bounce", ActBody(ids=(waiting,), reason=reason))


async def test_mail_is_rerouted_only_to_where_a_route_leads() -> None:
    async with office() as found:
        waiting = await found.waiting()
        for to in ("", "smtp://nowhere:25", "no such name"):
            with pytest.raises(OperationError):
                await found.desk.act("reroute", ActBody(ids=(waiting,), to=to))
        assert (await found.desk.act("reroute", ActBody(ids=(waiting,), by="eve", to=CAPTURED))).recipients == 1
        assert (await found.desk.queue(ActBody().selection)).entries[0].next_hop == CAPTURED


async def test_much_is_changed_a_slice_at_a_time() -> None:
    async with office() as found:
        for _ in range(5):
            await found.waiting()
        after, changed, rounds = "", 0, 0
        while True:
            acted = await found.desk.act("hold", ActBody(domain="example.com", by="me", limit=2, after=after))
            changed, rounds, after = changed + acted.recipients, rounds + 1, acted.next
            if not after:
                break
        assert (changed, rounds) == (5, 3)
