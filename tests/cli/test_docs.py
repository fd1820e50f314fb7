"""docs/cli.md names every verb and every option; every verb explains itself."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import click
import pytest

from pyopenshell.cli.main import ALIASES, command
from tests.cli.conftest import Cli

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def verbs() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            for verb, one in found.commands.items():
                yield f"{name} {verb}", one
        else:
            yield name, found


VERBS = dict(verbs())


def section(verb: str) -> str:
    """The part of the page about the verb's noun, where its options must be."""
    noun = verb.split()[0]
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    return next(part for part in parts if re.match(rf"(\w+ and )?{noun}\b", part))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_is_documented(verb: str) -> None:
    about = section(verb)
    assert f"`{verb}" in about, f"docs/cli.md does not name `{verb}`"
    for option in VERBS[verb].params:
        if isinstance(option, click.Option) and not option.hidden:
            for name in (*option.opts, *option.secondary_opts):
                if name not in ("--output", "--help"):
                    assert f"`{name}" in about, f"docs/cli.md does not say {name} of `{verb}`"


@pytest.mark.parametrize("option", [o for o in command.params if isinstance(o, click.Option)], ids=lambda o: o.name)
def test_every_global_flag_is_documented(option: click.Option) -> None:
    everywhere = TEXT.split("## Everywhere")[1].split("\n## ")[0]
    for name in option.opts:
        assert f"`{name}" in everywhere


def test_every_alias_is_documented() -> None:
    for alias, name in ALIASES.items():
        assert f"`{name}` = `{alias}`" in TEXT


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_has_help(cli: Cli, verb: str) -> None:
    out = cli.ok(*verb.split(), "--help")
    assert "Usage: openshell" in out
    assert VERBS[verb].help
    for option in VERBS[verb].params:
        if isinstance(option, click.Option):
            assert option.help, f"{verb} {option.opts}"


def test_every_verb_that_answers_takes_output() -> None:
    without = {verb for verb, one in VERBS.items() if "output" not in {option.name for option in one.params}}
    assert without == {"sandbox exec", "sandbox connect", "sandbox ssh-config", "term"}


def test_root_and_groups_without_a_verb_print_help(cli: Cli) -> None:
    assert "SANDBOX COMMANDS" in cli.ok()
    for noun in ("sandbox", "rule", "policy", "settings", "gateway", "rl"):
        assert cli.ok(noun).startswith("Usage: openshell ")
    assert cli.run("nonsense").exit_code == 2
    assert cli.ok("-V").startswith("openshell ")
    assert cli.ok("sandbox", "list", "-V").startswith("openshell ")
