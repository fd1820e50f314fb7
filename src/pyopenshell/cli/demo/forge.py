"""A small stand-in for GitHub's contents API: real TLS with an authority of its own, real HTTP/1.1, files in memory.

Only for the demo and its tests. It keeps what was uploaded, so that the demo can verify it byte by byte.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime
import hashlib
import ipaddress
import json
import re
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_ROUTE = re.compile(r"/repos/([\w.-]+/[\w.-]+)/contents/([^?]+)\Z")
_LIMIT = 1 << 20
_PHRASES = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
}


class Forge:
    """Use `async with forge(host)`. `files` maps (repository, path) to content; a `token` is asked for when set."""

    def __init__(self, ca_pem: str, port: int, token: str = "") -> None:
        self.ca_pem, self.port, self._token = ca_pem, port, token
        self.files: dict[tuple[str, str], bytes] = {}
        self.requests: list[str] = []

    def answer(self, method: str, target: str, body: bytes, authorization: str = "") -> tuple[int, dict[str, Any]]:
        """One request, judged: what GitHub would say, in the fields the demo uses."""
        self.requests.append(f"{method} {target}")
        if self._token and authorization != f"Bearer {self._token}":
            return 401, {"message": "Bad credentials"}
        route = _ROUTE.match(target.partition("?")[0])
        if route is None:
            return 404, {"message": "Not Found"}
        key = (route[1], route[2])
        if method == "GET":
            if key not in self.files:
                return 404, {"message": "Not Found"}
            content = base64.b64encode(self.files[key]).decode()
            return 200, {"path": key[1], "sha": blob_sha(self.files[key]), "encoding": "base64", "content": content}
        if method != "PUT":
            return 405, {"message": f"{method} is not offered"}
        try:
            document = json.loads(body)
            content_bytes = base64.b64decode(document["content"], validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error):
            return 400, {"message": "Problems parsing JSON"}
        status = 200 if key in self.files else 201
        self.files[key] = content_bytes
        return status, {"content": {"path": key[1], "sha": blob_sha(content_bytes)}}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, keep-alive."""
        try:
            while (request := await _read_request(reader)) is not None:
                method, target, body, authorization, keep = request
                status, document = self.answer(method, target, body, authorization)
                payload = json.dumps(document).encode()
                connection = "keep-alive" if keep else "close"
                writer.write(
                    f"HTTP/1.1 {status} {_PHRASES[status]}\r\nServer: demo-forge\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(payload)}\r\nConnection: {connection}\r\n\r\n".encode()
                    + payload
                )
                await writer.drain()
                if not keep:
                    break
        except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # not HTTP/1.1 as we speak it, or gone: nothing to answer
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes, str, bool] | None:
    """(method, target, body, Authorization, keep-alive); None at the end. Raises ValueError on bad framing."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = head.decode("ascii").split("\r\n")[:-2]
    method, target, version = first.split(" ")
    headers = {name.strip().lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if "transfer-encoding" in headers or not 0 <= length <= _LIMIT or version != "HTTP/1.1":
        raise ValueError("unsupported framing")
    body = await reader.readexactly(length)
    return method, target, body, headers.get("authorization", ""), headers.get("connection", "").lower() != "close"


def blob_sha(content: bytes) -> str:
    """git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@asynccontextmanager
async def forge(host: str, *, address: str = "127.0.0.1", port: int = 0, token: str = "") -> AsyncIterator[Forge]:
    """A running server that holds a certificate for `host`; on a free loopback port unless told otherwise."""
    ca_pem, context = await asyncio.to_thread(_certificates, host)
    stand_in = Forge(ca_pem, 0, token)
    server = await asyncio.start_server(stand_in.serve, address, port, ssl=context, limit=65536)
    stand_in.port = server.sockets[0].getsockname()[1]
    try:
        yield stand_in
    finally:
        server.close()


def _certificates(host: str) -> tuple[str, ssl.SSLContext]:
    """An authority that exists for this run only, and a server context with a certificate for `host` from it."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pyopenshell demo authority")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.CertificateBuilder:
        usage = dict.fromkeys(("content_commitment", "data_encipherment", "encipher_only", "decipher_only"), False)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=6))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not ca,
                    key_cert_sign=ca,
                    crl_sign=ca,
                    key_encipherment=False,
                    key_agreement=False,
                    **usage,
                ),
                critical=True,
            )
        )

    authority = builder(authority_name, authority_key.public_key(), ca=True).sign(authority_key, hashes.SHA256())
    names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), key.public_key(), ca=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    with tempfile.TemporaryDirectory(prefix="openshell-demo-") as folder:  # ssl loads keys from files only
        chain = Path(folder) / "chain.pem"
        chain.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + leaf.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(chain)
    return authority.public_bytes(serialization.Encoding.PEM).decode(), context
