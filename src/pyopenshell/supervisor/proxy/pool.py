"""Idle upstream connections, shared only between exchanges with an equal route key (one grant, one destination).

Decides how many and how long. Knows channels, not sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyopenshell.supervisor.proxy.transport import Side

if TYPE_CHECKING:
    from pyopenshell.supervisor.proxy.channel import Timer
    from pyopenshell.supervisor.proxy.plane import Plane


class Pool:
    """Most recently used first: what has been idle longest is dropped first."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._idle: dict[object, list[tuple[Side, float]]] = {}
        self._count = 0
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return self._count

    def take(self, key: object) -> Side | None:
        """An idle connection that still stands."""
        sides = self._idle.get(key)
        while sides:
            side, _ = sides.pop()
            self._count -= 1
            if not sides:
                del self._idle[key]
            if not side.closed and not side.ended:
                return side
        return None

    def give(self, key: object, side: Side) -> None:
        """Keep a clean connection, or close it when there are enough."""
        limits = self._plane.limits
        sides = self._idle.get(key)
        crowded = self._count >= limits.pool_total or (sides is not None and len(sides) >= limits.pool_per_key)
        if side.closed or side.ended or crowded:
            side.close()
            return
        entry = (side, self._plane.clock())
        self._idle.setdefault(key, []).append(entry)
        self._count += 1

        def stale(*_: object) -> bool:
            # Data, end or loss: an idle server has nothing to say that could belong to a request.
            self._discard(key, entry)
            return False

        def lost() -> None:
            stale()

        side.bind(lambda _: lost(), stale, lost, lambda _: None)
        side.resume()
        if self._timer is None:
            self._timer = self._plane.after(limits.pool_seconds, self._expire)

    def clear(self) -> None:
        """Close everything, for example because the policy changed."""
        idle, self._idle = self._idle, {}
        self._count = 0
        for sides in idle.values():
            for side, _ in sides:
                side.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _discard(self, key: object, entry: tuple[Side, float]) -> None:
        sides = self._idle.get(key)
        if sides is not None and entry in sides:
            sides.remove(entry)
            self._count -= 1
            if not sides:
                del self._idle[key]
        entry[0].close()

    def _expire(self) -> None:
        self._timer = None
        oldest = self._plane.clock() - self._plane.limits.pool_seconds
        for key, sides in list(self._idle.items()):
            for entry in [entry for entry in sides if entry[1] <= oldest]:
                self._discard(key, entry)
        if self._count:
            self._timer = self._plane.after(self._plane.limits.pool_seconds, self._expire)
