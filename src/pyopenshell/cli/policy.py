"""`openshell policy`: what a sandbox may reach. Files are parsed here first, so problems name file:line:column."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from pyopenshell.cli import policy_edit, policy_tools
from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.framework import Group, argument_name, output_option
from pyopenshell.cli.output import emit, mark, say
from pyopenshell.client import GatewayError, stamp, visible
from pyopenshell.client.values import Config, Revision, Written
from pyopenshell.policy.model import PROVIDER_PREFIX, Policy

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway

TIMED_OUT = 124


@click.group(
    cls=Group,
    alias="pol",
    help="What a sandbox may reach: set, inspect, list revisions.",
    examples=(
        "openshell policy set --policy policy.yaml --wait",
        "openshell policy get --full",
    ),
)
def command() -> None: ...


@command.command("set", help="Replace a sandbox's policy, or with --global everybody's.")
@argument_name
@click.option("--policy", "file", required=True, metavar="FILE", help="Policy YAML.")
@click.option("--global", "global_", is_flag=True, help="Lock one policy for all sandboxes.")
@click.option("--yes", is_flag=True, help="Do not ask before a global change.")
@click.option("--wait", is_flag=True, help="Return when the sandbox enforces it (exit 124 on timeout).")
@click.option("--timeout", default=60.0, show_default=True, metavar="SECS", help="For --wait.")
@output_option
@click.pass_obj
async def set_(
    app: App, name: str, file: str, global_: bool, yes: bool, wait: bool, timeout: float, output: str
) -> None:
    from pyopenshell.cli.policy_text import read_policy

    if global_ and wait:
        raise CliError("--wait is not supported for global policies; global policies are effective immediately")
    if global_ and name:
        raise CliError("policy set --global does not accept a sandbox name")
    policy = read_policy(file)
    if global_:
        _confirm(yes, "A global policy replaces the policy of every sandbox. Continue?", "updates")
        async with app.connect(may_start=True) as gateway:
            written = await gateway.set_policy(policy)
        if output != "table":
            emit(
                {"hash": written.policy_hash, "scope": "global", "settings_revision": written.settings_revision}, output
            )
            return
        digest = written.policy_hash[:12]
        mark(
            "✓", f"Global policy configured (hash: {digest}, settings revision: {written.settings_revision})", err=True
        )
        return
    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        before = await _latest(gateway, sandbox)
        written = await gateway.set_policy(policy, sandbox=sandbox)
        unchanged = before == written.version
        if output == "table":
            what = f"unchanged (version {written.version}" if unchanged else f"version {written.version} submitted ("
            detail = f", hash: {written.policy_hash[:12]})" if unchanged else f"hash: {written.policy_hash[:12]})"
            mark("·" if unchanged else "✓", f"Policy {what}{detail}", err=True)
        if not wait or unchanged:
            if output != "table":
                emit_written(written, "unchanged" if unchanged else "submitted", output)
            return
        await report_load(gateway, sandbox, written, timeout, output)


def emit_written(written: Written, status: str, output: str, **more: Any) -> None:
    emit({"hash": written.policy_hash, "status": status, "version": written.version, **more}, output)


async def _latest(gateway: Gateway, sandbox: str) -> int:
    """Version of the newest revision, 0 for none."""
    revisions = await gateway.policies(sandbox, 1)
    return revisions[0].version if revisions else 0


async def report_load(gateway: Gateway, sandbox: str, written: Written, timeout: float, output: str) -> None:
    version = written.version
    try:
        async with asyncio.timeout(timeout):
            revision, active = await loaded(gateway, sandbox, version)
    except TimeoutError:
        if output != "table":
            emit_written(written, "timeout", output)
        else:
            mark("✗", f"Timeout waiting for policy version {version} to load", err=True)
        raise CliError("", TIMED_OUT) from None
    if output != "table":
        emit_written(written, revision.status, output, active_version=active, load_error=revision.load_error)
    elif revision.status == "loaded":
        mark("✓", f"Policy version {version} loaded (active version: {active})", err=True)
    elif revision.status == "superseded":
        mark("⚠", f"Policy version {version} was superseded (active version: {active})", err=True)
    else:
        mark("✗", f"Policy version {version} failed to load: {visible(revision.load_error)}", err=True)
    if revision.status == "failed":
        raise CliError("")


async def loaded(gateway: Gateway, sandbox: str, version: int) -> tuple[Revision, int]:
    """Until the revision is loaded, failed or superseded: asked again at every change the gateway pushes."""
    async for _ in gateway.watch_status(sandbox):
        revision, active = await gateway.policy_status(sandbox, version)
        if revision.status != "pending":
            return revision, active
    raise GatewayError("UNAVAILABLE", "the gateway ended the watch before the policy was loaded")


def _confirm(yes: bool, question: str, what: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError(f"global policy {what} require confirmation; pass --yes in non-interactive mode")
    if not click.confirm(question, default=False):
        raise CliError("aborted by user")


@command.command("get", help="Show the effective policy, or one revision.")
@argument_name
@click.option("--rev", default=0, metavar="N", help="Revision number; 0 is what is in force now.")
@click.option("--full", is_flag=True, help="With the policy itself, as YAML.")
@click.option("--base", is_flag=True, help="Like --full, without the rules that providers add.")
@click.option("--global", "global_", is_flag=True, help="The global policy.")
@output_option
@click.pass_obj
async def get(app: App, name: str, rev: int, full: bool, base: bool, global_: bool, output: str) -> None:
    if full and base:
        raise click.UsageError("--full and --base are mutually exclusive.")
    if global_ and name:
        raise CliError("policy get --global does not accept a sandbox name")
    async with app.connect() as gateway:
        sandbox = "" if global_ else app.sandbox(name, gateway.registration.name)
        if not global_ and rev == 0:
            _show_effective(await gateway.config(sandbox), sandbox, full, base, output)
            return
        try:
            revision, active = await gateway.policy_status(sandbox, rev)
        except GatewayError as error:
            if error.code == "NOT_FOUND" and rev == 0:
                say("No global policy history found", err=True)
                return
            raise
    _show_revision(revision, active, sandbox, full, base, output)


def _without_providers(policy: Policy, base: bool) -> Policy:
    import dataclasses

    if not base:
        return policy
    return dataclasses.replace(
        policy, rules=tuple(one for one in policy.rules if not one.key.startswith(PROVIDER_PREFIX))
    )


def _body(policy: Policy | None, base: bool) -> None:
    from pyopenshell.cli.policy_text import policy_lines

    if policy is None:
        say("Policy payload not available for this version", err=True)
        return
    say("---")
    for line in policy_lines(_without_providers(policy, base)):
        say(line)


def _show_effective(config: Config, sandbox: str, full: bool, base: bool, output: str) -> None:
    if not config.policy_hash and config.policy is None:
        say(f"No policy history found for sandbox '{visible(sandbox)}'", err=True)
        return
    if output != "table":
        from pyopenshell.cli.policy_text import policy_data

        data: dict[str, Any] = {
            "active_version": config.version,
            "config_revision": config.revision,
            "hash": config.policy_hash,
            "policy_source": config.source,
            "sandbox": sandbox,
            "scope": "sandbox",
            "status": "effective",
            "version": config.version,
        }
        if config.global_version:
            data["global_policy_version"] = config.global_version
        if (full or base) and config.policy is not None:
            data["policy"] = policy_data(_without_providers(config.policy, base))
        emit(data, output)
        return
    say(f"Version:      {config.version}")
    say(f"Hash:         {config.policy_hash}")
    say("Status:       Effective")
    say(f"Source:       {config.source}")
    say(f"Config rev:   {config.revision}")
    if config.global_version:
        say(f"Global:       {config.global_version}")
    if full or base:
        _body(config.policy, base)


def _show_revision(revision: Revision, active: int, sandbox: str, full: bool, base: bool, output: str) -> None:
    if output != "table":
        from pyopenshell.cli.policy_text import policy_data

        emit(
            {
                "active_version": active,
                "created_at": revision.created,
                "hash": revision.policy_hash,
                "load_error": revision.load_error or None,
                "loaded_at": revision.loaded,
                "policy": policy_data(_without_providers(revision.policy, base)) if revision.policy else None,
                "provenance": revision.provenance,
                "sandbox": sandbox or None,
                "scope": "sandbox" if sandbox else "global",
                "status": revision.status,
                "version": revision.version,
            },
            output,
        )
        return
    if not sandbox:
        say("Scope:        global")
    say(f"Version:      {revision.version}")
    say(f"Hash:         {revision.policy_hash}")
    say(f"Status:       {revision.status.capitalize()}")
    say(f"Active:       {active}")
    if revision.created:
        say(f"Created:      {stamp(revision.created)}")
    if revision.loaded:
        say(f"Loaded:       {stamp(revision.loaded)}")
    if revision.load_error:
        say(f"Error:        {visible(revision.load_error)}")
    if full or base:
        _body(revision.policy, base)


@command.command("list", help="Revisions, newest first.")
@argument_name
@click.option("--limit", default=20, show_default=True, metavar="N", help="At most so many.")
@click.option("--global", "global_", is_flag=True, help="Revisions of the global policy.")
@output_option
@click.pass_obj
async def list_(app: App, name: str, limit: int, global_: bool, output: str) -> None:
    if global_ and name:
        raise CliError("policy list --global does not accept a sandbox name")
    async with app.connect() as gateway:
        sandbox = "" if global_ else app.sandbox(name, gateway.registration.name)
        revisions = await gateway.policies(sandbox, limit)
    if output != "table":
        keys = ("version", "policy_hash", "status", "created", "loaded", "load_error", "provenance")
        emit([{key: getattr(one, key) for key in keys} for one in revisions], output)
    elif not revisions:
        found = (
            f"No policy history found for sandbox '{visible(sandbox)}'" if sandbox else "No global policy history found"
        )
        say(found, err=True)
    else:
        for row in (("VERSION", "HASH", "STATUS", "CREATED", "ERROR"), *(_row(one) for one in revisions)):
            say("{:<8} {:<14} {:<12} {:<24} {}".format(*row).rstrip())


def _row(revision: Revision) -> tuple[str, str, str, str, str]:
    error = visible(revision.load_error, 1000)
    shown = error if len(error) <= 40 else f"{error[:40]}..."
    return str(revision.version), revision.policy_hash[:12], revision.status, stamp(revision.created), shown


@command.command("delete", help="Remove the global policy; every sandbox gets its own back.")
@click.option("--global", "global_", is_flag=True, help="Required: a sandbox's own policy cannot be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
@click.pass_obj
async def delete(app: App, global_: bool, yes: bool, output: str) -> None:
    if not global_:
        raise CliError("sandbox policy delete is not supported; use --global to remove global policy lock")
    _confirm(yes, "Every sandbox gets its own policy back. Continue?", "deletes")
    async with app.connect() as gateway:
        written = await gateway.delete_global_policy()
    if output != "table":
        emit({"deleted": written.deleted, "revision": written.settings_revision}, output)
    elif written.deleted:
        mark("✓", f"Deleted global setting policy (revision {written.settings_revision})")
    else:
        mark("!", "Global setting policy not found")


for one in (*policy_tools.COMMANDS, *policy_edit.COMMANDS):
    command.add_command(one)
