"""What was refused and is nothing to draft from: requests of inspected endpoints, names, bare addresses.

Counted and shown, never a proposal by themselves (design.md 1). Bounded per sandbox: what was seen
longest ago makes room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway.clock import Clock, from_timestamp, to_timestamp
from pyopenshell.gateway.order import DENIAL_KEY
from pyopenshell.gateway.store.schema import digest, observed_denials
from pyopenshell.wire.gen import openshell_pb2, pyopenshell_pb2

KEPT: Final = 1000
"""Distinct (host, port, binary, method, path, reason) per sandbox."""
PER_CALL: Final = 500
"""Request samples used of one submission."""
_STAGES: Final = frozenset({"l7", "dns", "bypass"})
"""Requests, names that no rule names, connections to addresses that have no name."""
_COUNT_LIMIT: Final = 2**53

Denial = pyopenshell_pb2.ObservedDenial


def record(
    tx: sa.Connection, sandbox_id: str, summaries: Iterable[openshell_pb2.DenialSummary], clock: Clock
) -> Sequence[Denial]:
    """Count the L7 samples of a submission. Returns the rows they fell on, as they are now."""
    rows = [row for summary in summaries for row in _rows(sandbox_id, summary, clock())][:PER_CALL]
    for row in rows:
        _count(tx, row)
    if rows:
        _trim(tx, sandbox_id)
    return [found for row in rows if (found := _get(tx, row)) is not None]


def read(tx: sa.Connection, sandbox_id: str) -> Sequence[Denial]:
    """Most recently seen first."""
    query = sa.select(observed_denials).where(observed_denials.c.sandbox_id == sandbox_id)
    return from_rows(tx.execute(query.order_by(observed_denials.c.last_seen_ms.desc())))


def from_rows(rows: Iterable[sa.Row[Any]]) -> Sequence[Denial]:
    """Rows with the columns of the table as messages."""
    return [_to_proto(row) for row in rows]


def _rows(sandbox_id: str, summary: openshell_pb2.DenialSummary, now: int) -> Iterable[dict[str, Any]]:
    if not (summary.l7_inspection_active or summary.denial_stage in _STAGES):
        return
    last = min(max(from_timestamp(summary.last_seen_time), 0), now) or now
    first = min(max(from_timestamp(summary.first_seen_time), 0), last) or last
    policy, denial_id, reason = _split(summary.deny_reason)
    for sample in summary.l7_request_samples:
        row = {
            "sandbox_id": sandbox_id,
            "host": summary.host.lower()[:253],
            "port": min(summary.port, 65535),
            "binary": summary.binary[:4096],
            "method": sample.method[:32],
            # The sandbox sends canonical paths; a query that slipped through must still never be stored.
            "path": sample.path.partition("?")[0][:2048],
            "policy": policy,
            "reason": reason,
            "denial_id": denial_id,
            "count": max(1, sample.count),
            "first_seen_ms": first,
            "last_seen_ms": last,
        }
        yield row | {"key": digest(*(row[name] for name in DENIAL_KEY))}


def _split(deny_reason: str) -> tuple[str, str, str]:
    """Rule, denial id, reason. The wire has no fields for the first two: the supervisor may prefix them, as
    `[policy:NAME] [denial:ID] `."""
    policy, rest = _prefix("[policy:", deny_reason)
    denial_id, reason = _prefix("[denial:", rest)
    return policy[:253], denial_id[:64], reason[:1024]


def _prefix(key: str, text: str) -> tuple[str, str]:
    if not text.startswith(key) or "] " not in text:
        return "", text
    value, _, rest = text.removeprefix(key).partition("] ")
    return value, rest


def _count(tx: sa.Connection, row: dict[str, Any]) -> None:
    """One row more, or what is known of the same request brought up to date."""
    known = tx.execute(sa.select(observed_denials).where(*_same(row))).first()
    if known is None:
        tx.execute(observed_denials.insert().values(row))
        return
    tx.execute(
        observed_denials.update()
        .where(*_same(row))
        .values(
            count=min(known._mapping["count"] + row["count"], _COUNT_LIMIT),
            first_seen_ms=min(known.first_seen_ms, row["first_seen_ms"]),
            last_seen_ms=max(known.last_seen_ms, row["last_seen_ms"]),
            policy=row["policy"],
            denial_id=row["denial_id"],
        )
    )


def _same(row: dict[str, Any]) -> tuple[sa.ColumnElement[bool], ...]:
    return observed_denials.c.sandbox_id == row["sandbox_id"], observed_denials.c.key == row["key"]


def _trim(tx: sa.Connection, sandbox_id: str) -> None:
    mine = observed_denials.c.sandbox_id == sandbox_id
    query = sa.select(observed_denials.c.last_seen_ms).where(mine)
    oldest = tx.scalar(query.order_by(observed_denials.c.last_seen_ms.desc()).offset(KEPT).limit(1))
    if oldest is not None:
        tx.execute(observed_denials.delete().where(mine, observed_denials.c.last_seen_ms <= oldest))


def find(tx: sa.Connection, sandbox_id: str, key: str) -> Denial | None:
    """One row by its key."""
    return _get(tx, {"sandbox_id": sandbox_id, "key": key})


def _get(tx: sa.Connection, row: dict[str, Any]) -> Denial | None:
    found = tx.execute(sa.select(observed_denials).where(*_same(row))).first()
    return _to_proto(found) if found is not None else None


def _to_proto(row: sa.Row[Any]) -> Denial:
    return Denial(
        sandbox_id=row.sandbox_id,
        host=row.host,
        port=row.port,
        binary=row.binary,
        method=row.method,
        path=row.path,
        policy=row.policy,
        reason=row.reason,
        denial_id=row.denial_id,
        count=row._mapping["count"],
        first_seen_time=to_timestamp(row.first_seen_ms),
        last_seen_time=to_timestamp(row.last_seen_ms),
    )
