"""How long to wait between attempts."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

FIRST_DELAY, LAST_DELAY = 0.1, 5.0
"""Seconds between attempts: doubling, with jitter, so that a restarted gateway is not met by everybody at once."""


@dataclasses.dataclass(slots=True)
class Backoff:
    """Delays between attempts, in seconds. `choose` is random.uniform; tests pin it."""

    first: float = FIRST_DELAY
    last: float = LAST_DELAY
    choose: Callable[[float, float], float] = random.uniform
    _next: float = 0.0

    def reset(self) -> None:
        self._next = 0.0

    def delay(self) -> float:
        self._next = min(max(self._next * 2, self.first), self.last)
        return self.choose(self._next / 2, self._next)
