from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyopenshell.policy import Endpoint, L7Match, Policy, QueryMatcher, Rule, merge
from pyopenshell.policy.proposal import MAX_BODY, ProposalError, parse

ENDPOINT: dict[str, Any] = {
    "host": "api.github.com",
    "port": 443,
    "protocol": "rest",
    "enforcement": "enforce",
    "rules": [{"allow": {"method": "PUT", "path": "/repos/acme/site/contents/README.md"}}],
}


def body(*endpoints: dict[str, Any], **rule: Any) -> bytes:
    whole = {"endpoints": list(endpoints or [ENDPOINT]), "binaries": [{"path": "/usr/bin/curl"}]} | rule
    return json.dumps({"operations": [{"addRule": {"ruleName": "put_readme", "rule": whole}}]}).encode()


def refusal(raw: bytes | Any) -> str:
    with pytest.raises(ProposalError) as caught:
        parse(raw if isinstance(raw, bytes) else json.dumps(raw).encode())
    assert str(caught.value) == caught.value.detail
    return caught.value.detail


def with_endpoint(**change: Any) -> bytes:
    return body({key: value for key, value in (ENDPOINT | change).items() if value is not None})


def test_the_example_of_the_contract() -> None:
    proposal = parse(body())
    rule = Rule(
        "put_readme",
        (
            Endpoint(
                "api.github.com",
                (443,),
                protocol="rest",
                rules=(L7Match("PUT", "/repos/acme/site/contents/README.md"),),
                advisor_proposed=True,
            ),
        ),
        ("/usr/bin/curl",),
    )
    assert proposal.operations == (merge.AddRule("put_readme", rule),)
    assert (proposal.intent_summary, proposal.ignored) == ("", ())
    assert merge.apply(Policy(), proposal.operations).policy.rules == (rule,)


def test_every_matcher_is_kept_not_dropped() -> None:
    allow = {"method": "get", "path": "/a", "query": {"q": "1", "r": {"any": ["a", "b"]}}}
    (operation,) = parse(
        with_endpoint(rules=[{"allow": allow}], deny_rules=[{"method": "GET", "path": "/a/b"}])
    ).operations
    (endpoint,) = operation.rule.endpoints
    assert endpoint.rules == (L7Match("GET", "/a", (("q", QueryMatcher(("1",))), ("r", QueryMatcher(("a", "b"))))),)
    assert endpoint.deny_rules == (L7Match("GET", "/a/b"),)


def test_names() -> None:
    assert parse(body(name="shown")).operations[0].rule.name == "shown"
    unnamed = {
        "operations": [{"addRule": {"rule": {"name": "n", "endpoints": [ENDPOINT], "binaries": [{"path": "/x"}]}}}]
    }
    assert parse(json.dumps(unnamed).encode()).operations[0].rule_name == "n"


def test_attack_g5_mixed_case_arrives_in_one_form() -> None:
    (operation,) = parse(with_endpoint(host="API.GitHub.COM.", ports=[443, 443], port=None)).operations
    assert operation.rule.endpoints[0].host == "api.github.com"
    assert operation.rule.endpoints[0].ports == (443,)


def test_allowed_ips_are_reported_and_never_granted() -> None:
    proposal = parse(with_endpoint(allowed_ips=["10.0.0.0/8"]))
    assert proposal.operations[0].rule.endpoints[0].allowed_ips == ()
    (text,) = proposal.ignored
    assert "allowed_ips of api.github.com:443 ('10.0.0.0/8') was not taken over" in text


ADD = {"ruleName": "r", "rule": {"endpoints": [ENDPOINT], "binaries": [{"path": "/x"}]}}


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b"", "not valid JSON: "),
        (b"\xff", "the body is not UTF-8 text"),
        (b'{"operations": NaN}', "not valid JSON: NaN is not a JSON number"),
        (b'"\\ud800"', "a lone surrogate"),
        (b"[" * 60_000, "nested deeper than 32 levels"),
        (b" " * (MAX_BODY + 1), f"the body is larger than {MAX_BODY} bytes"),
        ([], "the document must be an object with operations, not a list"),
        ({}, "proposal requires at least one operation"),
        ({"operations": []}, "proposal requires at least one operation"),
        ({"operations": {}}, "operations must be a list of operations, not a mapping"),
        ({"operations": [ADD] * 17}, "proposal has more than 16 operations"),
        ({"operations": [ADD], "x": 1}, "x: unknown key 'x'; expected one of: intent_summary, operations"),
        ({"operations": [{"addRule": ADD}], "intent_summary": 1}, "intent_summary must be text, not the number 1"),
        ({"operations": [{"addRule": ADD}], "intent_summary": "x" * 5000}, "intent_summary is longer than 4096"),
        (
            {"operations": [{"add_rule": ADD}]},
            "this MVP accepts `addRule` operations; submit a full narrow NetworkPolicyRule",
        ),
        ({"operations": [{"addRule": ADD, "removeRule": {}}]}, "unknown key 'removeRule'"),
        ({"operations": [{"addRule": ADD | {"mode": "x"}}]}, "operations[0].addRule.mode: unknown key 'mode'"),
        ({"operations": [{"addRule": {"ruleName": "r"}}]}, "operations[0].addRule.rule is required"),
        ({"operations": [{"addRule": {"rule": ADD["rule"]}}]}, "addRule.ruleName or rule.name is required"),
        (
            {"operations": [{"addRule": {"ruleName": " ", "rule": ADD["rule"]}}]},
            "addRule.ruleName or rule.name is required",
        ),
        ({"operations": [{"addRule": ADD | {"rule": {}}}]}, "rule.endpoints must contain at least one endpoint"),
        (
            {"operations": [{"addRule": ADD | {"rule": {"endpoints": []}}}]},
            "rule.endpoints must contain at least one endpoint",
        ),
        ({"operations": [{"addRule": ADD | {"ruleName": "_provider_x"}}]}, "addRule.ruleName must be"),
        ({"operations": [{"addRule": ADD | {"ruleName": "a\u202eb"}}]}, "addRule.ruleName must be"),
        ({"operations": [{"addRule": ADD | {"ruleName": "a\nb"}}]}, "addRule.ruleName must be"),
        (with_endpoint(host=None), "endpoint.host is required"),
        (with_endpoint(host=" "), "endpoint.host is required"),
        (with_endpoint(port=None), "endpoint.port or endpoint.ports is required"),
        (with_endpoint(port=None, ports=[]), "must declare at least one port"),
        (with_endpoint(port="443"), "port must be a whole number, not the text '443'"),
        (with_endpoint(port=443.5), "port must be a whole number, not the number 443.5"),
        (with_endpoint(port=70000), "has invalid port 70000; expected 1..=65535"),
        (
            with_endpoint(rules=[{"allow": {"method": "GET", "path": "/a?b=c"}}]),
            "L7 allow paths must not include query strings",
        ),
        (
            with_endpoint(rules=[{"allow": {"method": "GET", "path": "/a?"}}]),
            "L7 allow paths must not include query strings",
        ),
        (with_endpoint(rules=[{"allow": {"method": "GET"}}]), 'path is missing; add "path": "/exact/path"'),
        (with_endpoint(rules=[{"allow": {"path": "/"}}]), 'method is missing; add "method": "GET"'),
        (
            with_endpoint(rules=[{"allow": {"method": "GET", "path": "/", "pth": 1}}]),
            "unknown key 'pth'; did you mean 'path'?",
        ),
        (with_endpoint(rules=[{"deny": {}}]), "unknown key 'deny'"),
        (with_endpoint(rules=[]), "rules list cannot be empty"),
        (
            with_endpoint(protocol=None),
            'rules requires protocol (L7 inspection must be enabled); add "protocol": "rest"',
        ),
        (with_endpoint(rules=None), "protocol requires rules or access to define allowed traffic"),
        (with_endpoint(advisor_proposed=False), "unknown key 'advisor_proposed'"),
        (with_endpoint(provider_credentialed=True), "unknown key 'provider_credentialed'"),
        (with_endpoint(credential_binding={"provider": "x"}), "unknown key 'credential_binding'"),
        (with_endpoint(enforcement="off"), "unknown enforcement 'off'"),
        (with_endpoint(protocol="tcp", rules=None), "agent-authored proposals cannot request protocol tcp"),
        (with_endpoint(tls="skip"), "agent-authored proposals cannot request tls: skip"),
        (with_endpoint(host="*.com"), "TLD wildcard '*.com' is not allowed"),
        (with_endpoint(host="**.github.io"), "anybody can register a name there"),
        (with_endpoint(host="169.254.169.254"), "is always blocked"),
        (with_endpoint(host="metadata.google.internal"), "is always blocked"),
        (with_endpoint(host="localhost"), "is always blocked"),
        (body(binaries=[]), 'binaries must name at least one executable; add "binaries"'),
        (body(binaries=[{"path": "curl"}]), "invalid binary 'curl'"),
        (body(binaries=["/usr/bin/curl"]), "a binary is a mapping with a path"),
        (body(extra=1), "unknown key 'extra'"),
        (body({}), "endpoint.host is required"),
        (b'{"operations":[],"operations":[]}', "duplicate key 'operations'"),
        (
            b'{"operations":[{"addRule":{"ruleName":"r","rule":{"endpoints":[{"host":"a.b","host":"evil.com","port":1}]}}}]}',
            "duplicate key 'host' in operations[0].addRule.rule.endpoints[0]",
        ),
    ],
)
def test_refused_with_a_sentence_that_helps(raw: bytes | Any, detail: str) -> None:
    assert detail in refusal(raw)


def test_details_are_printable_and_bounded() -> None:
    keys = {f"\x1b[2J\u202e{i}" + "k" * 200: 1 for i in range(100)}
    text = refusal({"operations": [{"addRule": ADD | {"rule": ADD["rule"] | keys}}]})  # type: ignore[operator]
    assert text.isprintable()
    assert len(text) < 3000
    assert "and 95 more" in text


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


def only_refuses(raw: bytes) -> None:
    try:
        proposal = parse(raw)
    except ProposalError:
        return
    assert proposal.operations
    assert all(e.advisor_proposed and not e.allowed_ips for op in proposal.operations for e in op.rule.endpoints)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_proposal_or_a_proposal_error(raw: bytes) -> None:
    only_refuses(raw)


@settings(deadline=None)
@given(st.data())
def test_any_value_anywhere_too(data: st.DataObject) -> None:
    """The example with one place replaced by arbitrary JSON."""
    document = json.loads(body())
    node: Any = document
    while True:
        steps = list(node) if isinstance(node, dict) else list(range(len(node)))
        step = data.draw(st.sampled_from(steps))
        deeper = isinstance(node[step], dict | list) and node[step] and data.draw(st.booleans())
        if not deeper:
            node[step] = data.draw(_json)
            break
        node = node[step]
    only_refuses(json.dumps(document).encode())
