"""Escaping, cutting and redaction."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyopenshell.audit.text import field, one_line, shorten, visible, without_query


def test_visible_spells_out_what_a_terminal_would_obey() -> None:
    assert visible("a\x1b[31mb\u202ec\u200bd\u2028e\xa0f\ud800") == ("a\\x1b[31mb\\u202ec\\u200bd\\u2028e\\xa0f\\ud800")


def test_printable_text_of_any_script_stays() -> None:
    assert visible("Grüße, 世界 [x]") == "Grüße, 世界 [x]"


def test_field_has_no_separators() -> None:
    assert field("a b[c]") == "a\\x20b\\x5bc\\x5d"


def test_one_line_joins_lines() -> None:
    assert one_line("a\nb\r\nc\td") == "a b  c d"


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_shorten_keeps_whole_characters_and_the_limit(text: str, limit: int) -> None:
    cut = shorten(text.encode("utf-8", "replace").decode(), limit)
    assert len(cut.removesuffix("...").encode()) <= max(limit, len(cut.encode()) if "..." not in cut else limit)
    cut.encode("utf-8")


def test_query_redaction_stops_at_space_and_bracket() -> None:
    assert without_query("GET /a?token=x [r:/b?y=1] ?z") == "GET /a?[redacted] [r:/b?[redacted]] ?[redacted]"


@given(st.text(alphabet="ab?] =", max_size=40))
def test_redaction_leaves_no_query_byte(text: str) -> None:
    for piece in without_query(text).split("?")[1:]:
        assert piece.startswith("[redacted]")
