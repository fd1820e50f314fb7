"""What Podman is asked to make: one container, as closed as it goes, around our init. Pure.

Podman gives the image's file tree, the namespaces and the limits. Everything that judges or guards comes from outside
(supervisor, watcher) or is built by the init (fence, sockets, Landlock, seccomp), as for local sandboxes.
"""

from __future__ import annotations

import dataclasses
import io
import os
import resource
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pyopenshell.drivers.base import Workload
from pyopenshell.drivers.podman import runtime
from pyopenshell.drivers.podman.door import CAPABILITIES
from pyopenshell.drivers.podman.files import IDS, SOCKET
from pyopenshell.isolation.environment import BASE, CA_BUNDLE, CA_KEYSTORE, RESERVED_PREFIX
from pyopenshell.isolation.network import MARKED, settings
from pyopenshell.isolation.walls import UID, WORKDIR, Walls

LABEL: Final = "openshell.ai/"
OWNER: Final = f"{LABEL}state"
"""Label with the state directory's digest: a gateway only ever touches its own containers."""
ROOTS: Final[Mapping[str, str]] = {
    "etc/ssl/certs/ca-certificates.crt": CA_BUNDLE,
    "etc/ssl/ca-bundle.pem": CA_BUNDLE,
    "etc/pki/tls/certs/ca-bundle.crt": CA_BUNDLE,
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": CA_BUNDLE,
    "etc/ssl/certs/java/cacerts": CA_KEYSTORE,
    "etc/pki/ca-trust/extracted/java/cacerts": CA_KEYSTORE,
}
"""Where images keep trusted roots: all become links to the sandbox's own."""
_LOADER: Final = (
    *("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "LD_DEBUG", "LD_DEBUG_OUTPUT", "LD_PROFILE", "LD_ORIGIN_PATH"),
    *("LD_BIND_NOT", "LD_DYNAMIC_WEAK", "LD_USE_LOAD_BIAS", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "NLSPATH"),
    *("MALLOC_TRACE", "RES_OPTIONS", "HOSTALIASES", "LANG", "LC_ALL", "LANGUAGE", "OPENSSL_CONF", "TMPDIR"),
)
"""Variables by which an image could have its own code loaded into a program of ours."""
_PERIOD: Final = 100_000
_LOG_BYTES: Final = 65536
_OURS: Final = frozenset(BASE) - {"PATH", "LANG"}
"""Variables that an image may not set for commands: they lead to the proxy and to the sandbox's roots."""


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """One that is here. `environment` are its ENV lines."""

    id: str
    environment: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """What the driver host prepared. `uid` is the sandbox's user outside; `binds` are source, target, writable."""

    uid: int
    binds: tuple[Mapping[str, Any], ...]
    log: str
    owner: str


def name_of(workload: Workload) -> str:
    """One per run, so that an old run on its way out is in nobody's way."""
    return f"openshell-{workload.name}-{workload.sandbox_id[:8]}-{workload.instance_id[:8]}"


def environment(image: Image) -> dict[str, str]:
    """What commands find of the image's ENV."""
    found = dict(line.partition("=")[::2] for line in image.environment if line.partition("=")[0])
    return {key: value for key, value in found.items() if key not in _OURS and not key.startswith(RESERVED_PREFIX)}


def mapping(uid: int, sizes: Sequence[Mapping[str, int]]) -> list[dict[str, int]]:
    """Ids of the container -> ids of whoever runs Podman. `sizes` is Podman's own map; empty as root.

    As root: a block of host ids for each sandbox. Rootless: the user's subordinate ids, but the sandbox's user is the
    user, so that the files in its workspace are.
    """
    if not sizes:
        return [{"container_id": 0, "host_id": uid - UID, "size": IDS}]
    available = min(IDS, sum(int(entry["size"]) for entry in sizes))
    return [
        {"container_id": 0, "host_id": 1, "size": UID},
        {"container_id": UID, "host_id": 0, "size": 1},
        {"container_id": UID + 1, "host_id": UID + 1, "size": available - UID - 1},
    ]


def specification(
    workload: Workload, image: Image, place: Place, ids: Sequence[Mapping[str, int]], sysctls: Iterable[str]
) -> dict[str, Any]:
    """Body of POST /containers/create. `sysctls`: which of the init's settings this kernel has."""
    walls = Walls(1, 1, "sandbox", "", (), (), ())
    known = dict((MARKED, *settings()))
    labels = {
        "managed-by": "openshell",
        "sandbox-id": workload.sandbox_id,
        "sandbox-name": workload.name,
        "sandbox-workspace": workload.workspace,
        "instance-id": workload.instance_id,
        "state": place.owner,
    }
    return {
        "name": name_of(workload),
        "image": image.id,
        "labels": {LABEL + key: value for key, value in labels.items()},
        "remove": True,  # by Podman itself, also when nobody of ours is there any more
        "entrypoint": runtime.command(f"{runtime.INSIDE_DOOR}/{SOCKET}"),
        "command": [],
        "unsetenvall": True,  # an image's LD_PRELOAD must not reach our init; Podman 4.0 does not know this, hence
        "env": dict.fromkeys(_LOADER, ""),
        "work_dir": "/",
        "terminal": False,
        "stdin": False,
        "systemd": "false",
        "healthconfig": {"Test": ["NONE"]},  # an image's would run without the walls of a command
        "image_volume_mode": "ignore",
        "log_configuration": {"driver": "k8s-file", "path": place.log, "size": _LOG_BYTES},
        "hostname": walls.hostname,
        # Namespaces and rights.
        "userns": {"nsmode": "private"},
        "idmappings": {"HostUIDMapping": False, "HostGIDMapping": False, "UIDMap": list(ids), "GIDMap": list(ids)},
        "netns": {"nsmode": "none"},
        **{kind: {"nsmode": "private"} for kind in ("pidns", "ipcns", "utsns", "cgroupns")},
        "user": f"{UID}:{UID}",
        "passwd_entry": f"sandbox:x:{UID}:{UID}:sandbox:{WORKDIR}:/bin/sh",
        "cap_drop": ["all"],
        "cap_add": list(CAPABILITIES),
        "no_new_privileges": True,
        "privileged": False,
        "selinux_opts": ["disable"],  # containers may not speak to a socket of the host's; the other walls stand
        "sysctl": {f"net.{name.replace('/', '.')}": known[name] for name in sysctls},
        # Files.
        "read_only_filesystem": True,
        "mounts": [*_binds(place), *_tmpfs(walls)],
        "shm_size": 256 << 20,
        # Limits.
        "r_limits": _rlimits(walls),
        "oom_score_adj": 1000,
        "resource_limits": _limits(workload),
    }


def _binds(place: Place) -> list[dict[str, Any]]:
    return [
        {
            "type": "bind",
            "source": bind["source"],
            "destination": bind["target"],
            "options": ["rbind", "rprivate", "nosuid", "nodev", "rw" if bind["writable"] else "ro"],
        }
        for bind in place.binds
    ]


def _tmpfs(walls: Walls) -> list[dict[str, Any]]:
    return [
        {
            "type": "tmpfs",
            "source": "tmpfs",
            "destination": path,
            "options": ["rw", "nosuid", "nodev", f"size={size}m"],  # mode: that of the directory below, see additions
        }
        for path, size in (("/tmp", walls.tmp_megabytes), ("/run", 16))
    ]


def _rlimits(walls: Walls) -> list[dict[str, Any]]:
    """What commands get at most, and never above our own: hard limits can be raised by few, Podman's own are high."""
    found = [{"type": "core", "soft": 0, "hard": 0}]
    for name, kind, most in (
        ("nofile", resource.RLIMIT_NOFILE, walls.open_files),
        ("nproc", resource.RLIMIT_NPROC, walls.processes),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        found.append({"type": name, "soft": limit, "hard": limit})
    return found


def _limits(workload: Workload) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if workload.memory is not None:
        found["memory"] = {"limit": workload.memory, "swap": workload.memory}
    if workload.cpu is not None:
        found["cpu"] = {"period": _PERIOD, "quota": max(1000, int(workload.cpu * _PERIOD))}
    if workload.pids is not None:
        found["pids"] = {"limit": workload.pids}
    return found


def additions() -> bytes:
    """A tar archive of what is laid over the image's root: links to the sandbox's trusted roots, and AGENTS.md.

    And the directories of the tmpfs mounts, which take over mode and owner of what they cover; and nothing to preload:
    the dynamic loader would put an image's choice into our init.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in ("tmp", "run"):
            directory = tarfile.TarInfo(path)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(directory)
        archive.addfile(tarfile.TarInfo("etc/ld.so.preload"))
        for path, target in (("AGENTS.md", "etc/openshell/AGENTS.md"), *ROOTS.items()):
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return buffer.getvalue()


def settings_here() -> list[str]:
    """Names of the init's network settings that this kernel has."""
    return [name for name, _ in (MARKED, *settings()) if os.path.exists(f"/proc/sys/net/{name}")]
