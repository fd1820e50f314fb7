from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopenshell.policy.model import Endpoint, L7Match, Policy, Rule
from pyopenshell.proof.lint import CODES, lint
from tests.policy.generate import Style, large, small
from tests.policy.reference import permits
from tests.policy.test_engine import _point

GET = L7Match("GET", "/repos/**")
CURL = ("/usr/bin/curl",)


def rest(*rules: L7Match, deny: tuple[L7Match, ...] = (), path: str = "") -> Endpoint:
    return Endpoint("a.test", (443,), protocol="rest", rules=rules, deny_rules=deny, path=path)


def codes(*rules: Rule) -> list[tuple[str, tuple[str | int, ...]]]:
    return [(one.code, one.where[1:]) for one in lint(Policy(rules=rules))]


def test_nothing_to_say() -> None:
    deny = (L7Match("*", "/repos/secret/**"),)
    assert codes(Rule("a", (rest(GET, L7Match("PUT", "/x"), deny=deny),), CURL)) == []


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (rest(GET, L7Match("GET", "/repos/acme/*")), ("redundant_allow", ("a", "endpoints", 0, "rules", 1, "allow"))),
        (rest(GET, GET), ("redundant_allow", ("a", "endpoints", 0, "rules", 1, "allow"))),
        (rest(GET, L7Match("HEAD", "/repos/x")), ("redundant_allow", ("a", "endpoints", 0, "rules", 1, "allow"))),
        (
            rest(GET, L7Match("PUT", "/s/x"), deny=(L7Match("*", "/s/**"), L7Match("GET", "/repos/z"))),
            ("dead_allow", ("a", "endpoints", 0, "rules", 1, "allow")),
        ),
        (rest(GET, deny=(L7Match("PUT", "/repos/**"),)), ("dead_deny", ("a", "endpoints", 0, "deny_rules", 0))),
    ],
)
def test_matchers(endpoint: Endpoint, expected: tuple[str, tuple[str | int, ...]]) -> None:
    assert expected in codes(Rule("a", (endpoint,), CURL))


def test_a_raw_endpoint_beside_an_inspected_one() -> None:
    rules = (Rule("a", (rest(GET),), CURL), Rule("b", (Endpoint("a.test", (443,)),), CURL))
    assert codes(*rules) == [("shadowed_raw", ("b",))]
    both = Rule("b", (Endpoint("a.test", (443,)), Endpoint("b.test", (443,))), CURL)
    assert codes(rules[0], both) == [("shadowed_raw", ("b", "endpoints", 0))]


def test_of_two_equal_rules_the_later_is_found() -> None:
    assert codes(Rule("a", (rest(GET),), CURL), Rule("b", (rest(GET),), CURL)) == [("redundant_rule", ("b",))]
    wider = Rule("b", (rest(GET),), ("/usr/bin/*",))
    assert codes(Rule("a", (rest(GET),), CURL), wider) == [("redundant_rule", ("a",))]


def test_what_an_endpoint_does_beside_permitting_is_not_redundant() -> None:
    signed = dataclasses.replace(rest(GET), credential_signing="sigv4", signing_service="s3")
    found = {code for code, _ in codes(Rule("a", (signed,), CURL), Rule("b", (signed,), CURL))}
    assert not found & {"redundant_rule", "redundant_endpoint"}


def test_contradictions_and_sizes() -> None:
    audit = dataclasses.replace(rest(GET), enforcement="audit")
    assert "ambiguous" in {code for code, _ in codes(Rule("a", (rest(GET),), CURL), Rule("b", (audit,), CURL))}
    assert [one.code for one in lint(large(2000))] == ["not_compared"]


def _without(policy: Policy, where: tuple[str | int, ...]) -> Policy:
    """The policy without the part at `where`."""
    rule = next(r for r in policy.rules if r.key == where[1])
    if len(where) == 2:
        return Policy(rules=tuple(r for r in policy.rules if r is not rule))
    index = where[3]
    assert isinstance(index, int)
    endpoint = rule.endpoints[index]
    if len(where) == 4:
        left = (*rule.endpoints[:index], *rule.endpoints[index + 1 :])
    else:
        field, number = str(where[4]), where[5]
        assert isinstance(number, int)
        matches = getattr(endpoint, field)
        rest_of = (*matches[:number], *matches[number + 1 :])
        changed = (
            dataclasses.replace(endpoint, rules=rest_of)
            if field == "rules"
            else dataclasses.replace(endpoint, deny_rules=rest_of)
        )
        left = (*rule.endpoints[:index], changed, *rule.endpoints[index + 1 :])
    return Policy(rules=tuple(dataclasses.replace(r, endpoints=left) if r is rule else r for r in policy.rules))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9))
def test_taking_out_what_is_found_changes_no_decision(seed: int) -> None:
    rng = random.Random(seed)
    policy = small(rng, 3, Style(audit=0.05))
    left = policy
    for one in reversed(lint(policy)):
        assert one.code in CODES
        if one.code not in ("ambiguous", "not_compared"):
            left = _without(left, one.where)
    for _ in range(60):
        point = _point(rng)
        assert permits(policy, point) == permits(left, point), point
