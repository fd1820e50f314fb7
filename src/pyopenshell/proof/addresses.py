"""The address dimension: which private networks a connection may newly be dialled into (contract/sandbox.md 5).

`allowed_ips` and user-declared hosts decide it per connection, so it is compared per connection, not per request.
"""

from __future__ import annotations

import bisect
import functools
import ipaddress
import math
from collections.abc import Iterable

from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import EngineCell
from pyopenshell.policy.explain import bracketed, few, printable
from pyopenshell.policy.globs import FRESH
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.hosts import is_ip_literal
from pyopenshell.proof.diff import Diff
from pyopenshell.proof.regions import Region
from pyopenshell.proof.requests import Request

REASON = "private addresses"
_NETWORK_STEPS = 30
"""Reading one network and comparing it."""
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_regions(diff: Diff) -> list[Region]:
    """One region per host, port and network list that `after` may dial into and `before` may not.

    Raises UndecidedError.
    """
    found: dict[tuple[str, int, str], tuple[list[str], Request]] = {}
    for grant in _affected(diff):
        for binary, binaries in diff.groups(grant):
            for name in diff.reps.binaries((binary,)):
                for host in diff.reps.hosts((grant.host,)):
                    connection = Connection(_concrete(host), grant.port, _concrete(name))
                    news = _new_networks(diff, connection)
                    if news:
                        request = Request((connection.binary,), connection.host, connection.port)
                        names, _ = found.setdefault((grant.host, grant.port, news), ([], request))
                        names.extend(n for n in binaries if n not in names)
    return [_region(key, tuple(names), request) for key, (names, request) in found.items()]


def _concrete(text: str) -> str:
    return text.replace(FRESH, "x")


def _affected(diff: Diff) -> Iterable[Grant]:
    """Grants of `after` whose connections may be dialled differently: only where addresses play a role at all."""
    if not (_plays_a_role(diff.a.grants.values()) or _plays_a_role(diff.b.grants.values())):
        return
    met = {
        id(grant)
        for key, other in diff.b.grants.items()
        if diff.a.grants.get(key) is not other
        for grant in diff.hosts_a.at(other.host, other.port)
    }
    for grant in diff.a.ordered:
        if id(grant) in met or diff.b.grants.get(grant.place) is not grant:
            yield grant


def _plays_a_role(grants: Iterable[Grant]) -> bool:
    return any(e.allowed_ips or e.advisor_proposed for grant in grants for _, e in grant.sources)


def _new_networks(diff: Diff, connection: Connection) -> str:
    """Text of the networks newly reachable, "" when there are none."""
    for index in (diff.a, diff.b):
        diff.grants_at(index, (connection.binary,), connection.host, connection.port)
    new, old = diff.after.connect(connection), diff.before.connect(connection)
    diff.work.spend(10 + new.steps() + old.steps() + _NETWORK_STEPS * (len(new.allowed_ips) + len(old.allowed_ips)))
    if not new.decision.allowed:
        return ""
    networks = _networks(new, connection.host)
    if networks is None:
        # Any private address: every exact host that a user declares. Only news for a connection that was
        # admitted before without it; otherwise it is part of the grant that the user wrote.
        if old.decision.allowed and _networks(old, connection.host) is not None:
            return "any private network (exact host declared by a user)"
        return ""
    known = _networks(old, connection.host) if old.decision.allowed else []
    if known is None:
        return ""
    covered = _Covered(known)
    return few(text for text in new.allowed_ips if not covered.holds(_parse(text)))


def _networks(cell: EngineCell, host: str) -> list[_Network] | None:
    """Networks beyond the public ones, None for all of them."""
    if cell.allowed_ips:
        return [network for text in cell.allowed_ips for network in _parse(text)]
    return None if cell.host_declared or is_ip_literal(host) else []


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[_Network, ...]:
    try:
        return (ipaddress.ip_network(text, strict=False),)
    except ValueError:
        return ()


class _Covered:
    """A union of networks, as disjoint ranges of addresses per version."""

    def __init__(self, networks: Iterable[_Network]) -> None:
        self._ranges: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for version, first, last in sorted((n.version, *_ends(n)) for n in networks):
            ranges = self._ranges[version]
            if ranges and first <= ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
            else:
                ranges.append((first, last))

    def holds(self, networks: tuple[_Network, ...]) -> bool:
        """Every address of all these networks, and there is one."""
        return bool(networks) and all(self._holds(network) for network in networks)

    def _holds(self, network: _Network) -> bool:
        first, last = _ends(network)
        ranges = self._ranges[network.version]
        at = bisect.bisect_right(ranges, first, key=lambda pair: pair[0]) - 1
        return at >= 0 and last <= ranges[at][1]


def _ends(network: _Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _region(key: tuple[str, int, str], binaries: tuple[str, ...], request: Request) -> Region:
    host, port, networks = key
    at = f"{bracketed(host) if host else '(any host)'}:{port}"
    text = f"addresses in {printable(networks)} behind {at} by {few(map(printable, binaries))}  [{REASON}]"
    witness = f"connection to {bracketed(request.host)}:{port} by {printable(request.chain[0])}, resolved to {networks}"
    return Region(text, REASON, witness, False, request, binaries, host, (port,), breadth=math.inf)
