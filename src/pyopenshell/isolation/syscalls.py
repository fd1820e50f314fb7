"""Thin ctypes wrappers for the system calls the standard library lacks. Decides nothing.

Errors become OSError. `clone` keeps the GIL and runs CPython's own fork hooks; call it only in a process with one
thread (the zygote).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Any, Final

_libc = ctypes.CDLL(None, use_errno=True)
_libc_with_gil = ctypes.PyDLL(None, use_errno=True)

MACHINE: Final = platform.machine()
_COLUMN: Final = {"x86_64": 0, "aarch64": 1}.get(MACHINE, 0)
_NUMBERS: Final = {
    #                           x86_64 aarch64
    "clone": (56, 220),
    "pivot_root": (155, 41),
    "mount_setattr": (442, 442),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "seccomp": (317, 277),
    "capset": (126, 91),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "close_range": (436, 436),
    "openat2": (437, 437),
    "process_vm_readv": (310, 270),
}
NUMBER: Final = {name: numbers[_COLUMN] for name, numbers in _NUMBERS.items()}

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_PIDFD = 0x10000000, 0x20000000, 0x40000000, 0x1000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 32, 4096, 16384, 1 << 19
MNT_DETACH = 2
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_IN_ROOT = 2, 4, 16
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 4, 15, 23, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def syscall(name: str, *arguments: Any) -> int:
    """Raw call; ints are passed as long, everything else as ctypes takes it."""
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _check(_libc.syscall(ctypes.c_long(NUMBER[name]), *values), name)


def prctl(operation: int, a: int = 0, b: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    return _check(_libc.prctl(operation, ctypes.c_ulong(a), ctypes.c_ulong(b), zero, zero), f"prctl({operation})")


def give_back_memory() -> None:
    """Hand what was freed back to the kernel; the C library keeps it until it is asked (glibc can be)."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


def set_process_name(name: str) -> None:
    """What `ps` shows as comm; at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _libc.prctl(PR_SET_NAME, buffer, 0, 0, 0)


def set_command_line(text: str) -> None:
    """Replace what /proc/self/cmdline shows, which every process that can see us may read; cut to the room there is."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, fields 48 and 49 of the whole line
    if end - start < 2:
        return
    room = end - start - 1
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text.encode()[:room], min(len(text.encode()), room))


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    def encode(value: str | None) -> bytes | None:
        return None if value is None else os.fsencode(value)

    result = _libc.mount(encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), encode(data))
    _check(result, f"mount {kind or source} on {target}")


def umount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    syscall("pivot_root", ctypes.c_char_p(os.fsencode(new)), ctypes.c_char_p(os.fsencode(old)))


def mount_setattr(path: str, attributes: int, *, recursive: bool = True) -> None:
    """Set mount attributes on a whole tree (Linux 5.12).

    Unlike a MS_REMOUNT|MS_BIND it does not fail with EPERM in a user namespace when a locked flag is not repeated.
    """
    attr = ctypes.create_string_buffer(struct.pack("QQQQ", attributes, 0, 0, 0), 32)
    flags = AT_RECURSIVE if recursive else 0
    syscall("mount_setattr", AT_FDCWD, ctypes.c_char_p(os.fsencode(path)), flags, attr, 32)


def open_tree(path: str) -> int:
    """Detached copy of the mount tree at `path`, opened with the caller's rights. Needs CAP_SYS_ADMIN here."""
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    return syscall("open_tree", AT_FDCWD, ctypes.c_char_p(os.fsencode(path)), flags)


def move_mount(tree: int, target: str) -> None:
    syscall(
        "move_mount",
        tree,
        ctypes.c_char_p(b""),
        AT_FDCWD,
        ctypes.c_char_p(os.fsencode(target)),
        MOVE_MOUNT_F_EMPTY_PATH,
    )


def open_below(root: int, path: str) -> int:
    """O_PATH descriptor of `path` with the directory `root` as "/"; a link at its end is not followed, none before it.

    Raises OSError: ELOOP for a link on the way.
    """
    how = struct.pack("QQQ", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_IN_ROOT)
    return syscall("openat2", root, ctypes.c_char_p(os.fsencode(path)), ctypes.create_string_buffer(how, 24), 24)


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open `path` with the directory `root` as "/": links are followed, and lead nowhere else. Raises OSError."""
    how = struct.pack("QQQ", flags, 0, _RESOLVE_NO_MAGICLINKS | _RESOLVE_IN_ROOT)
    return syscall("openat2", root, ctypes.c_char_p(os.fsencode(path)), ctypes.create_string_buffer(how, 24), 24)


def sethostname(name: str) -> None:
    data = name.encode()
    _check(_libc.sethostname(data, ctypes.c_size_t(len(data))), "sethostname")


def pidfd_getfd(pidfd: int, fd: int) -> int:
    return syscall("pidfd_getfd", pidfd, fd, 0)


def read_memory(thread: int, address: int, size: int) -> bytes:
    """Bytes of another process's memory; fewer where it ends sooner. Raises OSError. Needs the right to trace it."""
    buffer = ctypes.create_string_buffer(size)
    own = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), size)
    other = (ctypes.c_size_t * 2)(address, size)
    count = syscall("process_vm_readv", thread, own, 1, other, 1, 0)
    return buffer.raw[:count]


def pidfd_kill(pidfd: int, signal: int) -> None:
    syscall("pidfd_send_signal", pidfd, signal, None, 0)


def close_from(first: int) -> None:
    """Close every descriptor >= first."""
    syscall("close_range", first, ctypes.c_long(0xFFFFFFFF), 0)


def close_except(*kept: int) -> None:
    """Close every descriptor but stdio and `kept`.

    Python objects that own a closed descriptor must then never be collected: for forks that end in os._exit() only.
    """
    first = 3
    for fd in sorted({fd for fd in kept if fd >= first}):
        if fd > first:
            syscall("close_range", first, fd - 1, 0)
        first = fd + 1
    close_from(first)


def clone(flags: int, exit_signal: int = 17) -> tuple[int, int]:
    """fork() into new namespaces: (pid, pidfd); pid 0 in the child. Raises OSError."""
    pidfd = ctypes.c_int(-1)
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    # Arguments four and five (child_tid, tls; swapped on aarch64) are unused.
    pid: int = _libc_with_gil.syscall(
        ctypes.c_long(NUMBER["clone"]),
        ctypes.c_ulong(flags | CLONE_PIDFD | exit_signal),
        None,
        ctypes.byref(pidfd),
        None,
        None,
    )
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0, -1
    code = ctypes.get_errno()
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, "clone: " + os.strerror(code))
    return pid, pidfd.value


def timerfd_create(clock: int) -> int:
    """A non-blocking timer descriptor (os.timerfd_create is new in Python 3.13)."""
    return _check(_libc.timerfd_create(clock, os.O_NONBLOCK | os.O_CLOEXEC), "timerfd_create")


def timerfd_settime(fd: int, nanoseconds: int) -> None:
    """Expire once, at this absolute time of the timer's clock; 0 disarms."""
    value = struct.pack("qqqq", 0, 0, nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
    absolute = 1
    _check(_libc.timerfd_settime(fd, absolute, ctypes.create_string_buffer(value, 32), None), "timerfd_settime")


def drop_capabilities() -> None:
    """Empty the ambient, effective, permitted and inheritable sets of this thread."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    data = ctypes.create_string_buffer(bytes(24))
    syscall("capset", header, data)


def drop_bounding_set() -> None:
    """No execve below this process can gain a capability again. Needs CAP_SETPCAP in the user namespace."""
    for capability in range(64):
        try:
            present = prctl(PR_CAPBSET_READ, capability)
        except OSError:
            return
        if present:
            prctl(PR_CAPBSET_DROP, capability)
