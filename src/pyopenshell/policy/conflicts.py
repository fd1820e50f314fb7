"""Two endpoints that contradict each other: where a connection or a request would have two incompatible treatments.

Decides ambiguity of the whole effective policy. Provenance is never a conflict, and neither is what the rules allow:
allows add up, denies win, an inspected endpoint takes over a raw one.
"""

from __future__ import annotations

import dataclasses
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from pyopenshell.policy.coverage import host_overlaps, path_overlaps
from pyopenshell.policy.globs import path_pattern
from pyopenshell.policy.memo import per_object
from pyopenshell.policy.model import Endpoint, Policy
from pyopenshell.policy.problems import Problem, Where, problem, shown
from pyopenshell.policy.records import EVERYWHERE, specificity


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
    found = _ambiguous(after)
    known = {_names(*one) for one in _ambiguous(before)} if found else set()
    return [_problem(*one) for one in found if _names(*one) not in known]


def _names(one: _Placed, other: _Placed, field: str) -> object:
    """A pair by rule, host and path: ports and positions may have moved meanwhile."""
    return frozenset((p.key, p.endpoint.host, p.endpoint.path) for p in (one, other)), field


@per_object
def _ambiguous(policy: Policy) -> tuple[tuple[_Placed, _Placed, str], ...]:
    placed = [
        _Placed(rule.key, index, endpoint) for rule in policy.rules for index, endpoint in enumerate(rule.endpoints)
    ]
    found = ((one, other, _difference(one.endpoint, other.endpoint)) for one, other in _pairs(placed))
    return tuple(each for each in found if each[2])


def _pairs(placed: list[_Placed]) -> Iterator[tuple[_Placed, _Placed]]:
    """Pairs that can conflict and share a connection. Linear in what does not overlap."""
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
    hosts: dict[str, list[_Placed]] = defaultdict(list)
    for entry in entries:
        hosts[entry.endpoint.host].append(entry)
    distinct = {host: _distinct(group) for host, group in hosts.items() if len(group) > 1}
    for group in distinct.values():
        yield from _each_two(list(group.values()))
    patterns = [host for host in hosts if not host or "*" in host]
    for pattern, host in _overlapping(patterns, hosts):
        ours, theirs = (
            distinct.get(name) or distinct.setdefault(name, _distinct(hosts[name])) for name in (pattern, host)
        )
        if len(theirs) > 1 or ours.keys() != theirs.keys():
            for one in ours.values():
                yield from ((one, other) for other in theirs.values())


def _distinct(group: list[_Placed]) -> dict[object, _Placed]:
    found: dict[object, _Placed] = {}
    for entry in group:
        found.setdefault(_treatment(entry.endpoint), entry)
    return found


def _overlapping(patterns: Sequence[str], hosts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(pattern, host) that share a name, each two patterns once.

    Two hosts can only overlap where the literal end of one is an end of the other, so those are found by hashing and
    compared; `""` (any host) ends every name.
    """
    if not patterns:
        return
    order = {host: index for index, host in enumerate(patterns)}
    ends: dict[str, list[str]] = defaultdict(list)
    for pattern in patterns:
        ends[_literal_end(pattern)].append(pattern)
    for host in hosts:
        mine = order.get(host)
        whole = host if mine is None else _literal_end(host)
        for end in _ends(whole):
            for pattern in ends.get(end, ()):
                # Two patterns with the same end find each other twice, others only from the longer end.
                again = mine is not None and end == whole and order[pattern] >= mine
                if not again and host_overlaps(pattern, host):
                    yield pattern, host


def _literal_end(pattern: str) -> str:
    """The labels after the last one with a wildcard."""
    return pattern.rpartition("*")[2].partition(".")[2]


def _ends(host: str) -> Iterator[str]:
    """A name, and what is left of it without its first labels, down to "" (which ends every name)."""
    while host:
        yield host
        host = host.partition(".")[2]
    yield ""


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


_request_fields = operator.attrgetter(*REQUEST_FIELDS)
ALWAYS_SAID = ("protocol", "enforcement")
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Endpoint)}


def _treatment(endpoint: Endpoint) -> object:
    """Everything `_difference` looks at: equal treatments never conflict, whatever the paths."""
    request = _request_fields(endpoint) if endpoint.inspected else endpoint.protocol
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
