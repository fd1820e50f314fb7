"""Background tasks of the supervisor: kept alive, named, and never failing in silence."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")

_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, Result], *, name: str) -> asyncio.Task[Result]:
    """Start `work` now. The loop keeps only weak references to tasks, so this module keeps the strong one."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_finished)
    return task


class Begun(Generic[Result]):
    """A coroutine that was run up to where it first waits, if it waits at all; await it, once, for the rest.

    For work that usually has its answer at hand, where a task would cost more than the work. Up to that point there
    may be no current task, so such work must not begin with `asyncio.timeout`.
    """

    __slots__ = ("_first", "_work", "done", "result")

    def __init__(self, work: Coroutine[Any, Any, Result]) -> None:
        """Raises what `work` raises before it waits."""
        self._work = work
        self._first: Any = None
        self.result: Result | None = None
        self.done = False
        try:
            self._first = work.send(None)
        except StopIteration as end:
            self.result, self.done = end.value, True

    def __await__(self) -> Generator[Any, Any, Result]:
        waited = self._first
        try:
            while True:
                try:
                    value = yield waited
                except BaseException as error:  # noqa: BLE001 - cancellation too belongs to the work
                    waited = self._work.throw(error)
                else:
                    waited = self._work.send(value)
        except StopIteration as end:
            result: Result = end.value
            return result


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """End tasks and wait until they have ended."""
    living = [task for task in tasks if task and not task.done()]
    for task in living:
        task.cancel()
    await asyncio.gather(*living, return_exceptions=True)


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()):
        print(f"openshell: task {task.get_name()} failed", file=sys.stderr)  # noqa: T201 - nobody else may be left to tell
        traceback.print_exception(error, file=sys.stderr)
