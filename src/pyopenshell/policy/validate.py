"""Whether a well-typed policy makes sense: every value, and every combination inside one endpoint.

Decides what may be loaded, set or proposed. Must not know files; what two endpoints mean together is
`policy.conflicts`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterator

from pyopenshell.policy import patterns
from pyopenshell.policy.memo import per_object
from pyopenshell.policy.model import (
    PROVIDER_PREFIX,
    Endpoint,
    FilesystemPolicy,
    L7Match,
    Middleware,
    Policy,
    ProcessPolicy,
    QueryMatcher,
    Rule,
)
from pyopenshell.policy.operations import PARAMS
from pyopenshell.policy.problems import Problem, Where, did_you_mean, problem, shown
from pyopenshell.policy.schema import ACCESS, ENFORCEMENT, HTTP_METHODS, PATH_CASES, PROTOCOLS

MAX_FILESYSTEM_PATHS = 256
MAX_PATH_CHARACTERS = 4096
MAX_MIDDLEWARES = 10
MAX_SELECTORS = 32
MAX_KEY_CHARACTERS = 200
SIGNING = ("sigv4", "sigv4:body", "sigv4:no_body")
PERSISTED = ("deny", "allow_registered")
OPERATION_TYPES = ("query", "mutation", "subscription", "*")

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_NUMERIC_ID = re.compile(r"[1-9][0-9]{0,9}")
_HIGHEST_ID = 4294967294


def validate(policy: Policy, *, provider_layers: bool = False) -> list[Problem]:
    """Every semantic problem of a policy, [] when it may be enforced.

    `provider_layers` admits rule keys with the reserved prefix: true for an effective policy, false for anything a
    user or an agent wrote. Problems carry `where`; `policy.load` turns that into line and column.
    """
    found = list(_policy(policy))
    if not provider_layers:
        found += [_reserved(rule.key, ("network_policies", rule.key)) for rule in policy.rules if is_reserved(rule.key)]
    return found


def validate_rule(rule: Rule, where: Where = ()) -> list[Problem]:
    """The problems of one rule alone (proposals, merge operations)."""
    return [dataclasses.replace(found, where=(*where, *found.where)) for found in _rule_problems(rule)]


@per_object
def _rule_problems(rule: Rule) -> tuple[Problem, ...]:
    """Of one rule, wherever it stands: `where` starts at the rule."""
    return tuple(_rule(rule, ()))


def is_reserved(key: str) -> bool:
    return key.casefold().startswith(PROVIDER_PREFIX)


def _reserved(key: str, where: Where) -> Problem:
    return problem(
        "reserved_key",
        f"network_policies key {shown(key)} uses reserved '{PROVIDER_PREFIX}' prefix",
        "provider rules are composed by the gateway; rename the rule, or export with `policy get --base`",
        where,
    )


def _policy(policy: Policy) -> Iterator[Problem]:
    if policy.version != 1:
        yield problem(
            "version_unsupported", f"unsupported version {policy.version}", "write `version: 1`", ("version",)
        )
    if policy.filesystem is not None:
        yield from _filesystem(policy.filesystem)
    if policy.process is not None:
        yield from _process(policy.process)
    if policy.landlock is not None and policy.landlock.compatibility not in ("best_effort", "hard_requirement"):
        yield problem(
            "unknown_value",
            f"unknown compatibility {shown(policy.landlock.compatibility)}",
            did_you_mean(policy.landlock.compatibility, ("best_effort", "hard_requirement")),
            ("landlock", "compatibility"),
        )
    seen: set[str] = set()
    for rule in policy.rules:
        if rule.key in seen:
            yield problem("duplicate_key", f"duplicate rule {shown(rule.key)}", where=("network_policies", rule.key))
        seen.add(rule.key)
        for found in _rule_problems(rule):
            yield dataclasses.replace(found, where=("network_policies", rule.key, *found.where))
    yield from _middlewares(policy)


# ---- static sections -------------------------------------------------------------------------------------------------


def _filesystem(section: FilesystemPolicy) -> Iterator[Problem]:
    where: Where = ("filesystem_policy",)
    total = len(section.read_only) + len(section.read_write)
    if total > MAX_FILESYSTEM_PATHS:
        yield problem("too_many_paths", f"too many filesystem paths ({total} > {MAX_FILESYSTEM_PATHS})", where=where)
    for name, paths in (("read_only", section.read_only), ("read_write", section.read_write)):
        for index, path in enumerate(paths):
            for code, message in _filesystem_path(path, writable=name == "read_write"):
                yield problem(code, f"{message}: {shown(path)}", where=(*where, name, index))


def _filesystem_path(path: str, *, writable: bool) -> Iterator[tuple[str, str]]:
    if len(path) > MAX_PATH_CHARACTERS:
        yield "path_too_long", "path exceeds maximum length"
    elif not path.startswith("/"):
        yield "path_not_absolute", "path must be absolute (start with '/')"
    if ".." in path.split("/"):
        yield "path_traversal", "path contains '..' traversal component"
    if "\0" in path or "\n" in path:
        yield "path_characters", "path contains a NUL or a line break"
    if writable and path.startswith("/") and not path.strip("/."):
        yield "path_too_broad", "read-write path is overly broad"


def _process(section: ProcessPolicy) -> Iterator[Problem]:
    for name, value in (("run_as_user", section.run_as_user), ("run_as_group", section.run_as_group)):
        numeric = _NUMERIC_ID.fullmatch(value) and int(value) <= _HIGHEST_ID
        if value and value != "sandbox" and not numeric:
            yield problem(
                "identity_invalid",
                f"{name} must be 'sandbox' or a numeric UID/GID in range [1, {_HIGHEST_ID}], got {shown(value)}",
                where=("process", name),
            )


def _middlewares(policy: Policy) -> Iterator[Problem]:
    where: Where = ("network_middlewares",)
    if len(policy.middlewares) > MAX_MIDDLEWARES:
        yield problem("too_many_middlewares", f"more than {MAX_MIDDLEWARES} middlewares", where=where)
    orders: dict[int, str] = {}
    skipped = [e.host for rule in policy.rules for e in rule.endpoints if e.tls == "skip"]
    for entry in policy.middlewares:
        yield from _middleware(entry, skipped)
        if entry.order in orders:
            yield problem(
                "order_not_unique",
                f"order {entry.order} is already used by {shown(orders[entry.order])}",
                where=(*where, entry.key, "order"),
            )
        orders.setdefault(entry.order, entry.key)


def _middleware(entry: Middleware, skipped: list[str]) -> Iterator[Problem]:
    where: Where = ("network_middlewares", entry.key)
    yield from _printable(entry.key, where, "key")
    if not entry.middleware:
        yield problem("middleware_missing", "middleware must name a middleware", where=where)
    if len(entry.include) + len(entry.exclude) > MAX_SELECTORS:
        yield problem("too_many_selectors", f"more than {MAX_SELECTORS} selector patterns", where=(*where, "endpoints"))
    for host in skipped:
        if host in entry.include and host not in entry.exclude:
            yield problem(
                "middleware_on_skip",
                f"selects {shown(host)}, whose traffic is not terminated (tls: skip)",
                where=(*where, "endpoints"),
            )


# ---- rules -----------------------------------------------------------------------------------------------------------


def _printable(text: str, where: Where, name: str) -> Iterator[Problem]:
    if not text.isprintable():
        yield problem("unprintable", f"{name} contains control or invisible characters: {shown(text)}", where=where)


def _rule(rule: Rule, where: Where) -> Iterator[Problem]:
    prefix = f"network policy {shown(rule.key)}: "

    def said(found: Iterator[Problem] | list[Problem]) -> Iterator[Problem]:
        return (dataclasses.replace(p, message=prefix + p.message) for p in found)

    yield from said(_rule_itself(rule, where))
    for index, binary in enumerate(rule.binaries):
        reason = patterns.binary_problem(binary)
        if reason:
            place = (*where, "binaries", index, "path")
            yield from said([problem("binary_invalid", f"invalid binary {shown(binary)}: {reason}", where=place)])
    for index, endpoint in enumerate(rule.endpoints):
        yield from said(_endpoint(endpoint, index, (*where, "endpoints", index)))


def _rule_itself(rule: Rule, where: Where) -> Iterator[Problem]:
    if not rule.key.strip() or rule.key != rule.key.strip() or len(rule.key) > MAX_KEY_CHARACTERS:
        yield problem(
            "key_invalid", f"a rule name has 1 to {MAX_KEY_CHARACTERS} characters and no outer spaces", where=where
        )
    yield from _printable(rule.key, where, "rule name")
    yield from _printable(rule.name, (*where, "name"), "name")
    if not rule.endpoints:
        yield problem(
            "endpoints_empty", "rule must contain at least one endpoint", "add endpoints or remove the rule", where
        )
    if not rule.binaries:
        yield problem(
            "binaries_empty", "binaries must name at least one executable", "write `path: /**` for any binary", where
        )


def _endpoint(endpoint: Endpoint, index: int, where: Where) -> Iterator[Problem]:
    yield from _destination(endpoint, where)
    yield from _values(endpoint, where)
    yield from _credentials(endpoint, where)
    for found in _layer7(endpoint, where):
        core = f"endpoint {index} has invalid L7 configuration: {found.message}"
        yield dataclasses.replace(found, message=core)
    yield from _matchers(endpoint, where)


def _destination(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    host = endpoint.host
    if not host and (not endpoint.allowed_ips or endpoint.protocol == "tcp"):
        yield problem(
            "host_empty",
            "endpoint host must not be empty unless allowed_ips constrains a non-TCP proxy endpoint",
            where=where,
        )
    elif host:
        reason = patterns.host_problem(host)
        if reason:
            yield problem(reason.code, reason.message, reason.fix, (*where, "host"))
        elif endpoint.protocol == "tcp" and patterns.is_ip_literal(host):
            yield problem("tcp_needs_name", "protocol tcp needs a DNS host, not an address", where=(*where, "host"))
    if not endpoint.ports:
        yield problem("port_missing", f"endpoint {shown(host)} must declare at least one port", where=where)
    for port in endpoint.ports:
        if not 1 <= port <= 65535:
            place = (*where, "port") if len(endpoint.ports) == 1 else (*where, "ports")
            yield problem(
                "port_invalid", f"endpoint {shown(host)} has invalid port {port}; expected 1..=65535", where=place
            )
    for index, entry in enumerate(endpoint.allowed_ips):
        if network(entry) is None:
            yield problem(
                "allowed_ips_invalid",
                f"allowed_ips entry {shown(entry)} is not an address or CIDR network",
                where=(*where, "allowed_ips", index),
            )


def network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """An `allowed_ips` entry as a network, None when it is none. Host bits below the prefix are refused."""
    try:
        return ipaddress.ip_network(entry) if "%" not in entry else None
    except ValueError:
        return None


def _one_of(name: str, value: str, valid: tuple[str, ...], where: Where) -> Iterator[Problem]:
    if value not in valid:
        fix = did_you_mean(value, [v for v in valid if v])
        yield problem("unknown_value", f"unknown {name} {shown(value)}", fix, (*where, name))


def _values(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    yield from _one_of("enforcement", endpoint.enforcement, ENFORCEMENT, where)
    yield from _one_of("access", endpoint.access, ("", *ACCESS), where)
    yield from _one_of("tls", endpoint.tls, ("", "skip"), where)
    yield from _one_of("path_case", endpoint.path_case, PATH_CASES, where)
    if endpoint.persisted_queries not in PERSISTED:
        got = shown(endpoint.persisted_queries)
        yield problem(
            "unknown_value",
            f"persisted_queries must be 'deny' or 'allow_registered', got {got}",
            where=(*where, "persisted_queries"),
        )
    limits = [
        ("graphql_max_body_bytes", endpoint.graphql_max_body_bytes),
        ("json_rpc", endpoint.json_rpc_max_body_bytes),
    ]
    if endpoint.mcp is not None:
        limits.append(("mcp", endpoint.mcp.max_body_bytes))
    for name, limit in limits:
        if not 1 <= limit <= 0xFFFFFFFF:
            yield problem("limit_invalid", f"{name} limit must be at least 1 byte, got {limit}", where=(*where, name))


def _credentials(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    if endpoint.credential_signing:
        yield from _one_of("credential_signing", endpoint.credential_signing, SIGNING, where)
        if not endpoint.signing_service:
            yield problem("signing_service_missing", "credential_signing needs signing_service", where=where)
        if endpoint.request_body_credential_rewrite:
            yield problem(
                "signing_and_rewrite",
                "credential_signing and request_body_credential_rewrite are mutually exclusive",
                where=(*where, "credential_signing"),
            )
    if endpoint.request_body_credential_rewrite and endpoint.protocol != "rest":
        yield problem(
            "rewrite_protocol",
            "request_body_credential_rewrite is only valid for protocol rest",
            where=(*where, "request_body_credential_rewrite"),
        )
    if endpoint.websocket_credential_rewrite and endpoint.protocol not in ("rest", "websocket"):
        yield problem(
            "rewrite_protocol",
            "websocket_credential_rewrite is only valid for protocol rest or websocket",
            where=(*where, "websocket_credential_rewrite"),
        )
    for name in ("signing_service", "signing_region", "credential_provider"):
        yield from _printable(getattr(endpoint, name), where, name)


# ---- layer 7 ---------------------------------------------------------------------------------------------------------

_Check = Callable[[Endpoint], bool]
_NEEDS: tuple[tuple[str, str, _Check], ...] = (
    ("json_rpc", "json_rpc options are only valid for protocol json-rpc", lambda e: e.json_rpc_max_body_bytes != 65536),
    ("mcp", "mcp options are only valid for protocol mcp", lambda e: e.mcp is not None),
    (
        "graphql_persisted_queries",
        "persisted queries are only valid for protocol graphql or websocket",
        lambda e: bool(e.graphql_persisted_queries) or e.persisted_queries != "deny",
    ),
)
_NEEDED: dict[str, tuple[str, ...]] = {
    "json_rpc": ("json-rpc",),
    "mcp": ("mcp",),
    "graphql_persisted_queries": ("graphql", "websocket"),
}


def _layer7(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    protocol = endpoint.protocol
    if protocol == "sql":
        yield problem("protocol_sql", "protocol sql is not enforced by anything", where=(*where, "protocol"))
        return
    if not patterns.known_protocol(protocol):
        yield problem(
            "unknown_value",
            f"unknown protocol {shown(protocol)} (expected tcp, rest, websocket, graphql, json-rpc, or mcp)",
            did_you_mean(protocol, PROTOCOLS),
            (*where, "protocol"),
        )
        return
    for name, message, used in _NEEDS:
        if used(endpoint) and protocol not in _NEEDED[name]:
            yield problem("option_protocol", message, where=(*where, name))
    if endpoint.access and endpoint.rules:
        yield problem("rules_and_access", "rules and access are mutually exclusive", where=(*where, "access"))
    if protocol in ("", "tcp"):
        yield from _raw(endpoint, where)
    else:
        yield from _inspected(endpoint, where)


def _raw(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    if endpoint.protocol == "tcp" and (endpoint.access or endpoint.rules or endpoint.deny_rules or endpoint.path):
        yield problem(
            "tcp_inspected", "protocol tcp does not support access, rules, or deny_rules, or path", "use rest", where
        )
        return
    fix = "add `protocol: rest`, or remove it for a raw connection"
    if endpoint.deny_rules:
        yield problem(
            "protocol_missing",
            "deny_rules require protocol (L7 inspection must be enabled)",
            fix,
            (*where, "deny_rules"),
        )
    for name in ("access", "rules", "path"):
        if getattr(endpoint, name):
            message = f"{name} requires protocol (L7 inspection must be enabled)"
            yield problem("protocol_missing", message, fix, (*where, name))
    if endpoint.enforcement == "audit":
        yield problem(
            "audit_raw", "enforcement: audit requires protocol (nothing is judged on a raw connection)", fix, where
        )


def _inspected(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    protocol = endpoint.protocol
    for name, known in endpoint.graphql_persisted_queries if protocol in ("graphql", "websocket") else ():
        place: Where = (*where, "graphql_persisted_queries", name)
        if known.operation_type.lower() not in OPERATION_TYPES[:-1] or not known.fields:
            message = f"persisted query {shown(name)} needs its operation_type and its root fields"
            yield problem("persisted_incomplete", message, "write what the server has registered", place)
    if endpoint.tls == "skip":
        yield problem(
            "skip_inspected",
            f"protocol {protocol} cannot be inspected with tls: skip",
            "remove tls, or remove protocol for a raw connection",
            (*where, "tls"),
        )
    if protocol in ("mcp", "json-rpc") and endpoint.access:
        message = f"access presets are not available for protocol {protocol}"
        yield problem("access_protocol", message, "write rules", (*where, "access"))
    everything = endpoint.mcp is not None and endpoint.mcp.allow_all_known_mcp_methods
    has_base = bool(endpoint.access or endpoint.rules or everything)
    if not has_base and endpoint.deny_rules:
        yield problem(
            "base_missing",
            "deny_rules require rules or access to define the base allow set",
            where=(*where, "deny_rules"),
        )
    elif not has_base:
        yield problem(
            "base_missing",
            "protocol requires rules or access to define allowed traffic",
            "add `access: read-only`, or rules such as `- allow: {method: GET, path: /v1/**}`",
            (*where, "protocol"),
        )
    if endpoint.path:
        reason = patterns.path_problem(endpoint.path)
        if not endpoint.path.startswith("/") and endpoint.path != "**":
            yield problem("path_invalid", "path must start with '/' or be '**'", where=(*where, "path"))
        elif reason:
            yield problem("path_invalid", f"invalid path {shown(endpoint.path)}: {reason}", where=(*where, "path"))


# ---- matchers --------------------------------------------------------------------------------------------------------

_USED_BY: dict[str, frozenset[str]] = {
    "rest": frozenset({"method", "path", "query"}),
    "websocket": frozenset({"method", "path", "query", "operation_type", "operation_name", "fields"}),
    "graphql": frozenset({"operation_type", "operation_name", "fields"}),
    "json-rpc": frozenset({"method"}),
    "mcp": frozenset({"method", "params"}),
}
_MATCHER_FIELDS = ("method", "path", "query", "command", "operation_type", "operation_name", "fields", "params")


def _matchers(endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    if endpoint.protocol not in _USED_BY:
        return
    for index, match in enumerate(endpoint.rules):
        yield from _matcher(match, endpoint, (*where, "rules", index, "allow"))
    for index, match in enumerate(endpoint.deny_rules):
        yield from _matcher(match, endpoint, (*where, "deny_rules", index))


def _matcher(match: L7Match, endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    protocol = endpoint.protocol
    for name in _MATCHER_FIELDS:
        if getattr(match, name) and name not in _USED_BY[protocol]:
            message = f"{name} is not a matcher of protocol {protocol}"
            yield problem("matcher_protocol", message, where=(*where, "tool" if name == "params" else name))
    graphql = bool(match.operation_type) and protocol == "websocket"
    if protocol == "rest" or (protocol == "websocket" and not graphql):
        yield from _http(match, where)
    elif protocol == "json-rpc" and not match.method:
        yield problem("method_missing", "a json-rpc matcher needs method", "write '*' for any method", where)
    elif protocol == "mcp" and not match.method and not match.params:
        yield problem("method_missing", "an mcp matcher needs method or tool", "write '*' for any method", where)
    elif protocol in ("graphql", "websocket") and match.operation_type.lower() not in OPERATION_TYPES:
        yield problem(
            "operation_type_invalid",
            f"operation_type must be query, mutation, subscription or '*', got {shown(match.operation_type)}",
            where=where,
        )
    yield from _globs(match, endpoint, where)


def _http(match: L7Match, where: Where) -> Iterator[Problem]:
    if not match.method:
        yield problem("method_missing", "method is missing", "write it, or '*' for any method", where)
    elif match.method != "*" and (not _TOKEN.fullmatch(match.method) or "*" in match.method):
        yield problem("method_invalid", f"invalid method {shown(match.method)}", where=(*where, "method"))
    elif match.method != match.method.upper() and match.method != "*":
        fix = did_you_mean(match.method, HTTP_METHODS)
        yield problem("method_invalid", f"method {shown(match.method)} is not upper case", fix, (*where, "method"))
    if not match.path:
        yield problem("path_missing", "path is missing", "write it, or '**' for every path", where)
        return
    reason = patterns.path_problem(match.path)
    if reason:
        yield problem("path_invalid", f"invalid path {shown(match.path)}: {reason}", where=(*where, "path"))


def _globs(match: L7Match, endpoint: Endpoint, where: Where) -> Iterator[Problem]:
    groups: list[tuple[str, tuple[tuple[str, QueryMatcher], ...]]] = [("query", match.query), ("params", match.params)]
    for name, matchers in groups:
        for key, matcher in matchers:
            yield from _printable(key, (*where, name), f"{name} key")
            if not matcher.any:
                yield problem("matcher_empty", f"{name} {shown(key)} must list at least one glob", where=(*where, name))
            for glob in matcher.any:
                reason = patterns.value_problem(glob)
                if reason:
                    message = f"invalid glob {shown(glob)} for {name} {shown(key)}: {reason}"
                    yield problem("glob_invalid", message, where=(*where, name, key))
    for key, _ in match.params if endpoint.protocol == "mcp" else ():
        if key not in PARAMS:
            fix = f"parameters that rules can match: {', '.join(PARAMS)}"
            yield problem(
                "param_unknown", f"{shown(key)} is not a parameter that can be judged", fix, (*where, "params")
            )
    for name, texts in (("operation_name", (match.operation_name,)), ("fields", match.fields)):
        for text in texts:
            reason = patterns.value_problem(text)
            if reason:
                yield problem("glob_invalid", f"invalid glob {shown(text)}: {reason}", where=(*where, name))
    strict = endpoint.mcp is None or endpoint.mcp.strict_tool_names
    if endpoint.protocol == "mcp" and strict:
        for key, matcher in match.params:
            if key == "name" and any(not patterns.tool_glob(glob) for glob in matcher.any):
                yield problem("tool_invalid", "tool names match [A-Za-z0-9_.-]{1,128}", where=(*where, "tool"))
