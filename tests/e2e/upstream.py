"""A real HTTPS server for end-to-end tests: own CA, loopback only, records what arrived, streams on command."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import pathlib
import ssl
import threading
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclasses.dataclass(slots=True)
class Arrived:
    """One request as the upstream saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclasses.dataclass(slots=True)
class Upstream:
    """A `/stream` response starts with `data: open`; `step()` sends a line on all of them, `finish()` ends them."""

    port: int
    ca_file: pathlib.Path
    loop: asyncio.AbstractEventLoop
    requests: list[Arrived]
    files: dict[str, bytes]
    streams: list[asyncio.Queue[bytes | None]]

    def step(self, line: bytes = b"data: tick\n\n") -> None:
        for queue in self.streams:
            self.loop.call_soon_threadsafe(queue.put_nowait, line)

    def finish(self) -> None:
        for queue in self.streams:
            self.loop.call_soon_threadsafe(queue.put_nowait, None)
        self.streams.clear()

    def seen(self, method: str, target: str) -> int:
        return sum(1 for r in self.requests if (r.method, r.target) == (method, target))


def authority(directory: pathlib.Path, names: list[str]) -> tuple[pathlib.Path, pathlib.Path, pathlib.Path]:
    """Files of a new authority's certificate, of a server certificate for `names`, and of its key."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e upstream CA")])

    def builder(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    paths = directory / "up-ca.pem", directory / "up-cert.pem", directory / "up-key.pem"
    paths[0].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@contextlib.contextmanager
def serve(directory: pathlib.Path, names: list[str]) -> Iterator[Upstream]:
    """Run the server in a thread until the block ends."""
    ca_file, cert, key = authority(directory, names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    started = threading.Event()
    holder: list[Upstream] = []
    stop: list[asyncio.Event] = []

    async def main() -> None:
        end = asyncio.Event()
        stop.append(end)
        upstream = Upstream(0, ca_file, asyncio.get_running_loop(), [], {}, [])

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
                while await _exchange(upstream, reader, writer):
                    pass
            writer.close()

        server = await asyncio.start_server(client, "127.0.0.1", 0, ssl=context, limit=1 << 20)
        upstream.port = server.sockets[0].getsockname()[1]
        holder.append(upstream)
        started.set()
        await end.wait()
        server.close()
        upstream.finish()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="e2e-upstream")
    thread.start()
    assert started.wait(10)
    try:
        yield holder[0]
    finally:
        holder[0].loop.call_soon_threadsafe(stop[0].set)
        thread.join(10)


async def _exchange(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    body = b""
    if "content-length" in headers:
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    upstream.requests.append(Arrived(method, target, headers, body))
    path = target.split("?")[0]
    if path == "/stream":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        queue.put_nowait(b"data: open\n\n")
        upstream.streams.append(queue)
        while (line := await queue.get()) is not None:
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True
    status, answer = b"200 OK", b"ok\n"
    if method == "PUT":
        upstream.files[path] = body
        status, answer = b"201 Created", b'{"created":true}\n'
    elif path in upstream.files:
        answer = upstream.files[path]
    kind = b"text/html" if path.endswith("/") else b"application/octet-stream"
    writer.write(b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(answer)))
    if method != "HEAD":
        writer.write(answer)
    await writer.drain()
    return headers.get("connection", "").lower() != "close"
