"""Landlock through raw system calls: which paths a command may read, write and execute.

Decides only how rights map to the kernel's ABI (1 to 7, by masking); which paths is the caller's business.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from pyopenshell.isolation import syscalls

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 0x4000, 0x8000
_FILE_ONLY = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BY_ABI = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
LIST = _READ_DIR
READ = _EXECUTE | _READ_FILE | _READ_DIR
WRITE = 0xFFFF


TRUNCATE_ABI = 3
"""Before it, a file that may only be read can still be emptied."""


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

    def __init__(self, version: int) -> None:
        """`version` is what `abi()` returned and must not be 0."""
        self._rights = _BY_ABI[min(version, 5)]
        raw = struct.pack("=Q", self._rights)
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
            syscalls.syscall("landlock_add_rule", self.fd, 1, rule, 0)
        finally:
            os.close(fd)
        return True
