from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyopenshell.policy import Endpoint, L7Match, Policy, Rule
from pyopenshell.policy.conflicts import conflicts, new_conflicts
from pyopenshell.policy.coverage import host_overlaps
from tests.cost import cost

GET = L7Match("GET", "/a")
REST = Endpoint("a.example.com", (443,), protocol="rest", rules=(GET,))
RAW = Endpoint("a.example.com", (443,))


def found(one: Endpoint, other: Endpoint) -> list[str]:
    policy = Policy(rules=(Rule("r", (one,), ("/x",)), Rule("s", (other,), ("/y",))))
    return [problem.message for problem in conflicts(policy)]


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (dataclasses.replace(REST, enforcement="audit"), "enforcement (enforce and audit)"),
        (dataclasses.replace(REST, protocol="websocket"), "protocol (rest and websocket)"),
        (dataclasses.replace(RAW, tls="skip"), "tls (automatic and skip)"),
        (dataclasses.replace(RAW, protocol="tcp"), "protocol (rest and tcp)"),
        (dataclasses.replace(REST, host="*.example.com", enforcement="audit"), "enforcement"),
        (dataclasses.replace(REST, ports=(80, 443), enforcement="audit"), "enforcement"),
    ],
)
def test_contradictions_name_both_endpoints(other: Endpoint, field: str) -> None:
    (message,) = found(REST, other)
    assert "a.example.com:443 in rule 'r'" in message
    assert "in rule 's'" in message
    assert f"differ in {field}" in message


@pytest.mark.parametrize(
    "other",
    [
        RAW,
        dataclasses.replace(REST, rules=(L7Match("PUT", "**"),), deny_rules=(GET,)),
        dataclasses.replace(REST, rules=(), access="full"),
        dataclasses.replace(REST, advisor_proposed=True),
        dataclasses.replace(REST, provider_credentialed=True),
        dataclasses.replace(REST, enforcement="audit", host="b.example.com"),
        dataclasses.replace(REST, enforcement="audit", ports=(80,)),
        dataclasses.replace(REST, enforcement="audit", path="/v1/**"),
        dataclasses.replace(REST, allowed_ips=("10.0.0.0/8",)),
        dataclasses.replace(REST, credential_signing="sigv4", signing_service="s3", websocket_credential_rewrite=True),
        dataclasses.replace(REST, allow_encoded_slash=True),
    ],
)
def test_what_is_no_contradiction(other: Endpoint) -> None:
    assert found(REST, other) == []


def test_two_different_statements_about_the_same_thing() -> None:
    with_ips = dataclasses.replace(REST, allowed_ips=("10.0.0.0/8",))
    assert "differ in allowed_ips" in found(with_ips, dataclasses.replace(REST, allowed_ips=("10.1.0.0/16",)))[0]
    signed = dataclasses.replace(REST, credential_signing="sigv4", signing_service="s3")
    assert "signing_service (s3 and ec2)" in found(signed, dataclasses.replace(signed, signing_service="ec2"))[0]


def test_equal_specificity_and_overlap_of_paths() -> None:
    scoped = dataclasses.replace(REST, path="/a/**")
    assert found(scoped, dataclasses.replace(scoped, path="/b/**", enforcement="audit")) == []
    assert len(found(scoped, dataclasses.replace(scoped, path="/*/a", enforcement="audit"))) == 1
    assert len(found(scoped, dataclasses.replace(scoped, enforcement="audit"))) == 1


def test_raw_endpoints_may_skip_or_not() -> None:
    assert found(RAW, dataclasses.replace(RAW, tls="skip")) == []


def test_a_moved_port_is_not_a_new_conflict() -> None:
    audit = dataclasses.replace(REST, enforcement="audit", ports=(80, 443))
    before = Policy(
        rules=(Rule("r", (dataclasses.replace(REST, ports=(80, 443)),), ("/x",)), Rule("s", (audit,), ("/x",)))
    )
    after = Policy(rules=(Rule("r", (REST,), ("/x",)), Rule("s", (audit,), ("/x",))))
    assert conflicts(after)
    assert new_conflicts(before, after) == []
    assert new_conflicts(Policy(), after)


HOST_SHAPES = st.sampled_from(
    [
        "a.x.com",
        "b.x.com",
        "a.b.x.com",
        "x.com",
        "*.x.com",
        "**.x.com",
        "a*.x.com",
        "*.*.com",
        "*.b.x.com",
        "b.y.com",
        "",
        "10.0.0.1",
        "*b.x.com",
        "**.b.x.com",
    ]
)


@settings(deadline=None)
@given(st.lists(st.tuples(HOST_SHAPES, st.booleans(), st.sampled_from([(443,), (80,), (80, 443)])), max_size=7))
def test_a_conflict_is_found_exactly_where_two_endpoints_have_one(
    made: list[tuple[str, bool, tuple[int, ...]]],
) -> None:
    endpoints = [
        dataclasses.replace(
            REST,
            host=host,
            ports=ports,
            enforcement="audit" if audit else "enforce",
            allowed_ips=() if host else ("10.0.0.0/8",),
        )
        for host, audit, ports in made
    ]
    together = Policy(rules=tuple(Rule(f"r{n}", (e,), ("/x",)) for n, e in enumerate(endpoints)))
    two_by_two = any(
        one.enforcement != other.enforcement
        and host_overlaps(one.host, other.host)
        and set(one.ports) & set(other.ports)
        for one, other in itertools.combinations(endpoints, 2)
    )
    assert bool(conflicts(together)) == two_by_two


def test_a_thousand_wildcards_are_quick() -> None:
    rules = tuple(
        Rule(f"r{i}", (dataclasses.replace(REST, host=f"{'*' if i % 2 else 'a'}.h{i // 2}.example.com"),), ("/x",))
        for i in range(2000)
    )
    found, units = cost(lambda: conflicts(Policy(rules=rules)))
    assert found == []
    assert units < 125


def test_ten_thousand_endpoints_are_quick() -> None:
    """proof.md 9: ambiguity of 10,000 endpoints below 150 ms; the factor is for a machine shared with other tests."""
    rules = tuple(
        Rule(f"r{i}", (Endpoint(f"h{i % 5000}.example{i % 7}.com", (443,), protocol="rest", rules=(GET,)),), ("/x",))
        for i in range(10_000)
    )
    wild = Rule("w", (dataclasses.replace(REST, host="*.example1.com"),), ("/x",))
    found, units = cost(lambda: conflicts(Policy(rules=(*rules, wild))))
    assert found == []
    assert units < 375
