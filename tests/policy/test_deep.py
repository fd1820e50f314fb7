"""`make test-deep`: every law over many thousand seeds; bounded, resumable, counted (`tests/deep.py`)."""

from __future__ import annotations

import pytest

from tests.deep import balanced, campaign
from tests.policy.laws import LAWS


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LAWS)
def test_law_often(name: str) -> None:
    check, seeds, part, whole = LAWS[name]
    balanced(campaign(name, check, seeds), part, whole)
