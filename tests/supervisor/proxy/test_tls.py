"""TLS on both sides: certificates, sessions, and clients and servers that do not agree with them."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pyopenshell.audit.events import NetworkEvent
from pyopenshell.supervisor.proxy import CertificateAuthority, Limits
from pyopenshell.supervisor.proxy.tls import UpstreamTrust
from tests.supervisor.proxy.certificates import Issuer, serving
from tests.supervisor.proxy.rig import SANDBOX_CA, UPSTREAM_CA, Client, Rig, Upstream, rest, rig, rule, sandbox_ca_file

API = rule("api", rest("api.test", ("GET", "/**")))
GET = "GET /x HTTP/1.1\nHost: api.test\n\n"
NO_POOL = Limits(linger_seconds=0.2, pool_total=0)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Counting(Upstream):
    """Says for every connection whether its TLS session was resumed."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.context = context
        self.resumed: list[bool] = []

    async def start(self, host: str | None) -> None:
        self.running.append(self)
        context = self.context or UPSTREAM_CA.context(host or "")
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.resumed.append(writer.get_extra_info("ssl_object").session_reused)
        await super()._serve(reader, writer)


def trusting(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=SANDBOX_CA.ca_pem)
    context.minimum_version = context.maximum_version = version
    return context


def get(client: Client) -> int:
    client.connect("api.test:443")
    client.tls("api.test")
    return client.request(GET).status


# ----------------------------------------------------------------------------------------------------------- our leaves


def leaf_of(context: ssl.SSLContext, name: str) -> x509.Certificate:
    """The certificate that a client sees."""
    inward, outward, back, forth = (ssl.MemoryBIO() for _ in range(4))
    server = context.wrap_bio(inward, outward, server_side=True)
    asking = ssl.create_default_context()
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    client = asking.wrap_bio(back, forth, server_hostname=name)
    for _ in range(4):
        for end, out, into in ((client, forth, inward), (server, outward, back)):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            into.write(out.read())
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_one_key_for_all_leaves_and_names_of_every_kind() -> None:
    authority = CertificateAuthority.create("CA")
    leaves = {name: leaf_of(authority.context(name), name) for name in ("api.test", "192.0.2.1", "2001:db8::1")}
    keys = {leaf.public_key().public_numbers() for leaf in leaves.values()}  # type: ignore[union-attr]
    assert len(keys) == 1
    assert isinstance(leaves["api.test"].public_key(), ec.EllipticCurvePublicKey)
    names = {
        name: leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for name, leaf in leaves.items()
    }
    assert names["api.test"].get_values_for_type(x509.DNSName) == ["api.test"]
    assert names["192.0.2.1"].get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("192.0.2.1")]
    assert names["2001:db8::1"].get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("2001:db8::1")]


def test_a_leaf_is_replaced_long_before_it_expires() -> None:
    now = 1_800_000_000.0
    authority = CertificateAuthority.create("CA", lambda: now)
    first = authority.context("api.test")
    expires = leaf_of(first, "api.test").not_valid_after_utc.timestamp()
    assert expires - now < 398 * 86400
    now = expires - 31 * 86400
    assert authority.context("api.test") is first
    now = expires - 29 * 86400
    second = authority.context("api.test")
    assert second is not first
    assert leaf_of(second, "api.test").not_valid_after_utc.timestamp() > expires
    assert authority.context("api.test") is second


# ------------------------------------------------------------------------------------------------- sessions of clients


async def test_the_session_ticket_comes_with_the_first_answer_and_costs_no_packet_of_its_own(
    tls_upstream: Upstream,
) -> None:
    """TLS 1.3 sends it behind the handshake, where nobody waits for it yet."""
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> tuple[bool, bytes, bool]:
            client.connect("api.test:443")
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = trusting(ssl.TLSVersion.TLSv1_3).wrap_bio(incoming, outgoing, server_hostname="api.test")
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    client.socket.sendall(outgoing.read())
                    incoming.write(client.socket.recv(65536))
            early = tls.session is not None and tls.session.has_ticket
            tls.write(GET if isinstance(GET, bytes) else GET.replace("\n", "\r\n").encode())
            client.socket.sendall(outgoing.read())
            incoming.write(client.socket.recv(65536))
            plain = tls.read(65536)
            return early, plain, tls.session is not None and tls.session.has_ticket

        early, plain, late = await r.run(talk)
        assert not early
        assert plain.startswith(b"HTTP/1.1 200 ")
        assert late


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_returning_client_resumes_and_another_host_does_not(version: ssl.TLSVersion) -> None:
    upstream = Counting()
    await upstream.start("api.test")
    both = rule("api", rest("api.test", ("GET", "/**")), rest("other.test", ("GET", "/**")))
    addresses = {("api.test", 443): upstream.address, ("other.test", 443): upstream.address}
    async with rig(both, upstreams=addresses) as r:
        context = trusting(version)
        sessions: list[ssl.SSLSession | None] = [None]

        def visit(host: str) -> Callable[[Client], tuple[str | None, bool]]:
            def talk(client: Client) -> tuple[str | None, bool]:
                client.connect(f"{host}:443")
                tls = context.wrap_socket(client.socket, server_hostname=host, session=sessions[0])
                client.socket = tls
                client.request(f"GET /x HTTP/1.1\nHost: {host}\n\n")
                if host == "api.test":
                    sessions[0] = tls.session
                return tls.version(), bool(tls.session_reused)

            return talk

        name = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
        assert await r.run(visit("api.test")) == (name, False)
        assert await r.run(visit("api.test")) == (name, True)
        assert await r.run(visit("other.test")) == (name, False), "a ticket is good for one host"
        assert await r.run(visit("api.test")) == (name, True)


async def test_old_versions_and_other_protocols_are_not_spoken(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def alpn(client: Client) -> str | None:
            client.connect("api.test:443")
            context = trusting()
            context.set_alpn_protocols(["h2", "http/1.1"])
            client.socket = context.wrap_socket(client.socket, server_hostname="api.test")
            return client.socket.selected_alpn_protocol()

        def old(client: Client) -> None:
            client.connect("api.test:443")
            # A ClientHello of TLS 1.1 as OpenSSL would send it; this OpenSSL is not willing to.
            hello = bytes.fromhex("0302") + bytes(32) + bytes.fromhex("00 0004 c009 002f 01 00 0000")
            body = b"\x01" + len(hello).to_bytes(3, "big") + hello
            client.send(b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body)
            answer = client.read(7)
            assert answer == bytes.fromhex("15 0301 0002 02 46")[: len(answer)] or answer[5:] == b"\x02\x46"

        assert await r.run(alpn) == "http/1.1"
        await r.run(old)
        await r.log.until("TLS relay error")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_there_is_no_early_data(tls_upstream: Upstream) -> None:
    """Early data can be replayed by anybody on the way, so a ticket must not allow any."""
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        ca = sandbox_ca_file()
        command = ["openssl", "s_client", "-proxy", f"127.0.0.1:{r.address[1]}", "-connect", "api.test:443", "-tls1_3"]
        command += ["-servername", "api.test", "-CAfile", str(ca), "-verify_return_error", "-ign_eof"]
        text = "GET /x HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n"
        done = await asyncio.to_thread(
            subprocess.run, command, input=text, capture_output=True, text=True, timeout=30, check=False
        )
        ca.unlink()
        assert "HTTP/1.1 200" in done.stdout
        assert "Max Early Data: 0" in done.stdout


# ------------------------------------------------------------------------------------------------ sessions of upstreams


async def test_upstream_sessions_are_resumed_and_forgotten_with_the_policy() -> None:
    upstream = Counting()
    await upstream.start("api.test")
    async with rig(API, upstreams={("api.test", 443): upstream.address}, limits=NO_POOL) as r:
        for _ in range(3):
            assert await r.run(get) == 200
        assert upstream.resumed == [False, True, True]
        r.set_policy(API)
        assert await r.run(get) == 200
        assert upstream.resumed[3:] == [False]


def test_a_session_is_used_once_by_its_own_route_and_for_an_hour() -> None:
    now = 0.0
    trust = UpstreamTrust(lambda: now)
    session: Any = object()
    _, until = trust.session("a")
    trust.keep("a", session, until)
    assert trust.session("b")[0] is None
    assert trust.session("a") == (session, until)
    assert trust.session("a")[0] is None, "used up"
    now = until - 1
    trust.keep("a", session, until)
    assert trust.session("a") == (session, until), "a resumption does not prolong what the check is good for"
    trust.keep("a", session, until)
    now = until + 1
    assert trust.session("a")[0] is None
    for number in range(300):
        trust.keep(number, session, now + 1)
    assert trust.session(0)[0] is None
    assert trust.session(299)[0] is session


# ------------------------------------------------------------------------------------------------- untrusted upstreams

ROOT = Issuer("Root")
SUB = Issuer("Sub", ROOT)
NO_AUTHORITY = Issuer("Not an authority", ROOT, ca=False, host="issuer.test")
BAD = {
    "expired": (serving(Issuer("x", ROOT, ca=False, days=(-30, -1))), "certificate has expired"),
    "not yet valid": (serving(Issuer("x", ROOT, ca=False, days=(1, 30))), "certificate is not yet valid"),
    "another host": (serving(Issuer("x", ROOT, ca=False, host="other.test")), "Hostname mismatch"),
    "self-signed": (serving(Issuer("x", ca=False)), "self-signed certificate"),
    "unknown authority": (serving(Issuer("x", Issuer("Unknown"), ca=False)), "unable to get local issuer certificate"),
    "unknown root sent along": (
        serving(Issuer("x", unknown := Issuer("Unknown"), ca=False), unknown),
        "self-signed certificate in certificate chain",
    ),
    "missing link": (serving(Issuer("x", SUB, ca=False)), "unable to get local issuer certificate"),
    "expired link": (
        serving(Issuer("x", late := Issuer("Late", ROOT, days=(-30, -1)), ca=False), late),
        "certificate has expired",
    ),
    "issuer that is none": (serving(Issuer("x", NO_AUTHORITY, ca=False), NO_AUTHORITY), "invalid CA certificate"),
}


@pytest.mark.parametrize("flaw", BAD)
async def test_a_bad_upstream_certificate_is_never_signed_over(flaw: str) -> None:
    """attacks.md B-22: the client learns which step failed and why; its request is not sent."""
    context, reason = BAD[flaw]
    upstream = Counting(context)
    await upstream.start("api.test")
    async with rig(API, upstreams={("api.test", 443): upstream.address}, ca_pem=ROOT.pem.decode()) as r:

        def talk(client: Client) -> None:
            client.connect("api.test:443")
            client.tls("api.test")
            answer = client.request(GET)
            assert (answer.status, answer.json["error"], answer.json["step"]) == (502, "upstream_tls_failed", "tls")
            assert reason.lower() in answer.json["detail"].lower()
            assert client.request(GET).status == 502, "and again: nothing was remembered as good"

        await r.run(talk)
        await r.log.until("was not accepted", 2)
    assert upstream.requests == []


async def test_a_good_chain_is_accepted() -> None:
    """What makes the test above mean something."""
    upstream = Counting(serving(Issuer("x", SUB, ca=False), SUB))
    await upstream.start("api.test")
    async with rig(API, upstreams={("api.test", 443): upstream.address}, ca_pem=ROOT.pem.decode()) as r:
        assert await r.run(get) == 200


# -------------------------------------------------------------------------------------------------- untrusting clients


def distrusted(r: Rig) -> list[NetworkEvent]:
    return [e for e in r.log.decisions() if isinstance(e, NetworkEvent) and e.engine == "tls"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_that_does_not_know_our_authority(tls_upstream: Upstream, version: ssl.TLSVersion) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> None:
            client.connect("api.test:443")
            context = ssl.create_default_context(cadata=UPSTREAM_CA.ca_pem)
            context.minimum_version = context.maximum_version = version
            with pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(client.socket, server_hostname="api.test")

        await r.run(talk)
        await r.log.until("does not trust the sandbox CA")
        (event,) = distrusted(r)
        assert "alert unknown_ca" in event.reason
        assert "tls: skip" in event.reason
        assert event.policy == "api"
        assert not any("NET:FAIL" in line for line in r.log.lines()), "it is not a network error"
        assert r.denials == [], "no rule is missing, so none is proposed"


def shown_our_certificate(client: Client, version: ssl.TLSVersion) -> None:
    """Up to where a client has seen the certificate and has not said anything about it."""
    client.connect("api.test:443")
    context = trusting(version)
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(inward, outward, server_hostname="api.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    client.send(outward.read())
    while not outward.pending:
        inward.write(client.socket.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()


@pytest.mark.parametrize(
    ("code", "name"), [(42, "bad_certificate"), (43, "unsupported_certificate"), (46, "certificate_unknown")]
)
async def test_alerts_of_clients_with_a_pin(tls_upstream: Upstream, code: int, name: str) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> None:
            shown_our_certificate(client, ssl.TLSVersion.TLSv1_2)
            client.send(bytes.fromhex("15 0303 0002 02") + bytes([code]))

        await r.run(talk)
        await r.log.until(f"pins its certificate (alert {name})")


@pytest.mark.parametrize("version", VERSIONS)
async def test_clients_that_only_hang_up_on_our_certificate(tls_upstream: Upstream, version: ssl.TLSVersion) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:
        await r.run(lambda client: shown_our_certificate(client, version))
        await r.log.until("pins its certificate (closed right after our certificate)")
        assert len(distrusted(r)) == 1


async def test_other_failures_of_a_handshake_are_not_taken_for_distrust(tls_upstream: Upstream) -> None:
    async with rig(API, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def alert(client: Client) -> None:
            shown_our_certificate(client, ssl.TLSVersion.TLSv1_2)
            client.send(bytes.fromhex("15 0303 0002 02 28"))  # handshake_failure

        def noise(client: Client) -> None:
            shown_our_certificate(client, ssl.TLSVersion.TLSv1_2)
            client.send(b"\x16\x03\x03\x00\x04abcd")

        await r.run(alert)
        await r.run(noise)
        await r.log.until("TLS relay error", 2)
        assert distrusted(r) == []


async def test_skip_is_a_raw_tunnel_to_the_servers_own_certificate(tls_upstream: Upstream) -> None:
    skipping = rule("pinned", rest("api.test", ("GET", "/only"), tls="skip"))
    async with rig(skipping, upstreams={("api.test", 443): tls_upstream.address}) as r:

        def talk(client: Client) -> bytes:
            client.connect("api.test:443")
            context = ssl.create_default_context(cadata=UPSTREAM_CA.ca_pem)
            client.socket = context.wrap_socket(client.socket, server_hostname="api.test")
            return client.request("GET /anything HTTP/1.1\nHost: api.test\n\n").body

        assert b"GET /anything" in await r.run(talk)


# ------------------------------------------------------------------------------------------------------ ends of streams


async def test_a_client_that_stops_sending_still_gets_its_answer() -> None:
    """close_notify ends one direction (RFC 8446, 6.1)."""
    stopped = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.read_request(reader, writer)
        await stopped.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    upstream = Upstream(slow)
    await upstream.start("api.test")
    loop = asyncio.get_running_loop()
    async with rig(API, upstreams={("api.test", 443): upstream.address}) as r:

        def talk(client: Client) -> bytes:
            client.connect("api.test:443")
            inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = trusting().wrap_bio(inward, outward, server_hostname="api.test")

            def until(step: Callable[[], Any]) -> Any:
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        client.send(outward.read())
                        data = client.socket.recv(65536)
                        inward.write(data) if data else inward.write_eof()

            until(tls.do_handshake)
            tls.write(GET.replace("\n", "\r\n").encode())
            with pytest.raises(ssl.SSLWantReadError):
                tls.unwrap()
            client.send(outward.read())
            loop.call_soon_threadsafe(stopped.set)
            got = b""
            while not got.endswith(b"ok"):
                got += until(lambda: tls.read(65536))
            with pytest.raises(ssl.SSLZeroReturnError):
                until(lambda: tls.read(1))  # our close_notify behind it
            return got

        assert (await r.run(talk)).startswith(b"HTTP/1.1 200 OK")


async def test_an_end_without_close_notify_is_a_cut_not_an_end() -> None:
    """Anybody on the way can forge TCP's end, and a body that lasts until the end would look complete."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.read_request(reader, writer)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await writer.drain()
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as beneath:
            beneath.shutdown(socket.SHUT_WR)
        await reader.read()

    upstream = Upstream(cut)
    await upstream.start("api.test")
    async with rig(API, upstreams={("api.test", 443): upstream.address}) as r:

        def talk(client: Client) -> None:
            client.connect("api.test:443")
            client.tls("api.test")
            client.send(GET)
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                client.response()

        await r.run(talk)


@pytest.mark.parametrize("size", [1, 16384, 16385, 3_000_000])
async def test_bodies_of_every_size_pass_unchanged(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, sent = await upstream.read_request(reader, writer)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent)
        await writer.drain()
        await reader.read()

    upstream = Upstream(echo)
    await upstream.start("api.test")
    everything = rule("api", rest("api.test", ("POST", "/**")))
    async with rig(everything, upstreams={("api.test", 443): upstream.address}) as r:

        def talk(client: Client) -> bytes:
            client.connect("api.test:443")
            client.tls("api.test")
            client.send(f"POST /x HTTP/1.1\nHost: api.test\nContent-Length: {size}\n\n")
            client.send(body[:size])
            return client.response().body

        assert await r.run(talk) == body[:size]
