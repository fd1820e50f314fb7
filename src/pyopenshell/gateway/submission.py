"""What a sandbox may put before people: proposals and observed denials, with their limits (contract/gateway.md 4.2).

Everything in a submission is the agent's text: bounded, parsed, never trusted. Decides what becomes a chunk, what is
the same observation again, and what speaks for the same destination; approval is not its business except for the
automatic mode that a person switched on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from pyopenshell.gateway import chunks, evaluation
from pyopenshell.gateway.chunks import Chunk
from pyopenshell.gateway.clock import from_timestamp
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.evaluation import MECHANISTIC, Candidate, Evaluation, Ground
from pyopenshell.gateway.ledger import Ledger
from pyopenshell.gateway.revisions import hash_of
from pyopenshell.gateway.settings import Settings
from pyopenshell.gateway.store.schema import draft_chunks
from pyopenshell.policy.coverage import covers
from pyopenshell.policy.model import Endpoint, Rule
from pyopenshell.policy.problems import PolicyError
from pyopenshell.policy.validate import is_reserved
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import openshell_pb2

AUTO_ACTOR = "gateway:auto"
"""Recorded as the one who decided where the automatic mode did."""
MACHINE = "gateway"
"""Recorded where the gateway itself closes a chunk that has become pointless."""
LAST_WORDS = 3
"""So often people may be asked for the same thing in other words."""
_REMEMBERED = 4096
_WILDCARDS = frozenset("*?[")
_RESOLVED_FROM = {"global": "gateway", "sandbox": "sandbox", "default": "default"}


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox may ask for. A flood costs the sandbox its own proposals and nobody else anything.

    `burst` proposals at once, then `per_minute`; at most so many pending by author, and so many bytes of them; so many
    rejected by machine kept. Wildcards are bounded because the exact proof of what they permit is exponential in them,
    and nobody can review more of them either.
    """

    chunks_per_call: int = 64
    pending_authored: int = 128
    pending_mechanistic: int = 512
    kept_rejected: int = 256
    burst: int = 256
    per_minute: int = 1200
    rule_bytes: int = 16 * 1024
    rationale: int = 4096
    name: int = 253
    pending_bytes: int = 1024 * 1024
    wildcards: int = 24
    wildcards_per_segment: int = 2

    @classmethod
    def of(cls, quotas: Mapping[str, int]) -> Limits:
        """The defaults, with what an operator wrote (`configuration.QUOTAS`)."""
        names = {"pending_proposals": "pending_authored", "pending_observations": "pending_mechanistic"}
        return dataclasses.replace(cls(), **{names.get(key, key): value for key, value in quotas.items()})


class Refused(Exception):  # noqa: N818 - not an error of the call: the reason one chunk of it was not taken
    """Why one proposal was not stored; the call as a whole succeeds."""


class Submissions:
    """Takes submissions of all sandboxes."""

    def __init__(self, ledger: Ledger, settings: Settings, limits: Limits) -> None:
        self._ledger, self._settings, self._limits = ledger, settings, limits
        self._buckets: dict[str, tuple[float, int]] = {}

    def admit(self, sandbox_id: str, count: int) -> None:
        """Raises GatewayError RESOURCE_EXHAUSTED for a call that is too big or comes too soon."""
        limits = self._limits
        if count > limits.chunks_per_call:
            raise GatewayError(
                "RESOURCE_EXHAUSTED",
                f"a submission may carry at most {limits.chunks_per_call} proposals, this one has {count}",
                "PROPOSAL_QUOTA",
            )
        now = self._ledger.clock()
        left, since = self._buckets.get(sandbox_id, (float(limits.burst), now))
        left = min(float(limits.burst), left + max(0, now - since) / 60_000 * limits.per_minute)
        if left < count:
            wait = math.ceil((count - left) / limits.per_minute * 60)
            raise GatewayError(
                "RESOURCE_EXHAUSTED",
                f"this sandbox submits proposals too fast; try again in {wait} s",
                "PROPOSAL_QUOTA",
                {"retry_after_seconds": str(wait)},
                retry_after=wait,
            )
        if len(self._buckets) >= _REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[sandbox_id] = (left - count, now)

    def take(
        self, tx: sa.Connection, sandbox_id: str, version: int, mode: str, message: openshell_pb2.PolicyChunk
    ) -> str:
        """Store one proposal (or count it on the one it repeats). Returns the effective id. Raises Refused."""
        name = message.rule_name.strip()
        rule = self._parse(name, mode, message)
        on = self._ledger.ground(tx, sandbox_id)
        if mode == MECHANISTIC:
            return self._observe(tx, on, sandbox_id, version, name, rule, message).id
        if chunks.count_pending(tx, sandbox_id, draft_chunks.c.mode != MECHANISTIC) >= self._limits.pending_authored:
            raise Refused(
                f"chunk '{name}': {self._limits.pending_authored} proposals of this sandbox are pending already; "
                "wait for a decision first"
            )
        if chunks.pending_bytes(tx, sandbox_id) + len(message.rationale) > self._limits.pending_bytes:
            raise Refused(
                f"chunk '{name}': the pending proposals of this sandbox are too large; wait for a decision first"
            )
        made = evaluation.candidate(on, mode, name, rule, message.rationale)
        if (refused := self._refused_before(tx, sandbox_id, made, message)) is not None:
            return refused.id
        done = evaluation.evaluate(on, made)
        if done.candidate.error:
            raise Refused(f"chunk '{name}': {done.candidate.error}")
        chunk = self._insert(tx, sandbox_id, version, mode, done, message)
        self._supersede(tx, chunk)
        return self._settle(tx, on, chunk, done).id

    # ---- parsing --------------------------------------------------------------------------------------------------

    def _parse(self, name: str, mode: str, message: openshell_pb2.PolicyChunk) -> Rule:
        limits = self._limits
        if not name:
            raise Refused("chunk missing rule_name")
        if len(name) > limits.name:
            raise Refused(f"chunk '{name[:40]}…': rule_name is longer than {limits.name} characters")
        if is_reserved(name):
            raise Refused(f"chunk '{name}' uses reserved '_provider_' rule-name prefix")
        if not message.HasField("proposed_rule"):
            raise Refused(f"chunk '{name}' missing proposed_rule")
        if message.proposed_rule.ByteSize() > limits.rule_bytes:
            raise Refused(f"chunk '{name}': proposed_rule is larger than {limits.rule_bytes} bytes")
        if len(message.rationale) > limits.rationale:
            raise Refused(f"chunk '{name}': rationale is longer than {limits.rationale} characters")
        try:
            rule = evaluation.as_proposed(policy_map.rule_from_proto(name, message.proposed_rule))
        except PolicyError as error:
            raise Refused(f"chunk '{name}': {error}") from None
        if not rule.endpoints or any(not endpoint.ports for endpoint in rule.endpoints):
            raise Refused(f"chunk '{name}': the rule needs at least one endpoint, and every endpoint a port")
        if len(chunks.targets(rule)) > chunks.MAX_TARGETS:
            raise Refused(f"chunk '{name}': more than {chunks.MAX_TARGETS} combinations of endpoint, port and binary")
        self._reviewable(name, rule)
        if mode != MECHANISTIC:
            for endpoint in rule.endpoints:
                if endpoint.protocol == "tcp":
                    raise Refused(
                        f"chunk '{name}': agent-authored proposals cannot request protocol tcp; "
                        "leave protocol out or use an inspected protocol"
                    )
                if endpoint.tls == "skip":
                    raise Refused(
                        f"chunk '{name}': agent-authored proposals cannot request tls: skip; "
                        "ask the developer to set it in the policy"
                    )
        return rule

    def _reviewable(self, name: str, rule: Rule) -> None:
        patterns = [pattern for endpoint in rule.endpoints for pattern in _patterns(endpoint)] + list(rule.binaries)
        total = sum(_count(pattern) for pattern in patterns)
        most = max(_count(segment) for pattern in patterns for segment in pattern.split("/"))
        limits = self._limits
        if total > limits.wildcards or most > limits.wildcards_per_segment:
            raise Refused(
                f"chunk '{name}': too many wildcards to be proved (at most {limits.wildcards} in all and "
                f"{limits.wildcards_per_segment} in one path segment); ask for fewer or plainer paths"
            )

    # ---- what a person has answered already -----------------------------------------------------------------------

    def _refused_before(
        self, tx: sa.Connection, sandbox_id: str, made: Candidate, message: openshell_pb2.PolicyChunk
    ) -> Chunk | None:
        """The refused proposal that this one repeats: its author gets the recorded reason at once, and nobody else
        hears of it. News is another policy for its hosts, or other words, as long as people were not asked in other
        words `LAST_WORDS` times already.
        """
        known = chunks.refused_class(tx, sandbox_id, evaluation.class_of(made.rule))
        if known is None or not _same_evidence(known, made, words=known.refusals < LAST_WORDS):
            return None
        _, last = self._seen(message)
        return chunks.update(
            tx, known, hit_count=known.hit_count + _hits(message), last_seen_ms=max(known.last_seen_ms, last)
        )

    # ---- the sandbox's own observations ---------------------------------------------------------------------------

    def _observe(
        self,
        tx: sa.Connection,
        on: Ground,
        sandbox_id: str,
        version: int,
        name: str,
        rule: Rule,
        message: openshell_pb2.PolicyChunk,
    ) -> Chunk:
        """Mechanistic: the same (host, port, binary) again only counts."""
        host, port, binary = chunks.targets(rule)[0]
        key = f"{host}|{port}|{binary}"
        known = chunks.find(tx, draft_chunks.c.sandbox_id == sandbox_id, draft_chunks.c.dedup_key == key)
        if known is not None:
            return self._again(tx, on, known, message)
        pending = chunks.count_pending(tx, sandbox_id, draft_chunks.c.mode == MECHANISTIC)
        if pending >= self._limits.pending_mechanistic:
            raise Refused(
                f"chunk '{name}': {self._limits.pending_mechanistic} observed destinations of this sandbox are "
                "pending already; decide on some first"
            )
        made = evaluation.candidate(on, MECHANISTIC, name, rule, message.rationale)
        done = evaluation.evaluate(on, made)
        chunk = self._insert(tx, sandbox_id, version, MECHANISTIC, done, message, dedup_key=key)
        if self._close_if_spoken_for(tx, on, chunk):
            return chunks.get(tx, sandbox_id, chunk.id)
        return self._settle(tx, on, chunk, done)

    def _again(self, tx: sa.Connection, on: Ground, chunk: Chunk, message: openshell_pb2.PolicyChunk) -> Chunk:
        first, last = self._seen(message)
        chunk = chunks.update(
            tx,
            chunk,
            hit_count=chunk.hit_count + _hits(message),
            first_seen_ms=min(chunk.first_seen_ms, first),
            last_seen_ms=max(chunk.last_seen_ms, last),
        )
        if chunk.status == "pending":
            self._ledger.changed(tx, chunk)
            return chunk
        if not self._must_reopen(tx, on, chunk):
            return chunk
        chunk = chunks.update(
            tx,
            chunk,
            status="pending",
            decided_ms=None,
            decided_by="",
            rejection_reason="",
            rejected_as="",
            superseded_by="",
            before_hash="",
            after_hash="",
            policy_version=0,
            policy_hash="",
            applied_order=0,
            lease_ms=None,
            expires_ms=None,
        )
        done = evaluation.evaluate(on, self._ledger.candidate(on, chunk))
        chunk = self._ledger.evaluated(tx, chunk, done)
        self._ledger.proposed(tx, chunk)
        return self._settle(tx, on, chunk, done)

    def _must_reopen(self, tx: sa.Connection, on: Ground, chunk: Chunk) -> bool:
        """Is a decided observation news again? A person's rejection stands until the policy for its hosts is another;
        a machine's only while its cause does.
        """
        if chunk.status == "approved":
            # Approved, and refused all the same: a later policy took the grant away. (While it is still covered,
            # this is a flush from before the approval. A global policy takes nothing away: the approval, with its
            # limit, stands beneath it and is in force again after it.)
            return not covers(on.base, chunk.proposed)
        if on.covers(chunk.proposed) or self._speaker(tx, on, chunk) is not None:
            return False
        if chunk.rejected_as != "person":
            return True
        if chunk.current_hash == hash_of(on.current):
            return False
        made = self._ledger.candidate(on, chunk)
        if _same_evidence(chunk, made, words=False):
            self._ledger.rebased(tx, chunk, made)
            return False
        return True

    # ---- several authors, one destination -------------------------------------------------------------------------

    def _close_if_spoken_for(self, tx: sa.Connection, on: Ground, chunk: Chunk) -> bool:
        """An observation for whose destination somebody already proposed, or was granted, something closes itself."""
        speaker = self._speaker(tx, on, chunk)
        if speaker is None:
            return False
        if speaker.status == "approved":
            reason = f"already covered by approved chunk {speaker.id} (agent_authored or prior auto-approval)"
            self._ledger.reject(tx, chunk, reason, MACHINE, kind="covered", superseded_by=speaker.id)
        else:
            reason = f"superseded by chunk {speaker.id}"
            self._ledger.reject(tx, chunk, reason, MACHINE, kind="superseded", superseded_by=speaker.id)
        return True

    def _speaker(self, tx: sa.Connection, on: Ground, chunk: Chunk) -> Chunk | None:
        """An approved chunk still in force, else a pending authored one, that speaks for all `chunk` speaks for."""
        wanted = set(chunks.targets(chunk.proposed))
        others = [
            other
            for other in chunks.speaking_for(tx, chunk.sandbox_id, sorted(wanted))
            if other.id != chunk.id and wanted <= set(chunks.targets(other.proposed))
        ]
        for other in others:
            if other.status == "approved" and on.covers(other.proposed):
                return other
        for other in others:
            if other.status == "pending" and other.mode != MECHANISTIC:
                return other
        return None

    def _supersede(self, tx: sa.Connection, chunk: Chunk) -> None:
        """An authored proposal replaces the pending observations whose destination it speaks for, nothing else."""
        mine = chunks.targets(chunk.proposed)
        for other in chunks.speaking_for(tx, chunk.sandbox_id, mine):
            if (
                other.status == "pending"
                and other.mode == MECHANISTIC
                and set(chunks.targets(other.proposed)) <= set(mine)
            ):
                reason = f"superseded by chunk {chunk.id}"
                self._ledger.reject(tx, other, reason, MACHINE, kind="superseded", superseded_by=chunk.id)

    # ---- storing --------------------------------------------------------------------------------------------------

    def _insert(
        self,
        tx: sa.Connection,
        sandbox_id: str,
        version: int,
        mode: str,
        done: Evaluation,
        message: openshell_pb2.PolicyChunk,
        dedup_key: str | None = None,
    ) -> Chunk:
        first, last = self._seen(message)
        made = done.candidate
        chunk = chunks.insert(
            tx,
            made.rule,
            sandbox_id=sandbox_id,
            draft_version=version,
            mode=mode,
            status="pending",
            rule_name=made.rule_name,
            rationale=message.rationale,
            confidence=min(1.0, max(0.0, message.confidence)) if math.isfinite(message.confidence) else 0.0,
            stage=message.stage[:64],
            dedup_key=dedup_key,
            hit_count=_hits(message),
            first_seen_ms=first,
            last_seen_ms=last,
            created_ms=first,
            validation_result=done.validation_result,
            application_error=made.error,
            review_token=made.token,
            current_hash=made.current_hash,
            candidate_hash=made.candidate_hash,
            review=done.review,
            class_hash=evaluation.class_of(made.rule),
            evidence=made.evidence,
        )
        self._ledger.proposed(tx, chunk)
        chunks.prune_rejected(tx, sandbox_id, self._limits.kept_rejected)
        return chunk

    def _settle(self, tx: sa.Connection, on: Ground, chunk: Chunk, done: Evaluation) -> Chunk:
        """What needs no person: already allowed, or the automatic mode's business."""
        if on.covers(chunk.proposed):
            return self.close_covered(tx, chunk)
        mode = self._settings.approval_mode(tx, chunk.sandbox_id)
        reviewed = self._ledger.revisions.reviewed(tx, chunk.sandbox_id)
        merged = done.candidate.merged
        if mode.value != "auto" or merged is None or not evaluation.may_auto_approve(on, done, reviewed):
            return chunk
        fields = (
            ("auto", "true"),
            ("source", chunk.mode),
            ("prover_delta", "empty"),
            ("resolved_from", _RESOLVED_FROM[mode.source]),
        )
        revision = self._ledger.revisions.append(tx, chunk.sandbox_id, merged, origin="auto", author=AUTO_ACTOR)
        return self._ledger.approve(tx, chunk, on.base, merged, revision, AUTO_ACTOR, fields)

    def close_covered(self, tx: sa.Connection, chunk: Chunk) -> Chunk:
        """A pending chunk whose every request is allowed already."""
        latest = self._ledger.revisions.global_policy(tx) or self._ledger.revisions.latest(tx, chunk.sandbox_id)
        reason = f"covered by active policy revision {latest.version if latest is not None else 0}"
        return self._ledger.reject(tx, chunk, reason, MACHINE, kind="covered")

    def _seen(self, message: openshell_pb2.PolicyChunk) -> tuple[int, int]:
        """First and last time, never in the future, never the wrong way round. Milliseconds."""
        now = self._ledger.clock()
        first = from_timestamp(message.first_seen_time) if message.HasField("first_seen_time") else now
        last = from_timestamp(message.last_seen_time) if message.HasField("last_seen_time") else now
        last = min(max(last, 0), now)
        return min(max(first, 0), last), last


def _same_evidence(chunk: Chunk, made: Candidate, *, words: bool) -> bool:
    """Was a person shown the same when they refused? `words`: the author's explanation counts too."""
    then, now = chunk.evidence.split(":"), made.evidence.split(":")
    return then == now if words else then[0] == now[0]


def _patterns(endpoint: Endpoint) -> Iterable[str]:
    """Every text of an endpoint that is matched as a pattern."""
    yield endpoint.host
    yield endpoint.path
    for match in (*endpoint.rules, *endpoint.deny_rules):
        yield match.path
        yield match.operation_name
        yield from match.fields
        for _, matcher in (*match.query, *match.params):
            yield from matcher.any


def _count(pattern: str) -> int:
    return sum(character in _WILDCARDS for character in pattern.replace("**", "*"))


def _hits(message: openshell_pb2.PolicyChunk) -> int:
    return min(100, max(1, message.hit_count))


def stale(tx: sa.Connection, sandbox_id: str, current_hash: str) -> Sequence[Chunk]:
    """Pending chunks judged against another policy than the one in force now, newest first."""
    return chunks.select(
        tx,
        draft_chunks.c.sandbox_id == sandbox_id,
        draft_chunks.c.status == "pending",
        draft_chunks.c.current_hash != current_hash,
        limit=1,
    )
