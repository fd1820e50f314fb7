"""The shorthand grammar, pinned line by line, and its resistance to forged fields."""

from __future__ import annotations

import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from pyopenshell.audit.shorthand import line, shorthand

CURL = Actor("/usr/bin/curl", 64)
PUT = HttpEvent(
    "PUT",
    Severity.MEDIUM,
    Action.DENIED,
    "https",
    "api.github.com",
    443,
    "/repos/o/r/contents/x.md",
    policy="github_api_readonly",
    reason="L7_REQUEST deny PUT api.github.com:443/repos/o/r/contents/x.md",
)

CASES: list[tuple[Event, str]] = [
    (
        PUT,
        "HTTP:PUT [MED] DENIED PUT http://api.github.com:443/repos/o/r/contents/x.md "
        "[policy:github_api_readonly engine:l7] "
        "[reason:L7_REQUEST deny PUT api.github.com:443/repos/o/r/contents/x.md]",
    ),
    (
        HttpEvent("PUT", Severity.INFO, Action.ALLOWED, "https", "api.github.com", 443, "/x", policy="p", reason="no"),
        "HTTP:PUT [INFO] ALLOWED PUT http://api.github.com:443/x [policy:p engine:l7]",
    ),
    (
        HttpEvent("GET", Severity.INFO, Action.ALLOWED, "http", "example.com", 80, "/", CURL, "web", "opa"),
        "HTTP:GET [INFO] ALLOWED /usr/bin/curl(64) -> GET http://example.com/ [policy:web engine:opa]",
    ),
    (
        HttpEvent(
            "PUT", Severity.INFO, Action.OTHER, "https", "a.example", 443, "/", audit=True, reason="would be denied"
        ),
        "HTTP:PUT [INFO] OBSERVED PUT http://a.example:443/ [policy:- engine:l7] [reason:would be denied]",
    ),
    (
        NetworkEvent(
            "OPEN",
            Severity.MEDIUM,
            Action.DENIED,
            "httpbin.org",
            443,
            actor=CURL,
            policy="-",
            engine="opa",
            reason="network connections not allowed by policy",
            denial_id="d-0",
        ),
        "NET:OPEN [MED] DENIED /usr/bin/curl(64) -> httpbin.org:443 [policy:- engine:opa] "
        "[reason:network connections not allowed by policy] [denial:d-0]",
    ),
    (
        NetworkEvent(
            "LISTEN", Severity.INFO, host="10.200.0.1", port=3128, message="Proxy listening on 10.200.0.1:3128"
        ),
        "NET:LISTEN [INFO] 10.200.0.1:3128 [msg:Proxy listening on 10.200.0.1:3128]",
    ),
    (NetworkEvent("FAIL", Severity.LOW, host="::1", port=1, protocol="udp"), "NET:FAIL [LOW] [::1]:1/udp"),
    (
        ConfigEvent("LOADED", "Policy reloaded successfully", fields=(("policy_hash", "ab12"),)),
        "CONFIG:LOADED [INFO] Policy reloaded successfully [policy_hash:ab12]",
    ),
    (
        FindingEvent(
            "bypass-detect", 'went "around"', Severity.HIGH, evidence=(("dst", "1.2.3.4"),), confidence="high"
        ),
        "FINDING:CREATE [HIGH] \"went 'around'\" [type:bypass-detect dst:1.2.3.4] [confidence:high]",
    ),
    (ProcessEvent("TERMINATE", "bash", 7, exit_code=0), "PROC:TERMINATE [INFO] bash(7) [exit:0]"),
    (ProcessEvent("LAUNCH", "bash", 7, command="bash -l"), "PROC:LAUNCH [INFO] bash(7) [cmd:bash -l]"),
    (
        KernelEvent("bpf", Severity.MEDIUM, Action.DENIED, Actor("/usr/bin/x", 4), "8 times until now"),
        "KERNEL:INVOKE [MED] DENIED /usr/bin/x(4) -> bpf [engine:seccomp] [msg:8 times until now]",
    ),
    (LifecycleEvent("START", "supervisor"), "LIFECYCLE:START [INFO] supervisor Success"),
    (
        SshEvent("OPEN", Severity.INFO, Action.ALLOWED, "unix", "publickey"),
        "SSH:OPEN [INFO] ALLOWED unix [auth:publickey]",
    ),
]


@pytest.mark.parametrize(("event", "expected"), CASES)
def test_grammar(event: Event, expected: str) -> None:
    assert shorthand(event) == expected


def test_line_has_utc_milliseconds() -> None:
    time = datetime.datetime(2026, 1, 2, 5, 4, 5, 78_000, datetime.timezone(datetime.timedelta(hours=2)))
    stop = shorthand(LifecycleEvent("STOP", "x"))
    assert line(int(time.timestamp() * 1000), stop) == "2026-01-02T03:04:05.078Z OCSF LIFECYCLE:STOP [INFO] x Success"


def test_reason_is_cut_at_256_bytes_between_characters() -> None:
    event = NetworkEvent("OPEN", Severity.MEDIUM, Action.DENIED, "h", 1, policy="-", engine="opa", reason="ä" * 200)
    reason = shorthand(event).split("[reason:")[1]
    assert reason == "ä" * 128 + "...]"


@given(st.text())
def test_no_text_starts_a_new_line_or_moves_a_cursor(text: str) -> None:
    events: list[Event] = [
        HttpEvent("GET", Severity.MEDIUM, Action.DENIED, "http", text, 1, text, Actor(text, 1), text, reason=text),
        NetworkEvent("OPEN", Severity.MEDIUM, Action.DENIED, text, 1, text, Actor(text, 1), text, text, text),
        ConfigEvent("PROPOSED", text, fields=((text, text),)),
        FindingEvent("x", text, Severity.LOW, evidence=((text, text),)),
        ProcessEvent("LAUNCH", text, 1, command=text),
        KernelEvent(text, Severity.MEDIUM, Action.DENIED, Actor(text, 1), text),
        SshEvent("OPEN", Severity.INFO, peer=text, auth=text),
    ]
    for event in events:
        printed = shorthand(event)
        assert printed.isprintable()
        printed.encode("utf-8")


@given(st.text())
def test_an_executable_path_cannot_forge_fields(path: str) -> None:
    event = NetworkEvent(
        "OPEN", Severity.MEDIUM, Action.DENIED, "h.example", 443, actor=Actor(path, 9), policy="-", engine="opa"
    )
    match = re.fullmatch(
        r"NET:OPEN \[MED\] DENIED (\S*)\(9\) -> h\.example:443 \[policy:- engine:opa\]", shorthand(event)
    )
    assert match
    assert "[" not in match[1]


@given(st.text(alphabet="ab]: [\t\n\r\u00a0"))
def test_a_reason_cannot_start_another_field(text: str) -> None:
    event = NetworkEvent("OPEN", Severity.MEDIUM, Action.DENIED, "h", 1, policy="-", engine="opa", reason=f"x{text}y")
    assert shorthand(event).count("] [") == 1, "between policy and reason, nowhere else"
