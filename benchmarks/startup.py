"""Gateway told to create -> first instruction of the command. Budget: p50 <= 40 ms (design 6).

create() returns after execve of the main process succeeded, so its duration is an upper bound; the change time of a
file the command touches (kernel clock, 4 ms steps) is the check from the other side.
Usage: python -m benchmarks.startup [count] [--real]   (--real: the product's supervisor instead of the test one)
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from benchmarks._sandbox import FAKE, REAL, running_box, summary


async def main(count: int, supervisor: str) -> None:
    async with running_box(supervisor) as box:
        created, first = [], []
        for number in range(count):
            name = f"s{number}"
            began, wall = time.perf_counter(), time.time()
            await box.create(name, command=("/usr/bin/touch", "/sandbox/stamp"))
            created.append((time.perf_counter() - began) * 1e3)
            await box.event("exited")
            stamp = Path(box.root(name), "workspace", "stamp").stat().st_ctime_ns / 1e9
            first.append((stamp - wall) * 1e3)
            await box.driver.delete(name)
        print("create() returned:  ", summary(created, "ms"))
        print("first effect inside:", summary(first, "ms"), "(file time, 4 ms resolution)")


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--real"]
    asyncio.run(main(int(arguments[0]) if arguments else 50, REAL if "--real" in sys.argv else FAKE))
