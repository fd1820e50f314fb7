"""`openshell settings`: feature switches, per sandbox or for all (contract/cli.md 3)."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.framework import Group, argument_name, output_option
from pyopenshell.cli.output import emit, mark, say
from pyopenshell.client import visible
from pyopenshell.client.values import Setting

KEYS: Mapping[str, tuple[str, ...]] = {
    "agent_policy_proposals_enabled": (),
    "ocsf_json_enabled": (),
    "proposal_approval_mode": ("manual", "auto"),
    "providers_v2_enabled": (),
}
"""Registered keys; values in words, or none for a switch."""
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


@click.group(
    cls=Group,
    help="Feature switches of one sandbox, or of all with --global.",
    examples=(
        "openshell settings set --global --key agent_policy_proposals_enabled --value true --yes",
        "openshell settings get --global --json",
    ),
)
def command() -> None: ...


def typed(key: str, value: str) -> bool | str:
    """`value` as the key wants it. Raises CliError with the contract's texts."""
    if key not in KEYS:
        raise CliError(f"unknown setting key '{key}'. Allowed keys: {', '.join(sorted(KEYS))}")
    words = KEYS[key]
    if words:
        if value not in words:
            raise CliError(f"invalid value '{value}' for key '{key}'; expected one of: {', '.join(words)}")
        return value
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise CliError(f"invalid bool value '{value}' for key '{key}'; expected one of: true,false,yes,no,1,0")


def _confirm(yes: bool, question: str, refusal: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError(refusal)
    if not click.confirm(question, default=False):
        raise CliError("aborted by user")


def _no_name(global_: bool, name: str, verb: str) -> None:
    if global_ and name:
        raise CliError(f"settings {verb} --global does not accept a sandbox name")


@command.command("get", help="Show every key with its value and where the value comes from.")
@argument_name
@click.option("--global", "global_", is_flag=True, help="The values for all sandboxes.")
@click.option("--json", "json_", is_flag=True, help="Same as -o json.")
@output_option
@click.pass_obj
async def get(app: App, name: str, global_: bool, json_: bool, output: str) -> None:
    _no_name(global_, name, "get")
    output = "json" if json_ else output
    async with app.connect() as gateway:
        if global_:
            everything = await gateway.global_settings()
            if output == "table":
                say("Scope:         global")
                say(f"Settings Rev:  {everything.revision}")
                _print(everything.settings, scopes=False)
                return
            texts = {key: _text(one) for key, one in everything.settings.items()}
            emit({"scope": "global", "settings": texts, "settings_revision": everything.revision}, output)
            return
        sandbox = app.sandbox(name, gateway.registration.name)
        config = await gateway.config(sandbox)
    if output == "table":
        say(f"Sandbox:       {visible(sandbox)}")
        say(f"Config Rev:    {config.revision}")
        say(f"Policy Source: {config.source}")
        say(f"Policy Hash:   {config.policy_hash}")
        _print(config.settings, scopes=True)
        return
    emit(
        {
            "config_revision": config.revision,
            "policy_hash": config.policy_hash,
            "policy_source": config.source,
            "sandbox": sandbox,
            "settings": {key: {"scope": one.scope, "value": _text(one)} for key, one in config.settings.items()},
            "workspace": app.workspace,
        },
        output,
    )


def _text(setting: Setting) -> str:
    return "<unset>" if setting.value is None else setting.value


def _print(settings: Mapping[str, Setting], *, scopes: bool) -> None:
    if not settings:
        say("Settings:      No settings available.")
        return
    say("Settings:")
    for key in sorted(settings):
        one = settings[key]
        say(f"  {visible(key)} = {visible(_text(one))}{f' ({one.scope})' if scopes else ''}")


@command.command("set", help="Set one key. A global value wins over every sandbox's own.")
@argument_name
@click.option("--key", required=True, help=f"One of {', '.join(sorted(KEYS))}.")
@click.option("--value", required=True, help="true or false; `manual` or `auto` for proposal_approval_mode.")
@click.option("--global", "global_", is_flag=True, help="For all sandboxes.")
@click.option("--yes", is_flag=True, help="Do not ask before a global change.")
@output_option
@click.pass_obj
async def set_(app: App, name: str, key: str, value: str, global_: bool, yes: bool, output: str) -> None:
    _no_name(global_, name, "set")
    wanted = typed(key, value)
    if global_:
        _confirm(
            yes,
            f"Setting '{key}' globally will disable sandbox-level management for this key. Continue?",
            "global setting updates require confirmation; pass --yes in non-interactive mode",
        )
    async with app.connect(may_start=global_) as gateway:
        sandbox = "" if global_ else app.sandbox(name, gateway.registration.name)
        written = await gateway.set_setting(key, wanted, sandbox=sandbox)
    if output != "table":
        emit({"key": key, "revision": written.settings_revision, "scope": sandbox or "global", "value": value}, output)
        return
    where = f" for {visible(sandbox)}" if sandbox else ""
    scope = "sandbox" if sandbox else "global"
    mark("✓", f"Set {scope} setting {key}={visible(value)}{where} (revision {written.settings_revision})")


@command.command("delete", help="Unset one key; a deleted global key gives control back to the sandboxes.")
@argument_name
@click.option("--key", required=True, help=f"One of {', '.join(sorted(KEYS))}.")
@click.option("--global", "global_", is_flag=True, help="For all sandboxes.")
@click.option("--yes", is_flag=True, help="Do not ask before a global change.")
@output_option
@click.pass_obj
async def delete(app: App, name: str, key: str, global_: bool, yes: bool, output: str) -> None:
    _no_name(global_, name, "delete")
    if key not in KEYS:
        raise CliError(f"unknown setting key '{key}'. Allowed keys: {', '.join(sorted(KEYS))}")
    if global_:
        _confirm(
            yes,
            f"Deleting global setting '{key}' re-enables sandbox-level management for this key. Continue?",
            "global setting deletes require confirmation; pass --yes in non-interactive mode",
        )
    async with app.connect() as gateway:
        sandbox = "" if global_ else app.sandbox(name, gateway.registration.name)
        written = await gateway.delete_setting(key, sandbox=sandbox)
    where = f" for {visible(sandbox)}" if sandbox else ""
    if output != "table":
        emit({"deleted": written.deleted, "key": key, "revision": written.settings_revision}, output)
    elif not written.deleted:
        mark(
            "!",
            f"Sandbox setting {key} not found for {visible(sandbox)}" if sandbox else f"Global setting {key} not found",
        )
    else:
        scope = "sandbox" if sandbox else "global"
        mark("✓", f"Deleted {scope} setting {key}{where} (revision {written.settings_revision})")
