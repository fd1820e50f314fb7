"""What the sandboxes of one workspace are found by.

Revision 0007.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_sandboxes_workspace_created_ms", "sandboxes", ["workspace", "created_ms"])
