"""What one sandbox is made of (values that travel host -> zygote -> init) and what can go wrong building it.

Decides the stable reasons and their fixes; builds nothing itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from pyopenshell.isolation.cgroups import Limits

UID = 998
"""User and group `sandbox` inside; outside it is the caller's own id, or as root an id of its own per sandbox."""
WORKDIR = "/sandbox"
PROXY = ("10.200.0.1", 3128)
CAPTURE_PORT = 15001
"""Of 127.0.0.1 and ::1 inside: where TCP arrives that was meant for somewhere else."""
DNS_PORT = 15053
"""Of the same: where everything to port 53 arrives."""
WORKLOAD = "10.200.0.2"
WORKLOAD6 = "fd23:6f70:656e:ff::2"

BASE_READ = ("/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/etc/openshell", "/etc/openshell-tls")
BASE_WRITE = ("/dev/null", "/dev/tty", "/dev/pts", "/dev/ptmx", "/dev/shm")
"""What programs, terminals and certificates need under every filesystem policy; each is the sandbox's own."""


class WallError(Exception):
    """A wall could not be built. `reason` is a stable CamelCase code, `fix` what the operator can do."""

    def __init__(self, reason: str, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.fix = reason, message, fix

    def as_message(self) -> dict[str, str]:
        return {"reason": self.reason, "message": self.message, "fix": self.fix}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> WallError:
        return cls(str(message.get("reason")), str(message.get("message")), str(message.get("fix", "")))


FIXES = {
    "UserNamespacesUnavailable": "allow user namespaces (sysctl user.max_user_namespaces>0, "
    "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0) or run the gateway as root",
    "NamespacesUnavailable": "run the gateway as root with CAP_SYS_ADMIN, outside of a container that refuses clone()",
    "IdMapRefused": "run the gateway where /proc/self/uid_map covers its own id, or as root with unmapped ids to spare",
    "NetworkRefused": "allow capabilities in user namespaces (kernel.apparmor_restrict_unprivileged_userns=0 "
    "or an AppArmor profile with `userns,`)",
    "NftablesUnavailable": "load the kernel modules nf_tables, nft_nat, nft_redir, nft_reject_inet, nft_ct, nft_limit "
    "and nft_log",
    "MountsRefused": "allow mounts in user namespaces; inside a container add --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined",
    "LandlockUnavailable": "boot with `landlock` in the lsm= list (Linux 6.2 or newer), or set "
    "landlock.compatibility: best_effort",
    "FilesystemPolicyPath": "remove the path or create it on the host",
    "SeccompUnavailable": "use a kernel with seccomp user notification and WAIT_KILLABLE_RECV (Linux 5.19 or newer)",
    "PrivilegesNotDropped": "allow capabilities in user namespaces",
}
ACCEPT = "accept the weaker walls with --accept-weaker"


@contextlib.contextmanager
def wall(reason: str) -> Iterator[None]:
    """Name the wall that an OSError inside the block means."""
    try:
        yield
    except OSError as error:
        raise WallError(reason, str(error), FIXES.get(reason, "")) from error


@dataclasses.dataclass(frozen=True, slots=True)
class Bind:
    """A host directory that appears inside. Read-only unless `writable`."""

    source: str
    target: str
    writable: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Walls:
    """One sandbox, complete. Paths in `read_only` and `read_write` are the sandbox's own (Landlock)."""

    host_uid: int
    host_gid: int
    hostname: str
    etc: str
    """Host directory laid over the host's /etc."""
    binds: tuple[Bind, ...]
    read_only: tuple[str, ...]
    read_write: tuple[str, ...]
    implied: bool = False
    """No policy names `read_only` and `read_write`: they are the driver's own."""
    landlock_required: bool = False
    tmp_megabytes: int = 1024
    image: str = ""
    """Host directory with the root file system that takes the place of the host's programs; "" for these."""
    sealed: bool = False
    """The image is ours alone: no process of the host can listen behind a file of it."""
    processes: int = 4096
    open_files: int = 65536
    owner: str = ""
    """Whose sandbox it is (`cgroups.owner_name`): what a killed driver host left is found by it."""
    required: str = ""
    """Assurance below which it must not start; see `assurance`."""
    accept_weaker: bool = False
    """The user's word that a lower tier, or walls that do not hold the network, will do."""
    tier: str = "A"
    """Rung of the ladder that the zygote found it could build: "A" or "C"; init may come down to "B"."""
    group: str = ""
    """Name of the control group; "" where no limit was asked for."""
    limits: Limits = dataclasses.field(default_factory=Limits)
    """`limits.pids` is also `processes` where it is lower."""

    def as_message(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Walls:
        values = dict(message)
        values["limits"] = Limits(**values["limits"])
        values["binds"] = tuple(Bind(**bind) for bind in values["binds"])
        values["read_only"], values["read_write"] = tuple(values["read_only"]), tuple(values["read_write"])
        return cls(**values)
