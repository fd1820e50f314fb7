"""What waits in the proxy for somebody to take it: the sum over all connections is bounded, whoever makes it wait."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.supervisor.proxy import Limits
from pyopenshell.supervisor.proxy.memory import Memory
from tests.supervisor.proxy.rig import Client, Rig, Upstream, raw, rest, rig, rule

RULES = (rule("api", rest("api.test", ("*", "/**"), port=80)), rule("raw", raw("raw.test", 81)))
SMALL = dataclasses.replace(Limits(linger_seconds=0.2), memory=4 << 20)
GET = b"GET http://api.test/big HTTP/1.1\r\nHost: api.test\r\n\r\n"


class Connection:
    def __init__(self) -> None:
        self.marks: list[tuple[int, int]] = []

    def mark(self, high: int, low: int) -> None:
        self.marks.append((high, low))


def test_marks_sink_as_connections_become_many_and_do_not_flap() -> None:
    memory = Memory(1 << 30, 262144, 65536, lambda _: None)
    crowd = [Connection() for _ in range(8192)]
    for one in crowd:
        memory.enter(one)
    assert {one.marks[-1] for one in crowd} == {(16384, 4096)}
    assert max(len(one.marks) for one in crowd) == 5, "each was told of every step once"
    for one in crowd[2000:]:
        memory.leave(one)
    assert {one.marks[-1] for one in crowd[:2000]} == {(32768, 8192)}
    before = [len(one.marks) for one in crowd[:2000]]
    for _ in range(1000):
        memory.enter(crowd[2000])
        memory.leave(crowd[2000])
    assert [len(one.marks) for one in crowd[:2000]] == before
    for one in crowd[:2000]:
        memory.leave(one)
    late = Connection()
    memory.enter(late)
    assert late.marks == [(262144, 65536)]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-60, 100) | st.none()), max_size=60))
def test_the_sum_is_that_of_its_parts_and_never_above_the_limit(steps: list[tuple[int, int | None]]) -> None:
    cut: list[object] = []
    memory = Memory(250, 8, 4, cut.append)
    crowd = [Connection() for _ in range(5)]
    parts = dict.fromkeys(crowd, 0)
    for one in crowd:
        memory.enter(one)
    for number, more in steps:
        one = crowd[number]
        cut.clear()
        if more is None:
            memory.leave(one)
            parts[one] = 0
        else:
            more = max(more, -parts[one])  # nobody takes what was not there
            memory.change(one, more)
            parts[one] += more
        for gone in cut:
            assert isinstance(gone, Connection)
            parts[gone] = 0
        assert memory.held == sum(parts.values()) <= 250
        assert memory.full == (memory.held > 250 // 4 * 3)


def test_whoever_waits_for_longest_goes_first() -> None:
    cut: list[object] = []
    memory = Memory(100, 8, 4, cut.append)
    a, b, c = (Connection() for _ in range(3))
    memory.change(a, 40)
    memory.change(b, 40)
    memory.change(a, -40)
    memory.change(a, 40)  # it was taken, and waits again
    memory.change(c, 40)
    assert cut == [b]
    assert memory.held == 80


@contextlib.asynccontextmanager
async def stalled(r: Rig, count: int, say: bytes) -> AsyncIterator[list[socket.socket]]:
    """Clients that say something and take no answer."""
    loop = asyncio.get_running_loop()
    clients = []
    try:
        for _ in range(count):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            clients.append(client)
            await loop.sock_connect(client, r.address)
            with contextlib.suppress(OSError):
                await loop.sock_sendall(client, say)
        yield clients
    finally:
        for client in clients:
            client.close()


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not ready():
            await asyncio.sleep(0.01)


def answering(body: bytes) -> Upstream:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await upstream.read_request(reader, writer)
            size = b"2" if "/small" in head else b"%d" % len(body)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + size + b"\r\n\r\n")
            writer.write(b"ok" if "/small" in head else body)
            with contextlib.suppress(OSError):
                await writer.drain()

    upstream = Upstream(handle)
    return upstream


async def test_clients_that_take_no_answer_cannot_hold_more_than_the_limit() -> None:
    """The longest stalled are cut off, others are served, and a new one is told why it is not."""
    upstream = answering(bytes(16 << 20))
    await upstream.start(None)
    async with rig(*RULES, upstreams={("api.test", 80): upstream.address}, limits=SMALL) as r:
        async with stalled(r, 40, GET):
            await r.log.until("for want of memory")
            assert any("NET:CLOSE [LOW] /usr/bin/curl(64) -> api.test:80" in line for line in r.log.lines())
            assert r.plane.memory.held <= SMALL.memory
            await until(lambda: r.plane.memory.full)
            refused = await r.run(lambda c: c.request(GET.replace(b"big", b"small")))
            assert (refused.status, refused.json["error"]) == (503, "proxy_overloaded")

            def socks(client: Client) -> bytes:
                client.send(b"\5\1\0")
                return client.read(2)

            assert await r.run(socks) == b"\5\xff"
            r.going_to("api.test", 80)
            assert await r.run(lambda c: c.closed(), r.captured)
            assert any("connection refused for want of memory" in line for line in r.log.lines())
        await until(lambda: not r.plane.memory.held)
        assert (await r.run(lambda c: c.request(GET.replace(b"big", b"small")))).status == 200
        assert r.denials == []
    await upstream.stop()


@pytest.mark.parametrize("what", ["pipelined", "undialled", "tunnel"])
async def test_bytes_that_a_client_sends_ahead_count_and_count_no_longer_when_they_are_taken(what: str) -> None:
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await upstream.echo(reader, writer)

    upstream = Upstream(slow)
    await upstream.start(None)
    async with rig(*RULES, upstreams={("api.test", 80): upstream.address, ("raw.test", 81): upstream.address}) as r:
        line = b"GET http://api.test/%d HTTP/1.1\r\nHost: api.test\r\n\r\n"
        if what == "pipelined":
            count = 2000
            payload = b"".join(line % n for n in range(count))
        elif what == "undialled":
            count, body = 1, bytes(1 << 20)
            payload = b"POST http://late.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        else:
            count = 500
            requests = b"".join((line % n).replace(b"http://api.test", b"") for n in range(count))
            payload = b"CONNECT raw.test:81 HTTP/1.1\r\nHost: x\r\n\r\n" + requests
        if what == "undialled":
            gate = asyncio.Event()

            async def resolver(host: str, port: int) -> list[str]:
                await gate.wait()
                raise OSError(-2, "no such name")

            r.plane.admitter._guard._resolver = resolver
            r.set_policy(*RULES, rule("late", rest("late.test", ("*", "/**"), port=80)))
        reader, writer = await asyncio.open_connection(*r.address)
        writer.write(payload)
        if what != "tunnel":
            await until(lambda: r.plane.memory.held > 16384)
        go.set()
        if what == "undialled":
            gate.set()
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 60)
            assert b" 502 " in answer
        else:
            async with asyncio.timeout(60):
                if what == "tunnel":
                    await reader.readuntil(b"\r\n\r\n")
                for _ in range(count):
                    await reader.readuntil(b" 200 ")
        await until(lambda: not r.plane.memory.held)
        writer.close()
    await upstream.stop()
