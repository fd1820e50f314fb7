"""The pytest plugin in a pytest run of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

POLICY = """\
version: 1
network_policies:
  site:
    endpoints: [{host: a.test, port: 443, protocol: rest, access: read-only}]
    binaries: [{path: /usr/bin/curl}]
"""
TEST = """
import pytest

URL = "https://a.test/x"
CURL = "/usr/bin/curl"

def test_holds(policy):
    assert policy.denies("PUT", URL, binary=CURL)
    assert policy.denies("PUT", URL, binary=CURL, because="method_not_allowed")
    assert not policy.denies("PUT", URL, binary=CURL, because="path_not_allowed")
    assert policy.allows("GET", URL, binary=CURL)
    assert policy.allows("GET", URL, binary="/bin/sh", ancestors=[CURL])
    assert not policy.audits("PUT", URL, binary=CURL)
    assert policy.allows("CONNECT", "a.test:443", binary=CURL)
    with pytest.raises(ValueError, match="unknown condition"):
        policy.denies("PUT", URL, binary=CURL, because="whatever")

def test_fails(policy):
    assert policy.denies("GET", URL, binary=CURL)
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makefile(".yaml", policy=POLICY)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def test_assertions_and_their_explanation(run: pytest.Pytester) -> None:
    run.makepyfile(TEST)
    result = run.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*assert <GET a.test:443/x: allowed by rule 'site'>",
            "*openshell policy, asked last*",
            "*✓ method*GET is allowed by GET /*",
            "*= allowed by rule 'site'*",
        ]
    )


def test_the_policy_comes_from_marker_option_or_ini(run: pytest.Pytester) -> None:
    other = POLICY.replace("read-only", "full")
    (run.path / "sub").mkdir()
    (run.path / "sub" / "other.yaml").write_text(other)
    run.makepyfile(
        test_one="""
        import pytest

        def test_writes(policy):
            assert policy.allows("PUT", "https://a.test/", binary="/usr/bin/curl")

        @pytest.mark.openshell_policy("sub/other.yaml")
        def test_marked(policy):
            assert policy.allows("PUT", "https://a.test/", binary="/usr/bin/curl")
        """
    )
    run.runpytest_subprocess().assert_outcomes(passed=1, failed=1)
    run.runpytest_subprocess("--openshell-policy", "sub/other.yaml").assert_outcomes(passed=2)
    run.makeini("[pytest]\nopenshell_policy = sub/other.yaml\n")
    run.runpytest_subprocess().assert_outcomes(passed=2)


def test_suites_are_collected(run: pytest.Pytester) -> None:
    suite = run.path / "policy.policy-tests.yaml"
    suite.write_text("tests:\n- as: /usr/bin/curl\n  allow: [GET https://a.test/]\n  deny: [GET https://a.test/y]\n")
    result = run.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*policy.policy-tests.yaml:4: GET a.test:443/y by /usr/bin/curl", "must be denied*"])
    suite.write_text("tests: [{}]\n")
    result = run.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*a test needs the program that asks*"])


def test_without_a_policy(run: pytest.Pytester) -> None:
    (run.path / "policy.yaml").unlink()
    run.makepyfile("def test_x(policy): pass")
    result = run.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no policy to test*"])
