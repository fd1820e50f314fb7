"""Grants: endpoints regrouped by (binaries, host pattern, port), with one trie of everything they say about paths.

Decides what the rules say at one point (grants, path, method). Knows nothing of connections and of words for people.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Sequence

from pyopenshell.policy.globs import ANY, ANYE, DS, LF, Glob, L, Token, path_pattern
from pyopenshell.policy.model import Endpoint, L7Match
from pyopenshell.policy.query import Conditions, conditions
from pyopenshell.policy.tries import Trie

PRESETS = {
    "read-only": ("GET", "HEAD", "OPTIONS"),
    "read-write": ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"),
    "full": ("*",),
}
"""Methods of the REST access presets, each on every path (contract/sandbox.md 3.4)."""

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

    `supported` is False for protocols whose requests this release cannot judge: such an endpoint denies all HTTP
    requests in its scope, also when it is in audit mode.
    """

    __slots__ = ("audit", "endpoint", "key", "scope", "slash", "specificity", "supported", "tokens", "trivial")

    def __init__(self, key: str, endpoint: Endpoint) -> None:
        self.key = key
        self.endpoint = endpoint
        self.scope, self.tokens = path_pattern(endpoint.path or EVERYWHERE)
        self.trivial = self.scope == EVERYWHERE
        self.specificity = specificity(self.scope)
        self.supported = endpoint.protocol == "rest"
        self.audit = endpoint.enforcement != "enforce" and self.supported
        self.slash = endpoint.allow_encoded_slash


class Record:
    """One allow, deny or scope entry. `methods` None is any method; `sig` names it independently of its place."""

    __slots__ = ("inspection", "kind", "method", "methods", "path", "query", "sig", "tokens")

    def __init__(self, kind: Kind, inspection: Inspection, method: str, path: str, query: Conditions = ()) -> None:
        self.kind = kind
        self.inspection = inspection
        self.method = method
        self.methods = None if method == "*" else ("GET", "HEAD") if method == "GET" else (method,)
        self.path, self.tokens = path_pattern(path)
        self.query = query
        fold = kind is Kind.DENY and inspection.endpoint.path_case == "insensitive"
        slash = kind is Kind.ALLOW and inspection.slash
        self.sig = (inspection.scope, self.method, self.path, query, fold, slash)

    @property
    def key(self) -> str:
        return self.inspection.key

    def covers(self, method: str) -> bool:
        return self.methods is None or method in self.methods

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
        if inspection.audit or not inspection.trivial:
            self.simple = False
        for record in _records(inspection):
            (self.allows if record.kind is Kind.ALLOW else self.denies).append(record)
            for tokens in record.variants():
                self.trie.add(tokens, record, sample=record.kind is Kind.ALLOW)


def _records(inspection: Inspection) -> Iterable[Record]:
    endpoint = inspection.endpoint
    if not inspection.supported:
        yield Record(Kind.DENY, inspection, "*", EVERYWHERE)
        return
    for method in PRESETS.get(endpoint.access, ()):
        yield Record(Kind.ALLOW, inspection, method, EVERYWHERE)
    for rule in endpoint.rules:
        # Nothing written is nothing allowed, and a condition that HTTP requests do not have never holds.
        if rule.method and rule.path and not _foreign(rule):
            yield Record(Kind.ALLOW, inspection, rule.method.upper(), rule.path, conditions(rule.query))
    for rule in endpoint.deny_rules:
        # A deny that left something out must not fail open.
        method, path = rule.method.upper() or "*", rule.path or EVERYWHERE
        yield Record(Kind.DENY, inspection, method, path, conditions(rule.query))


def _foreign(rule: L7Match) -> bool:
    return bool(rule.command or rule.operation_type or rule.operation_name or rule.fields or rule.params)


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules say for one (grants, path, method), still open in the query.

    `selected` are the endpoints whose scope holds the path (None: all of them), `audit` one that forwards
    everything. `allow` and `deny` are the records that match path and method.
    """

    selected: frozenset[Inspection] | None
    audit: Inspection | None
    allow: tuple[Record, ...]
    deny: tuple[Record, ...]

    def verdict(self) -> bool | None:
        """True or False when the rules decide for every query (audit left aside), None when the query matters."""
        if self.selected == frozenset() or not self.allow or any(not record.query for record in self.deny):
            return False
        if not self.deny and any(not record.query for record in self.allow):
            return True
        return None


def judge(grants: Sequence[Grant], records: Iterable[Record], method: str, *, slash: bool = False) -> Judgement:
    """The definition of proof.md 2.2 at one point. `records` are those of the path, from the grants' tries.

    `slash` says that the path contains `%2F`: only endpoints with `allow_encoded_slash` can then allow, while the
    denies of all endpoints hold.
    """
    if all(grant.simple for grant in grants):
        allow, deny = _matching(records, method, slash=slash, selected=None)
        return Judgement(None, None, allow, deny)
    records = list(records)
    scoped = {record.inspection for record in records if record.kind is Kind.SCOPE}
    selected = frozenset(i for grant in grants for i in grant.inspections if i.trivial or i in scoped)
    top = max((i.specificity for i in selected), default=0)
    audit = next(
        (
            i
            for grant in grants
            for i in grant.inspections
            if i.audit and i in selected and i.specificity == top and (i.slash or not slash)
        ),
        None,
    )
    allow, deny = _matching(records, method, slash=slash, selected=selected)
    return Judgement(selected, audit, allow, deny)


def _matching(
    records: Iterable[Record], method: str, *, slash: bool, selected: frozenset[Inspection] | None
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    allow: dict[Record, None] = {}
    deny: dict[Record, None] = {}
    for record in records:
        if record.kind is Kind.SCOPE or not record.covers(method):
            continue
        if selected is not None and record.inspection not in selected:
            continue
        if record.kind is Kind.DENY:
            deny[record] = None
        elif record.inspection.slash or not slash:
            allow[record] = None
    return tuple(allow), tuple(deny)
