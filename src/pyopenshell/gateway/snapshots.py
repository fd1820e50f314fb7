"""What a sandbox must enforce right now, as one message with a fingerprint (contract/gateway.md 2.3).

Composes; decides nothing. Equal inputs give equal bytes and equal hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import sqlalchemy as sa

from pyopenshell.gateway import leases
from pyopenshell.gateway.errors import not_found
from pyopenshell.gateway.revisions import Revisions, encode, hash_of
from pyopenshell.gateway.settings import Setting, Settings, effective_to_proto
from pyopenshell.gateway.store import GLOBAL_SCOPE, Store
from pyopenshell.gateway.store.schema import sandboxes
from pyopenshell.policy.compose import effective
from pyopenshell.wire.gen import sandbox_pb2

FAILURE_MODE = "fail_closed"
"""What a sandbox does with a policy it cannot load: it never opens."""


class Snapshots:
    """Effective configuration of sandboxes, over one store."""

    def __init__(self, store: Store, revisions: Revisions, settings: Settings) -> None:
        self._store, self._revisions, self._settings = store, revisions, settings

    async def sandbox_config(self, sandbox_id: str) -> sandbox_pb2.SandboxConfigSnapshot:
        """The snapshot to push. Raises GatewayError NOT_FOUND."""
        return await self._store.run(lambda tx: self.read(tx, sandbox_id))

    async def start_config(self, sandbox_id: str) -> sandbox_pb2.SandboxConfigSnapshot:
        """What a sandbox is started with, before its supervisor has spoken to this gateway. Raises GatewayError.

        Without the approvals that end by themselves: their limits cannot be kept by somebody who does not know them.
        They come with the first update; version 0 says that nobody may rely on them yet.
        """

        def read(tx: sa.Connection) -> sandbox_pb2.SandboxConfigSnapshot:
            snapshot = self.read(tx, sandbox_id)
            found, stuck = leases.ends(tx, sandbox_id, self._revisions.base(tx, sandbox_id))
            if (found or stuck) and snapshot.policy_source == sandbox_pb2.POLICY_SOURCE_SANDBOX:
                policy = effective(None, found[-1].policy if found else self._revisions.base(tx, sandbox_id), {})
                snapshot.policy.Clear()
                snapshot.policy.MergeFromString(encode(policy))
                snapshot.policy_hash, snapshot.version = hash_of(policy), 0
            return snapshot

        return await self._store.run(read)

    def read(self, tx: sa.Connection, sandbox_id: str) -> sandbox_pb2.SandboxConfigSnapshot:
        """As `sandbox_config`, inside a transaction."""
        workspace = tx.scalar(
            sa.select(sandboxes.c.workspace).where(sandboxes.c.id == sandbox_id, sandboxes.c.deleted_ms.is_(None))
        )
        if workspace is None:
            raise not_found("sandbox not found")
        own = self._revisions.latest(tx, sandbox_id)
        everywhere = self._revisions.global_policy(tx)
        values = self._settings.effective(tx, sandbox_id)
        snapshot = sandbox_pb2.SandboxConfigSnapshot(
            version=own.version if own is not None else 0,
            policy_source=sandbox_pb2.POLICY_SOURCE_SANDBOX
            if own is not None
            else sandbox_pb2.POLICY_SOURCE_UNSPECIFIED,
            workspace=workspace,
            policy_validation_failure_mode=FAILURE_MODE,
            configuration_admitted=True,
            # Both parts only ever grow, so their sum changes with either and never goes back.
            settings_revision=self._settings.revision(tx, GLOBAL_SCOPE) + self._settings.revision(tx, sandbox_id),
        )
        if everywhere is not None:
            snapshot.policy_source = sandbox_pb2.POLICY_SOURCE_GLOBAL
            snapshot.global_policy_version = everywhere.version
        if own is not None or everywhere is not None:
            policy = effective(everywhere.policy if everywhere else None, own.policy if own else None, {})
            snapshot.policy.MergeFromString(encode(policy))
            snapshot.policy_hash = hash_of(policy)
        for key, setting in values.items():
            snapshot.settings[key].CopyFrom(effective_to_proto(setting))
        limited = [leases.lease_id(chunk) for chunk in leases.of_sandbox(tx, sandbox_id)]
        snapshot.config_revision = config_revision(snapshot, values, limited)
        return snapshot


def config_revision(
    snapshot: sandbox_pb2.SandboxConfigSnapshot, values: dict[str, Setting], limited: Sequence[str] = ()
) -> int:
    """First 8 bytes, little endian, of a SHA-256 over everything a supervisor acts on; `limited` are ids of leases.

    The version is part of it: two revisions with one content must both be reported loaded, or a waiter would hang.
    """
    parts = [
        snapshot.policy_source,
        snapshot.policy_validation_failure_mode,
        snapshot.extension_authentication_enabled,
        snapshot.policy_hash,
        snapshot.version,
        snapshot.global_policy_version,
        sorted((key, setting.value, setting.source) for key, setting in values.items()),
        *([list(limited)] if limited else []),
    ]
    digest = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def to_response(snapshot: sandbox_pb2.SandboxConfigSnapshot) -> sandbox_pb2.GetSandboxConfigResponse:
    """The same fields under the name the read RPC gives them: both messages share their field numbers."""
    return sandbox_pb2.GetSandboxConfigResponse.FromString(snapshot.SerializeToString())
