"""Makes text from agents safe to show to people: the one place where every front end escapes.

A reviewer must see what is there. Anything that could move the cursor, colour, reorder, hide or pad text is replaced
by a visible escape (attacks G-7); ordinary letters of any script stay as they are.
"""

from __future__ import annotations

import re
import unicodedata

_HIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
# Default_Ignorable_Code_Point and blank glyphs whose category says "letter", "mark" or "symbol"
# (Unicode 15, DerivedCoreProperties).
_INVISIBLE = (
    frozenset((0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0))
    | frozenset(range(0xFE00, 0xFE10))
    | frozenset(range(0xE0100, 0xE01F0))
)
_PADDING = re.compile(r" {4,}")
_MARKS_IN_A_ROW = 3
LIMIT = 4000
"""Characters shown of one text before it is cut; `-o json` has all of it."""


def _hidden(char: str) -> bool:
    if char == " ":
        return False
    category = unicodedata.category(char)
    return category in _HIDDEN_CATEGORIES or category == "Zs" or ord(char) in _INVISIBLE


def _escape(char: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if named:
        return named
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str, limit: int = LIMIT) -> str:
    """`text` on one line, with everything invisible or active escaped, padding folded, and cut after `limit`."""
    cut = len(text) - limit
    shown = text[:limit]
    if shown.isascii() and shown.isprintable():
        out = shown
    else:
        parts: list[str] = []
        marks = 0
        for char in shown:
            marks = marks + 1 if unicodedata.combining(char) else 0
            parts.append(_escape(char) if marks > _MARKS_IN_A_ROW or _hidden(char) else char)
        out = "".join(parts)
    out = _PADDING.sub(lambda run: f"[{len(run.group())} spaces]", out)
    return f"{out}... [{cut} more characters]" if cut > 0 else out


def visible_lines(text: str, limit: int = LIMIT) -> list[str]:
    """For texts whose lines are ours (proofs, policies): split at line feeds only, each line made visible.

    Leading spaces are kept: they are the text's own indentation, and callers put a deeper one before it.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        body = line.lstrip(" ")
        lines.append(" " * min(len(line) - len(body), 40) + visible(body, limit))
    return lines
