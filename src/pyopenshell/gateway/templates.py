"""Workload templates: what sandboxes of one kind have in common, under a name (contract/gateway.md 1.2, sdk.md 3).

Decides what a template may hold and what a request becomes with it; a sandbox keeps what it was created with.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf import json_format

from pyopenshell.drivers.base import Capabilities
from pyopenshell.gateway import limits, pages, specs
from pyopenshell.gateway.clock import Clock, system_clock, to_timestamp
from pyopenshell.gateway.errors import exists, invalid, not_found, required
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import workload_templates
from pyopenshell.gateway.workspaces import require_active
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2

CURSOR_TYPES: Final = (int, str, str, str)
MAX_BYTES: Final = 64 * 1024
_TABLE: Final = workload_templates.c
_ORDER: Final = (_TABLE.created_ms, _TABLE.name, _TABLE.workspace, _TABLE.id)

Template = openshell_pb2.SandboxWorkloadTemplate


@dataclasses.dataclass(frozen=True, slots=True)
class Templates:
    """All templates of one gateway."""

    store: Store
    clock: Clock = system_clock
    drivers: Mapping[str, Capabilities] = dataclasses.field(default_factory=lambda: specs.LOCAL)

    async def create(self, workspace: str, template: Template) -> Template:
        """Raises GatewayError for a template no sandbox could be created from."""
        meta = template.metadata
        if not meta.name:
            raise required("template.metadata.name")
        limits.resource_name(meta.name, "template")
        limits.labels(meta.labels)
        limits.labels(meta.annotations, "annotations")
        if template.spec.ByteSize() > MAX_BYTES:
            raise invalid(f"template is larger than {MAX_BYTES // 1024} KiB", field="template.spec")
        if template.spec.HasField("desired_service_level"):
            raise specs.unsupported("template.spec.desired_service_level", "sandboxes start in milliseconds anyway")
        specs.checked(
            applied(openshell_pb2.CreateSandboxRequest(spec=openshell_pb2.SandboxSpec()), template), self.drivers
        )
        row = {
            "id": str(uuid.uuid4()),
            "workspace": workspace,
            "name": meta.name,
            "labels": dict(meta.labels),
            "annotations": dict(meta.annotations),
            "spec": template.spec.SerializeToString(),
            "created_ms": self.clock(),
        }

        def insert(tx: sa.Connection) -> Template:
            require_active(tx, workspace)
            try:
                tx.execute(workload_templates.insert().values(row))
            except sa.exc.IntegrityError:
                raise exists(f"sandbox template '{meta.name}' already exists") from None
            return find(tx, workspace, meta.name)

        return await self.store.run(insert)

    async def get(self, workspace: str, name: str) -> Template:
        """Raises GatewayError NOT_FOUND."""
        return await self.store.run(lambda tx: find(tx, workspace, name))

    async def page(
        self, workspace: str | None, selector: str, size: int, after: pages.Cursor | None
    ) -> tuple[list[Template], pages.Cursor | None]:
        """At most `size` templates in order of creation, and the cursor of the next page if there is one."""
        query = sa.select(workload_templates)
        if workspace is not None:
            query = query.where(_TABLE.workspace == workspace)
        for key, value in limits.selector(selector).items():
            query = query.where(_TABLE.labels[key].as_string() == value)
        rows, cursor = await self.store.run(lambda tx: pages.read(tx, query, _ORDER, size, after))
        return [_proto(row) for row in rows], cursor

    async def delete(self, workspace: str, name: str) -> bool:
        """Returns whether there was one. Sandboxes created from it go on as they are."""
        gone = workload_templates.delete().where(_TABLE.workspace == workspace, _TABLE.name == name)
        return bool(await self.store.run(lambda tx: tx.execute(gone).rowcount))


def find(tx: sa.Connection, workspace: str, name: str) -> Template:
    """Raises GatewayError NOT_FOUND."""
    row = tx.execute(sa.select(workload_templates).where(_TABLE.workspace == workspace, _TABLE.name == name)).first()
    if row is None:
        raise not_found(f"sandbox template '{name[:100]}' not found")
    return _proto(row)


def applied(request: openshell_pb2.CreateSandboxRequest, template: Template) -> openshell_pb2.CreateSandboxRequest:
    """The request with what the template says where the request says nothing. Pure."""
    made = openshell_pb2.CreateSandboxRequest()
    made.CopyFrom(request)
    made.ClearField("workload_template")
    workload, target = template.spec.workload, made.spec.template
    if workload.image and not target.image:
        target.image = workload.image
    for key, value in workload.environment.items():
        target.environment.setdefault(key, value)
    asked = {kind: text for kind in ("cpu", "memory") if (text := getattr(workload.resources, kind))}
    given = json_format.MessageToDict(target.resources)
    if asked and isinstance(given.setdefault("limits", {}), dict):
        given["limits"] = {**asked, **given["limits"]}
        target.resources.Clear()
        target.resources.update(given)
    if workload.resources.HasField("gpu") and not made.spec.resource_requirements.HasField("gpu"):
        made.spec.resource_requirements.gpu.CopyFrom(workload.resources.gpu)
    for driver in template.spec.driver_config:
        if driver not in target.driver_config:
            target.driver_config[driver] = template.spec.driver_config[driver]
    return made


def _proto(row: sa.Row[Any]) -> Template:
    return Template(
        metadata=datamodel_pb2.ObjectMeta(
            id=row.id,
            name=row.name,
            workspace=row.workspace,
            labels=row.labels,
            annotations=row.annotations,
            resource_version=row.resource_version,
            created_time=to_timestamp(row.created_ms),
        ),
        spec=openshell_pb2.SandboxWorkloadTemplateSpec.FromString(row.spec),
    )
