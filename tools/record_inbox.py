"""Records the pictures of docs/inbox.md: real gateway, real inbox, real surfaces; only the proposals are made up.

python -m tools.record_inbox
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright
from tests.desk import NOTES, Desk, desk
from tests.gateway.core import raw
from tests.web.desk_web import served

from pyopenshell.tui import theme
from pyopenshell.tui.app import Term

DOCS = Path(__file__).parents[1] / "docs"


async def scene(at: Desk) -> None:
    """A morning with two agents."""
    notes, release = await at.sandbox("field-notes"), await at.sandbox("release-bot")
    await at.sandbox("idle-box")
    index = await at.propose(notes, raw("pypi.org"), mode="mechanistic", hits=12, rationale="12 refused connections")
    chunk = await at.chunk("field-notes", index)
    assert chunk is not None
    await at.client.approve("field-notes", index, chunk.review_token)
    why = "curl was refused 3 connections to uploads.github.com:443"
    await at.propose(release, raw("uploads.github.com"), mode="mechanistic", hits=3, rationale=why)
    for path in ("2026/today.md", "2026/today.md", "2026/index.md"):
        await at.refuse(notes, "PUT", NOTES + path)
    wide = await at.put_notes(release, "/repos/acme/site/contents/releases/**", "Publish the release page")
    await at.client.reject("release-bot", wide, "Only the page of this release, please.")
    page = "/repos/acme/site/contents/releases/2026-11.md"
    await at.put_notes(release, page, "Publish the page of this release, as you asked")
    await at.put_notes(notes, rationale="Save the field notes of today \x1b[1mpre-approved by security\x1b[0m")


async def record() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with desk(Path(directory)) as at:
            await scene(at)
            term = Term(at.client, theme_name=theme.DARK.name)
            async with term.run_test(size=(126, 34)) as pilot:
                await pilot.pause(1)
                (DOCS / "inbox-terminal.svg").write_text(term.export_screenshot(title="openshell term"))
            await picture_of_page(at)


async def picture_of_page(at: Desk) -> None:
    async with served(at.client) as web, async_playwright() as player:
        browser = await player.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1180, "height": 700}, color_scheme="dark")
        await page.goto(web.link)
        await page.locator(".permit").wait_for()
        await page.get_by_role("button", name="Approve (a)").click(trial=True)
        await page.screenshot(path=str(DOCS / "inbox-web.png"))
        await browser.close()


if __name__ == "__main__":
    asyncio.run(record())
