"""The first byte at the proxy's port: SOCKS5, SOCKS4, or HTTP. And the SOCKS door behind it.

Bounded in time. Decides nothing about access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyopenshell.supervisor.proxy import socks
from pyopenshell.supervisor.proxy.admission import Intent
from pyopenshell.supervisor.proxy.authority import LOCAL_HOST
from pyopenshell.supervisor.proxy.parting import linger
from pyopenshell.supervisor.proxy.records import busy_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyopenshell.supervisor.denial import Denial
    from pyopenshell.supervisor.proxy.admission import Failure, Peer
    from pyopenshell.supervisor.proxy.caller import CallDesk, Handle
    from pyopenshell.supervisor.proxy.channel import Channel, Timer

_BUSY = {socks.VERSION: socks.METHOD_REFUSED, socks.VERSION_4: socks.REJECTED_4}
_FAILURES = {"resolve": socks.Reply.HOST_UNREACHABLE, "connect": socks.Reply.CONNECTION_REFUSED}


class Greeting:
    """Waits for the first bytes and hands the channel on: to `http`, or to a SOCKS door."""

    __slots__ = ("_busy", "_channel", "_desk", "_http", "_peer", "_timer")

    def __init__(
        self, desk: CallDesk, channel: Channel, peer: Peer, http: Callable[[bytes], None], *, busy: bool = False
    ) -> None:
        """`busy`: whatever it speaks, it is turned away."""
        self._desk = desk
        self._busy = busy
        self._channel = channel
        self._peer = peer
        self._http = http
        self._timer: Timer | None = None

    def start(self) -> None:
        self._timer = self._desk.after(self._desk.limits.head_seconds, self._close)
        self._channel.bind(self._data, self._eof, self._stop, lambda _: None)

    def _data(self, data: bytes) -> None:
        self._stop()
        if self._busy:
            self._channel.write(_BUSY.get(data[0]) or busy_response())
            linger(self._channel, self._desk)
        elif data[0] == socks.VERSION:
            SocksDoor(self._desk, self._channel, self._peer).start(data)
        elif data[0] == socks.VERSION_4:
            text = "SOCKS4 is not supported: use SOCKS5 or HTTP"
            self._desk.record.failed("", 0, f"Proxy connection error: {text}")
            self._channel.write(socks.REJECTED_4)
            linger(self._channel, self._desk)
        else:
            self._http(data)

    def _eof(self) -> bool:
        self._close()
        return False

    def _close(self) -> None:
        self._stop()
        self._channel.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class SocksDoor:
    """One SOCKS5 client until its tunnel stands. Implements `caller.Caller`."""

    __slots__ = ("_channel", "_desk", "_handle", "_handshake", "_peer", "_rest", "_timer", "ended")

    def __init__(self, desk: CallDesk, channel: Channel, peer: Peer) -> None:
        self._desk = desk
        self._channel = channel
        self._peer = peer
        self._handshake: socks.Handshake | None = socks.Handshake()
        self._rest = b""
        self._handle: Handle | None = None
        self._timer: Timer | None = None
        self.ended = False

    def __repr__(self) -> str:
        return f"<socks door, {self._handshake or 'waiting'}>"

    def start(self, data: bytes) -> None:
        self._timer = self._desk.after(self._desk.limits.head_seconds, self._too_slow)
        self._channel.bind(self._data, self._eof, self._lost, lambda _: None)
        self._data(data)

    def _data(self, data: bytes) -> None:
        if self._handshake is None:
            # Sent before we answered: kept for the tunnel, within bounds.
            self._rest += data
            if len(self._rest) > self._desk.limits.tunnel_head:
                self._channel.pause(len(self._rest))
            return
        try:
            request = self._handshake.feed(data)
        except socks.SocksError as error:
            self._flush()
            self._desk.record.failed("", 0, f"Proxy connection error: {error}")
            self._end(error.wire)
            return
        self._flush()
        if request is not None:
            self._handshake = None
            self._stop()
            self._requested(request)

    def _requested(self, request: socks.Request) -> None:
        self._rest = request.rest
        if self._desk.named(request.host) == LOCAL_HOST:
            if request.port != 80:
                self._desk.record.failed("", 0, "Proxy connection error: Use http://policy.local only")
                self._end(socks.Reply.NOT_ALLOWED.wire)
                return
            channel, rest = self.established()
            self._desk.local_only(channel, rest)
            return
        subject = f"SOCKS5 {f'[{request.host}]' if ':' in request.host else request.host}:{request.port}"
        self._handle = self._desk.ask(self, self._peer, Intent("socks", subject, request.host, request.port))

    def established(self) -> tuple[Channel, bytes]:
        self._handle = None
        self.ended = True
        self._channel.write(socks.Reply.SUCCEEDED.wire)
        return self._channel, self._rest

    def refuse(self, denial: Denial) -> None:
        self._handle = None
        self._end(socks.Reply.NOT_ALLOWED.wire)

    def fail(self, failure: Failure) -> None:
        self._handle = None
        self._end(_FAILURES.get(failure.step, socks.Reply.FAILURE).wire)

    def _flush(self) -> None:
        if self._handshake is not None and self._handshake.out:
            self._channel.write(self._handshake.out)
            self._handshake.out = b""

    def _end(self, wire: bytes) -> None:
        """Say `wire` and part."""
        self._lost()
        self._channel.write(wire)
        linger(self._channel, self._desk)

    def _eof(self) -> bool:
        if self._handshake is None:
            return True  # everything was said; the answer is still wanted
        self._lost()
        self._channel.close()
        return False

    def _too_slow(self) -> None:
        self._timer = None
        self._desk.record.failed("", 0, "Proxy connection error: SOCKS5 handshake did not arrive in time")
        self._lost()
        self._channel.close()

    def _lost(self) -> None:
        self.ended = True
        self._stop()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
