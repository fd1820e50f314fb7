"""Events as one line for people and for grep: the grammar of contract/sandbox.md 8.2.

A URL is always printed as `http://` with the port unless it is 80, and a request inside TLS without its actor: scripts
match `HTTP:PUT [MED] DENIED PUT http://api.github.com:443/...`. The JSON form carries the real scheme and the actor.
"""

from __future__ import annotations

import datetime
import functools

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
from pyopenshell.audit.text import field, one_line, shorten, visible

REASON_LIMIT = 256
"""Bytes of a reason (contract/sandbox.md 11)."""
MESSAGE_LIMIT = 120
"""Bytes of a message or a finding's title."""

_SEVERITY = {
    Severity.INFO: "[INFO]",
    Severity.LOW: "[LOW]",
    Severity.MEDIUM: "[MED]",
    Severity.HIGH: "[HIGH]",
    Severity.CRITICAL: "[CRIT]",
    Severity.FATAL: "[FATAL]",
}


def line(time_ms: int, text: str) -> str:
    """A whole log line without its line break: `2026-01-02T03:04:05.678Z OCSF <shorthand>`.

    `time_ms` is Unix milliseconds, `text` what `shorthand` gave.
    """
    return _stamp(time_ms) + text


@functools.lru_cache(maxsize=4)
def _stamp(time_ms: int) -> str:
    """A busy proxy writes many lines in one millisecond."""
    second, ms = divmod(time_ms, 1000)
    return f"{_second(second)}.{ms:03d}Z OCSF "


@functools.lru_cache(maxsize=4)
def _second(unix: int) -> str:
    return datetime.datetime.fromtimestamp(unix, datetime.UTC).isoformat()[:19]


def shorthand(event: Event) -> str:
    """The event as one line. Every text in it is escaped; nothing an agent wrote can break or forge a line."""
    match event:
        case HttpEvent():
            return _http(event)
        case NetworkEvent():
            return _network(event)
        case ConfigEvent():
            return _config(event)
        case FindingEvent():
            return _finding(event)
        case ProcessEvent():
            return _process(event)
        case KernelEvent():
            parts = ["KERNEL:INVOKE", _SEVERITY[event.severity], event.action.word, _actor(event.actor)]
            parts += [_prose(event.call), "[engine:seccomp]"]
            return _join([*parts, f"[msg:{shorten(_prose(event.message), MESSAGE_LIMIT)}]" if event.message else ""])
        case LifecycleEvent():
            return f"LIFECYCLE:{event.activity} {_SEVERITY[event.severity]} {field(event.app)} {field(event.status)}"
        case SshEvent():
            parts = [f"SSH:{event.activity}", _SEVERITY[event.severity], event.action.word, field(event.peer)]
            if event.auth:
                parts.append(f"[auth:{field(event.auth)}]")
            return _join(parts)


def _http(event: HttpEvent) -> str:
    # Taken apart at once: there is a line for every request, and a named tuple's fields cost a call each.
    method, severity, action, scheme, host, port, path, actor, policy, engine, reason, message, _, audit, denial = event
    if audit:
        action = Action.OBSERVED
    verdict, url = _request(method, severity, action, host, port)
    who = f" {_actor(actor)}" if actor is not None and scheme != "https" else ""
    text = f"{verdict}{who} {url}{field(path)}"
    if policy:
        text = f"{text} {_rule(policy, engine)}"
    if reason and (audit or action is Action.DENIED):
        text = f"{text} {_reason(reason)}"
    if denial:
        text = f"{text} [denial:{field(denial)}]"
    elif engine in _CARRIED and message and not audit:
        text = f"{text} [msg:{shorten(_prose(message), MESSAGE_LIMIT)}]"
    return text


_CARRIED = frozenset({"l7-graphql", "l7-jsonrpc", "l7-mcp"})
"""Engines whose requests method and path say too little about."""


@functools.lru_cache(maxsize=256)
def _request(method: str, severity: Severity, action: Action, host: str, port: int) -> tuple[str, str]:
    """The two parts that all requests of a kind to one place share: there is a line for every request."""
    method = field(method)
    verdict = _join([f"HTTP:{method}", _SEVERITY[severity], action.word])
    return verdict, f"{method} http://{_host(host)}" + ("" if port == 80 else f":{port}")


def _network(event: NetworkEvent) -> str:
    where = ""
    if event.host:
        where = _host(event.host) + (f":{event.port}" if event.port else "")
        where += f"/{field(event.protocol)}" if event.protocol else ""
    denied = event.action is Action.DENIED
    parts = [
        f"NET:{event.activity}",
        _SEVERITY[event.severity],
        event.action.word,
        _actor(event.actor) if where else "",
        where,
        _rule(event.policy, event.engine),
        _reason(event.reason) if denied and event.reason else "",
        f"[denial:{field(event.denial_id)}]" if event.denial_id else "",
    ]
    if event.message and not denied:
        parts.append(f"[msg:{shorten(_prose(event.message), MESSAGE_LIMIT)}]")
    return _join(parts)


def _config(event: ConfigEvent) -> str:
    parts = [f"CONFIG:{event.state}", _SEVERITY[event.severity], _prose(event.message)]
    if event.fields:
        parts.append("[" + " ".join(f"{field(k)}:{field(v)}" for k, v in event.fields) + "]")
    return _join(parts)


def _finding(event: FindingEvent) -> str:
    title = shorten(_prose(event.title), MESSAGE_LIMIT).replace('"', "'")
    evidence = "".join(f" {field(k)}:{field(v)}" for k, v in event.evidence)
    parts = [
        f"FINDING:{event.disposition}",
        _SEVERITY[event.severity],
        f'"{title}"',
        f"[type:{field(event.uid)}{evidence}]",
        f"[confidence:{event.confidence}]" if event.confidence else "",
    ]
    return _join(parts)


def _process(event: ProcessEvent) -> str:
    parts = [f"PROC:{event.activity}", _SEVERITY[event.severity], f"{field(event.name)}({event.pid})"]
    if event.exit_code is not None:
        parts.append(f"[exit:{event.exit_code}]")
    if event.command:
        parts.append(f"[cmd:{shorten(_prose(event.command), REASON_LIMIT)}]")
    return _join(parts)


def _join(parts: list[str]) -> str:
    return " ".join(part for part in parts if part)


def _actor(actor: Actor | None) -> str:
    return f"{field(actor.exe)}({actor.pid}) ->" if actor else ""


def _host(host: str) -> str:
    return f"[{visible(host)}]" if ":" in host else field(host)


@functools.lru_cache(maxsize=256)
def _rule(policy: str, engine: str) -> str:
    return f"[policy:{field(policy)} engine:{field(engine)}]" if policy else ""


def _reason(text: str) -> str:
    return f"[reason:{shorten(_prose(text), REASON_LIMIT)}]"


def _prose(text: str) -> str:
    """A sentence: brackets and blanks stay readable, but "] [", which ends one field and starts the next, does not."""
    return one_line(text).replace("] [", "]\\x20[")
