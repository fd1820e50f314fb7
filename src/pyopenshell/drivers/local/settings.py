"""From a configuration snapshot to walls: which parts of a policy the local driver itself must build.

Decides the mapping only; an unreadable or impossible section is an error before anything is built.
"""

from __future__ import annotations

import os

from google.protobuf.message import DecodeError

from pyopenshell.isolation.cgroups import Limits
from pyopenshell.isolation.mounts import IMAGE_OWN
from pyopenshell.isolation.walls import UID, WORKDIR, Bind, WallError, Walls
from pyopenshell.wire.gen import sandbox_pb2

_HOST_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt")
_DEFAULT_READ = (*_HOST_PROGRAMS, "/etc", "/proc", "/var/log", "/sys/devices/system/cpu")
_DEFAULT_WRITE = (WORKDIR, "/tmp", "/run")
_USERS = ("", "sandbox", str(UID))


def walls_for(
    config: bytes,
    host_ids: tuple[int, int],
    etc: str,
    binds: tuple[Bind, ...],
    *,
    owner: str = "",
    required: str = "",
    accept_weaker: bool = False,
    image: str = "",
    sealed: bool = False,
    group: str = "",
    limits: Limits | None = None,
) -> Walls:
    """Walls that enforce the policy in `config` (a serialized SandboxConfigSnapshot). Raises WallError."""
    try:
        policy = sandbox_pb2.SandboxConfigSnapshot.FromString(config).policy
    except DecodeError as error:
        raise WallError("InvalidConfiguration", "the configuration snapshot cannot be read") from error
    if policy.process.run_as_user not in _USERS or policy.process.run_as_group not in _USERS:
        raise WallError(
            "UnsupportedUser",
            f"the local driver cannot run as {policy.process.run_as_user!r}:{policy.process.run_as_group!r}",
            "leave process.run_as_user and run_as_group out, or set them to `sandbox`",
        )
    read, write = _paths(policy, image)
    return Walls(
        host_uid=host_ids[0],
        host_gid=host_ids[1],
        hostname="sandbox",
        etc=etc,
        binds=binds,
        read_only=read,
        read_write=write,
        image=image,
        sealed=sealed,
        owner=owner,
        implied=not policy.HasField("filesystem"),
        required=required,
        accept_weaker=accept_weaker,
        group=group if limits else "",
        limits=limits or Limits(),
        landlock_required=policy.landlock.compatibility == "hard_requirement",
    )


def _paths(policy: sandbox_pb2.SandboxPolicy, image: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not policy.HasField("filesystem"):
        if image:
            names = sorted(set(os.listdir(image)) - IMAGE_OWN)
            return (*(f"/{name}" for name in names), "/etc", "/proc", "/var", "/sys/devices/system/cpu"), _DEFAULT_WRITE
        return (
            tuple(path for path in _DEFAULT_READ if os.path.exists(path) or path == "/var/log"),
            _DEFAULT_WRITE,
        )
    section = policy.filesystem
    write = tuple(section.read_write)
    if section.include_workdir and WORKDIR not in write:
        write = (*write, WORKDIR)
    for path in (*section.read_only, *write):
        if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise WallError("InvalidConfiguration", f"filesystem_policy path {path!r} is not absolute")
    return tuple(section.read_only), write
