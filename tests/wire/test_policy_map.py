from __future__ import annotations

import pytest
from hypothesis import given, settings

from pyopenshell.policy import PolicyError, merge, policy_hash
from pyopenshell.policy.model import Endpoint, L7Match, McpOptions, Policy, QueryMatcher, Rule
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, sandbox_pb2
from tests.policy.strategies import policies


@settings(deadline=None)
@given(policies())
def test_a_policy_survives_the_wire(policy: Policy) -> None:
    raw = policy_map.policy_to_proto(policy).SerializeToString()
    read = policy_map.policy_from_proto(sandbox_pb2.SandboxPolicy.FromString(raw))
    assert read.by_key() == policy.by_key()
    assert {m.key: m for m in read.middlewares} == {m.key: m for m in policy.middlewares}
    assert (read.version, read.filesystem, read.landlock, read.process) == (
        policy.version,
        policy.filesystem,
        policy.landlock,
        policy.process,
    )
    assert policy_hash(read) == policy_hash(policy)


@settings(deadline=None)
@given(policies())
def test_a_second_trip_changes_nothing(policy: Policy) -> None:
    once = policy_map.policy_from_proto(policy_map.policy_to_proto(policy))
    assert policy_map.policy_from_proto(policy_map.policy_to_proto(once)) == once


def endpoint(**fields: object) -> sandbox_pb2.NetworkEndpoint:
    return sandbox_pb2.NetworkEndpoint(host="a.b", port=443, **fields)  # type: ignore[arg-type]


def test_missing_enforcement_is_enforce() -> None:
    assert policy_map.endpoint_from_proto(endpoint()).enforcement == "enforce"
    assert policy_map.endpoint_from_proto(endpoint(enforcement=2)).enforcement == "audit"


def test_port_and_ports() -> None:
    assert policy_map.endpoint_from_proto(endpoint()).ports == (443,)
    assert policy_map.endpoint_from_proto(endpoint(ports=[80, 8080, 80])).ports == (80, 8080)
    message = policy_map.endpoint_to_proto(Endpoint("a.b", (80, 443)))
    assert (message.port, list(message.ports)) == (80, [80, 443])


def test_deprecated_tls_spellings_are_automatic() -> None:
    assert [policy_map.endpoint_from_proto(endpoint(tls=number)).tls for number in range(4)] == ["", "skip", "", ""]


def test_hosts_and_methods_arrive_in_one_spelling() -> None:
    message = sandbox_pb2.NetworkEndpoint(
        host="API.Example.COM.", port=443, rules=[sandbox_pb2.L7Rule(allow=sandbox_pb2.L7Allow(method="put", path="/"))]
    )
    read = policy_map.endpoint_from_proto(message)
    assert read.host == "api.example.com"
    assert read.rules == (L7Match("PUT", "/"),)


@pytest.mark.parametrize("field", ["tls", "enforcement", "access"])
def test_unknown_enum_numbers_are_refused(field: str) -> None:
    message = endpoint()
    setattr(message, field, 9)
    with pytest.raises(PolicyError, match=f"unknown {field} number 9"):
        policy_map.endpoint_from_proto(message)


@pytest.mark.parametrize("matcher", [{}, {"glob": "a", "any": ["b"]}])
def test_a_matcher_says_exactly_one_thing(matcher: dict[str, object]) -> None:
    allow = sandbox_pb2.L7Allow(method="GET", path="/")
    allow.query["q"].CopyFrom(sandbox_pb2.L7QueryMatcher(**matcher))  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="exactly one of glob, any"):
        policy_map.endpoint_from_proto(endpoint(rules=[sandbox_pb2.L7Rule(allow=allow)]))


def test_an_empty_glob_survives() -> None:
    rule = Endpoint("a.b", (443,), protocol="rest", rules=(L7Match("GET", "/", (("q", QueryMatcher(("",))),)),))
    assert policy_map.endpoint_from_proto(policy_map.endpoint_to_proto(rule)) == rule


def test_path_case_survives_a_middleman_that_does_not_know_it() -> None:
    rule = Rule("r", (Endpoint("a.b", (443,), protocol="rest", access="full", path_case="insensitive"),), ("/x",))
    middleman = sandbox_pb2.NetworkPolicyRule.FromString(policy_map.rule_to_proto(rule).SerializeToString())
    wrapped = sandbox_pb2.SandboxPolicy(version=1)
    wrapped.network_policies["r"].CopyFrom(middleman)
    again = sandbox_pb2.SandboxPolicy.FromString(wrapped.SerializeToString())
    assert policy_map.policy_from_proto(again).rules == (rule,)


def test_both_json_rpc_limits_share_one_field() -> None:
    mcp = Endpoint("a.b", (443,), protocol="mcp", rules=(L7Match("*"),), mcp=McpOptions(max_body_bytes=9))
    rpc = Endpoint("a.b", (443,), protocol="json-rpc", rules=(L7Match("x"),), json_rpc_max_body_bytes=9)
    for found in (mcp, rpc):
        message = policy_map.endpoint_to_proto(found)
        assert message.json_rpc_max_body_bytes == 9
        assert policy_map.endpoint_from_proto(message) == found


def operation(**fields: object) -> merge.Operation:
    return policy_map.merge_operation_from_proto(openshell_pb2.PolicyMergeOperation(**fields))  # type: ignore[arg-type]


def test_every_merge_operation_is_read() -> None:
    rule = sandbox_pb2.NetworkPolicyRule(
        endpoints=[sandbox_pb2.NetworkEndpoint(host="A.b", port=443)], binaries=[sandbox_pb2.NetworkBinary(path="/x")]
    )
    target = openshell_pb2.L7RuleTarget(rule_name="r", host="A.b", ports=[443, 80], path="", any_binary=True)
    read_target = merge.Target("r", "a.b", (80, 443), "", (), True)
    allow = sandbox_pb2.L7Rule(allow=sandbox_pb2.L7Allow(method="GET", path="/"))
    deny = sandbox_pb2.L7DenyRule(method="GET", path="/")
    assert operation(add_rule=openshell_pb2.AddNetworkRule(rule_name="r", rule=rule)) == merge.AddRule(
        "r", Rule("r", (Endpoint("a.b", (443,)),), ("/x",))
    )
    assert operation(remove_endpoint=openshell_pb2.RemoveNetworkEndpoint(host="A.b", port=443)) == merge.RemoveEndpoint(
        "a.b", 443
    )
    assert operation(remove_rule=openshell_pb2.RemoveNetworkRule(rule_name="r")) == merge.RemoveRule("r")
    assert operation(
        remove_binary=openshell_pb2.RemoveNetworkBinary(rule_name="r", binary_path="/x")
    ) == merge.RemoveBinary("r", "/x")
    assert operation(add_allow_rules=openshell_pb2.AddAllowRules(target=target, rules=[allow])) == merge.AddAllowRules(
        read_target, (L7Match("GET", "/"),)
    )
    assert operation(add_deny_rules=openshell_pb2.AddDenyRules(target=target, deny_rules=[deny])) == merge.AddDenyRules(
        read_target, (L7Match("GET", "/"),)
    )


def test_a_target_without_path_means_the_only_endpoint() -> None:
    target = openshell_pb2.L7RuleTarget(rule_name="r", host="a.b", ports=[443])
    read = operation(add_deny_rules=openshell_pb2.AddDenyRules(target=target))
    assert isinstance(read, merge.AddDenyRules)
    assert read.target.path is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "missing an operation"),
        ({"add_rule": openshell_pb2.AddNetworkRule(rule_name="r")}, "add_rule.rule is required"),
        ({"add_deny_rules": openshell_pb2.AddDenyRules()}, "target is required"),
    ],
)
def test_incomplete_operations_are_invalid_arguments(fields: dict[str, object], message: str) -> None:
    with pytest.raises(merge.MergeError, match=message) as caught:
        operation(**fields)
    assert caught.value.kind == "invalid_argument"


@pytest.mark.parametrize(
    "operation",
    [
        merge.AddRule("r", Rule("r", (Endpoint("a.b", (443,), protocol="rest", access="full"),), ("/x",))),
        merge.RemoveEndpoint("a.b", 443, "r"),
        merge.RemoveRule("r"),
        merge.RemoveBinary("r", "/x"),
        merge.AddDenyRules(merge.Target("r", "a.b", (443,), "/v1", ("/x",)), (L7Match("PUT", "/x"),)),
        merge.AddAllowRules(merge.Target("r", "a.b", (80, 443), None, (), True), (L7Match("GET", "/y"),)),
    ],
)
def test_a_merge_operation_survives_the_wire(operation: merge.Operation) -> None:
    raw = policy_map.merge_operation_to_proto(operation).SerializeToString()
    assert policy_map.merge_operation_from_proto(openshell_pb2.PolicyMergeOperation.FromString(raw)) == operation
