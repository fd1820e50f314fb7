from __future__ import annotations

import pytest

from pyopenshell.policy import Endpoint, Policy, Rule, validate
from pyopenshell.policy.compose import base, effective, layer_key

OWN = Rule("own", (Endpoint("a.b", (443,)),), ("/x",))
LAYER = Rule("ignored", (Endpoint("c.d", (443,)),), ("/y",), name="ignored")


def test_a_global_policy_replaces_everything() -> None:
    everywhere = Policy(rules=(Rule("g", OWN.endpoints, ("/g",)),))
    assert effective(everywhere, Policy(rules=(OWN,)), {"github": LAYER}) == everywhere


def test_provider_layers_come_on_top_under_reserved_keys() -> None:
    found = effective(None, Policy(rules=(OWN,)), {"My-Hub": LAYER})
    assert [rule.key for rule in found.rules] == ["own", "_provider_my_hub"]
    assert found.rules[1].endpoints == LAYER.endpoints
    assert validate(found, provider_layers=True) == []
    assert base(found) == Policy(rules=(OWN,))


def test_nothing_at_all_allows_nothing() -> None:
    assert effective(None, None, {}) == Policy()


def test_attack_g11_a_written_provider_rule_is_not_enforced() -> None:
    forged = Rule("_provider_hub", OWN.endpoints, ("/**",))
    assert effective(None, Policy(rules=(OWN, forged)), {}).rules == (OWN,)
    assert effective(Policy(rules=(forged,)), None, {}).rules == ()
    assert effective(None, Policy(rules=(forged,)), {"hub": LAYER}).rules[0].endpoints == LAYER.endpoints


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("github", "_provider_github"),
        ("--A b!", "_provider_a_b"),
        ("", "_provider_unnamed"),
        ("ü", "_provider_unnamed"),
    ],
)
def test_layer_keys(name: str, key: str) -> None:
    assert layer_key(name, set()) == key
    assert layer_key(name, {key, key + "_2"}) == key + "_3"


def test_colliding_names_keep_both_layers() -> None:
    keys = [rule.key for rule in effective(None, None, {"a-b": LAYER, "a_b": LAYER}).rules]
    assert keys == ["_provider_a_b", "_provider_a_b_2"]
