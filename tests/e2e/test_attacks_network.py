"""A hostile agent at the proxy's doors: names, framing, smuggling, other authorities and protocols, forged log lines.

Every attack is checked three ways: nothing arrived at the upstream, the client got its typed refusal, the log says so.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator, Mapping

import pytest

from pyopenshell.client import Gateway
from tests.attacks import ALLOWED as PLAIN
from tests.attacks import AMBIGUOUS, HOSTS
from tests.e2e.attacks import RULES, Seen, error, plain, policy, statuses, wait_for_line
from tests.e2e.house import HOST, RAW, House, connect_to, house, sh

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("attacks_network")]

# bash may speak at the doors here: its /dev/tcp is the raw socket that hand-made bytes need.
POLICY = policy(
    plain("/usr/bin/bash"),
    f"""\
  tls:
    endpoints:
      - host: {HOST}
        port: 443
        protocol: rest
        enforcement: enforce
{RULES}
    binaries: [{{path: /usr/bin/bash}}, {{path: /usr/bin/curl}}]
""",
)


@pytest.fixture(scope="module")
def home(seen: Seen) -> Iterator[House]:
    with house(extra_config=connect_to(PLAIN, seen.port, port=80)) as installation:
        installation.create("net", POLICY)
        yield installation


async def logged(gateway: Gateway, text: str) -> bool:
    return await wait_for_line(gateway, "net", text)


async def at_the_door(gateway: Gateway, payloads: Mapping[str, bytes]) -> dict[str, bytes]:
    """Send each payload on a connection of its own to the proxy; what came back until the proxy closed."""
    script = "".join(
        f"exec 3<>/dev/tcp/10.200.0.1/3128; base64 -d <<<{base64.b64encode(data).decode()} >&3; "
        "timeout 10 cat <&3 | base64 -w0; echo; exec 3>&-\n"
        for data in payloads.values()
    )
    ran = await sh(gateway, "net", script)
    lines = ran.out.split("\n")[:-1]
    assert len(lines) == len(payloads), ran
    return {name: base64.b64decode(line) for name, line in zip(payloads, lines, strict=True)}


async def test_no_spelling_of_a_host_gets_through_a_door(home: House, gateway: Gateway, seen: Seen) -> None:
    before = len(seen.requests), len(home.upstream.requests)
    attacks = {}
    for name, host in HOSTS.items():
        raw = host.encode()
        attacks[f"connect {name}"] = b"CONNECT %b:443 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (raw, raw)
        attacks[f"forward {name}"] = b"GET http://%b/public/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % raw
    for name, answer in (await at_the_door(gateway, attacks)).items():
        assert statuses(answer) in ([400], [403]), (name, answer)
        assert error(answer) in ("bad_request", "policy_denied", "ssrf_denied"), (name, answer)
    assert (len(seen.requests), len(home.upstream.requests)) == before
    assert await logged(gateway, "-> 140.82.114.4:443 [policy:- engine:opa]")
    assert await logged(gateway, "Proxy connection error: IPv4 address is not in dotted-decimal form")


async def test_ambiguous_framing_is_refused_and_nothing_behind_it_is_read(gateway: Gateway, seen: Seen) -> None:
    before = list(seen.requests)
    smuggled = f"GET http://{PLAIN}/public/smuggled HTTP/1.1\r\nHost: {PLAIN}\r\nConnection: close\r\n\r\n".encode()
    attacks = {
        name: f"POST http://{PLAIN}/public/framing HTTP/1.1\r\nHost: {PLAIN}\r\n".encode()
        + fields
        + b"\r\n"
        + body
        + smuggled
        for name, (fields, body) in AMBIGUOUS.items()
    }
    for name, answer in (await at_the_door(gateway, attacks)).items():
        assert statuses(answer) == [400], (name, answer)
        assert error(answer) == "bad_request", (name, answer)
    assert [s for s in seen.requests if s not in before] == []
    assert await logged(gateway, "Proxy connection error: both Content-Length and Transfer-Encoding")


async def test_a_pipelined_second_request_is_judged_on_its_own(gateway: Gateway, seen: Seen) -> None:
    def request(line: str, rest: str = "") -> bytes:
        return f"{line} HTTP/1.1\r\nHost: {PLAIN}\r\n{rest}\r\n".encode()

    first, last = request(f"GET http://{PLAIN}/public/first"), "Connection: close\r\n"
    hidden = request(f"GET http://{PLAIN}/private-in-body")
    answers = await at_the_door(
        gateway,
        {
            "verb": first + request(f"DELETE http://{PLAIN}/public/second", last),
            "path": first + request(f"GET http://{PLAIN}/private-second", last),
            "host": first + request("GET http://other.e2e.test/public/second", last),
            "body": request(f"GET http://{PLAIN}/public/body", f"Content-Length: {len(hidden)}\r\n")
            + hidden
            + request(f"GET http://{PLAIN}/public/last", last),
        },
    )
    assert {name: statuses(answer) for name, answer in answers.items()} == {
        "verb": [200, 403],
        "path": [200, 403],
        "host": [200, 403],
        "body": [200, 200],
    }
    assert not [s for s in seen.requests if "second" in s or "private" in s]


async def test_protocols_that_cannot_be_inspected_end_at_the_tunnel(home: House, gateway: Gateway) -> None:
    tunnel = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode()
    opening = {
        "http/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "ssh": b"SSH-2.0-x\r\n",
        "bytes": b"\0\1\2\3",
    }
    before = len(home.upstream.requests)
    for name, answer in (await at_the_door(gateway, {n: tunnel + d for n, d in opening.items()})).items():
        assert statuses(answer) == [200, 403], (name, answer)
        assert error(answer) == "unsupported_l7_protocol", (name, answer)
    hello = tunnel + b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"
    answer = (await at_the_door(gateway, {"a broken hello": hello}))["a broken hello"]
    assert answer.endswith(b"\r\n\r\n\x15\x03\x03\x00\x02\x02\x32"), "TLS is answered in TLS: alert decode_error"
    nested = b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n"
    answer = (await at_the_door(gateway, {"nested": tunnel + nested}))["nested"]
    assert statuses(answer) == [200, 403]
    assert error(answer) == "request_authority_mismatch"
    assert len(home.upstream.requests) == before
    assert await logged(gateway, "CONNECT_L7 blocked unsupported tunnel protocol")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-H 'Host: evil.test'", "request_authority_mismatch"),
        ("-H 'Host: '", "request_authority_mismatch"),
        (f"-H 'Host: {HOST}@evil.test'", "request_authority_mismatch"),
        (f"-H 'Host: {HOST}:444'", "request_authority_mismatch"),
        ("--request-target https://evil.test/public/x", "request_authority_mismatch"),
        (f"--request-target http://{HOST}/public/x", "request_authority_mismatch"),
        (f"--request-target https://{HOST}:444/public/x", "request_authority_mismatch"),
        ("-H 'Connection: Upgrade, HTTP2-Settings' -H 'Upgrade: h2c' -H 'HTTP2-Settings: AA'", "unsupported_l7"),
        ("-H 'Connection: Upgrade' -H 'Upgrade: websocket'", "unsupported_l7"),
        ("-X POST -H 'X-HTTP-Method-Override: DELETE'", "policy_denied"),
        ("-X TRACE", "policy_denied"),
        ("-X CONNECT", "policy_denied"),
        ("-X GETT", "policy_denied"),
        ("-X DELETE", "policy_denied"),
        ("-I --request-target /public/secret/head", ""),
        ("--request-target /public/../private", "policy_denied"),
        ("--request-target /public/%2e%2e/private", "policy_denied"),
        ("--request-target '/public/..;/private'", "policy_denied"),
        ("--request-target /public/..%2fprivate", "invalid_request_target"),
        ("--request-target /public//../../private", "invalid_request_target"),
        ("--request-target /public/%73ecret/x", "policy_denied"),
        ("--request-target /public//secret/x", "policy_denied"),
        ("--request-target '/public/secret;x/y'", "policy_denied"),
        ("--request-target /public/x/../secret/y", "policy_denied"),
        ("--request-target /public/%00", "invalid_request_target"),
        ("--request-target '/public/a#/../x'", "invalid_request_target"),
        ("--request-target '*'", "invalid_request_target"),
    ],
)
async def test_one_tunnel_is_one_host_and_one_path_at_a_time(
    home: House, gateway: Gateway, options: str, expected: str
) -> None:
    before = len(home.upstream.requests)
    ran = await sh(gateway, "net", f"curl -sS -m 10 -w '\\n%{{http_code}}' {options} https://{HOST}/public/x")
    body, code = ran.out.rsplit("\n", 1)
    assert code in ("400", "403"), ran
    assert expected in body, ran
    assert len(home.upstream.requests) == before
    denial = json.loads(body)["denial_id"] if expected else "GET http://api.e2e.test:443/public/secret/head"
    assert await logged(gateway, denial.replace("GET", "HEAD"))


@pytest.mark.parametrize("name", ["evil.test", RAW])
async def test_tls_must_ask_for_the_host_that_was_admitted(home: House, gateway: Gateway, name: str) -> None:
    before = len(home.upstream.requests)
    ran = await sh(gateway, "net", f"curl -sSk -m 10 --connect-to ::{HOST}:443 https://{name}/public/x; echo code:$?")
    assert "code:35" in ran.out, ran
    assert len(home.upstream.requests) == before
    assert await logged(gateway, "TLS client asks for another server name than CONNECT did")


async def test_datagrams_stay_inside(gateway: Gateway) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("0.0.0.0", 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]
        targets = f"127.0.0.1/{port} 10.200.0.1/{port} 1.1.1.1/123 1.1.1.1/443 255.255.255.255/67"
        ran = await sh(gateway, "net", f"for t in {targets}; do echo hi 2>/dev/null >/dev/udp/$t && echo sent $t; done")
        assert ran.out.split() == ["sent", f"127.0.0.1/{port}"], "its own loopback and nothing else"
        with pytest.raises(BlockingIOError):
            listener.recv(100)


async def test_nothing_an_agent_names_forges_a_log_line_and_no_secret_is_written(home: House, gateway: Gateway) -> None:
    forged = "2026-01-01T00:00:00.000Z OCSF NET:OPEN [INFO] ALLOWED forged"
    names = {
        "lines": f"$'/tmp/a\\n{forged}'",
        "screen": "$'/tmp/b\\e[2J\\u202e\\xff'",
        "fields": "'/tmp/c] [policy:tls engine:opa] [denial:d-0'",
    }
    # Started by `setsid -f`, so that init is the parent: here bash may speak for its children.
    script = "".join(
        f"cp /usr/bin/curl {n}; setsid -f {n} -sS -m 9 https://{HOST}/ 2>/dev/null\n" for n in names.values()
    )
    script += (
        f"curl -sS https://{HOST}/private?token=hush1; curl -sS 'https://{HOST}/public/x?k=hush2%zz'; "
        f"curl -sS -u u:hush3 -H 'X-Key: hush4' 'https://{HOST}/private'; curl -sS 'http://{HOST}/x?hush5'; "
        f"curl -sS --request-target 'https://u:hush6@{HOST}/x' https://{HOST}/; "
        f"curl -sS --globoff --path-as-is 'https://{HOST}/x%0a][policy:tls]' >/dev/null; "
        "curl -sS --proxy-header 'Proxy-Authorization: Basic hush7' https://last.test/"
    )
    await sh(gateway, "net", script)
    assert await logged(gateway, "-> last.test:443")
    assert await logged(gateway, "c]\\x20[policy:tls engine:opa]\\x20[denial:d-0")
    text = "".join(p.read_text() for p in home.root.glob("state/**/log/openshell.*.log"))
    line = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z OCSF [A-Z]+:[A-Z_-]+ \[[A-Z]+\] \S.*")
    for one in text.splitlines():
        assert line.fullmatch(one), one
        assert one.isprintable(), one
        assert "] ALLOWED forged" not in one.partition("[reason:")[0], one
    assert "hush" not in text
    database = b"".join(p.read_bytes() for p in home.root.glob("state/**/openshell.db*"))
    assert b"hush" not in database
