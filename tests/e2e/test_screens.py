"""The loop on the screens: a real agent is refused and asks, the card comes up in the terminal and in the browser's
stream, is decided there, and the agent goes on."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from typing import Any

import pytest
from textual.widgets import Input

from pyopenshell.client import Gateway
from pyopenshell.tui.dialogs import Reason
from tests.e2e.agent import put, put_rule, submit
from tests.e2e.house import HOST, House, sh, shell_lines, within
from tests.tui.screen import Reviewer, reviewing
from tests.tui.test_command import Terminal
from tests.web.desk_web import Web, served

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("screens")]

ODD = " only docs/: 'x' \"y\" <z> & $(id) `id` \\n %s ü 世界 \U0001f600 \u202e\u200b end "
"""What a person can type on one line, and what could be mistaken for markup, escapes or a shell's syntax."""


def agent(path: str) -> str:
    """A script: refused, asks, waits, and tries once more. Five lines: two statuses, the id, the answer, a status."""
    code = f"curl -sS -o /dev/null -w '%{{http_code}}\\n' -X PUT https://{HOST}{path} -d x"
    ask = submit(put_rule(path))
    get_id = 'sed \'s/.*"accepted_chunk_ids": *\\["\\([^"]*\\).*/\\1/\''
    return (
        f"{code}; id=$({ask} | tr -d '\\n' | {get_id}); echo $id; "
        f"curl -sS http://policy.local/v1/proposals/$id/wait?timeout=60 | tr -d '\\n'; echo; {code}"
    )


async def asks(gateway: Gateway, sandbox: str, path: str) -> tuple[Any, str]:
    """The running agent's further lines, and the id of its proposal."""
    lines = shell_lines(gateway, sandbox, agent(path))
    assert await anext(lines) == "403"
    return lines, await anext(lines)


async def look(me: Reviewer, path: str) -> None:
    """Choose what has just come up, where the screen shows an earlier decision."""
    await me.until(lambda: me.rows() and path in me.rows()[0])
    if path not in me.paper:
        await me.press("k")


async def goes_on(lines: Any) -> None:
    state = json.loads(await anext(lines))
    assert (state["status"], state["policy_reloaded"]) == ("approved", True)
    assert await anext(lines) == "201"


async def test_approved_in_the_terminal(advised: House, gateway: Gateway) -> None:
    advised.create("at-terminal")
    async with within(90), reviewing(gateway) as me:
        lines, _ = await asks(gateway, "at-terminal", "/screen/terminal.md")
        await look(me, "/screen/terminal.md")
        await me.proof("exactly 1 path", "/screen/terminal.md", "asked for by the agent")
        await me.press("a")
        await me.proof("✓ approved", "by mtls:")
        await goes_on(lines)
    assert advised.upstream.seen("PUT", "/screen/terminal.md") == 1


async def test_approved_for_a_time_in_the_terminal_ends(advised: House, gateway: Gateway) -> None:
    advised.create("timed-terminal")
    async with within(90), reviewing(gateway) as me:
        lines, _ = await asks(gateway, "timed-terminal", "/screen/timed.md")
        await look(me, "/screen/timed.md")
        await me.proof("/screen/timed.md")
        await me.press("T")
        await me.press("tab", *"3s", "enter")
        await goes_on(lines)
        await me.proof("✗ rejected", "the approval was for 3s and has ended")
        assert (await sh(gateway, "timed-terminal", put("/screen/timed.md"))).out.endswith("403")


async def test_a_rejection_from_the_terminal_arrives_byte_for_byte(advised: House, gateway: Gateway) -> None:
    advised.create("no-terminal")
    async with within(90), reviewing(gateway) as me:
        lines, _ = await asks(gateway, "no-terminal", "/screen/no.md")
        await look(me, "/screen/no.md")
        await me.proof("/screen/no.md")
        await reject(me, ODD)
        state = json.loads(await anext(lines))
        assert (state["status"], state["rejection_reason"]) == ("rejected", ODD)
        assert await anext(lines) == "403"
        await me.proof("✗ rejected", "\\u202e\\u200b end")


async def reject(me: Reviewer, reason: str) -> None:
    await me.press("x")
    await me.until(lambda: isinstance(me.screen.screen, Reason))
    me.screen.screen.query_one(Input).value = reason
    await me.press("enter")


async def card(web: Web, chunk: str) -> dict[str, str]:
    """As the page does: told by the stream, then the card with its proof; returns what a decision on it carries."""
    async with web.stream("/api/events") as events:
        async for state in events:
            if any(one["id"] == chunk for one in state["pending"]):
                break
    found = (await web.ask("GET", f"/api/card/{chunk}")).json
    assert found["proof"] == "complete"
    assert "exactly 1 path" in found["permits"][0]["text"]
    return {"sandbox": found["sandbox"], "id": chunk, "token": found["token"], "status": found["status"]}


async def test_approved_in_the_browser(advised: House, gateway: Gateway) -> None:
    advised.create("at-web")
    async with within(90), served(gateway) as web:
        await web.login()
        lines, chunk = await asks(gateway, "at-web", "/screen/web.md")
        body = {"action": "approve", "seen": await card(web, chunk), "limit": "10m"}
        answer = await web.ask("POST", "/api/decide", body)
        assert (answer.status, answer.json) == (200, {"done": "approve"})
        await goes_on(lines)
        async with web.stream("/api/log/at-web") as log:
            async for line in log:
                if "/screen/web.md" in line.get("message", "") and "ALLOWED" in line["message"]:
                    break
    assert advised.upstream.seen("PUT", "/screen/web.md") == 1


async def test_a_rejection_from_the_browser_arrives_byte_for_byte(advised: House, gateway: Gateway) -> None:
    advised.create("no-web")
    reason = ODD + "\r\n\tsecond line\x00"
    async with within(90), served(gateway) as web:
        await web.login()
        lines, chunk = await asks(gateway, "no-web", "/screen/no-web.md")
        body = {"action": "reject", "seen": await card(web, chunk), "reason": reason}
        assert (await web.ask("POST", "/api/decide", body)).status == 200
        state = json.loads(await anext(lines))
        assert (state["status"], state["rejection_reason"]) == ("rejected", reason)
        assert await anext(lines) == "403"


async def test_the_command_itself_on_a_terminal(advised: House, gateway: Gateway, tmp_path: pathlib.Path) -> None:
    """No pilot: `openshell term` on a pseudo-terminal, and the key as a byte."""
    advised.create("by-key")
    env = advised.env | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50", "HOME": str(tmp_path)}
    with Terminal(env, "term") as terminal:
        terminal.until(b"connected")
        async with within(90):
            lines, _ = await asks(gateway, "by-key", "/screen/key.md")
            terminal.until(b"/screen/key.md")
            os.write(terminal.master, b"k")  # from the latest decision to what has just come up
            os.set_blocking(terminal.master, False)
            # Again until it counts: the first may come before the card has stood there long enough.
            while (await gateway.draft("by-key")).chunks[0].status != "approved":
                os.write(terminal.master, b"a")
                with contextlib.suppress(BlockingIOError):
                    os.read(terminal.master, 65536)
            os.set_blocking(terminal.master, True)
            await goes_on(lines)
        os.write(terminal.master, b"q")
        assert terminal.close() == 0
