"""One refusal, from any door, and the one envelope in which the client reads it.

Doors build a `Denial` and hand it to `denied()`; this module alone knows the JSON keys (contract/sandbox.md 2).
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from typing import Any

from pyopenshell.policy.operations import GraphqlRequest, Operation, RpcCall

MESSAGE_METHOD = "WEBSOCKET_TEXT"
"""The method under which messages on upgraded connections are judged."""
SKILL_PATH = "/etc/openshell/skills/policy_advisor.md"
POLICY_LOCAL = "http://policy.local"
AGENT_GUIDANCE = (
    "This request is blocked by policy, not broken: do not give up and do not work around it. "
    f"Read {SKILL_PATH}, submit the narrowest rule that allows exactly this request, wait until it is approved "
    "and policy_reloaded is true, then retry once."
)
NEXT_STEPS: tuple[dict[str, str], ...] = (
    {"action": "read_skill", "path": SKILL_PATH},
    {"action": "inspect_policy", "method": "GET", "url": f"{POLICY_LOCAL}/v1/policy/current"},
    {"action": "inspect_recent_denials", "method": "GET", "url": f"{POLICY_LOCAL}/v1/denials?last=5"},
    {
        "action": "submit_proposal",
        "method": "POST",
        "url": f"{POLICY_LOCAL}/v1/proposals",
        "body_type": "PolicyMergeOperation",
    },
)


def new_denial_id() -> str:
    """Unguessable, short enough for a header and a log line: "d-" and 16 hex digits."""
    return f"d-{secrets.token_hex(8)}"


@dataclasses.dataclass(frozen=True, slots=True)
class Denial:
    """What was refused and why. `layer` is "l4" or "l7"; `stage` and `error` are those of docs/agent-loop.md.

    `path` (canonical, no query) is "" at L4, and so is `method` but for plain HTTP through the proxy.
    `detail` is the sentence for people, `reason` the engine's.
    `proposable` is False where no rule could ever help (malformed request, always-blocked address, unknown owner).
    """

    layer: str
    stage: str
    host: str
    port: int
    detail: str
    error: str = "policy_denied"
    status: int = 403
    binary: str = ""
    ancestors: tuple[str, ...] = ()
    pid: int = 0
    sha256: str = ""
    protocol: str = ""
    method: str = ""
    path: str = ""
    policy: str = "-"
    reason: str = ""
    condition: str = ""
    nearest: str = ""
    operation: Operation | None = None
    """What in the request was refused, where requests are judged by what they carry."""
    proposable: bool = True
    id: str = dataclasses.field(default_factory=new_denial_id)


_PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


def envelope(denial: Denial, *, proposals_enabled: bool) -> dict[str, Any]:
    """The JSON object of a denial: a superset of the contract's keys, the same on every layer.

    `next_steps` is empty and `agent_guidance` absent while proposals are off, or where no proposal could help.
    """
    body: dict[str, Any] = {
        "error": denial.error,
        "denial_id": denial.id,
        "policy": denial.policy,
        "rule": f"{denial.method} {denial.path}" if denial.layer == "l7" else f"{denial.host}:{denial.port}",
        "detail": denial.detail,
        "layer": denial.layer,
        "protocol": denial.protocol or ("tcp" if denial.layer != "l7" else "rest"),
        "method": denial.method or "CONNECT",
        "path": denial.path,
        "failed_condition": denial.condition,
    }
    socket = denial.method == MESSAGE_METHOD or denial.protocol == "websocket"
    wanted = "l4_allow" if denial.layer != "l7" else "websocket_allow" if socket else "rest_allow"
    missing: dict[str, Any] = {"type": wanted, "layer": denial.layer}
    if denial.layer == "l7":
        missing |= {"method": denial.method, "path": denial.path}
    for target in (body, missing):
        if denial.host:
            target["host"] = denial.host
        if denial.port:
            target["port"] = denial.port
        if denial.binary:
            target["binary"] = denial.binary
    if denial.reason and denial.reason != denial.detail:
        body["reason"] = denial.reason
    if denial.nearest:
        body["nearest_miss"] = denial.nearest
    if denial.operation is not None:
        body["operation"] = str(denial.operation)
        missing |= _operation_missing(denial.protocol, denial.operation)
    if denial.condition == "blocked_by_deny_rule":
        # An allow rule cannot lift a deny rule: say what blocks instead of what is missing.
        missing["type"] = "none"
        body["blocked_by"] = {"type": "deny_rule", "policy": denial.policy}
    elif not denial.proposable:
        missing["type"] = "none"
    body["rule_missing"] = missing
    helpful = proposals_enabled and denial.proposable
    body["next_steps"] = list(NEXT_STEPS) if helpful else []
    if helpful:
        body["agent_guidance"] = AGENT_GUIDANCE
    return body


_PLAIN = re.compile(r"[A-Za-z0-9_./-]{1,128}").fullmatch
"""Names that mean themselves in a rule, and that are safe to show."""
_MAX_FIELDS = 16


def _operation_missing(protocol: str, operation: Operation) -> dict[str, Any]:
    """What a rule would have to allow: `allow` can stand in `rules` as it is. Left out where no plain rule would do."""
    allow: dict[str, Any] = {}
    names: tuple[str, ...] = ()
    if isinstance(operation, GraphqlRequest) and operation.fields and len(operation.fields) <= _MAX_FIELDS:
        allow = {"operation_type": operation.operation_type, "fields": list(operation.fields)}
        names = operation.fields
        if operation.operation_name:
            allow["operation_name"] = operation.operation_name
            names = (*names, operation.operation_name)
    elif isinstance(operation, RpcCall):
        allow, names = {"method": operation.method}, (operation.method,)
        tool = dict(operation.params).get("name", "") if operation.method == "tools/call" else ""
        if tool and protocol == "mcp":
            allow["tool"], names = tool, (*names, tool)
    missing: dict[str, Any] = {"type": f"{protocol.replace('-', '_')}_allow", "protocol": protocol}
    if allow and all(map(_PLAIN, names)):
        missing["allow"] = allow
    return missing


def http_response(denial: Denial, *, proposals_enabled: bool, close: bool) -> bytes:
    """A complete HTTP/1.1 response. `close` announces that the connection ends after it."""
    body = json.dumps(envelope(denial, proposals_enabled=proposals_enabled)).encode()
    phrase = _PHRASES.get(denial.status, "Refused")
    if denial.status == 403:
        # All that wget, Go, pip, requests, httpx, aiohttp and s_client show of a refused CONNECT is this phrase.
        phrase += f" by OpenShell policy (denial {denial.id})"
    head = (
        f"HTTP/1.1 {denial.status} {phrase}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-OpenShell-Policy: {_token(denial.policy)}\r\n"
        f"X-OpenShell-Denial: {denial.id}\r\n"
        f"{proxy_status(_status_error(denial), denial.id)}"
    )
    head += "Connection: close\r\n\r\n" if close else "\r\n"
    return head.encode("ascii", "replace") + body


class Answer:
    """`http_response` of a denial that may come again: all but its id stays the same."""

    __slots__ = ("_parts",)

    def __init__(self, denial: Denial, *, proposals_enabled: bool, close: bool) -> None:
        response = http_response(denial, proposals_enabled=proposals_enabled, close=close)
        # Nobody can have known this id before, so it stands where we wrote it and nowhere else.
        self._parts = response.split(denial.id.encode())

    def to(self, denial: Denial) -> bytes:
        """The answer to the same refusal under its id, which is as long as any."""
        return denial.id.encode().join(self._parts)


def proxy_status(error: str, details: str) -> str:
    """The `Proxy-Status` line (RFC 9209), CRLF included. `error` is one of its error types, `details` plain ASCII."""
    return f'Proxy-Status: openshell; error={error}; details="{details}"\r\n'


def _status_error(denial: Denial) -> str:
    if denial.stage == "ssrf":
        return "destination_ip_prohibited"
    return "http_request_error" if denial.status in (400, 413) else "http_request_denied"


def _token(text: str) -> str:
    """Header-safe: rule names are an author's text."""
    if text.isascii() and text.isprintable():
        return text[:200]
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)[:200]
