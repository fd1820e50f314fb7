"""`openshell web`: starts the inbox for a browser on this machine."""

from __future__ import annotations

import signal

import click

from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.ending import ended_by_signals
from pyopenshell.cli.framework import Command, output_option
from pyopenshell.cli.output import emit, say


@click.command(
    cls=Command,
    help="The approval inbox in a browser on this machine: prints a link that works once, and runs until Ctrl-C.",
    examples=("openshell web", "openshell web --port 8765"),
)
@click.option(
    "--port", default=0, type=click.IntRange(0, 65535), metavar="N", help="Port on 127.0.0.1; 0 takes a free one."
)
@output_option
@click.pass_obj
async def command(app: App, port: int, output: str) -> None:
    def announce(url: str) -> None:
        if output != "table":
            emit({"url": url}, output)
            return
        say(f"The inbox is at {url}")
        say("The link works once, in one browser of this machine. Ctrl-C ends the inbox; sandboxes go on.")

    with ended_by_signals(signal.SIGINT):
        async with app.connect() as gateway:
            from pyopenshell.web.server import serve

            try:
                await serve(gateway, port, announce)
            except OSError as error:
                raise CliError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from None
