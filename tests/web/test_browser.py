"""The web inbox in a real Chromium: seen by push, decided by click and key, inert whatever an agent writes."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from pyopenshell.wire.gen import openshell_pb2
from tests.desk import NOTES, Desk, desk
from tests.gateway.core import rest
from tests.web.desk_web import served

pytestmark = pytest.mark.browser


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as one:
        yield one


@pytest.fixture
async def page(at: Desk) -> AsyncIterator[Page]:
    """A logged-in page; any error or refused content on it, and any request to elsewhere, fails the test."""
    chromium = shutil.which("chromium")
    assert chromium, "make test-web installs chromium"
    async with served(at.client) as web, async_playwright() as player:
        browser = await player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1200, "height": 800})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
        page.on("request", lambda one: wrong.append(one.url) if web.authority not in one.url else None)
        await page.goto(web.link)
        await expect(page.locator("#state")).to_contain_text("connected")
        yield page
        await browser.close()
        assert not wrong


async def test_push_approve_undo_reject(at: Desk, page: Page) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    await expect(page.locator(".permit")).to_contain_text("PUT to unboundedly many paths on api.github.com:443")
    await page.get_by_role("button", name="Approve (a)").click()
    await expect(page.locator("#card")).to_contain_text("approved · in box")
    assert await at.status("box", chunk) == "approved"
    await expect(page.get_by_role("button", name="Undo (u)")).to_be_enabled()
    await page.keyboard.press("u")
    await expect(page.locator("#card")).to_contain_text("pending · in box")
    await expect(page.get_by_role("button", name="Reject (x)")).to_be_enabled()
    await page.keyboard.press("x")
    await page.get_by_role("textbox").fill("only this one, please")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#card")).to_contain_text("only this one, please")
    assert await at.status("box", chunk) == "rejected"


async def test_approve_for_a_time_count_and_renew(at: Desk, page: Page) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    await page.clock.install()
    await expect(page.locator(".permit")).to_contain_text("unboundedly")
    await page.clock.run_for(1000)
    await page.get_by_role("button", name="Approve for a time (T)").click()
    await page.get_by_role("button", name="1 hour").click()
    await expect(page.locator("#left")).to_contain_text("approved for 1h")
    assert await at.status("box", chunk) == "approved"
    await page.clock.fast_forward("30:00")
    await expect(page.locator("#left")).to_contain_text("ends in 2")
    await page.keyboard.press("T")
    await page.locator("#length").fill("2x")
    await page.get_by_role("button", name="Approve for this long").click()
    await expect(page.locator("#limit")).to_be_visible()
    await page.locator("#length").fill("2d")
    await page.keyboard.press("Enter")
    await expect(page.locator("#left")).to_contain_text("approved for 2d")
    found = await at.chunk("box", chunk)
    assert found is not None
    await at.client.approve("box", chunk, found.review_token, expires=datetime.timedelta(minutes=5))
    await expect(page.locator("#left")).to_contain_text("approved for 5m")


async def test_a_long_proposal_is_approved_only_after_its_end_was_seen(at: Desk, page: Page) -> None:
    box = await at.sandbox()
    rule = rest("api.github.com", *(f"PUT /many/{n}" for n in range(60)), name="many")
    chunk = await at.propose(box, rule, rationale="word " * 200)
    approve = page.get_by_role("button", name="Approve (a)")
    await expect(page.get_by_role("button", name="Reject (x)")).to_be_enabled()
    await expect(approve).to_be_disabled()
    await page.keyboard.press("a")
    await expect(page.locator("#said")).to_contain_text("There was more below")
    assert await at.status("box", chunk) == "pending"
    await page.locator("#card .end").scroll_into_view_if_needed()
    await expect(approve).to_be_enabled()
    # What it became was not seen to its end.
    await at.client.edit("box", chunk, rest("api.github.com", *(f"PUT /more/{n}" for n in range(60)), name="many"))
    await expect(page.locator(".notice")).to_be_visible()
    await expect(page.get_by_role("button", name="Reject (x)")).to_be_enabled()
    await expect(approve).to_be_disabled()


async def test_the_log(at: Desk, page: Page) -> None:
    box = await at.sandbox()
    await at.put_notes(box)
    await expect(page.locator(".permit")).to_be_visible()
    await page.keyboard.press("l")
    line = openshell_pb2.SandboxLogLine(level="WARN", message="<b>a</b> \x1b[2J line", source="sandbox")
    at.served.gateway.logs.append(box, [line], "sandbox")
    await expect(page.locator("#lines")).to_contain_text("<b>a</b> \\x1b[2J line")
    assert await page.locator("#lines b").count() == 0


async def test_what_changes_under_the_eyes_must_be_read_again(at: Desk, page: Page) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    await expect(page.locator(".permit")).to_contain_text("unboundedly")
    await at.client.edit("box", chunk, rest("api.github.com", "PUT /**", name="save_notes"))
    await expect(page.locator(".notice")).to_contain_text("Changed while you were looking")
    await page.keyboard.press("a")
    await expect(page.locator("#said")).to_contain_text("read it again")
    assert await at.status("box", chunk) == "pending"


async def test_hostile_text_is_text(at: Desk, page: Page) -> None:
    evil = "<img src=http://leak.invalid/x onerror=document.title='owned'><script>document.title='owned'</script>\u202e"
    box = await at.sandbox()
    await at.put_notes(box, NOTES + "a", rationale=evil)
    await expect(page.locator(".quote")).to_contain_text("<img src=http://leak.invalid/x onerror=")
    await expect(page.locator(".quote")).to_contain_text("\\u202e")
    assert await page.locator("img").count() == 0
    assert "owned" not in await page.title()


async def test_a_phone(at: Desk, page: Page) -> None:
    box = await at.sandbox()
    await at.put_notes(box, "/" + "long/" * 60)
    await page.set_viewport_size({"width": 360, "height": 700})
    await expect(page.locator(".permit")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
