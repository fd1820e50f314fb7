"""The gateway's side of the local driver: talks to the driver host over a unix socket, starts it when there is none.

Implements `drivers.base.Driver`. Decides nothing about a sandbox; the host does, and goes on when this side goes away.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyopenshell
from pyopenshell.drivers.base import Capabilities, DriverError, ExecRequest, Process, Workload, WorkloadStatus
from pyopenshell.drivers.local.process import LocalProcess
from pyopenshell.isolation import channel
from pyopenshell.isolation.channel import Message
from pyopenshell.isolation.environment import environment

DEFAULT_SUPERVISOR = "pyopenshell.supervisor.process:main"
HOST = "pyopenshell.drivers.local.host"
_SOCKET, _START_LOCK, _LOG = "host.sock", "start.lock", "host.log"
_DIAL_SECONDS = 10.0
"""For a connection within the machine: longer means that nobody accepts."""
_PASSED_ON = (
    *("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""All the host inherits: the gateway's environment may hold secrets. The last two say which roots OpenSSL trusts: an
operator who sets them for a gateway means the servers its sandboxes are connected to, too."""


def _gone() -> DriverError:
    return DriverError("HostDied", "the driver host ended unexpectedly", "see host.log in the state directory")


@dataclasses.dataclass(slots=True)
class _Connection:
    sock: socket.socket
    waiting: dict[int, asyncio.Future[tuple[Message, list[int]]]] = dataclasses.field(default_factory=dict)


class LocalDriver:
    """Sandboxes from Linux namespaces on this machine, as root or as an ordinary user.

    `state_dir` must be on a local file system and is private to one gateway. `supervisor` is the entry point
    ("module:function") that every sandbox's supervisor runs; tests replace it. `host` is the module of the driver host.
    """

    def __init__(self, state_dir: Path, *, supervisor: str = DEFAULT_SUPERVISOR, host: str = HOST) -> None:
        self._state = state_dir.absolute()
        self._supervisor, self._host = supervisor, host
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._locks: dict[str, asyncio.Lock] = {}
        self._events: asyncio.Queue[WorkloadStatus | None] = asyncio.Queue()
        self._processes: dict[str, LocalProcess] = {}
        self._running: dict[str, str] = {}
        self._next = 0
        self._closed = False
        self._outbox: list[tuple[Message, list[int]]] = []

    @property
    def name(self) -> str:
        return "local"

    @property
    def version(self) -> str:
        return pyopenshell.__version__

    @property
    def capabilities(self) -> Mapping[str, Capabilities]:
        return {self.name: Capabilities(paths=True)}

    async def start(self) -> Sequence[WorkloadStatus]:
        return await self._connect() if self._connection is None else ()

    async def create(self, workload: Workload) -> WorkloadStatus:
        check_environment(workload.environment)
        message = {
            "op": "create",
            "sandbox_id": workload.sandbox_id,
            "name": workload.name,
            "workspace": workload.workspace,
            "instance_id": workload.instance_id,
            "config": base64.b64encode(workload.config).decode(),
            "access": dataclasses.asdict(workload.access),
            "tunnel_idle_seconds": workload.tunnel_idle_seconds,
            "connect_to": [dataclasses.asdict(entry) for entry in workload.connect_to],
            "command": list(workload.command),
            "main": _command(ExecRequest(workload.command, tty=workload.tty)),
            "environment": dict(workload.environment),
            "image": workload.image,
            "require": workload.require,
            "accept_weaker": workload.accept_weaker,
            "limits": {"memory": workload.memory, "cpu": workload.cpu, "pids": workload.pids},
        }
        async with self._lock(workload.sandbox_id):
            answer = await self._ask_twice(message)
            self._running[workload.sandbox_id] = workload.instance_id
            return status_of(answer["status"])

    async def ask(self, message: Message) -> Message:
        """A request that this driver has no method for. Raises DriverError."""
        return (await self._ask(message))[0]

    async def stop(self, sandbox_id: str) -> None:
        async with self._lock(sandbox_id):
            await self._ask_twice({"op": "stop", "sandbox_id": sandbox_id})
            self._running.pop(sandbox_id, None)

    async def delete(self, sandbox_id: str) -> None:
        async with self._lock(sandbox_id):
            await self._ask_twice({"op": "delete", "sandbox_id": sandbox_id})
            self._running.pop(sandbox_id, None)
        self._locks.pop(sandbox_id, None)

    async def exec(self, sandbox_id: str, request: ExecRequest) -> Process:
        if not request.argv:
            raise DriverError("InvalidCommand", "the command is empty")
        if any("\0" in argument for argument in (*request.argv, request.workdir)):
            raise DriverError("InvalidCommand", "the command contains a NUL byte")
        name = f"{os.getpid()}-{self._serial()}"
        check_environment(request.environment)
        process = LocalProcess(name, lambda number: self._signal(sandbox_id, name, number))
        inner = [] if request.tty else _pipes(process)
        self._processes[name] = process
        try:
            message = {"op": "exec", "sandbox_id": sandbox_id, "name": name, "command": _command(request)}
            answer, fds = await self._ask(message, inner)
        except BaseException:
            del self._processes[name]
            process.exited(-1)
            await process.aclose()
            raise
        finally:
            channel.close_all(inner)
        process.pid = int(answer["pid"])
        if request.tty:
            process.attach_terminal(fds[0])
        return process

    async def dial(self, sandbox_id: str, port: int) -> socket.socket:
        why: OSError | None = None
        for ipv6, address in ((False, "127.0.0.1"), (True, "::1")):
            _, fds = await self._ask({"op": "socket", "sandbox_id": sandbox_id, "ipv6": ipv6})
            # Made by the sandbox's init in its own network; connecting it happens there, wherever it is held.
            sock = socket.socket(fileno=fds[0])
            sock.setblocking(False)
            try:
                async with asyncio.timeout(_DIAL_SECONDS):
                    await asyncio.get_running_loop().sock_connect(sock, (address, port))
            except OSError as error:  # TimeoutError is one: a server whose backlog is full
                sock.close()
                why = why or error
                continue
            except BaseException:
                sock.close()
                raise
            return sock
        text = str(why) or "no answer"
        raise DriverError("NotListening", f"port {port} of the sandbox cannot be reached: {text}", "start the server")

    async def events(self) -> AsyncIterator[WorkloadStatus]:
        while (status := await self._events.get()) is not None:
            yield status

    async def close(self) -> None:
        self._closed = True
        self._hang_up()
        self._events.put_nowait(None)

    # -- requests ----------------------------------------------------------

    def _lock(self, sandbox_id: str) -> asyncio.Lock:
        return self._locks.setdefault(sandbox_id, asyncio.Lock())

    def _serial(self) -> int:
        self._next += 1
        return self._next

    async def _ask_twice(self, message: Message) -> Message:
        """For what is safe to repeat: a host that was on its way out leaves it to its successor."""
        asked = self._connection
        try:
            return (await self._ask(message))[0]
        except DriverError as error:
            if error.reason not in ("HostDied", "HostStopped") or self._closed:
                raise
        if asked is not None:
            self._lost(asked)
        return (await self._ask(message))[0]

    async def _ask(self, message: Message, fds: Sequence[int] = ()) -> tuple[Message, list[int]]:
        if self._closed:
            raise DriverError("Closed", "the driver was closed")
        if self._connection is None:
            await self._connect()
        connection = self._connection
        if connection is None:
            raise _gone()
        number = self._serial()
        future: asyncio.Future[tuple[Message, list[int]]] = asyncio.get_running_loop().create_future()
        connection.waiting[number] = future
        self._send(connection, {"id": number, **message}, fds)
        try:
            answer, gifts = await future
        finally:
            connection.waiting.pop(number, None)
        if "failed" in answer:
            channel.close_all(gifts)
            failed = answer["failed"]
            raise DriverError(failed["reason"], failed["message"], failed.get("fix", ""))
        return answer, gifts

    def _signal(self, sandbox_id: str, name: str, number: int) -> None:
        if self._connection is not None:
            message = {"op": "signal", "sandbox_id": sandbox_id, "name": name, "signal": number}
            self._send(self._connection, {"id": self._serial(), **message}, ())

    def _send(self, connection: _Connection, message: Message, fds: Sequence[int]) -> None:
        if not self._outbox:
            try:
                channel.send(connection.sock, message, fds)
                return
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(connection.sock.fileno(), self._flush, connection)
            except OSError:
                self._lost(connection)
                return
        self._outbox.append((message, [os.dup(fd) for fd in fds]))

    def _flush(self, connection: _Connection) -> None:
        while self._outbox:
            message, fds = self._outbox[0]
            try:
                channel.send(connection.sock, message, fds)
            except BlockingIOError:
                return
            except OSError:
                self._lost(connection)
                return
            del self._outbox[0]
            channel.close_all(fds)
        asyncio.get_running_loop().remove_writer(connection.sock.fileno())

    # -- what the host says ------------------------------------------------

    def _readable(self, connection: _Connection) -> None:
        try:
            message, fds = channel.receive(connection.sock)
        except BlockingIOError:
            return
        except (OSError, channel.ChannelError):
            message, fds = None, []
        if message is None:
            self._lost(connection)
        elif "re" in message:
            future = connection.waiting.get(message["re"])
            if future is not None and not future.done():
                future.set_result((message, fds))
            else:
                channel.close_all(fds)
        elif "exit" in message:
            process = self._processes.pop(message["exit"], None)
            if process is not None:
                process.exited(int(message["code"]))
        elif "status" in message:
            self._publish(status_of(message["status"]))

    def _publish(self, status: WorkloadStatus) -> None:
        if status.phase in ("running", "exited"):
            self._running[status.sandbox_id] = status.instance_id
        else:
            self._running.pop(status.sandbox_id, None)
        self._events.put_nowait(status)

    def _lost(self, connection: _Connection) -> None:
        """The host ended: everything it had is gone with it."""
        if self._connection is not connection:
            return
        self._hang_up()
        why = _gone()
        for sandbox_id, instance_id in list(self._running.items()):
            self._publish(WorkloadStatus(sandbox_id, instance_id, "stopped", None, why.reason, why.message))

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(connection.sock.fileno())
        loop.remove_writer(connection.sock.fileno())
        connection.sock.close()
        for _, fds in self._outbox:
            channel.close_all(fds)
        self._outbox.clear()
        for future in connection.waiting.values():
            if not future.done():
                future.set_exception(_gone())
        for process in self._processes.values():
            process.exited(128 + signal.SIGKILL)
        self._processes.clear()

    # -- the host process --------------------------------------------------

    async def _connect(self) -> list[WorkloadStatus]:
        """Returns what already runs; what ended while nobody listened goes to `events`."""
        async with self._connecting:
            if self._connection is not None or self._closed:
                return []
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._state / _START_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
                greeting = await self._greet()
                if greeting is None:
                    await self._start_host()
                    greeting = await self._greet()
            finally:
                os.close(lock)
            if greeting is None:
                raise DriverError("HostUnreachable", "the driver host does not answer", f"see {self._state / _LOG}")
        for status in greeting["ended"]:
            self._publish(status_of(status))
        running = [status_of(status) for status in greeting["running"]]
        self._running.update({status.sandbox_id: status.instance_id for status in running})
        return running

    async def _greet(self) -> Message | None:
        """Connect and say hello; None when there is no host, or it is on its way out."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        directory = os.open(self._state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # By way of a descriptor: the path itself may be longer than a socket address can hold.
            sock.connect(f"/proc/self/fd/{directory}/{_SOCKET}")
        except OSError:
            sock.close()
            return None
        finally:
            os.close(directory)
        sock.setblocking(False)
        connection = _Connection(sock)
        self._connection = connection
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable, connection)
        try:
            answer, _ = await self._ask({"op": "hello"})
        except DriverError:
            return None
        return answer

    async def _start_host(self) -> None:
        """Detached: the host must outlive this gateway. Raises DriverError with what it said."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                await asyncio.to_thread(self._spawn, writer)
            finally:
                os.close(writer)
            line = await asyncio.to_thread(_read_all, reader)
        except OSError as error:
            raise DriverError("HostNotStarted", str(error), "free processes or memory") from error
        finally:
            os.close(reader)
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:
            raise DriverError(
                "HostNotStarted", "the driver host ended while it started", f"see {self._state / _LOG}"
            ) from None
        if "failed" in said:
            failed = said["failed"]
            raise DriverError(failed["reason"], failed["message"], failed["fix"])

    def _spawn(self, ready: int) -> None:
        log = os.open(self._state / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # -P: the working directory is not ours to trust.
            argv = [
                sys.executable,
                "-P",
                "-m",
                self._host,
                "--state",
                str(self._state),
                "--supervisor",
                self._supervisor,
            ]
            subprocess.run(  # returns at once: the host detaches itself
                [*argv, "--ready-fd", str(ready)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                pass_fds=(ready,),
                start_new_session=True,
                check=False,
            )
        finally:
            os.close(log)


def _read_all(fd: int) -> bytes:
    data = b""
    while part := os.read(fd, 65536):
        data += part
    return data


def status_of(message: Mapping[str, Any]) -> WorkloadStatus:
    return WorkloadStatus(**{**message, "losses": tuple(message["losses"])})


def check_environment(variables: Mapping[str, str]) -> None:
    try:
        environment(variables)
    except ValueError as error:
        raise DriverError("InvalidEnvironment", str(error)) from error


def _command(request: ExecRequest) -> dict[str, Any]:
    return {
        "argv": list(request.argv),
        "environment": dict(request.environment),
        "cwd": request.workdir,
        "tty": request.tty,
        "columns": min(max(request.columns, 1), 65535),
        "rows": min(max(request.rows, 1), 65535),
    }


def _pipes(process: LocalProcess) -> list[int]:
    """Our ends go to `process`; returns the command's [stdin, stdout, stderr]."""
    opened: list[int] = []
    try:
        for _ in range(3):
            opened += os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        channel.close_all(opened)
        raise DriverError("HostResources", str(error), "raise the gateway's descriptor limit") from error
    process.attach_pipes(opened[1], opened[2], opened[4])
    return [opened[0], opened[3], opened[5]]
