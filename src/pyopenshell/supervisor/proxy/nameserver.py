"""The sockets of policy DNS: UDP and TCP, and what is said about refused questions.

Moves bytes between the sandbox and `dns`; bounded per turn, per connection and in what it writes down.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyopenshell.policy.decision import Condition
from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.proxy.policy_dns import MAX_QUERY, FrameError, Frames, framed
from pyopenshell.supervisor.proxy.quota import Quota

if TYPE_CHECKING:
    from pyopenshell.supervisor.proxy.policy_dns import PolicyDns
    from pyopenshell.supervisor.proxy.records import Recorder

_BURST = 16
"""Datagrams per turn of the loop, so that a flood of questions leaves time for connections."""
_CONNECTIONS = 64
_IDLE_SECONDS = 10.0
_REMEMBERED = 256
_REPEAT_SECONDS = 60.0
"""A question that was refused is the same refusal for this long: counted, not written again."""


class Refusals:
    """Refused questions as denials, and questions for which there is no address, within bounds: names are the agent's
    choice."""

    def __init__(
        self,
        record: Recorder,
        clock: Callable[[], float],
        after: Callable[[float, Callable[[], None]], object],
        *,
        any_policy: Callable[[], bool],
    ) -> None:
        self._record = record
        self._clock = clock
        self._any_policy = any_policy
        self._recent: dict[str, tuple[Denial, float]] = {}
        self._names = Quota(self._more_refused, clock, after)
        self._full = Quota(self._more_full, clock, after)

    def add(self, name: str, kind: str) -> str:
        """The denial's id; "" when there were too many to write this one down."""
        now = self._clock()
        known = self._recent.get(name)
        if known is not None and now - known[1] < _REPEAT_SECONDS:
            self._record.counted(known[0])
            return known[0].id
        if not self._names.take():
            return ""
        denial = Denial(
            layer="l4",
            stage="dns",
            host=name,
            port=0,
            detail=f"DNS {kind} {name}: no rule of the policy names this host",
            protocol="dns",
            condition=Condition.HOST.value if self._any_policy() else Condition.NO_POLICY.value,
        )
        if len(self._recent) >= _REMEMBERED:
            del self._recent[next(iter(self._recent))]
        self._recent.pop(name, None)
        self._recent[name] = (denial, now)
        self._record.refused_name(denial)
        return denial.id

    def full(self, name: str, state: str) -> None:
        """Policy allows the name, and there is no address left for it. `state` says what took them."""
        if self._full.take():
            self._record.failed(name, 0, f"policy DNS has no address left for this name: {state}")

    def _more_refused(self, count: int) -> None:
        self._record.failed("", 0, f"policy DNS refused {count} more questions, not listed one by one")

    def _more_full(self, count: int) -> None:
        self._record.failed("", 0, f"policy DNS had no address left for {count} more questions, not listed one by one")


class NameServer:
    """Serves any number of sockets until `close`."""

    def __init__(self, dns: PolicyDns) -> None:
        self._dns = dns
        self._loop = asyncio.get_running_loop()
        self._datagrams: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self.connections: set[_Stream] = set()

    def __repr__(self) -> str:
        return f"<policy DNS, {len(self.connections)} TCP connections>"

    def serve_datagrams(self, sock: socket.socket) -> None:
        """On a bound UDP socket, which is the server's from now on."""
        sock.setblocking(False)
        self._datagrams.append(sock)
        self._loop.add_reader(sock.fileno(), self._readable, sock)

    async def serve_streams(self, sock: socket.socket) -> None:
        """On a listening TCP socket, which is the server's from now on."""
        self._servers.append(await self._loop.create_server(lambda: _Stream(self._dns, self), sock=sock))

    def close(self) -> None:
        for sock in self._datagrams:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        for server in self._servers:
            server.close()
        for stream in list(self.connections):
            stream.abort()
        self._datagrams, self._servers = [], []

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                data, sender = sock.recvfrom(MAX_QUERY + 1)
            except OSError:  # nothing more, or an ICMP error for an earlier answer
                return
            answer = self._dns.answer(data)
            if answer is not None:
                with contextlib.suppress(OSError):  # a client that does not read loses its answer, as UDP does
                    sock.sendto(answer, sender)


@dataclasses.dataclass(eq=False, slots=True)
class _Stream(asyncio.Protocol):
    """One TCP client."""

    dns: PolicyDns
    server: NameServer
    frames: Frames = dataclasses.field(default_factory=Frames)
    transport: Any = None
    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's are no asyncio.Transport
        self.transport = transport
        if len(self.server.connections) >= _CONNECTIONS:
            transport.abort()
            return
        self.server.connections.add(self)
        self._rearm()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self.frames.feed(data)
        except FrameError:
            self.transport.abort()
            return
        self._rearm()
        for message in messages:
            answer = self.dns.answer(message)
            if answer is not None:
                self.transport.write(framed(answer))

    def pause_writing(self) -> None:
        # It asks without reading the answers.
        self.abort()

    def connection_lost(self, _: BaseException | None) -> None:
        self.server.connections.discard(self)
        if self.timer is not None:
            self.timer.cancel()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _rearm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self.abort)
