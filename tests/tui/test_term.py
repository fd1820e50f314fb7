"""The full-screen inbox with real key presses, over a real gateway: seen by push, decided as seen."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, RichLog, Static, TabbedContent

from pyopenshell.policy.model import Endpoint, Rule
from pyopenshell.tui.app import CHANGED, SETTLE
from pyopenshell.tui.dialogs import Bulk, Limit, Reason
from pyopenshell.wire.gen import openshell_pb2
from tests.desk import NOTES, Desk, desk
from tests.gateway.core import rest
from tests.tui.screen import reviewing


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as one:
        yield one


async def test_everything_appears_by_push(at: Desk) -> None:
    async with reviewing(at.client) as me:
        assert "nothing pending" in me.title
        box = await at.sandbox("field-notes")
        await me.until(lambda: any("field-notes" in row for row in me.rows("sandboxes")))
        await at.put_notes(box)
        await me.proof("PUT to unboundedly many paths on api.github.com:443", "Save my notes", "asked for by the agent")
        assert "1 pending" in me.title
        assert "1 pending" in me.rows("sandboxes")[1]
        await at.refuse(box, "DELETE", NOTES + "old.md")
        await me.press("o")
        denials = me.screen.query_one("#denials", Static)
        await me.until(lambda: f"DELETE api.github.com:443{NOTES}old.md" in str(denials.visual))
        await at.client.delete("field-notes")
        await me.until(lambda: len(me.rows("sandboxes")) == 1)
        assert me.rows() == []


async def test_approve_and_undo(at: Desk) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("PUT to unboundedly many paths")
        await me.press("a")
        await me.proof("✓ approved", "Newly permitted", "by mtls:")
        assert await at.status("box", chunk) == "approved"
        config = await at.client.config("box")
        assert config.policy is not None
        assert any(match.method == "PUT" for rule in config.policy.rules for e in rule.endpoints for match in e.rules)
        await me.press("a")
        await me.says("this proposal is approved")
        await me.press("u")
        await me.proof("● pending")
        assert await at.status("box", chunk) == "pending"
        assert (await at.client.history("box"))[-1].event == "undone"


async def test_reject_with_a_reason_byte_for_byte(at: Desk) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("PUT to")
        await me.press("x")
        await me.until(lambda: isinstance(me.screen.screen, Reason))
        await me.press("escape")
        assert await at.status("box", chunk) == "pending"
        await me.press("x")
        await me.until(lambda: isinstance(me.screen.screen, Reason))
        me.screen.screen.query_one(Input).value = "only  this é \\n file"
        await me.press("!", "enter")
        await me.proof("✗ rejected", "Reason given", "only  this é \\n file!")
        found = await at.chunk("box", chunk)
        assert found is not None
        assert found.rejection_reason == "only  this é \\n file!"


async def test_keys_typed_into_a_reason_decide_nothing(at: Desk) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("PUT to")
        await me.press("x")
        await me.until(lambda: isinstance(me.screen.screen, Reason))
        await me.press("a", "A", "u", "n", "q", "y")
        assert me.screen.screen.query_one(Input).value == "aAunqy"
        await me.press("escape")
        assert await at.status("box", chunk) == "pending"


async def test_narrow_then_approve_what_it_became(at: Desk) -> None:
    box = await at.sandbox()
    await at.refuse(box, "PUT", NOTES + "today.md")
    chunk = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("unboundedly many paths")
        await me.press("n")
        await me.proof("exactly 1 path", NOTES + "today.md")
        assert await at.status("box", chunk) == "pending"
        await me.press("a")
        await me.proof("✓ approved")
        found = await at.chunk("box", chunk)
        assert found is not None
        assert [match.path for match in found.rule.endpoints[0].rules] == [NOTES + "today.md"]
        other = await at.put_notes(box, "/elsewhere/**")
        await me.until(lambda: any("/elsewhere/**" in row for row in me.rows()))
        await me.press("k")
        await me.proof("/elsewhere/**")
        await me.press("n")
        await me.says("no refused request on record is narrower")
        assert await at.status("box", other) == "pending"


async def test_what_changed_on_the_screen_is_not_decided_by_the_next_key(at: Desk) -> None:
    """Attack G-2: the base of the judgement changes between the look and the key."""
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("unboundedly many paths")
        before = await at.chunk("box", chunk)
        assert before is not None
        await at.client.edit("box", chunk, rest("api.github.com", "PUT /**", name="save_notes"))
        await me.proof(CHANGED, "PUT /**")
        await me.press("a")
        await me.says("it changed: read it again")
        assert await at.status("box", chunk) == "pending"
        await me.proof("PUT /**")
        assert CHANGED not in me.paper
        await me.press("a")
        await me.proof("✓ approved")


@pytest.mark.parametrize("key", ["a", "x", "n"])
async def test_a_stale_screen_decides_nothing_and_shows_what_is_there(at: Desk, key: str) -> None:
    """The push is late: the decision itself finds out, for every kind of decision."""
    box = await at.sandbox()
    await at.refuse(box, "PUT", NOTES + "today.md")
    chunk = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("unboundedly many paths")
        for worker in me.screen.workers:
            if worker.group == "follow":
                worker.cancel()
        await me.pilot.pause()
        await at.client.edit("box", chunk, rest("api.github.com", "PUT /**", name="save_notes"))
        await me.press(key)
        if key == "x":
            await me.until(lambda: isinstance(me.screen.screen, Reason))
            await me.press("enter")
        await me.says("changed since it was shown: nothing was decided")
        assert await at.status("box", chunk) == "pending"
        await me.proof(CHANGED, "PUT /**")


async def test_another_persons_rejection_is_not_overruled_unseen(at: Desk) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("unboundedly many paths")
        for worker in me.screen.workers:
            if worker.group == "follow":
                worker.cancel()
        await me.pilot.pause()
        await at.client.reject("box", chunk, "no")
        await me.press("a")
        await me.proof("✗ rejected")
        assert await at.status("box", chunk) == "rejected"


async def test_a_second_key_press_does_not_decide_what_just_came_up(at: Desk) -> None:
    box = await at.sandbox()
    first = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("unboundedly many paths")
        me.screen.frozen = True
        second = await at.put_notes(box, "/other/**")
        await me.until(lambda: len(me.rows()) == 2)
        await me.press("k")
        await me.proof("/other/**")
        await me.press("a")
        await me.says("this just came up: look at it first")
        assert [await at.status("box", one) for one in (first, second)] == ["pending", "pending"]
        assert SETTLE > 0


async def test_only_what_is_on_the_screen_is_decided(at: Desk) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("unboundedly many paths")
        await me.press("o", "a")
        tabs = me.screen.query_one("#tabs", TabbedContent)
        await me.until(lambda: tabs.active == "proposal")
        await me.says("decide once you have read it")
        assert await at.status("box", chunk) == "pending"
        await me.press("a")
        await me.proof("✓ approved")


async def test_a_long_proposal_is_approved_only_after_its_end_was_seen(at: Desk) -> None:
    box = await at.sandbox()
    rule = rest("api.github.com", *(f"PUT /many/{n}" for n in range(60)), name="many")
    chunk = await at.propose(box, rule, rationale="word " * 200)
    async with reviewing(at.client, size=(80, 24)) as me:
        await me.proof("/many/")
        await me.press("a")
        await me.says("there was more below")
        assert await at.status("box", chunk) == "pending"
        for _ in range(40):
            await me.press("space")
        await me.press("a")
        await me.proof("✓ approved")


async def test_bulk_approval_is_exactly_what_was_listed(at: Desk) -> None:
    """Attack G-18."""
    box, other = await at.sandbox("box"), await at.sandbox("other")
    listed = [await at.put_notes(box, f"/listed/{n}") for n in range(2)]
    there = await at.put_notes(other, "/listed/there")
    private = Rule("inward", (Endpoint(host="10.0.0.9", ports=(443,)),), ("/usr/bin/curl",))
    flagged = await at.propose(other, private)
    async with reviewing(at.client) as me:
        await me.proof()
        await me.press("A")
        await me.until(lambda: isinstance(me.screen.screen, Bulk))
        shown = " ".join(str(part.visual) for part in me.screen.screen.query(Static))
        assert "Approve these 3 proposals?" in shown
        assert "1 more pending" in shown
        assert all(path in shown for path in ("/listed/0", "/listed/1", "/listed/there"))
        late = await at.put_notes(box, "/late")
        await me.until(lambda: len(me.rows()) == 5)
        await me.press("y")
        await me.says("approved 3, skipped 0")
        statuses = [await at.status("box", one) for one in (*listed, late)]
        assert statuses == ["approved", "approved", "pending"]
        assert [await at.status("other", one) for one in (there, flagged)] == ["approved", "pending"]


async def test_bulk_approval_shows_all_before_it_takes_a_yes(at: Desk) -> None:
    box = await at.sandbox()
    ids = [await at.put_notes(box, f"/listed/{n}") for n in range(12)]
    async with reviewing(at.client, size=(80, 24)) as me:
        await me.proof("PUT to")
        await me.press("A")
        await me.until(lambda: isinstance(me.screen.screen, Bulk))
        await me.press("y")
        assert isinstance(me.screen.screen, Bulk)
        assert await at.status("box", ids[0]) == "pending"
        await me.press(*["pagedown"] * 12)
        await me.press("y")
        await me.says("approved 12, skipped 0")


async def test_one_sandbox_at_a_time(at: Desk) -> None:
    box, other = await at.sandbox("box"), await at.sandbox("other")
    await at.put_notes(box, "/of-box")
    await at.put_notes(other, "/of-other")
    async with reviewing(at.client) as me:
        await me.until(lambda: len(me.rows()) == 2)
        me.screen.query_one("#sandboxes", OptionList).focus()
        await me.press("j")
        await me.until(lambda: len(me.rows()) == 1)
        await me.proof("/of-box")
        await me.press("j")
        await me.proof("/of-other")
        await me.press("k", "k")
        await me.until(lambda: len(me.rows()) == 2)


async def test_the_log_of_the_chosen_sandbox(at: Desk) -> None:
    box = await at.sandbox()
    await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("PUT to")
        await me.press("l")
        lines = me.screen.query_one("#lines", RichLog)

        def log() -> str:
            return "\n".join(strip.text for strip in lines.lines)

        line = openshell_pb2.SandboxLogLine(level="WARN", message="a \x1b[2J line\u202e", source="sandbox")
        line.event_time.FromMilliseconds(1_790_000_000_000)
        at.served.gateway.logs.append(box, [line], "sandbox")
        async with asyncio.timeout(20):
            while "a \\x1b[2J line\\u202e" not in log():
                await me.pilot.pause(0.01)
        assert "14:13:20" in log()


async def test_a_gateway_that_goes_and_comes_back(tmp_path: Path) -> None:
    from tests.desk import open_client
    from tests.gateway.serving import FakeDriver, serving

    driver = FakeDriver()
    try:
        async with serving(tmp_path, driver) as served, await open_client(tmp_path) as client:
            box = await Desk(served, client, tmp_path).sandbox()
            await Desk(served, client, tmp_path).put_notes(box)
            async with reviewing(client) as me:
                await me.proof("PUT to")
                await served.client.channel.close()
                await served.gateway.stop()
                await me.until(lambda: "connected" not in me.title)
                assert len(me.rows()) == 1
                async with serving(tmp_path, driver):
                    await me.until(lambda: "(connected)" in me.title)
                    await me.proof("PUT to")
    finally:
        await driver.end()


async def test_approve_for_a_time_count_and_renew(at: Desk) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    later = datetime.timedelta()

    def now() -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + later

    async def left() -> datetime.timedelta:
        lease = (await at.client.reviews("box", [chunk]))[chunk].lease
        assert lease is not None
        return lease.duration

    async with reviewing(at.client, now=now) as me:
        await me.proof("unboundedly many paths")
        await me.press("T")
        await me.until(lambda: isinstance(me.screen.screen, Limit))
        await me.press("2")
        await me.proof("✓ approved", "ends in 59m", "approved for 1h")
        assert await left() == datetime.timedelta(hours=1)
        later = datetime.timedelta(minutes=30)
        await me.until(lambda: "ends in 29m" in me.paper)
        later = datetime.timedelta(days=1)
        await me.until(lambda: "ends now" in me.paper)
        later = datetime.timedelta()
        await me.press("T")
        await me.until(lambda: isinstance(me.screen.screen, Limit))
        await me.press("tab", *"2x", "enter")
        wrong = me.screen.screen.query_one("#wrong", Static)
        assert "invalid duration '2x'" in str(wrong.visual)
        assert await left() == datetime.timedelta(hours=1)
        await me.press("backspace", "d", "enter")
        await me.proof("✓ approved", "ends in 1d23h", "approved for 2d")
        assert await left() == datetime.timedelta(days=2)
        # Somebody else shortens it: seen by push, although the proposal itself did not change.
        found = await at.chunk("box", chunk)
        assert found is not None
        await at.client.approve("box", chunk, found.review_token, expires=datetime.timedelta(minutes=5))
        await me.proof("ends in 4m", "approved for 5m")
        await me.press("u")
        await me.proof("● pending")
        assert "ends" not in me.paper


async def test_what_has_no_end_is_not_renewed_and_a_stale_card_is_not_approved_for_a_time(at: Desk) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    async with reviewing(at.client) as me:
        await me.proof("unboundedly many paths")
        await me.press("T")
        await me.until(lambda: isinstance(me.screen.screen, Limit))
        await at.client.edit("box", chunk, rest("api.github.com", "PUT /**", name="save_notes"))
        await me.press("enter")
        await me.says("changed since it was shown: nothing was decided")
        assert await at.status("box", chunk) == "pending"
        await me.proof(CHANGED, "PUT /**")
        await me.press("a")
        await me.proof("PUT /**")
        await me.press("a")
        await me.proof("✓ approved")
        await me.press("T")
        await me.says("this approval has no end")


async def test_help_and_quit(at: Desk) -> None:
    async with reviewing(at.client) as me:
        await me.press("question_mark")
        assert "approve the proposal that is shown" in " ".join(
            str(part.visual) for part in me.screen.screen.query(Static)
        )
        await me.press("escape", "t")
        assert me.screen.theme == "openshell-light"
        await me.press("q")
        assert me.screen.return_code == 0
