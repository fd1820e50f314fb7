"""The sandbox's file tree: a tmpfs root, the host's programs read-only, private /dev /proc /tmp /run, chosen binds.

Runs in init with all rights in the new user namespace and none on the host. Decides where things appear; who may read
them is Landlock's and the file modes' business.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from pyopenshell.isolation import syscalls
from pyopenshell.isolation.syscalls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    mount,
)
from pyopenshell.isolation.walls import Walls

_HOST_READ_ONLY = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_MOUNT_POINT = "/tmp"
"""Where the new root is assembled; exists and is searchable on every host. Sources were opened before."""
AGENTS_LINK = ("/etc/openshell/AGENTS.md", "/AGENTS.md")


def open_sources(walls: Walls) -> list[int]:
    """Root only: detached copies of the sources ([etc, *binds]), opened with *our* rights.

    The sandbox's id needs no search permission on their parents then. Raises OSError.
    """
    return [syscalls.open_tree(path) for path in _sources(walls)]


def _sources(walls: Walls) -> list[str]:
    return [walls.etc, *(bind.source for bind in walls.binds)]


def build(walls: Walls, trees: Sequence[int]) -> None:
    """Assemble and enter the new root. `trees`: what `open_sources` gave; empty: bind by path. Raises OSError."""
    mount(None, "/", None, MS_REC | MS_SLAVE)  # nothing mounted here leaks back out
    attached = bool(trees)
    sources = list(trees) or [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in _sources(walls)]
    root = _MOUNT_POINT
    mount("sandbox", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=8m")
    _programs(root)
    _attach(sources[0], root + "/.etc", attached, writable=False)
    _etc(root)
    _devices(root)
    _procfs(root)
    for path, options in (("/tmp", f"mode=1777,size={walls.tmp_megabytes}m"), ("/run", "mode=755,size=16m")):
        os.mkdir(root + path)
        mount("tmpfs", root + path, "tmpfs", MS_NOSUID | MS_NODEV, options)
    os.mkdir(root + "/var")
    os.symlink("/tmp", root + "/var/tmp")
    for bind, source in zip(walls.binds, sources[1:], strict=True):
        _attach(source, root + bind.target, attached, writable=bind.writable)
    _cpu_information(root)
    os.symlink(AGENTS_LINK[0], root + AGENTS_LINK[1])
    mount(None, root, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    for source in sources:
        os.close(source)
    os.chdir(root)
    syscalls.pivot_root(".", ".")  # stacks the old root on the new one ...
    syscalls.umount(".", syscalls.MNT_DETACH)  # ... and drops it
    os.chdir("/")


def _bind(source: str, target: str, *, read_only: bool) -> None:
    """MS_REC is compulsory in a user namespace when the source has child mounts; the attribute then covers them all."""
    mount(source, target, None, MS_BIND | MS_REC)
    attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (MOUNT_ATTR_RDONLY if read_only else 0)
    syscalls.mount_setattr(target, attributes)


def _attach(source: int, target: str, detached: bool, *, writable: bool) -> None:
    if not os.path.isdir(target):
        os.makedirs(target)
    if detached:
        syscalls.move_mount(source, target)
        attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (0 if writable else MOUNT_ATTR_RDONLY)
        syscalls.mount_setattr(target, attributes)
    else:
        _bind(f"/proc/self/fd/{source}", target, read_only=not writable)


def _programs(root: str) -> None:
    for path in _HOST_READ_ONLY:
        if os.path.islink(path):  # merged /usr: /bin -> usr/bin
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            os.mkdir(root + path)
            _bind(path, root + path, read_only=True)


def _etc(root: str) -> None:
    """The injected layer over the host's /etc, both read-only; a symlink farm where overlayfs refuses."""
    target, layer = root + "/etc", root + "/.etc"
    os.mkdir(target)
    try:
        mount("overlay", target, "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, f"lowerdir={layer}:/etc,userxattr")
    except OSError:  # no overlayfs, or /etc has mounts below it (containers)
        _etc_by_symlinks(root, layer)
        return
    syscalls.umount(layer, syscalls.MNT_DETACH)
    os.rmdir(layer)


def _etc_by_symlinks(root: str, layer: str) -> None:
    os.mkdir(root + "/.host-etc")
    _bind("/etc", root + "/.host-etc", read_only=True)
    _farm(root, layer, "/etc", root + "/etc")


def _farm(root: str, layer: str, below: str, target: str) -> None:
    """Merge one directory level: ours first, directories present in both are merged, the host's for the rest."""
    host = root + "/.host-etc" + below.removeprefix("/etc")
    ours = layer + below.removeprefix("/etc")
    names = set(os.listdir(ours))
    for name in names:
        source = os.path.join(ours, name)
        if os.path.isdir(source) and not os.path.islink(source):
            os.mkdir(os.path.join(target, name))
            _farm(root, layer, f"{below}/{name}", os.path.join(target, name))
        else:
            os.symlink(f"/.etc{below.removeprefix('/etc')}/{name}", os.path.join(target, name))
    if not os.path.isdir(host):
        return
    for name in os.listdir(host):
        if name not in names:
            os.symlink(f"/.host-etc{below.removeprefix('/etc')}/{name}", os.path.join(target, name))


def _devices(root: str) -> None:
    device = root + "/dev"
    os.mkdir(device)
    mount("dev", device, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k")
    for name in _DEVICES:
        os.close(os.open(f"{device}/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        mount(f"/dev/{name}", f"{device}/{name}", None, MS_BIND)
    for name, link in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(link, f"{device}/{name}")
    os.mkdir(device + "/pts")
    mount("devpts", device + "/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    os.mkdir(device + "/shm")
    mount("shm", device + "/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=256m")


def _procfs(root: str) -> None:
    """Our PID namespace only. Not hidepid=2: Landlock makes sibling sessions un-inspectable, so `ps` would be blind."""
    os.mkdir(root + "/proc")
    mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _cpu_information(root: str) -> None:
    source = "/sys/devices/system/cpu"
    os.mkdir(root + "/sys")
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(source).st_mode):
            os.makedirs(root + source)
            _bind(source, root + source, read_only=True)
