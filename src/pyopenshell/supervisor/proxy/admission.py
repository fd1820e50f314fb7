"""The ordered steps every intent takes: identity, policy, destination (and, later, credentials).

Decides who may connect where. Touches no sockets but the one whose owner it asks for, and writes nothing: the result is
an `Admission`, a `Denial` or a `Failure`, and the door speaks.
"""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING, Any

from pyopenshell.audit.text import field
from pyopenshell.isolation.identity import Identifier, Identity, IdentityError
from pyopenshell.policy.decision import Condition, Connection
from pyopenshell.policy.hosts import is_ip_literal
from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.proxy.authority import without_query
from pyopenshell.supervisor.proxy.destination import Guard, Refusal, ResolveError, Target
from pyopenshell.supervisor.tasks import Begun

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyopenshell.policy.decision import Cell, Decision
    from pyopenshell.supervisor.current import Current
    from pyopenshell.supervisor.programs import ProgramNames
    from pyopenshell.supervisor.proxy.wildcards import Wildcards


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Something upstream did not work: never a denial. `step` is resolve, connect, tls, request or response."""

    step: str
    error: str
    detail: str
    status: str = ""
    """More exact than the step: an error type of RFC 9209 (2.3) for Proxy-Status."""


@dataclasses.dataclass(frozen=True, slots=True)
class Intent:
    """What a client asked the door for. `stage` is the denial stage, `subject` what a denial says was refused."""

    stage: str
    subject: str
    host: str
    port: int
    method: str = ""
    """Of the request, where the door reads one before it asks (plain HTTP)."""
    at: str = ""
    """Address:port that the client connected to, where what is judged is a name that it brought along."""

    def because(self, reason: str) -> str:
        """`reason`, and for the log and the reader where the connection was going."""
        return f"{reason}; the connection was going to {self.at}" if self.at else reason


@dataclasses.dataclass(frozen=True, slots=True)
class Admission:
    """A connection that may be made, pinned to the policy generation and the addresses it was judged with."""

    intent: Intent
    identity: Identity
    cell: Cell
    target: Target
    generation: int

    @property
    def host(self) -> str:
        return self.intent.host

    @property
    def port(self) -> int:
        return self.intent.port


def request_denial(
    admission: Admission, method: str, path: str, detail: str, *, stage: str = "l7", **verdict: Any
) -> Denial:
    """An L7 denial: who asked whom for what, why not, and `verdict`, which is the other fields of `Denial`."""
    identity = admission.identity
    verdict.setdefault("policy", admission.cell.decision.rule)
    return Denial(
        layer="l7",
        stage=stage,
        host=admission.host,
        port=admission.port,
        detail=detail,
        binary=identity.exe,
        ancestors=identity.ancestors,
        pid=identity.pid,
        sha256=identity.sha256,
        method=method,
        path=path,
        **verdict,
    )


def denied_request(admission: Admission, method: str, target: str, decision: Decision) -> Denial:
    """An L7 denial from the engine's decision on `method` and `target`."""
    bad = decision.condition is Condition.REQUEST_TARGET
    hopeless = decision.condition in (Condition.REQUEST_TARGET, Condition.CONTENT, Condition.PROTOCOL)
    path = decision.path or without_query(target)
    protocols = admission.cell.protocols
    return request_denial(
        admission,
        method,
        path,
        error="invalid_request_target" if bad else "policy_denied",
        status=400 if bad else 403,
        detail=decision.reason or f"{method} {field(path)} not permitted by policy",
        protocol=protocols[0] if len(protocols) == 1 else "",
        policy=decision.rule,
        reason=decision.reason,
        condition=decision.condition.value,
        nearest=decision.nearest,
        proposable=not hopeless,
    )


class Peer:
    """The client end of one accepted connection; its owner is looked up once, when first needed."""

    __slots__ = ("_begun", "_error", "_identity", "cut", "socket")

    def __init__(self, accepted: socket.socket, cut: Callable[[], None]) -> None:
        """`cut` ends the connection at once, whoever has it now."""
        self.socket = accepted
        self.cut = cut
        self._identity: Identity | None = None
        self._error: IdentityError | None = None
        self._begun: Begun[Identity] | None = None

    def known(self, identifier: Identifier) -> Identity | None:
        """The owner where that takes no waiting; None: `identify` will say. Raises IdentityError as that does."""
        if self._error is not None:
            raise self._error
        if self._identity is None and self._begun is None:
            try:
                self._begun = Begun(identifier.identify(self.socket))
            except IdentityError as error:
                self._error = error
                raise
            self._identity = self._begun.result
        return self._identity

    async def identify(self, identifier: Identifier) -> Identity:
        """Raises IdentityError; a failure is final for the connection, so that retrying cannot wear doubt down."""
        identity = self.known(identifier)
        if identity is None:
            begun, self._begun = self._begun, None
            try:
                identity = await (begun or identifier.identify(self.socket))
            except IdentityError as error:
                self._error = error
                raise
            self._identity = identity
        return identity


class Admitter:
    """Takes intents through the steps."""

    def __init__(
        self, current: Current, identifier: Identifier, guard: Guard, names: ProgramNames, wildcards: Wildcards
    ) -> None:
        self._current = current
        self._identifier = identifier
        self._guard = guard
        self._names = names
        self._wildcards = wildcards

    @property
    def generation(self) -> int:
        return self._current.generation

    def at_once(self, peer: Peer, intent: Intent) -> Admission | Denial | None:
        """The same verdict as `admit` where nothing has to be waited for, else None."""
        try:
            identity = peer.known(self._identifier)
        except IdentityError as error:
            return self._unknown(intent, f"{error.code}: {error}")
        if identity is None:
            return None
        cell = self._connect(intent, identity)
        if not cell.decision.allowed:
            return self._denied(intent, identity, cell)
        target = self._guard.at_once(intent.host, intent.port, cell)
        if target is None:
            return None
        if isinstance(target, Refusal):
            return self._refused(intent, identity, cell, target)
        return Admission(intent, identity, cell, target, self._current.generation)

    async def admit(self, peer: Peer, intent: Intent) -> Admission | Denial | Failure:
        """Judge one intent. A policy change on the way means judging again, never a refusal for that reason."""
        try:
            identity = await peer.identify(self._identifier)
        except IdentityError as error:
            return self._unknown(intent, f"{error.code}: {error}")
        while True:
            generation = self._current.generation
            cell = self._connect(intent, identity)
            if not cell.decision.allowed:
                return self._denied(intent, identity, cell)
            if not self._may_be_named(intent.host, cell):
                return self._exhausted(intent, identity, cell)
            try:
                target = await self._guard.resolve(intent.host, intent.port, cell)
            except ResolveError as error:
                if self._current.generation != generation:
                    continue
                detail = f"DNS resolution failed for {intent.host}:{intent.port}: {error}"
                return Failure("resolve", "upstream_unreachable", detail)
            if self._current.generation != generation:
                continue
            if isinstance(target, Refusal):
                return self._refused(intent, identity, cell, target)
            return Admission(intent, identity, cell, target, generation)

    def renew(self, admission: Admission) -> Admission | Denial:
        """The same connection under the policy of now: no await, no resolution, only addresses already checked."""
        if admission.generation == self._current.generation:
            return admission
        generation = self._current.generation
        cell = self._connect(admission.intent, admission.identity)
        if not cell.decision.allowed:
            return self._denied(admission.intent, admission.identity, cell)
        refusal = self._guard.recheck(admission.host, admission.target, cell)
        if refusal is not None:
            return self._refused(admission.intent, admission.identity, cell, refusal)
        return dataclasses.replace(admission, cell=cell, generation=generation)

    async def resolve_again(self, admission: Admission) -> Admission | Denial | Failure:
        """Fresh addresses for an admission that has grown old; checked like the first ones."""
        renewed = self.renew(admission)
        if isinstance(renewed, Denial):
            return renewed
        try:
            target = await self._guard.resolve(renewed.host, renewed.port, renewed.cell)
        except ResolveError as error:
            detail = f"DNS resolution failed for {renewed.host}:{renewed.port}: {error}"
            return Failure("resolve", "upstream_unreachable", detail)
        if isinstance(target, Refusal):
            return self._refused(renewed.intent, renewed.identity, renewed.cell, target)
        return self.renew(dataclasses.replace(renewed, target=target))

    def _connect(self, intent: Intent, identity: Identity) -> Cell:
        aliases = self._names.aliases(identity)
        connection = Connection(intent.host, intent.port, identity.exe, identity.ancestors, aliases)
        return self._current.engine.connect(connection)

    def _may_be_named(self, host: str, cell: Cell) -> bool:
        """A name that a person wrote tells nobody anything; one that a wildcard covers may."""
        if is_ip_literal(host) or self._current.engine.names(host) == "exact":
            return True
        return self._wildcards.admit(cell.decision.rule, host)

    def _exhausted(self, intent: Intent, identity: Identity, cell: Cell) -> Denial:
        rule = cell.decision.rule
        return Denial(
            layer="l4",
            stage=intent.stage,
            host=intent.host,
            port=intent.port,
            method=intent.method,
            detail=f"{intent.subject} refused: too many different names under wildcards",
            binary=identity.exe,
            ancestors=identity.ancestors,
            pid=identity.pid,
            sha256=identity.sha256,
            policy=rule,
            reason=f"this sandbox asked for too many different names under the wildcards of {rule}: "
            "names it asked for before still work, and a rule may name this host exactly",
            condition="wildcard_exhausted",
            proposable=False,
        )

    def _unknown(self, intent: Intent, reason: str) -> Denial:
        return Denial(
            layer="l4",
            stage=intent.stage,
            host=intent.host,
            port=intent.port,
            method=intent.method,
            detail=f"{intent.subject} not permitted by policy",
            reason=reason,
            condition=Condition.IDENTITY.value,
            proposable=False,
        )

    def _denied(self, intent: Intent, identity: Identity, cell: Cell) -> Denial:
        decision = cell.decision
        nearest = decision.nearest
        if decision.condition is Condition.BINARY:
            nearest = "; ".join(note for note in (nearest, self._names.explain(identity)) if note)
        return Denial(
            layer="l4",
            stage=intent.stage,
            host=intent.host,
            port=intent.port,
            method=intent.method,
            detail=f"{intent.subject} not permitted by policy",
            binary=identity.exe,
            ancestors=identity.ancestors,
            pid=identity.pid,
            sha256=identity.sha256,
            policy=decision.rule,
            reason=intent.because(decision.reason),
            condition=decision.condition.value,
            nearest=nearest,
        )

    def _refused(self, intent: Intent, identity: Identity, cell: Cell, refusal: Refusal) -> Denial:
        return Denial(
            layer="l4",
            stage="ssrf",
            host=intent.host,
            port=intent.port,
            method=intent.method,
            error="ssrf_denied",
            detail=f"{intent.subject} blocked: {refusal.kind}",
            binary=identity.exe,
            ancestors=identity.ancestors,
            pid=identity.pid,
            sha256=identity.sha256,
            policy=cell.decision.rule,
            reason=intent.because(refusal.reason),
            condition=refusal.condition,
            proposable=refusal.fixable,
        )
