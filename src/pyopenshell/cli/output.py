"""How answers are laid out: colour or none, tables, times, JSON and YAML. Knows no verb."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from pyopenshell.client import visible


def colours() -> bool | None:
    """False under NO_COLOR; otherwise click decides by whether the stream is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def say(text: str = "", *, err: bool = False, newline: bool = True) -> None:
    """One line for people."""
    click.echo(text, err=err, nl=newline, color=colours())


def mark(sign: str, text: str, *, err: bool = False) -> None:
    """A line that begins with ✓, ·, !, ⚠ or ✗ in its colour."""
    colour = {"✓": "green", "✗": "red", "!": "yellow", "⚠": "yellow", "OK": "green"}.get(sign)
    say(f"{click.style(sign, fg=colour) if colour else sign} {text}", err=err)


def plain(value: Any) -> Any:
    """`value` as what JSON and YAML can say: dataclasses as mappings, times as ISO 8601 with Z, spans in seconds."""
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(one) for one in value]
    return value


def emit(value: Any, output: str) -> None:
    """`-o json` (2 spaces, keys sorted) or `-o yaml`, on stdout. Non-ASCII is escaped: agents' text stays inert."""
    if output == "json":
        click.echo(json.dumps(plain(value), indent=2, sort_keys=True).replace("\x7f", "\\u007f"))
        return
    import io

    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.allow_unicode = False
    buffer = io.StringIO()
    writer.dump(_sorted(plain(value)), buffer)
    click.echo(buffer.getvalue(), nl=False)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns two spaces apart, as wide as their widest cell; cells are made visible here."""
    cells = [[visible(cell, 200) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    for row in [list(header), *cells]:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
