"""Absolute-form requests at the proxy's own address: the same rules as in a tunnel, one destination per request."""

from __future__ import annotations

import asyncio
import socket

import pytest

from pyopenshell.isolation.identity import Identity
from tests.supervisor.proxy.rig import Client, Response, Upstream, raw, rest, rig, rule

API = rule("api", rest("api.test", ("GET", "/pub/**"), port=80), raw("open.test", 8080))


def get(client: Client, url: str, extra: str = "", method: str = "GET") -> Response:
    return client.request(f"{method} {url} HTTP/1.1\nHost: whatever.test\n{extra}\n", method)


async def test_requests_are_judged_and_sent_in_origin_form(plain_upstream: Upstream) -> None:
    ups = {("api.test", 80): plain_upstream.address, ("open.test", 8080): plain_upstream.address}
    async with rig(API, upstreams=ups) as r:

        def talk(client: Client) -> list[Response]:
            return [
                get(
                    client,
                    "http://api.test/pub/x?k=s3cret",
                    "Proxy-Connection: keep-alive\nProxy-Authorization: Basic eA==\n",
                ),
                get(client, "http://api.test/no?k=s3cret"),
                get(client, "http://OPEN.test:8080/any/../thing"),
                get(client, "http://api.test/pub/y"),
                get(client, "http://blocked.test/?d=s3cret"),
            ]

        answers = await r.run(talk)
        assert [a.status for a in answers] == [200, 403, 200, 200, 403]
        head = plain_upstream.requests[0][0]
        assert head.startswith("GET /pub/x?k=s3cret HTTP/1.1\r\nHost: api.test\r\n")
        assert "Via: 1.1 openshell-sandbox" in head
        assert "whatever" not in head
        assert "roxy-" not in head
        assert "Host: open.test:8080" in plain_upstream.requests[1][0]
        lines = r.log.lines()
        assert lines[0] == (
            "HTTP:GET [INFO] ALLOWED /usr/bin/curl(64) -> GET http://api.test/pub/x [policy:api engine:l7]"
        )
        assert "engine:l7] [reason:FORWARD_L7 deny GET api.test:80/no reason=" in lines[1]
        assert lines[2].endswith("GET http://open.test:8080/any/../thing [policy:api engine:opa]")
        assert "[policy:- engine:opa]" in lines[4]
        assert len(lines) == len(r.log.decisions()) == 5
        assert "s3cret" not in repr(r.log.events) + repr(r.denials)
        assert [d.layer for d in r.denials] == ["l7", "l4"]
        assert (r.denials[1].stage, r.denials[1].host) == ("forward", "blocked.test")
        assert answers[4].json["detail"] == "GET blocked.test:80/ not permitted by policy"
        assert answers[4].json["failed_condition"] == "host_not_allowed"
        assert r.resolved == []


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("/origin/form", "bad_request"),
        ("*", "bad_request"),
        ("https://api.test/", "use_connect"),
        ("ftp://api.test/", "unsupported_proxy_scheme"),
        ("http://api.test@evil.test/", "bad_request"),
        ("http://user:pw@api.test/", "bad_request"),
        ("http:///x", "bad_request"),
        ("http://api.test:0/", "bad_request"),
        ("http://api.test:99999/", "bad_request"),
        ("http://api.test:80:80/", "bad_request"),
        ("http://api%2etest/", "bad_request"),
        ("http://api.test%00.evil.test/", "bad_request"),
        ("http://0x7f.1/", "bad_request"),
        ("http://2130706433/", "bad_request"),
        ("http://[::1%25eth0]/", "bad_request"),
        ("http://policy.local:8080/v1/x", "invalid_policy_local_scheme"),
        ("https://policy.local/v1/x", "invalid_policy_local_scheme"),
    ],
)
async def test_malformed_targets_are_400_with_one_line(target: str, error: str) -> None:
    async with rig(API) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            return get(client, target), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, answer.json["error"], closed) == (400, error, True)
        assert len(r.log.lines()) == 1
        assert r.log.lines()[0].startswith("NET:FAIL [LOW] [msg:Proxy connection error:")
        assert r.denials == []
        assert r.identifier.asked == 0


@pytest.mark.parametrize(
    "authority",
    [
        "api.test",
        "api.test:",
        "api.test:x",
        "api.test:+80",
        "api.test:0",
        ":443",
        "[::1",
        "a b:443",
        "api.test:443/",
        "http://api.test:443",
        "evil.test%00.api.test:443",
        "api.test\x7f:443",
        "127.1:443",
        "0177.0.0.1:443",
        "1.2.3.4.5:80",
        "-:1",
        "a..b:443",
    ],
)
async def test_malformed_connect_authorities(authority: str) -> None:
    async with rig(API) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            return client.request(f"CONNECT {authority} HTTP/1.1\nHost: x\n\n"), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, answer.json["error"], closed) == (400, "bad_request", True)
        assert len(r.log.lines()) == 1
        assert r.resolved == []


@pytest.mark.parametrize(
    "authority",
    ["allowed.test.evil.test:443", "evilapi.test:443", "140.82.114.4:443", "api.test:22", "[2606:4700::1]:443"],
)
async def test_connect_denials_are_structured(authority: str) -> None:
    policy = rule("w", raw("*.api.test"), raw("api.test"))
    async with rig(policy) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            return client.connect(authority), client.closed()

        answer, closed = await r.run(talk)
        assert (answer.status, closed) == (403, True)
        body = answer.json
        assert (body["error"], body["layer"], body["rule_missing"]["type"]) == ("policy_denied", "l4", "l4_allow")
        assert body["detail"] == f"CONNECT {authority} not permitted by policy"
        assert body["reason"]
        assert body["binary"] == "/usr/bin/curl"
        assert answer.headers["x-openshell-denial"] == r.denials[0].id
        assert "proxy-status" in answer.headers
        assert r.denials[0].stage == "connect"
        assert len(r.log.lines()) == 1
        assert r.log.lines()[0].startswith("NET:OPEN [MED] DENIED /usr/bin/curl(64) -> ")
        assert "[policy:- engine:opa]" in r.log.lines()[0]
        assert r.resolved == []


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [([], "policy_denied", "http_request_denied"), (["127.0.0.1"], "ssrf_denied", "destination_ip_prohibited")],
)
async def test_every_refusal_has_the_same_envelope_header_and_method(answers: list[str], error: str, said: str) -> None:
    """Plain HTTP at connection level: its own method, `Proxy-Status`, one id in body, header and log."""
    policy = rule("w", rest("inward.test", ("*", "/**"), port=80)) if answers else rule("w", raw("api.test"))
    async with rig(policy) as r:
        r.answers["inward.test"] = answers
        answer = await r.run(lambda client: get(client, "http://inward.test/x", method="PUT"))
        body = answer.json
        assert (answer.status, body["error"], body["method"], body["layer"]) == (403, error, "PUT", "l4")
        assert body["rule"] == "inward.test:80"
        assert body["denial_id"] == answer.headers["x-openshell-denial"] == r.denials[0].id
        assert answer.headers["proxy-status"] == f'openshell; error={said}; details="{body["denial_id"]}"'
        assert f"[denial:{body['denial_id']}]" in r.log.lines()[-1]


async def test_unknown_owner_is_denied_and_stays_denied() -> None:
    async with rig(API) as r:
        r.identifier.identity = None

        def talk(client: Client) -> list[Response]:
            return [get(client, "http://api.test/pub/x"), get(client, "http://api.test/pub/x")]

        answers = await r.run(talk)
        assert [a.status for a in answers] == [403, 403]
        assert answers[0].json["reason"] == "owner_ambiguous: ambiguous shared socket ownership"
        assert answers[0].json["failed_condition"] == "identity_unknown"
        assert "binary" not in answers[0].json
        assert not r.denials[0].proposable
        assert r.identifier.asked == 1


async def test_another_binary_is_denied(plain_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:
        r.identifier.identity = Identity(7, "/lib64/ld-linux-x86-64.so.2", ("/usr/bin/bash",))
        answer = await r.run(lambda client: get(client, "http://api.test/pub/x"))
        assert answer.json["failed_condition"] == "binary_not_allowed"
        assert answer.json["binary"] == "/lib64/ld-linux-x86-64.so.2"


async def test_head_denials_have_no_body(plain_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            return [
                get(client, "http://api.test/no", method="HEAD").status,
                get(client, "http://api.test/pub/x").status,
            ]

        assert await r.run(talk) == [403, 200]


async def test_pipelined_allowed_and_denied(plain_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            client.send(
                "GET http://api.test/pub/1 HTTP/1.1\nHost: a\n\nDELETE http://api.test/pub/2 HTTP/1.1\nHost: a\n\n"
                "GET http://blocked.test/ HTTP/1.1\nHost: a\n\nGET http://api.test/pub/3 HTTP/1.1\nHost: a\n\n"
            )
            return [client.response().status for _ in range(4)]

        assert await r.run(talk) == [200, 403, 403, 200]
        assert len(plain_upstream.requests) == 2


async def test_half_close_after_the_request_still_gets_the_answer(plain_upstream: Upstream) -> None:
    import socket

    async with rig(API, upstreams={("api.test", 80): plain_upstream.address}) as r:

        def talk(client: Client) -> tuple[int, bool]:
            client.send("GET http://api.test/pub/1 HTTP/1.1\nHost: a\n\n")
            client.socket.shutdown(socket.SHUT_WR)
            return client.response().status, client.closed()

        assert await r.run(talk) == (200, True)


async def test_bodies_of_connect_are_refused() -> None:
    async with rig(API) as r:
        raw_bytes = "CONNECT api.test:80 HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc"
        assert (await r.run(lambda client: client.request(raw_bytes))).status == 400


@pytest.mark.parametrize(("address", "step"), [("127.0.0.1:1", "connect")])
async def test_upstream_failures_name_their_step(address: str, step: str) -> None:
    policy = rule("p", rest("api.test", ("GET", "/**"), port=80), raw("raw.test", 81))
    async with rig(policy, upstreams={("api.test", 80): address, ("raw.test", 81): address}) as r:
        forward = await r.run(lambda client: get(client, "http://api.test/"))
        tunnel = await r.run(lambda client: client.connect("raw.test:81"))
        unresolved = await r.run(lambda client: get(client, "http://api.test/"))
        for answer in (forward, tunnel, unresolved):
            assert answer.status == 502
            assert (answer.json["error"], answer.json["step"]) == ("upstream_unreachable", step)
            assert "x-openshell-denial" not in answer.headers
            assert "next_steps" not in answer.json
            assert answer.headers["proxy-status"] == 'openshell; error=connection_refused; details="connect"'
        assert r.denials == []


async def test_a_name_without_address_is_a_failure_not_a_denial() -> None:
    async with rig(rule("p", rest("api.test", ("GET", "/**"), port=80), raw("raw.test", 81))) as r:
        forward = await r.run(lambda client: get(client, "http://api.test/"))
        tunnel = await r.run(lambda client: client.connect("raw.test:81"))
        for answer in (forward, tunnel):
            assert (answer.status, answer.json["step"]) == (502, "resolve")
        assert r.denials == []
        assert sum("NET:FAIL [LOW]" in line for line in r.log.lines()) == 2


@pytest.mark.parametrize("size", [12_000, 100_000, 600_000])
async def test_an_upload_that_overtakes_its_verdict_goes_on_over_a_connection_that_is_at_hand(
    plain_upstream: Upstream, size: int
) -> None:
    """More of the body than is kept arrives while the request waits for its admission, and nobody has to be dialled."""
    body = bytes(size)
    api = rule("api", rest("api.test", ("*", "/**"), port=80))
    async with rig(api, upstreams={("api.test", 80): plain_upstream.address}) as r:
        get = "GET http://api.test/ HTTP/1.1\nHost: api.test\nConnection: close\n\n"
        assert (await r.run(lambda c: c.request(get))).status == 200
        gate, asked, identify = asyncio.Event(), asyncio.Event(), r.identifier.identify

        async def later(accepted: socket.socket) -> Identity:
            asked.set()
            await gate.wait()
            return await identify(accepted)

        r.identifier.identify = later  # type: ignore[method-assign]
        reader, writer = await asyncio.open_connection(*r.address)
        head = b"POST http://api.test/ HTTP/1.1\r\nHost: api.test\r\nContent-Length: %d\r\n\r\n" % size
        writer.write(head + body[:9000])
        async with asyncio.timeout(60):
            await asked.wait()
            writer.write(body[9000 : size - 1])
            while all(side.reading for side in r.plane._sides):
                await asyncio.sleep(0)
            gate.set()
            writer.write(body[size - 1 :])
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert plain_upstream.connections == 1
        assert len(plain_upstream.requests[-1][1]) == size
        writer.close()
