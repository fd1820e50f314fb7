"""What every door that asks for a whole connection has in common: CONNECT, SOCKS5, transparent capture.

The door reads an `Intent` out of its client's bytes and hands itself over as a `Caller`. From there on one path (in
`plane`) admits, records, dials and relays; the caller only says the outcome in its client's own protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyopenshell.supervisor.current import Current
    from pyopenshell.supervisor.denial import Denial
    from pyopenshell.supervisor.proxy.admission import Failure, Intent, Peer
    from pyopenshell.supervisor.proxy.channel import Channel, Timer
    from pyopenshell.supervisor.proxy.context import Limits
    from pyopenshell.supervisor.proxy.records import Recorder


class Caller(Protocol):
    """A client that waits for its connection. Exactly one of the three methods is called, unless it has ended."""

    @property
    def ended(self) -> bool:
        """The client is gone: nothing must be dialled or said for it any more."""

    def established(self) -> tuple[Channel, bytes]:
        """Say that the connection stands; the channel and what the client sent already now belong to the tunnel."""

    def refuse(self, denial: Denial) -> None:
        """Say that it was denied (the event was written), and end."""

    def fail(self, failure: Failure) -> None:
        """Say that it could not be made (the event was written), and end."""


class Handle(Protocol):
    def cancel(self) -> object: ...


class CallDesk(Protocol):
    """What such a door needs of the plane."""

    current: Current
    record: Recorder

    @property
    def limits(self) -> Limits: ...

    def ask(self, caller: Caller, peer: Peer, intent: Intent) -> Handle:
        """Take the intent through admission and, where it is admitted, to its tunnel."""

    def named(self, host: str) -> str:
        """The name behind a synthetic address; anything else as it is."""

    def local_only(self, channel: Channel, data: bytes) -> None:
        """The client speaks HTTP to `policy.local` on this channel, and to nobody else; `data` was read already."""

    def after(self, seconds: float, call: Callable[[], None]) -> Timer: ...
