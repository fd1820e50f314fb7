"""The exact difference of two compiled policies: what one permits and the other does not (proof.md, section 3).

Asks the engine's own index, tries and `judge`; has no matcher of its own. Knows nothing of words for people.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import cast

from pyopenshell.policy.engine import Engine
from pyopenshell.policy.globs import FRESH, path_pattern
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.index import GrantIndex
from pyopenshell.policy.judgement import judge
from pyopenshell.policy.operations import TEXT
from pyopenshell.policy.query import Conditions
from pyopenshell.policy.records import EVERYWHERE, Inspection, Record
from pyopenshell.policy.tries import Trie, closure
from pyopenshell.proof.atoms import ENCODED_SLASH
from pyopenshell.proof.queries import Query, solve
from pyopenshell.proof.representatives import HostOverlap, Representatives
from pyopenshell.proof.requests import Request, confirm
from pyopenshell.proof.sorts import ID, audited, covers, meaning, persisted, remaining, tokens_of
from pyopenshell.proof.words import State, Tokens, Union, lookup_steps, overlaps
from pyopenshell.proof.work import Shared, Work

_MAX_DEPTH = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Cube:
    """A product set binary x host x port x method x path x query: a grant of the left policy, or a refiner.

    `binary` None: the chain so far satisfies it. `patterns` must all match the path. `source` is "raw", "allow" or
    "audit" for left cubes, "shadow" (an inspected endpoint over a raw one), "deny" or "scope" for refiners.
    """

    source: str
    binary: str | None
    host: str
    port: int
    raw: bool
    method: str = "*"
    patterns: tuple[Tokens, ...] = ()
    query: Conditions = ()
    record: Record | None = None
    inspection: Inspection | None = None
    binaries: tuple[str, ...] = ()
    carried: str = ""
    """The id of the persisted query that a left cube is about."""


@dataclasses.dataclass(slots=True)
class Finding:
    """One request that is newly permitted, the cube that permits it and the refiners it needed."""

    cube: Cube
    witness: Request
    refiners: tuple[Cube, ...] = ()
    verified: bool = True


def meet_methods(methods: Sequence[str], fresh: str) -> str | None:
    """A method that all of these cover, matching as few others as possible; None when there is none.

    Tokens of what requests carry (`policy.operations`) stand for themselves.
    """
    concrete = next((method for method in methods if " " in method), None)
    if concrete is not None:
        return concrete if all(covers(method, concrete) for method in methods) else None
    current: set[str] | None = None
    for method in methods:
        if method == "*":
            continue
        if method.islower():  # rules about operations say nothing about plain requests
            return None
        covered = {"GET", "HEAD"} if method == "GET" else {method}
        current = covered if current is None else current & covered
    if current is None:
        return fresh
    if not current:
        return None
    # HEAD is covered by more patterns (GET and HEAD rules) than GET is: prefer the point that matches less.
    return "GET" if "GET" in current else min(current)


def _contracts(grant: Grant | None) -> frozenset[object]:
    """What a grant says about which protocol decides, and about persisted queries."""
    inspections = grant.inspections if grant is not None else ()
    return frozenset((i.contract, tuple(i.registered.items())) for i in inspections)


_EVERY_PATH: Tokens = path_pattern(EVERYWHERE)[1]
_Reason = str | Inspection
_Verdict = bool | None


def _patterns(*patterns: Tokens) -> tuple[Tokens, ...]:
    return tuple(p for p in dict.fromkeys(patterns) if p != _EVERY_PATH)


class _Point:
    """What one policy says at one (chain, host, port, method, path): a verdict with its reason, or a query question."""

    __slots__ = ("allow", "deny", "reason", "verdict")

    def __init__(
        self, grants: Sequence[Grant], records: Sequence[Record], method: str, carried: str, *, slash: bool
    ) -> None:
        self.verdict: _Verdict = False
        self.reason: _Reason | None = None
        self.allow: list[Conditions] = []
        self.deny: list[Conditions] = []
        inspected = [grant for grant in grants if grant.inspected]
        if not inspected:
            self.verdict, self.reason = bool(grants), "raw"
            return
        judgement = judge(inspected, records, method, slash=slash)
        looked_into = bool(carried) and (judgement.graphql or not method.startswith(TEXT))
        values = meaning(judgement, carried) if looked_into else None
        if looked_into and values is None:
            return
        if judgement.audit is not None:
            self.verdict, self.reason = True, judgement.audit
            return
        self.verdict, self.reason = judgement.verdict(), "allow"
        if self.verdict is None:
            self.allow = [record.query for record in judgement.allow]
            self.deny = [record.query for record in judgement.deny]
            if values is not None:
                self.allow = remaining(self.allow, values, deny=False)
                self.deny = remaining(self.deny, values, deny=True)

    def alternatives(self) -> tuple[list[Conditions], list[Conditions]]:
        """(allow, deny) conditions that stand for the verdict in a query question."""
        if self.verdict is None:
            return self.allow, self.deny
        return ([()], []) if self.verdict else ([], [])


_Grants = tuple[Grant, ...]
_Step = tuple[str, Query | None, _Reason | None]
"""What one generic word comes to: (path, query of a new point, None), or ("", None, why `before` permits it)."""


class Diff:
    """Newly permitted requests: those that `after` forwards and `before` does not. Ancestors grant too.

    `work` bounds everything that is asked of it: beyond, UndecidedError.
    """

    def __init__(self, after: Engine, before: Engine, work: Work | None = None) -> None:
        self.after, self.before = after, before
        self.work = work or Work()
        self.a, self.b = after.index, before.index
        self.hosts_a, self.hosts_b = HostOverlap(self.a, self.work), HostOverlap(self.b, self.work)
        self.reps = Representatives(self.a, self.b, self.work)
        self._unions: dict[tuple[_Grants, _Grants], Union[Record]] = {}
        self._deny_tries: dict[tuple[int, bool], Trie[tuple[Record, Tokens]]] = {}
        self._lost_denies: dict[int, list[Record]] = {}
        self._shadows_common = True
        self._compared = False
        self._redistributed: set[int] | None = None
        self._graphql = any(i.graphql for grant in self.a.grants.values() for i in grant.inspections)

    def grants_at(self, index: GrantIndex, chain: tuple[str, ...], host: str, port: int) -> _Grants:
        """`index.at`, counted once."""
        key = (index, chain, host, port)
        found = self.work.memo.get(key)
        self.work.spend()
        if found is None:
            for name in chain:
                self._look_up(index, name)
            candidates = (self.hosts_a if index is self.a else self.hosts_b).at(host, port)
            self.work.spend(len(candidates))
            found = self.work.memo[key] = index.at(chain, host, port)
        return cast(_Grants, found)

    def _look_up(self, index: GrantIndex, name: str) -> frozenset[str]:
        lookup_steps(index.binaries.globs.root, name[1:].split("/"), self.work)
        return index.binaries.of(name)

    def _compare_denies(self) -> None:
        """Denies of `before` that `after` no longer has: only those can carve out something new."""
        if self._compared:
            return
        self._lost_denies.clear()
        for grant in self.b.ordered:
            twin = self.a.grants.get(grant.place)
            if twin is grant:
                continue
            if grant.inspected and not (twin is not None and twin.inspected):
                self._shadows_common = False
            self.work.spend(1 + len(grant.denies) + (len(twin.denies) if twin is not None else 0))
            known = {record.sig for record in twin.denies} if twin is not None else set()
            lost = [record for record in grant.denies if record.sig not in known]
            if lost and self.hosts_a.at(grant.host, grant.port):
                lost = [record for record in lost if not self._still_denied(grant, record)]
            if lost:
                self._lost_denies[id(grant)] = lost
        self._compared = True

    def _still_denied(self, grant: Grant, record: Record) -> bool:
        """Is the deny contained in the denies of `after`, for everybody it applies to?"""
        if record.sorts is not None:
            return False  # whatever it is about: looking again costs less than being wrong
        method = FRESH if record.methods is None else record.methods[0]
        for binary, _ in self.groups(grant):
            for name, host in itertools.product(self.reps.binaries((binary,)), self.reps.hosts((grant.host,))):
                grants = tuple(g for g in self.grants_at(self.a, (name,), host, grant.port) if g.inspected)
                union = self._union(grants, ())
                for tokens in record.variants():
                    patterns = _patterns(tokens, record.inspection.tokens) or (_EVERY_PATH,)
                    for _, state in union.walk(patterns):
                        self.work.spend(1 + len(state.found))
                        denies = judge(grants, state.found, method).deny if grants else ()
                        if not any(not d.query or d.query == record.query for d in denies):
                            return False
        return True

    # -- one branch: an intersection of cubes, against everything that `before` permits -----------------------

    def _chains(self, cubes: Sequence[Cube]) -> list[tuple[str, ...]]:
        choices = [self.reps.binaries((cube.binary,)) for cube in cubes if cube.binary is not None]
        self.work.spend(math.prod(map(len, choices)))
        return sorted({tuple(dict.fromkeys(chain)) for chain in itertools.product(*choices)})

    def check(self, cubes: tuple[Cube, ...], depth: int = 0) -> Iterator[Finding]:
        """Minimal witnesses inside all `cubes` that `after` permits and `before` does not. Raises UndecidedError."""
        first = cubes[0]
        method = "" if first.raw else meet_methods(sorted({cube.method for cube in cubes}), FRESH)
        if method is None:
            return
        patterns = _patterns(*(p for cube in cubes for p in cube.patterns)) or (_EVERY_PATH,)
        reasons: dict[_Reason, None] = {}
        for chain, host in itertools.product(
            self._chains(cubes), self.reps.hosts(tuple(sorted({c.host for c in cubes})))
        ):
            a, b = (self.grants_at(index, chain, host, first.port) for index in (self.a, self.b))
            if not a:
                continue
            if first.raw:
                if any(grant.inspected for grant in a):
                    continue
                if b and not any(grant.inspected for grant in b):
                    reasons["raw"] = None
                else:
                    yield Finding(first, Request(chain, host, first.port), cubes[1:])
                continue
            for path, query, reason in self._points(a, b, method, patterns, first.carried):
                if reason is not None:
                    reasons[reason] = None
                elif query is not None:
                    yield Finding(first, Request(chain, host, first.port, method, path, query), cubes[1:])
        if depth < _MAX_DEPTH:
            for refiner in self._refiners(reasons, cubes):
                if refiner not in cubes:
                    yield from self.check((*cubes, refiner), depth + 1)

    def _points(self, a: _Grants, b: _Grants, method: str, patterns: tuple[Tokens, ...], carried: str) -> Shared[_Step]:
        """What the generic words come to. Cubes that meet the same grants with the same patterns share the answer."""
        key = ("points", a, b, method, patterns, carried)
        found = self.work.memo.get(key)
        self.work.spend()
        if found is None:
            found = self.work.memo[key] = Shared(lambda: self._judged(a, b, method, patterns, carried))
        return cast(Shared[_Step], found)

    def _judged(
        self, a: _Grants, b: _Grants, method: str, patterns: tuple[Tokens, ...], carried: str
    ) -> Iterator[_Step]:
        count = sum(grant.inspection_count for grant in (*a, *b))
        for word, state in self._words(a, b, patterns):
            self.work.spend(4 + 2 * len(state.found) + count)
            slash = any(ENCODED_SLASH in segment for segment in word)
            left = _Point(a, state.of(1), method, carried, slash=slash)
            if left.verdict is False:
                continue
            right = _Point(b, state.of(2), method, carried, slash=slash)
            if right.verdict and right.reason is not None:
                yield "", None, right.reason
                continue
            if right.verdict is None:
                yield "", None, "allow"
            query = solve(*left.alternatives(), *right.alternatives(), self.work, method)
            if query is not None:
                query = (*query, (ID, (carried,))) if carried else query
                yield "/" + "/".join(word), query, None

    def _words(self, a: _Grants, b: _Grants, patterns: tuple[Tokens, ...]) -> Shared[tuple[list[str], State[Record]]]:
        key = ("words", a, b, patterns)
        found = self.work.memo.get(key)
        if found is None:
            slash = any(grant.slashes for grant in a)
            found = self.work.memo[key] = Shared(lambda: self._union(a, b).walk(patterns, slash=slash))
        return cast(Shared[tuple[list[str], State[Record]]], found)

    def _union(self, a: _Grants, b: _Grants) -> Union[Record]:
        union = self._unions.get((a, b))
        if union is None:
            here, there = ({g.trie.root: g for g in grants if g.inspected} for grants in (a, b))
            self.work.spend(1 + len({**here, **there}))
            union = self._unions[a, b] = Union(
                closure(root for root in here if root in there),
                self.work,
                closure(root for root in here if root not in there),
                closure(root for root in there if root not in here),
            )
        return union

    # -- refiners: where something that `before` permits is carved out again ----------------------------------

    def _refiners(self, reasons: dict[_Reason, None], cubes: tuple[Cube, ...]) -> Iterator[Cube]:
        first = cubes[0]
        denied = any(cube.source == "deny" for cube in cubes)
        shadowed = denied or any(cube.source == "shadow" for cube in cubes)
        grants = self.hosts_b.at(first.host, first.port) if reasons else []
        if "raw" in reasons and not shadowed:
            for grant in grants:
                if grant.inspected:
                    cube = Cube("shadow", None, grant.host, first.port, first.raw)
                    yield from self._with_binary(grant, cubes, cube)
        if "allow" in reasons and not denied:
            for grant in grants:
                yield from self._deny_refiners(grant, cubes)
        audits = [r for r in reasons if isinstance(r, Inspection)]
        yield from self._scope_refiners(audits, grants, cubes)
        if (audits or "allow" in reasons) and not any(cube.source == "protocol" for cube in cubes):
            yield from self._protocol_refiners(grants, cubes)

    def _protocol_refiners(self, grants: Sequence[Grant], cubes: tuple[Cube, ...]) -> Iterator[Cube]:
        """Endpoints that may take requests over from those that permit them, because they speak another protocol. The
        most specific one at a request is enough: no other is needed with it."""
        inspections = [(grant, i) for grant in grants for i in grant.inspections]
        self.work.spend(1 + len(inspections) // 8)
        if len({(i.protocol, i.graphql) for _, i in inspections}) < 2 and not self._registering(inspections):
            return
        done: set[object] = set()
        for grant, i in inspections:
            if (grant, i.contract) not in done:
                done.add((grant, i.contract))
                yield from self._with_binary(grant, cubes, self._claim(grant, i, cubes[0]))

    @staticmethod
    def _registering(inspections: Sequence[tuple[Grant, Inspection]]) -> bool:
        return any(i.registered for _, i in inspections)

    @staticmethod
    def _claim(grant: Grant, inspection: Inspection, first: Cube) -> Cube:
        patterns = _patterns(inspection.tokens)
        return Cube("protocol", None, grant.host, first.port, first.raw, patterns=patterns, inspection=inspection)

    def _deny_refiners(self, grant: Grant, cubes: tuple[Cube, ...]) -> Iterator[Cube]:
        # A deny that `after` has too cannot help (its points are denied there as well), except below an endpoint of
        # `after` in audit mode, which forwards what is denied.
        trie = self._deny_trie(grant, every=cubes[0].source == "audit")
        if trie is None:
            return
        pattern = cubes[0].patterns[0] if cubes[0].patterns else _EVERY_PATH
        for record, tokens in overlaps(trie.root, pattern, self.work):
            self.work.spend(1 + len(cubes))
            if meet_methods([*(cube.method for cube in cubes), record.method], "?") is not None:
                patterns = _patterns(tokens, record.inspection.tokens)
                cube = Cube(
                    "deny", None, grant.host, cubes[0].port, cubes[0].raw, record.method, patterns, record.query, record
                )
                yield from self._with_binary(grant, cubes, cube)

    def _scope_refiners(
        self, audits: Sequence[Inspection], grants: Sequence[Grant], cubes: tuple[Cube, ...]
    ) -> Iterator[Cube]:
        if not audits:
            return
        floor = min(inspection.specificity for inspection in audits)
        done = {cube.inspection.scope for cube in cubes if cube.source == "scope" and cube.inspection is not None}
        for grant in grants:
            self.work.spend(len(grant.inspections))
            for inspection in grant.inspections:
                if not inspection.audit and inspection.specificity > floor and inspection.scope not in done:
                    cube = Cube(
                        "scope",
                        None,
                        grant.host,
                        cubes[0].port,
                        cubes[0].raw,
                        patterns=(inspection.tokens,),
                        inspection=inspection,
                    )
                    yield from self._with_binary(grant, cubes, cube)

    def _with_binary(
        self, grant: Grant, cubes: tuple[Cube, ...], cube: Cube, index: GrantIndex | None = None
    ) -> Iterator[Cube]:
        """The refiner for chains that already match the grant, and with one more member where some do not."""
        self.work.spend(1 + len(grant.binaries) // 4)
        hit = [
            any(not self._look_up(index or self.b, name).isdisjoint(grant.binaries) for name in chain)
            for chain in self._chains(cubes)
        ]
        if any(hit):
            yield cube
        if all(hit):
            return
        done: set[object] = set()
        for binary in grant.binaries:
            for name in self.reps.binaries((binary,)):
                reach = self._reach(name, cube.host, cube.port)
                if reach not in done:
                    done.add(reach)
                    yield dataclasses.replace(cube, binary=binary)

    def _deny_trie(self, grant: Grant, *, every: bool) -> Trie[tuple[Record, Tokens]] | None:
        records = grant.denies if every else self._lost_denies.get(id(grant))
        if not records:
            return None
        key = (id(grant), every)
        trie = self._deny_tries.get(key)
        if trie is None:
            self.work.spend(4 * len(records))
            trie = self._deny_tries[key] = Trie()
            for record in records:
                for tokens in record.variants():
                    trie.add(tokens, (record, tokens))
        return trie

    def _reach(self, binary: str, host: str, port: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Which grants of either policy one executable shares with a host pattern."""
        a, b = self._look_up(self.a, binary), self._look_up(self.b, binary)
        here, there = self.hosts_a.at(host, port), self.hosts_b.at(host, port)
        self.work.spend((len(here) + len(there)) // 2)
        return (
            tuple(id(g) for g in here if not a.isdisjoint(g.binaries)),
            tuple(id(g) for g in there if not b.isdisjoint(g.binaries)),
        )

    # -- left cubes ------------------------------------------------------------------------------------------

    def groups(self, grant: Grant) -> list[tuple[str, tuple[str, ...]]]:
        """Binaries of a grant by what they can reach: (one that stands for the group, the group)."""
        key = ("groups", grant)
        found = self.work.memo.get(key)
        if found is None:
            found = self.work.memo[key] = self._grouped(grant)
        return cast(list[tuple[str, tuple[str, ...]]], found)

    def _grouped(self, grant: Grant) -> list[tuple[str, tuple[str, ...]]]:
        groups: dict[object, list[str]] = {}
        for binary in grant.binaries:
            key: object = binary if "*" in binary else self._reach(binary, grant.host, grant.port)
            groups.setdefault(key, []).append(binary)
        return [(names[0], tuple(names)) for names in groups.values()]

    def cubes(self, *, skip_common: bool = True) -> Iterator[Cube]:
        """What `after` grants, without what `before` evidently grants too (`skip_common` only saves time)."""
        for grant in self.a.ordered:
            yield from self.cubes_of(grant, skip_common=skip_common)

    def cubes_of(self, grant: Grant, *, skip_common: bool = True) -> Iterator[Cube]:
        """The cubes of one grant of `after`. Raises UndecidedError."""
        self._compare_denies()
        denies_common = not self._lost_denies and id(grant) not in self._claimed()
        twin = self.b.grants.get(grant.place) if skip_common else None
        same = twin is grant and denies_common and self._shadows_common
        if same and not any(i.audit for i in grant.inspections):
            return
        self.work.spend(1 + len(grant.allows) + (len(twin.allows) if twin is not None else 0))
        known = {r.sig for r in twin.allows} if twin is not None and denies_common else set()
        raw_known = twin is not None and twin.raw and self._shadows_common
        allows = [record for record in grant.allows if record.sig not in known]
        audits = [inspection for inspection in grant.inspections if inspection.audit]
        raw = grant.raw and not raw_known
        known_queries = [(i, *pair) for i in grant.inspections for pair in persisted(i)]
        if not (allows or audits or raw or known_queries):
            return
        for binary, binaries in self.groups(grant):
            place = (binary, grant.host, grant.port)
            if raw:
                yield Cube("raw", *place, True, binaries=binaries)
            for i in audits:
                for token in audited(i, graphql=self._graphql):
                    yield Cube("audit", *place, False, token, _patterns(i.tokens), inspection=i, binaries=binaries)
            for r in allows:
                patterns = _patterns(r.tokens, r.inspection.tokens)
                for token in tokens_of(r, graphql=self._graphql):
                    yield Cube("allow", *place, False, token, patterns, r.query, r, r.inspection, binaries)
            for i, token, name in known_queries:
                patterns = _patterns(i.tokens)
                yield Cube("allow", *place, False, token, patterns, inspection=i, binaries=binaries, carried=name)

    def starts(self, cube: Cube) -> Iterator[tuple[Cube, ...]]:
        """The cube, and the cube where a more specific endpoint of `after` keeps what another protocol would take over
        (which endpoint decides is told by the most specific one, so a generic instance need not show it)."""
        yield (cube,)
        if cube.raw or cube.inspection is None:
            return
        grants = self.hosts_a.at(cube.host, cube.port)
        inspections = [(grant, i) for grant in grants for i in grant.inspections]
        self.work.spend(1 + len(inspections) // 8)
        if len({(i.protocol, i.graphql) for _, i in inspections}) < 2 and not self._registering(inspections):
            return
        mine = cube.inspection
        for grant, i in inspections:
            if i is not mine and i.protocol == mine.protocol and (not i.trivial or i.registered):
                for claim in self._with_binary(grant, (cube,), self._claim(grant, i, cube), self.a):
                    yield (cube, dataclasses.replace(claim, source="claim"))

    def _claimed(self) -> set[int]:
        """Grants of `after` (by id) on whose connections protocols, or what is registered, were redistributed."""
        if self._redistributed is None:
            self._redistributed = set()
            for place in dict.fromkeys((*self.a.grants, *self.b.grants)):
                one, two = self.a.grants.get(place), self.b.grants.get(place)
                if one is two or _contracts(one) == _contracts(two):
                    continue
                _, host, port = place
                here, there = self.hosts_a.at(host, port), self.hosts_b.at(host, port)
                self.work.spend(1 + len(here) + len(there))
                found = [i for grant in (*here, *there) for i in grant.inspections]
                if len({(i.protocol, i.graphql) for i in found}) > 1 or any(i.registered for i in found):
                    self._redistributed.update(map(id, here))
        return self._redistributed

    def findings(self, *, first_only: bool = False, per_cube: int = 1, skip_common: bool = True) -> list[Finding]:
        """Up to `per_cube` confirmed witnesses for every cube that permits something new. Raises UndecidedError."""
        out: list[Finding] = []
        for cube in self.cubes(skip_common=skip_common):
            every = itertools.chain.from_iterable(map(self.check, self.starts(cube)))
            for finding in itertools.islice(every, per_cube):
                finding.witness, finding.verified = confirm(self.after, self.before, finding.witness, self.work)
                out.append(finding)
                if first_only:
                    return out
        return out
