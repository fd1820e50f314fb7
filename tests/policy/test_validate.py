from __future__ import annotations

import dataclasses

import pytest

from pyopenshell.policy import Endpoint, L7Match, Policy, QueryMatcher, Rule, validate
from pyopenshell.policy.model import (
    RESTRICTIVE_DEFAULT,
    FilesystemPolicy,
    GraphqlOperation,
    LandlockPolicy,
    McpOptions,
    Middleware,
    ProcessPolicy,
)
from pyopenshell.policy.problems import where_text

GET = L7Match("GET", "/a")
REST = Endpoint("a.example.com", (443,), protocol="rest", rules=(GET,))
RAW = Endpoint("a.example.com", (443,))


def problems(*endpoints: Endpoint, key: str = "r", by: tuple[str, ...] = ("/usr/bin/curl",)) -> list[str]:
    found = validate(Policy(rules=(Rule(key, endpoints, by),)))
    return [f"{where_text(p.where)}: {p.message}" for p in found]


def one(*endpoints: Endpoint, key: str = "r", by: tuple[str, ...] = ("/usr/bin/curl",)) -> str:
    found = problems(*endpoints, key=key, by=by)
    assert len(found) == 1, found
    return found[0].removeprefix("network_policies.r").removeprefix("[0]")


def test_nothing_to_say_about_sound_policies() -> None:
    assert validate(Policy()) == []
    assert validate(RESTRICTIVE_DEFAULT) == []
    assert problems(REST, RAW) == []


@pytest.mark.parametrize("host", ["*", "**", "*.com", "**.com", "*com", "com*", "*x.com"])
def test_attack_a11_wildcards_over_top_level_domains(host: str) -> None:
    text = one(dataclasses.replace(RAW, host=host))
    assert f"TLD wildcard '{host}' is not allowed" in text


@pytest.mark.parametrize(
    "host", ["a.*", "a.*.com", "*.*.com", "x.a*.example.com", "a**.example.com", "*.1.2", "a.**.example.com"]
)
def test_wildcards_of_another_shape(host: str) -> None:
    assert f"invalid host wildcard '{host}'" in one(dataclasses.replace(RAW, host=host))


@pytest.mark.parametrize("host", ["*.github.io", "**.github.io", "*.co.uk", "*-x.github.io", "*.*.github.io"])
def test_attack_a11_wildcards_where_anybody_registers(host: str) -> None:
    assert "anybody can register a name there" in one(dataclasses.replace(RAW, host=host))


@pytest.mark.parametrize(
    "host",
    [
        "*.example.com",
        "**.example.com",
        "*-aip.googleapis.com",
        "*.*.example.com",
        "*.acme.github.io",
        "10.0.0.1",
        "fd00::1",
    ],
)
def test_hosts_that_may_stand(host: str) -> None:
    assert problems(dataclasses.replace(RAW, host=host)) == []


@pytest.mark.parametrize(
    "host", ["0x7f.1", "2130706433", "127.1", "010.0.0.1", "a..b", "a b", "a/b", "a:1", "[fd00::1]", "FD00::1", "a.b\n"]
)
def test_hosts_that_are_none_or_hide_one(host: str) -> None:
    assert any(".host" in found for found in problems(dataclasses.replace(RAW, host=host)))


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (
            dataclasses.replace(RAW, host=""),
            "endpoint host must not be empty unless allowed_ips constrains a non-TCP proxy endpoint",
        ),
        (
            dataclasses.replace(RAW, host="", allowed_ips=("10.0.0.0/8",), protocol="tcp"),
            "endpoint host must not be empty unless allowed_ips constrains a non-TCP proxy endpoint",
        ),
        (dataclasses.replace(RAW, ports=()), "endpoint 'a.example.com' must declare at least one port"),
        (dataclasses.replace(RAW, ports=(0,)), "has invalid port 0; expected 1..=65535"),
        (dataclasses.replace(RAW, ports=(80, 65536)), "has invalid port 65536; expected 1..=65535"),
        (dataclasses.replace(RAW, host="10.0.0.1", protocol="tcp"), "protocol tcp needs a DNS host"),
        (dataclasses.replace(RAW, allowed_ips=("10.0.0.1/8",)), "'10.0.0.1/8' is not an address or CIDR network"),
        (dataclasses.replace(RAW, allowed_ips=("fe80::1%eth0",)), "is not an address or CIDR network"),
        (dataclasses.replace(REST, enforcement="Enforce"), "unknown enforcement 'Enforce'"),
        (dataclasses.replace(REST, rules=(), access="readonly"), "unknown access 'readonly'"),
        (dataclasses.replace(REST, tls="Skip"), "unknown tls 'Skip'"),
        (dataclasses.replace(REST, protocol="Rest"), "unknown protocol 'Rest' (expected tcp, rest,"),
        (dataclasses.replace(REST, protocol="sql"), "protocol sql is not enforced by anything"),
        (dataclasses.replace(REST, access="full"), "rules and access are mutually exclusive"),
        (dataclasses.replace(REST, rules=()), "protocol requires rules or access to define allowed traffic"),
        (
            dataclasses.replace(REST, rules=(), deny_rules=(GET,)),
            "deny_rules require rules or access to define the base allow set",
        ),
        (
            dataclasses.replace(RAW, deny_rules=(GET,)),
            "endpoint 0 has invalid L7 configuration: deny_rules require protocol (L7 inspection must be enabled)",
        ),
        (dataclasses.replace(RAW, access="read-only"), "access requires protocol (L7 inspection must be enabled)"),
        (dataclasses.replace(RAW, path="/v1"), "path requires protocol"),
        (dataclasses.replace(RAW, enforcement="audit"), "enforcement: audit requires protocol"),
        (dataclasses.replace(REST, protocol="tcp"), "protocol tcp does not support access, rules, or deny_rules"),
        (dataclasses.replace(REST, tls="skip"), "protocol rest cannot be inspected with tls: skip"),
        (dataclasses.replace(REST, path="v1"), "path must start with '/' or be '**'"),
        (dataclasses.replace(REST, path="/{a,b}"), "invalid path '/{a,b}'"),
        (
            Endpoint("a.b", (443,), protocol="graphql", access="full", persisted_queries="allow"),
            "persisted_queries must be 'deny' or 'allow_registered'",
        ),
        (dataclasses.replace(REST, mcp=McpOptions()), "mcp options are only valid for protocol mcp"),
        (dataclasses.replace(REST, json_rpc_max_body_bytes=1), "json_rpc options are only valid for protocol json-rpc"),
        (dataclasses.replace(REST, graphql_max_body_bytes=0), "limit must be at least 1 byte, got 0"),
        (
            dataclasses.replace(REST, graphql_persisted_queries=(("id", GraphqlOperation()),)),
            "persisted queries are only valid for protocol graphql or websocket",
        ),
        (Endpoint("a.b", (443,), protocol="mcp", access="full"), "access presets are not available for protocol mcp"),
        (Endpoint("a.b", (443,), protocol="json-rpc"), "protocol requires rules or access"),
        (dataclasses.replace(REST, credential_signing="sigv4"), "credential_signing needs signing_service"),
        (
            dataclasses.replace(REST, credential_signing="sigv5", signing_service="s3"),
            "unknown credential_signing 'sigv5'",
        ),
        (
            dataclasses.replace(
                REST, credential_signing="sigv4", signing_service="s3", request_body_credential_rewrite=True
            ),
            "mutually exclusive",
        ),
        (
            dataclasses.replace(RAW, request_body_credential_rewrite=True),
            "request_body_credential_rewrite is only valid for protocol rest",
        ),
        (
            dataclasses.replace(RAW, websocket_credential_rewrite=True),
            "websocket_credential_rewrite is only valid for protocol rest or websocket",
        ),
    ],
)
def test_endpoints_that_do_not_make_sense(endpoint: Endpoint, message: str) -> None:
    assert message in one(endpoint)


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (L7Match("GET"), "path is missing"),
        (L7Match("", "/a"), "method is missing"),
        (L7Match("G T", "/a"), "invalid method 'G T'"),
        (L7Match("GE*", "/a"), "invalid method 'GE*'"),
        (L7Match("propfind", "/a"), "method 'propfind' is not upper case"),
        (L7Match("GET", "a"), "must start with '/'"),
        (L7Match("GET", "/a?b=c"), "looks like a query string"),
        (L7Match("GET", "/a/**b"), "'**' must be a whole path segment"),
        (L7Match("GET", "/ä"), "printable ASCII"),
        (L7Match("GET", "/a/../b"), "dot segment"),
        (L7Match("GET", "/a", (("q", QueryMatcher(())),)), "must list at least one glob"),
        (L7Match("GET", "/a", (("q", QueryMatcher(("[a",))),)), "invalid glob '[a'"),
        (L7Match("GET", "/a", (("q\x1b", QueryMatcher(("a",))),)), "query key contains control"),
        (L7Match("GET", "/a", operation_type="query"), "operation_type is not a matcher of protocol rest"),
        (L7Match("GET", "/a", command="SELECT"), "command is not a matcher of protocol rest"),
    ],
)
def test_matchers_that_would_be_dead(match: L7Match, message: str) -> None:
    for endpoint in (
        dataclasses.replace(REST, rules=(match,)),
        dataclasses.replace(REST, deny_rules=(match,)),
    ):
        assert message in one(endpoint)


@pytest.mark.parametrize(
    ("protocol", "match", "message"),
    [
        ("graphql", L7Match(operation_type="read"), "operation_type must be query, mutation, subscription or '*'"),
        ("graphql", L7Match(operation_type="*"), ""),
        ("websocket", L7Match("WEBSOCKET_TEXT", "/a"), ""),
        ("websocket", L7Match(operation_type="query"), ""),
        ("json-rpc", L7Match(path="/a"), "path is not a matcher of protocol json-rpc"),
        ("mcp", L7Match(), "an mcp matcher needs method or tool"),
        ("mcp", L7Match("tools/call", params=(("name", QueryMatcher(("a b",))),)), "tool names match"),
    ],
)
def test_matchers_of_other_protocols(protocol: str, match: L7Match, message: str) -> None:
    found = problems(Endpoint("a.b", (443,), protocol=protocol, rules=(match,)))
    assert any(message in text for text in found) if message else found == []


def test_attack_b12_empty_never_means_everything() -> None:
    assert "binaries must name at least one executable" in one(RAW, by=())
    assert "rule must contain at least one endpoint" in one()


@pytest.mark.parametrize(
    "binary", ["", "/", "/usr/bin/", "/a/*/", "curl", "/usr/../bin/x", "/a\u202eb", "/a\0", "**", "/a**/b", "/{a,b}*"]
)
def test_binaries_that_name_nothing(binary: str) -> None:
    assert "invalid binary" in one(RAW, by=("/usr/bin/curl", binary))


@pytest.mark.parametrize("key", ["", " r", "a\nb", "a\u200bb", "x" * 201])
def test_rule_names_can_be_printed(key: str) -> None:
    assert problems(RAW, key=key)


def test_attack_g11_the_provider_prefix_is_the_gateways() -> None:
    layered = Policy(rules=(Rule("_provider_x", (RAW,), ("/x",)),))
    assert [p.code for p in validate(layered)] == ["reserved_key"]
    assert validate(layered, provider_layers=True) == []
    assert [p.code for p in validate(Policy(rules=(Rule("_Provider_x", (RAW,), ("/x",)),)))] == ["reserved_key"]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(version=2), "unsupported version 2"),
        (Policy(filesystem=FilesystemPolicy(read_write=("/",))), "read-write path is overly broad: '/'"),
        (Policy(filesystem=FilesystemPolicy(read_write=("//.",))), "read-write path is overly broad"),
        (Policy(filesystem=FilesystemPolicy(read_only=("usr",))), "path must be absolute (start with '/'): 'usr'"),
        (Policy(filesystem=FilesystemPolicy(read_only=("/a/../b",))), "path contains '..' traversal component"),
        (Policy(filesystem=FilesystemPolicy(read_only=("/" + "a" * 4096,))), "path exceeds maximum length"),
        (Policy(filesystem=FilesystemPolicy(read_only=("/a\nb",))), "path contains a NUL or a line break"),
        (Policy(filesystem=FilesystemPolicy(read_only=("/a",) * 257)), "too many filesystem paths (257 > 256)"),
        (Policy(landlock=LandlockPolicy("none")), "unknown compatibility 'none'"),
        (Policy(process=ProcessPolicy("root")), "run_as_user must be 'sandbox' or a numeric UID/GID"),
        (Policy(process=ProcessPolicy("", "0")), "run_as_group must be 'sandbox' or a numeric UID/GID"),
        (Policy(process=ProcessPolicy("4294967295")), "in range [1, 4294967294], got '4294967295'"),
        (Policy(middlewares=(Middleware("m", ""),)), "middleware must name a middleware"),
        (Policy(middlewares=(Middleware("m", "x"), Middleware("n", "x"))), "order 0 is already used by 'm'"),
        (
            Policy(middlewares=(Middleware("m", "x", include=("*",) * 33),)),
            "more than 32 selector patterns",
        ),
        (
            Policy(middlewares=tuple(Middleware(f"m{i}", "x", order=i) for i in range(11))),
            "more than 10 middlewares",
        ),
        (
            Policy(
                middlewares=(Middleware("m", "x", include=("a.example.com",)),),
                rules=(Rule("r", (dataclasses.replace(RAW, tls="skip"),), ("/x",)),),
            ),
            "whose traffic is not terminated",
        ),
    ],
)
def test_static_sections(policy: Policy, message: str) -> None:
    (found,) = validate(policy)
    assert message in found.message


def test_hostile_text_is_escaped_and_bounded_in_messages() -> None:
    hostile = "\x1b[31mapprove\u202e" + "x" * 10_000
    for text in problems(dataclasses.replace(RAW, host=hostile), key=hostile):
        assert text.isprintable()
        assert len(text) < 600


def test_what_can_never_be_judged_is_refused() -> None:
    mcp = Endpoint("a.b", (443,), protocol="mcp", rules=(L7Match("x", params=(("path", QueryMatcher(("*",))),)),))
    assert "'path' is not a parameter that can be judged" in one(mcp)
    graphql = Endpoint("a.b", (443,), protocol="graphql", access="full", persisted_queries="allow_registered")
    bare = (("id", GraphqlOperation("query", "Get")),)
    assert "needs its operation_type and its root fields" in one(
        dataclasses.replace(graphql, graphql_persisted_queries=bare)
    )
    whole = (("id", GraphqlOperation("query", "Get", ("a",))),)
    assert problems(dataclasses.replace(graphql, graphql_persisted_queries=whole)) == []
