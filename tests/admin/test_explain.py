"""What would become of a message: each step, the line that decides it, and the same answer as live mail gets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.admin.office import DICE, config, destination, office, served
from tests.deliver.peer import NoPolicies
from tests.route.written import WrittenResolver
from tests.virtual import START
from waypost.admin.answers import OperationError, ServiceFacts
from waypost.admin.client import ServiceDesk
from waypost.admin.explanation import Explanation, MessageFacts, Question, message_facts
from waypost.admin.explanation_words import explanation
from waypost.admin.operations import InForce, Operations
from waypost.auth.users import hashed, save_users
from waypost.config import Config, parse
from waypost.config.parts import expander, hooks, maps, rewritings
from waypost.hooks.calls import NoHookLog
from waypost.hooks.runtime import Inline
from waypost.net.clock import SystemClock
from waypost.net.dialer import AsyncioDialer
from waypost.net.resolver import Addresses, MxRecord, MxRecords
from waypost.policy.admission import Admission
from waypost.policy.hooked import Hooked
from waypost.queue.memory import MemoryStorage
from waypost.route.hosts import HostFinder
from waypost.route.onward import Onward
from waypost.route.state import DestinationState, Phase

PAGE = Path(__file__).parents[2] / "docs/explain.md"
README = Path(__file__).parents[2] / "README.md"
ZONE = WrittenResolver(
    {"far.example": MxRecords((MxRecord(20, "mx.example.com"), MxRecord(10, "mx1.far.example")))},
    {"mx1.far.example": Addresses(("2001:db8::25", "198.51.100.25")), "mx.example.com": Addresses(("192.0.2.1",))},
)
DOWN = replace(
    destination("mx:far.example", Phase.RESTING, cause="mx1.far.example refused the connection"), rests_until=START
)


def desk(text: str, *, delivering: Sequence[DestinationState] = (), base: Path = Path("/etc/waypost")) -> Operations:
    """The desk of a service with the settings `text`."""
    found = parse(text, where="waypost.toml", base=base)
    assert isinstance(found, Config), str(found)
    clock, table = SystemClock(), found.route_table()
    known = maps(found, clock, AsyncioDialer())

    async def not_ready() -> Sequence[str]:
        return ()

    return Operations(
        storage=MemoryStorage(),
        in_force=InForce(
            found,
            table,
            Admission(table, expander(found, clock, known)),
            HostFinder(ZONE, own_names={"mx.example.com"}, own_addresses=set(), own_ports={25}, dice=DICE),
            rewritings=rewritings(found, known),
        ),
        resolver=ZONE,
        policies=NoPolicies(),
        clock=clock,
        facts=ServiceFacts("0", "mx.example.com", "spool", "memory", (), started_at=0.0),
        not_ready=not_ready,
        delivering=lambda: delivering,
    )


def printed(kind: str, number: int = 0) -> str:
    found = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(found[number])


def asked(command: str) -> Question:
    """The question a documented command puts."""
    found = re.fullmatch(r"\$ waypost explain --client (\S+) --from (\S+)(?: --priority (\S+))? (.*)", command)
    assert found is not None
    return Question(tuple(found[4].split()), found[1], reverse_path=found[2], priority=int(found[3] or 0))


def words(answer: Explanation) -> str:
    return "".join(f"{line.plain.rstrip()}\n" for line in explanation(answer))


async def test_the_page_shows_what_is_printed() -> None:
    command, _, says = printed("console").partition("\n")
    answer = await desk(printed("toml"), delivering=[DOWN]).explain(asked(command))
    assert says == words(answer)


async def test_the_page_shows_the_times_of_each_priority_as_they_are_printed() -> None:
    command, _, says = printed("console", 1).partition("\n")
    text = printed("toml").replace('to = "mx:"\n', f'to = "mx:"\n{printed("toml", 1)}')
    told = [line.strip() for line in words(await desk(text).explain(asked(command))).splitlines()]
    shown = [line.strip() for line in says.splitlines() if line.strip() != "…"]
    assert [line for line in told[told.index(shown[0]) :] if line in shown] == shown
    wanted = ("priority", "retries", "otherwise", "told of", "given up")
    assert [line for line in told if line.startswith(wanted) and line not in shown] == []


def test_the_readme_shows_a_part_of_the_page() -> None:
    (part,) = re.findall(r"\$ waypost explain.*?(?=\n\n\S)", README.read_text("utf-8"), re.DOTALL)
    lines = [line.strip() for line in part.splitlines() if line.strip() and line.strip() != "…"]
    assert len(lines) > 5
    page = [line.strip() for line in PAGE.read_text("utf-8").splitlines()]
    assert [line for line in lines[1:] if line not in page] == []


async def test_the_service_gives_the_same_answer_over_http() -> None:
    async with office() as found, served(found) as server:
        question = Question(("b@example.com", "x@example.org", "not an address"), client="203.0.113.9")
        over_http = await ServiceDesk(server.endpoint).explain(question)
        assert over_http == await found.desk.explain(question)
        assert [journey.is_taken for journey in over_http.journeys] == [True, False, False]


async def test_a_way_that_ends_here_needs_no_host() -> None:
    async with office() as found:
        answer = await found.desk.explain(Question(("a@captured.example",)))
        (leg,) = answer.journeys[0].legs
        assert [fact.step for fact in leg.facts] == ["route", "retries"]


@pytest.mark.parametrize(
    ("question", "error"),
    [
        (Question(()), "0 recipients"),
        (Question(("a@b.example",) * 101), "101 recipients"),
        (Question(("a@b.example",), client="mx.example.org"), "no numeric address"),
        (Question(("a@b.example",), reverse_path="a"), "no domain"),
        (Question(("a@b.example",), account="ann"), "there are no accounts"),
        (Question(("a@b.example",), priority=10), "10 is no priority"),
    ],
)
async def test_a_question_that_makes_no_sense_is_told_so(question: Question, error: str) -> None:
    async with office() as found:
        with pytest.raises(OperationError, match=error):
            await found.desk.explain(question)


SUBMISSION = """\
[service]
hostname = "mx.example.com"
spool = "spool"
postmaster = "admin@example.com"
[[listener]]
address = "127.0.0.1:25"
[[listener]]
address = "127.0.0.1:587"
role = "submission"
[auth]
users = "users"
[[route]]
domains = ["*"]
to = "mx:"
"""


async def test_an_account_may_send_anywhere_but_only_as_itself(tmp_path: Path) -> None:
    save_users(tmp_path / "users", {"ann": hashed("ann", "secret")})
    found = desk(SUBMISSION, base=tmp_path)
    hers = Question(("x@far.example",), client="203.0.113.9", account="ann", reverse_path="ann@example.com")
    answer = await found.explain(hers)
    assert answer.is_taken
    assert answer.journeys[0].is_taken
    assert "submission on 127.0.0.1:587  [waypost.toml:7]" in words(answer)
    answer = await found.explain(Question(hers.recipients, hers.client, "ann", "eve@example.com"))
    assert not answer.is_taken
    assert "<eve@example.com> is no reverse-path of ann: 553 5.7.1" in words(answer)
    with pytest.raises(OperationError, match="there is no account bob"):
        await found.explain(Question(hers.recipients, hers.client, "bob"))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (MessageFacts(100, 1), ""),
        (MessageFacts(100 * 1024**2, 1), "552 5.3.4  [default]"),
        (MessageFacts(100, 100), "it goes in circles, 554 5.4.6"),
    ],
)
async def test_a_message_that_would_be_refused_stops_at_it(message: MessageFacts, says: str) -> None:
    async with office() as found:
        answer = await found.desk.explain(Question(("b@example.com",), message=message))
        assert answer.is_taken is not bool(says)
        assert says in words(answer)


def test_of_a_message_counts_what_decides() -> None:
    octets = "Received: a\r\nReceived: b\r\n\r\nGrüße\r\n".encode()
    assert message_facts(octets) == MessageFacts(len(octets), 2, is_ascii=False)


def test_the_place_of_a_setting_is_its_line_or_that_it_is_not_written() -> None:
    places = config().places
    assert places.of("route", 1, "to") == "waypost.toml:14"
    assert places.of("route", 1, "tls") == "default"


async def test_hooks_are_asked_as_live_mail_asks_them_and_the_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "policy.py").write_text(
        "from waypost.hooks import Pass, Redirect, Refuse, Via\n"
        "from waypost.smtp.path import parse_mailbox\n"
        "async def mail(event):\n"
        "    assert event.client.rehearsal\n"
        "    return Refuse('not you') if str(event.reverse_path) == 'eve@far.example' else Pass()\n"
        "async def rcpt(event): return Redirect((parse_mailbox('other@far.example'),))\n"
        "async def route(event): return Via('aside')\n"
        "async def data(event): return Pass()\n"
        "async def after_outcome(event): pass\n"
    )
    (tmp_path / "idle.py").write_text(
        "from waypost.hooks import Pass\n"
        "async def connect(event): return Pass()\n"
        "async def route(event): return Pass()\n"
    )
    text = """
[service]
hostname = "mx.example.com"
spool = "spool"
postmaster = "postmaster@example.com"
[[listener]]
address = "127.0.0.1:2525"
[relay]
networks = ["127.0.0.0/8"]
[[route]]
domains = ["*"]
to = "mx:"
[[route]]
name = "aside"
to = "capture:"
[[hook]]
module = "idle.py"
[[hook]]
module = "policy.py"
"""
    asked = desk(text, base=tmp_path)
    asked = replace(asked, hooked=Hooked(hooks(asked.in_force.config, asked.clock, NoHookLog(), lambda _: Inline())))
    answer = await asked.explain(Question(("bob@far.example",), reverse_path="ann@far.example"))
    (journey,) = answer.journeys
    said = [(fact.step, fact.text, fact.place) for fact in journey.facts]
    assert said == [
        ("hook", "policy.rcpt: → other@far.example", "waypost.toml:18"),
        ("hook", "policy.route: <other@far.example> goes by the route aside", "waypost.toml:18"),
        ("hook", "idle.route lets it pass", "waypost.toml:16"),
    ]
    assert journey.legs[0].facts[0].text.startswith("capture:")
    assert [fact.text for fact in answer.facts if fact.step == "hook"] == [
        "idle.connect lets it pass",
        "policy.mail lets it pass",
        "policy has a say later too: data",
        "policy is told what becomes of it",
    ]
    refused = await asked.explain(Question(("bob@far.example",), reverse_path="eve@far.example"))
    assert not refused.is_taken
    assert "policy.mail: 550 5.7.1 not you" in [fact.text for fact in refused.facts]


async def test_a_quota_is_told_with_what_of_it_is_used() -> None:
    text = """
[service]
hostname = "mx.example.com"
spool = "spool"
postmaster = "postmaster@example.com"
[[listener]]
address = "127.0.0.1:2525"
[relay]
networks = ["127.0.0.0/8"]
[[route]]
domains = ["*"]
to = "smtp://192.0.2.4:25"
quota = ["5/1h"]
"""

    async def used(onward: Onward) -> Sequence[str]:
        return [f"3 of {onward.quotas[0]} are used"]

    answer = await replace(desk(text), used=used).explain(Question(("bob@far.example",)))
    (quota,) = [fact for fact in answer.journeys[0].legs[0].facts if fact.step == "quota"]
    assert (quota.details, quota.place) == (("3 of 5 messages in 1 hour are used",), "waypost.toml:13")


REWRITING = """
[service]
hostname = "mx.example.com"
spool = "spool"
postmaster = "postmaster@example.com"
[[listener]]
address = "127.0.0.1:2525"
[relay]
networks = ["127.0.0.0/8"]
[[map]]
name = "names"
entries = { "ann@example.com" = "ann.lee@example.com", "bob@old.example" = "bob@far.example" }
[rewriting]
canonical = ["names"]
masquerade = ["example.com"]
[[copy]]
of = ["example.com"]
to = "journal@far.example"
[[route]]
domains = ["*"]
to = "smtp://192.0.2.4:25"
generic = ["names"]
rewrite_sender = "relay@provider.example"
size = "64K"
"""


async def test_each_address_is_told_with_what_each_rule_makes_of_it() -> None:
    message = MessageFacts(100_000, author="eve@pc7.example.com")
    question = Question(("bob@old.example",), reverse_path="ann@example.com", message=message)
    (journey,) = (await desk(REWRITING).explain(question)).journeys
    assert ("canonical", "bob@old.example → bob@far.example") in [(fact.step, fact.text) for fact in journey.facts]
    assert ("copy", "<journal@far.example> gets one, unseen", "waypost.toml:16") in [
        (fact.step, fact.text, fact.place) for fact in journey.facts
    ]
    (leg,) = journey.legs
    (told,) = [fact for fact in leg.facts if fact.step == "rewriting"]
    relayed = "<relay@provider.example> by rewrite_sender (waypost.toml:23)"
    assert told.details == (
        f"MAIL <ann@example.com> → <ann.lee@example.com> by canonical (waypost.toml:12) → {relayed}",
        f"From <eve@pc7.example.com> → <eve@example.com> by masquerade (waypost.toml:15) → {relayed}",
        "To <bob@old.example> → <bob@far.example> by canonical (waypost.toml:12)",
    )
    (size,) = [fact for fact in leg.facts if fact.step == "size"]
    assert (size.stops, size.place) == (True, "waypost.toml:24")


async def test_a_map_in_trouble_is_told_where_it_would_make_mail_wait(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("ann@example.com ann.lee@example.com\n")
    asked = desk(REWRITING.replace("entries = {", 'file = "names" #'), base=tmp_path)
    (tmp_path / "names").write_text("broken\n")
    (journey,) = (await asked.explain(Question(("postmaster",), reverse_path="ann@example.com"))).journeys
    (told,) = [fact for fact in journey.legs[0].facts if fact.step == "rewriting"]
    assert told.details[0].startswith("MAIL <ann@example.com> cannot be looked up, and mail waits: map names")


async def test_an_account_s_author_is_held_against_it_as_the_final_dot_would(tmp_path: Path) -> None:
    save_users(tmp_path / "users", {"ann": hashed("ann", "secret")})
    text = SUBMISSION.replace('users = "users"', 'users = "users"\nfrom_field = "refuse"')
    message = MessageFacts(100, author="eve@far.example")
    question = Question(("bob@far.example",), account="ann", reverse_path="ann@example.com", message=message)
    answer = await desk(text, base=tmp_path).explain(question)
    (author,) = [fact for fact in answer.facts if fact.step == "author"]
    assert (author.stops, author.place) == (True, "waypost.toml:12")
    assert author.text.endswith("else 554 5.7.1: <eve@far.example> is not")


# ---- priorities, and when it would be tried again
PRIORITIES = """
[service]
hostname = "mx.example.com"
spool = "spool"
postmaster = "postmaster@example.com"
[[listener]]
address = "127.0.0.1:2525"
[relay]
networks = ["127.0.0.0/8"]
[retry]
schedule = ["10m"]
urgent_schedule = ["30s", "1m"]
urgent_expire = "2h"
non_urgent_delay_notice = "2d"
[[route]]
domains = ["*"]
to = "mx:"
expire = "3d"
[[destination]]
domains = ["far.example"]
urgent_delay_notice = "15m"
tls = "none"
"""


def times(answer: Explanation) -> list[tuple[str, str, str, tuple[str, ...]]]:
    (leg,) = answer.journeys[0].legs
    told = [fact for fact in leg.facts if fact.step in {"retries", "otherwise"}]
    return [(fact.step, fact.text, fact.place, fact.details) for fact in told]


USUAL = (
    "after 10m, then every 10m",
    "waypost.toml:11",
    ("told of a delay after 4h (default)", "given up after 3d (waypost.toml:18)"),
)
URGENT = (
    "after 30s, 1m, then every 1m",
    "waypost.toml:12",
    ("told of a delay after 15m (waypost.toml:21)", "given up after 2h (waypost.toml:13)"),
)
NOT_URGENT = (
    "after 10m, then every 10m",
    "waypost.toml:11",
    ("told of a delay after 2d (waypost.toml:14)", "given up after 3d (waypost.toml:18)"),
)


@pytest.mark.parametrize(
    ("priority", "own", "others"),
    [
        (
            0,
            ("", *USUAL),
            [
                ("urgent mail (priority above 0): ", *URGENT),
                ("mail that is not urgent (priority below 0): ", *NOT_URGENT),
            ],
        ),
        (
            4,
            ("for priority 4, urgent: ", *URGENT),
            [("mail of priority 0: ", *USUAL), ("mail that is not urgent (priority below 0): ", *NOT_URGENT)],
        ),
        (
            -9,
            ("for priority -9, not urgent: ", *NOT_URGENT),
            [("mail of priority 0: ", *USUAL), ("urgent mail (priority above 0): ", *URGENT)],
        ),
    ],
)
async def test_the_times_of_the_message_s_own_priority_come_first_then_those_of_others_each_with_its_line(
    priority: int,
    own: tuple[str, str, str, tuple[str, ...]],
    others: list[tuple[str, str, str, tuple[str, ...]]],
) -> None:
    answer = await desk(PRIORITIES).explain(Question(("bob@far.example",), priority=priority))
    assert times(answer) == [
        (step, whose + text, place, details)
        for step, (whose, text, place, details) in (("retries", own), *(("otherwise", other) for other in others))
    ]


async def test_a_priority_without_times_of_its_own_has_the_usual_ones() -> None:
    text = re.sub(r"(?m)^(non_)?urgent.*\n", "", PRIORITIES)
    ((step, says, _, _),) = times(await desk(text).explain(Question(("bob@far.example",), priority=3)))
    assert (step, says) == ("retries", "for priority 3, urgent: after 10m, then every 10m")


async def test_a_setting_of_a_destination_is_told_with_its_line_and_only_where_it_applies() -> None:
    found = desk(PRIORITIES)
    places = [
        {fact.step: fact.place for fact in (await found.explain(Question((to,)))).journeys[0].legs[0].facts}["tls"]
        for to in ("bob@far.example", "bob@mail.far.example", "bob@other.example")
    ]
    assert places == ["waypost.toml:22", "waypost.toml:22", "default"]


@pytest.mark.parametrize(
    ("priority", "header", "client", "says", "counts"),
    [
        (5, 0, "127.0.0.1", "5: urgent, it goes before other mail [the question]", "for priority 5, urgent: "),
        (5, 0, "203.0.113.9", "5 is lowered to 0, for only who may relay raises it: 250 2.3.6 [waypost.toml:9]", ""),
        (-5, 0, "203.0.113.9", "-5: not urgent, it goes behind other mail [the question]", "for priority -5, not "),
        (0, 5, "127.0.0.1", "5 by its header: urgent, it goes before other mail [the message]", "for priority 5, urg"),
        (0, 5, "203.0.113.9", "MT-Priority: 5 in the header counts of those alone who may relay [waypost.toml:9]", ""),
        (0, -5, "203.0.113.9", "-5 by its header: not urgent, it goes behind other mail [the message]", "for priority"),
        (2, -5, "127.0.0.1", "2: urgent, it goes before other mail [the question]", "for priority 2, urgent: "),
    ],
)
async def test_a_priority_counts_as_it_would_at_mail_and_in_the_header(
    priority: int, header: int, client: str, says: str, counts: str
) -> None:
    text = PRIORITIES + '[[route]]\ndomains = ["ours.example"]\nto = "smtp://192.0.2.4:25"\n'
    message = MessageFacts(100, priority=header)
    answer = await desk(text).explain(Question(("bob@ours.example",), client, message=message, priority=priority))
    (fact,) = [fact for fact in answer.facts if fact.step == "priority"]
    assert f"{fact.text} [{fact.place}]" == says
    own = times(answer)[0][1]
    assert own.startswith(counts or "after")


def test_the_header_tells_a_priority_too() -> None:
    assert message_facts(b"MT-Priority: -3\r\n\r\nx\r\n").priority == -3


@pytest.mark.parametrize(
    ("way", "says", "line"),
    [
        ('to = "smtp://192.0.2.4:25"\ndeliver = "on-demand"', "none: it waits until its host calls (ETRN)", 18),
        ('to = "smtp://192.0.2.4:25"', "after 10m, then every 10m", 11),
    ],
)
async def test_mail_that_waits_for_a_call_is_not_said_to_be_tried_by_the_clock(way: str, says: str, line: int) -> None:
    text = PRIORITIES.partition("[[destination]]")[0].replace('to = "mx:"', way)
    answer = await desk(text).explain(Question(("bob@far.example",)))
    assert times(answer)[0][1:3] == (says, f"waypost.toml:{line}")
