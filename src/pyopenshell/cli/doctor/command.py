"""`openshell doctor`: probe the walls, attack a real sandbox from inside, try the installed programs.

Needs no gateway and no root, and changes nothing on the machine. Exit code 0 only when all is as it should be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from pyopenshell.cli.app import CliError
from pyopenshell.cli.framework import Group, output_option
from pyopenshell.cli.output import emit, say
from pyopenshell.client import visible
from pyopenshell.isolation.assurance import BUILT, TIERS

if TYPE_CHECKING:
    from pyopenshell.cli.doctor.attack import Outcome
    from pyopenshell.isolation.probe import Report
    from pyopenshell.isolation.surroundings import Limit

WORD = {"A": "", **dict.fromkeys(BUILT[1:], "; used only with --accept-weaker")}
WORD |= dict.fromkeys(TIERS.keys() - WORD.keys(), "; no sandbox is made")
LEVELS = {
    "full": "nothing leaves but through the proxy, and files are confined",
    "network": "nothing leaves but through the proxy; files are NOT confined as the policy says",
    "files": "files are confined; a way out past the proxy is NOT excluded",
    "none": "no sandbox can be made, or neither network nor files are confined",
}


class _Doctor(Group):
    """Without a verb it is `doctor check`."""

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx._protected_args and not ctx.args:
            return ctx.invoke(check, output=ctx.params["output"])
        return super().invoke(ctx)


@click.group(
    cls=_Doctor,
    alias="dr",
    help="Which walls hold on this machine, found by building each, and what to do about the others. "
    "Exits 0 only when a sandbox made here has them all.",
    examples=("openshell doctor", "openshell doctor -o json", "openshell doctor attack", "openshell doctor clients"),
)
@output_option
def command(output: str) -> None: ...


@command.command(
    "check", help="Build every wall once, in a process that is thrown away. The same as `openshell doctor`."
)
@output_option
def check(output: str) -> None:
    from pyopenshell.isolation import probe
    from pyopenshell.isolation.surroundings import known_limits

    try:
        report = probe.run()
    except RuntimeError as error:
        raise CliError(str(error)) from None
    limits = known_limits()
    if output != "table":
        emit(_data(report, limits), output)
    else:
        for line in lines(report, limits):
            say(line)
    if report.level != "full" or report.tier != "A":
        raise click.exceptions.Exit(1)


def _data(report: Report, limits: list[Limit]) -> dict[str, Any]:
    return {
        "assurance": report.level,
        "kernel": report.kernel,
        "limits": limits,
        "machine": report.machine,
        "milliseconds": report.milliseconds,
        "tier": report.tier,
        "uid": report.uid,
        "walls": [
            {
                "detail": one.detail,
                "fix": one.fix,
                "guards": one.part,
                "holds": one.holds,
                "key": one.key,
                "lost": one.lost,
                "required": one.required,
                "title": one.title,
            }
            for one in report.findings
        ],
    }


def lines(report: Report, limits: list[Limit]) -> Iterator[str]:
    """What people read. Pure."""
    who = "root" if report.uid == 0 else f"uid {report.uid}"
    machine = visible(f"Linux {report.kernel} {report.machine}")
    yield f"{machine}, as {who}. Each wall was built once, and thrown away."
    yield ""
    for one in report.findings:
        word, colour = ("holds", "green") if one.holds else ("MISSING", "red" if one.required or one.part else "yellow")
        yield f"  {click.style(f'{word:<8}', fg=colour)}{one.title}: {visible(one.detail)}"
        if not one.holds:
            yield f"          lost: {one.lost}"
            yield f"          fix:  {one.fix}"
    if limits:
        yield ""
        yield "Known limits that apply here:"
        for limit in limits:
            yield f"  {visible(limit.name)}: {limit.means}"
            yield f"          fix:  {limit.fix}"
    yield ""
    yield f"Tier {report.tier}: {TIERS[report.tier]}{WORD[report.tier]}"
    colour = "green" if report.level == "full" else "red"
    word = click.style(report.level, fg=colour)
    yield f"Assurance: {word} ({LEVELS[report.level]}), found in {report.milliseconds} ms"


@command.command(
    "attack",
    help="Start one real sandbox in an installation of its own, attack it from inside, and say what held. "
    "Exits 0 only if everything did; leaves nothing behind.",
)
@output_option
async def attack(output: str) -> None:
    from pyopenshell.cli.doctor.attack import perform

    outcome = await perform()
    if output != "table":
        emit(
            {
                "attacks": outcome.attacks,
                "attacker": "shell" if outcome.with_shell else "python",
                "held": outcome.held,
                "left": outcome.left,
                "tier": outcome.tier,
            },
            output,
        )
    else:
        for line in attack_lines(outcome):
            say(line)
    if not outcome.held:
        raise click.exceptions.Exit(1)


def attack_lines(outcome: Outcome) -> Iterator[str]:
    """What people read. Pure."""
    if outcome.with_shell:
        yield "This host has no /usr/bin/python3: only what a shell can try was tried."
        yield ""
    for one in outcome.attacks:
        word, colour = ("held", "green") if one.held else ("NOT HELD", "red")
        yield f"  {click.style(f'{word:<9}', fg=colour)} {one.title}: {visible(one.saw, 400)}"
        if one.record:
            yield f"            record: {visible(one.record, 300)}"
    for left in outcome.left:
        yield f"  {click.style('NOT HELD', fg='red')}  left behind: {visible(left)}"
    yield ""
    yield f"On tier {outcome.tier}: {TIERS[outcome.tier]}."
    failed = sum(not one.held for one in outcome.attacks)
    yield f"{len(outcome.attacks) - failed} of {len(outcome.attacks)} held" + (
        "." if not failed else f", {failed} did NOT."
    )


@command.command(
    "clients",
    help="Try the installed programs in a sandbox of their own against a TLS server of ours: do they trust "
    "the sandbox's authority, do they use the proxy? Exits 0 only if every installed one works.",
)
@output_option
async def clients(output: str) -> None:
    from pyopenshell.cli.doctor.clients import perform

    found = await perform()
    if output != "table":
        emit(found, output)
    else:
        colours = {"works": "green", "fails": "red"}
        for one in found:
            word = click.style(
                f"{one.state.upper() if one.state == 'fails' else one.state:<9}", fg=colours.get(one.state)
            )
            said = f" ({visible(one.said, 200)})" if one.said else ""
            say(f"  {word} {one.name}: {one.how}{said}" + (f"; fix: {one.fix}" if one.fix else ""))
    if any(one.state == "fails" for one in found):
        raise click.exceptions.Exit(1)
