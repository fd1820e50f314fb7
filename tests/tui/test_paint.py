"""What an agent wrote cannot become anything but text, in any part of the screen; colours come from the theme."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.content import Content

from pyopenshell.client import cards, mapping
from pyopenshell.client.live import Sighting
from pyopenshell.client.values import LogLine
from pyopenshell.tui import paint, theme
from tests.cli import samples

CODES = ("\x1b[2J", "\u202e", "\u200b", "\x9b31m", "a\nb", "\u2800")
HOSTILE = ("[@click=app.quit]x[/]", "[red]", *CODES, "[/]", " " * 300)
texts = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8)), max_size=5).map("".join)


def drawn(evil: str) -> list[Content]:
    """Everything the screen can show of one proposal, one denial, one log line, all of it this text."""
    chunk = mapping.chunk(samples.chunk())
    endpoint = dataclasses.replace(chunk.rule.endpoints[0], host=f"h{evil}")
    rule = dataclasses.replace(chunk.rule, endpoints=(endpoint,), binaries=(evil,))
    fields = ("rule_name", "binary", "rationale", "security_notes", "validation_result", "application_error")
    words: dict[str, Any] = dict.fromkeys(fields, evil)
    chunk = dataclasses.replace(chunk, rule=rule, rejection_reason=evil, status=evil or "x", **words)
    review = mapping.review(samples.review())
    region = dataclasses.replace(review.newly_permits[0], text=evil, reason=evil, witness=evil)
    review = dataclasses.replace(review, newly_permits=(region,), mode=evil, decided_by=evil, superseded_by=evil)
    seen = dataclasses.replace(mapping.observed(samples.observed()), path=evil, reason=evil, binary=evil, policy=evil)
    card = cards.card_of(evil, chunk, review)
    return [
        paint.card(card, "notice"),
        paint.summary(card),
        paint.row(chunk, evil),
        paint.observed([Sighting("id", evil, seen)], named=True),
        paint.sandbox(dataclasses.replace(mapping.sandbox(samples.sandbox()), name=evil, phase=evil), 1),
        Content(paint.log_line(LogLine(None, evil, evil, evil, evil, {evil: evil})).plain),
    ]


@given(texts)
def test_no_text_is_markup_or_moves_anything(evil: str) -> None:
    for content in drawn(evil):
        assert all(char == "\n" or char.isprintable() for char in content.plain)
        assert not any("@click" in str(span.style) or "meta" in str(span.style) for span in content.spans)


def test_hostile_words_are_spelled_out() -> None:
    card, summary, row, observed, *_ = (
        content.plain for content in drawn("[@click=app.quit]x[/]\x1b[2J\u202e\n● fake")
    )
    for shown in (card, summary, row, observed):
        assert "[@click=app.quit]x[/]\\x1b[2J\\u202e\\n● fake" in shown


def test_a_proof_of_another_version_is_not_shown() -> None:
    chunk = mapping.chunk(samples.chunk())
    review = dataclasses.replace(mapping.review(samples.review()), review_token="another")
    assert "not known yet" in paint.card(cards.card_of("box", chunk, review)).plain


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "look closely"),
        ({"validation_result": cards.NO_FINDINGS}, "no findings"),
        ({"validation_result": cards.NO_FINDINGS, "security_notes": "x"}, "look closely"),
        ({"application_error": "cannot"}, "blocked"),
    ],
)
def test_verdicts(change: dict[str, Any], verdict: str) -> None:
    chunk = dataclasses.replace(mapping.chunk(samples.chunk()), **change)
    assert cards.card_of("box", chunk, None).verdict == verdict


def test_uninspected_is_never_called_harmless() -> None:
    chunk = dataclasses.replace(mapping.chunk(samples.chunk()), validation_result=cards.NO_FINDINGS)
    raw = dataclasses.replace(chunk.rule.endpoints[0], protocol="", rules=())
    chunk = dataclasses.replace(chunk, rule=dataclasses.replace(chunk.rule, endpoints=(raw,)))
    assert cards.card_of("box", chunk, None).verdict == "not inspected"


@pytest.mark.parametrize(
    ("wanted", "environ", "name"),
    [
        ("auto", {}, "openshell-dark"),
        ("auto", {"COLORFGBG": "0;15"}, "openshell-light"),
        ("auto", {"COLORFGBG": "15;default;0"}, "openshell-dark"),
        ("light", {"COLORFGBG": "15;0"}, "openshell-light"),
        ("dark", {"NO_COLOR": ""}, "ansi-dark"),
        ("light", {"NO_COLOR": "1"}, "ansi-light"),
    ],
)
def test_theme(wanted: str, environ: dict[str, str], name: str) -> None:
    assert theme.choose(wanted, environ) == name
