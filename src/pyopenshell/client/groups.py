"""Workspaces, their members, and templates: what sandboxes are grouped by and made from. Wire calls only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from pyopenshell.client import mapping, values
from pyopenshell.client.transport import OPENSHELL, Transport
from pyopenshell.wire.gen import datamodel_pb2 as data
from pyopenshell.wire.gen import openshell_pb2 as api

PAGE = 1000
_ROLES = {"user": api.WORKSPACE_ROLE_USER, "admin": api.WORKSPACE_ROLE_ADMIN}


class Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


P = TypeVar("P", bound=Page)


async def pages(fetch: Callable[[str], Awaitable[P]]) -> list[P]:
    """Every page of a listing; `fetch` takes the token of one."""
    found = [await fetch("")]
    while found[-1].next_page_token:
        found.append(await fetch(found[-1].next_page_token))
    return found


class Workspaces:
    """`gateway.workspaces`. Every call raises GatewayError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, name: str, *, labels: Mapping[str, str] | None = None) -> values.Workspace:
        request = api.CreateWorkspaceRequest(name=name, labels=labels or {})
        answer = await self._transport.call(OPENSHELL, "CreateWorkspace", request, api.CreateWorkspaceResponse)
        return mapping.workspace(answer.workspace)

    async def list(self, *, selector: str = "") -> list[values.Workspace]:
        """Every workspace, all pages, in order of creation."""

        async def fetch(token: str) -> api.ListWorkspacesResponse:
            request = api.ListWorkspacesRequest(page_size=PAGE, page_token=token, label_selector=selector)
            return await self._transport.call(OPENSHELL, "ListWorkspaces", request, api.ListWorkspacesResponse)

        return [mapping.workspace(one) for page in await pages(fetch) for one in page.workspaces]

    async def delete(self, name: str) -> bool:
        """True when it existed. It must be empty; members go with it."""
        request = api.DeleteWorkspaceRequest(name=name, allow_missing=True)
        answer = await self._transport.call(OPENSHELL, "DeleteWorkspace", request, api.DeleteWorkspaceResponse)
        return answer.outcome != api.DELETION_OUTCOME_ALREADY_ABSENT

    async def add_member(self, workspace: str, subject: str, role: str = "user") -> values.Member:
        """`role` is "user" or "admin"; a member gets the new role."""
        request = api.AddWorkspaceMemberRequest(
            workspace_scope=data.WorkspaceSelector(workspace=workspace), principal_subject=subject, role=_ROLES[role]
        )
        answer = await self._transport.call(OPENSHELL, "AddWorkspaceMember", request, api.AddWorkspaceMemberResponse)
        return mapping.member(answer.member)

    async def remove_member(self, workspace: str, subject: str) -> bool:
        """True when it was one."""
        request = api.RemoveWorkspaceMemberRequest(
            workspace_scope=data.WorkspaceSelector(workspace=workspace), principal_subject=subject, allow_missing=True
        )
        answer = await self._transport.call(
            OPENSHELL, "RemoveWorkspaceMember", request, api.RemoveWorkspaceMemberResponse
        )
        return answer.outcome != api.DELETION_OUTCOME_ALREADY_ABSENT

    async def members(self, workspace: str) -> Sequence[values.Member]:
        """All, in the order they were added."""
        scope = data.WorkspaceSelector(workspace=workspace)

        async def fetch(token: str) -> api.ListWorkspaceMembersResponse:
            request = api.ListWorkspaceMembersRequest(workspace_scope=scope, page_size=PAGE, page_token=token)
            kind = api.ListWorkspaceMembersResponse
            return await self._transport.call(OPENSHELL, "ListWorkspaceMembers", request, kind)

        return [mapping.member(one) for page in await pages(fetch) for one in page.members]


class Templates:
    """`gateway.templates`, in the gateway's workspace. Every call raises GatewayError."""

    def __init__(self, transport: Transport, workspace: str) -> None:
        self._transport, self._scope = transport, data.WorkspaceSelector(workspace=workspace)

    async def create(
        self,
        name: str,
        *,
        environment: Mapping[str, str] | None = None,
        cpu: str = "",
        memory: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> values.Template:
        template = api.SandboxWorkloadTemplate(metadata=data.ObjectMeta(name=name, labels=labels or {}))
        template.spec.workload.environment.update(environment or {})
        template.spec.workload.resources.cpu, template.spec.workload.resources.memory = cpu, memory
        request = api.CreateSandboxTemplateRequest(workspace_scope=self._scope, template=template)
        answer = await self._transport.call(OPENSHELL, "CreateSandboxTemplate", request, api.SandboxTemplateResponse)
        return mapping.template(answer.template)

    async def list(self, *, selector: str = "") -> list[values.Template]:
        """Every template of the workspace, in order of creation."""

        async def fetch(token: str) -> api.ListSandboxTemplatesResponse:
            request = api.ListSandboxTemplatesRequest(
                workspace_scope=self._scope, page_size=PAGE, page_token=token, label_selector=selector
            )
            kind = api.ListSandboxTemplatesResponse
            return await self._transport.call(OPENSHELL, "ListSandboxTemplates", request, kind)

        return [mapping.template(one) for page in await pages(fetch) for one in page.templates]

    async def delete(self, name: str) -> bool:
        """True when it existed. Sandboxes created from it go on as they are."""
        request = api.DeleteSandboxTemplateRequest(workspace_scope=self._scope, name=name, allow_missing=True)
        kind = api.DeleteSandboxTemplateResponse
        answer = await self._transport.call(OPENSHELL, "DeleteSandboxTemplate", request, kind)
        return answer.outcome != api.DELETION_OUTCOME_ALREADY_ABSENT
