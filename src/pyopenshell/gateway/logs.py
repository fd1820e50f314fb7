"""Log lines of sandboxes: taken in without waiting, kept in the store, read by tail and by cursor.

Decides what is kept (the newest lines of each sandbox) and what a filter means; must not know what a line says.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.clock import Clock, from_timestamp, system_clock, to_timestamp
from pyopenshell.gateway.errors import GatewayError, invalid
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import log_lines, sandboxes
from pyopenshell.gateway.tasks import Tasks
from pyopenshell.wire.gen import openshell_pb2

KEPT: Final = 2000
"""Lines per sandbox unless the operator says otherwise, and of one answer (contract/gateway.md 1.2)."""
BATCH: Final = 100
"""Lines used of one pushed batch (contract/gateway.md 1.2, PushSandboxLogs)."""

_TRIM_EVERY: Final = 200  # lines between two cuts back to KEPT, so that a flood does not pay a delete per batch
_MAX_MESSAGE: Final = 16 * 1024
_MAX_FIELDS: Final = 64
_LATEST: Final = 253402300799999  # the last millisecond that a Timestamp may hold

_SEVERITY: Final = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "OCSF": 2, "WARN": 3, "WARNING": 3, "ERROR": 4}

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One stored line. `seq` only grows; it is the line's place in a stream."""

    seq: int
    line: openshell_pb2.SandboxLogLine


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which lines a reader wants. Empty means all; `since_ms` 0 means from the beginning."""

    since_ms: int = 0
    sources: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()

    @classmethod
    def of(cls, since_ms: int, sources: Iterable[str], min_level: str) -> Filter:
        """Raises GatewayError INVALID_ARGUMENT for a level nobody knows."""
        wanted = tuple(dict.fromkeys(sources))
        if "all" in wanted:
            wanted = ()
        if not min_level:
            return cls(since_ms, wanted)
        floor = _SEVERITY.get(min_level.upper())
        if floor is None or min_level.upper() == "OCSF":
            raise invalid("min_level must be one of error, warn, info, debug, trace", field="min_level")
        return cls(since_ms, wanted, tuple(name for name, rank in _SEVERITY.items() if rank >= floor))

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.since_ms:
            found.append(log_lines.c.at_ms >= self.since_ms)
        if self.sources:
            found.append(log_lines.c.source.in_(self.sources))
        if self.levels:
            found.append(log_lines.c.level.in_(self.levels))
        return found


class Logs:
    """All sandboxes' lines. Writing is behind: one transaction at a time takes everything that waits.

    So a flood of lines costs a decision at most one short transaction of delay, and the newest lines win: what waits
    is bounded by KEPT per sandbox, and what did not fit is counted and told in the stream.
    """

    def __init__(self, store: Store, bus: Bus, clock: Clock = system_clock, kept: int = KEPT) -> None:
        self._kept = kept
        self._store, self._bus, self._clock = store, bus, clock
        self._waiting: dict[str, collections.deque[dict[str, Any]]] = {}
        self._lost: collections.Counter[str] = collections.Counter()
        self._since_trim: collections.Counter[str] = collections.Counter()
        self._tasks = Tasks()
        self._writing = False
        self._idle = asyncio.Event()
        self._idle.set()

    def append(self, sandbox_id: str, lines: Sequence[openshell_pb2.SandboxLogLine], source: str) -> None:
        """Take lines in. `source` ("sandbox" or "gateway") replaces what the lines claim. Never waits, never fails."""
        queue = self._waiting.setdefault(sandbox_id, collections.deque())
        for line in lines[:BATCH]:
            if len(queue) >= KEPT:
                queue.popleft()
                self._lost[sandbox_id] += 1
            queue.append(self._row(sandbox_id, line, source))
        self._lost[sandbox_id] += max(0, len(lines) - BATCH)
        self._idle.clear()
        if not self._writing:
            self._writing = True
            self._tasks.spawn(self._write(), "log writer")

    async def flushed(self) -> None:
        """Returns once nothing waits to be written."""
        await self._idle.wait()

    async def tail(self, sandbox_id: str, count: int, wanted: Filter) -> tuple[list[Entry], int]:
        """The newest `count` lines that pass the filter, oldest first, and how many lines are kept in all."""
        query = (
            sa.select(log_lines)
            .where(log_lines.c.sandbox_id == sandbox_id, *wanted.conditions())
            .order_by(log_lines.c.seq.desc())
            .limit(min(count or KEPT, self._kept))
        )
        total = sa.select(sa.func.count()).where(log_lines.c.sandbox_id == sandbox_id)

        def read(tx: sa.Connection) -> tuple[list[Entry], int]:
            entries = [_entry(row) for row in tx.execute(query)]
            return entries[::-1], tx.scalar(total) or 0

        return await self._store.run(read)

    async def after(self, sandbox_id: str, seq: int, wanted: Filter) -> list[Entry]:
        """Every kept line with a greater `seq` that passes the filter, in order."""
        query = (
            sa.select(log_lines)
            .where(log_lines.c.sandbox_id == sandbox_id, log_lines.c.seq > seq, *wanted.conditions())
            .order_by(log_lines.c.seq)
        )
        return await self._store.run(lambda tx: [_entry(row) for row in tx.execute(query)])

    async def bounds(self, sandbox_id: str) -> tuple[int, int]:
        """Lowest and highest kept `seq`; (0, 0) when there is no line."""
        query = sa.select(sa.func.min(log_lines.c.seq), sa.func.max(log_lines.c.seq)).where(
            log_lines.c.sandbox_id == sandbox_id
        )

        def read(tx: sa.Connection) -> tuple[int, int]:
            low, high = tx.execute(query).one()
            return low or 0, high or 0

        return await self._store.run(read)

    def _row(self, sandbox_id: str, line: openshell_pb2.SandboxLogLine, source: str) -> dict[str, Any]:
        level = line.level.upper()
        return {
            "sandbox_id": sandbox_id,
            "at_ms": self._when(from_timestamp(line.event_time)),
            "level": level if level in _SEVERITY else "INFO",
            "target": line.target[:256],
            "source": source,
            "message": line.message[:_MAX_MESSAGE],
            "fields": {key[:256]: line.fields[key][:_MAX_MESSAGE] for key in sorted(line.fields)[:_MAX_FIELDS]},
        }

    def _when(self, claimed: int) -> int:
        """The time a line says, if it is one: what no column holds would cost the others of the batch theirs."""
        return claimed if 0 < claimed <= _LATEST else self._clock()

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                lost, self._lost = self._lost, collections.Counter()
                try:
                    await self._store.run(functools.partial(self._insert, batch=batch, lost=lost))
                except GatewayError as error:
                    _log.error("%d log lines could not be stored: %s", sum(map(len, batch.values())), error)
        finally:
            self._writing = False
            self._idle.set()

    def _insert(
        self, tx: sa.Connection, batch: dict[str, collections.deque[dict[str, Any]]], lost: collections.Counter[str]
    ) -> None:
        present = set(tx.scalars(sa.select(sandboxes.c.id).where(sandboxes.c.id.in_(list(batch)))))
        for sandbox_id in present:
            rows = list(batch[sandbox_id])
            if lost[sandbox_id]:
                text = f"{lost[sandbox_id]} log lines were dropped: they came faster than they could be stored"
                line = openshell_pb2.SandboxLogLine(level="WARN", target="gateway.logs", message=text)
                rows.append(self._row(sandbox_id, line, "gateway"))
            tx.execute(log_lines.insert(), rows)
            self._since_trim[sandbox_id] += len(rows)
            if self._since_trim[sandbox_id] >= _TRIM_EVERY:
                self._since_trim[sandbox_id] = 0
                _trim(tx, sandbox_id, self._kept)
            self._store.announce(f"logs:{sandbox_id}")


def _trim(tx: sa.Connection, sandbox_id: str, kept: int) -> None:
    oldest_to_go = (
        sa.select(log_lines.c.seq)
        .where(log_lines.c.sandbox_id == sandbox_id)
        .order_by(log_lines.c.seq.desc())
        .offset(kept)
        .limit(1)
    )
    seq = tx.scalar(oldest_to_go)
    if seq is not None:
        tx.execute(log_lines.delete().where(log_lines.c.sandbox_id == sandbox_id, log_lines.c.seq <= seq))


def _entry(row: sa.Row[Any]) -> Entry:
    line = openshell_pb2.SandboxLogLine(
        sandbox_id=row.sandbox_id,
        event_time=to_timestamp(row.at_ms),
        level=row.level,
        target=row.target,
        message=row.message,
        source=row.source,
        fields=row.fields,
    )
    return Entry(row.seq, line)
