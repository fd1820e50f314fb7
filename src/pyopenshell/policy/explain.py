"""Why not: the first condition that failed, its sentence in the contract's vocabulary, and the nearest miss.

Words only; `engine` has decided before it asks. Everything a client can choose is escaped and bounded here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pyopenshell.policy import operations
from pyopenshell.policy.decision import Condition, Connection, Decision
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.index import GrantIndex
from pyopenshell.policy.judgement import Judgement
from pyopenshell.policy.operations import Operation
from pyopenshell.policy.places import Site
from pyopenshell.policy.query import allows
from pyopenshell.policy.records import Kind, Record

_MAX_NAMED = 5
_MAX_RANKED = 64
_MAX_TEXT = 256


def printable(text: str) -> str:
    """Hostile text on one line: control, bidi and other unprintable characters escaped, at most 256 characters."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            c if c.isprintable() and (c.isascii() or c.isalnum()) else c.encode("unicode_escape").decode() for c in text
        )
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def few(items: Iterable[str], limit: int = _MAX_NAMED) -> str:
    """The first items, and how many more there are."""
    names = list(dict.fromkeys(items))
    return _and_more(names[:limit], len(names) - limit)


def _and_more(names: Iterable[str], more: int) -> str:
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


class Near(NamedTuple):
    """What a refusal tells of the grants that cover a host and port but not the program: the same whoever asked."""

    keys: tuple[str, ...]
    """The first rules, sorted."""
    more: int
    """How many rules besides."""
    binaries: str

    @classmethod
    def of(cls, site: Site) -> Near:
        grants = site.grants
        keys = {key for grant in grants for key, _ in grant.sources}
        first = tuple(heapq.nsmallest(_MAX_NAMED, keys))
        return cls(first, len(keys) - len(first), few(name for grant in grants for name in grant.binaries))


def connection_denied(index: GrantIndex, site: Site, near: Near, connection: Connection, host: str) -> Decision:
    """The denial of a connection that no grant admits. `host` is canonical, "" when there is no canonical form."""
    port = connection.port
    if not connection.binary.startswith("/"):
        return Decision(False, "-", "process identity could not be established", Condition.IDENTITY)
    if not host:
        return Decision(False, "-", f"'{printable(connection.host)}' is not a host", Condition.REQUEST_TARGET)
    if not index.grants:
        return Decision(False, "-", "network connections not allowed by policy", Condition.NO_POLICY)
    if site:
        return _binary_denied(connection, near)
    reason = f"endpoint {bracketed(host)}:{port} is not allowed by any policy"
    ports = index.ports_of(host)
    if ports:
        allowed = _and_more(map(str, ports[:_MAX_NAMED]), len(ports) - _MAX_NAMED)
        return Decision(False, "-", reason, Condition.PORT, nearest=f"port {port}, allowed: {allowed}")
    return Decision(False, "-", reason, Condition.HOST, nearest=_near_host(index, host))


def bracketed(host: str) -> str:
    """A host as it stands before ":port"."""
    return f"[{host}]" if ":" in host else host


def _binary_denied(connection: Connection, near: Near) -> Decision:
    binary = printable(connection.binary)
    ancestors = " -> ".join([printable(ancestor) for ancestor in connection.ancestors])
    parts = [f"binary '{binary}' not allowed in policy '{key}' (ancestors: [{ancestors}])" for key in near.keys]
    if near.more:
        parts.append(f"and {near.more} more policies")
    nearest = f"binary {binary}, allowed: {near.binaries}"
    return Decision(False, near.keys[0], "; ".join(parts), Condition.BINARY, nearest=nearest)


def _near_host(index: GrantIndex, host: str) -> str:
    """Declared hosts in the same domain (last two labels)."""
    near, more = index.near(host, _MAX_NAMED)
    return f"host {host}, allowed: {_and_more(near, more)}" if near else ""


def request_denied(
    grants: Sequence[Grant],
    at_path: Sequence[Record],
    judgement: Judgement,
    fired: Sequence[Record],
    token: str,
    path: str,
    samples: Iterable[Record],
    operation: Operation | None = None,
) -> tuple[str, str, Condition, str]:
    """(rule, reason, first failed condition, nearest miss) of a refused request.

    `token` and `operation` say what was asked (`policy.operations`). `at_path` are all records whose pattern matches
    the path, `fired` the denies that match the whole request, `samples` allow records that agree with the path as far
    as any does.
    """
    default = min(grant.key for grant in grants)
    selected = judgement.selected
    if selected is not None and not selected:
        scopes = few(f"{i.scope} (rule '{i.key}')" for grant in grants for i in grant.inspections)
        return default, "no L7 endpoint path matched request", Condition.ENDPOINT_PATH, f"endpoint path {scopes}"
    if judgement.foreign:
        key = min((i.key for i in judgement.top), default=default)
        return key, _foreign(judgement, token), Condition.PROTOCOL, ""
    method = operations.carrier(token)
    what = f"{method} {path}" if operation is None else str(operation)
    if fired:
        record = fired[0]
        if operation is not None and record.sorts is None:
            what = f"{method} {path}"
        by = "blocked by endpoint policy" if record.sorts is not None else "blocked by deny rule"
        return record.key, f"{what} {by}", Condition.DENY_RULE, f"deny {_named(record)}"
    reason = f"{what} not permitted by policy"
    if operation is not None:
        return _operation_denied(grants, judgement, operation, default, reason)
    if judgement.allow:
        record = judgement.allow[0]
        wanted = few(f"{key}={'|'.join(globs)}" for key, globs in record.query)
        return record.key, reason, Condition.QUERY, f"query, {_named(record)} needs {wanted}"
    here = [r for r in at_path if r.kind is Kind.ALLOW and r.sorts is None and _counts(r, judgement)]
    methods = few(record.method for record in here if not record.covers(token))
    if methods:
        text = f"method {method}, allowed on this path: {methods}"
        same = _nearest(grants, token, path, (), same_method=True)
        return here[0].key, reason, Condition.METHOD, f"{text}; allowed: {_named(same)}" if same else text
    if here:
        return here[0].key, reason, Condition.PATH, f"encoded slash, {_named(here[0])} lacks allow_encoded_slash"
    nearest = _nearest(grants, token, path, samples)
    return (nearest.key if nearest else default), reason, Condition.PATH, _named(nearest) if nearest else ""


def _counts(record: Record, judgement: Judgement) -> bool:
    """Is the record of an endpoint that decides here, and not about other requests?"""
    protocols = {inspection.protocol for inspection in judgement.top}
    return judgement.selected is None or (
        record.inspection in judgement.selected and record.inspection.protocol in protocols
    )


def _foreign(judgement: Judgement, token: str) -> str:
    """Why what was asked cannot be judged by the endpoints that claim the path."""
    found = judgement.foreign
    if len(found) > 1:
        return f"endpoints of different protocols claim this path: {', '.join(found)}"
    protocol = found[0]
    if token == operations.MESSAGE:
        return "only text that can be judged as GraphQL passes on this endpoint"
    if operations.sort(token):
        return f"protocol '{protocol}' cannot judge {operations.named(token)}"
    if protocol == "websocket":
        return "websocket endpoint requires a valid WebSocket upgrade request"
    return f"protocol '{protocol}' judges what requests carry, and the content of this request was not inspected"


def _operation_denied(
    grants: Sequence[Grant], judgement: Judgement, operation: Operation, default: str, reason: str
) -> tuple[str, str, Condition, str]:
    values = operation.values
    near = [
        record
        for grant in grants
        for record in grant.first_allows(_MAX_RANKED)
        if record.inspection in judgement.top and record.sorts != (operations.SESSION,)
    ]
    near.sort(key=lambda record: sum(-1 if allows((condition,), values) else 1 for condition in record.query))
    keys = [record.key for record in near]
    nearest = f"allowed: {few(_named(record) for record in near)}" if near else ""
    return (keys[0] if keys else default), reason, Condition.OPERATION, nearest


def _named(record: Record) -> str:
    return f"{record} (rule '{record.key}')"


def _nearest(
    grants: Sequence[Grant], method: str, path: str, samples: Iterable[Record], *, same_method: bool = False
) -> Record | None:
    """The allow record that shares most leading segments with the path, same method preferred; bounded work."""
    candidates = list(samples)
    for grant in grants:
        candidates += [r for r in grant.first_allows(_MAX_RANKED - len(candidates)) if r.sorts is None]
    if same_method:
        candidates = [record for record in candidates if record.covers(method)]
    word = path.split("/")

    def score(record: Record) -> tuple[int, bool]:
        shared = 0
        for have, want in zip(word, record.path.split("/"), strict=False):
            if have != want and "*" not in want:
                break
            shared += 1
        return shared, record.covers(method)

    return max(candidates, key=score, default=None)
