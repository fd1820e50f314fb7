"""What something costs, in units of a fixed loop that runs in the same process at the same moment: never in seconds.

A slow, shared or busy machine slows both. The garbage collector is kept out of both: what it costs depends on all
that earlier tests left on the heap.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def cost(work: Callable[[], T]) -> tuple[T, float]:
    """(result, units). One unit is about 4 ms of CPU on the machine of design section 6."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        before = min(_unit() for _ in range(3))
        started = time.process_time()
        result = work()
        spent = time.process_time() - started
        return result, spent / max(before, _unit())
    finally:
        if collecting:
            gc.enable()


def _unit() -> float:
    started = time.process_time()
    sum(number * number for number in range(100_000))
    return time.process_time() - started
