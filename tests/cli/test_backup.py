"""`gateway backup` and `restore` from the command line: what they print, and what they ask."""

from __future__ import annotations

import asyncio
import json
import pathlib

import pytest

from pyopenshell.gateway.store import Store
from tests.cli.conftest import Cli


@pytest.fixture
def database(cli: Cli) -> pathlib.Path:
    """Of a gateway that ran once."""
    path = cli.root / "state" / "openshell" / "gateway" / "openshell.db"
    path.parent.mkdir(parents=True)
    store = Store(f"sqlite:{path}")

    async def make() -> None:
        await store.open()
        await store.close()

    asyncio.run(make())
    return path


def test_what_they_did_is_told_to_programs(cli: Cli, database: pathlib.Path) -> None:
    file = cli.root / "backup"
    assert cli.json("gateway", "backup", str(file), "-o", "json") == {"bytes": file.stat().st_size, "file": str(file)}
    restored = cli.json("gateway", "restore", str(file), "--yes", "-o", "json")
    assert restored["file"] == str(file)
    assert pathlib.Path(restored["kept"]).name.startswith(f"{database.name}.before-")
    assert pathlib.Path(restored["kept"]).is_file()


@pytest.mark.usefixtures("database")
def test_the_question_is_no_part_of_the_answer(cli: Cli) -> None:
    file = cli.root / "backup"
    assert "Backup written to" in cli.ok("gateway", "backup", str(file))
    asked = cli.run("gateway", "restore", str(file), "-o", "json", stdin="y\n")
    assert "Replace everything" in asked.stderr
    assert json.loads(asked.stdout)["file"] == str(file)
    assert cli.run("gateway", "restore", str(file), stdin="n\n").exit_code == 1
