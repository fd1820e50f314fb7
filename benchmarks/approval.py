"""What a proposal costs inside the gateway, over a real SQLite file: submit, approve, and the push that follows.

python -m benchmarks.approval [--rounds N] [--profile]

Budget (the part of design section 6 that is the gateway's): submit and approve <= 40 ms at 1,000 rules. `bus` is from
the call of approve to the event that wakes the sandbox's session, `snapshot` what that session then reads to push.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import dataclasses
import pstats
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.gateway.core import Core, opened
from tests.gateway.core import policy as policy_of

from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule

clock = time.perf_counter
_BINARIES = ("/usr/bin/curl", "/usr/bin/git", "/usr/bin/gh", "/usr/local/bin/node", "/usr/bin/python3.11")


def rules(count: int) -> Policy:
    """As many rules as the name says, one inspected endpoint each, spread over hosts (240 kB at 1,000)."""
    rng = random.Random(1)
    out = []
    for number in range(count):
        matches = (
            L7Match("GET", f"/v1/projects/p{number}/**"),
            L7Match(rng.choice(("PUT", "POST")), f"/v1/projects/p{number}/items/*"),
        )
        host = f"*.svc{number}.example.com" if number % 20 == 19 else f"api{number}.example.com"
        endpoint = Endpoint(host, (443,), protocol="rest", rules=matches)
        out.append(Rule(f"r{number:04}", (endpoint,), tuple(sorted(rng.sample(_BINARIES, 2))), name=f"r{number:04}"))
    return policy_of(*out)


def proposal(number: int, *, known: bool) -> Rule:
    """A rule for a host of its own, or one more path on a host that is there."""
    host = "api0.example.com" if known else f"new{number}.example.org"
    endpoint = Endpoint(host, (443,), protocol="rest", rules=(L7Match("PUT", f"/x/{number}"),))
    return Rule(f"wanted_{number}", (endpoint,), ("/usr/bin/curl",), name=f"wanted_{number}")


async def timed(call: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    started = clock()
    result = await call()
    return clock() - started, result


async def rounds_of(core: Core, sandbox_id: str, rounds: int, *, known: bool) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ("submit", "approve", "bus", "snapshot", "approve all")}
    for number in range(rounds):
        wanted = proposal(number, known=known)
        seconds, (chunk_id,) = await timed(lambda wanted=wanted: core.propose(sandbox_id, wanted))  # type: ignore[misc]
        times["submit"].append(seconds)
        token = (await core.chunk(sandbox_id, chunk_id)).review_token
        with core.bus.subscribe(f"config:{sandbox_id}") as events:
            started = clock()
            call = asyncio.ensure_future(core.inbox.approve(sandbox_id, chunk_id, token, "mtls:CN=alice"))
            await anext(aiter(events))
            times["bus"].append(clock() - started)
            await call
            times["approve"].append(clock() - started)
        seconds, _ = await timed(lambda: core.snapshots.sandbox_config(sandbox_id))
        times["snapshot"].append(seconds)
    pairs = []
    for number in range(3):
        wanted = dataclasses.replace(proposal(rounds + number, known=known), key=f"bulk_{number}")
        (chunk_id,) = await core.propose(sandbox_id, wanted)
        pairs.append((chunk_id, (await core.chunk(sandbox_id, chunk_id)).review_token))
    seconds, _ = await timed(lambda: core.inbox.approve_all(sandbox_id, pairs, "mtls:CN=alice", include_flagged=False))
    times["approve all"].append(seconds)
    return times


async def measure(count: int, rounds: int, *, known: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="approval-") as directory:
        async with opened(Path(directory) / "gateway.db") as core:
            sandbox_id = await core.sandbox(policy=rules(count))
            times = await rounds_of(core, sandbox_id, rounds, known=known)
    where = "known host" if known else "new host"
    medians = "   ".join(f"{name} {statistics.median(seconds) * 1e3:6.1f}" for name, seconds in times.items())
    print(f"{count:>6} rules, {where:<11} (ms)  {medians}   first submit {times['submit'][0] * 1e3:6.1f}", flush=True)


async def main(rounds: int, sizes: list[int]) -> None:
    for known in (False, True):
        for count in sizes:
            await measure(count, rounds, known=known)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--rules", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    if given.profile:
        # The store's thread does the work, and a profiler sees one thread: so the store runs in this one.
        profile = cProfile.Profile()
        from pyopenshell.gateway.store import Store

        async def submit(self: Store, call: Callable[[], Any]) -> Any:
            return call()

        Store._submit = submit  # type: ignore[method-assign]
        profile.runcall(asyncio.run, main(given.rounds, given.rules))
        pstats.Stats(profile).sort_stats("cumulative").print_stats(70)
    else:
        asyncio.run(main(given.rounds, given.rules))
