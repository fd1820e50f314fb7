"""One function for every parser that eats bytes of a sandbox or of an upstream: any bytes at all, in any pieces.

A target takes the bytes and the places at which to cut them, holds the parser to its laws, and says whether it took
them. `make test-deep` feeds it mutations of the seeds (`mutations`), `make fuzz` what coverage leads to (`tests.fuzz`).
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import dns.exception
import dns.message

from pyopenshell.isolation import channel
from pyopenshell.isolation.processes import read_stat, read_status
from pyopenshell.policy import content
from pyopenshell.policy.engine import compile as compile_policy
from pyopenshell.policy.graphql import MAX_TOKENS
from pyopenshell.policy.hosts import canonical_host
from pyopenshell.policy.model import Policy
from pyopenshell.policy.operations import ContentError
from pyopenshell.policy.proposal import MAX_BODY, ProposalError
from pyopenshell.policy.proposal import parse as parse_proposal
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.proxy.authority import AuthorityError, SchemeError, absolute, host_port
from pyopenshell.supervisor.proxy.http1 import Chunks, MessageError, parse_request, parse_response, rebuild
from pyopenshell.supervisor.proxy.names import Names
from pyopenshell.supervisor.proxy.policy_dns import FrameError, Frames, PolicyDns
from pyopenshell.supervisor.proxy.sniff import HelloError, Kind, classify, server_name
from pyopenshell.supervisor.proxy.socks import Handshake, SocksError
from tests.supervisor.proxy.rig import raw, rule
from tests.supervisor.proxy.test_fuzz import chat, converse, follow, frame_bytes

Target = Callable[[bytes, Sequence[int]], bool]


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data` in pieces of the sizes in `cuts`, round and round."""
    found, at, turn = [], 0, 0
    while at < len(data):
        size = max(1, cuts[turn % len(cuts)]) if cuts else len(data)
        found.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return found


def shown(refusal: str) -> bool:
    """What is said of bytes that are refused is one short line; False, as they were not taken."""
    assert refusal.strip()
    assert refusal.isprintable(), refusal
    assert len(refusal) < 2 * MAX_BODY
    return False


# ---------------------------------------------------------------------------------------------------------------- HTTP


def request_head(data: bytes, _: Sequence[int]) -> bool:
    """What is taken is taken again, and the same, when it is written anew."""
    end = data.find(b"\r\n\r\n")
    try:
        head = parse_request(data, max(end, 0))
    except MessageError as error:
        return shown(str(error))
    line = f"{head.method} {head.target} HTTP/1.{head.minor}\r\n".encode()
    again = rebuild(line, head)
    if end >= 0 and not head.upgrade:
        second = parse_request(again, again.find(b"\r\n\r\n"))
        assert (second.method, second.target, second.host) == (head.method, head.target, head.host), data
        assert (second.framing, second.length) == (head.framing, head.length), data
    return True


def requests(data: bytes, cuts: Sequence[int]) -> bool:
    """A client's whole connection means the same in any pieces."""
    whole = converse(data, [])
    assert converse(data, list(cuts)) == whole, (data, cuts)
    statuses = whole[0]
    return bool(statuses) and b"400" not in statuses  # type: ignore[operator]


def response_head(data: bytes, _: Sequence[int]) -> bool:
    end = data.find(b"\r\n\r\n")
    try:
        head = parse_response(data, max(end, 0), "GET")
    except MessageError as error:
        return shown(str(error))
    assert 100 <= head.status <= 999
    return True


def chunked(data: bytes, cuts: Sequence[int]) -> bool:
    """Where a body ends, or that it is broken, does not depend on how it arrives."""

    def end(pieces: Sequence[bytes]) -> int:
        chunks, passed = Chunks(), 0
        for piece in pieces:
            try:
                found = chunks.feed(piece)
            except MessageError:
                return -2
            if found >= 0:
                return passed + found
            passed += len(piece)
        return -1

    whole = end([data] if data else [])
    assert whole == end(cut(data, cuts)), (data, cuts)
    return whole >= 0


def authority(data: bytes, _: Sequence[int]) -> bool:
    text = data.decode("latin-1")
    taken = False
    reads: tuple[Callable[[], tuple[str, int]], ...] = (lambda: host_port(text), lambda: absolute(text)[1:3])
    for read in reads:
        try:
            host, port = read()
        except (AuthorityError, SchemeError):
            continue
        assert 0 < port < 65536
        assert host_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") == (host, port), data
        taken = True
    return taken


# -------------------------------------------------------------------------------------------------------------- others


def socks(data: bytes, cuts: Sequence[int]) -> bool:
    def greet(pieces: Sequence[bytes]) -> tuple[object, ...]:
        handshake, told = Handshake(), b""
        for at, piece in enumerate(pieces):
            try:
                asked = handshake.feed(piece)
            except SocksError as error:
                return told + handshake.out + error.wire, str(error)
            told, handshake.out = told + handshake.out, b""
            assert len(told) < 8
            if asked is not None:
                assert canonical_host(asked.host) == asked.host, data
                return told, asked.host, asked.port, asked.rest + b"".join(pieces[at + 1 :])
        return (told,)

    whole = greet([data] if data else [])
    assert whole == greet(cut(data, cuts)), (data, cuts)
    return len(whole) == 4


def hello(data: bytes, cuts: Sequence[int]) -> bool:
    """Whoever decides on a part decides the same on the whole."""
    arrived, early = b"", None
    for piece in cut(data, cuts):
        arrived += piece
        early = _named(arrived)
        if early is not None:
            break
    final = _named(data)
    assert early is None or early == final, (data, cuts)
    return final not in (None, "!")


def _named(data: bytes) -> str | None:
    try:
        return server_name(data)
    except HelloError:
        return "!"


def opening(data: bytes, cuts: Sequence[int]) -> bool:
    seen, arrived = Kind.MORE, b""
    for piece in cut(data, cuts):
        arrived += piece
        kind = classify(arrived)
        assert seen in (Kind.MORE, kind) or kind is Kind.OTHER, (data, cuts)
        seen = kind
    return seen in (Kind.HTTP, Kind.TLS)


_KNOWN = ("api.test", "policy.local", "localhost")
_ENGINE = compile_policy(Policy(rules=(rule("r", raw("api.test"), raw("*.wild.test")),)))


def question(data: bytes, _: Sequence[int]) -> bool:
    server = PolicyDns(Current(_ENGINE), Names(), ipv6=True, refused=lambda *_: "d-1", full=lambda _: None)
    answer = server.answer(data)
    if answer is None:
        assert len(data) < 12 or len(data) > 4096 or data[2] & 0x80
        return False
    assert answer[:2] == data[:2]
    assert len(answer) < len(data) + 400
    assert answer[2] & 0x80, data
    try:
        records = dns.message.from_wire(answer).answer
    except dns.exception.DNSException as error:
        raise AssertionError(f"an answer that is no message: {data!r}") from error
    for one in records:
        host = canonical_host(one.name.to_text(omit_final_dot=True))
        known = host in _KNOWN or host.endswith((".wild.test", ".localhost", ".in-addr.arpa", ".ip6.arpa"))
        assert known, (data, host)
    return bool(records)


def stream(data: bytes, cuts: Sequence[int]) -> bool:
    def messages(pieces: Sequence[bytes]) -> list[bytes] | None:
        frames, found = Frames(), list[bytes]()
        for piece in pieces:
            try:
                found += frames.feed(piece)
            except FrameError:
                return None
        return found

    whole = messages([data] if data else [])
    assert whole == messages(cut(data, cuts)), (data, cuts)
    return bool(whole)


def server_frames(data: bytes, cuts: Sequence[int]) -> bool:
    passed, error = follow(data, list(cuts))
    assert (passed, error) == follow(data, []), (data, cuts)
    assert data.startswith(passed)
    return bool(passed) and not error


def client_frames(data: bytes, cuts: Sequence[int]) -> bool:
    whole = chat(data, [])
    told, sent, over = chat(data, list(cuts))
    assert (told, over) == (whole[0], whole[2]), (data, cuts)
    return bool(sent) and not over


def _body(protocol: str) -> Target:
    def read(data: bytes, _: Sequence[int]) -> bool:
        try:
            found = content.read(protocol, "POST", "", "application/json", data, 65536)
        except ContentError as error:
            return shown(str(error))
        assert 0 < len(found) <= max(content.MAX_BATCH, MAX_TOKENS)
        # A server that is lenient about duplicates must not be able to read another body than the judge.
        assert json.loads(data) == json.loads(data, object_pairs_hook=_unique)
        return all(str(one).isprintable() for one in found)

    return read


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a duplicate key"
    return found


def message(data: bytes, _: Sequence[int]) -> bool:
    try:
        content.read_message(data.decode("utf-8", "surrogateescape"))
    except ContentError as error:
        return shown(str(error))
    return True


def proposal(data: bytes, _: Sequence[int]) -> bool:
    """Rules that carry the mark of a proposal, or one printable sentence; nothing else, and nothing long."""
    try:
        found = parse_proposal(data)
    except ProposalError as error:
        return shown(error.detail)
    assert found.operations
    for operation in found.operations:
        assert operation.rule.endpoints, data
        assert operation.rule.binaries, data
        for endpoint in operation.rule.endpoints:
            assert endpoint.advisor_proposed, data
            assert not endpoint.allowed_ips, data
    return True


def process(data: bytes, _: Sequence[int]) -> bool:
    """What /proc says of a process whose name is its own choice."""
    name = data[:15].replace(b"\0", b"")
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "7").mkdir()
        text = b"Name:\t" + escaped + b"\nUmask:\t0022\nTgid:\t5\nPPid:\t3\nNStgid:\t5\t2\nThreads:\t4\n"
        (Path(root) / "7" / "status").write_bytes(text)
        (Path(root) / "7" / "stat").write_bytes(b"7 (" + name + b") S 3 " + b"0 " * 17 + b"99 0\n")
        status, stat = read_status(7, root), read_stat(7, root)
    assert (status.parent, status.group, status.inside, status.threads) == (3, 5, 2, 4), data
    assert (stat.parent, stat.start) == (3, 99), data
    return True


def letter(data: bytes, _: Sequence[int]) -> bool:
    """A message between the processes outside: a mapping, the end, or a ChannelError; and no descriptor is kept."""
    ours, theirs = channel.pair()
    given = os.open("/dev/null", os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    try:
        channel.send_raw(theirs, data[:60_000], [given] if data[:1] > b"\x40" else [], socket.MSG_DONTWAIT)
        theirs.shutdown(socket.SHUT_WR)
        found, fds = channel.receive(ours)
        channel.close_all(fds)
        assert found is None or isinstance(found, dict), data
        return found is not None
    except channel.ChannelError:
        return False
    finally:
        assert len(os.listdir("/proc/self/fd")) == before, data
        os.close(given)
        ours.close()
        theirs.close()


# --------------------------------------------------------------------------------------------------------------- seeds

_QUERY = b'{"query": "query Me { viewer { login } }", "variables": {"a": [1, 2.5, null, true]}, "operationName": "Me"}'
_CALL = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_x", "arguments": {"a": "b"}}}'
_REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x.test\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: x.test\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\n",
    b"GET http://x.test/a?b=c HTTP/1.0\r\nConnection: keep-alive, X\r\nX: y\r\nX-HTTP-Method-Override: PUT\r\n\r\n",
]
_BODIES = [b"5\r\nhello\r\n0\r\n\r\n", b"3;a=b\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\nrest", b"0\r\n\r\n"]

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
GREETINGS = [
    b"\5\1\0" + b"\5\1\0\3\x08api.test\x01\xbb",
    b"\5\2\0\2" + b"\5\1\0\1\x7f\0\0\1\0\x50rest",
    b"\5\1\2" + b"\1\1u\1p" + b"\5\1\0\4" + bytes(15) + b"\1\x01\xbb",
    b"\5\1\0" + b"\5\3\0\3\x08api.test\x01\xbb",
]


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


TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "request-head": (request_head, _REQUESTS),
    "requests": (requests, _REQUESTS),
    "response-head": (
        response_head,
        [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.0 404 \r\nConnection: close\r\n\r\n"],
    ),
    "chunked": (chunked, _BODIES),
    "authority": (authority, [b"api.test:443", b"[::1]:80", b"http://api.test:81/a?b", b"127.0.0.1:1"]),
    "socks": (socks, GREETINGS),
    "hello": (hello, HELLOS),
    "opening": (opening, [b"GET / HTTP/1.1", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n", b"SSH-2.0"]),
    "dns": (question, QUERIES),
    "dns-stream": (stream, [b"\0\x0c" + bytes(12) + b"\0\x0d" + bytes(13)]),
    "server-frames": (server_frames, [frame_bytes(0x81, b"hello"), frame_bytes(0x02, b"x" * 200)]),
    "client-frames": (
        client_frames,
        [frame_bytes(0x81, "h\u00e9".encode(), mask=True), frame_bytes(0x01, b"a", mask=True) * 2],
    ),
    "graphql": (_body("graphql"), [_QUERY, b"[" + _QUERY + b"]", b'{"id": "x"}']),
    "json-rpc": (_body("json-rpc"), [_CALL, b"[" + _CALL + b"," + _CALL + b"]"]),
    "mcp": (_body("mcp"), [_CALL, b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}']),
    "ws-message": (
        message,
        [b'{"type": "subscribe", "id": "1", "payload": ' + _QUERY + b"}", b'{"type": "connection_init"}'],
    ),
    "proposal": (proposal, PROPOSALS),
    "process": (process, [b"sh", b") S 1 (", b"\nPPid:\t1"]),
    "letter": (letter, [b'{"op": "ready"}', b'{"@": 5}', b"[1]"]),
}
