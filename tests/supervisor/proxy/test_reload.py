"""A new policy and what is open: the exchange in flight ends well, the rest follows its grant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import ClassVar

import pytest

from pyopenshell.isolation.identity import Identity
from pyopenshell.policy.model import Rule
from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.proxy.admission import Admission
from tests.supervisor.proxy.rig import CURL, Rig, Upstream, raw, rest, rig, rule

API = rule("api", rest("api.test", ("GET", "/pub/**"), port=80))
WIDER = rule("api", rest("api.test", ("GET", "/pub/**"), ("PUT", "/pub/x"), port=80))
OTHER = rule("other", raw("unrelated.test"))
RAW = rule("raw", raw("raw.test", 81))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Slow(Upstream):
    """Sends half a response, then waits for `go`."""

    def __init__(self) -> None:
        super().__init__(self.slow)
        self.go = asyncio.Event()
        self.half = asyncio.Event()
        self.lost = asyncio.Event()

    async def slow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head, _ = await self.read_request(reader, writer)
                if "/slow" not in head:
                    writer.write(OK)
                    continue
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
                await writer.drain()
                self.half.set()
                going = asyncio.ensure_future(self.go.wait())
                ended = asyncio.ensure_future(reader.read(1))
                done, pending = await asyncio.wait({going, ended}, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                if going not in done:
                    return
                writer.write(b"world")
                self.half.clear()
        finally:
            self.lost.set()


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    upstream = Slow()
    await upstream.start(None)
    yield upstream
    upstream.go.set()
    await upstream.stop()


class Wire:
    """An asyncio client, so that the test can change the policy between two steps."""

    opened: ClassVar[list[Wire]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.opened.append(self)

    @classmethod
    async def open(cls, r: Rig, authority: str = "") -> Wire:
        wire = cls(*await asyncio.open_connection(*r.address))
        if authority:
            wire.send(f"CONNECT {authority} HTTP/1.1\nHost: x\n\n")
            assert b" 200 " in await wire.head()
        return wire

    def send(self, text: str) -> None:
        self.writer.write(text.replace("\n", "\r\n").encode())

    def get(self, path: str) -> None:
        self.send(f"GET {path} HTTP/1.1\nHost: api.test\n\n")

    async def head(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readexactly(size)

    async def ok(self, path: str = "/pub/a") -> None:
        self.get(path)
        assert b" 200 " in await self.head()
        await self.read(2)

    async def closed(self) -> bool:
        try:
            async with asyncio.timeout(5):
                return await self.reader.read() == b""
        except ConnectionResetError:
            return True

    def end(self) -> None:
        self.writer.transport.abort()


@pytest.fixture(autouse=True)
async def _close_wires() -> AsyncIterator[None]:
    yield
    while Wire.opened:
        Wire.opened.pop().end()


def plane(upstream: Upstream, *rules: Rule):  # type: ignore[no-untyped-def]
    return rig(*rules, upstreams={("api.test", 80): upstream.address, ("raw.test", 81): upstream.address})


@pytest.mark.parametrize("door", ["tunnel", "forward"])
async def test_an_idle_keep_alive_connection_closes_at_once(slow: Slow, door: str) -> None:
    async with plane(slow, API) as r:
        wire = await Wire.open(r, "api.test:80" if door == "tunnel" else "")
        await wire.ok("/pub/a" if door == "tunnel" else "http://api.test/pub/a")
        r.set_policy(WIDER)
        assert await wire.closed()
        assert "NET:CLOSE [INFO]" in r.log.lines()[-1]
        assert "L7 tunnel closed after policy reload" in r.log.lines()[-1]
        again = await Wire.open(r, "api.test:80")
        again.send("PUT /pub/x HTTP/1.1\nHost: api.test\nContent-Length: 0\n\n")
        assert b" 200 " in await again.head()


@pytest.mark.parametrize("door", ["tunnel", "forward"])
async def test_the_exchange_in_flight_finishes_then_the_connection_closes(slow: Slow, door: str) -> None:
    async with plane(slow, API) as r:
        wire = await Wire.open(r, "api.test:80" if door == "tunnel" else "")
        wire.get("/pub/slow" if door == "tunnel" else "http://api.test/pub/slow")
        await wire.head()
        assert await wire.read(5) == b"hello"
        r.set_policy(WIDER)
        slow.go.set()
        assert await wire.read(5) == b"world"
        assert await wire.closed()


@pytest.mark.parametrize("door", ["tunnel", "forward"])
@pytest.mark.parametrize("left", ["POST", "PUT", "both"])
async def test_a_request_that_needed_two_rights_ends_with_either(slow: Slow, door: str, left: str) -> None:
    """A method override is a second method: who loses the right to one of the two loses the exchange."""
    both = ("POST", "/pub/slow"), ("PUT", "/pub/slow")
    kept = both if left == "both" else tuple(right for right in both if right[0] == left)
    async with plane(slow, rule("api", rest("api.test", *both, port=80))) as r:
        wire = await Wire.open(r, "api.test:80" if door == "tunnel" else "")
        target = "/pub/slow" if door == "tunnel" else "http://api.test/pub/slow"
        wire.send(f"POST {target} HTTP/1.1\nHost: api.test\nContent-Length: 0\nX-HTTP-Method-Override: PUT\n\n")
        await wire.head()
        assert await wire.read(5) == b"hello"
        r.set_policy(rule("api", rest("api.test", *kept, ("GET", "/other"), port=80)))
        if left == "both":
            slow.go.set()
            assert await wire.read(5) == b"world"
        else:
            await asyncio.wait_for(slow.lost.wait(), 60)
            assert await wire.closed()
            assert "grant revoked by policy reload" in r.log.lines()[-1]


async def test_a_response_that_has_not_begun_announces_the_close(slow: Slow) -> None:
    async with plane(slow, API) as r:
        wire = await Wire.open(r, "api.test:80")
        got, answer = asyncio.Event(), asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await slow.read_request(reader, writer)
            got.set()
            await answer.wait()
            writer.write(OK)

        slow.handler = handler
        wire.get("/pub/a")
        await got.wait()
        r.set_policy(WIDER)
        answer.set()
        assert b"Connection: close" in await wire.head()
        assert await wire.read(2) == b"ok"
        assert await wire.closed()


async def test_raw_tunnels_live_on(slow: Slow) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)

    slow.handler = echo
    async with plane(slow, RAW, OTHER) as r:
        wire = await Wire.open(r, "raw.test:81")
        wire.writer.write(b"one")
        assert await wire.read(3) == b"one"
        r.set_policy(RAW, API)
        wire.writer.write(b"two")
        assert await wire.read(3) == b"two"
        assert len(r.log.lines()) == 1


@pytest.mark.parametrize(
    "after",
    [
        (),
        (OTHER,),
        (rule("raw", raw("raw.test", 81), binaries=("/usr/bin/wget",)),),
        (rule("l7", rest("raw.test", ("GET", "/**"), port=81)),),
    ],
)
async def test_a_raw_tunnel_ends_with_its_grant(slow: Slow, after: tuple[Rule, ...]) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    slow.handler = hold
    async with plane(slow, RAW) as r:
        wire = await Wire.open(r, "raw.test:81")
        r.set_policy(*after)
        assert await wire.closed()
        assert "NET:CLOSE [MED] DENIED /usr/bin/curl(64) -> raw.test:81" in r.log.lines()[-1]
        assert "grant revoked by policy reload" in r.log.lines()[-1]
        assert r.denials == []


async def test_one_connection_that_cannot_be_judged_leaves_no_other_its_lost_grant(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    slow.handler = hold
    async with plane(slow, RAW, API) as r:
        said: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
        wires = [await Wire.open(r, "raw.test:81") for _ in range(3)]
        first = next(iter(r.plane._tunnels.values()))
        renew: Callable[[Admission], Admission | Denial] = r.plane.admitter.renew

        def failing(admission: Admission) -> Admission | Denial:
            if admission is first:
                raise ValueError("a mistake of ours")
            return renew(admission)

        monkeypatch.setattr(r.plane.admitter, "renew", failing)
        r.set_policy(API)
        assert [await wire.closed() for wire in wires] == [True] * 3
        assert said == ["a connection could not be judged by the new policy and was ended"]


@pytest.mark.parametrize(
    "after",
    [
        (),
        (rule("api", rest("api.test", ("GET", "/pub/other"), port=80)),),
        (rule("api", rest("api.test", ("GET", "/**"), port=80), binaries=("/x",)),),
    ],
)
async def test_a_running_download_ends_with_its_grant(slow: Slow, after: tuple[Rule, ...]) -> None:
    async with plane(slow, API) as r:
        wire = await Wire.open(r, "api.test:80")
        wire.get("/pub/slow")
        await wire.head()
        r.set_policy(*after)
        assert await wire.read(5) == b"hello"
        assert await wire.closed()
        await asyncio.wait_for(slow.lost.wait(), 5)
        assert "grant revoked" in r.log.lines()[-1]


async def test_revoking_closes_exactly_what_depended_on_it(slow: Slow) -> None:
    """Two binaries download from the same endpoint; one loses its grant, the other does not notice."""
    ours = rule("ours", rest("api.test", ("GET", "/**"), port=80))
    theirs = rule("theirs", rest("api.test", ("GET", "/**"), port=80), binaries=("/usr/bin/wget",))
    async with plane(slow, ours, theirs) as r:
        one = await Wire.open(r, "api.test:80")
        r.identifier.identity = Identity(65, "/usr/bin/wget")
        two = await Wire.open(r, "api.test:80")
        for wire in (one, two):
            wire.get("/slow")
            await wire.head()
            await wire.read(5)
        r.set_policy(theirs)
        assert await one.closed()
        slow.go.set()
        assert await two.read(5) == b"world"
        r.identifier.identity = CURL


async def test_a_request_that_races_a_reload_is_judged_by_the_new_policy(slow: Slow) -> None:
    """The tunnel is open but silent when the policy changes: no refusal for the race, only the new rules."""
    async with plane(slow, API) as r:
        first, second = await Wire.open(r, "api.test:80"), await Wire.open(r, "api.test:80")
        r.set_policy(rule("api", rest("api.test", ("GET", "/new/**"), port=80)))
        first.get("/new/a")
        assert b" 200 " in await first.head()
        second.get("/pub/a")
        assert b" 403 " in await second.head()


async def test_a_reload_while_the_owner_is_looked_up(slow: Slow) -> None:
    async with plane(slow) as r:
        asked, go = asyncio.Event(), asyncio.Event()

        class Waiting:
            async def identify(self, *_: object) -> Identity:
                asked.set()
                await go.wait()
                return CURL

        r.plane.admitter._identifier = Waiting()
        wire = Wire(*await asyncio.open_connection(*r.address))
        wire.send("CONNECT api.test:80 HTTP/1.1\nHost: x\n\n")
        await asked.wait()
        r.set_policy(API)
        go.set()
        assert b" 200 " in await wire.head()


async def test_idle_upstreams_do_not_outlive_their_policy(slow: Slow) -> None:
    async with plane(slow, API) as r:
        wire = await Wire.open(r, "api.test:80")
        await wire.ok()
        wire.end()
        while not len(r.plane._pool):
            await asyncio.sleep(0)
        r.set_policy(WIDER)
        assert not len(r.plane._pool)


async def test_an_endless_event_stream_outlives_reloads_and_ends_with_its_grant() -> None:
    events: asyncio.Queue[bytes] = asyncio.Queue()
    lost = asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            ended = asyncio.ensure_future(reader.read(1))
            while not ended.done():
                following = asyncio.ensure_future(events.get())
                await asyncio.wait({following, ended}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    data = b"data: %s\n\n" % following.result()
                    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                else:
                    following.cancel()
        finally:
            lost.set()

    upstream = Upstream(stream)
    await upstream.start(None)
    async with plane(upstream, API) as r:
        wire = await Wire.open(r, "api.test:80")
        wire.get("/pub/events")
        assert b" 200 " in await wire.head()
        for number, rules in enumerate([(API,), (WIDER, OTHER), (API, OTHER)]):
            r.set_policy(*rules)
            events.put_nowait(b"%d" % number)
            assert await wire.read(len("9\r\ndata: 0\n\n\r\n")) == b"9\r\ndata: %d\n\n\r\n" % number
        r.set_policy(OTHER)
        assert await wire.closed()
        await lost.wait()
        assert any("grant revoked" in line for line in r.log.lines())


@pytest.mark.parametrize("door", ["tunnel", "forward"])
async def test_audit_forwards_and_logs_and_is_never_shown_as_allowed(plain_upstream: Upstream, door: str) -> None:
    watched = rule("api", rest("api.test", ("GET", "/pub/**"), port=80, enforcement="audit"))
    async with plane(plain_upstream, watched) as r:
        wire = await Wire.open(r, "api.test:80" if door == "tunnel" else "")
        wire.send(
            f"PUT {'' if door == 'tunnel' else 'http://api.test'}/x HTTP/1.1\nHost: api.test\nContent-Length: 0\n\n"
        )
        assert b" 200 " in await wire.head()
        (line,) = [line for line in r.log.lines() if line.startswith("HTTP:")]
        assert line.startswith("HTTP:PUT [MED] OBSERVED")
        assert not r.denials
