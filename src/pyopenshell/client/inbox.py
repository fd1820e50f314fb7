"""What waits for a decision, one item after the other, and the decisions on it.

    async for item in gateway.inbox():
        if item.review.proven and item.chunk.security_notes == "":
            await item.approve(expires="10m")

Each decision is bound to what the item showed: where the proposal changed since, nothing is decided. Decides nothing
itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from pyopenshell.client import decide
from pyopenshell.client.durations import duration
from pyopenshell.client.errors import GatewayError
from pyopenshell.client.values import Chunk, Review

if TYPE_CHECKING:
    from pyopenshell.client.gateway import Gateway

FIRST_PAUSE, LAST_PAUSE = 0.25, 5.0
"""Seconds before a stream that broke is opened again."""
_FINAL = frozenset(("UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT", "NOT_FOUND"))


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """The policy that a decision led to."""

    policy_version: int
    policy_hash: str


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One proposal that waits, with its proof, as it stood when it was read.

    Texts in `chunk` and `review` may come from an agent: print them through `visible`. Decisions raise StaleError when
    the proposal is not what this item shows any more, and GatewayError with the gateway's own reason.
    """

    sandbox: str
    workspace: str
    chunk: Chunk
    review: Review | None
    _gateway: Gateway = dataclasses.field(repr=False)

    @property
    def id(self) -> str:
        return self.chunk.id

    @property
    def _shown(self) -> decide.Shown:
        return decide.Shown(self.sandbox, self.chunk.id, self.chunk.review_token, self.chunk.status)

    async def approve(self, *, expires: str | datetime.timedelta | None = None) -> Applied:
        """For good, or for a time: `expires="10m"` (s, m, h, d) or a timedelta."""
        limit = duration(expires) if isinstance(expires, str) else expires
        return Applied(*await decide.approve(self._gateway, self._shown, expires=limit))

    async def reject(self, reason: str) -> None:
        """The reason reaches the agent byte for byte."""
        await decide.reject(self._gateway, self._shown, reason)

    async def narrow(self) -> None:
        """Cut it down to the requests that were really refused. It stays pending and comes again, with a new proof.

        Raises NothingNarrowerError.
        """
        await decide.narrow(self._gateway, self._shown)

    async def undo(self) -> Applied:
        """Take back the approval that was made of this item; the policy becomes exactly what it would be without."""
        now = next((one for one in (await self._gateway.draft(self.sandbox)).chunks if one.id == self.id), None)
        if now is None or now.status != "approved":
            raise decide.StaleError(self._shown, now)
        return Applied(*await self._gateway.undo(self.sandbox, self.id))


class Inbox:
    """An async iterator of items: what waits now, then each proposal as it comes or changes. It never ends by itself.

    Goes on by itself where it was when the stream breaks or the gateway restarts. `cursor` is the place after the last
    item: hand it to the next `gateway.inbox(resume_after=…)`. An item may come twice, never not at all.
    """

    def __init__(self, gateway: Gateway, sandbox: str, *, all_workspaces: bool, resume_after: str) -> None:
        self._gateway, self._sandbox, self._all = gateway, sandbox, all_workspaces
        self.cursor = resume_after
        self._told: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Inbox of {self._sandbox or 'every sandbox'} after {self.cursor or 'nothing'}>"

    async def __aiter__(self) -> AsyncGenerator[Item]:
        pause = FIRST_PAUSE
        while True:
            try:
                async for item in self._once():
                    pause = FIRST_PAUSE
                    if item is not None:
                        yield item
            except GatewayError as error:
                if error.code in _FINAL:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)

    async def _once(self) -> AsyncGenerator[Item | None]:
        """One stream; None for what is no item, so that whoever reads knows that the stream lives."""
        stream = self._gateway.watch_inbox(self._sandbox, all_workspaces=self._all, resume_after=self.cursor)
        async for event in stream:
            chunk, item = event.chunk, None
            if chunk is not None and chunk.status != "pending":
                self._told.pop(chunk.id, None)
            elif chunk is not None and self._told.get(chunk.id) != chunk.review_token:
                item = await self._item(event.sandbox, event.workspace, chunk)
            if item is not None:
                self._told[item.id] = item.chunk.review_token
            yield item
            self.cursor = event.cursor or self.cursor  # only now: who stops while it decides gets the item again

    async def _item(self, sandbox: str, workspace: str, chunk: Chunk) -> Item | None:
        """None for one that is gone, or will come again because it has changed meanwhile."""
        gateway = self._gateway.at(workspace)
        try:
            review = (await gateway.reviews(sandbox, [chunk.id])).get(chunk.id)
        except GatewayError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        if review is not None and review.review_token != chunk.review_token:
            return None
        return Item(sandbox, workspace, chunk, review, gateway)
