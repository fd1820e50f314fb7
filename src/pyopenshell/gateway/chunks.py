"""Draft chunks as rows and as messages. Decides nothing: `inbox` does, inside one transaction each time.

The only module that reads or writes the tables of proposals and their history.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.audit.text import field
from pyopenshell.gateway.clock import to_timestamp
from pyopenshell.gateway.errors import not_found
from pyopenshell.gateway.principals import Actor
from pyopenshell.gateway.revisions import decode, encode, hash_of
from pyopenshell.gateway.store.schema import chunk_events, chunk_targets, digest, draft_chunks, policy_bodies, sandboxes
from pyopenshell.policy.model import Policy, Rule
from pyopenshell.proof.notes import security_notes
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2, sandbox_pb2
from pyopenshell.wire.wellknown import Duration

MAX_TARGETS: Final = 1024
"""(host, port, binary) combinations remembered per chunk; a proposal with more is refused."""

Target = tuple[str, int, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """One row of `draft_chunks`; the columns are described in `store.schema`."""

    seq: int
    id: str
    sandbox_id: str
    draft_version: int
    mode: str
    status: str
    rule_name: str
    rule: bytes
    rationale: str
    confidence: float
    stage: str
    host: str
    port: int
    binary: str
    dedup_key: str | None
    hit_count: int
    first_seen_ms: int
    last_seen_ms: int
    created_ms: int
    decided_ms: int | None
    decided_by: str
    rejection_reason: str
    rejected_as: str
    superseded_by: str
    validation_result: str
    application_error: str
    review_token: str
    current_hash: str
    candidate_hash: str
    review: bytes
    before_hash: str
    after_hash: str
    policy_version: int
    policy_hash: str
    applied_order: int
    lease_ms: int | None
    expires_ms: int | None
    class_hash: str
    evidence: str
    refusals: int

    @property
    def proposed(self) -> Rule:
        return policy_map.rule_from_proto(self.rule_name, sandbox_pb2.NetworkPolicyRule.FromString(self.rule))


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a chunk, and who did it. Hashes are of base policies, "" where none changed."""

    seq: int
    sandbox_id: str
    chunk_id: str
    at_ms: int
    type: str
    actor: str
    description: str
    reason: str
    before_hash: str
    after_hash: str
    policy_version: int
    via: str

    def to_proto(self) -> openshell_pb2.DraftHistoryEntry:
        return openshell_pb2.DraftHistoryEntry(
            event_time=to_timestamp(self.at_ms),
            event_type=self.type,
            description=self.description,
            chunk_id=self.chunk_id,
        )

    def to_record(self) -> pyopenshell_pb2.DecisionRecord:
        return pyopenshell_pb2.DecisionRecord(
            event_time=to_timestamp(self.at_ms),
            event_type=self.type,
            chunk_id=self.chunk_id,
            actor=self.actor,
            via=self.via,
            description=self.description,
            reason=self.reason,
            before_policy_hash=self.before_hash,
            after_policy_hash=self.after_hash,
            policy_version=self.policy_version,
        )


def rule_bytes(rule: Rule) -> bytes:
    return policy_map.rule_to_proto(rule).SerializeToString(deterministic=True)


def targets(rule: Rule) -> list[Target]:
    """Every (host in lower case, port, binary) the rule speaks for."""
    binaries = rule.binaries or ("",)
    return [
        (endpoint.host.lower(), port, binary)
        for endpoint in rule.endpoints
        for port in endpoint.ports
        for binary in binaries
    ]


# ---- rows ------------------------------------------------------------------------------------------------------------


def get(tx: sa.Connection, sandbox_id: str, chunk_id: str) -> Chunk:
    """Raises GatewayError NOT_FOUND, also for a chunk of another sandbox."""
    found = find(tx, draft_chunks.c.id == chunk_id, draft_chunks.c.sandbox_id == sandbox_id)
    if found is None:
        raise not_found("chunk not found")
    return found


def find(tx: sa.Connection, *conditions: sa.ColumnElement[bool]) -> Chunk | None:
    """The newest chunk that meets all conditions."""
    return next(iter(select(tx, *conditions, limit=1)), None)


def select(tx: sa.Connection, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> Sequence[Chunk]:
    """Newest first."""
    query = sa.select(draft_chunks).where(*conditions).order_by(draft_chunks.c.seq.desc()).limit(limit)
    return [Chunk(**row._mapping) for row in tx.execute(query)]


def speaking_for(tx: sa.Connection, sandbox_id: str, wanted: Sequence[Target]) -> Sequence[Chunk]:
    """Chunks, newest first, that speak for at least one of `wanted`."""
    keys = [digest(*target) for target in wanted]
    ids = sa.select(chunk_targets.c.chunk_id).where(
        chunk_targets.c.sandbox_id == sandbox_id, chunk_targets.c.key.in_(keys)
    )
    return select(tx, draft_chunks.c.sandbox_id == sandbox_id, draft_chunks.c.id.in_(ids))


def insert(tx: sa.Connection, rule: Rule, **values: Any) -> Chunk:
    """A new row with a fresh id; the rest of `values` are columns."""
    chunk_id = str(uuid.uuid4())
    spoken_for = targets(rule)
    host, port, binary = spoken_for[0]
    tx.execute(
        draft_chunks.insert().values(id=chunk_id, rule=rule_bytes(rule), host=host, port=port, binary=binary, **values)
    )
    _insert_targets(tx, values["sandbox_id"], chunk_id, spoken_for)
    return get(tx, values["sandbox_id"], chunk_id)


def update(tx: sa.Connection, chunk: Chunk, *, rule: Rule | None = None, **values: Any) -> Chunk:
    """Change columns; `rule` also changes what the chunk speaks for. Returns the row as it is now."""
    if rule is not None:
        spoken_for = targets(rule)
        host, port, binary = spoken_for[0]
        values |= {"rule": rule_bytes(rule), "host": host, "port": port, "binary": binary}
        tx.execute(chunk_targets.delete().where(chunk_targets.c.chunk_id == chunk.id))
        _insert_targets(tx, chunk.sandbox_id, chunk.id, spoken_for)
    tx.execute(draft_chunks.update().where(draft_chunks.c.seq == chunk.seq).values(**values))
    return get(tx, chunk.sandbox_id, chunk.id)


def refusals(tx: sa.Connection, chunk: Chunk) -> int:
    """How often people refused what `chunk` asks for, under whatever name."""
    query = sa.select(sa.func.max(draft_chunks.c.refusals)).where(
        draft_chunks.c.sandbox_id == chunk.sandbox_id,
        draft_chunks.c.class_hash == chunk.class_hash,
        draft_chunks.c.class_hash != "",
    )
    return tx.scalar(query) or 0


def refused_class(tx: sa.Connection, sandbox_id: str, class_hash: str) -> Chunk | None:
    """The latest proposal of a class, if a person refused it and nothing else of the class waits or stands."""
    found = find(
        tx,
        draft_chunks.c.sandbox_id == sandbox_id,
        draft_chunks.c.class_hash == class_hash,
        draft_chunks.c.mode != "mechanistic",
    )
    return found if found is not None and found.status == "rejected" and found.rejected_as == "person" else None


def count_pending(tx: sa.Connection, sandbox_id: str, *conditions: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).where(
        draft_chunks.c.sandbox_id == sandbox_id, draft_chunks.c.status == "pending", *conditions
    )
    return tx.scalar(query) or 0


def pending_bytes(tx: sa.Connection, sandbox_id: str) -> int:
    """Size of what is pending, as far as the sandbox decides it."""
    size = sa.func.length(draft_chunks.c.rule) + sa.func.length(draft_chunks.c.rationale)
    query = sa.select(sa.func.sum(size)).where(
        draft_chunks.c.sandbox_id == sandbox_id, draft_chunks.c.status == "pending"
    )
    return tx.scalar(query) or 0


def next_draft_version(tx: sa.Connection, sandbox_id: str) -> int:
    """One more than before; raises GatewayError NOT_FOUND when the sandbox is gone."""
    changed = tx.execute(
        sandboxes.update()
        .where(sandboxes.c.id == sandbox_id, sandboxes.c.deleted_ms.is_(None))
        .values(draft_version=sandboxes.c.draft_version + 1)
    )
    if not changed.rowcount:
        raise not_found("sandbox not found")
    return draft_version(tx, sandbox_id)


def draft_version(tx: sa.Connection, sandbox_id: str) -> int:
    return tx.scalar(sa.select(sandboxes.c.draft_version).where(sandboxes.c.id == sandbox_id)) or 0


def leased(tx: sa.Connection, *conditions: sa.ColumnElement[bool]) -> Sequence[Chunk]:
    """Approvals that end by themselves, the next to end first."""
    query = sa.select(draft_chunks).where(draft_chunks.c.expires_ms.is_not(None), *conditions)
    query = query.order_by(draft_chunks.c.expires_ms, draft_chunks.c.seq)
    return [Chunk(**row._mapping) for row in tx.execute(query)]


def next_order(tx: sa.Connection, sandbox_id: str) -> int:
    """The place of an approval among all approvals of the sandbox, 1 for the first."""
    query = sa.select(sa.func.max(draft_chunks.c.applied_order)).where(draft_chunks.c.sandbox_id == sandbox_id)
    return (tx.scalar(query) or 0) + 1


def prune_rejected(tx: sa.Connection, sandbox_id: str, keep: int) -> None:
    """Drop the oldest chunks that a machine rejected beyond `keep`: an agent can make any number of those."""
    mine = (draft_chunks.c.sandbox_id == sandbox_id, draft_chunks.c.status == "rejected")
    query = sa.select(draft_chunks.c.seq).where(*mine, draft_chunks.c.rejected_as != "person")
    oldest = tx.scalar(query.order_by(draft_chunks.c.seq.desc()).offset(keep).limit(1))
    if oldest is not None:
        tx.execute(
            draft_chunks.delete().where(*mine, draft_chunks.c.rejected_as != "person", draft_chunks.c.seq <= oldest)
        )


def prune_events(tx: sa.Connection, sandbox_id: str, keep: int) -> None:
    """Drop the oldest history beyond `keep` entries."""
    mine = chunk_events.c.sandbox_id == sandbox_id
    query = sa.select(chunk_events.c.seq).where(mine).order_by(chunk_events.c.seq.desc()).offset(keep).limit(1)
    oldest = tx.scalar(query)
    if oldest is not None:
        tx.execute(chunk_events.delete().where(mine, chunk_events.c.seq <= oldest))


def keep_body(tx: sa.Connection, sandbox_id: str, policy: Policy) -> str:
    """Store a whole policy once. Returns its hash."""
    digest = hash_of(policy)
    present = sa.select(sa.literal(1)).where(policy_bodies.c.sandbox_id == sandbox_id, policy_bodies.c.hash == digest)
    if tx.scalar(present) is None:
        tx.execute(policy_bodies.insert().values(sandbox_id=sandbox_id, hash=digest, payload=encode(policy)))
    return digest


def body(tx: sa.Connection, sandbox_id: str, digest: str) -> Policy:
    """A policy kept by `keep_body`."""
    payload = tx.scalar(
        sa.select(policy_bodies.c.payload).where(
            policy_bodies.c.sandbox_id == sandbox_id, policy_bodies.c.hash == digest
        )
    )
    if payload is None:
        raise LookupError(f"no stored policy {digest}")
    return decode(payload)


def prune_bodies(tx: sa.Connection, sandbox_id: str) -> None:
    """Drop whole policies that no chunk refers to any more."""
    used = sa.union(
        *(
            sa.select(column).where(draft_chunks.c.sandbox_id == sandbox_id)
            for column in (draft_chunks.c.before_hash, draft_chunks.c.after_hash)
        )
    )
    tx.execute(
        policy_bodies.delete().where(policy_bodies.c.sandbox_id == sandbox_id, policy_bodies.c.hash.not_in(used))
    )


def record(tx: sa.Connection, chunk: Chunk, at_ms: int, kind: str, actor: str, description: str, **values: Any) -> None:
    """One line of history. `values`: reason, before_hash, after_hash, policy_version."""
    tx.execute(
        chunk_events.insert().values(
            sandbox_id=chunk.sandbox_id,
            chunk_id=chunk.id,
            at_ms=at_ms,
            type=kind,
            actor=str(actor),
            via=actor.via if isinstance(actor, Actor) else "",
            description=description,
            **values,
        )
    )


def history(
    tx: sa.Connection, sandbox_id: str, chunk_id: str = "", after: int = 0, limit: int | None = None
) -> Sequence[Event]:
    """In the order it happened."""
    table = chunk_events.c
    query = sa.select(chunk_events).where(table.sandbox_id == sandbox_id, table.seq > after)
    if chunk_id:
        query = query.where(table.chunk_id == chunk_id)
    return [Event(**row._mapping) for row in tx.execute(query.order_by(table.seq).limit(limit))]


def _insert_targets(tx: sa.Connection, sandbox_id: str, chunk_id: str, spoken_for: Iterable[Target]) -> None:
    rows = [
        {
            "chunk_id": chunk_id,
            "sandbox_id": sandbox_id,
            "host": host,
            "port": port,
            "binary": binary,
            "key": digest(host, port, binary),
        }
        for host, port, binary in dict.fromkeys(spoken_for)
    ]
    tx.execute(chunk_targets.insert(), rows)


# ---- messages --------------------------------------------------------------------------------------------------------


def to_proto(chunk: Chunk) -> openshell_pb2.PolicyChunk:
    """Without the two whole policies; `security_notes` are computed anew each time."""
    return openshell_pb2.PolicyChunk(
        id=chunk.id,
        status=chunk.status,
        rule_name=chunk.rule_name,
        proposed_rule=sandbox_pb2.NetworkPolicyRule.FromString(chunk.rule),
        rationale=chunk.rationale,
        security_notes=security_notes(chunk.proposed),
        confidence=chunk.confidence,
        created_time=to_timestamp(chunk.created_ms),
        decided_time=to_timestamp(chunk.decided_ms),
        stage=chunk.stage,
        hit_count=chunk.hit_count,
        first_seen_time=to_timestamp(chunk.first_seen_ms),
        last_seen_time=to_timestamp(chunk.last_seen_ms),
        binary=chunk.binary,
        validation_result=chunk.validation_result,
        rejection_reason=chunk.rejection_reason,
        application_error=chunk.application_error,
        review_token=chunk.review_token,
        current_effective_policy_hash=chunk.current_hash,
        candidate_effective_policy_hash=chunk.candidate_hash,
    )


def to_review(chunk: Chunk) -> pyopenshell_pb2.ChunkReview:
    review = pyopenshell_pb2.ChunkReview.FromString(chunk.review)
    review.chunk_id, review.analysis_mode = chunk.id, chunk.mode
    review.decided_by, review.superseded_by = chunk.decided_by, chunk.superseded_by
    if chunk.expires_ms is not None:
        review.lease.CopyFrom(lease(chunk.lease_ms, chunk.expires_ms))
    review.review_token = chunk.review_token
    return review


def lease(milliseconds: int | None, expires_ms: int) -> pyopenshell_pb2.Lease:
    given = milliseconds or 0
    duration = Duration(seconds=given // 1000, nanos=given % 1000 * 1_000_000)
    return pyopenshell_pb2.Lease(duration=duration, expires_time=to_timestamp(expires_ms))


def to_state(chunk: Chunk) -> pyopenshell_pb2.ProposalState:
    return pyopenshell_pb2.ProposalState(
        chunk_id=chunk.id,
        status=chunk.status,
        rule_name=chunk.rule_name,
        binary=chunk.binary,
        rejection_reason=chunk.rejection_reason,
        validation_result=chunk.validation_result,
        application_error=chunk.application_error,
        review_token=chunk.review_token,
        current_effective_policy_hash=chunk.current_hash,
        candidate_effective_policy_hash=chunk.candidate_hash,
        policy_version=chunk.policy_version if chunk.status == "approved" else 0,
        summary=summary(chunk.proposed),
        lease=lease(chunk.lease_ms, chunk.expires_ms) if chunk.expires_ms is not None else None,
    )


def summary(rule: Rule) -> str:
    """`host:port[ METHOD path][ by binary]` of what a rule asks for first (contract/sandbox.md 6.5)."""
    endpoint = rule.endpoints[0]
    text = f"{endpoint.host}:{endpoint.ports[0]}"
    if endpoint.rules:
        text += f" {endpoint.rules[0].method or '*'} {field(endpoint.rules[0].path) or '*'}"
    if rule.binaries:
        text += f" by {field(rule.binaries[0])}"
    return text
