"""Workspace RPCs (contract/gateway.md 1.6, sdk.md 3)."""

from __future__ import annotations

import dataclasses

from pyopenshell.gateway import pages
from pyopenshell.gateway.errors import not_found, required
from pyopenshell.gateway.principals import Caller, workspace_of
from pyopenshell.gateway.rpc import scope
from pyopenshell.gateway.workspaces import CURSOR_TYPES, MEMBER_CURSOR_TYPES, Workspaces
from pyopenshell.wire.gen import openshell_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class WorkspaceService:
    """Servicer of Create/Get/List/DeleteWorkspace and of the RPCs on members."""

    workspaces: Workspaces

    async def CreateWorkspace(
        self, request: openshell_pb2.CreateWorkspaceRequest, caller: Caller
    ) -> openshell_pb2.CreateWorkspaceResponse:
        workspace = await self.workspaces.create(scope.named(request.name), dict(request.labels))
        return openshell_pb2.CreateWorkspaceResponse(workspace=workspace)

    async def GetWorkspace(
        self, request: openshell_pb2.GetWorkspaceRequest, caller: Caller
    ) -> openshell_pb2.GetWorkspaceResponse:
        return openshell_pb2.GetWorkspaceResponse(workspace=await self.workspaces.get(scope.named(request.name)))

    async def ListWorkspaces(
        self, request: openshell_pb2.ListWorkspacesRequest, caller: Caller
    ) -> openshell_pb2.ListWorkspacesResponse:
        size, filters = pages.page_size(request.page_size), (request.label_selector,)
        after = pages.decode(request.page_token, "ListWorkspaces", filters, CURSOR_TYPES)
        found, cursor = await self.workspaces.page(request.label_selector, size, after)
        token = pages.encode("ListWorkspaces", filters, cursor) if cursor else ""
        return openshell_pb2.ListWorkspacesResponse(workspaces=found, next_page_token=token)

    async def DeleteWorkspace(
        self, request: openshell_pb2.DeleteWorkspaceRequest, caller: Caller
    ) -> openshell_pb2.DeleteWorkspaceResponse:
        if await self.workspaces.delete(scope.named(request.name)):
            return openshell_pb2.DeleteWorkspaceResponse(outcome=openshell_pb2.DELETION_OUTCOME_COMPLETED)
        if not request.allow_missing:
            raise not_found("workspace not found")
        return openshell_pb2.DeleteWorkspaceResponse(outcome=openshell_pb2.DELETION_OUTCOME_ALREADY_ABSENT)

    async def AddWorkspaceMember(
        self, request: openshell_pb2.AddWorkspaceMemberRequest, caller: Caller
    ) -> openshell_pb2.AddWorkspaceMemberResponse:
        workspace = workspace_of(request.workspace_scope)
        member = await self.workspaces.add_member(workspace, request.principal_subject, request.role)
        return openshell_pb2.AddWorkspaceMemberResponse(member=member)

    async def RemoveWorkspaceMember(
        self, request: openshell_pb2.RemoveWorkspaceMemberRequest, caller: Caller
    ) -> openshell_pb2.RemoveWorkspaceMemberResponse:
        if not request.principal_subject:
            raise required("principal_subject")
        if await self.workspaces.remove_member(workspace_of(request.workspace_scope), request.principal_subject):
            return openshell_pb2.RemoveWorkspaceMemberResponse(outcome=openshell_pb2.DELETION_OUTCOME_COMPLETED)
        if not request.allow_missing:
            raise not_found("workspace member not found")
        return openshell_pb2.RemoveWorkspaceMemberResponse(outcome=openshell_pb2.DELETION_OUTCOME_ALREADY_ABSENT)

    async def ListWorkspaceMembers(
        self, request: openshell_pb2.ListWorkspaceMembersRequest, caller: Caller
    ) -> openshell_pb2.ListWorkspaceMembersResponse:
        workspace, size = workspace_of(request.workspace_scope), pages.page_size(request.page_size)
        after = pages.decode(request.page_token, "ListWorkspaceMembers", (workspace,), MEMBER_CURSOR_TYPES)
        found, cursor = await self.workspaces.members(workspace, size, after)
        token = pages.encode("ListWorkspaceMembers", (workspace,), cursor) if cursor else ""
        return openshell_pb2.ListWorkspaceMembersResponse(members=found, next_page_token=token)
