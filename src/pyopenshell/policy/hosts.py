"""Hosts: the one canonical spelling of a name or address, and host patterns as trie tokens.

Decides which text is a host at all. Knows nothing of ports, DNS or whether an address may be dialled.
"""

from __future__ import annotations

import functools
import ipaddress
import re

from pyopenshell.policy.globs import ANY, DS, G, L, Token, literal_star_glob

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}").fullmatch
# Most hosts are written canonically already; a last label that begins so is never a number.
_CANONICAL = re.compile(rf"(?:{_LABEL}\.)*[a-z_](?:[a-z0-9_-]{{0,61}}[a-z0-9_])?").fullmatch
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}").fullmatch
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*").fullmatch
_WILD_LABEL = re.compile(r"[a-z0-9_*-]{1,63}").fullmatch

# IDNA 2003 and 2008 send these four to different names: two spellings of one host, so neither is accepted.
_DEVIATIONS = frozenset("\u00df\u03c2\u200c\u200d")
_MAX_NAME = 253


def is_ip_literal(host: str) -> bool:
    """True for a canonical host (see `canonical_host`) that is an address rather than a name."""
    return ":" in host or _IPV4(host) is not None


def canonical_host(text: str) -> str:
    """The one spelling under which a host is judged, resolved and logged.

    Lower case, one trailing dot removed, IDNA to punycode, IPv6 compressed without brackets, IPv4-mapped IPv6
    as IPv4. Raises ValueError for everything that is neither a DNS name nor an address in its normal form:
    control bytes, blanks, percent signs, zone ids, empty labels, and the octal, hexadecimal, short and integer
    spellings of IPv4 that `inet_aton` would accept.
    """
    if len(text) <= _MAX_NAME and _CANONICAL(text) is not None:
        return text
    if not text or len(text) > 4 * _MAX_NAME:
        raise ValueError("host is empty or too long")
    host = text.lower() if text.isascii() else _punycode(text)
    if host.endswith("."):
        host = host[:-1]
    if ":" in host or host.startswith("["):
        return _ipv6(host)
    if len(host) > _MAX_NAME or _NAME(host) is None:
        raise ValueError("host is not a DNS name or an IP address")
    if _NUMBER(host.rpartition(".")[2]):
        return _ipv4(host)
    return host


def _ipv4(host: str) -> str:
    """A name whose last label is a number can only be an address (WHATWG URL, "ends in a number")."""
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError("IPv4 address is not in dotted-decimal form") from None


def _ipv6(host: str) -> str:
    if host.startswith("[") != host.endswith("]"):
        raise ValueError("unbalanced brackets around an IPv6 address")
    text = host[1:-1] if host.startswith("[") else host
    if "%" in text:
        raise ValueError("IPv6 zone ids are not allowed")
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("host is not a DNS name or an IP address") from None
    return str(address.ipv4_mapped or address)


def _punycode(text: str) -> str:
    if not _DEVIATIONS.isdisjoint(text):
        raise ValueError("host has characters whose IDNA form is ambiguous")
    try:
        return text.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("host has no IDNA form") from None


@functools.lru_cache(maxsize=65536)
def host_pattern(text: str) -> str:
    """Canonical form of an endpoint's host: an exact host, or a wildcard pattern.

    `*` stands for characters of one label; `**`, only as the whole first label, for one or more labels. Raises
    ValueError for other shapes. Whether a wildcard is too broad (`*.com`) is for `policy.validate` to say.
    """
    if "*" not in text:
        return canonical_host(text)
    pattern = text.lower() if text.isascii() else _punycode_pattern(text)
    pattern = pattern.removesuffix(".")
    labels = pattern.split(".")
    if len(pattern) > _MAX_NAME or len(labels) < 2:
        raise ValueError(f"host wildcard {text!r} needs a literal domain after the wildcard label")
    for index, label in enumerate(labels):
        if label == "**" and index == 0:
            continue
        if _WILD_LABEL(label) is None or "**" in label:
            raise ValueError(f"host wildcard {text!r}: '*' stands inside one label, '**' only as the whole first label")
    if "*" not in labels[-1] and _NUMBER(labels[-1]):
        raise ValueError(f"host wildcard {text!r} ends like an IP address; wildcards never match addresses")
    return pattern


def _punycode_pattern(text: str) -> str:
    return ".".join(label.lower() if label.isascii() else _punycode(label) for label in text.split("."))


def host_word(host: str) -> list[str]:
    """Labels from the top-level domain down: suffixes are literal, so tries prune early."""
    return host.split(".")[::-1]


@functools.lru_cache(maxsize=65536)
def host_tokens(pattern: str) -> tuple[Token, ...]:
    """Tokens of a canonical pattern, top-level domain first. "" (no host, `allowed_ips` only) is any name."""
    if not pattern:
        return ((ANY, None), (DS, None))
    out: list[Token] = []
    for label in reversed(pattern.split(".")):
        if label == "**":
            out += [(ANY, None), (DS, None)]
        elif label == "*":
            out.append((ANY, None))
        elif "*" in label:
            out.append((G, literal_star_glob(label)))
        else:
            out.append((L, label))
    return tuple(out)


def host_matches(pattern: str, host: str) -> bool:
    """Does one canonical pattern match one canonical host?"""
    if not pattern:
        return True
    if "*" not in pattern:
        return pattern == host
    if is_ip_literal(host):
        return False
    labels = host.split(".")
    parts = pattern.split(".")
    if parts[0] == "**":
        parts = parts[1:]
        if len(labels) <= len(parts):
            return False
        labels = labels[len(labels) - len(parts) :]
    if len(labels) != len(parts):
        return False
    return all(_label_matches(part, label) for part, label in zip(parts, labels, strict=True))


def _label_matches(part: str, label: str) -> bool:
    if "*" not in part:
        return part == label
    return part == "*" or literal_star_glob(part).match(label)
