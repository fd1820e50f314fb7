from __future__ import annotations

import pytest

from pyopenshell.policy.model import Endpoint, L7Match, Policy
from pyopenshell.proof.findings import validation_result
from tests.proof.test_delta import CURL, HOST, ONE_FILE, READ, plus, policy, rest

CREDENTIALED = ("api.github.com",)


def test_no_credential_no_finding() -> None:
    assert validation_result(READ, plus(READ, rest(ONE_FILE))) == "prover: no new findings"
    assert validation_result(READ, READ, CREDENTIALED) == "prover: no new findings"
    assert validation_result(READ, plus(READ, Endpoint("pypi.org", (443,))), CREDENTIALED) == "prover: no new findings"


def test_new_method() -> None:
    assert validation_result(READ, plus(READ, rest(ONE_FILE)), CREDENTIALED) == (
        "prover: 1 new finding\n  capability_expansion: PUT on api.github.com:443 via /usr/bin/curl"
    )


def test_new_reach_suppresses_methods() -> None:
    assert validation_result(READ, plus(READ, rest(ONE_FILE), binaries=("/usr/bin/gh",)), CREDENTIALED) == (
        "prover: 1 new finding\n  credential_reach_expansion: api.github.com:443 via /usr/bin/gh"
    )


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (READ, plus(READ, Endpoint(HOST, (443,)), binaries=("/usr/bin/git",)),
         "l7_bypass_credentialed: api.github.com:443 via /usr/bin/git"),
        (READ, policy(rest(access="read-only", tls="skip")), "l7_bypass_credentialed: api.github.com:443 via " + CURL),
        (READ, plus(READ, Endpoint("*.github.com", (443,)), binaries=("/bin/nc",)),
         "l7_bypass_credentialed: *.github.com:443 via /bin/nc"),
        (policy(rest(L7Match("PUT", "/docs/**"))), policy(rest(L7Match("PUT", "/**"))),
         "path_expansion: PUT /** on api.github.com:443 via " + CURL),
        (READ, policy(rest(access="read-only", enforcement="audit")), "audit_mode: api.github.com:443 via " + CURL),
        (Policy(), policy(Endpoint("169.254.169.254", (80,))), "link_local_reach: 169.254.169.254:80 via " + CURL),
        (Policy(), policy(Endpoint("metadata.google.internal", (80,))),
         "link_local_reach: metadata.google.internal:80 via " + CURL),
        (Policy(), policy(Endpoint("fd00:ec2::254", (80,))), "link_local_reach: [fd00:ec2::254]:80 via " + CURL),
        (Policy(), policy(Endpoint("x.test", (80,), allowed_ips=("10.0.0.0/8",))),
         "private_reach: x.test:80 via " + CURL),
    ],
)  # fmt: skip
def test_lines(before: Policy, after: Policy, line: str) -> None:
    result = validation_result(before, after, CREDENTIALED)
    assert result.startswith("prover: ")
    assert "  " + line in result.splitlines()


def test_two_endpoints_in_one_rule_do_not_switch_the_prover_off() -> None:
    # proof.md 8.1: a read-only and a writable endpoint on one host made upstream's solver vacuous
    after = policy(rest(access="read-only"), rest(access="full"))
    assert "capability_expansion: DELETE on api.github.com:443" in validation_result(READ, after, CREDENTIALED)


def test_count_is_in_the_header() -> None:
    result = validation_result(READ, policy(rest(access="read-write")), CREDENTIALED)
    assert result.splitlines()[0] == "prover: 3 new findings"
    assert len(result.splitlines()) == 4
