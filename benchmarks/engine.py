"""The engine against its budgets, a naive loop, and Rego, at 10, 1,000 and 100,000 rules (design section 6, issue 3).

python -m benchmarks.engine           budgets as PASS or MISS; exits 1 on a miss

Rego is the language upstream enforces with. The same rules are evaluated by its engine in an environment of its own
(`.bench/rego`, brought on first use); REGO_PYTHON names another interpreter with `regorus` or `regopy`.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.policy.generate import large
from tests.policy.reference import Point, permits
from tests.policy.shapes import shapes

from benchmarks.proxy import programs
from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.model import Endpoint, L7Match, Policy

SIZES = (10, 1_000, 100_000)
PORT = 443
COUNT = 1000
"""Connections of each kind that arrive."""
SHELLS = ("/usr/bin/bash", "/usr/bin/dash")
Ask = tuple[str, str]
missed: list[str] = []


def median_us(call: Callable[[int], object], count: int, repeat: int = 7) -> float:
    """Median over `repeat` runs of the mean time of one call, in microseconds."""
    runs = []
    for _ in range(repeat):
        start = time.perf_counter()
        for index in range(count):
            call(index)
        runs.append((time.perf_counter() - start) / count * 1e6)
    return statistics.median(runs)


def targets(policy: Policy, host: str, count: int) -> list[Ask]:
    """Requests that match the host's own rules, wildcards filled with names no rule mentions."""
    rng = random.Random(1)
    rules = [r for rule in policy.rules for e in rule.endpoints if e.host == host for r in e.rules if not r.query]
    out = []
    for index in range(count):
        match = rng.choice(rules)
        path = match.path.replace("**", f"deep{index}/er{index}").replace("*", f"name{index}")
        out.append((match.method, path + (f"?page={index}" if index % 4 == 0 else "")))
    return out


def budget(what: str, value: float, limit: float, unit: str) -> str:
    if value > limit:
        missed.append(what)
    return f"{what} {value:8.2f} {unit} [{'PASS' if value <= limit else 'MISS'} <= {limit:g}]"


def admitted(policy: Policy) -> tuple[str, str]:
    """A host and a program of some rule, both exact."""
    return next(
        (endpoint.host, binary)
        for rule in policy.rules
        for endpoint in rule.endpoints
        for binary in rule.binaries
        if "*" not in endpoint.host and "*" not in binary
    )


def one(rules: int, *, dense: bool) -> None:
    policy = large(rules, dense=dense)
    start = time.perf_counter()
    engine = compile(policy)
    compiled = time.perf_counter() - start
    start = time.perf_counter()
    gc.collect()  # compiling leaves it to the collector to look at everything once; that is not a connection's cost
    collected = time.perf_counter() - start
    host, program = admitted(policy)
    connection = Connection(host, PORT, program, SHELLS)
    cell = engine.connect(connection)
    asks = targets(policy, host, 2000)
    allowed = sum(cell.decide(*ask).allowed for ask in asks) * 100 // len(asks)
    warm = median_us(lambda i: cell.decide(*asks[i % len(asks)]), 20_000)
    denied = median_us(lambda i: cell.decide("BREW", asks[i % len(asks)][1]), 2_000)
    names = [(f"/usr/bin/shell{i}", SHELLS[1]) for i in range(4000)]
    cold = median_us(lambda i: engine.connect(Connection(host, PORT, program, names[i])), len(names), repeat=1)
    print(f"{rules:>7} rules, {'all on one endpoint' if dense else 'over endpoints'}")
    print("   ", budget("decide", warm, 2, "us"), f"(distinct targets, {allowed}% allowed); denied {denied:.1f} us")
    after = f"(next full collection {collected:.2f} s)"
    print("   ", budget("cold connect", cold, 15, "us"), " ", budget("compile", compiled, 3, "s"), after)


def recompile() -> None:
    """One change among 10,000 things, in every distribution we know (`tests/policy/shapes.py`), and who comes then."""
    for name, before, after in shapes(10_000):
        engine = compile(before)
        gc.collect()
        value = median_us(functools.partial(_again, engine, after), 3) / 1e3
        patched = compile(after, reuse=engine)
        gc.collect()
        print("   ", f"{name}:".ljust(45), budget("recompile", value, 5, "ms"))
        print("       ", arrivals(patched))


def arrivals(engine: Engine) -> str:
    """What connections that nobody made before cost: at a host that is known, at one that is not, and refused ones."""
    pairs = [
        (endpoint.host.replace("*", f"x{i}") or f"any{i}.test", endpoint.ports[0], rule.binaries[0].replace("*", "x"))
        for i, rule in enumerate(engine.policy.rules)
        for endpoint in rule.endpoints
    ]
    random.Random(1).shuffle(pairs)
    host, port, program = pairs[0]
    engine.connect(Connection(host, port, program))
    arriving = {
        "program": [Connection(host, port, program, (f"/usr/bin/shell{i}",)) for i in range(COUNT)],
        "place": [Connection(h, p, b, (f"/usr/bin/sh{i}",)) for i, (h, p, b) in enumerate(pairs[1 : COUNT + 1])],
        "refused program": [Connection(host, port, f"/no/such{i}", SHELLS) for i in range(COUNT)],
        "refused host": [Connection(f"h{i}.invalid", port, program, SHELLS) for i in range(COUNT)],
    }
    cost = {
        name: median_us(functools.partial(_connect, engine, places), len(places), repeat=1)
        for name, places in arriving.items()
        if places
    }
    said = ", ".join(f"{name} {value:.1f}" for name, value in cost.items())
    return budget("cold connect, worst of new", max(cost.values()), 15, "us") + f" ({said})"


def _again(engine: Engine, policy: Policy, _: int) -> Engine:
    return compile(policy, reuse=engine)


def _connect(engine: Engine, places: list[Connection], index: int) -> object:
    return engine.connect(places[index])


# ---- peers -----------------------------------------------------------------------------------------------------------


def peers(rules: int) -> None:
    """The same requests asked of the engine from cold, of a loop over the rules, and of Rego."""
    policy = large(rules)
    host, program = admitted(policy)
    asks = [(method, target) for method, target in targets(policy, host, 200) if "?" not in target]
    engine = compile(policy)
    mine = median_us(lambda i: whole(engine, host, program, asks[i % len(asks)]), 2000, 3)
    count = max(1, min(200, 200_000 // rules))
    points = [Point((program, *SHELLS), host, PORT, method, target) for method, target in asks]
    loop = median_us(lambda i: permits(policy, points[i % len(points)]), count, 3)
    line = f"{rules:>7} rules: engine {mine:8.2f} us   loop over rules {loop:12.1f} us ({loop / mine:,.0f}x)"
    found = rego(policy, host, program, asks)
    print(
        line + (f"   {found[0]} {found[1]:12.1f} us ({found[1] / mine:,.0f}x)" if found else "   rego: not installed")
    )


def whole(engine: Engine, host: str, program: str, ask: Ask) -> bool:
    return engine.decide(Connection(host, PORT, program, SHELLS), *ask).allowed


def rego(policy: Policy, host: str, program: str, asks: list[Ask]) -> tuple[str, float] | None:
    try:
        python = os.environ.get("REGO_PYTHON") or str(programs.rego())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"rego cannot be installed here: {error}")
        return None
    data = {"policies": [_plain(rule.key, rule.endpoints, rule.binaries) for rule in policy.rules]}
    inputs = [
        {"host": host, "port": PORT, "chain": [program, *SHELLS], "method": method, "path": path}
        for method, path in asks[:20]
    ]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data.json").write_text(json.dumps(data))
        Path(folder, "inputs.json").write_text(json.dumps(inputs))
        runner = str(Path(__file__).parent / "_rego_runner.py")
        done = subprocess.run([python, runner, folder], capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        return (f"rego failed ({done.stderr.strip().splitlines()[-1:]})", float("nan"))
    answer = json.loads(done.stdout)
    wrong = [i for i, allowed in enumerate(answer["allowed"]) if not allowed]
    assert not wrong, f"rego and the engine disagree about {[asks[i] for i in wrong][:3]}"
    return answer["engine"], answer["microseconds"]


def _plain(key: str, endpoints: tuple[Endpoint, ...], binaries: tuple[str, ...]) -> dict[str, object]:
    def rules(matches: tuple[L7Match, ...]) -> list[dict[str, str]]:
        return [{"method": match.method, "path": match.path} for match in matches if not match.query]

    return {
        "name": key,
        "binaries": list(binaries),
        "endpoints": [
            {"host": e.host, "ports": list(e.ports), "allow": rules(e.rules), "deny": rules(e.deny_rules)}
            for e in endpoints
        ],
    }


def main() -> int:
    for dense in (False, True):
        for rules in SIZES:
            one(rules, dense=dense)
    print("recompile after one change among 10,000, in every distribution")
    recompile()
    print("one whole question (identity, host, port, request), median")
    for rules in SIZES:
        peers(rules)
    if missed:
        print("missed:", ", ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
