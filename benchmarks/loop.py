"""The loop's latencies on the real thing: denial to inbox, approve to `/wait`, create, exec, the CLI, the demo.

    python -m benchmarks.loop [--rounds N]

Budgets (design section 6): denial to inbox p95 <= 100 ms; approve to `/wait` with the policy loaded p95 <= 100 ms;
`openshell sandbox create -- true` p50 <= 400 ms; exec inside the gateway p50 <= 10 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Awaitable

from tests.e2e.agent import put, put_rule, submit
from tests.e2e.house import OPENSHELL, House, house, sh, shell_lines

from pyopenshell.client import Gateway
from pyopenshell.client.values import Exit

clock = time.perf_counter


def report(what: str, seconds: list[float], budget: str) -> None:
    ordered = sorted(seconds)
    p50 = statistics.median(ordered) * 1000
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] * 1000
    print(f"{what:<58} p50 {p50:8.1f} ms   p95 {p95:8.1f} ms   n={len(ordered):<4} budget {budget}", flush=True)


async def denial_to_inbox(gateway: Gateway, rounds: int) -> list[float]:
    """From the moment curl starts inside to the chunk in an open inbox stream: includes curl's own start."""
    times = []
    async with contextlib.aclosing(gateway.watch_inbox("bench")) as inbox:
        async for event in inbox:
            if event.synced:
                break
        for number in range(rounds):
            host = f"n{number}.invalid"
            lines = shell_lines(gateway, "bench", f"echo go; exec curl -sS https://{host}/ 2>/dev/null")
            await anext(lines)
            started = clock()
            async for event in inbox:
                if event.chunk and event.chunk.rule.endpoints[0].host == host:
                    times.append(clock() - started)
                    break
            async for _ in lines:
                pass
    return times


async def approve_to_wait(gateway: Gateway, rounds: int) -> tuple[list[float], list[float]]:
    """(approve called -> `/wait` answered with the policy loaded, approve called -> approve answered)."""
    waits, calls = [], []
    for number in range(rounds):
        answer = json.loads((await sh(gateway, "bench", submit(put_rule(f"/b/{number}", name=f"b{number}")))).out)
        chunk_id = answer["accepted_chunk_ids"][0]
        lines = shell_lines(
            gateway,
            "bench",
            f"echo go; curl -sS 'http://policy.local/v1/proposals/{chunk_id}/wait?timeout=30'; echo",
        )
        await anext(lines)
        chunk = next(c for c in (await gateway.draft("bench")).chunks if c.id == chunk_id)
        await sh(gateway, "bench", "true")  # the waiting curl has been scheduled by now
        started = clock()
        call = asyncio.ensure_future(_timed(gateway.approve("bench", chunk_id, chunk.review_token)))
        state = json.loads(await anext(lines))
        waits.append(clock() - started)
        assert state["policy_reloaded"] is True, state
        calls.append(await call)
    return waits, calls


async def _timed(call: Awaitable[object]) -> float:
    started = clock()
    await call
    return clock() - started


async def execs(gateway: Gateway, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        started = clock()
        async for event in gateway.exec("bench", ["/bin/true"]):
            assert not isinstance(event, Exit) or event.code == 0
        times.append(clock() - started)
    return times


async def creates(gateway: Gateway, rounds: int) -> list[float]:
    times = []
    for number in range(rounds):
        started = clock()
        sandbox = await gateway.create(name=f"c{number}")
        await gateway.wait_for(sandbox, "Ready", failed=("Error",))
        times.append(clock() - started)
        await gateway.delete(sandbox.name)
    return times


def commands(home: House, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        started = clock()
        home.cli("sandbox", "create", "--no-keep", "--", "/bin/true")
        times.append(clock() - started)
    return times


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    with house() as home:
        home.cli("settings", "set", "--global", "--key", "agent_policy_proposals_enabled", "--value", "true", "--yes")
        home.create("bench")
        async with home.client() as gateway:
            assert (await sh(gateway, "bench", put("/warm"))).out.endswith("403")
            report(
                "denial -> chunk in an open inbox (with curl's start)",
                await denial_to_inbox(gateway, rounds),
                "p95 100",
            )
            waits, calls = await approve_to_wait(gateway, rounds)
            report("approve -> /wait answers, policy loaded", waits, "p95 100")
            report("approve -> approve answered", calls, "-")
            report("exec /bin/true through the gateway", await execs(gateway, rounds), "p50 10 (+ gRPC)")
            report("create -> READY seen by a client", await creates(gateway, rounds), "-")
        report("openshell sandbox create --no-keep -- /bin/true", commands(home, max(5, rounds // 5)), "p50 400")
    demo = []
    for _ in range(3):
        started = clock()
        subprocess.run([OPENSHELL, "demo", "--yes"], check=True, stdout=subprocess.DEVNULL)
        demo.append(clock() - started)
    report("openshell demo --yes", demo, "10000")


if __name__ == "__main__":
    asyncio.run(main())
