"""Drafts from refusals: the contract's table (contract/sandbox.md 7.3), and what must never become a draft."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.denials import mapper
from pyopenshell.supervisor.denials.ledger import Tally


def tally(
    host: str = "api.github.com",
    port: int = 443,
    binary: str = "/usr/bin/curl",
    *,
    count: int = 1,
    stage: str = "connect",
    layer: str = "l4",
    proposable: bool = True,
) -> Tally:
    denial = Denial(
        layer=layer, stage=stage, host=host, port=port, detail="no", binary=binary, proposable=proposable, id="d-1"
    )
    return Tally(denial, count=count, total=count, first_ms=1, last_ms=2)


def one(item: Tally) -> mapper.Draft:
    (draft,) = mapper.drafts([item])
    return draft


def test_the_draft_is_an_l4_rule_for_exactly_this_program_and_destination() -> None:
    draft = one(tally(count=3))
    assert draft.rule.key == draft.rule.name == "allow_api_github_com_443"
    (endpoint,) = draft.rule.endpoints
    assert (endpoint.host, endpoint.ports, endpoint.protocol) == ("api.github.com", (443,), "")
    assert endpoint.advisor_proposed
    assert not endpoint.allowed_ips
    assert not endpoint.rules
    assert draft.rule.binaries == ("/usr/bin/curl",)
    assert draft.rationale == "Allow curl to connect to api.github.com:443 (HTTPS). First refused as d-1."
    assert (draft.stage, draft.hit_count, draft.first_ms, draft.last_ms) == ("connect", 3, 1, 2)


@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("api.github.com", 443, "allow_api_github_com_443"),
        ("my-host.example", 8080, "allow_my_host_example_8080"),
        ("2001:db8::1", 443, "allow_2001db81_443"),
    ],
)
def test_rule_names(host: str, port: int, name: str) -> None:
    assert mapper.rule_name(host, port) == name


@pytest.mark.parametrize(
    ("count", "port", "ssrf", "expected"),
    [
        (1, 12345, False, 0.5),
        (3, 12345, False, 0.6),
        (10, 12345, False, 0.7),
        (10, 443, False, 0.85),
        (1, 443, False, 0.65),
        (1, 12345, True, 0.3),
        (10, 443, True, 0.65),
    ],
)
def test_confidence(count: int, port: int, ssrf: bool, expected: float) -> None:
    assert mapper.confidence(count, port, ssrf=ssrf) == expected


def test_security_notes_name_what_a_reviewer_must_know() -> None:
    assert "`allowed_ips`" in one(tally(stage="ssrf")).security_notes
    assert "10.0.0.5" in one(tally("10.0.0.5", 80)).security_notes
    assert "ephemeral" in one(tally(port=50000)).security_notes
    assert "PostgreSQL" in one(tally(port=5432)).security_notes
    assert one(tally()).security_notes == ""


@pytest.mark.parametrize(
    "item",
    [
        tally("127.0.0.1"),
        tally("::1"),
        tally("169.254.169.254", 80),
        tally("::ffff:169.254.169.254", 80),
        tally("0.0.0.0"),
        tally("localhost"),
        tally("LOCALHOST."),
        tally("metadata.google.internal", 80),
        tally(proposable=False),
        tally(binary=""),
        tally(stage="bypass"),
        tally(stage="connect-l7-parse-rejection"),
        tally(port=0),
    ],
)
def test_nothing_is_drafted_where_no_rule_could_help(item: Tally) -> None:
    assert mapper.drafts([item]) == ()


@pytest.mark.parametrize(
    "host", ["*", "*.com", "**.github.com", "a?b.test", "[a-z].test", "{a,b}.test", "", "a\nb", "a b"]
)
def test_a_host_the_client_chose_never_becomes_a_pattern(host: str) -> None:
    assert mapper.drafts([tally(host)]) == ()


@pytest.mark.parametrize("binary", ["/sandbox/**", "/tmp/*", "/tmp/a?", "/tmp/[x]", "curl", "/tmp/a\nb"])
def test_a_program_name_never_becomes_a_pattern(binary: str) -> None:
    assert mapper.drafts([tally(binary=binary)]) == ()


def test_a_refused_request_can_never_reach_a_draft() -> None:
    with pytest.raises(ValueError, match="l7"):
        mapper.drafts([tally(layer="l7", stage="l7")])


def test_most_confident_first_and_ties_in_order_of_first_sight() -> None:
    items = [tally("a.test", 9), tally("b.test", 443), tally("c.test", 9), tally("d.test", 9, count=10)]
    assert [d.rule.endpoints[0].host for d in mapper.drafts(items)] == ["d.test", "b.test", "a.test", "c.test"]


@given(st.text(max_size=30), st.integers(-1, 70000), st.text(max_size=30), st.integers(1, 10**6))
def test_any_input_gives_a_literal_rule_or_none(host: str, port: int, binary: str, count: int) -> None:
    item = tally(host, port, binary, count=count)
    first, second = mapper.drafts([item]), mapper.drafts([item])
    assert first == second
    for draft in first:
        assert not set("*?[]{}") & set(draft.rule.endpoints[0].host + draft.rule.binaries[0])
        assert draft.rule.endpoints[0].allowed_ips == ()
        assert 0.1 <= draft.confidence <= 0.95


def test_the_order_depends_on_the_input_only() -> None:
    items = [tally(f"h{n}.test", 443 if n % 2 else 9, count=n) for n in range(1, 30)]
    expected = mapper.drafts(items)
    random.seed(1)
    assert mapper.drafts(list(items)) == expected
