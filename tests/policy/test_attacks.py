"""The classes of attacks.md that concern names, paths and documents, one test each and named by its id."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pyopenshell.policy import MergeError, PolicyError, load
from pyopenshell.policy.compose import effective
from pyopenshell.policy.decision import Condition, Connection
from pyopenshell.policy.engine import Engine, compile
from pyopenshell.policy.globs import path_pattern
from pyopenshell.policy.hosts import canonical_host
from pyopenshell.policy.merge import AddRule, apply
from pyopenshell.policy.model import Endpoint, L7Match, Policy, QueryMatcher, Rule

CURL = "/usr/bin/curl"
RULE = "version: 1\nnetwork_policies: {%s: {endpoints: [{%s}], binaries: [{path: /x}]}}"


def rest(host: str = "allowed.test", **fields: Any) -> Endpoint:
    return dataclasses.replace(Endpoint(host, (443,), protocol="rest"), **fields)


def engine(*endpoints: Endpoint) -> Engine:
    return compile(Policy(rules=(Rule("r", endpoints, (CURL,)),)))


def reaches(built: Engine, host: str, port: int = 443) -> bool:
    return built.decide(Connection(host, port, CURL)).allowed


RAW = engine(Endpoint("allowed.test", (443,)), Endpoint("*.wild.test", (443,)))


@pytest.mark.parametrize("host", ["evil.test\0.allowed.test", "allowed.test\0", "allowed.test\0.evil.test"])
def test_a1_nul_in_a_host(host: str) -> None:
    assert not reaches(RAW, host)


@pytest.mark.parametrize(
    "host", ["allowed.test%00.evil.test", "allowed.test\t", " allowed.test", "allowed.test\r\nHost: x"]
)
def test_a2_control_blank_and_percent_in_a_host(host: str) -> None:
    decision = RAW.decide(Connection(host, 443, CURL))
    assert (decision.allowed, decision.condition) == (False, Condition.REQUEST_TARGET)
    assert decision.reason.isprintable()


def test_a3_spelling_variants() -> None:
    assert all(reaches(RAW, host) for host in ("ALLOWED.test", "allowed.test.", "Allowed.TEST."))
    for host in ("аllowed.test", "allowed_.test", "allowed.test..", "allоwed.test", "allowed。test。evil"):
        assert not reaches(RAW, host), host


@pytest.mark.parametrize(
    ("host", "same"),
    [
        ("ａllowed.test", True), ("allowed。test", True), ("allowed．test", True), ("al\u00adlowed.test", True),
        ("al\u200dlowed.test", False), ("al\u200blowed.test", True), ("allowed.test\u200b", True),
        ("xn--.test", False), ("xn--allowed-.test", False), ("allowed.te\u017ft", True), ("-allowed.test", False),
        ("allowed.test..", False), (".allowed.test", False), ("allowed..test", False), ("allowed.test\u202e", False),
    ],
)  # fmt: skip
def test_a3_unicode_spellings_are_one_host_or_none(host: str, same: bool) -> None:
    """What is judged is what is dialled: a spelling that IDNA maps to an allowed name is that name."""
    assert reaches(RAW, host) is same
    if same:
        assert canonical_host(host) == "allowed.test"


def test_a3_look_alikes_are_other_names() -> None:
    assert canonical_host("аllowed.test").startswith("xn--")
    with pytest.raises(ValueError, match="ambiguous"):
        canonical_host("faß.test")


@pytest.mark.parametrize(
    "host", ["allowed.test.evil.test", "evilallowed.test", "allowed.test@evil.test", "evilwild.test", "wild.test",
             "x.wild.test.evil.test", "a.b.wild.test"]
)  # fmt: skip
def test_a4_suffix_and_userinfo_tricks(host: str) -> None:
    assert not reaches(RAW, host)


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0x7f000001", "127.0.0.01", "0", "127.0.0", "127.0.0.1.1",
     "256.0.0.1", "0X7F.0.0.1", "00.0.0.0", "0b1.0.0.1", "a.1", "a.0x7f", "٣.0.0.1", "1_27.0.0.1", "+127.0.0.1"],
)  # fmt: skip
def test_a5_odd_ipv4_spellings(host: str) -> None:
    assert not reaches(engine(Endpoint("127.0.0.1", (443,)), Endpoint("**.z", (443,))), host)


@pytest.mark.parametrize("host", ["１２７.0.0.1", "127。0。0。1", "127.0.0.1.", "①②⑦.0.0.1", "127.0.0.1\u200b"])
def test_a5_what_idna_makes_of_digits_is_judged_as_the_address(host: str) -> None:
    assert canonical_host(host) == "127.0.0.1"
    assert not reaches(engine(Endpoint("**.wild.test", (443,))), host)
    assert reaches(engine(Endpoint("127.0.0.1", (443,))), host)


def test_a6_ipv4_inside_ipv6_is_the_same_host() -> None:
    built = engine(Endpoint("10.0.0.1", (443,)))
    assert reaches(built, "::ffff:10.0.0.1")
    assert reaches(built, "[::ffff:a00:1]")
    for host in ("64:ff9b::a00:1", "2002:a00:1::", "fe80::1%eth0", "[::ffff:10.0.0.1%25lo]"):
        assert not reaches(built, host)


def test_a9_an_address_is_not_a_name() -> None:
    built = engine(Endpoint("**.allowed.test", (443,)), Endpoint("*.*.*.test", (443,)))
    assert not reaches(built, "140.82.114.4")
    assert not reaches(built, "[2606:50c0:8000::153]")


@pytest.mark.parametrize("host", ["*", "'*com'", "'*.com'", "'**.github.io'", "'**'", "'*.co.uk'", "'a.*.test'"])
def test_a11_wildcards_that_match_too_much(host: str) -> None:
    with pytest.raises(PolicyError):
        load(
            f"version: 1\nnetwork_policies: {{r: {{endpoints: [{{host: {host}, port: 1}}], binaries: [{{path: /x}}]}}}}"
        )


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/public/../secret", "/secret"), ("/public/%2e%2e/secret", "/secret"), ("/public//../secret", "/secret"),
        ("/public/x;a/../../secret", "/secret"), ("/public/..;/secret", "/secret"), ("/./secret", "/secret"),
        ("/public/../../secret", ""), ("/..", ""),
    ],
)  # fmt: skip
def test_b1_dot_segments_are_judged_and_forwarded_in_one_form(target: str, path: str) -> None:
    built = engine(rest(access="full", deny_rules=(L7Match("*", "/secret"),)))
    decision = built.decide(Connection("allowed.test", 443, CURL), "GET", target)
    assert not decision.allowed
    assert decision.path == path
    assert decision.target == path


@pytest.mark.parametrize(
    "target", ["/public\\secret", "/public%5Csecret", "/public/..%5csecret", "/%5C..%5Csecret", "\\x"]
)
def test_b1_backslashes_are_no_second_kind_of_slash(target: str) -> None:
    """IIS reads them as slashes: `deny /secret` would not see `/%5Csecret`."""
    for slash in (False, True):
        built = engine(rest(access="full", allow_encoded_slash=slash, deny_rules=(L7Match("*", "/secret"),)))
        decision = built.decide(Connection("allowed.test", 443, CURL), "GET", target)
        assert (decision.allowed, decision.condition) == (False, Condition.REQUEST_TARGET)
    with pytest.raises(ValueError, match="backslash"):
        path_pattern("/a%5Cb")


@pytest.mark.parametrize(
    "target", ["/public/%252e%252e/secret", "/public/.../secret", "/public/%2e%2e%2e/secret", "/public/..%20/secret"]
)
def test_b1_what_only_looks_like_dots_stays_where_it_is(target: str) -> None:
    built = engine(rest(rules=(L7Match("GET", "/public/**"),)))
    decision = built.decide(Connection("allowed.test", 443, CURL), "GET", target)
    assert decision.allowed
    assert decision.path.startswith("/public/")


def test_b2_an_encoded_slash_belongs_to_its_endpoint() -> None:
    built = engine(rest(path="/x/**", access="full", allow_encoded_slash=True), rest(path="/y/**", access="full"))
    at = Connection("allowed.test", 443, CURL)
    assert built.decide(at, "GET", "/x/a%2fb").target == "/x/a%2Fb"
    assert not built.decide(at, "GET", "/y/a%2fb").allowed
    assert not built.decide(at, "GET", "/x/..%2f..%2fy/secret").allowed
    assert not engine(rest(access="full")).decide(at, "GET", "/x/a%2fb").allowed


@pytest.mark.parametrize(
    "text",
    [
        "endpoints: [], binaries: [{path: /x}]",
        "endpoints: [{host: '', port: 1}], binaries: [{path: /x}]",
        "endpoints: [{port: 1}], binaries: [{path: /x}]",
        "endpoints: [{host: a.test, port: 1}], binaries: []",
        "endpoints: [{host: a.test, port: 1}]",
        "endpoints: [{host: a.test, port: 1}], binaries: [{path: ''}]",
        "endpoints: [{host: a.test, port: 1, protocol: rest, rules: []}], binaries: [{path: /x}]",
        "endpoints: [{host: a.test, port: 1, protocol: rest}], binaries: [{path: /x}]",
        "endpoints: [{host: a.test, port: 1, protocol: rest, rules: [{allow: {}}]}], binaries: [{path: /x}]",
        "endpoints: [{host: a.test, port: 1, protocol: rest, rules: [{allow: {method: GET}}]}], binaries: [{path: /x}]",
        "endpoints: [{host: a.test, ports: []}], binaries: [{path: /x}]",
        "",
    ],
)
def test_b12_empty_never_means_everything(text: str) -> None:
    with pytest.raises(PolicyError):
        load(f"version: 1\nnetwork_policies: {{r: {{{text}}}}}")


def test_b12_nothing_built_by_hand_opens_either() -> None:
    at = Connection("allowed.test", 443, CURL)
    assert not compile(Policy()).decide(at).allowed
    assert not compile(Policy(rules=(Rule("r", (), (CURL,)),))).decide(at).allowed
    assert not compile(Policy(rules=(Rule("r", (rest(access="full"),), ()),))).decide(at).allowed
    assert not engine(rest()).decide(at, "GET", "/").allowed
    assert not engine(rest(rules=(L7Match("", ""),))).decide(at, "GET", "/").allowed
    assert not engine(rest(access="full", deny_rules=(L7Match("", ""),))).decide(at, "GET", "/").allowed


def test_b15_methods() -> None:
    at = Connection("allowed.test", 443, CURL)
    get = engine(rest(rules=(L7Match("GET", "/a"), L7Match("POST", "/b"))))
    methods = ("GET", "HEAD", "get", "POST", "TRACE", "CONNECT", "OPTIONS")
    assert [method for method in methods if get.decide(at, method, "/a").allowed] == ["GET", "HEAD", "get"]
    assert not get.decide(at, "GET", "/b").allowed
    deny = engine(rest(access="full", deny_rules=(L7Match("GET", "/a"), L7Match("HEAD", "/b"))))
    assert not deny.decide(at, "HEAD", "/a").allowed
    assert deny.decide(at, "GET", "/b").allowed
    assert not deny.decide(at, "head", "/b").allowed
    for method in ("GET ", "GET\t", "GE\0T", "G@T", "GET/"):
        assert not engine(rest(access="full")).decide(at, method, "/").allowed


def test_b16_queries() -> None:
    at = Connection("allowed.test", 443, CURL)

    def decides(kind: str, glob: str, target: str) -> bool:
        match = L7Match("GET", "/s", (("q", QueryMatcher((glob,))),))
        endpoint = rest(rules=(match,)) if kind == "allow" else rest(access="full", deny_rules=(match,))
        return engine(endpoint).decide(at, "GET", target).allowed

    assert decides("allow", "good", "/s?q=good")
    for target in (
        "/s?q=good&q=evil",
        "/s?q=evil&q=good",
        "/s?Q=good",
        "/s",
        "/s?q",
        "/s?%71=evil",
        "/s?q=good&%71=evil",
    ):
        assert not decides("allow", "good", target), target
    assert decides("allow", "good", "/s?q=good;q=evil") is False
    for target in ("/s?q=evil", "/s?a=1&q=evil", "/s?q=good&q=evil", "/s?%71=%65vil", "/s?q=e%76il"):
        assert not decides("deny", "evil", target), target
    assert decides("allow", "a b", "/s?q=a+b")
    assert decides("allow", "a b", "/s?q=a%20b")
    assert not decides("deny", "a b", "/s?q=a+b")
    assert not decides("allow", "*", "/s?q=%ff")
    assert not decides("deny", "evil", "/s?&&q=evil&")
    assert not decides("deny", "evil", "/s?q=x&q=evil#f")
    assert not decides("allow", "good", "/s?q=good%00")
    assert not decides("allow", "good", "/s?q[]=good")
    assert not decides("allow", "good", "/s?q=%67ood&q")
    assert not decides("allow", "good", "/s?+q=good")
    assert decides("allow", "good", "/s?q=%67ood")
    assert not decides("allow", "a=b", "/s?q=a%3Db&q=c")
    assert decides("allow", "a=b", "/s?q=a=b")


def test_g3_a_merge_never_lends_a_binary_what_it_did_not_declare() -> None:
    policy = Policy(rules=(Rule("r", (Endpoint("x.test", (443,)), Endpoint("y.test", (443,))), ("/a",)),))
    with pytest.raises(MergeError, match="undeclared"):
        apply(policy, [AddRule("r", Rule("r", (Endpoint("x.test", (443,)),), ("/b",)))])
    merged = apply(policy, [AddRule("other", Rule("other", (Endpoint("x.test", (443,)),), ("/b",)))]).policy
    built = compile(merged)
    assert built.decide(Connection("x.test", 443, "/b")).allowed
    assert not built.decide(Connection("y.test", 443, "/b")).allowed


@pytest.mark.parametrize("key", ["_provider_x", "_PROVIDER_x", "_Provider_github"])
def test_g11_nobody_writes_provider_rules(key: str) -> None:
    rule = Rule(key, (Endpoint("x.test", (443,)),), (CURL,))
    with pytest.raises(PolicyError, match="reserved"):
        load(RULE % (key, "host: x.test, port: 1"))
    with pytest.raises(MergeError):
        apply(Policy(), [AddRule(key, rule)])
    assert effective(None, Policy(rules=(rule,)), {}).rules == ()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: &a [x]\nb: [*a, *a]", "yaml_anchor"),
        ("version: 1\nversion: 1", "duplicate_key"),
        ("version: 1\nnetwork_policies: {r: {}, r: {}}", "duplicate_key"),
        ("version: on", "wrong_type"),
        ("version: 1\nfilesystem_policy: {include_workdir: yes}", "wrong_type"),
        ("version: 1\nfilesystem_policy: {include_workdir: 'true'}", "wrong_type"),
        ("version: 1\nnetwork_policies: {yes: {}, true: {}}", "key_not_text"),
        ("version: !!python/object:os.system 1", "yaml_tag"),
        ("version: 1\n---\nversion: 1", "several_documents"),
        ("[" * 5000, "too_deep"),
        ("version: 1\nlandlok: {}", "unknown_key"),
        ("version: 1\nlandlock: {<<: {compatibility: best_effort}}", "unknown_key"),
        ("version: &a 1", "yaml_anchor"),
        ("version: ! 1", "yaml_tag"),
        ("%TAG ! tag:x,2000:\n---\nversion: 1", "yaml_tag"),
        ("%YAML 1.1\n---\nversion: 1", "yaml_version"),
        ('version: 1\nlandlock: {compatibility: best_effort, "comp\\x61tibility": best_effort}', "duplicate_key"),
        ("version: 0o1", "wrong_type"),
        ("version: 0x1", "wrong_type"),
        ("version: 01", "wrong_type"),
        ("version: 1.0", "wrong_type"),
        ("version: TRUE", "wrong_type"),
        ("version: " + "9" * 5000, "wrong_type"),
        ("version: 1\n? [a]\n: 1", "key_not_text"),
        ("version: 1\n: 1", "key_not_text"),
        ("version: 1\nlandlock:\n\tcompatibility: best_effort", "yaml_syntax"),
        ("version: 1\n# \0", "yaml_syntax"),
        ("version: 1\n\ufefflandlock: {}", "unknown_key"),
        ("version: 1\x85landlock: {}", "yaml_syntax"),
        ("version: 1\n...\nversion: 1", "several_documents"),
        ("".join("  " * i + "a:\n" for i in range(2000)), "too_deep"),
        (RULE % ("r", "host: a.test, port: 0443"), "wrong_type"),
        (RULE % ("r", "host: a.test, port: 7:23"), "wrong_type"),
        (RULE % ("r", "host: a.test, port: 4_43"), "wrong_type"),
        (RULE % ("r", "host: a.test, port: ~"), "wrong_type"),
        (RULE % ("r", 'host: "a.test\\n", port: 1'), "host_invalid"),
        (RULE % ("r", "host: " + "a" * 100_000 + ", port: 1"), "host_invalid"),
        (RULE % ('"r\\0"', "host: a.test, port: 1"), "unprintable"),
        (RULE % ('"r\\u202e"', "host: a.test, port: 1"), "unprintable"),
        ("version: 1\nlandlock: {compatibility: Best_Effort}", "unknown_value"),
    ],
)
def test_g16_policy_file_tricks(text: str, code: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(text)
    assert code in {problem.code for problem in caught.value.problems}
    assert all(problem.line and problem.column for problem in caught.value.problems)


@pytest.mark.parametrize(
    "text", ["\ufeffversion: 1\n", "version: 1\r\n", "version: 1\r", "? version\n: 1\n", "{version: 1}"]
)
def test_g16_other_spellings_of_the_same_text_are_read_alike(text: str) -> None:
    assert load(text) == load("version: 1\n")


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("enforcment: enforce", "did you mean 'enforcement'?"),
        ("enforcement: Enforce", "did you mean 'enforce'?"),
        ("access: readonly", "did you mean 'read-only'?"),
        ("Protocol: rest", "did you mean 'protocol'?"),
        ("protcol: rest", "did you mean 'protocol'?"),
    ],
)
def test_g16_misspellings_get_the_nearest_spelling(field: str, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(
            "version: 1\nnetwork_policies:\n  r:\n    endpoints:\n      - host: a.test\n        port: 1\n"
            f"        {field}\n"
            "    binaries: [{path: /x}]\n",
            "p.yaml",
        )
    first = caught.value.problems[0]
    assert hint in str(first)
    assert str(first).startswith("p.yaml:7:")
