"""SSH into a sandbox: `sandbox ssh-config`, and the hidden `ssh-proxy` that `ssh` starts (contract/cli.md 5.4, 12).

There is no SSH server in the sandbox and no open port anywhere. `ssh-proxy` *is* the server, on the pipe that `ssh`
gave it: each session becomes an `exec` of the gateway, with the rights and the audit of whoever started it. So there is
nobody to authenticate on this pipe, and the host key exists for one connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyopenshell.cli.app import App, CliError
from pyopenshell.cli.framework import Command, argument_name
from pyopenshell.cli.output import say
from pyopenshell.client import GatewayError, visible
from pyopenshell.client.values import Exit

if TYPE_CHECKING:
    import asyncssh

    from pyopenshell.client.gateway import Gateway

USER = "sandbox"
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
"""Where distributions keep it; the sandbox sees the host's."""
_PIECE = 65536
_QUEUED = 16
"""Pieces from the client that wait for the command; beyond it the client waits."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch
_SFTP = (
    " || ".join(f"{{ [ -x {path} ] && exec {path}; }}" for path in SFTP_SERVERS)
    + "; echo 'no sftp-server here: install openssh-sftp-server, or use scp -O' >&2; exit 1"
)


def login_shell(command: str | None = None) -> tuple[str, ...]:
    """A login shell, or one that runs `command`: bash, or sh in an image that has no bash."""
    if command is None:
        return ("/bin/sh", "-c", "[ -x /bin/bash ] && exec /bin/bash -l; exec /bin/sh -l")
    return ("/bin/sh", "-c", '[ -x /bin/bash ] && exec /bin/bash -lc "$1"; exec /bin/sh -lc "$1"', "sh", command)


CONFIG = """\
Host openshell-{name}.{workspace}
    User {user}
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    GlobalKnownHostsFile /dev/null
    LogLevel ERROR
    ServerAliveInterval 15
    ServerAliveCountMax 3
    ProxyCommand {program} ssh-proxy --gateway-name {gateway} --name {name} --workspace {workspace}
"""


@click.command("ssh-config", cls=Command, help="Print the block for ~/.ssh/config that makes `ssh`, `scp`, `rsync` and "
               "editors reach a sandbox.", examples=("openshell sandbox ssh-config work >> ~/.ssh/config",
                                                     "ssh openshell-work.default"))  # fmt: skip
@argument_name
@click.pass_obj
async def ssh_config(app: App, name: str) -> None:
    async with app.connect() as gateway:
        sandbox = await gateway.get(app.sandbox(name, gateway.registration.name))
        for given in (sandbox.name, sandbox.workspace):
            if not _PLAIN(given):  # it goes into a file whose lines are commands
                raise CliError(f"the gateway gave a name that cannot stand in an ssh configuration: {visible(given)}")
        say(
            CONFIG.format(
                name=sandbox.name,
                workspace=sandbox.workspace,
                user=USER,
                program=shlex.quote(_program()).replace("%", "%%"),  # ssh expands %h and the like
                gateway=shlex.quote(gateway.registration.name),
            ).rstrip("\n")
        )


def _program() -> str:
    """This very command: the one on PATH may be another version."""
    return str(Path(sys.argv[0]).absolute())


@click.command("ssh-proxy", cls=Command, hidden=True, help="What ssh's ProxyCommand runs: an SSH server on stdin and "
               "stdout, for one sandbox.")  # fmt: skip
@click.option("--gateway-name", default="", metavar="G", help="Registered gateway.")
@click.option("--name", default="", metavar="N", help="Sandbox.")
@click.pass_obj
async def command(app: App, gateway_name: str, name: str) -> None:
    if not name:
        raise CliError("provide --gateway-name and --name")
    app.gateway = gateway_name or app.gateway
    async with app.connect() as gateway:
        sandbox = (await gateway.get(name)).name
        ours, theirs = socket.socketpair()
        with ours:
            pumps = asyncio.gather(_pump_in(ours), _pump_out(ours))
            try:
                await serve(gateway, sandbox, theirs)
            finally:
                pumps.cancel()
                await asyncio.gather(pumps, return_exceptions=True)


async def serve(gateway: Gateway, sandbox: str, connection: socket.socket) -> None:
    """Speak SSH on a connected socket until the client leaves."""
    import asyncssh

    class Server(asyncssh.SSHServer):
        """Whoever holds this pipe is the person who started us: nothing to ask for."""

        def begin_auth(self, username: str) -> bool:
            return False

        def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
            made: asyncssh.SSHServerSession[bytes] = _session_class()(gateway, sandbox)
            return made

    server = await asyncssh.run_server(
        connection,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        server_factory=Server,
        encoding=None,
        agent_forwarding=False,
        x11_forwarding=False,
        login_timeout=30,
    )
    await server.wait_closed()


@functools.cache
def _session_class() -> type[Any]:
    """Made on first use: the library costs more to import than most commands take."""
    import asyncssh

    class Session(asyncssh.SSHServerSession[bytes]):
        """One `exec`: what the client sends goes in, what comes out goes to the client, the exit code at the end."""

        def __init__(self, gateway: Gateway, sandbox: str) -> None:
            self._gateway, self._sandbox = gateway, sandbox
            self._argv: list[str] = list(login_shell())
            self._input: asyncio.Queue[bytes | tuple[int, int]] = asyncio.Queue()
            self._writable = asyncio.Event()
            self._writable.set()
            self._task: asyncio.Task[None] | None = None

        def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
            self._chan = chan

        def pty_requested(self, term_type: str, term_size: tuple[int, int, int, int], term_modes: object) -> bool:
            return True

        def shell_requested(self) -> bool:
            return True

        def exec_requested(self, command: str) -> bool:
            self._argv = list(login_shell(command))
            return True

        def subsystem_requested(self, subsystem: str) -> bool:
            self._argv = ["/bin/sh", "-c", _SFTP]
            return subsystem == "sftp"

        def session_started(self) -> None:
            self._task = asyncio.create_task(self._run(), name="ssh session")

        def data_received(self, data: bytes, datatype: int | None) -> None:
            self._input.put_nowait(data)
            if self._input.qsize() > _QUEUED:
                self._chan.pause_reading()

        def eof_received(self) -> bool:
            self._input.put_nowait(b"")
            return True

        def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
            self._input.put_nowait((width, height))

        def signal_received(self, signal: str) -> None:
            if signal == "INT":
                self._input.put_nowait(b"\x03")

        def pause_writing(self) -> None:
            self._writable.clear()

        def resume_writing(self) -> None:
            self._writable.set()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._task is not None:
                self._task.cancel()

        async def _inputs(self) -> AsyncIterator[bytes | tuple[int, int]]:
            while item := await self._input.get():
                if self._input.qsize() <= _QUEUED:
                    self._chan.resume_reading()
                yield item

        async def _run(self) -> None:
            kind = self._chan.get_terminal_type()
            events = self._gateway.exec(
                self._sandbox,
                self._argv,
                stdin=self._inputs(),
                size=self._chan.get_terminal_size()[:2] if kind else None,
                environment={"TERM": kind} if kind else {},
            )
            code = 255
            try:
                async with contextlib.aclosing(events):
                    async for event in events:
                        if isinstance(event, Exit):
                            code = event.code
                            continue
                        await self._writable.wait()
                        self._chan.write(
                            event.data, asyncssh.EXTENDED_DATA_STDERR if event.stream == "stderr" else None
                        )
            except GatewayError as error:
                self._chan.write(f"openshell: {visible(error.message)}\n".encode(), asyncssh.EXTENDED_DATA_STDERR)
            self._chan.exit(code)

    return Session


async def _pump_in(connection: socket.socket) -> None:
    """Standard input to the server. A thread reads: it may be a pipe, a socket or a file."""
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    while piece := await asyncio.to_thread(os.read, 0, _PIECE):
        await loop.sock_sendall(connection, piece)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


async def _pump_out(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    with contextlib.suppress(ConnectionError):
        while piece := await loop.sock_recv(connection, _PIECE):
            view: Any = memoryview(piece)
            while view:
                view = view[await asyncio.to_thread(os.write, 1, view) :]
