"""Which known limits of distributions and containers apply here, by name. Reads a few files; tries nothing.

A limit explains a wall that `probe` found missing; it never decides one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

_CONTAINER = re.compile(r"docker|kubepods|libpod|containerd|/lxc[/.]|machine\.slice")
_GVISOR = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"
"""What gVisor's /proc/version says unless it says its name."""
_IN_CONTAINER = (
    "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined IMAGE"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """`name` as people search for it, what it `means` for sandboxes, and the `fix` as one command or sentence."""

    name: str
    means: str
    fix: str


def known_limits(root: Path = Path("/")) -> list[Limit]:
    """Every limit that applies to the machine whose files lie below `root`."""
    here = _Files(root)
    return [limit for look in _LOOKS if (limit := look(here)) is not None]


class _Files:
    def __init__(self, root: Path) -> None:
        self._root = root

    def text(self, path: str) -> str:
        """ "" where it cannot be read."""
        try:
            return (self._root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        return (self._root / path).exists()


def _apparmor(here: _Files) -> Limit | None:
    if here.text("proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() != "1":
        return None
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', here.text("etc/os-release"), re.MULTILINE)
    return Limit(
        f"AppArmor restricts user namespaces ({name[1] if name else 'this system'}; Ubuntu 23.10 and newer)",
        "anybody may make a user namespace, but gets no rights in it",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    )


def _userns_sysctls(here: _Files) -> Limit | None:
    for name, value in (("kernel/unprivileged_userns_clone", "0"), ("user/max_user_namespaces", "0")):
        if here.text(f"proc/sys/{name}").strip() == value:
            setting = name.replace("/", ".")
            good = "1" if setting.startswith("kernel") else "15000"
            return Limit(f"{setting} = {value}", "user namespaces are switched off", f"sudo sysctl {setting}={good}")
    return None


def _wsl(here: _Files) -> Limit | None:
    version = here.text("proc/version")
    if "microsoft" not in version.lower():
        return None
    if "WSL2" in version or "microsoft-standard" in version:
        return Limit("WSL 2", "the kernel is Microsoft's: Landlock or nf_tables may not be in it", "wsl --update")
    return Limit("WSL 1", "there is no Linux kernel: no namespaces, no seccomp", "wsl --set-version DISTRIBUTION 2")


def _gvisor(here: _Files) -> Limit | None:
    version = here.text("proc/version")
    if "gvisor" not in version.lower() and not version.startswith(_GVISOR):
        return None
    return Limit(
        "gVisor (runsc)",
        "its kernel has no Landlock, no seccomp notification and no nf_tables",
        "docker run --runtime runc IMAGE",
    )


def _container(here: _Files) -> Limit | None:
    if here.exists(".dockerenv"):
        kind = "Docker"
    elif here.exists("run/.containerenv"):
        kind = "Podman"
    elif "container=" in here.text("proc/1/environ") or _CONTAINER.search(here.text("proc/1/cgroup")):
        kind = "a container engine"
    else:
        return None
    return Limit(
        f"inside a container ({kind})",
        "by default it refuses namespaces and mounts and hides parts of /proc; of no matter where all walls hold",
        _IN_CONTAINER,
    )


def _filtered(here: _Files) -> Limit | None:
    if not re.search(r"^Seccomp:\s*2", here.text("proc/self/status"), re.MULTILINE):
        return None
    return Limit(
        "a seccomp filter is over this process",
        "somebody decided which system calls exist here (a container's profile, systemd's SystemCallFilter=)",
        "run the gateway outside of it, or allow clone, unshare, mount, pivot_root and seccomp in that profile",
    )


def _masked_proc(here: _Files) -> Limit | None:
    points = [line.split(" ", 5)[4] for line in here.text("proc/self/mountinfo").splitlines() if line.count(" ") > 5]
    over = [point for point in points if point.startswith("/proc/") and point != "/proc/sys/fs/binfmt_misc"]
    if not over:
        return None
    return Limit(
        f"/proc is masked ({len(over)} mounts over it, {over[0]} for one)",
        "the kernel refuses a fresh /proc inside (mount: too revealing)",
        "docker run --security-opt systempaths=unconfined IMAGE",
    )


def _old_kernel(here: _Files) -> Limit | None:
    found = re.match(r"(\d+)\.(\d+)", here.text("proc/sys/kernel/osrelease"))
    if found is None or (int(found[1]), int(found[2])) >= (5, 19):
        return None
    return Limit(
        f"Linux {found[0]}",
        "seccomp notifications can be interrupted before 5.19: who connects is not known exactly",
        "install a kernel of Linux 5.19 or newer",
    )


_LOOKS: tuple[Callable[[_Files], Limit | None], ...] = (
    _apparmor,
    _userns_sysctls,
    _wsl,
    _gvisor,
    _container,
    _filtered,
    _masked_proc,
    _old_kernel,
)
