"""Workspaces: named groups of sandboxes. `default` is always there (contract/gateway.md 1.6).

Decides which exist and when one may go; who may enter is decided by role alone on an embedded gateway.
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway import limits, pages
from pyopenshell.gateway.clock import Clock, system_clock, to_timestamp
from pyopenshell.gateway.errors import exists, invalid, not_found, precondition, required
from pyopenshell.gateway.principals import DEFAULT_WORKSPACE
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import providers, sandboxes, workload_templates, workspace_members, workspaces
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2

ACTIVE: Final = datamodel_pb2.WORKSPACE_PHASE_ACTIVE
CURSOR_TYPES: Final = (int, str)
MEMBER_CURSOR_TYPES: Final = (int, str)
MAX_MEMBERS: Final = 1000
"""contract/gateway.md 1.6."""
_SUBJECT: Final = 512
_RESOURCES: Final = {"sandbox": sandboxes, "provider": providers, "sandbox template": workload_templates}
_ORDER: Final = (workspaces.c.created_ms, workspaces.c.name)


def require_active(tx: sa.Connection, name: str) -> None:
    """Raises GatewayError when `name` is unknown or on its way out."""
    if name == DEFAULT_WORKSPACE:
        return
    phase = tx.scalar(sa.select(workspaces.c.phase).where(workspaces.c.name == name))
    if phase is None:
        raise not_found(f"workspace '{name[:100]}' not found")
    if phase != ACTIVE:
        raise precondition(f"workspace '{name}' is being deleted")


@dataclasses.dataclass(frozen=True, slots=True)
class Workspaces:
    """All workspaces of one gateway."""

    store: Store
    clock: Clock = system_clock

    async def open(self) -> None:
        """Make `default` exist."""

        def ensure(tx: sa.Connection) -> None:
            if tx.scalar(sa.select(workspaces.c.id).where(workspaces.c.name == DEFAULT_WORKSPACE)) is None:
                self._insert(tx, DEFAULT_WORKSPACE, {})

        await self.store.run(ensure)

    async def create(self, name: str, labels: dict[str, str]) -> datamodel_pb2.Workspace:
        limits.routable_name(name, "workspace")
        limits.labels(labels)

        def insert(tx: sa.Connection) -> datamodel_pb2.Workspace:
            try:
                self._insert(tx, name, labels)
            except sa.exc.IntegrityError:
                raise exists(f"workspace '{name}' already exists") from None
            return _get(tx, name)

        return await self.store.run(insert)

    async def get(self, name: str) -> datamodel_pb2.Workspace:
        return await self.store.run(lambda tx: _get(tx, name))

    async def page(
        self, selector: str, size: int, after: pages.Cursor | None
    ) -> tuple[list[datamodel_pb2.Workspace], pages.Cursor | None]:
        """At most `size` workspaces in order of creation, and the cursor of the next page if there is one."""
        query = sa.select(workspaces)
        for key, value in limits.selector(selector).items():
            query = query.where(workspaces.c.labels[key].as_string() == value)
        rows, cursor = await self.store.run(lambda tx: pages.read(tx, query, _ORDER, size, after))
        return [_proto(row) for row in rows], cursor

    async def delete(self, name: str) -> bool:
        """Remove an empty workspace. Returns whether there was one."""
        if name == DEFAULT_WORKSPACE:
            raise precondition("the default workspace cannot be deleted")

        def remove(tx: sa.Connection) -> bool:
            held = [
                kind
                for kind, table in _RESOURCES.items()
                if tx.scalar(sa.select(table.c.id).where(table.c.workspace == name).limit(1)) is not None
            ]
            if held:
                raise precondition(f"workspace '{name}' still contains resources: {', '.join(held)}")
            return bool(tx.execute(workspaces.delete().where(workspaces.c.name == name)).rowcount)

        return await self.store.run(remove)

    # ---- members ------------------------------------------------------------------------------------------------

    async def add_member(self, workspace: str, subject: str, role: int) -> openshell_pb2.WorkspaceMember:
        """Make somebody a member, or give a member another role. Raises GatewayError."""
        if not subject:
            raise required("principal_subject")
        if len(subject) > _SUBJECT or not subject.isprintable():
            raise invalid(f"principal_subject must be at most {_SUBJECT} printable characters", "principal_subject")
        if role not in (openshell_pb2.WORKSPACE_ROLE_USER, openshell_pb2.WORKSPACE_ROLE_ADMIN):
            raise invalid("role must be USER or ADMIN", "role")
        mine = sa.and_(workspace_members.c.workspace == workspace, workspace_members.c.subject == subject)

        def add(tx: sa.Connection) -> openshell_pb2.WorkspaceMember:
            _get(tx, workspace)
            require_active(tx, workspace)
            known = tx.execute(sa.select(workspace_members).where(mine)).first()
            if known is None:
                count = sa.select(sa.func.count()).where(workspace_members.c.workspace == workspace)
                if (tx.scalar(count) or 0) >= MAX_MEMBERS:
                    raise precondition(f"workspace '{workspace}' has {MAX_MEMBERS} members already")
                row = {"workspace": workspace, "subject": subject, "role": role}
                tx.execute(workspace_members.insert().values(id=str(uuid.uuid4()), created_ms=self.clock(), **row))
            elif known.role != role:
                changed = {"role": role, "resource_version": known.resource_version + 1}
                tx.execute(workspace_members.update().where(mine).values(changed))
            return _member(tx.execute(sa.select(workspace_members).where(mine)).one())

        return await self.store.run(add)

    async def remove_member(self, workspace: str, subject: str) -> bool:
        """Returns whether it was one."""
        gone = workspace_members.delete().where(
            workspace_members.c.workspace == workspace, workspace_members.c.subject == subject
        )
        return bool(await self.store.run(lambda tx: tx.execute(gone).rowcount))

    async def members(
        self, workspace: str, size: int, after: pages.Cursor | None
    ) -> tuple[list[openshell_pb2.WorkspaceMember], pages.Cursor | None]:
        """At most `size`, in the order they were added, and the cursor of the next page if there is one."""
        query = sa.select(workspace_members).where(workspace_members.c.workspace == workspace)
        order = (workspace_members.c.created_ms, workspace_members.c.subject)

        def read(tx: sa.Connection) -> tuple[list[openshell_pb2.WorkspaceMember], pages.Cursor | None]:
            _get(tx, workspace)
            rows, cursor = pages.read(tx, query, order, size, after)
            return [_member(row) for row in rows], cursor

        return await self.store.run(read)

    def _insert(self, tx: sa.Connection, name: str, labels: dict[str, str]) -> None:
        tx.execute(
            workspaces.insert().values(
                name=name, id=str(uuid.uuid4()), phase=ACTIVE, labels=labels, annotations={}, created_ms=self.clock()
            )
        )


def _member(row: sa.Row[Any]) -> openshell_pb2.WorkspaceMember:
    return openshell_pb2.WorkspaceMember(
        metadata=datamodel_pb2.ObjectMeta(
            id=row.id,
            name=row.subject,
            workspace=row.workspace,
            resource_version=row.resource_version,
            created_time=to_timestamp(row.created_ms),
        ),
        principal_subject=row.subject,
        role=row.role,
    )


def _get(tx: sa.Connection, name: str) -> datamodel_pb2.Workspace:
    row = tx.execute(sa.select(workspaces).where(workspaces.c.name == name)).first()
    if row is None:
        raise not_found("workspace not found")
    return _proto(row)


def _proto(row: sa.Row[Any]) -> datamodel_pb2.Workspace:
    return datamodel_pb2.Workspace(
        metadata=datamodel_pb2.ObjectMeta(
            id=row.id,
            name=row.name,
            labels=row.labels,
            annotations=row.annotations,
            resource_version=row.resource_version,
            created_time=to_timestamp(row.created_ms),
        ),
        status=datamodel_pb2.WorkspaceStatus(phase=row.phase),
    )
