"""One rule folded into another, exactly: nobody gains what was not declared, nobody loses what was not named.

A rule is endpoints x binaries, so adding to either side grants the whole product: the guard checks every unit of the
result against the two rules it came from. Decides whether folding is exact; what to do otherwise is `policy.merge`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from pyopenshell.policy import coverage
from pyopenshell.policy.coverage import Gap, Mode
from pyopenshell.policy.model import Endpoint, L7Match, Rule
from pyopenshell.policy.problems import shown

# No deny rule is ever lost in a fold, so none can widen it; new ones narrow, which the other checks look at.
_WITHIN = Mode(unset_protocol=False, denies_present=False, heed_denies=False, heed_trust=True)
_KEPT = Mode(unset_protocol=False, denies_present=False, heed_shadow=True, heed_trust=True)
_EFFECTIVE_NEW = Mode()
_EFFECTIVE_KNOWN = Mode(heed_denies=False)


@dataclasses.dataclass(frozen=True, slots=True)
class MergeWarning:
    """Something the author should know about a merge that succeeded. `code` is stable."""

    code: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a fold would not be exact, as the end of a sentence about the rule."""

    message: str


def fold(target: Rule, incoming: Rule, *, named: bool) -> tuple[Rule, list[MergeWarning]] | Refusal:
    """`target` with `incoming` in it, or why that would not be exact.

    `named` says that the author named `target`: then differing endpoints may stand side by side in it and an endpoint
    without protocol adopts the inspection that is there; otherwise only endpoints that truly merge are folded.
    """
    warnings: list[MergeWarning] = []
    endpoints = list(target.endpoints)
    for endpoint in incoming.endpoints:
        if not _place(endpoints, endpoint, named, warnings):
            return Refusal(f"treats {endpoint.host}:{_ports([endpoint])} differently")
    known, new = _split(incoming.binaries, target.binaries)
    if "/**" in target.binaries and any(binary != "/**" for binary in known):
        warnings.append(MergeWarning("kept_any_binary", f"rule {shown(target.key)} already authorizes any binary"))
    merged = dataclasses.replace(target, endpoints=tuple(endpoints), binaries=(*target.binaries, *new))
    refusal = _widening(target, incoming, merged) or _loss(target, incoming, merged, known, new)
    return refusal or (merged, warnings)


def _split(binaries: Iterable[str], have: Sequence[str]) -> tuple[list[str], list[str]]:
    """Binaries that a rule has already, and those that are new to it."""
    known: list[str] = []
    new: list[str] = []
    for binary in dict.fromkeys(binaries):
        (known if any(coverage.binary_covers(pattern, binary) for pattern in have) else new).append(binary)
    return known, new


# ---- endpoints -------------------------------------------------------------------------------------------------------


def _place(endpoints: list[Endpoint], incoming: Endpoint, named: bool, warnings: list[MergeWarning]) -> bool:
    """Put one endpoint into a rule's list; False when only a rule of its own keeps it as submitted."""
    if incoming in endpoints:
        return True
    same_place = [
        index
        for index, e in enumerate(endpoints)
        if e.host == incoming.host and e.path == incoming.path and set(e.ports) == set(incoming.ports)
    ]
    for index in same_place:
        if _frame(endpoints[index]) == _frame(incoming):
            endpoints[index] = _combine(endpoints[index], incoming)
            return True
    if not named:
        overlapping = any(
            e.host == incoming.host and e.path == incoming.path and set(e.ports) & set(incoming.ports)
            for e in endpoints
        )
        if not overlapping:
            endpoints.append(incoming)
        return not overlapping
    where = f"{incoming.host}:{_ports([incoming])}"
    for index in same_place:
        have = endpoints[index]
        if have.inspected and _is_plain(incoming):
            warnings.append(
                MergeWarning("kept_inspection", f"{where} stays inspected as {have.protocol}; its rules still apply")
            )
            return True
        if _is_plain(have) and incoming.inspected and have.advisor_proposed == incoming.advisor_proposed:
            warnings.append(
                MergeWarning("inspection_added", f"{where} is now inspected as {incoming.protocol}; it was raw before")
            )
            endpoints[index] = incoming
            return True
    endpoints.append(incoming)
    return True


def _frame(endpoint: Endpoint) -> Endpoint:
    """Everything but what the endpoint allows and denies: only equal frames can share one endpoint."""
    plain = dataclasses.replace(endpoint, access="", rules=(), deny_rules=())
    return dataclasses.replace(plain, allowed_ips=tuple(sorted(set(plain.allowed_ips))))


def _is_plain(endpoint: Endpoint) -> bool:
    """A raw endpoint that says nothing beyond where it goes."""
    bare = Endpoint(endpoint.host, endpoint.ports, path=endpoint.path, advisor_proposed=endpoint.advisor_proposed)
    return bare == endpoint


def _combine(have: Endpoint, incoming: Endpoint) -> Endpoint:
    """Both allow sets and both deny sets. A preset stays written as preset where it says it all."""
    denies = tuple(dict.fromkeys((*have.deny_rules, *incoming.deny_rules)))
    mine, theirs = coverage.allows_of(have), coverage.allows_of(incoming)
    if _all_covered(mine, theirs):
        return dataclasses.replace(have, deny_rules=denies)
    if _all_covered(theirs, mine) and incoming.access:
        return dataclasses.replace(have, access=incoming.access, rules=incoming.rules, deny_rules=denies)
    rules = tuple(dict.fromkeys((*mine, *theirs)))
    return dataclasses.replace(have, access="", rules=rules, deny_rules=denies)


def _all_covered(wide: Sequence[L7Match], narrow: Sequence[L7Match]) -> bool:
    return coverage.not_covered(wide, narrow) is None


# ---- the guard -------------------------------------------------------------------------------------------------------


def _widening(target: Rule, incoming: Rule, merged: Rule) -> Refusal | None:
    """Every unit of the product must come from one of the two rules."""
    found = coverage.gaps((target, incoming), merged, _WITHIN)
    if not found:
        return None
    newcomers = [gap for gap in found if gap.binary not in target.binaries]
    if newcomers:
        first = newcomers[0]
        mine = [gap for gap in newcomers if gap.binary == first.binary and gap.endpoint.host == first.endpoint.host]
        return Refusal(
            f"would grant {shown(first.binary)} undeclared authorization for {first.endpoint.host} "
            f"on ports {_gap_ports(mine)} ({first.reason}); declare those endpoints too, or use another rule name"
        )
    return _changed(found)


def _changed(found: Sequence[Gap]) -> Refusal:
    first = found[0]
    mine = [gap for gap in found if gap.endpoint.host == first.endpoint.host]
    others = ", ".join(dict.fromkeys(shown(gap.binary) for gap in mine))
    return Refusal(
        f"would grant existing binaries new or changed authorization for {first.endpoint.host} on ports "
        f"{_gap_ports(mine)} ({first.reason}); also declare {others}, or use another rule name"
    )


def _loss(target: Rule, incoming: Rule, merged: Rule, known: list[str], new: list[str]) -> Refusal | None:
    """Binaries that were not declared keep exactly their rights, and what was declared takes effect."""
    undeclared = tuple(
        binary
        for binary in target.binaries
        if not any(coverage.binary_covers(pattern, binary) for pattern in incoming.binaries)
    )
    if undeclared:
        found = coverage.gaps((merged,), dataclasses.replace(target, binaries=undeclared), _KEPT)
        if found:
            return _changed(found)
    for binaries, mode in ((known, _EFFECTIVE_KNOWN), (new, _EFFECTIVE_NEW)):
        wanted = dataclasses.replace(incoming, binaries=tuple(binaries))
        found = coverage.gaps((merged,), wanted, mode) if binaries else []
        if found:
            first = found[0]
            return Refusal(
                f"would not give {shown(first.binary)} what it declares for {first.endpoint.host}:{first.port} "
                f"({first.reason}); use another rule name"
            )
    return None


def _gap_ports(found: Sequence[Gap]) -> str:
    return "[" + ", ".join(map(str, sorted({gap.port for gap in found}))) + "]"


def _ports(endpoints: Sequence[Endpoint]) -> str:
    return ",".join(str(port) for endpoint in endpoints for port in endpoint.ports)
