"""Medians, budgets of design section 6, and the tables of docs/performance.md. Pure."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.proxy.measure import MEMORY, TESTS
from benchmarks.proxy.targets import TARGETS

LATENCY = ("ka1", "ka1apart", "sse")

Medians = dict[str, dict[str, dict[str, float]]]
"""Test, target, value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """`value` of ours against that of `peer`; as a ratio, or for latencies as a difference in microseconds."""

    text: str
    test: str
    value: str
    peer: str
    bound: float
    most: bool = False
    inverse: bool = False
    """The value is a time, so the ratio is the other's over ours."""

    def measured(self, medians: Medians) -> float | None:
        by_target = medians.get(self.test, {})
        if "ours" not in by_target or self.peer not in by_target:
            return None
        ours, peer = by_target["ours"][self.value], by_target[self.peer][self.value]
        if self.most:
            return ours - peer
        return peer / ours if self.inverse else ours / peer


BUDGETS = (
    Budget("inspected, 16 connections, over mitmproxy", "ka16", "rps", "mitmproxy", 25),
    Budget("inspected, 16 connections, over Squid", "ka16", "rps", "squid", 1.4),
    Budget("inspected, 16 connections, over HAProxy", "ka16", "rps", "haproxy", 0.6),
    Budget("added latency over direct on one CPU, p50, microseconds", "ka1", "p50", "direct", 80, most=True),
    Budget("added latency over direct across CPUs, p50, microseconds", "ka1apart", "p50", "direct", 80, most=True),
    Budget("new inspected connections, over mitmproxy", "new", "rps", "mitmproxy", 9),
    Budget("new inspected connections, over HAProxy", "new", "rps", "haproxy", 0.85),
    Budget("1 GiB inspected, over direct", "bulk", "secs", "direct", 0.8, inverse=True),
    Budget("1 GiB through a tunnel, over direct", "tunnel", "secs", "direct", 0.3, inverse=True),
)


def medians(rounds: list[dict[str, Any]]) -> Medians:
    """`rounds`: one dict per slice with test, target, and values."""
    found: Medians = {}
    for test in TESTS:
        slices = [one for one in rounds if one["test"] == test]
        for target in dict.fromkeys(one["target"] for one in slices):
            of_target = [one for one in slices if one["target"] == target]
            values = {key: statistics.median(one[key] for one in of_target) for key in TESTS[test].shows}
            found.setdefault(test, {})[target] = values
    return found


def verdicts(found: Medians) -> Iterator[str]:
    for budget in BUDGETS:
        value = budget.measured(found)
        if value is not None:
            met = value <= budget.bound if budget.most else value >= budget.bound
            sign = "<=" if budget.most else ">="
            yield f"| {budget.text} | {sign} {budget.bound:g} | {value:.2f} | {'met' if met else 'MISSED'} |"


def _cell(test: str, values: dict[str, float]) -> str:
    if "secs" in values:
        return f"{values['secs']:.2f} s, {values['cpu_per_gib']:.2f} CPU s"
    if test in LATENCY:
        return f"{values['p50']:,.0f} / {values['p99']:,.0f} µs"
    return f"{values['rps']:,.0f}/s, p99 {values['p99'] / 1000:,.1f} ms"


def tables(found: Medians, memory: dict[str, dict[str, float]]) -> Iterator[str]:
    """Markdown: one row per test, one column per target."""
    present = {target for by_target in found.values() for target in by_target} | set(memory)
    targets = [target for target in TARGETS if target in present]
    yield "| | " + " | ".join(targets) + " |"
    yield "|---|" + "---|" * len(targets)
    for test, by_target in found.items():
        title = TESTS[test].title + (": p50 / p99" if test in LATENCY else "")
        cells = (_cell(test, by_target[target]) if target in by_target else "" for target in targets)
        yield f"| {title} | " + " | ".join(cells) + " |"
    for key, title in MEMORY.items():
        if memory:
            cells = (f"{memory[target][key]:.0f} MiB" if key in memory.get(target, {}) else "" for target in targets)
            yield f"| RSS, {title} | " + " | ".join(cells) + " |"
    yield ""
    yield "| Budget | bound | measured | |"
    yield "|---|---|---|---|"
    yield from verdicts(found)
