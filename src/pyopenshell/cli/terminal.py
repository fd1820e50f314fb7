"""The person's side of a running command: bytes out as they come, standard input and window sizes in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Iterator

from pyopenshell.client.gateway import Gateway
from pyopenshell.client.values import Exit, Output

_CHUNK = 65536


def is_terminal() -> bool:
    """True where a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def has_input() -> bool:
    """True where standard input carries something for the command: a pipe, socket or file, not /dev/null."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)


def size() -> tuple[int, int]:
    """Columns and rows of the window."""
    found = shutil.get_terminal_size()
    return found.columns, found.lines


async def run(
    gateway: Gateway,
    sandbox: str,
    command: tuple[str, ...],
    *,
    workdir: str = "",
    environment: dict[str, str] | None = None,
    timeout: float = 0.0,
    terminal: bool,
) -> int:
    """Run a command in the sandbox, streaming; returns its exit code."""
    with _raw_mode() if terminal else contextlib.nullcontext():
        stdin = _inputs(resizes=terminal) if terminal or has_input() else None
        events = gateway.exec(
            sandbox,
            command,
            workdir=workdir,
            environment=environment,
            timeout=timeout,
            stdin=stdin,
            size=size() if terminal else None,
        )
        code = 1
        async for event in events:
            if isinstance(event, Exit):
                code = event.code
            else:
                _write(event)
        return code


def _write(output: Output) -> None:
    stream = (sys.stderr if output.stream == "stderr" else sys.stdout).buffer
    stream.write(output.data)
    stream.flush()


@contextlib.contextmanager
def _raw_mode() -> Iterator[None]:
    """Keys go to the command one by one; the terminal is what it was afterwards, whatever happens."""
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    try:
        tty.setraw(file)
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


async def _inputs(*, resizes: bool) -> AsyncIterator[bytes | tuple[int, int]]:
    """Pieces of standard input, and new window sizes; ends when standard input does.

    A thread of its own reads, because a file or a terminal cannot be awaited everywhere. It is a daemon: a command
    that ends first must not wait for a person to press a key.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | tuple[int, int]] = asyncio.Queue()
    room = threading.Semaphore(16)

    def read() -> None:
        file = sys.stdin.fileno()
        while True:
            room.acquire()
            try:
                piece = os.read(file, _CHUNK)
            except OSError:
                piece = b""
            try:
                loop.call_soon_threadsafe(queue.put_nowait, piece)
            except RuntimeError:  # the command ended and took the loop with it
                return
            if not piece:
                return

    if resizes:
        loop.add_signal_handler(signal.SIGWINCH, lambda: queue.put_nowait(size()))
    threading.Thread(target=read, name="stdin", daemon=True).start()
    try:
        while item := await queue.get():
            yield item
            if isinstance(item, bytes):
                room.release()
    finally:
        if resizes:
            loop.remove_signal_handler(signal.SIGWINCH)
