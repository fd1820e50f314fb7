"""Remembers what was computed from an immutable value, by the value's identity. Decides nothing.

A whole policy is hashed, encoded and compiled many times per decision; comparing it by content would cost as much.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(Generic[K, V]):
    """`fn` with its results for the last `size` different objects. Holds them, so that an identity is never reused."""

    def __init__(self, fn: Callable[[K], V], size: int) -> None:
        self._fn, self._size = fn, size
        self._known: dict[int, tuple[K, V]] = {}
        self._lock = threading.Lock()

    def __call__(self, key: K) -> V:
        with self._lock:
            found = self._known.get(id(key))
        if found is not None:
            return found[1]
        value = self._fn(key)
        with self._lock:
            self._known[id(key)] = (key, value)
            while len(self._known) > self._size:
                del self._known[next(iter(self._known))]
        return value
