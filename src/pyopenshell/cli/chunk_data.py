"""A proposal for `-o json` and `-o yaml`: everything, raw (the encoders escape it)."""

from __future__ import annotations

from typing import Any

from pyopenshell.cli.policy_text import policy_data
from pyopenshell.client.values import Chunk, Review
from pyopenshell.policy.describe import render_endpoint
from pyopenshell.policy.model import Policy


def chunk_data(chunk: Chunk, review: Review | None) -> dict[str, Any]:
    return {
        "application_error": chunk.application_error,
        "binary": chunk.binary,
        "candidate_effective_policy_hash": chunk.candidate_hash,
        "confidence": round(chunk.confidence, 4),
        "created_at": chunk.created,
        "current_effective_policy_hash": chunk.current_hash,
        "decided_at": chunk.decided,
        "endpoints": [render_endpoint(one) for one in chunk.rule.endpoints],
        "first_seen": chunk.first_seen,
        "hit_count": chunk.hit_count,
        "id": chunk.id,
        "last_seen": chunk.last_seen,
        "proposed_rule": rule_data(chunk),
        "rationale": chunk.rationale,
        "rejection_reason": chunk.rejection_reason,
        "review": review,
        "review_token": chunk.review_token,
        "rule_name": chunk.rule_name,
        "security_notes": chunk.security_notes,
        "stage": chunk.stage,
        "status": chunk.status,
        "supersedes": chunk.supersedes,
        "validation_result": chunk.validation_result,
    }


def rule_data(chunk: Chunk) -> Any:
    """The rule as policy YAML would say it."""
    return next(iter(policy_data(Policy(rules=(chunk.rule,)))["network_policies"].values()), None)
