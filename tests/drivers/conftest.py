"""Sandboxes for tests: the driver that --driver names on a state directory of its own, with the fake supervisor."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.drivers.sandboxes import Box, repository
from tests.podman.service import Service

FAKE = "tests.drivers.fake_supervisor:main"


@pytest.fixture
def state() -> Iterator[Path]:
    """Not pytest's own: its parents may be closed to the sandbox's id, and that must not matter either."""
    path = Path(tempfile.mkdtemp(prefix="os-state-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest_asyncio.fixture
async def box(state: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[Box]:
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([repository(), f"{repository()}/src", os.environ.get("PYTHONPATH", "")])
    )
    engine: Service | None = None
    if request.config.getoption("--driver") == "podman":
        engine = request.getfixturevalue("podman")
    box = Box(state, FAKE, engine)
    try:
        yield box
    finally:
        await box.close()
