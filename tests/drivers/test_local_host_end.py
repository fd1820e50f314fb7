"""The end of a driver host, in order and by force, and what its successor finds."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyopenshell.drivers.base import ExecRequest
from pyopenshell.drivers.local import orphans
from pyopenshell.isolation import cgroups, init
from tests.drivers.sandboxes import Box, host_gone, processes

pytestmark = pytest.mark.e2e

ON_TERM = "trap 'echo ended > /sandbox/said; exit 0' TERM; echo ready; while :; do sleep 1 & wait; done"


def host_of(box: Box) -> int:
    (host,) = [
        pid for pid in processes(str(box.state)) if Path(f"/proc/{pid}/comm").read_text().strip() == "openshell-host"
    ]
    return host


async def test_asked_to_end_the_host_lets_commands_finish_and_leaves_nothing(box: Box) -> None:
    await box.create()
    process = await box.driver.exec("one", ExecRequest(["/bin/sh", "-c", ON_TERM]))
    async for _ in process.output():
        break  # it is ready
    host = host_of(box)
    os.kill(host, signal.SIGTERM)
    assert await process.wait() == 0
    await process.aclose()
    stopped = await box.event("stopped")
    assert (stopped.sandbox_id, stopped.reason) == ("one", "HostStopped")
    await asyncio.to_thread(host_gone, box.state)
    assert (box.root() / "workspace" / "said").read_text() == "ended\n"
    assert processes(str(box.state)) == []
    assert not (box.state / "host.sock").exists()


async def test_while_a_host_leaves_the_next_creation_waits_for_its_successor(box: Box) -> None:
    await box.create()
    await box.create("two")
    first = host_of(box)
    os.kill(first, signal.SIGTERM)
    await box.create(instance_id="i2")
    assert (await box.sh("echo again")).out == "again\n"
    assert host_of(box) != first


@pytest.mark.parametrize("kind", ["init", "helper"])
async def test_what_a_killed_host_left_running_is_ended_before_anything_is_made(box: Box, kind: str) -> None:
    """The kernel leaves nothing; so a stand-in with the command line that such a process would have."""
    wait = "import time; print('up', flush=True); time.sleep(1000)"
    if kind == "init":
        # Python keeps its arguments where /proc shows them, and an init is found by its first one.
        argv = [init.command_line(cgroups.owner_name(str(box.state))), "-c", wait]
    else:
        argv = ["python3", "-c", wait, "pyopenshell.drivers.local.host", "--state", str(box.state)]
    with subprocess.Popen(argv, executable=sys.executable, stdout=subprocess.PIPE) as stray:
        try:
            assert stray.stdout is not None
            assert stray.stdout.readline() == b"up\n"
            await box.create()
            assert stray.wait(60) == -signal.SIGKILL
        finally:
            stray.kill()
    assert (await box.sh("echo ok")).out == "ok\n"


async def test_processes_of_another_state_directory_are_left_alone(box: Box, tmp_path: Path) -> None:
    await box.create()
    assert orphans.end(str(tmp_path)) == []
    assert (await box.sh("echo alive")).out == "alive\n"


async def test_what_does_not_end_stops_the_host_from_starting(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen init (a debugger, a hanging file system) must not get a second one beside it."""
    await box.create()
    found = orphans.end.__globals__
    monkeypatch.setattr(found["syscalls"], "pidfd_kill", lambda *_: None)
    inits = list(orphans._found(str(box.state)))
    assert orphans.end(str(box.state), 0.1) == sorted(inits)
    assert inits
