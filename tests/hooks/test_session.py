"""What a client hears of hooks, and what is stored after them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.hooks.asked import Heard, hooks, module
from tests.receive.house import BANNER, MESSAGE, Table, Talk, admission, begin, make_door, make_house
from tests.virtual import virtual
from waypost.hooks.calls import Hook
from waypost.hooks.values import Change, Connect, Data, Defer, MailFrom, Pass, RcptTo, Redirect, Refuse, Routing, Via
from waypost.mail.envelope import MessageId, NextHop
from waypost.net.memory import connected_pair
from waypost.policy.hooked import Hooked
from waypost.queue.storage import QueueEntry, Selection
from waypost.receive.house import House
from waypost.receive.session import Session
from waypost.route.route import Capture, NoRoute, Route
from waypost.smtp.path import parse_mailbox

BOB = parse_mailbox("bob@ours.example")
ASIDE = Route(NextHop("aside"), Capture(), "rule 9", name="aside")


class Named(Table):
    """A table with a route that is reached by name alone."""

    def named(self, name: str) -> Route | NoRoute:
        return ASIDE if name == "aside" else NoRoute(f"no route is named {name}")


def house(heard: Heard | None = None, **said: Hook) -> House:
    found = hooks(module(**said), heard=heard)
    return replace(make_house(), hooked=Hooked(found), admission=admission(Named()))


async def entries(talk: Talk) -> list[QueueEntry]:
    found = await talk.storage.entries(Selection(), after=(MessageId(""), -1), limit=9, now=talk.house.clock.now())
    return list(found)


async def sent(talk: Talk, to: str = "bob@ours.example") -> str:
    await talk.open_data(to)
    return await talk.send(MESSAGE + b".\r\n")


async def greeting(house: House) -> str:
    near, far = connected_pair()
    session = Session(far, make_door(), house)
    talk = Talk(near, session, asyncio.ensure_future(session.run(BANNER)), house)
    said = await talk.hear()
    await talk.end()
    return said


@virtual
async def test_connect_is_answered_in_place_of_the_banner() -> None:
    async def connect(event: Connect) -> Refuse:
        return Refuse(f"not from {event.client.host}")

    async def later(event: Connect) -> Defer:
        return Defer("not now")

    assert await greeting(house(connect=connect)) == "554 5.7.1 not from 192.0.2.1"
    assert await greeting(house(connect=later)) == "421 4.7.1 not now"


@virtual
async def test_mail_is_refused_and_the_session_goes_on() -> None:
    async def mail(event: MailFrom) -> Refuse | Pass:
        return Refuse("not today") if str(event.reverse_path) == "bad@us.example" else Pass()

    talk = await begin(house(mail=mail))
    assert await talk.say("EHLO us.example", "MAIL FROM:<bad@us.example>") == "550 5.7.1 not today"
    assert (await sent(talk)).startswith("250")


@virtual
async def test_rcpt_is_redirected_and_routed() -> None:
    async def rcpt(event: RcptTo) -> Redirect:
        assert event.client.name == "us.example"
        return Redirect((parse_mailbox("ann@ours.example"), parse_mailbox("carl@ours.example")))

    async def route(event: Routing) -> Via | Pass:
        return Via("aside") if str(event.forward_path).startswith("carl") else Pass()

    talk = await begin(house(rcpt=rcpt, route=route))
    assert (await sent(talk)).startswith("250")
    assert [(one.forward_path, one.next_hop) for one in await entries(talk)] == [
        ("ann@ours.example", "ours"),
        ("carl@ours.example", "aside"),
    ]


@virtual
async def test_a_route_that_is_not_there_defers_and_is_told_to_the_administrator() -> None:
    async def route(event: Routing) -> Via:
        return Via("nowhere")

    heard = Heard()
    talk = await begin(house(heard, route=route))
    reply = await talk.say("EHLO us.example", "MAIL FROM:<a@us.example>", "RCPT TO:<bob@ours.example>")
    assert reply == "451 4.3.0 the hook policy.route failed; try again later"
    assert heard.failed[-1] == ("policy.route", "no route is named nowhere")


@virtual
async def test_a_hook_cannot_let_in_what_the_service_refuses() -> None:
    async def rcpt(event: RcptTo) -> Redirect:
        return Redirect((BOB,))

    talk = await begin(house(rcpt=rcpt))
    reply = await talk.say("EHLO us.example", "MAIL FROM:<a@us.example>", "RCPT TO:<x@elsewhere.example>")
    assert reply.startswith("550 5.7.1 relaying denied")


@virtual
async def test_data_changes_header_body_and_recipients_below_our_trace() -> None:
    async def data(event: Data) -> Change:
        assert event.message.octets == MESSAGE
        assert event.message.body == b"How are you?\r\n"
        more = parse_mailbox("journal@ours.example")
        return Change(add=(("X-Seen", "yes"),), remove=("subject",), body=b"Fine.\r\n", also=(more,), drop=())

    talk = await begin(house(data=data))
    assert (await sent(talk)).startswith("250")
    assert [one.forward_path for one in await entries(talk)] == ["bob@ours.example", "journal@ours.example"]
    (octets,) = await talk.stored()
    assert octets.startswith(b"Received: ")
    assert octets.endswith(b"+0000\r\nX-Seen: yes\r\n\r\nFine.\r\n")


@virtual
async def test_data_puts_into_quarantine() -> None:
    async def data(event: Data) -> Change:
        return Change(quarantine="aside", tags=("spam",))

    talk = await begin(house(data=data))
    assert (await sent(talk)).startswith("250")
    assert [one.next_hop for one in await entries(talk)] == ["aside"]
    assert b"X-Waypost-Tags: spam\r\n" in (await talk.stored())[0]


@virtual
async def test_data_is_refused_or_fails_and_nothing_is_stored() -> None:
    async def data(event: Data) -> Refuse:
        if event.message.field("Subject") == "hello":
            return Refuse("no greetings", code=554)
        raise RuntimeError("a bug in the hook")

    talk = await begin(house(data=data))
    assert await sent(talk) == "554 5.7.1 no greetings"
    await talk.open_data()
    reply = await talk.send(b"Subject: other\r\n\r\nx\r\n.\r\n")
    assert reply == "451 4.3.0 the hook policy.data failed; try again later"
    assert await entries(talk) == []


@virtual
async def test_a_recipient_nobody_can_have_defers_the_message() -> None:
    async def data(event: Data) -> Change:
        return Change(also=(parse_mailbox("x@closed.example"),))

    talk = await begin(house(data=data))
    assert (await sent(talk)).startswith("451 4.3.0 the hook")
    assert await entries(talk) == []


@virtual
async def test_a_message_too_large_for_memory_waits_rather_than_pass_unseen() -> None:
    async def data(event: Data) -> Pass:
        return Pass()

    talk = await begin(replace(house(data=data), in_flight=make_house().in_flight.__class__(1000)))
    await talk.open_data()
    assert (await talk.send(b"x" * 900 + b"\r\n" + b"y" * 900 + b"\r\n.\r\n")).startswith("452 4.3.1 no memory")
