from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyopenshell.policy import policy_hash
from pyopenshell.policy.canonical import rule_hash
from pyopenshell.policy.model import Endpoint, FilesystemPolicy, L7Match, Policy, QueryMatcher, Rule
from tests.policy.strategies import policies


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same policy with every tuple in another order, pairs and enclosing keys kept."""
    if isinstance(value, tuple):
        if len(value) == 2 and isinstance(value[0], str) and dataclasses.is_dataclass(value[1]):
            return (value[0], shuffled(value[1], rng))
        items = [shuffled(item, rng) for item in value]
        rng.shuffle(items)
        return tuple(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: shuffled(getattr(value, field.name), rng) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return value


@settings(deadline=None)
@given(policies(), st.randoms(use_true_random=False))
def test_hash_does_not_depend_on_order(policy: Policy, rng: random.Random) -> None:
    assert policy_hash(shuffled(policy, rng)) == policy_hash(policy)


def test_hash_is_lower_case_hex_and_stable() -> None:
    assert policy_hash(Policy()) == policy_hash(Policy())
    assert len(policy_hash(Policy())) == 64
    assert set(policy_hash(Policy())) <= set("0123456789abcdef")


BASE = Endpoint(
    "a.b",
    (443,),
    protocol="rest",
    rules=(L7Match("GET", "/a", (("q", QueryMatcher(("1",))),)),),
    allowed_ips=("10.0.0.1",),
)


@pytest.mark.parametrize(
    "change",
    [
        {"host": "a.c"},
        {"ports": (80, 443)},
        {"path": "/a"},
        {"enforcement": "audit"},
        {"rules": (L7Match("GET", "/a", (("q", QueryMatcher(("2",))),)),)},
        {"rules": (L7Match("GET", "/a"),)},
        {"deny_rules": (L7Match("GET", "/a"),)},
        {"allowed_ips": ()},
        {"advisor_proposed": True},
        {"provider_credentialed": True},
        {"path_case": "insensitive"},
        {"allow_encoded_slash": True},
    ],
)
def test_hash_sees_every_field(change: dict[str, Any]) -> None:
    def policy(endpoint: Endpoint) -> Policy:
        return Policy(rules=(Rule("r", (endpoint,), ("/x",)),))

    assert policy_hash(policy(dataclasses.replace(BASE, **change))) != policy_hash(policy(BASE))


def test_absent_and_empty_sections_differ() -> None:
    assert policy_hash(Policy(filesystem=FilesystemPolicy())) != policy_hash(Policy())


def test_a_name_that_repeats_the_key_says_nothing() -> None:
    rule = Rule("r", (BASE,), ("/x",))
    assert rule_hash(rule) == rule_hash(dataclasses.replace(rule, name="r"))
    assert rule_hash(rule) != rule_hash(dataclasses.replace(rule, name="other"))


def test_one_changed_rule_changes_the_hash_of_the_policy() -> None:
    rules = tuple(Rule(f"r{n}", (BASE,), ("/x",)) for n in range(3))
    policy = Policy(rules=rules)
    changed = dataclasses.replace(rules[1], endpoints=(dataclasses.replace(BASE, host="b.b"),))
    assert policy_hash(Policy(rules=(rules[0], changed, rules[2]))) != policy_hash(policy)
    assert policy_hash(Policy(rules=rules[:2])) != policy_hash(policy)
    assert rule_hash(dataclasses.replace(rules[0])) == rule_hash(rules[0])
