"""Endpoints and rules as one line for people (contract/cli.md 2.1). Shows everything that a rule grants.

Decides wording and order of tags. Agent-supplied text is passed on; whoever prints escapes it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyopenshell.policy.model import Endpoint, L7Match, QueryMatcher, Rule


def render_endpoint(endpoint: Endpoint) -> str:
    """`host:port [L7 rest, allow PUT /v1/foo]`: the contract's tags first, then what upstream does not show."""
    ports = ",".join(map(str, endpoint.ports))
    host = endpoint.host or "*"
    return f"{host}:{ports} [{', '.join(_tags(endpoint))}]" if ports else f"{host} [{', '.join(_tags(endpoint))}]"


def render_endpoints(endpoints: Iterable[Endpoint]) -> str:
    """The `Endpoints:` line."""
    return ", ".join(render_endpoint(endpoint) for endpoint in endpoints)


def rule_lines(rule: Rule) -> list[str]:
    """One line per endpoint and one with the binaries."""
    return [*map(render_endpoint, rule.endpoints), "by " + (", ".join(rule.binaries) or "nobody")]


def render_match(match: L7Match) -> str:
    """`PUT /v1/foo query a=x*`; "*" where nothing is written."""
    if match.operation_type or match.operation_name or match.fields:
        out = f"{match.operation_type or '*'} {match.operation_name or '*'}"
        out += f" {{{' '.join(match.fields)}}}" if match.fields else ""
    elif match.params and not match.path:
        out = match.method or "*"
    else:
        out = f"{match.method or '*'} {match.path or '*'}"
    if match.command:
        out += f" command {match.command}"
    for word, matchers in (("query", match.query), ("params", match.params)):
        if matchers:
            out += f" {word} " + " ".join(_matcher(key, matcher) for key, matcher in matchers)
    return out


def _matcher(key: str, matcher: QueryMatcher) -> str:
    return f"{key}={'|'.join(matcher.any)}"


def _tags(endpoint: Endpoint) -> list[str]:
    protocol = endpoint.protocol
    tags = ["L7 rest" if protocol.lower() == "rest" else protocol or "L4"]
    if endpoint.access:
        tags.append(f"access={endpoint.access}")
    tags += [f"allow {render_match(match)}" for match in endpoint.rules]
    tags += [f"deny {render_match(match)}" for match in endpoint.deny_rules]
    if endpoint.path:
        tags.append(f"path={endpoint.path}")
    if endpoint.enforcement == "audit":
        tags.append("AUDIT ONLY")
    if endpoint.tls:
        tags.append(f"tls={endpoint.tls}")
    if endpoint.allowed_ips:
        tags.append(f"allowed_ips={'|'.join(endpoint.allowed_ips)}")
    tags += [f"{name}={getattr(endpoint, name)}" for name in _TEXTS if getattr(endpoint, name)]
    tags += [name.replace("_", "-") for name in _FLAGS if getattr(endpoint, name)]
    if endpoint.path_case == "insensitive":
        tags.append("path-case-insensitive")
    if endpoint.persisted_queries != "deny":
        tags.append(f"persisted_queries={endpoint.persisted_queries}")
    if endpoint.mcp is not None and endpoint.mcp.allow_all_known_mcp_methods:
        tags.append("all known MCP methods")
    return tags


_TEXTS = ("credential_signing", "signing_service", "signing_region", "credential_provider")
_FLAGS = (
    "allow_encoded_slash",
    "websocket_credential_rewrite",
    "request_body_credential_rewrite",
    "allow_uninspected_credentials",
)
