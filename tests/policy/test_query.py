from __future__ import annotations

import pytest

from pyopenshell.policy.model import QueryMatcher
from pyopenshell.policy.query import allows, conditions, denies, parse_query


def test_parsing() -> None:
    assert parse_query("a=1&a=2&b&c=&d=x+y%2Bz&&%61=3&e=1;f=2") == {
        "a": ["1", "2", "3"],
        "b": [""],
        "c": [""],
        "d": ["x y+z"],
        "e": ["1;f=2"],
    }
    assert parse_query(None) == {}


def test_allow_needs_every_value_and_deny_needs_one() -> None:
    matcher = conditions((("ref", QueryMatcher(("v*", "main"))),))
    assert allows(matcher, {"ref": ["v1.2", "main"]})
    assert not allows(matcher, {"ref": ["v1", "evil"]})
    assert not allows(matcher, {})
    assert not allows(matcher, {"REF": ["v1"]})
    assert denies(matcher, {"ref": ["evil", "v1"]})
    assert not denies(matcher, {"ref": ["evil"]})
    assert not denies(matcher, {})
    assert allows((), {})
    assert denies((), {})


def test_empty_matchers_are_refused() -> None:
    with pytest.raises(ValueError):
        conditions((("ref", QueryMatcher(())),))
    with pytest.raises(ValueError):
        conditions((("a", QueryMatcher(("x",))), ("a", QueryMatcher(("y",)))))
