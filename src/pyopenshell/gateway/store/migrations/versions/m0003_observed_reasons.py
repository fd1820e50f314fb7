"""Refusals of one request for different reasons are different rows, and each says the id of its latest one.

Revision 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLE = "observed_denials"


def upgrade() -> None:
    with op.batch_alter_table(_TABLE) as table:
        table.add_column(sa.Column("denial_id", sa.String(), nullable=False, server_default=""))
        table.drop_constraint(op.f("pk_observed_denials"), type_="primary")
        table.create_primary_key(
            op.f("pk_observed_denials"), ["sandbox_id", "host", "port", "binary", "method", "path", "reason"]
        )


def downgrade() -> None:
    op.execute(
        "DELETE FROM observed_denials WHERE EXISTS (SELECT 1 FROM observed_denials AS other WHERE"
        " other.sandbox_id = observed_denials.sandbox_id AND other.host = observed_denials.host"
        " AND other.port = observed_denials.port AND other.binary = observed_denials.binary"
        " AND other.method = observed_denials.method AND other.path = observed_denials.path"
        " AND other.reason > observed_denials.reason)"
    )
    with op.batch_alter_table(_TABLE) as table:
        table.drop_constraint(op.f("pk_observed_denials"), type_="primary")
        table.create_primary_key(
            op.f("pk_observed_denials"), ["sandbox_id", "host", "port", "binary", "method", "path"]
        )
        table.drop_column("denial_id")
