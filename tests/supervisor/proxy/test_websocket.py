"""WebSocket through the plane: nothing raw before a proven 101, every client message judged, an end between frames."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
import struct
import threading
import tracemalloc
from collections.abc import Callable

import pytest
from wsproto.frame_protocol import FrameProtocol, Opcode

from pyopenshell.policy.model import L7Match, Rule
from pyopenshell.supervisor.denial import envelope
from pyopenshell.supervisor.proxy import Limits
from pyopenshell.supervisor.proxy.handshake import accept_for
from tests.supervisor.proxy.rig import Client, Response, Rig, Upstream, raw, rest, rig, rule
from tests.supervisor.proxy.test_fuzz import Wire, lone_socket

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TALK_RIGHTS = ("GET", "/ws/**"), ("WEBSOCKET_TEXT", "/ws/**")
TALK = rule("ws", rest("api.test", *TALK_RIGHTS))
LISTEN = rule("ws", rest("api.test", ("GET", "/ws/**")))
EXTENSIONS = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\n"


def handshake(path: str = "/ws/a", *, host: str = "api.test", extra: str = "", **changed: str) -> str:
    fields = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    fields |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
    return f"GET {path} HTTP/1.1\n{lines}{extra}\n"


@dataclasses.dataclass
class Heard:
    opcode: Opcode
    data: bytes


class Server(Upstream):
    """Accepts handshakes and echoes whole messages; says what frames arrived. Subclasses answer otherwise."""

    accept = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
    status = "101 Switching Protocols"
    greeting = b""
    """Raw bytes behind the 101."""

    def __init__(self) -> None:
        super().__init__(self.talk)
        self.heard: list[Heard] = []
        self.close: tuple[int, str] | None = None
        self.gone = asyncio.Event()
        self.head = ""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.head, _ = await self.read_request(reader, writer)
            key = next(v for k, _, v in (line.partition(": ") for line in self.head.split("\r\n")) if "Key" in k)
            accept = self.accept.format(accept=accept_for(key.strip().encode()).decode())
            writer.write(f"HTTP/1.1 {self.status}\r\n{accept}\r\n".encode() + self.greeting)
            await self.frames(reader, writer)
        finally:
            self.gone.set()

    async def frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = FrameProtocol(client=False, extensions=[])
        message: list[bytes] = []
        while data := await reader.read(65536):
            protocol.receive_bytes(data)
            for frame in protocol.received_frames():
                payload = frame.payload
                if frame.opcode is Opcode.CLOSE:
                    assert isinstance(payload, tuple)
                    self.close = payload
                    writer.write(bytes(protocol.close(*payload)))
                    return
                assert not isinstance(payload, tuple)
                piece = payload.encode() if isinstance(payload, str) else bytes(payload)
                if frame.opcode is Opcode.PING:
                    writer.write(bytes(protocol.pong(piece)))
                    continue
                message.append(piece)
                if frame.message_finished:
                    whole = b"".join(message)
                    message.clear()
                    self.heard.append(Heard(frame.opcode, whole))
                    text = frame.opcode is Opcode.TEXT
                    writer.write(bytes(protocol.send_data(whole.decode() if text else whole)))


class WebClient:
    """A blocking WebSocket client on a `Client` whose handshake was answered with 101."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.protocol = FrameProtocol(client=True, extensions=[])
        self.frames = self.protocol.received_frames()

    def send(self, data: bytes | bytearray) -> None:
        self.client.send(bytes(data))

    def text(self, text: str, *, fin: bool = True) -> None:
        self.send(self.protocol.send_data(text, fin))

    def binary(self, data: bytes, *, fin: bool = True) -> None:
        self.send(self.protocol.send_data(data, fin))

    def next(self) -> tuple[Opcode, bytes | str | tuple[int, str]]:
        """The next whole message or control frame."""
        parts: list[bytes] = []
        while True:
            for frame in self.protocol.received_frames():
                payload = frame.payload
                if isinstance(payload, tuple):
                    return frame.opcode, payload
                parts.append(payload.encode() if isinstance(payload, str) else bytes(payload))
                if frame.message_finished:
                    return frame.opcode, b"".join(parts)
            if self.client.buffer:
                data, self.client.buffer = self.client.buffer, b""
            else:
                data = self.client.socket.recv(65536)
                if not data:
                    raise EOFError(repr(parts))
            self.protocol.receive_bytes(data)

    def closed(self) -> tuple[int, str]:
        opcode, payload = self.next()
        assert opcode is Opcode.CLOSE
        assert isinstance(payload, tuple)
        return int(payload[0]), payload[1]


def opened(client: Client, tls: bool = True) -> Client:
    port = 443 if tls else 80
    assert client.connect(f"api.test:{port}").status == 200
    if tls:
        client.tls("api.test")
    return client


def upgraded(client: Client, extra: str = "", *, tls: bool = True, **changed: str) -> WebClient:
    response = opened(client, tls).request(handshake(extra=extra, **changed))
    assert response.status == 101, response
    return WebClient(client)


async def started(server: Server, *, tls: bool = True) -> Server:
    await server.start("api.test" if tls else None)
    return server


def serving(server: Upstream, *rules: Rule, limits: Limits | None = None):  # type: ignore[no-untyped-def]
    where = {("api.test", 443): server.address, ("api.test", 80): server.address}
    return rig(*rules, upstreams=where, limits=limits)


async def test_messages_pass_both_ways_and_each_is_an_event() -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:

        def talk(client: Client) -> list[object]:
            web = upgraded(client)
            web.text("hello")
            answers: list[object] = [web.next()]
            web.binary(b"\x00\x01")
            answers.append(web.next())
            web.send(web.protocol.ping(b"p"))
            answers.append(web.next())
            web.send(web.protocol.close(1000, "bye"))
            return [*answers, web.closed(), client.closed()]

        assert await r.run(talk) == [
            (Opcode.TEXT, b"hello"),
            (Opcode.BINARY, b"\x00\x01"),
            (Opcode.PONG, b"p"),
            (1000, "bye"),
            True,
        ]
        assert server.close == (1000, "bye")
        lines = [line for line in r.log.lines() if "WEBSOCKET_TEXT" in line]
        assert len(lines) == 2
        assert all(line.startswith("HTTP:WEBSOCKET_TEXT [INFO] ALLOWED WEBSOCKET_TEXT") for line in lines)
        assert any("HTTP:GET [INFO] ALLOWED GET http://api.test:443/ws/a" in line for line in r.log.lines())
        assert not r.denials


async def test_a_denied_message_never_arrives_and_the_client_reads_why() -> None:
    server = await started(Server())
    async with serving(server, LISTEN) as r:

        def talk(client: Client) -> tuple[tuple[int, str], bool]:
            web = upgraded(client)
            web.text("secret")
            return web.closed(), client.closed()

        (code, reason), closed = await r.run(talk)
        await server.gone.wait()
        assert server.heard == []
        assert server.close == (1001, "")
        (denial,) = r.denials
        assert (code, closed) == (1008, True)
        assert reason == f"policy_denied {denial.id}, see http://policy.local/v1/denials"
        assert (denial.layer, denial.method, denial.path, denial.status) == ("l7", "WEBSOCKET_TEXT", "/ws/a", 403)
        (line,) = [line for line in r.log.lines() if "DENIED" in line]
        assert line.startswith("HTTP:WEBSOCKET_TEXT [MED] DENIED")
        assert f"[denial:{denial.id}]" in line
        assert "secret" not in "".join(r.log.lines())
        assert envelope(denial, proposals_enabled=True)["rule_missing"]["type"] == "websocket_allow"


@pytest.mark.parametrize("kind", ["binary", "fragments", "binary fragments"])
async def test_no_framing_dodges_the_rules(kind: str) -> None:
    """B-17."""
    server = await started(Server())
    async with serving(server, LISTEN) as r:

        def talk(client: Client) -> int:
            web = upgraded(client)
            if kind == "binary":
                web.binary(b"secret")
            elif kind == "fragments":
                web.text("sec", fin=False)
                web.send(web.protocol.ping())
                assert web.next()[0] is Opcode.PONG
                web.text("ret")
            else:
                web.binary(b"sec", fin=False)
            return web.closed()[0]

        assert await r.run(talk) == 1008
        await server.gone.wait()
        assert server.heard == []
        assert len(r.denials) == 1


async def test_fragments_with_control_frames_between_are_one_message_as_judged() -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:

        def talk(client: Client) -> list[object]:
            web = upgraded(client)
            web.text("hé", fin=False)
            web.send(web.protocol.ping(b"1"))
            web.text("", fin=False)
            pong = web.next()
            web.text("llo")
            return [pong, web.next()]

        assert await r.run(talk) == [(Opcode.PONG, b"1"), (Opcode.TEXT, "héllo".encode())]
        assert [h.data for h in server.heard] == ["héllo".encode()]
        assert sum("ALLOWED WEBSOCKET_TEXT" in line for line in r.log.lines()) == 1


async def test_compression_is_not_agreed_on_where_messages_are_judged() -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:

        def talk(client: Client) -> Response:
            return opened(client).request(handshake(extra=EXTENSIONS + "Sec-WebSocket-Protocol: chat, superchat\n"))

        answer = await r.run(talk)
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers
        assert answer.headers["upgrade"] == "websocket"
        assert answer.headers["connection"] == "Upgrade"
        assert "xtensions" not in server.head
        assert "Sec-WebSocket-Protocol: chat, superchat" in server.head
        assert server.head.count("Upgrade: websocket") == 1


BAD_HANDSHAKES: dict[str, str] = {
    "two protocols": handshake(Upgrade="websocket, h2c"),
    "h2c": handshake(Upgrade="h2c", extra="HTTP2-Settings: AAMAAABkAAQAAP__\n"),
    "twice": handshake(extra="Upgrade: h2c\n"),
    "twice the same": handshake(extra="Upgrade: websocket\n"),
    "no key": handshake(Sec_WebSocket_Key=""),
    "short key": handshake(Sec_WebSocket_Key="AAAA"),
    "key is not Base64": handshake(Sec_WebSocket_Key="!" * 24),
    "two keys": handshake(extra=f"Sec-WebSocket-Key: {KEY}\n"),
    "no version": handshake(Sec_WebSocket_Version=""),
    "old version": handshake(Sec_WebSocket_Version="8"),
    "two versions": handshake(Sec_WebSocket_Version="13, 8"),
    "connection does not say so": handshake(Connection="keep-alive"),
    "an accept": handshake(extra="Sec-WebSocket-Accept: x\n"),
    "post": handshake().replace("GET", "POST"),
    "1.0": handshake().replace("HTTP/1.1", "HTTP/1.0"),
    "a body": handshake(extra="Content-Length: 3\n") + "abc",
    "expect": handshake(extra="Expect: 100-continue\n"),
    "imitated key": handshake(extra="Sec_WebSocket_Key: x\n"),
    "override": handshake(extra="X-HTTP-Method-Override: DELETE\n"),
    "reroute": handshake(extra="X-Original-URL: /other\n"),
}


@pytest.mark.parametrize("name", BAD_HANDSHAKES)
async def test_anything_but_a_plain_websocket_handshake_is_refused(name: str) -> None:
    server = await started(Server())
    everything = rule("all", rest("api.test", ("*", "/**")))
    async with serving(server, everything) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            return opened(client).request(BAD_HANDSHAKES[name]), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, answer.json["error"], closed) == (403, "unsupported_l7_protocol", True)
        assert answer.headers["x-openshell-denial"] == r.denials[0].id
        assert server.requests == []


async def test_an_upgrade_is_judged_as_the_request_it_is() -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:
        answer = await r.run(lambda client: opened(client).request(handshake("/other")))
        assert (answer.status, answer.json["failed_condition"]) == (403, "path_not_allowed")
        assert server.requests == []


class Lying(Server):
    """Says 101 to something else than was asked."""

    accept = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"
    greeting = b"\x81\x02hi"


GOOD = Server.accept
ANSWERS = {
    "wrong accept": Lying.accept,
    "no accept": "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "accept twice": GOOD + "Sec-WebSocket-Accept: {accept}\r\n",
    "no upgrade": GOOD.replace("Upgrade: websocket\r\n", ""),
    "another protocol": GOOD.replace("websocket", "h2c", 1),
    "two protocols": GOOD.replace("websocket", "websocket, h2c", 1),
    "no connection": GOOD.replace("Connection: Upgrade\r\n", ""),
    "an extension nobody offered": GOOD + "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    "a subprotocol nobody offered": GOOD + "Sec-WebSocket-Protocol: chat\r\n",
    "a body": GOOD + "Content-Length: 5\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_101_that_proves_nothing_is_502(name: str) -> None:
    server = Server()
    server.accept, server.greeting = ANSWERS[name], b"\x81\x02hi"
    await started(server)
    async with serving(server, TALK) as r:
        answer = await r.run(lambda client: opened(client).request(handshake()))
        assert (answer.status, answer.json["step"]) == (502, "response")
        assert not r.denials
        await server.gone.wait()
        assert server.heard == []


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "426 Upgrade Required"])
async def test_without_a_101_the_connection_stays_http(status: str) -> None:
    """B-6: what follows the request is judged as requests, whatever the client believes."""
    server = Server()
    server.status, server.accept = status, "Content-Length: 0\r\n"
    await started(server)
    async with serving(server, TALK) as r:

        def talk(client: Client) -> list[int]:
            opened(client).send(handshake() + "DELETE /ws/a HTTP/1.1\nHost: api.test\n\n")
            return [client.response().status, client.response().status]

        assert await r.run(talk) == [int(status[:3]), 403]
        assert [d.method for d in r.denials] == ["DELETE"]


async def test_frames_sent_before_the_101_wait_for_it_and_are_judged() -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:

        def talk(client: Client) -> tuple[int, object]:
            protocol = FrameProtocol(client=True, extensions=[])
            early = bytes(protocol.send_data("early"))
            opened(client).send(handshake().replace("\n", "\r\n").encode() + early)
            status = client.response().status
            return status, WebClient(client).next()

        assert await r.run(talk) == (101, (Opcode.TEXT, b"early"))
        assert sum("ALLOWED WEBSOCKET_TEXT" in line for line in r.log.lines()) == 1


async def test_frames_behind_the_101_reach_the_client() -> None:
    server = Server()
    server.greeting = b"\x81\x05hello\x82"
    await started(server)
    async with serving(server, LISTEN) as r:
        assert await r.run(lambda client: upgraded(client).next()) == (Opcode.TEXT, b"hello")


def masked(first: int, payload: bytes, *, mask: bool = True, size: bytes | None = None) -> bytes:
    """A client's frame, under a mask of zeros. `size`: its length as it is written, mask bit included."""
    length = size if size is not None else bytes([len(payload) | (0x80 if mask else 0)])
    return bytes([first]) + length + (b"\0\0\0\0" if mask else b"") + payload


BROKEN: dict[str, tuple[bytes, int]] = {
    "unmasked": (masked(0x81, b"hi", mask=False), 1002),
    "reserved bit": (masked(0xC1, b"hi"), 1002),
    "reserved opcode": (masked(0x83, b"hi"), 1002),
    "continuation of nothing": (masked(0x80, b"hi"), 1002),
    "message in a message": (masked(0x01, b"a") + masked(0x81, b"b"), 1002),
    "fragmented ping": (masked(0x09, b""), 1002),
    "long ping": (masked(0x89, b"x" * 126, size=b"\xfe\0\x7e"), 1002),
    "not UTF-8": (masked(0x81, b"\xff"), 1007),
    "UTF-8 cut": (masked(0x81, "é".encode()[:1]), 1007),
    "long length for a short frame": (masked(0x81, b"hi", size=b"\xfe\0\x02"), 1002),
    "close with half a code": (masked(0x88, b"\x03"), 1002),
    "close with a code nobody may send": (masked(0x88, struct.pack("!H", 1005)), 1002),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_frames_that_break_the_protocol_end_it(name: str) -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:

        def talk(client: Client) -> int:
            web = upgraded(client)
            web.send(BROKEN[name][0])
            return web.closed()[0]

        assert await r.run(talk) == BROKEN[name][1]
        await server.gone.wait()
        assert server.heard == []
        assert any("WebSocket:" in line and "DENIED" in line for line in r.log.lines())


SMALL = Limits(
    message_text=100,
    message_frame=200,
    message_fragments=4,
    message_idle_seconds=0.05,
    messages_active=1,
    messages_waiting=1,
    linger_seconds=0.2,
)


def too_long(web: WebClient) -> None:
    web.text("x" * 60, fin=False)
    web.text("é" * 21)


def too_many(web: WebClient) -> None:
    for _ in range(6):
        web.text("", fin=False)


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (too_long, 1009),
        (lambda web: web.binary(b"x" * 201), 1002),
        (too_many, 1002),
        (lambda web: web.text("never ends", fin=False), 1002),
    ],
)
async def test_limits(work: Callable[[WebClient], None], code: int) -> None:
    server = await started(Server())
    async with serving(server, TALK, limits=SMALL) as r:

        def talk(client: Client) -> int:
            web = upgraded(client)
            work(web)
            return web.closed()[0]

        assert await r.run(talk) == code
        await server.gone.wait()
        assert server.heard == []


async def test_half_arrived_messages_share_few_places() -> None:
    server = await started(Server())
    limits = dataclasses.replace(SMALL, message_idle_seconds=30)
    async with serving(server, TALK, limits=limits) as r:

        def talk(first: Client) -> list[object]:
            with Client(r.address) as second, Client(r.address) as third:
                webs = [upgraded(client) for client in (first, second, third)]
                for web in webs:
                    # A ping in the same write: its answer says that the fragment has been seen.
                    web.send(web.protocol.send_data("a", fin=False) + web.protocol.ping())
                    assert web.next()[0] in (Opcode.PONG, Opcode.CLOSE)
                webs[1].text("b")
                webs[0].text("b")
                return [webs[0].next(), webs[1].next()]

        assert await r.run(talk) == [(Opcode.TEXT, b"ab"), (Opcode.TEXT, b"ab")]
        assert any("too many half-arrived messages" in line for line in r.log.lines())
        assert repr(r.plane.assemblies) == "<0 messages half-arrived, 0 waiting>"


async def test_large_messages_in_both_kinds_arrive_whole() -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:
        data = os.urandom(3 << 20)

        def talk(client: Client) -> list[bool]:
            web = upgraded(client)
            text = base64.b64encode(data[: 2 << 20]).decode()
            web.text(text)
            first = web.next()
            web.binary(data)
            return [first == (Opcode.TEXT, text.encode()), web.next() == (Opcode.BINARY, data)]

        assert await r.run(talk) == [True, True]


# ------------------------------------------------------------------------------------------------------------- reload


@pytest.mark.parametrize("gone", [rule("ws", rest("api.test", ("GET", "/else"))), rule("other", raw("x.test"))])
async def test_a_revoked_upgrade_ends_between_frames_with_an_id(gone: Rule) -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:
        loop = asyncio.get_running_loop()

        def talk(client: Client) -> tuple[int, str]:
            web = upgraded(client)
            web.text("before")
            web.next()
            loop.call_soon_threadsafe(r.set_policy, gone)
            return web.closed()

        code, reason = await r.run(talk)
        await server.gone.wait()
        (line,) = [line for line in r.log.lines() if "NET:CLOSE [MED] DENIED" in line]
        assert code == 1008
        assert reason.startswith("grant revoked d-")
        assert f"[denial:{reason.removeprefix('grant revoked ')}]" in line


async def test_a_frame_under_way_is_not_torn_by_a_revocation() -> None:
    class Half(Server):
        async def frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\x81\x06abc")
            await half.wait()
            writer.write(b"def\x81\x05never")
            await reader.read()

    half = asyncio.Event()
    server = await started(Half())
    async with serving(server, LISTEN) as r:
        loop = asyncio.get_running_loop()

        def change() -> None:
            r.set_policy(rule("other", raw("x.test")))
            loop.call_soon(half.set)

        def talk(client: Client) -> list[object]:
            web = upgraded(client)
            assert client.read(5) == b"\x81\x06abc"
            loop.call_soon_threadsafe(change)
            assert client.read(3) == b"def"
            return [web.closed()[0], client.closed()]

        assert await r.run(talk) == [1008, True]


async def test_what_is_still_allowed_lives_on_under_the_new_policy() -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:
        loop = asyncio.get_running_loop()

        def change(*rules: Rule) -> None:
            asyncio.run_coroutine_threadsafe(swap(*rules), loop).result(5)

        async def swap(*rules: Rule) -> None:
            r.set_policy(*rules)

        def talk(client: Client) -> list[object]:
            web = upgraded(client)
            change(TALK, rule("other", raw("x.test")))
            web.text("a")
            answers: list[object] = [web.next()]
            change(LISTEN)
            web.text("b")
            return [*answers, web.closed()[0]]

        assert await r.run(talk) == [(Opcode.TEXT, b"a"), 1008]
        assert [h.data for h in server.heard] == [b"a"]


async def test_a_policy_that_changes_during_the_handshake_is_the_one_that_counts() -> None:
    class Waiting(Server):
        async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            r.set_policy(LISTEN)
            await super().talk(reader, writer)

    server = await started(Waiting())
    server.handler = server.talk
    async with serving(server, TALK) as r:

        def talk(client: Client) -> int:
            web = upgraded(client)
            web.text("a")
            return web.closed()[0]

        assert await r.run(talk) == 1008
        assert server.heard == []


async def test_audit_forwards_and_is_never_shown_as_allowed() -> None:
    server = await started(Server())
    watched = rule("ws", rest("api.test", ("GET", "/else"), enforcement="audit"))
    async with serving(server, watched) as r:

        def talk(client: Client) -> object:
            web = upgraded(client)
            web.text("seen")
            return web.next()

        assert await r.run(talk) == (Opcode.TEXT, b"seen")
        lines = [line for line in r.log.lines() if line.startswith("HTTP:")]
        assert len(lines) == 2
        assert all("[MED] OBSERVED" in line and "ALLOWED" not in line for line in lines)


# ------------------------------------------------------------------------------------------------- what the server does


BAD_SERVERS = {
    "masked": b"\x81\x82\0\0\0\0hi",
    "reserved bits": b"\xc1\x02hi",
    "opcode": b"\x83\x02hi",
    "fragmented ping": b"\x09\x00",
    "long ping": b"\x89\x7e\x00\x7e",
    "continuation of nothing": b"\x80\x02hi",
    "message in a message": b"\x01\x02hi\x81\x02ho",
    "length in the wrong size": b"\x81\x7e\x00\x02hi",
}


@pytest.mark.parametrize("name", BAD_SERVERS)
async def test_a_server_that_breaks_the_protocol_is_a_failure_of_the_server(name: str) -> None:
    server = Server()
    server.greeting = b"\x81\x02ok" + BAD_SERVERS[name]
    await started(server)
    async with serving(server, TALK) as r:

        def talk(client: Client) -> tuple[object, int]:
            web = upgraded(client)
            first = web.next()
            rest_ = web.next()
            while rest_[0] is not Opcode.CLOSE:
                rest_ = web.next()
            assert isinstance(rest_[1], tuple)
            return first, int(rest_[1][0])

        answer = await r.run(talk)
        assert answer == ((Opcode.TEXT, b"ok"), 1002)
        assert not r.denials
        assert any("NET:FAIL [LOW]" in line for line in r.log.lines())


# ----------------------------------------------------------------------------------------------------- plain and raw


async def test_plain_websocket_at_the_proxys_own_door() -> None:
    server = await started(Server(), tls=False)
    async with serving(server, rule("ws", rest("api.test", ("*", "/**"), port=80))) as r:

        def talk(client: Client) -> object:
            assert client.request(handshake("http://api.test/ws/a", extra=EXTENSIONS)).status == 101
            web = WebClient(client)
            web.text("hello")
            return web.next()

        assert await r.run(talk) == (Opcode.TEXT, b"hello")
        assert "xtensions" not in server.head
        assert server.head.startswith("GET /ws/a HTTP/1.1\r\n")


async def test_where_nothing_is_inspected_extensions_are_the_peers_business() -> None:
    server = Server()
    server.accept = GOOD + "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    server.greeting = b"\xc1\x02\x4a\x04"
    await started(server, tls=False)
    async with serving(server, rule("ws", raw("api.test", 80))) as r:

        def talk(client: Client) -> tuple[Response, bytes]:
            answer = client.request(handshake("http://api.test/ws/a", extra=EXTENSIONS))
            return answer, client.read(4)

        answer, frame = await r.run(talk)
        assert (answer.status, frame) == (101, server.greeting)
        assert answer.headers["sec-websocket-extensions"] == "permessage-deflate"
        assert "permessage-deflate" in server.head


async def test_the_ends_of_one_side_end_the_other() -> None:
    server = await started(Server())
    async with serving(server, TALK) as r:
        await r.run(lambda client: upgraded(client) and None)
        await server.gone.wait()

        def dropped(client: Client) -> bool:
            web = upgraded(client)
            web.text("x")
            web.next()
            loop.call_soon_threadsafe(server.drop_all)
            return client.closed()

        loop = asyncio.get_running_loop()
        assert await r.run(dropped)
        await settled(r)


async def settled(r: Rig) -> None:
    """The plane has let go of everything."""
    async with asyncio.timeout(5):
        while "0 connections" not in repr(r.plane) or "0 websockets" not in repr(r.plane):
            await asyncio.sleep(0)


# ---------------------------------------------------------------------------------------- endpoints of their protocol


def socket_endpoint(*matches: L7Match) -> Rule:
    allows = (L7Match("GET", "/ws/**"), *matches)
    return rule("ws", dataclasses.replace(rest("api.test"), protocol="websocket", rules=allows))


@pytest.mark.parametrize("protocol", ["rest", "websocket"])
async def test_both_protocols_judge_messages_alike(protocol: str) -> None:
    server = await started(Server())
    talk = rule("ws", dataclasses.replace(TALK.endpoints[0], protocol=protocol))
    async with serving(server, talk) as r:

        def speak(client: Client) -> object:
            web = upgraded(client)
            web.text("hello")
            return web.next()

        assert await r.run(speak) is not None
        assert [heard.data for heard in server.heard] == [b"hello"]


async def test_text_that_graphql_rules_judge() -> None:
    server = await started(Server())
    events = L7Match(operation_type="subscription", fields=("events",))
    async with serving(server, socket_endpoint(events)) as r:

        def speak(client: Client) -> tuple[int, str]:
            web = upgraded(client)
            web.text('{"id":"1","type":"subscribe","payload":{"query":"subscription { events }"}}')
            web.next()
            web.text('{"id":"2","type":"subscribe","payload":{"query":"mutation { a: events }"}}')
            return web.closed()

        code, _ = await r.run(speak)
        assert code == 1008
        assert [b"mutation" in heard.data for heard in server.heard] == [False]
        (denial,) = r.denials
        assert denial.condition == "operation_not_allowed"
        assert denial.reason == "GraphQL mutation {events} not permitted by policy"


async def test_a_plain_request_is_refused_where_only_upgrades_pass() -> None:
    server = await started(Server())
    async with serving(server, socket_endpoint()) as r:
        response = await r.run(lambda client: opened(client).request("GET /ws/a HTTP/1.1\nHost: api.test\n\n"))
        assert response.status == 403
        (denial,) = r.denials
        assert denial.reason == "websocket endpoint requires a valid WebSocket upgrade request"


async def test_a_socket_on_which_nothing_is_said_for_too_long_ends_with_a_close_frame() -> None:
    server = await started(Server(), tls=False)
    limits = Limits(watch_seconds=1000.0, tunnel_seconds=3000.0, linger_seconds=0.2)
    async with serving(server, rule("ws", *(rest("api.test", *TALK_RIGHTS, port=80),)), limits=limits) as r:
        loop = asyncio.get_running_loop()
        spoke, looked = threading.Event(), threading.Event()

        def tick() -> None:
            r.plane._tick()
            looked.set()

        def talk(client: Client) -> tuple[list[object], tuple[int, str]]:
            web = upgraded(client, tls=False)
            heard: list[object] = []
            for _ in range(6):
                web.send(web.protocol.ping(b"p"))
                heard.append(web.next())
                looked.clear()
                loop.call_soon_threadsafe(tick)
                assert looked.wait(60)
            for _ in range(4):
                loop.call_soon_threadsafe(r.plane._tick)
            return heard, web.closed()

        heard, closed = await r.run(talk)
        assert heard == [(Opcode.PONG, b"p")] * 6, "whoever speaks lives on"
        assert closed == (1001, "nothing was said for 3000 s")
        await asyncio.wait_for(server.gone.wait(), 60)
        assert any("NET:CLOSE [LOW]" in line and "WebSocket ended: nothing was said" in line for line in r.log.lines())
        assert not r.denials
        spoke.set()


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("framed", [False, True])
def test_a_message_in_tiny_pieces_weighs_no_more_than_in_one(step: int, framed: bool) -> None:
    """Pieces of a read, or fragments: what is kept of a message is its bytes, whatever it was cut into."""
    text = "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 20_000
    data = text.encode()
    client, server = Wire(), Wire()
    limits = dataclasses.replace(Limits(), message_fragments=100_000)
    socket = lone_socket(client, server, limits)
    socket.start(b"", b"")
    if framed:
        cuts = [data[at : at + 3 * step] for at in range(0, len(data), 3 * step)]
        pieces = [
            masked(0x01 if not n else 0x00, piece, size=b"\xfe" + len(piece).to_bytes(2, "big") if step > 40 else None)
            for n, piece in enumerate(cuts)
        ]
        pieces.append(masked(0x80, b""))
    else:
        whole = masked(0x81, data, size=b"\xfe" + len(data).to_bytes(2, "big"))
        pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    for piece in pieces[:10]:
        client.data(piece)
    tracemalloc.start()
    try:
        for piece in pieces[10:-1]:
            client.data(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4 * len(data)
    assert server.out == b""
    client.data(pieces[-1])
    arrived = FrameProtocol(client=False, extensions=[])
    arrived.receive_bytes(server.out)
    assert "".join(str(frame.payload) for frame in arrived.received_frames()) == text
