"""One timer for everything that may take minutes: a timer for each exchange would cost each exchange.

Knows time; what there is to look at, and what to do about it, is for those who are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyopenshell.supervisor.proxy.channel import Timer
    from pyopenshell.supervisor.proxy.parting import Timing


class Watch:
    """Calls `look` every `watch_seconds` as long as that says that there is something to look at."""

    def __init__(self, timing: Timing, look: Callable[[], bool]) -> None:
        self._timing = timing
        self._look = look
        self._timer: Timer | None = None

    def start(self) -> None:
        """Idempotent."""
        if self._timer is None:
            self._timer = self._timing.after(self._timing.limits.watch_seconds, self._fire)

    def stop(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        more = True  # whatever goes wrong with one of those looked at must not be the end of looking
        try:
            more = self._look()
        finally:
            if more:
                self.start()
