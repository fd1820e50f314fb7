"""One command inside a sandbox: fork of init, every privilege dropped in the right order, execve.

Decides the order and nothing else. Runs in init (PID 1) and in its fresh child.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import resource
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pyopenshell.isolation import landlock, seccomp, syscalls
from pyopenshell.isolation.walls import WORKDIR, WallError

_TIOCGPTN, _TIOCSPTLCK = 0x80045430, 0x40045431
_ABOVE_ALL = 64
"""Descriptors are first moved here, so that putting them into their places overwrites none of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Restrictions:
    """What every command loses. `landlock` is (ruleset descriptor, ABI), None where best effort found no Landlock."""

    program: bytes
    landlock: tuple[int, int] | None
    processes: int
    open_files: int
    memory: int | None = None
    """Bytes of data each process may have; None where something better limits it, or nobody asked."""
    ids: tuple[int, int] | None = None
    """User and group to become where init is not the sandbox's user already (tier C)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    argv: Sequence[str]
    environment: Mapping[str, str]
    workdir: str
    tty: bool
    columns: int
    rows: int

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Command:
        return cls(
            message["argv"],
            message["env"],
            message["cwd"] or WORKDIR,
            bool(message["tty"]),
            int(message["columns"]),
            int(message["rows"]),
        )


def start(command: Command, stdio: Sequence[int], restrictions: Restrictions) -> tuple[int, int | None]:
    """(pid, master of its terminal or None). Returns when execve succeeded.

    `stdio` are three descriptors, ignored with a tty. Raises WallError("CommandNotFound" | "CommandNotExecutable" |
    "WorkdirNotFound" | "PrivilegesNotDropped").
    """
    master = slave = None
    if command.tty:
        master, slave = _terminal(command.columns, command.rows, restrictions.ids)
        stdio = (slave, slave, slave)
    try:
        return _fork(command, stdio, restrictions), master
    except BaseException:
        if master is not None:
            os.close(master)
        raise
    finally:
        if slave is not None:
            os.close(slave)


def _terminal(columns: int, rows: int, owner: tuple[int, int] | None) -> tuple[int, int]:
    """A terminal of the *sandbox's* devpts, so that `tty` names it inside."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))[0]
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if owner is not None:
            os.fchown(slave, *owner)
        return master, slave
    except BaseException:
        os.close(master)
        raise


def _fork(command: Command, stdio: Sequence[int], restrictions: Restrictions) -> int:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _child(command, stdio, restrictions, writer)
    os.close(writer)
    report = b""
    while data := os.read(reader, 65536):  # end of file means execve closed it
        report += data
    os.close(reader)
    if report:
        os.waitpid(pid, 0)
        raise _failure(command, json.loads(report))
    return pid


def _failure(command: Command, report: Mapping[str, Any]) -> WallError:
    code, name, text = int(report["errno"]), command.argv[0], str(report["text"])
    if report["step"] == "workdir":
        return WallError("WorkdirNotFound", f"cannot enter {command.workdir!r}: {text}", "name a directory that exists")
    if report["step"] == "walls":
        return WallError("PrivilegesNotDropped", text, "allow capabilities in user namespaces")
    if code in (errno.ENOENT, errno.ENOTDIR):
        return WallError("CommandNotFound", f"{name!r} was not found in the sandbox", "check the name and PATH")
    return WallError("CommandNotExecutable", f"cannot execute {name!r}: {text}", "check the file's mode and format")


def _child(command: Command, stdio: Sequence[int], restrictions: Restrictions, writer: int) -> NoReturn:
    step = "walls"
    try:
        os.setsid()
        if command.tty:
            fcntl.ioctl(stdio[0], termios.TIOCSCTTY, 0)
        _only(stdio, writer, restrictions.landlock[0] if restrictions.landlock else None)
        writer = 3
        _limits(restrictions)
        os.umask(0o022)
        step = "workdir"
        os.chdir(command.workdir)
        step = "walls"
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)  # ignored signals survive execve, and CPython ignores two
        if restrictions.ids is not None:
            uid, gid = restrictions.ids
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        # The bounding set was emptied once by init.
        syscalls.drop_capabilities()
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if restrictions.landlock is not None:
            landlock.restrict(4, restrictions.landlock[1])
        seccomp.install(restrictions.program)  # last: it refuses seccomp() and more
        step = "exec"
        os.execvpe(command.argv[0], list(command.argv), dict(command.environment))  # noqa: S606 - no shell is wanted
    except BaseException as error:  # noqa: BLE001 - a fresh fork must never return into init's loop
        code = getattr(error, "errno", None) or 0
        os.write(writer, json.dumps({"step": step, "errno": code, "text": str(error)}).encode())
    finally:
        os._exit(127)


def _only(stdio: Sequence[int], writer: int, ruleset: int | None) -> None:
    """Leave exactly 0-2 for the command, 3 (error report) and 4 (Landlock), both close-on-exec."""
    wanted = [*stdio, writer] + ([] if ruleset is None else [ruleset])
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, _ABOVE_ALL) for fd in wanted]
    for place, fd in enumerate(high):
        os.dup2(fd, place, inheritable=place < 3)
    syscalls.close_from(len(high))


def _limits(restrictions: Restrictions) -> None:
    wanted: tuple[tuple[int, int], ...] = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, restrictions.processes),
        (resource.RLIMIT_NOFILE, restrictions.open_files),
    )
    if restrictions.memory is not None:
        wanted = (*wanted, (resource.RLIMIT_DATA, restrictions.memory))
    for kind, value in wanted:
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (limit, limit))
