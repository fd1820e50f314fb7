"""Bytes that wait in this process for somebody to take them, over all connections of one sandbox: bounded.

Each connection is bounded by its water marks and by the heads and bodies it may hold; this bounds their sum. The marks
sink as connections become many, what waits above them is counted, and when too much does, whoever has made others wait
for longest is cut off. Pure bookkeeping; knows nothing of sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

_CROWD = 512
"""Connections up to which each may have the full water marks; for every doubling they are halved."""
_LEVELS = 4


class Holder(Protocol):
    """A connection, as far as this module cares."""

    def mark(self, high: int, low: int) -> None:
        """Take new water marks."""


class Memory:
    """`enter` and `leave` for every connection, `change` whenever what waits on one does.

    `full`: new connections should be refused. `shed` is told whom to cut off when all of `limit` is used.
    """

    def __init__(self, limit: int, high: int, low: int, shed: Callable[[Holder], None]) -> None:
        self._limit = limit
        self._high, self._low = high, low
        self._shed = shed
        self._level = 0
        self._holders: set[Holder] = set()
        self._waiting: dict[Holder, int] = {}
        """Who waits for longest comes first."""
        self.held = 0

    def __repr__(self) -> str:
        return f"<{self.held} bytes wait on {len(self._waiting)} of {len(self._holders)} connections>"

    @property
    def full(self) -> bool:
        return self.held > self._limit // 4 * 3

    def enter(self, holder: Holder) -> None:
        """A connection came to be; it is given its marks."""
        self._holders.add(holder)
        holder.mark(self._high >> self._level, self._low >> self._level)
        if len(self._holders) > _CROWD << self._level and self._level < _LEVELS:
            self._set(self._level + 1)

    def leave(self, holder: Holder) -> None:
        """It is gone, and what waited with it. Idempotent."""
        self._holders.discard(holder)
        self.held -= self._waiting.pop(holder, 0)
        # Not at the number at which they sank, so that nobody can make them go up and down with every connection.
        if self._level and len(self._holders) < (_CROWD << self._level) // 4:
            self._set(self._level - 1)

    def change(self, holder: Holder, more: int) -> None:
        """`more` bytes wait on this connection, or less when negative."""
        size = self._waiting.get(holder, 0) + more
        self.held += more
        if size > 0:
            self._waiting[holder] = size
        else:
            self.held -= size
            self._waiting.pop(holder, None)
        while self.held > self._limit and self._waiting:
            longest = next(iter(self._waiting))
            self.held -= self._waiting.pop(longest)
            self._shed(longest)

    def _set(self, level: int) -> None:
        self._level = level
        for holder in tuple(self._holders):
            holder.mark(self._high >> level, self._low >> level)
