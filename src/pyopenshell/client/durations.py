"""Lengths of time as people type and read them, on every surface."""

from __future__ import annotations

import datetime
import re

from pyopenshell.audit.text import spoken

__all__ = ["PRESETS", "duration", "spoken"]

PRESETS = (("10m", "10 minutes"), ("1h", "1 hour"), ("8h", "8 hours"))
"""What an approval for a time is offered for, as typed and in words."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> datetime.timedelta:
    """`30s`, `5m`, `1h`, `2d`. Raises ValueError, with words for the person who typed it."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if not found:
        raise ValueError(f"invalid duration '{text}': expected a number and one of s, m, h, d (for example 5m)")
    return datetime.timedelta(seconds=int(found[1]) * _UNITS[found[2]])
