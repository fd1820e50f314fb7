"""uvloop transports behind `channel.Channel`, and raw tunnels that move bytes without looking at them.

Knows transports and their traps; nothing of HTTP or policy. Data can arrive between the end of a handshake and the
return of `start_tls`. Reading is paused on the TCP transport, so that an end cannot overtake data that was not
delivered yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyopenshell.supervisor.proxy.tlsstream import TlsStream

if TYPE_CHECKING:
    from pyopenshell.supervisor.proxy.memory import Memory

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST, which is how a truncated body is told from a finished one."""


def reset_on_close(transport: Any) -> None:
    """Let the close that follows send RST. Only where what was written before need not arrive."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


def _ignore(_: object) -> None:
    return None


def _nothing() -> None:
    return None


def _refuse() -> bool:
    return False


def _no_pressure(_: bool) -> None:
    return None


_GONE = "connection closed before the TLS handshake"


class Side(asyncio.Protocol):
    """One connection, plain or TLS, as a channel."""

    __slots__ = (
        "_closing",
        "_data",
        "_early",
        "_eof",
        "_lost",
        "_memory",
        "_parked",
        "_pressure",
        "_quiet",
        "_tls",
        "_unsent",
        "_waiting",
        "closed",
        "congested",
        "ended",
        "on_closed",
        "on_tls_error",
        "reading",
        "received",
        "tcp",
        "write",
    )

    def __init__(self, memory: Memory, *, hold: bool = False) -> None:
        """`hold` keeps what arrives until `release` or `take_early`: nobody is bound yet."""
        self.tcp: Any = None
        self.reading = True
        self.congested = False
        self.closed = False
        self.ended = False
        """The peer said orderly that nothing more comes (TCP FIN, or close_notify over TLS)."""
        self.on_closed: Callable[[], None] = _nothing
        """Called once when the connection is gone, whoever ended it."""
        self.write: Callable[[bytes], None] = _ignore
        self._tls: TlsStream | None = None
        self.on_tls_error: Callable[[ssl.SSLError], None] = _ignore
        """Called with what ended the connection after its handshake, when TLS did: an alert, a broken record."""
        self.received: Callable[[bytes], None] = _ignore
        """Gets what arrives, in the clear: whoever is bound, or the list of what is held back."""
        self._early: list[bytes] | None = None
        self._memory = memory
        self._parked = self._waiting = 0
        """Bytes that whoever is bound keeps while it does not read, and bytes written that made it congested."""
        self._closing = False
        self._quiet = 0
        """Ticks since the peer of a closing connection last took something."""
        self._unsent = 0
        self._unbind()
        if hold:
            self._hold()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "tls" if self._tls is not None else "plain"
        return f"<side {state}{' paused' if not self.reading else ''}{' congested' if self.congested else ''}>"

    # ------------------------------------------------------------------------------------------------------ channel

    def bind(
        self,
        data: Callable[[bytes], None],
        eof: Callable[[], bool],
        lost: Callable[[], None],
        pressure: Callable[[bool], None],
    ) -> None:
        self._data, self._eof, self._lost, self._pressure = data, eof, lost, pressure
        if self._early is None:
            self.received = data

    def pause(self, parked: int = 0) -> None:
        if parked and not self.closed:
            self._parked += parked
            self._memory.change(self, parked)
        if self.reading and not self.closed and self.tcp is not None:
            self.reading = False
            self.tcp.pause_reading()

    def resume(self) -> None:
        if self._parked:
            self.unpark()
        if not self.reading and not self.closed:
            self.reading = True
            if not self.tcp.is_closing():
                self.tcp.resume_reading()

    def end(self) -> bool:
        if self._tls is not None:
            return False
        if self.tcp is not None and not self.tcp.is_closing():
            self.tcp.write_eof()
        return True

    @property
    def unsent(self) -> int:
        if self.tcp is None or self.closed:
            return 0
        size: int = self.tcp.get_write_buffer_size()
        raw = self.tcp.get_extra_info("socket")
        with contextlib.suppress(OSError):
            size += struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        return size

    def tick(self, most: float) -> None:
        """Ends a closing connection whose peer has taken nothing of what is left for more than `most` ticks."""
        if self.tcp is None or self.closed or not (self._closing or self.tcp.is_closing()):
            return
        unsent = self.unsent
        if unsent != self._unsent:
            self._unsent, self._quiet = unsent, 0
            return
        self._quiet += 1
        if self._quiet > most:
            self.tcp.abort()

    def close(self) -> None:
        self._unbind()
        self._closing = True
        if self.tcp is None:
            self.connection_lost(None)
        elif not self.closed:
            # A TLS close waits for the peer's close_notify: it has to be readable.
            self.resume()
            (self._tls or self.tcp).close()

    def abort(self) -> None:
        self._unbind()
        self.cut()

    def cut(self) -> None:
        """`abort` by somebody who is not bound: whoever is hears of the loss."""
        if self.tcp is None:
            self.connection_lost(None)
        elif not self.closed:
            if not self.tcp.is_closing():
                reset_on_close(self.tcp)
            self.tcp.abort()

    def unpark(self) -> None:
        """What was parked was taken, or is somebody else's now."""
        parked, self._parked = self._parked, 0
        self._memory.change(self, -parked)

    def mark(self, high: int, low: int) -> None:
        if self.tcp is not None and not self.closed:
            self.tcp.set_write_buffer_limits(high, low)

    def _unbind(self) -> None:
        self.bind(_ignore, _refuse, _nothing, _no_pressure)

    # ----------------------------------------------------------------------------------------------------- protocol

    def connection_made(self, transport: Any) -> None:
        self.tcp = transport
        self.write = transport.write
        self._memory.enter(self)

    def data_received(self, data: bytes) -> None:
        self.received(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self._early is not None:
            return self._tls is not None
        return self._eof()

    def connection_lost(self, _: BaseException | None) -> None:
        if self.closed:
            return
        self.closed = True
        self.congested = False
        self.write = _ignore
        self._memory.leave(self)
        lost = self._lost
        self._unbind()
        try:
            lost()
        finally:
            self.on_closed()

    def pause_writing(self) -> None:
        self.congest()
        self._pressure(True)

    def resume_writing(self) -> None:
        self.relieve()
        self._pressure(False)

    def congest(self) -> None:
        """The peer does not take what was written."""
        self.congested = True
        if not self.closed:
            self._waiting = self.tcp.get_write_buffer_size()
            self._memory.change(self, self._waiting)

    def relieve(self) -> None:
        """It has taken most of it."""
        self.congested = False
        if not self.closed:
            waiting, self._waiting = self._waiting, 0
            self._memory.change(self, -waiting)

    # ---------------------------------------------------------------------------------------------------------- TLS

    def serve_tls(
        self, context: ssl.SSLContext, seconds: float, hello: bytes, done: Callable[[OSError | None], None]
    ) -> None:
        """Be a TLS server from here on; `hello` was already read from the connection.

        `done` gets what went wrong in the handshake (ssl.SSLError too), or None; perhaps before this returns.
        Application data that comes with the handshake is delivered by `release`.
        """
        if self.closed or self.tcp.is_closing():
            done(ConnectionResetError(_GONE))
        else:
            self._shake(TlsStream(self, context, server=True, host=None), hello, seconds, done)

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        host: str,
        seconds: float,
        session: ssl.SSLSession | None = None,
        on_session: Callable[[ssl.SSLSession], None] | None = None,
    ) -> None:
        """Be a TLS client from here on. Raises OSError (ssl.SSLError too). For `session` see `TlsStream`."""
        if self.closed or self.tcp.is_closing():
            raise ConnectionResetError(_GONE)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: OSError | None) -> None:
            if waiter.done():
                return
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

        tls = TlsStream(self, context, server=False, host=host, session=session, on_session=on_session)
        self._shake(tls, b"", seconds, done)
        try:
            await waiter
        except asyncio.CancelledError as error:
            self.tcp.close()
            self.connection_lost(error)
            raise

    def _shake(self, tls: TlsStream, hello: bytes, seconds: float, done: Callable[[OSError | None], None]) -> None:
        self._hold()
        self._tls = tls
        self.write = _ignore  # until there are keys
        self.tcp.set_protocol(tls)

        def ended(error: OSError | None) -> None:
            if error is None:
                self.write = tls.write
            else:
                # What was written, an alert perhaps, still goes out.
                self.tcp.close()
                self.connection_lost(error)
            done(error)

        tls.handshake(hello, seconds, ended)

    def _hold(self) -> None:
        self._early = []
        self.received = self._early.append

    def take_early(self) -> bytes:
        """What came before someone was bound; nothing is held back any more."""
        early, self._early = self._early, None
        self.received = self._data
        return b"".join(early) if early else b""

    def release(self) -> None:
        """Deliver what came before someone was bound, then go on normally."""
        early = self.take_early()
        if early:
            self._data(early)
        if self.ended and not self.closed and not self._eof():
            self.close()


class _Half(asyncio.Protocol):
    """One direction's source and the other's sink."""

    __slots__ = ("ended", "lost", "peer", "side", "transport", "tunnel")

    def __init__(self, side: Side, tunnel: Tunnel) -> None:
        self.side = side
        self.transport = side.tcp
        self.tunnel = tunnel
        self.peer: _Half = self
        self.ended = False
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.tunnel.quiet = 0
        self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        peer = self.peer
        if peer.lost:
            return False
        if peer.ended:
            # Both directions said goodbye: nothing is left to carry once the buffers are flushed.
            peer.transport.close()
            return False
        peer.transport.write_eof()
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost = True
        self.side.connection_lost(error)
        if not self.peer.lost:
            if error is None:
                self.peer.transport.close()
            else:
                self.peer.transport.abort()
        self.tunnel.half_lost()

    def pause_writing(self) -> None:
        self.side.congest()
        if not self.peer.lost:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        self.side.relieve()
        if not self.peer.lost and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()


class Tunnel:
    """Bytes both ways, half-close kept, back-pressure from either end to the other."""

    __slots__ = ("_halves", "_open", "on_closed", "quiet")

    def __init__(self, client: Side, upstream: Side, on_closed: Callable[[Tunnel], None]) -> None:
        self.on_closed = on_closed
        self.quiet = 0
        """Ticks since anything came from either end."""
        self._open = 2
        self._halves = _Half(client, self), _Half(upstream, self)
        self._halves[0].peer, self._halves[1].peer = self._halves[1], self._halves[0]

    def start(self, rest: bytes) -> None:
        """Take both transports over; `rest` is what the client sent behind its CONNECT."""
        client, upstream = self._halves
        if rest:
            upstream.transport.write(rest)
        early = upstream.side.take_early()
        if early:
            client.transport.write(early)
        for half in self._halves:
            half.transport.set_protocol(half)
            half.side.unpark()
            if half.side.congested:
                if not half.peer.lost:
                    half.peer.transport.pause_reading()
            elif not half.peer.side.reading and not half.peer.transport.is_closing():
                half.peer.transport.resume_reading()
        for half in self._halves:
            if half.side.ended:
                half.eof_received()

    def half_lost(self) -> None:
        self._open -= 1
        if not self._open:
            self.on_closed(self)

    def has(self, side: object) -> bool:
        """Whether the connection is one of its two."""
        return any(half.side is side for half in self._halves)

    def abort(self) -> None:
        """End both connections at once."""
        for half in self._halves:
            if not half.lost:
                half.transport.abort()
