from __future__ import annotations

import dataclasses

import pytest

from pyopenshell.policy import Endpoint, L7Match, QueryMatcher, Rule
from pyopenshell.policy.describe import render_endpoint, render_endpoints, rule_lines
from pyopenshell.policy.model import McpOptions

REST = Endpoint("api.example", (443,), protocol="rest")


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (Endpoint("host.example.test", (443,)), "host.example.test:443 [L4]"),
        (dataclasses.replace(REST, access="read-only"), "api.example:443 [L7 rest, access=read-only]"),
        (
            dataclasses.replace(REST, rules=(L7Match("PUT", "/v1/foo/bar"),)),
            "api.example:443 [L7 rest, allow PUT /v1/foo/bar]",
        ),
        (
            dataclasses.replace(REST, rules=(L7Match("*", "**"),), deny_rules=(L7Match("DELETE", "/a"),)),
            "api.example:443 [L7 rest, allow * **, deny DELETE /a]",
        ),
        (Endpoint("api.example", (443,), protocol="tcp"), "api.example:443 [tcp]"),
        (Endpoint("", (80, 443), allowed_ips=("10.0.0.0/8",)), "*:80,443 [L4, allowed_ips=10.0.0.0/8]"),
        (
            dataclasses.replace(REST, access="full", enforcement="audit", path="/v1/**", tls="skip"),
            "api.example:443 [L7 rest, access=full, path=/v1/**, AUDIT ONLY, tls=skip]",
        ),
        (
            dataclasses.replace(REST, rules=(L7Match("GET", "/a", (("q", QueryMatcher(("1", "2*"))),)),)),
            "api.example:443 [L7 rest, allow GET /a query q=1|2*]",
        ),
        (
            Endpoint("a", (1,), protocol="graphql", rules=(L7Match(operation_type="query", fields=("x", "y")),)),
            "a:1 [graphql, allow query * {x y}]",
        ),
        (
            Endpoint(
                "a",
                (1,),
                protocol="mcp",
                rules=(L7Match("tools/call", params=(("name", QueryMatcher(("read_*",))),)),),
                mcp=McpOptions(allow_all_known_mcp_methods=True),
            ),
            "a:1 [mcp, allow tools/call params name=read_*, all known MCP methods]",
        ),
        (
            dataclasses.replace(
                REST,
                access="full",
                allow_encoded_slash=True,
                path_case="insensitive",
                credential_provider="aws",
                persisted_queries="allow_registered",
            ),
            "api.example:443 [L7 rest, access=full, credential_provider=aws, allow-encoded-slash, "
            "path-case-insensitive, persisted_queries=allow_registered]",
        ),
    ],
)
def test_rendering(endpoint: Endpoint, expected: str) -> None:
    assert render_endpoint(endpoint) == expected


def test_lists() -> None:
    one, two = Endpoint("a.b", (1,)), Endpoint("c.d", (2,))
    assert render_endpoints([one, two]) == "a.b:1 [L4], c.d:2 [L4]"
    assert rule_lines(Rule("r", (one, two), ("/x", "/y"))) == ["a.b:1 [L4]", "c.d:2 [L4]", "by /x, /y"]
    assert rule_lines(Rule("r", (one,), ())) == ["a.b:1 [L4]", "by nobody"]
