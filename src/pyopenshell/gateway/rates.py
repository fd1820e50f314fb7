"""How many calls one caller may make: a bucket per principal, so that nobody's flood is somebody else's wait.

Decides that alone; who calls is known before it is asked. Counted per gateway process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pyopenshell.gateway.configuration import Rate
from pyopenshell.gateway.errors import GatewayError

_REMEMBERED: Final = 8192


class Rates:
    """All principals of one gateway. `now` is in seconds and never goes back."""

    def __init__(self, rate: Rate, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = rate, now
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, subject: str) -> None:
        """One call of `subject`. Raises GatewayError RESOURCE_EXHAUSTED that says when to try again."""
        rate = self._rate
        if not rate.per_second:
            return
        now = self._now()
        left, since = self._buckets.pop(subject, (float(rate.burst), now))
        left = min(float(rate.burst), left + (now - since) * rate.per_second)
        allowed = left >= 1
        self._buckets[subject] = (left - 1 if allowed else left, now)  # at the end: the longest silent is forgotten
        if len(self._buckets) > _REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        if not allowed:
            wait = (1 - left) / rate.per_second
            raise GatewayError("RESOURCE_EXHAUSTED", "gRPC rate limit exceeded", "RATE_LIMIT", retry_after=wait)
