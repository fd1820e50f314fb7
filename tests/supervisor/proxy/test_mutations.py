"""Every parser that eats the sandbox's or an upstream's bytes, under mutations of good input (`mutations`)."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.deep import campaign
from tests.supervisor.proxy.mutations import CHECKS


@pytest.mark.parametrize("name", CHECKS)
@settings(suppress_health_check=list(HealthCheck))
@given(source=st.randoms(use_true_random=False))
def test_a_parser_keeps_its_laws(name: str, source: random.Random) -> None:
    CHECKS[name](source)


@pytest.mark.parametrize("name", CHECKS)
def test_the_mutations_reach_both_answers(name: str) -> None:
    """Input that is only ever refused, or only ever taken, proves nothing."""
    seen = sum((CHECKS[name](random.Random(seed)) for seed in range(400)), start=type(CHECKS[name](random.Random(0)))())
    (whole, count), (part, some) = list(seen.items())[:2]
    assert count == 400, whole
    assert 0.05 < some / count < 0.95 or name == "process", (part, seen)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CHECKS)
def test_a_parser_keeps_its_laws_at_length(name: str) -> None:
    campaign(f"proxy-{name}", lambda seed: CHECKS[name](random.Random(seed)), 2_000_000)
