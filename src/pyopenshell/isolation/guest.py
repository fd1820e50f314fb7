"""PID 1 of a container: the sandbox's init where an engine, not our zygote, made the namespaces and the file tree.

It reports to the driver host on a socket that only this container was given, is told there which walls to build, and
from then on is `init`: it makes every socket, hands them out, and forks restricted commands. It has two capabilities of
its own user namespace (NET_ADMIN, SETPCAP); commands get none. Imports nothing beyond the standard library.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import socket
import sys
import traceback
from typing import NoReturn

from pyopenshell.isolation import channel, init, network, syscalls
from pyopenshell.isolation.walls import UID, WallError, Walls, wall

_NOT_THE_IMAGES = frozenset({"dev", "proc", "run", "sys", "tmp", ".openshell", ".openshell-door"})
_MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Part of /usr on most systems. Where an image keeps them apart, whoever may read /usr may read these."""


def main(path: str) -> NoReturn:
    """Never returns. Ends, and with it the container, when the driver host or the supervisor does."""
    code = 1
    try:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        control.connect(path)
        message, fds = channel.receive(control)
        if message is None:
            os._exit(1)
        syscalls.set_process_name("openshell-init")
        walls = Walls.from_message(message["walls"])
        syscalls.set_command_line(init.command_line(walls.owner))
        gc.disable()
        _serve(control, socket.socket(fileno=fds[0]), walls, message["held"])
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it is the container's last word
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _serve(control: socket.socket, lifeline: socket.socket, walls: Walls, held: list[str]) -> None:
    try:
        with wall("PrivilegesNotDropped"):
            if os.getpid() != 1 or os.getresuid() != (UID, UID, UID):
                raise OSError("not started as the container's first process, or as another user")
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        with wall("NetworkRefused"):
            others = [name for _, name in socket.if_nameindex() if name != "lo" and _is_up(name)]
            if others:
                raise OSError(f"the container has network interfaces: {', '.join(others)}")
        net = network.build(accept_weaker=walls.accept_weaker)
        built = init.seal(_paths(walls), net, [], held)
    except WallError as error:
        channel.send(control, {"failed": error.as_message()})
        return
    init.serve(control, lifeline, built)


def _is_up(name: str) -> bool:
    """Kernels put unused tunnel devices (tunl0, sit0) into every network namespace."""
    with open(f"/sys/class/net/{name}/flags", encoding="ascii") as file:
        return bool(int(file.read(), 16) & 1)


def _paths(walls: Walls) -> Walls:
    """Paths of the filesystem policy as this image has them."""
    if walls.implied:
        # Nobody wrote a filesystem policy: all of the image is for reading. Nothing of the host is in it.
        top = [f"/{name}" for name in os.listdir("/") if name not in _NOT_THE_IMAGES]
        wanted = {*top, "/proc", "/sys/devices/system/cpu"} - set(walls.read_write)
        read = sorted(path for path in wanted if os.path.exists(path))
    else:
        read = list(walls.read_only)
        if "/usr" in read:
            read += [path for path in _MERGED if os.path.isdir(path) and not os.path.islink(path) and path not in read]
    return dataclasses.replace(walls, read_only=tuple(read))
