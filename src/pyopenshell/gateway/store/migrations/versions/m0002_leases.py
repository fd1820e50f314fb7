"""Approvals that end by themselves.

Revision 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("draft_chunks", sa.Column("lease_ms", sa.BigInteger(), nullable=True))
    op.add_column("draft_chunks", sa.Column("expires_ms", sa.BigInteger(), nullable=True))
    op.create_index("ix_draft_chunks_expires_ms", "draft_chunks", ["expires_ms"], unique=False)
