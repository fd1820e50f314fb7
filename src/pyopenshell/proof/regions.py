"""Findings turned into regions: merged where they are a true product, with carve-outs, size and one sentence.

Explains; never decides. Everything shown comes from canonical patterns or is escaped.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from pyopenshell.policy.explain import bracketed, few, printable
from pyopenshell.policy.globs import G, Glob, L
from pyopenshell.policy.grants import EVERYWHERE, Grant, Record
from pyopenshell.policy.hosts import host_matches, host_tokens
from pyopenshell.policy.index import GrantIndex
from pyopenshell.policy.query import Conditions
from pyopenshell.proof.atoms import ENCODED_SLASH, UndecidedError
from pyopenshell.proof.breadth import breadth
from pyopenshell.proof.diff import Cube, Diff, Finding, meet_methods
from pyopenshell.proof.requests import Request, confirm
from pyopenshell.proof.words import Tokens, overlaps, subset

_MAX_FINDINGS = 16
_MAX_AVOID = 50

NEW_GRANT = "new grant"
AUDIT = "audit mode forwards everything"
UNSHADOWED = "inspection removed"
SLASH = "encoded slash accepted"
UNDECIDED = "not decided"


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """One product set of newly permitted traffic, less its carve-outs.

    `uninspected`: raw bytes, no methods or paths. `methods` ("*",) is any method. `path` is a pattern for people,
    `paths` the exact number of paths when finite. `breadth` is log10 of the number of paths in a model universe (see
    `breadth`), infinite when uninspected. `request` is the shortest witness, confirmed by both engines when `proven`.
    """

    text: str
    reason: str
    witness: str
    uninspected: bool
    request: Request
    binaries: tuple[str, ...]
    host: str
    ports: tuple[int, ...]
    methods: tuple[str, ...] = ()
    path: str = ""
    query: Conditions = ()
    already: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    paths: int | None = None
    breadth: float = math.inf
    proven: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class _Draft:
    """A region before merging: exactly one method, port and group of binaries."""

    host: str
    port: int
    raw: bool
    method: str
    path: str
    patterns: tuple[Tokens, ...]
    query: Conditions
    reason: str
    already: tuple[str, ...]
    denied: tuple[str, ...]
    avoid: tuple[Tokens, ...]
    binaries: tuple[str, ...]
    request: Request
    proven: bool


def regions(diff: Diff) -> list[Region]:
    """All regions, unsorted. A cube that outgrew its budget becomes a region that is not `proven`."""
    drafts: dict[tuple[object, ...], _Draft] = {}
    for cube in diff.cubes():
        for draft in _drafts(diff, cube):
            key = (draft.host, draft.port, draft.raw, draft.method, draft.path, draft.query, draft.reason)
            drafts.setdefault((*key, draft.binaries), draft)
    return [_region(group) for group in _merge(list(drafts.values()))]


def _drafts(diff: Diff, cube: Cube) -> Iterator[_Draft]:
    seen = set()
    try:
        for finding in itertools.islice(diff.check((cube,)), _MAX_FINDINGS):
            reason = _reason(finding)
            shown = _shown(finding)
            if (reason, shown) in seen:
                continue
            seen.add((reason, shown))
            witness, verified = confirm(diff.after, diff.before, finding.witness)
            yield _draft(diff, finding, reason, witness, verified)
    except UndecidedError:
        point = Request((cube.binary or "",), cube.host, cube.port, cube.method, _path_text(cube))
        yield _draft(diff, Finding(cube, point), UNDECIDED, point, False)


def _reason(finding: Finding) -> str:
    for refiner in finding.refiners:
        if refiner.source == "deny" and refiner.record is not None:
            return f"deny no longer applies: {_named(refiner.record)}"
    if finding.cube.source == "audit":
        return AUDIT
    if any(refiner.source == "shadow" for refiner in finding.refiners):
        return UNSHADOWED
    if ENCODED_SLASH in finding.witness.path and ENCODED_SLASH not in _path_text(finding.cube):
        return SLASH
    return NEW_GRANT


def _named(record: Record) -> str:
    scope = record.inspection.scope
    text = record.path if scope == EVERYWHERE else f"{record.path} within {scope}"
    method = "" if record.method == "*" else record.method + " "
    return method + text + _query_text(record.query)


def _query_text(query: Conditions) -> str:
    return "?" + "&".join(f"{printable(k)}={'|'.join(map(printable, globs))}" for k, globs in query) if query else ""


def _path_text(cube: Cube) -> str:
    if cube.raw:
        return ""
    if cube.record is None:
        return cube.inspection.scope if cube.inspection is not None else EVERYWHERE
    scope = cube.record.inspection
    if scope.trivial or subset(cube.record.tokens, scope.tokens):
        return cube.record.path
    return scope.scope if subset(scope.tokens, cube.record.tokens) else f"{cube.record.path} within {scope.scope}"


def _shown(finding: Finding) -> tuple[str, str, tuple[Tokens, ...]]:
    """Method, path text and patterns: for a lifted deny only the part that it carved out."""
    cube = finding.cube
    for refiner in finding.refiners:
        if refiner.source == "deny" and refiner.record is not None:
            method = refiner.method if cube.method == "*" else cube.method
            patterns = (*cube.patterns, *refiner.patterns)
            inside = not cube.patterns or subset(refiner.record.tokens, cube.patterns[0])
            return method, refiner.record.path if inside else _path_text(cube), patterns
    return cube.method, _path_text(cube), cube.patterns


def _draft(diff: Diff, finding: Finding, reason: str, witness: Request, verified: bool) -> _Draft:
    cube = finding.cube
    method, path, patterns = ("", "", ()) if cube.raw else _shown(finding)
    already: list[str] = []
    denied: list[str] = []
    avoid: list[Tokens] = []
    if not cube.raw and reason != UNDECIDED:
        lifted = reason.startswith("deny")
        for grant, record in _overlapping(diff, diff.a, diff.hosts_a.at(cube.host, cube.port), cube, method, deny=True):
            denied.append(_named(record) + _on(grant, cube.host))
            _avoid(avoid, grant, record, cube.host)
        for grant, record in _overlapping(
            diff, diff.b, diff.hosts_b.at(cube.host, cube.port), cube, method, deny=False
        ):
            if not lifted:
                already.append(_named(record) + _on(grant, cube.host))
                _avoid(avoid, grant, record, cube.host)
    return _Draft(
        cube.host,
        cube.port,
        cube.raw,
        method,
        path,
        patterns,
        cube.query,
        reason,
        tuple(dict.fromkeys(already)),
        tuple(dict.fromkeys(denied)),
        tuple(avoid),
        cube.binaries,
        witness,
        verified,
    )


def _on(grant: Grant, host: str) -> str:
    return "" if covers_host(grant.host, host) else f" on {grant.host}"


def _avoid(avoid: list[Tokens], grant: Grant, record: Record, host: str) -> None:
    if not record.query and record.inspection.trivial and covers_host(grant.host, host):
        avoid.extend(record.variants())


def _overlapping(
    diff: Diff, index: GrantIndex, grants: Sequence[Grant], cube: Cube, method: str, *, deny: bool
) -> Iterator[tuple[Grant, Record]]:
    """Allow (or deny) records of one policy that meet the cube, for the binaries that the cube stands for."""
    names = [name for binary in cube.binaries[:1] for name in diff.reps.binaries((binary,))]
    pattern = cube.patterns[0] if cube.patterns else ()
    for grant in grants:
        if not grant.inspected or all(index.binaries_of(name).isdisjoint(grant.binaries) for name in names):
            continue
        wanted = set(grant.denies if deny else grant.allows)
        met = overlaps(grant.trie.root, pattern) if pattern else [*grant.denies, *grant.allows]
        for record in met:
            if record in wanted and meet_methods([method, record.method], "*") is not None:
                yield grant, record


def covers_host(big: str, small: str) -> bool:
    """Is every host of one canonical pattern a host of the other?"""
    if not big or big == small:
        return True
    if not small:
        return False
    if "*" not in small:
        return host_matches(big, small)
    return "*" in big and subset(host_tokens(small), host_tokens(big), empty=False)


def _merge(drafts: list[_Draft]) -> list[list[_Draft]]:
    """Groups that differ in exactly one dimension at a time: binaries, then methods, then ports, then literal paths."""
    groups = [[draft] for draft in drafts]
    dimensions: tuple[Callable[[list[_Draft]], object], ...] = (
        lambda g: (g[0].host, _ports(g), g[0].raw, _methods(g), _paths(g)),
        lambda g: (g[0].host, _ports(g), g[0].raw, _binaries(g), _paths(g)),
        lambda g: (g[0].host, _methods(g), g[0].raw, _binaries(g), _paths(g)),
        lambda g: (g[0].host, _ports(g), g[0].raw, _binaries(g), _methods(g)) if _finite(g) else id(g),
    )
    for dimension in dimensions:
        merged: dict[object, list[_Draft]] = {}
        for group in groups:
            first = group[0]
            same = (first.query, first.reason, first.already, first.denied, first.proven)
            merged.setdefault((dimension(group), same), []).extend(group)
        groups = list(merged.values())
    return groups


def _ports(group: list[_Draft]) -> tuple[int, ...]:
    return tuple(sorted({draft.port for draft in group}))


def _methods(group: list[_Draft]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(draft.method for draft in group if draft.method))


def _binaries(group: list[_Draft]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for draft in group for name in draft.binaries))


def _paths(group: list[_Draft]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(draft.path for draft in group))


def _finite(group: list[_Draft]) -> bool:
    return not group[0].raw and count(group[0].patterns) is not None


def count(patterns: tuple[Tokens, ...]) -> int | None:
    """Exact number of paths of one pattern when it is finite, 1 when any of several patterns is a literal."""
    sizes = [size for size in map(_count, patterns) if size is not None]
    if len(patterns) == 1:
        return sizes[0] if sizes else None
    return 1 if 1 in sizes else None


def _count(tokens: Tokens) -> int | None:
    total = 1
    for kind, value in tokens:
        if kind == G and isinstance(value, Glob):
            for item in value.items:
                if item is None or item.negated:
                    return None
                total *= len(item.chars)
        elif kind != L:
            return None
    return total


def _region(group: list[_Draft]) -> Region:
    first = min(group, key=lambda draft: (not draft.proven, len(draft.request.path)))
    sizes = {draft.path: count(draft.patterns) for draft in group}
    total = None if first.raw or None in sizes.values() else sum(size for size in sizes.values() if size is not None)
    if first.raw or first.reason == UNDECIDED:
        broad = math.inf
    elif total is not None:
        broad = math.log10(max(total, 1))
    else:
        broad = breadth(first.patterns, first.avoid if len(first.avoid) <= _MAX_AVOID else ())
    region = Region(
        text="",
        reason=first.reason,
        witness=str(first.request),
        uninspected=first.raw,
        request=first.request,
        binaries=_binaries(group),
        host=first.host,
        ports=_ports(group),
        methods=_methods(group),
        path=few(_paths(group)),
        query=first.query,
        already=first.already,
        denied=first.denied,
        paths=total,
        breadth=broad,
        proven=first.proven,
    )
    return dataclasses.replace(region, text=_sentence(region))


def _sentence(region: Region) -> str:
    who = few(map(printable, region.binaries))
    at = f"{bracketed(region.host) if region.host else '(any host)'}:{','.join(map(str, region.ports))}"
    if region.uninspected:
        return f"RAW uninspected traffic to {at} by {who}  [{region.reason}]"
    methods = "any method" if "*" in region.methods else ", ".join(region.methods)
    size = "unboundedly many paths" if region.paths is None else f"exactly {region.paths} path"
    if region.paths is not None and region.paths != 1:
        size += "s"
    text = f"{methods} to {size} on {at} by {who}: {region.path}"
    if region.query:
        text += " when " + " and ".join(
            f"every {printable(key)} matches {' or '.join(map(printable, globs))}" for key, globs in region.query
        )
    elif region.paths is not None:
        text += " (any query string)"
    if region.already:
        text += f"; except already allowed {few(region.already, 3)}"
    if region.denied:
        text += f"; except denied {few(region.denied, 3)}"
    if region.reason != NEW_GRANT:
        text += f"  [{region.reason}]"
    if region.paths != 1 and region.request.path:
        text += f"  e.g. {region.request.method} {region.request.target}"
    return text if region.proven else text + "  (not proven: treat as newly permitted)"
