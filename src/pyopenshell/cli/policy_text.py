"""Policy files in, policy text out. Reading problems name file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyopenshell import policy as language
from pyopenshell.cli.app import CliError
from pyopenshell.client.visible import visible_lines
from pyopenshell.policy.model import Policy


def read_policy(file: str) -> Policy:
    """Parse and check a file. Raises CliError with one line per problem."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CliError(f"{file}:1:1: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise CliError(f"cannot read policy file '{file}': {error.strerror}") from None
    try:
        return language.load(text, file)
    except language.PolicyError as error:
        raise CliError(str(error)) from None


def policy_lines(policy: Policy) -> list[str]:
    """The policy as YAML, safe to show: rule names, hosts and paths may come from an agent."""
    return visible_lines(language.dump(policy).rstrip("\n"))


def policy_data(policy: Policy) -> Any:
    """The policy as JSON values, with the keys of the YAML."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(language.dump(policy))
