"""RPCs for people that the published shape has no room for: proof, authorship, observed denials, one inbox. Thin."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import sqlalchemy as sa

from pyopenshell.gateway import feed, leases, order, overview, pages, presence
from pyopenshell.gateway.bus import Bus, Message
from pyopenshell.gateway.errors import required
from pyopenshell.gateway.inbox import Inbox
from pyopenshell.gateway.principals import Caller, workspace_of, workspaces_of
from pyopenshell.gateway.rpc import scope
from pyopenshell.gateway.store import Store
from pyopenshell.wire.gen import pyopenshell_pb2

Event = pyopenshell_pb2.InboxEvent


@dataclasses.dataclass(frozen=True, slots=True)
class ReviewService:
    """Servicer of pyopenshell.v1.Review. `operator` tells the gateway's own state."""

    store: Store
    bus: Bus
    inbox: Inbox
    operator: Callable[[], pyopenshell_pb2.GetOperatorStatusResponse]

    async def ApproveChunk(
        self, request: pyopenshell_pb2.ApproveChunkRequest, caller: Caller
    ) -> pyopenshell_pb2.ApproveChunkResponse:
        if not request.HasField("lease"):
            raise required("lease")
        record = await self.store.run(lambda tx: scope.sandbox(tx, request.workspace_scope, request.sandbox, caller))
        applied = await self.inbox.approve(
            record.id,
            scope.chunk_id(request.chunk_id),
            request.review_token,
            caller.actor,
            lease_ms=leases.checked(request.lease),
        )
        (review,) = await self.inbox.reviews(record.id, [request.chunk_id])
        return pyopenshell_pb2.ApproveChunkResponse(
            policy_version=applied.version, policy_hash=applied.hash, lease=review.lease
        )

    async def ListChunkReviews(
        self, request: pyopenshell_pb2.ListChunkReviewsRequest, caller: Caller
    ) -> pyopenshell_pb2.ListChunkReviewsResponse:
        record = await self.store.run(lambda tx: scope.sandbox(tx, request.workspace_scope, request.sandbox, caller))
        reviews = await self.inbox.reviews(record.id, list(request.chunk_ids))
        return pyopenshell_pb2.ListChunkReviewsResponse(reviews=reviews)

    async def ListObservedDenials(
        self, request: pyopenshell_pb2.ListObservedDenialsRequest, caller: Caller
    ) -> pyopenshell_pb2.ListObservedDenialsResponse:
        record = await self.store.run(lambda tx: scope.sandbox(tx, request.workspace_scope, request.sandbox, caller))
        return pyopenshell_pb2.ListObservedDenialsResponse(denials=await self.inbox.observed(record.id))

    async def WatchInbox(
        self, request: pyopenshell_pb2.WatchInboxRequest, caller: Caller
    ) -> AsyncIterator[pyopenshell_pb2.InboxEvent]:
        """Pending chunks, `synced`, then changes. A reader that was too slow gets what it missed and `synced` again."""
        sandbox_id = ""
        if request.sandbox:
            workspace: str | None = workspace_of(request.workspace_scope)
            record = await self.store.run(
                lambda tx: scope.sandbox(tx, request.workspace_scope, request.sandbox, caller)
            )
            sandbox_id = record.id
        else:
            workspace = workspaces_of(request.workspace_scope, caller)
        watch = _Watch(self, workspace, sandbox_id, request.overview)
        # Subscribed first: what happens while the list is read comes after it, perhaps twice, never not at all.
        topics = ("inbox", presence.TOPIC) if request.overview else ("inbox",)
        with self.bus.subscribe(*topics) as changes:
            beginning = watch.resumed(request.resume_after_cursor) if request.resume_after_cursor else watch.anew()
            async for event in beginning:
                yield event
            async for message in changes:
                async for event in watch.on(message):
                    yield event

    async def ListDecisions(
        self, request: pyopenshell_pb2.ListDecisionsRequest, caller: Caller
    ) -> pyopenshell_pb2.ListDecisionsResponse:
        record = await self.store.run(lambda tx: scope.sandbox(tx, request.workspace_scope, request.sandbox, caller))
        size, filters = pages.page_size(request.page_size), (record.id, request.chunk_id)
        place = pages.decode(request.page_token, "ListDecisions", filters, (int,))
        found = await self.inbox.history(
            record.id, request.chunk_id, after=int(place[0]) if place else 0, limit=size + 1
        )
        token = pages.encode("ListDecisions", filters, (found[size - 1].seq,)) if len(found) > size else ""
        return pyopenshell_pb2.ListDecisionsResponse(
            decisions=[event.to_record() for event in found[:size]], next_page_token=token
        )

    async def GetOperatorStatus(
        self, request: pyopenshell_pb2.GetOperatorStatusRequest, caller: Caller
    ) -> pyopenshell_pb2.GetOperatorStatusResponse:
        return self.operator()


class _Watch:
    """One reader of the inbox and its place in the order of changes."""

    def __init__(self, service: ReviewService, workspace: str | None, sandbox_id: str, overview: bool) -> None:
        self._service, self._workspace, self._sandbox_id = service, workspace, sandbox_id
        self._overview = overview
        self._place = 0

    async def anew(self, *, restart: bool = False) -> AsyncIterator[Event]:
        """Everything, then `synced`."""

        def read(tx: sa.Connection) -> tuple[Sequence[Event], int]:
            told = overview.beginning(tx, self._workspace, self._sandbox_id) if self._overview else ()
            return told, feed.last(tx)

        if restart:
            yield self._mark(restart=True)
        told, place = await self._service.store.run(read)
        for event in (*told, *await self._service.inbox.pending(self._workspace, self._sandbox_id)):
            yield event
        self._place = place
        yield self._mark(synced=True, cursor=order.cursor(place))

    async def resumed(self, cursor: str) -> AsyncIterator[Event]:
        """What changed since, then `synced`."""
        seq = feed.parsed(cursor)
        if self._overview or not await self._service.store.run(lambda tx: feed.known(tx, seq)):
            # Sandboxes have no place in the order: who keeps a picture of them begins anew.
            async for event in self.anew(restart=True):
                yield event
            return
        self._place = seq
        async for event in self._missed():
            yield event

    async def on(self, message: Message) -> AsyncIterator[Event]:
        if message.dropped:
            again = self.anew(restart=True) if self._overview else self.resumed(order.cursor(self._place))
            async for event in again:
                yield event
        elif self._wanted(message.payload):
            seq = int(message.payload.cursor or 0)
            if seq and seq <= self._place:
                return  # told already
            self._place = max(self._place, seq)
            yield message.payload

    async def _missed(self) -> AsyncIterator[Event]:
        while True:
            found, place, more = await self._service.store.run(
                lambda tx: feed.after(tx, self._place, self._workspace, self._sandbox_id)
            )
            for event in found:
                self._place = int(event.cursor)
                yield event
            self._place = max(self._place, place)
            if not more:
                break
        yield self._mark(synced=True, cursor=order.cursor(self._place))

    def _mark(self, **marks: Any) -> Event:
        return Event(sandbox_id=self._sandbox_id, workspace=self._workspace or "", **marks)

    def _wanted(self, event: Event) -> bool:
        if self._sandbox_id:
            return event.sandbox_id == self._sandbox_id
        return self._workspace is None or event.workspace == self._workspace
