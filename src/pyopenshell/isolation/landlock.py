"""Landlock through raw system calls: which paths a command may read, write and execute, and where no namespace does it,
which ports it may use and whom it may signal.

Decides only how rights map to the kernel's ABI (1 to 7, by masking); which paths is the caller's business.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from typing import Final

from pyopenshell.isolation import syscalls

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 0x4000, 0x8000
_FILE_ONLY = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BY_ABI = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2
_RULE_PATH, _RULE_PORT = 1, 2
_LOG_NEW_EXEC = 2
LIST = _READ_DIR
READ = _EXECUTE | _READ_FILE | _READ_DIR
WRITE = 0xFFFF

RENAME_ABI: Final = 2
"""Before it, nothing can be renamed from one directory into another."""
TRUNCATE_ABI: Final = 3
"""Before it, a file that may only be read can still be emptied."""
PORTS_ABI: Final = 4
SCOPES_ABI: Final = 6
"""From here on a command can be kept from signalling, and from abstract sockets of, processes outside of its domain."""
AUDIT_ABI: Final = 7


def abi() -> int:
    """Version the running kernel offers, 0 when it has none (not built, not in the `lsm=` list, or blocked)."""
    try:
        return syscalls.syscall("landlock_create_ruleset", None, 0, 1)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


class Ruleset:
    """Built once by init with its rights, inherited by every command as a descriptor and applied after the drop."""

    def __init__(self, version: int, *, alone: bool = False) -> None:
        """`version` is what `abi()` returned and must not be 0.

        `alone`: no namespaces stand beside it, so TCP ports, abstract sockets and signals are its business too; nothing
        of them is allowed but what `allow_port` says, and inside the domain. With namespaces it would only part the
        sessions of one sandbox from each other: every session is a domain of its own.
        """
        self._rights = _BY_ABI[min(version, 5)]
        ports = _BIND_TCP | _CONNECT_TCP if alone and version >= PORTS_ABI else 0
        scopes = _ABSTRACT_SOCKETS | _SIGNALS if alone and version >= SCOPES_ABI else 0
        fields = [
            self._rights,
            *([ports] if version >= PORTS_ABI else []),
            *([scopes] if version >= SCOPES_ABI else []),
        ]
        raw = struct.pack(f"={len(fields)}Q", *fields)
        buffer = ctypes.create_string_buffer(raw, len(raw))
        self.fd = syscalls.syscall("landlock_create_ruleset", buffer, len(raw), 0)

    def allow(self, path: str, rights: int) -> bool:
        """Allow `rights` below `path`; False when the path does not exist here."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            granted = rights & self._rights
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                granted &= _FILE_ONLY
            rule = ctypes.create_string_buffer(struct.pack("=Qi", granted, fd), 12)
            syscalls.syscall("landlock_add_rule", self.fd, _RULE_PATH, rule, 0)
        finally:
            os.close(fd)
        return True

    def allow_port(self, port: int) -> None:
        """Let connect() reach this TCP port. For rulesets that are `alone` on a kernel that has PORTS_ABI."""
        rule = ctypes.create_string_buffer(struct.pack("=QQ", _CONNECT_TCP, port), 16)
        syscalls.syscall("landlock_add_rule", self.fd, _RULE_PORT, rule, 0)


def restrict(fd: int, version: int) -> None:
    """Apply a ruleset to this thread, for good. Needs no_new_privs or CAP_SYS_ADMIN.

    From AUDIT_ABI on the host's audit daemon, where there is one, hears of refusals: without the flag only of those
    before the next execve().
    """
    syscalls.syscall("landlock_restrict_self", fd, _LOG_NEW_EXEC if version >= AUDIT_ABI else 0)
