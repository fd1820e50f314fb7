"""Which stored sandbox a request means, and whether the caller may mean it. Shared by the thin RPC classes."""

from __future__ import annotations

import sqlalchemy as sa

from pyopenshell.gateway import records
from pyopenshell.gateway.errors import GatewayError, denied, not_found, required
from pyopenshell.gateway.principals import Caller, workspace_of
from pyopenshell.gateway.records import Record
from pyopenshell.wire.gen import datamodel_pb2


def sandbox(
    tx: sa.Connection, scope: datamodel_pb2.WorkspaceSelector, name: str, caller: Caller, field: str = "sandbox"
) -> Record:
    """The sandbox of a workspace by name. A sandbox principal finds nobody but itself (contract/gateway.md 9.3)."""
    if not name:
        raise required(field)
    if not caller.is_sandbox:
        return records.by_name(tx, workspace_of(scope), name)
    try:
        found = records.by_id(tx, caller.sandbox_id)
    except GatewayError:
        found = None
    workspace = scope.workspace if scope.WhichOneof("selection") == "workspace" else ""
    if found is None or name not in (found.name, found.id) or (workspace and workspace != found.workspace):
        raise not_found("sandbox not found or not owned by caller")
    return found


def named(name: str) -> str:
    """The name a request gives. Raises GatewayError where it gives none."""
    if not name:
        raise required("name")
    return name


def chunk_id(text: str) -> str:
    """A chunk's id as a request names it. Raises GatewayError."""
    if not text:
        raise required("chunk_id")
    if len(text) > 64:
        raise not_found("chunk not found")
    return text


def may_name(image: str, caller: Caller) -> None:
    """An image by path shows what the gateway's user may read: that is not for everybody who may make sandboxes."""
    if image.startswith("/") and not caller.is_admin:
        raise denied("platform admin role required to name a path of the gateway's machine as an image")
