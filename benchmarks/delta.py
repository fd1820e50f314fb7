"""Delta timings: one proposal against 1,000 rules, spread over hosts and all on one endpoint (design, section 6).

python -m benchmarks.delta
"""

from __future__ import annotations

import dataclasses
import statistics
import time

from tests.policy.generate import large

from pyopenshell.policy.engine import compile
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.proof.delta import Delta, delta_of


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
    print(f"{rules:>6} rules, {shape:<12} {how:<9} {statistics.median(runs):7.2f} ms   {change}")


def main() -> None:
    for dense in (False, True):
        for merged in (False, True):
            for rules in (10, 100, 1_000):
                measure(rules, dense=dense, merged=merged)


if __name__ == "__main__":
    main()
