"""Each operation at its source."""

import pytest

from tests.admin.office import destination, hurry, office
from waypost.admin import queueing, words
from waypost.admin.answers import ActBody, Acted, FailureKind, OperationError, WatchBody
from waypost.mail.envelope import MessageId, NextHop
from waypost.queue.storage import RecipientState, Selection
from waypost.queue.watching import Dialogues
from waypost.route.state import Phase


async def test_status_counts_the_queue_and_says_why_it_is_not_ready() -> None:
    async with office() as found:
        await found.waiting("b@example.com,c@example.com")
        found.reasons.append("the spool is full")
        status = await found.desk.status()
        assert (status.messages, status.recipients, status.held, status.reports_due) == (1, 2, 0, 0)
        assert status.not_ready == ("the spool is full",)
        assert status.service.hostname == "mx.example.net"


async def test_the_queue_is_listed_page_by_page() -> None:
    async with office() as found:
        ids = [await found.waiting() for _ in range(5)]
        first = await found.desk.queue(Selection(), limit=3)
        assert ([entry.id for entry in first.entries], first.next) == (ids[:3], f"{ids[2]}:0")
        second = await found.desk.queue(Selection(), after=first.next, limit=3)
        assert ([entry.id for entry in second.entries], second.next) == (ids[3:], "")


async def test_a_long_queue_is_answered_in_parts_and_each_says_where_to_look_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with office() as found:
        for _ in range(3):
            await found.waiting("b@example.com")
        rare = await found.waiting("b@sub.example.com")
        hurry(found, monkeypatch)
        wanted, answers, after = Selection(domain="sub.example.com"), list[list[MessageId]](), ""
        while True:
            page = await found.desk.queue(wanted, after=after)
            answers.append([entry.id for entry in page.entries])
            after = page.next
            if not after:
                break
        assert answers == [[], [], [], [rare], []]

        counted = await found.desk.act("retry", ActBody(domain="sub.example.com", dry_run=True, limit=9))
        assert (counted.recipients, bool(counted.next)) == (0, True)
        assert (await found.desk.act("retry", ActBody(domain="sub.example.com", dry_run=True))).recipients == 1
        assert (await queueing._slices(found.desk, "hold", ActBody(address="b@example.com"), lambda _: None)) == Acted(
            "hold", 3
        )
        page = await queueing._page(found.desk, wanted, "", 9)
        assert ([entry.id for entry in page.entries], page.next) == ([rare], "")


async def test_the_queue_is_narrowed_by_each_field() -> None:
    async with office() as found:
        here, there = await found.waiting("b@example.com"), await found.waiting("b@sub.example.com")
        for selection, expected in [
            (Selection(ids=(there,)), [there]),
            (Selection(address="B@example.com"), [here]),
            (Selection(address="a@example.net"), [here, there]),
            (Selection(domain="sub.example.com"), [there]),
            (Selection(next_hop=NextHop("smtp://elsewhere:25")), []),
        ]:
            page = await found.desk.queue(selection)
            assert [entry.id for entry in page.entries] == expected, selection


async def test_a_message_is_shown_with_its_header_and_not_its_body() -> None:
    async with office() as found:
        detail = await found.desk.show(await found.waiting())
        assert detail.header.startswith("Subject: ")
        assert "Hello" not in detail.header
        assert (detail.reverse_path, detail.origin.client_host) == ("a@example.net", "127.0.0.1")
        assert "450 4.2.1 later" in detail.entries[0].last_outcome


async def test_recipients_are_held_released_retried_and_deleted() -> None:
    async with office() as found:
        one = Selection(ids=(await found.waiting(),))

        async def act(action: str, *, reason: str = "") -> int:
            return (await found.desk.act(action, ActBody(ids=one.ids, by="me", reason=reason))).recipients

        async def state() -> tuple[RecipientState, str]:
            [entry] = (await found.desk.queue(one)).entries
            return entry.state, entry.reason

        assert await act("hold", reason="moving house") == 1
        assert await state() == (RecipientState.HELD, "moving house")
        assert await act("release") == 1
        assert (await state())[0] is RecipientState.DUE
        assert await act("retry") == 0  # due already
        assert await act("delete") == 1
        assert (await found.desk.queue(one)).entries == ()
        [life] = (await found.desk.trace(one.ids[0])).traces
        assert [event.text for event in life.events if event.kind == "operator"][-1] == "deleted by me"


async def test_a_waiting_recipient_is_made_due() -> None:
    async with office() as found:
        await found.waiting()
        acted = await found.desk.act("retry", ActBody(domain="example.com", by="me"))
        assert acted.recipients == 1
        assert (await found.desk.queue(Selection())).entries[0].state is RecipientState.DUE


async def test_an_empty_selection_needs_to_be_meant() -> None:
    async with office() as found:
        await found.waiting()
        with pytest.raises(OperationError, match="everything there is") as refused:
            await found.desk.act("delete", ActBody(by="me"))
        assert refused.value.kind is FailureKind.BAD_REQUEST
        assert (await found.desk.act("delete", ActBody(everything=True, by="me"))).recipients == 1


async def test_a_life_is_found_by_id_and_by_either_address() -> None:
    async with office() as found:
        done, waiting = await found.delivered("c@example.com"), await found.waiting("b@example.com")
        [life] = (await found.desk.trace(done)).traces
        assert [event.kind for event in life.events] == ["received", "attempt", "done"]
        assert life.waiting == ()
        by_recipient = await found.desk.trace("<b@example.com>")
        assert [life.id for life in by_recipient.traces] == [waiting]
        assert by_recipient.traces[0].waiting[0].forward_path == "b@example.com"
        by_author = await found.desk.trace("A@example.net", limit=1)
        assert ([life.id for life in by_author.traces], by_author.more) == ([waiting], True)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ("0000000000000", FailureKind.NOT_FOUND),
        ("nobody@example.com", FailureKind.NOT_FOUND),
        ("not-an-id", FailureKind.BAD_REQUEST),
    ],
)
async def test_what_is_unknown_is_said_to_be(asked: str, kind: FailureKind) -> None:
    async with office() as found:
        with pytest.raises(OperationError) as refused:
            await found.desk.trace(asked)
        assert refused.value.kind is kind
        assert refused.value.remedy


async def test_an_mx_domain_shows_its_hosts_and_who_is_left_out_and_why() -> None:
    async with office() as found:
        answer = await found.desk.resolve("Example.ORG")
        assert answer.dns == "3 MX records"
        assert answer.hosts == ("mx1.example.org at [2001:db8::1]:25", "mx1.example.org at 192.0.2.1:25")
        assert [(host.name, host.trouble) for host in answer.exchangers] == [
            ("mx1.example.org", ""),
            ("missing.example.org", "does not exist (NXDOMAIN)"),
            ("mx.example.net", "left out: this service itself"),
        ]
        assert '"example.org" at waypost.toml:' in answer.rule


@pytest.mark.parametrize(
    ("domain", "dns", "trouble"),
    [
        ("null.example", "null MX", "takes no mail"),
        ("gone.example", "no such domain", "there is no domain"),
        ("nowhere.example", "", "no route matches"),
    ],
)
async def test_a_domain_without_a_host_says_why(domain: str, dns: str, trouble: str) -> None:
    async with office() as found:
        answer = await found.desk.resolve(domain)
        assert answer.dns.startswith(dns)
        assert trouble in answer.trouble
        assert answer.hosts == ()


async def test_a_smart_host_and_a_local_route_are_resolved_too() -> None:
    async with office() as found:
        assert (await found.desk.resolve("b@example.com")).hosts == ("127.0.0.9 at 127.0.0.9:2599",)
        assert (await found.desk.resolve("captured.example")).is_local
        assert (await found.desk.resolve("captured.example")).dns == ""  # nobody asks DNS about it
        with pytest.raises(OperationError):
            await found.desk.resolve("no_domain..example")


async def test_captured_messages_are_listed_newest_first_and_shown() -> None:
    async with office() as found:
        for _ in range(3):
            await found.captured()
        page = await found.desk.inbox(limit=2)
        numbers = [message.number for message in page.messages]
        assert numbers == sorted(numbers, reverse=True)
        rest = await found.desk.inbox(before=page.next)
        assert len(rest.messages) == 1
        assert rest.next == 0
        detail = await found.desk.captured(numbers[0])
        assert ("Subject", "Grüße") in detail.header
        assert (detail.text, detail.html, detail.cut) == ("Hello <b>there</b>\r\n", "", False)
        with pytest.raises(OperationError):
            await found.desk.captured(999)


async def test_a_closed_spool_is_an_answer_not_a_crash() -> None:
    async with office() as found:
        await found.storage.close()
        with pytest.raises(OperationError) as refused:
            await found.desk.queue(Selection(ids=(MessageId("0000000000000"),)))
        assert refused.value.kind is FailureKind.UNAVAILABLE


async def test_destinations_in_trouble_come_first_and_the_busiest_of_them_before_the_others() -> None:
    async with office() as found:
        found.delivering += [
            destination("idle", Phase.IDLE),
            destination("busy", Phase.DELIVERING, waiting=9),
            destination("stalled", Phase.STALLED),
            destination("resting", Phase.RESTING, waiting=1, cause="connection refused"),
            destination("resting more", Phase.RESTING, waiting=2, cause="connection refused"),
        ]
        answer = await found.desk.destinations(limit=4)
        assert [one.next_hop for one in answer.destinations] == ["resting more", "resting", "stalled", "busy"]
        assert answer.more
        assert not (await found.desk.destinations()).more
        said = [line.plain for line in words.destinations(answer)]
        assert said[0] == "resting more  resting until 2096-10-02 07:06:40Z, then one attempt decides for the others"
        assert said[1] == "    2 messages in memory, more on disk; 1 attempt running, 5 allowed now, 20 at most"
        assert said[2] == "    connection refused"
        assert said[-1] == "… and more: --limit"


async def test_a_retry_ends_rests_and_no_other_act_does() -> None:
    async with office() as found:
        for action in ("hold", "release", "retry"):
            await found.desk.act(action, ActBody(everything=True, by="me", reason="why not", to="capture:"))
        assert found.told == ["changed", "changed", "retried"]


async def test_a_trace_shows_the_session_of_a_client_that_was_watched() -> None:
    async with office() as found:
        name = await found.waiting()
        said = [(0.0, "S", "220 mx"), (0.1, "C", "MAIL FROM:<a@example.net>"), (0.2, "S", "250 2.0.0 Ok: queued")]
        await Dialogues(found.storage, found.desk.clock).keep(name, said)
        (trace,) = (await found.desk.trace(name)).traces
        assert trace.events[0].details["transcript"] == [list(line) for line in said]
        assert "C MAIL FROM:<a@example.net>" in str([line.plain for line in words.traces(await found.desk.trace(name))])


@pytest.mark.parametrize("peer", ["192.0.2.0/99", "a/b", ""])
async def test_what_is_no_network_is_watched_by_nobody(peer: str) -> None:
    async with office() as found:
        with pytest.raises(OperationError):
            await found.desk.watch(WatchBody(peer))
