"""Laws that hold for every policy and request, on a few seeds; `test_deep.py` runs them millions of times."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.policy.laws import LAWS


@pytest.mark.parametrize("name", LAWS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(10**6, 10**9))
def test_law(name: str, seed: int) -> None:
    LAWS[name][0](seed)


@pytest.mark.parametrize("name", LAWS)
def test_no_law_is_vacuous(name: str) -> None:
    """The samples of a law hold enough cases of either kind (`deep.balanced` says so of the long runs, too)."""
    check, _, part, whole = LAWS[name]
    seen: Counter[str] = Counter()
    for seed in range(150):
        seen.update(check(seed))
    assert seen[part] >= 0.02 * seen[whole] > 0
    assert seen[part] <= 0.98 * seen[whole]
