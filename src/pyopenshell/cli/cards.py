"""How a proposal looks to the person who decides: the contract's lines, then what it would newly permit.

Pure: values in, lines out. Every text an agent may have written goes through `visible` here.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyopenshell.audit.text import spoken
from pyopenshell.cli.output import stamp
from pyopenshell.client.values import Chunk, Observed, Review
from pyopenshell.client.visible import visible, visible_lines
from pyopenshell.policy.describe import render_endpoint


def percent(confidence: float) -> str:
    return f"{round(confidence * 100)}%"


def inbox(draft_version: int, chunks: Sequence[Chunk], reviews: Mapping[str, Review]) -> Iterator[str]:
    """`rule get`: header and one card per chunk (contract/cli.md 2)."""
    yield f"Network Rules:  (version {draft_version}, {len(chunks)} chunk{'' if len(chunks) == 1 else 's'})"
    yield ""
    for chunk in chunks:
        yield from card(chunk, reviews.get(chunk.id))
        yield ""


def card(chunk: Chunk, review: Review | None) -> Iterator[str]:
    """One proposal. The order and labels of the first block are fixed; ours come after."""
    yield f"  Chunk: {visible(chunk.id)}"
    yield f"  Status: {visible(chunk.status)}"
    yield f"  Rule: {visible(chunk.rule_name)}"
    if chunk.binary:
        yield f"  Binary: {visible(chunk.binary)}"
    yield f"  Confidence: {percent(chunk.confidence)}"
    yield f"  Rationale: {visible(chunk.rationale)}"
    if chunk.security_notes:
        yield f"  Security: {visible(chunk.security_notes)}"
    yield from _several("Prover", chunk.validation_result)
    yield from _several("Application", chunk.application_error)
    if chunk.candidate_hash:
        yield f"  Candidate: {visible(chunk.candidate_hash[:12])}"
    yield f"  Endpoints: {', '.join(visible(render_endpoint(one)) for one in chunk.rule.endpoints)}"
    if chunk.rule.binaries:
        yield f"  Binaries: {', '.join(visible(one) for one in chunk.rule.binaries)}"
    if chunk.hit_count > 1:
        yield f"  Hits: {chunk.hit_count} (first seen {stamp(chunk.first_seen)}, last seen {stamp(chunk.last_seen)})"
    if review is not None:
        yield from _review(chunk, review)
    if chunk.rejection_reason:
        yield f"  Reason: {visible(chunk.rejection_reason)}"


def _several(label: str, text: str) -> Iterator[str]:
    """A text whose lines are the prover's: the first after the label, the rest deeper than any label can stand."""
    if not text:
        return
    first, *rest = visible_lines(text)
    yield f"  {label}: {first}"
    for line in rest:
        yield f"    {line}"


def _review(chunk: Chunk, review: Review) -> Iterator[str]:
    if review.mode:
        yield f"  Author: {visible(review.mode)}"
    if chunk.status == "pending" or review.newly_permits:
        yield from newly_permits(review)
    if review.decided_by:
        yield f"  Decided by: {visible(review.decided_by)}"
    if review.superseded_by:
        yield f"  Superseded by: {visible(review.superseded_by)}"
    if review.lease is not None:
        left = spoken(int((review.lease.expires - datetime.datetime.now(datetime.UTC)).total_seconds()))
        given = spoken(review.lease.duration.total_seconds())
        yield f"  Ends: in {left} ({stamp(review.lease.expires)} UTC; approved for {given})"


def newly_permits(review: Review) -> Iterator[str]:
    """What approving would newly permit, each with one concrete request that was refused before."""
    if not review.newly_permits:
        yield "  Newly permits: nothing" if review.proven else "  Newly permits: unknown (the proof did not finish)"
        return
    yield "  Newly permits:"
    for region in review.newly_permits:
        warning = "  (NOT INSPECTED)" if region.uninspected else ""
        # The sentence usually carries the reason and an example already; neither is said twice.
        reason = f"[{region.reason}]"
        why = f"  {visible(reason)}" if region.reason and reason not in region.text else ""
        yield f"    + {visible(region.text)}{why}{warning}"
        if region.witness and "  e.g. " not in region.text:
            yield f"      for example: {visible(region.witness)}"
    if not review.proven:
        yield "    (the proof did not finish: there may be more)"


def observed_lines(denials: Sequence[Observed]) -> Iterator[str]:
    """`rule get`: refusals of inspected endpoints, most frequent first."""
    yield f"Observed Denials:  ({len(denials)}; counted and shown only, never a rule by themselves)"
    yield ""
    for one in sorted(denials, key=lambda each: (-each.count, each.host, each.port, each.method, each.path)):
        yield f"  {visible(one.method)} {visible(one.host)}:{one.port}{visible(one.path)}"
        yield f"    by {visible(one.binary)}, refused by {visible(one.policy or '-')}: {visible(one.reason)}"
        yield f"    {one.count} time{'' if one.count == 1 else 's'}, last {stamp(one.last_seen)}"
    yield ""


def chunk_data(chunk: Chunk, review: Review | None) -> dict[str, Any]:
    """`-o json`: everything, raw (JSON escapes it)."""
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
    from pyopenshell.cli.policy_text import policy_data
    from pyopenshell.policy.model import Policy

    return next(iter(policy_data(Policy(rules=(chunk.rule,)))["network_policies"].values()), None)
