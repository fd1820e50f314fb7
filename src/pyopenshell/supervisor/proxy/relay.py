"""One client connection that speaks HTTP/1: keep-alive exchanges, streamed both ways, one at a time and in order.

Free of I/O and of policy: bytes come in as calls, go out through channels, and a door judges every request. What may
live here is message mechanics only: where messages end, who is paused, what is reused, when to close.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyopenshell.supervisor.proxy.admission import Failure
from pyopenshell.supervisor.proxy.http1 import (
    Body,
    Framing,
    Head,
    MessageError,
    parse_request,
    parse_response,
    rebuild,
)
from pyopenshell.supervisor.proxy.parting import linger
from pyopenshell.supervisor.proxy.records import error_response

if TYPE_CHECKING:
    from pyopenshell.supervisor.denial import Denial
    from pyopenshell.supervisor.proxy.channel import Channel, Door, Route, Runtime, Timer, Upgrade

_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_REPLAYABLE = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_INTERIM = 32
_CLOSE = b"Connection: close\r\n"


class Relay:
    """See the module. Public attributes are for doors; nobody else looks inside."""

    __slots__ = (
        "_awaiting",
        "_begun",
        "_body",
        "_collected",
        "_discarded",
        "_discarding",
        "_interim",
        "_last",
        "_max_head",
        "_on_collected",
        "_pending",
        "_pumping",
        "_replay",
        "_response",
        "_reused",
        "_route",
        "_runtime",
        "_timer",
        "_upgrade",
        "_upstream",
        "_upstream_buffer",
        "buffer",
        "busy",
        "client",
        "close_after",
        "door",
        "ended",
        "exchanges",
        "half_close",
        "head",
        "raw",
    )

    def __init__(self, runtime: Runtime, client: Channel, door: Door, max_head: int) -> None:
        self.client = client
        self.door = door
        self.head: Head = Head()
        """Of the request under way, while `busy`."""
        self.raw = b""
        """The same head as it came, blank line included."""
        self.buffer = b""
        """Client bytes not consumed yet: a partial head, an unread body, or pipelined requests."""
        self.busy = False
        self.close_after = False
        self.ended = False
        self.half_close = True
        """Whether an end of the client's sending may be less than the end of the client."""
        self.exchanges = 0
        self._runtime = runtime
        self._max_head = max_head
        self._timer: Timer | None = None
        self._pumping = False
        self._begun = False
        """The request's body is being read, or was."""
        self._body: Body | None = None
        """The request's body while it is still arriving."""
        self._discarding = False
        self._discarded = 0
        self._collected: list[bytes] = []
        self._on_collected: Callable[[bytes], None] | None = None
        self._route: Route | None = None
        self._upstream: Channel | None = None
        self._upstream_buffer = b""
        self._pending: list[bytes] = []
        self._awaiting = False
        """A request was handed to an upstream (or waits for one) and its response has not ended."""
        self._response: Body | None = None
        self._interim = 0
        self._last = False
        self._reused = False
        self._replay = b""
        self._upgrade: Upgrade | None = None
        """The request under way asks to leave HTTP."""

    def __repr__(self) -> str:
        state = "ended" if self.ended else "busy" if self.busy else "idle"
        return f"<relay {state}, {self.exchanges} exchanges, {self.door!r}>"

    def start(self, data: bytes = b"") -> None:
        """Take over the client channel; `data` was read from it before."""
        self.client.bind(self.client_data, self.client_eof, self.client_lost, self.client_pressure)
        self._arm()
        if data:
            self.client_data(data)

    # -------------------------------------------------------------------------------------------- client, inbound

    def client_data(self, data: bytes) -> None:
        if self._body is not None:
            self._request_body(data)
            return
        if self.buffer:
            data = self.buffer + data
            self.buffer = b""
        if self.busy or self._pumping:
            self.buffer = data
            if len(data) > self._max_head:
                self.client.pause()
            return
        self._pump(data)

    def client_eof(self) -> bool:
        """A half-close after a complete request still gets its answer, where the door can wait for it."""
        if self.half_close and self.busy and self._body is None and not self._discarding:
            self.close_after = True
            return True
        self.client_lost()
        return False

    def client_lost(self) -> None:
        if not self.ended:
            self._end()
            self.client.close()

    def client_pressure(self, congested: bool) -> None:
        upstream = self._upstream
        if upstream is not None:
            if congested:
                upstream.pause()
            else:
                upstream.resume()

    def _pump(self, data: bytes) -> None:
        """Take requests out of `data` as long as each one is over at once (refused, pipelined)."""
        self._pumping = True
        try:
            while self._head(data):
                if self.busy or self.ended or not self.buffer:
                    break
                data, self.buffer = self.buffer, b""
        finally:
            self._pumping = False

    def _head(self, data: bytes) -> bool:
        if data[:2] == b"\r\n":
            data = data[2:]
        end = data.find(b"\r\n\r\n")
        if not 0 <= end <= self._max_head:
            return self._partial(data)
        if self._timer is not None:
            self._disarm()
        try:
            head = parse_request(data, end)
        except MessageError as error:
            self._malformed(400, "bad_request", str(error))
            return False
        size = end + 4
        if len(data) == size:
            self.raw = data
        else:
            self.raw = data[:size]
            self.buffer = data[size:]
        self.head = head
        self.busy = True
        self._begun = head.framing is Framing.NONE
        self.exchanges += 1
        if not head.keep:
            self.close_after = True
        self.door.request(self, head)
        return True

    def _partial(self, data: bytes) -> bool:
        if len(data) > self._max_head:
            self._malformed(431, "request_head_too_large", f"request head exceeds {self._max_head} bytes")
        elif _BARE_LINE_FEED.search(data):
            self._malformed(400, "bad_request", "control character or bare line break in a header")
        else:
            self.buffer = data
            if data and self._timer is None:
                self._arm()
        return False

    def _arm(self) -> None:
        self._timer = self._runtime.after(self._runtime.limits.head_seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.buffer:
            self._malformed(408, "request_timeout", "request head did not arrive in time")
        else:
            self.close()

    def _malformed(self, status: int, error: str, detail: str) -> None:
        self.door.malformed(self, detail)
        self.client.write(error_response(status, error, detail))
        self._linger()

    # ---------------------------------------------------------------------------------------------- doors call these

    @property
    def must_close(self) -> bool:
        """Whether an answer given now has to announce the end of the connection."""
        if self.close_after:
            return True
        head = self.head
        return head.framing is not Framing.NONE and (head.expect or head.length > self._runtime.limits.drain_bytes)

    def forward(self, route: Route, wire: bytes, upgrade: Upgrade | None = None) -> None:
        """Send the request under way: `wire` is its head, the body follows as it arrives."""
        self._upgrade = upgrade
        head = self.head
        out = wire
        if head.framing is not Framing.NONE:
            try:
                out += self._begin_body()
            except MessageError as error:
                self._broken_body(str(error))
                return
        if self._upstream is not None and (self._route is None or self._route.key != route.key):
            self._release()
        self._route = route
        self._awaiting = True
        self._interim = 0
        if self._upstream is None:
            upstream = self._runtime.take(route)
            if upstream is None:
                self._dial(out, route)
                return
            self._attach(upstream)
            self._reused = True
        self._replay = out if head.framing is Framing.NONE and head.method in _REPLAYABLE else b""
        upstream = self._upstream
        assert upstream is not None
        upstream.write(out)

    def answer(self, response: bytes, *, close: bool = False) -> None:
        """Answer the request under way ourselves; its body is read and thrown away."""
        self._awaiting = False
        if self.head.method == "HEAD":
            response = response[: response.index(b"\r\n\r\n") + 4]
        self.client.write(response)
        if close or self.must_close:
            self.close_after = True
            if self._body is not None or not self._begun:
                self._linger()
            else:
                self._exchange_done()
            return
        self._discarding = True
        if not self._begun:
            try:
                self._discarded = len(self._begin_body())
            except MessageError:
                self._linger()
                return
        if self._body is None:
            self._exchange_done()
        else:
            self.client.resume()

    def collect(self, done: Callable[[bytes], None]) -> None:
        """Read the whole body (its size was checked) and hand it over."""
        held = b"" if self._begun else self._begin_body()
        if self._body is None:
            done(held)
            return
        self._collected = [held]
        self._on_collected = done
        self.client.resume()

    def detach(self) -> bytes:
        """Give the client channel away (CONNECT); returns what was read beyond the head. The relay has ended."""
        rest, self.buffer = self.buffer, b""
        self._end()
        return rest

    def close(self) -> None:
        """Close once everything written was sent."""
        if not self.ended:
            self._end()
            self.client.close()

    def abort(self) -> None:
        """End now, whatever is under way."""
        if not self.ended:
            self._end()
            self.client.abort()

    def finish(self) -> bool:
        """Close at the end of the exchange under way; at once, returning True, when there is none."""
        if self.busy:
            self.close_after = True
            return False
        self.close()
        return True

    # ------------------------------------------------------------------------------------------------- request body

    def _begin_body(self) -> bytes:
        """Start reading the body with what is buffered; returns the part that is there. Raises MessageError."""
        self._begun = True
        body = Body(self.head.framing, self.head.length)
        held, self.buffer = self.buffer, b""
        end = body.feed(held) if held else -1
        if end < 0:
            self._body = body
            return held
        self.buffer = held[end:]
        return held[:end]

    def _request_body(self, data: bytes) -> None:
        assert self._body is not None
        try:
            end = self._body.feed(data)
        except MessageError as error:
            self._broken_body(str(error))
            return
        if end >= 0:
            self._body = None
            if end < len(data):
                self.buffer = data[end:]
                data = data[:end]
        if self._discarding:
            self._discard(len(data))
        elif self._on_collected is not None:
            self._collected.append(data)
            if self._body is None:
                done, self._on_collected = self._on_collected, None
                whole, self._collected = b"".join(self._collected), []
                done(whole)
        elif self._upstream is None:
            self._pending.append(data)
            self.client.pause()
        else:
            self._upstream.write(data)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._body is None:
            self._exchange_done()
        elif self._discarded > self._runtime.limits.drain_bytes:
            self._linger()

    def _broken_body(self, detail: str) -> None:
        """The request went wrong in the middle: its upstream, if any, must never see a next one."""
        self._body = None
        self._drop()
        if self._response is None and not self._discarding:
            self._malformed(400, "bad_request", detail)
        else:
            self._response = None
            self.door.malformed(self, detail)
            self._linger()

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
        for piece in self._pending:
            upstream.write(piece)
        self._pending.clear()
        if self._body is not None and not upstream.congested:
            self.client.resume()

    def upstream_failed(self, failure: Failure) -> None:
        if self.ended or not self._awaiting:
            return
        self._pending.clear()
        self.answer(self.door.failed(self, failure))

    def upstream_refused(self, denial: Denial) -> None:
        if self.ended or not self._awaiting:
            return
        self._pending.clear()
        self.answer(self.door.refused(self, denial))

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
        response, started = self._response, bool(self._upstream_buffer)
        self._drop()
        if response is not None:
            self._response = None
            self.door.failed(self, Failure("response", "upstream_closed", "upstream closed before its response ended"))
            if response.framing is Framing.UNTIL_EOF:
                # Nothing but a reset tells the client that this was not the end.
                self.abort()
            else:
                self.close()
        elif self._awaiting:
            route = self._route
            if self._reused and self._replay and not started and not self._interim and route is not None:
                # The server closed an idle connection just as we used it; nothing was answered, the request is safe.
                self._dial(self._replay, route)
            else:
                self._unanswered()

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
            self.client.pause()
        self._runtime.dial(self, route)

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
        self.answer(self.door.failed(self, failure))

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
                head = parse_response(data, end, self.head.method)
            except MessageError as error:
                self._fail(f"upstream sent an unacceptable response: {error}")
                return
            if head.status >= 200:
                break
            if head.status == 101 and self._upgrade is not None:
                self._switch(self._upgrade, head, data, end + 4)
                return
            self._interim += 1
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
        body: Body | None = None
        end = 0
        if framing is Framing.LENGTH and len(data) - at >= head.length:
            end = head.length
        elif framing is not Framing.NONE:
            body = Body(framing, head.length)
            try:
                end = body.feed(data[at:]) if len(data) > at else -1
            except MessageError as error:
                self._fail(f"upstream sent an unacceptable response: {error}")
                return
        if framing is Framing.UNTIL_EOF or (self._body is not None and self.head.expect):
            self.close_after = True
        # Bytes behind the end belong to no request: that upstream can no longer be trusted to be in step.
        self._last = not head.keep or framing is Framing.UNTIL_EOF or 0 <= end < len(data) - at
        stop = len(data) if end < 0 else at + end
        if self.close_after or head.rewrite or not head.minor:
            line = b"HTTP/1.1" + data[8 : head.start_end]
            wire = rebuild(line, head, _CLOSE if self.close_after else b"")
            self.client.write(wire + data[at:stop])
        else:
            self.client.write(data if stop == len(data) else data[:stop])
        if end < 0:
            self._response = body
        else:
            self._response_done()

    def _response_body(self, data: bytes) -> None:
        assert self._response is not None
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
        elif self._upstream is not None:
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

    def _exchange_done(self) -> None:
        self.busy = False
        self._discarding = False
        self._discarded = 0
        if self.close_after:
            if self.buffer:
                self._linger()
            else:
                self.close()
            return
        self.client.resume()
        if self.buffer and not self._pumping:
            data, self.buffer = self.buffer, b""
            self._pump(data)

    # ---------------------------------------------------------------------------------------------------------- end

    def _linger(self) -> None:
        if self.ended:
            return
        self._end()
        linger(self.client, self._runtime)

    def _end(self) -> None:
        self.ended = True
        self._disarm()
        self.buffer = b""
        self._pending.clear()
        self._release()
        self.door.gone(self)
        self._runtime.ended(self)
