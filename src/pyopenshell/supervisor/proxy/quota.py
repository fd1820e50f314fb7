"""How many of one kind of event are written down one by one: the rest is counted, and the count is written too.

For events whose number is the agent's choice and which are not each a decision about its own connection. Pure but for
the timer it is given.
"""

from __future__ import annotations

from collections.abc import Callable

SUMMARY_SECONDS = 10.0
"""From the first that was only counted to the line that says how many there were."""


class Quota:
    """A token bucket: `burst` at once, then `per_second`.

    `counted` is told how many were not written down, a while after the first of them, however many come or do not come.
    """

    def __init__(
        self,
        counted: Callable[[int], None],
        clock: Callable[[], float],
        after: Callable[[float, Callable[[], None]], object],
        *,
        burst: float = 20.0,
        per_second: float = 2.0,
    ) -> None:
        self._counted, self._clock, self._after = counted, clock, after
        self._burst, self._per_second = burst, per_second
        self._tokens, self._filled = burst, clock()
        self.uncounted = 0
        """Since the last summary."""

    def __repr__(self) -> str:
        return f"<quota, {self._tokens:.1f} left, {self.uncounted} only counted>"

    def take(self) -> bool:
        """Whether this one is written down."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._per_second)
        self._filled = now
        if self._tokens >= 1:
            self._tokens -= 1
            return True
        if not self.uncounted:
            self._after(SUMMARY_SECONDS, self._summarise)
        self.uncounted += 1
        return False

    def _summarise(self) -> None:
        count, self.uncounted = self.uncounted, 0
        self._counted(count)
