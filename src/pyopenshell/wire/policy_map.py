"""The policy language on the wire: `openshell.sandbox.v1` messages to model values and back.

Decides how each field travels. Must not know sockets, nor whether a policy makes sense (`policy.validate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

from google.protobuf import json_format, unknown_fields

from pyopenshell.policy import merge
from pyopenshell.policy.model import (
    Endpoint,
    FilesystemPolicy,
    GraphqlOperation,
    L7Match,
    LandlockPolicy,
    McpOptions,
    Middleware,
    Policy,
    ProcessPolicy,
    QueryMatcher,
    Rule,
)
from pyopenshell.policy.problems import PolicyError, Where, problem
from pyopenshell.policy.schema import canonical_json, canonical_method, canonical_spelling
from pyopenshell.wire.gen import openshell_pb2, sandbox_pb2

PATH_CASE_FIELD = 1000
"""`path_case` is ours and openshell.sandbox.v1 has no field for it: it travels as an unknown field of this number,
which protobuf implementations preserve when they re-serialise. Varint 1 means insensitive."""
_PATH_CASE_INSENSITIVE = b"\xc0\x3e\x01"

_ENFORCEMENT = {0: "enforce", 1: "enforce", 2: "audit"}
"""A missing enforcement is `enforce`; upstream reads it as audit (design.md 1)."""
_ACCESS = {0: "", 1: "read-only", 2: "read-write", 3: "full"}
_TLS = {0: "", 1: "skip", 2: "", 3: ""}
"""Terminate and passthrough are upstream's deprecated spellings of automatic."""
_ENFORCEMENT_NUMBER = {"enforce": 1, "audit": 2}
_ACCESS_NUMBER = {name: number for number, name in _ACCESS.items()}

_SAME = (
    "host",
    "path",
    "protocol",
    "allow_encoded_slash",
    "websocket_credential_rewrite",
    "request_body_credential_rewrite",
    "allow_uninspected_credentials",
    "credential_signing",
    "signing_service",
    "signing_region",
    "advisor_proposed",
    "provider_credentialed",
)
"""Endpoint fields with the same name and type on both sides."""


# ---- to the wire -----------------------------------------------------------------------------------------------------


def policy_to_proto(policy: Policy) -> sandbox_pb2.SandboxPolicy:
    message = sandbox_pb2.SandboxPolicy(version=policy.version)
    if policy.filesystem is not None:
        message.filesystem.include_workdir = policy.filesystem.include_workdir
        message.filesystem.read_only.extend(policy.filesystem.read_only)
        message.filesystem.read_write.extend(policy.filesystem.read_write)
        message.filesystem.SetInParent()
    if policy.landlock is not None:
        message.landlock.compatibility = policy.landlock.compatibility
        message.landlock.SetInParent()
    if policy.process is not None:
        message.process.run_as_user = policy.process.run_as_user
        message.process.run_as_group = policy.process.run_as_group
        message.process.SetInParent()
    for rule in policy.rules:
        message.network_policies[rule.key].CopyFrom(rule_to_proto(rule))
    for entry in policy.middlewares:
        message.network_middlewares[entry.key].CopyFrom(_middleware_to_proto(entry))
    return message


def rule_to_proto(rule: Rule) -> sandbox_pb2.NetworkPolicyRule:
    """One rule. Its key does not travel inside: it is the map key, or the `rule_name` beside it."""
    return sandbox_pb2.NetworkPolicyRule(
        name=rule.name,
        endpoints=[endpoint_to_proto(endpoint) for endpoint in rule.endpoints],
        binaries=[sandbox_pb2.NetworkBinary(path=path) for path in rule.binaries],
    )


def endpoint_to_proto(endpoint: Endpoint) -> sandbox_pb2.NetworkEndpoint:
    message = sandbox_pb2.NetworkEndpoint(
        port=endpoint.ports[0] if endpoint.ports else 0,
        ports=endpoint.ports,
        tls=sandbox_pb2.NETWORK_TLS_MODE_SKIP if endpoint.tls == "skip" else sandbox_pb2.NETWORK_TLS_MODE_UNSPECIFIED,
        rules=[sandbox_pb2.L7Rule(allow=_allow_to_proto(match)) for match in endpoint.rules],
        deny_rules=[deny_to_proto(match) for match in endpoint.deny_rules],
        allowed_ips=endpoint.allowed_ips,
        persisted_queries="" if endpoint.persisted_queries == "deny" else endpoint.persisted_queries,
        graphql_max_body_bytes=endpoint.graphql_max_body_bytes,
        # The wire has one limit for both JSON-RPC dialects.
        json_rpc_max_body_bytes=endpoint.mcp.max_body_bytes if endpoint.mcp else endpoint.json_rpc_max_body_bytes,
    )
    for name in _SAME:
        setattr(message, name, getattr(endpoint, name))
    message.enforcement = _ENFORCEMENT_NUMBER[endpoint.enforcement]  # type: ignore[assignment]
    message.access = _ACCESS_NUMBER[endpoint.access]  # type: ignore[assignment]
    if endpoint.credential_provider:
        message.credential_binding.provider = endpoint.credential_provider
    for key, op in endpoint.graphql_persisted_queries:
        message.graphql_persisted_queries[key].CopyFrom(
            sandbox_pb2.GraphqlOperation(
                operation_type=op.operation_type, operation_name=op.operation_name, fields=op.fields
            )
        )
    if endpoint.mcp is not None:
        message.mcp.strict_tool_names = endpoint.mcp.strict_tool_names
        message.mcp.allow_all_known_mcp_methods = endpoint.mcp.allow_all_known_mcp_methods
        message.mcp.versions.extend(endpoint.mcp.versions)
    if endpoint.path_case == "insensitive":
        message.MergeFromString(_PATH_CASE_INSENSITIVE)
    return message


def _allow_to_proto(match: L7Match) -> sandbox_pb2.L7Allow:
    message = sandbox_pb2.L7Allow()
    _fill_match(message, match)
    return message


def deny_to_proto(match: L7Match) -> sandbox_pb2.L7DenyRule:
    message = sandbox_pb2.L7DenyRule()
    _fill_match(message, match)
    return message


def _fill_match(message: sandbox_pb2.L7Allow | sandbox_pb2.L7DenyRule, match: L7Match) -> None:
    for name in ("method", "path", "command", "operation_type", "operation_name"):
        setattr(message, name, getattr(match, name))
    message.fields.extend(match.fields)
    _fill_matchers(message.query, match.query)
    _fill_matchers(message.params, match.params)


def _fill_matchers(
    target: MutableMapping[str, sandbox_pb2.L7QueryMatcher], pairs: Iterable[tuple[str, QueryMatcher]]
) -> None:
    for key, matcher in pairs:
        # An empty glob cannot be told from a missing one, so it takes the list form.
        if len(matcher.any) == 1 and matcher.any[0]:
            target[key].glob = matcher.any[0]
        else:
            target[key].any.extend(matcher.any)


def _middleware_to_proto(entry: Middleware) -> sandbox_pb2.NetworkMiddlewareConfig:
    message = sandbox_pb2.NetworkMiddlewareConfig(
        name=entry.name, middleware=entry.middleware, on_error=entry.on_error, order=entry.order
    )
    if entry.config_json != "{}":
        json_format.Parse(entry.config_json, message.config)
    if entry.include or entry.exclude:
        message.endpoints.include.extend(entry.include)
        message.endpoints.exclude.extend(entry.exclude)
    return message


# ---- from the wire ---------------------------------------------------------------------------------------------------


def policy_from_proto(message: sandbox_pb2.SandboxPolicy) -> Policy:
    """The policy as sent; rules by key, because a protobuf map has no order.

    Raises `PolicyError` for enum numbers and matchers that no release defines. Sense is not checked.
    """
    policies, middlewares = message.network_policies, message.network_middlewares
    return Policy(
        version=message.version,
        filesystem=_filesystem(message.filesystem) if message.HasField("filesystem") else None,
        landlock=LandlockPolicy(message.landlock.compatibility or "best_effort")
        if message.HasField("landlock")
        else None,
        process=ProcessPolicy(message.process.run_as_user, message.process.run_as_group)
        if message.HasField("process")
        else None,
        rules=tuple(rule_from_proto(key, policies[key]) for key in sorted(policies)),
        middlewares=tuple(_middleware(key, middlewares[key]) for key in sorted(middlewares)),
    )


def _filesystem(message: sandbox_pb2.FilesystemPolicy) -> FilesystemPolicy:
    return FilesystemPolicy(message.include_workdir, tuple(message.read_only), tuple(message.read_write))


def rule_from_proto(key: str, message: sandbox_pb2.NetworkPolicyRule) -> Rule:
    """One rule under `key` ("" takes the message's own name). Raises `PolicyError`."""
    key = key or message.name
    where: Where = ("network_policies", key, "endpoints")
    return Rule(
        key=key,
        endpoints=tuple(endpoint_from_proto(m, (*where, index)) for index, m in enumerate(message.endpoints)),
        binaries=tuple(binary.path for binary in message.binaries),
        name=message.name,
    )


def endpoint_from_proto(message: sandbox_pb2.NetworkEndpoint, where: Where = ()) -> Endpoint:
    same = {name: getattr(message, name) for name in _SAME} | {"host": canonical_spelling(message.host)}
    limit = message.json_rpc_max_body_bytes or 65536
    has_mcp = message.HasField("mcp")
    return Endpoint(
        **same,
        ports=tuple(sorted(set(message.ports or ([message.port] if message.port else [])))),
        tls=_enum(_TLS, message.tls, "tls", where),
        enforcement=_enum(_ENFORCEMENT, message.enforcement, "enforcement", where),
        access=_enum(_ACCESS, message.access, "access", where),
        rules=tuple(_match(rule.allow, (*where, "rules", i, "allow")) for i, rule in enumerate(message.rules)),
        deny_rules=tuple(_match(deny, (*where, "deny_rules", i)) for i, deny in enumerate(message.deny_rules)),
        allowed_ips=tuple(message.allowed_ips),
        path_case="insensitive" if _path_case(message) else "sensitive",
        credential_provider=message.credential_binding.provider,
        persisted_queries=message.persisted_queries or "deny",
        graphql_persisted_queries=tuple(
            (key, _operation(op)) for key, op in sorted(message.graphql_persisted_queries.items())
        ),
        graphql_max_body_bytes=message.graphql_max_body_bytes or 65536,
        json_rpc_max_body_bytes=65536 if has_mcp else limit,
        mcp=_mcp(message.mcp, limit) if has_mcp else None,
    )


def _path_case(message: sandbox_pb2.NetworkEndpoint) -> bool:
    unknown = unknown_fields.UnknownFieldSet(message)
    fields = (unknown[index] for index in range(len(unknown)))
    return any(field.field_number == PATH_CASE_FIELD and field.data == 1 for field in fields)


def _enum(names: Mapping[int, str], number: int, name: str, where: Where) -> str:
    if number not in names:
        raise PolicyError([problem("unknown_value", f"unknown {name} number {number}", where=(*where, name))])
    return names[number]


def _match(message: sandbox_pb2.L7Allow | sandbox_pb2.L7DenyRule, where: Where) -> L7Match:
    return L7Match(
        method=canonical_method(message.method),
        path=message.path,
        query=_matchers(message.query, (*where, "query")),
        command=message.command,
        operation_type=message.operation_type,
        operation_name=message.operation_name,
        fields=tuple(message.fields),
        params=_matchers(message.params, (*where, "params")),
    )


def _matchers(pairs: Mapping[str, sandbox_pb2.L7QueryMatcher], where: Where) -> tuple[tuple[str, QueryMatcher], ...]:
    found = []
    for key in sorted(pairs):
        matcher = pairs[key]
        if bool(matcher.glob) == bool(matcher.any):
            message = "a matcher has exactly one of glob, any"
            raise PolicyError([problem("matcher_shape", message, where=(*where, key))])
        found.append((key, QueryMatcher(tuple(matcher.any) or (matcher.glob,))))
    return tuple(found)


def _operation(message: sandbox_pb2.GraphqlOperation) -> GraphqlOperation:
    return GraphqlOperation(message.operation_type, message.operation_name, tuple(message.fields))


def _mcp(message: sandbox_pb2.McpOptions, limit: int) -> McpOptions:
    return McpOptions(
        max_body_bytes=limit,
        strict_tool_names=message.strict_tool_names if message.HasField("strict_tool_names") else True,
        allow_all_known_mcp_methods=message.allow_all_known_mcp_methods,
        versions=tuple(message.versions),
    )


def _middleware(key: str, message: sandbox_pb2.NetworkMiddlewareConfig) -> Middleware:
    config = json_format.MessageToDict(message.config) if message.HasField("config") else {}
    return Middleware(
        key=key,
        middleware=message.middleware,
        name=message.name,
        config_json=canonical_json(config),
        on_error=message.on_error or "fail",
        order=message.order,
        include=tuple(message.endpoints.include),
        exclude=tuple(message.endpoints.exclude),
    )


# ---- merge operations ------------------------------------------------------------------------------------------------


def merge_operation_from_proto(message: openshell_pb2.PolicyMergeOperation) -> merge.Operation:
    """One merge operation. Raises `PolicyError` (enum numbers) or `merge.MergeError` (no operation, no rule)."""
    kind = message.WhichOneof("operation")
    if kind == "add_rule":
        add = message.add_rule
        if not add.HasField("rule"):
            raise merge.MergeError("invalid_argument", "add_rule.rule is required")
        return merge.AddRule(add.rule_name, rule_from_proto(add.rule_name, add.rule))
    if kind == "remove_endpoint":
        removed = message.remove_endpoint
        return merge.RemoveEndpoint(canonical_spelling(removed.host), removed.port, removed.rule_name)
    if kind == "remove_rule":
        return merge.RemoveRule(message.remove_rule.rule_name)
    if kind == "remove_binary":
        return merge.RemoveBinary(message.remove_binary.rule_name, message.remove_binary.binary_path)
    if kind == "add_deny_rules":
        denies = message.add_deny_rules
        return merge.AddDenyRules(
            _target(denies.target if denies.HasField("target") else None),
            tuple(_match(deny, ("deny_rules", index)) for index, deny in enumerate(denies.deny_rules)),
        )
    if kind == "add_allow_rules":
        allows = message.add_allow_rules
        return merge.AddAllowRules(
            _target(allows.target if allows.HasField("target") else None),
            tuple(_match(rule.allow, ("rules", index, "allow")) for index, rule in enumerate(allows.rules)),
        )
    raise merge.MergeError("invalid_argument", "the merge operation is missing an operation")


def merge_operation_to_proto(operation: merge.Operation) -> openshell_pb2.PolicyMergeOperation:
    """The inverse of `merge_operation_from_proto`."""
    message = openshell_pb2.PolicyMergeOperation()
    if isinstance(operation, merge.AddRule):
        message.add_rule.rule_name = operation.rule_name
        message.add_rule.rule.CopyFrom(rule_to_proto(operation.rule))
    elif isinstance(operation, merge.RemoveEndpoint):
        message.remove_endpoint.rule_name = operation.rule_name
        message.remove_endpoint.host, message.remove_endpoint.port = operation.host, operation.port
    elif isinstance(operation, merge.RemoveRule):
        message.remove_rule.rule_name = operation.rule_name
    elif isinstance(operation, merge.RemoveBinary):
        message.remove_binary.rule_name, message.remove_binary.binary_path = operation.rule_name, operation.binary
    elif isinstance(operation, merge.AddDenyRules):
        message.add_deny_rules.target.CopyFrom(_target_to_proto(operation.target))
        message.add_deny_rules.deny_rules.extend(map(deny_to_proto, operation.deny_rules))
    else:
        message.add_allow_rules.target.CopyFrom(_target_to_proto(operation.target))
        for match in operation.rules:
            message.add_allow_rules.rules.add().allow.CopyFrom(_allow_to_proto(match))
    return message


def _target_to_proto(target: merge.Target) -> openshell_pb2.L7RuleTarget:
    message = openshell_pb2.L7RuleTarget(
        rule_name=target.rule_name, host=target.host, ports=target.ports, any_binary=target.any_binary
    )
    if target.path is not None:
        message.path = target.path
    for path in target.binaries:
        message.binaries.add().path = path
    return message


def _target(message: openshell_pb2.L7RuleTarget | None) -> merge.Target:
    if message is None:
        raise merge.MergeError("invalid_argument", "target is required")
    return merge.Target(
        rule_name=message.rule_name,
        host=canonical_spelling(message.host),
        ports=tuple(sorted(set(message.ports))),
        path=message.path if message.HasField("path") else None,
        binaries=tuple(binary.path for binary in message.binaries),
        any_binary=message.any_binary,
    )
