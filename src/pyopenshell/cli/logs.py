"""`openshell logs`: a sandbox's log lines, from the gateway's buffer or as they come (contract/cli.md 6)."""

from __future__ import annotations

import datetime
import json

import click

from pyopenshell.cli.app import App
from pyopenshell.cli.durations import duration
from pyopenshell.cli.framework import Command, argument_name, output_option
from pyopenshell.cli.output import emit, plain, say
from pyopenshell.client import visible
from pyopenshell.client.values import LogLine


def render(line: LogLine) -> str:
    """`[secs.mmm] [source ] [level] [target] message k=v …`; every part may be hostile."""
    seconds = f"{line.time.timestamp():.3f}" if line.time else "0.000"
    fields = "".join(f" {visible(key)}={visible(line.fields[key])}" for key in sorted(line.fields))
    source, level, target = visible(line.source), visible(line.level), visible(line.target)
    return f"[{seconds}] [{source:<7}] [{level:<5}] [{target}] {visible(line.message)}{fields}"


@click.command(
    cls=Command,
    help="Show the last lines of a sandbox's log, or follow it.",
    examples=(
        "openshell logs --since 5m",
        "openshell logs my-box --tail --level warn",
    ),
)
@argument_name
@click.option("-n", "lines", default=200, show_default=True, metavar="N", help="At most so many lines.")
@click.option("--tail", "--follow", "-f", "tail", is_flag=True, help="Then go on with new lines as they come.")
@click.option("--since", default="", metavar="DURATION", help="Only what is younger: 30s, 5m, 1h.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=click.Choice(["all", "gateway", "sandbox"]),
    help="Who wrote it; repeatable, default all.",
)
@click.option(
    "--level",
    default="",
    type=click.Choice(["", "error", "warn", "info", "debug", "trace"]),
    metavar="LEVEL",
    help="At least this level: error, warn, info, debug or trace.",
)
@output_option
@click.pass_obj
async def command(
    app: App, name: str, lines: int, tail: bool, since: str, sources: tuple[str, ...], level: str, output: str
) -> None:
    after = datetime.datetime.now(datetime.UTC) - duration(since) if since else None
    wanted = () if not sources or "all" in sources else sources
    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        if tail:
            async for item in gateway.tail(sandbox, lines=lines, since=after, sources=wanted, level=level):
                if isinstance(item, str):
                    say(f"Warning: {visible(item)}", err=True)
                elif output == "table":
                    say(render(item))
                else:
                    say(json.dumps(plain(item), sort_keys=True))
            return
        found, buffered = await gateway.logs(sandbox, lines=lines, since=after, sources=wanted, level=level)
    if output != "table":
        emit(found, output)
        return
    if after is not None and len(found) >= lines:
        # Only then may older lines inside the window have been cut off.
        say(
            f"Warning: log buffer contains only the last {buffered} lines; --since results may be incomplete.", err=True
        )
    for line in found:
        say(render(line))
