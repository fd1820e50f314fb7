"""A plain tree to model values: names, types and spellings of the YAML schema (contract/sandbox.md 3).

Decides which keys exist and which type each has; every misspelling is reported with its place. Must not know files,
nor whether the values make sense together: that is `policy.validate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from pyopenshell.policy.model import (
    Endpoint,
    FilesystemPolicy,
    GraphqlOperation,
    L7Match,
    LandlockPolicy,
    McpOptions,
    Middleware,
    Policy,
    ProcessPolicy,
    QueryMatcher,
    Rule,
)
from pyopenshell.policy.nodes import ListNode, MapNode, Node, ScalarNode
from pyopenshell.policy.problems import Problem, Problems, Where, did_you_mean, shown

T = TypeVar("T")
D = TypeVar("D")

TOP_KEYS = ("version", "filesystem_policy", "landlock", "process", "network_policies", "network_middlewares")
RULE_KEYS = ("name", "endpoints", "binaries")
MATCH_KEYS = ("method", "path", "query", "command", "operation_type", "operation_name", "fields", "tool", "params")
CORE_ENDPOINT_KEYS = (
    "host",
    "port",
    "ports",
    "path",
    "protocol",
    "tls",
    "enforcement",
    "access",
    "rules",
    "deny_rules",
    "allowed_ips",
    "allow_encoded_slash",
)
"""What a proposal may say about an endpoint. The rest concerns credentials and limits, which are the operator's."""
ENDPOINT_KEYS = (
    *CORE_ENDPOINT_KEYS,
    "path_case",
    "websocket_credential_rewrite",
    "request_body_credential_rewrite",
    "allow_uninspected_credentials",
    "credential_signing",
    "signing_service",
    "signing_region",
    "credential_binding",
    "persisted_queries",
    "graphql_persisted_queries",
    "graphql_max_body_bytes",
    "json_rpc",
    "mcp",
)
PROTOCOLS = ("tcp", "rest", "websocket", "graphql", "json-rpc", "mcp")
ACCESS = ("read-only", "read-write", "full")
ENFORCEMENT = ("enforce", "audit")
TLS = ("skip", "terminate", "passthrough")
"""`terminate` and `passthrough` are upstream's deprecated spellings of "decide automatically", which is ""."""
PATH_CASES = ("sensitive", "insensitive")
SAFE_INTEGER = 2**53
"""Numbers beyond this do not survive google.protobuf.Struct."""


class Cursor:
    """A place in a tree. Reads report problems and return a neutral value, so that one pass finds them all."""

    __slots__ = ("node", "problems", "where")

    def __init__(self, node: Node, where: Where, problems: Problems) -> None:
        self.node = node
        self.where = where
        self.problems = problems

    def refuse(self, code: str, message: str, fix: str = "", at: Node | None = None) -> None:
        at = at or self.node
        self.problems.append(Problem("", at.line, at.column, code, message, fix, self.where))

    def _expected(self, what: str, fix: str = "") -> None:
        name = next((step for step in reversed(self.where) if isinstance(step, str)), "the document")
        self.refuse("wrong_type", f"{shown(name)[1:-1]} must be {what}, not {self.node.kind}", fix)

    def at(self, step: str | int, node: Node) -> Cursor:
        return Cursor(node, (*self.where, step), self.problems)

    def entries(self, what: str = "a mapping", fix: str = "") -> dict[str, Cursor]:
        if not isinstance(self.node, MapNode):
            self._expected(what, fix)
            return {}
        return {key: self.at(key, value) for key, (_, value) in self.node.entries.items()}

    def fields(self, allowed: Sequence[str], what: str = "a mapping", fix: str = "") -> dict[str, Cursor]:
        """The entries of a mapping whose keys are fixed; an unknown key is a problem and is left out."""
        found = self.entries(what, fix)
        for key in [key for key in found if key not in allowed]:
            assert isinstance(self.node, MapNode)
            cursor = found.pop(key)
            # Looking for the nearest spelling is what takes time, and only what is told needs it.
            fix = "" if self.problems.full else did_you_mean(key, allowed)
            cursor.refuse("unknown_key", f"unknown key {shown(key)}", fix, self.node.entries[key][0])
        return found

    def items(self, what: str = "a list") -> list[Cursor]:
        if not isinstance(self.node, ListNode):
            self._expected(what)
            return []
        return [self.at(index, node) for index, node in enumerate(self.node.items)]

    def text(self) -> str:
        value = self.node.value if isinstance(self.node, ScalarNode) else None
        if isinstance(value, str):
            return value
        is_scalar = isinstance(self.node, ScalarNode) and value is not None
        self._expected("text", "put quotes around it" if is_scalar else "")
        return ""

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items("a list of texts"))

    def choice(self, valid: Sequence[str]) -> str:
        value = self.text()
        if isinstance(self.node, ScalarNode) and isinstance(self.node.value, str) and value not in valid:
            name = next((step for step in reversed(self.where) if isinstance(step, str)), "value")
            self.refuse("unknown_value", f"unknown {name} {shown(value)}", did_you_mean(value, valid))
            return ""
        return value

    def integer(self) -> int:
        value = self.node.value if isinstance(self.node, ScalarNode) else None
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self._expected("a whole number")
        return 0

    def boolean(self) -> bool:
        value = self.node.value if isinstance(self.node, ScalarNode) else None
        if isinstance(value, bool):
            return value
        self._expected("true or false")
        return False


def take(fields: dict[str, Cursor], key: str, read: Callable[[Cursor], T], default: D) -> T | D:
    """What `read` makes of a key, or the default when the key is not written."""
    cursor = fields.get(key)
    return default if cursor is None else read(cursor)


# ---- sections --------------------------------------------------------------------------------------------------------


def read_policy(cursor: Cursor) -> Policy:
    fields = cursor.fields(TOP_KEYS, "a mapping that starts with `version: 1`")
    if "version" not in fields:
        if isinstance(cursor.node, MapNode):
            cursor.refuse("version_missing", "version is missing", "write `version: 1`")
        version = 1
    else:
        version = fields["version"].integer()
    return Policy(
        version=version,
        filesystem=take(fields, "filesystem_policy", _filesystem, None),
        landlock=take(fields, "landlock", _landlock, None),
        process=take(fields, "process", _process, None),
        rules=take(fields, "network_policies", _rules, ()),
        middlewares=take(fields, "network_middlewares", _middlewares, ()),
    )


def _filesystem(cursor: Cursor) -> FilesystemPolicy | None:
    fields = cursor.fields(("include_workdir", "read_only", "read_write"))
    return FilesystemPolicy(
        include_workdir=take(fields, "include_workdir", Cursor.boolean, False),
        read_only=take(fields, "read_only", Cursor.texts, ()),
        read_write=take(fields, "read_write", Cursor.texts, ()),
    )


def _landlock(cursor: Cursor) -> LandlockPolicy | None:
    fields = cursor.fields(("compatibility",))
    choices = ("best_effort", "hard_requirement")
    return LandlockPolicy(take(fields, "compatibility", lambda c: c.choice(choices), "best_effort"))


def _process(cursor: Cursor) -> ProcessPolicy | None:
    fields = cursor.fields(("run_as_user", "run_as_group"))
    return ProcessPolicy(take(fields, "run_as_user", _identity, ""), take(fields, "run_as_group", _identity, ""))


def _identity(cursor: Cursor) -> str:
    """A name or a number; unquoted digits are what people write, and only one reading of them exists."""
    node = cursor.node
    if isinstance(node, ScalarNode) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return str(node.value)
    return cursor.text()


def _rules(cursor: Cursor) -> tuple[Rule, ...]:
    entries = cursor.entries("a mapping from rule name to rule", "write {} for none")
    return tuple(read_rule(entry, key) for key, entry in entries.items())


def read_rule(cursor: Cursor, key: str, endpoint_keys: Sequence[str] = ENDPOINT_KEYS) -> Rule:
    fields = cursor.fields(RULE_KEYS, "a rule with endpoints and binaries")
    endpoints = take(fields, "endpoints", lambda c: tuple(read_endpoint(e, endpoint_keys) for e in c.items()), ())
    return Rule(
        key=key,
        endpoints=endpoints,
        binaries=take(fields, "binaries", _binaries, ()),
        name=take(fields, "name", Cursor.text, ""),
    )


def _binaries(cursor: Cursor) -> tuple[str, ...]:
    return tuple(_binary(item) for item in cursor.items("a list of `path:` entries"))


def _binary(cursor: Cursor) -> str:
    if isinstance(cursor.node, ScalarNode) and isinstance(cursor.node.value, str):
        cursor.refuse("wrong_type", "a binary is a mapping with a path", f"write `path: {shown(cursor.node.value)}`")
        return cursor.node.value
    # `harness` is upstream's retired field: old files carry it, nothing reads it.
    fields = cursor.fields(("path", "harness"), "a mapping with a path")
    if isinstance(cursor.node, MapNode) and "path" not in fields:
        cursor.refuse("binary_path_missing", "a binary needs a path")
    return take(fields, "path", Cursor.text, "")


def read_endpoint(cursor: Cursor, allowed: Sequence[str] = ENDPOINT_KEYS) -> Endpoint:
    fields = cursor.fields(allowed, "an endpoint with host and port")
    tls = take(fields, "tls", lambda c: c.choice(TLS), "")
    return Endpoint(
        host=canonical_spelling(take(fields, "host", Cursor.text, "")),
        ports=_ports(cursor, fields),
        path=take(fields, "path", Cursor.text, ""),
        protocol=take(fields, "protocol", _protocol, ""),
        tls="skip" if tls == "skip" else "",
        enforcement=take(fields, "enforcement", lambda c: c.choice(ENFORCEMENT), "enforce") or "enforce",
        access=take(fields, "access", lambda c: c.choice(ACCESS), ""),
        rules=take(fields, "rules", _allow_rules, ()),
        deny_rules=take(fields, "deny_rules", _deny_rules, ()),
        allowed_ips=take(fields, "allowed_ips", Cursor.texts, ()),
        allow_encoded_slash=take(fields, "allow_encoded_slash", Cursor.boolean, False),
        path_case=take(fields, "path_case", lambda c: c.choice(PATH_CASES), "sensitive") or "sensitive",
        websocket_credential_rewrite=take(fields, "websocket_credential_rewrite", Cursor.boolean, False),
        request_body_credential_rewrite=take(fields, "request_body_credential_rewrite", Cursor.boolean, False),
        allow_uninspected_credentials=take(fields, "allow_uninspected_credentials", Cursor.boolean, False),
        credential_signing=take(fields, "credential_signing", Cursor.text, ""),
        signing_service=take(fields, "signing_service", Cursor.text, ""),
        signing_region=take(fields, "signing_region", Cursor.text, ""),
        credential_provider=take(fields, "credential_binding", _provider, ""),
        persisted_queries=take(fields, "persisted_queries", Cursor.text, "deny"),
        graphql_persisted_queries=take(fields, "graphql_persisted_queries", _operations, ()),
        graphql_max_body_bytes=take(fields, "graphql_max_body_bytes", Cursor.integer, 65536),
        json_rpc_max_body_bytes=take(fields, "json_rpc", _json_rpc, 65536),
        mcp=take(fields, "mcp", _mcp, None),
    )


def canonical_spelling(host: str) -> str:
    """Lower case and no final dot: names are case-insensitive, and reviewers see one form only."""
    return host.lower().removesuffix(".")


def _ports(cursor: Cursor, fields: dict[str, Cursor]) -> tuple[int, ...]:
    single = take(fields, "port", Cursor.integer, None)
    several = take(fields, "ports", lambda c: [item.integer() for item in c.items("a list of ports")], None)
    if several is not None and single is not None and single not in several:
        cursor.refuse("port_conflict", f"port {single} is not among ports {several}", "write only ports")
    if several is None:
        several = [] if single is None else [single]
    return tuple(sorted(set(several)))


def _protocol(cursor: Cursor) -> str:
    value = cursor.text()
    if value == "sql":
        # Upstream accepts it and passes the bytes uninspected.
        cursor.refuse(
            "protocol_sql", "protocol sql is not enforced by anything", "leave protocol out for a raw connection"
        )
    elif value and value not in PROTOCOLS:
        cursor.refuse(
            "unknown_value",
            f"unknown protocol {shown(value)} (expected tcp, rest, websocket, graphql, json-rpc, or mcp)",
            did_you_mean(value, PROTOCOLS),
        )
    return value


def _allow_rules(cursor: Cursor) -> tuple[L7Match, ...]:
    if isinstance(cursor.node, ListNode) and not cursor.node.items:
        cursor.refuse("rules_empty", "rules list cannot be empty (would deny all traffic)", "leave it out")
    found = []
    for item in cursor.items("a list of `allow:` entries"):
        fields = item.fields(("allow",), "a mapping with allow", "write `allow: {method: GET, path: /…}`")
        if isinstance(item.node, MapNode) and "allow" not in fields:
            item.refuse("allow_missing", "an entry of rules needs allow", "write `allow: {method: GET, path: /…}`")
        found.append(take(fields, "allow", read_match, L7Match()))
    return tuple(found)


def _deny_rules(cursor: Cursor) -> tuple[L7Match, ...]:
    if isinstance(cursor.node, ListNode) and not cursor.node.items:
        cursor.refuse("rules_empty", "deny_rules list cannot be empty (would deny nothing)", "leave it out")
    found = []
    for item in cursor.items("a list of matchers"):
        if isinstance(item.node, MapNode) and "allow" in item.node.entries:
            item.refuse("unknown_key", "an entry of deny_rules has no allow", "write method and path directly")
            continue
        found.append(read_match(item))
    return tuple(found)


def read_match(cursor: Cursor) -> L7Match:
    fields = cursor.fields(MATCH_KEYS, "a matcher with method and path")
    params = dict(take(fields, "params", _queries, ()))
    if "tool" in fields:
        if "name" in params:
            cursor.refuse("tool_twice", "tool and params.name are the same matcher", "keep one of them")
        params["name"] = _query(fields["tool"])
    return L7Match(
        method=canonical_method(take(fields, "method", Cursor.text, "")),
        path=take(fields, "path", Cursor.text, ""),
        query=take(fields, "query", _queries, ()),
        command=take(fields, "command", Cursor.text, ""),
        operation_type=take(fields, "operation_type", Cursor.text, ""),
        operation_name=take(fields, "operation_name", Cursor.text, ""),
        fields=take(fields, "fields", Cursor.texts, ()),
        params=tuple(sorted(params.items())),
    )


HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "WEBSOCKET_TEXT")


def canonical_method(text: str) -> str:
    """HTTP methods in upper case; JSON-RPC and MCP method names keep theirs, they are case-sensitive."""
    return text.upper() if text.upper() in HTTP_METHODS else text


def _queries(cursor: Cursor) -> tuple[tuple[str, QueryMatcher], ...]:
    """Sorted: order means nothing, and a protobuf map would not keep it."""
    found = cursor.entries("a mapping from name to glob")
    return tuple((key, _query(found[key])) for key in sorted(found))


def _query(cursor: Cursor) -> QueryMatcher:
    if not isinstance(cursor.node, MapNode):
        return QueryMatcher((cursor.text(),))
    fields = cursor.fields(("glob", "any"))
    if len(fields) != 1:
        cursor.refuse("matcher_shape", "a matcher is a glob or has exactly one of glob, any")
        return QueryMatcher(())
    if "glob" in fields:
        return QueryMatcher((fields["glob"].text(),))
    found = fields["any"].texts()
    if isinstance(fields["any"].node, ListNode) and not found:
        fields["any"].refuse("matcher_empty", "any must list at least one glob")
    return QueryMatcher(found)


def _provider(cursor: Cursor) -> str:
    fields = cursor.fields(("provider",))
    if isinstance(cursor.node, MapNode) and "provider" not in fields:
        cursor.refuse("provider_missing", "credential_binding needs provider")
    return take(fields, "provider", Cursor.text, "")


def _operations(cursor: Cursor) -> tuple[tuple[str, GraphqlOperation], ...]:
    found = []
    for key, entry in sorted(cursor.entries("a mapping from id to operation").items()):
        fields = entry.fields(("operation_type", "operation_name", "fields"))
        operation = GraphqlOperation(
            operation_type=take(fields, "operation_type", Cursor.text, ""),
            operation_name=take(fields, "operation_name", Cursor.text, ""),
            fields=take(fields, "fields", Cursor.texts, ()),
        )
        found.append((key, operation))
    return tuple(found)


def _json_rpc(cursor: Cursor) -> int:
    return take(cursor.fields(("max_body_bytes",)), "max_body_bytes", Cursor.integer, 65536)


def _mcp(cursor: Cursor) -> McpOptions | None:
    fields = cursor.fields(("max_body_bytes", "strict_tool_names", "allow_all_known_mcp_methods", "versions"))
    return McpOptions(
        max_body_bytes=take(fields, "max_body_bytes", Cursor.integer, 65536),
        strict_tool_names=take(fields, "strict_tool_names", Cursor.boolean, True),
        allow_all_known_mcp_methods=take(fields, "allow_all_known_mcp_methods", Cursor.boolean, False),
        versions=take(fields, "versions", Cursor.texts, ()),
    )


def _middlewares(cursor: Cursor) -> tuple[Middleware, ...]:
    return tuple(_middleware(entry, key) for key, entry in cursor.entries().items())


def _middleware(cursor: Cursor, key: str) -> Middleware:
    fields = cursor.fields(("name", "middleware", "config", "on_error", "order", "endpoints"))
    no_selector: dict[str, Cursor] = {}
    selector = take(fields, "endpoints", lambda c: c.fields(("include", "exclude")), no_selector)
    return Middleware(
        key=key,
        middleware=take(fields, "middleware", Cursor.text, ""),
        name=take(fields, "name", Cursor.text, ""),
        config_json=take(fields, "config", _config, "{}"),
        on_error=take(fields, "on_error", Cursor.text, "fail"),
        order=take(fields, "order", Cursor.integer, 0),
        include=take(selector, "include", Cursor.texts, ()),
        exclude=take(selector, "exclude", Cursor.texts, ()),
    )


def _config(cursor: Cursor) -> str:
    cursor.entries()
    return canonical_json(plain(cursor))


def plain(cursor: Cursor) -> object:
    """Any value as Python's json knows it."""
    node = cursor.node
    if isinstance(node, MapNode):
        return {key: plain(entry) for key, entry in cursor.entries().items()}
    if isinstance(node, ListNode):
        return [plain(item) for item in cursor.items()]
    assert isinstance(node, ScalarNode)
    value = node.value
    if isinstance(value, int | float) and not abs(value) <= SAFE_INTEGER:
        cursor.refuse("number_too_large", "the number does not survive the wire", "write it as text")
        return None
    return value


def canonical_json(value: object) -> str:
    """One text per value: sorted keys, no spaces, whole floats as integers (a protobuf Struct knows only doubles)."""
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _whole(value: object) -> object:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
