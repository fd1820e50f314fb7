from __future__ import annotations

import gc

import pytest

from pyopenshell.policy.memo import per_object
from pyopenshell.policy.model import Policy


def test_one_call_per_object_not_per_value() -> None:
    calls: list[Policy] = []

    @per_object
    def version(policy: Policy) -> int:
        calls.append(policy)
        return policy.version

    one, other = Policy(version=7), Policy(version=7)
    assert [version(one), version(one), version(other)] == [7, 7, 7]
    assert len(calls) == 2


def test_nothing_is_kept_alive_and_no_identity_is_mistaken() -> None:
    @per_object
    def version(policy: Policy) -> int:
        return policy.version

    for number in range(1000):
        assert version(Policy(version=number)) == number
    gc.collect()
    cells = [cell.cell_contents for cell in version.__closure__ or ()]
    assert next(len(content) for content in cells if isinstance(content, dict)) == 0


def test_errors_are_not_remembered() -> None:
    answers = iter([ValueError("not now"), 1])

    @per_object
    def ask(policy: Policy) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    policy = Policy()
    with pytest.raises(ValueError, match="not now"):
        ask(policy)
    assert ask(policy) == 1
