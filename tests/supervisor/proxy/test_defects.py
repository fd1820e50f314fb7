"""Exceptions that nobody expected: the client gets an answer or a reset, the log says where, nothing is left behind."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyopenshell.supervisor.proxy.admission import Admitter
from pyopenshell.supervisor.proxy.doors import TunnelDoor
from pyopenshell.supervisor.proxy.plane import Plane
from pyopenshell.supervisor.proxy.relay import Relay
from pyopenshell.supervisor.proxy.tls import CertificateAuthority, UpstreamTrust
from tests.supervisor.proxy.rig import Client, Rig, Upstream, raw, rest, rig, rule
from tests.supervisor.proxy.test_doors import DOORS, Door

RULES = (
    rule("api", rest("api.test", ("*", "/**")), rest("plain.test", ("*", "/**"), port=80)),
    rule("raw", raw("raw.test", 81)),
)
SECRET = "do not show this"
GET = "GET {}/x HTTP/1.1\nHost: {}\n\n"


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@pytest.fixture(autouse=True)
def stderr_has_the_rest(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert "ZeroDivisionError" in capfd.readouterr().err


def bug(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError(SECRET)


async def async_bug(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError(SECRET)


async def told(r: Rig, count: int = 1) -> None:
    """The finding was written, without the exception's text, and nothing is left."""
    await r.log.until("FINDING", count)
    for finding in r.log.findings():
        assert (finding.uid, dict(finding.evidence)["exception"]) == ("openshell.proxy.defect", "ZeroDivisionError")
        assert ".py:" in dict(finding.evidence)["place"], finding
    assert SECRET not in "".join(r.log.lines())
    r.plane._pool.clear()
    async with asyncio.timeout(20):
        while not repr(r.plane).startswith("<plane 0 connections, 0 raw") or r.plane._relays or r.plane._upstreams:
            await asyncio.sleep(0)


def answer(client: Client) -> tuple[int, str]:
    response = client.response()
    assert SECRET not in response.body.decode()
    return response.status, response.json["error"]


def whole(client: Client) -> bytes:
    data = b""
    try:
        while piece := client.socket.recv(65536):
            data += piece
    except ConnectionResetError:
        data += b"<reset>"
    return data


@pytest.mark.parametrize("host", ["api.test", "raw.test"])
async def test_admission_that_fails_is_500(
    door: Door, host: str, monkeypatch: pytest.MonkeyPatch, plain_upstream: Upstream
) -> None:
    monkeypatch.setattr(Admitter, "at_once", lambda *_: None)
    monkeypatch.setattr(Admitter, "admit", async_bug)
    port = 81 if host == "raw.test" else 443

    def talk(client: Client) -> bytes:
        if door.name == "connect":
            client.send(f"CONNECT {host}:{port} HTTP/1.1\nHost: x\n\n")
        elif door.name == "socks":
            client.send(b"\5\1\0\5\1\0\3\x08" + host.encode() + port.to_bytes(2, "big"))
        else:
            client.send("GET / HTTP/1.1\nHost: x\n\n")
        return whole(client)

    async with rig(*RULES, upstreams={(host, port): plain_upstream.address}) as r:
        if door.name == "capture":
            r.going_to(host, port)
        said = await r.run(talk, r.captured if door.name == "capture" else r.address)
        if door.name == "socks":
            assert said == b"\5\0" + b"\5\1\0\1" + bytes(6)
        else:
            assert said.startswith(b"HTTP/1.1 500 ")
            assert b'"error": "internal_error"' in said
            assert b"Proxy-Status: openshell; error=proxy_internal_error" in said
        await told(r)
    assert plain_upstream.connections == 0
    assert r.denials == [], "no policy refused anything"


async def test_a_forwarded_request_whose_admission_or_dialling_fails_is_500(
    monkeypatch: pytest.MonkeyPatch, plain_upstream: Upstream
) -> None:
    request = GET.format("http://plain.test", "plain.test")

    def talk(client: Client) -> tuple[int, str]:
        client.send(request)
        return answer(client)

    async with rig(*RULES, upstreams={("plain.test", 80): plain_upstream.address}) as r:
        with monkeypatch.context() as broken:
            broken.setattr(Admitter, "admit", async_bug)
            assert await r.run(talk) == (500, "internal_error")
        with monkeypatch.context() as broken:
            broken.setattr(Plane, "_connect", async_bug)
            assert await r.run(talk) == (500, "internal_error")
        assert (await r.run(lambda c: c.request(request))).status == 200
        await told(r, 2)


async def test_tls_to_the_server_that_fails_in_an_unexpected_way_is_500_and_leaves_no_connection(
    door: Door, monkeypatch: pytest.MonkeyPatch, tls_upstream: Upstream
) -> None:
    def talk(client: Client) -> tuple[int, str]:
        client.tls("api.test")
        client.send(GET.format("", "api.test"))
        return answer(client)

    async with rig(*RULES, upstreams={("api.test", 443): tls_upstream.address}) as r:
        monkeypatch.setattr(UpstreamTrust, "context", bug)
        _, said = await door.run(r, "api.test", 443, talk)
        assert said == (500, "internal_error")
        await told(r)


async def test_a_raw_tunnel_that_cannot_be_made_for_an_unexpected_reason(
    door: Door, monkeypatch: pytest.MonkeyPatch, plain_upstream: Upstream
) -> None:
    async with rig(*RULES, upstreams={("raw.test", 81): plain_upstream.address}) as r:
        for method in ("_connect", "_tunnel"):
            with monkeypatch.context() as broken:
                broken.setattr(Plane, method, async_bug if method == "_connect" else bug)
                if door.name == "capture":
                    r.going_to("raw.test", 81)

                def talk(client: Client) -> bytes:
                    if door.name == "connect":
                        client.send("CONNECT raw.test:81 HTTP/1.1\nHost: x\n\n")
                    elif door.name == "socks":
                        client.send(b"\5\1\0\5\1\0\3\x08raw.test\0\x51")
                    else:
                        client.send("GET / HTTP/1.1\nHost: x\n\n")
                    return whole(client)

                said = await r.run(talk, r.captured if door.name == "capture" else r.address)
                # Once the client was told that the tunnel stands, nothing but a reset is left.
                if method == "_tunnel":
                    assert said.endswith(b"<reset>")
                else:
                    assert b" 500 " in said or said.endswith(b"\5\1\0\1" + bytes(6))
        await told(r, 2)


async def test_a_certificate_that_cannot_be_made_is_an_alert(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def hello(client: Client) -> str:
        with pytest.raises(ssl.SSLError) as refused:
            client.tls("api.test")
        return refused.value.reason or ""

    async with rig(*RULES, upstreams={("api.test", 443): "127.0.0.1:1"}) as r:
        monkeypatch.setattr(CertificateAuthority, "context", bug)
        _, said = await door.run(r, "api.test", 443, hello)
        assert said == "TLSV1_ALERT_INTERNAL_ERROR"
        assert any("NET:FAIL" in line and "api.test:443" in line for line in r.log.lines())
        await told(r)


@pytest.mark.parametrize("where", [(Relay, "_head"), (TunnelDoor, "request"), (Relay, "upstream_data")])
async def test_what_fails_in_the_middle_of_a_connection_ends_it(
    where: tuple[type, str], monkeypatch: pytest.MonkeyPatch, plain_upstream: Upstream
) -> None:
    """No hang, no end that could be taken for the end of a message; the next connection is none the worse."""
    rules = (rule("api", rest("plain.test", ("*", "/**"), port=80)),)

    def talk(client: Client) -> bytes:
        client.connect("plain.test:80")
        client.send("GET / HTTP/1.1\nHost: plain.test\nConnection: close\n\n")
        return whole(client)

    async with rig(*rules, upstreams={("plain.test", 80): plain_upstream.address}) as r:
        original: Callable[..., Any] = getattr(*where)

        def sometimes(self: Any, *arguments: Any) -> Any:
            # Only inside the tunnel: the CONNECT itself has to get through.
            relay = self if isinstance(self, Relay) else arguments[0]
            if isinstance(relay.door, TunnelDoor):
                bug()
            return original(self, *arguments)

        with monkeypatch.context() as broken:
            broken.setattr(*where, sometimes)
            said = await r.run(talk)
        assert b" 502 " in said or said == b"<reset>", said
        await told(r)

        def well(client: Client) -> int:
            client.connect("plain.test:80")
            client.send(GET.format("", "plain.test"))
            return client.response().status

        assert await r.run(well) == 200


async def test_a_flood_of_defects_is_counted_not_written(
    monkeypatch: pytest.MonkeyPatch, plain_upstream: Upstream
) -> None:
    monkeypatch.setattr(Admitter, "admit", async_bug)
    async with rig(*RULES) as r:
        request = GET.format("http://plain.test", "plain.test").replace("\n", "\r\n").encode()

        def talk(client: Client) -> int:
            client.send(request * 60)
            return sum(client.response().status == 500 for _ in range(60))

        assert await r.run(talk) == 60
        assert 20 <= len(r.log.findings()) < 60
        assert sum("internal error in the proxy" in line for line in r.log.lines()) == 60, "every request has its line"


async def test_a_connection_that_cannot_be_adopted_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(*RULES) as r:
        loop = asyncio.get_running_loop()
        errors = iter([ZeroDivisionError(SECRET), OSError(errno.EBADF, "bad descriptor")])

        async def fail(*_: Any, **__: Any) -> Any:
            raise next(errors)

        class Broken:
            def __getattr__(self, name: str) -> Any:
                return fail if name == "connect_accepted_socket" else getattr(loop, name)

        monkeypatch.setattr(r.plane, "_loop", Broken())
        for _ in range(2):
            with socket.create_connection(r.address, 10) as client:
                assert await asyncio.to_thread(client.recv, 1) == b""
        await told(r)
