"""A gateway as a process of its own, whose workloads live elsewhere: `python -m tests.gateway.replica DIRECTORY`.

Prints one line of JSON when it answers, and one for each workload that it is told to run; whoever reads them plays
the supervisor. What runs is remembered in a file, as a driver host would remember it. Runs until killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc.aio

from pyopenshell.drivers.base import GatewayAccess, Workload, WorkloadStatus
from pyopenshell.gateway.app import Gateway
from pyopenshell.gateway.configuration import load

from .serving import Client, FakeDriver, FakeSupervisor, channel, environ

ROOT = Path(__file__).parents[2]


class ElsewhereDriver(FakeDriver):
    """Tells what should run, and remembers it."""

    def __init__(self, memory: Path) -> None:
        super().__init__(connect=False)
        self._memory = memory
        self._known: dict[str, str] = json.loads(memory.read_text()) if memory.exists() else {}

    async def start(self) -> Sequence[WorkloadStatus]:
        return [WorkloadStatus(sandbox_id, instance, "running") for sandbox_id, instance in self._known.items()]

    async def create(self, workload: Workload) -> WorkloadStatus:
        self._known[workload.sandbox_id] = workload.instance_id
        self._save()
        told = {"sandbox_id": workload.sandbox_id, "instance_id": workload.instance_id}
        print(json.dumps(told | {"access": dataclasses.asdict(workload.access)}), flush=True)
        return WorkloadStatus(workload.sandbox_id, workload.instance_id, "running")

    async def stop(self, sandbox_id: str) -> None:
        self._known.pop(sandbox_id, None)
        self._save()

    delete = stop

    def _save(self) -> None:
        self._memory.write_text(json.dumps(self._known))


async def serve(directory: Path) -> None:
    memory = directory / "running.json"
    directory.mkdir(parents=True, exist_ok=True)
    gateway = Gateway(load(os.environ, port=0), ElsewhereDriver(memory))
    await gateway.start()
    print(json.dumps({"port": gateway.port}), flush=True)
    await asyncio.Event().wait()


class Replica:
    """Such a process, seen from a test."""

    def __init__(self, directory: Path, variables: Mapping[str, str], toml: str = "") -> None:
        self.directory = directory
        self._environment = environ(directory) | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            **variables,
        }
        if toml:
            config = directory / "config" / "openshell" / "gateway.toml"
            config.parent.mkdir(parents=True, exist_ok=True)
            config.write_text(toml)
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0
        self.tls = Path(variables.get("OPENSHELL_LOCAL_TLS_DIR") or directory / "state" / "openshell" / "tls")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.gateway.replica", str(self.directory),
            stdout=subprocess.PIPE, cwd=ROOT, env=self._environment, limit=1 << 20,
        )  # fmt: skip
        self.port = (await self._line())["port"]

    async def workload(self) -> Workload:
        """The next one that the gateway wants to run."""
        told = await self._line()
        return Workload(
            sandbox_id=told["sandbox_id"], name="", workspace="default", instance_id=told["instance_id"],
            config=b"", access=GatewayAccess(**told["access"]), command=(), tty=False, environment={}, labels={},
        )  # fmt: skip

    async def kill(self) -> None:
        """SIGKILL, at once. Idempotent."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._process = None

    def client(self, port: int = 0) -> Client:
        """An administrator's; `port` is that of something in between."""
        authority = (self.tls / "ca.crt").read_bytes()
        pair = [(self.tls / "client" / name).read_bytes() for name in ("tls.crt", "tls.key")]
        return Client(channel(f"127.0.0.1:{port or self.port}", authority, *pair))

    async def _line(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 120)
        if not line:
            raise RuntimeError(f"the gateway in {self.directory} ended")
        found: dict[str, Any] = json.loads(line)
        return found


class Supervisor(FakeSupervisor):
    """Comes back whenever its stream ends, and hears of its proposals."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.versions: asyncio.Queue[int] = asyncio.Queue()
        self.connections = 0

    async def _run(self) -> None:
        while True:
            self.connections += 1
            await super()._run()
            await asyncio.sleep(0.02)

    async def _answer(self, update: Any) -> None:
        self.versions.put_nowait(update.sandbox_config.version)
        await super()._answer(update)

    async def until(self, version: int) -> None:
        """Returns once a policy at least this new was sent to the sandbox."""
        async with asyncio.timeout(120):
            while await self.versions.get() < version:
                pass


class Balancer:
    """One address before several gateways: every new connection goes to the first of `ports` that answers."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Balancer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for port in self.ports:
                try:
                    there, back = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionError:
                    continue
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
                return
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def retried(call: Any, *, until: float = 120) -> Any:
    """The answer of `call()`, asked again while nobody answers at the other end."""
    async with asyncio.timeout(until):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
