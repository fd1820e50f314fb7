"""What tests do with sandboxes: create with short defaults, run a command to its end, look from the host."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyopenshell.drivers.base import ExecRequest, GatewayAccess, Workload, WorkloadStatus
from pyopenshell.drivers.local.driver import LocalDriver
from pyopenshell.drivers.podman.driver import PodmanDriver
from tests.podman.service import Service

ACCESS = GatewayAccess("127.0.0.1:1", "secret-token", "ca", "cert", "secret-key")


def repository() -> str:
    return str(Path(__file__).resolve().parents[2])


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Box:
    """One driver and its sandboxes: local ones, or containers of `engine`."""

    def __init__(self, state: Path, supervisor: str, engine: Service | None = None) -> None:
        self.state, self.supervisor, self.engine = state, supervisor, engine
        self._made: list[LocalDriver | PodmanDriver] = []
        self.driver = self.another()
        self.ids: list[str] = []
        self.status = WorkloadStatus("", "", "gone")
        """Of the sandbox created last."""

    def another(self, supervisor: str = "") -> LocalDriver | PodmanDriver:
        """One more driver on the same state directory, as after a gateway's restart."""
        made: LocalDriver | PodmanDriver
        if self.engine is not None:
            made = PodmanDriver(self.state, self.engine.socket, supervisor=supervisor or self.supervisor)
        else:
            made = LocalDriver(self.state, supervisor=supervisor or self.supervisor)
        self._made.append(made)
        return made

    async def create(self, sandbox_id: str = "one", **values: Any) -> str:
        workload = Workload(
            sandbox_id=sandbox_id,
            name=values.pop("name", "test"),
            workspace="default",
            instance_id=values.pop("instance_id", "i1"),
            config=values.pop("config", b""),
            access=ACCESS,
            image=values.pop("image", "" if self.engine is None else self.engine.debian),
            **values,
        )
        self.ids.append(sandbox_id)
        self.status = await self.driver.create(workload)
        return sandbox_id

    async def run(self, *argv: str, box: str = "one", stdin: bytes = b"", **values: Any) -> Ran:
        process = await self.driver.exec(box, ExecRequest(argv, **values))
        try:
            if stdin:
                await process.write(stdin)
            process.close_stdin()
            parts: dict[str, bytes] = {"stdout": b"", "stderr": b""}
            async for name, data in process.output():
                parts[name] += data
            code = await process.wait()
        finally:
            await process.aclose()
        return Ran(code, parts["stdout"].decode(errors="replace"), parts["stderr"].decode(errors="replace"))

    async def sh(self, script: str, **values: Any) -> Ran:
        return await self.run("/bin/sh", "-c", script, **values)

    async def python(self, script: str, *argv: str, **values: Any) -> Ran:
        return await self.run("/usr/bin/python3", "-c", script, *argv, **values)

    async def ask(self, *argv: str, box: str = "one") -> dict[str, Any]:
        """The fake supervisor's answer to a request made with curl."""
        ran = await self.run(*(argv or ("/usr/bin/curl", "-s", "http://example.com/")), box=box)
        assert ran.code == 0, ran
        answer: dict[str, Any] = json.loads(ran.out)
        return answer

    def lose_the_gateway(self) -> None:
        """What the kernel does to the socket of a gateway that is killed."""
        local = self.driver if isinstance(self.driver, LocalDriver) else self.driver._host
        local._hang_up()

    async def next_event(self) -> WorkloadStatus:
        async for status in self.driver.events():
            return status
        raise AssertionError("no more events")

    async def event(self, phase: str) -> WorkloadStatus:
        while (status := await self.next_event()).phase != phase:
            pass
        return status

    def root(self, sandbox_id: str = "one") -> Path:
        return self.state / "sandboxes" / sandbox_id

    async def close(self) -> None:
        for sandbox_id in self.ids:
            await self.driver.delete(sandbox_id)
        for driver in self._made:  # a driver that a failed test left would keep the host
            await driver.close()
        await asyncio.to_thread(host_gone, self.state)


def host_gone(state: Path) -> None:
    """Wait until the driver host let go of its lock: it does so only by ending."""
    import fcntl
    import os

    fd = os.open(state / "host.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


def processes(marker: str) -> Sequence[int]:
    """Host pids of processes whose command line contains `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if marker in line:
                found.append(int(entry.name))
    return found


def children(pid: int) -> Mapping[int, str]:
    """pid -> name of the direct children of a process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text()
            except OSError:
                continue
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if int(fields["PPid"]) == pid:
                found[int(entry.name)] = fields["Name"]
    return found
