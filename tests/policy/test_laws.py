"""Laws that hold for every policy and request; the deep ones run for millions of samples in `make test-deep`."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopenshell.policy.compose import effective
from pyopenshell.policy.decision import Connection
from pyopenshell.policy.engine import compile
from pyopenshell.policy.globs import path_pattern
from pyopenshell.policy.model import Policy
from pyopenshell.policy.paths import canonicalise
from pyopenshell.policy.tries import matches
from tests.policy.generate import CLASSES, PARTIAL, Style, small
from tests.policy.reference import path_regex, permits
from tests.policy.test_engine import _ask, _point

SOME = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
RAW_PIECES = (
    "a",
    "b",
    "ab",
    "",
    ".",
    "..",
    "%2e",
    "%2E%2e",
    "..;x",
    "a;b",
    "%61",
    "A",
    "%2f",
    "a%2Fb",
    "%25",
    " ",
    "%C3",
)


def target_of(rng: random.Random) -> str:
    """A request target as a hostile client would spell it."""
    text = "/" + "/".join(rng.choice(RAW_PIECES) for _ in range(rng.choice([0, 1, 2, 3, 4])))
    return text + rng.choice(["", "", "?k=x", "?k=x&k=q", "?"])


def reach_is_not_lengthened(seed: int) -> None:
    """What is forwarded is judged exactly as what was sent, and so is what it canonicalises to again."""
    rng = random.Random(seed)
    engine = compile(small(rng, 3, Style(classes=0.2, extras=True)))
    for _ in range(10):
        point = _point(rng)
        connection = Connection(point.host, point.port, point.chain[0], point.chain[1:])
        target = target_of(rng)
        sent = engine.decide(connection, "GET", target)
        if not sent.allowed or not engine.connect(connection).inspected:
            continue
        again = engine.decide(connection, "GET", sent.target)
        assert (again.allowed, again.target, again.path) == (True, sent.target, sent.path)
        assert len(sent.target) <= 3 * len(target)
        for slash in (False, True):
            try:
                canonical = canonicalise(target, allow_encoded_slash=slash)
            except ValueError:
                continue
            assert canonical.target == sent.target


@SOME
@given(st.integers(0, 10**9))
def test_canonicalisation_never_lengthens_reach(seed: int) -> None:
    reach_is_not_lengthened(seed)


def grouping_changes_nothing(seed: int) -> None:
    """The same rules as one policy, or spread over provider layers in any way, decide alike."""
    rng = random.Random(seed)
    rules = small(rng, 5, Style(classes=0.1, extras=True)).rules
    whole = Policy(rules=rules)
    mine = tuple(rule for rule in rules if rng.random() < 0.5)
    layers = {f"p{rng.randrange(99)}-{i}": rule for i, rule in enumerate(rules) if rule not in mine}
    spread = effective(None, Policy(rules=tuple(rng.sample(mine, len(mine)))), layers)
    one, other = compile(whole), compile(spread)
    nested = compile(effective(effective(None, whole, {}), None, {}))
    for _ in range(10):
        point = _point(rng)
        assert _ask(one, point) == _ask(other, point) == _ask(nested, point)


@SOME
@given(st.integers(0, 10**9))
def test_composing_in_any_grouping_decides_alike(seed: int) -> None:
    grouping_changes_nothing(seed)


def engine_is_the_definition(rng: random.Random, points: int) -> None:
    style = Style(classes=rng.choice([0, 0.3]), extras=rng.random() < 0.7)
    policy = small(rng, rng.choice([1, 2, 3, 4]), style)
    engine = compile(policy)
    for _ in range(points):
        point = _point(rng)
        assert _ask(engine, point) == permits(policy, point), (policy, point)


def glob_is_the_definition(rng: random.Random) -> None:
    pieces = ("a", "b", "*", "*", "**", *PARTIAL, *CLASSES)
    pattern = "/" + "/".join(rng.choice(pieces) for _ in range(rng.choice([1, 2, 3, 4]))) + rng.choice(["", "", "/"])
    tokens = path_pattern(pattern)[1]
    for _ in range(20):
        word = [rng.choice(["a", "b", "ab", "qb", "A", "aa"]) for _ in range(rng.choice([0, 1, 2, 3, 4]))]
        path = "/" + "/".join(word) + ("/" if word and rng.random() < 0.3 else "")
        assert matches(tokens, path[1:].split("/")) == bool(path_regex(pattern).match(path)), (pattern, path)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_engine_is_the_definition_a_million_times() -> None:
    rng = random.Random(20)
    for _ in range(20_000):
        engine_is_the_definition(rng, 50)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_globs_are_the_definition_a_million_times() -> None:
    rng = random.Random(21)
    for _ in range(50_000):
        glob_is_the_definition(rng)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_laws_often() -> None:
    for seed in range(20_000):
        reach_is_not_lengthened(seed)
        grouping_changes_nothing(seed)


@SOME
@given(st.integers(0, 10**9))
def test_globs_are_the_definition(seed: int) -> None:
    glob_is_the_definition(random.Random(seed))
