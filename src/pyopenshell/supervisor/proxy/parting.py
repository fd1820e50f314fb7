"""The end of a client connection after the last answer, so that the client can read it.

Bytes nobody read turn a close into a reset, and a reset takes the answer with it. Knows channels and time, not HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyopenshell.supervisor.proxy.channel import Channel, Timer
    from pyopenshell.supervisor.proxy.context import Limits


class Timing(Protocol):
    """Bounds and a clock."""

    @property
    def limits(self) -> Limits: ...

    def after(self, seconds: float, call: Callable[[], None]) -> Timer: ...


def linger(client: Channel, runtime: Timing) -> None:
    """Say that nothing more comes, read on within bounds until the client agrees, and close."""
    limits = runtime.limits
    if not client.end():
        # Closing TLS sends close_notify at once, then reads and drops what comes until the peer's own or a deadline.
        client.close()
        return
    budget = limits.drain_bytes
    timer = runtime.after(limits.linger_seconds, client.close)

    def stop() -> None:
        timer.cancel()
        client.close()

    def data(piece: bytes) -> None:
        nonlocal budget
        budget -= len(piece)
        if budget < 0:
            stop()

    def eof() -> bool:
        stop()
        return False

    client.bind(data, eof, stop, lambda _: None)
    client.resume()
