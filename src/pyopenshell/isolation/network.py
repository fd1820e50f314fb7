"""The sandbox's network: `lo` only, every address local, a fence, and every socket the supervisor will need.

Runs in init, inside the new namespaces. Nobody enters the namespace later: sockets keep it for life and travel out.
"""

from __future__ import annotations

import contextlib
import socket

from pyopenshell.isolation import nft
from pyopenshell.isolation.netlink import NETLINK_ROUTE, NETLINK_SOCK_DIAG, Netlink
from pyopenshell.isolation.walls import CAPTURE_PORT, DNS_PORT, PROXY, UID, WORKLOAD, WORKLOAD6, wall

_ORIGINAL_DESTINATION = 80
"""SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST."""
_SYSCTLS = (
    # The first two close side doors of connection identity (seccomp closes them too); the others serve ordinary tools.
    ("ipv4/tcp_fastopen", "0"),
    ("mptcp/enabled", "0"),
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ping_group_range", f"{UID} {UID}"),
)


def build() -> dict[str, socket.socket]:
    """Configure the namespace; returns the sockets by name.

    `proxy`, `capture`, `dns-tcp` (listening), `dns` (UDP) and `diag` are always there; the middle three once more with
    `6` behind the name where the kernel has IPv6, `nflog` where it has that.
    """
    with wall("NetworkRefused"):
        ipv6 = addresses()
        _sysctls()
        with open("/proc/sys/net/ipv4/tcp_fwmark_accept", "w") as file:  # IPv6 too
            file.write("1")  # an accepted socket bears its client's mark: identity
        sockets = {"proxy": _bound(PROXY, socket.SOCK_STREAM)}
        for suffix, loopback in (("", "127.0.0.1"), ("6", "::1")) if ipv6 else (("", "127.0.0.1"),):
            sockets["capture" + suffix] = _bound((loopback, CAPTURE_PORT), socket.SOCK_STREAM)
            sockets["dns" + suffix] = _bound((loopback, DNS_PORT), socket.SOCK_DGRAM)
            sockets["dns-tcp" + suffix] = _bound((loopback, DNS_PORT), socket.SOCK_STREAM)
        sockets["diag"] = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    with contextlib.suppress(OSError):  # a kernel without NFLOG loses the events, not the refusal
        sockets["nflog"] = nft.nflog_socket()
    local = ("127.0.0.0/8", WORKLOAD, "::1", WORKLOAD6) if ipv6 else ("127.0.0.0/8", WORKLOAD)
    with wall("NftablesUnavailable"):
        nft.rules(PROXY, local, CAPTURE_PORT, DNS_PORT, log="nflog" in sockets).commit()
    return sockets


def _bound(address: tuple[str, int], kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    if kind == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    if kind == socket.SOCK_STREAM:
        sock.listen(1024)
    return sock


def original_destination(accepted: socket.socket) -> tuple[str, int] | None:
    """Where a connection accepted on `capture` was going: (canonical address, port). Works from any namespace.

    None for a connection that was made to the capturing port itself, or whose destination the kernel no longer knows.
    """
    ipv6 = accepted.family == socket.AF_INET6
    try:
        # struct sockaddr_in / sockaddr_in6: family, port, [flow,] address
        raw = accepted.getsockopt(
            socket.IPPROTO_IPV6 if ipv6 else socket.SOL_IP, _ORIGINAL_DESTINATION, 28 if ipv6 else 16
        )
        address = socket.inet_ntop(accepted.family, raw[8:24] if ipv6 else raw[4:8])
        target = address, int.from_bytes(raw[2:4], "big")
        return None if target == accepted.getsockname()[:2] else target
    except OSError:
        return None


def addresses() -> bool:
    """True when the kernel has IPv6."""
    route = Netlink.open(NETLINK_ROUTE)
    try:
        route.loopback_up()
        route.add_address(PROXY[0], 32)
        route.add_address(WORKLOAD, 32)
        route.everything_is_local(socket.AF_INET, WORKLOAD)
        try:
            route.add_address(WORKLOAD6, 128)
        except OSError:
            return False  # ipv6.disable=1: there is nothing to fence
        route.everything_is_local(socket.AF_INET6)
        return True
    finally:
        route.close()


def _sysctls() -> None:
    for name, value in _SYSCTLS:
        with contextlib.suppress(OSError), open(f"/proc/sys/net/{name}", "w") as file:
            file.write(value)
