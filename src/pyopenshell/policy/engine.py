"""The engine: a compiled policy that answers "may this connection, this request?" and says why not.

The one evaluator of the product: proxy, proof, `policy test` and users' tests ask it. Does no I/O, knows no sockets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from pyopenshell.policy import content, operations
from pyopenshell.policy.automaton import Automaton, State
from pyopenshell.policy.content import content_limit
from pyopenshell.policy.decision import Condition, Connection, Decision, permitted
from pyopenshell.policy.explain import Near, connection_denied, request_denied
from pyopenshell.policy.grants import Grant
from pyopenshell.policy.hosts import canonical_host
from pyopenshell.policy.index import GrantIndex, stretch
from pyopenshell.policy.judgement import Judgement, judge
from pyopenshell.policy.ladder import Explanation
from pyopenshell.policy.ladder import explain as explained
from pyopenshell.policy.model import Policy
from pyopenshell.policy.operations import ContentError, GraphqlRequest, Operation
from pyopenshell.policy.paths import canonicalise, check_query, clean
from pyopenshell.policy.places import NOWHERE, Site
from pyopenshell.policy.query import allows, denies, parse_query
from pyopenshell.policy.records import Inspection, Record, in_order
from pyopenshell.policy.tries import Node

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}").fullmatch
_MAX_REMEMBERED = 4096
"""Connections, spots, and sets of grants."""
_MAX_CELLS = 64
"""Of one spot."""
_MAX_METHODS = 64
_new = object.__new__


class _Outcome:
    """What path and method come to in one cell. `permitted` None: the query decides."""

    __slots__ = ("judgement", "permitted", "rule")

    def __init__(self, judgement: Judgement) -> None:
        self.judgement = judgement
        self.permitted = judgement.verdict()
        self.rule = min((record.key for record in judgement.allow), default="-")


class _PathState(State[Record]):
    """Where paths end: the records found there, and one outcome per token for paths without and with `%2F`."""

    __slots__ = ("slash_table", "table")

    def __init__(self, nodes: tuple[Node[Record], ...]) -> None:
        super().__init__(nodes)
        self.found.sort(key=in_order)
        self.table: dict[str, _Outcome] = {}
        self.slash_table: dict[str, _Outcome] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A question in canonical form: `token` and `operation` are what is asked about (`policy.operations`)."""

    state: _PathState
    token: str
    path: str
    target: str
    query: str
    operation: Operation | None = None

    @property
    def values(self) -> Mapping[str, Sequence[str]]:
        return operations.merged(parse_query(self.query), self.operation)


class EngineCell:
    """`decision.Cell`: the grants of one connection, and the automaton that judges its requests."""

    __slots__ = (
        "_automaton",
        "_grants",
        "_slashes",
        "allowed_ips",
        "decision",
        "grants",
        "host",
        "host_declared",
        "inspected",
        "port",
        "protocols",
        "tls_skip",
    )

    def __init__(self, decision: Decision, grants: tuple[Grant, ...] = (), host: str = "", port: int = 0) -> None:
        self.decision = decision
        self.grants = grants
        self.host, self.port = host, port
        self._automaton: Automaton[_PathState] | None = None
        self._grants = tuple([grant for grant in grants if grant.inspected])
        self.inspected = bool(self._grants)
        self._slashes = self.tls_skip = self.host_declared = False
        for grant in grants:
            self._slashes |= grant.slashes
            self.tls_skip |= grant.tls_skip and not self.inspected
            self.host_declared |= grant.declared
        if len(grants) == 1:
            self.protocols, self.allowed_ips = grants[0].protocols, grants[0].addresses
        else:
            self.protocols = tuple(dict.fromkeys([protocol for grant in grants for protocol in grant.protocols]))
            self.allowed_ips = tuple(dict.fromkeys([ip for grant in grants for ip in grant.addresses]))

    def placed(self, host: str, port: int) -> EngineCell:
        """The same grants at another place, which need not be compiled again."""
        out = _new(EngineCell)
        out.host, out.port = host, port
        out.decision, out.grants = self.decision, self.grants
        out._grants, out._slashes = self._grants, self._slashes
        out._automaton = self._judging() if self.inspected else None
        out.inspected, out.tls_skip = self.inspected, self.tls_skip
        out.protocols, out.allowed_ips, out.host_declared = self.protocols, self.allowed_ips, self.host_declared
        return out

    def _judging(self) -> Automaton[_PathState]:
        """The automaton, which only the first request needs."""
        automaton = self._automaton
        if automaton is None:
            automaton = self._automaton = Automaton([grant.trie.root for grant in self._grants], _PathState)
        return automaton

    @property
    def key(self) -> object:
        """`decision.Cell.key`."""
        return self.host, self.port, self.grants

    def __repr__(self) -> str:
        verdict = "allowed" if self.decision.allowed else "denied"
        return f"<cell {verdict} {'inspected' if self.inspected else 'raw'} rule={self.decision.rule}>"

    def decide(self, method: str, target: str) -> Decision:
        """`decision.Cell.decide`. A raw cell allows every request unchanged; a denied one repeats its denial."""
        automaton = self._automaton
        if automaton is None:
            if not self.inspected:
                return self._unseen(target)
            automaton = self._judging()
        path, mark, query = target.partition("?")
        slash = False
        try:
            if mark:
                check_query(query)
            if not clean(path):
                canonical = canonicalise(target, self._slashes)
                path, target = canonical.path, canonical.target
                slash = "%2F" in path
        except ValueError as error:
            return self._refused(f"request-target must be canonical: {error}")
        state = automaton.run(path[1:].split("/"))
        outcome = (state.slash_table if slash else state.table).get(method)
        if outcome is None:
            if _TOKEN(method) is None:
                return self._refused("method is not a token")
            outcome = self._outcome(state, method.upper(), slash=slash, known_as=method)
        if outcome.permitted:
            return permitted(outcome.rule, path, target)
        return self._settle(outcome, _Asked(state, method.upper(), path, target, query))

    def content_limit(self, target: str) -> int:
        """`decision.Cell.content_limit`."""
        asked = self._asked("", target)
        return self._limit(asked) if isinstance(asked, _Asked) else 0

    def _limit(self, asked: _Asked) -> int:
        return min((content_limit(i.frame) for i in self._top(asked)), default=0)

    def content_protocol(self, target: str) -> str:
        """`decision.Cell.content_protocol`."""
        asked = self._asked("", target)
        protocols = {i.protocol for i in self._top(asked)} if isinstance(asked, _Asked) else set()
        return protocols.pop() if len(protocols) == 1 else ""

    def decide_content(self, method: str, target: str, content_type: str, body: bytes) -> Decision:
        """`decision.Cell.decide_content`."""
        found = self.read_content(method, target, content_type, body)
        return found if isinstance(found, Decision) else self.decide_operations(method, target, found)

    def read_content(self, method: str, target: str, content_type: str, body: bytes) -> Sequence[Operation] | Decision:
        """`decision.Cell.read_content`."""
        asked = self._asked("", target)
        if not isinstance(asked, _Asked):
            return asked
        protocols = {i.protocol for i in self._top(asked)}
        limit = self._limit(asked)
        if len(protocols) != 1 or not limit:
            return self.decide(method, target)
        try:
            return content.read(protocols.pop(), method, asked.query, content_type, body, limit)
        except ContentError as error:
            return self._refused(str(error), Condition.CONTENT, asked)

    def decide_operations(self, method: str, target: str, found: Sequence[Operation]) -> Decision:
        """`decision.Cell.decide_operations`."""
        if not self.inspected or _TOKEN(method) is None:
            return self.decide(method, target)
        asked = self._asked(method.upper(), target)
        if not isinstance(asked, _Asked):
            return asked
        return self._decide_all(asked, found)

    def _decide_all(self, asked: _Asked, found: Sequence[Operation]) -> Decision:
        audited = first = None
        for operation in found:
            decision = self._decide_operation(asked, operation)
            if not decision.allowed:
                return decision
            audited = audited or (decision if decision.audit else None)
            first = first or decision
        return audited or first or self._refused("the request carries nothing to judge", Condition.CONTENT, asked)

    def decide_upgrade(self, target: str) -> Decision:
        """`decision.Cell.decide_upgrade`."""
        return self._decide_token(operations.UPGRADE, target)

    def decide_message(self, target: str, message: str | bytes) -> Decision:
        """`decision.Cell.decide_message`."""
        asked = self._asked(operations.TEXT, target)
        if isinstance(message, bytes) or not isinstance(asked, _Asked):
            return self._decide_token(operations.MESSAGE, target)
        if not self._outcome_of(asked, operations.MESSAGE).judgement.graphql:
            return self._decide_token(operations.MESSAGE, target)
        try:
            found = content.read_message(message)
        except ContentError as error:
            return self._refused(str(error), Condition.CONTENT, asked)
        return self._decide_all(asked, found)

    def _decide_token(self, token: str, target: str) -> Decision:
        asked = self._asked(token, target)
        if not isinstance(asked, _Asked):
            return asked
        outcome = self._outcome_of(asked, token)
        return permitted(outcome.rule, asked.path, asked.target) if outcome.permitted else self._settle(outcome, asked)

    def _decide_operation(self, asked: _Asked, operation: Operation) -> Decision:
        token = f"{asked.token} {operation.sort}"
        outcome = self._outcome_of(asked, token)
        if asked.token == operations.TEXT and not outcome.judgement.graphql and not outcome.judgement.foreign:
            return self._settle(outcome, dataclasses.replace(asked, token=operations.MESSAGE))
        if isinstance(operation, GraphqlRequest) and operation.id:
            known = self._registered(outcome.judgement, operation)
            if known is None:
                reason = "GraphQL persisted query is not registered"
                return self._refused(reason, Condition.OPERATION, asked)
            operation = known
        return self._settle(outcome, dataclasses.replace(asked, token=token, operation=operation))

    def _registered(self, judgement: Judgement, operation: GraphqlRequest) -> GraphqlRequest | None:
        """What a persisted query stands for, None when nobody registered it or two say different things about it."""
        found = {i.registered[operation.id] for i in judgement.top if operation.id in i.registered}
        if len(found) != 1:
            return None
        (known,) = found
        return GraphqlRequest(known.operation_type.lower(), known.operation_name, known.fields, operation.id)

    def _asked(self, token: str, target: str) -> _Asked | Decision:
        """A question in canonical form, or why it is none."""
        if not self.inspected:
            return self._unseen(target)
        try:
            canonical = canonicalise(target, self._slashes)
        except ValueError as error:
            return self._refused(f"request-target must be canonical: {error}")
        state = self._judging().run(canonical.path[1:].split("/"))
        return _Asked(state, token, canonical.path, canonical.target, canonical.query or "")

    def _unseen(self, target: str) -> Decision:
        """A request on a connection that is not inspected."""
        decision = self.decision
        return Decision(True, decision.rule, target=target) if decision.allowed else decision

    def _top(self, asked: _Asked) -> tuple[Inspection, ...]:
        """The endpoints that decide what is looked at in requests to a path."""
        return self._outcome_of(asked, operations.UPGRADE).judgement.top

    def _outcome_of(self, asked: _Asked, token: str) -> _Outcome:
        slash = "%2F" in asked.path
        table = asked.state.slash_table if slash else asked.state.table
        return table.get(token) or self._outcome(asked.state, token, slash=slash, known_as=token)

    def at(self, path: str) -> list[Record]:
        """Everything the rules say about a canonical path: allow, deny and scope records whose pattern matches it."""
        return self._judging().run(path[1:].split("/")).found if self.inspected else []

    def steps(self, target: str = "") -> int:
        """About how many elementary steps this connection, and the request with it, cost without any cache.

        A function of policy, connection and target alone, so that proofs can count what they ask.
        """
        steps = 4 + len(self.allowed_ips) + 2 * len(self.grants)
        path = target.partition("?")[0]
        return steps + self._judging().steps(path[1:].split("/")) if self.inspected and path else steps

    def _outcome(self, state: _PathState, token: str, *, slash: bool, known_as: str) -> _Outcome:
        outcome = _Outcome(judge(self._grants, state.found, token, slash=slash))
        table = state.slash_table if slash else state.table
        if len(table) < _MAX_METHODS:
            table[known_as] = outcome
        return outcome

    def _refused(
        self, reason: str, condition: Condition = Condition.REQUEST_TARGET, asked: _Asked | None = None
    ) -> Decision:
        path, target = (asked.path, asked.target) if asked is not None else ("", "")
        return Decision(False, self.decision.rule, reason, condition, path=path, target=target)

    def _settle(self, outcome: _Outcome, asked: _Asked) -> Decision:
        """Everything that is not a plain permit: query conditions, audit mode, and the reason of a denial."""
        judgement, path, target = outcome.judgement, asked.path, asked.target
        values = asked.values
        fired = [record for record in judgement.deny if denies(record.query, values)]
        if outcome.permitted is not False and not fired:
            granted = [record.key for record in judgement.allow if allows(record.query, values)]
            if granted:
                return permitted(min(granted), path, target)
        records = asked.state.found
        samples = self._samples(path) if not records else []
        rule, reason, condition, nearest = request_denied(
            self._grants, records, judgement, fired, asked.token, path, samples, asked.operation
        )
        audit = judgement.audit
        if audit is not None:
            return Decision(True, audit.key, reason, condition, True, path, target, nearest)
        return Decision(False, rule, reason, condition, False, path, target, nearest)

    def _samples(self, path: str) -> list[Record]:
        state = self._judging().deepest(path[1:].split("/"))
        return [node.sample for node in state.nodes if node.sample is not None]


class _Spot:
    """A host as somebody wrote it and a port: its one spelling, what the policy has there, and its cells so far."""

    __slots__ = ("cells", "host", "site")

    def __init__(self, host: str, site: Site) -> None:
        self.host, self.site = host, site
        self.cells: dict[frozenset[str], EngineCell] = {}
        """By the binary patterns that a chain matches: nothing else about who asks matters."""


class Engine:
    """`decision.PolicyEngine`. Immutable; caches are bounded and hold nothing that is not derived from the policy."""

    __slots__ = ("_cells", "_compiled", "_refusals", "_spots", "index", "policy")

    def __init__(self, policy: Policy, reuse: Engine | None = None) -> None:
        self.policy = policy
        self.index: GrantIndex = GrantIndex(policy, reuse.index if reuse is not None else None)
        self._cells: dict[Connection, EngineCell] = {}
        self._spots: dict[tuple[str, int], _Spot] = {}
        self._compiled: dict[tuple[Grant, ...], EngineCell] = {}
        """One cell for each set of grants that applied anywhere yet."""
        self._refusals: dict[Site, Near] = {}

    def __repr__(self) -> str:
        return f"<engine of {len(self.policy.rules)} rules, {len(self.index.grants)} grants>"

    def connect(self, connection: Connection) -> EngineCell:
        """`decision.PolicyEngine.connect`."""
        cell = self._cells.get(connection)
        if cell is None:
            cell = _remember(self._cells, connection, self._resolve(connection))
        return cell

    def _resolve(self, connection: Connection) -> EngineCell:
        asked, port, binary, ancestors, aliases = connection
        spot = self._spots.get((asked, port))
        if spot is None:
            spot = _remember(self._spots, (asked, port), self._spot(asked, port))
        if spot.site and binary.startswith("/"):
            matched = self.index.binaries.of_chain((binary,), ancestors, aliases)
            cell = spot.cells.get(matched)
            if cell is not None:
                return cell
            grants = spot.site.of(matched)
            if grants:
                return _remember(spot.cells, matched, self._compile(grants, spot.host, port), _MAX_CELLS)
        denial = connection_denied(self.index, spot.site, self._near(spot.site), connection, spot.host)
        return EngineCell(denial, (), spot.host, port)

    def _spot(self, asked: str, port: int) -> _Spot:
        try:
            host = canonical_host(asked)
        except ValueError:
            return _Spot("", NOWHERE)
        return _Spot(host, self.index.site(host, port))

    def _compile(self, grants: tuple[Grant, ...], host: str, port: int) -> EngineCell:
        cell = self._compiled.get(grants)
        if cell is not None:
            return cell.placed(host, port)
        rule = grants[0].key if len(grants) == 1 else min([grant.key for grant in grants])
        return _remember(self._compiled, grants, EngineCell(Decision(True, rule), grants, host, port))

    def _near(self, site: Site) -> Near:
        near = self._refusals.get(site)
        return near if near is not None else _remember(self._refusals, site, Near.of(site))

    def names(self, host: str) -> Literal["exact", "pattern"] | None:
        """`decision.PolicyEngine.names`."""
        return self.index.names(host)

    def decide(self, connection: Connection, method: str = "", target: str = "") -> Decision:
        """`decision.PolicyEngine.decide`."""
        cell = self.connect(connection)
        return cell.decide(method, target) if method else cell.decision

    def explain(
        self,
        connection: Connection,
        method: str = "",
        target: str = "",
        *,
        body: str | None = None,
        upgrade: bool = False,
    ) -> Explanation:
        """The decision with the whole ladder of conditions, for people (`ladder.explain`). Costs far more."""
        return explained(self, connection, method, target, body=body, upgrade=upgrade)


K = TypeVar("K")
V = TypeVar("V")


def _remember(memo: dict[K, V], key: K, value: V, limit: int = _MAX_REMEMBERED) -> V:
    """Bounded: a full memo starts anew, so that hostile names cost time and never memory."""
    if len(memo) >= limit:
        memo.clear()
    memo[key] = value
    return value


def compile(policy: Policy, reuse: Engine | None = None) -> Engine:
    """Compile a policy. `reuse` is an engine whose unchanged grants are shared.

    Raises ValueError when a pattern cannot mean what it says; a policy from `policy.load` never does.
    """
    with _collector_paused():
        return Engine(policy, reuse)


def related(old: Policy, new: Policy) -> bool:
    """Would `compile(new, reuse=...)` of an engine of `old` cost only the size of the change?"""
    return stretch(old.rules, new.rules) is not None


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Compiling allocates only what the engine keeps, so the cycle collector would walk it again and again in vain.

    At 100,000 rules that is four fifths of the time.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
