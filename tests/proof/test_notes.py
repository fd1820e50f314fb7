from __future__ import annotations

import pytest

from pyopenshell.policy.model import Endpoint, Rule
from pyopenshell.proof.notes import security_notes


def notes(*endpoints: Endpoint, binaries: tuple[str, ...] = ("/usr/bin/curl",)) -> str:
    return security_notes(Rule("r", endpoints, binaries))


def test_an_ordinary_rule_has_none() -> None:
    assert notes(Endpoint("api.github.com", (443,), protocol="rest", access="read-only")) == ""
    assert notes(Endpoint("140.82.114.4", (443,))) == ""


@pytest.mark.parametrize(
    ("endpoint", "part"),
    [
        (Endpoint("a.test", (443,), allow_uninspected_credentials=True), "not inspected"),
        (Endpoint("10.0.0.1", (443,)), "internal or private"),
        (Endpoint("::ffff:10.0.0.1", (443,)), "internal or private"),
        (Endpoint("64:ff9b::7f00:1", (443,)), "internal or private"),
        (Endpoint("*.a.test", (443,)), "wildcard"),
        (Endpoint("a.test", (443,), allowed_ips=("10.0.0.0/8",)), "private address ranges: 10.0.0.0/8"),
        (Endpoint("", (443,), allowed_ips=("10.0.0.0/8",)), "No host is named"),
        (Endpoint("a.test", (50000,)), "ephemeral"),
        (Endpoint("a.test", (5432,)), "PostgreSQL"),
        (Endpoint("a.test", (443,), protocol="rest", access="full", enforcement="audit"), "audit mode"),
        (Endpoint("a.test", (443,), protocol="rest", access="full", tls="skip"), "tls: skip"),
    ],
)
def test_observations(endpoint: Endpoint, part: str) -> None:
    assert part in notes(endpoint)


def test_any_program() -> None:
    assert "Any program" in notes(Endpoint("a.test", (443,)), binaries=("/**",))


def test_one_sentence_each() -> None:
    text = notes(Endpoint("*.a.test", (5432, 50000)), Endpoint("*.a.test", (5432,)))
    assert text.count("PostgreSQL") == 1
    assert text.count(".") >= 3
