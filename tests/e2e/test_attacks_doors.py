"""The attacks of classes A and B once more, at every door: CONNECT, forward, SOCKS5, transparent capture, policy DNS.

A program inside speaks to the doors with hand-made bytes; what it sends, where it goes and what came back is its whole
say. Checked three ways: nothing arrived at a server of ours, the client got its door's refusal, the log says so.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Iterator

import pytest

from pyopenshell.client import Gateway
from tests.attacks import ALLOWED as PLAIN
from tests.attacks import AMBIGUOUS, HOSTS
from tests.e2e.attacks import Seen, error, plain, policy, statuses, wait_for_line
from tests.e2e.house import HOST, House, connect_to, house, sh

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("attacks_doors"), pytest.mark.timeout(240)]

DOORS = ("connect", "forward", "socks", "capture")
POLICY = policy(
    plain(
        "/**/python3*",
        f"""\
      - host: {HOST}
        port: 443
        protocol: rest
        access: read-only
""",
    )
)

INSIDE = '''
import base64, json, socket, struct, sys

def read(s):
    data = b""
    try:
        while piece := s.recv(65536):
            data += piece
    except ConnectionResetError:
        data += b"<reset>"
    except TimeoutError:
        data += b"<timeout>"
    return data

def run(door, host, port, payload):
    """Through a door to host:port (bytes as they are), then `payload`, then whatever comes."""
    if door == "capture":
        try:
            s = socket.create_connection((host.decode("utf-8"), port), 10)
        except (OSError, UnicodeError, ValueError) as error:
            return b"<no connection> " + type(error).__name__.encode()
    else:
        s = socket.create_connection(("10.200.0.1", 3128), 10)
    with s:
        s.settimeout(10)
        if door == "connect":
            s.sendall(b"CONNECT %b:%d HTTP/1.1\\r\\nHost: %b\\r\\n\\r\\n" % (host, port, host))
            head = b""
            while b"\\r\\n\\r\\n" not in head and (piece := s.recv(1)):
                head += piece
            if b" 200 " not in head[:16]:
                return head + read(s)
        elif door == "socks":
            s.sendall(b"\\5\\1\\0")
            s.recv(2)
            s.sendall(b"\\5\\1\\0\\3" + bytes([len(host)]) + host + struct.pack("!H", port))
            reply = s.recv(10)
            if reply[1:2] != b"\\0":
                return b"<socks %d>" % reply[1] if reply else b"<closed>"
        s.sendall(payload)
        return read(s)

for door, host, port, payload in json.load(sys.stdin):
    answer = run(door, base64.b64decode(host), port, base64.b64decode(payload))
    print(base64.b64encode(answer).decode(), flush=True)
'''


@dataclasses.dataclass(frozen=True)
class Attack:
    """What to say at a door."""

    door: str
    payload: bytes
    host: bytes = PLAIN.encode()
    port: int = 80


@pytest.fixture(scope="module")
def home(seen: Seen) -> Iterator[House]:
    with house(extra_config=connect_to(PLAIN, seen.port, port=80)) as installation:
        installation.create("doors", POLICY)
        yield installation


async def speak(gateway: Gateway, attacks: dict[str, Attack]) -> dict[str, bytes]:
    said = [
        (a.door, base64.b64encode(a.host).decode(), a.port, base64.b64encode(a.payload).decode())
        for a in attacks.values()
    ]
    program, words = (base64.b64encode(t.encode()).decode() for t in (INSIDE, json.dumps(said)))
    script = f"base64 -d <<<{program} >/tmp/inside.py; base64 -d <<<{words} | python3 /tmp/inside.py"
    ran = await sh(gateway, "doors", script, timeout=120)
    lines = ran.out.split()
    assert len(lines) == len(attacks), ran
    return {name: base64.b64decode(line) for name, line in zip(attacks, lines, strict=True)}


async def logged(gateway: Gateway, text: str) -> bool:
    return await wait_for_line(gateway, "doors", text)


def request(door: str, method: str, path: str, fields: bytes = b"", host: str = PLAIN) -> bytes:
    """In the form that belongs to the door."""
    target = f"http://{host}{path}" if door == "forward" else path
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n".encode() + fields + b"\r\n"


LAST = b"Connection: close\r\n"


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_allowed_passes_so_that_a_refusal_means_something(
    home: House, gateway: Gateway, seen: Seen, door: str
) -> None:
    answers = await speak(gateway, {"ok": Attack(door, request(door, "GET", f"/public/{door}", LAST))})
    assert statuses(answers["ok"]) == [200], answers
    assert f"GET /public/{door}" in seen.requests


@pytest.mark.parametrize("door", ["socks", "capture"])
async def test_no_spelling_of_a_host_gets_through(home: House, gateway: Gateway, seen: Seen, door: str) -> None:
    """A-1 to A-9, where test_attacks_network does not go. A captured name is policy DNS's matter, an address ours."""
    before = len(seen.requests), len(home.upstream.requests)
    attacks = {}
    for name, host in HOSTS.items():
        raw = host.strip("[]").encode()
        # Loopback is the program's own inside; the kernel, not a door, has the last word on what is no unicast.
        if door == "capture" and name in ("integer", "octal", "hexadecimal", "short", "mapped", "unspecified", "zone"):
            continue
        # In SOCKS a name has no brackets and no `Host` beside it.
        attacks[name] = Attack(door, request("connect", "GET", "/public/x", LAST, "x"), raw)
    if door == "socks":
        del attacks["bracketed name"]  # without brackets it is the name itself
    else:
        del attacks["bracketed name"], attacks["tab"]
    for name, answer in (await speak(gateway, attacks)).items():
        if door == "socks":
            assert answer in (b"<socks 1>", b"<socks 2>"), (name, answer)
        else:
            refused = answer.startswith(b"<no connection>") or answer == b"<reset>" or 403 in statuses(answer)
            assert refused, (name, answer)
            assert 200 not in statuses(answer)
    assert (len(seen.requests), len(home.upstream.requests)) == before
    if door == "capture":
        # The name that the client brings along is judged; the log says where the connection was going.
        assert await logged(gateway, "-> x:80 [policy:- engine:opa]")
        assert await logged(gateway, "the connection was going to 140.82.114.4:80]")
        assert await logged(gateway, "the connection was going to 169.254.169.254:80]")
        assert await logged(gateway, "plain.e2e.test.evil.test/dns [policy:- engine:dns]")
    else:
        assert await logged(gateway, "-> 140.82.114.4:80 [policy:- engine:opa]")
        assert await logged(gateway, "Proxy connection error: SOCKS5 name refused")


@pytest.mark.parametrize("door", ["connect", "socks", "capture"])
async def test_ambiguous_framing_is_refused_and_nothing_behind_it_is_read(
    gateway: Gateway, seen: Seen, door: str
) -> None:
    """B-3."""
    before = list(seen.requests)
    smuggled = request(door, "GET", "/public/smuggled", LAST)
    attacks = {
        name: Attack(door, request(door, "POST", f"/public/{door}-framing", fields) + body + smuggled)
        for name, (fields, body) in AMBIGUOUS.items()
    }
    for name, answer in (await speak(gateway, attacks)).items():
        assert statuses(answer) == [400], (name, answer)
        assert error(answer) == "bad_request", (name, answer)
    assert [s for s in seen.requests if s not in before] == []
    assert await logged(gateway, f"HTTP request rejected before policy evaluation for {PLAIN}:80: both Content-Length")


@pytest.mark.parametrize("door", ["connect", "socks", "capture"])
async def test_each_request_is_judged_and_names_its_own_host(gateway: Gateway, seen: Seen, door: str) -> None:
    """B-1, B-4, B-7, B-9, B-15: pipelined, in a body, another authority, another spelling, another method."""
    first = request(door, "GET", "/public/first")
    hidden = request(door, "GET", "/private-in-body")
    expected: dict[str, tuple[bytes, list[int], str]] = {
        "verb": (first + request(door, "DELETE", "/public/second", LAST), [200, 403], "policy_denied"),
        "path": (first + request(door, "GET", "/private-second", LAST), [200, 403], "policy_denied"),
        "host": (first + request(door, "GET", "/public/second", LAST, "evil.test"), [200, 403], "request_authority"),
        "absolute": (first + request("forward", "GET", "/second", LAST, "evil.test"), [200, 403], "request_authority"),
        "dots": (request(door, "GET", "/public/../private", LAST), [403], "policy_denied"),
        "encoded": (request(door, "GET", "/public/%2e%2e/private", LAST), [403], "policy_denied"),
        "slash": (request(door, "GET", "/public/..%2fprivate", LAST), [400], "invalid_request_target"),
        "denied": (request(door, "GET", "/public/%73ecret/x", LAST), [403], "policy_denied"),
        "head": (request(door, "HEAD", "/public/secret/x", LAST), [403], ""),
        "trace": (request(door, "TRACE", "/public/x", LAST), [403], "policy_denied"),
        "lower": (request(door, "get", "/public/x", LAST), [403], "unsupported_l7_protocol"),
        "override": (
            request(door, "POST", "/public/x", b"Content-Length: 0\r\nX-HTTP-Method-Override: DELETE\r\n" + LAST),
            [403],
            "policy_denied",
        ),
        "rewrite": (request(door, "GET", "/public/x", b"X-Original-URL: /private\r\n" + LAST), [400], ""),
        "h2c": (
            request(door, "GET", "/public/x", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"),
            [403],
            "unsupported_l7_protocol",
        ),
        "websocket": (
            request(door, "GET", "/public/x", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            [403],
            "unsupported_l7_protocol",
        ),
        "body": (
            request(door, "POST", "/public/b", b"Content-Length: %d\r\n" % len(hidden)) + hidden
            + request(door, "GET", "/public/last", LAST),
            [200, 200],
            "",
        ),
    }  # fmt: skip
    before = len(seen.requests)
    answers = await speak(gateway, {name: Attack(door, payload) for name, (payload, _, _) in expected.items()})
    for name, (_, codes, told) in expected.items():
        assert statuses(answers[name]) == codes, (name, answers[name])
        if told:
            assert told in error(answers[name]), (name, answers[name])
            denial = re.search(rb'"denial_id": "(d-[0-9a-f]+)"', answers[name])
            if denial:
                assert await logged(gateway, denial[1].decode()), name
    new = seen.requests[before:]
    assert not [s for s in new if "second" in s or "private" in s or "secret" in s]
    assert all(s.split()[0] in ("GET", "POST") for s in new), new


@pytest.mark.parametrize("door", ["connect", "socks", "capture"])
async def test_what_is_neither_http_nor_tls_ends_there(home: House, gateway: Gateway, door: str) -> None:
    """B-5, B-8, B-11: h2 with prior knowledge, SSH, bytes, a broken hello, a CONNECT inside, on an inspected 443."""
    opening = {
        "http/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"unsupported_l7_protocol"),
        "ssh": (b"SSH-2.0-x\r\n", b"unsupported_l7_protocol"),
        "bytes": (b"\0\1\2\3", b"unsupported_l7_protocol"),
        "hello": (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x15\x03\x03\x00\x02\x02\x32"),
        "nested": (
            b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
            b"request_authority_mismatch",
        ),
    }
    before = len(home.upstream.requests)
    attacks = {name: Attack(door, data, HOST.encode(), 443) for name, (data, _) in opening.items()}
    for name, answer in (await speak(gateway, attacks)).items():
        assert opening[name][1] in answer, (name, answer)
    assert len(home.upstream.requests) == before
    assert await logged(gateway, "CONNECT_L7 blocked unsupported tunnel protocol")


@pytest.mark.parametrize("door", DOORS)
async def test_another_port_of_an_allowed_host_and_a_special_host_elsewhere(
    gateway: Gateway, seen: Seen, door: str
) -> None:
    """B-13, B-14: the port is part of the rule, and `policy.local` is one port of one name."""
    before = len(seen.requests)
    spoken = request("connect", "GET", "/public/x", LAST)
    special = request("connect", "GET", "/v1/policy/current", LAST, "policy.local")
    attacks = {
        "8080": Attack(door, spoken, port=8080),
        "6443": Attack(door, spoken, port=6443),
        "special": Attack(door, special, b"policy.local", 22),
    }
    if door == "forward":
        attacks = {
            "8080": Attack(door, request(door, "GET", "/public/x", LAST, f"{PLAIN}:8080")),
            "6443": Attack(door, request(door, "GET", "/public/x", LAST, f"{PLAIN}:6443")),
            "special": Attack(door, request(door, "GET", "/v1/policy/current", LAST, "policy.local:22")),
        }
    for name, answer in (await speak(gateway, attacks)).items():
        refused = answer == b"<socks 2>" if door == "socks" else statuses(answer) in ([403], [400])
        assert refused, (name, answer)
    assert len(seen.requests) == before
    assert await logged(gateway, f"{PLAIN}:8080")


async def test_policy_dns_gives_no_odd_name_an_address(gateway: Gateway) -> None:
    """Class A at the fifth door, in raw labels: NUL, dots and controls inside of one; no name beside the policy's."""
    script = """
import socket, struct
def ask(*labels):
    name = b"".join(bytes([len(l)]) + l for l in labels) + b"\\0"
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(9)
    s.sendto(b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + name + b"\\0\\1\\0\\1", ("10.200.0.1", 53))
    answer = s.recv(512)
    return answer[3] & 15, struct.unpack("!H", answer[6:8])[0]
site = (b"plain", b"e2e", b"test")
print(ask(*site), ask(b"PLAIN", b"e2e", b"TEST"))
for labels in (
    (b"plain.e2e.test",), (b"plain\\0", b"e2e", b"test"), (*site, b"evil", b"test"), (b"evilplain", b"e2e", b"test"),
    (b"plain", b"e2e", b"test\\0evil"), (b"pl\\xc3\\xa1in", b"e2e", b"test"), (b"x", *site), (b"*", b"e2e", b"test"),
    (b"127", b"0", b"0", b"1"), (b"metadata", b"google", b"internal"), (b"plain e2e", b"test"), (b"test",),
):
    print(labels, ask(*labels))
"""
    encoded = base64.b64encode(script.encode()).decode()
    ran = await sh(gateway, "doors", f"base64 -d <<<{encoded} | python3 -")
    allowed, *refused = ran.out.splitlines()
    assert allowed == "(0, 1) (0, 1)", ran
    assert len(refused) == 12, ran
    assert all(line.endswith(" (3, 0)") for line in refused), ran.out
    assert await logged(gateway, "metadata.google.internal/dns [policy:- engine:dns]")


HANDED = """
import os, socket, subprocess, sys
role, peer, target = sys.argv[1], sys.argv[2], (sys.argv[3], 80)
ask = f"GET /public/{sys.argv[4]} HTTP/1.1\\r\\nHost: {sys.argv[3]}\\r\\nConnection: close\\r\\n\\r\\n".encode()
def receive(pair):
    _, (descriptor,), _, _ = socket.recv_fds(pair, 1, 1)
    return socket.socket(fileno=descriptor)
def use(connection):
    connection.settimeout(10)
    connection.sendall(ask)
    print(connection.recv(65536).split(b"\\r\\n")[0].decode(), flush=True)
if role == "start":
    ours, theirs = socket.socketpair()
    # Not a child of the program that gets the socket or of the one that hands it on: ancestors must not decide this.
    command = ["/usr/bin/setsid", "-f", peer, __file__, "give", str(theirs.fileno()), *sys.argv[3:]]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]):
        use(receive(ours))
else:
    connection = socket.create_connection(target, 10)
    socket.send_fds(socket.socket(fileno=int(peer)), [b"x"], [connection.fileno()])
"""


@pytest.mark.parametrize("giver", ["allowed", "unlisted"])
async def test_a_socket_that_is_handed_on_stays_its_makers(gateway: Gateway, seen: Seen, giver: str) -> None:
    """F-5, as docs/isolation.md states it: SCM_RIGHTS moves a connection, not the name of the program that made it."""
    allowed, unlisted = "/usr/bin/python3", f"/tmp/unlisted-{giver}"
    first, second = (unlisted, allowed) if giver == "allowed" else (allowed, unlisted)
    encoded = base64.b64encode(HANDED.encode()).decode()
    script = (
        f"cp $(readlink -f {allowed}) {unlisted}; base64 -d <<<{encoded} >/tmp/handed.py; "
        f"exec setsid -fw {first} /tmp/handed.py start {second} {PLAIN} handed-{giver}"
    )
    ran = await sh(gateway, "doors", script)
    if giver == "allowed":
        assert "200 OK" in ran.out, ran
        assert f"GET /public/handed-{giver}" in seen.requests
    else:
        assert "403 Forbidden" in ran.out, ran
        assert f"GET /public/handed-{giver}" not in seen.requests
        assert await logged(gateway, f"DENIED {unlisted}(")
