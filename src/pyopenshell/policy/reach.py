"""Destinations that no rule may name: loopback, link-local, unspecified, and the cloud metadata services.

Decides from the text of an endpoint alone; what a name resolves to is judged when it is dialled.
"""

from __future__ import annotations

import ipaddress

from pyopenshell.policy import hosts
from pyopenshell.policy.model import Endpoint
from pyopenshell.policy.problems import shown

METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata.goog", "metadata", "instance-data"})
METADATA_ADDRESSES = frozenset({"168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"})
"""Azure, Alibaba, Oracle, AWS over IPv6; 169.254.169.254 is link-local already."""
_BLOCKED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8",
        "169.254.0.0/16",
        "0.0.0.0/32",
        "::1/128",
        "::/128",
        "fe80::/10",
        "::ffff:127.0.0.0/104",
    )
) + tuple(ipaddress.ip_network(text) for text in ("::ffff:169.254.0.0/112", *sorted(METADATA_ADDRESSES)))


def always_blocked(endpoint: Endpoint) -> str:
    """Why the endpoint can never be reached, or "". Wildcards that could only ever match blocked names count too."""
    host = endpoint.host
    literal = host.rpartition("*.")[2] if "*" in host else host
    if literal == "localhost" or literal.endswith(".localhost") or literal in METADATA_HOSTS:
        return f"host {shown(host)} is always blocked (loopback or cloud metadata)"
    if any(hosts.host_matches(host, name) for name in METADATA_HOSTS) and "*" in host:
        return f"host {shown(host)} matches a cloud metadata service, which is always blocked"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        if any(address in network for network in _BLOCKED):
            return f"host {shown(host)} is always blocked (loopback, link-local, unspecified or cloud metadata)"
    for entry in endpoint.allowed_ips:
        try:
            network = ipaddress.ip_network(entry)
        except ValueError:
            continue
        if any(_overlaps(network, blocked) for blocked in _BLOCKED):
            return f"allowed_ips entry {shown(entry)} overlaps an always-blocked range"
    return ""


def _overlaps(
    one: ipaddress.IPv4Network | ipaddress.IPv6Network, other: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return one.version == other.version and one.overlaps(other)
