"""The door through which a container's init reports to the driver host, and a look at who came through.

A socket in a directory that only this container was given; one connection, then it is gone. Decides whether what
Podman made is closed off as it was asked to be: nothing is believed that can be seen from outside.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct

from pyopenshell.drivers.podman.runtime import INSIDE
from pyopenshell.isolation import syscalls
from pyopenshell.isolation.walls import WallError

CAPABILITIES = ("NET_ADMIN", "SETPCAP")
"""All that an init has, in its own user namespace: to make the fence, and to empty the bounding set for commands."""
_BITS = {"NET_ADMIN": 12, "SETPCAP": 8}
_NAMESPACES = ("user", "net", "mnt", "pid", "ipc", "uts")
_SO_PEERPIDFD = 77


class Door:
    """Listens in `directory` for the one init whose user is `uid` outside. Raises OSError."""

    def __init__(self, directory: str, name: str, uid: int) -> None:
        self._uid, self._name = uid, name
        os.chmod(directory, 0o700)
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._directory)
            # By way of a descriptor: the path itself may be longer than a socket address can hold.
            self.listener.bind(f"/proc/self/fd/{self._directory}/{name}")
            os.chown(name, uid, -1, dir_fd=self._directory, follow_symlinks=False)
            self.listener.listen(1)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Idempotent."""
        if self._directory >= 0:
            self.listener.close()
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._directory)
            os.close(self._directory)
            self._directory = -1

    def admit(self) -> tuple[int, int, socket.socket]:
        """(pid, pidfd, channel) of who knocked. Raises WallError when it is not shut in, OSError when it left."""
        channel, _ = self.listener.accept()
        try:
            pid, uid, _ = struct.unpack("iII", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            pidfd = _pidfd(channel, pid)
        except OSError:
            channel.close()
            raise
        try:
            if uid != self._uid:
                raise WallError("ContainerNotClosed", f"its init is user {uid} outside, not {self._uid}")
            examine(pid)
            syscalls.pidfd_kill(pidfd, 0)  # still the same process: what was read is about it
        except BaseException:
            with contextlib.suppress(OSError):
                syscalls.pidfd_kill(pidfd, 9)
            os.close(pidfd)
            channel.close()
            raise
        return pid, pidfd, channel


def _pidfd(channel: socket.socket, pid: int) -> int:
    try:
        return struct.unpack("i", channel.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4))[0]  # type: ignore[no-any-return]
    except OSError:  # before Linux 6.5
        return os.pidfd_open(pid)


def examine(pid: int, proc: str = "/proc") -> None:
    """Whether a process is the first of namespaces of its own and stripped of rights. Raises WallError, OSError."""
    wrong = [
        f"it shares the {kind} namespace of the host"
        for kind in _NAMESPACES
        if os.readlink(f"{proc}/{pid}/ns/{kind}") == os.readlink(f"{proc}/self/ns/{kind}")
    ]
    with open(f"{proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    if status["NSpid"].split()[-1] != "1":
        wrong.append("its init is not its first process")
    allowed = sum(1 << _BITS[name] for name in CAPABILITIES)
    if any(int(status[kind], 16) & ~allowed for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")):
        wrong.append(f"it has capabilities beside {', '.join(CAPABILITIES)}")
    if status["NoNewPrivs"] != "1":
        wrong.append("it may gain privileges")
    with open(f"{proc}/{pid}/maps", encoding="utf-8", errors="replace") as file:
        mapped = {line.split(None, 5)[5].strip() for line in file if line.count("/")}
    if foreign := sorted(path for path in mapped if not path.startswith(f"{INSIDE}/")):
        wrong.append(f"its init runs code that is not ours: {', '.join(foreign)[:200]}")
    root = os.stat(f"{proc}/{pid}/root/.")
    if not os.statvfs(f"{proc}/{pid}/root/.").f_flag & os.ST_RDONLY:
        wrong.append("its root directory is writable")
    if not stat.S_ISDIR(root.st_mode) or (root.st_dev, root.st_ino) == _host_root(proc):
        wrong.append("its root directory is the host's")
    if wrong:
        raise WallError(
            "ContainerNotClosed",
            "Podman made a container that is not closed off as asked: " + "; ".join(wrong),
            "look for options in containers.conf that open every container",
        )


def _host_root(proc: str) -> tuple[int, int]:
    info = os.stat(f"{proc}/self/root/.")
    return info.st_dev, info.st_ino
