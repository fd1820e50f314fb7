"""Memory of idle sandboxes: init + supervisor. Budget: <= 16 MiB PSS (design 6). Needs root to read the numbers.

Usage: python -m benchmarks.memory [count] [--fake]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.drivers.sandboxes import children, processes

from benchmarks._sandbox import FAKE, REAL, running_box

BUDGET = 16.0
"""MiB, with ten sandboxes: what they share counts a tenth for each."""


def pss(pid: int) -> float:
    """MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no Pss for {pid}")


async def main(count: int, supervisor: str) -> None:
    async with running_box(supervisor) as box:
        for number in range(count):
            await box.create(f"s{number}")
        comm = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in processes(str(box.state))}
        (host,) = [pid for pid, name in comm.items() if name == "openshell-host"]
        below = children(host)
        zygote = next(pid for pid, name in below.items() if name == "openshell-zygot")
        watcher = next(pid for pid, name in below.items() if name == "openshell-watch")
        inits = list(children(zygote))
        supervisors = [pid for pid in below if pid not in (zygote, watcher)]
        init = sum(map(pss, inits)) / count
        supervising = sum(map(pss, supervisors)) / count
        total = init + supervising
        print(f"{count} idle sandboxes, mean PSS: init {init:.1f} + supervisor {supervising:.1f} = {total:.1f} MiB")
        print(f"budget <= {BUDGET:g} MiB   {'met' if total <= BUDGET else 'MISSED'}")
        print(f"host {pss(host):.1f}, zygote {pss(zygote):.1f}, watcher {pss(watcher):.1f} MiB")


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--fake"]
    asyncio.run(main(int(arguments[0]) if arguments else 10, FAKE if "--fake" in sys.argv else REAL))
