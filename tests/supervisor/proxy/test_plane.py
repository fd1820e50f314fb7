"""The plane as a whole: real curl, TLS both ways, pooling, streaming, bounds, end."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from pyopenshell.isolation.identity import Identity
from pyopenshell.supervisor.proxy import CertificateAuthority, Limits
from tests.supervisor.proxy.rig import SANDBOX_CA, UPSTREAM_CA, Client, Response, Upstream, raw, rest, rig, rule

API = rule("api", rest("api.test", ("*", "/**")))
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


async def curl(address: tuple[str, int], ca: Path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-sS",
        "-m",
        "20",
        "-x",
        f"http://{address[0]}:{address[1]}",
        "--cacert",
        str(ca),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_text(SANDBOX_CA.ca_pem)
    return path


@needs_curl
async def test_real_curl_gets_puts_and_reads_a_denial(tls_upstream: Upstream, ca_file: Path, tmp_path: Path) -> None:
    some = rule("api", rest("api.test", ("GET", "/pub/**"), ("PUT", "/pub/**")))
    big = tmp_path / "big"
    big.write_bytes(b"x" * 3_000_000)
    async with rig(some, upstreams={("api.test", 443): tls_upstream.address}) as r:
        code, out, err = await curl(r.address, ca_file, "https://api.test/pub/a", "https://api.test/pub/b")
        assert (code, out.count("GET /pub/")) == (0, 2), err
        code, out, err = await curl(r.address, ca_file, "-T", str(big), "https://api.test/pub/big")
        assert json.loads(out)["size"] == 3_000_000, err
        code, out, err = await curl(
            r.address, ca_file, "-T", str(big), "-H", "Transfer-Encoding: chunked", "https://api.test/pub/big"
        )
        assert json.loads(out)["size"] == 3_000_000, err
        code, out, err = await curl(r.address, ca_file, "-T", str(big), "https://api.test/private")
        assert json.loads(out)["error"] == "policy_denied"
        code, out, err = await curl(r.address, ca_file, "https://blocked.test/")
        assert code == 56
        assert "403" in err
        code, out, err = await curl(r.address, ca_file, "http://policy.local/v1/policy/current")
        assert json.loads(out)["path"] == "/v1/policy/current"
        code, out, err = await curl(r.address, ca_file, "--http2", "https://api.test/pub/a")
        assert "GET /pub/a" in out, err


async def test_upstream_certificates_are_verified(tls_upstream: Upstream) -> None:
    for host, ca_pem in (
        ("api.test", CertificateAuthority.create("somebody else").ca_pem),
        ("other.test", UPSTREAM_CA.ca_pem),
    ):
        policy = rule("p", rest(host, ("GET", "/**")))
        async with rig(policy, upstreams={(host, 443): tls_upstream.address}, ca_pem=ca_pem) as r:

            def talk(client: Client, host: str = host) -> Response:
                client.connect(f"{host}:443")
                client.tls(host)
                return client.request(f"GET / HTTP/1.1\nHost: {host}\n\n")

            answer = await r.run(talk)
            assert (answer.status, answer.json["step"], answer.json["error"]) == (502, "tls", "upstream_tls_failed")
            assert "certificate" in answer.json["detail"]
            assert r.denials == []
            assert tls_upstream.requests == []


def test_leaves_are_what_strict_clients_accept() -> None:
    authority = CertificateAuthority.create("OpenShell Sandbox CA")
    root = x509.load_pem_x509_certificate(authority.ca_pem.encode())
    assert root.subject.rfc4514_string() == "CN=OpenShell Sandbox CA,O=OpenShell"
    assert (root.not_valid_after_utc - root.not_valid_before_utc).days > 3650, "longer than any sandbox"
    context = authority.context("api.test")
    assert authority.context("api.test") is context
    for n in range(300):
        authority.context(f"h{n}.test")
    assert authority.context("api.test") is not context
    assert "PRIVATE" not in repr(authority) + authority.ca_pem
    # Python 3.13's default verification flag.
    client = ssl.create_default_context(cadata=authority.ca_pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for host in ("api.test", "10.0.0.1", "2001:db8::1", "a" * 60 + "." + "b" * 60 + ".test"):
        _handshake(authority.context(host), client, host)


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    one, two = client.wrap_bio(a, b, server_hostname=host), server.wrap_bio(b, a, server_side=True)
    for _ in range(4):
        for end in (one, two):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert one.selected_alpn_protocol() is None
    assert one.version() == "TLSv1.3"


async def test_upstreams_are_pooled_but_not_across_grants(tls_upstream: Upstream) -> None:
    wget = rule("wget", rest("api.test", ("GET", "/w/**")), binaries=("/usr/bin/wget",))
    async with rig(API, wget, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> int:
            client.connect("api.test:443")
            client.tls("api.test")
            return client.request("GET /w/1 HTTP/1.1\nHost: api.test\nConnection: close\n\n").status

        for _ in range(3):
            assert await r.run(talk) == 200
        assert tls_upstream.connections == 1
        r.identifier.identity = Identity(9, "/usr/bin/wget")
        assert await r.run(talk) == 200
        assert tls_upstream.connections == 2


async def test_idle_upstreams_expire_and_dead_ones_are_not_used(tls_upstream: Upstream) -> None:
    limits = Limits(pool_seconds=0.1, linger_seconds=0.1)
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}, limits=limits) as r:

        def talk(client: Client) -> int:
            client.connect("api.test:443")
            client.tls("api.test")
            return client.request("POST / HTTP/1.1\nHost: api.test\nContent-Length: 0\nConnection: close\n\n").status

        assert await r.run(talk) == 200
        tls_upstream.drop_all()
        assert await r.run(talk) == 200
        while len(r.plane._pool):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("tls", [True, False])
async def test_a_stalled_reader_costs_little(tls: bool) -> None:
    """1 GiB is offered, the client stops reading: what the server got rid of is bounded, and so is the proxy."""
    sent = 0
    stalled = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        piece = b"x" * 65536
        while True:
            writer.write(piece)
            try:
                async with asyncio.timeout(1):
                    await writer.drain()
            except TimeoutError:
                stalled.set()
                return
            sent += len(piece)

    upstream = Upstream(handler)
    await upstream.start("api.test" if tls else None)
    port = 443 if tls else 80
    policy = rule("p", rest("api.test", ("GET", "/**"), port=port))
    async with rig(policy, upstreams={("api.test", port): upstream.address}) as r:
        loop = asyncio.get_running_loop()

        def talk(client: Client) -> None:
            client.connect(f"api.test:{port}")
            if tls:
                client.tls("api.test")
            client.send("GET / HTTP/1.1\nHost: api.test\n\n")
            client.head()
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(stalled.wait(), 30), loop).result()

        await r.run(talk)
        assert sent < 32 << 20
    await upstream.stop()


@pytest.mark.parametrize("framing", ["length", "chunked", "eof"])
async def test_a_slow_reader_of_a_closing_server_gets_every_byte(framing: str) -> None:
    """The server is done and gone long before the client has read: nothing decrypted may be dropped."""
    size = 16 << 20

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = {"length": b"Content-Length: %d\r\n" % size, "chunked": b"Transfer-Encoding: chunked\r\n", "eof": b""}[
            framing
        ]
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + b"\r\n")
        body = bytes(range(256)) * (size // 256)
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (size, body) if framing == "chunked" else body)
        await writer.drain()
        writer.close()

    upstream = Upstream(handler)
    await upstream.start("api.test")
    async with rig(API, upstreams={("api.test", 443): upstream.address}) as r:
        loop = asyncio.get_running_loop()

        async def congested() -> None:
            async with asyncio.timeout(60):
                while not any(side.congested for side in r.plane._sides):
                    await asyncio.sleep(0)

        def talk(client: Client) -> bytes:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.connect("api.test:443")
            client.tls("api.test")
            client.send("GET / HTTP/1.1\nHost: api.test\n\n")
            assert client.head()[0] == 200
            asyncio.run_coroutine_threadsafe(congested(), loop).result()
            if framing == "chunked":
                return client.chunked()
            if framing == "length":
                return client.read(size)
            while client.receive():
                pass
            return client.buffer

        body = await r.run(talk)
        assert len(body) == size
        assert body[-256:] == bytes(range(256))
    await upstream.stop()


async def test_tls_truncation_is_not_the_end_of_a_body() -> None:
    """A body until EOF whose TLS ends without close_notify was cut: the client must be able to tell."""
    cut = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\npart")
        await cut.wait()
        writer.transport.abort()

    upstream = Upstream(handler)
    await upstream.start("api.test")
    async with rig(API, upstreams={("api.test", 443): upstream.address}) as r:

        def talk(client: Client) -> None:
            client.connect("api.test:443")
            client.tls("api.test")
            client.send("GET / HTTP/1.1\nHost: api.test\n\n")
            assert client.head()[1]["connection"] == "close"
            assert client.read(4) == b"part"
            loop.call_soon_threadsafe(cut.set)
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                client.receive()

        await r.run(talk)
        await r.log.until("NET:FAIL [LOW]")
    await upstream.stop()


async def test_server_sent_events_are_flushed_at_once() -> None:
    go = asyncio.Queue[bytes]()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await go.get():
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")

    upstream = Upstream(handler)
    await upstream.start("api.test")
    async with rig(API, upstreams={("api.test", 443): upstream.address}) as r:
        loop = asyncio.get_running_loop()

        def talk(client: Client) -> list[bytes]:
            client.connect("api.test:443")
            client.tls("api.test")
            client.send("GET /sse HTTP/1.1\nHost: api.test\n\n")
            client.head()
            seen = []
            for n in range(3):
                loop.call_soon_threadsafe(go.put_nowait, b"data: %d\n\n" % n)
                seen.append(client.read(3 + 9 + 2)[3:-2])
            loop.call_soon_threadsafe(go.put_nowait, b"")
            assert client.read(5) == b"0\r\n\r\n"
            return seen

        assert await r.run(talk) == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    await upstream.stop()


async def test_beyond_the_limit_connections_wait_their_turn(plain_upstream: Upstream) -> None:
    policy = rule("p", rest("api.test", ("GET", "/**"), port=80))
    limits = Limits(connections=2, linger_seconds=0.1)
    async with rig(policy, upstreams={("api.test", 80): plain_upstream.address}, limits=limits) as r:
        held = [Client(r.address) for _ in range(2)]

        def talk(client: Client) -> int:
            return client.request("GET http://api.test/ HTTP/1.1\nHost: x\n\n").status

        for client in held:
            assert await asyncio.to_thread(talk, client) == 200
        third = asyncio.ensure_future(r.run(talk))
        done, _ = await asyncio.wait({third}, timeout=0.2)
        assert not done
        held[0].socket.close()
        assert await asyncio.wait_for(third, 5) == 200
        held[1].socket.close()


async def test_a_raw_and_an_inspected_endpoint_side_by_side(tls_upstream: Upstream) -> None:
    """The raw tunnel carries the client's own TLS to the real server: no interception, the server's certificate."""
    policy = rule("p", raw("api.test"))
    async with rig(policy, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> int:
            client.connect("api.test:443")
            context = ssl.create_default_context(cadata=UPSTREAM_CA.ca_pem)
            client.socket = context.wrap_socket(client.socket, server_hostname="api.test")
            return client.request("GET /anything HTTP/1.1\nHost: api.test\n\n").status

        assert await r.run(talk) == 200
        assert len(r.log.lines()) == 1


async def test_close_ends_everything(tls_upstream: Upstream) -> None:
    async with rig(
        API, rule("r", raw("raw.test")), upstreams={(h, 443): tls_upstream.address for h in ("api.test", "raw.test")}
    ) as r:
        clients = [Client(r.address) for _ in range(4)]

        def prepare() -> None:
            clients[1].connect("api.test:443")
            clients[2].connect("raw.test:443")
            clients[3].connect("api.test:443")
            clients[3].tls("api.test")
            clients[3].request("GET / HTTP/1.1\nHost: api.test\n\n")

        await asyncio.to_thread(prepare)
        await r.plane.close()
        await r.plane.close()
        for client in clients:
            assert await asyncio.to_thread(client.closed)
            client.socket.close()
        with pytest.raises(ConnectionRefusedError):
            Client(r.address)
