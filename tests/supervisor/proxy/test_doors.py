"""One admission behind every door: the same attacks and the same life through each of them.

Every refusal is checked three ways: nothing arrived upstream, the right event was written, the client was told in its
own protocol.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

import pytest

from pyopenshell.supervisor.proxy import Limits
from pyopenshell.supervisor.proxy.socks import Reply
from tests.supervisor.proxy.rig import SANDBOX_CA, Client, Rig, Upstream, raw, rest, rig, rule

API = rule("api", rest("api.test", ("GET", "/public/**")))
RAW = rule("raw", raw("raw.test", 2222))

Result = TypeVar("Result")
OPEN, DENIED, FAILED, MALFORMED = "open", "denied", "failed", "malformed"


def by_connect(client: Client, host: str, port: int, expected: str) -> str:
    name = f"[{host}]" if ":" in host else host
    answer = client.connect(f"{name}:{port}")
    return {200: OPEN, 403: DENIED, 502: FAILED, 400: MALFORMED}[answer.status]


def by_socks(client: Client, host: str, port: int, expected: str) -> str:
    client.send(b"\x05\x02\x02\x00")
    assert client.read(2) == b"\x05\x00"
    try:
        address = ipaddress.ip_address(host)
        target = (b"\x01" if address.version == 4 else b"\x04") + address.packed
    except ValueError:
        target = b"\x03" + bytes([len(host.encode())]) + host.encode()
    client.send(b"\x05\x01\x00" + target + port.to_bytes(2, "big"))
    answer = client.read(10)
    assert len(answer) == 10
    code = Reply(answer[1])
    if code is not Reply.SUCCEEDED:
        assert client.closed()
    return {Reply.SUCCEEDED: OPEN, Reply.NOT_ALLOWED: DENIED, Reply.FAILURE: MALFORMED}.get(code, FAILED)


def by_capture(client: Client, host: str, port: int, expected: str) -> str:
    """A captured client is connected whatever happens; a refusal it hears in the language that it speaks."""
    if expected == OPEN:
        return OPEN
    return {403: DENIED, 502: FAILED}[client.request("GET / HTTP/1.0\n\n").status]


Talk = Callable[[Client, str, int, str], str]


class Door:
    def __init__(self, name: str, talk: Talk) -> None:
        self.name = name
        self._talk = talk

    async def run(
        self, r: Rig, host: str, port: int, then: Callable[[Client], Result] | None = None, expected: str = OPEN
    ) -> tuple[str, Result | None]:
        """What became of the attempt, and of `then` behind it."""
        if self.name == "capture":
            r.going_to(host, port)

        def talk(client: Client) -> tuple[str, Result | None]:
            outcome = self._talk(client, host, port, expected)
            return outcome, then(client) if then is not None else None

        return await r.run(talk, r.captured if self.name == "capture" else r.address)

    async def outcome(self, r: Rig, host: str, port: int, expected: str) -> None:
        assert (await self.run(r, host, port, None, expected))[0] == expected


TALKS = {"connect": by_connect, "socks": by_socks, "capture": by_capture}
DOORS = {name: Door(name, talk) for name, talk in TALKS.items()}


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@pytest.fixture(params=["connect", "socks"])
def spelling_door(request: pytest.FixtureRequest) -> Door:
    """Doors through which a client spells a name."""
    return DOORS[request.param]


async def test_an_inspected_endpoint_is_inspected(door: Door, tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> tuple[int, int]:
            client.tls("api.test")
            ask = "{} /public/x HTTP/1.1\nHost: api.test\n\n"
            return client.request(ask.format("GET")).status, client.request(ask.format("PUT")).status

        assert await door.run(r, "api.test", 443, talk) == (OPEN, (200, 403))
        assert [head.split()[0] for head, _ in tls_upstream.requests] == ["GET"]
        assert r.log.lines()[0] == "NET:OPEN [INFO] ALLOWED /usr/bin/curl(64) -> api.test:443 [policy:api engine:opa]"
        assert r.denials[0].error == "policy_denied"
        assert r.denials[0].layer == "l7"


async def test_a_raw_endpoint_is_relayed_raw_and_the_server_may_speak_first(door: Door) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-test\r\n")
        writer.write(await reader.read(-1))

    upstream = Upstream(handler)
    await upstream.start(None)
    async with rig(RAW, upstreams={("raw.test", 2222): upstream.address}) as r:

        def talk(client: Client) -> tuple[bytes, bytes]:
            banner = client.read(14)
            client.send(b"\0anything")
            client.socket.shutdown(socket.SHUT_WR)
            return banner, client.read(100)

        assert await door.run(r, "raw.test", 2222, talk) == (OPEN, (b"SSH-2.0-test\r\n", b"\0anything"))


@pytest.mark.parametrize(
    ("host", "port", "condition"),
    [
        ("evil.test", 443, "host_not_allowed"),
        ("evilapi.test", 443, "host_not_allowed"),
        ("api.test.evil.test", 443, "host_not_allowed"),
        ("api.test", 8443, "port_not_allowed"),
        ("140.82.114.4", 443, "host_not_allowed"),
        ("2606:50c0:8000::153", 443, "host_not_allowed"),
        ("127.0.0.1", 80, "host_not_allowed"),
    ],
)
async def test_what_policy_does_not_name_is_denied_and_never_resolved(
    door: Door, tls_upstream: Upstream, host: str, port: int, condition: str
) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        await door.outcome(r, host, port, DENIED)
        (denial,) = r.denials
        assert (denial.host, denial.port, denial.condition, denial.binary) == (host, port, condition, "/usr/bin/curl")
        (line,) = r.log.lines()
        assert line.startswith("NET:OPEN [MED] DENIED /usr/bin/curl(64) -> ")
        assert denial.id in line
        assert r.resolved == []
        assert tls_upstream.connections == 0


@pytest.mark.parametrize(
    "name",
    ["api.test\0.evil.test", "api.test\t", "api.test%00", "2130706433", "0x7f.1", "a..b", "*", "pl\u0430in.test"],
)
async def test_a_name_with_two_readings_never_becomes_an_intent(spelling_door: Door, name: str) -> None:
    async with rig(API) as r:
        await spelling_door.outcome(r, name, 443, MALFORMED)
        assert r.denials == []
        (line,) = r.log.lines()
        assert line.startswith("NET:FAIL [LOW] [msg:Proxy connection error: ")


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.1.2.3", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
async def test_an_allowed_name_that_leads_inward_is_refused(door: Door, address: str) -> None:
    async with rig(rule("wild", raw("*.raw.test", 2222))) as r:
        r.answers["a.raw.test"] = ["192.0.2.1", address]
        await door.outcome(r, "a.raw.test", 2222, DENIED)
        (denial,) = r.denials
        assert (denial.error, denial.stage) == ("ssrf_denied", "ssrf")
        assert "engine:ssrf" in r.log.lines()[0]


async def test_nobody_is_nobody(door: Door) -> None:
    async with rig(RAW) as r:
        r.identifier.identity = None
        await door.outcome(r, "raw.test", 2222, DENIED)
        assert r.denials[0].condition == "identity_unknown"
        assert r.resolved == []


async def test_an_upstream_that_is_not_there_is_a_failure_not_a_denial(door: Door) -> None:
    gone = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{gone.getsockname()[1]}"
    gone.close()
    async with rig(RAW, upstreams={("raw.test", 2222): address}) as r:
        await door.outcome(r, "raw.test", 2222, FAILED)
        assert r.denials == []
        assert r.log.lines()[0].startswith("NET:FAIL [LOW]")


async def test_a_name_without_an_address_is_a_failure(door: Door) -> None:
    async with rig(RAW) as r:
        await door.outcome(r, "raw.test", 2222, FAILED)
        assert r.resolved == ["raw.test"]
        assert r.denials == []


async def test_a_raw_tunnel_ends_with_its_grant(door: Door) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hi")
        await reader.read(-1)

    upstream = Upstream(handler)
    await upstream.start(None)
    async with rig(RAW, API, upstreams={("raw.test", 2222): upstream.address}) as r:
        loop = asyncio.get_running_loop()

        def revoke() -> None:
            r.set_policy(API)

        def talk(client: Client) -> tuple[bytes, bool]:
            said = client.read(2)
            loop.call_soon_threadsafe(revoke)
            return said, client.closed()

        assert await door.run(r, "raw.test", 2222, talk) == (OPEN, (b"hi", True))
        assert "grant revoked by policy reload" in r.log.lines()[-1]


async def leave(r: Rig, door: Door) -> None:
    """Ask, get no answer for a while, and go."""

    def impatient(client: Client, host: str, port: int, expected: str) -> str:
        client.socket.settimeout(0.3)
        return door._talk(client, host, port, expected)

    await Door(door.name, impatient).run(r, "raw.test", 2222, None, DENIED)


async def test_a_client_that_leaves_while_it_waits_gets_no_upstream(door: Door) -> None:
    upstream = Upstream()
    await upstream.start(None)
    async with rig(RAW, upstreams={("raw.test", 2222): upstream.address}) as r:
        entered, gate = asyncio.Event(), asyncio.Event()
        identify = r.identifier.identify

        async def slow(accepted: socket.socket) -> object:
            entered.set()
            await gate.wait()
            return await identify(accepted)

        r.identifier.identify = slow  # type: ignore[method-assign, assignment]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(leave(r, door), 10)
        await entered.wait()
        gate.set()
        await r.plane.close()
        assert upstream.connections == 0


async def test_a_synthetic_address_means_its_name_at_every_door(door: Door, tls_upstream: Upstream) -> None:
    """Clients that resolve by themselves and then use the proxy (`socks5://`, CONNECT by address)."""
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        addresses = r.names.assign("api.test", open_ended=False)
        assert addresses

        def talk(client: Client) -> int:
            client.tls("api.test")
            return client.request("GET /public/x HTTP/1.1\nHost: api.test\n\n").status

        for address in (addresses.ipv4, addresses.ipv6):
            assert await door.run(r, str(address), 443, talk) == (OPEN, 200)
        assert "-> api.test:443" in r.log.lines()[0]


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_name_brought_along_is_dialled_as_that_name_never_at_the_clients_address(scheme: str) -> None:
    trap, real = Upstream(), Upstream()
    await trap.start(None)
    await real.start("api.test" if scheme == "https" else None)
    port = int(trap.address.rpartition(":")[2])
    async with rig(
        rule("api", rest("api.test", ("GET", "/**"), port=port)), upstreams={("api.test", port): real.address}
    ) as r:
        r.going_to("127.0.0.1", port)
        ask = f"GET /x HTTP/1.1\nHost: api.test:{port}\n\n"

        def talk(client: Client) -> int:
            if scheme == "https":
                client.tls("api.test")
            return client.request(ask).status

        assert await r.run(talk, r.captured) == 200
        assert (trap.connections, real.connections) == (0, 1)

        def lie(client: Client) -> int:
            return client.request(ask.replace("api.test", "evil.test")).status

        assert await r.run(lie, r.captured) == 403
        assert r.denials[-1].host == "evil.test"
        assert (trap.connections, real.connections) == (0, 1)


async def test_a_captured_tls_client_is_refused_with_an_alert_and_a_mute_one_with_a_reset() -> None:
    async with rig(API, limits=Limits(patience_seconds=0.2, linger_seconds=0.2)) as r:
        for host in ("192.0.2.1", "other.test"):
            r.going_to(host, 443)

            def hello(client: Client) -> str:
                with pytest.raises(ssl.SSLError) as caught:
                    client.tls("other.test")
                return str(caught.value)

            assert "ACCESS_DENIED" in await r.run(hello, r.captured)

            def mute(client: Client) -> None:
                with pytest.raises(ConnectionResetError):
                    client.socket.recv(1)

            await r.run(mute, r.captured)
        stages = [(denial.host, denial.stage) for denial in r.denials]
        assert stages == [
            ("other.test", "transparent-tcp"),
            ("192.0.2.1", "bypass"),
            ("other.test", "transparent-tcp"),
            ("other.test", "transparent-tcp"),
        ]
        where = "; the connection was going to 192.0.2.1:443"
        assert [denial.reason.endswith(where) for denial in r.denials] == [True, False, False, False]
        assert any("-> other.test:443" in line and f"{where}]" in line for line in r.log.lines())


async def socks(r: Rig, data: bytes) -> bytes:
    """Everything the proxy says to `data`, until it closes."""

    def talk(client: Client) -> bytes:
        client.send(data)
        while client.receive():
            pass
        return client.buffer

    return await r.run(talk)


async def test_a_captured_http_client_reads_of_its_own_method() -> None:
    """Nobody said CONNECT; and the denial that is reported is the one that was answered."""
    async with rig(API) as r:
        for host in ("other.test", "192.0.2.1"):
            r.going_to(host, 80)
            ask = f"PUT /x HTTP/1.1\nHost: {host}\nContent-Length: 0\n\n"
            answer = await r.run(lambda client, ask=ask: client.request(ask), r.captured)  # type: ignore[misc]
            assert (answer.status, answer.json["method"], answer.json["layer"]) == (403, "PUT", "l4")
            assert answer.json["denial_id"] == r.denials[-1].id


async def test_socks4_is_told_so() -> None:
    async with rig(RAW) as r:
        assert await socks(r, b"\x04\x01\x08\xae\xc0\x00\x02\x01\x00") == b"\x00\x5b\0\0\0\0\0\0"
        assert await socks(r, b"\x04\x01\x08\xae\x00\x00\x00\x01\x00raw.test\x00") == b"\x00\x5b\0\0\0\0\0\0"
        assert (
            r.log.lines()
            == ["NET:FAIL [LOW] [msg:Proxy connection error: SOCKS4 is not supported: use SOCKS5 or HTTP]"] * 2
        )


async def test_socks_reaches_policy_local_on_port_80_only() -> None:
    async with rig(API) as r:

        def ask(client: Client) -> tuple[str, dict[str, object]]:
            opened = by_socks(client, "policy.local", 80, OPEN)
            return opened, client.request("GET /v1/policy/current HTTP/1.1\nHost: policy.local\n\n").json

        opened, answer = await r.run(ask)
        assert (opened, answer["path"]) == (OPEN, "/v1/policy/current")
        assert await r.run(lambda client: by_socks(client, "policy.local", 22, DENIED)) == DENIED
        assert r.identifier.asked == 0

        def other(client: Client) -> int:
            by_socks(client, "policy.local", 80, OPEN)
            return client.request("GET /public/x HTTP/1.1\nHost: api.test\n\n").status

        assert await r.run(other) == 400


async def test_a_socks_client_that_dawdles_is_cut_off() -> None:
    async with rig(RAW, limits=Limits(head_seconds=0.2, linger_seconds=0.2)) as r:

        def dawdle(client: Client) -> bool:
            client.send(b"\x05\x01")
            return client.closed()

        assert await r.run(dawdle)
        assert "did not arrive in time" in r.log.lines()[0]


async def test_curl_speaks_socks5h_through_it(tls_upstream: Upstream) -> None:
    from tests.supervisor.proxy.rig import sandbox_ca_file

    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        proxy = f"socks5h://user:secret@{r.address[0]}:{r.address[1]}"
        ca = sandbox_ca_file()
        assert SANDBOX_CA.ca_pem
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-x", proxy, "--cacert", str(ca), "https://api.test/public/curl",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        ca.unlink()
        assert (process.returncode, b"/public/curl" in out) == (0, True), err
        assert "secret" not in " ".join(r.log.lines())


async def test_no_hint_at_http3_reaches_the_client(door: Door) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nAlt-Svc: h3=":443"\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n')

    upstream = Upstream(handler)
    await upstream.start(None)
    api = rule("api", rest("api.test", ("GET", "/**"), port=80))
    async with rig(api, upstreams={("api.test", 80): upstream.address}) as r:
        ask = "GET /x HTTP/1.1\nHost: api.test\n\n"
        opened, headers = await door.run(r, "api.test", 80, lambda client: client.request(ask).headers)
        assert opened == OPEN
        assert headers is not None
        assert ("alt-svc" in headers, headers["x-kept"]) == (False, "1")
