"""Every decision on proposals: who may take which step from which state (contract/gateway.md 4, design.md 4).

Each call is one transaction: checks, policy revision, stored before/after, history and audit line commit together
or not at all. Knows nothing of gRPC; `actor` is the caller's subject and is recorded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import sqlalchemy as sa

from pyopenshell.gateway import chunks, evaluation, leases, observed, order, submission
from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.chunks import Chunk, Event
from pyopenshell.gateway.clock import Clock, system_clock, to_timestamp
from pyopenshell.gateway.errors import GatewayError, invalid, precondition
from pyopenshell.gateway.evaluation import MECHANISTIC, Candidate, Ground
from pyopenshell.gateway.ledger import KEPT_EVENTS, Applied, Ledger
from pyopenshell.gateway.revisions import Revisions, encode, hash_of
from pyopenshell.gateway.settings import Settings
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import draft_chunks, sandboxes
from pyopenshell.gateway.submission import Limits, Refused, Submissions
from pyopenshell.gateway.trail import Trail
from pyopenshell.policy.model import Rule
from pyopenshell.policy.problems import PolicyError
from pyopenshell.proof.notes import security_notes
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2, sandbox_pb2

GLOBAL_ACTIVE: Final = (
    "cannot approve rules while a global policy is active; delete the global policy to manage per-sandbox rules"
)
NOT_AS_REVIEWED: Final = "review token does not match the fetched proposal; refetch and review again"
GLOBAL_MANAGED: Final = "policy is managed globally; delete global policy before sandbox policy update"
REFRESHED_PER_DECISION: Final = 32
"""Pending chunks judged anew after each change of a policy (contract/gateway.md 4.3)."""
REFRESH_MILLISECONDS: Final = 500
"""After this much of it the rest stays stale: judging costs what the agent made it cost, and a person waits."""
MAX_REASON: Final = 64 * 1024
_ANSWER_BUDGET: Final = 2 * 1024 * 1024
_BODIES_BUDGET: Final = 1024 * 1024
"""Bytes of chunks and of whole policies in one answer: clients take 4 MiB unless told otherwise."""
EDITED: Final = "edited"
"""Mode of an observation that a person rewrote: from then on it is taken as written."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Bulk:
    """Outcome of an approve-all."""

    applied: Applied
    approved: int
    skipped: int


class Inbox:
    """Proposals of all sandboxes, over one store."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        revisions: Revisions,
        settings: Settings,
        clock: Clock = system_clock,
        limits: Limits | None = None,
        kept_events: int = KEPT_EVENTS,
    ) -> None:
        self._store, self._bus, self._revisions, self._clock = store, bus, revisions, clock
        self._ledger = Ledger(store, bus, revisions, Trail(store, bus, clock), clock, kept_events)
        self._submissions = Submissions(self._ledger, settings, limits or Limits())
        self.leases = leases.Leases(store, bus, revisions, self._ledger, clock)
        revisions.failed = self._load_failed

    # ---- the sandbox's side ---------------------------------------------------------------------------------------

    async def submit(
        self, sandbox_id: str, request: openshell_pb2.SubmitPolicyAnalysisRequest
    ) -> openshell_pb2.SubmitPolicyAnalysisResponse:
        """Take what a supervisor reports. One transaction per proposal; refused ones are counted with their reason.

        Raises GatewayError RESOURCE_EXHAUSTED for a call beyond the sandbox's quota, NOT_FOUND without a sandbox.
        """
        response = openshell_pb2.SubmitPolicyAnalysisResponse()
        if request.summaries:
            await self._store.run(lambda tx: self._observe(tx, sandbox_id, request.summaries))
        if not request.proposed_chunks:
            return response
        self._submissions.admit(sandbox_id, len(request.proposed_chunks))
        await self.refresh(sandbox_id)
        version = await self._store.run(lambda tx: chunks.next_draft_version(tx, sandbox_id))
        mode = request.analysis_mode
        for message in request.proposed_chunks:
            try:
                response.accepted_chunk_ids.append(
                    await self._store.run(
                        lambda tx, message=message: self._submissions.take(  # type: ignore[misc]
                            tx, sandbox_id, version, mode, message
                        )
                    )
                )
            except Refused as refused:
                response.rejection_reasons.append(str(refused))
        response.accepted_chunks = len(response.accepted_chunk_ids)
        response.rejected_chunks = len(response.rejection_reasons)
        return response

    async def state(self, sandbox_id: str, chunk_id: str) -> pyopenshell_pb2.ProposalState:
        """Where one proposal of this sandbox stands. Raises GatewayError NOT_FOUND."""
        return await self._store.run(lambda tx: chunks.to_state(chunks.get(tx, sandbox_id, chunk_id)))

    async def states(self, sandbox_id: str, limit: int) -> Sequence[pyopenshell_pb2.ProposalState]:
        """The newest proposals, oldest first: what a waiter needs that may have missed something."""

        def read(tx: sa.Connection) -> Sequence[pyopenshell_pb2.ProposalState]:
            found = chunks.select(tx, draft_chunks.c.sandbox_id == sandbox_id, limit=limit)
            return [chunks.to_state(chunk) for chunk in reversed(found)]

        return await self._store.run(read)

    # ---- reads ----------------------------------------------------------------------------------------------------

    async def list(self, sandbox_id: str, status: str = "", *, bodies: bool) -> openshell_pb2.GetDraftPolicyResponse:
        """Newest first. `bodies` adds the effective policies before and after to what is pending, while they fit.

        Pending chunks are always there; where decided ones do not fit, `rolling_summary` says how many are missing.
        """

        def read(tx: sa.Connection) -> openshell_pb2.GetDraftPolicyResponse:
            conditions = [draft_chunks.c.sandbox_id == sandbox_id]
            if status:
                conditions.append(draft_chunks.c.status == status)
            found = chunks.select(tx, *conditions)
            newest = tx.scalar(
                sa.select(sa.func.max(draft_chunks.c.created_ms)).where(draft_chunks.c.sandbox_id == sandbox_id)
            )
            found, missing = _fitting(found)
            response = openshell_pb2.GetDraftPolicyResponse(
                rolling_summary=f"{missing} older decided chunks are not listed" if missing else "",
                chunks=[chunks.to_proto(chunk) for chunk in found],
                draft_version=chunks.draft_version(tx, sandbox_id),
                last_analyzed_time=to_timestamp(newest),
            )
            if bodies:
                self._add_bodies(tx, sandbox_id, found, response)
            return response

        return await self._store.run(read)

    async def history(
        self, sandbox_id: str, chunk_id: str = "", *, after: int = 0, limit: int | None = None
    ) -> Sequence[Event]:
        """Everything that happened to proposals of this sandbox, or to one, in order; `after` is an event's `seq`."""
        return await self._store.run(lambda tx: chunks.history(tx, sandbox_id, chunk_id, after, limit))

    async def reviews(self, sandbox_id: str, ids: Sequence[str]) -> Sequence[pyopenshell_pb2.ChunkReview]:
        """What a reviewer must see of the named chunks (all without names), newest first.

        Without names only as many as fit into one answer.
        """

        def read(tx: sa.Connection) -> Sequence[pyopenshell_pb2.ChunkReview]:
            conditions = [draft_chunks.c.sandbox_id == sandbox_id]
            if ids:
                conditions.append(draft_chunks.c.id.in_(ids))
            return [chunks.to_review(chunk) for chunk in _within(chunks.select(tx, *conditions), not ids)]

        return await self._store.run(read)

    async def observed(self, sandbox_id: str) -> Sequence[pyopenshell_pb2.ObservedDenial]:
        """Requests refused by inspected endpoints, most recent first."""
        return await self._store.run(lambda tx: observed.read(tx, sandbox_id))

    async def pending(self, workspace: str | None, sandbox_id: str = "") -> Sequence[pyopenshell_pb2.InboxEvent]:
        """One event per pending chunk of every sandbox the caller named (None: every workspace), oldest first."""

        def read(tx: sa.Connection) -> Sequence[pyopenshell_pb2.InboxEvent]:
            conditions = [draft_chunks.c.status == "pending"]
            if workspace is not None:
                of = sa.select(sandboxes.c.id).where(sandboxes.c.workspace == workspace)
                conditions.append(draft_chunks.c.sandbox_id.in_(of))
            if sandbox_id:
                conditions.append(draft_chunks.c.sandbox_id == sandbox_id)
            events = []
            for chunk in reversed(chunks.select(tx, *conditions)):
                event = self._ledger.inbox_event(tx, chunk.sandbox_id)
                event.chunk.CopyFrom(chunks.to_proto(chunk))
                events.append(event)
            return events

        return await self._store.run(read)

    # ---- decisions ------------------------------------------------------------------------------------------------

    async def approve(
        self, sandbox_id: str, chunk_id: str, review_token: str, actor: str, *, lease_ms: int | None = None
    ) -> Applied:
        """Merge one proposal exactly as it was reviewed, for ever or for `lease_ms`. A limited approval that stands
        can be given another limit. Raises GatewayError NOT_FOUND or FAILED_PRECONDITION.

        A stale evaluation is refreshed and stored although the call fails, so that the next look shows the truth.
        """

        def decide(tx: sa.Connection) -> Applied | GatewayError:
            chunk = chunks.get(tx, sandbox_id, chunk_id)
            if lease_ms is not None and chunk.status == "approved" and chunk.expires_ms is not None:
                return self._renew(tx, chunk, review_token, lease_ms, actor)
            _expect(chunk, "pending", "rejected")
            on = self._ledger.ground(tx, sandbox_id)
            if on.everywhere is not None:
                raise precondition(GLOBAL_ACTIVE, "GLOBAL_POLICY_ACTIVE")
            if review_token != chunk.review_token:
                raise precondition(NOT_AS_REVIEWED, "REVIEW_TOKEN_MISMATCH")
            made = self._ledger.candidate(on, chunk)
            if made.token != chunk.review_token or made.merged is None:
                # Stored, then refused: the reviewer must get to see what has become of the proposal.
                if chunk.status == "pending" and on.covers(chunk.proposed):
                    self._submissions.close_covered(tx, chunk)
                    return _stale(made)
                done = evaluation.evaluate(on, made)
                self._ledger.evaluated(tx, chunk, done)
                return _stale(done.candidate)
            revision = self._revisions.append(tx, sandbox_id, made.merged, origin="approve", author=actor)
            self._ledger.approve(tx, chunk, on.base, made.merged, revision, actor, lease_ms=lease_ms)
            if lease_ms is not None:
                self.leases.given()
            return Applied(revision.version, revision.hash)

        applied = await self._decide(decide)
        await self.refresh(sandbox_id)
        return applied

    async def approve_all(
        self, sandbox_id: str, approvals: Sequence[tuple[str, str]], actor: str, *, include_flagged: bool
    ) -> Bulk:
        """Approve the listed (id, review token) pairs as one revision; without a list every chunk counts as untokened.

        Skips what carries security notes (unless `include_flagged`), has another token, or does not fit on top of the
        ones before it. Raises GatewayError FAILED_PRECONDITION when there is nothing to decide.
        """

        def decide(tx: sa.Connection) -> Bulk:
            on = self._ledger.ground(tx, sandbox_id)
            if on.everywhere is not None:
                raise precondition(GLOBAL_ACTIVE, "GLOBAL_POLICY_ACTIVE")
            wanted = self._listed(tx, sandbox_id, approvals)
            staged, accepted = on, []
            for chunk, token in wanted:
                made = self._fits(on, staged, chunk, token, include_flagged=include_flagged)
                if made is not None and made.merged is not None and made.effective is not None:
                    accepted.append((chunk, staged.base, made.merged))
                    staged = dataclasses.replace(staged, base=made.merged, current=made.effective)
            latest = self._revisions.latest(tx, sandbox_id)
            if not accepted:
                return Bulk(Applied(latest.version, latest.hash) if latest else Applied(0, ""), 0, len(wanted))
            revision = self._revisions.append(tx, sandbox_id, staged.base, origin="approve", author=actor)
            for chunk, before, after in accepted:
                self._ledger.approve(tx, chunk, before, after, revision, actor)
            skipped = len(wanted) - len(accepted)
            text = f"gateway bulk-approved {len(accepted)} draft chunk(s) and skipped {skipped}"
            self._ledger.audit(tx, sandbox_id, "MERGED", text, revision)
            return Bulk(Applied(revision.version, revision.hash), len(accepted), skipped)

        bulk = await self._decide(decide)
        await self.refresh(sandbox_id)
        return bulk

    async def reject(self, sandbox_id: str, chunk_id: str, reason: str, actor: str) -> None:
        """Refuse a pending proposal or take an approved one back. `reason` reaches the agent byte for byte."""
        if len(reason) > MAX_REASON:
            raise invalid(f"reason is longer than {MAX_REASON} characters", "reason")

        def decide(tx: sa.Connection) -> bool:
            chunk = chunks.get(tx, sandbox_id, chunk_id)
            _expect(chunk, "pending", "approved")
            if chunk.status == "pending":
                self._ledger.reject(tx, chunk, reason, actor, kind="person")
                return False
            self._require_own_policy(tx)
            self._ledger.withdraw(tx, chunk, actor, status="rejected", reason=reason)
            return True

        if await self._decide(decide):
            await self.refresh(sandbox_id)

    async def undo(self, sandbox_id: str, chunk_id: str, actor: str) -> Applied:
        """The exact inverse of the approval; the proposal is pending again."""

        def decide(tx: sa.Connection) -> Applied:
            chunk = chunks.get(tx, sandbox_id, chunk_id)
            _expect(chunk, "approved")
            self._require_own_policy(tx)
            applied = self._ledger.withdraw(tx, chunk, actor, status="pending")
            chunk = chunks.get(tx, sandbox_id, chunk_id)
            on = self._ledger.ground(tx, sandbox_id)
            self._ledger.evaluated(tx, chunk, evaluation.evaluate(on, self._ledger.candidate(on, chunk)))
            return applied

        applied = await self._decide(decide)
        await self.refresh(sandbox_id, keep=chunk_id)
        return applied

    async def edit(
        self, sandbox_id: str, chunk_id: str, proposed_rule: sandbox_pb2.NetworkPolicyRule | None, actor: str
    ) -> None:
        """Replace the rule of a pending proposal by the reviewer's own; it gets a new evaluation and review token."""
        if proposed_rule is None:
            raise invalid("proposed_rule is required", "proposed_rule")

        def decide(tx: sa.Connection) -> None:
            chunk = chunks.get(tx, sandbox_id, chunk_id)
            _expect(chunk, "pending")
            rule = _edited_rule(chunk, proposed_rule)
            mode = EDITED if chunk.mode == MECHANISTIC else chunk.mode
            on = self._ledger.ground(tx, sandbox_id)
            done = evaluation.evaluate(on, evaluation.candidate(on, mode, chunk.rule_name, rule, chunk.rationale))
            if done.candidate.error:
                raise precondition(f"proposal is not applicable: {done.candidate.error}", "NOT_APPLICABLE")
            chunk = chunks.update(tx, chunk, mode=mode)
            chunk = self._ledger.evaluated(tx, chunk, done)
            text = f"Rule '{chunk.rule_name}' edited by {actor}"
            chunks.record(tx, chunk, self._clock(), "edited", actor, text)

        await self._decide(decide)

    async def clear(self, sandbox_id: str, actor: str) -> int:
        """Drop every pending proposal. Returns how many there were."""

        def decide(tx: sa.Connection) -> int:
            found = chunks.select(tx, draft_chunks.c.sandbox_id == sandbox_id, draft_chunks.c.status == "pending")
            for chunk in found:
                self._ledger.cleared(tx, chunk, actor)
            return len(found)

        return await self._decide(decide)

    # ---- after the policy changed ---------------------------------------------------------------------------------

    async def refresh(self, sandbox_id: str, *, keep: str = "") -> None:
        """Judge pending proposals anew after a policy change, newest first, each in a transaction of its own.

        What is allowed by now is closed ("covered by active policy revision N"), except the chunk `keep`. Where nothing
        changed that a proposal has to do with, its evaluation and token stand. What is not reached stays as it is;
        approving it is refused if it is stale, until it was judged anew and looked at again.
        """
        until = self._clock() + REFRESH_MILLISECONDS
        await self._store.run(lambda tx: self.leases.settle(tx, sandbox_id))

        def one(tx: sa.Connection) -> bool:
            on = self._ledger.ground(tx, sandbox_id)
            found = submission.stale(tx, sandbox_id, hash_of(on.current))
            for chunk in found:
                made = self._ledger.candidate(on, chunk)
                if chunk.id != keep and on.covers(chunk.proposed):
                    self._submissions.close_covered(tx, chunk)
                elif made.token == chunk.review_token and not made.error:
                    self._ledger.rebased(tx, chunk, made)
                else:
                    self._ledger.evaluated(tx, chunk, evaluation.evaluate(on, made))
            return bool(found)

        for _ in range(REFRESHED_PER_DECISION):
            if not await self._store.run(one) or self._clock() > until:
                return

    def _load_failed(self, tx: sa.Connection, sandbox_id: str, version: int, error: str) -> None:
        """The sandbox could not load a revision: say so on the approvals it came from (inside a transaction)."""
        approved = chunks.select(
            tx,
            draft_chunks.c.sandbox_id == sandbox_id,
            draft_chunks.c.status == "approved",
            draft_chunks.c.policy_version == version,
        )
        for chunk in approved:
            text = f"policy version {version} failed to load: {error[:1000]}"
            self._ledger.changed(tx, chunks.update(tx, chunk, application_error=text))

    # ---- steps ----------------------------------------------------------------------------------------------------

    async def _decide(self, decide: Callable[[sa.Connection], T | GatewayError]) -> T:
        """Run one decision. A GatewayError that is returned, not raised, commits what was written before it."""
        outcome = await self._store.run(decide)
        if isinstance(outcome, GatewayError):
            raise outcome
        return outcome

    def _observe(self, tx: sa.Connection, sandbox_id: str, summaries: Sequence[openshell_pb2.DenialSummary]) -> None:
        event = self._ledger.inbox_event(tx, sandbox_id)
        for denial in observed.record(tx, sandbox_id, summaries, self._clock):
            told = pyopenshell_pb2.InboxEvent()
            told.CopyFrom(event)
            told.observed.CopyFrom(denial)
            order.append(tx, told, order.OBSERVED, order.denial_subject(denial))
            self._store.announce("inbox", told)

    def _renew(
        self, tx: sa.Connection, chunk: Chunk, review_token: str, lease_ms: int, actor: str
    ) -> Applied | GatewayError:
        if review_token != chunk.review_token:
            raise precondition(NOT_AS_REVIEWED, "REVIEW_TOKEN_MISMATCH")
        self._ledger.renew(tx, chunk, lease_ms, actor)
        self.leases.given()
        self._store.announce(f"config:{chunk.sandbox_id}")
        latest = self._revisions.latest(tx, chunk.sandbox_id)
        assert latest is not None  # an approval made one
        return Applied(latest.version, latest.hash)

    def _require_own_policy(self, tx: sa.Connection) -> None:
        if self._revisions.global_policy(tx) is not None:
            raise precondition(GLOBAL_MANAGED, "GLOBAL_POLICY_ACTIVE")

    def _listed(
        self, tx: sa.Connection, sandbox_id: str, approvals: Sequence[tuple[str, str]]
    ) -> Sequence[tuple[Chunk, str]]:
        """What a bulk approval is about, in the order it was proposed. Never more than the caller listed."""
        if not approvals:
            found = chunks.select(tx, draft_chunks.c.sandbox_id == sandbox_id, draft_chunks.c.status == "pending")
            if not found:
                raise precondition("no pending chunks to approve")
            return [(chunk, "") for chunk in reversed(found)]
        listed = []
        for chunk_id, token in dict(approvals).items():
            chunk = chunks.get(tx, sandbox_id, chunk_id)
            if chunk.status != "pending":
                raise precondition(f"chunk '{chunk.id}' is not pending; refetch before bulk approval")
            listed.append((chunk, token))
        return sorted(listed, key=lambda pair: pair[0].seq)

    def _fits(self, on: Ground, staged: Ground, chunk: Chunk, token: str, *, include_flagged: bool) -> Candidate | None:
        """The candidate on top of what is staged, or None to skip it."""
        if token != chunk.review_token or (security_notes(chunk.proposed) and not include_flagged):
            return None
        reviewed = self._ledger.candidate(on, chunk)
        if reviewed.merged is None or reviewed.token != chunk.review_token:
            return None
        if reviewed.rule != chunk.proposed:
            return None
        return self._ledger.candidate(staged, chunk)

    def _add_bodies(
        self,
        tx: sa.Connection,
        sandbox_id: str,
        found: Sequence[Chunk],
        response: openshell_pb2.GetDraftPolicyResponse,
    ) -> None:
        if not any(chunk.status == "pending" for chunk in found):
            return
        on = self._ledger.ground(tx, sandbox_id)
        current = encode(on.current)
        left, looked = _BODIES_BUDGET, 0
        for chunk, message in zip(found, response.chunks, strict=True):
            if chunk.status != "pending" or looked >= REFRESHED_PER_DECISION:
                continue
            looked += 1
            made = self._ledger.candidate(on, chunk)
            if made.effective is None or made.token != chunk.review_token:
                continue
            after = encode(made.effective)
            if len(current) + len(after) > left:
                return
            left -= len(current) + len(after)
            message.current_effective_policy.MergeFromString(current)
            message.candidate_effective_policy.MergeFromString(after)


def _fitting(found: Sequence[Chunk]) -> tuple[Sequence[Chunk], int]:
    """All that is pending, then what was decided as far as it fits, in the order given; and how many do not."""
    left = _ANSWER_BUDGET - sum(_size(chunk) for chunk in found if chunk.status == "pending")
    kept = []
    for chunk in found:
        if chunk.status != "pending":
            left -= _size(chunk)
        if chunk.status == "pending" or left >= 0:
            kept.append(chunk)
    return kept, len(found) - len(kept)


def _size(chunk: Chunk) -> int:
    texts = (chunk.rationale, chunk.validation_result, chunk.application_error, chunk.rejection_reason)
    return 1024 + len(chunk.rule) + sum(4 * len(text) if not text.isascii() else len(text) for text in texts)


def _within(found: Sequence[Chunk], bounded: bool) -> Sequence[Chunk]:
    kept, left = [], _ANSWER_BUDGET
    for chunk in found:
        left -= len(chunk.review) + 512
        if bounded and left < 0:
            break
        kept.append(chunk)
    return kept


def _expect(chunk: Chunk, *allowed: str) -> None:
    if chunk.status not in allowed:
        expected = " or ".join(f"'{status}'" for status in allowed)
        raise precondition(f"chunk status is '{chunk.status}', expected {expected}", "CHUNK_STATUS")


def _stale(made: Candidate) -> GatewayError:
    if made.error:
        return precondition(f"proposal is not applicable: {made.error}", "NOT_APPLICABLE")
    return precondition(
        "proposal inputs changed; evaluation refreshed, refetch and review again", "PROPOSAL_INPUTS_CHANGED"
    )


def _edited_rule(chunk: Chunk, message: sandbox_pb2.NetworkPolicyRule) -> Rule:
    try:
        rule = evaluation.as_proposed(policy_map.rule_from_proto(chunk.rule_name, message))
    except PolicyError as error:
        raise invalid(f"proposed_rule is invalid: {error}", "proposed_rule") from None
    if not rule.endpoints or any(not endpoint.ports for endpoint in rule.endpoints):
        raise invalid("proposed_rule needs at least one endpoint, and every endpoint a port", "proposed_rule")
    if len(chunks.targets(rule)) > chunks.MAX_TARGETS:
        raise invalid(f"proposed_rule has more than {chunks.MAX_TARGETS} combinations", "proposed_rule")
    return rule
