"""What /proc says about one process: parents, executable, the file behind it. Decides nothing.

`proc` is a path prefix: "/proc" (pids of this namespace) or "/proc/self/fd/N" of a sandbox's own procfs.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_DELETED = " (deleted)"
_MAX_ANCESTORS = 64


class Status(NamedTuple):
    parent: int
    group: int
    """Thread group id: the process."""
    inside: int
    """Process id in the innermost PID namespace."""


class Image(NamedTuple):
    """An executable: path as the kernel resolved it inside, and (dev, ino, size, mtime_ns, ctime_ns) of the file."""

    path: str
    key: tuple[int, int, int, int, int]


def read_status(pid: int, proc: str = "/proc") -> Status:
    """Works for a thread id too, also while the thread is frozen. Raises OSError, ValueError."""
    fd = os.open(f"{proc}/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, 4096)
    finally:
        os.close(fd)
    # The name (first line) is the process's own choice; the kernel escapes newlines in it, so line starts are safe.
    return Status(_field(data, b"\nPPid:")[0], _field(data, b"\nTgid:")[0], _field(data, b"\nNStgid:")[-1])


def _field(data: bytes, name: bytes) -> list[int]:
    start = data.index(name) + len(name)
    return [int(part) for part in data[start : data.index(b"\n", start)].split()]


def stat_key(info: os.stat_result) -> tuple[int, int, int, int, int]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def read_image(pid: int, proc: str = "/proc") -> Image:
    """The running image of a process. Raises OSError.

    The kernel appends " (deleted)" to an unlinked file's path. It is taken off only when the file really has no link:
    a living file may be *named* so.
    """
    link = f"{proc}/{pid}/exe"
    path = os.readlink(link)
    info = os.stat(link)
    if path.endswith(_DELETED) and info.st_nlink == 0:
        path = path.removesuffix(_DELETED)
    return Image(path, stat_key(info))


def parents(first: int, stop: int, proc: str = "/proc") -> list[int]:
    """The parent chain from `first`, nearest first, up to but without `stop` (the sandbox's init)."""
    chain: list[int] = []
    pid = first
    while pid > 1 and pid != stop and len(chain) < _MAX_ANCESTORS:
        chain.append(pid)
        pid = read_status(pid, proc).parent
    return chain
