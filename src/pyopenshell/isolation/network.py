"""The sandbox's network: `lo` only, every address local, a fence, and every socket the supervisor will need.

Runs in init, inside the new namespaces. Nobody enters the namespace later: sockets keep it for life and travel out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket

from pyopenshell.isolation import nft
from pyopenshell.isolation.assurance import Loss
from pyopenshell.isolation.netlink import NETLINK_ROUTE, NETLINK_SOCK_DIAG, Netlink
from pyopenshell.isolation.redirect import Doors
from pyopenshell.isolation.walls import (
    ACCEPT,
    CAPTURE_PORT,
    DNS_PORT,
    FIXES,
    PROXY,
    UID,
    WORKLOAD,
    WORKLOAD6,
    WallError,
    wall,
)

_ORIGINAL_DESTINATION = 80
"""SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST."""
MARKED = ("ipv4/tcp_fwmark_accept", "1")
"""IPv6 too. An accepted socket bears its client's mark: identity."""


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """`sockets` by name: `proxy`, `capture`, `dns-tcp` (listening), `dns` (UDP), `diag`; the middle three once more
    with `6` behind the name where the kernel has IPv6; `nflog` where it has that.
    """

    sockets: dict[str, socket.socket]
    losses: list[Loss]
    doors: Doors | None = None
    """Tier B: where the watcher connects what nothing redirects. None: nftables does it."""


NO_FENCE = "no nftables: UDP and ICMP are refused, but what was tried is not logged"


def build(group: int = UID, *, accept_weaker: bool = False) -> Network:
    """Configure the namespace. `group` may ping its own addresses. Raises WallError.

    Without nftables (tier B, only where that is accepted) there is no route: nothing but TCP that the watcher connects
    to a door comes anywhere.
    """
    with wall("NetworkRefused"):
        ipv6 = addresses()
        for name, value in settings(group):
            with contextlib.suppress(OSError):
                _set(name, value)
        _set(*MARKED)
        sockets = {"proxy": _bound(PROXY, socket.SOCK_STREAM)}
        for suffix, loopback in (("", "127.0.0.1"), ("6", "::1")) if ipv6 else (("", "127.0.0.1"),):
            sockets["capture" + suffix] = _bound((loopback, CAPTURE_PORT), socket.SOCK_STREAM)
            sockets["dns" + suffix] = _bound((loopback, DNS_PORT), socket.SOCK_DGRAM)
            sockets["dns-tcp" + suffix] = _bound((loopback, DNS_PORT), socket.SOCK_STREAM)
        sockets["diag"] = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    with contextlib.suppress(OSError):  # a kernel without NFLOG loses the events, not the refusal
        sockets["nflog"] = nft.nflog_socket()
    local = ("127.0.0.0/8", WORKLOAD, "::1", WORKLOAD6) if ipv6 else ("127.0.0.0/8", WORKLOAD)
    try:
        nft.rules(PROXY, local, CAPTURE_PORT, DNS_PORT, log="nflog" in sockets).commit()
    except OSError as error:
        if not accept_weaker:
            raise WallError(
                "NftablesUnavailable", str(error), f"{FIXES['NftablesUnavailable']}; or {ACCEPT}"
            ) from error
        return _without_fence(sockets, Loss("", f"{NO_FENCE} ({error})"), ipv6=ipv6)
    with wall("NetworkRefused"):
        routes(ipv6=ipv6)
    missing = [] if "nflog" in sockets else ["NFLOG is unavailable: packets the fence refuses are not logged"]
    return Network(sockets, [Loss("", text) for text in missing])


def _without_fence(sockets: dict[str, socket.socket], loss: Loss, *, ipv6: bool) -> Network:
    """UDP is not redirected, so policy DNS listens where resolv.conf says."""
    if "nflog" in sockets:
        sockets.pop("nflog").close()
    with wall("NetworkRefused"):
        sockets.pop("dns").close()
        sockets["dns"] = _bound((PROXY[0], 53), socket.SOCK_DGRAM)
    families = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")) if ipv6 else ((socket.AF_INET, "127.0.0.1"),)
    own = ("127.0.0.0/8", f"{PROXY[0]}/32", f"{WORKLOAD}/32", "::1/128", f"{WORKLOAD6}/128")
    capture = {int(family): (loopback, CAPTURE_PORT) for family, loopback in families}
    return Network(sockets, [loss], Doors(capture, {f: (host, DNS_PORT) for f, (host, _) in capture.items()}, own))


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
        try:
            route.add_address(WORKLOAD6, 128)
        except OSError:
            return False  # ipv6.disable=1: there is nothing to fence
        return True
    finally:
        route.close()


def routes(*, ipv6: bool) -> None:
    """Every address is local: a connection to anywhere reaches the fence, which captures it."""
    route = Netlink.open(NETLINK_ROUTE)
    try:
        route.everything_is_local(socket.AF_INET, WORKLOAD)
        if ipv6:
            route.everything_is_local(socket.AF_INET6)
    finally:
        route.close()


def settings(group: int = UID) -> tuple[tuple[str, str], ...]:
    """Below /proc/sys/net, besides MARKED; a kernel without one of them goes without."""
    return (
        # The first two close side doors of connection identity (seccomp closes them too); the others serve ordinary
        # tools.
        ("ipv4/tcp_fastopen", "0"),
        ("mptcp/enabled", "0"),
        ("ipv4/ip_unprivileged_port_start", "0"),
        ("ipv4/ping_group_range", f"{group} {group}"),
    )


def _set(name: str, value: str) -> None:
    """A setting of this namespace. Raises OSError; not where /proc is read-only but an engine set it before."""
    path = f"/proc/sys/net/{name}"
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError:
        with open(path) as file:
            if file.read().split() != value.split():
                raise
