"""`openshell sandbox`: create, look at, run in, stop and delete sandboxes (contract/cli.md 5)."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyopenshell.cli import forward, sandbox_files, ssh
from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.forwarding import Forward
from pyopenshell.cli.framework import Group, argument_name, output_option
from pyopenshell.cli.output import emit, mark, say, table
from pyopenshell.client import GatewayError, stamp, visible
from pyopenshell.client.values import Config, Sandbox

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway

_ENV_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CREDENTIAL = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_KEY|CREDENTIAL)S?\Z", re.IGNORECASE)
_TRAILING = {"ignore_unknown_options": False, "allow_interspersed_args": False}
IDLE_SECONDS = 300.0
_SHELL = ssh.login_shell()
"""An image may have no bash."""


@click.group(
    cls=Group,
    alias="sb",
    help="Create sandboxes and run commands in them.",
    examples=(
        "openshell sandbox create -- python3 agent.py",
        "openshell sandbox create --policy policy.yaml",
        "openshell sandbox exec -n my-box -- ls",
        "openshell sandbox list",
        "openshell sandbox delete my-box",
    ),
)
def command() -> None: ...


def _pairs(entries: tuple[str, ...], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise click.UsageError(f"invalid value '{entry}' for '{option}': expected KEY=VALUE")
        found[key] = value
    return found


def environment(entries: tuple[str, ...], *, warn: bool) -> dict[str, str]:
    """`--env` as a mapping. Raises UsageError for keys that cannot be or are reserved."""
    found = _pairs(entries, "--env")
    for key in found:
        if not _ENV_KEY.match(key):
            raise click.UsageError(f"invalid environment key '{key}': must match [A-Za-z_][A-Za-z0-9_]*")
        if key.startswith("OPENSHELL_"):
            raise click.UsageError(f"environment key '{key}' uses the reserved prefix OPENSHELL_")
        if warn and _CREDENTIAL.search(key):
            mark("⚠", f"{key} looks like a credential passed as a plain environment variable.", err=True)
            say("  The agent inside the sandbox can read this value directly.", err=True)
    return found


def _idle_seconds(variable: str) -> float:
    text = os.environ.get(variable, "")
    try:
        return float(text) if text else IDLE_SECONDS
    except ValueError:
        raise CliError(f"{variable}={text!r} is not a number of seconds") from None


@command.command(
    "create",
    help="Create a sandbox; with `-- COMMAND` also run that in it and exit with its code.",
    context_settings=_TRAILING,
)
@click.option("--name", default="", metavar="N", help="DNS-1123, at most 19 characters; two words when left out.")
@click.option("--policy", "file", default="", metavar="FILE", help="Policy YAML. [env: OPENSHELL_SANDBOX_POLICY]")
@click.option("--from", "source", default="", metavar="IMAGE",
              help="Programs of this image: directory, tarball, OCI layout, docker save archive; or name.")  # fmt: skip
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Repeatable.")
@click.option("--env", "env", multiple=True, metavar="K=V", help="Environment of the commands inside; repeatable.")
@click.option("--no-credential-warnings", is_flag=True, help="Say nothing about --env keys that look like secrets.")
@click.option("--approval-mode", type=click.Choice(["manual", "auto"]), default="manual", show_default=True,
              help="Who decides on proposals.")  # fmt: skip
@click.option("--upload", "uploads", multiple=True, metavar="LOCAL[:REMOTE]",
              help="Copy this in before the command starts; repeatable.")  # fmt: skip
@click.option("--no-git-ignore", is_flag=True, help="Upload also what git ignores, and .git.")
@click.option("--driver", type=click.Choice(["local", "podman"]), default=None,
              help="What makes it; default: podman for an image by name, else the gateway's first.")  # fmt: skip
@click.option("--require", type=click.Choice(["full", "network", "files"]), default=None,
              help="Do not start with walls that are worth less (openshell doctor).")  # fmt: skip
@click.option("--accept-weaker", is_flag=True,
              help="Start also with weaker walls; says which. [env: OPENSHELL_ACCEPT_WEAKER=1]")  # fmt: skip
@click.option("--memory", default="", metavar="Q", help="Limit for everything inside together: 512Mi, 4Gi, 8G.")
@click.option("--cpu", default="", metavar="Q", help="CPUs it may use at most: 2, 0.5, 500m.")
@click.option("--pids", type=click.IntRange(min=1), default=None, metavar="N", help="Processes and threads at most.")
@click.option("--no-restart", is_flag=True, help="Leave it in phase Error when its supervisor ended by itself.")
@click.option("--forward", "forwards", multiple=True, metavar="[BIND:]PORT",
              help="Forward a port of this machine to the same port in it, in the background; repeatable.")  # fmt: skip
@click.option("--keep", is_flag=True, hidden=True, help="Default: the sandbox stays.")
@click.option("--no-keep", is_flag=True, help="Delete the sandbox when the command ends.")
@click.option("--detach", is_flag=True, help="Return as soon as the sandbox is ready; a command goes on without you.")
@click.option("--tty/--no-tty", default=None, help="Give the command a terminal; default: as this one is.")
@output_option
@click.argument("argv", nargs=-1, metavar="[-- COMMAND...]", type=click.UNPROCESSED)
@click.pass_obj
async def create(app: App, /, argv: tuple[str, ...], **options: Any) -> None:
    if options["no_keep"] and (options["keep"] or options["detach"]):
        raise click.UsageError("--no-keep cannot be combined with --keep or --detach.")
    if options["output"] != "table" and (argv or options["no_keep"] or options["forwards"]):
        raise click.UsageError("--output cannot be combined with a command, --no-keep or --forward.")
    if options["no_keep"] and options["forwards"]:
        raise click.UsageError("--no-keep cannot be combined with --forward.")
    if options["no_git_ignore"] and not options["uploads"]:
        raise click.UsageError("--no-git-ignore needs --upload.")
    ports = [forward.local(entry, "--forward") for entry in options["forwards"]]
    uploads = [sandbox_files.split(entry) for entry in options["uploads"]]
    variables = environment(options["env"], warn=not options["no_credential_warnings"])
    labels = _pairs(options["labels"], "--label")
    file = options["file"] or os.environ.get("OPENSHELL_SANDBOX_POLICY", "")
    policy = None
    if file:
        from pyopenshell.cli.policy_text import read_policy

        policy = read_policy(file)
    from pyopenshell.cli import terminal

    interactive = not argv and not options["detach"] and options["output"] == "table" and terminal.is_terminal()
    async with app.connect(may_start=True) as gateway:
        shown = _Progress(options["output"], quiet=bool(argv) and not options["detach"])
        sandbox = await _provision(
            gateway,
            shown,
            name=options["name"],
            policy=policy,
            labels=labels,
            image=_image(options["source"]),
            environment=variables,
            driver=options["driver"] or "",
            require=options["require"] or "",
            accept_weaker=options["accept_weaker"] or os.environ.get("OPENSHELL_ACCEPT_WEAKER") == "1",
            memory=options["memory"],
            cpu=options["cpu"],
            pids=options["pids"] or 0,
            restart=not options["no_restart"],
            command=argv if options["detach"] else (),
        )
        _warn(sandbox)
        app.places.remember_sandbox(gateway.registration.name, app.workspace, sandbox.name)
        await _approval_mode(gateway, sandbox.name, options["approval_mode"])
        for number, (local, remote) in enumerate(uploads, 1):
            which = f"[{number}/{len(uploads)}] " if len(uploads) > 1 else ""
            title = f"  • Uploading {which}files to {visible(remote or '~')}..."
            await sandbox_files.send(
                gateway, sandbox.name, local, remote, git_ignore=not options["no_git_ignore"], title=title
            )
        for bind, port in ports:
            forward.begin(app, gateway.registration.name, Forward(sandbox.name, bind, port, port, 0))
        if options["output"] != "table":
            emit(_data(sandbox), options["output"])
        if options["detach"] or not (argv or interactive):
            if options["no_keep"]:
                await gateway.delete(sandbox.name)
            return
        wants = options["tty"]
        with_terminal = terminal.is_terminal() if wants is None else bool(wants) and sys.stdin.isatty()
        try:
            if with_terminal and not options["no_keep"]:
                code = await _console(gateway, sandbox.name, argv or _SHELL)
            else:
                code = await terminal.run(
                    gateway, sandbox.name, argv or _SHELL, environment=_term(), terminal=with_terminal
                )
        finally:
            if options["no_keep"]:
                await asyncio.shield(gateway.delete(sandbox.name))
                app.places.forget_sandbox(gateway.registration.name, app.workspace, sandbox.name)
    raise click.exceptions.Exit(code)


def _image(source: str) -> str:
    """What the driver is told: a path as an absolute one, anything else as it is. Raises CliError."""
    if not source:
        return ""
    path = Path(source).expanduser().resolve()
    if path.exists():
        return str(path)
    if source.startswith(("/", "./", "../", "~")):
        raise CliError(f"--from: there is no {path}")
    return source


class _Progress:
    """What the person sees while a sandbox comes to be. With a command its output owns stdout, so we use stderr."""

    def __init__(self, output: str, *, quiet: bool) -> None:
        self._table, self._quiet = output == "table", quiet
        self._begun = time.monotonic()
        if not self._table:
            say("Provisioning sandbox (structured output on stdout)...", err=True)

    def created(self, name: str) -> None:
        if not self._table:
            return
        if self._quiet:
            say(f"Created sandbox: {visible(name)}", err=True)
            return
        say()
        say(f"Created sandbox: {visible(name)}")
        say()
        say("  [0.0s] Requesting compute...")
        self.step("Sandbox allocated")

    def step(self, text: str) -> None:
        if self._table and not self._quiet:
            say(f"[{time.monotonic() - self._begun:.1f}s] {text}")


async def _provision(gateway: Gateway, shown: _Progress, **request: Any) -> Sandbox:
    from pyopenshell.client.gateway import FAILED_PHASES, SandboxFailedError

    seconds = _idle_seconds("OPENSHELL_PROVISION_TIMEOUT")
    try:
        sandbox = await gateway.create(**request)
    except GatewayError as error:
        if error.code != "ALREADY_EXISTS":
            raise
        raise CliError(
            f"{error.message}\n\nhint: delete it first with: openshell sandbox delete <name>\n"
            "      or use a different name"
        ) from None
    shown.created(sandbox.name)
    try:
        async with asyncio.timeout(seconds):
            if request["command"]:
                sandbox = await _begun(gateway, sandbox)
            else:
                sandbox = await gateway.wait_for(sandbox, "Ready", FAILED_PHASES)
    except TimeoutError:
        raise CliError(
            f"sandbox provisioning timed out after {seconds:.0f}s. Last reported status: {sandbox.phase}"
        ) from None
    except SandboxFailedError as error:
        raise CliError(str(error)) from None
    shown.step("Sandbox ready")
    return sandbox


async def _begun(gateway: Gateway, sandbox: Sandbox) -> Sandbox:
    """Ready, or over already: a command that ends at once may do so before anybody saw it ready."""
    from pyopenshell.client.gateway import FAILED_PHASES, SandboxFailedError

    async for one in gateway.watch_status(sandbox.name):
        if one.phase in ("Ready", "Completed") or one.exit_code is not None:
            return one
        if one.phase in FAILED_PHASES:
            raise SandboxFailedError(one)
    raise GatewayError("UNAVAILABLE", "the gateway ended the watch before the sandbox was ready")


async def _approval_mode(gateway: Gateway, name: str, mode: str) -> None:
    if mode == "manual":
        return
    try:
        await gateway.set_setting("proposal_approval_mode", mode, sandbox=name)
    except GatewayError as error:
        say(f"warning: failed to set approval mode '{mode}' on sandbox '{name}': {visible(error.message)}", err=True)
        say(f"retry with: openshell settings set {name} --key proposal_approval_mode --value {mode}", err=True)


def _warn(sandbox: Sandbox) -> None:
    """What is weaker than it should be is never silent."""
    assurance, limits = sandbox.condition("Assurance"), sandbox.condition("Limits")
    if assurance is not None and sandbox.assurance != "full":
        mark("⚠", f"assurance is only `{sandbox.assurance}`: {visible(assurance.message, 1000)}", err=True)
    elif assurance is not None and assurance.status != "True":
        mark("⚠", f"the walls are weaker than they could be: {visible(assurance.message, 1000)}", err=True)
    elif assurance is not None and assurance.message:
        say(f"  note: {visible(assurance.message, 1000)}", err=True)
    if limits is not None and limits.status != "True":
        mark("⚠", f"limits do not all hold for the sandbox as a whole: {visible(limits.message)}", err=True)


def _data(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "annotations": sandbox.annotations,
        "assurance": sandbox.assurance,
        "tier": sandbox.tier,
        "conditions": sandbox.conditions,
        "created_at": sandbox.created,
        "current_policy_version": sandbox.policy_version,
        "id": sandbox.id,
        "labels": sandbox.labels,
        "name": sandbox.name,
        "phase": sandbox.phase,
        "restarts": sandbox.restarts,
        "resource_version": sandbox.resource_version,
        "workspace": sandbox.workspace,
    }


@command.command("list", help="Sandboxes of this workspace.")
@click.option("--limit", default=100, show_default=True, metavar="N", help="At most so many.")
@click.option("--offset", default=0, metavar="N", help="Leave out the first N.")
@click.option("--ids", is_flag=True, help="Ids only, one per line.")
@click.option("--names", is_flag=True, help="Names only, one per line.")
@click.option("--selector", default="", metavar="K=V,...", help="Only those with these labels.")
@click.option("--all-workspaces", is_flag=True, help="Those of every workspace.")
@output_option
@click.pass_obj
async def list_(
    app: App, limit: int, offset: int, ids: bool, names: bool, selector: str, all_workspaces: bool, output: str
) -> None:
    if ids + names + (output != "table") > 1:
        raise click.UsageError("--ids, --names and --output are mutually exclusive.")
    async with app.connect() as gateway:
        found = await gateway.sandboxes(selector=selector, all_workspaces=all_workspaces)
    found = found[offset : offset + limit]
    if output != "table":
        emit([_data(one) for one in found], output)
    elif ids or names:
        for one in found:
            name = f"{one.workspace}/{one.name}" if all_workspaces else one.name
            say(one.id if ids else visible(name))
    elif not found:
        say("No sandboxes found.")
    else:
        wide = ["WORKSPACE"] if all_workspaces else []
        rows = [
            [*([one.workspace] if all_workspaces else []), one.name, stamp(one.created), one.phase] for one in found
        ]
        table([*wide, "NAME", "CREATED", "PHASE"], rows)


@command.command("get", help="One sandbox with its effective policy.")
@argument_name
@click.option("--policy-only", is_flag=True, help="Only the policy, as YAML.")
@output_option
@click.pass_obj
async def get(app: App, name: str, policy_only: bool, output: str) -> None:
    if policy_only and output != "table":
        raise click.UsageError("--policy-only cannot be combined with --output.")
    from pyopenshell.cli.policy_text import policy_data, policy_lines

    async with app.connect() as gateway:
        chosen = app.sandbox(name, gateway.registration.name)
        sandbox = await gateway.get(chosen)
        config = await gateway.config(chosen)
    if policy_only:
        if config.policy is None:
            raise CliError("no active policy configured for this sandbox")
        for line in policy_lines(config.policy):
            say(line)
        return
    if output != "table":
        more = {
            "policy": policy_data(config.policy) if config.policy else None,
            "policy_source": config.source,
            "revision": config.version,
        }
        emit(_data(sandbox) | more, output)
        return
    _show(sandbox, config)
    if config.policy is not None:
        say()
        say("Policy:")
        say()
        for line in policy_lines(config.policy):
            say(f"  {line}" if line else "")


def _show(sandbox: Sandbox, config: Config) -> None:
    say("Sandbox:")
    say()
    say(f"  Id: {sandbox.id}")
    say(f"  Name: {visible(sandbox.name)}")
    say(f"  Phase: {sandbox.phase}")
    if sandbox.phase in ("Error", "Starting") and sandbox.trouble:
        say(f"  Reason: {visible(sandbox.trouble, 1000)}")
    if sandbox.restarts and (last := sandbox.condition("Restarted")) is not None:
        why = f"{visible(last.reason)}: {visible(last.message, 1000)}"
        say(f"  Restarts: {sandbox.restarts} (last {stamp(last.since)}, {why})")
    for kind in ("Assurance", "Limits"):
        if (one := sandbox.condition(kind)) is not None:
            word = sandbox.assurance if kind == "Assurance" else ""
            message = visible(one.message, 1000)
            say(f"  {kind}: {word}{f' ({message})' if word and message else message}")
    say(f"  Resource version: {sandbox.resource_version}")
    for title, entries in (("Labels", sandbox.labels), ("Annotations", sandbox.annotations)):
        if entries:
            say(f"  {title}:")
            for key in sorted(entries):
                say(f"    {visible(key)}: {visible(entries[key])}")
    say(f"  Policy source: {config.source}")
    if config.version:
        say(f"  Revision: {config.version}")


@command.command("delete", help="End a sandbox and remove every trace of it.")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "all_", is_flag=True, help="Every sandbox of this workspace.")
@output_option
@click.pass_obj
async def delete(app: App, names: tuple[str, ...], all_: bool, output: str) -> None:
    if bool(names) == all_:
        raise click.UsageError("Give one or more sandbox names, or --all.")
    outcome: dict[str, bool] = {}
    async with app.connect() as gateway:
        wanted = [one.name for one in await gateway.sandboxes()] if all_ else list(names)
        if not wanted and output == "table":
            say("No sandboxes to delete.")
        for name in wanted:
            with forward.ended_with(app, gateway.registration.name, name):
                outcome[name] = await gateway.delete(name)
            app.places.forget_sandbox(gateway.registration.name, app.workspace, name)
            if output != "table":
                continue
            if outcome[name]:
                mark("✓", f"Deleted sandbox {visible(name)}")
            else:
                mark("!", f"Sandbox {visible(name)} not found")
    if output != "table":
        emit([{"deleted": gone, "name": name} for name, gone in outcome.items()], output)


async def _change(app: App, name: str, output: str, verb: str) -> None:
    """Stop or start, and wait (by push) until it is so."""
    phase, done = ("Stopped", "Stopped") if verb == "stop" else ("Ready", "Started")
    seconds = _idle_seconds("OPENSHELL_LIFECYCLE_TIMEOUT")
    from pyopenshell.client.gateway import SandboxFailedError

    async with app.connect() as gateway:
        chosen = app.sandbox(name, gateway.registration.name)
        sandbox = await (gateway.stop(chosen) if verb == "stop" else gateway.start(chosen))
        try:
            async with asyncio.timeout(seconds):
                sandbox = await gateway.wait_for(sandbox, phase, ("Error", "Deleting"))
        except TimeoutError:
            raise CliError(f"sandbox '{chosen}' did not reach phase {phase} within {seconds:.0f}s") from None
        except SandboxFailedError as error:
            raise CliError(str(error)) from None
    if output != "table":
        emit(_data(sandbox), output)
    else:
        mark("✓", f"{done} sandbox {visible(chosen)}")


@command.command("stop", help="End every process of a sandbox; its files stay.")
@argument_name
@output_option
@click.pass_obj
async def stop(app: App, name: str, output: str) -> None:
    await _change(app, name, output, "stop")


@command.command("start", help="Start a stopped sandbox again, with its files.")
@argument_name
@output_option
@click.pass_obj
async def start(app: App, name: str, output: str) -> None:
    await _change(app, name, output, "start")


@command.command("exec", help="Run a command in a sandbox; exits with its code.", context_settings=_TRAILING)
@click.option("-n", "--name", default="", metavar="N", help="Sandbox; the last used one when left out.")
@click.option("--workdir", default="", metavar="DIR", help="Directory inside to start in.")
@click.option("--timeout", default=0.0, metavar="SECS", help="Kill the command after so long (exit 124); 0 never.")
@click.option("--env", "env", multiple=True, metavar="K=V", help="For this command; repeatable.")
@click.option("--tty/--no-tty", default=None, help="Give the command a terminal; default: as this one is.")
@click.argument("argv", nargs=-1, required=True, metavar="COMMAND...", type=click.UNPROCESSED)
@click.pass_obj
async def exec_(
    app: App, argv: tuple[str, ...], name: str, workdir: str, timeout: float, env: tuple[str, ...], tty: bool | None
) -> None:
    variables = environment(env, warn=False)
    from pyopenshell.cli import terminal

    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        with_terminal = terminal.is_terminal() if tty is None else tty and sys.stdin.isatty()
        try:
            code = await terminal.run(
                gateway,
                sandbox,
                argv,
                workdir=workdir,
                environment=variables,
                timeout=timeout,
                terminal=with_terminal,
            )
        except GatewayError as error:
            if error.code != "FAILED_PRECONDITION" or "not ready" not in error.message:
                raise
            phase = (await gateway.get(sandbox)).phase
            raise CliError(
                f"sandbox '{sandbox}' is not ready (phase: {phase}); wait for it to reach Ready state"
            ) from None
    raise click.exceptions.Exit(code)


@command.command("connect", help="Open the console of a sandbox: a login shell, or what already runs there. Ctrl-P "
                 "Ctrl-Q leaves it running; connect again comes back to it.")  # fmt: skip
@argument_name
@click.pass_obj
async def connect(app: App, name: str) -> None:
    from pyopenshell.cli import terminal

    async with app.connect() as gateway:
        sandbox = app.sandbox(name, gateway.registration.name)
        if terminal.is_terminal():
            code = await _console(gateway, sandbox, _SHELL)
        else:  # nothing to come back to: a shell for what is piped in
            code = await terminal.run(gateway, sandbox, _SHELL, terminal=False)
    raise click.exceptions.Exit(code)


async def _console(gateway: Gateway, sandbox: str, argv: tuple[str, ...]) -> int:
    from pyopenshell.cli import terminal

    code = await terminal.attach(gateway, sandbox, argv, environment=_term())
    if code is None:
        say(f"\nLeft running. Come back with: openshell sandbox connect {visible(sandbox)}", err=True)
    return code or 0


def _term() -> dict[str, str]:
    """What kind of terminal this is, which programs on the other side must know."""
    return {"TERM": os.environ["TERM"]} if os.environ.get("TERM") else {}


for one in (*sandbox_files.COMMANDS, ssh.ssh_config):
    command.add_command(one)
