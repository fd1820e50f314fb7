"""Counting refusals until someone has acknowledged them: bounded, deterministic, nothing forgotten on failure.

Pure bookkeeping with an injected clock. It does not know what a key means or where a batch is sent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from pyopenshell.supervisor.denial import Denial

Key = TypeVar("Key", bound=Hashable)

CAPACITY = 256
"""Distinct keys remembered. A sandbox that invents destinations can fill this, and no reviewer's screen beyond it."""
FORGET_AFTER_MS = 600_000
"""A key that was acknowledged and stayed quiet this long makes room for a new one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """What one batch says about one key: `denial` is the first refusal ever seen under it, times are Unix ms."""

    denial: Denial
    count: int
    total: int
    first_ms: int
    last_ms: int


@dataclasses.dataclass(slots=True)
class _Entry:
    denial: Denial
    first_ms: int
    last_ms: int
    waiting: int = 0
    sent: int = 0
    """In a batch that was handed out and not settled yet."""
    total: int = 0


class Ledger(Generic[Key]):
    """Counts per key. `take` hands out one batch, which then is either acknowledged or given back whole.

    At any time: added = acknowledged + in flight + waiting + `overflow`.
    """

    def __init__(
        self,
        key: Callable[[Denial], Key],
        clock_ms: Callable[[], int],
        *,
        capacity: int = CAPACITY,
        forget_after_ms: int = FORGET_AFTER_MS,
    ) -> None:
        self._key = key
        self._clock_ms = clock_ms
        self._capacity = capacity
        self._forget_after_ms = forget_after_ms
        self._entries: dict[Key, _Entry] = {}
        self._batch: tuple[_Entry, ...] = ()
        self.overflow = 0
        """Refusals that found no room, since the start."""

    def __repr__(self) -> str:
        waiting = sum(e.waiting for e in self._entries.values())
        return f"<Ledger {len(self._entries)} keys, {waiting} waiting, {self.overflow} overflowed>"

    @property
    def waiting(self) -> bool:
        """True when `take` would return something."""
        return any(entry.waiting for entry in self._entries.values())

    def add(self, denial: Denial) -> bool:
        """Count one refusal. True when its key is new: somebody may be waiting to see exactly this."""
        now = self._clock_ms()
        key = self._key(denial)
        entry = self._entries.get(key)
        new = entry is None
        if entry is None:
            if len(self._entries) >= self._capacity and not self._evict(now):
                self.overflow += 1
                return False
            entry = self._entries[key] = _Entry(denial, first_ms=now, last_ms=now)
        if not entry.waiting:
            entry.first_ms = now
        entry.waiting += 1
        entry.total += 1
        entry.last_ms = max(now, entry.last_ms)
        return new

    def take(self, limit: int = CAPACITY) -> tuple[Tally, ...]:
        """At most `limit` keys that wait, those first that waited through earlier batches, then in order of first
        sight. Settle it before taking again."""
        if self._batch:
            raise RuntimeError("the previous batch was not settled")
        keys = [key for key, entry in self._entries.items() if entry.waiting][:limit]
        for key in keys:
            # To the end: keys that repeat all the time must not keep the others from their turn.
            entry = self._entries[key] = self._entries.pop(key)
            entry.sent, entry.waiting = entry.waiting, 0
        self._batch = tuple(self._entries[key] for key in keys)
        return tuple(
            Tally(entry.denial, entry.sent, entry.total, entry.first_ms, entry.last_ms) for entry in self._batch
        )

    def acknowledge(self) -> None:
        """The batch has arrived: forget its counts, keep its keys."""
        for entry in self._batch:
            entry.sent = 0
        self._batch = ()

    def give_back(self) -> None:
        """The batch did not arrive: its counts wait again."""
        for entry in self._batch:
            entry.waiting += entry.sent
            entry.sent = 0
        self._batch = ()

    def _evict(self, now: int) -> bool:
        for key, entry in self._entries.items():
            if not entry.waiting and not entry.sent and now - entry.last_ms >= self._forget_after_ms:
                del self._entries[key]
                return True
        return False
