"""One fake gateway per test, and the real command line against it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pyopenshell.cli.main import command
from tests.cli.fake_gateway import FakeGateway, environment


@dataclasses.dataclass(frozen=True, slots=True)
class Cli:
    """`run` is `openshell ARGS` in an environment of the test's own."""

    root: pathlib.Path

    def run(self, *args: str, stdin: str = "", env: dict[str, str | None] | None = None) -> Result:
        return CliRunner().invoke(command, list(args), input=stdin, env=environment(self.root) | (env or {}))

    def ok(self, *args: str, stdin: str = "", env: dict[str, str | None] | None = None) -> str:
        """stdout of a command that must succeed."""
        result = self.run(*args, stdin=stdin, env=env)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str) -> Any:
        return json.loads(self.ok(*args))


@pytest.fixture
def cli(tmp_path: pathlib.Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def gateway(tmp_path: pathlib.Path) -> Iterator[FakeGateway]:
    with FakeGateway(tmp_path / "config") as fake:
        yield fake
