"""docs/settings.md: every registered key with its type, values and scopes."""

from __future__ import annotations

import pytest

from pyopenshell.gateway.settings import REGISTRY, Kind
from tests.docs.code import page

TEXT = page("settings.md")


@pytest.mark.parametrize(("key", "kind"), REGISTRY.items())
def test_every_key_has_a_row(key: str, kind: Kind) -> None:
    row = next((line for line in TEXT.splitlines() if line.startswith(f"| `{key}` |")), "")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 5, f"docs/settings.md has no whole row for {key}"
    kind_text = kind.type + (": " + ", ".join(f"`{value}`" for value in kind.values) if kind.values else "")
    assert cells[1] == kind_text
    assert cells[2].strip("`") in (kind.values or ("true", "false"))
    assert cells[3] == "global, sandbox"
    assert len(cells[4]) > 40


def test_nothing_is_documented_that_does_not_exist() -> None:
    rows = [line.split("`")[1] for line in TEXT.split("\n## ")[0].splitlines() if line.startswith("| `")]
    assert rows == list(REGISTRY)
