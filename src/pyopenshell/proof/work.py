"""The work one evaluation may cost, counted in steps: the same policies get the same answer on every machine.

Every search of the proof room spends here and remembers here. Knows nothing of what is searched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

STEPS = 400_000
"""Steps of one delta with its findings. Measured on the 2-core machine of design section 6 (`benchmarks/delta.py`): a
step is 0.1 to 0.7 µs, so the worst that anybody can write costs about 0.25 s. One proposal against 1,000 rules takes
300 to 20,000 steps, 100 rules with three `**` each against 100 others 230,000, 1,000 rules spread over hosts where
there were none 540,000: whoever compares whole policies like that (no proposal does) passes a larger number."""

T = TypeVar("T")


class UndecidedError(Exception):
    """The work for a question is used up: callers must treat it as not proven."""


class Work:
    """What may still be spent, and what was found out with what has been spent.

    `memo` belongs to this evaluation alone: results that outlive it would make the count depend on history.
    """

    __slots__ = ("_floor", "left", "memo")

    def __init__(self, steps: int = STEPS) -> None:
        self.left = steps
        self.memo: dict[object, object] = {}
        self._floor = 0

    def spend(self, steps: int = 1) -> None:
        """Raises UndecidedError when that is more than there is."""
        self.left -= steps
        if self.left < self._floor:
            raise UndecidedError("the work for this comparison is used up")

    @contextlib.contextmanager
    def keeping(self, steps: int) -> Iterator[None]:
        """Inside, `steps` cannot be touched: they are for what comes after."""
        before = self._floor
        self._floor = max(before, steps)
        try:
            yield
        finally:
            self._floor = before

    @property
    def spare(self) -> int:
        """Steps that can be spent here."""
        return max(0, self.left - self._floor)


class Shared(Generic[T]):
    """Results of one search for several readers, found as far as the furthest reader looked.

    A search that came to nothing (UndecidedError) does so for every reader: its end is never taken for "no more".
    """

    __slots__ = ("_failed", "_found", "_more")

    def __init__(self, search: Callable[[], Iterator[T]]) -> None:
        self._found: list[T] = []
        self._more = search()
        self._failed = False

    def __iter__(self) -> Iterator[T]:
        index = 0
        while True:
            if index == len(self._found):
                if self._failed:
                    raise UndecidedError("the work for this comparison is used up")
                try:
                    self._found.append(next(self._more))
                except StopIteration:
                    return
                except UndecidedError:
                    self._failed = True
                    raise
            yield self._found[index]
            index += 1
