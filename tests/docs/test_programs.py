"""docs/programs.md names everything that a program finds in its environment."""

from __future__ import annotations

import pathlib

from pyopenshell.isolation.environment import BASE, CA_BUNDLE, CA_FILE, CA_KEYSTORE

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "programs.md").read_text()


def test_every_variable_and_file_is_documented() -> None:
    missing = [name for name in (*BASE, CA_FILE, CA_BUNDLE, CA_KEYSTORE) if f"`{name}`" not in PAGE]
    assert not missing
