"""What an installation still has on this machine: processes, namespaces, mounts, control groups, sockets.

Looks from outside, through /proc alone, and knows no part of the product but the names it gives its processes.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
import struct
from collections.abc import Iterator

from pyopenshell.isolation import cgroups, init

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
PROC = pathlib.Path("/proc")
_NAMESPACE = re.compile(rf"({'|'.join(NAMESPACES)}):\[\d+\]").fullmatch
_NS_GET_ID = 2 << 30 | 8 << 16 | 0xB7 << 8 | 13


def pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def cmdline(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def parents() -> dict[int, int]:
    found = {}
    for pid in pids():
        try:
            found[pid] = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def below(roots: set[int]) -> set[int]:
    """Processes and all their descendants."""
    family, tree = set(roots), parents()
    while more := {pid for pid, parent in tree.items() if parent in family} - family:
        family |= more
    return family


def driver_state(root: pathlib.Path) -> pathlib.Path:
    return root / "state" / "openshell"


def owner(root: pathlib.Path) -> str:
    return cgroups.owner_name(str(driver_state(root)))


def processes(root: pathlib.Path) -> dict[int, str]:
    """Of the installation in `root`: whatever names it, is one of its inits, or lives below one of these."""
    mark = init.command_line(owner(root))
    named = {
        pid
        for pid in pids()
        if str(root) in (line := cmdline(pid)) or line.rstrip("\0") == mark or ("gateway" in line and _home(pid, root))
    }
    named.discard(os.getpid())
    return {pid: cmdline(pid).replace("\0", " ")[:150] for pid in below(named) - {os.getpid()}}


def _home(pid: int, root: pathlib.Path) -> bool:
    try:
        return f"XDG_STATE_HOME={root}/".encode() in (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False


def inits(root: pathlib.Path) -> set[int]:
    mark = init.command_line(owner(root))
    return {pid for pid in pids() if cmdline(pid).rstrip("\0") == mark}


def namespaces(pid: int) -> set[str]:
    """What one process lives in, each by a name that is never given again ("net:4711")."""
    return {name for kind in NAMESPACES if (name := _identity(PROC / str(pid) / "ns" / kind))}


def _identity(path: pathlib.Path) -> str:
    """Of a namespace; "" for anything else, and where we may not look.

    Its inode, which /proc shows, is given to the next namespace. The kernel's own id is not (NS_GET_ID, Linux 6.18);
    before that the inode has to do.
    """
    try:
        shown = os.readlink(path)
        if not _NAMESPACE(shown):
            return ""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        (number,) = struct.unpack("Q", fcntl.ioctl(fd, _NS_GET_ID, bytes(8)))
    except OSError:
        return shown
    finally:
        os.close(fd)
    return f"{shown.partition(':')[0]}:{number}"


def holders(wanted: set[str]) -> list[str]:
    """Who has one of these namespaces: lives in it, or has it open or mounted."""
    found = []
    for pid in pids():
        if held := namespaces(pid) & wanted:
            found.append(f"{pid} {cmdline(pid)[:80]!r} lives in {sorted(held)}")
        held = {name for fd in _entries(PROC / str(pid) / "fd") if (name := _identity(fd))} & wanted
        if held:
            found.append(f"{pid} {cmdline(pid)[:80]!r} has {sorted(held)} open")
    mounted = [line for line in (PROC / "self" / "mountinfo").read_text().splitlines() if " - nsfs " in line]
    return found + mounted


def mounts(root: pathlib.Path) -> list[str]:
    return [line for line in (PROC / "self" / "mountinfo").read_text().splitlines() if str(root) in line]


def control_groups(root: pathlib.Path) -> list[str]:
    prefix = f"openshell-{owner(root)}-"
    return [f"{parent}/{name}" for parent in cgroups._parents() for name in os.listdir(parent) if prefix in name]


def sockets(root: pathlib.Path) -> list[str]:
    """Unix sockets bound below `root`."""
    return [line for line in (PROC / "net" / "unix").read_text().splitlines() if str(root) in line]


def listening(port: int) -> bool:
    """Whether anybody on this machine listens on a TCP port."""
    pattern = re.compile(rf"^\s*\d+: [0-9A-F]+:{port:04X} [0-9A-F]+:0000 0A ", re.MULTILINE)
    return any(pattern.search((PROC / "net" / name).read_text()) for name in ("tcp", "tcp6"))


def _entries(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    try:
        yield from directory.iterdir()
    except OSError:
        return
