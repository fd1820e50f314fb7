"""Background tasks of the supervisor: kept alive, named, and never failing in silence."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, Result], *, name: str) -> asyncio.Task[Result]:
    """Start `work` now. The loop keeps only weak references to tasks, so this module keeps the strong one."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_finished)
    return task


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
