"""The alarm on the boot clock: rings once, at its time, also for a time in the past; can be moved and taken back."""

from __future__ import annotations

import asyncio
import time

from pyopenshell.isolation.boottime import TimerAlarm, boottime


async def test_it_rings_once_and_not_before_its_time() -> None:
    rung: asyncio.Queue[float] = asyncio.Queue()
    alarm = TimerAlarm(lambda: rung.put_nowait(boottime()))
    try:
        deadline = boottime() + 0.02
        alarm.set(deadline)
        async with asyncio.timeout(10):
            assert await rung.get() >= deadline
        alarm.set(boottime() - 5)
        async with asyncio.timeout(10):
            await rung.get()
        assert rung.empty()
    finally:
        alarm.close()
        alarm.close()


async def test_it_can_be_moved_and_taken_back() -> None:
    rung: asyncio.Queue[str] = asyncio.Queue()
    first, second = TimerAlarm(lambda: rung.put_nowait("first")), TimerAlarm(lambda: rung.put_nowait("second"))
    try:
        first.set(boottime() + 0.01)
        first.set(None)
        second.set(boottime() + 3600)
        second.set(boottime() + 0.02)
        async with asyncio.timeout(10):
            assert await rung.get() == "second"
        assert rung.empty()
    finally:
        first.close()
        second.close()


def test_the_clock_counts_sleep() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= boottime() <= time.clock_gettime(time.CLOCK_BOOTTIME)
