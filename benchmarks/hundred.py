"""A hundred sandboxes on this machine at once, through the real gateway: start, memory, exec, delete, leftovers.

Budget: init + supervisor of an idle sandbox <= 16 MiB PSS (design 6). Needs root to read the numbers.

Usage: python -m benchmarks.hundred [count]
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.e2e import leftovers
from tests.e2e.house import House, house, run

from benchmarks._sandbox import summary
from benchmarks.memory import BUDGET, pss
from pyopenshell.client import Gateway

AT_ONCE = 4


async def main(count: int) -> None:
    seen: set[str] = set()
    with house() as home:
        async with home.client() as gateway:
            began = time.perf_counter()
            created = await _each(count, lambda number: _ready(gateway, f"s{number}"))
            print(f"{count} sandboxes ready in {time.perf_counter() - began:.1f} s, {AT_ONCE} at a time; each:")
            print(f"  {summary(created, 'ms')}")
            for init in leftovers.inits(home.root):
                seen |= leftovers.namespaces(init) - leftovers.namespaces(os.getpid())
            _memory(home, count)
            ran = await _each(count, lambda number: _exec(gateway, f"s{number}"))
            print(f"exec true in each, {AT_ONCE} at a time: {summary(ran, 'ms')}")
            began = time.perf_counter()
            await _each(count, lambda number: _delete(gateway, f"s{number}"))
            print(f"deleted in {time.perf_counter() - began:.1f} s")
        home.cli("gateway", "stop")
        left = await asyncio.to_thread(_left, home, seen)
        print(f"left: {left or 'no process, namespace, mount, control group, socket or file'}")


async def _each(count: int, act: Callable[[int], Awaitable[None]]) -> list[float]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> float:
        async with room:
            began = time.perf_counter()
            await act(number)
            return (time.perf_counter() - began) * 1e3

    return await asyncio.gather(*(one(number) for number in range(count)))


async def _ready(gateway: Gateway, name: str) -> None:
    sandbox = await gateway.create(name=name, pids=100)
    await gateway.wait_for(sandbox, "Ready", failed=("Error",))


async def _exec(gateway: Gateway, name: str) -> None:
    assert (await run(gateway, name, "true")).code == 0


async def _delete(gateway: Gateway, name: str) -> None:
    assert await gateway.delete(name)


def _memory(home: House, count: int) -> None:
    inits = leftovers.inits(home.root)
    sizes: dict[str, float] = defaultdict(float)
    for pid in leftovers.processes(home.root):
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        kind = "init" if pid in inits else comm.removeprefix("openshell-") if "openshell" in comm else "gateway"
        sizes[kind] += pss(pid)
    each = (sizes["init"] + sizes["super"]) / count
    print(f"PSS: init {sizes['init'] / count:.1f} + supervisor {sizes['super'] / count:.1f} = {each:.1f} MiB each")
    print(f"budget <= {BUDGET:g} MiB   {'met' if each <= BUDGET else 'MISSED'}")
    shared = {kind: size for kind, size in sizes.items() if kind not in ("init", "super")}
    print("once: " + ", ".join(f"{kind} {size:.1f}" for kind, size in sorted(shared.items())) + " MiB")
    print(f"all together: {sum(sizes.values()):.0f} MiB")


def _left(home: House, seen: set[str]) -> list[str]:
    deadline = time.monotonic() + 60
    while leftovers.processes(home.root) and time.monotonic() < deadline:
        time.sleep(0.1)
    state = leftovers.driver_state(home.root)
    files = [str(path) for part in ("sandboxes", "trash") for path in (state / part).iterdir()]
    found = [str(one) for one in leftovers.processes(home.root).items()] + leftovers.holders(seen)
    return (
        found + leftovers.mounts(home.root) + leftovers.control_groups(home.root) + leftovers.sockets(home.root) + files
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
