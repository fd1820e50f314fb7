"""A hostile agent at the proxy's doors: names, framing, smuggling, other authorities and protocols, forged log lines.

Every attack is checked three ways: nothing arrived at the upstream, the client got its typed refusal, the log says so.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pyopenshell.client import Gateway
from tests.e2e.house import HOST, RAW, House, house, sh

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("attacks_network")]

PLAIN = "plain.e2e.test"
# bash may speak at the doors here: its /dev/tcp is the raw socket that hand-made bytes need.
POLICY = f"""\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /proc, /dev/urandom, /etc, /var/log]
  read_write: [/tmp, /dev/null]
network_policies:
  plain:
    endpoints:
      - host: {PLAIN}
        port: 80
        protocol: rest
        enforcement: enforce
        rules:
          - allow: {{method: GET, path: /public/**}}
          - allow: {{method: POST, path: /public/**}}
        deny_rules:
          - {{method: GET, path: /public/secret/**}}
    binaries: [{{path: /usr/bin/bash}}]
  tls:
    endpoints:
      - host: {HOST}
        port: 443
        protocol: rest
        enforcement: enforce
        rules:
          - allow: {{method: GET, path: /public/**}}
          - allow: {{method: POST, path: /public/**}}
        deny_rules:
          - {{method: GET, path: /public/secret/**}}
    binaries: [{{path: /usr/bin/bash}}, {{path: /usr/bin/curl}}]
"""


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers everything and remembers what was asked, as a lenient server would have understood it."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_TRACE = do_OPTIONS = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def plain_server() -> Iterator[tuple[int, list[str]]]:
    seen: list[str] = []
    handler = type("Seen", (Recorder,), {"seen": seen})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join(5)


@pytest.fixture(scope="module")
def plain() -> Iterator[tuple[int, list[str]]]:
    with plain_server() as running:
        yield running


@pytest.fixture(scope="module")
def home(plain: tuple[int, list[str]]) -> Iterator[House]:
    override = f'[[openshell.gateway.connect_to]]\nhost = "{PLAIN}"\nport = 80\naddress = "127.0.0.1:{plain[0]}"\n'
    with house(extra_config=override) as installation:
        installation.create("net", POLICY)
        yield installation


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


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def error(answer: bytes) -> str:
    """The `error` of the last JSON answer."""
    return str(json.loads(answer[answer.rindex(b'{"error"') :])["error"])


async def logged(gateway: Gateway, text: str) -> bool:
    """Wait until a line of the sandbox's log has `text`."""
    script = f"timeout 10 grep -m1 -F -e '{text}' <(exec tail -n +1 -F /var/log/openshell.*.log 2>/dev/null)"
    return (await sh(gateway, "net", script)).code == 0


HOSTS = {
    "nul": "plain.e2e.test\0.evil.test",
    "encoded nul": "plain.e2e.test%00.evil.test",
    "tab": "plain.e2e.test\t",
    "suffix": "plain.e2e.test.evil.test",
    "prefix": "evilplain.e2e.test",
    "user": "plain.e2e.test@evil.test",
    "backslash": "plain.e2e.test\\.evil.test",
    "fragment": "plain.e2e.test#evil.test",
    "integer": "2130706433",
    "octal": "0177.0.0.1",
    "hexadecimal": "0x7f.1",
    "short": "127.1",
    "mapped": "[::ffff:127.0.0.1]",
    "mapped metadata": "[::ffff:169.254.169.254]",
    "nat64": "[64:ff9b::7f00:1]",
    "6to4": "[2002:7f00:1::]",
    "zone": "[::1%25lo]",
    "unspecified": "0.0.0.0",
    "metadata": "metadata.google.internal",
    "raw address": "140.82.114.4",
    "bracketed name": "[plain.e2e.test]",
    "wildcard": "*",
    "empty label": "a..b",
    "homograph": "pl\u0430in.e2e.test",
}


async def test_no_spelling_of_a_host_gets_through_a_door(
    home: House, gateway: Gateway, plain: tuple[int, list[str]]
) -> None:
    before = len(plain[1]), len(home.upstream.requests)
    attacks = {}
    for name, host in HOSTS.items():
        raw = host.encode()
        attacks[f"connect {name}"] = b"CONNECT %b:443 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (raw, raw)
        attacks[f"forward {name}"] = b"GET http://%b/public/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % raw
    for name, answer in (await at_the_door(gateway, attacks)).items():
        assert statuses(answer) in ([400], [403]), (name, answer)
        assert error(answer) in ("bad_request", "policy_denied", "ssrf_denied"), (name, answer)
    assert (len(plain[1]), len(home.upstream.requests)) == before
    assert await logged(gateway, "-> 140.82.114.4:443 [policy:- engine:opa]")
    assert await logged(gateway, "Proxy connection error: IPv4 address is not in dotted-decimal form")


AMBIGUOUS = {
    "length and chunked": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"),
    "same length twice": (b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "length list": (b"Content-Length: 5, 5\r\n", b"hello"),
    "length with sign": (b"Content-Length: +5\r\n", b"hello"),
    "length in hexadecimal": (b"Content-Length: 0x5\r\n", b"hello"),
    "xchunked": (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "chunked, identity": (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "blank before colon": (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "folded": (b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "bare line feed": (b"X: a\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "bare return": (b"X: a\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "nul": (b"X: a\0b\r\n", b""),
    "no utf-8": (b"X: \xff\xfe\r\n", b""),
    "two hosts": (b"Host: evil.test\r\n", b""),
    "dropped length": (b"Connection: content-length\r\nContent-Length: 5\r\n", b"hello"),
    "bare line feed in chunk": (b"Transfer-Encoding: chunked\r\n", b"5\nhello\n0\n\n"),
    "line feed in extension": (b"Transfer-Encoding: chunked\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "chunk too long": (b"Transfer-Encoding: chunked\r\n", b"5\r\nhelloXX\r\n0\r\n\r\n"),
    "chunk with blank": (b"Transfer-Encoding: chunked\r\n", b"5 \r\nhello\r\n0\r\n\r\n"),
    "length in trailer": (b"Transfer-Encoding: chunked\r\n", b"0\r\nContent-Length: 5\r\n\r\n"),
}


async def test_ambiguous_framing_is_refused_and_nothing_behind_it_is_read(
    gateway: Gateway, plain: tuple[int, list[str]]
) -> None:
    before = list(plain[1])
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
    assert [s for s in plain[1] if s not in before] == []
    assert await logged(gateway, "Proxy connection error: both Content-Length and Transfer-Encoding")


async def test_a_pipelined_second_request_is_judged_on_its_own(gateway: Gateway, plain: tuple[int, list[str]]) -> None:
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
    assert not [s for s in plain[1] if "second" in s or "private" in s]


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
