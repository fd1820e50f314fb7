"""The life of a local sandbox: create, stop, start again, delete, re-attach, refuse."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pyopenshell.drivers.base import DriverError
from pyopenshell.wire.gen import sandbox_pb2
from tests.drivers.conftest import FAKE
from tests.drivers.sandboxes import Box, processes

pytestmark = pytest.mark.e2e


async def test_stop_ends_processes_and_keeps_files(box: Box) -> None:
    await box.create()
    await box.sh("echo kept > /sandbox/file; nohup sleep 54321 >/dev/null 2>&1 &")
    assert processes("sleep\x0054321")
    await box.driver.stop("one")
    assert not processes("sleep\x0054321")
    assert (box.root() / "workspace" / "file").read_text() == "kept\n"
    stopped = await box.event("stopped")
    assert (stopped.sandbox_id, stopped.reason) == ("one", "Stopped")
    await box.create(instance_id="i2")
    assert (await box.sh("cat /sandbox/file; echo more >> /sandbox/file")).out == "kept\n"


async def test_delete_removes_every_trace_even_of_closed_directories(box: Box) -> None:
    await box.create()
    await box.sh(
        "mkdir -p a/b/c; touch a/b/c/f; ln -s /etc/passwd a/link; chmod 0 a/b/c a/b a; "
        "i=0; while [ $i -lt 1200 ]; do mkdir deep && cd deep; i=$((i+1)); done; touch bottom"
    )
    await box.driver.delete("one")
    assert not box.root().exists()
    assert list((box.state / "trash").iterdir()) == []
    await box.driver.delete("one")
    await box.driver.stop("one")
    assert Path("/etc/passwd").exists()


async def test_create_twice_is_one_sandbox_and_a_new_instance_replaces_the_old(box: Box) -> None:
    await box.create()
    await box.sh("nohup sleep 64321 >/dev/null 2>&1 &")
    await box.create()
    assert processes("sleep\x0064321")
    await box.create(instance_id="i2")
    assert not processes("sleep\x0064321")
    assert (await box.sh("echo ok")).out == "ok\n"


async def test_workloads_survive_the_gateway_and_are_found_again(box: Box) -> None:
    await box.create()
    await box.create("two")
    await box.sh("nohup sleep 74321 >/dev/null 2>&1 &")
    await box.driver.close()
    box.driver = box.another()
    found = await box.driver.start()
    assert {(status.sandbox_id, status.instance_id, status.phase) for status in found} == {
        ("one", "i1", "running"),
        ("two", "i1", "running"),
    }
    assert processes("sleep\x0074321")
    assert (await box.sh("echo again")).out == "again\n"


async def test_nobody_left_means_nothing_left(box: Box) -> None:
    await box.create()
    await box.close()
    box.ids.clear()
    async with asyncio.timeout(60):
        while box.engine is not None and processes(str(box.state)):
            await asyncio.sleep(0.01)  # Podman's own monitor has the container's log open a moment longer
    assert not processes(str(box.state))
    assert not (box.state / "host.sock").exists()


async def test_two_gateways_starting_at_once_share_one_host(box: Box) -> None:
    other = box.another()
    await asyncio.gather(box.driver.start(), other.start())
    await box.create()
    assert [status.sandbox_id for status in await other.start()] == []
    await other.close()
    assert (await box.sh("echo ok")).out == "ok\n"


async def test_the_main_process_starts_and_its_end_is_reported(box: Box) -> None:
    await box.create(command=("/bin/sh", "-c", "echo $MINE > /sandbox/main; exit 3"), environment={"MINE": "yes"})
    exited = await box.event("exited")
    assert exited.exit_code == 3
    assert (box.root() / "workspace" / "main").read_text() == "yes\n"
    assert (await box.sh("echo walls stand")).out == "walls stand\n"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"name": "fails"}, "TestFailure"),
        ({"name": "dies"}, "SupervisorDied"),
        ({"command": ("/no/such",)}, "CommandNotFound"),
        ({"sandbox_id": "../up"}, "InvalidSandboxId"),
        ({"config": b"\xff\xff\xff"}, "InvalidConfiguration"),
        ({"environment": {"": "x"}}, "InvalidEnvironment"),
    ],
)
async def test_a_creation_that_fails_leaves_nothing(box: Box, values: dict[str, object], reason: str) -> None:
    with pytest.raises(DriverError) as caught:
        await box.create(**values)  # type: ignore[arg-type]
    box.ids.clear()
    assert caught.value.reason == reason
    assert [path.name for path in box.state.glob("sandboxes/*")] == []
    assert list(box.state.glob("sandboxes/.*")) == list(box.state.glob("trash/*")) == []
    await box.create("fine")
    assert (await box.sh("echo ok", box="fine")).out == "ok\n"


async def test_failed_re_creation_keeps_the_files(box: Box) -> None:
    await box.create()
    await box.sh("echo kept > /sandbox/file")
    await box.driver.stop("one")
    with pytest.raises(DriverError):
        await box.create(name="fails", instance_id="i2")
    assert (box.root() / "workspace" / "file").read_text() == "kept\n"


async def test_a_supervisor_that_cannot_be_loaded_is_an_error_with_a_fix(box: Box) -> None:
    driver = box.another("no.such.module:main")
    with pytest.raises(DriverError) as caught:
        await driver.start()
    assert caught.value.reason == "SupervisorMissing"
    assert caught.value.fix
    await driver.close()


async def test_a_user_the_driver_cannot_give_is_refused(box: Box) -> None:
    config = sandbox_pb2.SandboxConfigSnapshot()
    config.policy.process.run_as_user = "root"
    with pytest.raises(DriverError) as caught:
        await box.create(config=config.SerializeToString())
    assert caught.value.reason == "UnsupportedUser"


async def test_what_a_killed_host_left_half_made_is_swept(box: Box) -> None:
    half = box.state / "sandboxes" / "half"
    (half / "workspace").mkdir(parents=True)
    (box.state / "sandboxes" / ".new-half").touch()
    (box.state / "trash" / "old" / "x").mkdir(parents=True)
    await box.create()
    assert not half.exists()
    await box.driver.delete("one")
    assert list((box.state / "sandboxes").iterdir()) == []


async def test_state_directories_deeper_than_a_socket_address(box: Box) -> None:
    deep = box.state.joinpath(*["directory-with-a-long-name"] * 6)
    inner = Box(deep, FAKE, box.engine)
    await inner.create()
    assert (await inner.sh("echo ok")).out == "ok\n"
    await inner.close()


async def test_the_state_directory_is_private(box: Box) -> None:
    await box.driver.start()
    assert box.state.stat().st_mode & 0o077 == 0
    for name in ("host.sock", "host.lock", "host.log", "start.lock"):
        assert (box.state / name).stat().st_mode & 0o077 == 0, name


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has one id only")
async def test_as_root_every_sandbox_has_a_host_id_of_its_own_and_keeps_it(box: Box) -> None:
    await box.create()
    await box.create("two")
    first, second = ((box.root(name) / "workspace").stat().st_uid for name in ("one", "two"))
    assert 0 not in (first, second)
    assert first != second
    await box.driver.stop("one")
    await box.create(instance_id="i2")
    assert (await box.sh("touch /sandbox/file; stat -c %u /sandbox/file")).out == "998\n"
    assert (box.root() / "workspace" / "file").stat().st_uid == first
