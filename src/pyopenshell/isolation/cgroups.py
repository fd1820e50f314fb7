"""Limits on a whole sandbox through control groups (v2, v1 or both), where this process may make some.

Decides where a group lies and which limits hold there. Never changes a group it did not make: no controller is
switched on, no process but the sandbox's is moved.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Final

_PERIOD: Final = 100_000
"""Microseconds over which a CPU quota is counted; the kernel's default."""
_SWAP: Final = ("memory.swap.max", "memory.memsw.limit_in_bytes")
_PREFIX: Final = "openshell-"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """For everything in one sandbox together. Bytes; CPUs (1.5 is one and a half); tasks. None is no limit."""

    memory: int | None = None
    cpu: float | None = None
    pids: int | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in dataclasses.astuple(self))


FALLBACKS: Final = {"memory": "rlimit, for each process alone", "pids": "rlimit"}
"""What a limit becomes where no group can be made; a limit that is not here does not hold then."""


def standing(limits: Limits, held: Mapping[str, str]) -> dict[str, str]:
    """How each limit that was asked for holds: {"memory": "cgroup v1", "cpu": "not held", ...}. Pure."""
    asked = [kind for kind, value in dataclasses.asdict(limits).items() if value is not None]
    return {kind: held.get(kind) or FALLBACKS.get(kind, "not held") for kind in asked}


def group_name(owner: str, name: str) -> str:
    """Names of one owner (a state directory) begin alike, so that only its own groups are ever swept."""
    return f"{_owner_prefix(owner)}{name}"


def owner_name(owner: str) -> str:
    """Short name of an owner that tells nothing about its path."""
    return hashlib.sha256(os.fsencode(os.path.realpath(owner))).hexdigest()[:12]


def _owner_prefix(owner: str) -> str:
    return f"{_PREFIX}{owner_name(owner)}-"


def confine(pid: int, name: str, limits: Limits) -> dict[str, str]:
    """Put `pid` under `limits`, with all it will fork; returns which hold: {"memory": "cgroup v1", ...}.

    Never raises: what is not in the answer does not hold. `remove(name)` must follow when the processes are gone.
    """
    held: dict[str, str] = {}
    for kind, value in dataclasses.asdict(limits).items():
        if value is None:
            continue
        for version, parents, files in _places(kind, value):
            if any(_enter(f"{parent}/{name}", files, pid) for parent in parents):
                held[kind] = f"cgroup {version}"
                break
    return held


def held(pid: int, limits: Limits) -> dict[str, str]:
    """Which limits a group that somebody else made for `pid` keeps, or stricter ones: {"memory": "cgroup v1", ...}."""
    try:
        old, new = hierarchies(*(_text(path) for path in ("/proc/self/mountinfo", f"/proc/{pid}/cgroup")))
    except OSError:
        return {}
    found: dict[str, str] = {}
    for kind, value in dataclasses.asdict(limits).items():
        if value is None:
            continue
        first, second = _files(kind, value)
        for version, places, files in (("v2", new, second), ("v1", [old[kind]] if kind in old else [], first)):
            if any(all(_keeps(f"{place}/{file}", wanted) for file, wanted in files.items()) for place in places):
                found[kind] = f"cgroup {version}"
                break
    return found


def _keeps(path: str, wanted: str) -> bool:
    """Whether the limit in this file is at most `wanted`; where that is a share of a period, exactly it."""
    try:
        found = _text(path).strip()
        return found == wanted or ("cpu" not in os.path.basename(path) and 0 <= int(found) <= int(wanted))
    except FileNotFoundError:
        return os.path.basename(path) in _SWAP  # a kernel without swap accounting
    except (OSError, ValueError):  # "max" among them
        return False


def _enter(path: str, files: Mapping[str, str], pid: int) -> bool:
    """False when the kernel did not take all of it; then nothing new is left there."""
    new = False
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            new = True
        for file, value in files.items():
            if file in _SWAP and not os.path.exists(f"{path}/{file}"):
                continue  # a kernel without swap accounting
            _write(f"{path}/{file}", value)
        _write(f"{path}/cgroup.procs", str(pid))
    except OSError:
        if new:
            with contextlib.suppress(OSError):
                os.rmdir(path)
        return False
    return True


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _places(kind: str, value: float) -> list[tuple[str, list[str], dict[str, str]]]:
    """(version, directories below which a group may be made, what to write in it), best first."""
    first, second = _files(kind, value)
    old, new = _hierarchies()
    found = []
    if new:
        found.append(("v2", [parent for parent in new if _controls(parent, kind)], second))
    if kind in old:
        found.append(("v1", [old[kind]], first))
    return found


def _files(kind: str, value: float) -> tuple[dict[str, str], dict[str, str]]:
    """What is written where to hold a limit: v1, v2."""
    quota = str(max(1000, int(value * _PERIOD)))
    whole = str(int(value))
    second = {
        "memory": {"memory.max": whole, "memory.swap.max": "0"},
        "cpu": {"cpu.max": f"{quota} {_PERIOD}"},
        "pids": {"pids.max": whole},
    }[kind]
    first = {
        "memory": {"memory.limit_in_bytes": whole, "memory.memsw.limit_in_bytes": whole},
        "cpu": {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": quota},
        "pids": {"pids.max": whole},
    }[kind]
    return first, second


def _controls(parent: str, kind: str) -> bool:
    """Whether children of this v2 group have that controller."""
    try:
        with open(f"{parent}/cgroup.subtree_control", encoding="ascii") as file:
            return kind in file.read().split()
    except OSError:
        return False


def _hierarchies() -> tuple[dict[str, str], list[str]]:
    """`hierarchies` of this process; empty where /proc does not tell."""
    try:
        return hierarchies(_text("/proc/self/mountinfo"), _text("/proc/self/cgroup"))
    except OSError:
        return {}, []


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def hierarchies(mountinfo: str, membership: str) -> tuple[dict[str, str], list[str]]:
    """v1: the directory of our own group for each controller. v2: ours and those above it, nearest first. Pure.

    Above, because a v2 group with processes in it cannot give controllers to children, and a user's own groups
    (systemd's user@.service) are delegated as a whole.
    """
    mounts: dict[str, tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            mounts.setdefault("", (fields[3], fields[4]))
        elif kinds[0] == "cgroup":
            for option in kinds[2].split(","):
                mounts.setdefault(option, (fields[3], fields[4]))
    old: dict[str, str] = {}
    new: list[str] = []
    for line in membership.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(","):
            if controller not in mounts or not path.startswith("/"):
                continue
            root, point = mounts[controller]
            inner = path.removeprefix(root) if root != "/" else path
            own = os.path.normpath(f"{point}/{inner}")
            if controller:
                old[controller] = own
                continue
            while own == point or own.startswith(f"{point}/"):
                new.append(own)
                own = os.path.dirname(own)
    return old, new


def _parents() -> list[str]:
    old, new = _hierarchies()
    return list(dict.fromkeys([*old.values(), *new]))


def remove(name: str) -> list[str]:
    """Remove a group everywhere; returns what is still there (it has processes)."""
    left = []
    for parent in _parents():
        path = f"{parent}/{name}"
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError:
            left.append(path)
    return left


def sweep(owner: str) -> list[str]:
    """Remove every group of this owner that has no processes left; returns the others."""
    left = []
    prefix = _owner_prefix(owner)
    for parent in _parents():
        with contextlib.suppress(OSError):
            for name in os.listdir(parent):
                if name.startswith(prefix):
                    left += remove(name)
    return left
