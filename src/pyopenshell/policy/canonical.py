"""One byte form per meaning: what is hashed and compared as "the same policy".

Decides which differences do not matter: order of rules, endpoints, binaries and matchers, repetitions, and a rule
name that only repeats the key. Everything else, provenance flags included, matters. Rules enter a policy's form by
their hashes, which are remembered with the rule: a change of one rule hashes one rule.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import TypeVar

from pyopenshell.policy.memo import per_object
from pyopenshell.policy.model import Endpoint, L7Match, Middleware, Policy, Rule

T = TypeVar("T")
_POLICY_LABEL = b"pyopenshell policy 2\n"
_RULE_LABEL = b"pyopenshell rule 2\n"


@per_object
def policy_hash(policy: Policy) -> str:
    """Lower-case hex SHA-256 of `canonical_bytes`. Opaque to clients: equal means equal, nothing more."""
    return hashlib.sha256(_POLICY_LABEL + canonical_bytes(policy)).hexdigest()


@per_object
def rule_hash(rule: Rule) -> str:
    """The same for one rule (undo, and inside every policy's hash)."""
    return hashlib.sha256(_RULE_LABEL + _text(_rule(rule)).encode()).hexdigest()


def canonical_bytes(policy: Policy) -> bytes:
    value = {
        "version": policy.version,
        "filesystem": None
        if policy.filesystem is None
        else [
            policy.filesystem.include_workdir,
            sorted(set(policy.filesystem.read_only)),
            sorted(set(policy.filesystem.read_write)),
        ],
        "landlock": None if policy.landlock is None else policy.landlock.compatibility,
        "process": None if policy.process is None else dataclasses.astuple(policy.process),
        "rules": sorted(set(map(rule_hash, policy.rules))),
        "middlewares": _sorted(policy.middlewares, _middleware),
    }
    return _text(value).encode()


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _sorted(values: tuple[T, ...], form: Callable[[T], object]) -> list[str]:
    return sorted({_text(form(value)) for value in values})


def _rule(rule: Rule) -> object:
    return [rule.key, rule.name or rule.key, _sorted(rule.endpoints, _endpoint), sorted(set(rule.binaries))]


def _endpoint(endpoint: Endpoint) -> object:
    value = {field: getattr(endpoint, field) for field in _PLAIN_FIELDS}
    value["ports"] = sorted(set(endpoint.ports))
    value["rules"] = _sorted(endpoint.rules, _match)
    value["deny_rules"] = _sorted(endpoint.deny_rules, _match)
    value["allowed_ips"] = sorted(set(endpoint.allowed_ips))
    value["graphql_persisted_queries"] = {
        key: [op.operation_type, op.operation_name, sorted(set(op.fields))]
        for key, op in endpoint.graphql_persisted_queries
    }
    mcp = endpoint.mcp
    value["mcp"] = mcp and [
        mcp.max_body_bytes,
        mcp.strict_tool_names,
        mcp.allow_all_known_mcp_methods,
        sorted(set(mcp.versions)),
    ]
    return value


_SETS = {"ports", "rules", "deny_rules", "allowed_ips", "graphql_persisted_queries", "mcp"}
_PLAIN_FIELDS = tuple(field.name for field in dataclasses.fields(Endpoint) if field.name not in _SETS)


def _match(match: L7Match) -> object:
    value = {name: getattr(match, name) for name in ("method", "path", "command", "operation_type", "operation_name")}
    value["fields"] = sorted(set(match.fields))
    value["query"] = {key: sorted(set(matcher.any)) for key, matcher in match.query}
    value["params"] = {key: sorted(set(matcher.any)) for key, matcher in match.params}
    return value


def _middleware(entry: Middleware) -> object:
    value = {name: getattr(entry, name) for name in ("key", "middleware", "name", "config_json", "on_error", "order")}
    return value | {"include": sorted(set(entry.include)), "exclude": sorted(set(entry.exclude))}
