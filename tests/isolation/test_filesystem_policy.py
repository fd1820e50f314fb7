"""filesystem_policy and landlock sections: enforced, and what cannot be enforced is visible (attacks.md J-2)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from pyopenshell.drivers.base import DriverError
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
