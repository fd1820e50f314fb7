"""The first schema: workspaces, sandboxes, policies, proposals and their history, settings, logs.

Revision 0001. Written out, not derived from `schema.py`: an old migration must not change when the schema does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "policies",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("load_error", sa.String(), server_default="", nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("loaded_ms", sa.BigInteger(), nullable=True),
        sa.Column("provenance", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("author", sa.String(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("scope", "version", name=op.f("pk_policies")),
    )
    op.create_index("ix_policies_scope_status", "policies", ["scope", "status"], unique=False)
    op.create_table(
        "sandboxes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("desired", sa.String(), server_default="running", nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("resource_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.Column("instance_id", sa.String(), server_default="", nullable=False),
        sa.Column("token_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("draft_version", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandboxes")),
    )
    op.create_index("ix_sandboxes_created_ms_name", "sandboxes", ["created_ms", "name"], unique=False)
    op.create_index(
        "uq_sandboxes_workspace_name_live",
        "sandboxes",
        ["workspace", "name"],
        unique=True,
        sqlite_where=sa.text("deleted_ms IS NULL"),
        postgresql_where=sa.text("deleted_ms IS NULL"),
    )
    op.create_table(
        "setting_scopes",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_setting_scopes")),
    )
    op.create_table(
        "settings",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_settings")),
    )
    op.create_table(
        "workspaces",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("phase", sa.Integer(), server_default="1", nullable=False),
        sa.Column("labels", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("resource_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workspaces")),
    )
    op.create_table(
        "chunk_events",
        sa.Column("seq", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("chunk_id", sa.String(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("before_hash", sa.String(), server_default="", nullable=False),
        sa.Column("after_hash", sa.String(), server_default="", nullable=False),
        sa.Column("policy_version", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["sandboxes.id"], name=op.f("fk_chunk_events_sandbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_chunk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chunk_events_sandbox_id_seq", "chunk_events", ["sandbox_id", "seq"], unique=False)
    op.create_table(
        "draft_chunks",
        sa.Column("seq", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("draft_version", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("rule_name", sa.String(), nullable=False),
        sa.Column("rule", sa.LargeBinary(), nullable=False),
        sa.Column("rationale", sa.String(), server_default="", nullable=False),
        sa.Column("confidence", sa.Float(), server_default="0", nullable=False),
        sa.Column("stage", sa.String(), server_default="", nullable=False),
        sa.Column("host", sa.String(), server_default="", nullable=False),
        sa.Column("port", sa.Integer(), server_default="0", nullable=False),
        sa.Column("binary", sa.String(), server_default="", nullable=False),
        sa.Column("dedup_key", sa.String(), nullable=True),
        sa.Column("hit_count", sa.Integer(), server_default="1", nullable=False),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("decided_ms", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(), server_default="", nullable=False),
        sa.Column("rejection_reason", sa.String(), server_default="", nullable=False),
        sa.Column("rejected_as", sa.String(), server_default="", nullable=False),
        sa.Column("superseded_by", sa.String(), server_default="", nullable=False),
        sa.Column("validation_result", sa.String(), server_default="", nullable=False),
        sa.Column("application_error", sa.String(), server_default="", nullable=False),
        sa.Column("review_token", sa.String(), server_default="", nullable=False),
        sa.Column("current_hash", sa.String(), server_default="", nullable=False),
        sa.Column("candidate_hash", sa.String(), server_default="", nullable=False),
        sa.Column("review", sa.LargeBinary(), server_default="", nullable=False),
        sa.Column("before_hash", sa.String(), server_default="", nullable=False),
        sa.Column("after_hash", sa.String(), server_default="", nullable=False),
        sa.Column("policy_version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("policy_hash", sa.String(), server_default="", nullable=False),
        sa.Column("applied_order", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["sandboxes.id"], name=op.f("fk_draft_chunks_sandbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_draft_chunks")),
        sa.UniqueConstraint("id", name=op.f("uq_draft_chunks_id")),
        sa.UniqueConstraint("sandbox_id", "dedup_key", name=op.f("uq_draft_chunks_sandbox_id_dedup_key")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_draft_chunks_sandbox_id_seq", "draft_chunks", ["sandbox_id", "seq"], unique=False)
    op.create_index(
        "ix_draft_chunks_sandbox_id_status_seq", "draft_chunks", ["sandbox_id", "status", "seq"], unique=False
    )
    op.create_index("ix_draft_chunks_status_seq", "draft_chunks", ["status", "seq"], unique=False)
    op.create_table(
        "log_lines",
        sa.Column("seq", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("fields", sa.JSON(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["sandboxes.id"], name=op.f("fk_log_lines_sandbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_log_lines")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_log_lines_sandbox_id_seq", "log_lines", ["sandbox_id", "seq"], unique=False)
    op.create_table(
        "observed_denials",
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("binary", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("policy", sa.String(), server_default="", nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["sandboxes.id"], name=op.f("fk_observed_denials_sandbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "sandbox_id", "host", "port", "binary", "method", "path", name=op.f("pk_observed_denials")
        ),
    )
    op.create_index(
        "ix_observed_denials_sandbox_id_last_seen_ms", "observed_denials", ["sandbox_id", "last_seen_ms"], unique=False
    )
    op.create_table(
        "policy_bodies",
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["sandboxes.id"], name=op.f("fk_policy_bodies_sandbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sandbox_id", "hash", name=op.f("pk_policy_bodies")),
        comment="Whole policies that chunks refer to (before, after, what the reviewer saw), each stored once",
    )
    op.create_table(
        "chunk_targets",
        sa.Column("chunk_id", sa.String(), nullable=False),
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("binary", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chunk_id"], ["draft_chunks.id"], name=op.f("fk_chunk_targets_chunk_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("chunk_id", "host", "port", "binary", name=op.f("pk_chunk_targets")),
        comment="Which (host, port, binary) each chunk speaks for: supersession between authors",
    )
    op.create_index(
        "ix_chunk_targets_sandbox_id_host_port_binary",
        "chunk_targets",
        ["sandbox_id", "host", "port", "binary"],
        unique=False,
    )
