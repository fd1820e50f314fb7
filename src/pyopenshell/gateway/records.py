"""The stored form of a sandbox and how it is read, listed and changed: rows only, inside transactions.

Decides nothing about life-cycles (sandboxes.py does).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway import limits, pages
from pyopenshell.gateway.clock import to_timestamp
from pyopenshell.gateway.errors import not_found
from pyopenshell.gateway.restarts import Restarts
from pyopenshell.gateway.store.schema import sandboxes
from pyopenshell.wire.gen import datamodel_pb2, openshell_pb2

READY: Final = "Ready"
ASSURANCE: Final = "Assurance"
LIMITS: Final = "Limits"
RESTARTED: Final = "Restarted"

CURSOR_TYPES: Final = (int, str, str, str)
_ORDER: Final = (sandboxes.c.created_ms, sandboxes.c.name, sandboxes.c.workspace, sandboxes.c.id)


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One stored sandbox."""

    id: str
    name: str
    workspace: str
    phase: int
    desired: str
    spec: openshell_pb2.SandboxSpec
    status: openshell_pb2.SandboxStatus
    labels: dict[str, str]
    annotations: dict[str, str]
    resource_version: int
    created_ms: int
    instance_id: str
    token_epoch: int
    template: str = ""
    """NAME@VERSION of the template it was created from."""
    owner: str = ""
    """The gateway whose driver runs it."""
    session: str = ""
    """Of its supervisor, while that is connected to another gateway than the owner."""

    def to_proto(self) -> openshell_pb2.Sandbox:
        name, _, version = self.template.rpartition("@")
        made_from = openshell_pb2.SandboxWorkloadTemplateProvenance(name=name, resource_version=version)
        return openshell_pb2.Sandbox(
            metadata=datamodel_pb2.ObjectMeta(
                id=self.id,
                name=self.name,
                workspace=self.workspace,
                labels=self.labels,
                annotations=self.annotations,
                resource_version=self.resource_version,
                created_time=to_timestamp(self.created_ms),
            ),
            spec=self.spec,
            status=self.status,
            created_from_workload_template=made_from if self.template else None,
        )

    @property
    def ready_condition(self) -> openshell_pb2.SandboxCondition | None:
        return next((condition for condition in self.status.conditions if condition.type == READY), None)


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What a life-cycle step makes of a sandbox: its phase and why."""

    phase: int
    reason: str
    message: str
    exit_code: int | None = None
    assurance: tuple[str, str, str] | None = None
    """(level, tier, what is not as it should be) of the walls as built; None: unchanged."""
    limits: Mapping[str, str] | None = None
    """How each limit holds; None: unchanged."""
    restarts: Restarts | None = None
    """How often it was started again by itself, and what is coming; None: unchanged."""

    @property
    def is_ready(self) -> bool:
        return self.phase == openshell_pb2.SANDBOX_PHASE_READY


def by_name(tx: sa.Connection, workspace: str, name: str) -> Record:
    """Raises GatewayError NOT_FOUND."""
    row = tx.execute(
        sa.select(sandboxes).where(
            sandboxes.c.workspace == workspace, sandboxes.c.name == name, sandboxes.c.deleted_ms.is_(None)
        )
    ).first()
    if row is None:
        raise not_found("sandbox not found")
    return _record(row)


def by_id(tx: sa.Connection, sandbox_id: str) -> Record:
    """Raises GatewayError NOT_FOUND."""
    row = tx.execute(sa.select(sandboxes).where(sandboxes.c.id == sandbox_id)).first()
    if row is None:
        raise not_found("sandbox not found")
    return _record(row)


def every(tx: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Record]:
    """All that meet the conditions, in order of creation."""
    return [_record(row) for row in tx.execute(sa.select(sandboxes).where(*conditions).order_by(*_ORDER))]


def page(
    tx: sa.Connection, workspace: str | None, selector: str, size: int, after: pages.Cursor | None
) -> tuple[list[Record], pages.Cursor | None]:
    """At most `size` sandboxes in order of creation, and the cursor of the next page if there is one."""
    query = sa.select(sandboxes).where(sandboxes.c.deleted_ms.is_(None))
    if workspace is not None:
        query = query.where(sandboxes.c.workspace == workspace)
    for key, value in limits.selector(selector).items():
        query = query.where(sandboxes.c.labels[key].as_string() == value)
    rows, cursor = pages.read(tx, query, _ORDER, size, after)
    return [_record(row) for row in rows], cursor


def insert(tx: sa.Connection, record: Record) -> None:
    """Raises sqlalchemy IntegrityError when the name is taken."""
    values = dataclasses.asdict(record)
    values |= {"spec": record.spec.SerializeToString(), "status": record.status.SerializeToString()}
    tx.execute(sandboxes.insert().values(values))


def write(tx: sa.Connection, sandbox_id: str, state: State, now_ms: int, **columns: Any) -> bool:
    """Store a state, and `columns` with it. Returns whether anything changed; False too when the row is gone."""
    row = tx.execute(sa.select(sandboxes).where(sandboxes.c.id == sandbox_id)).first()
    if row is None:
        return False
    record = _record(row)
    status = openshell_pb2.SandboxStatus.FromString(row.status)
    status.phase = state.phase  # type: ignore[assignment]
    if state.exit_code is None:
        status.ClearField("exit_code")
    else:
        status.exit_code = state.exit_code
    status.main_process_instance_id = columns.get("instance_id", record.instance_id)
    condition = next((found for found in status.conditions if found.type == READY), None)
    if condition is None:
        condition = status.conditions.add(type=READY)
    ready = "True" if state.is_ready else "False"
    if condition.status != ready or not condition.HasField("transition_time"):
        condition.transition_time.FromMilliseconds(now_ms)
    condition.status, condition.reason, condition.message = ready, state.reason, state.message
    if state.assurance is not None:
        level, tier, losses = state.assurance
        sound = level == "full" and tier in ("", "A")
        text = losses if tier in ("", "A") else "; ".join([f"tier {tier}", *([losses] if losses else [])])
        _condition(status, ASSURANCE, sound, level.capitalize(), text, now_ms)
    if state.limits is not None:
        weak = any(not how.startswith("cgroup") for how in state.limits.values())
        how = "; ".join(f"{kind}: {by}" for kind, by in state.limits.items())
        _condition(status, LIMITS, not weak, "Degraded" if weak else "Held", how, now_ms)
    if state.restarts is not None:
        _restarts(status, state.restarts, now_ms)
    blob = status.SerializeToString()
    if blob == row.status and all(getattr(record, key) == value for key, value in columns.items()):
        return False
    tx.execute(
        sandboxes.update()
        .where(sandboxes.c.id == sandbox_id)
        .values(phase=state.phase, status=blob, resource_version=record.resource_version + 1, **columns)
    )
    return True


def _restarts(status: openshell_pb2.SandboxStatus, told: Restarts, now_ms: int) -> None:
    new = status.restart_count != told.count
    status.restart_count = told.count
    status.ClearField("next_restart_time")
    if told.pending is not None:
        status.next_restart_time.FromMilliseconds(told.pending.due_ms)
    if told.count:
        _condition(status, RESTARTED, True, told.reason, told.message, now_ms)
        if new:
            for one in status.conditions:
                if one.type == RESTARTED:
                    one.transition_time.FromMilliseconds(now_ms)


def restarts(record: Record, into: Restarts) -> Restarts:
    """What is stored of a sandbox's restarts, put into `into`."""
    into.count = record.status.restart_count
    for one in record.status.conditions:
        if one.type == RESTARTED:
            into.reason, into.message = one.reason, one.message
    return into


def _condition(
    status: openshell_pb2.SandboxStatus, kind: str, holds: bool, reason: str, message: str, now_ms: int
) -> None:
    found = next((one for one in status.conditions if one.type == kind), None) or status.conditions.add(type=kind)
    word = "True" if holds else "False"
    if found.status != word or not found.HasField("transition_time"):
        found.transition_time.FromMilliseconds(now_ms)
    found.status, found.reason, found.message = word, reason, message


def _record(row: sa.Row[Any]) -> Record:
    return Record(
        id=row.id,
        name=row.name,
        workspace=row.workspace,
        phase=row.phase,
        desired=row.desired,
        spec=openshell_pb2.SandboxSpec.FromString(row.spec),
        status=openshell_pb2.SandboxStatus.FromString(row.status),
        labels=dict(row.labels),
        annotations=dict(row.annotations),
        resource_version=row.resource_version,
        created_ms=row.created_ms,
        instance_id=row.instance_id,
        token_epoch=row.token_epoch,
        template=row.template,
        owner=row.owner,
        session=row.session,
    )
