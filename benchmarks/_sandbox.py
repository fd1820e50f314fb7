"""Shared by the isolation benchmarks: a driver on a throw-away state directory, and percentiles."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.drivers.sandboxes import Box, repository

FAKE = "tests.drivers.fake_supervisor:main"
REAL = "pyopenshell.supervisor.process:main"


@contextlib.asynccontextmanager
async def running_box(supervisor: str = FAKE) -> AsyncIterator[Box]:
    os.environ["PYTHONPATH"] = os.pathsep.join([repository(), f"{repository()}/src", os.environ.get("PYTHONPATH", "")])
    state = Path(tempfile.mkdtemp(prefix="os-bench-"))
    box = Box(state, supervisor)
    try:
        await box.driver.start()
        yield box
    finally:
        await box.close()
        shutil.rmtree(state, ignore_errors=True)


def summary(values: Sequence[float], unit: str) -> str:
    ordered = sorted(values)

    def at(part: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))]

    return f"p50 {at(0.5):.1f} {unit}, p95 {at(0.95):.1f} {unit}, min {ordered[0]:.1f} {unit} (n={len(ordered)})"
