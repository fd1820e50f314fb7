"""The moves a chunk can make, each whole: status, policy revision, stored before and after, history, audit line.

Checks nothing: `inbox` and `submission` decide whether a move is due. Everything here runs inside `Store.run`, and
everything that others must hear is published after the commit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from pyopenshell.audit.events import ConfigEvent, Severity
from pyopenshell.audit.text import spoken
from pyopenshell.gateway import chunks, evaluation, order
from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.chunks import Chunk
from pyopenshell.gateway.clock import Clock
from pyopenshell.gateway.errors import GatewayError, precondition
from pyopenshell.gateway.evaluation import Candidate, Evaluation, Ground
from pyopenshell.gateway.inverse import InexactError, Step, revert
from pyopenshell.gateway.revisions import Revision, Revisions
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import draft_chunks, sandboxes
from pyopenshell.gateway.trail import Trail
from pyopenshell.policy.model import Policy, Rule
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2

KEPT_EVENTS: Final = 5000
"""History entries per sandbox, unless the operator says otherwise."""
LEASE_ACTOR: Final = "gateway:lease"
"""Recorded as the one who ended an approval whose time was up."""


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """The revision a decision led to (the one in force already when it changed nothing)."""

    version: int
    hash: str


class Ledger:
    """Shared by everything that moves chunks."""

    def __init__(
        self, store: Store, bus: Bus, revisions: Revisions, trail: Trail, clock: Clock, kept_events: int = KEPT_EVENTS
    ) -> None:
        self._kept_events = kept_events
        self.store, self.bus, self.revisions, self.trail, self.clock = store, bus, revisions, trail, clock

    def ground(self, tx: sa.Connection, sandbox_id: str) -> Ground:
        everywhere = self.revisions.global_policy(tx)
        return evaluation.ground(self.revisions.base(tx, sandbox_id), everywhere.policy if everywhere else None)

    def candidate(self, on: Ground, chunk: Chunk) -> Candidate:
        """`chunk` merged into what is in force now."""
        known = "" if chunk.application_error else chunk.candidate_hash
        return evaluation.candidate(on, chunk.mode, chunk.rule_name, chunk.proposed, chunk.rationale, valid_hash=known)

    def evaluated(self, tx: sa.Connection, chunk: Chunk, done: Evaluation) -> Chunk:
        """Store a fresh evaluation and announce it: the review token changes with it."""
        made = done.candidate
        chunk = chunks.update(
            tx,
            chunk,
            rule=made.rule,
            rule_name=made.rule_name,
            validation_result=done.validation_result,
            application_error=made.error,
            review_token=made.token,
            current_hash=made.current_hash,
            candidate_hash=made.candidate_hash,
            review=done.review,
            class_hash=evaluation.class_of(made.rule),
            evidence=made.evidence,
        )
        self.changed(tx, chunk)
        return chunk

    def rebased(self, tx: sa.Connection, chunk: Chunk, made: Candidate) -> None:
        """The policy changed where the proposal has nothing to do with it: what was reviewed stands, nobody is told."""
        chunks.update(tx, chunk, current_hash=made.current_hash, candidate_hash=made.candidate_hash)

    def approve(
        self,
        tx: sa.Connection,
        chunk: Chunk,
        before: Policy,
        after: Policy,
        revision: Revision,
        actor: str,
        auto: tuple[tuple[str, str], ...] = (),
        lease_ms: int | None = None,
    ) -> Chunk:
        """Pending or rejected -> approved. `revision` already holds the result; `auto` marks a machine's decision.

        `lease_ms` limits the approval from now on; the caller sees to it that it ends.
        """
        now = self.clock()
        before_hash = chunks.keep_body(tx, chunk.sandbox_id, before)
        after_hash = chunks.keep_body(tx, chunk.sandbox_id, after)
        chunk = chunks.update(
            tx,
            chunk,
            status="approved",
            decided_ms=now,
            decided_by=actor,
            rejection_reason="",
            rejected_as="",
            superseded_by="",
            application_error="",
            before_hash=before_hash,
            after_hash=after_hash,
            policy_version=revision.version,
            policy_hash=revision.hash,
            applied_order=chunks.next_order(tx, chunk.sandbox_id),
            lease_ms=lease_ms,
            expires_ms=now + lease_ms if lease_ms is not None else None,
        )
        what = describe_rule(chunk.rule_name, chunk.proposed)
        limit = f" for {spoken(lease_ms / 1000)}" if lease_ms is not None else ""
        self._history(tx, chunk, "approved", actor, f"Rule '{chunk.rule_name}' approved by {actor}{limit}")
        if auto:
            text = f"auto-approved: no new prover findings (source={chunk.mode}) — chunk {chunk.id}: add-rule {what}"
        else:
            text = f"gateway approved draft chunk {chunk.id}: add-rule {what}"
        fields = auto if lease_ms is None else (*auto, ("lease", spoken(lease_ms / 1000)))
        self.audit(tx, chunk.sandbox_id, "APPROVED", text, revision, fields)
        self.changed(tx, chunk)
        return chunk

    def reject(
        self, tx: sa.Connection, chunk: Chunk, reason: str, actor: str, *, kind: str, superseded_by: str = ""
    ) -> Chunk:
        """Pending -> rejected. `kind` is person, superseded or covered; `reason` is stored as it is."""
        chunk = chunks.update(
            tx,
            chunk,
            status="rejected",
            decided_ms=self.clock(),
            decided_by=actor,
            rejection_reason=reason,
            rejected_as=kind,
            superseded_by=superseded_by,
            refusals=chunks.refusals(tx, chunk) + (kind == "person"),
        )
        text = f"Rule '{chunk.rule_name}' rejected by {actor}"
        self._history(tx, chunk, "rejected", actor, text, reason)
        self.audit(
            tx, chunk.sandbox_id, "REJECTED", f"gateway rejected draft chunk {chunk.id}: rule '{chunk.rule_name}'"
        )
        self.changed(tx, chunk)
        return chunk

    def renew(self, tx: sa.Connection, chunk: Chunk, lease_ms: int, actor: str) -> Chunk:
        """A limited approval gets a new limit from now on."""
        chunk = chunks.update(tx, chunk, lease_ms=lease_ms, expires_ms=self.clock() + lease_ms)
        limit = spoken(lease_ms / 1000)
        self._history(tx, chunk, "renewed", actor, f"Rule '{chunk.rule_name}' renewed by {actor} for {limit}")
        text = f"gateway renewed draft chunk {chunk.id}: rule '{chunk.rule_name}'"
        self.audit(tx, chunk.sandbox_id, "RENEWED", text, fields=(("lease", limit),))
        self.changed(tx, chunk)
        return chunk

    def unlimited(self, tx: sa.Connection, chunk: Chunk, text: str) -> Chunk:
        """The limit of an approval means nothing any more, because the rule was changed by others; say so loudly."""
        chunk = chunks.update(tx, chunk, lease_ms=None, expires_ms=None)
        self._history(tx, chunk, "unlimited", LEASE_ACTOR, text)
        self.audit(tx, chunk.sandbox_id, "LEASE_VOID", f"draft chunk {chunk.id}: {text}", severity=Severity.MEDIUM)
        self.changed(tx, chunk)
        return chunk

    def withdraw(
        self, tx: sa.Connection, chunk: Chunk, actor: str, *, status: str, reason: str = "", expired: bool = False
    ) -> Applied:
        """Approved -> pending (undo) or rejected: the policy becomes what it would be without this approval.

        `expired` says that its time was up. Raises GatewayError FAILED_PRECONDITION, having written nothing, when
        another change stands in between.
        """
        sandbox_id = chunk.sandbox_id
        now = self.revisions.base(tx, sandbox_id)
        later = approvals(tx, sandbox_id, after=chunk.applied_order)
        steps = [step(tx, other) for other in later]
        try:
            reverted = revert(now, step(tx, chunk), steps)
        except InexactError as error:
            rules = ", ".join(f"'{key}'" for key in error.keys)
            raise precondition(
                f"cannot take back chunk '{chunk.id}' exactly: another policy update changed rule {rules} since; "
                "change the rule with a policy update instead",
                "UNDO_NOT_EXACT",
            ) from None
        for other, old, new in zip(later, steps, reverted.later, strict=True):
            if new is not old:
                chunks.update(
                    tx,
                    other,
                    before_hash=chunks.keep_body(tx, sandbox_id, new.before),
                    after_hash=chunks.keep_body(tx, sandbox_id, new.after),
                )
        origin = "lease" if expired else "undo" if status == "pending" else "reject"
        revision = self.revisions.append(tx, sandbox_id, reverted.policy, origin=origin, author=actor)
        verb = "expired" if expired else "undone" if status == "pending" else "rejected"
        given = chunk.lease_ms
        before_hash, after_hash = chunk.after_hash, chunk.before_hash
        chunk = chunks.update(
            tx,
            chunk,
            status=status,
            decided_ms=None if status == "pending" else self.clock(),
            decided_by="" if status == "pending" else actor,
            rejection_reason=reason,
            rejected_as="expired" if expired else "" if status == "pending" else "person",
            refusals=chunks.refusals(tx, chunk) + (status == "rejected" and not expired),
            before_hash="",
            after_hash="",
            policy_version=0,
            policy_hash="",
            applied_order=0,
            lease_ms=None,
            expires_ms=None,
        )
        chunks.prune_bodies(tx, sandbox_id)
        chunks.record(
            tx,
            chunk,
            self.clock(),
            verb,
            actor,
            f"Rule '{chunk.rule_name}' expired: the approval was for {spoken((given or 0) / 1000)}"
            if expired
            else f"Rule '{chunk.rule_name}' {verb} by {actor}: approval taken back",
            reason=reason,
            before_hash=before_hash,
            after_hash=after_hash,
            policy_version=revision.version,
        )
        what = describe_rule(chunk.rule_name, chunk.proposed)
        if expired:
            text = f"gateway ended draft chunk {chunk.id}: remove-rule {what}"
            self.audit(tx, sandbox_id, "EXPIRED", text, revision, (("lease", spoken((given or 0) / 1000)),))
        else:
            text = f"gateway removed draft chunk {chunk.id}: remove-rule {what}"
            self.audit(tx, sandbox_id, "REMOVED", text, revision)
        self.changed(tx, chunk)
        return Applied(revision.version, revision.hash)

    def proposed(self, tx: sa.Connection, chunk: Chunk) -> None:
        """History and announcement of a new (or newly pending) chunk."""
        actor = f"sandbox:{chunk.sandbox_id}"
        text = f"Rule '{chunk.rule_name}' proposed (confidence: {chunk.confidence * 100:.0f}%)"
        self._history(tx, chunk, "proposed", actor, text)
        self.changed(tx, chunk)

    def cleared(self, tx: sa.Connection, chunk: Chunk, actor: str) -> None:
        """Pending -> gone. Whoever waits for it is told that it was rejected."""
        self._history(tx, chunk, "cleared", actor, f"Rule '{chunk.rule_name}' cleared by {actor}")
        tx.execute(draft_chunks.delete().where(draft_chunks.c.seq == chunk.seq))
        gone = dataclasses.replace(chunk, status="rejected", rejection_reason="cleared", decided_by=actor)
        self._publish(tx, gone, inbox_status="cleared")

    def changed(self, tx: sa.Connection, chunk: Chunk) -> None:
        """Tell the waiting agent, every inbox and the sandbox's watchers, after the commit."""
        self._publish(tx, chunk, inbox_status=chunk.status)

    def audit(
        self,
        tx: sa.Connection,
        sandbox_id: str,
        state: str,
        text: str,
        revision: Revision | None = None,
        fields: tuple[tuple[str, str], ...] = (),
        severity: Severity = Severity.INFO,
    ) -> None:
        if revision is not None:
            fields += (("policy_version", f"v{revision.version}"), ("policy_hash", revision.hash))
        self.trail.record(tx, sandbox_id, ConfigEvent(state, text, severity, fields=fields))

    def _history(self, tx: sa.Connection, chunk: Chunk, kind: str, actor: str, text: str, reason: str = "") -> None:
        chunks.record(
            tx,
            chunk,
            self.clock(),
            kind,
            actor,
            text,
            reason=reason,
            before_hash=chunk.before_hash,
            after_hash=chunk.after_hash,
            policy_version=chunk.policy_version,
        )
        chunks.prune_events(tx, chunk.sandbox_id, self._kept_events)

    def _publish(self, tx: sa.Connection, chunk: Chunk, *, inbox_status: str) -> None:
        state = chunks.to_state(chunk)
        event = self.inbox_event(tx, chunk.sandbox_id)
        event.chunk.CopyFrom(chunks.to_proto(chunk))
        event.chunk.status = inbox_status
        order.append(tx, event, order.CHUNK, chunk.id)
        pending = chunks.count_pending(tx, chunk.sandbox_id)
        update = openshell_pb2.DraftPolicyUpdate(
            draft_version=chunks.draft_version(tx, chunk.sandbox_id),
            new_chunks=int(inbox_status == "pending"),
            total_pending=pending,
            summary=state.summary,
        )

        self.store.announce(f"proposals:{chunk.sandbox_id}", state)
        self.store.announce("inbox", event)
        self.store.announce(f"sandbox:{chunk.sandbox_id}", update)

    def inbox_event(self, tx: sa.Connection, sandbox_id: str) -> pyopenshell_pb2.InboxEvent:
        """An event that names its sandbox and has no payload yet."""
        row = tx.execute(
            sa.select(sandboxes.c.name, sandboxes.c.workspace).where(sandboxes.c.id == sandbox_id)
        ).one_or_none()
        if row is None:
            raise GatewayError("NOT_FOUND", "sandbox not found")
        return pyopenshell_pb2.InboxEvent(sandbox_id=sandbox_id, sandbox_name=row.name, workspace=row.workspace)


def approvals(tx: sa.Connection, sandbox_id: str, *, after: int = 0) -> Sequence[Chunk]:
    """Approvals that stand, in the order in which they were given; `after` is an `applied_order`."""
    return sorted(
        chunks.select(
            tx,
            draft_chunks.c.sandbox_id == sandbox_id,
            draft_chunks.c.status == "approved",
            draft_chunks.c.applied_order > after,
        ),
        key=lambda chunk: chunk.applied_order,
    )


def step(tx: sa.Connection, chunk: Chunk) -> Step:
    """What an approval changed."""
    return Step(
        chunk.rule_name,
        chunk.proposed,
        chunks.body(tx, chunk.sandbox_id, chunk.before_hash),
        chunks.body(tx, chunk.sandbox_id, chunk.after_hash),
    )


def describe_rule(rule_name: str, rule: Rule) -> str:
    """`NAME endpoints=[host:port, …] binaries=[…]`; the audit formatter escapes it."""
    endpoints = ", ".join(f"{endpoint.host}:{port}" for endpoint in rule.endpoints for port in endpoint.ports)
    return f"{rule_name} endpoints=[{endpoints}] binaries=[{', '.join(rule.binaries)}]"
