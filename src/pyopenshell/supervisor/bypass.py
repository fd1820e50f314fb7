"""What the sandbox's kernel refused outright, as log events: UDP, QUIC, ICMP, and whatever else has no door; and the
system calls that the watcher refused.

The kernel sends at most 5 packets per second (`isolation.nft`). Decides wording only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from pyopenshell.audit.events import Action, Actor, AuditSink, KernelEvent, NetworkEvent, Severity
from pyopenshell.isolation import nft
from pyopenshell.isolation.identity import CallRefused

_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_ADVICE = {
    "udp": "UDP does not leave the sandbox: use TCP (HTTP/3 clients fall back by themselves)",
    "icmp": "ICMP does not leave the sandbox: ping says nothing about what TCP may reach",
    "icmpv6": "ICMP does not leave the sandbox: ping says nothing about what TCP may reach",
    "tcp": "direct connection refused",
}


def watch(sock: socket.socket, audit: AuditSink, name: Callable[[str], str]) -> None:
    """Write an event for every packet in an NFLOG socket from now on. `name` says what a synthetic address means."""
    sock.setblocking(False)

    def readable() -> None:
        # ENOBUFS (more came than was read) loses packets here, never their refusal.
        with contextlib.suppress(OSError):
            for refused in nft.parse_nflog(sock.recv(65536)):
                audit.emit(event(refused, name))

    asyncio.get_running_loop().add_reader(sock.fileno(), readable)


def event(refused: nft.Refused, name: Callable[[str], str]) -> NetworkEvent:
    protocol = _PROTOCOLS.get(refused.protocol, f"ip-{refused.protocol}")
    return NetworkEvent(
        "REFUSE",
        Severity.MEDIUM,
        Action.DENIED,
        host=name(refused.target) or refused.target,
        port=refused.port,
        protocol=protocol,
        policy="bypass-detect",
        engine="nftables",
        reason=_ADVICE.get(protocol, f"{protocol} does not leave the sandbox: use TCP"),
    )


def call_refused(audit: AuditSink, refused: CallRefused) -> None:
    """Write an event for a system call that no command may make."""
    times = "" if refused.count == 1 else f"{refused.count} times until now"
    audit.emit(KernelEvent(refused.call, Severity.MEDIUM, Action.DENIED, Actor(refused.exe, refused.pid), times))
