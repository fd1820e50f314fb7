"""What a tool that keeps the whole inbox on a screen must be told: sandboxes, recent decisions, observed denials.

Reads rows and makes events of them; decides nothing. Everything is bounded per sandbox, so that one noisy sandbox
cannot crowd the others out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway import chunks, observed, presence, records
from pyopenshell.gateway.store.schema import draft_chunks, observed_denials, sandboxes
from pyopenshell.wire.gen import pyopenshell_pb2

PER_SANDBOX: Final = 50
"""Newest decided chunks (approved and rejected each) and newest observed denials of one sandbox."""
IN_ALL: Final = 1000
"""Of each kind over all sandboxes."""

Event = pyopenshell_pb2.InboxEvent


def beginning(tx: sa.Connection, workspace: str | None, sandbox_id: str) -> Sequence[Event]:
    """Sandboxes in the order of their creation, then what was decided, oldest first, then what was observed."""
    of: list[sa.ColumnElement[bool]] = [sandboxes.c.deleted_ms.is_(None)]
    if workspace is not None:
        of.append(sandboxes.c.workspace == workspace)
    if sandbox_id:
        of.append(sandboxes.c.id == sandbox_id)
    found = {record.id: record for record in records.every(tx, *of)}
    ids = sa.select(sandboxes.c.id).where(*of)
    events = [presence.event(record) for record in found.values()]
    for chunk in _decided(tx, ids):
        event = presence.named(found[chunk.sandbox_id])
        event.chunk.CopyFrom(chunks.to_proto(chunk))
        events.append(event)
    for denial in _observed(tx, ids):
        event = presence.named(found[denial.sandbox_id])
        event.observed.CopyFrom(denial)
        events.append(event)
    return events


def _decided(tx: sa.Connection, ids: sa.Select[Any]) -> Iterator[chunks.Chunk]:
    table = draft_chunks.c
    newest = _newest(table.seq, table.sandbox_id, table.status)
    query = sa.select(table.seq, newest).where(table.status != "pending", table.sandbox_id.in_(ids)).subquery()
    wanted = sa.select(query.c.seq).where(query.c.place <= PER_SANDBOX).order_by(query.c.seq.desc()).limit(IN_ALL)
    yield from reversed(chunks.select(tx, table.seq.in_(wanted)))


def _observed(tx: sa.Connection, ids: sa.Select[Any]) -> Sequence[observed.Denial]:
    table = observed_denials.c
    query = sa.select(observed_denials, _newest(table.last_seen_ms, table.sandbox_id)).where(table.sandbox_id.in_(ids))
    ranked = query.subquery()
    wanted = sa.select(ranked).where(ranked.c.place <= PER_SANDBOX).order_by(ranked.c.last_seen_ms.desc()).limit(IN_ALL)
    return observed.from_rows(tx.execute(wanted))


def _newest(order: sa.Column[Any], *group: sa.Column[Any]) -> sa.Label[int]:
    return sa.func.row_number().over(partition_by=group, order_by=order.desc()).label("place")
