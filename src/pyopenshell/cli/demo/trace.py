"""The audit trail of the demo, as the sandbox and the gateway wrote it: the steps in order and the time between them.

Pure: log lines in, rows out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pyopenshell.client.values import LogLine

STEPS = ("HTTP:", "NET:OPEN", "CONFIG:PROPOSED", "CONFIG:APPROVED", "CONFIG:REJECTED", "CONFIG:LOADED")
"""Beginnings of the OCSF lines that tell the story; start-up lines are left out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """`at` and `since` in seconds: from the first row, and from the one before."""

    at: float
    since: float
    source: str
    message: str


def rows(lines: Sequence[LogLine]) -> list[Row]:
    """The story's OCSF lines in the order of their time."""
    told = sorted(
        (one for one in lines if one.level == "OCSF" and one.time and one.message.startswith(STEPS)),
        key=lambda one: one.time.timestamp() if one.time else 0.0,
    )
    found: list[Row] = []
    begun = previous = 0.0
    for one in told:
        now = one.time.timestamp() if one.time else 0.0
        begun, previous = (begun, previous) if found else (now, now)
        found.append(Row(now - begun, now - previous, one.source, one.message))
        previous = now
    return found


def missing(found: Sequence[Row], expected: Sequence[tuple[str, ...]]) -> list[str]:
    """Which of the expected steps do not occur, in this order. A step is words that one line must contain."""
    position = 0
    absent: list[str] = []
    for words in expected:
        match = next((n for n in range(position, len(found)) if all(word in found[n].message for word in words)), None)
        if match is None:
            absent.append(" ".join(words))
        else:
            position = match + 1
    return absent
