"""Requests that are judged by what they carry: read whole, judged, sent on byte for byte; what is unclear refused."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.audit.events import HttpEvent
from pyopenshell.policy.model import Endpoint, L7Match, McpOptions, QueryMatcher, Rule
from pyopenshell.supervisor.denials import mapper
from pyopenshell.supervisor.denials.ledger import Tally
from pyopenshell.supervisor.proxy import Limits
from pyopenshell.supervisor.proxy.bodies import Budget, Collected
from pyopenshell.supervisor.proxy.http1 import MessageError, parse_request
from tests.supervisor.proxy.rig import Client, Response, Upstream, rest, rig, rule
from tests.supervisor.proxy.ways import WAYS, Way

QUERY = b'{"query": "query Me { viewer { login } }"}'
MUTATION = b'{"query": "mutation Drop { viewer: deleteRepo(id: 1) { ok } }"}'
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON = "Content-Type: application/json\n"


def graphql(port: int = 443, **more: Any) -> Endpoint:
    reads = (L7Match(operation_type="query"),)
    return dataclasses.replace(rest("api.test", port=port), protocol="graphql", path="/graphql", rules=reads, **more)


def mcp(port: int = 443, **more: Any) -> Endpoint:
    tool = L7Match("tools/call", params=(("name", QueryMatcher(("get_*",))),))
    allows = (L7Match("initialize"), L7Match("tools/list"), tool)
    return dataclasses.replace(rest("api.test", port=port), protocol="mcp", path="/mcp", rules=allows, **more)


def rules(port: int = 443, **more: Any) -> Rule:
    plain = rest("api.test", ("GET", "/pub/**"), port=port, path="/pub/**")
    return rule("api", graphql(port, **more), mcp(port, **more), plain)


def call(name: str = "", method: str = "tools/call") -> bytes:
    body: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if name:
        body["params"] = {"name": name, "arguments": {"a": 1}}
    return json.dumps(body).encode()


def post(target: str, body: bytes, extra: str = JSON, *, chunks: int = 0, method: str = "POST") -> bytes:
    head = f"{method} {target} HTTP/1.1\nHost: api.test\n{extra}"
    if chunks:
        pieces = [body[at : at + chunks] for at in range(0, len(body), chunks)]
        framed = b"".join(b"%x;note=x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        return (head + "Transfer-Encoding: chunked\n\n").replace("\n", "\r\n").encode() + framed
    return (head + f"Content-Length: {len(body)}\n\n").replace("\n", "\r\n").encode() + body


def tunnel(client: Client) -> None:
    assert client.connect("api.test:443").status == 200
    client.tls("api.test")


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def door(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


async def upstream_of(door: Way) -> Upstream:
    return await door.start(Upstream())


async def test_every_door_judges_what_requests_carry_and_sends_it_unchanged(door: Way) -> None:
    upstream = await upstream_of(door)
    async with rig(rules(door.port), upstreams={("api.test", door.port): upstream.address}) as r:
        at = door.prefix

        def talk(client: Client) -> list[Response]:
            asks = [
                post(f"{at}/graphql?v=1", QUERY),
                post(f"{at}/graphql", MUTATION),
                post(f"{at}/graphql", QUERY, chunks=1),
                post(f"{at}/mcp", call("get_x")),
                post(f"{at}/mcp", call("del_x"), chunks=7),
                post(f"{at}/mcp", b"[" + call("get_a") + b", " + call("get_b") + b"]"),
            ]
            return [client.request(ask) for ask in asks]

        answers = await door.run(r, talk)
    assert [answer.status for answer in answers] == [200, 403, 200, 200, 403, 200]
    assert [body for _, body in upstream.requests] == [
        QUERY,
        QUERY,
        call("get_x"),
        b"[" + call("get_a") + b", " + call("get_b") + b"]",
    ]
    for head, body in upstream.requests:
        assert f"\r\nContent-Length: {len(body)}" in head
        assert "ransfer-" not in head
    assert upstream.connections == 1
    assert [(d.method, d.path, d.condition) for d in r.denials] == [
        ("POST", "/graphql", "operation_not_allowed"),
        ("POST", "/mcp", "operation_not_allowed"),
    ]
    events = [e for e in r.log.decisions() if isinstance(e, HttpEvent)]
    assert [e.engine for e in events] == ["l7-graphql"] * 3 + ["l7-mcp"] * 3
    assert events[0].message.endswith("allow GraphQL query Me {viewer}")
    assert events[5].message.endswith("allow call tools/call name='get_a'; call tools/call name='get_b'")


async def test_a_denial_says_what_was_refused_and_what_a_rule_would_have_to_allow(tls_upstream: Upstream) -> None:
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}) as r:
        r.current.proposals_enabled = True

        def talk(client: Client) -> list[dict[str, Any]]:
            tunnel(client)
            asks = (post("/graphql", MUTATION), post("/mcp", b"[" + call("get_x") + b"," + call("del_x") + b"]"))
            return [client.request(ask).json for ask in asks]

        mutation, tool = await r.run(talk)
    assert (mutation["error"], mutation["protocol"], mutation["layer"]) == ("policy_denied", "graphql", "l7")
    assert mutation["operation"] == "GraphQL mutation Drop {deleteRepo}"
    assert mutation["detail"] == "GraphQL mutation Drop {deleteRepo} not permitted by policy"
    assert mutation["rule_missing"]["type"] == "graphql_allow"
    allow = {"operation_type": "mutation", "operation_name": "Drop", "fields": ["deleteRepo"]}
    assert mutation["rule_missing"]["allow"] == allow
    assert mutation["next_steps"]
    assert (tool["protocol"], tool["operation"]) == ("mcp", "call tools/call name='del_x'")
    assert tool["rule_missing"]["type"] == "mcp_allow"
    assert tool["rule_missing"]["allow"] == {"method": "tools/call", "tool": "del_x"}
    assert next(line for line in r.log.lines() if "DENIED" in line) == (
        "HTTP:POST [MED] DENIED POST http://api.test:443/graphql [policy:api engine:l7-graphql] "
        "[reason:GRAPHQL_L7_REQUEST deny POST api.test:443/graphql "
        "reason=GraphQL mutation Drop {deleteRepo} not permitted by policy] "
        f"[denial:{mutation['denial_id']}]"
    )
    for denial in r.denials:
        with pytest.raises(ValueError, match="must never become"):
            mapper.drafts([Tally(denial, 1, 1, 0, 0)])


HOSTILE: Mapping[str, bytes] = {
    "a batch with one refused item": post("/mcp", b"[" + call("get_x") + b"," + call("del_x") + b"]"),
    "a mutation behind a query": post("/graphql", b'[{"query":"{ a }"},{"query":"mutation { b }"}]'),
    "an alias": post("/graphql", b'{"query":"mutation { viewer: deleteRepo }"}'),
    "two operations": post("/graphql", b'{"query":"query A { a } mutation B { b }","operationName":"A"}'),
    "a hash alone": post(
        "/graphql", b'{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"%s"}}}' % (b"0" * 64)
    ),
    "a notification": post("/mcp", b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"del_x"}}'),
    "a persisted id": post("/graphql", b'{"id":"abc"}'),
}
UNREADABLE: Mapping[str, bytes] = {
    "a hash of another document": post(
        "/graphql", b'{"query":"{a}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"%s"}}}' % (b"0" * 64)
    ),
    "duplicate keys": post("/graphql", b'{"query":"{ a }","query":"mutation { b }"}'),
    "an escaped duplicate": post("/graphql", b'{"query":"{ a }","quer\\u0079":"mutation { b }"}'),
    "another letter case": post("/mcp", call("get_x").replace(b'"name"', b'"Name":"del_x","name"')),
    "a tool under two names": post("/mcp", call("get_x").replace(b'"name"', b'"name":"del_x","name"')),
    "a number as tool": post("/mcp", call("get_x").replace(b'"get_x"', b"1")),
    "an empty batch": post("/mcp", b"[]"),
    "a batch that is too long": post("/mcp", b"[" + b",".join([call("get_x")] * 65) + b"]"),
    "a response": post("/mcp", b'{"jsonrpc":"2.0","id":1,"result":{}}'),
    "a byte order mark": post("/graphql", b"\xef\xbb\xbf" + QUERY),
    "UTF-16": post("/graphql", QUERY.decode().encode("utf-16")),
    "UTF-7 that only a charset reveals": post("/graphql", QUERY, "Content-Type: application/json; charset=utf-7\n"),
    "two charsets": post("/graphql", QUERY, "Content-Type: application/json; charset=utf-8; charset=utf-16\n"),
    "two documents": post("/graphql", QUERY + MUTATION),
    "two documents on two lines": post("/mcp", call("get_x") + b"\n" + call("del_x")),
    "something behind": post("/graphql", QUERY + b"\x00"),
    "not JSON": post("/graphql", b"query=mutation{b}", "Content-Type: application/x-www-form-urlencoded\n"),
    "a form that holds JSON": post("/graphql", QUERY, "Content-Type: application/x-www-form-urlencoded\n"),
    "a GraphQL document": post("/graphql", b"{ a }", "Content-Type: application/graphql\n"),
    "a multipart upload": post("/graphql", QUERY, "Content-Type: multipart/form-data; boundary=x\n"),
    "no content type": post("/graphql", QUERY, ""),
    "two content types": post("/graphql", QUERY, JSON + "Content-Type: text/plain\n"),
    "the same content type twice": post("/graphql", QUERY, JSON + JSON),
    "a content type with an underscore": post("/graphql", QUERY, JSON + "Content_Type: text/plain\n"),
    "a content type list": post("/graphql", QUERY, "Content-Type: application/json, text/plain\n"),
    "gzip": post("/graphql", gzip.compress(QUERY), JSON + "Content-Encoding: gzip\n"),
    "gzip that is none": post("/graphql", QUERY, JSON + "Content-Encoding: gzip\n"),
    "gzip with an underscore": post("/graphql", QUERY, JSON + "Content_Encoding: gzip\n"),
    "identity": post("/graphql", QUERY, JSON + "content-encoding: identity\n"),
    "nothing": post("/graphql", b""),
    "GET with a query": b"GET /graphql?query=mutation{b} HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "PUT": post("/graphql", QUERY, method="PUT"),
    "a query string beside the body": post("/graphql?query=mutation{b}", QUERY),
    "POST that says it is GET": post("/graphql?x=1", QUERY, JSON + "X-HTTP-Method-Override: GET\n"),
    "POST that says it ends the session": post("/mcp", call("get_x"), JSON + "X-HTTP-Method-Override: DELETE\n"),
    "GET with a body": post("/mcp", call("get_x"), method="GET"),
    "too many tokens": post("/graphql", json.dumps([{"query": "{" + "a " * 500 + "}"}] * 50).encode()),
    "too many values": post("/mcp", call("get_x")[:-1] + b', "_": [' + b"0," * 10_000 + b"0]}"),
    "too deep": post("/graphql", b"[" * 100 + b"]" * 100),
}


@pytest.mark.parametrize("chunks", [0, 1, 5], ids=["whole", "bytes", "chunks"])
@pytest.mark.parametrize("what", [*HOSTILE, *UNREADABLE])
async def test_hostile_bodies_never_reach_the_server(tls_upstream: Upstream, what: str, chunks: int) -> None:
    raw = {**HOSTILE, **UNREADABLE}[what]
    if chunks and b"Content-Length" in raw:
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        pieces = [body[at : at + chunks] for at in range(0, len(body), chunks)]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        raw = b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b""]) + framed + b"0\r\n\r\n"
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> list[Response]:
            tunnel(client)
            return [client.request(raw), client.request("GET /pub/x HTTP/1.1\nHost: api.test\n\n")]

        refused, after = await r.run(talk)
    assert refused.status == (403 if what in HOSTILE else 400)
    codes = ("invalid_graphql_request", "invalid_jsonrpc_request")
    assert refused.json["error"] in (("policy_denied",) if what in HOSTILE else codes)
    assert refused.json["failed_condition"] == (
        "operation_not_allowed" if what in HOSTILE else "invalid_request_content"
    )
    assert after.status == 200, "the connection goes on"
    assert [head.partition(" ")[0] for head, _ in tls_upstream.requests] == ["GET"]
    assert len(r.denials) == 1
    assert r.denials[0].proposable is (what in HOSTILE)


async def test_text_of_the_agent_stands_escaped_in_answers_and_log(tls_upstream: Upstream) -> None:
    name = "del\x1b[2J\u202ex] [denial:d-0000000000000000]\n"
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> Response:
            tunnel(client)
            return client.request(post("/mcp", call(name)))

        answer = await r.run(talk)
    for text in (answer.body.decode(), answer.json["operation"], answer.json["detail"], *r.log.lines()):
        assert not {"\x1b", "\u202e", "\n"} & set(text)
    assert "allow" not in answer.json["rule_missing"]
    assert [line.count(" [denial:") for line in r.log.lines()] == [0, 1], "a blank before a bracket is spelled out"


def limited(size: int) -> Rule:
    return rule("api", graphql(graphql_max_body_bytes=size), mcp(mcp=McpOptions(max_body_bytes=size)))


@pytest.mark.parametrize("chunks", [0, 9])
@pytest.mark.parametrize("over", [0, 1])
async def test_a_body_has_exactly_the_size_that_the_endpoint_allows(
    tls_upstream: Upstream, chunks: int, over: int
) -> None:
    body = QUERY + b" " * over
    async with rig(limited(len(QUERY)), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> Response:
            tunnel(client)
            return client.request(post("/graphql", body, chunks=chunks))

        answer = await r.run(talk)
    assert answer.status == (413 if over else 200)
    assert len(tls_upstream.requests) == 1 - over
    if over:
        assert answer.json["error"] == "request_body_too_large"
        assert answer.json["detail"] == f"graphql: the body is larger than {len(QUERY)} bytes"
        assert r.denials[0].condition == "invalid_request_content"


async def test_an_endless_body_is_refused_when_it_is_too_long_not_when_it_ends(tls_upstream: Upstream) -> None:
    async with rig(limited(1000), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> Response:
            tunnel(client)
            client.send(f"POST /graphql HTTP/1.1\nHost: api.test\n{JSON}Transfer-Encoding: chunked\n\n")
            client.send(b"800\r\n" + b" " * 0x800)
            return client.response()

        answer = await r.run(talk)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert r.plane.bodies.held == 0


async def test_expect_is_answered_here_and_not_passed_on(tls_upstream: Upstream) -> None:
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> tuple[int, Response]:
            tunnel(client)
            raw = post("/graphql", QUERY, JSON + "Expect: 100-continue\n")
            head, _, body = raw.partition(b"\r\n\r\n")
            client.send(head + b"\r\n\r\n")
            interim = client.response()
            client.send(body)
            return interim.status, client.response()

        interim, answer = await r.run(talk)
    assert (interim, answer.status) == (100, 200)
    ((head, body),) = tls_upstream.requests
    assert body == QUERY
    assert "xpect" not in head


async def test_a_refused_expectation_costs_no_body(tls_upstream: Upstream) -> None:
    async with rig(limited(10), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> Response:
            tunnel(client)
            client.send(post("/graphql", QUERY, JSON + "Expect: 100-continue\n").partition(b"{")[0])
            return client.response()

        assert (await r.run(talk)).status == 413


@pytest.mark.parametrize(
    "end", [b"0\r\nX-Trailer: x\r\n\r\n", b"0\r\nContent-Type: text/plain\r\n\r\n", b"zz\r\n", b"1\r\nxx"]
)
async def test_trailers_and_broken_framing_are_no_requests(tls_upstream: Upstream, end: bytes) -> None:
    raw = post("/graphql", QUERY, chunks=8).removesuffix(b"0\r\n\r\n") + end
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> Response:
            tunnel(client)
            return client.request(raw)

        answer = await r.run(talk)
        assert (answer.status, answer.json["error"]) == (400, "bad_request")
    assert tls_upstream.requests == []
    assert r.plane.bodies.held == 0


async def test_a_header_that_was_judged_cannot_be_taken_away(tls_upstream: Upstream) -> None:
    """`Connection` names what this hop drops: the server would read the body without the type it was judged by."""
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> Response:
            tunnel(client)
            return client.request(post("/graphql", QUERY, JSON + "Connection: content-type\n"))

        assert (await r.run(talk)).status == 400
    assert tls_upstream.requests == []


async def test_a_body_that_does_not_arrive_in_time(tls_upstream: Upstream) -> None:
    limits = Limits(linger_seconds=0.2, content_seconds=0.05)
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}, limits=limits) as r:

        def talk(client: Client) -> Response:
            tunnel(client)
            client.send(post("/graphql", QUERY)[:-1])
            return client.response()

        answer = await r.run(talk)
        assert (answer.status, answer.json["error"]) == (408, "request_timeout")
    assert tls_upstream.requests == []
    assert r.plane.bodies.held == 0


async def test_bodies_held_at_the_same_time_are_bounded(tls_upstream: Upstream) -> None:
    limits = Limits(linger_seconds=0.2, content_held=len(QUERY) + 10)
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}, limits=limits) as r:
        waiting, go = threading.Event(), threading.Event()

        def slow(client: Client) -> int:
            tunnel(client)
            raw = post("/graphql", QUERY)
            client.send(raw[:-1])
            waiting.set()
            assert go.wait(10)
            client.send(raw[-1:])
            return client.response().status

        def second(client: Client) -> int:
            tunnel(client)
            while not r.plane.bodies.held:
                pass
            return client.request(post("/graphql", QUERY)).status

        first = asyncio.create_task(r.run(slow))
        await asyncio.to_thread(waiting.wait, 10)
        assert await r.run(second) == 503
        go.set()
        assert await first == 200
        assert r.plane.bodies.held == 0


async def test_pipelined_requests_keep_their_order_and_their_bodies(tls_upstream: Upstream) -> None:
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            tunnel(client)
            plain = b"GET /pub/x HTTP/1.1\r\nHost: api.test\r\n\r\n"
            client.send(
                post("/graphql", QUERY)
                + post("/graphql", MUTATION, chunks=3)
                + plain
                + post("/mcp", call("get_x"), chunks=4)
                + plain
            )
            return [client.response().status for _ in range(5)]

        assert await r.run(talk) == [200, 403, 200, 200, 200]
    assert [body for _, body in tls_upstream.requests] == [QUERY, b"", call("get_x"), b""]


async def test_audit_forwards_what_the_rules_refuse_and_says_so(tls_upstream: Upstream) -> None:
    async with rig(rules(enforcement="audit"), upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            tunnel(client)
            return [client.request(post("/graphql", body)).status for body in (MUTATION, b"{}")]

        assert await r.run(talk) == [200, 400]
    assert [body for _, body in tls_upstream.requests] == [MUTATION]
    assert (
        "HTTP:POST [MED] OBSERVED POST http://api.test:443/graphql [policy:api engine:l7-graphql]" in r.log.lines()[1]
    )
    assert "mutation Drop {deleteRepo}" in r.log.lines()[1]


async def test_mcp_streams_through_and_outlives_a_reload_that_still_allows_it() -> None:
    step = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await upstream.read_request(reader, writer)
        if head.startswith("DELETE"):
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"6\r\ndata: \r\n")
        await step.wait()
        writer.write(b"3\r\nend\r\n0\r\n\r\n")

    upstream = Upstream(stream)
    await upstream.start("api.test")

    async with rig(rules(), upstreams={("api.test", 443): upstream.address}) as r:
        reloaded = threading.Event()

        def reload(*now: Rule) -> None:
            r.set_policy(*now)
            reloaded.set()

        def ask(raw: bytes, then: tuple[Rule, ...]) -> Callable[[Client], tuple[int, bytes, bool]]:
            def talk(client: Client) -> tuple[int, bytes, bool]:
                tunnel(client)
                client.send(raw)
                status, _ = client.head()
                first = client.read(6 + 5)
                loop.call_soon_threadsafe(reload, *then)
                assert reloaded.wait(10)
                reloaded.clear()
                loop.call_soon_threadsafe(step.set)
                try:
                    rest_ = client.read(13)
                except OSError:
                    rest_ = b""
                return status, first, rest_.endswith(b"end\r\n0\r\n\r\n")

            return talk

        extended = rule("api", *rules().endpoints, rest("api.test", ("GET", "/new"), path="/new"))
        for raw in (post("/mcp", call("get_x")), b"GET /mcp HTTP/1.1\r\nHost: api.test\r\n\r\n"):
            for then, lives in ((extended, True), (rules(), True)):
                step.clear()
                assert await r.run(ask(raw, (then,))) == (200, b"6\r\ndata: \r\n", lives)
        step.clear()
        lists = rule("api", dataclasses.replace(mcp(), rules=(L7Match("tools/list"),)))
        status, first, finished = await r.run(ask(post("/mcp", call("get_x")), (lists,)))
        assert (status, first, finished) == (200, b"6\r\ndata: \r\n", False)
        assert any("grant revoked by policy reload: call tools/call name='get_x'" in line for line in r.log.lines())

        def end(client: Client) -> int:
            tunnel(client)
            client.send("DELETE /mcp HTTP/1.1\nHost: api.test\nMcp-Session-Id: s\n\n")
            return client.response("DELETE").status

        assert await r.run(end) == 204


async def test_a_policy_that_changes_while_the_body_arrives_is_the_one_that_judges(tls_upstream: Upstream) -> None:
    async with rig(rules(), upstreams={("api.test", 443): tls_upstream.address}) as r:
        loop, changed = asyncio.get_running_loop(), threading.Event()

        def change() -> None:
            r.set_policy(rule("api", dataclasses.replace(graphql(), rules=(L7Match(operation_type="mutation"),))))
            changed.set()

        def talk(client: Client) -> Response:
            tunnel(client)
            raw = post("/graphql", QUERY)
            client.send(raw[:-4])
            while not r.plane.bodies.held:
                pass
            loop.call_soon_threadsafe(change)
            assert changed.wait(10)
            client.send(raw[-4:])
            return client.response()

        answer = await r.run(talk)
    assert (answer.status, answer.json["failed_condition"]) == (403, "operation_not_allowed")
    assert tls_upstream.requests == []


async def test_a_client_that_leaves_in_the_middle_holds_nothing(door: Way) -> None:
    upstream = await upstream_of(door)
    async with rig(rules(door.port), upstreams={("api.test", door.port): upstream.address}) as r:

        def talk(client: Client) -> None:
            client.send(post(f"{door.prefix}/graphql", QUERY)[:-3])
            while not r.plane.bodies.held:
                pass

        await door.run(r, talk)
        async with asyncio.timeout(10):
            while r.plane.bodies.held:
                await asyncio.sleep(0)
    assert upstream.requests == []


@given(st.binary(max_size=300), st.data())
def test_what_is_collected_is_what_was_framed(body: bytes, data: st.DataObject) -> None:
    """However a body is cut into chunks and reads."""
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1))
    raw, at = b"", 0
    for size in sizes * (len(body) + 1):
        if at >= len(body):
            break
        piece = body[at : at + size]
        raw, at = raw + b"%x\r\n%s\r\n" % (len(piece), piece), at + size
    raw += b"0\r\n\r\n" + b"next"
    head = parse_request(CHUNKED, CHUNKED.index(b"\r\n\r\n"))
    budget = Budget(300)
    collected = Collected(head, len(body), budget)
    cuts = sorted({0, len(raw), *data.draw(st.lists(st.integers(0, len(raw))))})
    for start, stop in itertools.pairwise(cuts):
        end = collected.feed(raw[start:stop])
        if end >= 0:
            assert raw[start + end :] == b"next"
            break
    assert (collected.problem, budget.held) == ("", len(body))
    assert collected.take() == body
    assert budget.held == 0


def test_a_trailer_is_an_error_whatever_it_says() -> None:
    head = parse_request(CHUNKED, CHUNKED.index(b"\r\n\r\n"))
    with pytest.raises(MessageError, match="trailers"):
        Collected(head, 10).feed(b"0\r\nA: b\r\n\r\n")
