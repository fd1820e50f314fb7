"""Requests that are judged by what they carry: the body is read whole, judged, and exactly these bytes are sent on.

Decides what can be read at all: framing, size, time, encodings. What it means is the engine's; the relay moves bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyopenshell.policy.decision import Condition, Decision
from pyopenshell.policy.operations import Operation
from pyopenshell.supervisor.denial import Denial
from pyopenshell.supervisor.proxy.admission import denied_request
from pyopenshell.supervisor.proxy.authority import without_query
from pyopenshell.supervisor.proxy.http1 import Body, Chunks, Framing, Head, MessageError, rebuild
from pyopenshell.supervisor.proxy.records import CONTINUE, actor, carried_event

if TYPE_CHECKING:
    from pyopenshell.supervisor.proxy.admission import Admission
    from pyopenshell.supervisor.proxy.channel import Timer
    from pyopenshell.supervisor.proxy.doors import Judge
    from pyopenshell.supervisor.proxy.relay import Relay

_INVALID = {"graphql": "invalid_graphql_request"}
_INVALID_RPC = "invalid_jsonrpc_request"
_REFRAMED = frozenset({b"transfer-encoding", b"trailer", b"expect"})
_ANSWERED = frozenset({b"expect"})


class Budget:
    """Bytes of bodies that are held for judgement at the same time, in the whole sandbox."""

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def take(self, size: int) -> bool:
        if self.held + size > self._limit:
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        self.held -= size


class Collected(Body):
    """A body that is kept while its end is looked for: what it says, without the framing."""

    __slots__ = ("_budget", "_limit", "_pieces", "_size", "_taken", "problem")

    def __init__(self, head: Head, limit: int, budget: Budget | None = None) -> None:
        super().__init__(head.framing, head.length)
        if self._chunks is not None:
            self._chunks = _Payload(self)
        self._limit = limit
        self._budget = budget
        self._pieces: list[bytes] = []
        self._size = self._taken = 0
        self.problem = ""
        """Why no more of it is wanted: "size" or "busy"."""

    def feed(self, data: bytes) -> int:
        end = super().feed(data)
        if self._chunks is None:
            self.keep(data if end < 0 else data[:end])
        return end

    def keep(self, piece: bytes) -> None:
        if self.problem:
            return
        self._size += len(piece)
        if self._size > self._limit:
            self.problem = "size"
        elif self._budget is not None and not self._budget.take(len(piece)):
            self.problem = "busy"
        else:
            self._taken += len(piece)
            self._pieces.append(piece)
            return
        self.take()

    def take(self) -> bytes:
        """What was kept. It counts no longer as held."""
        whole = b"".join(self._pieces)
        self._pieces.clear()
        if self._budget is not None:
            self._budget.give(self._taken)
        self._taken = 0
        return whole


class _Payload(Chunks):
    """Hands over what chunks carry. Trailers are refused: behind a body that is sent in one piece none can stand."""

    __slots__ = ("_body",)

    def __init__(self, body: Collected) -> None:
        super().__init__()
        self._body = body

    def _payload(self, data: bytes, at: int) -> int:
        size = min(len(data) - at, self._left - 2)
        end = super()._payload(data, at)
        if size > 0:
            self._body.keep(data[at : at + size])
        return end

    def _trailer(self, line: bytes) -> None:
        raise MessageError("a request that is judged by its body may not have trailers")


@dataclasses.dataclass(frozen=True, slots=True)
class Carried:
    """What an exchange under way was allowed for, to be judged again when the policy changes."""

    method: str
    operations: Sequence[Operation]


class Reading:
    """One request from its head to the verdict on what it carries. Cancelled when the client goes away."""

    __slots__ = ("_admission", "_body", "_extra", "_head", "_judge", "_limit", "_relay", "_scheme", "_target", "_timer")

    def __init__(
        self, judge: Judge, relay: Relay, scheme: str, admission: Admission, head: Head, target: str, extra: str
    ) -> None:
        self._judge = judge
        self._relay = relay
        self._scheme = scheme
        self._admission = admission
        self._head = head
        self._target = target
        self._extra = extra
        self._limit = min(admission.cell.content_limit(target), judge.desk.limits.content_held)
        self._body: Collected | None = None
        self._timer: Timer | None = None

    def start(self) -> None:
        """Read what there is to read and judge it, at once or later."""
        head, desk = self._head, self._judge.desk
        problem = _unreadable(head)
        if problem:
            self._invalid(problem)
        elif head.length > self._limit:
            self._too_large()
        elif head.framing is Framing.NONE:
            self._judged(b"")
        else:
            self._timer = desk.after(desk.limits.content_seconds, self._too_slow)
            if head.expect and head.minor:
                self._relay.client.write(CONTINUE)
            self._body = Collected(head, self._limit, desk.bodies)
            self._relay.collect(self._body, self._complete)

    def cancel(self) -> None:
        """The relay ended, or the verdict is known."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        body, self._body = self._body, None
        if body is not None:
            body.take()

    # --------------------------------------------------------------------------------------------------------- events

    def _too_slow(self) -> None:
        self._timer = None
        self._relay.break_off(408, "request_timeout", "request body did not arrive in time")

    def _complete(self) -> None:
        body = self._body
        assert body is not None
        whole = body.take()
        self.cancel()
        if body.problem == "size":
            self._too_large(close=True)
        elif body.problem:
            self._relay.break_off(503, "too_many_requests", "too many bodies are held for judgement in this sandbox")
        else:
            self._judged(whole)

    def _judged(self, body: bytes) -> None:
        """All is there: judge it under the policy of now and forward it, or not."""
        judge, head, target = self._judge, self._head, self._target
        renewed = judge.desk.admitter.renew(self._admission)
        if isinstance(renewed, Denial):
            judge.lost(self._relay, head, target, renewed)
            return
        self._admission = admission = renewed
        cell, kind = admission.cell, _content_type(head)
        found = cell.read_content(head.method, target, kind, body)
        decision = found if isinstance(found, Decision) else cell.decide_operations(head.method, target, found)
        operations = () if isinstance(found, Decision) else tuple(found)
        if not decision.allowed:
            self._denied(head.method, decision, operations)
            return
        if head.override and head.override != head.method:
            # Frameworks act on these headers as if they were the method, so the request needs both rights.
            other = cell.decide_content(head.override, target, kind, body)
            if not other.allowed:
                self._denied(head.override, other)
                return
        path, protocol = decision.path or without_query(target), cell.content_protocol(target)
        word, scheme = judge.word, self._scheme
        who = actor(admission.identity) if word.startswith("FORWARD") else None
        event = carried_event(word, scheme, admission, head.method, path, decision, who, protocol, operations)
        judge.desk.record.emit(event)
        asked = Carried(head.method, operations) if operations else head.method
        wire = self._wire(decision, body)
        judge.pass_on(self._relay, admission, scheme, (asked, target, head.override), wire)

    def _wire(self, decision: Decision, body: bytes) -> bytes:
        """Head and body: the very bytes that were judged, with their length."""
        head, extra = self._head, self._extra
        sent = decision.target or self._target
        drop: set[bytes] = {b"host"} if extra else set()
        if head.framing is Framing.CHUNKED:
            drop |= _REFRAMED
            extra += f"Content-Length: {len(body)}\r\n"
        elif head.framing is Framing.LENGTH:
            drop |= _ANSWERED
        elif sent == head.target and not head.rewrite and not extra:
            return self._relay.raw
        line = f"{head.method} {sent} HTTP/1.{head.minor}\r\n{extra}".encode("ascii")
        return rebuild(line, head, drop=frozenset(drop)) + body

    # -------------------------------------------------------------------------------------------------------- denials

    def _too_large(self, *, close: bool = False) -> None:
        self._invalid(f"the body is larger than {self._limit} bytes", 413, "request_body_too_large", close=close)

    def _invalid(self, reason: str, status: int = 400, error: str = "", *, close: bool = False) -> None:
        """What the head alone, or the size, says against the request."""
        cell, protocol = self._admission.cell, self._admission.cell.content_protocol(self._target)
        plain = cell.decide(self._head.method, self._target)  # for the canonical path, and whose endpoint this is
        reason = f"{protocol}: {reason}"
        decision = plain._replace(reason=reason, condition=Condition.CONTENT, nearest="")
        self._denied(self._head.method, decision, status=status, error=error, close=close)

    def _denied(
        self,
        method: str,
        decision: Decision,
        operations: Sequence[Operation] = (),
        *,
        status: int = 400,
        error: str = "",
        close: bool = False,
    ) -> None:
        admission, target = self._admission, self._target
        protocol = admission.cell.content_protocol(target)
        denial = denied_request(admission, method, target, decision)
        denial = dataclasses.replace(denial, protocol=protocol or denial.protocol)
        if decision.condition is Condition.CONTENT:
            denial = dataclasses.replace(denial, status=status, error=error or _INVALID.get(protocol, _INVALID_RPC))
        elif operations:
            cell = admission.cell
            refused = (one for one in operations if not cell.decide_operations(method, target, (one,)).allowed)
            denial = dataclasses.replace(denial, operation=next(refused, None))
        self._judge.refuse_l7(self._relay, self._scheme, admission, denial, close=close)


def _content_type(head: Head) -> str:
    """The value of the one Content-Type; "" without one."""
    for line in head.lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-type":
            return value.strip(b" \t").decode("latin-1")
    return ""


def _unreadable(head: Head) -> str:
    """Why a body could be read in two ways, or not at all; "" when there is nothing against it."""
    types = 0
    for line in head.lines:
        name = line.partition(b":")[0].lower()
        folded = name.replace(b"_", b"-")
        if folded == b"content-encoding":
            return "an encoded body (content-encoding) cannot be judged"
        if folded == b"content-type":
            types += 1
            if name != folded or types > 1:
                return "more than one content-type header, or one spelled with an underscore"
    return ""
