"""What time it is, as the one injected dependency of everything that records or compares times.

Must not know why somebody asks. Times are milliseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pyopenshell.wire.wellknown import Timestamp

Clock = Callable[[], int]
"""Returns "now" in milliseconds since the epoch."""


def system_clock() -> int:
    """The machine's wall clock."""
    return time.time_ns() // 1_000_000


def to_timestamp(milliseconds: int | None) -> Timestamp | None:
    """None stays None, so an unset time stays unset on the wire."""
    if milliseconds is None:
        return None
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def from_timestamp(stamp: Timestamp) -> int:
    """0 for an unset message."""
    return stamp.seconds * 1000 + stamp.nanos // 1_000_000
