"""The engine: a compiled policy that answers "may this connection, this request?" and says why not.

The one evaluator of the product: proxy, proof, `policy test` and users' tests ask it. Does no I/O, knows no sockets.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator

from pyopenshell.policy.automaton import Automaton, State
from pyopenshell.policy.decision import Condition, Connection, Decision, permitted
from pyopenshell.policy.explain import connection_denied, request_denied
from pyopenshell.policy.grants import Grant, Judgement, Record, judge
from pyopenshell.policy.hosts import canonical_host
from pyopenshell.policy.index import GrantIndex, window
from pyopenshell.policy.ladder import Explanation
from pyopenshell.policy.ladder import explain as explained
from pyopenshell.policy.model import Policy
from pyopenshell.policy.paths import canonicalise, check_query, clean
from pyopenshell.policy.query import allows, denies, parse_query

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}").fullmatch
_MAX_CONNECTIONS = 4096
_MAX_METHODS = 64


class Outcome:
    """What path and method come to in one cell. `permitted` None: the query decides."""

    __slots__ = ("judgement", "permitted", "rule")

    def __init__(self, judgement: Judgement) -> None:
        self.judgement = judgement
        self.permitted = judgement.verdict()
        self.rule = min((record.key for record in judgement.allow), default="-")


class EngineCell:
    """`decision.Cell`: the grants of one connection, and the automaton that judges its requests."""

    __slots__ = (
        "_automaton",
        "_grants",
        "_size",
        "_slashes",
        "allowed_ips",
        "decision",
        "grants",
        "host_declared",
        "inspected",
        "key",
        "protocols",
        "tls_skip",
    )

    def __init__(
        self, decision: Decision, host: str, port: int, grants: tuple[Grant, ...], automaton: Automaton[Outcome] | None
    ) -> None:
        self.decision = decision
        self.inspected = automaton is not None
        self.key: object = (host, port, grants)
        self.grants = grants
        self._automaton = automaton
        self._grants = tuple(grant for grant in grants if grant.inspected)
        self._size = len(grants)
        self._slashes = any(grant.slashes for grant in self._grants)
        self.protocols = tuple(dict.fromkeys(i.endpoint.protocol for g in self._grants for i in g.inspections))
        self.tls_skip = automaton is None and any(grant.tls_skip for grant in grants)
        self.allowed_ips = tuple(
            dict.fromkeys(ip for grant in grants for _, endpoint in grant.sources for ip in endpoint.allowed_ips)
        )
        self.host_declared = any(grant.declared for grant in grants)

    def __repr__(self) -> str:
        verdict = "allowed" if self.decision.allowed else "denied"
        return f"<cell {verdict} {'inspected' if self.inspected else 'raw'} rule={self.decision.rule}>"

    def decide(self, method: str, target: str) -> Decision:
        """`decision.Cell.decide`. A raw cell allows every request unchanged; a denied one repeats its denial."""
        automaton = self._automaton
        if automaton is None:
            decision = self.decision
            return Decision(True, decision.rule, target=target) if decision.allowed else decision
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
        state = automaton.run(path)
        outcome = (state.slash_table if slash else state.table).get(method)
        if outcome is None:
            if _TOKEN(method) is None:
                return self._refused("method is not a token")
            outcome = self._outcome(state, method, slash=slash)
        if outcome.permitted:
            return permitted(outcome.rule, path, target)
        return self._settle(outcome, state, method, path, target, query)

    def at(self, path: str) -> list[Record]:
        """Everything the rules say about a canonical path: allow, deny and scope records whose pattern matches it."""
        return self._automaton.run(path).records if self._automaton is not None else []

    def steps(self, target: str = "") -> int:
        """About how many elementary steps this connection, and the request with it, cost without any cache.

        A function of policy, connection and target alone, so that proofs can count what they ask.
        """
        steps = 4 + len(self.allowed_ips) + 2 * self._size
        path = target.partition("?")[0]
        return steps + self._automaton.steps(path) if self._automaton is not None and path else steps

    def _outcome(self, state: State[Outcome], method: str, *, slash: bool) -> Outcome:
        outcome = Outcome(judge(self._grants, state.records, method.upper(), slash=slash))
        table = state.slash_table if slash else state.table
        if len(table) < _MAX_METHODS:
            table[method] = outcome
        return outcome

    def _refused(self, reason: str) -> Decision:
        return Decision(False, self.decision.rule, reason, Condition.REQUEST_TARGET)

    def _settle(
        self, outcome: Outcome, state: State[Outcome], method: str, path: str, target: str, query: str
    ) -> Decision:
        """Everything that is not a plain permit: query conditions, audit mode, and the reason of a denial."""
        judgement = outcome.judgement
        values = parse_query(query)
        fired = [record for record in judgement.deny if denies(record.query, values)]
        if outcome.permitted is None and not fired:
            granted = [record.key for record in judgement.allow if allows(record.query, values)]
            if granted:
                return permitted(min(granted), path, target)
        samples = self._samples(path) if not state.records else []
        rule, reason, condition, nearest = request_denied(
            self._grants, state.records, judgement, fired, method.upper(), path, samples
        )
        audit = judgement.audit
        if audit is not None:
            return Decision(True, audit.key, reason, condition, True, path, target, nearest)
        return Decision(False, rule, reason, condition, False, path, target, nearest)

    def _samples(self, path: str) -> list[Record]:
        assert self._automaton is not None
        state = self._automaton.deepest(path)
        return [node.sample for node in state.nodes if node.sample is not None]


class Engine:
    """`decision.PolicyEngine`. Immutable; caches are bounded and hold nothing that is not derived from the policy."""

    __slots__ = ("_automata", "_cells", "index", "policy")

    def __init__(self, policy: Policy, reuse: Engine | None = None) -> None:
        self.policy = policy
        self.index: GrantIndex = GrantIndex(policy, reuse.index if reuse is not None else None)
        self._cells: dict[tuple[str, int, str, tuple[str, ...]], EngineCell] = {}
        self._automata: dict[tuple[Grant, ...], Automaton[Outcome]] = {}

    def __repr__(self) -> str:
        return f"<engine of {len(self.policy.rules)} rules, {len(self.index.grants)} grants>"

    def connect(self, connection: Connection) -> EngineCell:
        """`decision.PolicyEngine.connect`."""
        key = (connection.host, connection.port, connection.binary, connection.ancestors)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._resolve(connection)
            if len(self._cells) >= _MAX_CONNECTIONS:
                self._cells.clear()
            self._cells[key] = cell
        return cell

    def _resolve(self, connection: Connection) -> EngineCell:
        try:
            host = canonical_host(connection.host)
        except ValueError:
            host = ""
        grants: tuple[Grant, ...] = ()
        if host and connection.binary.startswith("/"):
            grants = self.index.at((connection.binary, *connection.ancestors), host, connection.port)
        if not grants:
            return EngineCell(connection_denied(self.index, connection, host), host, connection.port, (), None)
        decision = Decision(True, min(grant.key for grant in grants))
        return EngineCell(decision, host, connection.port, grants, self._automaton(grants))

    def _automaton(self, grants: tuple[Grant, ...]) -> Automaton[Outcome] | None:
        if not any(grant.inspected for grant in grants):
            return None
        automaton = self._automata.get(grants)
        if automaton is None:
            if len(self._automata) >= _MAX_CONNECTIONS:
                self._automata.clear()
            automaton = self._automata[grants] = Automaton(grants)
        return automaton

    def decide(self, connection: Connection, method: str = "", target: str = "") -> Decision:
        """`decision.PolicyEngine.decide`."""
        cell = self.connect(connection)
        return cell.decide(method, target) if method else cell.decision

    def explain(self, connection: Connection, method: str = "", target: str = "") -> Explanation:
        """`decide` with the whole ladder of conditions, for people. Costs far more than `decide`."""
        return explained(self, connection, method, target)


def compile(policy: Policy, reuse: Engine | None = None) -> Engine:
    """Compile a policy. `reuse` is an engine whose unchanged grants are shared.

    Raises ValueError when a pattern cannot mean what it says; a policy from `policy.load` never does.
    """
    with _collector_paused():
        return Engine(policy, reuse)


def related(old: Policy, new: Policy) -> bool:
    """Would `compile(new, reuse=...)` of an engine of `old` cost only the size of the change?"""
    return window(old.rules, new.rules) is not None


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
