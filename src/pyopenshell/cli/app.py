"""What one invocation works with: which gateway, which workspace, which sandbox. Connects, and starts the local
gateway where the first use asks for one. Prints nothing but that."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from pyopenshell.client import NoGatewayError, Places, Registration, UnreachableError, resolve

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway


class CliError(Exception):
    """A refusal or failure with our own words and exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def _flag(value: str) -> bool:
    return value.strip().lower() in ("1", "true", "yes", "y", "on")


@dataclasses.dataclass
class App:
    """The global flags, and the environment where a flag was not given."""

    gateway: str = ""
    gateway_endpoint: str = ""
    gateway_insecure: bool = False
    workspace: str = ""
    verbose: int = 0
    places: Places = dataclasses.field(default_factory=lambda: Places.of(os.environ))

    def __post_init__(self) -> None:
        environ = os.environ
        self.gateway = self.gateway or environ.get("OPENSHELL_GATEWAY", "").strip()
        self.gateway_endpoint = self.gateway_endpoint or environ.get("OPENSHELL_GATEWAY_ENDPOINT", "").strip()
        self.gateway_insecure = self.gateway_insecure or _flag(environ.get("OPENSHELL_GATEWAY_INSECURE", ""))
        self.workspace = self.workspace or environ.get("OPENSHELL_WORKSPACE", "").strip() or "default"

    def registration(self) -> Registration:
        """Raises RegistrationError."""
        return resolve(self.places, gateway=self.gateway, endpoint=self.gateway_endpoint)

    @contextlib.asynccontextmanager
    async def connect(self, *, may_start: bool = False) -> AsyncIterator[Gateway]:
        """A connection to the chosen gateway.

        With `may_start` and nothing registered, a local gateway is started and registered first. Our own local
        gateway that was stopped (a reboot, for example) is started again for any command.
        """
        from pyopenshell.client.gateway import Gateway

        try:
            registration = self.registration()
        except NoGatewayError:
            if not may_start or self.gateway or self.gateway_endpoint:
                raise
            registration = await self._start()
        try:
            gateway = await Gateway.open(registration, workspace=self.workspace, insecure=self.gateway_insecure)
        except UnreachableError:
            from pyopenshell.cli import local

            if self.gateway_endpoint or not local.is_ours(registration):
                raise
            registration = await self._start()
            gateway = await Gateway.open(registration, workspace=self.workspace, insecure=self.gateway_insecure)
        async with gateway:
            yield gateway

    async def _start(self) -> Registration:
        from pyopenshell.cli import local

        click.echo("→ Starting the local gateway", err=True)
        await local.start()
        return self.registration()

    def sandbox(self, name: str, gateway: str) -> str:
        """`name`, or the sandbox used last with this gateway and workspace (said on stderr). Raises CliError."""
        if name:
            self.places.remember_sandbox(gateway, self.workspace, name)
            return name
        last = self.places.last_sandbox(gateway, self.workspace)
        if not last:
            raise CliError(
                "No sandbox name provided and no last-used sandbox.\n"
                "Specify a sandbox name or connect to one first: openshell sandbox connect <name>"
            )
        click.echo(f"→ Using sandbox '{last}' (last used)", err=True)
        return last
