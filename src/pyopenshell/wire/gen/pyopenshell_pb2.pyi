import datetime

from pyopenshell.wire.gen import datamodel_pb2 as _datamodel_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pyopenshell.wire.gen import openshell_pb2 as _openshell_pb2
from pyopenshell.wire.gen import options_pb2 as _options_pb2
from pyopenshell.wire.gen import sandbox_pb2 as _sandbox_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Region(_message.Message):
    __slots__ = ("text", "reason", "witness", "uninspected")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    UNINSPECTED_FIELD_NUMBER: _ClassVar[int]
    text: str
    reason: str
    witness: str
    uninspected: bool
    def __init__(self, text: _Optional[str] = ..., reason: _Optional[str] = ..., witness: _Optional[str] = ..., uninspected: _Optional[bool] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("duration", "expires_time")
    DURATION_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_TIME_FIELD_NUMBER: _ClassVar[int]
    duration: _duration_pb2.Duration
    expires_time: _timestamp_pb2.Timestamp
    def __init__(self, duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., expires_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ChunkReview(_message.Message):
    __slots__ = ("chunk_id", "analysis_mode", "newly_permits", "proven", "decided_by", "superseded_by", "lease", "review_token")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    ANALYSIS_MODE_FIELD_NUMBER: _ClassVar[int]
    NEWLY_PERMITS_FIELD_NUMBER: _ClassVar[int]
    PROVEN_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REVIEW_TOKEN_FIELD_NUMBER: _ClassVar[int]
    chunk_id: str
    analysis_mode: str
    newly_permits: _containers.RepeatedCompositeFieldContainer[Region]
    proven: bool
    decided_by: str
    superseded_by: str
    lease: Lease
    review_token: str
    def __init__(self, chunk_id: _Optional[str] = ..., analysis_mode: _Optional[str] = ..., newly_permits: _Optional[_Iterable[_Union[Region, _Mapping]]] = ..., proven: _Optional[bool] = ..., decided_by: _Optional[str] = ..., superseded_by: _Optional[str] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., review_token: _Optional[str] = ...) -> None: ...

class ApproveChunkRequest(_message.Message):
    __slots__ = ("workspace_scope", "sandbox", "chunk_id", "review_token", "lease")
    WORKSPACE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    REVIEW_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    workspace_scope: _datamodel_pb2.WorkspaceSelector
    sandbox: str
    chunk_id: str
    review_token: str
    lease: _duration_pb2.Duration
    def __init__(self, workspace_scope: _Optional[_Union[_datamodel_pb2.WorkspaceSelector, _Mapping]] = ..., sandbox: _Optional[str] = ..., chunk_id: _Optional[str] = ..., review_token: _Optional[str] = ..., lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ApproveChunkResponse(_message.Message):
    __slots__ = ("policy_version", "policy_hash", "lease")
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    policy_version: int
    policy_hash: str
    lease: Lease
    def __init__(self, policy_version: _Optional[int] = ..., policy_hash: _Optional[str] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ...) -> None: ...

class ListChunkReviewsRequest(_message.Message):
    __slots__ = ("workspace_scope", "sandbox", "chunk_ids")
    WORKSPACE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    CHUNK_IDS_FIELD_NUMBER: _ClassVar[int]
    workspace_scope: _datamodel_pb2.WorkspaceSelector
    sandbox: str
    chunk_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, workspace_scope: _Optional[_Union[_datamodel_pb2.WorkspaceSelector, _Mapping]] = ..., sandbox: _Optional[str] = ..., chunk_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListChunkReviewsResponse(_message.Message):
    __slots__ = ("reviews",)
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    reviews: _containers.RepeatedCompositeFieldContainer[ChunkReview]
    def __init__(self, reviews: _Optional[_Iterable[_Union[ChunkReview, _Mapping]]] = ...) -> None: ...

class ObservedDenial(_message.Message):
    __slots__ = ("sandbox_id", "host", "port", "binary", "method", "path", "policy", "reason", "count", "first_seen_time", "last_seen_time", "denial_id")
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    DENIAL_ID_FIELD_NUMBER: _ClassVar[int]
    sandbox_id: str
    host: str
    port: int
    binary: str
    method: str
    path: str
    policy: str
    reason: str
    count: int
    first_seen_time: _timestamp_pb2.Timestamp
    last_seen_time: _timestamp_pb2.Timestamp
    denial_id: str
    def __init__(self, sandbox_id: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., binary: _Optional[str] = ..., method: _Optional[str] = ..., path: _Optional[str] = ..., policy: _Optional[str] = ..., reason: _Optional[str] = ..., count: _Optional[int] = ..., first_seen_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., denial_id: _Optional[str] = ...) -> None: ...

class ListObservedDenialsRequest(_message.Message):
    __slots__ = ("workspace_scope", "sandbox")
    WORKSPACE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    workspace_scope: _datamodel_pb2.WorkspaceSelector
    sandbox: str
    def __init__(self, workspace_scope: _Optional[_Union[_datamodel_pb2.WorkspaceSelector, _Mapping]] = ..., sandbox: _Optional[str] = ...) -> None: ...

class ListObservedDenialsResponse(_message.Message):
    __slots__ = ("denials",)
    DENIALS_FIELD_NUMBER: _ClassVar[int]
    denials: _containers.RepeatedCompositeFieldContainer[ObservedDenial]
    def __init__(self, denials: _Optional[_Iterable[_Union[ObservedDenial, _Mapping]]] = ...) -> None: ...

class WatchInboxRequest(_message.Message):
    __slots__ = ("workspace_scope", "sandbox", "overview", "resume_after_cursor")
    WORKSPACE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    OVERVIEW_FIELD_NUMBER: _ClassVar[int]
    RESUME_AFTER_CURSOR_FIELD_NUMBER: _ClassVar[int]
    workspace_scope: _datamodel_pb2.WorkspaceSelector
    sandbox: str
    overview: bool
    resume_after_cursor: str
    def __init__(self, workspace_scope: _Optional[_Union[_datamodel_pb2.WorkspaceSelector, _Mapping]] = ..., sandbox: _Optional[str] = ..., overview: _Optional[bool] = ..., resume_after_cursor: _Optional[str] = ...) -> None: ...

class InboxEvent(_message.Message):
    __slots__ = ("sandbox_id", "sandbox_name", "workspace", "chunk", "observed", "synced", "sandbox", "gone", "restart", "cursor")
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    SYNCED_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    sandbox_id: str
    sandbox_name: str
    workspace: str
    chunk: _openshell_pb2.PolicyChunk
    observed: ObservedDenial
    synced: bool
    sandbox: _openshell_pb2.Sandbox
    gone: bool
    restart: bool
    cursor: str
    def __init__(self, sandbox_id: _Optional[str] = ..., sandbox_name: _Optional[str] = ..., workspace: _Optional[str] = ..., chunk: _Optional[_Union[_openshell_pb2.PolicyChunk, _Mapping]] = ..., observed: _Optional[_Union[ObservedDenial, _Mapping]] = ..., synced: _Optional[bool] = ..., sandbox: _Optional[_Union[_openshell_pb2.Sandbox, _Mapping]] = ..., gone: _Optional[bool] = ..., restart: _Optional[bool] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListDecisionsRequest(_message.Message):
    __slots__ = ("workspace_scope", "sandbox", "chunk_id", "page_size", "page_token")
    WORKSPACE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    workspace_scope: _datamodel_pb2.WorkspaceSelector
    sandbox: str
    chunk_id: str
    page_size: int
    page_token: str
    def __init__(self, workspace_scope: _Optional[_Union[_datamodel_pb2.WorkspaceSelector, _Mapping]] = ..., sandbox: _Optional[str] = ..., chunk_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class DecisionRecord(_message.Message):
    __slots__ = ("event_time", "event_type", "chunk_id", "actor", "via", "description", "reason", "before_policy_hash", "after_policy_hash", "policy_version")
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    VIA_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BEFORE_POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    AFTER_POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    event_time: _timestamp_pb2.Timestamp
    event_type: str
    chunk_id: str
    actor: str
    via: str
    description: str
    reason: str
    before_policy_hash: str
    after_policy_hash: str
    policy_version: int
    def __init__(self, event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., event_type: _Optional[str] = ..., chunk_id: _Optional[str] = ..., actor: _Optional[str] = ..., via: _Optional[str] = ..., description: _Optional[str] = ..., reason: _Optional[str] = ..., before_policy_hash: _Optional[str] = ..., after_policy_hash: _Optional[str] = ..., policy_version: _Optional[int] = ...) -> None: ...

class ListDecisionsResponse(_message.Message):
    __slots__ = ("decisions", "next_page_token")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[DecisionRecord]
    next_page_token: str
    def __init__(self, decisions: _Optional[_Iterable[_Union[DecisionRecord, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ConnectTo(_message.Message):
    __slots__ = ("host", "port", "address", "has_ca")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HAS_CA_FIELD_NUMBER: _ClassVar[int]
    host: str
    port: int
    address: str
    has_ca: bool
    def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ..., address: _Optional[str] = ..., has_ca: _Optional[bool] = ...) -> None: ...

class GetOperatorStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetOperatorStatusResponse(_message.Message):
    __slots__ = ("connect_to", "state_dir", "sandboxes_connected")
    CONNECT_TO_FIELD_NUMBER: _ClassVar[int]
    STATE_DIR_FIELD_NUMBER: _ClassVar[int]
    SANDBOXES_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    connect_to: _containers.RepeatedCompositeFieldContainer[ConnectTo]
    state_dir: str
    sandboxes_connected: int
    def __init__(self, connect_to: _Optional[_Iterable[_Union[ConnectTo, _Mapping]]] = ..., state_dir: _Optional[str] = ..., sandboxes_connected: _Optional[int] = ...) -> None: ...

class ProposalState(_message.Message):
    __slots__ = ("chunk_id", "status", "rule_name", "binary", "rejection_reason", "validation_result", "application_error", "review_token", "current_effective_policy_hash", "candidate_effective_policy_hash", "policy_version", "summary", "lease")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RULE_NAME_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    REJECTION_REASON_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_RESULT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    REVIEW_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CURRENT_EFFECTIVE_POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_EFFECTIVE_POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    chunk_id: str
    status: str
    rule_name: str
    binary: str
    rejection_reason: str
    validation_result: str
    application_error: str
    review_token: str
    current_effective_policy_hash: str
    candidate_effective_policy_hash: str
    policy_version: int
    summary: str
    lease: Lease
    def __init__(self, chunk_id: _Optional[str] = ..., status: _Optional[str] = ..., rule_name: _Optional[str] = ..., binary: _Optional[str] = ..., rejection_reason: _Optional[str] = ..., validation_result: _Optional[str] = ..., application_error: _Optional[str] = ..., review_token: _Optional[str] = ..., current_effective_policy_hash: _Optional[str] = ..., candidate_effective_policy_hash: _Optional[str] = ..., policy_version: _Optional[int] = ..., summary: _Optional[str] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ...) -> None: ...

class GetProposalRequest(_message.Message):
    __slots__ = ("chunk_id",)
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    chunk_id: str
    def __init__(self, chunk_id: _Optional[str] = ...) -> None: ...

class WatchProposalsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLeasesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Fallback(_message.Message):
    __slots__ = ("lease_id", "remaining", "policy", "policy_hash", "chunk_id", "summary")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    remaining: _duration_pb2.Duration
    policy: _sandbox_pb2.SandboxPolicy
    policy_hash: str
    chunk_id: str
    summary: str
    def __init__(self, lease_id: _Optional[str] = ..., remaining: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., policy: _Optional[_Union[_sandbox_pb2.SandboxPolicy, _Mapping]] = ..., policy_hash: _Optional[str] = ..., chunk_id: _Optional[str] = ..., summary: _Optional[str] = ...) -> None: ...

class GetLeasesResponse(_message.Message):
    __slots__ = ("policy_version", "fallbacks")
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    policy_version: int
    fallbacks: _containers.RepeatedCompositeFieldContainer[Fallback]
    def __init__(self, policy_version: _Optional[int] = ..., fallbacks: _Optional[_Iterable[_Union[Fallback, _Mapping]]] = ...) -> None: ...

class ConsoleStart(_message.Message):
    __slots__ = ("workspace_scope", "sandbox", "command", "environment", "cols", "rows")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKSPACE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    COLS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    workspace_scope: _datamodel_pb2.WorkspaceSelector
    sandbox: str
    command: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.ScalarMap[str, str]
    cols: int
    rows: int
    def __init__(self, workspace_scope: _Optional[_Union[_datamodel_pb2.WorkspaceSelector, _Mapping]] = ..., sandbox: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., environment: _Optional[_Mapping[str, str]] = ..., cols: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class ConsoleInput(_message.Message):
    __slots__ = ("start", "stdin", "resize")
    START_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    start: ConsoleStart
    stdin: bytes
    resize: _openshell_pb2.ExecSandboxWindowResize
    def __init__(self, start: _Optional[_Union[ConsoleStart, _Mapping]] = ..., stdin: _Optional[bytes] = ..., resize: _Optional[_Union[_openshell_pb2.ExecSandboxWindowResize, _Mapping]] = ...) -> None: ...

class ConsoleAttached(_message.Message):
    __slots__ = ("resumed",)
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    resumed: bool
    def __init__(self, resumed: _Optional[bool] = ...) -> None: ...

class ConsoleEvent(_message.Message):
    __slots__ = ("attached", "output", "exit_code")
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    attached: ConsoleAttached
    output: bytes
    exit_code: int
    def __init__(self, attached: _Optional[_Union[ConsoleAttached, _Mapping]] = ..., output: _Optional[bytes] = ..., exit_code: _Optional[int] = ...) -> None: ...
