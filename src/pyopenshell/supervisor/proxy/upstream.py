"""The upstream half of a relay: from a dialled or reused connection to the end of a response, streamed as it comes.

Free of I/O and of policy, like its other half (`relay`), which it knows through the few methods declared on top.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from pyopenshell.supervisor.proxy.admission import Failure
from pyopenshell.supervisor.proxy.http1 import Body, Framing, Head, MessageError, parse_response, rebuild

if TYPE_CHECKING:
    from pyopenshell.supervisor.denial import Denial
    from pyopenshell.supervisor.proxy.channel import Channel, Route, Runtime, Upgrade

_NONE, _BY_LENGTH, _, _UNTIL_EOF = Framing
_MAX_INTERIM = 32
_CLOSE = b"Connection: close\r\n"


class UpstreamHalf(abc.ABC):
    """What a relay knows of its upstream and of the response under way. The state of both halves is declared here."""

    __slots__ = (
        "_awaiting",
        "_body",
        "_discarded",
        "_discarding",
        "_interim",
        "_last",
        "_pending",
        "_quiet",
        "_replay",
        "_response",
        "_reused",
        "_route",
        "_runtime",
        "_said",
        "_upgrade",
        "_upstream",
        "_upstream_buffer",
        "buffer",
        "client",
        "close_after",
        "ended",
        "head",
    )

    def __init__(self, runtime: Runtime, client: Channel) -> None:
        self.client = client
        self.head: Head = Head()
        """Of the request under way, while `busy`."""
        self.buffer = b""
        """Client bytes not consumed yet: a partial head, an unread body, or pipelined requests."""
        self.close_after = False
        self.ended = False
        self._runtime = runtime
        self._body: Body | None = None
        """The request's body while it is still arriving."""
        self._discarding = False
        self._discarded = 0
        self._route: Route | None = None
        self._upstream: Channel | None = None
        self._upstream_buffer = b""
        self._pending: list[bytes] = []
        self._awaiting = False
        """A request was handed to an upstream (or waits for one) and its response has not ended."""
        self._response: Body | None = None
        self._said: Head | None = None
        """The last response's head."""
        self._interim = 0
        self._quiet = 0
        """Ticks since anything moved."""
        self._last = False
        self._reused = False
        self._replay = b""
        self._upgrade: Upgrade | None = None
        """The request under way asks to leave HTTP."""

    # ----------------------------------------------------------------------------------------------- the other half

    @abc.abstractmethod
    def dial(self, route: Route) -> None:
        """Have an upstream connected."""

    @abc.abstractmethod
    def fail(self, failure: Failure) -> bytes:
        """Record the failure; the answer that tells it."""

    @abc.abstractmethod
    def refuse(self, denial: Denial) -> bytes:
        """Record the denial; the answer that tells it."""

    @abc.abstractmethod
    def answer(self, response: bytes, *, close: bool = False) -> None:
        """Answer the request under way ourselves; its body is read and thrown away."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close once everything written was sent."""

    @abc.abstractmethod
    def abort(self) -> None:
        """End now, whatever is under way."""

    @abc.abstractmethod
    def _exchange_done(self) -> None: ...

    @abc.abstractmethod
    def _linger(self) -> None: ...

    @abc.abstractmethod
    def _end(self) -> None: ...

    # ----------------------------------------------------------------------------------------------------- upstream

    def upstream_ready(self, upstream: Channel) -> None:
        """`dial` succeeded."""
        route = self._route
        if self.ended or not self._awaiting or route is None:
            if route is not None:
                self._runtime.give(route, upstream)
            else:
                upstream.close()
            return
        self._attach(upstream)
        self._reused = False
        self._replay = b""
        self._quiet = 0
        for piece in self._pending:
            upstream.write(piece)
        self._pending.clear()
        if self._body is not None and not upstream.congested:
            self.client.resume()

    def upstream_failed(self, failure: Failure) -> None:
        if self.ended or not self._awaiting:
            return
        self._pending.clear()
        self.answer(self.fail(failure))

    def upstream_refused(self, denial: Denial) -> None:
        if self.ended or not self._awaiting:
            return
        self._pending.clear()
        self.answer(self.refuse(denial))

    def upstream_data(self, data: bytes) -> None:
        if self._response is not None:
            self._response_body(data)
        elif self._awaiting:
            if self._upstream_buffer:
                data = self._upstream_buffer + data
            self._response_head(data)
        else:
            self._drop()

    def upstream_eof(self) -> bool:
        response = self._response
        if response is not None and response.framing is Framing.UNTIL_EOF:
            self._last = True
            self._response_done()
        else:
            self.upstream_lost()
        return False

    def upstream_lost(self) -> None:
        started = bool(self._upstream_buffer)
        if self._response is not None:
            self._cut(Failure("response", "upstream_closed", "upstream closed before its response ended"))
        elif self._awaiting:
            self._drop()
            route = self._route
            if self._reused and self._replay and not started and not self._interim and route is not None:
                # The server closed an idle connection just as we used it; nothing was answered, the request is safe.
                self._dial(self._replay, route)
            else:
                self._unanswered()
        else:
            self._drop()

    def _cut(self, failure: Failure) -> None:
        """End in the middle of a response."""
        response, self._response = self._response, None
        self._drop()
        self.fail(failure)
        if response is not None and response.framing is Framing.UNTIL_EOF:
            # Nothing but a reset tells the client that this was not the end.
            self.abort()
        else:
            self.close()

    def _upstream_waited(self, seconds: float) -> None:
        """The client is waiting, and nothing has come for that long."""
        limits, response = self._runtime.limits, self._response
        if response is None:
            if seconds >= limits.response_seconds:
                detail = "upstream accepted the request and did not answer in time"
                self._failed(Failure("response", "upstream_timeout", detail, "http_response_timeout"))
        elif seconds >= (limits.stall_seconds if response.framing is Framing.LENGTH else limits.stream_seconds):
            self._cut(Failure("response", "upstream_timeout", "upstream stopped in the middle of its response"))

    def upstream_pressure(self, congested: bool) -> None:
        if self._body is not None and not self._discarding:
            if congested:
                self.client.pause()
            else:
                self.client.resume()

    def _dial(self, out: bytes, route: Route) -> None:
        self._reused = False
        self._pending = [out]
        if self._body is not None:
            self.client.pause(len(out))
        self.dial(route)

    def _attach(self, upstream: Channel) -> None:
        self._upstream = upstream
        self._upstream_buffer = b""
        upstream.bind(self.upstream_data, self.upstream_eof, self.upstream_lost, self.upstream_pressure)
        if self.client.congested:
            upstream.pause()

    def _release(self) -> None:
        """Let the upstream go; into the pool when it is clean."""
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        if self._awaiting or self._response is not None or self._route is None:
            upstream.close()
        else:
            self._runtime.give(self._route, upstream)

    def _drop(self) -> None:
        upstream, self._upstream = self._upstream, None
        self._upstream_buffer = b""
        if upstream is not None:
            upstream.close()

    def _unanswered(self) -> None:
        """The upstream went away: while it was told, or before it said anything."""
        if self._body is not None:
            detail = "upstream closed the connection while the request was being sent"
            self._failed(Failure("request", "upstream_closed", detail))
        else:
            self._fail("upstream closed the connection without a response", "connection_terminated")

    def _fail(self, detail: str, status: str = "") -> None:
        self._failed(Failure("response", "upstream_bad_response", detail, status))

    def _failed(self, failure: Failure) -> None:
        self._drop()
        self._pending.clear()
        self.answer(self.fail(failure))

    # ----------------------------------------------------------------------------------------------------- response

    def _response_head(self, data: bytes) -> None:
        while True:
            end = data.find(b"\r\n\r\n")
            if not 0 <= end <= self._runtime.limits.response_head:
                if len(data) > self._runtime.limits.response_head:
                    self._fail("upstream response head is too large")
                else:
                    self._upstream_buffer = data
                return
            try:
                head = parse_response(data, end, self.head.method, self._said)
            except MessageError as error:
                self._fail(f"upstream sent an unacceptable response: {error}")
                return
            if head.status >= 200:
                self._said = head
                break
            if head.status == 101 and self._upgrade is not None:
                self._switch(self._upgrade, head, data, end + 4)
                return
            self._interim += 1
            self._quiet = 0
            if head.status == 101 or self._interim > _MAX_INTERIM:
                self._fail("upstream sent an interim response that nobody asked for")
                return
            if self.head.minor:
                self.client.write(data[: end + 4])
            data = data[end + 4 :]
        self._upstream_buffer = b""
        self._begin_response(head, data, end + 4)

    def _switch(self, upgrade: Upgrade, head: Head, data: bytes, at: int) -> None:
        """The server agrees to leave HTTP. Until this is verified, nothing passes unparsed in either direction."""
        problem = upgrade.refusal(head)
        upstream = self._upstream
        if problem or upstream is None:
            self._fail(f"upstream sent an unacceptable response: {problem}", "http_upgrade_failed")
            return
        early, self.buffer = self.buffer, b""
        self._upstream = None
        self._end()
        self.client.write(upgrade.response(head, data))
        upgrade.switched((self.client, early), (upstream, data[at:]))

    def _begin_response(self, head: Head, data: bytes, at: int) -> None:
        framing = head.framing
        self._quiet = 0
        body: Body | None = None
        size, end = len(data) - at, 0
        if framing is _BY_LENGTH and size >= head.length:
            end = head.length
        elif framing is not _NONE:
            body = Body(framing, head.length)
            try:
                end = body.feed(data[at:]) if size else -1
            except MessageError as error:
                self._fail(f"upstream sent an unacceptable response: {error}")
                return
        if framing is _UNTIL_EOF or (self._body is not None and self.head.expect):
            self.close_after = True
        # Bytes behind the end belong to no request: that upstream can no longer be trusted to be in step.
        self._last = not head.keep or framing is _UNTIL_EOF or 0 <= end < size
        if self.close_after or head.rewrite or not head.minor:
            line = b"HTTP/1.1" + data[8 : head.start_end]
            wire = rebuild(line, head, _CLOSE if self.close_after else b"")
            self.client.write(wire + (data[at:] if end < 0 else data[at : at + end]))
        else:
            self.client.write(data if end < 0 or end == size else data[: at + end])
        if end < 0:
            self._response = body
        else:
            self._response_done()

    def _response_body(self, data: bytes) -> None:
        assert self._response is not None
        self._quiet = 0
        try:
            end = self._response.feed(data)
        except MessageError:
            self.upstream_lost()
            return
        if end < 0:
            self.client.write(data)
            return
        if end < len(data):
            data = data[:end]
            self._last = True
        self.client.write(data)
        self._response_done()

    def _response_done(self) -> None:
        self._response = None
        self._awaiting = False
        self._replay = b""
        self._reused = True
        if self._last or self._body is not None:
            self._drop()
        elif self._upstream is not None and not self._upstream.reading:
            self._upstream.resume()
        if self._body is None:
            self._exchange_done()
        elif self.close_after:
            self._linger()
        else:
            # Answered before the request was complete: the rest of it goes nowhere.
            self._discarding = True
            self._discarded = 0
            self.client.resume()
