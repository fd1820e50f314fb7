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
from pyopenshell.gateway.errors import exists, not_found, precondition
from pyopenshell.gateway.principals import DEFAULT_WORKSPACE
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import sandboxes, workspaces
from pyopenshell.wire.gen import datamodel_pb2

ACTIVE: Final = datamodel_pb2.WORKSPACE_PHASE_ACTIVE
CURSOR_TYPES: Final = (int, str)
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
        if after is not None:
            query = query.where(sa.tuple_(*_ORDER) > sa.tuple_(*(sa.literal(part) for part in after)))
        rows = await self.store.run(lambda tx: tx.execute(query.order_by(*_ORDER).limit(size + 1)).all())
        found = [_proto(row) for row in rows[:size]]
        return found, (rows[size - 1].created_ms, rows[size - 1].name) if len(rows) > size else None

    async def delete(self, name: str) -> bool:
        """Remove an empty workspace. Returns whether there was one."""
        if name == DEFAULT_WORKSPACE:
            raise precondition("the default workspace cannot be deleted")

        def remove(tx: sa.Connection) -> bool:
            if tx.scalar(sa.select(sandboxes.c.id).where(sandboxes.c.workspace == name).limit(1)) is not None:
                raise precondition(f"workspace '{name}' still contains resources: sandbox")
            return bool(tx.execute(workspaces.delete().where(workspaces.c.name == name)).rowcount)

        return await self.store.run(remove)

    def _insert(self, tx: sa.Connection, name: str, labels: dict[str, str]) -> None:
        tx.execute(
            workspaces.insert().values(
                name=name, id=str(uuid.uuid4()), phase=ACTIVE, labels=labels, annotations={}, created_ms=self.clock()
            )
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
