"""The whole ladder of one verdict for people: every condition in the order in which it is asked, and where it ended.

Words only. The verdict is the engine's own; a rung that fails carries the same condition as the decision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pyopenshell.policy.content import content_limit
from pyopenshell.policy.decision import Condition, Connection, Decision
from pyopenshell.policy.explain import bracketed, few, printable
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.hosts import canonical_host
from pyopenshell.policy.judgement import Judgement, judge
from pyopenshell.policy.operations import MESSAGE, TEXT, UPGRADE, carrier
from pyopenshell.policy.query import denies, parse_query
from pyopenshell.policy.records import Kind, Record

if TYPE_CHECKING:
    from pyopenshell.policy.engine import Engine, EngineCell

RUNGS = {
    Condition.IDENTITY: "who asks",
    Condition.REQUEST_TARGET: "spelling",
    Condition.NO_POLICY: "any rules",
    Condition.HOST: "host",
    Condition.PORT: "port",
    Condition.BINARY: "binary",
    Condition.ENDPOINT_PATH: "endpoint path",
    Condition.PROTOCOL: "protocol",
    Condition.CONTENT: "content",
    Condition.DENY_RULE: "deny rules",
    Condition.PATH: "path",
    Condition.METHOD: "method",
    Condition.QUERY: "query",
    Condition.OPERATION: "operation",
}
"""What each condition is called here, in the order in which conditions are asked."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rung:
    """One condition. `passed` None: a remark that decides nothing."""

    name: str
    passed: bool | None
    text: str
    condition: Condition = Condition.NONE


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """`decision` as the engine gave it, and the rungs up to the one that failed (or all of them)."""

    decision: Decision
    question: str
    rungs: tuple[Rung, ...]

    @property
    def verdict(self) -> str:
        """`allowed by rule 'x'`, `denied: …`, or `forwarded although refused: …`."""
        decision = self.decision
        if decision.audit:
            return f"forwarded although refused, rule '{printable(decision.rule)}' only audits: {decision.reason}"
        if decision.allowed:
            return f"allowed by rule '{printable(decision.rule)}'"
        return f"denied ({decision.condition.value}): {decision.reason}"

    def lines(self) -> list[str]:
        width = max((len(rung.name) for rung in self.rungs), default=0)
        signs = {True: "✓", False: "✗", None: "·"}
        out = [self.question, *(f"  {signs[r.passed]} {r.name.ljust(width)}  {r.text}" for r in self.rungs)]
        if self.decision.nearest:
            out.append(f"  → nearest: {self.decision.nearest}")
        return [*out, f"  = {self.verdict}"]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def explain(
    engine: Engine,
    connection: Connection,
    method: str = "",
    target: str = "",
    *,
    body: str | None = None,
    upgrade: bool = False,
) -> Explanation:
    """Why `engine` decides as it does about a connection and, with a method, about one request on it.

    `body` is JSON, or the text of a message when the method is WEBSOCKET_TEXT; `upgrade` makes a GET a handshake.
    """
    cell = engine.connect(connection)
    decision = _decided(cell, method, target, body, upgrade=upgrade)
    rungs = list(_connection(engine, connection, cell))
    if cell.decision.allowed:
        token = UPGRADE if upgrade else MESSAGE if method == TEXT else method
        rungs += _requests(cell, token, target, decision)
    place = f"{bracketed(printable(connection.host))}:{connection.port}"
    what = f"{printable(method)} {printable(target)} on {place}" if method else f"a connection to {place}"
    return Explanation(decision, f"{what} by {printable(connection.binary) or 'an unknown program'}", tuple(rungs))


def _decided(cell: EngineCell, method: str, target: str, body: str | None, *, upgrade: bool) -> Decision:
    if not method:
        return cell.decision
    if upgrade:
        return cell.decide_upgrade(target)
    if method == TEXT:
        return cell.decide_message(target, body or "")
    if body is None and method.upper() not in ("GET", "DELETE"):
        return cell.decide(method, target)
    return cell.decide_content(method, target, "application/json" if body else "", (body or "").encode())


def _rung(condition: Condition, text: str, *, passed: bool = True) -> Rung:
    return Rung(RUNGS[condition], passed, text, condition)


def _failed(decision: Decision, text: str = "") -> Rung:
    return _rung(decision.condition, text or decision.reason, passed=False)


def _connection(engine: Engine, connection: Connection, cell: EngineCell) -> Iterator[Rung]:
    denial = None if cell.decision.allowed else cell.decision
    order = list(RUNGS)
    reached = len(order) if denial is None else order.index(denial.condition)

    def rung(condition: Condition, text: str) -> Iterator[Rung]:
        """The rung as passed, as the one that failed, or not at all below that one."""
        at = order.index(condition)
        if at < reached:
            yield _rung(condition, text)
        elif denial is not None and at == reached:
            yield _failed(denial)

    chain = " ← ".join(printable(path) for path in (connection.binary, *connection.ancestors))
    yield from rung(Condition.IDENTITY, chain)
    try:
        host = canonical_host(connection.host)
    except ValueError:
        host = ""
    yield from rung(Condition.REQUEST_TARGET, f"the host is {host}")
    yield from rung(
        Condition.NO_POLICY, f"{_count(len(engine.policy.rules), 'rule')}, {_count(len(engine.index.grants), 'grant')}"
    )
    ports = (
        {port: grants for port, index in sorted(engine.index.ports.items()) if (grants := index.site(host).grants)}
        if host
        else {}
    )
    patterns = few(grant.host or "(any name)" for grants in ports.values() for grant in grants)
    yield from rung(Condition.HOST, f"{host} is matched by {patterns}")
    here = ports.get(connection.port, ())
    yield from rung(Condition.PORT, f"{connection.port}, named by {_rules(here)}")
    found = engine.index.at((connection.binary, *connection.ancestors), host, connection.port) if host else ()
    yield from rung(Condition.BINARY, f"{_binaries(engine, connection, found)} in {_rules(found)}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _rules(grants: Sequence[Grant]) -> str:
    return few(f"rule '{printable(key)}'" for grant in grants for key, _ in grant.sources)


def _binaries(engine: Engine, connection: Connection, grants: Sequence[Grant]) -> str:
    named = frozenset(binary for grant in grants for binary in grant.binaries)
    out = [
        f"{printable(pattern)} matches {'ancestor ' + printable(path) if index else 'the program'}"
        for index, path in enumerate((connection.binary, *connection.ancestors))
        for pattern in sorted(engine.index.binaries.of(path) & named)
    ]
    return few(out)


def _requests(cell: EngineCell, method: str, target: str, decision: Decision) -> Iterator[Rung]:
    if not cell.inspected:
        why = "tls: skip forbids it" if cell.tls_skip else "no endpoint here has a protocol"
        yield Rung("inspection", None, f"none, bytes pass as they are ({why})")
        return
    raw = any(grant.raw for grant in cell.grants)
    takes = ", which takes precedence over a raw endpoint" if raw else ""
    yield Rung("inspection", None, f"every request is judged ({', '.join(cell.protocols)}){takes}")
    if not method:
        return
    if decision.condition is Condition.REQUEST_TARGET:
        yield _failed(decision)
        return
    yield _rung(Condition.REQUEST_TARGET, f"the path is judged and forwarded as {decision.path}")
    yield from _judged(cell, method if " " in method else method.upper(), target, decision)
    if decision.audit:
        yield Rung("audit", None, f"rule '{printable(decision.rule)}' says enforcement: audit: forwarded and logged")


def _judged(cell: EngineCell, method: str, target: str, decision: Decision) -> Iterator[Rung]:
    records = cell.at(decision.path)
    grants = [grant for grant in cell.grants if grant.inspected]
    judgement = judge(grants, records, method, slash="%2F" in decision.path)
    failed = decision.condition
    if failed is Condition.ENDPOINT_PATH:
        yield _failed(decision, f"{decision.reason}; {decision.nearest}")
        return
    yield _rung(Condition.ENDPOINT_PATH, _scopes(grants, judgement))
    if failed is Condition.PROTOCOL:
        yield _failed(decision)
        return
    yield _rung(Condition.PROTOCOL, ", ".join(cell.protocols))
    carried = content_limit(judgement.top[0].frame) > 0 if judgement.top else False
    if carried or failed in (Condition.CONTENT, Condition.OPERATION):
        if failed is Condition.CONTENT:
            yield _failed(decision)
            return
        yield _rung(Condition.CONTENT, "everything it carries can be read")
    values = parse_query(target.partition("?")[2])
    if failed is Condition.DENY_RULE:
        fired = (
            decision.nearest.removeprefix("deny ")
            if carried
            else few(_named(record) for record in judgement.deny if denies(record.query, values))
        )
        yield _failed(decision, f"{fired} matches, and denies win")
        return
    count = sum(len(grant.denies) for grant in grants)
    yield _rung(Condition.DENY_RULE, f"none of {count} matches" if count else "none")
    if carried or failed is Condition.OPERATION:
        if failed is Condition.OPERATION:
            yield _failed(decision)
            return
        yield _rung(Condition.OPERATION, "each is allowed")
        return
    selected = judgement.selected
    here = [r for r in records if r.kind is Kind.ALLOW and (selected is None or r.inspection in selected)]
    steps = (
        (Condition.PATH, f"{decision.path} is matched by {few(_named(record) for record in here)}"),
        (Condition.METHOD, f"{carrier(method)} is allowed by {few(_named(record) for record in judgement.allow)}"),
        (Condition.QUERY, "nothing is asked of the query, or it holds"),
    )
    for condition, text in steps:
        if failed is condition:
            yield _failed(decision)
            return
        yield _rung(condition, text)


def _scopes(grants: Sequence[Grant], judgement: Judgement) -> str:
    chosen = [i for g in grants for i in g.inspections if judgement.selected is None or i in judgement.selected]
    return few(f"{i.scope} (rule '{printable(i.key)}')" for i in chosen)


def _named(record: Record) -> str:
    wanted = "".join(f" {key}={'|'.join(globs)}" for key, globs in record.query) if record.sorts is None else ""
    return f"{record}{wanted} (rule '{printable(record.key)}')"
