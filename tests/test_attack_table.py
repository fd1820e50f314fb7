"""The table of attacks is complete, and every test that it names exists."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.attack_table import DOORS, NOT_AT, TABLE, WITHOUT

ROOT = Path(__file__).resolve().parent.parent
LAST = {"A": 12, "B": 22, "C": 5, "D": 7, "F": 7}
CLASSES = [f"{letter}-{n}" for letter, last in LAST.items() for n in range(1, last + 1)]


@functools.cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_class_is_in_it_and_no_other() -> None:
    assert sorted({**TABLE, **WITHOUT}) == sorted(CLASSES)
    assert not set(TABLE) & set(WITHOUT)
    assert set(NOT_AT) <= set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_every_class_is_tried_at_every_door_or_says_why_not(name: str) -> None:
    tried, not_here = TABLE[name], NOT_AT.get(name, {})
    assert set(tried) <= {*DOORS, "kernel", "policy"}
    assert set(DOORS) == (set(tried) | set(not_here)) & set(DOORS)
    assert not set(tried) & set(not_here), "tried, or not to be tried"
    assert tried


@pytest.mark.parametrize("node", sorted({node for tried in TABLE.values() for node in tried.values()}))
def test_every_test_in_it_exists(node: str) -> None:
    file, _, function = node.partition("::")
    assert function in functions(file)
