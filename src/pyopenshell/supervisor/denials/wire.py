"""Tallies and drafts as messages of `SubmitPolicyAnalysis`. Shapes only: no decisions, no sockets."""

from __future__ import annotations

from collections.abc import Iterable

from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.denials.ledger import Tally
from pyopenshell.supervisor.denials.mapper import Draft
from pyopenshell.wire.gen import openshell_pb2 as pb
from pyopenshell.wire.policy_map import rule_to_proto

MAX_REASON = 1024
MAX_ANCESTORS = 16
_OBSERVED = {"dns": "DNS", "bypass": "TCP"}
_UINT32 = 2**32 - 1
HIT_LIMIT = 100
"""The gateway clamps one submission's hits to this (contract/gateway.md 4.2); the true total is in the summary."""


def summary(sandbox_id: str, tally: Tally) -> pb.DenialSummary:
    """What was refused, how often and when. An L7 tally carries its one request as a sample."""
    denial = tally.denial
    message = pb.DenialSummary(
        sandbox_id=sandbox_id,
        host=_text(denial.host),
        port=denial.port,
        binary=_text(denial.binary),
        ancestors=[_text(a) for a in denial.ancestors[:MAX_ANCESTORS]],
        deny_reason=_reason(denial),
        count=min(tally.count, _UINT32),
        total_count=min(tally.total, _UINT32),
        binary_sha256=denial.sha256,
        denial_stage="l7" if denial.layer == "l7" else denial.stage,
        l7_inspection_active=denial.layer == "l7",
    )
    message.first_seen_time.FromMilliseconds(tally.first_ms)
    message.last_seen_time.FromMilliseconds(tally.last_ms)
    # What is counted and shown but never drafted goes the same way: requests, names, and addresses without a name.
    method = denial.method if denial.layer == "l7" else _OBSERVED.get(denial.stage)
    if method is not None:
        message.l7_request_samples.add(
            method=_text(method),
            path=_text(denial.path),
            decision="deny",
            count=min(tally.count, _UINT32),
        )
    return message


def chunk(draft: Draft) -> pb.PolicyChunk:
    """A draft as a chunk without id: the gateway assigns it, or answers with the one it already has."""
    message = pb.PolicyChunk(
        status="pending",
        rule_name=draft.rule.key,
        proposed_rule=rule_to_proto(draft.rule),
        rationale=draft.rationale,
        security_notes=draft.security_notes,
        confidence=draft.confidence,
        stage=draft.stage,
        hit_count=min(draft.hit_count, HIT_LIMIT),
        binary=draft.binary,
    )
    message.first_seen_time.FromMilliseconds(draft.first_ms)
    message.last_seen_time.FromMilliseconds(draft.last_ms)
    return message


def analysis(
    sandbox_id: str, name: str, workspace: str, tallies: Iterable[Tally], drafted: Iterable[Draft]
) -> pb.SubmitPolicyAnalysisRequest:
    """One submission of the supervisor's own observations."""
    request = pb.SubmitPolicyAnalysisRequest(
        name=name,
        analysis_mode="mechanistic",
        summaries=[summary(sandbox_id, tally) for tally in tallies],
        proposed_chunks=[chunk(draft) for draft in drafted],
    )
    request.workspace_scope.workspace = workspace
    return request


def _reason(denial: Denial) -> str:
    reason = _text(denial.reason or denial.detail)[:MAX_REASON]
    # The message has no fields for the rule that refused a request and for the id; our gateway reads them from here.
    return f"[policy:{_text(denial.policy)}] [denial:{denial.id}] {reason}" if denial.layer == "l7" else reason


def _text(raw: str) -> str:
    # File names may hold bytes that are no UTF-8; protobuf refuses lone surrogates.
    return raw.encode("utf-8", "backslashreplace").decode()
