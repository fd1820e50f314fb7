"""Security notes: what a reviewer should know about a proposed rule by looking at the rule alone.

Sentences of contract/gateway.md 4.7, one per observation. Says nothing about the policy it would join.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from pyopenshell.policy.explain import few, printable
from pyopenshell.policy.hosts import canonical_host, is_ip_literal
from pyopenshell.policy.model import Endpoint, Rule

EPHEMERAL_ABOVE = 49152
SERVICE_PORTS = {
    5432: "PostgreSQL",
    3306: "MySQL",
    6379: "Redis",
    27017: "MongoDB",
    9200: "Elasticsearch",
    11211: "memcached",
    5672: "AMQP",
}
"""Ports of databases and brokers (contract/gateway.md 4.7)."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def security_notes(rule: Rule) -> str:
    """One sentence per observation, separated by blanks; "" when there is nothing to say."""
    notes = [note for endpoint in rule.endpoints for note in _endpoint_notes(endpoint)]
    notes += _binary_notes(rule.binaries)
    return " ".join(dict.fromkeys(notes))


def _endpoint_notes(endpoint: Endpoint) -> Iterator[str]:
    host = printable(endpoint.host)
    if endpoint.allow_uninspected_credentials:
        yield f"Credentials for '{host}' may be used on traffic that is not inspected."
    if endpoint.host and "*" in endpoint.host:
        yield f"Host '{host}' is a wildcard and covers more than one destination."
    elif endpoint.host and _internal(endpoint.host):
        yield f"Host '{host}' is an internal or private address."
    if endpoint.allowed_ips and not endpoint.host:
        yield f"No host is named: any name that resolves into {_listed(endpoint.allowed_ips)} is allowed."
    private = [text for text in endpoint.allowed_ips if _private_network(text)]
    if private:
        yield f"allowed_ips opens private address ranges: {_listed(private)}."
    if endpoint.enforcement != "enforce" and endpoint.inspected:
        yield f"Endpoint '{host}' is in audit mode: requests that its rules refuse are forwarded."
    if endpoint.tls == "skip" and endpoint.inspected:
        yield f"Endpoint '{host}' has tls: skip: its rules cannot be enforced on encrypted traffic."
    for port in endpoint.ports:
        if port > EPHEMERAL_ABOVE:
            yield f"Port {port} is in the ephemeral range."
        elif port in SERVICE_PORTS:
            yield f"Port {port} is usually {SERVICE_PORTS[port]}."


def _binary_notes(binaries: Iterable[str]) -> Iterator[str]:
    for binary in binaries:
        if binary in ("/**", "/*", "**"):
            yield "Any program in the sandbox may use this rule."


def _listed(texts: Iterable[str]) -> str:
    return few(map(printable, texts))


def _internal(host: str) -> bool:
    """True for address literals, in any spelling, that are not public."""
    try:
        canonical = canonical_host(host)
    except ValueError:
        return False
    if not is_ip_literal(canonical):
        return False
    return not _public(ipaddress.ip_address(canonical))


def _public(address: _Address) -> bool:
    # IPv4 inside IPv6 reports is_global=True (attacks A-6): such literals are never called public.
    if isinstance(address, ipaddress.IPv6Address) and (
        address.sixtofour or address.teredo or address in ipaddress.ip_network("64:ff9b::/96")
    ):
        return False
    return address.is_global and not address.is_multicast


def _private_network(text: str) -> bool:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return True
    return not (_public(network.network_address) and _public(network.broadcast_address) and network.is_global)
