from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.policy.hosts import canonical_host, host_matches, host_pattern, is_ip_literal


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("API.GitHub.com", "api.github.com"),
        ("api.github.com.", "api.github.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("r3---sn-x.example", "r3---sn-x.example"),
        ("140.82.114.4", "140.82.114.4"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
        ("::ffff:169.254.169.254", "169.254.169.254"),
        ("localhost", "localhost"),
        ("１２７.0.0.1", "127.0.0.1"),
    ],
)
def test_one_canonical_form(text: str, canonical: str) -> None:
    assert canonical_host(text) == canonical
    assert canonical_host(canonical) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "a..b", "evil.test\x00.allowed.test", "allowed.test%00.evil.test", "a b", "a\tb", "a\r\nHost: b",
        "user@evil.test", "a/b", "a:443", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "127.0.0.1.", "1.2.3.4.5",
        "foo.0x10", "256.1.1.1", "[::1", "::1]", "fe80::1%eth0", "[fe80::1%25eth0]", "a" * 64 + ".test",
        "a." * 200 + "b", "straße.de", "a\u200db.test", "-a.test", "*.example.com", "a\ue000b",
    ],
)  # fmt: skip
def test_other_spellings_are_refused(text: str) -> None:
    if text == "127.0.0.1.":  # one trailing dot is only spelling
        assert canonical_host(text) == "127.0.0.1"
        return
    with pytest.raises(ValueError):
        canonical_host(text)


@given(st.text(max_size=30))
def test_canonical_is_idempotent_and_plain(text: str) -> None:
    try:
        host = canonical_host(text)
    except ValueError:
        return
    assert canonical_host(host) == host
    assert host.isascii()
    assert host == host.lower()
    assert not set(host) & set("%/@ \t\r\n\0*")


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("*.allowed.test", "x.allowed.test", True),
        ("*.allowed.test", "a.b.allowed.test", False),
        ("*.allowed.test", "allowed.test", False),
        ("*.allowed.test", "evilallowed.test", False),
        ("*.allowed.test", "x.allowed.test.evil.test", False),
        ("**.allowed.test", "a.b.allowed.test", True),
        ("**.allowed.test", "allowed.test", False),
        ("*-aip.googleapis.com", "us-central1-aip.googleapis.com", True),
        ("*.*.z", "a.b.z", True),
        ("", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.1", True),
    ],
)
def test_host_patterns(pattern: str, host: str, expected: bool) -> None:
    assert host_matches(host_pattern(pattern) if pattern else "", host) is expected


@pytest.mark.parametrize("pattern", ["*", "**", "a.**.com", "a**.com", "*.0.0.1", "*.a b", "*.a?c"])
def test_impossible_wildcards_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError):
        host_pattern(pattern)


def test_wildcards_never_match_addresses() -> None:
    assert not host_matches("*.*.*.*", "10.0.0.1")
    assert is_ip_literal("10.0.0.1")
    assert is_ip_literal("::1")
    assert not is_ip_literal("a.b.c.d")
