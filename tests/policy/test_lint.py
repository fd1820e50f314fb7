from __future__ import annotations

import pytest
from hypothesis import given, settings

from pyopenshell.policy import Policy, dump, load
from pyopenshell.policy.lint import CODES, lint, lint_text
from tests.policy.strategies import policies

RULE = """\
version: 1
network_policies:
  r:
    endpoints: [{endpoint}]
    binaries: [{binaries}]
"""
REST = "host: a.test, port: 443, protocol: rest"
CURL = "{path: /usr/bin/curl}"


def found(endpoint: str, binaries: str = CURL) -> list[str]:
    text = RULE.replace("{endpoint}", "{" + endpoint + "}").replace("{binaries}", binaries)
    return [one.code for one in lint_text(text, "p.yaml", load(text), lint(load(text)))]


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        ("host: '*.a.test', port: 22", "wildcard_host"),
        ("port: 22, allowed_ips: [8.8.8.8]", "no_host"),
        ("host: localhost, port: 22", "unreachable_host"),
        ("host: a.test, port: 22, allowed_ips: [10.0.0.0/8]", "private_addresses"),
        ("host: a.test, port: 443", "not_inspected"),
        ("host: a.test, port: 22, allow_uninspected_credentials: true", "uninspected_credentials"),
        (f"{REST}, access: read-only, enforcement: audit", "audit_mode"),
        ("host: a.test, port: 443, protocol: graphql, access: read-only, graphql_max_body_bytes: 67108865",
         "body_limit"),
        (f"{REST}, access: full", "everything"),
        (f"{REST}, rules: [{{allow: {{method: '*', path: '/**'}}}}]", "everything"),
        (f"{REST}, access: read-write", "writes_everywhere"),
        (f"{REST}, rules: [{{allow: {{method: PUT, path: '**'}}}}]", "writes_everywhere"),
        (f"{REST}, rules: [{{allow: {{method: GET, path: '/a/*'}}}}]", "trailing_star"),
        ("host: api.github.com, port: 443, protocol: rest, access: full, deny_rules: [{method: GET, path: /a}]",
         "case_sensitive_deny"),
        (f"{REST}, access: read-only, allow_encoded_slash: true", "encoded_slash"),
        (f"{REST}, access: read-only, tls: terminate", "tls_deprecated"),
    ],
)  # fmt: skip
def test_endpoints(endpoint: str, code: str) -> None:
    assert found(endpoint) == [code]


@pytest.mark.parametrize("protocol", ["graphql, access: read-only", "mcp, rules: [{allow: {tool: 'get_*'}}]"])
def test_protocols_that_the_proxy_judges_are_no_finding(protocol: str) -> None:
    assert found(f"host: a.test, port: 443, protocol: {protocol}") == []


@pytest.mark.parametrize(
    ("binaries", "code"),
    [
        ("{path: '/**'}", "any_binary"),
        ("{path: /usr/bin/python3.11}", "interpreter"),
        ("{path: /bin/bash}", "interpreter"),
        ("{path: /usr/bin/python*}", "interpreter"),
        ("{path: '/usr/bin/*'}, {path: /usr/bin/curl}", "binary_redundant"),
        ("{path: /usr/bin/curl, harness: true}", "key_ignored"),
    ],
)
def test_binaries(binaries: str, code: str) -> None:
    assert found("host: a.test, port: 22", binaries) == [code]


def test_nothing_to_say() -> None:
    assert found(f"{REST}, rules: [{{allow: {{method: GET, path: '/a/**'}}}}]") == []
    assert found("host: a.test, port: 443, tls: skip") == []
    assert found("host: api.github.com, port: 443, protocol: rest, path_case: insensitive, access: read-only, "
                 "deny_rules: [{method: GET, path: /a}]") == []  # fmt: skip


def test_filesystem() -> None:
    text = "version: 1\nfilesystem_policy: {read_only: [/usr, /tmp], read_write: [/tmp]}\n"
    (one,) = lint_text(text, "p.yaml", load(text), lint(load(text)))
    assert str(one) == "p.yaml:2:39: '/tmp' is also read_write"


def test_places() -> None:
    text = RULE.replace("{endpoint}", "{host: localhost, port: 22}").replace("{binaries}", CURL)
    (one,) = lint_text(text, "p.yaml", load(text), lint(load(text)))
    assert (one.file, one.line, one.column) == ("p.yaml", 4, 17)


@settings(max_examples=100, deadline=None)
@given(policies())
def test_every_valid_policy_can_be_linted(policy: Policy) -> None:
    text = dump(policy)
    for one in lint_text(text, "p.yaml", load(text), lint(policy)):
        assert one.code in CODES
        assert one.line
        assert str(one).isprintable()
