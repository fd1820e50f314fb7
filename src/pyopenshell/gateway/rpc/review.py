"""RPCs for people that the published shape has no room for: proof, authorship, observed denials, one inbox. Thin."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable

from pyopenshell.gateway import leases, overview, presence
from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.errors import required
from pyopenshell.gateway.inbox import Inbox
from pyopenshell.gateway.principals import Caller, workspace_of, workspaces_of
from pyopenshell.gateway.rpc import scope
from pyopenshell.gateway.store import Store
from pyopenshell.wire.gen import pyopenshell_pb2


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
        """Pending chunks, `synced`, then changes. A reader that is too slow gets the beginning and `synced` again."""
        sandbox_id = ""
        if request.sandbox:
            workspace: str | None = workspace_of(request.workspace_scope)
            record = await self.store.run(
                lambda tx: scope.sandbox(tx, request.workspace_scope, request.sandbox, caller)
            )
            sandbox_id = record.id
        else:
            workspace = workspaces_of(request.workspace_scope, caller)
        # Subscribed first: what happens while the list is read comes after it, perhaps twice, never not at all.
        topics = ("inbox", presence.TOPIC) if request.overview else ("inbox",)
        with self.bus.subscribe(*topics) as changes:
            for event in await self._beginning(workspace, sandbox_id, request.overview):
                yield event
            async for message in changes:
                if message.dropped:
                    if request.overview:
                        yield pyopenshell_pb2.InboxEvent(workspace=workspace or "", restart=True)
                    for event in await self._beginning(workspace, sandbox_id, request.overview):
                        yield event
                elif _wanted(message.payload, workspace, sandbox_id):
                    yield message.payload

    async def GetOperatorStatus(
        self, request: pyopenshell_pb2.GetOperatorStatusRequest, caller: Caller
    ) -> pyopenshell_pb2.GetOperatorStatusResponse:
        return self.operator()

    async def _beginning(
        self, workspace: str | None, sandbox_id: str, everything: bool
    ) -> list[pyopenshell_pb2.InboxEvent]:
        events: list[pyopenshell_pb2.InboxEvent] = []
        if everything:
            events += await self.store.run(lambda tx: overview.beginning(tx, workspace, sandbox_id))
        events += await self.inbox.pending(workspace, sandbox_id)
        return [*events, pyopenshell_pb2.InboxEvent(sandbox_id=sandbox_id, workspace=workspace or "", synced=True)]


def _wanted(event: pyopenshell_pb2.InboxEvent, workspace: str | None, sandbox_id: str) -> bool:
    if sandbox_id:
        return event.sandbox_id == sandbox_id
    return workspace is None or event.workspace == workspace
