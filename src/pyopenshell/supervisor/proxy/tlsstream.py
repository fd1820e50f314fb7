"""TLS over a uvloop TCP transport: records in, plain bytes out, and the other way round.

Owned by a `transport.Side`. Knows OpenSSL's memory interface and nothing of HTTP, policy or who is asking. It exists
beside uvloop's own TLS because the proxy needs what that one hides: why a handshake failed, sessions to resume, bytes
that were read before TLS began, a peer that only stopped sending; and because that one ends every read with an
exception (docs/decisions/0011-own-tls-stream.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyopenshell.supervisor.proxy.transport import Side

SHUTDOWN_SECONDS = 5.0
"""For the peer's end after our close_notify."""
_READ = 16384
"""Plain bytes taken out of OpenSSL at a time: no record holds more, so a record that was read at all was read whole."""
_ROOM = 65536
"""Bytes read from a connection, or kept for it, at a time: few enough to stay in a cache on their way through."""
_CLOSED = "connection closed during the TLS handshake"


_DISTRUST = {
    "TLSV1_ALERT_UNKNOWN_CA": "unknown_ca",
    "SSLV3_ALERT_BAD_CERTIFICATE": "bad_certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "certificate_unknown",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "unsupported_certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "certificate_revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate_expired",
}
"""OpenSSL's name of an alert that a client sends about our certificate -> its name in RFC 8446."""


def distrust(error: OSError) -> str:
    """How a client showed that it does not accept our certificate; "" when it failed for another reason."""
    if isinstance(error, ClosedInHandshakeError):
        return "closed right after our certificate" if error.answered else ""
    alert = _DISTRUST.get(getattr(error, "reason", None) or "")
    return f"alert {alert}" if alert else ""


class ClosedInHandshakeError(ConnectionResetError):
    """The peer ended the connection before the handshake was complete, without an alert."""

    def __init__(self, *, answered: bool) -> None:
        super().__init__(_CLOSED)
        self.answered = answered
        """It had been sent our part of the handshake, which for a server holds the certificate."""


class _Turn:
    """What the streams of one event loop share."""

    __slots__ = ("__weakref__", "batch", "room")

    def __init__(self) -> None:
        self.batch: list[TlsStream] = []
        """Those with records to send before the loop waits again."""
        self.room = memoryview(bytearray(_ROOM))
        """Where records arrive, one connection's at a time: they are taken over before the next read."""


class TlsStream(asyncio.BufferedProtocol):
    """The protocol of the TCP transport from the moment TLS begins; tells its side what the connection does."""

    __slots__ = (
        "_answered",
        "_batch",
        "_closing",
        "_done",
        "_ended",
        "_feed",
        "_held",
        "_incoming",
        "_loop",
        "_object",
        "_on_session",
        "_outgoing",
        "_read",
        "_room",
        "_server",
        "_side",
        "_take",
        "_tcp",
        "_timer",
        "_write",
        "due",
    )

    def __init__(
        self,
        side: Side,
        context: ssl.SSLContext,
        *,
        server: bool,
        host: str | None,
        session: ssl.SSLSession | None = None,
        on_session: Callable[[ssl.SSLSession], None] | None = None,
    ) -> None:
        """`on_session` gets the session that a later connection may resume; once, and after data has arrived: the
        tickets of TLS 1.3 come behind the handshake."""
        self._side = side
        self._tcp: Any = side.tcp
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server, host, session)
        self._on_session = on_session
        self._feed = self._incoming.write
        self._take = self._outgoing.read
        self._read = self._object.read
        self._write = self._object.write
        self._done: Callable[[OSError | None], None] | None = None
        """While the handshake is under way: gets its outcome."""
        self._loop = loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._server = server
        self._held = 0
        """Bytes to send that go with the first data we write: a server's session ticket, which nobody waits for."""
        self._answered = False
        self.due = False
        """In the batch of this turn."""
        turn = _turns.get(loop)
        if turn is None:
            turn = _turns[loop] = _Turn()
        self._batch, self._room = turn.batch, turn.room
        self._closing = False
        """Our close_notify went out; what still comes is dropped."""
        self._ended = False
        """The peer's close_notify was read."""

    @property
    def resumed(self) -> bool:
        """Whether the handshake was an abbreviated one."""
        return bool(self._object.session_reused)

    # ---------------------------------------------------------------------------------------------------- handshake

    def handshake(self, hello: bytes, seconds: float, done: Callable[[OSError | None], None]) -> None:
        """Begin the handshake; `hello` was read before. `done` is called once, with what went wrong (ssl.SSLError and
        TimeoutError too) or None; perhaps before this returns."""
        self._done = done
        self._arm(seconds, self._late)
        self._feed(hello)
        self._shake()

    def _late(self) -> None:
        self._timer = None
        self._end_handshake(TimeoutError("TLS handshake did not complete in time"))

    def _shake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._end_handshake(error)
            return
        if self._server and self._object.version() == "TLSv1.3":
            self._held = self._outgoing.pending
        else:
            self._flush()
        self._end_handshake(None)

    def _end_handshake(self, error: OSError | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            self._disarm()
            done(error)

    def _arm(self, seconds: float, call: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(seconds, call)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send(self) -> None:
        """Send what is encrypted."""
        tcp = self._tcp
        if not tcp.is_closing():
            data = self._take()
            self._held = 0
            if data:
                tcp.write(data)

    def _flush(self) -> None:
        data = self._take()
        self._held = 0
        if data:
            self._answered = True
            self._tcp.write(data)

    # ------------------------------------------------------------------------------------------------- side, outbound

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            sent = self._write(data)
            if sent < len(data):
                view = memoryview(data)
                while sent < len(data):
                    sent += self._write(view[sent:])
        except ssl.SSLError:
            # A connection whose keys are gone; the loss is reported by its transport.
            self._tcp.abort()
            return
        if sent >= _READ and self._outgoing.pending >= _ROOM:
            # Much at once goes out while it is in the CPU's cache.
            self.send()
        elif not self.due:
            # Sent behind whatever else this turn of the event loop reads: waking a sleeping CPU for each record by
            # itself would cost more than the record, and what is written in pieces leaves as one.
            self.due = True
            batch = self._batch
            if not batch:
                self._loop.call_soon(_send, batch)
            batch.append(self)

    def close(self) -> None:
        """Send close_notify behind what was written, then read and drop until the peer ends too, or a deadline."""
        if self._closing:
            return
        if self._done is not None:
            self._tcp.abort()
            return
        self._closing = True
        with contextlib.suppress(ssl.SSLError):
            # What is left of this read: OpenSSL fails a connection on which data follows our close_notify.
            while self._read(_READ):
                pass
            self._ended = True
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        self._flush()
        if self._ended or self._tcp.is_closing():
            self._tcp.close()
        else:
            self._arm(SHUTDOWN_SECONDS, self._overdue)

    def _overdue(self) -> None:
        """While there is something left to take, the peer's time is the side's matter (`Side.tick`)."""
        if self._tcp.get_write_buffer_size():
            self._arm(SHUTDOWN_SECONDS, self._overdue)
        else:
            self._tcp.abort()

    # ------------------------------------------------------------------------------------------------------ protocol

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._feed(self._room[:nbytes])
        if self._done is not None:
            self._shake()
            if self._done is not None or not self._incoming.pending:
                return
        if self._closing:
            self._drain()
            return
        try:
            plain = self._read(_READ)
        except ssl.SSLWantReadError:
            self._answer()
            return
        except ssl.SSLError as error:
            self._deliver([], error)
            return
        if not plain or (self._incoming.pending and len(plain) < _READ):
            self._deliver([plain] if plain else [])
            return
        # One record, which is nearly always all there is: asking for more would cost an exception each time. An answer
        # to a message of TLS itself may wait for our next record.
        if self._on_session is not None:
            self._offer_session()
        self._side.received(plain)
        if self._incoming.pending:
            self._deliver([])

    def _answer(self) -> None:
        """Send what OpenSSL itself wants to say: the answer to a change of keys, an alert."""
        if self._outgoing.pending > self._held:
            self._flush()

    def _deliver(self, pieces: list[bytes], failure: ssl.SSLError | None = None) -> None:
        """Hand on `pieces` and what else can be decrypted, then what ended it."""
        side, incoming, read = self._side, self._incoming, self._read
        ended = False
        try:
            while failure is None:
                plain = read(_READ)
                if not plain:
                    ended = True
                    break
                if len(plain) == _READ and not pieces and self._on_session is None:
                    # The middle of something long: in the CPU's cache now, and not to be copied into one piece.
                    side.received(plain)
                else:
                    pieces.append(plain)
                if not incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            failure = error
        self._answer()
        if pieces:
            if self._on_session is not None:
                self._offer_session()
            side.received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if failure is not None:
            side.on_tls_error(failure)
            self._tcp.close()
        elif ended:
            self._ended = True
            if self._closing:
                self._tcp.close()
            elif not side.eof_received():
                self.close()

    def _offer_session(self) -> None:
        offer, self._on_session = self._on_session, None
        session = self._object.session
        if offer is not None and session is not None:
            offer(session)

    def _drain(self) -> None:
        """After our close_notify only the peer's own matters."""
        try:
            while self._read(_READ):
                pass
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:
            pass
        self._disarm()
        self._tcp.close()

    def eof_received(self) -> bool:
        """The end of TCP without close_notify may be anybody's doing: to the side it is a loss, never an end."""
        if self._done is not None:
            self._end_handshake(ClosedInHandshakeError(answered=self._answered))
        elif not self._ended or self._closing:
            self._tcp.close()
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        if self._done is not None:
            self._end_handshake(ClosedInHandshakeError(answered=self._answered))
        self._disarm()
        self._side.connection_lost(error)

    def pause_writing(self) -> None:
        self._side.pause_writing()

    def resume_writing(self) -> None:
        self._side.resume_writing()


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn] = weakref.WeakKeyDictionary()


def _send(batch: list[TlsStream]) -> None:
    streams = batch[:]
    batch.clear()
    for stream in streams:
        stream.due = False
        stream.send()
