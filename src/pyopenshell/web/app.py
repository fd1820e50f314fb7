"""The pages and calls of the web inbox. Each decision carries what was shown; `client.decide` checks it."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from pyopenshell.client import cards, decide, visible
from pyopenshell.client.decide import NothingNarrowerError, Shown, StaleError
from pyopenshell.client.durations import PRESETS, duration
from pyopenshell.client.errors import GatewayError
from pyopenshell.client.live import Entry, Live
from pyopenshell.web.guard import LOGIN, Guard, Session

T = TypeVar("T")
STATIC = Path(__file__).with_name("static")
MAX_BODY = 512 * 1024
DECIDED_SHOWN, OBSERVED_SHOWN = 100, 100
LOG_LINES = 500
"""Of the log at first; the page keeps twice as many."""
MOST_LOGS = 8
"""Logs that are followed at a time: more than a browser opens connections to one server."""


class _Seen(msgspec.Struct, forbid_unknown_fields=True):
    sandbox: str
    id: str
    token: str
    status: str

    def shown(self) -> Shown:
        return Shown(self.sandbox, self.id, self.token, self.status)


class _Decision(msgspec.Struct, forbid_unknown_fields=True):
    action: Literal["approve", "reject", "narrow", "undo"]
    seen: _Seen
    reason: str = ""
    limit: str = ""
    """Of an approval: for how long, as `--for` reads it; "" is for good."""

    def length(self) -> datetime.timedelta | None:
        """Raises ValueError."""
        if self.limit and self.action != "approve":
            raise ValueError("only an approval has a limit")
        return duration(self.limit) if self.limit else None


class _Bulk(msgspec.Struct, forbid_unknown_fields=True):
    seen: list[_Seen]


class Pages:
    """Over one live picture of one gateway."""

    def __init__(self, live: Live) -> None:
        self.live, self._gateway = live, live.gateway
        self._ended = asyncio.Event()
        self._logs = 0

    def end(self) -> None:
        """Ends every answer that would go on for ever."""
        self._ended.set()

    def app(self, session: Session, port: int) -> Guard:
        def login(request: Request) -> Response:
            return session.login(request.query_params.get("token", ""))

        routes = [
            Route(LOGIN, login),
            Route("/", lambda request: FileResponse(STATIC / "index.html")),
            Route("/app.js", lambda request: FileResponse(STATIC / "app.js")),
            Route("/app.css", lambda request: FileResponse(STATIC / "app.css")),
            Route("/api/events", self.events),
            Route("/api/card/{id}", self.card),
            Route("/api/log/{sandbox}", self.log),
            Route("/api/decide", self.decide, methods=["POST"]),
            Route("/api/approve-all", self.approve_all, methods=["POST"]),
        ]
        return Guard(Starlette(routes=routes), session, port)

    def state(self) -> dict[str, Any]:
        """Everything the list shows, escaped."""
        live = self.live
        counts: dict[str, int] = {}
        for entry in live.pending():
            counts[entry.sandbox] = counts.get(entry.sandbox, 0) + 1
        return {
            "presets": PRESETS,
            "connected": live.connected,
            "trouble": visible(live.trouble, 200),
            "gateway": visible(self._gateway.registration.name, 60),
            "workspace": visible(self._gateway.workspace, 60),
            "sandboxes": [
                {"name": visible(one.name, 80), "phase": visible(one.phase), "pending": counts.get(one.name, 0)}
                for one in live.sandboxes()
            ],
            "pending": [_row(one) for one in live.pending()],
            "decided": [_row(one) for one in live.decided()[:DECIDED_SHOWN]],
            "observed": [
                {
                    "sandbox": visible(one.sandbox, 80),
                    "title": cards.observed_title(one.denial),
                    "why": cards.observed_why(one.denial),
                    "count": cards.observed_count(one.denial),
                }
                for one in live.observed()[:OBSERVED_SHOWN]
            ],
        }

    async def events(self, request: Request) -> Response:
        async def stream() -> AsyncGenerator[bytes]:
            async for _ in self._until_ended(self.live.changes()):
                yield _event(self.state())

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def log(self, request: Request) -> Response:
        """The last lines and new ones as they come. A reader that is too slow gets the gateway's remark on the gap."""
        name: str = request.path_params["sandbox"]
        if all(one.name != name for one in self.live.sandboxes()):
            return _answer({"error": "there is no such sandbox"}, 404)
        if self._logs >= MOST_LOGS:
            return _answer({"error": f"{MOST_LOGS} logs are open already"}, 429)

        async def stream() -> AsyncGenerator[bytes]:
            self._logs += 1
            try:
                yield b": the log follows\n\n"
                async for line in self._until_ended(self._gateway.tail(name, lines=LOG_LINES)):
                    yield _event({"remark": visible(line)} if isinstance(line, str) else cards.log_row(line))
            except GatewayError as error:
                yield _event({"remark": visible(str(error))})
            finally:
                self._logs -= 1

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def _until_ended(self, source: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """`source`, until the server ends."""
        ended = asyncio.ensure_future(self._ended.wait())
        item: asyncio.Future[T] | None = None
        try:
            while True:
                item = asyncio.ensure_future(anext(source))
                await asyncio.wait((item, ended), return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    item.cancel()
                    await asyncio.gather(item, return_exceptions=True)
                    return
                try:
                    yield item.result()
                except StopAsyncIteration:
                    return
        finally:
            ended.cancel()
            if item is None or not item.cancel():  # one that is still awaited ends the source by being cancelled
                await source.aclose()

    async def card(self, request: Request) -> Response:
        try:
            card = await self.live.card(request.path_params["id"])
        except GatewayError as error:
            return _answer({"error": visible(str(error))}, 502)
        if card is None:
            return _answer({"error": "this proposal is gone"}, 404)
        return _answer({**dataclasses.asdict(card), "author": card.author, "verdict": card.verdict})

    async def decide(self, request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(await _body(request), type=_Decision)
            expires = wanted.length()
        except (msgspec.MsgspecError, ValueError) as error:
            return _answer({"error": visible(f"not understood: {error}", 300)}, 400)
        shown = wanted.seen.shown()
        try:
            match wanted.action:
                case "approve":
                    await decide.approve(self._gateway, shown, expires=expires)
                case "reject":
                    await decide.reject(self._gateway, shown, wanted.reason)
                case "narrow":
                    await decide.narrow(self._gateway, shown)
                case "undo":
                    await decide.undo(self._gateway, shown)
        except StaleError as error:
            self.live.correct(shown.id, error.chunk)
            return _answer({"error": str(error), "stale": True}, 409)
        except (GatewayError, NothingNarrowerError) as error:
            return _answer({"error": visible(str(error))}, 409)
        return _answer({"done": wanted.action})

    async def approve_all(self, request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(await _body(request), type=_Bulk)
        except (msgspec.MsgspecError, ValueError) as error:
            return _answer({"error": visible(f"not understood: {error}", 300)}, 400)
        try:
            approved, skipped = await decide.approve_all(self._gateway, [one.shown() for one in wanted.seen])
        except GatewayError as error:
            return _answer({"error": visible(str(error))}, 409)
        return _answer({"approved": approved, "skipped": skipped})


def _row(entry: Entry) -> dict[str, Any]:
    card = cards.card_of(entry.sandbox, entry.chunk, None)
    where, what = card.target
    return {
        "id": card.id,
        "token": card.token,
        "sandbox": visible(card.sandbox, 80),
        "status": card.status,
        "rule": card.rule,
        "where": where,
        "what": what,
        "hits": card.hits,
        "verdict": card.verdict,
    }


async def _body(request: Request) -> bytes:
    """Bounded. Raises ValueError."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise ValueError(f"more than {MAX_BODY} bytes")
    return bytes(body)


def _event(value: Any) -> bytes:
    """JSON has no line feed, so one line is one event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
