"""Why not: the first condition that failed, its sentence in the contract's vocabulary, and the nearest miss.

Words only; `engine` has decided before it asks. Everything a client can choose is escaped and bounded here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyopenshell.policy.decision import Condition, Connection, Decision
from pyopenshell.policy.grants import Grant, Judgement, Kind, Record
from pyopenshell.policy.index import GrantIndex

_MAX_NAMED = 5
_MAX_RANKED = 64
_MAX_TEXT = 256


def printable(text: str) -> str:
    """Hostile text on one line: control, bidi and other unprintable characters escaped, at most 256 characters."""
    safe = "".join(
        c if c.isprintable() and (c.isascii() or c.isalnum()) else c.encode("unicode_escape").decode() for c in text
    )
    return safe if len(safe) <= _MAX_TEXT else safe[: _MAX_TEXT - 1] + "…"


def few(items: Iterable[str], limit: int = _MAX_NAMED) -> str:
    """The first items, and how many more there are."""
    names = list(dict.fromkeys(items))
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def connection_denied(index: GrantIndex, connection: Connection, host: str) -> Decision:
    """The denial of a connection that no grant admits. `host` is canonical, "" when there is no canonical form."""
    port = connection.port
    if not connection.binary.startswith("/"):
        return Decision(False, "-", "process identity could not be established", Condition.IDENTITY)
    if not host:
        return Decision(False, "-", f"'{printable(connection.host)}' is not a host", Condition.REQUEST_TARGET)
    if not index.grants:
        return Decision(False, "-", "network connections not allowed by policy", Condition.NO_POLICY)
    near = index.at_host(host, port)
    if near:
        return _binary_denied(connection, near)
    reason = f"endpoint {bracketed(host)}:{port} is not allowed by any policy"
    ports = sorted({other for other, grants in index.ports.items() if grants.at(host)})
    if ports:
        return Decision(False, "-", reason, Condition.PORT, nearest=f"port {port}, allowed: {few(map(str, ports))}")
    return Decision(False, "-", reason, Condition.HOST, nearest=_near_host(index, host))


def bracketed(host: str) -> str:
    """A host as it stands before ":port"."""
    return f"[{host}]" if ":" in host else host


def _binary_denied(connection: Connection, near: Sequence[Grant]) -> Decision:
    keys = sorted({key for grant in near for key, _ in grant.sources})
    binary = printable(connection.binary)
    ancestors = " -> ".join(printable(ancestor) for ancestor in connection.ancestors)
    parts = [f"binary '{binary}' not allowed in policy '{key}' (ancestors: [{ancestors}])" for key in keys[:_MAX_NAMED]]
    if len(keys) > _MAX_NAMED:
        parts.append(f"and {len(keys) - _MAX_NAMED} more policies")
    nearest = f"binary {binary}, allowed: {few(name for grant in near for name in grant.binaries)}"
    return Decision(False, keys[0], "; ".join(parts), Condition.BINARY, nearest=nearest)


def _near_host(index: GrantIndex, host: str) -> str:
    """Declared hosts in the same domain (last two labels)."""
    suffix = ".".join(host.split(".")[-2:])
    if "." not in suffix:
        return ""
    near = [other for other in index.hosts() if other == suffix or other.endswith("." + suffix)]
    return f"host {host}, allowed: {few(near)}" if near else ""


def request_denied(
    grants: Sequence[Grant],
    at_path: Sequence[Record],
    judgement: Judgement,
    fired: Sequence[Record],
    method: str,
    path: str,
    samples: Iterable[Record],
) -> tuple[str, str, Condition, str]:
    """(rule, reason, first failed condition, nearest miss) of a refused request.

    `at_path` are all records whose pattern matches the path, `fired` the denies that match the whole request,
    `samples` allow records that agree with the path as far as any does.
    """
    default = min(grant.key for grant in grants)
    selected = judgement.selected
    if selected is not None and not selected:
        scopes = few(f"{i.scope} (rule '{i.key}')" for grant in grants for i in grant.inspections)
        return default, "no L7 endpoint path matched request", Condition.ENDPOINT_PATH, f"endpoint path {scopes}"
    for record in fired:
        if not record.inspection.supported:
            protocol = record.inspection.endpoint.protocol
            reason = f"protocol '{protocol}' is not supported by this release: every request is denied"
            return record.key, reason, Condition.PROTOCOL, ""
    if fired:
        record = fired[0]
        return record.key, f"{method} {path} blocked by deny rule", Condition.DENY_RULE, f"deny {_named(record)}"
    reason = f"{method} {path} not permitted by policy"
    if judgement.allow:
        record = judgement.allow[0]
        wanted = few(f"{key}={'|'.join(globs)}" for key, globs in record.query)
        return record.key, reason, Condition.QUERY, f"query, {_named(record)} needs {wanted}"
    here = [r for r in at_path if r.kind is Kind.ALLOW and (selected is None or r.inspection in selected)]
    methods = few(record.method for record in here if not record.covers(method))
    if methods:
        text = f"method {method}, allowed on this path: {methods}"
        same = _nearest(grants, method, path, (), same_method=True)
        return here[0].key, reason, Condition.METHOD, f"{text}; allowed: {_named(same)}" if same else text
    if here:
        return here[0].key, reason, Condition.PATH, f"encoded slash, {_named(here[0])} lacks allow_encoded_slash"
    nearest = _nearest(grants, method, path, samples)
    return (nearest.key if nearest else default), reason, Condition.PATH, _named(nearest) if nearest else ""


def _named(record: Record) -> str:
    return f"{record.method} {record.path} (rule '{record.key}')"


def _nearest(
    grants: Sequence[Grant], method: str, path: str, samples: Iterable[Record], *, same_method: bool = False
) -> Record | None:
    """The allow record that shares most leading segments with the path, same method preferred; bounded work."""
    candidates = list(samples)
    for grant in grants:
        candidates += grant.allows[: max(0, _MAX_RANKED - len(candidates))]
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
