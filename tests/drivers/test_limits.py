"""Limits and assurance of real sandboxes: bombs hurt nobody else, what is weaker is said or refused, groups go away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyopenshell.isolation import cgroups
from tests.drivers.sandboxes import Box, host_gone, processes, repository

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

FORKS = """\
import os, signal
made = 0
try:
    while made < 3000:
        if os.fork() == 0:
            signal.pause()
        made += 1
except OSError:
    pass
print(made, flush=True)
os.kill(0, signal.SIGKILL)
"""
MEMORY = """\
held = []
try:
    for _ in range(64):
        held.append(bytearray(16 << 20))
except MemoryError:
    raise SystemExit(137)
"""


def groups(state: Path) -> list[Path]:
    prefix = cgroups.group_name(str(state), "")
    return [path for path in Path("/sys/fs/cgroup").rglob(f"{prefix}*") if path.is_dir()]


async def test_bombs_stop_at_their_limits_and_hurt_nobody_else(box: Box) -> None:
    await box.create("other")
    await box.create("bomb", memory=128 << 20, cpu=0.5, pids=48)
    limits = dict(box.status.limits)
    assert limits.keys() == {"memory", "cpu", "pids"}
    if os.geteuid() == 0:
        assert all(how.startswith("cgroup v") for how in limits.values()), limits
        assert groups(box.state) or box.engine is not None, "Podman's groups have names of its own"
    forks = await box.python(FORKS, box="bomb")
    assert 8 < int(forks.out) < 48, forks
    memory = await box.python(MEMORY, box="bomb")
    assert memory.code == 137, memory
    for name in ("bomb", "other"):
        assert (await box.run("/bin/echo", "alive", box=name)).out == "alive\n"
    assert box.status.assurance == "full", "a limit that does not hold for all together weakens no wall"
    await box.driver.delete("bomb")
    assert groups(box.state) == []


async def test_no_limit_makes_no_group(box: Box) -> None:
    await box.create("plain")
    assert dict(box.status.limits) == {}
    assert groups(box.state) == []


@pytest.mark.local
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no control groups here")
async def test_groups_of_a_host_that_was_killed_are_swept(box: Box) -> None:
    await box.create("one", pids=64)
    (left,) = groups(box.state)
    ours = processes(str(box.state))
    (pid,) = [one for one in ours if Path(f"/proc/{one}/comm").read_text() == "openshell-host\n"]
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(host_gone, box.state)
    assert left.exists(), "this test needs something to sweep"
    await box.next_event()
    # Its processes end with it; a group is gone when the kernel has let go of the last one.
    while (left / "cgroup.procs").exists() and (left / "cgroup.procs").read_text():
        await asyncio.sleep(0.01)
    await box.driver.start()
    assert groups(box.state) == []


@pytest.mark.local
def test_groups_of_others_are_never_swept(tmp_path: Path) -> None:
    assert cgroups.group_name(str(tmp_path / "a"), "x") != cgroups.group_name(str(tmp_path / "b"), "x")
    assert cgroups.sweep(str(tmp_path / "a")) == []
    assert cgroups.standing(cgroups.Limits(memory=1, cpu=1, pids=1), {}) == {
        "memory": "rlimit, for each process alone",
        "cpu": "not held",
        "pids": "rlimit",
    }


@pytest.mark.local
@pytest.mark.skipif(os.geteuid() != 0, reason="makes /opt impossible to overlay, in a mount namespace of its own")
def test_what_is_weaker_is_said_and_can_be_refused(state: Path) -> None:
    crowd = "mount -t tmpfs crowd /opt && mkdir $(seq -f /opt/%g 600) && mount -t tmpfs below /opt/7"
    command = ["unshare", "-m", "sh", "-c", crowd + '; exec "$@"', "sh", sys.executable]
    done = subprocess.run(
        [*command, "-m", "tests.drivers.weak_walls", str(state)],
        env=os.environ | {"PYTHONPATH": f"{repository()}:{repository()}/src"},
        cwd=repository(), capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for require in ("full", "network"):
        reason, message, fix, left = found[require]
        assert reason == "AssuranceTooLow"
        assert f"--require {require}" in message
        assert "`files`" in message
        assert "/opt is a plain bind mount" in message
        assert "openshell doctor" in fix
        assert not left, "nothing is half made"
    reason, message, fix, left = found[""]
    assert (reason, left) == ("WeakerNotAccepted", False)
    assert "--accept-weaker" in fix
    for require in ("files", "accept"):
        level, losses, tier = found[require]
        assert (level, tier) == ("files", "A")
        assert ["/opt" in loss for loss in losses] == [True]
