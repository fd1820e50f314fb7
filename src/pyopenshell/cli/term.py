"""`openshell term`: starts the full-screen inbox (contract/cli.md 13)."""

from __future__ import annotations

import sys

import click

from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.ending import end_without_terminal, ended_by_signals
from pyopenshell.cli.framework import Command


@click.command(
    cls=Command,
    help="The approval inbox on a full screen: sandboxes, proposals with their proof, observed denials, logs. "
    "Everything appears as it happens.",
    examples=("openshell term", "openshell term --theme light"),
)
@click.option(
    "--theme",
    type=click.Choice(["auto", "dark", "light"]),
    default="auto",
    show_default=True,
    envvar="OPENSHELL_THEME",
    show_envvar=False,
    help="Colours; `auto` asks the terminal. [env: OPENSHELL_THEME]",
)
@click.pass_obj
async def command(app: App, theme: str) -> None:
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise CliError("term needs a terminal; without one use: openshell rule get --watch", 2)
    end_without_terminal(sys.stdin.fileno())
    with ended_by_signals():
        async with app.connect() as gateway:
            from pyopenshell.tui.app import run

            await run(gateway, theme)
