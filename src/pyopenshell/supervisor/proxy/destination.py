"""Which addresses may be dialled: our own classification, because `ipaddress.is_global` is not a security boundary.

Pure except for the resolver it is given. Knows nothing of HTTP; policy reaches it as three plain facts (allowed_ips,
whether a person named this very host, overrides). Rules: contract/sandbox.md 5, attacks A-5..A-12.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pyopenshell.policy.hosts import is_ip_literal

if TYPE_CHECKING:
    from pyopenshell.policy.decision import Cell
    from pyopenshell.supervisor.proxy.context import Override, Resolver

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Class(enum.IntEnum):
    """How far an address is from being anybody's business, worst last."""

    PUBLIC = 0
    INTERNAL = 1
    """Needs `allowed_ips`, or a host that a person named exactly."""
    SHARED = 2
    """Carrier-grade NAT (tailnets too): needs `allowed_ips`; naming a host is not enough."""
    BLOCKED = 3
    """Never, whatever a policy says."""


CONTROL_PLANE_PORTS = frozenset({2379, 2380, 6443, 10250, 10255})
"""etcd, Kubernetes API and kubelet: refused for every destination (contract 5; upstream's public-only hole closed)."""
METADATA_HOSTS = frozenset(
    {
        "metadata.google.internal",
        "metadata.goog",
        "metadata",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "metadata.platformequinix.com",
        "metadata.packet.net",
    }
)


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# IANA special-purpose registries, plus the metadata addresses of the clouds.
_V4_BLOCKED = _networks(
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
)
_V4_SHARED = _networks("100.64.0.0/10")
_V4_INTERNAL = _networks(
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "198.18.0.0/15",
    "192.88.99.0/24",
)
_V6_INTERNAL = _networks("fc00::/7", "2001::/23", "2001:db8::/32", "3fff::/20")
_V6_METADATA = _networks("fd00:ec2::/32", "fd20:ce::254/128", "fd00:42::42/128", "fd00:c1::a9fe:a9fe/128")
"""AWS (metadata, name service, time, pod identity), Google, Scaleway, Oracle; the IPv4 ones are above."""
_V6_GLOBAL = ipaddress.IPv6Network("2000::/3")
_V6_BLOCKED = _networks("2002::/16", "2001::/32", "2001:2::/48")
"""6to4, Teredo (both retired, both hide an IPv4 address), benchmarking."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


def parse(text: str) -> Address | None:
    """The address in `text` with a mapped IPv4 address taken out; None for anything else, zone ids included."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def classify(address: Address) -> Class:
    """Class of an address; IPv4 hidden in IPv6 is judged as what it is."""
    if isinstance(address, ipaddress.IPv6Address):
        return _classify6(address)
    if any(address in network for network in _V4_BLOCKED):
        return Class.BLOCKED
    if any(address in network for network in _V4_SHARED):
        return Class.SHARED
    return Class.INTERNAL if any(address in network for network in _V4_INTERNAL) else Class.PUBLIC


def _classify6(address: ipaddress.IPv6Address) -> Class:
    number = int(address)
    low = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if address.ipv4_mapped is not None or address in _NAT64:
        return classify(low)
    if address in _COMPATIBLE:
        return Class.BLOCKED
    if any(address in network for network in (*_V6_BLOCKED, *_V6_METADATA)):
        return Class.BLOCKED
    if any(address in network for network in _V6_INTERNAL):
        return Class.INTERNAL
    if address not in _V6_GLOBAL:
        return Class.BLOCKED
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        return max(Class.INTERNAL, classify(low))
    return Class.PUBLIC


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a destination may not be dialled. `kind` is the contract's short phrase, `reason` the whole sentence."""

    kind: str
    reason: str
    condition: str
    fixable: bool
    """Whether a person could allow it by policy."""


class ResolveError(Exception):
    """The name has no address: a failure of the environment, not a denial."""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A destination that was checked. Only these addresses are dialled; nothing resolves again behind the check."""

    addresses: tuple[str, ...]
    port: int
    ca_pem: str = ""
    resolved_at: float = 0.0
    overridden: bool = False


class Guard:
    """Resolves a name that policy allowed, and refuses it when any of its addresses is out of bounds."""

    def __init__(
        self,
        resolver: Resolver,
        overrides: Mapping[tuple[str, int], Override],
        blocked: Iterable[tuple[str, int]],
        clock: Callable[[], float],
    ) -> None:
        self._resolver = resolver
        self._overrides = dict(overrides)
        self._blocked = frozenset((str(parse(host) or host), port) for host, port in blocked)
        self._clock = clock

    def at_once(self, host: str, port: int, cell: Cell) -> Target | Refusal | None:
        """What `resolve` says where no resolver has to be asked, else None."""
        override = self._overrides.get((host, port))
        if override is not None:
            return self._overridden(override)
        early = self._by_name(host, port)
        if early is not None:
            return early
        return self._checked(host, [host], port, cell) if is_ip_literal(host) else None

    async def resolve(self, host: str, port: int, cell: Cell) -> Target | Refusal:
        """Addresses to dial for canonical `host`. Raises ResolveError when there are none."""
        found = self.at_once(host, port, cell)
        if found is not None:
            return found
        try:
            texts = await self._resolver(host, port)
        except OSError as error:
            raise ResolveError(error.strerror or str(error) or "name resolution failed") from None
        if not texts:
            raise ResolveError("the name has no address")
        return self._checked(host, texts, port, cell)

    def _checked(self, host: str, texts: Sequence[str], port: int, cell: Cell) -> Target | Refusal:
        refusal = self.check(host, texts, port, cell)
        if refusal is not None:
            return refusal
        unique = dict.fromkeys(str(parse(text)) for text in texts)
        return Target(tuple(unique), port, resolved_at=self._clock())

    def recheck(self, host: str, target: Target, cell: Cell) -> Refusal | None:
        """Whether what was resolved earlier may still be dialled under another policy."""
        if target.overridden:
            return None
        return self._by_name(host, target.port) or self.check(host, target.addresses, target.port, cell)

    def check(self, host: str, addresses: Sequence[str], port: int, cell: Cell) -> Refusal | None:
        """Judge all addresses: one bad one refuses the destination, there is no silent choice of the good ones."""
        allowed = _allowed(cell.allowed_ips)
        if allowed is None:
            reason = f"allowed_ips of {host} names an always-blocked or malformed range"
            return Refusal("invalid allowed_ips in policy", reason, "invalid_allowed_ips", False)
        for text in addresses:
            refusal = self._judge(host, text, port, allowed, declared=cell.host_declared)
            if refusal is not None:
                return refusal
        return None

    def _judge(
        self, host: str, text: str, port: int, allowed: tuple[Network, ...], *, declared: bool
    ) -> Refusal | None:
        address = parse(text)
        kind = "declared endpoint check failed" if declared else "internal address"
        if allowed:
            kind = "allowed_ips check failed"
        place = Class.BLOCKED if address is None else classify(address)
        if address is None or place is Class.BLOCKED or (str(address), port) in self._blocked:
            reason = f"{host} resolves to always-blocked address {text}, connection rejected"
            return Refusal(kind, reason, "address_always_blocked", False)
        if allowed:
            if any(address in network for network in allowed if network.version == address.version):
                return None
            reason = f"{host} resolves to {text} which is not in allowed_ips, connection rejected"
            return Refusal(kind, reason, "address_not_in_allowed_ips", True)
        if place is Class.PUBLIC or (place is Class.INTERNAL and declared):
            return None
        reason = f"{host} resolves to internal address {text}, connection rejected"
        return Refusal(kind, reason, "address_internal", True)

    def _by_name(self, host: str, port: int) -> Refusal | None:
        if port in CONTROL_PLANE_PORTS:
            reason = f"port {port} is a blocked control-plane port, connection rejected"
            return Refusal("internal address", reason, "control_plane_port", False)
        if host in METADATA_HOSTS:
            reason = f"{host} is a cloud metadata service, connection rejected"
            return Refusal("internal address", reason, "address_always_blocked", False)
        return None

    def _overridden(self, override: Override) -> Target | Refusal:
        host, _, port = override.address.rpartition(":")
        address = _literal(host.strip("[]"))
        if address is None or not port.isdigit() or (str(address), int(port)) in self._blocked:
            reason = f"connect-to override {override.address} is not a literal address:port that may be dialled"
            return Refusal("trusted-gateway check failed", reason, "override_invalid", False)
        return Target((str(address),), int(port), override.ca_pem, self._clock(), overridden=True)


@functools.lru_cache(maxsize=256)
def _literal(text: str) -> Address | None:
    """An operator's address: one of few, needed for every connection."""
    return parse(text)


@functools.lru_cache(maxsize=256)
def _allowed(texts: tuple[str, ...]) -> tuple[Network, ...] | None:
    """The networks of `allowed_ips`; None when an entry is malformed or reaches into an always-blocked range."""
    networks: list[Network] = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return None
        if isinstance(network, ipaddress.IPv6Network):
            # Mapped ranges would never match: addresses are unmapped before they are compared.
            mapped = network.network_address.ipv4_mapped
            if mapped is not None and network.prefixlen >= 96:
                network = ipaddress.IPv4Network((mapped, network.prefixlen - 96))
        if _touches_blocked(network):
            return None
        networks.append(network)
    return tuple(networks)


def _touches_blocked(network: Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return any(isinstance(b, ipaddress.IPv4Network) and network.overlaps(b) for b in _V4_BLOCKED)
    if any(isinstance(b, ipaddress.IPv6Network) and network.overlaps(b) for b in (*_V6_BLOCKED, *_V6_METADATA)):
        # fc00::/7 as a whole is a common way to say "my private network"; the metadata hosts in it stay blocked.
        return network.prefixlen > 16 or not network.subnet_of(ipaddress.IPv6Network("fc00::/7"))
    outside = not (network.subnet_of(_V6_GLOBAL) or network.subnet_of(ipaddress.IPv6Network("fc00::/7")))
    return outside and not network.subnet_of(_NAT64)
