"""Hostile bytes made from good ones, by a random source: hypothesis' own in short tests, a seed in long ones.

Each check takes such a source, lets one parser eat, holds it to its laws, and counts what it has seen. The laws are
those of `targets`, and for responses also what h11 makes of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import h11

from pyopenshell.supervisor.proxy.channel import Route
from pyopenshell.supervisor.proxy.http1 import Framing, MessageError, parse_response
from pyopenshell.supervisor.proxy.relay import Relay
from tests.supervisor.proxy.targets import TARGETS
from tests.supervisor.proxy.test_fuzz import House, Wire

Check = Callable[[random.Random], Counter[str]]


def mutated(source: random.Random, samples: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A sample, changed in up to four places: bytes, words of the language, repetition, cuts, lengths."""
    data = bytearray(source.choice(samples))
    for _ in range(source.randint(0, 4)):
        at = source.randint(0, len(data))
        end = min(len(data), at + source.randint(0, 8))
        match source.randint(0, 6):
            case 0:
                data[at:end] = b""
            case 1:
                data[at:at] = source.choice(words)
            case 2:
                data[at:end] = source.choice(words)
            case 3:
                data[at:at] = data[at : at + source.randint(0, 40)] * source.randint(1, 3)
            case 4 if at < len(data):
                data[at] = source.randint(0, 255)
            case 5 if at < len(data):
                data[at] ^= 1 << source.randint(0, 7)
            case _:
                data = data[: max(at, len(data) // 2)]
    return bytes(data)


def pieces(source: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(source.randint(0, len(data)) for _ in range(source.randint(0, 6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


# ------------------------------------------------------------------------------------------------------ response heads

RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\nAlt-Svc: h3\r\n\r\n",
]
HTTP_WORDS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b": ",
    b":",
    b" ",
    b"\t",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"gzip, chunked",
    b"Content-Length: 5\r\n",
    b"Content-Length: 6\r\n",
    b"HTTP/1.1 ",
    b"HTTP/2 ",
    b"101 ",
    b"100 Continue\r\n\r\n",
    b"999",
    b"0x5",
    b"-1",
    b"5\r\n",
    b"0\r\n\r\n",
    b"Connection: close\r\n",
    b"Connection: content-length\r\n",
    b"content_length: 5\r\n",
    b"\xff",
]


class Origin(House):
    """Forwards every request to its one upstream."""

    def request(self, relay: Relay, head: Any) -> None:
        admission: Any = None
        relay.forward(Route(admission, False, "key"), b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n")

    def failed(self, relay: Relay, failure: Any) -> bytes:
        return b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


def answered(data: Sequence[bytes]) -> tuple[bytes, bool, bool]:
    """What the client has, whether the relay ended, and whether the upstream may serve another."""
    origin, client = Origin(), Wire()
    relay = Relay(origin, client, origin, 8192)  # type: ignore[arg-type]
    relay.start()
    client.data(b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n")
    for piece in data:
        if origin.upstream.over:
            break
        origin.upstream.data(piece)
    return client.out, relay.ended, bool(origin.upstream.over)


def response(source: random.Random) -> Counter[str]:
    """A response means the same in any pieces, and what h11 makes of an accepted head is what we make of it."""
    data = mutated(source, RESPONSES, HTTP_WORDS)
    whole, parts = answered([data]), answered(pieces(source, data))
    # Bytes behind the end are seen only when they come along: whether the connection is reused may differ, no more.
    if whole[0][:12] != parts[0][:12]:
        # What is wrong with a body may come to light when its head is on its way: then the end must be visible.
        assert b" 502 " in whole[0], data
        assert parts[1], data
    seen = Counter({"responses": 1, "passed on": int(b" 502 " not in whole[0] and bool(whole[0]))})
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return seen
    try:
        head = parse_response(data, end, "GET")
    except MessageError:
        return seen
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x.test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data[: end + 4])
    try:
        event = client.next_event()
        if not isinstance(event, h11.Response | h11.InformationalResponse):
            return seen
        assert event.status_code == head.status, data
        if isinstance(event, h11.Response):
            nothing = isinstance(client.next_event(), h11.EndOfMessage)
            assert nothing == (head.framing is Framing.NONE), data
    except h11.RemoteProtocolError:
        return seen
    seen["judged by h11"] += 1
    return seen


JSON_WORDS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"null",
    b"true",
    b"1e999",
    b"-0",
    b"NaN",
    b"1" * 400,
    b"\\u0000",
    b"\\ud800",
    b'"host": "*"',
    b'"host": "*.example.com"',
    b'"ports": [1, 2]',
    b'"allowed_ips": ["10.0.0.0/8"]',
    b'"path": "/**"',
    b"\xff",
    b"[" * 300,
    b'"addRule":',
    b'"access": "full"',
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"/../",
    b'"tls": "skip"',
    b"\xef\xbb\xbf",
]


DNS_WORDS = [
    b"\0",
    b"\xc0\x0c",
    b"\xc0\x00",
    b"\x3f",
    b"\x04evil",
    b"\x03api",
    b"\x04test\0",
    b"\0\x01\0\x01",
    b"\0\xff",
    b"\0\0\x29",
    b"\x01*",
    b"\0\xfc\0\x01",
    b"\xff\xff",
    b"\x80",
    b"\x04wild",
    b"\x05a.b\0c",
]
SOCKS_WORDS = [
    b"\0",
    b"\5",
    b"\1",
    b"\3",
    b"\4",
    b"\xff",
    b"api.test",
    b"\x0eapi.test\0.evil",
    b".",
    b"%00",
    b"127.1",
    b"\x04\x01",
]


HELLO_WORDS = [
    b"\0",
    b"\xff",
    b"\0\0",
    b"\x16\x03\x01",
    b"\0\0\0\x0d\0\x0b\0\0\x08evil.com",
    b"\x08api.test",
    b"\0\x05",
    b"\x01",
]
FRAME_WORDS = [
    b"\0",
    b"\x80",
    b"\x81",
    b"\x82\x80\0\0\0\0",
    b"\x88",
    b"\x89\x00",
    b"\x7e\0\x7e",
    b"\x7f" + bytes(8),
    b"\xfe",
    b"\xff",
    b"\xc3\xa9",
]
CHUNK_WORDS = [b"\r\n", b"\n", b"0", b"0\r\n\r\n", b"5\r\n", b";", b"fffffffffffffff", b"0x", b" ", b"T: 1\r\n", b"\0"]
WORDS: dict[str, list[bytes]] = {
    "chunked": CHUNK_WORDS,
    "socks": SOCKS_WORDS,
    "hello": HELLO_WORDS,
    "dns": DNS_WORDS,
    "dns-stream": [b"\0", b"\0\x0c", b"\xff\xff", bytes(12)],
    "server-frames": FRAME_WORDS,
    "client-frames": FRAME_WORDS,
    "authority": [b":", b"@", b"[", b"]", b".", b"%00", b"/", b"http://", b"https://", b"0x7f", b"\xff", b"*", b" "],
    "process": [b"\n", b"PPid:\t1\n", b")", b" (", b"\t", b"\xff"],
} | dict.fromkeys(("graphql", "json-rpc", "mcp", "ws-message", "proposal", "letter"), JSON_WORDS)


def check(name: str) -> Check:
    target, seeds = TARGETS[name]

    def run(source: random.Random) -> Counter[str]:
        data = mutated(source, seeds, WORDS.get(name, HTTP_WORDS))
        cuts = [source.randint(1, 9) for _ in range(source.randint(0, 4))]
        return Counter({name: 1, "taken": int(target(data, cuts))})

    return run


CHECKS: dict[str, Check] = {"response": response, **{name: check(name) for name in TARGETS}}
