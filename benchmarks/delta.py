"""Delta timings: one proposal against 1,000 rules, spread over hosts and all on one endpoint (design, section 6).

Then the hardest policies we know (`tests/proof/hostile.py`), which must cost no more than the budget of `proof.work`.

python -m benchmarks.delta
"""

from __future__ import annotations

import dataclasses
import statistics
import time

from tests.policy.generate import large
from tests.proof.hostile import HOSTILE

from pyopenshell.policy.engine import compile
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.proof.delta import Delta, delta_of
from pyopenshell.proof.findings import findings
from pyopenshell.proof.work import STEPS


def proposal(before: Policy, *, merged: bool) -> Policy:
    """One more PUT rule for an existing host: as its own rule, or merged into the rule that is there."""
    rule = before.rules[0]
    endpoint = rule.endpoints[0]
    wanted = L7Match("PUT", "/repos/acme/site/contents/**")
    if merged:
        changed = dataclasses.replace(endpoint, rules=(*endpoint.rules, wanted))
        return Policy(rules=(dataclasses.replace(rule, endpoints=(changed,)), *before.rules[1:]))
    new = Endpoint(endpoint.host, endpoint.ports, protocol="rest", rules=(wanted,), advisor_proposed=True)
    return Policy(rules=(*before.rules, Rule("proposal", (new,), ("/usr/bin/curl",))))


def measure(rules: int, *, dense: bool, merged: bool) -> None:
    before = large(rules, dense=dense)
    after = proposal(before, merged=merged)
    loaded = compile(before)
    runs: list[float] = []
    change: Delta | None = None
    for _ in range(15):
        start = time.perf_counter()
        change = delta_of(loaded, compile(after, reuse=loaded))
        runs.append((time.perf_counter() - start) * 1e3)
    assert change is not None
    shape = "one endpoint" if dense else "spread"
    how = "merged" if merged else "own rule"
    used = STEPS - change.left
    print(f"{rules:>6} rules, {shape:<12} {how:<9} {statistics.median(runs):7.2f} ms  {used:>6} steps   {change}"[:150])


def measure_hostile(name: str) -> None:
    before, after = map(compile, HOSTILE[name]())
    runs: list[float] = []
    change: Delta | None = None
    for _ in range(3):
        start = time.perf_counter()
        change = delta_of(before, after)
        findings(before, change, ["**.example.com"])
        runs.append((time.perf_counter() - start) * 1e3)
    assert change is not None
    answer = f"{len(change.regions)} regions" if change.proven else "not proven"
    print(f"hostile: {name:<14} {statistics.median(runs):7.1f} ms  {STEPS - change.left:>6} steps   {answer}")


def main() -> None:
    for dense in (False, True):
        for merged in (False, True):
            for rules in (10, 100, 1_000):
                measure(rules, dense=dense, merged=merged)
    for name in HOSTILE:
        measure_hostile(name)


if __name__ == "__main__":
    main()
