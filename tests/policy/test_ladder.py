from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopenshell.policy import load
from pyopenshell.policy.decision import Condition, Connection
from pyopenshell.policy.engine import compile
from pyopenshell.policy.ladder import RUNGS
from tests.policy.generate import Style, small
from tests.policy.test_engine import _point

POLICY = """\
version: 1
network_policies:
  github:
    endpoints:
      - host: api.github.com
        port: 443
        protocol: rest
        rules:
          - allow: {method: GET, path: /repos/**}
          - allow: {method: PUT, path: /repos/acme/*, query: {ref: "v*"}}
        deny_rules: [{method: "*", path: /repos/secret/**}]
      - {host: api.github.com, port: 443, protocol: graphql, path: /graphql, access: full}
      - {host: raw.github.com, port: 22}
    binaries: [{path: /usr/bin/curl}]
  audit:
    endpoints: [{host: audit.test, port: 443, protocol: rest, path: /v1/**, access: read-only, enforcement: audit}]
    binaries: [{path: /usr/bin/curl}]
"""
CURL = "/usr/bin/curl"


@pytest.mark.parametrize(
    ("host", "port", "binary", "method", "target", "condition"),
    [
        ("api.github.com", 443, "", "GET", "/", Condition.IDENTITY),
        ("127.1", 443, CURL, "GET", "/", Condition.REQUEST_TARGET),
        ("evil.test", 443, CURL, "GET", "/", Condition.HOST),
        ("api.github.com", 80, CURL, "GET", "/", Condition.PORT),
        ("api.github.com", 443, "/bin/wget", "GET", "/", Condition.BINARY),
        ("api.github.com", 443, CURL, "GET", "/..", Condition.REQUEST_TARGET),
        ("api.github.com", 443, CURL, "G T", "/", Condition.REQUEST_TARGET),
        ("api.github.com", 443, CURL, "POST", "/graphql", Condition.PROTOCOL),
        ("api.github.com", 443, CURL, "GET", "/repos/secret/x", Condition.DENY_RULE),
        ("api.github.com", 443, CURL, "GET", "/user", Condition.PATH),
        ("api.github.com", 443, CURL, "PUT", "/repos/x", Condition.METHOD),
        ("api.github.com", 443, CURL, "PUT", "/repos/acme/x?ref=main", Condition.QUERY),
        ("audit.test", 443, CURL, "PUT", "/v1/x", Condition.METHOD),
        ("audit.test", 443, CURL, "GET", "/v2", Condition.ENDPOINT_PATH),
        ("api.github.com", 443, CURL, "PUT", "/repos/acme/x?ref=v1", Condition.NONE),
        ("raw.github.com", 22, CURL, "", "", Condition.NONE),
    ],
)
def test_the_ladder_ends_where_the_decision_does(
    host: str, port: int, binary: str, method: str, target: str, condition: Condition
) -> None:
    explanation = compile(load(POLICY)).explain(Connection(host, port, binary, ("/bin/sh",)), method, target)
    assert explanation.decision.condition is condition
    failed = [rung.condition for rung in explanation.rungs if rung.passed is False]
    assert failed == ([] if condition is Condition.NONE else [condition])
    assert all(line.isprintable() for line in explanation.lines())


def test_a_whole_ladder() -> None:
    explanation = compile(load(POLICY)).explain(Connection("API.github.com", 443, CURL), "PUT", "/repos/../repos/x")
    assert explanation.lines() == [
        "PUT /repos/../repos/x on API.github.com:443 by /usr/bin/curl",
        "  ✓ who asks       /usr/bin/curl",
        "  ✓ spelling       the host is api.github.com",
        "  ✓ any rules      2 rules, 3 grants",
        "  ✓ host           api.github.com is matched by api.github.com",
        "  ✓ port           443, named by rule 'github'",
        "  ✓ binary         /usr/bin/curl matches the program in rule 'github'",
        "  · inspection     every request is judged (rest, graphql)",
        "  ✓ spelling       the path is judged and forwarded as /repos/x",
        "  ✓ endpoint path  /** (rule 'github')",
        "  ✓ protocol       rest, graphql",
        "  ✓ deny rules     none of 1 matches",
        "  ✓ path           /repos/x is matched by GET /repos/** (rule 'github')",
        "  ✗ method         PUT /repos/x not permitted by policy",
        "  → nearest: method PUT, allowed on this path: GET; allowed: PUT /repos/acme/* (rule 'github')",
        "  = denied (method_not_allowed): PUT /repos/x not permitted by policy",
    ]


def test_audit_says_that_it_forwards_what_is_refused() -> None:
    explanation = compile(load(POLICY)).explain(Connection("audit.test", 443, CURL), "PUT", "/v1/x")
    assert explanation.verdict.startswith("forwarded although refused, rule 'audit' only audits: PUT /v1/x")
    assert explanation.rungs[-1].name == "audit"


def test_ancestors_are_named() -> None:
    explanation = compile(load(POLICY)).explain(Connection("raw.github.com", 22, "/bin/sh", (CURL,)))
    assert "/usr/bin/curl matches ancestor /usr/bin/curl in rule 'github'" in str(explanation)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9))
def test_no_question_breaks_the_ladder(seed: int) -> None:
    rng = random.Random(seed)
    engine = compile(small(rng, 3, Style(classes=0.2, extras=True)))
    for _ in range(10):
        point = _point(rng)
        connection = Connection(point.host, point.port, point.chain[0], point.chain[1:])
        explanation = engine.explain(connection, point.method or "", point.path)
        decision = engine.decide(connection, point.method or "", point.path)
        assert explanation.decision == decision
        failed = [rung.condition for rung in explanation.rungs if rung.passed is False]
        assert failed == ([decision.condition] if decision.condition is not Condition.NONE else [])


def test_every_condition_has_a_rung() -> None:
    assert set(RUNGS) == set(Condition) - {Condition.NONE}
