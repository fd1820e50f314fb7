"""Several drivers as one: each workload goes to the driver it names, and all that is said of it comes from there.

Decides nothing about sandboxes. A driver beside the first that cannot start is no reason for the others not to: whoever
asks it for something hears why.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping, Sequence

from pyopenshell.drivers.base import (
    Capabilities,
    Driver,
    DriverError,
    ExecRequest,
    Process,
    Workload,
    WorkloadStatus,
)

_log = logging.getLogger(__name__)


class Several:
    """Implements `drivers.base.Driver` over `members`, by name; the first is the default."""

    def __init__(self, members: Sequence[Driver]) -> None:
        self._members = {one.name: one for one in members}
        self._first = members[0]
        self._homes: dict[str, Driver] = {}
        """Which driver a sandbox is known to be at."""
        self._started: set[str] = set()
        self._starting = asyncio.Lock()
        self._events: asyncio.Queue[WorkloadStatus | None] = asyncio.Queue()
        self._listeners: dict[str, asyncio.Task[None]] = {}

    @property
    def name(self) -> str:
        return self._first.name

    @property
    def version(self) -> str:
        return self._first.version

    @property
    def capabilities(self) -> Mapping[str, Capabilities]:
        return {name: found for one in self._members.values() for name, found in one.capabilities.items()}

    async def start(self) -> Sequence[WorkloadStatus]:
        """Raises DriverError when the first cannot start."""
        running: list[WorkloadStatus] = []
        for one in self._members.values():
            try:
                running += await self._start(one)
            except DriverError as error:
                if one is self._first:
                    raise
                _log.warning("driver %s cannot start: %s %s", one.name, error.message, error.fix)
        return running

    async def create(self, workload: Workload) -> WorkloadStatus:
        name = workload.driver or "local"
        driver = self._members.get(name)
        if driver is None:
            text = f"this gateway has no driver {name!r} any more; it has: {', '.join(self._members)}"
            raise DriverError("UnknownDriver", text, "name it in compute_drivers of gateway.toml")
        for status in await self._start(driver):
            self._events.put_nowait(status)
        self._homes[workload.sandbox_id] = driver
        return await driver.create(workload)

    async def stop(self, sandbox_id: str) -> None:
        for one in self._where(sandbox_id):
            await one.stop(sandbox_id)

    async def delete(self, sandbox_id: str) -> None:
        for one in self._where(sandbox_id):
            await one.delete(sandbox_id)
        self._homes.pop(sandbox_id, None)

    async def exec(self, sandbox_id: str, request: ExecRequest) -> Process:
        return await self._homes.get(sandbox_id, self._first).exec(sandbox_id, request)

    async def dial(self, sandbox_id: str, port: int) -> socket.socket:
        return await self._homes.get(sandbox_id, self._first).dial(sandbox_id, port)

    async def events(self) -> AsyncIterator[WorkloadStatus]:
        while (status := await self._events.get()) is not None:
            yield status

    async def close(self) -> None:
        for task in self._listeners.values():
            task.cancel()
        await asyncio.gather(*self._listeners.values(), return_exceptions=True)
        for one in self._members.values():
            await one.close()
        self._events.put_nowait(None)

    def _where(self, sandbox_id: str) -> Sequence[Driver]:
        """Where it is; where nobody knows, everywhere: ending what is not there is no error."""
        home = self._homes.get(sandbox_id)
        return [home] if home is not None else list(self._members.values())

    async def _start(self, driver: Driver) -> Sequence[WorkloadStatus]:
        async with self._starting:
            if driver.name in self._started:
                return ()
            running = await driver.start()
            self._started.add(driver.name)
            self._homes |= {status.sandbox_id: driver for status in running}
            self._listeners[driver.name] = asyncio.create_task(self._listen(driver))
            return running

    async def _listen(self, driver: Driver) -> None:
        async for status in driver.events():
            self._homes[status.sandbox_id] = driver
            self._events.put_nowait(status)
