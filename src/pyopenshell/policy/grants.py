"""Grants: endpoints regrouped by (binaries, host pattern, port), with one trie of everything they say about paths.

Decides what the rules say at one point (grants, path, method). Knows nothing of connections and of words for people.
A grant is immutable; a changed one shares with the old one all that did not change (`Grant.changed`).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence

from pyopenshell.policy import operations
from pyopenshell.policy.globs import ANY, ANYE, DS, LF, Glob, L, Token, path_pattern
from pyopenshell.policy.model import Endpoint, GraphqlOperation, L7Match, McpOptions, QueryMatcher
from pyopenshell.policy.query import Conditions, conditions
from pyopenshell.policy.splice import window
from pyopenshell.policy.tries import Entry, Trie

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
        self.graphql = _graphql_messages(endpoint)
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


Source = tuple[str, Endpoint]
"""(rule key, endpoint)."""

GrantKey = tuple[tuple[str, ...], str, int]
"""(sorted binaries, canonical host pattern, port)."""


in_order = operator.attrgetter("order")
"""Sort key of records."""

_MATCHERS = ("rules", "deny_rules")
_FRAME = operator.attrgetter(*(f.name for f in dataclasses.fields(Endpoint) if f.name not in _MATCHERS))


def _shape(endpoint: Endpoint) -> tuple[object, ...]:
    """All that a compiled endpoint depends on besides its single matchers."""
    return _FRAME(endpoint), bool(endpoint.rules), _graphql_messages(endpoint)


class Part:
    """One source of a grant, compiled: `fixed` records come from its shape, the others stand beside their matchers."""

    __slots__ = ("allows", "denies", "endpoint", "fixed", "inspection", "key")

    def __init__(self, key: str, endpoint: Endpoint) -> None:
        self.key, self.endpoint = key, endpoint
        self.inspection: Inspection | None = None
        self.fixed: tuple[Record, ...] = ()
        self.allows: tuple[tuple[Record, ...], ...] = ()
        self.denies: tuple[tuple[Record, ...], ...] = ()
        if is_raw(endpoint):
            return
        self.inspection = inspection = Inspection(key, endpoint)
        self.fixed = tuple(_fixed(inspection, endpoint))
        self.allows = tuple(tuple(_allow(inspection, match)) for match in endpoint.rules)
        self.denies = tuple(tuple(_deny(inspection, match)) for match in endpoint.deny_rules)

    def records(self) -> list[Record]:
        return [*self.fixed, *itertools.chain(*self.allows, *self.denies)]

    def changed(self, endpoint: Endpoint) -> tuple[Part, list[Record], list[Record]]:
        """This part for an endpoint of the same shape: (part, records that went, records that came)."""
        out = Part.__new__(Part)
        out.key, out.endpoint, out.inspection, out.fixed = self.key, endpoint, self.inspection, self.fixed
        out.allows, out.denies = self.allows, self.denies
        gone: list[Record] = []
        came: list[Record] = []
        if self.inspection is not None:
            old, new = self.endpoint, endpoint
            out.allows = _spliced(self.allows, old.rules, new.rules, _allow, self.inspection, gone, came)
            out.denies = _spliced(self.denies, old.deny_rules, new.deny_rules, _deny, self.inspection, gone, came)
        return out, gone, came


def _spliced(
    records: tuple[tuple[Record, ...], ...],
    old: Sequence[L7Match],
    new: Sequence[L7Match],
    compiled: Callable[[Inspection, L7Match], Iterable[Record]],
    inspection: Inspection,
    gone: list[Record],
    came: list[Record],
) -> tuple[tuple[Record, ...], ...]:
    """The records beside `new` matchers, where `records` stand beside `old` ones; adds to `gone` and `came`."""
    start, end, new_end = window(old, new)
    fresh = tuple(tuple(compiled(inspection, match)) for match in new[start:new_end])
    gone += itertools.chain(*records[start:end])
    came += itertools.chain(*fresh)
    return (*records[:start], *fresh, *records[end:])


class Grant:
    """All endpoints that share (binaries, host pattern, port). Immutable once built, shared between engines."""

    __slots__ = (
        "_allows",
        "_declared",
        "_denies",
        "_inspections",
        "_partial",
        "_raw",
        "_records",
        "_skips",
        "_slashes",
        "addresses",
        "binaries",
        "host",
        "key",
        "names",
        "parts",
        "place",
        "port",
        "protocols",
        "sources",
        "trie",
    )

    def __init__(self, binaries: tuple[str, ...], host: str, port: int, sources: Sequence[Source]) -> None:
        self.place: GrantKey = (binaries, host, port)
        self.binaries, self.host, self.port = self.place
        self.names = _names(binaries)
        self.sources = tuple(sources)
        self.parts = tuple(_part(source) for source in self.sources)
        self.trie: Trie[Record] = Trie(operator.attrgetter("rank"))
        self._raw = self._slashes = self._partial = self._skips = self._declared = self._records = 0
        for part in self.parts:
            self._count(part, 1)
            for record in part.records():
                for tokens in record.variants():
                    self.trie.add(tokens, record)
        self._forget()
        self._collect()

    def _count(self, part: Part, times: int) -> None:
        inspection = part.inspection
        self._records += times * (len(part.fixed) + len(part.allows) + len(part.denies))
        self._skips += times * (part.endpoint.tls == "skip")
        self._declared += times * (not part.endpoint.advisor_proposed)
        self._raw += times * (inspection is None)
        if inspection is not None:
            self._slashes += times * inspection.slash
            plain = inspection.trivial and not inspection.audit and inspection.protocol == "rest"
            self._partial += times * (not plain)

    def _forget(self) -> None:
        self._inspections: tuple[Inspection, ...] | None = None
        self._allows: tuple[Record, ...] | None = None
        self._denies: tuple[Record, ...] | None = None

    def _collect(self) -> None:
        self.key = min(part.key for part in self.parts)
        self.protocols = _protocols(self.parts)
        """Distinct protocols of the inspected endpoints."""
        self.addresses = _addresses(self.parts)
        """Union of the endpoints' `allowed_ips`."""

    def changed(self, start: int, end: int, sources: Sequence[Source]) -> Grant | None:
        """This grant with `sources` in place of its sources [start:end], all else shared; None when nothing is left."""
        after = (*self.sources[:start], *sources, *self.sources[end:])
        if not after:
            return None
        if after == self.sources:
            return self
        parts, gone, came = self._exchange(self.parts[start:end], sources)
        if len(gone) + len(came) > max(64, self._records // 2):
            return Grant(*self.place, after)
        out = Grant.__new__(Grant)
        out.place = self.place
        out.binaries, out.host, out.port = self.place
        out.names = self.names
        out.sources = after
        out.parts = (*self.parts[:start], *parts, *self.parts[end:])
        out.trie = self.trie.changed(
            (entry for record in gone for entry in record.entries()),
            (entry for record in came for entry in record.entries()),
        )
        out._raw, out._slashes, out._partial = self._raw, self._slashes, self._partial
        out._skips, out._declared, out._records = self._skips, self._declared, self._records
        was = self.parts[start:end]
        for part in was:
            out._count(part, -1)
        for part in parts:
            out._count(part, 1)
        out._forget()
        if _collected(was) == _collected(parts):
            out.key, out.protocols, out.addresses = self.key, self.protocols, self.addresses
        else:
            out._collect()
        return out

    @staticmethod
    def _exchange(old: Sequence[Part], sources: Sequence[Source]) -> tuple[list[Part], list[Record], list[Record]]:
        """(new parts, records that went, records that came); what is the same, or has the same shape, is taken over."""
        left = list(old)
        parts: list[Part] = []
        gone: list[Record] = []
        came: list[Record] = []
        for key, endpoint in sources:
            shape = _shape(endpoint)
            twin = next((part for part in left[:8] if part.key == key and _shape(part.endpoint) == shape), None)
            if twin is None:
                part = _part((key, endpoint))
                parts.append(part)
                came += part.records()
                continue
            left.remove(twin)
            try:
                part, went, news = twin.changed(endpoint)
            except ValueError as error:
                raise _named(key, endpoint, error) from None
            parts.append(part)
            gone += went
            came += news
        for part in left:
            gone += part.records()
        return parts, gone, came

    @property
    def inspected(self) -> bool:
        return self._raw < len(self.parts)

    @property
    def raw(self) -> bool:
        return self._raw > 0

    @property
    def simple(self) -> bool:
        """True where every endpoint is `rest`, judges every path, and none only audits."""
        return not self._partial

    @property
    def slashes(self) -> bool:
        return self._slashes > 0

    @property
    def tls_skip(self) -> bool:
        return self._skips > 0

    @property
    def declared(self) -> bool:
        """True where somebody other than the advisor named exactly this host."""
        return "*" not in self.host and bool(self.host) and self._declared > 0

    @property
    def inspection_count(self) -> int:
        return len(self.parts) - self._raw

    @property
    def inspections(self) -> tuple[Inspection, ...]:
        if self._inspections is None:
            self._inspections = tuple(part.inspection for part in self.parts if part.inspection is not None)
        return self._inspections

    @property
    def allows(self) -> tuple[Record, ...]:
        """Allow records, in the order of the policy."""
        if self._allows is None:
            self._allows = tuple(r for part in self.parts for r in part.records() if r.kind is Kind.ALLOW)
        return self._allows

    def first_allows(self, count: int) -> list[Record]:
        """Some of them, without looking at all."""
        found = (r for part in self.parts for r in itertools.chain(part.fixed, *part.allows[:count]))
        return list(itertools.islice((r for r in found if r.kind is Kind.ALLOW), max(count, 0)))

    @property
    def denies(self) -> tuple[Record, ...]:
        """Deny records, in the order of the policy."""
        if self._denies is None:
            self._denies = tuple(r for part in self.parts for r in part.records() if r.kind is Kind.DENY)
        return self._denies


@functools.lru_cache(maxsize=64)
def _names(binaries: tuple[str, ...]) -> frozenset[str]:
    """Neighbouring rules mostly name the same binaries."""
    return frozenset(binaries)


def _protocols(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.endpoint.protocol for part in parts if part.inspection is not None))


def _addresses(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ip for part in parts for ip in part.endpoint.allowed_ips))


def _collected(parts: Sequence[Part]) -> object:
    return [part.key for part in parts], _protocols(parts), _addresses(parts)


def _part(source: Source) -> Part:
    key, endpoint = source
    try:
        return Part(key, endpoint)
    except ValueError as error:
        raise _named(key, endpoint, error) from None


def _named(key: str, endpoint: Endpoint, error: ValueError) -> ValueError:
    return ValueError(f"rule '{key}', endpoint {endpoint.host}: {error}")


def _is_graphql(rule: L7Match) -> bool:
    return bool(rule.operation_type or rule.operation_name or rule.fields)


def _graphql_messages(endpoint: Endpoint) -> bool:
    """Are WebSocket messages GraphQL operations here?"""
    if endpoint.protocol != "websocket":
        return False
    return any(map(_is_graphql, endpoint.rules)) or any(map(_is_graphql, endpoint.deny_rules))


def _fixed(inspection: Inspection, endpoint: Endpoint) -> Iterable[Record]:
    if not inspection.trivial:
        yield Record(Kind.SCOPE, inspection, "*", inspection.scope)
    presets = ACCESS.get(endpoint.protocol, {}).get(endpoint.access, ())
    if endpoint.mcp is not None and endpoint.mcp.allow_all_known_mcp_methods and not endpoint.rules:
        presets = tuple(L7Match(method=method) for method in MCP_METHODS)
    for match in presets:
        yield from _allow(inspection, match)
    if (endpoint.rules or presets) and (endpoint.protocol == "mcp" or inspection.graphql):
        yield Record(Kind.ALLOW, inspection, operations.SESSION, EVERYWHERE, sorts=(operations.SESSION,))


def _allow(inspection: Inspection, rule: L7Match) -> Iterable[Record]:
    judged = _OPERATIONS.get(inspection.protocol)
    if judged is not None:
        yield from judged(Kind.ALLOW, inspection, rule)
    elif inspection.graphql and _is_graphql(rule):
        yield from _graphql_records(Kind.ALLOW, inspection, rule)
    # Nothing written is nothing allowed, and a condition that HTTP requests do not have never holds.
    elif rule.method and rule.path and not _foreign(rule):
        yield Record(Kind.ALLOW, inspection, rule.method.upper(), rule.path, conditions(rule.query))


def _deny(inspection: Inspection, rule: L7Match) -> Iterable[Record]:
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


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules say for one (grants, path, token), still open in the query.

    `selected` are the endpoints whose scope holds the path (None: all of them, and all are `rest`), `audit` one that
    forwards everything. `allow` and `deny` are the records that match path and token. `foreign` names the protocols
    that claim the path, () when it is one and it can judge what the token names; otherwise nothing is allowed. `top`
    are the endpoints that decide about that, and `graphql` says that they look into WebSocket messages.
    """

    selected: frozenset[Inspection] | None
    audit: Inspection | None
    allow: tuple[Record, ...]
    deny: tuple[Record, ...]
    foreign: tuple[str, ...] = ()
    top: tuple[Inspection, ...] = ()
    graphql: bool = False

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
    message = token.startswith(operations.TEXT + " ")
    foreign: tuple[str, ...] = ()
    if all(grant.simple for grant in grants):
        foreign = () if "rest" in judges else ("rest",)
        token = operations.MESSAGE if message else token
        allow, deny = _matching(records, token, slash=slash, selected=None)
        return Judgement(None, None, () if foreign else allow, deny, foreign)
    records = list(records)
    scoped = {record.inspection for record in records if record.kind is Kind.SCOPE}
    inspections = [i for grant in grants for i in grant.inspections if i.trivial or i in scoped]
    selected = frozenset(inspections)
    highest = max((i.specificity for i in inspections), default=0)
    top = tuple(i for i in inspections if i.specificity == highest)
    protocols = tuple(dict.fromkeys(i.protocol for i in top))
    graphql = protocols == ("websocket",) and any(i.graphql for i in inspections)
    if len(protocols) != 1 or protocols[0] not in judges:
        foreign = protocols
    elif token == operations.MESSAGE and graphql:
        foreign = (operations.GRAPHQL,)
    elif message and not graphql:
        token = operations.MESSAGE  # whatever it says, nobody looks into it here
    allow, deny = _matching(records, token, slash=slash, selected=selected)
    if foreign:
        return Judgement(selected, None, (), deny, foreign, top, graphql)
    # Another protocol's rules are about other requests: they may refuse this one, but not allow it.
    allow = tuple(record for record in allow if record.inspection.protocol == protocols[0])
    audit = next((i for i in top if i.audit and (i.slash or not slash)), None)
    return Judgement(selected, audit, allow, deny, foreign, top, graphql)


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
