"""What a web site does that programs rely on: ranges, gzip, redirects, uploads, HEAD, HTTP/1.0, git over smart HTTP.

Python's own threading HTTP server behind TLS, loopback only. Counts and hashes bodies instead of keeping them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCK = hashlib.sha256(b"block").digest() * 2048  # 64 KiB that no layer can compress away unnoticed


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """One request as the site saw it; `connection` tells its TCP connections apart."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    size: int
    sha256: str
    connection: int


@dataclasses.dataclass(slots=True)
class Site:
    port: int = 0
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """Path to content; a path that ends in "/" is HTML."""
    repositories: pathlib.Path | None = None
    """Served at /git/ by git-http-backend."""
    seen: list[Seen] = dataclasses.field(default_factory=list)

    def requests(self, path: str, method: str = "") -> list[Seen]:
        return [one for one in self.seen if one.target.partition("?")[0] == path and method in ("", one.method)]


def big(size: int) -> Iterator[bytes]:
    """The bytes of /big?bytes=SIZE."""
    while size > 0:
        yield BLOCK[:size]
        size -= len(BLOCK)


def sha256_of_big(size: int) -> str:
    digest = hashlib.sha256()
    for piece in big(size):
        digest.update(piece)
    return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "site"
    site: Site
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests look at `Site.seen`."""

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 65536))
            if not piece:
                raise ConnectionResetError("body cut off")
            left -= len(piece)
            yield piece

    def _take(self, keep: bool = False) -> tuple[Seen, bytes]:
        digest, size, kept = hashlib.sha256(), 0, []
        for piece in self._body():
            digest.update(piece)
            size += len(piece)
            if keep:
                kept.append(piece)
        headers = {name.lower(): value for name, value in self.headers.items()}
        connection = self.client_address[1]
        seen = Seen(self.command, self.path, self.request_version, headers, size, digest.hexdigest(), connection)
        self.site.seen.append(seen)
        return seen, b"".join(kept)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _any(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path.startswith("/git/"):
            self._git(url)
            return
        seen, _ = self._take()
        if url.path == "/redirect":
            self._answer(int(query.get("status", "302")), b"moved\n", Location=query["to"])
        elif url.path == "/big":
            self._big(int(query["bytes"]), chunked="chunked" in query)
        elif url.path == "/gzip" and "gzip" in seen.headers.get("accept-encoding", ""):
            packed = gzip.compress(b"unpacked\n")
            self._answer(200, packed, Content_Encoding="gzip", Content_Type="text/plain")
        elif self.command in ("PUT", "POST", "PATCH", "DELETE"):
            text = json.dumps({"method": self.command, "bytes": seen.size, "sha256": seen.sha256})
            self._answer(201 if self.command == "PUT" else 200, text.encode(), Content_Type="application/json")
        else:
            self._file(url.path)

    def _file(self, path: str) -> None:
        content = self.site.files.get(path, b"ok\n")
        kind = "text/html" if path.endswith("/") else "application/octet-stream"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._answer(200, content, Content_Type=kind, Accept_Ranges="bytes", ETag='"1"')
            return
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        place = f"bytes {first}-{last}/{len(content)}"
        self._answer(206, content[first : last + 1], Content_Type=kind, Content_Range=place, ETag='"1"')

    def _big(self, size: int, *, chunked: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(size))
        self.end_headers()
        for piece in big(size):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _git(self, url: urllib.parse.SplitResult) -> None:
        assert self.site.repositories is not None
        _, body = self._take(keep=True)
        variables = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.site.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(self.site.repositories),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": url.path.removeprefix("/git"),
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "agent",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=variables, capture_output=True, check=True)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200").split()[0])
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


for _method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler._any)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[_Handler], context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(("127.0.0.1", 0), handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread, so that a client that never shakes hands holds up nobody else."""
        with contextlib.suppress(OSError), self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests do on purpose."""


@contextlib.contextmanager
def serve_site(certificate: pathlib.Path, key: pathlib.Path) -> Iterator[Site]:
    """Run the site in a thread until the block ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site = Site()
    server = _Server(type("Handler", (_Handler,), {"site": site}), context)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="e2e-site")
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
