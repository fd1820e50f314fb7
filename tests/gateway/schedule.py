"""A deterministic asyncio: which of the tasks that can run goes next is decided by a seed, and by nothing else.

So a race is found by trying seeds, and found again by its seed. The store works in line: each transaction is one step,
with a place before and after it where anything else may happen, and a crash at any step leaves what was committed.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from pyopenshell.gateway.store import Store
from tests.gateway.core import Core

T = TypeVar("T")


class Crash(BaseException):
    """The process is gone: nothing catches it, nothing runs after it."""


class SeededLoop(asyncio.SelectorEventLoop):
    """Runs one ready callback at a time, chosen by the seed; after `steps` of them the process "crashes"."""

    def __init__(self, seed: int, steps: int | None = None) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.left = steps

    def _run_once(self) -> None:
        ready: collections.deque[Any] = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            chosen = self.dice.randrange(len(ready))
            ready.rotate(-chosen)
            first, waiting = ready.popleft(), list(ready)
            ready.clear()
            ready.append(first)
            super()._run_once()  # type: ignore[misc]
            ready.extend(waiting)
        else:
            super()._run_once()  # type: ignore[misc]
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Crash


class _AtOnce:
    """Stands in for the loop where the store hands over what was committed: in commit order, before `run` returns."""

    @staticmethod
    def call_soon_threadsafe(callback: Callable[[], None]) -> None:
        callback()


class _InLine(concurrent.futures.Executor):
    """Stands in for the store's thread: what is handed in is done before `submit` returns."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        done.set_result(fn(*args, **kwargs))
        return done


class SteppedStore(Store):
    """A real SQLite file, one transaction per step. `statements` left before a crash in the middle of one."""

    statements: int | None = None
    dead = False

    async def open(self) -> None:
        self._thread = _InLine()  # type: ignore[assignment]
        await super().open()
        self._loop = _AtOnce()  # type: ignore[assignment]
        with self._engine.connect() as connection:
            # The process crashes here, never the machine: no need to wait for the disk.
            connection.connection.cursor().execute("PRAGMA synchronous=OFF")

        @sa.event.listens_for(self._engine, "before_cursor_execute")
        def _(*_: Any) -> None:
            if self.statements is not None:
                self.statements -= 1
                if self.statements <= 0:
                    loop: Any = asyncio.get_running_loop()
                    loop.left = 1  # nothing runs after this step, so nobody learns that the transaction failed
                    raise Crash

    async def run(self, fn: Callable[[sa.Connection], T]) -> T:
        await asyncio.sleep(0)
        if self.dead:
            raise asyncio.CancelledError
        return await super().run(fn)

    def _on_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


def play(
    seed: int, path: Path, story: Callable[[Core, random.Random], Coroutine[Any, Any, T]], *,
    steps: int | None = None, statements: int | None = None,
) -> T | None:  # fmt: skip
    """Run `story` over the database at `path`. None when it crashed, at the step or statement that was asked for."""
    loop = SeededLoop(seed)
    core = Core(path, store=SteppedStore)

    async def whole() -> T:
        await core.store.open()
        loop.left, core.store.statements = steps, statements  # type: ignore[attr-defined]
        return await story(core, random.Random(seed))

    task = loop.create_task(whole())
    try:
        return loop.run_until_complete(task)
    except Crash:
        return None
    finally:
        loop.left = core.store.statements = None  # type: ignore[attr-defined]
        _abandon(loop, core)


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _abandon(loop: SeededLoop, core: Core) -> None:
    """What the kernel does for a process that is gone: nothing of it reaches the file any more; only its memory is left
    to be tidied up.
    """
    core.store.dead = True  # type: ignore[attr-defined]
    loop.set_exception_handler(lambda *_: None)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(_ended(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    core.store._engine.dispose()
    loop.close()
