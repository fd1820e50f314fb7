"""Queries: text to values, and the ALL / ANY duality of allow and deny matchers.

Decides whether a query satisfies matchers. Knows nothing of paths, rules and endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyopenshell.policy.globs import value_glob
from pyopenshell.policy.model import QueryMatcher
from pyopenshell.policy.paths import unescape

Conditions = tuple[tuple[str, tuple[str, ...]], ...]
"""Sorted (key, globs) pairs of one matcher; () matches every query."""

Values = Mapping[str, Sequence[str]]


def conditions(query: tuple[tuple[str, QueryMatcher], ...]) -> Conditions:
    """Conditions of a rule's `query`. Raises ValueError for a matcher without globs or with a malformed one."""
    merged: dict[str, tuple[str, ...]] = {}
    for key, matcher in query:
        if not matcher.any:
            raise ValueError(f"query matcher for {key!r} has no glob")
        if key in merged:
            raise ValueError(f"query key {key!r} appears twice in one matcher")
        for glob in matcher.any:
            value_glob(glob)
        merged[key] = matcher.any
    return tuple(sorted(merged.items()))


def parse_query(query: str | None) -> dict[str, list[str]]:
    """Values per key in order. Split on "&" only, "+" is a blank, a key without "=" has the value "".

    Expects a query that passed `paths.check_query`; empty pieces (`a&&b`) carry nothing.
    """
    values: dict[str, list[str]] = {}
    for piece in (query or "").split("&"):
        if not piece:
            continue
        key, _, value = piece.partition("=")
        values.setdefault(_text(key), []).append(_text(value))
    return values


def _text(text: str) -> str:
    text = text.replace("+", " ")
    return unescape(text).decode() if "%" in text else text


def _matches(glob: str, value: str) -> bool:
    return value_glob(glob).match(value)


def allows(matcher: Conditions, values: Values) -> bool:
    """Every key present, and all of its values matched: one unmatched duplicate is a refusal."""
    return all(
        values.get(key) and all(any(_matches(glob, value) for glob in globs) for value in values[key])
        for key, globs in matcher
    )


def denies(matcher: Conditions, values: Values) -> bool:
    """Every key has at least one matched value: one hit among duplicates is enough."""
    return all(any(_matches(glob, value) for glob in globs for value in values.get(key, ())) for key, globs in matcher)
