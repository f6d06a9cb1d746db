"""The pictures of the dashboard in the manual, taken by Debian's Chromium of a desk that is the same each time.

    python -m tests.live.pictures        writes docs/pictures/*.png

What they show is made up; no name in them is a machine's or a person's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, Page, expect

from tests.admin.office import CONFIG, HOST, RELAYED, Office, config, destination, office, served
from tests.live.test_dashboard import chromium, settled
from waypost.admin import revisions
from waypost.admin.answers import Expiring
from waypost.admin.board import Board
from waypost.admin.flow import EVERY, FlowKeeper, Sample
from waypost.mail.envelope import MessageId, NextHop, NotInDoubt
from waypost.mail.outcome import Answered, Deferred
from waypost.net.clock import SystemClock
from waypost.queue.storage import Counts, Selection, Wait
from waypost.route.state import LastReply, Phase, Tally
from waypost.smtp.reply import EnhancedStatus, Reply

PICTURES: Final = Path(__file__).parents[2] / "docs" / "pictures"
SAMPLES: Final = 2000
BUSY: Final = "4.2.1 mailbox busy, try again later"
DIALOGUE: Final = (
    f"* connecting to {HOST}",
    "S 220 inner.example.com ESMTP",
    "C EHLO mx.example.net",
    "S 250-inner.example.com",
    "S 250-PIPELINING",
    "S 250 SIZE 52428800",
    "C MAIL FROM:<a@example.net> SIZE=83",
    "C RCPT TO:<lee@example.com>",
    "S 250 2.1.0 fine",
    f"S 450 {BUSY}",
)
LETTER: Final = (
    b"Subject: Your order has shipped\r\nFrom: shop@example.net\r\n"
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"--x\r\nContent-Type: text/html\r\n\r\n<h1>It is on its way</h1><p>Three boxes, with you on Tuesday.</p>\r\n"
    b"--x\r\nContent-Disposition: attachment; filename=invoice.pdf\r\n\r\nmade up\r\n--x--\r\n"
)
OTHERS: Final = ("mx:example.org", "lmtp://[127.0.0.1]:24", "smtp://spare.example.net:587")


async def main() -> None:
    """All of them."""
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(office())
        await _fill(found)
        server = await stack.enter_async_context(served(found, board=_board(found)))
        browser = await stack.enter_async_context(chromium())
        url = f"http://{server.endpoint}"
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        await _views(page, url)
        await _other_looks(browser, url)


async def _views(page: Page, url: str) -> None:
    await _flow(page, url, "flow")
    await settled(page, f"{url}/#/queue", "Queue")
    for box in (1, 2, 3):
        await page.get_by_role("checkbox").nth(box).check()
    await _take(page, "queue")
    await page.locator("button.id").first.click()
    await expect(page.get_by_role("dialog")).to_contain_text("Until")
    await _take(page, "why")
    await page.get_by_role("dialog").get_by_label("Close").click()
    await settled(page, f"{url}/#/destinations", "Destinations")
    await page.get_by_role("button", name=RELAYED).click()
    await _take(page, "destinations")
    await settled(page, f"{url}/#/trace/lee@example.com", "Trace")
    await page.locator("summary").first.click()
    await _take(page, "trace")
    await settled(page, f"{url}/#/inbox", "Inbox")
    await page.get_by_text("Your order has shipped").or_(page.get_by_text("d@captured.example")).first.click()
    await page.wait_for_timeout(500)
    await _take(page, "inbox")
    await settled(page, f"{url}/#/config", "Config")
    await page.get_by_text("Preview another configuration").click()
    written = page.get_by_label("Another configuration")
    await written.fill(CONFIG.replace("smtp://127.0.0.9:2599", "smtp://spare.example.net:25"))
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_text("would change").first).to_be_visible()
    await _take(page, "config")


async def _other_looks(browser: Browser, url: str) -> None:
    dark = await browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    await _flow(dark, url, "flow-dark")
    telephone = await browser.new_page(viewport={"width": 375, "height": 780}, device_scale_factor=2)
    await _flow(telephone, url, "telephone")


async def _flow(page: Page, url: str, name: str) -> None:
    await settled(page, f"{url}/#/flow", "Flow")
    await page.wait_for_timeout(3000)  # for an event or two of the live stream
    await _take(page, name)


async def _take(page: Page, name: str) -> None:
    await page.screenshot(path=str(PICTURES / f"{name}.png"))


async def _fill(found: Office) -> None:
    """Mail in each state, and destinations in theirs."""
    now = found.desk.clock.now()
    facts = replace(found.desk.facts, spool="/var/spool/waypost", durability="fsync", version="1.0")
    found.desk.facts = replace(facts, started_at=now - 300_000)
    found.desk.in_force = replace(found.desk.in_force, config=config(Path("/etc/waypost")))
    for name in ("kim", "lee", "max", "noor", "olga", "pat", "ravi"):
        await _waiting(found, f"{name}@example.com")
    held = await _waiting(found, "sam@example.com")
    await found.storage.hold(Selection(ids=(held,)), reason="moving house", now=found.desk.clock.now(), by="alice")
    await found.delivered("kim@example.com")
    await found.captured(octets=LETTER)
    await revisions.note(found.storage, CONFIG, by="start", where="/etc/waypost/waypost.toml", now=now)
    said = LastReply(now - 60, "deferred", f"{HOST} answered RCPT with 450 {BUSY}")
    tried = Tally(now - 3600, delivered=180, deferred=12, rejected=3, last=(said, replace(said, at=now - 130)))
    resting = destination(RELAYED, Phase.RESTING, waiting=8, cause="no connection to 127.0.0.9: connection refused")
    found.delivering.append(replace(resting, rests_until=now + 300, tally=tried, route="inner"))
    for hop in OTHERS:
        fine = Tally(now - 3600, delivered=900, deferred=4)
        found.delivering.append(replace(destination(NextHop(hop), Phase.DELIVERING), tally=fine, running=3))


async def _waiting(found: Office, to: str) -> MessageId:
    """A message that a host would not have just now."""
    outcome = Deferred(Answered(HOST, "RCPT", Reply(450, (BUSY,))), EnhancedStatus(4, 2, 1))
    lease = await found.accept(to, RELAYED)
    return await found.settle(lease, outcome, Wait(found.desk.clock.now() + 3600, NotInDoubt()), said=DIALOGUE)


def _board(found: Office) -> Board:
    """A day like others, told again and again."""

    async def totals() -> Mapping[str, float]:
        return _totals(SAMPLES)

    async def counts() -> Counts:
        return await found.storage.counts()

    flow, now = FlowKeeper(totals, counts, SystemClock()), found.desk.clock.now()
    for number in range(SAMPLES):
        at = now - (SAMPLES - number) * EVERY.total_seconds()
        flow._samples.append(Sample(at, **_totals(number), queued=9 + number % 7, held=1))
    ends = now + timedelta(days=41).total_seconds()
    certificate = Expiring("certificate", "/etc/waypost/mx.example.net.pem", "mx.example.net", ends, 41)
    return Board(flow, lambda: (certificate,))


def _totals(number: int) -> Mapping[str, float]:
    mail = 60 * number + 2500 * math.sin(number / 160)
    return {
        "received": mail,
        "octets": mail * 40_000,
        "delivered": mail * 0.97,
        "deferred": mail * 0.02,
        "rejected": mail * 0.01,
        "refused": mail * 0.05,
        "sessions": 14.0,
    }


if __name__ == "__main__":
    asyncio.run(main())
