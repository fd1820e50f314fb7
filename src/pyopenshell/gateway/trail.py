"""The gateway's own audit lines in a sandbox's log stream (contract/gateway.md 4.8).

Decides nothing; a line is written in the transaction of the decision it tells of, so neither exists without the other.
"""

from __future__ import annotations

import sqlalchemy as sa

from pyopenshell.audit.events import ConfigEvent
from pyopenshell.audit.shorthand import shorthand
from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.clock import Clock, system_clock
from pyopenshell.gateway.store import Store
from pyopenshell.gateway.store.schema import log_lines, sandboxes


class Trail:
    """Writes `CONFIG:` lines."""

    def __init__(self, store: Store, bus: Bus, clock: Clock = system_clock) -> None:
        self._store, self._bus, self._clock = store, bus, clock

    def record(self, tx: sa.Connection, sandbox_id: str, event: ConfigEvent) -> None:
        """Store the line now, publish it on `logs:<sandbox id>` after the commit."""
        tx.execute(
            log_lines.insert().values(
                sandbox_id=sandbox_id,
                at_ms=self._clock(),
                level="OCSF",
                target="ocsf",
                source="gateway",
                message=shorthand(event),
                fields=dict(event.fields),
            )
        )
        self._store.announce(f"logs:{sandbox_id}")

    def everywhere(self, tx: sa.Connection, event: ConfigEvent) -> None:
        """The same in the log of every sandbox, because it concerns every one."""
        for sandbox_id in tx.scalars(sa.select(sandboxes.c.id).where(sandboxes.c.deleted_ms.is_(None))).all():
            self.record(tx, sandbox_id, event)
