"""Cuts a proposed rule down to exactly the requests that were refused: the reviewer's "narrower".

Pure. The result is an ordinary rule that the gateway judges again; nothing is approved here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from pyopenshell.client.values import Observed
from pyopenshell.policy.coverage import covers
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule

_GLOB = frozenset("*?[]{}\\")


def narrower(rule: Rule, observed: Iterable[Observed]) -> Rule | None:
    """`rule` with each endpoint's grants replaced by the (method, path) pairs observed there.

    Only what the rule itself asks for counts: a refused request outside of it is no reason to permit that. Endpoints
    without any are dropped, and so are binaries that were never refused. None where nothing observed fits, or where
    the rule already is exactly that. A path that holds a glob character cannot be written as an exact path and is
    left out.
    """
    fitting = [
        one for one in observed if one.binary in rule.binaries and not _GLOB & set(one.path) and one.method and one.path
    ]
    endpoints: list[Endpoint] = []
    binaries: set[str] = set()
    for endpoint in rule.endpoints:
        asked = Policy(rules=(dataclasses.replace(rule, endpoints=(endpoint,)),))
        here = [
            one
            for one in fitting
            if one.host.lower() == endpoint.host.lower()
            and one.port in endpoint.ports
            and covers(asked, dataclasses.replace(rule, endpoints=(_only(endpoint, [one]),), binaries=(one.binary,)))
        ]
        if here:
            binaries |= {one.binary for one in here}
            endpoints.append(_only(endpoint, here))
    if not endpoints:
        return None
    cut = dataclasses.replace(
        rule, endpoints=tuple(endpoints), binaries=tuple(b for b in rule.binaries if b in binaries)
    )
    return None if cut == rule else cut


def _only(endpoint: Endpoint, observed: Sequence[Observed]) -> Endpoint:
    """`endpoint` for exactly these requests, inspected and enforced."""
    pairs = sorted({(one.method, one.path) for one in observed})
    return dataclasses.replace(
        endpoint,
        ports=tuple(sorted({one.port for one in observed})),
        path="",
        protocol="rest",
        tls="",
        enforcement="enforce",
        access="",
        rules=tuple(L7Match(method=method, path=path) for method, path in pairs),
        allowed_ips=(),
    )
