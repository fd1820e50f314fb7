"""One upgraded connection: the client's messages are judged one by one, the server's frames pass as they come.

Free of I/O. Text is put together before it is judged and is sent on as the one frame that was judged; binary messages
are judged at their first bytes and stream. A connection that may not go on ends between two frames, with a close frame
that carries the denial's id. Limits: contract/sandbox.md 1.4 and 11.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Protocol, cast

from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from pyopenshell.supervisor.denial import MESSAGE_METHOD, Denial, new_denial_id
from pyopenshell.supervisor.proxy.admission import denied_request
from pyopenshell.supervisor.proxy.authority import without_query
from pyopenshell.supervisor.proxy.frames import FrameError, ServerFrames
from pyopenshell.supervisor.proxy.parting import linger
from pyopenshell.supervisor.proxy.records import actor, request_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyopenshell.audit.events import Event
    from pyopenshell.policy.decision import Decision
    from pyopenshell.supervisor.current import Current
    from pyopenshell.supervisor.proxy.admission import Admission, Admitter
    from pyopenshell.supervisor.proxy.channel import Channel, Timer
    from pyopenshell.supervisor.proxy.context import Limits
    from pyopenshell.supervisor.proxy.records import Recorder

WORD = "WEBSOCKET_L7_REQUEST"
METHOD = MESSAGE_METHOD
_WHERE = "see http://policy.local/v1/denials"


class SocketDesk(Protocol):
    """What an upgraded connection needs of the plane."""

    current: Current
    admitter: Admitter
    record: Recorder
    assemblies: Assemblies
    clock: Callable[[], float]

    @property
    def limits(self) -> Limits: ...

    def after(self, seconds: float, call: Callable[[], None]) -> Timer: ...

    def websocket_ended(self, socket: WebSocket) -> None: ...


class Assemblies:
    """How many messages of one sandbox may be half-arrived at a time: they are what costs memory."""

    def __init__(self, active: int, waiting: int) -> None:
        self._active = active
        self._waiting = waiting
        self._held: set[WebSocket] = set()
        self._queue: collections.deque[WebSocket] = collections.deque()

    def __repr__(self) -> str:
        return f"<{len(self._held)} messages half-arrived, {len(self._queue)} waiting>"

    def enter(self, socket: WebSocket) -> bool | None:
        """True: go on. False: stop reading until `go_on` is called. None: there is no room to wait either."""
        if len(self._held) < self._active:
            self._held.add(socket)
            return True
        if len(self._queue) >= self._waiting:
            return None
        self._queue.append(socket)
        return False

    def leave(self, socket: WebSocket) -> None:
        """The message is complete, or nobody waits for it any more. Idempotent."""
        if socket in self._held:
            self._held.discard(socket)
            if self._queue:
                following = self._queue.popleft()
                self._held.add(following)
                following.go_on()
        elif socket in self._queue:
            self._queue.remove(socket)


class WebSocket:
    """See the module."""

    __slots__ = (
        "_admission",
        "_began",
        "_client",
        "_client_closed",
        "_desk",
        "_entered",
        "_fragments",
        "_frames",
        "_from_client",
        "_heard",
        "_known",
        "_open",
        "_parting",
        "_parts",
        "_said_close",
        "_scheme",
        "_size",
        "_target",
        "_timer",
        "_to_server",
        "_upstream",
        "_waiting",
        "ended",
        "messages",
        "quiet",
    )

    def __init__(
        self, desk: SocketDesk, admission: Admission, scheme: str, target: str, client: Channel, upstream: Channel
    ) -> None:
        self._desk = desk
        self._admission = admission
        self._scheme = scheme
        self._target = target
        self._client = client
        self._upstream = upstream
        self._from_client = FrameProtocol(client=False, extensions=[])
        self._to_server = FrameProtocol(client=True, extensions=[])
        self._frames = ServerFrames()
        self._known: tuple[Decision, Event] | None = None
        self._open: Opcode | None = None
        """Kind of the client's message under way."""
        self._parts = bytearray()
        """Of the text message under way. As bytes: pieces as small as a character would weigh twenty times as much."""
        self._size = 0
        """Bytes of the text message, or of the binary frame, under way."""
        self._fragments = 0
        self._entered = False
        self._waiting = False
        self._began = self._heard = 0.0
        self._timer: Timer | None = None
        self._said_close = False
        """The server was told that nothing more comes."""
        self._client_closed = False
        self._parting: tuple[int, str] | None = None
        self.ended = False
        self.messages = 0
        self.quiet = 0
        """Ticks since anything came from either end."""

    def __repr__(self) -> str:
        state = "ended" if self.ended else "parting" if self._parting else "open"
        return f"<websocket {state} to {self._admission.host}:{self._admission.port}, {self.messages} messages>"

    def start(self, from_client: bytes, from_server: bytes) -> None:
        """Take both channels over; the bytes were read from them before."""
        upstream, client = self._upstream, self._client
        upstream.bind(self._server_data, self._server_eof, self._gone, self._client_must_wait)
        client.bind(self._client_data, self._client_eof, self._gone, self._server_must_wait)
        if self._admission.generation != self._desk.current.generation:
            self.policy_changed()
        if from_server:
            self._server_data(from_server)
        if from_client and not self.ended:
            self._client_data(from_client)
        if not self.ended and (client.ended or upstream.ended):
            self._close()
        if not self.ended:
            self._pace()
            if not client.congested:
                upstream.resume()

    def policy_changed(self) -> None:
        """End when the grant is gone; what is allowed goes on under the new policy."""
        if self.ended or self._parting is not None:
            return
        renewed = self._desk.admitter.renew(self._admission)
        if isinstance(renewed, Denial):
            lost = renewed.reason or renewed.detail
        else:
            decision = renewed.cell.decide_upgrade(self._target)
            lost = "" if decision.allowed else decision.reason or "upgrade no longer permitted"
        if lost:
            denial_id = new_denial_id()
            self._desk.record.revoked(self._admission, lost, denial_id)
            self._part(CloseReason.POLICY_VIOLATION, f"grant revoked {denial_id}")
        elif not isinstance(renewed, Denial):
            self._admission = renewed
            self._known = None

    def has(self, channel: object) -> Admission | None:
        """Whose connection it is, when it is one of its two."""
        return self._admission if channel in (self._client, self._upstream) else None

    def silent(self, seconds: float) -> None:
        """Nothing came for too long."""
        reason = f"nothing was said for {seconds:g} s"
        self._desk.record.ended(self._admission, f"WebSocket ended: {reason}")
        self._part(CloseReason.GOING_AWAY, reason)

    def go_on(self) -> None:
        """There is room for the message under way now."""
        self._waiting = False
        self._entered = True
        self._pace()

    def abort(self) -> None:
        """End both connections at once."""
        if not self.ended:
            self._end()
            self._upstream.abort()
            self._client.abort()

    # --------------------------------------------------------------------------------------------------- from client

    def _client_data(self, data: bytes) -> None:
        if self._client_closed or self._parting is not None:
            return
        self._heard = self._desk.clock()
        self.quiet = 0
        self._from_client.receive_bytes(data)
        try:
            for frame in self._from_client.received_frames():
                self._frame(frame)
                if self._parting is not None or self._client_closed or self.ended:
                    return
        except ParseFailed as error:
            if error.code is CloseReason.INVALID_FRAME_PAYLOAD_DATA:
                self._refuse(error.code, "text that is not UTF-8")
            else:
                self._refuse(CloseReason.PROTOCOL_ERROR, "malformed frame")
            return
        if self._open is Opcode.TEXT and not self._entered and not self._waiting:
            self._assemble()

    def _frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if frame.frame_finished and not frame.message_finished:
                self._fragments += 1
                if self._fragments > self._desk.limits.message_fragments:
                    self._refuse(CloseReason.PROTOCOL_ERROR, "message in too many fragments")
                    return
            if opcode is Opcode.TEXT:
                self._text(cast(str, frame.payload), last=frame.message_finished)
            else:
                self._binary(cast(bytes, frame.payload), end=frame.frame_finished, last=frame.message_finished)
        elif opcode is Opcode.PING:
            self._upstream.write(bytes(self._to_server.ping(cast(bytes, frame.payload))))
        elif opcode is Opcode.PONG:
            self._upstream.write(bytes(self._to_server.pong(cast(bytes, frame.payload))))
        else:
            code, reason = cast(tuple[int, str], frame.payload)
            self._client_closed = self._said_close = True
            self._upstream.write(bytes(self._to_server.close(code, reason)))
            self._settle()
            self._timer = self._desk.after(self._desk.limits.close_seconds, self._close)

    def _text(self, text: str, *, last: bool) -> None:
        piece = b"" if last and text.isascii() and not self._parts else text.encode()
        self._size += len(piece) or len(text)
        if self._size > self._desk.limits.message_text:
            limit = self._desk.limits.message_text
            self._refuse(CloseReason.MESSAGE_TOO_BIG, f"text message of more than {limit} bytes")
            return
        if not last:
            self._open = Opcode.TEXT
            self._parts += piece
            return
        if self._parts:
            text = (self._parts + piece).decode()
        self._settle()
        if self._allowed(text):
            self._upstream.write(bytes(self._to_server.send_data(text, fin=True)))

    def _binary(self, data: bytes, *, end: bool, last: bool) -> None:
        self._size += len(data)
        if self._size > self._desk.limits.message_frame:
            limit = self._desk.limits.message_frame
            self._refuse(CloseReason.PROTOCOL_ERROR, f"binary frame of more than {limit} bytes")
            return
        if self._open is None and not self._allowed(b""):
            return
        self._open = Opcode.BINARY
        if end:
            self._size = 0
        self._upstream.write(bytes(self._to_server.send_data(data, fin=last)))
        if last:
            self._settle()

    def _allowed(self, message: str | bytes) -> bool:
        """Judge one message, write its event; when it is denied the connection parts."""
        decision = self._decide(message)
        self.messages += 1
        record, admission = self._desk.record, self._admission
        if not decision.allowed:
            self._deny(decision)
            return False
        if self._known is None or self._known[0] != decision:
            path = decision.path or without_query(self._target)
            self._known = decision, request_event(WORD, self._scheme, admission, METHOD, path, decision, None)
        record.emit(self._known[1])
        return True

    def _decide(self, message: str | bytes) -> Decision:
        return self._admission.cell.decide_message(self._target, message)

    def _deny(self, decision: Decision) -> None:
        denial = denied_request(self._admission, METHOD, self._target, decision)
        self._desk.record.refused_request(WORD, self._scheme, denial, actor(self._admission.identity))
        self._part(CloseReason.POLICY_VIOLATION, f"{denial.error} {denial.id}, {_WHERE}")

    # --------------------------------------------------------------------------------------- messages that take time

    def _assemble(self) -> None:
        """A text message goes on beyond this read: it needs a place, and has a deadline."""
        entered = self._desk.assemblies.enter(self)
        if entered is None:
            self._refuse(CloseReason.TRY_AGAIN_LATER, "too many half-arrived messages in this sandbox")
            return
        self._entered, self._waiting = entered, not entered
        self._began = self._heard
        self._timer = self._desk.after(self._desk.limits.message_idle_seconds, self._overdue)
        self._pace()

    def _overdue(self) -> None:
        limits, now = self._desk.limits, self._desk.clock()
        if self._waiting:
            self._heard = now
        left = min(self._heard + limits.message_idle_seconds, self._began + limits.message_seconds) - now
        if left > 0:
            self._timer = self._desk.after(left, self._overdue)
        else:
            self._timer = None
            self._refuse(CloseReason.PROTOCOL_ERROR, "message did not arrive in time")

    def _settle(self) -> None:
        """No message is under way any more."""
        self._open = None
        self._parts.clear()
        self._size = self._fragments = 0
        if self._entered or self._waiting:
            self._entered = self._waiting = False
            self._desk.assemblies.leave(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pace(self) -> None:
        if self._waiting or self._upstream.congested:
            self._client.pause()
        else:
            self._client.resume()

    def _client_must_wait(self, _: bool) -> None:
        self._pace()

    def _server_must_wait(self, congested: bool) -> None:
        if congested:
            self._upstream.pause()
        else:
            self._upstream.resume()

    # --------------------------------------------------------------------------------------------------- from server

    def _server_data(self, data: bytes) -> None:
        self.quiet = 0
        parting = self._parting is not None
        try:
            passed = self._frames.feed(data, until_boundary=parting)
        except FrameError as error:
            admission = self._admission
            message = f"upstream sent an unacceptable WebSocket frame: {error}"
            self._desk.record.failed(admission.host, admission.port, message, admission.identity)
            self._client.write(error.passed)
            self._part(CloseReason.PROTOCOL_ERROR, "upstream protocol error")
            return
        if passed:
            self._client.write(passed)
        if parting and not self._frames.left:
            self._farewell()

    def _server_eof(self) -> bool:
        self._close()
        return False

    # ----------------------------------------------------------------------------------------------------------- end

    def _client_eof(self) -> bool:
        self._close()
        return False

    def _refuse(self, code: CloseReason, detail: str) -> None:
        """The client broke the protocol or a limit: no decision, but an event."""
        self._desk.record.malformed(self._admission.host, self._admission.port, f"WebSocket: {detail}")
        self._part(code, detail)

    def _part(self, code: int, reason: str) -> None:
        """Say goodbye to both, to the client as soon as the server's frame under way has passed."""
        if self.ended or self._parting is not None:
            return
        self._parting = code, reason
        self._settle()
        if not self._said_close:
            self._said_close = True
            self._upstream.write(bytes(self._to_server.close(CloseReason.GOING_AWAY)))
        if not self._frames.left:
            self._farewell()
            return
        self._timer = self._desk.after(self._desk.limits.linger_seconds, self.abort)
        self._client.resume()
        if not self._client.congested:
            self._upstream.resume()

    def _farewell(self) -> None:
        assert self._parting is not None
        self._end()
        self._upstream.close()
        if not self._frames.closing:
            self._client.write(bytes(FrameProtocol(client=False, extensions=[]).close(*self._parting)))
        linger(self._client, self._desk)

    def _gone(self) -> None:
        self._close()

    def _close(self) -> None:
        if not self.ended:
            self._end()
            self._upstream.close()
            self._client.close()

    def _end(self) -> None:
        self.ended = True
        self._settle()
        self._desk.websocket_ended(self)
