"""A clock and an alarm for limits that nobody may stretch: setting the wall clock moves nothing, sleep stops nothing.

CLOCK_MONOTONIC, which event loops use, stands still while a laptop sleeps. CLOCK_BOOTTIME does not (Linux 2.6.39).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Protocol

from pyopenshell.isolation import syscalls


def boottime() -> float:
    """Seconds since the machine started, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Names this run of the machine: another one after every boot. "" where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class Alarm(Protocol):
    """Calls its function once, at or after the deadline that was set last."""

    def set(self, deadline: float | None) -> None:
        """In seconds of `boottime()`; None means never. A deadline in the past rings at once."""

    def close(self) -> None: ...


class TimerAlarm:
    """An `Alarm` on a kernel timer, for the running event loop."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._fd = syscalls.timerfd_create(time.CLOCK_BOOTTIME)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._expired)

    def set(self, deadline: float | None) -> None:
        # Zero would disarm the timer; the first nanosecond since boot is as much in the past.
        nanoseconds = 0 if deadline is None else max(int(deadline * 1_000_000_000), 1)
        syscalls.timerfd_settime(self._fd, nanoseconds)

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._ring()
