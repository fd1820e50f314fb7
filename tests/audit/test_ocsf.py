"""The JSON form: required members, ids that agree with their names, serialisable whatever the texts are."""

from __future__ import annotations

import json

import pytest

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
from pyopenshell.audit.ocsf import record

EVENTS: list[tuple[Event, int]] = [
    (NetworkEvent("OPEN", Severity.MEDIUM, Action.DENIED, "h", 443, actor=Actor("/x", 1, ("/p",))), 4001),
    (HttpEvent("PUT", Severity.INFO, Action.ALLOWED, "https", "h", 443, "/a", status_code=201), 4002),
    (ConfigEvent("LOADED", "m", fields=(("policy_hash", "x"),)), 5019),
    (FindingEvent("u", "t", Severity.HIGH), 2004),
    (ProcessEvent("LAUNCH", "n", 1), 1007),
    (KernelEvent("bpf", Severity.MEDIUM, Action.DENIED, Actor("/x", 1)), 1003),
    (LifecycleEvent("START", "a"), 6002),
    (SshEvent("OPEN", Severity.INFO, peer="\ud800"), 4007),
]
REQUIRED = {
    "class_uid", "class_name", "category_uid", "category_name", "activity_id", "activity_name", "type_uid", "type_name",
    "time", "severity_id", "severity", "metadata",
}  # fmt: skip


@pytest.mark.parametrize(("event", "class_uid"), EVENTS)
def test_required_members(event: Event, class_uid: int) -> None:
    body = record(event, 5, "sb-1", "0.1.0")
    assert set(body) >= REQUIRED
    assert body["class_uid"] == class_uid
    assert body["type_uid"] == class_uid * 100 + body["activity_id"]
    assert body["category_uid"] == class_uid // 1000
    assert body["metadata"]["uid"] == "sb-1"
    assert "\n" not in json.dumps(body)


def test_denied_request_carries_actor_rule_reason_and_denial_id() -> None:
    event = HttpEvent(
        "PUT",
        Severity.MEDIUM,
        Action.DENIED,
        "https",
        "h",
        443,
        "/a",
        Actor("/usr/bin/curl", 3),
        "r",
        reason="why",
        denial_id="d-1",
    )
    body = record(event, 5, "sb", "0")
    assert body["actor"]["process"] == {"name": "/usr/bin/curl", "pid": 3}
    assert body["firewall_rule"] == {"name": "r", "type": "l7"}
    assert (body["action_id"], body["disposition_id"], body["status_detail"]) == (2, 2, "why")
    assert body["http_request"]["url"]["scheme"] == "https"
    assert body["unmapped"]["denial_id"] == "d-1"


def test_audited_request_is_never_shown_as_allowed() -> None:
    event = HttpEvent("PUT", Severity.INFO, Action.ALLOWED, "https", "h", 443, "/a", audit=True)
    assert record(event, 5, "sb", "0")["action"] == "Observed"
