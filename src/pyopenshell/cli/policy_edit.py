"""`openshell policy fmt|edit|update`: changing a policy file with its comments kept, and a sandbox's policy in place.

Knows files, editors and the words of options; how texts change is `policy.layout` and `policy.edit`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.framework import Command, argument_name, output_option
from pyopenshell.cli.output import emit, mark, say
from pyopenshell.cli.policy_files import check_policy, read_text
from pyopenshell.cli.policy_text import policy_data, policy_lines
from pyopenshell.client import visible

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway
    from pyopenshell.policy import MergeResult, Policy
    from pyopenshell.policy.merge import Operation

C = TypeVar("C", bound=Callable[..., Any])

_OPERATIONS = (
    ("--add-endpoint", "add_endpoints", "host:port[:access[:protocol[:enforcement[:options]]]]", "Add a destination."),
    ("--remove-endpoint", "remove_endpoints", "host:port", "Take a port of a host away."),
    ("--add-allow", "add_allows", "host:port:METHOD:path", "Allow more on an endpoint."),
    ("--add-deny", "add_denies", "host:port:METHOD:path", "Refuse something on an endpoint."),
    ("--remove-rule", "remove_rules", "NAME", "Remove a rule."),
    ("--binary", "binaries", "PATH", "A program for --add-endpoint."),
)


def operation_options(function: C) -> C:
    """The mini-syntax of contract/cli.md 4.2."""
    function = click.option("--rule-name", default="", metavar="NAME", help="Name of the one added rule.")(function)
    for flag, name, metavar, text in reversed(_OPERATIONS):
        function = click.option(flag, name, multiple=True, metavar=metavar, help=f"{text} Repeatable.")(function)
    return function


def merged(policy: Policy, specs: dict[str, Any]) -> tuple[list[Operation], MergeResult]:
    """The operations of a command line, and the policy after them. Raises CliError."""
    from pyopenshell.policy.merge import MergeError, apply
    from pyopenshell.policy.update import SpecError, operations

    try:
        found = operations(policy, **specs)
        return found, apply(policy, found)
    except (SpecError, MergeError) as error:
        raise CliError(str(error)) from None


def replace_file(file: str, text: str) -> None:
    """The new text or the old one, never half of it; symbolic links, modes and owners-by-default stay."""
    target = Path(os.path.realpath(file))
    descriptor, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(scratch).chmod(stat.S_IMODE(target.stat().st_mode))
        Path(scratch).replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(scratch).unlink()
        raise CliError(f"cannot write '{file}': {error.strerror}") from None


# ---- fmt -------------------------------------------------------------------------------------------------------------


@click.command(
    "fmt",
    cls=Command,
    help="Lay policy files out in one way; comments, order and spellings stay. `-` reads stdin, writes stdout.",
    examples=("openshell policy fmt policy.yaml", "openshell policy fmt --check policies/*.yaml"),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 when something would change.")
@output_option
def fmt(files: Sequence[str], check: bool, output: str) -> None:
    from pyopenshell.policy import PolicyError
    from pyopenshell.policy.layout import decoded, format_text

    rows = []
    for file in files:
        text = read_text(file)
        try:
            new = format_text(text, file)
        except PolicyError as error:
            raise CliError(str(error)) from None
        changed = new != decoded(text)
        rows.append({"file": file, "changed": changed})
        if file == "-":
            if not check:
                click.echo(new, nl=False)
        elif changed and not check:
            replace_file(file, new)
    changes = [row for row in rows if row["changed"]]
    if output != "table":
        emit(rows, output)
    else:
        for row in changes:
            word = "would change" if check else "formatted"
            mark("✗" if check else "✓", visible(f"{row['file']}: {word}"), err=True)
    if check and changes:
        raise CliError("")


# ---- edit ------------------------------------------------------------------------------------------------------------


@click.command(
    "edit",
    cls=Command,
    help="Change a policy file by operations, or in your editor; the file is replaced only by a valid policy.",
    examples=(
        "openshell policy edit policy.yaml",
        "openshell policy edit policy.yaml --add-endpoint api.github.com:443:read-only --binary /usr/bin/curl",
        "openshell policy edit policy.yaml --add-deny 'api.github.com:443:*:/repos/acme/prod/**' --dry-run",
    ),
)
@click.argument("file")
@operation_options
@click.option("--dry-run", is_flag=True, help="Print the new text and change nothing.")
@output_option
def edit(file: str, dry_run: bool, output: str, **specs: Any) -> None:
    from pyopenshell.policy.edit import edit_text

    text = read_text(file)
    if not any(specs.values()):
        new = _edited(file, text)
        warnings: tuple[Any, ...] = ()
    else:
        policy = check_policy(text, file)
        _, result = merged(policy, specs)
        check_result(result.policy)
        try:
            new = edit_text(text, result.policy, file)
        except ValueError as error:
            raise CliError(str(error)) from None
        warnings = result.warnings
    changed = new.encode() != text
    if changed and not dry_run:
        replace_file(file, new)
    if output != "table":
        emit({"file": file, "changed": changed, "warnings": [w.message for w in warnings], "text": new}, output)
        return
    for warning in warnings:
        mark("!", visible(warning.message, 1000), err=True)
    if dry_run:
        click.echo(new, nl=False)
    elif changed:
        mark("✓", visible(f"{file}: changed"), err=True)
    else:
        mark("·", visible(f"{file}: unchanged"), err=True)


def check_result(policy: Policy) -> None:
    """Refuse what could not be loaded again. Raises CliError."""
    from pyopenshell.policy import validate

    problems = validate(policy)
    if problems:
        raise CliError("\n".join(map(str, problems)))


def _edited(file: str, text: bytes) -> str:
    """The text after the editor, asked again as long as it is no valid policy. Raises CliError when given up."""
    from pyopenshell.policy import PolicyError, load

    current = text.decode("utf-8", "replace")
    while True:
        try:
            edited = click.edit(current, extension=".yaml", require_save=False)
        except click.ClickException as error:
            raise CliError(error.message) from None
        current = current if edited is None else edited
        try:
            load(current, file)
        except PolicyError as error:
            for line in str(error).splitlines():
                mark("✗", visible(line, 1000), err=True)
            if not click.confirm("Edit again?", default=True, err=True):
                raise CliError("the file is unchanged") from None
            continue
        return current


# ---- update ----------------------------------------------------------------------------------------------------------


@click.command(
    "update",
    cls=Command,
    help="Change the policy of a sandbox by operations, without replacing it.",
    examples=(
        "openshell policy update --add-endpoint api.github.com:443:read-only:rest:enforce --binary /usr/bin/curl",
        "openshell policy update box --add-allow 'api.github.com:443:GET:/repos/**' --wait",
    ),
)
@argument_name
@operation_options
@click.option("--dry-run", is_flag=True, help="Show the merged policy and change nothing.")
@click.option("--wait", is_flag=True, help="Return when the sandbox enforces it (exit 124 on timeout).")
@click.option("--timeout", default=60.0, show_default=True, metavar="SECS", help="For --wait.")
@output_option
@click.pass_obj
async def update(app: App, /, name: str, dry_run: bool, wait: bool, timeout: float, output: str, **specs: Any) -> None:
    if wait and dry_run:
        raise CliError("--wait cannot be combined with --dry-run")
    if not any(specs.values()):
        raise click.UsageError("Nothing to do: give at least one operation, for example --add-endpoint.")
    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        config = await gateway.config(sandbox)
        if config.source == "global":
            raise CliError(
                "policy is managed globally; delete the global policy before using `openshell policy update`"
            )
        from pyopenshell.policy import Policy

        operations, result = merged(config.policy or Policy(), specs)
        if dry_run:
            _preview(len(operations), result, output)
            return
        await _submit(gateway, sandbox, operations, result, wait=wait, timeout=timeout, output=output)


def _preview(count: int, result: MergeResult, output: str) -> None:
    mark("✓", f"Dry run preview for {count} incremental policy operation(s)", err=True)
    for warning in result.warnings:
        mark("!", visible(warning.message, 1000), err=True)
    if output != "table":
        emit(policy_data(result.policy), output)
        return
    for line in policy_lines(result.policy):
        say(line)


async def _submit(
    gateway: Gateway,
    sandbox: str,
    operations: Sequence[Operation],
    result: MergeResult,
    *,
    wait: bool,
    timeout: float,
    output: str,
) -> None:
    from pyopenshell.cli.policy import emit_written, report_load

    for warning in result.warnings if output == "table" else ():
        mark("!", visible(warning.message, 1000), err=True)
    revisions = await gateway.policies(sandbox, 1)
    before = revisions[0].version if revisions else 0
    written = await gateway.update_policy(operations, sandbox=sandbox)
    unchanged = written.version == before
    if output == "table":
        sign, word = ("·", "unchanged") if unchanged else ("✓", "submitted")
        mark(sign, f"Policy version {written.version} {word} (hash: {written.policy_hash[:12]})", err=True)
    if wait and not unchanged:
        await report_load(gateway, sandbox, written, timeout, output)
    elif output != "table":
        emit_written(written, "unchanged" if unchanged else "submitted", output)


COMMANDS = (fmt, edit, update)
