"""kill -9 of every process in turn: nothing is left running, nothing is left open (attacks.md D-5)."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from pathlib import Path

import pytest

from pyopenshell.drivers.base import DriverError, ExecRequest
from tests.drivers.sandboxes import Box, children, processes

pytestmark = pytest.mark.e2e


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


class House:
    """Every process of a box with one sandbox."""

    def __init__(self, box: Box) -> None:
        (self.host,) = [pid for pid in processes(str(box.state)) if name_of(pid) == "openshell-host"]
        below = children(self.host)
        (self.zygote,) = [pid for pid, name in below.items() if name == "openshell-zygot"]
        (self.watcher,) = [pid for pid, name in below.items() if name == "openshell-watch"]
        self.supervisor = int((box.root() / "supervisor.pid").read_text())
        (self.init,) = [pid for pid, name in children(self.zygote).items() if name == "openshell-init"]
        self.pidfds = {pid: os.pidfd_open(pid) for pid in self.all()}

    def all(self) -> set[int]:
        found, waiting = set(), [self.host]
        while waiting:
            pid = waiting.pop()
            found.add(pid)
            waiting += children(pid)
        return found

    def ended(self, *pids: int) -> bool:
        """Wait for processes to end; False when one did not within 10 s."""
        return all(select.select([self.pidfds[pid]], [], [], 10)[0] for pid in pids)

    def close(self) -> None:
        for fd in self.pidfds.values():
            os.close(fd)


@pytest.mark.parametrize("victim", ["supervisor", "init"])
async def test_a_dead_part_ends_its_sandbox_and_no_other(box: Box, victim: str) -> None:
    await box.create("two")
    await box.create()
    process = await box.driver.exec("one", ExecRequest(["/bin/sleep", "1000"]))
    inits = {pid for pid, name in children(_zygote(box)).items() if name == "openshell-init"}
    supervisor = int((box.root() / "supervisor.pid").read_text())
    init = max(inits)
    sleeping = next(iter(children(init)))
    handles = [os.pidfd_open(pid) for pid in (init, supervisor, sleeping)]
    os.kill(supervisor if victim == "supervisor" else init, signal.SIGKILL)
    for handle in handles:
        assert (await asyncio.to_thread(select.select, [handle], [], [], 10))[0]
        os.close(handle)
    assert await process.wait() == 128 + signal.SIGKILL
    await process.aclose()
    stopped = await box.event("stopped")
    assert (stopped.sandbox_id, stopped.reason) == ("one", "SupervisorDied" if victim == "supervisor" else "InitDied")
    with pytest.raises(DriverError) as caught:
        await box.driver.exec("one", ExecRequest(["/bin/true"]))
    assert caught.value.reason == "NotRunning"
    assert (await box.sh("echo other", box="two")).out == "other\n"
    await box.create(instance_id="i2")
    assert (await box.sh("echo again")).out == "again\n"


def _zygote(box: Box) -> int:
    (host,) = [pid for pid in processes(str(box.state)) if name_of(pid) == "openshell-host"]
    return next(pid for pid, name in children(host).items() if name == "openshell-zygot")


@pytest.mark.parametrize("victim", ["host", "zygote", "watcher"])
async def test_a_dead_host_takes_everything_and_a_new_one_starts(box: Box, victim: str) -> None:
    await box.create()
    await box.sh("echo kept > /sandbox/file; nohup sleep 1000 >/dev/null 2>&1 & ")
    running = await box.driver.exec("one", ExecRequest(["/bin/sleep", "1001"]))
    house = House(box)
    assert len(house.pidfds) >= 7
    os.kill(getattr(house, victim), signal.SIGKILL)
    assert await asyncio.to_thread(house.ended, *house.pidfds)
    house.close()
    assert await running.wait() == 128 + signal.SIGKILL
    await running.aclose()
    stopped = await box.event("stopped")
    assert (stopped.sandbox_id, stopped.reason) == ("one", "HostDied")
    assert str(box.state) not in Path("/proc/self/mountinfo").read_text()
    await box.create(instance_id="i2")
    assert (await box.sh("cat /sandbox/file")).out == "kept\n"


async def test_a_gateway_that_dies_takes_nothing_with_it_but_its_own_commands(box: Box) -> None:
    await box.create()
    process = await box.driver.exec("one", ExecRequest(["/bin/sleep", "1000"]))
    house = House(box)
    sleeping = next(pid for pid, name in children(house.init).items() if name == "sleep")
    box.lose_the_gateway()
    assert await asyncio.to_thread(house.ended, sleeping)
    house.close()
    await process.aclose()
    assert [status.sandbox_id for status in await box.driver.start()] == ["one"]
    assert (await box.sh("echo alive")).out == "alive\n"
