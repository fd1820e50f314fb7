"""`openshell gateway`: start and stop the local one, choose among the registered (contract/cli.md 8)."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import click

from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.framework import Group, output_option
from pyopenshell.cli.output import emit, mark, say, table
from pyopenshell.client import Registration, RegistrationError, UnknownGatewayError, UnreachableError, resolve, visible


@click.group(
    cls=Group,
    alias="gw",
    help="Start and stop the local gateway; register, choose and list gateways.",
    examples=(
        "openshell gateway start",
        "openshell gateway status",
        "openshell gateway select local",
    ),
)
def command() -> None: ...


@command.command("start", help="Start the local gateway and register it; does nothing when it runs already.")
@click.option("--foreground", is_flag=True, help="Stay in this terminal, log to it, stop with Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=None, metavar="N", help="0 takes any free one.")
@click.option("--bind-address", default=None, metavar="IP", help="Default 127.0.0.1.")
@click.option("--config", "config", default=None, metavar="FILE", type=click.Path(path_type=Path, resolve_path=True),
              help="Default $XDG_CONFIG_HOME/openshell/gateway.toml.")  # fmt: skip
@output_option
@click.pass_obj
async def start(
    app: App, foreground: bool, port: int | None, bind_address: str | None, config: Path | None, output: str
) -> None:
    if foreground:
        arguments = [sys.executable, "-m", "pyopenshell.gateway"]
        arguments += ["--port", str(port)] if port is not None else []
        arguments += ["--bind-address", bind_address] if bind_address else []
        arguments += ["--config", str(config)] if config else []
        sys.stdout.flush()
        os.execv(sys.executable, arguments)  # noqa: S606 - becomes the gateway, so that Ctrl-C and exit code are its own
    from pyopenshell.cli import local

    running = await local.start(port=port, bind=bind_address, config=config)
    if output != "table":
        emit(running, output)
        return
    mark("✓", f"Gateway '{running.name}' runs at {running.endpoint} (pid {running.pid})")


@command.command("stop", help="Stop the local gateway. Sandboxes go on, under the policy they have loaded.")
@output_option
@click.pass_obj
async def stop(app: App, output: str) -> None:
    from pyopenshell.cli import local

    stopped = await local.stop()
    if output != "table":
        emit({"stopped": stopped}, output)
    elif stopped:
        mark("✓", "Gateway stopped.")
    else:
        mark("!", "No local gateway runs.")


@command.command("status", help="Does the local gateway run? Exits 0 only if it does.")
@output_option
@click.pass_obj
async def status(app: App, output: str) -> None:
    from pyopenshell.gateway import daemon

    running = daemon.status()
    if output != "table":
        emit({"running": running is not None} | (dataclasses.asdict(running) if running else {}), output)
    elif running is None:
        say("No local gateway runs.")
        say("Start one with: openshell gateway start")
    else:
        say("Local Gateway")
        say()
        say(f"  Gateway: {visible(running.name)}")
        say(f"  Server: {running.endpoint}")
        say(f"  Process: {running.pid}")
        say(f"  Version: {running.version}")
        if running.health:
            say(f"  Health: {running.health}/readyz, metrics at {running.health}/metrics")
    if running is None:
        raise click.exceptions.Exit(1)


@command.command("backup", help="Write everything the gateway has decided into one file, while it runs.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, resolve_path=True))
@click.option("--force", is_flag=True, help="Replace FILE when it is there.")
@click.option("--config", "config", default=None, metavar="FILE", type=click.Path(path_type=Path, resolve_path=True),
              help="Default $XDG_CONFIG_HOME/openshell/gateway.toml.")  # fmt: skip
@output_option
@click.pass_obj
async def backup(app: App, file: Path, force: bool, config: Path | None, output: str) -> None:
    from pyopenshell.gateway.errors import GatewayError
    from pyopenshell.gateway.store import backup as backups

    try:
        size = backups.backup(_database(config), file, replace=force)
    except GatewayError as error:
        hint = "\nReplace it with --force, or name another file." if error.code == "ALREADY_EXISTS" else ""
        raise CliError(error.message + hint) from None
    if output != "table":
        emit({"file": str(file), "bytes": size}, output)
        return
    mark("✓", f"Backup written to {visible(str(file))} ({size} bytes).")
    say("It holds no keys and certificates: keep the gateway's tls directory as well.")


@command.command("restore", help="Make the gateway's database what a backup says. The gateway must not run.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--config", "config", default=None, metavar="FILE", type=click.Path(path_type=Path, resolve_path=True),
              help="Default $XDG_CONFIG_HOME/openshell/gateway.toml.")  # fmt: skip
@output_option
@click.pass_obj
async def restore(app: App, file: Path, yes: bool, config: Path | None, output: str) -> None:
    from pyopenshell.gateway.configuration import Paths
    from pyopenshell.gateway.daemon import DaemonError, Lock
    from pyopenshell.gateway.errors import GatewayError
    from pyopenshell.gateway.store import backup as backups

    if not yes and not click.confirm("Replace everything the gateway has decided since by this backup?", err=True):
        raise click.exceptions.Exit(1)
    try:
        lock = Lock.acquire(Paths.of().run)
    except DaemonError:
        raise CliError("the gateway runs\nStop it first: openshell gateway stop") from None
    try:
        kept = backups.restore(_database(config), file)
    except GatewayError as error:
        raise CliError(error.message) from None
    finally:
        lock.release()
    if output != "table":
        emit({"file": str(file), "kept": kept}, output)
        return
    mark("✓", "Restored. Sandboxes that the backup does not know are stopped at the next start; their files are kept.")
    if kept:
        say(f"What was there before: {visible(kept)}")


def _database(config: Path | None) -> str:
    from pyopenshell.gateway.configuration import ConfigurationError, load

    try:
        return load(file=config).database
    except ConfigurationError as error:
        raise CliError(str(error)) from None


@command.command("list", help="Registered gateways; `*` marks the active one.")
@output_option
@click.pass_obj
async def list_(app: App, output: str) -> None:
    _list(app, output)


def _list(app: App, output: str) -> None:
    active = app.places.active()
    found = app.places.registered()
    if output != "table":
        emit([_data(one, active) for one in found], output)
        return
    if not found:
        say("No gateways found.")
        say()
        say("Register a gateway with: openshell gateway add <endpoint>")
        return
    rows = [
        [f"{'* ' if one.name == active else '  '}{one.name}", one.endpoint, one.kind, one.source, one.auth]
        for one in found
    ]
    table(["  NAME", "ENDPOINT", "TYPE", "SOURCE", "AUTH"], rows)


def _data(one: Registration, active: str) -> dict[str, Any]:
    return {
        "active": one.name == active,
        "auth": one.auth,
        "endpoint": one.endpoint,
        "is_remote": one.is_remote,
        "name": one.name,
        "remote_host": one.remote_host or None,
        "resolved_host": one.resolved_host or None,
        "source": one.source,
        "type": one.kind,
    }


@command.command("select", help="Make a registered gateway the active one; without a name, list them.")
@click.argument("name", required=False, default="")
@output_option
@click.pass_obj
async def select(app: App, name: str, output: str) -> None:
    if not name:
        _list(app, output)
        return
    if app.places.find(name) is None:
        raise UnknownGatewayError(name)
    app.places.activate(name)
    if output != "table":
        emit({"active": name}, output)
    else:
        mark("✓", f"Active gateway set to '{name}'", err=True)
    if os.environ.get("OPENSHELL_GATEWAY") not in (None, "", name):
        mark(
            "⚠", f"OPENSHELL_GATEWAY={visible(os.environ['OPENSHELL_GATEWAY'])} overrides the active gateway", err=True
        )


@command.command("add", help="Register a gateway that runs elsewhere, and make it the active one.")
@click.argument("endpoint")
@click.option("--name", default="", metavar="NAME", help="Default: the endpoint's host name.")
@output_option
@click.pass_obj
async def add(app: App, endpoint: str, name: str, output: str) -> None:
    found = resolve(app.places, gateway=name, endpoint=endpoint)
    chosen = name or found.host
    if app.places.find(chosen) is not None:
        raise CliError(
            f"Gateway '{chosen}' already exists.\nRemove it first with: openshell gateway remove {chosen}\n"
            "Or choose a different name with: --name <name>"
        )
    registration = Registration(chosen, found.endpoint, auth_mode="mtls" if found.secure else "plaintext")
    try:
        app.places.add(registration)
    except OSError as error:
        raise RegistrationError(f"cannot write the registration: {error}") from None
    app.places.activate(chosen)
    from pyopenshell.client.gateway import Gateway

    reachable = True
    try:
        async with await Gateway.open(registration):
            pass
    except UnreachableError:
        reachable = False
    if output != "table":
        emit(_data(registration, chosen) | {"reachable": reachable}, output)
        return
    mark("✓", f"Gateway '{chosen}' added and set as active", err=True)
    say(f"  Endpoint: {registration.endpoint}", err=True)
    say(f"  Type: {registration.kind}", err=True)
    say(f"  Auth: {registration.auth}", err=True)
    if not reachable:
        mark("⚠", f"Gateway is not reachable at {registration.endpoint}", err=True)


@command.command("remove", help="Forget a registration. The gateway itself is not touched.")
@click.argument("name", required=False, default="")
@output_option
@click.pass_obj
async def remove(app: App, name: str, output: str) -> None:
    chosen = name or app.places.active()
    found = app.places.find(chosen) if chosen else None
    if found is None:
        raise CliError(f"No gateway metadata found for '{chosen}'.\nList available gateways: openshell gateway select")
    if found.source == "system":
        raise CliError(
            f"Gateway registration '{chosen}' is installed by the system and cannot be removed from user config.\n"
            "Ask whoever administers this machine."
        )
    app.places.remove(chosen)
    if output != "table":
        emit({"removed": chosen}, output)
    else:
        mark("✓", f"Gateway registration '{chosen}' removed.")
