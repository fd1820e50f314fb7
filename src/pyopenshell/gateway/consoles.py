"""Consoles: one command per sandbox on a terminal that goes on when whoever looks at it leaves.

Keeps what it printed last, so that who comes back sees where it is. Bytes are passed on, never looked at. A console
lives in this gateway: when that ends, the command gets SIGHUP as from a closed terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from pyopenshell.drivers.base import DriverError, Process
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.tasks import Tasks

KEPT: Final = 64 * 1024
"""Bytes of output that are shown to who attaches."""
_PIECES: Final = 64
"""Of at most 64 KiB, waiting for one reader."""
_PATIENCE: Final = 10.0
"""Seconds for which a reader that does not read holds the console up; then it is let go, and may attach again."""

Starter = Callable[[], Awaitable[Process]]


class Reader:
    """One attached reader. `cut` when it was too slow."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES)
        self.cut = asyncio.Event()


class Console:
    """A running command and who looks at it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.size = (0, 0)
        self.exit_code: int | None = None
        self._recent = bytearray()
        self._lost = False
        self._readers: set[Reader] = set()

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)
        self.process.resize(columns, rows)

    def redraw(self, columns: int, rows: int) -> None:
        """Give it this size, and a change of size in any case: programs that fill the screen then paint it anew."""
        if self.size == (columns, rows):
            self.process.resize(columns, rows - 1 if rows > 1 else rows + 1)
        self.resize(columns, rows)

    @property
    def recent(self) -> bytes:
        """What it printed last; from the beginning of a line where something is missing before it."""
        if not self._lost:
            return bytes(self._recent)
        return bytes(self._recent[self._recent.find(b"\n") + 1 :])

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        reader = Reader()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    async def run(self) -> None:
        """Carry output to whoever reads, until the command ended."""
        try:
            async for _, data in self.process.output():
                self._recent += data
                if len(self._recent) > KEPT:
                    del self._recent[: len(self._recent) - KEPT]
                    self._lost = True
                await self._hand_out(data)
            self.exit_code = await self.process.wait()
        except DriverError:
            self.exit_code = 255
        finally:
            if self.exit_code is None:
                self.exit_code = 255
            await self._hand_out(None)
            await self.process.aclose()

    async def _hand_out(self, piece: bytes | None) -> None:
        for reader in list(self._readers):
            try:
                reader.pieces.put_nowait(piece)
            except asyncio.QueueFull:
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await reader.pieces.put(piece)
                except TimeoutError:
                    self._readers.discard(reader)
                    reader.cut.set()


class Consoles:
    """All consoles of a gateway, one per sandbox."""

    def __init__(self) -> None:
        self._running: dict[str, Console] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._tasks = Tasks()

    async def attach(self, sandbox_id: str, start: Starter) -> tuple[Console, bool]:
        """The console of a sandbox, and whether it ran already; `start` makes its command where none runs."""
        lock = self._locks.get(sandbox_id)
        if lock is None:
            lock = self._locks[sandbox_id] = asyncio.Lock()
        async with lock:  # two who come at once get one console
            console = self._running.get(sandbox_id)
            if console is not None and console.exit_code is None:
                return console, True
            console = self._running[sandbox_id] = Console(await start())
            self._tasks.spawn(self._carry(sandbox_id, console), f"console of {sandbox_id}")
            return console, False

    async def _carry(self, sandbox_id: str, console: Console) -> None:
        try:
            await console.run()
        finally:
            if self._running.get(sandbox_id) is console:
                del self._running[sandbox_id]

    async def close(self) -> None:
        await self._tasks.close()


def too_slow() -> GatewayError:
    return GatewayError("RESOURCE_EXHAUSTED", "the console's output was not read; attach again", "READER_TOO_SLOW")
