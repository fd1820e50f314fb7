"""`openshell demo`: opens the house, plays the story, prints the trail, cleans up, and says honestly how it went."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import click

from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.demo.screen import Screen
from pyopenshell.cli.ending import ended_by_signals
from pyopenshell.cli.framework import Command, output_option
from pyopenshell.cli.output import emit
from pyopenshell.client import visible

if TYPE_CHECKING:
    from pyopenshell.cli.demo.house import ConnectTo
    from pyopenshell.cli.demo.story import Outcome, Target

REPOSITORY, FILE = "acme/field-notes", "notes/2026/today.md"


@click.command(
    cls=Command,
    help="Watch the whole loop happen, for real, on this machine: an agent in a sandbox is refused, reads why, asks, "
    "is corrected, asks for less, is approved, and goes on. Needs no account, no Docker and leaves nothing behind.",
)
@click.option(
    "--yes", is_flag=True, help="Scripted decisions: reject the first proposal with guidance, approve the next."
)
@click.option("--github", "repository", default="", metavar="OWNER/REPO",
              help="Use the real GitHub, with the token in GITHUB_TOKEN or GH_TOKEN.")  # fmt: skip
@output_option
@click.pass_obj
async def command(app: App, yes: bool, repository: str, output: str) -> None:
    if not yes and not sys.stdin.isatty():
        raise CliError("the demo asks for decisions; pass --yes in non-interactive mode", 2)
    if repository.count("/") != (1 if repository else 0):
        raise click.UsageError("--github expects OWNER/REPO")
    from pyopenshell.cli.demo import story

    screen = Screen(err=output != "table")
    screen.title("pyopenshell: an agent that asks before it acts")
    async with _target(repository, screen) as (target, override):
        outcome = await _perform(screen, target, override, yes)
    outcome.seconds = screen.seconds
    if output != "table":
        emit(story.summary(outcome), output)
    else:
        for line, colour in report(outcome):
            screen.plain(line, colour)
    if outcome.problems:
        raise click.exceptions.Exit(1)


async def _perform(screen: Screen, target: Target, override: ConnectTo | None, yes: bool) -> Outcome:
    """Open the house, play, close it; what could not be removed is one of the problems."""
    from pyopenshell.cli.demo.house import open_house
    from pyopenshell.cli.demo.person import AtTerminal, Scripted
    from pyopenshell.cli.demo.story import Story
    from pyopenshell.client.gateway import Gateway

    with ended_by_signals():  # a closed terminal must not leave the house behind
        closing = contextlib.ExitStack()
        opening = asyncio.ensure_future(asyncio.to_thread(closing.enter_context, open_house(override)))
        try:
            house = await asyncio.shield(opening)
            screen.stage(f"gateway of its own at {house.gateway.endpoint}, mutual TLS, state in {house.root}")
            async with await Gateway.open(house.registration) as gateway:
                for one in (await gateway.operator_status()).connect_to:
                    screen.stage(f"operator's override: {one.host}:{one.port} is dialled at {one.address}")
                outcome = await Story(gateway, screen, Scripted() if yes else AtTerminal(), target).tell()
        finally:
            await asyncio.wait({opening})  # interrupted while opening: what is half open is closed, too
            await asyncio.shield(asyncio.to_thread(closing.close))
    outcome.problems += [f"nothing was left behind (still there: {thing})" for thing in house.left]
    return outcome


def report(outcome: Outcome) -> Iterator[tuple[str, str | None]]:
    """The trail with the time between its steps, and what held. Lines with their colour."""
    from pyopenshell.cli.demo.story import Outcome

    assert isinstance(outcome, Outcome)
    yield "", None
    yield (
        "  The audit trail, as the sandbox and the gateway wrote it (OCSF shorthand; time since start, since last):",
        None,
    )
    yield "", None
    for row in outcome.trace:
        colour = "red" if "DENIED" in row.message or "REJECTED" in row.message else None
        colour = "green" if "ALLOWED" in row.message or "APPROVED" in row.message else colour
        yield f"  {row.at:7.3f}s {row.since * 1000:+8.1f} ms  {row.source:<7}  {visible(row.message)}", colour
    yield "", None
    if outcome.problems:
        yield f"  NOT as it should be, after {outcome.seconds:.1f} s:", "red"
        for problem in outcome.problems:
            yield f"    does not hold: {visible(problem)}", "red"
        return
    done = "decided, pushed, verified" if outcome.approved else "rejected, and so not done"
    yield f"  All of it held, in {outcome.seconds:.1f} s: refused, asked, {done}. Nothing is left behind:", "green"
    yield "  no process, no file, and no setting of yours was touched.", "green"
    yield "  Your turn:  openshell sandbox create -- bash     openshell rule get --watch", None


@contextlib.asynccontextmanager
async def _target(repository: str, screen: Screen) -> AsyncIterator[tuple[Target, ConnectTo | None]]:
    """Where the agent writes: a server of our own that stands in for GitHub, or GitHub itself."""
    from pyopenshell.cli.demo import story
    from pyopenshell.cli.demo.forge import forge
    from pyopenshell.cli.demo.house import ConnectTo

    if not repository:
        async with forge(story.HOST) as stand_in:
            screen.stage(f"a stand-in for {story.HOST} listens on 127.0.0.1:{stand_in.port} with TLS of its own")
            key = (REPOSITORY, FILE)
            target = story.Target(REPOSITORY, FILE, lambda: stand_in.files.get(key))
            yield target, ConnectTo(story.HOST, f"127.0.0.1:{stand_in.port}", stand_in.ca_pem)
        return
    token = story.environment_token()
    if not token:
        raise CliError("--github needs a token that may write to the repository, in GITHUB_TOKEN or GH_TOKEN")
    path = f"pyopenshell-demo/{secrets.token_hex(4)}.md"
    screen.stage(f"the real {story.HOST}, repository {visible(repository)}; the file {path} will stay there")
    screen.stage("the token is in the agent's environment: give it one that may do nothing else")
    url = f"https://{story.HOST}/repos/{repository}/contents/{path}"
    yield story.Target(repository, path, lambda: _fetch(url, token), token), None


def _fetch(url: str, token: str) -> bytes | None:
    """The file as GitHub has it now; None when it has none."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - fixed https URL
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return base64.b64decode(json.load(answer)["content"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise CliError(f"GitHub answered {error.code} when the upload was verified") from None
    except (OSError, ValueError, KeyError) as error:
        raise CliError(f"the upload could not be verified: {error}") from None
