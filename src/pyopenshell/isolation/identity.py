"""Who owns a connection: the value, and the question the proxy asks.

The answer comes from the connect watcher (seccomp notification keyed by socket cookie) with a `/proc` scan as
fallback; doubt is always an IdentityError, never a guess.
"""

from __future__ import annotations

import dataclasses
import socket
from typing import Protocol


class IdentityError(Exception):
    """Nobody, several, or a vanished or changed owner. The text is shown in the denial."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The process that called connect(). Paths as the sandbox sees them, resolved by the kernel."""

    pid: int
    """In the sandbox's PID namespace, for log lines."""
    exe: str
    ancestors: tuple[str, ...] = ()
    """Executables of the parent chain, nearest first, sandbox init excluded."""
    sha256: str = ""
    """Of the running image, hex; "" only where hashing was not possible (then `identify` raised instead)."""


class Identifier(Protocol):
    """Implemented in this package; the proxy sees only this."""

    async def identify(self, accepted: socket.socket) -> Identity:
        """Owner of the client end of an accepted loopback TCP connection. Raises IdentityError."""
