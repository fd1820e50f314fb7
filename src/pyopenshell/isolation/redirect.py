"""connect() performed from outside: where the kernel redirects nothing, the watcher connects the caller's socket.

The address is copied once, judged, and never read again, so the caller cannot change it in between. Decides which door
a connection comes to; what may leave is the policy's business, behind that door.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import ipaddress
import os
import select
import socket
import struct
from typing import Any, Final

from pyopenshell.isolation import syscalls

Address = tuple[str, int]
_MAX_ADDRESS = 128
_SHORTEST: Final = {socket.AF_INET: 8, socket.AF_INET6: 24}
"""Bytes of sockaddr_in and sockaddr_in6 that say where to."""
_BACKLOG_MILLISECONDS = 50
"""How long a door may keep a caller waiting that wants to wait; a door that accepts answers within one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Doors:
    """Listeners of one sandbox's supervisor, by address family; those of `own` networks are reached as ever."""

    capture: dict[int, Address]
    dns: dict[int, Address]
    own: tuple[str, ...] = ()

    def as_message(self) -> dict[str, Any]:
        return {
            "capture": [[int(family), *where] for family, where in self.capture.items()],
            "dns": [[int(family), *where] for family, where in self.dns.items()],
            "own": list(self.own),
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Doors:
        def by_family(entries: list[list[Any]]) -> dict[int, Address]:
            return {int(family): (str(host), int(port)) for family, host, port in entries}

        return cls(by_family(message["capture"]), by_family(message["dns"]), tuple(message["own"]))

    def local(self, target: Address) -> bool:
        """Whether it is an address of the sandbox itself, that needs no door. Its resolver is none but policy DNS."""
        address = ipaddress.ip_address(target[0])
        return target[1] != 53 and any(address in ipaddress.ip_network(network) for network in self.own)

    def door(self, family: int, target: Address) -> Address | None:
        """Where a socket of this family is to be connected instead of `target`; None: there is no door."""
        return (self.dns if target[1] == 53 else self.capture).get(family)


def target(thread: int, address: int, length: int) -> Address | None:
    """What a frozen connect() names: (canonical address, port); None for what is no IP address. Raises OSError."""
    data = syscalls.read_memory(thread, address, min(length, _MAX_ADDRESS))
    if len(data) < 2:
        return None
    family = struct.unpack_from("=H", data)[0]
    if len(data) < _SHORTEST.get(family, _MAX_ADDRESS + 1):
        return None
    port = struct.unpack_from("!H", data, 2)[0]
    raw = data[4:8] if family == socket.AF_INET else data[8:24]
    found = ipaddress.ip_address(raw)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found), port


def perform(sock: socket.socket, door: Address) -> int:
    """Connect a duplicate of the caller's socket; returns what the caller's connect() is to return (an errno, or 0).

    Never waits for longer than _BACKLOG_MILLISECONDS: one process serves every sandbox.
    """
    flags = fcntl.fcntl(sock, fcntl.F_GETFL)
    patient = not flags & os.O_NONBLOCK
    if patient:
        fcntl.fcntl(sock, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        code = sock.connect_ex(door)
        if code != errno.EINPROGRESS or not patient:
            return code
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLOUT)
        if not poll.poll(_BACKLOG_MILLISECONDS):
            return errno.ECONNREFUSED
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    finally:
        if patient:
            fcntl.fcntl(sock, fcntl.F_SETFL, flags)
