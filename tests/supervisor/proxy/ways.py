"""Every way in which a program can come to speak HTTP/1 with a server through the proxy: one list for all suites."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pyopenshell.policy.model import Rule
from tests.supervisor.proxy.rig import Client, Rig, Upstream, rig


def _connect(client: Client, host: str, port: int) -> None:
    assert client.connect(f"{host}:{port}").status == 200


def _socks(client: Client, host: str, port: int) -> None:
    client.send(b"\5\1\0")
    assert client.read(2) == b"\5\0"
    client.send(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big"))
    assert client.read(10)[1] == 0


def _nothing(client: Client, host: str, port: int) -> None:
    return None


@dataclasses.dataclass(frozen=True)
class Way:
    """`open` leads to the point where requests can be sent; `tls` says whether it does so encrypted."""

    name: str
    tls: bool
    open: Callable[[Client, str, int], None]
    host: str = "api.test"

    @property
    def port(self) -> int:
        return 443 if self.tls else 80

    @property
    def prefix(self) -> str:
        """Of the request target."""
        return f"http://{self.host}" if self.name == "forward" else ""

    def enter(self, client: Client) -> None:
        self.open(client, self.host, self.port)
        if self.tls:
            client.tls(self.host)

    async def run(self, r: Rig, talk: Callable[[Client], Any]) -> Any:
        def work(client: Client) -> Any:
            self.enter(client)
            return talk(client)

        if self.name.startswith("capture"):
            r.going_to(self.host, self.port)
            return await r.run(work, r.captured)
        return await r.run(work)

    def rig(self, upstream: Upstream, *rules: Rule, **more: Any):  # type: ignore[no-untyped-def]
        return rig(*rules, upstreams={(self.host, self.port): upstream.address}, **more)

    async def start(self, upstream: Upstream) -> Upstream:
        await upstream.start(self.host if self.tls else None)
        return upstream


WAYS = [
    Way("connect-tls", True, _connect),
    Way("connect", False, _connect),
    Way("forward", False, _nothing),
    Way("socks-tls", True, _socks),
    Way("socks", False, _socks),
    Way("capture-tls", True, _nothing),
    Way("capture", False, _nothing),
]
