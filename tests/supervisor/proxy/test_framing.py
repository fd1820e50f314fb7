"""Hostile and merely odd bytes: framing that two parsers could read differently never reaches a server."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.supervisor.proxy import Limits
from pyopenshell.supervisor.proxy.http1 import Chunks, Framing, Head, MessageError, parse_request, parse_response
from tests.supervisor.proxy.rig import Client, Response, Upstream, rest, rig, rule

API = rule("api", rest("api.test", ("*", "/**"), port=80))
H = "Host: api.test\n"


def tunnel(client: Client) -> Client:
    assert client.connect("api.test:80").status == 200
    return client


BAD_REQUESTS = {
    "length and chunked": f"POST / HTTP/1.1\n{H}Content-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n",
    "two lengths": f"POST / HTTP/1.1\n{H}Content-Length: 0\nContent-Length: 5\n\nhello",
    "two equal lengths": f"POST / HTTP/1.1\n{H}Content-Length: 5\nContent-Length: 5\n\nhello",
    "length list": f"POST / HTTP/1.1\n{H}Content-Length: 5, 5\n\nhello",
    "length not a number": f"POST / HTTP/1.1\n{H}Content-Length: x\n\n",
    "length with sign": f"POST / HTTP/1.1\n{H}Content-Length: +5\n\nhello",
    "hexadecimal length": f"POST / HTTP/1.1\n{H}Content-Length: 0x5\n\nhello",
    "negative length": f"POST / HTTP/1.1\n{H}Content-Length: -1\n\n",
    "empty length": f"POST / HTTP/1.1\n{H}Content-Length:\n\n",
    "chunkedx": f"POST / HTTP/1.1\n{H}Transfer-Encoding: chunkedx\n\n0\n\n",
    "two codings": f"POST / HTTP/1.1\n{H}Transfer-Encoding: gzip, chunked\n\n0\n\n",
    "coding twice": f"POST / HTTP/1.1\n{H}Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n",
    "identity": f"POST / HTTP/1.1\n{H}Transfer-Encoding: identity\n\n",
    "chunked in 1.0": f"POST / HTTP/1.0\n{H}Transfer-Encoding: chunked\n\n0\n\n",
    "folded header": f"GET / HTTP/1.1\n{H}X-A: 1\n folded\n\n",
    "folded first": f"GET / HTTP/1.1\n X: 1\n{H}\n",
    "space before colon": f"GET / HTTP/1.1\n{H}Content-Length : 5\n\nhello",
    "no colon": f"GET / HTTP/1.1\n{H}nonsense\n\n",
    "empty name": f"GET / HTTP/1.1\n{H}: x\n\n",
    "two hosts": f"GET / HTTP/1.1\n{H}{H}\n",
    "no host": "GET / HTTP/1.1\nX: y\n\n",
    "lower-case method": f"get / HTTP/1.1\n{H}\n",
    "bad version": f"GET / HTTP/2.0\n{H}\n",
    "version 1.2": f"GET / HTTP/1.2\n{H}\n",
    "no version": f"GET /\n{H}\n",
    "two spaces": f"GET  / HTTP/1.1\n{H}\n",
    "tab": f"GET\t/ HTTP/1.1\n{H}\n",
    "connection drops host": f"GET / HTTP/1.1\n{H}Connection: host\n\n",
    "connection drops length": f"POST / HTTP/1.1\n{H}Connection: close, content-length\nContent-Length: 1\n\nx",
    "underscore length": f"POST / HTTP/1.1\n{H}Content_Length: 5\n\nhello",
    "underscore coding": f"POST / HTTP/1.1\n{H}transfer_Encoding: chunked\nContent-Length: 5\n\n0\n\n",
    "underscore forwarded host": f"GET / HTTP/1.1\n{H}X_Forwarded-Host: other.test\n\n",
    "underscore hop": f"GET / HTTP/1.1\n{H}Proxy_Connection: close\n\n",
    "unknown expectation": f"POST / HTTP/1.1\n{H}Expect: 200-ok\nContent-Length: 1\n\nx",
}
BAD_BYTES = {
    "bare line feed": b"GET / HTTP/1.1\nHost: api.test\n\n",
    "bare line feed in a field": b"GET / HTTP/1.1\r\nHost: api.test\nX: y\r\n\r\n",
    "bare carriage return": b"GET / HTTP/1.1\r\nHost: api.test\r\nX: a\rb\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\nHost: api.test\r\nX: a\x00b\r\n\r\n",
    "not UTF-8": b"GET / HTTP/1.1\r\nHost: api.test\r\nX: \xff\xfe\r\n\r\n",
    "raw byte in target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "nul in target": b"GET /\x00 HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "too many fields": b"GET / HTTP/1.1\r\nHost: api.test\r\n" + b"A: b\r\n" * 200 + b"\r\n",
}
CASES = {name: text.replace("\n", "\r\n").encode() for name, text in BAD_REQUESTS.items()} | BAD_BYTES


@pytest.mark.parametrize("name", CASES)
async def test_ambiguous_requests_are_400_and_the_end(plain_upstream: Upstream, name: str) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:

        def talk(client: Client) -> tuple[Response, Response, bool]:
            tunnel(client)
            good = client.request(f"GET /ok HTTP/1.1\n{H}\n")
            return (
                good,
                client.request(CASES[name] + b"GET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n"),
                client.closed(),
            )

        good, answer, closed = await r.run(talk)
        assert (good.status, answer.status, closed) == (200, 400, True)
        assert answer.json["error"] == "bad_request"
        assert "x-openshell-denial" not in answer.headers
        assert len(plain_upstream.requests) == 1
        assert len(r.log.decisions()) == 3


@pytest.mark.parametrize(
    "chunks",
    [
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "-5\r\n",
        "\r\n",
        "5;a\x00b\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer_Encoding: chunked\r\n\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\n" + "a: b\r\n" * 3000 + "\r\n",
        "1" * 2000,
    ],
)
async def test_broken_chunks_end_the_connection_on_both_sides(plain_upstream: Upstream, chunks: str) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            tunnel(client).send(f"POST /x HTTP/1.1\n{H}Transfer-Encoding: chunked\n\n")
            return client.request(chunks.encode()), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, closed) == (400, True)
        assert plain_upstream.requests == []


async def test_chunked_bodies_and_trailers_pass_as_they_came(plain_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:

        def talk(client: Client) -> list[Response]:
            tunnel(client)
            body = "5;ext=1\nhello\nA\n0123456789\n0\nX-Sum: 1\n\n"
            client.send(f"POST /x HTTP/1.1\n{H}Transfer-Encoding: chunked\n\n")
            for byte in body.replace("\n", "\r\n").encode():
                client.send(bytes([byte]))
            return [client.response(), client.request(f"GET /y HTTP/1.1\n{H}\n")]

        first, second = await r.run(talk)
        assert (first.json["size"], second.status) == (15, 200)
        assert plain_upstream.connections == 1


@pytest.mark.parametrize(("door", "size"), [(True, 8192), (False, 16384)])
async def test_oversize_heads_are_431(plain_upstream: Upstream, door: bool, size: int) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            start = f"GET http://api.test/ HTTP/1.1\n{H}" if door else f"GET / HTTP/1.1\n{H}"
            if not door:
                tunnel(client)
            return client.request(start + "X: " + "a" * size + "\n\n"), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, answer.json["error"], closed) == (431, "request_head_too_large", True)
        assert plain_upstream.requests == []


async def test_slow_heads_run_into_a_deadline(plain_upstream: Upstream) -> None:
    limits = Limits(head_seconds=0.2, linger_seconds=0.2)
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}, limits=limits) as r:

        def drip(client: Client) -> tuple[Response, bool]:
            tunnel(client)
            client.request(f"GET /ok HTTP/1.1\n{H}\n")
            client.send("GET /slow HTTP/1.1\n")
            return client.response(), client.closed()

        answer, closed = await r.run(drip)
        assert (answer.status, closed) == (408, True)
        assert await r.run(lambda client: client.closed())
        assert await r.run(lambda client: tunnel(client).closed())


async def test_idle_keep_alive_has_no_deadline(plain_upstream: Upstream) -> None:
    limits = Limits(head_seconds=0.1)
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}, limits=limits) as r:
        waited = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.3, waited.set_result, None)

        def first(client: Client) -> Response:
            tunnel(client)
            client.request(f"GET /1 HTTP/1.1\n{H}\n")
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(waited, 5), loop).result()
            return client.request(f"GET /2 HTTP/1.1\n{H}\n")

        loop = asyncio.get_running_loop()
        assert (await r.run(first)).status == 200


def server(*answers: bytes, close: bool = False, wait_body: bool = True):  # type: ignore[no-untyped-def]
    """A handler that sends fixed bytes, one answer per request."""

    def handler(upstream: Upstream):  # type: ignore[no-untyped-def]
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for answer in answers:
                if wait_body:
                    await upstream.read_request(reader, writer)
                else:
                    await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
            if not close:
                await reader.read()

        return run

    return handler


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def exchange(answers: tuple[bytes, ...], *requests: str, close: bool = False) -> tuple[list[Response], Upstream]:
    upstream = Upstream()
    upstream.handler = server(*answers, close=close)(upstream)
    await upstream.start(None)
    try:
        async with rig(API, upstreams={("api.test", 80): upstream.address}) as r:

            def talk(client: Client) -> list[Response]:
                tunnel(client)
                return [client.request(request, request.split()[0]) for request in requests]

            return await r.run(talk), upstream
    finally:
        await upstream.stop()


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_responses_without_body_keep_the_connection(method: str, answer: bytes) -> None:
    answers, upstream = await exchange((answer, OK), f"{method} /a HTTP/1.1\n{H}\n", f"GET /b HTTP/1.1\n{H}\n")
    assert [a.body for a in answers] == [b"", b"ok"]
    assert upstream.connections == 1


async def test_interim_responses_pass_before_the_final_one() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    upstream = Upstream()
    upstream.handler = server(early + early + OK, OK)(upstream)
    await upstream.start(None)
    async with rig(API, upstreams={("api.test", 80): upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            tunnel(client).send(f"GET /a HTTP/1.1\n{H}\n")
            return [client.response().status for _ in range(3)] + [client.request(f"GET /b HTTP/1.1\n{H}\n").status]

        assert await r.run(talk) == [103, 103, 200, 200]
    await upstream.stop()


async def test_a_response_until_the_end_closes_the_client_too() -> None:
    answers, _ = await exchange((b"HTTP/1.0 200 OK\r\n\r\nall of it",), f"GET / HTTP/1.1\n{H}\n", close=True)
    assert answers[0].body == b"all of it"
    assert answers[0].headers["connection"] == "close"


async def test_upstream_close_does_not_close_the_client() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    answers, upstream = await exchange((closing,), f"GET /a HTTP/1.1\n{H}\n", f"GET /b HTTP/1.1\n{H}\n", close=True)
    assert [a.status for a in answers] == [200, 200]
    assert "connection" not in answers[0].headers
    assert upstream.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\nb\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100,
        b"",
    ],
)
async def test_unacceptable_responses_are_502_and_no_denial(answer: bytes) -> None:
    upstream = Upstream()
    upstream.handler = server(answer, close=True)(upstream)
    await upstream.start(None)
    async with rig(API, upstreams={("api.test", 80): upstream.address}) as r:

        def talk(client: Client) -> Response:
            tunnel(client).send(f"POST / HTTP/1.1\n{H}Content-Length: 1\n\nx")
            while (final := client.response()).status < 200:
                pass
            return final

        final = await r.run(talk)
        assert final.status == 502
        assert (final.json["error"], final.json["step"]) == ("upstream_bad_response", "response")
        assert "x-openshell-denial" not in final.headers
        assert r.denials == []
        assert any("NET:FAIL [LOW]" in line for line in r.log.lines())
    await upstream.stop()


async def test_bytes_behind_a_response_never_answer_the_next_request() -> None:
    smuggled = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    answers, upstream = await exchange((smuggled, OK), f"GET /a HTTP/1.1\n{H}\n", f"GET /b HTTP/1.1\n{H}\n")
    assert [a.body for a in answers] == [b"ok", b"ok"]
    assert upstream.connections == 2


async def test_a_truncated_response_is_not_passed_off_as_whole() -> None:
    for head in (b"Content-Length: 100\r\n\r\nshort", b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"):
        with pytest.raises(EOFError):
            await exchange((b"HTTP/1.1 200 OK\r\n" + head,), f"GET / HTTP/1.1\n{H}\n", close=True)


async def test_expect_100_continue_reaches_the_server(plain_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            tunnel(client).send(f"POST /x HTTP/1.1\n{H}Expect: 100-continue\nContent-Length: 5\n\n")
            interim = client.response().status
            client.send(b"hello")
            return [interim, client.response().status]

        assert await r.run(talk) == [100, 200]
        assert plain_upstream.requests[0][1] == b"hello"


async def test_a_denied_request_with_expect_closes() -> None:
    strict = rule("api", rest("api.test", ("GET", "/**"), port=80))
    async with rig(strict, upstreams={("api.test", 80): "127.0.0.1:1"}) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            tunnel(client)
            return client.request(f"POST /x HTTP/1.1\n{H}Expect: 100-continue\nContent-Length: 5\n\n"), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, answer.headers["connection"], closed) == (403, "close", True)


async def test_a_denied_body_is_drained_within_bounds() -> None:
    strict = rule("api", rest("api.test", ("GET", "/**"), port=80))
    async with rig(strict, upstreams={("api.test", 80): "127.0.0.1:1"}, limits=Limits(drain_bytes=100_000)) as r:

        def talk(client: Client) -> tuple[list[int], Response, bool]:
            tunnel(client)
            statuses = []
            for size in (10, 50_000):
                client.send(f"POST /x HTTP/1.1\n{H}Content-Length: {size}\n\n")
                client.send(b"x" * size)
                statuses.append(client.response().status)
            client.send(f"POST /x HTTP/1.1\n{H}Transfer-Encoding: chunked\n\n")
            client.send(b"9c40\r\n" + b"x" * 40_000 + b"\r\n0\r\n\r\n")
            statuses.append(client.response().status)
            last = client.request(f"POST /x HTTP/1.1\n{H}Content-Length: 200000\n\n")
            return statuses, last, client.closed()

        statuses, last, closed = await r.run(talk)
        assert statuses == [403, 403, 403]
        assert (last.status, last.headers["connection"], closed) == (403, "close", True)


async def test_an_early_answer_to_an_unfinished_upload() -> None:
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    upstream = Upstream()
    upstream.handler = server(early, wait_body=False)(upstream)
    await upstream.start(None)
    async with rig(API, upstreams={("api.test", 80): upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            tunnel(client)
            answer = client.request(f"POST /x HTTP/1.1\n{H}Content-Length: 1000\n\n")
            client.send(b"x" * 1000)
            return [answer.status, client.request(f"POST /x HTTP/1.1\n{H}Content-Length: 0\n\n").status]

        assert await r.run(talk) == [413, 413]
    await upstream.stop()


async def test_a_stale_pooled_connection_is_retried_for_safe_requests() -> None:
    upstream = Upstream()
    count = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await upstream.read_request(reader, writer)
        writer.write(OK)
        if count == 1:
            # Takes the second request and dies without a word, as a server does whose idle time is up.
            await upstream.read_request(reader, writer)
            writer.transport.abort()
            return
        await reader.read()

    upstream.handler = handler
    await upstream.start(None)
    async with rig(API, upstreams={("api.test", 80): upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            tunnel(client)
            return [client.request(f"GET /{n} HTTP/1.1\n{H}\n").status for n in range(2)]

        assert await r.run(talk) == [200, 200]
        assert upstream.connections == 2
    await upstream.stop()


# ------------------------------------------------------------------------------------------------ the parsers alone


@given(st.binary(max_size=400))
def test_parsers_raise_nothing_but_message_errors(data: bytes) -> None:
    for text in (data, b"GET / HTTP/1.1\r\n" + data, b"HTTP/1.1 200 OK\r\n" + data):
        for parse in (parse_request, lambda d, e: parse_response(d, e, "GET")):
            with contextlib.suppress(MessageError):
                parse(text, len(text))
    with contextlib.suppress(MessageError):
        Chunks().feed(data)


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    st.lists(st.integers(1, 7), min_size=1),
    st.binary(max_size=9),
)
def test_chunk_scanning_does_not_depend_on_segmentation(pieces: list[bytes], cuts: list[int], rest_: bytes) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\nA: b\r\n\r\n"
    assert Chunks().feed(body + rest_) == len(body)
    scanner, at, turn = Chunks(), 0, 0
    while at < len(body):
        piece = body[at : at + cuts[turn % len(cuts)]]
        end = scanner.feed(piece)
        at += len(piece)
        turn += 1
        assert (end >= 0) == (at >= len(body))


def test_until_eof_is_only_for_responses() -> None:
    data = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert parse_request(data, len(data) - 4).framing is Framing.NONE


FIELDS = st.lists(
    st.sampled_from(
        [
            "Host: api.test",
            "Host: other.test",
            "Content-Length: 5",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Connection: close",
            "Connection: keep-alive, X-A",
            "Upgrade: websocket",
            "Expect: 100-continue",
            "X-HTTP-Method-Override: DELETE",
            "X-Original-URL: /y",
            "X-A: 1",
        ]
    ),
    max_size=4,
)
HEADS = st.tuples(st.sampled_from(["GET /x", "POST /y"]), st.sampled_from(["1.0", "1.1"]), FIELDS)


def read(wire: bytes, before: Head | None, *, request: bool) -> Head | None:
    end = wire.index(b"\r\n\r\n")
    try:
        return parse_request(wire, end, before) if request else parse_response(wire, end, "GET", before)
    except MessageError:
        return None


@given(st.lists(HEADS, min_size=1, max_size=4), st.booleans())
def test_a_head_means_the_same_whatever_came_before_it(heads: list[tuple[str, str, list[str]]], request: bool) -> None:
    """Also twice in a row, where the second is not read again."""
    before: Head | None = None
    for start, version, fields in [head for head in heads for _ in range(2)]:
        line = f"{start} HTTP/{version}" if request else f"HTTP/{version} 200 OK"
        wire = "\r\n".join([line, *fields, "", ""]).encode()
        alone = read(wire, None, request=request)
        after = read(wire, before, request=request)
        assert (alone is None) == (after is None)
        if alone is not None and after is not None:
            assert all(getattr(alone, name) == getattr(after, name) for name in Head.__slots__)
            before = after
