"""`openshell forward`: a port of this machine leads to a server in a sandbox (contract/cli.md 10)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import os
from collections.abc import Iterator

import click

from pyopenshell.cli import forwarding
from pyopenshell.cli.app import App
from pyopenshell.cli.ending import ended_by_signals
from pyopenshell.cli.forwarding import Forward, Register
from pyopenshell.cli.framework import Group, argument_name, output_option
from pyopenshell.cli.output import emit, mark, say, table
from pyopenshell.client import visible

LOOPBACK = "127.0.0.1"


@click.group(
    cls=Group,
    alias="fwd",
    help="Reach a server that runs in a sandbox through a port of this machine.",
    examples=(
        "openshell forward start 8080 my-box",
        "openshell forward start 8080 my-box --background",
        "openshell forward list",
        "openshell forward stop 8080",
    ),
)
def command() -> None: ...


def local(text: str, option: str = "PORT") -> tuple[str, int]:
    """`[BIND:]PORT`; without an address only this machine reaches it. Raises UsageError."""
    bind, colon, port = text.rpartition(":")
    bind = (bind.removeprefix("[").removesuffix("]") if colon else LOOPBACK).replace("localhost", LOOPBACK)
    try:
        ipaddress.ip_address(bind)
        if not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise click.UsageError(f"invalid value '{text}' for '{option}': expected [ADDRESS:]PORT") from None
    return bind, int(port)


@command.command("start", help="Forward a port of this machine to the same port in a sandbox.")
@click.argument("where", metavar="[BIND:]PORT")
@argument_name
@click.option("-d", "--background", is_flag=True, help="Return at once; `forward stop` ends it.")
@output_option
@click.pass_obj
async def start(app: App, where: str, name: str, background: bool, output: str) -> None:
    bind, port = local(where)
    await _forward(app, name, bind, port, port, background=background, output=output)


@command.command("service", help="Forward any port of this machine to a port in a sandbox.")
@argument_name
@click.option("--target-port", type=click.IntRange(1, 65535), required=True, metavar="P", help="Port in the sandbox.")
@click.option("--target-host", type=click.Choice([LOOPBACK, "localhost", "::1"]), default=LOOPBACK,
              show_default=True, help="A sandbox is no way to other hosts.")  # fmt: skip
@click.option("--local", "where", default="", metavar="[BIND:]PORT", help="Default: the same port.")
@click.option("-d", "--background", is_flag=True, help="Return at once; `forward stop` ends it.")
@click.option("--ready-fd", type=int, default=-1, hidden=True, help="Where to say that it listens.")
@output_option
@click.pass_obj
async def service(
    app: App, name: str, target_port: int, target_host: str, where: str, background: bool, ready_fd: int, output: str
) -> None:
    del target_host  # whichever family the server listens on is found
    bind, port = local(where or str(target_port), "--local")
    await _forward(app, name, bind, port, target_port, background=background, output=output, ready=ready_fd)


async def _forward(
    app: App, name: str, bind: str, port: int, target: int, *, background: bool, output: str, ready: int = -1
) -> None:
    if ready >= 0:
        os.set_inheritable(ready, False)
    try:
        wanted = Forward("", bind, port, target, os.getpid())
        await _carry(app, name, wanted, background=background, output=output, ready=ready)
    except Exception as error:
        if ready >= 0:
            os.write(ready, str(error).encode()[:4000])
        raise


async def _carry(app: App, name: str, forward: Forward, *, background: bool, output: str, ready: int) -> None:
    async with app.connect() as gateway:
        sandbox = (await gateway.get(app.sandbox(name, gateway.registration.name))).name
        forward = dataclasses.replace(forward, sandbox=sandbox)
        register = Register(app, gateway.registration.name)
        if background:
            forward = begin(app, gateway.registration.name, forward)
            if output != "table":
                emit(forward, output)
            return
        listening = asyncio.Event()
        with register.entered(forward), ended_by_signals():
            carrying = asyncio.create_task(forwarding.carry(gateway, forward, listening), name="forward")
            waiting = asyncio.create_task(listening.wait(), name="listening")
            try:
                await asyncio.wait({carrying, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if listening.is_set():
                    _tell(forward, ready)
                    if output != "table":
                        emit(forward, output)
                await carrying
            finally:
                waiting.cancel()
                carrying.cancel()
                await asyncio.gather(carrying, waiting, return_exceptions=True)
        say(f"sandbox {visible(sandbox)} is gone", err=True)


def begin(app: App, gateway: str, forward: Forward) -> Forward:
    """In the background, with the contract's lines on stderr. Raises CliError."""
    forward = forwarding.start_in_background(app, gateway, forward)
    name = visible(forward.sandbox)
    mark("  ✓", f"Forwarding port {forward.port} to sandbox {name} in the background", err=True)
    say(err=True)
    say(f"  Access at: {forward.url}", err=True)
    say(f"  Stop with: openshell forward stop {forward.port} {name}", err=True)
    return forward


def _tell(forward: Forward, ready: int) -> None:
    if ready >= 0:
        os.write(ready, b"ready")
        os.close(ready)
        return
    say(f"Forwarding port {forward.port} to sandbox {visible(forward.sandbox)}", err=True)
    say(f"  Access at: {forward.url}", err=True)
    say("  Press Ctrl+C to stop (--background returns at once instead)", err=True)


@command.command("stop", help="End a forward.")
@click.argument("port", type=click.IntRange(1, 65535))
@click.argument("name", required=False, default="", metavar="[NAME]")
@output_option
@click.pass_obj
def stop(app: App, port: int, name: str, output: str) -> None:
    register = Register(app, app.registration().name)
    found = next((one for one in register.forwards() if one.port == port and name in ("", one.sandbox)), None)
    if found is not None:
        register.stop(found)
    if output != "table":
        emit({"port": port, "sandbox": found.sandbox if found else name, "stopped": found is not None}, output)
    elif found is None:
        where = f" on sandbox {visible(name)}" if name else ""
        mark("!", f"No active forward found for port {port}{where}")
    else:
        if not name:
            mark("→", f"Found forward on sandbox '{visible(found.sandbox)}'")
        mark("✓", f"Stopped forward of port {port} for sandbox {visible(found.sandbox)}")


@command.command("list", help="Forwards of this gateway and workspace.")
@output_option
@click.pass_obj
def list_(app: App, output: str) -> None:
    found = Register(app, app.registration().name).forwards()
    if output != "table":
        emit([dataclasses.asdict(one) for one in found], output)
    elif not found:
        say("No active forwards.")
    else:
        rows = [
            [one.sandbox, one.bind, str(one.port), str(one.pid), "running" if one.running else "dead"] for one in found
        ]
        table(["SANDBOX", "BIND", "PORT", "PID", "STATUS"], rows)


@contextlib.contextmanager
def ended_with(app: App, gateway: str, sandbox: str) -> Iterator[None]:
    """A sandbox deleted in this block has no forwards afterwards; each is told on stderr."""
    register = Register(app, gateway)
    # Looked up before: a forward that sees its sandbox go ends by itself.
    found = [one for one in register.forwards() if one.sandbox == sandbox]
    yield
    for one in found:
        register.stop(one)
        mark("✓", f"Stopped forward of port {one.port} for sandbox {visible(sandbox)}", err=True)
