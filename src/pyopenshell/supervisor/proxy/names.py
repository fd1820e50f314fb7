"""Synthetic addresses: which name an address of policy DNS stands for. Pure bookkeeping with an injected clock.

The address a program connects to says which name it asked for; nothing is ever dialled by it. Bounded: an address that
may still be in somebody's cache, or has an open connection, is never given to another name.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import time
from collections.abc import Callable

IPV4_POOL = ipaddress.IPv4Network("198.18.0.0/15")
IPV6_POOL = ipaddress.IPv6Network("fd23:6f70:656e::/64")
"""Of the sandbox's own /48; its ::/64 holds nothing else (`isolation.walls.WORKLOAD6` is in another one)."""
CAPACITY = 4096
"""Names at a time, about 1 MB."""
OPEN_ENDED = 1024
"""Of these, names that only a wildcard covers: their number is the agent's choice."""
KEEP_SECONDS = 600.0
"""Without a question or a connection before a name may make room; far beyond the answers' time to live."""
_BASE4, _BASE6 = int(IPV4_POOL.network_address), int(IPV6_POOL.network_address)
_LAST = IPV4_POOL.num_addresses - 2
"""Addresses go round the pool, so that one is given again as late as possible: after 131,070 others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Addresses:
    """Of one name."""

    ipv4: ipaddress.IPv4Address
    ipv6: ipaddress.IPv6Address


@dataclasses.dataclass(slots=True)
class _Entry:
    index: int
    open_ended: bool
    used: float
    held: int = 0


class Names:
    """`assign` for DNS, `name` for the capturing door. Names are canonical."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        capacity: int = CAPACITY,
        open_ended: int = OPEN_ENDED,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        self._clock = clock
        self._capacity, self._open_ended, self._keep = capacity, open_ended, keep_seconds
        self._entries: dict[str, _Entry] = {}
        """Least recently used first."""
        self._names: dict[int, str] = {}
        self._next = 1
        self.open_ended = 0
        """How many of the names are covered by wildcards only."""

    def __repr__(self) -> str:
        return f"<{len(self._entries)} names, {self.open_ended} under wildcards>"

    def __len__(self) -> int:
        return len(self._entries)

    def assign(self, name: str, *, open_ended: bool) -> Addresses | None:
        """The addresses of a name, always the same while it is known; None when there is no room.

        `open_ended` means that only a wildcard of the policy covers it.
        """
        entry = self._entries.pop(name, None)
        if entry is not None and entry.open_ended != open_ended:
            self.open_ended += 1 if open_ended else -1
            entry.open_ended = open_ended
        if entry is None:
            if not self._make_room(open_ended=open_ended):
                return None
            entry = _Entry(self._free_index(), open_ended, 0.0)
            self._names[entry.index] = name
            self.open_ended += open_ended
        entry.used = self._clock()
        self._entries[name] = entry
        return Addresses(ipaddress.IPv4Address(_BASE4 + entry.index), ipaddress.IPv6Address(_BASE6 + entry.index))

    def name(self, address: str) -> str:
        """The name that an address stands for, "" when it stands for none."""
        try:
            number = ipaddress.ip_address(address)
        except ValueError:
            return ""
        base = _BASE4 if number.version == 4 else _BASE6
        return self._names.get(int(number) - base, "")

    def hold(self, name: str) -> None:
        """A connection to the name is open."""
        entry = self._entries.get(name)
        if entry is not None:
            entry.held += 1

    def release(self, name: str) -> None:
        """It ended. Only after `hold`."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.held -= 1
            entry.used = self._clock()
            self._entries[name] = entry

    def _make_room(self, *, open_ended: bool) -> bool:
        full = len(self._entries) >= self._capacity
        crowded = open_ended and self.open_ended >= self._open_ended
        if not full and not crowded:
            return True
        oldest = self._clock() - self._keep
        for name, entry in self._entries.items():
            if entry.used > oldest:
                return False
            if not entry.held and (entry.open_ended or not crowded):
                del self._entries[name]
                del self._names[entry.index]
                self.open_ended -= entry.open_ended
                return True
        return False

    def _free_index(self) -> int:
        while self._next in self._names:
            self._next = self._next % _LAST + 1
        index = self._next
        self._next = index % _LAST + 1
        return index
