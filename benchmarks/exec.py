"""exec in a running sandbox, as the gateway sees it. Budget: p50 <= 10 ms (design 6).

Usage: python -m benchmarks.exec [count]
"""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks._sandbox import running_box, summary
from pyopenshell.drivers.base import ExecRequest


async def main(count: int) -> None:
    async with running_box() as box:
        await box.create()
        started: list[float] = []
        whole: list[float] = []
        terminal: list[float] = []
        for tty, total in ((False, whole), (True, terminal)):
            for _ in range(count):
                began = time.perf_counter()
                process = await box.driver.exec("one", ExecRequest(["/bin/true"], tty=tty))
                if not tty:
                    started.append((time.perf_counter() - began) * 1e3)
                await process.wait()
                total.append((time.perf_counter() - began) * 1e3)
                await process.aclose()
        print("exec() returned:     ", summary(started, "ms"))
        print("/bin/true, exit code:", summary(whole, "ms"))
        print("... on a terminal:   ", summary(terminal, "ms"))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
