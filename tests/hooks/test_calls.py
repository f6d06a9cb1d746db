"""Asking hooks: in order, within their budget; what fails defers, and is named."""

from __future__ import annotations

import asyncio

import pytest

from tests.hooks.asked import Heard, hooks, module
from tests.virtual import elapsed, virtual
from waypost.hooks.values import (
    Change,
    Client,
    Connect,
    Data,
    Defer,
    Delivery,
    Ended,
    Message,
    Pass,
    Point,
    RcptTo,
    Redirect,
    Refuse,
)
from waypost.mail.envelope import MessageId, NextHop
from waypost.smtp.path import NullPath, parse_mailbox

ASKED = RcptTo(Client("192.0.2.1"), NullPath(), parse_mailbox("bob@example.com"))
LETTER = Data(Client(), NullPath(), (parse_mailbox("bob@example.com"),), Message(b"Subject: hi\r\n\r\nhello\r\n"))


async def passes(event: object) -> Pass:
    return Pass()


async def refuses(event: object) -> Refuse:
    return Refuse("not you")


@virtual
async def test_the_first_that_does_not_pass_decides() -> None:
    asked = hooks(module("one", rcpt=passes), module("two", rcpt=refuses), module("three", rcpt=passes))
    decided = await asked.ask(Point.RCPT, ASKED)
    assert (decided.verdict, decided.by) == (Refuse("not you"), "two.rcpt")


@virtual
async def test_where_nobody_is_asked_all_pass() -> None:
    asked = hooks(module(mail=refuses))
    assert not asked.at(Point.RCPT)
    assert (await asked.ask(Point.RCPT, ASKED)).verdict == Pass()


async def raises(event: object) -> Pass:
    raise ZeroDivisionError("division by zero")


async def exits(event: object) -> Pass:
    raise SystemExit(3)


async def sleeps(event: object) -> Pass:
    await asyncio.sleep(3600)
    return Pass()


async def says_nothing(event: object) -> None:
    return None


async def says_too_much(event: object) -> Change:
    return Change()


async def to_nobody(event: object) -> Redirect:
    return Redirect(())


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (raises, "raised ZeroDivisionError: division by zero"),
        (exits, "raised SystemExit: 3"),
        (sleeps, "took longer than its budget of 5 s"),
        (says_nothing, "returned NoneType, which is none of Pass, Refuse, Defer, Redirect"),
        (says_too_much, "returned Change, which is none of Pass, Refuse, Defer, Redirect"),
        (to_nobody, "returned a Redirect to nobody"),
    ],
)
@virtual
async def test_a_hook_that_comes_to_no_verdict_defers_and_is_named(hook: object, why: str) -> None:
    heard = Heard()
    decided, seconds = await elapsed(hooks(module(rcpt=hook), heard=heard).ask(Point.RCPT, ASKED))  # type: ignore[arg-type]  # some are wrong on purpose
    assert isinstance(decided.verdict, Defer)
    assert str(decided.verdict.reply) == "451 4.3.0 the hook policy.rcpt failed; try again later"
    assert heard.failed == [("policy.rcpt", why)]
    assert seconds <= 5


@virtual
async def test_each_sees_what_those_before_it_have_changed() -> None:
    async def adds(event: Data) -> Change:
        return Change(add=(("X-One", event.message.field("Subject")),), tags=("a",))

    async def also(event: Data) -> Change:
        assert event.message.field("x-one") == "hi"
        return Change(also=(parse_mailbox("journal@example.com"),), rename={"X-One": "X-Two"}, body=b"other")

    decided = await hooks(module("a", data=adds), module("b", data=also)).data(LETTER)
    assert isinstance(decided.verdict, Data)
    assert decided.verdict.message.octets == b"X-Two: hi\r\nX-Waypost-Tags: a\r\nSubject: hi\r\n\r\nother\r\n"
    assert [str(path) for path in decided.verdict.recipients] == ["bob@example.com", "journal@example.com"]


@pytest.mark.parametrize(
    "change",
    [
        Change(add=(("X Bad", "y"),)),
        Change(remove=("a:",)),
        Change(body=b"bare\nnewline"),
        Change(body=b"nul \0"),
        Change(drop=(parse_mailbox("bob@example.com"),)),
        Change(add="nonsense"),  # type: ignore[arg-type]
    ],
)
@virtual
async def test_a_change_that_cannot_be_made_defers(change: Change) -> None:
    async def asks(event: Data) -> Change:
        return change

    heard = Heard()
    decided = await hooks(module(data=asks), heard=heard).data(LETTER)
    assert isinstance(decided.verdict, Defer)
    assert "cannot be made" in heard.failed[0][1]


@virtual
async def test_a_field_cannot_begin_another() -> None:
    async def injects(event: Data) -> Change:
        return Change(add=(("X-A", "b\r\nBcc: all@example.org\r\n\r\nbody"),))

    decided = await hooks(module(data=injects)).data(LETTER)
    assert isinstance(decided.verdict, Data)
    assert decided.verdict.message.octets.count(b"\r\n\r\n") == 1
    assert decided.verdict.message.field("Bcc") == ""


@virtual
async def test_who_fails_after_an_outcome_harms_nobody_after_it() -> None:
    told = []

    async def hears(event: Ended) -> None:
        told.append(event)

    ended = Ended(MessageId("1"), NullPath(), NextHop("mx:example.com"), ())
    await hooks(module("a", after_outcome=raises), module("b", after_outcome=hears)).ended(ended)
    assert told == [ended]


@virtual
async def test_connect_and_delivery_are_asked_alike() -> None:
    asked = hooks(module(connect=refuses, before_delivery=refuses))
    assert (await asked.ask(Point.CONNECT, Connect(Client()))).verdict == Refuse("not you")
    delivery = Delivery(MessageId("1"), NullPath(), (), NextHop("x"), 0, 0)
    assert (await asked.ask(Point.BEFORE_DELIVERY, delivery)).verdict == Refuse("not you")


def test_a_verdict_has_a_code_of_its_class() -> None:
    with pytest.raises(ValueError, match=r"450 5\.7\.1 is no 5yz"):
        Refuse("no", code=450)
    with pytest.raises(ValueError, match="is no 4yz"):
        Defer("no", status="5.0.0")
    assert str(Refuse("a\r\nb\u00e9").reply) == "550 5.7.1 a??b?"
