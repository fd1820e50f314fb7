"""Raw tunnels: bytes both ways, server-speaks-first, half-close, resets, back-pressure."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from pyopenshell.supervisor.proxy import Limits
from tests.supervisor.proxy.rig import Client, Upstream, raw, rig, rule

RAW = rule("raw", raw("raw.test", 2222))


async def started(handler) -> Upstream:  # type: ignore[no-untyped-def]
    upstream = Upstream(handler)
    await upstream.start(None)
    return upstream


async def test_the_server_may_speak_first() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-test\r\n")
        writer.write(await reader.readline())

    upstream = await started(handler)
    async with rig(RAW, upstreams={("raw.test", 2222): upstream.address}) as r:

        def talk(client: Client) -> tuple[bytes, bytes, bool]:
            assert client.connect("raw.test:2222").status == 200
            banner = client.read(14)
            client.send(b"SSH-2.0-client\r\n")
            return banner, client.read(16), client.closed()

        assert await r.run(talk) == (b"SSH-2.0-test\r\n", b"SSH-2.0-client\r\n", True)
        assert r.log.lines() == ["NET:OPEN [INFO] ALLOWED /usr/bin/curl(64) -> raw.test:2222 [policy:raw engine:opa]"]
    await upstream.stop()


async def test_half_close_from_the_client_keeps_the_answer() -> None:
    size = 8 << 20

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = len(await reader.read(-1))
        writer.write(b"%08d" % got + b"x" * size)
        await writer.drain()

    upstream = await started(handler)
    async with rig(RAW, upstreams={("raw.test", 2222): upstream.address}) as r:

        def talk(client: Client) -> tuple[bytes, int]:
            client.connect("raw.test:2222")
            client.send(b"y" * 3_000_000)
            client.socket.shutdown(socket.SHUT_WR)
            head, total = client.read(8), len(client.buffer)
            while piece := client.socket.recv(1 << 20):
                total += len(piece)
            return head, total

        assert await r.run(talk) == (b"03000000", size)
    await upstream.stop()


async def test_half_close_from_the_server_keeps_the_upload() -> None:
    done = asyncio.get_running_loop().create_future()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        done.set_result(len(await reader.read(-1)))

    upstream = await started(handler)
    async with rig(RAW, upstreams={("raw.test", 2222): upstream.address}) as r:

        def talk(client: Client) -> tuple[bytes, bool]:
            client.connect("raw.test:2222")
            data, ended = client.read(3), client.socket.recv(1) == b""
            client.send(b"z" * 2_000_000)
            return data, ended

        assert await r.run(talk) == (b"bye", True)
        assert await asyncio.wait_for(done, 10) == 2_000_000
    await upstream.stop()


async def test_a_half_close_that_comes_with_the_connect() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(-1))

    upstream = await started(handler)
    async with rig(RAW, upstreams={("raw.test", 2222): upstream.address}) as r:

        def talk(client: Client) -> bytes:
            client.send(b"CONNECT raw.test:2222 HTTP/1.1\r\nHost: x\r\n\r\nearly")
            client.socket.shutdown(socket.SHUT_WR)
            assert client.response("CONNECT").status == 200
            return client.read(5)

        assert await r.run(talk) == b"early"
    await upstream.stop()


async def test_a_stalled_reader_stops_the_sender() -> None:
    """What the server could write before it had to wait is what the proxy and the kernel hold: bounded."""
    sent = 0
    stalled = asyncio.Event()

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        piece = b"x" * 65536
        while sent < 1 << 30:
            writer.write(piece)
            try:
                async with asyncio.timeout(1):
                    await writer.drain()
            except TimeoutError:
                stalled.set()
                return
            sent += len(piece)

    upstream = await started(handler)
    async with rig(RAW, upstreams={("raw.test", 2222): upstream.address}) as r:
        reader, writer = await asyncio.open_connection(*r.address, limit=1024)
        writer.write(b"CONNECT raw.test:2222 HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(stalled.wait(), 30)
        assert sent < 64 << 20
        writer.transport.abort()
        del reader
    await upstream.stop()


@pytest.mark.parametrize("speaker", ["client", "server", "nobody"])
async def test_a_tunnel_that_says_nothing_for_too_long_ends(speaker: str) -> None:
    """Time is the plane's own tick here: three of them are the limit."""
    to_client: list[asyncio.StreamWriter] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_client.append(writer)
        while data := await reader.read(100):
            writer.write(data)

    upstream = await started(handler)
    limits = Limits(watch_seconds=1000.0, tunnel_seconds=3000.0)
    async with rig(RAW, upstreams={("raw.test", 2222): upstream.address}, limits=limits) as r:
        reader, writer = await asyncio.open_connection(*r.address)
        writer.write(b"CONNECT raw.test:2222 HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(6):
            if speaker == "client":
                writer.write(b"x")
                assert await asyncio.wait_for(reader.readexactly(1), 60) == b"x"
            elif speaker == "server":
                to_client[0].write(b"y")
                assert await asyncio.wait_for(reader.readexactly(1), 60) == b"y"
            r.plane._tick()
        ended = "NET:CLOSE [LOW] /usr/bin/curl(64) -> raw.test:2222"
        assert any(ended in line for line in r.log.lines()) is (speaker == "nobody")
        if speaker == "nobody":
            assert "raw tunnel ended: nothing was said for 3000 s" in r.log.lines()[-1]
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 60) == b""
            assert repr(r.plane).startswith("<plane 0 connections, 0 raw tunnels")
        writer.close()
    await upstream.stop()


async def test_an_operator_may_let_tunnels_be_silent_for_ever() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))

    upstream = await started(handler)
    limits = Limits(watch_seconds=1000.0, tunnel_seconds=0)
    async with rig(RAW, upstreams={("raw.test", 2222): upstream.address}, limits=limits) as r:
        reader, writer = await asyncio.open_connection(*r.address)
        writer.write(b"CONNECT raw.test:2222 HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(1000):
            r.plane._tick()
        writer.write(b"still here")
        assert await asyncio.wait_for(reader.read(), 60) == b"still here"
        writer.close()
    await upstream.stop()
