"""How a proposal looks to the person who decides, on every screen: terminal lines, full-screen terminal, browser.

Pure: values in, text out. `card_of` is the one place where texts that an agent may have written are made visible
(G-7); who shows a Card has nothing left to escape but its own medium's syntax.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence

from pyopenshell.audit.text import spoken
from pyopenshell.client.values import Chunk, LogLine, Observed, Region, Review
from pyopenshell.client.visible import stamp, visible, visible_lines
from pyopenshell.policy.describe import render_endpoint

NO_FINDINGS = "prover: no new findings"
AUTHORS = {
    "agent_authored": "asked for by the agent",
    "mechanistic": "drafted from refused connections",
    "edited": "edited by a reviewer",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Permitted:
    """One set of requests that approval would newly allow. `reason` and `witness` are "" where `text` has them."""

    text: str
    reason: str
    witness: str
    uninspected: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """Everything a reviewer must see of one proposal, fit to show; `id`, `sandbox` and `token` name it to the gateway.

    `proof` is "complete", "incomplete" (there may be more than `permits` says) or "missing" (not known, or of another
    version of the proposal). `expires`, `ends` and `given`: when an approval for a time ends, and for how long it was
    given.
    `clean`: the prover found nothing to worry about. `inspected`: every endpoint asked for has its requests looked
    into.
    """

    id: str
    token: str
    sandbox: str
    status: str
    rule: str
    binary: str
    confidence: str
    rationale: str
    security: str
    prover: tuple[str, ...]
    application: tuple[str, ...]
    candidate: str
    endpoints: tuple[str, ...]
    binaries: tuple[str, ...]
    hits: int
    first_seen: str
    last_seen: str
    decided: str
    reason: str
    mode: str
    proof: str
    permits: tuple[Permitted, ...]
    decided_by: str
    superseded_by: str
    expires: datetime.datetime | None
    ends: str
    given: str
    clean: bool
    inspected: bool

    @property
    def author(self) -> str:
        """In words, "" when not known."""
        return AUTHORS.get(self.mode, self.mode)

    @property
    def target(self) -> tuple[str, str]:
        """For lists: where to, and what there; of the first endpoint, and how many more there are."""
        if not self.endpoints:
            return "-", ""
        host, _, tags = self.endpoints[0].partition(" [")
        more = len(self.endpoints) - 1
        return host + (f" and {more} more" if more else ""), tags.removesuffix("]")

    @property
    def verdict(self) -> str:
        """One word for lists: what to expect when it is opened."""
        if self.application:
            return "blocked"
        if self.security or not self.clean:
            return "look closely"
        if not self.inspected:
            return "not inspected"
        return "no findings"


def card_of(sandbox: str, chunk: Chunk, review: Review | None) -> Card:
    """`review` is left out where it is about another version of the chunk than the one given."""
    if review is not None and review.review_token and review.review_token != chunk.review_token:
        review = None
    proof = "missing" if review is None else "complete" if review.proven else "incomplete"
    return Card(
        id=chunk.id,
        token=chunk.review_token,
        sandbox=sandbox,
        status=visible(chunk.status),
        rule=visible(chunk.rule_name),
        binary=visible(chunk.binary),
        confidence=percent(chunk.confidence),
        rationale=visible(chunk.rationale),
        security=visible(chunk.security_notes),
        prover=_lines(chunk.validation_result),
        application=_lines(chunk.application_error),
        candidate=visible(chunk.candidate_hash[:12]),
        endpoints=tuple(visible(render_endpoint(one)) for one in chunk.rule.endpoints),
        binaries=tuple(visible(one) for one in chunk.rule.binaries),
        hits=chunk.hit_count,
        first_seen=stamp(chunk.first_seen),
        last_seen=stamp(chunk.last_seen),
        decided=stamp(chunk.decided),
        reason=visible(chunk.rejection_reason),
        mode=visible(review.mode) if review else "",
        proof=proof,
        permits=tuple(_permitted(region) for region in review.newly_permits) if review else (),
        decided_by=visible(review.decided_by) if review else "",
        superseded_by=visible(review.superseded_by) if review else "",
        expires=review.lease.expires if review and review.lease else None,
        ends=stamp(review.lease.expires) if review and review.lease else "",
        given=spoken(review.lease.duration.total_seconds()) if review and review.lease else "",
        clean=chunk.validation_result == NO_FINDINGS,
        inspected=all(one.protocol and one.tls != "skip" for one in chunk.rule.endpoints),
    )


def with_hits(card: Card, chunk: Chunk) -> Card:
    """The same proposal, seen more often."""
    return dataclasses.replace(card, hits=chunk.hit_count, last_seen=stamp(chunk.last_seen))


def remaining(card: Card, now: datetime.datetime) -> str:
    """Of an approval for a time: `in 9m58s (2026-11-28 09:10:00 UTC; approved for 10m)`; "" for any other."""
    if card.expires is None:
        return ""
    left = int((card.expires - now).total_seconds())
    return f"{f'in {spoken(left)}' if left > 0 else 'now'} ({card.ends} UTC; approved for {card.given})"


@dataclasses.dataclass(frozen=True, slots=True)
class LogRow:
    """One line of a sandbox's log, fit to show. `time` is of the day, in UTC."""

    time: str
    level: str
    source: str
    message: str
    fields: str


def log_row(line: LogLine) -> LogRow:
    return LogRow(
        time=line.time.strftime("%H:%M:%S") if line.time else "--:--:--",
        level=visible(line.level.upper(), 20),
        source=visible(line.source, 20),
        message=visible(line.message),
        fields=visible(" ".join(f"{key}={line.fields[key]}" for key in sorted(line.fields))),
    )


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
    """One proposal as lines. The order and labels of the first block are fixed; ours come after."""
    one = card_of("", chunk, review)
    yield f"  Chunk: {visible(one.id)}"
    yield f"  Status: {one.status}"
    yield f"  Rule: {one.rule}"
    if one.binary:
        yield f"  Binary: {one.binary}"
    yield f"  Confidence: {one.confidence}"
    yield f"  Rationale: {one.rationale}"
    if one.security:
        yield f"  Security: {one.security}"
    yield from _labelled("Prover", one.prover)
    yield from _labelled("Application", one.application)
    if one.candidate:
        yield f"  Candidate: {one.candidate}"
    yield f"  Endpoints: {', '.join(one.endpoints)}"
    if one.binaries:
        yield f"  Binaries: {', '.join(one.binaries)}"
    if one.hits > 1:
        yield f"  Hits: {one.hits} (first seen {one.first_seen}, last seen {one.last_seen})"
    if review is not None:
        if one.mode:
            yield f"  Author: {one.mode}"
        if chunk.status == "pending" or one.permits:
            yield from _permits(one)
        if one.decided_by:
            yield f"  Decided by: {one.decided_by}"
        if one.superseded_by:
            yield f"  Superseded by: {one.superseded_by}"
        if one.expires is not None:
            yield f"  Ends: {remaining(one, datetime.datetime.now(datetime.UTC))}"
    if one.reason:
        yield f"  Reason: {one.reason}"


def newly_permits(chunk: Chunk, review: Review) -> Iterator[str]:
    """What approving would newly permit, each with one concrete request that was refused before."""
    yield from _permits(card_of("", chunk, review))


def observed_title(one: Observed) -> str:
    """`PUT api.example:443/path`; a question about a name has no port: `DNS api.example`."""
    port = f":{one.port}" if one.port else ""
    return f"{visible(one.method)} {visible(one.host)}{port}{visible(one.path)}"


def observed_why(one: Observed) -> str:
    who = visible(one.binary) or "some program"
    return f"by {who}, refused by {visible(one.policy or '-')}: {visible(one.reason)}"


def observed_count(one: Observed) -> str:
    latest = f" ({visible(one.denial_id)})" if one.denial_id else ""
    return f"{one.count} time{'' if one.count == 1 else 's'}, last {stamp(one.last_seen)}{latest}"


def observed_lines(denials: Sequence[Observed]) -> Iterator[str]:
    """`rule get`: what was refused and never becomes a draft by itself, most frequent first."""
    yield f"Observed Denials:  ({len(denials)}; counted and shown only, never a rule by themselves)"
    yield ""
    for one in sorted(denials, key=lambda each: (-each.count, each.host, each.port, each.method, each.path)):
        yield f"  {observed_title(one)}"
        yield f"    {observed_why(one)}"
        yield f"    {observed_count(one)}"
    yield ""


def _lines(text: str) -> tuple[str, ...]:
    return tuple(visible_lines(text)) if text else ()


def _labelled(label: str, lines: Sequence[str]) -> Iterator[str]:
    """A text whose lines are the prover's: the first after the label, the rest deeper than any label can stand."""
    for number, line in enumerate(lines):
        yield f"    {line}" if number else f"  {label}: {line}"


def _permitted(region: Region) -> Permitted:
    # The sentence usually carries the reason and an example already; neither is said twice.
    said = f"[{region.reason}]" in region.text
    shown = "  e.g. " in region.text
    return Permitted(
        text=visible(region.text),
        reason="" if said else visible(region.reason),
        witness="" if shown else visible(region.witness),
        uninspected=region.uninspected,
    )


def _permits(one: Card) -> Iterator[str]:
    if one.proof == "missing":
        yield "  Newly permits: unknown (the proposal just changed; look again)"
        return
    if not one.permits:
        nothing = "nothing" if one.proof == "complete" else "unknown (the proof did not finish)"
        yield f"  Newly permits: {nothing}"
        return
    yield "  Newly permits:"
    for region in one.permits:
        reason = f"  [{region.reason}]" if region.reason else ""
        yield f"    + {region.text}{reason}{'  (NOT INSPECTED)' if region.uninspected else ''}"
        if region.witness:
            yield f"      for example: {region.witness}"
    if one.proof == "incomplete":
        yield "    (the proof did not finish: there may be more)"
