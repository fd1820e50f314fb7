"""Accepting on one listening socket: in bursts, not beyond what there is room for, and on after the machine ran short.

Knows nothing of what is accepted.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

_BACKOFF_FIRST, _BACKOFF_LAST = 0.1, 5.0
"""Seconds between accepts after an error such as too many open files (contract/sandbox.md 1.0)."""
_BURST = 64


class Acceptor:
    """Owns the listener from `start` to `close`. `adopt` takes each connection, non-blocking."""

    def __init__(
        self,
        listener: socket.socket,
        adopt: Callable[[socket.socket], None],
        room: Callable[[], bool],
        failed: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._adopt, self._room, self._failed = adopt, room, failed
        self._backoff = _BACKOFF_FIRST
        self._paused: asyncio.TimerHandle | None = None
        self._full = False
        self._closed = False

    def start(self) -> None:
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def roomy(self) -> None:
        """There is room again."""
        if self._full and not self._closed:
            self._full = False
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Idempotent."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listener.fileno())
            if self._paused is not None:
                self._paused.cancel()
            self._listener.close()

    def _accept(self) -> None:
        for _ in range(_BURST):
            if self._closed:
                return
            if not self._room():
                self._full = True
                self._loop.remove_reader(self._listener.fileno())
                return
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._failed(f"accept failed: {error.strerror}")
                self._pause()
                return
            self._backoff = _BACKOFF_FIRST
            accepted.setblocking(False)
            self._adopt(accepted)

    def _pause(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._paused = self._loop.call_later(self._backoff, self._go_on)
        self._backoff = min(self._backoff * 2, _BACKOFF_LAST)

    def _go_on(self) -> None:
        self._paused = None
        self._loop.add_reader(self._listener.fileno(), self._accept)
