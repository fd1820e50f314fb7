"""Policy files as bytes and as policies, with errors for people. `-` is standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from pyopenshell import policy as language
from pyopenshell.cli.app import CliError
from pyopenshell.policy.model import Policy

MAX_BYTES = 16 * 1024 * 1024
"""More than any policy: the language itself refuses texts above 4 Mi characters."""


def read_text(file: str) -> bytes:
    """The bytes of a file. Raises CliError."""
    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_BYTES)
        with Path(file).open("rb") as source:
            return source.read(MAX_BYTES)
    except OSError as error:
        raise CliError(f"cannot read '{file}': {error.strerror}") from None


def check_policy(text: bytes, file: str) -> Policy:
    """The policy in a text. Raises CliError with one line per problem."""
    try:
        return language.load(text, file)
    except language.PolicyError as error:
        raise CliError(str(error)) from None
