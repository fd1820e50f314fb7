"""The order in which the inbox changed: every change gets a place, which is its id for readers (`feed` reads it back).

One row per proposal or denial, the newest change of each. Places are given in the order of commits, since transactions
that write come one after the other on every database.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from pyopenshell.gateway.store.schema import digest, inbox_log, meta
from pyopenshell.wire.gen import pyopenshell_pb2

KEPT: Final = 50_000
"""Rows over all sandboxes. A reader who missed more begins anew."""
CHUNK, OBSERVED, GONE = "chunk", "observed", "gone"
DENIAL_KEY: Final = ("host", "port", "binary", "method", "path", "reason")
"""Names an observed denial within its sandbox."""

_TRIM_EVERY: Final = 1000
_FLOOR: Final = "inbox_floor"

Event = pyopenshell_pb2.InboxEvent


def append(tx: sa.Connection, event: Event, kind: str, subject: str) -> None:
    """Give `event`, which names its sandbox, its place in the order."""
    table = inbox_log.c
    same = (table.sandbox_id == event.sandbox_id, table.kind == kind, table.subject == subject)
    tx.execute(inbox_log.delete().where(*same))
    inserted = tx.execute(
        inbox_log.insert().values(
            sandbox_id=event.sandbox_id,
            sandbox_name=event.sandbox_name,
            workspace=event.workspace,
            kind=kind,
            subject=subject,
        )
    )
    assert inserted.inserted_primary_key is not None
    seq = int(inserted.inserted_primary_key[0])
    event.cursor = cursor(seq)
    if seq % _TRIM_EVERY == 0:
        _trim(tx)


def sandbox_gone(tx: sa.Connection, event: Event) -> None:
    """The sandbox and everything of it is about to be deleted."""
    tx.execute(inbox_log.delete().where(inbox_log.c.sandbox_id == event.sandbox_id))
    append(tx, event, GONE, "")


def denial_subject(denial: pyopenshell_pb2.ObservedDenial) -> str:
    """Names a row of observed denials within its sandbox, in few bytes (an index holds it): its `key`."""
    return digest(*(getattr(denial, name) for name in DENIAL_KEY))


def cursor(seq: int) -> str:
    return f"{seq:020d}"


def floor(tx: sa.Connection) -> int:
    """Changes up to here may have been forgotten."""
    return int(tx.scalar(sa.select(meta.c.value).where(meta.c.key == _FLOOR)) or 0)


def _trim(tx: sa.Connection) -> None:
    oldest = tx.scalar(sa.select(inbox_log.c.seq).order_by(inbox_log.c.seq.desc()).offset(KEPT).limit(1))
    if oldest is not None:
        tx.execute(inbox_log.delete().where(inbox_log.c.seq <= oldest))
        tx.execute(meta.delete().where(meta.c.key == _FLOOR))
        tx.execute(meta.insert().values(key=_FLOOR, value=str(oldest)))
