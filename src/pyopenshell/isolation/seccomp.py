"""seccomp: a small cBPF assembler, the filter every command gets, and the notifications the watcher answers.

The filters are a deny list for system calls (default allow, so programs keep working) and an allow list for socket
families. What is refused in a sandbox waits for the watcher, which refuses *and records* it; without a watcher left
the kernel answers ENOSYS. Facts: contract/sandbox.md 12; the additions are in isolation.md 5.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from pyopenshell.isolation import syscalls

_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 8, 32
_KILL_PROCESS, _ERRNO, _USER_NOTIFY, _ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000
_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(syscalls.MACHINE, 0)
_X32: Final = 0x40000000
"""Set in the number of an x32 call."""
_AT_NUMBER, _AT_ARCH, _AT_ARG0 = 0, 4, 16

_TABLE: Final = {
    #                x86_64 aarch64
    "socket": (41, 198),
    "connect": (42, 203),
    "clone": (56, 220),
    "clone3": (435, 435),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "ptrace": (101, 117),
    "bpf": (321, 280),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "execve": (59, 221),
    "execveat": (322, 281),
    "seccomp": (317, 277),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "process_mrelease": (448, 448),
    "lookup_dcookie": (212, 18),
    "lsm_set_self_attr": (460, 460),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "syslog": (103, 116),
    "prlimit64": (302, 261),
    "prctl": (157, 167),
    "ioctl": (16, 29),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    **({"modify_ldt": (154, 0), "iopl": (172, 0), "ioperm": (173, 0)} if syscalls.MACHINE == "x86_64" else {}),
}
NUMBER: Final = {name: numbers[0 if syscalls.MACHINE == "x86_64" else 1] for name, numbers in _TABLE.items()}

_SPECIAL: Final = frozenset(
    {"socket", "connect", "clone", "clone3", "sendto", "sendmsg", "sendmmsg"}
    | {"unshare", "execve", "execveat", "seccomp", "prlimit64", "prctl", "ioctl"}
)
DENIED: Final = tuple(name for name in _TABLE if name not in _SPECIAL)
"""Refused with EPERM whatever the arguments."""

_CLONE_NAMESPACES: Final = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)
_CLONE_NEWTIME: Final = 0x80
"""For unshare() only: in clone() this bit belongs to the exit signal."""
_PR_SET_SECCOMP = 22
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
"""They put words into a terminal's mouth."""
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_IPPROTO_MPTCP, _MSG_FASTOPEN, _AT_EMPTY_PATH = 262, 0x20000000, 0x1000


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _argument(index: int) -> bytes:
    """Load the low half of an argument (all supported machines are little-endian)."""
    return _instruction(_LOAD, _AT_ARG0 + 8 * index)


def _refuse(code: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | code)


_PASS: Final = _instruction(_RETURN, _ALLOW)
_NOTIFY: Final = _instruction(_RETURN, _USER_NOTIFY)
_Answer = Callable[[int], bytes]
"""The instruction for a call that is refused with this errno."""


def _prologue(foreign: bytes) -> list[bytes]:
    """Load the number of the call. Foreign ABIs (i386, x32), which would dodge the numbers below, get `foreign`."""
    program = [
        _instruction(_LOAD, _AT_ARCH),
        _instruction(_JEQ, _ARCH, 1, 0),
        foreign,
        _instruction(_LOAD, _AT_NUMBER),
    ]
    if syscalls.MACHINE == "x86_64":
        program += [_instruction(_JGE, _X32, 0, 1), foreign]
    return program


def _when(name: str, body: list[bytes]) -> list[bytes]:
    """`body` for one system call; it must end in a return."""
    return [_instruction(_JEQ, NUMBER[name], 0, len(body)), *body]


def _on_flag(name: str, argument: int, flags: int, answer: bytes) -> list[bytes]:
    return _when(name, [_argument(argument), _instruction(_JSET, flags, 0, 1), answer, _PASS])


def _socket_rules(answer: _Answer) -> list[bytes]:
    family, protocol = _argument(0), _argument(2)
    body = [
        # MPTCP: the subflow, not the socket the caller holds, owns the 4-tuple, so identity would not see it.
        protocol,
        _instruction(_JEQ, _IPPROTO_MPTCP, 0, 1),
        answer(errno.EPROTONOSUPPORT),
        family,
        _instruction(_JEQ, _AF_UNIX, 3, 0),
        _instruction(_JEQ, _AF_INET, 2, 0),
        _instruction(_JEQ, _AF_INET6, 1, 0),
        _instruction(_JEQ, _AF_NETLINK, 1, 4),
        _PASS,
        # getifaddrs() needs NETLINK_ROUTE (protocol 0); nothing else does.
        protocol,
        _instruction(_JEQ, 0, 0, 1),
        _PASS,
        answer(errno.EPERM),
    ]
    return _when("socket", body)


def _refusals(answer: _Answer) -> list[bytes]:
    program: list[bytes] = []
    for name in DENIED:
        program += [_instruction(_JEQ, NUMBER[name], 0, 1), answer(errno.EPERM)]
    program += _on_flag("clone", 0, _CLONE_NAMESPACES, answer(errno.EPERM))
    program += _on_flag("unshare", 0, _CLONE_NAMESPACES | _CLONE_NEWTIME, answer(errno.EPERM))
    # prlimit of another process: init has the command's uid and could be starved of descriptors.
    program += _when("prlimit64", [_argument(0), _instruction(_JEQ, 0, 1, 0), answer(errno.EPERM), _PASS])
    terminal = [_instruction(_JEQ, _TIOCSTI, 1, 0), _instruction(_JEQ, _TIOCLINUX, 0, 1), answer(errno.EPERM), _PASS]
    program += _when("ioctl", [_argument(1), *terminal])
    # MSG_FASTOPEN connects without connect(): the watcher would not see it.
    for name, index in _SENDING:
        program += _on_flag(name, index, _MSG_FASTOPEN, answer(errno.EOPNOTSUPP))
    return program + _socket_rules(answer)


_SENDING: Final = (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3))


def command_filter(*, watched: bool = False) -> bytes:
    """What every command runs under: default allow, dangerous calls EPERM, clone3 ENOSYS (libc falls back).

    `watched`: under a `watched_filter`, which has most of it; then only what init itself must still be able to do.
    """
    program = _prologue(_PASS if watched else _instruction(_RETURN, _KILL_PROCESS))
    program += [_instruction(_JEQ, NUMBER["clone3"], 0, 1), _refuse(errno.ENOSYS)]
    for name, operation in (("seccomp", _SET_MODE_FILTER), ("prctl", _PR_SET_SECCOMP)):
        program += _when(name, [_argument(0), _instruction(_JEQ, operation, 0, 1), _refuse(errno.EPERM), _PASS])
    if not watched:
        program += _on_flag("execveat", 4, _AT_EMPTY_PATH, _refuse(errno.EPERM))
        program += _refusals(_refuse)
    return b"".join([*program, _PASS])


def watched_filter() -> bytes:
    """Stacks with `command_filter`: connect(), execve(), execveat() and all that is refused wait for the watcher."""
    program = _prologue(_NOTIFY)
    for name in ("connect", "execve", "execveat"):
        program += [_instruction(_JEQ, NUMBER[name], 0, 1), _NOTIFY]
    return b"".join([*program, *_refusals(lambda _: _NOTIFY), _PASS])


def install(program: bytes, flags: int = 0) -> int:
    """Load a filter on this thread. Needs no_new_privs or CAP_SYS_ADMIN in the user namespace."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
    return syscalls.syscall("seccomp", _SET_MODE_FILTER, flags, header)


def install_listener(program: bytes) -> int:
    """Load a notifying filter, return its descriptor.

    WAIT_KILLABLE (5.19) keeps signals from interrupting a received notification: without it a timer or Go's SIGURG
    makes connect() report false results (isolation.md 4).
    """
    return install(program, _NEW_LISTENER | _WAIT_KILLABLE)


_RECEIVE, _SEND, _ID_VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104
_CONTINUE = 1


class Notification(NamedTuple):
    """A thread frozen in a system call. `thread` is its id in the watcher's PID namespace."""

    id: int
    thread: int
    number: int
    arguments: tuple[int, ...]
    """All six, whatever the call makes of them."""
    native: bool
    """False for a call by another ABI (i386, x32), whose numbers mean something else."""

    @property
    def descriptor(self) -> int:
        """The first argument where it is one."""
        return self.arguments[0] & 0xFFFFFFFF


def receive(fd: int) -> Notification:
    """Next notification. Raises OSError(ENOENT) when the thread died meanwhile."""
    buffer = bytearray(80)
    fcntl.ioctl(fd, _RECEIVE, buffer, True)
    identifier, thread, _, number, machine, _, *arguments = struct.unpack_from("=QIIiIQ6Q", buffer)
    return Notification(identifier, thread, number, tuple(arguments), machine == _ARCH and number < _X32)


_NAMES: Final = {number: name for name, number in NUMBER.items()}
_FAMILIES: Final = {40: "AF_VSOCK", 17: "AF_PACKET", 38: "AF_ALG", 16: "AF_NETLINK", 44: "AF_XDP", 31: "AF_BLUETOOTH"}


class Refusal(NamedTuple):
    """A call that is refused whoever makes it: what it is called in the log, and the errno."""

    name: str
    code: int


def refusal(call: Notification) -> Refusal | None:
    """Why a reported call must not run; None for connect() and execve(), which may. Pure."""
    if not call.native:
        return Refusal("a system call of another ABI (32-bit or x32)", errno.EPERM)
    name = _NAMES.get(call.number, str(call.number))
    if name in ("connect", "execve"):
        return None
    if name == "execveat":
        return Refusal("execveat(AT_EMPTY_PATH)", errno.EPERM) if call.arguments[4] & _AT_EMPTY_PATH else None
    if name == "socket":
        family, protocol = call.arguments[0] & 0xFFFFFFFF, call.arguments[2] & 0xFFFFFFFF
        if protocol == _IPPROTO_MPTCP:
            return Refusal("socket(IPPROTO_MPTCP)", errno.EPROTONOSUPPORT)
        what = _FAMILIES.get(family, f"family {family}")
        return Refusal(f"socket({what})", errno.EPERM)
    if name in dict(_SENDING):
        return Refusal(f"{name}(MSG_FASTOPEN)", errno.EOPNOTSUPP)
    if name in ("clone", "unshare"):
        return Refusal(f"{name}() into a new namespace", errno.EPERM)
    if name == "ioctl":
        return Refusal("ioctl(TIOCSTI or TIOCLINUX)", errno.EPERM)
    return Refusal("prlimit() of another process" if name == "prlimit64" else name, errno.EPERM)


def valid(fd: int, identifier: int) -> bool:
    """True while the thread is still frozen in that very call: its ids were not recycled."""
    try:
        fcntl.ioctl(fd, _ID_VALID, struct.pack("=Q", identifier))
    except OSError:
        return False
    return True


def resume(fd: int, identifier: int) -> None:
    """Let the call run. Safe because only the caller's identity was read, never memory it can change."""
    fcntl.ioctl(fd, _SEND, struct.pack("=QqiI", identifier, 0, 0, _CONTINUE))


def fail(fd: int, identifier: int, code: int) -> None:
    fcntl.ioctl(fd, _SEND, struct.pack("=QqiI", identifier, 0, -code, 0))


def wake_on_this_cpu(fd: int) -> None:
    """Linux 6.6: hand the CPU over directly; roughly halves the round trip."""
    fcntl.ioctl(fd, _SET_FLAGS, 1)
