"""The hooks in examples/hooks do what they say."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from tests.hooks.asked import BUDGET
from tests.virtual import VirtualClock, virtual
from waypost.hooks.calls import Hooks, Module
from waypost.hooks.load import Source, loaded
from waypost.hooks.runtime import Inline
from waypost.hooks.values import Client, Data, Message, Pass, Point, RcptTo, Refuse, Routing, Via
from waypost.mail.envelope import NextHop
from waypost.smtp.path import NullPath, ReversePath, parse_mailbox

HOOKS = Path(__file__).parents[2] / "examples/hooks"
ANN, BOB = parse_mailbox("ann@example.org"), parse_mailbox("bob@far.example")


def example(name: str, **settings: object) -> Hooks:
    found = loaded(Source(f"{name}.py", HOOKS), settings)
    return Hooks((Module(name, "waypost.toml:1", BUDGET, found, Inline()),), VirtualClock())


def letter(octets: bytes, *, author: ReversePath = ANN) -> Data:
    return Data(Client(account="ann"), author, (BOB,), Message(octets))


async def after(hooks: Hooks, data: Data) -> Data:
    verdict = (await hooks.data(data)).verdict
    assert isinstance(verdict, Data)
    return verdict


@virtual
async def test_a_footer_stands_under_text_and_html_once() -> None:
    message = EmailMessage(policy=SMTP)
    message["Subject"] = "hello"
    message.set_content("text é\n")
    message.add_alternative("<html><body><p>html</p></body></html>", subtype="html")
    message.add_attachment("kept", filename="a.txt")
    hooks = example("footer", text="A & B Ltd.", senders=["example.org"])
    once = await after(hooks, letter(message.as_bytes()))
    twice = await after(hooks, once)
    assert twice.message == once.message
    read = message_from_bytes(once.message.octets, _class=EmailMessage, policy=SMTP)
    texts = [part.get_content().replace("\r\n", "\n") for part in read.walk() if part.get_content_maintype() == "text"]
    assert texts[0] == "text é\n\n-- \nA & B Ltd.\n"
    assert "<p>html</p><p>A &amp; B Ltd.</p></body>" in texts[1]
    assert texts[2] == "kept\n"
    assert read["Subject"] == "hello"
    assert read["X-Footer"] == "yes"


@pytest.mark.parametrize(
    "octets",
    [
        b"Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\ntext\r\n--x--\r\n",
        b"Content-Type: application/pdf\r\n\r\nnothing to read\r\n",
    ],
)
@virtual
async def test_what_a_footer_would_break_stays_as_it_is(octets: bytes) -> None:
    assert (await after(example("footer", text="x", senders=["example.org"]), letter(octets))).message.octets == octets


@virtual
async def test_mail_of_others_gets_no_footer() -> None:
    data = letter(b"Subject: x\r\n\r\ntext\r\n", author=parse_mailbox("eve@far.example"))
    assert await after(example("footer", text="x", senders=["example.org"]), data) == data


@virtual
async def test_the_journal_gets_a_copy_and_nobody_sees_it() -> None:
    hooks = example("journal", to="journal@example.org", domains=["example.org"])
    found = await after(hooks, letter(b"Subject: x\r\n\r\ntext\r\n"))
    assert [str(path) for path in found.recipients] == ["bob@far.example", "journal@example.org"]
    assert found.message.octets == b"Subject: x\r\n\r\ntext\r\n"


@pytest.mark.parametrize("author", [NullPath(), parse_mailbox("eve@else.example")])
@virtual
async def test_reports_and_mail_of_others_are_not_journalled(author: ReversePath) -> None:
    data = letter(b"\r\ntext\r\n", author=author)
    assert await after(example("journal", to="journal@example.org", domains=["example.org"]), data) == data


@virtual
async def test_the_table_routes_by_recipient_before_sender_and_longest_first() -> None:
    hooks = example(
        "routing",
        by_sender={"example.org": "ours", "ann@example.org": "anns"},
        by_recipient={"far.example": "far"},
        refuse=["closed.example"],
    )

    async def way(sender: str, recipient: str) -> object:
        asked = Routing(Client(), parse_mailbox(sender), parse_mailbox(recipient), "*", NextHop("x"))
        return (await hooks.ask(Point.ROUTE, asked)).verdict

    assert await way("ann@example.org", "bob@sub.far.example") == Via("far")
    assert await way("ann@example.org", "bob@near.example") == Via("anns")
    assert await way("dan@example.org", "bob@near.example") == Via("ours")
    assert await way("dan@example.net", "bob@near.example") == Pass()
    refused = await hooks.ask(Point.RCPT, RcptTo(Client(), ANN, parse_mailbox("x@a.closed.example")))
    assert isinstance(refused.verdict, Refuse)
