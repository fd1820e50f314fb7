"""The only process that may clone(): small, one thread, forked from the driver host before anything heavy is imported.

Decides nothing; a request carries the walls, the answer the init's pidfd and control channel. Dies with the host.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable

from pyopenshell.isolation import cgroups, channel, init, mounts, syscalls
from pyopenshell.isolation.channel import Message
from pyopenshell.isolation.walls import ACCEPT, FIXES, UID, WallError, Walls, wall

_NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)


def fork_helper(name: str, serve: Callable[[socket.socket], None]) -> tuple[int, socket.socket]:
    """Fork a helper of the driver host that runs `serve(channel)`: (pid, our end). It dies with this process."""
    ours, theirs = channel.pair()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        die_with(parent)
        syscalls.close_except(theirs.fileno())
        syscalls.set_process_name(name)
        gc.collect()
        gc.freeze()
        gc.disable()
        serve(theirs)
    except BaseException:  # noqa: BLE001 - a fork must not run its parent's code
        traceback.print_exc()
    finally:
        os._exit(1)


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` (which forked it) ends."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def serve(requests: socket.socket) -> None:
    """{"launch": walls} + [lifeline] -> {"launched": pid} + [pidfd, control] or {"failed": ...}."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps; the host watches pidfds
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, fds = channel.receive(requests)
        if message is None:
            return
        try:
            answer, gift = _launch(Walls.from_message(message["launch"]), fds[0])
        except WallError as error:
            answer, gift = {"failed": error.as_message()}, []
        channel.close_all(fds)
        channel.send(requests, answer, gift)
        channel.close_all(gift)


def _launch(walls: Walls, lifeline: int) -> tuple[Message, list[int]]:
    ours, theirs = channel.pair()
    with ours, theirs:
        pid, pidfd, walls = _clone(walls)
        if pid == 0:
            _become_init(theirs, lifeline, walls)
        try:
            if walls.tier == "A":
                with wall("IdMapRefused"):
                    map_ids(pid, walls.host_uid, walls.host_gid)
            _first_to_go(pid)
            held = cgroups.confine(pid, walls.group, walls.limits) if walls.limits else {}
            trees = []
            if os.geteuid() == 0:
                with wall("MountsRefused"):
                    trees = mounts.open_sources(walls)
            channel.send(ours, {"go": True, "held": list(held)}, trees)
            channel.close_all(trees)
        except WallError:
            syscalls.pidfd_kill(pidfd, signal.SIGKILL)
            os.close(pidfd)
            if walls.group:
                cgroups.remove(walls.group)  # what is not empty yet is swept later
            raise
        return {"launched": pid, "held": held}, [pidfd, ours.detach()]


def _clone(walls: Walls) -> tuple[int, int, Walls]:
    """(pid, pidfd, the walls with the tier that this is). Raises WallError."""
    try:
        return *syscalls.clone(_NAMESPACES), walls
    except OSError as error:
        fix = FIXES["UserNamespacesUnavailable"]
        if os.geteuid() != 0:
            raise WallError("UserNamespacesUnavailable", str(error), fix) from error
        if not walls.accept_weaker:
            raise WallError("UserNamespacesUnavailable", str(error), f"{fix}; or {ACCEPT}") from error
    # Root, and no user namespaces (tier C): all others, and an id of the host's for the commands.
    with wall("NamespacesUnavailable"):
        return *syscalls.clone(_NAMESPACES & ~syscalls.CLONE_NEWUSER), dataclasses.replace(walls, tier="C")


def _become_init(control: socket.socket, lifeline: int, walls: Walls) -> None:
    """Keep stdio and the two channels, nothing else: a copy of another end would hide that end's death."""
    try:
        syscalls.close_except(control.fileno(), lifeline)
        init.main(control, socket.socket(fileno=lifeline), walls)
    except BaseException:  # noqa: BLE001 - a clone must not run the zygote's loop
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(1)


def _first_to_go(pid: int) -> None:
    """When the machine runs out of memory, a sandbox goes before its supervisor, the host and the gateway.

    Every command inherits it, and none can change it: the sandbox's /proc is read-only.
    """
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def map_ids(pid: int, host_uid: int, host_gid: int) -> None:
    """One line each: the sandbox's id straight to a host id. An unprivileged caller may only name its own.

    Capabilities in the new namespace do not depend on being uid 0, so no second, nested namespace is needed. Host id 0
    is refused: even without a capability it owns, and so reads, every root file.
    """
    if host_uid == 0 or host_gid == 0:
        raise OSError(1, "a sandbox must not be mapped to host id 0")
    files = [("uid_map", f"{UID} {host_uid} 1"), ("gid_map", f"{UID} {host_gid} 1")]
    if os.geteuid() != 0:
        files.insert(0, ("setgroups", "deny"))  # the kernel wants this before an unprivileged gid_map
    for name, value in files:
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
