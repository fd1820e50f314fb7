"""Template RPCs (contract/gateway.md 1.2, sdk.md 3). Thin."""

from __future__ import annotations

import dataclasses

from pyopenshell.gateway import pages
from pyopenshell.gateway.errors import not_found, required
from pyopenshell.gateway.principals import Caller, workspace_of, workspaces_of
from pyopenshell.gateway.rpc import scope
from pyopenshell.gateway.rpc.scope import may_name
from pyopenshell.gateway.templates import CURSOR_TYPES, Templates
from pyopenshell.wire.gen import openshell_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class TemplateService:
    """Servicer of Create/Get/List/DeleteSandboxTemplate."""

    templates: Templates

    async def CreateSandboxTemplate(
        self, request: openshell_pb2.CreateSandboxTemplateRequest, caller: Caller
    ) -> openshell_pb2.SandboxTemplateResponse:
        if not request.HasField("template"):
            raise required("template")
        may_name(request.template.spec.workload.image, caller)
        template = await self.templates.create(workspace_of(request.workspace_scope), request.template)
        return openshell_pb2.SandboxTemplateResponse(template=template)

    async def GetSandboxTemplate(
        self, request: openshell_pb2.GetSandboxTemplateRequest, caller: Caller
    ) -> openshell_pb2.SandboxTemplateResponse:
        template = await self.templates.get(workspace_of(request.workspace_scope), scope.named(request.name))
        return openshell_pb2.SandboxTemplateResponse(template=template)

    async def ListSandboxTemplates(
        self, request: openshell_pb2.ListSandboxTemplatesRequest, caller: Caller
    ) -> openshell_pb2.ListSandboxTemplatesResponse:
        workspace = workspaces_of(request.workspace_scope, caller)
        size = pages.page_size(request.page_size)
        filters = ("*" if workspace is None else f"={workspace}", request.label_selector)
        after = pages.decode(request.page_token, "ListSandboxTemplates", filters, CURSOR_TYPES)
        found, cursor = await self.templates.page(workspace, request.label_selector, size, after)
        return openshell_pb2.ListSandboxTemplatesResponse(
            templates=found, next_page_token=pages.encode("ListSandboxTemplates", filters, cursor) if cursor else ""
        )

    async def DeleteSandboxTemplate(
        self, request: openshell_pb2.DeleteSandboxTemplateRequest, caller: Caller
    ) -> openshell_pb2.DeleteSandboxTemplateResponse:
        name = scope.named(request.name)
        if await self.templates.delete(workspace_of(request.workspace_scope), name):
            return openshell_pb2.DeleteSandboxTemplateResponse(outcome=openshell_pb2.DELETION_OUTCOME_COMPLETED)
        if not request.allow_missing:
            raise not_found(f"sandbox template '{name[:100]}' not found")
        return openshell_pb2.DeleteSandboxTemplateResponse(outcome=openshell_pb2.DELETION_OUTCOME_ALREADY_ABSENT)
