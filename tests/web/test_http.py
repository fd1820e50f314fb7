"""The web inbox by raw requests: who gets in, what other sites cannot send (G-17), what decides what (G-2, G-18)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
from collections.abc import AsyncIterator
from email.message import Message
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request

import pytest

from pyopenshell.client.durations import duration
from pyopenshell.web.app import LOG_LINES, MOST_LOGS
from pyopenshell.wire.gen import openshell_pb2
from tests.desk import NOTES, Desk, desk
from tests.gateway.core import rest
from tests.web.desk_web import Web, served


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as one:
        yield one


@pytest.fixture
async def web(at: Desk) -> AsyncIterator[Web]:
    async with served(at.client) as one:
        yield one


async def card(web: Web, chunk_id: str) -> Any:
    """The card with its proof, once the server has heard of the proposal."""
    async with asyncio.timeout(20):
        while (answer := await web.ask("GET", f"/api/card/{chunk_id}")).status == 404:
            await asyncio.sleep(0)
    return answer.json


def seen(one: Any) -> dict[str, str]:
    return {"sandbox": one["sandbox"], "id": one["id"], "token": one["token"], "status": one["status"]}


async def test_only_loopback_and_only_with_the_link(web: Web) -> None:
    host = urlsplit(web.link).hostname
    assert host is not None
    assert ipaddress.ip_address(host).is_loopback
    for path in ("/", "/app.js", "/api/events", "/api/card/x"):
        assert (await web.ask("GET", path)).status == 403
    assert (await web.ask("GET", "/login?token=guess")).status == 403
    answer = await web.login()
    home = answer.headers["location"]
    assert answer.status == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert (await web.ask("GET", "/")).status == 200
    again = Web(web.link, home=home)
    assert (await again.ask("GET", "/")).status == 403, "where it lives is not enough"
    assert (await again.login()).status == 403
    assert (await again.ask("GET", "/")).status == 403


async def test_the_cookie_is_for_this_server_only_though_browsers_send_cookies_to_every_port(web: Web) -> None:
    """Whatever else listens on 127.0.0.1, an agent's preview or another user's server, must not be handed it."""
    answer = await web.login()
    jar = CookieJar()
    asked = Request(web.link)
    jar.extract_cookies(_Headers(answer.headers["set-cookie"]), asked)  # type: ignore[arg-type]

    def sent(url: str) -> bool:
        request = Request(url)
        jar.add_cookie_header(request)
        return request.has_header("Cookie")

    assert sent(f"http://{web.authority}{web.home}api/events")
    assert not sent("http://127.0.0.1:3000/")
    assert not sent("http://127.0.0.1:3000/api/events")
    assert len(web.home) > 20
    name, _, value = web.cookie.partition("=")
    thief = Web(web.link, cookie=f"{name}={value}")
    assert (await thief.ask("GET", "/api/events")).status == 403, "nor is it enough by itself"


class _Headers:
    """An answer, as far as a cookie jar looks."""

    def __init__(self, cookie: str) -> None:
        self._message = Message()
        self._message["Set-Cookie"] = cookie

    def info(self) -> Message:
        return self._message


async def test_every_answer_is_locked_down(web: Web) -> None:
    await web.login()
    for path in ("/", "/app.js", "/app.css", "/api/card/x", "/nowhere", "/login?token=x"):
        answer = await web.ask("GET", path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-dns-prefetch-control"] == "off"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    page = (await web.ask("GET", "/")).body
    assert "<script>" not in page
    assert "style=" not in page


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1", "localhost.evil.test:1", "[::1]:80", ""])
async def test_rebinding(web: Web, host: str) -> None:
    await web.login()
    assert (await web.ask("GET", "/", host=host)).status in (400, 421)
    assert (await web.ask("GET", web.link.removeprefix(f"http://{web.authority}"), host=host)).status in (400, 421)


async def test_nothing_from_another_site_decides(at: Desk, web: Web) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    await web.login()
    body = {"action": "approve", "seen": seen(await card(web, chunk))}
    for headers in (
        {"origin": "http://evil.test"},
        {"origin": None},
        {"origin": "null"},
        {"origin": f"https://{web.authority}"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"content_type": "text/plain"},
        {"cookie": None},
        {"cookie": web.cookie[:-1]},
        {"host": "evil.test"},
    ):
        answer = await web.ask("POST", "/api/decide", body, **headers)
        assert answer.status in (403, 415, 421), headers
    assert (await web.ask("GET", f"/api/card/{chunk}", sec_fetch_site="cross-site")).status == 403
    assert (await web.ask("PUT", "/api/decide")).status == 405
    assert await at.status("box", chunk) == "pending"
    assert (await web.ask("POST", "/api/decide", body)).status == 200
    assert await at.status("box", chunk) == "approved"


async def test_a_stale_token_decides_nothing(at: Desk, web: Web) -> None:
    box = await at.sandbox()
    await at.refuse(box, "PUT", NOTES + "a.md")
    chunk = await at.put_notes(box)
    await web.login()
    old = seen(await card(web, chunk))
    await at.client.edit("box", chunk, rest("api.github.com", "PUT /**", name="save_notes"))
    for action in ("approve", "reject", "narrow"):
        answer = await web.ask("POST", "/api/decide", {"action": action, "seen": old})
        assert (answer.status, answer.json["stale"]) == (409, True)
    assert await at.status("box", chunk) == "pending"
    fresh = await card(web, chunk)
    assert fresh["token"] != old["token"]
    assert fresh["proof"] == "complete"
    body = {"action": "reject", "seen": seen(fresh), "reason": "nur  diese\n Datei"}
    assert (await web.ask("POST", "/api/decide", body)).status == 200
    found = await at.chunk("box", chunk)
    assert found is not None
    assert found.rejection_reason == "nur  diese\n Datei"


async def test_narrow_approve_undo(at: Desk, web: Web) -> None:
    box = await at.sandbox()
    await at.refuse(box, "PUT", NOTES + "a.md")
    chunk = await at.put_notes(box)
    await web.login()
    for action, status in (("narrow", "pending"), ("approve", "approved"), ("undo", "pending")):
        now = await at.chunk("box", chunk)
        assert now is not None
        body = {"sandbox": "box", "id": chunk, "token": now.review_token, "status": now.status}
        answer = await web.ask("POST", "/api/decide", {"action": action, "seen": body})
        assert answer.status == 200, answer.body
        assert await at.status("box", chunk) == status


async def test_approve_for_a_time_and_renew(at: Desk, web: Web) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box)
    await web.login()
    one = await card(web, chunk)
    for bad in ("2x", "-1m", "1m\n", "٣m", "0s", "99999d"):
        answer = await web.ask("POST", "/api/decide", {"action": "approve", "seen": seen(one), "limit": bad})
        assert answer.status in (400, 409), bad
        assert answer.json["error"]
    refused = await web.ask("POST", "/api/decide", {"action": "reject", "seen": seen(one), "limit": "1h"})
    assert refused.status == 400
    assert await at.status("box", chunk) == "pending"
    # An approval whose card is out of date is not given a time either.
    old = {**seen(one), "token": "0" * 64}
    assert (await web.ask("POST", "/api/decide", {"action": "approve", "seen": old, "limit": "1h"})).json["stale"]
    for limit in ("1h", "7d"):
        one = seen(one) | {"status": await at.status("box", chunk)}
        answer = await web.ask("POST", "/api/decide", {"action": "approve", "seen": one, "limit": limit})
        assert answer.status == 200, answer.body
        lease = (await at.client.reviews("box", [chunk]))[chunk].lease
        assert lease is not None
        assert lease.duration == duration(limit)
        async with asyncio.timeout(20):
            while (shown := await card(web, chunk))["given"] != limit:
                await asyncio.sleep(0)
        assert datetime.datetime.fromisoformat(shown["expires"]) == lease.expires


async def test_the_log_is_followed_escaped_and_bounded(at: Desk, web: Web) -> None:
    box = await at.sandbox()
    logs = at.served.gateway.logs

    def write(*messages: str) -> None:
        lines = [openshell_pb2.SandboxLogLine(level="WARN", message=one, source="sandbox") for one in messages]
        for line in lines:
            line.event_time.FromMilliseconds(1_790_000_000_000)
            line.fields["key"] = "<b>\u202e"
        logs.append(box, lines, "sandbox")

    for start in range(0, LOG_LINES + 100, 100):
        write(*(f"line {number}" for number in range(start, start + 100)))
    await logs.flushed()
    assert (await web.ask("GET", "/api/log/box")).status == 403
    await web.login()
    assert (await web.ask("GET", "/api/log/box", sec_fetch_site="cross-site")).status == 403
    assert (await web.ask("GET", "/api/log/nobodys")).status == 404
    async with web.stream("/api/log/box") as lines:
        first = [await anext(lines) for _ in range(LOG_LINES)]
        assert [first[0]["message"], first[-1]["message"]] == ["line 100", f"line {LOG_LINES + 99}"]
        write("a \x1b[2J line\u202e\ndata: {}\n\n<script>", "x" * 100_000)
        hostile, long = await anext(lines), await anext(lines)
        assert hostile["message"] == "a \\x1b[2J line\\u202e\\ndata: {}\\n\\n<script>"
        assert hostile["fields"] == "key=<b>\\u202e"
        assert (hostile["time"], hostile["level"], hostile["source"]) == ("14:13:20", "WARN", "sandbox")
        assert len(long["message"]) < 5000
        async with contextlib.AsyncExitStack() as open_now:
            for _ in range(MOST_LOGS - 1):
                await anext(await open_now.enter_async_context(web.stream("/api/log/box")))
            assert (await web.ask("GET", "/api/log/box")).status == 429
    # Readers that left make room.
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(AssertionError):
                async with web.stream("/api/log/box") as lines:
                    assert await anext(lines)
                    break


async def test_bulk_is_exactly_what_was_listed(at: Desk, web: Web) -> None:
    box = await at.sandbox()
    listed = [await at.put_notes(box, f"/listed/{n}") for n in range(2)]
    await web.login()
    shown = [seen(await card(web, one)) for one in listed]
    late = await at.put_notes(box, "/late")
    answer = await web.ask("POST", "/api/approve-all", {"seen": shown})
    assert answer.json == {"approved": 2, "skipped": 0}
    assert await at.status("box", late) == "pending"
    assert (await web.ask("POST", "/api/approve-all", {"seen": []})).json == {"approved": 0, "skipped": 0}
    assert await at.status("box", late) == "pending"


async def test_bad_bodies_are_refused(web: Web) -> None:
    await web.login()
    bad: tuple[Any, ...] = (
        {},
        [],
        {"action": "launch", "seen": {}},
        {"seen": []},
        {"action": "undo", "seen": {}, "x": 1},
    )
    for body in bad:
        assert (await web.ask("POST", "/api/decide", body)).status == 400
    assert (await web.ask("POST", "/api/approve-all", {"seen": [], "everything": True})).status == 400
    big = {"action": "reject", "seen": {}, "reason": "x" * 600_000}
    assert (await web.ask("POST", "/api/decide", big)).status == 400


async def test_hostile_text_arrives_escaped(at: Desk, web: Web) -> None:
    box = await at.sandbox()
    chunk = await at.put_notes(box, rationale="a \x1b[2J\u202e<img src=x onerror=alert(1)>\nb")
    await web.login()
    shown = await card(web, chunk)
    assert shown["rationale"] == "a \\x1b[2J\\u202e<img src=x onerror=alert(1)>\\nb"
