"""Cards, list rows and log lines as coloured text. Pure; nothing in here parses markup, so no text can be one."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from rich.text import Text
from textual.content import Content

from pyopenshell.client import cards, visible
from pyopenshell.client.cards import Card
from pyopenshell.client.live import Sighting
from pyopenshell.client.values import Chunk, LogLine, Sandbox

DIM, STRONG, GOOD, BAD, WARN, KEY = "dim", "bold", "$text-success", "$text-error", "$text-warning", "$text-primary"
MARKS = {"pending": ("●", WARN), "approved": ("✓", GOOD), "rejected": ("✗", BAD)}
_PHASES = {"Ready": ("●", GOOD), "Error": ("●", BAD)}
_LEVELS = {"ERROR": "red", "WARN": "yellow"}

Part = str | Content | tuple[str, str]


def text(*parts: Part) -> Content:
    return Content.assemble(*parts)


def everyone(pending: int) -> Content:
    return text(("all sandboxes", STRONG), _count(pending))


def sandbox(one: Sandbox, pending: int) -> Content:
    glyph, style = _PHASES.get(one.phase, ("○", DIM))
    phase = "" if one.phase == "Ready" else f" {visible(one.phase).lower()}"
    return text((glyph, style), " ", visible(one.name, 60), (phase, DIM), _count(pending))


def row(chunk: Chunk, sandbox_name: str) -> Content:
    """Three lines: where to, what there, then how it looks and whose it is. `sandbox_name` is "" where it is plain."""
    card = cards.card_of(sandbox_name, chunk, None)
    glyph, style = MARKS.get(card.status, ("?", DIM))
    verdict = card.verdict if card.status == "pending" else card.status
    colour = {"no findings": GOOD, "blocked": BAD}.get(verdict, WARN) if card.status == "pending" else style
    where, what = card.target
    facts = [
        card.rule,
        *([visible(sandbox_name, 40)] if sandbox_name else []),
        *([f"{card.hits}x"] if card.hits > 1 else []),
    ]
    return text(
        (glyph, style), " ", (where, STRONG), "\n  ", what, "\n  ", (verdict, colour), (f" · {' · '.join(facts)}", DIM)
    )


def card(one: Card, notice: str = "", now: datetime.datetime | None = None) -> Content:
    """The whole proposal, the proof first: that is what the decision is about. `now`: left out, it is now."""
    glyph, style = MARKS.get(one.status, ("?", DIM))
    head: list[Part] = []
    if notice:
        head += [(f" {notice} ", f"{WARN} reverse"), "\n\n"]
    head += [(f"{glyph} {one.status}", f"{style} bold"), "  ", (one.rule, STRONG), (f"  {one.id[:8]}", DIM), "\n"]
    told = f"in {visible(one.sandbox)}"
    told += f", {one.author}" if one.author else ""
    told += f", {one.hits} times, last {one.last_seen}" if one.hits > 1 else f", {one.last_seen}"
    return text(*head, (told, DIM), "\n", *_limit(one, now), *_proof(one), *_facts(one))


def _limit(one: Card, now: datetime.datetime | None) -> Iterator[Part]:
    if one.expires is not None:
        yield (f"ends {cards.remaining(one, now or datetime.datetime.now(datetime.UTC))}\n", f"{WARN} bold")


def _proof(one: Card) -> Iterator[Part]:
    yield from _title("Approving would newly permit" if one.status != "approved" else "Newly permitted")
    if one.proof == "missing":
        yield ("not known yet: the proof is being fetched\n", WARN)
        return
    for region in one.permits:
        yield from (("+ ", GOOD), (region.text, STRONG))
        if region.reason and region.reason != "new grant":
            yield (f"  [{region.reason}]", WARN)
        if region.uninspected:
            yield ("  NOT INSPECTED", f"{BAD} bold")
        yield "\n"
        if region.witness:
            yield (f"for example {region.witness}\n", DIM)
    if not one.permits and one.proof == "complete":
        yield "nothing that is not permitted already\n"
    if one.proof == "incomplete":
        yield ("the proof did not finish: there may be more\n", f"{BAD} bold")


def _facts(one: Card) -> Iterator[Part]:
    if one.application:
        yield from _title("It cannot be applied")
        yield from _block(one.application, BAD)
    if one.security:
        yield from _title("Security notes")
        yield from _block([one.security], WARN)
    if one.prover:
        yield from _title("Findings")
        yield from _block(one.prover, GOOD if one.clean and one.inspected else WARN)
    yield from _title("Asks for")
    yield from _block([*one.endpoints, "by " + (", ".join(one.binaries) or "nobody")], "")
    if one.rationale:
        yield from _title("The agent says" if one.mode != "mechanistic" else "Why")
        yield from _block([one.rationale], "italic")
    if one.reason:
        yield from _title("Reason given")
        yield from _block([one.reason], "")
    if one.decided_by or one.superseded_by:
        yield from _title("Decided")
        yield from _block([f"by {one.decided_by or '-'}, {one.decided}"], "")
        if one.superseded_by:
            yield from _block([f"superseded by {one.superseded_by}"], "")
    yield (f"\nconfidence {one.confidence}, candidate {one.candidate or '-'}, id {visible(one.id)}", DIM)


def summary(one: Card) -> Content:
    """For a bulk approval: what it would newly permit, and nothing that is not needed to say yes or no."""
    return text(("● ", WARN), (one.rule, STRONG), (f"  in {visible(one.sandbox)}", DIM), "\n", *_proof_lines(one))


def _proof_lines(one: Card) -> Iterator[Part]:
    yield from list(_proof(one))[3:]  # without its title


def observed(found: Sequence[Sighting], *, named: bool) -> Content:
    """Counted and shown only."""
    if not found:
        return text(("No request was refused by an inspected endpoint.", DIM))
    parts: list[Part] = [
        ("Requests that inspected endpoints refused. Counted and shown, never a rule by themselves.\n", DIM)
    ]
    for one in found:
        where = f"  in {visible(one.sandbox)}" if named else ""
        parts += ["\n", (cards.observed_title(one.denial), STRONG), "\n  ", cards.observed_why(one.denial), "\n  "]
        parts += [(cards.observed_count(one.denial) + where, DIM), "\n"]
    return text(*parts)


def log_line(line: LogLine) -> Text:
    row = cards.log_row(line)
    colour = _LEVELS.get(row.level, "")
    fields = f" {row.fields}" if row.fields else ""
    return Text.assemble((row.time, "dim"), " ", (f"{row.source:<7} ", "dim"), (row.message, colour), (fields, "dim"))


def remark(message: str) -> Text:
    """Ours, between the lines of a log."""
    return Text(f"-- {message} --", "dim")


def _count(pending: int) -> Part:
    return (f"  {pending} pending" if pending else "", f"{WARN} bold")


def _title(title: str) -> Iterator[Part]:
    yield "\n"
    yield (title, KEY)
    yield "\n"


def _block(lines: Sequence[str], style: str) -> Iterator[Part]:
    for line in lines:
        yield (line, style) if style else line
        yield "\n"
