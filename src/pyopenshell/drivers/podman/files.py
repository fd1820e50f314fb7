"""Directories of container sandboxes on the host: those of the local driver, one for the door, and a copy of Python.

<state>/runtime-<digest>/           what runs the init of every container; see `runtime`
<state>/sandboxes/<id>/door/        the socket on which a container's init reports, once
<state>/sandboxes/<id>/container.log    what the init said before anybody listened
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Final

from pyopenshell.drivers.local.files import StateFiles
from pyopenshell.drivers.podman import runtime
from pyopenshell.isolation.environment import PYTHON_PARTS
from pyopenshell.isolation.walls import UID, Bind, WallError

IDS: Final = 65536
"""User ids that a container has."""
_BLOCKS: Final = range(0x7000, 0x7FFF)
"""Host ids of containers as root: one block of IDS each, above systemd's container range, below 2**31."""
DOOR, SOCKET, LOG = "door", "init.sock", "container.log"


class ContainerFiles(StateFiles):
    """As root every sandbox has a block of host ids of its own; else its user is the caller, as for local sandboxes."""

    parts = (*StateFiles.parts, DOOR)

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.runtime = runtime.install(state)

    def sweep(self) -> None:
        super().sweep()
        for name in os.listdir(os.path.join(self.state, "sandboxes")):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.state, "sandboxes", name, DOOR, SOCKET))

    def host_ids(self, sandbox_id: str) -> tuple[int, int]:
        """(uid, gid) that the sandbox's user is outside. Raises WallError."""
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        owned = [os.path.join(self.root(sandbox_id), part) for part in ("workspace", DOOR)]
        owner = os.lstat(owned[0]).st_uid
        if owner == 0:
            owner = self._fresh_block() * IDS + UID
        for path in owned:
            os.chown(path, owner, owner, follow_symlinks=False)
        return owner, owner

    def binds(self, sandbox_id: str) -> tuple[Bind, ...]:
        """Read-only unless said: also the door, the runtime, and the parts of /etc that every image needs anew."""
        door = Bind(os.path.join(self.root(sandbox_id), DOOR), runtime.INSIDE_DOOR)
        names = ("resolv.conf", "hosts", os.path.basename(PYTHON_PARTS))
        etc = tuple(Bind(os.path.join(self.etc, name), f"/etc/{name}") for name in names)
        return (*super().binds(sandbox_id), door, Bind(self.runtime, runtime.INSIDE), *etc)

    def _fresh_block(self) -> int:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            maps = [[int(part) for part in line.split()] for line in file]
        last = (_BLOCKS[-1] + 1) * IDS
        if not any(first <= _BLOCKS[0] * IDS and last <= first + count for first, _, count in maps):
            raise WallError(
                "IdMapRefused",
                "this gateway has no block of host ids to give to a container",
                "run the gateway where /proc/self/uid_map covers its own id, or as root with unmapped ids to spare",
            )
        taken = {owner // IDS for owner in self._owners()}
        free = [block for block in _BLOCKS if block not in taken]
        if not free:
            raise WallError("IdMapRefused", "no block of host ids is left for another sandbox", "delete some sandboxes")
        return secrets.choice(free)
