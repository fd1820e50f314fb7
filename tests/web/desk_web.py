"""The web inbox of a desk, served for real, and raw requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from pyopenshell.client import Gateway
from pyopenshell.web.server import serve


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(slots=True)
class Web:
    """`link` is what was printed, `home` where a login led to."""

    link: str
    cookie: str = ""
    home: str = "/"

    def at(self, path: str) -> str:
        """Where the page has what it calls `path`."""
        return path if path.startswith("/login") else self.home + path.removeprefix("/")

    @property
    def authority(self) -> str:
        return urlsplit(self.link).netloc

    async def raw(self, data: bytes) -> Answer:
        """Send these bytes, read one answer with its length."""
        host, _, port = self.authority.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            return Answer(int(first.split()[1]), headers, body.decode())
        finally:
            writer.close()
            await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[AsyncGenerator[Any]]:
        """The events of a server-sent stream, decoded, until the server ends it. An answer that is cut off raises."""
        host, _, port = self.authority.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        async def events() -> AsyncGenerator[Any]:
            data = b""
            while size := int(await reader.readline(), 16):
                data += await reader.readexactly(size)
                await reader.readexactly(2)
                *whole, data = data.split(b"\n\n")
                for one in whole:
                    if not one.startswith(b":"):  # a comment
                        yield json.loads(one.removeprefix(b"data: "))
            assert not data

        try:
            writer.write(
                f"GET {self.at(path)} HTTP/1.1\r\nhost: {self.authority}\r\ncookie: {self.cookie}\r\n\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.startswith("http/1.1 200"), head
            assert "content-type: text/event-stream" in head
            yield events()
        finally:
            writer.close()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str | None) -> Answer:
        """As the page would ask; a header given as None is left out."""
        data = json.dumps(body).encode() if body is not None else b""
        fields: dict[str, str | None] = {"host": self.authority, "cookie": self.cookie or None}
        if method == "POST":
            fields |= {
                "origin": f"http://{self.authority}",
                "content-type": "application/json",
                "content-length": str(len(data)),
            }
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        return await self.raw(f"{method} {self.at(path)} HTTP/1.1\r\n{head}\r\n".encode() + data)

    async def login(self) -> Answer:
        answer = await self.ask("GET", self.link.removeprefix(f"http://{self.authority}"))
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0]
        self.home = answer.headers.get("location", "/")
        return answer


@contextlib.asynccontextmanager
async def served(client: Gateway) -> AsyncIterator[Web]:
    link: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(client, 0, link.set_result))
    try:
        yield Web(await asyncio.wait_for(link, 20))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
