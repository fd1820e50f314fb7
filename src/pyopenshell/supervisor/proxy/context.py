"""What the proxy is given: everything it needs from other rooms, as values and small protocols.

Decides nothing. Built once by the supervisor; tests build it with fakes.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from pyopenshell.policy.content import MAX_HELD
from pyopenshell.supervisor.programs import ProgramNames
from pyopenshell.supervisor.proxy.names import Names

if TYPE_CHECKING:
    from pyopenshell.audit.events import AuditSink
    from pyopenshell.isolation.identity import Identifier
    from pyopenshell.supervisor.current import Current
    from pyopenshell.supervisor.denial import Denial
    from pyopenshell.supervisor.proxy.tls import CertificateAuthority

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> addresses as text. Raises OSError when there are none."""


class Override(Protocol):
    """Operator-owned connect-to entry (`drivers.base.ConnectTo` fits)."""

    @property
    def address(self) -> str:
        """host:port to dial, the host a literal address."""

    @property
    def ca_pem(self) -> str:
        """Certificates trusted for this one destination besides the system's; "" for none."""


@dataclasses.dataclass(frozen=True, slots=True)
class LocalResponse:
    """Answer of `policy.local`. `body` is JSON; `headers` are sent besides Content-Type, -Length and Connection."""

    status: int
    body: bytes
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


class LocalHandler(Protocol):
    """The routes behind http://policy.local."""

    async def handle(self, method: str, path_and_query: str, headers: Mapping[str, str], body: bytes) -> LocalResponse:
        """Answer one request. Header names are lower case. Cancelled when the client goes away."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the proxy. Sizes in bytes, times in seconds. Heads and local bodies: contract/sandbox.md 11."""

    door_head: int = 8192
    tunnel_head: int = 16384
    response_head: int = 65536
    head_seconds: float = 30.0
    """For a complete request head, or for the first bytes in an inspected tunnel."""
    idle_seconds: float = 300.0
    """For a client's next request. This and the next five are looked at every `watch_seconds`."""
    response_seconds: float = 300.0
    """For a server's response head, once the request is sent: long polls are real."""
    stall_seconds: float = 300.0
    """For the next bytes of a body whose length was announced, and for anybody to take any of what is waiting."""
    stream_seconds: float = 3600.0
    """For the next bytes of a response without an announced length: event streams may be silent for long."""
    body_seconds: float = 60.0
    body_bytes: int = 256
    """Of a request's body, in each `body_seconds` in which nobody but the client is waited for."""
    watch_seconds: float = 5.0
    handshake_seconds: float = 10.0
    connect_seconds: float = 10.0
    """For one upstream: all its addresses together."""
    stagger_seconds: float = 0.25
    """Between attempts at the addresses of one name (RFC 8305, 5)."""
    wildcard_names: int = 1024
    """Distinct names asked for under the wildcards of one rule (`wildcards`)."""
    lookups: int = 16
    """Names looked up at the same time."""
    lookup_seconds: float = 10.0
    local_body: int = 65536
    local_seconds: float = 15.0
    local_requests: int = 64
    """Requests to `policy.local` under way at the same time."""
    content_seconds: float = 30.0
    """For a body that is judged: it comes from inside the sandbox, and nothing is sent before all of it is there."""
    content_held: int = MAX_HELD
    """Of such bodies held at the same time, in the whole sandbox."""
    drain_bytes: int = 1 << 20
    """Of a request body that nobody wants, read so that the connection can go on."""
    patience_seconds: float = 1.0
    """For a captured client to name its server in its first bytes, and for a refused one to show what it speaks."""
    linger_seconds: float = 2.0
    """Between the last answer and the close, so that the client can read it."""
    connections: int = 4096
    """Open client connections; beyond it new ones wait in the listener's backlog."""
    pool_per_key: int = 32
    """Package managers open dozens of connections to one server; one that is not kept costs a handshake next time."""
    pool_total: int = 64
    pool_seconds: float = 30.0
    resolve_seconds: float = 30.0
    """Age after which a tunnel resolves and checks its destination again before dialling."""
    message_text: int = 4 << 20
    """Of a WebSocket text message; this and the next six: contract/sandbox.md 1.4 and 11."""
    message_frame: int = 16 << 20
    """Of a binary frame."""
    message_fragments: int = 4096
    message_idle_seconds: float = 30.0
    message_seconds: float = 120.0
    messages_active: int = 32
    """Text messages that may be half-arrived at the same time, in the whole sandbox."""
    messages_waiting: int = 64
    close_seconds: float = 10.0
    """For the server to answer a WebSocket client's close."""
    tunnel_seconds: float = 86400.0
    """Without a byte in either direction before a raw tunnel or a WebSocket ends; 0: never. The operator's choice."""
    high_water: int = 262144
    low_water: int = 65536
    memory: int = 256 << 20
    """Of what waits above the marks, over all connections (`memory`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class PlaneContext:
    """Everything `Plane` works with."""

    current: Current
    identifier: Identifier
    audit: AuditSink
    denied: Callable[[Denial], None]
    authority: CertificateAuthority
    local: LocalHandler
    connect_to: Mapping[tuple[str, int], Override] = dataclasses.field(default_factory=dict)
    """Keyed by (canonical host, port)."""
    resolver: Resolver | None = None
    """None: the host's getaddrinfo, bounded (`lookup`)."""
    hosts: Names = dataclasses.field(default_factory=Names)
    """What policy DNS answered: which name a captured connection means."""
    original_destination: Callable[[socket.socket], tuple[str, int] | None] = lambda _: None
    """Where a captured connection was going (canonical address, port); None when it was going to us."""
    blocked: frozenset[tuple[str, int]] = frozenset()
    """(address, port) pairs never dialled, not even by an override: the gateway's own."""
    limits: Limits = dataclasses.field(default_factory=Limits)
    names: ProgramNames = dataclasses.field(default_factory=ProgramNames)
