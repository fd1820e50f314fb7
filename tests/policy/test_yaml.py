from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyopenshell.policy import PolicyError, Problem, dump, load
from pyopenshell.policy.model import Endpoint, L7Match, Policy, QueryMatcher, Rule
from pyopenshell.policy.nodes import MAX_TEXT
from pyopenshell.policy.problems import MAX_PROBLEMS
from tests.cost import cost
from tests.policy.strategies import policies

FULL = """\
version: 1
filesystem_policy: {include_workdir: true, read_only: [/usr, /etc], read_write: [/tmp]}
landlock: {compatibility: hard_requirement}
process: {run_as_user: sandbox, run_as_group: 1000}
network_policies:
  github:
    name: GitHub
    endpoints:
      - host: API.GitHub.com.
        port: 443
        path: /repos/**
        protocol: rest
        tls: terminate
        enforcement: audit
        path_case: insensitive
        rules:
          - allow: {method: get, path: /repos/**, query: {ref: main, sort: {any: [asc, "d*"]}, page: {glob: "*"}}}
        deny_rules:
          - {method: DELETE, path: "**"}
        allowed_ips: [10.0.0.0/8, 192.168.1.7]
        allow_encoded_slash: true
      - {host: "*.example.com", ports: [8443, 443, 443]}
    binaries:
      - {path: /usr/bin/curl, harness: true}
      - path: /**
"""


def refusals(text: str | bytes) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load(text, "p.yaml")
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(found) for found in caught.value.problems]


def problems_of(text: str | bytes) -> tuple[Problem, ...]:
    """No exception but PolicyError, and never one without a problem."""
    try:
        load(text, "fuzz.yaml")
    except PolicyError as error:
        return error.problems or (Problem("", 0, 0, "none", "a PolicyError without problems"),)
    return ()


def rule(endpoint: str, binaries: str = "[{path: /usr/bin/curl}]") -> str:
    return f"version: 1\nnetwork_policies:\n  r:\n    endpoints:\n      - {endpoint}\n    binaries: {binaries}\n"


def test_every_section_is_read() -> None:
    policy = load(FULL, "p.yaml")
    assert policy.filesystem is not None
    assert policy.filesystem.read_only == ("/usr", "/etc")
    assert policy.landlock is not None
    assert policy.landlock.compatibility == "hard_requirement"
    assert policy.process is not None
    assert (policy.process.run_as_user, policy.process.run_as_group) == ("sandbox", "1000")
    (github,) = policy.rules
    assert (github.key, github.name, github.binaries) == ("github", "GitHub", ("/usr/bin/curl", "/**"))
    api, wild = github.endpoints
    assert api == Endpoint(
        host="api.github.com",
        ports=(443,),
        path="/repos/**",
        protocol="rest",
        enforcement="audit",
        path_case="insensitive",
        rules=(
            L7Match(
                "GET",
                "/repos/**",
                (
                    ("page", QueryMatcher(("*",))),
                    ("ref", QueryMatcher(("main",))),
                    ("sort", QueryMatcher(("asc", "d*"))),
                ),
            ),
        ),
        deny_rules=(L7Match("DELETE", "**"),),
        allowed_ips=("10.0.0.0/8", "192.168.1.7"),
        allow_encoded_slash=True,
    )
    assert wild == Endpoint("*.example.com", (443, 8443))


def test_missing_enforcement_is_enforce() -> None:
    policy = load(rule("{host: a.example.com, port: 443, protocol: rest, access: read-only}"))
    assert policy.rules[0].endpoints[0].enforcement == "enforce"
    assert "enforcement: enforce" in dump(policy)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "version: 1\nnetwork_policy: {}",
            "p.yaml:2:1: unknown key 'network_policy'; did you mean 'network_policies'?",
        ),
        (
            rule("{host: a.b, port: 443, enforcment: enforce}"),
            "p.yaml:5:32: unknown key 'enforcment'; did you mean 'enforcement'?",
        ),
        (
            rule("{host: a.b, port: 443, protocol: rest, access: full, enforcement: Enforce}"),
            "p.yaml:5:75: unknown enforcement 'Enforce'; did you mean 'enforce'?",
        ),
        (
            rule("{host: a.b, port: 443, protocol: REST, access: full}"),
            "p.yaml:5:42: unknown protocol 'REST' (expected tcp, rest, websocket, graphql, json-rpc, or mcp); "
            "did you mean 'rest'?",
        ),
        (
            rule("{host: a.b, port: 443, protocol: rest, access: readonly}"),
            "p.yaml:5:56: unknown access 'readonly'; did you mean 'read-only'?",
        ),
        (rule("{host: a.b, port: on}"), "p.yaml:5:27: port must be a whole number, not the text 'on'"),
        (rule("{host: a.b, port: '443'}"), "p.yaml:5:27: port must be a whole number, not the text '443'"),
        (rule("{host: a.b, port: true}"), "p.yaml:5:27: port must be a whole number, not the truth value true"),
        (
            rule("{host: a.b, port: 443, protocol: rest, access: full, allow_encoded_slash: yes}"),
            "p.yaml:5:83: allow_encoded_slash must be true or false, not the text 'yes'",
        ),
        (rule("{host: 1.5, port: 443}"), "p.yaml:5:16: host must be text, not the number 1.5; put quotes around it"),
        (rule("{host: , port: 443}"), "p.yaml:5:15: host must be text, not nothing"),
        ("version: 1\nversion: 1", "p.yaml:2:1: duplicate key 'version', first written on line 1; keep one of them"),
        (
            rule("{host: *.example.com, port: 443}"),
            "p.yaml:5:16: aliases are not allowed, and '*.example.com' is one; put quotes around a text that "
            "starts with *",
        ),
        ("version: &v 1", "p.yaml:1:10: anchors are not allowed, and '&v' is one"),
        ("version: !!int 1", "p.yaml:1:10: tags are not allowed: 'tag:yaml.org,2002:int'; remove the tag"),
        ("%YAML 1.1\n---\nversion: 1", "p.yaml:2:1: only YAML 1.2 is read; remove the %YAML line"),
        ("version: 1\n---\nversion: 1", "p.yaml:2:1: more than one YAML document; keep only one"),
        ("", "p.yaml:1:1: the document is empty; a policy starts with `version: 1`"),
        ("[]", "p.yaml:1:1: the document must be a mapping that starts with `version: 1`, not a list"),
        ("{}", "p.yaml:1:1: version is missing; write `version: 1`"),
        ("version: 2", "p.yaml:1:10: unsupported version 2; write `version: 1`"),
        (
            "version: 1\nnetwork_policies:\n  1: {}",
            "p.yaml:3:3: a key must be text, not the number 1; put quotes around it",
        ),
        (
            "version: 1\nnetwork_policies:",
            "p.yaml:2:18: network_policies must be a mapping from rule name to rule, not nothing; write {} for none",
        ),
        (
            rule("{host: a.b, port: 443}", "[/usr/bin/curl]"),
            "p.yaml:6:16: a binary is a mapping with a path; write `path: '/usr/bin/curl'`",
        ),
        (rule("{host: a.b, port: 443}", "[{}]"), "p.yaml:6:16: a binary needs a path"),
        (rule("{host: a.b, ports: [443], port: 80}"), "p.yaml:5:9: port 80 is not among ports [443]; write only ports"),
        (
            rule("{host: a.b, port: 443, protocol: rest, rules: []}"),
            "p.yaml:5:55: rules list cannot be empty (would deny all traffic); leave it out",
        ),
        (
            rule("{host: a.b, port: 443, protocol: rest, rules: [{method: GET, path: /}]}"),
            "p.yaml:5:57: unknown key 'method'; expected one of: allow",
        ),
        (
            rule("{host: a.b, port: 443, protocol: rest, access: full, deny_rules: [{allow: {method: GET}}]}"),
            "p.yaml:5:75: an entry of deny_rules has no allow; write method and path directly",
        ),
        (
            rule("{host: a.b, port: 443, protocol: sql, access: full}"),
            "p.yaml:5:42: protocol sql is not enforced by anything; leave protocol out for a raw connection",
        ),
        (rule("{host: a.b, port: 443, advisor_proposed: true}"), "p.yaml:5:32: unknown key 'advisor_proposed'"),
        ("version: 1\ninference: {}", "p.yaml:2:1: unknown key 'inference'"),
        (b"version: 1\nx: \xff", "p.yaml:2:4: the file is not UTF-8 text"),
        ("version: 1\nx: \x07", "p.yaml:2:4: a character that YAML does not allow"),
        ("version: [", "p.yaml:1:11: not valid YAML: "),
    ],
)
def test_refused_with_its_place(text: str | bytes, expected: str) -> None:
    assert any(found.startswith(expected) for found in refusals(text)), refusals(text)


def test_all_problems_are_reported_in_the_order_of_the_text() -> None:
    text = "version: 1\nlandlock: {compatibility: best}\nnetwork_policies:\n  r: {endpoint: [], binaries: {}}\nx: 1\n"
    assert [found.split(": ")[0] for found in refusals(text)] == [
        "p.yaml:2:27",
        "p.yaml:4:7",
        "p.yaml:4:31",
        "p.yaml:5:1",
    ]


def test_semantic_problems_point_at_the_value() -> None:
    text = rule("{host: '*.com', port: 70000}").replace("  r:\n", "  _provider_r:\n")
    places = [found.split(": ")[0] for found in refusals(text)]
    assert places == ["p.yaml:3:3", "p.yaml:5:16", "p.yaml:5:31"]


def test_bombs_and_depth_are_bounded() -> None:
    bomb = "a: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(20))
    assert "anchors are not allowed" in refusals(bomb)[0]
    assert "nested deeper" in refusals("[" * 5000)[0]
    assert "nested deeper" in refusals("- " * 5000)[0]
    assert "more than" in refusals("#" * (MAX_TEXT + 1))[0]


def test_numbers_that_are_too_long_are_numbers() -> None:
    assert "not the number inf" in refusals(rule("{host: a.b, port: " + "9" * 5000 + "}"))[0]


def test_export_does_not_launder_a_provider_rule() -> None:
    provider = Policy(rules=(Rule("_provider_github", (Endpoint("a.b", (443,)),), ("/usr/bin/git",)),))
    assert "reserved '_provider_' prefix" in refusals(dump(provider))[0]


@settings(deadline=None)
@given(policies(provenance=False))
def test_dump_and_load_are_inverse(policy: Policy) -> None:
    text = dump(policy)
    assert load(text) == policy
    assert dump(load(text)) == text


@settings(deadline=None)
@given(policies())
def test_provenance_is_never_written(policy: Policy) -> None:
    assert "advisor_proposed" not in dump(policy)
    assert "provider_credentialed" not in dump(policy)


@settings(deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300))
@example("? ")
@example("- ? : -")
@example("\ufeffversion: 1")
@example("%TAG ! !\n---\na")
@example("a: !<x")
@example('"\\xZZ"')
@example("{[a]: b}")
@example("? {a: b}\n: c")
@example("&a")
@example("*a")
@example("a: |9")
@example("a: >-\n b\n\tc")
@example("\u2028a: b")
@example("%YAML 99999999999999999999.1\n---\na")
def test_any_text_is_a_policy_or_a_policy_error(text: str | bytes) -> None:
    found = problems_of(text)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in found)
    assert all(str(problem).isprintable() for problem in found)


_YAMLISH = st.lists(
    st.sampled_from(
        [
            *("version: 1\n", "network_policies:\n", "  r:\n", "    endpoints:\n", "      - host: a.b\n"),
            *(
                "        port: 443\n",
                "    binaries:\n",
                "      - path: /x\n",
                "- ",
                ": ",
                "? ",
                "{",
                "}",
                "[",
                "]",
                ",",
            ),
            *("&a", "*a", "!t ", "'", '"', "|\n", ">\n", "#c\n", "---\n", "...\n", "%YAML 1.2\n", "\t", "\n", " ", "~"),
        ]
    ),
    max_size=25,
).map("".join)


@settings(deadline=None)
@given(_YAMLISH)
def test_anything_that_looks_like_yaml_too(text: str) -> None:
    assert all(problem.line >= 1 for problem in problems_of(text))


WRONG: dict[str, Callable[[int], str]] = {
    "unknown keys": lambda count: "version: 1\n" + "".join(f"hostt{i}: 1\n" for i in range(count)),
    "keys twice": lambda count: "version: 1\n" * (count + 1),
    "values without sense": lambda count: (
        "version: 1\nnetwork_policies:\n  r:\n    binaries: [{path: /b}]\n    endpoints:\n"
        + "      - {host: '*.', port: 443}\n" * count
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_text_that_is_wrong_everywhere_is_reported_in_bounds(wrong: str) -> None:
    """Nobody reads 20,000 findings: the first are told in full, the others counted, in the time of reading the text."""
    with pytest.raises(PolicyError) as caught:
        load(WRONG[wrong](300))
    assert (len(caught.value.problems), caught.value.more) == (MAX_PROBLEMS, 300 - MAX_PROBLEMS)
    assert str(caught.value).splitlines()[-1] == "and 200 more problems"
    assert len(str(caught.value).splitlines()) == MAX_PROBLEMS + 1


def test_reporting_costs_little_beside_reading() -> None:
    """Misspelt keys cost about what as many good ones do."""

    def spent(text: str) -> float:
        def read() -> None:
            with contextlib.suppress(PolicyError):
                load(text)

        return cost(read)[1]

    good = "version: 1\nnetwork_policies:\n" + "".join(f"  hostt{i}: 1\n" for i in range(4000))
    assert spent(WRONG["unknown keys"](4000)) < 3 * spent(good)
