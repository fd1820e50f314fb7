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

from pyopenshell.client import GatewayError
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
    """Columns and rows of the window. Its own word counts before COLUMNS and LINES, which shells leave stale."""
    for stream in (sys.stdout, sys.stdin):
        with contextlib.suppress(OSError, ValueError):
            found = os.get_terminal_size(stream.fileno())
            if found.columns and found.lines:
                return found.columns, found.lines
    guess = shutil.get_terminal_size()
    return guess.columns, guess.lines


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


class Detacher:
    """Finds the detach keys, Ctrl-P Ctrl-Q, in what is typed. A Ctrl-P waits for the next key. Pure."""

    KEYS = b"\x10\x11"

    def __init__(self) -> None:
        self._held = b""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """(what the command gets, whether the person leaves now). What follows the keys is dropped."""
        data = self._held + typed
        before, keys, _ = data.partition(self.KEYS)
        if keys:
            return before, True
        self._held = data[-1:] if data.endswith(self.KEYS[:1]) else b""
        return data.removesuffix(self._held), False


async def attach(
    gateway: Gateway, sandbox: str, command: tuple[str, ...], *, environment: dict[str, str] | None = None
) -> int | None:
    """The sandbox's console on this terminal; its exit code, or None when the person left it running."""
    left = asyncio.Event()
    detacher = Detacher()

    async def typed() -> AsyncIterator[bytes | tuple[int, int]]:
        async for item in _inputs(resizes=True):
            if isinstance(item, bytes):
                keys, leaving = detacher.feed(item)
                if keys:
                    yield keys
                if leaving:
                    left.set()
                    return
            else:
                yield item

    async def shown() -> int:
        events = gateway.console(sandbox, command, size=size(), stdin=typed(), environment=environment)
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Output):
                    _write(event)
                elif isinstance(event, Exit):
                    return event.code
        raise GatewayError("UNAVAILABLE", "the gateway ended the console's stream; connect again")

    with _raw_mode():
        showing = asyncio.create_task(shown(), name="console")
        leaving = asyncio.create_task(left.wait(), name="detach keys")
        try:
            await asyncio.wait({showing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return showing.result() if showing.done() else None
        finally:
            showing.cancel()
            leaving.cancel()
            await asyncio.gather(showing, leaving, return_exceptions=True)


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
