"""Brute force: enumerate a bounded universe and apply the definition to both policies."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pyopenshell.policy.model import Endpoint, Policy
from tests.policy.reference import (
    Point,
    binary_matches,
    deny_path_matches,
    host_matches,
    path_regex,
    permits,
    scope,
)

CHAINS = [("/b/c",), ("/b/d",), ("/b/q",), ("/q/c",), ("/c",)]
HOSTS = ["a.x.z", "b.x.z", "q.x.z", "aq.x.z", "q.q.x.z", "a.q.z", "q.q.z", "q.q.q.x.z", "q"]
PORTS = (80, 443)
METHODS = ("GET", "HEAD", "PUT", "BREW")
SEGMENTS = ("a", "b", "ab", "aq", "qb", "qaq", "q", "A", "B")
VALUES = ("x", "y", "xq", "qy", "xy", "q")

Query = tuple[tuple[str, tuple[str, ...]], ...]


def paths(depth: int, *, slash: bool) -> list[str]:
    segments = (*SEGMENTS, "a%2Fb", "q%2Fq") if slash else SEGMENTS
    out = ["/"]
    for count in range(1, depth + 1):
        for word in itertools.product(segments, repeat=count):
            out += ["/" + "/".join(word), "/" + "/".join(word) + "/"]
    return out


def queries() -> list[Query]:
    sets = [None] + [c for n in (1, 2) for c in itertools.combinations(VALUES, n)]
    return [
        tuple((key, values) for key, values in (("k", a), ("l", b)) if values is not None) for a in sets for b in sets
    ]


def _endpoints(policy: Policy, chain: tuple[str, ...], host: str, port: int) -> tuple[tuple[int, int], ...]:
    return tuple(
        (i, j)
        for i, rule in enumerate(policy.rules)
        if any(binary_matches(pattern, name) for pattern in rule.binaries for name in chain)
        for j, endpoint in enumerate(rule.endpoints)
        if port in endpoint.ports and host_matches(endpoint, host)
    )


class Universe:
    def __init__(self, depth: int = 3, *, slash: bool = False) -> None:
        self.paths = paths(depth, slash=slash)
        self.queries = queries()
        pairs = [tuple(c[0] for c in pair) for pair in itertools.combinations(CHAINS, 2)]
        self.chains: list[tuple[str, ...]] = [*CHAINS, *pairs]

    def _classes(self, endpoints: list[Endpoint]) -> list[str]:
        """One path per class that the endpoints' patterns can tell apart."""
        plain = sorted({r.path for e in endpoints for r in e.rules} | {scope(e) for e in endpoints})
        denies = sorted({(e, r.path) for e in endpoints for r in e.deny_rules}, key=lambda pair: pair[1])
        found: dict[object, str] = {}
        for path in self.paths:
            key = (
                tuple(bool(path_regex(p).match(path)) for p in plain),
                tuple(deny_path_matches(e, p, path) for e, p in denies),
                "%2F" in path,
            )
            found.setdefault(key, path)
        return list(found.values())

    def points(self, after: Policy, before: Policy) -> Iterator[Point]:
        seen = set()
        for chain, host, port in itertools.product(self.chains, HOSTS, PORTS):
            key = (_endpoints(after, chain, host, port), _endpoints(before, chain, host, port))
            if key in seen or not key[0]:
                continue
            seen.add(key)
            yield Point(chain, host, port)
            endpoints = [p.rules[i].endpoints[j] for p, k in zip((after, before), key, strict=True) for i, j in k]
            asks = any(r.query for e in endpoints for r in e.rules + e.deny_rules)
            for path in self._classes(endpoints):
                for method in METHODS:
                    for query in self.queries if asks else [()]:
                        yield Point(chain, host, port, method, path, query)

    def newly_permitted(self, after: Policy, before: Policy) -> Point | None:
        """A request that `after` permits and `before` does not, None when the universe has none."""
        return next((p for p in self.points(after, before) if permits(after, p) and not permits(before, p)), None)
