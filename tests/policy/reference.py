"""The definition of docs/policy-language.md, transcribed: slow, obvious, sharing no matching code with the product.

Everything that decides is tested against `permits`. Requests are abstract here: canonical host and path, query as
a mapping; turning bytes into them is tested on its own.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

from pyopenshell.policy.model import Endpoint, L7Match, Policy
from pyopenshell.policy.records import MCP_METHODS

PRESETS = {
    "": (),
    "read-only": ("GET", "HEAD", "OPTIONS"),
    "read-write": ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"),
    "full": ("*",),
}


@dataclasses.dataclass(frozen=True)
class Graphql:
    """An operation in a request body, or with `id` a persisted one: what that stands for, the policy says."""

    type: str = "query"
    name: str = ""
    fields: tuple[str, ...] = ("a",)
    id: str = ""


@dataclasses.dataclass(frozen=True)
class Call:
    method: str
    params: tuple[tuple[str, str], ...] = ()


UPGRADE, TEXT, SESSION = "upgrade", "text", "session"
What = Graphql | Call | str | None


@dataclasses.dataclass(frozen=True)
class Point:
    """`method` None is a raw byte stream. `what` is what the request carries, None for nothing but itself; on a
    WebSocket the method is WEBSOCKET_TEXT."""

    chain: tuple[str, ...]
    host: str
    port: int
    method: str | None = None
    path: str = "/"
    query: tuple[tuple[str, tuple[str, ...]], ...] = ()
    what: What = None


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
    highest = max(specificity(scope(endpoint)) for endpoint in selected)
    top = [endpoint for endpoint in selected if specificity(scope(endpoint)) == highest]
    protocols = {endpoint.protocol for endpoint in top}
    if len(protocols) != 1 or not protocols & judges(point):
        return False
    ours = [endpoint for endpoint in selected if endpoint.protocol in protocols]
    if point.method == "WEBSOCKET_TEXT" and point.what is not None:
        looked_into = "websocket" in protocols and any(graphql_rules(e) for e in ours)
        if point.what == TEXT and looked_into:
            return False
        if not looked_into:
            point = dataclasses.replace(point, what=TEXT)
    if isinstance(point.what, Graphql) and point.what.id:
        meanings = {
            (op.operation_type.lower(), op.operation_name, op.fields)
            for e in top
            if e.persisted_queries == "allow_registered"
            for key, op in e.graphql_persisted_queries
            if key == point.what.id
        }
        if len(meanings) != 1:
            return False
        point = dataclasses.replace(point, what=Graphql(*meanings.pop(), point.what.id))
    if any(e.enforcement == "audit" and (e.allow_encoded_slash or not slash) for e in top):
        return True
    return any(_allows(e, point) for e in ours if e.allow_encoded_slash or not slash) and not any(
        _denies(e, point) for e in selected
    )


def judges(point: Point) -> set[str]:
    """The protocols whose endpoints can say something about such a request."""
    if point.what is None:
        return {"rest"}
    if point.what in (UPGRADE, TEXT) or point.method == "WEBSOCKET_TEXT":
        return {"rest", "websocket"}
    if isinstance(point.what, Graphql):
        return {"graphql"}
    return {"json-rpc", "mcp"} if isinstance(point.what, Call) else {"mcp"}


def about_graphql(rule: L7Match) -> bool:
    return bool(rule.operation_type or rule.operation_name or rule.fields)


def graphql_rules(endpoint: Endpoint) -> bool:
    return endpoint.protocol == "websocket" and any(about_graphql(r) for r in endpoint.rules + endpoint.deny_rules)


def allow_rules(endpoint: Endpoint) -> list[L7Match]:
    rules = list(endpoint.rules)
    if endpoint.protocol == "rest":
        rules += [L7Match(method, "**") for method in PRESETS[endpoint.access]]
    if endpoint.protocol == "websocket":
        texts = {"read-only": ("GET",), "read-write": ("GET", "WEBSOCKET_TEXT"), "full": ("*",)}
        rules += [L7Match(method, "**") for method in texts.get(endpoint.access, ())]
    if endpoint.protocol == "graphql":
        kinds = {"read-only": ("query",), "read-write": ("query", "mutation"), "full": ("*",)}
        rules += [L7Match(operation_type=kind) for kind in kinds.get(endpoint.access, ())]
    return rules


def _allows(endpoint: Endpoint, point: Point) -> bool:
    if endpoint.protocol == "mcp" and endpoint.mcp and endpoint.mcp.allow_all_known_mcp_methods and not endpoint.rules:
        if point.what == SESSION:
            return True
        if isinstance(point.what, Call) and point.what.method not in MCP_METHODS:
            return False
        return not isinstance(point.what, Call) or _speaks(endpoint, point.what)
    rules = allow_rules(endpoint)
    if point.what == SESSION and (endpoint.protocol == "mcp" or graphql_rules(endpoint)):
        return bool(rules)
    return any(_holds(rule, endpoint, point, deny=False) for rule in rules)


def _denies(endpoint: Endpoint, point: Point) -> bool:
    return any(_holds(rule, endpoint, point, deny=True) for rule in endpoint.deny_rules)


def _holds(rule: L7Match, endpoint: Endpoint, point: Point, *, deny: bool) -> bool:
    some = any if deny else all
    if endpoint.protocol == "graphql" or (about_graphql(rule) and graphql_rules(endpoint)):
        what = point.what
        return (
            isinstance(what, Graphql)
            and rule.operation_type in ("*", what.type)
            and (not rule.operation_name or bool(value_regex(rule.operation_name).match(what.name)))
            and (not rule.fields or some(any(value_regex(g).match(f) for g in rule.fields) for f in what.fields))
        )
    if endpoint.protocol in ("json-rpc", "mcp"):
        call = point.what
        if not isinstance(call, Call) or (not deny and not _speaks(endpoint, call)):
            return False
        method = rule.method or ("tools/call" if "name" in dict(rule.params) else "*")
        params = dict(call.params)
        return bool(value_regex(method).match(call.method)) and all(
            key in params and any(value_regex(g).match(params[key]) for g in m.any) for key, m in rule.params
        )
    assert point.method is not None
    query = dict(point.query)
    path = deny_path_matches(endpoint, rule.path, point.path) if deny else path_regex(rule.path).match(point.path)
    values = query_denies(rule, query) if deny else query_allows(rule, query)
    return method_matches(rule.method, point.method) and bool(path) and values


def _speaks(endpoint: Endpoint, call: Call) -> bool:
    """The options of an MCP endpoint: what its allow rules take for granted."""
    if endpoint.protocol != "mcp":
        return True
    params = dict(call.params)
    strict = endpoint.mcp is None or endpoint.mcp.strict_tool_names
    if strict and call.method == "tools/call" and not re.fullmatch(r"[A-Za-z0-9_.-]+", params["name"]):
        return False
    versions = endpoint.mcp.versions if endpoint.mcp else ()
    return call.method != "initialize" or not versions or params.get("protocolVersion") in versions
