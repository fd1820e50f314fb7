"""Two endpoints that contradict each other: where a connection or a request would have two incompatible treatments.

Decides ambiguity of the whole effective policy. Provenance is never a conflict, and neither is what the rules allow:
allows add up, denies win, an inspected endpoint takes over a raw one.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator

from pyopenshell.policy.coverage import host_overlaps, path_overlaps
from pyopenshell.policy.globs import path_pattern
from pyopenshell.policy.grants import EVERYWHERE, specificity
from pyopenshell.policy.model import Endpoint, Policy
from pyopenshell.policy.problems import Problem, Where, problem, shown


@dataclasses.dataclass(frozen=True, slots=True)
class _Placed:
    key: str
    index: int
    endpoint: Endpoint

    @property
    def words(self) -> str:
        ports = ",".join(map(str, self.endpoint.ports))
        return f"{self.endpoint.host or '(any host)'}:{ports}{self.endpoint.path} in rule {shown(self.key)}"

    @property
    def where(self) -> Where:
        return ("network_policies", self.key, "endpoints", self.index)


def conflicts(policy: Policy) -> list[Problem]:
    """Every ambiguous pair, one problem each, naming both endpoints and the field.

    Connection fields (tls, allowed_ips, tcp) are compared for every pair whose hosts and ports overlap; request fields
    only where the path selectors overlap with the same specificity (contract/gateway.md 2.6, proof.md 6.4).

    What an endpoint leaves at its default it does not say, protocol and enforcement excepted: it then shares what the
    other one says (flags and credential handling are or-ed, limits and `allowed_ips` taken over). Otherwise an agent,
    who may not write credential fields, could propose nothing on a host where a user wrote one.
    """
    return [_problem(*found) for found in _ambiguous(policy)]


def _problem(one: _Placed, other: _Placed, field: str) -> Problem:
    return problem(
        "ambiguous",
        f"{one.words} and {other.words} overlap and differ in {field}",
        "make them equal, or give them different hosts, ports or paths",
        other.where,
    )


def new_conflicts(before: Policy, after: Policy) -> list[Problem]:
    """The conflicts of `after` between endpoints that did not contradict each other in `before`."""
    known = {_names(*found) for found in _ambiguous(before)}
    return [_problem(*found) for found in _ambiguous(after) if _names(*found) not in known]


def _names(one: _Placed, other: _Placed, field: str) -> object:
    """A pair by rule, host and path: ports and positions may have moved meanwhile."""
    return frozenset((p.key, p.endpoint.host, p.endpoint.path) for p in (one, other)), field


def _ambiguous(policy: Policy) -> Iterator[tuple[_Placed, _Placed, str]]:
    placed = [
        _Placed(rule.key, index, endpoint) for rule in policy.rules for index, endpoint in enumerate(rule.endpoints)
    ]
    for one, other in _pairs(placed):
        field = _difference(one.endpoint, other.endpoint)
        if field:
            yield one, other, field


def _pairs(placed: list[_Placed]) -> Iterator[tuple[_Placed, _Placed]]:
    """Pairs that can conflict and share a connection: exact hosts by hashing, only wildcards by comparison."""
    by_port: dict[int, list[_Placed]] = defaultdict(list)
    for entry in placed:
        for port in entry.endpoint.ports:
            by_port[port].append(entry)
    seen: set[tuple[str, int, str, int]] = set()
    for entries in by_port.values():
        for one, other in _meeting(entries):
            mark = (one.key, one.index, other.key, other.index)
            if mark not in seen:
                seen.add(mark)
                yield one, other


def _meeting(entries: list[_Placed]) -> Iterator[tuple[_Placed, _Placed]]:
    """Overlapping hosts on one port. Endpoints that treat traffic alike are represented by one of them per host."""
    exact: dict[str, dict[object, _Placed]] = defaultdict(dict)
    wild: dict[tuple[str, object], _Placed] = {}
    for entry in entries:
        host = entry.endpoint.host
        treatment = _treatment(entry.endpoint)
        if host and "*" not in host:
            exact[host].setdefault(treatment, entry)
        else:
            wild.setdefault((host, treatment), entry)
    for group in exact.values():
        yield from _each_two(list(group.values()))
    patterns = list(wild.values())
    yield from ((a, b) for a, b in _each_two(patterns) if host_overlaps(a.endpoint.host, b.endpoint.host))
    for pattern in patterns:
        treatment = _treatment(pattern.endpoint)
        for host, group in exact.items():
            if len(group) == 1 and treatment in group:
                continue
            if host_overlaps(pattern.endpoint.host, host):
                yield from ((pattern, entry) for entry in group.values())


def _each_two(entries: list[_Placed]) -> Iterable[tuple[_Placed, _Placed]]:
    for index, one in enumerate(entries):
        for other in entries[index + 1 :]:
            yield one, other


REQUEST_FIELDS = (
    "protocol",
    "enforcement",
    "allow_encoded_slash",
    "websocket_credential_rewrite",
    "request_body_credential_rewrite",
    "credential_signing",
    "signing_service",
    "signing_region",
    "credential_provider",
    "persisted_queries",
    "graphql_persisted_queries",
    "graphql_max_body_bytes",
    "json_rpc_max_body_bytes",
    "mcp",
)


ALWAYS_SAID = ("protocol", "enforcement")
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Endpoint)}


def _treatment(endpoint: Endpoint) -> object:
    """Everything `_difference` looks at: equal treatments never conflict, whatever the paths."""
    request = tuple(getattr(endpoint, name) for name in REQUEST_FIELDS) if endpoint.inspected else endpoint.protocol
    return endpoint.tls, frozenset(endpoint.allowed_ips), request, endpoint.path if endpoint.inspected else ""


def _difference(one: Endpoint, other: Endpoint) -> str:
    """The first field in which two overlapping endpoints contradict each other, "" when they do not."""
    if one.tls != other.tls and (one.inspected or other.inspected):
        return f"tls ({one.tls or 'automatic'} and {other.tls or 'automatic'})"
    if one.allowed_ips and other.allowed_ips and set(one.allowed_ips) != set(other.allowed_ips):
        return "allowed_ips"
    if "tcp" in (one.protocol, other.protocol) and (one.inspected or other.inspected):
        return f"protocol ({one.protocol or 'none'} and {other.protocol or 'none'})"
    if not one.inspected or not other.inspected:
        return ""
    if _specificity(one) != _specificity(other) or not path_overlaps(one.path or EVERYWHERE, other.path or EVERYWHERE):
        return ""
    for name in REQUEST_FIELDS:
        values = (getattr(one, name), getattr(other, name))
        if values[0] != values[1] and (name in ALWAYS_SAID or _DEFAULTS[name] not in values):
            short = (
                f" ({values[0] or 'none'} and {values[1] or 'none'})" if all(isinstance(v, str) for v in values) else ""
            )
            return f"{name}{short}"
    return ""


def _specificity(endpoint: Endpoint) -> int:
    return specificity(path_pattern(endpoint.path or EVERYWHERE)[0])
