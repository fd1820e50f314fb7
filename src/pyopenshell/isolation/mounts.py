"""The sandbox's file tree: a tmpfs root, the host's programs read-only, private /dev /proc /tmp /run, chosen binds.

Runs in init with all rights in the new user namespace and none on the host. Decides where things appear; who may read
them is Landlock's and the file modes' business.

The host's trees appear through overlays, not binds: a read-only bind does not stop connect() to a socket or open() of a
FIFO in it, because both are found by inode. An overlay's inodes are its own, so nobody listens behind them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence

from pyopenshell.isolation import syscalls
from pyopenshell.isolation.assurance import NETWORK, Loss
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
from pyopenshell.isolation.walls import UID, Walls

_HOST_READ_ONLY = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt")
AGENTS_LINK = ("/etc/openshell/AGENTS.md", "/AGENTS.md")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_MOUNT_POINT = "/tmp"
"""Where the new root is assembled; exists and is searchable on every host. Sources were opened before."""
IMAGE_OWN = frozenset(("proc", "sys", "dev", "tmp", "run", "sandbox", "etc", "var", AGENTS_LINK[1][1:]))
"""Names in the root that are ours whatever an image has there; /etc and /var are ours over the image's."""
_IMAGE = "/.image"
INJECTED_ETC, HOST_ETC = "/.etc", "/.host-etc"
"""Where the parts of /etc lie when it is a farm of symbolic links: Landlock must allow what the links lead to."""
_MAX_SPLIT = 512
"""Entries a directory with mounts below it may have to be shown entry by entry; about 15 us each."""


def open_sources(walls: Walls) -> list[int]:
    """Root only: detached copies of the sources ([etc, *binds]), opened with *our* rights.

    The sandbox's id needs no search permission on their parents then. Raises OSError.
    """
    return [syscalls.open_tree(path) for path in _sources(walls)]


def _sources(walls: Walls) -> list[str]:
    return [walls.etc, *(bind.source for bind in walls.binds), *([walls.image] if walls.image else [])]


def build(walls: Walls, trees: Sequence[int]) -> list[Loss]:
    """Assemble and enter the new root; returns what could not be done as well as it should. Raises OSError.

    `trees`: what `open_sources` gave; empty: bind by path.
    """
    mount(None, "/", None, MS_REC | MS_SLAVE)  # nothing mounted here leaks back out
    attached = bool(trees)
    sources = list(trees) or [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in _sources(walls)]
    root = _MOUNT_POINT
    mount("sandbox", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=8m")
    os.mkdir(root + "/dev")
    host = HostTrees(root + "/dev", sealed=walls.sealed)  # empty, and _devices covers it
    os.mkdir(root + "/var")
    if walls.image:
        _attach(sources[-1], root + _IMAGE, attached, writable=False)
        _show_image(root, host)
    else:
        _programs(root, host)
    _attach(sources[0], root + INJECTED_ETC, attached, writable=False)
    _etc(root, host, root + _IMAGE + "/etc" if walls.image else "/etc")
    if walls.image:
        syscalls.umount(root + _IMAGE, syscalls.MNT_DETACH)
        os.rmdir(root + _IMAGE)
    if walls.tier != "A":
        _names(root, walls)
    _devices(root)
    _procfs(root)
    own = "" if walls.tier == "A" else f",uid={walls.host_uid},gid={walls.host_gid}"
    for path, options in (("/tmp", f"mode=1777,size={walls.tmp_megabytes}m"), ("/run", f"mode=755,size=16m{own}")):
        os.mkdir(root + path)
        mount("tmpfs", root + path, "tmpfs", MS_NOSUID | MS_NODEV, options)
    os.symlink("/tmp", root + "/var/tmp")
    for bind, source in zip(walls.binds, sources[1:], strict=False):
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
    return host.losses


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


def overlay(upper: str, lower: str, target: str) -> None:
    """Two directories as one read-only tree. Raises OSError: no overlayfs, or (in a user namespace) mounts below them.

    Layers go by descriptor: paths would need escaping, and /proc/self/mountinfo would tell them inside.
    """
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV
    with _directory(upper) as above, _directory(lower) as below:
        if os.fstatvfs(below).f_flag & os.ST_NOEXEC:  # an overlay does not inherit it
            flags |= MS_NOEXEC
        mount("overlay", target, "overlay", flags, f"lowerdir=/proc/self/fd/{above}:/proc/self/fd/{below},userxattr")


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class HostTrees:
    """Shows directories of the host read-only and without their sockets and FIFOs, as far as the kernel lets it."""

    def __init__(self, empty: str, *, sealed: bool = False) -> None:
        """`empty` is a directory that is and stays empty; it may be mounted over later.

        `sealed`: there is no socket or FIFO in these trees, so that nothing is lost where overlays are refused.
        """
        self.empty, self._sealed = empty, sealed
        self._mounts: list[str] | None = None
        self.losses: list[Loss] = []

    def show(self, path: str, target: str) -> None:
        """The tree at `path` appears at `target`, which must not exist."""
        os.mkdir(target)
        try:
            overlay(self.empty, path, target)
        except OSError as error:
            if not self._split(path, target):
                if not self._sealed:
                    reason = os.strerror(error.errno or 0)
                    text = f"{path} is a plain bind mount ({reason}): unix sockets of the host in it can be reached"
                    self.losses.append(Loss(NETWORK, text))
                _bind(path, target, read_only=True)

    def _split(self, path: str, target: str) -> bool:
        """Mounts below `path` are why an overlay is refused: show its entries one by one. False: that is not why."""
        if self._mounts is None:
            self._mounts = _mount_points()
        if not any(point.startswith(path + "/") for point in self._mounts):
            return False
        try:
            with os.scandir(path) as found:
                entries = list(found)
        except OSError:
            return False
        if len(entries) > _MAX_SPLIT:
            return False
        for entry in entries:
            self.show_entry(entry, f"{target}/{entry.name}")
        return True

    def show_entry(self, entry: os.DirEntry[str], place: str) -> None:
        """One entry of a directory; links as they are, other things than files and directories not at all."""
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        elif entry.is_dir():
            self.show(entry.path, place)
        elif entry.is_file():
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            _bind(entry.path, place, read_only=True)


def _mount_points() -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        fields = [line.split(" ", 5)[4] for line in file]
    return [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field) for field in fields]


def _programs(root: str, host: HostTrees) -> None:
    for path in _HOST_READ_ONLY:
        if os.path.islink(path):  # merged /usr: /bin -> usr/bin
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            host.show(path, root + path)


def _show_image(root: str, host: HostTrees) -> None:
    """What an image has in its root and in /var, read-only; no link of it is followed here."""
    places = [(root + _IMAGE, root, IMAGE_OWN)]
    if _is_directory(root + _IMAGE + "/var"):
        places.append((root + _IMAGE + "/var", root + "/var", frozenset(("log", "tmp", "run", "lock"))))
    for source, target, own in places:
        with os.scandir(source) as found:
            entries = list(found)
        if len(entries) > _MAX_SPLIT:
            raise OSError(errno.E2BIG, f"the image has more than {_MAX_SPLIT} names in / or /var")
        for entry in entries:
            if entry.name not in own and not os.path.lexists(f"{target}/{entry.name}"):
                host.show_entry(entry, f"{target}/{entry.name}")


def _is_directory(path: str) -> bool:
    """Not a link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def _etc(root: str, host: HostTrees, below: str) -> None:
    """The injected layer over `below`, both read-only; a symlink farm where overlayfs refuses."""
    target, layer = root + "/etc", root + INJECTED_ETC
    os.mkdir(target)
    if not _is_directory(below):
        below = host.empty
    try:
        overlay(layer, below, target)
    except OSError:  # no overlayfs, or /etc has mounts below it (containers)
        host.show(below, root + HOST_ETC)
        _farm(root, layer, "/etc", target)
        return
    syscalls.umount(layer, syscalls.MNT_DETACH)
    os.rmdir(layer)


def _names(root: str, walls: Walls) -> None:
    """The user `sandbox` under the id that it has where none is mapped."""
    layer = root + INJECTED_ETC if os.path.isdir(root + INJECTED_ETC) else root + "/etc"
    for name in ("passwd", "group"):
        with open(f"{layer}/{name}", encoding="ascii") as file:
            text = file.read()
        for known, ours in (
            (f":{UID}:{UID}:", f":{walls.host_uid}:{walls.host_gid}:"),
            (f":{UID}:", f":{walls.host_gid}:"),
        ):
            text = text.replace(known, ours)
        own = f"{root}/.{name}"
        with open(own, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(own, 0o644)
        _bind(own, f"{layer}/{name}", read_only=True)


def _farm(root: str, layer: str, below: str, target: str) -> None:
    """Merge one directory level: ours first, directories present in both are merged, the host's for the rest."""
    host = root + HOST_ETC + below.removeprefix("/etc")
    ours = layer + below.removeprefix("/etc")
    names = set(os.listdir(ours))
    for name in names:
        source = os.path.join(ours, name)
        if os.path.isdir(source) and not os.path.islink(source):
            os.mkdir(os.path.join(target, name))
            _farm(root, layer, f"{below}/{name}", os.path.join(target, name))
        else:
            os.symlink(f"{INJECTED_ETC}{below.removeprefix('/etc')}/{name}", os.path.join(target, name))
    if not os.path.isdir(host):
        return
    for name in os.listdir(host):
        if name not in names:
            os.symlink(f"{HOST_ETC}{below.removeprefix('/etc')}/{name}", os.path.join(target, name))


def _devices(root: str) -> None:
    device = root + "/dev"
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
    """Our PID namespace only. Not hidepid=2: Landlock makes sibling sessions un-inspectable, so `ps` would be blind.

    Read-only whatever filesystem_policy says: a command must not lower its oom_score_adj.
    """
    os.mkdir(root + "/proc")
    mount("proc", root + "/proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _cpu_information(root: str) -> None:
    source = "/sys/devices/system/cpu"
    os.mkdir(root + "/sys")
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(source).st_mode):
            os.makedirs(root + source)
            _bind(source, root + source, read_only=True)
