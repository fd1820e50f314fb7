"""The sandbox's network: `lo` only, every address local, a fence, and every socket the supervisor will need.

Runs in init, inside the new namespaces. Nobody enters the namespace later: sockets keep it for life and travel out.
"""

from __future__ import annotations

import contextlib
import socket

from pyopenshell.isolation import nft
from pyopenshell.isolation.netlink import NETLINK_ROUTE, NETLINK_SOCK_DIAG, Netlink
from pyopenshell.isolation.walls import PROXY, UID, WORKLOAD, WORKLOAD6, wall

_SYSCTLS = (
    # The first two close side doors of connection identity (seccomp closes them too); the others serve ordinary tools.
    ("ipv4/tcp_fastopen", "0"),
    ("mptcp/enabled", "0"),
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ping_group_range", f"{UID} {UID}"),
)


def build() -> dict[str, socket.socket]:
    """Configure the namespace; returns the sockets by name ("nflog" only where the kernel has it)."""
    with wall("NetworkRefused"):
        ipv6 = _addresses()
        _sysctls()
        with open("/proc/sys/net/ipv4/tcp_fwmark_accept", "w") as file:  # IPv6 too
            file.write("1")  # an accepted socket bears its client's mark: identity
        proxy = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        proxy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        proxy.bind(PROXY)
        proxy.listen(1024)
        sockets = {"proxy": proxy, "diag": socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)}
    with contextlib.suppress(OSError):  # a kernel without NFLOG loses the events, not the refusal
        sockets["nflog"] = nft.nflog_socket()
    local = ("127.0.0.0/8", WORKLOAD, "::1", WORKLOAD6) if ipv6 else ("127.0.0.0/8", WORKLOAD)
    with wall("NftablesUnavailable"):
        nft.fence(PROXY, local, log="nflog" in sockets).commit()
    return sockets


def _addresses() -> bool:
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
