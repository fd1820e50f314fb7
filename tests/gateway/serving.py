"""A real gateway on a real port with real mutual TLS, over a driver whose workloads are plain tasks of the test.

Each fake workload connects back like a supervisor would, with the certificate and token it was given; commands run
as real subprocesses of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pyopenshell.drivers.base import Capabilities, DriverError, ExecRequest, GatewayAccess, Workload, WorkloadStatus
from pyopenshell.gateway.app import Gateway
from pyopenshell.gateway.configuration import load
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2
from pyopenshell.wire.service import methods

DEFAULT = datamodel_pb2.WorkspaceSelector(workspace="default")


class Client:
    """Calls by name over one channel, with the message classes of the wire tables."""

    def __init__(self, channel: grpc.aio.Channel, token: str = "") -> None:
        self.channel = channel
        self.metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {token}"),) if token else ()
        self._paths = {method.name: method for method in methods().values()}

    def __getattr__(self, name: str) -> Any:
        method = self._paths[name]
        kinds = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, False): self.channel.stream_unary,
            (True, True): self.channel.stream_stream,
        }
        stub = kinds[method.client_streaming, method.server_streaming](
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response.FromString,
        )
        return lambda request=None, **options: stub(request, metadata=self.metadata, **options)


def channel(address: str, authority: bytes, certificate: bytes | None, key: bytes | None) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate))


def user_channel(gateway: Gateway) -> grpc.aio.Channel:
    bundle = gateway.bundle
    return channel(f"127.0.0.1:{gateway.port}", bundle.authority.pem, bundle.client.certificate, bundle.client.key)


def sandbox_channel(access: GatewayAccess) -> grpc.aio.Channel:
    return channel(access.address, access.ca_pem.encode(), access.cert_pem.encode(), access.key_pem.encode())


class FakeSupervisor:
    """One connected supervisor: says hello, records every update, answers each as applied."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.channel = sandbox_channel(workload.access)
        self.client = Client(self.channel, workload.access.token)
        self.received: asyncio.Queue[openshell_pb2.GatewayMessage] = asyncio.Queue()
        self.accepted = asyncio.Event()
        self.answers = True
        self._call: Any = None
        self._task: asyncio.Task[None] | None = None

    def connect(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        self._call = self.client.ConnectSupervisor()
        hello = openshell_pb2.SupervisorHello(
            sandbox_id=self.workload.sandbox_id, instance_id=self.workload.instance_id, supports_config_push=True
        )
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(openshell_pb2.SupervisorMessage(hello=hello))
            async for message in self._call:
                if message.HasField("session_accepted"):
                    await self._answer(message.session_accepted.bootstrap)
                    self.accepted.set()
                elif message.HasField("config_update"):
                    await self._answer(message.config_update)
                await self.received.put(message)

    async def _answer(self, update: openshell_pb2.ConfigUpdate) -> None:
        if self.answers and update.update_id:
            result = openshell_pb2.ConfigUpdateResult(
                update_id=update.update_id,
                outcome=openshell_pb2.CONFIG_APPLY_OUTCOME_APPLIED,
                policy_load=openshell_pb2.PolicyLoadResult(version=update.sandbox_config.version, loaded=True),
            )
            await self._call.write(openshell_pb2.SupervisorMessage(config_update_result=result))

    async def next_update(self) -> openshell_pb2.ConfigUpdate:
        while True:
            message = await asyncio.wait_for(self.received.get(), 10)
            if message.HasField("config_update"):
                return message.config_update

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.channel.close()


class FakeProcess:
    """A subprocess of the test as drivers.base.Process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.resized: list[tuple[int, int]] = []

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        queue: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()

        async def pump(name: str, reader: asyncio.StreamReader) -> None:
            while data := await reader.read(65536):
                await queue.put((name, data))
            await queue.put(None)

        assert self._process.stdout is not None
        assert self._process.stderr is not None
        pumps = [
            asyncio.create_task(pump("stdout", self._process.stdout)),
            asyncio.create_task(pump("stderr", self._process.stderr)),
        ]
        open_ends = 2
        try:
            while open_ends:
                item = await queue.get()
                if item is None:
                    open_ends -= 1
                else:
                    yield item
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def resize(self, columns: int, rows: int) -> None:
        self.resized.append((columns, rows))

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def aclose(self) -> None:
        if self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await self._process.stdin.wait_closed()


class FakeDriver:
    """drivers.base.Driver over tasks of the test. `fail` makes the next create or start fail."""

    name = "fake"
    version = "1"
    capabilities: Mapping[str, Capabilities] = {"local": Capabilities(paths=True)}

    def __init__(self, *, connect: bool = True) -> None:
        self.connect = connect
        self.standing: dict[str, Any] = {}
        self.path = os.environ["PATH"]
        self.running: dict[str, FakeSupervisor] = {}
        self.created: list[Workload] = []
        self.calls: list[tuple[str, str]] = []
        self.fail: DriverError | None = None
        self.fail_start: DriverError | None = None
        self.fail_stop: DriverError | None = None
        self.stopping: Callable[[], None] = lambda: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.processes: list[FakeProcess] = []
        self._events: asyncio.Queue[WorkloadStatus] = asyncio.Queue()

    async def start(self) -> Sequence[WorkloadStatus]:
        if self.fail_start is not None:
            raise self.fail_start
        return [
            WorkloadStatus(sandbox_id, supervisor.workload.instance_id, "running")
            for sandbox_id, supervisor in self.running.items()
        ]

    async def create(self, workload: Workload) -> WorkloadStatus:
        self.calls.append(("create", workload.sandbox_id))
        self.entered.set()
        await self.gate.wait()
        if self.fail is not None:
            raise self.fail
        self.created.append(workload)
        supervisor = self.running[workload.sandbox_id] = FakeSupervisor(workload)
        if self.connect:
            supervisor.connect()
        return WorkloadStatus(workload.sandbox_id, workload.instance_id, "running", **self.standing)

    async def stop(self, sandbox_id: str) -> None:
        self.calls.append(("stop", sandbox_id))
        self.stopping()
        if self.fail_stop is not None:
            await asyncio.sleep(0)  # what is reported first is heard first
            await asyncio.sleep(0)
            raise self.fail_stop
        supervisor = self.running.pop(sandbox_id, None)
        if supervisor is not None:
            await supervisor.close()

    async def delete(self, sandbox_id: str) -> None:
        self.calls.append(("delete", sandbox_id))
        if self.fail is not None:
            raise self.fail
        supervisor = self.running.pop(sandbox_id, None)
        if supervisor is not None:
            await supervisor.close()

    async def exec(self, sandbox_id: str, request: ExecRequest) -> FakeProcess:
        environment: Mapping[str, str] = {"PATH": self.path, **request.environment}
        try:
            process = await asyncio.create_subprocess_exec(
                *request.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd=request.workdir or "/",
                start_new_session=True,
            )
        except FileNotFoundError:
            raise DriverError("CommandNotFound", f"{request.argv[0]}: command not found") from None
        self.processes.append(FakeProcess(process))
        return self.processes[-1]

    async def dial(self, sandbox_id: str, port: int) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError as error:
            sock.close()
            raise DriverError("NotListening", f"port {port}: {error}") from error
        return sock

    async def events(self) -> AsyncIterator[WorkloadStatus]:
        while True:
            yield await self._events.get()

    def report(self, status: WorkloadStatus) -> None:
        self._events.put_nowait(status)

    async def close(self) -> None:
        """Workloads go on."""

    async def end(self) -> None:
        """End of the test: nothing goes on."""
        for supervisor in self.running.values():
            await supervisor.close()


def environ(directory: Path) -> dict[str, str]:
    """A private home for one gateway."""
    return {
        "HOME": str(directory),
        "XDG_CONFIG_HOME": str(directory / "config"),
        "XDG_STATE_HOME": str(directory / "state"),
        "PATH": os.environ["PATH"],
    }


@dataclasses.dataclass(slots=True)
class Served:
    """A started gateway with its driver and a client of its owner."""

    gateway: Gateway
    driver: FakeDriver
    client: Client

    async def create(self, **fields: Any) -> openshell_pb2.Sandbox:
        spec = fields.pop("spec", openshell_pb2.SandboxSpec())
        request = openshell_pb2.CreateSandboxRequest(workspace_scope=DEFAULT, spec=spec, **fields)
        response: openshell_pb2.SandboxResponse = await self.client.CreateSandbox(request)
        return response.sandbox

    async def get(self, name: str) -> openshell_pb2.Sandbox:
        request = openshell_pb2.GetSandboxRequest(workspace_scope=DEFAULT, name=name)
        response: openshell_pb2.SandboxResponse = await self.client.GetSandbox(request)
        return response.sandbox

    def supervisor(self, sandbox: openshell_pb2.Sandbox) -> FakeSupervisor:
        return self.driver.running[sandbox.metadata.id]


@contextlib.asynccontextmanager
async def serving(directory: Path, driver: FakeDriver | None = None, text: str = "") -> AsyncIterator[Served]:
    """A gateway with its files below `directory` and gateway.toml `text`; the driver outlives it if it was given."""
    owned = driver is None
    driver = driver or FakeDriver()
    variables = environ(directory)
    config = directory / "config" / "openshell" / "gateway.toml"
    if text:
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(text)
    gateway = Gateway(load(variables, port=0), driver)
    await gateway.start()
    link = user_channel(gateway)
    try:
        yield Served(gateway, driver, Client(link))
    finally:
        await link.close()
        await gateway.stop()
        if owned:
            await driver.end()


async def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call that must fail (a unary call, or a stream that is read to its end)."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("the call succeeded")
