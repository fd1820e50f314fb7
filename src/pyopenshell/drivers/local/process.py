"""A command in a local sandbox, seen from the gateway: its pipes or terminal are here, no byte passes the host.

Implements `drivers.base.Process`. Back-pressure is the pipe's own: nothing is read before somebody asks.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator, Callable
from typing import Any

_CHUNK = 65536
LINGER_SECONDS = 0.25
"""How long a silent pipe is still listened to after the command itself ended: a process it left in the background may
hold the other end for ever, and whoever ran the command must not wait for that."""
LINGER_BYTES = 2 << 20
"""And how much may still come then: twice the largest pipe, so that nothing the command itself wrote is lost."""


class _Reader:
    """One readable descriptor; at most one `read` at a time."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd: int | None = fd

    async def read(self) -> bytes:
        """Next data, b"" at the end. A terminal reports its end as EIO."""
        loop = asyncio.get_running_loop()
        while self._fd is not None:
            try:
                return os.read(self._fd, _CHUNK)
            except BlockingIOError:
                await _ready(loop.add_reader, loop.remove_reader, self._fd)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return b""
        return b""

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


async def _ready(add: Callable[..., object], remove: Callable[[int], object], fd: int) -> None:
    waiting = asyncio.get_running_loop().create_future()

    def ready() -> None:
        if not waiting.done():
            waiting.set_result(None)

    add(fd, ready)
    try:
        await waiting
    finally:
        remove(fd)


class LocalProcess:
    """Made by `LocalDriver.exec`. `send_signal(number)` reaches the command's process group."""

    def __init__(self, name: str, send_signal: Callable[[int], None]) -> None:
        self.name = name
        self.pid = 0
        """In the sandbox's PID namespace."""
        self._send_signal = send_signal
        self._streams: list[tuple[str, _Reader]] = []
        self._stdin: int | None = None
        self._terminal: int | None = None
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def attach_pipes(self, stdin: int, stdout: int, stderr: int) -> None:
        """Take over our ends of the command's pipes."""
        os.set_blocking(stdin, False)
        self._stdin = stdin
        self._streams = [("stdout", _Reader(stdout)), ("stderr", _Reader(stderr))]

    def attach_terminal(self, master: int) -> None:
        os.set_blocking(master, False)
        self._stdin = os.dup(master)
        self._terminal = os.dup(master)
        self._streams = [("stdout", _Reader(master))]

    def exited(self, code: int) -> None:
        """The host reports the end. Later reports are ignored."""
        if not self._exit.done():
            self._exit.set_result(code)

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """See `drivers.base.Process.output`. One consumer.

        Ends when both pipes ended, or shortly after the command did (LINGER_SECONDS).
        """
        late = 0
        pending: dict[asyncio.Task[bytes], tuple[str, _Reader]] = {}
        order: collections.deque[tuple[str, _Reader]] = collections.deque(self._streams)
        try:
            while order or pending:
                while order:
                    stream = order.popleft()
                    pending[asyncio.ensure_future(stream[1].read())] = stream
                over = self._exit.done()
                waited: set[asyncio.Future[Any]] = {*pending} if over else {*pending, self._exit}
                timeout = LINGER_SECONDS if over else None
                done, _ = await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if over and (not done or late > LINGER_BYTES):
                    return
                for task in [one for one in pending if one in done]:
                    stream = pending.pop(task)
                    data = task.result()
                    if data:
                        late += len(data) if over else 0
                        yield stream[0], data
                        order.append(stream)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        """Feed stdin; waits for room. Data for a stdin that is closed on either side is dropped."""
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        while view and self._stdin is not None:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await _ready(loop.add_writer, loop.remove_writer, self._stdin)
            except OSError:  # EPIPE, or EIO of a terminal whose other side is gone
                self.close_stdin()

    def close_stdin(self) -> None:
        """End of file for the command. On a terminal, where that is a character, ^D."""
        if self._stdin is None:
            return
        if self._terminal is not None:
            with contextlib.suppress(OSError):
                os.write(self._stdin, b"\x04")
        os.close(self._stdin)
        self._stdin = None

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal is not None and 0 < columns < 65536 and 0 < rows < 65536:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        """To the command's process group. Raises ValueError for a number that is no signal."""
        signal.Signals(number)
        if not self._exit.done():
            self._send_signal(number)

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def aclose(self) -> None:
        if not self._exit.done():
            self._send_signal(signal.SIGKILL)
            await asyncio.shield(self._exit)
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None
        for _, reader in self._streams:
            reader.close()
