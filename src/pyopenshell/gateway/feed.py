"""What changed in the inbox since a place in its order, for a reader who was away. Reads what `order` wrote.

What changed several times is told once, as it is now.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway import chunks, observed, order
from pyopenshell.gateway.errors import invalid
from pyopenshell.gateway.store.schema import draft_chunks, inbox_log
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2

PAGE: Final = 500
_CURSOR: Final = re.compile(r"[0-9]{20}\Z")

Event = pyopenshell_pb2.InboxEvent


def parsed(text: str) -> int:
    """Raises GatewayError INVALID_ARGUMENT."""
    if not _CURSOR.match(text):
        raise invalid("resume_after_cursor is malformed", field="resume_after_cursor")
    return int(text)


def last(tx: sa.Connection) -> int:
    """The place of the newest change that was ever made; 0 when none was."""
    return max(tx.scalar(sa.select(sa.func.max(inbox_log.c.seq))) or 0, order.floor(tx))


def known(tx: sa.Connection, seq: int) -> bool:
    """Can everything after `seq` be told?"""
    return order.floor(tx) <= seq <= last(tx)


def after(tx: sa.Connection, seq: int, workspace: str | None, sandbox_id: str) -> tuple[Sequence[Event], int, bool]:
    """The next changes after `seq`, at most PAGE; the place up to which that is all; and whether there are more."""
    table = inbox_log.c
    query = sa.select(inbox_log).where(table.seq > seq)
    if sandbox_id:
        query = query.where(table.sandbox_id == sandbox_id)
    elif workspace is not None:
        query = query.where(table.workspace == workspace)
    rows = tx.execute(query.order_by(table.seq).limit(PAGE)).all()
    if not rows:
        return [], last(tx), False
    return [event for row in rows if (event := _event(tx, row)) is not None], rows[-1].seq, len(rows) == PAGE


def _event(tx: sa.Connection, row: sa.Row[Any]) -> Event | None:
    event = Event(
        sandbox_id=row.sandbox_id, sandbox_name=row.sandbox_name, workspace=row.workspace, cursor=order.cursor(row.seq)
    )
    if row.kind == order.GONE:
        event.gone = True
        return event
    if row.kind == order.CHUNK:
        table = draft_chunks.c
        chunk = chunks.find(tx, table.id == row.subject, table.sandbox_id == row.sandbox_id)
        told = chunks.to_proto(chunk) if chunk else openshell_pb2.PolicyChunk(id=row.subject, status="cleared")
        event.chunk.CopyFrom(told)
        return event
    denial = observed.find(tx, row.sandbox_id, row.subject)
    if denial is None:
        return None  # made room for others: nothing a reader could show
    event.observed.CopyFrom(denial)
    return event
