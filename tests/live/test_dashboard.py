"""The dashboard in a real browser (Debian's Chromium, headless): every view looked at, every action clicked.

What a click is to change is judged where it is kept, not on the page.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.admin.office import CONFIG, RELAYED, Office, destination, office, served
from waypost.admin import revisions
from waypost.admin.answers import ActBody, Expiring
from waypost.admin.board import Board, ConfigText
from waypost.admin.guard import Open, Users
from waypost.auth.admins import Role, changing_administrators, with_password
from waypost.policy.access import QUARANTINE, QUARANTINED
from waypost.queue.shelf import FOR_EVER
from waypost.queue.storage import RecipientState, Selection
from waypost.route.state import Phase

pytestmark = pytest.mark.live

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ALL = Selection()
PASSWORD = "correct horse battery"
MAIL = (
    b"Subject: Your order has shipped\r\nFrom: shop@example.net\r\n"
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"--x\r\nContent-Type: text/plain\r\n\r\nplain words\r\n"
    b"--x\r\nContent-Type: text/html\r\n\r\n<h1>Shipped</h1><script>top.hacked = 1</script>"
    b"<img src='http://127.0.0.1:1/pixel'>\r\n"
    b"--x\r\nContent-Disposition: attachment; filename=invoice.pdf\r\n\r\nmade up\r\n--x--\r\n"
)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def looking(
    *, access: Open | Users | None = None, board: Board | None = None, width: int = 1280
) -> AsyncIterator[tuple[Office, Page, str]]:
    """A desk, and a page on its dashboard that may neither fail nor break its policy."""
    async with office() as found, served(found, access=access, board=board) as server, chromium() as browser:
        page = await browser.new_page(viewport={"width": width, "height": 800})
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
        yield found, page, f"http://{server.endpoint}"
        mine = [one for one in complaints if "pixel" not in one and "about:srcdoc" not in one and "sandbox" not in one]
        assert mine == []


async def settled(page: Page, path: str, heading: str) -> None:
    await page.goto(path)
    await expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()


async def answer(page: Page, button: str, **fields: str) -> None:
    """Fill in the dialog that is open, and agree."""
    box = page.get_by_role("dialog").last
    for name, text in fields.items():
        await box.locator(f"[name={name}]").fill(text)
    await box.get_by_role("button", name=button, exact=True).click()


async def state(found: Office) -> list[RecipientState]:
    return [entry.state for entry in (await found.desk.queue(ALL)).entries]


async def test_the_overview_is_live_and_says_what_needs_attention() -> None:
    ending = Expiring("certificate", "mx.example.net.pem", "mx.example.net", 1.0, -1)
    async with looking(board=Board(expiring=lambda: (ending,))) as (found, page, url):
        await found.waiting()
        found.delivering.append(destination(RELAYED, Phase.RESTING, waiting=2, cause="it refuses"))
        found.reasons.append("the disk is full")
        await settled(page, url, "Flow")
        await expect(page.get_by_text("the disk is full")).to_be_visible()
        await expect(page.get_by_text("The certificate mx.example.net.pem has ended.")).to_be_visible()
        await expect(page.get_by_text("1 destination in trouble")).to_be_visible()
        await expect(page.locator("#nav-queue .count")).to_have_text("1")
        found.reasons.clear()
        await expect(page.get_by_text("the disk is full")).to_be_hidden()  # by itself: the page is live
        await page.get_by_role("tab", name="15 min").click()
        await expect(page.get_by_role("tab", name="15 min")).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize(
    ("button", "agree", "fields", "after"),
    [
        ("Retry now", "Retry", {}, [RecipientState.DUE]),
        ("Hold", "Hold", {"reason": "why not"}, [RecipientState.HELD]),
        ("Reroute", "Reroute", {"to": "capture:"}, [RecipientState.DUE]),
        ("Bounce", "Bounce", {"reason": "no such thing"}, []),
        ("Delete", "Delete", {}, []),
    ],
    ids=["retry", "hold", "reroute", "bounce", "delete"],
)
async def test_each_action_on_a_selected_recipient(
    button: str, agree: str, fields: dict[str, str], after: list[RecipientState]
) -> None:
    async with looking() as (found, page, url):
        await found.waiting("b@example.com")
        await settled(page, f"{url}/#/queue", "Queue")
        await page.get_by_label("Select b@example.com").check()
        await page.get_by_role("toolbar").get_by_role("button", name=button, exact=True).click()
        await answer(page, agree, **fields)
        await expect(page.locator(".toast")).to_contain_text("1 recipient")
        assert await state(found) == after


async def test_what_is_held_is_released_and_a_deletion_is_undone() -> None:
    async with looking() as (found, page, url):
        await found.desk.storage.hold(Selection(ids=(await found.waiting(),)), reason="x", now=found.desk.clock.now())
        await settled(page, f"{url}/#/queue?state=held", "Queue")
        await page.get_by_label("Select all that are shown").check()
        await page.get_by_role("toolbar").get_by_role("button", name="Release").click()
        await answer(page, "Release")
        await expect(page.get_by_text("Nothing of that kind waits.")).to_be_visible()
        assert await state(found) == [RecipientState.DUE]
        await page.goto(f"{url}/#/queue")
        await page.get_by_label("Select b@example.com").check()
        await page.get_by_role("toolbar").get_by_role("button", name="Delete").click()
        await answer(page, "Delete")
        await page.get_by_role("button", name="Undo").click()
        await expect(page.get_by_text("1 recipient back in the queue")).to_be_visible()
        assert len(await state(found)) == 1


async def test_all_that_a_filter_shows_is_changed_at_once_and_brought_back_from_the_bin() -> None:
    async with looking() as (found, page, url):
        for name in ("a", "b", "c"):
            await found.waiting(f"{name}@example.com")
        await settled(page, f"{url}/#/queue", "Queue")
        await page.get_by_label("Part of the last outcome").fill("4.2.1 later")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_role("toolbar").get_by_role("button", name="Bounce").click()
        await expect(page.get_by_role("dialog")).to_contain_text("all 3 recipients")
        await answer(page, "Bounce", reason="gone")
        await expect(page.locator(".toast")).to_contain_text("3 recipients bounced")
        await page.get_by_role("tab", name="Bin").click()
        await page.get_by_role("button", name="Bring back").first.click()
        await expect(page.get_by_role("button", name="Bring back")).to_have_count(2)
        assert len(await state(found)) == 1


async def test_a_recipient_is_opened_with_why_it_waits_and_its_life() -> None:
    async with looking() as (found, page, url):
        id = await found.waiting()  # noqa: A001 - the field's own name
        await settled(page, f"{url}/#/queue", "Queue")
        await page.get_by_role("button", name=id).click()
        drawer = page.get_by_role("dialog")
        await expect(drawer).to_contain_text("retry time")
        await expect(drawer).to_contain_text("450 4.2.1 later <script>")
        await drawer.get_by_text("Header", exact=True).click()
        await expect(drawer).to_contain_text("Subject:")
        await drawer.get_by_role("link", name="Its life").click()
        await page.get_by_text("Dialogue, 2 lines").click()
        await expect(page.locator(".talk")).to_contain_text("220 inner")


async def test_a_message_is_found_by_a_reply_and_by_its_address() -> None:
    async with looking() as (found, page, url):
        waiting = await found.waiting()
        await found.delivered()
        await settled(page, f"{url}/#/trace", "Trace")
        await page.get_by_label("Part of a reply").fill("4.2.1 later")
        await page.get_by_role("button", name="Search", exact=True).click()
        await expect(page.locator("section.card b.mono")).to_have_text([waiting])
        await page.get_by_label("Part of a reply").fill("")
        await page.get_by_label("Message id or address").fill("a@example.net")
        await page.get_by_label("Outcome").select_option("delivered")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Search", exact=True).click()
        await expect(page.locator("section.card b.mono")).to_have_count(1)
        await expect(page.locator(".life")).to_contain_text("delivered to inner.example.com")


async def test_a_destination_is_probed_frozen_and_thawed() -> None:
    async with looking() as (found, page, url):
        found.delivering.append(destination(RELAYED, Phase.RESTING, waiting=2, cause="connection refused"))
        await settled(page, f"{url}/#/destinations", "Destinations")
        await page.get_by_role("button", name=RELAYED).click()
        await page.get_by_role("button", name="Try now").click()
        await expect(page.locator(".toast").last).to_contain_text("Tried now")
        assert found.told == [f"retried {RELAYED}"]
        await page.get_by_role("button", name="Freeze", exact=True).click()
        await answer(page, "Freeze", reason="disk full there")
        await expect(page.get_by_text("disk full there")).to_be_visible()
        assert [one.place for one in (await found.desk.frozen()).frozen] == [RELAYED]
        await page.get_by_role("button", name="Thaw").first.click()
        await expect(page.get_by_text("disk full there")).to_be_hidden()
        assert not (await found.desk.frozen()).frozen


async def test_a_captured_message_is_read_in_every_way_and_its_html_can_do_nothing() -> None:
    async with looking() as (found, page, url):
        await found.captured(octets=MAIL)
        await settled(page, f"{url}/#/inbox", "Inbox")
        frame = page.frame_locator("iframe")
        await expect(frame.get_by_role("heading", name="Shipped")).to_be_visible()
        assert await page.evaluate("() => window.hacked") is None
        await page.get_by_role("tab", name="Text").click()
        await expect(page.locator("pre.source")).to_contain_text("plain words")
        await page.get_by_role("tab", name="Header").click()
        await expect(page.get_by_text("shop@example.net").first).to_be_visible()
        await page.get_by_role("tab", name="Source").click()
        await expect(page.locator("pre.source")).to_contain_text("boundary=x")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="invoice.pdf").click()
        saved = await (await download.value).path()
        assert await asyncio.to_thread(saved.read_bytes) == b"made up"
        await page.get_by_role("button", name="Empty").click()
        await answer(page, "Empty it")
        await expect(page.get_by_text("Nothing was captured.")).to_be_visible()
        assert (await found.desk.inbox()).messages == ()


async def test_a_way_is_explained_and_the_configuration_and_certificates_are_shown() -> None:
    board = Board(
        config=ConfigText("waypost.toml", '[service]\nhostname = "mx.example.net"  # us'),
        expiring=lambda: (Expiring("certificate", "cert.pem", "mx.example.net", 4e9, 900),),
    )
    async with looking(board=board) as (_, page, url):
        await settled(page, f"{url}/#/explain", "Explain")
        await page.get_by_label("Recipients").fill("b@example.com, nobody@elsewhere.example")
        await page.get_by_role("button", name="Explain").click()
        await expect(page.get_by_text("250 2.1.5")).to_be_visible()
        await expect(page.get_by_text("550 5").first).to_be_visible()
        await settled(page, f"{url}/#/config", "Config")
        await expect(page.locator(".code")).to_contain_text('hostname = "mx.example.net"')
        await settled(page, f"{url}/#/expiry", "Certificates and authorisations")
        await expect(page.get_by_text("900 days")).to_be_visible()


async def test_another_configuration_is_previewed_and_nothing_is_changed() -> None:
    async with looking() as (found, page, url):
        await found.waiting("b@example.com")
        now = found.desk.clock.now()
        await revisions.note(found.storage, CONFIG, by="start", where="/nowhere/waypost.toml", now=now)
        await settled(page, f"{url}/#/config", "Config")
        await expect(page.get_by_text("in force")).to_be_visible()
        await page.get_by_text("Preview another configuration").click()
        box = page.get_by_label("Another configuration")
        await expect(box).to_have_value(CONFIG)
        await page.get_by_role("button", name="Preview").click()
        await expect(page.get_by_text("No mail would go elsewhere")).to_be_visible()
        await box.fill(CONFIG.replace("smtp://127.0.0.9:2599", "smtp://127.0.0.8:2599"))
        await page.get_by_role("button", name="Preview").click()
        await expect(page.get_by_text("Of what waits: 1 recipient of 1 would change")).to_be_visible()
        await expect(page.get_by_text("smtp://127.0.0.8:2599", exact=True)).to_be_visible()
        await box.fill("[service]\nhostname = 3")
        await page.get_by_role("button", name="Preview").click()
        await expect(page.get_by_text("mend the file; nothing has changed")).to_be_visible()
        await page.get_by_role("button", name="Reload the file").click()
        await answer(page, "Reload")
        await expect(page.locator(".toast")).to_contain_text("the service is not running")


@pytest.mark.parametrize(("button", "left"), [("Release", [RecipientState.DUE]), ("Delete", [])])
async def test_what_is_in_quarantine_is_looked_into_released_and_deleted(
    button: str, left: list[RecipientState]
) -> None:
    async with looking() as (found, page, url):
        suspect = await found.waiting("b@example.com")
        await found.desk.act("hold", ActBody(ids=(suspect,), reason=f"{QUARANTINE}listed in zen.example"))
        await found.storage.keep(QUARANTINED, suspect, b"", until=FOR_EVER)
        await settled(page, f"{url}/#/queue/quarantine", "Queue")
        await expect(page.get_by_text("listed in zen.example")).to_be_visible()
        await page.get_by_role("button", name=button, exact=True).click()
        await answer(page, button)
        await expect(page.get_by_text("Nothing is in quarantine.")).to_be_visible()
        assert await state(found) == left


async def test_it_works_by_keyboard_alone() -> None:
    async with looking() as (found, page, url):
        await found.waiting()
        await settled(page, url, "Flow")
        await page.keyboard.press("g")
        await page.keyboard.press("q")
        await expect(page.get_by_role("heading", name="Queue", level=1)).to_be_visible()
        await expect(page.get_by_label("Select b@example.com")).to_be_visible()
        await page.get_by_label("Select b@example.com").focus()
        await page.keyboard.press("Space")
        await page.get_by_role("toolbar").get_by_role("button", name="Hold").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.type("by keyboard")
        await page.keyboard.press("Enter")
        await expect(page.locator(".toast")).to_contain_text("1 recipient held")
        assert (await found.desk.queue(ALL)).entries[0].reason == "by keyboard"
        await page.locator("h1").click()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_contain_text("Search or filter")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_nothing_is_wider_than_a_telephone() -> None:
    async with looking(width=375) as (found, page, url):
        await found.waiting("somebody.with.a.long.name@example.com")
        await found.captured(octets=MAIL)
        found.delivering.append(destination(RELAYED, Phase.RESTING, cause="x" * 200))
        for view in ("flow", "queue", "destinations", "trace/b@example.com", "inbox", "explain", "config", "expiry"):
            await page.goto(f"{url}/#/{view}")
            await expect(page.locator("h1").first).to_be_visible()
            await page.wait_for_load_state("networkidle", timeout=3000) if view == "config" else None
            wide = await page.evaluate("() => document.documentElement.scrollWidth")
            assert wide <= 375, f"{view} is {wide} wide"


async def test_light_and_dark_follow_the_system_until_somebody_chooses() -> None:
    async with looking() as (_, page, url):
        await page.emulate_media(color_scheme="dark")
        await settled(page, url, "Flow")
        assert await page.evaluate("() => document.documentElement.dataset.theme") == "dark"
        await page.get_by_role("button", name="Light or dark").click()
        await page.reload()
        assert await page.evaluate("() => document.documentElement.dataset.theme") == "light"


async def test_who_has_to_log_in_does_and_a_viewer_is_shown_no_action(tmp_path: Path) -> None:
    path = tmp_path / "administrators"
    with changing_administrators(path) as known:
        known["vera"] = with_password("vera", Role.VIEWER, PASSWORD)
        known["otto"] = with_password("otto", Role.OPERATOR, PASSWORD)
    async with looking(access=Users(path)) as (found, page, url):
        await found.waiting()
        await page.goto(f"{url}/#/queue")
        await page.get_by_label("Name").fill("vera")
        await page.get_by_label("Password").fill("wrong password")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("no such name, or another password")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_text("b@example.com")).to_be_visible()
        await expect(page.get_by_label("Select b@example.com")).to_have_count(0)
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_label("Name").fill("otto")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_label("Select b@example.com").check()
        await page.get_by_role("toolbar").get_by_role("button", name="Hold").click()
        await answer(page, "Hold")
        await expect(page.locator(".toast")).to_contain_text("1 recipient held")
        (life,) = (await found.desk.trace("b@example.com")).traces
        assert re.match("held by otto", life.events[-1].text)
