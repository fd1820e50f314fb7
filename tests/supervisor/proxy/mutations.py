"""Hostile bytes made from good ones, by a random source: hypothesis' own in short tests, a seed in long ones.

Each check takes such a source, lets one parser eat, holds it to its laws, and counts what it has seen.
"""

from __future__ import annotations

import json
import random
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import dns.exception
import dns.message
import h11

from pyopenshell.policy.engine import compile as compile_policy
from pyopenshell.policy.hosts import canonical_host
from pyopenshell.policy.model import Policy
from pyopenshell.policy.proposal import MAX_BODY, ProposalError, parse
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.proxy import socks
from pyopenshell.supervisor.proxy.channel import Route
from pyopenshell.supervisor.proxy.http1 import Framing, MessageError, parse_response
from pyopenshell.supervisor.proxy.names import Names
from pyopenshell.supervisor.proxy.policy_dns import FrameError, Frames, PolicyDns, framed
from pyopenshell.supervisor.proxy.relay import Relay
from pyopenshell.supervisor.proxy.sniff import HelloError, server_name
from tests.supervisor.proxy.rig import raw, rule
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


# ----------------------------------------------------------------------------------------------------------- proposals

PROPOSALS = [
    json.dumps(
        {
            "intent_summary": "read the API",
            "operations": [
                {
                    "addRule": {
                        "ruleName": "api",
                        "rule": {
                            "name": "api",
                            "endpoints": [
                                {
                                    "host": "api.example.com",
                                    "port": 443,
                                    "protocol": "rest",
                                    "enforcement": "enforce",
                                    "rules": [{"allow": {"method": "GET", "path": "/v1/**"}}],
                                }
                            ],
                            "binaries": [{"path": "/usr/bin/curl"}],
                        },
                    }
                }
            ],
        }
    ).encode(),
    b'{"operations": [{"addRule": {"ruleName": "x", "rule": {"endpoints": [{"host": "a.example.com", "port": 80}],'
    b' "binaries": [{"path": "/usr/bin/git"}]}}}]}',
]
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


def proposal(source: random.Random) -> Counter[str]:
    """Rules that carry the mark of a proposal, or one printable sentence; nothing else, and nothing long."""
    data = mutated(source, PROPOSALS, JSON_WORDS)
    seen = Counter({"bodies": 1, "accepted": 0})
    try:
        found = parse(data)
    except ProposalError as error:
        refusal: str | None = error.detail
    else:
        refusal = None
    if refusal is not None:
        assert refusal.strip(), data
        assert refusal.isprintable(), (data, refusal)
        assert len(refusal) < 2 * MAX_BODY
        return seen
    assert found.operations
    for operation in found.operations:
        assert operation.rule.endpoints, data
        assert operation.rule.binaries, data
        for endpoint in operation.rule.endpoints:
            assert endpoint.advisor_proposed, data
            assert not endpoint.allowed_ips, data
    seen["accepted"] += 1
    return seen


# ----------------------------------------------------------------------------------------------------------------- DNS

QUERIES = [
    dns.message.make_query(name, kind, use_edns=edns).to_wire()
    for name, kind, edns in (
        ("api.test.", "A", -1),
        ("API.test.", "AAAA", 0),
        ("x.wild.test.", "A", 0),
        ("evil.test.", "A", -1),
        ("api.test.", "HTTPS", 0),
        ("1.0.18.198.in-addr.arpa.", "PTR", 0),
    )
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
ALLOWED = ("api.test", "policy.local", "localhost")


def question(source: random.Random) -> Counter[str]:
    """An answer of bounded size to the same question, with an address only for names that the policy has."""
    policy = Policy(rules=(rule("r", raw("api.test"), raw("*.wild.test")),))
    refused: list[str] = []
    server = PolicyDns(
        Current(compile_policy(policy)),
        Names(),
        ipv6=True,
        refused=lambda name, _: refused.append(name) or "d-1",  # type: ignore[func-returns-value]
        full=lambda _: None,
    )
    data = mutated(source, QUERIES, DNS_WORDS)
    answer = server.answer(data)
    seen = Counter({"questions": 1, "addresses": 0})
    if answer is None:
        assert len(data) < 12 or len(data) > 4096 or data[2] & 0x80, data
        return seen
    assert answer[:2] == data[:2], data
    assert answer[2] & 0x80, data
    assert len(answer) < len(data) + 400, data
    try:
        message = dns.message.from_wire(answer)
    except dns.exception.DNSException as error:
        raise AssertionError(f"an answer that is no message: {data!r}") from error
    for records in message.answer:
        host = canonical_host(records.name.to_text(omit_final_dot=True))
        known = host in ALLOWED or host.endswith((".wild.test", ".localhost", ".in-addr.arpa"))
        assert known, (data, host)
        seen["addresses"] += 1
    stream = framed(data) * 2 if 12 <= len(data) <= 4096 else data
    assert unframed([stream]) == unframed(pieces(source, stream)), data
    return seen


def unframed(data: Sequence[bytes]) -> tuple[list[bytes], bool]:
    frames, messages = Frames(), list[bytes]()
    for piece in data:
        try:
            messages += frames.feed(piece)
        except FrameError:
            return [], True
    return messages, False


# --------------------------------------------------------------------------------------------------------------- SOCKS

GREETINGS = [
    b"\5\1\0" + b"\5\1\0\3\x08api.test\x01\xbb",
    b"\5\2\0\2" + b"\5\1\0\1\x7f\0\0\1\0\x50rest",
    b"\5\1\2" + b"\1\1u\1p" + b"\5\1\0\4" + bytes(15) + b"\1\x01\xbb",
    b"\5\1\0" + b"\5\3\0\3\x08api.test\x01\xbb",
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


def greeting(source: random.Random) -> Counter[str]:
    """The same request, refusal or patience in any pieces; a request's host is canonical."""
    data = mutated(source, GREETINGS, SOCKS_WORDS)
    whole = greeted([data])
    assert whole == greeted(pieces(source, data)), data
    host = whole[0]
    if host:
        assert canonical_host(host) == host, data
    return Counter({"greetings": 1, "requests": int(bool(host))})


def greeted(data: Sequence[bytes]) -> tuple[str, int, bytes, bytes, str]:
    """(host, port, rest, what the client was told, refusal)."""
    handshake, told = socks.Handshake(), b""
    for at, piece in enumerate(data):
        try:
            request = handshake.feed(piece)
        except socks.SocksError as error:
            return "", 0, b"", told + handshake.out + error.wire, str(error)
        told, handshake.out = told + handshake.out, b""
        assert len(told) < 8
        if request is not None:
            return request.host, request.port, request.rest + b"".join(data[at + 1 :]), told, ""
    return "", 0, b"", told, ""


# --------------------------------------------------------------------------------------------------------- ClientHello


def _hello(name: str | None, alpn: bool) -> bytes:
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    if alpn:
        context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError("a handshake without a server")


HELLOS = [_hello("api.test", True), _hello("api.test", False), _hello(None, False)]
HELLOS += [
    b"\x16\x03\x01"
    + len(h[5:25]).to_bytes(2, "big")
    + h[5:25]
    + b"\x16\x03\x01"
    + len(h[25:]).to_bytes(2, "big")
    + h[25:]
    for h in HELLOS[:2]
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


def hello(source: random.Random) -> Counter[str]:
    """A name, a refusal or more patience; and whoever decided on a part had decided the same on the whole."""
    data = mutated(source, HELLOS, HELLO_WORDS)
    final = named(data)
    arrived = b""
    for piece in pieces(source, data):
        arrived += piece
        early = named(arrived)
        if early is not None:
            assert early == final, data
            break
    return Counter({"hellos": 1, "named": int(bool(final) and final != "!")})


def named(data: bytes) -> str | None:
    try:
        name = server_name(data)
    except HelloError:
        return "!"
    assert name is None or len(name) < 256
    return name


CHECKS: dict[str, Check] = {
    "response": response,
    "proposal": proposal,
    "dns": question,
    "socks": greeting,
    "hello": hello,
}
