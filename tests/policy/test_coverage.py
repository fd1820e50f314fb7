from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pyopenshell.policy import Connection, Endpoint, L7Match, Policy, QueryMatcher, Rule, covers
from pyopenshell.policy import compile as compile_policy
from pyopenshell.policy.coverage import (
    Mode,
    binary_covers,
    binary_overlaps,
    gaps,
    host_covers,
    host_overlaps,
    match_covers,
    match_overlaps,
    path_covers,
    path_overlaps,
)
from pyopenshell.policy.hosts import host_matches
from tests.cost import cost
from tests.policy.generate import large
from tests.policy.strategies import (
    SMALL_BINARIES,
    SMALL_HOSTS,
    SMALL_METHODS,
    SMALL_PATHS,
    SMALL_PORTS,
    policies,
    small_policies,
    small_rules,
)

CURL = "/usr/bin/curl"


def rest(host: str = "a.b", *rules: L7Match, ports: tuple[int, ...] = (443,), **more: object) -> Endpoint:
    return dataclasses.replace(Endpoint(host, ports, protocol="rest", rules=rules), **more)  # type: ignore[arg-type]


def covered(loaded: Endpoint, asked: Endpoint, have: str = CURL, want: str = CURL) -> bool:
    return covers(Policy(rules=(Rule("r", (loaded,), (have,)),)), Rule("p", (asked,), (want,)))


GET = L7Match("GET", "/a")
ANY = L7Match("*", "**")
QUERY = L7Match("GET", "/a", (("q", QueryMatcher(("1",))),))


@pytest.mark.parametrize(
    ("loaded", "asked", "expected"),
    [
        (rest("a.b", GET), rest("a.b", GET), True),
        (rest("a.b", GET), rest("a.c", GET), False),
        (rest("*.b.c", GET), rest("a.b.c", GET), True),
        (rest("**.b.c", GET), rest("*.b.c", GET), True),
        (rest("*.b.c", GET), rest("**.b.c", GET), False),
        (rest("a.b", GET, ports=(80, 443)), rest("a.b", GET), True),
        (rest("a.b", GET), rest("a.b", GET, ports=(80, 443)), False),
        (rest("a.b", L7Match("GET", "/**")), rest("a.b", GET), True),
        (rest("a.b", GET), rest("a.b", L7Match("HEAD", "/a")), True),
        (rest("a.b", L7Match("HEAD", "/a")), rest("a.b", GET), False),
        (rest("a.b", ANY), rest(access="full"), True),
        (rest(access="read-only"), rest("a.b", GET), True),
        (rest(access="read-only"), rest("a.b", L7Match("PUT", "/a")), False),
        (rest("a.b", GET), rest("a.b", QUERY), True),
        (rest("a.b", QUERY), rest("a.b", GET), False),
        (rest("a.b", GET, enforcement="audit"), rest("a.b", GET), False),
        (rest("a.b", GET), rest("a.b", GET, enforcement="audit"), False),
        (rest("a.b", GET, allow_encoded_slash=True), rest("a.b", GET), True),
        (rest("a.b", GET), rest("a.b", GET, allow_encoded_slash=True), False),
        (rest("a.b", GET, path="/a/**"), rest("a.b", GET), False),
        (rest("a.b", GET), rest("a.b", GET, path="/a/**"), True),
        (rest("a.b", GET, deny_rules=(GET,)), rest("a.b", GET), False),
        (rest("a.b", ANY, deny_rules=(L7Match("DELETE", "**"),)), rest("a.b", GET), True),
        (rest("a.b", GET, deny_rules=(GET,)), rest("a.b", GET, deny_rules=(GET,)), True),
        (rest("a.b", GET), rest("a.b", GET, deny_rules=(L7Match("GET", "/a/b"),)), False),
        (rest("a.b", GET, allowed_ips=("10.0.0.0/8",)), rest("a.b", GET, allowed_ips=("10.1.0.0/16",)), True),
        (rest("a.b", GET, allowed_ips=("10.1.0.0/16",)), rest("a.b", GET, allowed_ips=("10.0.0.0/8",)), False),
        (rest("a.b", GET), rest("a.b", GET, allowed_ips=("10.0.0.1",)), False),
        (rest("a.b", GET), Endpoint("a.b", (443,)), True),
        (Endpoint("a.b", (443,)), rest("a.b", GET), False),
        (Endpoint("a.b", (443,), tls="skip"), Endpoint("a.b", (443,)), False),
        (rest("a.b", GET), rest("a.b", GET, advisor_proposed=True), True),
    ],
)
def test_by_meaning(loaded: Endpoint, asked: Endpoint, expected: bool) -> None:
    assert covered(loaded, asked) is expected


@pytest.mark.parametrize(
    ("have", "want", "expected"),
    [
        (CURL, CURL, True),
        ("/**", CURL, True),
        ("/usr/bin/*", CURL, True),
        ("/usr/*", CURL, False),
        ("/**", "/usr/**", True),
        ("/usr/**", "/**", False),
        (CURL, "/**", False),
    ],
)
def test_binaries(have: str, want: str, expected: bool) -> None:
    assert covered(rest("a.b", GET), rest("a.b", GET), have, want) is expected


def test_units_may_be_covered_by_different_rules() -> None:
    policy = Policy(rules=(Rule("r", (rest("a.b", GET),), ("/x",)), Rule("s", (rest("a.b", GET),), ("/y",))))
    assert covers(policy, Rule("p", (rest("a.b", GET),), ("/x", "/y")))
    assert not covers(policy, Rule("p", (rest("a.b", GET),), ("/x", "/z")))


def test_allows_of_several_endpoints_add_up() -> None:
    policy = Policy(rules=(Rule("r", (rest("a.b", GET), rest("a.b", L7Match("PUT", "/a"))), (CURL,)),))
    assert covers(policy, Rule("p", (rest("a.b", GET, L7Match("PUT", "/a")),), (CURL,)))


def test_nothing_covers_and_is_covered_by_nothing() -> None:
    full = Policy(rules=(Rule("r", (rest("a.b", ANY),), ("/**",)),))
    assert not covers(full, Rule("p", (rest("a.b", GET),), ()))
    assert not covers(full, Rule("p", (), (CURL,)))
    assert not covers(Policy(rules=(Rule("r", (rest("a.b", ANY),), ()),)), Rule("p", (rest("a.b", GET),), (CURL,)))


def test_a_deny_in_another_rule_counts() -> None:
    deny = rest("*.b.c", ANY, deny_rules=(L7Match("GET", "/a/**"),))
    policy = Policy(rules=(Rule("r", (rest("a.b.c", ANY),), (CURL,)), Rule("s", (deny,), ("/usr/bin/*",))))
    assert not covers(policy, Rule("p", (rest("a.b.c", L7Match("GET", "/a/b")),), (CURL,)))
    assert covers(policy, Rule("p", (rest("a.b.c", L7Match("GET", "/b")),), (CURL,)))


@settings(deadline=None)
@given(policies())
def test_every_rule_covers_itself_but_for_its_own_denies(policy: Policy) -> None:
    for rule in policy.rules:
        assert covers(Policy(rules=(rule,)), rule)


@settings(deadline=None, max_examples=300)
@given(small_policies(), small_rules(), st.integers(0, 3))
def test_covered_means_permitted(policy: Policy, rule: Rule, known: int) -> None:
    inspected = tuple(e for e in rule.endpoints if e.inspected and e.enforcement == "enforce")
    rule = dataclasses.replace(rule, endpoints=inspected)
    if known:
        policy = Policy(rules=(*policy.rules[known - 1 :], dataclasses.replace(rule, key="known")))
    if not covers(policy, rule):
        return
    event("covered")
    asked, loaded = compile_policy(Policy(rules=(rule,))), compile_policy(policy)
    for host, port, binary in itertools.product(SMALL_HOSTS, SMALL_PORTS, SMALL_BINARIES):
        connection = Connection(host, port, binary)
        if not asked.connect(connection).decision:
            continue
        for method, path in itertools.product(SMALL_METHODS, SMALL_PATHS):
            if asked.decide(connection, method, path):
                assert loaded.decide(connection, method, path)


@pytest.mark.parametrize(
    ("deny", "allow", "expected"),
    [
        ("/a", "/a/", False),
        ("/a/", "/a", False),
        ("/a/*", "/a", False),
        ("/a/**", "/a", False),
        ("/a", "/a/b", True),
        ("/A/**", "/a/b", True),
    ],
)
def test_denies_match_modulo_one_trailing_slash(deny: str, allow: str, expected: bool) -> None:
    loaded = rest("a.b", ANY, deny_rules=(L7Match("GET", deny),))
    asked = rest("a.b", L7Match("GET", allow))
    assert covered(loaded, asked) is expected
    connection = Connection("a.b", 443, CURL)
    engine = compile_policy(Policy(rules=(Rule("r", (loaded,), (CURL,)),)))
    assert bool(engine.decide(connection, "GET", allow)) is expected


def test_denies_match_in_any_case_on_request() -> None:
    loaded = rest("a.b", ANY, deny_rules=(L7Match("GET", "/A/**"),), path_case="insensitive")
    asked = rest("a.b", L7Match("GET", "/a/b"), path_case="insensitive")
    assert not covered(loaded, asked)


def test_modes_see_trust_and_shadow() -> None:
    user, agent = Endpoint("a.b", (443,)), Endpoint("a.b", (443,), advisor_proposed=True)
    exact = Mode(unset_protocol=False, heed_trust=True)
    assert gaps([Rule("r", (user,), (CURL,))], Rule("p", (agent,), (CURL,)), exact) == []
    (gap,) = gaps([Rule("r", (agent,), (CURL,))], Rule("p", (user,), (CURL,)), exact)
    assert "without trust in private addresses" in gap.reason
    both = [Rule("r", (user, rest("a.b", GET)), (CURL,))]
    assert gaps(both, Rule("p", (user,), (CURL,)), Mode(unset_protocol=False)) == []
    (gap,) = gaps(both, Rule("p", (user,), (CURL,)), Mode(unset_protocol=False, heed_shadow=True))
    assert gap.reason == "an inspected endpoint takes over the connection"


# ---- patterns --------------------------------------------------------------------------------------------------------

_segments = st.sampled_from(["a", "b", "ab", "*", "**", "a*", "*b", ""])
_patterns = st.lists(_segments, min_size=1, max_size=4).map(lambda found: "/" + "/".join(found))
WORDS = ["/" + "/".join(w) for n in range(1, 5) for w in itertools.product(("a", "b", "ab", "c"), repeat=n)]
WORDS += [word + "/" for word in WORDS if word.count("/") < 4] + ["/"]


def matched(pattern: str) -> set[str]:
    """Which words the engine lets pass: the enforcement point is the definition."""
    policy = Policy(rules=(Rule("r", (rest("a.b", L7Match("GET", pattern)),), (CURL,)),))
    cell = compile_policy(policy).connect(Connection("a.b", 443, CURL))
    return {word for word in WORDS if cell.decide("GET", word)}


@settings(max_examples=150, deadline=None)
@given(_patterns, _patterns)
def test_path_patterns_against_all_short_words(one: str, other: str) -> None:
    mine, theirs = matched(one), matched(other)
    if path_covers(one, other):
        assert mine >= theirs
    if mine & theirs:
        assert path_overlaps(one, other)
        assert path_overlaps(other, one)
    assert path_covers(one, one)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [("**", "/x"), ("/a/**", "/a/b/**"), ("/a/*", "/a/b"), ("/a/**/z", "/a/z"), ("/%61", "/a"), ("/a*", "/ab")],
)
def test_path_covers_is_not_vacuous(wide: str, narrow: str) -> None:
    assert path_covers(wide, narrow)
    assert not path_covers(narrow, wide) or wide == "/%61"


def test_overlap_is_not_vacuous() -> None:
    assert not path_overlaps("/a/**", "/b/**")
    assert not path_overlaps("/a", "/a/b")
    assert not host_overlaps("*.a.b", "*.a.c")
    assert not binary_overlaps("/usr/bin/*", CURL + "/x")
    assert not match_overlaps(L7Match("GET", "/a"), L7Match("PUT", "/a"))


_host_patterns = st.sampled_from(["a.x.z", "b.x.z", "*.x.z", "**.x.z", "a*.x.z", "*.a.x.z", "**.a.x.z", "x.z"])
HOST_WORDS = ["x.z", "a.x.z", "b.x.z", "ab.x.z", "a.a.x.z", "b.a.x.z", "a.b.a.x.z"]


@settings(deadline=None)
@given(_host_patterns, _host_patterns)
def test_host_patterns_against_words(one: str, other: str) -> None:
    mine = {word for word in HOST_WORDS if host_matches(one, word)}
    theirs = {word for word in HOST_WORDS if host_matches(other, word)}
    if host_covers(one, other):
        assert mine >= theirs
    assert host_overlaps(one, other) or not mine & theirs
    assert host_overlaps(one, other) == host_overlaps(other, one)


def test_matchers_of_other_protocols() -> None:
    query = L7Match(operation_type="query", operation_name="Get")
    assert match_covers(L7Match(operation_type="*"), query)
    assert not match_covers(query, L7Match(operation_type="query"))
    assert match_covers(L7Match("tools/call"), L7Match("tools/call", params=(("name", QueryMatcher(("x",))),)))
    assert not match_covers(L7Match("tools/call", params=(("name", QueryMatcher(("x",))),)), L7Match("tools/call"))


def test_a_gap_says_what_is_missing() -> None:
    (gap,) = gaps([Rule("r", (rest("a.b", GET),), (CURL,))], Rule("p", (rest("a.b", L7Match("PUT", "/a")),), (CURL,)))
    assert (gap.binary, gap.port, gap.reason) == (CURL, 443, "not allowed: PUT /a")


def test_malformed_patterns_never_cover() -> None:
    assert not path_covers("/a/{b}", "/a/b")
    assert not binary_covers("*", CURL)


def test_a_rule_of_a_thousand_matchers_is_compared_quickly() -> None:
    """Each is there word for word: found by hashing, not by comparing every two."""
    (rule,) = large(1000, dense=True).rules
    wanted = dataclasses.replace(rule, endpoints=tuple(dataclasses.replace(e, deny_rules=()) for e in rule.endpoints))
    found, units = cost(lambda: gaps([rule], wanted, Mode(heed_denies=False)))
    assert found == []
    assert units < 125


def test_what_another_protocol_takes_over_is_not_covered() -> None:
    mine = Rule("p", (rest("a.b", L7Match("GET", "/graphql"), L7Match("GET", "/x")),), (CURL,))
    graphql = dataclasses.replace(rest(), protocol="graphql", path="/graphql", rules=(L7Match(operation_type="*"),))
    assert covers(Policy(rules=(mine,)), mine)
    assert not covers(Policy(rules=(mine, Rule("q", (graphql,), (CURL,)))), mine)
    other = Rule("o", (rest("a.b", L7Match("GET", "/x")),), (CURL,))
    assert covers(Policy(rules=(other, Rule("q", (graphql,), (CURL,)))), other)


def test_a_deny_that_may_hit_what_is_carried_is_heeded() -> None:
    def calls(*allow: L7Match, deny: tuple[L7Match, ...] = ()) -> Rule:
        return Rule("p", (dataclasses.replace(rest("a.b", *allow), protocol="mcp", deny_rules=deny),), (CURL,))

    want = calls(L7Match("tools/call"))
    assert covers(Policy(rules=(want,)), want)
    for deny in (L7Match("tools/*"), L7Match(params=(("name", QueryMatcher(("x",))),))):
        loaded = calls(L7Match("tools/call"), deny=(deny,))
        assert not covers(Policy(rules=(loaded,)), want)


BASH = "/usr/bin/bash"


def test_a_binary_is_covered_by_itself_without_ancestors() -> None:
    """The unit of coverage is (endpoint, port, binary): docs/policy-language.md, section 6."""
    wanted = Rule("p", (rest("a.b", GET),), (CURL,))
    below = Connection("a.b", 443, CURL, (BASH,))
    alone = Connection("a.b", 443, CURL)

    lent = Policy(rules=(Rule("shell", (rest("a.b", GET),), (BASH,)),))
    assert compile_policy(lent).decide(below, "GET", "/a").allowed
    assert not compile_policy(lent).decide(alone, "GET", "/a").allowed
    assert not covers(lent, wanted)  # what bash lends is not curl's own

    other = Rule("shell", (rest("a.b", ANY, deny_rules=(GET,)),), (BASH,))
    denied = Policy(rules=(Rule("own", (rest("a.b", GET),), (CURL,)), other))
    assert compile_policy(denied).decide(alone, "GET", "/a").allowed
    assert not compile_policy(denied).decide(below, "GET", "/a").allowed
    assert covers(denied, wanted)

    own = dataclasses.replace(other, binaries=("/usr/bin/*",))
    assert not covers(Policy(rules=(denied.rules[0], own)), wanted)  # this deny may hit curl itself
