"""Lengths of time on the command line."""

from __future__ import annotations

import datetime

import click

from pyopenshell.client import durations


def duration(text: str) -> datetime.timedelta:
    """`30s`, `5m`, `1h`, `2d`. Raises UsageError."""
    try:
        return durations.duration(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
