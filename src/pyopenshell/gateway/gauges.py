"""Numbers about what is stored, read when somebody looks: sandboxes by phase, proposals that wait, supervisors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import sqlalchemy as sa

from pyopenshell.gateway.errors import GatewayError
from pyopenshell.gateway.metrics import Metrics
from pyopenshell.gateway.sandboxes import phase_name
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import draft_chunks, sandboxes
from pyopenshell.wire.gen import openshell_pb2


class Gauges:
    """Keeps the gauges of one gateway. `connected` is how many supervisors have a session."""

    def __init__(self, store: Store, metrics: Metrics, connected: Callable[[], int]) -> None:
        self._store = store
        self._sandboxes = metrics.gauge("openshell_sandboxes", "Sandboxes by phase.", "phase")
        self._chunks = metrics.gauge("openshell_proposals", "Stored proposals by status.", "status")
        supervisors = metrics.gauge("openshell_supervisors_connected", "Supervisors with a session.")
        supervisors.set_function(connected)

    async def read(self) -> None:
        """Bring all up to date. A database that fails leaves the last numbers; /readyz says so."""

        def count(tx: sa.Connection) -> tuple[dict[int, int], dict[str, int]]:
            living = sa.select(sandboxes.c.phase, sa.func.count()).where(sandboxes.c.deleted_ms.is_(None))
            waiting = sa.select(draft_chunks.c.status, sa.func.count()).group_by(draft_chunks.c.status)
            return (
                {row[0]: row[1] for row in tx.execute(living.group_by(sandboxes.c.phase))},
                {row[0]: row[1] for row in tx.execute(waiting)},
            )

        with contextlib.suppress(GatewayError):
            phases, statuses = await self._store.run(count)
            for phase in openshell_pb2.SandboxPhase.values()[1:]:
                self._sandboxes.labels(phase_name(phase).lower()).set(phases.get(phase, 0))
            for status in ("pending", "approved", "rejected"):
                self._chunks.labels(status).set(statuses.get(status, 0))
