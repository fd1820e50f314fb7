"""Records: what one endpoint says about requests, as allow, deny and scope entries over path patterns and tokens.

Decides how a matcher of each protocol is read. Knows nothing of grants, connections and of words for people.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Iterable

from pyopenshell.policy import operations
from pyopenshell.policy.globs import ANY, ANYE, DS, LF, Glob, L, Token, path_pattern
from pyopenshell.policy.model import Endpoint, GraphqlOperation, L7Match, McpOptions, QueryMatcher
from pyopenshell.policy.query import Conditions, conditions
from pyopenshell.policy.tries import Entry

PRESETS = {
    "read-only": ("GET", "HEAD", "OPTIONS"),
    "read-write": ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"),
    "full": ("*",),
}
"""Methods of the REST access presets, each on every path (contract/sandbox.md 3.4)."""

ACCESS: dict[str, dict[str, tuple[L7Match, ...]]] = {
    "rest": {name: tuple(L7Match(method=m, path="**") for m in methods) for name, methods in PRESETS.items()},
    "websocket": {
        "read-only": (L7Match(method="GET", path="**"),),
        "read-write": (L7Match(method="GET", path="**"), L7Match(method=operations.TEXT, path="**")),
        "full": (L7Match(method="*", path="**"),),
    },
    "graphql": {
        "read-only": (L7Match(operation_type="query"),),
        "read-write": (L7Match(operation_type="query"), L7Match(operation_type="mutation")),
        "full": (L7Match(operation_type="*"),),
    },
}
"""Access presets as explicit rules (contract/sandbox.md 3.4)."""

MCP_METHODS = (
    "initialize",
    "ping",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
    "tasks/get",
    "tasks/result",
    "tasks/list",
    "tasks/cancel",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
)
"""What a client may send by the Model Context Protocol, 2024-11-05 to 2025-11-25."""

EVERYWHERE = "/**"
RAW_PROTOCOLS = ("", "tcp")


def is_raw(endpoint: Endpoint) -> bool:
    """True where nothing can be inspected: no L7 protocol, or termination forbidden by `tls: skip`."""
    return endpoint.protocol in RAW_PROTOCOLS or endpoint.tls == "skip"


def specificity(scope: str) -> int:
    """How specific an endpoint's path is: the characters of its canonical spelling that are not `*`, 0 for `/**`.

    Canonical, because `/**/*` and `/**` are the same paths and must weigh the same (proof.md 2.2).
    """
    return 0 if scope == EVERYWHERE else sum(1 for c in scope if c != "*")


class Kind(enum.Enum):
    ALLOW = "allow"
    DENY = "deny"
    SCOPE = "scope"


class Inspection:
    """One inspected endpoint inside a grant, with its rule's key.

    `frame` is the endpoint without its matchers: an endpoint that only gained or lost some keeps its inspection.
    `graphql` says that WebSocket messages are GraphQL operations here, `loose` that tool names may be any text,
    `versions` which protocol versions may be asked for (() for any), `registered` what persisted queries stand for.
    """

    __slots__ = (
        "audit",
        "frame",
        "graphql",
        "key",
        "loose",
        "protocol",
        "registered",
        "scope",
        "slash",
        "specificity",
        "tokens",
        "trivial",
        "versions",
    )

    def __init__(self, key: str, endpoint: Endpoint) -> None:
        self.key = key
        self.frame = endpoint
        self.scope, self.tokens = path_pattern(endpoint.path or EVERYWHERE)
        self.trivial = self.scope == EVERYWHERE
        self.specificity = specificity(self.scope)
        self.protocol = endpoint.protocol
        self.audit = endpoint.enforcement != "enforce"
        self.slash = endpoint.allow_encoded_slash
        mcp = endpoint.mcp or McpOptions()
        self.loose = self.protocol == "json-rpc" or not mcp.strict_tool_names
        self.versions = mcp.versions if self.protocol == "mcp" else ()
        self.graphql = graphql_messages(endpoint)
        known = endpoint.graphql_persisted_queries if endpoint.persisted_queries == "allow_registered" else ()
        self.registered: dict[str, GraphqlOperation] = dict(known)

    @property
    def contract(self) -> tuple[object, ...]:
        """What decides which requests this endpoint takes over from others."""
        return self.scope, self.protocol, self.graphql


class Record:
    """One allow, deny or scope entry. `sig` names it independently of its place.

    `order` sorts records by what they say, wherever and whenever they were added; `rank` is the same for the allows
    that may serve as a near miss of a request.

    It covers tokens (`policy.operations`): with `sorts` None all whose carrier is among `methods` (None: any), else
    those of these sorts.
    """

    __slots__ = (
        "inspection",
        "kind",
        "method",
        "methods",
        "order",
        "path",
        "query",
        "rank",
        "sig",
        "sorts",
        "tokens",
    )

    def __init__(
        self,
        kind: Kind,
        inspection: Inspection,
        method: str,
        path: str,
        query: Conditions = (),
        sorts: tuple[str, ...] | None = None,
    ) -> None:
        self.kind = kind
        self.inspection = inspection
        self.method = method
        self.methods = None if method == "*" else ("GET", "HEAD") if method == "GET" else (method,)
        self.sorts = sorts
        self.path, self.tokens = path_pattern(path)
        self.query = query
        fold = kind is Kind.DENY and inspection.frame.path_case == "insensitive"
        slash = kind is Kind.ALLOW and inspection.slash
        self.sig = (inspection.scope, inspection.protocol, self.method, self.path, query, sorts, fold, slash)
        self.order = (inspection.key, self.path, method, inspection.scope, f"{query}{sorts}" if query or sorts else "")
        self.rank = self.order if kind is Kind.ALLOW and sorts is None else None

    @property
    def key(self) -> str:
        return self.inspection.key

    def covers(self, token: str) -> bool:
        if " " not in token:
            return self.sorts is None and (self.methods is None or token in self.methods)
        method, _, sort = token.partition(" ")
        if self.sorts is None:
            return self.methods is None or method in self.methods
        return sort in self.sorts

    def __str__(self) -> str:
        return f"{self.method} {self.path}" if self.sorts is None else spelled(self)

    def entries(self) -> list[Entry[Record]]:
        """What stands in the trie of the grant."""
        return [(tokens, self) for tokens in self.variants()]

    def variants(self) -> list[tuple[Token, ...]]:
        """Token patterns to match. Denies also match modulo one trailing slash and, on request, in any case."""
        if self.kind is not Kind.DENY:
            return [self.tokens]
        out = [self.tokens, *_slash_variants(self.tokens)]
        if self.inspection.frame.path_case == "insensitive":
            out = [_fold(tokens) for tokens in out]
        return out


def _slash_variants(tokens: tuple[Token, ...]) -> list[tuple[Token, ...]]:
    """Patterns for the words of a pattern with a trailing slash added or removed (proof.md 2.5, decision 3)."""
    kind, value = tokens[-1]
    empty: Token = (L, "")
    if kind == L and value == "":
        return [tokens[:-1]] if len(tokens) > 1 else []
    if kind != ANYE:
        return [(*tokens, empty)]
    if len(tokens) > 1 and tokens[-2][0] == DS:
        return [tokens[:-2]] if len(tokens) > 2 else []
    longer = (*tokens[:-1], (ANY, None), empty)
    return [longer, tokens[:-1]] if len(tokens) > 1 else [longer]


def _fold(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    out: list[Token] = []
    for kind, value in tokens:
        if kind == L and isinstance(value, str) and value:
            out.append((LF, value.lower()))
        elif isinstance(value, Glob):
            out.append((kind, value.folded()))
        else:
            out.append((kind, value))
    return tuple(out)


in_order = operator.attrgetter("order")
"""Sort key of records."""


def _is_graphql(rule: L7Match) -> bool:
    return bool(rule.operation_type or rule.operation_name or rule.fields)


def graphql_messages(endpoint: Endpoint) -> bool:
    """Are WebSocket messages GraphQL operations here?"""
    if endpoint.protocol != "websocket":
        return False
    return any(map(_is_graphql, endpoint.rules)) or any(map(_is_graphql, endpoint.deny_rules))


def fixed_records(inspection: Inspection, endpoint: Endpoint) -> Iterable[Record]:
    if not inspection.trivial:
        yield Record(Kind.SCOPE, inspection, "*", inspection.scope)
    presets = ACCESS.get(endpoint.protocol, {}).get(endpoint.access, ())
    if endpoint.mcp is not None and endpoint.mcp.allow_all_known_mcp_methods and not endpoint.rules:
        presets = tuple(L7Match(method=method) for method in MCP_METHODS)
    for match in presets:
        yield from allow_records(inspection, match)
    if (endpoint.rules or presets) and (endpoint.protocol == "mcp" or inspection.graphql):
        yield Record(Kind.ALLOW, inspection, operations.SESSION, EVERYWHERE, sorts=(operations.SESSION,))


def allow_records(inspection: Inspection, rule: L7Match) -> Iterable[Record]:
    judged = _OPERATIONS.get(inspection.protocol)
    if judged is not None:
        yield from judged(Kind.ALLOW, inspection, rule)
    elif inspection.graphql and _is_graphql(rule):
        yield from _graphql_records(Kind.ALLOW, inspection, rule)
    # Nothing written is nothing allowed, and a condition that HTTP requests do not have never holds.
    elif rule.method and rule.path and not _foreign(rule):
        yield Record(Kind.ALLOW, inspection, rule.method.upper(), rule.path, conditions(rule.query))


def deny_records(inspection: Inspection, rule: L7Match) -> Iterable[Record]:
    judged = _OPERATIONS.get(inspection.protocol)
    if judged is not None:
        yield from judged(Kind.DENY, inspection, rule)
    elif inspection.graphql and _is_graphql(rule):
        yield from _graphql_records(Kind.DENY, inspection, rule)
    else:
        # A deny that left something out must not fail open.
        method, path = rule.method.upper() or "*", rule.path or EVERYWHERE
        yield Record(Kind.DENY, inspection, method, path, conditions(rule.query))


def _foreign(rule: L7Match) -> bool:
    return bool(rule.command or rule.operation_type or rule.operation_name or rule.fields or rule.params)


def _graphql_records(kind: Kind, inspection: Inspection, rule: L7Match) -> Iterable[Record]:
    if kind is Kind.ALLOW and (not rule.operation_type or rule.method or rule.path or rule.query or rule.params):
        return
    wanted: list[tuple[str, tuple[str, ...]]] = []
    if rule.operation_type not in ("", "*"):
        wanted.append((operations.OPERATION_TYPE, (rule.operation_type.lower(),)))
    if rule.operation_name:
        wanted.append((operations.OPERATION_NAME, (rule.operation_name,)))
    if rule.fields:
        wanted.append((operations.FIELDS, rule.fields))
    sorts = (operations.GRAPHQL, operations.PERSISTED)
    yield Record(kind, inspection, operations.GRAPHQL, EVERYWHERE, _conditions(wanted), sorts)


def _rpc_records(kind: Kind, inspection: Inspection, rule: L7Match) -> Iterable[Record]:
    if kind is Kind.ALLOW and (not (rule.method or rule.params) or rule.path or rule.query or rule.operation_type):
        return
    wanted = [(f"{operations.KEY}params.{key}", matcher.any) for key, matcher in rule.params]
    # A rule that only names a tool is about calling it.
    method = rule.method or ("tools/call" if any(key == "name" for key, _ in rule.params) else "*")
    if method != "*":
        wanted.append((operations.RPC_METHOD, (method,)))
    if kind is Kind.DENY:
        yield Record(kind, inspection, operations.RPC, EVERYWHERE, _conditions(wanted), operations.CALLS)
        return
    plain = tuple(
        sort
        for sort in operations.CALLS
        if (inspection.loose or sort != operations.LOOSE_TOOL)
        and (not inspection.versions or sort != operations.INITIALIZE)
    )
    yield Record(kind, inspection, operations.RPC, EVERYWHERE, _conditions(wanted), plain)
    if inspection.versions:
        wanted.append((operations.RPC_VERSION, inspection.versions))
        initialize = (operations.INITIALIZE,)
        yield Record(kind, inspection, operations.RPC, EVERYWHERE, _conditions(wanted), initialize)


def _conditions(wanted: Iterable[tuple[str, tuple[str, ...]]]) -> Conditions:
    return conditions(tuple((key, QueryMatcher(globs)) for key, globs in wanted))


_OPERATIONS: dict[str, Callable[[Kind, Inspection, L7Match], Iterable[Record]]] = {
    "graphql": _graphql_records,
    "json-rpc": _rpc_records,
    "mcp": _rpc_records,
}


def spelled(record: Record) -> str:
    """A record about operations as its author would know it: `mutation delete*`, `tools/call name=get_*`."""
    said = dict(record.query)
    if record.sorts == (operations.SESSION,):
        return "session messages"
    if operations.GRAPHQL in (record.sorts or ()):
        kind = "|".join(said.get(operations.OPERATION_TYPE, ("*",)))
        name = " " + "|".join(said[operations.OPERATION_NAME]) if operations.OPERATION_NAME in said else ""
        fields = f" {{{' '.join(said[operations.FIELDS])}}}" if operations.FIELDS in said else ""
        return f"GraphQL {kind}{name}{fields}"
    method = "|".join(said.pop(operations.RPC_METHOD, ("*",)))
    return f"call {method}" + "".join(f" {key.removeprefix(operations.KEY)}={'|'.join(g)}" for key, g in said.items())
