"""RPCs on proposals in the published wire shape (contract/gateway.md 4). Thin: names to ids, results to messages."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from pyopenshell.gateway.errors import required
from pyopenshell.gateway.inbox import Inbox
from pyopenshell.gateway.principals import Caller
from pyopenshell.gateway.rpc import scope
from pyopenshell.gateway.store import Store
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2


class _Named(Protocol):
    """Every request here names one sandbox of one workspace."""

    @property
    def workspace_scope(self) -> datamodel_pb2.WorkspaceSelector: ...
    @property
    def sandbox(self) -> str: ...


@dataclasses.dataclass(frozen=True, slots=True)
class DraftService:
    """Servicer of SubmitPolicyAnalysis and everything about draft chunks."""

    store: Store
    inbox: Inbox

    async def SubmitPolicyAnalysis(
        self, request: openshell_pb2.SubmitPolicyAnalysisRequest, caller: Caller
    ) -> openshell_pb2.SubmitPolicyAnalysisResponse:
        if not request.name:
            raise required("name")
        record = await self.store.run(
            lambda tx: scope.sandbox(tx, request.workspace_scope, request.name, caller, "name")
        )
        return await self.inbox.submit(record.id, request)

    async def GetDraftPolicy(
        self, request: openshell_pb2.GetDraftPolicyRequest, caller: Caller
    ) -> openshell_pb2.GetDraftPolicyResponse:
        sandbox_id = await self._sandbox(request, caller)
        # A sandbox asks for the fate of its proposals; whole policies are for reviewers.
        return await self.inbox.list(sandbox_id, request.status_filter, bodies=not caller.is_sandbox)

    async def ApproveDraftChunk(
        self, request: openshell_pb2.ApproveDraftChunkRequest, caller: Caller
    ) -> openshell_pb2.ApproveDraftChunkResponse:
        sandbox_id = await self._sandbox(request, caller)
        applied = await self.inbox.approve(
            sandbox_id, scope.chunk_id(request.chunk_id), request.review_token, caller.actor
        )
        return openshell_pb2.ApproveDraftChunkResponse(policy_version=applied.version, policy_hash=applied.hash)

    async def RejectDraftChunk(
        self, request: openshell_pb2.RejectDraftChunkRequest, caller: Caller
    ) -> openshell_pb2.RejectDraftChunkResponse:
        sandbox_id = await self._sandbox(request, caller)
        await self.inbox.reject(sandbox_id, scope.chunk_id(request.chunk_id), request.reason, caller.actor)
        return openshell_pb2.RejectDraftChunkResponse()

    async def ApproveAllDraftChunks(
        self, request: openshell_pb2.ApproveAllDraftChunksRequest, caller: Caller
    ) -> openshell_pb2.ApproveAllDraftChunksResponse:
        sandbox_id = await self._sandbox(request, caller)
        bulk = await self.inbox.approve_all(
            sandbox_id,
            [(scope.chunk_id(approval.chunk_id), approval.review_token) for approval in request.approvals],
            caller.actor,
            include_flagged=request.include_security_flagged,
        )
        return openshell_pb2.ApproveAllDraftChunksResponse(
            policy_version=bulk.applied.version,
            policy_hash=bulk.applied.hash,
            chunks_approved=bulk.approved,
            chunks_skipped=bulk.skipped,
        )

    async def EditDraftChunk(
        self, request: openshell_pb2.EditDraftChunkRequest, caller: Caller
    ) -> openshell_pb2.EditDraftChunkResponse:
        sandbox_id = await self._sandbox(request, caller)
        rule = request.proposed_rule if request.HasField("proposed_rule") else None
        await self.inbox.edit(sandbox_id, scope.chunk_id(request.chunk_id), rule, caller.actor)
        return openshell_pb2.EditDraftChunkResponse()

    async def UndoDraftChunk(
        self, request: openshell_pb2.UndoDraftChunkRequest, caller: Caller
    ) -> openshell_pb2.UndoDraftChunkResponse:
        sandbox_id = await self._sandbox(request, caller)
        applied = await self.inbox.undo(sandbox_id, scope.chunk_id(request.chunk_id), caller.actor)
        return openshell_pb2.UndoDraftChunkResponse(policy_version=applied.version, policy_hash=applied.hash)

    async def ClearDraftChunks(
        self, request: openshell_pb2.ClearDraftChunksRequest, caller: Caller
    ) -> openshell_pb2.ClearDraftChunksResponse:
        sandbox_id = await self._sandbox(request, caller)
        cleared = await self.inbox.clear(sandbox_id, caller.actor)
        return openshell_pb2.ClearDraftChunksResponse(chunks_cleared=cleared)

    async def GetDraftHistory(
        self, request: openshell_pb2.GetDraftHistoryRequest, caller: Caller
    ) -> openshell_pb2.GetDraftHistoryResponse:
        events = await self.inbox.history(await self._sandbox(request, caller))
        return openshell_pb2.GetDraftHistoryResponse(entries=[event.to_proto() for event in events])

    async def _sandbox(self, request: _Named, caller: Caller) -> str:
        record = await self.store.run(lambda tx: scope.sandbox(tx, request.workspace_scope, request.sandbox, caller))
        return record.id
