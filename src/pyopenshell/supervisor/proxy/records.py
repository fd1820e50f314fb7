"""One audit event for every decision of the proxy, and the answers that are not denials.

Decides wording, severity and engine names (contract/sandbox.md 8.2-8.4). Never puts a query string into anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyopenshell.audit.events import Action, Actor, AuditSink, FindingEvent, HttpEvent, NetworkEvent, Severity
from pyopenshell.audit.text import field
from pyopenshell.supervisor.denial import proxy_status

if TYPE_CHECKING:
    from pyopenshell.isolation.identity import Identity
    from pyopenshell.policy.decision import Decision
    from pyopenshell.policy.operations import Operation
    from pyopenshell.supervisor.denial import Denial
    from pyopenshell.supervisor.proxy.admission import Admission, Failure

_PHRASES = {
    200: "OK",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_INFO, _ALLOWED = Severity.INFO, Action.ALLOWED
_TRUST_ADVICE = "point it at $SSL_CERT_FILE, or ask for `tls: skip` on this endpoint"
ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def json_response(status: int, body: bytes, *, close: bool, extra: str = "") -> bytes:
    """A complete response. `extra` is header lines with CRLF, already known to be safe."""
    head = (
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{extra}"
    )
    return (head + ("Connection: close\r\n\r\n" if close else "\r\n")).encode("latin-1", "replace") + body


def error_response(status: int, error: str, detail: str, *, close: bool = True) -> bytes:
    """`{"error": code, "detail": text}`: what went wrong with the request itself."""
    return json_response(status, json.dumps({"error": error, "detail": detail}).encode(), close=close)


def busy_response() -> bytes:
    """To a client for which there is no memory."""
    detail = "the connections of this sandbox hold too many bytes that nobody takes; try again when some have ended"
    return error_response(503, "proxy_overloaded", detail)


_STEPS = {
    "resolve": "dns_error",
    "connect": "connection_refused",
    "tls": "tls_protocol_error",
    "request": "connection_terminated",
    "response": "http_protocol_error",
    "proxy": "proxy_internal_error",
}
"""Steps at which an upstream can fail, and what Proxy-Status calls them (RFC 9209, 2.3)."""


def failure_response(failure: Failure, host: str, port: int, *, close: bool) -> bytes:
    """502 with the step that failed, 504 when it took too long, 500 when it was the proxy itself. Says nothing of
    policy: policy did not refuse."""
    body = {"error": failure.error, "detail": failure.detail, "step": failure.step, "host": host, "port": port}
    status = proxy_status(failure.status or _STEPS[failure.step], failure.step)
    code = {"upstream_timeout": 504, "internal_error": 500}.get(failure.error, 502)
    return json_response(code, json.dumps(body).encode(), close=close, extra=status)


def actor(identity: Identity) -> Actor:
    return Actor(identity.exe, identity.pid, identity.ancestors)


def denied_actor(denial: Denial) -> Actor | None:
    return Actor(denial.binary, denial.pid, denial.ancestors) if denial.binary else None


def request_event(
    word: str,
    scheme: str,
    admission: Admission,
    method: str,
    path: str,
    decision: Decision,
    who: Actor | None,
) -> HttpEvent:
    """A request that goes upstream: allowed, or let through by `enforcement: audit`."""
    host, port, rule = admission.host, admission.port, decision.rule
    if decision.audit:
        text = f"{word} audit {method} {host}:{port}{field(path)} reason={decision.reason}"
        severity, action = Severity.MEDIUM, Action.OBSERVED
        return HttpEvent(method, severity, action, scheme, host, port, path, who, rule, "l7", text, text, audit=True)
    engine = "l7" if admission.cell.inspected else "opa"
    text = f"{word} allow {method} {host}:{port}{path}"
    return HttpEvent(method, _INFO, _ALLOWED, scheme, host, port, path, who, rule, engine, "", text)


_ENGINES = {"graphql": "l7-graphql", "json-rpc": "l7-jsonrpc", "mcp": "l7-mcp"}
_WORDS = {"graphql": "GRAPHQL_", "json-rpc": "JSONRPC_", "mcp": "JSONRPC_"}
_NAMED = 4


def carried_event(
    word: str,
    scheme: str,
    admission: Admission,
    method: str,
    path: str,
    decision: Decision,
    who: Actor | None,
    protocol: str,
    operations: Sequence[Operation],
) -> HttpEvent:
    """`request_event` for a request that was judged by what it carries: names of operations and tools, no values."""
    spoken = _spoken(word, protocol)
    event = request_event(spoken, scheme, admission, method, path, decision, who)
    engine = _ENGINES.get(protocol, event.engine)
    if decision.audit or not operations:
        return event._replace(engine=engine)
    more = len(operations) - _NAMED
    what = "; ".join(map(str, operations[:_NAMED])) + (f" and {more} more" if more > 0 else "")
    return event._replace(engine=engine, message=f"{spoken} allow {what}")


def _spoken(word: str, protocol: str) -> str:
    """The word of the log for requests in a tunnel says what was judged (contract/sandbox.md 1.3)."""
    return _WORDS.get(protocol, "") + word if word == "L7_REQUEST" else word


class Recorder:
    """Writes the events. Every method is one decision or one failure."""

    def __init__(self, audit: AuditSink, denied: Callable[[Denial], None]) -> None:
        self.emit = audit.emit
        self._denied = denied

    def listening(self, host: str, port: int) -> None:
        message = f"Proxy listening on {host}:{port}"
        self.emit(NetworkEvent("LISTEN", Severity.INFO, host=host, port=port, message=message))

    def connected(self, admission: Admission) -> None:
        """CONNECT was answered with 200."""
        self.emit(
            NetworkEvent(
                "OPEN",
                Severity.INFO,
                Action.ALLOWED,
                admission.host,
                admission.port,
                actor=actor(admission.identity),
                policy=admission.cell.decision.rule,
                engine="opa",
            )
        )

    def refused_connection(self, denial: Denial) -> None:
        """A denial of a connection: CONNECT at L4, addresses, or a tunnel that cannot be inspected."""
        engine = "ssrf" if denial.stage == "ssrf" else "opa" if denial.layer == "l4" else "l7"
        self.emit(
            NetworkEvent(
                "OPEN",
                Severity.MEDIUM,
                Action.DENIED,
                denial.host,
                denial.port,
                actor=denied_actor(denial),
                policy="-" if denial.layer == "l4" else denial.policy,
                engine=engine,
                reason=denial.reason or denial.detail,
                denial_id=denial.id,
            )
        )
        self._denied(denial)

    def refused_name(self, denial: Denial) -> None:
        """A question to policy DNS about a name that no rule names. Who asked is not known: UDP has no owner."""
        self.emit(
            NetworkEvent(
                "REFUSE",
                Severity.MEDIUM,
                Action.DENIED,
                denial.host,
                protocol="dns",
                policy="-",
                engine="dns",
                reason=denial.detail,
                denial_id=denial.id,
            )
        )
        self._denied(denial)

    def counted(self, denial: Denial) -> None:
        """The same refusal once more: it was written already."""
        self._denied(denial)

    def crowded(self, rule: str, names: int, most: int) -> None:
        """Half of the names that may be asked for under a rule's wildcards were asked for."""
        self.emit(
            FindingEvent(
                "openshell.dns.wildcard_names",
                "Many different names under one wildcard",
                Severity.MEDIUM,
                evidence=(("policy", rule), ("names", str(names)), ("limit", str(most))),
                confidence="medium",
            )
        )

    def refused_forward(self, denial: Denial, method: str, path: str) -> None:
        """A denial of a plain-HTTP request before its rules were asked (L4, addresses)."""
        self.emit(
            HttpEvent(
                method,
                Severity.MEDIUM,
                Action.DENIED,
                "http",
                denial.host,
                denial.port,
                path,
                denied_actor(denial),
                "-",
                "ssrf" if denial.stage == "ssrf" else "opa",
                denial.reason or denial.detail,
                denial_id=denial.id,
            )
        )
        self._denied(denial)

    def refused_request(self, word: str, scheme: str, denial: Denial, who: Actor | None) -> None:
        """An L7 denial."""
        # A path that never became canonical may hold brackets, and "[reason:" must not be endable from inside.
        where = f"{denial.host}:{denial.port}{field(denial.path)}"
        text = f"{_spoken(word, denial.protocol)} deny {denial.method} {where} reason={denial.reason or denial.detail}"
        severity = Severity.HIGH if denial.error == "request_authority_mismatch" else Severity.MEDIUM
        self.emit(
            HttpEvent(
                denial.method,
                severity,
                Action.DENIED,
                scheme,
                denial.host,
                denial.port,
                denial.path,
                who,
                denial.policy,
                _ENGINES.get(denial.protocol, "l7"),
                text,
                text,
                denial.status,
                denial_id=denial.id,
            )
        )
        if denial.error == "request_authority_mismatch":
            self.emit(
                FindingEvent(
                    "openshell.http.request_authority_mismatch",
                    "Request names another host than its tunnel",
                    Severity.HIGH,
                    evidence=(("tunnel", f"{denial.host}:{denial.port}"), ("binary", denial.binary)),
                    confidence="high",
                )
            )
        self._denied(denial)

    def malformed(self, host: str, port: int, detail: str) -> None:
        """Bytes that never became a request inside a tunnel."""
        where = f" for {host}:{port}" if host else ""
        reason = f"HTTP request rejected before policy evaluation{where}: {detail}"
        self.emit(
            NetworkEvent("OPEN", Severity.MEDIUM, Action.DENIED, host, port, policy="-", engine="l7", reason=reason)
        )

    def distrusted(self, admission: Admission, how: str) -> None:
        """A client ended the handshake because of our certificate. Not a verdict of policy, but it is our certificate
        that stands between the client and its server, so it is told where refusals are looked up.
        """
        self.emit(
            NetworkEvent(
                "OPEN",
                Severity.MEDIUM,
                Action.DENIED,
                admission.host,
                admission.port,
                actor=actor(admission.identity),
                policy=admission.cell.decision.rule,
                engine="tls",
                reason=f"client does not trust the sandbox CA, or pins its certificate ({how}): {_TRUST_ADVICE}",
            )
        )

    def failed(self, host: str, port: int, message: str, identity: Identity | None = None) -> None:
        """A connection that did not work; not a decision."""
        who = actor(identity) if identity is not None and host else None
        self.emit(NetworkEvent("FAIL", Severity.LOW, host=host, port=port, actor=who, message=message))

    def drained(self, admission: Admission, generation: int) -> None:
        """A keep-alive connection ended at an exchange boundary because the policy changed."""
        message = (
            "L7 tunnel closed after policy reload "
            f"[captured_generation:{admission.generation} current_generation:{generation}]"
        )
        host, port = admission.host, admission.port
        self.emit(NetworkEvent("CLOSE", Severity.INFO, host=host, port=port, message=message))

    def ended(self, admission: Admission | None, reason: str) -> None:
        """A connection that the proxy ended although it was allowed: too quiet, or in everybody's way."""
        host, port = (admission.host, admission.port) if admission is not None else ("", 0)
        who = actor(admission.identity) if admission is not None else None
        self.emit(NetworkEvent("CLOSE", Severity.LOW, host=host, port=port, actor=who, message=reason))

    def revoked(self, admission: Admission, reason: str, denial_id: str = "") -> None:
        """A live connection lost its grant. `denial_id` is what its client was told, where it could be told."""
        self.emit(
            NetworkEvent(
                "CLOSE",
                Severity.MEDIUM,
                Action.DENIED,
                admission.host,
                admission.port,
                actor=actor(admission.identity),
                policy=admission.cell.decision.rule,
                engine="opa",
                reason=f"grant revoked by policy reload: {reason}",
                denial_id=denial_id,
            )
        )
