"""filesystem_policy and landlock sections: enforced, and what cannot be enforced is visible (attacks.md J-2)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from pyopenshell.drivers.base import DriverError
from pyopenshell.isolation import confinement, landlock
from pyopenshell.isolation.assurance import FILES
from pyopenshell.isolation.walls import WallError, Walls
from pyopenshell.wire.gen import sandbox_pb2
from tests.drivers.sandboxes import Box, repository

pytestmark = pytest.mark.e2e

ESSENTIAL = ("/usr", "/lib", "/proc", "/etc")


def config(read: tuple[str, ...], write: tuple[str, ...], *, workdir: bool = True, compatibility: str = "") -> bytes:
    snapshot = sandbox_pb2.SandboxConfigSnapshot()
    snapshot.policy.filesystem.include_workdir = workdir
    snapshot.policy.filesystem.read_only.extend(read)
    snapshot.policy.filesystem.read_write.extend(write)
    snapshot.policy.landlock.compatibility = compatibility
    return snapshot.SerializeToString()


async def test_only_listed_paths_are_readable_and_only_some_writable(box: Box) -> None:
    await box.create(config=config(ESSENTIAL, ("/tmp", "/dev/null")))
    ran = await box.sh(
        "for d in /sandbox /tmp /run /dev/shm; do touch $d/x 2>/dev/null && echo $d; done; "
        "cat /var/log/openshell.log 2>/dev/null || echo no log; "
        "cat /etc/openshell-tls/openshell-ca.pem; echo x > /dev/null"
    )
    assert ran.lines == ["/sandbox", "/tmp", "/dev/shm", "no log", "certificate"]
    assert ran.code == 0


async def test_the_workdir_is_closed_unless_included(box: Box) -> None:
    await box.create(config=config(ESSENTIAL, ("/tmp",), workdir=False))
    ran = await box.sh("touch /sandbox/x || echo refused; cd /tmp && touch y && echo ok")
    assert ran.lines == ["refused", "ok"]


async def test_a_path_listed_as_writable_stays_read_only_where_the_mount_is(box: Box) -> None:
    await box.create(config=config(ESSENTIAL, ("/tmp", "/usr/share")))
    assert (await box.sh("touch /usr/share/x 2>&1")).out.endswith("Read-only file system\n")


async def test_a_missing_path_is_reported_and_with_hard_requirement_an_error(box: Box) -> None:
    await box.create(config=config((*ESSENTIAL, "/no/such"), ("/tmp",), compatibility="best_effort"))
    running = await box.event("running")
    assert running.reason == "Degraded"
    assert "/no/such" in running.message
    with pytest.raises(DriverError) as caught:
        await box.create("two", config=config((*ESSENTIAL, "/no/such"), (), compatibility="hard_requirement"))
    assert caught.value.reason == "FilesystemPolicyPath"
    assert caught.value.fix
    await box.create("three", config=config(ESSENTIAL, ("/tmp",), compatibility="hard_requirement"))
    assert (await box.sh("echo ok", box="three")).out == "ok\n"


async def test_a_path_that_climbs_is_refused(box: Box) -> None:
    with pytest.raises(DriverError) as caught:
        await box.create(config=config(("/usr/../etc",), ()))
    assert caught.value.reason == "InvalidConfiguration"


CREATE = """
import asyncio, json, sys
from pathlib import Path
from pyopenshell.drivers.base import DriverError
from pyopenshell.isolation import confinement, landlock
from pyopenshell.isolation.assurance import FILES
from pyopenshell.isolation.walls import WallError, Walls
from tests.drivers.sandboxes import Box

async def main():
    box = Box(Path(sys.argv[1]), "tests.drivers.fake_supervisor:main")
    try:
        await box.create()
    except DriverError as error:
        print(json.dumps([error.reason, error.message, error.fix]))
    await box.close()

asyncio.run(main())
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs util-linux")
def test_without_user_namespaces_creation_stops_with_the_reason_and_the_fix(box: Box) -> None:
    limit = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    ran = subprocess.run(
        [
            "unshare",
            "-U",
            "--map-user=1000",
            "--map-group=1000",
            "--keep-caps",
            "/bin/sh",
            "-c",
            limit,
            "sh",
            sys.executable,
            "-c",
            CREATE,
            str(box.state),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{repository()}:{repository()}/src:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert ran.returncode == 0, ran
    reason, message, fix = json.loads(ran.stdout)
    assert reason == "UserNamespacesUnavailable"
    assert message
    assert "max_user_namespaces" in fix
    assert not list((box.state / "sandboxes").iterdir())


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6, 7])
def test_an_older_landlock_is_said_and_where_required_an_error(version: int) -> None:
    """Which version is there is played; the rules are the real kernel's."""
    if version > landlock.abi():
        pytest.skip("this kernel has no such Landlock")

    def walls(*, required: bool) -> Walls:
        return Walls(1, 1, "x", "/etc", (), ("/usr", "/etc"), ("/tmp",), landlock_required=required)

    rules, losses = confinement.ruleset(walls(required=False), version)
    assert rules is not None
    os.close(rules.fd)
    assert [loss.part for loss in losses] == ([FILES, ""] if version == 1 else [FILES] if version == 2 else [])
    if version >= landlock.TRUNCATE_ABI:
        os.close(confinement.ruleset(walls(required=True), version)[0].fd)  # type: ignore[union-attr]
        return
    with pytest.raises(WallError) as caught:
        confinement.ruleset(walls(required=True), version)
    assert caught.value.reason == "LandlockUnavailable"
    assert "best_effort" in caught.value.fix


ALONE = """
import ctypes, os, signal, socket, sys
from pyopenshell.isolation import landlock, syscalls
listener = socket.create_server(("127.0.0.1", 0))
other = socket.create_server(("127.0.0.1", 0))
named = socket.socket(socket.AF_UNIX)
named.bind("\\0openshell-test-" + str(os.getpid()))
named.listen()
outside = os.getpid()
if os.fork() == 0:
    rules = landlock.Ruleset(landlock.abi(), alone=True)
    rules.allow("/", landlock.WRITE)
    rules.allow_port(listener.getsockname()[1])
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict(rules.fd, landlock.abi())
    def tell(what, work):
        try: work(); print(what, "worked", flush=True)
        except OSError as error: print(what, type(error).__name__, flush=True)
    tell("allowed port", lambda: socket.create_connection(listener.getsockname()))
    tell("other port", lambda: socket.create_connection(other.getsockname()))
    tell("listening", lambda: socket.create_server(("127.0.0.1", 0)))
    tell("abstract socket", lambda: socket.socket(socket.AF_UNIX).connect(named.getsockname()))
    tell("signal outside", lambda: os.kill(outside, signal.SIGCONT))
    tell("signal to itself", lambda: os.kill(os.getpid(), signal.SIGCONT))
    os._exit(0)
os.wait()
"""


def test_alone_landlock_confines_ports_abstract_sockets_and_signals() -> None:
    if landlock.abi() < landlock.SCOPES_ABI:
        pytest.skip("this kernel's Landlock has no scopes")
    environ = {**os.environ, "PYTHONPATH": f"{repository()}/src"}
    done = subprocess.run([sys.executable, "-c", ALONE], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "allowed port worked",
        "other port PermissionError",
        "listening PermissionError",
        "abstract socket PermissionError",
        "signal outside PermissionError",
        "signal to itself worked",
    ]
