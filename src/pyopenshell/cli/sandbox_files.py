"""`openshell sandbox upload` and `download` (contract/cli.md 5.4). The moving itself is `client.transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.framework import Command, output_option
from pyopenshell.cli.output import emit, mark, say
from pyopenshell.client import visible
from pyopenshell.client.autorun import MOST

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway
    from pyopenshell.client.transfer import Report

SYSTEM = "/"


def split(entry: str) -> tuple[Path, str]:
    """`LOCAL[:REMOTE]`. The whole text where a file of that name exists. Raises CliError."""
    whole = Path(entry)
    local, colon, remote = entry.rpartition(":")
    if not colon or whole.exists():
        local, remote = entry, ""
    path = Path(local)
    if not path.exists() and not path.is_symlink():
        raise CliError(f"local path does not exist: {local}")
    return path, remote


async def send(
    gateway: Gateway, sandbox: str, local: Path, remote: str, *, git_ignore: bool, title: str = ""
) -> Report:
    """Upload with the contract's lines on stderr. Raises CliError."""
    from pyopenshell.client.transfer import TransferError, upload

    say(title or f"Uploading {visible(str(local))} -> sandbox:{visible(remote or '~')}", err=True)
    try:
        report = await upload(gateway, sandbox, local, remote, git_ignore=git_ignore)
    except TransferError as error:
        raise CliError(str(error)) from None
    if report.unfiltered:
        text = f".gitignore filtering excluded all files in {visible(str(local))}; uploading unfiltered"
        mark("⚠", text, err=True)
    if title:
        mark("  ✓", "Files uploaded", err=True)
    else:
        mark("✓", f"Upload complete ({_amount(report)})", err=True)
    return report


@click.command("upload", cls=Command, help="Copy a file or directory into a sandbox; what git ignores stays behind.")
@click.argument("name")
@click.argument("local")
@click.argument("dest", required=False, default="")
@click.option("--no-git-ignore", is_flag=True, help="Copy also what git ignores, and .git.")
@output_option
@click.pass_obj
async def upload_(app: App, name: str, local: str, dest: str, no_git_ignore: bool, output: str) -> None:
    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        report = await send(gateway, sandbox, Path(local), dest, git_ignore=not no_git_ignore)
    if output != "table":
        emit({"bytes": report.size, "files": report.files, "sandbox": sandbox}, output)


@click.command(
    "download",
    cls=Command,
    help="Copy a file or directory out of a sandbox. Nothing is overwritten; links that lead out are refused.",
)
@click.argument("name")
@click.argument("path")
@click.argument("dest", required=False, default=".")
@click.option("--outside", is_flag=True, help="Allow a PATH outside the working directory /sandbox.")
@output_option
@click.pass_obj
async def download_(app: App, name: str, path: str, dest: str, outside: bool, output: str) -> None:
    from pyopenshell.client.transfer import HOME, TransferError, download

    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        say(f"Downloading sandbox:{visible(path)} -> {visible(dest)}", err=True)
        try:
            report = await download(gateway, sandbox, path, Path(dest), within=SYSTEM if outside else HOME)
        except TransferError as error:
            raise CliError(str(error)) from None
    mark("✓", f"Download complete ({_amount(report)})", err=True)
    _warn(report)
    if output != "table":
        traps = report.traps[:MOST]
        emit({"bytes": report.size, "files": report.files, "sandbox": sandbox, "traps": traps}, output)


def _warn(report: Report) -> None:
    """What an agent wrote, and programs here run without being asked, is for the person to look at first."""
    if not report.traps:
        return
    mark("⚠", "Programs of this machine run these by themselves; look at them first:", err=True)
    for trap in report.traps[:MOST]:
        say(f"    {visible(trap.path, 300)}: {trap.why}", err=True)
    if len(report.traps) > MOST:
        say(f"    and {len(report.traps) - MOST} more", err=True)


def _amount(report: Report) -> str:
    return f"{report.files} file{'' if report.files == 1 else 's'}, {report.size} bytes"


COMMANDS = (upload_, download_)
