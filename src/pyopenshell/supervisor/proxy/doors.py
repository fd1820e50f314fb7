"""The two doors that judge HTTP requests: inside a tunnel (one destination), and absolute-form at the proxy itself.

They turn a head into questions to the admission module and the policy's cell, write the one audit event of each
decision, and tell the relay to forward or to answer. They move no bytes and open no connections.

`X-Original-URL` and `X-Rewrite-URL` are refused where requests are inspected, not judged as a second path: how a
framework joins them with the request's own path and query differs, so any second verdict would be about a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pyopenshell.audit.text import field
from pyopenshell.policy.decision import Condition, Decision
from pyopenshell.policy.operations import UPGRADE
from pyopenshell.supervisor.denial import Answer, Denial, http_response
from pyopenshell.supervisor.proxy.admission import (
    Admission,
    Admitter,
    Failure,
    Intent,
    Peer,
    denied_request,
    request_denial,
)
from pyopenshell.supervisor.proxy.authority import (
    LOCAL_HOST,
    AuthorityError,
    SchemeError,
    absolute,
    bracketed,
    host_port,
    spelled,
    without_query,
)
from pyopenshell.supervisor.proxy.bodies import Budget, Carried, Reading
from pyopenshell.supervisor.proxy.channel import Route
from pyopenshell.supervisor.proxy.handshake import Handshake, HandshakeError
from pyopenshell.supervisor.proxy.http1 import Framing, Head, rebuild
from pyopenshell.supervisor.proxy.records import (
    ESTABLISHED,
    Recorder,
    actor,
    error_response,
    failure_response,
    request_event,
)

if TYPE_CHECKING:
    from pyopenshell.supervisor.current import Current
    from pyopenshell.supervisor.proxy.caller import Caller, Handle
    from pyopenshell.supervisor.proxy.channel import Channel, Timer
    from pyopenshell.supervisor.proxy.context import Limits
    from pyopenshell.supervisor.proxy.relay import Relay
    from pyopenshell.supervisor.proxy.verdicts import Occasion, Verdicts

VIA = "Via: 1.1 openshell-sandbox\r\n"
_HOST = frozenset({b"host"})
_NONE: frozenset[bytes] = frozenset()
_REMEMBERED = 32
"""Destinations one connection of the forward door keeps the admission of."""


class Desk(Protocol):
    """What doors need of the plane."""

    current: Current
    admitter: Admitter
    record: Recorder
    limits: Limits
    bodies: Budget
    verdicts: Verdicts

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call later, unless cancelled."""

    def admit(self, peer: Peer, intent: Intent, done: Callable[[Admission | Denial | Failure], None]) -> Handle:
        """Run the admission; `done` is called exactly once unless the handle is cancelled."""

    def fresh(self, admission: Admission) -> bool:
        """Whether the admission's addresses are young enough to be dialled without resolving again."""

    def local(self, relay: Relay, head: Head, path: str) -> Handle | None:
        """Serve a `policy.local` request."""

    def upgraded(
        self,
        admission: Admission,
        scheme: str,
        target: str,
        client: tuple[Channel, bytes],
        upstream: tuple[Channel, bytes],
    ) -> None:
        """Both ends speak WebSocket now; the bytes were read from them already."""

    def ask(self, caller: Caller, peer: Peer, intent: Intent) -> Handle:
        """Take an intent through admission and, where it is admitted, turn the connection into a tunnel."""


class Judge:
    """What both doors do once a request and its admission are known."""

    __slots__ = ("_flight", "_reading", "desk", "word")

    def __init__(self, desk: Desk, word: str) -> None:
        self.desk = desk
        self.word = word
        self._flight: tuple[Admission, str | Carried, str, str] | None = None
        """Admission, method (or what was carried), target and method override ("" for none) of the exchange under way:
        what has to be allowed still when the policy changes."""
        self._reading: Reading | None = None
        """A request whose body is still arriving."""

    def judge(self, admission: Admission, head: Head, target: str) -> tuple[Decision, str]:
        """The verdict on a request and the method it was judged under."""
        cell = admission.cell
        decision = cell.decide(head.method, target)
        override = head.override
        if override and decision.allowed and cell.inspected:
            # Frameworks act on these headers as if they were the method, so the request needs both rights.
            other = cell.decide(override, target)
            if not other.allowed:
                return other, override
        return decision, head.method

    def send(self, relay: Relay, route: Route, head: Head, decision: Decision, target: str, extra: str) -> None:
        """Forward the request in the one form in which it was judged; `extra` brings a Host of its own."""
        self._flight = (route.admission, head.method, target, head.override)
        sent = decision.target or target
        if sent == head.target and not head.rewrite and not extra:
            relay.forward(route, relay.raw)
            return
        line = f"{head.method} {sent} HTTP/1.{head.minor}\r\n{extra}"
        relay.forward(route, rebuild(line.encode("ascii"), head, drop=_HOST if extra else _NONE))

    def refuse(
        self, relay: Relay, denial: Denial, *, close: bool = False, answers: dict[Occasion, Answer] | None = None
    ) -> None:
        """Answer with the envelope; the event was written. `answers` are those that this very refusal had before."""
        self._flight = None
        occasion = enabled, close = self.desk.current.proposals_enabled, close or relay.must_close
        if answers is None:
            response = http_response(denial, proposals_enabled=enabled, close=close)
        else:
            answer = answers.get(occasion)
            if answer is None:
                answer = answers[occasion] = Answer(denial, proposals_enabled=enabled, close=close)
            response = answer.to(denial)
        relay.answer(response, close=close)

    def read(
        self, relay: Relay, scheme: str, admission: Admission, head: Head, target: str, decision: Decision, extra: str
    ) -> bool:
        """Whether what the request carries decides, not the head that was refused; then its body is read and judged."""
        if decision.condition is not Condition.PROTOCOL or not admission.cell.content_limit(target):
            return False
        self._reading = Reading(self, relay, scheme, admission, head, target, extra)
        self._reading.start()
        return True

    def pass_on(
        self,
        relay: Relay,
        admission: Admission,
        scheme: str,
        asked: tuple[str | Carried, str, str],
        wire: bytes,
    ) -> None:
        """Forward a request whose body was read, judged and put into `wire`. `asked`: see `_flight`."""
        self._flight = (admission, *asked)
        relay.forward(_route(admission, tls=scheme == "https"), wire)

    def lost(self, relay: Relay, head: Head, target: str, denial: Denial) -> None:
        """The connection itself was withdrawn while a body arrived."""
        if self.word.startswith("FORWARD"):
            self.desk.record.refused_forward(denial, head.method, without_query(target))
        else:
            self.desk.record.refused_connection(denial)
        self.refuse(relay, denial, close=True)

    def stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()

    def deny_request(
        self,
        relay: Relay,
        scheme: str,
        admission: Admission,
        method: str,
        target: str,
        decision: Decision,
        answers: dict[Occasion, Answer] | None = None,
    ) -> None:
        """An L7 denial from the engine's decision. `answers` as for `refuse`."""
        self.refuse_l7(relay, scheme, admission, denied_request(admission, method, target, decision), answers=answers)

    def upgrade(
        self, relay: Relay, scheme: str, admission: Admission, route: Route, head: Head, target: str, extra: str
    ) -> None:
        """A protocol switch. WebSocket is followed into its frames; anything else would leave what is inspected."""
        inspected = admission.cell.inspected
        try:
            handshake = Handshake(head, inspected=inspected)
        except HandshakeError as error:
            self.deny_upgrade(relay, scheme, admission, head, target, str(error))
            return
        decision = admission.cell.decide_upgrade(target)
        if not decision.allowed:
            self.deny_request(relay, scheme, admission, "GET", target, decision)
            return
        path = decision.path or without_query(target)
        who = actor(admission.identity) if self.word.startswith("FORWARD") else None
        self.desk.record.emit(request_event(self.word, scheme, admission, "GET", path, decision, who))
        self._flight = (route.admission, UPGRADE, target, "")
        sent = decision.target or target
        line = f"GET {sent} HTTP/1.1\r\n{extra}".encode("ascii")
        wire = handshake.request(line, head, drop=_HOST if extra else _NONE)
        relay.forward(route, wire, _Upgrade(self, handshake, admission, scheme, target))

    def deny_upgrade(
        self, relay: Relay, scheme: str, admission: Admission, head: Head, target: str, reason: str
    ) -> None:
        """A protocol switch that cannot be inspected."""
        path = without_query(target)
        denial = request_denial(
            admission,
            head.method,
            path,
            error="unsupported_l7_protocol",
            detail=f"Upgrade: {field(head.upgrade)} cannot be inspected on this endpoint: {reason}",
            condition="unsupported_protocol",
            proposable=False,
        )
        self.refuse_l7(relay, scheme, admission, denial, close=True)

    def deny_reroute(self, relay: Relay, scheme: str, admission: Admission, head: Head, target: str) -> None:
        """A second path beside the one that is judged."""
        denial = request_denial(
            admission,
            head.method,
            without_query(target),
            error="invalid_request_target",
            status=400,
            detail=f"{head.reroute} names another path than the request line",
            condition=Condition.REQUEST_TARGET.value,
            proposable=False,
        )
        self.refuse_l7(relay, scheme, admission, denial)

    def refuse_l7(
        self,
        relay: Relay,
        scheme: str,
        admission: Admission,
        denial: Denial,
        *,
        close: bool = False,
        answers: dict[Occasion, Answer] | None = None,
    ) -> None:
        who = actor(admission.identity)
        self.desk.record.refused_request(self.word, scheme, denial, who)
        self.refuse(relay, denial, close=close, answers=answers)

    def failed(self, relay: Relay, failure: Failure) -> bytes:
        """The relay's upstream failed."""
        flight, self._flight = self._flight, None
        host, port, identity = "", 0, None
        if flight is not None:
            host, port, identity = flight[0].host, flight[0].port, flight[0].identity
        self.desk.record.failed(host, port, failure.detail, identity)
        return failure_response(failure, host, port, close=relay.must_close)

    def refused(self, relay: Relay, denial: Denial) -> bytes:
        """The destination was refused when it was resolved again."""
        self._flight = None
        self.desk.record.refused_connection(denial)
        enabled = self.desk.current.proposals_enabled
        return http_response(denial, proposals_enabled=enabled, close=relay.must_close)

    def withdrawn(self, relay: Relay) -> str:
        """Why the exchange under way may not go on under the policy of now; "" when it may."""
        if not relay.busy or self._flight is None:
            return ""
        admission, asked, target, override = self._flight
        renewed = self.desk.admitter.renew(admission)
        if isinstance(renewed, Denial):
            return renewed.reason or renewed.detail
        cell = renewed.cell

        def decide(method: str) -> Decision:
            if isinstance(asked, Carried):
                return cell.decide_operations(method, target, asked.operations)
            return cell.decide_upgrade(target) if method == UPGRADE else cell.decide(method, target)

        decision = decide(asked.method if isinstance(asked, Carried) else asked)
        if decision.allowed and override and cell.inspected:
            decision = decide(override)
        return "" if decision.allowed else decision.reason or "request no longer permitted"


class _Upgrade:
    """A WebSocket handshake under way. Implements `channel.Upgrade`."""

    __slots__ = ("_admission", "_handshake", "_judge", "_scheme", "_target")

    def __init__(self, judge: Judge, handshake: Handshake, admission: Admission, scheme: str, target: str) -> None:
        self._judge = judge
        self._handshake = handshake
        self._admission = admission
        self._scheme = scheme
        self._target = target

    def refusal(self, head: Head) -> str:
        return self._handshake.refusal(head)

    def response(self, head: Head, data: bytes) -> bytes:
        return self._handshake.response(head, data)

    def switched(self, client: tuple[Channel, bytes], upstream: tuple[Channel, bytes]) -> None:
        self._judge.desk.upgraded(self._admission, self._scheme, self._target, client, upstream)


class TunnelDoor(Judge):
    """Requests inside one CONNECT tunnel: the destination is fixed, only method, path and query are judged."""

    __slots__ = ("_names", "_route", "admission", "scheme")

    def __init__(self, desk: Desk, admission: Admission, scheme: str) -> None:
        super().__init__(desk, "L7_REQUEST")
        self.scheme = scheme
        host, port = admission.host, admission.port
        self._names = frozenset({spelled(host, port, scheme).encode(), f"{bracketed(host)}:{port}".encode()})
        self.admission = admission
        self._route = _route(admission, tls=scheme == "https")

    def __repr__(self) -> str:
        return f"<tunnel to {self.scheme}://{self.admission.host}:{self.admission.port}>"

    def request(self, relay: Relay, head: Head) -> None:
        admission = self.admission
        if admission.generation != self.desk.current.generation:
            renewed = self.desk.admitter.renew(admission)
            if isinstance(renewed, Denial):
                self.desk.record.refused_connection(renewed)
                self.refuse(relay, renewed, close=True)
                return
            self.admission = admission = renewed
            self._route = _route(admission, tls=self.scheme == "https")
        method, target = head.method, head.target
        if target[0] != "/" or head.host not in self._names:
            named = self._named(head)
            if named is None:
                self._mismatch(relay, head)
                return
            target = named
        if head.upgrade:
            self.upgrade(relay, self.scheme, admission, self._route, head, target, self._host_line(head))
            return
        if head.reroute:
            self.deny_reroute(relay, self.scheme, admission, head, target)
            return
        verdicts = self.desk.verdicts
        question = admission.cell, admission.identity.exe, self.scheme, method, target
        known = verdicts.permits.get(question) if not head.override else None
        if known is None:
            refused = verdicts.refusals.get(question) if not head.override else None
            if refused is not None:
                self.deny_request(relay, self.scheme, admission, method, target, *refused)
                return
            decision, judged = self.judge(admission, head, target)
            if not decision.allowed:
                extra = self._host_line(head)
                if not self.read(relay, self.scheme, admission, head, target, decision, extra):
                    answers = verdicts.refuse(question, decision) if not head.override else None
                    self.deny_request(relay, self.scheme, admission, judged, target, decision, answers)
                return
            path = decision.path or without_query(target)
            event = request_event(self.word, self.scheme, admission, method, path, decision, None)
            if not head.override:
                verdicts.permit(question, decision, event)
        else:
            decision, event = known
        self.desk.record.emit(event)
        self.send(relay, self._route, head, decision, target, "" if head.host is not None else self._host_line(head))

    def _host_line(self, head: Head) -> str:
        """Without a Host the server would pick its own default site, which nobody judged."""
        if head.host is not None:
            return ""
        return f"Host: {spelled(self.admission.host, self.admission.port, self.scheme)}\r\n"

    def _named(self, head: Head) -> str | None:
        """The origin-form target when request line and Host both mean this tunnel, else None."""
        ours = (self.admission.host, self.admission.port)
        default = 443 if self.scheme == "https" else 80
        target = head.target
        try:
            if head.host is not None and host_port(head.host.decode("ascii"), default) != ours:
                return None
            if target[0] == "/" or target == "*":
                return target
            scheme, host, port, target = absolute(target)
        except (AuthorityError, SchemeError, UnicodeDecodeError):
            return None
        return target if (host, port) == ours and scheme == self.scheme else None

    def _mismatch(self, relay: Relay, head: Head) -> None:
        admission = self.admission
        path = without_query(head.target) if head.target[0] == "/" else ""
        denial = request_denial(
            admission,
            head.method,
            path,
            error="request_authority_mismatch",
            detail=f"request names another authority than its tunnel to {admission.host}:{admission.port}",
            condition="request_authority_mismatch",
            proposable=False,
        )
        self.refuse_l7(relay, self.scheme, admission, denial, close=True)

    def malformed(self, relay: Relay, detail: str) -> None:
        self._flight = None
        self.desk.record.malformed(self.admission.host, self.admission.port, detail)

    def gone(self, relay: Relay) -> None:
        self._flight = None
        self.stop_reading()

    def policy_changed(self, relay: Relay) -> None:
        """Close what lost its grant; end everything else at its exchange boundary."""
        renewed = self.desk.admitter.renew(self.admission)
        lost = (renewed.reason or renewed.detail) if isinstance(renewed, Denial) else self.withdrawn(relay)
        if lost:
            self.desk.record.revoked(self.admission, lost)
            relay.abort()
        elif relay.exchanges:
            relay.finish()
            self.desk.record.drained(self.admission, self.desk.current.generation)


class ForwardDoor(Judge):
    """The proxy's own address: CONNECT, absolute-form `http://` requests, and `policy.local`."""

    __slots__ = ("_admissions", "_handle", "_peer")

    def __init__(self, desk: Desk, peer: Peer) -> None:
        super().__init__(desk, "FORWARD")
        self._peer = peer
        self._handle: Handle | None = None
        self._admissions: dict[tuple[str, int], tuple[Admission, Route]] = {}

    def __repr__(self) -> str:
        return f"<forward door, {len(self._admissions)} destinations>"

    def request(self, relay: Relay, head: Head) -> None:
        self._flight = None
        self.word = "FORWARD"
        if head.method == "CONNECT":
            self._connect(relay, head)
            return
        try:
            scheme, host, port, target = absolute(head.target)
        except SchemeError as error:
            self._bad(relay, "unsupported_proxy_scheme", f"scheme {error.scheme} is not supported by this proxy")
            return
        except AuthorityError as error:
            self._bad(relay, "bad_request", str(error))
            return
        if host == LOCAL_HOST:
            if scheme != "http" or port != 80:
                self._bad(relay, "invalid_policy_local_scheme", "Use http://policy.local only")
                return
            self._handle = self.desk.local(relay, head, target)
            return
        if scheme == "https":
            self._bad(relay, "use_connect", "Use CONNECT for HTTPS URLs")
            return
        known = self._admissions.get((host, port))
        if known is not None:
            admission, route = known
            if admission.generation == self.desk.current.generation and self.desk.fresh(admission):
                self._decide(relay, head, admission, route, target)
                return
        path = without_query(target)
        intent = Intent("forward", f"{head.method} {host}:{port}{field(path)}", host, port, head.method)

        def done(result: Admission | Denial | Failure) -> None:
            self._handle = None
            if isinstance(result, Denial):
                self.desk.record.refused_forward(result, head.method, path)
                self.refuse(relay, result)
            elif isinstance(result, Failure):
                self.desk.record.failed(host, port, result.detail)
                relay.answer(failure_response(result, host, port, close=relay.must_close))
            else:
                route = _route(result, tls=False)
                if len(self._admissions) >= _REMEMBERED:
                    self._admissions.clear()
                self._admissions[host, port] = (result, route)
                self._decide(relay, head, result, route, target)

        self._handle = self.desk.admit(self._peer, intent, done)

    def _decide(self, relay: Relay, head: Head, admission: Admission, route: Route, target: str) -> None:
        if admission.cell.inspected:
            self.word = "FORWARD_L7"
        extra = f"Host: {spelled(admission.host, admission.port, 'http')}\r\n{VIA}"
        if head.upgrade:
            self.upgrade(relay, "http", admission, route, head, target, extra)
            return
        if head.reroute and admission.cell.inspected:
            self.deny_reroute(relay, "http", admission, head, target)
            return
        decision, method = self.judge(admission, head, target)
        if not decision.allowed:
            if not self.read(relay, "http", admission, head, target, decision, extra):
                self.deny_request(relay, "http", admission, method, target, decision)
            return
        path = decision.path or without_query(target)
        who = actor(admission.identity)
        self.desk.record.emit(request_event(self.word, "http", admission, head.method, path, decision, who))
        self.send(relay, route, head, decision, target, extra)

    def _connect(self, relay: Relay, head: Head) -> None:
        if head.framing is not Framing.NONE or head.length >= 0:
            self._bad(relay, "bad_request", "CONNECT with a body")
            return
        try:
            host, port = host_port(head.target)
        except AuthorityError as error:
            self._bad(relay, "bad_request", str(error))
            return
        if host == LOCAL_HOST:
            self._bad(relay, "invalid_policy_local_scheme", "Use http://policy.local only")
            return
        intent = Intent("connect", f"CONNECT {head.target}", host, port)
        self._handle = self.desk.ask(_Connecting(self, relay, host, port), self._peer, intent)

    def answered(self) -> None:
        """The admission under way is over."""
        self._handle = None

    def _bad(self, relay: Relay, error: str, detail: str) -> None:
        """The request itself is wrong: 400, one event, end."""
        self.desk.record.failed("", 0, f"Proxy connection error: {detail}")
        relay.answer(error_response(400, error, detail), close=True)

    def malformed(self, relay: Relay, detail: str) -> None:
        self._flight = None
        self.desk.record.failed("", 0, f"Proxy connection error: {detail}")

    def gone(self, relay: Relay) -> None:
        self._flight = None
        self.stop_reading()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()

    def policy_changed(self, relay: Relay) -> None:
        """As in a tunnel; a connection that only waits for an admission or `policy.local` is left alone."""
        flight = self._flight
        lost = self.withdrawn(relay)
        if flight is not None and lost:
            self.desk.record.revoked(flight[0], lost)
            relay.abort()
        elif flight is not None and relay.busy:
            relay.finish()
        elif self._admissions and not relay.busy:
            admission, _ = next(iter(self._admissions.values()))
            relay.finish()
            self.desk.record.drained(admission, self.desk.current.generation)


class _Connecting:
    """A CONNECT until its answer. Implements `caller.Caller`."""

    __slots__ = ("_door", "_host", "_port", "_relay")

    def __init__(self, door: ForwardDoor, relay: Relay, host: str, port: int) -> None:
        self._door = door
        self._relay = relay
        self._host, self._port = host, port

    @property
    def ended(self) -> bool:
        return self._relay.ended

    def established(self) -> tuple[Channel, bytes]:
        self._door.answered()
        client = self._relay.client
        rest = self._relay.detach()
        client.write(ESTABLISHED)
        return client, rest

    def refuse(self, denial: Denial) -> None:
        self._door.answered()
        self._door.refuse(self._relay, denial, close=True)

    def fail(self, failure: Failure) -> None:
        self._door.answered()
        self._relay.answer(failure_response(failure, self._host, self._port, close=True), close=True)


def _route(admission: Admission, *, tls: bool) -> Route:
    return Route(admission, tls, (admission.cell.key, admission.host, admission.port, tls))
