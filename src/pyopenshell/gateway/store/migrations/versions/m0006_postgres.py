"""Keys of bounded length, who owns a sandbox, and what lists need.

Revision 0006.
"""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TARGET = ("host", "port", "binary")
_DENIAL = ("host", "port", "binary", "method", "path", "reason")


def upgrade() -> None:
    op.add_column("sandboxes", sa.Column("owner", sa.String(), nullable=False, server_default=""))
    op.add_column("sandboxes", sa.Column("session", sa.String(), nullable=False, server_default=""))
    op.create_index("ix_draft_chunks_sandbox_id_applied_order", "draft_chunks", ["sandbox_id", "applied_order"])
    op.create_index("ix_draft_chunks_sandbox_id_created_ms", "draft_chunks", ["sandbox_id", "created_ms"])
    op.create_index("ix_log_lines_sandbox_id_at_ms", "log_lines", ["sandbox_id", "at_ms"])
    op.drop_index("ix_chunk_targets_sandbox_id_host_port_binary", "chunk_targets")
    _keyed("chunk_targets", "chunk_id", _TARGET)
    op.create_index("ix_chunk_targets_sandbox_id_key", "chunk_targets", ["sandbox_id", "key"])
    _keyed("observed_denials", "sandbox_id", _DENIAL)


def _keyed(table: str, owner: str, parts: tuple[str, ...]) -> None:
    """Give every row the digest of `parts` and make it the primary key together with `owner`."""
    op.add_column(table, sa.Column("key", sa.String(), nullable=False, server_default=""))
    connection = op.get_bind()
    rows: sa.TableClause = sa.table(table, *(sa.column(name) for name in (owner, "key", *parts)))
    present: list[Any] = list(connection.execute(sa.select(rows)))
    for row in present:
        same = [rows.c[name] == getattr(row, name) for name in (owner, *parts)]
        key = _digest(*(getattr(row, name) for name in parts))
        connection.execute(rows.update().where(*same).values(key=key))
    with op.batch_alter_table(table) as changed:
        changed.drop_constraint(op.f(f"pk_{table}"), type_="primary")
        changed.create_primary_key(op.f(f"pk_{table}"), [owner, "key"])


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
