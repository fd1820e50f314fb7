from __future__ import annotations

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopenshell.policy.query import Conditions, allows, denies
from pyopenshell.proof.queries import solve
from pyopenshell.proof.work import Work

GLOBS = st.sampled_from(["x", "y", "x*", "*y", "*", "xy", "?", "[!x]", "[xy]?"])
MATCHER = st.dictionaries(
    st.sampled_from("kl"), st.lists(GLOBS, min_size=1, max_size=2, unique=True).map(tuple), max_size=2
).map(lambda d: tuple(sorted(d.items())))
VALUES = ["x", "y", "xy", "xq", "qy", "q", "", "qq"]
SETS = [None] + [c for n in (1, 2) for c in itertools.combinations(VALUES, n)]


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(MATCHER, min_size=1, max_size=2),
    st.lists(MATCHER, max_size=2),
    st.lists(MATCHER, max_size=3),
    st.lists(MATCHER, max_size=2),
)
def test_solver_is_enumeration(
    allow: list[Conditions], deny: list[Conditions], other: list[Conditions], other_deny: list[Conditions]
) -> None:
    def wanted(query: dict[str, tuple[str, ...]]) -> bool:
        mine = any(allows(m, query) for m in allow) and not any(denies(m, query) for m in deny)
        theirs = any(allows(m, query) for m in other) and not any(denies(m, query) for m in other_deny)
        return mine and not theirs

    solved = solve(allow, deny, other, other_deny, Work())
    if solved is not None:
        assert wanted(dict(solved))
        return
    for a, b in itertools.product(SETS, SETS):
        assert not wanted({key: values for key, values in (("k", a), ("l", b)) if values is not None})
