"""What a killed driver host left running: found at the start of the next one, and ended before that makes anything.

Normally nothing: the kernel ends every process of a sandbox with its host (PR_SET_PDEATHSIG), and namespaces, mounts
and sockets with the last process that has them. But that takes a moment, in which a successor must not start the same
sandboxes again, nor fail to remove a control group that is still full. Decides by name and state directory; only
processes this user may signal are ever ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator

from pyopenshell.isolation import cgroups, init, syscalls

END_SECONDS = 10.0
_HOSTS = (b"pyopenshell.drivers.local.host", b"pyopenshell.drivers.podman.host")


def end(state: str, seconds: float = END_SECONDS) -> list[int]:
    """Kill what belongs to this state directory and is not ours, and wait; returns who is still there.

    The caller holds the host's lock, so whatever is found is an earlier host's.
    """
    handles = {}
    for pid in _found(state):
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        # Asked again now that the pid cannot be another process any more.
        if _belongs(pid, state):
            with contextlib.suppress(OSError):
                syscalls.pidfd_kill(handle, signal.SIGKILL)
            handles[handle] = pid
        else:
            os.close(handle)
    deadline = time.monotonic() + seconds
    while handles and (rest := deadline - time.monotonic()) > 0:
        for handle in select.select(list(handles), [], [], rest)[0]:
            os.close(handle)
            del handles[handle]
    for handle in handles:
        os.close(handle)
    return sorted(handles.values())


def _found(state: str) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and _belongs(int(name), state):
            yield int(name)


def _belongs(pid: int, state: str) -> bool:
    """A helper, supervisor or init of a host on this state directory that is neither this process nor its child."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read(8192).rstrip(b"\0").split(b"\0")
        if arguments[0] == init.command_line(cgroups.owner_name(state)).encode():
            return True
        if not any(host in arguments for host in _HOSTS) or b"--state" not in arguments[:-1]:
            return False
        if arguments[arguments.index(b"--state") + 1] != os.fsencode(state):
            return False
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, IndexError):
        return False
    return fields[0] not in b"ZX" and os.getpid() not in (pid, int(fields[1]))
