"""What reviewers read: regions of typical proposals, and the classes of change that a summary must not miss."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopenshell.policy.engine import compile
from pyopenshell.policy.model import Endpoint, L7Match, Policy, QueryMatcher, Rule
from pyopenshell.proof.delta import Delta, delta
from pyopenshell.proof.requests import permits
from tests.policy.generate import Style, large, mutate, small

CURL = "/usr/bin/curl"
HOST = "api.github.com"


def rest(*rules: L7Match, **fields: Any) -> Endpoint:
    return dataclasses.replace(Endpoint(HOST, (443,), protocol="rest", rules=rules), **fields)


def policy(*endpoints: Endpoint, binaries: tuple[str, ...] = (CURL,), key: str = "github") -> Policy:
    return Policy(rules=(Rule(key, endpoints, binaries),))


def plus(before: Policy, *endpoints: Endpoint, binaries: tuple[str, ...] = (CURL,)) -> Policy:
    return Policy(rules=(*before.rules, Rule("proposal", endpoints, binaries)))


READ = policy(rest(access="read-only"))
ONE_FILE = L7Match("PUT", "/repos/acme/site/contents/README.md")


def texts(change: Delta) -> list[str]:
    assert change.proven
    return [region.text for region in change.regions]


def test_one_file() -> None:
    change = delta(READ, plus(READ, rest(ONE_FILE)))
    assert texts(change) == [
        "PUT to exactly 1 path on api.github.com:443 by /usr/bin/curl: "
        "/repos/acme/site/contents/README.md (any query string)"
    ]
    (region,) = change.regions
    assert (region.reason, region.uninspected, region.paths, region.breadth) == ("new grant", False, 1, 0.0)
    assert region.witness == f"PUT {HOST}:443/repos/acme/site/contents/README.md by {CURL}"


def test_nothing_new() -> None:
    assert delta(READ, READ).empty
    assert delta(READ, plus(READ, rest(L7Match("GET", "/repos/**")))).empty
    assert str(delta(READ, Policy())) == "(nothing newly permitted)"
    shadowed = policy(rest(access="full", deny_rules=(L7Match("DELETE", "/**"),)))
    assert delta(shadowed, plus(shadowed, rest(L7Match("DELETE", "/repos/x")))).empty
    # a raw endpoint beside an inspected one for the same binary opens nothing
    assert delta(READ, plus(READ, Endpoint(HOST, (443,)))).empty


def test_presets_and_literal_paths_are_merged() -> None:
    (line,) = texts(delta(Policy(), READ))
    assert line.startswith("GET, HEAD, OPTIONS to unboundedly many paths on api.github.com:443 by /usr/bin/curl: /**")
    wanted = [L7Match(method, path) for method in ("PUT", "POST") for path in ("/a", "/b")]
    (line,) = texts(delta(READ, plus(READ, rest(*wanted))))
    expected = "PUT, POST to exactly 2 paths on api.github.com:443 by /usr/bin/curl: /a, /b "
    expected += "(any query string)  e.g. PUT /a"
    assert line == expected


def test_merging_is_a_true_product() -> None:
    both = Policy(
        rules=(
            Rule("a", (rest(L7Match("PUT", "/x")),), ("/bin/a",)),
            Rule("b", (rest(L7Match("DELETE", "/x")),), ("/bin/b",)),
        )
    )
    assert len(texts(delta(Policy(), both))) == 2


def test_carve_outs_are_named() -> None:
    before = policy(
        rest(L7Match("PUT", "/repos/acme/site/contents/*"), deny_rules=(L7Match("PUT", "/repos/acme/prod/**"),))
    )
    (line,) = texts(delta(before, plus(before, rest(L7Match("PUT", "/repos/acme/**")))))
    assert "except already allowed PUT /repos/acme/site/contents/*" in line
    assert "except denied PUT /repos/acme/prod/**" in line
    assert "  e.g. PUT /repos/acme/x" in line


def test_lifted_deny() -> None:
    before = policy(rest(access="full", deny_rules=(L7Match("DELETE", "/repos/**"),)))
    (region,) = delta(before, policy(rest(access="full"))).regions
    assert region.text.startswith("DELETE to unboundedly many paths on api.github.com:443 by /usr/bin/curl: /repos/**")
    assert region.reason == "deny no longer applies: DELETE /repos/**"


def test_raw_grants_come_first() -> None:
    change = delta(READ, plus(READ, Endpoint("*.github.com", (443,)), rest(ONE_FILE), binaries=("/usr/bin/git",)))
    assert change.regions[0].uninspected
    assert change.regions[0].text == "RAW uninspected traffic to *.github.com:443 by /usr/bin/git  [new grant]"
    assert not change.regions[-1].uninspected


def test_removing_inspection_is_a_new_right() -> None:
    before = Policy(rules=(Rule("raw", (Endpoint(HOST, (443,)),), (CURL,)), *READ.rules))
    (region,) = [r for r in delta(before, Policy(rules=before.rules[:1])).regions if r.uninspected]
    assert region.reason in ("inspection removed", "new grant")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (READ, policy(rest(access="read-only", enforcement="audit")), "audit mode forwards everything"),
        (READ, policy(rest(access="read-only", tls="skip")), "new grant"),
        (READ, policy(rest(access="read-only", allow_encoded_slash=True)), "encoded slash accepted"),
        (READ, policy(rest(access="read-only"), binaries=("/usr/bin/*",)), "new grant"),
        (READ, policy(rest(access="read-only", host="*.github.com")), "new grant"),
        (READ, policy(rest(access="read-only", ports=(443, 8443))), "new grant"),
        (
            policy(rest(L7Match("GET", "/s", (("q", QueryMatcher(("a*",))),)))),
            policy(rest(L7Match("GET", "/s", (("q", QueryMatcher(("*",))),)))),
            "new grant",
        ),
        (
            policy(rest(access="full", deny_rules=(L7Match("*", "/x/**"),), path_case="insensitive")),
            policy(rest(access="full", deny_rules=(L7Match("*", "/x/**"),))),
            "deny no longer applies: /x/**",
        ),
        (
            policy(rest(L7Match("GET", "/v?"))),
            policy(rest(L7Match("GET", "/v[!1]*"))),
            "new grant",
        ),
    ],
)
def test_no_widening_is_silent(before: Policy, after: Policy, reason: str) -> None:
    change = delta(before, after)
    assert change.proven
    assert reason in {region.reason for region in change.regions}, str(change)


def test_chains_are_seen() -> None:
    before = Policy(
        rules=(
            Rule("a", (Endpoint(HOST, (443,)),), ("/bin/a",)),
            Rule("b", (rest(L7Match("GET", "/x")),), ("/bin/b",)),
        )
    )
    (region,) = delta(before, Policy(rules=before.rules[:1])).regions
    assert region.request.chain == ("/bin/a", "/bin/b")


def test_private_networks() -> None:
    before = policy(Endpoint("db.internal.test", (5432,), advisor_proposed=True))
    after = policy(Endpoint("db.internal.test", (5432,), advisor_proposed=True, allowed_ips=("10.1.0.0/16",)))
    (region,) = delta(before, after).regions
    assert region.reason == "private addresses"
    assert "10.1.0.0/16 behind db.internal.test:5432 by /usr/bin/curl" in region.text
    assert delta(after, before).empty
    wider = policy(Endpoint("db.internal.test", (5432,), advisor_proposed=True, allowed_ips=("10.0.0.0/8",)))
    assert delta(wider, after).empty
    assert not delta(after, wider).empty
    declared = policy(Endpoint("db.internal.test", (5432,)))
    assert delta(before, declared).regions[0].reason == "private addresses"
    (hostless, *_) = delta(Policy(), policy(Endpoint("", (443,), allowed_ips=("10.0.0.0/8",)))).regions
    assert hostless.uninspected
    assert "(any host):443" in hostless.text


def test_hostile_text_is_escaped() -> None:
    change = delta(Policy(), policy(rest(ONE_FILE), binaries=("/tmp/x\n\x1b[2J\u202e",)))
    assert all(region.text.isprintable() and region.witness.isprintable() for region in change.regions)


def test_undecided_is_never_silent() -> None:
    before, after = policy(rest(L7Match("GET", "/**/a/**/b/**"))), policy(rest(L7Match("GET", "/**/b/**/a/**")))
    change = delta(before, after, steps=60)
    assert not change.proven
    assert not change.empty
    assert "not proven" in change.regions[0].text
    assert delta(before, after).proven


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9))
def test_every_region_has_a_confirmed_witness(seed: int) -> None:
    rng = random.Random(seed)
    style = Style(classes=0.1, extras=True)
    before = small(rng, 2, style)
    after = mutate(rng, before, style)
    change = delta(before, after)
    assert change.proven
    old, new = compile(before), compile(after)
    for region in change.regions:
        if region.reason != "private addresses":
            assert permits(new, region.request)
            assert not permits(old, region.request)


def test_large_policies_are_equal_to_themselves() -> None:
    for dense in (False, True):
        before = large(1000, dense=dense)
        shuffled = Policy(
            rules=tuple(
                dataclasses.replace(
                    rule,
                    key="x" + rule.key,
                    endpoints=tuple(dataclasses.replace(e, rules=e.rules[::-1]) for e in rule.endpoints),
                    binaries=rule.binaries[::-1],
                )
                for rule in before.rules[::-1]
            )
        )
        assert delta(before, shuffled).empty
        assert delta(shuffled, before).empty
