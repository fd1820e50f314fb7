"""Attacks of class B (and what of A, C and F comes through a request), each by every way in which HTTP can be spoken.

Every one is checked three ways: nothing arrives at the server, the log has it, the client is told in its own protocol.
`tests/test_attack_table.py` says which class is tested where.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import Any

import pytest
from wsproto.frame_protocol import Opcode

from pyopenshell.isolation.identity import Identity
from pyopenshell.policy.engine import compile as compile_policy
from pyopenshell.policy.model import L7Match, Policy, QueryMatcher, Rule
from tests.attacks import AMBIGUOUS
from tests.supervisor.proxy.certificates import Issuer, serving
from tests.supervisor.proxy.rig import CURL, Client, Response, Rig, Upstream, raw, rest, rule
from tests.supervisor.proxy.test_tls import Counting
from tests.supervisor.proxy.test_websocket import Server, WebClient, handshake
from tests.supervisor.proxy.ways import WAYS, Way

LAST = "Connection: close\n"


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


def api(way: Way, **more: Any) -> Rule:
    secret = L7Match("GET", "/pub/secret/**")
    endpoint = rest("api.test", ("GET", "/pub/**"), ("POST", "/pub/**"), port=way.port, deny_rules=(secret,), **more)
    return rule("api", endpoint)


def request(way: Way, method: str, path: str, fields: str = "", host: str = "api.test") -> bytes:
    at = way.prefix.replace("api.test", host)
    return f"{method} {at}{path} HTTP/1.1\nHost: {host}\n{fields}\n".replace("\n", "\r\n").encode()


def told(r: Rig, answer: Response) -> None:
    """The refusal has one id: in the body, in the header, in the log and in what is reported."""
    denial = answer.json["denial_id"]
    assert answer.headers["x-openshell-denial"] == denial
    assert [d.id for d in r.denials].count(denial) == 1
    assert sum(f"[denial:{denial}]" in line for line in r.log.lines()) == 1


async def refused(way: Way, r: Rig, upstream: Upstream, payload: bytes, status: int, error: str) -> Response:
    """One request that must not arrive."""
    before = len(upstream.requests)
    method = payload.split(b" ", 1)[0].decode()
    answer: Response = await way.run(r, lambda client: client.request(payload, method))
    assert answer.status == status, (payload, answer)
    if method != "HEAD":
        assert answer.json["error"] == error, (payload, answer)
        told(r, answer)
    assert len(upstream.requests) == before
    return answer


async def get(way: Way, r: Rig, target: str) -> int:
    answer: Response = await way.run(r, lambda client: client.request(request(way, "GET", target)))
    return answer.status


TARGETS = {
    "/pub/../private": (403, "policy_denied"),
    "/pub/%2e%2e/private": (403, "policy_denied"),
    "/pub//../../private": (400, "invalid_request_target"),
    "/pub/..;/private": (403, "policy_denied"),
    "/pub/%73ecret/x": (403, "policy_denied"),
    "/pub//secret/x": (403, "policy_denied"),
    "/pub/x/../secret/y": (403, "policy_denied"),
    "/pub/secret;a/x": (403, "policy_denied"),
    "/pub/..%2fprivate": (400, "invalid_request_target"),
    "/pub/..%5cprivate": (400, "invalid_request_target"),
    "/pub/%00": (400, "invalid_request_target"),
    "/pub/%zz": (400, "invalid_request_target"),
}


async def test_b1_what_is_judged_is_what_is_sent(way: Way) -> None:
    upstream = await way.start(Upstream())
    async with way.rig(upstream, api(way)) as r:
        for target, (status, error) in TARGETS.items():
            await refused(way, r, upstream, request(way, "GET", target), status, error)
        for target in ("/pub/./a", "/pub/b/../a", "/pub//a", "/pub/%61"):
            assert await get(way, r, target) == 200
        assert [head.split()[1] for head, _ in upstream.requests] == ["/pub/a"] * 4


async def test_b2_an_encoded_slash_opens_one_endpoint_and_no_other(way: Way) -> None:
    upstream = await way.start(Upstream())
    opted = rest("api.test", ("GET", "/enc/**"), port=way.port, path="/enc/**", allow_encoded_slash=True)
    other = rest("api.test", ("GET", "/pub/**"), port=way.port, path="/pub/**")
    async with way.rig(upstream, rule("api", opted, other)) as r:
        for target in ("/pub/a%2fb", "/pub/a%2Fb"):
            await refused(way, r, upstream, request(way, "GET", target), 403, "policy_denied")
        for target in ("/enc/..%2f..%2fprivate", "/enc/%2e%2e%2fpub%2fx"):
            await refused(way, r, upstream, request(way, "GET", target), 400, "invalid_request_target")
        assert (await way.run(r, lambda c: c.request(request(way, "GET", "/enc/a%2fb")))).status == 200
        assert [head.split()[1] for head, _ in upstream.requests] == ["/enc/a%2Fb"]


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_b3_framing_with_two_readings_is_400_and_the_end(way: Way, name: str) -> None:
    upstream = await way.start(Upstream())
    fields, body = AMBIGUOUS[name]
    head = request(way, "POST", "/pub/x").removesuffix(b"\r\n")
    async with way.rig(upstream, api(way)) as r:

        def talk(client: Client) -> tuple[Response, bool]:
            client.send(head + fields + b"\r\n" + body + request(way, "GET", "/pub/smuggled", LAST))
            return client.response(), client.closed()

        answer, closed = await way.run(r, talk)
        assert (answer.status, answer.json["error"], closed) == (400, "bad_request", True)
        line = "Proxy connection error: " if way.name == "forward" else "HTTP request rejected before policy evaluation"
        assert sum(line in one for one in r.log.lines()) == 1, r.log.lines()
    assert upstream.requests == []


async def test_b4_each_pipelined_request_is_judged_on_its_own(way: Way) -> None:
    upstream = await way.start(Upstream())
    first = request(way, "GET", "/pub/first")
    seconds = {
        "verb": request(way, "DELETE", "/pub/second", LAST),
        "path": request(way, "GET", "/private", LAST),
        "denied": request(way, "GET", "/pub/secret/x", LAST),
    }
    async with way.rig(upstream, api(way)) as r:
        for second in seconds.values():

            def talk(client: Client, second: bytes = second) -> tuple[Response, Response]:
                client.send(first + second)
                return client.response(), client.response()

            one, two = await way.run(r, talk)
            assert (one.status, two.status, two.json["error"]) == (200, 403, "policy_denied")
            told(r, two)
        hidden = request(way, "GET", "/pub/hidden")
        carrier = request(way, "POST", "/pub/carrier", f"Content-Length: {len(hidden)}\n") + hidden
        assert (await way.run(r, lambda c: c.request(carrier))).status == 200
    assert [head.split()[1] for head, _ in upstream.requests] == ["/pub/first"] * 3 + ["/pub/carrier"]


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c", "h2c, websocket", "tls/1.0", "websocket/13", "TLS/1.2"])
async def test_b5_an_upgrade_out_of_what_is_inspected_is_refused(way: Way, upgrade: str) -> None:
    upstream = await way.start(Upstream())
    async with way.rig(upstream, api(way)) as r:
        fields = f"Connection: Upgrade, HTTP2-Settings\nUpgrade: {upgrade}\nHTTP2-Settings: AAMAAABk\n"
        answer = await refused(way, r, upstream, request(way, "GET", "/pub/x", fields), 403, "unsupported_l7_protocol")
        assert answer.json["failed_condition"] == "unsupported_protocol"
        assert answer.json["rule_missing"]["type"] == "none"


@pytest.mark.parametrize("status", ["200 OK", "101 Switching Protocols"])
async def test_b6_no_answer_but_a_proven_101_leaves_http(way: Way, status: str) -> None:
    """The client says Upgrade and goes on at once; what it sends behind is never passed on unread."""
    got: list[bytes] = []

    async def lax(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n" if "101" in status else "Content-Length: 0\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{upgrade}\r\n".encode())
        while data := await reader.read(65536):
            got.append(data)

    upstream = await way.start(Upstream(lax))
    async with way.rig(upstream, api(way)) as r:
        shake = handshake("/pub/ws").replace("GET /", f"GET {way.prefix}/")

        def talk(client: Client) -> int:
            client.send(shake.replace("\n", "\r\n").encode() + request(way, "DELETE", "/private"))
            return client.head()[0]

        assert await way.run(r, talk) == (502 if "101" in status else 200)
    assert b"DELETE" not in b"".join(got)


@pytest.mark.parametrize(
    "named", ["evil.test", "api.test.evil.test", "api.test@evil.test", "api.test:8443", "127.0.0.1", "", "api.test:0"]
)
async def test_b7_b9_a_request_names_the_host_that_was_admitted(way: Way, named: str) -> None:
    """Fronting by `Host`, and by an absolute target. At the forward door the target is what is asked for: another
    name is another destination, and `Host` says nothing."""
    upstream = await way.start(Upstream())
    scheme = "https" if way.tls else "http"
    async with way.rig(upstream, api(way)) as r:
        before = len(upstream.requests)
        absolute = f"GET {scheme}://{named}/pub/x HTTP/1.1\r\nHost: {named}\r\n\r\n".encode()
        if way.name == "forward":
            answer: Response = await way.run(r, lambda c: c.request(absolute))
            assert answer.status in (400, 403), answer
            answer = await way.run(
                r, lambda c: c.request(request(way, "GET", "/pub/x").replace(b"Host: api", b"Host: e"))
            )
            assert answer.status == 200
            assert "\r\nHost: api.test" in upstream.requests[-1][0]
        else:
            for payload in (request(way, "GET", "/pub/x", host=named), absolute):
                answer = await refused(way, r, upstream, payload, 403, "request_authority_mismatch")
                assert r.log.findings()[-1].uid == "openshell.http.request_authority_mismatch"
            assert len(upstream.requests) == before


EMPTY: dict[str, tuple[Rule, ...]] = {
    "no policy": (),
    "no endpoints": (Rule("api", (), ("/usr/bin/curl",)),),
    "no binaries": (Rule("api", (raw("api.test", 80), raw("api.test", 443)), ()),),
    "no port": (rule("api", dataclasses.replace(raw("api.test"), ports=())),),
    "no rules": (rule("api", rest("api.test", port=80), rest("api.test", port=443)),),
    "an empty rule": (rule("api", rest("api.test", ("", ""), port=80), rest("api.test", ("", ""), port=443)),),
}


@pytest.mark.parametrize("empty", EMPTY)
async def test_b12_empty_never_means_everything(way: Way, empty: str) -> None:
    """Policies that no file can say, because loading refuses them; built by hand they open nothing either."""
    upstream = await way.start(Upstream())
    async with way.rig(upstream, engine=compile_policy(Policy(rules=EMPTY[empty]))) as r:
        inspected = ("rule" in empty and "rules" in empty) or empty == "an empty rule"

        def talk(client: Client) -> tuple[int, bytes]:
            if inspected or way.name in ("forward", "capture"):
                if inspected:
                    way.enter(client)
                answer = client.request(request(way, "GET", "/pub/x"))
                return answer.status, answer.body
            if way.name.startswith("connect"):
                answer = client.connect(f"api.test:{way.port}")
                return answer.status, answer.body
            if way.name.startswith("socks"):
                client.send(b"\5\1\0\5\1\0\3\x08api.test" + way.port.to_bytes(2, "big"))
                return (403, b"") if client.read(12)[2:4] == b"\5\2" else (0, b"")
            with pytest.raises(OSError, match="ACCESS_DENIED"):
                client.tls("api.test")
            return 403, b""

        if way.name.startswith("capture"):
            r.going_to("api.test", way.port)
        status, _ = await r.run(talk, r.captured if way.name.startswith("capture") else r.address)
        assert status == 403
        assert len(r.denials) == 1
        assert sum("DENIED" in line for line in r.log.lines()) == 1
    assert upstream.connections == 0


METHODS = {
    "HEAD where GET is denied": ("HEAD", "/pub/secret/x", "", 403, ""),
    "TRACE": ("TRACE", "/pub/x", "", 403, "policy_denied"),
    "OPTIONS": ("OPTIONS", "/pub/x", "", 403, "policy_denied"),
    "an invented verb": ("GETT", "/pub/x", "", 403, "policy_denied"),
    "an override": ("POST", "/pub/x", "Content-Length: 0\nX-HTTP-Method-Override: DELETE\n", 403, "policy_denied"),
    "an override with underscores": (
        "POST",
        "/pub/x",
        "Content-Length: 0\nX_HTTP_Method: DELETE\n",
        403,
        "policy_denied",
    ),
    "another path in a header": ("GET", "/pub/x", "X-Original-URL: /private\n", 400, "invalid_request_target"),
    "another path with underscores": ("GET", "/pub/x", "X_Rewrite_Url: /private\n", 400, "invalid_request_target"),
}


@pytest.mark.parametrize("game", METHODS)
async def test_b15_method_games(way: Way, game: str) -> None:
    method, path, fields, status, error = METHODS[game]
    upstream = await way.start(Upstream())
    async with way.rig(upstream, api(way)) as r:
        await refused(way, r, upstream, request(way, method, path, fields), status, error)
        assert len(r.denials) == 1


async def test_b16_query_games(way: Way) -> None:
    upstream = await way.start(Upstream())
    good = L7Match("GET", "/s", (("q", QueryMatcher(("a b",))),))
    evil = L7Match("GET", "/d", (("q", QueryMatcher(("evil",))),))
    endpoint = dataclasses.replace(rest("api.test", ("GET", "/d"), port=way.port), deny_rules=(evil,))
    endpoint = dataclasses.replace(endpoint, rules=(*endpoint.rules, good))
    async with way.rig(upstream, rule("api", endpoint)) as r:
        for target in (
            "/s",
            "/s?q",
            "/s?q=",
            "/s?Q=a+b",
            "/s?q=a+b&q=evil",
            "/s?q=evil&q=a+b",
            "/s?q=a+b&%71=evil",
            "/s?q[]=a+b",
            "/d?q=evil",
            "/d?x=1&q=evil",
            "/d?%71=%65vil",
            "/d?q=ok&q=evil",
        ):
            await refused(way, r, upstream, request(way, "GET", target), 403, "policy_denied")
        assert not any("evil" in line for line in r.log.lines()), "no query stands in the log"
        for target in ("/s?q=a+b", "/s?q=a%20b", "/d?q=EVIL", "/d?Q=evil"):
            assert await get(way, r, target) == 200, target
        # What the server reads is what was judged: the query's bytes as they came.
        assert [head.split()[1] for head, _ in upstream.requests] == [
            "/s?q=a+b",
            "/s?q=a%20b",
            "/d?q=EVIL",
            "/d?Q=evil",
        ]


@pytest.mark.parametrize("dodge", ["text", "fragments", "binary", "compressed", "unmasked", "continuation"])
async def test_b17_no_framing_of_messages_dodges_the_rules(way: Way, dodge: str) -> None:
    server = Server()
    await way.start(server)
    listen = rule("api", rest("api.test", ("GET", "/pub/**"), port=way.port))
    async with way.rig(server, listen) as r:
        extension = "Sec-WebSocket-Extensions: permessage-deflate\n"
        shake = handshake("/pub/ws", extra=extension).replace("GET /", f"GET {way.prefix}/")

        def talk(client: Client) -> tuple[int, str]:
            answer = client.request(shake)
            assert answer.status == 101
            assert "sec-websocket-extensions" not in answer.headers
            web = WebClient(client)
            if dodge == "text":
                web.text("secret")
            elif dodge == "fragments":
                web.text("sec", fin=False)
                web.send(web.protocol.ping())
                assert web.next()[0] is Opcode.PONG
                web.text("ret")
            elif dodge == "binary":
                web.binary(b"sec", fin=False)
            elif dodge == "compressed":
                web.send(b"\xc1\x86\0\0\0\0secret")
            elif dodge == "unmasked":
                web.send(b"\x81\x06secret")
            else:
                web.send(b"\x80\x86\0\0\0\0secret")
            return web.closed()

        code, reason = await way.run(r, talk)
        await asyncio.wait_for(server.gone.wait(), 60)
        assert server.heard == []
        assert "Extensions" not in server.head
        if dodge in ("text", "fragments", "binary"):
            (denial,) = r.denials
            assert (code, denial.method) == (1008, "WEBSOCKET_TEXT")
            assert denial.id in reason
            assert any("DENIED" in line and f"[denial:{denial.id}]" in line for line in r.log.lines())
        else:
            assert (code, r.denials) == (1002, [])
            assert any("WebSocket: malformed frame" in line for line in r.log.lines())


async def test_b19_a_redirect_or_a_hint_leads_nowhere_new(way: Way) -> None:
    """The client that follows asks anew, by the same way, and hears a verdict of its own; hints at other servers and
    protocols are taken away."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await upstream.read_request(reader, writer)
            writer.write(
                b'HTTP/1.1 302 Found\r\nLocation: https://evil.test/x\r\nAlt-Svc: h3="evil.test:443"; ma=9\r\n'
                b"alt-svc: clear\r\nContent-Length: 0\r\n\r\n"
            )

    upstream = await way.start(Upstream(redirect))
    async with way.rig(upstream, api(way)) as r:
        answer: Response = await way.run(r, lambda c: c.request(request(way, "GET", "/pub/x")))
        assert (answer.status, answer.headers["location"]) == (302, "https://evil.test/x")
        assert "alt-svc" not in answer.headers
        evil = dataclasses.replace(way, host="evil.test")

        def follow(client: Client) -> bytes:
            if way.name.startswith("connect"):
                client.send(f"CONNECT evil.test:{way.port} HTTP/1.1\nHost: x\n\n")
            elif way.name.startswith("socks"):
                client.send(b"\5\1\0\5\1\0\3\x09evil.test" + way.port.to_bytes(2, "big"))
                return client.read(12)[2:]
            elif way.name == "capture-tls":
                with pytest.raises(OSError, match="ACCESS_DENIED"):
                    client.tls("evil.test")
                return b" 403 "
            else:
                client.send(request(evil, "GET", "/x", host="evil.test"))
            return client.receive()

        if way.name.startswith("capture"):
            r.going_to("evil.test", way.port)
        said = await r.run(follow, r.captured if way.name.startswith("capture") else r.address)
        assert b" 403 " in said or said[:2] == b"\5\2", said
        (denial,) = r.denials
        assert (denial.host, denial.condition) == ("evil.test", "host_not_allowed")
        assert r.resolved == [], "nobody was asked where that is"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("flaw", ["expired", "another host", "self-signed", "no TLS"])
@pytest.mark.parametrize("way", [way for way in WAYS if way.tls], ids=lambda way: way.name)
async def test_b22_a_bad_certificate_is_never_signed_over(way: Way, flaw: str) -> None:
    root = Issuer("Root")
    leaves = {
        "expired": lambda: Issuer("x", root, ca=False, days=(-9, -2)),
        "another host": lambda: Issuer("x", root, ca=False, host="other.test"),
        "self-signed": lambda: Issuer("x", ca=False),
    }

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    upstream = Counting(serving(leaves[flaw]())) if flaw in leaves else Upstream(plain)
    await upstream.start("api.test" if flaw in leaves else None)
    async with way.rig(upstream, api(way), ca_pem=root.pem.decode()) as r:

        def talk(client: Client) -> Response:
            return client.request(request(way, "GET", "/pub/x"))

        answer = await way.run(r, talk)
        assert (answer.status, answer.json["error"], answer.json["step"]) == (502, "upstream_tls_failed", "tls")
        assert "x-openshell-denial" not in answer.headers, "policy refused nothing"
        assert any("NET:FAIL [LOW] /usr/bin/curl(64) -> api.test:443" in line for line in r.log.lines())
        assert r.denials == []
    assert upstream.requests == []


@pytest.mark.parametrize("who", [None, Identity(9, "/tmp/curl", ("/usr/bin/bash",), "cd" * 32)])
async def test_f_whoever_is_not_certainly_an_allowed_program_gets_nothing(way: Way, who: Identity | None) -> None:
    upstream = await way.start(Upstream())
    async with way.rig(upstream, api(way)) as r:
        r.identifier.identity = who
        evil = dataclasses.replace(way, open=lambda *_: None)
        assert who != CURL

        def talk(client: Client) -> bytes:
            if way.name.startswith("connect"):
                client.send(f"CONNECT api.test:{way.port} HTTP/1.1\nHost: x\n\n")
            elif way.name.startswith("socks"):
                client.send(b"\5\1\0\5\1\0\3\x08api.test" + way.port.to_bytes(2, "big"))
                return client.read(12)[2:]
            elif way.name == "capture-tls":
                with pytest.raises(OSError, match="ACCESS_DENIED"):
                    client.tls("api.test")
                return b" 403 "
            else:
                client.send(request(evil, "GET", "/pub/x"))
            return client.receive()

        if way.name.startswith("capture"):
            r.going_to("api.test", way.port)
        said = await r.run(talk, r.captured if way.name.startswith("capture") else r.address)
        assert b" 403 " in said or said[:2] == b"\5\2", said
        (denial,) = r.denials
        assert denial.condition == ("identity_unknown" if who is None else "binary_not_allowed")
        assert re.search(rf"DENIED .*\[denial:{denial.id}\]", "\n".join(r.log.lines()))
    assert upstream.connections == 0
