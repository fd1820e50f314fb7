"""The probe finds what is there and what is not, on machines made poorer for the test, and leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyopenshell.isolation.assurance import FILES, LEVELS, NETWORK, REQUIRABLE, Loss, level, meets
from pyopenshell.isolation.probe import Finding, judge
from pyopenshell.isolation.surroundings import known_limits
from tests.drivers.sandboxes import repository

PROBE = [sys.executable, "-P", "-m", "pyopenshell.isolation.probe"]
ENVIRON = os.environ | {"PYTHONPATH": f"{repository()}/src{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
UNDER_A_FILTER = """\
import os, sys
from pyopenshell.isolation import seccomp, syscalls
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(seccomp.command_filter())
os.execv(sys.argv[1], sys.argv[1:])
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts over the host's directories, in a namespace of its own")


def probe(*before: str, command: list[str] = PROBE) -> dict[str, Any]:
    done = subprocess.run([*before, *command], env=ENVIRON, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def missing(report: dict[str, Any]) -> set[str]:
    return {one["key"] for one in report["findings"] if not one["holds"]}


def shell(script: str) -> list[str]:
    """Before the probe: `script` in the shell that becomes it."""
    return ["sh", "-c", script + '; exec "$@"', "sh"]


@pytest.mark.e2e
def test_every_wall_a_sandbox_needs_holds_here(tmp_path: Path) -> None:
    report = probe()
    assert [one for one in report["findings"] if one["required"] and not one["holds"]] == []
    assert (report["tier"], report["level"]) == ("A", "full")
    assert missing(report) <= ({"cgroups"} if os.geteuid() else set())
    for one in report["findings"]:
        assert one["title"]
        assert one["detail"]
        assert (one["lost"], one["fix"]) == ("", "") or not one["holds"]


@pytest.mark.e2e
@as_root
def test_nothing_is_left_of_a_probe() -> None:
    def groups() -> list[Path]:
        return [path for path in Path("/sys/fs/cgroup").rglob("openshell-*-probe-*") if path.is_dir()]

    probe()
    assert groups() == []


@pytest.mark.e2e
def test_without_user_namespaces_no_sandbox_is_promised() -> None:
    """The switch is thrown inside a user namespace: it is that namespace's own."""
    report = probe("unshare", "-Ur", *shell("echo 0 >/proc/sys/user/max_user_namespaces"))
    assert report["level"] == "none"
    assert report["tier"] == "E"
    assert {"user_namespace", "id_mapping"} <= missing(report)
    assert not {"landlock", "seccomp", "pidfd"} & missing(report)
    user = next(one for one in report["findings"] if one["key"] == "user_namespace")
    assert user["lost"]
    assert "max_user_namespaces" in user["fix"]


@pytest.mark.e2e
def test_under_a_containers_seccomp_filter_nothing_is_promised() -> None:
    report = probe(sys.executable, "-c", UNDER_A_FILTER)
    assert (report["tier"], report["level"]) == ("E", "none")
    assert {"user_namespace", "connect_watcher", "seccomp", "mount_setattr"} <= missing(report)


@pytest.mark.e2e
@as_root
def test_a_directory_that_cannot_be_overlaid_costs_the_network_level() -> None:
    """Too many entries to show one by one, and a mount below: what is left is a plain bind mount."""
    crowd = "mount -t tmpfs crowd /opt && mkdir $(seq -f /opt/%g 600) && mount -t tmpfs below /opt/7"
    report = probe("unshare", "-m", *shell(crowd))
    assert missing(report) == {"host_sockets"}
    assert report["level"] == "files"


@pytest.mark.e2e
@as_root
def test_a_masked_proc_is_found_by_trying() -> None:
    report = probe(
        "unshare",
        "-m",
        *shell("mount -t tmpfs -o ro mask /proc/scsi 2>/dev/null || mount -t tmpfs -o ro mask /proc/fs"),
    )
    assert {"proc", "root"} <= missing(report)
    assert report["level"] == "none"


@pytest.mark.e2e
def test_the_command_exits_with_one_and_says_the_fix() -> None:
    doctor = [sys.executable, "-m", "pyopenshell.cli.main", "doctor"]
    poor = ["unshare", "-Ur", *shell("echo 0 >/proc/sys/user/max_user_namespaces")]
    done = subprocess.run([*poor, *doctor], env=ENVIRON, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "MISSING user namespace:" in done.stdout
    assert "fix:  sudo sysctl user.max_user_namespaces=15000" in done.stdout, "the limit is known by name"
    assert "Assurance: none" in done.stdout
    fine = subprocess.run([*doctor, "-o", "json"], env=ENVIRON, capture_output=True, text=True, check=False, timeout=60)
    assert fine.returncode == 0, fine.stdout + fine.stderr
    answer = json.loads(fine.stdout)
    assert answer["assurance"] == "full"
    assert all(wall["holds"] for wall in answer["walls"] if wall["required"])


def finding(part: str, *, holds: bool = False, required: bool = False) -> Finding:
    return Finding("key", "title", holds, "", part, required, "lost", "fix")


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([], "full"),
        ([finding("")], "full"),
        ([finding(FILES)], "network"),
        ([finding(NETWORK)], "files"),
        ([finding(NETWORK), finding(FILES)], "none"),
        ([finding("", required=True)], "none"),
        ([finding(NETWORK, holds=True, required=True), finding(FILES, holds=True)], "full"),
    ],
)
def test_the_level_follows_from_what_is_missing(findings: list[Finding], expected: str) -> None:
    assert judge(findings) == expected


def test_a_requirement_is_met_only_by_what_has_it() -> None:
    met = {(found, wanted) for found in LEVELS for wanted in REQUIRABLE if meets(found, wanted)}
    assert met == {("full", "full"), ("full", "network"), ("full", "files"), ("network", "network"), ("files", "files")}
    assert all(meets(found, "") for found in LEVELS)
    assert level([Loss("", "said only")]) == "full"


LIMITS = {
    "AppArmor": {
        "proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
        "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\n',
    },
    "kernel.unprivileged_userns_clone = 0": {"proc/sys/kernel/unprivileged_userns_clone": "0\n"},
    "user.max_user_namespaces = 0": {"proc/sys/user/max_user_namespaces": "0\n"},
    "WSL 1": {"proc/version": "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)"},
    "WSL 2": {"proc/version": "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)"},
    "gVisor": {"proc/version": "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"},
    "inside a container (Docker)": {".dockerenv": ""},
    "inside a container (Podman)": {"run/.containerenv": "engine=podman"},
    "inside a container (a container engine)": {"proc/1/cgroup": "0::/kubepods/besteffort/pod1\n"},
    "a seccomp filter": {"proc/self/status": "Name:\tpython3\nSeccomp:\t2\nSeccomp_filters:\t1\n"},
    "/proc is masked (2 mounts over it": {
        "proc/self/mountinfo": "50 40 0:5 /null /proc/kcore rw - devtmpfs d rw\n"
        "51 40 0:6 / /proc/scsi ro - tmpfs t ro\n"
    },
    "Linux 5.15": {"proc/sys/kernel/osrelease": "5.15.0-100-generic\n"},
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_known_by_name(name: str, tmp_path: Path) -> None:
    for path, text in LIMITS[name].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (limit,) = known_limits(tmp_path)
    assert limit.name.startswith(name)
    assert limit.means
    assert limit.fix


def test_a_plain_machine_has_no_limits(tmp_path: Path) -> None:
    for path, text in {
        "proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0",
        "proc/sys/user/max_user_namespaces": "63000",
        "proc/version": "Linux version 6.8.0 (buildd@lcy02) #1 SMP",
        "proc/sys/kernel/osrelease": "6.8.0",
        "proc/self/status": "Seccomp:\t0",
        "proc/self/mountinfo": "25 30 0:22 / /proc rw - proc proc rw\n"
        "26 25 0:23 / /proc/sys/fs/binfmt_misc rw - autofs s rw",
        "proc/1/cgroup": "0::/init.scope",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert known_limits(tmp_path) == []
