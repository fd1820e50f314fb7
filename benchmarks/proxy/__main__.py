"""The data plane beside direct connections, nginx, HAProxy, Squid and mitmproxy, alternating in one run (design 6).

    make bench-peers                        once: the peers, unpacked into .bench/, nothing installed
    python -m benchmarks.proxy [--rounds 3] [--only ka1,ka16] [--targets direct,ours] [--json FILE]

Medians of all rounds. 64 different paths in turn, whose verdicts ours remembers, and 4,096 "for the first time", which
it does not. The program under test has CPU 0, load generator and origin have CPU 1; "direct" is on one CPU, so an added
latency contains the wake-ups across CPUs that any relay pays. nginx and HAProxy judge a path and relay: what the
machine can do. `--json FILE` adds to what FILE holds, so that a long measurement can be taken in pieces; the report is
about everything in it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import random
from pathlib import Path
from typing import Any

from benchmarks.proxy import programs
from benchmarks.proxy.measure import TESTS, chosen, memory, place, run
from benchmarks.proxy.report import medians, tables
from benchmarks.proxy.targets import TARGETS, World, world


def measure(rounds: int, tests: list[str], targets: list[str], *, with_memory: bool) -> dict[str, Any]:
    slices: list[dict[str, Any]] = []
    sizes: dict[str, dict[str, float]] = {}
    with place() as folder, world(Path(folder)) as at:
        if tests:
            slices = _alternate(rounds, tests, targets, at)
        if with_memory:
            sizes = {name: memory(name, at) for name in targets if name != "direct"}
    return {"slices": slices, "memory": sizes}


def _alternate(rounds: int, tests: list[str], targets: list[str], at: World) -> list[dict[str, Any]]:
    """All targets run; each test visits them in an order of its own in each round."""
    slices: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(TARGETS[name](at)) for name in targets]
        for number in range(rounds):
            for test in tests:
                able = [target for target in running if TESTS[test].kind in target.arguments]
                slices += [
                    {"test": test, "target": target.name, **run(target, TESTS[test], at)}
                    for target in random.sample(able, len(able))
                ]
            print(f"round {number + 1} of {rounds}", flush=True)
    return slices


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    system = f"{os.cpu_count()} x {model}; Linux {platform.release()}; Python {platform.python_version()}"
    versions = ", ".join(f"{name} {version}" for name, version in programs.versions().items())
    return f"{datetime.datetime.now(datetime.UTC).date()}; {system}; {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join([*TESTS, "memory"]), help="tests, comma-separated; also: memory")
    parser.add_argument("--targets", default=",".join(TARGETS), help="comma-separated")
    parser.add_argument("--json", type=Path, help="add the results to this file")
    parser.add_argument("--realtime", action="store_true", help="where others use the machine: run as SCHED_RR (root)")
    arguments = parser.parse_args()
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # inherited by everything started here
    wanted = arguments.only.split(",")
    tests = chosen([name for name in wanted if name != "memory"], TESTS)
    targets = chosen(arguments.targets.split(","), TARGETS)
    found = measure(arguments.rounds, tests, targets, with_memory="memory" in wanted)
    if arguments.json is not None:
        if arguments.json.exists():
            before = json.loads(arguments.json.read_text())
            found = {"slices": before["slices"] + found["slices"], "memory": before["memory"] | found["memory"]}
        arguments.json.write_text(json.dumps(found) + "\n")
    print(f"\n{machine()}\n")
    for line in tables(medians(found["slices"]), found["memory"]):
        print(line)


if __name__ == "__main__":
    main()
