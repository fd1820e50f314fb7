from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.policy.globs import binary_pattern, path_pattern, value_glob
from pyopenshell.policy.tries import Trie, lookup, matches
from tests.policy.reference import path_regex, value_regex

segment = st.sampled_from(["a", "b", "ab", "*", "**", "a*", "*b", "*a*", "?", "[ab]", "[!a]", "a?*", "[a-b]b"])
pattern = st.builds(
    lambda segments, tail: "/" + "/".join(segments) + tail,
    st.lists(segment, min_size=1, max_size=4),
    st.sampled_from(["", "", "/"]),
)
word = st.lists(st.sampled_from(["a", "b", "ab", "q", "aq", "qb", "aa"]), max_size=5)
path = st.builds(lambda w, tail: "/" + "/".join(w) + ("/" if tail and w else ""), word, st.booleans())


@given(st.lists(pattern, min_size=1, max_size=6), path)
def test_trie_is_the_union_of_its_patterns(patterns: list[str], candidate: str) -> None:
    trie: Trie[str] = Trie()
    for text in patterns:
        trie.add(path_pattern(text)[1], text)
    found = set(lookup([trie.root], candidate[1:].split("/")))
    assert found == {text for text in patterns if path_regex(text).match(candidate)}


@given(pattern)
def test_canonical_text_means_the_same(text: str) -> None:
    canonical, tokens = path_pattern(text)
    assert path_pattern(canonical) == (canonical, tokens)


@given(
    st.lists(st.sampled_from(["*", "?", "[ab]", "[!a]", "[^b-c]", "a", "b", ".", "/"]), max_size=6).map("".join),
    st.text(alphabet="abc./", max_size=6),
)
def test_value_globs_are_globs(glob: str, value: str) -> None:
    assert value_glob(glob).match(value) == bool(value_regex(glob).match(value))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("**", "/**"), ("/users/%40a", "/users/@a"), ("/caf%c3%a9", "/caf%C3%A9"), ("/a//b", "/a/b"), ("/**/**", "/**"),
        ("/a%2A", "/a[*]"), ("/a[*]b", "/a[*]b"), ("/a%3fb", "/a%3Fb"), ("/g%2fp/*", "/g%2Fp/*"), ("/a b", "/a%20b"),
    ],
)  # fmt: skip
def test_literals_are_canonical(text: str, canonical: str) -> None:
    assert path_pattern(text)[0] == canonical


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "*", "/a/{b,c}", "/a\\b", "/x**y", "/a/../b", "/a/%2e%2e/b", "/a/./b", "/a;b", "/a%3Bb", "/a#b", "/é",
        "/a\nb", "/a[", "/a[b", "/a[z-a]", "/a%zz", "/a%0a", "/" + "a" * 5000, "/a\ue000",
    ],
)  # fmt: skip
def test_patterns_that_cannot_mean_what_they_say_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        path_pattern(text)


def test_binaries_are_exact_without_a_star() -> None:
    assert binary_pattern("/usr/bin/[") is None
    tokens = binary_pattern("/usr/bin/python*")
    assert tokens is not None
    assert matches(tokens, ["usr", "bin", "python3.11"])
    assert not matches(tokens, ["usr", "bin", "x", "python3"])
    for text in ("", "curl", "/a\0b", "/a/\ue000*"):
        with pytest.raises(ValueError):
            binary_pattern(text)


def test_matching_is_not_exponential() -> None:
    glob = value_glob("*a" * 30 + "?")
    assert not glob.match("a" * 20 + "b" * 4000)
