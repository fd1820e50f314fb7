"""What the protocol machines need of the outside: channels of bytes, timers, upstreams. Interfaces only.

The machines (`relay`, `doors`) import this and no socket; `transport` and `plane` implement it, tests use lists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyopenshell.supervisor.denial import Denial
    from pyopenshell.supervisor.proxy.admission import Admission, Failure
    from pyopenshell.supervisor.proxy.context import Limits
    from pyopenshell.supervisor.proxy.http1 import Head
    from pyopenshell.supervisor.proxy.relay import Relay


class Timer(Protocol):
    def cancel(self) -> None: ...


class Channel(Protocol):
    """A connected byte stream. Events go to whoever called `bind` last."""

    reading: bool
    """False after `pause`."""
    ended: bool
    """The peer said that nothing more comes."""
    congested: bool
    """More unsent bytes than the high-water mark."""

    @property
    def unsent(self) -> int:
        """Bytes written that the peer's kernel has not taken, as far as ours knows."""

    def write(self, data: bytes) -> None: ...

    def pause(self, parked: int = 0) -> None:
        """Stop delivering data. Idempotent. `parked`: so many bytes that were delivered are kept until `resume`."""

    def resume(self) -> None:
        """Deliver data again. Idempotent."""

    def end(self) -> bool:
        """Nothing more will be written: tell the peer, and go on reading. False where only `close` tells it (TLS)."""

    def close(self) -> None:
        """Send what was written, then close. No event follows for the binder that closes."""

    def abort(self) -> None:
        """Close at once; the peer sees a reset."""

    def bind(
        self,
        data: Callable[[bytes], None],
        eof: Callable[[], bool],
        lost: Callable[[], None],
        pressure: Callable[[bool], None],
    ) -> None:
        """`eof` returns True to keep the writing side open; `pressure(True)` means congested, False means drained."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Where an exchange goes. Upstreams are shared only between routes with equal `key`."""

    admission: Admission
    tls: bool
    key: object


class Upgrade(Protocol):
    """A request to leave HTTP, under way: what the relay asks when the server says 101."""

    def refusal(self, head: Head) -> str:
        """Why this 101 is no yes; "" when it is."""

    def response(self, head: Head, data: bytes) -> bytes:
        """The 101 for the client; `data` begins with the head as it came."""

    def switched(self, client: tuple[Channel, bytes], upstream: tuple[Channel, bytes]) -> None:
        """The relay has ended; both channels, with what was read from them, are somebody else's now."""


class Runtime(Protocol):
    """Services behind the machines. No call blocks; results come back as method calls on the relay."""

    @property
    def limits(self) -> Limits: ...

    def take(self, route: Route) -> Channel | None:
        """An idle upstream for the route."""

    def give(self, route: Route, channel: Channel) -> None:
        """Hand back an upstream that is clean: no exchange under way, nothing unread."""

    def dial(self, relay: Relay, route: Route) -> None:
        """Connect; then `relay.upstream_ready`, `relay.upstream_failed` or `relay.upstream_refused`."""

    def after(self, seconds: float, call: Callable[[], None]) -> Timer: ...

    def ended(self, relay: Relay) -> None:
        """The relay needs nothing any more."""


class Door(Protocol):
    """Judges what the relay read. Every `request` ends in exactly one of the relay's `forward`, `answer`, `collect` or
    `detach`, at once or later."""

    def request(self, relay: Relay, head: Head) -> None: ...

    def malformed(self, relay: Relay, detail: str) -> None:
        """Bytes that are no request; the relay answers and closes."""

    def failed(self, relay: Relay, failure: Failure) -> bytes:
        """The upstream failed: record it and give the answer."""

    def refused(self, relay: Relay, denial: Denial) -> bytes:
        """The destination was refused when it came to dialling: record it and give the answer."""

    def gone(self, relay: Relay) -> None:
        """The relay ended; stop whatever still runs for it."""
