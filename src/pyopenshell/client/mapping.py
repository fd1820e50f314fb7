"""Protobuf to values and back, at the rim: the only module of the client that knows field names."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from pyopenshell.client import values
from pyopenshell.wire import policy_map
from pyopenshell.wire.gen import datamodel_pb2 as data
from pyopenshell.wire.gen import openshell_pb2 as api
from pyopenshell.wire.gen import pyopenshell_pb2 as review_api
from pyopenshell.wire.gen import sandbox_pb2 as sandbox_api

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from pyopenshell.policy.model import Policy

_SCOPES = {sandbox_api.SETTING_SCOPE_SANDBOX: "sandbox", sandbox_api.SETTING_SCOPE_GLOBAL: "global"}


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).capitalize()


def phase(number: int) -> str:
    """3 -> "Error"; a number this version does not know is "Unknown"."""
    try:
        return _word(api.SandboxPhase.Name(number), "SANDBOX_PHASE_")
    except ValueError:
        return "Unknown"


def policy_status(number: int) -> str:
    try:
        return api.PolicyStatus.Name(number).removeprefix("POLICY_STATUS_").lower()
    except ValueError:
        return "unknown"


def time(message: Message, field: str) -> datetime.datetime | None:
    """A timestamp field as UTC, None when it is not set (or zero, which no event of ours can have)."""
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    if not stamp.seconds and not stamp.nanos:
        return None
    return datetime.datetime.fromtimestamp(stamp.seconds, datetime.UTC).replace(microsecond=stamp.nanos // 1000)


def sandbox(message: api.Sandbox) -> values.Sandbox:
    meta, status = message.metadata, message.status
    return values.Sandbox(
        id=meta.id,
        name=meta.name,
        workspace=meta.workspace,
        phase=phase(status.phase),
        labels=dict(meta.labels),
        annotations=dict(meta.annotations),
        resource_version=meta.resource_version,
        created=time(meta, "created_time"),
        policy_version=status.current_policy_version,
        exit_code=status.exit_code if status.HasField("exit_code") else None,
        conditions=tuple(
            values.Condition(c.type, c.status, c.reason, c.message, time(c, "transition_time"))
            for c in status.conditions
        ),
        restarts=status.restart_count,
    )


def chunk(message: api.PolicyChunk) -> values.Chunk:
    return values.Chunk(
        id=message.id,
        status=message.status,
        rule_name=message.rule_name,
        rule=policy_map.rule_from_proto(message.rule_name, message.proposed_rule),
        binary=message.binary,
        confidence=message.confidence,
        rationale=message.rationale,
        security_notes=message.security_notes,
        validation_result=message.validation_result,
        application_error=message.application_error,
        rejection_reason=message.rejection_reason,
        review_token=message.review_token,
        current_hash=message.current_effective_policy_hash,
        candidate_hash=message.candidate_effective_policy_hash,
        hit_count=message.hit_count,
        stage=message.stage,
        supersedes=message.supersedes_chunk_id,
        created=time(message, "created_time"),
        decided=time(message, "decided_time"),
        first_seen=time(message, "first_seen_time"),
        last_seen=time(message, "last_seen_time"),
    )


def review(message: review_api.ChunkReview) -> values.Review:
    return values.Review(
        chunk_id=message.chunk_id,
        mode=message.analysis_mode,
        newly_permits=tuple(
            values.Region(one.text, one.reason, one.witness, one.uninspected) for one in message.newly_permits
        ),
        proven=message.proven,
        decided_by=message.decided_by,
        superseded_by=message.superseded_by,
        lease=lease(message.lease) if message.HasField("lease") else None,
        review_token=message.review_token,
    )


def lease(message: review_api.Lease) -> values.Lease | None:
    expires = time(message, "expires_time")
    given = datetime.timedelta(milliseconds=message.duration.ToMilliseconds())
    return values.Lease(given, expires) if expires is not None else None


def observed(message: review_api.ObservedDenial) -> values.Observed:
    return values.Observed(
        host=message.host,
        port=message.port,
        binary=message.binary,
        method=message.method,
        path=message.path,
        policy=message.policy,
        reason=message.reason,
        count=message.count,
        first_seen=time(message, "first_seen_time"),
        last_seen=time(message, "last_seen_time"),
        denial_id=message.denial_id,
    )


def inbox_event(message: review_api.InboxEvent) -> values.InboxEvent:
    kind = message.WhichOneof("payload")
    return values.InboxEvent(
        sandbox=message.sandbox_name,
        workspace=message.workspace,
        sandbox_id=message.sandbox_id,
        chunk=chunk(message.chunk) if kind == "chunk" else None,
        observed=observed(message.observed) if kind == "observed" else None,
        synced=kind == "synced",
        state=sandbox(message.sandbox) if kind == "sandbox" else None,
        gone=kind == "gone",
        restart=kind == "restart",
        cursor=message.cursor,
    )


def history(message: api.DraftHistoryEntry) -> values.HistoryEntry:
    return values.HistoryEntry(time(message, "event_time"), message.event_type, message.chunk_id, message.description)


def decision(message: review_api.DecisionRecord) -> values.Decision:
    return values.Decision(
        time=time(message, "event_time"),
        event=message.event_type,
        chunk_id=message.chunk_id,
        actor=message.actor,
        via=message.via,
        description=message.description,
        reason=message.reason,
        before_hash=message.before_policy_hash,
        after_hash=message.after_policy_hash,
        policy_version=message.policy_version,
    )


def workspace(message: data.Workspace) -> values.Workspace:
    word = _word(data.WorkspacePhase.Name(message.status.phase), "WORKSPACE_PHASE_")
    meta = message.metadata
    return values.Workspace(meta.name, word, dict(meta.labels), time(meta, "created_time"))


def member(message: api.WorkspaceMember) -> values.Member:
    role = api.WorkspaceRole.Name(message.role).removeprefix("WORKSPACE_ROLE_").lower()
    return values.Member(message.principal_subject, role, time(message.metadata, "created_time"))


def template(message: api.SandboxWorkloadTemplate) -> values.Template:
    meta, workload = message.metadata, message.spec.workload
    return values.Template(
        name=meta.name,
        workspace=meta.workspace,
        labels=dict(meta.labels),
        environment=dict(workload.environment),
        cpu=workload.resources.cpu,
        memory=workload.resources.memory,
        version=meta.resource_version,
        created=time(meta, "created_time"),
    )


def setting_text(message: sandbox_api.SettingValue) -> str | None:
    """As people write it: true/false, digits, text; None when unset."""
    kind = message.WhichOneof("value")
    if kind is None:
        return None
    if kind == "bool_value":
        return "true" if message.bool_value else "false"
    if kind == "int_value":
        return str(message.int_value)
    return message.string_value if kind == "string_value" else message.bytes_value.hex()


def _policy(message: Message, field: str) -> Policy | None:
    return policy_map.policy_from_proto(getattr(message, field)) if message.HasField(field) else None


def config(message: sandbox_api.GetSandboxConfigResponse) -> values.Config:
    return values.Config(
        policy=_policy(message, "policy"),
        version=message.version,
        policy_hash=message.policy_hash,
        source="global" if message.policy_source == sandbox_api.POLICY_SOURCE_GLOBAL else "sandbox",
        settings={
            key: values.Setting(setting_text(one.value), _SCOPES.get(one.scope, "unset"))
            for key, one in message.settings.items()
        },
        revision=message.config_revision,
        global_version=message.global_policy_version,
    )


def global_settings(message: sandbox_api.GetGatewayConfigResponse) -> values.GlobalSettings:
    settings = {
        key: values.Setting(setting_text(one), "unset" if setting_text(one) is None else "global")
        for key, one in message.settings.items()
    }
    return values.GlobalSettings(settings, message.settings_revision)


def revision(message: api.SandboxPolicyRevision) -> values.Revision:
    return values.Revision(
        version=message.version,
        policy_hash=message.policy_hash,
        status=policy_status(message.status),
        load_error=message.load_error,
        created=time(message, "created_time"),
        loaded=time(message, "loaded_time"),
        policy=_policy(message, "policy"),
        provenance=dict(message.provenance),
    )


def log_line(message: api.SandboxLogLine) -> values.LogLine:
    return values.LogLine(
        time(message, "event_time"),
        message.source,
        message.level,
        message.target,
        message.message,
        dict(message.fields),
    )


def written(message: api.UpdateConfigResponse) -> values.Written:
    return values.Written(message.version, message.policy_hash, message.settings_revision, message.deleted)


def operator_status(message: review_api.GetOperatorStatusResponse) -> values.OperatorStatus:
    return values.OperatorStatus(
        tuple(values.ConnectTo(one.host, one.port, one.address, one.has_ca) for one in message.connect_to),
        message.state_dir,
        message.sandboxes_connected,
    )
