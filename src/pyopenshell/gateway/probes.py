"""/healthz, /readyz and /metrics over plain HTTP/1.1, on loopback unless the operator says otherwise.

Tells numbers and states, no names; changes nothing. A page in a browser cannot read it: only requests that name a
loopback or literal host are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import httptools

from pyopenshell.gateway.metrics import CONTENT_TYPE, Metrics

MAX_HEAD: Final = 8 * 1024
PATIENCE: Final = 10.0
"""Seconds a client may take for its request, and for taking the answer."""

Ready = Callable[[], Awaitable[list[str]]]
"""What keeps the gateway from serving, one sentence each; empty when nothing does."""

_REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
                   421: "Misdirected Request", 503: "Service Unavailable"}  # fmt: skip
_TEXT: Final = "text/plain; charset=utf-8"

_log = logging.getLogger(__name__)


class Probes:
    """One listener. `await listen()`, then `await close()`."""

    def __init__(self, metrics: Metrics, ready: Ready, look: Callable[[], Awaitable[None]]) -> None:
        """`look` is awaited before numbers are told: it brings the gauges up to date."""
        self._metrics, self._ready, self._look = metrics, ready, look
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Returns the port (0 = any). Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                status, kind, body, head_only = await self._answer(reader)
                lines = [
                    f"HTTP/1.1 {status} {_REASONS[status]}",
                    f"Content-Type: {kind}",
                    f"Content-Length: {len(body)}",
                    "Cache-Control: no-store",
                    "X-Content-Type-Options: nosniff",
                    "Connection: close",
                ]
                writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else body))
                await writer.drain()
        except (TimeoutError, OSError):
            pass  # whoever asked is gone or asleep
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, str, bytes, bool]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            request = _Request()
            parser = httptools.HttpRequestParser(request)
            parser.feed_data(head)
            method = parser.get_method().decode()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, httptools.HttpParserError):
            return 400, _TEXT, b"this is no HTTP request\n", False
        if method not in ("GET", "HEAD"):
            return 405, _TEXT, b"only GET and HEAD\n", False
        if not _is_ours(request.host):
            return 421, _TEXT, b"ask by address or as localhost\n", False
        status, kind, body = await self._page(request.path)
        return status, kind, body, method == "HEAD"

    async def _page(self, path: str) -> tuple[int, str, bytes]:
        match path:
            case "/health" | "/healthz":
                return 200, _TEXT, b"ok\n"
            case "/readyz":
                trouble = await self._ready()
                text = "".join(f"{line}\n" for line in trouble) or "ready\n"
                return 503 if trouble else 200, _TEXT, text.encode()
            case "/metrics":
                await self._look()
                return 200, CONTENT_TYPE, self._metrics.text()
            case _:
                return 404, _TEXT, b"here are /healthz, /readyz and /metrics\n"


class _Request:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.path = self.host = ""

    def on_url(self, url: bytes) -> None:
        self.path += url.decode("ascii", "replace").partition("?")[0]

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"host":
            self.host = value.decode("ascii", "replace")


def _is_ours(host: str) -> bool:
    name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
    name = name.removeprefix("[").removesuffix("]")
    if name.lower() in ("localhost", ""):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
