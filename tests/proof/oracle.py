"""Brute force: enumerate a bounded universe and apply the definition to both policies."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pyopenshell.policy.model import Endpoint, Policy
from tests.policy.reference import (
    SESSION,
    TEXT,
    UPGRADE,
    Call,
    Graphql,
    Point,
    What,
    binary_matches,
    deny_path_matches,
    host_matches,
    judges,
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

NAMES = ("", "Go", "x")
FIELDS = (("a",), ("b",), ("ab",), ("qb",), ("q",), ("a", "b"), ("a", "qb"), ("q", "b"))
TOOLS = ("t", "t_x", "u", "t/u", "t/x", "q", "q/q")
VERSIONS = ("", "1", "2", "3")


def carried() -> list[tuple[str, What]]:
    """(method, what) of everything requests can carry here."""
    out: list[tuple[str, What]] = [("GET", UPGRADE), ("WEBSOCKET_TEXT", TEXT)]
    out += [("GET", SESSION), ("DELETE", SESSION), ("WEBSOCKET_TEXT", SESSION)]
    operations = [
        Graphql(kind, name, fields)
        for kind in ("query", "mutation", "subscription")
        for name in NAMES
        for fields in FIELDS
    ]
    operations += [Graphql(id=name) for name in "ijk"]
    out += [(method, what) for method in ("POST", "WEBSOCKET_TEXT") for what in operations]
    calls = [Call("tools/call", (("name", tool), *uri)) for tool in TOOLS for uri in ((), (("uri", "f:q"),))]
    calls += [Call("initialize", (("protocolVersion", v),) if v else ()) for v in VERSIONS]
    calls += [Call(m, p) for m in ("x", "y", "tools/q", "qq") for p in ((), (("name", "t"), ("uri", "f:q")))]
    return [*out, *(("POST", call) for call in calls)]


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
        self.carried = carried()
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
                if all(e.protocol == "rest" for e in endpoints if e.protocol):
                    continue
                protocols = {e.protocol for e in endpoints}
                for method, what in self.carried:
                    if not protocols & judges(Point(chain, host, port, method, path, (), what)):
                        continue
                    for query in self.queries[::60] if asks else [()]:
                        yield Point(chain, host, port, method, path, query, what)

    def newly_permitted(self, after: Policy, before: Policy) -> Point | None:
        """A request that `after` permits and `before` does not, None when the universe has none."""
        return next((p for p in self.points(after, before) if permits(after, p) and not permits(before, p)), None)
