"""Engine timings: decide on an admitted cell, cold connect, compile; 10 to 100,000 rules (design, section 6).

python -m benchmarks.engine
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from tests.policy.generate import large

from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import Engine, compile


def median_us(call: Callable[[int], object], count: int, repeat: int = 7) -> float:
    """Median over `repeat` runs of the mean time of one call, in microseconds."""
    runs = []
    for _ in range(repeat):
        start = time.perf_counter()
        for index in range(count):
            call(index)
        runs.append((time.perf_counter() - start) / count * 1e6)
    return statistics.median(runs)


def targets(engine: Engine, host: str, count: int) -> list[tuple[str, str]]:
    """Requests that match the host's own rules, wildcards filled with names no rule mentions."""
    rng = random.Random(1)
    rules = [
        r for rule in engine.policy.rules for e in rule.endpoints if e.host == host for r in e.rules if not r.query
    ]
    out = []
    for index in range(count):
        match = rng.choice(rules)
        path = match.path.replace("**", f"deep{index}/er{index}").replace("*", f"name{index}")
        out.append((match.method, path + (f"?page={index}" if index % 4 == 0 else "")))
    return out


def one(rules: int, *, dense: bool) -> None:
    start = time.perf_counter()
    engine = compile(large(rules, dense=dense))
    compiled = (time.perf_counter() - start) * 1e3
    host, rule = next((e.host, r) for r in engine.policy.rules for e in r.endpoints if "*" not in e.host)
    exact = next(name for name in rule.binaries if "*" not in name)
    connection = Connection(host, 443, exact, ("/usr/bin/bash", "/usr/bin/dash"))
    cell = engine.connect(connection)
    asks = targets(engine, host, 2000)
    allowed = sum(cell.decide(*ask).allowed for ask in asks)
    warm = median_us(lambda i: cell.decide(*asks[i % len(asks)]), 20_000)
    denied = median_us(lambda i: cell.decide("BREW", asks[i % len(asks)][1]), 2_000)
    admitted = median_us(lambda i: engine.connect(connection), 20_000)
    names = [(f"/usr/bin/shell{i}", "/usr/bin/dash") for i in range(4000)]
    cold = median_us(lambda i: engine.connect(Connection(host, 443, exact, names[i])), len(names), repeat=1)
    print(
        f"{rules:>7} rules, {'one endpoint' if dense else 'spread':<12}"
        f"  decide {warm:5.2f} us (distinct targets, {allowed * 100 // len(asks)}% allowed)   deny {denied:6.1f} us"
        f"   connect warm {admitted:5.2f} us, cold {cold:5.2f} us   compile {compiled:8.1f} ms"
    )


def main() -> None:
    for dense in (False, True):
        for rules in (10, 1_000, 100_000):
            one(rules, dense=dense)


if __name__ == "__main__":
    main()
