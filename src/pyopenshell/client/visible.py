"""Makes text from agents fit to show to people: escaped (by `audit.text`), padding folded, length bounded.

A reviewer must see what is there. The escaping is shared with the log lines; what is added is for screens (G-7).
"""

from __future__ import annotations

import datetime
import re

from pyopenshell.audit import text as audit_text

_PADDING = re.compile(r" {4,}")
LIMIT = 4000
"""Characters shown of one text before it is cut; `-o json` has all of it."""


def visible(text: str, limit: int = LIMIT) -> str:
    """`text` on one line, with everything invisible or active escaped, padding folded, and cut after `limit`."""
    cut = len(text) - limit
    out = _PADDING.sub(lambda run: f"[{len(run.group())} spaces]", audit_text.visible(text[:limit]))
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


def stamp(moment: datetime.datetime | None) -> str:
    """`YYYY-MM-DD HH:MM:SS` in UTC, `-` for none."""
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else "-"
