"""Grants: endpoints regrouped by (binaries, host pattern, port), with one trie of everything they say about paths.

Decides what the rules say at one point (grants, path, method). Knows nothing of connections and of words for people.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Sequence

from pyopenshell.policy import operations
from pyopenshell.policy.globs import ANY, ANYE, DS, LF, Glob, L, Token, path_pattern
from pyopenshell.policy.model import Endpoint, GraphqlOperation, L7Match, McpOptions, QueryMatcher
from pyopenshell.policy.query import Conditions, conditions
from pyopenshell.policy.tries import Trie

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

    `graphql` says that WebSocket messages are GraphQL operations here, `loose` that tool names may be any text,
    `versions` which protocol versions may be asked for (() for any), `registered` what persisted queries stand for.
    """

    __slots__ = (
        "audit",
        "endpoint",
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
        self.endpoint = endpoint
        self.scope, self.tokens = path_pattern(endpoint.path or EVERYWHERE)
        self.trivial = self.scope == EVERYWHERE
        self.specificity = specificity(self.scope)
        self.protocol = endpoint.protocol
        self.audit = endpoint.enforcement != "enforce"
        self.slash = endpoint.allow_encoded_slash
        mcp = endpoint.mcp or McpOptions()
        self.loose = self.protocol == "json-rpc" or not mcp.strict_tool_names
        self.versions = mcp.versions if self.protocol == "mcp" else ()
        self.graphql = self.protocol == "websocket" and any(map(_is_graphql, endpoint.rules + endpoint.deny_rules))
        known = endpoint.graphql_persisted_queries if endpoint.persisted_queries == "allow_registered" else ()
        self.registered: dict[str, GraphqlOperation] = dict(known)

    @property
    def contract(self) -> tuple[object, ...]:
        """What decides which requests this endpoint takes over from others."""
        return self.scope, self.protocol, self.graphql


class Record:
    """One allow, deny or scope entry. `sig` names it independently of its place.

    It covers tokens (`policy.operations`): with `sorts` None all whose carrier is among `methods` (None: any), else
    those of these sorts.
    """

    __slots__ = ("inspection", "kind", "method", "methods", "path", "query", "sig", "sorts", "tokens")

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
        fold = kind is Kind.DENY and inspection.endpoint.path_case == "insensitive"
        slash = kind is Kind.ALLOW and inspection.slash
        self.sig = (inspection.scope, inspection.protocol, self.method, self.path, query, sorts, fold, slash)

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

    def variants(self) -> list[tuple[Token, ...]]:
        """Token patterns to match. Denies also match modulo one trailing slash and, on request, in any case."""
        if self.kind is not Kind.DENY:
            return [self.tokens]
        out = [self.tokens, *_slash_variants(self.tokens)]
        if self.inspection.endpoint.path_case == "insensitive":
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


Source = tuple[str, Endpoint]
"""(rule key, endpoint)."""

GrantKey = tuple[tuple[str, ...], str, int]
"""(sorted binaries, canonical host pattern, port)."""


class Grant:
    """All endpoints that share (binaries, host pattern, port). Immutable once built, shared between engines."""

    __slots__ = (
        "allows",
        "binaries",
        "declared",
        "denies",
        "host",
        "inspections",
        "key",
        "port",
        "raw",
        "simple",
        "slashes",
        "sources",
        "tls_skip",
        "trie",
    )

    def __init__(self, binaries: tuple[str, ...], host: str, port: int, sources: Sequence[Source]) -> None:
        self.binaries, self.host, self.port = binaries, host, port
        self.sources = tuple(sources)
        self.key = min(key for key, _ in sources)
        self.raw = False
        self.inspections: list[Inspection] = []
        self.allows: list[Record] = []
        self.denies: list[Record] = []
        self.trie: Trie[Record] = Trie()
        self.simple = True
        self.slashes = False
        self.tls_skip = any(endpoint.tls == "skip" for _, endpoint in sources)
        self.declared = "*" not in host and bool(host) and any(not e.advisor_proposed for _, e in sources)
        for key, endpoint in sources:
            try:
                self._add(key, endpoint)
            except ValueError as error:
                raise ValueError(f"rule '{key}', endpoint {endpoint.host}: {error}") from None

    @property
    def inspected(self) -> bool:
        return bool(self.inspections)

    @property
    def place(self) -> GrantKey:
        return self.binaries, self.host, self.port

    def _add(self, key: str, endpoint: Endpoint) -> None:
        if is_raw(endpoint):
            self.raw = True
            return
        inspection = Inspection(key, endpoint)
        self.inspections.append(inspection)
        self.slashes = self.slashes or inspection.slash
        if not inspection.trivial:
            self.trie.add(inspection.tokens, Record(Kind.SCOPE, inspection, "*", inspection.scope))
        if inspection.audit or not inspection.trivial or inspection.protocol != "rest":
            self.simple = False
        for record in _records(inspection):
            (self.allows if record.kind is Kind.ALLOW else self.denies).append(record)
            for tokens in record.variants():
                self.trie.add(tokens, record, sample=record.kind is Kind.ALLOW)


def _is_graphql(rule: L7Match) -> bool:
    return bool(rule.operation_type or rule.operation_name or rule.fields)


def _records(inspection: Inspection) -> Iterable[Record]:
    endpoint = inspection.endpoint
    allows = endpoint.rules + ACCESS.get(endpoint.protocol, {}).get(endpoint.access, ())
    if endpoint.mcp is not None and endpoint.mcp.allow_all_known_mcp_methods and not endpoint.rules:
        allows = tuple(L7Match(method=method) for method in MCP_METHODS)
    judged = _OPERATIONS.get(endpoint.protocol)
    for rule in allows:
        if judged is not None:
            yield from judged(Kind.ALLOW, inspection, rule)
        elif inspection.graphql and _is_graphql(rule):
            yield from _graphql_records(Kind.ALLOW, inspection, rule)
        # Nothing written is nothing allowed, and a condition that HTTP requests do not have never holds.
        elif rule.method and rule.path and not _foreign(rule):
            yield Record(Kind.ALLOW, inspection, rule.method.upper(), rule.path, conditions(rule.query))
    for rule in endpoint.deny_rules:
        if judged is not None:
            yield from judged(Kind.DENY, inspection, rule)
        elif inspection.graphql and _is_graphql(rule):
            yield from _graphql_records(Kind.DENY, inspection, rule)
        else:
            # A deny that left something out must not fail open.
            method, path = rule.method.upper() or "*", rule.path or EVERYWHERE
            yield Record(Kind.DENY, inspection, method, path, conditions(rule.query))
    if allows and (endpoint.protocol == "mcp" or inspection.graphql):
        yield Record(Kind.ALLOW, inspection, operations.SESSION, EVERYWHERE, sorts=(operations.SESSION,))


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


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules say for one (grants, path, token), still open in the query.

    `selected` are the endpoints whose scope holds the path (None: all of them, and all are `rest`), `audit` one that
    forwards everything. `allow` and `deny` are the records that match path and token. `foreign` names the protocols
    that claim the path, () when it is one and it can judge what the token names; otherwise nothing is allowed. `top`
    are the endpoints that decide about that.
    """

    selected: frozenset[Inspection] | None
    audit: Inspection | None
    allow: tuple[Record, ...]
    deny: tuple[Record, ...]
    foreign: tuple[str, ...] = ()
    top: tuple[Inspection, ...] = ()

    def verdict(self) -> bool | None:
        """True or False when the rules decide for every query (audit left aside), None when the query matters."""
        if self.selected == frozenset() or not self.allow or any(not record.query for record in self.deny):
            return False
        if not self.deny and any(not record.query for record in self.allow):
            return True
        return None


def judge(grants: Sequence[Grant], records: Iterable[Record], token: str, *, slash: bool = False) -> Judgement:
    """The definition of docs/policy-language.md, section 1, at one point. `records` are those of the path, from the
    grants' tries; `token` names what is asked (`policy.operations`).

    `slash` says that the path contains `%2F`: only endpoints with `allow_encoded_slash` can then allow, while the
    denies of all endpoints hold.
    """
    judges = operations.judges(token)
    foreign: tuple[str, ...] = ()
    if all(grant.simple for grant in grants):
        foreign = () if "rest" in judges else ("rest",)
        allow, deny = _matching(records, token, slash=slash, selected=None)
        return Judgement(None, None, () if foreign else allow, deny, foreign)
    records = list(records)
    scoped = {record.inspection for record in records if record.kind is Kind.SCOPE}
    inspections = [i for grant in grants for i in grant.inspections if i.trivial or i in scoped]
    selected = frozenset(inspections)
    highest = max((i.specificity for i in inspections), default=0)
    top = tuple(i for i in inspections if i.specificity == highest)
    protocols = tuple(dict.fromkeys(i.protocol for i in top))
    if len(protocols) != 1 or protocols[0] not in judges:
        foreign = protocols
    elif token == operations.MESSAGE and any(i.graphql and i.protocol == protocols[0] for i in inspections):
        foreign = (operations.GRAPHQL,)
    allow, deny = _matching(records, token, slash=slash, selected=selected)
    if foreign:
        return Judgement(selected, None, (), deny, foreign, top)
    # Another protocol's rules are about other requests: they may refuse this one, but not allow it.
    allow = tuple(record for record in allow if record.inspection.protocol == protocols[0])
    audit = next((i for i in top if i.audit and (i.slash or not slash)), None)
    return Judgement(selected, audit, allow, deny, foreign, top)


def _matching(
    records: Iterable[Record], token: str, *, slash: bool, selected: frozenset[Inspection] | None
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    allow: dict[Record, None] = {}
    deny: dict[Record, None] = {}
    for record in records:
        if record.kind is Kind.SCOPE or not record.covers(token):
            continue
        if selected is not None and record.inspection not in selected:
            continue
        if record.kind is Kind.DENY:
            deny[record] = None
        elif record.inspection.slash or not slash:
            allow[record] = None
    return tuple(allow), tuple(deny)
