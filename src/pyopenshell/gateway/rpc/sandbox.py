"""Sandbox life-cycle RPCs (contract/gateway.md 1.2). Thin: reads the request, asks `Sandboxes`, writes the answer."""

from __future__ import annotations

import dataclasses
from typing import Final

from pyopenshell.gateway import pages
from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.principals import Caller, workspace_of, workspaces_of
from pyopenshell.gateway.records import CURSOR_TYPES
from pyopenshell.gateway.rpc import scope
from pyopenshell.gateway.rpc.scope import may_name
from pyopenshell.gateway.sandboxes import Sandboxes
from pyopenshell.wire.gen import openshell_pb2

READY_WAIT: Final = 10.0
"""Seconds CreateSandbox and StartSandbox wait for READY: the SDK's deadline is 30 s and it polls once a second
(contract/sdk.md 5), so an answer that is READY already saves it that second."""
HOLD: Final = 2.0
"""Seconds GetSandbox waits for a phase that is about to change."""
_MARGIN: Final = 1.0  # seconds of the client's deadline left for the answer to travel


@dataclasses.dataclass(frozen=True, slots=True)
class SandboxService:
    """Servicer of Create/Get/List/Delete/Stop/StartSandbox."""

    sandboxes: Sandboxes

    async def CreateSandbox(
        self, request: openshell_pb2.CreateSandboxRequest, caller: Caller
    ) -> openshell_pb2.SandboxResponse:
        workspace = workspace_of(request.workspace_scope)
        may_name(request.spec.template.image, caller)
        record = await self.sandboxes.create(request, workspace, caller.subject, _within(READY_WAIT, caller))
        return openshell_pb2.SandboxResponse(sandbox=record.to_proto())

    async def GetSandbox(
        self, request: openshell_pb2.GetSandboxRequest, caller: Caller
    ) -> openshell_pb2.SandboxResponse:
        workspace = workspace_of(request.workspace_scope)
        record = await self.sandboxes.get(workspace, scope.named(request.name), _within(HOLD, caller))
        return openshell_pb2.SandboxResponse(sandbox=record.to_proto())

    async def ListSandboxes(
        self, request: openshell_pb2.ListSandboxesRequest, caller: Caller
    ) -> openshell_pb2.ListSandboxesResponse:
        workspace = workspaces_of(request.workspace_scope, caller)
        size = pages.page_size(request.page_size)
        filters = ("*" if workspace is None else f"={workspace}", request.label_selector)
        after = pages.decode(request.page_token, "ListSandboxes", filters, CURSOR_TYPES)
        found, cursor = await self.sandboxes.page(workspace, request.label_selector, size, after)
        return openshell_pb2.ListSandboxesResponse(
            sandboxes=[record.to_proto() for record in found],
            next_page_token=pages.encode("ListSandboxes", filters, cursor) if cursor else "",
        )

    async def DeleteSandbox(
        self, request: openshell_pb2.DeleteSandboxRequest, caller: Caller
    ) -> openshell_pb2.DeleteSandboxResponse:
        workspace = workspace_of(request.workspace_scope)
        try:
            sandbox_id = await self.sandboxes.delete(workspace, scope.named(request.name))
        except GatewayError as error:
            if error.code == "NOT_FOUND" and request.allow_missing:
                return openshell_pb2.DeleteSandboxResponse(outcome=openshell_pb2.DELETION_OUTCOME_ALREADY_ABSENT)
            raise
        return openshell_pb2.DeleteSandboxResponse(
            outcome=openshell_pb2.DELETION_OUTCOME_COMPLETED, sandbox_id=sandbox_id
        )

    async def StopSandbox(
        self, request: openshell_pb2.StopSandboxRequest, caller: Caller
    ) -> openshell_pb2.SandboxResponse:
        record = await self.sandboxes.stop(workspace_of(request.workspace_scope), scope.named(request.name))
        return openshell_pb2.SandboxResponse(sandbox=record.to_proto())

    async def StartSandbox(
        self, request: openshell_pb2.StartSandboxRequest, caller: Caller
    ) -> openshell_pb2.SandboxResponse:
        workspace = workspace_of(request.workspace_scope)
        record = await self.sandboxes.start(workspace, scope.named(request.name), _within(READY_WAIT, caller))
        return openshell_pb2.SandboxResponse(sandbox=record.to_proto())


def _within(seconds: float, caller: Caller) -> float:
    """`seconds`, or less where the client would give up before the answer."""
    return seconds if caller.deadline is None else max(0.0, min(seconds, caller.deadline - _MARGIN))
