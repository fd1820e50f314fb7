"""`openshell status`: is the gateway there, does it accept me, what did its operator override. Exit 0 only if so."""

from __future__ import annotations

from typing import Any

import click

from pyopenshell.cli.app import App
from pyopenshell.cli.framework import Command, output_option
from pyopenshell.cli.output import emit, say
from pyopenshell.client import GatewayError, NoGatewayError, Registration, UnreachableError, visible
from pyopenshell.client.values import OperatorStatus


@click.command(cls=Command, help="Is the gateway there, and who am I to it? Exits 0 only when connected.")
@output_option
@click.pass_obj
async def command(app: App, output: str) -> None:
    try:
        registration = app.registration()
    except NoGatewayError:
        if output != "table":
            emit({"gateway": None, "status": "disconnected"}, output)
        else:
            say("Gateway Status")
            say()
            say("  Status: No gateway configured.")
            say()
            say("Register a gateway with: openshell gateway add <endpoint>")
            say("Or start one here with: openshell gateway start")
        raise click.exceptions.Exit(1) from None
    data, operator = await _ask(app, registration)
    if output != "table":
        emit(data | ({"operator": operator} if operator else {}), output)
    else:
        _show(data, operator)
    if data["status"] != "connected" or data["authentication"]["status"] == "failed":
        raise click.exceptions.Exit(1)


async def _ask(app: App, registration: Registration) -> tuple[dict[str, Any], OperatorStatus | None]:
    from pyopenshell.client.gateway import Gateway

    data: dict[str, Any] = {"gateway": registration.name, "server": registration.endpoint}
    try:
        gateway = await Gateway.open(registration, workspace=app.workspace, insecure=app.gateway_insecure)
    except UnreachableError as error:
        unverified = {"status": "unverified", "reason": "not connected"}
        return data | {"status": "disconnected", "error": error.why} | {"authentication": unverified}, None
    async with gateway:
        try:
            health = await gateway.health()
        except GatewayError as error:
            unverified = {"status": "unverified", "reason": "no health answer"}
            return data | {"status": "error", "error": error.message, "authentication": unverified}, None
        data |= {"status": "connected", "version": health.version}
        data["authentication"] = await _authentication(gateway, registration)
        try:
            operator = await gateway.operator_status()
        except GatewayError:
            operator = None  # another implementation of the gateway, or not allowed to look
        return data, operator


async def _authentication(gateway: Any, registration: Registration) -> dict[str, str]:
    if not registration.secure:
        return {"status": "not_required", "mode": "gateway"}
    provider = "mTLS transport" if registration.auth == "mtls" else registration.auth
    try:
        await gateway.verify()
    except GatewayError as error:
        if error.code == "PERMISSION_DENIED":
            return {"status": "authenticated", "provider": f"{provider}; authorization denied"}
        return {"status": "failed", "error": error.message}
    return {"status": "authenticated", "provider": provider}


def _show(data: dict[str, Any], operator: OperatorStatus | None) -> None:
    words = {"connected": "Connected", "error": "Error", "disconnected": "Disconnected"}
    states = {
        "authenticated": ("Authenticated", "provider"),
        "not_required": ("Not required", "mode"),
        "failed": ("Failed", "error"),
        "unverified": ("Unverified", "reason"),
    }
    say("Server Status")
    say()
    say(f"  Gateway: {visible(data['gateway'])}")
    say(f"  Server: {visible(data['server'])}")
    say(f"  Status: {words[data['status']]}")
    if "error" in data:
        say(f"  Error: {visible(data['error'])}")
    word, key = states[data["authentication"]["status"]]
    say(f"  Authentication: {word} ({visible(data['authentication'][key])})")
    if "version" in data:
        say(f"  Version: {visible(data['version'])}")
    if operator is None:
        return
    say(f"  Sandboxes connected: {operator.sandboxes_connected}")
    if operator.state_dir:
        say(f"  State: {visible(operator.state_dir)}")
    for one in operator.connect_to:
        authority = ", its own certificate authority" if one.has_ca else ""
        say(f"  Connect-to override: {visible(one.host)}:{one.port} -> {visible(one.address)}{authority}")
