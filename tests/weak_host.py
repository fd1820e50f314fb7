"""Run a command on a machine made weaker for it: what a kernel or a container would not have is refused by a filter.

python -m tests.weak_host no-nft[,no-userns,...] COMMAND...
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable

from pyopenshell.isolation import seccomp, syscalls
from pyopenshell.isolation.seccomp import NUMBER

_NEW_USER, _ANY_NAMESPACE = 0x10000000, 0x7E020000
_AF_NETLINK, _NETLINK_NETFILTER = 16, 12
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def _one(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _load(offset: int) -> bytes:
    return _one(0x20, offset)


def _refuse(code: int) -> bytes:
    return _one(0x06, _ERRNO | code)


_PASS = _one(0x06, _ALLOW)


def _call(name: str, *body: bytes) -> bytes:
    return _load(0) + _one(0x15, NUMBER[name], 0, len(body)) + b"".join(body)


def _flags(name: str, flags: int) -> bytes:
    return _call(name, _load(16), _one(0x45, flags, 0, 1), _refuse(errno.EPERM), _PASS)


def _without_namespaces(flags: int) -> bytes:
    return _flags("clone", flags) + _flags("unshare", flags) + _call("clone3", _refuse(errno.ENOSYS))


def _without_nft() -> bytes:
    body = (_load(32), _one(0x15, _NETLINK_NETFILTER, 0, 1), _refuse(errno.EPROTONOSUPPORT), _PASS)
    return _call("socket", _load(16), _one(0x15, _AF_NETLINK, 0, len(body)), *body, _PASS)


def _without_landlock() -> bytes:
    number = syscalls.NUMBER["landlock_create_ruleset"]
    return _load(0) + _one(0x15, number, 0, 1) + _refuse(errno.ENOSYS)


WEAKNESSES: dict[str, Callable[[], bytes]] = {
    "no-nft": _without_nft,
    "no-userns": lambda: _without_namespaces(_NEW_USER),
    "no-namespaces": lambda: _without_namespaces(_ANY_NAMESPACE),
    "no-landlock": _without_landlock,
}


def weaken(*names: str) -> None:
    """For this process and all it starts, for good."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    for name in names:
        seccomp.install(WEAKNESSES[name]() + _PASS)


if __name__ == "__main__":
    weaken(*sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])
