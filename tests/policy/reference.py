"""The definition of proof.md section 2, transcribed: slow, obvious, and sharing no matching code with the product.

Everything that decides is tested against `permits`. Requests are abstract here: canonical host and path, query as
a mapping; turning bytes into them is tested on its own.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

from pyopenshell.policy.model import Endpoint, L7Match, Policy

PRESETS = {
    "": (),
    "read-only": ("GET", "HEAD", "OPTIONS"),
    "read-write": ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"),
    "full": ("*",),
}


@dataclasses.dataclass(frozen=True)
class Point:
    """`method` None is a raw byte stream."""

    chain: tuple[str, ...]
    host: str
    port: int
    method: str | None = None
    path: str = "/"
    query: tuple[tuple[str, tuple[str, ...]], ...] = ()


def _class(text: str) -> tuple[frozenset[str], bool, int]:
    """Characters of the class at the start of `text`, whether it is negated, and its length."""
    negated = text[1] in "!^"
    i = 2 if negated else 1
    first = i
    chars: set[str] = set()
    while text[i] != "]" or i == first:
        if text[i + 1] == "-" and text[i + 2] != "]":
            chars.update(chr(c) for c in range(ord(text[i]), ord(text[i + 2]) + 1))
            i += 3
        else:
            chars.add(text[i])
            i += 1
    return frozenset(chars), negated, i + 1


def _characters(chars: frozenset[str], negated: bool, fold: bool, separator: str) -> str:
    if fold and negated:
        chars = frozenset(c for c in chars if c.swapcase() in chars)
    elif fold:
        chars = chars | {c.swapcase() for c in chars}
    if negated:
        return "[^" + "".join(sorted(re.escape(c) for c in chars | set(separator))) + "]" if chars or separator else "."
    return "(?:" + "|".join(sorted(re.escape(c) for c in chars if c != separator)) + ")"


def _segment(text: str, fold: bool, separator: str) -> str:
    out, i = "", 0
    while i < len(text):
        if text[i] == "*":
            out += f"[^{separator}]*" if separator else ".*"
        elif text[i] == "?":
            out += f"[^{separator}]" if separator else "."
        elif text[i] == "[":
            chars, negated, length = _class(text[i:])
            out += _characters(chars, negated, fold, separator)
            i += length - 1
        else:
            out += _characters(frozenset(text[i]), False, fold, separator)
        i += 1
    return out


@functools.cache
def path_regex(pattern: str, fold: bool = False) -> re.Pattern[str]:
    segments = ("/**" if pattern == "**" else pattern)[1:].split("/")
    out = ""
    for index, segment in enumerate(segments):
        if segment != "**":
            out += "/" + _segment(segment, fold, "/")
        elif index == len(segments) - 1:
            out += "/.*"
        else:
            out += "(?:/[^/]+)*"
    return re.compile(out + r"\Z", re.DOTALL)


@functools.cache
def value_regex(pattern: str) -> re.Pattern[str]:
    return re.compile(_segment(pattern, False, "") + r"\Z", re.DOTALL)


@functools.cache
def host_regex(pattern: str) -> re.Pattern[str]:
    parts = [
        r"[^.]+(?:\.[^.]+)*" if label == "**" else "[^.]+" if label == "*" else _segment(label, False, ".")
        for label in pattern.lower().split(".")
    ]
    return re.compile(r"\.".join(parts) + r"\Z")


def host_matches(endpoint: Endpoint, host: str) -> bool:
    pattern = endpoint.host.lower()
    if not pattern:
        return bool(endpoint.allowed_ips)
    if "*" not in pattern:
        return pattern == host
    address = ":" in host or re.fullmatch(r"\d+(\.\d+){3}", host)
    return not address and bool(host_regex(pattern).match(host))


def binary_matches(pattern: str, path: str) -> bool:
    return bool(path_regex(pattern).match(path)) if "*" in pattern else pattern == path


def inspected(endpoint: Endpoint) -> bool:
    return endpoint.protocol not in ("", "tcp") and endpoint.tls != "skip"


def scope(endpoint: Endpoint) -> str:
    return endpoint.path or "/**"


def specificity(text: str) -> int:
    while "/**/**" in text:  # one pattern, two spellings
        text = text.replace("/**/**", "/**")
    if text.endswith("/**/*"):  # and a third: the last `*` may be empty
        text = text.removesuffix("/*")
    return 0 if text in ("**", "/**") else sum(1 for c in text if c != "*")


def method_matches(rule: str, method: str) -> bool:
    return rule == "*" or rule.upper() == method or (rule.upper() == "GET" and method == "HEAD")


def query_allows(rule: L7Match, query: Mapping[str, Sequence[str]]) -> bool:
    return all(
        query.get(key) and all(any(value_regex(g).match(v) for g in m.any) for v in query[key]) for key, m in rule.query
    )


def query_denies(rule: L7Match, query: Mapping[str, Sequence[str]]) -> bool:
    return all(any(value_regex(g).match(v) for g in m.any for v in query.get(key, ())) for key, m in rule.query)


def deny_path_matches(endpoint: Endpoint, pattern: str, path: str) -> bool:
    """Modulo one trailing slash, and in any letter case when the endpoint says so (proof.md 2.5, decision 3)."""
    toggled = path[:-1] if path.endswith("/") else path + "/"
    candidates = [path, toggled] if toggled else [path]
    fold = endpoint.path_case == "insensitive"
    return any(path_regex(pattern, fold).match(candidate) for candidate in candidates)


def permits(policy: Policy, point: Point) -> bool:
    e4 = [
        endpoint
        for rule in policy.rules
        if any(binary_matches(pattern, name) for pattern in rule.binaries for name in point.chain)
        for endpoint in rule.endpoints
        if point.port in endpoint.ports and host_matches(endpoint, point.host)
    ]
    e7 = [endpoint for endpoint in e4 if inspected(endpoint)]
    if e4 and not e7:
        return True
    if point.method is None:
        return False
    selected = [endpoint for endpoint in e7 if path_regex(scope(endpoint)).match(point.path)]
    if not selected:
        return False
    slash = "%2F" in point.path
    top = max(specificity(scope(endpoint)) for endpoint in selected)
    for endpoint in selected:
        forwards = endpoint.enforcement == "audit" and endpoint.protocol == "rest"
        if forwards and specificity(scope(endpoint)) == top and (endpoint.allow_encoded_slash or not slash):
            return True
    return any(_allows(e, point) for e in selected if e.allow_encoded_slash or not slash) and not any(
        _denies(e, point) for e in selected
    )


def _allows(endpoint: Endpoint, point: Point) -> bool:
    assert point.method is not None
    if endpoint.protocol != "rest":
        return False
    if any(method_matches(method, point.method) for method in PRESETS[endpoint.access]):
        return True
    query = dict(point.query)
    return any(
        method_matches(rule.method, point.method)
        and path_regex(rule.path).match(point.path)
        and query_allows(rule, query)
        for rule in endpoint.rules
    )


def _denies(endpoint: Endpoint, point: Point) -> bool:
    assert point.method is not None
    if endpoint.protocol != "rest":
        return True
    query = dict(point.query)
    return any(
        method_matches(rule.method, point.method)
        and deny_path_matches(endpoint, rule.path, point.path)
        and query_denies(rule, query)
        for rule in endpoint.deny_rules
    )
