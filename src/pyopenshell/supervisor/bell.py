"""Waking everyone who waits for a change, without polling and without locks (one event loop)."""

from __future__ import annotations

import asyncio


class Bell:
    """Ring it after a change; whoever waits looks again. Rings are not counted: look before you wait."""

    def __init__(self) -> None:
        self._ring: asyncio.Future[None] | None = None

    def ring(self) -> None:
        if self._ring:
            self._ring.set_result(None)
            self._ring = None

    async def wait(self, timeout: float | None = None) -> bool:
        """True after a ring, False when `timeout` seconds passed without one."""
        if self._ring is None:
            self._ring = asyncio.get_running_loop().create_future()
        # `asyncio.wait` leaves the shared future alone when this one waiter is cancelled or gives up.
        done, _ = await asyncio.wait({self._ring}, timeout=timeout)
        return bool(done)
