"""What is Podman's own: images, the service that may go away, containers that somebody else touches."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tarfile
from pathlib import Path

import pytest

from pyopenshell.drivers.base import DriverError, ExecRequest, Workload
from pyopenshell.drivers.podman.door import examine
from pyopenshell.drivers.podman.driver import PodmanDriver, default_socket
from pyopenshell.isolation.walls import WallError
from tests.drivers.conftest import FAKE
from tests.drivers.sandboxes import ACCESS, Box
from tests.podman.service import Service

pytestmark = [pytest.mark.e2e, pytest.mark.podman]

WGET = ("/bin/wget", "-q", "-O", "-", "http://example.com/")


@pytest.fixture
def engine(box: Box) -> Service:
    assert box.engine is not None
    return box.engine


async def test_an_image_needs_nothing_of_ours(box: Box, engine: Service) -> None:
    """No Python, no /etc, no shell but busybox: walls, commands and identity are the same."""
    await box.create(image=engine.bare, require="full", memory=256 << 20, pids=100)
    assert box.status.assurance == "full"
    ran = await box.sh("id; ls /")
    assert ran.lines[0] == "uid=998(sandbox) gid=998(998) groups=998(998)"
    answer = await box.ask("/bin/sh", "-c", " ".join(WGET) + "; true")
    assert answer["exe"] == os.path.realpath("/usr/bin/busybox")
    with pytest.raises(DriverError) as caught:
        await box.driver.exec("one", ExecRequest(["/usr/bin/python3"]))
    assert caught.value.reason == "CommandNotFound"


async def test_what_an_image_sets_reaches_commands_but_no_way_around_the_proxy(box: Box) -> None:
    await box.create(environment={"MINE": "1"})
    env = dict(line.split("=", 1) for line in (await box.run("/usr/bin/env")).lines)
    assert (env["APP"], env["MINE"]) == ("image", "1")
    assert env["HTTP_PROXY"] == "http://10.200.0.1:3128"
    assert (await box.sh("cat /app/readme; readlink /AGENTS.md")).lines == ["of the image", "etc/openshell/AGENTS.md"]


async def test_nothing_of_a_creation_is_left_when_the_image_will_not_do(box: Box, engine: Service) -> None:
    engine.podman("import", "--arch", "arm64", "--os", "linux", _empty(engine), "localhost/foreign:latest")
    box.driver = PodmanDriver(box.state, engine.socket, pull=False, supervisor=FAKE)
    for image, reason in (
        ("", "ImageRequired"),
        ("localhost/no-such", "ImageNotFound"),
        ("localhost/foreign", "ImageArchitecture"),
    ):
        with pytest.raises(DriverError) as caught:
            await box.create(image=image)
        assert (caught.value.reason, bool(caught.value.fix)) == (reason, True)
    box.ids.clear()
    assert engine.containers() == []
    assert not list(box.state.glob("sandboxes/*"))


def _empty(engine: Service) -> str:
    path = engine.root / "empty.tar"
    with tarfile.open(path, "w"):
        pass
    return str(path)


async def test_without_the_service_sandboxes_run_on_and_creations_say_so(box: Box, engine: Service) -> None:
    await box.create()
    engine.stop()
    try:
        assert (await box.sh("echo still")).out == "still\n"
        again = PodmanDriver(box.state, engine.socket, supervisor=FAKE)
        assert [status.sandbox_id for status in await again.start()] == ["one"]
        with pytest.raises(DriverError) as caught:
            await again.create(_workload(box, "two"))
        assert caught.value.reason == "PodmanUnreachable"
        assert "podman.socket" in caught.value.fix
        assert "docker save" in caught.value.fix, "without Podman there is another way"
        await again.close()
        await box.driver.delete("one")
        assert not box.root().exists()
        async with asyncio.timeout(60):
            while engine.containers():  # the engine without its service, which removes what ended by itself
                await asyncio.sleep(0.05)
    finally:
        engine.start()
    await box.create()
    assert (await box.sh("echo again")).out == "again\n"


def _workload(box: Box, sandbox_id: str) -> Workload:
    assert box.engine is not None
    return Workload(sandbox_id, "test", "default", "i1", b"", ACCESS, image=box.engine.debian)


async def test_an_image_cannot_put_its_code_into_our_init(box: Box, engine: Service) -> None:
    """Its LD_PRELOAD and its /etc/ld.so.preload name a library; commands may have the first, the init has neither."""
    await box.create()
    assert (await box.sh("printenv LD_PRELOAD; wc -c < /etc/ld.so.preload")).lines == ["/usr/lib/preloaded.so", "0"]
    (name,) = engine.containers()
    init = engine.podman("inspect", "--format", "{{.State.Pid}}", name).strip()
    mapped = Path(f"/proc/{init}/maps").read_text()
    assert "/.openshell/lib/" in mapped
    assert "preloaded" not in mapped


async def test_a_container_that_somebody_removes_is_told_and_can_be_made_again(box: Box, engine: Service) -> None:
    await box.create()
    await box.sh("echo kept > /sandbox/file")
    engine.podman("rm", "--force", "--time", "0", *engine.containers())
    stopped = await box.event("stopped")
    assert (stopped.sandbox_id, stopped.reason) == ("one", "InitDied")
    with pytest.raises(DriverError) as caught:
        await box.driver.exec("one", ExecRequest(["/bin/true"]))
    assert caught.value.reason == "NotRunning"
    await box.create(instance_id="i2")
    assert (await box.sh("cat /sandbox/file")).out == "kept\n"


async def test_what_an_administrator_runs_inside_is_nobody_to_the_proxy(box: Box, engine: Service) -> None:
    await box.create(image=engine.bare)
    (name,) = engine.containers()
    said = engine.podman("exec", "--env", "http_proxy=http://10.200.0.1:3128", name, *WGET)
    assert '"code": "connection_unseen"' in said


async def test_a_started_driver_sweeps_containers_that_nobody_guards(box: Box, engine: Service) -> None:
    await box.create()
    (mine,) = engine.containers()
    labels = engine.podman("inspect", "--format", "{{json .Config.Labels}}", mine)
    state = labels.split('"openshell.ai/state":"')[1].split('"')[0]
    for label in (f"openshell.ai/state={state}", "openshell.ai/state=another"):
        engine.podman("create", "--label", label, "--network", "none", engine.bare, "/bin/sleep", "1000")
    assert len(engine.containers()) == 3
    again = PodmanDriver(box.state, engine.socket, supervisor=FAKE)
    await again.start()
    async with asyncio.timeout(60):
        while len(engine.containers()) > 2:
            await asyncio.sleep(0.05)
    await again.close()
    assert mine in engine.containers(), "what runs stays, and so does what belongs to others"
    engine.podman("rm", "--all", "--force", "--filter", "label=openshell.ai/state=another")


def test_a_container_that_is_not_closed_off_is_seen_from_outside(podman: Service) -> None:
    open_ = ("--network", "host", "--pid", "host", "--userns", "host")
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
    name = podman.podman("run", "--detach", "--rm", *open_, *limits, podman.bare, "/bin/sleep", "1000").strip()
    try:
        pid = int(podman.podman("inspect", "--format", "{{.State.Pid}}", name))
        with pytest.raises(WallError) as caught:
            examine(pid)
    finally:
        podman.podman("rm", "--force", "--time", "0", name)
    assert caught.value.reason == "ContainerNotClosed"
    for hole in ("shares the net namespace", "shares the pid namespace", "not its first process", "capabilities beside",
                 "may gain privileges", "root directory is writable"):  # fmt: skip
        assert hole in caught.value.message


async def test_no_secret_is_in_what_podman_knows(box: Box, engine: Service) -> None:
    await box.create(environment={"MINE": "hidden-value"})
    (name,) = engine.containers()
    known = engine.podman("inspect", name)
    for secret in ("secret-token", "secret-key", "hidden-value"):
        assert secret not in known
    assert '"ReadonlyRootfs": true' in known


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can pretend to be somebody else")
async def test_a_service_of_another_user_is_not_spoken_to(tmp_path: Path, box: Box) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.seteuid(2000)
        try:
            listener.listen()  # the kernel notes whose it is now
        finally:
            os.seteuid(0)
        box.driver = PodmanDriver(box.state, str(path), supervisor=FAKE)
        with pytest.raises(DriverError) as caught:
            await box.create()
    box.ids.clear()
    assert caught.value.reason == "PodmanUnreachable"
    assert "its user is 2000" in caught.value.message


async def test_an_init_that_is_killed_while_it_builds_fails_the_creation(box: Box, engine: Service) -> None:
    """The runtime is taken away under the driver host's feet: the container cannot even start its init."""
    await box.driver._host.start()  # type: ignore[union-attr]
    (runtime,) = box.state.glob("runtime-*")
    (runtime / "bin" / "python3").unlink()
    with pytest.raises(DriverError) as caught:
        await box.create()
    box.ids.clear()
    assert caught.value.reason == "ContainerEnded"
    assert "/.openshell/bin/python3" in caught.value.message
    assert engine.containers() == []


async def test_commands_end_with_a_host_that_is_killed(box: Box, engine: Service) -> None:
    await box.create()
    process = await box.driver.exec("one", ExecRequest(["/bin/sleep", "1000"]))
    (host,) = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit() and _is_host(one, box.state)]
    os.kill(host, signal.SIGKILL)
    assert await process.wait() == 128 + signal.SIGKILL
    await process.aclose()
    stopped = await box.event("stopped")
    assert stopped.reason == "HostDied"
    async with asyncio.timeout(60):
        while engine.containers():
            await asyncio.sleep(0.05)


def _is_host(process: Path, state: Path) -> bool:
    try:
        name, line = (process / "comm").read_text(), (process / "cmdline").read_text()
    except OSError:
        return False
    return name == "openshell-host\n" and str(state) in line


def test_the_socket_is_found_as_podman_itself_finds_it() -> None:
    assert default_socket({"CONTAINER_HOST": "unix:///x/y.sock"}) == "/x/y.sock"
    if os.geteuid() == 0:
        assert default_socket({"CONTAINER_HOST": "ssh://elsewhere"}) == "/run/podman/podman.sock"
    else:
        assert default_socket({"XDG_RUNTIME_DIR": "/run/me"}) == "/run/me/podman/podman.sock"
