"""Connecting to one of several addresses: happy eyeballs (RFC 8305) among addresses that were judged before.

Decides order and timing. Resolves nothing, opens nothing itself, and never tries an address it was not given.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Connected = TypeVar("Connected")


def interleaved(addresses: Sequence[str]) -> list[str]:
    """Families in turn, that of the first address first; within a family the resolver's order (RFC 8305, 4)."""
    families: dict[bool, list[str]] = {}
    for address in addresses:
        families.setdefault(":" in address, []).append(address)
    turns = itertools.zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


async def first(
    addresses: Sequence[str],
    dial: Callable[[str], Awaitable[Connected]],
    discard: Callable[[Connected], None],
    stagger: float,
) -> Connected:
    """The first connection that stands. A next address is tried `stagger` seconds after the one before, or when one
    failed; what connects too late goes to `discard`. Raises the OSError that came last when all fail."""
    waiting = collections.deque(interleaved(addresses))
    if len(waiting) == 1:
        return await dial(waiting[0])
    running: set[asyncio.Future[Connected]] = set()
    error = OSError("no address")
    # Nothing is waited for once there is a winner, or nobody to tell: whoever is cancelled between here and the caller
    # would take the connection with it.
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(dial(waiting.popleft())))
            await asyncio.wait(running, timeout=stagger if waiting else None, return_when=asyncio.FIRST_COMPLETED)
            for attempt in [attempt for attempt in running if attempt.done()]:
                running.discard(attempt)
                try:
                    return attempt.result()
                except OSError as failed:
                    error = failed
        raise error
    finally:

        def over(attempt: asyncio.Future[Connected]) -> None:
            if not attempt.cancelled() and attempt.exception() is None:
                discard(attempt.result())

        for attempt in running:
            attempt.cancel()
            attempt.add_done_callback(over)
