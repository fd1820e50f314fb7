"""CONNECT tunnels with inspected requests: allowed, refused, canonical, in order, and never by another name."""

from __future__ import annotations

import asyncio

import pytest

from pyopenshell.audit.events import Action, HttpEvent
from pyopenshell.supervisor.proxy import Limits
from tests.supervisor.proxy.rig import Client, Response, Upstream, raw, rest, rig, rule

API = rule("api", rest("api.test", ("GET", "/pub/**"), ("POST", "/pub/**"), ("HEAD", "/pub/**")))


def opened(client: Client) -> Client:
    assert client.connect("api.test:443").status == 200
    client.tls("api.test")
    return client


def get(client: Client, path: str, method: str = "GET", extra: str = "") -> Response:
    return client.request(f"{method} {path} HTTP/1.1\nHost: api.test\n{extra}\n", method)


async def test_allowed_and_denied_requests_share_one_connection(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> list[Response]:
            opened(client)
            return [get(client, "/pub/a?token=s3cret"), get(client, "/private?x=1"), get(client, "/pub/b")]

        first, denied, third = await r.run(talk)
        assert first.status == third.status == 200
        assert first.json["request"] == "GET /pub/a?token=s3cret HTTP/1.1"
        assert denied.status == 403
        assert "connection" not in denied.headers
        assert denied.headers["x-openshell-denial"] == denied.json["denial_id"] == r.denials[0].id
        assert denied.headers["x-openshell-policy"] == "api"
        body = denied.json
        assert (body["error"], body["layer"], body["host"], body["port"]) == ("policy_denied", "l7", "api.test", 443)
        assert (body["method"], body["path"], body["binary"]) == ("GET", "/private", "/usr/bin/curl")
        assert body["rule_missing"]["type"] == "rest_allow"
        assert body["next_steps"] == []
        assert len(tls_upstream.requests) == 2
        assert tls_upstream.connections == 1
        assert r.log.lines() == [
            "NET:OPEN [INFO] ALLOWED /usr/bin/curl(64) -> api.test:443 [policy:api engine:opa]",
            "HTTP:GET [INFO] ALLOWED GET http://api.test:443/pub/a [policy:api engine:l7]",
            "HTTP:GET [MED] DENIED GET http://api.test:443/private [policy:api engine:l7] "
            "[reason:L7_REQUEST deny GET api.test:443/private reason=GET /private not permitted by policy] "
            f"[denial:{r.denials[0].id}]",
            "HTTP:GET [INFO] ALLOWED GET http://api.test:443/pub/b [policy:api engine:l7]",
        ]
        assert r.identifier.asked == 1
        assert "s3cret" not in repr(r.log.events)
        assert r.resolved == []


async def test_next_steps_follow_the_setting(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        r.current.proposals_enabled = True
        denied = await r.run(lambda client: get(opened(client), "/private"))
        assert denied.json["next_steps"][0]["action"] == "read_skill"
        assert "agent_guidance" in denied.json


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/pub/x/../y", "/pub/y"),
        ("/pub//y", "/pub/y"),
        ("/%70ub/y", "/pub/y"),
        ("/pub/./y?a=/../b", "/pub/y?a=/../b"),
        ("/private/../pub/y", "/pub/y"),
        ("/pub/y;v=1", "/pub/y"),
    ],
)
async def test_the_judged_path_is_the_one_that_is_sent(tls_upstream: Upstream, path: str, sent: str) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        answer = await r.run(lambda client: get(opened(client), path))
        assert answer.status == 200
        assert answer.json["request"] == f"GET {sent} HTTP/1.1"
        event = r.log.decisions()[-1]
        assert isinstance(event, HttpEvent)
        assert event.path == sent.partition("?")[0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pub/../private", 403),
        ("/pub/%2e%2e/private", 403),
        ("/pub/%2E./private", 403),
        ("/pub/..;/private", 403),
        ("//private", 403),
        ("/PUB/x", 403),
        ("/../pub/x", 400),
        ("/pub/a%2Fb", 400),
        ("/pub/%00", 400),
        ("/pub/%zz", 400),
        ("/pub/a#b", 400),
        ("*", 400),
    ],
)
async def test_ways_around_a_path_rule(tls_upstream: Upstream, path: str, status: int) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        answer = await r.run(lambda client: get(opened(client), path))
        assert answer.status == status
        assert answer.json["error"] == ("policy_denied" if status == 403 else "invalid_request_target")
        assert tls_upstream.requests == []
        assert len(r.log.decisions()) == 2
        assert len(r.denials) == 1


async def test_encoded_slash_only_where_the_endpoint_opts_in(tls_upstream: Upstream) -> None:
    slashes = rule("s", rest("api.test", ("GET", "/pub/*"), allow_encoded_slash=True))
    async with rig(slashes, upstreams={("api.test", 443): tls_upstream.address}) as r:
        answer = await r.run(lambda client: get(opened(client), "/pub/a%2fb"))
        assert answer.json["request"] == "GET /pub/a%2Fb HTTP/1.1"


async def test_pipelined_requests_are_judged_one_by_one(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            opened(client)
            parts = [
                "GET /pub/1 HTTP/1.1\nHost: api.test\n\n",
                "DELETE /pub/2 HTTP/1.1\nHost: api.test\n\n",
                "POST /pub/3 HTTP/1.1\nHost: api.test\nContent-Length: 3\n\nabc",
                "POST /no/4 HTTP/1.1\nHost: api.test\nContent-Length: 3\n\nabc",
                "GET /pub/5 HTTP/1.1\nHost: api.test\n\n",
            ]
            client.send("".join(parts))
            return [client.response().status for _ in parts]

        assert await r.run(talk) == [200, 403, 200, 403, 200]
        assert [head.split()[1] for head, _ in tls_upstream.requests] == ["/pub/1", "/pub/3", "/pub/5"]
        assert len(r.log.decisions()) == 6


async def test_many_pipelined_denials_do_not_recurse(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        count = 3000

        def talk(client: Client) -> list[int]:
            opened(client)
            client.send("GET /no HTTP/1.1\nHost: api.test\n\n" * count)
            return [client.response().status for _ in range(count)]

        assert set(await r.run(talk)) == {403}
        assert len(r.denials) == count


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /pub/x HTTP/1.1\nHost: other.test\n\n",
        "GET /pub/x HTTP/1.1\nHost: api.test:8443\n\n",
        "GET /pub/x HTTP/1.1\nHost: api.test@other.test\n\n",
        "GET /pub/x HTTP/1.1\nHost:\n\n",
        "GET http://other.test/pub/x HTTP/1.1\nHost: api.test\n\n",
        "GET http://other.test/pub/x HTTP/1.1\nHost: other.test\n\n",
        "GET http://api.test/pub/x HTTP/1.1\nHost: api.test\n\n",
        "GET https://api.test/pub/x HTTP/1.1\nHost: other.test\n\n",
        "CONNECT other.test:443 HTTP/1.1\nHost: other.test:443\n\n",
    ],
)
async def test_a_request_for_another_authority_is_refused(tls_upstream: Upstream, request_text: str) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            return opened(client).request(request_text), client.closed()

        answer, closed = await r.run(talk)
        assert answer.status == 403
        assert answer.json["error"] == "request_authority_mismatch"
        assert closed
        assert tls_upstream.requests == []
        assert len(r.log.decisions()) == 2
        assert [f.uid for f in r.log.findings()] == ["openshell.http.request_authority_mismatch"]


@pytest.mark.parametrize("host", ["API.test", "api.test:443", "api.test."])
async def test_other_spellings_of_the_same_authority_are_fine(tls_upstream: Upstream, host: str) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            opened(client)
            plain = client.request(f"GET /pub/x HTTP/1.1\nHost: {host}\n\n").status
            return [plain, client.request(f"GET https://{host}/pub/x HTTP/1.1\nHost: {host}\n\n").status]

        assert await r.run(talk) == [200, 200]
        assert tls_upstream.requests[1][0].startswith("GET /pub/x HTTP/1.1\r\n")


async def test_http10_without_host_gets_the_tunnel_s_host(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> tuple[int, bool]:
            return opened(client).request("GET /pub/x HTTP/1.0\n\n").status, client.closed()

        assert await r.run(talk) == (200, True)
        assert "Host: api.test" in tls_upstream.requests[0][0]


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c", "websocket"])
async def test_upgrades_are_refused(tls_upstream: Upstream, upgrade: str) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        extra = f"Connection: Upgrade, HTTP2-Settings\nUpgrade: {upgrade}\nHTTP2-Settings: AAMAAABk\n"
        answer = await r.run(lambda client: get(opened(client), "/pub/x", extra=extra))
        assert answer.status == 403
        assert answer.json["error"] == "unsupported_l7_protocol"
        assert tls_upstream.requests == []


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X_HTTP_METHOD_OVERRIDE", "x-http_method", "X_Method-Override"]
)
async def test_method_override_needs_both_rights(tls_upstream: Upstream, name: str) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> list[Response]:
            opened(client)
            return [
                get(client, "/pub/x", "POST", f"{name}: delete\nContent-Length: 0\n"),
                get(client, "/pub/x", "POST", f"{name}: GET\nContent-Length: 0\n"),
            ]

        denied, allowed = await r.run(talk)
        assert (denied.status, denied.json["method"], allowed.status) == (403, "DELETE", 200)


@pytest.mark.parametrize("name", ["X-Original-URL", "x_original_url", "X-Rewrite-URL", "X_Rewrite-Url"])
async def test_a_second_path_is_never_forwarded(tls_upstream: Upstream, name: str) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> list[Response]:
            opened(client)
            return [get(client, "/pub/x", extra=f"{name}: /admin\n"), get(client, "/pub/y")]

        refused, allowed = await r.run(talk)
        assert (refused.status, refused.json["error"], allowed.status) == (400, "invalid_request_target", 200)
        assert refused.json["next_steps"] == []
        assert [head.split()[1] for head, _ in tls_upstream.requests] == ["/pub/y"]


async def test_brackets_of_a_path_cannot_imitate_log_fields(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        for path in ("/pub/%00][policy:fake", "/no][policy:fake"):
            await r.run(lambda client, path=path: get(opened(client), path))  # type: ignore[misc]
        for line in r.log.lines()[1::2]:
            assert "policy:fake" in line
            assert "][policy:" not in line
            assert line.count("[policy:") == 1


async def test_a_connection_inside_tls_ends_at_once_and_cleanly_after_a_400(tls_upstream: Upstream) -> None:
    slow = Limits(linger_seconds=60)
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}, limits=slow) as r:

        def talk(client: Client) -> tuple[int, bytes]:
            opened(client)
            client.send(b"GET / HTTP/9\r\n\r\n" + b"x" * 300_000)
            # The rig's sockets give up after 10 s, and an end without close_notify raises here.
            return client.response().status, client.socket.recv(1)

        assert await r.run(talk) == (400, b"")


async def test_server_name_must_be_the_admitted_host(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> None:
            client.connect("api.test:443")
            with pytest.raises(OSError, match=r"(?i)unrecognized.name"):
                client.tls("api.test", sni="other.test", verify=False)

        await r.run(talk)
        assert r.denials[0].error == "unsupported_l7_protocol"
        assert r.denials[0].stage == "connect-l7-parse-rejection"
        assert len(r.log.decisions()) == 2


@pytest.mark.parametrize(
    "first", [b"SSH-2.0-OpenSSH_9.6\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00\x01", b"get / HTTP/1.1\r\n"]
)
async def test_what_cannot_be_inspected_is_refused(tls_upstream: Upstream, first: bytes) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            client.connect("api.test:443")
            return client.request(first), client.closed()

        answer, closed = await r.run(talk)
        assert answer.status == 403
        assert answer.json["error"] == "unsupported_l7_protocol"
        assert closed
        assert tls_upstream.connections == 0


async def test_plain_http_in_a_tunnel_is_judged_too(plain_upstream: Upstream) -> None:
    api = rule("api", rest("api.test", ("GET", "/pub/**"), port=80))
    async with rig(api, upstreams={("api.test", 80): plain_upstream.address}) as r:

        def talk(client: Client) -> list[int]:
            client.connect("api.test:80")
            return [get(client, "/pub/x").status, get(client, "/no").status]

        assert await r.run(talk) == [200, 403]


async def test_bytes_sent_together_with_connect_are_not_lost(tls_upstream: Upstream, plain_upstream: Upstream) -> None:
    api = rule("api", rest("api.test", ("GET", "/pub/**"), port=80), raw("raw.test", 81))
    ups = {("api.test", 80): plain_upstream.address, ("raw.test", 81): plain_upstream.address}
    async with rig(api, upstreams=ups) as r:

        def talk(client: Client, authority: str) -> int:
            client.send(f"CONNECT {authority} HTTP/1.1\nHost: x\n\nGET /pub/x HTTP/1.1\nHost: {authority}\n\n")
            assert client.response("CONNECT").status == 200
            return client.response().status

        assert await r.run(lambda client: talk(client, "api.test:80")) == 200
        assert await r.run(lambda client: talk(client, "raw.test:81")) == 200


async def test_a_client_hello_in_pieces(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        reader, writer = await asyncio.open_connection(*r.address)
        writer.write(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        import ssl

        from tests.supervisor.proxy.rig import SANDBOX_CA

        context = ssl.create_default_context(cadata=SANDBOX_CA.ca_pem)
        inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(inward, outward, server_hostname="api.test")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outward.read():
                    writer.write(bytes([byte]))
                    await writer.drain()
                inward.write(await reader.read(65536))
        tls.write(b"GET /pub/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
        writer.write(outward.read())
        while True:
            inward.write(await reader.read(65536))
            try:
                assert tls.read(65536).startswith(b"HTTP/1.1 200")
                break
            except ssl.SSLWantReadError:
                continue
        writer.close()


async def test_audit_endpoints_forward_and_say_so(tls_upstream: Upstream) -> None:
    api = rule("api", rest("api.test", ("GET", "/pub/**"), enforcement="audit"))
    async with rig(api, upstreams={("api.test", 443): tls_upstream.address}) as r:
        answer = await r.run(lambda client: get(opened(client), "/other?q=secret"))
        assert answer.status == 200
        event = r.log.decisions()[-1]
        assert isinstance(event, HttpEvent)
        assert event.audit
        assert event.action is Action.OBSERVED
        assert "secret" not in repr(r.log.events)
        assert r.denials == []
