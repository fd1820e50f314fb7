"""The exact difference against exhaustive enumeration with the definition, and its laws."""

from __future__ import annotations

import functools
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopenshell.policy import operations
from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.globs import FRESH, path_pattern
from pyopenshell.policy.model import Policy
from pyopenshell.policy.operations import GraphqlRequest, RpcCall
from pyopenshell.policy.tries import Trie, closure
from pyopenshell.proof import diff as diff_module
from pyopenshell.proof.diff import Diff
from pyopenshell.proof.requests import Request
from pyopenshell.proof.words import State, overlaps, walk
from pyopenshell.proof.work import Work
from tests.deep import balanced, campaign
from tests.policy.generate import Style, mutate, small
from tests.policy.reference import SESSION, TEXT, UPGRADE, Call, Graphql, Point, What, path_regex, permits
from tests.policy.test_globs import path, pattern
from tests.proof.oracle import Universe

STYLES = {"plain": Style(), "classes": Style(classes=0.3), "extras": Style(classes=0.15, extras=True)}
STYLES["sorts"] = Style(scoped=0.45, raw=0.05, query=0.1, sorts=0.75)
STYLES["sorts and extras"] = Style(classes=0.15, scoped=0.3, sorts=0.5, extras=True)
SET = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@functools.cache
def universe(name: str) -> Universe:
    return Universe(2 if "sorts" in name else 3, slash="extras" in name)


def pair(seed: int, name: str) -> tuple[Policy, Policy]:
    rng = random.Random(seed)
    policy = small(rng, rng.choice([1, 2, 3]), STYLES[name])
    other = mutate(rng, policy, STYLES[name]) if rng.random() < 0.7 else small(rng, 2, STYLES[name])
    return policy, other


def as_point(request: Request) -> Point:
    method: str | None = request.method or None
    what: What = None
    operation = request.operation
    query = tuple(pair for pair in request.query if not pair[0].startswith(operations.KEY))
    if " " in request.method:
        method = operations.carrier(request.method)
        what = {operations.UPGRADE: UPGRADE, operations.MESSAGE: TEXT}.get(request.method, SESSION)
    if isinstance(operation, GraphqlRequest):
        what = Graphql(operation.operation_type, operation.operation_name, operation.fields, operation.id)
    if isinstance(operation, RpcCall):
        what = Call(operation.method, operation.params)
    return Point(request.chain, request.host, request.port, method, request.path, query, what)


def contained(after: Engine, before: Engine) -> bool:
    return not Diff(after, before).findings(first_only=True)


def agrees(seed: int, name: str) -> bool:
    """Is the second policy within the first? As the proof says, once it is confirmed."""
    after, before = pair(seed, name)
    engine = compile(after)
    found = Diff(engine, compile(before, reuse=engine)).findings(first_only=True)
    if not found:
        assert universe(name).newly_permitted(after, before) is None
        return True
    assert found[0].verified
    request = found[0].witness
    point = as_point(request)
    assert permits(after, point)
    assert not permits(before, point)
    return False


@pytest.mark.parametrize("name", STYLES)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9))
def test_difference_is_what_enumeration_finds(name: str, seed: int) -> None:
    agrees(seed, name)


def counted(name: str, seed: int) -> Counter[str]:
    return Counter(pairs=1, wider=not agrees(seed, name))


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", STYLES)
def test_difference_is_what_enumeration_finds_often(name: str) -> None:
    balanced(campaign(f"diff-{name}", functools.partial(counted, name), 3000), "wider", "pairs")


@SET
@given(st.integers(0, 10**9))
def test_reflexive_and_transitive(seed: int) -> None:
    rng = random.Random(seed)
    policies = [small(rng, 2, STYLES["extras"]) for _ in range(3)]
    a, b, c = map(compile, policies)
    assert not Diff(a, compile(policies[0])).findings(first_only=True, skip_common=False)
    if contained(a, b) and contained(b, c):
        assert contained(a, c)


@SET
@given(st.integers(0, 10**9), st.sampled_from(list(STYLES)))
def test_skipping_what_is_common_only_saves_time(seed: int, name: str) -> None:
    after, before = pair(seed, name)
    engine = compile(after)
    quick = Diff(engine, compile(before, reuse=engine)).findings(first_only=True)
    slow = Diff(engine, compile(before)).findings(first_only=True, skip_common=False)
    assert bool(quick) == bool(slow)


def _matched(tokens: list[str], patterns: list[str]) -> list[tuple[set[str], str]]:
    trie: Trie[str] = Trie()
    for text in patterns:
        trie.add(path_pattern(text)[1], text)
    lefts = [path_pattern(text)[1] for text in tokens]
    return [(set(s.found), "/" + "/".join(w)) for w, s in walk(lefts, closure([trie.root]), Work())]


@SET
@given(st.lists(pattern, min_size=1, max_size=2), st.lists(pattern, max_size=5), path)
def test_generic_words_match_least(lefts: list[str], rights: list[str], candidate: str) -> None:
    words = _matched(lefts, rights)
    for _, word in words:
        assert all(path_regex(text).match(word.replace(FRESH, "z")) for text in lefts)
    if all(path_regex(text).match(candidate) for text in lefts):
        matched = {text for text in rights if path_regex(text).match(candidate)}
        assert any(least <= matched for least, _ in words)


@SET
@given(pattern, st.lists(pattern, min_size=1, max_size=5))
def test_overlaps(left: str, patterns: list[str]) -> None:
    trie: Trie[str] = Trie()
    for text in patterns:
        trie.add(path_pattern(text)[1], text)
    found = set(overlaps(trie.root, path_pattern(left)[1], Work()))
    assert found == {text for text in patterns if _matched([left, text], [])}


def _first_disagreement(count: int) -> int | None:
    for seed in range(count):
        after, before = pair(seed, "plain")
        try:
            found = Diff(compile(after), compile(before)).findings(first_only=True)
        except Exception:  # noqa: BLE001 - a crash is a caught mutant, too
            return seed
        if found and not found[0].verified:
            return seed
        if bool(found) != (universe("plain").newly_permitted(after, before) is not None):
            return seed
    return None


def _no_refiners(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Diff, "_refiners", lambda self, reasons, cubes: iter(()))


def _head_is_not_get(patch: pytest.MonkeyPatch) -> None:
    def meet(methods: list[str], fresh: str) -> str | None:
        named = {method for method in methods if method != "*"}
        return fresh if not named else named.pop() if len(named) == 1 else None

    patch.setattr(diff_module, "meet_methods", meet)


def _no_queries(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(diff_module, "solve", lambda *conditions: None)


def _single_chains(patch: pytest.MonkeyPatch) -> None:
    def chains(self: Diff, cubes: list[diff_module.Cube]) -> list[tuple[str, ...]]:
        return sorted({(name,) for name in self.reps.binaries((cubes[0].binary or "",))})

    patch.setattr(Diff, "_chains", chains)


def _sides_mixed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(State, "of", lambda self, side: self.found)


@pytest.mark.deep
@pytest.mark.parametrize("mutant", [_no_refiners, _head_is_not_get, _no_queries, _single_chains, _sides_mixed])
def test_seeded_bugs_are_found(mutant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(mutant)
    mutant(monkeypatch)
    assert _first_disagreement(300) is not None
