"""The laws can fail: every seeded bug is found by one of them, within a bounded number of seeds."""

from __future__ import annotations

import pytest

from pyopenshell.policy import globs
from tests.policy.laws import LAWS
from tests.policy.mutants import EVERY, Mutant

SEEDS = 600


def killer(mutant: Mutant, patch: pytest.MonkeyPatch) -> str:
    """The law that notices, and the seed at which it does; "" for a survivor."""
    mutant(patch)
    for start in range(0, SEEDS, 50):
        for name, (check, *_) in LAWS.items():
            for seed in range(start, start + 50):
                try:
                    check(seed)
                except Exception as error:  # noqa: BLE001 - a crash is a bug that was noticed, too
                    return f"{name} at seed {seed}: {type(error).__name__}"
    return ""


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", EVERY, ids=lambda mutant: mutant.__name__)
def test_seeded_bugs_are_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    globs.path_pattern.cache_clear()
    found = killer(mutant, monkeypatch)
    globs.path_pattern.cache_clear()
    print(f"{mutant.__name__}: {found}")
    assert found, "survived"
