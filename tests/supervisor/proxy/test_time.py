"""Slow and stuck peers in both directions: everything that waits ends, and what only takes long does not."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyopenshell.supervisor.proxy.admission import Failure
from pyopenshell.supervisor.proxy.channel import Route
from pyopenshell.supervisor.proxy.context import Limits
from pyopenshell.supervisor.proxy.relay import Relay
from pyopenshell.supervisor.proxy.transport import Side
from pyopenshell.supervisor.proxy.watch import Watch
from tests.supervisor.proxy.rig import Client, Upstream, rest, rig, rule, unbounded
from tests.supervisor.proxy.test_fuzz import House, Wire

API = rule("api", rest("api.test", ("*", "/**"), port=80))
GET = b"GET http://api.test/x HTTP/1.1\r\nHost: api.test\r\n\r\n"
POST = b"POST http://api.test/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1000000\r\n\r\n"
QUICK = Limits(watch_seconds=0.05, response_seconds=0.2, stall_seconds=0.2, linger_seconds=0.1)


class Desk(House):
    """Forwards every request to one upstream; the clock is the test's own: `tick`."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Failure] = []
        self.client = Wire()
        self.relay = Relay(self, self.client, self, 8192)  # type: ignore[arg-type]
        self.relay.start()

    def request(self, relay: Relay, head: Any) -> None:
        admission: Any = None
        relay.forward(Route(admission, False, "key"), b"GET / HTTP/1.1\r\n\r\n")

    def failed(self, relay: Relay, failure: Failure) -> bytes:
        self.failures.append(failure)
        return b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"

    def waits(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Let that time pass, `meanwhile` before every tick; how the client's connection is then."""
        for _ in range(int(seconds / self.limits.watch_seconds) + 1):
            if self.failures or self.client.over:
                break
            meanwhile()
            self.relay.tick()
        return self.failures[-1].step if self.failures else self.client.over or "open"


def head(length: int = 0, expect: str = "") -> bytes:
    return f"POST http://x.test/ HTTP/1.1\r\nHost: x.test\r\nContent-Length: {length}\r\n{expect}\r\n".encode()


def test_a_server_that_does_not_answer_has_five_minutes_however_it_drips_its_head() -> None:
    desk = Desk()
    desk.client.data(head())
    drip = iter(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000)
    assert desk.waits(290, lambda: desk.upstream.data(bytes([next(drip)]))) == "open"
    assert desk.waits(15) == "response"
    assert desk.failures[0].error == "upstream_timeout"
    assert desk.upstream.over == "closed", "nobody else gets that connection"
    assert desk.client.out.startswith(b"HTTP/1.1 504 ")


def test_an_interim_answer_is_progress_within_their_number() -> None:
    desk = Desk()
    desk.client.data(head())
    assert desk.waits(290) == "open"
    desk.upstream.data(b"HTTP/1.1 102 Processing\r\n\r\n")
    assert desk.waits(290) == "open"
    assert desk.waits(15) == "response"


@pytest.mark.parametrize(
    ("framing", "first", "alive", "late"),
    [
        ("Content-Length: 100", b"x", 290, 15),
        ("Transfer-Encoding: chunked", b"1\r\nx\r\n", 3590, 15),
        ("X: eof", b"x", 3590, 15),
    ],
)
def test_a_body_with_a_length_may_pause_for_minutes_and_a_stream_for_an_hour(
    framing: str, first: bytes, alive: int, late: int
) -> None:
    desk = Desk()
    desk.client.data(head())
    desk.upstream.data(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
    assert desk.waits(alive) == "open"
    desk.upstream.data(first)
    assert desk.waits(alive) == "open"
    assert desk.waits(late) == "response"
    assert desk.client.over == ("aborted" if framing.startswith("X") else "closed")


def test_a_reader_that_is_slow_is_waited_for_and_one_that_takes_nothing_is_not() -> None:
    desk = Desk()
    desk.client.data(head())
    desk.upstream.data(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
    desk.client.congested, desk.client.unsent = True, 100_000

    def sip() -> None:
        desk.client.unsent -= 1

    assert desk.waits(1000, sip) == "open"
    assert desk.waits(290) == "open"
    assert desk.waits(20) == "response"
    assert desk.client.over == "aborted"


def test_a_client_between_requests_has_five_minutes() -> None:
    desk = Desk()
    desk.client.data(head())
    desk.upstream.data(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert desk.waits(290) == "open"
    assert desk.waits(15) == "closed"
    assert not desk.failures


@pytest.mark.parametrize(("rate", "end"), [(0, "408"), (20, "408"), (25, "open")])
def test_a_request_body_needs_a_minimum_of_bytes_each_minute(rate: int, end: str) -> None:
    """Bytes in five seconds: below 256 a minute it is a drip."""
    desk = Desk()
    desk.client.data(head(10_000))
    desk.waits(130, lambda: desk.client.data(b"x" * rate) if rate else None)
    assert (b"HTTP/1.1 408 " in desk.client.out) is (end == "408")
    assert (desk.upstream.over == "closed") is (end == "408")


def test_a_client_that_waits_for_100_is_not_the_one_to_blame() -> None:
    desk = Desk()
    desk.client.data(head(10_000, "Expect: 100-continue\r\n"))
    assert desk.waits(290) == "open"
    assert desk.waits(15) == "response"
    desk = Desk()
    desk.client.data(head(10_000, "Expect: 100-continue\r\n"))
    desk.upstream.data(b"HTTP/1.1 100 Continue\r\n\r\n")
    desk.waits(65)
    assert b"HTTP/1.1 408 " in desk.client.out


def test_a_server_that_takes_nothing_of_an_upload() -> None:
    desk = Desk()
    desk.client.data(head(10_000))
    desk.upstream.congested, desk.upstream.unsent = True, 5000
    desk.client.pause()

    def sip() -> None:
        desk.upstream.unsent -= 1

    assert desk.waits(1000, sip) == "open"
    assert desk.waits(290) == "open"
    assert desk.waits(20) == "request"


def test_a_watch_runs_only_while_there_is_something_to_look_at() -> None:
    armed: list[Callable[[], None]] = []

    class Timing:
        limits = Limits()

        def after(self, seconds: float, call: Callable[[], None]) -> Any:
            assert seconds == self.limits.watch_seconds
            armed.append(call)
            return object()

    looks = iter([True, False])
    watch = Watch(Timing(), lambda: next(looks))
    watch.start()
    watch.start()
    assert len(armed) == 1
    armed.pop()()
    assert len(armed) == 1
    armed.pop()()
    assert not armed


def test_what_fails_when_it_is_looked_at_is_not_the_last_that_was_looked_at() -> None:
    armed: list[Callable[[], None]] = []

    class Timing:
        limits = Limits()

        def after(self, seconds: float, call: Callable[[], None]) -> Any:
            armed.append(call)
            return object()

    def look() -> bool:
        raise ValueError("file descriptor cannot be a negative integer (-1)")

    Watch(Timing(), look).start()
    with pytest.raises(ValueError, match="negative"):
        armed.pop()()
    assert armed


def test_the_times_are_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    limits = Limits()
    assert limits.idle_seconds == limits.response_seconds == limits.stall_seconds
    assert f"no next request for {limits.idle_seconds:g} s" in text
    assert f"for {limits.response_seconds:g} s after the whole request" in text
    assert limits.stream_seconds == 3600
    assert "for an hour when not" in text
    assert limits.body_seconds == 60
    assert f"less than {limits.body_bytes} bytes in a minute" in text
    assert f"looked at every {limits.watch_seconds:g} s" in text


# ------------------------------------------------------------------------------------------- the same on real sockets


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await reader.read()


async def gush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def test_a_silent_server_is_a_504_with_its_step_and_leaves_nothing_open(plain_upstream: Upstream) -> None:
    plain_upstream.handler = silent
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}, limits=QUICK) as r:
        answer = await r.run(lambda client: client.request(GET))
        assert answer.status == 504
        assert (answer.json["error"], answer.json["step"]) == ("upstream_timeout", "response")
        assert "error=http_response_timeout" in answer.headers["proxy-status"]
        assert "x-openshell-denial" not in answer.headers
        await r.log.until("did not answer in time")
        assert not r.denials


async def test_a_server_that_stops_in_its_body_ends_the_response_visibly(plain_upstream: Upstream) -> None:
    plain_upstream.handler = half
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}, limits=QUICK) as r:

        def talk(client: Client) -> bytes:
            with pytest.raises(EOFError):
                client.request(GET)
            return client.buffer

        await r.run(talk)
        await r.log.until("stopped in the middle of its response")


async def test_a_client_that_never_reads_is_cut_and_everything_behind_it_too(plain_upstream: Upstream) -> None:
    plain_upstream.handler = gush
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}, limits=QUICK) as r:
        with socket.create_connection(r.address) as client:
            client.sendall(GET)
            await r.log.until("client takes nothing of its response")
            assert repr(r.plane).startswith("<plane 0 connections") or await gone(r.plane)


async def gone(plane: object) -> bool:
    """The transport reports its end in one of the next turns of the loop."""
    async with asyncio.timeout(10):
        while not repr(plane).startswith("<plane 0 connections"):
            await asyncio.sleep(0)
    return True


@pytest.mark.parametrize("through", ["side", "transport"])
async def test_a_connection_that_closes_does_not_wait_for_ever_for_its_reader(through: str) -> None:
    """Relays close sides, raw tunnels close transports. Whoever goes on reading gets everything."""
    for reads in (True, False):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
        side, closed = Side(unbounded()), asyncio.Event()
        side.on_closed = closed.set
        await asyncio.get_running_loop().connect_accepted_socket(itertools.repeat(side).__next__, accepted)
        size = 64 << 20
        side.write(bytes(size))
        side.tick(2)
        side.tick(2)
        side.tick(2)
        side.tick(2)
        assert not side.tcp.is_closing(), "only what is closing is bounded"
        (side if through == "side" else side.tcp).close()
        received = 0
        with client:
            while reads and received < size:
                received += len(await asyncio.to_thread(client.recv, 1 << 20))
                side.tick(2)
            for _ in range(6):
                side.tick(2)
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await closed.wait()
        assert received == (size if reads else 0)


async def test_who_reads_no_answers_cannot_ask_on(plain_upstream: Upstream) -> None:
    """Tens of thousands of pipelined refusals: none is lost, and what waits for the reader stays bounded."""
    count = 20_000
    question = b"GET http://no.test/ HTTP/1.1\r\nHost: no.test\r\n\r\n"
    async with rig(API) as r:
        reader, writer = await asyncio.open_connection(*r.address)
        try:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(question * count)
            async with asyncio.timeout(60):
                while not any(side.congested for side in r.plane._sides):
                    await asyncio.sleep(0)
            for _ in range(1000):
                await asyncio.sleep(0)
            asked = len(r.denials)
            assert asked < count
            assert max(side.tcp.get_write_buffer_size() for side in r.plane._sides) < 2 * r.plane.limits.high_water
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(60):
                for _ in range(count):
                    await reader.readuntil(b"HTTP/1.1 403 ")
        finally:
            writer.close()
