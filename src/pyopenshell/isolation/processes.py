"""What /proc says about one process: parents, executable, the file behind it. Decides nothing.

`proc` is a path prefix: "/proc" (pids of this namespace) or "/proc/self/fd/N" of a sandbox's own procfs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

_DELETED = " (deleted)"
MAX_ANCESTORS = 64

Key = tuple[int, int, int, int, int]
"""(dev, ino, size, mtime_ns, ctime_ns): one state of one file."""


class Status(NamedTuple):
    parent: int
    group: int
    """Thread group id: the process."""
    inside: int
    """Process id in the innermost PID namespace."""
    threads: int


class Stat(NamedTuple):
    """Half as dear to read as `Status`."""

    parent: int
    start: int
    """Clock ticks after boot, usually 10 ms each. Of the thread when asked for one."""


class Image(NamedTuple):
    """An executable: path as the kernel resolved it inside, the file, and whether no name leads to it any more."""

    path: str
    key: Key
    deleted: bool


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def read_status(pid: int, proc: str = "/proc") -> Status:
    """Works for a thread id too, also while the thread is frozen. Raises OSError, ValueError."""
    data = _read(f"{proc}/{pid}/status")
    # The name (first line) is the process's own choice; the kernel escapes newlines in it, so line starts are safe.
    parent, group, inside = _field(data, b"\nPPid:")[0], _field(data, b"\nTgid:")[0], _field(data, b"\nNStgid:")[-1]
    return Status(parent, group, inside, _field(data, b"\nThreads:")[0])


def _field(data: bytes, name: bytes) -> list[int]:
    start = data.index(name) + len(name)
    return [int(part) for part in data[start : data.index(b"\n", start)].split()]


def read_stat(pid: int, proc: str = "/proc") -> Stat:
    """Raises OSError, ValueError."""
    data = _read(f"{proc}/{pid}/stat")
    # The name may hold anything, so count from its closing bracket: field 3 is the first there.
    fields = data[data.rindex(b")") + 2 :].split(None, 20)
    return Stat(int(fields[1]), int(fields[19]))


def has_children(pid: int, proc: str = "/proc") -> bool:
    """Whether a process's *first* thread has children, zombies included. Exact at the instant of the call.

    Raises FileNotFoundError where the kernel was built without CONFIG_PROC_CHILDREN, or when the process is gone.
    """
    return bool(_read(f"{proc}/{pid}/task/{pid}/children"))


def stat_key(info: os.stat_result) -> Key:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def read_image(pid: int, proc: str = "/proc") -> Image:
    """The running image of a process. Raises OSError.

    The kernel appends " (deleted)" to an unlinked file's path. It is taken off only when the file really has no link:
    a living file may be *named* so.
    """
    link = f"{proc}/{pid}/exe"
    path = os.readlink(link)
    info = os.stat(link)
    deleted = info.st_nlink == 0
    if deleted and path.endswith(_DELETED):
        path = path.removesuffix(_DELETED)
    return Image(path, stat_key(info), deleted)


CHAIN_BYTES = 4 << 20
"""Of the chains of programs that a watcher speaks of by number; `weight` says what one counts."""
_LINK_BYTES = 256


def weight(paths: Iterable[str]) -> int:
    """What a chain of programs costs whoever remembers it. Paths are the sandbox's choice, up to 4 KiB each."""
    return sum(_LINK_BYTES + len(path) for path in paths)


class Ancestor(NamedTuple):
    pid: int
    start: int
    image: Image


def ancestors(child: int, parent: int, stop: int, proc: str = "/proc") -> list[Ancestor]:
    """The chain from `parent` of `child`, nearest first, up to but without `stop` (the sandbox's init); 64 at most.

    Raises ProcessLookupError or FileNotFoundError when it changed meanwhile: read again.
    """
    chain: list[Ancestor] = []
    born = -1
    while parent > 1 and parent != stop and len(chain) < MAX_ANCESTORS:
        image = read_image(parent, proc)
        stat = read_stat(parent, proc)
        # An id passes on only after its process died and lost its children, so whoever has it then is younger than
        # they are. The clock is coarse: where it does not decide, ask the child again.
        if stat.start >= born and read_stat(child, proc).parent != parent:
            raise ProcessLookupError(f"the parent of {child} ended")
        chain.append(Ancestor(parent, stat.start, image))
        child, born, parent = parent, stat.start, stat.parent
    return chain
