"""Events as OCSF 1.8.0 objects (contract/sandbox.md 8.5), ready for `json.dumps`. No I/O, no clock."""

from __future__ import annotations

from typing import Any

from pyopenshell.audit.events import (
    Action,
    Actor,
    ConfigEvent,
    Event,
    FindingEvent,
    HttpEvent,
    KernelEvent,
    LifecycleEvent,
    NetworkEvent,
    ProcessEvent,
    Severity,
    SshEvent,
)
from pyopenshell.audit.text import visible

SCHEMA_VERSION = "1.8.0"

_CATEGORIES = {1: "System Activity", 2: "Findings", 4: "Network Activity", 5: "Discovery", 6: "Application Activity"}
_NET = {"OPEN": 1, "CLOSE": 2, "RESET": 3, "FAIL": 4, "REFUSE": 5, "TRAFFIC": 6, "LISTEN": 7, "OTHER": 99}
_HTTP = {"CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8, "PATCH": 9}
_PROCESS = {"LAUNCH": 1, "TERMINATE": 2}
_LIFECYCLE = {"INSTALL": 1, "REMOVE": 2, "START": 3, "STOP": 4}
_FINDING = {"CREATE": 1, "UPDATE": 2, "CLOSE": 3}
_SEVERITY = {
    Severity.INFO: "Informational",
    Severity.LOW: "Low",
    Severity.MEDIUM: "Medium",
    Severity.HIGH: "High",
    Severity.CRITICAL: "Critical",
    Severity.FATAL: "Fatal",
}
_CONFIDENCE = {"low": 1, "medium": 2, "high": 3}
_DISPOSITION = {Action.ALLOWED: (1, "Allowed"), Action.DENIED: (2, "Blocked"), Action.OBSERVED: (15, "Detected")}
_STATE_DISABLED = frozenset({"DISABLED", "FAIL_CLOSED", "DEGRADED"})
_STATE_ENABLED = frozenset({"ENABLED", "LOADED", "APPLIED"})


def record(event: Event, time_ms: int, sandbox_id: str, product_version: str) -> dict[str, Any]:
    """The event as an OCSF object. `time_ms` is Unix milliseconds; `sandbox_id` becomes `metadata.uid`."""
    match event:
        case HttpEvent():
            body = _base(4002, "HTTP Activity", 4, _HTTP.get(event.method, 99), event.method.title(), event)
            body |= _traffic(event.host, event.port, event.actor, event.policy, event.engine)
            body |= _action(event.action, audit=event.audit)
            url = {"scheme": event.scheme, "hostname": event.host, "path": event.path, "port": event.port}
            body["http_request"] = {"http_method": event.method, "url": url}
            if event.status_code:
                body["http_response"] = {"code": event.status_code}
        case NetworkEvent():
            activity = _NET.get(event.activity, 99)
            body = _base(4001, "Network Activity", 4, activity, event.activity.title(), event)
            body |= _traffic(event.host, event.port, event.actor, event.policy, event.engine)
            body |= _action(event.action)
            body["connection_info"] = {"protocol_name": event.protocol or "tcp"}
        case ConfigEvent():
            body = _base(5019, "Device Config State Change", 5, 1, "Log", event)
            enabled = event.state in _STATE_ENABLED
            disabled = event.state in _STATE_DISABLED
            body["state_id"] = 2 if enabled else 1 if disabled else 99
            body["state"] = "Enabled" if enabled else "Disabled" if disabled else event.state
            if event.fields:
                body["unmapped"] = dict(event.fields)
        case FindingEvent():
            activity = _FINDING.get(event.disposition, 1)
            body = _base(2004, "Detection Finding", 2, activity, event.disposition.title(), event)
            body["finding_info"] = {"uid": event.uid, "title": event.title, "desc": event.description}
            body["evidences"] = [{"data": dict(event.evidence)}] if event.evidence else []
            body["is_alert"] = event.severity >= Severity.HIGH
            if event.confidence:
                body["confidence_id"] = _CONFIDENCE[event.confidence]
        case ProcessEvent():
            body = _base(1007, "Process Activity", 1, _PROCESS.get(event.activity, 99), event.activity.title(), event)
            body["process"] = {"name": event.name, "pid": event.pid}
            if event.command:
                body["process"]["cmd_line"] = event.command
            if event.exit_code is not None:
                body["exit_code"] = event.exit_code
        case KernelEvent():
            body = _base(1003, "Kernel Activity", 1, 4, "Invoke", event)
            body |= _action(event.action)
            body["actor"] = {"process": {"name": event.actor.exe, "pid": event.actor.pid}}
            body["kernel"] = {"name": event.call, "type_id": 2, "type": "System Call"}
        case LifecycleEvent():
            activity = _LIFECYCLE.get(event.activity, 99)
            body = _base(6002, "Application Lifecycle", 6, activity, event.activity.title(), event)
            body["app"] = {"name": event.app}
            body |= {"status_id": 1 if event.status == "Success" else 2, "status": event.status}
        case SshEvent():
            body = _base(4007, "SSH Activity", 4, _NET.get(event.activity, 99), event.activity.title(), event)
            body |= _action(event.action)
            if event.peer:
                body["src_endpoint"] = {"name": event.peer}
    body["time"] = time_ms
    body["metadata"] = {
        "version": SCHEMA_VERSION,
        "product": {"name": "OpenShell Sandbox Supervisor", "vendor_name": "OpenShell", "version": product_version},
        "profiles": ["security_control", "host"],
        "uid": sandbox_id,
    }
    denial = getattr(event, "denial_id", "")
    if denial:
        body.setdefault("unmapped", {})["denial_id"] = denial
    return body


def _base(
    class_uid: int, class_name: str, category: int, activity: int, activity_name: str, event: Event
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "class_uid": class_uid,
        "class_name": class_name,
        "category_uid": category,
        "category_name": _CATEGORIES[category],
        "activity_id": activity,
        "activity_name": visible(activity_name),
        "type_uid": class_uid * 100 + activity,
        "type_name": f"{class_name}: {visible(activity_name)}",
        "severity_id": int(event.severity),
        "severity": _SEVERITY[event.severity],
    }
    message = getattr(event, "message", "")
    reason = getattr(event, "reason", "")
    if message or reason:
        body["message"] = message or reason
    if reason:
        body["status_detail"] = reason
    return body


def _traffic(host: str, port: int, actor: Actor | None, policy: str, engine: str) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if host:
        body["dst_endpoint"] = {"hostname": host, "port": port}
    if actor:
        process: dict[str, Any] = {"name": actor.exe, "pid": actor.pid}
        if actor.ancestors:
            process["parent_process"] = {"name": actor.ancestors[0]}
        body["actor"] = {"process": process}
    if policy:
        body["firewall_rule"] = {"name": policy, "type": engine}
    return body


def _action(action: Action, *, audit: bool = False) -> dict[str, Any]:
    if audit:
        return {"action_id": 3, "action": "Observed", "disposition_id": 17, "disposition": "Logged"}
    if action is Action.NONE:
        return {}
    disposition, name = _DISPOSITION.get(action, (99, "Other"))
    return {
        "action_id": action.id,
        "action": action.word.title(),
        "disposition_id": disposition,
        "disposition": name,
        "status_id": 2 if action is Action.DENIED else 1,
        "status": "Failure" if action is Action.DENIED else "Success",
    }
