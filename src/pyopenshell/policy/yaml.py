"""Policy files: text to `Policy` with the place of every mistake, and `Policy` to text.

Decides the written form only; types and names are `policy.schema`, sense is `policy.validate`.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Mapping

from ruamel.yaml import YAML

from pyopenshell.policy.model import Endpoint, L7Match, McpOptions, Middleware, Policy, QueryMatcher, Rule
from pyopenshell.policy.nodes import locate, parse_yaml
from pyopenshell.policy.problems import Problems, raise_if_any
from pyopenshell.policy.schema import Cursor, read_policy
from pyopenshell.policy.validate import validate

Plain = dict[str, object]


def load(text: str | bytes, filename: str = "policy.yaml") -> Policy:
    """The policy in `text`. Raises `PolicyError` with the problems found, each with file, line and column.

    Types and spellings are reported first; only a text without such problems is checked for sense.
    """
    root = parse_yaml(text, filename)
    problems = Problems()
    policy = read_policy(Cursor(root, (), problems))
    if not problems:
        problems = Problems(validate(policy))
        for index, found in enumerate(problems):
            line, column = locate(root, found.where)
            problems[index] = dataclasses.replace(found, line=line, column=column)
    raise_if_any(problems, filename)
    return policy


def dump(policy: Policy) -> str:
    """The policy as YAML that `load` reads back equal, provenance flags aside: those are never written.

    Rule order is kept; a value that equals its default is left out, except `enforcement` of inspected endpoints.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 1_000_000
    out = io.StringIO()
    yaml.dump(to_plain(policy), out)
    return out.getvalue()


def to_plain(policy: Policy) -> Plain:
    """The policy as nested dicts, lists and scalars in the shape of the YAML (also for `-o json`)."""
    out: Plain = {"version": policy.version}
    if policy.filesystem is not None:
        out["filesystem_policy"] = {
            "include_workdir": policy.filesystem.include_workdir,
            "read_only": list(policy.filesystem.read_only),
            "read_write": list(policy.filesystem.read_write),
        }
    if policy.landlock is not None:
        out["landlock"] = {"compatibility": policy.landlock.compatibility}
    if policy.process is not None:
        out["process"] = _without_empty(
            {"run_as_user": policy.process.run_as_user, "run_as_group": policy.process.run_as_group}
        )
    if policy.rules:
        out["network_policies"] = {rule.key: rule_to_plain(rule) for rule in policy.rules}
    if policy.middlewares:
        out["network_middlewares"] = {entry.key: _middleware(entry) for entry in policy.middlewares}
    return out


def rule_to_plain(rule: Rule) -> Plain:
    out: Plain = {"name": rule.name} if rule.name else {}
    out["endpoints"] = [endpoint_to_plain(endpoint) for endpoint in rule.endpoints]
    out["binaries"] = [{"path": path} for path in rule.binaries]
    return out


_FLAGS = (
    "allow_encoded_slash",
    "websocket_credential_rewrite",
    "request_body_credential_rewrite",
    "allow_uninspected_credentials",
)


def endpoint_to_plain(endpoint: Endpoint) -> Plain:
    out: Plain = {"host": endpoint.host} if endpoint.host else {}
    if len(endpoint.ports) == 1:
        out["port"] = endpoint.ports[0]
    elif endpoint.ports:
        out["ports"] = list(endpoint.ports)
    out |= _without_empty({"path": endpoint.path, "protocol": endpoint.protocol, "tls": endpoint.tls})
    if endpoint.inspected or endpoint.enforcement != "enforce":
        out["enforcement"] = endpoint.enforcement
    if endpoint.access:
        out["access"] = endpoint.access
    if endpoint.rules:
        out["rules"] = [{"allow": match_to_plain(match)} for match in endpoint.rules]
    if endpoint.deny_rules:
        out["deny_rules"] = [match_to_plain(match) for match in endpoint.deny_rules]
    if endpoint.allowed_ips:
        out["allowed_ips"] = list(endpoint.allowed_ips)
    out |= {name: True for name in _FLAGS if getattr(endpoint, name)}
    if endpoint.path_case != "sensitive":
        out["path_case"] = endpoint.path_case
    for name in ("credential_signing", "signing_service", "signing_region"):
        if getattr(endpoint, name):
            out[name] = getattr(endpoint, name)
    if endpoint.credential_provider:
        out["credential_binding"] = {"provider": endpoint.credential_provider}
    return out | _protocol_options(endpoint)


def _protocol_options(endpoint: Endpoint) -> Plain:
    out: Plain = {}
    if endpoint.persisted_queries != "deny":
        out["persisted_queries"] = endpoint.persisted_queries
    if endpoint.graphql_persisted_queries:
        out["graphql_persisted_queries"] = {
            key: _without_empty(
                {"operation_type": op.operation_type, "operation_name": op.operation_name, "fields": list(op.fields)}
            )
            for key, op in endpoint.graphql_persisted_queries
        }
    if endpoint.graphql_max_body_bytes != 65536:
        out["graphql_max_body_bytes"] = endpoint.graphql_max_body_bytes
    if endpoint.json_rpc_max_body_bytes != 65536:
        out["json_rpc"] = {"max_body_bytes": endpoint.json_rpc_max_body_bytes}
    if endpoint.mcp is not None:
        out["mcp"] = _mcp(endpoint.mcp)
    return out


def _mcp(options: McpOptions) -> Plain:
    out: Plain = {}
    if options.max_body_bytes != 65536:
        out["max_body_bytes"] = options.max_body_bytes
    if not options.strict_tool_names:
        out["strict_tool_names"] = False
    if options.allow_all_known_mcp_methods:
        out["allow_all_known_mcp_methods"] = True
    if options.versions:
        out["versions"] = list(options.versions)
    return out


def match_to_plain(match: L7Match) -> Plain:
    out: Plain = {"method": match.method, "path": match.path}
    out |= {"query": _matchers(match.query), "command": match.command}
    out |= {"operation_type": match.operation_type, "operation_name": match.operation_name}
    out |= {"fields": list(match.fields)}
    params = [(key, matcher) for key, matcher in match.params if key != "name"]
    tools = [matcher for key, matcher in match.params if key == "name"]
    out |= {"tool": _matcher(tools[0]) if tools else None, "params": _matchers(params)}
    return _without_empty(out)


def _matchers(pairs: Iterable[tuple[str, QueryMatcher]]) -> Plain:
    return {key: _matcher(matcher) for key, matcher in pairs}


def _matcher(matcher: QueryMatcher) -> object:
    # An empty glob alone would be dropped as "nothing written", so it takes the long form.
    return matcher.any[0] if len(matcher.any) == 1 and matcher.any[0] else {"any": list(matcher.any)}


def _middleware(entry: Middleware) -> Plain:
    selector = _without_empty({"include": list(entry.include), "exclude": list(entry.exclude)})
    config: object = json.loads(entry.config_json)
    return _without_empty(
        {
            "name": entry.name,
            "middleware": entry.middleware,
            "config": config,
            "on_error": entry.on_error,
            "endpoints": selector,
        }
    ) | {"order": entry.order}


def _without_empty(values: Mapping[str, object]) -> Plain:
    return {key: value for key, value in values.items() if value not in ("", None, [], {})}
