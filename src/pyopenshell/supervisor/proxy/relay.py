"""One client connection that speaks HTTP/1: keep-alive exchanges, streamed both ways, one at a time and in order.

Free of I/O and of policy: bytes come in as calls, go out through channels, and a door judges every request. What may
live here is message mechanics only: where messages end, who is paused, what is reused, when to close. This is the
client's half; `upstream` has the other one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyopenshell.supervisor.proxy.admission import Failure
from pyopenshell.supervisor.proxy.http1 import Body, Framing, MessageError, parse_request
from pyopenshell.supervisor.proxy.parting import linger
from pyopenshell.supervisor.proxy.records import error_response
from pyopenshell.supervisor.proxy.upstream import UpstreamHalf

if TYPE_CHECKING:
    from pyopenshell.supervisor.denial import Denial
    from pyopenshell.supervisor.proxy.admission import Admission
    from pyopenshell.supervisor.proxy.bodies import Collected
    from pyopenshell.supervisor.proxy.channel import Channel, Door, Route, Runtime, Timer, Upgrade

_NONE = Framing.NONE
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_REPLAYABLE = frozenset({"GET", "HEAD", "OPTIONS"})


def _from_the_first_line(data: bytes) -> bytes:
    """Without the empty lines before a request (RFC 9112, 2.2), however many and however they arrive."""
    at = 2
    while data.startswith(b"\r\n", at):
        at += 2
    return data[at:]


class Relay(UpstreamHalf):
    """See the module. Public attributes are for doors; nobody else looks inside."""

    __slots__ = (
        "_arrived",
        "_begun",
        "_body_quiet",
        "_collected",
        "_max_head",
        "_on_collected",
        "_pumping",
        "_timer",
        "_unsent",
        "busy",
        "door",
        "exchanges",
        "half_close",
        "raw",
    )

    def __init__(self, runtime: Runtime, client: Channel, door: Door, max_head: int) -> None:
        super().__init__(runtime, client)
        self.door = door
        self.raw = b""
        """The same head as it came, blank line included."""
        self.busy = False
        self.half_close = True
        """Whether an end of the client's sending may be less than the end of the client."""
        self.exchanges = 0
        self._max_head = max_head
        self._timer: Timer | None = None
        self._pumping = False
        self._begun = False
        """The request's body is being read, or was."""
        self._arrived = 0
        """Bytes of the request's body in the last `body_seconds`."""
        self._body_quiet = 0
        self._unsent = 0
        """What the congested side had not taken when it was last looked at."""
        self._collected: Collected | None = None
        self._on_collected: Callable[[], None] | None = None

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
                self.client.pause(len(data))
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
        if not congested:
            self._quiet = 0
            if not self.busy and not self._pumping and not self.ended:
                self._next()

    def _pump(self, data: bytes) -> None:
        """Take requests out of `data` as long as each one is over at once (refused, pipelined)."""
        self._pumping = True
        try:
            while self._head(data):
                if self.busy or self.ended or not self.buffer or self.client.congested:
                    break
                data, self.buffer = self.buffer, b""
        finally:
            self._pumping = False
        if self.busy and len(self.buffer) > self._max_head:
            self.client.pause(len(self.buffer))

    def _head(self, data: bytes) -> bool:
        if data[:2] == b"\r\n":
            data = _from_the_first_line(data)
        end = data.find(b"\r\n\r\n")
        if not 0 <= end <= self._max_head:
            return self._partial(data)
        if self._timer is not None:
            self._disarm()
        try:
            head = parse_request(data, end, self.head)
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
        self._quiet = 0
        self._begun = head.framing is _NONE
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

    # --------------------------------------------------------------------------------------------------------- time

    def tick(self) -> None:
        """Look who keeps whom waiting; called every `watch_seconds`. Whoever is late is late by one tick at most."""
        limits = self._runtime.limits
        seconds = self._quiet * limits.watch_seconds
        self._quiet += 1
        if self.client.congested:
            if self._takes_nothing(self.client, seconds):
                if self._awaiting:
                    self.fail(Failure("response", "client_stalled", "client takes nothing of its response"))
                self.abort()
        elif not self.busy:
            if self._timer is None and seconds >= limits.idle_seconds:
                self.close()
        elif self._body is not None and self._response is None:
            self._body_waited(seconds)
        elif self._awaiting and self._upstream is not None:
            self._upstream_waited(seconds)

    def _takes_nothing(self, channel: Channel, seconds: float) -> bool:
        unsent = channel.unsent
        if unsent == self._unsent:
            return seconds >= self._runtime.limits.stall_seconds
        self._unsent, self._quiet = unsent, 1
        return False

    def _body_waited(self, seconds: float) -> None:
        """The request is not complete: whose turn is it?"""
        limits, upstream = self._runtime.limits, self._upstream
        if not self.client.reading:
            if upstream is not None and self._takes_nothing(upstream, seconds):
                detail = "upstream takes nothing of the request"
                self._failed(Failure("request", "upstream_timeout", detail, "connection_write_timeout"))
        elif self.head.expect and self._awaiting and not self._interim and not self._arrived:
            if upstream is not None:
                self._upstream_waited(seconds)
        else:
            self._body_quiet += 1
            if (self._body_quiet - 1) * limits.watch_seconds >= limits.body_seconds:
                if self._arrived < limits.body_bytes:
                    self._broken_body("request body did not arrive in time", 408, "request_timeout")
                self._arrived, self._body_quiet = 0, 1

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
        return head.framing is not _NONE and (head.expect or head.length > self._runtime.limits.drain_bytes)

    def forward(self, route: Route, wire: bytes, upgrade: Upgrade | None = None) -> None:
        """Send the request under way: `wire` is its head, the body follows as it arrives (or is in it: `collect`)."""
        self._upgrade = upgrade
        head = self.head
        out = wire
        if not self._begun:
            try:
                out += self._begin_body()
            except MessageError as error:
                self._broken_body(str(error))
                return
        if route is not self._route:
            if self._upstream is not None and (self._route is None or self._route.key != route.key):
                self._release()
            self._route = route
        self._awaiting = True
        self._quiet = 0
        self._interim = 0
        upstream = self._upstream
        if upstream is None:
            upstream = self._runtime.take(route)
            if upstream is None:
                self._dial(out, route)
                return
            self._attach(upstream)
            self._reused = True
        self._replay = out if head.framing is _NONE and head.method in _REPLAYABLE else b""
        upstream.write(out)
        if self._body is not None and not upstream.congested:
            # It may have been paused: what it sent before there was a verdict was more than is kept.
            self.client.resume()

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
            except MessageError as error:
                self._broken_body(str(error))
                return
        if self._body is None:
            self._exchange_done()
        else:
            self.client.resume()

    def collect(self, body: Collected, done: Callable[[], None]) -> None:
        """Read the whole body, up to what `body` wants of it; it then belongs into what is forwarded."""
        try:
            if not self._begun:
                self._begin_body(body)
        except MessageError as error:
            self._broken_body(str(error))
            return
        if self._body is None or body.problem:
            done()
            return
        self._collected, self._on_collected = body, done
        self.client.resume()

    def break_off(self, status: int, error: str, detail: str) -> None:
        """Answer a request that nobody can judge, and end."""
        self._malformed(status, error, detail)

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

    def has(self, channel: object) -> Admission | None:
        """Whose connection it is, as far as it serves one: when it is one of the relay's two."""
        if self._route is None or channel not in (self.client, self._upstream):
            return None
        return self._route.admission

    def finish(self) -> bool:
        """Close at the end of the exchange under way; at once, returning True, when there is none."""
        if self.busy:
            self.close_after = True
            return False
        self.close()
        return True

    def dial(self, route: Route) -> None:
        self._runtime.dial(self, route)

    def fail(self, failure: Failure) -> bytes:
        return self.door.failed(self, failure)

    def refuse(self, denial: Denial) -> bytes:
        return self.door.refused(self, denial)

    # ------------------------------------------------------------------------------------------------- request body

    def _begin_body(self, body: Body | None = None) -> bytes:
        """Start reading the body with what is buffered; returns the part that is there. Raises MessageError."""
        self._begun = True
        body = body or Body(self.head.framing, self.head.length)
        held, self.buffer = self.buffer, b""
        self._arrived, self._body_quiet = len(held), 0
        end = body.feed(held) if held else -1
        if end < 0:
            self._body = body
            return held
        self.buffer = held[end:]
        return held[:end]

    def _request_body(self, data: bytes) -> None:
        assert self._body is not None
        self._quiet = 0
        self._arrived += len(data)
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
        elif self._collected is not None and self._on_collected is not None:
            if self._body is None or self._collected.problem:
                done, self._on_collected, self._collected = self._on_collected, None, None
                done()
        elif self._upstream is None:
            self._pending.append(data)
            self.client.pause(len(data))
        else:
            self._upstream.write(data)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._body is None:
            self._exchange_done()
        elif self._discarded > self._runtime.limits.drain_bytes:
            self._linger()

    def _broken_body(self, detail: str, status: int = 400, error: str = "bad_request") -> None:
        """The request went wrong in the middle: its upstream, if any, must never see a next one."""
        self._body = None
        self._drop()
        if self._response is None and not self._discarding:
            self._malformed(status, error, detail)
        else:
            self._response = None
            self.door.malformed(self, detail)
            self._linger()

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
        self._quiet = 0
        if self.client.congested:
            # Whoever reads no answers asks no more questions: what is written to them stays bounded.
            self.client.pause()
        else:
            self._next()

    def _next(self) -> None:
        """Read on: the next request, which may be here already."""
        if not self.client.reading:
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
