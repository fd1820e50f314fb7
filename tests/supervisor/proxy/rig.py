"""A whole plane on loopback: real listener, real TLS upstreams behind connect-to, a blocking client in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pyopenshell.audit.events import Event, FindingEvent, HttpEvent, NetworkEvent
from pyopenshell.audit.shorthand import shorthand
from pyopenshell.isolation.identity import Identity, IdentityError
from pyopenshell.policy.decision import PolicyEngine
from pyopenshell.policy.engine import compile as compile_policy
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.supervisor.current import Current
from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.proxy import CertificateAuthority, Limits, LocalResponse, Plane, PlaneContext
from pyopenshell.supervisor.proxy.memory import Memory
from pyopenshell.supervisor.proxy.names import Names

Result = TypeVar("Result")
CURL = Identity(64, "/usr/bin/curl", ("/usr/bin/bash",), "ab" * 32)
UPSTREAM_CA = CertificateAuthority.create("Upstream test CA")
SANDBOX_CA = CertificateAuthority.create("OpenShell Sandbox CA")


@dataclasses.dataclass(frozen=True)
class Override:
    address: str
    ca_pem: str = ""


class FakeIdentifier:
    def __init__(self) -> None:
        self.identity: Identity | None = CURL
        self.asked = 0

    async def identify(self, accepted: socket.socket) -> Identity:
        accepted.getpeername()
        self.asked += 1
        if self.identity is None:
            raise IdentityError("owner_ambiguous", "ambiguous shared socket ownership")
        return self.identity


class FakeLocal:
    """Echoes what it was asked, or waits for `gate`."""

    def __init__(self) -> None:
        self.gate: asyncio.Event | None = None
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def handle(self, method: str, path_and_query: str, headers: Mapping[str, str], body: bytes) -> LocalResponse:
        self.started.set()
        if path_and_query == "/crash":
            raise TypeError("a bug")
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        answer = {"method": method, "path": path_and_query, "body": body.decode(), "agent": headers.get("user-agent")}
        return LocalResponse(202 if method == "POST" else 200, json.dumps(answer).encode())


class Log:
    """An audit sink whose entries can be awaited."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)
        for ready, future in list(self._waiters):
            if not future.done() and ready():
                future.set_result(None)

    def decisions(self) -> list[NetworkEvent | HttpEvent]:
        """Verdicts: every HTTP event, and network events that are neither start-up nor failure."""
        return [
            e
            for e in self.events
            if isinstance(e, HttpEvent) or (isinstance(e, NetworkEvent) and e.activity not in ("LISTEN", "FAIL"))
        ]

    def lines(self) -> list[str]:
        return [shorthand(e) for e in self.events if not (isinstance(e, NetworkEvent) and e.activity == "LISTEN")]

    def findings(self) -> list[FindingEvent]:
        return [e for e in self.events if isinstance(e, FindingEvent)]

    async def until(self, text: str, count: int = 1) -> None:
        """Wait until `text` stands in at least `count` lines."""

        def ready() -> bool:
            return sum(text in line for line in self.lines()) >= count

        if not ready():
            future = asyncio.get_running_loop().create_future()
            self._waiters.append((ready, future))
            async with asyncio.timeout(10):
                await future


@dataclasses.dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


class Client:
    """A blocking HTTP client that sends exactly the bytes it is told to."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket: socket.socket = socket.create_connection(address, timeout=10)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data if isinstance(data, bytes) else data.replace("\n", "\r\n").encode())

    def receive(self) -> bytes:
        data = self.socket.recv(1 << 20)
        self.buffer += data
        return data

    def read(self, size: int) -> bytes:
        while len(self.buffer) < size and self.receive():
            pass
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self.buffer:
            if not self.receive():
                raise EOFError(repr(self.buffer))
        raw, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:])
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in fields}

    def response(self, method: str = "GET") -> Response:
        status, headers = self.head()
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Response(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, self.chunked())
        if "content-length" in headers:
            size = int(headers["content-length"])
            body = self.read(size)
            if len(body) != size:
                raise EOFError(f"{len(body)} of {size} bytes")
            return Response(status, headers, body)
        if method == "CONNECT" and status == 200:
            return Response(status, headers, b"")
        while self.receive():
            pass
        body, self.buffer = self.buffer, b""
        return Response(status, headers, body)

    def chunked(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                if not self.receive():
                    raise EOFError("chunked body cut")
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if not size:
                while b"\r\n" not in self.buffer:
                    self.receive()
                self.trailer = self.buffer
                self.buffer = self.buffer.rpartition(b"\r\n")[2]
                return body
            body += self.read(size)
            self.read(2)

    def request(self, raw: bytes | str, method: str = "GET") -> Response:
        self.send(raw)
        return self.response(method)

    def connect(self, authority: str) -> Response:
        return self.request(f"CONNECT {authority} HTTP/1.1\nHost: {authority}\n\n", "CONNECT")

    def tls(self, host: str, *, sni: str | None = None, verify: bool = True) -> None:
        context = ssl.create_default_context(cadata=SANDBOX_CA.ca_pem)
        context.set_alpn_protocols(["http/1.1"])
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(
            self.socket, server_hostname=sni if sni is not None else host, suppress_ragged_eofs=False
        )

    def closed(self) -> bool:
        """Whether the proxy ends the connection (it waits for that)."""
        try:
            return self.buffer == b"" and self.socket.recv(1) == b""
        except (ConnectionResetError, ssl.SSLError):
            return True


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """A real server. Without a handler it answers every request with what it received, as JSON."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.handler = handler
        self.requests: list[tuple[str, bytes]] = []
        """(head, body) of every request, head without the blank line."""
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""

    running: ClassVar[list[Upstream]] = []

    async def start(self, host: str | None) -> None:
        self.running.append(self)
        context = UPSTREAM_CA.context(host) if host else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Idempotent; the fixture in conftest calls it for whatever a failed test left."""
        if self._server is None:
            return
        self.running.remove(self)
        server, self._server = self._server, None
        server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await server.wait_closed()

    def drop_all(self) -> None:
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await (self.handler or self.echo)(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await self.read_request(reader, writer)
            first = head.partition("\r\n")[0]
            answer = json.dumps({"request": first, "size": len(body)}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
            if not head.startswith("HEAD "):
                writer.write(answer)

    async def read_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1")
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:])}
        if fields.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if "content-length" in fields:
            body = await reader.readexactly(int(fields["content-length"]))
        elif "transfer-encoding" in fields:
            while True:
                line = await reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                if not size:
                    while (await reader.readuntil(b"\r\n")) != b"\r\n":
                        pass
                    break
                body += (await reader.readexactly(size + 2))[:-2]
        self.requests.append((head, body))
        return head, body


@dataclasses.dataclass
class Rig:
    plane: Plane
    current: Current
    log: Log
    denials: list[Denial]
    identifier: FakeIdentifier
    local: FakeLocal
    address: tuple[str, int]
    resolved: list[str]
    answers: dict[str, list[str]]
    """Host -> addresses the resolver gives, in place of DNS."""
    names: Names
    captured: tuple[str, int]
    """Where redirected connections arrive."""
    target: list[tuple[str, int]]
    """Where the next of them was going; empty: here."""

    def going_to(self, host: str, port: int) -> None:
        """A name goes through policy DNS, an address does not."""
        if host[0].isdigit() or ":" in host:
            self.target[:] = [(host, port)]
            return
        addresses = self.names.assign(host, open_ended=False)
        assert addresses
        self.target[:] = [(str(addresses.ipv4), port)]

    def set_policy(self, *rules: Rule) -> None:
        self.current.swap(compile_policy(Policy(rules=rules)), version=self.current.version + 1, policy_hash="h")
        self.plane.policy_changed()

    async def run(self, work: Callable[[Client], Result], address: tuple[str, int] | None = None) -> Result:
        """Run a blocking client conversation in a thread."""

        def call() -> Result:
            with Client(address or self.address) as client:
                return work(client)

        return await asyncio.to_thread(call)


def unbounded() -> Memory:
    """For one connection by itself."""
    return Memory(1 << 30, 1 << 18, 1 << 16, lambda _: None)


def rule(key: str, *endpoints: Endpoint, binaries: tuple[str, ...] = ("/usr/bin/curl",)) -> Rule:
    return Rule(key, endpoints, binaries)


def rest(host: str, *allow: tuple[str, str], port: int = 443, **more: Any) -> Endpoint:
    rules = tuple(L7Match(method, path) for method, path in allow)
    return Endpoint(host, (port,), protocol="rest", rules=rules, **more)


def raw(host: str, port: int = 443, **more: Any) -> Endpoint:
    return Endpoint(host, (port,), **more)


@contextlib.asynccontextmanager
async def rig(
    *rules: Rule,
    upstreams: Mapping[tuple[str, int], str] | None = None,
    engine: PolicyEngine | None = None,
    limits: Limits | None = None,
    blocked: frozenset[tuple[str, int]] = frozenset(),
    ca_pem: str = UPSTREAM_CA.ca_pem,
) -> AsyncIterator[Rig]:
    """A serving plane. `upstreams` maps (host, port) to the address that is dialled for it."""
    current = Current(engine or compile_policy(Policy(rules=rules)))
    log, denials, identifier, local = Log(), list[Denial](), FakeIdentifier(), FakeLocal()
    resolved: list[str] = []
    answers: dict[str, list[str]] = {}

    async def resolver(host: str, port: int) -> list[str]:
        resolved.append(host)
        if host not in answers:
            raise OSError(-2, "Name or service not known")
        return answers[host]

    target: list[tuple[str, int]] = []
    context = PlaneContext(
        current=current,
        identifier=identifier,
        audit=log,
        denied=denials.append,
        authority=SANDBOX_CA,
        local=local,
        connect_to={key: Override(address, ca_pem) for key, address in (upstreams or {}).items()},
        resolver=resolver,
        original_destination=lambda _: target[0] if target else None,
        blocked=blocked,
        limits=limits or Limits(linger_seconds=0.2),
    )
    plane = Plane(context)
    asyncio.get_running_loop().set_exception_handler(plane.defects.unexpected)
    listener, captured = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    await plane.serve(listener)
    await plane.capture(captured)
    try:
        yield Rig(
            plane,
            current,
            log,
            denials,
            identifier,
            local,
            listener.getsockname(),
            resolved,
            answers,
            context.hosts,
            captured.getsockname(),
            target,
        )
    finally:
        await plane.close()
        asyncio.get_running_loop().set_exception_handler(None)


def sandbox_ca_file() -> Path:
    """The sandbox's CA on disk, for real clients."""
    handle, name = tempfile.mkstemp(suffix=".pem")
    with open(handle, "w") as file:
        file.write(SANDBOX_CA.ca_pem)
    return Path(name)
