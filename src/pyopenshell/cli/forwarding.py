"""Forwards of ports into sandboxes: the process that carries one, and the list of those that run.

One small file per local port, locked by its forwarder as long as that lives: however it ends, the kernel lets go of the
lock, and the list says `dead`. Light to import.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pyopenshell.cli.app import App, CliError
from pyopenshell.client import GatewayError

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway

_PIECE = 64 * 1024
_READY_SECONDS = 60.0
_STOP_SECONDS = 15.0


@dataclasses.dataclass(frozen=True, slots=True)
class Forward:
    """Local `bind`:`port` leads to `target` of the sandbox's loopback. `running` is false for one that died."""

    sandbox: str
    bind: str
    port: int
    target: int
    pid: int
    running: bool = True

    @property
    def address(self) -> str:
        return f"[{self.bind}]:{self.port}" if ":" in self.bind else f"{self.bind}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}/"


class Register:
    """The forwards of one gateway and workspace."""

    def __init__(self, app: App, gateway: str) -> None:
        self._directory = app.places.state / "forwards" / quote(gateway, safe="") / quote(app.workspace, safe="")

    @contextlib.contextmanager
    def entered(self, forward: Forward) -> Iterator[None]:
        """As long as the block runs, the list has it. Raises CliError where the port has one already."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(forward.port)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CliError(f"port {forward.port} is forwarded already: openshell forward list") from None
            content = {**dataclasses.asdict(forward), "running": True}
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(content).encode(), 0)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
        finally:
            os.close(file)

    def forwards(self) -> list[Forward]:
        """By port, the dead ones too."""
        found = [entry for path in sorted(self._directory.glob("*.json")) if (entry := _read(path)) is not None]
        return sorted(found, key=lambda one: one.port)

    def stop(self, forward: Forward) -> None:
        """End its process and wait for that; forget it."""
        if forward.running:
            try:
                handle = os.pidfd_open(forward.pid)
            except ProcessLookupError:
                handle = -1
            if handle >= 0:
                try:
                    again = _read(self._path(forward.port))  # the pid is still the lock's holder
                    if again is not None and again.running and again.pid == forward.pid:
                        signal.pidfd_send_signal(handle, signal.SIGTERM)
                        if not select.select([handle], [], [], _STOP_SECONDS)[0]:
                            signal.pidfd_send_signal(handle, signal.SIGKILL)
                            select.select([handle], [], [], _STOP_SECONDS)
                except ProcessLookupError:
                    pass
                finally:
                    os.close(handle)
        self._path(forward.port).unlink(missing_ok=True)

    def _path(self, port: int) -> Path:
        return self._directory / f"{port}.json"


def _read(path: Path) -> Forward | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(os.pread(file, 65536, 0))
        forward = Forward(**content)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return forward
        return dataclasses.replace(forward, running=False)
    except (ValueError, TypeError):
        return None  # being written, or not ours
    finally:
        os.close(file)


async def carry(gateway: Gateway, forward: Forward, listening: asyncio.Event) -> None:
    """Accept and relay until cancelled, or until the sandbox is gone. Raises CliError when the port cannot be had."""
    relays: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_relay(gateway, forward, reader, writer), name=f"forward {forward.port}")
        relays.add(task)
        task.add_done_callback(relays.discard)

    try:
        server = await asyncio.start_server(accepted, forward.bind, forward.port)
    except OSError as error:
        why = "it is in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        raise CliError(f"cannot listen on {forward.address}: {why}") from None
    try:
        listening.set()
        await _until_gone(gateway, forward.sandbox)
    finally:
        server.close()
        for task in list(relays):
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)


async def _until_gone(gateway: Gateway, sandbox: str) -> None:
    """A gateway that is restarted, or a sandbox that is stopped, ends no forward."""
    pause = 0.2
    while True:
        try:
            async for _ in gateway.watch_status(sandbox):
                pause = 0.2
            return
        except GatewayError as error:
            if error.code == "NOT_FOUND":
                return
        await asyncio.sleep(pause)
        pause = min(pause * 2, 5.0)


async def _relay(
    gateway: Gateway, forward: Forward, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    async def sent() -> AsyncIterator[bytes]:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(_PIECE):
                yield piece

    answers = gateway.tcp(forward.sandbox, forward.target, sent())
    try:
        async with contextlib.aclosing(answers):
            async for piece in answers:
                writer.write(piece)
                await writer.drain()
        writer.close()
        await writer.wait_closed()
    except (GatewayError, OSError):
        # Nothing listens inside, or the way broke: a reset says so, an end would not.
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    except BaseException:
        writer.transport.abort()
        raise


def start_in_background(app: App, gateway: str, forward: Forward) -> Forward:
    """A process of its own that outlives this command; returns once it listens. Raises CliError with its reason."""
    reader, writer = os.pipe()
    local = f"{forward.bind}:{forward.port}"
    arguments = ["forward", "service", forward.sandbox, "--target-port", str(forward.target), "--local", local]
    arguments += ["--workspace", app.workspace, "--ready-fd", str(writer)]
    arguments += ["--gateway-endpoint", app.gateway_endpoint] if app.gateway_endpoint else ["--gateway", gateway]
    arguments += ["--gateway-insecure"] if app.gateway_insecure else []
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pyopenshell.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writer,),
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as said:
        ready = select.select([said], [], [], _READY_SECONDS)[0]
        answer = said.read().decode(errors="replace").strip() if ready else "it did not begin to listen"
    if answer == "ready":
        process.returncode = 0  # it is on its own now: this object must not warn that it still runs
        return dataclasses.replace(forward, pid=process.pid)
    process.kill()
    process.wait()
    raise CliError(answer or "the forward ended before it listened")
