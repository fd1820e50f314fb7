"""What a change newly permits in what requests carry: one region per sort, in words, with a confirmed witness."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pyopenshell.policy.model import Endpoint, GraphqlOperation, L7Match, McpOptions, Policy, QueryMatcher, Rule
from pyopenshell.proof.delta import delta
from pyopenshell.proof.findings import validation_result

HOST = "api.test"


def policy(*endpoints: Endpoint) -> Policy:
    return Policy(rules=(Rule("r", endpoints, ("/usr/bin/curl",)),))


def endpoint(protocol: str, *rules: L7Match, **more: Any) -> Endpoint:
    return dataclasses.replace(Endpoint(HOST, (443,), protocol=protocol, rules=rules), **more)


def tool(name: str) -> L7Match:
    return L7Match(params=(("name", QueryMatcher((name,))),))


QUERY, MUTATION = L7Match(operation_type="query"), L7Match(operation_type="mutation", fields=("create*",))
GET = L7Match("GET", "/ws")
REGISTERED = (("abc", GraphqlOperation("query", "", ("a",))),)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (endpoint("graphql", QUERY), endpoint("graphql", QUERY, MUTATION), "every operation_type matches mutation"),
        (endpoint("mcp", tool("get_*")), endpoint("mcp", tool("get_*"), tool("del")), "call tools/call name='del'"),
        (endpoint("mcp", tool("*")), endpoint("mcp", tool("*"), mcp=McpOptions(strict_tool_names=False)), "unusual"),
        (endpoint("json-rpc", L7Match("a")), endpoint("json-rpc", L7Match("a"), L7Match("b*")), "call b"),
        (endpoint("websocket", GET), endpoint("websocket", GET, L7Match("WEBSOCKET_TEXT", "/ws")), "WebSocket text"),
        (
            endpoint("graphql", QUERY),
            endpoint("graphql", QUERY, persisted_queries="allow_registered", graphql_persisted_queries=REGISTERED),
            "persisted query 'abc'",
        ),
        (
            endpoint("graphql", QUERY, deny_rules=(L7Match(operation_type="*", fields=("secret",)),)),
            endpoint("graphql", QUERY),
            "deny no longer applies: GraphQL * {secret}",
        ),
        (
            endpoint("mcp", L7Match("initialize"), mcp=McpOptions(versions=("2025-06-18",))),
            endpoint("mcp", L7Match("initialize")),
            "initialize",
        ),
    ],
)
def test_one_region_says_what_is_new(before: Endpoint, after: Endpoint, words: str) -> None:
    change = delta(policy(before), policy(after))
    assert change.proven
    assert words in str(change)
    assert "\ue001" not in str(change)
    assert delta(policy(after), policy(after)).empty
    assert validation_result(policy(before), policy(after), [HOST]).startswith("prover: ")
    assert "capability_expansion: " in validation_result(policy(before), policy(after), [HOST])


def test_narrower_and_respelled_is_nothing_new() -> None:
    wide = endpoint("mcp", tool("*"), L7Match("tools/list"))
    for narrow in (endpoint("mcp", tool("get_*")), endpoint("mcp", L7Match("tools/call", params=tool("*").params))):
        assert delta(policy(wide), policy(narrow)).empty
    assert delta(policy(endpoint("graphql", access="full")), policy(endpoint("graphql", QUERY, MUTATION))).empty


def test_another_protocol_that_goes_away_gives_back_what_it_took_over() -> None:
    whole = endpoint("rest", access="full")
    graphql = endpoint("graphql", QUERY, path="/graphql")
    change = delta(policy(whole, graphql), policy(whole))
    assert not change.empty
    assert any(region.request.path == "/graphql" for region in change.regions)
    assert not delta(policy(whole), policy(whole, graphql)).empty  # operations are a capability of their own
