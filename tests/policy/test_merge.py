from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pyopenshell.policy import Connection, Endpoint, L7Match, Policy, Rule, merge, validate
from pyopenshell.policy import compile as compile_policy
from pyopenshell.policy.conflicts import conflicts
from pyopenshell.policy.coverage import Mode, gaps
from tests.policy.strategies import (
    SMALL_BINARIES,
    SMALL_HOSTS,
    SMALL_METHODS,
    SMALL_PATHS,
    SMALL_PORTS,
    small_policies,
    small_rules,
)

CURL, GIT = "/usr/bin/curl", "/usr/bin/git"
GET, PUT = L7Match("GET", "/a"), L7Match("PUT", "/a")


def rest(host: str = "api.x.io", *rules: L7Match, ports: tuple[int, ...] = (443,), **more: object) -> Endpoint:
    return dataclasses.replace(Endpoint(host, ports, protocol="rest", rules=rules), **more)  # type: ignore[arg-type]


def raw(host: str = "api.x.io", *ports: int) -> Endpoint:
    return Endpoint(host, ports or (443,))


def rule(key: str, *endpoints: Endpoint, by: tuple[str, ...] = (CURL,)) -> Rule:
    return Rule(key, endpoints, by)


def policy(*rules: Rule) -> Policy:
    return Policy(rules=rules)


def add(before: Policy, new: Rule, name: str | None = None) -> merge.MergeResult:
    return merge.apply(before, [merge.AddRule(new.key if name is None else name, new)])


def refused(before: Policy, *operations: merge.Operation) -> tuple[str, str]:
    with pytest.raises(merge.MergeError) as caught:
        merge.apply(before, operations)
    return caught.value.kind, caught.value.message


def codes(result: merge.MergeResult) -> list[str]:
    return [warning.code for warning in result.warnings]


# ---- add_rule --------------------------------------------------------------------------------------------------------


def test_a_new_destination_becomes_a_rule_of_its_own() -> None:
    old, new = rule("r", rest("a.x.io", GET)), rule("s", rest("b.x.io", GET))
    result = add(policy(old), new)
    assert result.policy.rules == (old, new)
    assert (result.changed, result.warnings) == (True, ())


def test_the_same_rule_again_changes_nothing() -> None:
    before = policy(rule("r", rest("a.x.io", GET, PUT)))
    result = add(before, rule("r", rest("a.x.io", PUT)))
    assert (result.policy, result.changed) == (before, False)


def test_rules_of_the_same_endpoint_are_appended_once() -> None:
    result = add(policy(rule("r", rest("a.x.io", GET))), rule("r", rest("a.x.io", GET, PUT)))
    assert result.policy.rules == (rule("r", rest("a.x.io", GET, PUT)),)


def test_a_rule_for_the_same_binaries_is_folded_into_the_first_that_shares_an_endpoint() -> None:
    before = policy(rule("z", rest("a.x.io", GET)), rule("b", rest("a.x.io", GET)))
    result = add(before, rule("new", rest("a.x.io", PUT)))
    assert result.policy.by_key()["b"].endpoints == (rest("a.x.io", GET, PUT),)
    assert set(result.policy.by_key()) == {"z", "b"}


def test_a_preset_is_written_out_only_where_it_no_longer_says_everything() -> None:
    before = policy(rule("r", rest(access="read-only")))
    assert add(before, rule("r", rest("api.x.io", L7Match("GET", "/x")))).changed is False
    wider = add(before, rule("r", rest(access="read-write"))).policy.rules[0].endpoints[0]
    assert (wider.access, wider.rules) == ("read-write", ())
    written = add(before, rule("r", rest("api.x.io", PUT))).policy.rules[0].endpoints[0]
    assert written.access == ""
    assert [match.method for match in written.rules] == ["GET", "HEAD", "OPTIONS", "PUT"]


def test_an_incoming_preset_is_not_dropped_beside_explicit_rules() -> None:
    result = add(policy(rule("r", rest("api.x.io", PUT))), rule("r", rest(access="read-only")))
    (endpoint,) = result.policy.rules[0].endpoints
    assert [match.method for match in endpoint.rules] == ["PUT", "GET", "HEAD", "OPTIONS"]


def test_attack_g3_a_binary_does_not_inherit_undeclared_hosts() -> None:
    before = policy(rule("r", rest("x.x.io", GET), rest("y.x.io", GET), by=(CURL,)))
    new = rule("r", rest("x.x.io", GET), by=(GIT,))
    kind, message = refused(before, merge.AddRule("r", new))
    assert kind == "failed_precondition"
    assert "would grant '/usr/bin/git' undeclared authorization for y.x.io on ports [443]" in message
    result = add(before, dataclasses.replace(new, key="s"))
    assert result.policy.by_key()["r"] == before.rules[0]
    assert result.policy.by_key()["s"].binaries == (GIT,)
    assert codes(result) == ["kept_requested_rule_name"]


def test_existing_binaries_do_not_inherit_new_rights() -> None:
    before = policy(rule("r", rest("x.x.io", GET), by=(CURL, GIT)))
    kind, message = refused(before, merge.AddRule("r", rule("r", rest("x.x.io", PUT), by=(CURL,))))
    assert kind == "failed_precondition"
    assert "would grant existing binaries new or changed authorization for x.x.io on ports [443]" in message
    assert "also declare '/usr/bin/git'" in message
    assert add(before, rule("s", rest("x.x.io", PUT), by=(CURL,))).policy.by_key()["r"] == before.rules[0]


def test_a_binary_that_declares_everything_joins() -> None:
    before = policy(rule("r", rest("x.x.io", GET), raw("y.x.io"), by=(CURL,)))
    result = add(before, rule("r", rest("x.x.io", GET), raw("y.x.io"), by=(GIT,)))
    assert result.policy.rules == (rule("r", rest("x.x.io", GET), raw("y.x.io"), by=(CURL, GIT)),)


def test_sibling_ports_do_not_change() -> None:
    before = policy(rule("r", rest("x.x.io", GET, ports=(443, 8443))))
    result = add(before, rule("r", rest("x.x.io", PUT)))
    engine = compile_policy(result.policy)
    assert engine.decide(Connection("x.x.io", 443, CURL), "PUT", "/a")
    assert not engine.decide(Connection("x.x.io", 8443, CURL), "PUT", "/a")


def test_a_new_binary_does_not_take_over_a_users_trust_in_private_addresses() -> None:
    before = policy(rule("r", rest("x.x.io", GET)))
    agent = rule("s", rest("x.x.io", GET, advisor_proposed=True), by=(GIT,))
    result = add(before, agent)
    assert result.policy.by_key()["s"] == agent
    assert result.policy.by_key()["r"] == before.rules[0]


def test_an_agents_rule_is_never_folded_into_a_users_endpoint() -> None:
    before = policy(rule("r", rest("x.x.io", GET)))
    agent = rule("s", rest("x.x.io", PUT, advisor_proposed=True))
    assert add(before, agent).policy.by_key()["s"] == agent
    assert conflicts(add(before, agent).policy) == []


def test_an_existing_inspection_stays_when_the_author_names_the_rule() -> None:
    before = policy(rule("r", rest("x.x.io", GET)))
    result = add(before, rule("r", raw("x.x.io")))
    assert (result.changed, codes(result)) == (False, ["kept_inspection"])
    assert add(before, rule("s", raw("x.x.io"))).policy.by_key()["s"].endpoints == (raw("x.x.io"),)


def test_a_port_that_is_not_inspected_yet_stays_as_submitted() -> None:
    before = policy(rule("r", rest("x.x.io", GET)))
    result = add(before, rule("r", raw("x.x.io", 443, 8443)))
    assert result.policy.rules[0].endpoints == (rest("x.x.io", GET), raw("x.x.io", 443, 8443))
    engine = compile_policy(result.policy)
    assert engine.connect(Connection("x.x.io", 443, CURL)).inspected
    assert not engine.connect(Connection("x.x.io", 8443, CURL)).inspected


def test_inspection_may_be_added_for_declared_binaries_only() -> None:
    both = policy(rule("r", raw("x.x.io"), by=(CURL, GIT)))
    result = add(both, rule("r", rest("x.x.io", GET), by=(CURL, GIT)))
    assert result.policy.rules[0].endpoints == (rest("x.x.io", GET),)
    assert codes(result) == ["inspection_added"]
    assert "new or changed authorization" in refused(both, merge.AddRule("r", rule("r", rest("x.x.io", GET))))[1]


def test_a_different_enforcement_is_refused_and_both_rules_are_named() -> None:
    before = policy(rule("r", rest("x.x.io", GET)))
    kind, message = refused(before, merge.AddRule("s", rule("s", rest("x.x.io", GET, enforcement="audit"))))
    assert kind == "failed_precondition"
    assert "x.x.io:443 in rule 'r'" in message
    assert "x.x.io:443 in rule 's'" in message
    assert "enforcement (enforce and audit)" in message


def test_a_conflict_that_was_there_before_does_not_block() -> None:
    before = policy(rule("r", rest("x.x.io", GET)), rule("s", rest("x.x.io", GET, enforcement="audit")))
    assert conflicts(before)
    assert add(before, rule("t", rest("y.x.io", GET))).changed


def test_denies_of_the_target_do_not_silently_bind_a_new_binary() -> None:
    before = policy(rule("r", rest("x.x.io", GET, deny_rules=(L7Match("*", "/a"),))))
    assert "would not give" in refused(before, merge.AddRule("r", rule("r", rest("x.x.io", GET), by=(GIT,))))[1]


def test_any_binary_stays_any_binary() -> None:
    before = policy(rule("r", rest("x.x.io", GET), by=("/**",)))
    result = add(before, rule("r", rest("x.x.io", GET)))
    assert (result.changed, codes(result)) == (False, ["kept_any_binary"])
    assert "new or changed" in refused(before, merge.AddRule("r", rule("r", rest("x.x.io", PUT))))[1]


@pytest.mark.parametrize(
    ("name", "new", "message"),
    [
        (" ", rule("r", raw()), "add-rule operation requires a rule name"),
        ("r", rule("r"), "merge operation 0 add-rule 'r' must contain at least one endpoint"),
        ("_provider_x", rule("r", raw()), "reserved '_provider_' prefix"),
        ("_PROVIDER_x", rule("r", raw()), "reserved '_provider_' prefix"),
        ("r", rule("r", raw(), by=()), "binaries must name at least one executable"),
        ("r", rule("r", raw("*.com")), "TLD wildcard"),
        ("r", rule("r", raw("localhost")), "always blocked"),
        ("r", rule("r", raw("metadata.google.internal")), "always blocked"),
        ("r", rule("r", raw("*.google.internal")), "always blocked"),
        ("r", rule("r", raw("169.254.169.254")), "always blocked"),
        ("r", rule("r", raw("127.0.0.1")), "always blocked"),
        ("r", rule("r", raw("fe80::1")), "always blocked"),
        ("r", rule("r", dataclasses.replace(raw(), allowed_ips=("0.0.0.0/0",))), "always-blocked range"),
        ("r", rule("r", dataclasses.replace(raw(), allowed_ips=("169.254.0.0/17",))), "always-blocked range"),
    ],
)
def test_invalid_rules_are_invalid_arguments(name: str, new: Rule, message: str) -> None:
    kind, text = refused(Policy(), merge.AddRule(name, new))
    assert kind == "invalid_argument"
    assert message in text


def test_operations_are_all_or_none_and_in_order() -> None:
    first = merge.AddRule("r", rule("r", rest("x.x.io", GET)))
    second = merge.AddAllowRules(merge.Target("r", "x.x.io", (443,), binaries=(CURL,)), (PUT,))
    assert merge.apply(Policy(), [first, second]).policy.rules == (rule("r", rest("x.x.io", GET, PUT)),)
    assert refused(Policy(), second, first)[0] == "failed_precondition"


# ---- the other operations --------------------------------------------------------------------------------------------


def test_remove_endpoint_takes_ports_then_endpoints_then_rules() -> None:
    before = policy(rule("r", raw("x.x.io", 80, 443)), rule("s", raw("x.x.io"), raw("y.x.io")))
    result = merge.apply(before, [merge.RemoveEndpoint("X.x.io", 443)])
    assert result.policy.rules == (rule("r", raw("x.x.io", 80)), rule("s", raw("y.x.io")))
    result = merge.apply(before, [merge.RemoveEndpoint("x.x.io", 443, "s"), merge.RemoveEndpoint("y.x.io", 443)])
    assert result.policy.rules == before.rules[:1]
    assert not merge.apply(before, [merge.RemoveEndpoint("z.x.io", 443)]).changed
    assert refused(before, merge.RemoveEndpoint("", 443))[0] == "invalid_argument"


def test_provider_layers_are_not_touched() -> None:
    before = policy(rule("_provider_p", raw("x.x.io")))
    assert not merge.apply(before, [merge.RemoveEndpoint("x.x.io", 443)]).changed
    assert refused(before, merge.RemoveRule("_provider_p"))[0] == "invalid_argument"
    assert refused(before, merge.RemoveBinary("_provider_p", CURL))[0] == "invalid_argument"
    assert add(before, rule("r", raw("x.x.io"))).policy.by_key()["_provider_p"] == before.rules[0]


def test_removing_an_inspected_endpoint_says_what_becomes_raw() -> None:
    before = policy(rule("r", rest("x.x.io", GET)), rule("s", raw("x.x.io")))
    for operation in (
        merge.RemoveRule("r"),
        merge.RemoveEndpoint("x.x.io", 443, "r"),
        merge.RemoveBinary("r", CURL),
    ):
        assert codes(merge.apply(before, [operation])) == ["inspection_removed"]


def test_remove_rule_and_binary() -> None:
    before = policy(rule("r", raw(), by=(CURL, GIT)), rule("any", raw("y.x.io"), by=("/**",)))
    assert merge.apply(before, [merge.RemoveBinary("r", GIT)]).policy.by_key()["r"].binaries == (CURL,)
    both = [merge.RemoveBinary("r", GIT), merge.RemoveBinary("r", CURL)]
    assert merge.apply(before, both).policy.rules == before.rules[1:]
    assert not merge.apply(before, [merge.RemoveBinary("r", "/x"), merge.RemoveBinary("no", CURL)]).changed
    assert not merge.apply(before, [merge.RemoveRule("no")]).changed
    kind, message = refused(before, merge.RemoveBinary("any", CURL))
    assert kind == "failed_precondition"
    assert "because the rule authorizes any binary" in message


TARGET = merge.Target("r", "x.x.io", (443,), binaries=(CURL,))


@pytest.mark.parametrize(
    ("endpoint", "change", "message"),
    [
        (rest("x.x.io", GET), {"rule_name": "q"}, "was not found in the current policy"),
        (rest("x.x.io", GET), {"host": "y.x.io"}, "was not found in the current policy"),
        (rest("x.x.io", GET), {"ports": (443, 80)}, "was not found in the current policy"),
        (rest("x.x.io", GET), {"path": "/v1"}, "was not found in the current policy"),
        (rest("x.x.io", GET), {"binaries": (GIT,)}, "binaries differ"),
        (rest("x.x.io", GET), {"binaries": (), "any_binary": True}, "binaries differ"),
        (raw("x.x.io"), {}, "has no L7 inspection configured (protocol is empty)"),
        (Endpoint("x.x.io", (443,), protocol="mcp", rules=(L7Match("*"),)), {}, "uses unsupported protocol"),
    ],
)
def test_targets_must_be_exact(endpoint: Endpoint, change: dict[str, object], message: str) -> None:
    target = dataclasses.replace(TARGET, **change)  # type: ignore[arg-type]
    for operation in (merge.AddAllowRules(target, (PUT,)), merge.AddDenyRules(target, (PUT,))):
        kind, text = refused(policy(rule("r", endpoint)), operation)
        assert kind == "failed_precondition"
        assert message in text


def test_a_target_without_path_must_be_unique() -> None:
    before = policy(rule("r", rest("x.x.io", GET), rest("x.x.io", GET, path="/v1/**")))
    assert "resolves to 2 endpoints" in refused(before, merge.AddDenyRules(TARGET, (PUT,)))[1]
    narrowed = dataclasses.replace(TARGET, path="/v1/**")
    result = merge.apply(before, [merge.AddDenyRules(narrowed, (PUT,))])
    assert result.policy.rules[0].endpoints[1].deny_rules == (PUT,)
    assert result.policy.rules[0].endpoints[0] == before.rules[0].endpoints[0]


def test_rules_are_checked_before_they_are_added() -> None:
    before = policy(rule("r", rest("x.x.io", GET)))
    for bad in (L7Match("GET"), L7Match("", "/a"), L7Match("GET", "/a?b=c"), L7Match(operation_type="query")):
        assert refused(before, merge.AddDenyRules(TARGET, (bad,)))[0] == "invalid_argument"
        assert refused(before, merge.AddAllowRules(TARGET, (bad,)))[0] == "invalid_argument"
    assert refused(before, merge.AddAllowRules(TARGET, ()))[0] == "invalid_argument"


def test_names_are_generated_like_upstream() -> None:
    assert merge.generated_rule_name("API.my-host.io", 443) == "allow_api_my_host_io_443"
    assert merge.generated_rule_name("*.x.io", 80) == "allow__x_io_80"


def test_an_observation_adopts_the_one_contract_of_its_destination() -> None:
    before = policy(rule("r", rest("x.x.io", GET, ports=(443, 8443)), by=(GIT,)))
    seen = merge.AddRule("r", rule("r", dataclasses.replace(raw("x.x.io"), advisor_proposed=True)))
    adopted = merge.observation(before, seen)
    assert adopted.rule_name == "r_2"
    assert adopted.rule.endpoints == (rest("x.x.io", GET, advisor_proposed=True),)
    assert adopted.rule.binaries == (CURL,)
    assert merge.observation(Policy(), seen) == seen
    two = policy(*before.rules, rule("s", rest("x.x.io", PUT)))
    with pytest.raises(merge.MergeError, match=r"cannot infer one existing endpoint contract for x\.x\.io:443"):
        merge.observation(two, seen)


# ---- properties ------------------------------------------------------------------------------------------------------

CONNECTIONS = [
    Connection(host, port, binary) for host in SMALL_HOSTS for port in SMALL_PORTS for binary in SMALL_BINARIES
]


def permitted(policy: Policy) -> dict[Connection, frozenset[str]]:
    """Everything the engine lets pass in the tiny universe: "raw", or the requests."""
    engine = compile_policy(policy)
    out: dict[Connection, frozenset[str]] = {}
    every = [f"{method} {path}" for method in SMALL_METHODS for path in SMALL_PATHS]
    for connection in CONNECTIONS:
        cell = engine.connect(connection)
        if not cell.decision.allowed:
            out[connection] = frozenset()
        elif not cell.inspected:
            out[connection] = frozenset([*every, "raw"])
        else:
            out[connection] = frozenset(text for text in every if cell.decide(*text.split(" ")).allowed)
    return out


def declared(binary: str, rule: Rule) -> bool:
    return binary in rule.binaries or "/b/*" in rule.binaries


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.filter_too_much])
@given(small_policies(), small_rules(), st.sampled_from(["r1", "r2", "r3", "new"]))
def test_merging_never_widens_what_was_not_declared(before: Policy, new: Rule, name: str) -> None:
    assume(not conflicts(before))
    try:
        result = merge.apply(before, [merge.AddRule(name, new)])
    except merge.MergeError:
        return
    alone = permitted(Policy(rules=(dataclasses.replace(new, key=name),)))
    was, now = permitted(before), permitted(result.policy)
    for connection in CONNECTIONS:
        assert now[connection] <= was[connection] | alone[connection]
        if not declared(connection.binary, new):
            assert now[connection] == was[connection]
    assert validate(result.policy) == []
    assert conflicts(result.policy) == []
    if not result.changed:
        assert now == was


@settings(deadline=None, max_examples=300)
@given(small_policies(), small_rules(), st.sampled_from(["r1", "r2", "r3", "new"]))
def test_what_was_merged_is_in_force(before: Policy, new: Rule, name: str) -> None:
    try:
        result = merge.apply(before, [merge.AddRule(name, new)])
    except merge.MergeError:
        return
    assert gaps(result.policy.rules, new, Mode(heed_denies=False)) == []
    again = merge.apply(result.policy, [merge.AddRule(name, new)]) if name in result.policy.by_key() else result
    assert permitted(again.policy) == permitted(result.policy)


@settings(deadline=None)
@given(small_policies(), st.sampled_from(SMALL_HOSTS), st.sampled_from(SMALL_PORTS))
def test_removing_never_widens_without_saying_so(before: Policy, host: str, port: int) -> None:
    result = merge.apply(before, [merge.RemoveEndpoint(host, port)])
    was, now = permitted(before), permitted(result.policy)
    if any(not now[c] <= was[c] for c in CONNECTIONS):
        denies = any(e.deny_rules or e.enforcement != "enforce" or e.path for r in before.rules for e in r.endpoints)
        raw_left = "inspection_removed" in codes(result)
        assert raw_left or denies
