"""Lengths of time as people type and read them."""

from __future__ import annotations

import datetime
import re

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> datetime.timedelta:
    """`30s`, `5m`, `1h`, `2d`. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not found:
        raise click.UsageError(f"invalid duration '{text}': expected a number and one of s, m, h, d (for example 5m)")
    return datetime.timedelta(seconds=int(found[1]) * _UNITS[found[2]])
