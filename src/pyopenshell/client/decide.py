"""A person's decisions on proposals, each bound to what that person was shown.

The gateway checks the review token of an approval. Here every decision is checked the same way before it is sent, so
that a card which changed under the person's eyes is shown again instead of decided. Nothing is decided here.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyopenshell.client.errors import GatewayError
from pyopenshell.client.narrow import narrower
from pyopenshell.client.values import Chunk

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway

MAX_REASON = 64 * 1024
"""Characters of a rejection's reason that the gateway takes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """One proposal as it stood on the person's screen."""

    sandbox: str
    id: str
    review_token: str
    status: str


class StaleError(Exception):
    """The proposal is not what was shown any more. `chunk` is what it is now, None when it is gone."""

    def __init__(self, shown: Shown, chunk: Chunk | None) -> None:
        super().__init__(
            "this proposal is gone: nothing was decided"
            if chunk is None
            else "this proposal changed since it was shown: nothing was decided. Look at it again"
        )
        self.shown, self.chunk = shown, chunk


class NothingNarrowerError(Exception):
    """No refused request on record is narrower than the proposal."""

    def __init__(self) -> None:
        super().__init__("no refused request on record is narrower than this proposal")


async def approve(gateway: Gateway, shown: Shown, *, expires: datetime.timedelta | None = None) -> tuple[int, str]:
    """Policy version and hash. With `expires` the approval ends by itself after so long; one that was shown as
    approved for a time gets the new time, from now. Raises StaleError, or GatewayError with the gateway's own reason.
    """
    await _unchanged(gateway, shown)
    try:
        return await gateway.approve(shown.sandbox, shown.id, shown.review_token, expires=expires)
    except GatewayError as error:
        if error.code in ("FAILED_PRECONDITION", "NOT_FOUND"):
            await _unchanged(gateway, shown)
        raise


async def reject(gateway: Gateway, shown: Shown, reason: str) -> None:
    """Refuse what is pending, revoke what was approved; the reason reaches the agent byte for byte."""
    await _unchanged(gateway, shown)
    await gateway.reject(shown.sandbox, shown.id, reason)


async def narrow(gateway: Gateway, shown: Shown) -> None:
    """Cut a pending proposal down to what was refused. It stays pending: its new proof must be looked at first."""
    chunk = await _unchanged(gateway, shown)
    rule = narrower(chunk.rule, await gateway.observed(shown.sandbox))
    if rule is None:
        raise NothingNarrowerError
    await gateway.edit(shown.sandbox, shown.id, rule)


async def undo(gateway: Gateway, shown: Shown) -> tuple[int, str]:
    """Take an approval back: the policy becomes exactly what it was, the proposal is pending again."""
    await _unchanged(gateway, shown)
    return await gateway.undo(shown.sandbox, shown.id)


async def approve_all(gateway: Gateway, shown: Sequence[Shown]) -> tuple[int, int]:
    """Exactly those listed, per sandbox in one revision each. Returns (approved, skipped).

    What changed, and what carries security notes, is skipped: each of those wants a look of its own.
    """
    approved = skipped = 0
    for sandbox in dict.fromkeys(one.sandbox for one in shown):
        # The gateway refuses the whole list when one of it was decided meanwhile.
        pending = {one.id for one in (await gateway.draft(sandbox, "pending")).chunks}
        listed = [one for one in shown if one.sandbox == sandbox]
        still = [one for one in listed if one.id in pending]
        skipped += len(listed) - len(still)
        if still:
            done, left, _ = await gateway.approve_all(sandbox, still, include_security_flagged=False)
            approved, skipped = approved + done, skipped + left
    return approved, skipped


async def _unchanged(gateway: Gateway, shown: Shown) -> Chunk:
    """The chunk, which still is as shown. Raises StaleError."""
    try:
        chunks = (await gateway.draft(shown.sandbox)).chunks
    except GatewayError as error:
        if error.code == "NOT_FOUND":
            raise StaleError(shown, None) from None
        raise
    chunk = next((one for one in chunks if one.id == shown.id), None)
    if chunk is None or chunk.review_token != shown.review_token or chunk.status != shown.status:
        raise StaleError(shown, chunk)
    return chunk
