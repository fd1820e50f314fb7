"""Templates, members, providers, SSH sessions, request ids; the inbox as a log; what a rejection was based on.

Revision 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("draft_chunks", sa.Column("class_hash", sa.String(), nullable=False, server_default=""))
    op.add_column("draft_chunks", sa.Column("evidence", sa.String(), nullable=False, server_default=""))
    op.add_column("draft_chunks", sa.Column("refusals", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_draft_chunks_sandbox_id_class_hash", "draft_chunks", ["sandbox_id", "class_hash"])
    op.add_column("chunk_events", sa.Column("via", sa.String(), nullable=False, server_default=""))
    op.create_table(
        "workload_templates",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("resource_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workload_templates")),
        sa.UniqueConstraint("workspace", "name", name=op.f("uq_workload_templates_workspace_name")),
    )
    op.create_index("ix_workload_templates_created_ms_name", "workload_templates", ["created_ms", "name"])
    op.create_table(
        "workspace_members",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.Column("resource_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace"], ["workspaces.name"], name=op.f("fk_workspace_members_workspace"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("workspace", "subject", name=op.f("pk_workspace_members")),
    )
    op.create_table(
        "provider_profiles",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("resource_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "id", name=op.f("pk_provider_profiles")),
    )
    op.create_table(
        "providers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("profile_workspace", sa.String(), server_default="", nullable=False),
        sa.Column("labels", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("config", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("credentials", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("expirations", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("resource_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_providers")),
        sa.UniqueConstraint("workspace", "name", name=op.f("uq_providers_workspace_name")),
    )
    op.create_index("ix_providers_created_ms_name", "providers", ["created_ms", "name"])
    op.create_table(
        "sandbox_providers",
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("receipt_id", sa.String(), nullable=False),
        sa.Column("attached_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["sandboxes.id"], name=op.f("fk_sandbox_providers_sandbox_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["provider_id"], ["providers.id"], name=op.f("fk_sandbox_providers_provider_id")),
        sa.PrimaryKeyConstraint("sandbox_id", "provider_id", name=op.f("pk_sandbox_providers")),
    )
    op.create_index("ix_sandbox_providers_provider_id", "sandbox_providers", ["provider_id"])
    op.create_table(
        "ssh_sessions",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["sandboxes.id"], name=op.f("fk_ssh_sessions_sandbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_ssh_sessions")),
    )
    op.create_index("ix_ssh_sessions_sandbox_id", "ssh_sessions", ["sandbox_id"])
    op.create_index("ix_ssh_sessions_expires_ms", "ssh_sessions", ["expires_ms"])
    op.create_table(
        "request_admissions",
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "method", "workspace", "request_id", name=op.f("pk_request_admissions")),
        comment="request_id: what was asked before is answered from here (contract/gateway.md 1.0)",
    )
    op.create_index("ix_request_admissions_created_ms", "request_admissions", ["created_ms"])
    op.create_table(
        "inbox_log",
        sa.Column("seq", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("sandbox_name", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_inbox_log")),
        sa.UniqueConstraint("sandbox_id", "kind", "subject", name=op.f("uq_inbox_log_sandbox_id_kind_subject")),
        sqlite_autoincrement=True,
        comment="Order of changes, the newest of each subject only: a reader that was away reads on after its last seq",
    )
