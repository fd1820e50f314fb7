from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pyopenshell.policy import Policy, PolicyError, dump, load
from pyopenshell.policy.edit import edit_text
from pyopenshell.policy.layout import comments, format_text
from pyopenshell.policy.merge import MergeError, apply
from pyopenshell.policy.model import Endpoint, FilesystemPolicy, Rule
from pyopenshell.policy.update import SpecError, operations
from tests.policy.strategies import policies

MESSY = """\
# head comment
version: 1   # the version
# static part
filesystem_policy:
    read_only:
    - /usr # programs
    # libs next
    - /lib
    # end of read only
network_policies:
      # about github
      github: # tail of github
          endpoints:
          - host: api.github.com   # gh
            port: 443
            protocol: rest

            # access it is
            access: read-only
          - {host: "*.example.com", port: 443,
             protocol: rest, # why
             access: full}
          # after endpoints
          binaries: [ {path: /usr/bin/curl},{path: '/usr/bin/git'} ]  # both
          # end of github


      # about b

      # more about b
      b:
          endpoints: [{host: b.example.com, ports: [443,
              80]}]
          binaries:
            -
              path: /usr/bin/curl
            - # odd
              path: >-
                /usr/bin/wget
# the end
"""
TIDY = """\
# head comment
version: 1  # the version

# static part
filesystem_policy:
  read_only:
    - /usr  # programs
    # libs next
    - /lib
    # end of read only

network_policies:
  # about github
  github:  # tail of github
    endpoints:
      - host: api.github.com  # gh
        port: 443
        protocol: rest

        # access it is
        access: read-only
      - host: "*.example.com"
        port: 443
        protocol: rest  # why
        access: full
    # after endpoints
    binaries: [{path: /usr/bin/curl}, {path: '/usr/bin/git'}]  # both
    # end of github

  # about b

  # more about b
  b:
    endpoints: [{host: b.example.com, ports: [443, 80]}]
    binaries:
      - path: /usr/bin/curl
      # odd
      - path: /usr/bin/wget
# the end
"""


def test_one_layout() -> None:
    assert format_text(MESSY) == TIDY
    assert format_text(TIDY) == TIDY
    assert format_text(MESSY.replace("\n", "\r\n").encode()) == TIDY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1", "version: 1\n"),
        ("# a\n---\n# b\nversion: 1\n...\n", "# a\n---\n# b\nversion: 1\n"),
        ("%YAML 1.2\n---\nversion: 1", "%YAML 1.2\n---\nversion: 1\n"),
        ("{version: 1}", "version: 1\n"),
        ("{}  # nothing", "{}\n# nothing\n"),
        ("version: 1\nprocess: {}\n", "version: 1\n\nprocess: {}\n"),
        ("version: 1\nprocess:\n", "version: 1\n\nprocess:\n"),
        ("a: '#no'  #yes\nb: x#no", "a: '#no'  #yes\n\nb: x#no\n"),
        ("a:\n- - 1\n  - 2\n- - 3\n", "a:\n  - - 1\n    - 2\n  - - 3\n"),
        ("a: 'x\n  y'\n", 'a: "x y"\n'),
    ],
)
def test_corners(text: str, expected: str) -> None:
    assert format_text(text) == expected
    assert format_text(expected) == expected


def test_long_flow_collections_are_broken_up() -> None:
    items = ", ".join(f"/path/number/{n}" for n in range(12))
    out = format_text(f"version: 1\nfilesystem_policy: {{read_only: [{items}]}}\n")
    assert "    - /path/number/0\n" in out
    assert max(map(len, out.splitlines())) <= 120


def test_what_is_no_yaml_is_an_error_with_its_place() -> None:
    with pytest.raises(PolicyError, match=r"p:2:4: aliases are not allowed"):
        format_text("a: 1\nb: *a\n", "p")


def commented(text: str, rng: random.Random) -> tuple[str, list[str]]:
    """`text` with comments and blank lines strewn in, and the comments in order."""
    out: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        if rng.random() < 0.2:
            said.append(f"# own {len(said)}")
            out += [""] * rng.choice([0, 1, 2]) + [" " * rng.choice([0, 2, 4, 6]) + said[-1]]
        if rng.random() < 0.2:
            said.append(f"# tail {len(said)} '\"[")
            line += "   " + said[-1]
        out.append(line)
    return "\n".join(out) + "\n", said


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies(), st.integers(0, 10**9))
def test_formatting_keeps_policy_and_comments(policy: Policy, seed: int) -> None:
    text, said = commented(dump(policy), random.Random(seed))
    out = format_text(text)
    assert dump(load(out)) == dump(policy)
    assert comments(out) == said
    assert format_text(out) == out
    assert all(line == line.rstrip() for line in out.splitlines())


# ---- editing ---------------------------------------------------------------------------------------------------------


def test_an_edit_keeps_everything_that_it_is_not_about() -> None:
    policy = load(MESSY)
    found = operations(
        policy,
        add_endpoints=["new.example.com:443:read-only"],
        binaries=["/usr/bin/curl"],
        remove_endpoints=["b.example.com:80", "*.example.com:443"],
        add_denies=["api.github.com:443:DELETE:/a:b"],
    )
    after = apply(policy, found).policy
    assert edit_text(MESSY, after) == TIDY.replace(
        '        access: read-only\n      - host: "*.example.com"\n        port: 443\n'
        "        protocol: rest  # why\n        access: full\n",
        '        access: read-only\n        deny_rules:\n          - method: DELETE\n            path: "/a:b"\n',
    ).replace("{host: b.example.com, ports: [443, 80]}", "{host: b.example.com, port: 443}").replace(
        "# the end",
        "  new:\n    endpoints:\n      - host: new.example.com\n        port: 443\n        protocol: rest\n"
        "        enforcement: enforce\n        access: read-only\n"
        "    binaries:\n      - path: /usr/bin/curl\n# the end",
    ).replace("  new:", "  allow_new_example_com_443:")


def test_an_unchanged_policy_leaves_the_text_alone() -> None:
    assert edit_text(MESSY, load(MESSY)) == MESSY
    assert edit_text(MESSY.encode(), load(MESSY)) == MESSY


def test_what_is_removed_takes_its_own_comments_along() -> None:
    policy = load(TIDY)
    out = edit_text(TIDY, Policy(filesystem=policy.filesystem, rules=(policy.rules[0],)))
    assert "more about b" not in out
    assert "# about b\n" in out
    assert "# end of github" in out


def test_rules_come_in_the_order_of_the_policy() -> None:
    policy = load(TIDY)
    out = edit_text(TIDY, Policy(filesystem=policy.filesystem, rules=policy.rules[::-1]))
    assert out.index("  b:") < out.index("  github:")
    assert comments(out).index("# more about b") < comments(out).index("# tail of github")


def test_what_the_author_wrote_out_stays() -> None:
    text = (
        "version: 1\nnetwork_policies:\n  r:\n    endpoints:\n"
        "      - {host: A.test., port: 443, enforcement: enforce}\n    binaries: [{path: /x}]\n"
    )
    before = load(text)
    rule = before.rules[0]
    after = Policy(rules=(Rule("r", rule.endpoints, ("/x", "/y")),))
    out = edit_text(text, after)
    assert "{host: A.test., port: 443, enforcement: enforce}" in out
    assert "binaries: [{path: /x}, {path: /y}]" in out


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies(), policies(), st.integers(0, 10**9))
def test_any_policy_can_become_any_other(before: Policy, after: Policy, seed: int) -> None:
    text, said = commented(dump(before), random.Random(seed))
    out = edit_text(text, after)
    assert dump(load(out)) == dump(after)
    assert set(comments(out)) <= set(said)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies(), st.integers(0, 10**9))
def test_adding_keeps_every_comment(policy: Policy, seed: int) -> None:
    assume("added" not in policy.by_key())
    text, said = commented(dump(policy), random.Random(seed))
    rule = Rule("added", (Endpoint("added.test", (443,)),), ("/usr/bin/curl",))
    filesystem = policy.filesystem or FilesystemPolicy()
    after = Policy(
        filesystem=filesystem, landlock=policy.landlock, process=policy.process, rules=(*policy.rules, rule),
        middlewares=policy.middlewares,
    )  # fmt: skip
    out = edit_text(text, after)
    assert dump(load(out)) == dump(after)
    assert sorted(comments(out)) == sorted(said)


# ---- the mini-syntax -------------------------------------------------------------------------------------------------


def test_every_field_of_a_spec() -> None:
    (added,) = operations(
        Policy(),
        add_endpoints=[
            "realtime.example.com:443:read-write:websocket:audit:websocket-credential-rewrite,allowed-ip=10.0.0.0/8"
        ],
        binaries=["/usr/bin/node"],
        rule_name="rt",
    )
    rule = Rule(
        "rt",
        (
            Endpoint(
                "realtime.example.com", (443,), protocol="websocket", access="read-write", enforcement="audit",
                allowed_ips=("10.0.0.0/8",), websocket_credential_rewrite=True,
            ),
        ),
        ("/usr/bin/node",),
    )  # fmt: skip
    assert added == type(added)("rt", rule)  # type: ignore[call-arg,arg-type]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ({"add_endpoints": ["a.test"], "binaries": ["/x"]}, "begins with host:port"),
        ({"add_endpoints": ["a.test:0"], "binaries": ["/x"]}, "begins with host:port"),
        ({"add_endpoints": ["a.test:443"]}, "needs --binary"),
        ({"binaries": ["/x"]}, "--binary needs --add-endpoint"),
        ({"add_endpoints": ["a.test:1", "b.test:1"], "binaries": ["/x"], "rule_name": "r"}, "exactly one"),
        ({"add_endpoints": ["a.test:443:readonly"], "binaries": ["/x"]}, "did you mean 'read-only'"),
        ({"add_endpoints": ["a.test:443::sql"], "binaries": ["/x"]}, "unknown protocol 'sql'"),
        ({"add_endpoints": ["a.test:443:::audti"], "binaries": ["/x"]}, "did you mean 'audit'"),
        ({"add_endpoints": ["a.test:443::::allowed-ip"], "binaries": ["/x"]}, "unknown option"),
        ({"add_endpoints": ["a.test:443::tcp::request-body-credential-rewrite"], "binaries": ["/x"]}, "protocol rest"),
        ({"add_endpoints": ["a.test:443:::::x"], "binaries": ["/x"]}, "too many fields"),
        ({"remove_endpoints": ["a.test:443:x"]}, "takes host:port"),
        ({"add_allows": ["a.test:443:GET"]}, "takes host:port:METHOD:path"),
        ({"add_allows": ["a.test:443:GET:/x"]}, "was not found"),
    ],
)
def test_specs_that_are_none(specs: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        operations(Policy(), **specs)  # type: ignore[arg-type]


def test_an_allow_must_mean_one_endpoint() -> None:
    one = Endpoint("a.test", (443,), protocol="rest", access="read-only")
    policy = Policy(rules=(Rule("r", (one,), ("/x",)), Rule("s", (one,), ("/y",))))
    with pytest.raises(SpecError, match=r"resolves to 2 endpoints \('r', 's'\)"):
        operations(policy, add_allows=["a.test:443:PUT:/x"])
    policy = Policy(rules=policy.rules[:1])
    found = operations(policy, add_allows=["A.test:443:put:/x:y"])
    (endpoint,) = apply(policy, found).policy.rules[0].endpoints
    assert ("PUT", "/x:y") in [(match.method, match.path) for match in endpoint.rules]
    with pytest.raises(MergeError):
        apply(policy, operations(policy, add_allows=["a.test:443:PUT:/{x}"]))


def test_one_line_adds_an_endpoint_and_more_to_it() -> None:
    found = operations(
        Policy(),
        add_endpoints=["a.test:443:read-only:rest"],
        binaries=["/x"],
        add_allows=["a.test:443:PUT:/x"],
        add_denies=["a.test:443:*:/y"],
    )
    (endpoint,) = apply(Policy(), found).policy.rules[0].endpoints
    assert [(match.method, match.path) for match in endpoint.deny_rules] == [("*", "/y")]
    assert ("PUT", "/x") in [(match.method, match.path) for match in endpoint.rules]
    before = apply(Policy(), found).policy
    with pytest.raises(SpecError, match="was not found"):
        operations(before, remove_endpoints=["a.test:443"], add_allows=["a.test:443:PUT:/z"])
