"""How SQLite would answer a statement on the schema of now: what it would have to walk through."""

from __future__ import annotations

import functools
import re
import sqlite3
from typing import Final

import sqlalchemy as sa

from pyopenshell.gateway.store.schema import metadata

_FEW: Final = frozenset({"workspaces", "meta"})
"""Tables that stay small: nobody makes thousands of workspaces."""
_EVERY_SANDBOX: Final = "ORDER BY sandboxes.created_ms, sandboxes.name, sandboxes.workspace, sandboxes.id"
_ALL_OF_IT: Final = frozenset(
    {
        f"FROM sandboxes {_EVERY_SANDBOX}",  # a gateway that starts takes up all it has
        f"FROM sandboxes WHERE sandboxes.deleted_ms IS NULL {_EVERY_SANDBOX}",  # an overview begins with all there are
        "FROM chunk_targets",  # a migration gives each row its key
        "FROM observed_denials",
        "FROM sandboxes WHERE sandboxes.deleted_ms IS NULL GROUP BY sandboxes.phase",  # a scrape of /metrics counts
        "FROM draft_chunks GROUP BY draft_chunks.status",
        "FROM sandboxes WHERE sandboxes.deleted_ms IS NULL",  # a global policy or setting: a line in every one's log
        # One change in a thousand counts the rows that are kept back from the newest: a bounded page along the key.
        "FROM inbox_log ORDER BY inbox_log.seq DESC LIMIT ? OFFSET ?",
        "FROM log_lines",  # a test looks whether a line was written
        "FROM sandboxes",
        "FROM draft_chunks ORDER BY draft_chunks.policy_version",
    }
)
"""Ends of statements that mean every row and happen seldom: at a start, for a screen that opens, for what is global."""
_SCAN: Final = re.compile(r"SCAN (\w+)")
_LOOKED_AT: Final = ("SELECT", "UPDATE", "DELETE", "INSERT", "WITH")


def walked(statement: str) -> list[str]:
    """Steps of the plan that read a whole table that grows. Along an index with a LIMIT it is a page, not a walk."""
    head = statement.lstrip().upper()
    if not head.startswith(_LOOKED_AT) or "sqlite_master" in statement or "alembic_" in statement:
        return []
    if " ".join(statement[statement.find("FROM ") :].split()) in _ALL_OF_IT:
        return []
    values = [None] * statement.count("?")
    steps = [row[3] for row in _database().execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    growing = {table.name for table in metadata.tables.values()} - _FEW
    found = []
    for step in steps:
        scan = _SCAN.match(step)
        if scan and scan[1] in growing and not ("LIMIT" in head and "USING" in step):
            found.append(step)
    return found


@functools.cache
def _database() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    engine = sa.create_engine("sqlite://", creator=lambda: database, poolclass=sa.pool.StaticPool)
    with engine.begin() as tx:
        metadata.create_all(tx)
    return database
