"""Findings turned into regions: merged where they are a true product, with carve-outs, size and one sentence.

Explains; never decides. Everything shown comes from canonical patterns or is escaped.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from pyopenshell.policy import operations
from pyopenshell.policy.explain import bracketed, few, printable
from pyopenshell.policy.globs import G, Glob, L
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.hosts import host_matches, host_tokens
from pyopenshell.policy.index import GrantIndex
from pyopenshell.policy.places import by_place
from pyopenshell.policy.query import Conditions
from pyopenshell.policy.records import EVERYWHERE, Kind, Record, in_order
from pyopenshell.proof.atoms import ENCODED_SLASH
from pyopenshell.proof.breadth import breadth
from pyopenshell.proof.diff import Cube, Diff, Finding, meet_methods
from pyopenshell.proof.requests import Request, confirm
from pyopenshell.proof.words import Tokens, overlaps, subset
from pyopenshell.proof.work import UndecidedError, Work

_MAX_FINDINGS = 16
_MAX_AVOID = 50
_MAX_OPEN = 50
_DRAFT_STEPS = 100
"""Building, merging and wording one region, beside what it searches for."""
_LEAST_SHARE = 2000
"""Steps that every cube may use, however little is left."""

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
    """All regions, unsorted. What the work did not suffice for becomes regions that are not `proven`; never raises.

    The question itself may use what is there less a tenth, which is for saying how broad the answer is.
    """
    drafts: dict[tuple[object, ...], _Draft] = {}
    open_grants: list[Grant] = []
    with diff.work.keeping(diff.work.left // 10):
        for grant in diff.a.ordered:
            try:
                for draft in _of_grant(diff, grant):
                    key = (draft.host, draft.port, draft.raw, draft.method, draft.path, draft.query, draft.reason)
                    drafts.setdefault((*key, draft.binaries), draft)
            except UndecidedError:
                open_grants.append(grant)
    # First those that changed: they are what the reader looks for.
    open_grants.sort(key=lambda grant: diff.b.grants.get(grant.place) is grant)
    for grant in open_grants[:_MAX_OPEN]:
        drafts.setdefault((grant, UNDECIDED), _undecided(grant))
    found = [_region(group, diff.work) for group in _merge(list(drafts.values()))]
    if len(open_grants) > _MAX_OPEN:
        found.append(_rest(open_grants[_MAX_OPEN:]))
    return found


def _of_grant(diff: Diff, grant: Grant) -> Iterator[_Draft]:
    """Regions of one grant. One hard cube leaves work for those after it."""
    work = diff.work
    with work.keeping(work.left - work.spare // 2):
        cubes = list(diff.cubes_of(grant))
    for cube in cubes:
        if not work.spare:
            raise UndecidedError("nothing left for the other cubes of this grant")
        try:
            with work.keeping(work.left - max(work.spare // 2, min(work.spare, _LEAST_SHARE))):
                drafts = list(_drafts(diff, cube))
        except UndecidedError:
            yield _undecided(grant, cube)
        else:
            yield from drafts


def _drafts(diff: Diff, cube: Cube) -> Iterator[_Draft]:
    seen = set()
    every = itertools.chain.from_iterable(map(diff.check, diff.starts(cube)))
    for finding in itertools.islice(every, _MAX_FINDINGS):
        diff.work.spend(_DRAFT_STEPS)
        reason = _reason(finding, diff.work)
        shown = _shown(finding, diff.work)
        if (reason, shown) in seen:
            continue
        seen.add((reason, shown))
        witness, verified = confirm(diff.after, diff.before, finding.witness, diff.work)
        yield _draft(diff, finding, reason, witness, verified)


def _undecided(grant: Grant, cube: Cube | None = None) -> _Draft:
    """What was not compared to the end: a whole grant, or one cube of it."""
    raw = grant.raw if cube is None else cube.raw
    binaries = grant.binaries if cube is None else cube.binaries
    record = cube.record if cube is not None else None
    method, path = (record.method, record.path) if record is not None else ("*", EVERYWHERE)
    point = Request(binaries[:1], grant.host, grant.port, "" if raw else method, "" if raw else path)
    return _Draft(
        grant.host,
        grant.port,
        raw,
        "" if raw else method,
        "" if raw else path,
        (),
        (),
        UNDECIDED,
        (),
        (),
        (),
        binaries,
        point,
        False,
    )


def unknown_addresses(diff: Diff) -> list[Region]:
    """In place of the private networks that could not be compared."""
    return [_rest(diff.a.ordered)] if diff.a.grants else []


def _rest(grants: Sequence[Grant]) -> Region:
    first = grants[0]
    point = Request(first.binaries[:1], first.host, first.port)
    return Region(
        text=f"{len(grants)} grants could not be compared  [{UNDECIDED}]  (not proven: treat as newly permitted)",
        reason=UNDECIDED,
        witness=str(point),
        uninspected=any(grant.raw for grant in grants),
        request=point,
        binaries=first.binaries[:1],
        host=first.host,
        ports=(first.port,),
        proven=False,
    )


def _reason(finding: Finding, work: Work) -> str:
    for refiner in finding.refiners:
        if refiner.source == "deny" and refiner.record is not None:
            return f"deny no longer applies: {_named(refiner.record)}"
    if finding.cube.source == "audit":
        return AUDIT
    if any(refiner.source == "shadow" for refiner in finding.refiners):
        return UNSHADOWED
    if ENCODED_SLASH in finding.witness.path and ENCODED_SLASH not in _path_text(finding.cube, work):
        return SLASH
    return NEW_GRANT


def _named(record: Record) -> str:
    scope = record.inspection.scope
    text = record.path if scope == EVERYWHERE else f"{record.path} within {scope}"
    if record.sorts is not None:
        return f"{record}" + ("" if scope == EVERYWHERE else f" within {scope}")
    method = "" if record.method == "*" else record.method + " "
    return method + text + _query_text(record.query)


def _query_text(query: Conditions) -> str:
    return "?" + "&".join(f"{printable(k)}={'|'.join(map(printable, globs))}" for k, globs in query) if query else ""


def _path_text(cube: Cube, work: Work) -> str:
    if cube.raw:
        return ""
    if cube.record is None:
        return cube.inspection.scope if cube.inspection is not None else EVERYWHERE
    scope = cube.record.inspection
    if scope.trivial or subset(cube.record.tokens, scope.tokens, work):
        return cube.record.path
    if subset(scope.tokens, cube.record.tokens, work):
        return scope.scope
    return f"{cube.record.path} within {scope.scope}"


def _shown(finding: Finding, work: Work) -> tuple[str, str, tuple[Tokens, ...]]:
    """Method, path text and patterns: for a lifted deny only the part that it carved out."""
    cube = finding.cube
    for refiner in finding.refiners:
        if refiner.source == "deny" and refiner.record is not None:
            method = refiner.method if cube.method == "*" else cube.method
            patterns = (*cube.patterns, *refiner.patterns)
            inside = not cube.patterns or subset(refiner.record.tokens, cube.patterns[0], work)
            return method, refiner.record.path if inside else _path_text(cube, work), patterns
    return cube.method, _path_text(cube, work), cube.patterns


def _draft(diff: Diff, finding: Finding, reason: str, witness: Request, verified: bool) -> _Draft:
    cube = finding.cube
    method, path, patterns = ("", "", ()) if cube.raw else _shown(finding, diff.work)
    already: list[str] = []
    denied: list[str] = []
    avoid: list[Tokens] = []
    if not cube.raw:
        lifted = reason.startswith("deny")
        for grant, record in _overlapping(diff, diff.a, diff.hosts_a.at(cube.host, cube.port), cube, method, deny=True):
            denied.append(_named(record) + _on(grant, cube.host, diff.work))
            _avoid(avoid, grant, record, cube.host, diff.work)
        for grant, record in _overlapping(
            diff, diff.b, diff.hosts_b.at(cube.host, cube.port), cube, method, deny=False
        ):
            if not lifted:
                already.append(_named(record) + _on(grant, cube.host, diff.work))
                _avoid(avoid, grant, record, cube.host, diff.work)
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


def _on(grant: Grant, host: str, work: Work) -> str:
    return "" if covers_host(grant.host, host, work) else f" on {grant.host}"


def _avoid(avoid: list[Tokens], grant: Grant, record: Record, host: str, work: Work) -> None:
    if not record.query and record.inspection.trivial and covers_host(grant.host, host, work):
        avoid.extend(record.variants())


def _overlapping(
    diff: Diff, index: GrantIndex, grants: Sequence[Grant], cube: Cube, method: str, *, deny: bool
) -> Iterator[tuple[Grant, Record]]:
    """Allow (or deny) records of one policy that meet the cube, for the binaries that the cube stands for."""
    names = [name for binary in cube.binaries[:1] for name in diff.reps.binaries((binary,))]
    pattern = cube.patterns[0] if cube.patterns else ()
    wanted = Kind.DENY if deny else Kind.ALLOW
    for grant in sorted(grants, key=by_place):
        diff.work.spend(1 + len(names))
        if not grant.inspected or all(index.binaries.of(name).isdisjoint(grant.binaries) for name in names):
            continue
        met = overlaps(grant.trie.root, pattern, diff.work) if pattern else [*grant.denies, *grant.allows]
        diff.work.spend(len(met))
        for record in sorted(met, key=in_order):
            if record.kind is wanted and meet_methods([method, record.method], "*") is not None:
                diff.work.spend(8)
                yield grant, record


def covers_host(big: str, small: str, work: Work) -> bool:
    """Is every host of one canonical pattern a host of the other?"""
    if not big or big == small:
        return True
    if not small:
        return False
    if "*" not in small:
        return host_matches(big, small)
    return "*" in big and subset(host_tokens(small), host_tokens(big), work, empty=False)


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


def _region(group: list[_Draft], work: Work) -> Region:
    first = min(group, key=lambda draft: (not draft.proven, len(draft.request.path)))
    sizes = {draft.path: count(draft.patterns) for draft in group}
    total = None if first.raw or None in sizes.values() else sum(size for size in sizes.values() if size is not None)
    if first.raw or first.reason == UNDECIDED:
        broad = math.inf
    elif total is not None:
        broad = math.log10(max(total, 1))
    else:
        broad = breadth(first.patterns, first.avoid if len(first.avoid) <= _MAX_AVOID else (), work)
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
    methods = "any method" if "*" in region.methods else ", ".join(map(operations.named, region.methods))
    size = "unboundedly many paths" if region.paths is None else f"exactly {region.paths} path"
    if region.paths is not None and region.paths != 1:
        size += "s"
    text = f"{methods} to {size} on {at} by {who}: {region.path}"
    if region.query:
        text += " when " + " and ".join(
            f"every {printable(key.removeprefix(operations.KEY))} matches {' or '.join(map(printable, globs))}"
            for key, globs in region.query
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
        text += f"  e.g. {region.request.what} {region.request.target}"
    return text if region.proven else text + "  (not proven: treat as newly permitted)"
