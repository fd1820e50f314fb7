from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.policy.paths import canonicalise

SAME = [
    ("/a/./b", "/a/b"), ("/a/b/.", "/a/b/"), ("/a/../b", "/b"), ("/a/b/..", "/a/"),
    ("/public/%2e%2e/secret", "/secret"),
    ("/public/%2E/secret", "/public/secret"), ("//", "/"), ("//public//../secret", "/secret"),
    ("/public//secret", "/public/secret"), ("http://host/a/../b", "/b"), ("https://host", "/"),
    ("http://host:443/foo", "/foo"), ("/fetch/http://example.test", "/fetch/http:/example.test"),
    ("/files/hello%20world.txt", "/files/hello%20world.txt"), ("/search/a%3Fb", "/search/a%3Fb"),
    ("/users/%40alice", "/users/@alice"), ("/a;jsessionid=xyz/b", "/a/b"), ("/public;x=1/../secret", "/secret"),
    ("/users/caf%C3%A9", "/users/caf%C3%A9"), ("", "/"), ("/", "/"), ("/a/caf%c3%a9", "/a/caf%C3%A9"),
    ("/public/..;/secret", "/secret"), ("/public/.;x/secret", "/public/secret"), ("/public/%2e%2e;/secret", "/secret"),
    ("/public/..%3B/secret", "/secret"), ("/a/%252F/b", "/a/%252F/b"), ("/a/100%25/b", "/a/100%25/b"),
    ("/.github/x", "/.github/x"), ("/a/b.", "/a/b."), ("/a/...", "/a/..."), ("/a b", "/a%20b"),
]  # fmt: skip
REFUSED = [
    "/..", "/a/../..", "/a/%2e%2e/%2e%2e", "/a/%2f/b", "/public/..%2fsecret", "/a%00b", "/a%0Ab", "/a%0Db", "/a%7Fb",
    "/a\nb", "/a#b", "/a\u00e9", "/" + "a" * 4096, "/public/..;/..;/secret", "/..;", "/a%zz", "/a%2", "*", "a/b",
    "/a?x=%zz", "/a?x=%", "/a?x=%ff", "/a?x=%C3%28", "/a?x y", "/a?x#y", "/a?\u00e9", "/a?\x00", "host:443",
]  # fmt: skip


@pytest.mark.parametrize(("target", "path"), SAME)
def test_one_canonical_path(target: str, path: str) -> None:
    canonical = canonicalise(target, allow_encoded_slash=False)
    assert canonical.path == path
    assert canonical.target == path
    assert canonical.query is None


@pytest.mark.parametrize("target", REFUSED)
def test_refused_targets(target: str) -> None:
    with pytest.raises(ValueError):
        canonicalise(target, allow_encoded_slash=False)


def test_query_is_forwarded_byte_for_byte() -> None:
    canonical = canonicalise("/a/../b?x=%2e%2E&y=/../&+&z=?", allow_encoded_slash=False)
    assert (canonical.path, canonical.query) == ("/b", "x=%2e%2E&y=/../&+&z=?")
    assert canonical.target == "/b?x=%2e%2E&y=/../&+&z=?"


def test_encoded_slash_needs_consent_and_never_hides_dots() -> None:
    assert canonicalise("/g/a%2fb", allow_encoded_slash=True).path == "/g/a%2Fb"
    for target in ("/public/..%2fsecret", "/public/.%2fsecret", "/public/..%2f..%2fsecret", "/a%2f.."):
        with pytest.raises(ValueError):
            canonicalise(target, allow_encoded_slash=True)


@given(st.text(alphabet="/.%2eEfFaA;b1~ ?*:@", max_size=16), st.booleans())
def test_idempotent_and_normal(tail: str, slash: bool) -> None:
    try:
        canonical = canonicalise("/" + tail, allow_encoded_slash=slash)
    except ValueError:
        return
    assert canonicalise(canonical.target, allow_encoded_slash=slash) == canonical
    assert canonical.path.startswith("/")
    assert "//" not in canonical.path
    assert ";" not in canonical.path
    assert not {".", ".."} & set(canonical.path.split("/"))
    if not slash:
        assert "%2F" not in canonical.path
