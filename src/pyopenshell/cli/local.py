"""The local gateway as the CLI handles it: is a registration ours, start it, stop it. The daemon does the work."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pyopenshell.cli.app import CliError
from pyopenshell.client import Registration
from pyopenshell.gateway import daemon
from pyopenshell.gateway.configuration import Paths


def is_ours(registration: Registration) -> bool:
    """True where the registration was written by the gateway of this user and machine: same certificate authority."""
    if registration.source != "user" or not registration.loopback:
        return False
    tls = registration.tls()
    try:
        return tls is not None and tls.authority == (Paths.of(os.environ).tls / "ca.crt").read_bytes()
    except OSError:
        return False


async def start(*, port: int | None = None, bind: str | None = None, config: Path | None = None) -> daemon.Running:
    """Start it, or find it running. Raises CliError with the gateway's own reason."""
    try:
        return await asyncio.to_thread(daemon.start, port=port, bind=bind, config=config)
    except daemon.DaemonError as error:
        raise CliError(str(error)) from None


async def stop() -> bool:
    """False when none ran."""
    try:
        return await asyncio.to_thread(daemon.stop)
    except daemon.DaemonError as error:
        raise CliError(str(error)) from None
