"""The budget: every comparison ends, says so when it could not finish, and counts the same everywhere."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.globs import Glob, path_pattern
from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.proof.atoms import explore, least, minimal
from pyopenshell.proof.delta import Delta, delta, delta_of
from pyopenshell.proof.findings import NO_FINDINGS, Finding, findings, render, validation_result
from pyopenshell.proof.work import STEPS, Shared, UndecidedError, Work
from tests.cost import cost
from tests.policy.generate import large
from tests.proof.hostile import HOSTILE, double_stars, mixed

DECIDED = {"double_stars", "classes", "denies", "binaries", "addresses"}
"""Hard, but not too hard."""


def compiled(name: str) -> tuple[Engine, Engine]:
    before, after = HOSTILE[name]()
    return compile(before), compile(after)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_policies_are_answered_within_the_budget(name: str) -> None:
    before, after = compiled(name)

    def judge() -> tuple[Delta, tuple[Finding, ...]]:
        made = delta_of(before, after)
        return made, findings(before, made, ["**.example.com"])

    (change, found), units = cost(judge)
    assert units < 200, "0.25 s where a unit is 4 ms, and room"
    assert change.proven == (name in DECIDED)
    assert all(region.text.isprintable() and region.ports and region.binaries for region in change.regions)
    if not change.proven:
        assert any(finding.category == "not_proven" for finding in found)
        assert any("not proven" in region.text for region in change.regions)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("steps", [0, 1, 100, 5_000, 60_000])
def test_no_budget_makes_it_raise_or_be_silent(name: str, steps: int) -> None:
    before, after = compiled(name)
    change = delta_of(before, after, steps)
    found = findings(before, change)
    if not change.proven:
        assert not change.empty
        assert render(found) != NO_FINDINGS
        assert any(finding.category == "not_proven" for finding in found)


def test_what_is_proven_with_little_work_is_proven_with_more() -> None:
    """A proof is never an artefact of where the work ended."""
    before, after = compiled("mixed")
    whole = delta_of(before, after, 10 * STEPS)
    assert whole.proven
    known = {(region.host, region.ports, region.methods, region.path) for region in whole.regions}
    part = delta_of(before, after)
    assert not part.proven
    assert {(r.host, r.ports, r.methods, r.path) for r in part.regions if r.proven} <= known


def test_findings_share_the_budget() -> None:
    before, after = compiled("binaries")
    change = delta_of(before, after)
    assert change.proven
    starved = Delta(change.regions, change.proven, left=50)
    assert any("could not be looked at" in str(finding) for finding in findings(before, starved, ["**.example.com"]))


def summary(change: Delta) -> object:
    return change.left, change.proven, [region.text for region in change.regions]


@pytest.mark.parametrize("name", ["mixed", "classes", "binaries", "many_grants"])
def test_the_count_does_not_depend_on_what_was_asked_before(name: str) -> None:
    before, after = compiled(name)
    cold = delta_of(before, after)
    assert summary(delta_of(before, after)) == summary(cold)
    other_before, other_after = compiled(name)
    assert summary(delta_of(other_before, other_after)) == summary(cold)


_SCRIPT = """
import json, sys
from tests.proof.hostile import HOSTILE
from pyopenshell.proof.delta import delta
out = []
for name in ("classes", "mixed", "denies", "queries"):
    change = delta(*HOSTILE[name]())
    out.append([change.left, [region.text for region in change.regions]])
print(json.dumps(out))
"""


def test_the_count_does_not_depend_on_hash_order() -> None:
    answers = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(["src", "."])},
            capture_output=True,
            check=True,
            text=True,
        )
        answers.append(json.loads(done.stdout))
    assert answers[0] == answers[1]


def test_an_ordinary_proposal_needs_a_fraction() -> None:
    wanted = Rule(
        "p", (Endpoint("api0.example.com", (443,), protocol="rest", rules=(L7Match("PUT", "/x/**"),)),), ("/b",)
    )
    for dense in (False, True):
        before = large(1000, dense=dense)
        change = delta(before, Policy(rules=(*before.rules, wanted)))
        assert change.proven
        assert STEPS - change.left < STEPS / 10


def test_small_hard_policies_are_decided() -> None:
    for pair in (double_stars(30), mixed(10)):
        assert delta(*pair).proven


def test_intersections_of_long_globs_are_not_lost() -> None:
    """Two globs whose meeting words are long: what they permit together is permitted."""
    before = Policy()
    scope, path = f"/{'a' * 150}*", f"/*{'b' * 150}"
    endpoint = Endpoint("a.example.com", (443,), path=scope, protocol="rest", rules=(L7Match("GET", path),))
    change = delta(before, Policy(rules=(Rule("r", (endpoint,), ("/b",)),)))
    assert change.proven
    assert len(change.regions) == 1
    assert validation_result(before, Policy(), ["a.example.com"]) == NO_FINDINGS


def test_a_failed_search_fails_for_every_reader() -> None:
    def search() -> Iterator[int]:
        yield 1
        raise UndecidedError("enough")

    shared = Shared(search)
    for _ in range(2):
        seen: list[int] = []
        with pytest.raises(UndecidedError):
            seen.extend(shared)
        assert list(itertools.islice(shared, 1)) == [1]


def test_steps_kept_for_later_are_there_later() -> None:
    work = Work(100)
    with work.keeping(40), pytest.raises(UndecidedError):
        work.spend(61)
    assert work.left == 39
    work.spend(39)
    with pytest.raises(UndecidedError):
        work.spend()


@pytest.mark.parametrize("seed", range(40))
def test_dominated_strings_may_be_left_out(seed: int) -> None:
    """`least` finds the same minimal signatures as the complete exploration."""
    texts = ["[ab]*", "*b", "?[bc]", "a?*", "*[!a]", "[a-c][!b]", "*"]
    chosen = [texts[(seed * k + k) % len(texts)] for k in (1, 2, 3)]
    values = dict.fromkeys(path_pattern("/" + text)[1][0][1] for text in chosen)
    globs = tuple(glob for glob in values if isinstance(glob, Glob))
    required = seed % 2
    literals = frozenset(["ab", "cb"][: seed % 3])
    complete = explore(globs, required=required, literals=literals, work=Work())
    signatures = {word: signature for signature, word in complete}
    wanted = minimal([(s, w) for s, w in complete if w], Work())
    got = least(globs, required, Work(), literals=literals)
    assert len(got) == len(wanted)
    for word in wanted:
        assert word in got or any({g for g in globs if g.match(other)} == signatures[word].globs for other in got)
