"""The tables. Portable SQL only (SQLite and PostgreSQL); times are milliseconds since the epoch.

`migrations/` builds them; a test holds both equal. Rows are read and written by the core modules, never by RPC classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa


class Text(sa.types.TypeDecorator[str]):
    """Any string. PostgreSQL has no place for NUL, and agents write what they like: there it is kept as `\\x1a0`."""

    impl = sa.String
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], Any] | None:
        return _escaped if dialect.name == "postgresql" else None

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any] | None:
        return _unescaped if dialect.name == "postgresql" else None


def _escaped(value: str | None) -> str | None:
    if value is None or ("\x00" not in value and "\x1a" not in value):
        return value
    return value.replace("\x1a", "\x1a1").replace("\x00", "\x1a0")


def _unescaped(value: str | None) -> str | None:
    if value is None or "\x1a" not in value:
        return value
    return value.replace("\x1a0", "\x00").replace("\x1a1", "\x1a")


Serial: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""Numbers that only grow. SQLite counts only what is declared INTEGER, and in 64 bits."""


def digest(*parts: object) -> str:
    """Names a combination of texts of any length in an index, where PostgreSQL has room for 2,704 bytes."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

GLOBAL_SCOPE = "__global__"
"""Scope of gateway-wide policies and settings (contract/gateway.md 2.1)."""


def _owner() -> sa.Column[str]:
    return sa.Column("sandbox_id", Text, sa.ForeignKey("sandboxes.id", ondelete="CASCADE"), nullable=False)


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", Text, primary_key=True),
    sa.Column("value", Text, nullable=False),
)

workspaces = sa.Table(
    "workspaces",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("id", Text, nullable=False),
    sa.Column("phase", sa.Integer, nullable=False, server_default="1"),
    sa.Column("labels", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("annotations", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("resource_version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

sandboxes = sa.Table(
    "sandboxes",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("name", Text, nullable=False),
    sa.Column("workspace", Text, nullable=False),
    sa.Column("phase", sa.Integer, nullable=False),  # openshell.v1.SandboxPhase
    sa.Column("desired", Text, nullable=False, server_default="running"),  # running, stopped, deleted
    sa.Column("spec", sa.LargeBinary, nullable=False),  # openshell.v1.SandboxSpec
    sa.Column("status", sa.LargeBinary, nullable=False),  # openshell.v1.SandboxStatus
    sa.Column("labels", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("annotations", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("resource_version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("deleted_ms", sa.BigInteger),
    sa.Column("instance_id", Text, nullable=False, server_default=""),
    sa.Column("token_epoch", sa.Integer, nullable=False, server_default="0"),
    sa.Column("draft_version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("template", Text, nullable=False, server_default=""),  # NAME@VERSION it was created from
    sa.Column("owner", Text, nullable=False, server_default=""),  # the gateway whose driver runs it (decision 0013)
    sa.Column("session", Text, nullable=False, server_default=""),  # of a supervisor at another gateway than the owner
    sa.Index(
        "uq_sandboxes_workspace_name_live",
        "workspace",
        "name",
        unique=True,
        sqlite_where=sa.text("deleted_ms IS NULL"),
        postgresql_where=sa.text("deleted_ms IS NULL"),
    ),
    sa.Index("ix_sandboxes_created_ms_name", "created_ms", "name"),
    sa.Index("ix_sandboxes_workspace_created_ms", "workspace", "created_ms"),
)

policies = sa.Table(
    "policies",
    metadata,
    sa.Column("scope", Text, primary_key=True),  # sandbox id or GLOBAL_SCOPE
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("hash", Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),  # openshell.sandbox.v1.SandboxPolicy
    sa.Column("status", Text, nullable=False),  # pending, loaded, failed, superseded
    sa.Column("load_error", Text, nullable=False, server_default=""),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("loaded_ms", sa.BigInteger),
    sa.Column("provenance", sa.JSON, nullable=False, server_default="{}"),
    # What made it: initial, set, merge, sync, approve, auto, undo, reject, lease.
    sa.Column("origin", Text, nullable=False),
    sa.Column("author", Text, nullable=False, server_default=""),
    sa.Index("ix_policies_scope_status", "scope", "status"),
)

policy_bodies = sa.Table(
    "policy_bodies",
    metadata,
    _owner(),
    sa.Column("hash", Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("sandbox_id", "hash"),
    comment="Whole policies that chunks refer to (before, after, what the reviewer saw), each stored once",
)

draft_chunks = sa.Table(
    "draft_chunks",
    metadata,
    sa.Column("seq", Serial, primary_key=True, autoincrement=True),
    sa.Column("id", Text, nullable=False, unique=True),
    _owner(),
    sa.Column("draft_version", sa.Integer, nullable=False),
    sa.Column("mode", Text, nullable=False),
    sa.Column("status", Text, nullable=False),  # pending, approved, rejected
    sa.Column("rule_name", Text, nullable=False),
    sa.Column("rule", sa.LargeBinary, nullable=False),  # openshell.sandbox.v1.NetworkPolicyRule, as proposed
    sa.Column("rationale", Text, nullable=False, server_default=""),
    sa.Column("confidence", sa.Float, nullable=False, server_default="0"),
    sa.Column("stage", Text, nullable=False, server_default=""),
    sa.Column("host", Text, nullable=False, server_default=""),
    sa.Column("port", sa.Integer, nullable=False, server_default="0"),
    sa.Column("binary", Text, nullable=False, server_default=""),
    sa.Column("dedup_key", Text),  # only mechanistic
    sa.Column("hit_count", sa.Integer, nullable=False, server_default="1"),
    sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
    sa.Column("last_seen_ms", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("decided_ms", sa.BigInteger),
    sa.Column("decided_by", Text, nullable=False, server_default=""),
    # A person's reason byte for byte, or the machine's sentence.
    sa.Column("rejection_reason", Text, nullable=False, server_default=""),
    # person, superseded, covered, expired: only a machine's rejection may be taken back by a machine.
    sa.Column("rejected_as", Text, nullable=False, server_default=""),
    sa.Column("superseded_by", Text, nullable=False, server_default=""),
    sa.Column("validation_result", Text, nullable=False, server_default=""),
    sa.Column("application_error", Text, nullable=False, server_default=""),
    sa.Column("review_token", Text, nullable=False, server_default=""),
    sa.Column("current_hash", Text, nullable=False, server_default=""),
    sa.Column("candidate_hash", Text, nullable=False, server_default=""),
    sa.Column("review", sa.LargeBinary, nullable=False, server_default=""),  # pyopenshell.v1.ChunkReview (regions)
    # Exactly what an approval changed: hashes of base policies in policy_bodies, and the revision it made.
    sa.Column("before_hash", Text, nullable=False, server_default=""),
    sa.Column("after_hash", Text, nullable=False, server_default=""),
    sa.Column("policy_version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("policy_hash", Text, nullable=False, server_default=""),
    sa.Column("applied_order", sa.Integer, nullable=False, server_default="0"),  # grows with each approval
    # An approval that ends by itself: how long it was given, and when it is over. Both or neither.
    sa.Column("lease_ms", sa.BigInteger),
    sa.Column("expires_ms", sa.BigInteger),
    # What is asked for, and what was known when a person said no: the same again is answered from the record.
    sa.Column("class_hash", Text, nullable=False, server_default=""),
    sa.Column("evidence", Text, nullable=False, server_default=""),
    sa.Column("refusals", sa.Integer, nullable=False, server_default="0"),  # by people, of this class
    sa.Index("ix_draft_chunks_sandbox_id_class_hash", "sandbox_id", "class_hash"),
    sa.Index("ix_draft_chunks_sandbox_id_seq", "sandbox_id", "seq"),
    sa.Index("ix_draft_chunks_sandbox_id_status_seq", "sandbox_id", "status", "seq"),
    sa.Index("ix_draft_chunks_status_seq", "status", "seq"),
    sa.Index("ix_draft_chunks_expires_ms", "expires_ms"),
    sa.Index("ix_draft_chunks_sandbox_id_applied_order", "sandbox_id", "applied_order"),
    sa.Index("ix_draft_chunks_sandbox_id_created_ms", "sandbox_id", "created_ms"),
    sa.UniqueConstraint("sandbox_id", "dedup_key"),
    sqlite_autoincrement=True,
)

chunk_targets = sa.Table(
    "chunk_targets",
    metadata,
    sa.Column("chunk_id", Text, sa.ForeignKey("draft_chunks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("sandbox_id", Text, nullable=False),
    sa.Column("host", Text, nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("binary", Text, nullable=False),
    sa.Column("key", Text, nullable=False, server_default=""),  # digest of host, port, binary
    sa.PrimaryKeyConstraint("chunk_id", "key"),
    sa.Index("ix_chunk_targets_sandbox_id_key", "sandbox_id", "key"),
    comment="Which (host, port, binary) each chunk speaks for: supersession between authors",
)

chunk_events = sa.Table(
    "chunk_events",
    metadata,
    sa.Column("seq", Serial, primary_key=True, autoincrement=True),
    _owner(),
    sa.Column("chunk_id", Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("type", Text, nullable=False),
    sa.Column("actor", Text, nullable=False),
    sa.Column("description", Text, nullable=False),
    sa.Column("reason", Text, nullable=False, server_default=""),
    sa.Column("before_hash", Text, nullable=False, server_default=""),
    sa.Column("after_hash", Text, nullable=False, server_default=""),
    sa.Column("policy_version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("via", Text, nullable=False, server_default=""),  # from where: method and address
    sa.Index("ix_chunk_events_sandbox_id_seq", "sandbox_id", "seq"),
    sqlite_autoincrement=True,
)

observed_denials = sa.Table(
    "observed_denials",
    metadata,
    _owner(),
    sa.Column("host", Text, nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("binary", Text, nullable=False),
    sa.Column("method", Text, nullable=False),
    sa.Column("path", Text, nullable=False),
    sa.Column("policy", Text, nullable=False, server_default=""),
    sa.Column("reason", Text, nullable=False, server_default=""),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
    sa.Column("last_seen_ms", sa.BigInteger, nullable=False),
    sa.Column("denial_id", Text, nullable=False, server_default=""),  # of the latest
    # digest of host, port, binary, method, path, reason
    sa.Column("key", Text, nullable=False, server_default=""),
    sa.PrimaryKeyConstraint("sandbox_id", "key"),
    sa.Index("ix_observed_denials_sandbox_id_last_seen_ms", "sandbox_id", "last_seen_ms"),
)

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("scope", Text, primary_key=True),  # sandbox id or GLOBAL_SCOPE
    sa.Column("key", Text, primary_key=True),
    sa.Column("type", Text, nullable=False),  # bool, string
    sa.Column("value", Text, nullable=False),
)

setting_scopes = sa.Table(
    "setting_scopes",
    metadata,
    sa.Column("scope", Text, primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
)

log_lines = sa.Table(
    "log_lines",
    metadata,
    sa.Column("seq", Serial, primary_key=True, autoincrement=True),
    _owner(),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("level", Text, nullable=False),
    sa.Column("target", Text, nullable=False),
    sa.Column("source", Text, nullable=False),  # sandbox, gateway
    sa.Column("message", Text, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False, server_default="{}"),
    sa.Index("ix_log_lines_sandbox_id_seq", "sandbox_id", "seq"),
    sa.Index("ix_log_lines_sandbox_id_at_ms", "sandbox_id", "at_ms"),
    sqlite_autoincrement=True,
)


workload_templates = sa.Table(
    "workload_templates",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("workspace", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("labels", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("annotations", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("spec", sa.LargeBinary, nullable=False),  # openshell.v1.SandboxWorkloadTemplateSpec
    sa.Column("resource_version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("workspace", "name"),
    sa.Index("ix_workload_templates_created_ms_name", "created_ms", "name"),
)

workspace_members = sa.Table(
    "workspace_members",
    metadata,
    sa.Column(
        "workspace", Text, sa.ForeignKey("workspaces.name", ondelete="CASCADE"), primary_key=True, nullable=False
    ),
    sa.Column("subject", Text, primary_key=True),
    sa.Column("id", Text, nullable=False),
    sa.Column("role", sa.Integer, nullable=False),  # openshell.v1.WorkspaceRole
    sa.Column("resource_version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

provider_profiles = sa.Table(
    "provider_profiles",
    metadata,
    sa.Column("workspace", Text, primary_key=True),  # "" for the whole gateway
    sa.Column("id", Text, primary_key=True),
    sa.Column("payload", sa.LargeBinary, nullable=False),  # openshell.v1.ProviderProfile
    sa.Column("resource_version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

providers = sa.Table(
    "providers",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("workspace", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("type", Text, nullable=False),
    sa.Column("profile_workspace", Text, nullable=False, server_default=""),
    sa.Column("labels", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("annotations", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("config", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("credentials", sa.JSON, nullable=False, server_default="{}"),  # key -> sealed value
    sa.Column("expirations", sa.JSON, nullable=False, server_default="{}"),  # key -> milliseconds
    sa.Column("resource_version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("workspace", "name"),
    sa.Index("ix_providers_created_ms_name", "created_ms", "name"),
)

sandbox_providers = sa.Table(
    "sandbox_providers",
    metadata,
    sa.Column("sandbox_id", Text, sa.ForeignKey("sandboxes.id", ondelete="CASCADE"), primary_key=True, nullable=False),
    sa.Column("provider_id", Text, sa.ForeignKey("providers.id"), primary_key=True, nullable=False),
    sa.Column("receipt_id", Text, nullable=False),
    sa.Column("attached_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_sandbox_providers_provider_id", "provider_id"),
)

ssh_sessions = sa.Table(
    "ssh_sessions",
    metadata,
    sa.Column("token_hash", Text, primary_key=True),  # the token itself is nowhere
    _owner(),
    sa.Column("subject", Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger),
    sa.Index("ix_ssh_sessions_sandbox_id", "sandbox_id"),
    sa.Index("ix_ssh_sessions_expires_ms", "expires_ms"),
)

request_admissions = sa.Table(
    "request_admissions",
    metadata,
    sa.Column("caller", Text, primary_key=True),
    sa.Column("method", Text, primary_key=True),
    sa.Column("workspace", Text, primary_key=True),
    sa.Column("request_id", Text, primary_key=True),
    sa.Column("digest", Text, nullable=False),  # of the request without its id
    sa.Column("response", sa.LargeBinary),  # NULL: under way, or nobody knows how it ended
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_request_admissions_created_ms", "created_ms"),
    comment="request_id: what was asked before is answered from here (contract/gateway.md 1.0)",
)

inbox_log = sa.Table(
    "inbox_log",
    metadata,
    sa.Column("seq", Serial, primary_key=True, autoincrement=True),
    sa.Column("sandbox_id", Text, nullable=False),  # may be gone: then this is how a reader hears of it
    sa.Column("sandbox_name", Text, nullable=False),
    sa.Column("workspace", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),  # chunk, observed, gone
    sa.Column("subject", Text, nullable=False),  # chunk id, or the denial's key as JSON
    sa.UniqueConstraint("sandbox_id", "kind", "subject"),
    sqlite_autoincrement=True,
    comment="Order of changes, the newest of each subject only: a reader that was away reads on after its last seq",
)


def forget_sandbox(tx: sa.Connection, sandbox_id: str) -> None:
    """Remove a sandbox and everything that belongs to it (contract/gateway.md 1.2, DeleteSandbox)."""
    for table in (policies, settings, setting_scopes):
        tx.execute(table.delete().where(table.c.scope == sandbox_id))
    # What stays is the one line that tells readers of the inbox that it is gone.
    tx.execute(inbox_log.delete().where(inbox_log.c.sandbox_id == sandbox_id, inbox_log.c.kind != "gone"))
    tx.execute(sandboxes.delete().where(sandboxes.c.id == sandbox_id))
